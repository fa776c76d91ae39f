"""Training of the shared space: what a batch is, how captions and sounds vary, which concepts are kin, and the steps.

Notebook 06 trains with it live, with the reader's own `info_nce`; the shipped weights and the study use the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from mmteach.data import VOICES, MultimodalDataset
from mmteach.data import training_rows as training_rows
from mmteach.embed import SharedEmbedding, hear, info_nce, same_concept
from mmteach.encoders import as_ink, augment_ink, shrink
from mmteach.engine import Scalars, Stateful, run_steps
from mmteach.train import batches, device, one_cycle, seed_everything

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Wording:
    """What a concept can be called: its name and keywords in English and in Chinese."""

    name: str
    keywords: tuple[str, ...]
    name_zh: str
    keywords_zh: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """What training sees.

    concepts: their ids (C,)
    wordings: one a concept
    pixels: uint8 (N, 3, 32, 32)
    shows: int64 (N,), which concept each picture shows
    sounds: float16 (C, V, 40, 128), or None where speech is left out
    kinship: float32 (C, C), see `kinship`
    """

    concepts: tuple[str, ...]
    wordings: tuple[Wording, ...]
    pixels: Tensor
    shows: Tensor
    sounds: Tensor | None
    kinship: Tensor


@dataclass(frozen=True)
class Settings:
    """How the space is trained; the defaults are those of the shipped weights, but for the steps.

    chinese: share of Chinese among the captions of the third kind, see `draw_captions`
    text_weight: of the loss between two captions of a concept
    kin_weight: of the loss that lets concepts of like words be near each other; 0 is off
    """

    steps: int
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.1
    chinese: float = 0.5
    word_dropout: float = 0.15
    move: float = 0.7
    tint: float = 0.4
    speech_weight: float = 1.0
    picture_speech_weight: float = 0.5
    text_weight: float = 0.5
    kin_weight: float = 1.5
    views: int = 1
    treat: bool = True


def corpus(dataset: MultimodalDataset, rows: np.ndarray, voices: Sequence[str] = VOICES) -> Corpus:
    """Return what training needs of the pictures in `rows`, and of the words and sounds of their concepts."""
    shown = dataset.items["concept"].iloc[rows].to_numpy()
    names, shows = np.unique(shown, return_inverse=True)
    table = dataset.concepts.loc[names]
    wordings = tuple(
        Wording(each.name_en, _listed(each.keywords_en), each.name_zh, _listed(each.keywords_zh))
        for each in table.itertuples()
    )
    sounds = hear_all(dataset, tuple(names), voices) if voices else None
    pixels = shrink(dataset.images[rows])
    return Corpus(tuple(names), wordings, pixels, torch.from_numpy(shows), sounds, kinship(wordings))


def kinship(wordings: Sequence[Wording]) -> Tensor:
    """Return float32 (C, C): how alike the English names and keywords of two concepts are; 0 between one and itself.

    The cosine of TF-IDF vectors with logarithmic counts, from 0 (no word in common) to 1 (the same words).
    """
    said = [" ".join([each.name, *each.keywords]) for each in wordings]
    counted = TfidfVectorizer(sublinear_tf=True, token_pattern=r"[^\W_]+").fit_transform(said)
    return torch.from_numpy((counted @ counted.T).toarray()).float().fill_diagonal_(0)


def hear_all(dataset: MultimodalDataset, concepts: Sequence[str], voices: Sequence[str] = VOICES) -> Tensor:
    """Return float16 (C, V, 40, 128): every concept's name by every voice."""
    heard = [[hear(dataset.speech(concept, voice)[0]) for voice in voices] for concept in concepts]
    return torch.from_numpy(np.array(heard))


def _listed(keywords: str) -> tuple[str, ...]:
    return tuple(each for each in keywords.split("; ") if each)


def draw_caption(wording: Wording, *, chinese: float = 0.5, word_dropout: float = 0.15) -> str:
    """Return one way to call a concept: its name, a few keywords, or both, in English or (a share of) in Chinese."""
    foreign = random.random() < chinese
    name, words = (wording.name_zh, wording.keywords_zh) if foreign else (wording.name, wording.keywords)
    few = _few(words)
    said = random.choice([[name], [name], [name, *few], few or [name]])
    return _thinned(said, word_dropout)


def draw_captions(
    wording: Wording, *, chinese: float = 0.5, word_dropout: float = 0.15
) -> tuple[str, str, str]:
    """Return three ways to call a concept: its English name, a few English keywords, and one as `draw_caption` says."""
    name, few = _thinned([wording.name], word_dropout), _few(wording.keywords) or [wording.name]
    return (
        name,
        _thinned(few, word_dropout),
        draw_caption(wording, chinese=chinese, word_dropout=word_dropout),
    )


def _few(words: tuple[str, ...]) -> list[str]:
    return random.sample(words, random.randint(1, min(4, len(words)))) if words else []


def _thinned(said: list[str], word_dropout: float) -> str:
    """Return the words of `said` in one caption, each left out with some probability, but never all."""
    tokens = " ".join(said).split()
    return " ".join([token for token in tokens if random.random() >= word_dropout] or tokens)


def kin_loss(
    a: Tensor, b: Tensor, logit_scale: Tensor | float, kin: Tensor, same: Tensor | None = None
) -> Tensor:
    """Return how unlikely each row of `a` finds its kin among the rows of `b`, and the other way round.

    The cross-entropy of `info_nce` with other targets: for row i the share of kin[i, j] in 1 + kin[i].sum(), as if i
    itself counted 1 and were left out; a row without kin adds nothing, and none adds more than in `info_nce`.
    kin: (B, B), see `kinship`; a, b: (B, D); same: what to leave out, as in `info_nce` -> scalar.
    Soft targets by alikeness follow Gao et al. 2024, "SoftCLIP" (arXiv:2303.17561).
    """
    logits = logit_scale * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    if same is not None:
        rival = same & ~torch.eye(len(a), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(rival, -1e4)  # not minus infinity: nought times that is no number
        kin = kin.masked_fill(rival, 0)
    kin = kin / (1 + kin.sum(1, keepdim=True))
    there, back = (F.cross_entropy(each, kin) for each in (logits, logits.T))
    return (there + back) / 2


def train_embed(
    data: Corpus, settings: Settings, *, seed: int = 0, loss: Loss = info_nce, model: SharedEmbedding | None = None,
    checkpoint: Path | None = None, every: int = 100, progress: Callable[[int, Scalars], None] | None = None,
) -> tuple[SharedEmbedding, list[Scalars]]:  # fmt: skip
    """Train a shared space; return it in eval mode, with the losses noted on the way.

    loss: (a, b, logit_scale, same) -> scalar, by default `info_nce`. AdamW, one cycle. A batch is of distinct
    concepts, `views` pictures of each; with `treat`, pictures and captions of one concept are not pushed apart.
    """
    generator, where = seed_everything(seed), device()
    model = (model or SharedEmbedding()).to(where).train()
    model.picture_tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = one_cycle(optimizer, settings.steps)
    pictures_of = _pictures_by_concept(data.shows)

    def step(pick: Tensor, _: int) -> dict[str, Tensor]:
        pictures = [row for c in pick.tolist() for row in random.choices(pictures_of[c], k=settings.views)]
        losses = batch_losses(model, data, torch.tensor(pictures), settings, loss)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
        return {name: each.detach() for name, each in losses.items()} | {"scale": model.logit_scale.detach()}

    count = len(data.concepts)
    picks = batches(count, min(settings.batch_size // settings.views, count), settings.steps, generator)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    about: dict[str, Any] = {"settings": str(settings), "seed": seed, "model": str(model), "loss": loss}
    about |= {
        "pixels": data.pixels.cpu().numpy(),
        "voices": 0 if data.sounds is None else data.sounds.shape[1],
    }
    history = run_steps(
        step, picks, parts=parts, about=about, checkpoint=checkpoint, every=every, progress=progress
    )
    return model.eval(), history


def batch_losses(
    model: SharedEmbedding, data: Corpus, pictures: Tensor, settings: Settings, loss: Loss = info_nce
) -> dict[str, Tensor]:
    """Return the losses of a batch of pictures int64 (B,), each weighted.

    picture-text is the mean over three captions of each concept, text-text that over their pairs; with sounds there
    are speech-text and picture-speech too. 'kin' is `kin_loss` for the same pairs in the same weights.
    """
    where, concept = model.log_scale.device, data.shows[pictures]
    same = same_concept(concept).to(where) if settings.treat else None
    ink = augment_ink(as_ink(data.pixels[pictures.to(data.pixels.device)]), torch.default_generator,
                      move=settings.move, tint=settings.tint)  # fmt: skip
    seen, read = model.picture_tower(ink), _read(model, data, concept, settings)
    pairs = {"picture-text": [(1.0, seen, each) for each in read]}
    if settings.text_weight:
        pairs["text-text"] = [(settings.text_weight, a, b) for a, b in combinations(read, 2)]
    if data.sounds is not None:
        heard = model.speech_tower(_spoken(data.sounds, concept).to(where))
        # Speech follows where the other two lead: it is hard to fit, and would pull them away from one another.
        pairs["speech-text"] = [(settings.speech_weight, heard, each.detach()) for each in read]
        pairs["picture-speech"] = [(settings.picture_speech_weight, seen.detach(), heard)]
    scale, kin = model.logit_scale, data.kinship[concept][:, concept].to(where)

    def mean(name: str, one: Loss, *rest: Tensor | None) -> Tensor:
        return torch.stack([weight * one(a, b, scale, *rest) for weight, a, b in pairs[name]]).mean()

    losses = {name: mean(name, loss, same) for name in pairs}
    if settings.kin_weight:
        near = [mean(name, kin_loss, kin, same) for name in pairs]
        losses["kin"] = settings.kin_weight * torch.stack(near).sum()
    return losses


def _read(model: SharedEmbedding, data: Corpus, concept: Tensor, settings: Settings) -> Tensor:
    """Return (3, B, dim): the text vectors of three captions of each concept (B,)."""
    drawn = [
        draw_captions(data.wordings[each], chinese=settings.chinese, word_dropout=settings.word_dropout)
        for each in concept.tolist()
    ]
    said = [caption for kind in zip(*drawn, strict=True) for caption in kind]
    return model.text_tower(said).view(3, len(concept), -1)


def _spoken(sounds: Tensor, concept: Tensor) -> Tensor:
    """Return float (B, 40, 128): each concept in a voice at random, shifted in time and louder or softer."""
    voice = torch.randint(sounds.shape[1], (len(concept),))
    picked = sounds[concept, voice].float()
    shift = int(torch.randint(-8, 9, ()))
    return picked.roll(shift, dims=2) + torch.randn(len(picked), 1, 1) * 0.2


def _pictures_by_concept(shows: Tensor) -> list[list[int]]:
    """Return, for each concept, the rows of its pictures."""
    order = shows.argsort(stable=True)
    return [part.tolist() for part in order.split(torch.bincount(shows).tolist())]
