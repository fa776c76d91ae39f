"""What the small encoders promise."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from mmteach.encoders import (
    SoundDictionary,
    as_ink,
    augment_ink,
    coarse_log_probs,
    embed_pictures,
    picture_logits,
    shrink,
    train_picture_net,
)


def pictures(count=48):
    """White tiles with a red or a blue square at a place of its own."""
    rng = np.random.default_rng(0)
    images, labels = np.full((count, 64, 64, 3), 255, np.uint8), np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        x, y = rng.integers(8, 40, 2)
        image[y : y + 16, x : x + 16] = (255, 0, 0) if label else (0, 0, 255)
    return images, labels


def sounds(count=12):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    clips = [np.sin(np.arange(8000) * (0.1 + 0.3 * label)) + 0.1 * rng.normal(size=8000) for label in labels]
    return [clip.astype(np.float32) for clip in clips], labels


def test_shrinking_averages_squares_of_pixels():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    slow = images.reshape(3, 32, 2, 32, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    assert np.abs(shrink(images).cpu().numpy() - slow).max() <= 0.5
    assert shrink(images).dtype == torch.uint8


def test_shrinking_refuses_what_is_no_picture():
    with pytest.raises(ValueError, match="float64"):
        shrink(np.zeros((1, 64, 64, 3)))
    with pytest.raises(ValueError, match="multiple of 32"):
        shrink(np.zeros((1, 50, 50, 3), np.uint8))


def test_white_paper_has_no_ink_and_stays_white_when_moved():
    white = as_ink(torch.full((4, 3, 32, 32), 255, dtype=torch.uint8))
    assert white.abs().max() == 0
    assert augment_ink(white, torch.Generator().manual_seed(0)).abs().max() == 0


def test_augmented_pictures_differ_from_one_another_and_stay_in_range():
    ink = as_ink(shrink(pictures(1)[0])).expand(6, -1, -1, -1)
    changed = augment_ink(ink, torch.Generator().manual_seed(0))
    assert changed.shape == ink.shape and changed.min() >= 0 and changed.max() <= 1
    assert all(not torch.equal(changed[0], other) for other in changed[1:])


def test_a_picture_net_learns_and_the_same_seed_learns_the_same():
    images, labels = pictures()
    first, second = (train_picture_net(images, labels, steps=30, batch_size=16, width=8) for _ in range(2))
    assert (picture_logits(first, images).argmax(1) == labels).mean() > 0.9
    np.testing.assert_array_equal(picture_logits(first, images), picture_logits(second, images))
    assert embed_pictures(first, images).shape == (48, first.dim)


def test_a_picture_is_judged_alone_whatever_stands_beside_it():
    images, labels = pictures()
    net = train_picture_net(images, labels, steps=5, batch_size=16, width=8)
    np.testing.assert_allclose(picture_logits(net, images[7:8]), picture_logits(net, images)[7:8], atol=1e-3)


def test_a_view_of_pictures_with_a_negative_stride_is_read_like_its_copy():
    images, _ = pictures()
    assert torch.equal(shrink(images[:, :, ::-1]), shrink(images[:, :, ::-1].copy()))


def test_larger_classes_get_the_summed_probability_of_their_members():
    logits, coarse = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
    p = logits.softmax(1)
    slow = torch.stack([p[:, 0] + p[:, 2], p[:, 1] + p[:, 3]], 1)
    torch.testing.assert_close(coarse_log_probs(logits, coarse).exp(), slow)


def test_training_with_larger_classes_learns_them():
    images, labels = pictures()
    fine = labels * 2 + np.arange(len(labels)) // 2 % 2
    net = train_picture_net(images, fine, steps=40, batch_size=16, width=8, coarse=np.array([0, 0, 1, 1]))
    assert (picture_logits(net, images).argmax(1) // 2 == labels).mean() > 0.9


def test_a_dictionary_of_sounds_tells_high_from_low():
    clips, labels = sounds()
    codes = SoundDictionary(8).fit_transform(clips)
    assert codes.shape == (12, 8)
    assert LogisticRegression().fit(codes, labels).score(codes, labels) == 1


def test_a_dictionary_of_sounds_is_an_estimator():
    clips, _ = sounds()
    with pytest.raises(NotFittedError):
        SoundDictionary().transform(clips)
    fitted = clone(SoundDictionary(5)).fit(clips)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(clips), fitted.transform(clips))
    np.testing.assert_allclose(fitted.transform(clips[3:5]), fitted.transform(clips)[3:5])
    assert len(fitted.get_feature_names_out()) == 5


def test_a_missing_clip_is_nan_and_a_short_one_is_not():
    clips, _ = sounds()
    codes = SoundDictionary(5).fit([*clips, None]).transform([None, clips[0], clips[0][:600]])
    assert np.isnan(codes[0]).all()
    assert np.isfinite(codes[1:]).all()


def test_labels_of_another_number_are_refused():
    with pytest.raises(ValueError, match="48 pictures but 3 labels"):
        train_picture_net(pictures()[0], np.zeros(3, int), steps=1)
