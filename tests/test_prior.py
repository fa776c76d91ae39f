"""The prior: what its logits may depend on, how codes are drawn, training, figures, and what its recipe may see."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmteach import moods, prior, prior_recipe, sampling
from mmteach.captions import LONGEST, _rows
from mmteach.checkpoint import CheckpointError
from mmteach.codebook import Codebook
from mmteach.data import TRAIN_STYLES, load_emoji
from mmteach.encoders import small
from mmteach.prior import (
    Corpus,
    Rules,
    Settings,
    Shape,
    TokenPrior,
    bits_per_token,
    sample,
    sample_codes,
    train_prior,
)
from mmteach.solutions import choose, guide, later, next_code_loss
from mmteach.vqvae import VQVAE

torch.set_num_threads(1)
CODES, TOKENS, STYLES = 20, 16, ("round", "flat", "old")
TINY = {
    "tokens": TOKENS,
    "codes": CODES,
    "styles": 3,
    "ways": 2,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "words": 8,
}
CAPTIONS = ["red apple", "sad robot", "smiling cat with heart eyes", "green tree"]


def tiny_vqvae() -> VQVAE:
    """Return an untrained VQ-VAE of 20 codes."""
    net = VQVAE(Codebook(CODES, 4), width=8, blocks=1)
    net(torch.rand(8, 3, 32, 32) * 2 - 1)
    return net.eval()


def untrained(seed: int = 0, **sizes) -> TokenPrior:
    """Return a prior as it is before training."""
    torch.manual_seed(seed)
    return TokenPrior(tiny_vqvae(), Shape(**TINY | {"layout": 4} | sizes), STYLES)


def lively(dtype: torch.dtype = torch.float32, **sizes) -> TokenPrior:
    """Return a prior whose weights are all random and large, so that everything it may depend on shows."""
    model = untrained(**sizes)
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(std=0.4)
    return model.to(dtype).requires_grad_(False).eval()


def some_codes(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(CODES, (count, TOKENS), generator=torch.Generator().manual_seed(seed))


def some_corpus(count: int = 12, ways: int = 2, seed: int = 0) -> Corpus:
    """Return random pictures with two captions each."""
    codes = torch.stack([some_codes(count, seed + way) for way in range(ways)], 1)
    return Corpus(codes, torch.arange(count) % 3, [[f"thing {i}", f"other {i}"] for i in range(count)])


def style_codes(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


# What a logit may depend on


def test_changing_a_code_changes_no_logits_at_places_up_to_its_own():
    model, codes = lively(torch.float64), some_codes(1)
    meaning = model.meaning(CAPTIONS[:1], style_codes(1))
    before = model(codes[:, :-1], meaning)
    for place in (0, 7, 14):
        other = codes.clone()
        other[0, place] = (other[0, place] + 1) % CODES
        changed = (model(other[:, :-1], meaning) != before).any(2)[0]
        assert not changed[: place + 1].any()
        assert changed[place + 1]


def test_a_logit_depends_on_every_code_before_it():
    model, codes = lively(torch.float64), some_codes(1)
    meaning = model.meaning(CAPTIONS[:1], style_codes(1))
    before = model(codes[:, :-1], meaning)[0, -1]
    for place in range(TOKENS - 1):
        other = codes.clone()
        other[0, place] = (other[0, place] + 1) % CODES
        assert not torch.equal(model(other[:, :-1], meaning)[0, -1], before)


def test_the_first_code_is_told_from_caption_and_style_alone():
    model = lively()
    for captions, styles in ((CAPTIONS[:2], (1, 1)), (CAPTIONS[:1] * 2, (0, 1))):
        logits = model(torch.empty(2, 0, dtype=torch.int64), model.meaning(captions, style_codes(*styles)))
        assert logits.shape == (2, 1, CODES)
        assert not torch.equal(logits[0], logits[1])


def test_without_a_caption_the_style_still_counts_and_the_caption_does_not():
    model, codes = lively(), some_codes(1)[:, :-1].repeat(2, 1)
    null = model(codes, model.meaning(["", ""], style_codes(0, 2)))
    assert not torch.equal(null[0], null[1])
    asked = {"guidance_scale": 0.0, "styles": "flat", "seed": 3}
    one, other = (sample_codes(model, [caption], **asked) for caption in CAPTIONS[:2])
    assert torch.equal(one, other)
    assert not torch.equal(one, sample_codes(model, CAPTIONS[:1], **asked | {"styles": "old"}))


def test_the_mask_hides_what_is_later_and_nothing_else():
    for new, places in ((5, 5), (1, 7), (3, 7)):
        mask = later(new, places)
        assert mask.shape == (new, places)
        for row in range(new):
            for column in range(places):
                assert mask[row, column] == (-torch.inf if column > places - new + row else 0)


@pytest.mark.parametrize("caption", ["", "   ", "!?", "🍎"])
def test_a_caption_without_a_word_means_the_null_caption(caption):
    model = lively()
    assert torch.equal(model.read([caption, "red apple"])[0], model.null)
    asked = {"styles": "flat", "seed": 5}
    assert torch.equal(sample_codes(model, [caption], **asked), sample_codes(model, [""], **asked))


def test_a_caption_is_read_to_its_longest_and_one_in_any_script_is_drawn():
    model = lively()
    long = "apple " * 2000
    assert torch.equal(model.read([long]), model.read([long[:LONGEST]]))
    for caption in (long, "ένα μήλο", "सेब", "تفاحة", "红苹果"):
        codes = sample_codes(model, [caption], guidance_scale=2.0)
        assert codes.min() >= 0
        assert codes.max() < CODES
    assert not torch.equal(model.read(["红苹果"]), model.read(["蓝苹果"]))


# The cache


def test_logits_with_a_cache_are_those_without_it():
    model, codes, cache = lively(), some_codes(3), []
    meaning = model.meaning(CAPTIONS[:3], style_codes(0, 1, 2))
    whole = model(codes[:, :-1], meaning)
    for place in range(TOKENS):
        last = model(codes[:, :place], meaning, cache)
        assert last.shape == (3, 1, CODES)
        # The same sums, added up in another order: float32 keeps seven digits.
        torch.testing.assert_close(last[:, 0], whole[:, place], atol=1e-4, rtol=1e-4)
    assert cache[0][0].shape[2] == model.shape.prefix + TOKENS - 1


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
def test_in_float64_the_same_codes_are_drawn_with_and_without_a_cache(guidance_scale):
    model = lively(torch.float64)
    for temperature in (0.0, 1.0):
        asked = {"styles": "old", "guidance_scale": guidance_scale, "temperature": temperature}
        cached, plain = (sample_codes(model, CAPTIONS, cached=each, **asked) for each in (True, False))
        assert torch.equal(cached, plain)


# Guidance


def test_scale_one_is_no_guidance_and_scale_zero_is_unconditional_exactly():
    given, null = torch.randn(50, CODES), torch.randn(50, CODES)
    assert torch.equal(guide(given, null, 1.0), given)
    assert torch.equal(guide(given, null, 0.0), null)
    assert not torch.equal(null + (given - null), given)  # what would happen without care


def by_hand(model: TokenPrior, captions: list[str], style: int, seed: int) -> torch.Tensor:
    """Draw codes one by one without guidance, cache or any of `sample_codes`."""
    rows = []
    for number, caption in enumerate(captions):
        generator = torch.Generator().manual_seed(seed + number)
        chance, seen = torch.rand(TOKENS + 1, generator=generator, dtype=torch.float64), []
        for place in range(TOKENS):
            codes = torch.tensor(seen, dtype=torch.int64)[None]
            logits = model(codes, model.meaning([caption], style_codes(style)))[0, -1]
            upto = logits.double().softmax(0).cumsum(0)
            seen.append(int((upto <= chance[place]).sum()))
        rows.append(seen)
    return torch.tensor(rows)


def test_the_codes_at_scale_one_and_zero_are_those_of_a_plain_loop_over_one_branch():
    model = lively(torch.float64)
    asked = {"styles": "flat", "seed": 11}
    assert torch.equal(
        sample_codes(model, CAPTIONS[:2], guidance_scale=1.0, **asked), by_hand(model, CAPTIONS[:2], 1, 11)
    )
    assert torch.equal(
        sample_codes(model, CAPTIONS[:2], guidance_scale=0.0, **asked), by_hand(model, ["", ""], 1, 11)
    )


def test_guidance_goes_beyond_the_caption_by_the_scale():
    given, null = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    assert guide(given, null, 3.0).tolist() == [[4.0, -1.0]]
    model = lively(torch.float64)
    codes = [sample_codes(model, CAPTIONS, styles="flat", guidance_scale=each) for each in (1.0, 1.5, 4.0)]
    assert not torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[1], codes[2])


def test_under_guidance_both_branches_keep_the_style_and_the_null_branch_alone_drops_the_caption():
    model, style = lively(torch.float64), torch.tensor([2, 1])
    codes = torch.empty(2, 0, dtype=torch.int64)
    for _ in range(TOKENS):
        given, null = (model(codes, model.meaning(asked, style))[:, -1] for asked in (CAPTIONS[:2], ["", ""]))
        codes = torch.cat([codes, guide(given, null, 2.5).argmax(1)[:, None]], 1)
    asked = {"styles": ["old", "flat"], "guidance_scale": 2.5, "temperature": 0.0}
    assert torch.equal(sample_codes(model, CAPTIONS[:2], **asked), codes)


def test_words_that_training_never_met_mean_the_null_caption():
    model = untrained(buckets=2**16, rare=True)
    settings = Settings(2, batch_size=4)
    model = train_prior(model, some_corpus(), settings, seed=0)
    read = model.read(["thing 3", "quixotic", "", "quixotic thing 3"])
    assert torch.equal(read[1], model.null)
    assert torch.equal(read[2], model.null)
    assert torch.allclose(read[3], read[0], atol=1e-6)
    assert not torch.equal(read[0], model.null)


def test_a_captions_words_stand_at_places_of_their_own_in_their_order():
    model = lively(torch.float64, buckets=2**16, rare=True, word_places=3)
    model.bag.rarity.zero_()
    model.bag.count([CAPTIONS])
    read = model.read_words(["sad robot", "robot sad", "sad", "quixotic robot", "smiling cat with heart"])
    assert read.shape == (5, 3, 16)
    assert torch.equal(read[0, :2], read[1, [1, 0]])
    assert torch.equal(read[0, 2], model.no_word)
    assert torch.equal(read[2, 1:], model.no_word.expand(2, -1))
    assert torch.equal(read[3, 0], model.no_word)
    assert torch.equal(read[3, 1], read[0, 1])
    told = lambda asked: model.meaning(asked, style_codes(1)).prefix  # noqa: E731
    assert told(["sad robot"]).shape == (1, 5, 16)
    assert not torch.allclose(told(["sad robot"]), told(["robot sad"]))


@pytest.mark.parametrize("word_places", [0, 3])
def test_with_words_before_it_a_picture_is_told_code_by_code_as_well(word_places):
    model, codes = lively(torch.float64, rare=True, word_places=word_places), some_codes(2)
    meaning = model.meaning(CAPTIONS[:2], style_codes(1, 2))
    logits, cache = model(codes[:, :-1], meaning), []
    assert logits.shape == (2, TOKENS, CODES)
    stepwise = torch.cat([model(codes[:, :place], meaning, cache) for place in range(TOKENS)], 1)
    assert torch.allclose(stepwise, logits, atol=1e-10)
    asked = {"styles": ["old", "flat"], "guidance_scale": 2.0, "style_scale": 1.0, "temperature": 0.0}
    drawn = [sample_codes(model, CAPTIONS[:2], cached=each, **asked) for each in (True, False)]
    assert torch.equal(*drawn)


def test_training_counts_how_rare_the_words_of_its_own_captions_are():
    model = train_prior(untrained(rare=True), some_corpus(), Settings(2, batch_size=4), seed=0)
    weight = lambda word: float(model.bag.rarity[_rows(word, model.shape.buckets)[0]])  # noqa: E731
    assert weight("thing") == pytest.approx(np.log(13 / 12))
    assert weight("7") == pytest.approx(np.log(13))


@pytest.mark.parametrize("styles", [None, "flat"])
def test_many_pictures_are_drawn_in_parts_and_come_out_the_same(monkeypatch, styles):
    model, fixed = lively(torch.float64), torch.full((4, TOKENS), -1)
    fixed[2, :8] = some_codes(1)[0, :8]
    asked = {"styles": styles, "guidance_scale": 2.0, "style_scale": 1.0, "seed": 9, "fixed": fixed}
    whole = sample_codes(model, CAPTIONS, **asked)
    seen = []
    monkeypatch.setattr(sampling, "AT_ONCE", 3)
    monkeypatch.setattr(
        model,
        "meaning",
        lambda asked, style: seen.append(len(asked)) or TokenPrior.meaning(model, asked, style),
    )
    assert torch.equal(sample_codes(model, CAPTIONS, **asked), whole)
    assert seen == [12, 4]  # four branches: asked, without caption, and two other styles


# The style made clearer


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
def test_without_a_style_scale_nothing_but_the_caption_steers(guidance_scale):
    model = lively(torch.float64)
    asked = {"styles": "flat", "guidance_scale": guidance_scale, "seed": 5}
    plain = sample_codes(model, CAPTIONS, **asked)
    assert torch.equal(sample_codes(model, CAPTIONS, style_scale=0.0, **asked), plain)
    assert not torch.equal(sample_codes(model, CAPTIONS, style_scale=2.0, **asked), plain)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
def test_the_style_scale_weighs_the_log_odds_of_the_style_asked_for_under_the_same_caption(guidance_scale):
    model, style, weight = lively(torch.float64), torch.tensor([2, 1, 0, 1]), 3.0
    captions = CAPTIONS if guidance_scale else [""] * 4
    codes = torch.empty(4, 0, dtype=torch.int64)
    for _ in range(TOKENS):
        told = lambda asked, style: model(codes, model.meaning(asked, style))[:, -1].softmax(1)  # noqa: B023,E731
        given, null = told(captions, style), told([""] * 4, style)
        others = told(captions, (style + 1) % 3) + told(captions, (style + 2) % 3)
        guided = null.log() + guidance_scale * (given.log() - null.log()) if guidance_scale else given.log()
        codes = torch.cat([codes, (guided + weight * (given / others).log()).argmax(1)[:, None]], 1)
    asked = {"styles": ["old", "flat", "round", "flat"], "guidance_scale": guidance_scale, "temperature": 0.0}
    assert torch.equal(sample_codes(model, CAPTIONS, style_scale=weight, **asked), codes)


def test_the_log_odds_of_a_style_are_those_of_bayes_rule():
    chance = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], dtype=torch.float64)
    posterior = chance[0] / chance.sum(0)  # all three styles as likely before
    odds = prior.style_odds(chance[:1].log() + 3.0, chance[1:, None].log() - 1.0)
    assert torch.allclose(odds[0], (posterior / (1 - posterior)).log())


def test_a_style_scale_draws_the_same_whatever_the_batch_and_with_or_without_a_cache():
    model = lively(torch.float64)
    asked = {"guidance_scale": 2.0, "style_scale": 1.0}
    together = sample_codes(model, CAPTIONS, styles="flat", seed=4, **asked)
    alone = [
        sample_codes(model, [each], styles="flat", seed=4 + i, **asked) for i, each in enumerate(CAPTIONS)
    ]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, sample_codes(model, CAPTIONS, styles="flat", seed=4, cached=False, **asked))


# Certainty lent by another style


def guided_step(model, codes, captions, style, scale=2.0):
    """Return guided logits (n, K) of the next place, by the book."""
    given, null = (
        model(codes, model.meaning(each, style))[:, -1] for each in (captions, [""] * len(captions))
    )
    return null + scale * (given - null)


@pytest.mark.parametrize("lend", [0.0, 0.3])
def test_doubt_is_the_surprise_at_the_likeliest_code_of_each_place(lend):
    model, style, lender = lively(torch.float64), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    codes, bits = torch.empty(4, 0, dtype=torch.int64), []
    for _ in range(TOKENS):
        own, theirs = (model(codes, model.meaning(CAPTIONS, each))[:, -1] for each in (style, lender))
        chance = (0.7 * own + 0.3 * theirs if lend else own).softmax(1)
        bits.append(-chance.max(1).values.log2())
        codes = torch.cat([codes, chance.argmax(1)[:, None]], 1)
    found = sampling.doubt(model, CAPTIONS, style, lender if lend else None, lend)
    assert torch.allclose(found, torch.stack(bits).mean(0))


def test_doubt_about_many_captions_is_found_in_parts_and_comes_out_the_same(monkeypatch):
    model, style = lively(torch.float64), torch.tensor([0, 1, 2, 0])
    asked = (CAPTIONS, style, style.flip(0), 0.3)
    whole = sampling.doubt(model, *asked)
    monkeypatch.setattr(sampling, "AT_ONCE", 3)
    assert torch.allclose(sampling.doubt(model, *asked), whole)


def told(monkeypatch, alone, together):
    """Let a network doubt as it is told: alone[caption][style], and together[caption][style, lender]."""

    def doubt(model, captions, style, lender=None, lend=0.0):
        if lender is None:
            return torch.tensor(
                [alone[name][own] for name, own in zip(captions, style.tolist(), strict=True)]
            )
        assert lend == 0.4
        pairs = zip(captions, style.tolist(), lender.tolist(), strict=True)
        return torch.tensor([together[name][own, other] for name, own, other in pairs])

    monkeypatch.setattr(sampling, "doubt", doubt)
    return lambda *names: sampling.lenders(
        untrained(), [name for name in names for _ in range(3)], torch.arange(3).repeat(len(names)), 0.4
    ).tolist()


def test_only_a_style_that_is_surer_by_half_a_bit_may_lend(monkeypatch):
    alone = {"known": [0.1, 0.2, 0.7], "unknown": [2.0, 1.6, 1.9], "half": [1.0, 0.5, 0.9]}
    together = {"known": {(2, 0): 0.3, (2, 1): 0.4}, "unknown": {}, "half": {(0, 1): 0.6}}
    of = told(monkeypatch, alone, together)
    assert of("known", "unknown", "half") == [0, 1, 0, 0, 1, 2, 1, 1, 2]


def test_of_several_the_one_lends_with_which_the_pool_doubts_least(monkeypatch):
    together = {"robot": {(2, 0): 0.9, (2, 1): 0.5}, "cat": {(2, 0): 0.4, (2, 1): 0.5}}
    of = told(monkeypatch, {name: [0.1, 0.2, 1.5] for name in together}, together)
    assert of("robot", "cat", "robot") == [0, 1, 1, 0, 1, 0, 0, 1, 1]


def lent_by(monkeypatch, *styles):
    """Let styles lend whatever is asked for."""
    monkeypatch.setattr(sampling, "lenders", lambda model, captions, style, lend: torch.tensor(styles))


@pytest.mark.parametrize("style_scale", [0.0, 1.5])
def test_lending_pools_the_guided_logits_of_both_styles(monkeypatch, style_scale):
    model, style, lender = lively(torch.float64), torch.tensor([2, 1, 0, 1]), torch.tensor([0, 1, 2, 0])
    codes = torch.empty(4, 0, dtype=torch.int64)
    for _ in range(TOKENS):
        own, theirs = (guided_step(model, codes, CAPTIONS, each) for each in (style, lender))
        plain = lambda turn: model(codes, model.meaning(CAPTIONS, (style + turn) % 3))[:, -1]  # noqa: B023,E731
        odds = prior.style_odds(plain(0), torch.stack([plain(1), plain(2)]))
        codes = torch.cat([codes, (0.4 * theirs + 0.6 * own + style_scale * odds).argmax(1)[:, None]], 1)
    lent_by(monkeypatch, *lender)
    asked = {"styles": ["old", "flat", "round", "flat"], "guidance_scale": 2.0, "temperature": 0.0}
    drawn = sample_codes(model, CAPTIONS, style_scale=style_scale, lend=0.4, **asked)
    assert torch.equal(drawn, codes)
    assert not torch.equal(drawn, sample_codes(model, CAPTIONS, style_scale=style_scale, **asked))


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
def test_a_style_that_lends_to_itself_changes_nothing_and_one_that_lends_all_draws_alone(
    monkeypatch, guidance_scale
):
    model, asked = lively(), {"guidance_scale": guidance_scale, "seed": 6}
    mixed = ["flat", "old", "round", "old"]
    lent_by(monkeypatch, 1, 2, 1, 0)  # the first two are their own
    drawn = sample_codes(model, CAPTIONS, styles=mixed, lend=1.0, **asked)
    whose = (
        ["flat", "old", "flat", "round"] if guidance_scale else mixed
    )  # without a caption there is nothing to lend
    assert torch.equal(drawn, sample_codes(model, CAPTIONS, styles=whose, **asked))
    assert torch.equal(drawn, sample_codes(model, CAPTIONS, styles=mixed, **asked)) == (guidance_scale == 0)


def test_a_lender_that_is_named_is_the_one_that_lends(monkeypatch):
    model, asked = lively(), {"styles": "flat", "guidance_scale": 2.0, "lend": 0.5, "seed": 3}
    named = sample_codes(model, CAPTIONS, lender="old", **asked)
    lent_by(monkeypatch, 2, 2, 2, 2)
    assert torch.equal(named, sample_codes(model, CAPTIONS, **asked))
    alone = sample_codes(model, CAPTIONS, **asked | {"lend": 0.0})
    assert torch.equal(sample_codes(model, CAPTIONS, lender="flat", **asked), alone)
    assert not torch.equal(named, alone)


def test_what_is_lent_does_not_depend_on_the_batch():
    model = lively(torch.float64)
    asked = {"styles": "flat", "guidance_scale": 2.0, "lend": 0.5}
    together = sample_codes(model, CAPTIONS, seed=4, **asked)
    alone = [sample_codes(model, [each], seed=4 + i, **asked) for i, each in enumerate(CAPTIONS)]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together, sample_codes(model, CAPTIONS, seed=4, **asked | {"lend": 0.0}))


def test_a_model_of_one_style_has_no_odds_to_offer():
    torch.manual_seed(0)
    model = TokenPrior(tiny_vqvae(), Shape(**TINY | {"layout": 4, "styles": 1}), STYLES[:1]).eval()
    assert len(sample(model, ["a"], style_scale=0.0)) == 1
    with pytest.raises(ValueError, match="knows one style only"):
        sample(model, ["a"], style_scale=1.0)


# DALLE-pytorch zeroes the caption in place in its null pass, so that from the second code on the caption is lost.
@pytest.mark.parametrize("style_scale", [0.0, 1.0])
@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 3.0])
def test_sampling_leaves_captions_styles_fixed_codes_and_weights_as_they_were(guidance_scale, style_scale):
    model = lively()
    captions, styles, fixed = [*CAPTIONS], ["round", "flat", "old", "flat"], some_codes()
    fixed[:, 7:] = -1
    before = {name: each.clone() for name, each in model.state_dict().items()}
    drawing = {name: each.clone() for name, each in model.vqvae.state_dict().items()}
    kept = fixed.clone()
    asked = {"guidance_scale": guidance_scale, "style_scale": style_scale}
    sample(model, captions, styles=styles, fixed=fixed, **asked)
    assert captions == CAPTIONS
    assert styles == ["round", "flat", "old", "flat"]
    assert torch.equal(fixed, kept)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert all(torch.equal(drawing[name], each) for name, each in model.vqvae.state_dict().items())


def test_under_guidance_the_caption_counts_to_the_last_code():
    model, fixed = lively(torch.float64), some_codes(1)
    fixed[:, -1] = -1
    asked = {"styles": "flat", "guidance_scale": 3.0}
    last = {int(sample_codes(model, [f"thing {i}"], fixed=fixed, **asked)[0, -1]) for i in range(20)}
    assert len(last) > 1


# Chance


def test_picture_i_draws_from_seed_plus_i_whatever_the_batch():
    model = lively(torch.float64)  # in float32 a batch of another size may round otherwise
    asked = {"guidance_scale": 2.0, "temperature": 1.0}
    together = sample_codes(model, CAPTIONS, seed=20, **asked)
    for number, caption in enumerate(CAPTIONS):
        assert torch.equal(sample_codes(model, [caption], seed=20 + number, **asked)[0], together[number])
    assert torch.equal(sample_codes(model, CAPTIONS[2:], seed=22, **asked), together[2:])


def test_the_same_seed_draws_the_same_picture_and_another_seed_another():
    model = lively()
    one, same, other = (sample(model, CAPTIONS[:1], styles="flat", seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_sampling_neither_uses_nor_moves_the_global_random_numbers():
    model = lively()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = sample_codes(model, CAPTIONS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(sample_codes(model, CAPTIONS), first)


def test_temperature_zero_is_greedy_and_the_same_for_every_seed():
    model = lively(torch.float64)
    greedy = [sample_codes(model, CAPTIONS, styles="flat", temperature=0.0, seed=seed) for seed in (0, 99)]
    assert torch.equal(*greedy)
    logits = model(greedy[0][:, :-1], model.meaning(CAPTIONS, style_codes(1, 1, 1, 1)))
    assert torch.equal(logits.argmax(2), greedy[0])


def test_the_likeliest_code_alone_is_greedy_whatever_the_chance():
    model = lively(torch.float64)
    greedy = sample_codes(model, CAPTIONS, styles="flat", temperature=0.0)
    assert torch.equal(sample_codes(model, CAPTIONS, styles="flat", temperature=1.3, top_k=1, seed=4), greedy)


def test_top_k_draws_from_the_k_likeliest_and_from_all_of_them():
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(0)).repeat(2000, 1)
    chance = (torch.arange(2000) + 0.5) / 2000
    drawn = set(choose(logits, chance.double(), 2.0, 5).tolist())
    assert drawn == set(logits[0].topk(5).indices.tolist())
    assert torch.equal(choose(logits, chance.double(), 2.0, 99), choose(logits, chance.double(), 2.0, None))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_codes_are_drawn_with_the_chances_of_the_softmax(temperature):
    draws, logits = 40_000, torch.randn(8, generator=torch.Generator().manual_seed(1))
    chance = torch.rand(draws, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = np.bincount(choose(logits.repeat(draws, 1), chance, temperature, None).numpy(), minlength=8)
    expected = draws * (logits.double() / temperature).softmax(0).numpy()
    # Chi-square with 7 degrees of freedom: above 24.3 once in a thousand seeds, and the seed is fixed.
    assert ((found - expected) ** 2 / expected).sum() < 24.3
    again = np.random.default_rng(0).multinomial(draws, expected / draws)
    assert ((again - expected) ** 2 / expected).sum() < 24.3


def test_a_code_is_the_piece_of_the_line_that_chance_falls_on():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(6, 1)
    chance = torch.tensor([0.0, 0.05, 0.15, 0.35, 0.65, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits, chance, 1.0, None).tolist() == [0, 0, 1, 2, 3, 3]


def test_a_masked_code_is_never_drawn_not_even_at_the_edges_of_chance():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).repeat(5, 1)
    chance = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits, chance, 1.0, None).tolist() == [1, 1, 3, 3, 3]
    assert choose(logits, chance, 1.0, 2).tolist() == [1, 1, 3, 3, 3]


def test_without_a_style_each_pictures_seed_picks_one():
    model = lively(torch.float64)
    free = sample_codes(model, ["red apple"] * 40, seed=0)
    picked = [
        [
            name
            for name in STYLES
            if torch.equal(sample_codes(model, ["red apple"], styles=name, seed=i)[0], free[i])
        ]
        for i in range(12)
    ]
    assert all(len(each) == 1 for each in picked)
    assert len({each[0] for each in picked}) == 3


# Fixed codes


def test_fixed_codes_are_kept_and_what_comes_before_does_not_know_them():
    model, fixed = lively(torch.float64), some_codes()
    fixed[:, :5], fixed[:, 10:] = -1, -1
    free = sample_codes(model, CAPTIONS, styles="flat", guidance_scale=2.0)
    kept = sample_codes(model, CAPTIONS, styles="flat", guidance_scale=2.0, fixed=fixed)
    assert torch.equal(kept[:, 5:10], fixed[:, 5:10])
    assert torch.equal(kept[:, :5], free[:, :5])
    assert not torch.equal(kept[:, 10:], free[:, 10:])
    whole = some_codes(seed=1)
    assert torch.equal(sample_codes(model, CAPTIONS, fixed=whole), whole)


# Pictures and errors


def test_a_sample_is_what_the_vqvae_draws_of_the_codes():
    model = lively()
    pictures = sample(model, CAPTIONS, styles="flat", guidance_scale=2.0, temperature=0.8, seed=3)
    codes = sample_codes(model, CAPTIONS, styles="flat", guidance_scale=2.0, temperature=0.8, seed=3)
    assert pictures.shape == (4, 16, 16, 3)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, prior.draw(model.vqvae, codes))


def test_no_captions_give_no_pictures():
    assert sample(lively(), []).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("captions", "asked", "words"),
    [("red apple", {}, r"give \[caption\]"),
     (["a"], {"styles": "cubist"}, "no style 'cubist'; this model draws in round, flat, old"),
     (["a", "b"], {"styles": ["flat"]}, "2 captions but 1 styles"),
     (["a"], {"guidance_scale": -1.0}, "guidance_scale must be at least 0"),
     (["a"], {"lend": 1.5}, r"lend must be from 0 \(off\) to 1"),
     (["a"], {"lender": "cubist"}, "no style 'cubist'"),
     (["a"], {"lend": float("nan")}, r"lend must be from 0 \(off\) to 1"),
     (["a"], {"guidance_scale": float("nan")}, "guidance_scale must be at least 0"),
     (["a"], {"style_scale": -1.0}, "style_scale must be at least 0"),
     (["a"], {"temperature": -0.1}, "temperature must be at least 0"),
     (["a"], {"top_k": 0}, "top_k must be at least 1, or None"),
     (["a"], {"fixed": torch.zeros(1, 5, dtype=torch.int64)}, r"fixed must be codes \(1, 16\)"),
     (["a"], {"fixed": torch.full((1, TOKENS), CODES)}, "fixed codes must be from 0 to 19, or -1")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_words_that_say_what_to_do(captions, asked, words):
    with pytest.raises(ValueError, match=words):
        sample(lively(), captions, **asked)
    with pytest.raises(ValueError, match=words):
        sample_codes(lively(), captions, **asked)


# The reader's rules


def test_the_rules_of_the_reader_are_what_runs():
    called = set()

    def watched(name, rule):
        def run(*given):
            called.add(name)
            return rule(*given)

        return run

    model = lively(torch.float64)
    plain = sample_codes(model, CAPTIONS, styles="flat", guidance_scale=2.0)
    model.rules = Rules(watched("later", later), watched("guide", guide), watched("choose", choose))
    assert torch.equal(sample_codes(model, CAPTIONS, styles="flat", guidance_scale=2.0), plain)
    assert called == {"later", "guide", "choose"}
    model.rules = Rules(later=lambda new, places: torch.zeros(new, places))
    codes = some_codes(1)
    looking = [
        model(each, model.meaning(["a"], style_codes(0)))[0, 0] for each in (codes[:, :-1], codes[:, 1:])
    ]
    assert not torch.equal(*looking)  # a mask of zeros looks ahead


# Figures


def test_the_loss_is_the_mean_surprise_in_nats():
    logits, codes = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    slow = [-logits[b, t].log_softmax(0)[codes[b, t]] for b in range(3) for t in range(5)]
    torch.testing.assert_close(next_code_loss(logits, codes), torch.stack(slow).mean())
    assert next_code_loss(torch.zeros(2, 4, 512), torch.zeros(2, 4, dtype=torch.int64)) == pytest.approx(
        np.log(512)
    )


@pytest.mark.parametrize("batch_size", [5, 256])
def test_bits_a_token_are_those_of_a_slow_loop(batch_size):
    model, corpus = lively(), some_corpus(7)
    found = bits_per_token(model, corpus, batch_size)
    assert found.shape == (7,)
    for number in range(7):
        total = 0.0
        meaning = model.meaning([f"thing {number}"], corpus.styles[number : number + 1])
        for place in range(TOKENS):
            codes = corpus.codes[number, 0]
            chances = model(codes[None, :place], meaning)[0, -1].double().softmax(0)
            total -= np.log2(float(chances[codes[place]]))
        # 16 surprises in float32
        assert float(found[number]) == pytest.approx(total / TOKENS, rel=1e-4)


def test_bits_at_a_temperature_are_those_of_divided_logits():
    model, corpus = lively(), some_corpus(3)
    codes, captions = corpus.codes[:, 0], [each[0] for each in corpus.captions]
    logits = model(codes[:, :-1], model.meaning(captions, corpus.styles)).double()
    chances = (logits / 1.5).softmax(-1).gather(2, codes[..., None])[..., 0]
    found = bits_per_token(model, corpus, temperature=1.5)
    assert torch.allclose(found.double(), -chances.log2().mean(1), rtol=1e-4)  # float32 against float64
    assert not torch.allclose(found, bits_per_token(model, corpus), rtol=1e-2)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_bits_at_no_temperature_are_refused(temperature):
    with pytest.raises(ValueError, match="above 0"):
        bits_per_token(lively(), some_corpus(2), temperature=temperature)


def test_the_unigram_is_a_slow_count_with_one_added():
    train, test = some_codes(3)[:, :9], some_codes(2, seed=1)[:, :9]
    counts = [1 + sum(int(code == k) for code in train.flatten()) for k in range(CODES)]
    slow = -np.mean([np.log2(counts[code] / sum(counts)) for code in test.flatten().tolist()])
    assert prior.unigram_bits(train, test, CODES) == pytest.approx(slow)
    assert prior.unigram_bits(torch.arange(CODES)[None], test, CODES) == pytest.approx(np.log2(CODES))


def test_the_bigram_is_a_slow_count_smoothed_by_the_unigram():
    train, test, weight = some_codes(4)[:, :9].tolist(), some_codes(2, seed=1)[:, :9].tolist(), 3.0
    counts = [1 + sum(row.count(k) for row in train) for k in range(CODES)]
    alone = [each / sum(counts) for each in counts]
    total = 0.0
    for row in test:
        total -= np.log2(alone[row[0]])
        for left, code in itertools.pairwise(row):
            pairs = [[b for a, b in itertools.pairwise(each) if a == left] for each in train]
            seen = [b for each in pairs for b in each]
            total -= np.log2((seen.count(code) + weight * alone[code]) / (len(seen) + weight))
    found = prior.bigram_bits(torch.tensor(train), torch.tensor(test), CODES, weight)
    assert found == pytest.approx(total / 18)


# Training


def test_every_parameter_gets_a_gradient_and_every_tensor_is_in_the_state_or_made_again_from_the_codes():
    model, codes = untrained(), some_codes()
    with torch.no_grad():
        for block in model.blocks:
            block.style.weight.normal_()
    meaning = model.meaning(["", *CAPTIONS[1:]], style_codes(0, 1, 2, 0), style_codes(0, 1, 0, 1))
    next_code_loss(model(codes[:, :-1], meaning), codes).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    held = [each for part in model.modules() for each in vars(part).values()]
    flat = [each for some in held for each in (some if isinstance(some, (list, tuple)) else [some])]
    assert not any(isinstance(each, torch.Tensor) for each in flat)
    known = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    assert known == set(model.state_dict()) | {"looks"}
    assert not any(name.startswith("vqvae") for name in known)
    torch.testing.assert_close(TokenPrior(model.vqvae, model.shape, STYLES).looks, model.looks)


def test_one_small_batch_can_be_learned_by_heart():
    corpus = some_corpus(4, ways=1)
    settings = Settings(80, batch_size=4, lr=1e-2, drop_caption=0.0, drop_code=0.0, average=0.9)
    model = train_prior(untrained(ways=1, width=32, dropout=0.0), corpus, settings, seed=0)
    start = bits_per_token(untrained(ways=1), corpus).mean()
    assert start == pytest.approx(np.log2(CODES), abs=0.5)
    assert bits_per_token(model, corpus).mean() < 0.2
    names = [corpus.captions[i][0] for i in range(4)]
    styles = [STYLES[i] for i in corpus.styles]
    assert (
        sample_codes(model, names, styles=styles, temperature=0.0) == corpus.codes[:, 0]
    ).float().mean() > 0.9


def test_training_returns_an_averaged_model_in_eval_mode_that_asks_for_no_gradient():
    held = some_corpus(3, seed=5)
    model = train_prior(untrained(), some_corpus(), Settings(6, batch_size=4), seed=0, held=held, every=2)
    assert not model.training
    assert not any(each.requires_grad for each in model.parameters())
    assert [each["step"] for each in model.history] == [2, 4, 6]
    assert {"bits", "held-out bits"} <= set(model.history[-1])
    assert model.history[-1]["held-out bits"] == pytest.approx(
        float(bits_per_token(model, held).mean()), rel=1e-4
    )


def test_training_leaves_the_corpus_and_the_vqvae_as_they_were():
    corpus, model = some_corpus(), untrained()
    before = corpus.codes.clone(), corpus.styles.clone(), [[*each] for each in corpus.captions]
    drawing = {name: each.clone() for name, each in model.vqvae.state_dict().items()}
    trained = train_prior(model, corpus, Settings(3, batch_size=4), seed=0)
    assert torch.equal(corpus.codes, before[0])
    assert torch.equal(corpus.styles, before[1])
    assert corpus.captions == before[2]
    assert all(torch.equal(drawing[name], each) for name, each in trained.vqvae.state_dict().items())


def test_a_loss_of_the_readers_own_is_what_is_descended():
    def backwards(logits, codes):
        return -F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    corpus, settings = some_corpus(), Settings(20, batch_size=4, average=0.5)
    ours, worse = (
        train_prior(untrained(), corpus, settings, seed=0, loss=each) for each in (None, backwards)
    )
    assert bits_per_token(worse, corpus).mean() > bits_per_token(ours, corpus).mean() + 1


def test_captions_are_drawn_from_a_pictures_own_and_dropped_at_the_rate_asked_for():
    torch.manual_seed(0)
    captions = [["a", "b", "c"], ["d"]]
    drawn = prior._some_captions(captions, torch.tensor([0, 1] * 2000), 0.25)
    assert set(drawn[::2]) == {"a", "b", "c", ""}
    assert set(drawn[1::2]) == {"d", ""}
    assert np.mean([each == "" for each in drawn]) == pytest.approx(0.25, abs=0.03)  # 4 standard errors
    assert prior._some_captions(captions, torch.tensor([1, 0]), 0.0)[0] == "d"


def test_spoilt_codes_are_as_many_as_asked_for_and_the_right_ones_stay_right():
    torch.manual_seed(0)
    codes = torch.full((400, TOKENS), 3)
    assert torch.equal(prior.spoilt(codes, CODES, 0.0), codes)
    changed = (prior.spoilt(codes, CODES, 0.2) != 3).float().mean()
    assert changed == pytest.approx(0.2 * (1 - 1 / CODES), abs=0.02)
    assert (codes == 3).all()


def test_dropout_leaves_out_a_channel_at_all_places_of_a_sentence():
    torch.manual_seed(0)
    x = torch.ones(50, 6, 40)
    thinned = prior.thin(x, 0.25)
    assert torch.equal(thinned, thinned[:, :1].expand_as(x))
    assert set(thinned.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert thinned.mean() == pytest.approx(1, abs=0.06)
    assert prior.thin(x, 0.0) is x


def test_a_killed_run_goes_on_to_the_same_weights_as_an_unbroken_one(tmp_path: Path):
    class Killed(Exception):
        pass

    def kill(step: int, _: dict) -> None:
        if step == 6:
            raise Killed

    def run(**more) -> TokenPrior:
        settings = Settings(8, batch_size=4, drop_caption=0.3)
        return train_prior(
            untrained(), some_corpus(), settings, seed=0, every=2, held=some_corpus(3, seed=9), **more
        )

    unbroken, path = run(), tmp_path / "prior.safetensors"
    with pytest.raises(Killed):
        run(checkpoint=path, progress=kill)
    resumed = run(checkpoint=path)
    for name, each in unbroken.state_dict().items():
        assert torch.equal(each, resumed.state_dict()[name]), name
    assert resumed.history == unbroken.history


def test_a_checkpoint_of_other_weights_at_the_start_is_refused(tmp_path: Path):
    def run(start: TokenPrior) -> TokenPrior:
        path, settings = tmp_path / "prior.safetensors", Settings(2, batch_size=4)
        return train_prior(start.requires_grad_(True), some_corpus(), settings, seed=0, checkpoint=path)

    run(untrained())
    run(untrained())
    with pytest.raises(CheckpointError, match="start"):
        run(lively())


# What the recipe shows it


@pytest.fixture(scope="module")
def dataset():
    return load_emoji()


def test_training_rows_are_of_split_train_of_training_styles_and_never_held_out(dataset):
    rows = prior_recipe.training_rows(dataset)
    chosen = dataset.items.iloc[rows]
    assert set(chosen["split"]) == {"train"}
    assert set(chosen["style"]) == set(TRAIN_STYLES)
    assert not chosen["held_out"].any()
    assert len(rows) == len(set(rows.tolist())) == 6370
    families = dataset.concepts.loc[chosen["concept"], "family"]
    others = dataset.concepts.loc[dataset.concepts["split"] != "train", "family"]
    assert not set(families) & set(others)


def test_the_recipe_keeps_its_parts_apart_and_what_is_judged_away_from_what_is_learned(dataset):
    parts = {name: set(rows.tolist()) for name, rows in prior_recipe.split(dataset).items()}
    shown = set(prior_recipe.training_rows(dataset).tolist())
    assert parts["train"] | parts["tuning"] == shown
    assert not parts["train"] & parts["tuning"]
    assert not shown & (parts["held-out"] | parts["val"])
    concepts, styles = dataset.items["concept"].to_numpy(), dataset.items["style"].to_numpy()
    pairs = {(concepts[row], styles[row]) for row in shown}
    assert not pairs & {(concepts[row], styles[row]) for row in parts["held-out"]}
    assert not {concepts[row] for row in shown} & {concepts[row] for row in parts["val"]}
    assert "openmoji" not in {styles[row] for rows in parts.values() for row in rows}


def test_captions_are_made_of_a_concepts_own_words_and_are_the_same_every_time(dataset):
    rows = dataset.rows("train", "noto")[:6]
    captions = prior_recipe.captions(dataset, rows)
    for row, own in zip(rows, captions, strict=True):
        entry = dataset.concepts.loc[dataset.items["concept"].iloc[row]]
        assert own[0] == entry["name_en"]
        known = f"{entry['name_en']} {entry['keywords_en']}".replace(";", " ").split()
        assert {word for each in own for word in each.split()} <= set(known)
        assert all(own)
    assert captions == prior_recipe.captions(dataset, rows)


def test_way_nought_is_the_picture_as_it_is(dataset):
    torch.manual_seed(0)
    net, images = tiny_vqvae(), dataset.images[:5]
    codes = prior_recipe.ways(net, images)
    assert codes.shape == (5, 2 * len(prior_recipe.SHIFTS), 64)
    assert torch.equal(codes[:, 0], prior_recipe.encode(net, prior_recipe.small(images)))
    mirrored = prior_recipe.encode(net, prior_recipe.small(images[:, :, ::-1]))
    assert torch.equal(codes[:, len(prior_recipe.SHIFTS)], mirrored)
    assert torch.equal(prior_recipe.ways(net, images, shifts=((0, 0),), mirrored=False)[:, 0], codes[:, 0])


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (-2, 0), (0, 3), (0, -3), (1, -2)])
def test_a_moved_picture_is_a_rolled_one_with_white_at_the_edges(down, right):
    images = np.full((2, 12, 12, 3), 255, np.uint8)
    images[:, 3:9, 3:9] = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3))
    np.testing.assert_array_equal(
        prior_recipe.moved_by(images, down, right), np.roll(images, (down, right), (1, 2))
    )
    dark = prior_recipe.moved_by(np.zeros_like(images), down, right)
    assert (dark == 255).sum() == 2 * 3 * (144 - (12 - abs(down)) * (12 - abs(right)))


def test_the_corpus_of_some_rows_is_aligned_with_them(dataset):
    rows = prior_recipe.training_rows(dataset)[::900]
    corpus = prior_recipe.corpus(dataset, rows, tiny_vqvae(), shifts=((0, 0),), mirrored=False)
    assert [TRAIN_STYLES[i] for i in corpus.styles] == dataset.items["style"].iloc[rows].tolist()
    assert corpus.codes.shape == (len(rows), 1, 64)
    assert len(corpus.captions) == len(rows)


def test_a_picture_without_odds_is_never_learned():
    model, settings = untrained(), Settings(3, batch_size=4, drop_caption=0.0)
    codes = torch.stack([torch.full((2, TOKENS), 3), torch.full((2, TOKENS), 5)])
    asked: list[str] = []
    model.bag.register_forward_pre_hook(lambda bag, given: asked.extend(given[0]))
    train_prior(
        model, Corpus(codes, torch.zeros(2, dtype=torch.int64), [["one"], ["two"]], torch.tensor([0.0, 1.0])),
        settings, seed=0,
    )  # fmt: skip
    assert "two" in asked
    assert "one" not in asked


def test_the_last_part_goes_on_from_the_first_with_all_training_pictures(dataset, monkeypatch, tmp_path):
    given = {}

    def learned(model, corpus, settings, *, seed, checkpoint, **more):
        given.update(corpus=corpus, seed=seed, checkpoint=checkpoint)
        assert all(each.requires_grad for each in model.parameters())
        model.history = [{"step": 1, "bits": 2.0}, {"step": 2, "bits": 1.0}]
        return model

    some = prior_recipe.training_rows(dataset)[::600]
    monkeypatch.setattr(prior_recipe, "training_rows", lambda dataset: some)
    monkeypatch.setattr(prior_recipe, "train_prior", learned)
    model = untrained().requires_grad_(False)
    model.history = [{"step": 50, "bits": 3.0, "held-out bits": 3.5}]
    after, settings = prior_recipe.finished(dataset, model, 2, seed=4, checkpoint=tmp_path / "prior-full-4.x")
    assert [each["step"] for each in after.history] == [50, 51, 52]
    assert given["seed"] != 4
    assert given["checkpoint"] == tmp_path / "prior-full-4-last.x"
    assert len(given["corpus"].codes) == len(given["corpus"].odds) == len(some)
    assert settings == Settings(steps=2, **prior_recipe.LAST)


def test_the_drawing_is_chosen_on_pairs_that_are_not_yet_learned(dataset, monkeypatch):
    done, tuning = [], prior_recipe.split(dataset)["tuning"]

    def learned(model, corpus, settings, **more):
        done.append(corpus)
        model.history = []
        return model

    def chosen(dataset, model, rows, seed):
        done.append(rows)
        return {"guidance_scale": 1.0}

    monkeypatch.setattr(prior_recipe, "train_prior", learned)
    monkeypatch.setattr(prior_recipe, "choose_drawing", chosen)
    monkeypatch.setattr(
        prior_recipe, "with_moods", lambda dataset, model, *_: done.append("moods") or (model, None)
    )
    monkeypatch.setattr(prior_recipe, "judged", lambda dataset, model, settings, drawing, seed: drawing)
    assert prior_recipe.pretrain(steps=10) == {"guidance_scale": 1.0}
    first, rows, last, moods = done
    assert moods == "moods"
    assert np.array_equal(rows, tuning)
    assert len(first.codes) == len(prior_recipe.split(dataset)["train"])
    assert len(last.codes) == len(first.codes) + len(tuning)
    assert first.odds is None and last.odds is not None


@pytest.fixture(scope="module")
def few(dataset):
    """Return training rows: a face for each mood in one style, and every fiftieth picture in it."""
    rows = prior_recipe.training_rows(dataset)
    rows = rows[(dataset.items["style"].iloc[rows] == TRAIN_STYLES[0]).to_numpy()]
    names = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "name_en"]
    faces = names.isin([each[0] for each in moods.MOODS.values()]).to_numpy()
    return rows[faces | (np.arange(len(rows)) % 50 == 0)]


def test_the_part_with_moods_learns_all_training_pictures_and_composed_ones_for_a_share(
    dataset, few, monkeypatch, tmp_path
):
    given = {}

    def learned(model, corpus, settings, *, seed, checkpoint, **more):
        given.update(corpus=corpus, settings=settings, checkpoint=checkpoint)
        model.history = []
        return model

    monkeypatch.setattr(prior_recipe, "training_rows", lambda dataset: few)
    monkeypatch.setattr(prior_recipe, "train_prior", learned)
    model = untrained().requires_grad_(False)
    prior_recipe.with_moods(dataset, model, 3, seed=4, checkpoint=tmp_path / "prior-full-4.x")
    odds, captions = given["corpus"].odds, given["corpus"].captions
    composed = torch.arange(len(captions)) >= len(few)
    assert captions[: len(few)] == prior_recipe.captions(dataset, few)
    assert all(each[0].split()[0] in moods.MOODS for each in captions[len(few) :])
    assert len(odds) == len(captions) == len(given["corpus"].codes) == len(given["corpus"].styles)
    assert float(odds[composed].sum() / odds.sum()) == pytest.approx(prior_recipe.MOOD_SHARE)
    assert torch.equal(odds[: len(few)], prior_recipe.odds(dataset, few))
    assert given["checkpoint"] == tmp_path / "prior-full-4-moods.x"
    assert given["settings"] == Settings(steps=3, **prior_recipe.MOODS)


def test_a_thing_and_mood_that_are_kept_back_are_learned_in_no_style(dataset, few):
    learned, kept = prior_recipe.mood_corpora(dataset, tiny_vqvae(), few)
    named = [{each[0] for each in corpus.captions} for corpus in (learned, kept)]
    assert not named[0] & named[1]
    share = len(named[1]) / (len(named[0]) + len(named[1]))
    assert share == pytest.approx(prior_recipe.KEPT_BACK, abs=0.03)
    assert kept.codes.shape[1] == 1
    assert learned.codes.shape[1] == 10
    assert all(len(corpus.codes) == len(corpus.styles) == len(corpus.captions) for corpus in (learned, kept))


def test_composed_captions_and_styles_are_those_of_the_thing(dataset, few):
    learned, kept = prior_recipe.mood_corpora(dataset, tiny_vqvae(), few)
    of = {}
    for row in few:
        of.setdefault(dataset.items["style"].iat[row], set()).add(
            dataset.concepts.loc[dataset.items["concept"].iat[row], "name_en"]
        )
    for corpus in (learned, kept):
        for style, names in zip(corpus.styles.tolist(), corpus.captions, strict=True):
            mood, name = names[0].split(" ", 1)
            assert mood in moods.MOODS
            assert name in of[TRAIN_STYLES[style]]


def test_rare_words_stay_as_they_were_counted_where_they_are_not_to_be_counted():
    model = untrained(rare=True)
    model.bag.count([["thing"], ["robot"]])
    before = model.bag.rarity.clone()
    kept = train_prior(model, some_corpus(), Settings(2, batch_size=4, count_words=False), seed=0)
    assert torch.equal(kept.bag.rarity, before)


def test_the_card_tells_a_setting_once_where_all_parts_agree_and_else_from_part_to_part():
    told = prior_recipe._in_turn(*({"lr": lr, "batch_size": 64} for lr in (2.5e-3, 1e-3, 1e-3)))
    assert told == {"lr": "0.0025, then 0.001, then 0.001", "batch_size": "64"}


def test_smileys_are_drawn_more_often_in_the_last_part_and_nothing_else_is(dataset):
    rows = prior_recipe.training_rows(dataset)
    odds = prior_recipe.odds(dataset, rows).numpy()
    group = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "group"].to_numpy(str)
    assert set(odds[group == "smileys-emotion"]) == {prior_recipe.SMILEY_ODDS}
    assert set(odds[group != "smileys-emotion"]) == {1.0}
    assert 0 < (group == "smileys-emotion").sum() < len(rows)


def test_the_packages_rules_are_the_solutions_themselves():
    assert Rules() == (later, guide, choose)
    assert inspect.signature(train_prior).parameters["loss"].default is None
    assert prior.next_code_loss is next_code_loss


def test_the_setting_whose_drawings_say_most_clearly_what_they_are_is_chosen(monkeypatch):
    dataset = load_emoji()
    rows = prior_recipe.split(dataset)["tuning"][:12]
    true, noise = (
        small(dataset.images[rows]),
        np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8),
    )
    (once, best), lucky = prior_recipe.GRID[5:7], set()

    def drawn(model, names, *, styles, seed, **settings):
        lucky.add(seed)
        return true if settings == best or (settings == once and seed == 0) else noise

    monkeypatch.setattr(prior_recipe, "sample", drawn)
    assert prior_recipe.choose_drawing(dataset, untrained(), rows) == best
    assert lucky == {0, 12, 24}  # picture i is drawn from seed + i: no seed twice
