"""Execute one notebook: in slices that cannot stall, with its time, memory, claims and, where it fails, its cell.

Used by `course` and by the tests.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbclient.util import ensure_async

from mmteach.claims import MEDIA_TYPE

CELL_SECONDS = {"smoke": 300, "cpu": 900, "gpu": 1_800}
SLICE_SECONDS = 0.25
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_TEXT = "[interactive: run this cell to use it]"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """What a run of one notebook gave.

    `failed` is empty when it ran to its end, else the cell and its error; `died`: the kernel ended under it.
    """

    notebook: str
    profile: str
    seconds: float
    peak_mib: int
    cells: int
    claims: list[str] = field(default_factory=list)
    failed: str = ""
    died: bool = False
    digest: str = ""
    date: str = ""
    reused: bool = False


class Client(NotebookClient):
    """A notebook client that waits in short slices and measures the memory of its kernel.

    One long wait for a reply now and then sleeps through it when the cell talks to widgets (nbclient #312).
    """

    peak_bytes = 0

    async def async_start_new_kernel_client(self) -> Any:
        """Start the client as usual, then make its wait for replies poll."""
        client = await super().async_start_new_kernel_client()
        wait = client.shell_channel.get_msg

        async def get_msg(timeout: float | None = None) -> Any:
            end = float("inf") if timeout is None else time.monotonic() + timeout
            while True:
                try:
                    return await ensure_async(
                        wait(timeout=min(SLICE_SECONDS, max(end - time.monotonic(), 0)))
                    )
                except Empty:
                    if time.monotonic() >= end:
                        raise

        client.shell_channel.get_msg = get_msg
        return client

    def sample_memory(self) -> None:
        """Raise `peak_bytes` to what the kernel and its children hold now."""
        provisioner = getattr(self.km, "provisioner", None)
        try:
            kernel = psutil.Process(provisioner.pid)  # type: ignore[union-attr]
            family = [kernel, *kernel.children(recursive=True)]
            self.peak_bytes = max(self.peak_bytes, sum(each.memory_info().rss for each in family))
        except (AttributeError, TypeError, ValueError, psutil.Error):
            pass  # not started yet, or gone already

    @contextmanager
    def watched(self) -> Any:
        """Sample the memory of the kernel while the block runs."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(SLICE_SECONDS):
                self.sample_memory()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def clean(notebook: nbformat.NotebookNode) -> None:
    """Take out, in place, what differs from run to run or does not belong in a stored notebook.

    stderr, the state of widgets and their views, times of execution, and the version of Python.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        for output in cell.outputs:
            if WIDGET_VIEW in output.get("data", {}):
                output["data"] = {"text/plain": WIDGET_TEXT}


def claims_in(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the lines that `claim(...)` showed, each with its mark: ✓, ✗, or · where it was not judged."""
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    return [out.data["text/plain"] for out in outputs if MEDIA_TYPE in out.get("data", {})]


def failure(cell: Any, number: int, error: Exception) -> str:
    """Return what a reader needs to mend a failing cell: where it is, its source and the end of its error."""
    said = COLOURS.sub("", str(error))
    if isinstance(error, CellExecutionError):
        traces = [each for each in cell.outputs if each.output_type == "error"]
        said = COLOURS.sub("", "\n".join(traces[-1].traceback)) if traces else said
    source = "\n".join(f"    {line}" for line in cell.source.splitlines())
    tail = "\n".join(f"    {line}" for line in said.splitlines()[-25:])
    return f"cell {number} ({cell.get('id', 'no id')}):\n{source}\n\n{tail}"


def execute(
    path: Path,
    name: str,
    *,
    notebook: nbformat.NotebookNode | None = None,
    on_cell: Callable[[int, int, float], None] = lambda number, total, seconds: None,
) -> tuple[nbformat.NotebookNode, Outcome]:
    """Execute the notebook at `path` (or `notebook`, as if it lay there) under profile `name`.

    `on_cell(number, total, seconds)` is called after each cell. Returns the executed, cleaned notebook, and what
    came of it; a failing cell ends the run of the notebook and is told in `Outcome.failed`.
    """
    notebook = notebook or nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a run that fails must not show what an earlier one printed
            cell.outputs, cell.execution_count = [], None
    current, since, began = 0, time.monotonic(), time.monotonic()

    def starting(cell: Any, cell_index: int) -> None:
        nonlocal current, since
        current, since = cell_index, time.monotonic()

    def executed(cell: Any, cell_index: int, execute_reply: Any) -> None:
        on_cell(cell_index + 1, len(notebook.cells), time.monotonic() - since)

    client = Client(
        notebook,
        kernel_name="python3",
        timeout=CELL_SECONDS[name],
        startup_timeout=120,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(path.resolve().parent)}},
        on_cell_start=starting,
        on_cell_executed=executed,
    )
    failed, died = "", False
    with client.watched():
        try:
            client.execute(env=environment(name))
        except (CellExecutionError, CellTimeoutError, RuntimeError, AssertionError) as error:
            # By itself, for want of memory, or by Ctrl-C, after which nbclient finds nothing left to clean up.
            died = isinstance(error, RuntimeError | AssertionError)
            failed = failure(notebook.cells[current], current + 1, error)
    seconds = round(time.monotonic() - began, 1)
    clean(notebook)
    claims = claims_in(notebook)
    peak = round(client.peak_bytes / 2**20)
    today = time.strftime("%Y-%m-%d")
    outcome = Outcome(path.stem, name, seconds, peak, len(notebook.cells), claims, failed, died, date=today)
    return notebook, outcome


def environment(name: str) -> dict[str, str]:
    """Return the environment of a kernel: this one, with the profile set, and compiled files allowed."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "MMTEACH_PROFILE": name}
