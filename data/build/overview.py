"""The figure of the whole set: every concept once, each band of rows in the next style, and one concept in all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

STEP = 24
COLUMNS = 64
SHOWN = (
    "red-heart",
    "dog-face",
    "pizza",
    "rocket",
    "grinning-face",
    "umbrella",
    "rose",
    "guitar",
    "alarm-clock",
    "butterfly",
    "watermelon",
    "octopus",
    "locomotive",
    "money-bag",
)
MARGIN = 24
BIG = 96


def overview(path: Path, items: pd.DataFrame, images: np.ndarray, styles: tuple[str, ...]) -> None:
    """Write the figure: fourteen concepts in all the styles above a mosaic of all concepts, the styles in turn."""
    top = style_table(items, images, styles)
    below = mosaic(items, images, styles)
    width = max(top.width, below.width) + 2 * MARGIN
    figure = Image.new("RGB", (width, top.height + below.height + 3 * MARGIN), "white")
    figure.paste(top, ((width - top.width) // 2, MARGIN))
    figure.paste(below, ((width - below.width) // 2, top.height + 2 * MARGIN))
    figure.save(path, "WEBP", quality=82, method=6)


def style_table(items: pd.DataFrame, images: np.ndarray, styles: tuple[str, ...]) -> Image.Image:
    """A row a style, a column a concept; a style that lacks the concept leaves its cell empty."""
    row = {pair: i for i, pair in enumerate(zip(items["concept"], items["style"], strict=True))}
    left = 130
    table = Image.new("RGB", (left + len(SHOWN) * BIG, len(styles) * BIG), "white")
    draw = ImageDraw.Draw(table)
    font = ImageFont.load_default(size=20)
    for y, style in enumerate(styles):
        draw.text((0, y * BIG + BIG // 2), style, fill="#333333", font=font, anchor="lm")
        for x, concept in enumerate(SHOWN):
            if (concept, style) in row:
                table.paste(Image.fromarray(images[row[concept, style]]), (left + x * BIG + 16, y * BIG + 16))
    return table


def mosaic(items: pd.DataFrame, images: np.ndarray, styles: tuple[str, ...]) -> Image.Image:
    """Every concept once, in chart order, each in the next of the styles that have it."""
    having = items.reset_index().pivot(index="concept", columns="style", values="index")
    concepts = items["concept"].unique()
    canvas = Image.new("RGB", (COLUMNS * STEP, -(-len(concepts) // COLUMNS) * STEP), "white")
    for place, concept in enumerate(concepts):
        turn = [styles[(place + shift) % len(styles)] for shift in range(len(styles))]
        found = next(int(having.at[concept, s]) for s in turn if not np.isnan(having.at[concept, s]))
        tile = Image.fromarray(images[found]).resize((STEP - 2, STEP - 2), Image.Resampling.LANCZOS)
        canvas.paste(tile, (place % COLUMNS * STEP + 1, place // COLUMNS * STEP + 1))
    return canvas
