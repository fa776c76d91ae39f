"""Pictures and figures of notebook 08: what stands beside the real pictures, and accuracy over label budgets.

Plain functions that return arrays, figures or tables; nothing here trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmteach.metrics import Interval
from mmteach.plot import DASHES, GREY, MARKS, PALETTE, canvas, label, styled

Levels = Mapping[str, Mapping[str, Interval]]


def verdict(gain: Interval) -> str:
    """Return what an interval allows to say: 'helps', 'hurts', or 'makes no difference that shows'."""
    if gain.low > 0:
        return "helps"
    return "hurts" if gain.high < 0 else "makes no difference that shows"


def by_class(images: np.ndarray, labels: np.ndarray, each: int) -> list[np.ndarray]:
    """Return the first `each` pictures of every class, class after class: a list of (H, W, 3)."""
    return [picture for k in np.unique(labels) for picture in images[labels == k][:each]]


@styled
def draw_budgets(
    levels: Levels, title: str, *, arms: Sequence[str] = (), chance: float | None = None
) -> Figure:
    """Draw accuracy over label budgets, a line and its intervals for each arm; `chance` is a dotted line."""
    shown: dict[str, Mapping[str, Interval]] = {name: levels[name] for name in (arms or levels)}
    budgets = list(max(shown.values(), key=lambda each: sum(1 for _ in each)))
    place = {name: i for i, name in enumerate(budgets)}
    fig, ax = canvas(8.6, 4.4)
    for i, (name, found) in enumerate(shown.items()):
        x = np.array([place[b] for b in found]) + 0.05 * (i - len(shown) / 2)
        low, mean, high = np.array([tuple(each) for each in found.values()]).T
        look = {"color": PALETTE[i % 7], "marker": MARKS[i % 7]}
        ax.plot(x, mean, label=name, linestyle=DASHES[i % 7], **look)
        ax.vlines(x, low, high, color=look["color"], alpha=0.5, linewidth=3)
    if chance is not None:
        ax.axhline(chance, color=GREY, linestyle=":", linewidth=1.6)
        ax.annotate(
            "always the largest class", (0, chance), (0, 4), textcoords="offset points", color="#555555"
        )
    ax.set_xticks(range(len(budgets)), list(budgets))
    ax.legend(fontsize=10, loc="center left", bbox_to_anchor=(1, 0.5))  # beside: the lines fill the axes
    label(ax, title, "labelled pictures a class", "accuracy on unseen families")
    return fig


@styled
def draw_gains(gains: Levels, title: str, *, arms: Sequence[str] = (), over: str = "real alone") -> Figure:
    """Draw the gain of every arm over another at every budget, with intervals; zero is a line."""
    shown: dict[str, Mapping[str, Interval]] = {name: gains[name] for name in (arms or gains)}
    budgets = list(max(shown.values(), key=lambda each: sum(1 for _ in each)))
    fig, ax = canvas(7.4, 4.2)
    for i, (name, found) in enumerate(shown.items()):
        x = np.array([budgets.index(b) for b in found]) + 0.13 * (i - (len(shown) - 1) / 2)
        low, mean, high = 100 * np.array([tuple(each) for each in found.values()]).T
        ax.vlines(x, low, high, color=PALETTE[i % 7], alpha=0.5, linewidth=4)
        ax.plot(x, mean, MARKS[i % 7], color=PALETTE[i % 7], label=name, markersize=7)
    ax.axhline(0, color=GREY, linewidth=1.4)
    ax.set_xticks(range(len(budgets)), budgets)
    ax.legend(fontsize=10)
    label(ax, title, "labelled pictures a class", f"points above {over}")
    return fig


def points(gain: Interval) -> str:
    """Return a gain as points of accuracy, with its interval."""
    low, mean, high = (100 * each for each in gain)
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def slide(rows: Mapping[str, Mapping[str, Interval]], what: str = "") -> pd.DataFrame:
    """Return gains in points as a table: question -> column -> interval; empty where there is none."""
    columns = list(dict.fromkeys(key for each in rows.values() for key in each))
    table = [[points(each[key]) if key in each else "" for key in columns] for each in rows.values()]
    return pd.DataFrame(table, index=pd.Index(list(rows), name=what), columns=columns)
