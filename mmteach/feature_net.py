"""The one fixed network that all distances between sets of pictures are measured in, and the recipe it came from.

Used by notebooks 04, 05, 07 and 08 through `picture_features`; shipped as data/pretrained/features.safetensors.
It stands where the Inception network stands in Heusel et al. 2017 (arXiv:1706.08500), and knows emoji.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from mmteach.data import TRAIN_STYLES, MultimodalDataset, load_emoji, training_rows
from mmteach.encoders import PictureNet, as_ink, augment_ink, coarse_log_probs
from mmteach.engine import Stateful, run_steps
from mmteach.train import batches, check_pictures, device, one_cycle, seed_everything
from mmteach.weights import Trained, as_stored, load_weights, pretrained_folder

NAME = "emoji-features-1"
DIM = 64  # few, because real sets are small: the Fréchet distance of two halves grows with the dimension
SIZE = 32
STEPS = 1500


class FeatureNet(nn.Module):
    """A picture to 64 numbers, each of mean 0 and variance 1 over the training pictures, and four readings of them.

    The 64 must tell subgroup, group and style, and the picture's own 4x4 thumbnail, so that they keep the colours.
    """

    def __init__(self, subgroups: int, styles: int, *, width: int = 32) -> None:
        super().__init__()
        self.body = PictureNet(1, width=width).body
        self.narrow = nn.Sequential(
            nn.Linear(4 * 8 * width, DIM, bias=False), nn.BatchNorm1d(DIM, affine=False)
        )
        self.subgroup, self.style = nn.Linear(DIM, subgroups), nn.Linear(DIM, styles)
        self.thumbnail = nn.Linear(DIM, 3 * 4 * 4)

    def forward(self, ink: Tensor) -> Tensor:
        """Return features (B, 64) of ink (B, 3, 32, 32), 0 for white and 1 for full ink."""
        quarters = F.adaptive_max_pool2d(self.body(ink), 2)  # where in the picture matters, roughly
        return self.narrow(quarters.flatten(1))


def picture_features(images: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Return the features float32 (N, 64) of pictures uint8 (N, S, S, C), S in 28, 32, 64 and C in 1, 3.

    Pictures are brought to 32x32, grey ones repeated in three channels. The figures made of these features belong to
    the network called NAME and to no other. Raises ValueError on other pictures, DataError without the weights.
    """
    check_pictures(images)
    net = _shipped(pretrained_folder())
    return embed(net, images, batch_size)


@torch.no_grad()
def embed(net: FeatureNet, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the features float32 (N, 64) of pictures uint8 (N, S, S, C) by `net`, without reduced precision."""
    where = next(net.parameters()).device
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        parts = [
            net(as_ink(to_size(_tensor(images[start : start + batch_size]).to(where))))
            for start in range(0, len(images), batch_size)
        ]
    return torch.cat(parts).float().cpu().numpy()


def _tensor(images: np.ndarray) -> Tensor:
    """Return the array as a tensor, copied only where torch cannot read it: a view turned backwards, or read-only."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def to_size(pictures: Tensor) -> Tensor:
    """Return uint8 pictures (B, S, S, C) as uint8 (B, 3, 32, 32): averaged down, or interpolated up from 28."""
    x = pictures.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
    if x.shape[-1] == SIZE:
        return x
    x = x.float()
    if x.shape[-1] == 2 * SIZE:
        x = F.avg_pool2d(x, 2)
    else:
        x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return x.round().byte()


def at_32(images: np.ndarray) -> np.ndarray:
    """Return pictures uint8 (N, S, S, C) as the network sees them, uint8 (N, 32, 32, 3)."""
    check_pictures(images)
    return to_size(_tensor(images)).permute(0, 2, 3, 1).contiguous().numpy()


def load_pretrained(name: str | None = None, folder: Path | None = None) -> FeatureNet:
    """Return the shipped network in eval mode, on the training device; DataError when it is missing or damaged."""
    config, state = load_weights(name or "features", folder)
    if config.get("name") != NAME:
        raise ValueError(f"these are the weights of {config.get('name')!r}, and this code knows {NAME!r}")
    net = FeatureNet(**config["model"])
    net.load_state_dict(state)
    return net.to(device()).eval()


@lru_cache(maxsize=2)
def _shipped(folder: Path) -> FeatureNet:
    return load_pretrained(folder=folder)


def pretrain(*, steps: int | None = None, seed: int = 0, checkpoint: Path | None = None) -> Trained:
    """Train the network on real pictures of the training split, OpenMoji and held-out pairs left out."""
    dataset = load_emoji()
    labels = _labels(dataset)
    rows = training_rows(dataset)
    net = train_feature_net(
        dataset.images[rows], {k: v[rows] for k, v in labels.items()},
        steps=steps or STEPS, seed=seed, checkpoint=checkpoint,
    )  # fmt: skip
    model = {"subgroups": len(net.subgroup.bias), "styles": len(net.style.bias)}
    as_stored(net)
    facts = {
        "title": f"{NAME}: the network behind the distances",
        "about": ABOUT,
        "recipe": {
            "training pictures": f"{len(rows)} of the split train, styles {', '.join(TRAIN_STYLES)}",
            "left out": "OpenMoji, held-out pairs, val and test",
            "steps": steps or STEPS, "batch": BATCH, "optimiser": "AdamW, 4e-3, one cycle, weight decay 0.05",
            "augmentation": "flips; moves at 0.7 and tints at 0.25 of the strength of encoders.augment_ink",
            "loss": "cross-entropy of subgroup, of group and of style, and 2 x squared error of the 4x4 thumbnail",
        },
        "seed": seed,
        "metrics": {part: readings(net, dataset, labels, r) for part, r in _parts(dataset).items()},
        "metrics are": "share of pictures whose subgroup (of 95), group (of 8) and style (of 7) is read right",
        "noticed": noticed(net, dataset.images[dataset.rows("val", TRAIN_STYLES)]),
        "noticed is": NOTICED,
    }  # fmt: skip
    return Trained(net, {"name": NAME, "model": model}, facts, None)


ABOUT = (
    "It turns a 32x32 picture into 64 numbers. Distances between sets of pictures (Fréchet, kernel, precision, recall, "
    "density, coverage, nearest neighbours) are taken between those. Figures from another network, Inception among "
    "them, cannot be compared with these: the name stands beside every figure."
)
NOTICED = (
    "what the distances say of real val pictures that were damaged, against the same pictures whole; the first row is "
    "the floor, two random halves of them scaled to all; below it are rows that keep the same pictures, for then there "
    "is no luck of the draw"
)
BATCH = 128


def train_feature_net(
    images: np.ndarray, labels: dict[str, np.ndarray], *, steps: int, seed: int = 0, checkpoint: Path | None = None
) -> FeatureNet:  # fmt: skip
    """Train on uint8 pictures (N, S, S, C); labels: 'subgroup', 'style' and 'group', int64 (N,) each.

    Augmentation is mild, lest the features forget colour and place. Returns the network in eval mode.
    """
    generator, where = seed_everything(seed), device()
    pixels = to_size(_tensor(images)).to(where)
    target = {name: torch.from_numpy(each).to(where) for name, each in labels.items()}
    coarse = torch.zeros(int(target["subgroup"].max()) + 1, dtype=torch.int64, device=where)
    coarse[target["subgroup"]] = target["group"]
    net = FeatureNet(len(coarse), int(target["style"].max()) + 1).to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)

    def step(pick: Tensor, _: int) -> dict[str, Tensor]:
        pick = pick.to(where)
        ink = augment_ink(as_ink(pixels[pick]), torch.default_generator, move=0.7, tint=0.25)
        losses = _losses(net, ink, {name: each[pick] for name, each in target.items()}, coarse)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
        return {name: loss.detach() for name, loss in losses.items()}

    parts: dict[str, Stateful] = {"net": net.train(), "optimizer": optimizer, "schedule": schedule}
    about = {"steps": steps, "seed": seed, "images": images, **labels}
    picks = batches(len(pixels), BATCH, steps, generator)
    run_steps(step, picks, parts=parts, about=about, checkpoint=checkpoint)
    return net.eval()


def _losses(net: FeatureNet, ink: Tensor, target: dict[str, Tensor], coarse: Tensor) -> dict[str, Tensor]:
    features = net(ink)
    scores = net.subgroup(features)
    thumbnail = F.adaptive_avg_pool2d(ink, 4).flatten(1)
    return {
        "subgroup": F.cross_entropy(scores, target["subgroup"], label_smoothing=0.1),
        "group": F.nll_loss(coarse_log_probs(scores, coarse), target["group"]),
        "style": F.cross_entropy(net.style(features), target["style"], label_smoothing=0.1),
        "thumbnail": 2 * F.mse_loss(net.thumbnail(features), thumbnail) / thumbnail.var(),
    }


def _labels(dataset: MultimodalDataset) -> dict[str, np.ndarray]:
    """Return subgroup, group and style of every picture as codes int64 (N,), -1 for a style never trained on."""
    of = dataset.concepts.loc[dataset.items["concept"]]
    codes = {k: np.unique(of[k].to_numpy(str), return_inverse=True)[1] for k in ("subgroup", "group")}
    style = [TRAIN_STYLES.index(s) if s in TRAIN_STYLES else -1 for s in dataset.items["style"]]
    return {**codes, "style": np.array(style)}


def _parts(dataset: MultimodalDataset) -> dict[str, np.ndarray]:
    return {
        "train": training_rows(dataset),
        "held-out pairs": dataset.rows("train", TRAIN_STYLES, held_out=True),
        "val": dataset.rows("val", TRAIN_STYLES),
    }


@torch.no_grad()
def readings(
    net: FeatureNet, dataset: MultimodalDataset, labels: dict[str, np.ndarray], rows: np.ndarray
) -> dict[str, float]:
    """Return the share of pictures whose subgroup, group and style the network's own linear readings get right."""
    features = torch.from_numpy(embed(net, dataset.images[rows])).to(net.subgroup.weight.device)
    subgroup = net.subgroup(features).argmax(1).cpu().numpy()
    style = net.style(features).argmax(1).cpu().numpy()
    group_of = dict(zip(labels["subgroup"], labels["group"], strict=True))
    group = np.array([group_of[each] for each in subgroup])
    said: dict[str, Any] = {"subgroup": subgroup, "group": group, "style": style}
    return {name: float((each == labels[name][rows]).mean()) for name, each in said.items()}


def noticed(net: FeatureNet, images: np.ndarray) -> dict[str, dict[str, float]]:
    """Return what the distances say of damaged copies of pictures uint8 (N, 64, 64, 3) against the whole ones."""
    from mmteach.report import compare, real_floor  # they measure with this module's network

    whole, small = embed(net, images), at_32(images)
    rng, count = np.random.default_rng(0), len(images)
    x, few = small.astype(np.float32), rng.permutation(count)[: count // 4]
    damaged = {
        "noise of 10 grey levels": x + rng.normal(0, 10, x.shape), "noise of 30": x + rng.normal(0, 30, x.shape),
        "halved in size and doubled": x[:, ::2, ::2].repeat(2, 1).repeat(2, 2), "30 % paler": 255 - 0.7 * (255 - x),
        "blurred by one pixel": gaussian_filter(x, (0, 1, 1, 0)), "red for blue": x[..., ::-1],
        "a quarter of them, four times": x[few.repeat(4)], "one of them": x[few[:1].repeat(count)],
    }  # fmt: skip
    said = {"nothing": {name: each.mean for name, each in real_floor(whole, count).items()}}
    for name, pictures in damaged.items():
        spoilt = np.ascontiguousarray(pictures.clip(0, 255).round().astype(np.uint8))
        said[name] = compare(whole, embed(net, spoilt))[0]
    return said
