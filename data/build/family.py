"""The family key: concepts that are near duplicates in name or picture share a family, and a family one split.

Rules on the name come first, each for a kind of variant; then the merges of family_merges.csv, found by looking
at the nearest pairs; then any two concepts that share a pixel-identical picture are merged.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from match import slugify

MERGES = Path(__file__).with_name("family_merges.csv")
COLOURS = r"(?:light blue|red|pink|orange|yellow|green|blue|purple|brown|black|grey|white|golden)"
SIZES = r"(?:large|medium-small|medium|small)"
# Pattern (searched in the name) and the key of all names that have it, or with \1 a part of the name.
RULES: list[tuple[str, str]] = [
    (r"(o’clock|-thirty)$", "clock face"),
    (r"^keycap: ", "keycap"),
    (r"^Japanese “", "Japanese button"),
    (r"^input ", "input"),
    (r"^(?:family|kiss|couple with heart)(?:: .*)?$", "family and couple"),
    (r"holding hands$", "family and couple"),
    (r": (?:beard|blond hair|red hair|curly hair|white hair|bald)$", "person"),
    (r"^(?:man|woman|person|boy|girl|child|older person|old man|old woman)$", "person"),
    (r"^mer(?:person|man|maid)$", "merperson"),
    (r"^(?:prince|princess|person with crown)$", "person with crown"),
    (r" Claus$", "Claus"),
    (r"^pregnant ", "pregnant"),
    (r"^breast-feeding$|feeding baby$", "feeding baby"),
    (r"^(?:ballet dancer|man dancing|woman dancing)$", "dancing"),
    (r"wheelchair(?:: facing right)?$", "wheelchair"),
    (rf"^{COLOURS} (heart|circle|book|apple)$|^closed (book)$", r"\1"),
    (rf"^{COLOURS} (?:{SIZES} )?square$", "square"),
    (rf"^{COLOURS} (square button)$", r"\1"),
    (rf"^(?:{SIZES}) {COLOURS} (diamond)$", r"\1"),
    (rf"^{COLOURS} (?:question|exclamation) mark$", "question or exclamation mark"),
    (r"^(?:double exclamation|exclamation question) mark$", "question or exclamation mark"),
    (r"^red triangle pointed", "triangle"),
    (r"^(?:new|full|waxing .*|waning .*|first quarter|last quarter|crescent) moon$", "moon phase"),
    (r"^(?:new|full|first quarter|last quarter) moon face$", "moon face"),
    (r"^(?:up|down|left|right)(?:-(?:up|down|left|right))? arrow$", "arrow"),
    (r"^(?:left|right) arrow curving", "arrow curving"),
    (r"^(?:clockwise|counterclockwise) .*arrows", "turning arrows"),
    (r"^(?:play|reverse|upwards|downwards) button$", "play button"),
    (r"^fast(?:-forward| reverse| up| down) button$", "fast button"),
    (r"^(?:next|last) track button$", "track button"),
    (r"^repeat ", "repeat button"),
    (r"^(?:dim|bright) button$", "brightness button"),
    (r"^index pointing up$|^backhand index pointing", "index pointing"),
    (r"^(?:leftwards|rightwards) hand$", "sideways hand"),
    (r"^(?:leftwards|rightwards) pushing hand$", "pushing hand"),
    (r"^(?:left|right)-facing fist$|^oncoming fist$", "fist"),
    (r"^thumbs ", "thumbs"),
    (r"banknote$", "banknote"),
    (r" place medal$", "place medal"),
    (r"^(?:closed|open) mailbox", "mailbox"),
    (r"^globe showing ", "globe showing"),
    (r"^magnifying glass tilted", "magnifying glass"),
    (r"^(?:muted speaker|speaker (?:low|medium|high) volume)$", "speaker"),
    (r"^chart (?:increasing|decreasing)", "chart"),
    (r"^(?:locked|unlocked)", "lock"),
    (r"^sun behind |^cloud with |^cloud$", "cloud"),
    (r"^(?:oncoming )?(bus|police car|taxi|automobile)$", r"\1"),
    (r"^(?:A|B|AB|O) button \(blood type\)$", "blood type button"),
    (r"^(?:baby|front-facing baby|hatching) chick$", "chick"),
    (r"^(monkey|dog|tiger|horse|cow|pig|mouse|rabbit|dragon) face$", r"\1"),
    (r"^deaf (?:person|man|woman)$", "deaf person"),
    (r"^hourglass ", "hourglass"),
    (r"^(?:see|hear|speak)-no-evil monkey$", "no-evil monkey"),
    (r"^(?:spiral|tear-off) calendar$|^calendar$", "calendar"),
    (r"^check (?:mark|box)", "check mark"),
    (r"^cross mark", "cross mark"),
    (r"^musical notes?$", "musical note"),
    (r"^eyes?$", "eye"),
    (r"^(?:double )?curly loop$", "curly loop"),
    (r"^busts? in silhouette$", "bust in silhouette"),
    (r"^umbrella|^closed umbrella$", "umbrella"),
    (r"^(?:low )?battery$", "battery"),
    (r"^airplane|^small airplane$", "airplane"),
    (r"(?:potable water)$", "potable water"),
    (r"^(?:camera)(?: with flash)?$", "camera"),
    (r"^bell(?: with slash)?$", "bell"),
    (r"^snowman", "snowman"),
    (r"^(?:open )?file folder$", "file folder"),
    (r"^mobile phone", "mobile phone"),
    (r"^(?:horizontal|vertical) traffic light$", "traffic light"),
    (r"^(?:linked )?paperclips?$", "paperclip"),
    (r"^(?:round )?pushpin$", "pushpin"),
    (r"^(?:newspaper|rolled-up newspaper)$", "newspaper"),
    (r"^fork and knife", "fork and knife"),
    (r"^(?:clinking )?beer mugs?$", "beer mug"),
]
PEOPLE = r"^(?:man|woman|person|men|women|people) "


def name_key(name: str) -> str:
    """The family that the name alone puts a concept in: a slug."""
    name = name.removesuffix(": facing right")
    for pattern, key in RULES:
        found = re.search(pattern, name)
        if found:
            part = next((group for group in found.groups() if group), "")
            return slugify(key.replace(r"\1", part))
    return slugify(re.sub(PEOPLE, "", name))


def families(concepts: pd.DataFrame, items: pd.DataFrame, images: np.ndarray) -> pd.Series:
    """Family of every concept, indexed by concept; images (N, 64, 64, 3) uint8 are aligned with items.

    A merged set takes the key of its first concept in the table.
    """
    keys = concepts["name_en"].map(name_key)
    parent = {key: key for key in keys}
    rank = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    for together in [*read_merges(), *identical_pictures(items, images)]:
        roots = sorted({root(parent, keys[concept]) for concept in together}, key=rank.__getitem__)
        parent.update(dict.fromkeys(roots, roots[0]))
    return keys.map(lambda key: root(parent, key))


def root(parent: dict[str, str], key: str) -> str:
    """Representative of the merged set that holds `key`."""
    while parent[key] != key:
        key = parent[key]
    return key


def read_merges() -> Iterable[list[str]]:
    """The sets of concepts in family_merges.csv: near duplicates that no rule on the name can know."""
    with MERGES.open(encoding="utf-8", newline="") as file:
        return [row["concepts"].split() for row in csv.DictReader(file)]


def identical_pictures(items: pd.DataFrame, images: np.ndarray) -> list[list[str]]:
    """Sets of two or more concepts that share a pixel-identical picture, in whatever styles."""
    seen: dict[bytes, dict[str, None]] = defaultdict(dict)
    for concept, image in zip(items["concept"], images, strict=True):
        seen[hashlib.sha256(image.tobytes()).digest()][concept] = None
    return [list(twins) for twins in seen.values() if len(twins) > 1]
