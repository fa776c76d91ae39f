"""What a newcomer finds at the top: commands that are there, times that were measured, and nothing left over."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from mmteach import claims, course, pretrain
from mmteach.__main__ import STUDIES
from mmteach.doctor import ROOT, TIMINGS

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (
    "python -m pip install -e . && python -m mmteach lab",
    'python -m pip install -e ".[test]" && python -m pytest',
)
TOP = {
    *(
        "notebooks",
        "mmteach",
        "data",
        "tests",
        ".ci",
        ".gitignore",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    ),
    *("environment.yml", "pyproject.toml", "LICENSE", "LICENSE-TEXT", "CITATION.cff"),
}
# Folders of one machine and mirrors of one network have no place in a file that others read.
PRIVATE = re.compile(
    rb"(?<![\w.~])/(?:work|root|home/\w+|Users/\w+)/|files\.pythonhosted|pypi\.org/simple|registry\.npmjs"
)


def tracked() -> list[Path]:
    """Return the files under version control; skip where there is none, in an unpacked archive for example."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_top_level_holds_the_usual_and_no_more() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP


def test_tracked_files_name_no_private_place() -> None:
    texts = [path for path in tracked() if path.suffix not in {".webp", ".ogg", ".png"}]
    found = {str(path): PRIVATE.findall(path.read_bytes()) for path in texts if path != Path(__file__)}
    assert not {name: hits for name, hits in found.items() if hits}


def test_the_readme_gives_both_commands_each_on_a_line_of_its_own() -> None:
    lines = [line.strip() for line in README.splitlines()]
    for command in COMMANDS:
        assert lines.count(command) == 1


def test_the_readme_shows_the_times_that_were_measured() -> None:
    times = json.loads(TIMINGS.read_text(encoding="utf-8"))["notebooks"]
    assert course.with_times(README, times) == README
    assert sorted(times) == [path.stem for path in course.find([])]
    for stem in times:
        assert f"](notebooks/{stem}.ipynb) |" in README


@pytest.mark.parametrize("path", course.find([]), ids=lambda path: path.stem)
def test_each_notebook_gives_its_measured_time_first(path: Path) -> None:
    times = json.loads(TIMINGS.read_text(encoding="utf-8"))["notebooks"]
    first = nbformat.read(path, as_version=4).cells[0].source
    assert course.TIME.search(first)
    assert course.with_time(first, times[path.stem]["seconds"]) == first


def test_the_readme_quotes_the_figures_that_are_on_file() -> None:
    entries = claims.read(claims.FILE)
    assert claims.quoted(README, entries) == README
    rows = re.findall(r"^\| (\d\d) \| (.+?) \| (.+) \|$", README, re.MULTILINE)
    assert {row[0] for row in rows} == {path.stem[:2] for path in course.find([])} - {"00"}
    for notebook, sentence, shown in rows:
        assert claims.find(notebook, sentence, entries)["shown"] == shown


@pytest.mark.parametrize("path", course.find([]), ids=lambda path: path.stem)
def test_each_notebook_shows_the_claims_that_are_on_file(path: Path) -> None:
    shown = claims.collect(nbformat.read(path, as_version=4))
    assert shown
    assert shown == claims.borne_out(path.stem, claims.read(claims.FILE)[path.stem]["claims"])


def test_the_readme_names_everything_that_can_be_trained_again() -> None:
    row = next(line for line in README.splitlines() if "python -m mmteach pretrain NAME" in line)
    assert set(re.findall(r"`(\w+)`", row)) == set(pretrain.RECIPES)


def test_every_study_is_named_after_its_notebook() -> None:
    notebooks = {path.stem[:2] for path in course.find([])}
    assert all(re.fullmatch(r"\d\d_\w+", name) and name[:2] in notebooks for name in STUDIES)


def test_each_defect_of_well_known_code_has_tests_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| .+? \| (.+) \|$", text, re.MULTILINE)
    assert [number for number, _ in rows] == list("123456")
    for _, named in rows:
        tests = re.findall(r"`(tests/\w+\.py)::(test_\w+)`", named)
        assert tests
        for path, name in tests:
            assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_every_file_that_the_readme_points_to_is_there() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)|<img[^>]* src=\"([^\"]+)\"", README)
    assert targets
    for target in (one or other for one, other in targets):
        assert (ROOT / target).exists(), target


def test_the_environment_file_adds_nothing_to_pyproject() -> None:
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert [re.split("[=<>]", each)[0] for each in wanted[:-1]] == ["python", "pip"]
    assert wanted[-1] == {"pip": ['-e ".[lab,test]"']}


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {"lab", "test", "build", "bench", "fidelity"} <= set(extras)
    for each in [*project["dependencies"], *(each for extra in extras.values() for each in extra)]:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+,<[\d.]+", each), each


def sizes(folder: str) -> dict[str, int]:
    """Return the bytes of each tracked file under `folder`, by its path there."""
    top = ROOT / folder
    return {str(path.relative_to(top)): path.stat().st_size for path in tracked() if path.is_relative_to(top)}


def test_the_data_stay_as_small_as_promised() -> None:
    everything, emoji, weights = (
        sum(sizes(each).values()) for each in ("data", "data/emoji", "data/pretrained")
    )
    assert emoji <= 27e6
    assert weights <= 12e6
    assert everything - emoji - weights <= 1e6


def test_every_shipped_model_has_a_card_and_a_checksum() -> None:
    names = sizes("data/pretrained")
    sums = (ROOT / "data" / "pretrained" / "SHA256SUMS").read_text(encoding="utf-8").split()[1::2]
    models = [name for name in names if name.endswith(".safetensors")]
    assert models
    for name in models:
        assert name.replace(".safetensors", ".md") in names
        assert name in sums


def test_no_tracked_file_is_a_pickle() -> None:
    endings = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy"}
    assert not [str(path) for path in tracked() if path.suffix in endings]
    for path in tracked():
        start = path.read_bytes()[:2]
        assert start[:1] != b"\x80" or start[1] > 5, f"{path} begins as a pickle does"
        zipped = start == b"PK" and path.parent.name != "speech"  # those hold sounds
        assert not zipped, f"{path} is a zip, as torch.save writes"


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert f'__version__ = "{version}"' in (ROOT / "mmteach" / "__init__.py").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_modules_open_with_what_they_hold() -> None:
    for path in sorted((ROOT / "mmteach").glob("*.py")):
        assert path.read_text(encoding="utf-8").startswith('"""'), path.name
