"""Build the emoji data set: `python data/build/emoji.py` writes data/emoji, `--check` compares with it."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

try:
    import numpy as np
    import pandas as pd
    import render
    import speech
    from audit import audit
    from family import families
    from match import Match, match_style, names_by_code
    from overview import overview
    from PIL import Image
    from sources import STYLE_PACKAGES, BuildError, fetch_all, read_json
    from tables import assign_splits, concept_table, held_out
except ModuleNotFoundError as error:
    sys.exit(f'The build needs the Python package {error.name!r}: `python -m pip install -e ".[build]"`.')

DATA = Path(__file__).resolve().parents[1] / "emoji"


@dataclass(frozen=True)
class Parts:
    """Everything the data set is made of, before any lossy coding."""

    concepts: pd.DataFrame
    items: pd.DataFrame
    images: np.ndarray
    clips: dict[str, dict[str, np.ndarray]]
    matches: list[Match]


def matches_of(tarballs: dict[str, Path], codes: dict[str, str]) -> list[Match]:
    """The picture of every (concept, style) that has one, style by style in the order of the concepts."""
    names = names_by_code(tarballs)
    return [match for style in STYLE_PACKAGES for match in match_style(style, codes, names, tarballs)]


def render_matches(tarballs: dict[str, Path], matches: list[Match]) -> np.ndarray:
    """Tiles (N, 64, 64, 3) uint8 of the matches, in order."""
    icons = {style: read_json(tarballs[package], "icons.json") for style, package in STYLE_PACKAGES.items()}
    return render.render_all([render.svg_of(icons[match.style], match.slug) for match in matches])


def make_tables(concepts: pd.DataFrame, matches: list[Match], images: np.ndarray):
    """Concepts with family and split, and items with split and held_out."""
    items = pd.DataFrame({"concept": [m.concept for m in matches], "style": [m.style for m in matches]})
    concepts.insert(list(concepts).index("unicode_version"), "family", families(concepts, items, images))
    concepts["split"] = assign_splits(concepts)
    items["split"] = items["concept"].map(concepts["split"])
    items["held_out"] = held_out(items, images)
    return concepts, items


def make_clips(concepts: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """voice -> concept -> int16 samples at 16 kHz."""
    texts = [speech.spoken(name) for name in concepts["name_en"]]
    return {v: dict(zip(concepts.index, speech.say_all(texts, v), strict=True)) for v in speech.VOICES}


def build(cache: Path, with_speech: bool = True) -> Parts:
    """All parts of the data set from the pinned packages; BuildError if something it needs is missing."""
    if with_speech:
        speech.check_programs()
    tarballs = fetch_all(cache)
    concepts, codes = concept_table(tarballs)
    matches = matches_of(tarballs, codes)
    print(f"{len(concepts)} concepts, {len(matches)} pictures: rendering")
    images = render_matches(tarballs, matches)
    concepts, items = make_tables(concepts, matches, images)
    print("speaking" if with_speech else "speech left out")
    return Parts(concepts, items, images, make_clips(concepts) if with_speech else {}, matches)


def csv_bytes(table: pd.DataFrame, index: bool) -> bytes:
    """A table as it is written: UTF-8, line feeds only."""
    return table.to_csv(index=index, lineterminator="\n").encode()


def digests(parts: Parts) -> dict[str, str]:
    """SHA-256 of the tables, the pixels of each style, and the samples of each voice before coding."""
    found = {
        "concepts.csv": sha256(csv_bytes(parts.concepts, True)),
        "items.csv": sha256(csv_bytes(parts.items, False)),
    }
    for style in STYLE_PACKAGES:
        found[f"pixels/{style}"] = sha256(parts.images[(parts.items["style"] == style).to_numpy()].tobytes())
    for voice, clips in parts.clips.items():
        found[f"samples/{voice}"] = sha256(b"".join(c.encode() + s.tobytes() for c, s in clips.items()))
    return found


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def write(parts: Parts, out: Path, method: int) -> None:
    """Write tables, sheets, clips, digests and SHA256SUMS into `out`; other files there are kept and summed."""
    for folder in (out / "images", out / "speech"):
        folder.mkdir(parents=True, exist_ok=True)
    (out / "concepts.csv").write_bytes(csv_bytes(parts.concepts, True))
    (out / "items.csv").write_bytes(csv_bytes(parts.items, False))
    for style in STYLE_PACKAGES:
        tiles = parts.images[(parts.items["style"] == style).to_numpy()]
        (out / "images" / f"{style}.webp").write_bytes(render.webp(render.to_sheet(tiles), method))
    for voice, clips in parts.clips.items():
        speech.write_zip(out / "speech" / f"{voice}.zip", clips)
    kept = json.loads((out / "digests.json").read_text()) if not parts.clips else {}
    (out / "digests.json").write_text(json.dumps(kept | digests(parts), indent=1) + "\n")
    overview(out / "overview.webp", parts.items, parts.images, tuple(STYLE_PACKAGES))
    write_sums(out)


def write_sums(out: Path) -> None:
    """SHA256SUMS over the data in `out`, in the format of `sha256sum --check`; prose may be mended freely."""
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if is_data(path))
    (out / "SHA256SUMS").write_text(
        "".join(f"{sha256((out / name).read_bytes())}  {name}\n" for name in files)
    )


def is_data(path: Path) -> bool:
    """Whether a file belongs under SHA256SUMS."""
    return path.is_file() and path.suffix != ".md" and path.name != "SHA256SUMS"


def committed_digests(out: Path) -> dict[str, str]:
    """Digests of what the files in `out` hold: tables as bytes, sheets as decoded pixels."""
    found = {name: sha256((out / name).read_bytes()) for name in ("concepts.csv", "items.csv")}
    styles = pd.read_csv(out / "items.csv", keep_default_na=False)["style"]
    for style in STYLE_PACKAGES:
        sheet = np.asarray(Image.open(out / "images" / f"{style}.webp").convert("RGB"))
        found[f"pixels/{style}"] = sha256(render.from_sheet(sheet, int((styles == style).sum())).tobytes())
    return found


def check(out: Path, rebuilt: dict[str, str]) -> list[str]:
    """What differs between `out`, the digests in it, and a fresh build; empty when all agree."""
    stated = json.loads((out / "digests.json").read_text())
    found = committed_digests(out)
    problems = [
        f"{name}: a rebuild gives something else" for name in rebuilt if rebuilt[name] != stated.get(name)
    ]
    problems += [f"{name}: not what digests.json says" for name in found if found[name] != stated.get(name)]
    return problems + sum_problems(out)


def sum_problems(out: Path) -> list[str]:
    """Files whose checksum is not the one in SHA256SUMS."""
    lines = [line.split("  ", 1) for line in (out / "SHA256SUMS").read_text().splitlines()]
    return [f"{n}: not what SHA256SUMS says" for s, n in lines if sha256((out / n).read_bytes()) != s]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA, help="where the data set is, or goes")
    parser.add_argument("--cache", type=Path, help="folder of npm tarballs, kept and used again")
    parser.add_argument("--check", action="store_true", help="rebuild in memory and compare with --out")
    parser.add_argument("--method", type=int, default=6, choices=range(7), help="effort of the WebP coder")
    parser.add_argument(
        "--audit", type=Path, metavar="FOLDER", help="write contact sheets and lists to look at"
    )
    parser.add_argument("--no-speech", action="store_true", help="leave the clips as they are")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0: it went well; 1: the check found differences; 2: something is missing."""
    options = parse(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            speak = not (options.no_speech or options.audit)
            parts = build(options.cache or Path(scratch), with_speech=speak)
    except BuildError as error:
        print(f"cannot build: {error}", file=sys.stderr)
        return 2
    if options.audit:
        audit(options.audit, parts.concepts, parts.items, parts.images, parts.matches)
        return 0
    if not options.check:
        write(parts, options.out, options.method)
        return 0
    problems = check(options.out, digests(parts))
    print("\n".join(problems) or "the rebuild agrees with what is committed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
