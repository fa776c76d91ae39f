"""The claims of the course on file, for notebooks, tests and the README to quote: data/results/claims.json.

`claim` (in mmteach.judging) leaves sentence, verdict and figure in the output of its cell, beside the line that it
shows, under a media type of their own; `python -m mmteach run --update` gathers them here, notebook by notebook.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmteach.metrics import Interval

MEDIA_TYPE = "application/vnd.mmteach.claim+json"
FILE = Path(__file__).resolve().parents[1] / "data" / "results" / "claims.json"
QUOTES = re.compile(r"(<!-- claims\b[^>]*-->\n)(.*?)(<!-- end of claims -->)", re.DOTALL)
DIGITS = 6

Claims = dict[str, dict[str, Any]]  # by sentence: holds, figure, shown
Entries = dict[str, dict[str, Any]]  # by notebook: run (when and where), claims


class NoSuchClaim(LookupError):
    """No claim on file is meant, or more than one is; with those there are."""


class NotBorneOut(ValueError):
    """A claim that did not hold, or was not judged, is not put on file."""


def plain(figure: Any) -> Any:
    """Return a figure as JSON holds it: numbers to six digits, intervals, dicts and lists too; the rest as text."""
    if isinstance(figure, Interval):
        return plain(figure._asdict())
    if isinstance(figure, Mapping):
        return {str(key): plain(each) for key, each in figure.items()}
    if hasattr(figure, "tolist"):  # NumPy's and torch's numbers and arrays
        return plain(figure.tolist())
    if isinstance(figure, list | tuple):
        return [plain(each) for each in figure]
    if isinstance(figure, float) and math.isfinite(figure):
        return float(f"{figure:.{DIGITS}g}")
    return figure if isinstance(figure, int) else str(figure)


def spoken(figure: Any, form: str = "") -> str:
    """Return a figure as a claim shows it: by `form`, as str.format takes it, else numbers to three digits."""
    if form:
        return form.format(**figure) if isinstance(figure, Mapping) else form.format(figure)
    if isinstance(figure, Mapping):
        return ", ".join(f"{key} {spoken(each)}" for key, each in figure.items())
    if hasattr(figure, "tolist"):
        return spoken(figure.tolist())
    return f"{figure:.3g}" if isinstance(figure, float) else str(figure)


def collect(notebook: Any) -> Claims:
    """Return the claims in the outputs of an executed notebook, in its order. Raises ValueError for one made twice."""
    found: Claims = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if made := output.get("data", {}).get(MEDIA_TYPE):
                if made["claim"] in found:
                    raise ValueError(
                        f"claimed twice: {made['claim']!r}; each claim has a sentence of its own"
                    )
                found[made["claim"]] = {key: made[key] for key in ("holds", "figure", "shown")}
    return found


def borne_out(notebook: str, claims: Claims) -> Claims:
    """Return `claims` when all of them hold; raises NotBorneOut, naming those that do not."""
    if wrong := [sentence for sentence, each in claims.items() if each["holds"] is not True]:
        raise NotBorneOut(f"{notebook}: not borne out: {'; '.join(wrong)}")
    return claims


def as_text(entries: Entries) -> str:
    """Return entries as the text of their file: notebooks by name, a line a claim, so that a change is a short one."""

    def line(key: str, value: Any) -> str:
        return f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"

    parts = []
    for notebook, entry in sorted(entries.items()):
        rows = [f"   {line(sentence, each)}" for sentence, each in entry["claims"].items()]
        body = ",\n".join(rows)
        head = f' {json.dumps(notebook)}: {{\n  {line("run", entry["run"])},\n  "claims": {{'
        parts.append(f"{head}\n{body}\n  }}\n }}" if rows else f"{head}}}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read(path: Path | None = None) -> Entries:
    """Return what is on file by notebook; {} where there is no file yet. Looks in $MMTEACH_DATA, else the checkout."""
    data = os.environ.get("MMTEACH_DATA")
    path = path or (Path(data) / "results" / FILE.name if data else FILE)
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def find(notebook: str, words: str, entries: Entries | None = None) -> dict[str, Any]:
    """Return the one claim of `notebook` ('03' will do) that has `words` in its sentence, or is just that sentence.

    With `claim` (the sentence), `holds`, `figure` (intervals as Interval), `shown` (as the notebook shows the figure),
    `run` (date, profile, machine). Raises NoSuchClaim where none or several are meant.
    """
    entries = read() if entries is None else entries
    names = [name for name in entries if name.startswith(notebook)]
    if len(names) != 1:
        raise NoSuchClaim(
            f"{notebook!r} is no notebook with claims on file; there are: {', '.join(entries) or 'none'}"
        )
    claims = entries[names[0]]["claims"]
    hits = [words] if words in claims else [sentence for sentence in claims if words in sentence]
    if len(hits) != 1:
        there = "".join(f"\n  {sentence}" for sentence in hits or claims)
        raise NoSuchClaim(f"{len(hits) or 'no'} claims of {names[0]} say {words!r}; there are:{there}")
    found = claims[hits[0]]
    return {"claim": hits[0], **found, "figure": _figure(found["figure"]), "run": entries[names[0]]["run"]}


def figure(notebook: str, words: str, entries: Entries | None = None) -> Any:
    """Return the figure behind a claim: an Interval, a number, a dict or list of them, or text. See `find`."""
    return find(notebook, words, entries)["figure"]


def _figure(value: Any) -> Any:
    """Return a figure read from the file, its intervals as Interval."""
    if isinstance(value, dict):
        parts = {key: _figure(each) for key, each in value.items()}
        return Interval(**parts) if set(parts) == set(Interval._fields) else parts
    return [_figure(each) for each in value] if isinstance(value, list) else value


def quoted(readme: str, entries: Entries) -> str:
    """Return the README with the figures on file in its table of claims: | notebook | sentence | figure |.

    The table stands between `<!-- claims ... -->` and `<!-- end of claims -->`. A row of a notebook that is not on file
    stays as it is. Raises NoSuchClaim for a sentence that its notebook does not claim.
    """

    def row(found: re.Match[str]) -> str:
        if not any(name.startswith(found[1]) for name in entries):
            return found[0]
        return f"| {found[1]} | {found[2]} | {find(found[1], found[2], entries)['shown']} |"

    def table(found: re.Match[str]) -> str:
        return found[1] + re.sub(r"^\| (\d\d) \| (.+?) \|.*\|$", row, found[2], flags=re.MULTILINE) + found[3]

    return QUOTES.sub(table, readme)
