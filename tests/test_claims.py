"""The claims on file: what is kept of a claim, how it is read again, and how the README quotes it."""

from __future__ import annotations

import json

import nbformat
import numpy as np
import pytest
import torch

from mmteach import check, claims
from mmteach.metrics import Interval

RUN = {"date": "2026-01-31", "profile": "cpu", "mmteach": "0.1.0", "machine": {"cores": 2}}


def made(sentence: str, figure: object = "", form: str = "", holds: bool | None = True) -> dict[str, object]:
    """Return what a claim leaves in the output of its cell."""
    return {
        "claim": sentence,
        "holds": holds,
        "figure": claims.plain(figure),
        "shown": claims.spoken(figure, form),
    }


def executed(*each: dict[str, object]) -> nbformat.NotebookNode:
    """Return a notebook of one cell with these claims in its output."""
    outputs = [
        nbformat.v4.new_output("display_data", {"text/plain": "✓", claims.MEDIA_TYPE: one}) for one in each
    ]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("claim()", outputs=outputs)])


def entry(*each: dict[str, object]) -> dict[str, object]:
    """Return the entry of a notebook with these claims."""
    return {"run": RUN, "claims": claims.collect(executed(*each))}


@pytest.fixture
def entries() -> claims.Entries:
    """Two notebooks on file."""
    return {
        "03_fusion": entry(
            made("fusion helps", Interval(0.1, 0.2, 0.3)), made("fusion is quick", 1.25, "{:.1f} s")
        ),
        "04_gan": entry(made("it draws")),
    }


@pytest.mark.parametrize(
    ("figure", "kept"),
    [
        (Interval(0.1, 0.2, np.float64(0.3)), {"low": 0.1, "mean": 0.2, "high": 0.3}),
        (np.float32(0.1), 0.1),
        (1e-16, 1e-16),
        (np.int64(512), 512),
        ({"new": Interval(1, 2, 3), "old": 1 / 3}, {"new": {"low": 1, "mean": 2, "high": 3}, "old": 0.333333}),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
        ((1.5, 2), [1.5, 2]),
        ("all of them", "all of them"),
        (float("nan"), "nan"),
        (torch.tensor(0.5), 0.5),
        (np.bool_(True), True),
    ],
)  # fmt: skip
def test_a_figure_is_kept_as_json_holds_it(figure: object, kept: object) -> None:
    assert claims.plain(figure) == kept
    json.dumps(claims.plain(figure), allow_nan=False)


@pytest.mark.parametrize(
    ("figure", "form", "shown"),
    [
        (0.447826, "", "0.448"),
        (np.float32(0.1), "", "0.1"),
        (512, "", "512"),
        (Interval(0.1, 0.2, 0.3), "", "0.200 [0.100, 0.300]"),
        (Interval(0.1, 0.2, 0.3), "{:.1f} dB", "0.2 [0.1, 0.3] dB"),
        ({"kept": 3.2, "used": 380}, "", "kept 3.2, used 380"),
        ({"kept": 3.2, "used": 380}, "{kept:.0f} of {used:.0f}", "3 of 380"),
        ("nearly all", "", "nearly all"),
    ],
)
def test_a_figure_is_shown_by_its_form_or_to_three_digits(figure: object, form: str, shown: str) -> None:
    assert claims.spoken(figure, form) == shown


def test_in_a_notebook_a_claim_leaves_its_figure_beside_its_line(monkeypatch) -> None:
    monkeypatch.setenv("MMTEACH_PROFILE", "cpu")
    shown: list[object] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    check.claim("it gains", True, Interval(0.1, 0.2, 0.3), "{:.1f} dB")
    assert shown == [
        {
            "text/plain": "✓ it gains  0.2 [0.1, 0.3] dB",
            claims.MEDIA_TYPE: made("it gains", Interval(0.1, 0.2, 0.3), "{:.1f} dB"),
        }
    ]


def test_under_smoke_a_claim_leaves_no_verdict(monkeypatch) -> None:
    monkeypatch.setenv("MMTEACH_PROFILE", "smoke")
    shown = []
    monkeypatch.setattr("mmteach.judging._show", lambda line, beside: shown.append(beside[claims.MEDIA_TYPE]))
    check.claim("it gains", True, 0.5)
    assert shown[0]["holds"] is None


def test_claims_are_collected_in_the_order_of_the_notebook() -> None:
    found = claims.collect(executed(made("second", 2), made("first", 1)))
    assert list(found) == ["second", "first"]
    assert found["first"] == {"holds": True, "figure": 1, "shown": "1"}


def test_the_same_sentence_is_not_claimed_twice() -> None:
    with pytest.raises(ValueError, match="claimed twice: 'it gains'"):
        claims.collect(executed(made("it gains", 1), made("it gains", 2)))


def test_what_is_written_is_what_is_read(tmp_path, entries: claims.Entries) -> None:
    path = tmp_path / "claims.json"
    path.write_text(claims.as_text(entries), "utf-8")
    assert claims.read(path) == entries
    assert claims.as_text({}) == "{\n\n}\n"
    assert json.loads(claims.as_text({"00": {"run": RUN, "claims": {}}})) == {
        "00": {"run": RUN, "claims": {}}
    }


def test_notebooks_stand_by_name_and_each_claim_on_a_line_of_its_own(entries: claims.Entries) -> None:
    text = claims.as_text(dict(reversed(entries.items())))
    assert text == claims.as_text(entries)
    lines = text.splitlines()
    assert sum('"fusion helps": {' in line and line.endswith("},") for line in lines) == 1
    entries["03_fusion"]["claims"]["fusion helps"]["shown"] = "0.3"
    assert sum(a != b for a, b in zip(lines, claims.as_text(entries).splitlines(), strict=True)) == 1


def test_without_a_file_nothing_is_on_file(tmp_path) -> None:
    assert claims.read(tmp_path / "claims.json") == {}


def test_claims_are_read_from_the_data_folder_that_is_named(tmp_path, monkeypatch, entries) -> None:
    monkeypatch.setenv("MMTEACH_DATA", str(tmp_path))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "claims.json").write_text(claims.as_text(entries), "utf-8")
    assert claims.figure("03", "fusion is quick") == 1.25


def test_a_claim_is_found_by_its_notebook_and_words_of_its_sentence(entries: claims.Entries) -> None:
    found = claims.find("03", "helps", entries)
    assert found["claim"] == "fusion helps"
    assert found["run"]["date"] == "2026-01-31"
    assert claims.figure("03_fusion", "fusion helps", entries) == Interval(0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("notebook", "words", "said"),
    [
        ("05", "helps", "'05' is no notebook with claims on file; there are: 03_fusion, 04_gan"),
        ("0", "helps", "'0' is no notebook"),
        ("03", "hurts", "no claims of 03_fusion say 'hurts'; there are:\n  fusion helps\n  fusion is quick"),
        ("03", "fusion", "2 claims of 03_fusion say 'fusion'"),
    ],
)
def test_a_claim_that_is_not_meant_plainly_is_told_with_those_there_are(
    notebook: str, words: str, said: str, entries: claims.Entries
) -> None:
    with pytest.raises(claims.NoSuchClaim) as told:
        claims.find(notebook, words, entries)
    assert said in str(told.value)


def test_a_whole_sentence_is_found_though_another_one_holds_it() -> None:
    entries = {"03": entry(made("it gains", 1), made("it gains more", 2))}
    assert claims.figure("03", "it gains", entries) == 1


@pytest.mark.parametrize("holds", [False, None])
def test_a_claim_that_failed_or_was_not_judged_is_not_borne_out(holds: bool | None) -> None:
    found = claims.collect(executed(made("it gains"), made("it is quick", holds=holds)))
    with pytest.raises(claims.NotBorneOut, match="03: not borne out: it is quick"):
        claims.borne_out("03", found)


README = """| 03 | fusion helps | 9.9 |
<!-- claims: written by a command -->
| notebook | claim | figure |
|---|---|---|
| 03 | fusion is quick | {} |
| 05 | not on file | as it was |
<!-- end of claims -->
| 03 | fusion helps | 9.9 |
"""


def test_the_readme_quotes_the_figures_on_file_between_its_marks_only(entries: claims.Entries) -> None:
    assert claims.quoted(README.format("9.9"), entries) == README.format("1.2 s")


def test_a_sentence_of_the_readme_that_is_not_claimed_is_an_error(entries: claims.Entries) -> None:
    with pytest.raises(claims.NoSuchClaim, match="fusion is slow"):
        claims.quoted(README.replace("is quick", "is slow"), entries)
