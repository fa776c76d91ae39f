"""What the three studies of notebook 08 share: the task, the label budgets, a small classifier, and parts that resume.

The task: name the group (8 classes) of pictures of families never seen, training styles, at 32x32; and learn it from 5,
10, 20, 50 labelled pictures a class, or from all. Each seed draws its own budget and trains its own classifier.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.data import TRAIN_STYLES, MultimodalDataset, data_checksum, load_emoji, training_rows
from mmteach.encoders import as_ink, augment_ink, small
from mmteach.metrics import Interval, bootstrap_interval, paired_interval
from mmteach.solutions import label_budget, leaking_rows, mixing_weights
from mmteach.train import device, one_cycle, seed_everything
from mmteach.weights import pretrained_folder, read_sums

BUDGETS = (5, 10, 20, 50, 0)  # labelled pictures a class; 0 stands for all there are
SEEDS = (0, 1, 2, 3, 4)
PARTS = Path("runs/study")


@dataclass(frozen=True)
class Pictures:
    """Rows of the data set at 32x32: what is seen, the class of each, and where each comes from."""

    rows: np.ndarray
    images: np.ndarray
    target: np.ndarray
    family: np.ndarray
    concept: np.ndarray
    style: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: np.ndarray) -> Pictures:
        """Return these places (n,) of it."""
        return Pictures(*(each[places] for each in vars(self).values()))


@dataclass(frozen=True)
class Task:
    """The three parts, the names of the classes, and the data set they come from."""

    train: Pictures
    val: Pictures
    test: Pictures
    groups: tuple[str, ...]
    dataset: MultimodalDataset

    def only(self, styles: Sequence[str]) -> Task:
        """Return the task in some styles alone: less of everything, for a live run."""
        parts = (self.train, self.val, self.test)
        train, val, test = (each.take(np.flatnonzero(np.isin(each.style, styles))) for each in parts)
        return Task(train, val, test, self.groups, self.dataset)

    def name(self, concept: np.ndarray) -> list[str]:
        """Return the English names of concepts."""
        return list(self.dataset.concepts.loc[concept, "name_en"])


def load_task(dataset: MultimodalDataset | None = None) -> Task:
    """Return the task; the training part is free of held-out pairs, OpenMoji, val and test, or this raises."""
    dataset = dataset or load_emoji()
    groups = tuple(sorted(dataset.concepts["group"].unique()))
    rows = {
        "train": training_rows(dataset),
        "val": dataset.rows("val", TRAIN_STYLES), "test": dataset.rows("test", TRAIN_STYLES),
    }  # fmt: skip
    if len(leaking_rows(dataset.items, rows["train"])):
        raise ValueError("the training part holds rows that no model may learn from")
    parts = {part: _pictures(dataset, groups, each) for part, each in rows.items()}
    return Task(parts["train"], parts["val"], parts["test"], groups, dataset)


def _pictures(dataset: MultimodalDataset, groups: tuple[str, ...], rows: np.ndarray) -> Pictures:
    items = dataset.items.iloc[rows]
    of = dataset.concepts.loc[items["concept"]]
    target = np.array([groups.index(each) for each in of["group"]], dtype=np.int64)
    return Pictures(
        rows, small(dataset.images[rows]), target, of["family"].to_numpy(str),
        items["concept"].to_numpy(str), items["style"].to_numpy(str),
    )  # fmt: skip


def budget_places(
    train: Pictures, budget: int, seed: int, draw: Callable[..., np.ndarray] = label_budget
) -> np.ndarray:
    """Return the places in `train` of a label budget, `budget` a class; 0 is all of them, whatever the seed."""
    if budget == 0:
        return np.arange(len(train))
    return draw(train.target, train.family, budget, np.random.default_rng(seed))


class FoldNet(nn.Module):
    """Three convolutions on an 8x8 grid, pixels folded into channels: ink (B, 3, 32, 32) -> logits (B, classes).

    Small and fast, so that two hundred of them can be trained; all arms use it.
    """

    def __init__(self, num_classes: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.PixelUnshuffle(4), _conv(48, 48), _conv(48, 64, 2), _conv(64, 96))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(96, num_classes))

    def forward(self, ink: Tensor) -> Tensor:
        return self.head(self.body(ink).amax((2, 3)))


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def train_classifier(
    images: np.ndarray, labels: np.ndarray, *, steps: int, seed: int, augment: bool = False,
    weights: np.ndarray | None = None, batch_size: int = 64,
) -> FoldNet:  # fmt: skip
    """Train a FoldNet on uint8 pictures (N, 32, 32, 3) and labels int64 (N,); return it in eval mode.

    Every batch is drawn with replacement by `weights` (N,), by default all alike. augment: move, turn, scale, mirror
    and tint, in the classical way. AdamW, one cycle, label smoothing 0.1.
    """
    generator, where = seed_everything(seed), device()
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous().to(where)
    target = torch.from_numpy(labels).to(where)
    chance = torch.ones(len(pixels)) if weights is None else torch.from_numpy(weights)
    net = FoldNet().to(where, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)
    for _ in range(steps):
        pick = torch.multinomial(chance, batch_size, replacement=True, generator=generator).to(where)
        ink = as_ink(pixels[pick])
        ink = augment_ink(ink, generator, move=0.6, tint=0.6) if augment else ink
        loss = F.cross_entropy(net(ink), target[pick], label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def predicted(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the class int64 (N,) that `net` reads in each picture uint8 (N, 32, 32, 3)."""
    where = next(net.parameters()).device
    parts = torch.from_numpy(images).permute(0, 3, 1, 2).to(where).split(512)
    return torch.cat([net(as_ink(part)).argmax(1) for part in parts]).cpu().numpy()


def mixed(
    real: tuple[np.ndarray, np.ndarray], more: tuple[np.ndarray, np.ndarray],
    weigh: Callable[[int, int, float], np.ndarray] = mixing_weights, share: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return pictures, labels and weights of both together: `share` of every batch comes from `more`, on average."""
    weights = weigh(len(real[0]), len(more[0]), share)
    return np.concatenate([real[0], more[0]]), np.concatenate([real[1], more[1]]), weights


def part(
    folder: Path | None, name: str, settings: Any, make: Callable[[], Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Return the arrays of one part of a study, from its file when it is there; else make and keep them.

    The file's name carries the settings and the data, so that a changed study does not read old parts. Without a
    folder nothing is kept.
    """
    if folder is None:
        return {key: np.asarray(each) for key, each in make().items()}
    key = hashlib.sha256(f"{settings} {data_checksum()}".encode()).hexdigest()[:10]
    path = folder / f"{name.replace(' ', '_').replace('+', 'and')}-{key}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez_compressed(beside, **make())
        beside.replace(path)
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def weights_used(*names: str) -> dict[str, str]:
    """Return the checksums of shipped weights by name: what a study was made with."""
    return dict(zip(names, checksums(*names), strict=True))


def checksums(*names: str) -> list[str]:
    """Return the checksums of shipped weights: a study that used others before must run again."""
    known = read_sums(pretrained_folder())
    return [known.get(f"{name}.safetensors", "") for name in names]


@dataclass(frozen=True)
class Table:
    """Who was right on which test picture: arm -> budget -> bool (S, N); rows without another seed repeat."""

    right: Mapping[str, Mapping[int, np.ndarray]]
    family: np.ndarray

    def accuracy(self, arm: str, budget: int) -> Interval:
        """Return the share right, interval over families and seeds."""
        return bootstrap_interval(self.right[arm][budget], self.family)

    def gain(self, arm: str, other: str, budget: int) -> Interval:
        """Return by how much `arm` beats `other` with the same budgets, seeds and pictures."""
        return paired_interval(self.right[arm][budget], self.right[other][budget], self.family)

    def levels(self) -> dict[str, dict[str, Interval]]:
        """Return every accuracy: arm -> budget -> interval."""
        return {arm: {said(b): self.accuracy(arm, b) for b in found} for arm, found in self.right.items()}

    def gains(self, other: str) -> dict[str, dict[str, Interval]]:
        """Return the gain of every arm over `other`, where both have the budget."""
        return {
            arm: {said(b): self.gain(arm, other, b) for b in found if b in self.right[other]}
            for arm, found in self.right.items() if arm != other
        }  # fmt: skip


def said(budget: int) -> str:
    """Return a budget as it is written in figures and files."""
    return str(budget) if budget else "all"
