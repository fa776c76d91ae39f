"""The shipped GAN: its recipe sees training pictures only, and its weights load and draw by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmteach import gan, gan_recipe
from mmteach.data import DataError, load_emoji

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shipped():
    return gan.load_pretrained()


def test_the_recipe_sees_only_training_pictures_that_are_not_held_out(monkeypatch):
    seen = {}

    class Enough(Exception):
        pass

    def spy(images, *, labels, **_):
        seen.update(images=images, labels=labels)
        raise Enough

    monkeypatch.setattr(gan_recipe, "train_gan", spy)
    with pytest.raises(Enough):
        gan_recipe.pretrain(steps=1)
    dataset = load_emoji()
    items = dataset.items
    wanted = items[(items["split"] == "train") & ~items["held_out"] & (items["style"] != "openmoji")]
    assert len(seen["images"]) == len(seen["labels"]) == len(wanted)
    assert np.array_equal(seen["images"], gan_recipe.small(dataset.images[wanted.index]))


def test_the_shipped_gan_names_its_eight_classes(shipped):
    assert shipped.classes == tuple(sorted(load_emoji().concepts["group"].unique()))
    assert not shipped.generator.training
    assert not any(each.requires_grad for each in shipped.generator.parameters())


def test_the_same_seed_draws_the_same_and_another_class_another_picture(shipped):
    ones = np.zeros(6, dtype=int)
    first = shipped.sample(6, labels=ones, seed=3)
    assert np.array_equal(first, shipped.sample(6, labels=ones, seed=3))
    assert first.shape == (6, 32, 32, 3)
    assert np.abs(first.astype(int) - shipped.sample(6, labels=ones + 4, seed=3)).mean() > 5


def test_the_pictures_of_one_class_are_not_all_alike(shipped):
    for label in range(8):
        drawn = shipped.sample(20, labels=np.full(20, label)).astype(float)
        assert drawn.std(axis=0).mean() > 10


def test_other_weights_are_asked_for_by_name():
    with pytest.raises(DataError, match="nobody"):
        gan.load_pretrained("nobody")
