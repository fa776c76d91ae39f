"""The studies of notebook 08 leak nothing, resume, compare like with like, and their figures are those of this data."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmteach import (
    budget_text_to_image,
    gan,
    study_generated,
    study_probes,
    study_repair,
    study_transfer,
    weights,
)
from mmteach.data import TRAIN_STYLES, data_checksum, load_emoji
from mmteach.feature_net import at_32
from mmteach.solutions import leaking_rows
from mmteach.study_generated import further_places
from mmteach.study_transfer import budget_places

torch.set_num_threads(1)
WORDS = budget_text_to_image.Recipe(tokenizer_steps=3, steps=20, lr=0.02, codes=16, width=32, depth=1)
RECIPE = study_generated.Recipe(steps=2, gan_steps=2, score_steps=1, text_to_image=WORDS)
OWN_WORDS = "text-to-image of the budget"


@pytest.fixture(scope="module")
def task():
    return study_transfer.load_task(load_emoji())


def test_no_part_shares_a_family_with_another(task):
    families = [set(each.family) for each in (task.train, task.val, task.test)]
    assert not families[0] & families[1]
    assert not families[0] & families[2]
    assert not families[1] & families[2]


def test_what_is_learned_from_is_of_split_train_not_held_out_and_not_openmoji(task):
    assert len(leaking_rows(task.dataset.items, task.train.rows)) == 0
    for part in (task.train, task.val, task.test):
        assert set(part.style) <= set(TRAIN_STYLES)


def test_a_task_with_a_leaking_row_is_refused(monkeypatch, task):
    monkeypatch.setattr(study_transfer, "leaking_rows", lambda items, rows: rows[:1])
    with pytest.raises(ValueError, match="may learn from"):
        study_transfer.load_task(task.dataset)


@pytest.mark.parametrize("budget", [5, 20, 50])
def test_a_budget_has_as_many_of_every_class_and_no_row_twice(task, budget):
    places = budget_places(task.train, budget, seed=3)
    assert np.bincount(task.train.target[places]).tolist() == [budget] * 8
    assert len(set(places)) == len(places)


def test_a_small_budget_has_a_family_for_every_picture(task):
    places = budget_places(task.train, 20, seed=0)
    for label in range(8):
        families = task.train.family[places][task.train.target[places] == label]
        assert len(set(families)) == 20


def test_each_seed_draws_its_own_budget_and_all_labels_are_the_same_for_every_seed(task):
    assert set(budget_places(task.train, 10, 0)) != set(budget_places(task.train, 10, 1))
    assert np.array_equal(budget_places(task.train, 0, 0), budget_places(task.train, 0, 1))


@pytest.mark.parametrize("budget", [5, 50])
def test_further_real_pictures_are_none_of_the_budgets_own(task, budget):
    own, further = budget_places(task.train, budget, 1), further_places(task, budget, 1)
    assert not set(own) & set(further)
    assert np.bincount(task.train.target[further]).tolist() == [max(budget, study_generated.FLOOR)] * 8


def seen_by(monkeypatch, run):
    """Return the pictures that any GAN training saw while `run` ran."""
    seen = []

    class Stub:
        def sample(self, n, labels=None, seed=0):
            return np.zeros((n, 32, 32, 3), np.uint8)

    monkeypatch.setattr(gan, "train_gan", lambda images, **_: seen.append(images) or Stub())
    run()
    return {picture.tobytes() for images in seen for picture in images}


def test_the_generator_of_the_second_series_sees_the_pictures_of_the_budget_and_no_other(
    task, monkeypatch, tmp_path
):
    places = budget_places(task.train, 20, 2)
    run = lambda: study_generated.beside(task, "gan of the budget", 20, 2, RECIPE, tmp_path)  # noqa: E731
    assert seen_by(monkeypatch, run) == {picture.tobytes() for picture in task.train.images[places]}


def altered(task, places, kept):
    """Return the task with negatives for pictures and other words for texts: all but those of `places`, or those alone.

    Of the data set, too, in which pictures of any split, style and size are looked up.
    """
    own = np.isin(np.arange(len(task.train)), places)
    theirs = np.isin(np.arange(len(task.dataset)), task.train.rows[places])
    known = np.isin(task.dataset.concepts.index, task.train.concept[places])

    def negatives(images, stay):
        images = images.copy()
        images[stay != kept] ^= 255
        return images

    texts = ["name_en", "keywords_en", "name_zh", "keywords_zh"]
    concepts = task.dataset.concepts.copy()
    concepts.loc[known != kept, texts] = "nothing of the kind"
    dataset = replace(task.dataset, concepts=concepts, images=negatives(task.dataset.images, theirs))
    nothing = [
        replace(each, images=negatives(each.images, np.zeros(len(each), bool)))
        for each in (task.val, task.test)
    ]
    return replace(
        task, train=replace(task.train, images=negatives(task.train.images, own)), val=nothing[0], test=nothing[1],
        dataset=dataset,
    )  # fmt: skip


def drawn_beside(task, folder, name=OWN_WORDS):
    return study_generated.beside(task, name, 20, 2, RECIPE, folder)


@pytest.fixture(scope="module")
def as_it_is(task, tmp_path_factory):
    return {name: drawn_beside(task, tmp_path_factory.mktemp("drawn"), name) for name in study_generated.OWN}


@pytest.mark.parametrize("name", study_generated.OWN)
def test_a_generator_of_the_budget_draws_the_same_bit_by_bit_whatever_all_other_pictures_and_names_are(
    task, tmp_path, as_it_is, name
):
    other = altered(task, budget_places(task.train, 20, 2), kept=True)
    assert not np.array_equal(other.train.images, task.train.images)
    drawn, labels = drawn_beside(other, tmp_path, name)
    assert np.array_equal(drawn, as_it_is[name][0])
    assert np.array_equal(labels, as_it_is[name][1])


@pytest.mark.parametrize("what", ["pictures at 32x32", "pictures at 64x64", "names"])
def test_what_is_drawn_from_a_budget_hangs_on_the_pictures_and_names_of_the_budget(
    task, tmp_path, as_it_is, what
):
    other = altered(task, budget_places(task.train, 20, 2), kept=False)
    one = {
        "pictures at 32x32": {"train": other.train},
        "pictures at 64x64": {"dataset": replace(task.dataset, images=other.dataset.images)},
        "names": {"dataset": replace(task.dataset, concepts=other.dataset.concepts)},
    }
    drawn, _ = drawn_beside(replace(task, **one[what]), tmp_path)
    assert not np.array_equal(drawn, as_it_is[OWN_WORDS][0])


def test_text_to_image_of_the_budget_reads_no_shipped_weights(task, monkeypatch, tmp_path):
    def forbidden(*_, **__):
        pytest.fail("shipped weights were read")

    monkeypatch.setattr(
        weights, "load", forbidden
    )  # of safetensors: what every reading of weights comes down to
    for module in [each for name, each in sys.modules.items() if name.startswith("mmteach")]:
        for name in (
            "load_weights",
            "load_pretrained",
            "load_vqvae",
            "_shipped",
        ):  # some keep what they have read
            if hasattr(module, name):
                monkeypatch.setattr(module, name, forbidden)
    drawn_beside(task, tmp_path)
    with pytest.raises(pytest.fail.Exception, match="were read"):
        study_generated.beside(task, "text-to-image", 20, 2, RECIPE, tmp_path)


def test_text_to_image_of_the_budget_learns_the_names_of_its_pictures_and_no_other_captions(task):
    places = budget_places(task.train, 20, 2)
    vqvae = budget_text_to_image.train_tokenizer(task, places, 2, WORDS)
    corpus = budget_text_to_image.own_corpus(task, places, vqvae)
    assert corpus.captions == [[name] for name in task.name(task.train.concept[places])]
    assert [TRAIN_STYLES[each] for each in corpus.styles] == task.train.style[places].tolist()
    assert len(corpus.codes) == len(places)


@pytest.mark.parametrize("budget", study_generated.SMALL)
def test_the_two_generators_of_the_budget_draw_as_many_pictures_of_the_same_classes(task, budget):
    wanted, places = study_generated.wanted_labels(task, budget), budget_places(task.train, budget, 2)
    concept, style, labels = budget_text_to_image.asked_for(task, places, len(wanted), 2)
    assert np.array_equal(labels, wanted)
    of = dict(zip(task.train.concept[places], task.train.target[places], strict=True))
    assert [of[each] for each in concept] == labels.tolist()
    assert set(style) == set(range(len(TRAIN_STYLES)))


def test_the_settings_of_a_budgets_text_to_image_make_its_own_arm_anew_and_no_other(task, tmp_path):
    other = replace(RECIPE, text_to_image=replace(WORDS, temperature=0.5))
    for recipe in (RECIPE, other):
        for name in ("real", OWN_WORDS):
            study_generated.run_arm(task, name, 20, 0, recipe, tmp_path)
    assert len(list(tmp_path.glob("real-20-0-*.npz"))) == 1
    assert len(list(tmp_path.glob(f"{OWN_WORDS.replace(' ', '_')}-20-0-*.npz"))) == 2


@pytest.mark.parametrize("name", ["real", "classical", "more real"])
def test_a_classifier_sees_real_pictures_of_the_training_part_alone(task, tmp_path, name):
    pictures, labels, _ = study_generated.training_set(task, name, 5, 0, RECIPE, tmp_path)
    known = {picture.tobytes() for picture in task.train.images}
    assert {picture.tobytes() for picture in pictures} <= known
    assert len(pictures) == len(labels)


def test_pictures_drawn_from_names_are_those_of_the_budgets_concepts(task, monkeypatch, tmp_path):
    names = np.unique(task.train.concept)
    marked = np.zeros((len(names), 7, 32, 32, 3), np.uint8)
    marked[..., 0, 0, 0] = (np.arange(len(names)) % 256)[:, None]
    marked[..., 0, 0, 1] = (np.arange(len(names)) // 256)[:, None]
    monkeypatch.setattr(study_generated, "drawn_pool", lambda *_: {"concept": names, "pictures": marked})
    places = budget_places(task.train, 5, 0)
    pictures, labels = study_generated.from_names(task, places, 8 * study_generated.FLOOR, 0, tmp_path)
    which = names[pictures[:, 0, 0, 0].astype(int) + 256 * pictures[:, 0, 0, 1].astype(int)]
    assert set(which) == set(task.train.concept[places])
    of = dict(zip(task.train.concept, task.train.target, strict=True))
    assert labels.tolist() == [of[each] for each in which]


def test_half_of_every_batch_is_generated_on_average():
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    _, labels, weights = study_transfer.mixed(
        (pictures, np.zeros(2)), (np.repeat(pictures, 50, 0), np.ones(100))
    )
    assert weights[labels == 1].sum() == pytest.approx(0.5)
    assert weights.sum() == pytest.approx(1)


def test_classical_augmentation_and_nothing_else_tells_two_arms_apart():
    arms = study_generated.ARMS
    assert arms["classical"].beside == arms["real"].beside == ""
    assert arms["classical and gan"].beside == arms["gan"].beside
    names = ("real", "classical", "gan", "classical and gan")
    assert [arms[name].classical for name in names] == [False, True, False, True]


def test_a_run_that_is_kept_is_not_made_again(task, monkeypatch, tmp_path):
    first = study_generated.run_arm(task, "real", 5, 0, RECIPE, tmp_path)
    monkeypatch.setattr(study_generated, "train_classifier", lambda *_, **__: pytest.fail("trained again"))
    assert np.array_equal(study_generated.run_arm(task, "real", 5, 0, RECIPE, tmp_path), first)


def test_another_recipe_is_another_run(task, tmp_path):
    for steps in (1, 2):
        study_generated.run_arm(task, "real", 5, 0, study_generated.Recipe(steps=steps), tmp_path)
    assert len(list(tmp_path.glob("real-5-0-*.npz"))) == 2


def test_the_same_seed_gives_the_same_classifier(task):
    few = task.train.take(budget_places(task.train, 5, 0))
    nets = [study_transfer.train_classifier(few.images, few.target, steps=2, seed=4) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


def test_a_gain_is_paired_over_the_same_pictures_and_seeds():
    rng = np.random.default_rng(0)
    hard, luck = rng.random(400) < 0.5, rng.random((3, 400)) < 0.02
    right = {"a": {5: hard | luck}, "b": {5: np.stack([hard] * 3)}}
    table = study_transfer.Table(right, np.repeat(np.arange(40), 10))
    gain, apart = table.gain("a", "b", 5), table.accuracy("a", 5)
    assert gain.high - gain.low < 0.5 * (apart.high - apart.low)


def test_features_do_not_depend_on_the_company_of_a_picture(task):
    few = task.test.images[:6]
    for name in ("raw pixels", "VQ-VAE encoder", "GAN discriminator"):
        whole = study_probes.FEATURES[name](few)
        np.testing.assert_allclose(whole[2:3], study_probes.FEATURES[name](few[2:3]), atol=1e-3)


def test_the_untrained_encoder_has_the_shape_of_the_trained_one(task):
    few = task.test.images[:3]
    shapes = {study_probes.FEATURES[name](few).shape for name in ("untrained encoder", "VQ-VAE encoder")}
    assert shapes == {(3, 512)}


def test_a_probe_learns_from_the_budgets_rows_and_chooses_on_val(task):
    rng = np.random.default_rng(0)
    axes = np.eye(8)
    targets = {part: getattr(task, part).target for part in study_probes.PLACES}
    features = {part: axes[each] + 0.1 * rng.normal(size=(len(each), 8)) for part, each in targets.items()}
    recipe = study_probes.Recipe(strengths=(1e-3, 1.0))
    said, strength = study_probes.probe(features, task, budget_places(task.train, 5, 0), recipe)
    assert (said == task.test.target).mean() > 0.95
    assert strength in recipe.strengths


@pytest.fixture(scope="module")
def repairing(task):
    """A small task, its inputs, and a fusion trained for a few steps."""
    less = task.only(("noto-v1",))
    recipe = study_repair.Recipe(steps=3, text_components=20)
    rng, sizes = np.random.default_rng(0), {"train": len(less.train), "test": len(less.test)}
    text, picture = (
        {part: rng.normal(size=(count, width)).astype(np.float32) for part, count in sizes.items()}
        for width in (20, 12)
    )
    inputs = study_repair.Inputs(text, picture, (np.zeros(12), np.ones(12)))
    return less, inputs, study_repair.train_net(less, inputs, ("text", "picture"), recipe, 0)


def test_the_null_token_does_not_look_at_the_picture(repairing):
    less, inputs, net = repairing
    said = study_repair.classes(net, inputs.text["test"], None)
    before = net.null["picture"].clone()
    assert np.array_equal(said, study_repair.classes(net, inputs.text["test"], None))
    assert torch.equal(before, net.null["picture"])
    assert said.shape == (len(less.test),)


def test_the_nearest_picture_is_of_the_training_part_and_of_the_rows_own_style(task):
    text = {p: np.eye(8, dtype=np.float32)[getattr(task, p).target] for p in ("train", "test")}
    inputs = study_repair.Inputs(text, text, (np.zeros(8), np.ones(8)))
    places = study_repair.nearest_names(task, inputs)
    assert np.array_equal(task.train.style[places], task.test.style)
    assert np.array_equal(task.train.target[places], task.test.target)


def test_the_mean_over_styles_is_the_same_for_all_rows_of_a_concept(task):
    rows = np.random.default_rng(0).normal(size=(len(task.test), 3)).astype(np.float32)
    mean = study_repair.per_concept(task, rows)
    same = task.test.concept == task.test.concept[0]
    np.testing.assert_allclose(mean[same], np.tile(rows[same].mean(0), (same.sum(), 1)), atol=1e-5)


def test_a_style_of_its_own_is_less_of_the_same_task(task):
    less = task.only(("noto",))
    assert set(less.train.style) == {"noto"}
    assert less.groups == task.groups
    assert np.array_equal(less.train.images, at_32(task.dataset.images[less.train.rows]))


@pytest.mark.parametrize("study", [study_generated, study_probes, study_repair])
def test_the_committed_figures_are_of_this_data_and_of_five_seeds(study):
    found = study.figures()
    assert found["data_sha256"] == data_checksum()
    assert found["seeds"] == list(study_transfer.SEEDS)


@pytest.mark.parametrize("study", [study_generated, study_repair])
def test_the_committed_figures_are_of_the_weights_that_are_shipped(study):
    used = study.figures()["weights"]
    assert used == study_transfer.weights_used(*used)
    assert {"prior", "vqvae"} <= set(used)
    assert all(used.values())


def test_the_committed_study_has_every_arm_at_every_budget_it_can_have():
    found = study_generated.figures()["accuracy"]
    for arm in (*study_generated.ARMS, *study_generated.ALONE):
        assert list(found[arm]) == [study_transfer.said(each) for each in study_generated.budgets_of(arm)]


def test_a_study_that_was_not_run_says_what_to_run(tmp_path):
    for study in (study_generated, study_probes, study_repair):
        with pytest.raises(FileNotFoundError, match=f"mmteach study {study.NAME}"):
            study.figures(tmp_path)
