"""Can generation repair a missing modality? `python -m mmteach study 08_repair`.

Read by notebook 08. A network fuses name and picture; in the test rows the picture is missing, and something stands in
for it. After Ma et al. 2021, "SMIL" (arXiv:2103.05677), for the question, and notebook 03 for the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.pipeline import make_pipeline

from mmteach.data import TRAIN_STYLES, data_checksum
from mmteach.fusion import FusionNet, predict_fusion, train_fusion, vector_encoder
from mmteach.metrics import Interval, bootstrap_interval, paired_interval
from mmteach.solutions import mean_stand_in
from mmteach.study import RESULTS, command, destination, name_features, read, write_json
from mmteach.study_probes import features_of, patches
from mmteach.study_transfer import SEEDS, Task, checksums, load_task, part, weights_used

NAME = "08_repair"
TRUE, NULL, ALONE = "the true picture", "null token", "name alone"


@dataclass(frozen=True)
class Recipe:
    """All settings; those of the network are of notebook 03."""

    steps: int = 200
    width: int = 96
    drop: float = 0.3
    unimodal_weight: float = 0.3
    text_components: int = 600


@dataclass(frozen=True)
class Inputs:
    """What the network sees, float32 rows: names and pictures of train and test, and the means to encode others."""

    text: dict[str, np.ndarray]
    picture: dict[str, np.ndarray]
    scale: tuple[np.ndarray, np.ndarray]

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the features of other pictures uint8 (N, 32, 32, 3), scaled as those of train."""
        return ((patches(images) - self.scale[0]) / self.scale[1]).astype(np.float32)


def load_inputs(task: Task, recipe: Recipe, parts: Path | None = None) -> Inputs:
    """Return names as TF-IDF squeezed to a few hundred numbers, and pictures by the patch dictionary of notebook 02.

    The dictionary never saw a label, so its features of training pictures are no better than those of new ones: a
    network would trust features too much that had been learned with the labels of the training rows.
    """
    learn = task.name(np.unique(task.train.concept))
    squeeze = TruncatedSVD(min(recipe.text_components, len(learn) - 1), random_state=0)
    text = make_pipeline(name_features(), squeeze).fit(learn)
    names = {
        each: _unit(text.transform(task.name(getattr(task, each).concept))) for each in ("train", "test")
    }
    found = features_of(task, "patch dictionary", parts and parts / "08_probes", scaled=False)
    scale = found["train"].mean(0), found["train"].std(0) + 1e-6
    return Inputs(names, {each: (found[each] - scale[0]) / scale[1] for each in names}, scale)


def _unit(rows: np.ndarray, length: float = 8.0) -> np.ndarray:
    return (length * rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def train_net(task: Task, inputs: Inputs, names: Sequence[str], recipe: Recipe, seed: int) -> FusionNet:
    """Train the fusion of these modalities ('text', 'picture') on all labels; each is hidden now and then."""
    torch.manual_seed(seed)
    rows = {"text": inputs.text["train"], "picture": inputs.picture["train"]}
    encoders = {name: vector_encoder(rows[name].shape[1], recipe.width) for name in names}
    return train_fusion(
        FusionNet(encoders, len(task.groups), width=recipe.width),
        {name: torch.from_numpy(rows[name]) for name in names}, torch.from_numpy(task.train.target),
        steps=recipe.steps, seed=seed, drop=recipe.drop if len(names) > 1 else 0.0,
        unimodal_weight=recipe.unimodal_weight,
    )  # fmt: skip


def classes(net: FusionNet, text: np.ndarray, picture: np.ndarray | None) -> np.ndarray:
    """Return the classes int64 (N,) read from names and pictures; None in place of pictures is the null token."""
    inputs = {"text": torch.from_numpy(text)}
    if "picture" not in net.names:
        return predict_fusion(net, inputs).logits.argmax(1).numpy()
    absent = picture is None
    width = net.encoders["picture"][1].in_features  # type: ignore[index, union-attr]
    rows = np.zeros((len(text), width), np.float32) if picture is None else picture
    inputs["picture"] = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    present = {"picture": torch.zeros(len(text), dtype=torch.bool)} if absent else None
    return predict_fusion(net, inputs, present).logits.argmax(1).numpy()


def nearest_names(task: Task, inputs: Inputs) -> np.ndarray:
    """Return, for each test row, the place of a training picture: the concept of the most alike name, in its style."""
    alike = inputs.text["test"] @ inputs.text["train"].T
    return _in_style(task, alike)


def nearest_shared(task: Task) -> np.ndarray:
    """Return, for each test row, the place of the training picture nearest to its name in the shared space."""
    from mmteach import embed
    from mmteach.study_probes import shared_space

    names, where = np.unique(task.test.concept, return_inverse=True)
    with torch.no_grad():
        text = embed.load_pretrained().text(task.name(names)).cpu().numpy()[where]
    return _in_style(task, text @ shared_space(task.train.images).T)


def _in_style(task: Task, alike: np.ndarray) -> np.ndarray:
    """Return the place of the highest of (N, M) among the training pictures of each test row's own style."""
    other = task.test.style[:, None] != task.train.style[None, :]
    return np.where(other, -np.inf, alike).argmax(1)


def drawn(task: Task, folder: Path) -> np.ndarray:
    """Return a picture drawn from the name of each test row in its style, uint8 (N, 32, 32, 3); kept in pieces."""
    from mmteach import prior

    def make(rows: np.ndarray) -> dict[str, np.ndarray]:
        captions, styles = task.name(task.test.concept[rows]), list(task.test.style[rows])
        return {"drawn": prior.sample(prior.load_pretrained(), captions, styles=styles, seed=int(rows[0]))}

    pieces, key = np.array_split(np.arange(len(task.test)), 6), checksums("prior", "vqvae")
    return np.concatenate([part(folder, f"drawn-{r[0]}", key, partial(make, r))["drawn"] for r in pieces])


def per_concept(task: Task, rows: np.ndarray) -> np.ndarray:
    """Return rows (N, D) of the test part, each replaced by the mean over the rows of its concept."""
    where = np.unique(task.test.concept, return_inverse=True)[1]
    sums = np.zeros((where.max() + 1, rows.shape[1]), np.float64)
    np.add.at(sums, where, rows)
    return (sums / np.bincount(where)[:, None])[where].astype(np.float32)


def stand_ins(task: Task, inputs: Inputs, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Return what can stand in for the missing pictures: name -> function that gives features (N, D)."""
    missing = np.full_like(inputs.picture["test"], np.nan)
    absent = np.zeros(len(missing), dtype=bool)
    train, rng = inputs.picture["train"], np.random.default_rng(0)

    def kept(name: str, make: Callable[[], np.ndarray], *weights: str) -> np.ndarray:
        return part(folder, f"features-{name}", checksums(*weights), lambda: {"rows": make()})["rows"]

    def from_text() -> np.ndarray:
        return kept("drawn", lambda: inputs.encode(drawn(task, folder)), "prior", "vqvae")

    def from_shared() -> np.ndarray:
        return train[kept("shared", lambda: nearest_shared(task), "embed")]

    return {
        TRUE: lambda: inputs.picture["test"],
        "mean of the training pictures": lambda: mean_stand_in(train, missing, absent),
        "a random training picture": lambda: train[rng.integers(len(train), size=len(missing))],
        "picture of the nearest name": lambda: train[nearest_names(task, inputs)],
        "nearest picture in the shared space": from_shared,
        "drawn from the name": from_text,
        "drawn, mean over styles": lambda: per_concept(task, from_text()),
    }


NEEDS = {
    "nearest picture in the shared space": "embed", "drawn from the name": "prior", "drawn, mean over styles": "prior",
}  # fmt: skip


def run(names: Sequence[str], seeds: Sequence[int], recipe: Recipe, parts: Path) -> dict[str, Any]:
    """Return accuracy under every stand-in, differences from the null token, the name alone and the true picture."""
    task, folder = load_task(), parts / NAME
    inputs = load_inputs(task, recipe, parts)
    features = {name: make() for name, make in stand_ins(task, inputs, folder).items() if name in names}
    said: dict[str, list[np.ndarray]] = {name: [] for name in (NULL, ALONE, *features)}
    for seed in seeds:
        net, alone = (
            train_net(task, inputs, each, recipe, seed) for each in (("text", "picture"), ("text",))
        )
        said[ALONE].append(classes(alone, inputs.text["test"], None))
        for name in (NULL, *features):
            said[name].append(classes(net, inputs.text["test"], features.get(name)))
    right = {name: np.stack(each) == task.test.target for name, each in said.items()}
    family = task.test.family
    others = [each for each in (NULL, ALONE, TRUE) if each in right]
    return {
        "accuracy": {name: bootstrap_interval(each, family) for name, each in right.items()},
        **{f"over {other}": gains(right, other, family) for other in others},
        "judge": read_by_judge(task, folder) if "drawn from the name" in names else {},
    }  # fmt: skip


def gains(right: dict[str, np.ndarray], other: str, family: np.ndarray) -> dict[str, Interval]:
    """Return by how much each beats `other` on the same rows and seeds."""
    return {
        name: paired_interval(each, right[other], family) for name, each in right.items() if name != other
    }


def read_by_judge(task: Task, folder: Path) -> dict[str, Any]:
    """Return how often the frozen judge reads the right group in the true pictures and in those drawn from names."""
    from mmteach import frozen_judge

    judge, right = frozen_judge.load_pretrained(), np.array(task.groups)[task.test.target]
    shown = {"true": task.test.images, "drawn": drawn(task, folder)}
    read_right = {name: judge.read(images)["group"] == right for name, images in shown.items()}
    return {name: bootstrap_interval(each, task.test.family) for name, each in read_right.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command(NAME, __doc__, len(SEEDS), "two steps, nothing drawn")
    parser.add_argument(
        "--without", nargs="+", default=[], help="leave out what needs these weights: prior, embed"
    )
    chosen = parser.parse_args(argv)
    recipe, out, without = Recipe(), destination(chosen), set(chosen.without)
    if chosen.smoke:
        recipe, without = replace(recipe, steps=2, text_components=20), {"prior", "embed"}
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    names = [name for name in ORDER if NEEDS.get(name) not in without]
    seeds = range(chosen.seeds)
    figures = {
        "study": NAME, "recipe": asdict(recipe), "seeds": list(seeds), "styles": list(TRAIN_STYLES),
        "data_sha256": data_checksum(), "weights": weights_used("prior", "vqvae", "embed", "judge"),
        "machine": machine(), "threads": torch.get_num_threads(),
        **run(names, seeds, recipe, chosen.parts),
    }  # fmt: skip
    write_json(out / f"{NAME}.json", figures)
    print(f"wrote {out / NAME}.json")
    return 0


ORDER = (
    TRUE, "drawn from the name", "drawn, mean over styles", "nearest picture in the shared space",
    "picture of the nearest name", "mean of the training pictures", "a random training picture",
)  # fmt: skip


def figures(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the finished study, its intervals as Interval."""
    return read(NAME, folder)
