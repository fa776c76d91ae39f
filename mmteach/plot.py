"""Figures of one look: picture grids, curves, intervals, confusion, spectrograms, and players for sound.

Used by every notebook. Colours are the palette of Okabe and Ito (2008), safe for colour-blind readers; text
stays readable at half width; nothing here needs a font that Matplotlib does not bring.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
import wave
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY, YELLOW, INK, GREY = "#56B4E9", "#F0E442", "#222222", "#777777"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: Any = {
    "font.size": 12,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": "#888888",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "lines.linewidth": 2.2,
    "legend.edgecolor": "none",
    "axes.prop_cycle": plt.cycler(color=PALETTE),
}

Draw = TypeVar("Draw", bound=Callable[..., Any])


def styled(draw: Draw) -> Draw:
    """Run `draw` with the look of the course, leaving the reader's own Matplotlib settings alone."""
    context: Any = plt.rc_context(STYLE)
    return context(draw)


@styled
def canvas(width: float = 7.0, height: float = 4.0, rows: int = 1, columns: int = 1, **grid: Any) -> Any:
    """Return (figure, axes) in the look of the course; `grid` goes to `Figure.subplots` (sharex, ...)."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, **grid)


@styled
def label(ax: Axes, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Write the texts of one axes, breaking a title that is wider than the axes."""
    width = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(textwrap.fill(title, max(20, int(width * 11.3))), loc="left")


@styled
def picture_grid(
    images: Sequence[np.ndarray | None] | np.ndarray,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    title: str = "",
    size: float = 0.95,
) -> Figure:
    """Draw pictures in rows, uint8 (N, H, W, 3) or a list of (H, W, 3); None is an empty hatched tile.

    `titles` stand under the tiles, `column_labels` and `row_labels` around the grid; a tile is `size` inches.
    Raises ValueError when there is no picture, or not one title for each picture.
    """
    count, words = len(images), [] if titles is None else [str(text) for text in titles]
    if count == 0 or len(words) not in (0, count):
        raise ValueError(f"picture_grid got {count} pictures and {len(words)} titles")
    across = columns or len(column_labels) or min(count, 8)
    under = [textwrap.fill(text, int(12.5 * max(size, 0.8))) for text in words]
    step = 1.08 + 0.2 / size * max((text.count("\n") + 1 for text in under), default=0)
    left = 0.09 * max(map(len, row_labels), default=-2) + 0.18
    down, head = -(-count // across) * step, 0.3 / size if column_labels else 0.02
    heading = textwrap.fill(title, int((across * 1.06 * size + left) * 9.6))
    above = 0.26 * len(heading.splitlines())
    fig, ax = canvas(across * 1.06 * size + left, (down + head) * size + above)
    for i, picture in enumerate(images):
        x, y = (i % across) * 1.06, (i // across) * step
        if picture is None:
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor="#F6F6F6", edgecolor="#BBBBBB", hatch="////"))
        else:
            ax.imshow(picture, extent=(x, x + 1, y + 1, y), cmap="gray", vmin=0, vmax=255)
        if under:
            ax.text(x + 0.5, y + 1.05, under[i], ha="center", va="top", fontsize=min(10.5, 11 * size))
    for i, text in enumerate(column_labels):
        ax.text(i * 1.06 + 0.5, -0.06, text, ha="center", va="bottom", fontsize=min(11, 12.5 * size))
    for i, text in enumerate(row_labels):
        ax.text(-0.08, i * step + 0.5, text, ha="right", va="center", fontsize=11)
    ax.set(xlim=(-0.02, across * 1.06), ylim=(down, -head), aspect="equal")
    ax.axis("off")
    if title:
        fig.suptitle(heading, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@styled
def curves(
    series: Mapping[str, Any],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    level: float | None = None,
    level_name: str = "",
    marks: bool = False,
) -> Figure:
    """Draw named curves, each y (N,) or a pair (x, y), apart by colour and by dash; `level` is a dotted line."""
    fig, ax = canvas()
    for i, (name, values) in enumerate(series.items()):
        x, y = values if isinstance(values, tuple) else (np.arange(len(values)), values)
        look = {"color": PALETTE[i % 7], "linestyle": DASHES[i % 7], "marker": MARKS[i % 7] if marks else ""}
        ax.plot(x, y, label=name, **look)
    if level is not None:
        ax.axhline(level, color=GREY, linestyle=":", linewidth=1.6, label=level_name or None)
    if len(series) > 1 or level_name:
        ax.legend()
    label(ax, title, xlabel, ylabel)
    return fig


def interval_of(value: Any) -> tuple[float, float, float]:
    """Return (low, mean, high) of an object with those names, of a triple, or of a plain number."""
    if hasattr(value, "low"):
        return float(value.low), float(value.mean), float(value.high)
    low, mean, high = np.broadcast_to(np.asarray(value, dtype=float), 3)
    return float(low), float(mean), float(high)


@styled
def bars(
    names: Sequence[str],
    intervals: Sequence[Any],
    *,
    title: str,
    xlabel: str,
    level: float | None = None,
    level_name: str = "",
    highlight: Sequence[int] = (),
    form: str = "{:.2f}",
) -> Figure:
    """Draw a scoreboard: for each name a dot at the mean, a whisker from low to high, the mean beside it.

    `highlight` marks these rows; `level` draws a reference line.
    """
    fig, ax = canvas(7.0, 1.3 + 0.42 * len(names))
    for row, (_, interval) in enumerate(zip(names, intervals, strict=True)):
        low, mean, high = interval_of(interval)
        color, marker = (RED, "D") if row in highlight else (BLUE, "o")
        ax.plot([low, high], [row, row], color=color, linewidth=4, alpha=0.45, solid_capstyle="butt")
        ax.plot([mean], [row], marker, color=color, markersize=8)
        ax.annotate(form.format(mean), (high, row), (7, 0), textcoords="offset points", va="center")
    if level is not None:
        ax.axvline(level, color=GREY, linestyle=":", linewidth=1.6)
        ax.annotate(
            level_name, (level, -0.5), (3, 2), textcoords="offset points", fontsize=10, color="#555555"
        )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.8)
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    label(ax, title, xlabel)
    return fig


@styled
def heat(
    matrix: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    xlabel: str = "",
    ylabel: str = "",
    unit: str = "",
    form: str = "{:.2f}",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Draw a matrix (rows, columns) with its numbers written in; NaN stays blank; `unit` names the scale."""
    values = np.asarray(matrix, dtype=np.float64)
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    fig, ax = canvas(2.4 + 0.72 * len(columns), 1.9 + 0.42 * len(rows))
    image = ax.imshow(values, aspect="auto", cmap="cividis", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(values):
        ink = INK if value > low + 0.55 * (high - low) else "white"
        ax.text(
            column, row, form.format(value) if np.isfinite(value) else "", ha="center", va="center", color=ink
        )
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    fig.colorbar(image, ax=ax, label=unit, pad=0.02)
    label(ax, title, xlabel, ylabel)
    return fig


def confusion(matrix: Any, labels: Sequence[str], *, title: str) -> Figure:
    """Draw counts (true class, predicted class) as shares of each true class, in percent."""
    counts = np.asarray(matrix, dtype=np.float64)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    words: Any = {"xlabel": "predicted", "ylabel": "true", "unit": "% of the true class", "form": "{:.0f}"}
    return heat(shares, labels, labels, title=title, limits=(0, 100), **words)


@styled
def spectrogram(values: Any, *, seconds: float, title: str, ylabel: str, unit: str, top: float = 0) -> Figure:
    """Draw (bands, frames) over `seconds`, low bands below; `top` scales the vertical axis (8,000 for Hz)."""
    fig, ax = canvas(7.0, 3.2)
    extent = (0.0, float(seconds), 0.0, float(top or len(values)))
    image = ax.imshow(values, origin="lower", aspect="auto", extent=extent, cmap="magma")
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label=unit, pad=0.02)
    label(ax, title, "time (s)", ylabel)
    return fig


def png(fig: Figure, dpi: int = 110) -> bytes:
    """Return `fig` as a PNG of 256 colours, none of them dithered, a third of the size, and close it."""
    buffer, small = io.BytesIO(), io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    full = Image.open(buffer).convert("RGB")
    few = full.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3)  # kmeans: greys without a tint
    colours = np.array(few.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) >= 252] = 255  # the paper stays white
    few.putpalette(colours.ravel().tolist())
    few.save(small, "png", optimize=True)
    return small.getvalue()


def show(fig: Figure, *, alt: str, caption: str = "") -> None:
    """Display `fig` with alternative text `alt` for readers who cannot see it. Raises ValueError when empty."""
    if not alt.strip():
        raise ValueError("show needs alt text: say what the figure shows to someone who cannot see it")
    data = base64.b64encode(png(fig)).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="max-width:100%">'
    _display(f"<figure>{image}{below}</figure>", f"[figure: {alt}]")


def wav(samples: Any, rate: int) -> bytes:
    """Return float samples (T,) in [-1, 1] as a 16-bit mono WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def play(samples: Any, rate: int, name: str = "sound") -> None:
    """Display a player, named `name`, for float samples (T,) in [-1, 1] at `rate` samples a second."""
    data, text = base64.b64encode(wav(samples, rate)).decode(), html.escape(name)
    player = f'<audio controls aria-label="{text}" src="data:audio/wav;base64,{data}"></audio>'
    body = f"<figure><figcaption>{text}</figcaption>{player}</figure>"
    _display(body, f"[sound: {name}, {len(samples) / rate:.2f} s]")


def _display(body: str, plain: str) -> None:
    """Show HTML where a notebook can, and one line of text elsewhere; only this needs IPython."""
    try:
        from IPython.display import display
    except ImportError:
        print(plain)
    else:
        display({"text/html": body, "text/plain": plain}, raw=True)
