"""Checks of the exercises of notebook 04: the losses of the game, its penalty, the average, the distance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmteach import solutions
from mmteach.judging import Mistake, close, exercise, need, need_shape, need_told_apart


def _logits() -> tuple[Tensor, Tensor]:
    """Return float64 logits (6,) of real and fake pictures, both signs among each."""
    real = torch.tensor([2.0, 0.3, -1.1, 0.8, -0.2, 1.7], dtype=torch.float64)
    fake = torch.tensor([-0.9, 0.6, -2.1, 1.4, 0.1, -0.5], dtype=torch.float64)
    return real, fake


def _need_scalar(answer: Any, what: str) -> None:
    """Raise Mistake unless `answer` is a tensor of no dimension."""
    need(answer, Tensor, what)
    if answer.shape == (6,):
        raise Mistake("you give one loss a picture; the mean over the batch is asked.")
    need_shape(answer, (), what)


def _need_slope(fn: Callable[..., Any], huge: tuple[float, float]) -> None:
    """Raise Mistake when the loss lets no gradient through to the fakes, or breaks at `huge` (real, fake) logits."""
    real, fake = _logits()
    fake.requires_grad_()
    answer = fn(real, fake)
    if not answer.requires_grad:
        raise Mistake(
            "the value is right, but no gradient reaches the logits: stay in torch, without item() or detach()."
        )
    far = [torch.full((1,), each, dtype=torch.float64) for each in huge]
    if not torch.isfinite(fn(*far)).all():
        raise Mistake(
            "right, until a logit gets large: the sigmoid is then 0 and its log infinite. Use softplus."
        )


@exercise
def nonsaturating_g_loss(fn: Callable[..., Any]) -> None:
    """Judge nonsaturating_g_loss(real_logits, fake_logits) -> scalar."""
    real, fake = _logits()
    answer, right = fn(real.clone(), fake.clone()), solutions.nonsaturating_g_loss(real, fake)
    _need_scalar(answer, "nonsaturating_g_loss(real_logits, fake_logits)")
    mistakes = {
        "the sign inside is flipped: that is -log(1 - D), which falls when the fakes are caught.": F.softplus(
            fake
        ),
        "that is log(1 - D), the saturating loss: its slope is gone where the fakes are caught.": -F.softplus(
            fake
        ),
        "that is log D: minimising it makes the fakes worse. Put a minus before it.": -F.softplus(-fake),
        "that is the loss of the hinge game, minus the mean logit; take -log of the sigmoid.": -fake,
        "you judge the real pictures; the generator is paid for its fakes.": F.softplus(-real),
        "that is -D; the logarithm is missing.": -fake.sigmoid(),
        "that takes the logit for a probability: put it through the sigmoid first.": -fake.abs().log(),
        "the real logits have no part in this loss.": F.softplus(-fake) + F.softplus(-real),
        "the sum is there; the mean over the batch is asked.": 6 * F.softplus(-fake),
    }
    need_told_apart(answer, right, {words: each.mean() for words, each in mistakes.items()}, "the loss")
    _need_slope(fn, (0.0, -1000.0))


@exercise
def relativistic_loss(fn: Callable[..., Any]) -> None:
    """Judge relativistic_loss(real_logits, fake_logits) -> scalar."""
    real, fake = _logits()
    answer, right = fn(real.clone(), fake.clone()), solutions.relativistic_loss(real, fake)
    _need_scalar(answer, "relativistic_loss(real_logits, fake_logits)")
    mistakes = {
        "the sign is flipped: that loss rewards a discriminator that ranks fakes above real pictures.": F.softplus(
            real - fake
        ),
        "each picture is judged alone: that is the non-saturating loss. Take the difference of the pair first.": (
            F.softplus(-real) + F.softplus(fake)
        ),
        "the sign is off: the log of a probability is negative, and a loss is minus that.": -F.softplus(fake - real),
        "the difference itself is there; the softplus around it is missing, so the loss has no floor.": fake - real,
        "that is the sigmoid of the difference; its logarithm is missing.": (fake - real).sigmoid(),
        "a hinge is there; the logistic loss is asked.": F.relu(1 + fake - real),
        "the sum is there; the mean over the batch is asked.": 6 * F.softplus(fake - real),
        "that compares each picture with the mean of the other kind, as an older version did; take the pairs.": (
            F.softplus(fake - real.mean()) + F.softplus(fake.mean() - real)
        ) / 2,
    }  # fmt: skip
    table = {words: each.mean() for words, each in mistakes.items()}
    means = "the means are compared first; take the loss of each pair, then the mean."
    every = "every real picture is compared with every fake; take pairs: the first with the first, and so on."
    table[means] = F.softplus(fake.mean() - real.mean())
    table[every] = F.softplus(fake[:, None] - real[None]).mean()
    need_told_apart(answer, right, table, "the loss")
    _need_slope(fn, (-1000.0, 1000.0))


@exercise
def gradient_penalty(fn: Callable[..., Any]) -> None:
    """Judge gradient_penalty(logits, x) -> scalar."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(18, generator=generator, dtype=torch.float64, requires_grad=True)

    def logits() -> Tensor:
        return (x.flatten(1) @ weight).tanh() + x.flatten(1).square().sum(1) * 0.1

    answer, right = fn(logits(), x), solutions.gradient_penalty(logits(), x)
    need(answer, Tensor, "gradient_penalty(logits, x)")
    if answer.shape == (4,):
        raise Mistake("you give one number a picture; the mean over the batch is asked.")
    need_shape(answer, (), "gradient_penalty(logits, x)")
    (slope,) = torch.autograd.grad(logits().sum(), x)
    squared = slope.square().flatten(1).sum(1)
    mistakes = {
        "that is the mean length; the length squared is asked.": squared.sqrt().mean(),
        "that is the distance of the length from 1, as in WGAN-GP; R1 pulls the slope to 0.": (
            squared.sqrt() - 1
        ).square().mean(),
        "that is the mean over all pixels; sum the squares over the pixels of a picture.": slope.square().mean(),
        "the squares are summed over the batch as well; take the mean over the pictures.": squared.sum(),
        "the gradient of the *mean* logit is small by the batch size: use the sum, and average afterwards.": (
            squared / 16
        ).mean(),
        "the slopes are added up before they are squared, so that they cancel; square first.": (
            slope.flatten(1).sum(1).square().mean()
        ),
        "gamma / 2 is the caller's business; leave the half out.": squared.mean() / 2,
        "that is the squared logit; its slope with respect to x is asked.": logits().square().mean(),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the penalty")
    if not answer.requires_grad:
        raise Mistake(
            "the value is right, but it cannot be descended: torch.autograd.grad needs create_graph=True."
        )
    if not close(
        torch.autograd.grad(fn(logits(), x), weight)[0], torch.autograd.grad(right, weight)[0], 1e-6
    ):
        raise Mistake("the value is right, but its own gradient is not: part of the graph is cut off.")


class _Small(nn.Module):
    """Two weights and a buffer, as a generator with BatchNorm has."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(2, 3, generator=generator))
        self.bias = nn.Parameter(torch.randn(3, generator=generator))
        self.register_buffer("seen", torch.randn(3, generator=generator))


@exercise
def ema_update(fn: Callable[..., Any]) -> None:
    """Judge ema_update(averaged, model, decay), which changes `averaged` in place and returns nothing."""
    averaged, model = _Small(0), _Small(1)
    old, new = copy.deepcopy(averaged).state_dict(), copy.deepcopy(model).state_dict()
    given = getattr(fn, "__wrapped__", fn)  # it answers with None by design, which is not "not yet"
    given(averaged, model, 0.9)
    now = averaged.state_dict()
    if any(not torch.equal(each, new[name]) for name, each in model.state_dict().items()):
        raise Mistake("your function changes the model itself; only the average may move.")
    if all(torch.equal(now[name], old[name]) for name in now):
        raise Mistake(
            "the average has not moved: change its tensors in place (copy_, lerp_, mul_), not their names."
        )
    if any(p is q for p, q in zip(averaged.parameters(), model.parameters(), strict=True)):
        raise Mistake("the average now holds the model's own tensors, so it will follow every step at once.")
    need_told_apart(
        now["weight"], 0.9 * old["weight"] + 0.1 * new["weight"],
        {
            "the shares are swapped: `decay` is the share of the old average, and it is close to 1.":
                0.1 * old["weight"] + 0.9 * new["weight"],
            "the old average is kept whole and the new one added to it: the shares must sum to one.":
                old["weight"] + 0.1 * new["weight"],
            "that is a copy of the model; the average must remember.": new["weight"],
            "that is the plain mean of the two; `decay` is not used.": (old["weight"] + new["weight"]) / 2,
            "the average only shrinks: the model's share is missing.": 0.9 * old["weight"],
        },
        "the averaged weight", 1e-6,
    )  # fmt: skip
    if not close(now["bias"], 0.9 * old["bias"] + 0.1 * new["bias"], 1e-6):
        raise Mistake("only the first weight is averaged; go through all of them.")
    if close(now["seen"], old["seen"], 1e-6):
        raise Mistake(
            "the buffers stay behind (BatchNorm keeps its running mean in one): copy them from the model."
        )
    if not close(now["seen"], new["seen"], 1e-6):
        raise Mistake("buffers are running means already: copy them, do not average them again.")
    if any(each.requires_grad and each.grad_fn is not None for each in averaged.parameters()):
        raise Mistake("the average drags the graph of every step along: work under torch.no_grad().")


@exercise
def frechet_distance(fn: Callable[..., Any]) -> None:
    """Judge frechet_distance(real, fake) -> number."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(40, 3)) @ np.array([[2.0, 0.3, 0.1], [0, 1.0, -0.4], [0, 0, 0.5]])
    fake = rng.normal(size=(60, 3)) @ np.array([[1.0, 0, 0], [0.8, 1.5, 0], [0.2, 0, 1.0]]) + [1.0, 0, -0.5]
    answer, right = fn(real.copy(), fake.copy()), solutions.frechet_distance(real, fake)
    need(answer, (float, complex, np.number), "frechet_distance(real, fake)")
    if isinstance(answer, (complex, np.complexfloating)):
        raise Mistake(
            "the answer is complex: rounding leaves a tiny imaginary part in the root. Take .real of it."
        )
    apart, root = np.square(real.mean(0) - fake.mean(0)).sum(), _root_trace
    s_r, s_f = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    spread = np.trace(s_r) + np.trace(s_f)
    v_r, v_f = np.diag(np.diag(s_r)), np.diag(np.diag(s_f))
    mistakes = {
        "the factor 2 before the root is missing.": apart + spread - root(s_r, s_f),
        "only the variances are used; the covariances between features count too.": apart + spread
        - 2 * root(v_r, v_f),
        "the distance of the means is not squared.": np.sqrt(apart) + spread - 2 * root(s_r, s_f),
        "the distance of the means is missing.": spread - 2 * root(s_r, s_f),
        "only the means are compared; the spread counts too.": apart,
        "the root of the product is missing: that is tr(S_r + S_f - 2 S_r S_f).": apart + spread
        - 2 * np.trace(s_r @ s_f),
        "that root was taken entry by entry; a matrix root is meant: R with R R = S_r S_f.": apart + spread
        - 2 * np.sqrt(np.maximum(np.diag(s_r @ s_f), 0)).sum(),
        "the sign before the root is flipped: equal sets must be 0 apart.": apart + spread + 2 * root(s_r, s_f),
        "that is the root of the distance; it is given squared.": np.sqrt(right),
        "the means are averaged over the features; sum their squared differences.": apart / 3 + spread
        - 2 * root(s_r, s_f),
    }  # fmt: skip
    need_told_apart(answer, right, mistakes, "the distance", 1e-6 * float(right))
    flat = np.concatenate([real, real[:, :1]], axis=1), np.concatenate([fake, fake[:, :1]], axis=1)
    wanted, found = solutions.frechet_distance(*flat), fn(*flat)
    if not abs(complex(found) - wanted) < 1e-4 * wanted:
        raise Mistake(
            f"right, but with a feature that repeats another it gives {found:.3g} where {wanted:.3g} is right: "
            "eigenvalues that should be zero round to a little below."
        )


def _root_trace(a: np.ndarray, b: np.ndarray) -> float:
    """Return the trace of the matrix root of a b, both symmetric and positive."""
    return float(np.sqrt(np.maximum(np.linalg.eigvals(a @ b).real, 0)).sum())
