"""Our training beside others', in one run on this machine: `python -m mmteach bench`.

At equal networks, pictures, seeds and steps: quantizers; at equal time: GAN loops. Arms take turns of a few steps, and
speeds are medians over the turns, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmteach import peers
from mmteach.data import TRAIN_STYLES, load_emoji
from mmteach.distances import frechet_distance
from mmteach.encoders import small
from mmteach.feature_net import NAME, picture_features
from mmteach.gan import TrainedGan, train_gan
from mmteach.peers import CODERS, Coder, Dcgan
from mmteach.solutions import perplexity
from mmteach.study_gan import faces
from mmteach.train import batches, device, to_float

BATCH, GAN_BATCH, LR = 64, 32, 2e-3
INSTALL = 'python -m pip install -e ".[bench]"'


@dataclass(frozen=True)
class Plan:
    """How much is measured: turns of `turn` steps for coders and of `seconds` for GANs, pictures drawn at the end."""

    rounds: int
    turn: int
    gan_rounds: int
    seconds: float
    drawn: int = 1000


FULL = Plan(rounds=16, turn=15, gan_rounds=10, seconds=5)
QUICK = Plan(rounds=4, turn=8, gan_rounds=2, seconds=4)


@dataclass
class Contestant:
    """A coder in training, with the seconds that each of its turns took."""

    coder: Coder
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    picks: Any
    seconds: list[float] = field(default_factory=list)

    def turn(self, data: Tensor, steps: int) -> None:
        """Train `steps` steps on uint8 pictures (N, 32, 32, 3)."""
        began = time.perf_counter()
        for _ in range(steps):
            x = to_float(data[next(self.picks).to(data.device)])
            self.optimizer.zero_grad(set_to_none=True)
            self.coder.loss(x.contiguous(memory_format=torch.channels_last)).backward()
            self.optimizer.step()
            self.schedule.step()
        if data.is_cuda:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - began)


def contestant(name: str, count: int, steps: int, seed: int) -> Contestant:
    """Return the coder called `name` ready to train: all get one recipe. Raises ImportError without its package."""
    coder = CODERS[name][1](seed)
    coder.model.to(device(), memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(coder.model.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.1)
    picks = batches(count, BATCH, steps, torch.Generator().manual_seed(seed))
    return Contestant(coder, optimizer, schedule, picks)


def compare_coders(
    train: np.ndarray, test: np.ndarray, *, rounds: int, turn: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Train every coder `rounds` turns of `turn` steps, in turns; return a row of figures for each."""
    entered: dict[str, Contestant] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, (package, _) in CODERS.items():
        try:
            entered[name] = contestant(name, len(train), rounds * turn, seed)
        except ImportError:
            rows[name] = {"name": name, "missing": f"{package} is not installed: {INSTALL}"}
    data = torch.from_numpy(train).to(device())
    for number in range(rounds):
        print(f"quantizers, turn {number + 1} of {rounds}", file=sys.stderr, flush=True)
        order = list(entered.values())
        for each in order[number % len(order) :] + order[: number % len(order)]:
            each.turn(data, turn)
    for name, each in entered.items():
        speed = turn / statistics.median(each.seconds)
        rows[name] = {"name": name, "steps_per_second": speed, **held_out(each.coder, test)}
    for name, seconds in alone({name: each.coder for name, each in entered.items()}).items():
        rows[name]["quantizer_ms"] = 1000 * seconds
    return [rows[name] for name in CODERS]


def alone(coders: dict[str, Coder], rounds: int = 15) -> dict[str, float]:
    """Return the median seconds of one step of each quantizer by itself, forwards and backwards; its codes move."""
    z_e = torch.randn(BATCH, peers.DIM, 8, 8, device=device()).contiguous(memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {name: [] for name in coders}
    for _ in range(rounds):
        for name, coder in coders.items():
            coder.model.train()
            z = z_e.clone().requires_grad_()
            began = time.perf_counter()
            z_q, loss = coder.quantize(z)
            (z_q.square().mean() + loss).backward()
            if z.is_cuda:
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


@torch.no_grad()
def held_out(coder: Coder, images: np.ndarray) -> dict[str, float]:
    """Return error and use of codes on uint8 pictures (N, 32, 32, 3) that the coder was not trained on."""
    coder.model.eval()
    errors, counts = [], torch.zeros(peers.CODES, dtype=torch.int64, device=device())
    for part in torch.from_numpy(images).split(256):
        x = to_float(part.to(device()))
        x_hat, indices = coder.rebuild(x)
        errors.append(((x_hat.clamp(-1, 1) - x) / 2).square().mean((1, 2, 3)))
        counts += torch.bincount(indices.flatten(), minlength=len(counts))
    error = torch.cat(errors)
    return {
        "psnr": float(-10 * error.log10().mean()),
        "mse": float(error.mean()),
        "perplexity": float(perplexity(counts.double())),
        "active_codes": int((counts > 0).sum()),
    }


class OurGan:
    """`train_gan` in turns: each goes on from the checkpoint of the one before."""

    def __init__(self, images: np.ndarray, *, batch_size: int, seed: int, folder: Path) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.checkpoint, self.steps = folder / "gan.safetensors", 0
        self.made: TrainedGan | None = None

    def go_on(self, seconds: float) -> int:
        """Train for `seconds` more, loading and saving included; return the steps that were done in them."""
        self.made = train_gan(
            self.images, seconds=seconds, batch_size=self.batch_size, seed=self.seed, checkpoint=self.checkpoint,
            augment=None, every=10**9,
        )  # fmt: skip
        before, self.steps = self.steps, int(self.made.history[-1]["step"])
        return self.steps - before

    def sample(self, n: int) -> np.ndarray:
        """Return n pictures uint8 (n, 32, 32, 3)."""
        assert self.made is not None
        return self.made.sample(n)

    def size(self) -> int:
        """Return how many weights the two networks have."""
        assert self.made is not None
        return sum(
            each.numel() for net in (self.made.last, self.made.discriminator) for each in net.parameters()
        )


def compare_gans(
    images: np.ndarray, *, rounds: int, seconds: float, drawn: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Train both GANs `rounds` turns of `seconds`; return a row of figures for each."""
    with tempfile.TemporaryDirectory() as folder:
        ours = OurGan(images, batch_size=GAN_BATCH, seed=seed, folder=Path(folder))
        theirs = Dcgan(images, batch_size=GAN_BATCH, seed=seed)
        arms: dict[str, OurGan | Dcgan] = {"mmteach": ours, "loop as in PyTorch's DCGAN example": theirs}
        speeds: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds):
            print(f"GANs, turn {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name in list(arms) if number % 2 else reversed(list(arms)):
                began = time.perf_counter()
                steps = arms[name].go_on(seconds)
                speeds[name].append(steps * GAN_BATCH / (time.perf_counter() - began))
    real = picture_features(images)
    return [
        {
            "name": name,
            "images_per_second": statistics.median(speeds[name]),
            "frechet_distance": frechet_distance(real, picture_features(arm.sample(drawn))),
            "weights": arm.size(),
        }
        for name, arm in arms.items()
    ]


def floor(images: np.ndarray, seed: int = 0) -> float:
    """Return the Fréchet distance between two random halves of real pictures: nothing can be told apart below it."""
    order = np.random.default_rng(seed).permutation(len(images))
    features = picture_features(images[order])
    return frechet_distance(features[::2], features[1::2])


def pictures(split: str) -> np.ndarray:
    """Return the pictures of a split in the training styles, uint8 (N, 32, 32, 3), held-out pairs left out."""
    emoji = load_emoji()
    rows = emoji.rows(split, TRAIN_STYLES, held_out=False)
    return small(emoji.images[rows])


def table(result: dict[str, Any]) -> str:
    """Return the figures as two Markdown tables under the name of the machine."""
    where, vq, gan = result["machine"], result["coders"], result["gans"]
    on = f"{where['cpu']}, {where['cores']} cores" + (f", {where['gpu']}" if where["gpu"] else "")
    lines = [
        f"Measured on {on}, {result['threads']} torch thread{'s'[: result['threads'] != 1]}, torch {where['torch']}; "
        f"load average {result['load_average']:.1f}.",
        "",
        f"Quantizers after {vq['steps']} steps of {BATCH} pictures; errors on {vq['held_out']:,} of unseen families:",
        "",
        "| quantizer | steps / s | by itself, ms | PSNR, dB | MSE | perplexity | codes in use |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in vq["rows"]:
        if "missing" in row:
            lines.append(f"| {row['name']} | {row['missing']} | | | | | |")
            continue
        speed = f"{row['steps_per_second']:.1f} | {row['quantizer_ms']:.1f}"
        error = f"{row['psnr']:.2f} | {row['mse']:.5f}"
        lines.append(
            f"| {row['name']} | {speed} | {error} | {row['perplexity']:.0f} | {row['active_codes']} |"
        )
    lines += [
        "",
        f"GANs after {gan['seconds']:g} s each on {gan['pictures']:,} faces; Fréchet distance in {NAME}, "
        f"real against real {gan['floor']:.2f}:",
        "",
        "| GAN | images / s | Fréchet distance | weights |",
        "|---|---:|---:|---:|",
    ]
    for row in gan["rows"]:
        lines.append(
            f"| {row['name']} | {row['images_per_second']:.0f} | {row['frechet_distance']:.2f} | {row['weights']:,} |"
        )
    return "\n".join(lines)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure everything; `quick` only shows that all of it works."""
    import psutil

    from mmteach.doctor import machine  # both need a package that only the commands need

    plan = QUICK if quick else FULL
    train, test, face = pictures("train"), pictures("test"), faces(load_emoji(), "train")
    coders = compare_coders(train, test, rounds=plan.rounds, turn=plan.turn)
    gans = compare_gans(face, rounds=plan.gan_rounds, seconds=plan.seconds, drawn=plan.drawn)
    return {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "load_average": psutil.getloadavg()[
            0
        ],  # far above the threads: others were at work, compare speeds with care
        "quick": quick,
        "coders": {"steps": plan.rounds * plan.turn, "held_out": len(test), "rows": coders},
        "gans": {
            "seconds": plan.gan_rounds * plan.seconds,
            "pictures": len(face),
            "network": NAME,
            "floor": floor(face),
            "rows": gans,
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison, print its tables, and write its figures where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m mmteach bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute, to see that everything works")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(argv)
    result = run(quick=options.quick)
    print(table(result), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0
