"""The frozen judge reads what it says it reads, learned from real training pictures alone, and is shipped as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmteach import frozen_judge
from mmteach.data import TRAIN_STYLES, load_emoji
from mmteach.encoders import as_ink
from mmteach.feature_net import FeatureNet
from mmteach.weights import load_weights, pretrained_folder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def judge():
    return frozen_judge.load_pretrained()


@pytest.fixture(scope="module")
def held_out(dataset):
    return dataset.rows("train", TRAIN_STYLES, held_out=True)


def test_it_learns_from_no_row_that_is_kept_for_testing(dataset):
    used = dataset.items.iloc[frozen_judge.training_rows(dataset)]
    assert set(used["split"]) == {"train"}
    assert set(used["style"]) == set(TRAIN_STYLES)
    assert not used["held_out"].any()


def test_it_names_one_group_subgroup_and_style_for_every_picture(judge, dataset, held_out):
    said = judge.read(dataset.images[held_out[:20]])
    assert set(said) == {"group", "subgroup", "style"}
    assert all(each.shape == (20,) and each.dtype.kind == "U" for each in said.values())
    assert set(said["style"]) <= set(TRAIN_STYLES)
    assert set(said["subgroup"]) <= set(dataset.concepts["subgroup"])


def test_known_concepts_in_a_style_never_seen_are_mostly_read_right(judge, dataset, held_out):
    said, right = judge.read(dataset.images[held_out]), frozen_judge.truth(dataset, held_out)
    shares = {level: (said[level] == right[level]).mean() for level in right}
    # the card says 0.83, 0.74 and 0.60; half precision and other machines move it by a picture or two
    assert shares["group"] > 0.8
    assert shares["subgroup"] > 0.7
    assert shares["style"] > 0.55


def test_a_group_is_as_likely_as_its_subgroups_together(judge, dataset, held_out):
    logs = judge.log_probs(dataset.images[held_out[:8]])
    sums = np.zeros((8, len(judge.groups)))
    np.add.at(sums.T, np.array(judge.group_of), np.exp(logs["subgroup"]).T)
    np.testing.assert_allclose(np.exp(logs["group"]), sums, atol=1e-5)
    for each in logs.values():
        np.testing.assert_allclose(np.exp(each).sum(1), 1, atol=1e-5)


def test_a_picture_is_read_alike_alone_and_in_company(judge, dataset, held_out):
    few = dataset.images[held_out[:9]]
    np.testing.assert_allclose(
        judge.log_probs(few)["style"][:1], judge.log_probs(few[:1])["style"], atol=1e-4
    )


def test_pictures_of_another_kind_are_refused(judge):
    with pytest.raises(ValueError, match="uint8 pictures"):
        judge.read(np.zeros((2, 40, 40, 3), np.uint8))


def test_it_is_not_the_network_that_measures_distances(judge):
    mine = {tuple(each.shape) for each in judge.net.state_dict().values()}
    measuring = FeatureNet(95, 7)
    assert mine != {tuple(each.shape) for each in measuring.state_dict().values()}


def test_nothing_in_it_can_be_trained_by_accident(judge):
    assert not judge.net.training
    assert not any(each.requires_grad for each in judge.net.parameters())


def test_spoiling_keeps_pictures_pictures_and_leaves_the_given_ones_alone(dataset, held_out):
    torch.manual_seed(0)
    ink = as_ink(torch.from_numpy(dataset.images[held_out[:6], ::2, ::2].copy()).permute(0, 3, 1, 2))
    before = ink.clone()
    spoilt = frozen_judge.spoil(ink)
    assert torch.equal(ink, before)
    assert spoilt.shape == ink.shape
    assert float(spoilt.min()) >= 0
    assert float(spoilt.max()) <= 1
    assert not torch.equal(spoilt, ink)


def test_a_short_training_lowers_the_loss_of_what_it_sees(dataset):
    rows = frozen_judge.training_rows(dataset)[:64]
    labels = frozen_judge._labels(dataset, rows, frozen_judge._names(dataset))
    net = frozen_judge.train_judge(dataset.images[rows], labels, steps=3, seed=0)
    assert isinstance(net, frozen_judge.JudgeNet)
    assert not net.training


def test_weights_of_another_name_are_refused(monkeypatch):
    monkeypatch.setattr(frozen_judge, "NAME", "another")
    with pytest.raises(ValueError, match="emoji-judge-1"):
        frozen_judge.load_pretrained()


def test_the_file_stays_small_and_its_card_says_what_it_may_not_be_used_for():
    folder = pretrained_folder()
    assert (folder / "judge.safetensors").stat().st_size < 0.7 * 2**20
    assert "never used to choose samples" in (folder / "judge.md").read_text("utf-8")
    config, _ = load_weights("judge")
    assert set(config["facts"]["metrics"]) >= {
        "held-out pairs",
        "held-out pairs, back from their codes",
        "test",
    }
