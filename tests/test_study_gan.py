"""The GAN study is fair by construction, resumes, and its committed figures are those of this data."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from mmteach import study_gan
from mmteach.data import TRAIN_STYLES, data_checksum, load_emoji
from mmteach.gan import GAMES

torch.set_num_threads(1)
STEPS = 2


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two arms trained for two steps, and the folder that keeps their pictures."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("bare hinge 0.001", "dcgan hinge 0.0002"):
        study_gan.run_arm(name, 0, STEPS, folder)
    return folder


@pytest.mark.parametrize("kind", ["bare", "cure"])
def test_every_loss_has_the_same_learning_rates_and_differs_in_nothing_else(kind):
    table = study_gan.arms()
    rest = {
        loss: [
            {**asdict(arm), "loss": ""} for name, arm in table.items() if name.startswith(f"{kind} {loss} ")
        ]
        for loss in GAMES
    }
    assert all(each == rest["hinge"] for each in rest.values())
    assert [each["lr"] for each in rest["hinge"]] == list(study_gan.LEARNING_RATES)


@pytest.mark.parametrize("name", ["without R1", "without R2", "without augmentation"])
def test_an_ablation_takes_away_one_term_of_the_cure(name):
    whole, less = asdict(study_gan.CURE), asdict(study_gan.arms()[name])
    assert sum(whole[key] != less[key] for key in whole) == 1


def test_the_cure_itself_is_among_the_arms():
    assert study_gan.CURE in study_gan.arms().values()


def test_the_faces_are_of_the_split_and_styles_asked_for(dataset):
    for split in ("train", "test"):
        items = dataset.items.iloc[study_gan.face_rows(dataset, split)]
        assert set(items["split"]) == {split}
        assert set(items["style"]) <= set(TRAIN_STYLES)
        assert not items["held_out"].any()
    pictures = study_gan.faces(dataset, "train")
    assert pictures.dtype == np.uint8
    assert pictures.shape[1:] == (32, 32, 3)
    assert len(pictures) > 400


def test_a_run_that_is_kept_is_not_made_again(kept, monkeypatch):
    monkeypatch.setattr(study_gan.Arm, "train", lambda *_, **__: pytest.fail("trained again"))
    path = study_gan.run_arm("bare hinge 0.001", 0, STEPS, kept)
    with np.load(path) as found:
        assert found["ema"].shape == found["last"].shape == (study_gan.DRAWN, 32, 32, 3)
        assert found["seconds"] > 0


def test_settings_and_steps_are_part_of_the_name_of_a_run(kept, monkeypatch):
    before = study_gan._key("bare hinge 0.001")
    monkeypatch.setattr(study_gan, "WIDTH", 16)
    assert study_gan._key("bare hinge 0.001") != before
    assert study_gan._key("bare hinge 0.001") != study_gan._key("cure hinge 0.001")


def test_the_summary_has_every_figure_of_every_run(kept):
    names = ["bare hinge 0.001", "dcgan hinge 0.0002"]
    figures = study_gan.summary(names, [0], STEPS, kept)
    for name in names:
        for weights in ("ema", "last"):
            run = figures["arms"][name][weights][0]
            assert set(run) >= {"kernel", "frechet", "recall", "precision", "copy_ratio", "spread"}
            assert np.isfinite(list(run.values())).all()
    assert figures["floor"]["kernel"] < 0.2 * study_gan.values(figures, names[0], "kernel")[0]
    assert study_gan.best(figures, "bare", "hinge") == "bare hinge 0.001"
    assert study_gan.sheet(names, STEPS, kept).shape == (2 * 32, 12 * 32, 3)


def test_pictures_all_alike_have_no_spread_and_real_ones_have_one(dataset):
    real = study_gan.Faces.of(dataset)
    alike = np.repeat(real.train[:1], 300, axis=0)
    assert study_gan.pairwise(alike) == 0
    found = real.judge(alike)
    assert found["recall"] < 0.05
    assert found["kernel"] > 5 * abs(real.floor(2)["kernel"])


def test_figures_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="mmteach study 04_gan"):
        study_gan.read(tmp_path)


def test_the_committed_figures_are_of_this_data_three_seeds_and_every_arm():
    figures = study_gan.read()
    assert figures["data"] == data_checksum()
    assert figures["seeds"] == list(study_gan.SEEDS)
    assert set(figures["arms"]) == set(study_gan.arms())
    for name, arm in study_gan.arms().items():
        assert figures["arms"][name]["settings"] == asdict(arm)
        assert len(study_gan.values(figures, name, "recall")) == len(study_gan.SEEDS)


def test_the_committed_sheet_has_a_row_of_faces_or_ruins_for_every_arm_shown():
    drew = study_gan.shown()
    assert set(drew) <= set(study_gan.arms())
    assert {rows.shape for rows in drew.values()} == {(12, 32, 32, 3)}
