"""Figures and widgets of notebook 06, as plain functions and without a browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmteach import embed_widgets, plot
from mmteach.data import load_emoji
from mmteach.embed import SharedEmbedding, info_nce
from mmteach.metrics import Interval


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def hall(dataset):
    torch.manual_seed(0)
    model = SharedEmbedding(picture_width=4, text_width=8, speech_width=8).eval()
    return embed_widgets.gallery(model, dataset, dataset.rows("test", "noto")[:12])


def test_the_toy_brings_partners_together_and_keeps_pairs_apart():
    shots, losses = embed_widgets.pull(info_nce, (0, 150))
    a, b = shots[150]
    assert torch.allclose(a.norm(dim=1), torch.ones(8), atol=1e-6)
    assert (a * b).sum(1).min() > 0.95
    assert ((a @ a.T) - 2 * torch.eye(8)).max() < 0.95
    assert losses[-1] < losses[0]


def test_the_nearest_come_first_and_no_more_than_there_are(hall):
    order = embed_widgets.nearest(hall, hall.vectors[:3], 5)
    assert order.shape == (3, 5)
    assert order[:, 0].tolist() == [0, 1, 2]  # nothing is nearer to a picture than itself
    cosines = hall.vectors[:3] @ hall.vectors.T
    assert (np.diff(np.take_along_axis(cosines.numpy(), order, 1)) <= 1e-6).all()
    assert embed_widgets.nearest(hall, hall.vectors[:1], 99).shape == (1, 12)


def test_the_way_starts_and_ends_at_its_captions_and_stays_on_the_sphere(hall):
    way = embed_widgets.way(hall, "cat", "car", [0, 0.3, 1])
    ends = hall.model.text(["cat", "car"])
    assert torch.allclose(way[[0, 2]], ends, atol=1e-5)
    assert torch.allclose(way.norm(dim=1), torch.ones(3), atol=1e-5)


def test_every_figure_draws(hall):
    points = embed_widgets.pull(info_nce, (0, 1))[0]
    same = np.eye(3, dtype=bool) | np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    sets = {
        name: np.random.default_rng(i).normal(size=(50, 6)) for i, name in enumerate(("pictures", "names"))
    }
    rows = {"name": {"trained": Interval(0.1, 0.2, 0.3), "untrained": 0.03}, "speech": {"trained": 0.1}}
    figures = [
        embed_widgets.draw_circle(points, "circle"),
        embed_widgets.draw_table(np.eye(3), same, list("abc"), "table"),
        embed_widgets.draw_gap(sets, "gap"),
        embed_widgets.draw_scores(rows, "scores", "recall", {"chance": 0.03}),
        embed_widgets.draw_nearest(hall, hall.vectors[:2], ["one", "two"], "nearest", 4),
    ]
    assert all(plot.png(each).startswith(b"\x89PNG") for each in figures)


def test_typing_words_changes_the_pictures(hall):
    box = embed_widgets.word_search(hall)
    text, picture = box.children
    before = picture.value
    text.value = "车"
    assert before
    assert picture.value != before


def test_empty_words_still_show_a_picture(hall):
    text, picture = embed_widgets.word_search(hall).children
    text.value = ""
    assert bytes(picture.value).startswith(b"\x89PNG")


def test_another_voice_changes_sound_and_pictures(hall, dataset):
    controls, sound, picture = embed_widgets.voice_search(hall, dataset).children
    before = bytes(sound.value), bytes(picture.value)
    controls.children[1].value = "espeak"
    assert bytes(sound.value) != before[0]
    assert bytes(sound.value).startswith(b"RIFF")
    controls.children[0].value = hall.concepts[5]
    assert bytes(picture.value) != before[1]


def test_the_slider_walks_from_one_caption_to_the_other(hall):
    _, share, picture = embed_widgets.way_search(hall).children
    share.value = 0
    start = bytes(picture.value)
    share.value = 1
    assert bytes(picture.value) != start
