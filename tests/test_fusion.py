"""What early, late and intermediate fusion promise."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmteach.fusion import (
    EarlyFusion,
    FusionNet,
    LateFusion,
    fit_weights,
    gated_fusion,
    late_fusion,
    low_rank_tensor_fusion,
    modality_dropout,
    predict_fusion,
    train_fusion,
    vector_encoder,
)  # fmt: skip
from mmteach.fusion_net import FUSIONS

WORDS = {"cat": ("fur", "whisker"), "car": ("wheel", "road"), "cup": ("tea", "handle")}


def things(count=90, seed=0):
    """Rows with a text and a vector, each of which alone tells the class only some of the time."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(WORDS), count)
    honest = rng.random(count) < 0.8
    text = [
        " ".join(rng.choice(WORDS[y] if ok else ("a", "the"), 2))
        for y, ok in zip(labels, honest, strict=True)
    ]
    centres = {"cat": 0.0, "car": 1.5, "cup": 3.0}
    vectors = np.array([[centres[y], -centres[y]] for y in labels]) + rng.normal(size=(count, 2))
    frame = pd.DataFrame({"name": text, "size": rng.normal(size=count), "age": rng.normal(size=count)})
    frame["picture"] = pd.Series(list(vectors), dtype=object)
    return frame, labels


def early():
    return EarlyFusion(
        [("text", TfidfVectorizer(), "name"), ("picture", StandardScaler(), "picture"),
         ("structured", StandardScaler(), ["size", "age"])]
    )  # fmt: skip


def late(how="weighted"):
    return LateFusion(
        [("text", make_pipeline(TfidfVectorizer(), LogisticRegression()), "name"), ("picture", GaussianNB(), "picture"),
         ("structured", GaussianNB(), ["size", "age"])], how=how, cv=3,
    )  # fmt: skip


MAKERS = [early, late, lambda: late("stacked")]
both = pytest.mark.parametrize("make", MAKERS, ids=["early", "weighted", "stacked"])


@both
def test_fusion_learns_and_its_probabilities_sum_to_one(make):
    (frame, labels), (unseen, truth) = things(), things(seed=1)
    model = make().fit(frame, labels)
    probabilities = model.predict_proba(unseen)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    assert list(model.classes_) == ["car", "cat", "cup"]
    assert model.score(unseen, truth) > 0.75  # chance is 1/3


@both
def test_a_clone_is_unfitted_and_a_pickle_predicts_the_same(make):
    frame, labels = things()
    model = make().fit(frame, labels)
    with pytest.raises(NotFittedError):
        clone(model).predict(frame)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))


@both
def test_settings_of_a_modality_can_be_read_set_and_searched(make):
    frame, labels = things(60)
    model, setting = make(), "text__lowercase" if make is early else "text__tfidfvectorizer__lowercase"
    assert model.get_params()[setting] is True
    model.set_params(**{setting: False})
    assert model.get_params()[setting] is False
    search = GridSearchCV(make(), {setting: [True, False]}, cv=GroupKFold(3)).fit(
        frame, labels, groups=np.arange(60) // 2
    )
    assert search.best_score_ > 0.6


@both
def test_a_modality_can_be_replaced_as_a_whole(make):
    model = make().set_params(structured=StandardScaler(with_mean=False))
    assert model.get_params()["structured"].with_mean is False
    assert model.modalities[2][2] == ["size", "age"]


@both
def test_fitting_leaves_settings_and_data_untouched(make):
    frame, labels = things()
    before, model = frame.copy(deep=True), make()
    model.fit(frame, labels).predict(frame)
    pd.testing.assert_frame_equal(frame, before)
    with pytest.raises(NotFittedError):
        model.modalities[0][1].predict(frame["name"]) if make is not early else model.modalities[0][
            1
        ].transform(["a"])


@both
def test_a_subset_of_the_rows_gives_that_subset_of_the_answers(make):
    frame, labels = things()
    frame.loc[3, "name"] = None
    model, rows = make().fit(frame, labels), [7, 3, 0]
    np.testing.assert_allclose(
        model.predict_proba(frame.iloc[rows]), model.predict_proba(frame)[rows], atol=1e-9
    )


@both
@pytest.mark.parametrize("mark", [None, np.nan])
def test_none_and_nan_mark_a_missing_modality_in_training_and_in_use(make, mark):
    (frame, labels), (unseen, truth) = things(), things(seed=1)
    for each in (frame, unseen):
        each["name"], each["picture"] = each["name"].astype(object), each["picture"].astype(object)
        each.loc[each.index % 3 == 0, "name"] = mark
        each.loc[each.index % 3 == 1, "picture"] = mark
        each.loc[each.index % 5 == 0, ["size", "age"]] = mark
    assert make().fit(frame, labels).score(unseen, truth) > 0.55


@both
def test_a_modality_missing_from_all_rows_at_test_time_is_bridged(make):
    (frame, labels), (unseen, truth) = things(300), things(300, seed=1)
    model = make().fit(frame, labels)
    assert model.score(unseen.assign(name=None), truth) > 0.55
    assert model.score(unseen.assign(picture=None), truth) > 0.6


@both
def test_a_dict_of_arrays_is_as_good_as_a_frame(make):
    frame, labels = things()
    table = {name: frame[name].to_numpy() for name in ("name", "size", "age")}
    table["picture"] = np.stack(frame["picture"])
    np.testing.assert_allclose(
        make().fit(table, labels).predict_proba(table),
        make().fit(frame, labels).predict_proba(frame),
        atol=1e-9,
    )


@both
def test_what_cannot_be_used_is_refused_by_name(make):
    frame, labels = things()
    with pytest.raises(ValueError, match=r"no column .picture.*None in it"):
        make().fit(frame.drop(columns="picture"), labels)
    with pytest.raises(ValueError, match="one label for each of the 90 rows"):
        make().fit(frame, labels[:5])
    with pytest.raises(ValueError, match="'picture' is missing from every row"):
        make().fit(frame.assign(picture=None), labels)
    with pytest.raises(ValueError, match="differ in length"):
        make().fit({"name": ["a"], "size": [1, 2], "age": [1], "picture": [1]}, labels)
    with pytest.raises(TypeError, match="DataFrame or a dict"):
        make().fit([1, 2], labels)


def test_an_unknown_rule_of_late_fusion_is_refused():
    with pytest.raises(ValueError, match="'weighted' or 'stacked'"):
        late("mean").fit(*things())


def test_a_row_that_lacks_everything_gets_the_shares_of_the_classes():
    frame, labels = things()
    model = late().fit(frame, labels)
    nothing = frame.iloc[:2].assign(name=None, picture=None, size=np.nan, age=np.nan)
    np.testing.assert_allclose(model.predict_proba(nothing), np.tile(model.prior_, (2, 1)))


def test_late_fusion_keeps_groups_together_when_it_learns_its_weights():
    frame, labels = things(60)
    frame["name"] = [f"word{i // 2}" for i in range(60)]  # a name tells the class only to who saw its twin
    labels = np.repeat(np.random.default_rng(0).choice(["cat", "car", "cup"], 30), 2)
    apart, together = late().fit(frame, labels), late().fit(frame, labels, groups=np.arange(60) // 2)
    names = ("text", "picture", "structured")
    assert together.weights_[names][0] < 0.5 * apart.weights_[names][0]


def test_a_modality_of_pure_noise_gets_next_to_no_say():
    frame, labels = things(300)
    model = late().fit(frame, labels)
    say = model.weights_[("text", "picture", "structured")] * model.log_probabilities(frame).std(axis=(1, 2))
    assert say[2] < 0.2 * min(say[0], say[1])


def test_fit_weights_finds_the_optimum_of_a_fine_grid():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    said = np.log(
        rng.dirichlet(np.ones(3), (2, 400)) + np.array([0.5, 0.2])[:, None, None] * np.eye(3)[labels]
    )

    def loss(a, b):
        return -late_fusion(said, np.array([a, b]))[np.arange(400), labels].mean()

    found, grid = fit_weights(said, labels), np.linspace(0, 6, 61)
    assert loss(*found) <= min(loss(a, b) for a in grid for b in grid) + 1e-6


def net(fusion="concat", count=3, width=8, **dims):
    torch.manual_seed(0)
    dims = dims or {"text": 6, "picture": 5, "speech": 4}
    return FusionNet({name: vector_encoder(dim, width, 0.0) for name, dim in dims.items()}, count, width=width,
                     fusion=fusion, dropout=0.0)  # fmt: skip


def batch(rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(rows, d, generator=generator)
        for n, d in {"text": 6, "picture": 5, "speech": 4}.items()
    }


every_fusion = pytest.mark.parametrize("fusion", list(FUSIONS))


def tensors_in(thing, seen=None):
    """Every float tensor that can be reached from `thing` through attributes, lists, tuples and dicts."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return [thing] if thing.is_floating_point() else []
    if isinstance(thing, dict):
        parts = list(thing.values())
    elif isinstance(thing, (list, tuple, set)):
        parts = list(thing)
    else:
        parts = (
            list(vars(thing).values()) if hasattr(thing, "__dict__") and not isinstance(thing, type) else []
        )
    return [tensor for part in parts for tensor in tensors_in(part, seen)]


@every_fusion
def test_every_float_tensor_of_the_network_is_saved(fusion):
    network = net(fusion)
    saved = {tensor.data_ptr() for tensor in network.state_dict().values()}
    found = tensors_in(network)
    assert len(found) > 10
    assert all(tensor.data_ptr() in saved for tensor in found)


def test_the_walk_would_notice_a_tensor_hidden_in_a_list():
    network = net()
    network.hidden = [torch.zeros(3)]
    saved = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not all(tensor.data_ptr() in saved for tensor in tensors_in(network))


@every_fusion
def test_every_parameter_gets_a_gradient(fusion):
    network = net(fusion)
    present = {"text": torch.tensor([1, 0, 1, 1, 0, 1]).bool(), "picture": torch.tensor([1, 1, 0, 1, 1, 0]).bool(),
               "speech": torch.tensor([0, 1, 1, 1, 1, 1]).bool()}  # fmt: skip
    out = network(batch(), present)
    (out.logits.square().sum() + sum(logits.square().sum() for logits in out.unimodal.values())).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@every_fusion
def test_saved_weights_bring_back_the_same_answers(fusion, tmp_path):
    network, other = net(fusion), net(fusion)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    torch.testing.assert_close(other.eval()(batch()).logits, network.eval()(batch()).logits, rtol=0, atol=0)


@every_fusion
def test_neither_the_order_of_the_rows_nor_that_of_the_names_matters(fusion):
    network, inputs = net(fusion).eval(), batch()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = {name: inputs[name][order] for name in ("speech", "text", "picture")}
    torch.testing.assert_close(network(turned).logits, network(inputs).logits[order])
    renamed = net(fusion, speech=4, text=6, picture=5).eval()
    renamed.load_state_dict(network.state_dict())
    torch.testing.assert_close(renamed(inputs).logits, network(inputs).logits)


@every_fusion
@pytest.mark.parametrize("rubbish", [0.0, 1e9, float("nan")])
def test_what_a_missing_modality_holds_is_never_looked_at(fusion, rubbish):
    network, inputs = net(fusion), batch()
    present = {"picture": torch.tensor([True, False, True, True, False, True])}
    spoilt = {**inputs, "picture": inputs["picture"].masked_fill(~present["picture"][:, None], rubbish)}
    network.eval()
    torch.testing.assert_close(
        network(spoilt, present).logits, network(inputs, present).logits, rtol=0, atol=0
    )
    network(spoilt, present).logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@every_fusion
def test_a_missing_modality_stands_for_its_null_token_and_nothing_else(fusion):
    network, inputs = net(fusion).eval(), batch()
    gone = {"text": torch.zeros(6, dtype=torch.bool)}
    before = network(inputs, gone)
    with torch.no_grad():
        network.null["text"] += torch.linspace(-2, 1, 8)
    assert not torch.allclose(network(inputs, gone).logits, before.logits)
    torch.testing.assert_close(network(inputs).logits, network(inputs, {}).logits)


def test_the_head_of_one_modality_sends_nothing_to_the_encoder_of_another():
    network = net()
    network(batch()).unimodal["text"].sum().backward()
    assert all(p.grad is None for p in network.encoders["picture"].parameters())
    assert all(p.grad is not None for p in network.encoders["text"].parameters())


def test_a_modality_missing_from_the_whole_batch_gets_no_gradient_in_its_encoder():
    network = net()
    network(batch(), {"picture": torch.zeros(6, dtype=torch.bool)}).logits.sum().backward()
    assert all(p.grad is None for p in network.encoders["picture"].parameters())
    assert network.null["picture"].grad.abs().sum() > 0


def test_names_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="knows the modalities"):
        net()({"text": torch.zeros(2, 6)})
    with pytest.raises(ValueError, match="present names \\['smell'\\]"):
        net()(batch(), {"smell": torch.ones(6, dtype=torch.bool)})
    with pytest.raises(ValueError, match="fusion must be one of concat, gated, attention, tensor"):
        net("sum")


def test_low_rank_tensor_fusion_is_a_linear_layer_on_the_outer_product():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64)
    factors = torch.randn(3, 5, 3, 6, generator=generator, dtype=torch.float64)
    weights = torch.randn(5, generator=generator, dtype=torch.float64)
    slow = torch.zeros(4, 6, dtype=torch.float64)
    for b in range(4):
        a, v, t = (torch.cat([codes[b, m], torch.ones(1, dtype=torch.float64)]) for m in range(3))
        outer = a[:, None, None] * v[None, :, None] * t[None, None, :]
        for h in range(6):
            tensor = sum(
                weights[r] * factors[0, r, :, h][:, None, None] * factors[1, r, :, h][None, :, None]
                * factors[2, r, :, h][None, None, :] for r in range(5)
            )  # fmt: skip
            slow[b, h] = (outer * tensor).sum()
    # float64 sums of 27 products of numbers near 1: rounding is near 1e-15
    torch.testing.assert_close(low_rank_tensor_fusion(codes, factors, weights), slow, rtol=1e-10, atol=1e-10)


def test_gates_are_shares_so_equal_codes_come_out_unchanged():
    code = torch.randn(5, 1, 4).expand(5, 3, 4)
    torch.testing.assert_close(gated_fusion(code, torch.randn(12, 12), torch.randn(12)), code[:, 0])


def test_late_fusion_with_all_weight_on_one_modality_is_that_modality():
    said = np.log(np.random.default_rng(0).dirichlet(np.ones(4), (3, 7)))
    np.testing.assert_allclose(late_fusion(said, np.array([0, 1, 0])), said[1], atol=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_modality_dropout_leaves_every_row_something_and_invents_nothing(p):
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(5000, 4, generator=generator) < 0.6
    present[~present.any(1), 0] = True
    left = modality_dropout(present, p, generator)
    assert left.any(1).all() and not (left & ~present).any()
    if p == 1:
        assert (left.sum(1) == 1).all()
    if p == 0:
        assert (left == present).all()


def test_modality_dropout_hides_as_often_as_it_says():
    present = torch.ones(40_000, 3, dtype=torch.bool)
    left = modality_dropout(present, 0.4, torch.Generator().manual_seed(0))
    # A row that would lose all three keeps one: each is hidden in 0.4 - 0.4**3 / 3 of the rows; four sd is 0.01.
    torch.testing.assert_close((~left).float().mean(0), torch.full((3,), 0.4 - 0.4**3 / 3), rtol=0, atol=0.01)


def test_modality_dropout_of_a_row_with_nothing_stays_nothing():
    assert not modality_dropout(torch.zeros(3, 2, dtype=torch.bool), 0.5, torch.Generator()).any()


@every_fusion
def test_training_learns_and_the_same_seed_gives_the_same_network(fusion):
    labels = torch.arange(90) % 3
    inputs = {
        name: values + 2 * torch.nn.functional.one_hot(labels, values.shape[1])
        for name, values in batch(90).items()
    }
    first, second = (
        train_fusion(
            net(fusion), inputs, labels, steps=120, batch_size=32, lr=1e-2, drop=0.3, unimodal_weight=0.3
        )
        for _ in range(2)
    )
    assert (predict_fusion(first, inputs).logits.argmax(1) == labels).float().mean() > 0.8
    torch.testing.assert_close(predict_fusion(first, inputs).logits, predict_fusion(second, inputs).logits)


def test_prediction_in_parts_equals_prediction_at_once():
    network, inputs = net().eval(), batch(1500)
    present = {"text": torch.rand(1500, generator=torch.Generator().manual_seed(0)) < 0.5}
    torch.testing.assert_close(
        predict_fusion(network, inputs, present).logits, network(inputs, present).logits
    )
