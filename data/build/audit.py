"""Contact sheets and lists for looking at the matches and at the family key: `emoji.py --audit FOLDER`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from match import Match
from PIL import Image, ImageDraw

CAPTION = 24
GAP = 4
REFERENCES = ("noto", "twemoji", "openmoji")
OUT_OF_DISTRIBUTION = "openmoji"
NEAREST = 180
SMALL_WORDS = {
    "with",
    "of",
    "the",
    "and",
    "in",
    "on",
    "a",
    "face",
    "person",
    "man",
    "woman",
    "button",
    "right",
    "left",
}

Cell = tuple[list[np.ndarray], str]
Pair = tuple[float, int, int]


def audit(
    folder: Path, concepts: pd.DataFrame, items: pd.DataFrame, images: np.ndarray, how: list[Match]
) -> None:
    """Write the sheets of every style matched by name and of the nearest pairs, and print the lists."""
    folder.mkdir(parents=True, exist_ok=True)
    for style in items["style"].unique():
        cells = match_cells(style, items, images, how)
        for start in range(0, len(cells), NEAREST):
            contact_sheet(folder / f"match-{style}-{start // NEAREST}.png", cells[start : start + NEAREST])
    pairs = nearest_pictures(items, images)
    cells = [([images[i], images[j]], f"{items.concept[i]}|{items.concept[j]}") for _, i, j in pairs]
    contact_sheet(folder / "nearest.png", cells)
    for distance, i, j in pairs:
        print(f"pixels {distance:.3f} {items['style'][i]}: {items.concept[i]} | {items.concept[j]}")
    for overlap, test, train in nearest_names(concepts):
        print(f"name {overlap:.2f}: {test} | {train}")


def match_cells(style: str, items: pd.DataFrame, images: np.ndarray, how: list[Match]) -> list[Cell]:
    """Pictures of a style that were matched by name beside a reference, least alike first."""
    row = {
        (concept, name): i
        for i, (concept, name) in enumerate(zip(items["concept"], items["style"], strict=True))
    }
    found = []
    for i, match in enumerate(how):
        if match.style == style and match.how != "code point":
            others = [images[row[match.concept, name]] for name in REFERENCES if (match.concept, name) in row]
            distance = min(rms(coarse(images[i]), coarse(other)) for other in others)
            found.append((distance, [images[i], others[0]], f"{match.concept} ({match.how})"))
    return [(pictures, caption) for _, pictures, caption in sorted(found, key=lambda cell: -cell[0])]


def coarse(tile: np.ndarray) -> np.ndarray:
    """A tile (64, 64, 3) uint8 as 8x8 mean colours in [0, 1]."""
    return tile.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) / 255


def rms(a: np.ndarray, b: np.ndarray) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.square(a - b).mean()))


def nearest_pictures(items: pd.DataFrame, images: np.ndarray, count: int = NEAREST) -> list[Pair]:
    """The nearest (distance, row outside train, row in train) in one style, by the RMS of 32x32 pixels in [0, 1]."""
    best: dict[tuple[str, str], Pair] = {}
    for style in items["style"].unique():
        rows = np.flatnonzero(items["style"] == style)
        if style == OUT_OF_DISTRIBUTION:
            continue  # no model trains on it, so that its look-alikes give nothing away
        flat = images[rows].reshape(len(rows), 32, 2, 32, 2, 3).mean(axis=(2, 4)).reshape(len(rows), -1) / 255
        train = (items["split"].iloc[rows] == "train").to_numpy()
        a, b = flat[~train], flat[train]
        square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        distance = np.sqrt(np.maximum(square, 0) / flat.shape[1])
        for left, right in zip(
            *np.unravel_index(np.argsort(distance, axis=None)[:count], distance.shape), strict=True
        ):
            i, j = int(rows[~train][left]), int(rows[train][right])
            pair = (float(distance[left, right]), i, j)
            key = (items.concept[i], items.concept[j])
            best[key] = min(best.get(key, pair), pair)
    return sorted(best.values())[:count]


def nearest_names(concepts: pd.DataFrame, count: int = NEAREST) -> list[tuple[float, str, str]]:
    """The largest (word overlap by Jaccard, concept outside train, concept in train), small words left out."""
    words = {
        c: set(re.findall("[a-z0-9]+", name.lower())) - SMALL_WORDS for c, name in concepts["name_en"].items()
    }
    train = concepts.index[concepts["split"] == "train"]
    pairs = []
    for test in concepts.index.difference(train, sort=False):
        for other in train:
            shared = words[test] & words[other]
            if shared:
                pairs.append((len(shared) / len(words[test] | words[other]), test, other))
    return sorted(pairs, reverse=True)[:count]


def contact_sheet(path: Path, cells: list[Cell], columns: int = 12) -> None:
    """Write a sheet of cells, each one or more tiles (64, 64, 3) side by side over a two-line caption."""
    tiles = max(len(pictures) for pictures, _ in cells)
    width, height = tiles * 64 + GAP, 64 + CAPTION + GAP
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (pictures, caption) in enumerate(cells):
        left, top = index % columns * width, index // columns * height
        for number, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (left + 64 * number, top))
        limit = tiles * 11
        draw.multiline_text(
            (left, top + 64), f"{caption[:limit]}\n{caption[limit : 2 * limit]}", fill="black", spacing=0
        )
    sheet.save(path)
