"""What a codebook needs, how many codes pay, and whether PCA does as well: `python -m mmteach study 05_vqvae`.

Read by notebook 05, which trains one arm live with the same functions. All arms have the same networks, pictures,
steps and seeds, and differ in the quantizer alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmteach.codebook import FSQ, Codebook
from mmteach.data import data_checksum, load_emoji
from mmteach.metrics import bootstrap_interval, paired_interval
from mmteach.pca_codec import fit_pca_codes
from mmteach.study import RESULTS, command, destination, read, write_json
from mmteach.vqvae import VQVAE, codebook_usage, decibels, psnr, train_vqvae
from mmteach.vqvae_recipe import emoji

NAME, MAIN, TOKENS = "05_vqvae", "512 codes", 64
BUDGETS = tuple(range(192, 1153, 64))


@dataclass(frozen=True)
class Recipe:
    """All settings that the arms share."""

    steps: int = 1000
    batch_size: int = 16
    width: int = 64
    lr: float = 3e-3


class NaiveCodebook(Codebook):
    """The moving average as well-known code starts it, for the study: random codes, and counts from zero.

    Sums start at the codes and counts at nothing, so after one step an unused code is its own start divided by almost
    zero, farther away than any picture ever comes; and nothing restarts it.
    """

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        if not self._known_started and not bool(self.started):
            self.count.zero_()
            self.total.copy_(self.codes)
            self.started.fill_(True)
        self._known_started = True

    @torch.no_grad()
    def _update(self, rows: Tensor, indices: Tensor, used: Tensor, sums: Tensor) -> None:
        self.count.lerp_(used, 1 - self.decay)
        self.total.lerp_(sums, 1 - self.decay)
        everything = self.count.sum()
        smooth = (self.count + 1e-5) / (everything + self.num_codes * 1e-5) * everything
        self.codes.copy_(self.total / smooth[:, None])


ARMS: dict[str, Callable[[], Codebook | FSQ]] = {
    "512 codes": lambda: Codebook(512, 32),
    "512 codes, naive start": lambda: NaiveCodebook(512, 32),
    "512 codes, no restarts": lambda: Codebook(512, 32, restart=0),
    "FSQ 8x8x8": lambda: FSQ((8, 8, 8)),
    "32 codes": lambda: Codebook(32, 32),
    "128 codes": lambda: Codebook(128, 32),
    "2048 codes": lambda: Codebook(2048, 32),
}


def train_arm(
    name: str, images: np.ndarray, *, seed: int, recipe: Recipe | None = None, **more: Any
) -> VQVAE:
    """Train one arm on uint8 pictures (N, 32, 32, 3); `more` goes to `train_vqvae`."""
    torch.manual_seed(seed)
    return train_vqvae(images, seed=seed, quantizer=ARMS[name](), **(asdict(recipe or Recipe()) | more))


def run_arm(name: str, seed: int, recipe: Recipe, folder: Path) -> Path:
    """Train one arm, keep its figures in a file under `folder`, and return where; a file that is there stays."""
    key = hashlib.sha256(f"{name} {recipe} {data_checksum()}".encode()).hexdigest()[:10]
    path = folder / f"{name.replace(' ', '_').replace(',', '')}-{seed}-{key}.npz"
    if not path.exists():
        dataset = load_emoji()
        train, test = emoji(dataset, "train")[0], emoji(dataset, "test")[0]
        began = time.process_time()
        model = train_arm(name, train, seed=seed, recipe=recipe, every=max(1, recipe.steps // 30))
        seconds, usage = time.process_time() - began, codebook_usage(model, train)
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp.npz")
        np.savez_compressed(
            beside, psnr=psnr(model, test), histogram=usage.histogram, seconds=seconds, perplexity=usage.perplexity,
            curve=[[each["step"], each["perplexity"]] for each in model.history],
        )  # fmt: skip
        beside.replace(path)
    return path


def of_mean_error(each: np.ndarray) -> float:
    """Return the PSNR of the mean squared error, from the PSNR of every picture; bad pictures count for more in it."""
    return float(-10 * np.log10(np.mean(10 ** (-each / 10))))


def summary(arms: dict[str, list[Any]], pca: dict[int, np.ndarray], family: np.ndarray) -> dict[str, Any]:
    """Return intervals over families and seeds: of every arm, of PCA, and of the differences that matter."""
    scores = {name: np.stack([each["psnr"] for each in runs]) for name, runs in arms.items()}
    bits = {name: int(TOKENS * np.log2(len(runs[0]["histogram"]))) for name, runs in arms.items()}

    def above(name: str, other: np.ndarray) -> Any:
        return paired_interval(scores[name], np.broadcast_to(other, scores[name].shape), family)

    return {
        "arms": {
            name: {"bits": bits[name], **_levels(scores[name], family), **_usage(runs)}
            for name, runs in arms.items()
        },
        "pca": {str(count): _levels(each, family) for count, each in pca.items()},
        "above_pca": {name: above(name, pca[bits[name]]) for name in arms if bits[name] in pca},
        "main_above": {
            name: paired_interval(scores[MAIN], scores[name], family) for name in arms if name != MAIN
        },
    }


def _levels(scores: np.ndarray, family: np.ndarray) -> dict[str, Any]:
    return {"psnr": bootstrap_interval(scores, family), "of_mean_error": of_mean_error(scores)}


def _usage(runs: list[Any]) -> dict[str, Any]:
    return {
        "active_codes": [int((each["histogram"] > 0).sum()) for each in runs],
        "perplexity": [float(each["perplexity"]) for each in runs],
        "curve": [np.asarray(each["curve"], float).tolist() for each in runs],
        "seconds": [float(each["seconds"]) for each in runs],
    }


def run(
    seeds: Sequence[int], recipe: Recipe, folder: Path, names: Sequence[str] = tuple(ARMS)
) -> dict[str, Any]:
    """Train every arm with every seed, fit PCA at every budget, and return all figures."""
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    found: dict[str, list[Any]] = {name: [] for name in names}
    for seed in seeds:
        for name in names:
            with np.load(run_arm(name, seed, recipe, folder)) as file:
                found[name].append({key: file[key] for key in file.files})
            last = found[name][-1]
            print(
                f"seed {seed}, {name}: {last['psnr'].mean():.2f} dB, perplexity {last['perplexity']:.0f}",
                flush=True,
            )
    dataset = load_emoji()
    test, family = emoji(dataset, "test")
    pca = {
        bits: decibels(test, code.reconstruct(test))
        for bits, code in fit_pca_codes(emoji(dataset, "train")[0], BUDGETS).items()
    }
    return {
        "study": NAME, "recipe": asdict(recipe), "seeds": list(seeds),
        "data_sha256": data_checksum(), "machine": machine(),
        "threads": torch.get_num_threads(), "pictures": len(test), "families": len(np.unique(family)),
        **summary(found, pca, family),
    }  # fmt: skip


def figures(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the finished study, its intervals as Interval."""
    return read(NAME, folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command(NAME, __doc__, 3, "a few steps")
    chosen = parser.parse_args(argv)
    recipe = replace(Recipe(), steps=5) if chosen.smoke else Recipe()
    out = destination(chosen)
    write_json(out / f"{NAME}.json", run(range(chosen.seeds), recipe, chosen.parts / NAME))
    print(f"wrote {out / NAME}.json")
    return 0
