"""What every notebook of the course keeps to, and that it runs with all its exercises solved.

That each runs as it is committed, under smoke, and prints what it should, is nbval's part: `python -m pytest`
collects the notebooks themselves beside these tests.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mmteach import check, execute, solutions
from mmteach.course import LARGEST_BYTES, NOTEBOOKS
from mmteach.execute import WIDGET_VIEW

PATHS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
COMPARED = "# NBVAL_CHECK_OUTPUT"
IMAGE = re.compile(r"<img\b[^>]*>")
ALT = re.compile(r'\balt="[^"]*\w[^"]*"')

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    """Return the notebook at `path`, checked against the format."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[Any]:
    """Return the code cells that hold something."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    """Return all stored outputs."""
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def test_there_are_notebooks() -> None:
    assert [path.stem[:2] for path in PATHS] == [f"{i:02d}" for i in range(len(PATHS))]
    assert PATHS


@every_notebook
def test_the_first_cell_asks_the_question_of_the_notebook(path: Path) -> None:
    first = read(path).cells[0]
    title = first.source.splitlines()[0]
    assert first.cell_type == "markdown"
    assert title.startswith(f"# {path.stem[:2]} · ")
    assert title.endswith("?")


@every_notebook
def test_the_end_sums_up_and_says_where_to_read_on(path: Path) -> None:
    end = "\n".join(cell.source for cell in read(path).cells[-6:] if cell.cell_type == "markdown").lower()
    assert "in this notebook" in end
    assert "further reading" in end


@every_notebook
def test_cells_have_ids_of_their_own_and_are_not_too_many(path: Path) -> None:
    notebook = read(path)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert len(ids) <= 70


@every_notebook
def test_code_cells_are_short(path: Path) -> None:
    lines = [len(cell.source.splitlines()) for cell in code_cells(read(path))]
    assert max(lines) <= 30
    assert statistics.median(lines) <= 8
    assert sum(each <= 15 for each in lines) >= 0.9 * len(lines)


@every_notebook
def test_code_is_plain_python_without_magics(path: Path) -> None:
    for cell in code_cells(read(path)):
        ast.parse(cell.source)  # a line with % or ! is no Python


@every_notebook
def test_the_stored_run_is_whole_and_in_order(path: Path) -> None:
    counts = [cell.execution_count for cell in code_cells(read(path))]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_the_stored_run_has_no_error_and_nothing_on_stderr(path: Path) -> None:
    for output in outputs(read(path)):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"


@every_notebook
def test_nothing_volatile_is_stored(path: Path) -> None:
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert "execution" not in cell.metadata
    for output in outputs(notebook):
        assert WIDGET_VIEW not in output.get("data", {})


@every_notebook
def test_the_file_stays_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST_BYTES


@every_notebook
def test_every_picture_has_alternative_text(path: Path) -> None:
    notebook = read(path)
    shown = [output.data for output in outputs(notebook) if "data" in output]
    assert not [kind for data in shown for kind in data if kind.startswith("image/")], (
        "use plot.show(fig, alt=...)"
    )
    pages = [data.get("text/html", "") for data in shown]
    pages += [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for page in pages:
        assert all(ALT.search(image) for image in IMAGE.findall(page))
        assert "![](" not in page


@every_notebook
def test_compared_cells_keep_counts_and_printed_output(path: Path) -> None:
    compared = [cell for cell in code_cells(read(path)) if COMPARED in cell.source]
    assert compared, "at least one cell prints what is the same everywhere"
    for cell in compared:
        assert cell.source.startswith(COMPARED)
        assert cell.execution_count is not None
        assert cell.outputs
        assert all(output.output_type == "stream" for output in cell.outputs)


@every_notebook
def test_stored_claims_all_hold(path: Path) -> None:
    claims = execute.claims_in(read(path))
    assert claims
    assert all(claim.startswith("✓") for claim in claims)


@every_notebook
def test_exercises_come_as_stub_check_and_folded_solution(path: Path) -> None:
    cells = code_cells(read(path))
    found = [i for i, cell in enumerate(cells) if "exercise" in cell.metadata]
    assert 3 <= len(found) <= 6
    for i in found:
        name = cells[i].metadata["exercise"]
        assert name in check.JUDGES
        assert "exercise" in cells[i].metadata.get("tags", [])
        assert f"def {name}(" in cells[i].source
        assert "raise NotImplementedError" in cells[i].source
        assert f"{name} = check.{name}({name})" in cells[i + 1].source
        assert f"{name}: not yet." in cells[i + 1].outputs[0].text
        assert f'check.solution("{name}")' in cells[i + 2].source


@every_notebook
def test_with_every_exercise_solved_all_checks_pass_and_it_runs_to_the_end(path: Path) -> None:
    notebook = read(path)
    names = []
    for cell in code_cells(notebook):
        if name := cell.metadata.get("exercise"):
            cell.source = inspect.getsource(getattr(solutions, name))
            names.append(name)
    ran, outcome = execute.execute(path, "smoke", notebook=notebook)
    assert not outcome.failed, outcome.failed
    printed = "".join(output.text for output in outputs(ran) if output.output_type == "stream")
    for name in names:
        assert f"✓ {name}: right." in printed


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    """Run nbval on one notebook as the test command does."""
    options = ["-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=60"]
    line = [sys.executable, "-m", "pytest", *options, str(path)]
    return subprocess.run(line, cwd=path.parent, env=os.environ, capture_output=True, text=True, check=False)


def shortened(path: Path, to: Path) -> nbformat.NotebookNode:
    """Return a copy of a notebook that ends with its first compared cell, to be written at `to`."""
    notebook = read(path)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith(COMPARED))
    notebook.cells = notebook.cells[: last + 1]
    nbformat.write(notebook, to)
    return notebook


def test_a_spoilt_stored_output_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "copy.ipynb"
    notebook = shortened(PATHS[0], path)
    untouched = nbval(path)
    assert untouched.returncode == 0, untouched.stdout
    notebook.cells[-1].outputs[0].text += "and one line more\n"
    nbformat.write(notebook, path)
    spoilt = nbval(path)
    assert spoilt.returncode == 1
    assert "1 failed" in spoilt.stdout


def test_without_its_count_a_compared_cell_is_not_compared_which_is_why_counts_are_required(
    tmp_path: Path,
) -> None:
    path = tmp_path / "copy.ipynb"
    cell = nbformat.v4.new_code_cell(f"{COMPARED}\nprint(1 + 1)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert nbval(path).returncode == 0
