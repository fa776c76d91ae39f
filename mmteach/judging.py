"""How an answer to an exercise is judged, and how a claim is stated: what all checks of `mmteach.check` share."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmteach import claims, solutions
from mmteach.metrics import Interval
from mmteach.train import profile


class Mistake(Exception):
    """What is wrong with an answer, in words the reader can act on."""


class ClaimFailed(AssertionError):
    """A claim of the course did not hold in this run."""


Judge = Callable[[Callable[..., Any]], None]
Check = Callable[[Callable[..., Any]], Callable[..., Any]]
JUDGES: dict[str, Judge] = {}


def exercise(judge: Judge) -> Check:
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
    """Return (verdict, passed) for answer `fn` to exercise `name`; whatever `fn` does, this does not raise."""
    if not callable(fn):
        return (
            f"✗ {name}: give the check the function itself, not something of type {type(fn).__name__}.",
            False,
        )
    watched = _watched(fn) if inspect.isfunction(fn) else fn
    try:
        JUDGES[name](watched)
    except Mistake as mistake:
        return f"✗ {name}: {mistake}", False
    except Exception as error:  # the reader's own code may raise anything at all
        return _empty(error, name) or _raised(error, name, fn), False
    return f"✓ {name}: right.", True


class Nothing(NotImplementedError):
    """The answer came back as None: an empty body, or a forgotten return."""


def _watched(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn`, but raising Nothing where it gives None or an ellipsis back."""

    @functools.wraps(fn)
    def watched(*args: Any, **kwargs: Any) -> Any:
        answer = fn(*args, **kwargs)
        if answer is None or answer is Ellipsis:
            raise Nothing
        return answer

    return watched


def _empty(error: Exception, name: str) -> str:
    """Return the verdict on an answer not yet written, '' on any other; torch's own errors carry a message."""
    if isinstance(error, Nothing):
        return f"· {name}: not yet. It gives nothing back (None): is the return missing?"
    return f"· {name}: not yet." if isinstance(error, NotImplementedError) and not error.args else ""


def _raised(error: Exception, name: str, fn: Callable[..., Any]) -> str:
    """Return the verdict on an answer that broke off, or that the check could not make sense of."""
    said = f"{type(error).__name__}: {error}"
    codes, trace, line = [], error.__traceback__, ""
    while trace is not None:
        codes.append(trace.tb_frame.f_code.co_name)
        if trace.tb_frame.f_code is getattr(fn, "__code__", None):
            line = f" in its line {trace.tb_lineno - trace.tb_frame.f_code.co_firstlineno + 1}"
        trace = trace.tb_next
    if line or "watched" in codes:
        return f"✗ {name}: your function raised an error{line}. {said}"
    return f"✗ {name}: what your function gives back does not fit. {said}"


def solution(name: str) -> None:
    """Show the reference solution of exercise `name`, folded away until it is clicked."""
    text = inspect.getsource(getattr(solutions, name)).rstrip()
    summary = f"<summary>A solution of <code>{name}</code> (open it after your own try)</summary>"
    body = f"<details>{summary}<pre>{html.escape(text)}</pre></details>"
    try:
        from IPython.display import display
    except ImportError:
        print(text)
    else:
        display({"text/html": body, "text/plain": f"[a solution of {name}, folded away]"}, raw=True)


def need(answer: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Raise Nothing for an empty answer (None), Mistake when it is not a `kind`."""
    if answer is None or answer is Ellipsis:
        raise Nothing
    if not isinstance(answer, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise Mistake(f"{what} should be of type {names}, but is of type {type(answer).__name__}.")


def need_shape(answer: Any, shape: tuple[int, ...], what: str) -> None:
    """Raise Mistake when the shape of `answer` is not `shape`."""
    found = tuple(np.shape(_array(answer)))
    if found != tuple(shape):
        raise Mistake(f"{what} has shape {found}, expected {tuple(shape)}.")


def _array(values: Any) -> np.ndarray:
    """Return numbers as an array, also from a tensor that asks for a gradient."""
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)


def gap(answer: Any, expected: Any) -> float:
    """Return the largest absolute difference; infinite where only one side is finite, 0 where both are the same."""
    a, b = _array(answer).astype(np.float64), _array(expected).astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.where(same, 0.0, np.nan_to_num(difference, nan=np.inf, posinf=np.inf)).max(initial=0.0))


def close(answer: Any, expected: Any, tolerance: float = 1e-5) -> bool:
    """Return whether shapes agree and no number is further off than `tolerance`: to recognise a known mistake."""
    a, b = _array(answer), _array(expected)
    return a.shape == b.shape and a.dtype.kind in "biuf" and gap(a, b) <= tolerance


def need_close(answer: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    """Raise Mistake, saying by how much, when `answer` is of another shape or further than `tolerance` away."""
    need_shape(answer, np.shape(_array(expected)), what)
    off = gap(answer, expected)
    if not off <= tolerance:
        raise Mistake(f"{what} is off by up to {off:.3g}.")


def need_told_apart(
    answer: Any, expected: Any, mistakes: dict[str, Any], what: str, tolerance: float = 1e-6
) -> None:
    """Accept `answer` near `expected`; else raise the words of the mistake it equals, or say how far it is off."""
    if close(answer, expected, tolerance):
        return
    for words, result in mistakes.items():
        if close(answer, result, tolerance):
            raise Mistake(words)
    need_close(answer, expected, what, tolerance)


def claim(text: str, holds: Any, figure: Any = "", form: str = "") -> None:
    """State a claim and whether this run bears it out; `figure` is the number behind it.

    `figure`: a number, an Interval, a dict of them, or text; it is shown by `form`, as str.format takes it
    ('{:.1f} dB'; a dict by its names, '{kept:.0f} of {used:.0f}'), and kept beside the line for `mmteach.claims`.
    Under `cpu` and `gpu` a claim that does not hold raises ClaimFailed; `smoke` is too short to judge one.
    Raises TypeError when `holds` is a figure where true or false is meant.
    """
    if not isinstance(holds, (bool, np.bool_)):
        raise TypeError(f"claim needs true or false, got {holds!r}: compare the figure with something")
    judged, shown = profile() != "smoke", claims.spoken(figure, form)
    bare = isinstance(figure, Interval) or not shown  # an interval brings its brackets
    said = text if not shown else f"{text}  {shown if bare else f'[{shown}]'}"
    mark, tail = ("✓" if holds else "✗", "") if judged else ("·", "  (smoke run: not judged)")
    kept = {
        "claim": text,
        "holds": bool(holds) if judged else None,
        "figure": claims.plain(figure),
        "shown": shown,
    }
    _show(f"{mark} {said}{tail}", {claims.MEDIA_TYPE: kept})
    if judged and not holds:
        raise ClaimFailed(said)


def _show(line: str, beside: dict[str, Any]) -> None:
    """Show a line in the notebook with what programs read beside it; outside of one, print it."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        inside = False
    else:
        inside = get_ipython() is not None
    if inside:
        display({"text/plain": line, **beside}, raw=True)
    else:
        print(line)
