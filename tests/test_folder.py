"""A reader's own folder: what is loaded, and how every bad row is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmteach.data import DataError, MultimodalDataset, load_folder

HEADER = "file,caption,label\n"


def save(folder: Path, name: str, mode: str = "RGB", size: tuple[int, int] = (20, 20), colour="red") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(folder / name)


def write(folder: Path, rows: str, header: str = HEADER) -> None:
    (folder / "captions.csv").write_text(header + rows, encoding="utf-8")


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Forty pictures of two labels, the first with a sound of 0.5 s in stereo at 22,050 Hz."""
    for number in range(40):
        save(tmp_path, f"{number:02}.png")
    soundfile.write(tmp_path / "00.wav", np.full((11_025, 2), 0.25, np.float32), 22_050)
    rows = "".join(
        f"{n:02}.png,thing {n},{'odd' if n % 2 else 'even'},{'00.wav' * (n == 0)}\n" for n in range(40)
    )
    write(tmp_path, rows, "file,caption,label,audio\n")
    return tmp_path


def errors(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(folder)
    return str(caught.value)


def test_a_good_folder_loads_as_the_class_of_the_emoji(shapes):
    dataset = load_folder(shapes)
    assert isinstance(dataset, MultimodalDataset)
    assert dataset.images.shape == (40, 64, 64, 3)
    assert dataset.concepts.at["07", "group"] == "odd"
    assert dataset.concepts.at["07", "name_en"] == "thing 7"


def test_its_frame_has_the_columns_of_the_emoji(shapes):
    frame = load_folder(shapes).frame([0, 1], voice="own")
    assert list(frame["name"]) == ["thing 0", "thing 1"]
    assert frame["picture"][0].shape == (64, 64, 3)
    assert frame["speech"][1] is None


def test_sound_becomes_mono_at_16_khz(shapes):
    samples, rate = load_folder(shapes).speech("00", "own")
    assert (rate, len(samples), samples.dtype) == (16_000, 8_000, np.float32)
    assert np.median(samples) == pytest.approx(0.25, abs=0.01)  # a resampling filter ripples by less than 1 %


def test_every_label_is_in_every_split_in_its_share(shapes):
    concepts = load_folder(shapes).concepts
    counts = concepts.groupby(["group", "split"]).size().unstack()
    assert counts.loc["odd"].to_dict() == counts.loc["even"].to_dict() == {"train": 14, "val": 2, "test": 4}


def test_pictures_of_one_caption_stay_in_one_split(tmp_path):
    for number in range(20):
        save(tmp_path, f"{number}.png")
    write(tmp_path, "".join(f"{n}.png,{'A  cat' if n % 2 else 'a cat'},animal\n" for n in range(20)))
    assert load_folder(tmp_path).concepts["split"].nunique() == 1


def test_a_single_picture_is_for_training(tmp_path):
    save(tmp_path, "a.png")
    write(tmp_path, "a.png,a,b\n")
    assert list(load_folder(tmp_path).items["split"]) == ["train"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_mode_become_rgb(tmp_path, mode):
    name = "a.tif" if mode == "CMYK" else "a.png"
    save(tmp_path, name, mode if mode != "I;16" else "L")
    if mode == "I;16":
        Image.fromarray(np.full((20, 20), 1000, np.uint16)).save(tmp_path / name)
    write(tmp_path, f"{name},a,b\n")
    assert load_folder(tmp_path).images.shape == (1, 64, 64, 3)


def test_a_wide_picture_stays_whole_on_white(tmp_path):
    save(tmp_path, "a.png", size=(200, 100))
    write(tmp_path, "a.png,a,b\n")
    image = load_folder(tmp_path).images[0]
    assert (image[:15] == 255).all()
    assert (image[17:47] == (255, 0, 0)).all()


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "a.png")
    write(tmp_path, "a.png,a,b\n")
    assert (load_folder(tmp_path).images == 255).all()


def test_a_photograph_turned_by_its_camera_stands_upright(tmp_path):
    picture = Image.new("RGB", (100, 100), "white")
    picture.paste((255, 0, 0), (0, 0, 100, 50))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "a.jpg", exif=exif)
    write(tmp_path, "a.jpg,a,b\n")
    image = load_folder(tmp_path).images[0].astype(int)
    assert image[10, 32, 1] > 200 > 50 > image[54, 32, 1]


def test_captions_may_be_in_any_script(tmp_path):
    save(tmp_path, "a.png")
    write(tmp_path, "a.png,红色的心 ❤️ ⠗⠑⠙,b\n")
    assert load_folder(tmp_path).concepts["name_en"].iloc[0] == "红色的心 ❤️ ⠗⠑⠙"


def test_a_table_from_a_spreadsheet_may_start_with_a_byte_order_mark(tmp_path):
    save(tmp_path, "a.png")
    (tmp_path / "captions.csv").write_bytes(b"\xef\xbb\xbf" + b"file,caption,label\r\na.png,a,b\r\n")
    assert len(load_folder(tmp_path)) == 1


def test_files_of_one_stem_keep_their_endings_as_names(tmp_path):
    save(tmp_path, "a.png")
    save(tmp_path, "a.bmp")
    write(tmp_path, "a.png,a,b\na.bmp,a,b\n")
    assert list(load_folder(tmp_path).concepts.index) == ["a.png", "a.bmp"]


def test_all_bad_rows_are_reported_in_one_error_with_file_line_and_cure(tmp_path):
    save(tmp_path, "good.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    long = "x" * 10_000
    rows = f"missing.png,a,b\nbroken.png,a,b\ngood.png,,b\ngood.png,a,\n,a,b\nlong.png,{long},b\n"
    write(tmp_path, rows)
    message = errors(tmp_path)
    for expected in (
        "8 faults are to be mended",
        "captions.csv, line 2: there is no picture missing.png. Correct the name",
        "captions.csv, line 3: broken.png is not a readable picture",
        "captions.csv, line 4: the caption is empty. Describe the picture",
        "captions.csv, line 5: the label is missing. Name the class",
        "captions.csv, line 5: good.png already stands in line 4. Keep one",
        "captions.csv, line 6: the file name is missing",
        "captions.csv, line 7: the caption has 10,000 characters; the limit is 9,999",
    ):
        assert expected in message


def test_lines_are_counted_in_the_file_and_not_in_rows(tmp_path):
    save(tmp_path, "a.png")
    write(tmp_path, 'a.png,"two\nlines",b\nmissing.png,a,b\n')
    assert "line 4: there is no picture missing.png" in errors(tmp_path)


def test_a_picture_cut_off_in_the_middle_is_unreadable(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    write(tmp_path, "a.png,a,b\n")
    assert "a.png is not a readable picture" in errors(tmp_path)


def test_a_missing_and_an_unreadable_sound_are_named(tmp_path):
    save(tmp_path, "a.png")
    save(tmp_path, "b.png")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    write(tmp_path, "a.png,a,b,a.wav\nb.png,a,b,b.wav\n", "file,caption,label,audio\n")
    message = errors(tmp_path)
    assert "line 2: there is no sound a.wav" in message
    assert "line 3: b.wav is not a readable sound" in message


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert f"There is no folder {tmp_path / 'nowhere'}" in errors(tmp_path / "nowhere")


def test_a_folder_without_a_table_is_told_which_columns_to_write(tmp_path):
    assert "There is no captions.csv" in errors(tmp_path)


def test_missing_columns_are_named_with_those_found(tmp_path):
    write(tmp_path, "a.png;a;b\n", "file;caption;label\n")
    message = errors(tmp_path)
    assert "no column file, caption, label (found: file;caption;label)" in message


def test_an_empty_table_is_told_what_a_row_is(tmp_path):
    write(tmp_path, "")
    assert "there are no rows. Write one row a picture" in errors(tmp_path)


def test_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "captions.csv").write_bytes(HEADER.encode() + b"a.png,caf\xe9,b\n")
    assert "captions.csv, line 2: not UTF-8" in errors(tmp_path)


def test_a_row_with_too_many_cells_is_named(tmp_path):
    save(tmp_path, "a.png")
    write(tmp_path, "a.png,red, round,b\n")
    assert "line 2: there are more cells than columns" in errors(tmp_path)


def test_a_read_only_folder_is_enough(shapes):
    shapes.chmod(0o555)
    try:
        assert len(load_folder(shapes)) == 40
    finally:
        shapes.chmod(0o755)
