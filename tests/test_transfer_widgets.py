"""The figures of notebook 08 show every arm at every budget it has, and say no more than their intervals allow."""

from __future__ import annotations

import numpy as np
import pytest

from mmteach import transfer_widgets as widgets
from mmteach.metrics import Interval
from mmteach.plot import png

LEVELS = {
    "real": {"5": Interval(0.2, 0.25, 0.3), "all": Interval(0.5, 0.55, 0.6)},
    "more real": {"5": Interval(0.35, 0.4, 0.45)},
}


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.01, 0.02, 0.03), "helps"),
        ((-0.03, -0.02, -0.01), "hurts"),
        ((-0.01, 0.02, 0.05), "makes no difference that shows"),
    ],
)
def test_a_verdict_rests_on_the_interval_and_not_on_the_mean(interval, said):
    assert widgets.verdict(Interval(*interval)) == said


@pytest.mark.parametrize("draw", [widgets.draw_budgets, widgets.draw_gains])
def test_every_arm_is_drawn_at_every_budget_it_has(draw):
    fig = draw(LEVELS, "a finding")
    (ax,) = fig.axes
    lines = {line.get_label(): line for line in ax.lines if not str(line.get_label()).startswith("_")}
    assert {name: len(line.get_xdata()) for name, line in lines.items()} == {"real": 2, "more real": 1}
    assert [each.get_text() for each in ax.get_xticklabels()] == ["5", "all"]
    assert png(fig).startswith(b"\x89PNG")


def test_only_the_arms_asked_for_are_drawn():
    (ax,) = widgets.draw_budgets(LEVELS, "a finding", arms=["real"], chance=0.2).axes
    assert [each.get_text() for each in ax.get_legend().get_texts()] == ["real"]


def test_points_are_hundredths_with_their_sign():
    assert widgets.points(Interval(-0.01, 0.02, 0.05)) == "+2.0 [-1.0, +5.0]"


def test_a_slide_has_a_row_a_question_and_leaves_blank_what_was_not_run():
    table = widgets.slide(LEVELS, "gain")
    assert list(table.index) == ["real", "more real"]
    assert list(table.columns) == ["5", "all"]
    assert table.loc["more real", "all"] == ""


def test_the_first_pictures_of_every_class_stand_class_after_class():
    labels = np.array([1, 0, 1, 0, 1])
    images = np.arange(5)[:, None, None, None] * np.ones((1, 2, 2, 3))
    assert [each[0, 0, 0] for each in widgets.by_class(images, labels, 2)] == [1, 3, 0, 2]
