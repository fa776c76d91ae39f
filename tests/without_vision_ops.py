"""Lets torchvision be imported beside a torch that its compiled part was not built for.

The torchvision of PyPI for Linux is built for CUDA; beside a CPU-only torch its library does not load, and its Python
part stops at operators that nobody declared ('operator torchvision::nms does not exist'). What torch-fidelity and
torchmetrics need of it uses none of them, so declaring their names is enough.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

OPERATORS = (
    *("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"),
    *("_roi_align_backward", "_roi_pool_backward", "_ps_roi_align_backward", "_ps_roi_pool_backward"),
    "_deform_conv2d_backward",
)
kept = []  # a Library takes its operators along when it goes


def declare() -> None:
    """Declare torchvision's operators where it is installed and its compiled part cannot be loaded."""
    spec = importlib.util.find_spec("torchvision")
    if kept or spec is None or spec.origin is None:
        return
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        kept.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in OPERATORS:
            kept[0].define(f"{name}(Tensor x) -> Tensor")
