"""Shipped weights: what is written can be read, what is damaged is named, and a recipe is repeatable."""

from __future__ import annotations

import inspect
import re
import time

import numpy as np
import pytest
import torch
from torch import nn

from mmteach import feature_net, pretrain, weights
from mmteach.data import TRAIN_STYLES, DataError, load_emoji
from mmteach.weights import Trained, load_weights, save_weights, write_sums


class Small(nn.Module):
    """Floats, whole numbers and a flag: all that a state may hold."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, 3, generator=generator))
        self.register_buffer("count", torch.tensor([3, 70_000]))
        self.register_buffer("started", torch.tensor(True))


@pytest.fixture
def folder(tmp_path):
    """A folder of shipped weights with one model in it."""
    save_weights(tmp_path / "small.safetensors", Small(), {"model": {"width": 3}, "name": "small-1"})
    write_sums(tmp_path, ["small.safetensors"])
    return tmp_path


def recipe(*, steps=None, seed=0, checkpoint=None):
    """A recipe that takes no time and draws a sheet."""
    facts = {
        "title": "A small one", "about": "For a test.", "recipe": {"steps": steps}, "seed": seed,
        "metrics": {"val": {"group": 0.5, "style": 0.25}, "train": {"group": 1 / 3}},
    }  # fmt: skip
    return Trained(Small(seed), {"model": {}}, facts, np.zeros((8, 8, 3), np.uint8))


# Reading and writing


def test_floats_come_back_as_half_precision_holds_them_and_the_rest_unchanged(folder):
    config, state = load_weights("small", folder)
    assert config == {"model": {"width": 3}, "name": "small-1"}
    assert state["weight"].dtype == torch.float32
    assert torch.equal(state["weight"], Small().weight.detach().half().float())
    assert state["count"].tolist() == [3, 70_000] and state["count"].dtype == torch.int64
    assert state["started"].item() is True


def test_a_second_round_trip_changes_nothing(folder):
    once = Small()
    once.load_state_dict(load_weights("small", folder)[1])
    save_weights(folder / "small.safetensors", once, {})
    write_sums(folder, ["small.safetensors"])
    again = load_weights("small", folder)[1]
    assert all(torch.equal(again[name], each) for name, each in once.state_dict().items())


def test_eight_bits_halve_the_file_and_keep_each_number_to_a_254th_of_its_rows_largest(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 300), nn.BatchNorm1d(300), nn.Embedding(50, 64))
    model[2].weight.data[3] = 0  # a row of zeros has no largest number
    for name, bits in (("whole", False), ("eight", True)):
        save_weights(tmp_path / f"{name}.safetensors", model, {}, eight_bits=bits)
    write_sums(tmp_path, ["whole.safetensors", "eight.safetensors"])
    state, (_, found) = model.state_dict(), load_weights("eight", tmp_path)
    assert set(found) == set(state)
    for name in ("0.weight", "2.weight"):
        largest = state[name].abs().amax(1, keepdim=True)
        assert ((found[name] - state[name]).abs() <= largest / 254 * 1.01 + 1e-3 * largest).all(), (
            "half a step, and half precision's own"
        )
    assert (
        torch.equal(found["1.running_var"], state["1.running_var"])
        and found["1.num_batches_tracked"].dtype == torch.int64
    )
    assert (tmp_path / "eight.safetensors").stat().st_size < 0.65 * (
        tmp_path / "whole.safetensors"
    ).stat().st_size


def test_a_value_too_large_for_half_precision_is_refused_by_name(tmp_path):
    model = Small()
    model.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="weight holds values that are not finite in half precision"):
        save_weights(tmp_path / "small.safetensors", model, {})
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named_with_the_way_to_mend_it(folder):
    (folder / "small.safetensors").unlink()
    with pytest.raises(DataError, match=r"small\.safetensors cannot be read.*git checkout.*pretrain small"):
        load_weights("small", folder)


@pytest.mark.parametrize("cut", [0, 7, 200])
def test_a_truncated_file_is_named_with_its_size(folder, cut):
    path = folder / "small.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=rf"small\.safetensors is damaged or incomplete \({cut} bytes"):
        load_weights("small", folder)


def test_one_flipped_bit_is_noticed(folder):
    path = folder / "small.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load_weights("small", folder)


def test_a_file_of_another_kind_is_refused_and_nothing_is_unpickled(folder):
    torch.save({"weight": torch.ones(2)}, folder / "small.safetensors")
    write_sums(folder, ["small.safetensors"])  # even when the checksum agrees
    with pytest.raises(DataError, match="holds no weights of this course"):
        load_weights("small", folder)


def test_a_name_that_is_not_shipped_is_answered_with_those_that_are(folder):
    with pytest.raises(DataError, match=r"does not list large\.safetensors; it lists small\.safetensors"):
        load_weights("large", folder)


@pytest.mark.parametrize("content", ["", "no checksums\n", None])
def test_damaged_or_missing_checksums_are_named(folder, content):
    if content is None:
        (folder / "SHA256SUMS").unlink()
    else:
        (folder / "SHA256SUMS").write_text(content)
    with pytest.raises(DataError, match=r"SHA256SUMS (is damaged|cannot be read)"):
        load_weights("small", folder)


def test_the_folder_is_that_of_mmteach_data(folder, monkeypatch):
    folder.rename(folder.parent / "pretrained")
    monkeypatch.setenv("MMTEACH_DATA", str(folder.parent))
    assert load_weights("small")[0]["name"] == "small-1"


def test_a_checksum_noted_again_replaces_the_old_one_and_keeps_the_others(folder):
    (folder / "other.md").write_text("one")
    write_sums(folder, ["other.md"])
    before = weights.read_sums(folder)
    (folder / "other.md").write_text("two")
    write_sums(folder, ["other.md"])
    after = weights.read_sums(folder)
    assert before["small.safetensors"] == after["small.safetensors"]
    assert before["other.md"] != after["other.md"]


# Pretraining


def test_a_recipe_becomes_weights_card_sheet_and_checksums(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrain.run("small", tmp_path, steps=3, seed=4, train=recipe)
    assert set(weights.read_sums(tmp_path)) == {"small.safetensors", "small.md", "small.webp"}
    card = (tmp_path / "small.md").read_text("utf-8")
    for part in (
        "# A small one",
        "- steps: 3",
        "- seed: 4",
        "| val | 0.500 | 0.250 |",
        "| train | 0.333 |  |",
    ):
        assert part in card
    for part in ("pretrain small", pretrain.data_checksum(), "minutes", "CC BY 4.0", "](small.webp)"):
        assert part in card
    assert pretrain.check("small", tmp_path) == []


def test_a_card_that_was_changed_by_hand_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrain.run("small", tmp_path, train=recipe)
    card = tmp_path / "small.md"
    card.write_text(card.read_text("utf-8").replace("0.500", "0.900"), "utf-8")
    assert "damaged" in pretrain.check("small", tmp_path)[0]
    write_sums(tmp_path, ["small.md"])
    assert pretrain.check("small", tmp_path) == [
        f"{tmp_path / 'small'}.md does not say what the weights carry"
    ]


def test_weights_of_other_data_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrain.run("small", tmp_path, train=recipe)
    monkeypatch.setattr(pretrain, "data_checksum", lambda: "another")
    assert pretrain.check("small", tmp_path) == ["small was trained on another version of the data"]


def test_a_killed_pretraining_is_resumed_once_and_its_card_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = []

    def remembers(*, steps=None, seed=0, checkpoint=None):
        given.append(checkpoint)
        return recipe(steps=steps, seed=seed)

    left = pretrain.CHECKPOINTS / "small-3-0.safetensors"
    left.parent.mkdir(parents=True)
    last, other = left.with_stem("small-3-0-last"), left.with_stem("small-3-01")
    for each in (left, last, other):
        each.write_bytes(b"what a killed run left")
    pretrain.run("small", tmp_path, steps=3, train=remembers)
    assert given == [left] and not left.exists() and not last.exists()
    assert other.exists()
    assert "the last part of a resumed run" in (tmp_path / "small.md").read_text("utf-8")
    pretrain.run("small", tmp_path, steps=3, train=remembers)
    assert "resumed" not in (tmp_path / "small.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("busy", "says"),
    [(30, "1.0 minutes, 0.5 of them the processor's"), (90, "1.0 minutes, 1.5 of processor time")],
)
def test_the_card_tells_the_time_of_one_core_and_of_two(tmp_path, busy, says):
    pretrain.run("small", tmp_path, steps=3, train=recipe)
    config = load_weights("small", tmp_path)[0]
    config["made"].update(seconds=60, busy=busy)
    assert f"- time: {says}\n" in pretrain.card("small", config, False)


def test_the_command_writes_and_checks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain, "recipe", lambda name: recipe)
    assert pretrain.main(["gan", "--out", str(tmp_path), "--steps", "1"]) == 0
    assert "gan.safetensors" in capsys.readouterr().out
    assert pretrain.main(["gan", "--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "gan.webp").write_bytes(b"")
    assert pretrain.main(["gan", "--out", str(tmp_path), "--check"]) == 1
    assert "gan.webp is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("name", pretrain.RECIPES)
def test_every_shipped_model_has_a_recipe(name):
    assert set(inspect.signature(pretrain.recipe(name)).parameters) == {"steps", "seed", "checkpoint"}


def test_fewer_steps_never_replace_the_shipped_weights(capsys):
    with pytest.raises(SystemExit):
        pretrain.main(["features", "--steps", "2"])
    assert "--out" in capsys.readouterr().err


# The feature network


@pytest.fixture(scope="module")
def pictures():
    """A few pictures of the data set, 64x64."""
    dataset = load_emoji()
    return dataset.images[dataset.rows("val", "noto")[:12]]


def little(images):
    labels = {"subgroup": np.arange(len(images)) % 4, "group": np.arange(len(images)) % 2}
    return labels | {"style": np.arange(len(images)) % 3}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(pictures):
    def train(seed):
        return feature_net.train_feature_net(pictures, little(pictures), steps=2, seed=seed).state_dict()

    one, same, other = train(0), train(0), train(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["style.weight"], other["style.weight"])


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(pictures, tmp_path, monkeypatch):
    def train(path):
        return feature_net.train_feature_net(
            pictures, little(pictures), steps=102, checkpoint=path
        ).state_dict()

    monkeypatch.setattr(feature_net, "BATCH", 4)
    whole, losses = train(None), feature_net._losses

    calls = iter(range(200))

    def killed(*args):
        if next(calls) == 101:  # after the checkpoint of step 100
            raise KeyboardInterrupt
        return losses(*args)

    monkeypatch.setattr(feature_net, "_losses", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run.safetensors")
    monkeypatch.setattr(feature_net, "_losses", losses)
    resumed = train(tmp_path / "run.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_recipe_sees_training_pictures_alone(monkeypatch):
    dataset = load_emoji()
    seen = {}

    def spy(images, labels, **settings):
        seen.update(images=images, labels=labels)
        net = feature_net.FeatureNet(95, 7)
        return net.eval()

    monkeypatch.setattr(feature_net, "train_feature_net", spy)
    monkeypatch.setattr(feature_net, "readings", lambda *rest: {})
    monkeypatch.setattr(feature_net, "noticed", lambda *rest: {})
    feature_net.pretrain(steps=1)
    items = dataset.items
    wanted = (items["split"] == "train") & items["style"].isin(TRAIN_STYLES) & ~items["held_out"]
    assert "openmoji" not in set(items["style"][wanted])
    assert np.array_equal(seen["images"], dataset.images[wanted.to_numpy()])
    assert seen["labels"]["style"].min() == 0 and seen["labels"]["style"].max() == 6


def test_features_are_one_row_a_picture_and_always_the_same(pictures):
    features = feature_net.picture_features(pictures)
    assert features.shape == (12, 64) and features.dtype == np.float32
    assert np.array_equal(features, feature_net.picture_features(pictures))
    # Another batch size takes other sums in another order: float32 allows for a few units in the sixth place.
    np.testing.assert_allclose(feature_net.picture_features(pictures, batch_size=5), features, atol=1e-4)


def test_a_picture_at_64_has_the_features_of_the_same_picture_at_32(pictures):
    small = feature_net.at_32(pictures)
    assert small.shape == (12, 32, 32, 3)
    np.testing.assert_allclose(
        feature_net.picture_features(pictures), feature_net.picture_features(small), atol=1e-5
    )


@pytest.mark.parametrize("size", [28, 32, 64])
def test_grey_pictures_count_as_coloured_ones_with_three_equal_channels(size):
    grey = np.random.default_rng(0).integers(0, 256, (3, size, size, 1), dtype=np.uint8)
    np.testing.assert_allclose(
        feature_net.picture_features(grey), feature_net.picture_features(grey.repeat(3, axis=3)), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 48, 48, 3), (2, 32, 32, 4), (0, 32, 32, 3), (32, 32, 3)])
def test_other_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="need uint8 pictures"):
        feature_net.picture_features(np.zeros(shape, np.uint8))


def test_features_keep_colour(pictures):
    turned = np.ascontiguousarray(pictures[..., ::-1])  # red for blue
    features = feature_net.picture_features(pictures)
    moved = np.linalg.norm(feature_net.picture_features(turned) - features, axis=1)
    # Each of the 64 numbers has variance 1 over the pictures, so two of these are about 11 apart.
    assert np.median(moved) > 2


# What is shipped


def test_the_shipped_features_are_those_of_the_card_and_load_at_once():
    folder = weights.pretrained_folder()
    assert pretrain.check("features", folder) == []
    began = time.process_time()
    config, _ = load_weights("features")
    assert time.process_time() - began < 1
    assert config["name"] == feature_net.NAME


def test_another_network_is_not_taken_for_ours(monkeypatch):
    monkeypatch.setattr(feature_net, "NAME", "emoji-features-2")
    with pytest.raises(ValueError, match="'emoji-features-1', and this code knows 'emoji-features-2'"):
        feature_net.load_pretrained()


def test_everything_shipped_is_listed_and_no_more_than_12_mb():
    folder = weights.pretrained_folder()
    files = {path.name for path in folder.iterdir()} - {weights.SUMS}
    assert files == set(weights.read_sums(folder))
    for name in files:
        weights.verified(folder / name)
    assert sum((folder / name).stat().st_size for name in files if re.search("safetensors$", name)) <= 12e6
