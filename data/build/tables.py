"""The two tables: concepts with their text and structured fields, items with splits and held-out pairs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from family import identical_pictures
from match import code_key, slugify
from sources import TEXT_PACKAGE, read_json

GROUPS_LEFT_OUT = {"component", "flags"}
SEED = "mmteach-1"
SHARES = {"train": 0.70, "val": 0.10, "test": 0.20}
BIG_FAMILY = 10
HELD_OUT_SHARE = 0.05
NEVER_TRAINED = "openmoji"
TWIN_STYLES = {"fluent-flat": "fluent"}
MALE = {"man", "men", "boy", "prince", "santa", "merman"}
FEMALE = {"woman", "women", "girl", "princess", "mrs", "mermaid"}


def concept_table(tarballs: dict[str, Path]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Concepts in the order of the Unicode chart, without family and split; and concept -> code key."""
    meta = read_json(tarballs[TEXT_PACKAGE], "meta/groups.json")
    chinese = {entry["hexcode"]: entry for entry in read_json(tarballs[TEXT_PACKAGE], "zh/data.json")}
    entries = [entry for entry in read_json(tarballs[TEXT_PACKAGE], "en/data.json") if "group" in entry]
    rows, codes = [], {}
    for entry in sorted(entries, key=lambda entry: entry["order"]):
        group = meta["groups"][str(entry["group"])]
        if group not in GROUPS_LEFT_OUT:
            subgroup = meta["subgroups"][str(entry["subgroup"])]
            row = concept_row(entry, chinese[entry["hexcode"]], group, subgroup)
            rows.append(row)
            codes[row["concept"]] = code_key(entry["hexcode"])
    table = pd.DataFrame(rows).set_index("concept")
    assert table.index.is_unique, table.index[table.index.duplicated()].tolist()
    return table, codes


def concept_row(entry: dict, chinese: dict, group: str, subgroup: str) -> dict:
    """One row of the concept table from the English and the Chinese entry of a code point sequence."""
    return {
        "concept": slugify(entry["label"]),
        "emoji": entry["emoji"],
        "name_en": entry["label"],
        "keywords_en": "; ".join(entry.get("tags", [])),
        "name_zh": chinese["label"],
        "keywords_zh": "; ".join(chinese.get("tags", [])),
        "group": group,
        "subgroup": subgroup,
        "unicode_version": float(entry["version"]),
        "has_skin_tones": bool(entry.get("skins")),
        "gender": gender_of(entry["label"], group, subgroup),
    }


def gender_of(name: str, group: str, subgroup: str) -> str:
    """`man`, `woman`, `person` for people shown without a single gender, and an empty string for all else."""
    people = group == "people-body" and (subgroup.startswith("person") or subgroup == "family")
    if not people or subgroup == "person-symbol":
        return ""
    words = set(slugify(name).split("-"))
    male, female = bool(words & MALE), bool(words & FEMALE)
    return "person" if male == female else "man" if male else "woman"


def order_of(text: str) -> str:
    """A fixed pseudo-random sort key: the same on every machine and under every library version."""
    return hashlib.sha256(f"{SEED}:{text}".encode()).hexdigest()


def assign_splits(concepts: pd.DataFrame) -> pd.Series:
    """Split of every concept: whole families, group by group, towards 70/10/20 of the concepts.

    A family counts for the group of its first concept. Families of ten and more go to train: one of them
    alone would be most of a group's test set.
    """
    home = concepts.groupby("family", sort=False)["group"].first()
    sizes = concepts["family"].value_counts()
    split: dict[str, str] = {}
    for group in home.unique():
        families = sorted(home.index[home == group], key=order_of)
        families.sort(key=lambda family: sizes[family] < BIG_FAMILY)
        total, filled = sizes[families].sum(), dict.fromkeys(SHARES, 0)
        for family in families:
            needs = {name: share - filled[name] / total for name, share in SHARES.items()}
            choice = (
                "train" if sizes[family] >= BIG_FAMILY else max(needs, key=lambda n: needs[n] / SHARES[n])
            )
            split[family] = choice
            filled[choice] += sizes[family]
    return concepts["family"].map(split)


def held_out(items: pd.DataFrame, images: np.ndarray) -> pd.Series:
    """True for 5 % of the (concept, style) pairs of train concepts, kept from every generator.

    Both fluent styles are held out together; a picture with an identical twin under another concept is
    never chosen, because the twin would give it away.
    """
    twins = {concept for group in identical_pictures(items, images) for concept in group}
    unit = items["style"].replace(TWIN_STYLES)
    free = (items["split"] == "train") & (items["style"] != NEVER_TRAINED)
    chosen = set()
    for style in unit[free].unique():
        names = sorted(
            set(items.loc[free & (unit == style), "concept"]), key=lambda c: order_of(f"{c}/{style}")
        )
        wanted = round(HELD_OUT_SHARE * len(names))
        chosen |= {(concept, style) for concept in [n for n in names if n not in twins][:wanted]}
    pairs = list(zip(items["concept"], unit, strict=True))
    return pd.Series([pair in chosen for pair in pairs], index=items.index) & free
