"""The emoji data set, and a reader's own, as one class: pictures, text, speech and structured fields.

Notebook 01 looks inside; every other notebook starts from `load_emoji()`. How the files were made:
data/build/README.md; what they hold: data/emoji/DATASHEET.md (after Gebru et al., Datasheets for Datasets, 2021).
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

STYLES = ("noto", "noto-v1", "twemoji", "openmoji", "emojione", "fxemoji", "fluent", "fluent-flat")
TRAIN_STYLES = tuple(style for style in STYLES if style != "openmoji")
VOICES = ("slt", "rms", "awb", "espeak")
RATE = 16_000
TILE = 64
FRAME_COLUMNS = ("name_en", "unicode_version", "has_skin_tones", "gender", "group", "subgroup", "family")

Clip = tuple[NDArray[np.float32], int]


class DataError(Exception):
    """Data is missing or damaged; the message names the file and says how to mend it."""


@dataclass(frozen=True)
class MultimodalDataset:
    """Concepts seen through several modalities, some of them missing for some concepts.

    concepts: indexed by concept id; text, structured fields, family and split
    items: one row a picture: concept, style, split, held_out
    images: (N, 64, 64, 3) uint8, row i is the picture of items row i
    """

    concepts: pd.DataFrame
    items: pd.DataFrame
    images: NDArray[np.uint8]
    styles: tuple[str, ...]
    voices: tuple[str, ...]
    read_clip: Callable[[str, str], Clip] = field(repr=False)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.items)

    def speech(self, concept: str, voice: str) -> Clip:
        """The spoken name: ((T,) float32 mono in [-1, 1], 16,000 Hz), decoded now. KeyError if there is none."""
        if voice not in self.voices:
            raise KeyError(f"no voice {voice!r}; the voices are {', '.join(self.voices) or 'none'}")
        if concept not in self.concepts.index:
            raise KeyError(f"no concept {concept!r}; concepts are named as in .concepts.index")
        return self.read_clip(concept, voice)

    def picture(self, concept: str, style: str) -> NDArray[np.uint8]:
        """The picture of a concept in a style: (64, 64, 3) uint8. KeyError if that style lacks it."""
        rows = np.flatnonzero((self.items["concept"] == concept) & (self.items["style"] == style))
        if len(rows) == 0:
            raise KeyError(f"no picture of {concept!r} in style {style!r}")
        return self.images[rows[0]]

    def rows(
        self,
        split: str | None = None,
        styles: str | Sequence[str] | None = None,
        held_out: bool | None = None,
    ) -> NDArray[np.intp]:
        """Rows of `items` and `images` that agree with every argument given: (n,) int, ascending."""
        keep = np.ones(len(self.items), dtype=bool)
        if split is not None:
            keep &= (self.items["split"] == _known("split", split, self.items["split"].unique())).to_numpy()
        if styles is not None:
            wanted = [styles] if isinstance(styles, str) else list(styles)
            keep &= self.items["style"].isin([_known("style", s, self.styles) for s in wanted]).to_numpy()
        if held_out is not None:
            keep &= (self.items["held_out"] == held_out).to_numpy()
        return np.flatnonzero(keep)

    def frame(self, rows: Sequence[int] | NDArray[np.intp], voice: str | None = None) -> pd.DataFrame:
        """One row a picture, for scikit-learn: a column of text, one of pictures, and the structured fields.

        Columns: name, picture ((64, 64, 3) uint8 objects), unicode_version, has_skin_tones, gender, group,
        subgroup, family, concept, style; with `voice` also speech ((T,) float32 at 16 kHz, None where missing).
        """
        chosen = self.items.iloc[np.asarray(rows, dtype=np.intp)]
        table = self.concepts.loc[chosen["concept"], list(FRAME_COLUMNS)].reset_index()
        table = table.rename(columns={"name_en": "name"})
        table["style"] = chosen["style"].to_numpy()
        table.insert(0, "name", table.pop("name"))
        table.insert(1, "picture", _objects([self.images[row] for row in chosen.index]))
        if voice is not None:
            _known("voice", voice, self.voices)
            clips = {concept: self._clip_or_none(concept, voice) for concept in table["concept"].unique()}
            table["speech"] = _objects([clips[concept] for concept in table["concept"]])
        return table

    def _clip_or_none(self, concept: str, voice: str) -> NDArray[np.float32] | None:
        try:
            return self.speech(concept, voice)[0]
        except KeyError:
            return None


def _objects(values: list) -> pd.Series:
    """A column whose cells are the values themselves; numpy would stack arrays of one shape."""
    cells = np.empty(len(values), dtype=object)
    cells[:] = [None] * len(values)
    for index, value in enumerate(values):
        cells[index] = value
    return pd.Series(cells, dtype=object)


def _known(what: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"no {what} {value!r}; there are {', '.join(known)}")
    return value


def load_emoji(root: str | os.PathLike[str] | None = None) -> MultimodalDataset:
    """The emoji data set, verified against its checksums.

    root: the folder that contains `emoji/`; by default $MMTEACH_DATA, else `data` of the checkout.
    Raises DataError if it is missing, incomplete or damaged.
    """
    folder = find_emoji(root)
    verify(folder)
    concepts = pd.read_csv(folder / "concepts.csv", index_col="concept", keep_default_na=False)
    items = pd.read_csv(folder / "items.csv", keep_default_na=False)
    images = _read_sheets(folder, items["style"])
    return MultimodalDataset(concepts, items, images, STYLES, VOICES, ZipClips(folder / "speech"))


def training_rows(dataset: MultimodalDataset) -> NDArray[np.intp]:
    """Return the rows that a model of the course may learn from: split train, no held-out pair, never OpenMoji."""
    return dataset.rows("train", TRAIN_STYLES, held_out=False)


def load_folder(
    folder: str | os.PathLike[str], captions: str = "captions.csv", *, size: int = TILE
) -> MultimodalDataset:
    """A reader's own pictures, captions and audio: see mmteach.folder.load_folder."""
    from mmteach import folder as own  # it builds on this module

    return own.load_folder(folder, captions, size=size)


def find_emoji(root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the emoji data set; DataError explains where it was looked for."""
    checkout = Path(__file__).resolve().parents[1] / "data"
    data = Path(root or os.environ.get("MMTEACH_DATA") or checkout)
    if (data / "emoji" / "SHA256SUMS").is_file():
        return data / "emoji"
    raise DataError(
        f"No emoji data set in {data} (looked for emoji/SHA256SUMS). The data comes with the course's repository: "
        "set MMTEACH_DATA to the `data` folder of a checkout, or install the package from one with `pip install -e .`."
    )


def data_checksum() -> str:
    """Return the SHA-256 of the emoji data set's SHA256SUMS, which stands for all of its files."""
    return hashlib.sha256((find_emoji() / "SHA256SUMS").read_bytes()).hexdigest()


def verify(folder: Path) -> None:
    """Compare every file named in SHA256SUMS with its checksum; DataError names all that are wrong."""
    lines = [line.split("  ", 1) for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines()]
    if any(len(line) != 2 for line in lines) or not lines:
        raise DataError(f"{folder / 'SHA256SUMS'} is damaged. {_mend(folder)}")
    with ThreadPoolExecutor(2) as pool:
        faults = pool.map(lambda line: _fault(folder / line[1], line[0]), lines)
        problems = [fault for fault in faults if fault]
    if problems:
        raise DataError("\n".join([*problems, _mend(folder)]))


def _mend(folder: Path) -> str:
    return f"To mend: `git checkout -- {folder}` in a checkout, or rebuild with `python data/build/emoji.py`."


def _fault(path: Path, expected: str) -> str:
    """What is wrong with a file, or an empty string."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}."
    if hashlib.sha256(content).hexdigest() == expected:
        return ""
    return f"{path} is damaged or incomplete ({len(content)} bytes, and not the checksum in SHA256SUMS)."


def _read_sheets(folder: Path, styles: pd.Series) -> NDArray[np.uint8]:
    """Decode the sheet of every style into its block of rows: (N, 64, 64, 3) uint8, aligned with `styles`."""
    images = np.empty((len(styles), TILE, TILE, 3), dtype=np.uint8)
    jobs = []
    for style in styles.unique():
        block = np.flatnonzero(styles == style)
        jobs.append((folder / "images" / f"{style}.webp", images[block[0] : block[-1] + 1]))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: _read_sheet(*job), jobs))
    return images


def _read_sheet(path: Path, tiles: NDArray[np.uint8]) -> None:
    """Cut a sheet into `tiles` (n, 64, 64, 3), which it fills, one row of tiles at a time to save memory."""
    with Image.open(path) as sheet:
        columns = sheet.width // TILE
        for start in range(0, len(tiles), columns):
            top = start // columns * TILE
            strip = np.asarray(sheet.crop((0, top, sheet.width, top + TILE)).convert("RGB"))
            part = tiles[start : start + columns]
            part[:] = strip.reshape(TILE, columns, TILE, 3).swapaxes(0, 1)[: len(part)]


@dataclass(frozen=True)
class ZipClips:
    """Reads clips from `<folder>/<voice>.zip`, which holds one `<concept>.opus` a concept."""

    folder: Path

    def __call__(self, concept: str, voice: str) -> Clip:
        """One clip; DataError if it cannot be decoded."""
        import soundfile  # loads a C library that a reader who never listens does not need

        try:
            packed = _open_zip(self.folder / f"{voice}.zip").read(f"{concept}.opus")
            samples, rate = soundfile.read(io.BytesIO(packed), dtype="float32")
        except (OSError, KeyError, zipfile.BadZipFile, soundfile.LibsndfileError) as error:
            raise DataError(
                f"{self.folder / voice}.zip: the clip of {concept!r} cannot be decoded: {error}"
            ) from error
        return np.clip(samples, -1.0, 1.0), rate


@lru_cache(maxsize=8)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """A voice held in memory: forked data-loader workers must not share one file position."""
    return zipfile.ZipFile(io.BytesIO(path.read_bytes()))
