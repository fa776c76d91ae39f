"""The shipped prior: emoji drawn from a caption and a style, and how it was trained.

Used by notebooks 07 and 08 through `prior.load_pretrained`; trained by `python -m mmteach pretrain prior`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmteach import embed, feature_net, frozen_judge, moods
from mmteach.data import TRAIN_STYLES, MultimodalDataset, load_emoji
from mmteach.data import training_rows as training_rows
from mmteach.encoders import small
from mmteach.engine import Scalars
from mmteach.feature_net import picture_features
from mmteach.prior import (
    Corpus,
    Settings,
    Shape,
    TokenPrior,
    bigram_bits,
    bits_per_token,
    sample,
    train_prior,
    unigram_bits,
)
from mmteach.solutions import contact_sheet
from mmteach.text_to_image import Evaluation, evaluate, table
from mmteach.train import seed_everything, to_float
from mmteach.vqvae import VQVAE
from mmteach.vqvae import load_pretrained as load_vqvae
from mmteach.weights import Trained, as_stored, load_weights

STEPS, LAST_STEPS, MOOD_STEPS, TUNING = 10_000, 2_400, 2_000, 200
SHAPE: dict[str, Any] = {
    "width": 240, "depth": 4, "heads": 4, "words": 64, "buckets": 8_192, "rare": True, "word_places": 6,
    "layout": 16, "prefix": 2, "dropout": 0.05,
}  # fmt: skip
LEARNING: dict[str, Any] = {"batch_size": 64, "lr": 2.5e-3, "muon": 0.025, "as_it_is": 0.5, "drop_code": 0.3}
LAST: dict[str, Any] = {
    "batch_size": 64, "lr": 1e-3, "muon": 0.01, "as_it_is": 0.8, "drop_code": 0.3, "average": 0.997,
}  # fmt: skip
MOODS: dict[str, Any] = {**LAST, "count_words": False}
MOOD_SHARE = 0.4  # of the pictures drawn in the part with moods, those that are composed
KEPT_BACK = 0.1  # of the pairs of thing and mood, those never learned
SMILEYS, SMILEY_ODDS = "smileys-emotion", 6.0  # told apart by the smallest details of all groups
PLAIN: dict[str, Any] = {"shifts": ((0, 0),), "mirrored": False}
SETS = ("held-out pairs", "unseen concepts")
SCALES, STYLE_SCALES, TEMPERATURES = (2.0, 3.0, 4.0), (0.0, 0.5, 1.0, 1.5), (0.6, 0.8)
GRID = tuple(
    {"guidance_scale": guidance, "style_scale": style, "temperature": temperature}
    for guidance, style, temperature in product(SCALES, STYLE_SCALES, TEMPERATURES)
)  # the settings of `sample` to choose from
SHIFTS = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))  # pixels of 64 down and to the right


def ways(
    vqvae: VQVAE, images: np.ndarray, shifts: tuple[tuple[int, int], ...] = SHIFTS, mirrored: bool = True
) -> Tensor:
    """Return the codes int64 (N, V, T) of pictures uint8 (N, 64, 64, 3): plain, shifted, mirrored."""
    found = []
    for flip in (False, True)[: 1 + mirrored]:
        for down, right in shifts:
            moved = moved_by(images[:, :, ::-1] if flip else images, down, right)
            found.append(encode(vqvae, small(moved)))
    return torch.stack(found, 1)


def moved_by(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return pictures uint8 (N, S, S, 3) moved by some pixels, white coming in at the edges."""
    size, most = images.shape[1], max(abs(down), abs(right))
    framed = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=255)
    top, left = most - down, most - right
    return np.ascontiguousarray(framed[:, top : top + size, left : left + size])


def encode(vqvae: VQVAE, pictures: np.ndarray, batch_size: int = 256) -> Tensor:
    """Return the codes int64 (N, T) of pictures uint8 (N, 32, 32, 3), row by row from the top left."""
    parts = torch.from_numpy(pictures).split(batch_size)
    return torch.cat([vqvae.encode(to_float(part)).flatten(1) for part in parts])


def captions(dataset: MultimodalDataset, rows: np.ndarray, kinds: int = 24, seed: int = 0) -> list[list[str]]:
    """Return for each picture what it may be called: first its name, then names, names with keywords, and keywords."""
    rng = np.random.default_rng(seed)
    known = {}
    for concept in dict.fromkeys(dataset.items["concept"].iloc[rows]):
        entry = dataset.concepts.loc[concept]
        known[concept] = [
            entry["name_en"],
            *_variants(entry["name_en"], entry["keywords_en"].split("; "), kinds - 1, rng),
        ]
    return [known[concept] for concept in dataset.items["concept"].iloc[rows]]


def _variants(name: str, keywords: list[str], count: int, rng: np.random.Generator) -> list[str]:
    found = []
    for number in range(count):
        few = rng.choice(keywords, min(len(keywords), int(rng.integers(1, 4))), replace=False).tolist()
        words = [name, *few] if number % 3 == 1 else few if number % 3 == 2 else [name]
        found.append(" ".join(words))
    return found


def corpus(dataset: MultimodalDataset, rows: np.ndarray, vqvae: VQVAE, **more: object) -> Corpus:
    """Return pictures of a data set as a prior learns them; more: settings of `ways`."""
    styles = dataset.items["style"].iloc[rows].map(TRAIN_STYLES.index).to_numpy()
    codes = ways(vqvae, dataset.images[rows], **more)  # type: ignore[arg-type]
    return Corpus(codes, torch.from_numpy(styles.astype(np.int64)), captions(dataset, rows))


def split(dataset: MultimodalDataset) -> dict[str, np.ndarray]:
    """Return rows: train, tuning (200 pairs of the training split, kept back for choices), held-out, and val."""
    rows = training_rows(dataset)
    kept_back = np.random.default_rng(7).permutation(len(rows))[:TUNING]
    return {
        "train": np.delete(rows, kept_back), "tuning": rows[np.sort(kept_back)],
        "held-out": dataset.rows("train", TRAIN_STYLES, held_out=True), "val": dataset.rows("val", TRAIN_STYLES),
    }  # fmt: skip


def pretrain(*, steps: int | None = None, seed: int = 0, checkpoint: Path | None = None) -> Trained:
    """Train on the training split of seven styles, shifted and mirrored, in three parts; the card says the rest.

    In the first, some pairs are kept back; on them the settings of drawing are chosen. The second goes on with all, the
    third with things that were given a face.
    """
    dataset, vqvae, steps = load_emoji(), load_vqvae(), steps or STEPS
    rows = split(dataset)
    train = corpus(dataset, rows["train"], vqvae)
    tuning = corpus(dataset, rows["tuning"], vqvae, **PLAIN)
    seed_everything(seed)
    model = TokenPrior(
        vqvae, Shape(ways=train.codes.shape[1], styles=len(TRAIN_STYLES), **SHAPE), TRAIN_STYLES
    )
    settings = Settings(steps=steps, **LEARNING)
    model = train_prior(
        model, train, settings, seed=seed, held=tuning, checkpoint=checkpoint, every=max(1, steps // 50),
        progress=_progress("part 'first'", steps),
    )  # fmt: skip
    drawing = choose_drawing(dataset, model, rows["tuning"], seed=seed)
    model, last = finished(dataset, model, max(1, steps * LAST_STEPS // STEPS), seed, checkpoint)
    model, mood = with_moods(dataset, model, max(1, steps * MOOD_STEPS // STEPS), seed, checkpoint)
    return judged(dataset, model, (settings, last, mood), drawing, seed)


def finished(
    dataset: MultimodalDataset, model: TokenPrior, steps: int, seed: int = 0, checkpoint: Path | None = None
) -> tuple[TokenPrior, Settings]:
    """Return a trained prior that has learned on from all training pictures, smileys drawn more often, and how.

    A code that many captions share is learned in the first part; the few that set a smiley apart from the next one are
    not, though each picture was seen a hundred times, for the learning rate was high. Low and falling, it finds them.
    """
    rows, settings = training_rows(dataset), Settings(steps=steps, **LAST)
    everything = replace(corpus(dataset, rows, model.vqvae), odds=odds(dataset, rows))
    return _on(model, everything, settings, seed + 1, "last", checkpoint), settings


def _on(
    model: TokenPrior, corpus: Corpus, settings: Settings, seed: int, part: str, checkpoint: Path | None
) -> TokenPrior:
    """Return a trained prior that has learned on from a corpus; its history goes on too."""
    before, steps = model.history, settings.steps
    model = train_prior(
        model.requires_grad_(True), corpus, settings, seed=seed, every=max(1, steps // 20),
        checkpoint=checkpoint and checkpoint.with_stem(f"{checkpoint.stem}-{part}"),
        progress=_progress(f"part {part!r}", steps),
    )  # fmt: skip
    done = int(before[-1]["step"]) if before else 0
    model.history = [*before, *({**each, "step": each["step"] + done} for each in model.history)]
    return model


def with_moods(
    dataset: MultimodalDataset, model: TokenPrior, steps: int, seed: int = 0, checkpoint: Path | None = None
) -> tuple[TokenPrior, Settings]:
    """Return a trained prior that has learned on from its pictures and from things with a face, and how.

    No picture of the data set is called 'sad robot'. Pictures composed of a thing and a face are, so that a mood is
    learned as something that any thing can have. Rare words stay those of the data set's own captions.
    """
    rows, settings = training_rows(dataset), Settings(steps=steps, **MOODS)
    real, (composed, _) = corpus(dataset, rows, model.vqvae), mood_corpora(dataset, model.vqvae, rows, seed)
    chance = odds(dataset, rows)
    each = MOOD_SHARE / (1 - MOOD_SHARE) * chance.sum() / len(composed.codes)
    both = Corpus(
        torch.cat([real.codes, composed.codes]), torch.cat([real.styles, composed.styles]),
        [*real.captions, *composed.captions], torch.cat([chance, each.expand(len(composed.codes))]),
    )  # fmt: skip
    return _on(model, both, settings, seed + 2, "moods", checkpoint), settings


def mood_corpora(
    dataset: MultimodalDataset, vqvae: VQVAE, rows: np.ndarray, seed: int = 0
) -> tuple[Corpus, Corpus]:
    """Return things with a face to learn, and those of the pairs of thing and mood that are kept back."""
    made = moods.composed(dataset, rows, seed)
    called = moods.captions(captions(dataset, made.things), made.moods)
    styles = dataset.items["style"].iloc[made.things].map(TRAIN_STYLES.index).to_numpy().astype(np.int64)

    def part(pick: np.ndarray, **more: object) -> Corpus:
        codes = ways(vqvae, made.pictures[pick], **more)  # type: ignore[arg-type]
        return Corpus(codes, torch.from_numpy(styles[pick]), [called[number] for number in pick])

    held = kept_back(dataset, made, seed)
    return part(np.flatnonzero(~held)), part(np.flatnonzero(held), **PLAIN)


def kept_back(dataset: MultimodalDataset, made: moods.Composed, seed: int = 0) -> np.ndarray:
    """Return which composed pictures are never learned, bool (N,): KEPT_BACK of all pairs of concept and mood."""
    concepts = dataset.items["concept"].iloc[made.things].to_numpy(str)
    pairs = np.char.add(np.char.add(concepts, " "), made.moods)
    known = np.unique(pairs)
    out = np.random.default_rng(seed + 11).permutation(known)[: round(KEPT_BACK * len(known))]
    return np.isin(pairs, out)


def odds(dataset: MultimodalDataset, rows: np.ndarray) -> Tensor:
    """Return how often each picture is drawn in the last part, float (N,): 1, and SMILEY_ODDS for smileys."""
    group = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "group"].to_numpy(str)
    return torch.from_numpy(np.where(group == SMILEYS, SMILEY_ODDS, 1.0))


def _progress(part: str, steps: int) -> Callable[[int, Scalars], None]:
    return lambda number, said: print(f"{part}, step {number} of {steps}: {said}", flush=True)


def judged(
    dataset: MultimodalDataset, model: TokenPrior, settings: tuple[Settings, ...], drawing: dict[str, Any], seed: int
) -> Trained:  # fmt: skip
    """Return a trained prior with all that its card says of it."""
    rows = split(dataset)
    as_stored(model, eight_bits=True)
    judge, space = frozen_judge.load_pretrained(), embed.load_pretrained()
    pairs, unseen = (
        evaluate(dataset, model, judge, space, which, seeds=(seed,), **drawing) for which in SETS
    )
    facts = {
        "title": "Prior: pictures written from a caption and a style, code by code",
        "about": "A decoder-only transformer over the 64 codes of the shipped VQ-VAE. The sheet shows the first 100 "
        "held-out pairs, not chosen: the true picture on the left, the drawn one beside it.",
        "recipe": {
            "training pictures": f"{len(rows['train'])} of the split train, then {TUNING} pairs more, kept back until "
            f"then for choices; {model.shape.ways} ways each (moved by a pixel, mirrored; the network is told the "
            "way, and draws pictures as they are)",
            "left out": "OpenMoji, held-out pairs, val and test",
            "captions": "English names, names with a few of their keywords, and keywords; read as a mean of their "
            f"pieces weighted by rarity, and word by word, the first {model.shape.word_places}",
            **_in_turn(*map(asdict, settings)),
            "drawn more often after the first part": f"{SMILEYS}: {SMILEY_ODDS:g} times as often as others",
            "composed for the last part": f"things with the eyes and mouth of a training face of their style, in "
            f"{len(moods.MOODS)} moods, captioned 'sad robot' and the like; {MOOD_SHARE:.0%} of what is drawn; "
            f"{KEPT_BACK:.0%} of the pairs of thing and mood are never learned",
            "optimiser": "Muon for the matrices in the blocks, AdamW for the rest",
            f"drawing, chosen on the {TUNING} pairs before they were learned": f"guidance {drawing['guidance_scale']}, "
            f"style scale {drawing['style_scale']}, temperature {drawing['temperature']}",
        },
        "seed": seed,
        "metrics": {
            f"{name}, {arm}": _card_row(found, arm)
            for name, found in zip(SETS, (pairs, unseen), strict=True) for arm in ("drawn", "codes", "true")
        },
        "metrics are": "shares read right by the frozen judge and found among 100 captions by the shared space, with "
        "95 % intervals over families; Fréchet distance to the true pictures; codes are the true pictures through "
        "their codes",
        "noticed": _bits(dataset, model, rows),
        "noticed is": "bits a code of this network, and on the held-out pairs of simpler ones",
    }  # fmt: skip
    config = {
        "shape": asdict(model.shape),
        "styles": list(TRAIN_STYLES),
        "drawing": drawing,
        "history": model.history,
    }
    return Trained(model, config, facts, sheet(pairs), eight_bits=True)


def _in_turn(*parts: dict[str, Any]) -> dict[str, str]:
    """Return each setting once where all parts agree, else as it was from part to part."""
    told = {key: [str(part[key]) for part in parts] for key in parts[0]}
    return {key: each[0] if len(set(each)) == 1 else ", then ".join(each) for key, each in told.items()}


def _bits(dataset: MultimodalDataset, model: TokenPrior, rows: dict[str, np.ndarray]) -> dict[str, float]:
    named = {("tuning, learned at last" if name == "tuning" else name): each for name, each in rows.items()}
    parts = {name: corpus(dataset, each, model.vqvae, **PLAIN) for name, each in named.items()}
    codes = {name: each.codes[:, 0] for name, each in parts.items()}
    pair = (codes["train"], codes["held-out"], model.shape.codes)
    told = {f"told of {name}": float(bits_per_token(model, each).mean()) for name, each in parts.items()}
    return {
        **told,
        "unigram": float(unigram_bits(*pair)),
        "bigram": float(bigram_bits(*pair)),
        "log2 of 512": 9.0,
    }


@torch.no_grad()
def choose_drawing(
    dataset: MultimodalDataset, model: TokenPrior, rows: np.ndarray, seed: int = 0, times: int = 3
) -> dict[str, Any]:
    """Return the settings of GRID whose drawings of `rows` say most clearly what they are.

    Judged by the measuring network's own readings, the mean log-probability of the right subgroup and of the right
    style, each row drawn `times` times; the frozen judge has no say in it.
    """
    items, net = dataset.items.iloc[rows], feature_net.load_pretrained()
    of = dataset.concepts.loc[items["concept"]]
    names, styles = of["name_en"].tolist(), items["style"].tolist()
    subgroup = np.searchsorted(
        np.unique(dataset.concepts["subgroup"].to_numpy(str)), of["subgroup"].to_numpy(str)
    )
    style = np.array([TRAIN_STYLES.index(each) for each in styles])
    subgroup, style = np.tile(subgroup, times), np.tile(style, times)
    seeds = [seed + time * len(rows) for time in range(times)]

    def clear(settings: dict[str, float]) -> float:
        drawn = np.concatenate(
            [sample(model, names, styles=styles, seed=each, **settings) for each in seeds]  # type: ignore[arg-type]
        )
        features = torch.from_numpy(picture_features(drawn))
        said = zip((net.subgroup(features), net.style(features)), (subgroup, style), strict=True)
        return -sum(float(F.cross_entropy(scores, torch.from_numpy(right))) for scores, right in said)

    return max(GRID, key=clear)


def _card_row(found: Evaluation, arm: str) -> dict[str, str]:
    row = found.figures["arms"][arm]
    names = ("group", "subgroup", "style", "found among 100", "frechet")
    return {name: f"{row[name]:.2f}" for name in names}


def sheet(found: Evaluation, count: int = 100) -> np.ndarray:
    """Return the first 100 pairs of true (left) and drawn (right), ten pairs a row, uint8 (H, W, 3)."""
    pairs = [each for i in range(count) for each in (found.pictures["true"][i], found.pictures["drawn"][i])]
    return contact_sheet(np.stack(pairs), 20)


def show() -> str:
    """Return the tables of the shipped weights, drawn and judged now: what `pretrain prior --check` prints."""
    from mmteach import prior

    dataset, model, drawing = load_emoji(), prior.load_pretrained(), load_weights("prior")[0]["drawing"]
    judge, space = frozen_judge.load_pretrained(), embed.load_pretrained()
    said = []
    for which in SETS:
        found = evaluate(dataset, model, judge, space, which, **drawing)
        said.append(f"{which}: {found.figures['pictures']} pictures\n{table(found.figures)}")
    return "\n\n".join(said)
