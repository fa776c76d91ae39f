"""Checks of the exercises of notebook 07: surprise, the mask, the loss, guidance, and the draw of a code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmteach import solutions
from mmteach.judging import Mistake, close, exercise, gap, need, need_shape, need_told_apart


@exercise
def unigram_bits(fn: Callable[..., Any]) -> None:
    """Judge unigram_bits(train, test, num_codes) -> float."""
    train = torch.tensor([[0, 0, 1, 2], [0, 1, 0, 0], [3, 0, 0, 1]])
    test = torch.tensor([[0, 1, 1, 3], [2, 0, 4, 4]])
    answer, right = fn(train.clone(), test.clone(), 6), solutions.unigram_bits(train, test, 6)
    need(answer, (float, np.floating, Tensor), "unigram_bits(train, test, num_codes)")
    need_shape(answer, (), "unigram_bits(train, test, num_codes)")
    if not math.isfinite(float(answer)):
        raise Mistake(
            "the answer is not finite: a code that never occurs in train has chance 0. Add one to each count."
        )
    counts = torch.bincount(train.flatten(), minlength=6).double() + 1
    p = counts / counts.sum()
    surprise = -p.log2()[test.flatten()]
    there = torch.bincount(test.flatten(), minlength=6).double() + 1
    bare = (counts - 1) / (counts - 1).sum()
    mistakes = {
        "those are nats: take the logarithm to base 2.": surprise.mean() * math.log(2),
        "the surprises are summed over all codes; the mean is asked, bits a code.": surprise.sum(),
        "the surprises are summed over a picture; the mean is asked, bits a code.": surprise.sum() / 2,
        "a minus is missing: the logarithm of a chance is negative, a surprise is not.": -surprise.mean(),
        "that is the entropy of train; the codes of test are to be told, with the chances of train.": -(
            p * p.log2()
        ).sum(),
        "that is the entropy of test: the chances must come from train, for nobody knows test beforehand.": -(
            there / there.sum() * (there / there.sum()).log2()
        ).sum(),
        "the chances were counted on test itself: that peeks. Count on train.": -(there / there.sum()).log2()[
            test.flatten()
        ].mean(),
        "that is the logarithm of the mean chance; the mean of the logarithms is asked.": -p[test.flatten()]
        .mean().log2(),
        "train and test have changed places.": -(there / there.sum()).log2()[train.flatten()].mean(),
        "one was added to each share; add it to each count, and divide then.": -(bare + 1).log2()[
            test.flatten()
        ].mean(),
        "one was added to each count, but the shares are still of the old sum: they must sum to one.": -(
            counts / (counts.sum() - 6)
        ).log2()[test.flatten()].mean(),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the surprise", 1e-5)


@exercise
def later(fn: Callable[..., Any]) -> None:
    """Judge later(new, places) -> (new, places)."""
    _judge_mask(fn, 5, 5, "with no cache")
    _judge_mask(fn, 1, 6, "for one new place of six")
    _judge_mask(fn, 2, 5, "for two new places of five")


def _judge_mask(fn: Callable[..., Any], new: int, places: int, when: str) -> None:
    answer = fn(new, places)
    need(answer, Tensor, "later(new, places)")
    if answer.shape == (places, new) and places != new:
        raise Mistake("rows and columns have changed places: one row for each new place.")
    if answer.shape == (places, places) and places != new:
        raise Mistake(f"{when} the mask has a row for every place; only the last `new` ones look.")
    need_shape(answer, (new, places), f"{when} the mask")
    if answer.dtype == torch.bool:
        raise Mistake("that is true and false; the mask is added to scores: minus infinity, or 0.")
    row, column = torch.arange(places - new, places)[:, None], torch.arange(places)
    ahead = column > row
    zero = torch.zeros(new, places)

    def mask(hidden: Tensor) -> Tensor:
        return zero.masked_fill(hidden, float("-inf"))

    mistakes = {
        "every place is free to look ahead: nothing is hidden.": zero,
        "that hides the past and shows the future: the triangle is the wrong one.": mask(column < row),
        "a place may look at itself; it must, for the first has nothing else.": mask(column >= row),
        "every place looks one ahead: it sees the very code that it is to tell.": mask(column > row + 1),
        "the mask is the wrong way round: 0 where it may look, minus infinity where not.": mask(~ahead),
        "that multiplies: ones and zeros. Scores are added to: 0 where it may look, minus infinity where not.": (
            ~ahead
        ).float(),
        "ones where it would look ahead: added to a score, that invites it. Use minus infinity.": ahead.float(),
        "the new places are the last ones, and see all that came before; you took them for the first.": mask(
            column > torch.arange(new)[:, None]
        ),
        "plus infinity where it would look ahead: then it looks nowhere else.": zero.masked_fill(
            ahead, float("inf")
        ),
    }  # fmt: skip
    if not close(answer, mask(ahead), 0) and answer.isnan().any():
        raise Mistake(
            "there is a NaN in the mask: 0 times infinity is none. Use masked_fill, torch.where or triu."
        )
    for words, wrong in mistakes.items():
        if not close(wrong, mask(ahead), 0) and close(answer, wrong, 0):
            raise Mistake(words)
    if not close(answer, mask(ahead), 0):
        raise Mistake(
            f"{when} the mask differs from the right one at {int((answer != mask(ahead)).sum())} places."
        )


@exercise
def next_code_loss(fn: Callable[..., Any]) -> None:
    """Judge next_code_loss(logits, codes) -> scalar."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 4, 5, generator=generator)).requires_grad_()
    codes = torch.randint(5, (2, 4), generator=generator)
    answer, right = fn(logits, codes.clone()), solutions.next_code_loss(logits, codes)
    need(answer, Tensor, "next_code_loss(logits, codes)")
    if answer.shape in ((2,), (2, 4), (8,)):
        raise Mistake(
            f"the answer has shape {tuple(answer.shape)}: take the mean over all pictures and places."
        )
    need_shape(answer, (), "next_code_loss(logits, codes)")
    log_p = logits.log_softmax(2)
    told = log_p.gather(2, codes[:, :, None])[..., 0]
    again = logits.softmax(2).log_softmax(2).gather(2, codes[:, :, None])
    mistakes = {
        "a minus is missing: that is descended by telling the codes as badly as can be.": told.mean(),
        "summed over all places: the loss then grows with the batch. Take the mean.": -told.sum(),
        "summed over a picture, averaged over the batch: take the mean over places as well.": -told.sum(1).mean(),
        "those are bits; nats are asked: the natural logarithm.": -told.mean() / math.log(2),
        "each place is compared with the code after it: place t of the logits already tells code t.": -log_p[
            :, :-1
        ].gather(2, codes[:, 1:, None]).mean(),
        "each place is compared with the code before it, which it has seen.": -log_p[:, 1:]
        .gather(2, codes[:, :-1, None]).mean(),
        "only the last place counts: every place learns at once.": -told[:, -1].mean(),
        "the logits went through a softmax, and then through another in the loss: give it logits.": -again.mean(),
        "that is one minus the mean chance of the right code; its logarithm is asked.": 1 - told.exp().mean(),
        "that is minus the mean chance of the right code; its logarithm is asked.": -told.exp().mean(),
        "that is the logarithm of the mean chance; the mean of the logarithms is asked.": -told.exp().mean().log(),
        "the logits of the right code alone, without what all others take: use log_softmax.": -logits.gather(
            2, codes[:, :, None]
        ).mean(),
        "the softmax is over the places; it is over the codes, the last dimension.": -logits.log_softmax(1)
        .gather(2, codes[:, :, None]).mean(),
        "view mixes places and codes up: transpose the two, or flatten pictures and places together.": torch.nn
        .functional.cross_entropy(logits.reshape(2, 5, 4), codes),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the loss", 1e-5)
    if not answer.requires_grad:
        raise Mistake(
            "the value is right, but no gradient comes through: stay in torch, without item or detach."
        )


@exercise
def guide(fn: Callable[..., Any]) -> None:
    """Judge guide(given, null, guidance_scale) -> (B, K)."""
    generator = torch.Generator().manual_seed(0)
    given, null = torch.randn(3, 200, generator=generator), torch.randn(3, 200, generator=generator)
    kept = given.clone(), null.clone()
    answer, right = fn(given, null, 2.5), solutions.guide(given, null, 2.5)
    need(answer, Tensor, "guide(given, null, guidance_scale)")
    if not (torch.equal(given, kept[0]) and torch.equal(null, kept[1])):
        raise Mistake("it changes its inputs in place: the next place is then told from something else.")
    need_shape(answer, (3, 200), "guide(given, null, guidance_scale)")
    mistakes = {
        "the branches are swapped: it goes away from the caption. Start at null, and go towards given.": given
        + 2.5 * (null - given),
        "that counts the scale from 0, as the paper does: (1 + w) given - w null. Here 1 is no guidance: "
        "start at null.": given + 2.5 * (given - null),
        "the branches are swapped, and the scale is counted from 0: null + scale · (given - null).": given
        + 1.5 * (null - given),
        "the scale weighs given alone: the two weights must sum to one.": null + 2.5 * given,
        "the difference alone: null is to be added.": 2.5 * (given - null),
        "the difference is the wrong way round: null + scale · (given - null).": null + 2.5 * (null - given),
        "the scale counts double: its square stands there.": null + 6.25 * (given - null),
        "the scale is divided by: more would be less.": null + (given - null) / 2.5,
        "the scale is not used.": given,
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the guided logits", 1e-4)
    for scale, wanted, words in ((0.0, null, "unconditional: null"), (1.0, given, "no guidance: given")):
        found = fn(given, null, scale)
        if not close(found, wanted, 1e-4):
            off = gap(found, wanted)
            raise Mistake(f"right at 2.5, but scale {scale:g} should be {words}, and is off by {off:.3g}.")
        if not torch.equal(found, wanted):
            raise Mistake(
                f"at scale {scale:g} it is off by {gap(found, wanted):.1e}: in floating point b + 1·(a - b) is not a. "
                "Return given itself at 1."
            )


@exercise
def choose(fn: Callable[..., Any]) -> None:
    """Judge choose(logits, chance, temperature, top_k) -> int64 (B,)."""
    draws = 4000
    row = torch.tensor([1.5, -1.0, 0.5, 2.0, 0.0, 1.0])
    logits, chance = row.repeat(draws, 1), (torch.arange(draws, dtype=torch.float64) + 0.5) / draws

    def shares(temperature: float, top_k: int | None) -> Tensor:
        answer = fn(logits.clone(), chance.clone(), temperature, top_k)
        need(answer, Tensor, "choose(logits, chance, temperature, top_k)")
        need_shape(answer, (draws,), "the answer for 4,000 rows")
        if answer.dtype.is_floating_point:
            raise Mistake(
                "those are chances or logits; the number of a code is asked, an integer for each row."
            )
        if answer.min() < 0 or answer.max() >= 6:
            raise Mistake(f"code {int(answer.max())} of 6 is drawn: the codes are 0 to 5.")
        return torch.bincount(answer, minlength=6).double() / draws

    p = row.double().softmax(0)
    found = shares(1.0, None)
    if found.max() == 1:
        raise Mistake("always the same code is drawn: use the chance, not the largest logit.")
    told = {
        "that draws every code alike: the logits are not used.": torch.full((6,), 1 / 6, dtype=torch.float64),
        "the logits are taken for chances: put them through a softmax.": _law(row.clamp_min(0).double()),
        "that favours the unlikely: the sign of the logits is flipped.": (-row.double()).softmax(0),
        "each code is drawn with the chance of the one before it: the count is off by one.": p.roll(
            1
        ).double(),
    }
    _need_law(found, p, told, "temperature 1")
    told = {
        "the temperature changes nothing. Chances that are divided by it and made to sum to one again are what they "
        "were: divide the logits, before the softmax.": p,
        "the logits are multiplied by the temperature: divide, so that more means more varied.": (
            2 * row.double()
        ).softmax(0),
        "the chances are divided by the temperature after the softmax, and no longer sum to one.": _piece(
            p / 2
        ),
        "the temperature's square stands there.": (row.double() / 4).softmax(0),
    }
    _need_law(shares(2.0, None), (row.double() / 2).softmax(0), told, "temperature 2")
    two = torch.tensor([1.0, 0, 0, 1, 0, 0], dtype=torch.float64)
    told = {
        "top_k is not used.": p,
        "the first k codes by number are kept; keep the k likeliest.": _law(
            p * torch.tensor([1.0, 1, 0, 0, 0, 0])
        ),
        "the k least likely are kept.": _law(p * torch.tensor([0.0, 1, 0, 0, 1, 0])),
        "k + 1 codes are left: the limit is the k-th largest logit itself.": _law(
            p * torch.tensor([1.0, 0, 0, 1, 0, 1])
        ),
        "one code too few is left: keep those that equal the k-th largest logit.": _law(p * (row == 2)),
        "the others are set to logit 0, which is still drawn: minus infinity.": torch.where(
            two > 0, row, 0.0
        ).double().softmax(0),
        "the k likeliest are all drawn alike: their logits still count.": two / 2,
    }  # fmt: skip
    _need_law(shares(1.0, 2), _law(p * two), told, "top_k 2")
    greedy = fn(logits[:3].clone(), chance[[0, 2000, 3999]], 0.0, None)
    if not (isinstance(greedy, Tensor) and greedy.shape == (3,) and (greedy == 3).all()):
        raise Mistake("right above 0, but temperature 0 should take the likeliest code, whatever the chance.")
    edge = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).repeat(2, 1)
    at = fn(edge, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), 1.0, None)
    if not close(at, torch.tensor([1, 2]), 0):
        raise Mistake("right, until chance is exactly 0 or nearly 1: then a code of chance 0 is drawn.")


def _law(weights: Tensor) -> Tensor:
    return weights.double() / weights.sum()


def _piece(pieces: Tensor) -> Tensor:
    """Return how often each code is drawn when `pieces` of the line leave a rest, which goes to the last."""
    ends = pieces.cumsum(0).clamp(max=1)
    found = torch.diff(ends, prepend=ends.new_zeros(1))
    found[-1] += 1 - ends[-1]
    return found


def _need_law(found: Tensor, right: Tensor, mistakes: dict[str, Tensor], when: str) -> None:
    """Raise Mistake unless shares (K,) of evenly spaced chances are `right`, to within two draws of 4,000."""
    if close(found, right, 6e-4):
        return
    for words, law in mistakes.items():
        if close(found, law, 6e-4):
            raise Mistake(words)
    code = int((found - right).abs().argmax())
    raise Mistake(
        f"with {when} code {code} is drawn in {float(found[code]):.1%} of all cases, and should be in "
        f"{float(right[code]):.1%}."
    )
