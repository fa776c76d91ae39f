"""Profile, device, seed, step budget, and the loop with its checkpoints: what all training of the course shares.

Built in notebook 00 and used from 02 on; the loop from 04 on.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

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


def check_pictures(images: np.ndarray) -> None:
    """Raise ValueError unless `images` is uint8 (N, H, W, C) with C in {1, 3} and H = W in {28, 32, 64}."""
    shape = getattr(images, "shape", ())
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


@torch.no_grad()
def ema_update(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every weight of `averaged` a share 1 - decay of the way to that of `model`, in place; copy the buffers."""
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for old, new in zip(averaged.buffers(), model.buffers(), strict=True):
        old.copy_(new)


class Stateful(Protocol):
    """Anything with `state_dict` and `load_state_dict`: a module, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


class Diverged(RuntimeError):
    """Training met a value that is not finite."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and plain values to `path` as safetensors, all of it or nothing."""
    tensors: dict[str, Tensor] = {}
    layout = _pack(state, tensors)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, beside, metadata={"layout": json.dumps(layout)})
    with open(beside, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote, tensors on the CPU; nothing is unpickled."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return _unpack(json.loads(file.metadata()["layout"]), tensors)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON, its tensors moved to `tensors` and named by their number."""
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": len(tensors) - 1}
    if isinstance(
        value, dict
    ):  # pairs, because JSON would turn the integer keys of an optimiser into strings
        return {"dict": [[key, _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(each, tensors) for each in value]}
    return {"plain": value}


def _unpack(layout: Any, tensors: dict[str, Tensor]) -> Any:
    kind, value = next(iter(layout.items()))
    if kind == "tensor":
        return tensors[str(value)]
    if kind == "dict":
        return {key: _unpack(each, tensors) for key, each in value}
    return [_unpack(each, tensors) for each in value] if kind == "list" else value


def run_steps(
    step: Callable[[Tensor, int], dict[str, Tensor]],
    picks: Iterable[Tensor],
    *,
    parts: dict[str, Stateful],
    checkpoint: Path | None = None,
    every: int = 100,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Call `step(pick, number)` for each index batch int64 (B,) of `picks`; return its scalars, noted `every` steps.

    `parts` is everything whose state the next step depends on. With `checkpoint` their state is saved `every` steps and
    a later call with the same `picks` goes on where this one was killed, to the same weights. Out of GPU memory, the
    batch halves once for the rest of the run, with a line that says so. Raises Diverged on a value that is not finite;
    the checkpoint on disk is then the last good one.
    """
    done, history = _resume(checkpoint, parts)
    half = False
    for number, pick in enumerate(islice(picks, done, None), start=done + 1):
        try:
            scalars = step(pick[: len(pick) // 2] if half else pick, number)
        except torch.OutOfMemoryError:
            if half or len(pick) < 2:
                raise
            half = True
            torch.cuda.empty_cache()
            print(f"Out of GPU memory at step {number}: the batch goes from {len(pick)} to {len(pick) // 2}.")
            scalars = step(pick[: len(pick) // 2], number)
        if number % every == 0:
            noted = {name: float(value) for name, value in scalars.items()}
            _stop_if_not_finite(noted, number, checkpoint)
            history.append({"step": number, **noted})
            if progress:
                progress(number, noted)
            if checkpoint:
                save_checkpoint(checkpoint, _snapshot(number, history, parts))
    return history


def _snapshot(step: int, history: list[dict[str, float]], parts: dict[str, Stateful]) -> dict[str, Any]:
    """Return all that a resumed run needs: the parts, the random states, how far it was."""
    random = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    return {
        "step": step,
        "history": history,
        "random": random,
        "parts": {k: v.state_dict() for k, v in parts.items()},
    }


def _resume(checkpoint: Path | None, parts: dict[str, Stateful]) -> tuple[int, list[dict[str, float]]]:
    """Restore `parts` and the random states from `checkpoint` when it exists; return (steps done, history)."""
    if checkpoint is None or not checkpoint.exists():
        return 0, []
    state = load_checkpoint(checkpoint)
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])
    torch.set_rng_state(state["random"][0])
    if len(state["random"]) > 1:
        torch.cuda.set_rng_state_all(state["random"][1:])
    return state["step"], state["history"]


def _stop_if_not_finite(scalars: dict[str, float], step: int, checkpoint: Path | None) -> None:
    bad = [name for name, value in scalars.items() if not math.isfinite(value)]
    if bad:
        kept = f"; the last good state is in {checkpoint}" if checkpoint and checkpoint.exists() else ""
        raise Diverged(f"{', '.join(bad)} not finite at step {step}{kept}. Try a smaller learning rate.")
