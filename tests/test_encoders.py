"""What the small encoders promise."""

import numpy as np
import pytest
import torch

from mmteach.encoders import (
    as_ink,
    augment_ink,
    embed_pictures,
    embed_speech,
    mask_sound,
    picture_logits,
    shrink,
    sound_picture,
    speech_logits,
    train_picture_net,
    train_speech_net,
)


def pictures(count=48):
    """White tiles with a red or a blue square at a place of its own."""
    rng = np.random.default_rng(0)
    images, labels = np.full((count, 64, 64, 3), 255, np.uint8), np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        x, y = rng.integers(8, 40, 2)
        image[y : y + 16, x : x + 16] = (255, 0, 0) if label else (0, 0, 255)
    return images, labels


def sounds(count=48):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    clips = [np.sin(np.arange(8000) * (0.1 + 0.3 * label)) + 0.1 * rng.normal(size=8000) for label in labels]
    return np.stack([sound_picture(clip.astype(np.float32)) for clip in clips]), labels


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


def test_a_speech_net_learns_high_from_low():
    sound, labels = sounds()
    net = train_speech_net(sound, labels, steps=80, batch_size=16, width=16, lr=2e-3)
    assert (speech_logits(net, sound).argmax(1) == labels).mean() > 0.9
    assert embed_speech(net, sound).shape == (48, net.dim)


def test_clips_of_any_length_become_pictures_of_one_size():
    for length in (400, 16_000, 100_000):
        assert sound_picture(np.zeros(length, np.float32)).shape == (40, 128)
    assert sound_picture(np.zeros(16_000, np.float32)).max() == -1


def test_masking_only_silences():
    sound = torch.zeros(5, 40, 128)
    masked = mask_sound(sound, torch.Generator().manual_seed(0))
    assert set(masked.unique().tolist()) <= {0.0, -1.0}
    assert (masked == -1).any()


def test_labels_of_another_number_are_refused():
    with pytest.raises(ValueError, match="48 inputs but 3 labels"):
        train_picture_net(pictures()[0], np.zeros(3, int), steps=1)
