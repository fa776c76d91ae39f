"""The shared space: its loss, its towers and what they refuse, training without leaks, resuming, and the readings."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from mmteach import embed, embed_train, retrieval
from mmteach.checkpoint import CheckpointError
from mmteach.data import TRAIN_STYLES, DataError, load_emoji
from mmteach.embed import FRAMES, SharedEmbedding, hear, info_nce, recall_at_k, same_concept, slerp, zero_shot
from mmteach.embed_train import (
    Settings,
    Wording,
    batch_losses,
    corpus,
    draw_caption,
    draw_captions,
    kin_loss,
    kinship,
    train_embed,
    training_rows,
)
from mmteach.encoders import as_ink, shrink
from mmteach.train import seed_everything

torch.set_num_threads(1)
TINY = {"picture_width": 4, "text_width": 8, "speech_width": 8}


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


@pytest.fixture(scope="module")
def few(dataset):
    """Forty training pictures of eight concepts, with one voice."""
    rows = training_rows(dataset)
    shown = dataset.items["concept"].iloc[rows]
    return corpus(dataset, rows[shown.isin(list(dict.fromkeys(shown))[:8]).to_numpy()], ("slt",))


@pytest.fixture(scope="module")
def shipped():
    return embed.load_pretrained()


def rows(count: int = 6, dim: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, dim, generator=generator, dtype=torch.float64)
    return a, b


# The loss


def test_info_nce_is_the_mean_of_two_cross_entropies_written_out():
    a, b = rows()
    cosines = [[float(F.cosine_similarity(x, y, dim=0)) for y in b] for x in a]
    logits = 7.0 * np.array(cosines)
    there = -np.mean([logits[i, i] - math.log(np.exp(logits[i]).sum()) for i in range(6)])
    back = -np.mean([logits[i, i] - math.log(np.exp(logits[:, i]).sum()) for i in range(6)])
    assert float(info_nce(a, b, 7.0)) == pytest.approx((there + back) / 2, abs=1e-12)  # float64 throughout


def test_info_nce_does_not_ask_which_modality_comes_first():
    a, b = rows()
    assert float(info_nce(a, b, 9.0)) == pytest.approx(float(info_nce(b, a, 9.0)), abs=1e-12)


def test_info_nce_sees_directions_and_not_lengths():
    a, b = rows()
    lengths = torch.linspace(0.1, 50, 6, dtype=torch.float64)[:, None]
    assert float(info_nce(a * lengths, 3 * b, 9.0)) == pytest.approx(float(info_nce(a, b, 9.0)), abs=1e-12)


def test_info_nce_does_not_mind_the_order_of_the_pairs():
    a, b = rows()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert float(info_nce(a[order], b[order], 9.0)) == pytest.approx(float(info_nce(a, b, 9.0)), abs=1e-12)


def test_a_space_that_answers_everything_alike_loses_exactly_ln_of_the_batch():
    alike = torch.ones(16, 4, dtype=torch.float64)
    for scale in (1.0, 14.3, 100.0):
        assert float(info_nce(alike, alike, scale)) == pytest.approx(math.log(16), abs=1e-12)


def test_a_pair_of_one_concept_is_left_out_of_the_denominator():
    a, b = rows()
    concept = torch.tensor([0, 1, 2, 0, 3, 4])
    masked = info_nce(a, b, 5.0, same_concept(concept))
    changed = b.clone()
    logits = 5 * F.normalize(a, dim=1) @ F.normalize(changed, dim=1).T
    logits[0, 3] = logits[3, 0] = -torch.inf
    target = torch.arange(6)
    by_hand = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert float(masked) == pytest.approx(float(by_hand), abs=1e-12)
    assert masked < info_nce(a, b, 5.0)


def test_with_distinct_concepts_the_mask_changes_nothing():
    a, b = rows()
    assert torch.equal(info_nce(a, b, 5.0, same_concept(torch.arange(6))), info_nce(a, b, 5.0))


def test_the_mask_keeps_the_gradient_finite_even_where_all_are_one_concept():
    a, b = rows()
    a.requires_grad_()
    loss = info_nce(a, b, 5.0, torch.ones(6, 6, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0  # nothing is left to tell apart
    assert torch.isfinite(a.grad).all()


def test_both_sides_and_the_scale_get_a_gradient():
    a, b = rows()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    a.requires_grad_(), b.requires_grad_()
    info_nce(a, b, scale).backward()
    assert all(each.grad.abs().sum() > 0 for each in (a, b, scale))


def test_the_first_loss_of_untrained_towers_is_ln_of_the_batch_at_scale_one(dataset):
    """Within 2 %: at scale 1 the cosines can move a logit by little, whatever the towers say."""
    torch.manual_seed(0)
    model = SharedEmbedding().eval()
    chosen = training_rows(dataset)[::50][:128]
    data = corpus(dataset, chosen, ())
    seen = model.pictures(dataset.images[chosen])
    read = model.text([data.wordings[each].name for each in data.shows.tolist()])
    assert float(info_nce(seen, read, 1.0)) == pytest.approx(math.log(len(chosen)), rel=0.02)


def test_the_scale_never_passes_a_hundred():
    model = SharedEmbedding(**TINY)
    assert float(model.logit_scale.detach()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.log_scale.fill_(20)
    assert float(model.logit_scale.detach()) == pytest.approx(100)


# Kinship


def names(*said: str) -> list[Wording]:
    return [Wording(each, (), "", ()) for each in said]


def test_kin_are_concepts_with_words_in_common_and_none_is_its_own_kin():
    alike = kinship(names("red apple", "green apple", "bus"))
    assert torch.equal(alike, alike.T)
    assert alike.diagonal().tolist() == [0, 0, 0]
    assert 0 < alike[0, 1] < 1
    assert alike[0, 2] == alike[1, 2] == 0


def test_kinship_goes_by_rare_words_more_than_by_common_ones():
    alike = kinship(names("face robot", "arm robot", "face a", "face b", "face c", "face d"))
    assert alike[0, 1] > alike[0, 2] > 0


def test_kinship_reads_keywords_and_no_chinese():
    alike = kinship(
        [Wording("cat", ("pet",), "猫", ()), Wording("dog", ("pet",), "狗", ()), Wording("owl", (), "猫", ())]
    )
    assert alike[0, 1] > 0
    assert alike[0, 2] == 0


def test_the_kin_loss_is_two_cross_entropies_written_out():
    a, b = rows()
    kin = torch.rand(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    kin = (kin + kin.T).fill_diagonal_(0)
    kin[4] = kin[:, 4] = 0  # one without kin
    logits = 7.0 * np.array([[float(F.cosine_similarity(x, y, dim=0)) for y in b] for x in a])
    right = kin.numpy() / (1 + kin.sum(1).numpy())[:, None]
    there = sum(right[i] @ (math.log(np.exp(logits[i]).sum()) - logits[i]) for i in range(6)) / 6
    back = sum(right[i] @ (math.log(np.exp(logits[:, i]).sum()) - logits[:, i]) for i in range(6)) / 6
    assert float(kin_loss(a, b, 7.0, kin)) == pytest.approx(
        (there + back) / 2, abs=1e-12
    )  # float64 throughout


def test_with_a_whole_kin_each_the_kin_loss_is_half_of_info_nce_of_the_kin():
    a, b = rows()
    next_one = torch.roll(torch.eye(6, dtype=torch.float64), 1, dims=1)
    there = info_nce(a, torch.roll(b, -1, dims=0), 7.0)  # row i must find i + 1
    both = kin_loss(a, b, 7.0, next_one) + kin_loss(a, b, 7.0, next_one.T)
    back = info_nce(b, torch.roll(a, -1, dims=0), 7.0)
    assert float(both) == pytest.approx(float(there + back) / 2, abs=1e-12)


def test_many_kin_ask_for_more_than_few_and_never_for_more_than_the_concept_itself():
    """In a space that answers all alike each answer costs ln 6, so the loss is ln 6 times the share of the kin."""
    alike, kin = (
        torch.ones(6, 4, dtype=torch.float64),
        torch.ones(6, 6, dtype=torch.float64).fill_diagonal_(0),
    )
    for each in (0.1, 1.0, 100.0):
        share = 5 * each / (1 + 5 * each)
        assert float(kin_loss(alike, alike, 7.0, each * kin)) == pytest.approx(share * math.log(6), abs=1e-12)


def test_without_kin_there_is_nothing_to_lose():
    a, b = rows()
    assert float(kin_loss(a, b, 7.0, torch.zeros(6, 6, dtype=torch.float64))) == 0


def test_the_kin_loss_leaves_out_what_info_nce_leaves_out():
    a, b = rows()
    kin = torch.zeros(6, 6, dtype=torch.float64)
    kin[0, 1] = kin[1, 0] = 1
    a, b = (torch.cat([each[:2], each[:1], each[2:3], each[1:2], each[3:4]]) for each in (a, b))
    concept = torch.tensor([0, 1, 0, 2, 1, 3])
    masked = kin_loss(a, b, 7.0, kin, same_concept(concept))
    logits = (7 * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T).masked_fill(
        same_concept(concept) & ~torch.eye(6, dtype=torch.bool), -torch.inf
    )
    by_hand = -(
        logits.log_softmax(1)[0, 1] + logits.log_softmax(1)[1, 0]
        + logits.T.log_softmax(1)[0, 1] + logits.T.log_softmax(1)[1, 0]
    ) / 12 / 2  # fmt: skip
    assert float(masked) == pytest.approx(float(by_hand), abs=1e-12)


def test_what_is_left_out_of_the_kin_loss_is_no_ones_kin_either():
    a, b = rows()
    kin = torch.rand(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64).fill_diagonal_(0)
    same = same_concept(torch.tensor([0, 0, 1, 2, 3, 4]))
    without = kin.clone()
    without[0, 1] = without[1, 0] = 0
    assert torch.equal(kin_loss(a, b, 7.0, kin, same), kin_loss(a, b, 7.0, without, same))


def test_the_kin_loss_keeps_its_gradient_finite_even_where_all_are_one_concept():
    a, b = rows()
    a.requires_grad_()
    kin_loss(
        a, b, 100.0, torch.ones(6, 6, dtype=torch.float64), torch.ones(6, 6, dtype=torch.bool)
    ).backward()
    assert torch.isfinite(a.grad).all()


def test_training_draws_kin_together(few):
    """Two concepts that are kin end nearer to each other than without; all else is the same."""
    kin = torch.zeros(8, 8)
    kin[0, 1] = kin[1, 0] = 1
    found = []
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        settings = Settings(steps=30, batch_size=8, kin_weight=weight)
        model, _ = train_embed(
            replace(few, sounds=None, kinship=kin),
            settings,
            model=SharedEmbedding(picture_width=8, text_width=16),
        )
        said = model.text([each.name for each in few.wordings])
        found.append(float(said[0] @ said[1]))
    assert found[1] > found[0] + 0.1


# The towers


def test_every_tower_answers_with_unit_vectors_that_nothing_else_in_the_batch_changes(shipped, dataset):
    clip = dataset.speech("red-heart", "slt")[0]
    for ask, few_of in (
        (shipped.text, ["red heart", "cat", "狗"]),
        (shipped.pictures, dataset.images[:3]),
        (shipped.speech, [clip, clip[:8000], np.zeros(100, np.float32)]),
    ):
        together = ask(few_of)
        assert together.shape == (3, embed.DIM)
        assert not together.requires_grad
        assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)
        alone = torch.cat([ask(few_of[i : i + 1]) for i in range(3)])
        assert torch.allclose(together, alone, atol=1e-5)  # float32, other order of sums


def test_a_picture_is_answered_half_way_between_it_and_its_mirror_image(shipped, dataset):
    picture = dataset.images[:1]
    mirrored = np.ascontiguousarray(picture[:, :, ::-1])
    with torch.no_grad():
        one, other = (
            F.normalize(shipped.picture_tower(as_ink(shrink(each))), dim=1) for each in (picture, mirrored)
        )
    assert not torch.allclose(one, other, atol=1e-3)
    expected = F.normalize(one + other, dim=1)
    assert torch.allclose(shipped.pictures(picture), expected, atol=1e-5)  # float32, other order of sums
    assert torch.allclose(shipped.pictures(mirrored), expected, atol=1e-5)


def test_nothing_asked_is_nothing_answered(shipped):
    assert shipped.text([]).shape == shipped.speech([]).shape == (0, embed.DIM)


def test_captions_without_a_letter_all_get_one_vector(shipped):
    empty = shipped.text(["", "   ", "?!", "\u2764"])
    assert torch.isfinite(empty).all()
    assert torch.equal(empty, empty[:1].expand(4, -1))


def test_of_a_long_caption_the_first_four_hundred_characters_count(shipped):
    long = "red heart " * 1000
    assert torch.equal(shipped.text([long]), shipped.text([long[:400]]))


def test_an_unknown_script_has_a_vector_of_its_own(shipped):
    russian, thai, nothing = shipped.text(["красное сердце", "หัวใจ", ""])
    assert torch.isfinite(torch.stack([russian, thai])).all()
    assert not torch.allclose(russian, nothing)
    assert not torch.allclose(russian, thai)


def test_one_string_in_place_of_a_list_is_refused(shipped):
    with pytest.raises(TypeError, match="list of strings"):
        shipped.text("red heart")
    with pytest.raises(TypeError, match="list of strings"):
        shipped.text(["red heart", None])


@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 30, 30, 3), (2, 32, 32, 4), (0, 32, 32, 3)])
def test_pictures_of_another_shape_are_refused(shipped, shape):
    with pytest.raises(ValueError, match="need uint8 pictures"):
        shipped.pictures(np.zeros(shape, np.uint8))


def test_pictures_that_are_not_bytes_are_refused(shipped):
    with pytest.raises(ValueError, match="uint8"):
        shipped.pictures(np.zeros((1, 32, 32, 3), np.float32))


@pytest.mark.parametrize(
    "clip",
    [np.zeros(0, np.float32), np.zeros((2, 900), np.float32), np.zeros(900, np.int16), np.full(9, np.nan, np.float32)],
)  # fmt: skip
def test_a_clip_that_is_none_is_refused(clip):
    with pytest.raises(ValueError, match="a clip is finite float"):
        hear(clip)


def test_a_clip_at_another_rate_is_refused(shipped):
    with pytest.raises(ValueError, match="resample"):
        shipped.speech([np.zeros(800, np.float32)], rate=22_050)


def test_silence_is_heard_as_the_same_silence_however_long(shipped):
    assert np.array_equal(hear(np.zeros(100, np.float32)), hear(np.zeros(160_000, np.float32)))
    assert torch.isfinite(shipped.speech([np.zeros(100, np.float32)])).all()


def test_every_clip_fills_the_same_frames(dataset):
    assert hear(dataset.speech("red-heart", "slt")[0]).shape == (40, FRAMES)


def test_a_model_in_training_does_not_answer():
    with pytest.raises(RuntimeError, match="eval"):
        SharedEmbedding(**TINY).text(["red heart"])


def test_weights_that_are_not_there_are_named():
    with pytest.raises(DataError, match="no-such"):
        embed.load_pretrained("no-such")


def test_the_shipped_space_knows_a_heart_from_a_cat(shipped, dataset):
    seen = shipped.pictures(np.stack([dataset.picture(each, "noto") for each in ("red-heart", "cat-face")]))
    cosines = shipped.text(["heart", "cat"]) @ seen.T
    assert cosines[0, 0] > cosines[0, 1]
    assert cosines[1, 1] > cosines[1, 0]


# Training


def test_training_uses_no_row_of_val_or_test_no_held_out_pair_and_no_openmoji(dataset):
    items = dataset.items.iloc[training_rows(dataset)]
    assert set(items["split"]) == {"train"}
    assert set(items["style"]) == set(TRAIN_STYLES)
    assert not items["held_out"].any()


def test_the_corpus_holds_the_words_and_sounds_of_its_own_concepts_only(dataset, few):
    assert len(few.concepts) == len(few.wordings) == len(few.sounds) == 8
    assert [each.name for each in few.wordings] == list(dataset.concepts.loc[list(few.concepts), "name_en"])
    own = hear(dataset.speech(few.concepts[3], "slt")[0])
    assert np.array_equal(few.sounds[3, 0].numpy(), own)


def test_the_recipe_trains_on_nothing_but_the_training_rows(monkeypatch, dataset):
    from mmteach import embed_recipe

    class Seen(Exception):
        pass

    def spy(_, rows):
        assert np.array_equal(rows, training_rows(dataset))
        raise Seen

    monkeypatch.setattr(embed_recipe, "corpus", spy)
    with pytest.raises(Seen):
        embed_recipe.pretrain(steps=1)


def test_captions_are_drawn_from_name_and_keywords_of_the_language_asked_for():
    wording = Wording("red heart", ("love", "emotion"), "红心", ("爱", "感情"))
    english = {word for _ in range(300) for word in draw_caption(wording, chinese=0).split()}
    chinese = {word for _ in range(300) for word in draw_caption(wording, chinese=1).split()}
    assert english == {"red", "heart", "love", "emotion"}
    assert chinese == {"红心", "爱", "感情"}


def test_a_concept_without_keywords_is_called_by_its_name_and_never_by_nothing():
    wording = Wording("fountain", (), "喷泉", ())
    assert {draw_caption(wording, chinese=0, word_dropout=0.99) for _ in range(50)} == {"fountain"}


def test_one_batch_can_be_overfitted(few):
    """Else the loss is stuck at ln B for a reason of its own, and more data will not help."""
    torch.manual_seed(0)
    model = SharedEmbedding(picture_width=8, text_width=16, speech_width=8)
    for each in model.modules():
        if isinstance(each, torch.nn.Dropout):
            each.p = 0
    named = tuple(replace(each, keywords=()) for each in few.wordings)
    settings = Settings(
        steps=60,
        batch_size=8,
        chinese=0,
        word_dropout=0,
        move=0,
        tint=0,
        lr=1e-2,
        text_weight=0,
        kin_weight=0,
    )
    _, history = train_embed(replace(few, wordings=named, sounds=None), settings, model=model, every=1)
    assert history[0]["picture-text"] > 1
    assert history[-1]["picture-text"] < 0.2


def test_a_killed_run_goes_on_to_the_same_weights(few, tmp_path: Path):
    settings = Settings(steps=6, batch_size=4)
    new = lambda: torch.manual_seed(0) and SharedEmbedding(**TINY)  # noqa: E731
    whole, history = train_embed(few, settings, model=new(), every=2)

    class Killed(Exception):
        pass

    def kill(number, _):
        if number == 4:
            raise Killed

    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        train_embed(few, settings, model=new(), every=2, checkpoint=path, progress=kill)
    resumed, again = train_embed(few, settings, model=new(), every=2, checkpoint=path)
    assert history == again
    assert all(torch.equal(each, resumed.state_dict()[name]) for name, each in whole.state_dict().items())


def test_a_checkpoint_of_other_settings_is_refused(few, tmp_path: Path):
    path = tmp_path / "run.safetensors"
    train_embed(few, Settings(steps=2, batch_size=4), model=SharedEmbedding(**TINY), checkpoint=path)
    with pytest.raises(CheckpointError):
        train_embed(
            few, Settings(steps=2, batch_size=4, lr=1e-4), model=SharedEmbedding(**TINY), checkpoint=path
        )


def test_several_pictures_of_a_concept_are_false_negatives_and_one_of_each_has_none(few):
    seen = []

    def spy(a, b, scale, same):
        seen.append(None if same is None else int(same.sum()) - len(a))
        return info_nce(a, b, scale, same)

    once = Settings(steps=1, batch_size=8, text_weight=0)
    for settings in (once, replace(once, views=4), replace(once, views=4, treat=False)):
        train_embed(few, settings, model=SharedEmbedding(**TINY), loss=spy)
    distinct, crowded, untreated = (set(part) for part in zip(*[iter(seen)] * (len(seen) // 3), strict=True))
    assert distinct == {0}
    assert crowded == {8 * 3}  # two concepts, four pictures each
    assert untreated == {None}


def test_losses_of_all_captions_and_of_all_their_pairs_are_averaged_and_weighted(few):
    asked = []

    def spy(a, b, scale, same):
        asked.append((a, b))
        return torch.tensor(float(len(asked)))

    settings = Settings(steps=1, text_weight=0.25, kin_weight=0)
    losses = batch_losses(SharedEmbedding(**TINY), replace(few, sounds=None), torch.arange(4), settings, spy)
    assert losses["picture-text"].item() == (1 + 2 + 3) / 3
    assert losses["text-text"].item() == 0.25 * (4 + 5 + 6) / 3
    assert list(losses) == ["picture-text", "text-text"]
    one, two, three = (b for _, b in asked[:3])
    for (a, b), (c, d) in zip(asked[3:], ((one, two), (one, three), (two, three)), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_kin_are_asked_for_in_every_pair_of_modalities(few):
    """A loss of 1 everywhere leaves the sum of the weights."""
    settings = Settings(
        steps=1, speech_weight=0.5, picture_speech_weight=0.25, text_weight=2.0, kin_weight=3.0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed_train, "kin_loss", lambda *_: torch.tensor(1.0))
        losses = batch_losses(SharedEmbedding(**TINY), few, torch.arange(0, 40, 5), settings)
    assert losses["kin"].item() == pytest.approx(3 * (1 + 2 + 0.5 + 0.25))


def test_the_three_captions_are_a_name_keywords_and_one_of_either_language():
    wording = Wording("red heart", ("love", "emotion"), "红心", ("爱", "感情"))
    drawn = [draw_captions(wording, chinese=1, word_dropout=0) for _ in range(200)]
    assert {name for name, _, _ in drawn} == {"red heart"}
    assert {word for _, few, _ in drawn for word in few.split()} == {"love", "emotion"}
    assert {word for _, _, other in drawn for word in other.split()} == {"红心", "爱", "感情"}


def test_the_reader_s_own_loss_is_what_trains(few):
    mine = lambda a, b, scale, same=None: 0 * info_nce(a, b, scale) + 7  # noqa: E731
    losses = batch_losses(SharedEmbedding(**TINY), few, torch.arange(4), Settings(steps=1), mine)
    assert losses["picture-text"].item() == 7


def test_speech_follows_and_moves_neither_pictures_nor_text(few):
    model = SharedEmbedding(**TINY)
    losses = batch_losses(model, few, torch.arange(0, 40, 5), Settings(steps=1, kin_weight=0.0))
    (losses["speech-text"] + losses["picture-speech"]).backward()
    moved = {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert "speech_tower" in moved
    assert not moved & {"picture_tower", "text_tower"}


def test_the_kin_loss_of_spoken_names_moves_speech_only(few):
    settings, picks = Settings(steps=1), torch.arange(0, 40, 5)
    grads = []
    for speech in (0.0, 5.0):
        seed_everything(0)
        model = SharedEmbedding(**TINY)
        weighed = replace(settings, speech_weight=speech, picture_speech_weight=speech)
        torch.stack(list(batch_losses(model, few, picks, weighed).values())).sum().backward()
        others = [*model.picture_tower.parameters(), *model.text_tower.parameters()]
        grads.append(torch.cat([p.grad.flatten() for p in others]))
    torch.testing.assert_close(*grads)


def test_every_parameter_gets_a_gradient(few):
    model = SharedEmbedding(**TINY).train()
    torch.stack(
        list(batch_losses(model, few, torch.arange(0, 40, 5), Settings(steps=1)).values())
    ).sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


# Readings


def slow_recall(similarity, target, k):
    hits = 0
    for row, own in zip(similarity, target, strict=True):
        hits += sum(1 for j, other in enumerate(row) if j != own and other >= row[own]) < k
    return hits / len(similarity)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_recall_agrees_with_a_slow_loop(k):
    rng = np.random.default_rng(0)
    similarity, target = rng.integers(0, 6, (40, 25)) / 6, rng.integers(0, 25, 40)  # many ties
    assert recall_at_k(similarity, target, k) == slow_recall(similarity, target, k)
    assert recall_at_k(similarity, target, k) == (retrieval.ranks(similarity, target) <= k).mean()


def test_a_space_that_answers_everything_alike_recalls_nothing():
    alike = np.ones((5, 20))
    assert recall_at_k(alike, np.arange(5), 10) == 0
    assert recall_at_k(alike, np.arange(5), 20) == 1


def test_zero_shot_goes_by_direction_and_not_by_length():
    pictures, texts = np.array([[5.0, 1], [0.1, 0.3]]), np.array([[1.0, 0], [0, 100]])
    assert zero_shot(pictures, texts).tolist() == [0, 1]


def test_the_way_between_two_unit_vectors_stays_on_the_circle():
    a, b = np.array([1.0, 0, 0]), np.array([0, 0.6, 0.8])
    way = [slerp(a, b, share) for share in np.linspace(0, 1, 5)]
    assert np.allclose(np.linalg.norm(way, axis=1), 1)
    assert np.allclose(way[0], a)
    assert np.allclose(way[-1], b)
    angles = [np.arccos(x @ y) for x, y in pairwise(way)]
    assert np.allclose(angles, np.pi / 8)


def test_a_gallery_holds_every_picture_of_one_style_once(shipped, dataset):
    test = retrieval.views(shipped, dataset, dataset.rows("test", ("noto", "fxemoji")))
    ranks = retrieval.found(test, test.texts["name"], "noto")
    assert len(ranks) == len(test.concepts) == 328
    assert ranks.min() >= 1
    assert ranks.max() <= 328
    fewer = retrieval.found(test, test.texts["name"], "fxemoji")
    assert len(fewer) == (test.style == "fxemoji").sum() < 328


def test_searching_back_is_searching_with_the_table_turned(shipped, dataset):
    test = retrieval.views(shipped, dataset, dataset.rows("test", "noto"))
    table = test.texts["name"][test.shows] @ test.pictures.T
    assert np.array_equal(
        retrieval.found(test, test.texts["name"], "noto", back=True),
        retrieval.ranks(table.T, np.arange(len(table))),
    )


def gapped(offset, seed):
    """Return views of forty concepts in two groups; pictures lie a long way from names, with groups apart alike."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"group": np.repeat(["left", "right"], 20), "family": np.arange(40).astype(str)})
    names = rng.normal(0, 0.1, (40, 3)) + np.repeat([[-1.0, 0, 0], [1.0, 0, 0]], 20, 0)
    pictures = names + np.array([offset, 0, 0])
    return retrieval.Views(
        table, pictures, np.arange(40), np.full(40, "noto"), {"name": names, "Chinese name": names}, {}
    )


def test_a_classifier_moves_between_modalities_that_lie_apart_only_when_each_is_centred():
    train, test = gapped(5.0, 0), gapped(5.0, 1)
    centred, plain = (retrieval.classifiers(train, [test], "group", centre=each)[0] for each in (True, False))
    assert centred["names > pictures"].all() and centred["pictures > names"].all()
    assert plain["names > pictures"].mean() == 0.5, "all pictures lie on one side of what parts the names"
    assert plain["names > names"].all() and set(centred) == {f"{a} > {b}" for a in KINDS for b in KINDS}


KINDS = ("pictures", "names", "Chinese names")
