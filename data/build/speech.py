"""Names spoken by four synthetic voices, and the clips of a voice packed into one zip of Opus files."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly
from sources import BuildError

RATE = 16_000
# Where a voice takes 2.4 MB and the log-spectral distance to the samples is 2.7 dB; 0.98 takes 3.2 MB for 1.9 dB.
COMPRESSION_LEVEL = 0.99
VOICES = {
    "slt": ["flite", "-voice", "slt"],
    "rms": ["flite", "-voice", "rms"],
    "awb": ["flite", "-voice", "awb"],
    "espeak": ["espeak-ng", "-v", "en"],
}
DEBIAN_PACKAGES = {"flite": "flite", "espeak-ng": "espeak-ng"}
SPOKEN = {
    "keycap: #": "keycap hash",
    "keycap: *": "keycap asterisk",
    "zzz": "zed zed zed",
    "t-rex": "tea rex",
    "atm sign": "A T M sign",
    "dvd": "D V D",
    "dna": "D N A",
    "mrs. claus": "missus Claus",
    "mx claus": "mix Claus",
    "moai": "mow eye",
    "khanda": "khanda",
}
LETTERS = {"CL", "ID", "NG", "SOS", "VS", "AB", "OK"}
ORDINALS = {"1st": "first", "2nd": "second", "3rd": "third"}


def spoken(name: str) -> str:
    """What the voices read for a CLDR name: no quotation marks or brackets, abbreviations letter by letter."""
    if name.lower() in SPOKEN:
        return SPOKEN[name.lower()]
    text = re.sub(r"[“”\"()!:,]", " ", name).replace("’", "'").replace("ñ", "ny")
    words = [ORDINALS.get(word, word) for word in text.split()]
    words = [" ".join(word) if word in LETTERS else word.lower() for word in words]
    # A lone capital A would be read as the article.
    return " ".join("ay" if word == "a" and index == 0 else word for index, word in enumerate(words))


def check_programs() -> None:
    """BuildError names each missing speech program and the Debian package that holds it."""
    for program, package in DEBIAN_PACKAGES.items():
        if shutil.which(program) is None:
            raise BuildError(
                f"{program} is needed for the voices and is not installed: `apt install {package}`."
            )


def say(text: str, voice: str) -> np.ndarray:
    """The samples of one clip: (T,) int16 at 16 kHz, before any coding."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "clip.wav"
        command = VOICES[voice]
        command = (
            [*command, "-t", text, "-o", str(wav)] if "flite" in command else [*command, "-w", str(wav), text]
        )
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not wav.exists():
            raise BuildError(f"{command[0]} could not say {text!r}: {done.stderr.strip()}")
        samples, rate = soundfile.read(wav, dtype="int16")
    return to_16k(samples, rate)


def to_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    """int16 samples at `rate` Hz resampled to 16 kHz by a polyphase filter; espeak-ng speaks at 22,050 Hz."""
    if rate == RATE:
        return samples
    common = int(np.gcd(rate, RATE))
    resampled = resample_poly(samples.astype(np.float64), RATE // common, rate // common)
    return np.clip(np.round(resampled), -32768, 32767).astype(np.int16)


def say_all(texts: list[str], voice: str, threads: int = 2) -> list[np.ndarray]:
    """Clips of one voice, in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda text: say(text, voice), texts))


def opus(samples: np.ndarray, compression_level: float) -> bytes:
    """An Ogg Opus file of a clip; `compression_level` 0 (best) to 1 (smallest) sets the bit rate."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="OGG", subtype="OPUS", compression_level=compression_level)
    return buffer.getvalue()


def write_zip(path: Path, clips: dict[str, np.ndarray], compression_level: float = COMPRESSION_LEVEL) -> None:
    """A zip of `<concept>.opus` files; deflating them takes out 700 zero bytes of padding in each header."""
    with ThreadPoolExecutor(2) as pool:
        coded = list(pool.map(lambda samples: opus(samples, compression_level), clips.values()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for concept, content in zip(clips, coded, strict=True):
            entry = zipfile.ZipInfo(f"{concept}.opus", date_time=(2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
