"""The study of notebook 07: what it keeps, and that it is about the weights and data at hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmteach import embed, frozen_judge, moods, prior_recipe, study_prior
from mmteach.data import data_checksum, load_emoji, training_rows
from mmteach.encoders import small
from mmteach.metrics import Interval
from mmteach.text_to_image import ARMS, LEVELS, Evaluation, Task, retrieval_ranks, task
from mmteach.weights import load_weights


@pytest.fixture(scope="module")
def figures():
    return study_prior.figures()


@pytest.fixture
def few():
    """Return four tasks, all different."""
    each = np.array(["a", "b", "c", "d"])
    return Task(np.arange(4), list(each), list(each), each, dict.fromkeys(LEVELS, each))


def test_the_study_is_of_the_shipped_weights_and_of_this_data(figures):
    config = load_weights("prior")[0]
    assert figures["data_sha256"] == data_checksum()
    assert figures["drawing"] == config["drawing"]
    assert len(figures["history"]) == len(config["history"]) > 10  # as good as a fingerprint
    for noted, shipped in zip(figures["history"], config["history"], strict=True):
        assert noted == pytest.approx(shipped, abs=6e-5)
    assert len(figures["seeds"]) >= 3


def test_the_study_was_judged_by_the_space_and_the_judge_that_are_shipped(figures):
    dataset, judge, space = load_emoji(), frozen_judge.load_pretrained(), embed.load_pretrained()
    for which, each in figures["sets"].items():
        work, arm = task(dataset, which), each["arms"]["true"]
        true = small(dataset.images[work.rows])
        found = retrieval_ranks(space, true, work.captions) == 1
        assert found.mean() == pytest.approx(arm["found among 100"].mean, abs=6e-5)
        said = judge.read(true)
        for level in LEVELS:
            assert (said[level] == work.truth[level]).mean() == pytest.approx(arm[level].mean, abs=6e-5)


def test_every_arm_of_both_sets_has_intervals_and_the_floor_stands_beside(figures):
    for each in figures["sets"].values():
        assert set(each["arms"]) == set(ARMS)
        assert all(isinstance(row["group"], Interval) for row in each["arms"].values())
        assert each["floor"]["frechet"].low > 0


def test_true_pictures_are_their_own_measure(figures):
    for each in figures["sets"].values():
        assert each["arms"]["true"]["group of true"] == Interval(1.0, 1.0, 1.0)
        assert each["arms"]["true"]["frechet"] == pytest.approx(0, abs=1e-3)


def test_a_sweep_changes_what_it_says_and_reads_what_was_drawn_so(monkeypatch, few):
    asked = []

    def sample(model, captions, **settings):
        asked.append(settings)
        return np.zeros((len(captions), 32, 32, 3), np.uint8)

    class Judge:
        def read(self, drawn):
            return {
                level: few.truth[level] if len(asked) == 2 else few.truth[level][::-1] for level in LEVELS
            }

    monkeypatch.setattr(study_prior.prior, "sample", sample)
    monkeypatch.setattr(study_prior, "task", lambda dataset, which: few)
    monkeypatch.setattr(study_prior, "retrieval_ranks", lambda space, drawn, captions: np.ones(len(drawn)))
    settings = [{"guidance_scale": 3.0, "style_scale": each} for each in (0.0, 1.0)]
    rows = study_prior.sweep(None, None, Judge(), None, settings)
    assert [{name: each[name] for name in ("guidance_scale", "style_scale")} for each in asked] == settings
    assert [row["style_scale"] for row in rows] == [0.0, 1.0]
    assert rows[1]["style"] == Interval(1.0, 1.0, 1.0)
    assert rows[0]["style"].mean < 1


def test_each_sweep_moves_one_scale_and_guidance_is_swept_without_the_style_scale(figures):
    drawing = {"guidance_scale": 3.0, "style_scale": 1.5, "temperature": 0.6}
    found = study_prior.settings(drawing, (0.0, 2.0), (0.5,), (0.25,))
    assert found["guidance"] == [
        {"guidance_scale": each, "style_scale": 0.0, "temperature": 0.6} for each in (0.0, 2.0)
    ]
    assert found["style"] == [{"guidance_scale": 3.0, "style_scale": 0.5, "temperature": 0.6}]
    assert found["lend"] == [drawing | {"lend": 0.25}]
    published = study_prior.settings(
        figures["drawing"], study_prior.SCALES, study_prior.STYLE_SCALES, study_prior.LENDS
    )
    for name, rows in published.items():
        assert [{key: row[key] for key in rows[0]} for row in figures[name]] == rows


def test_moods_are_read_from_what_was_drawn_for_them_and_pairs_kept_back_are_told_apart(monkeypatch):
    dataset, asked = load_emoji(), []
    rows = training_rows(dataset)
    rows = rows[(dataset.items["style"].iloc[rows] == "noto").to_numpy()]
    names = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "name_en"]
    faces = names.isin([each[0] for each in moods.MOODS.values()]).to_numpy()
    rows = rows[faces | (np.arange(len(rows)) % 20 == 0)]
    made = moods.composed(dataset, rows)
    of = {row: dataset.concepts.loc[dataset.items["concept"].iat[row], "name_en"] for row in made.things}
    right = {
        f"{mood} {of[row]}": picture
        for row, mood, picture in zip(made.things, made.moods, small(made.pictures), strict=True)
    }

    def sample(model, captions, *, styles, seed, **settings):
        asked.append(captions)
        assert set(styles) == {"noto"}
        happy = {name.split(" ", 1)[1]: each for name, each in right.items() if name.startswith("happy")}
        return np.stack([right[each] if each in right else happy[each] for each in captions])

    monkeypatch.setattr(study_prior, "training_rows", lambda dataset: rows)
    monkeypatch.setattr(study_prior, "reconstruct", lambda vqvae, pictures: pictures)
    monkeypatch.setattr(study_prior.prior, "sample", sample)

    class Model:
        vqvae = None

    said = study_prior.mood_figures(dataset, Model(), {}, (0, 1), 30)
    assert said["learned"] == said["kept back"] == Interval(1.0, 1.0, 1.0)
    assert said["thing alone"].mean < 1
    held = prior_recipe.kept_back(dataset, made)
    never = {f"{mood} {of[row]}" for row, mood in zip(made.things[held], made.moods[held], strict=True)}
    learned, _, kept, *_ = asked
    assert set(kept) <= never
    assert not set(learned) & never
    assert said["pictures"] == min(30, held.sum())
    assert said["kept back in all"] == held.sum()


def test_the_worst_are_those_found_last_in_that_order():
    dataset = load_emoji()
    count = len(task(dataset, "held-out pairs").rows)
    ranks = np.ones(count, np.int64)
    ranks[[5, 9, 2]] = 40, 100, 70
    found = study_prior.worst(dataset, "held-out pairs", Evaluation({}, {}, ranks))
    assert [each["place"] for each in found[:3]] == [9, 2, 5]
    assert found[0]["caption"] == task(dataset, "held-out pairs").captions[9]


def test_the_sheet_of_the_worst_has_the_true_pictures_above_the_drawn():
    true, drawn = np.zeros((4, 32, 32, 3), np.uint8), np.full((4, 32, 32, 3), 200, np.uint8)
    sheet = study_prior.worst_sheet(Evaluation({}, {"true": true, "drawn": drawn}, np.ones(4)), [3, 1])
    assert (sheet[5, 5] == 0).all()
    assert (sheet[-5, 5] == 200).all()
