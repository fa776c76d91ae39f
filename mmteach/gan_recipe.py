"""The shipped GAN: pictures of all eight groups from one class-conditional generator, and how it was trained.

Used by notebooks 00, 04 and 08 through `gan.load_pretrained`; trained by `python -m mmteach pretrain gan`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from mmteach.data import TRAIN_STYLES, load_emoji, training_rows
from mmteach.encoders import small
from mmteach.feature_net import NAME as FEATURE_NET
from mmteach.feature_net import picture_features
from mmteach.gan import Discriminator, Generator, Penalty, sample, train_gan
from mmteach.metrics import frechet_distance, kernel_distance, memorisation, precision_recall_density_coverage
from mmteach.solutions import contact_sheet
from mmteach.weights import Trained

STEPS, BATCH, LR, SIZE = 8_000, 32, 1e-3, 32
PENALTY = Penalty(r1=0.1, r2=0.1, every=8)
SHAPE: dict[str, Any] = {"size": SIZE, "channels": 3, "width": 32, "num_classes": 8}
Z_DIM = 128


def pretrain(*, steps: int | None = None, seed: int = 0, checkpoint: Path | None = None) -> Trained:
    """Train on real pictures of the training split, OpenMoji and held-out pairs left out, conditional on the group."""
    dataset, steps = load_emoji(), steps or STEPS
    rows = training_rows(dataset)
    groups = sorted(dataset.concepts["group"].unique())
    labels = _labels(dataset, rows, groups)
    images = small(dataset.images[rows], SIZE)
    run = train_gan(
        images, labels=labels, steps=steps, batch_size=BATCH, seed=seed, lr=LR, penalty=PENALTY,
        augment=None, average_decay=0.999,
        networks=(Generator(z_dim=Z_DIM, **SHAPE), Discriminator(**SHAPE)), checkpoint=checkpoint, every=200,
        progress=lambda number, said: print(f"step {number} of {steps}: {said}", flush=True),
    )  # fmt: skip
    model = nn.ModuleDict({"generator": run.generator, "discriminator": run.discriminator})
    fresh = dataset.rows("test", TRAIN_STYLES)
    facts = {
        "title": "GAN: 32x32 pictures of eight groups of things",
        "about": "A generator that draws a picture from 128 random numbers and the number of a group, with averaged "
        "weights, and the discriminator that it was trained against.",
        "recipe": {
            "training pictures": f"{len(rows)} of the split train, styles {', '.join(TRAIN_STYLES)}, averaged to 32x32",
            "left out": "OpenMoji, held-out pairs, val and test",
            "classes": ", ".join(groups),
            "steps": steps, "batch": BATCH, "optimiser": f"Adam, {LR:g}, betas 0 and 0.99",
            "loss": "relativistic pairing loss", "R1 and R2": "0.1 each, every 8 steps at 8 times the weight",
            "augmentation": "none: in the study of notebook 04 it slowed short runs",
            "average of the generator's weights": 0.999,
        },
        "seed": seed,
        "metrics": {FEATURE_NET: _figures(run.generator, images, labels, small(dataset.images[fresh], SIZE))},
    }  # fmt: skip
    config = {"generator": {**SHAPE, "z_dim": Z_DIM}, "discriminator": SHAPE, "groups": groups}
    return Trained(model, config, facts, contact_sheet(sample(run.generator, 100), 10))


def _labels(dataset: Any, rows: np.ndarray, groups: list[str]) -> np.ndarray:
    names = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "group"]
    return pd.Categorical(names, categories=groups).codes.astype(np.int64)


def _figures(
    generator: Generator, images: np.ndarray, labels: np.ndarray, fresh: np.ndarray
) -> dict[str, float]:
    """Return how 2,000 samples, classes as often as in training, compare with 2,000 training pictures."""
    rng = np.random.default_rng(0)
    one, other = np.array_split(rng.permutation(len(images))[:4000], 2)
    drawn = picture_features(sample(generator, len(one), labels[other], seed=1))
    real, half, unseen = (picture_features(each) for each in (images[one], images[other], fresh))
    return {
        "Fréchet distance": frechet_distance(real, drawn),
        "Fréchet distance, real against real": frechet_distance(real, half),
        "kernel distance": kernel_distance(real, drawn)[0],
        "kernel distance, real against real": kernel_distance(real, half)[0],
        **precision_recall_density_coverage(real, drawn),
        "recall, real against real": precision_recall_density_coverage(real, half)["recall"],
        "distance to the nearest training picture over that of test pictures": memorisation(
            drawn, picture_features(images), unseen
        ).ratio,
    }
