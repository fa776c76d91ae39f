"""Run the notebooks of the course: with progress, times, memory and claims, and going on where a run stopped.

Used by `python -m mmteach run` and by the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat

import mmteach
from mmteach import claims
from mmteach.doctor import ROOT, TIMINGS, machine
from mmteach.execute import Outcome, execute
from mmteach.train import PROFILES, profile

NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
CLAIMS = claims.FILE
LARGEST_BYTES = 1_500_000
TIME = re.compile(r"(\*\*Time\*\*:? )[^,;.\n]*?((?: to run)? on two (?:CPU )?cores)")


class CannotRun(Exception):
    """What keeps a run from starting, in words for the person who asked for it."""


def find(names: list[str]) -> list[Path]:
    """Return the notebooks meant by `names`: paths, or the start of a course notebook's name; all when empty.

    Raises CannotRun when one is not found.
    """
    known = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    if not known and not names:
        raise CannotRun(
            f"no notebooks at {NOTEBOOKS}: install mmteach with `pip install -e .` from a checkout"
        )
    chosen: list[Path] = []
    for name in names:
        hits = [Path(name)] if name.endswith(".ipynb") and Path(name).is_file() else []
        hits = hits or [each for each in known if each.name.startswith(Path(name).name)]
        if not hits:
            raise CannotRun(
                f"no notebook {name!r}; there are {', '.join(each.stem for each in known) or 'none'}"
            )
        chosen += [each for each in hits if each not in chosen]
    return chosen or known


def digest(notebook: nbformat.NotebookNode, name: str) -> str:
    """Return a digest of all that a run depends on: cells, profile, package, data, studies, versions.

    The claims on file are the outcome of runs, and count only for a notebook that quotes them.
    """
    parts = [
        name,
        machine()["python"],
        *(importlib.metadata.version(each) for each in ("torch", "scikit-learn")),
    ]
    parts += [f"{cell.cell_type}\n{cell.source}" for cell in notebook.cells]
    quotes = any("mmteach.claims" in each or "import claims" in each for each in parts)
    results = sorted((ROOT / "data" / "results").glob("*.json"))
    studies = [each for each in results if each.name != TIMINGS.name and (quotes or each.name != CLAIMS.name)]
    files = [
        *sorted((ROOT / "mmteach").glob("*.py")),
        *sorted((ROOT / "data").glob("*/SHA256SUMS")),
        *studies,
    ]
    parts += [hashlib.sha256(each.read_bytes()).hexdigest() for each in files]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def write(path: Path, text: str) -> None:
    """Write `text` to `path` beside it first, so that a run killed at any moment leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def as_text(notebook: nbformat.NotebookNode) -> str:
    """Return `notebook` as the text of its file."""
    return nbformat.writes(notebook) + "\n"


def earlier(out: Path, stem: str, wanted: str) -> Outcome | None:
    """Return the outcome that an earlier run left in `out`, when nothing it depends on has changed since."""
    record = out / f"{stem}.json"
    if not record.exists() or not (out / f"{stem}.ipynb").exists():
        return None
    try:
        outcome = Outcome(**{**json.loads(record.read_text(encoding="utf-8")), "reused": True})
    except (ValueError, TypeError):
        return None
    return outcome if outcome.digest == wanted and not outcome.failed else None


def run_one(path: Path, name: str, out: Path, *, fresh: bool) -> Outcome:
    """Run one notebook into `out`, or reuse what is there; print its progress."""
    notebook = nbformat.read(path, as_version=4)
    wanted = digest(notebook, name)
    if not fresh and (before := earlier(out, path.stem, wanted)):
        print(f"{path.stem}: done before, under {name}, and nothing has changed since", flush=True)
        return before
    print(f"{path.stem}: {len(notebook.cells)} cells, profile {name}", flush=True)
    notebook, outcome = execute(path, name, notebook=notebook, on_cell=progress)
    outcome = Outcome(**{**asdict(outcome), "digest": wanted})
    write(out / f"{path.stem}.ipynb", as_text(notebook))
    write(out / f"{path.stem}.json", json.dumps(asdict(outcome), indent=1, ensure_ascii=False) + "\n")
    end = "FAILED after" if outcome.failed else "done in"
    print(f"\r  {end} {outcome.seconds:.0f} s, peak {outcome.peak_mib} MiB", flush=True)
    for line in outcome.claims:
        print(f"  {line}")
    if outcome.failed:
        print(f"\n{path} fails in {outcome.failed}\n", flush=True)
    return outcome


def progress(number: int, total: int, seconds: float) -> None:
    """Show that a cell is done: on a terminal every one, in a log those of ten seconds and more."""
    if sys.stdout.isatty():
        print(f"\r  cell {number} of {total} ", end="", flush=True)
    elif seconds >= 10:
        print(f"  cell {number} of {total} took {seconds:.0f} s", flush=True)


def table(outcomes: list[Outcome], where: dict[str, Any]) -> str:
    """Return the outcomes as lines of text, with the machine they were measured on."""
    rows = [f"{'notebook':<32}{'profile':>8}{'seconds':>9}{'MiB':>7}{'claims':>8}"]
    for each in outcomes:
        kept = sum(line.startswith("✓") for line in each.claims)
        mark = "  FAILED" if each.failed else "  (from an earlier run)" if each.reused else ""
        rows.append(
            f"{each.notebook:<32}{each.profile:>8}{each.seconds:>9.0f}{each.peak_mib:>7}"
            f"{f'{kept}/{len(each.claims)}':>8}{mark}"
        )
    gpu = f", {where['gpu']}" if where["gpu"] else ""
    total = sum(each.seconds for each in outcomes) / 60
    rows.append(f"{total:.1f} min on {where['cpu']}, {where['cores']} cores{gpu}, torch {where['torch']}")
    return "\n".join(rows)


def publish(paths: list[Path], outcomes: list[Outcome], out: Path, where: dict[str, Any]) -> None:
    """Write the executed notebooks over the committed ones, their times and claims on file, and both into the README.

    All or nothing: raises CannotRun, and writes nothing, when a notebook was edited while it ran, or has grown too
    large to keep, or claims what its run does not bear out.
    """
    known: dict[str, Any] = (
        json.loads(TIMINGS.read_text(encoding="utf-8"))["notebooks"] if TIMINGS.exists() else {}
    )
    texts, entries = {}, claims.read(CLAIMS)
    for path, outcome in zip(paths, outcomes, strict=True):
        notebook = executed(outcome, outcome.profile, out)
        texts[path] = publishable(path, notebook, outcome)
        entries[path.stem] = entry(notebook, outcome, where)
        known[path.stem] = {
            "seconds": outcome.seconds,
            "peak_mib": outcome.peak_mib,
            "claims": len(outcome.claims),
        }
    try:
        for path in paths:
            claims.borne_out(path.stem, entries[path.stem]["claims"])
        readme = claims.quoted(with_times(README.read_text(encoding="utf-8"), known), entries)
    except (claims.NotBorneOut, claims.NoSuchClaim) as error:
        raise CannotRun(f"nothing is updated: {error}") from error
    for path, text in texts.items():
        write(path, text)
    record = {"profile": "cpu", "machine": where, "notebooks": dict(sorted(known.items()))}
    write(TIMINGS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write(CLAIMS, claims.as_text(entries))
    write(README, readme)


def publishable(path: Path, notebook: nbformat.NotebookNode, outcome: Outcome) -> str:
    """Return the text of an executed notebook, its time filled in; raises CannotRun when it cannot take its place."""
    if sources(notebook) != sources(nbformat.read(path, as_version=4)):
        raise CannotRun(f"{path.stem} was edited while it ran: run it again, what is written there is kept")
    notebook.cells[0].source = with_time(notebook.cells[0].source, outcome.seconds)
    text = as_text(notebook)
    if len(text.encode()) > LARGEST_BYTES:
        raise CannotRun(
            f"{path.stem} has {len(text.encode()):,} bytes; {LARGEST_BYTES:,} is the most to keep"
        )
    return text


def executed(outcome: Outcome, name: str, out: Path) -> nbformat.NotebookNode:
    """Return the notebook that a run under `name` left in `out`; one that ran late, under smoke, lies deeper."""
    folder = out if outcome.profile == name else out / outcome.profile
    return nbformat.read(folder / f"{outcome.notebook}.ipynb", as_version=4)


def entry(notebook: nbformat.NotebookNode, outcome: Outcome, where: dict[str, Any]) -> dict[str, Any]:
    """Return what a run of a notebook puts on file: when, how and where it ran, and its claims."""
    made = {
        "date": outcome.date,
        "profile": outcome.profile,
        "mmteach": mmteach.__version__,
        "machine": where,
    }
    try:
        return {"run": made, "claims": claims.collect(notebook)}
    except ValueError as error:
        raise CannotRun(f"{outcome.notebook}: {error}") from error


def sources(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what stands in the cells of `notebook`, outputs apart."""
    return [cell.source for cell in notebook.cells]


def with_time(first: str, seconds: float) -> str:
    """Return a notebook's first cell with the measured time after its word **Time**."""
    return TIME.sub(rf"\g<1>{spoken(seconds)}\g<2>", first)


def with_times(readme: str, times: dict[str, dict[str, Any]]) -> str:
    """Return the README with the measured times in its table, the third column of each notebook's row."""
    rows = readme.splitlines(keepends=True)
    for i, row in enumerate(rows):
        stem = re.match(r"\| \[[^\]]+\]\(notebooks/(\w+)\.ipynb\) \|", row)
        if stem and stem[1] in times:
            cells = row.split("|")
            cells[3] = f" {spoken(times[stem[1]]['seconds'])} "
            rows[i] = "|".join(cells)
    return "".join(rows)


def spoken(seconds: float) -> str:
    """Return a time as a reader wants it: '20 s', '1 min', '2½ min'."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    whole, half = divmod(round(seconds / 30), 2)
    return f"{whole}{'½' * half} min"


def run(
    names: list[str],
    *,
    name: str,
    out: Path | None = None,
    update: bool = False,
    fresh: bool = False,
    deadline: float | None = None,
) -> list[Outcome]:
    """Run notebooks under profile `name` into `out`; after `deadline` minutes those still to come run under smoke.

    Prints progress and a table, also written to `out`/table.json. Raises CannotRun when it cannot start.
    """
    if update and (name != "cpu" or deadline is not None):
        raise CannotRun(
            "--update writes what the cpu profile gives: use it with --profile cpu and without --deadline"
        )
    paths, out, where, began = find(names), out or ROOT / "runs" / name, machine(), time.monotonic()
    outcomes: list[Outcome] = []
    for path in paths:
        late = deadline is not None and time.monotonic() - began > 60 * deadline and name != "smoke"
        if late:
            print(
                f"{path.stem}: past the deadline of {deadline:g} min, so under smoke: its claims are not judged"
            )
        into = out / "smoke" if late else out
        outcomes.append(run_one(path, "smoke" if late else name, into, fresh=fresh))
        if outcomes[-1].died:
            print("Stopped: the kernel died or was interrupted. The same command goes on from here.")
            break
    text = table(outcomes, where)
    print(f"\n{text}", flush=True)
    rows = {"machine": where, "notebooks": [asdict(each) for each in outcomes]}
    write(out / "table.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    entries = {each.notebook: entry(executed(each, name, out), each, where) for each in outcomes}
    write(out / CLAIMS.name, claims.as_text(entries))
    if update and not any(each.failed for each in outcomes):
        publish(paths, outcomes, out, where)
        print("Updated the committed notebooks, their times and claims, and the README.")
    return outcomes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `python -m mmteach run` takes."""
    parser.add_argument(
        "notebooks", nargs="*", help="paths or numbers, for example 00 02; all when none is given"
    )
    parser.add_argument(
        "--profile", choices=PROFILES, help="sizes and steps; chosen by the machine when left out"
    )
    parser.add_argument("--out", type=Path, help="folder for the executed notebooks (runs/PROFILE)")
    parser.add_argument(
        "--update", action="store_true", help="write the committed notebooks, times and claims (cpu only)"
    )
    parser.add_argument("--fresh", action="store_true", help="run also what an earlier run has done")
    parser.add_argument(
        "--deadline", type=float, metavar="MIN", help="after so many minutes go on under smoke"
    )


def main(options: argparse.Namespace) -> int:
    """Run what the command line asks for; return 1 when a notebook failed, 2 when nothing could start."""
    try:
        chosen = options.profile or profile()
        outcomes = run(
            options.notebooks,
            name=chosen,
            out=options.out,
            update=options.update,
            fresh=options.fresh,
            deadline=options.deadline,
        )
    except (CannotRun, ValueError) as error:
        print(f"mmteach run: {error}", file=sys.stderr)
        return 2
    bad = [each.notebook for each in outcomes if each.failed]
    if bad:
        print(f"FAILED: {', '.join(bad)}")
    return 1 if bad else 0
