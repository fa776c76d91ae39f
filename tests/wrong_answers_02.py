"""Wrong answers to the exercises of notebook 02, each a mistake that readers make."""

import numpy as np


def _unit(weights):
    return weights / np.maximum(np.sqrt((weights**2).sum(axis=1, keepdims=True)), 1e-12)


def _idf(train_counts):
    return np.log((1 + len(train_counts)) / (1 + (train_counts > 0).sum(axis=0))) + 1


def tf_idf_without_length(counts, train_counts):
    return counts * _idf(train_counts)


def tf_idf_of_shares(counts, train_counts):
    weights = counts * _idf(train_counts)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)


def tf_idf_learned_from_the_wrong_rows(counts, train_counts):
    return _unit(counts * _idf(counts))


def tf_idf_without_plus_one(counts, train_counts):
    return _unit(counts * (_idf(train_counts) - 1))


def tf_idf_without_smoothing(counts, train_counts):
    with np.errstate(divide="ignore"):
        return _unit(counts * (np.log(len(train_counts) / (train_counts > 0).sum(axis=0)) + 1))


def tf_idf_half_smoothed(counts, train_counts):
    return _unit(counts * (np.log(len(train_counts) / (1 + (train_counts > 0).sum(axis=0))) + 1))


def tf_idf_of_summed_counts(counts, train_counts):
    return _unit(counts * (np.log((1 + len(train_counts)) / (1 + train_counts.sum(axis=0))) + 1))


def tf_idf_to_base_ten(counts, train_counts):
    return _unit(counts * ((_idf(train_counts) - 1) / np.log(10) + 1))


def tf_idf_without_counts(counts, train_counts):
    return _unit((counts > 0) * _idf(train_counts))


def tf_idf_without_rarity(counts, train_counts):
    return _unit(counts.astype(float))


def tf_idf_upside_down(counts, train_counts):
    return _unit(counts / _idf(train_counts))


def tf_idf_nan_for_a_name_of_unknown_words(counts, train_counts):
    weights = counts * _idf(train_counts)
    with np.errstate(invalid="ignore"):
        return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _boxes(level, bins):
    return np.bincount(level @ [bins * bins, bins, 1], minlength=bins**3)


def colours_as_counts(picture, bins=4):
    return _boxes(picture.reshape(-1, 3).astype(int) * bins // 256, bins)


def colours_over_values(picture, bins=4):
    return colours_as_counts(picture, bins) / picture.size


def colours_blue_first(picture, bins=4):
    return colours_as_counts(picture[..., ::-1], bins) / (picture.size / 3)


def colours_overflowing(picture, bins=4):
    wrapped = (picture * np.uint8(bins) / 256).astype(int)
    return _boxes(wrapped.reshape(-1, 3), bins) / (picture.size / 3)


def colours_of_a_picture_left_as_uint8(picture, bins=4):
    return _boxes((picture * bins // 256).reshape(-1, 3), bins) / (picture.size / 3)


def colours_divided_first(picture, bins=4):
    return _boxes((picture // (256 // bins)).reshape(-1, 3), bins) / (picture.size / 3)


def colours_of_own_range(picture, bins=4):
    return np.histogramdd(picture.reshape(-1, 3).astype(float), bins)[0].ravel() / (picture.size / 3)


def colours_of_length_one(picture, bins=4):
    counts = colours_as_counts(picture, bins)
    return counts / np.linalg.norm(counts)


def colours_channel_by_channel(picture, bins=4):
    return np.concatenate([np.histogram(picture[..., c], bins, (0, 256))[0] for c in range(3)]) / (
        picture.size / 3
    )


def colours_in_a_cube(picture, bins=4):
    return (colours_as_counts(picture, bins) / (picture.size / 3)).reshape(bins, bins, bins)


def colours_by_whole_steps(picture, bins=4):
    level = np.minimum(picture.reshape(-1, 3) // (256 // bins + 1), bins - 1).astype(int)
    return _boxes(level, bins) / len(level)


def _corners(n_mels, top_hertz):
    top = 2595 * np.log10(1 + top_hertz / 700)
    return 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)


def _bank(corners, n_fft, sample_rate, floor=0.0):
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(
            floor, np.minimum((frequency - low) / (peak - low), (high - frequency) / (high - peak))
        )


def mel_on_its_side(n_mels, n_fft, sample_rate):
    return _bank(_corners(n_mels, sample_rate / 2), n_fft, sample_rate).T


def mel_even_in_hertz(n_mels, n_fft, sample_rate):
    return _bank(np.linspace(0, sample_rate / 2, n_mels + 2), n_fft, sample_rate)


def mel_up_to_the_sample_rate(n_mels, n_fft, sample_rate):
    return _bank(_corners(n_mels, sample_rate), n_fft, sample_rate)


def mel_of_equal_area(n_mels, n_fft, sample_rate):
    corners = _corners(n_mels, sample_rate / 2)
    return _bank(corners, n_fft, sample_rate) * 2 / (corners[2:] - corners[:-2])[:, None]


def mel_of_equal_sum(n_mels, n_fft, sample_rate):
    bank = _bank(_corners(n_mels, sample_rate / 2), n_fft, sample_rate)
    return bank / bank.sum(axis=1, keepdims=True)


def mel_below_zero(n_mels, n_fft, sample_rate):
    return _bank(_corners(n_mels, sample_rate / 2), n_fft, sample_rate, floor=-np.inf)


def mel_on_whole_columns(n_mels, n_fft, sample_rate):
    columns = np.floor(_corners(n_mels, sample_rate / 2) / sample_rate * (n_fft + 1))
    return _bank(columns * sample_rate / n_fft, n_fft, sample_rate)


def mel_with_too_few_corners(n_mels, n_fft, sample_rate):
    return _bank(_corners(n_mels - 2, sample_rate / 2), n_fft, sample_rate)


def mel_with_the_mirror_half(n_mels, n_fft, sample_rate):
    bank = _bank(_corners(n_mels, sample_rate / 2), n_fft, sample_rate)
    return np.concatenate([bank, bank[:, -2:0:-1]], axis=1)


def mel_of_the_natural_logarithm(n_mels, n_fft, sample_rate):
    top = 2595 * np.log(1 + sample_rate / 2 / 700)
    return _bank(700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1), n_fft, sample_rate)


def mel_with_columns_up_to_the_sample_rate(n_mels, n_fft, sample_rate):
    corners, frequency = _corners(n_mels, sample_rate / 2), np.linspace(0, sample_rate, n_fft // 2 + 1)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return np.maximum(0, np.minimum((frequency - low) / (peak - low), (high - frequency) / (high - peak)))


def _distance(patches, atoms):
    return np.linalg.norm(patches[:, None] - atoms, axis=2)


def codes_on_their_side(patches, atoms):
    away = _distance(patches, atoms)
    return np.maximum(0, away.mean(axis=1, keepdims=True) - away).T


def codes_of_squares(patches, atoms):
    away = _distance(patches, atoms) ** 2
    return np.maximum(0, away.mean(axis=1, keepdims=True) - away)


def codes_flipped(patches, atoms):
    away = _distance(patches, atoms)
    return np.maximum(0, away - away.mean(axis=1, keepdims=True))


def codes_below_zero(patches, atoms):
    away = _distance(patches, atoms)
    return away.mean(axis=1, keepdims=True) - away


def codes_averaged_over_patches(patches, atoms):
    away = _distance(patches, atoms)
    return np.maximum(0, away.mean(axis=0) - away)


def codes_with_one_mean(patches, atoms):
    away = _distance(patches, atoms)
    return np.maximum(0, away.mean() - away)


def codes_of_the_nearest_alone(patches, atoms):
    return np.eye(len(atoms))[_distance(patches, atoms).argmin(axis=1)]


def codes_that_are_distances(patches, atoms):
    return _distance(patches, atoms)


def codes_with_nan(patches, atoms):
    squares = (patches**2).sum(axis=1)[:, None] - 2 * patches @ atoms.T + (atoms**2).sum(axis=1)
    with np.errstate(invalid="ignore"):
        away = np.sqrt(squares)
    return np.maximum(0, away.mean(axis=1, keepdims=True) - away)


def codes_by_a_table_of_all_differences(patches, atoms):
    away = _distance(patches, atoms)
    return np.maximum(0, away.mean(axis=1, keepdims=True) - away)


WRONG = {
    "tf_idf": [
        tf_idf_without_length, tf_idf_of_shares, tf_idf_learned_from_the_wrong_rows, tf_idf_without_plus_one,
        tf_idf_without_smoothing, tf_idf_half_smoothed, tf_idf_of_summed_counts, tf_idf_to_base_ten,
        tf_idf_without_counts, tf_idf_without_rarity, tf_idf_upside_down,
        tf_idf_nan_for_a_name_of_unknown_words,
    ],
    "colour_histogram": [
        colours_as_counts, colours_over_values, colours_blue_first, colours_overflowing, colours_of_own_range,
        colours_of_length_one, colours_channel_by_channel, colours_in_a_cube, colours_by_whole_steps,
        colours_of_a_picture_left_as_uint8, colours_divided_first,
    ],
    "mel_filterbank": [
        mel_on_its_side, mel_even_in_hertz, mel_up_to_the_sample_rate, mel_of_equal_area, mel_of_equal_sum,
        mel_below_zero, mel_on_whole_columns, mel_with_too_few_corners, mel_with_the_mirror_half,
        mel_of_the_natural_logarithm, mel_with_columns_up_to_the_sample_rate,
    ],
    "patch_codes": [
        codes_on_their_side, codes_of_squares, codes_flipped, codes_below_zero, codes_averaged_over_patches,
        codes_with_one_mean, codes_of_the_nearest_alone, codes_that_are_distances, codes_with_nan,
        codes_by_a_table_of_all_differences,
    ],
}  # fmt: skip
