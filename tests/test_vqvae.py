"""The VQ-VAE: round trips, gradients, training on every kind of picture, resuming; its PCA rival, study and recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmteach import study_vqvae, vqvae
from mmteach.codebook import FSQ, Codebook
from mmteach.pca_codec import MOST_BITS, best_levels, fit_pca_codes, quantise
from mmteach.train import to_float, to_pictures
from mmteach.vqvae import VQVAE, codebook_usage, decibels, psnr, reconstruct, train_vqvae

torch.set_num_threads(1)
SMALL = {"width": 8, "blocks": 1, "num_codes": 16, "dim": 4}


def pictures(count: int = 40, size: int = 28, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return uint8 pictures of two colours with a straight border."""
    rng = np.random.default_rng(seed)
    light = np.arange(size)[:, None, None] < rng.integers(size, size=(count, 1, 1, 1))
    return (
        np.where(light, *rng.integers(0, 256, (2, count, 1, 1, channels)))
        .repeat(size, axis=2)
        .astype(np.uint8)
    )


def trained(quantizer=None, *, steps=4, images=None, **settings) -> VQVAE:
    """Train a tiny network for a few steps."""
    images = pictures() if images is None else images
    settings = {"batch_size": 8, "seed": 0, **SMALL} | settings
    return train_vqvae(images, steps=steps, quantizer=quantizer, **settings)


def quantizers():
    return {"codebook": Codebook(16, 4), "FSQ": FSQ((4, 4, 3))}


# Round trips


@pytest.mark.parametrize("kind", ["codebook", "FSQ"])
def test_drawing_the_codes_of_a_picture_is_exactly_the_forward_pass(kind):
    model = trained(quantizers()[kind])
    x = to_float(torch.from_numpy(pictures(5, seed=1)))
    codes = model.encode(x)
    assert codes.dtype == torch.int64
    assert codes.shape == (5, 7, 7)
    drawn = model.decode_tokens(codes)
    assert drawn.dtype == torch.float32
    assert drawn.abs().max() <= 1
    assert torch.equal(drawn, model(x).x_hat)
    assert torch.equal(codes, model(x).codes.indices)


def test_codes_and_pictures_of_a_trained_model_are_the_same_every_time():
    model, x = trained(), to_float(torch.from_numpy(pictures(5, seed=1)))
    torch.manual_seed(1)
    first = model.encode(x), model.decode_tokens(model.encode(x))
    torch.manual_seed(2)
    assert torch.equal(first[0], model.encode(x))
    assert torch.equal(first[1], model.decode_tokens(model.encode(x)))


def test_encoding_learns_nothing_even_in_training_mode():
    model = trained().train()
    before = {name: each.clone() for name, each in model.named_buffers()}
    model.encode(torch.rand(2, 3, 28, 28) * 2 - 1)
    assert all(torch.equal(before[name], each) for name, each in model.named_buffers())


# Gradients and losses


def test_the_encoder_gets_the_gradient_that_the_decoder_hands_down():
    model, x = trained(), to_float(torch.from_numpy(pictures(4)))
    z_e = model.encoder(x).detach().requires_grad_()
    F.mse_loss(model.decoder(model.quantizer(z_e).z_q), x).backward()
    z_q = model.quantizer.lookup(model.encode(x)).requires_grad_()
    F.mse_loss(model.decoder(z_q), x).backward()
    torch.testing.assert_close(z_e.grad, z_q.grad)


def test_every_parameter_is_trained_and_no_codebook_entry_is_a_parameter():
    model, x = trained().train(), to_float(torch.from_numpy(pictures(8)))
    out = model(x)
    (F.mse_loss(out.x_hat, x) + out.codes.commitment_loss).backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in model.parameters())
    assert not list(model.quantizer.parameters())


def test_repeating_the_batch_leaves_every_loss_unchanged():
    model, x = trained(), to_float(torch.from_numpy(pictures(6)))

    def losses(x: torch.Tensor) -> torch.Tensor:
        out = model(x)
        return torch.stack([F.mse_loss(out.x_hat, x), out.codes.commitment_loss, out.codes.perplexity])

    torch.testing.assert_close(losses(x), losses(torch.cat([x, x, x])))


# Figures over a corpus


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_codebook_usage_is_what_a_slow_count_gives_whatever_the_batch(batch_size):
    model, images = trained(), pictures(20, seed=3)
    counts: dict[int, int] = {}
    for picture in images:
        for code in model.encode(to_float(torch.from_numpy(picture[None]))).flatten().tolist():
            counts[code] = counts.get(code, 0) + 1
    found = codebook_usage(model, images, batch_size=batch_size)
    shares = np.array(list(counts.values())) / sum(counts.values())
    assert {k: int(n) for k, n in enumerate(found.histogram) if n} == counts
    assert found.active_codes == len(counts)
    assert found.perplexity == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_decibels_are_ten_for_every_tenth_of_the_squared_error():
    white = np.full((2, 4, 4, 3), 255, np.uint8)
    np.testing.assert_allclose(decibels(white, np.zeros_like(white)), 0)
    np.testing.assert_allclose(decibels(white, white - 51), 20 * np.log10(5))
    assert np.isfinite(decibels(white, white)).all()


def test_psnr_is_that_of_the_pictures_as_they_would_be_shown():
    model, images = trained(), pictures(9, seed=4)
    shown = np.concatenate(
        [to_pictures(model(to_float(torch.from_numpy(each[None]))).x_hat) for each in images]
    )
    np.testing.assert_array_equal(reconstruct(model, images, batch_size=4), shown)
    np.testing.assert_allclose(psnr(model, images), decibels(images, shown))


# Training


@pytest.mark.parametrize(("size", "places"), [(28, 7), (32, 8), (64, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_usual_size_in_grey_or_colour_can_be_trained_on(size, places, channels):
    images = pictures(16, size, channels)
    model = trained(steps=2, images=images)
    codes = model.encode(to_float(torch.from_numpy(images[:3])))
    assert codes.shape == (3, places, places)
    assert model.decode_tokens(codes).shape == (3, channels, size, size)
    assert not model.training


def test_training_lowers_the_error_and_notes_how():
    model = trained(steps=60, images=pictures(64), every=20, lr=5e-3)
    assert [each["step"] for each in model.history] == [20, 40, 60]
    assert model.history[-1]["mse"] < 0.8 * model.history[0]["mse"]
    assert psnr(model, pictures(64)).mean() > psnr(trained(steps=1), pictures(64)).mean() + 1


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 32, 32, 3), np.float32), np.zeros((4, 30, 30, 3), np.uint8), np.zeros((4, 32, 32), np.uint8),
     np.zeros((4, 32, 32, 4), np.uint8), np.zeros((0, 32, 32, 3), np.uint8)],
)  # fmt: skip
def test_pictures_of_another_kind_are_refused_by_name(bad):
    with pytest.raises(ValueError, match="need uint8 pictures"):
        trained(images=bad)


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    one, same, other = trained(flips=True), trained(flips=True), trained(flips=True, seed=1)
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True)
    )
    assert not torch.equal(one.quantizer.codes, other.quantizer.codes)


def test_training_leaves_the_pictures_as_they_were():
    images = pictures()
    before = images.copy()
    trained(images=images, flips=True)
    np.testing.assert_array_equal(images, before)


def test_a_killed_run_goes_on_to_the_same_weights_as_an_unbroken_one(tmp_path: Path):
    class Killed(Exception):
        pass

    def kill(step: int, _: dict) -> None:
        if step == 6:
            raise Killed

    unbroken = trained(steps=8, flips=True, every=2)
    path = tmp_path / "vqvae.safetensors"
    with pytest.raises(Killed):
        trained(steps=8, flips=True, every=2, checkpoint=path, progress=kill)
    resumed = trained(steps=8, flips=True, every=2, checkpoint=path)
    for name, each in unbroken.state_dict().items():
        assert torch.equal(each, resumed.state_dict()[name]), name
    assert [each["step"] for each in resumed.history] == [2, 4, 6, 8]


# PCA with rounded coefficients


def test_levels_are_no_worse_than_equal_steps_and_exact_for_few_values():
    values = np.random.default_rng(0).laplace(size=4000)
    for count in (2, 4, 8):
        lloyd = best_levels(values, count, rounds=50)
        even = np.linspace(-2, 2, count)
        error = [np.square(values - each[quantise(values, each)]).mean() for each in (lloyd, even)]
        assert error[0] <= error[1]
    np.testing.assert_allclose(best_levels(np.repeat([0.0, 1.0, 5.0, 9.0], 10), 4), [0, 1, 5, 9])


def test_quantise_finds_the_nearest_level():
    values, levels = np.random.default_rng(0).normal(size=100), np.array([-1.0, -0.2, 0.4, 2.0])
    slow = [min(range(4), key=lambda k, value=value: abs(value - levels[k])) for value in values]
    np.testing.assert_array_equal(quantise(values, levels), slow)


def test_pca_spends_exactly_the_bits_it_is_given_and_more_bits_draw_better():
    images = pictures(60, seed=5)
    codes = fit_pca_codes(images, [8, 16, 40], components=12)
    assert [code.bits for code in codes.values()] == [8, 16, 40]
    errors = [np.square(images - code.reconstruct(images).astype(float)).mean() for code in codes.values()]
    assert errors[0] > errors[1] > errors[2]
    assert all(len(each) <= 2**MOST_BITS for code in codes.values() for each in code.levels)


def test_greedy_bits_are_as_good_as_the_best_way_to_deal_them_out_between_two_components():
    rng = np.random.default_rng(0)
    images = np.zeros((400, 4, 4, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 1, 1, 0] = rng.integers(0, 256, 400), rng.integers(100, 160, 400)
    ((bits, code),) = fit_pca_codes(images, [5], components=2).items()
    greedy = np.square(images - code.reconstruct(images).astype(float)).sum((1, 2, 3)).mean()
    columns = [images[:, 0, 0, 0].astype(float), images[:, 1, 1, 0].astype(float)]

    def error(values: np.ndarray, count: int) -> float:
        levels = best_levels(values, 2**count, rounds=50)
        return float(np.square(values - levels[quantise(values, levels)]).mean())

    best = min(error(columns[0], first) + error(columns[1], bits - first) for first in range(bits + 1))
    assert greedy < 1.1 * best  # whole grey levels, and components that lean a little


def test_more_bits_than_the_components_can_hold_is_an_error():
    with pytest.raises(ValueError, match="components take 16 bits, not 17"):
        fit_pca_codes(pictures(20), [17], components=2)


# The study


def test_the_naive_start_throws_unused_codes_far_away_and_keeps_few():
    torch.manual_seed(0)
    naive, book = study_vqvae.NaiveCodebook(64, 8), Codebook(64, 8)
    for _ in range(30):
        z_e = torch.randn(4, 8, 6, 6) + 3
        said, ours = naive(z_e), book(z_e)
    assert naive.codes.norm(dim=1).max() > 100 * z_e.norm(dim=1).max()
    assert said.perplexity < 0.3 * ours.perplexity


def test_the_arms_differ_in_the_quantizer_alone_and_say_their_bits():
    sizes = {name: make().num_codes for name, make in study_vqvae.ARMS.items()}
    assert sizes["FSQ 8x8x8"] == sizes["512 codes"] == sizes["512 codes, naive start"] == 512
    images = pictures(16, 32)
    model = study_vqvae.train_arm("32 codes", images, seed=0, steps=2, width=8, batch_size=4)
    assert model.encode(to_float(torch.from_numpy(images))).max() < 32


def test_the_summary_gives_intervals_for_every_arm_and_pairs_it_with_pca_at_equal_bits():
    rng = np.random.default_rng(0)

    def runs(level: float, codes: int) -> list[dict]:
        return [{"psnr": level + rng.normal(size=30), "histogram": np.ones(codes), "perplexity": 9.0, "curve": [[1, 2]],
                 "seconds": 1.0} for _ in range(2)]  # fmt: skip

    family = np.repeat(np.arange(10), 3)
    found = study_vqvae.summary(
        {"512 codes": runs(23, 512), "32 codes": runs(19, 32)}, {576: np.full(30, 22.0)}, family
    )
    assert found["arms"]["512 codes"]["bits"] == 576
    assert found["arms"]["32 codes"]["bits"] == 320
    assert found["above_pca"]["512 codes"].low > 0
    assert set(found["above_pca"]) == {"512 codes"}
    assert found["main_above"]["32 codes"].mean == pytest.approx(4, abs=1)


def test_a_finished_run_of_the_study_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Few:
        pass

    monkeypatch.setattr(study_vqvae, "load_emoji", Few)
    monkeypatch.setattr(study_vqvae, "emoji", lambda *_: (pictures(12, 32), np.arange(12)))
    recipe = study_vqvae.Recipe(steps=2, batch_size=4, width=8)
    path = study_vqvae.run_arm("32 codes", 0, recipe, tmp_path)
    monkeypatch.setattr(study_vqvae, "train_vqvae", None)
    assert study_vqvae.run_arm("32 codes", 0, recipe, tmp_path) == path


# The shipped weights


def test_the_recipe_trains_what_its_configuration_builds_again(monkeypatch: pytest.MonkeyPatch):
    from mmteach import vqvae_recipe

    monkeypatch.setattr(vqvae_recipe, "load_emoji", lambda: None)
    monkeypatch.setattr(vqvae_recipe, "emoji", lambda *_: (pictures(120, 32), np.arange(120)))
    made = vqvae_recipe.pretrain(steps=2)
    again = VQVAE(Codebook(**made.config["codebook"]), **made.config["model"])
    again.load_state_dict(made.model.state_dict())
    assert made.sheet.shape == (10 * 36, 10 * 68, 3)
    assert made.facts["metrics"]["test families"]["pictures"] == 120
    assert vqvae.train_vqvae is vqvae_recipe.train_vqvae
