"""The frozen judge: a network that reads group, subgroup and style from a picture, and the recipe it came from.

Used by notebooks 07 and 08 through `load_pretrained`; shipped as data/pretrained/judge.safetensors. It learned from
real pictures alone, and it is never used to choose samples: whoever picks by a judge can no longer be judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.data import TRAIN_STYLES, MultimodalDataset, load_emoji
from mmteach.data import training_rows as training_rows
from mmteach.encoders import as_ink, coarse_log_probs
from mmteach.engine import Stateful, run_steps
from mmteach.feature_net import at_32
from mmteach.metrics import bootstrap_interval
from mmteach.train import batches, device, one_cycle, seed_everything
from mmteach.weights import Trained, as_stored, load_weights

NAME = "emoji-judge-1"
STEPS, BATCH, LR = 2400, 128, 4e-3
LEVELS = ("group", "subgroup", "style")


class JudgeNet(nn.Module):
    """A picture to scores of subgroups and of styles: (B, 3, 32, 32) ink, 0 for white -> two (B, classes).

    What is drawn is read from the last maps; the manner it is drawn in, from means and mean squares of all
    maps, as textures are.
    """

    def __init__(self, subgroups: int, styles: int, *, widths: tuple[int, int, int] = (32, 96, 160)) -> None:
        super().__init__()
        fine, middle, wide = widths
        self.fine = nn.Sequential(nn.PixelUnshuffle(2), _conv(12, fine))  # 16x16
        self.middle = nn.Sequential(_conv(fine, 2 * fine, 2), _conv(2 * fine, middle), _conv(middle, middle))
        self.wide = _conv(middle, wide, 2)  # 4x4
        self.dim = wide
        self.dropout = nn.Dropout(0.2)
        self.subgroup = nn.Linear(wide, subgroups)
        self.style = nn.Linear(2 * sum(widths), styles)

    def maps(self, ink: Tensor) -> list[Tensor]:
        """Return the feature maps at 16x16, 8x8 and 4x4."""
        fine = self.fine(ink)
        middle = self.middle(fine)
        return [fine, middle, self.wide(middle)]

    def heads(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is drawn as a vector (B, dim), and the scores of subgroup and style."""
        thing = self.dropout(maps[-1].amax((2, 3)))
        manner = torch.cat([each for x in maps for each in (x.mean((2, 3)), x.square().mean((2, 3)))], 1)
        return thing, self.subgroup(thing), self.style(self.dropout(manner))

    def forward(self, ink: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.maps(ink))[1:]


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.SiLU(),
    )


@dataclass(frozen=True)
class Judge:
    """The network with the names of what it reads; `group_of` is the group's number of each subgroup."""

    net: JudgeNet
    groups: tuple[str, ...]
    subgroups: tuple[str, ...]
    styles: tuple[str, ...]
    group_of: tuple[int, ...]

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return what pictures uint8 (N, S, S, C) show: 'group', 'subgroup' and 'style', names (N,) each.

        S in 28, 32, 64 and C in 1, 3, as in `feature_net.at_32`. Raises ValueError on other pictures.
        """
        names = dict(zip(LEVELS, (self.groups, self.subgroups, self.styles), strict=True))
        return {
            level: np.array(names[level])[said.argmax(1)] for level, said in self.log_probs(images).items()
        }

    @torch.no_grad()
    def log_probs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return log-probabilities of pictures uint8 (N, S, S, C): level -> float32 (N, classes).

        A group is as likely as its subgroups together.
        """
        where, coarse = next(self.net.parameters()).device, torch.tensor(self.group_of)
        found: dict[str, list[Tensor]] = {level: [] for level in LEVELS}
        for part in torch.from_numpy(at_32(images)).permute(0, 3, 1, 2).split(256):
            subgroup, style = (scores.float().cpu() for scores in self.net(as_ink(part.to(where))))
            said = (coarse_log_probs(subgroup, coarse), subgroup.log_softmax(1), style.log_softmax(1))
            for level, scores in zip(LEVELS, said, strict=True):
                found[level].append(scores)
        return {level: torch.cat(each).numpy() for level, each in found.items()}


def load_pretrained(name: str | None = None, device: torch.device | str = "cpu") -> Judge:
    """Return the shipped judge in eval mode. Raises DataError when the weights are missing or damaged."""
    config, state = load_weights(name or "judge")
    if config.get("name") != NAME:
        raise ValueError(f"these are the weights of {config.get('name')!r}, and this code knows {NAME!r}")
    net = JudgeNet(len(config["subgroups"]), len(config["styles"]))
    net.load_state_dict(state)
    return _judge(net.to(device), config)


def _judge(net: JudgeNet, names: Mapping[str, Any]) -> Judge:
    lists = {key: tuple(names[key]) for key in ("groups", "subgroups", "styles", "group_of")}
    return Judge(net.eval().requires_grad_(False), **lists)


def spoil(ink: Tensor) -> Tensor:
    """Return ink (B, 3, S, S) moved by whole pixels, mirrored, paler or darker, a patch wiped out, blurred, noisy.

    Nothing is turned or stretched, for resampling would wipe out the marks of a style; blur and noise are mild, so
    that a picture back from a codebook can be read as well.
    """
    count, size = len(ink), ink.shape[-1]
    draw = torch.rand(6, count, 1, 1, 1, device=ink.device)
    x = torch.where(draw[0] < 0.5, ink.flip(3), ink) * (0.9 + 0.2 * draw[1])
    x = _shift(x, 2)
    soft = F.avg_pool2d(x, 3, 1, 1)
    x = x.lerp(soft, 0.6 * draw[2] * (draw[3] < 0.5))
    x = x + 0.05 * draw[4] * torch.randn_like(x)
    along = torch.arange(size, device=ink.device)
    corner = torch.randint(-4, size, (2, count, 1), device=ink.device)
    rows, columns = ((along >= each) & (along < each + 10) for each in corner)
    hole = (rows[:, None, :, None] & columns[:, None, None, :]) & (draw[5] < 0.3)
    return x.masked_fill(hole, 0).clamp(0, 1).contiguous(memory_format=torch.channels_last)


def _shift(x: Tensor, reach: int) -> Tensor:
    """Move each picture by up to `reach` pixels each way; white comes in."""
    count, size = len(x), x.shape[-1]
    top, left = torch.randint(2 * reach + 1, (2, count, 1), device=x.device)
    along, which = torch.arange(size, device=x.device), torch.arange(count, device=x.device)[:, None, None]
    padded = F.pad(x, (reach,) * 4).permute(0, 2, 3, 1)
    return padded[which, (top + along)[:, :, None], (left + along)[:, None]].permute(0, 3, 1, 2)


def train_judge(
    images: np.ndarray, labels: Mapping[str, np.ndarray], *, steps: int, seed: int = 1, checkpoint: Path | None = None
) -> JudgeNet:  # fmt: skip
    """Train on uint8 pictures (N, S, S, C); labels 'group', 'subgroup', 'style', 'concept', int64 (N,) each.

    A reading of the concept itself helps in training, for one concept looks different in every style, and is then
    thrown away. Returns the network in eval mode.
    """
    generator, where = seed_everything(seed), device()
    pixels = torch.from_numpy(at_32(images)).permute(0, 3, 1, 2).contiguous().to(where)
    target = {name: torch.from_numpy(each).to(where) for name, each in labels.items()}
    sizes = {name: int(each.max()) + 1 for name, each in target.items()}
    coarse = torch.zeros(sizes["subgroup"], dtype=torch.int64, device=where)
    coarse[target["subgroup"]] = target["group"]
    net = JudgeNet(sizes["subgroup"], sizes["style"]).to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    concept = nn.Linear(net.dim, sizes["concept"]).to(where)
    optimizer = torch.optim.AdamW([*net.parameters(), *concept.parameters()], lr=LR, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)

    def step(pick: Tensor, _: int) -> dict[str, Tensor]:
        pick = pick.to(where)
        thing, subgroup, style = net.heads(net.maps(spoil(as_ink(pixels[pick]))))
        right = {name: each[pick] for name, each in target.items()}
        losses = {
            "subgroup": F.cross_entropy(subgroup, right["subgroup"], label_smoothing=0.1),
            "group": F.nll_loss(coarse_log_probs(subgroup, coarse), right["group"]),
            "style": F.cross_entropy(style, right["style"], label_smoothing=0.1),
            "concept": F.cross_entropy(concept(thing), right["concept"], label_smoothing=0.1),
        }
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
        return {name: loss.detach() for name, loss in losses.items()}

    parts: dict[str, Stateful] = {
        "net": net.train(), "concept": concept.train(), "optimizer": optimizer, "schedule": schedule,
    }  # fmt: skip
    about = {"steps": steps, "seed": seed, "images": images, **labels}
    picks = batches(len(pixels), BATCH, steps, generator)
    run_steps(step, picks, parts=parts, about=about, checkpoint=checkpoint)
    return net.eval()


def pretrain(*, steps: int | None = None, seed: int = 0, checkpoint: Path | None = None) -> Trained:
    """Train the judge on real pictures of the training split, OpenMoji and held-out pairs left out."""
    dataset = load_emoji()
    names = _names(dataset)
    rows = training_rows(dataset)
    net = train_judge(
        dataset.images[rows], _labels(dataset, rows, names),
        steps=steps or STEPS, seed=seed + 1, checkpoint=checkpoint,
    )  # fmt: skip
    as_stored(net)
    facts = {
        "title": f"{NAME}: the judge of drawn pictures",
        "about": ABOUT,
        "recipe": {
            "training pictures": f"{len(rows)} of the split train, styles {', '.join(TRAIN_STYLES)}, all of them real",
            "left out": "OpenMoji, held-out pairs, val and test; no picture from a model",
            "steps": steps or STEPS, "batch": BATCH, "optimiser": f"AdamW, {LR:g}, one cycle, weight decay 0.05",
            "augmentation": "mirroring, moves by whole pixels, paler and darker, a patch wiped out, mild blur "
            "and noise",
            "loss": "cross-entropy of subgroup, of group, of style, and of the concept, whose reading is not shipped",
            "not the measuring network": "another network, seed and augmentation than emoji-features-1",
        },
        "seed": seed,
        "metrics": figures(_judge(net, names), dataset),
        "metrics are": METRICS,
    }  # fmt: skip
    return Trained(net, {"name": NAME, **names}, facts, None)


ABOUT = (
    "It reads the group (of 8), the subgroup (of 95) and the style (of 7) from a 32x32 picture. Notebooks 07 and 08 "
    "ask it whether a drawn picture shows what was asked for. It is never used to choose samples, settings or models: "
    "whoever picks by a judge can no longer be judged by it."
)
METRICS = (
    "share of pictures read right, with its 95 % interval over families; held-out pairs show a concept known from "
    "other styles, val and test are families never seen, and the rows below are the same pictures back from the 64 "
    "codes of the shipped VQ-VAE, which is what a drawn picture looks like at best"
)


def figures(judge: Judge, dataset: MultimodalDataset) -> dict[str, dict[str, Any]]:
    """Return the share read right of every part, and of the same pictures after a round trip through the VQ-VAE."""
    from mmteach.vqvae import load_pretrained as load_vqvae
    from mmteach.vqvae import reconstruct

    parts = {
        "train": training_rows(dataset),
        "held-out pairs": dataset.rows("train", TRAIN_STYLES, held_out=True),
        "val": dataset.rows("val", TRAIN_STYLES),
        "test": dataset.rows("test", TRAIN_STYLES),
        "OpenMoji, test": dataset.rows("test", "openmoji"),
    }
    found = {part: shares(judge, dataset, rows) for part, rows in parts.items()}
    model = load_vqvae()
    for part in ("held-out pairs", "test"):
        drawn = reconstruct(model, at_32(dataset.images[parts[part]]))
        found[f"{part}, back from their codes"] = shares(judge, dataset, parts[part], drawn)
    return found


def shares(
    judge: Judge, dataset: MultimodalDataset, rows: np.ndarray, images: np.ndarray | None = None
) -> dict[str, Any]:
    """Return how many of these rows are read right, from `images` in place of their own: level -> figure, as text."""
    said, right = judge.read(dataset.images[rows] if images is None else images), truth(dataset, rows)
    family = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "family"].to_numpy()
    known = [level for level in LEVELS if np.isin(right[level], getattr(judge, f"{level}s")).all()]
    return {"pictures": len(rows)} | {
        level: str(bootstrap_interval(said[level] == right[level], family)) for level in known
    }


def truth(dataset: MultimodalDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return group, subgroup and style of rows as names (N,)."""
    items = dataset.items.iloc[rows]
    of = dataset.concepts.loc[items["concept"]]
    return {
        "group": of["group"].to_numpy(str), "subgroup": of["subgroup"].to_numpy(str),
        "style": items["style"].to_numpy(str),
    }  # fmt: skip


def _names(dataset: MultimodalDataset) -> dict[str, list[Any]]:
    pairs = dataset.concepts[["group", "subgroup"]].drop_duplicates().sort_values("subgroup")
    groups = sorted(pairs["group"].unique())
    return {
        "groups": groups, "subgroups": list(pairs["subgroup"]), "styles": list(TRAIN_STYLES),
        "group_of": [groups.index(each) for each in pairs["group"]],
    }  # fmt: skip


def _labels(
    dataset: MultimodalDataset, rows: np.ndarray, names: Mapping[str, list[Any]]
) -> dict[str, np.ndarray]:
    right = truth(dataset, rows)
    codes = {level: np.array([names[f"{level}s"].index(x) for x in right[level]]) for level in LEVELS}
    concept = np.unique(dataset.items["concept"].to_numpy(str)[rows], return_inverse=True)[1]
    return {**codes, "concept": concept.astype(np.int64)}
