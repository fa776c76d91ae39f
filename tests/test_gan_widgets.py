"""The widgets of notebook 04, as plain functions and without a browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmteach import gan, gan_widgets, plot, toy_gan


@pytest.fixture(scope="module")
def run() -> toy_gan.RingRun:
    return toy_gan.play_ring(*gan.GAMES["hinge"], steps=4, shots=3, width=8, drawn=20)


@pytest.fixture(scope="module")
def generator() -> gan.Generator:
    torch.manual_seed(0)
    return gan.Generator(size=28, channels=1, width=4, z_dim=16).eval()


@pytest.fixture(scope="module")
def discriminator() -> gan.Discriminator:
    torch.manual_seed(0)
    return gan.Discriminator(size=28, width=4).eval()


def noisy(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)


def test_a_look_at_the_ring_says_step_and_coverage(run):
    title = gan_widgets.draw_ring(run, 1, "hinge").axes[0].get_title(loc="left").replace("\n", " ")
    modes, good = toy_gan.coverage(run.points[1])
    assert title == f"hinge, step 2: {modes} of 8 covered, {good:.0%} good"


def test_the_strip_has_a_row_for_each_run_and_a_column_for_each_look(run):
    fig = gan_widgets.draw_ring_strip({"a": run, "b": run}, [0, 2], "two")
    assert len(fig.axes) == 4
    assert [ax.get_ylabel() for ax in fig.axes] == ["a", "", "b", ""]
    assert fig.axes[1].get_title().startswith("step 4: ")


def test_the_player_changes_its_picture_with_slider_and_choice(run):
    other = toy_gan.play_ring(*gan.GAMES["hinge"], steps=4, shots=3, width=8, drawn=20, seed=1)
    box = gan_widgets.ring_player({"a": run, "b": other})
    (name, shot), picture = box.children[0].children, box.children[1]
    seen = {picture.value}
    shot.value = 2
    seen.add(picture.value)
    name.value = "b"
    seen.add(picture.value)
    assert len(seen) == 3
    assert "mmteach-ring" in picture._dom_classes


def test_a_walk_begins_and_ends_at_its_seeds(generator):
    way = gan_widgets.walk(generator, (3, 4), (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(way[0], gan.sample(generator, 1, seed=3)[0])
    np.testing.assert_array_equal(way[2], gan.sample(generator, 1, seed=4)[0])
    assert not np.array_equal(way[0], way[1])


def test_halfway_noise_is_as_long_as_noise_is():
    a, b = gan.noise(2, 4096)
    lengths = [float(gan_widgets.between(a, b, share).norm()) for share in (0.0, 0.5, 1.0)]
    assert lengths == pytest.approx([64] * 3, rel=0.05)
    assert float(((a + b) / 2).norm()) < 50, "which a straight line is not"


def test_a_walk_from_a_place_to_itself_stays(generator):
    way = gan_widgets.walk(generator, (3, 3), (0.0, 0.5))
    np.testing.assert_array_equal(way[0], way[1])


def test_the_walk_of_a_class_needs_its_number():
    torch.manual_seed(0)
    net = gan.Generator(size=28, width=4, z_dim=16, num_classes=2).eval()
    a, b = (gan_widgets.walk(net, (0, 1), (0.3,), group=each) for each in (0, 1))
    assert not np.array_equal(a, b)


def test_the_walk_explorer_follows_every_control(generator):
    box = gan_widgets.walk_explorer(generator)
    (start, end), (share, psi), picture = box.children[0].children, box.children[1].children, box.children[-1]
    seen = {picture.value}
    for control, value in ((share, 0.1), (psi, 0.3), (start, 9), (end, 8)):
        control.value = value
        seen.add(picture.value)
    assert len(seen) == 5
    assert len(box.children) == 3, "no choice of class where there is none"


def test_a_conditional_generator_gets_a_choice_of_class():
    torch.manual_seed(0)
    net = gan.Generator(size=28, width=4, z_dim=16, num_classes=2).eval()
    box = gan_widgets.walk_explorer(net, ["cats", "cars"])
    picture, before = box.children[-1], box.children[-1].value
    box.children[2].value = 1
    assert picture.value != before


def test_the_view_is_the_slope_of_the_logit(discriminator):
    pictures = noisy(2)
    logits, heat = gan_widgets.view(discriminator, pictures)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(torch.from_numpy(logits), discriminator(x).detach())
    assert heat.shape == (2, 28, 28)
    place = np.unravel_index(heat[0].argmax(), (28, 28))
    step = torch.zeros_like(x[:1], requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator(x[:1] + step)[0], step)
    assert heat[0][place] == pytest.approx(float(slope[0, :, place[0], place[1]].norm()), rel=1e-4)


def test_the_view_is_drawn_with_a_logit_for_each_picture(discriminator):
    fig = gan_widgets.draw_view(discriminator, noisy(3), ["real", "real", "fake"], title="what it sees")
    logits, _ = gan_widgets.view(discriminator, noisy(3))
    assert [ax.get_title() for ax in fig.axes[3:]] == [f"logit {each:+.1f}" for each in logits]
    assert plot.png(fig)


def test_looking_leaves_no_gradient_behind(discriminator):
    gan_widgets.view(discriminator, noisy(2))
    assert all(each.grad is None for each in discriminator.parameters())


def test_the_judge_explorer_pages_and_switches(discriminator):
    box = gan_widgets.judge_explorer(
        discriminator, {"real": noisy(4), "fake": noisy(4)[::-1].copy()}, across=2
    )
    (kind, page), picture = box.children[0].children, box.children[1]
    seen = {picture.value}
    page.value = 1
    seen.add(picture.value)
    kind.value = "fake"
    seen.add(picture.value)
    assert len(seen) == 3
    assert page.max == 1
