"""The toy GANs: the field of the one-parameter game against closed forms, and the ring with its count of modes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmteach import gan, toy_gan

BARE = gan.nonsaturating_loss, gan.nonsaturating_g_loss


# One parameter


def test_the_bump_has_its_mean_and_width():
    x = toy_gan.bump(2000)
    assert float(x.mean()) == pytest.approx(0, abs=1e-9)
    assert float(x.std()) == pytest.approx(toy_gan.WIDTH, rel=0.01)


def test_nothing_pushes_where_the_bumps_coincide_and_the_judge_is_flat():
    assert toy_gan.push(0.0, 0.0, *BARE) == pytest.approx((0, 0), abs=1e-12)


def test_the_push_agrees_with_a_finite_difference():
    theta, psi, step = 0.7, -0.4, 1e-5
    real, fake = toy_gan.bump(), toy_gan.bump() + theta

    def losses(theta, psi):
        fake = toy_gan.bump() + theta
        return [float(loss(psi * real, psi * fake)) for loss in BARE]

    to_theta, to_psi = toy_gan.push(theta, psi, *BARE)
    assert to_theta == pytest.approx(
        -(losses(theta + step, psi)[1] - losses(theta - step, psi)[1]) / 2e-5, rel=1e-5
    )
    assert to_psi == pytest.approx(
        -(losses(theta, psi + step)[0] - losses(theta, psi - step)[0]) / 2e-5, rel=1e-5
    )
    assert toy_gan.push(theta, psi, *BARE, penalty=0.5)[1] == pytest.approx(to_psi - 0.5 * psi)
    assert len(fake) == len(real)


def test_the_penalty_makes_a_circling_game_settle():
    far = [
        np.abs(toy_gan.play_bump((1.5, 0.0), *BARE, penalty=p, steps=200)[-50:, 0]).max() for p in (0.0, 0.5)
    ]
    assert far[1] < 0.1 < far[0]


def test_the_field_is_the_push_at_every_place_of_the_grid():
    thetas, psis = np.array([-1.0, 0.5, 1.0]), np.array([0.2, 0.4])
    to_theta, to_psi = toy_gan.field(thetas, psis, *BARE)
    assert to_theta.shape == (2, 3)
    assert (to_theta[1, 2], to_psi[1, 2]) == pytest.approx(toy_gan.push(1.0, 0.4, *BARE))


def test_the_best_logit_is_the_log_ratio_of_the_densities():
    x = torch.linspace(-1, 2, 5, dtype=torch.float64)
    p, q = (torch.distributions.Normal(each, toy_gan.WIDTH).log_prob(x) for each in (0.0, 0.8))
    torch.testing.assert_close(toy_gan.best_logit(x, 0.8), p - q)


def test_the_best_judge_scores_what_the_divergence_says():
    theta = 0.5
    real, fake = toy_gan.bump(2000), toy_gan.bump(2000) + theta
    score = gan.nonsaturating_loss(toy_gan.best_logit(real, theta), toy_gan.best_logit(fake, theta))
    assert float(score) == pytest.approx(2 * np.log(2) - 2 * toy_gan.jensen_shannon(theta), rel=1e-9)


@pytest.mark.parametrize(("theta", "value"), [(0.0, 0.0), (5.0, np.log(2))])
def test_the_divergence_runs_from_zero_to_log_2(theta, value):
    assert toy_gan.jensen_shannon(theta) == pytest.approx(value, abs=1e-6)


def test_far_away_the_saturating_loss_is_flat_and_the_other_steep():
    lost, kept = (
        toy_gan.generator_slope(3.0, g) for g in (toy_gan.saturating_g_loss, gan.nonsaturating_g_loss)
    )
    assert 0 <= lost < 1e-3
    assert kept > 10


def test_the_saturating_loss_is_the_log_of_one_minus_d():
    fake = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(toy_gan.saturating_g_loss(fake, fake), torch.log(1 - fake.sigmoid()).mean())


# The ring


def test_points_of_the_mixture_cover_it():
    points = toy_gan.ring(2000, torch.Generator().manual_seed(0)).numpy()
    modes, good = toy_gan.coverage(points)
    assert modes == 8
    assert good == pytest.approx(1 - np.exp(-4.5), abs=0.01), "three standard deviations in the plane"


def test_coverage_counts_bumps_that_hold_their_share():
    middle = toy_gan.centres().numpy()
    assert toy_gan.coverage(np.repeat(middle[:3], 10, axis=0)) == (3, 1.0)
    assert toy_gan.coverage(np.concatenate([np.repeat(middle[:1], 99, axis=0), middle[1:2]]))[0] == 1
    assert toy_gan.coverage(np.zeros((10, 2))) == (0, 0.0)


def test_a_run_is_recorded_from_start_to_end_and_repeats_with_its_seed():
    a, b = (
        toy_gan.play_ring(*gan.GAMES["hinge"], steps=6, shots=3, drawn=9, width=8, seed=1) for _ in range(2)
    )
    assert a.steps.tolist() == [0, 3, 6]
    assert a.points.shape == (3, 9, 2)
    assert a.logits.shape == (3, toy_gan.GRID, toy_gan.GRID)
    np.testing.assert_array_equal(a.points, b.points)
    assert not np.array_equal(a.points[0], a.points[2])


def test_the_readers_functions_are_used():
    called = []

    def d_loss(real, fake):
        called.append("d")
        return F.softplus(fake - real).mean()

    def g_loss(real, fake):
        called.append("g")
        return F.softplus(real - fake).mean()

    def slope(logits, x):
        called.append("slope")
        return gan.gradient_penalty(logits, x)

    toy_gan.play_ring(d_loss, g_loss, r1=1.0, steps=0, shots=1, width=8, slope=slope)
    assert called == ["d", "slope", "slope", "g"]


def test_the_logits_are_laid_out_as_the_plane_is():
    run = toy_gan.play_ring(*gan.GAMES["hinge"], steps=1, shots=1, width=8)
    line = torch.linspace(-toy_gan.REACH, toy_gan.REACH, toy_gan.GRID)
    torch.manual_seed(0)
    _, d = toy_gan._net(2, 8), toy_gan._net(1, 8)
    with torch.no_grad():
        assert run.logits[0][3, 20] == pytest.approx(
            float(d(torch.stack([line[20], line[3]])[None])), rel=1e-5
        )
