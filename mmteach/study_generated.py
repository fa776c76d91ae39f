"""Do generated pictures help learning? `python -m mmteach study 08_generated`.

Read by notebook 08, which trains one seed of some arms live with the same functions. All arms have the same classifier,
number of steps and label budgets, and differ in what stands beside the real pictures of the budget.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmteach import budget_text_to_image, gan
from mmteach.data import TRAIN_STYLES, data_checksum
from mmteach.metrics import Interval, classification_accuracy_score
from mmteach.study import RESULTS, command, destination, read, write_json
from mmteach.study_transfer import (
    BUDGETS,
    SEEDS,
    Table,
    Task,
    budget_places,
    checksums,
    load_task,
    mixed,
    part,
    predicted,
    said,
    train_classifier,
    weights_used,
)

NAME = "08_generated"
FLOOR = (
    35  # generated pictures a class at least: the five concepts of the smallest budget in all seven styles
)
SMALL = (20, 50)  # the budgets whose pictures alone a generator learns from, in the second series
SOME = (10, 0)  # the budgets at which generated pictures are also tried on top of classical augmentation
ALONE = ("gan alone", "text-to-image alone")  # nothing real: the classification accuracy score


@dataclass(frozen=True)
class Recipe:
    """All settings that the arms share."""

    steps: int = 400
    gan_steps: int = 600
    score_steps: int = 150
    share: float = 0.5  # of every batch that comes from what stands beside the real pictures
    # not in the repr, which keys all runs that are kept: its own arm alone hangs on it, see `_sources`
    text_to_image: budget_text_to_image.Recipe = field(default=budget_text_to_image.Recipe(), repr=False)


@dataclass(frozen=True)
class Arm:
    """What stands beside the real pictures (nothing, a generator, or further real ones), and classical augmentation."""

    beside: str = ""
    classical: bool = False


ARMS = {
    "real": Arm(),
    "classical": Arm(classical=True),
    "gan": Arm("gan"),
    "gan of the budget": Arm("gan of the budget"),
    "text-to-image of the budget": Arm("text-to-image of the budget"),
    "more real": Arm("more real"),
    "classical and gan": Arm("gan", classical=True),
    "text-to-image": Arm("text-to-image"),
    "classical and text-to-image": Arm("text-to-image", classical=True),
}
OWN = ("gan of the budget", "text-to-image of the budget")  # the generator has seen what the classifier sees
TEXT = ("text-to-image", "classical and text-to-image", "text-to-image alone")


def budgets_of(arm: str) -> tuple[int, ...]:
    """Return the budgets an arm is run with: with all labels there are no further real pictures, for example."""
    few: dict[str, tuple[int, ...]] = dict.fromkeys(OWN, SMALL) | {"more real": BUDGETS[:-1]}
    few |= {"classical and gan": SOME, "classical and text-to-image": SOME, **dict.fromkeys(ALONE, (0,))}
    return few.get(arm, BUDGETS)


def beside(task: Task, kind: str, budget: int, seed: int, recipe: Recipe, folder: Path) -> tuple[Any, Any]:
    """Return pictures uint8 (M, 32, 32, 3) and labels int64 (M,) that stand beside the budget's own.

    As many a class as the budget, FLOOR at least; with all labels, as many as there are. The GAN and the text-to-image
    model learned from training pictures only; those of the budget from the budget's own.
    """
    places = budget_places(task.train, budget, seed)
    labels = wanted_labels(task, budget)
    if kind == "more real":
        further = further_places(task, budget, seed)
        return task.train.images[further], task.train.target[further]
    if kind == "gan":
        return gan.load_pretrained().sample(len(labels), labels, seed=1000 + seed), labels
    if kind == "gan of the budget":
        made = part(
            folder, f"gan-{budget}-{seed}", recipe.gan_steps,
            lambda: {"drawn": budget_gan(task, places, seed, recipe.gan_steps).sample(len(labels), labels, seed=seed)},
        )  # fmt: skip
        return made["drawn"], labels
    if kind == "text-to-image of the budget":
        return budget_text_to_image.beside(task, places, len(labels), seed, recipe.text_to_image, folder)
    return from_names(task, places, len(labels), seed, folder)


def wanted_labels(task: Task, budget: int) -> np.ndarray:
    """Return the classes of the generated pictures, as many as the budget a class and FLOOR at least."""
    return np.repeat(np.arange(len(task.groups)), max(FLOOR, budget)) if budget else task.train.target


def further_places(task: Task, budget: int, seed: int) -> np.ndarray:
    """Return places of as many further real pictures: the honest ceiling of what a generator could give."""
    both = budget_places(task.train, budget + max(FLOOR, budget), seed)
    own = budget_places(task.train, budget, seed)  # the same draw, cut shorter
    return np.setdiff1d(both, own)


def budget_gan(task: Task, places: np.ndarray, seed: int, steps: int) -> gan.TrainedGan:
    """Train a small class-conditional GAN on these places of the training part and on nothing else."""
    return gan.train_gan(
        task.train.images[places], labels=task.train.target[places],
        steps=steps, batch_size=16, seed=seed, width=16,
    )  # fmt: skip


def from_names(task: Task, places: np.ndarray, count: int, seed: int, folder: Path) -> tuple[Any, Any]:
    """Return `count` pictures drawn from the names of the concepts of a budget, and labels: see `asked_for`."""
    pool = drawn_pool(task, folder)
    index = {name: i for i, name in enumerate(pool["concept"])}
    concept, style, labels = budget_text_to_image.asked_for(task, places, count, seed)
    return pool["pictures"][[index[each] for each in concept], style], labels


def drawn_pool(task: Task, folder: Path, at_a_time: int = 50) -> dict[str, np.ndarray]:
    """Return one drawn picture of every training concept in every training style: pictures (C, 7, 32, 32, 3), concept.

    Drawn once, in pieces that are kept. What a budget uses of it are the concepts it knows.
    """
    names = np.unique(task.train.concept)
    pieces = [names[i : i + at_a_time] for i in range(0, len(names), at_a_time)]
    drawn = [draw_names(task, each, number, folder) for number, each in enumerate(pieces)]
    return {"concept": names, "pictures": np.concatenate(drawn)}


def draw_names(task: Task, concepts: np.ndarray, number: int, folder: Path) -> np.ndarray:
    """Return pictures (n, 7, 32, 32, 3) drawn from the names of concepts (n,), one a training style."""
    from mmteach import prior

    def make() -> dict[str, np.ndarray]:
        captions = [name for name in task.name(concepts) for _ in TRAIN_STYLES]
        styles = list(TRAIN_STYLES) * len(concepts)
        drawn = prior.sample(prior.load_pretrained(), captions, styles=styles, seed=10_000 * number)
        return {"drawn": drawn.reshape(len(concepts), len(TRAIN_STYLES), *drawn.shape[1:])}

    return part(folder, f"drawn-{number}", [list(concepts), checksums("prior", "vqvae")], make)["drawn"]


def run_arm(task: Task, name: str, budget: int, seed: int, recipe: Recipe, folder: Path) -> np.ndarray:
    """Train one classifier and return the classes it reads in the test pictures, int64 (N,); kept under `folder`."""

    def make() -> dict[str, np.ndarray]:
        began = time.process_time()
        pictures, labels, weights = training_set(task, name, budget, seed, recipe, folder)
        net = train_classifier(
            pictures, labels, weights=weights, steps=recipe.steps, seed=seed,
            augment=name in ARMS and ARMS[name].classical,
        )  # fmt: skip
        return {"said": predicted(net, task.test.images), "seconds": time.process_time() - began}  # type: ignore[dict-item]

    return part(folder, f"{name}-{said(budget)}-{seed}", [recipe, *_sources(name, recipe)], make)["said"]


def _sources(name: str, recipe: Recipe) -> list[str]:
    """Return the checksums or settings of what draws for an arm: new weights are a new arm."""
    if name == "text-to-image of the budget":
        return [str(recipe.text_to_image)]
    if name in TEXT:
        return checksums("prior", "vqvae")
    return checksums("gan") if name in ("gan", "classical and gan", "gan alone") else []


def training_set(
    task: Task, name: str, budget: int, seed: int, recipe: Recipe, folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return pictures, labels and weights that the classifier of an arm learns from."""
    places = budget_places(task.train, budget, seed)
    own = task.train.images[places], task.train.target[places]
    if name in ALONE:
        return *beside(task, name.removesuffix(" alone"), budget, seed, recipe, folder), None
    if not ARMS[name].beside:
        return *own, None
    return mixed(own, beside(task, ARMS[name].beside, budget, seed, recipe, folder), share=recipe.share)


def run(
    arms: Sequence[str], budgets: Sequence[int], seeds: Sequence[int], recipe: Recipe, folder: Path
) -> dict[str, dict[int, np.ndarray]]:
    """Return the predictions of every arm: arm -> budget -> (S, N)."""
    task, found = load_task(), {}
    for name in arms:
        found[name] = {
            budget: np.stack([run_arm(task, name, budget, seed, recipe, folder) for seed in seeds])
            for budget in budgets_of(name) if budget in budgets
        }  # fmt: skip
        shares = {
            said(b): round(float((each == task.test.target).mean()), 3) for b, each in found[name].items()
        }
        print(f"{name}: {shares}", flush=True)
    return found


def scores(task: Task, recipe: Recipe, kinds: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the classification accuracy score of each kind of picture, all as many as the training part has."""

    def make(kind: str) -> dict[str, Any]:
        real = (task.train.images, task.train.target)
        pictures, labels = real if kind == "real" else beside(task, kind, 0, 0, recipe, folder)
        score = classification_accuracy_score(
            pictures, labels, task.test.images, task.test.target,
            groups=task.test.family, steps=recipe.score_steps,
        )  # fmt: skip
        return {"score": np.array(score)}

    found = {}
    for kind in kinds:
        key = [recipe, *_sources(kind, recipe)]
        found[kind] = Interval(*part(folder, f"score-{kind}", key, partial(make, kind))["score"].tolist())
    return found


def summary(task: Task, found: dict[str, dict[int, np.ndarray]]) -> dict[str, Any]:
    """Return accuracies, gains over arms without a generator and with one of the budget, and recall by class."""
    right = {arm: {b: each == task.test.target for b, each in of.items()} for arm, of in found.items()}
    table, classes = Table(right, task.test.family), range(len(task.groups))
    recall = {
        arm: {said(b): [float(each[:, task.test.target == k].mean()) for k in classes] for b, each in of.items()}
        for arm, of in right.items()
    }  # fmt: skip
    gains = {
        f"over {other}": table.gains(other)
        for other in ("real", "classical", "more real", *OWN)
        if other in right
    }
    return {"accuracy": table.levels(), **gains, "recall": recall}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command(NAME, __doc__, len(SEEDS), "a few steps")
    parser.add_argument("--arms", nargs="+", help="these arms only (default all; runs that are kept stay)")
    chosen = parser.parse_args(argv)
    recipe, out = Recipe(), destination(chosen)
    budgets: Sequence[int] = BUDGETS
    if chosen.smoke:
        own = replace(recipe.text_to_image, tokenizer_steps=2, steps=2)
        recipe = replace(recipe, steps=2, gan_steps=2, score_steps=2, text_to_image=own)
        budgets = (5, 20)
    arms = chosen.arms or [*ARMS, *ALONE]
    unknown = set(arms) - {*ARMS, *ALONE}
    if unknown:
        parser.error(f"no arm {sorted(unknown)[0]!r}; there are {', '.join([*ARMS, *ALONE])}")
    write_json(
        out / f"{NAME}.json", figures_of(arms, budgets, range(chosen.seeds), recipe, chosen.parts / NAME)
    )
    print(f"wrote {out / NAME}.json")
    return 0


def figures_of(
    arms: Sequence[str], budgets: Sequence[int], seeds: Sequence[int], recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Run these arms and return all that the JSON holds."""
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    found, task = run(arms, budgets, seeds, recipe, folder), load_task()
    kinds = ["real", *(name.removesuffix(" alone") for name in ALONE if name in arms)]
    return {
        "study": NAME, "recipe": asdict(recipe) | {"floor": FLOOR}, "seeds": list(seeds),
        "budgets": [said(b) for b in budgets],
        "arms": {name: asdict(arm) for name, arm in ARMS.items() if name in arms}, "groups": list(task.groups),
        "data_sha256": data_checksum(), "weights": weights_used("gan", "prior", "vqvae"), "machine": machine(),
        "threads": torch.get_num_threads(), "pictures": len(task.test), "families": len(np.unique(task.test.family)),
        **summary(task, found),
        "classification_accuracy_score": scores(task, recipe, kinds, folder) if 0 in budgets else {},
    }  # fmt: skip


def figures(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the finished study, its intervals as Interval."""
    return read(NAME, folder)
