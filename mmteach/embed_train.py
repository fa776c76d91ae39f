"""Training of the shared space: what a batch is, how captions and sounds vary, and the steps.

Notebook 06 trains with it live, with the reader's own `info_nce`; the shipped weights and the study use the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
    """

    concepts: tuple[str, ...]
    wordings: tuple[Wording, ...]
    pixels: Tensor
    shows: Tensor
    sounds: Tensor | None


@dataclass(frozen=True)
class Settings:
    """How the space is trained; the defaults are those of the shipped weights, but for the steps."""

    steps: int
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.1
    chinese: float = 0.25
    word_dropout: float = 0.15
    move: float = 0.7
    tint: float = 0.4
    speech_weight: float = 1.0
    picture_speech_weight: float = 0.5
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
    return Corpus(tuple(names), wordings, shrink(dataset.images[rows]), torch.from_numpy(shows), sounds)


def hear_all(dataset: MultimodalDataset, concepts: Sequence[str], voices: Sequence[str] = VOICES) -> Tensor:
    """Return float16 (C, V, 40, 128): every concept's name by every voice."""
    heard = [[hear(dataset.speech(concept, voice)[0]) for voice in voices] for concept in concepts]
    return torch.from_numpy(np.array(heard))


def _listed(keywords: str) -> tuple[str, ...]:
    return tuple(each for each in keywords.split("; ") if each)


def draw_caption(wording: Wording, *, chinese: float = 0.25, word_dropout: float = 0.15) -> str:
    """Return one way to call a concept: its name, a few keywords, or both, in English or (a share of) in Chinese."""
    foreign = random.random() < chinese
    name, words = (wording.name_zh, wording.keywords_zh) if foreign else (wording.name, wording.keywords)
    few = random.sample(words, random.randint(1, min(4, len(words)))) if words else []
    said = random.choice([[name], [name], [name, *few], few or [name]])
    tokens = " ".join(said).split()
    kept = [token for token in tokens if random.random() >= word_dropout]
    return " ".join(kept or tokens)


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
    """Return the losses of a batch of pictures int64 (B,), each weighted: picture-text and, with sounds, two more."""
    where, concept = model.log_scale.device, data.shows[pictures]
    same = same_concept(concept).to(where) if settings.treat else None
    captions = [
        draw_caption(data.wordings[each], chinese=settings.chinese, word_dropout=settings.word_dropout)
        for each in concept.tolist()
    ]
    ink = augment_ink(as_ink(data.pixels[pictures.to(data.pixels.device)]), torch.default_generator,
                      move=settings.move, tint=settings.tint)  # fmt: skip
    seen, read = model.picture_tower(ink), model.text_tower(captions)
    losses = {"picture-text": loss(seen, read, model.logit_scale, same)}
    if data.sounds is not None:
        heard = model.speech_tower(_spoken(data.sounds, concept).to(where))
        losses["speech-text"] = settings.speech_weight * loss(heard, read, model.logit_scale, same)
        losses["picture-speech"] = settings.picture_speech_weight * loss(seen, heard, model.logit_scale, same)
    return losses


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
