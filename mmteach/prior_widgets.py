"""Pictures and widgets of notebook 07: the prompt box, a picture written code by code, and the rest of one begun.

The functions that draw are plain and tested without a browser; widgets are thin glue over them, as in `widgets`.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmteach.prior import TokenPrior, draw, lenders, sample, sample_codes
from mmteach.solutions import nearest_neighbour
from mmteach.widgets import png

EIGHT = 8
LEND = 0.5  # how much the prompt box lets a surer style say: as much as the style asked for


# What a sentence of codes looks like on the way


def written(model: TokenPrior, codes: Tensor, count: int, paper: int) -> np.ndarray:
    """Return the picture uint8 (H, W, C) of the first `count` of codes (T,), places still to be written in grey.

    paper: the code that stands there for the decoder meanwhile.
    """
    unfinished = torch.where(torch.arange(len(codes)) < count, codes, paper)
    picture, side = draw(model.vqvae, unfinished[None])[0].copy(), round(len(codes) ** 0.5)
    cell = len(picture) // side
    for place in range(count, len(codes)):
        row, column = divmod(place, side)
        picture[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = 208
    return picture


def commonest_code(codes: Tensor) -> int:
    """Return the code that occurs most often in codes (N, T): white paper, on the emoji."""
    return int(torch.bincount(codes.flatten()).argmax())


@torch.no_grad()
def surprises(model: TokenPrior, codes: Tensor, captions: Sequence[str], styles: Sequence[str]) -> np.ndarray:
    """Return how surprised the model is at each of codes (n, T), in bits, told the codes before: float32 (n, T)."""
    style = torch.tensor([model.styles.index(name) for name in styles])
    logits = model(codes[:, :-1], model.meaning(captions, style))
    return (F.cross_entropy(logits.transpose(1, 2), codes, reduction="none") / np.log(2)).numpy()


# The prompt box


class Answer(NamedTuple):
    """What a prompt got: pictures (8, H, W, C), the nearest training picture of each, seconds, and who lent."""

    pictures: np.ndarray
    nearest: np.ndarray
    seconds: float
    lender: str | None


def thumbnails(images: np.ndarray, side: int = 8) -> np.ndarray:
    """Return pictures uint8 (N, H, W, C) averaged to side x side, as float32 rows (N, side * side * C)."""
    count, size, _, channels = images.shape
    cells = images.reshape(count, side, size // side, side, size // side, channels)
    return cells.mean((2, 4), dtype=np.float32).reshape(count, -1)


def ask(
    model: TokenPrior, train: np.ndarray, prompt: str, style: str | None, *, seed: int = 0, **drawing: float
) -> Answer:  # fmt: skip
    """Draw a prompt eight times, and find for each drawing the nearest of `train` (N, H, W, C) by thumbnails.

    drawing: settings of `prior.sample`, as guidance_scale.
    """
    start = time.perf_counter()
    lender = lender_of(model, prompt, style, **drawing)
    pictures = sample(model, [prompt] * EIGHT, styles=style, seed=seed, lender=lender or style, **drawing)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    nearest = train[nearest_neighbour(thumbnails(pictures), thumbnails(train))]
    return Answer(pictures, nearest, seconds, lender)


def lender_of(
    model: TokenPrior, prompt: str, style: str | None, *, lend: float = 0.0, guidance_scale: float = 2.0, **_: float
) -> str | None:  # fmt: skip
    """Return the style that lends a prompt its certainty, or None where none does or each picture has its own style."""
    if style is None or not (lend and guidance_scale):
        return None
    own = torch.tensor([model.styles.index(style)])
    lender = model.styles[int(lenders(model, [prompt], own, lend))]
    return None if lender == style else lender


def draw_answer(answer: Answer, side: int = 96) -> Image.Image:
    """Draw what was drawn, large, and below each the nearest training picture, small."""
    small, gap = side // 2, 4
    sheet = Image.new("RGB", (len(answer.pictures) * (side + gap), side + small + 2 * gap), "white")
    for i, (drawn, nearest) in enumerate(zip(answer.pictures, answer.nearest, strict=True)):
        left = i * (side + gap)
        sheet.paste(_enlarged(drawn, side), (left, 0))
        sheet.paste(_enlarged(nearest, small), (left + small // 2, side + gap))
    return sheet


def describe_answer(answer: Answer, prompt: str) -> str:
    """Say in HTML what is shown."""
    lent = f", surer of it and lent by {html.escape(answer.lender)}" if answer.lender else ""
    return (
        f"<b>{html.escape(prompt) or 'no caption'}</b>{lent}: {len(answer.pictures)} drawings in "
        f"{answer.seconds:.1f} s; below each, small, the training picture that it is nearest to"
    )


def prompt_box(
    model: TokenPrior, train: np.ndarray, *, prompt: str = "red apple", guidance_scale: float = 2.0,
    style_scale: float = 0.0, lend: float = LEND, temperature: float = 0.8,
) -> Any:  # fmt: skip
    """Return a widget: a prompt, a style, all settings and a seed; eight drawings, and what they are nearest to.

    train: the training pictures uint8 (N, H, W, C) to look among.
    """
    import ipywidgets as w

    text = w.Text(value=prompt, description="prompt", continuous_update=False)
    choices = [("each its own", None), *((name, name) for name in model.styles)]
    style = w.Dropdown(options=choices, description="style")
    slow = {"continuous_update": False}
    guidance = w.FloatSlider(min=0, max=6, step=0.5, value=guidance_scale, description="guidance", **slow)
    clear = w.FloatSlider(min=0, max=3, step=0.5, value=style_scale, description="style scale", **slow)
    loan = w.FloatSlider(min=0, max=1, step=0.05, value=lend, description="lend", **slow)
    heat = w.FloatSlider(min=0, max=1.5, step=0.1, value=temperature, description="temperature", **slow)
    seed = w.BoundedIntText(min=0, max=999_999, value=0, description="seed")
    image, words = w.Image(format="png"), w.HTML()
    image.add_class("mmteach-prompt")

    def show(_: object = None) -> None:
        settings = {
            "guidance_scale": guidance.value, "style_scale": clear.value, "lend": loan.value,
            "temperature": heat.value,
        }  # fmt: skip
        answer = ask(model, train, text.value, style.value, seed=seed.value, **settings)
        image.value, words.value = png(draw_answer(answer)), describe_answer(answer, text.value)

    for control in (text, style, guidance, clear, loan, heat, seed):
        control.observe(show, "value")
    show()
    return w.VBox(
        [w.HBox([text, style, seed]), w.HBox([guidance, clear]), w.HBox([loan, heat]), words, image]
    )


# Code by code


def describe_step(bits: np.ndarray, count: int) -> str:
    """Say in HTML how surprising the code at place `count` of bits (T,) was; places count from one."""
    if count == 0:
        return f"nothing written yet; {len(bits)} codes to come"
    chance = 2.0 ** -float(bits[count - 1])
    return f"code {count} of {len(bits)}: chance {chance:.1%}, a surprise of {bits[count - 1]:.1f} bits"


def writer(model: TokenPrior, codes: Tensor, prompt: str, style: str, paper: int) -> Any:
    """Return a widget: play the codes (T,) of a picture as they were written, or slide through them."""
    import ipywidgets as w

    bits = surprises(model, codes[None], [prompt], [style])[0]
    play = w.Play(min=0, max=len(codes), value=len(codes), interval=120)
    place = w.IntSlider(min=0, max=len(codes), value=len(codes), description="codes")
    w.jslink((play, "value"), (place, "value"))
    image, words = w.Image(format="png"), w.HTML()
    image.add_class("mmteach-writer")

    def show(_: object = None) -> None:
        image.value = png(_enlarged(written(model, codes, place.value, paper), 256))
        words.value = describe_step(bits, place.value)

    place.observe(show, "value")
    show()
    return w.VBox([w.HBox([play, place]), words, image])


# The rest of a picture begun

KEPT = ("upper half", "lower half", "left half", "right half")


def kept_codes(codes: Tensor, part: str) -> Tensor:
    """Return codes (n, T) with those outside a part of the picture, one of KEPT, set to -1: to be drawn.

    Raises ValueError on a part of another name.
    """
    if part not in KEPT:
        raise ValueError(f"part must be one of {', '.join(KEPT)}, got {part!r}")
    side = round(codes.shape[1] ** 0.5)
    keep = torch.zeros(side, side, dtype=torch.bool)
    half = slice(side // 2) if part.startswith(("upper", "left")) else slice(side // 2, side)
    if part.startswith(("upper", "lower")):
        keep[half] = True
    else:
        keep[:, half] = True
    return torch.where(keep.flatten(), codes, -1)


def finished(
    model: TokenPrior, codes: Tensor, part: str, prompt: str, style: str, *, count: int = 4,
    guidance_scale: float = 2.0, temperature: float = 0.8, seed: int = 0, **more: float,
) -> np.ndarray:  # fmt: skip
    """Return `count` pictures uint8 (count, H, W, C) that keep a part of codes (T,) and write the rest.

    more: further settings of `prior.sample_codes`.
    """
    fixed = kept_codes(codes[None], part).repeat(count, 1)
    found = sample_codes(
        model, [prompt] * count, styles=style, guidance_scale=guidance_scale, temperature=temperature, seed=seed,
        fixed=fixed, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return draw(model.vqvae, found)


def only_kept(model: TokenPrior, codes: Tensor, part: str) -> np.ndarray:
    """Return the picture uint8 (H, W, C) of codes (T,), grey where they are to be written anew."""
    picture, side = draw(model.vqvae, codes[None])[0].copy(), round(len(codes) ** 0.5)
    gone = (kept_codes(codes[None], part)[0] < 0).view(side, side).numpy()
    picture[np.kron(gone, np.ones((len(picture) // side,) * 2, bool))] = 208
    return picture


def inpainter(model: TokenPrior, pictures: Mapping[str, Tensor], style: str, **settings: float) -> Any:
    """Return a widget: choose a picture by its caption, a part to keep and a prompt for the rest; four ends of it.

    pictures: caption -> codes (T,); settings: those of `prior.sample_codes`.
    """
    import ipywidgets as w

    name = w.Dropdown(options=list(pictures), description="picture")
    part = w.Dropdown(options=list(KEPT), description="keep")
    text = w.Text(value=name.value, description="prompt", continuous_update=False)
    seed = w.BoundedIntText(min=0, max=9999, value=0, description="seed")
    image = w.Image(format="png")
    image.add_class("mmteach-inpainter")

    def show(_: object = None) -> None:
        codes = pictures[name.value]
        ends = finished(model, codes, part.value, text.value, style, seed=seed.value, **settings)  # type: ignore[arg-type]
        whole = draw(model.vqvae, codes[None])[0]
        image.value = png(in_a_row([whole, only_kept(model, codes, part.value), *ends]))

    for control in (name, part, text, seed):
        control.observe(show, "value")
    show()
    return w.VBox([w.HBox([name, part]), w.HBox([text, seed]), image])


def in_a_row(pictures: Sequence[np.ndarray], side: int = 112) -> Image.Image:
    """Draw pictures (H, W, C) side by side."""
    sheet = Image.new("RGB", (len(pictures) * (side + 4), side), "white")
    for i, each in enumerate(pictures):
        sheet.paste(_enlarged(each, side), (i * (side + 4), 0))
    return sheet


def _enlarged(picture: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
