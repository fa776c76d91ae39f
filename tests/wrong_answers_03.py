"""Plausible wrong answers to the exercises of notebook 03: each must be told apart from the others."""

import numpy as np
import torch


def normed(scores):
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def late_unnormalised(log_probs, weights):
    return np.tensordot(weights, log_probs, axes=1)


def late_as_probabilities(log_probs, weights):
    return np.exp(normed(np.tensordot(weights, log_probs, axes=1)))


def late_adds_probabilities(log_probs, weights):
    return np.log(np.tensordot(weights / weights.sum(), np.exp(log_probs), axes=1))


def late_unweighted(log_probs, weights):
    return normed(log_probs.sum(axis=0))


def late_weights_sum_to_one(log_probs, weights):
    return normed(np.tensordot(weights / weights.sum(), log_probs, axes=1))


def late_underflows(log_probs, weights):
    with np.errstate(divide="ignore", invalid="ignore"):
        return normed(np.tensordot(weights, log_probs, axes=1))


def resample(correct, family, resamples, rng, draw):
    rows_of = [np.flatnonzero(family == name) for name in np.unique(family)]
    return np.array([draw(rows_of) for _ in range(resamples)])


def bootstrap_rows(correct, family, resamples, rng):
    return np.array([correct[rng.integers(len(correct), size=len(correct))].mean() for _ in range(resamples)])


def bootstrap_without_replacement(correct, family, resamples, rng):
    def draw(rows_of):
        return correct[np.concatenate([rows_of[k] for k in rng.permutation(len(rows_of))])].mean()

    return resample(correct, family, resamples, rng, draw)


def bootstrap_one_family(correct, family, resamples, rng):
    return resample(
        correct, family, resamples, rng, lambda rows: correct[rows[rng.integers(len(rows))]].mean()
    )


def bootstrap_mean_of_means(correct, family, resamples, rng):
    def draw(rows_of):
        return np.mean([correct[rows_of[k]].mean() for k in rng.integers(len(rows_of), size=len(rows_of))])

    return resample(correct, family, resamples, rng, draw)


def bootstrap_own_generator(correct, family, resamples, rng):
    rng = np.random.default_rng(7)

    def draw(rows_of):
        return correct[
            np.concatenate([rows_of[k] for k in rng.integers(len(rows_of), size=len(rows_of))])
        ].mean()

    return resample(correct, family, resamples, rng, draw)


def dropout_of_everything(present, p, generator):
    return present & (torch.rand(present.shape, generator=generator) >= p)


def dropout_brings_back_what_was_never_there(present, p, generator):
    left = present & (torch.rand(present.shape, generator=generator) >= p)
    left[~left.any(dim=1), 0] = True
    return left


def dropout_keeps_with_p(present, p, generator):
    luck = torch.rand(present.shape, generator=generator).masked_fill(~present, 2.0)
    return present & ((luck < p) | (luck == luck.min(dim=1, keepdim=True).values))


def dropout_of_whole_rows(present, p, generator):
    hide = torch.rand(len(present), 1, generator=generator) < p
    first = torch.nn.functional.one_hot(present.int().argmax(dim=1), present.shape[1]).bool()
    return torch.where(hide, first, present)


def dropout_gives_up(present, p, generator):
    left = present & (torch.rand(present.shape, generator=generator) >= p)
    return torch.where(left.any(dim=1, keepdim=True), left, present)


def dropout_same_for_all_rows(present, p, generator):
    keep = torch.tensor([True, False, True])
    left = present & keep[: present.shape[1]]
    return torch.where(left.any(dim=1, keepdim=True), left, present)


def gates_over_features(codes, weight, bias):
    scores = (codes.flatten(1) @ weight.T + bias).view(codes.shape)
    return (scores.softmax(dim=2) * codes).sum(dim=1)


def gates_that_do_not_compete(codes, weight, bias):
    scores = (codes.flatten(1) @ weight.T + bias).view(codes.shape)
    return (scores.sigmoid() * codes).sum(dim=1)


def gates_without_bias(codes, weight, bias):
    return ((codes.flatten(1) @ weight.T).view(codes.shape).softmax(dim=1) * codes).sum(dim=1)


def gates_transposed(codes, weight, bias):
    return ((codes.flatten(1) @ weight + bias).view(codes.shape).softmax(dim=1) * codes).sum(dim=1)


def gates_not_summed(codes, weight, bias):
    return (codes.flatten(1) @ weight.T + bias).view(codes.shape).softmax(dim=1) * codes


def parts_of(codes, factors, one=1.0):
    last = codes.new_full((*codes.shape[:2], 1), one)
    return torch.einsum("bmd,mrdh->bmrh", torch.cat([codes, last], dim=2), factors)


def tensor_adds(codes, factors, weights):
    return torch.einsum("bmrh,r->bh", parts_of(codes, factors), weights)


def tensor_without_the_one(codes, factors, weights):
    return torch.einsum("brh,r->bh", parts_of(codes, factors, 0.0).prod(dim=1), weights)


def tensor_without_weights(codes, factors, weights):
    return parts_of(codes, factors).prod(dim=1).sum(dim=1)


def tensor_one_first(codes, factors, weights):
    extended = torch.cat([codes.new_ones(*codes.shape[:2], 1), codes], dim=2)
    return torch.einsum("brh,r->bh", torch.einsum("bmd,mrdh->bmrh", extended, factors).prod(dim=1), weights)


def tensor_sums_too_early(codes, factors, weights):
    return torch.einsum("bmrh,r->bmh", parts_of(codes, factors), weights).prod(dim=1)


WRONG = {
    "late_fusion": [
        late_unnormalised,
        late_as_probabilities,
        late_adds_probabilities,
        late_unweighted,
        late_weights_sum_to_one,
        late_underflows,
    ],
    "bootstrap_by_family": [
        bootstrap_rows,
        bootstrap_without_replacement,
        bootstrap_one_family,
        bootstrap_mean_of_means,
        bootstrap_own_generator,
    ],
    "modality_dropout": [
        dropout_of_everything,
        dropout_brings_back_what_was_never_there,
        dropout_keeps_with_p,
        dropout_of_whole_rows,
        dropout_gives_up,
        dropout_same_for_all_rows,
    ],
    "gated_fusion": [
        gates_over_features,
        gates_that_do_not_compete,
        gates_without_bias,
        gates_transposed,
        gates_not_summed,
    ],
    "low_rank_tensor_fusion": [
        tensor_adds,
        tensor_without_the_one,
        tensor_without_weights,
        tensor_one_first,
        tensor_sums_too_early,
    ],
}
