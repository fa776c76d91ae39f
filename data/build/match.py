"""Which picture of which package shows a concept: by code point where the package says so, else by name."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from sources import STYLE_PACKAGES, TEXT_PACKAGE, read_json

CORRECTIONS = Path(__file__).with_name("corrections.csv")
SHORTCODES = ("cldr", "joypixels", "emojibase", "emojibase-legacy", "iamcal", "github")
KINDS = ("cldr", "slug", *(f"shortcode {kind}" for kind in SHORTCODES), "unicode")


@dataclass(frozen=True)
class Match:
    """The picture `slug` of `style` shows `concept`; `how` is the kind of name that said so."""

    concept: str
    style: str
    slug: str
    how: str


def slugify(name: str) -> str:
    """Lower-case ASCII words joined by hyphens: `Piñata` -> `pinata`, `keycap: #` -> `keycap-hash`."""
    name = name.replace("#", " hash ").replace("*", " asterisk ").replace("’", "").replace("'", "")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def squash(name: str) -> str:
    """A slug without its hyphens, so that `woman-s-boot`, `womans_boot` and `womansboot` agree."""
    return slugify(name).replace("-", "")


def code_key(hexcode: str) -> str:
    """Code points without variation selectors, in upper case: packages disagree about writing FE0F."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def names_by_code(tarballs: dict[str, Path]) -> dict[str, list[tuple[str, str]]]:
    """For each code point sequence its names, best first, each as (squashed name, where the name comes from)."""
    names: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry in read_json(tarballs[TEXT_PACKAGE], "en/data.json"):
        names[code_key(entry["hexcode"])].append((squash(entry["label"]), "cldr"))
    for code, slug in package_slugs(tarballs):
        names[code].append((squash(slug), "slug"))
    for kind in SHORTCODES:
        for code, found in read_json(tarballs[TEXT_PACKAGE], f"en/shortcodes/{kind}.json").items():
            for name in [found] if isinstance(found, str) else found:
                names[code_key(code)].append((squash(name), f"shortcode {kind}"))
    for code, name in read_json(tarballs[TEXT_PACKAGE], "meta/unicode-names.json").items():
        names[code_key(code)].append((squash(name), "unicode"))
    return names


def package_slugs(tarballs: dict[str, Path]) -> list[tuple[str, str]]:
    """(code, slug) pairs, older names first resolved through aliases, from the packages that list code points."""
    pairs = []
    for package in STYLE_PACKAGES.values():
        icons = read_json(tarballs[package], "icons.json")
        code_of = {slug: code_key(code) for code, slug in read_json(tarballs[package], "chars.json").items()}
        pairs += [(code, slug) for slug, code in code_of.items()]
        for alias, target in icons.get("aliases", {}).items():
            if target["parent"] in code_of and not {"hFlip", "vFlip", "rotate"} & set(target):
                pairs.append((code_of[target["parent"]], alias))
    return pairs


def match_style(style: str, codes: dict[str, str], names: dict, tarballs: dict[str, Path]) -> list[Match]:
    """Matches of one style, in the order of `codes` (concept -> code key): code points, corrections, names.

    A name gives its picture to one concept only; the better kind of name goes first.
    """
    package = tarballs[STYLE_PACKAGES[style]]
    by_code = {code_key(code): slug for code, slug in read_json(package, "chars.json").items()}
    found = {c: Match(c, style, by_code[code], "code point") for c, code in codes.items() if code in by_code}
    wanted, dropped = corrections(style)
    found |= {concept: Match(concept, style, slug, "by hand") for concept, slug in wanted.items()}
    slugs = slugs_by_squash(read_json(package, "icons.json"))
    for how in KINDS:
        taken = {match.slug for match in found.values()}
        for concept in (c for c in codes if c not in found):
            candidates = [slugs[n] for n, kind in names[codes[concept]] if kind == how and n in slugs]
            free = [slug for slug in candidates if slug not in taken and (concept, slug) not in dropped]
            if free:
                found[concept] = Match(concept, style, free[0], how)
                taken.add(free[0])
    return [found[concept] for concept in codes if concept in found]


def corrections(style: str) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """From corrections.csv: the picture of a concept fixed by hand; and the (concept, slug) pairs not to make."""
    wanted, dropped = {}, set()
    with CORRECTIONS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["style"] == style and row["do"] == "use":
                wanted[row["concept"]] = row["slug"]
            elif row["style"] == style:
                dropped.add((row["concept"], row["slug"]))
    return wanted, dropped


def slugs_by_squash(icons: dict) -> dict[str, str]:
    """Squashed name -> slug of all icons and aliases of a package."""
    found: dict[str, str] = {}
    for slug in [*icons["icons"], *icons.get("aliases", {})]:
        found.setdefault(squash(slug), slug)
    return found
