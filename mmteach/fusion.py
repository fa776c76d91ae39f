"""Early and late fusion as scikit-learn estimators over named modalities, any of which a row may lack.

Built in notebook 03; intermediate fusion is in `fusion_net` and can be had from here too. The three kinds are
those of Baltrusaitis, Ahuja & Morency 2017 (arXiv:1705.09406).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.optimize import minimize
from sklearn.base import ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from mmteach.fusion_net import FusionNet, FusionOutput, predict_fusion, train_fusion, vector_encoder
from mmteach.solutions import gated_fusion, late_fusion, low_rank_tensor_fusion, modality_dropout

__all__ = [
    "EarlyFusion", "FusionNet", "FusionOutput", "LateFusion", "fit_weights", "gated_fusion", "late_fusion",
    "low_rank_tensor_fusion", "modality_dropout", "predict_fusion", "train_fusion", "vector_encoder",
]  # fmt: skip

Modality = tuple[str, Any, Hashable | Sequence[Hashable]]  # name, estimator, column or list of columns


class _Fusion(ClassifierMixin, _BaseComposition):
    """What early and late fusion share: named modalities, their columns, and which rows have them."""

    modalities: list[Modality]

    @property
    def _named(self) -> list[tuple[str, Any]]:
        return [(name, estimator) for name, estimator, _ in self.modalities]

    @_named.setter
    def _named(self, named: list[tuple[str, Any]]) -> None:
        columns = [columns for _, _, columns in self.modalities]
        self.modalities = [(*pair, where) for pair, where in zip(named, columns, strict=True)]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, those of each modality's estimator as `name__setting`."""
        return self._get_params("_named", deep=deep)

    def set_params(self, **params: Any) -> _Fusion:
        """Set settings, also nested ones such as `text__max_features`."""
        self._set_params("_named", **params)
        return self

    def _frame(self, X: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
        """Return X as a DataFrame that has every column the modalities name, or say which are lacking."""
        frame = X if isinstance(X, pd.DataFrame) else _as_frame(X)
        lacking = [c for _, _, columns in self.modalities for c in _listed(columns) if c not in frame.columns]
        if lacking:
            raise ValueError(
                f"X has no column {lacking[0]!r}; it has {list(frame.columns)}. "
                "Where a modality is missing keep its column, with None in it."
            )
        return frame

    def _start(self, X: pd.DataFrame | Mapping[str, Any], y: Any) -> tuple[pd.DataFrame, np.ndarray]:
        """Check names and lengths, learn the classes and their shares; return (frame, y as codes)."""
        names = [name for name, _, _ in self.modalities]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"modalities needs at least one name, each once; got {names}")
        frame, y = self._frame(X), np.asarray(y)
        if y.shape != (len(frame),):
            raise ValueError(f"y must hold one label for each of the {len(frame)} rows, got shape {y.shape}")
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.feature_names_in_ = np.array(
            [c for _, _, cs in self.modalities for c in _listed(cs)], dtype=object
        )
        self.n_features_in_ = len(self.feature_names_in_)
        self.prior_ = np.bincount(codes) / len(codes)
        return frame, codes

    def _present(self, frame: pd.DataFrame) -> np.ndarray:
        """Return bool (rows, modalities): false where every column of a modality is None or NaN."""
        return np.stack([~_missing(frame[_listed(columns)]) for _, _, columns in self.modalities], axis=1)

    def predict(self, X: pd.DataFrame | Mapping[str, Any]) -> np.ndarray:
        """Return the likeliest class of each row."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: pd.DataFrame | Mapping[str, Any]) -> np.ndarray:
        raise NotImplementedError


class EarlyFusion(_Fusion):
    """One classifier on the features of all modalities side by side.

    modalities: list of (name, transformer, columns); a column name hands the transformer a Series (or a
    stacked array, where the cells are arrays of one shape), a list of names a DataFrame. A missing modality
    gets the mean of its training features, and a column of its own that says so.
    """

    def __init__(self, modalities: list[Modality], classifier: Any = None) -> None:
        self.modalities = modalities
        self.classifier = classifier

    def fit(self, X: pd.DataFrame | Mapping[str, Any], y: Any) -> EarlyFusion:
        """Fit each transformer on the rows that have its modality, then the classifier on all rows."""
        frame, codes = self._start(X, y)
        present = self._present(frame)
        self.transformers_, self.means_ = {}, {}
        for column, (name, transformer, columns) in enumerate(self.modalities):
            _need_rows(present[:, column], name)
            rows, transformer = frame[present[:, column]], clone(transformer)
            features = transformer.fit_transform(_cells(rows, columns), codes[present[:, column]])
            self.transformers_[name], self.means_[name] = (
                transformer,
                np.asarray(features.mean(axis=0)).ravel(),
            )
        self.classifier_ = (
            clone(self.classifier) if self.classifier is not None else LogisticRegression(max_iter=1000)
        )
        self.classifier_.fit(self._fused(frame, present), self.classes_[codes])
        return self

    def transform(self, X: pd.DataFrame | Mapping[str, Any]) -> np.ndarray | sp.csr_matrix:
        """Return the features that the classifier sees, (rows, all features and one `missing` a modality)."""
        check_is_fitted(self)
        frame = self._frame(X)
        return self._fused(frame, self._present(frame))

    def _fused(self, frame: pd.DataFrame, present: np.ndarray) -> np.ndarray | sp.csr_matrix:
        blocks = [
            self._block(frame, present[:, i], name, cs) for i, (name, _, cs) in enumerate(self.modalities)
        ]
        blocks.append((~present).astype(np.float64))
        some_sparse = any(sp.issparse(block) for block in blocks)
        return sp.hstack(blocks, format="csr") if some_sparse else np.hstack(blocks)

    def _block(self, frame: pd.DataFrame, present: np.ndarray, name: str, columns: Any) -> Any:
        """Return one modality's features, its training mean in the rows that lack it."""
        if present.all():
            return self.transformers_[name].transform(_cells(frame, columns))
        mean = self.means_[name]
        block = np.tile(mean, (len(frame), 1))
        if present.any():
            features = self.transformers_[name].transform(_cells(frame[present], columns))
            block[present] = features.toarray() if sp.issparse(features) else features
        return block

    def predict_proba(self, X: pd.DataFrame | Mapping[str, Any]) -> np.ndarray:
        """Return class probabilities, (rows, classes)."""
        fused = self.transform(X)
        return self.classifier_.predict_proba(fused)


class LateFusion(_Fusion):
    """One classifier a modality, and a rule that joins their log-probabilities.

    modalities: list of (name, classifier with predict_proba, columns), columns as in EarlyFusion. how:
    "weighted" adds the log-probabilities, each times a weight; "stacked" feeds them to a logistic
    regression. The rule is learned on rows that the classifiers did not see (`cv` folds, whole groups kept
    together when `fit` gets groups), one for each set of modalities a row may have, so a row that lacks some
    is judged by a rule of its own.
    """

    def __init__(self, modalities: list[Modality], *, how: str = "weighted", cv: int = 5) -> None:
        self.modalities = modalities
        self.how = how
        self.cv = cv

    def fit(self, X: pd.DataFrame | Mapping[str, Any], y: Any, groups: Any = None) -> LateFusion:
        """Fit each classifier on the rows that have its modality, and the rules on cross-validated
        answers."""
        if self.how not in ("weighted", "stacked"):
            raise ValueError(f"how must be 'weighted' or 'stacked', got {self.how!r}")
        frame, codes = self._start(X, y)
        present = self._present(frame)
        self.classifiers_, unseen = {}, np.zeros((len(self.modalities), len(frame), len(self.classes_)))
        for column, (name, classifier, columns) in enumerate(self.modalities):
            have = present[:, column]
            _need_rows(have, name)
            cells, folds = _cells(frame[have], columns), _folds(self.cv, codes[have], groups, have)
            answers = cross_val_predict(
                clone(classifier), cells, codes[have], cv=folds, method="predict_proba"
            )
            self.classifiers_[name] = clone(classifier).fit(cells, codes[have])
            unseen[column, have] = _log(_spread(answers, np.unique(codes[have]), len(self.classes_)))
        self.rules_ = {}
        for pattern in _patterns(len(self.modalities)):
            rows = present[:, list(pattern)].all(axis=1)
            if rows.any():
                self.rules_[pattern] = _learn_rule(self.how, unseen[list(pattern)][:, rows], codes[rows])
        return self

    @property
    def weights_(self) -> dict[tuple[str, ...], np.ndarray]:
        """The learned weights (how="weighted"), one array for each set of modalities present."""
        names = [name for name, _, _ in self.modalities]
        return {tuple(names[i] for i in pattern): rule for pattern, rule in self.rules_.items()}

    def log_probabilities(self, X: pd.DataFrame | Mapping[str, Any]) -> np.ndarray:
        """Return what each modality's classifier says, (modalities, rows, classes), zeros where it is
        missing."""
        check_is_fitted(self)
        frame = self._frame(X)
        present = self._present(frame)
        said = np.zeros((len(self.modalities), len(frame), len(self.classes_)))
        for column, (name, _, columns) in enumerate(self.modalities):
            have, classifier = present[:, column], self.classifiers_[name]
            if have.any():
                answers = classifier.predict_proba(_cells(frame[have], columns))
                said[column, have] = _log(_spread(answers, classifier.classes_, len(self.classes_)))
        return said

    def predict_proba(self, X: pd.DataFrame | Mapping[str, Any]) -> np.ndarray:
        """Return class probabilities, (rows, classes); a row that lacks every modality gets the class
        shares."""
        said, present = self.log_probabilities(X), self._present(self._frame(X))
        joined = np.tile(self.prior_, (len(present), 1))
        for pattern in {tuple(np.flatnonzero(row).tolist()) for row in present}:
            rows = (present == np.isin(np.arange(present.shape[1]), pattern)).all(axis=1)
            if pattern:
                joined[rows] = self._join(pattern, said[list(pattern)][:, rows])
        return joined

    def _join(self, pattern: tuple[int, ...], said: np.ndarray) -> np.ndarray:
        """Return probabilities by the rule of this set of modalities; equal weights for a set never met."""
        rule = self.rules_.get(pattern, np.ones(len(pattern)))
        if isinstance(rule, LogisticRegression):
            return _spread(rule.predict_proba(_side_by_side(said)), rule.classes_, len(self.classes_))
        return np.exp(late_fusion(said, rule))


def fit_weights(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights (M,), none negative, that make the fused answers likeliest on held-out rows.

    log_probs: (M, N, C) of M modalities; labels: (N,) class codes. The loss is convex in the weights.
    """

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        fused = late_fusion(log_probs, weights)
        rows = np.arange(len(labels))
        expected = (np.exp(fused) * log_probs).sum(-1)  # (M, N)
        gradient = (expected - log_probs[:, rows, labels]).mean(-1)
        return float(-fused[rows, labels].mean()), gradient

    count = len(log_probs)
    found = minimize(loss_and_gradient, np.full(count, 1 / count), jac=True, bounds=[(0, 20)] * count)
    return found.x


def _learn_rule(how: str, unseen: np.ndarray, codes: np.ndarray) -> np.ndarray | LogisticRegression:
    if how == "weighted" or len(np.unique(codes)) < 2:
        return fit_weights(unseen, codes)
    return LogisticRegression(C=0.1, max_iter=2000).fit(_side_by_side(unseen), codes)


def _side_by_side(log_probs: np.ndarray) -> np.ndarray:
    return np.concatenate(list(log_probs), axis=1)  # (M, N, C) -> (N, M * C)


def _patterns(count: int) -> Iterable[tuple[int, ...]]:
    """Yield every non-empty set of `count` modalities."""
    return (each for size in range(1, count + 1) for each in combinations(range(count), size))


def _folds(cv: int, codes: np.ndarray, groups: Any, have: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    if groups is None:
        return list(StratifiedKFold(cv, shuffle=True, random_state=0).split(codes, codes))
    return list(GroupKFold(cv).split(codes, codes, np.asarray(groups)[have]))


def _spread(probabilities: np.ndarray, seen: np.ndarray, count: int) -> np.ndarray:
    """Return probabilities over all `count` classes from those over the classes a classifier has `seen`."""
    full = np.zeros((len(probabilities), count))
    full[:, seen] = probabilities
    return full


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Return logarithms with a floor of 1e-6: one modality's certainty must not veto all the others."""
    return np.log(np.clip(probabilities, 1e-6, None))


def _listed(columns: Any) -> list[Hashable]:
    return list(columns) if isinstance(columns, (list, tuple)) else [columns]


def _need_rows(have: np.ndarray, name: str) -> None:
    if not have.any():
        raise ValueError(f"modality {name!r} is missing from every row: there is nothing to fit it on")


def _as_frame(X: Mapping[str, Any]) -> pd.DataFrame:
    """Return a dict of arrays or lists as a DataFrame: arrays of two and more axes become a column of
    arrays."""
    if not isinstance(X, Mapping):
        raise TypeError(f"X must be a DataFrame or a dict of arrays, got {type(X).__name__}")
    lengths = {name: len(values) for name, values in X.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays of X differ in length: {lengths}")
    return pd.DataFrame({name: pd.Series(list(values)) for name, values in X.items()})


def _missing(cells: pd.DataFrame) -> np.ndarray:
    """Return bool (rows,): true where every cell of the row is None, NaN, or an array of nothing but NaN."""
    return np.asarray(cells.map(_is_missing).all(axis=1), dtype=bool)


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, np.ndarray):
        return cell.dtype.kind == "f" and cell.size > 0 and bool(np.isnan(cell).all())
    return bool(pd.api.types.is_scalar(cell) and pd.isna(cell))


def _cells(frame: pd.DataFrame, columns: Any) -> Any:
    """Return what an estimator gets: a DataFrame for a list of columns, else a Series, or a stacked array."""
    if isinstance(columns, (list, tuple)):
        return frame[list(columns)]
    cells = frame[columns]
    shapes = {cell.shape if isinstance(cell, np.ndarray) else None for cell in cells}
    return np.stack(cells.to_list()) if len(shapes) == 1 and shapes != {None} else cells
