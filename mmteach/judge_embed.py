"""Checks of the exercises of notebook 06: the loss, the mask, two readings, and the way between two directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmteach import solutions
from mmteach.judging import Mistake, close, exercise, need, need_shape, need_told_apart


@exercise
def info_nce(fn: Callable[..., Any]) -> None:
    """Judge info_nce(a, b, logit_scale, same=None) -> scalar."""
    generator = torch.Generator().manual_seed(0)
    a, b = 3 * torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    answer, right = fn(a.clone(), b.clone(), 5.0), solutions.info_nce(a, b, 5.0)
    need(answer, Tensor, "info_nce(a, b, logit_scale)")
    need_shape(answer, (), "info_nce(a, b, logit_scale)")
    x, y = F.normalize(a, dim=1), F.normalize(b, dim=1)
    logits, target = 5 * x @ y.T, torch.arange(6)
    mistakes = {
        "the vectors are not normalised: long ones win whatever they point at.": _both(5 * a @ b.T),
        "only one of the two sides is normalised.": _both(5 * x @ b.T),
        "logit_scale is not used.": _both(x @ y.T),
        "the cosines are divided by logit_scale; it multiplies them.": _both(x @ y.T / 5),
        "logit_scale comes with its exp already taken; multiply by it as it is.": _both(x @ y.T * np.exp(5)),
        "only a searches b; the loss asks both ways: add the table turned, and halve.": F.cross_entropy(logits, target),
        "only b searches a; the loss asks both ways: add the table as it stands, and halve.": F.cross_entropy(
            logits.T, target
        ),
        "that is the sum of the two cross-entropies; take their mean.": 2 * _both(logits),
        "the sign is flipped: a pair that fits must lower the loss.": -_both(logits),
        "each cross-entropy is summed over the batch; take the mean, so that ln B is the line of chance.": 6
        * _both(logits),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the loss", 1e-9)
    same = solutions.same_concept(torch.tensor([0, 1, 2, 0, 3, 1]))
    answer, right = fn(a.clone(), b.clone(), 5.0, same.clone()), solutions.info_nce(a, b, 5.0, same)
    need(answer, Tensor, "info_nce(a, b, logit_scale, same)")
    own = torch.eye(6, dtype=torch.bool)
    masked = {
        "without `same` the loss is right; with it nothing changes: leave out what it marks.": _both(logits),
        "with `same` the pairs themselves are left out too: the diagonal must stay.": _both(
            logits.masked_fill(same, -torch.inf)
        ),
        "with `same` what should stay is left out, and what should go stays.": _both(
            logits.masked_fill(~same & ~own, -torch.inf)
        ),
        "with `same` the marked logits are set to 0, which still counts as e⁰ = 1: use -inf.": _both(
            logits.masked_fill(same & ~own, 0)
        ),
    }  # fmt: skip
    need_told_apart(answer, right, masked, "with `same`, the loss", 1e-9)
    at = a.clone().requires_grad_()
    (slope,) = torch.autograd.grad(fn(at, b.clone(), 5.0), at)
    if not torch.isfinite(slope).all():
        raise Mistake("the value is right, but the gradient is not finite.")


def _both(logits: Tensor) -> Tensor:
    """Return the mean of the cross-entropies of rows and of columns; where none is possible, infinity."""
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@exercise
def same_concept(fn: Callable[..., Any]) -> None:
    """Judge same_concept(concept) -> bool (B, B)."""
    concept = torch.tensor([4, 7, 4, 2, 7, 4])
    answer, right = fn(concept.clone()), solutions.same_concept(concept)
    need(answer, Tensor, "same_concept(concept)")
    need_shape(answer, (6, 6), "the answer for a batch of six")
    if answer.dtype != torch.bool:
        raise Mistake(f"the answer is of type {answer.dtype}; true or false is asked (torch.bool).")
    own = torch.eye(6, dtype=torch.bool)
    mistakes = {
        "it is true where concepts differ; it should be true where they are the same.": ~right,
        "only the diagonal is true: two pictures of one concept are the same too.": own,
        "the diagonal is false: a concept is the same as itself.": right & ~own,
        "only one half of the table is filled: if i is the same as j, then j is the same as i.": right.triu(),
        "it is true only for neighbours in the batch: compare each with each.": (
            right & ((torch.arange(6)[:, None] - torch.arange(6)).abs() <= 1)
        ),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the answer", 0)


@exercise
def recall_at_k(fn: Callable[..., Any]) -> None:
    """Judge recall_at_k(similarity, target, k) -> float."""
    rng = np.random.default_rng(3)
    similarity, target = rng.permutation(np.linspace(-1, 1, 40 * 25)).reshape(40, 25), rng.integers(0, 25, 40)
    answer, right = fn(similarity.copy(), target.copy(), 5), solutions.recall_at_k(similarity, target, 5)
    need(answer, (float, int, np.floating), "recall_at_k(similarity, target, k)")
    own = similarity[np.arange(40), target][:, None]
    place = (similarity > own).sum(1)  # from 0
    mistakes = {
        "that is the share found at the very first place: k is not used.": (place == 0).mean(),
        "the smallest similarities are taken; the most similar stand first.": ((similarity < own).sum(1) < 5).mean(),
        "one place too many: of places counted from 0 the first k are 0 to k - 1.": (place <= 5).mean(),
        "one place too few: the k-th counts as well.": (place < 4).mean(),
        "that is a number of queries; a share is asked.": (place < 5).sum(),
        "that is the share not found.": 1 - (place < 5).mean(),
        "divided by k: a query has one target, so it is found or not.": (place < 5).mean() / 5,
        "that is the mean place; the share of places up to k is asked.": (place + 1).mean(),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the share", 1e-9)
    if fn(np.ones((4, 20)), np.arange(4), 10) > 0:
        raise Mistake(
            "where all similarities are equal it reports a find: a space that answers everything alike would look "
            "good. Count every tie against the target."
        )


@exercise
def zero_shot(fn: Callable[..., Any]) -> None:
    """Judge zero_shot(pictures, class_texts) -> int (N,)."""
    rng = np.random.default_rng(1)
    pictures = rng.normal(size=(60, 5)) * np.exp(rng.normal(size=(60, 1)))
    texts = rng.normal(size=(6, 5)) * np.linspace(0.2, 3, 6)[:, None]
    answer, right = fn(pictures.copy(), texts.copy()), solutions.zero_shot(pictures, texts)
    need(answer, np.ndarray, "zero_shot(pictures, class_texts)")
    if answer.shape == (60, 6):
        raise Mistake(
            "those are all the similarities; the number of the best class is asked: argmax over the classes."
        )
    if answer.shape == (6,):
        raise Mistake("that is one picture a class; one class a picture is asked.")
    need_shape(answer, (60,), "the answer for 60 pictures and 6 classes")
    if answer.dtype.kind == "f":
        raise Mistake("those are similarities; the number of the class is asked: argmax, not max.")
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    mistakes = {
        "long class texts win whatever they point at: bring them to length 1 first.": (pictures @ texts.T).argmax(1),
        "that is the class that fits worst.": (pictures @ unit.T).argmin(1),
        "that is the nearest text by Euclidean distance, where lengths count; compare directions.": (
            ((pictures[:, None] - texts) ** 2).sum(2).argmin(1)
        ),
        "the classes are counted from 1; numpy counts from 0.": right + 1,
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the number of the class", 0)


@exercise
def slerp(fn: Callable[..., Any]) -> None:
    """Judge slerp(a, b, share) -> unit vector (D,)."""
    a, b, share = np.array([1.0, 0, 0, 0]), np.array([0.28, 0.96, 0, 0]), 0.25
    answer, right = fn(a.copy(), b.copy(), share), solutions.slerp(a, b, share)
    need(answer, np.ndarray, "slerp(a, b, share)")
    need_shape(answer, (4,), "slerp(a, b, share)")
    straight, angle = (1 - share) * a + share * b, np.arccos(a @ b)
    mistakes = {
        "that is the straight line, which cuts through the sphere: the vector is shorter than 1.": straight,
        "the line is straight and then stretched: it ends on the sphere, but a quarter of the way is not a quarter of "
        "the angle.": straight / np.linalg.norm(straight),
        "the two ends are exchanged: share 0 is a.": solutions.slerp(b, a, share),
        "the division by the sine of the angle is missing.": (
            np.sin((1 - share) * angle) * a + np.sin(share * angle) * b
        ),
        "the angle is the arc cosine of a · b; that is the cosine itself.": (
            (np.sin((1 - share) * (a @ b)) * a + np.sin(share * (a @ b)) * b) / np.sin(a @ b)
        ),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the vector", 1e-9)
    if not close(fn(a.copy(), a.copy(), 0.5), a):
        raise Mistake("between a vector and itself it divides by nothing: where the angle is zero, return a.")
