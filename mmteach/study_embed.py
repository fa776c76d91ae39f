"""What moves between pictures, words and voices, and what does not: `python -m mmteach study 06_embed`.

Read by notebook 06, which trains one space live with the same functions. All arms have the same networks, pictures,
steps and seeds; they differ in the languages of the captions or in what stands in a batch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmteach.checkpoint import described
from mmteach.data import TRAIN_STYLES, VOICES, MultimodalDataset, data_checksum, load_emoji
from mmteach.embed import SharedEmbedding, info_nce
from mmteach.embed_train import Corpus, Settings, batch_losses, corpus, kin_loss, train_embed, training_rows
from mmteach.metrics import Interval, bootstrap_interval, paired_interval
from mmteach.retrieval import (
    FULL,
    LEVELS,
    Views,
    class_means,
    class_texts,
    classifiers,
    found,
    right_zero_shot,
    views,
)
from mmteach.study import RESULTS, command, destination, read, write_json

NAME, MAIN = "06_embed", "English and Chinese"
ENGLISH, TREATED, UNTREATED, FLOOR = "English only", "crowded, treated", "crowded, untreated", "untrained"
STEPS, PLACES = 300, (1, 5, 10)
Answers = dict[str, np.ndarray]


def arms(steps: int = STEPS) -> dict[str, Settings]:
    """Return the settings of every arm; the crowded ones have four pictures of each of 32 concepts in a batch."""
    main = Settings(steps=steps)
    crowded = replace(main, views=4)
    return {
        MAIN: main,
        ENGLISH: replace(main, chinese=0.0),
        TREATED: crowded,
        UNTREATED: replace(crowded, treat=False),
        FLOOR: replace(main, steps=0),
    }


def train_arm(data: Corpus, settings: Settings, seed: int) -> SharedEmbedding:
    """Train one arm; without steps, return the towers as they start. The crowded arms train without speech."""
    torch.manual_seed(seed)
    model = SharedEmbedding()
    if settings.steps == 0:
        return model.eval()
    data = data if settings.views == 1 else replace(data, sounds=None)
    return train_embed(data, settings, seed=seed, model=model)[0]


def answers(model: SharedEmbedding, dataset: MultimodalDataset, voices: Sequence[str] = VOICES) -> Answers:
    """Return what a model answers about the test concepts, by question: ranks of searches, and right or wrong.

    Keys are 'rank|query|style' and 'right|question|level|pictures'; see `summary` for what they are.
    """
    train = views(model, dataset, training_rows(dataset))
    seven = views(model, dataset, dataset.rows("test", TRAIN_STYLES), voices=voices)
    openmoji = replace(
        views(model, dataset, dataset.rows("test", "openmoji")), speech=seven.speech
    )  # same concepts
    said = _searches(seven, FULL[0]) | _searches(seven, FULL[1]) | _searches(openmoji, "openmoji")
    for level in LEVELS:
        said |= _classes(model, train, {"seven styles": seven, "OpenMoji": openmoji}, level)
    return said


def _searches(test: Views, style: str) -> Answers:
    queries = test.texts | {f"voice {voice}": each for voice, each in test.speech.items()}
    there = {f"rank|{name}|{style}": found(test, each, style) for name, each in queries.items()}
    return there | {f"rank|back|{style}": found(test, test.texts["name"], style, back=True)}


def _classes(model: SharedEmbedding, train: Views, tests: dict[str, Views], level: str) -> Answers:
    classes = sorted(set(train.labels(level)))
    texts = {
        "class names": class_texts(model, classes),
        "names of the class": class_means(train.texts["name"], train.labels(level), classes),
    }
    said = {
        f"right|{how}|{level}|{part}": right_zero_shot(test, each, classes, level)
        for how, each in texts.items()
        for part, test in tests.items()
    }
    for part, right in zip(tests, classifiers(train, list(tests.values()), level), strict=True):
        said |= {f"right|{how}|{level}|{part}": each for how, each in right.items()}
    return said


def run_arm(
    name: str, settings: Settings, seed: int, dataset: MultimodalDataset, data: Corpus, folder: Path
) -> Path:
    """Train one arm, keep its answers in a file under `folder`, and return where; a file that is there stays.

    The file's name carries settings, data and the losses' own code: an arm of another loss is another arm.
    """
    losses = described([batch_losses, info_nce, kin_loss])
    key = hashlib.sha256(f"{name} {settings} {losses} {data_checksum()}".encode()).hexdigest()[:10]
    path = folder / f"{name.replace(' ', '_').replace(',', '')}-{seed}-{key}.npz"
    if not path.exists():
        began = time.process_time()
        model = train_arm(data, settings, seed)
        seconds = time.process_time() - began
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp.npz")
        np.savez_compressed(beside, seconds=seconds, **answers(model, dataset))  # type: ignore[arg-type]
        beside.replace(path)
    return path


def read_arm(path: Path) -> tuple[Answers, float]:
    """Return the answers of a finished arm, and the seconds of processor time that its training took."""
    with np.load(path) as file:
        said = {key: file[key] for key in file.files}
    return said, float(said.pop("seconds"))


class Judge:
    """Intervals over families and seeds for the answers of several seeds."""

    def __init__(self, dataset: MultimodalDataset) -> None:
        family = dataset.concepts["family"]
        rows = {
            "seven styles": dataset.rows("test", TRAIN_STYLES),
            "OpenMoji": dataset.rows("test", "openmoji"),
        }
        rows |= {style: dataset.rows("test", style) for style in (*FULL, "openmoji")}
        self.families = {
            part: family.loc[dataset.items["concept"].iloc[each]].to_numpy(str) for part, each in rows.items()
        }
        tested = np.unique(dataset.items["concept"].iloc[rows["OpenMoji"]].to_numpy())  # the order of `views`
        self.families["concepts"] = family.loc[tested].to_numpy(str)

    def recall(
        self, seeds: Sequence[Answers], queries: Sequence[str], styles: Sequence[str], k: int
    ) -> Interval:
        """Return recall at k of the searches by all `queries` in all `styles`."""
        return bootstrap_interval(*self._hits(seeds, queries, styles, k))

    def recall_gain(self, a: Sequence[Answers], b: Sequence[Answers], query: str, k: int = 10) -> Interval:
        """Return by how much recall at k of arm `a` is above that of `b`, seed by seed and row by row."""
        (hits, families), (other, _) = (self._hits(each, [query], FULL, k) for each in (a, b))
        return paired_interval(hits, other, families)

    def _hits(
        self, seeds: Sequence[Answers], queries: Sequence[str], styles: Sequence[str], k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(query, style) for query in queries for style in styles]
        hits = [np.concatenate([said[f"rank|{q}|{s}"] for q, s in pairs]) <= k for said in seeds]
        return np.stack(hits), np.concatenate([self.families[style] for _, style in pairs])

    def right(self, seeds: Sequence[Answers], how: str, level: str, part: str) -> Interval:
        """Return the share of rows of a question that are answered right."""
        rows = np.stack([said[f"right|{how}|{level}|{part}"] for said in seeds])
        return bootstrap_interval(
            rows, self.families["concepts" if how.endswith("names") and ">" in how else part]
        )

    def right_gain(self, seeds: Sequence[Answers], how: str, other: str, level: str, part: str) -> Interval:
        """Return by how much one question about pictures is answered better than another."""
        a, b = (np.stack([said[f"right|{each}|{level}|{part}"] for said in seeds]) for each in (how, other))
        return paired_interval(a, b, self.families[part])


def summary(arms: dict[str, list[Answers]], judge: Judge) -> dict[str, Any]:
    """Return all intervals over families and seeds.

    retrieval: arm -> query -> recall at 1, 5, 10 in galleries of all test concepts in noto and in twemoji, and in
    OpenMoji; 'back' is the picture searching the names. classes: arm -> level -> pictures -> question -> share right;
    'class names' and 'names of the class' are zero-shot, 'a > b' is a classifier trained on a, tested on b.
    """
    voices = [f"voice {each}" for each in VOICES]
    queries = {each: [each] for each in ("name", "name and keywords", "Chinese name", "back", *voices)}
    queries["speech"] = voices
    galleries = {"two styles": FULL, "OpenMoji": ("openmoji",)}
    keys = next(iter(arms.values()))[0]
    asked = [key.split("|")[1:] for key in keys if key.startswith("right|")]
    main = arms[MAIN]
    return {
        "retrieval": {
            arm: {
                query: {
                    where: {str(k): judge.recall(said, each, styles, k) for k in PLACES}
                    for where, styles in galleries.items()
                }
                for query, each in queries.items()
            }
            for arm, said in arms.items()
        },
        "classes": {
            arm: {
                level: {
                    part: {
                        how: judge.right(said, how, level, part)
                        for how, *rest in asked if rest == [level, part]
                    }
                    for part in ("seven styles", "OpenMoji")
                }
                for level in LEVELS
            }
            for arm, said in arms.items()
        },
        "text_above_picture_probe": {
            level: judge.right_gain(main, "names > pictures", "pictures > pictures", level, "seven styles")
            for level in LEVELS
        },
        "treated_above_untreated": judge.recall_gain(arms[TREATED], arms[UNTREATED], "name"),
        "chinese_captions_gain": {
            query: judge.recall_gain(main, arms[ENGLISH], query) for query in ("name", "Chinese name")
        },
    }  # fmt: skip


def run(seeds: Sequence[int], steps: int, folder: Path) -> dict[str, Any]:
    """Train every arm with every seed and return all figures."""
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    dataset = load_emoji()
    data = corpus(dataset, training_rows(dataset))
    by_arm: dict[str, list[Answers]] = {name: [] for name in arms(steps)}
    seconds: dict[str, list[float]] = {name: [] for name in by_arm}
    for seed in seeds:
        for name, settings in arms(steps).items():
            said, took = read_arm(run_arm(name, settings, seed, dataset, data, folder))
            by_arm[name].append(said)
            seconds[name].append(took)
            first = (said["rank|name|noto"] <= 10).mean()
            print(f"seed {seed}, {name}: recall at 10 {first:.3f}, {took:.0f} s", flush=True)
    test = dataset.concepts[dataset.concepts["split"] == "test"]
    rows = dataset.rows("test", TRAIN_STYLES)
    shown = test.loc[dataset.items["concept"].iloc[rows]]
    return {
        "study": NAME, "recipe": asdict(arms(steps)[MAIN]), "seeds": list(seeds), "data_sha256": data_checksum(),
        "machine": machine(), "threads": torch.get_num_threads(), "concepts": len(test), "pictures": len(rows),
        "families": int(test["family"].nunique()),
        "chance": {
            **{f"recall at {k}": k / len(test) for k in PLACES},
            **{level: float(shown[level].value_counts(normalize=True).max()) for level in LEVELS},
        },
        "seconds": seconds,
        **summary(by_arm, Judge(dataset)),
    }  # fmt: skip


def figures(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the finished study, its intervals as Interval."""
    return read(NAME, folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command(NAME, __doc__, 3, "a few steps")
    chosen = parser.parse_args(argv)
    out = destination(chosen)
    write_json(
        out / f"{NAME}.json", run(range(chosen.seeds), 2 if chosen.smoke else STEPS, chosen.parts / NAME)
    )
    print(f"wrote {out / NAME}.json")
    return 0
