"""The comparison with peers runs, is fair by construction, and does without a peer that is not installed."""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmteach import bench, peers
from mmteach.train import to_float

PICTURES = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
MODULES = {"vector-quantize-pytorch": "vector_quantize_pytorch", "pythae": "pythae"}


def present(name: str) -> bool:
    """Tell whether the package of the coder called `name` is installed."""
    package = peers.CODERS[name][0]
    required = bool(os.environ.get("MMTEACH_REQUIRE_PEERS"))
    return not package or required or importlib.util.find_spec(MODULES[package]) is not None


CODERS = [
    pytest.param(name, marks=[] if present(name) else pytest.mark.skip(reason="not installed"))
    for name in peers.CODERS
]


@pytest.mark.parametrize("name", CODERS)
def test_a_coder_learns_and_rebuilds(name: str) -> None:
    each = bench.contestant(name, len(PICTURES), 4, seed=0)
    x = to_float(torch.from_numpy(PICTURES[:4]))
    before = [weight.clone() for weight in each.coder.model.parameters()]
    each.turn(torch.from_numpy(PICTURES), 2)
    assert any(not torch.equal(a, b) for a, b in zip(before, each.coder.model.parameters(), strict=True))
    each.coder.model.eval()
    x_hat, indices = each.coder.rebuild(x)
    assert x_hat.shape == x.shape
    assert indices.shape == (4, 8, 8)
    assert indices.dtype == torch.int64


@pytest.mark.parametrize("name", CODERS)
def test_all_coders_start_from_the_same_encoder_and_decoder(name: str) -> None:
    ours = peers.halves(7).state_dict()
    theirs = peers.CODERS[name][1](7).model.state_dict()
    convolutions = [key for key in ours if key.startswith(("encoder", "decoder"))]
    assert convolutions
    for key in convolutions:
        half, rest = key.split(".", 1)
        twin = theirs.get(key, theirs.get(f"{half}.net.{rest}"))
        assert torch.equal(ours[key], twin), key


def test_all_coders_see_the_same_pictures_in_the_same_order() -> None:
    names = [name for name in peers.CODERS if present(name)]
    first = [torch.cat(list(bench.contestant(name, 100, 3, seed=0).picks)) for name in names]
    assert all(torch.equal(first[0], each) for each in first[1:])


def test_a_peer_that_is_not_installed_gets_a_row_that_says_so(monkeypatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in MODULES.values():
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    rows = bench.compare_coders(PICTURES, PICTURES[:8], rounds=1, turn=1)
    assert [row["name"] for row in rows] == list(peers.CODERS)
    assert ["missing" in row for row in rows] == [False, True, True, True, True]
    assert 'pip install -e ".[bench]"' in rows[1]["missing"]


def test_both_gans_go_on_turn_by_turn(tmp_path: Path) -> None:
    ours = bench.OurGan(PICTURES, batch_size=4, seed=0, folder=tmp_path)
    theirs = peers.Dcgan(PICTURES, batch_size=4, seed=0, width=8)
    for each in (ours, theirs):
        steps = each.go_on(0.3) + each.go_on(0.3)
        assert each.steps == steps > 1
        assert each.sample(3).shape == (3, 32, 32, 3)
        assert each.sample(3).dtype == np.uint8


def test_both_gans_have_about_as_many_weights(tmp_path: Path) -> None:
    ours = bench.OurGan(PICTURES, batch_size=4, seed=0, folder=tmp_path)
    ours.go_on(0.1)
    assert 0.8 < peers.Dcgan(PICTURES, batch_size=4, seed=0).size() / ours.size() < 1.25


def test_the_loop_draws_as_the_paper_says() -> None:
    gan = peers.Dcgan(PICTURES, batch_size=4, seed=0)
    weights = torch.cat(
        [each.weight.flatten() for each in gan.g if isinstance(each, torch.nn.ConvTranspose2d)]
    )
    assert abs(float(weights.detach().std()) - 0.02) < 0.001  # of half a million draws
    assert gan.d(to_float(torch.from_numpy(PICTURES[:5]))).shape == (5,)


@pytest.fixture
def small(monkeypatch) -> None:
    """Let the whole command run on few pictures and with features that cost nothing."""
    monkeypatch.setattr(bench, "pictures", lambda split: PICTURES)
    monkeypatch.setattr(bench, "faces", lambda dataset, split: PICTURES)
    monkeypatch.setattr(bench, "load_emoji", lambda: None)
    monkeypatch.setattr(
        bench, "picture_features", lambda images: images[:, ::16, ::16].reshape(len(images), -1)
    )
    monkeypatch.setattr(bench, "QUICK", bench.Plan(rounds=2, turn=1, gan_rounds=1, seconds=0.2, drawn=40))


def test_the_command_prints_both_tables_and_writes_the_figures(small: None, tmp_path: Path, capsys) -> None:
    assert bench.main(["--quick", "--out", str(tmp_path / "deep" / "bench.json")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("Measured on ")
    for name in (*peers.CODERS, "loop as in PyTorch's DCGAN example"):
        assert re.search(rf"^\| {re.escape(name)} \|", said, re.MULTILINE), name
    figures = json.loads((tmp_path / "deep" / "bench.json").read_text())
    assert figures["machine"]["cores"] >= 1
    assert figures["coders"]["rows"][0]["steps_per_second"] > 0
    assert figures["gans"]["rows"][0]["frechet_distance"] >= 0


def test_every_row_of_a_table_has_as_many_cells_as_its_head(small: None) -> None:
    rows = [line for line in bench.table(bench.run(quick=True)).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows[:7]} == {rows[0].count("|")}
    assert {line.count("|") for line in rows[7:]} == {rows[7].count("|")}
