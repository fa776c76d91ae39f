"""Does the prior draw what was asked? Drawn pictures against pictures that exist and were never shown.

Used by notebook 07 and by `python -m mmteach pretrain prior --check`, which prints the table. Every figure stands
beside the same figure for the true pictures and for baselines that need no generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from mmteach.data import TRAIN_STYLES, MultimodalDataset, training_rows
from mmteach.embed import SharedEmbedding
from mmteach.encoders import small
from mmteach.feature_net import NAME as FEATURE_NET
from mmteach.feature_net import picture_features
from mmteach.frozen_judge import LEVELS, Judge
from mmteach.metrics import Interval, bootstrap_interval
from mmteach.prior import TokenPrior, sample
from mmteach.report import compare, real_floor
from mmteach.retrieval import ranks
from mmteach.vqvae import reconstruct

GALLERY = 100
ARMS = {
    "true": "the true picture",
    "codes": "the true picture through its codes",
    "drawn": "drawn from caption and style",
    "other style": "the same concept from another style",
    "nearest caption": "the picture of the nearest training caption",
    "random": "a random training picture of the style",
}


@dataclass(frozen=True)
class Task:
    """What is to be drawn: rows of the data set, and for each its caption, style, family and true reading."""

    rows: np.ndarray
    captions: list[str]
    styles: list[str]
    families: np.ndarray
    truth: Mapping[str, np.ndarray]


def task(dataset: MultimodalDataset, which: str) -> Task:
    """Return the 'held-out pairs' (all), or 'unseen concepts' (each concept of test once, its style going round)."""
    if which == "held-out pairs":
        rows = dataset.rows("train", TRAIN_STYLES, held_out=True)
    elif which == "unseen concepts":
        rows = _one_a_concept(dataset, dataset.rows("test", TRAIN_STYLES))
    else:
        raise ValueError(f"which must be 'held-out pairs' or 'unseen concepts', got {which!r}")
    items = dataset.items.iloc[rows]
    of = dataset.concepts.loc[items["concept"]]
    truth = {"group": of["group"].to_numpy(str), "subgroup": of["subgroup"].to_numpy(str)}
    return Task(
        rows, of["name_en"].tolist(), items["style"].tolist(), of["family"].to_numpy(str),
        {**truth, "style": items["style"].to_numpy(str)},
    )  # fmt: skip


def _one_a_concept(dataset: MultimodalDataset, rows: np.ndarray) -> np.ndarray:
    concepts = dataset.items["concept"].to_numpy()[rows]
    found = []
    for turn, concept in enumerate(dict.fromkeys(concepts)):
        there = rows[concepts == concept]
        found.append(there[turn % len(there)])
    return np.array(found)


def arms(
    dataset: MultimodalDataset, model: TokenPrior, work: Task, *, seed: int = 0, **settings: Any
) -> dict[str, np.ndarray]:
    """Return for each of ARMS its pictures uint8 (n, 32, 32, 3); `settings` go to `prior.sample`."""
    rng = np.random.default_rng(seed)
    train = training_rows(dataset)
    stand_ins = {
        "other style": [_other_style(dataset, row, rng) for row in work.rows],
        "nearest caption": nearest_captions(dataset, work, train),
        "random": [rng.choice(_of_style(dataset, train, style)) for style in work.styles],
    }
    true = small(dataset.images[work.rows])
    return {
        "true": true,
        "codes": reconstruct(model.vqvae, true),
        "drawn": sample(model, work.captions, styles=work.styles, seed=seed, **settings),
        **{name: small(dataset.images[np.array(rows)]) for name, rows in stand_ins.items()},
    }


def _other_style(dataset: MultimodalDataset, row: int, rng: np.random.Generator) -> int:
    """Return the row of the same concept in another style of training, at random; the row itself when there is none."""
    concept, style = dataset.items["concept"].iloc[row], dataset.items["style"].iloc[row]
    twins = dataset.items[(dataset.items["concept"] == concept) & dataset.items["style"].isin(TRAIN_STYLES)]
    others = twins.index[twins["style"] != style]
    return int(rng.choice(others)) if len(others) else row


def _of_style(dataset: MultimodalDataset, rows: np.ndarray, style: str) -> np.ndarray:
    return rows[dataset.items["style"].to_numpy()[rows] == style]


def nearest_captions(dataset: MultimodalDataset, work: Task, train: np.ndarray) -> list[int]:
    """Return for each task the training row of its style whose name is nearest by words and pieces of words."""
    names = dataset.concepts.loc[dataset.items["concept"], "name_en"].to_numpy()
    tf_idf = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(names[train])
    known, found = {style: _of_style(dataset, train, style) for style in set(work.styles)}, []
    vectors = {style: tf_idf.transform(names[rows]) for style, rows in known.items()}
    for caption, style in zip(work.captions, work.styles, strict=True):
        likeness = (vectors[style] @ tf_idf.transform([caption]).T).toarray()[:, 0]
        found.append(int(known[style][likeness.argmax()]))
    return found


def retrieval_ranks(
    space: SharedEmbedding, images: np.ndarray, captions: list[str], seed: int = 0
) -> np.ndarray:
    """Return for each picture the rank (n,), from 1, of its own caption among 100: its own and 99 others of the set.

    The same 99 for every arm. Ties count against the picture. Raises ValueError with fewer than 100 captions.
    """
    names = sorted(set(captions))
    if len(names) < GALLERY:
        raise ValueError(f"a gallery of {GALLERY} captions needs as many, and there are {len(names)}")
    rng, where = np.random.default_rng(seed), {name: i for i, name in enumerate(names)}
    cosines = (space.pictures(images) @ space.text(names).T).cpu().numpy()
    galleries = np.empty((len(images), GALLERY), np.int64)
    for gallery, caption in zip(galleries, captions, strict=True):
        own = where[caption]
        gallery[0] = own
        gallery[1:] = rng.choice(np.delete(np.arange(len(names)), own), GALLERY - 1, replace=False)
    return ranks(np.take_along_axis(cosines, galleries, 1), np.zeros(len(images), np.int64))


def ratio_interval(
    part: np.ndarray, whole: np.ndarray, families: np.ndarray, resamples: int = 2000
) -> Interval:
    """Return sum(part) / sum(whole) with its 95 % interval; both (S, n), families and seeds drawn with replacement."""
    _, code = np.unique(families, return_inverse=True)
    rng, seeds, count = np.random.default_rng(0), len(part), code.max() + 1
    sums = [np.stack([np.bincount(code, row.astype(float)) for row in each]) for each in (part, whole)]
    draws = rng.multinomial(count, np.full(count, 1 / count), resamples)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
    above, below = (np.einsum("rf,sf,rs->r", draws, each, chosen) for each in sums)
    low, high = np.quantile(above / np.maximum(below, 1e-9), [0.025, 0.975])
    return Interval(float(low), float(part.sum() / whole.sum()), float(high))


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: figures for the JSON, the pictures of each arm, and where the drawn ones failed.

    ranks: (n,), the rank of each first drawing's caption among 100, 1 for the best
    """

    figures: dict[str, Any]
    pictures: dict[str, np.ndarray]
    ranks: np.ndarray


def evaluate(
    dataset: MultimodalDataset, model: TokenPrior, judge: Judge, space: SharedEmbedding, which: str, *,
    seeds: Sequence[int] = (0,), **settings: Any,
) -> Evaluation:  # fmt: skip
    """Return every figure of one set of tasks, 'held-out pairs' or 'unseen concepts', for each of ARMS.

    Read right: shares of group, subgroup and style, and each over the share on the true pictures. Retrieval: how often
    the shared space finds the caption among 100. Fréchet distance to the true pictures with its floor, and copies.
    Drawn and drawn at random are averages over `seeds`, and their intervals cover new seeds too; distances are those of
    the first. `settings` go to `prior.sample`.
    """
    work = task(dataset, which)
    runs = [arms(dataset, model, work, seed=1000 * seed, **settings) for seed in seeds]
    pictures = runs[0]
    right = {name: _right(judge, [run[name] for run in runs], work) for name in ARMS}
    ranks = {
        name: np.stack([retrieval_ranks(space, run[name], work.captions) for run in runs]) for name in ARMS
    }
    features = {name: picture_features(each) for name, each in pictures.items()}
    rows = {}
    for name in ARMS:
        ratios = {
            level: ratio_interval(right[name][level], right["true"][level], work.families) for level in LEVELS
        }
        rows[name] = {
            **{level: bootstrap_interval(right[name][level], work.families) for level in LEVELS},
            **{f"{level} of true": ratio for level, ratio in ratios.items()},
            "found among 100": bootstrap_interval(ranks[name] == 1, work.families),
            "found in five": bootstrap_interval(ranks[name] <= 5, work.families),
            **compare(features["true"], features[name])[0],
        }
    train = small(dataset.images[training_rows(dataset)])
    figures = {
        "pictures": len(work.rows), "families": len(np.unique(work.families)), "network": FEATURE_NET, "arms": rows,
        "floor": real_floor(features["true"], len(work.rows)),
        "copies": {
            name: copies(train, [run[name] for run in runs], pictures["true"], work.families)
            for name in ("drawn", "codes")
        },
    }  # fmt: skip
    return Evaluation(figures, pictures, ranks["drawn"][0])


def _right(judge: Judge, runs: list[np.ndarray], work: Task) -> dict[str, np.ndarray]:
    """Return for each level whether it was read right, bool (seeds, n)."""
    read = [judge.read(images) for images in runs]
    return {level: np.stack([each[level] == work.truth[level] for each in read]) for level in LEVELS}


def copies(
    train: np.ndarray, runs: Sequence[np.ndarray], true: np.ndarray, families: np.ndarray
) -> dict[str, Any]:
    """Return how many pictures are nearer to a training picture than 19 in 20 true pictures are, in 8x8 thumbnails.

    Thumbnails, because a copy that went through the codes has lost its finest detail. By chance it would be 5 %. runs:
    for each seed the pictures of all n tasks; the interval of the share covers families (n,) and seeds, at this limit.
    """
    shown = _thumbnails(train)
    far, far_true = (
        np.stack([torch.cdist(_thumbnails(each), shown).min(1).values.numpy() for each in sets])
        for sets in (runs, [true])
    )
    limit = float(np.quantile(far_true, 0.05))
    return {
        "share": bootstrap_interval(far < limit, families), "limit": limit, "median": float(np.median(far)),
        "median of true": float(np.median(far_true)),
    }  # fmt: skip


def _thumbnails(images: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(images).float().permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(x, 4).flatten(1)


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures of one set as a table in Markdown."""
    columns = [*LEVELS, *(f"{level} of true" for level in LEVELS), "found among 100", "frechet"]
    lines = ["| | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for name, said in ARMS.items():
        row = figures["arms"][name]
        lines.append(f"| {said} | " + " | ".join(_cell(row[each]) for each in columns) + " |")
    floor = figures["floor"]["frechet"]
    lines.append(f"\nFréchet distance by {figures['network']}, real against real {floor:.2f}.")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.2f}"
