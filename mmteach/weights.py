"""Weights on disk: safetensors in half precision or eight bits with their configuration inside, verified before use.

Used by every `load_pretrained` and by `python -m mmteach pretrain`. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from mmteach.data import DataError

SUMS = "SHA256SUMS"
SCALE = "~scale"


@dataclass(frozen=True)
class Trained:
    """What a pretraining recipe returns, and `mmteach.pretrain` writes.

    model: in eval mode; its state is what is shipped
    config: JSON to build it from again
    facts: title, about (a sentence or two), recipe (name -> setting), seed, metrics (name -> figure, or set -> name ->
        figure) and, if wanted, "metrics are" (what they are, in words); the card is made of them
    sheet: uint8 (H, W, 3), 100 uncurated samples or reconstructions, or None
    eight_bits: store matrices in eight bits a number, for a network that would be too large in sixteen
    """

    model: nn.Module
    config: dict[str, Any]
    facts: dict[str, Any]
    sheet: np.ndarray | None
    eight_bits: bool = False


def pretrained_folder() -> Path:
    """Return the folder of the shipped weights: `pretrained` in $MMTEACH_DATA, else in `data` of the checkout."""
    data = os.environ.get("MMTEACH_DATA") or Path(__file__).resolve().parents[1] / "data"
    return Path(data) / "pretrained"


def save_weights(path: Path, model: nn.Module, config: dict[str, Any], *, eight_bits: bool = False) -> None:
    """Write the state of `model` to `path`, all of it or nothing: floats in half precision, other buffers as they are.

    config: whatever JSON can hold and the model can be built from again; it travels in the file's metadata.
    eight_bits: see `stored`. Raises ValueError when a value has no finite half-precision counterpart.
    """
    tensors = stored(model.state_dict(), eight_bits)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, beside, metadata={"config": json.dumps(config)})
    beside.chmod(0o644)  # safetensors keeps files to their owner, and these are for everyone
    os.replace(beside, path)


def stored(state: Mapping[str, Tensor], eight_bits: bool = False) -> dict[str, Tensor]:
    """Return a state dict as a file holds it; with `eight_bits` a float matrix (R, C) as int8 and a scale for each row.

    A row's largest number becomes 127, so no number is off by more than a 254th of that. Raises ValueError when a value
    has no finite half-precision counterpart.
    """
    found = {}
    for name, each in state.items():
        half = _halved(name, each)
        if not (eight_bits and half.ndim == 2 and half.is_floating_point()):
            found[name] = half
            continue
        scale = (half.float().abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
        found[name + SCALE] = scale
        found[name] = (half.float() / scale).round().clamp(-127, 127).to(torch.int8)
    return found


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `stored` returned as a state dict again, floats as float32."""
    found = {}
    for name, each in tensors.items():
        if name + SCALE in tensors:
            found[name] = each.float() * tensors[name + SCALE]
        elif not name.endswith(SCALE):
            found[name] = each.float() if each.is_floating_point() else each
    return found


def as_stored(model: nn.Module, eight_bits: bool = False) -> None:
    """Round a model's weights, in place, as a file will hold them, so that a card's figures are those of the file."""
    model.load_state_dict(restored(stored(model.state_dict(), eight_bits)))


def load_weights(name: str, folder: Path | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (config, state dict) of the weights `<name>.safetensors`, floats as float32, on the CPU.

    folder: where they lie with their SHA256SUMS; by default the shipped ones. A `load_pretrained` is then
    `config, state = load_weights("gan"); model = Generator(**config["model"]); model.load_state_dict(state)`.
    Raises DataError when the file is missing, cut short or damaged, and says how to mend it.
    """
    path = (folder or pretrained_folder()) / f"{name}.safetensors"
    content = verified(path)
    try:
        size = int.from_bytes(content[:8], "little")
        config = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["config"])
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds no weights of this course ({error}). {_mend(path)}") from error
    return config, restored(tensors)


def verified(path: Path) -> bytes:
    """Return the content of `path`; DataError unless it has the checksum that SHA256SUMS beside it gives."""
    known = read_sums(path.parent)
    if path.name not in known:
        names = ", ".join(sorted(n for n in known if n.endswith(".safetensors"))) or "no weights"
        raise DataError(f"{path.parent / SUMS} does not list {path.name}; it lists {names}. {_mend(path)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. {_mend(path)}") from error
    if hashlib.sha256(content).hexdigest() != known[path.name]:
        found = f"{len(content)} bytes, and not the checksum in {SUMS}"
        raise DataError(f"{path} is damaged or incomplete ({found}). {_mend(path)}")
    return content


def read_sums(folder: Path) -> dict[str, str]:
    """Return file name -> SHA-256 from the SHA256SUMS of a folder; DataError when it is missing or damaged."""
    path = folder / SUMS
    try:
        lines = [line.split("  ", 1) for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"No weights in {folder}: {path} cannot be read ({error}). They come with the course's repository: "
            "set MMTEACH_DATA to the `data` folder of a checkout, or install the package from one."
        ) from error
    if not lines or any(len(line) != 2 for line in lines):
        raise DataError(f"{path} is damaged. To mend: `git checkout -- {path}` in a checkout.")
    return {name: digest for digest, name in lines}


def write_sums(folder: Path, names: list[str]) -> None:
    """Note the SHA-256 of these files of a folder in its SHA256SUMS; what else it lists stays."""
    known = read_sums(folder) if (folder / SUMS).exists() else {}
    for name in names:
        known[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = "".join(f"{known[name]}  {name}\n" for name in sorted(known))
    beside = folder / f".{SUMS}.{os.getpid()}"
    beside.write_text(text, "utf-8")
    os.replace(beside, folder / SUMS)


def _halved(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().cpu().contiguous().clone()
    half = tensor.detach().to("cpu", torch.float16).contiguous().clone()
    if not torch.isfinite(half).all():
        raise ValueError(f"{name} holds values that are not finite in half precision")
    return half


def _mend(path: Path) -> str:
    return (
        f"To mend: `git checkout -- {path}` in a checkout, "
        f"or train it again with `python -m mmteach pretrain {path.name.split('.')[0]}`."
    )
