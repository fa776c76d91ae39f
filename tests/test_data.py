"""The emoji data set: what it promises, and what happens when a file of it is missing or damaged."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmteach import data
from mmteach.data import DataError, MultimodalDataset, load_emoji

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data" / "build"))


@pytest.fixture(scope="module")
def dataset() -> MultimodalDataset:
    return load_emoji()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A data folder of links to the files, each of which a test may replace."""
    source = ROOT / "data" / "emoji"
    for path in source.rglob("*"):
        if path.is_file():
            target = tmp_path / "emoji" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    return tmp_path


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_there_are_1600_concepts_and_10000_pictures_in_eight_styles(dataset):
    assert len(dataset.concepts) >= 1_600
    assert len(dataset) == len(dataset.items) == len(dataset.images) >= 10_000
    assert tuple(dataset.items["style"].unique()) == dataset.styles == data.STYLES


def test_pictures_are_64_by_64_rgb_bytes(dataset):
    assert dataset.images.shape[1:] == (64, 64, 3)
    assert dataset.images.dtype == np.uint8


def test_no_picture_is_blank(dataset):
    flat = dataset.images.reshape(len(dataset), -1)
    assert (flat.max(axis=1) - flat.min(axis=1) >= 10).all()


def test_every_concept_has_names_and_keywords_in_both_languages(dataset):
    for column in (
        "emoji",
        "name_en",
        "keywords_en",
        "name_zh",
        "keywords_zh",
        "group",
        "subgroup",
        "family",
    ):
        assert (dataset.concepts[column].str.len() > 0).all(), column
    assert dataset.concepts.index.is_unique
    assert dataset.concepts["group"].nunique() == 8


def test_every_item_is_a_known_concept_once_a_style(dataset):
    assert set(dataset.items["concept"]) == set(dataset.concepts.index)
    assert not dataset.items.duplicated(["concept", "style"]).any()


def test_items_carry_the_split_of_their_concept(dataset):
    expected = dataset.concepts.loc[dataset.items["concept"], "split"].to_numpy()
    assert (dataset.items["split"].to_numpy() == expected).all()


def test_no_family_spans_two_splits(dataset):
    assert (dataset.concepts.groupby("family")["split"].nunique() == 1).all()


def test_no_identical_picture_stands_in_two_splits(dataset):
    digests = [hashlib.sha256(image.tobytes()).digest() for image in dataset.images]
    splits = dataset.items["split"].groupby(digests).nunique()
    assert (splits == 1).all()


def test_families_and_splits_are_what_the_build_computes_from_the_tables(dataset):
    import family
    import tables

    concepts = dataset.concepts.copy()
    assert (family.families(concepts, dataset.items, dataset.images) == concepts["family"]).all()
    assert (tables.assign_splits(concepts) == concepts["split"]).all()
    assert (tables.held_out(dataset.items, dataset.images) == dataset.items["held_out"]).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("man-cook", "woman-cook"),
        ("family-man-boy", "couple-with-heart"),
        ("one-oclock", "twelve-thirty"),
        ("person-walking", "man-walking-facing-right"),
        ("mermaid", "merman"),
        ("red-heart", "heart-suit"),
    ],
)
def test_variants_of_one_thing_share_a_family(dataset, one, other):
    assert dataset.concepts.at[one, "family"] == dataset.concepts.at[other, "family"]


@pytest.mark.parametrize(("split", "share"), [("train", 0.7), ("val", 0.1), ("test", 0.2)])
def test_splits_have_their_share_of_every_group(dataset, split, share):
    of_group = (dataset.concepts["split"] == split).groupby(dataset.concepts["group"]).mean()
    # Whole families move together: a group may be off by one family of nine, in 85 concepts or more.
    assert (of_group - share).abs().max() < 0.05


def test_a_twentieth_of_the_training_pairs_is_held_out(dataset):
    items = dataset.items[(dataset.items["split"] == "train") & (dataset.items["style"] != "openmoji")]
    by_style = items.groupby("style")["held_out"].mean()
    # Exact up to rounding, but for concepts that only one of the two fluent styles has.
    assert by_style.between(0.045, 0.055).all()


def test_nothing_outside_train_and_nothing_of_openmoji_is_held_out(dataset):
    held_out = dataset.items[dataset.items["held_out"]]
    assert set(held_out["split"]) == {"train"}
    assert "openmoji" not in set(held_out["style"])
    assert "openmoji" not in data.TRAIN_STYLES


def test_the_two_fluent_styles_are_held_out_together(dataset):
    held_out = dataset.items[dataset.items["held_out"]]
    fluent = {
        style: set(held_out.loc[held_out["style"] == style, "concept"]) for style in ("fluent", "fluent-flat")
    }
    both = dataset.items[dataset.items["style"].isin(fluent)].groupby("concept").size() == 2
    assert {c for c in fluent["fluent"] if both[c]} == {c for c in fluent["fluent-flat"] if both[c]}


def test_a_held_out_picture_has_no_identical_twin_that_is_not_held_out(dataset):
    digests = pd.Series([hashlib.sha256(image.tobytes()).digest() for image in dataset.images])
    assert (dataset.items["held_out"].groupby(digests).nunique() == 1).all()


def test_gender_marks_people_alone(dataset):
    assert set(dataset.concepts["gender"]) == {"", "man", "woman", "person"}
    assert set(dataset.concepts.loc[dataset.concepts["gender"] != "", "group"]) == {"people-body"}


@pytest.mark.parametrize("voice", data.VOICES)
def test_a_clip_is_mono_float32_at_16_khz_in_range(dataset, voice):
    samples, rate = dataset.speech("grinning-face-with-big-eyes", voice)
    assert rate == 16_000
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 0.5 < len(samples) / rate < 4
    assert 0.05 < np.abs(samples).max() <= 1


def test_every_voice_speaks_every_concept(dataset):
    for voice in dataset.voices:
        names = data._open_zip(ROOT / "data" / "emoji" / "speech" / f"{voice}.zip").namelist()
        assert [name.removesuffix(".opus") for name in names] == list(dataset.concepts.index)


def test_voices_differ(dataset):
    lengths = {len(dataset.speech("red-heart", voice)[0]) for voice in dataset.voices}
    assert len(lengths) == len(dataset.voices)


def test_an_unknown_voice_or_concept_is_named(dataset):
    with pytest.raises(KeyError, match="no voice 'alice'"):
        dataset.speech("red-heart", "alice")
    with pytest.raises(KeyError, match="no concept 'red-hart'"):
        dataset.speech("red-hart", "slt")


def test_a_picture_is_the_row_of_its_concept_and_style(dataset):
    row = dataset.items.query("concept == 'dog-face' and style == 'twemoji'").index[0]
    assert (dataset.picture("dog-face", "twemoji") == dataset.images[row]).all()


def test_a_missing_picture_is_an_error_that_names_it(dataset):
    with pytest.raises(KeyError, match="'fog' in style 'fxemoji'"):
        dataset.picture("fog", "fxemoji")


def test_rows_agree_with_every_argument(dataset):
    rows = dataset.rows("train", ["noto", "fluent"], held_out=False)
    chosen = dataset.items.iloc[rows]
    assert set(chosen["split"]) == {"train"}
    assert set(chosen["style"]) == {"noto", "fluent"}
    assert not chosen["held_out"].any()
    assert len(dataset.rows()) == len(dataset)


def test_rows_of_an_unknown_split_or_style_are_an_error(dataset):
    with pytest.raises(ValueError, match="no split 'dev'"):
        dataset.rows("dev")
    with pytest.raises(ValueError, match="no style 'apple'"):
        dataset.rows(styles="apple")


def test_a_frame_has_a_row_a_picture_in_the_order_asked_for(dataset):
    rows = dataset.rows("val", "noto")[::-1]
    frame = dataset.frame(rows, voice="slt")
    assert list(frame.index) == list(range(len(rows)))
    assert list(frame["concept"]) == list(dataset.items["concept"].iloc[rows])
    assert all((frame["picture"][i] == dataset.images[row]).all() for i, row in enumerate(rows))
    assert (frame["name"] == dataset.concepts.loc[frame["concept"], "name_en"].to_numpy()).all()
    assert (frame["speech"][0] == dataset.speech(frame["concept"][0], "slt")[0]).all()


def test_an_empty_frame_keeps_its_columns(dataset):
    frame = dataset.frame([])
    assert len(frame) == 0
    assert {"name", "picture", "group"} <= set(frame.columns)


def test_a_dataset_survives_pickling(dataset):
    rows = dataset.rows("val", "fxemoji")[:3]
    again = pickle.loads(pickle.dumps(dataset))
    assert (again.images[rows] == dataset.images[rows]).all()
    assert len(again.speech("red-heart", "awb")[0]) == len(dataset.speech("red-heart", "awb")[0])


def test_a_truncated_sheet_is_named_with_the_way_to_mend_it(copy):
    path = copy / "emoji" / "images" / "noto.webp"
    replace(path, path.read_bytes()[:1000])
    with pytest.raises(
        DataError, match=r"noto\.webp is damaged or incomplete \(1000 bytes.*\n.*git checkout -- "
    ):
        load_emoji(copy)


def test_one_changed_byte_is_noticed(copy):
    path = copy / "emoji" / "speech" / "awb.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replace(path, bytes(content))
    with pytest.raises(DataError, match=r"awb\.zip is damaged"):
        load_emoji(copy)


def test_all_missing_files_are_named_together(copy):
    (copy / "emoji" / "concepts.csv").unlink()
    (copy / "emoji" / "images" / "fluent.webp").unlink()
    with pytest.raises(DataError, match=r"concepts\.csv cannot be read[\s\S]*fluent\.webp cannot be read"):
        load_emoji(copy)


def test_damaged_checksums_are_an_error_of_the_data(copy):
    replace(copy / "emoji" / "SHA256SUMS", b"not a checksum\n")
    with pytest.raises(DataError, match="SHA256SUMS"):
        load_emoji(copy)


def test_absent_data_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("MMTEACH_DATA", str(tmp_path))
    with pytest.raises(DataError, match="set MMTEACH_DATA"):
        load_emoji()


def test_the_environment_says_where_the_data_is(copy, monkeypatch):
    monkeypatch.setenv("MMTEACH_DATA", str(copy))
    assert data.find_emoji() == copy / "emoji"


def test_a_read_only_folder_is_enough(tmp_path, dataset):
    shutil.copytree(ROOT / "data" / "emoji", tmp_path / "emoji")
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        loaded = load_emoji(tmp_path)
        assert (loaded.images == dataset.images).all()
        assert len(loaded.speech("red-heart", "rms")[0]) > 0
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_the_data_set_is_at_most_27_megabytes():
    assert (
        sum(path.stat().st_size for path in (ROOT / "data" / "emoji").rglob("*") if path.is_file())
        <= 27_000_000
    )
