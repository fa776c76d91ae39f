"""Distances between sets of pictures: closed forms, slow references, peers, and copies that must be found."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import without_vision_ops
from scipy.linalg import sqrtm
from torch import nn

from mmteach import distances, encoders, metrics, report
from mmteach.distances import neighbours
from mmteach.feature_net import NAME
from mmteach.metrics import (
    classification_accuracy_score,
    frechet_distance,
    kernel_distance,
    memorisation,
    precision_recall_density_coverage,
)


def normal(seed, count=200, dim=8, mean=0.0, scale=1.0):
    """Draw (count, dim) from a Gaussian."""
    return np.random.default_rng(seed).normal(mean, scale, (count, dim))


def with_moments(mean, root, count=200, seed=0):
    """Rows whose sample mean and sample covariance are exactly `mean` and root @ root.T."""
    z = normal(seed, count, len(mean))
    z = z - z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(z, rowvar=False)))).T
    return mean + z @ root.T


ROOT = np.random.default_rng(5).normal(size=(3, 3))


# Fréchet distance


def test_the_frechet_distance_of_two_gaussians_is_the_closed_form():
    other = np.random.default_rng(6).normal(size=(3, 3))
    a, b = with_moments(np.zeros(3), ROOT), with_moments(np.array([1.0, 2.0, -2.0]), other, seed=1)
    cross = sqrtm(ROOT @ ROOT.T @ other @ other.T)  # the formula as it is printed, complex root and all
    expected = 9 + np.trace(ROOT @ ROOT.T + other @ other.T - 2 * cross.real)
    # sqrtm itself is good to about 1e-8 of the trace.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_in_one_dimension_it_is_the_difference_of_means_and_of_deviations_squared():
    a, b = with_moments(np.zeros(1), np.eye(1)), with_moments(np.full(1, 3.0), 2 * np.eye(1), seed=1)
    assert frechet_distance(a, b) == pytest.approx(3**2 + (2 - 1) ** 2)


def test_a_set_is_at_no_distance_from_itself_in_any_order():
    a = normal(0)
    order = np.random.default_rng(1).permutation(len(a))
    assert frechet_distance(a, a[order]) == pytest.approx(0, abs=1e-9)
    assert (
        kernel_distance(a, a[order])[0] < 0
    )  # the unbiased estimate leaves out the pairs that would make it 0


def test_moving_a_set_adds_the_square_of_the_way():
    a = normal(0)
    assert frechet_distance(a, a + 2.0) == pytest.approx(8 * 4)


def test_the_frechet_distance_falls_with_the_number_of_rows_of_like_sets_as_one_over_n():
    def mean(count):
        pairs = [(normal(seed, count), normal(1000 + seed, count)) for seed in range(60)]
        return np.mean([frechet_distance(*pair) for pair in pairs])

    # Twice the rows, half the bias; the mean over 60 draws is good to about 3 % for each.
    assert mean(150) / mean(300) == pytest.approx(2, rel=0.15)


def test_fewer_rows_than_dimensions_give_a_finite_distance():
    assert np.isfinite(frechet_distance(normal(0, 10, 64), normal(1, 12, 64)))


# Kernel distance


def slow_kernel_distance(a, b):
    """Sum over pairs, one by one."""

    def kernel(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    def within(rows):
        return np.mean(
            [kernel(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        )

    return within(a) + within(b) - 2 * np.mean([kernel(x, y) for x in a for y in b])


def test_the_kernel_distance_agrees_with_a_sum_over_pairs():
    a, b = normal(0, 17, 5), normal(1, 23, 5, mean=0.3)
    assert kernel_distance(a, b)[0] == pytest.approx(slow_kernel_distance(a, b))


def test_its_standard_error_agrees_with_leaving_out_each_row_in_turn():
    a, b = normal(0, 12, 4), normal(1, 9, 4, mean=0.5)
    without_a = [slow_kernel_distance(np.delete(a, i, 0), b) for i in range(len(a))]
    without_b = [slow_kernel_distance(a, np.delete(b, j, 0)) for j in range(len(b))]
    expected = np.sqrt(11 * np.var(without_a) + 8 * np.var(without_b))
    assert kernel_distance(a, b)[1] == pytest.approx(expected)


def test_over_many_draws_of_like_sets_it_is_zero_on_average():
    values = np.array([kernel_distance(normal(s, 40), normal(9000 + s, 60))[0] for s in range(500)])
    # A biased estimate would be off by the mean diagonal over n, about 0.2; the mean's own error is 0.003 or so.
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values)) < 0.02


@pytest.mark.parametrize(("mean", "widest"), [(1.0, 1.15), (0.0, 1.7)])
def test_its_standard_error_is_that_of_fresh_draws_and_never_too_small(mean, widest):
    drawn = [kernel_distance(normal(s, 80), normal(9000 + s, 90, mean=mean)) for s in range(300)]
    values, errors = np.array(drawn).T
    # 300 draws give the spread to 4 %; of like sets the jackknife overstates it by the root of 2, as documented.
    assert 0.88 < np.sqrt(np.mean(errors**2)) / values.std() < widest


def test_with_subsets_it_is_the_mean_over_them_and_their_spread_over_the_root_of_their_number():
    a, b = normal(0, 100), normal(1, 120, mean=0.5)
    value, error = kernel_distance(a, b, subsets=200, subset_size=30)
    whole, honest = kernel_distance(a, b)
    assert value == pytest.approx(whole, abs=4 * error)
    assert 0 < error < honest
    assert kernel_distance(a, b, subsets=200, subset_size=30) == (value, error)


def test_one_subset_of_all_rows_is_the_estimate_from_all_rows_with_an_error():
    a, b = normal(0, 50), normal(1, 50)
    value, error = kernel_distance(a, b, subsets=1, subset_size=50)
    assert (value, error) == kernel_distance(a, b)
    assert error > 0
    assert kernel_distance(a, b, subsets=100, subset_size=1000) == (
        value,
        error,
    )  # no more rows than there are


# Precision, recall, density, coverage


def slow_shares(real, fake, k):
    """The four definitions, point by point."""

    def reach(rows, i):
        return sorted(np.linalg.norm(rows - rows[i], axis=1))[k]

    inside = np.array(
        [
            [np.linalg.norm(real[i] - fake[j]) < reach(real, i) for j in range(len(fake))]
            for i in range(len(real))
        ]
    )
    back = [
        any(np.linalg.norm(real[i] - fake[j]) < reach(fake, j) for j in range(len(fake)))
        for i in range(len(real))
    ]
    return {
        "precision": inside.any(0).mean(), "recall": np.mean(back),
        "density": inside.sum() / (k * len(fake)), "coverage": inside.any(1).mean(),
    }  # fmt: skip


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_four_shares_agree_with_their_definitions_point_by_point(k):
    real, fake = normal(0, 30, 3), normal(1, 24, 3, mean=0.4, scale=0.8)
    assert precision_recall_density_coverage(real, fake, k) == pytest.approx(slow_shares(real, fake, k))


def test_equal_sets_are_precise_recalled_covered_and_of_density_one():
    a = normal(0)
    expected = {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    assert precision_recall_density_coverage(a, a.copy()) == pytest.approx(expected)


def test_sets_far_apart_have_none_of_the_four():
    assert set(precision_recall_density_coverage(normal(0), normal(1) + 100).values()) == {0.0}


def test_a_collapsed_set_keeps_precision_and_loses_recall_and_coverage():
    real = normal(0)
    found = precision_recall_density_coverage(real, np.repeat(real[:1], 100, axis=0))
    assert found["precision"] == 1
    assert found["recall"] == 0 and found["coverage"] < 0.1


def test_density_is_one_on_average_for_like_sets():
    found = [precision_recall_density_coverage(normal(s), normal(500 + s))["density"] for s in range(30)]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / np.sqrt(30))


# What holds for all


ALL = (frechet_distance, kernel_distance, precision_recall_density_coverage)


@pytest.mark.parametrize("metric", ALL)
def test_neither_the_order_of_rows_nor_their_turning_matters(metric):
    a, b = normal(0, 90), normal(1, 80, mean=0.2)
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    expected = metric(a, b)
    assert metric(rng.permutation(a), rng.permutation(b)) == pytest.approx(expected)
    assert metric(a @ turn, b @ turn) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ALL)
def test_a_table_of_pairs_cut_into_pieces_gives_the_same(metric, monkeypatch):
    a, b = normal(0, 90), normal(1, 80, mean=0.2)
    expected = metric(a, b)
    monkeypatch.setattr(distances, "CHUNK", 700)
    assert metric(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ALL)
def test_float32_features_are_summed_in_double(metric):
    a, b = normal(0).astype(np.float32), normal(1, mean=0.2).astype(np.float32)
    assert metric(a, b) == pytest.approx(metric(a.astype(np.float64), b.astype(np.float64)))


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            normal(0, dim=3),
            normal(1, dim=4),
            r"need features \(N, D\) and \(M, D\), got \(200, 3\) and \(200, 4\)",
        ),
        (normal(0)[0], normal(1), r"got \(8,\)"),
        (normal(0, 1), normal(1), "need at least . rows of each, got 1 and 200"),
        (np.full((20, 8), np.nan), normal(1), "features must be finite"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(metric, a, b, message):
    with pytest.raises(ValueError, match=message):
        metric(a, b)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        precision_recall_density_coverage(normal(0), normal(1), k=0)
    with pytest.raises(ValueError, match="need at least 11 rows of each, got 10 and 200"):
        precision_recall_density_coverage(normal(0, 10), normal(1), k=10)
    with pytest.raises(ValueError, match="at least one subset"):
        kernel_distance(normal(0), normal(1), subsets=0)


def test_nearest_neighbours_are_those_of_a_full_search_and_copies_are_at_zero():
    points, among = (
        normal(0, 30, 40) + 50,
        normal(1, 70, 40) + 50,
    )  # far from the origin, where products round
    points[3] = among[9]
    far, places = neighbours(points, among, 4)
    table = np.linalg.norm(points[:, None] - among, axis=2)
    np.testing.assert_array_equal(places, np.argsort(table, axis=1)[:, :4])
    np.testing.assert_allclose(far, np.sort(table, axis=1)[:, :4], rtol=1e-12)
    assert far[3, 0] == 0 and places[3, 0] == 9


# Peers


class Already(nn.Module):
    """An extractor of features that are features already."""

    num_features = 8

    def forward(self, x):
        return x


def torchmetrics_classes():
    """The Fréchet and the kernel distance of torchmetrics, which read the features of any extractor."""
    without_vision_ops.declare()
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    return FrechetInceptionDistance, KernelInceptionDistance


def filled(metric, real, fake):
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return metric.compute()


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.5, 1.5), (3.0, 0.1)])
def test_frechet_and_kernel_distance_agree_with_torchmetrics(mean, scale):
    fid, kid = torchmetrics_classes()
    real, fake = normal(0), normal(1, mean=mean, scale=scale)
    theirs = filled(fid(feature=Already()).set_dtype(torch.float64), real, fake)
    assert frechet_distance(real, fake) == pytest.approx(float(theirs), rel=1e-3)
    theirs, _ = filled(kid(feature=Already(), subsets=1, subset_size=len(real)), real, fake)
    assert kernel_distance(real, fake)[0] == pytest.approx(float(theirs), rel=1e-3)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.5, 1.5), (1.0, 0.3)])
@pytest.mark.parametrize("k", [3, 5])
def test_the_four_shares_agree_with_prdc(mean, scale, k, capsys):
    prdc = pytest.importorskip("prdc")
    real, fake = normal(0, 150), normal(1, 170, mean=mean, scale=scale)
    theirs = prdc.compute_prdc(real, fake, nearest_k=k)
    assert precision_recall_density_coverage(real, fake, k) == pytest.approx(theirs, rel=1e-3)


# Copies


@pytest.fixture
def three():
    """Samples, training and held-out features, all drawn alike."""
    return normal(0, 150, 16), normal(1, 400, 16), normal(2, 120, 16)


def test_fresh_samples_are_no_copies(three):
    found = memorisation(*three)
    assert found.passed
    assert found.held_out.low < 1 < found.held_out.high
    assert found.ratio == pytest.approx(1, abs=0.05)
    assert len(found.flagged) == 0 and found.expected == 0


def test_planted_copies_are_flagged_with_what_they_copy_and_nothing_else_is(three):
    samples, train, held_out = three
    samples[10] = train[7]
    samples[20] = train[300] + 0.02 * normal(3, 1, 16)[0]
    found = memorisation(samples, train, held_out)
    assert found.flagged.tolist() == [10, 20]
    assert found.sources.tolist() == [7, 300]
    assert found.passed  # two in 150 leave the mean alone: why single samples are looked at


def test_a_generator_that_only_repeats_fails(three):
    _, train, held_out = three
    found = memorisation(train[:100] + 0.3 * normal(4, 100, 16), train, held_out)
    assert not found.passed and found.ratio < 0.5
    assert len(memorisation(train[:100], train, held_out).flagged) == 100


def test_the_distance_to_the_nearest_is_compared_with_that_of_held_out_pictures(three):
    samples, train, held_out = three
    table = [np.linalg.norm(train[:, None] - rows, axis=2).min(0).mean() for rows in (samples, held_out)]
    assert memorisation(*three).ratio == pytest.approx(table[0] / table[1])


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_a_copy_is_flagged_in_pixels_too(size, channels):
    def noise(seed, count):
        shape = (count, size, size, channels)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    samples, train, held_out = noise(0, 20), noise(1, 60), noise(2, 30)
    samples[4] = train[11]
    found = memorisation(samples, train, held_out)
    assert found.flagged.tolist() == [4] and found.sources.tolist() == [11]


def test_families_of_held_out_pictures_widen_the_interval(three):
    samples, train, held_out = three
    twice = np.repeat(held_out, 4, axis=0)
    alone = memorisation(samples, train, twice).held_out
    together = memorisation(samples, train, twice, groups=np.repeat(np.arange(120), 4)).held_out
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_held_out_pictures_that_are_training_pictures_are_refused(three):
    samples, train, _ = three
    with pytest.raises(ValueError, match="every held-out picture is a training picture"):
        memorisation(samples, train, train[:50])


def test_the_search_for_copies_refuses_sets_that_do_not_fit(three):
    samples, train, held_out = three
    with pytest.raises(ValueError, match="need features"):
        memorisation(samples[:, :3], train, held_out)
    with pytest.raises(ValueError, match="more than k training rows, got k=10 and 8 rows"):
        memorisation(samples, train[:8], held_out)


def test_what_was_found_reads_as_a_sentence(three):
    said = str(memorisation(*three))
    assert "of that of held-out ones" in said and "0 flagged as copies" in said


# Classification accuracy score


def coloured(seed, count=240):
    """Pictures of three classes, told apart by their colour alone: (pictures, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pictures = rng.integers(150, 256, (count, 32, 32, 3))
    pictures[np.arange(count), :, :, labels] -= 120
    return pictures.astype(np.uint8), labels


@pytest.fixture
def small_nets(monkeypatch):
    """Classifiers a quarter as wide, on smaller batches: these pictures are easy."""
    smaller = partial(encoders.train_picture_net, width=8, batch_size=48)
    monkeypatch.setattr(encoders, "train_picture_net", smaller)


@pytest.mark.usefixtures("small_nets")
def test_good_pictures_teach_and_wrongly_labelled_ones_do_not():
    fake, labels = coloured(0)
    real, truth = coloured(1)
    good = classification_accuracy_score(fake, labels, real, truth, steps=40)
    assert good.mean > 0.9 and good.low <= good.mean <= good.high
    assert classification_accuracy_score(fake, (labels + 1) % 3, real, truth, steps=40).mean < 0.1


@pytest.mark.usefixtures("small_nets")
def test_grey_pictures_of_another_size_are_judged_too():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pictures = (rng.integers(0, 90, (60, 28, 28, 1)) + 160 * labels[:, None, None, None]).astype(np.uint8)
    assert classification_accuracy_score(pictures, labels, pictures, labels, steps=40).mean > 0.9


def test_classes_and_labels_that_do_not_fit_are_refused():
    fake, labels = coloured(0, 12)
    with pytest.raises(ValueError, match="12 generated and 12 real pictures, but 11 and 12 labels"):
        classification_accuracy_score(fake, labels[:11], fake, labels)
    with pytest.raises(ValueError, match="no generated picture of class 2"):
        classification_accuracy_score(fake[labels < 2], labels[labels < 2], fake, labels)


# The report


def test_every_figure_comes_with_the_network_and_the_floor():
    found = report.report(normal(0), normal(1, mean=0.3), network="some-net-3", halvings=4)
    lines = str(found).splitlines()[1:]
    assert [line.split()[0] for line in lines] == [
        *("frechet", "kernel", "precision", "recall", "density", "coverage")
    ]
    assert all("some-net-3" in line and "real against real" in line for line in lines)
    assert "±" in lines[1]


def test_pictures_are_read_by_our_own_network_whose_name_is_given():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    found = report.report(pictures, pictures[::-1], halvings=2, train=pictures, held_out=255 - pictures)
    assert found.network == NAME
    assert found.figures["frechet"] == pytest.approx(0, abs=1e-6)
    assert len(found.copies.flagged) == 30
    assert str(found).count(NAME) == 7


def test_the_floor_is_what_like_sets_of_these_sizes_give():
    real, count = normal(0, 300), 500
    floor = report.real_floor(real, count, halvings=20)
    fresh = [report.compare(normal(s, 300), normal(99 + s, count))[0] for s in range(20)]
    # Halves of 150 are scaled to 300 against 500; what is left of the law at 8 dimensions is within a tenth.
    assert floor["frechet"].mean == pytest.approx(np.mean([f["frechet"] for f in fresh]), rel=0.1)
    spread = np.std([f["kernel"] for f in fresh])
    assert floor["kernel"].high - floor["kernel"].low == pytest.approx(3.5 * spread, rel=0.6)
    assert abs(floor["kernel"].mean) < spread
    assert floor["density"].mean == pytest.approx(1, abs=0.05)


def test_features_without_a_name_and_pictures_with_one_are_refused():
    with pytest.raises(ValueError, match="name the network"):
        report.report(normal(0), normal(1))
    with pytest.raises(ValueError, match="pictures are read by our own"):
        report.report(np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32, 3), np.uint8), network="x")
    with pytest.raises(ValueError, match="both train and held_out"):
        report.report(normal(0), normal(1), network="x", train=normal(2))


def test_metrics_offers_the_distances_under_its_own_name():
    assert metrics.frechet_distance is distances.frechet_distance
    assert metrics.kernel_distance is distances.kernel_distance
    assert metrics.precision_recall_density_coverage is distances.precision_recall_density_coverage
