"""Is this machine ready? Versions, device, memory, disk and data, each line OK or with what to do.

Shown in notebook 00 and by `python -m mmteach doctor`; `lab` runs it before it opens Jupyter.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

import mmteach
from mmteach.train import profile

ROOT = Path(mmteach.__file__).resolve().parent.parent
TIMINGS = ROOT / "data" / "results" / "timings.json"
MARKS = {"ok": "OK  ", "note": "note", "broken": "MEND"}
GIB = 2**30


@dataclass(frozen=True)
class Line:
    """One finding: `state` is ok, note (works, but read this) or broken (mend it first)."""

    name: str
    state: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        tail = f"\n{'':18}→ {self.advice}" if self.advice else ""
        return f"{MARKS[self.state]}  {self.name:<10}  {self.text}{tail}"


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Return what a timing needs beside it: processor, cores, memory, GPU, Python and torch versions."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        rows = (row.partition(":") for row in Path("/proc/cpuinfo").read_text().splitlines())
        name = next((value.strip() for key, _, value in rows if key.strip() == "model name"), name)
    return {
        "cpu": name,
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / GIB),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def check_python() -> Line:
    """Which Python is this? Installing the package has refused one that is too old."""
    return Line("Python", "ok", f"{platform.python_version()}, environment {Path(sys.prefix).name}")


def check_packages() -> Line:
    """Is every package of the course installed, in a version that it was tested with?"""
    from packaging.requirements import Requirement  # comes with Jupyter and Matplotlib

    try:
        wanted = [Requirement(each) for each in importlib.metadata.requires("mmteach") or []]
    except importlib.metadata.PackageNotFoundError:
        return Line("packages", "broken", "mmteach is not installed", f"Run `{mend()}`.")
    found, wrong = [], []
    for each in wanted:
        if each.marker and not each.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(each.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{each.name} is missing")
            continue
        found.append(f"{each.name} {version}")
        if not each.specifier.contains(version.partition("+")[0], prereleases=True):
            wrong.append(f"{each.name} is {version}, tested with {each.specifier}")
    if wrong:
        state = "broken" if any("missing" in each for each in wrong) else "note"
        return Line(
            "packages", state, "; ".join(wrong), f"`{mend()}` brings the versions it was tested with."
        )
    return Line("packages", "ok", ", ".join(found[:5]) + f" and {len(found) - 5} more, in tested versions")


def check_profile() -> Line:
    """Which profile is in force, and why?"""
    try:
        name = profile()
    except ValueError as error:
        return Line("profile", "broken", str(error), "Unset MMTEACH_PROFILE, or correct it.")
    chosen = bool(os.environ.get("MMTEACH_PROFILE", "").strip())
    why = "chosen by MMTEACH_PROFILE" if chosen else "chosen by the machine"
    if name == "gpu" and not torch.cuda.is_available():
        return Line(
            "profile", "broken", "gpu, but torch sees no GPU", "Unset MMTEACH_PROFILE to use the CPU."
        )
    if name == "smoke":
        advice = "Unset MMTEACH_PROFILE for real results: smoke only proves that everything runs."
        return Line("profile", "note", f"smoke, {why}", advice)
    return Line("profile", "ok", f"{name}, {why}")


def check_device() -> Line:
    """Which device will train, and how much of its memory is free?"""
    if not torch.cuda.is_available():
        text = f"CPU, {cores()} core{'s'[: cores() != 1]}, {torch.get_num_threads()} torch threads; no GPU needed"
        return Line("device", "ok", text)
    free, total = (each / GIB for each in torch.cuda.mem_get_info())
    text = f"{torch.cuda.get_device_name()}, {free:.1f} of {total:.1f} GiB free"
    if free < 4:
        advice = "Others use this GPU: wait, close old notebooks, or work with MMTEACH_PROFILE=cpu."
        return Line("device", "note", text, advice)
    return Line("device", "ok", text)


def check_memory() -> Line:
    """Is there memory for the largest notebook?"""
    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB available"
    if memory.available < 4 * GIB:
        advice = (
            "A notebook may need 4 GiB: close other programs, and shut down notebooks that you have left."
        )
        return Line("memory", "note", text, advice)
    return Line("memory", "ok", text)


def check_disk() -> Line:
    """Is there room for results, and may they be written?"""
    free = shutil.disk_usage(ROOT).free / GIB
    if not os.access(ROOT, os.W_OK):
        return Line("disk", "note", f"{ROOT} is read-only", "Give `run` a folder of your own with --out.")
    if free < 1:
        return Line("disk", "note", f"{free:.1f} GiB free at {ROOT}", "Results need about 1 GiB: make room.")
    return Line("disk", "ok", f"{free:.0f} GiB free beside the course")


def check_jupyter() -> Line:
    """Are Jupyter and its widgets there, and will notebooks use this Python?"""
    missing = []
    for name in ("jupyterlab", "ipykernel", "ipywidgets", "jupyterlab_widgets"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Line("Jupyter", "broken", f"{', '.join(missing)} missing", f"Run `{mend()}`.")
    return Line("Jupyter", "ok", f"JupyterLab {importlib.metadata.version('jupyterlab')}, with widgets")


def check_data() -> Line:
    """Is the data set there and intact? Loading it compares every file with its checksum."""
    from mmteach.data import VOICES, DataError, load_emoji

    try:
        emoji = load_emoji()
        seconds = [len(emoji.speech(emoji.concepts.index[0], voice)[0]) / 16_000 for voice in VOICES]
    except DataError as error:  # its message says what is wrong with which file, and what to do
        return Line("data", "broken", str(error))
    text = f"{len(emoji.concepts):,} concepts, {len(emoji.images):,} pictures, {len(seconds)} voices, intact"
    return Line("data", "ok", text)


def check_weights() -> Line:
    """Are the shipped weights there, each with the checksum that it should have?"""
    from mmteach.data import DataError
    from mmteach.weights import SUMS, pretrained_folder, read_sums, verified

    folder = pretrained_folder()
    if not (folder / SUMS).exists():
        advice = (
            "They come with the course's repository: set MMTEACH_DATA to the `data` folder of a checkout."
        )
        return Line("weights", "note", f"none in {folder}: no distances, no shipped models", advice)
    try:
        names = [name for name in read_sums(folder) if name.endswith(".safetensors")]
        size = sum(len(verified(folder / name)) for name in names)
    except DataError as error:  # its message says which file, and what to do
        return Line("weights", "broken", str(error))
    text = f"{len(names)} model{'s'[: len(names) != 1]} of the course, {size / 1e6:.1f} MB, intact"
    return Line("weights", "ok", text)


def check_fonts() -> Line:
    """Is there a font for Chinese in figures? The course does without one; tables use the browser's."""
    from matplotlib import font_manager

    names = (
        "Noto Sans CJK",
        "Source Han",
        "WenQuanYi",
        "PingFang",
        "Microsoft YaHei",
        "SimHei",
        "Droid Sans Fallback",
    )
    found = sorted({each.name for each in font_manager.fontManager.ttflist if each.name.startswith(names)})
    text = f"Chinese in figures with {found[0]}" if found else "none for Chinese in figures; none is needed"
    return Line("fonts", "ok", text)


def check_time() -> Line:
    """How long did the notebooks take where they were measured?"""
    if not TIMINGS.exists():
        return Line(
            "time", "note", "no reference times in this copy", "`python -m mmteach run` measures your own."
        )
    known = json.loads(TIMINGS.read_text(encoding="utf-8"))
    where, spent = known["machine"], known["notebooks"].values()
    minutes, peak = (
        sum(each["seconds"] for each in spent) / 60,
        max(each["peak_mib"] for each in spent) / 1024,
    )
    text = (
        f"all {len(spent)} notebooks: {minutes:.0f} min and up to {peak:.1f} GiB with {where['cores']} cores"
    )
    return Line("time", "ok", f"{text} of {where['cpu']}; this machine gives you {cores()}")


CHECKS: tuple[Callable[[], Line], ...] = (
    check_python,
    check_packages,
    check_profile,
    check_device,
    check_memory,
    check_disk,
    check_jupyter,
    check_data,
    check_weights,
    check_fonts,
    check_time,
)


def mend() -> str:
    """Return the command that installs what the course needs."""
    return f"{Path(sys.executable).name} -m pip install -e {ROOT}"


def lines() -> Iterator[Line]:
    """Yield the findings one by one; a check that itself fails becomes a finding."""
    for check in CHECKS:
        try:
            yield check()
        except Exception as error:
            yield Line(check.__name__.removeprefix("check_"), "broken", f"{type(error).__name__}: {error}")


def report() -> list[Line]:
    """Return all findings."""
    return list(lines())


def verdict(findings: list[Line]) -> str:
    """Return the one line that sums up `findings`."""
    broken = [each.name for each in findings if each.state == "broken"]
    if broken:
        return f"Not ready: mend {', '.join(broken)} first."
    notes = [each.name for each in findings if each.state == "note"]
    return f"Ready, with a note on {', '.join(notes)}." if notes else "Ready."


def show(*, short: bool = False) -> bool:
    """Print the findings as they come, only those not OK when `short`; return whether all that matters is well."""
    findings = []
    for each in lines():
        findings.append(each)
        if not short or each.state != "ok":
            print(each, flush=True)
    print(verdict(findings), flush=True)
    return all(each.state != "broken" for each in findings)
