"""Checks of the exercises of notebook 03: fusion and its intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmteach import solutions
from mmteach.judging import Mistake, close, exercise, need, need_shape, need_told_apart


@exercise
def late_fusion(fn: Callable[..., Any]) -> None:
    """Judge late_fusion(log_probs, weights) -> (N, C)."""
    rng = np.random.default_rng(0)
    said, weights = np.log(rng.dirichlet(np.ones(4), (3, 6))), np.array([0.9, 0.4, 1.6])
    answer, right = fn(said.copy(), weights.copy()), solutions.late_fusion(said, weights)
    need(answer, np.ndarray, "late_fusion(log_probs, weights)")
    summed = np.tensordot(weights, said, axes=1)

    def normed(scores: np.ndarray) -> np.ndarray:
        return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))

    mistakes = {
        "the weighted sum is right, but its exponentials do not sum to one: take off the log of their sum.": summed,
        "those are probabilities; log-probabilities are asked, so do not take the exponential at the end.": np.exp(
            right
        ),
        "the probabilities were added, not their logarithms: that is a vote, and no modality can veto.": np.log(
            np.tensordot(weights / weights.sum(), np.exp(said), axes=1)
        ),
        "the weights are not used: all modalities count the same.": normed(said.sum(axis=0)),
        "that is the plain average: the weights are not used.": normed(said.mean(axis=0)),
        "the weights were made to sum to one first; how sure the fused answer is lies in their size.": normed(
            summed / weights.sum()
        ),
        "each row must sum to one over the classes; you summed over the rows.": summed
        - np.log(np.exp(summed).sum(axis=0, keepdims=True)),
    }
    need_told_apart(answer, right, mistakes, "the fused log-probability")
    far = fn(np.full((1, 1, 2), -2000.0), np.ones(1))
    if not close(far, np.full((1, 2), -np.log(2)), 1e-6):
        raise Mistake(
            "right, until numbers get large: exp(-2000) is 0 and its log infinite. Take off the maximum first."
        )


@exercise
def bootstrap_by_family(fn: Callable[..., Any]) -> None:
    """Judge bootstrap_by_family(correct, family, resamples, rng) -> (resamples,)."""
    rng = np.random.default_rng(1)
    family = np.repeat([f"family {i}" for i in range(40)], rng.integers(1, 15, 40))
    skill = dict(zip(np.unique(family), rng.uniform(0, 1, 40), strict=True))
    correct = (rng.random(len(family)) < [skill[name] for name in family]).astype(float)
    order = rng.permutation(len(family))  # the rows of a family need not follow each other
    correct, family = correct[order], family[order]
    answer = fn(correct.copy(), family.copy(), 1500, np.random.default_rng(0))
    need(answer, np.ndarray, "bootstrap_by_family(correct, family, resamples, rng)")
    need_shape(answer, (1500,), "the answer for 1,500 resamples")
    right = solutions.bootstrap_by_family(correct, family, 1500, np.random.default_rng(0))
    spread, wanted = float(np.std(answer)), float(np.std(right))
    means = np.array([correct[family == name].mean() for name in np.unique(family)])
    if spread < 1e-9:
        raise Mistake("every resample gives the same figure: families must be drawn with replacement.")
    if spread > 3 * wanted:
        raise Mistake(
            f"the figures spread by {spread:.3f} where {wanted:.3f} is right: draw as many families as there are."
        )
    if spread < 0.75 * wanted and abs(spread - np.sqrt(correct.var() / len(correct))) < 0.15 * spread:
        raise Mistake(
            "single rows are drawn: rows of one family are right or wrong together. Draw whole families."
        )
    if abs(answer.mean() - means.mean()) < 0.3 * abs(correct.mean() - means.mean()):
        raise Mistake(
            "each family counts the same; each of its rows should: join the rows, then take the mean."
        )
    if abs(answer.mean() - correct.mean()) > 4 * wanted / np.sqrt(1500) + 0.3 * wanted:
        raise Mistake(f"the figures centre on {answer.mean():.3f}, but the accuracy is {correct.mean():.3f}.")
    if not 0.8 < spread / wanted < 1.25:
        raise Mistake(f"the figures spread by {spread:.4f}; by whole families it is {wanted:.4f}.")
    if close(
        fn(correct, family, 50, np.random.default_rng(0)), fn(correct, family, 50, np.random.default_rng(1))
    ):
        raise Mistake("another generator gives the same figures: draw with the `rng` you are given.")


@exercise
def modality_dropout(fn: Callable[..., Any]) -> None:
    """Judge modality_dropout(present, p, generator) -> (B, M) bool."""
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(4000, 3, generator=generator) < 0.7
    present[~present.any(dim=1), 1] = True
    before = present.clone()
    answer = fn(present, 0.4, torch.Generator().manual_seed(1))
    need(answer, torch.Tensor, "modality_dropout(present, p, generator)")
    need_shape(answer, (4000, 3), "the answer for 4,000 rows of 3 modalities")
    if answer.dtype != torch.bool:
        raise Mistake(f"the answer should be bool, true for what is left, but is {answer.dtype}.")
    if not torch.equal(present, before):
        raise Mistake("your function changes the `present` it is given; return a new tensor.")
    if (answer & ~present).any():
        raise Mistake("some rows gained a modality that they never had: only hide, with `&`.")
    if not answer.any(dim=1).all():
        raise Mistake(f"{int((~answer.any(dim=1)).sum())} rows are left with nothing; each must keep one.")
    full = present.all(dim=1)
    rate = 1 - float(answer[full].float().mean())
    alone = torch.ones(6000, 1, dtype=torch.bool)
    if not fn(alone, 0.9, torch.Generator().manual_seed(1)).all():
        raise Mistake("a row with a single modality lost it.")
    expected = 0.4 - 0.4**3 / 3
    together = answer[full].float().std(dim=1)
    if float((together > 0).float().mean()) < 0.5 and rate > 0.05:
        raise Mistake("a row keeps all or nearly nothing: draw one number for each modality of each row.")
    if abs(rate - (0.6 - 0.6**3 / 3)) < 0.02:
        raise Mistake("`p` is the chance to be hidden; you keep with that chance.")
    if len(torch.unique(answer[full], dim=0)) < 3:
        raise Mistake("all rows lose the same modalities: draw for each row.")
    if abs(rate - expected) > 0.03:
        raise Mistake(
            f"with p = 0.4 a modality is hidden in {rate:.3f} of the rows; {expected:.3f} is right."
        )
    shares = answer[full].float().mean(dim=0)
    if float(shares.max() - shares.min()) > 0.05:
        raise Mistake("one modality is hidden less often than the others: which one is kept should be luck.")


@exercise
def gated_fusion(fn: Callable[..., Any]) -> None:
    """Judge gated_fusion(codes, weight, bias) -> (B, D)."""
    generator = torch.Generator().manual_seed(2)
    codes, weight = torch.randn(5, 3, 4, generator=generator), torch.randn(12, 12, generator=generator)
    bias = torch.randn(12, generator=generator)
    answer, right = (
        fn(codes.clone(), weight.clone(), bias.clone()),
        solutions.gated_fusion(codes, weight, bias),
    )
    need(answer, torch.Tensor, "gated_fusion(codes, weight, bias)")
    scores = (codes.flatten(1) @ weight.T + bias).view(codes.shape)
    backwards = (codes.flatten(1) @ weight + bias).view(codes.shape)
    if answer.shape == codes.shape:
        raise Mistake("the modalities are still apart, (B, M, D): sum over dimension 1 at the end.")
    mistakes = {
        "the gates sum to one over the features; they should over the modalities: softmax(dim=1).": (
            scores.softmax(dim=2) * codes
        ).sum(dim=1),
        "the gates sum to one over the rows of the batch, so rows depend on each other: softmax(dim=1).": (
            scores.softmax(dim=0) * codes
        ).sum(dim=1),
        "each gate is open or shut by itself (sigmoid); the softmax makes the modalities compete.": (
            scores.sigmoid() * codes
        ).sum(dim=1),
        "the scores are used as gates; take their softmax over the modalities first.": (scores * codes).sum(
            dim=1
        ),
        "the bias of the gate is left out.": ((scores - bias.view(3, 4)).softmax(dim=1) * codes).sum(dim=1),
        "`weight` is the wrong way round: a linear layer multiplies by its transpose.": (
            backwards.softmax(dim=1) * codes
        ).sum(dim=1),
        "that is the average over the modalities; the shares of a softmax already sum to one.": right / 3,
    }
    need_told_apart(
        answer.detach().numpy(), right, {k: v.numpy() for k, v in mistakes.items()}, "the fused code", 1e-5
    )


@exercise
def low_rank_tensor_fusion(fn: Callable[..., Any]) -> None:
    """Judge low_rank_tensor_fusion(codes, factors, weights) -> (B, H)."""
    generator = torch.Generator().manual_seed(3)
    codes, factors = torch.randn(4, 3, 2, generator=generator), torch.randn(3, 5, 3, 6, generator=generator)
    weights = torch.randn(5, generator=generator)
    answer = fn(codes.clone(), factors.clone(), weights.clone())
    right = solutions.low_rank_tensor_fusion(codes, factors, weights)
    need(answer, torch.Tensor, "low_rank_tensor_fusion(codes, factors, weights)")

    def parts(ones: torch.Tensor, first: bool = False) -> torch.Tensor:
        extended = torch.cat([ones, codes] if first else [codes, ones], dim=2)
        return torch.einsum("bmd,mrdh->bmrh", extended, factors)

    ones, zeros = codes.new_ones(4, 3, 1), codes.new_zeros(4, 3, 1)
    mistakes = {
        "the parts of the modalities are added; the outer product needs their product.": torch.einsum(
            "bmrh,r->bh", parts(ones), weights
        ),
        "the one is missing from the codes, so only the product of all three is left.": torch.einsum(
            "brh,r->bh", parts(zeros).prod(dim=1), weights
        ),
        "the weights of the ranks are not used.": parts(ones).prod(dim=1).sum(dim=1),
        "the ranks are averaged; they should be summed, each times its weight.": torch.einsum(
            "brh,r->bh", parts(ones).prod(dim=1), weights / 5
        ),
        "the one stands before the code; it belongs after it, where the factors expect it.": torch.einsum(
            "brh,r->bh", parts(ones, first=True).prod(dim=1), weights
        ),
        "the ranks are summed before the product; multiply the modalities within each rank first.": torch.einsum(
            "bmrh,r->bmh", parts(ones), weights
        ).prod(dim=1),
    }
    need_told_apart(
        answer.detach().numpy(), right, {k: v.numpy() for k, v in mistakes.items()}, "the fused code", 1e-4
    )
