"""Checks of the exercises of notebook 02: features of text, pictures and speech."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from mmteach import solutions
from mmteach.judging import Mistake, exercise, need, need_told_apart


@exercise
def tf_idf(fn: Callable[..., Any]) -> None:
    """Judge tf_idf(counts, train_counts) -> (N, V)."""
    train = np.array([[2, 1, 0, 1], [0, 1, 3, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 2, 0, 0]])
    counts = np.array([[1, 1, 0, 2], [0, 1, 1, 0], [3, 0, 0, 1]])
    n, df = len(train), (train > 0).sum(axis=0)
    idf = np.log((1 + n) / (1 + df)) + 1

    def unit(weights: np.ndarray) -> np.ndarray:
        return weights / np.linalg.norm(weights, axis=1, keepdims=True)

    answer = fn(counts.copy(), train.copy())
    need(answer, np.ndarray, "tf_idf(counts, train_counts)")
    here = np.log((1 + len(counts)) / (1 + (counts > 0).sum(axis=0))) + 1
    share = counts * idf / (counts * idf).sum(axis=1, keepdims=True)
    mistakes = {
        "the rows are not brought to length 1: divide each by the square root of its summed squares.": counts
        * idf,
        "the rows sum to 1, but their length should be 1: sum the squares and take the root.": share,
        "rarity comes from the rows being weighed; learn it from train_counts alone.": unit(counts * here),
        "you left out the '+ 1' after the logarithm: a word in every name now weighs nothing.": unit(
            counts * (idf - 1)
        ),
        "you left out the '1 +' above and below, which pretends one more name with every word.": unit(
            counts * (np.log(n / df) + 1)
        ),
        "you left out the '1 +' above the line; it stands before n as well as before n_w.": unit(
            counts * (np.log(n / (1 + df)) + 1)
        ),
        "you summed the counts; count the names a word stands in, (train_counts > 0).": unit(
            counts * (np.log((1 + n) / (1 + train.sum(axis=0))) + 1)
        ),
        "that is the logarithm to base 10; np.log is the natural one.": unit(
            counts * (np.log10((1 + n) / (1 + df)) + 1)
        ),
        "you weigh a word that stands twice like one that stands once: multiply by counts.": unit(
            (counts > 0) * idf
        ),
        "rarity is missing: these are the counts brought to length 1.": unit(counts),
        "rarity is upside down: common words weigh most.": unit(counts / idf),
    }
    need_told_apart(answer, unit(counts * idf), mistakes, "the weight")
    unseen = fn(np.array([[0, 0, 0], [1, 0, 2]]), np.array([[1, 1, 0], [0, 1, 0]]))
    if not np.isfinite(unseen).all():
        raise Mistake(
            "a name without one known word, or a word never seen in training, gives NaN or infinity."
        )


@exercise
def colour_histogram(fn: Callable[..., Any]) -> None:
    """Judge colour_histogram(picture, bins) -> (bins**3,)."""
    picture = np.random.default_rng(0).integers(10, 250, (7, 9, 3), dtype=np.uint8)
    for bins in (4, 3):
        try:
            answer = fn(picture.copy(), bins)
        except OverflowError:
            raise Mistake(
                "uint8 ends at 255, so 256 does not even fit beside it. Turn the picture into int first."
            ) from None
        need(answer, np.ndarray, "colour_histogram(picture, bins)")
        levels = picture.reshape(-1, 3).astype(int) * bins // 256
        right = _boxes(levels, bins)
        counts = right * len(levels)
        wrapped = (picture.reshape(-1, 3) * np.uint8(bins)).astype(int) // 256
        pixels = picture.reshape(-1, 3).astype(float)
        mistakes = {
            "these are counts; divide by the number of pixels, so that pictures of all sizes compare.": counts,
            "you divided by the number of values, three a pixel; divide by the number of pixels.": right / 3,
            "the boxes run blue first; red is the slowest index, blue the fastest.": _boxes(
                levels[:, ::-1], bins
            ),
            "picture * bins overflows: uint8 ends at 255. Turn it into int first.": _boxes(wrapped, bins),
            "256 // bins leaves a remainder; multiply first, then divide by 256.": _boxes(
                np.minimum(picture.reshape(-1, 3).astype(int) // (256 // bins), bins - 1), bins
            ),
            "the boxes follow the range of this picture; they must always divide 0 to 256.": np.histogramdd(
                pixels, bins
            )[0].ravel()
            / len(pixels),
            "the length is 1, but the sum should be.": counts / np.linalg.norm(counts),
        }
        if np.size(answer) == 3 * bins:
            raise Mistake(
                "three histograms, one a channel, lose which red goes with which blue; count triples."
            )
        if np.shape(answer) == (bins,) * 3:
            raise Mistake(f"the shares have shape {(bins,) * 3}; lay them out in one row with .ravel().")
        need_told_apart(answer, right, mistakes, f"with bins={bins}, the share")


def _boxes(levels: np.ndarray, bins: int) -> np.ndarray:
    """Return the share of rows of `levels` (P, 3) in each of bins**3 boxes."""
    return np.bincount(levels @ [bins**2, bins, 1], minlength=bins**3) / len(levels)


@exercise
def mel_filterbank(fn: Callable[..., Any]) -> None:
    """Judge mel_filterbank(n_mels, n_fft, sample_rate) -> (n_mels, n_fft // 2 + 1)."""
    n_mels, n_fft, rate = 10, 256, 8_000
    answer = fn(n_mels, n_fft, rate)
    need(answer, np.ndarray, "mel_filterbank(n_mels, n_fft, sample_rate)")
    right = solutions.mel_filterbank(n_mels, n_fft, rate)
    frequency = np.arange(n_fft // 2 + 1) * rate / n_fft
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    on_bins = np.floor(corners / rate * (n_fft + 1)) * rate / n_fft
    width = (corners[2:] - corners[:-2])[:, None]
    mistakes = {
        "the table is on its side: one row a filter, one column a frequency.": right.T,
        "the corners are evenly spaced in hertz; space them evenly in mels, then turn those into hertz.": _triangles(
            np.linspace(0, rate / 2, n_mels + 2), frequency
        ),
        "the filters reach up to the sample rate; a recording holds frequencies up to half of it.": _triangles(
            700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 700), n_mels + 2) / 2595) - 1), frequency
        ),
        "the columns reach up to the sample rate; column j is j * sample_rate / n_fft, the last one half of it.": (
            _triangles(corners, 2 * frequency)
        ),
        "that is the natural logarithm; mels take the one to base 10, np.log10.": _triangles(
            700 * (10 ** (np.linspace(0, 2595 * np.log(1 + rate / 2 / 700), n_mels + 2) / 2595) - 1),
            frequency,
        ),
        "each triangle has area 1; here its height is 1.": right * 2 / width,
        "each row sums to 1; here the height of each triangle is 1.": right
        / right.sum(axis=1, keepdims=True),
        "the triangles go on below zero; cut them off with np.maximum(0, ...).": _triangles(
            corners, frequency, -np.inf
        ),
        "the corners are rounded to whole columns; keep them as frequencies in hertz.": _triangles(
            on_bins, frequency
        ),
        "you took the larger of rising and falling slope; a triangle is under both, the smaller.": np.maximum(
            0, np.maximum(*_slopes(corners, frequency))
        ),
    }
    if np.shape(answer) in ((n_mels - 2, n_fft // 2 + 1), (n_mels + 2, n_fft // 2 + 1)):
        raise Mistake(
            f"there are {len(answer)} filters, not {n_mels}: {n_mels} peaks need {n_mels + 2} corners."
        )
    if np.shape(answer) == (n_mels, n_fft):
        raise Mistake(
            f"there are {n_fft} columns; a real signal has n_fft // 2 + 1 = {n_fft // 2 + 1} frequencies."
        )
    need_told_apart(answer, right, mistakes, "the filterbank")


def _slopes(corners: np.ndarray, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (frequency - low) / (peak - low), (high - frequency) / (high - peak)


def _triangles(corners: np.ndarray, frequency: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Return triangles (len(corners) - 2, len(frequency)) between neighbouring corners, cut off at `floor`."""
    return np.maximum(floor, np.minimum(*_slopes(corners, frequency)))


@exercise
def patch_codes(fn: Callable[..., Any]) -> None:
    """Judge patch_codes(patches, atoms) -> (P, K)."""
    draw = np.random.default_rng(0)
    patches, atoms = draw.normal(size=(7, 5)), draw.normal(size=(4, 5))
    away = np.linalg.norm(patches[:, None] - atoms, axis=2)
    mean = away.mean(axis=1, keepdims=True)
    squared = away**2
    answer = fn(patches.copy(), atoms.copy())
    need(answer, np.ndarray, "patch_codes(patches, atoms)")
    mistakes = {
        "the table is on its side: one row a patch, one column an atom.": np.maximum(0, mean - away).T,
        "these are squared distances; take the root before you average.": np.maximum(
            0, squared.mean(axis=1, keepdims=True) - squared
        ),
        "the sign is flipped: far atoms light up. Take the mean minus the distance.": np.maximum(
            0, away - mean
        ),
        "negative values are left in; what is further than average should be 0.": mean - away,
        "you averaged over the patches; each patch has a mean of its own, over the atoms.": np.maximum(
            0, away.mean(axis=0, keepdims=True) - away
        ),
        "you took one mean over everything; each patch has a mean of its own.": np.maximum(
            0, away.mean() - away
        ),
        "only the nearest atom lights up: that is the hard code. Keep every atom nearer than average.": (
            away == away.min(axis=1, keepdims=True)
        ).astype(float),
        "these are the distances; the code is the mean distance minus them, where that is positive.": away,
    }
    need_told_apart(answer, np.maximum(0, mean - away), mistakes, "the code", 1e-5)
    many = (100 + draw.normal(size=(200, 8))).astype(np.float32)
    if not np.isfinite(fn(many.copy(), many[:50].copy())).all():
        raise Mistake(
            "a patch that equals an atom gives NaN: rounding made its squared distance negative; use np.maximum."
        )
    patches, atoms = draw.normal(size=(200, 108)), draw.normal(size=(50, 108))
    if _largest_use(fn, patches, atoms) > 3 * len(patches) * atoms.size:
        raise Mistake(
            "right, but slow: all differences at once make a table of patches x atoms x pixels; "
            "use the product in the hint."
        )


def _largest_use(fn: Callable[..., Any], *args: Any) -> int:
    """Return the most bytes that `fn(*args)` holds at once."""
    tracemalloc.start()
    try:
        fn(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
