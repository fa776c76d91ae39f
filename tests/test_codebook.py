"""Codebook and FSQ: against a slow reference, against known defects of other code, gradients, state, processes."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from mmteach.codebook import FSQ, Codebook, Rules, k_means
from mmteach.solutions import commitment_loss, ema_codebook, nearest_code, perplexity, straight_through

torch.set_num_threads(1)
INITS = ("rows", "kmeans")


def clusters(seed: int = 1, count: int = 256, dim: int = 64, noise: float = 0.1):
    """Return a source of batches z_e (1, D, 1, N): points around `count` fixed centres.

    The seed is not that of the codebooks here, whose random codes would else lie on the centres from the start.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, dim, generator=generator)

    def batch(rows: int = 2048) -> Tensor:
        points = centres[torch.randint(count, (rows,), generator=generator)]
        return (points + noise * torch.randn(rows, dim, generator=generator)).T.reshape(1, dim, 1, rows)

    return batch


def buffers(book: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of every buffer."""
    return {name: each.clone() for name, each in book.named_buffers()}


# The five rules, against loops


def test_the_nearest_code_is_what_a_loop_finds():
    rows, codes = torch.randn(50, 7), torch.randn(9, 7)
    slow = [min(range(9), key=lambda k, row=row: float(((row - codes[k]) ** 2).sum())) for row in rows]
    assert nearest_code(rows, codes).tolist() == slow


def test_perplexity_is_one_for_one_code_and_k_for_k_equal_ones_whatever_the_total():
    assert float(perplexity(torch.tensor([0.0, 9.0, 0.0]))) == pytest.approx(1)
    assert float(perplexity(torch.full((8,), 3.0))) == pytest.approx(8)
    counts = torch.tensor([1.0, 2.0, 3.0, 0.0])
    torch.testing.assert_close(perplexity(counts), perplexity(10 * counts))


def slow_step(codes, count, total, rows, decay):
    """Return (count, total) after one moving-average step, one row and one code at a time."""
    used, sums = [0.0] * len(codes), [[0.0] * codes.shape[1] for _ in codes]
    for row in rows.tolist():
        k = min(
            range(len(codes)),
            key=lambda k: sum((a - b) ** 2 for a, b in zip(row, codes[k].tolist(), strict=True)),
        )
        used[k] += 1
        sums[k] = [a + b for a, b in zip(sums[k], row, strict=True)]
    return decay * count + (1 - decay) * torch.tensor(used), decay * total + (1 - decay) * torch.tensor(sums)


def test_the_codebook_moves_as_a_loop_over_rows_and_codes_says():
    torch.manual_seed(0)
    book, batch = Codebook(8, 3, decay=0.9, restart=0), clusters(count=8, dim=3)
    book(batch(64))
    for _ in range(3):
        z_e = batch(64)
        count, total = slow_step(book.codes, book.count, book.total, z_e.reshape(3, -1).T, 0.9)
        book(z_e)
        torch.testing.assert_close(book.count, count, rtol=1e-5, atol=1e-6)  # the order of additions
        torch.testing.assert_close(book.total, total, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(book.codes, total / count[:, None], rtol=1e-4, atol=1e-5)


def test_k_means_lowers_the_error_as_far_as_scikit_learn_from_the_same_start():
    rows = clusters(count=6, dim=4, noise=0.5)(300).reshape(4, -1).T.contiguous()
    ours = k_means(rows, rows[:6], rounds=50)
    theirs = KMeans(6, init=rows[:6].numpy(), n_init=1, max_iter=50, tol=0).fit(rows.numpy()).cluster_centers_
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)  # float32 sums


# Defects 1 to 4 of well-known code


@pytest.mark.parametrize("init", INITS)
def test_after_one_step_no_code_is_long_and_no_code_is_lost(init):
    torch.manual_seed(0)
    book, batch = Codebook(512, 64, init=init), clusters()
    book._start(batch().reshape(64, -1).T)
    probe = batch()
    before = len(book.assign(probe).unique())
    book(z_e := batch())
    assert book.codes.norm(dim=1).max() <= 3 * z_e.square().sum(1).sqrt().max()
    assert (
        len(book.assign(probe).unique()) >= 0.97 * before
    )  # two codes that share a cluster may change places


@pytest.mark.parametrize("init", INITS)
def test_by_step_100_the_codebook_is_used_as_evenly_as_the_clusters_allow(init):
    torch.manual_seed(0)
    book, batch = Codebook(512, 64, init=init), clusters()
    last = [float(book(batch()).perplexity) for _ in range(100)][-1]
    assert last >= 0.95 * 240  # 256 clusters seen through 2,048 draws


@pytest.mark.parametrize("init", INITS)
def test_repeating_the_batch_leaves_the_commitment_loss_and_the_perplexity_unchanged(init):
    torch.manual_seed(0)
    book, z_e = Codebook(16, 4, init=init), torch.randn(3, 4, 5, 5)
    book(z_e)
    book.eval()
    once, twice = book(z_e), book(torch.cat([z_e, z_e]))
    torch.testing.assert_close(once.commitment_loss, twice.commitment_loss)
    torch.testing.assert_close(once.perplexity, twice.perplexity)


def test_no_buffer_asks_for_a_gradient_and_a_used_codebook_can_be_copied():
    book = Codebook(16, 4)
    for _ in range(3):
        book(torch.randn(2, 4, 3, 3, requires_grad=True)).commitment_loss.backward()
    assert not any(each.requires_grad or each.grad_fn for each in book.buffers())
    twin = copy.deepcopy(book)
    z_e = torch.randn(2, 4, 3, 3)
    assert torch.equal(book.eval()(z_e).indices, twin.eval()(z_e).indices)


def test_memory_stays_flat_over_200_steps():
    book = Codebook(32, 8)

    def tensors_alive(steps: int) -> int:
        for _ in range(steps):
            book(torch.randn(4, 8, 4, 4, requires_grad=True)).commitment_loss.backward()
        gc.collect()
        return sum(type(each) is Tensor for each in gc.get_objects())

    early = tensors_alive(10)
    assert tensors_alive(190) <= early + 2


# Initialisation and restarts


@pytest.mark.parametrize("init", INITS)
def test_before_training_the_codes_come_from_the_first_batch_and_the_counts_from_their_assignment(init):
    torch.manual_seed(0)
    book, batch = Codebook(64, 8, init=init, decay=0, restart=0), clusters(count=20, dim=8)
    z_e = batch(500)
    rows = z_e.reshape(8, -1).T
    book._start(rows)
    if init == "rows":
        assert all((rows == code).all(1).any() for code in book.codes)
        assert len(book.codes.unique(dim=0)) == 64
    used = torch.bincount(nearest_code(rows, book.codes), minlength=64)
    torch.testing.assert_close(book.count, used.float().clamp_min(1e-3))
    torch.testing.assert_close(book.total, book.codes * book.count[:, None])


def test_kmeans_starts_with_less_error_than_random_rows():
    errors = {}
    for init in INITS:
        torch.manual_seed(0)
        book, z_e = Codebook(64, 8, init=init), clusters(count=300, dim=8, noise=0.3)(1500)
        errors[init] = float((book(z_e).z_q - z_e).square().mean())
    assert errors["kmeans"] < 0.9 * errors["rows"]


def test_a_batch_smaller_than_the_codebook_is_enough_to_start():
    book = Codebook(50, 3)
    out = book(torch.randn(1, 3, 2, 2))
    assert torch.isfinite(book.codes).all()
    assert float(out.commitment_loss) == 0  # every row is its own code


def test_a_dead_code_is_put_on_a_row_of_the_batch_with_count_and_sum_of_its_own():
    torch.manual_seed(0)
    book, batch = Codebook(4, 2, restart=0.1), clusters(count=4, dim=2)
    book(batch(100))
    book.codes[0] = book.total[0] = 1e4  # far from everything: nothing will choose it
    book.count[0] = 0
    rows = (z_e := batch(100)).reshape(2, -1).T
    book(z_e)
    assert (rows - book.codes[0]).abs().sum(1).min() < 1e-5  # the division by its count rounds
    torch.testing.assert_close(book.total[0], book.codes[0] * book.count[0])
    assert 0 < book.count[0] < book.count.mean()


def test_a_code_in_use_is_never_restarted():
    book, batch = Codebook(8, 4, restart=0.1), clusters(count=8, dim=4, noise=0.01)
    book.train()
    book._start(torch.cat([batch(64).reshape(4, -1).T for _ in range(4)]))
    centres = k_means(batch(512).reshape(4, -1).T, book.codes)
    book.codes.copy_(centres), book.count.fill_(8), book.total.copy_(centres * 8)
    used = nearest_code(batch(512).reshape(4, -1).T, centres).unique()
    for _ in range(20):
        book(batch(64))
    assert (book.codes[used] - centres[used]).norm(dim=1).max() < 0.1


def test_restarts_stand_on_rows_far_from_their_code_first():
    torch.manual_seed(0)
    book = Codebook(3, 1)
    near = 0.01 * torch.randn(1, 1, 1, 200)
    book(near)
    book.codes[0], book.count[0] = 1e4, 0.0
    book(torch.cat([near, torch.full((1, 1, 1, 4), 50.0)], dim=3))
    assert float(book.codes[0]) == pytest.approx(50, rel=1e-5)


# Precision, host, state


def test_under_autocast_codes_and_losses_stay_float32():
    torch.manual_seed(0)
    one, other = Codebook(16, 4), Codebook(16, 4)
    other.load_state_dict(one.state_dict())
    z_e = torch.randn(2, 4, 5, 5)
    torch.manual_seed(1)
    plain = one(z_e)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = other(z_e)
    assert cast.z_q.dtype == cast.commitment_loss.dtype == other.codes.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))
    assert one(z_e.bfloat16()).z_q.dtype == torch.float32


def test_after_the_first_step_the_host_never_asks_the_device(monkeypatch):
    book = Codebook(16, 4)
    z_e = torch.randn(2, 4, 5, 5, requires_grad=True)
    book(z_e)

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the host waited for the device")

    for name in (
        "item",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "tolist",
        "nonzero",
        "cpu",
        "numpy",
        "unique",
    ):
        monkeypatch.setattr(Tensor, name, asked)
    book(z_e).commitment_loss.backward()


def test_the_step_has_no_operator_whose_result_depends_on_the_values_in_shape():
    book = Codebook(16, 4)
    book(torch.randn(2, 4, 5, 5))
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        book(torch.randn(2, 4, 5, 5))
    waiting = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "is_nonzero",
        "bincount",
        "equal.default",
    )
    assert seen
    assert not [name for name in seen if any(each in name for each in waiting)]


def test_a_saved_and_loaded_codebook_goes_on_exactly_as_the_first():
    torch.manual_seed(0)
    book, batch = Codebook(32, 8), clusters(count=20, dim=8)
    for _ in range(5):
        book(batch(100))
    twin = Codebook(32, 8)
    twin.load_state_dict(book.state_dict())
    following = [batch(100) for _ in range(5)]
    for each in (book, twin):
        torch.manual_seed(1)
        for z_e in following:
            each(z_e)
    assert all(torch.equal(a, b) for a, b in zip(book.buffers(), twin.buffers(), strict=True))


def test_eval_changes_no_buffer_and_says_the_same_twice():
    book = Codebook(16, 4)
    book(torch.randn(2, 4, 5, 5))
    before, z_e = buffers(book.eval()), torch.randn(2, 4, 5, 5)
    first, second = book(z_e), book(z_e)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(before[name], each) for name, each in book.named_buffers())


# Gradients


def test_the_gradient_of_what_follows_reaches_z_e_as_it_is_at_z_q():
    book = Codebook(16, 4)
    book(torch.randn(2, 4, 5, 5))
    z_e, slope = torch.randn(2, 4, 5, 5, requires_grad=True), torch.randn(2, 4, 5, 5)
    (book.eval()(z_e).z_q * slope).sum().backward()
    assert torch.equal(z_e.grad, slope)


def test_straight_through_gives_the_value_of_one_and_the_gradient_of_the_other():
    z_e, z_q = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    out = straight_through(z_e, z_q)
    assert torch.equal(out, z_q)
    out.sum().backward()
    assert torch.equal(z_e.grad, torch.ones(5))
    assert z_q.grad is None


def test_the_commitment_loss_moves_z_e_towards_its_code_and_nothing_else():
    z_e, z_q = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    commitment_loss(z_e, z_q, 0.25).backward()
    torch.testing.assert_close(z_e.grad, 0.25 * 2 * (z_e - z_q).detach() / z_e.numel())
    assert z_q.grad is None


def test_beta_scales_the_commitment_loss_and_not_the_codes():
    out = {}
    for beta in (0.25, 1.0):
        torch.manual_seed(0)
        book = Codebook(16, 4, beta=beta)
        out[beta] = book(torch.randn(2, 4, 5, 5)), buffers(book)
    torch.testing.assert_close(out[1.0][0].commitment_loss, 4 * out[0.25][0].commitment_loss)
    assert all(torch.equal(out[1.0][1][name], out[0.25][1][name]) for name in out[1.0][1])


# The reader's own rules


def test_the_rules_of_the_reader_are_the_ones_that_run():
    called = []

    def noted(name, rule):
        return lambda *args: called.append(name) or rule(*args)

    plain = Rules()
    book = Codebook(16, 4, rules=Rules(*(noted(name, each) for name, each in plain._asdict().items())))
    torch.manual_seed(0)
    mine = book(z_e := torch.randn(2, 4, 5, 5))
    torch.manual_seed(0)
    book.assign(z_e)
    assert set(called) == set(plain._fields)
    assert torch.isfinite(mine.z_q).all()


def test_the_moving_average_changes_nothing_in_place():
    count, total = torch.ones(3), torch.ones(3, 2)
    ema_codebook(count, total, torch.zeros(3), torch.zeros(3, 2), 0.9)
    assert torch.equal(count, torch.ones(3))
    assert torch.equal(total, torch.ones(3, 2))


# Bad input


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 4, 4), (8, 4)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"z_e must be \(B, 4, H, W\)"):
        Codebook(16, 4)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"z_e must be \(B, 4, H, W\)"):
        FSQ((4, 4, 4, 4))(torch.zeros(shape))


@pytest.mark.parametrize("bad", [{"num_codes": 0}, {"dim": 0}, {"decay": 1.0}, {"init": "zeros"}])
def test_wrong_settings_are_named(bad):
    with pytest.raises(ValueError, match=r"need num_codes|init must be"):
        Codebook(**{"num_codes": 4, "dim": 2} | bad)
    with pytest.raises(ValueError, match="level must be at least 2"):
        FSQ((8, 1))


# Several processes

TWO = """
import sys, torch, torch.distributed as dist
from mmteach.codebook import Codebook
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
if rank >= 0:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
for init in ("rows", "kmeans"):
    torch.manual_seed(0 if rank < 1 else 99)  # only the draws of process 0 may count
    book = Codebook(32, 4, init=init)
    source = torch.Generator().manual_seed(5)
    said = []
    for _ in range(6):
        z_e = torch.randn(8, 4, 5, 5, generator=source)
        out = book(z_e if rank < 0 else z_e[4 * rank : 4 * rank + 4])
        said.append(out.perplexity)
    torch.save({**book.state_dict(), "said": torch.stack(said)}, f"{folder}/{init}{rank}.pt")
if rank >= 0:  # a process that leaves while the other is still talking makes that one abort
    dist.barrier()
    dist.destroy_process_group()
"""


def test_two_processes_with_half_a_batch_each_learn_what_one_learns_from_the_whole(tmp_path: Path):
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", TWO]
    runs = [subprocess.Popen([*line, str(rank), str(tmp_path)], env=env) for rank in (-1, 0, 1)]
    assert [run.wait(timeout=240) for run in runs] == [0, 0, 0]
    for init in INITS:
        whole, first, second = (torch.load(tmp_path / f"{init}{rank}.pt") for rank in (-1, 0, 1))
        for name, each in whole.items():
            assert torch.equal(first[name], second[name]), name
            torch.testing.assert_close(first[name], each, rtol=1e-4, atol=1e-5)  # halves add in another order


# FSQ


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2, 3), (4,), (7, 7, 7)])
def test_fsq_values_are_exactly_the_levels_and_every_code_goes_there_and_back(levels):
    fsq = FSQ(levels)
    everything = torch.arange(fsq.num_codes).view(-1, 1, 1)
    points = fsq.lookup(everything)
    assert fsq.num_codes == int(np.prod(levels))
    assert len(points.flatten(1).unique(dim=0)) == fsq.num_codes
    for channel, count in enumerate(levels):
        assert len(points[:, channel].unique()) == count
    wide = fsq(torch.randn(64, len(levels), 9, 9) * 3)
    assert torch.equal(fsq.lookup(wide.indices), wide.z_q)
    assert wide.z_q.abs().max() <= 1
    for channel, count in enumerate(levels):
        assert len(wide.z_q[:, channel].unique()) == count


def test_fsq_passes_the_gradient_of_its_bound_and_has_nothing_to_learn():
    fsq, z_e = FSQ((5, 5)), torch.randn(2, 2, 3, 3, requires_grad=True)
    out = fsq(z_e)
    out.z_q.sum().backward()
    assert (z_e.grad > 0).all()  # squashing is monotone, rounding passes straight through
    assert float(out.commitment_loss) == 0
    assert not list(fsq.parameters())
    assert torch.equal(fsq.assign(z_e), out.indices)


def test_a_state_that_had_not_started_makes_the_codebook_start_from_data_again():
    fresh, book, batch = Codebook(16, 64), Codebook(16, 64), clusters()
    book(batch())
    book.load_state_dict(fresh.state_dict())
    book(batch())
    assert bool(book.started)
    assert not torch.equal(book.codes, fresh.codes)
    assert (book.codes[:, None] - fresh.codes).norm(dim=2).min() > 1  # none is left of the random start
