"""Things with a face: where a face fits, what of a face is taken, and which pictures may be used."""

from __future__ import annotations

import numpy as np
import pytest

from mmteach import moods
from mmteach.data import TRAIN_STYLES, load_emoji, training_rows

SIZE = 64


def disc(y: float, x: float, radius: float) -> np.ndarray:
    """Return where a circle is, bool (64, 64)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.hypot(rows - y, columns - x) <= radius


def thing(y: float = 32, x: float = 32, radius: float = 20, colour=(200, 40, 40)) -> np.ndarray:
    """Return a round thing on white."""
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    picture[disc(y, x, radius)] = colour
    return picture


def face(y: float = 32, x: float = 32, radius: float = 28) -> np.ndarray:
    """Return a shaded yellow face with two black eyes and a blue mouth."""
    picture = thing(y, x, radius, (250, 200, 60)).astype(float)
    inside = disc(y, x, radius)
    picture[inside] -= np.arange(SIZE)[:, None, None].repeat(SIZE, 1).repeat(3, 2)[inside] * 0.8
    for across in (-9, 9):
        picture[disc(y - 7, x + across, 3)] = 0
    picture[int(y) + 9 : int(y) + 13, int(x) - 8 : int(x) + 9] = (30, 30, 200)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


def test_white_within_a_thing_belongs_to_it_and_white_around_it_does_not():
    ring = thing(radius=20)
    ring[disc(32, 32, 10)] = 255
    assert (moods.silhouette(ring) == disc(32, 32, 20)).all()


def test_the_widest_disc_of_a_circle_is_the_circle():
    found = moods.widest_disc(disc(25, 38, 15))
    assert abs(found.y - 25) <= 0.5
    assert abs(found.x - 38) <= 0.5
    assert abs(found.radius - 15) <= 1.5


def test_a_thing_that_touches_the_edge_ends_there():
    assert moods.widest_disc(np.ones((64, 64), bool)).radius == pytest.approx(32, abs=1)


def test_eyes_and_mouth_are_taken_and_the_shade_of_the_skin_is_not():
    found = moods.features(face())
    eyes, mouth = disc(25, 23, 2) | disc(25, 41, 2), np.zeros((64, 64), bool)
    mouth[42:44, 26:39] = True
    skin = disc(32, 32, 22) & ~disc(25, 23, 6) & ~disc(25, 41, 6)
    skin[38:48, 20:45] = False
    assert found[eyes | mouth].min() > 0.8
    assert found[skin].max() < 0.05
    assert not found[~disc(32, 32, 28)].any()


def test_a_face_comes_to_lie_in_the_widest_disc_scaled_to_it_and_nothing_else_changes():
    apple, lifted = thing(40, 24, 14), moods.lift(face(32, 32, 28))
    before = apple.copy()
    made = moods.compose(apple, lifted)
    assert made.dtype == np.uint8
    assert (apple == before).all()
    assert (made[~disc(40, 24, 14)] == apple[~disc(40, 24, 14)]).all()
    for y, x in ((40 - 3.5, 24 - 4.5), (40 - 3.5, 24 + 4.5)):  # eyes, at half the distance
        assert made[round(y), round(x)].max() < 60
    assert made[40 + 5, 24, 2] > made[40 + 5, 24, 0]  # the mouth, blue
    assert made[40, 24].tolist() == [200, 40, 40]  # the nose: the thing's own colour


def test_old_eyes_do_not_look_through():
    robot = thing(radius=24)
    robot[disc(40, 20, 4)] = 0
    made = moods.compose(robot, moods.lift(face(radius=28)))
    assert made[40, 20].astype(int).max() > 150


def test_white_paper_has_neither_face_nor_room():
    white = np.full((64, 64, 3), 255, np.uint8)
    with pytest.raises(ValueError, match="no face to lend"):
        moods.lift(white)
    with pytest.raises(ValueError, match="no room for a face"):
        moods.compose(white, moods.lift(face()))


def test_pictures_without_a_thing_and_a_face_are_refused(dataset):
    with pytest.raises(ValueError, match="none of these pictures is a thing with room for a face"):
        moods.composed(dataset, dataset.rows("train", "noto")[:1])


@pytest.fixture(scope="module")
def some(dataset):
    """Return training rows: all faces of the moods in three styles, and some things."""
    rows = training_rows(dataset)
    of = dataset.concepts.loc[dataset.items["concept"].iloc[rows]]
    styles = dataset.items["style"].iloc[rows].isin(TRAIN_STYLES[:3]).to_numpy()
    faces = of["name_en"].isin([name for names in moods.MOODS.values() for name in names]).to_numpy()
    few = np.isin(np.arange(len(rows)), np.arange(0, len(rows), 60))
    return rows[styles & (faces | few)]


def test_every_thing_with_room_gets_every_mood_and_only_given_rows_are_used(dataset, some, monkeypatch):
    used, lift = [], moods.lift
    places = {dataset.images[row].tobytes(): row for row in some}
    monkeypatch.setattr(
        moods, "lift", lambda picture: used.append(places[picture.tobytes()]) or lift(picture)
    )
    made = moods.composed(dataset, some, seed=0)
    assert set(made.things) | set(used) <= set(some.tolist())
    assert 10 < len(set(made.things)) < len(some)
    assert sorted(set(zip(made.things.tolist(), made.moods.tolist(), strict=True))) == sorted(
        (row, mood) for row in set(made.things.tolist()) for mood in moods.MOODS
    )
    named = set(dataset.concepts.loc[dataset.items["concept"].iloc[used], "name_en"])
    assert named <= {name for names in moods.MOODS.values() for name in names}


def test_a_face_is_of_the_things_own_style(dataset, some, monkeypatch):
    style = {dataset.images[row].tobytes(): dataset.items["style"].iat[row] for row in some}
    seen = []

    def compose(thing, face):
        seen.append(style[thing.tobytes()] == style[face.picture.tobytes()])
        return thing

    monkeypatch.setattr(moods, "compose", compose)
    moods.composed(dataset, some, seed=0)
    assert seen
    assert all(seen)


def test_the_same_seed_brings_the_same_pictures_and_another_other_faces(dataset, some):
    first, again, other = (moods.composed(dataset, some, seed) for seed in (0, 0, 1))
    assert (first.pictures == again.pictures).all()
    assert (first.things == other.things).all()
    assert (first.pictures != other.pictures).any()


def test_moods_are_shown_by_faces_of_the_training_split_in_every_style(dataset):
    rows = training_rows(dataset)
    items = dataset.items.iloc[rows]
    names = dataset.concepts.loc[items["concept"], "name_en"].to_numpy(str)
    for mood, faces in moods.MOODS.items():
        assert set(items["style"][np.isin(names, faces)]) == set(TRAIN_STYLES), mood
        assert set(faces) <= set(names), mood


def test_captions_say_the_mood_before_whatever_the_thing_may_be_called():
    called = moods.captions([["robot", "robot face", "monster"]], np.array(["sad"]))
    assert called == [["sad robot", "unhappy robot face", "sad monster"]]


def test_a_mood_is_read_from_the_nearest_composed_picture_of_the_same_thing():
    shades = np.array([0, 50, 100, 150, 200, 255], np.uint8)
    pictures = np.broadcast_to(shades[:, None, None, None], (6, 4, 4, 3))
    made = moods.Composed(pictures, np.array([1, 1, 1, 2, 2, 2]), np.array(["sad", "happy", "angry"] * 2))
    asked = np.array([0, 1, 3, 5])
    drawn = pictures[[0, 2, 3, 0]] // 2 * 2  # the last is darker than all of its own thing
    assert moods.read_moods(made, asked, drawn).tolist() == ["sad", "angry", "sad", "sad"]
