"""The study of notebook 06: its arms, its answers, its intervals, and that nothing of test is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmteach import study_embed
from mmteach.data import TRAIN_STYLES, VOICES, data_checksum, load_emoji
from mmteach.embed import SharedEmbedding
from mmteach.embed_train import Settings, corpus, training_rows

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def said(dataset):
    """The answers of untrained, tiny towers."""
    torch.manual_seed(0)
    model = SharedEmbedding(picture_width=4, text_width=8, speech_width=8).eval()
    with pytest.MonkeyPatch.context() as patch:  # an eighth of the training pictures will do here
        patch.setattr(study_embed, "training_rows", lambda _: training_rows(dataset)[::8])
        return study_embed.answers(model, dataset, ("slt",))


def test_arms_differ_in_languages_or_in_the_batch_and_in_nothing_else():
    arms = study_embed.arms(7)
    main = arms[study_embed.MAIN]
    differences = {
        name: {key for key, value in vars(each).items() if value != getattr(main, key)}
        for name, each in arms.items()
    }
    assert differences == {
        study_embed.MAIN: set(),
        study_embed.ENGLISH: {"chinese"},
        study_embed.TREATED: {"views"},
        study_embed.UNTREATED: {"views", "treat"},
        study_embed.FLOOR: {"steps"},
    }


def test_every_question_is_answered_for_every_row(dataset, said):
    assert (
        len(said["rank|name|noto"])
        == len(said["rank|back|twemoji"])
        == len(said["rank|voice slt|openmoji"])
        == 328
    )
    pictures = len(dataset.rows("test", TRAIN_STYLES))
    assert len(said["right|class names|group|seven styles"]) == pictures
    assert len(said["right|names > pictures|subgroup|seven styles"]) == pictures
    assert len(said["right|pictures > names|group|seven styles"]) == 328


def test_towers_that_were_never_trained_find_about_as_much_as_chance(said):
    """328 searches of ten places: about 10 hits are expected, and 30 would be six standard deviations away."""
    assert (said["rank|name|noto"] <= 10).sum() < 30
    assert (said["rank|name|twemoji"] <= 10).sum() < 30


def test_intervals_hold_their_figure_and_gains_are_paired(dataset, said):
    judge = study_embed.Judge(dataset)
    recall = judge.recall([said, said], ["name"], study_embed.FULL, 10)
    ranks = np.concatenate([said[f"rank|name|{style}"] for style in study_embed.FULL])
    assert recall.mean == pytest.approx((ranks <= 10).mean())
    assert recall.low <= recall.mean <= recall.high
    assert judge.recall_gain([said], [said], "name") == (0, 0, 0)


def test_families_stand_beside_the_rows_they_belong_to(dataset, said):
    judge = study_embed.Judge(dataset)
    for how, part in (
        ("class names", "seven styles"),
        ("pictures > names", "OpenMoji"),
        ("names > pictures", "OpenMoji"),
    ):
        right = said[f"right|{how}|group|{part}"]
        assert judge.right([said], how, "group", part).mean == pytest.approx(right.mean())
    assert judge.families["concepts"].tolist() == [
        dataset.concepts.loc[each, "family"]
        for each in sorted(dataset.concepts.query("split == 'test'").index)
    ]


def test_an_arm_that_is_done_is_not_trained_again(dataset, monkeypatch, tmp_path: Path):
    data = corpus(dataset, training_rows(dataset)[::200], ())
    monkeypatch.setattr(study_embed, "answers", lambda *_: {"rank|name|noto": np.arange(3)})
    first = study_embed.run_arm("untrained", Settings(steps=0), 0, dataset, data, tmp_path)
    monkeypatch.setattr(study_embed, "train_arm", lambda *_: pytest.fail("trained again"))
    assert study_embed.run_arm("untrained", Settings(steps=0), 0, dataset, data, tmp_path) == first
    found, seconds = study_embed.read_arm(first)
    assert found["rank|name|noto"].tolist() == [0, 1, 2]
    assert seconds >= 0


def test_an_arm_of_another_loss_is_another_arm(dataset, monkeypatch, tmp_path: Path):
    data = corpus(dataset, training_rows(dataset)[::200], ())
    monkeypatch.setattr(study_embed, "answers", lambda *_: {"rank|name|noto": np.arange(3)})
    first = study_embed.run_arm("untrained", Settings(steps=0), 0, dataset, data, tmp_path)
    monkeypatch.setattr(study_embed, "kin_loss", lambda a, b, *_: (a - b).abs().mean())
    assert study_embed.run_arm("untrained", Settings(steps=0), 0, dataset, data, tmp_path) != first


def test_the_study_trains_on_training_rows_only(dataset, monkeypatch, tmp_path: Path):
    class Seen(Exception):
        pass

    def spy(_, rows):
        assert np.array_equal(rows, training_rows(dataset))
        raise Seen

    monkeypatch.setattr(study_embed, "corpus", spy)
    with pytest.raises(Seen):
        study_embed.run([0], 1, tmp_path)


def test_the_published_study_belongs_to_this_data_and_this_code():
    found = study_embed.figures()
    assert found["data_sha256"] == data_checksum()
    assert len(found["seeds"]) >= 3
    assert set(found["retrieval"]) == set(study_embed.arms())
    assert found["recipe"] == json.loads(json.dumps(vars(study_embed.arms()[study_embed.MAIN])))
    assert set(found["retrieval"][study_embed.MAIN]) >= {f"voice {each}" for each in VOICES}
