"""The commands: what they print, what they leave behind, and how they end."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from mmteach import __main__, claims, course, doctor, execute, lab

CLAIM = "from mmteach import check\ncheck.claim('two is three', 2 == 3, '2')"


@pytest.fixture
def tiny(tmp_path: Path):
    """Return a function that writes a notebook of the given code cells and returns its path."""

    def write(*sources: str, name: str = "90_tiny") -> Path:
        path = tmp_path / f"{name}.ipynb"
        cells = [nbformat.v4.new_code_cell(each) for each in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m mmteach ...` as a reader would."""
    line = [sys.executable, "-m", "mmteach", *words]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)


# run


def test_run_saves_outputs_times_and_memory(tiny, tmp_path: Path, capsys) -> None:
    path = tiny("print('hello')")
    assert __main__.main(["run", str(path), "--profile", "smoke", "--out", str(tmp_path / "out")]) == 0
    stored = nbformat.read(tmp_path / "out" / "90_tiny.ipynb", as_version=4)
    assert stored.cells[0].outputs[0].text == "hello\n"
    record = json.loads((tmp_path / "out" / "table.json").read_text())
    assert record["machine"]["cores"] >= 1
    assert record["notebooks"][0]["seconds"] > 0
    assert record["notebooks"][0]["peak_mib"] > 10
    assert f"{record['machine']['cores']} cores" in capsys.readouterr().out


def test_run_leaves_the_notebook_itself_alone(tiny, tmp_path: Path) -> None:
    path = tiny("print('hello')")
    before = path.read_bytes()
    course.run([str(path)], name="smoke", out=tmp_path / "out")
    assert path.read_bytes() == before


def test_run_shows_the_failing_cell_and_exits_non_zero(tiny, tmp_path: Path, capsys) -> None:
    path = tiny("wrong = 1", "wrong / 0", "print('never')")
    assert __main__.main(["run", str(path), "--profile", "smoke", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "fails in cell 2" in said
    assert "wrong / 0" in said
    assert "ZeroDivisionError" in said
    assert "FAILED: 90_tiny" in said


def test_after_a_failing_cell_no_earlier_output_is_left(tiny, tmp_path: Path) -> None:
    path = tiny("1 / 0", "print('late')")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="late\n")]
    ran, outcome = execute.execute(path, "smoke", notebook=notebook)
    assert outcome.failed
    assert ran.cells[1].outputs == []


def test_run_goes_on_after_a_failing_notebook_but_not_after_a_dead_kernel(
    tiny, tmp_path: Path, capsys
) -> None:
    dead, fine = tiny("import os\nos._exit(1)", name="91_dead"), tiny("1", name="92_fine")
    outcomes = course.run([str(dead), str(fine)], name="smoke", out=tmp_path / "out")
    assert [each.died for each in outcomes] == [True]
    assert "Kernel died" in outcomes[0].failed


def test_run_reuses_what_is_done_until_something_changes(tiny, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    path = tiny("print(1)")
    assert not course.run([str(path)], name="smoke", out=out)[0].reused
    assert course.run([str(path)], name="smoke", out=out)[0].reused
    assert "done before" in capsys.readouterr().out
    tiny("print(2)")
    assert not course.run([str(path)], name="smoke", out=out)[0].reused
    assert not course.run([str(path)], name="smoke", out=out, fresh=True)[0].reused


def test_what_a_run_depends_on_is_in_its_digest(tiny) -> None:
    notebook = nbformat.read(tiny("print(1)"), as_version=4)
    same = course.digest(notebook, "smoke")
    assert course.digest(notebook, "smoke") == same
    assert course.digest(notebook, "cpu") != same
    notebook.cells[0].source = "print(2)"
    assert course.digest(notebook, "smoke") != same


def test_the_claims_on_file_count_only_for_a_notebook_that_quotes_them(
    tiny, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(course, "ROOT", tmp_path)
    path = tmp_path / "data" / "results" / "claims.json"
    path.parent.mkdir(parents=True)
    path.write_text("one")
    cells = ("print(1)", "from mmteach import claims")
    notebooks = [nbformat.read(tiny(each), as_version=4) for each in cells]
    before = [course.digest(each, "smoke") for each in notebooks]
    path.write_text("other")
    assert [course.digest(each, "smoke") == old for each, old in zip(notebooks, before, strict=True)] == [
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["emoji/SHA256SUMS", "pretrained/SHA256SUMS", "results/04_gan.json"])
def test_data_weights_and_studies_are_in_the_digest(name: str, tiny, tmp_path: Path, monkeypatch) -> None:
    notebook = nbformat.read(tiny("print(1)"), as_version=4)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_text("one")
    before = course.digest(notebook, "smoke")
    path.write_text("other")
    assert course.digest(notebook, "smoke") != before


def test_a_failed_run_is_not_reused(tmp_path: Path) -> None:
    (tmp_path / "90.ipynb").write_text("")
    failed = execute.Outcome("90", "smoke", 1.0, 1, 1, failed="cell 1", digest="d")
    (tmp_path / "90.json").write_text(json.dumps(failed.__dict__))
    assert course.earlier(tmp_path, "90", "d") is None


@pytest.mark.parametrize(("profile", "status"), [("cpu", 1), ("smoke", 0)])
def test_a_false_claim_fails_a_cpu_run_and_is_not_judged_under_smoke(
    profile: str, status: int, tiny, tmp_path: Path, capsys
) -> None:
    path = tiny(CLAIM)
    assert __main__.main(["run", str(path), "--profile", profile, "--out", str(tmp_path / "out")]) == status
    said = capsys.readouterr().out
    assert ("✗ two is three  [2]" in said) == (profile == "cpu")
    assert ("not judged" in said) == (profile == "smoke")


def test_past_the_deadline_the_rest_runs_under_smoke_and_says_so(tiny, tmp_path: Path, capsys) -> None:
    path = tiny("import os\nprint(os.environ['MMTEACH_PROFILE'])")
    outcome = course.run([str(path)], name="cpu", out=tmp_path / "out", deadline=0)[0]
    assert outcome.profile == "smoke"
    assert "past the deadline of 0 min" in capsys.readouterr().out
    assert (tmp_path / "out" / "smoke" / "90_tiny.ipynb").exists()


def test_what_is_stored_is_free_of_stderr_and_widget_state(tiny, tmp_path: Path) -> None:
    noisy = "import sys, ipywidgets\nprint('noise', file=sys.stderr)\nipywidgets.IntSlider()"
    course.run([str(tiny(noisy))], name="smoke", out=tmp_path)
    text = (tmp_path / "90_tiny.ipynb").read_text()
    assert "noise\\n" not in text
    assert "widget-view" not in text
    assert "widget-state" not in text
    assert execute.WIDGET_TEXT in text


def test_output_widgets_do_not_stall_the_run(tiny, tmp_path: Path) -> None:
    talking = "import ipywidgets\nout = ipywidgets.Output()\nfor i in range(50):\n    with out:\n        print(i)\nout"
    assert not course.run([str(tiny(*[talking] * 4))], name="smoke", out=tmp_path)[0].failed


def test_an_unknown_notebook_is_named_with_those_there_are(tmp_path: Path, capsys) -> None:
    assert __main__.main(["run", "99_nowhere", "--profile", "smoke"]) == 2
    said = capsys.readouterr().err
    assert "no notebook '99_nowhere'" in said
    assert "00_start_here" in said


def test_notebooks_are_found_by_their_number() -> None:
    assert [path.stem for path in course.find(["00"])] == ["00_start_here"]
    assert len(course.find([])) == len(list(course.NOTEBOOKS.glob("[0-9]*.ipynb")))


@pytest.mark.parametrize("words", [["--profile", "smoke"], ["--profile", "cpu", "--deadline", "5"]])
def test_update_is_refused_for_what_the_course_does_not_publish(words: list[str], capsys) -> None:
    assert __main__.main(["run", "00", "--update", *words]) == 2
    assert "--update" in capsys.readouterr().err


HOLDS = "from mmteach import check\ncheck.claim('two is even', 2 % 2 == 0, {'rest': 2 % 2})"


def said(sentence: str = "two is even", holds: bool = True) -> str:
    """Return a cell that leaves what `claim` would, without waiting for the package."""
    made = {"claim": sentence, "holds": holds, "figure": {"rest": 0}, "shown": "rest 0"}
    data = {"text/plain": sentence, claims.MEDIA_TYPE: made}
    return f"from IPython.display import display\ndisplay({data!r}, raw=True)"


QUOTE = "<!-- claims -->\n| 03 | two is even | soon |\n<!-- end of claims -->\n"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch) -> Path:
    """A folder in the place of what `run --update` writes to besides the notebooks."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("README", "TIMINGS", "CLAIMS"):
        path = folder / getattr(course, name).name
        monkeypatch.setattr(course, name, path)
    (folder / "README.md").write_text("nothing\n")
    return folder


def update(*paths: Path, out: Path) -> None:
    """Run notebooks as they are published."""
    course.run([str(path) for path in paths], name="cpu", out=out, update=True)


def test_update_writes_notebook_times_claims_and_readme(tiny, kept: Path, tmp_path: Path) -> None:
    path = tiny(f"# **Time**: soon on two cores; 1 hour for you\n{HOLDS}", name="03_tiny")
    row = "| [03](notebooks/03_tiny.ipynb) | Why? | never | 1 h |\n| other | | x | |\n"
    (kept / "README.md").write_text(row + QUOTE)
    update(path, out=tmp_path / "out")
    cell = nbformat.read(path, as_version=4).cells[0]
    assert cell.outputs[0].data["text/plain"] == "✓ two is even  [rest 0]"
    assert re.match(r"# \*\*Time\*\*: \d+ s on two cores; 1 hour", cell.source)
    assert json.loads((kept / "timings.json").read_text())["notebooks"]["03_tiny"]["peak_mib"] > 0
    readme = (kept / "README.md").read_text()
    assert re.search(r"Why\? \| \d+ s \| 1 h \|\n\| other \| \| x \|", readme)
    assert "| 03 | two is even | rest 0 |" in readme
    entry = claims.read(kept / "claims.json")["03_tiny"]
    assert entry["claims"] == {"two is even": {"holds": True, "figure": {"rest": 0}, "shown": "rest 0"}}
    assert entry["run"].keys() == {"date", "profile", "mmteach", "machine"}
    assert entry["run"]["machine"]["torch"]


def test_update_replaces_the_claims_of_what_it_ran_and_keeps_the_others(
    tiny, kept: Path, tmp_path: Path
) -> None:
    first, second = tiny(said(), name="91_first"), tiny(said(), name="92_second")
    update(first, second, out=tmp_path / "out")
    before = claims.read(kept / "claims.json")
    update(tiny(said("two is an even number"), name="92_second"), out=tmp_path / "out")
    after = claims.read(kept / "claims.json")
    assert after["91_first"] == before["91_first"]
    assert list(after["92_second"]["claims"]) == ["two is an even number"]


def test_the_same_run_again_leaves_the_same_claims_file(tiny, kept: Path, tmp_path: Path) -> None:
    path = tiny(said())
    update(path, out=tmp_path / "out")
    before = (kept / "claims.json").read_bytes()
    update(path, out=tmp_path / "out")
    assert (kept / "claims.json").read_bytes() == before


def test_without_update_the_claims_go_where_the_run_goes(tiny, kept: Path, tmp_path: Path) -> None:
    course.run([str(tiny(HOLDS))], name="smoke", out=tmp_path / "out")
    assert not (kept / "claims.json").exists()
    assert claims.read(tmp_path / "out" / "claims.json")["90_tiny"]["claims"]["two is even"]["holds"] is None


def test_a_failed_claim_that_a_notebook_swallows_still_updates_nothing(
    tiny, kept: Path, tmp_path: Path
) -> None:
    path = tiny(said("two is three", holds=False))
    before = path.read_bytes()
    with pytest.raises(course.CannotRun, match="not borne out: two is three"):
        update(path, out=tmp_path / "out")
    assert path.read_bytes() == before
    assert [each.name for each in kept.iterdir()] == ["README.md"]


def test_an_update_broken_off_while_it_writes_leaves_the_old_claims(
    tiny, kept: Path, tmp_path: Path, monkeypatch
) -> None:
    update(tiny(said()), out=tmp_path / "out")
    before = (kept / "claims.json").read_bytes()

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == "claims.json" and Path(target).parent == kept:
            raise KeyboardInterrupt
        Path(source).rename(target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        update(tiny(said("two is even too")), out=tmp_path / "out")
    assert (kept / "claims.json").read_bytes() == before


def test_a_readme_that_quotes_what_is_not_claimed_updates_nothing(tiny, kept: Path, tmp_path: Path) -> None:
    (kept / "README.md").write_text(QUOTE.replace("even", "odd"))
    with pytest.raises(course.CannotRun, match="no claims of 03_tiny say 'two is odd'"):
        update(tiny(said(), name="03_tiny"), out=tmp_path / "out")
    assert not (kept / "claims.json").exists()


def test_a_sentence_claimed_twice_is_told(tiny, tmp_path: Path) -> None:
    with pytest.raises(course.CannotRun, match="90_tiny: claimed twice: 'two is even'"):
        course.run([str(tiny(said(), said()))], name="smoke", out=tmp_path / "out")


def test_update_keeps_what_was_written_into_a_notebook_while_it_ran(tiny, kept: Path, tmp_path: Path) -> None:
    path = tiny(
        "import pathlib", "pathlib.Path('90_tiny.ipynb').write_text(pathlib.Path('edited').read_text())"
    )
    edited = path.read_text().replace("import pathlib", "import pathlib  # a note")
    (tmp_path / "edited").write_text(edited)
    with pytest.raises(course.CannotRun, match="edited while it ran"):
        update(path, out=tmp_path / "out")
    assert path.read_text() == edited


def test_a_failed_run_updates_nothing(tiny, kept: Path, tmp_path: Path) -> None:
    path = tiny("1 / 0")
    before = path.read_bytes()
    update(path, out=tmp_path / "out")
    assert path.read_bytes() == before
    assert [each.name for each in kept.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2, "5 s"), (18, "20 s"), (61, "1 min"), (89, "1½ min"), (155, "2½ min"), (239, "4 min")],
)
def test_times_are_given_as_a_reader_wants_them(seconds: float, words: str) -> None:
    assert course.spoken(seconds) == words


# doctor


def states() -> dict[str, doctor.Line]:
    """Return the doctor's findings by name."""
    return {line.name: line for line in doctor.report()}


def test_the_doctor_finds_a_checkout_in_order(capsys) -> None:
    assert __main__.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in (
        "Python",
        "packages",
        "profile",
        "device",
        "memory",
        "disk",
        "Jupyter",
        "data",
        "weights",
        "time",
    ):
        assert re.search(rf"^(OK|note) +{name}\b", said, re.MULTILINE), name
    assert said.splitlines()[-1].startswith("Ready")


def test_the_doctor_says_what_to_do_when_the_data_are_missing(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MMTEACH_DATA", str(tmp_path))
    assert __main__.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^MEND +data .*MMTEACH_DATA", said, re.MULTILINE)
    assert said.splitlines()[-1] == "Not ready: mend data first."


def test_the_doctor_counts_the_shipped_weights() -> None:
    assert re.match(r"\d+ models? of the course, [\d.]+ MB, intact", states()["weights"].text)


def test_the_doctor_says_which_weights_are_damaged_and_what_to_do(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "SHA256SUMS").write_text(f"{'0' * 64}  gan.safetensors\n")
    (tmp_path / "pretrained" / "gan.safetensors").write_bytes(b"cut short")
    monkeypatch.setenv("MMTEACH_DATA", str(tmp_path))
    line = doctor.check_weights()
    assert line.state == "broken"
    assert re.search(r"gan\.safetensors is damaged.*git checkout", line.text)


def test_the_doctor_says_where_weights_are_missing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MMTEACH_DATA", str(tmp_path))
    line = doctor.check_weights()
    assert line.state == "note"
    assert "MMTEACH_DATA" in line.advice


def test_the_doctor_names_a_profile_that_does_not_exist(monkeypatch) -> None:
    monkeypatch.setenv("MMTEACH_PROFILE", "huge")
    assert states()["profile"].state == "broken"
    assert "'huge'" in states()["profile"].text


def test_the_doctor_says_when_gpu_is_asked_for_and_there_is_none(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("MMTEACH_PROFILE", "gpu")
    assert doctor.check_profile().state == "broken"
    assert "Unset MMTEACH_PROFILE" in doctor.check_profile().advice


def test_the_doctor_notes_a_gpu_that_others_fill(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (1 * 2**30, 40 * 2**30))
    line = doctor.check_device()
    assert (line.state, line.text) == ("note", "a GPU, 1.0 of 40.0 GiB free")


def test_the_doctor_names_packages_missing_or_out_of_range(monkeypatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda name: ["nowhere>1", "numpy<1", "x>1; extra == 'test'"]
    )
    line = doctor.check_packages()
    assert line.state == "broken"
    assert "nowhere is missing; numpy is" in line.text
    assert "pip install" in line.advice


def test_a_check_that_fails_is_a_finding_and_stops_nothing(monkeypatch) -> None:
    def check_luck() -> doctor.Line:
        raise OSError("none left")

    monkeypatch.setattr(doctor, "CHECKS", (check_luck, doctor.check_python))
    assert [(line.name, line.state) for line in doctor.report()] == [("luck", "broken"), ("Python", "ok")]


# lab


def test_lab_check_works_from_any_folder_with_its_port_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("lab", "--check", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"answers at http://localhost:(\d+)/", done.stdout)[1] != str(port)
    assert "notebook 00 is open" in done.stdout
    assert done.stdout.splitlines()[-1] == "OK: everything started, answered and stopped."


def test_lab_explains_itself_outside_a_checkout(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    assert __main__.main(["lab"]) == 2
    assert "clone it" in capsys.readouterr().err


def test_lab_says_why_jupyterlab_did_not_start() -> None:
    with pytest.raises(lab.CannotOpen, match="ended at once"), lab.private_server("--ServerApp.port=words"):
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system knows no root")
@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_allowed_only_where_it_is_root_that_asks(user: int, allowed: bool, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ("--allow-root" in lab.command(8888, lab.ROOT)) == allowed


def test_no_browser_is_opened_without_a_display(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not lab.has_display()
    monkeypatch.setenv("DISPLAY", ":0")
    assert lab.has_display()


def test_jupyterlab_is_told_to_fetch_no_news() -> None:
    assert {"--LabApp.news_url=None", "--LabApp.extension_manager=readonly"} <= set(
        lab.command(8888, lab.ROOT)
    )


# all


@pytest.mark.parametrize("words", [[], ["lab"], ["doctor"], ["run"], ["study"], ["pretrain"], ["bench"]])
def test_every_command_has_help(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main([*words, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_package_imports_without_jupyter() -> None:
    program = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith(
            ("IPython", "ipy", "jupyter", "nbformat", "nbclient", "psutil", "soundfile")
        ):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    importlib.import_module(f"mmteach.{name}")
"""
    commands = {"__init__", "__main__", "course", "doctor", "execute", "lab"}
    names = sorted({path.stem for path in Path(doctor.__file__).parent.glob("*.py")} - commands)
    assert "data" in names
    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
