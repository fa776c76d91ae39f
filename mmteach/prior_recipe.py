"""The shipped prior: emoji drawn from a caption and a style, and how it was trained.

Used by notebooks 07 and 08 through `prior.load_pretrained`; trained by `python -m mmteach pretrain prior`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmteach.data import TRAIN_STYLES, MultimodalDataset
from mmteach.encoders import small
from mmteach.prior import Corpus
from mmteach.train import to_float
from mmteach.vqvae import VQVAE

SHIFTS = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))  # pixels of 64 down and to the right


def ways(
    vqvae: VQVAE, images: np.ndarray, shifts: tuple[tuple[int, int], ...] = SHIFTS, mirrored: bool = True
) -> Tensor:
    """Return the codes int64 (N, V, T) of pictures uint8 (N, 64, 64, 3): as they are, shifted, and all that mirrored."""
    found = []
    for flip in (False, True)[: 1 + mirrored]:
        for down, right in shifts:
            moved = moved_by(images[:, :, ::-1] if flip else images, down, right)
            found.append(encode(vqvae, small(moved)))
    return torch.stack(found, 1)


def moved_by(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return pictures uint8 (N, S, S, 3) moved by some pixels, white coming in at the edges."""
    size, most = images.shape[1], max(abs(down), abs(right))
    framed = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=255)
    top, left = most - down, most - right
    return np.ascontiguousarray(framed[:, top : top + size, left : left + size])


def encode(vqvae: VQVAE, pictures: np.ndarray, batch_size: int = 256) -> Tensor:
    """Return the codes int64 (N, T) of pictures uint8 (N, 32, 32, 3), row by row from the top left."""
    parts = torch.from_numpy(pictures).split(batch_size)
    return torch.cat([vqvae.encode(to_float(part)).flatten(1) for part in parts])


def captions(dataset: MultimodalDataset, rows: np.ndarray, kinds: int = 24, seed: int = 0) -> list[list[str]]:
    """Return for each picture what it may be called: first its name, then names, names with keywords, and keywords."""
    rng = np.random.default_rng(seed)
    known = {}
    for concept in dict.fromkeys(dataset.items["concept"].iloc[rows]):
        entry = dataset.concepts.loc[concept]
        known[concept] = [
            entry["name_en"],
            *_variants(entry["name_en"], entry["keywords_en"].split("; "), kinds - 1, rng),
        ]
    return [known[concept] for concept in dataset.items["concept"].iloc[rows]]


def _variants(name: str, keywords: list[str], count: int, rng: np.random.Generator) -> list[str]:
    found = []
    for number in range(count):
        few = rng.choice(keywords, min(len(keywords), int(rng.integers(1, 4))), replace=False).tolist()
        words = [name, *few] if number % 3 == 1 else few if number % 3 == 2 else [name]
        found.append(" ".join(words))
    return found


def corpus(dataset: MultimodalDataset, rows: np.ndarray, vqvae: VQVAE, **more: object) -> Corpus:
    """Return pictures of a data set as a prior learns them; more: settings of `ways`."""
    styles = dataset.items["style"].iloc[rows].map(TRAIN_STYLES.index).to_numpy()
    codes = ways(vqvae, dataset.images[rows], **more)  # type: ignore[arg-type]
    return Corpus(codes, torch.from_numpy(styles.astype(np.int64)), captions(dataset, rows))
