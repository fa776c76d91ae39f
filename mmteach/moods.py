"""Things with a face: pictures composed of two others, for captions that no picture of the data set bears.

Used by `prior_recipe`, shown in notebook 07. Copying and pasting as augmentation follows Dwibedi et al. 2017, "Cut,
Paste and Learn" (arXiv:1708.01642); the faces are scaled to fit as there the objects are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mmteach.data import MultimodalDataset

MOODS = {
    "sad": ("frowning face", "slightly frowning face", "worried face"),
    "happy": ("smiling face", "slightly smiling face", "smiling face with smiling eyes"),
    "angry": ("angry face", "enraged face"),
    "surprised": ("astonished face", "face with open mouth", "hushed face"),
}  # moods and the training faces that show them
WORDS = {
    "sad": ("sad", "unhappy"), "happy": ("happy", "smiling"),
    "angry": ("angry", "mad"), "surprised": ("surprised", "astonished"),
}  # fmt: skip
GROUPS = ("animals-nature", "food-drink", "objects", "travel-places", "activities")
SUBGROUPS = ("face-costume", "monkey-face")
SMALLEST, DARKEST = 16.0, 60.0  # a thing's room for a face, in pixels of 64; the shade under it, of 255
FITS = 12  # rounds of the robust fit; it moves less than a grey level after eight


class Disc(NamedTuple):
    """A circle in a picture, in pixels."""

    y: float
    x: float
    radius: float


class Face(NamedTuple):
    """A picture uint8 (S, S, 3), how much each place is eyes or mouth, float (S, S), and its widest disc."""

    picture: np.ndarray
    features: np.ndarray
    room: Disc


class Composed(NamedTuple):
    """Pictures uint8 (N, S, S, 3), for each the row of the thing, int64 (N,), and the mood that it was given."""

    pictures: np.ndarray
    things: np.ndarray
    moods: np.ndarray


def silhouette(picture: np.ndarray) -> np.ndarray:
    """Return where a picture (S, S, 3) is not the white that reaches its edge, bool (S, S)."""
    white = np.pad(picture.min(-1) >= 245, 1, constant_values=True)
    labels, _ = ndimage.label(white)
    return (labels != labels[0, 0])[1:-1, 1:-1]


def depth(mask: np.ndarray) -> np.ndarray:
    """Return how far each place of a mask bool (S, S) lies from its outside, in pixels, float (S, S)."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def widest_disc(mask: np.ndarray) -> Disc:
    """Return the largest circle inside a mask bool (S, S); of several as large, the mean of their middles."""
    deep = depth(mask)
    y, x = (float(each.mean()) for each in np.nonzero(deep > deep.max() - 0.6))
    return Disc(y, x, float(deep.max()))


def features(face: np.ndarray) -> np.ndarray:
    """Return how much each place of a face (S, S, 3) belongs to eyes or mouth, not to the skin, float (S, S) in [0, 1].

    Skin is a smooth shade: a quadratic surface in x and y, fitted to the face with weights that fall where it fits
    badly (iteratively reweighted least squares). Eyes and mouth are what differs from it, away from the face's edge.
    """
    face, deep, size = face.astype(np.float64), depth(silhouette(face)), len(face)
    y, x = np.mgrid[:size, :size] * 2 / size - 1
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1)
    seen, colours = terms[deep > 4], face[deep > 4]
    weights = np.ones((len(seen), 1))
    for _ in range(FITS):
        surface = np.linalg.lstsq(seen * weights, colours * weights, rcond=None)[0]
        weights = 1 / (1 + (np.abs(seen @ surface - colours).max(1, keepdims=True) / 12) ** 2)
    differs = np.clip((np.abs(terms @ surface - face).max(-1) - 18) / 30, 0, 1)
    return ndimage.gaussian_filter(differs * (deep > 0.2 * deep.max()), 0.5)


def lift(picture: np.ndarray) -> Face:
    """Return what is needed of a face uint8 (S, S, 3) to put it on things. Raises ValueError if it is all white."""
    room = widest_disc(silhouette(picture))
    if not room.radius:
        raise ValueError("a picture that is all white has no face to lend")
    return Face(picture, features(picture), room)


def compose(thing: np.ndarray, face: Face) -> np.ndarray:
    """Return the thing with the face's eyes and mouth in its widest disc, both pictures uint8 (S, S, 3).

    Beneath them the disc is filled with its own median colour, so that old eyes hardly look through. Raises ValueError
    if there is no thing.
    """
    place, room = widest_disc(silhouette(thing)), face.room
    if not place.radius:
        raise ValueError("a picture that is all white has no room for a face")
    y, x = np.mgrid[: len(thing), : len(thing)]
    scale = room.radius / place.radius
    source = np.stack([(y - place.y) * scale + room.y, (x - place.x) * scale + room.x])
    layers = [face.features, *np.moveaxis(face.picture.astype(np.float64), -1, 0)]
    opacity, *colours = (ndimage.map_coordinates(each, source, order=1, mode="nearest") for each in layers)
    away = np.hypot(y - place.y, x - place.x) / place.radius
    cover = 0.85 * np.clip((0.88 - away) / 0.12, 0, 1)[..., None]
    plain = thing * (1 - cover) + np.median(thing[away < 0.9], 0) * cover
    opacity = (opacity * (away < 1))[..., None]
    return np.rint(plain * (1 - opacity) + np.stack(colours, -1) * opacity).clip(0, 255).astype(np.uint8)


def composed(dataset: MultimodalDataset, rows: np.ndarray, seed: int = 0) -> Composed:
    """Return each thing among `rows` that has room for a face in each mood, the face one of its own style among `rows`.

    A style without a face for a mood goes without. The same seed brings the same faces. Raises ValueError if no thing
    has room and a face.
    """
    rng, items, found, lifted = np.random.default_rng(seed), dataset.items.iloc[rows], [], dict[int, Face]()
    names = dataset.concepts.loc[items["concept"], "name_en"].to_numpy(str)
    styles = items["style"].to_numpy(str)
    for row in rows[_has_room(dataset, rows)]:
        own = styles == dataset.items["style"].iat[row]
        for mood, faces in MOODS.items():
            choices = rows[own & np.isin(names, faces)]
            if len(choices):
                face = int(rng.choice(choices))
                if face not in lifted:
                    lifted[face] = lift(dataset.images[face])
                found.append((compose(dataset.images[row], lifted[face]), row, mood))
    if not found:
        raise ValueError(
            "none of these pictures is a thing with room for a face, and a face for it of its style"
        )
    pictures, things, moods = zip(*found, strict=True)
    return Composed(np.stack(pictures), np.array(things), np.array(moods))


def _has_room(dataset: MultimodalDataset, rows: np.ndarray) -> np.ndarray:
    """Return which rows show a thing that is wide and bright enough for a face, bool (N,)."""
    kind = dataset.concepts.loc[dataset.items["concept"].iloc[rows], ["group", "subgroup"]]
    fits = np.array(kind["group"].isin(GROUPS) | kind["subgroup"].isin(SUBGROUPS))
    for number in np.flatnonzero(fits):
        picture = dataset.images[rows[number]]
        inside = depth(silhouette(picture))
        fits[number] = inside.max() >= SMALLEST and np.median(picture[inside > 4]) >= DARKEST
    return fits


def captions(names: list[list[str]], moods: np.ndarray) -> list[list[str]]:
    """Return for each picture what it may be called: the mood and then, in turn, each way to call the thing.

    The first is the mood itself and the thing's first name; later ones say the mood in other words too.
    """
    return [
        [f"{WORDS[mood][number % len(WORDS[mood])]} {name}" for number, name in enumerate(each)]
        for each, mood in zip(names, moods, strict=True)
    ]


def read_moods(made: Composed, pick: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Return for each of `pictures` uint8 (n, S, S, 3) the mood of the composed picture of its thing that is nearest.

    made: pictures of the same size S; pick: int64 (n,), which of them each picture should be. Nearest by the mean
    squared difference of pixels, among all moods of the same thing: no network judges. Where a thing has a picture in
    each, chance is one in len(MOODS).
    """
    read = []
    for number, picture in zip(pick, pictures, strict=True):
        own = np.flatnonzero(made.things == made.things[number])
        apart = ((made.pictures[own].astype(float) - picture) ** 2).mean((1, 2, 3))
        read.append(made.moods[own[apart.argmin()]])
    return np.array(read)
