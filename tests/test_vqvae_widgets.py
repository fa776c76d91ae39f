"""Figures and widget of notebook 05, as plain functions and without a browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmteach import plot, vqvae_widgets
from mmteach.codebook import Codebook
from mmteach.metrics import Interval
from mmteach.solutions import nearest_code
from mmteach.vqvae import VQVAE


@pytest.fixture(scope="module")
def model() -> VQVAE:
    torch.manual_seed(0)
    net = VQVAE(Codebook(20, 4), width=8, blocks=1)
    net(torch.rand(8, 3, 32, 32) * 2 - 1)
    return net.eval()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_a_map_of_codes_goes_to_a_picture_and_is_of_eight_by_eight(model, picture):
    codes = vqvae_widgets.encode_one(model, picture)
    drawn = vqvae_widgets.decode_one(model, codes)
    assert codes.shape == (8, 8)
    assert drawn.shape == (32, 32, 3)
    assert drawn.dtype == np.uint8


def test_every_code_has_a_tile_cut_from_a_map_of_its_like(model):
    tiles = vqvae_widgets.code_tiles(model, size=8)
    assert tiles.shape == (20, 8, 8, 3)
    whole = vqvae_widgets.decode_one(model, np.full((8, 8), 7))
    np.testing.assert_array_equal(tiles[7], whole[12:20, 12:20])


def test_codes_are_ordered_by_their_main_direction():
    codes = torch.tensor([[3.0, 0.1], [1.0, 0.0], [2.0, -0.1]])
    order = vqvae_widgets.by_likeness(codes).tolist()
    assert order in ([1, 2, 0], [0, 2, 1])


def test_a_map_is_drawn_cell_by_cell():
    tiles = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (0, 100, 200)])
    sheet = np.asarray(vqvae_widgets.draw_map(np.array([[0, 1], [2, 0]]), tiles, side=10))
    assert sheet.shape == (20, 20, 3)
    assert [int(sheet[row, column, 0]) for row, column in ((5, 5), (5, 15), (15, 5), (15, 15))] == [
        0,
        100,
        200,
        0,
    ]


def test_the_palette_shows_every_code_even_when_the_last_row_is_short():
    tiles = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    sheet = np.asarray(vqvae_widgets.draw_palette(tiles, range(5), columns=3, side=8))
    assert sheet.shape == (16, 24, 3)
    assert {0, 1, 2, 3, 4} <= set(sheet[4::8, 4::8, 0].ravel().tolist())


def test_the_painter_frames_the_chosen_place_and_draws_the_changed_word(model, picture):
    tiles, codes = vqvae_widgets.code_tiles(model), vqvae_widgets.encode_one(model, picture)
    one = np.asarray(vqvae_widgets.draw_painter(model, codes, (2, 3), tiles))
    other = np.asarray(vqvae_widgets.draw_painter(model, codes, (5, 3), tiles))
    assert not np.array_equal(one, other)
    changed = codes.copy()
    changed[2, 3] = (codes[2, 3] + 1) % 20
    assert not np.array_equal(one, np.asarray(vqvae_widgets.draw_painter(model, changed, (2, 3), tiles)))


def test_the_description_counts_from_one_and_says_how_much_changed():
    first = np.zeros((8, 8), int)
    changed = first.copy()
    changed[0, 1] = 5
    assert (
        vqvae_widgets.describe_place(first, (0, 1), first) == "row 1, column 2: code <b>0</b>; none changed"
    )
    assert vqvae_widgets.describe_place(changed, (0, 1), first).endswith("code <b>5</b>; 1 of 64 changed")


def test_click_a_cell_choose_a_code_and_the_picture_changes_until_all_is_put_back(model, picture):
    tiles = vqvae_widgets.code_tiles(model)
    box = vqvae_widgets.painter(model, picture, tiles, range(20))
    (grid, image), (palette, undo, reset), text = (
        box.children[0].children,
        box.children[1].children,
        box.children[2],
    )
    codes = vqvae_widgets.encode_one(model, picture)
    at_start = image.value
    grid.children[9].click()
    assert palette.value == codes[1, 1]
    assert text.value.startswith("row 2, column 2")
    assert "none changed" in text.value
    clean = image.value
    palette.value = (int(codes[1, 1]) + 1) % 20
    assert image.value != clean
    assert "1 of 64 changed" in text.value
    undo.click()
    assert image.value == clean
    palette.value = (int(codes[1, 1]) + 2) % 20
    grid.children[36].click()
    assert "1 of 64 changed" in text.value
    reset.click()
    assert image.value == at_start
    assert "none changed" in text.value


def test_a_morph_starts_with_one_map_ends_with_the_other_and_exchanges_more_at_each_shot():
    start, end = np.zeros((8, 8), int), np.ones((8, 8), int)
    path = vqvae_widgets.morph(start, end, 5)
    assert path.sum((1, 2)).tolist() == [0, 16, 32, 48, 64]
    assert (np.diff(path, axis=0) >= 0).all()


def test_a_codebook_of_the_plane_is_watched_at_the_steps_asked_for():
    torch.manual_seed(0)
    seen = vqvae_widgets.watch(Codebook(14, 2), (1, 5))
    assert list(seen) == ["step 1", "step 5"]
    rows = vqvae_widgets.flowers(200)
    assert len(nearest_code(rows, seen["step 5"]).unique()) > 5
    far = {"step 9": torch.cat([seen["step 1"], torch.full((2, 2), 99.0)])}
    fig = vqvae_widgets.draw_plane(rows, seen | far, "codes")
    assert [ax.get_title() for ax in fig.axes] == ["step 1", "step 5", "step 9\n(2 codes out of sight)"]


def test_the_figures_can_be_drawn():
    points, codes = torch.randn(6, 2), torch.randn(2, 2)
    level = Interval(20.0, 21.0, 22.0)
    found = {
        "pca": {"192": {"psnr": level}, "576": {"psnr": level}},
        "arms": {"512 codes": {"bits": 576, "psnr": level}, "FSQ 8x8x8": {"bits": 576, "psnr": level}},
    }
    figures = [
        vqvae_widgets.draw_pulls(points, codes, "pulls"),
        vqvae_widgets.draw_rate_distortion(found, "curve", {"live": (576, level)}),
        vqvae_widgets.draw_usage({"train": np.array([5, 0, 3])}, "usage"),
    ]
    assert all(plot.png(fig)[:4] == b"\x89PNG" for fig in figures)
