"""The transformers of `mmteach.features`: one battery for all of them, then each against a slow or known reference."""

import pickle

import joblib
import librosa
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mmteach import features, widgets

RATE = 16_000
SMALL_PATCHES = {"n_atoms": 6, "patch_size": 4, "size": 12, "n_patches": 300}


def pictures(n=8, side=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def clips(n=8, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(0, 0.1, int(length)).astype(np.float32) for length in draw.integers(2_000, 4_000, n)]


def fields(n=8):
    return pd.DataFrame(
        {
            "unicode_version": np.arange(n) % 5 + 6.0,
            "has_skin_tones": np.arange(n) % 2 == 0,
            "gender": pd.Series(["woman", None, "man", "none"] * n, dtype=object)[:n],
        }
    )


def table(n=8):
    frame = fields(n)
    frame["picture"] = pd.Series(list(pictures(n)), dtype=object)
    frame["speech"] = pd.Series(clips(n), dtype=object)
    return frame


# (name, estimator, column or columns of `table`, a setting to search and two values for it)
BATTERY = [
    ("pixels", features.PixelFeatures(size=4), "picture", "size", [2, 4]),
    ("colour", features.ColourHistogram(bins=2), "picture", "bins", [1, 2]),
    ("gradient", features.GradientHistogram(cells=2, orientations=4, size=16), "picture", "cells", [1, 2]),
    ("patches", features.PatchDictionary(**SMALL_PATCHES), "picture", "pool", [1, 2]),
    ("log_mel", features.SpeechFeatures("log_mel", n_mels=8), "speech", "parts", [1, 2]),
    ("mfcc", features.SpeechFeatures("mfcc"), "speech", "n_mfcc", [5, 13]),
    (
        "fields",
        features.StructuredFeatures(),
        ["unicode_version", "has_skin_tones", "gender"],
        "columns",
        [None],
    ),
]
every_transformer = pytest.mark.parametrize(
    ("estimator", "column", "setting", "values"),
    [row[1:] for row in BATTERY],
    ids=[row[0] for row in BATTERY],
)


@every_transformer
class TestBattery:
    def test_a_clone_has_the_same_settings_and_is_not_fitted(self, estimator, column, setting, values):
        copy = clone(clone(estimator).fit(table()[column]))
        assert copy.get_params().keys() == estimator.get_params().keys()
        assert all(copy.get_params()[name] is value for name, value in estimator.get_params().items())
        with pytest.raises(NotFittedError):
            copy.transform(table()[column])
        with pytest.raises(NotFittedError):
            copy.get_feature_names_out()

    @pytest.mark.parametrize("keep", ["pickle", "joblib"])
    def test_it_survives_being_saved(self, estimator, column, setting, values, keep, tmp_path):
        fitted = clone(estimator).fit(table()[column])
        if keep == "pickle":
            again = pickle.loads(pickle.dumps(fitted))
        else:
            joblib.dump(fitted, tmp_path / "fitted.joblib")
            again = joblib.load(tmp_path / "fitted.joblib")
        np.testing.assert_array_equal(again.transform(table()[column]), fitted.transform(table()[column]))

    def test_the_same_seed_and_data_give_the_same_numbers(self, estimator, column, setting, values):
        first, second = (clone(estimator).fit_transform(table()[column]) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_nothing_given_is_changed(self, estimator, column, setting, values):
        given_table = table()
        before = pickle.dumps(given_table)
        clone(estimator).fit(given_table[column]).transform(given_table[column])
        assert pickle.dumps(given_table) == before

    def test_a_subset_of_rows_gives_that_subset_of_the_output(self, estimator, column, setting, values):
        fitted, frame = clone(estimator).fit(table()[column]), table()
        rows = [5, 0, 3]
        # the same sums in the same order; 1e-6 allows for a matrix product that depends on where memory lies
        np.testing.assert_allclose(
            fitted.transform(frame[column].iloc[rows]),
            fitted.transform(frame[column])[rows],
            rtol=1e-6,
            atol=1e-6,
        )

    def test_every_column_has_one_name_of_its_own(self, estimator, column, setting, values):
        fitted = clone(estimator).fit(table()[column])
        names, out = fitted.get_feature_names_out(), fitted.transform(table()[column])
        assert out.dtype == np.float32 and out.shape == (8, len(names)) == (8, len(set(names)))
        assert fitted.n_features_in_ == (1 if isinstance(column, str) else len(column))

    def test_it_works_in_a_column_transformer_and_pandas_output(self, estimator, column, setting, values):
        frame = table()
        frame.index = [f"row{i}" for i in range(len(frame))]
        both = ColumnTransformer([("part", clone(estimator), column)]).set_output(transform="pandas")
        out = both.fit_transform(frame)
        assert list(out.index) == list(frame.index)
        assert all(name.startswith("part__") for name in out.columns)

    def test_a_grid_search_can_choose_its_settings(self, estimator, column, setting, values):
        whole = ColumnTransformer([("part", clone(estimator), column)])
        model = Pipeline([("x", whole), ("scale", StandardScaler()), ("y", LogisticRegression())])
        search = GridSearchCV(model, {f"x__part__{setting}": values}, cv=2, error_score="raise")
        search.fit(table(), [0, 1] * 4)
        assert search.predict(table()).shape == (8,)

    def test_a_missing_row_becomes_nan_and_leaves_the_others_as_they_were(
        self, estimator, column, setting, values
    ):
        fitted, frame = clone(estimator).fit(table()[column]), table()
        whole = fitted.transform(frame[column])
        frame = frame.astype(dict.fromkeys(frame, object))
        for name in [column] if isinstance(column, str) else column:
            frame.loc[2, name], frame.loc[4, name] = None, float("nan")
        out = fitted.transform(frame[column])
        others = [0, 1, 3, 5, 6, 7]
        assert np.isnan(out[[2, 4]]).all()
        np.testing.assert_array_equal(out[others], whole[others])

    def test_no_rows_give_no_rows_but_cannot_be_learned_from(self, estimator, column, setting, values):
        fitted, nothing = clone(estimator).fit(table()[column]), table()[column].iloc[:0]
        assert fitted.transform(nothing).shape == (0, len(fitted.get_feature_names_out()))
        with pytest.raises(ValueError, match="needs"):
            clone(estimator).fit(nothing)


@pytest.mark.parametrize("wrap", [list, np.asarray, lambda x: pd.DataFrame({"only": pd.Series(list(x))})])
def test_a_list_an_array_and_a_table_of_one_column_say_the_same(wrap):
    transformer = features.PixelFeatures(size=4).fit(pictures())
    np.testing.assert_array_equal(transformer.transform(wrap(pictures())), transformer.transform(pictures()))


@pytest.mark.parametrize(
    ("estimator", "items", "words"),
    [
        (features.PixelFeatures(), [pictures()[0], pictures()[0] / 255], ["row 1", "float64", "uint8"]),
        (features.PixelFeatures(), [pictures()[0], np.ones((9, 9, 4), np.uint8)], ["row 1", "(9, 9, 4)", "on white"]),
        (features.PixelFeatures(), pictures()[0], ["row 0", "(16, 3)", "list"]),
        (features.PixelFeatures(), table()[["picture", "speech"]], ["2 columns", "frame['picture']"]),
        (features.PixelFeatures(size=0), pictures(), ["size", "0", "at least 1"]),
        (features.ColourHistogram(bins=-1), pictures(), ["bins", "-1"]),
        (features.GradientHistogram(cells=9, size=4), pictures(), ["size", "4", "at least 9"]),
        (features.PatchDictionary(patch_size=40), pictures(), ["size", "32", "at least 41"]),
        (features.PatchDictionary(n_atoms=500, n_patches=500, size=8), pictures(2), ["n_atoms", "500", "18 patches"]),
        (features.SpeechFeatures(), [clips()[0], np.zeros(0, np.float32)], ["row 1", "(0,)"]),
        (features.SpeechFeatures(), [np.zeros((9, 2), np.float32)], ["row 0", "(9, 2)", "mono"]),
        (features.SpeechFeatures(), [np.zeros(99, np.int16)], ["row 0", "int16", "divide"]),
        (features.SpeechFeatures(), [np.full(99, np.nan, np.float32)], ["row 0", "NaN"]),
        (features.SpeechFeatures("mel"), clips(), ["kind", "'mel'", "log_mel"]),
        (features.SpeechFeatures(n_mfcc=50), clips(), ["n_mels", "40", "at least 50"]),
        (features.SpeechFeatures(filters=np.ones((3, 9))), clips(), ["filters", "(3, 9)", "257"]),
        (features.StructuredFeatures(["age"]), fields(), ["age", "unicode_version"]),
    ],
)  # fmt: skip
def test_a_wrong_input_is_named_with_what_was_found(estimator, items, words):
    with pytest.raises(ValueError) as error:
        clone(estimator).fit(items).transform(items)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("estimator", [features.PixelFeatures(), features.StructuredFeatures()])
@pytest.mark.parametrize("items", ["a string", 3])
def test_something_that_is_no_collection_is_a_type_error(estimator, items):
    with pytest.raises(TypeError, match="X should be"):
        clone(estimator).fit(items)


# Pictures


def test_a_grey_picture_counts_as_one_with_three_equal_channels():
    grey = pictures()[..., :1]
    transformer = features.ColourHistogram().fit(pictures())
    expected = transformer.transform(np.repeat(grey, 3, axis=3))
    np.testing.assert_array_equal(transformer.transform(grey), expected)
    np.testing.assert_array_equal(transformer.transform(grey[..., 0]), expected)


@given(hnp.arrays(np.uint8, (12, 12, 3)), st.integers(1, 16))
@settings(max_examples=40, deadline=None)
def test_shrinking_keeps_the_mean_colour(picture, size):
    expected = picture.mean(axis=(0, 1)) / 255
    np.testing.assert_allclose(
        features.shrink(picture, size).mean(axis=(0, 1)), expected, atol=1e-5
    )  # float32 sums


def test_shrinking_by_a_whole_factor_averages_blocks():
    picture = pictures(1)[0]
    blocks = picture.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(features.shrink(picture, 4), blocks, atol=1e-6)


@given(hnp.arrays(np.uint8, (6, 5, 3)), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_colour_histogram_sums_to_one_and_ignores_the_order_of_pixels(picture, bins, seed):
    shuffled = np.random.default_rng(seed).permutation(picture.reshape(-1, 3)).reshape(picture.shape)
    histogram = features.colour_histogram(picture, bins)
    assert histogram.shape == (bins**3,) and abs(histogram.sum() - 1) < 1e-9
    np.testing.assert_array_equal(features.colour_histogram(shuffled, bins), histogram)


@given(
    hnp.arrays(np.uint8, (8, 8), elements=st.integers(0, 100)),
    st.integers(1, 100),
    st.sampled_from([0.5, 2.0]),
)
@settings(max_examples=40, deadline=None)
def test_gradients_ignore_brightness_and_contrast(grey, offset, gain):
    grey = grey.astype(float)
    plain = features.gradient_histogram(grey, 2, 6)
    np.testing.assert_allclose(features.gradient_histogram(grey * gain + offset, 2, 6), plain, atol=1e-9)


@pytest.mark.parametrize(("angle", "strongest"), [(0, 0), (45, 1), (90, 2), (135, 3)])
def test_a_slope_falls_in_the_bin_of_its_direction(angle, strongest):
    y, x = np.mgrid[:16, :16].astype(float)
    slope = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    histogram = features.gradient_histogram(slope, 1, 4)[0, 0]
    assert histogram.argmax() == strongest and histogram.max() > 0.99


def test_a_flat_picture_has_no_edges():
    assert not features.gradient_histogram(np.full((8, 8), 0.5), 2, 9).any()


def test_whitened_patches_are_uncorrelated_and_of_equal_spread():
    draw = np.random.default_rng(0)
    mixed = draw.normal(size=(5_000, 6)) @ draw.normal(size=(6, 6))
    mean, whitening = features.zca(mixed, softening=1e-9)
    np.testing.assert_allclose(np.cov((mixed - mean) @ whitening, rowvar=False), np.eye(6), atol=1e-4)
    np.testing.assert_allclose(whitening, whitening.T, atol=1e-6)  # ZCA: the whitening that turns nothing


def slow_patch_features(fitted, picture):
    """One patch, one atom and one region at a time, as the paper says it."""
    small = features.shrink(picture, fitted.size).astype(float)
    side = fitted.size - fitted.patch_size + 1
    sums, counts = (
        np.zeros((fitted.pool, fitted.pool, fitted.n_atoms)),
        np.zeros((fitted.pool, fitted.pool, 1)),
    )
    first_longer = [len(part) for part in np.array_split(np.arange(side), fitted.pool)]
    region = np.repeat(np.arange(fitted.pool), first_longer)
    for y in range(side):
        for x in range(side):
            patch = small[y : y + fitted.patch_size, x : x + fitted.patch_size].ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10 / 255**2)
            patch = (patch - fitted.mean_) @ fitted.whitening_
            away = np.array([np.sqrt(((patch - atom) ** 2).sum()) for atom in fitted.atoms_])
            sums[region[y], region[x]] += np.maximum(0, away.mean() - away)
            counts[region[y], region[x]] += 1
    return (sums / counts).ravel()


def test_patch_features_equal_a_slow_obvious_loop():
    fitted = features.PatchDictionary(**SMALL_PATCHES, pool=2).fit(pictures())
    expected = np.stack([slow_patch_features(fitted, picture) for picture in pictures(3, seed=1)])
    # float32 against float64, with the squares expanded: about 1e-5 of distances near 10
    np.testing.assert_allclose(fitted.transform(pictures(3, seed=1)), expected, atol=1e-4)


@given(
    hnp.arrays(np.float64, (5, 4), elements=st.floats(-9, 9)),
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-9, 9)),
)
@settings(max_examples=60, deadline=None)
def test_patch_codes_are_never_negative_and_at_most_the_average_is_silent(patches, atoms):
    codes = features.patch_codes(patches, atoms)
    assert codes.shape == (5, 3) and (codes >= 0).all()
    away = np.linalg.norm(patches[:, None] - atoms, axis=2)
    np.testing.assert_allclose(codes, np.maximum(0, away.mean(1, keepdims=True) - away), atol=1e-5)
    np.testing.assert_allclose(features.patch_codes(patches, atoms[::-1]), codes[:, ::-1], atol=1e-5)


def test_another_seed_gives_another_dictionary():
    first, second = (
        features.PatchDictionary(**SMALL_PATCHES, random_state=seed).fit(pictures()) for seed in (0, 1)
    )
    assert not np.allclose(first.atoms_, second.atoms_)


# Speech

shorter_than_a_frame_is_meant = pytest.mark.filterwarnings("ignore:n_fft=512 is too large")


@pytest.fixture(params=[RATE, 1_234, 300], ids=lambda length: f"{length} samples")
def sound(request):
    """White noise of a second, of less than a tenth, and of less than one frame."""
    return np.random.default_rng(0).normal(0, 0.1, request.param).astype(np.float32)


def librosa_mel(sound, n_mels=40):
    return librosa.feature.melspectrogram(
        y=sound.astype(np.float64), sr=RATE, n_fft=512, hop_length=160, n_mels=n_mels, htk=True, norm=None
    )


@shorter_than_a_frame_is_meant
def test_the_spectrogram_is_librosas(sound):
    expected = np.abs(librosa.stft(sound.astype(np.float64), n_fft=512, hop_length=160)) ** 2
    np.testing.assert_allclose(features.stft_power(sound), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("n_mels", "n_fft", "rate"), [(40, 512, 16_000), (12, 256, 8_000), (64, 1_024, 22_050)]
)
def test_the_mel_filters_are_librosas(n_mels, n_fft, rate):
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, htk=True, norm=None, dtype=np.float64)
    np.testing.assert_allclose(features.mel_filterbank(n_mels, n_fft, rate), expected, atol=1e-9)


@shorter_than_a_frame_is_meant
def test_log_mel_is_librosas_to_a_hundred_thousandth_of_a_decibel(sound):
    expected = librosa.power_to_db(librosa_mel(sound), ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(features.log_mel(sound), expected, atol=1e-5)  # librosa's filters are float32


@shorter_than_a_frame_is_meant
def test_mfcc_is_librosas(sound):
    decibels = librosa.power_to_db(librosa_mel(sound), ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(features.mfcc(sound), librosa.feature.mfcc(S=decibels, n_mfcc=13), atol=1e-4)


@given(st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_playing_it_louder_shifts_every_log_mel_value_alike(gain):
    sound = np.random.default_rng(0).normal(0, 0.1, 2_000)
    shift = features.log_mel(sound * gain) - features.log_mel(sound)
    np.testing.assert_allclose(shift, 20 * np.log10(gain), atol=1e-9)


@given(st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_loudness_moves_only_the_first_mfcc(gain):
    sound = np.random.default_rng(0).normal(0, 0.1, 2_000)
    np.testing.assert_allclose(features.mfcc(sound * gain)[1:], features.mfcc(sound)[1:], atol=1e-8)


def test_silence_is_the_floor_and_finite():
    assert (features.log_mel(np.zeros(1_000)) == -100).all()


def test_speech_features_are_mean_and_spread_of_each_stretch():
    clip = clips(1)[0]
    bands = features.log_mel(clip, n_mels=8)
    whole = features.SpeechFeatures("log_mel", parts=1, n_mels=8).fit_transform([clip])[0]
    np.testing.assert_allclose(whole, np.concatenate([bands.mean(axis=1), bands.std(axis=1)]), rtol=1e-5)


def test_a_clip_shorter_than_a_frame_has_finite_features():
    assert np.isfinite(features.SpeechFeatures(parts=5).fit_transform([np.ones(1, np.float32)])).all()


def test_a_filterbank_of_ones_own_replaces_the_packages():
    flat = features.SpeechFeatures("log_mel", filters=np.ones((4, 257))).fit_transform(clips())
    assert flat.shape == (8, 3 * 2 * 4)


# Structured fields


def test_numbers_are_scaled_and_categories_become_columns():
    out = features.StructuredFeatures().set_output(transform="pandas").fit_transform(fields())
    assert list(out.columns) == [
        "unicode_version", "has_skin_tones_False", "has_skin_tones_True", "gender_man", "gender_none", "gender_woman",
    ]  # fmt: skip
    np.testing.assert_allclose(
        [out["unicode_version"].mean(), out["unicode_version"].std(ddof=0)], [0, 1], atol=1e-6
    )
    assert (out.iloc[1, 3:] == 0).all()  # no gender given


def test_a_category_never_seen_is_zeros_and_a_missing_number_the_mean():
    fitted = features.StructuredFeatures(["unicode_version", "gender"]).fit(fields())
    new = pd.DataFrame({"unicode_version": [np.nan], "gender": ["robot"]})
    np.testing.assert_array_equal(fitted.transform(new), [[0, 0, 0, 0]])


def test_a_field_that_never_varies_or_is_always_missing_does_no_harm():
    constant = pd.DataFrame(
        {"a": [2.0, 2.0], "b": pd.Series([None, None], dtype=object), "c": [np.nan, np.nan]}
    )
    assert np.isfinite(features.StructuredFeatures().fit_transform(constant)).all()


# What notebook 02 shows of them


def test_an_atom_is_shown_with_nothing_as_grey():
    shown = features.patch_picture(np.array([0.0, -2.0, 2.0] * 4))
    assert shown.shape == (2, 2, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[0, 0], [128, 0, 255])


@pytest.fixture(scope="module")
def dictionary():
    return features.PatchDictionary(**SMALL_PATCHES).fit(pictures())


def test_the_drawn_patch_changes_with_its_place(dictionary):
    first, last = (np.asarray(widgets.draw_patch(pictures()[0], dictionary, place)) for place in (0, 80))
    assert first.shape == last.shape == (256, 680, 3)
    assert (first != last).any()


def test_moving_a_slider_moves_the_patch(dictionary):
    widget = widgets.patch_slider(pictures()[0], dictionary)
    (row, column), image = widget.children[0].children, widget.children[1]
    seen = [bytes(image.value)]
    for slider in (row, column):
        slider.value = slider.max
        seen.append(bytes(image.value))
    assert len(set(seen)) == 3


def test_a_longer_window_says_how_fine_its_frequencies_are():
    title = widgets.draw_spectrogram(clips(1)[0], RATE, 1_024).axes[0].get_title(loc="left")
    assert title == "64 ms windows, 16 Hz apart"


def test_the_window_slider_redraws_the_spectrogram():
    widget = widgets.spectrogram_slider(clips(1)[0], RATE)
    slider, image = widget.children[0].children[0], widget.children[1]
    before = image.value
    slider.value = 2_048
    assert bytes(image.value) != bytes(before) and bytes(image.value).startswith(b"\x89PNG")


def test_bars_of_colour_are_sorted_and_have_the_colour_of_their_box():
    red = np.full((4, 4, 3), (250, 5, 5), dtype=np.uint8)
    red[0, 0] = 5
    fig = widgets.draw_colours([red], [features.colour_histogram(red, 2)])
    bars = fig.axes[1].patches
    assert [bar.get_height() for bar in bars][:3] == [15 / 16, 1 / 16, 0]
    assert bars[0].get_facecolor()[:3] == (0.75, 0.25, 0.25)


def test_strokes_run_along_the_edge_and_not_across():
    upright = np.tile(np.repeat([0.0, 1.0], 4), (8, 1))
    fig = widgets.draw_edges(upright, features.gradient_histogram(upright, 1, 4))
    stroke = max(fig.axes[1].lines, key=lambda line: line.get_alpha())
    assert np.ptp(stroke.get_xdata()) < 1e-9 and np.ptp(stroke.get_ydata()) > 1


def test_maps_are_of_atoms_unlike_each_other():
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 5, 5))
    codes = np.stack([3 * one, 2.9 * one + 0.01 * other, 2 * other, 0 * one], axis=2)
    assert widgets.unlike_atoms(codes, 3) == [0, 2]


def test_every_map_names_its_atom_and_lies_on_the_picture(dictionary):
    fig = widgets.draw_atom_maps(pictures()[0], dictionary)
    chosen = widgets.unlike_atoms(dictionary.codes(pictures()[0]), 3)
    assert [ax.get_title() for ax in fig.axes if ax.get_title()] == [f"atom {atom}" for atom in chosen]
    maps = [ax for ax in fig.axes[5:] if ax.images]
    assert len(maps) == len(chosen) >= 1
    for ax in maps:
        left, right, bottom, top = ax.images[0].get_extent()
        assert ax.get_xlim() == (0, dictionary.size)
        assert left == top == (dictionary.patch_size - dictionary.stride) / 2
        assert right == bottom == dictionary.size - left


def test_bands_stand_under_each_other_on_one_clock_and_the_coefficients_count_from_one():
    fig = widgets.draw_bands(np.zeros((40, 9)), np.ones((12, 9)), 0.5)
    panels = [ax for ax in fig.axes if ax.get_title(loc="left")]
    assert [ax.get_ylabel() for ax in panels] == ["band", "coefficient"]
    assert [ax.images[0].get_extent()[2:] for ax in panels] == [[-0.5, 39.5], [0.5, 12.5]]
    assert all(ax.get_xlim() == (0, 0.5) for ax in panels)
