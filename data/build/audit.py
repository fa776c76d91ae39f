"""Contact sheets and lists for looking at the matches and at the family key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

LABEL = 24
GAP = 4


def contact_sheet(path: Path, cells: list[tuple[list[np.ndarray], str]], columns: int = 10) -> None:
    """Write a sheet of cells, each one or more tiles (64, 64, 3) side by side over a two-line caption."""
    tiles = max(len(pictures) for pictures, _ in cells)
    width, height = tiles * 64 + GAP, 64 + LABEL + GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (pictures, caption) in enumerate(cells):
        left, top = index % columns * width, index // columns * height
        for number, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (left + 64 * number, top))
        limit = tiles * 11
        lines = [caption[:limit], caption[limit : 2 * limit]]
        draw.multiline_text((left, top + 64), "\n".join(lines), fill="black", spacing=0)
    sheet.save(path)
