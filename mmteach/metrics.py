"""Intervals for accuracies: percentile bootstrap over families and seeds, paired and macro-averaged.

Built in notebook 03 (exercise bootstrap_by_family).
After Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), and, for resampling whole groups,
Field & Welsh, "Bootstrapping clustered data", JRSS B 69 (2007).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from mmteach import solutions


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


def _two_sets(real: ArrayLike, fake: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (N, D), (M, D); raises ValueError when they do not fit together or are too few."""
    a, b = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"need (N, D) and (M, D), got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"need at least {least} rows of each, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features must be finite")
    return a, b


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """Return |mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of features (N, D) and (M, D).

    Source: Heusel et al. 2017 (arXiv:1706.08500), equation 6. Biased upwards by about tr(S) D / (2 N) for few rows:
    give it beside the distance between two halves of the real ones.
    """
    a, b = _two_sets(real, fake, 2)
    return float(solutions.frechet_distance(a, b))


def kernel_distance(
    real: ArrayLike, fake: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return (value, standard error) of the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3.

    The unbiased estimate, averaged over `subsets` random subsets of at most `subset_size` rows of each set; it may
    be a little below zero. Source: Bińkowski et al. 2018 (arXiv:1801.01401), section 4.
    """
    a, b = _two_sets(real, fake, 2)
    size = min(subset_size, len(a), len(b))
    rng = np.random.default_rng(seed)
    drawn = [
        _mmd2(a[rng.choice(len(a), size, replace=False)], b[rng.choice(len(b), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(drawn)), float(np.std(drawn, ddof=1) / np.sqrt(subsets)) if subsets > 1 else float(
        "nan"
    )


def _mmd2(x: np.ndarray, y: np.ndarray) -> float:
    n, d = x.shape
    within = [((z @ z.T / d + 1) ** 3) for z in (x, y)]
    off_diagonal = sum(k.sum() - np.trace(k) for k in within) / (n * (n - 1))
    return float(off_diagonal - 2 * ((x @ y.T / d + 1) ** 3).mean())


def precision_recall_density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> dict[str, float]:
    """Return precision, recall (Kynkäänniemi et al. 2019, 1904.06991), density and coverage (Naeem et al. 2020, 2002.09797).

    The balls around each point reach its k-th nearest neighbour within its own set.
    """
    a, b = _two_sets(real, fake, k + 1)
    reach_a, reach_b = _reach(a, k), _reach(b, k)
    apart = cdist(a, b)  # (N, M)
    in_real, in_fake = apart <= reach_a[:, None], apart <= reach_b[None, :]
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_fake.any(1).mean()),
        "density": float(in_real.sum(0).mean() / k),
        "coverage": float((apart.min(1) <= reach_a).mean()),
    }


def _reach(x: np.ndarray, k: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, -1]
