"""Exercise checks that answer at once, and claims that a full run must keep.

Used by every notebook: `fn = check.<name>(fn)` judges a reader's function and returns the one to go on with.
"""

from __future__ import annotations

import functools
import html
import inspect
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmteach import solutions
from mmteach.metrics import Interval
from mmteach.train import profile


class Mistake(Exception):
    """What is wrong with an answer, in words the reader can act on."""


class ClaimFailed(AssertionError):
    """A claim of the course did not hold in this run."""


Judge = Callable[[Callable[..., Any]], None]
Check = Callable[[Callable[..., Any]], Callable[..., Any]]
JUDGES: dict[str, Judge] = {}


def exercise(judge: Judge) -> Check:
    """Turn `judge(fn)`, which raises Mistake for a wrong answer, into the check a notebook calls.

    The check prints the verdict and returns `fn` when it is right, else the reference of the same name.
    """
    name = judge.__name__
    JUDGES[name] = judge

    def check(fn: Callable[..., Any]) -> Callable[..., Any]:
        verdict, passed = judged(name, fn)
        print(verdict if passed else f"{verdict}\n  Going on with the reference.")
        return fn if passed else getattr(solutions, name)

    check.__name__, check.__doc__ = name, judge.__doc__
    return check


def judged(name: str, fn: Callable[..., Any]) -> tuple[str, bool]:
    """Return (verdict, passed) for answer `fn` to exercise `name`; whatever `fn` does, this does not raise."""
    if not callable(fn):
        return (
            f"✗ {name}: give the check the function itself, not something of type {type(fn).__name__}.",
            False,
        )
    watched = _watched(fn) if inspect.isfunction(fn) else fn
    try:
        JUDGES[name](watched)
    except Mistake as mistake:
        return f"✗ {name}: {mistake}", False
    except Exception as error:  # the reader's own code may raise anything at all
        return _empty(error, name) or _raised(error, name, fn), False
    return f"✓ {name}: right.", True


class Nothing(NotImplementedError):
    """The answer came back as None: an empty body, or a forgotten return."""


def _watched(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn`, but raising Nothing where it gives None or an ellipsis back."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> Any:
        answer = fn(*args, **kwargs)
        if answer is None or answer is Ellipsis:
            raise Nothing
        return answer

    return watched


def _empty(error: Exception, name: str) -> str:
    """Return the verdict on an answer not yet written, '' on any other; torch's own errors carry a message."""
    if isinstance(error, Nothing):
        return f"· {name}: not yet. It gives nothing back (None): is the return missing?"
    return f"· {name}: not yet." if isinstance(error, NotImplementedError) and not error.args else ""


def _raised(error: Exception, name: str, fn: Callable[..., Any]) -> str:
    """Return the verdict on an answer that broke off, or that the check could not make sense of."""
    said = f"{type(error).__name__}: {error}"
    codes, trace, line = [], error.__traceback__, ""
    while trace is not None:
        codes.append(trace.tb_frame.f_code.co_name)
        if trace.tb_frame.f_code is getattr(fn, "__code__", None):
            line = f" in its line {trace.tb_lineno - trace.tb_frame.f_code.co_firstlineno + 1}"
        trace = trace.tb_next
    if line or "watched" in codes:
        return f"✗ {name}: your function raised an error{line}. {said}"
    return f"✗ {name}: what your function gives back does not fit. {said}"


def solution(name: str) -> None:
    """Show the reference solution of exercise `name`, folded away until it is clicked."""
    text = inspect.getsource(getattr(solutions, name)).rstrip()
    summary = f"<summary>A solution of <code>{name}</code> (open it after your own try)</summary>"
    body = f"<details>{summary}<pre>{html.escape(text)}</pre></details>"
    try:
        from IPython.display import display
    except ImportError:
        print(text)
    else:
        display({"text/html": body, "text/plain": f"[a solution of {name}, folded away]"}, raw=True)


def need(answer: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Raise Nothing for an empty answer (None), Mistake when it is not a `kind`."""
    if answer is None or answer is Ellipsis:
        raise Nothing
    if not isinstance(answer, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise Mistake(f"{what} should be of type {names}, but is of type {type(answer).__name__}.")


def need_shape(answer: Any, shape: tuple[int, ...], what: str) -> None:
    """Raise Mistake when the shape of `answer` is not `shape`."""
    found = tuple(np.shape(_array(answer)))
    if found != tuple(shape):
        raise Mistake(f"{what} has shape {found}, expected {tuple(shape)}.")


def _array(values: Any) -> np.ndarray:
    """Return numbers as an array, also from a tensor that asks for a gradient."""
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)


def gap(answer: Any, expected: Any) -> float:
    """Return the largest absolute difference; infinite where only one side is finite, 0 where both are the same."""
    a, b = _array(answer).astype(np.float64), _array(expected).astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.where(same, 0.0, np.nan_to_num(difference, nan=np.inf, posinf=np.inf)).max(initial=0.0))


def close(answer: Any, expected: Any, tolerance: float = 1e-5) -> bool:
    """Return whether shapes agree and no number is further off than `tolerance`: to recognise a known mistake."""
    a, b = _array(answer), _array(expected)
    return a.shape == b.shape and a.dtype.kind in "biuf" and gap(a, b) <= tolerance


def need_close(answer: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    """Raise Mistake, saying by how much, when `answer` is of another shape or further than `tolerance` away."""
    need_shape(answer, np.shape(_array(expected)), what)
    off = gap(answer, expected)
    if not off <= tolerance:
        raise Mistake(f"{what} is off by up to {off:.3g}.")


def claim(text: str, holds: Any, figure: object = "") -> None:
    """State a claim and whether this run bears it out; `figure` is the number behind it.

    Under `cpu` and `gpu` a claim that does not hold raises ClaimFailed; `smoke` is too short to judge one.
    Raises TypeError when `holds` is a figure where true or false is meant.
    """
    if not isinstance(holds, (bool, np.bool_)):
        raise TypeError(f"claim needs true or false, got {holds!r}: compare the figure with something")
    shown = f"{figure}" if isinstance(figure, Interval) else f"[{figure}]"  # an interval brings its brackets
    tail = f"  {shown}" if str(figure) else ""
    if profile() == "smoke":
        print(f"· {text}{tail}  (smoke run: not judged)")
        return
    print(f"{'✓' if holds else '✗'} {text}{tail}")
    if not holds:
        raise ClaimFailed(f"{text}{tail}")


# Notebook 00


@exercise
def grey(fn: Callable[..., Any]) -> None:
    """Judge `grey(picture)`: luminance, not the plain mean."""
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    answer, right = _array(fn(picture.copy())), solutions.grey(picture)
    if answer.shape == picture.shape:
        raise Mistake(
            "three colours came back; one brightness for each pixel is asked, so drop the last axis."
        )
    need_shape(answer, right.shape, "the grey picture of a (5, 7, 3) picture")
    if close(answer, picture.mean(axis=-1), 1.0):
        raise Mistake("that is the plain mean; the eye weighs green most (0.587) and blue least (0.114).")
    if close(answer, solutions.grey(picture[..., ::-1]), 1.0):
        raise Mistake("red and blue have each other's weight; the order of the channels is red, green, blue.")
    if close(answer, right / 255, 0.01):
        raise Mistake("the scale is 0 to 1; leave it at 0 to 255, as the picture has it.")
    need_close(answer, right, "brightness", 1.0)


@exercise
def average_picture(fn: Callable[..., Any]) -> None:
    """Judge `average_picture(pictures)`: a mean over pictures that does not wrap around at 256."""
    pictures = np.random.default_rng(1).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    answer, right = _array(fn(pictures.copy())), solutions.average_picture(pictures)
    need_shape(answer, right.shape, "the average of six (4, 5, 3) pictures")
    if close(answer, pictures.sum(axis=0, dtype=np.uint8) / 6, 1.0):
        raise Mistake(
            "the sum wrapped around: uint8 counts to 255 and starts again at 0. Go to float before adding."
        )
    if close(answer, (pictures // 6).sum(axis=0), 0.01):
        raise Mistake("dividing whole numbers before adding loses what is left over each time; add first.")
    if close(answer, np.median(pictures, axis=0), 1.0):
        raise Mistake("that is the median, the middle value; the mean is asked.")
    if close(answer, right * 6 / 5, 1.0):
        raise Mistake("the sum was divided by n - 1; there are n pictures.")
    need_close(answer, right, "the average", 1.0)


@exercise
def contact_sheet(fn: Callable[..., Any]) -> None:
    """Judge `contact_sheet(pictures, columns)`: whole pictures side by side, row after row."""
    pictures = np.random.default_rng(2).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    answer, right = _array(fn(pictures.copy(), 3)), solutions.contact_sheet(pictures, 3)
    need_shape(answer, right.shape, "a sheet of six (4, 4, 3) pictures in 3 columns")
    if close(answer, pictures.reshape(right.shape)):
        raise Mistake(
            "the pictures are cut into strips: reshape alone keeps the order in memory. Swap two axes first."
        )
    down = pictures.reshape(3, 2, 4, 4, 3).swapaxes(0, 1).reshape(6, 4, 4, 3)
    if close(answer, solutions.contact_sheet(down, 3)):
        raise Mistake("the pictures run down the columns; the second one belongs to the right of the first.")
    if close(answer, solutions.contact_sheet(pictures.swapaxes(1, 2), 3)):
        raise Mistake("every picture is mirrored on its diagonal: its height and width changed places.")
    if not close(answer[:4, :4], pictures[0]):
        raise Mistake("the first picture is not in the upper left corner.")
    need_close(answer, right, "the sheet")
    tall = pictures[:, :, :2].copy()
    what = "square pictures come out right, but a sheet of six (4, 2, 3) pictures in 2 columns"
    need_close(fn(tall, 2), solutions.contact_sheet(tall, 2), what)


# Notebook 01


@exercise
def missing_rate(fn: Callable[..., Any]) -> None:
    """Judge `missing_rate(present, group)`: shares within each group."""
    rng = np.random.default_rng(3)
    present, group = rng.random((40, 3)) < [0.9, 0.6, 0.3], np.array(["sea", "air", "land", "air"] * 10)
    group[0] = "sea"
    answer, right = _array(fn(present.copy(), group.copy())), solutions.missing_rate(present, group)
    if answer.shape == right.T.shape and answer.shape != right.shape:
        raise Mistake("groups and styles changed places: one row a group, one column a style.")
    need_shape(answer, right.shape, "the table of 3 groups and 3 styles")
    sizes = np.unique(group, return_counts=True)[1][:, None]
    if close(answer, 1 - right):
        raise Mistake("that is the share present; missing is what is left of 1.")
    if close(answer, right * sizes):
        raise Mistake("those are counts; divide by the size of each group.")
    if close(answer, right * sizes / len(group)):
        raise Mistake("you divided by all rows; divide by the rows of the group, or large groups look worse.")
    if close(answer, right[[2, 0, 1]]):
        raise Mistake("the groups come in order of appearance; sort their names, as np.unique does.")
    if close(answer, right.T):
        raise Mistake("the table is transposed: one row a group, one column a style.")
    need_close(answer, right, "the missing rate")


@exercise
def duplicates(fn: Callable[..., Any]) -> None:
    """Judge `duplicates(pictures)`: sets of identical pictures, complete, and nothing else."""
    pictures = np.random.default_rng(4).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    pictures[5] = pictures[2] = pictures[0]
    pictures[7] = pictures[3]
    pictures[6] = pictures[4, ::-1]  # the same pixels in other places
    answer = fn(pictures.copy())
    need(answer, (list, tuple), "the answer")
    sets = [sorted(int(row) for row in each) for each in answer]
    if [4, 6] in sets or any({4, 6} <= set(each) for each in sets):
        raise Mistake(
            "rows 4 and 6 hold the same colours in other places: equal averages do not make equal pictures."
        )
    if sorted(sets) in ([[0, 2], [0, 5], [2, 5], [3, 7]], [[0, 2], [2, 5], [3, 7]], [[0, 2], [0, 5], [3, 7]]):
        raise Mistake("rows 0, 2 and 5 are all alike, but came as pairs; they make one set of three.")
    if sorted(sets) in ([[2, 5], [7]], [[2, 5]], [[2], [5], [7]]):
        raise Mistake("the first of each set is missing: it belongs to its copies.")
    if any(len(each) == 1 for each in sets):
        raise Mistake("a picture that is like no other came back as a set of one; two or more make a set.")
    if not sets:
        raise Mistake(
            "no set found, though rows 3 and 7 are alike: identical rows need not follow each other."
        )
    if sorted(sets) != [[0, 2, 5], [3, 7]]:
        raise Mistake(f"rows 0, 2, 5 and rows 3, 7 are alike; you gave {sorted(sets)}.")


@exercise
def nearest_neighbour(fn: Callable[..., Any]) -> None:
    """Judge `nearest_neighbour(queries, keys)`: the Euclidean nearest key, also of uint8 pictures."""
    rng = np.random.default_rng(5)
    queries, keys = rng.normal(size=(30, 6)), rng.normal(size=(40, 6)) * rng.uniform(0.5, 2, (40, 1))
    answer = _array(fn(queries.copy(), keys.copy()))
    difference = queries[:, None] - keys
    squared = (difference**2).sum(axis=-1)
    if answer.shape == (40,):
        raise Mistake(
            "there is one answer for each key; one for each query is asked: take the minimum along axis 1."
        )
    need_shape(answer, (30,), "the answer to 30 queries")
    if close(answer, squared.min(axis=1), 1e-3) or close(answer, np.sqrt(squared.min(axis=1)), 1e-3):
        raise Mistake("those are the distances; the row of the nearest key is asked: argmin, not min.")
    for wrong, words in (
        (squared.argmax(axis=1), "those keys are the furthest; take the smallest distance."),
        (
            (queries @ keys.T).argmax(axis=1),
            "the largest dot product favours long keys; it is not the smallest distance.",
        ),
        (
            np.abs(difference).sum(axis=-1).argmin(axis=1),
            "those are sums of absolute differences; square them instead.",
        ),
        (
            difference.sum(axis=-1).argmin(axis=1),
            "differences of opposite sign cancel out; square before adding.",
        ),
    ):
        if close(answer, wrong):
            raise Mistake(words)
    if not close(answer, squared.argmin(axis=1)):
        raise Mistake(
            f"{np.mean(answer != squared.argmin(axis=1)):.0%} of the neighbours are not the nearest."
        )
    bright = np.array([[60, 60], [12, 12]], dtype=np.uint8)
    if not close(fn(np.array([[10, 10]], dtype=np.uint8), bright), [1]):
        raise Mistake(
            "right for floats, wrong for uint8 pictures: 10 - 12 wraps around to 254. Go to float first."
        )


@exercise
def deal_folds(fn: Callable[..., Any]) -> None:
    """Judge `deal_folds(units, folds, seed)`: whole units, even folds, shuffled by the seed."""
    units = np.array([f"family {number}" for number in (*range(23), *range(11), *range(5))])
    answer = _array(fn(units.copy(), 4, 0))
    if answer.dtype == bool:
        raise Mistake("true and false make two folds; number them 0, 1, 2 and so on.")
    need_shape(answer, units.shape, "the answer for 39 rows")
    split = [unit for unit in np.unique(units) if len(np.unique(answer[units == unit])) > 1]
    if split:
        raise Mistake(
            f"{split[0]} stands in more than one fold ({len(split)} do): shuffle the units, not the rows."
        )
    if set(answer.tolist()) == {1, 2, 3, 4}:
        raise Mistake("the folds are numbered from 1; start at 0.")
    if not close(answer, _array(fn(units.copy(), 4, 0))):
        raise Mistake("two calls with one seed differ: draw from np.random.default_rng(seed).")
    if close(answer, _array(fn(units.copy(), 4, 1))):
        raise Mistake(
            "another seed gives the same folds: nothing is shuffled, and names in order are not random."
        )
    sizes = [len(np.unique(units[answer == fold])) for fold in range(4)]
    if max(sizes) - min(sizes) > 1:
        raise Mistake(
            f"23 units fell into folds of {sizes}: deal them out like cards, so that sizes differ by 1 at most."
        )


# Notebook 02


def _told_apart(
    answer: Any, expected: Any, mistakes: dict[str, Any], what: str, tolerance: float = 1e-6
) -> None:
    """Accept `answer` near `expected`; else raise the words of the mistake it equals, or say how far it is off."""
    if close(answer, expected, tolerance):
        return
    for words, result in mistakes.items():
        if close(answer, result, tolerance):
            raise Mistake(words)
    need_close(answer, expected, what, tolerance)


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
    _told_apart(answer, unit(counts * idf), mistakes, "the weight")
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
        _told_apart(answer, right, mistakes, f"with bins={bins}, the share")


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
    _told_apart(answer, right, mistakes, "the filterbank")


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
    _told_apart(answer, np.maximum(0, mean - away), mistakes, "the code", 1e-5)
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


# Notebook 03


@exercise
def late_fusion(fn: Callable[..., Any]) -> None:
    """Judge late_fusion(log_probs, weights) -> (N, C)."""
    rng = np.random.default_rng(0)
    said, weights = np.log(rng.dirichlet(np.ones(4), (3, 6))), np.array([0.9, 0.4, 1.6])
    answer, right = fn(said.copy(), weights.copy()), solutions.late_fusion(said, weights)
    need(answer, np.ndarray, "late_fusion(log_probs, weights)")
    summed = np.tensordot(weights, said, axes=1)

    def normed(scores: np.ndarray) -> np.ndarray:
        return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))

    mistakes = {
        "the weighted sum is right, but its exponentials do not sum to one: take off the log of their sum.": summed,
        "those are probabilities; log-probabilities are asked, so do not take the exponential at the end.": np.exp(
            right
        ),
        "the probabilities were added, not their logarithms: that is a vote, and no modality can veto.": np.log(
            np.tensordot(weights / weights.sum(), np.exp(said), axes=1)
        ),
        "the weights are not used: all modalities count the same.": normed(said.sum(axis=0)),
        "that is the plain average: the weights are not used.": normed(said.mean(axis=0)),
        "the weights were made to sum to one first; how sure the fused answer is lies in their size.": normed(
            summed / weights.sum()
        ),
        "each row must sum to one over the classes; you summed over the rows.": summed
        - np.log(np.exp(summed).sum(axis=0, keepdims=True)),
    }
    _told_apart(answer, right, mistakes, "the fused log-probability")
    far = fn(np.full((1, 1, 2), -2000.0), np.ones(1))
    if not close(far, np.full((1, 2), -np.log(2)), 1e-6):
        raise Mistake(
            "right, until numbers get large: exp(-2000) is 0 and its log infinite. Take off the maximum first."
        )


@exercise
def bootstrap_by_family(fn: Callable[..., Any]) -> None:
    """Judge bootstrap_by_family(correct, family, resamples, rng) -> (resamples,)."""
    rng = np.random.default_rng(1)
    family = np.repeat([f"family {i}" for i in range(40)], rng.integers(1, 15, 40))
    skill = dict(zip(np.unique(family), rng.uniform(0, 1, 40), strict=True))
    correct = (rng.random(len(family)) < [skill[name] for name in family]).astype(float)
    order = rng.permutation(len(family))  # the rows of a family need not follow each other
    correct, family = correct[order], family[order]
    answer = fn(correct.copy(), family.copy(), 1500, np.random.default_rng(0))
    need(answer, np.ndarray, "bootstrap_by_family(correct, family, resamples, rng)")
    need_shape(answer, (1500,), "the answer for 1,500 resamples")
    right = solutions.bootstrap_by_family(correct, family, 1500, np.random.default_rng(0))
    spread, wanted = float(np.std(answer)), float(np.std(right))
    means = np.array([correct[family == name].mean() for name in np.unique(family)])
    if spread < 1e-9:
        raise Mistake("every resample gives the same figure: families must be drawn with replacement.")
    if spread > 3 * wanted:
        raise Mistake(
            f"the figures spread by {spread:.3f} where {wanted:.3f} is right: draw as many families as there are."
        )
    if spread < 0.75 * wanted and abs(spread - np.sqrt(correct.var() / len(correct))) < 0.15 * spread:
        raise Mistake(
            "single rows are drawn: rows of one family are right or wrong together. Draw whole families."
        )
    if abs(answer.mean() - means.mean()) < 0.3 * abs(correct.mean() - means.mean()):
        raise Mistake(
            "each family counts the same; each of its rows should: join the rows, then take the mean."
        )
    if abs(answer.mean() - correct.mean()) > 4 * wanted / np.sqrt(1500) + 0.3 * wanted:
        raise Mistake(f"the figures centre on {answer.mean():.3f}, but the accuracy is {correct.mean():.3f}.")
    if not 0.8 < spread / wanted < 1.25:
        raise Mistake(f"the figures spread by {spread:.4f}; by whole families it is {wanted:.4f}.")
    if close(
        fn(correct, family, 50, np.random.default_rng(0)), fn(correct, family, 50, np.random.default_rng(1))
    ):
        raise Mistake("another generator gives the same figures: draw with the `rng` you are given.")


@exercise
def modality_dropout(fn: Callable[..., Any]) -> None:
    """Judge modality_dropout(present, p, generator) -> (B, M) bool."""
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(4000, 3, generator=generator) < 0.7
    present[~present.any(dim=1), 1] = True
    before = present.clone()
    answer = fn(present, 0.4, torch.Generator().manual_seed(1))
    need(answer, torch.Tensor, "modality_dropout(present, p, generator)")
    need_shape(answer, (4000, 3), "the answer for 4,000 rows of 3 modalities")
    if answer.dtype != torch.bool:
        raise Mistake(f"the answer should be bool, true for what is left, but is {answer.dtype}.")
    if not torch.equal(present, before):
        raise Mistake("your function changes the `present` it is given; return a new tensor.")
    if (answer & ~present).any():
        raise Mistake("some rows gained a modality that they never had: only hide, with `&`.")
    if not answer.any(dim=1).all():
        raise Mistake(f"{int((~answer.any(dim=1)).sum())} rows are left with nothing; each must keep one.")
    full = present.all(dim=1)
    rate = 1 - float(answer[full].float().mean())
    alone = torch.ones(6000, 1, dtype=torch.bool)
    if not fn(alone, 0.9, torch.Generator().manual_seed(1)).all():
        raise Mistake("a row with a single modality lost it.")
    expected = 0.4 - 0.4**3 / 3
    together = answer[full].float().std(dim=1)
    if float((together > 0).float().mean()) < 0.5 and rate > 0.05:
        raise Mistake("a row keeps all or nearly nothing: draw one number for each modality of each row.")
    if abs(rate - (0.6 - 0.6**3 / 3)) < 0.02:
        raise Mistake("`p` is the chance to be hidden; you keep with that chance.")
    if len(torch.unique(answer[full], dim=0)) < 3:
        raise Mistake("all rows lose the same modalities: draw for each row.")
    if abs(rate - expected) > 0.03:
        raise Mistake(
            f"with p = 0.4 a modality is hidden in {rate:.3f} of the rows; {expected:.3f} is right."
        )
    shares = answer[full].float().mean(dim=0)
    if float(shares.max() - shares.min()) > 0.05:
        raise Mistake("one modality is hidden less often than the others: which one is kept should be luck.")


@exercise
def gated_fusion(fn: Callable[..., Any]) -> None:
    """Judge gated_fusion(codes, weight, bias) -> (B, D)."""
    generator = torch.Generator().manual_seed(2)
    codes, weight = torch.randn(5, 3, 4, generator=generator), torch.randn(12, 12, generator=generator)
    bias = torch.randn(12, generator=generator)
    answer, right = (
        fn(codes.clone(), weight.clone(), bias.clone()),
        solutions.gated_fusion(codes, weight, bias),
    )
    need(answer, torch.Tensor, "gated_fusion(codes, weight, bias)")
    scores = (codes.flatten(1) @ weight.T + bias).view(codes.shape)
    backwards = (codes.flatten(1) @ weight + bias).view(codes.shape)
    if answer.shape == codes.shape:
        raise Mistake("the modalities are still apart, (B, M, D): sum over dimension 1 at the end.")
    mistakes = {
        "the gates sum to one over the features; they should over the modalities: softmax(dim=1).": (
            scores.softmax(dim=2) * codes
        ).sum(dim=1),
        "the gates sum to one over the rows of the batch, so rows depend on each other: softmax(dim=1).": (
            scores.softmax(dim=0) * codes
        ).sum(dim=1),
        "each gate is open or shut by itself (sigmoid); the softmax makes the modalities compete.": (
            scores.sigmoid() * codes
        ).sum(dim=1),
        "the scores are used as gates; take their softmax over the modalities first.": (scores * codes).sum(
            dim=1
        ),
        "the bias of the gate is left out.": ((scores - bias.view(3, 4)).softmax(dim=1) * codes).sum(dim=1),
        "`weight` is the wrong way round: a linear layer multiplies by its transpose.": (
            backwards.softmax(dim=1) * codes
        ).sum(dim=1),
        "that is the average over the modalities; the shares of a softmax already sum to one.": right / 3,
    }
    _told_apart(
        answer.detach().numpy(), right, {k: v.numpy() for k, v in mistakes.items()}, "the fused code", 1e-5
    )


@exercise
def low_rank_tensor_fusion(fn: Callable[..., Any]) -> None:
    """Judge low_rank_tensor_fusion(codes, factors, weights) -> (B, H)."""
    generator = torch.Generator().manual_seed(3)
    codes, factors = torch.randn(4, 3, 2, generator=generator), torch.randn(3, 5, 3, 6, generator=generator)
    weights = torch.randn(5, generator=generator)
    answer = fn(codes.clone(), factors.clone(), weights.clone())
    right = solutions.low_rank_tensor_fusion(codes, factors, weights)
    need(answer, torch.Tensor, "low_rank_tensor_fusion(codes, factors, weights)")

    def parts(ones: torch.Tensor, first: bool = False) -> torch.Tensor:
        extended = torch.cat([ones, codes] if first else [codes, ones], dim=2)
        return torch.einsum("bmd,mrdh->bmrh", extended, factors)

    ones, zeros = codes.new_ones(4, 3, 1), codes.new_zeros(4, 3, 1)
    mistakes = {
        "the parts of the modalities are added; the outer product needs their product.": torch.einsum(
            "bmrh,r->bh", parts(ones), weights
        ),
        "the one is missing from the codes, so only the product of all three is left.": torch.einsum(
            "brh,r->bh", parts(zeros).prod(dim=1), weights
        ),
        "the weights of the ranks are not used.": parts(ones).prod(dim=1).sum(dim=1),
        "the ranks are averaged; they should be summed, each times its weight.": torch.einsum(
            "brh,r->bh", parts(ones).prod(dim=1), weights / 5
        ),
        "the one stands before the code; it belongs after it, where the factors expect it.": torch.einsum(
            "brh,r->bh", parts(ones, first=True).prod(dim=1), weights
        ),
        "the ranks are summed before the product; multiply the modalities within each rank first.": torch.einsum(
            "bmrh,r->bmh", parts(ones), weights
        ).prod(dim=1),
    }
    _told_apart(
        answer.detach().numpy(), right, {k: v.numpy() for k, v in mistakes.items()}, "the fused code", 1e-4
    )
