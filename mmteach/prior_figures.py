"""Figures of notebook 07, and the small things that they show: two simple languages, and some of the held-out pairs.

Everything here is a plain function, tested without a notebook; what can be moved by hand is in `prior_widgets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mmteach import plot
from mmteach.plot import interval_of
from mmteach.prior import Corpus
from mmteach.text_to_image import Task

# Two languages that are simpler than pictures


def babble(table: Tensor, count: int, length: int = 64, seed: int = 0) -> Tensor:
    """Return sentences int64 (count, length) that a table (K, K) of weights writes: row, code before; column, after.

    The first code follows the mean of the rows.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = torch.multinomial(table.mean(0), count, replacement=True, generator=generator)[:, None]
    while codes.shape[1] < length:
        codes = torch.cat([codes, torch.multinomial(table[codes[:, -1]], 1, generator=generator)], 1)
    return codes


def bars() -> Corpus:
    """Return a language of six sentences: a 3 x 3 picture with one row, or one column, of ink (1) on paper (0)."""
    codes = torch.zeros(6, 3, 3, dtype=torch.int64)
    for i in range(3):
        codes[i, i], codes[3 + i, :, i] = 1, 1
    names = [f"{kind} {number}" for kind in ("row", "column") for number in ("one", "two", "three")]
    return Corpus(codes.view(6, 1, 9), torch.zeros(6, dtype=torch.int64), [[name] for name in names])


def unasked(corpus: Corpus) -> Corpus:
    """Return the same pictures without their captions."""
    return Corpus(corpus.codes, corpus.styles, [[""]] * len(corpus.codes))


def how_often(written: Tensor, language: Corpus) -> np.ndarray:
    """Return how often each of the N sentences of the language stands among those written (n, T), int (N,)."""
    return (written.cpu()[:, None] == language.codes[:, 0]).all(2).sum(0).numpy()


def as_tiles(written: Tensor, side: int = 3) -> np.ndarray:
    """Return sentences (n, side * side) of 0 and 1 as framed pictures, ink on white, uint8 (n, 28, 28) for side 3."""
    tiles = np.kron(1 - written.view(-1, side, side).cpu().numpy(), np.full((1, 8, 8), 255, np.uint8)).astype(
        np.uint8
    )
    return np.pad(tiles, ((0, 0), (2, 2), (2, 2)), constant_values=120)


# Held-out pairs


def first_of(work: Task, count: int | None) -> Task:
    """Return the first `count` of the tasks, all of them when that is None."""
    truth = {level: names[:count] for level, names in work.truth.items()}
    return Task(work.rows[:count], work.captions[:count], work.styles[:count], work.families[:count], truth)


def tiles_of(path: Path, columns: int, side: int = 32) -> np.ndarray:
    """Return the pictures uint8 (N, side, side, 3) of a contact sheet, row by row."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    return sheet.reshape(-1, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)


# Figures


@plot.styled
def draw_surprises(pictures: np.ndarray, bits: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw pictures (n, H, W, C) over maps of their surprises (n, T), and each one's mean."""
    side = round(bits.shape[1] ** 0.5)
    fig, axes = plot.canvas(1.45 * len(pictures) + 0.8, 3.9, 2, len(pictures), squeeze=False)
    for i, name in enumerate(names):
        axes[0, i].imshow(pictures[i])
        axes[0, i].set_title(name, fontsize=11, fontweight="normal")
        image = axes[1, i].imshow(bits[i].reshape(side, side), cmap="cividis", vmin=0, vmax=12)
        axes[1, i].set_title(f"{bits[i].mean():.1f} bits a code", fontsize=11, fontweight="normal")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    fig.colorbar(image, ax=axes[1], label="surprise (bits)", shrink=0.9, pad=0.01)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@plot.styled
def draw_learning(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], lines: Mapping[str, float], title: str
) -> Figure:
    """Draw bits a code against steps for each named run, and level lines of what simpler models reach."""
    fig, ax = plot.canvas(7, 4.2)
    for i, (name, (steps, bits)) in enumerate(curves.items()):
        ax.plot(steps, bits, linestyle=plot.DASHES[i], color=plot.PALETTE[i], label=name)
    for name, level in lines.items():
        ax.axhline(level, color=plot.GREY, linestyle=":", linewidth=1.6)
        ax.annotate(
            f"{name}, {level:.2f}", (1, level), (0, 3), xycoords=("axes fraction", "data"), ha="right",
            textcoords="offset points", fontsize=10, color="#555555",
        )  # fmt: skip
    fig.legend(loc="outside lower center", ncols=len(curves))
    plot.label(ax, title, "step", "surprise (bits a code)")
    return fig


@plot.styled
def draw_sweep(
    rows: Sequence[Mapping[str, Any]], setting: str, names: Sequence[str], title: str, says: str
) -> Figure:
    """Draw shares with their intervals against a setting; rows: {setting: ..., name: interval}; says: what it means."""
    fig, ax = plot.canvas(7, 4)
    for i, name in enumerate(names):
        x = np.array([row[setting] for row in rows]) + 0.02 * i
        low, mean, high = np.array([interval_of(row[name]) for row in rows]).T
        look = {"color": plot.PALETTE[i], "linestyle": plot.DASHES[i], "marker": plot.MARKS[i]}
        ax.plot(x, mean, label=name, **look)
        ax.vlines(x, low, high, color=plot.PALETTE[i], alpha=0.4, linewidth=4)
    ax.set_ylim(0, 1)
    ax.legend()
    plot.label(ax, title, says, "share of held-out pairs")
    return fig


@plot.styled
def draw_arms(
    arms: Mapping[str, Mapping[str, Any]], shares: Sequence[str], names: Mapping[str, str], title: str
) -> Figure:
    """Draw intervals of some shares, a panel each, for every named arm, a row each; 'drawn' stands out."""
    fig, axes = plot.canvas(9.4, 1.5 + 0.36 * len(names), columns=len(shares), sharey=True, squeeze=False)
    for ax, share in zip(axes[0], shares, strict=True):
        for row, arm in enumerate(names):
            low, mean, high = interval_of(arms[arm][share])
            color, mark = (plot.RED, "D") if arm == "drawn" else (plot.BLUE, "o")
            ax.plot([low, high], [row, row], color=color, linewidth=4, alpha=0.45, solid_capstyle="butt")
            ax.plot([mean], [row], mark, color=color, markersize=7)
        ax.set(xlim=(-0.02, 1.02), xticks=[0, 0.5, 1], ylim=(len(names) - 0.5, -0.5))
        ax.set_title(share, fontsize=11, fontweight="normal")
    axes[0, 0].set_yticks(range(len(names)), list(names.values()), fontsize=10)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@plot.styled
def draw_choice(
    logits: Tensor, settings: Mapping[str, tuple[float, int | None]], title: str, most: int = 12
) -> Figure:
    """Draw the chances of the likeliest codes, from logits (K,), under named (temperature, top_k)."""
    fig, axes = plot.canvas(2.3 * len(settings) + 0.5, 2.9, columns=len(settings), squeeze=False, sharey=True)
    order = logits.argsort(descending=True)
    for ax, (name, (temperature, top_k)) in zip(axes[0], settings.items(), strict=True):
        left = logits[order].clone()
        left[top_k or len(left) :] = -torch.inf
        chances = (left.double() / temperature).softmax(0)
        ax.bar(range(1, most + 1), chances[:most].numpy(), color=plot.BLUE)
        ax.set_title(f"{name}\nrest: {float(chances[most:].sum()):.0%}", fontsize=11, fontweight="normal")
        ax.set(xlabel="code, likeliest first", xticks=[1, 6, 12])
    axes[0, 0].set_ylabel("chance")
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig
