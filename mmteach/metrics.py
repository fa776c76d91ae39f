"""Intervals for accuracies (bootstrap over families and seeds), and figures for generated pictures, copies included.

Built in notebooks 03 (exercise bootstrap_by_family) and 04; the distances themselves are in mmteach.distances.
After Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), and, for resampling whole groups,
Field & Welsh, "Bootstrapping clustered data", JRSS B 69 (2007); for pictures, see each function.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mmteach.distances import frechet_distance as frechet_distance
from mmteach.distances import kernel_distance as kernel_distance
from mmteach.distances import neighbours, two_sets
from mmteach.distances import precision_recall_density_coverage as precision_recall_density_coverage


class Interval(NamedTuple):
    """A figure with the ends of its interval; `mean` is the figure itself, not the mean of the resamples."""

    low: float
    mean: float
    high: float

    def __str__(self) -> str:
        return format(self, ".3f")

    def __format__(self, spec: str) -> str:
        """Return the figure and, in brackets, both ends, each number as `spec` says: f"{interval:.1f}"."""
        return f"{self.mean:{spec or '.3f'}} [{self.low:{spec or '.3f'}}, {self.high:{spec or '.3f'}}]"


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


class Memorisation(NamedTuple):
    """What `memorisation` found.

    ratio: mean distance from a sample to its nearest training picture, over that of held-out real pictures
    held_out: the same ratio for the held-out pictures: 1, with the interval that chance leaves it
    flagged: int (F,), samples far nearer to one training picture than held-out ones ever come, the nearest first
    sources: int (F,), that training picture for each
    expected: how many would be flagged of as many held-out pictures; 0 unless these hold copies themselves
    """

    ratio: float
    held_out: Interval
    flagged: np.ndarray
    sources: np.ndarray
    expected: float

    @property
    def passed(self) -> bool:
        """True when samples lie no nearer to the training pictures than held-out ones do, within chance."""
        return self.ratio >= self.held_out.low

    def __str__(self) -> str:
        return (
            f"distance to the training pictures: {self.ratio:.3f} of that of held-out ones, whose own interval is "
            f"{self.held_out.low:.3f} to {self.held_out.high:.3f}; {len(self.flagged)} flagged as copies, "
            f"{self.expected:.1f} of as many held-out ones"
        )


def memorisation(
    samples: ArrayLike, train: ArrayLike, held_out: ArrayLike, *, groups: ArrayLike | None = None,
    share: float = 0.01, k: int = 10, seed: int = 0,
) -> Memorisation:  # fmt: skip
    """Tell whether a generator repeats its training pictures, against real pictures that it never saw.

    All three are features (N, D), or all three pictures, uint8 (N, S, S, C), compared pixel by pixel: look at both.
    A model that copies a few pictures passes the mean, so single samples are looked at too. The score of a sample is
    its distance to the nearest training picture over the mean distance to the k nearest, which asks for less where
    training pictures are dense (Carlini et al. 2023, arXiv:2301.13188, section 5); flagged are scores under half the
    `share` quantile of the held-out ones, and exact copies always. groups: (H,), the family of each held-out picture,
    drawn whole for the interval. Raises ValueError on sets that do not fit together or have no more than k rows.
    """
    drawn, seen, fresh = _as_rows(samples), _as_rows(train), _as_rows(held_out)
    seen, fresh = two_sets(seen, fresh, 2)
    seen, drawn = two_sets(seen, drawn, 1)
    if len(seen) <= k or k < 2:
        raise ValueError(
            f"need k of at least 2 and more than k training rows, got k={k} and {len(seen)} rows"
        )
    far, places = neighbours(drawn, seen, k)
    usual, _ = neighbours(fresh, seen, k)
    if usual[:, 0].mean() == 0:
        raise ValueError("every held-out picture is a training picture: there is nothing to compare with")
    limit = np.quantile(_scores(usual), share) / 2
    scores = _scores(far)
    flagged = np.flatnonzero((scores < limit) | (far[:, 0] == 0))
    flagged = flagged[np.argsort(scores[flagged], kind="stable")]
    typical = bootstrap_interval(usual[:, 0] / usual[:, 0].mean(), groups, seed=seed)
    ratio = float(far[:, 0].mean() / usual[:, 0].mean())
    expected = float((_scores(usual) < limit).mean() * len(drawn))
    return Memorisation(ratio, typical, flagged, places[flagged, 0], expected)


def _scores(far: np.ndarray) -> np.ndarray:
    """Return (N,): the distance to the nearest over the mean distance to the k nearest, (N, k); 0 for a copy."""
    return far[:, 0] / np.maximum(far.mean(1), 1e-12)


def _as_rows(things: ArrayLike) -> np.ndarray:
    """Return pictures uint8 (N, S, S, C) as rows in [0, 1], first halved from 64 to 32; leave features as they are."""
    found = np.asarray(things)
    if found.ndim != 4 or found.dtype != np.uint8:
        return found
    if found.shape[1] == found.shape[2] == 64:  # thousands of pictures in full would take gigabytes
        found = found.reshape(len(found), 32, 2, 32, 2, -1).mean(axis=(2, 4))
    return found.reshape(len(found), -1) / 255.0


def classification_accuracy_score(
    fake: np.ndarray, fake_labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray, *,
    groups: ArrayLike | None = None, steps: int = 600, seed: int = 0,
) -> Interval:  # fmt: skip
    """Return the accuracy on real pictures of a classifier that learned from generated ones alone, with its interval.

    fake, real: uint8 (N, S, S, C), S in 28, 32, 64; labels int64, one a picture. The classifier is a PictureNet trained
    from scratch: a linear one on `picture_features` would be quicker, but those features were learned with real labels
    and would lend the generator what it never drew. Read it beside the same figure with real pictures in place of
    `fake`. groups: (N,), the family of each real picture, drawn whole for the interval. Raises ValueError on pictures
    of another shape, labels that differ in number, or a real class that was never generated.
    Source: Ravuri & Vinyals 2019 (arXiv:1905.10887).
    """
    from mmteach.encoders import (  # they bring torch, which intervals do not need
        picture_logits,
        train_picture_net,
    )
    from mmteach.feature_net import at_32

    fake_labels, real_labels = np.asarray(fake_labels), np.asarray(real_labels)
    if len(fake) != len(fake_labels) or len(real) != len(real_labels):
        raise ValueError(
            f"{len(fake)} generated and {len(real)} real pictures, but {len(fake_labels)} and {len(real_labels)} labels"
        )
    never = sorted({int(each) for each in real_labels} - {int(each) for each in fake_labels})
    if never:
        raise ValueError(f"no generated picture of class {never[0]} (of {len(never)} such classes)")
    net = train_picture_net(at_32(fake), fake_labels, steps=steps, seed=seed)
    right = picture_logits(net, at_32(real)).argmax(1) == real_labels
    return bootstrap_interval(right, groups, seed=seed)
