"""Checkpoints: nested state in one safetensors file, written beside and renamed, with a word on which run it is.

Used by the training loop from notebook 04 on. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PLAIN = (type(None), bool, int, float, str)
WAY_OUT = "To start afresh, delete or rename that file, or give another one."


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, cannot be written, or belongs to another run."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts, lists and tuples of tensors and plain values to `path`, all of it or nothing.

    Raises CheckpointError when the file cannot be written, TypeError on a value of another kind.
    """
    tensors: dict[str, Tensor] = {}
    layout = json.dumps(_pack(state, tensors))
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, beside, metadata={"layout": layout})
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {path} could not be written ({error}); an earlier one is kept"
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _flush(path: Path) -> None:
    """Have the system write `path` to the disk; a folder too, where the system knows how."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote, tensors on the CPU. Raises CheckpointError on a file of another kind."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return _unpack(_layout(file, path), tensors)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged, or no checkpoint ({error}). {WAY_OUT}") from error


def _layout(file: Any, path: Path) -> dict[str, Any]:
    text = (file.metadata() or {}).get("layout")
    if text is None:
        raise CheckpointError(f"{path} holds tensors, but is no checkpoint of a run. {WAY_OUT}")
    return json.loads(text)


def _pack(value: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return `value` as JSON, its tensors moved to `tensors` and named by their number."""
    if isinstance(value, Tensor):
        kind = "channels last" if _is_last(value) else "tensor"
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {kind: len(tensors) - 1}
    if isinstance(value, dict):  # as pairs, because JSON would turn an optimiser's integer keys into strings
        return {"dict": [[_plain(key), _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(each, tensors) for each in value]}
    return {"plain": _plain(value)}


def _plain(value: Any) -> Any:
    if not isinstance(value, PLAIN):
        raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")
    return value


def _is_last(value: Tensor) -> bool:
    last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return last and not value.is_contiguous()


def _unpack(layout: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """Return the value that `_pack` gave `layout` for."""
    ((kind, value),) = layout.items()
    if kind == "dict":
        return {key: _unpack(each, tensors) for key, each in value}
    if kind in ("list", "tuple"):
        items = [_unpack(each, tensors) for each in value]
        return items if kind == "list" else tuple(items)
    if kind == "channels last":  # the layout counts: another may add up in another order
        return tensors[str(value)].contiguous(memory_format=torch.channels_last)
    return tensors[str(value)] if kind == "tensor" else value


# Which run a checkpoint is of


def described(value: Any) -> Any:
    """Return `value` as JSON can hold it and another process will find it: data as a digest, a function as its code."""
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.numpy(force=True) if isinstance(value, Tensor) else value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.data).hexdigest()[:16]}"
    if isinstance(value, FunctionType):
        kept = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [*_code(value.__code__), described(value.__defaults__), *map(described, kept)]
        return f"{value.__qualname__} {hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    return value if isinstance(value, PLAIN) else re.sub(r" at 0x\w+", "", repr(value))


def _code(code: CodeType) -> Iterator[Any]:
    """Yield what `code` does, without where it stands."""
    yield from (code.co_code, code.co_names)
    for each in code.co_consts:
        yield from _code(each) if isinstance(each, CodeType) else [each]


def make_room(path: Path) -> None:
    """Make the folder of `path`, see that it can be written, and clear what killed runs left half written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise CheckpointError(
            f"no checkpoint can be written to {path.parent} ({error}). Give a path in a folder of your own."
        ) from error
    for old in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):  # another run may be writing there, or have cleared it first
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink()


def _beside(path: Path) -> Path:
    """Return a hidden name beside `path` that no other process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def refuse_another(path: Path, settings: dict[str, Any]) -> None:
    """Raise CheckpointError when the checkpoint at `path` was written by a run with other settings or data."""
    if not path.exists():
        return
    with _opened(path) as file:
        layout = dict(_layout(file, path)["dict"])
    theirs = _unpack(layout["about"], {}) if "about" in layout else {}
    changed = [
        f"{name} was {theirs.get(name, 'not set')} and is {settings.get(name, 'not set')}"
        for name in {**theirs, **settings}
        if theirs.get(name, ...) != settings.get(name, ...)
    ]
    if changed:
        raise CheckpointError(f"{path} is the checkpoint of another run: {'; '.join(changed)}. {WAY_OUT}")
