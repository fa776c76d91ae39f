"""Studies over several seeds: `python -m mmteach study 03_fusion` trains, resumes, and writes its figures as
JSON.

Read by notebook 03, whose live run uses the same functions with fewer steps and one seed. Intervals are
those of `metrics`: families and seeds drawn with replacement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mmteach.data import TRAIN_STYLES, VOICES, MultimodalDataset, data_checksum, load_emoji, training_rows
from mmteach.encoders import (
    SoundDictionary,
    coarse_log_probs,
    embed_pictures,
    picture_logits,
    train_picture_net,
)
from mmteach.fusion import FusionNet, fit_weights, late_fusion, predict_fusion, train_fusion, vector_encoder
from mmteach.fusion_net import FUSIONS, mean_as_null
from mmteach.metrics import Interval, bootstrap_interval, conditional_utilisation, paired_interval

MODALITIES = ("picture", "speech", "structured", "text")
PARTS = ("train", "val", "test", "openmoji")
HONEST, LEAKING = ["unicode_version"], ["unicode_version", "has_skin_tones", "gender"]
KINDS = ("plain-left", "robust-left", "hybrid", "late")
RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"


@dataclass(frozen=True)
class Recipe:
    """All settings of the study; every one was chosen on val."""

    picture_steps: int = 1000
    fusion_steps: int = 200
    width: int = 96
    drop: float = 0.6
    unimodal_weight: float = 0.3
    views: int = 3
    sounds: int = 600
    text_components: int = 600
    fusion: str = "concat"


@dataclass
class Task:
    """The rows of each part as tables, with group and subgroup as codes; one prediction a row."""

    tables: dict[str, pd.DataFrame]
    rows: dict[str, np.ndarray]
    groups: list[str]
    subgroups: list[str]

    @property
    def coarse(self) -> np.ndarray:
        """The group code of each subgroup code."""
        table = pd.concat(self.tables.values()).drop_duplicates("subgroup").set_index("subgroup")["group"]
        return np.array([self.groups.index(table[name]) for name in self.subgroups])

    def target(self, part: str, level: str = "group") -> np.ndarray:
        """Return the class codes of a part, (n,) int64; level: group or subgroup."""
        names = self.groups if level == "group" else self.subgroups
        return pd.Categorical(self.tables[part][level], categories=names).codes.astype(np.int64)

    def hard(self, train_families: int = 8, test_families: int = 3) -> list[str]:
        """Return the subgroups that have enough families to learn from and to be judged on."""
        counts = {
            part: self.tables[part].groupby("subgroup")["family"].nunique() for part in ("train", "test")
        }
        enough = (counts["train"] >= train_families) & (counts["test"] >= test_families)
        return sorted(enough[enough].index)


def make_task(dataset: MultimodalDataset) -> Task:
    """Return the task of notebook 03: training styles in train, val and test, OpenMoji apart; each row has a
    voice."""
    rows = {
        "train": training_rows(dataset),
        "val": dataset.rows("val", TRAIN_STYLES),
        "test": dataset.rows("test", TRAIN_STYLES),
        "openmoji": dataset.rows("test", "openmoji"),
    }
    tables = {part: dataset.frame(numbers) for part, numbers in rows.items()}
    order = {name: place for place, name in enumerate(dataset.concepts.index)}
    styles = {name: place for place, name in enumerate(dataset.styles)}
    for table in tables.values():  # the styles of one concept are read to us by different voices
        turn = table["concept"].map(order) + table["style"].map(styles)
        table["name_zh"] = dataset.concepts["name_zh"].loc[table["concept"]].to_numpy()
        table["voice"] = [VOICES[number % len(VOICES)] for number in turn]
    groups, subgroups = (sorted(dataset.concepts[level].unique()) for level in ("group", "subgroup"))
    return Task(tables, rows, groups, subgroups)


def name_features() -> Any:
    """Return TF-IDF of words beside TF-IDF of pieces of words (two to five letters)."""
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))


def name_model() -> Pipeline:
    """Return the text baseline, a classifier of names."""
    return make_pipeline(name_features(), LogisticRegression(C=10, max_iter=500))


def field_features(columns: Sequence[str]) -> Any:
    """Return one column a value of each structured field."""
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(columns))
    )


def clip_codes(dataset: MultimodalDataset, task: Task, words: int) -> dict[str, np.ndarray]:
    """Return the bag of sounds of each row, spoken by its voice: part -> float32 (n, words), scaled on train."""
    pairs = pd.concat(task.tables.values())[["concept", "voice"]].drop_duplicates()
    clips = {(c, v): dataset.speech(c, v)[0] for c, v in zip(pairs["concept"], pairs["voice"], strict=True)}
    keys = {part: list(zip(t["concept"], t["voice"], strict=True)) for part, t in task.tables.items()}
    learn = sorted(set(keys["train"]))
    model = make_pipeline(SoundDictionary(words), StandardScaler()).fit([clips[key] for key in learn])
    codes = dict(zip(clips, model.transform(list(clips.values())), strict=True))
    return {part: np.stack([codes[key] for key in keys[part]]).astype(np.float32) for part in task.tables}


def shared_inputs(dataset: MultimodalDataset, task: Task, recipe: Recipe) -> dict[str, dict[str, np.ndarray]]:
    """Return what does not depend on the seed: modality -> part -> float32 (n, features)."""
    train = task.tables["train"].drop_duplicates("concept")
    text = make_pipeline(
        name_features(), TruncatedSVD(min(recipe.text_components, len(train) - 1), random_state=0)
    )
    text.fit(train["name"])
    found = {"text": {part: _unit(text.transform(table["name"])) for part, table in task.tables.items()}}
    found["speech"] = clip_codes(dataset, task, recipe.sounds)
    for name, columns in {"structured": HONEST, "leaking": LEAKING}.items():
        fields = field_features(columns).fit(train)
        found[name] = {p: fields.transform(t).astype(np.float32) for p, t in task.tables.items()}
    return found


def _unit(rows: np.ndarray, length: float = 8.0) -> np.ndarray:
    return (length * rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def plain_log_probs(task: Task, inputs: Mapping[str, Mapping[str, np.ndarray]], level: str) -> dict[str, Any]:
    """Return the log-probabilities of the plain classifiers: modality -> part -> (n, classes), at group or
    subgroup."""
    count = len(task.groups if level == "group" else task.subgroups)
    weight = {"speech": 0.01, "structured": 1.0, "leaking": 1.0}
    train, target = task.tables["train"], task.target("train", level)
    once = ~train.duplicated("concept").to_numpy()
    names = name_model().fit(train["name"][once], target[once])
    found: dict[str, Any] = {"text": {p: _logs(names, t["name"], count) for p, t in task.tables.items()}}
    chinese = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=500),
    )
    chinese.fit(train["name_zh"][once], target[once])
    found["text_zh"] = {p: _logs(chinese, t["name_zh"], count) for p, t in task.tables.items()}
    for name, c in weight.items():
        model = LogisticRegression(C=c, max_iter=300).fit(inputs[name]["train"], target)
        found[name] = {part: _logs(model, inputs[name][part], count) for part in task.tables}
    return found


def _logs(model: Any, rows: Any, count: int) -> np.ndarray:
    """Return floored log-probabilities over all classes, (n, count), also of those the model has never
    met."""
    full = np.full((len(rows), count), 1e-6)
    full[:, model.classes_] = np.maximum(model.predict_proba(rows), 1e-6)
    return np.log(full)


def late(
    said: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str], target: np.ndarray, part: str
) -> np.ndarray:
    """Return late-fused log-probabilities of `part`, the weights of these modalities fitted on val."""
    weights = fit_weights(np.stack([said[name]["val"] for name in names]), target)
    return late_fusion(np.stack([said[name][part] for name in names]), weights)


def stacked(
    said: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str], target: np.ndarray, part: str
) -> np.ndarray:
    """Return log-probabilities of a logistic regression on the modalities' log-probabilities, fitted on
    val."""
    model = LogisticRegression(C=0.01, max_iter=500).fit(np.hstack([said[n]["val"] for n in names]), target)
    return _logs(model, np.hstack([said[n][part] for n in names]), said[names[0]][part].shape[1])


def train_on(
    inputs: Mapping[str, Mapping[str, np.ndarray]], target: np.ndarray, names: Sequence[str], recipe: Recipe,
    *, seed: int, fusion: str = "", plain: bool = False,
) -> FusionNet:  # fmt: skip
    """Train a FusionNet on these modalities; `plain` is joint training without dropout and unimodal heads."""
    torch.manual_seed(seed)
    encoders = {name: vector_encoder(inputs[name]["fit"].shape[1], recipe.width) for name in names}
    net = FusionNet(encoders, int(target.max()) + 1, width=recipe.width, fusion=fusion or recipe.fusion)
    tensors = {name: torch.from_numpy(inputs[name]["fit"]) for name in names}
    drop, heads = (0.0, 0.0) if plain else (recipe.drop if len(names) > 1 else 0.0, recipe.unimodal_weight)
    repeat = torch.from_numpy(np.tile(target, len(next(iter(tensors.values()))) // len(target)))
    train_fusion(net, tensors, repeat, steps=recipe.fusion_steps, seed=seed, drop=drop, unimodal_weight=heads)
    if plain:
        mean_as_null(net, tensors)
    return net


def net_log_probs(
    net: FusionNet, inputs: Mapping[str, Mapping[str, np.ndarray]], part: str, lacking: Iterable[str] = ()
) -> np.ndarray:
    """Return what a network says of a part, (n, classes) log-probabilities, with some modalities hidden."""
    tensors = {name: torch.from_numpy(inputs[name][part]) for name in net.names}
    rows = len(next(iter(tensors.values())))
    hidden = {name: torch.zeros(rows, dtype=torch.bool) for name in lacking}
    return predict_fusion(net, tensors, hidden).logits.log_softmax(1).clamp(min=np.log(1e-6)).numpy()


def answers(
    net: FusionNet, inputs: Mapping[str, Mapping[str, np.ndarray]], part: str, lacking: Iterable[str] = ()
) -> np.ndarray:
    """Return the predicted class codes of a part, (n,)."""
    return net_log_probs(net, inputs, part, lacking).argmax(1)


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every non-empty set of modalities, the largest last."""
    return [each for size in range(1, len(names) + 1) for each in combinations(names, size)]


def run_seed(
    task: Task, dataset: MultimodalDataset, inputs: dict, plain: dict, recipe: Recipe, seed: int
) -> dict:
    """Train everything once; return answers as int8 codes, name -> part -> (n,)."""
    pictures = {part: dataset.images[rows] for part, rows in task.rows.items()}
    net = train_picture_net(
        pictures["train"], task.target("train", "subgroup"), steps=recipe.picture_steps, seed=seed,
        num_classes=len(task.subgroups), coarse=task.coarse,
    )  # fmt: skip
    fine = {part: torch.from_numpy(picture_logits(net, images)) for part, images in pictures.items()}
    said = {level: dict(plain[level]) for level in plain}
    said["group"]["picture"] = {
        p: np.maximum(coarse_log_probs(scores, torch.from_numpy(task.coarse)).numpy(), np.log(1e-6))
        for p, scores in fine.items()
    }
    said["subgroup"]["picture"] = {
        p: x.log_softmax(1).clamp(min=np.log(1e-6)).numpy() for p, x in fine.items()
    }
    inputs = {**inputs, "picture": {part: embed_pictures(net, images) for part, images in pictures.items()}}
    inputs = with_views(inputs, net, pictures["train"], recipe.views, seed)
    found = late_answers(task, said["group"])
    found |= {f"hard/{name}": value for name, value in hard_answers(task, said["subgroup"]).items()}
    return found | net_answers(task, inputs, said["group"], recipe, seed)


def with_views(inputs: dict, net: Any, images: np.ndarray, views: int, seed: int) -> dict:
    """Add the part `fit`: the training rows once as they are and `views` times with the picture augmented.

    The network has learned its training pictures almost by heart; fusion would trust them too much.
    """
    seen = [embed_pictures(net, images, augment=seed * 100 + i) for i in range(views)]
    fit = {name: np.tile(parts["train"], (views + 1, 1)) for name, parts in inputs.items()}
    fit["picture"] = np.concatenate([inputs["picture"]["train"], *seen])
    return {name: {**parts, "fit": fit[name]} for name, parts in inputs.items()}


def late_answers(task: Task, said: dict) -> dict[str, dict[str, np.ndarray]]:
    """Return the answers of single modalities and of late fusion for every set of modalities, and of some
    more."""
    target, found = task.target("val"), {}
    for name in (*MODALITIES, "leaking", "text_zh"):
        found[f"single/{name}"] = {p: said[name][p].argmax(1) for p in PARTS}
    leaking = tuple("leaking" if name == "structured" else name for name in MODALITIES)
    for names in (*subsets(MODALITIES), leaking, ("picture", "text", "text_zh"), (*MODALITIES, "text_zh")):
        found["late/" + "+".join(names)] = {p: late(said, names, target, p).argmax(1) for p in PARTS[1:]}
    for names in (("picture", "text"), MODALITIES):
        found["stacked/" + "+".join(names)] = {
            p: stacked(said, names, target, p).argmax(1) for p in PARTS[1:]
        }
    return found


def hard_answers(task: Task, said: dict) -> dict[str, dict[str, np.ndarray]]:
    """Return answers among the hard subgroups: single modalities, and late fusion of two and of all."""
    keep = np.array([task.subgroups.index(name) for name in task.hard()])
    inside = np.isin(task.target("val", "subgroup"), keep)
    among = {name: {p: said[name][p][:, keep] for p in PARTS} for name in MODALITIES}
    fitted = {name: {**parts, "val": parts["val"][inside]} for name, parts in among.items()}
    target = np.searchsorted(keep, task.target("val", "subgroup")[inside])
    found = {f"single/{name}": {"test": keep[among[name]["test"].argmax(1)]} for name in MODALITIES}
    for names in (("picture", "text"), MODALITIES):
        found["late/" + "+".join(names)] = {"test": keep[late(fitted, names, target, "test").argmax(1)]}
    return found


def net_answers(
    task: Task, inputs: dict, said: dict, recipe: Recipe, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return the answers of the fusion networks: four fusions, plain and robust, whole and with parts missing."""
    target, found = task.target("train"), {}
    for fusion in FUSIONS:
        for kind in ("plain", "robust"):
            net = train_on(
                inputs, target, MODALITIES, recipe, seed=seed, fusion=fusion, plain=kind == "plain"
            )
            found[f"{kind}/{fusion}"] = {part: answers(net, inputs, part) for part in PARTS[1:]}
            if fusion == recipe.fusion:
                found |= missing_answers(task, net, inputs, said, kind)
    for left in subsets(MODALITIES)[:-1]:  # what could be had by training on what is left
        net = train_on(inputs, target, left, recipe, seed=seed)
        found[f"trained/{'+'.join(left)}"] = {part: answers(net, inputs, part) for part in PARTS[1:3]}
    for kind in ("plain", "robust"):
        net = train_on(inputs, target, ("picture", "text"), recipe, seed=seed, plain=kind == "plain")
        for name, lacking in {"both": (), "picture alone": ("text",), "text alone": ("picture",)}.items():
            found[f"pair-{kind}/{name}"] = {part: answers(net, inputs, part, lacking) for part in PARTS[:3]}
    return found


def missing_answers(
    task: Task, net: FusionNet, inputs: dict, said: dict, kind: str
) -> dict[str, dict[str, np.ndarray]]:
    """Return a network's answers with each set of modalities left, alone and as one more voice of late fusion."""
    found = {}
    for left in subsets(MODALITIES):
        lacking, name = set(MODALITIES) - set(left), "+".join(left)
        voice = {part: net_log_probs(net, inputs, part, lacking) for part in PARTS[1:]}
        found[f"{kind}-left/{name}"] = {part: voice[part].argmax(1) for part in PARTS[1:]}
        if kind == "robust":
            voices = ({**said, "net": voice}, (*left, "net"), task.target("val"))
            found[f"hybrid/{name}"] = {part: late(*voices, part).argmax(1) for part in PARTS[1:]}
    return found


def summary(task: Task, seeds: list[dict[str, dict[str, np.ndarray]]]) -> dict[str, Any]:
    """Return every figure of the study with its interval, and the names of the best models, chosen on val."""
    judge = Judge(task, seeds)
    single = judge.best([n for n in seeds[0] if n.startswith("single/") and n.split("/")[1] in (*MODALITIES, "text_zh")]
                        + [f"trained/{name}" for name in MODALITIES])  # fmt: skip
    everything = "+".join(MODALITIES)
    # Stacking is left out of the choice: it learns so much from val that val cannot judge it.
    four = judge.best(
        [f"late/{everything}", f"hybrid/{everything}", *(f"robust/{fusion}" for fusion in FUSIONS)]
    )
    fused = judge.best([four, f"late/{everything}+text_zh"])
    pair = judge.best(["late/picture+text", "hybrid/picture+text", "trained/picture+text"])
    names = [name for name in seeds[0] if not name.startswith("hard/")]
    figures: dict[str, Any] = {
        "best_single": single, "best_fusion": fused, "best_of_four": four, "best_picture_text": pair,
        "test": {n: judge.accuracy(n, "test") for n in names},
        "openmoji": {n: judge.accuracy(n, "openmoji") for n in names if "openmoji" in seeds[0][n]},
        "val": {n: float(np.mean(judge.right(n, "val"))) for n in names},
        "hard": {n.removeprefix("hard/"): judge.hard(n) for n in seeds[0] if n.startswith("hard/")},
        "hard_classes": task.hard(),
        "gain": judge.gain(fused, single), "gain_of_four": judge.gain(four, single),
        "gain_picture_text": judge.gain(pair, single),
        "second_language_adds": judge.gain(f"late/{everything}+text_zh", f"late/{everything}"),
        "gain_hard": judge.hard(f"hard/late/{everything}", judge.best_hard()),
        "missing": missing_grid(judge),
        "utilisation": utilisation(judge),
    }  # fmt: skip
    return figures


def missing_grid(judge: Judge) -> dict[str, Any]:
    """Return for each set of modalities left: the networks, late fusion, the best trained on it, and the
    gaps."""
    grid = {}
    for left in subsets(MODALITIES)[:-1]:
        name = "+".join(left)
        best = judge.best(
            [f"late/{name}", f"trained/{name}"] + ([f"single/{name}"] if len(left) == 1 else [])
        )
        grid[name] = {
            "best": best, "best_accuracy": judge.accuracy(best, "test"),
            **{kind: judge.accuracy(f"{kind}/{name}", "test") for kind in KINDS},
            **{f"gap {kind}": judge.gain(f"{kind}/{name}", best) for kind in KINDS},
            "gap to own kind": judge.gain(f"robust-left/{name}", f"trained/{name}"),
        }  # fmt: skip
    return grid


def utilisation(judge: Judge) -> dict[str, Any]:
    """Return, for joint training without and with the cure, accuracies and conditional utilisations (mean of
    seeds)."""
    found: dict[str, Any] = {}
    for kind in ("plain", "robust"):
        names = {n: f"pair-{kind}/{n}" for n in ("both", "picture alone", "text alone")}
        found[kind] = {n: judge.accuracy(full, "test") for n, full in names.items()}
        train = {n: float(np.mean(judge.right(full, "train"))) for n, full in names.items()}
        found[kind]["train"] = train
        both, picture, text = (found[kind][n].mean for n in names)
        found[kind]["u_picture"] = conditional_utilisation(both, text)
        found[kind]["u_text"] = conditional_utilisation(both, picture)
    found["cure_text"] = judge.gain("pair-robust/text alone", "pair-plain/text alone")
    found["cure_picture"] = judge.gain("pair-robust/picture alone", "pair-plain/picture alone")
    return found


def scoreboard(figures: dict[str, Any]) -> dict[str, Interval]:
    """Return the test accuracies that a reader compares, under plain names."""
    everything = "+".join(MODALITIES)
    rows = {**{name: f"single/{name}" for name in MODALITIES}, "picture + text, late": "late/picture+text"}
    rows |= {"all four, late": f"late/{everything}", "all four, stacked": f"stacked/{everything}"}
    rows |= {
        f"all four, {name}, {kind}": f"{kind}/{name}" for name in FUSIONS for kind in ("plain", "robust")
    }
    rows |= {
        "all four, late + network": f"hybrid/{everything}",
        "and the Chinese name, late": f"late/{everything}+text_zh",
    }
    return {name: figures["test"][key] for name, key in rows.items()}


class Judge:
    """Accuracies of named answers over seeds, with intervals by family."""

    def __init__(self, task: Task, seeds: list[dict[str, dict[str, np.ndarray]]]) -> None:
        self.task, self.seeds = task, seeds

    def right(self, name: str, part: str, level: str = "group") -> np.ndarray:
        """Return (seeds, n) bool."""
        return np.stack([seed[name][part] for seed in self.seeds]) == self.task.target(part, level)

    def accuracy(self, name: str, part: str) -> Interval:
        return bootstrap_interval(self.right(name, part), self.task.tables[part]["family"])

    def gain(self, a: str, b: str) -> Interval:
        return paired_interval(
            self.right(a, "test"), self.right(b, "test"), self.task.tables["test"]["family"]
        )

    def best(self, names: Sequence[str]) -> str:
        """Return the name that is most often right on val."""
        return max(names, key=lambda name: float(self.right(name, "val").mean()))

    def best_hard(self) -> str:
        """Return the single modality that does best on the hard version."""
        return max((f"hard/single/{name}" for name in MODALITIES), key=lambda name: self.hard(name).mean)

    def hard(self, name: str, against: str = "") -> Interval:
        """Return the macro-averaged accuracy over the hard subgroups, or by how much it beats `against`."""
        table = self.task.tables["test"]
        inside = table["subgroup"].isin(self.task.hard()).to_numpy()
        right = self.right(name, "test", "subgroup")[:, inside].astype(float)
        if against:
            right = right - self.right(against, "test", "subgroup")[:, inside]
        table = table[inside]
        return bootstrap_interval(right, table["family"], labels=table["subgroup"])


def run(
    name: str = "03_fusion", *, seeds: Sequence[int] = range(5), recipe: Recipe | None = None,
    dataset: MultimodalDataset | None = None, out: Path = RESULTS, parts: Path = Path("runs/study"), say: Any
    = print,
) -> dict[str, Any]:  # fmt: skip
    """Run the study `name` over `seeds` and write `out/name.json`; seeds already in `parts` are not run
    again.

    A seed is kept under a name made of recipe, data and seed, written beside and renamed, so a run killed at
    any moment resumes after its last whole seed. Raises ValueError for a study that does not exist.
    """
    if name != "03_fusion":
        raise ValueError(f"there is no study {name!r}; the only one so far is 03_fusion")
    recipe, began, checksum = recipe or Recipe(), time.time(), data_checksum()
    dataset = dataset or load_emoji()
    task = make_task(dataset)
    key = hashlib.sha256(json.dumps([asdict(recipe), checksum], sort_keys=True).encode()).hexdigest()[:12]
    files = [Path(parts) / f"{name}-{key}-{seed}.npz" for seed in seeds]
    if not all(file.exists() for file in files):
        inputs = shared_inputs(dataset, task, recipe)
        plain = {level: plain_log_probs(task, inputs, level) for level in ("group", "subgroup")}
        say(f"shared features and plain classifiers ready after {time.time() - began:.0f} s")
    for seed, file in zip(seeds, files, strict=True):
        if not file.exists():
            start = time.time()
            _write_seed(file, run_seed(task, dataset, inputs, plain, recipe, seed), time.time() - start)
        say(f"seed {seed}: {_seconds(file):.0f} s")
    figures = {
        "study": name, "recipe": asdict(recipe), "seeds": list(seeds), "data_sha256": checksum,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
        "torch": torch.__version__, "seconds": round(sum(map(_seconds, files))),
        "rows": {part: len(rows) for part, rows in task.rows.items()},
        "families": {part: int(table["family"].nunique()) for part, table in task.tables.items()},
        **summary(task, [_read_seed(file) for file in files]),
    }  # fmt: skip
    write_json(Path(out) / f"{name}.json", figures)
    return figures


def command(name: str, doc: str | None, seeds: int, smoke: str) -> argparse.ArgumentParser:
    """Return the parser of a study's command line with the options that all have; `smoke` says what one does."""
    parser = argparse.ArgumentParser(prog=f"mmteach study {name}", description=doc)
    parser.add_argument("name", choices=[name])
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many seeds (default {seeds})")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON (default data/results)")
    parser.add_argument("--parts", type=Path, default=Path("runs/study"), help="folder of finished runs")
    parser.add_argument("--smoke", action="store_true", help=f"{smoke}, to see that everything runs")
    return parser


def destination(chosen: argparse.Namespace) -> Path:
    """Return the folder that the JSON goes to: never the published one after a smoke run."""
    return chosen.parts if chosen.smoke and chosen.out == RESULTS else chosen.out


def read(name: str = "03_fusion", folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of a finished study, its intervals as Interval. Raises FileNotFoundError with the
    way out."""
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run `python -m mmteach study {name}` first")

    def interval(found: dict[str, Any]) -> Any:
        return Interval(**found) if set(found) == {"low", "mean", "high"} else found

    return json.loads(path.read_text("utf-8"), object_hook=interval)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a study from the command line."""
    chosen = command("03_fusion", __doc__, 5, "a few steps only").parse_args(argv)
    recipe = replace(Recipe(), picture_steps=5, fusion_steps=5, sounds=20, views=1) if chosen.smoke else None
    figures = run(
        chosen.name, seeds=range(chosen.seeds), recipe=recipe, out=destination(chosen), parts=chosen.parts
    )
    print(f"best fusion {figures['best_fusion']}, gain over {figures['best_single']}: {figures['gain']}")
    return 0


def _write_seed(path: Path, found: dict[str, dict[str, np.ndarray]], seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp.npz")
    flat = {
        f"{name}|{part}": codes.astype(np.int8)
        for name, parts in found.items()
        for part, codes in parts.items()
    }
    np.savez_compressed(beside, seconds=seconds, **flat)  # type: ignore[arg-type]
    beside.replace(path)


def _read_seed(path: Path) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as file:
        for key in file.files:
            if key != "seconds":
                name, part = key.split("|")
                found.setdefault(name, {})[part] = file[key].astype(np.int64)
    return found


def _seconds(path: Path) -> float:
    with np.load(path) as file:
        return float(file["seconds"])


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures as JSON, rounded to four places, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(_plain(figures), indent=1) + "\n", "utf-8")
    beside.replace(path)


def _plain(value: Any) -> Any:
    """Return figures as JSON takes them, rounded to four places."""
    if isinstance(value, Interval):
        return {key: round(number, 4) for key, number in value._asdict().items()}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float):
        return round(value, 4)
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    sys.exit(main())
