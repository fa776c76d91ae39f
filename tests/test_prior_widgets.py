"""Figures and widgets of notebook 07, as plain functions and without a browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmteach import plot, prior_figures, prior_widgets, sampling
from mmteach.codebook import Codebook
from mmteach.metrics import Interval
from mmteach.prior import Shape, TokenPrior, draw, sample, sample_codes
from mmteach.solutions import contact_sheet
from mmteach.text_to_image import Task
from mmteach.vqvae import VQVAE

STYLES = ("round", "flat", "old")


@pytest.fixture(scope="module")
def model() -> TokenPrior:
    torch.manual_seed(0)
    net = VQVAE(Codebook(20, 4), width=8, blocks=1)
    net(torch.rand(8, 3, 32, 32) * 2 - 1)
    tiny = TokenPrior(
        net.eval(), Shape(codes=20, styles=3, width=16, depth=1, heads=2, words=8, layout=4), STYLES
    )
    with torch.no_grad():
        for each in tiny.parameters():
            each.normal_(std=0.4)
    return tiny.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return torch.randint(20, (3, 64), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)


# Simple languages


def test_a_table_writes_only_what_it_allows():
    table = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    codes = prior_figures.babble(table, 5, length=9)
    assert codes.shape == (5, 9)
    assert torch.equal(codes[:, 1:], (codes[:, :-1] + 1) % 3)
    assert torch.equal(codes, prior_figures.babble(table, 5, length=9))


def test_the_language_of_bars_has_six_sentences_of_three_inked_places():
    language = prior_figures.bars()
    assert language.codes.shape == (6, 1, 9)
    assert len({tuple(each) for each in language.codes[:, 0].tolist()}) == 6
    assert (language.codes.sum(2) == 3).all()
    assert language.codes[4, 0].view(3, 3).tolist() == [[0, 1, 0]] * 3
    assert language.captions[4] == ["column two"]
    assert prior_figures.unasked(language).captions == [[""]] * 6
    written = torch.stack([language.codes[2, 0], torch.ones(9, dtype=torch.int64)])
    assert prior_figures.how_often(written, language).tolist() == [0, 0, 1, 0, 0, 0]
    tile = prior_figures.as_tiles(written)[0]
    assert tile.shape == (28, 28)
    assert [int(tile[row, 14]) for row in (0, 6, 14, 22)] == [120, 255, 255, 0]


# Held-out pairs


def test_the_first_of_some_tasks_are_cut_from_every_list():
    names = np.array(["a", "b", "c"])
    work = Task(np.arange(3), ["x", "y", "z"], ["flat"] * 3, names, {"group": names})
    some = prior_figures.first_of(work, 2)
    assert [
        len(each) for each in (some.rows, some.captions, some.styles, some.families, some.truth["group"])
    ] == [2] * 5
    assert len(prior_figures.first_of(work, None).rows) == 3


def test_a_sheet_is_cut_into_its_pictures(tmp_path, train):
    Image.fromarray(contact_sheet(train[:6], 3)).save(tmp_path / "sheet.png")
    np.testing.assert_array_equal(prior_figures.tiles_of(tmp_path / "sheet.png", 3), train[:6])


# Code by code


def test_what_is_not_yet_written_is_grey_and_the_whole_sentence_is_the_picture(model, codes):
    half = prior_widgets.written(model, codes[0], 20, paper=0)
    assert (half[12:] == 208).all()  # 20 codes are two rows and a half
    assert (half[8:12, 16:] == 208).all()
    assert not (half[8:12, :16] == 208).all()
    np.testing.assert_array_equal(
        prior_widgets.written(model, codes[0], 64, paper=0), draw(model.vqvae, codes[:1])[0]
    )
    assert (prior_widgets.written(model, codes[0], 0, paper=0) == 208).all()


def test_the_commonest_code_is_the_one_that_occurs_most():
    assert prior_widgets.commonest_code(torch.tensor([[3, 1, 3], [2, 3, 1]])) == 3


def test_surprises_are_those_of_a_model_told_code_by_code(model, codes):
    bits = prior_widgets.surprises(model, codes, ["a", "b", "c"], ["flat", "old", "flat"])
    assert bits.shape == (3, 64)
    meaning = model.meaning(["b"], torch.tensor([2]))
    for place in (0, 1, 40, 63):
        chance = model(codes[1:2, :place], meaning)[0, -1].softmax(0)[codes[1, place]]
        assert bits[1, place] == pytest.approx(-np.log2(float(chance)), abs=1e-3)


def test_a_step_is_described_by_the_chance_of_its_code():
    bits = np.array([1.0, 3.0])
    assert prior_widgets.describe_step(bits, 0) == "nothing written yet; 2 codes to come"
    assert prior_widgets.describe_step(bits, 2) == "code 2 of 2: chance 12.5%, a surprise of 3.0 bits"


def test_the_slider_of_the_writer_goes_through_the_codes(model, codes):
    box = prior_widgets.writer(model, codes[0], "red apple", "flat", paper=0)
    (_, place), words, image = box.children[0].children, box.children[1], box.children[2]
    whole = image.value
    assert place.value == 64
    place.value = 10
    assert image.value != whole
    assert words.value.startswith("code 10 of 64")
    place.value = 64
    assert image.value == whole


# The prompt box


def test_thumbnails_are_means_of_cells(train):
    small = prior_widgets.thumbnails(train)
    assert small.shape == (30, 192)
    assert small[3].reshape(8, 8, 3)[2, 5, 1] == pytest.approx(train[3, 8:12, 20:24, 1].mean(), rel=1e-5)


def test_a_prompt_gets_eight_drawings_and_the_training_picture_nearest_to_each(model, train):
    settings = {"guidance_scale": 2.0, "style_scale": 1.0, "temperature": 0.8}
    answer = prior_widgets.ask(model, train, "red apple", "flat", seed=5, **settings)
    drawn = sample(model, ["red apple"] * 8, styles="flat", seed=5, **settings)
    np.testing.assert_array_equal(answer.pictures, drawn)
    planted = np.concatenate([train, drawn[3:4]])
    again = prior_widgets.ask(model, planted, "red apple", "flat", seed=5, **settings)
    np.testing.assert_array_equal(again.nearest[3], drawn[3])
    assert answer.seconds > 0


def test_the_answer_is_drawn_in_two_rows_and_described_without_markup_from_the_prompt(model, train):
    answer = prior_widgets.ask(model, train, "", None, guidance_scale=1.0, temperature=1.0)
    sheet = np.asarray(prior_widgets.draw_answer(answer, side=64))
    assert sheet.shape == (64 + 32 + 8, 8 * 68, 3)
    np.testing.assert_array_equal(sheet[1:64:2, 1:64:2], answer.pictures[0])
    assert prior_widgets.describe_answer(answer, "<b>x").startswith("<b>&lt;b&gt;x</b>: 8 drawings")
    assert prior_widgets.describe_answer(answer, "").startswith("<b>no caption</b>")


def test_the_answer_names_the_style_that_lends(model, train, monkeypatch):
    lending = lambda model, captions, style, lend: torch.full_like(style, 2)  # noqa: E731
    monkeypatch.setattr(prior_widgets, "lenders", lending)
    monkeypatch.setattr(sampling, "lenders", lending)
    of = lambda style, **more: prior_widgets.ask(model, train, "robot", style, **more)  # noqa: E731
    lent = of("flat", lend=0.5)
    assert lent.lender == STYLES[2]
    assert f"</b>, surer of it and lent by {STYLES[2]}: 8" in prior_widgets.describe_answer(lent, "robot")
    np.testing.assert_array_equal(lent.pictures, sample(model, ["robot"] * 8, styles="flat", lend=0.5))
    alone = [
        of(STYLES[2], lend=0.5),
        of("flat"),
        of("flat", lend=0.5, guidance_scale=0.0),
        of(None, lend=0.5),
    ]
    assert [each.lender for each in alone] == [None] * 4


def test_every_control_of_the_prompt_box_draws_anew(model, train, monkeypatch):
    lending = lambda model, captions, style, lend: (style + 1) % 3  # noqa: E731
    monkeypatch.setattr(sampling, "lenders", lending)
    monkeypatch.setattr(prior_widgets, "lenders", lending)
    box = prior_widgets.prompt_box(model, train)
    (text, style, seed), (guidance, clear), (lend, heat) = (each.children for each in box.children[:3])
    words, image = box.children[3:]
    seen = {image.value}
    moves = (
        (text, "sad robot"), (style, "old"), (seed, 7), (guidance, 4.0), (clear, 2.0), (lend, 0.9), (heat, 1.2),
    )  # fmt: skip
    for control, value in moves:
        control.value = value
        assert image.value not in seen
        seen.add(image.value)
    assert "sad robot" in words.value
    assert [name for name, _ in style.options] == ["each its own", *STYLES]


# The rest of a picture begun


@pytest.mark.parametrize("part", prior_widgets.KEPT)
def test_half_of_the_codes_are_kept_and_the_rest_is_drawn(model, codes, part):
    fixed = prior_widgets.kept_codes(codes, part).view(3, 8, 8)
    inside = {"upper half": fixed[:, :4], "lower half": fixed[:, 4:], "left half": fixed[:, :, :4],
              "right half": fixed[:, :, 4:]}[part]  # fmt: skip
    assert (inside >= 0).all()
    assert (fixed < 0).sum() == 96
    ends = prior_widgets.finished(
        model, codes[0], part, "red apple", "flat", count=3, seed=4, style_scale=1.0
    )
    found = sample_codes(
        model, ["red apple"] * 3, styles="flat", guidance_scale=2.0, style_scale=1.0, temperature=0.8, seed=4,
        fixed=prior_widgets.kept_codes(codes[:1], part).repeat(3, 1),
    )  # fmt: skip
    np.testing.assert_array_equal(ends, draw(model.vqvae, found))
    gone = prior_widgets.only_kept(model, codes[0], part) == 208
    assert gone.reshape(8, 4, 8, 4, 3).all((1, 3, 4)).sum() == 32


def test_a_part_of_another_name_is_refused(codes):
    with pytest.raises(ValueError, match="upper half, lower half"):
        prior_widgets.kept_codes(codes, "middle")


def test_every_control_of_the_inpainter_draws_anew(model, codes):
    box = prior_widgets.inpainter(
        model,
        {"red apple": codes[0], "sad robot": codes[1]},
        "flat",
        guidance_scale=2.0,
        style_scale=0.5,
        temperature=0.9,
    )
    (name, part), (text, seed), image = box.children[0].children, box.children[1].children, box.children[2]
    seen = {image.value}
    for control, value in ((name, "sad robot"), (part, "left half"), (text, "a house"), (seed, 3)):
        control.value = value
        assert image.value not in seen
        seen.add(image.value)


# Figures


def test_the_figures_can_be_drawn(model, codes, train):
    level = Interval(0.4, 0.5, 0.6)
    rows = [{"guidance_scale": scale, "style": level, "found among 100": level} for scale in (0.0, 1.0, 3.0)]
    bits = np.abs(np.random.default_rng(0).normal(3, 2, (3, 64)))
    choices = {"as it is": (1.0, None), "cold": (0.5, None), "three": (1.0, 3)}
    figures = [
        prior_figures.draw_learning(
            {"live": ([1, 2], [9.0, 7.0]), "held": ([1, 2], [9, 7.5])}, {"bigram": 7.2}, "t"
        ),
        prior_figures.draw_sweep(rows, "guidance_scale", ["style", "found among 100"], "t", "guidance scale"),
        prior_figures.draw_arms(
            {"drawn": rows[0], "true": rows[1]}, ["style"], {"true": "a", "drawn": "b"}, "t"
        ),
        prior_figures.draw_choice(torch.randn(20), choices, "t"),
        prior_figures.draw_surprises(train[:3], bits, ["a", "b", "c"], "t"),
    ]
    assert all(plot.png(fig)[:4] == b"\x89PNG" for fig in figures)


def test_the_chances_drawn_are_those_of_temperature_and_top_k():
    logits = torch.tensor([0.0, 2.0, 1.0, -1.0])
    fig = prior_figures.draw_choice(logits, {"cold": (0.5, None), "two": (1.0, 2)}, "t", most=3)
    heights = [[bar.get_height() for bar in ax.patches] for ax in fig.axes]
    np.testing.assert_allclose(
        heights[0], (logits / 0.5).softmax(0).sort(descending=True).values[:3], rtol=1e-5
    )
    np.testing.assert_allclose(heights[1], [*torch.tensor([2.0, 1.0]).softmax(0).tolist(), 0], rtol=1e-5)
