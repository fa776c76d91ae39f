"""The prior: a decoder-only transformer that writes pictures as sentences of codes, given a caption and a style.

Built in notebook 07, on the codes of `vqvae`. Follows Vaswani et al. 2017 (arXiv:1706.03762), Ramesh et al. 2021
(arXiv:2102.12092), and Ho and Salimans 2022 (arXiv:2207.12598) for guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.captions import CaptionBag, words
from mmteach.engine import Scalars, Stateful, run_steps
from mmteach.sampling import draw as draw
from mmteach.sampling import lenders as lenders
from mmteach.sampling import sample as sample
from mmteach.sampling import sample_codes as sample_codes
from mmteach.sampling import style_odds as style_odds
from mmteach.solutions import choose, guide, later, next_code_loss
from mmteach.solutions import unigram_bits as unigram_bits
from mmteach.train import (
    Muon,
    batches,
    device,
    drawn_batches,
    ema_update,
    fast_bfloat16,
    one_cycle,
    seed_everything,
)
from mmteach.vqvae import VQVAE
from mmteach.vqvae import load_pretrained as load_vqvae
from mmteach.weights import load_weights

Past = tuple[Tensor, Tensor]  # keys and values of all places so far, (B, heads, T, W / heads) each


@dataclass(frozen=True)
class Shape:
    """All sizes of a prior: tokens a picture, codes, styles, ways (see `train_prior`), and the network's own."""

    tokens: int = 64
    codes: int = 512
    styles: int = 7
    ways: int = 1
    width: int = 192
    depth: int = 4
    heads: int = 4
    words: int = 64
    buckets: int = 4096
    rare: bool = False
    word_places: int = 0
    layout: int = 16
    prefix: int = 2
    dropout: float = 0.1

    @property
    def before(self) -> int:
        """How many places stand before the first code; the first code is told from the last of them."""
        return self.word_places + self.prefix


class Meaning(NamedTuple):
    """What is asked for: a prefix (B, P, W) of words and of the whole, hints (B, T, W), and the style int64 (B,)."""

    prefix: Tensor
    hints: Tensor
    style: Tensor


class Rules(NamedTuple):
    """The rules that notebook 07 has its reader write: the mask of the future, guidance, and the choice of a code."""

    later: Callable[[int, int], Tensor] = later
    guide: Callable[[Tensor, Tensor, float], Tensor] = guide
    choose: Callable[[Tensor, Tensor, float, int | None], Tensor] = choose


def thin(x: Tensor, share: float) -> Tensor:
    """Return x (B, T, W) with a share of each sentence's channels left out at all places, the rest scaled up for it.

    Dropout that draws B * W numbers instead of B * T * W: on a processor the drawing is what costs.
    """
    if share == 0:
        return x
    kept = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= share
    return x * kept.to(x.dtype) / (1 - share)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the style scales and shifts what each norm lets through."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, self.heads, self.dropout = shape.width, shape.heads, shape.dropout
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.style = nn.Embedding(shape.styles, 4 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.style.weight)

    def forward(self, x: Tensor, style: Tensor, mask: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """x: (B, T, W), style: int64 (B,), mask: (T, places so far) -> (B, T, W), and all keys and values so far."""
        scale_1, shift_1, scale_2, shift_2 = self.style(style)[:, None].chunk(4, dim=2)
        mixed, kept = self.attend(self.norm_1(x) * (1 + scale_1) + shift_1, mask, past)
        x = x + thin(mixed, self.dropout * self.training)
        return x + thin(
            self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2), self.dropout * self.training
        ), kept

    def attend(self, x: Tensor, mask: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Every place looks where the mask is zero; `past` holds what earlier calls have seen."""
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in self.qkv(x).chunk(3, 2))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        scores = q @ k.transpose(2, 3) * k.shape[3] ** -0.5
        mixed = (scores + mask).softmax(3).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).flatten(2)), (k, v)


class TokenPrior(nn.Module):
    """Codes so far, caption and style to logits of the next code; carries the VQ-VAE that draws the codes.

    The caption enters three times: its first words as `word_places` that every code may look at, all of it as `prefix`
    places, and as hints, one for each place, so that what is asked for need not be fetched by attention alone.
    """

    vqvae: VQVAE
    looks: Tensor

    def __init__(self, vqvae: VQVAE, shape: Shape, styles: Sequence[str]) -> None:
        super().__init__()
        self.shape, self.styles, self.rules = shape, tuple(styles), Rules()
        self.history: list[Scalars] = []
        object.__setattr__(self, "vqvae", vqvae)  # carried, but neither trained nor saved with this network
        width = shape.width
        self.bag = CaptionBag(shape.words, shape.buckets, rare=shape.rare)
        if shape.word_places:
            self.word, self.no_word = nn.Linear(shape.words, width), nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.bag.table.weight, std=0.1)
        self.understand = nn.Sequential(
            nn.Linear(shape.words, 2 * width), nn.GELU(), nn.Dropout(shape.dropout),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        self.null = nn.Parameter(torch.zeros(width))
        self.code, self.style = nn.Embedding(shape.codes, width), nn.Embedding(shape.styles, width)
        self.way, self.look = (
            nn.Embedding(shape.ways, width),
            nn.Linear(vqvae.quantizer.dim, width, bias=False),
        )
        self.register_buffer("looks", _looks(vqvae, shape.codes), persistent=False)
        self.place = nn.Parameter(0.02 * torch.randn(shape.before + shape.tokens - 1, width))
        self.to_prefix = nn.Linear(width, shape.prefix * width)
        self.to_layout = nn.Linear(width, shape.tokens * shape.layout)
        self.from_layout = nn.Linear(shape.layout, width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(width)
        for part in (self.code, self.style, self.way, self.look):
            nn.init.normal_(part.weight, std=0.03)

    def read(self, captions: Sequence[str]) -> Tensor:
        """Return what captions mean to the prior, (B, W); one without a word it knows means the learned null."""
        known = self.bag.known(captions).to(self.null.device)
        return torch.where(known[:, None], self.understand(self.bag(captions)), self.null)

    def read_words(self, captions: Sequence[str]) -> Tensor:
        """Return a place for each of a caption's first words, (B, P, W); words it does not know leave theirs empty."""
        most, found = self.shape.word_places, list[str]()
        for caption in captions:
            few = words(caption)[:most]
            found += few + [""] * (most - len(few))
        known = self.bag.known(found).to(self.null.device)
        read = torch.where(known[:, None], self.word(self.bag(found)), self.no_word)
        return read.unflatten(0, (-1, most))

    def meaning(self, captions: Sequence[str], style: Tensor, way: Tensor | None = None) -> Meaning:
        """Return what the network is conditioned on, for B captions, styles int64 (B,) and ways int64 (B,)."""
        asked = (
            self.read(captions)
            + self.style(style)
            + self.way(torch.zeros_like(style) if way is None else way)
        )
        prefix = self.to_prefix(asked).unflatten(1, (self.shape.prefix, -1))
        if self.shape.word_places:
            prefix = torch.cat([self.read_words(captions), prefix], 1)
        hints = self.from_layout(F.gelu(self.to_layout(asked).unflatten(1, (self.shape.tokens, -1))))
        return Meaning(prefix, hints, style)

    def forward(self, seen: Tensor, meaning: Meaning, cache: list[Past] | None = None) -> Tensor:
        """Return logits (B, t + 1, K) for the places up to the one after `seen`, codes int64 (B, t).

        With `cache`, a list that is empty at first and is filled here, only the last place is worked out: (B, 1, K).
        """
        first = self.shape.before - 1
        table = self.code.weight + self.look(self.looks)
        x = torch.cat([meaning.prefix, F.embedding(seen, table)], 1) + self.place[: first + 1 + seen.shape[1]]
        x = torch.cat([x[:, :first], x[:, first:] + meaning.hints[:, : seen.shape[1] + 1]], 1)
        start, places = (-1 if cache else 0), x.shape[1]
        x, kept = thin(x[:, start:], self.shape.dropout * self.training), []
        mask = self.rules.later(x.shape[1], places).to(x)
        for number, block in enumerate(self.blocks):
            x, past = block(x, meaning.style, mask, cache[number] if cache else None)
            kept.append(past)
        if cache is not None:
            cache[:], x = kept, x[:, -1:]
        else:
            x = x[:, first:]
        return F.linear(self.norm(x), table)


@torch.no_grad()
def _looks(vqvae: VQVAE, count: int) -> Tensor:
    """Return the codebook's vectors (K, D), each number of mean 0 and variance 1: codes that look alike lie close."""
    vectors = vqvae.quantizer.lookup(torch.arange(count)[None, None])[0, :, 0].T.float()
    return ((vectors - vectors.mean(0)) / vectors.std(0)).contiguous()


@dataclass(frozen=True)
class Corpus:
    """Pictures as a prior learns them.

    codes: int64 (N, V, T), each picture in V ways (as it is, mirrored, shifted, …); way 0 is as it is
    styles: int64 (N,), the number of each picture's style
    captions: for each picture what it may be called; one is drawn each time
    odds: float (N,), how often each picture is drawn against the others; without, all equally often
    """

    codes: Tensor
    styles: Tensor
    captions: Sequence[Sequence[str]]
    odds: Tensor | None = None


@dataclass(frozen=True)
class Settings:
    """How a prior is trained: see `train_prior`."""

    steps: int
    batch_size: int = 64
    lr: float = 2e-3
    drop_caption: float = 0.1
    drop_code: float = 0.1
    average: float = 0.999
    weight_decay: float = 0.05
    muon: float = 0.02
    as_it_is: float = 0.3
    count_words: bool = True


def train_prior(
    model: TokenPrior, corpus: Corpus, settings: Settings, *, seed: int, held: Corpus | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None, checkpoint: Path | None = None, every: int = 100,
    progress: Callable[[int, Scalars], None] | None = None,
) -> TokenPrior:  # fmt: skip
    """Train `model` on a corpus and return it in eval mode, its weights averaged over the last steps; see `history`.

    Each step draws a way and a caption for each picture. drop_caption: the share of captions replaced by the null
    caption, for guidance. drop_code: the share of codes replaced by random ones in what the model sees, for its own
    mistakes will come. count_words: how rare a word is, is counted in this corpus; without, it stays as it was. It
    starts from the weights that the model has. history notes the loss, and of `held` the bits a code in way 0 with the
    first caption.
    """
    generator, where, loss = seed_everything(seed), device(), loss or next_code_loss
    if model.bag.rare and settings.count_words:
        model.bag.count(corpus.captions)
    model = model.to(where).train()
    averaged, codes, styles = deepcopy(model).eval(), corpus.codes.to(where), corpus.styles.to(where)
    optimizers = _optimizers(model, settings)
    schedules = [one_cycle(each, settings.steps) for each in optimizers]

    def step(pick: Tensor, number: int) -> dict[str, Tensor]:
        pick = pick.to(where)
        way = torch.randint(codes.shape[1], pick.shape) * (torch.rand(pick.shape) >= settings.as_it_is)
        way = way.to(where)
        right = codes[pick, way]
        seen = spoilt(right, model.shape.codes, settings.drop_code)
        captions = _some_captions(corpus.captions, pick, settings.drop_caption)
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda" or fast_bfloat16()):
            logits = model(seen[:, :-1], model.meaning(captions, styles[pick], way))
        error = loss(logits.float(), right)
        model.zero_grad(set_to_none=True)
        error.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            ema_update(averaged, model, min(settings.average, number / (number + 10)))
        noted = {"bits": error.detach() / np.log(2)}
        if held is not None and number % every == 0:
            noted["held-out bits"] = bits_per_token(averaged, held).mean()
        return noted

    parts: dict[str, Stateful] = {"model": model, "averaged": averaged}
    for number, pair in enumerate(zip(optimizers, schedules, strict=True)):
        parts |= {f"optimizer {number}": pair[0], f"schedule {number}": pair[1]}
    about = {
        **asdict(settings), **asdict(model.shape), "seed": seed, "codes": corpus.codes, "styles": corpus.styles,
        "start": list(model.state_dict().values()),
        "captions": [list(each) for each in corpus.captions], "loss": loss, "rules": list(model.rules),
    }  # fmt: skip
    if corpus.odds is None:
        picks = batches(len(codes), settings.batch_size, settings.steps, generator)
    else:
        about["odds"] = corpus.odds
        picks = drawn_batches(corpus.odds, settings.batch_size, settings.steps, generator)
    history = run_steps(
        step, picks, parts=parts, about=about, checkpoint=checkpoint, every=every, progress=progress
    )
    averaged.history = history
    return averaged.requires_grad_(False).eval()


def spoilt(codes: Tensor, num_codes: int, share: float) -> Tensor:
    """Return codes int64 (B, T) with a share of them replaced by random ones."""
    chance = torch.rand(codes.shape).to(codes.device)
    return torch.where(chance < share, torch.randint_like(codes, num_codes), codes)


def _optimizers(model: TokenPrior, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the blocks and AdamW for all else, tables among it.

    Muon makes every direction of a matrix's step equally long, and so learns as much from about half as many steps.
    Source: Jordan et al. 2024, "Muon" (kellerjordan.github.io/posts/muon).
    """
    matrices = [p for name, p in model.blocks.named_parameters() if p.ndim == 2 and "style" not in name]
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    return [
        Muon(matrices, lr=settings.muon, weight_decay=settings.weight_decay),
        torch.optim.AdamW(rest, lr=settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay),
    ]


def _some_captions(captions: Sequence[Sequence[str]], pick: Tensor, drop: float) -> list[str]:
    """Return for each picture one of its captions, or with probability `drop` none."""
    chance = torch.rand(len(pick), 2).tolist()
    found = []
    for number, (which, dropped) in zip(pick.tolist(), chance, strict=True):
        choices = captions[number]
        found.append("" if dropped < drop else choices[int(which * len(choices))])
    return found


@torch.no_grad()
def bits_per_token(
    model: TokenPrior, corpus: Corpus, batch_size: int = 256, *, temperature: float = 1.0
) -> Tensor:
    """Return the mean surprise of the model at each picture's codes, in bits a token: float (N,).

    The codes are those of way 0 and the caption is the first of each picture. temperature divides the logits: where
    more than 1 needs fewer bits, the model is surer than it should be. Raises ValueError if it is not positive.
    Sources: Shannon 1948; Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599).
    """
    if not temperature > 0:
        raise ValueError(f"bits need a temperature above 0, not {temperature}")
    where = model.place.device
    found = []
    for pick in torch.arange(len(corpus.codes)).split(batch_size):
        right = corpus.codes[pick, 0].to(where)
        captions = [corpus.captions[number][0] for number in pick.tolist()]
        logits = model(right[:, :-1], model.meaning(captions, corpus.styles[pick].to(where)))
        surprise = F.cross_entropy(logits.transpose(1, 2) / temperature, right, reduction="none")
        found.append(surprise.mean(1).cpu() / np.log(2))
    return torch.cat(found)


def bigram_bits(train: Tensor, test: Tensor, num_codes: int, weight: float = 50.0) -> float:
    """Return the bits a token under the code to the left, and for the first of a picture under all codes.

    The counts of each pair are smoothed with `weight` draws of the unigram (Dirichlet prior).
    """
    alone = torch.bincount(train.flatten(), minlength=num_codes).double() + 1
    alone = alone / alone.sum()
    pairs = torch.bincount(
        (train[:, :-1] * num_codes + train[:, 1:]).flatten(), minlength=num_codes**2
    ).double()
    pairs = pairs.view(num_codes, num_codes) + weight * alone
    chances = pairs / pairs.sum(1, keepdim=True)
    told = chances[test[:, :-1], test[:, 1:]].log2().sum() + alone[test[:, 0]].log2().sum()
    return float(-told / test.numel())


def load_pretrained(name: str | None = None, device: str = "cpu") -> TokenPrior:
    """Return the shipped prior over the codes of the shipped VQ-VAE, in eval mode.

    name: of other weights beside it. Raises DataError when a file is missing or damaged.
    """
    config, state = load_weights(name or "prior")
    shape = Shape(**config["shape"])
    model = TokenPrior(load_vqvae(device=device), shape, config["styles"])
    model.load_state_dict(state)
    return model.requires_grad_(False).eval().to(device)
