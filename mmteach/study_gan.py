"""What makes a GAN collapse on the faces, and what cures it: `python -m mmteach study 04_gan`.

Read by notebook 04, which runs one collapsing and one cured arm live with the same functions. Every arm has the same
networks, pictures, steps and seeds; losses share one grid of learning rates, and the cure is ablated term by term.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmteach.data import TRAIN_STYLES, MultimodalDataset, load_emoji
from mmteach.doctor import machine
from mmteach.encoders import shrink
from mmteach.gan import GAMES, Discriminator, Generator, Penalty, TrainedGan, diff_augment, sample, train_gan
from mmteach.study import RESULTS, _checksum, _write_json

LEARNING_RATES = (2e-4, 1e-3, 3e-3)
SEEDS = (0, 1, 2)
STEPS = 1200
BATCH = 32
DRAWN = 1000


@dataclass(frozen=True)
class Arm:
    """One way to train: the loss, the learning rate, and which terms of the cure are on.

    `dcgan` swaps in BatchNorm for the generator, spectral norm for the discriminator, and Adam with beta1 = 0.5.
    """

    loss: str = "relativistic"
    lr: float = 1e-3
    r1: float = 0.0
    r2: float = 0.0
    augment: bool = False
    dcgan: bool = False

    def train(self, images: np.ndarray, *, seed: int, steps: int, **more: Any) -> TrainedGan:
        """Train on uint8 pictures (N, 32, 32, 3) with this arm's settings; `more` goes to `train_gan`."""
        game = GAMES[self.loss]
        settings: dict[str, Any] = {
            "d_loss": game.d_loss, "g_loss": game.g_loss, "lr": self.lr, "batch_size": BATCH,
            "penalty": Penalty(self.r1, self.r2) if self.r1 or self.r2 else None,
            "augment": diff_augment if self.augment else None, "width": WIDTH,
        }  # fmt: skip
        if self.dcgan:
            torch.manual_seed(seed)
            networks = Generator(width=WIDTH, norm="batch"), Discriminator(width=WIDTH, spectral=True)
            settings |= {"networks": networks, "betas": (0.5, 0.999)}
        return train_gan(images, steps=steps, seed=seed, **(settings | more))


GAMMA = 0.1
WIDTH = 24  # small, so that seventy runs fit in an hour; the live runs of the notebook are wider
CURE = Arm("relativistic", 1e-3, GAMMA, GAMMA, augment=True)


def arms() -> dict[str, Arm]:
    """Return every arm under its name."""
    grid = [(loss, lr) for loss in GAMES for lr in LEARNING_RATES]
    found = {f"bare {loss} {lr:g}": Arm(loss, lr) for loss, lr in grid}
    found |= {f"cure {loss} {lr:g}": replace(CURE, loss=loss, lr=lr) for loss, lr in grid}
    found["dcgan hinge 0.0002"] = Arm("hinge", 2e-4, dcgan=True)
    less = {
        "without R1": {"r1": 0.0}, "without R2": {"r2": 0.0}, "without R1 and R2": {"r1": 0.0, "r2": 0.0},
        "without augmentation": {"augment": False},
    }  # fmt: skip
    return found | {name: replace(CURE, **changes) for name, changes in less.items()}


def faces(dataset: MultimodalDataset, split: str) -> np.ndarray:
    """Return the faces of a split in the training styles, uint8 (N, 32, 32, 3); pairs held out are left out."""
    rows = dataset.rows(split, TRAIN_STYLES, held_out=False)
    subgroup = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "subgroup"].to_numpy()
    return small(dataset.images[rows[["face" in name for name in subgroup]]])


def small(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Return pictures uint8 (N, H, W, 3) averaged down to uint8 (N, size, size, 3)."""
    return shrink(images, size).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def run_arm(name: str, seed: int, steps: int, folder: Path) -> Path:
    """Train one arm with one thread, keep what it draws (averaged and last weights) under `folder`, and return where.

    A file that is already there is not made again; it is written beside and renamed, so a killed study resumes.
    """
    path = folder / f"{name.replace(' ', '_')}-{seed}-{steps}-{_key(name)}.npz"
    if not path.exists():
        torch.set_num_threads(1)
        began = time.time()
        trained = arms()[name].train(faces(load_emoji(), "train"), seed=seed, steps=steps)
        drawn = {kind: sample(net, DRAWN, seed=seed) for kind, net in (("ema", trained.generator), ("last", trained.last))}
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp.npz")
        np.savez_compressed(beside, seconds=time.time() - began, **drawn)  # type: ignore[arg-type]
        beside.replace(path)
    return path


def _key(name: str) -> str:
    """Return the settings of an arm and the data as eight hexadecimal digits."""
    said = json.dumps([asdict(arms()[name]), BATCH, WIDTH, _checksum()], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def judge(drawn: np.ndarray, real: np.ndarray, features: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """Return the figures of one run: pictures uint8 drawn (M, 32, 32, 3) against the features of the real ones."""
    fake = picture_features(drawn)
    copies = memorisation(fake, features, held_out)
    spread = pairwise(drawn) / pairwise(real)
    return {
        "kernel": kernel_distance(features, fake, subset_size=len(features))[0],
        "frechet": frechet_distance(features, fake),
        **precision_recall_density_coverage(features, fake),
        "copies": copies.ratio, "spread": spread,
    }  # fmt: skip


def pairwise(pictures: np.ndarray, pairs: int = 2000) -> float:
    """Return the root mean square difference of two pictures drawn at random from uint8 (N, ...), in grey levels."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(pictures), size=(2, pairs))
    return float(np.sqrt(np.square(pictures[a].astype(np.float32) - pictures[b]).mean()))


def train_all(names: Sequence[str], seeds: Sequence[int], steps: int, folder: Path, processes: int) -> list[Path]:
    """Train every arm with every seed, `processes` at a time; return where each kept its pictures."""
    jobs = [(name, seed, steps, folder) for seed in seeds for name in names]
    context = multiprocessing.get_context("spawn")  # forked copies of torch's thread pools can hang
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting = [pool.submit(run_arm, *job) for job in jobs]
        paths = []
        for number, (job, each) in enumerate(zip(jobs, waiting, strict=True), start=1):
            paths.append(each.result())
            print(f"{number}/{len(jobs)}  {job[0]}, seed {job[1]}", flush=True)
    return paths
