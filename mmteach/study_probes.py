"""Does knowledge move out of a generator? `python -m mmteach study 08_probes`.

Read by notebook 08. Linear probes (Alain & Bengio 2016, arXiv:1610.01644) on features that stay as they are, over the
label budgets of `study_transfer`, beside a network trained from scratch on the same pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmteach import gan, vqvae
from mmteach.codebook import Codebook
from mmteach.data import data_checksum
from mmteach.features import PatchDictionary
from mmteach.study import RESULTS, command, destination, read, write_json
from mmteach.study_generated import Recipe as Small
from mmteach.study_generated import run_arm
from mmteach.study_transfer import (
    BUDGETS,
    SEEDS,
    Table,
    Task,
    budget_places,
    checksums,
    load_task,
    part,
    said,
)
from mmteach.train import to_float
from mmteach.vqvae_recipe import CODES, SHAPE

NAME, SCRATCH = "08_probes", "network from scratch"


@dataclass(frozen=True)
class Recipe:
    """All settings of the probes; the strength C is chosen on val, for every probe anew."""

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    max_iter: int = 100
    scratch_steps: int = 400


def pixels(images: np.ndarray, size: int = 16) -> np.ndarray:
    """Return pictures uint8 (N, 32, 32, 3) averaged to size x size, float32 (N, size * size * 3)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(x, size).flatten(1).numpy()


def patches(images: np.ndarray) -> np.ndarray:
    """Return how much of each of 256 learned patches is in each corner, float32 (N, 1024); see notebook 02."""
    return _dictionary().transform(list(images))


@lru_cache(maxsize=1)
def _dictionary() -> PatchDictionary:
    train = load_task().train
    learn = np.random.default_rng(0).permutation(len(train))[:1000]
    return PatchDictionary().fit(list(train.images[learn]))


def encoder_maps(model: vqvae.VQVAE, images: np.ndarray) -> np.ndarray:
    """Return the encoder's maps z_e before the codebook, averaged to 4x4 places: float32 (N, 512)."""
    return _in_parts(images, lambda x: F.adaptive_avg_pool2d(model.encoder(x), 4).flatten(1))


def untrained_encoder() -> vqvae.VQVAE:
    """Return the VQ-VAE as it was before its first step: what the architecture gives without any knowledge."""
    torch.manual_seed(0)
    return vqvae.VQVAE(Codebook(**CODES), **SHAPE).eval()


def discriminator_maps(discriminator: gan.Discriminator, images: np.ndarray) -> np.ndarray:
    """Return the discriminator's last maps, averaged to 2x2 places: float32 (N, 512)."""
    body = discriminator.features[:-3]  # without flatten, linear layer and its slope
    return _in_parts(images, lambda x: F.adaptive_avg_pool2d(body(x), 2).flatten(1))


@torch.no_grad()
def _in_parts(images: np.ndarray, read_part: Callable[[Tensor], Tensor]) -> np.ndarray:
    return torch.cat([read_part(to_float(each)) for each in torch.from_numpy(images).split(256)]).numpy()


def shared_space(images: np.ndarray) -> np.ndarray:
    """Return where pictures lie in the space they share with names and voices, float32 (N, 128)."""
    from mmteach import embed

    model = embed.load_pretrained()
    with torch.no_grad():
        return (
            torch.cat([model.pictures(images[i : i + 256]) for i in range(0, len(images), 256)]).cpu().numpy()
        )


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "raw pixels": pixels,
    "patch dictionary": patches,
    "untrained encoder": lambda images: encoder_maps(untrained_encoder(), images),
    "VQ-VAE encoder": lambda images: encoder_maps(vqvae.load_pretrained(), images),
    "GAN discriminator": lambda images: discriminator_maps(gan.load_pretrained().discriminator, images),
    "shared space": shared_space,
}
SEEN = {
    "raw pixels": "nothing",
    "patch dictionary": "1,000 training pictures",
    "untrained encoder": "nothing",
    "VQ-VAE encoder": "all training pictures",
    "GAN discriminator": "all training pictures and their groups",
    "shared space": "all training pictures, their names and voices",
    SCRATCH: "the budget alone",
}
_SHIPPED = {"VQ-VAE encoder": "vqvae", "GAN discriminator": "gan", "shared space": "embed"}


def features_of(task: Task, name: str, folder: Path | None, scaled: bool = True) -> dict[str, np.ndarray]:
    """Return the features of train, val and test, scaled to mean 0 and variance 1 on train; kept under `folder`."""

    def make() -> dict[str, np.ndarray]:
        return {each: FEATURES[name](getattr(task, each).images).astype(np.float32) for each in PLACES}

    found = part(folder, f"features-{name}", checksums(*[_SHIPPED[name]] if name in _SHIPPED else []), make)
    if not scaled:
        return found
    scale = StandardScaler().fit(found["train"])
    return {each: scale.transform(found[each]) for each in PLACES}


PLACES = ("train", "val", "test")


def probe(
    features: dict[str, np.ndarray], task: Task, places: np.ndarray, recipe: Recipe
) -> tuple[np.ndarray, float]:
    """Return the classes read in the test pictures (N,) and the strength C that did best on val."""
    found: list[tuple[float, float, Any]] = []
    for strength in recipe.strengths:
        model = LogisticRegression(C=strength, max_iter=recipe.max_iter, tol=1e-3)
        with warnings.catch_warnings():  # few iterations are enough to choose by
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features["train"][places], task.train.target[places])
        found.append((model.score(features["val"], task.val.target), -strength, model))
    _, strength, model = max(found, key=lambda each: each[:2])
    return model.predict(features["test"]), -strength


def run_probe(
    task: Task, name: str, budgets: Sequence[int], seeds: Sequence[int], recipe: Recipe, folder: Path | None
) -> Any:
    """Return what one kind of feature says: budget -> (predictions (S, N), strengths (S,)); kept under `folder`."""
    features: dict[str, np.ndarray] = {}

    def make(budget: int, seed: int) -> dict[str, Any]:
        if not features:
            features.update(features_of(task, name, folder))
        predicted, strength = probe(features, task, budget_places(task.train, budget, seed), recipe)
        return {"said": predicted, "strength": np.array(strength)}

    found = {}
    for budget in budgets:
        runs = []
        for seed in seeds if budget else seeds[:1]:  # with all labels every seed would be the same
            key = [recipe, checksums(_SHIPPED.get(name, ""))]
            runs.append(part(folder, f"{name}-{said(budget)}-{seed}", key, partial(make, budget, seed)))
        runs = runs if budget else runs * len(seeds)
        found[budget] = [
            np.stack([each["said"] for each in runs]),
            [float(each["strength"]) for each in runs],
        ]
    return found


def run(
    names: Sequence[str], budgets: Sequence[int], seeds: Sequence[int], recipe: Recipe, parts: Path
) -> dict[str, Any]:
    """Return accuracies, gains over raw pixels and over a network from scratch, and the strengths chosen."""
    task, right, strengths = load_task(), {}, {}
    for name in names:
        found = run_probe(task, name, budgets, seeds, recipe, parts / NAME)
        right[name] = {b: found[b][0] == task.test.target for b in budgets}
        strengths[name] = {said(b): found[b][1] for b in budgets}
        print(
            f"{name}: { {said(b): round(float(each.mean()), 3) for b, each in right[name].items()} }",
            flush=True,
        )
    small = Small(steps=recipe.scratch_steps)
    for b in budgets:
        runs = [run_arm(task, "classical", b, seed, small, parts / "08_generated") for seed in seeds]
        right.setdefault(SCRATCH, {})[b] = np.stack(runs) == task.test.target
    table = Table(right, task.test.family)
    gains = {f"over {other}": table.gains(other) for other in ("raw pixels", SCRATCH)}
    return {"accuracy": table.levels(), **gains, "strength": strengths, "seen": SEEN}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command(NAME, __doc__, len(SEEDS), "two budgets and one strength")
    parser.add_argument("--features", nargs="+", choices=list(FEATURES), help="these only (default all)")
    chosen = parser.parse_args(argv)
    recipe, out = Recipe(), destination(chosen)
    budgets: Sequence[int] = BUDGETS
    if chosen.smoke:
        recipe, budgets = replace(recipe, strengths=(1e-3,), max_iter=5, scratch_steps=2), (5, 20)
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    seeds = range(chosen.seeds)
    figures = {
        "study": NAME, "recipe": asdict(recipe), "seeds": list(seeds), "budgets": [said(b) for b in budgets],
        "data_sha256": data_checksum(), "machine": machine(), "threads": torch.get_num_threads(),
        **run(chosen.features or list(FEATURES), budgets, seeds, recipe, chosen.parts),
    }  # fmt: skip
    write_json(out / f"{NAME}.json", figures)
    print(f"wrote {out / NAME}.json")
    return 0


def figures(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the finished study, its intervals as Interval."""
    return read(NAME, folder)
