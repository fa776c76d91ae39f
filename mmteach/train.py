"""Profile, device, seed and step budget: what every training cell of the course shares.

Built in notebook 00 and used from 02 on.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch

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


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that warms the learning rate up over a fifth of `steps`, then lets it fall to zero."""
    warm = max(1, steps // 5)

    def share(step: int) -> float:
        return min(
            (step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))
        )

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
