"""GANs: losses and penalties against closed forms, who gets which gradient, augmentation without leaks, training."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmteach import gan, toy_gan
from mmteach.train import ema_update

torch.set_num_threads(1)


def logits(count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float64 logits of real and fake pictures, on both sides of every margin."""
    generator = torch.Generator().manual_seed(0)
    return tuple(3 * torch.randn(2, count, generator=generator, dtype=torch.float64))


def pictures(count: int = 12, size: int = 28, channels: int = 3) -> np.ndarray:
    """Return uint8 pictures of noise."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def tiny(steps: int | None = 3, **settings) -> gan.TrainedGan:
    """Train a network of four channels for a few steps."""
    settings = {"images": pictures(), "batch_size": 4, "seed": 0, "width": 4, "z_dim": 16} | settings
    return gan.train_gan(settings.pop("images"), steps=steps, **settings)


def weights(net: nn.Module) -> torch.Tensor:
    """Return all weights of a network in one vector."""
    return torch.cat([each.detach().flatten() for each in net.parameters()])


# Losses


def test_the_nonsaturating_loss_is_binary_cross_entropy_with_the_right_targets():
    real, fake = logits()
    cross = F.binary_cross_entropy_with_logits
    right = cross(real, torch.ones_like(real)) + cross(fake, torch.zeros_like(fake))
    torch.testing.assert_close(gan.nonsaturating_loss(real, fake), right)
    torch.testing.assert_close(gan.nonsaturating_g_loss(real, fake), cross(fake, torch.ones_like(fake)))


def test_the_hinge_loss_is_what_a_loop_over_the_pictures_gives():
    real, fake = logits()
    each = [max(0.0, 1 - float(r)) + max(0.0, 1 + float(f)) for r, f in zip(real, fake, strict=True)]
    assert float(gan.hinge_loss(real, fake)) == pytest.approx(sum(each) / len(each), rel=1e-12)
    assert float(gan.hinge_g_loss(real, fake)) == pytest.approx(-float(fake.mean()), rel=1e-12)


def test_the_relativistic_loss_is_the_logistic_loss_of_each_pair():
    real, fake = logits()
    right = -torch.log(torch.sigmoid(real - fake)).mean()
    torch.testing.assert_close(gan.relativistic_loss(real, fake), right)
    torch.testing.assert_close(gan.relativistic_g_loss(real, fake), gan.relativistic_loss(fake, real))


def test_the_relativistic_loss_sees_differences_only():
    real, fake = logits()
    torch.testing.assert_close(
        gan.relativistic_loss(real + 5, fake + 5), gan.relativistic_loss(real, fake), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", gan.GAMES)
def test_the_slopes_of_every_loss_agree_with_finite_differences(name):
    real, fake = (each.requires_grad_() for each in logits())
    for loss in gan.GAMES[name]:
        assert torch.autograd.gradcheck(loss, (real, fake))


@pytest.mark.parametrize("name", gan.GAMES)
def test_the_loss_of_a_batch_said_twice_is_the_same(name):
    real, fake = logits()
    for loss in gan.GAMES[name]:
        torch.testing.assert_close(loss(real.repeat(2), fake.repeat(2)), loss(real, fake))


@pytest.mark.parametrize("name", ["nonsaturating", "relativistic"])
def test_losses_of_huge_logits_are_finite(name):
    real, fake = torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4])
    assert all(torch.isfinite(loss(real, fake)) for loss in gan.GAMES[name])


def test_where_the_discriminator_is_sure_the_saturating_loss_is_flat_and_the_other_is_not():
    fake = torch.tensor([-10.0], requires_grad=True)
    (kept,) = torch.autograd.grad(gan.nonsaturating_g_loss(fake, fake), fake)
    (lost,) = torch.autograd.grad(-F.softplus(fake).mean(), fake)  # log(1 - D)
    assert float(kept) == pytest.approx(-1, abs=1e-4)
    assert abs(float(lost)) < 1e-4


# The penalty on slopes


def test_the_penalty_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.randn(3 * 8 * 8, dtype=torch.float64)
    x = torch.randn(5, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gan.gradient_penalty(x.flatten(1) @ weight, x), weight.square().sum())


def test_the_penalty_is_what_a_loop_over_the_pictures_gives():
    net = gan.Discriminator(size=28, width=4).double()
    x = torch.randn(4, 3, 28, 28, dtype=torch.float64, requires_grad=True)
    each = [torch.autograd.grad(net(x[i : i + 1])[0], x)[0][i].square().sum() for i in range(4)]
    torch.testing.assert_close(gan.gradient_penalty(net(x), x), torch.stack(each).mean())


def test_the_penalty_can_be_descended():
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(gan.gradient_penalty(x @ weight, x), weight)
    torch.testing.assert_close(slope, 2 * weight)


def table(penalty: gan.Penalty | None = None, game: gan.Game = gan.GAMES["relativistic"], **changes):
    """Return two tiny players at the table."""
    torch.manual_seed(0)
    networks = gan.Generator(size=28, width=4, z_dim=16), gan.Discriminator(size=28, width=4)
    rest = {"augment": None, "slope": gan.gradient_penalty, "average": ema_update, "decay": 0.9, "lr": 1e-3}
    return gan.Table(networks, game, penalty, *(rest | changes).values(), (0.0, 0.99))


def batch(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1


def descended(monkeypatch) -> list[torch.Tensor]:
    """Collect the losses that are minimised."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(gan, "_descend", lambda loss, optimizer: seen.append(loss.detach()))
    return seen


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_lazy_penalty_weighs_as_much_on_average_as_one_at_every_step(monkeypatch, every):
    seen, nothing = descended(monkeypatch), gan.Game(lambda r, f: 0 * (r + f).sum(), lambda r, f: 0 * f.sum())
    players = table(gan.Penalty(3.0, 1.0, every), nothing, slope=lambda logits, x: logits.sum() * 0 + 1)
    for number in range(1, 9):
        players.discriminator_turn(batch(), None, number)
    assert float(torch.stack(seen).mean()) == pytest.approx((3 + 1) / 2)
    assert sum(float(each) > 0 for each in seen) == 8 / every


def test_r1_looks_at_the_real_pictures_and_r2_at_the_fakes(monkeypatch):
    descended(monkeypatch)
    where: list[torch.Tensor] = []

    def slope(logits, x):
        where.append(x.detach())
        return logits.sum() * 0

    players = table(gan.Penalty(1, 1, 1), slope=slope)
    players.discriminator_turn(batch(), None, 1)
    assert torch.equal(where[0], batch())
    assert where[1].shape == batch().shape
    assert not torch.equal(where[1], batch())


def test_the_penalty_holds_the_slopes_down():
    steep = {}
    for weight in (0.0, 100.0):
        players = table(gan.Penalty(weight, weight, 1), lr=1e-2)
        for number in range(1, 21):
            players.discriminator_turn(batch(), None, number)
        x = batch().requires_grad_()
        steep[weight] = float(gan.gradient_penalty(players.d(x), x).detach())
    assert steep[100.0] < 0.1 * steep[0.0]


# Who learns when


def test_the_discriminators_turn_leaves_the_generator_alone():
    players = table(gan.Penalty())
    before_g, before_d = weights(players.g), weights(players.d)
    players.discriminator_turn(batch(), None, 1)
    assert torch.equal(weights(players.g), before_g)
    assert not torch.equal(weights(players.d), before_d)
    assert all(each.grad is None for each in players.g.parameters())


def test_the_generators_turn_leaves_the_discriminator_alone():
    players = table()
    before_g, before_d = weights(players.g), weights(players.d)
    players.generator_turn(batch(), None)
    assert not torch.equal(weights(players.g), before_g)
    assert torch.equal(weights(players.d), before_d)
    assert all(each.grad is None for each in players.d.parameters())
    assert all(each.requires_grad for each in players.d.parameters()), "it learns again in its own turn"


def test_every_weight_of_both_players_is_moved_by_a_turn():
    players = table(game=gan.GAMES["nonsaturating"])  # the relativistic loss cannot see the last bias
    before = copy.deepcopy(players.parts()["g"]), copy.deepcopy(players.parts()["d"])
    players.turn(batch(), None, 1)
    for old, new in zip(before, (players.g, players.d), strict=True):
        for (name, a), b in zip(old.named_parameters(), new.parameters(), strict=True):
            assert not torch.equal(a, b), f"{name} does not learn"


def test_the_discriminator_judges_each_picture_without_its_neighbours():
    net, x = gan.Discriminator(size=32, width=4).double(), torch.randn(5, 3, 32, 32, dtype=torch.float64)
    alone = torch.cat([net(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(net(x), alone)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(net(x)[2], x)
    assert not slope[[0, 1, 3, 4]].any(), "no neighbour has any say"


def test_with_classes_the_logit_depends_on_the_class():
    net, x = gan.Discriminator(size=28, width=4, num_classes=3), batch(3)
    same = net(x, torch.zeros(3, dtype=torch.long))
    assert not torch.allclose(net(x, torch.full((3,), 2)), same)
    with pytest.raises(ValueError, match="give labels"):
        net(x)


def test_spectral_norm_bounds_every_layer():
    net = gan.Discriminator(size=28, width=4, spectral=True).train()
    for _ in range(50):  # power iteration converges as it is used
        net(batch())
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert float(torch.linalg.matrix_norm(layer.weight.flatten(1).detach(), 2)) < 1.05


# Differentiable augmentation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmentation_has_the_right_slope():
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gan.diff_augment(x, seeded()), x)


def test_every_picture_has_a_draw_of_its_own():
    same = batch(1).repeat(6, 1, 1, 1)
    out = gan.diff_augment(same, seeded())
    assert len({each.numpy().tobytes() for each in out}) == 6


def test_without_shift_and_colour_nothing_changes():
    torch.testing.assert_close(gan.diff_augment(batch(), shift=0, colour=0), batch(), rtol=0, atol=1e-6)


def test_a_shift_moves_whole_pixels_and_no_further_than_it_may():
    x = torch.zeros(200, 1, 16, 16)
    x[:, :, 8, 8] = 1
    out = gan.diff_augment(x, seeded(), shift=0.125, colour=0)
    places = out.flatten(1).argmax(1)
    assert torch.equal(out.flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    assert set((places // 16).tolist()) == set((places % 16).tolist()) == set(range(6, 11))


def test_colour_changes_brightness_about_the_middle():
    out = gan.diff_augment(torch.zeros(4000, 3, 4, 4), seeded(), shift=0)
    assert abs(float(out.mean())) < 0.03, "as often lighter as darker"
    assert float(out.amax()) <= 0.5
    assert float(out.amin()) >= -0.5


def test_augmentation_leaves_its_input_alone_and_keeps_its_shape():
    for shape in ((2, 1, 28, 28), (2, 3, 64, 64)):
        x = torch.rand(shape)
        before = x.clone()
        assert gan.diff_augment(x).shape == shape
        assert torch.equal(x, before)


def test_real_and_fake_are_augmented_alike_and_samples_never():
    seen: list[torch.Tensor] = []

    def note(x):
        seen.append(x.detach().clone())
        return x

    run = tiny(1, augment=note)
    to_the_judge = len(seen)
    assert to_the_judge == 4, "real and fake in each of the two turns"
    run.sample(4)
    assert len(seen) == to_the_judge, "what is handed out is not augmented"


def test_the_augmentation_does_not_leak_into_the_samples():
    real = np.broadcast_to(np.uint8([160, 110, 120]), (64, 28, 28, 3)).copy()
    strong = partial(gan.diff_augment, colour=1.0)
    x = torch.from_numpy(real).permute(0, 3, 1, 2).float() / 127.5 - 1
    changed = ((strong(x, seeded()).clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    honest = toy_gan.learn_colour(real, strong).std()
    leaked = toy_gan.learn_colour(
        changed, None
    ).std()  # what a leak would look like: only real ones are changed
    assert leaked > 20
    assert honest < 0.3 * leaked


# The averaged generator


def test_the_average_follows_its_closed_form():
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    start = weights(a)
    for _ in range(5):
        ema_update(a, b, 0.8)
    torch.testing.assert_close(weights(a), 0.8**5 * start + (1 - 0.8**5) * weights(b))


def test_the_average_starts_short_and_ends_at_its_decay():
    decays: list[float] = []
    tiny(60, average=lambda averaged, model, decay: decays.append(decay), average_decay=0.8)
    assert decays[:2] == pytest.approx([1 / 11, 2 / 12])
    assert decays[-1] == 0.8
    assert decays == sorted(decays)


def test_samples_come_from_the_average():
    run = tiny(average=lambda averaged, model, decay: [each.zero_() for each in averaged.parameters()])
    assert len(np.unique(run.sample(4))) == 1, "all weights zero: grey"
    assert len(np.unique(gan.sample(run.last, 4))) > 1


# Training


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_sizes_and_channels_train_and_sample(size, channels):
    run = tiny(1, images=pictures(4, size, channels))
    drawn = run.sample(3)
    assert drawn.shape == (3, size, size, channels)
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize("time", [{}, {"steps": 2, "seconds": 1.0}])
def test_exactly_one_of_steps_and_seconds_is_asked_for(time):
    with pytest.raises(ValueError, match="exactly one of steps and seconds"):
        gan.train_gan(pictures(), batch_size=4, seed=0, **time)


@pytest.mark.parametrize(
    "images",
    [
        pictures().astype(np.float32),
        pictures()[..., 0],
        pictures()[:, :20],
        pictures(size=40),
        pictures(channels=2),
        pictures()[:0],
        [1, 2],
    ],
    ids=["float", "no channels", "not square", "size", "channels", "empty", "list"],
)
def test_pictures_of_another_kind_are_refused(images):
    with pytest.raises(ValueError, match="need uint8 pictures"):
        gan.train_gan(images, steps=1, batch_size=4, seed=0)


@pytest.mark.parametrize(
    "labels", [np.full(12, -1), np.zeros(11, dtype=int), np.full(12, 0.5), np.zeros((12, 1), dtype=int)]
)
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be 12 whole numbers from 0"):
        tiny(1, labels=labels)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0]])
def test_classes_out_of_range_are_refused_when_sampling(labels):
    run = tiny(1, labels=np.arange(12) % 3)
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        run.sample(2, labels=np.array(labels))


def test_a_generator_without_classes_takes_no_labels():
    with pytest.raises(ValueError, match="without classes"):
        tiny(1).sample(2, labels=np.zeros(2, dtype=int))


def test_the_class_decides_the_picture_and_without_labels_the_classes_take_turns():
    run = tiny(2, labels=np.arange(12) % 3)
    first, other = run.sample(3, np.full(3, 0)), run.sample(3, np.full(3, 2))
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(run.sample(4), run.sample(4, np.array([0, 1, 2, 0])))


def test_the_same_seed_gives_the_same_samples_and_another_gives_others():
    a, b, c = tiny(), tiny(), tiny(seed=1)
    np.testing.assert_array_equal(a.sample(4, seed=3), b.sample(4, seed=3))
    assert not np.array_equal(a.sample(4, seed=3), a.sample(4, seed=4))
    assert not np.array_equal(a.sample(4, seed=3), c.sample(4, seed=3))


@pytest.mark.parametrize("z_dim", [16, 10])
def test_picture_i_is_the_same_however_many_are_drawn(z_dim):
    run = tiny(1, z_dim=z_dim)
    few, many = run.sample(3, seed=5), run.sample(300, seed=5)
    assert np.abs(few.astype(int) - many[:3]).max() <= 1, "one grey level: convolutions round by batch size"


def test_truncation_draws_the_pictures_together_and_at_zero_into_one():
    run = tiny(2)
    spread = [float(run.sample(50, psi=psi).astype(float).std(0).mean()) for psi in (0.0, 0.5, 1.0)]
    assert spread[0] == 0 < spread[1] < spread[2]
    np.testing.assert_array_equal(run.sample(3, psi=1.0), run.sample(3))


def test_pictures_are_a_function_of_the_noise_alone():
    run, z = tiny(1), gan.noise(3, 16, seed=5)
    np.testing.assert_array_equal(gan.draw(run.generator, z), run.sample(3, seed=5))


def test_sampling_leaves_the_random_numbers_of_the_reader_alone():
    run = tiny(1)
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    run.sample(2)
    assert torch.equal(torch.rand(1), before)


def test_the_readers_own_losses_penalty_and_average_are_used():
    called = dict.fromkeys(("d", "g", "slope", "average"), 0)

    def counting(name, value):
        def fn(*args):
            called[name] += 1
            return value(*args)

        return fn

    d_loss, g_loss = gan.GAMES["hinge"]
    tiny(
        2, d_loss=counting("d", d_loss), g_loss=counting("g", g_loss), penalty=gan.Penalty(1, 1, 1),
        slope=counting("slope", gan.gradient_penalty), average=counting("average", ema_update),
    )  # fmt: skip
    assert called == {"d": 2, "g": 2, "slope": 4, "average": 2}


def test_losses_get_one_logit_for_each_picture():
    shapes = []

    def d_loss(real, fake):
        shapes.append((tuple(real.shape), tuple(fake.shape)))
        return gan.relativistic_loss(real, fake)

    tiny(1, d_loss=d_loss)
    assert shapes == [((4,), (4,))]


def test_a_run_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    class Killed(Exception):
        pass

    def kill(number, scalars):
        if number == 6:
            raise Killed

    settings = {"every": 2, "labels": np.arange(12) % 3, "penalty": gan.Penalty(every=3)}
    unbroken = tiny(9, **settings)
    with pytest.raises(Killed):
        tiny(9, checkpoint=tmp_path / "run", progress=kill, **settings)
    resumed = tiny(9, checkpoint=tmp_path / "run", **settings)
    for a, b in zip(unbroken.__dict__.values(), resumed.__dict__.values(), strict=True):
        if isinstance(a, nn.Module):
            assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))  # noqa: B905
    assert unbroken.history == resumed.history


def test_seconds_stop_the_run():
    run = tiny(None, seconds=0.3, every=1)
    assert 1 <= len(run.history) < 1000


def test_pictures_are_not_changed_by_training():
    images = pictures()
    before = images.copy()
    tiny(2, images=images)
    np.testing.assert_array_equal(images, before)


def test_fewer_pictures_than_a_batch_are_enough():
    assert tiny(2, images=pictures(3), batch_size=8).sample(1).shape == (1, 28, 28, 3)


@pytest.mark.parametrize("norm", ["pixel", "batch"])
def test_a_batchnorm_generator_trains_too(norm):
    networks = gan.Generator(size=28, width=4, norm=norm), gan.Discriminator(size=28, width=4, spectral=True)
    d_loss, g_loss = gan.GAMES["hinge"]
    run = tiny(2, networks=networks, penalty=None, d_loss=d_loss, g_loss=g_loss)
    assert run.sample(2).shape == (2, 28, 28, 3)
