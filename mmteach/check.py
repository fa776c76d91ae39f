"""Exercise checks that answer at once, and claims that a full run must keep.

Used by every notebook: `fn = check.<name>(fn)` judges a reader's function and returns the one to go on with.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from IPython.display import HTML, display

from mmteach import solutions
from mmteach.train import profile


class Mistake(Exception):
    """What is wrong with an answer, in words the reader can act on."""


class ClaimFailed(AssertionError):
    """A claim of the course did not hold in this run."""


Check = Callable[[Callable[..., Any]], Callable[..., Any]]
JUDGES: dict[str, Callable[[Callable[..., Any]], None]] = {}


def exercise(judge: Callable[[Callable[..., Any]], None]) -> Check:
    """Turn `judge(fn)`, which raises Mistake for a wrong answer, into the check a notebook calls.

    The check prints the verdict and returns `fn` when it is right, else the reference of the same name.
    """
    name = judge.__name__
    JUDGES[name] = judge

    def check(fn: Callable[..., Any]) -> Callable[..., Any]:
        verdict, passed = judged(name, fn)
        print(verdict if passed else f"{verdict}\n  Going on with the reference.")
        return fn if passed else getattr(solutions, name)

    check.__name__, check.__doc__ = name, judge.__doc__
    return check


def judged(name: str, fn: Callable[..., Any]) -> tuple[str, bool]:
    """Return (verdict, passed) for answer `fn` to exercise `name`, never raising."""
    try:
        JUDGES[name](fn)
    except NotImplementedError:
        return f"· {name}: not yet.", False
    except Mistake as mistake:
        return f"✗ {name}: {mistake}", False
    except Exception as error:  # the reader's own code may raise anything at all
        line = _line_in(fn, error)
        return f"✗ {name}: your function raised {type(error).__name__}{line}: {error}", False
    return f"✓ {name}: right.", True


def _line_in(fn: Callable[..., Any], error: Exception) -> str:
    """Return ' in line N of <name>' for the deepest frame of `error` inside `fn`, else ''."""
    code, found, trace = getattr(fn, "__code__", None), "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code and code is not None:
            found = f" in its line {trace.tb_lineno - code.co_firstlineno + 1}"
        trace = trace.tb_next
    return found


def solution(name: str) -> None:
    """Show the reference solution of exercise `name`, folded away until it is clicked."""
    text = html.escape(inspect.getsource(getattr(solutions, name)).rstrip())
    display(HTML(f"<details><summary>A solution of <code>{name}</code> (open it after your own try)</summary>"
                 f"<pre>{text}</pre></details>"))


def need(answer: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Raise NotImplementedError for an empty answer (None), Mistake when it is not a `kind`."""
    if answer is None or answer is Ellipsis:
        raise NotImplementedError
    if not isinstance(answer, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise Mistake(f"{what} should be a {names}, but is a {type(answer).__name__}.")


def need_shape(answer: Any, shape: tuple[int, ...], what: str) -> None:
    """Raise Mistake when `answer.shape` is not `shape`."""
    if tuple(answer.shape) != tuple(shape):
        raise Mistake(f"{what} has shape {tuple(answer.shape)}, expected {tuple(shape)}.")


def gap(answer: Any, expected: Any) -> float:
    """Return the largest absolute difference; infinite where `answer` is not finite and `expected` is."""
    difference = np.abs(np.asarray(answer, dtype=np.float64) - np.asarray(expected, dtype=np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def need_close(answer: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    """Raise Mistake, saying by how much, when `answer` is further than `tolerance` from `expected`."""
    off = gap(answer, expected)
    if off > tolerance:
        raise Mistake(f"{what} is off by up to {off:.3g}.")


def claim(text: str, holds: Any, figure: str = "") -> None:
    """State a claim and whether this run bears it out; `figure` is the number behind it.

    Under `cpu` and `gpu` a claim that does not hold raises ClaimFailed; `smoke` is too short to judge one.
    """
    holds = bool(holds)
    mark = "✓" if holds else "✗"
    tail = f"  [{figure}]" if figure else ""
    if profile() == "smoke":
        print(f"· {text}{tail}  (smoke run: not judged)")
        return
    print(f"{mark} {text}{tail}")
    if not holds:
        raise ClaimFailed(f"{text}{tail}")
