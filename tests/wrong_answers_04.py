"""Plausible wrong answers to the exercises of notebook 04: each must be told apart from the others."""

import numpy as np
import torch
from torch.nn.functional import relu, softplus


def pays_for_being_caught(real_logits, fake_logits):
    return softplus(fake_logits).mean()


def saturates(real_logits, fake_logits):
    return torch.log(1 - torch.sigmoid(fake_logits)).mean()


def forgets_the_minus(real_logits, fake_logits):
    return torch.log(torch.sigmoid(fake_logits)).mean()


def looks_at_the_real_ones(real_logits, fake_logits):
    return softplus(-real_logits).mean()


def forgets_the_logarithm(real_logits, fake_logits):
    return -torch.sigmoid(fake_logits).mean()


def one_loss_a_picture(real_logits, fake_logits):
    return softplus(-fake_logits)


def breaks_at_large_logits(real_logits, fake_logits):
    return -torch.log(torch.sigmoid(fake_logits)).mean()


def leaves_torch(real_logits, fake_logits):
    return torch.tensor(softplus(-fake_logits).mean().item(), dtype=torch.float64)


def rewards_fakes(real_logits, fake_logits):
    return softplus(real_logits - fake_logits).mean()


def judges_each_alone(real_logits, fake_logits):
    return (softplus(-real_logits) + softplus(fake_logits)).mean()


def has_no_floor(real_logits, fake_logits):
    return (fake_logits - real_logits).mean()


def hinges(real_logits, fake_logits):
    return relu(1 + fake_logits - real_logits).mean()


def compares_means(real_logits, fake_logits):
    return softplus(fake_logits.mean() - real_logits.mean())


def compares_all_with_all(real_logits, fake_logits):
    return softplus(fake_logits[:, None] - real_logits).mean()


def compares_with_the_mean_of_the_others(real_logits, fake_logits):
    of_real = softplus(fake_logits.mean() - real_logits)
    return (of_real + softplus(fake_logits - real_logits.mean())).mean() / 2


def sums_over_the_batch(real_logits, fake_logits):
    return softplus(fake_logits - real_logits).sum()


def overflows(real_logits, fake_logits):
    return torch.log(1 + torch.exp(fake_logits - real_logits)).mean()


def slope_of(logits, x):
    return torch.autograd.grad(logits.sum(), x, create_graph=True)[0].flatten(1)


def takes_the_length(logits, x):
    return slope_of(logits, x).norm(dim=1).mean()


def pulls_to_one(logits, x):
    return (slope_of(logits, x).norm(dim=1) - 1).square().mean()


def averages_over_pixels(logits, x):
    return slope_of(logits, x).square().mean()


def sums_over_pictures(logits, x):
    return slope_of(logits, x).square().sum()


def starts_from_the_mean_logit(logits, x):
    (slope,) = torch.autograd.grad(logits.mean(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def cancels(logits, x):
    return slope_of(logits, x).sum(1).square().mean()


def halves(logits, x):
    return slope_of(logits, x).square().sum(1).mean() / 2


def cannot_be_descended(logits, x):
    (slope,) = torch.autograd.grad(logits.sum(), x)
    return slope.square().flatten(1).sum(1).mean()


@torch.no_grad()
def swaps_the_shares(averaged, model, decay):
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.copy_((1 - decay) * old + decay * new)


@torch.no_grad()
def forgets(averaged, model, decay):
    averaged.load_state_dict(model.state_dict())


@torch.no_grad()
def adds(averaged, model, decay):
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old += (1 - decay) * new


def renames(averaged, model, decay):
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old = decay * old + (1 - decay) * new


@torch.no_grad()
def moves_the_model(averaged, model, decay):
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        new.copy_(decay * old + (1 - decay) * new)


@torch.no_grad()
def leaves_buffers_behind(averaged, model, decay):
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


@torch.no_grad()
def averages_buffers(averaged, model, decay):
    state = model.state_dict()
    for name, old in averaged.state_dict().items():
        old.lerp_(state[name], 1 - decay)


@torch.no_grad()
def averages_the_first_only(averaged, model, decay):
    old, new = next(averaged.parameters()), next(model.parameters())
    old.lerp_(new, 1 - decay)


def moments(real, fake):
    apart = np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()
    return apart, np.cov(real, rowvar=False), np.cov(fake, rowvar=False)


def root_trace(product):
    return np.sqrt(np.linalg.eigvals(product).real.clip(0)).sum()


def misses_the_two(real, fake):
    apart, s_r, s_f = moments(real, fake)
    return apart + np.trace(s_r + s_f) - root_trace(s_r @ s_f)


def stays_complex(real, fake):
    apart, s_r, s_f = moments(real, fake)
    values = np.linalg.eigvals(s_r @ s_f).astype(complex)
    return apart + np.trace(s_r + s_f) - 2 * np.sqrt(values).sum()


def uses_variances(real, fake):
    apart, _, _ = moments(real, fake)
    a, b = real.var(axis=0, ddof=1), fake.var(axis=0, ddof=1)
    return apart + (a + b - 2 * np.sqrt(a * b)).sum()


def takes_the_root_of_the_means(real, fake):
    apart, s_r, s_f = moments(real, fake)
    return np.sqrt(apart) + np.trace(s_r + s_f) - 2 * root_trace(s_r @ s_f)


def compares_only_the_means(real, fake):
    return np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()


def forgets_the_root(real, fake):
    apart, s_r, s_f = moments(real, fake)
    return apart + np.trace(s_r + s_f - 2 * s_r @ s_f)


def takes_the_root_entry_by_entry(real, fake):
    apart, s_r, s_f = moments(real, fake)
    return apart + np.trace(s_r + s_f - 2 * np.sqrt(np.abs(s_r @ s_f)))


def negative_eigenvalues(real, fake):
    apart, s_r, s_f = moments(real, fake)
    with np.errstate(invalid="ignore"):
        roots = np.sqrt(np.linalg.eigvals(s_r @ s_f).real - 1e-12)
    return apart + np.trace(s_r + s_f) - 2 * roots.sum()


WRONG = {
    "nonsaturating_g_loss": [
        pays_for_being_caught,
        saturates,
        forgets_the_minus,
        looks_at_the_real_ones,
        forgets_the_logarithm,
        one_loss_a_picture,
        breaks_at_large_logits,
        leaves_torch,
    ],
    "relativistic_loss": [
        rewards_fakes,
        judges_each_alone,
        has_no_floor,
        hinges,
        compares_means,
        compares_all_with_all,
        compares_with_the_mean_of_the_others,
        sums_over_the_batch,
        overflows,
    ],
    "gradient_penalty": [
        takes_the_length,
        pulls_to_one,
        averages_over_pixels,
        sums_over_pictures,
        starts_from_the_mean_logit,
        cancels,
        halves,
        cannot_be_descended,
    ],
    "ema_update": [
        swaps_the_shares,
        forgets,
        adds,
        renames,
        moves_the_model,
        leaves_buffers_behind,
        averages_buffers,
        averages_the_first_only,
    ],
    "frechet_distance": [
        misses_the_two,
        stays_complex,
        uses_variances,
        takes_the_root_of_the_means,
        compares_only_the_means,
        forgets_the_root,
        takes_the_root_entry_by_entry,
        negative_eigenvalues,
    ],
}
