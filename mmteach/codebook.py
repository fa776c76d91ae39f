"""Quantizers: a codebook learned by moving averages, and FSQ, a grid that needs none.

Built in notebook 05, whose exercises are the five functions imported from `solutions`. Follows van den Oord et al.
2017 (arXiv:1711.00937) and Mentzer et al. 2023 (2309.15505).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmteach.solutions import commitment_loss, ema_codebook, nearest_code, perplexity, straight_through


class Quantized(NamedTuple):
    """What a quantizer returns: z_q (B, D, H, W), indices int64 (B, H, W), and two scalars."""

    z_q: Tensor
    indices: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class Rules(NamedTuple):
    """The five rules a codebook lives by; notebook 05 puts the reader's own in their place."""

    nearest: Callable[[Tensor, Tensor], Tensor] = nearest_code
    estimator: Callable[[Tensor, Tensor], Tensor] = straight_through
    commitment: Callable[[Tensor, Tensor, float], Tensor] = commitment_loss
    ema: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]] = ema_codebook
    usage: Callable[[Tensor], Tensor] = perplexity


RULES = Rules()


def k_means(rows: Tensor, start: Tensor, rounds: int = 10) -> Tensor:
    """Return (K, D) centres after `rounds` of Lloyd's algorithm on rows (N, D) from `start` (K, D).

    An empty centre stays where it is.
    """
    centres = start
    for _ in range(rounds):
        nearest = nearest_code(rows, centres)
        count, total = _tally(rows, nearest, len(centres))
        centres = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centres)
    return centres


def _tally(rows: Tensor, indices: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """Return how many of `rows` (N, D) each code was given by `indices` (N,), float (K,), and their sums (K, D)."""
    count = rows.new_zeros(num_codes).index_add_(0, indices, rows.new_ones(len(rows)))
    return count, rows.new_zeros(num_codes, rows.shape[1]).index_add_(0, indices, rows)


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _summed(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over all processes."""
    if _processes() > 1:
        dist.all_reduce(tensor)
    return tensor


def _gathered(rows: Tensor) -> Tensor:
    """Return the rows (N, D) of all processes, one below the other; each must have as many."""
    if _processes() == 1:
        return rows
    every = [torch.empty_like(rows) for _ in range(_processes())]
    dist.all_gather(every, rows.contiguous())
    return torch.cat(every)


def _pick(chance: Tensor, count: int) -> Tensor:
    """Return int64 (count,): rows drawn with chances in proportion to `chance` (N,), each once while they last.

    The rows with the largest chance / Exp(1) are such a draw (Efraimidis & Spirakis 2006), and no host is asked.
    Process 0 draws for all.
    """
    luck = chance / torch.empty_like(chance).exponential_().clamp_min(1e-30)
    order = luck.topk(min(count, len(luck))).indices
    if _processes() > 1:
        dist.broadcast(order, 0)
    return order.repeat(-(-count // len(order)))[:count]


class Codebook(nn.Module):
    """A codebook learned by exponential moving averages, with dead codes restarted.

    The first batch gives the codes (`init`: 'rows', random ones, or 'kmeans') and, from the same assignment, counts
    and sums, so that no ratio of the two is ever off. A code whose count falls under `restart` times the mean count is
    put on a row of the current batch, rows far from their code first, and must then win rows to stay. After the first
    batch nothing waits for the device, and every process ends with the same codes.
    Source: van den Oord et al. 2017, equation 3 and appendix A.1; restarts as in Dhariwal et al. 2020
    (arXiv:2005.00341), the choice of rows as k-means++ seeds (Arthur & Vassilvitskii 2007).
    """

    codes: Tensor
    count: Tensor
    total: Tensor
    started: Tensor

    def __init__(
        self, num_codes: int, dim: int, decay: float = 0.99, *, beta: float = 0.25, restart: float = 0.1,
        init: str = "rows", rules: Rules = RULES,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_codes < 1 or dim < 1 or not 0 <= decay < 1:
            raise ValueError(
                f"need num_codes and dim of at least 1, decay in [0, 1); got {num_codes}, {dim}, {decay}"
            )
        if init not in ("rows", "kmeans"):
            raise ValueError(f"init must be 'rows' or 'kmeans', not {init!r}")
        self.num_codes, self.dim, self.decay = num_codes, dim, decay
        self.beta, self.restart, self.init, self.rules = beta, restart, init, rules
        self.register_buffer("codes", torch.randn(num_codes, dim))
        self.register_buffer("count", torch.ones(num_codes))
        self.register_buffer("total", self.codes.clone())
        self.register_buffer("started", torch.tensor(False))
        self._known_started = (
            False  # `started` as the host last saw it, so that no step has to ask the device
        )

    def extra_repr(self) -> str:
        """Return the settings, as `print` and a checkpoint name them."""
        settings = ("num_codes", "dim", "decay", "beta", "restart", "init")
        return ", ".join(f"{name}={getattr(self, name)}" for name in settings)

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantise z_e, float (B, D, H, W); in training also move the codes. Raises ValueError on a wrong D."""
        if z_e.ndim != 4 or z_e.shape[1] != self.dim:
            raise ValueError(f"z_e must be (B, {self.dim}, H, W), got {tuple(z_e.shape)}")
        with torch.autocast(z_e.device.type, enabled=False):
            z_e = z_e.float()
            rows = z_e.detach().permute(0, 2, 3, 1).reshape(-1, self.dim)
            if self.training:
                self._start(rows)
            indices = self.rules.nearest(rows, self.codes)
            shaped = indices.view(z_e.shape[0], *z_e.shape[2:])
            z_q = self.lookup(shaped)
            commitment = self.rules.commitment(z_e, z_q, self.beta)  # before the estimator hides z_q
            used, sums = _tally(rows, indices, self.num_codes)
            if self.training:
                used, sums = _summed(used), _summed(sums)
                self._update(rows, indices, used, sums)
            return Quantized(self.rules.estimator(z_e, z_q), shaped, commitment, self.rules.usage(used))

    def assign(self, z_e: Tensor) -> Tensor:
        """Return int64 (B, H, W): the nearest code at each place of z_e (B, D, H, W)."""
        rows = z_e.detach().float().permute(0, 2, 3, 1)
        return self.rules.nearest(rows.reshape(-1, self.dim), self.codes).view(rows.shape[:3])

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, H, W) of `indices` int64 (B, H, W); no gradient flows into them."""
        return self.codes[indices].permute(0, 3, 1, 2)

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        """Take the codes from the first batch, and counts and sums from the same assignment."""
        if self._known_started:
            return
        if not bool(self.started):  # the one question to the device in the life of a codebook
            rows = _gathered(rows)
            codes = rows[_pick(torch.ones_like(rows[:, 0]), self.num_codes)]
            codes = k_means(rows, codes) if self.init == "kmeans" else codes
            count, _ = _tally(rows, nearest_code(rows, codes), self.num_codes)
            self.codes.copy_(codes)
            self.count.copy_(count.clamp_min(1e-3))  # an unused code is kept a step, then restarted
            self.total.copy_(codes * self.count[:, None])
            self.started.fill_(True)
        self._known_started = True

    @torch.no_grad()
    def _update(self, rows: Tensor, indices: Tensor, used: Tensor, sums: Tensor) -> None:
        """Move counts and sums towards this batch, restart dead codes, and divide."""
        count, total = self.rules.ema(self.count, self.total, used, sums, self.decay)
        floor = self.restart * count.mean()
        dead = count < floor
        far = _gathered((rows - self.codes[indices]).square().sum(1))
        fresh = _gathered(rows)[_pick(far, self.num_codes)][(dead.cumsum(0) - 1).clamp_min(0)]
        # A restarted code counts for little at first, so that it is soon dead again if it wins no rows.
        self.count.copy_(torch.where(dead, 2 * floor, count))
        self.total.copy_(torch.where(dead[:, None], fresh * 2 * floor, total))
        used_ever = self.count[:, None] > 1e-12
        self.codes.copy_(torch.where(used_ever, self.total / self.count[:, None], self.codes))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_started = False


class FSQ(nn.Module):
    """Finite scalar quantization: each of D channels rounds to one of `levels[d]` values, and no codebook is learned.

    Source: Mentzer et al. 2023, section 3 and its appendix A.1.
    """

    base: Tensor
    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if min(levels) < 2:
            raise ValueError(f"every level must be at least 2, got {levels}")
        sizes = torch.tensor(levels)
        self.num_codes, self.dim = int(sizes.prod()), len(levels)
        self.register_buffer("levels", sizes)
        self.register_buffer(
            "base", torch.cumprod(torch.cat([torch.ones(1, dtype=torch.int64), sizes[:-1]]), 0)
        )

    def extra_repr(self) -> str:
        return f"levels={tuple(self.levels.tolist())}"

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantise z_e, float (B, D, H, W), to a grid in [-1, 1]; there is no commitment loss."""
        if z_e.ndim != 4 or z_e.shape[1] != self.dim:
            raise ValueError(f"z_e must be (B, {self.dim}, H, W), got {tuple(z_e.shape)}")
        bounded, indices = self._bound(z_e.float()), self.assign(z_e)
        z_q = straight_through(bounded, bounded.round()) / self._half()
        used = torch.zeros(self.num_codes, device=z_e.device)
        used.scatter_add_(0, indices.flatten(), torch.ones(indices.numel(), device=z_e.device))
        return Quantized(z_q, indices, z_q.new_zeros(()), perplexity(used))

    def assign(self, z_e: Tensor) -> Tensor:
        """Return int64 (B, H, W): the number of the grid point at each place of z_e (B, D, H, W)."""
        digits = self._bound(z_e.detach().float()).round() + self._half()
        return (digits.long() * self.base.view(1, -1, 1, 1)).sum(1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the grid points (B, D, H, W) of `indices` int64 (B, H, W)."""
        digits = indices.unsqueeze(1) // self.base.view(1, -1, 1, 1) % self.levels.view(1, -1, 1, 1)
        return (digits - self._half()) / self._half()

    def _half(self) -> Tensor:
        return (self.levels // 2).view(1, -1, 1, 1).float()

    def _bound(self, z: Tensor) -> Tensor:
        """Squash each channel so that rounding it gives exactly `levels` values; even ones need a half-step shift."""
        reach = (self.levels.view(1, -1, 1, 1) - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0).view(1, -1, 1, 1)
        return torch.tanh(z + torch.atanh(offset / reach)) * reach - offset
