"""Profile, device, seed, step budget, batches and pictures: what all training of the course shares.

Built in notebook 00 and used from 02 on; the loop with its checkpoints is in `engine`.
"""

from __future__ import annotations

import ctypes
import math
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mmteach.solutions import ema_update as ema_update

PROFILES = ("smoke", "cpu", "gpu")
T = TypeVar("T")


def profile() -> str:
    """Return the profile in force: `MMTEACH_PROFILE`, or what the machine has when that is unset.

    Raises ValueError when the variable names no profile.
    """
    chosen = os.environ.get("MMTEACH_PROFILE", "").strip().lower()
    if not chosen:
        return "gpu" if torch.cuda.is_available() else "cpu"
    if chosen not in PROFILES:
        raise ValueError(f"MMTEACH_PROFILE is {chosen!r}; it must be one of {', '.join(PROFILES)}, or unset")
    return chosen


def budget(*, smoke: T, cpu: T, gpu: T) -> T:
    """Pick one of three values (steps, seeds, picture sizes) by the profile in force."""
    return {"smoke": smoke, "cpu": cpu, "gpu": gpu}[profile()]


def device() -> torch.device:
    """Return the device that training runs on: CUDA under the `gpu` profile when present, else the CPU."""
    wanted = profile() == "gpu" and torch.cuda.is_available()
    return torch.device("cuda" if wanted else "cpu")


def fast_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware, two to three times as fast as float32."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Work in one thread while the block lasts: what many tiny steps gain from a second one, waiting for it costs.

    On a machine that others use too it costs many times that, for the second thread's core is often taken.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch; return a CPU generator of the same seed for shuffling."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - scikit-learn draws from it where no random_state is given
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def batches(count: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield `steps` index batches, int64 (batch_size,), going through 0..count-1 in a new order each epoch.

    Raises ValueError when there is nothing to draw from.
    """
    if count < 1 or batch_size < 1:
        raise ValueError(f"batches needs count and batch_size of at least 1, got {count} and {batch_size}")
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:batch_size]
        order = order[batch_size:]


def drawn_batches(
    odds: torch.Tensor, batch_size: int, steps: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield `steps` index batches, int64 (batch_size,), each index drawn anew in proportion to odds, float (N,).

    Raises ValueError on odds that are negative, not finite or all zero.
    """
    if odds.ndim != 1 or not odds.isfinite().all() or (odds < 0).any() or not odds.any():
        raise ValueError("drawn_batches needs odds of at least 0, one an example, and one of them above 0")
    for _ in range(steps):
        yield torch.multinomial(odds, batch_size, replacement=True, generator=generator)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that warms the learning rate up over a fifth of `steps`, then lets it fall to zero."""
    warm = max(1, steps // 5)

    def share(step: int) -> float:
        return min(
            (step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))
        )

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def keep_memory() -> bool:
    """Ask the C library to keep freed memory instead of handing it back; return whether it agreed.

    Every step of training frees and takes the same tensors again. glibc gives large blocks back to the kernel at
    once, and the kernel then has to clear every page anew, which costs time. Other systems: no effect.
    Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    trim, pad, mmap = -1, -2, -3
    settings = {mmap: 32 * 2**20, trim: 2**30, pad: 64 * 2**20}
    try:
        libc = ctypes.CDLL("libc.so.6")
        agreed = [libc.mallopt(which, value) for which, value in settings.items()]
        return all(agreed)
    except (OSError, AttributeError):
        return False


keep_memory()


def check_pictures(images: np.ndarray) -> None:
    """Raise ValueError unless `images` is uint8 (N, H, W, C) with C in {1, 3} and H = W in {28, 32, 64}."""
    shape: tuple[int, ...] = getattr(images, "shape", ())
    fits = len(shape) == 4 and shape[1] == shape[2] and shape[1] in (28, 32, 64) and shape[3] in (1, 3)
    if not fits or images.dtype != np.uint8 or len(images) == 0:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"need uint8 pictures (N, H, W, C), H = W in 28, 32, 64, C 1 or 3, N at least 1; got {kind} {shape}"
        )


def to_float(pictures: Tensor) -> Tensor:
    """Return uint8 (B, H, W, C) as float32 (B, C, H, W) in [-1, 1], laid out channels last."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(x: Tensor) -> np.ndarray:
    """Return float (B, C, H, W) in [-1, 1] as uint8 (B, H, W, C) on the host."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


class Muon(torch.optim.Optimizer):
    """Momentum whose step has equal length in every direction of a matrix: `torch.optim.Muon`, in a fast precision.

    torch's always multiplies in bfloat16, which processors without it in hardware work out thirty times as slowly as
    float32; here the precision is the device's faster one. params: matrices. Source: Jordan et al. 2024, "Muon"
    (kellerjordan.github.io/posts/muon), with Nesterov momentum and decoupled weight decay.
    """

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                mean = state.setdefault("momentum_buffer", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                step = even_out(matrix.grad.lerp(mean, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.add_(step, alpha=-group["lr"] * tall)


def even_out(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Return a matrix (M, N) with its singular values brought to about 1, from 0.7 to 1.2, and its directions kept.

    Newton-Schulz: a polynomial of degree five in the singular values, again and again; no decomposition is needed.
    """
    fast = matrix.device.type == "cuda" or fast_bfloat16()
    x = matrix.to(torch.bfloat16 if fast else torch.float32)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
