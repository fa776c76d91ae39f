"""What the shipped prior draws, judged: `python -m mmteach study 07_text_to_image`.

Read by notebook 07. Nothing is trained here: the shipped weights draw with several seeds, at several guidance scales,
and are measured against true pictures, ceilings and baselines as `text_to_image` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmteach import embed, frozen_judge, moods, prior
from mmteach.data import MultimodalDataset, data_checksum, load_emoji, training_rows
from mmteach.encoders import small
from mmteach.metrics import bootstrap_interval
from mmteach.prior_recipe import PLAIN, SETS, corpus, kept_back, split
from mmteach.solutions import contact_sheet
from mmteach.study import RESULTS, command, destination, read, write_json
from mmteach.text_to_image import LEVELS, Evaluation, evaluate, retrieval_ranks, table, task
from mmteach.vqvae import reconstruct
from mmteach.weights import load_weights

NAME = "07_text_to_image"
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
STYLE_SCALES = (0.0, 0.5, 1.0, 2.0, 4.0)
LENDS = (0.0, 0.25, 0.5, 0.75)
MOODY = 400  # pictures of things with a mood that are drawn of each kind
WORST = 10


def run(
    seeds: Sequence[int],
    scales: Sequence[float] = SCALES,
    style_scales: Sequence[float] = STYLE_SCALES,
    lends: Sequence[float] = LENDS,
    moody: int = MOODY,
) -> tuple[dict[str, Any], dict[str, Evaluation]]:
    """Return all figures of the shipped prior, and what was drawn for each set."""
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    dataset, model = load_emoji(), prior.load_pretrained()
    judge, space, config = frozen_judge.load_pretrained(), embed.load_pretrained(), load_weights("prior")[0]
    drawing, found = config["drawing"], {}
    for which in SETS:
        found[which] = evaluate(dataset, model, judge, space, which, seeds=seeds, **drawing)
        print(f"{which}\n{table(found[which].figures)}\n", flush=True)
    figures = {
        "study": NAME, "seeds": list(seeds), "drawing": drawing, "data_sha256": data_checksum(),
        "machine": machine(), "sets": {which: each.figures for which, each in found.items()},
        "worst": {which: worst(dataset, which, each) for which, each in found.items()},
        **{
            name: sweep(dataset, model, judge, space, each)
            for name, each in settings(drawing, scales, style_scales, lends).items()
        },
        "moods": mood_figures(dataset, model, drawing, seeds, moody),
        "bits": bits(dataset, model), "history": config["history"],
    }  # fmt: skip
    return figures, found


def worst(dataset: MultimodalDataset, which: str, found: Evaluation) -> list[dict[str, Any]]:
    """Return the drawings whose caption the shared space found last, the worst first."""
    work = task(dataset, which)
    last = np.argsort(-found.ranks, kind="stable")[:WORST]
    return [
        {"place": int(i), "caption": work.captions[i], "style": work.styles[i], "rank": int(found.ranks[i])}
        for i in last
    ]


def settings(
    drawing: dict[str, float], scales: Sequence[float], style_scales: Sequence[float], lends: Sequence[float]
) -> dict[str, list[dict[str, float]]]:
    """Return the settings of each sweep: guidance scales without style scale; style scales, and lending, at it."""
    return {
        "guidance": [drawing | {"guidance_scale": each, "style_scale": 0.0} for each in scales],
        "style": [drawing | {"style_scale": each} for each in style_scales],
        "lend": [drawing | {"lend": each} for each in lends],
    }


def sweep(
    dataset: MultimodalDataset, model: Any, judge: Any, space: Any, settings: Sequence[dict[str, float]]
) -> list[dict[str, Any]]:
    """Return for each of some settings of `sample` what is read right and found on the held-out pairs; one seed."""
    work, rows = task(dataset, SETS[0]), []
    for each in settings:
        drawn = prior.sample(model, work.captions, styles=work.styles, **each)  # type: ignore[arg-type]
        said, ranks = judge.read(drawn), retrieval_ranks(space, drawn, work.captions)
        row = {level: bootstrap_interval(said[level] == work.truth[level], work.families) for level in LEVELS}
        rows.append({**each, **row, "found among 100": bootstrap_interval(ranks == 1, work.families)})
    return rows


def mood_figures(
    dataset: MultimodalDataset,
    model: prior.TokenPrior,
    drawing: dict[str, float],
    seeds: Sequence[int],
    count: int,
) -> dict[str, Any]:
    """Return how often the mood asked for is read from things drawn with one: `moods.read_moods`, chance 1 in 4.

    learned: pairs of thing and mood that training showed; kept back: pairs that it did not, though it showed the thing
    in other moods and the mood on other things; thing alone: those, asked for without a mood; faces drawn
    anew: composed pictures of the same moods with a face drawn once more, sometimes the same, through their codes.
    """
    rows, family = training_rows(dataset), dataset.concepts["family"].loc[dataset.items["concept"]].to_numpy()
    made, again = (moods.composed(dataset, rows, seed) for seed in (0, 1))
    shown, held = made._replace(pictures=small(made.pictures)), kept_back(dataset, made)
    names = dataset.concepts.loc[dataset.items["concept"].iloc[made.things], "name_en"].to_numpy(str)
    styles, rng = dataset.items["style"].iloc[made.things].to_numpy(str), np.random.default_rng(0)
    new, old = (rng.permutation(np.flatnonzero(each))[:count] for each in (held, ~held))
    asked = {
        "learned": (old, [f"{made.moods[i]} {names[i]}" for i in old]),
        "kept back": (new, [f"{made.moods[i]} {names[i]}" for i in new]),
        "thing alone": (new, list(names[new])),
    }
    said: dict[str, Any] = {"pictures": len(new), "kept back in all": int(held.sum())}
    for kind, (pick, captions) in asked.items():
        drawn = [
            prior.sample(model, captions, styles=list(styles[pick]), seed=1000 * seed, **drawing)  # type: ignore[arg-type]
            for seed in seeds
        ]
        right = np.stack([moods.read_moods(shown, pick, each) == made.moods[pick] for each in drawn])
        said[kind] = bootstrap_interval(right, family[made.things[pick]])
    other = reconstruct(model.vqvae, small(again.pictures[new]))
    right = moods.read_moods(shown, new, other) == made.moods[new]
    return {**said, "faces drawn anew": bootstrap_interval(right, family[made.things[new]])}


def bits(dataset: MultimodalDataset, model: prior.TokenPrior) -> dict[str, Any]:
    """Return bits a code of the prior, with intervals, and of models that know less, on held-out pairs and val."""
    rows = split(dataset)
    parts = {name: corpus(dataset, rows[name], model.vqvae, **PLAIN) for name in ("train", "held-out", "val")}
    family = dataset.concepts["family"].loc[dataset.items["concept"]].to_numpy()
    said: dict[str, Any] = {
        name: bootstrap_interval(prior.bits_per_token(model, parts[name]).numpy(), family[rows[name]])
        for name in ("held-out", "val")
    }
    codes = {name: each.codes[:, 0] for name, each in parts.items()}
    pair = (codes["train"], codes["held-out"], model.shape.codes)
    said["unconditional"] = bootstrap_interval(
        prior.bits_per_token(model, _without_captions(parts["held-out"])).numpy(), family[rows["held-out"]]
    )
    return {**said, "unigram": float(prior.unigram_bits(*pair)), "bigram": float(prior.bigram_bits(*pair)),
            "log2 of codes": float(np.log2(model.shape.codes))}  # fmt: skip


def _without_captions(whole: prior.Corpus) -> prior.Corpus:
    return prior.Corpus(whole.codes, whole.styles, [[""]] * len(whole.codes))


def figures(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the finished study, its intervals as Interval."""
    return read(NAME, folder)


def worst_sheet(found: Evaluation, places: Sequence[int]) -> np.ndarray:
    """Return true above drawn for some tasks, uint8 (H, W, 3)."""
    shown = np.concatenate([found.pictures["true"][list(places)], found.pictures["drawn"][list(places)]])
    return contact_sheet(shown, len(places))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command(NAME, __doc__, 3, "one seed and one scale of each kind")
    chosen = parser.parse_args(argv)
    out = destination(chosen)
    few: tuple[Any, ...] = (SCALES[:1], STYLE_SCALES[:1], LENDS[:1], 4) if chosen.smoke else ()
    said, found = run(range(1 if chosen.smoke else chosen.seeds), *few)
    write_json(out / f"{NAME}.json", said)
    pictures = worst_sheet(found[SETS[0]], [each["place"] for each in said["worst"][SETS[0]]])
    Image.fromarray(pictures).save(out / f"{NAME}.webp", lossless=True)
    print(f"wrote {out / NAME}.json and .webp")
    return 0
