"""Text-to-image of a label budget: a tokenizer and a prior trained from nothing on its pictures and their names.

Used by notebook 08 and its study for the second series, in which the generator sees no more than the classifier does.
No shipped weights are read: the building blocks are those of notebooks 05 and 07, smaller.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmteach.data import TRAIN_STYLES
from mmteach.prior import Corpus, Settings, Shape, TokenPrior, sample, train_prior
from mmteach.prior_recipe import ways
from mmteach.study_transfer import Task, part
from mmteach.train import one_thread, seed_everything
from mmteach.vqvae import VQVAE, train_vqvae


@dataclass(frozen=True)
class Recipe:
    """All settings of the tokenizer, of the prior, and of drawing.

    Chosen on val, and by looking, with seeds that the study does not have.
    """

    codes: int = 128
    dim: int = 16
    tokenizer_width: int = 64
    tokenizer_steps: int = 400
    width: int = 96
    depth: int = 2
    steps: int = 1000
    batch_size: int = 32
    lr: float = 4e-3
    muon: float = 0.04
    dropout: float = 0.2
    guidance_scale: float = 3.0
    temperature: float = 0.6


@one_thread()
def train(task: Task, places: np.ndarray, seed: int, recipe: Recipe) -> TokenPrior:
    """Return a prior, with its tokenizer, that learned from these places (n,) of the training part and nothing else."""
    vqvae = train_tokenizer(task, places, seed, recipe)
    corpus = own_corpus(task, places, vqvae)
    seed_everything(seed)
    shape = Shape(
        codes=recipe.codes, ways=corpus.codes.shape[1], styles=len(TRAIN_STYLES), width=recipe.width,
        depth=recipe.depth, words=32, layout=8, dropout=recipe.dropout,
    )  # fmt: skip
    settings = Settings(steps=recipe.steps, batch_size=recipe.batch_size, lr=recipe.lr, muon=recipe.muon)
    return train_prior(TokenPrior(vqvae, shape, TRAIN_STYLES), corpus, settings, seed=seed)


def train_tokenizer(task: Task, places: np.ndarray, seed: int, recipe: Recipe) -> VQVAE:
    """Return a small VQ-VAE, 64 tokens a picture, that learned from these places of the training part."""
    vqvae = train_vqvae(
        task.train.images[places], steps=recipe.tokenizer_steps, batch_size=32, seed=seed, flips=True,
        num_codes=recipe.codes, dim=recipe.dim, width=recipe.tokenizer_width, lr=recipe.lr,
    )  # fmt: skip
    return vqvae.requires_grad_(False).cpu()


def own_corpus(task: Task, places: np.ndarray, vqvae: VQVAE) -> Corpus:
    """Return these pictures as a prior learns them, plain, shifted and mirrored; each caption is the concept's name."""
    own = task.train.take(places)
    styles = torch.tensor([TRAIN_STYLES.index(each) for each in own.style])
    names = [[name] for name in task.name(own.concept)]
    return Corpus(ways(vqvae, task.dataset.images[own.rows]), styles, names)


def draw(
    model: TokenPrior, names: Sequence[str], styles: Sequence[str], seed: int, recipe: Recipe
) -> np.ndarray:
    """Return pictures uint8 (n, 32, 32, 3) of n names in n styles; picture i draws from 10,000 * seed + i."""
    return sample(
        model, names, styles=styles, seed=10_000 * seed,
        guidance_scale=recipe.guidance_scale, temperature=recipe.temperature,
    )  # fmt: skip


def asked_for(
    task: Task, places: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return concepts (count,) of a budget, a training style for each int64 (count,), and labels int64 (count,).

    Balanced as the budget is; the label is that of the concept, which the budget knows.
    """
    known, target = task.train.concept[places], task.train.target[places]
    rng, count_styles = np.random.default_rng(seed), len(TRAIN_STYLES)
    concept, style, sizes = [], [], np.bincount(target) * count // len(target)
    for label, size in enumerate(sizes):
        names = np.unique(known[target == label])
        pairs = rng.permutation(len(names) * count_styles)
        turn = np.resize(pairs, size)  # every concept in every style once, before any comes twice
        concept.append(names[turn // count_styles])
        style.append(turn % count_styles)
    return np.concatenate(concept), np.concatenate(style), np.repeat(np.arange(len(sizes)), sizes)


def beside(
    task: Task, places: np.ndarray, count: int, seed: int, recipe: Recipe, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` pictures and their labels, drawn from the budget's own names after training on it; kept."""
    concept, style, labels = asked_for(task, places, count, seed)

    def make() -> dict[str, np.ndarray]:
        began = time.process_time()
        model = train(task, places, seed, recipe)
        seconds = np.array(time.process_time() - began)
        styles = [TRAIN_STYLES[each] for each in style]
        return {"drawn": draw(model, task.name(concept), styles, seed, recipe), "seconds": seconds}

    return part(folder, f"text-{len(places)}-{seed}", [recipe, places.tolist()], make)["drawn"], labels
