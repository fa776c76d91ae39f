"""Distances between two sets of vectors: Fréchet, kernel, and what k-nearest-neighbour balls say.

Used by notebook 04 and later through `mmteach.metrics`. Follows Heusel et al. 2017 (arXiv:1706.08500), Bińkowski et al.
2018 (1801.01401), Kynkäänniemi et al. 2019 (1904.06991), Naeem et al. 2020 (2002.09797).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from mmteach import solutions

CHUNK = 4_000_000  # numbers of a table of pairs held at once: 32 MB, where 10,000 x 10,000 pairs take 800


def two_sets(real: ArrayLike, fake: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (N, D), (M, D); raises ValueError when they do not fit together or are too few."""
    a, b = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.shape[1] == 0:
        raise ValueError(f"need features (N, D) and (M, D), got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"need at least {least} rows of each, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features must be finite: there is a NaN or an infinity among them")
    return a, b


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """Return |mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of features (N, D) and (M, D).

    Never below zero, and biased upwards by an amount that goes with 1 / N + 1 / M and grows with D: give it beside that
    of two halves of the real ones, as `mmteach.report` does. Raises ValueError on sets that do not fit together, have
    fewer than 2 rows, or are not finite. Source: Heusel et al. 2017, equation 6.
    """
    a, b = two_sets(real, fake, 2)
    return max(0.0, float(solutions.frechet_distance(a, b)))  # rounding may leave equal sets at -1e-13


def kernel_distance(
    real: ArrayLike, fake: ArrayLike, *, subsets: int = 1, subset_size: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return (value, standard error): the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3.

    The unbiased estimate: 0 on average when (N, D) and (M, D) come from one distribution, so now and then below 0. By
    default it takes all rows, and the standard error is the jackknife's, leaving out each row of either set in turn;
    that is never too small on average (Efron & Stein 1981), and up to 1.4 times too large when the sets are alike.
    With `subsets` above 1, value and error are mean and spread / sqrt(subsets) over random subsets of at most
    `subset_size` rows, as the kernel inception distance is published; these overlap, so that for small sets that
    error is too small. Raises ValueError on sets that do not fit together, are too small, or are not finite.
    Source: Bińkowski et al. 2018, section 4 and equation 4; Gretton et al. 2012 (JMLR 13), lemma 6.
    """
    a, b = two_sets(real, fake, 3)
    if subsets < 1 or (subset_size is not None and subset_size < 3):
        raise ValueError(f"need at least one subset of at least 3 rows, got {subsets} of {subset_size}")
    size, rng = min(len(a), len(b), subset_size or len(a)), np.random.default_rng(seed)
    if size == len(a) == len(b) or (subsets == 1 and subset_size is None):
        return _discrepancy(a, b)
    drawn = [
        _discrepancy(*(x[rng.choice(len(x), size, replace=False)] for x in (a, b))) for _ in range(subsets)
    ]
    if subsets == 1:  # no spread to read
        return drawn[0]
    values = [value for value, _ in drawn]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the unbiased estimate for (N, D) and (M, D) with its jackknife standard error, from sums over rows."""
    n, m = len(x), len(y)
    of_x, of_y = _kernel_sums(x, x)[0] - _kernel(x, x), _kernel_sums(y, y)[0] - _kernel(y, y)
    across_x, across_y = _kernel_sums(x, y)
    total_x, total_y, across = of_x.sum(), of_y.sum(), across_x.sum()
    value = total_x / (n * (n - 1)) + total_y / (m * (m - 1)) - 2 * across / (n * m)
    without_x = (  # the estimate without row i of x, for every i
        (total_x - 2 * of_x) / ((n - 1) * (n - 2))
        + total_y / (m * (m - 1))
        - 2 * (across - across_x) / ((n - 1) * m)
    )
    without_y = (
        total_x / (n * (n - 1))
        + (total_y - 2 * of_y) / ((m - 1) * (m - 2))
        - 2 * (across - across_y) / (n * (m - 1))
    )
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return float(value), float(np.sqrt(variance))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the kernel of each row of x with the same row of y, (N,)."""
    return (np.einsum("nd,nd->n", x, y) / x.shape[1] + 1) ** 3


def _kernel_sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums (N,) and (M,) of the kernel over the rows of y and over the rows of x."""
    over_y, over_x = np.empty(len(x)), np.zeros(len(y))
    for part in chunks(len(x), len(y)):
        table = x[part] @ y.T / x.shape[1] + 1
        table = table * table * table  # a tenth of the time of ** 3
        over_y[part] = table.sum(1)
        over_x += table.sum(0)
    return over_y, over_x


def precision_recall_density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> dict[str, float]:
    """Return precision, recall, density and coverage of features (N, D) and (M, D).

    A ball around each point reaches to its k-th nearest neighbour in its own set. precision: share of fakes inside the
    ball of some real one; recall: share of real ones inside the ball of some fake; density: real balls a fake lies in,
    over k, 1 on average for a perfect generator; coverage: share of real balls that hold a fake. Raises ValueError on
    sets that do not fit together, have no more than k rows, or are not finite.
    Source: Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, equations 4 and 5.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    a, b = two_sets(real, fake, k + 1)
    a, b = a - a.mean(0), b - a.mean(0)  # near the origin the matrix product rounds least
    reach_a, reach_b = _reach(a, k), _reach(b, k)
    balls, recalled, covered = np.zeros(len(b)), np.empty(len(a), bool), np.empty(len(a), bool)
    for part in chunks(len(a), len(b)):
        apart = squared_distances(a[part], b)
        in_real = apart < reach_a[part, None]
        balls += in_real.sum(0)
        covered[part] = in_real.any(1)
        recalled[part] = (apart < reach_b).any(1)
    return {
        "precision": float((balls > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(balls.mean() / k),
        "coverage": float(covered.mean()),
    }


def _reach(x: np.ndarray, k: int) -> np.ndarray:
    """Return the squared distance (N,) from each row to its k-th nearest other row, less a hair.

    The hair keeps a point that lies exactly on the rim outside, on every machine: rounding shall not decide.
    """
    reach = np.empty(len(x))
    for part in chunks(len(x), len(x)):
        reach[part] = np.partition(squared_distances(x[part], x), k, axis=1)[:, k]
    return reach * (1 - 1e-9)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances (N, M) of rows (N, D) and (M, D), through one matrix product."""
    table = x @ y.T
    table *= -2
    table += np.square(x).sum(1)[:, None]
    table += np.square(y).sum(1)
    return np.maximum(table, 0, out=table)


def neighbours(points: np.ndarray, among: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and places (N, k) of the k nearest rows of `among` (M, D) to each of `points` (N, D).

    The k are found through a matrix product, which pictures with thousands of pixels need, and their distances are
    then taken exactly: the product alone would give a copy a distance of 1e-6 and not 0.
    """
    distances, places = np.empty((len(points), k)), np.empty((len(points), k), dtype=np.intp)
    for part in chunks(len(points), max(len(among), k * among.shape[1])):
        found = np.argpartition(squared_distances(points[part], among), k - 1, axis=1)[:, :k]
        exact = np.sqrt(np.square(points[part][:, None] - among[found]).sum(2))
        order = np.argsort(exact, axis=1, kind="stable")
        distances[part] = np.take_along_axis(exact, order, 1)
        places[part] = np.take_along_axis(found, order, 1)
    return distances, places


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of `rows` so that a table of slice x `columns` stays under CHUNK numbers."""
    step = max(1, CHUNK // max(1, columns))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
