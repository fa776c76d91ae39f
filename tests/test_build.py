"""The build of the data set, without building it: names, matches, speech texts, and clear failures."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "data" / "build"
EMOJI = ROOT / "data" / "emoji"
sys.path.insert(0, str(BUILD))

# Drawing is an extra of the package (".[build]"); what does not draw is tested without it.
pytest.importorskip("resvg_py")

import emoji  # noqa: E402
import family  # noqa: E402
import match  # noqa: E402
import render  # noqa: E402
import sources  # noqa: E402
import speech  # noqa: E402

SQUARE = {"icons": {"half": {"body": '<path fill="#f00" d="M0 0h4v8H0z"/>'}}, "width": 8, "height": 8}


@pytest.fixture
def no_programs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("red heart", "red-heart"),
        ("piñata", "pinata"),
        ("keycap: #", "keycap-hash"),
        ("woman’s boot", "womans-boot"),
        ("Japanese “here” button", "japanese-here-button"),
    ],
)
def test_a_concept_is_the_slug_of_its_name(name, slug):
    assert match.slugify(name) == slug


def test_names_written_differently_squash_to_one():
    assert match.squash("woman-s-boot") == match.squash("womans_boot") == match.squash("Woman’s Boot")


def test_variation_selectors_do_not_tell_code_points_apart():
    assert match.code_key("2764-fe0f") == match.code_key("2764")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OK hand", "O K hand"),
        ("1st place medal", "first place medal"),
        ("A button (blood type)", "ay button blood type"),
        ("Japanese “here” button", "japanese here button"),
        ("keycap: *", "keycap asterisk"),
        ("twelve o’clock", "twelve o'clock"),
    ],
)
def test_names_are_written_out_for_the_voices(name, text):
    assert speech.spoken(name) == text


def test_nothing_but_words_is_spoken():
    with (EMOJI / "concepts.csv").open(encoding="utf-8", newline="") as file:
        texts = [speech.spoken(row["name_en"]) for row in csv.DictReader(file)]
    assert all(
        set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 '-.")
        for text in texts
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("woman astronaut", "astronaut"),
        ("man walking: facing right", "walking"),
        ("woman: red hair", "person"),
        ("half past", "half-past"),
        ("five-thirty", "clock-face"),
        ("light blue heart", "heart"),
        ("dog face", "dog"),
        ("angry face", "angry-face"),
        ("oncoming taxi", "taxi"),
    ],
)
def test_the_family_key_strips_variants_from_a_name(name, key):
    assert family.name_key(name) == key


def test_every_merge_names_known_concepts_and_a_reason():
    with (EMOJI / "concepts.csv").open(encoding="utf-8", newline="") as file:
        known = {row["concept"] for row in csv.DictReader(file)}
    with family.MERGES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert set(row["concepts"].split()) <= known, row
            assert row["reason"], row


def test_every_correction_names_a_known_concept_and_a_reason():
    with (EMOJI / "concepts.csv").open(encoding="utf-8", newline="") as file:
        known = {row["concept"] for row in csv.DictReader(file)}
    with match.CORRECTIONS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert row["concept"] in known, row
            assert row["do"] in {"use", "drop"}, row
            assert row["reason"], row


def test_a_drawing_becomes_a_tile_on_white():
    tile = render.render(render.svg_of(SQUARE, "half"))
    assert tile.shape == (64, 64, 3)
    assert (tile[:, :32] == (255, 0, 0)).all()
    assert (tile[:, 32:] == 255).all()


def test_an_alias_may_mirror_its_drawing():
    icons = SQUARE | {"aliases": {"flah": {"parent": "half", "hFlip": True}}}
    mirrored = render.render(render.svg_of(icons, "flah"))
    assert (mirrored == render.render(render.svg_of(icons, "half"))[:, ::-1]).all()


@pytest.mark.parametrize("count", [1, 39, 40, 41, 100])
def test_a_sheet_gives_back_its_tiles(count):
    tiles = np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    assert (render.from_sheet(render.to_sheet(tiles), count) == tiles).all()


def test_espeak_is_resampled_to_16_khz():
    time = np.arange(22_050) / 22_050
    tone = np.round(10_000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    resampled = speech.to_16k(tone, 22_050)
    assert len(resampled) == 16_000
    assert np.abs(np.fft.rfft(resampled.astype(float))).argmax() == 440  # one second: a bin is 1 Hz


def test_committed_files_hold_what_the_digests_say():
    stated = json.loads((EMOJI / "digests.json").read_text())
    assert emoji.committed_digests(EMOJI).items() <= stated.items()
    assert {f"samples/{voice}" for voice in speech.VOICES} <= set(stated)


def test_the_checksums_cover_every_data_file_and_hold():
    named = {line.split("  ", 1)[1] for line in (EMOJI / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(EMOJI).as_posix() for path in EMOJI.rglob("*") if emoji.is_data(path)}
    assert named == there
    assert emoji.sum_problems(EMOJI) == []


def test_the_check_names_what_differs():
    stated = json.loads((EMOJI / "digests.json").read_text())
    assert emoji.check(EMOJI, stated) == []
    assert emoji.check(EMOJI, stated | {"pixels/noto": "0"}) == [
        "pixels/noto: a rebuild gives something else"
    ]


def test_without_npm_the_check_says_what_to_install(no_programs, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speech, "check_programs", lambda: None)
    assert emoji.main(["--check", "--cache", str(tmp_path)]) == 2
    assert "npm is needed" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["flite", "espeak-ng"])
def test_without_a_speech_program_the_check_says_what_to_install(program, monkeypatch, capsys):
    monkeypatch.setattr(speech.shutil, "which", lambda name: None if name == program else f"/usr/bin/{name}")
    assert emoji.main(["--check"]) == 2
    assert f"`apt install {program}`" in capsys.readouterr().err


def test_a_package_that_npm_cannot_fetch_is_named(monkeypatch, tmp_path):
    (tmp_path / "npm").write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(sources.BuildError, match=r"emojibase-data@.*no such package"):
        sources.fetch(sources.TEXT_PACKAGE, tmp_path / "cache")


def test_a_tarball_that_is_not_the_published_one_is_refused(tmp_path):
    path = tmp_path / sources.tarball_name(sources.TEXT_PACKAGE)
    path.write_bytes(b"something else")
    with pytest.raises(sources.BuildError, match=f"sha256 {hashlib.sha256(b'something else').hexdigest()}"):
        sources.fetch(sources.TEXT_PACKAGE, tmp_path)
