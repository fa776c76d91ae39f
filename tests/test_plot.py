"""Figures: what they draw, what they refuse, and that a reader without sight or colour is served."""

from __future__ import annotations

import base64
import builtins
import io
import re
import warnings
import wave

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from mmteach import plot


@pytest.fixture
def shown(monkeypatch):
    """Collect what would be displayed."""
    bundles: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: bundles.append(data))
    return bundles


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def texts(fig) -> list[str]:
    """All words of a figure."""
    found = [text.get_text() for ax in fig.axes for text in ax.texts]
    for ax in fig.axes:
        found += [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()]
        found += [tick.get_text() for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    return found + ([fig.get_suptitle()] if fig.get_suptitle() else [])


def figures(pictures):
    rng = np.random.default_rng(1)
    yield plot.picture_grid(pictures, title="five pictures")
    yield plot.curves(
        {"a": rng.random(9), "b": (np.arange(3), rng.random(3))}, title="t", xlabel="step", ylabel="loss"
    )
    yield plot.bars(
        ["a", "b"], [(0.1, 0.2, 0.3), 0.5], title="t", xlabel="accuracy", level=0.125, level_name="chance"
    )
    yield plot.heat(rng.random((2, 3)), ["a", "b"], ["x", "y", "z"], title="t", unit="share")
    yield plot.confusion([[3, 1], [0, 4]], ["cat", "dog"], title="t")
    yield plot.spectrogram(rng.random((40, 20)), seconds=1, title="t", ylabel="mel band", unit="log energy")


def test_every_kind_of_figure_draws_without_a_warning(pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fig in figures(pictures):
            with Image.open(io.BytesIO(plot.png(fig))) as image:
                assert image.width > 100


def test_the_paper_of_a_figure_stays_white_and_its_colours_stay_close(pictures):
    fig = plot.picture_grid([np.full((64, 64, 3), (200, 30, 40), dtype=np.uint8), pictures[0]])
    with Image.open(io.BytesIO(plot.png(fig))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (pixels[0, 0] == 255).all()
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 4]
    assert np.abs(middle - (200, 30, 40)).max() <= 12, "256 colours: a step that no eye sees"


def test_a_flat_area_stays_flat_among_many_colours(pictures):
    flat = np.full((64, 64, 3), (90, 140, 60), dtype=np.uint8)
    with Image.open(io.BytesIO(plot.png(plot.picture_grid([flat, *pictures])))) as image:
        pixels = np.asarray(image.convert("RGB"))
    middle = pixels[pixels.shape[0] // 2 - 20 : pixels.shape[0] // 2 + 20, 30:70]
    assert len(np.unique(middle.reshape(-1, 3), axis=0)) == 1, "dithering would strew dots of other colours"


def test_figures_do_not_stay_open(pictures):
    before = plt.get_fignums()
    for fig in figures(pictures):
        plot.png(fig)
    assert plt.get_fignums() == before


def test_the_readers_own_settings_are_left_alone(pictures):
    before = dict(plt.rcParams)
    list(figures(pictures))
    assert dict(plt.rcParams) == before


def test_a_missing_picture_is_an_empty_tile_in_its_place(pictures):
    fig = plot.picture_grid([pictures[0], None, pictures[1]], titles=["a", "b", "c"])
    ax = fig.axes[0]
    assert len(ax.images) == 2
    assert [patch.get_hatch() for patch in ax.patches] == ["////"]
    assert ax.patches[0].get_x() == pytest.approx(1.06)
    assert texts(fig)[:3] == ["a", "b", "c"]


def test_a_grid_of_rows_and_columns_is_labelled_around(pictures):
    fig = plot.picture_grid(pictures[:4], column_labels=["noto", "fluent"], row_labels=["heart", "star"])
    assert {"noto", "fluent", "heart", "star"} <= set(texts(fig))
    places = [image.get_extent() for image in fig.axes[0].images]
    assert places[2][0] == places[0][0], "the third picture starts the second row"


def test_grey_pictures_keep_their_scale():
    fig = plot.picture_grid([np.full((4, 4), 100, dtype=np.uint8)])
    assert fig.axes[0].images[0].get_clim() == (0, 255)


def test_no_picture_and_a_title_too_many_are_refused(pictures):
    with pytest.raises(ValueError, match="0 pictures"):
        plot.picture_grid([])
    with pytest.raises(ValueError, match="5 pictures and 2 titles"):
        plot.picture_grid(pictures, titles=["a", "b"])


def test_curves_differ_by_more_than_colour():
    fig = plot.curves({str(i): np.arange(3) for i in range(7)}, title="t", xlabel="x", ylabel="y")
    looks = {
        (line.get_color(), str(line.get_linestyle()), line._unscaled_dash_pattern)
        for line in fig.axes[0].lines
    }
    assert len({dash for _, _, dash in looks}) == 7


def test_bars_draw_the_whisker_and_write_the_mean():
    fig = plot.bars(["text"], [(0.5, 0.6, 0.8)], title="t", xlabel="accuracy")
    assert fig.axes[0].lines[0].get_xdata().tolist() == [0.5, 0.8]
    assert "0.60" in texts(fig)


def test_bars_read_intervals_with_names():
    class Interval:
        low, mean, high = 1.0, 2.0, 3.0

    assert plot.interval_of(Interval()) == plot.interval_of((1, 2, 3)) == (1.0, 2.0, 3.0)
    assert plot.interval_of(2) == (2.0, 2.0, 2.0)


def test_bars_refuse_names_without_intervals():
    with pytest.raises(ValueError, match="zip"):
        plot.bars(["a", "b"], [0.5], title="t", xlabel="x")


def test_a_heat_map_leaves_nan_blank():
    fig = plot.heat([[0.25, np.nan]], ["a"], ["x", "y"], title="t")
    assert [text.get_text() for text in fig.axes[0].texts] == ["0.25", ""]


def test_confusion_shows_shares_of_the_true_class():
    fig = plot.confusion([[3, 1], [0, 0]], ["cat", "dog"], title="t")
    assert [text.get_text() for text in fig.axes[0].texts] == ["75", "25", "0", "0"]


def test_a_long_title_is_broken_inside_the_figure():
    ax = plot.canvas(4, 3)[1]
    plot.label(ax, "a finding told in far more words than would ever fit on one line of it")
    assert "\n" in ax.get_title(loc="left")


def test_show_gives_the_picture_once_with_alt_text_and_caption(shown, pictures):
    plot.show(plot.picture_grid(pictures), alt='five "noisy" tiles', caption="a < b")
    body = shown[0]["text/html"]
    assert set(shown[0]) == {"text/html", "text/plain"}
    assert 'alt="five &quot;noisy&quot; tiles"' in body
    assert "<figcaption>a &lt; b</figcaption>" in body
    assert shown[0]["text/plain"] == '[figure: five "noisy" tiles]'
    assert base64.b64decode(re.search(r"base64,([^\"]+)", body)[1]).startswith(b"\x89PNG")


@pytest.mark.parametrize("alt", ["", "  "])
def test_show_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt text"):
        plot.show(plot.canvas()[0], alt=alt)


def test_a_sound_becomes_a_16_bit_wav_of_the_same_length_and_rate():
    samples = np.sin(np.arange(1600) / 5).astype(np.float32)
    with wave.open(io.BytesIO(plot.wav(samples, 16_000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        back = np.frombuffer(file.readframes(1600), dtype="<i2") / 32767
    assert np.abs(back - samples).max() <= 0.5 / 32767 + 1e-7, "rounding to 16 bit, no more"


def test_a_sound_too_loud_is_clipped_and_does_not_wrap_around():
    with wave.open(io.BytesIO(plot.wav([2.0, -2.0], 8_000))) as file:
        assert np.frombuffer(file.readframes(2), dtype="<i2").tolist() == [32767, -32767]


def test_a_player_has_a_name_for_those_who_hear_the_page(shown):
    plot.play(np.zeros(800), 16_000, "the word <heart>")
    assert 'aria-label="the word &lt;heart&gt;"' in shown[0]["text/html"]
    assert shown[0]["text/plain"] == "[sound: the word <heart>, 0.05 s]"


def test_without_ipython_a_line_of_text_is_printed(monkeypatch, capsys):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("IPython"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    plot.play(np.zeros(16), 16_000, "hush")
    assert capsys.readouterr().out == "[sound: hush, 0.00 s]\n"
