"""What a study promises: it resumes, it writes whole files, and its committed figures are those of this data."""

import hashlib

import numpy as np
import pytest

from mmteach import study
from mmteach.data import find_emoji, load_emoji
from mmteach.metrics import Interval


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def task(dataset):
    return study.make_task(dataset)


def guesses(task, seed):
    """Answers of every model, drawn at random: what `run_seed` gives back, without any training."""
    rng, everything = np.random.default_rng(seed), "+".join(study.MODALITIES)
    sets = ["+".join(each) for each in study.subsets(study.MODALITIES)]
    names = [
        f"{kind}/{left}"
        for kind in ("late", "hybrid", "trained", "plain-left", "robust-left")
        for left in sets
    ]
    names += [f"single/{name}" for name in (*study.MODALITIES, "leaking", "text_zh")]
    names += [f"{kind}/{fusion}" for kind in ("plain", "robust") for fusion in study.FUSIONS]
    names += [
        f"pair-{kind}/{n}" for kind in ("plain", "robust") for n in ("both", "picture alone", "text alone")
    ]
    names += [f"late/{everything}+text_zh", "late/picture+text", f"stacked/{everything}"]
    found = {name: {p: rng.integers(8, size=len(task.rows[p])) for p in study.PARTS} for name in names}
    hard = [*(f"single/{name}" for name in study.MODALITIES), "late/picture+text", f"late/{everything}"]
    return found | {f"hard/{name}": {"test": rng.integers(90, size=len(task.rows["test"]))} for name in hard}


def test_every_set_of_modalities_is_met_once():
    assert len(study.subsets(study.MODALITIES)) == len(set(study.subsets(study.MODALITIES))) == 15


def test_no_family_and_no_openmoji_picture_crosses_from_test_to_train(task):
    families = {part: set(table["family"]) for part, table in task.tables.items()}
    assert not families["train"] & (families["val"] | families["test"] | families["openmoji"])
    assert "openmoji" not in set(task.tables["train"]["style"])


def test_the_voices_take_turns(task):
    shares = task.tables["test"]["voice"].value_counts(normalize=True)
    assert len(shares) == 4
    assert shares.min() > 0.15


def test_a_killed_study_goes_on_after_its_last_whole_seed(dataset, task, monkeypatch, tmp_path):
    ran = []

    def run_seed(task, dataset, inputs, plain, recipe, seed):
        ran.append(seed)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return guesses(task, seed)

    monkeypatch.setattr(study, "run_seed", run_seed)
    monkeypatch.setattr(study, "shared_inputs", lambda *_: {})
    monkeypatch.setattr(study, "plain_log_probs", lambda *_: {})
    settings = {
        "seeds": [0, 1],
        "dataset": dataset,
        "out": tmp_path,
        "parts": tmp_path / "parts",
        "say": lambda _: None,
    }
    with pytest.raises(KeyboardInterrupt):
        study.run(**settings)
    assert not (tmp_path / "03_fusion.json").exists()
    figures = study.run(**settings)
    assert ran == [0, 1, 1]
    found = study.read(folder=tmp_path)
    assert isinstance(found["gain"], Interval)
    np.testing.assert_allclose(found["gain"], figures["gain"], atol=1e-4)
    assert not list(tmp_path.rglob("*.tmp*"))


def test_a_study_that_does_not_exist_or_has_not_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="no study '99'"):
        study.run("99")
    with pytest.raises(FileNotFoundError, match="mmteach study 03_fusion"):
        study.read(folder=tmp_path)


def test_the_committed_figures_are_of_this_data_set_and_five_seeds():
    found = study.read()
    assert found["data_sha256"] == hashlib.sha256((find_emoji() / "SHA256SUMS").read_bytes()).hexdigest()
    assert found["seeds"] == [0, 1, 2, 3, 4]
    assert set(study.scoreboard(found)) >= set(study.MODALITIES)
