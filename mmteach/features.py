"""Features: scikit-learn transformers that turn pictures, speech and structured fields into rows of numbers.

Built in notebook 02. Follows Dalal & Triggs 2005 (gradients), Coates, Lee & Ng 2011 (patch dictionary) and
Davis & Mermelstein 1980 (MFCC). A missing item (None, NaN) becomes a row of NaN, which fusion deals with.
Text needs nothing of ours: use scikit-learn's TfidfVectorizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.fft import dct
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.utils.validation import check_is_fitted

from mmteach.solutions import colour_histogram, mel_filterbank, patch_codes

LOUDNESS_FLOOR = 1e-10  # power below which silence is cut off: -100 dB


def is_missing(item: Any) -> bool:
    """Say whether `item` marks a missing modality: None, NaN or pandas' NA."""
    return item is None or item is pd.NA or (isinstance(item, float) and np.isnan(item))


def as_items(X: Any) -> list[Any]:
    """Return the items of `X`: a Series, a list, an array of items, or a table of one column.

    Raises ValueError for a table of several columns and TypeError for something that is no collection.
    """
    if isinstance(X, pd.DataFrame) or (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2):
        if X.shape[1] != 1:
            raise ValueError(
                f"X is a table of {X.shape[1]} columns; give one column, such as frame['picture']"
            )
        X = X.iloc[:, 0] if isinstance(X, pd.DataFrame) else X[:, 0]
    if isinstance(X, str) or not hasattr(X, "__len__"):
        raise TypeError(f"X should be a list, Series or array of items, not a {type(X).__name__}")
    return list(X)


def at_least(low: float, **settings: float) -> None:
    """Raise ValueError naming the first of `settings` that is under `low`."""
    for name, value in settings.items():
        if not value >= low:
            raise ValueError(f"{name} is {value!r}; it must be at least {low}")


class ItemFeatures(TransformerMixin, BaseEstimator):
    """One row of float32 an item, each item on its own: a subset of rows gives that subset of the output.

    A subclass says how to `_read` an item, what `_names` its numbers have, and how to make a `_row`;
    one that learns from the training items does so in `_learn`.
    """

    def fit(self, X: Any, y: Any = None) -> ItemFeatures:
        """Check the settings and learn from the items that are not missing; `y` is ignored."""
        self._check()
        items = [self._read(item, row) for row, item in enumerate(as_items(X)) if not is_missing(item)]
        if not items:
            raise ValueError(f"{type(self).__name__} needs at least one item that is not missing, X has none")
        self._learn(items)
        self.n_features_in_ = 1
        self.names_ = np.asarray(self._names(), dtype=object)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return float32 (rows, features); the row of a missing item is NaN throughout."""
        check_is_fitted(self, "names_")
        items = as_items(X)
        out = np.full((len(items), len(self.names_)), np.nan, dtype=np.float32)
        for row, item in enumerate(items):
            if not is_missing(item):
                out[row] = self._row(self._read(item, row))
        return out

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return one name a column, object (features,)."""
        check_is_fitted(self, "names_")
        return self.names_

    def _check(self) -> None:
        """Raise ValueError for a setting out of range."""

    def _learn(self, items: list[np.ndarray]) -> None:
        """Learn from the training items; most features have nothing to learn."""

    def _read(self, item: Any, row: int) -> np.ndarray:
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError

    def _row(self, item: np.ndarray) -> np.ndarray:
        raise NotImplementedError


# Pictures


def read_picture(item: Any, row: int) -> np.ndarray:
    """Return `item` as uint8 (H, W, 3), a grey picture with its channel repeated.

    Raises ValueError that names the row, what was found and how to mend it.
    """
    picture = np.asarray(item)
    if picture.ndim == 2 and min(picture.shape) > 4:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or 0 in picture.shape:
        raise ValueError(
            f"X, row {row}: a picture has shape (H, W, 3) or (H, W), got {picture.shape}; "
            "put a single picture in a list, and lay a transparent one on white first"
        )
    if picture.dtype != np.uint8:
        raise ValueError(f"X, row {row}: a picture is uint8, 0 to 255, got {picture.dtype}; convert it")
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


@lru_cache(maxsize=64)
def area_weights(n_in: int, n_out: int) -> np.ndarray:
    """Return the matrix (n_out, n_in) that averages `n_in` pixels over `n_out` equal stretches."""
    edges = np.linspace(0, n_in, n_out + 1)
    starts = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return (np.clip(overlap, 0, None) * n_out / n_in).astype(np.float32)


def shrink(picture: np.ndarray, size: int) -> np.ndarray:
    """Average uint8 (H, W, 3) down to float32 (size, size, 3) in [0, 1]."""
    height, width = picture.shape[:2]
    rows, columns = area_weights(height, size), area_weights(width, size)
    channels = picture.transpose(2, 0, 1).astype(np.float32) / 255
    return (rows @ channels @ columns.T).transpose(1, 2, 0)


class PictureFeatures(ItemFeatures):
    """Features of pictures uint8 (H, W, 3)."""

    def _read(self, item: Any, row: int) -> np.ndarray:
        return read_picture(item, row)


class PixelFeatures(PictureFeatures):
    """The picture itself, averaged down to `size` x `size` pixels and laid out in one row."""

    def __init__(self, size: int = 16):
        self.size = size

    def _check(self) -> None:
        at_least(1, size=self.size)

    def _names(self) -> list[str]:
        return [
            f"{c}_{y}_{x}"
            for y in range(self.size)
            for x in range(self.size)
            for c in ("red", "green", "blue")
        ]

    def _row(self, item: np.ndarray) -> np.ndarray:
        return shrink(item, self.size).ravel()


class ColourHistogram(PictureFeatures):
    """The share of pixels in each of `bins`**3 boxes of colour: what colours there are, and nothing of where.

    histogram: the rule, (uint8 (H, W, 3), bins) -> (bins**3,).
    """

    def __init__(self, bins: int = 4, histogram: Callable[[np.ndarray, int], np.ndarray] = colour_histogram):
        self.bins = bins
        self.histogram = histogram

    def _check(self) -> None:
        at_least(1, bins=self.bins)

    def _names(self) -> list[str]:
        boxes = range(self.bins)
        return [f"red{r}_green{g}_blue{b}" for r in boxes for g in boxes for b in boxes]

    def _row(self, item: np.ndarray) -> np.ndarray:
        return self.histogram(item, self.bins)


def gradient_histogram(grey: np.ndarray, cells: int, orientations: int) -> np.ndarray:
    """Return (cells, cells, orientations): the strength of edges by direction in each cell of `grey` (H, W).

    Directions run over half a turn, so that dark-to-light and light-to-dark count alike; an edge between two
    directions is shared between them. The whole sums to one, or to zero for a flat picture. After Dalal & Triggs
    2005, without their overlapping blocks.
    """
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    place = np.arctan2(down, right) % np.pi / np.pi * orientations
    low = np.floor(place).astype(int)
    share = place - low
    cell_y, cell_x = (np.arange(n) * cells // n for n in grey.shape)
    cell = cell_y[:, None] * cells + cell_x
    total = np.zeros(cells * cells * orientations)
    for direction, weight in ((low, 1 - share), (low + 1, share)):
        box = cell * orientations + direction % orientations
        total += np.bincount(box.ravel(), (strength * weight).ravel(), minlength=total.size)
    return (total / max(total.sum(), 1e-9)).reshape(cells, cells, orientations)


class GradientHistogram(PictureFeatures):
    """Square root of edge strength by direction in a grid of `cells` x `cells`: outlines, nothing of colour."""

    def __init__(self, cells: int = 8, orientations: int = 9, size: int = 64):
        self.cells = cells
        self.orientations = orientations
        self.size = size

    def _check(self) -> None:
        at_least(1, cells=self.cells, orientations=self.orientations)
        at_least(max(2, self.cells), size=self.size)

    def _names(self) -> list[str]:
        cells, turns = range(self.cells), range(self.orientations)
        return [
            f"edge_{y}_{x}_{180 * t // self.orientations}deg" for y in cells for x in cells for t in turns
        ]

    def _row(self, item: np.ndarray) -> np.ndarray:
        grey = shrink(item, self.size).mean(axis=2)
        return np.sqrt(gradient_histogram(grey, self.cells, self.orientations)).ravel()


def normalise_contrast(patches: np.ndarray) -> np.ndarray:
    """Give each patch (P, D) mean 0 and spread 1; the small added variance keeps flat patches flat (section 3.1)."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    return centred / np.sqrt(patches.var(axis=1, keepdims=True) + 10 / 255**2)


def zca(patches: np.ndarray, softening: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean (D,), W (D, D)): the columns of (patches - mean) @ W are nearly uncorrelated, of like spread."""
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
    return mean, (vectors / np.sqrt(np.maximum(values, 0) + softening)) @ vectors.T


def all_patches(picture: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """Cut (S, S, 3) into every patch on a grid of step `stride`: (n, n, patch * patch * 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (patch, patch), axis=(0, 1))
    windows = windows[::stride, ::stride].transpose(0, 1, 3, 4, 2)
    return windows.reshape(*windows.shape[:2], -1)


class PatchDictionary(PictureFeatures):
    """How much of each learned patch there is in each corner of the picture (Coates, Lee & Ng 2011).

    `fit` learns `n_atoms` typical patches: random patches, contrast normalised, whitened, k-means.
    `transform` compares every patch with every atom by `encode`, ((P, D), (K, D)) -> (P, K), and averages
    over `pool` x `pool` regions.
    Fitted: `mean_` (D,), `whitening_` (D, D), `atoms_` (K, D) with D = patch_size**2 * 3.
    """

    def __init__(
        self,
        n_atoms: int = 256,
        patch_size: int = 6,
        size: int = 32,
        stride: int = 1,
        pool: int = 2,
        n_patches: int = 20_000,
        encode: Callable[[np.ndarray, np.ndarray], np.ndarray] = patch_codes,
        random_state: int | None = 0,
    ):
        self.n_atoms = n_atoms
        self.patch_size = patch_size
        self.size = size
        self.stride = stride
        self.pool = pool
        self.n_patches = n_patches
        self.encode = encode
        self.random_state = random_state

    def _check(self) -> None:
        at_least(1, n_atoms=self.n_atoms, stride=self.stride, pool=self.pool)
        at_least(2, patch_size=self.patch_size)
        at_least(self.patch_size + self.stride * (self.pool - 1), size=self.size)
        at_least(max(2, self.n_atoms), n_patches=self.n_patches)

    def _learn(self, items: list[np.ndarray]) -> None:
        pictures = np.stack([shrink(item, self.size) for item in items])
        each = min(-(-self.n_patches // len(items)), (self.size - self.patch_size + 1) ** 2)
        square = (self.patch_size, self.patch_size)
        cut = PatchExtractor(patch_size=square, max_patches=each, random_state=self.random_state)
        patches = normalise_contrast(cut.transform(pictures).reshape(-1, self.patch_size**2 * 3))
        if len(patches) < self.n_atoms:
            raise ValueError(
                f"n_atoms is {self.n_atoms}, but X holds only {len(patches)} patches to learn from"
            )
        mean, whitening = zca(patches)
        means = MiniBatchKMeans(self.n_atoms, batch_size=2048, n_init=3, random_state=self.random_state)
        means.fit((patches - mean) @ whitening)
        self.mean_, self.whitening_, self.atoms_ = (
            part.astype(np.float32) for part in (mean, whitening, means.cluster_centers_)
        )

    def _names(self) -> list[str]:
        regions = range(self.pool)
        return [f"atom{k}_{y}_{x}" for y in regions for x in regions for k in range(self.n_atoms)]

    def whitened(self, picture: np.ndarray) -> np.ndarray:
        """Return every patch of uint8 (H, W, 3), contrast normalised and whitened: (n, n, D)."""
        patches = all_patches(shrink(picture, self.size), self.patch_size, self.stride)
        flat = normalise_contrast(patches.reshape(-1, patches.shape[-1]))
        return ((flat - self.mean_) @ self.whitening_).reshape(patches.shape)

    def codes(self, picture: np.ndarray) -> np.ndarray:
        """Return how much of each atom each patch of uint8 (H, W, 3) holds: (n, n, K)."""
        patches = self.whitened(picture)
        codes = self.encode(patches.reshape(-1, patches.shape[-1]), self.atoms_)
        return np.asarray(codes).reshape(*patches.shape[:2], -1)

    def _row(self, item: np.ndarray) -> np.ndarray:
        rows = np.array_split(self.codes(item), self.pool, axis=0)
        regions = [region for row in rows for region in np.array_split(row, self.pool, axis=1)]
        return np.concatenate([region.mean(axis=(0, 1)) for region in regions])


def patch_picture(values: np.ndarray) -> np.ndarray:
    """Return an atom or a patch (P * P * 3,) as a picture uint8 (P, P, 3): 0 is grey, its largest value full."""
    side = round((len(values) / 3) ** 0.5)
    scaled = 127.5 + 127.5 * values / max(np.abs(values).max(), 1e-9)
    return scaled.round().astype(np.uint8).reshape(side, side, 3)


# Speech


def stft_power(signal: np.ndarray, n_fft: int = 512, hop: int = 160) -> np.ndarray:
    """Return the spectrogram (n_fft // 2 + 1, frames): power by frequency in each short, Hann-windowed frame.

    signal: (T,). The clip is padded with silence so that frame t is centred on sample t * hop.
    Equals the squared magnitude of librosa.stft(center=True).
    """
    at_least(2, n_fft=n_fft)
    at_least(1, hop=hop)
    padded = np.pad(np.asarray(signal, dtype=np.float64), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return np.abs(np.fft.rfft(frames * window, axis=1).T) ** 2


def decibels(power: np.ndarray) -> np.ndarray:
    """Return 10 log10 of `power`, floored at -100 dB."""
    return 10 * np.log10(np.maximum(power, LOUDNESS_FLOOR))


def log_mel(
    signal: np.ndarray,
    sample_rate: int = 16_000,
    *,
    n_mels: int = 40,
    n_fft: int = 512,
    hop: int = 160,
    filters: np.ndarray | None = None,
) -> np.ndarray:
    """Return the log-mel spectrogram in decibels, (n_mels, frames), of `signal` (T,).

    filters: (n_mels, n_fft // 2 + 1), by default `mel_filterbank(n_mels, n_fft, sample_rate)`.
    Equals librosa's melspectrogram(htk=True, norm=None) in decibels with ref=1, top_db=None.
    """
    bank = mel_filterbank(n_mels, n_fft, sample_rate) if filters is None else filters
    return decibels(bank @ stft_power(signal, n_fft, hop))


def mfcc(
    signal: np.ndarray,
    sample_rate: int = 16_000,
    *,
    n_mfcc: int = 13,
    n_mels: int = 40,
    n_fft: int = 512,
    hop: int = 160,
    filters: np.ndarray | None = None,
) -> np.ndarray:
    """Return the cepstral coefficients (n_mfcc, frames): the first waves (DCT-II) of each log-mel column.

    Equals librosa.feature.mfcc of the same log-mel spectrogram.
    """
    sound = log_mel(signal, sample_rate, n_mels=n_mels, n_fft=n_fft, hop=hop, filters=filters)
    return dct(sound, axis=0, norm="ortho")[:n_mfcc]


class SpeechFeatures(ItemFeatures):
    """Mean and spread over time of a clip's log-mel bands or MFCCs, in each of `parts` stretches of it.

    A clip is float (T,). kind: "log_mel" or "mfcc". filters: a filterbank (n_mels, 257) in place of our own.
    """

    def __init__(
        self,
        kind: str = "mfcc",
        parts: int = 3,
        n_mels: int = 40,
        n_mfcc: int = 13,
        sample_rate: int = 16_000,
        filters: np.ndarray | None = None,
    ):
        self.kind = kind
        self.parts = parts
        self.n_mels = n_mels
        self.n_mfcc = n_mfcc
        self.sample_rate = sample_rate
        self.filters = filters

    def _check(self) -> None:
        if self.kind not in ("log_mel", "mfcc"):
            raise ValueError(f"kind is {self.kind!r}; it must be 'log_mel' or 'mfcc'")
        at_least(1, parts=self.parts, n_mels=self.n_mels, n_mfcc=self.n_mfcc, sample_rate=self.sample_rate)
        if self.kind == "mfcc":
            at_least(self.n_mfcc, n_mels=self.n_mels)

    def _learn(self, items: list[np.ndarray]) -> None:
        bank = mel_filterbank(self.n_mels, 512, self.sample_rate) if self.filters is None else self.filters
        self.filters_ = np.asarray(bank)
        if self.filters_.ndim != 2 or self.filters_.shape[1] != 257:
            raise ValueError(f"filters has shape {self.filters_.shape}; it must be (n_mels, 257)")

    def _read(self, item: Any, row: int) -> np.ndarray:
        clip = np.asarray(item)
        if clip.ndim != 1 or not len(clip) or clip.dtype.kind != "f":
            raise ValueError(
                f"X, row {row}: a clip is float (T,) with T of at least 1, got {clip.dtype} {clip.shape}; "
                "mix stereo to mono and divide whole numbers by their largest value first"
            )
        if not np.isfinite(clip).all():
            raise ValueError(f"X, row {row}: the clip holds NaN or infinite samples")
        return clip

    def _names(self) -> list[str]:
        count = self.n_mfcc if self.kind == "mfcc" else len(self.filters_)
        what = [f"{self.kind}{i}_{stat}" for stat in ("mean", "std") for i in range(count)]
        return [f"{name}_part{part}" for part in range(self.parts) for name in what]

    def _row(self, item: np.ndarray) -> np.ndarray:
        if self.kind == "mfcc":
            sound = mfcc(item, self.sample_rate, n_mfcc=self.n_mfcc, filters=self.filters_)
        else:
            sound = log_mel(item, self.sample_rate, filters=self.filters_)
        edges = np.linspace(0, sound.shape[1], self.parts + 1)
        starts, ends = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
        pieces = [sound[:, start:end] for start, end in zip(starts, ends, strict=True)]
        return np.concatenate([stat for piece in pieces for stat in (piece.mean(axis=1), piece.std(axis=1))])


# Structured fields


class StructuredFeatures(TransformerMixin, BaseEstimator):
    """Numbers scaled to mean 0 and spread 1; categories and truth values as one column a value.

    columns: which columns of the table to use, all by default. A missing number becomes the training mean, a
    missing or unknown category zeros; a row with every field missing is NaN throughout.
    """

    def __init__(self, columns: Sequence[str] | None = None):
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: Any = None) -> StructuredFeatures:
        """Learn means, spreads and categories; `y` is ignored."""
        table = self._table(X, self.columns)
        if not table.size:
            raise ValueError(
                f"StructuredFeatures needs a column and a row to learn from, X has shape {table.shape}"
            )
        self.feature_names_in_ = np.asarray(table.columns, dtype=object)
        self.n_features_in_ = table.shape[1]
        self.numbers_ = [name for name in table if _is_number(table[name])]
        words = {name: set(_words(table[name])) - {""} for name in table if name not in self.numbers_}
        self.categories_ = {name: sorted(values) for name, values in words.items()}
        numbers = table[self.numbers_].astype(float)
        self.mean_ = numbers.mean().fillna(0.0)
        self.scale_ = numbers.std(ddof=0).replace(0.0, 1.0).fillna(1.0)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return float32 (rows, features)."""
        check_is_fitted(self, "categories_")
        table = self._table(X, self.feature_names_in_.tolist())
        numbers = (table[self.numbers_].astype(float) - self.mean_) / self.scale_
        parts = [numbers.fillna(0.0).to_numpy()]
        for name, values in self.categories_.items():
            parts.append(_words(table[name])[:, None] == np.asarray(values, dtype=object))
        out = np.concatenate(parts, axis=1).astype(np.float32)
        out[table.isna().all(axis=1).to_numpy()] = np.nan
        return out

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return one name a column, object (features,)."""
        check_is_fitted(self, "categories_")
        categories = [f"{name}_{value}" for name, values in self.categories_.items() for value in values]
        return np.asarray(self.numbers_ + categories, dtype=object)

    def _table(self, X: Any, columns: Sequence[str] | None) -> pd.DataFrame:
        if not isinstance(X, pd.DataFrame):
            raise TypeError(f"X should be a DataFrame with one column a field, not a {type(X).__name__}")
        absent = [name for name in columns or () if name not in X.columns]
        if absent:
            raise ValueError(f"X lacks the columns {absent}; it has {list(X.columns)}")
        return X if columns is None else X[list(columns)]


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _words(column: pd.Series) -> np.ndarray:
    """Return the values as text, object (rows,), a missing one as ''."""
    return np.asarray(["" if is_missing(value) else str(value) for value in column], dtype=object)
