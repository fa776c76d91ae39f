"""Plausible wrong answers to the exercises of notebook 00; each must be told what is wrong with it."""

import numpy as np

from mmteach import solutions


def grey_plain_mean(picture):
    return picture.mean(axis=-1)


def grey_blue_first(picture):
    blue, green, red = picture[..., 0], picture[..., 1], picture[..., 2]
    return 0.299 * red + 0.587 * green + 0.114 * blue


def grey_from_0_to_1(picture):
    return (picture / 255) @ [0.299, 0.587, 0.114]


def grey_keeps_three_channels(picture):
    return picture * [0.299, 0.587, 0.114]


def grey_mean_over_rows(picture):
    return picture.mean(axis=0)


def grey_without_blue(picture):
    return 0.299 * picture[..., 0] + 0.587 * picture[..., 1]


def average_wraps_around(pictures):
    total = np.zeros_like(pictures[0])
    for picture in pictures:
        total += picture
    return total / len(pictures)


def average_divides_first(pictures):
    total = np.zeros_like(pictures[0])
    for picture in pictures:
        total += picture // np.uint8(len(pictures))
    return total


def average_is_the_median(pictures):
    return np.median(pictures, axis=0)


def average_of_everything(pictures):
    return pictures.mean()


def average_loses_colour(pictures):
    return pictures.mean(axis=(0, 3))


def average_by_n_minus_1(pictures):
    return pictures.astype(float).sum(axis=0) / (len(pictures) - 1)


def average_of_two(pictures):
    return pictures[:2].mean(axis=0)


def sheet_only_reshaped(pictures, columns):
    n, height, width, channels = pictures.shape
    return pictures.reshape(n // columns * height, columns * width, channels)


def sheet_runs_down(pictures, columns):
    strips = [np.concatenate(list(part)) for part in np.array_split(pictures, columns)]
    return np.concatenate(strips, axis=1)


def sheet_of_mirrored_tiles(pictures, columns):
    return solutions.contact_sheet(pictures.swapaxes(1, 2), columns)


def sheet_in_one_row(pictures, columns):
    return np.concatenate(list(pictures), axis=1)


def sheet_from_the_end(pictures, columns):
    return solutions.contact_sheet(pictures[::-1], columns)


def sheet_of_square_tiles_only(pictures, columns):
    n, side = pictures.shape[:2]
    grid = pictures.reshape(n // columns, columns, side, -1, 3)
    return grid.swapaxes(1, 2).reshape(-1, columns * side, 3)


WRONG = {
    "grey": [
        grey_plain_mean,
        grey_blue_first,
        grey_from_0_to_1,
        grey_keeps_three_channels,
        grey_mean_over_rows,
        grey_without_blue,
    ],
    "average_picture": [
        average_wraps_around,
        average_divides_first,
        average_is_the_median,
        average_of_everything,
        average_loses_colour,
        average_by_n_minus_1,
        average_of_two,
    ],
    "contact_sheet": [
        sheet_only_reshaped,
        sheet_runs_down,
        sheet_of_mirrored_tiles,
        sheet_in_one_row,
        sheet_from_the_end,
        sheet_of_square_tiles_only,
    ],
}
