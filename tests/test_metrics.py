"""What the intervals of mmteach.metrics promise."""

import numpy as np
import pytest

from mmteach.metrics import Interval, bootstrap_interval, conditional_utilisation, paired_interval


def slow_bootstrap(values, groups, resamples, seed, labels=None, level=0.95):
    """Draw family names one by one and average the rows they bring along."""
    rng = np.random.default_rng(seed)
    names = np.unique(groups)
    labels = np.zeros(len(values)) if labels is None else labels
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([np.flatnonzero(groups == name) for name in rng.choice(names, len(names))])
        drawn.append(np.mean([values[rows][labels[rows] == c].mean() for c in np.unique(labels[rows])]))
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])


def families(rng, count=60, largest=12):
    """Rows in families of unequal size, whose answers hang together."""
    groups = np.repeat(np.arange(count), rng.integers(1, largest, count))
    skill = rng.uniform(0.2, 0.9, count)
    return (rng.random(len(groups)) < skill[groups]).astype(float), groups


@pytest.mark.parametrize("macro", [False, True])
def test_the_ends_agree_with_a_slow_bootstrap_that_draws_family_by_family(macro):
    rng = np.random.default_rng(0)
    values, groups = families(rng)
    labels = groups % 3 if macro else None
    fast = bootstrap_interval(values, groups, labels=labels, resamples=6000)
    slow = slow_bootstrap(values, groups, 6000, 1, labels)
    # The standard error of a 2.5 % quantile over 6,000 draws of sd 0.04 is about 0.0015: six of them.
    np.testing.assert_allclose([fast.low, fast.high], slow, atol=0.009)


def test_the_mean_is_that_of_the_rows_and_macro_is_that_of_the_classes():
    values, labels = np.array([1.0, 1.0, 1.0, 0.0]), np.array(["a", "a", "a", "b"])
    assert bootstrap_interval(values).mean == pytest.approx(0.75)
    assert bootstrap_interval(values, labels=labels).mean == pytest.approx(0.5)


def test_intervals_by_family_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for trial in range(150):
        rng = np.random.default_rng(trial)
        values, groups = families(rng, count=80, largest=6)
        low, _, high = bootstrap_interval(values, groups, resamples=400, seed=trial)
        held += low <= 0.55 <= high  # the skill of a family is uniform on 0.2 to 0.9
    # 150 trials at 95 % have a standard deviation of 2.7; the percentile method errs on the short side.
    assert 130 <= held <= 150


def test_rows_of_one_family_make_the_interval_wider_than_independent_rows():
    values, groups = families(np.random.default_rng(3))
    together, apart = bootstrap_interval(values, groups), bootstrap_interval(values)
    assert together.high - together.low > 1.3 * (apart.high - apart.low)


def test_seeds_that_disagree_widen_the_interval():
    row = np.tile([1.0, 0.0], 200)
    steady = bootstrap_interval(np.tile(row, (5, 1)))
    rng = np.random.default_rng(0)
    shaky = bootstrap_interval(
        np.stack([np.where(rng.random(400) < p, 1.0, 0.0) for p in (0.3, 0.4, 0.5, 0.6, 0.7)])
    )
    assert shaky.high - shaky.low > 1.5 * (steady.high - steady.low)


def test_one_seed_given_as_a_table_equals_one_seed_given_as_a_row():
    values, groups = families(np.random.default_rng(4))
    np.testing.assert_allclose(bootstrap_interval(values[None], groups), bootstrap_interval(values, groups))


def test_the_order_of_the_rows_does_not_matter():
    values, groups = families(np.random.default_rng(5))
    order = np.random.default_rng(6).permutation(len(values))
    np.testing.assert_allclose(
        bootstrap_interval(values, groups), bootstrap_interval(values[order], groups[order]), atol=1e-12
    )


def test_a_paired_interval_is_shorter_than_the_difference_of_two():
    values, groups = families(np.random.default_rng(7))
    worse = values.copy()
    worse[np.flatnonzero(values)[::10]] = 0
    paired, alone = paired_interval(values == 1, worse == 1, groups), bootstrap_interval(values, groups)
    assert paired.low > 0
    assert paired.high - paired.low < 0.7 * (alone.high - alone.low)


def test_a_class_missing_from_a_resample_is_left_out_and_not_counted_as_zero():
    values, groups, labels = np.ones(4), np.array([0, 1, 2, 3]), np.array([0, 0, 0, 1])
    assert bootstrap_interval(values, groups, labels=labels) == Interval(1.0, 1.0, 1.0)


@pytest.mark.parametrize("bad", [[], [np.nan, 1.0], np.ones((2, 2, 2))])
def test_values_that_have_no_mean_are_refused(bad):
    with pytest.raises(ValueError, match="values must be finite"):
        bootstrap_interval(bad)


def test_groups_and_pairs_of_another_length_are_refused():
    with pytest.raises(ValueError, match="groups must name one of each of the 3 rows"):
        bootstrap_interval([1, 0, 1], [1, 2])
    with pytest.raises(ValueError, match="same rows and seeds"):
        paired_interval([1, 0, 1], [1, 0])


def test_utilisation_is_none_when_the_other_modality_alone_does_as_well():
    assert conditional_utilisation(0.8, 0.8) == 0
    assert conditional_utilisation(0.8, 0.6) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="above 0"):
        conditional_utilisation(0.0, 0.1)


def test_an_interval_prints_its_figure_and_its_ends():
    assert str(Interval(0.1234, 0.2, 0.3)) == "0.200 [0.123, 0.300]"
