"""Checks of the exercises of notebook 05: the five rules that a codebook lives by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmteach import solutions
from mmteach.judging import Mistake, close, exercise, gap, need, need_shape, need_told_apart


@exercise
def nearest_code(fn: Callable[..., Any]) -> None:
    """Judge nearest_code(rows, codebook) -> int64 (N,)."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 3, generator=generator)
    codebook = torch.randn(7, 3, generator=generator) * torch.linspace(0.3, 3, 7)[:, None]
    answer, right = fn(rows.clone(), codebook.clone()), solutions.nearest_code(rows, codebook)
    need(answer, Tensor, "nearest_code(rows, codebook)")
    if answer.shape == codebook.shape[:1]:
        raise Mistake(
            "that is one row for each code; one code for each row is asked: take the minimum over the codes."
        )
    if answer.shape == rows.shape:
        raise Mistake("those are the codes themselves; their numbers (N,) are asked.")
    need_shape(answer, (60,), "the answer for 60 rows and 7 codes")
    if answer.dtype.is_floating_point:
        raise Mistake("those are distances; the number of the code is asked: argmin, not min.")
    distance = torch.cdist(rows, codebook)
    dots = rows @ codebook.T
    mistakes = {
        "those are the codes farthest away: look for the smallest distance.": distance.argmax(1),
        "that is the largest dot product, which favours long codes: their squared length is missing.": dots.argmax(1),
        "that is the smallest dot product: the sign of the middle term is flipped.": (
            codebook.square().sum(1) + 2 * dots
        ).argmin(1),
        "the middle term counts once; it counts twice: |r - c|² = |r|² - 2 r·c + |c|².": (
            codebook.square().sum(1) - dots
        ).argmin(1),
        "that is the cosine: lengths count too. Use the Euclidean distance.": (
            dots / codebook.norm(dim=1)
        ).argmax(1),
        "that adds up absolute differences; the Euclidean distance adds up squares.": torch.cdist(
            rows, codebook, p=1
        ).argmin(1),
        "that is the code whose length is nearest to that of the row; compare the vectors.": (
            rows.norm(dim=1)[:, None] - codebook.norm(dim=1)
        ).abs().argmin(1),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the number of the code", 0)


@exercise
def straight_through(fn: Callable[..., Any]) -> None:
    """Judge straight_through(z_e, z_q) -> z_q, with the gradient of z_e."""
    generator = torch.Generator().manual_seed(1)
    z_e = torch.randn(4, 3, generator=generator, requires_grad=True)
    z_q = torch.randn(4, 3, generator=generator, requires_grad=True)
    slope = torch.randn(4, 3, generator=generator)
    answer = fn(z_e, z_q)
    need(answer, Tensor, "straight_through(z_e, z_q)")
    mistakes = {
        "the value is that of z_e; the decoder must see z_q.": z_e,
        "that is the average of the two; forwards it must be z_q, backwards as if it were z_e.": (z_e + z_q) / 2,
        "the value is z_q plus z_e: the part that carries the gradient must add zero.": z_e + z_q,
        "the value is twice z_e minus z_q: the difference is the wrong way round.": 2 * z_e - z_q,
        "that is only the step from z_e to z_q; add it to z_e.": z_q - z_e,
    }  # fmt: skip
    need_told_apart(answer, z_q, mistakes, "the value", 1e-5)
    if not answer.requires_grad:
        raise Mistake("the value is right, but no gradient comes through: one of the terms must keep it.")
    to_e, to_q = torch.autograd.grad((answer * slope).sum(), [z_e, z_q], allow_unused=True)
    if to_e is None or close(to_e, torch.zeros_like(slope)):
        raise Mistake(
            "the value is right, but the gradient goes to the code and none to z_e: the encoder learns nothing."
        )
    if to_q is not None and not close(to_q, torch.zeros_like(slope)):
        raise Mistake(
            "value and gradient of z_e are right, but z_q gets a gradient as well: detach it (its stop_gradient)."
        )
    if not close(to_e, slope):
        raise Mistake(
            f"the gradient of z_e should be the decoder's, unchanged; it is off by up to {gap(to_e, slope):.3g}."
        )


@exercise
def commitment_loss(fn: Callable[..., Any]) -> None:
    """Judge commitment_loss(z_e, z_q, beta) -> scalar."""
    generator = torch.Generator().manual_seed(2)
    z_e = torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True)
    z_q = torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True)
    answer, right = fn(z_e, z_q, 0.3), solutions.commitment_loss(z_e, z_q, 0.3)
    need(answer, Tensor, "commitment_loss(z_e, z_q, beta)")
    if answer.shape == (2,):
        raise Mistake("that is one loss a picture; the mean over every number is asked.")
    need_shape(answer, (), "commitment_loss(z_e, z_q, beta)")
    squares = (z_e - z_q).square()
    mistakes = {
        "beta is not used.": squares.mean(),
        "beta is squared: it belongs outside the square.": 0.09 * squares.mean(),
        "the distances are summed, so twice the batch gives twice the loss: take the mean over every number.": 0.3
        * squares.sum(),
        "summed over each picture, averaged over the batch: take the mean over every number.": 0.3
        * squares.sum() / 2,
        "summed over the D numbers of a place: the loss then grows with D. Take the mean over every number.": 0.3
        * squares.sum(1).mean(),
        "that is the length and not its square.": 0.3 * (z_e - z_q).norm(),
        "that adds up absolute differences; squares are asked.": 0.3 * (z_e - z_q).abs().mean(),
        "that is one half of it; equation 3 has no half.": 0.15 * squares.mean(),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the loss", 1e-6)
    if not answer.requires_grad:
        raise Mistake("the value is right, but no gradient comes through: only z_q is held still.")
    to_e, to_q = torch.autograd.grad(answer, [z_e, z_q], allow_unused=True)
    still = torch.zeros_like(z_q)
    if to_e is None or close(to_e, still):
        raise Mistake(
            "the value is right, but the gradient goes into the wrong term: it moves the code, and z_e stands still. "
            "Detach z_q and not z_e."
        )
    if to_q is not None and not close(to_q, still):
        raise Mistake("the value is right, but the code is moved as well: detach z_q.")
    if not close(to_e, 0.6 * (z_e - z_q) / z_e.numel(), 1e-6):
        raise Mistake(
            "the value is right, but the gradient of z_e is not: is something detached that should not be?"
        )


@exercise
def ema_codebook(fn: Callable[..., Any]) -> None:
    """Judge ema_codebook(count, total, used, sums, decay) -> (count, total)."""
    generator = torch.Generator().manual_seed(3)
    count, used = torch.rand(5, generator=generator) * 9 + 1, torch.tensor([0.0, 3.0, 1.0, 7.0, 2.0])
    total, sums = torch.randn(5, 2, generator=generator), torch.randn(5, 2, generator=generator)
    given = [count.clone(), total.clone(), used.clone(), sums.clone()]
    answer = fn(*given, 0.9)
    need(answer, (tuple, list), "ema_codebook(count, total, used, sums, decay)")
    if len(answer) != 2:
        raise Mistake(f"two tensors are asked, count and total; you give {len(answer)}.")
    if any(not torch.equal(a, b) for a, b in zip(given, (count, total, used, sums), strict=True)):
        raise Mistake("your function changes what it is given; return new tensors.")
    right = solutions.ema_codebook(count, total, used, sums, 0.9)
    pairs: dict[str, tuple[Tensor, Tensor]] = {
        "decay and 1 - decay are swapped: each batch would throw nine tenths of the past away.": (
            0.1 * count + 0.9 * used, 0.1 * total + 0.9 * sums,
        ),
        "the old values are not let go: they are kept whole, so everything grows without end.": (
            count + 0.1 * used, total + 0.1 * sums,
        ),
        "the new values are added whole: they should come in with a share of 1 - decay.": (
            0.9 * count + used, 0.9 * total + sums,
        ),
        "that is this batch alone: the past is forgotten.": (used, sums),
        "the sums were divided by this batch's counts first; keep sums, the division comes later.": (
            right[0], 0.9 * total + 0.1 * sums / used.clamp_min(1)[:, None],
        ),
        "the total is divided by the count already; keep it a sum, the codebook divides.": (
            right[0], right[1] / right[0][:, None],
        ),
        "the total is right and the count has not moved: sum and count then belong to different assignments.": (
            count, right[1],
        ),
        "the count is right and the total has not moved: sum and count then belong to different assignments.": (
            right[0], total,
        ),
        "the counts are from another assignment than the sums: use `used`, not whether a code was used.": (
            0.9 * count + 0.1 * (used > 0), right[1],
        ),
        "the two came back in the wrong order: count first, then total.": (right[1], right[0]),
    }  # fmt: skip
    for words, mistake in pairs.items():
        if all(isinstance(a, Tensor) and close(a, b, 1e-6) for a, b in zip(answer, mistake, strict=True)):
            raise Mistake(words)
    for each, wanted, what in zip(answer, right, ("count", "total"), strict=True):
        need(each, Tensor, what)
        need_told_apart(each, wanted, {}, what, 1e-6)


@exercise
def perplexity(fn: Callable[..., Any]) -> None:
    """Judge perplexity(counts) -> scalar."""
    counts = torch.tensor([40.0, 20.0, 20.0, 10.0, 6.0, 4.0])
    answer, right = fn(counts.clone()), solutions.perplexity(counts)
    need(answer, Tensor, "perplexity(counts)")
    need_shape(answer, (), "perplexity(counts)")
    p = counts / counts.sum()
    entropy = -(p * p.log()).sum()
    mistakes = {
        "that is the entropy; its exponential is the perplexity.": entropy,
        "that is the entropy in bits; the perplexity is 2 to that power, or e to the natural one.": entropy
        / p.new_tensor(2).log(),
        "the logarithm is to base 2 and the exponential to base e: take the same for both.": (
            entropy / p.new_tensor(2).log()
        ).exp(),
        "the logarithm is natural and the exponential to base 2: take the same for both.": 2**entropy,
        "a minus is missing: that is one over the perplexity.": (-entropy).exp(),
        "the mean over the codes is taken; the entropy is the sum.": (entropy / 6).exp(),
        "that is the number of codes in use; perplexity weighs how often each is.": torch.tensor(6.0),
        "that is one over the chance of a double, another measure of variety; use the entropy.": 1 / p.square().sum(),
        "the counts were put through a softmax; divide them by their sum.": torch.exp(
            -torch.xlogy(counts.softmax(0), counts.softmax(0)).sum()
        ),
    }  # fmt: skip
    if not torch.isfinite(answer):
        raise Mistake("the answer is not finite: counts must become shares that sum to one first.")
    need_told_apart(answer, right, mistakes, "the perplexity", 1e-4)
    empty = fn(torch.tensor([5.0, 5.0, 0.0]))
    if not close(empty, torch.tensor(2.0), 1e-3):
        raise Mistake(
            f"right, until a code is unused: counts 5, 5, 0 give 2, and not {float(empty):.3g}. "
            "0 · log 0 is 0: use torch.xlogy."
        )
