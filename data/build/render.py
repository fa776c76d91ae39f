"""SVG bodies to 64x64 RGB tiles on white, and tiles to lossless WebP sheets."""

from __future__ import annotations

import io
from multiprocessing import Pool

import numpy as np
import resvg_py
from PIL import Image

TILE = 64
OVERSAMPLE = 4
COLUMNS = 40


def svg_of(icons: dict, slug: str) -> str:
    """A whole SVG document for the icon or alias `slug` of one package, at the size it is rendered at."""
    icon = dict(icons["icons"].get(slug) or icons["aliases"][slug])
    flip = icon.get("hFlip", False)
    while "parent" in icon:
        icon = dict(icons["icons"].get(icon["parent"]) or icons["aliases"][icon["parent"]])
        flip ^= icon.get("hFlip", False)
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    size = TILE * OVERSAMPLE
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size}" height="{size}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def render(svg: str) -> np.ndarray:
    """One tile: (64, 64, 3) uint8, drawn four times as large on white and averaged over 4x4 boxes."""
    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return np.asarray(picture.reduce(OVERSAMPLE))


def render_all(svgs: list[str], processes: int = 2) -> np.ndarray:
    """Tiles of all documents: (N, 64, 64, 3) uint8, in order."""
    with Pool(processes) as pool:
        return np.stack(pool.map(render, svgs, chunksize=32))


def to_sheet(tiles: np.ndarray) -> np.ndarray:
    """Tiles (N, 64, 64, 3) laid out in rows of 40, the last row filled with white: (rows*64, 2560, 3) uint8."""
    rows = -(-len(tiles) // COLUMNS)
    grid = np.full((rows * COLUMNS, TILE, TILE, 3), 255, np.uint8)
    grid[: len(tiles)] = tiles
    return grid.reshape(rows, COLUMNS, TILE, TILE, 3).swapaxes(1, 2).reshape(rows * TILE, COLUMNS * TILE, 3)


def webp(sheet: np.ndarray, method: int) -> bytes:
    """Lossless WebP file of a sheet; a higher `method` (0 to 6) takes longer and gives a smaller file."""
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", lossless=True, quality=100, method=method)
    return buffer.getvalue()


def from_sheet(sheet: np.ndarray, count: int) -> np.ndarray:
    """The first `count` tiles of a sheet: the inverse of `to_sheet`."""
    rows = sheet.shape[0] // TILE
    return sheet.reshape(rows, TILE, COLUMNS, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)[:count]
