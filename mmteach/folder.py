"""A reader's own pictures, captions and audio, loaded as the same class as the emoji.

Notebook 10 uses it on data of the reader's own kind; `mmteach.data.load_folder` is this function.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mmteach.data import RATE, TILE, Clip, DataError, MultimodalDataset

STYLE = "own"
VOICE = "own"
COLUMNS = ("file", "caption", "label")
OPTIONAL = ("audio",)
LONGEST_CAPTION = 9_999
SHARES = (("train", 0.70), ("val", 0.10), ("test", 0.20))


@dataclass
class Problems:
    """What is wrong with the rows of a table, collected so that the reader mends all of it at once."""

    table: Path
    found: list[str] = field(default_factory=list)

    def add(self, line: int, what: str, mend: str) -> None:
        """Note that `line` of the table has a fault, and how to mend it."""
        self.found.append(f"{self.table.name}, line {line}: {what}. {mend}")

    def raise_if_any(self) -> None:
        """DataError with every fault, if there is one."""
        if self.found:
            faults = "fault is" if len(self.found) == 1 else "faults are"
            raise DataError(
                f"{len(self.found)} {faults} to be mended in {self.table}:\n" + "\n".join(self.found)
            )


def load_folder(
    folder: str | os.PathLike[str], captions: str = "captions.csv", *, size: int = TILE
) -> MultimodalDataset:
    """Pictures of a folder, described by a table in it, as a dataset of one style and at most one voice.

    captions: CSV in UTF-8 with the columns file, caption, label, and optionally audio (paths inside `folder`)
    size: pictures become (size, size, 3) uint8: whole, centred on white
    Rows of one caption share a family; families are split 70/10/20, label by label.
    Raises one DataError that names every bad row with its line, what is wrong and how to mend it.
    """
    root = Path(folder)
    rows = read_table(root, captions)
    problems = Problems(root / captions)
    if not rows:
        problems.add(2, "there are no rows", "Write one row a picture: file, caption, label.")
    seen: dict[str, int] = {}
    for line, row in rows:
        check_texts(row, line, seen, problems)
    pictures = [read_picture(root, row["file"], line, size, problems) for line, row in rows]
    for line, row in rows:
        check_audio(root, row["audio"], line, problems)
    problems.raise_if_any()
    return assemble(root, [row for _, row in rows], np.stack(pictures))


def read_table(root: Path, captions: str) -> list[tuple[int, dict[str, str]]]:
    """(line, row) pairs of the table; DataError when the folder, the table or a column is missing or unreadable."""
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Give the folder that holds the pictures and {captions}.")
    path = root / captions
    if not path.is_file():
        raise DataError(f"There is no {captions} in {root}. Write one with the columns {', '.join(COLUMNS)}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path.name}, line {line}: not UTF-8. Save it as 'CSV UTF-8'.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        found = ", ".join(reader.fieldnames or []) or "nothing"
        raise DataError(
            f"{path.name}, line 1: no column {', '.join(missing)} (found: {found}). "
            f"The first line names the columns: {', '.join(COLUMNS)}, and {OPTIONAL[0]} if there is sound."
        )
    return list(numbered(reader))


def numbered(reader: csv.DictReader) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the line of the file that each starts on; a missing cell is empty, cells too many stand in `extra`."""
    line = reader.line_num + 1
    for row in reader:
        cells = {name: (row.get(name) or "").strip() for name in (*COLUMNS, *OPTIONAL)}
        yield line, cells | {"extra": ", ".join(row.get(None) or [])}
        line = reader.line_num + 1


def check_texts(row: dict[str, str], line: int, seen: dict[str, int], problems: Problems) -> None:
    """Note cells too many, an empty or overlong caption, a missing label or file name, and a file named twice."""
    if row["extra"]:
        problems.add(
            line, "there are more cells than columns", 'Put a caption with commas into "quotation marks".'
        )
    if not row["caption"]:
        problems.add(line, "the caption is empty", "Describe the picture in a few words, or delete the row.")
    if len(row["caption"]) > LONGEST_CAPTION:
        what = f"the caption has {len(row['caption']):,} characters; the limit is {LONGEST_CAPTION:,}"
        problems.add(line, what, "Shorten it; an unclosed quotation mark swallows the lines that follow.")
    if not row["label"]:
        problems.add(line, "the label is missing", "Name the class of the picture, or delete the row.")
    if not row["file"]:
        problems.add(line, "the file name is missing", "Name the picture, relative to the folder.")
    elif row["file"] in seen:
        problems.add(
            line, f"{row['file']} already stands in line {seen[row['file']]}", "Keep one of the rows."
        )
    else:
        seen[row["file"]] = line


def read_picture(root: Path, file: str, line: int, size: int, problems: Problems) -> NDArray[np.uint8]:
    """The picture as (size, size, 3) uint8; white where it cannot be read, and the fault noted."""
    blank = np.full((size, size, 3), 255, np.uint8)
    if not file:
        return blank
    if not (root / file).is_file():
        problems.add(line, f"there is no picture {file}", "Correct the name (case counts), or add the file.")
        return blank
    try:
        with Image.open(root / file) as picture:
            return to_square(ImageOps.exif_transpose(picture), size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problems.add(line, f"{file} is not a readable picture ({error})", "Save it again as PNG or JPEG.")
        return blank


def to_square(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """A picture of any size and mode, whole and centred on white: (size, size, 3) uint8."""
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture.convert("RGBA"))
    scale = size / max(flat.size)
    width, height = (max(1, round(length * scale)) for length in flat.size)
    square = Image.new("RGB", (size, size), "white")
    small = flat.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    square.paste(small, ((size - width) // 2, (size - height) // 2))
    return np.array(square)


def check_audio(root: Path, audio: str, line: int, problems: Problems) -> None:
    """Note a sound that is named and missing, or cannot be read."""
    if not audio:
        return
    if not (root / audio).is_file():
        problems.add(
            line, f"there is no sound {audio}", "Correct the name, add the file, or leave the cell empty."
        )
        return
    import soundfile  # loads a C library that pictures and captions do not need

    try:
        samples, _ = soundfile.read(root / audio, dtype="float32")
    except (soundfile.LibsndfileError, OSError) as error:
        problems.add(line, f"{audio} is not a readable sound ({error})", "Save it again as WAV, FLAC or OGG.")
        return
    if len(samples) == 0:
        problems.add(line, f"{audio} has no samples", "Record it again, or leave the cell empty.")


def assemble(root: Path, rows: list[dict[str, str]], pictures: NDArray[np.uint8]) -> MultimodalDataset:
    """The dataset of checked rows: one concept a picture, named after its file."""
    table = pd.DataFrame(rows)
    table["concept"] = [
        Path(file).with_suffix("").as_posix() if unique else file for file, unique in stems(table)
    ]
    table["family"] = table["caption"].str.lower().str.split().str.join(" ")
    table["split"] = splits(table)
    concepts = table.rename(columns={"caption": "name_en", "label": "group"}).set_index("concept")
    concepts = concepts.assign(
        emoji="", keywords_en="", name_zh="", keywords_zh="", subgroup=concepts["group"],
        unicode_version=np.nan, has_skin_tones=False, gender="",
    )  # fmt: skip
    items = table[["concept", "split"]].assign(style=STYLE, held_out=False)[
        ["concept", "style", "split", "held_out"]
    ]
    sounds = {c: root / audio for c, audio in zip(table["concept"], table["audio"], strict=True) if audio}
    return MultimodalDataset(
        concepts.drop(columns=["file", "audio", "extra"]),
        items,
        pictures,
        (STYLE,),
        (VOICE,) if sounds else (),
        FileClips(sounds),
    )


def stems(table: pd.DataFrame) -> list[tuple[str, bool]]:
    """Each file, and whether its name without the ending is its alone."""
    names = table["file"].map(lambda file: Path(file).with_suffix("").as_posix())
    return list(zip(table["file"], ~names.duplicated(keep=False), strict=True))


def splits(table: pd.DataFrame) -> pd.Series:
    """train, val or test for every row: whole families, label by label, in an order fixed by the captions."""
    chosen: dict[str, str] = {}
    home = table.groupby("family", sort=False)["label"].first()
    for label in sorted(home.unique()):
        families = sorted(home.index[home == label], key=lambda f: hashlib.sha256(f.encode()).hexdigest())
        # At least one family a label to train on, and then the shares as far as whole families allow.
        edges = np.round(np.cumsum([share for _, share in SHARES]) * len(families)).astype(int)
        edges[0] = max(1, edges[0])
        for number, family in enumerate(families):
            chosen[family] = SHARES[int(np.searchsorted(edges, number, side="right"))][0]
    return table["family"].map(chosen)


@dataclass(frozen=True)
class FileClips:
    """Reads clips from sound files of any rate, as mono at 16 kHz."""

    sounds: dict[str, Path]

    def __call__(self, concept: str, voice: str) -> Clip:
        """One clip; KeyError if the row named none."""
        import soundfile
        from scipy.signal import resample_poly

        if concept not in self.sounds:
            raise KeyError(f"{concept!r} has no sound")
        samples, rate = soundfile.read(self.sounds[concept], dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        if rate != RATE:
            common = int(np.gcd(rate, RATE))
            mono = resample_poly(mono, RATE // common, rate // common)
        return np.clip(mono, -1.0, 1.0).astype(np.float32), RATE
