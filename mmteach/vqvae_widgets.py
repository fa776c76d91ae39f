"""Pictures and widgets of notebook 05: codes on a plane, maps of codes, what one code draws, the codebook painter.

The `draw_*` are plain functions, tested without a browser; the painter is thin glue over them, as in `widgets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from mmteach import plot
from mmteach.codebook import Codebook
from mmteach.plot import interval_of
from mmteach.solutions import nearest_code
from mmteach.train import to_float, to_pictures
from mmteach.vqvae import VQVAE
from mmteach.widgets import png

# Codes on a plane


def flowers(rows: int, petals: int = 7) -> Tensor:
    """Return rows (N, 2) from a ring of round clusters."""
    angle = torch.randint(petals, (rows,)) * 2 * np.pi / petals
    return 2.2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.25 * torch.randn(rows, 2)


def watch(book: Codebook, shots: Sequence[int], rows: int = 256) -> dict[str, Tensor]:
    """Train a codebook of the plane on batches of `flowers`; return its codes (K, 2) after some of the steps."""
    seen: dict[str, Tensor] = {}
    for step in range(1, max(shots) + 1):
        book(flowers(rows).T.reshape(1, 2, 1, rows))
        seen |= {f"step {step}": book.codes.clone()} if step in shots else {}
    return seen


@plot.styled
def draw_plane(points: Tensor, books: Mapping[str, Tensor], title: str, reach: float = 3.2) -> Figure:
    """Draw points (N, 2) once for each named codebook (K, 2), coloured by the region of the nearest code."""
    fig, axes = plot.canvas(2.3 * len(books) + 0.3, 2.9, columns=len(books), squeeze=False)
    line = torch.linspace(-reach, reach, 120)
    grid = torch.cartesian_prod(line, line).flip(1)
    for ax, (name, codes) in zip(axes[0], books.items(), strict=True):
        region = nearest_code(grid, codes).view(120, 120)
        extent = (-reach, reach, -reach, reach)
        ax.imshow((region % 8).numpy(), origin="lower", extent=extent, cmap="Pastel2", vmin=0, vmax=7)
        ax.plot(*points.T.numpy(), ".", color=plot.GREY, markersize=3, alpha=0.6)
        inside = codes[codes.abs().max(1).values < reach]
        ax.plot(*inside.T.numpy(), "D", color=plot.RED, markersize=6, markeredgecolor="white")
        ax.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")
        away = len(codes) - len(inside)
        ax.set_title(
            f"{name}\n({away} codes out of sight)" if away else name, fontsize=11, fontweight="normal"
        )
        ax.grid(visible=False)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@plot.styled
def draw_pulls(z_e: Tensor, codes: Tensor, title: str) -> Figure:
    """Draw what each term of the loss moves: left the codes towards the rows (N, 2), right the rows to their codes."""
    fig, axes = plot.canvas(7, 3.4, columns=2)
    nearest = codes[nearest_code(z_e, codes)]
    halves = (
        ("codebook term: codes move", nearest, z_e),
        ("commitment term: rows move", z_e, nearest),
    )
    for ax, (name, start, end) in zip(axes, halves, strict=True):
        ax.plot(*z_e.T.numpy(), "o", color=plot.BLUE, label="$z_e$, from the encoder")
        ax.plot(*codes.T.numpy(), "D", color=plot.RED, markersize=9, label="codes")
        step = 0.45 * (end - start)
        ax.quiver(
            *start.T.numpy(),
            *step.T.numpy(),
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.006,
            color=plot.INK,
            zorder=3,
        )
        ax.set(xticks=[], yticks=[], aspect="equal")
        plot.label(ax, name)
    for ax in axes:
        ax.margins(0.15)
    fig.legend(
        *axes[0].get_legend_handles_labels(), fontsize=10, ncols=2, loc="upper right", bbox_to_anchor=(1, 0.9)
    )
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


# What single codes draw


@torch.no_grad()
def code_tiles(model: VQVAE, places: int = 8, size: int = 8) -> np.ndarray:
    """Return what each code draws among its like, uint8 (K, size, size, C): the middle of a map that it fills alone.

    places: height and width of that map.
    """
    maps = torch.arange(model.quantizer.num_codes).view(-1, 1, 1).repeat(1, places, places)
    drawn = np.concatenate([to_pictures(model.decode_tokens(part)) for part in maps.split(128)])
    corner = (drawn.shape[1] - size) // 2
    return drawn[:, corner : corner + size, corner : corner + size]


def by_likeness(codes: Tensor) -> np.ndarray:
    """Return the codes (K, D) in an order in which neighbours are alike: along their first principal component."""
    _, _, axes = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)
    return torch.argsort(codes @ axes[0]).numpy()


def draw_map(codes: np.ndarray, tiles: np.ndarray, side: int = 32) -> Image.Image:
    """Draw a map of codes (h, w) as mosaic: each place shows what its code draws alone."""
    height, width = codes.shape
    sheet = Image.new("RGB", (width * side, height * side), "white")
    for (row, column), code in np.ndenumerate(codes):
        sheet.paste(_scaled(tiles[code], side - 2), (column * side + 1, row * side + 1))
    return sheet


def draw_palette(
    tiles: np.ndarray, order: Sequence[int] | np.ndarray, columns: int = 32, side: int = 24
) -> Image.Image:
    """Draw what every code draws, in rows."""
    order = np.asarray(order)
    rows = -(-len(order) // columns)
    padded = np.concatenate([order, np.full(rows * columns - len(order), order[-1])])
    return draw_map(padded.reshape(rows, columns), tiles, side)


def _scaled(picture: np.ndarray, side: int) -> Image.Image:
    picture = picture[..., 0] if picture.shape[-1] == 1 else picture
    return Image.fromarray(picture).convert("RGB").resize((side, side), Image.Resampling.NEAREST)


# The painter


def encode_one(model: VQVAE, picture: np.ndarray) -> np.ndarray:
    """Return the map of codes int64 (h, w) of one picture uint8 (H, W, C)."""
    return model.encode(to_float(torch.from_numpy(picture[None])))[0].numpy()


def decode_one(model: VQVAE, codes: np.ndarray) -> np.ndarray:
    """Return the picture uint8 (H, W, C) of one map of codes (h, w)."""
    return to_pictures(model.decode_tokens(torch.from_numpy(codes[None])))[0]


def draw_painter(
    model: VQVAE, codes: np.ndarray, place: tuple[int, int], tiles: np.ndarray, side: int = 288
) -> Image.Image:
    """Draw the picture of a map of codes (h, w) and the map beside it, the chosen place framed in both."""
    sheet = Image.new("RGB", (2 * side + 16, side), "white")
    sheet.paste(_scaled(decode_one(model, codes), side), (0, 0))
    sheet.paste(draw_map(codes, tiles, side // len(codes)), (side + 16, 0))
    cell, write = side // len(codes), ImageDraw.Draw(sheet)
    for left in (0, side + 16):
        corner = np.array([left + place[1] * cell, place[0] * cell])
        write.rectangle((*corner.tolist(), *(corner + cell - 1).tolist()), outline=plot.RED, width=3)
    return sheet


def describe_place(codes: np.ndarray, place: tuple[int, int], first: np.ndarray) -> str:
    """Say in HTML which code stands at a place, and how many of the map differ from the `first` one."""
    changed = int((codes != first).sum())
    words = "none changed" if not changed else f"{changed} of {codes.size} changed"
    return f"row {place[0] + 1}, column {place[1] + 1}: code <b>{codes[place]}</b>; {words}"


def painter(model: VQVAE, picture: np.ndarray, tiles: np.ndarray, order: Sequence[int] | np.ndarray) -> Any:
    """Return a widget: click a cell of the map of `picture` uint8 (H, W, C), choose a code, and see what it draws.

    tiles: from `code_tiles`; order: the codes as the slider goes through them.
    """
    import ipywidgets as w

    first = encode_one(model, picture)
    codes, place, order = first.copy(), [len(first) // 2, len(first) // 2], [int(each) for each in order]
    image, text = w.Image(format="png"), w.HTML()
    image.add_class("mmteach-painter")
    palette = w.SelectionSlider(options=order, value=int(first[tuple(place)]), description="code")
    undo, reset = w.Button(description="this cell back"), w.Button(description="all back")
    cells = [w.Button(layout=w.Layout(width="30px", height="30px", margin="1px")) for _ in range(first.size)]
    grid = w.GridBox(cells, layout=w.Layout(grid_template_columns=f"repeat({first.shape[1]}, 32px)"))

    def here() -> tuple[int, int]:
        return place[0], place[1]

    def draw() -> None:
        for button, (where, code) in zip(cells, np.ndenumerate(codes), strict=True):
            button.style.button_color = "#" + "".join(f"{round(v):02x}" for v in _mean_colour(tiles[code]))
            button.description = "×" if where == here() else ""
            button.tooltip = f"row {where[0] + 1}, column {where[1] + 1}: code {code}"
        text.value = describe_place(codes, here(), first)
        image.value = png(draw_painter(model, codes, here(), tiles))

    def paint(change: dict[str, Any]) -> None:
        codes[here()] = change["new"]
        draw()

    def show_code() -> None:
        palette.unobserve(paint, "value")  # moving to a cell paints nothing
        palette.value = int(codes[here()])
        palette.observe(paint, "value")
        draw()

    def go(button: Any) -> None:
        place[:] = divmod(cells.index(button), first.shape[1])
        show_code()

    def restore(everything: bool) -> None:
        if everything:
            codes[:] = first
        codes[here()] = first[here()]
        show_code()

    for each in cells:
        each.on_click(go)
    undo.on_click(lambda _: restore(everything=False))
    reset.on_click(lambda _: restore(everything=True))
    palette.observe(paint, "value")
    draw()
    return w.VBox([w.HBox([grid, image]), w.HBox([palette, undo, reset]), text])


def _mean_colour(tile: np.ndarray) -> np.ndarray:
    """Return the mean colour of the middle of a tile, three numbers from 0 to 255."""
    third = len(tile) // 3
    return np.broadcast_to(tile[third:-third, third:-third].mean((0, 1)), 3)


# From one picture to another


def morph(start: np.ndarray, end: np.ndarray, shots: int, seed: int = 0) -> np.ndarray:
    """Return maps (shots, h, w) from `start` to `end`, their codes exchanged one by one in a random order."""
    rank = np.random.default_rng(seed).permutation(start.size).reshape(start.shape)
    limits = np.linspace(0, start.size, shots)
    return np.where(rank < limits[:, None, None], end, start)


# Figures of the study


@plot.styled
def draw_rate_distortion(
    found: Mapping[str, Any], title: str, points: Mapping[str, tuple[float, Any]] | None = None
) -> Figure:
    """Draw PSNR against bits a picture: PCA as a curve, the study's arms as points; `points`: name -> (bits, PSNR)."""
    fig, ax = plot.canvas(7, 4.4)
    bits = np.array(sorted(map(int, found["pca"])))
    levels = np.array([interval_of(found["pca"][str(b)]["psnr"]) for b in bits])
    ax.plot(bits, levels[:, 1], "-", color=plot.GREY, label="PCA, rounded coefficients")
    ax.fill_between(bits, levels[:, 0], levels[:, 2], color=plot.GREY, alpha=0.2)
    arms = {name: (arm["bits"], arm["psnr"]) for name, arm in found["arms"].items() if name.endswith("codes")}
    books = sorted(arms.values())
    ax.plot(
        [b for b, _ in books],
        [interval_of(v)[1] for _, v in books],
        "--o",
        color=plot.BLUE,
        label="VQ-VAE, study",
    )
    ax.vlines(
        [b for b, _ in books],
        *np.array([interval_of(v)[::2] for _, v in books]).T,
        color=plot.BLUE,
        alpha=0.5,
        linewidth=4,
    )
    for i, (name, (at, value)) in enumerate((points or {}).items()):
        low, mean, high = interval_of(value)
        ax.plot([at], [mean], plot.MARKS[i + 1], color=plot.PALETTE[i + 1], markersize=9, label=name)
        ax.vlines([at], [low], [high], color=plot.PALETTE[i + 1], alpha=0.5, linewidth=4)
    ax.legend(loc="lower right")
    plot.label(ax, title, "bits a picture", "PSNR on test families (dB)")
    return fig


@plot.styled
def draw_usage(histograms: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw how often each code is used, most used first, as a share of all codes, for each named histogram (K,)."""
    fig, ax = plot.canvas()
    for i, (name, histogram) in enumerate(histograms.items()):
        shares = np.sort(histogram)[::-1] / histogram.sum()
        ax.plot(
            np.arange(1, len(shares) + 1),
            shares,
            plot.DASHES[i],
            color=plot.PALETTE[i],
            label=name,
        )
    ax.axhline(1 / len(shares), color=plot.GREY, linestyle=":", linewidth=1.6, label="all equally often")
    ax.set(yscale="log", ylim=(None, 1))
    ax.legend()
    plot.label(ax, title, "code, most used first", "share of all tokens")
    return fig
