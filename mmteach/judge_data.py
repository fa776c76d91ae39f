"""Checks of the exercises of notebooks 00 and 01: arrays, missing values, duplicates, neighbours, splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmteach import solutions
from mmteach.judging import Mistake, _array, close, exercise, need, need_close, need_shape


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
