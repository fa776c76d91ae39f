"""The fusion explorer of notebook 03, as plain functions and without a browser."""

import numpy as np

from mmteach import widgets

CLASSES, NAMES = ["cat", "car", "cup"], ("text", "picture")


def said():
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=30)
    return np.log(rng.dirichlet(np.ones(3), (2, 30)) + 0.3 * np.eye(3)[target]), target


def test_at_the_ends_of_the_slider_one_modality_is_left():
    log_probs, _ = said()
    for share, alone in ((0.0, 0), (1.0, 1)):
        np.testing.assert_array_equal(
            widgets.fused_at(log_probs, share, (True, True)).argmax(1), log_probs[alone].argmax(1)
        )


def test_a_missing_modality_has_no_say_at_any_weight():
    log_probs, _ = said()
    for share in (0.0, 0.5, 1.0):
        fused = widgets.fused_at(log_probs, share, (False, True))
        np.testing.assert_array_equal(fused.argmax(1), log_probs[1].argmax(1))
    np.testing.assert_allclose(np.exp(widgets.fused_at(log_probs, 0.5, (False, False))), 1 / 3)


def test_the_figure_says_whether_the_answer_is_right():
    log_probs, target = said()
    fig = widgets.draw_fusion(log_probs, target, 0, CLASSES, NAMES, 0.5)
    assert fig.axes[0].get_title(loc="left").startswith("Fused answer")


def test_slider_and_switches_change_the_picture():
    log_probs, target = said()
    box = widgets.fusion_explorer(log_probs, target, [0, 1], ["a", "b"], CLASSES, NAMES)
    (row, share), switches, picture = box.children[0].children, box.children[1].children, box.children[2]
    seen = {picture.value}
    for control, value in ((share, 0.1), (switches[0], False), (row, 1), (switches[0], True)):
        control.value = value
        seen.add(picture.value)
    assert len(seen) == 5
