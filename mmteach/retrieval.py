"""What a shared space is asked: who finds whom in a gallery, which class a picture is of, what a classifier can carry.

Used by notebook 06, its study and the card of the shipped weights. Every answer is given row by row, true or false, so
that intervals can be drawn over families.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from mmteach.data import MultimodalDataset
from mmteach.embed import SharedEmbedding
from mmteach.solutions import zero_shot

FULL = (
    "noto",
    "twemoji",
)  # the training styles that have drawn every concept: their gallery is always the same
LEVELS = ("group", "subgroup")


@dataclass(frozen=True)
class Views:
    """A set of concepts as a model sees, reads and hears them; all vectors float32 of length 1.

    concepts: their table (C rows)
    pictures (N, D), of concept `shows` (N,) in `style` (N,)
    texts: kind -> (C, D); kinds 'name', 'name and keywords', 'Chinese name'
    speech: voice -> (C, D)
    """

    concepts: pd.DataFrame
    pictures: np.ndarray
    shows: np.ndarray
    style: np.ndarray
    texts: dict[str, np.ndarray]
    speech: dict[str, np.ndarray]

    def labels(self, level: str) -> np.ndarray:
        """Return the group or subgroup of every concept (C,)."""
        return self.concepts[level].to_numpy(str)

    def families(self) -> np.ndarray:
        """Return the family of every picture (N,)."""
        return self.concepts["family"].to_numpy(str)[self.shows]


def views(
    model: SharedEmbedding, dataset: MultimodalDataset, rows: np.ndarray, *, voices: Sequence[str] = ()
) -> Views:
    """Return what `model` makes of the pictures in `rows` of the data set, and of their concepts' words and sounds."""
    ids, shows = np.unique(dataset.items["concept"].iloc[rows].to_numpy(), return_inverse=True)
    table = dataset.concepts.loc[ids]
    full = [
        f"{name} {words.replace(';', '')}"
        for name, words in zip(table.name_en, table.keywords_en, strict=True)
    ]
    texts = {"name": list(table.name_en), "name and keywords": full, "Chinese name": list(table.name_zh)}
    speech = {
        voice: model.speech([dataset.speech(each, voice)[0] for each in ids]).cpu().numpy()
        for voice in voices
    }
    style = dataset.items["style"].iloc[rows].to_numpy(str)
    return Views(
        table, model.pictures(dataset.images[rows]).cpu().numpy(), shows, style,
        {kind: model.text(captions).cpu().numpy() for kind, captions in texts.items()}, speech,
    )  # fmt: skip


def ranks(similarity: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the place (Q,) of each query's target among the keys, from similarities (Q, K): 1 is the first.

    A tie counts against us: a space that answers everything alike must not look perfect.
    """
    own = similarity[np.arange(len(similarity)), target]
    return (similarity >= own[:, None]).sum(axis=1)


def found(views: Views, queries: np.ndarray, style: str, *, back: bool = False) -> np.ndarray:
    """Return the ranks (n,) of each picture of a style when its concept's query (C, D) searches them.

    The gallery is all n pictures of that style, one a concept. back: each picture searches the n queries instead.
    """
    rows = np.flatnonzero(views.style == style)
    similarity = queries[views.shows[rows]] @ views.pictures[rows].T
    return ranks(similarity.T if back else similarity, np.arange(len(rows)))


def style_families(views: Views, style: str) -> np.ndarray:
    """Return the family of every answer of `found` (n,)."""
    return views.families()[views.style == style]


def class_texts(model: SharedEmbedding, classes: Sequence[str]) -> np.ndarray:
    """Return the text vectors (K, D) of class names such as 'face-smiling', hyphens read as spaces."""
    return model.text([each.replace("-", " ") for each in classes]).cpu().numpy()


def class_means(vectors: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the mean vector (K, D) of each class's rows of `vectors` (N, D)."""
    return np.stack([vectors[labels == each].mean(axis=0) for each in classes])


def right_zero_shot(test: Views, texts: np.ndarray, classes: Sequence[str], level: str) -> np.ndarray:
    """Return whether each picture (N,) is nearest to the text vector of its own class, from texts (K, D)."""
    answers = np.asarray(classes)[zero_shot(test.pictures, texts)]
    return answers == test.labels(level)[test.shows]


def classifiers(
    train: Views, tests: Sequence[Views], level: str, *, centre: bool = True
) -> list[dict[str, np.ndarray]]:
    """Return, for each test set and each pair 'trained on > tested on', whether each test row is classified right.

    Modalities: pictures, names, Chinese names. One logistic regression for each that is trained on; every modality is
    centred on its own mean over the training concepts first, for modalities lie apart in the space (Liang et al. 2022);
    without `centre` none is.
    """
    known = _modalities(train, level)
    middles = {name: centre * vectors.mean(axis=0) for name, (vectors, _) in known.items()}
    answers: list[dict[str, np.ndarray]] = [{} for _ in tests]
    for source, (vectors, labels) in known.items():
        model = LogisticRegression(C=10.0, max_iter=500).fit(vectors - middles[source], labels)
        for said, test in zip(answers, tests, strict=True):
            for target, (rows, truth) in _modalities(test, level).items():
                said[f"{source} > {target}"] = model.predict(rows - middles[target]) == truth
    return answers


def _modalities(views: Views, level: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the vectors of pictures, names and Chinese names, each with the label of every row."""
    labels = views.labels(level)
    kinds = {"names": views.texts["name"], "Chinese names": views.texts["Chinese name"]}
    return {"pictures": (views.pictures, labels[views.shows])} | {
        k: (each, labels) for k, each in kinds.items()
    }
