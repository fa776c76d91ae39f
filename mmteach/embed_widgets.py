"""Figures and widgets of notebook 06: the toy space, the line of chance, the gap, and searches by word, voice and way.

The `draw_*` and `nearest` are plain functions, tested without a browser; the widgets are thin glue over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from mmteach import plot
from mmteach.data import VOICES, MultimodalDataset
from mmteach.embed import SharedEmbedding
from mmteach.solutions import slerp

# The toy: eight pairs on a circle


def pull(
    loss: Callable[..., Tensor], shots: Sequence[int], *, pairs: int = 8, scale: float = 10.0, seed: int = 0
) -> tuple[dict[int, tuple[Tensor, Tensor]], list[float]]:
    """Move two sets of points (pairs, 2) by gradient descent on `loss`; return them at some steps, and all losses."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(pairs, 2, generator=generator).requires_grad_() for _ in range(2))
    optimizer, seen, losses = torch.optim.Adam([a, b], lr=0.05), {}, []
    for step in range(max(shots) + 1):
        value = loss(a, b, scale)
        losses.append(value.item())
        if step in shots:
            seen[step] = (F.normalize(a.detach(), dim=1), F.normalize(b.detach(), dim=1))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return seen, losses


@plot.styled
def draw_circle(shots: Mapping[int, tuple[Tensor, Tensor]], title: str) -> Figure:
    """Draw both sets on the unit circle at each step, a line from each point to its partner, a colour a pair."""
    fig, axes = plot.canvas(2.4 * len(shots), 2.9, columns=len(shots), squeeze=False)
    turn = np.linspace(0, 2 * np.pi, 200)
    for ax, (step, (a, b)) in zip(axes[0], shots.items(), strict=True):
        ax.plot(np.cos(turn), np.sin(turn), color=plot.GREY, linewidth=1, alpha=0.5)
        for i, (x, y) in enumerate(zip(a.numpy(), b.numpy(), strict=True)):
            colour = plot.PALETTE[i % len(plot.PALETTE)]
            ax.plot(*np.stack([x, y]).T, "-", color=colour, linewidth=1.2, alpha=0.6)
            ax.plot(*x, "o", color=colour, markersize=8)
            ax.plot(*y, "s", color=colour, markersize=8, markerfacecolor="white", markeredgewidth=2)
        ax.set(aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
        ax.axis("off")
        ax.set_title(f"step {step}", fontsize=11, fontweight="normal")
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@plot.styled
def draw_table(similarity: np.ndarray, same: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw a batch's cosines (B, B): pictures down, captions across; a dot where the concept is the same."""
    fig, ax = plot.canvas(5.6, 5.0)
    image = ax.imshow(similarity, cmap="viridis")
    rows, columns = np.nonzero(same & ~np.eye(len(same), dtype=bool))
    ax.plot(columns, rows, "o", color=plot.RED, markersize=6, markeredgecolor="white")
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=9)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label="cosine", shrink=0.8)
    plot.label(ax, title, "caption", "picture")
    return fig


@plot.styled
def draw_gap(sets: Mapping[str, np.ndarray], title: str, lines: int = 40) -> Figure:
    """Draw unit vectors (N, D) of each modality on their two main directions; grey lines join rows of one concept.

    The rows of all sets belong to the same concepts, in the same order.
    """
    fig, ax = plot.canvas(6.2, 4.6)
    everything = np.concatenate(list(sets.values()))
    centre = everything.mean(axis=0)
    axes = np.linalg.svd(everything - centre, full_matrices=False)[2][:2]
    flat = {name: (each - centre) @ axes.T for name, each in sets.items()}
    for i in range(lines):
        ax.plot(*np.stack([each[i] for each in flat.values()]).T, color=plot.GREY, linewidth=0.6, alpha=0.5)
    for i, (name, each) in enumerate(flat.items()):
        ax.plot(
            *each.T, plot.MARKS[i], color=plot.PALETTE[i], markersize=4, alpha=0.7, label=name, linestyle=""
        )
    ax.legend()
    plot.label(ax, title, "first main direction", "second main direction")
    return fig


@plot.styled
def draw_scores(
    rows: Mapping[str, Mapping[str, Any]], title: str, xlabel: str, levels: Mapping[str, float]
) -> Figure:
    """Draw intervals side by side: rows (name -> series -> interval), one mark a series, `levels` as dotted lines."""
    series = list(dict.fromkeys(each for row in rows.values() for each in row))
    fig, ax = plot.canvas(7.2, 0.55 * len(rows) + 1.6)
    for j, name in enumerate(series):
        shift = (j - (len(series) - 1) / 2) * 0.22
        points = [
            (i + shift, plot.interval_of(row[name])) for i, row in enumerate(rows.values()) if name in row
        ]
        at = [place for place, _ in points]
        ax.hlines(
            at,
            [p[0] for _, p in points],
            [p[2] for _, p in points],
            color=plot.PALETTE[j],
            linewidth=3,
            alpha=0.45,
        )
        ax.plot([p[1] for _, p in points], at, plot.MARKS[j], color=plot.PALETTE[j], label=name, linestyle="")
    for j, (name, level) in enumerate(levels.items()):
        ax.axvline(level, color=plot.GREY, linestyle=plot.DASHES[j + 1], linewidth=1.4, label=name)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, None))
    fig.legend(loc="outside lower center", ncols=2)
    plot.label(ax, title, xlabel)
    return fig


# A gallery, searched


@dataclass(frozen=True)
class Gallery:
    """Pictures uint8 (N, S, S, 3), the concept of each, its name, and the unit vectors (N, D) by one model."""

    model: SharedEmbedding
    pictures: np.ndarray
    concepts: tuple[str, ...]
    names: tuple[str, ...]
    vectors: Tensor


def gallery(model: SharedEmbedding, dataset: MultimodalDataset, rows: np.ndarray) -> Gallery:
    """Return the pictures in `rows` of the data set, ready to be searched."""
    concepts = dataset.items["concept"].iloc[rows]
    names = dataset.concepts.loc[concepts, "name_en"]
    pictures = dataset.images[rows]
    return Gallery(model, pictures, tuple(concepts), tuple(names), model.pictures(pictures))


def nearest(hall: Gallery, queries: Tensor, k: int = 8) -> np.ndarray:
    """Return the rows (Q, k) of a gallery's pictures nearest to each query (Q, D), nearest first."""
    return (queries.cpu() @ hall.vectors.cpu().T).topk(min(k, len(hall.names)), dim=1).indices.numpy()


def draw_nearest(
    hall: Gallery, queries: Tensor, labels: Sequence[str], title: str = "", k: int = 8
) -> Figure:
    """Draw the k nearest pictures of each query (Q, D) in a row, named; labels: one a query."""
    rows = nearest(hall, queries, k)
    return plot.picture_grid(
        [hall.pictures[i] for i in rows.flat], titles=[hall.names[i] for i in rows.flat], columns=rows.shape[1],
        row_labels=labels, title=title,
    )  # fmt: skip


def way(hall: Gallery, start: str, end: str, shares: Sequence[float]) -> Tensor:
    """Return unit vectors (len(shares), D) on the way from one caption to another along the sphere."""
    a, b = hall.model.text([start, end]).cpu().numpy()
    return torch.from_numpy(np.stack([slerp(a, b, share) for share in shares])).float()


def word_search(hall: Gallery, words: str = "red fruit") -> Any:
    """Return a widget: type words, in English or Chinese, and see the nearest pictures of the gallery."""
    import ipywidgets as w

    text = w.Text(value=words, description="words", continuous_update=False)
    picture = w.Image(format="png")
    picture.add_class("mmteach-words")

    def show(_: object = None) -> None:
        picture.value = plot.png(draw_nearest(hall, hall.model.text([text.value]), [""]), dpi=80)

    text.observe(show, "value")
    show()
    return w.VBox([text, picture])


def voice_search(hall: Gallery, dataset: MultimodalDataset) -> Any:
    """Return a widget: choose a concept and a voice, hear the name spoken, and see the nearest pictures to it."""
    import ipywidgets as w

    concept = w.Dropdown(
        options=list(dict.fromkeys(zip(hall.names, hall.concepts, strict=True))), description="concept"
    )
    voice = w.Dropdown(options=VOICES, description="voice")
    sound = w.Audio(format="wav", autoplay=False, loop=False)
    picture = w.Image(format="png")
    picture.add_class("mmteach-voice")

    def show(_: object = None) -> None:
        clip, rate = dataset.speech(concept.value, voice.value)
        sound.value = plot.wav(clip, rate)
        picture.value = plot.png(draw_nearest(hall, hall.model.speech([clip], rate), [""]), dpi=80)

    for control in (concept, voice):
        control.observe(show, "value")
    show()
    return w.VBox([w.HBox([concept, voice]), sound, picture])


def way_search(hall: Gallery, start: str = "cat", end: str = "car") -> Any:
    """Return a widget: two captions, a slider from one to the other, and the nearest pictures on the way."""
    import ipywidgets as w

    ends = [
        w.Text(value=each, description=name, continuous_update=False)
        for each, name in ((start, "from"), (end, "to"))
    ]
    share = w.FloatSlider(min=0, max=1, step=0.05, value=0.5, description="way")
    picture = w.Image(format="png")
    picture.add_class("mmteach-way")

    def show(_: object = None) -> None:
        there = way(hall, ends[0].value, ends[1].value, [share.value])
        picture.value = plot.png(draw_nearest(hall, there, [""]), dpi=80)

    for control in (*ends, share):
        control.observe(show, "value")
    show()
    return w.VBox([w.HBox(ends), share, picture])
