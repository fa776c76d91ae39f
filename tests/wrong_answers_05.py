"""Plausible wrong answers to the exercises of notebook 05: each must be told apart from the others."""

import torch


def nearest_farthest(rows, codebook):
    return torch.cdist(rows, codebook).argmax(1)


def nearest_wrong_sign(rows, codebook):
    return (codebook.square().sum(1) + 2 * rows @ codebook.T).argmin(1)


def nearest_by_dot_product(rows, codebook):
    return (rows @ codebook.T).argmax(1)


def nearest_half_the_middle(rows, codebook):
    return (codebook.square().sum(1) - rows @ codebook.T).argmin(1)


def nearest_by_cosine(rows, codebook):
    return (rows @ codebook.T / codebook.norm(dim=1)).argmax(1)


def nearest_manhattan(rows, codebook):
    return torch.cdist(rows, codebook, p=1).argmin(1)


def nearest_over_rows(rows, codebook):
    return torch.cdist(rows, codebook).argmin(0)


def nearest_distances(rows, codebook):
    return torch.cdist(rows, codebook).min(1).values


def nearest_the_codes_themselves(rows, codebook):
    return codebook[torch.cdist(rows, codebook).argmin(1)]


def through_nothing(z_e, z_q):
    return z_q


def through_all_detached(z_e, z_q):
    return z_q.detach()


def through_z_e(z_e, z_q):
    return z_e


def through_wrong_way(z_e, z_q):
    return z_e + (z_e - z_q).detach()


def through_both(z_e, z_q):
    return z_q + (z_e - z_e.detach())


def through_only_the_step(z_e, z_q):
    return (z_q - z_e).detach()


def through_half(z_e, z_q):
    return (z_e + z_q) / 2


def through_double(z_e, z_q):
    return z_q.detach() + 2 * (z_e - z_e.detach())


def commitment_moves_the_code(z_e, z_q, beta):
    return beta * (z_e.detach() - z_q).square().mean()


def commitment_moves_both(z_e, z_q, beta):
    return beta * (z_e - z_q).square().mean()


def commitment_without_beta(z_e, z_q, beta):
    return (z_e - z_q.detach()).square().mean()


def commitment_summed(z_e, z_q, beta):
    return beta * (z_e - z_q.detach()).square().sum()


def commitment_summed_over_channels(z_e, z_q, beta):
    return beta * (z_e - z_q.detach()).square().sum(1).mean()


def commitment_by_picture(z_e, z_q, beta):
    return beta * (z_e - z_q.detach()).square().mean((1, 2, 3))


def commitment_absolute(z_e, z_q, beta):
    return beta * (z_e - z_q.detach()).abs().mean()


def commitment_without_any_gradient(z_e, z_q, beta):
    return beta * (z_e - z_q).detach().square().mean()


def ema_swapped(count, total, used, sums, decay):
    return (1 - decay) * count + decay * used, (1 - decay) * total + decay * sums


def ema_never_lets_go(count, total, used, sums, decay):
    return count + (1 - decay) * used, total + (1 - decay) * sums


def ema_adds_whole(count, total, used, sums, decay):
    return decay * count + used, decay * total + sums


def ema_forgets(count, total, used, sums, decay):
    return used, sums


def ema_of_means(count, total, used, sums, decay):
    return decay * count + (1 - decay) * used, decay * total + (1 - decay) * sums / used.clamp_min(1)[:, None]


def ema_gives_codes(count, total, used, sums, decay):
    count = decay * count + (1 - decay) * used
    return count, (decay * total + (1 - decay) * sums) / count[:, None]


def ema_counts_stay(count, total, used, sums, decay):
    return count, decay * total + (1 - decay) * sums


def ema_counts_from_another_assignment(count, total, used, sums, decay):
    return decay * count + (1 - decay) * (used > 0), decay * total + (1 - decay) * sums


def ema_in_place(count, total, used, sums, decay):
    return count.mul_(decay).add_(used, alpha=1 - decay), total.mul_(decay).add_(sums, alpha=1 - decay)


def ema_wrong_order(count, total, used, sums, decay):
    return decay * total + (1 - decay) * sums, decay * count + (1 - decay) * used


def shares(counts):
    return counts / counts.sum()


def perplexity_entropy(counts):
    p = shares(counts)
    return -torch.xlogy(p, p).sum()


def perplexity_mixed_bases(counts):
    p = shares(counts)
    return torch.exp(-(p * torch.log2(p.clamp_min(1e-12))).sum())


def perplexity_two_to_nats(counts):
    return 2 ** perplexity_entropy(counts)


def perplexity_without_minus(counts):
    return torch.exp(-perplexity_entropy(counts))


def perplexity_mean(counts):
    return torch.exp(perplexity_entropy(counts) / len(counts))


def perplexity_active(counts):
    return (counts > 0).sum().float()


def perplexity_simpson(counts):
    return 1 / shares(counts).square().sum()


def perplexity_unused_codes(counts):
    p = shares(counts)
    return torch.exp(-(p * p.log()).sum())


def perplexity_of_counts(counts):
    return torch.exp(-(counts * counts.log()).sum())


WRONG = {
    "nearest_code": [
        nearest_farthest, nearest_wrong_sign, nearest_by_dot_product, nearest_half_the_middle, nearest_by_cosine,
        nearest_manhattan, nearest_over_rows, nearest_distances, nearest_the_codes_themselves,
    ],
    "straight_through": [
        through_nothing, through_all_detached, through_z_e, through_wrong_way, through_both, through_only_the_step,
        through_half, through_double,
    ],
    "commitment_loss": [
        commitment_moves_the_code, commitment_moves_both, commitment_without_beta, commitment_summed,
        commitment_summed_over_channels, commitment_by_picture, commitment_absolute, commitment_without_any_gradient,
    ],
    "ema_codebook": [
        ema_swapped, ema_never_lets_go, ema_adds_whole, ema_forgets, ema_of_means, ema_gives_codes, ema_counts_stay,
        ema_counts_from_another_assignment, ema_in_place, ema_wrong_order,
    ],
    "perplexity": [
        perplexity_entropy, perplexity_mixed_bases, perplexity_two_to_nats, perplexity_without_minus, perplexity_mean,
        perplexity_active, perplexity_simpson, perplexity_unused_codes, perplexity_of_counts,
    ],
}  # fmt: skip
