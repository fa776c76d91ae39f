"""Captions as numbers: how pieces are looked up, and how much each counts."""

from __future__ import annotations

import math

import pytest
import torch

from mmteach.captions import CaptionBag, _rows, pieces
from mmteach.weights import restored, stored

THINGS = [["red apple", "fruit"], ["green apple", "fruit with a leaf"], ["robot", "face"]]


def counted(buckets: int = 4096) -> CaptionBag:
    """Return a bag of random rows that knows how rare the pieces of THINGS are."""
    torch.manual_seed(0)
    bag = CaptionBag(5, buckets, rare=True).double()
    bag.count(THINGS)
    return bag


def row(word: str) -> int:
    return _rows(word, 4096)[0]


def test_without_counting_a_caption_is_the_plain_mean_of_its_rows():
    torch.manual_seed(0)
    bag = CaptionBag(5)
    rows = list(_rows("red apple", 4096))
    assert len(rows) == len(pieces("red apple"))
    assert torch.allclose(bag(["red apple"])[0], bag.table.weight[rows].mean(0))
    assert "rarity" not in bag.state_dict()


def test_a_piece_weighs_by_how_few_things_have_it_whatever_the_number_of_captions():
    bag = counted()
    assert float(bag.rarity[row("robot")]) == pytest.approx(math.log(4 / 1))
    assert float(bag.rarity[row("apple")]) == pytest.approx(math.log(4 / 2))
    assert float(bag.rarity[row("fruit")]) == pytest.approx(math.log(4 / 2))
    assert float(bag.rarity[row("banana")]) == 0


def test_a_caption_is_the_mean_of_its_rows_by_weight():
    bag = counted()
    for caption in ("red apple", "a robot with a fruit"):
        rows = list(_rows(caption, 4096))
        weight = bag.rarity[rows]
        assert torch.allclose(bag([caption])[0], weight @ bag.table.weight[rows] / weight.sum())


def test_words_never_counted_change_nothing_and_alone_are_not_known():
    bag = counted(2**20)  # so many rows that no two pieces share one
    assert torch.allclose(bag(["robot"]), bag(["quixotic robot"]))
    assert bag.known(["robot", "quixotic", "", "机器人", "quixotic robot"]).tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert torch.equal(bag(["quixotic", ""]), torch.zeros(2, 5, dtype=torch.float64))


def test_a_plain_bag_knows_all_that_has_a_piece():
    assert CaptionBag(5).known(["robot", "quixotic", "!?"]).tolist() == [True, True, False]


def test_the_weights_travel_with_the_network():
    bag, again = counted().float(), CaptionBag(5, rare=True)
    again.load_state_dict(restored(stored(bag.state_dict(), eight_bits=True)))
    assert torch.allclose(again.rarity, bag.rarity, atol=2e-3)
    assert torch.allclose(again(["red apple"]), bag(["red apple"]), atol=0.05)


def test_gradients_reach_the_rows_of_a_caption_in_proportion_to_their_weight():
    bag = counted()
    bag(["red apple"]).sum().backward()
    by_row = bag.table.weight.grad[:, 0]
    assert float(by_row[row("red")] / by_row[row("apple")]) == pytest.approx(math.log(4) / math.log(2))
    assert by_row[row("robot")] == 0
