"""Widgets of notebooks 00 and 01: the plain functions, and the glue without a browser."""

from __future__ import annotations

import io
import wave

import ipywidgets as w
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmteach import widgets
from mmteach.data import MultimodalDataset

STYLES, VOICES = ("flat", "line"), ("ann", "bob")


def clip(concept: str, voice: str):
    """A tone whose length tells the voice; bob has no word for stars."""
    if (concept, voice) == ("star", "bob"):
        raise FileNotFoundError(concept)
    return np.zeros(160 * (1 + VOICES.index(voice)), dtype=np.float32), 16_000


@pytest.fixture
def dataset() -> MultimodalDataset:
    """Three concepts in two styles; `line` never drew the star."""
    concepts = pd.DataFrame(
        {
            "emoji": ["❤️", "⭐", "🐱"],
            "name_en": ["red heart", "star <big>", "cat face"],
            "keywords_en": ["love", "sky; night", "animal; pet"],
            "name_zh": ["红心", "星", "猫脸"],
            "keywords_zh": ["爱", "夜", "动物; 宠物"],
            "group": ["smileys", "travel", "animals"],
            "subgroup": ["heart", "sky", "mammal"],
            "family": ["heart", "star", "cat"],
            "unicode_version": [0.6, 0.6, 15.0],
            "has_skin_tones": [False, False, True],
            "gender": ["", "", ""],
            "split": ["train", "test", "val"],
        },
        index=pd.Index(["red-heart", "star", "cat-face"], name="concept"),
    )
    pairs = [
        ("red-heart", "flat"),
        ("star", "flat"),
        ("cat-face", "flat"),
        ("red-heart", "line"),
        ("cat-face", "line"),
    ]
    items = pd.DataFrame(pairs, columns=["concept", "style"])
    items["split"], items["held_out"] = concepts["split"].loc[items["concept"]].to_numpy(), False
    images = np.stack([np.full((64, 64, 3), 40 * (row + 1), dtype=np.uint8) for row in range(len(items))])
    return MultimodalDataset(concepts, items, images, STYLES, VOICES, clip)


def find(widget, kind: type, described: str = ""):
    """Return the one control of a kind (and description) inside a widget."""
    nodes, found = [widget], []
    while nodes:
        node = nodes.pop()
        nodes += getattr(node, "children", ())
        if isinstance(node, kind) and getattr(node, "description", "") == described:
            found.append(node)
    assert len(found) == 1, found
    return found[0]


def test_search_reads_names_and_keywords_in_both_languages_and_wants_every_word(dataset):
    assert widgets.find_concepts(dataset, "LOVE") == ["red-heart"]
    assert widgets.find_concepts(dataset, "宠物") == ["cat-face"]
    assert widgets.find_concepts(dataset, "red night") == []
    assert len(widgets.find_concepts(dataset, " ")) == 3
    assert widgets.find_concepts(dataset, "(") == [], "not a pattern, only letters"


def test_the_explorer_picture_shows_the_chosen_style_large_and_all_styles_small(dataset):
    pixels = np.asarray(widgets.draw_explorer(dataset, "red-heart", "line"))
    assert (pixels[10, 10] == 160).all()
    assert {40, 160} <= set(np.unique(pixels[:, 280:]))


def test_a_style_that_lacks_the_concept_is_a_hatched_tile(dataset):
    sheet = np.asarray(widgets.draw_explorer(dataset, "star", "line"))
    assert not (sheet[:256, :256] == 80).any(), "no picture"
    assert len(np.unique(sheet[:256, :256])) > 1, "but a pattern"


def test_the_description_escapes_names_and_says_who_drew_it(dataset):
    text = widgets.describe_concept(dataset, "star")
    assert "star &lt;big&gt; · 星" in text
    assert "<td>flat</td>" in text


def test_a_voice_that_lacks_the_word_is_silent(dataset):
    assert widgets.spoken(dataset, "star", "bob") == b""
    with wave.open(io.BytesIO(widgets.spoken(dataset, "star", "ann"))) as file:
        assert file.getnframes() == 160


def test_drawing_leaves_the_data_alone(dataset):
    before = dataset.images.copy()
    widgets.draw_explorer(dataset, "red-heart", "flat")
    widgets.draw_gallery(dataset, "flat", 0)
    assert (dataset.images == before).all()


def test_stepping_changes_the_picture_the_text_and_the_concept(dataset):
    explorer = widgets.explorer(dataset)
    picture, step = find(explorer, w.Image), find(explorer, w.IntSlider, "number")
    before = picture.value
    step.value = 3
    assert find(explorer, w.Dropdown, "concept").value == "cat-face"
    assert picture.value != before
    assert "猫脸" in explorer.children[-1].value


def test_the_explorer_can_start_at_a_concept(dataset):
    explorer = widgets.explorer(dataset, "star")
    assert find(explorer, w.IntSlider, "number").value == 2


def test_choosing_a_style_redraws_and_choosing_a_voice_speaks(dataset):
    explorer = widgets.explorer(dataset)
    picture, sound = find(explorer, w.Image).value, find(explorer, w.Audio).value
    find(explorer, w.Dropdown, "style").value = "line"
    find(explorer, w.Dropdown, "voice").value = "bob"
    assert find(explorer, w.Image).value != picture
    assert len(find(explorer, w.Audio).value) > len(sound)


def test_searching_narrows_the_list_and_keeps_the_concept_where_it_can(dataset):
    explorer = widgets.explorer(dataset, "cat-face")
    choice, step = find(explorer, w.Dropdown, "concept"), find(explorer, w.IntSlider, "number")
    search = find(explorer, w.Text, "search")
    search.value = "a"
    assert choice.value == "cat-face"
    assert (step.value, step.max) == (choice.options.index("cat-face") + 1, len(choice.options))
    search.value = "heart"
    assert (choice.value, choice.options, step.value, step.max) == ("red-heart", ("red-heart",), 1, 1)
    search.value = ""
    assert (choice.value, len(choice.options), step.max) == ("red-heart", 3, 3)


def test_a_search_that_finds_nothing_says_so_and_changes_nothing(dataset):
    explorer = widgets.explorer(dataset)
    picture = find(explorer, w.Image).value
    find(explorer, w.Text, "search").value = "zebra"
    assert "nothing found" in explorer.children[0].children[1].value
    assert find(explorer, w.Image).value == picture


def test_the_browser_test_finds_its_picture(dataset):
    assert "mmteach-explorer" in find(widgets.explorer(dataset), w.Image)._dom_classes


def test_data_without_voices_has_no_player(dataset):
    mute = MultimodalDataset(dataset.concepts, dataset.items, dataset.images, STYLES, (), clip)
    with pytest.raises(AssertionError):
        find(widgets.explorer(mute), w.Audio)


def test_the_gallery_pages_through_a_style(dataset, monkeypatch):
    monkeypatch.setattr(widgets, "PER_PAGE", 2)
    gallery = widgets.gallery(dataset)
    page, picture = find(gallery, w.IntSlider, "page"), find(gallery, w.Image)
    assert page.max == 2
    first = picture.value
    page.value = 2
    assert picture.value != first
    assert "Page 2 of 2" in find(gallery, w.HTML).value
    find(gallery, w.Dropdown, "style").value = "line"
    assert (page.value, page.max) == (1, 1), "a page that the new style has not moves back"
    assert "<b>line</b>: 2 pictures. Page 1 of 1" in find(gallery, w.HTML).value


def test_a_gallery_page_holds_each_of_its_pictures_once(dataset):
    with Image.open(io.BytesIO(widgets.png(widgets.draw_gallery(dataset, "flat", 0)))) as sheet:
        assert {40, 80, 120} <= set(np.unique(np.asarray(sheet)))
