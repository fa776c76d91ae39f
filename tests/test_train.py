"""Profile, budget, device, seeds and batches."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmteach import train


@pytest.mark.parametrize("name", train.PROFILES)
def test_the_variable_chooses_the_profile(monkeypatch, name):
    monkeypatch.setenv("MMTEACH_PROFILE", f" {name.upper()} ")
    assert train.profile() == name


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "gpu"), (False, "cpu")])
def test_without_the_variable_the_machine_decides(monkeypatch, has_gpu, expected):
    monkeypatch.delenv("MMTEACH_PROFILE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert train.profile() == expected


def test_an_unknown_profile_is_refused_with_the_choices(monkeypatch):
    monkeypatch.setenv("MMTEACH_PROFILE", "fast")
    with pytest.raises(ValueError, match=r"'fast'.*smoke, cpu, gpu"):
        train.profile()


@pytest.mark.parametrize(("name", "expected"), [("smoke", 1), ("cpu", 2), ("gpu", 3)])
def test_the_budget_follows_the_profile(monkeypatch, name, expected):
    monkeypatch.setenv("MMTEACH_PROFILE", name)
    assert train.budget(smoke=1, cpu=2, gpu=3) == expected


@pytest.mark.parametrize("name", ["smoke", "cpu"])
def test_a_gpu_is_left_alone_unless_the_profile_asks_for_it(monkeypatch, name):
    monkeypatch.setenv("MMTEACH_PROFILE", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert train.device() == torch.device("cpu")


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_the_gpu_profile_takes_the_gpu_if_there_is_one(monkeypatch, has_gpu, expected):
    monkeypatch.setenv("MMTEACH_PROFILE", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert train.device() == torch.device(expected)


def test_one_seed_repeats_all_three_generators_and_the_one_it_returns():
    def draw() -> list[float]:
        generator = train.seed_everything(7)
        old_numpy = float(np.random.rand())  # noqa: NPY002 - scikit-learn draws from it
        return [random.random(), old_numpy, float(torch.rand(())), float(torch.rand((), generator=generator))]

    assert draw() == draw()


@given(count=st.integers(1, 30), batch_size=st.integers(1, 40), steps=st.integers(0, 12))
def test_every_epoch_holds_each_index_once(count, batch_size, steps):
    drawn = list(train.batches(count, batch_size, steps, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in drawn] == [batch_size] * steps
    indices = torch.cat(drawn).tolist() if drawn else []
    for start in range(0, len(indices) - count + 1, count):
        assert sorted(indices[start : start + count]) == list(range(count))


def test_batches_repeat_with_the_seed_and_change_with_it():
    orders = [
        torch.cat(list(train.batches(50, 10, 10, torch.Generator().manual_seed(seed)))) for seed in (1, 1, 2)
    ]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0][:50], orders[0][50:]), "the second epoch has an order of its own"


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (4, 0)])
def test_batches_of_nothing_are_refused(count, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        next(train.batches(count, batch_size, 1, torch.Generator()))


def test_drawn_batches_follow_the_odds_and_repeat_with_the_seed():
    odds = torch.tensor([0.0, 1.0, 3.0])
    drawn = [
        list(train.drawn_batches(odds, 100, 40, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    ]
    counts = torch.bincount(torch.cat(drawn[0]), minlength=3)
    assert counts[0] == 0
    assert abs(int(counts[2]) - 3000) < 4 * 28  # four standard deviations of 4,000 draws at 3/4
    assert torch.equal(torch.stack(drawn[0]), torch.stack(drawn[1]))
    assert not torch.equal(torch.stack(drawn[0]), torch.stack(drawn[2]))


@pytest.mark.parametrize("odds", [[], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [[1.0]]])
def test_odds_that_cannot_be_drawn_by_are_refused(odds):
    with pytest.raises(ValueError, match="odds of at least 0"):
        next(train.drawn_batches(torch.tensor(odds), 4, 1, torch.Generator()))


def test_one_thread_lasts_as_long_as_the_block_and_no_longer_even_when_it_fails():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), train.one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# Muon


def some_matrix(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_an_evened_out_matrix_keeps_its_directions_and_has_singular_values_about_one(shape, monkeypatch):
    monkeypatch.setattr(train, "fast_bfloat16", lambda: False)
    matrix = some_matrix(*shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ train.even_out(matrix) @ v.T
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.3
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4  # float32 over five rounds


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_muon_moves_as_torchs_does_to_the_precision_of_bfloat16(shape):
    ours, theirs = (torch.nn.Parameter(some_matrix(*shape)) for _ in range(2))
    settings = {"lr": 0.05, "weight_decay": 0.1}
    optimizers = (train.Muon([ours], **settings), torch.optim.Muon([theirs], **settings))
    for number in range(4):
        gradient = some_matrix(*shape) + number * some_matrix(shape[0], shape[1]).flip(0)
        for matrix, optimizer in zip((ours, theirs), optimizers, strict=True):
            matrix.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - some_matrix(*shape)).abs().max()
    assert (ours - theirs).abs().max() < 0.02 * moved  # bfloat16 keeps eight bits


@pytest.mark.parametrize(("fast", "kind"), [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_multiplies_in_bfloat16_only_where_that_is_fast(monkeypatch, fast, kind):
    seen = []
    real = torch.addmm
    monkeypatch.setattr(train, "fast_bfloat16", lambda: fast)
    monkeypatch.setattr(
        torch, "addmm", lambda x, *rest, **more: seen.append(x.dtype) or real(x, *rest, **more)
    )
    assert train.even_out(some_matrix(4, 6)).dtype == torch.float32
    assert set(seen) == {kind}


def test_muon_leaves_a_matrix_without_a_gradient_alone():
    matrix = torch.nn.Parameter(some_matrix(3, 4))
    train.Muon([matrix], lr=1.0).step()
    assert torch.equal(matrix, some_matrix(3, 4))
