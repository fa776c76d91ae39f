"""Judging drawn pictures: tasks, baselines, ranks, ratios and copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmteach import text_to_image
from mmteach.data import TRAIN_STYLES, load_emoji
from mmteach.encoders import small
from mmteach.prior import Shape, TokenPrior
from mmteach.text_to_image import (
    ARMS,
    arms,
    copies,
    evaluate,
    nearest_captions,
    ratio_interval,
    retrieval_ranks,
    table,
    task,
)
from mmteach.vqvae import load_pretrained


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = Shape(width=16, depth=1, heads=2, words=8, layout=2)
    return TokenPrior(load_pretrained(), shape, TRAIN_STYLES).eval()


class KnowingSpace:
    """A space in which a caption is the number of its place, and a picture what its first pixel says."""

    def __init__(self, captions):
        self.names = sorted(set(captions))

    def text(self, captions):
        return torch.nn.functional.one_hot(torch.tensor([self.names.index(c) for c in captions]), 400).float()

    def pictures(self, images):
        number = images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]
        return torch.nn.functional.one_hot(torch.from_numpy(number).long(), 400).float()


def marked(numbers):
    images = np.zeros((len(numbers), 32, 32, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.array(numbers) // 256, np.array(numbers) % 256
    return images


def test_the_held_out_task_is_every_held_out_pair_and_no_other(dataset):
    work = task(dataset, "held-out pairs")
    assert dataset.items["held_out"].iloc[work.rows].all()
    assert len(work.rows) == dataset.items["held_out"].sum()


def test_the_unseen_task_draws_each_test_concept_once_in_all_styles(dataset):
    work = task(dataset, "unseen concepts")
    items = dataset.items.iloc[work.rows]
    assert (items["split"] == "test").all() and items["concept"].is_unique
    assert len(items) == (dataset.concepts["split"] == "test").sum()
    assert set(work.styles) == set(TRAIN_STYLES)


def test_another_task_is_refused_by_name(dataset):
    with pytest.raises(ValueError, match="held-out pairs"):
        task(dataset, "train")


def test_stand_ins_are_training_pictures_of_the_right_kind(dataset, model):
    work = task(dataset, "held-out pairs")
    few = type(work)(work.rows[:12], work.captions[:12], work.styles[:12], work.families[:12], {})
    found = arms(dataset, model, few)
    assert set(found) == set(ARMS)
    assert all(each.shape == (12, 32, 32, 3) and each.dtype == np.uint8 for each in found.values())
    assert not (found["other style"] == found["true"]).all((1, 2, 3)).any()


def test_the_nearest_caption_is_in_the_style_asked_for_and_in_train(dataset):
    work = task(dataset, "held-out pairs")
    train = dataset.rows("train", TRAIN_STYLES, held_out=False)
    found = nearest_captions(dataset, work, train)
    assert set(found) <= set(train.tolist())
    assert dataset.items["style"].iloc[found].tolist() == work.styles


def test_a_picture_that_matches_its_caption_ranks_first_and_one_that_matches_none_last():
    captions = [f"thing {i:03d}" for i in range(120)]
    space = KnowingSpace(captions)
    ranks = retrieval_ranks(space, marked([0, 1, 399, *range(3, 120)]), captions)[:3]
    assert ranks.tolist() == [1, 1, 100], "ties count against the picture"


def test_ranks_agree_with_a_slow_loop():
    captions = [f"thing {i:03d}" for i in range(100)]  # with exactly 100 names every gallery is all of them
    rng = np.random.default_rng(0)
    text, picture = torch.from_numpy(rng.normal(size=(2, 100, 5)))
    space = type("Space", (), {"text": lambda s, c: text, "pictures": lambda s, x: picture})()
    slow = [
        1 + sum(float(picture[i] @ text[j]) >= float(picture[i] @ text[i]) for j in range(100) if j != i)
        for i in range(100)
    ]
    assert retrieval_ranks(space, np.zeros((100, 32, 32, 3), np.uint8), captions).tolist() == slow


def test_a_gallery_of_too_few_captions_is_refused():
    with pytest.raises(ValueError, match="100"):
        retrieval_ranks(KnowingSpace(["a"]), marked([0]), ["a"])


def test_a_ratio_is_one_when_both_are_the_same_and_its_interval_holds_the_ratio():
    rng = np.random.default_rng(1)
    whole, families = rng.random((1, 300)) < 0.8, rng.integers(0, 60, 300)
    assert ratio_interval(whole, whole, families) == (1.0, 1.0, 1.0)
    part = whole & (rng.random((1, 300)) < 0.5)
    low, mean, high = ratio_interval(part, whole, families)
    assert low < mean < high and mean == part.sum() / whole.sum()


def test_families_widen_the_interval_of_a_ratio():
    families = np.repeat(np.arange(10), 30)
    part = (families % 2 == 0)[None]  # whole families right or wrong
    whole = np.ones_like(part)
    apart, together = (ratio_interval(part, whole, each) for each in (np.arange(300), families))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_planted_copies_are_flagged_and_new_pictures_are_not(dataset):
    train = small(dataset.images[dataset.rows("train", ("noto",))][:400])
    true = small(dataset.images[dataset.rows("test", ("noto",))][:200])
    families = np.arange(200) // 2
    assert copies(train, [train[:200]], true, families)["share"] == (1.0, 1.0, 1.0)
    low, share, high = copies(train, [true], true, families)["share"]
    assert share == pytest.approx(0.05, abs=0.01)
    assert low < share < high
    half = copies(train, [train[:200], true], true, families)["share"]
    assert half.mean == pytest.approx(0.525, abs=0.005)  # one seed copies all, the other nothing


def some(work, which):
    """Return a part of a task, by a slice."""
    truth = {level: each[which] for level, each in work.truth.items()}
    return type(work)(work.rows[which], work.captions[which], work.styles[which], work.families[which], truth)


def test_each_picture_is_drawn_from_its_own_caption_in_its_own_style(dataset, model, monkeypatch):
    asked = {}

    def sample(model, captions, *, styles, seed, **settings):
        asked.update(captions=captions, styles=styles, seed=seed, **settings)
        return np.zeros((len(captions), 32, 32, 3), np.uint8)

    monkeypatch.setattr(text_to_image, "sample", sample)
    few = some(task(dataset, "held-out pairs"), slice(None, None, 40))
    assert few.styles != few.styles[::-1]
    arms(dataset, model, few, seed=5, guidance_scale=3.0)
    items = dataset.items.iloc[few.rows]
    names = dataset.concepts.loc[items["concept"], "name_en"].tolist()
    assert asked == {"captions": names, "styles": items["style"].tolist(), "seed": 5, "guidance_scale": 3.0}


class HalfBlindJudge:
    """A judge that reads the true pictures right, and of all others the first half."""

    def __init__(self, true, truth):
        self.true, self.truth = true, truth

    def read(self, images):
        right = len(images) if np.array_equal(images, self.true) else len(images) // 2
        return {
            level: np.where(np.arange(len(images)) < right, each, "nothing")
            for level, each in self.truth.items()
        }


def test_everything_is_measured_for_every_arm_and_fits_in_a_table(dataset, model, monkeypatch):
    work = task(dataset, "held-out pairs")
    few = some(work, slice(140))
    judge = HalfBlindJudge(small(dataset.images[few.rows]), few.truth)
    monkeypatch.setattr(text_to_image, "task", lambda *_: few)
    space = type(
        "Space",
        (),
        {"text": lambda s, c: torch.ones(len(c), 3), "pictures": lambda s, x: torch.ones(len(x), 3)},
    )()
    found = evaluate(dataset, model, judge, space, "held-out pairs", seeds=(0, 1))
    rows = found.figures["arms"]
    assert set(rows) == set(ARMS)
    assert rows["true"]["style of true"].mean == 1 and rows["drawn"]["style of true"].mean == 0.5
    assert rows["drawn"]["found among 100"].mean == 0
    assert rows["true"]["frechet"] == pytest.approx(0, abs=1e-3)
    text = table(found.figures)
    assert all(said in text for said in ARMS.values()) and "real against real" in text
