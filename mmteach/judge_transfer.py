"""Checks of the exercises of notebook 08: budgets, mixtures, scores, gains, leaks and stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mmteach import solutions
from mmteach.judging import Mistake, close, exercise, gap, need, need_shape, need_told_apart


@exercise
def label_budget(fn: Callable[..., Any]) -> None:
    """Judge label_budget(target, family, count, rng) -> rows."""
    # three classes; class 0 has 6 families of 5 rows, class 1 has 2 of 20, class 2 has 12 of 2
    shape = [(0, 6, 5), (1, 2, 20), (2, 12, 2)]
    target = np.concatenate([np.full(n * size, label) for label, n, size in shape])
    family = np.concatenate([np.repeat([f"{label}-{i}" for i in range(n)], size) for label, n, size in shape])
    order = np.random.default_rng(3).permutation(len(target))
    target, family = target[order], family[order]
    for seed in range(3):  # one seed may come out right by luck
        _need_spread(fn(target.copy(), family.copy(), 6, np.random.default_rng(seed)), target, family)
    rows = np.asarray(fn(target.copy(), family.copy(), 6, np.random.default_rng(0)))
    other = np.asarray(fn(target.copy(), family.copy(), 6, np.random.default_rng(1)))
    if np.array_equal(np.sort(rows), np.sort(other)):
        raise Mistake("another seed gives the same rows: draw with `rng`.")
    again = np.asarray(fn(target.copy(), family.copy(), 6, np.random.default_rng(0)))
    if not np.array_equal(rows, again):
        raise Mistake("the same seed gives other rows: draw with `rng` and with nothing else.")


def _need_spread(answer: Any, target: np.ndarray, family: np.ndarray) -> None:
    """Raise Mistake unless `answer` holds 6 rows of each of the three classes, spread over their families."""
    need(answer, (np.ndarray, list), "label_budget(target, family, count, rng)")
    rows = np.asarray(answer)
    if rows.dtype.kind == "b":
        raise Mistake("that is a mask; the numbers of the rows are asked.")
    if rows.shape == (6,):
        raise Mistake("that is 6 rows in all; 6 of every class are asked.")
    if len(set(rows.tolist())) < len(rows):
        raise Mistake("a row comes twice: draw without replacement.")
    taken = np.bincount(target[rows], minlength=3)
    if len(rows) == 18 and set(taken) != {6}:
        raise Mistake(f"the classes get {taken.tolist()} rows; 6 of each are asked, whatever their sizes.")
    need_shape(rows, (18,), "the answer for 3 classes and a count of 6")
    if not (np.diff(target[rows]) >= 0).all():
        raise Mistake("the rows are right in number, but not class after class.")
    families = [len(set(family[rows[target[rows] == label]])) for label in range(3)]
    if families != [6, 2, 6]:
        raise Mistake(
            f"the 6 rows of the classes come from {families} families; with 6, 2 and 12 families it can be 6, 2 and 6. "
            "Near duplicates teach little: take a new family while there is one."
        )
    share = np.bincount([int(name[2:]) for name in family[rows[target[rows] == 1]]])
    if share.tolist() != [3, 3]:
        raise Mistake(f"of two families the class takes {share.tolist()} rows; in turn would be 3 and 3.")


@exercise
def mixing_weights(fn: Callable[..., Any]) -> None:
    """Judge mixing_weights(n_real, n_fake, share) -> (n_real + n_fake,)."""
    answer, right = fn(4, 10, 0.3), solutions.mixing_weights(4, 10, 0.3)
    need(answer, np.ndarray, "mixing_weights(n_real, n_fake, share)")
    need_shape(answer, (14,), "the answer for 4 real and 10 generated pictures")

    def both(real: float, fake: float) -> np.ndarray:
        return np.concatenate([np.full(4, real), np.full(10, fake)])

    mistakes = {
        "every picture is as likely as any other: the larger set then fills the batch.": both(1 / 14, 1 / 14),
        "the share is given to every picture, and not divided by how many there are: the larger set fills the batch.": (
            both(0.7, 0.3)
        ),
        "that is the same, brought to a sum of 1: still each picture has the share, and not each set.": (
            both(0.7, 0.3) / (4 * 0.7 + 10 * 0.3)
        ),
        "the two shares are swapped: `share` is that of the generated pictures.": both(0.3 / 4, 0.7 / 10),
        "each set is divided by the size of the other.": both(0.7 / 10, 0.3 / 4),
        "each set sums to 1; both together should.": both(1 / 4, 1 / 10),
        "both are divided by the number of all pictures: they do not sum to 1.": both(0.7 / 14, 0.3 / 14),
        "the generated ones come first; real ones first.": right[::-1],
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the chance of a picture", 1e-9)


@exercise
def generated_accuracy(fn: Callable[..., Any]) -> None:
    """Judge generated_accuracy(fit, fake, fake_labels, real, real_labels) -> float."""
    rng = np.random.default_rng(3)
    fake_labels, real_labels = rng.integers(0, 3, 60), rng.integers(0, 3, 97)
    # generated ones are off by a little, and one class is drawn too near the middle: trained on them, it is misread
    fake = fake_labels + rng.normal(0, 0.3, 60) + 0.3
    fake[fake_labels == 2] -= 0.7
    real = real_labels + rng.normal(0, 0.4, 97)
    seen: list[tuple[int, bool]] = []

    def fit(pictures: Any, labels: Any) -> Callable[[Any], np.ndarray]:
        pictures, labels = np.asarray(pictures), np.asarray(labels)
        seen.append((len(pictures), np.array_equal(labels, labels.astype(int))))
        means = np.array([pictures[labels == k].mean() for k in range(3)])
        return lambda x: np.abs(np.asarray(x)[:, None] - means).argmin(1)

    def score(train: tuple[Any, Any], test: tuple[Any, Any]) -> float:
        return float((fit(*train)(test[0]) == test[1]).mean())

    made, true = (fake, fake_labels), (real, real_labels)
    both = np.concatenate([fake, real]), np.concatenate([fake_labels, real_labels])
    right = score(made, true)
    mistakes = {
        "trained on real pictures and tested on generated ones: that asks whether they look like their class, and one "
        "good picture repeated would pass. Turn it round.": score(true, made),
        "trained and tested on real pictures: the generator has no part in it.": score(true, true),
        "trained and tested on generated pictures: that never asks whether they are like real ones.": score(made, made),
        "trained on both: the real pictures teach what the generated ones should have taught.": score(both, true),
        "that is the share of errors.": 1 - right,
        "that counts the pictures named right; their share is asked.": right * len(real),
    }  # fmt: skip
    answer = fn(fit, fake.copy(), fake_labels.copy(), real.copy(), real_labels.copy())
    need(answer, (float, np.floating), "generated_accuracy(fit, fake, fake_labels, real, real_labels)")
    need_told_apart(answer, right, mistakes, "the score", 1e-9)


@exercise
def paired_gains(fn: Callable[..., Any]) -> None:
    """Judge paired_gains(right_a, right_b, family, drawn) -> (R,)."""
    rng = np.random.default_rng(1)
    family = np.repeat(np.arange(6), [9, 1, 4, 2, 7, 3])
    right_a, right_b = rng.random(26) < 0.7, rng.random(26) < 0.5
    drawn = rng.multinomial(6, np.full(6, 1 / 6), size=5)
    answer = fn(right_a.copy(), right_b.copy(), family.copy(), drawn.copy())
    right = solutions.paired_gains(right_a, right_b, family, drawn)
    need(answer, np.ndarray, "paired_gains(right_a, right_b, family, drawn)")
    need_shape(answer, (5,), "the answer for 5 resamples")
    weight = drawn[:, family]
    difference = right_a.astype(float) - right_b
    of_family = np.array([difference[family == k].mean() for k in range(6)])

    def share(right: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return (weight * right).sum(1) / weight.sum(1)

    mistakes = {
        "that is B over A: the sign is flipped.": -right,
        "every family counts alike, whatever its size; every row drawn should.": drawn @ of_family / 6,
        "divided by the number of rows there are; divide by the number of rows drawn, which differs.": (
            (weight * difference).sum(1) / len(family)
        ),
        "a family drawn twice counts once: its rows count as often as it was drawn.": share(difference, weight > 0),
        "A and B are resampled apart: the same draw must serve both, or what they share does not cancel.": (
            share(right_a, weight) - share(right_b, np.roll(weight, 1, axis=0))
        ),
        "that is the accuracy of A alone; subtract that of B.": share(right_a, weight),
        "the sum of the differences; divide by the rows drawn.": (weight * difference).sum(1),
        "that is how often the two disagree; a gain has a sign.": share(np.abs(difference), weight),
    }  # fmt: skip
    if np.ptp(answer) == 0 and close(answer, np.full(5, difference.mean())):
        raise Mistake("every resample gives the plain difference: use what was drawn.")
    need_told_apart(answer, right, mistakes, "the gain", 1e-9)


@exercise
def leaking_rows(fn: Callable[..., Any]) -> None:
    """Judge leaking_rows(items, rows) -> the rows that leak."""
    items = pd.DataFrame({
        "split": ["train", "val", "train", "test", "train", "train", "test", "train", "val", "train"],
        "style": ["noto", "noto", "openmoji", "noto", "fluent", "noto", "openmoji", "fluent", "openmoji", "noto"],
        "held_out": [False, False, False, False, True, False, False, True, False, False],
    })  # fmt: skip
    rows = np.array([9, 7, 0, 6, 2, 3, 1, 5])
    answer = fn(items.copy(), rows.copy())
    need(answer, (np.ndarray, list), "leaking_rows(items, rows)")
    found, right = np.asarray(answer), solutions.leaking_rows(items, rows)
    if found.dtype.kind == "b":
        raise Mistake("that is a mask; the numbers of the rows are asked.")
    used = items.iloc[rows]
    test, val = (used["split"] == "test").to_numpy(), (used["split"] == "val").to_numpy()
    held, other = used["held_out"].to_numpy(), (used["style"] == "openmoji").to_numpy()
    mistakes = {
        "pairs that are held out for generation are let through.": rows[test | val | other],
        "OpenMoji is let through: it is never trained on, whatever its split.": rows[test | val | held],
        "val is let through: what settings are chosen by must stay unseen too.": rows[test | held | other],
        "only the test split is caught; held-out pairs, val and OpenMoji leak as well.": rows[test],
        "those are the clean rows; the leaking ones are asked.": np.setdiff1d(rows, right),
        "those are places in `rows`; the row numbers themselves are asked.": np.flatnonzero(np.isin(rows, right)),
        "all leaking rows of the data set are listed; only those that were used are asked.": np.array(
            [1, 2, 3, 4, 6, 7, 8]
        ),
    }  # fmt: skip
    for words, rule in mistakes.items():
        if sorted(found.tolist()) == sorted(rule.tolist()):
            raise Mistake(words)
    if sorted(found.tolist()) != sorted(right.tolist()):
        missed, clean = sorted(set(right) - set(found)), sorted(set(found) - set(right))
        raise Mistake(
            f"let through: rows {[int(x) for x in missed]}; caught for nothing: {[int(x) for x in clean]}."
        )
    if found.tolist() != right.tolist():
        raise Mistake("the right rows, but not in the order given.")


@exercise
def mean_stand_in(fn: Callable[..., Any]) -> None:
    """Judge mean_stand_in(train, features, present) -> (N, D)."""
    rng = np.random.default_rng(2)
    train, whole = rng.normal(2, 1, (30, 4)), rng.normal(-1, 1, (7, 4))
    present = np.array([True, False, True, True, False, False, True])
    given = np.where(present[:, None], whole, np.nan)
    handed = given.copy()
    answer, right = fn(train.copy(), handed, present.copy()), solutions.mean_stand_in(train, given, present)
    need(answer, np.ndarray, "mean_stand_in(train, features, present)")
    if gap(handed, given):
        raise Mistake("your function changes the features it is given; return a new array.")
    if answer.shape == (3, 4):
        raise Mistake("that is the missing rows alone; all rows are asked, in their order.")
    need_shape(answer, (7, 4), "the answer for 7 rows")
    if np.isnan(answer).any():
        raise Mistake("some numbers are missing still (NaN).")

    def filled(value: Any) -> np.ndarray:
        return np.where(present[:, None], given, value)

    mistakes = {
        "filled with the mean of the rows that are present: those are the test rows themselves, which leaks, and not "
        "what the model learned from.": filled(np.nanmean(given, axis=0)),
        "filled with zero: features need not be centred there.": filled(0.0),
        "one mean over all numbers; every feature has its own.": filled(train.mean()),
        "each row of train has its mean taken; take the mean of each column.": filled(train.mean(axis=1)[:4]),
        "the rows that are present were replaced, and the others left.": np.where(
            present[:, None], train.mean(axis=0), 0.0
        ),
        "every row is the mean, those present too.": np.tile(train.mean(axis=0), (7, 1)),
        "filled with the median; the mean is asked.": filled(np.median(train, axis=0)),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the filled features", 1e-9)
