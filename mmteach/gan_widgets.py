"""Pictures and widgets of notebook 04: the ring as it is learned, a walk through the noise, the discriminator's view.

The `draw_*` are plain functions, tested without a browser; the widgets are thin glue over them, as in `widgets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mmteach import plot
from mmteach.gan import Discriminator, Generator, draw, noise
from mmteach.toy_gan import REACH, RingRun, centres, coverage
from mmteach.train import to_float

# The ring


def _ring(ax: Axes, run: RingRun, shot: int) -> tuple[int, float]:
    """Draw one look at a run into `ax`; return what `coverage` says of it."""
    real = torch.as_tensor(run.logits[shot]).sigmoid().numpy()
    extent = (-REACH, REACH, -REACH, REACH)
    ax.imshow(real, origin="lower", extent=extent, cmap="gray", vmin=-0.6, vmax=1, alpha=0.8)
    ax.plot(*centres().numpy().T, "o", color=plot.BLUE, markersize=16, fillstyle="none", markeredgewidth=2)
    ax.plot(*run.points[shot].T, ".", color=plot.RED, markersize=4, alpha=0.7)
    ax.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")
    ax.grid(visible=False)
    return coverage(run.points[shot])


@plot.styled
def draw_ring(run: RingRun, shot: int, name: str = "") -> Figure:
    """Draw one look at a run: bumps (rings), what the generator draws (dots), light where D believes it is real."""
    fig, ax = plot.canvas(4.6, 4.9)
    modes, good = _ring(ax, run, shot)
    head = f"{name}, step {run.steps[shot]}" if name else f"step {run.steps[shot]}"
    plot.label(ax, f"{head}: {modes} of 8 covered, {good:.0%} good")
    return fig


@plot.styled
def draw_ring_strip(runs: Mapping[str, RingRun], shots: Sequence[int], title: str) -> Figure:
    """Draw a row of looks for each named run, the same `shots` of each."""
    fig, axes = plot.canvas(
        1.75 * len(shots) + 0.4, 2.1 * len(runs) + 0.4, len(runs), len(shots), squeeze=False
    )
    for line, (name, run) in zip(axes, runs.items(), strict=True):
        for ax, shot in zip(line, shots, strict=True):
            modes, _ = _ring(ax, run, shot)
            ax.set_title(f"step {run.steps[shot]}: {modes} of 8", fontsize=11, fontweight="normal")
        line[0].set_ylabel(name)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


def ring_player(runs: Mapping[str, RingRun]) -> Any:
    """Return a widget: choose a run, and slide through its recorded steps."""
    import ipywidgets as w

    name = w.Dropdown(options=list(runs), description="game")
    shot = w.IntSlider(min=0, max=len(next(iter(runs.values())).steps) - 1, description="look")
    picture = w.Image(format="png")
    picture.add_class("mmteach-ring")

    def show(_: object = None) -> None:
        picture.value = plot.png(draw_ring(runs[name.value], shot.value, name.value), dpi=80)

    for control in (name, shot):
        control.observe(show, "value")
    show()
    return w.VBox([w.HBox([name, shot]), picture])


# The walk


def between(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return the point `share` of the way from noise a (D,) to b (D,) along the sphere they nearly lie on.

    A straight line would pass nearer to the origin than noise ever comes. Source: White 2016 (arXiv:1609.04468).
    """
    angle = torch.arccos(torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1))
    if float(angle) < 1e-4:
        return torch.lerp(a, b, share)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def walk(
    generator: Generator, seeds: tuple[int, int], shares: Sequence[float], *, psi: float = 1.0, group: int | None = None
) -> np.ndarray:  # fmt: skip
    """Return the pictures uint8 (len(shares), H, W, C) on the way from the noise of one seed to that of another."""
    a, b = (noise(1, generator.z_dim, seed)[0] for seed in seeds)
    z = torch.stack([between(a, b, share) for share in shares])
    return draw(generator, z, None if group is None else np.full(len(z), group), psi)


def draw_walk(
    generator: Generator, seeds: tuple[int, int], share: float, *, psi: float = 1.0, group: int | None = None
) -> Figure:  # fmt: skip
    """Draw the picture at `share` of a walk large, between its two ends."""
    pictures = walk(generator, seeds, (0.0, share, 1.0), psi=psi, group=group)
    words = [f"noise {seeds[0]}", f"{share:.0%} of the way", f"noise {seeds[1]}"]
    return plot.picture_grid(_rgb(pictures), titles=words, columns=3, size=1.9)


def walk_explorer(generator: Generator, groups: Sequence[str] = ()) -> Any:
    """Return a widget: two seeds, a slider from one to the other, truncation, and the class where there are any."""
    import ipywidgets as w

    ends = [
        w.BoundedIntText(min=0, max=9999, value=i, description=name) for i, name in ((1, "from"), (2, "to"))
    ]
    share = w.FloatSlider(min=0, max=1, step=0.05, value=0.5, description="way")
    psi = w.FloatSlider(min=0, max=1.5, step=0.1, value=1, description="truncation")
    classes: list[tuple[str, int | None]] = [(name, i) for i, name in enumerate(groups)]
    group = w.Dropdown(options=classes or [("none", None)], description="class")
    picture = w.Image(format="png")
    picture.add_class("mmteach-walk")

    def show(_: object = None) -> None:
        seeds = (ends[0].value, ends[1].value)
        fig = draw_walk(generator, seeds, share.value, psi=psi.value, group=group.value)
        picture.value = plot.png(fig, dpi=80)

    for control in (*ends, share, psi, group):
        control.observe(show, "value")
    show()
    return w.VBox([w.HBox(ends), w.HBox([share, psi]), *([group] if groups else []), picture])


# The discriminator's view


def view(
    discriminator: Discriminator, pictures: np.ndarray, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N,) of pictures uint8 (N, H, W, C) and the slope of each at its pixels, its length (N, H, W)."""
    where = next(discriminator.parameters()).device
    x = to_float(torch.from_numpy(pictures)).to(where).requires_grad_()
    logits = discriminator(x, None if labels is None else torch.from_numpy(labels).to(where))
    (slope,) = torch.autograd.grad(logits.sum(), x)
    return logits.detach().cpu().numpy(), slope.square().sum(1).sqrt().cpu().numpy()


@plot.styled
def draw_view(
    discriminator: Discriminator, pictures: np.ndarray, names: Sequence[str], *, title: str = ""
) -> Figure:
    """Draw pictures, named, each over the heat of the discriminator's slope; its logit stands between."""
    logits, heat = view(discriminator, pictures)
    fig, axes = plot.canvas(1.5 * len(pictures), 3.9, 2, len(pictures), squeeze=False)
    for i, (picture, name) in enumerate(zip(_rgb(pictures), names, strict=True)):
        axes[0, i].imshow(picture)
        axes[0, i].set_title(name, fontsize=11, fontweight="normal")
        axes[1, i].imshow(heat[i], cmap="magma", vmin=0, vmax=float(heat.max()))
        axes[1, i].set_title(f"logit {logits[i]:+.1f}", fontsize=11, fontweight="normal")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


def judge_explorer(discriminator: Discriminator, kinds: Mapping[str, np.ndarray], across: int = 5) -> Any:
    """Return a widget that pages through kinds of pictures, uint8 (N, H, W, C) each, as the discriminator sees them."""
    import ipywidgets as w

    kind = w.Dropdown(options=list(kinds), description="pictures")
    page = w.IntSlider(min=0, max=min(map(len, kinds.values())) // across - 1, description="page")
    picture = w.Image(format="png")
    picture.add_class("mmteach-judge")

    def show(_: object = None) -> None:
        some = kinds[kind.value][page.value * across : (page.value + 1) * across]
        picture.value = plot.png(draw_view(discriminator, some, [kind.value] * len(some)), dpi=80)

    for control in (kind, page):
        control.observe(show, "value")
    show()
    return w.VBox([w.HBox([kind, page]), picture])


def _rgb(pictures: np.ndarray) -> np.ndarray:
    """Return pictures (N, H, W, 1 or 3) with three channels."""
    return np.broadcast_to(pictures, (*pictures.shape[:3], 3))
