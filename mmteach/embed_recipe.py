"""The shipped space of pictures, text and speech, and how it was trained: `python -m mmteach pretrain embed`.

Used by notebooks 06, 07 and 08 through `embed.load_pretrained`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmteach.data import TRAIN_STYLES, VOICES, MultimodalDataset, load_emoji
from mmteach.embed import SharedEmbedding
from mmteach.embed_train import Settings, corpus, train_embed, training_rows
from mmteach.metrics import bootstrap_interval
from mmteach.retrieval import FULL, Views, classifiers, found, style_families, views
from mmteach.weights import Trained, as_stored

STEPS = 1500
SHAPE: dict[str, Any] = {"picture_width": 24, "text_width": 24, "speech_width": 64}


def pretrain(*, steps: int | None = None, seed: int = 0, checkpoint: Path | None = None) -> Trained:
    """Train on the pictures, words and voices of the training concepts; the card says the rest."""
    dataset, settings = load_emoji(), Settings(steps=steps or STEPS)
    torch.manual_seed(seed)
    data = corpus(dataset, training_rows(dataset))
    model, _ = train_embed(
        data, settings, seed=seed, model=SharedEmbedding(**SHAPE), checkpoint=checkpoint,
        progress=lambda number, said: print(f"step {number} of {settings.steps}: {said}", flush=True),
    )  # fmt: skip
    as_stored(model)
    facts = {
        "title": "One space for pictures, text and speech",
        "about": "Three small networks that turn a 32x32 picture, a caption in English or Chinese, and a spoken name "
        "into unit vectors of 128 numbers, near each other where they mean the same concept.",
        "recipe": {
            "training pictures": f"{len(data.pixels)} of {len(data.concepts)} concepts of the split train, "
            "averaged to 32x32",
            "styles": ", ".join(TRAIN_STYLES),
            "left out": "OpenMoji, held-out pairs, val and test",
            "captions": "three of each concept, drawn anew in every step: its English name; a few English keywords; "
            f"its name, a few keywords, or both, {settings.chinese:.0%} of these in Chinese; words left out with "
            f"probability {settings.word_dropout:g}",
            "voices": ", ".join(VOICES),
            "loss": "symmetric InfoNCE of picture and text, of speech and text, "
            f"{settings.picture_speech_weight:g} x of picture and speech (these two move the speech tower alone), and "
            f"{settings.text_weight:g} x of two captions of a concept; to each {settings.kin_weight:g} x the "
            "cross-entropy whose targets are concepts with like words (cosines of TF-IDF); scale learned, at most 100",
            "batch": f"{settings.batch_size} distinct concepts, one picture each",
            "steps": settings.steps,
            "optimiser": f"AdamW, {settings.lr:g}, one cycle, weight decay {settings.weight_decay:g}",
            "augmentation": f"moves at {settings.move:g} and tints at {settings.tint:g} of the strength of "
            "encoders.augment_ink; clips shifted by up to 0.16 s",
        },
        "seed": seed,
        "metrics": card_figures(model, dataset),
        "metrics are": "text > picture, picture > text and speech > picture: share of searches that find the right "
        f"concept among the first ten, in galleries of all concepts in one style (mean of {' and '.join(FULL)}, or "
        "OpenMoji), by the name alone; names > pictures and pictures > pictures: share of pictures whose group (of 8) "
        "a logistic regression gets right that was trained on the names, or pictures, of training concepts; each with "
        "its 95 % interval over families",
    }  # fmt: skip
    return Trained(model, {"model": SHAPE}, facts, None)


def card_figures(model: SharedEmbedding, dataset: MultimodalDataset) -> dict[str, dict[str, Any]]:
    """Return what the card says of each set of concepts that was not trained on."""
    train = views(model, dataset, training_rows(dataset))
    parts = {
        "val concepts": (dataset.rows("val", TRAIN_STYLES), FULL),
        "test concepts": (dataset.rows("test", TRAIN_STYLES), FULL),
        "test concepts, OpenMoji": (dataset.rows("test", "openmoji"), ("openmoji",)),
    }
    seen = {
        name: (views(model, dataset, rows, voices=VOICES), styles) for name, (rows, styles) in parts.items()
    }
    return {name: _figures(train, test, styles) for name, (test, styles) in seen.items()}


def _figures(train: Views, test: Views, styles: tuple[str, ...]) -> dict[str, Any]:
    families = np.concatenate([style_families(test, style) for style in styles])

    def first_ten(queries: np.ndarray, back: bool = False) -> str:
        right = np.concatenate([found(test, queries, style, back=back) <= 10 for style in styles])
        return str(bootstrap_interval(right, families))

    (moved,) = classifiers(train, [test], "group")
    spoken = np.concatenate(
        [found(test, said, style) <= 10 for said in test.speech.values() for style in styles]
    )
    return {
        "concepts": len(test.concepts),
        "chance": round(10 / len(test.concepts), 3),
        "text > picture": first_ten(test.texts["name"]),
        "with keywords": first_ten(test.texts["name and keywords"]),
        "Chinese name > picture": first_ten(test.texts["Chinese name"]),
        "picture > text": first_ten(test.texts["name"], back=True),
        "speech > picture": str(bootstrap_interval(spoken, np.tile(families, len(test.speech)))),
        "names > pictures": str(bootstrap_interval(moved["names > pictures"], test.families())),
        "pictures > pictures": str(bootstrap_interval(moved["pictures > pictures"], test.families())),
    }
