"""The shipped VQ-VAE: 32x32 emoji as 64 codes out of 512, and how it was trained.

Used by notebooks 00, 05, 07 and 08 through `vqvae.load_pretrained`; trained by `python -m mmteach pretrain vqvae`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmteach.data import TRAIN_STYLES, MultimodalDataset, load_emoji
from mmteach.encoders import small
from mmteach.metrics import bootstrap_interval
from mmteach.solutions import contact_sheet
from mmteach.vqvae import VQVAE, codebook_usage, psnr, reconstruct, train_vqvae
from mmteach.weights import Trained

STEPS, BATCH, LR = 12_000, 16, 3e-3
CODES: dict[str, Any] = {"num_codes": 512, "dim": 32}
SHAPE: dict[str, Any] = {"width": 96, "patch": 4, "blocks": 2}


def emoji(
    dataset: MultimodalDataset, split: str | None, styles: tuple[str, ...] = TRAIN_STYLES, size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures uint8 (N, size, size, 3) of a split, and the family of each (N,).

    Pairs of concept and style that are held out for generation are left out of 'train'.
    """
    rows = dataset.rows(split, styles, held_out=False if split == "train" else None)
    family = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "family"].to_numpy()
    return small(dataset.images[rows], size), family


def pretrain(*, steps: int | None = None, seed: int = 0, checkpoint: Path | None = None) -> Trained:
    """Train on the training split of seven styles, mirrored at random; the card says the rest."""
    dataset, steps = load_emoji(), steps or STEPS
    images, _ = emoji(dataset, "train")
    model = train_vqvae(
        images, steps=steps, batch_size=BATCH, seed=seed, lr=LR, flips=True, **CODES, **SHAPE, checkpoint=checkpoint,
        every=200, progress=lambda number, said: print(f"step {number} of {steps}: {said}", flush=True),
    )  # fmt: skip
    facts = {
        "title": "VQ-VAE: 32x32 pictures as 64 words of 512",
        "about": "An encoder that turns a picture into an 8x8 map of codes, the 512 codes, and a decoder that draws "
        "the picture again.",
        "recipe": {
            "training pictures": f"{len(images)} of the split train, averaged to 32x32",
            "styles": ", ".join(TRAIN_STYLES),
            "left out": "OpenMoji, held-out pairs, val and test",
            "steps": steps, "batch": BATCH, "optimiser": f"AdamW, {LR:g}, one cycle", "augmentation": "mirroring",
            "codebook": "512 codes of 32 numbers, moving averages with decay 0.99, beta 0.25, dead codes restarted",
        },
        "seed": seed,
        "metrics": {
            "training pictures": figures(model, images),
            "test families": figures(model, *emoji(dataset, "test")),
            "OpenMoji, a style never seen": figures(model, *emoji(dataset, None, ("openmoji",))),
        },
        "metrics are": "peak signal-to-noise ratio, mean over pictures with its 95 % interval over families; the same "
        "of the mean squared error; and the codes in use over the whole set",
    }  # fmt: skip
    return Trained(model, {"codebook": CODES, "model": SHAPE}, facts, sheet(model, emoji(dataset, "test")[0]))


def figures(model: VQVAE, images: np.ndarray, family: np.ndarray | None = None) -> dict[str, Any]:
    """Return what a card says of a model on uint8 pictures (N, H, W, C)."""
    each, usage = psnr(model, images), codebook_usage(model, images)
    return {
        "pictures": len(images),
        "PSNR (dB)": str(bootstrap_interval(each, family)),
        "of the mean error (dB)": float(-10 * np.log10(np.mean(10 ** (-each / 10)))),
        "active codes": usage.active_codes,
        "perplexity": usage.perplexity,
    }


def sheet(model: VQVAE, images: np.ndarray, count: int = 100, columns: int = 10) -> np.ndarray:
    """Return `count` pictures picked blindly, uint8 (H, W, 3), each with its reconstruction on its right."""
    shown = images[np.random.default_rng(0).permutation(len(images))[:count]]
    pairs = np.concatenate([shown, reconstruct(model, shown)], axis=2)
    framed = np.pad(pairs, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    return contact_sheet(framed, columns)
