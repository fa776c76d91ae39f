"""The checks: what a reader is told, and that every exercise has all its parts.

Wrong answers live in tests/wrong_answers_NN.py, one `WRONG: dict[str, list[Callable]]` a notebook.
"""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from mmteach import check, solutions
from mmteach.metrics import Interval

HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parent / "notebooks").glob("*.ipynb"))


def wrong_answers() -> dict[str, list]:
    """Collect every wrong answer of every notebook, by the name of its exercise."""
    found: dict[str, list] = {}
    for path in sorted(HERE.glob("wrong_answers_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert not set(found) & set(module.WRONG), f"{path.name} repeats an exercise of another file"
        found.update(module.WRONG)
    return found


def stubs() -> dict[str, tuple[Path, list, int]]:
    """Return for each exercise the notebook, its cells and the position of the stub."""
    found = {}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        for place, cell in enumerate(cells):
            if name := cell.metadata.get("exercise"):
                assert name not in found, f"{name} has two stubs"
                found[name] = (path, cells, place)
    return found


WRONG, STUBS, EXERCISES = wrong_answers(), stubs(), sorted(check.JUDGES)


@pytest.fixture
def judge(monkeypatch):
    """Register a judge of `double`, whose reference lives in `solutions` for the length of a test."""

    def double(fn):
        answer = fn(3)
        check.need(answer, int, "the answer")
        if answer == 9:
            raise check.Mistake("you squared")
        check.need_close(answer, 6, "the answer")

    monkeypatch.setattr(solutions, "double", lambda x: 2 * x, raising=False)
    monkeypatch.setattr("mmteach.judging.JUDGES", dict(check.JUDGES))
    return check.exercise(double)


def test_a_right_answer_is_returned_and_praised(judge, capsys):
    mine = lambda x: x + x  # noqa: E731
    assert judge(mine) is mine
    assert capsys.readouterr().out == "✓ double: right.\n"


def test_an_unsolved_stub_goes_on_with_the_reference(judge, capsys):
    def double(x):
        """Twice x."""
        raise NotImplementedError

    assert judge(double) is solutions.double
    assert capsys.readouterr().out == "· double: not yet.\n  Going on with the reference.\n"


@pytest.mark.parametrize("empty", [lambda x: None, lambda x: ...])
def test_an_answer_of_nothing_is_not_yet_and_asks_for_the_return(judge, empty):
    verdict, passed = check.judged("double", empty)
    assert not passed
    assert verdict.startswith("· double: not yet.")
    assert "return" in verdict


def test_a_mistake_says_what_is_wrong_and_the_reference_goes_on(judge, capsys):
    assert judge(lambda x: x * x) is solutions.double
    assert capsys.readouterr().out == "✗ double: you squared\n  Going on with the reference.\n"


def test_an_unknown_mistake_says_by_how_much(judge):
    assert check.judged("double", lambda x: x)[0] == "✗ double: the answer is off by up to 3."


def test_an_exception_names_its_kind_and_the_line_of_the_reader(judge):
    def double(x):
        twice = x * 2
        return twice / 0

    verdict, passed = check.judged("double", double)
    assert not passed
    assert (
        verdict
        == "✗ double: your function raised an error in its line 3. ZeroDivisionError: division by zero"
    )


def test_an_exception_deeper_down_names_the_line_that_led_there(judge):
    def double(x):
        return np.linalg.inv(np.zeros((2, 2)))

    assert "in its line 2. LinAlgError" in check.judged("double", double)[0]


def test_an_answer_that_the_check_cannot_read_is_not_blamed_on_the_readers_code(monkeypatch):
    monkeypatch.setattr("mmteach.judging.JUDGES", {"f": lambda fn: fn().shape})
    verdict, passed = check.judged("f", lambda: [1])
    assert not passed
    assert verdict.startswith("✗ f: what your function gives back does not fit. AttributeError")


def test_an_operation_that_torch_has_not_is_an_error_and_not_an_empty_stub(judge):
    def double(x):
        raise NotImplementedError("Could not run 'aten::foo'")

    assert "raised an error in its line 2" in check.judged("double", double)[0]


def test_something_that_is_no_function_is_refused_in_words(judge, capsys):
    assert judge(6) is solutions.double
    assert "give the check the function itself, not something of type int" in capsys.readouterr().out


def test_a_wrong_type_is_named(judge):
    assert (
        check.judged("double", lambda x: "6")[0]
        == "✗ double: the answer should be of type int, but is of type str."
    )


def test_a_wrong_shape_is_named_even_where_numpy_would_broadcast():
    with pytest.raises(check.Mistake, match=r"has shape \(3, 1\), expected \(3,\)"):
        check.need_close(np.zeros((3, 1)), np.zeros(3), "it")


def test_a_tensor_with_a_gradient_can_be_compared():
    check.need_close(torch.ones(2, requires_grad=True), np.ones(2), "it")


@pytest.mark.parametrize(
    ("answer", "expected", "gap"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([np.nan], [1.0], np.inf),
        ([1.0], [np.nan], np.inf),
        ([np.nan, np.inf], [np.nan, np.inf], 0.0),
        ([-np.inf], [np.inf], np.inf),
        ([], [], 0.0),
    ],
)
def test_the_gap_of_two_answers(answer, expected, gap):
    assert check.gap(answer, expected) == gap


def test_a_gap_that_is_not_finite_is_a_mistake():
    with pytest.raises(check.Mistake, match="inf"):
        check.need_close([np.nan], [1.0], "it")


def test_a_known_mistake_is_recognised_by_what_its_rule_gives():
    assert check.close(np.float32([1, 2]), [1, 2])
    assert not check.close([1, 2], [1, 2.1])
    assert not check.close([[1, 2]], [1, 2])
    assert not check.close(["a"], [1])


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_claim_that_holds_is_ticked(monkeypatch, capsys, profile):
    monkeypatch.setenv("MMTEACH_PROFILE", profile)
    check.claim("two is even", np.bool_(True), "2")
    assert capsys.readouterr().out == "✓ two is even  [2]\n"


def test_an_interval_behind_a_claim_keeps_its_own_brackets_only(monkeypatch, capsys):
    monkeypatch.setenv("MMTEACH_PROFILE", "cpu")
    check.claim("it learns", True, Interval(0.1, 0.2, 0.3))
    assert capsys.readouterr().out == "✓ it learns  0.200 [0.100, 0.300]\n"


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_claim_that_does_not_hold_fails_the_run(monkeypatch, capsys, profile):
    monkeypatch.setenv("MMTEACH_PROFILE", profile)
    with pytest.raises(check.ClaimFailed, match="three is even"):
        check.claim("three is even", False)
    assert capsys.readouterr().out == "✗ three is even\n"


@pytest.mark.parametrize("holds", [True, False])
def test_a_smoke_run_judges_no_claim_and_says_so(monkeypatch, capsys, holds):
    monkeypatch.setenv("MMTEACH_PROFILE", "smoke")
    check.claim("it learns", holds, "0.5")
    assert capsys.readouterr().out == "· it learns  [0.5]  (smoke run: not judged)\n"


@pytest.mark.parametrize("holds", [0.3, float("nan"), "yes", None])
def test_a_claim_on_a_bare_figure_is_refused(holds):
    with pytest.raises(TypeError, match="true or false"):
        check.claim("it learns", holds)


def test_a_solution_is_shown_folded_and_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    monkeypatch.setattr(inspect, "getsource", lambda _: "def f(a):\n    return a < 1\n")
    monkeypatch.setattr(solutions, "f", lambda a: a < 1, raising=False)
    check.solution("f")
    assert "<details><summary>" in shown[0]["text/html"]
    assert "a &lt; 1" in shown[0]["text/html"]
    assert "a < 1" not in shown[0]["text/plain"]


# Every exercise has all its parts.


def test_the_parts_name_the_same_exercises():
    assert set(WRONG) == set(EXERCISES)
    assert set(STUBS) == set(EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_is_accepted(name):
    assert check.judged(name, getattr(solutions, name)) == (f"✓ {name}: right.", True)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_stands_alone_on_numpy_and_torch(name):
    space = {"np": np, "torch": torch}
    exec(inspect.getsource(getattr(solutions, name)), space)
    assert check.judged(name, space[name])[1]


@pytest.mark.parametrize("name", EXERCISES)
def test_wrong_answers_are_rejected_each_in_words_of_its_own(name):
    wrong = WRONG.get(name, [])
    verdicts = [check.judged(name, fn) for fn in wrong]
    assert [fn.__name__ for fn, (_, passed) in zip(wrong, verdicts, strict=True) if passed] == []
    messages = [message for message, _ in verdicts]
    named = [message for message in messages if "raised an error" not in message]
    assert all(message.startswith(f"✗ {name}: ") for message in messages), messages
    assert not any("does not fit" in message for message in messages), messages
    assert len(set(messages)) == len(messages), messages
    assert len(named) >= 3, f"{name} needs three wrong answers that a message names: {messages}"


@pytest.mark.parametrize("name", EXERCISES)
def test_the_committed_stub_is_unsolved_and_says_so(name):
    _, cells, place = STUBS[name]
    space = {"np": np, "torch": torch}
    exec(cells[place].source, space)
    assert check.judged(name, space[name]) == (f"· {name}: not yet.", False)
    assert space[name].__doc__, "the stub says what goes in and what comes out"


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_check_and_folded_solution_follow_each_other(name):
    _, cells, place = STUBS[name]
    code = [cell.source for cell in cells[place:] if cell.cell_type == "code"]
    assert "exercise" in cells[place].metadata.get("tags", [])
    assert cells[place - 1].cell_type == "markdown"
    assert f"{name} = check.{name}({name})" in code[1]
    assert code[2].strip() == f'check.solution("{name}")'


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_takes_what_the_reference_takes(name):
    _, cells, place = STUBS[name]
    space = {"np": np, "torch": torch}
    exec(cells[place].source, space)
    assert list(inspect.signature(space[name]).parameters) == list(
        inspect.signature(getattr(solutions, name)).parameters
    )
