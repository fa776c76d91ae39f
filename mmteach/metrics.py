"""Intervals for accuracies: percentile bootstrap over families and seeds, paired and macro-averaged.

Built in notebook 03 (exercise bootstrap_by_family).
After Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), and, for resampling whole groups,
Field & Welsh, "Bootstrapping clustered data", JRSS B 69 (2007).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A figure with the ends of its interval; `mean` is the figure itself, not the mean of the resamples."""

    low: float
    mean: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    labels: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` with its percentile bootstrap interval.

    values: (N,), or (S, N) for S seeds judged on the same N rows. `groups`, (N,), names each row's family:
    whole families are drawn with replacement, for rows of one family are not independent. With several
    seeds those are drawn too, so the interval covers new families and new training runs at once.
    `labels`, (N,): average over the classes instead of over the rows (a class missing from a resample is left
    out of that resample). Raises ValueError for empty or not finite values, or lengths that differ.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))  # (S, N)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be finite, (N,) or (seeds, N), and not empty; got {np.shape(values)}")
    family = _codes(groups, table.shape[1], "groups")
    label = np.zeros_like(family) if labels is None else _codes(labels, table.shape[1], "labels")
    sums, counts = _family_sums(table, family, label)  # (F, C, S), (F, C)
    rng = np.random.default_rng(seed)
    family_draws = _draws(rng, resamples, len(counts))
    seed_draws = _draws(rng, resamples, len(table)) / len(table)
    drawn_sums = np.einsum("rcs,rs->rc", np.tensordot(family_draws, sums, axes=1), seed_draws)
    drawn = _mean_over_classes(drawn_sums, family_draws @ counts)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    mean = _mean_over_classes(sums.sum(0).mean(-1), counts.sum(0))
    return Interval(float(low), float(mean), float(high))


def paired_interval(
    correct_a: ArrayLike, correct_b: ArrayLike, groups: ArrayLike | None = None, *,
    labels: ArrayLike | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Return by how much A beats B, with its interval: families and seeds of the two are drawn together.

    correct_a, correct_b: (N,) or (S, N), true where that model is right. The rest as in `bootstrap_interval`.
    Raises ValueError when the shapes differ.
    """
    a, b = np.asarray(correct_a, dtype=np.float64), np.asarray(correct_b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same rows and seeds, got {a.shape} and {b.shape}")
    return bootstrap_interval(a - b, groups, labels=labels, level=level, resamples=resamples, seed=seed)


def conditional_utilisation(with_both: float, with_other_alone: float) -> float:
    """Return how much of a joint model's accuracy is owed to a modality, given the other one.

    u(m | other) = (A(both) - A(other alone)) / A(both), both read from one jointly trained model, the second
    with m taken away (after Wu et al. 2022, arXiv:2202.05306, section 3).
    Raises ValueError when the joint model is never right.
    """
    if with_both <= 0:
        raise ValueError(f"the joint accuracy must be above 0 to divide by it, got {with_both}")
    return (with_both - with_other_alone) / with_both


def _codes(names: ArrayLike | None, count: int, what: str) -> np.ndarray:
    """Return integer codes (count,) for `names`; every row is a code of its own when there are none."""
    if names is None:
        return np.arange(count)
    codes = np.unique(np.asarray(names), return_inverse=True)[1]
    if codes.shape != (count,):
        raise ValueError(f"{what} must name one of each of the {count} rows, got shape {np.shape(names)}")
    return codes


def _family_sums(table: np.ndarray, family: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (F, C, S) of values and counts (F, C) of rows by family and label."""
    shape = (family.max() + 1, label.max() + 1)
    sums, counts = np.zeros((*shape, len(table))), np.zeros(shape)
    np.add.at(sums, (family, label), table.T)
    np.add.at(counts, (family, label), 1)
    return sums, counts


def _draws(rng: np.random.Generator, resamples: int, count: int) -> np.ndarray:
    """Return (resamples, count): how often each thing comes up in `count` draws with replacement."""
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def _mean_over_classes(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that have rows of the class means, from sums and counts (..., C)."""
    seen = counts > 0
    return np.where(seen, sums / np.maximum(counts, 1), 0).sum(axis=-1) / seen.sum(axis=-1)
