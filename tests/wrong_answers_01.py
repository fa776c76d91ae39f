"""Plausible wrong answers to the exercises of notebook 01; each must be told what is wrong with it."""

import numpy as np

from mmteach import solutions


def missing_is_present(present, group):
    return 1 - solutions.missing_rate(present, group)


def missing_counted(present, group):
    return np.array([(~present[group == name]).sum(axis=0) for name in np.unique(group)])


def missing_over_all_rows(present, group):
    return missing_counted(present, group) / len(group)


def missing_in_order_of_appearance(present, group):
    names = list(dict.fromkeys(group))
    return np.array([1 - present[group == name].mean(axis=0) for name in names])


def missing_transposed(present, group):
    return solutions.missing_rate(present, group).T


def missing_without_groups(present, group):
    return 1 - present.mean(axis=0)


def duplicates_with_singles(pictures):
    rows = {}
    for row, picture in enumerate(pictures):
        rows.setdefault(picture.tobytes(), []).append(row)
    return list(rows.values())


def duplicates_by_mean_colour(pictures):
    rows = {}
    for row, picture in enumerate(pictures):
        rows.setdefault(tuple(picture.mean(axis=(0, 1))), []).append(row)
    return [same for same in rows.values() if len(same) > 1]


def duplicates_as_pairs(pictures):
    count = len(pictures)
    return [[i, j] for i in range(count) for j in range(i + 1, count) if (pictures[i] == pictures[j]).all()]


def duplicates_only_next_to_each_other(pictures):
    return [[i, i + 1] for i in range(len(pictures) - 1) if (pictures[i] == pictures[i + 1]).all()]


def duplicates_without_the_first(pictures):
    return [same[1:] for same in solutions.duplicates(pictures)]


def duplicates_where_one_pixel_agrees(pictures):
    count = len(pictures)
    return [[j for j in range(count) if (pictures[i] == pictures[j]).any()] for i in range(count)]


def nearest_by_absolute_difference(queries, keys):
    return np.abs(queries[:, None] - keys).sum(axis=-1).argmin(axis=1)


def nearest_by_dot_product(queries, keys):
    return (queries @ keys.T).argmax(axis=1)


def nearest_is_furthest(queries, keys):
    return ((queries[:, None] - keys) ** 2).sum(axis=-1).argmax(axis=1)


def nearest_without_squares(queries, keys):
    return (queries[:, None] - keys).sum(axis=-1).argmin(axis=1)


def nearest_as_distances(queries, keys):
    return np.sqrt(((queries[:, None] - keys) ** 2).sum(axis=-1)).min(axis=1)


def nearest_along_the_wrong_axis(queries, keys):
    return ((queries[:, None] - keys) ** 2).sum(axis=-1).argmin(axis=0)


def nearest_in_uint8(queries, keys):
    return ((queries[:, None] - keys).astype(float) ** 2).sum(axis=-1).argmin(axis=1)


def folds_of_rows(units, folds, seed):
    return np.random.default_rng(seed).permutation(len(units)) % folds


def folds_in_order(units, folds, seed):
    return np.unique(units, return_inverse=True)[1] % folds


def folds_without_the_seed(units, folds, seed):
    names, unit = np.unique(units, return_inverse=True)
    return np.random.default_rng().permutation(len(names))[unit] % folds


def folds_thrown_by_dice(units, folds, seed):
    names, unit = np.unique(units, return_inverse=True)
    return np.random.default_rng(seed).integers(0, folds, len(names))[unit]


def folds_from_one(units, folds, seed):
    return solutions.deal_folds(units, folds, seed) + 1


def folds_of_units(units, folds, seed):
    return np.random.default_rng(seed).permutation(len(np.unique(units))) % folds


def folds_true_or_false(units, folds, seed):
    return solutions.deal_folds(units, folds, seed) == 0


WRONG = {
    "missing_rate": [
        missing_is_present,
        missing_counted,
        missing_over_all_rows,
        missing_in_order_of_appearance,
        missing_transposed,
        missing_without_groups,
    ],
    "duplicates": [
        duplicates_with_singles,
        duplicates_by_mean_colour,
        duplicates_as_pairs,
        duplicates_only_next_to_each_other,
        duplicates_without_the_first,
        duplicates_where_one_pixel_agrees,
    ],
    "nearest_neighbour": [
        nearest_by_absolute_difference,
        nearest_by_dot_product,
        nearest_is_furthest,
        nearest_without_squares,
        nearest_as_distances,
        nearest_along_the_wrong_axis,
        nearest_in_uint8,
    ],
    "deal_folds": [
        folds_of_rows,
        folds_in_order,
        folds_without_the_seed,
        folds_thrown_by_dice,
        folds_from_one,
        folds_of_units,
        folds_true_or_false,
    ],
}
