"""The classical rival of a learned code: principal components, each rounded to a few levels, bits spent where they pay.

Used by notebook 05. Levels are placed after Lloyd (1982, doi:10.1109/TIT.1982.1056489) and bits dealt out one at a
time to the component where one more saves most (Shoham & Gersho 1988, doi:10.1109/29.90373).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

MOST_BITS = 8


@dataclass(frozen=True)
class PcaCode:
    """A code for pictures of one shape: the mean, some components, and the levels of each.

    mean: (P,) grey levels; basis: (C, P), orthonormal rows; levels: C sorted arrays, 2, 4, 8, ... long
    """

    mean: np.ndarray
    basis: np.ndarray
    levels: tuple[np.ndarray, ...]

    @property
    def bits(self) -> int:
        """Bits a picture; the mean, the basis and the levels are shared by all pictures, as a decoder's weights are."""
        return int(sum(np.log2(len(each)) for each in self.levels))

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 pictures (N, H, W, C) after a round trip."""
        rows = images.reshape(len(images), -1).astype(np.float32) - self.mean
        rounded = [
            each[quantise(values, each)]
            for values, each in zip((rows @ self.basis.T).T, self.levels, strict=True)
        ]
        back = np.stack(rounded, axis=1) @ self.basis + self.mean
        return back.clip(0, 255).round().astype(np.uint8).reshape(images.shape)


def quantise(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the index of the level nearest to each of `values` (N,); `levels` are sorted."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)


def best_levels(values: np.ndarray, count: int, rounds: int = 30) -> np.ndarray:
    """Return `count` sorted levels that `values` (N,) are rounded to with little squared error (Lloyd's algorithm)."""
    levels = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(rounds):
        nearest = quantise(values, levels)
        inside = np.bincount(nearest, minlength=count)
        sums = np.bincount(nearest, values, minlength=count)
        levels = np.sort(np.where(inside > 0, sums / np.maximum(inside, 1), levels))
    return levels


def fit_pca_codes(images: np.ndarray, budgets: Sequence[int], *, components: int = 400) -> dict[int, PcaCode]:
    """Return a code for each budget of bits a picture, fitted to uint8 pictures (N, H, W, C).

    Every bit goes to the component where it lowers the squared error of the training pictures most, so the codes of
    all budgets come from one pass. Raises ValueError when the components run out of bits to take.
    """
    rows = images.reshape(len(images), -1).astype(np.float32)
    mean = rows.mean(0)
    last = rows.shape[1] - 1
    _, vectors = eigh(
        np.cov(rows - mean, rowvar=False), subset_by_index=(max(0, last - components + 1), last)
    )
    basis = vectors.T[::-1].astype(np.float32)
    values = (rows - mean) @ basis.T
    if max(budgets) > MOST_BITS * len(basis):
        raise ValueError(f"{len(basis)} components take {MOST_BITS * len(basis)} bits, not {max(budgets)}")
    levels = [np.zeros(1) for _ in basis]
    gains = [(-_saved(each, old)[0], i) for i, (each, old) in enumerate(zip(values.T, levels, strict=True))]
    heapq.heapify(gains)
    codes, spent = {}, 0
    while spent < max(budgets):
        _, i = heapq.heappop(gains)
        _, levels[i] = _saved(values[:, i], levels[i])
        spent += 1
        if len(levels[i]) < 2**MOST_BITS:
            heapq.heappush(gains, (-_saved(values[:, i], levels[i])[0], i))
        if spent in budgets:
            used = [k for k, each in enumerate(levels) if len(each) > 1]
            codes[spent] = PcaCode(mean, basis[used], tuple(levels[k] for k in used))
    return codes


def _saved(values: np.ndarray, levels: np.ndarray) -> tuple[float, np.ndarray]:
    """Return how much squared error one more bit saves, and the levels with it."""
    finer = best_levels(values, 2 * len(levels))
    old, new = (
        np.square(values - each[quantise(values, each)]).mean(dtype=np.float64) for each in (levels, finer)
    )
    return old - new, finer
