"""Plausible wrong answers to the exercises of notebook 08: each must be told apart from the others."""

import numpy as np


def budget_in_all(target, family, count, rng):
    return rng.permutation(len(target))[:count]


def budget_twice(target, family, count, rng):
    return np.concatenate([rng.choice(np.flatnonzero(target == k), count) for k in np.unique(target)])


def budget_not_stratified(target, family, count, rng):
    return np.sort(rng.permutation(len(target))[: count * len(np.unique(target))])


def budget_blind_to_families(target, family, count, rng):
    return np.concatenate([rng.permutation(np.flatnonzero(target == k))[:count] for k in np.unique(target)])


def budget_without_the_generator(target, family, count, rng):
    from mmteach.solutions import label_budget

    return label_budget(target, family, count, np.random.default_rng(7))


def budget_first_of_each_family(target, family, count, rng):
    rows = []
    for label in np.unique(target):
        places = rng.permutation(np.flatnonzero(target == label))
        first = [places[family[places] == name][0] for name in np.unique(family[places])]
        rest = [row for row in places if row not in first]
        rest = sorted(rest, key=lambda row: family[row])
        rows.append((first + rest)[:count])
    return np.concatenate(rows)


def budget_mask(target, family, count, rng):
    mask = np.zeros(len(target), dtype=bool)
    mask[:count] = True
    return mask


def weights_uniform(n_real, n_fake, share):
    return np.full(n_real + n_fake, 1 / (n_real + n_fake))


def weights_per_picture(n_real, n_fake, share):
    return np.concatenate([np.full(n_real, 1 - share), np.full(n_fake, share)])


def weights_per_picture_normalised(n_real, n_fake, share):
    weights = weights_per_picture(n_real, n_fake, share)
    return weights / weights.sum()


def weights_swapped(n_real, n_fake, share):
    return np.concatenate([np.full(n_real, share / n_real), np.full(n_fake, (1 - share) / n_fake)])


def weights_other_size(n_real, n_fake, share):
    return np.concatenate([np.full(n_real, (1 - share) / n_fake), np.full(n_fake, share / n_real)])


def weights_without_share(n_real, n_fake, share):
    return np.concatenate([np.full(n_real, 1 / n_real), np.full(n_fake, 1 / n_fake)])


def weights_fake_first(n_real, n_fake, share):
    return np.concatenate([np.full(n_fake, share / n_fake), np.full(n_real, (1 - share) / n_real)])


def score_turned_round(fit, fake, fake_labels, real, real_labels):
    return float((fit(real, real_labels)(fake) == fake_labels).mean())


def score_real_on_real(fit, fake, fake_labels, real, real_labels):
    return float((fit(real, real_labels)(real) == real_labels).mean())


def score_fake_on_fake(fit, fake, fake_labels, real, real_labels):
    return float((fit(fake, fake_labels)(fake) == fake_labels).mean())


def score_trained_on_both(fit, fake, fake_labels, real, real_labels):
    predict = fit(np.concatenate([fake, real]), np.concatenate([fake_labels, real_labels]))
    return float((predict(real) == real_labels).mean())


def score_errors(fit, fake, fake_labels, real, real_labels):
    return float((fit(fake, fake_labels)(real) != real_labels).mean())


def score_count(fit, fake, fake_labels, real, real_labels):
    return float((fit(fake, fake_labels)(real) == real_labels).sum())


def gains_flipped(right_a, right_b, family, drawn):
    weight = drawn[:, family]
    return (weight * (right_b.astype(float) - right_a)).sum(1) / weight.sum(1)


def gains_of_families(right_a, right_b, family, drawn):
    difference = right_a.astype(float) - right_b
    means = np.array([difference[family == k].mean() for k in range(drawn.shape[1])])
    return (drawn * means).sum(1) / drawn.sum(1)


def gains_over_all_rows(right_a, right_b, family, drawn):
    return (drawn[:, family] * (right_a.astype(float) - right_b)).mean(1)


def gains_once(right_a, right_b, family, drawn):
    weight = drawn[:, family] > 0
    return (weight * (right_a.astype(float) - right_b)).sum(1) / weight.sum(1)


def gains_unpaired(right_a, right_b, family, drawn):
    weight = drawn[:, family]
    other = np.roll(weight, 1, axis=0)
    return (weight * right_a).sum(1) / weight.sum(1) - (other * right_b).sum(1) / other.sum(1)


def gains_not_resampled(right_a, right_b, family, drawn):
    return np.full(len(drawn), right_a.mean() - right_b.mean())


def gains_accuracy(right_a, right_b, family, drawn):
    weight = drawn[:, family]
    return (weight * right_a).sum(1) / weight.sum(1)


def gains_disagreement(right_a, right_b, family, drawn):
    weight = drawn[:, family]
    return (weight * (right_a != right_b)).sum(1) / weight.sum(1)


def leaks_but_held_out(items, rows):
    used = items.iloc[rows]
    return rows[((used["split"] != "train") | (used["style"] == "openmoji")).to_numpy()]


def leaks_but_openmoji(items, rows):
    used = items.iloc[rows]
    return rows[((used["split"] != "train") | used["held_out"]).to_numpy()]


def leaks_but_val(items, rows):
    used = items.iloc[rows]
    return rows[((used["split"] == "test") | used["held_out"] | (used["style"] == "openmoji")).to_numpy()]


def leaks_test_only(items, rows):
    return rows[(items.iloc[rows]["split"] == "test").to_numpy()]


def leaks_the_clean_ones(items, rows):
    used = items.iloc[rows]
    clean = (used["split"] == "train") & ~used["held_out"] & (used["style"] != "openmoji")
    return rows[clean.to_numpy()]


def leaks_as_places(items, rows):
    used = items.iloc[rows]
    bad = (used["split"] != "train") | used["held_out"] | (used["style"] == "openmoji")
    return np.flatnonzero(bad.to_numpy())


def leaks_of_everything(items, rows):
    bad = (items["split"] != "train") | items["held_out"] | (items["style"] == "openmoji")
    return np.flatnonzero(bad.to_numpy())


def leaks_sorted(items, rows):
    used = items.iloc[rows]
    bad = (used["split"] != "train") | used["held_out"] | (used["style"] == "openmoji")
    return np.sort(rows[bad.to_numpy()])


def stand_in_of_test(train, features, present):
    return np.where(present[:, None], features, features[present].mean(axis=0))


def stand_in_zero(train, features, present):
    return np.where(present[:, None], features, 0.0)


def stand_in_one_mean(train, features, present):
    return np.where(present[:, None], features, train.mean())


def stand_in_everywhere(train, features, present):
    return np.repeat(train.mean(axis=0)[None], len(features), axis=0)


def stand_in_missing_alone(train, features, present):
    return np.repeat(train.mean(axis=0)[None], (~present).sum(), axis=0)


def stand_in_place(train, features, present):
    features[~present] = train.mean(axis=0)
    return features


def stand_in_median(train, features, present):
    return np.where(present[:, None], features, np.median(train, axis=0))


def stand_in_turned_round(train, features, present):
    return np.where(present[:, None], train.mean(axis=0), np.nan_to_num(features))


WRONG = {
    "label_budget": [
        budget_in_all, budget_twice, budget_not_stratified, budget_blind_to_families, budget_without_the_generator,
        budget_first_of_each_family, budget_mask,
    ],
    "mixing_weights": [
        weights_uniform, weights_per_picture, weights_per_picture_normalised, weights_swapped, weights_other_size,
        weights_without_share, weights_fake_first,
    ],
    "generated_accuracy": [
        score_turned_round, score_real_on_real, score_fake_on_fake, score_trained_on_both, score_errors, score_count,
    ],
    "paired_gains": [
        gains_flipped, gains_of_families, gains_over_all_rows, gains_once, gains_unpaired, gains_not_resampled,
        gains_accuracy, gains_disagreement,
    ],
    "leaking_rows": [
        leaks_but_held_out, leaks_but_openmoji, leaks_but_val, leaks_test_only, leaks_the_clean_ones, leaks_as_places,
        leaks_of_everything, leaks_sorted,
    ],
    "mean_stand_in": [
        stand_in_of_test, stand_in_zero, stand_in_one_mean, stand_in_everywhere, stand_in_missing_alone,
        stand_in_place, stand_in_median, stand_in_turned_round,
    ],
}  # fmt: skip
