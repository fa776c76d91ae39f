"""Plausible wrong answers to the exercises of notebook 07: each must be told apart from the others."""

import torch
import torch.nn.functional as F


def shares(codes, num_codes, more=1.0):
    counts = torch.bincount(codes.flatten(), minlength=num_codes).double() + more
    return counts / counts.sum()


def unigram_in_nats(train, test, num_codes):
    return float(-shares(train, num_codes).log()[test].mean())


def unigram_summed(train, test, num_codes):
    return float(-shares(train, num_codes).log2()[test].sum())


def unigram_a_picture(train, test, num_codes):
    return float(-shares(train, num_codes).log2()[test].sum(1).mean())


def unigram_without_a_minus(train, test, num_codes):
    return float(shares(train, num_codes).log2()[test].mean())


def unigram_entropy_of_train(train, test, num_codes):
    p = shares(train, num_codes)
    return float(-(p * p.log2()).sum())


def unigram_that_peeks(train, test, num_codes):
    return float(-shares(test, num_codes).log2()[test].mean())


def unigram_that_divides_by_nought(train, test, num_codes):
    return float(-shares(train, num_codes, 0.0).log2()[test].mean())


def unigram_of_the_mean_chance(train, test, num_codes):
    return float(-shares(train, num_codes)[test].mean().log2())


def unigram_the_other_way(train, test, num_codes):
    return float(-shares(test, num_codes).log2()[train].mean())


def unigram_plus_one_too_late(train, test, num_codes):
    return float(-(shares(train, num_codes, 0.0) + 1).log2()[test].mean())


def mask_of(hidden):
    return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)


def grid(new, places):
    return torch.arange(places - new, places)[:, None], torch.arange(places)


def mask_of_nothing(new, places):
    return torch.zeros(new, places)


def mask_of_the_past(new, places):
    row, column = grid(new, places)
    return mask_of(column < row)


def mask_that_forbids_itself(new, places):
    row, column = grid(new, places)
    return mask_of(column >= row)


def mask_that_looks_one_ahead(new, places):
    row, column = grid(new, places)
    return mask_of(column > row + 1)


def mask_turned_round(new, places):
    row, column = grid(new, places)
    return mask_of(column <= row)


def mask_of_ones_and_zeros(new, places):
    return torch.ones(new, places).tril(places - new)


def mask_of_true_and_false(new, places):
    row, column = grid(new, places)
    return column > row


def mask_of_nan(new, places):
    return torch.ones(new, places).triu(places - new + 1) * -torch.inf


def mask_without_an_offset(new, places):
    return mask_of(torch.ones(new, places).triu(1).bool())


def mask_for_all_places(new, places):
    return mask_of(torch.ones(places, places).triu(1).bool())


def loss_without_a_minus(logits, codes):
    return -F.cross_entropy(logits.flatten(0, 1), codes.flatten())


def loss_summed(logits, codes):
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="sum")


def loss_a_picture(logits, codes):
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="sum") / len(codes)


def loss_in_bits(logits, codes):
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten()) / torch.tensor(2.0).log()


def loss_one_place_off(logits, codes):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), codes[:, 1:].flatten())


def loss_of_what_was_seen(logits, codes):
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), codes[:, :-1].flatten())


def loss_of_the_last(logits, codes):
    return F.cross_entropy(logits[:, -1], codes[:, -1])


def loss_softmax_twice(logits, codes):
    return F.cross_entropy(logits.softmax(2).flatten(0, 1), codes.flatten())


def loss_viewed(logits, codes):
    return F.cross_entropy(logits.reshape(len(codes), logits.shape[2], -1), codes)


def loss_over_places(logits, codes):
    return -logits.log_softmax(1).gather(2, codes[:, :, None]).mean()


def loss_of_chances(logits, codes):
    return 1 - logits.softmax(2).gather(2, codes[:, :, None]).mean()


def loss_not_averaged(logits, codes):
    return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")


def loss_as_a_number(logits, codes):
    return torch.tensor(F.cross_entropy(logits.flatten(0, 1), codes.flatten()).item())


def guide_swapped(given, null, guidance_scale):
    return given + guidance_scale * (null - given)


def guide_from_given(given, null, guidance_scale):
    return given + guidance_scale * (given - null)


def guide_counted_from_nought(given, null, guidance_scale):
    return (1 + guidance_scale) * given - guidance_scale * null


def guide_one_less(given, null, guidance_scale):
    return given + (guidance_scale - 1) * (null - given)


def guide_given_alone(given, null, guidance_scale):
    return null + guidance_scale * given


def guide_difference(given, null, guidance_scale):
    return guidance_scale * (given - null)


def guide_wrong_way(given, null, guidance_scale):
    return null + guidance_scale * (null - given)


def guide_that_rounds(given, null, guidance_scale):
    return null + guidance_scale * (given - null)


def guide_in_place(given, null, guidance_scale):
    return null.add_(guidance_scale * (given - null))


def guide_unused(given, null, guidance_scale):
    return given


def drawn(chances, chance):
    upto = chances.double().cumsum(1)
    return (upto <= chance[:, None]).sum(1).clamp(max=chances.shape[1] - 1)


def kept(logits, top_k):
    if top_k is None:
        return logits
    return logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)


def choose_greedily(logits, chance, temperature, top_k=None):
    return logits.argmax(1)


def choose_backwards(logits, chance, temperature, top_k=None):
    return drawn((-logits / max(temperature, 1e-9)).softmax(1), chance)


def choose_without_softmax(logits, chance, temperature, top_k=None):
    chances = logits.clamp_min(0)
    return drawn(chances / chances.sum(1, keepdim=True), chance)


def choose_by_largest_value(logits, chance, temperature, top_k=None):
    return logits.max(1).values


def choose_multiplied(logits, chance, temperature, top_k=None):
    return drawn((kept(logits, top_k) * temperature).softmax(1), chance)


def choose_divided_late(logits, chance, temperature, top_k=None):
    return drawn(kept(logits, top_k).softmax(1) / temperature, chance)


def choose_divided_in_vain(logits, chance, temperature, top_k=None):
    chances = kept(logits, top_k).softmax(1) / temperature
    return drawn(chances / chances.sum(1, keepdim=True), chance)


def choose_the_first_k(logits, chance, temperature, top_k=None):
    if top_k is not None:
        logits = logits.masked_fill(torch.arange(logits.shape[1]) >= top_k, -torch.inf)
    return drawn((logits / temperature).softmax(1), chance)


def choose_the_least_likely(logits, chance, temperature, top_k=None):
    if top_k is not None:
        logits = logits.masked_fill(logits > logits.kthvalue(top_k).values[:, None], -torch.inf)
    return drawn((logits / temperature).softmax(1), chance)


def choose_one_too_few(logits, chance, temperature, top_k=None):
    if top_k is not None:
        logits = logits.masked_fill(logits <= logits.topk(top_k).values[:, -1:], -torch.inf)
    return drawn((logits / temperature).softmax(1), chance)


def choose_others_at_nought(logits, chance, temperature, top_k=None):
    if top_k is not None:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], 0.0)
    return drawn((logits / temperature).softmax(1), chance)


def choose_without_top_k(logits, chance, temperature, top_k=None):
    return drawn((logits / temperature).softmax(1), chance)


def choose_never_greedy(logits, chance, temperature, top_k=None):
    return drawn((kept(logits, top_k) / max(temperature, 1.0)).softmax(1), chance)


def choose_at_the_edges(logits, chance, temperature, top_k=None):
    if temperature == 0:
        return logits.argmax(1)
    upto = (kept(logits, top_k).double() / temperature).softmax(1).cumsum(1)
    return (upto < chance[:, None]).sum(1)


WRONG = {
    "unigram_bits": [
        unigram_in_nats, unigram_summed, unigram_a_picture, unigram_without_a_minus, unigram_entropy_of_train,
        unigram_that_peeks, unigram_that_divides_by_nought, unigram_of_the_mean_chance, unigram_the_other_way,
        unigram_plus_one_too_late,
    ],
    "later": [
        mask_of_nothing, mask_of_the_past, mask_that_forbids_itself, mask_that_looks_one_ahead, mask_turned_round,
        mask_of_ones_and_zeros, mask_of_true_and_false, mask_of_nan, mask_without_an_offset, mask_for_all_places,
    ],
    "next_code_loss": [
        loss_without_a_minus, loss_summed, loss_a_picture, loss_in_bits, loss_one_place_off, loss_of_what_was_seen,
        loss_of_the_last, loss_softmax_twice, loss_viewed, loss_over_places, loss_of_chances, loss_not_averaged,
        loss_as_a_number,
    ],
    "guide": [
        guide_swapped, guide_from_given, guide_one_less, guide_given_alone, guide_difference, guide_wrong_way,
        guide_that_rounds, guide_in_place, guide_unused,
    ],
    "choose": [
        choose_greedily, choose_backwards, choose_without_softmax, choose_by_largest_value, choose_multiplied,
        choose_divided_late, choose_divided_in_vain, choose_the_first_k, choose_the_least_likely, choose_one_too_few,
        choose_others_at_nought, choose_without_top_k, choose_never_greedy, choose_at_the_edges,
    ],
}  # fmt: skip
