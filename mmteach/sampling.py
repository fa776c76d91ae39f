"""Sampling: how a prior's chances become codes and pictures, with guidance, style odds, lent certainty, and dice.

Built in notebook 07, on the network of `prior`. Follows Ho and Salimans 2022 (arXiv:2207.12598) for guidance and
Krause et al. 2020 (arXiv:2009.06367) for style odds; lending is a logarithmic opinion pool (Genest and Zidek 1986).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmteach.train import one_thread, to_pictures
from mmteach.vqvae import VQVAE

if TYPE_CHECKING:
    from mmteach.prior import TokenPrior

AT_ONCE = 64  # pictures drawn side by side; more would only fill memory with keys and values
SURER = 0.5  # bits a code by which another style must be surer of a caption before it lends


@torch.no_grad()
@one_thread()
def sample_codes(
    model: TokenPrior, captions: Sequence[str], *, styles: str | Sequence[str] | None = None,
    guidance_scale: float = 1.0, style_scale: float = 0.0, lend: float = 0.0, lender: str | None = None,
    temperature: float = 1.0, top_k: int | None = None, seed: int = 0, fixed: Tensor | None = None,
    cached: bool = True,
) -> Tensor:  # fmt: skip
    """Return codes int64 (n, T) for n captions; picture i draws its numbers from seed + i, whatever the batch.

    styles: one for all, one each, or None: each picture's seed picks one. guidance_scale: 1 is off, see `guide`;
    style_scale: 0 is off, see `style_odds`. lend: 0 is off, and lender: the style that lends, or None to look for one
    for each picture, see `lenders`. fixed: codes int64 (n, T) to keep, -1 where one is to be drawn. cached: keep keys
    and values from place to place; without, all is worked out anew each time. Raises ValueError on an unknown style, a
    number of styles or fixed codes that differs, or settings out of range.
    """
    check_settings(guidance_scale, temperature, top_k, style_scale, lend)
    if style_scale and len(model.styles) < 2:
        raise ValueError("style_scale tells a style from the others, and this model knows one style only")
    if isinstance(captions, str):
        raise ValueError("captions is a list of strings; for one picture give [caption]")
    count, where, tokens = len(captions), model.place.device, model.shape.tokens
    chance = torch.empty(count, tokens + 1, dtype=torch.float64)
    for number in range(count):
        chance[number] = _numbers(seed + number, tokens + 1)
    style = _style_codes(model, styles, count, chance[:, -1]).to(where)
    named = None if lender is None else _style_codes(model, lender, count, chance).to(where)
    fixed = torch.full((count, tokens), -1) if fixed is None else fixed
    _check_fixed(fixed, (count, tokens), model.shape.codes)
    if not count:
        return fixed
    if count > AT_ONCE:
        names, parts = [model.styles[each] for each in style.tolist()], range(0, count, AT_ONCE)
        return torch.cat([
            sample_codes(
                model, captions[i : i + AT_ONCE], styles=names[i : i + AT_ONCE], guidance_scale=guidance_scale,
                style_scale=style_scale, lend=lend, lender=lender, temperature=temperature, top_k=top_k,
                seed=seed + i, fixed=fixed[i : i + AT_ONCE], cached=cached,
            ) for i in parts
        ])  # fmt: skip
    wanted = list(captions) if guidance_scale else [""] * count
    other = style
    if lend and guidance_scale:
        other = lenders(model, wanted, style, lend) if named is None else named
    share = lend * (other != style)[:, None].to(model.place.dtype)
    both, borrowed = guidance_scale not in (0, 1), bool(share.any())
    asked = _branches(wanted, [style, other] if borrowed else [style], both)
    if style_scale:
        asked += [(wanted, (style + more) % len(model.styles)) for more in range(1, len(model.styles))]

    def draw(place: int, logits: Tensor) -> Tensor:
        pairs = [_guided(model, each, guidance_scale) for each in logits.split(1 + both)[: 1 + borrowed]]
        steered = pairs[0] + share * (pairs[1] - pairs[0]) if borrowed else pairs[0]
        if style_scale:
            steered = steered + style_scale * style_odds(logits[0], logits[(1 + both) * (1 + borrowed) :])
        drawn = model.rules.choose(steered, chance[:, place].to(where), temperature, top_k)
        kept = fixed[:, place].to(where)
        return torch.where(kept >= 0, kept, drawn)

    return _write(model, asked, draw, cached)


@torch.no_grad()
@one_thread()
def lenders(model: TokenPrior, captions: Sequence[str], style: Tensor, lend: float) -> Tensor:
    """Return for n captions in styles int64 (n,) the style that lends its certainty, or the own one, int64 (n,).

    A style may lack what a caption asks for, and another know it by heart. Then chances can be pooled: the logits are
    (1 - lend) * own + lend * lender's, and where the own style hardly cares which code comes next the lender decides.
    A style may lend where it doubts a caption less by at least SURER bits a code; of several the one with which the
    pool doubts it least. See `doubt`.
    """
    asked, count = list(zip(captions, style.tolist(), strict=True)), len(model.styles)
    names = list(dict.fromkeys(captions))
    every = torch.arange(count, device=style.device).repeat(len(names))
    alone = doubt(model, [name for name in names for _ in range(count)], every).view(-1, count)
    unsure = dict(zip(names, alone.tolist(), strict=True))
    may = [
        (name, own, other) for name, own in dict.fromkeys(asked) for other in range(count)
        if unsure[name][own] - unsure[name][other] >= SURER
    ]  # fmt: skip
    own, other = (torch.tensor([each[i] for each in may], dtype=torch.int64).to(style) for i in (1, 2))
    together = doubt(model, [name for name, _, _ in may], own, other, lend).tolist()
    best: dict[tuple[str, int], tuple[float, int]] = {}
    for (name, mine, lender), bits in zip(may, together, strict=True):
        best[name, mine] = min(best.get((name, mine), (np.inf, mine)), (bits, lender))
    return torch.tensor([best.get(each, (0.0, each[1]))[1] for each in asked], dtype=torch.int64).to(style)


@torch.no_grad()
@one_thread()
def doubt(
    model: TokenPrior, captions: Sequence[str], style: Tensor, lender: Tensor | None = None, lend: float = 0.0
) -> Tensor:
    """Return how unsure the network is of n captions in styles int64 (n,), in bits a code: float (n,).

    It writes the likeliest code at each place, and the bits are those of the codes that it writes: near 0 for a picture
    known by heart, 1 where the likeliest code has an even chance. lender: styles int64 (n,) that it is pooled with.
    """
    if len(captions) > AT_ONCE:
        parts = torch.arange(len(captions)).split(AT_ONCE)
        return torch.cat([
            doubt(model, [captions[i] for i in part], style[part], None if lender is None else lender[part], lend)
            for part in parts
        ])  # fmt: skip
    if not captions:
        return torch.empty(0)
    bits = []

    def likeliest(place: int, logits: Tensor) -> Tensor:
        pooled = logits[0] if lender is None else logits[0] + lend * (logits[1] - logits[0])
        best = pooled.log_softmax(-1).max(-1)
        bits.append(-best.values / np.log(2))
        return best.indices

    _write(model, [(list(captions), each) for each in (style, lender) if each is not None], likeliest)
    return torch.stack(bits).mean(0)


def style_odds(given: Tensor, others: Tensor) -> Tensor:
    """Return log p(code | style) - log sum over the other styles of p(code | style'), (n, K).

    given: logits (n, K) in the style asked for; others: (S - 1, n, K), all else the same. By Bayes' rule these are the
    log-odds of the style when the next code is seen and all styles were as likely before: the network is its own judge
    of style. After Krause et al. 2020, "GeDi" (arXiv:2009.06367), there over whole sentences.
    """
    return given.log_softmax(-1) - others.log_softmax(-1).logsumexp(0)


Branch = tuple[list[str], Tensor]  # n captions and their styles, int64 (n,)


def _branches(wanted: list[str], styles: Sequence[Tensor], both: bool) -> list[Branch]:
    """Return what the network is asked in each of some styles: what is wanted and, for guidance, nothing."""
    asked = [wanted, [""] * len(wanted)] if both else [wanted]
    return [(captions, style) for style in styles for captions in asked]


def _guided(model: TokenPrior, logits: Tensor, guidance_scale: float) -> Tensor:
    """Return logits (n, K) from those with a caption and, where guidance asks for them, without: (1 or 2, n, K)."""
    return model.rules.guide(logits[0], logits[1], guidance_scale) if len(logits) == 2 else logits[0]


def _write(
    model: TokenPrior, branches: Sequence[Branch], draw: Callable[[int, Tensor], Tensor], cached: bool = True
) -> Tensor:
    """Return codes int64 (n, T), written place by place as `draw` chooses from the place and logits (B, n, K)."""
    style = torch.cat([each for _, each in branches])
    meaning = model.meaning([caption for captions, _ in branches for caption in captions], style)
    codes = torch.empty(len(branches[0][0]), 0, dtype=torch.int64, device=style.device)
    cache: list[Any] | None = [] if cached else None
    for place in range(model.shape.tokens):
        logits = model(codes.repeat(len(branches), 1), meaning, cache)[:, -1]
        codes = torch.cat([codes, draw(place, logits.unflatten(0, (len(branches), -1)))[:, None]], 1)
    return codes


def check_settings(
    guidance_scale: float, temperature: float, top_k: int | None, style_scale: float = 0.0, lend: float = 0.0
) -> None:
    """Raise ValueError when a setting of `sample` is out of range."""
    if not (np.isfinite(guidance_scale) and guidance_scale >= 0):
        raise ValueError(f"guidance_scale must be at least 0 (1 is no guidance), got {guidance_scale}")
    if not (np.isfinite(style_scale) and style_scale >= 0):
        raise ValueError(f"style_scale must be at least 0 (0 is off), got {style_scale}")
    if not 0 <= lend <= 1:
        raise ValueError(f"lend must be from 0 (off) to 1 (the lender alone), got {lend}")
    if not (np.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be at least 0 (0 takes the likeliest code), got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for all codes, got {top_k}")


def _check_fixed(fixed: Tensor, shape: tuple[int, int], codes: int) -> None:
    if fixed.shape != shape:
        raise ValueError(f"fixed must be codes {shape}, got {tuple(fixed.shape)}")
    if fixed.numel() and not -1 <= int(fixed.min()) <= int(fixed.max()) < codes:
        raise ValueError(f"fixed codes must be from 0 to {codes - 1}, or -1 where one is to be drawn")


def _numbers(seed: int, count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _style_codes(model: TokenPrior, styles: str | Sequence[str] | None, count: int, chance: Tensor) -> Tensor:
    """Return the number of each picture's style, int64 (n,)."""
    if styles is None:
        return (chance * len(model.styles)).long()
    names = [styles] * count if isinstance(styles, str) else list(styles)
    if len(names) != count:
        raise ValueError(f"{count} captions but {len(names)} styles")
    unknown = sorted(set(names) - set(model.styles))
    if unknown:
        raise ValueError(f"no style {unknown[0]!r}; this model draws in {', '.join(model.styles)}")
    return torch.tensor([model.styles.index(name) for name in names], dtype=torch.int64)


def sample(
    model: TokenPrior, captions: Sequence[str], *, styles: str | Sequence[str] | None = None,
    guidance_scale: float = 2.0, style_scale: float = 0.0, lend: float = 0.0, lender: str | None = None,
    temperature: float = 0.8, top_k: int | None = None, seed: int = 0, fixed: Tensor | None = None,
) -> np.ndarray:  # fmt: skip
    """Return pictures uint8 (n, H, W, C) for n captions; see `sample_codes` for the settings and errors."""
    codes = sample_codes(
        model, captions, styles=styles, guidance_scale=guidance_scale, style_scale=style_scale, lend=lend,
        lender=lender, temperature=temperature, top_k=top_k, seed=seed, fixed=fixed,
    )  # fmt: skip
    return draw(model.vqvae, codes)


def draw(vqvae: VQVAE, codes: Tensor) -> np.ndarray:
    """Return pictures uint8 (n, H, W, C) for sentences of codes int64 (n, T), T a square number."""
    side = round(codes.shape[1] ** 0.5)
    codes = codes.to(next(vqvae.parameters()).device)
    parts = [vqvae.decode_tokens(part.unflatten(1, (side, side))) for part in codes.split(256)]
    return (
        np.concatenate([to_pictures(part) for part in parts])
        if len(codes)
        else np.zeros((0, 32, 32, 3), np.uint8)
    )
