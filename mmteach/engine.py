"""The training loop: notes on the way, checkpoints that a killed run goes on from, and what to do when it goes wrong.

Used from notebook 04 on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmteach.checkpoint import (
    WAY_OUT,
    CheckpointError,
    described,
    load_checkpoint,
    make_room,
    refuse_another,
    save_checkpoint,
)

Scalars = dict[str, float]


class Stateful(Protocol):
    """Anything with `state_dict` and `load_state_dict`: a module, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


class Diverged(RuntimeError):
    """Training met a value that is not finite."""


@dataclass
class Run:
    """How far a run is: steps done, what was noted, and whether its batches were halved for want of memory."""

    step: int = 0
    halved: bool = False
    history: list[Scalars] = field(default_factory=list)


def run_steps(
    step: Callable[[Tensor, int], dict[str, Tensor]],
    picks: Iterable[Tensor],
    *,
    parts: dict[str, Stateful],
    about: dict[str, Any] | None = None,
    checkpoint: Path | None = None,
    every: int = 100,
    progress: Callable[[int, Scalars], None] | None = None,
) -> list[Scalars]:
    """Call `step(pick, number)` for each index batch int64 (B,) of `picks`; return its scalars, noted `every` steps.

    `parts` is everything whose state the next step depends on, `about` all settings and data (see `described`). With
    `checkpoint`, state is saved `every` steps and at the end, and a later call with the same `picks` goes on where
    this one was killed, to the same weights; a checkpoint `about` another run raises CheckpointError. Out of GPU
    memory, batches halve once for the rest of the run; what the failed step had already changed stays changed. Raises
    Diverged when a scalar, a weight or an optimiser's state is not finite; the checkpoint on disk is still good then.
    """
    settings = {name: described(value) for name, value in (about or {}).items()} if checkpoint else {}
    run = _resume(checkpoint, parts, settings)
    scalars: dict[str, Tensor] | None = None
    for pick in _rest(picks, run.step, checkpoint):
        run.step += 1
        scalars = _attempt(step, pick, run, parts)
        if run.step % every == 0:
            _note(run, scalars, parts, settings, checkpoint, progress)
    if scalars is not None and run.step % every:
        _note(run, scalars, parts, settings, checkpoint, progress)
    return run.history


def _rest(picks: Iterable[Tensor], done: int, checkpoint: Path | None) -> Iterator[Tensor]:
    """Yield what comes after the first `done` of `picks`; raise CheckpointError when there are not even so many."""
    left = iter(picks)
    if sum(1 for _ in islice(left, done)) < done:
        raise CheckpointError(f"{checkpoint} is {done} steps on, more than were asked for now. {WAY_OUT}")
    return left


def _attempt(
    step: Callable[[Tensor, int], dict[str, Tensor]], pick: Tensor, run: Run, parts: dict[str, Stateful]
) -> dict[str, Tensor]:
    """Take one step, with half the batch once memory has run out."""
    if not run.halved:
        try:
            return step(pick, run.step)
        except torch.OutOfMemoryError:
            if len(pick) < 2:
                raise
            run.halved = True
        # After the except clause, because its traceback holds on to all that the step had computed.
        for part in parts.values():
            getattr(part, "zero_grad", lambda: None)()
        torch.cuda.empty_cache()
        print(f"Out of GPU memory at step {run.step}: the batch goes from {len(pick)} to {len(pick) // 2}.")
    return step(pick[: len(pick) // 2], run.step)


def _note(
    run: Run,
    scalars: dict[str, Tensor],
    parts: dict[str, Stateful],
    settings: dict[str, Any],
    checkpoint: Path | None,
    progress: Callable[[int, Scalars], None] | None,
) -> None:
    """Write down where the run stands, in memory and in `checkpoint`, unless it has diverged."""
    noted = {name: float(value) for name, value in scalars.items()}
    states = {name: part.state_dict() for name, part in parts.items()}
    bad = [name for name, value in noted.items() if not math.isfinite(value)] + list(_not_finite(states))
    if bad:
        kept = f"; the last good state is in {checkpoint}" if checkpoint and checkpoint.exists() else ""
        named = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        raise Diverged(f"{named} not finite by step {run.step}{kept}. Try a smaller learning rate.")
    run.history.append({"step": run.step, **noted})
    if checkpoint:
        refuse_another(checkpoint, settings)
        state = {"about": settings, "run": vars(run), "random": _random_states(), "parts": states}
        save_checkpoint(checkpoint, state)
    if progress:
        progress(run.step, noted)


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of the tensors in nested `value` that hold a NaN or an infinity."""
    if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
        yield name
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield from _not_finite(each, f"{name}.{key}".lstrip("."))


def _resume(checkpoint: Path | None, parts: dict[str, Stateful], settings: dict[str, Any]) -> Run:
    """Return where the run of `checkpoint` stands, its parts and random states restored; a new run if there is none."""
    if checkpoint is None:
        return Run()
    make_room(checkpoint)
    if not checkpoint.exists():
        return Run()
    refuse_another(checkpoint, settings)
    state = load_checkpoint(checkpoint)
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])
    _restore_random_states(state["random"])
    return Run(**state["run"])


def _random_states() -> dict[str, Any]:
    """Return the states of torch's, CUDA's, NumPy's and Python's own random numbers."""
    name, key, *rest = np.random.get_state()  # noqa: NPY002 - what seed_everything has seeded
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.asarray(key, np.int64)), *rest],
        "python": [version, torch.tensor(words), gauss],
    }


def _restore_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():  # else the run has moved to another machine
        torch.cuda.set_rng_state_all(states["cuda"])
    name, key, *rest = states["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
