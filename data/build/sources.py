"""Fetch the pinned npm packages and read what the build needs from them, without unpacking."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

STYLE_PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "openmoji": "@iconify-json/openmoji@1.2.29",
    "emojione": "@iconify-json/emojione@1.2.3",
    "fxemoji": "@iconify-json/fxemoji@1.2.2",
    "fluent": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
TEXT_PACKAGE = "emojibase-data@17.0.0"
SHA256 = {
    "@iconify-json/noto@1.2.9": "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    "@iconify-json/noto-v1@1.2.5": "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
    "@iconify-json/twemoji@1.2.5": "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    "@iconify-json/openmoji@1.2.29": "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    "@iconify-json/emojione@1.2.3": "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
    "@iconify-json/fxemoji@1.2.2": "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
    "@iconify-json/fluent-emoji@1.2.7": "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
    "@iconify-json/fluent-emoji-flat@1.2.6": "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    "emojibase-data@17.0.0": "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
}


class BuildError(RuntimeError):
    """Something the build needs is missing or not what it should be; the message says how to mend it."""


def tarball_name(package: str) -> str:
    """File name that `npm pack` gives to `package` (for example `@scope/name@1.0` -> `scope-name-1.0.tgz`)."""
    return package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"


def fetch(package: str, cache: Path) -> Path:
    """Path of the package's tarball in `cache`, packed by npm if it is not there; BuildError if it cannot be had."""
    tarball = cache / tarball_name(package)
    if not tarball.exists():
        cache.mkdir(parents=True, exist_ok=True)
        npm_pack(package, cache)
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != SHA256[package]:
        raise BuildError(
            f"{tarball} is not {package} as published (sha256 {digest}). Delete it and run again."
        )
    return tarball


def npm_pack(package: str, cache: Path) -> None:
    """Download one package into `cache`; BuildError names npm or the package when either is missing."""
    if shutil.which("npm") is None:
        raise BuildError(
            f"npm is needed to fetch {package} and is not installed: `apt install npm`, "
            f"or put {tarball_name(package)} into the folder given as --cache."
        )
    command = ["npm", "pack", "--silent", "--pack-destination", str(cache), package]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (cache / tarball_name(package)).exists():
        raise BuildError(f"npm could not fetch {package}: {done.stderr.strip() or 'no tarball written'}")


def fetch_all(cache: Path) -> dict[str, Path]:
    """Tarballs by package name."""
    return {package: fetch(package, cache) for package in SHA256}


def read_json(tarball: Path, member: str) -> dict:
    """One JSON file of a package."""
    with tarfile.open(tarball) as archive:
        handle = archive.extractfile(f"package/{member}")
        assert handle is not None, f"{tarball.name} holds no {member}"
        return json.load(handle)
