"""Generative adversarial networks: losses, penalties, differentiable augmentation, small networks, one training loop.

Built in notebook 04. Follows Goodfellow et al. 2014 (arXiv:1406.2661), Lim & Ye 2017 (1705.02894) for the hinge,
Jolicoeur-Martineau 2018 (1807.00734) and Huang et al. 2024 (2501.05441) for the relativistic pair with R1 and R2,
Mescheder et al. 2018 (1801.04406) for R1, Zhao et al. 2020 (2006.10738) for differentiable augmentation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.engine import Stateful, run_steps
from mmteach.solutions import gradient_penalty, nonsaturating_g_loss, relativistic_loss
from mmteach.train import (
    batches,
    check_pictures,
    device,
    ema_update,
    seed_everything,
    to_float,
    to_pictures,
)
from mmteach.weights import load_weights

Loss = Callable[[Tensor, Tensor], Tensor]  # (real_logits (B,), fake_logits (B,)) -> scalar


class Game(NamedTuple):
    """What the discriminator and the generator each minimise, (real_logits (B,), fake_logits (B,)) -> scalar."""

    d_loss: Loss
    g_loss: Loss


def nonsaturating_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss: cross-entropy of telling real from fake (Goodfellow 2014, equation 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's hinge loss (Lim & Ye 2017): logits beyond the margin of 1 no longer count."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_g_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the generator's side of the hinge loss, minus the mean logit of the fakes."""
    return -fake.mean()


def relativistic_g_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the generator's side: the fake must rank above its real partner."""
    return F.softplus(real - fake).mean()


GAMES = {
    "nonsaturating": Game(nonsaturating_loss, nonsaturating_g_loss),
    "hinge": Game(hinge_loss, hinge_g_loss),
    "relativistic": Game(relativistic_loss, relativistic_g_loss),
}


def diff_augment(
    x: Tensor, generator: torch.Generator | None = None, *, shift: float = 0.125, colour: float = 0.5
) -> Tensor:
    """Return pictures (B, C, H, W) shifted and recoloured, each by its own draw, differentiably.

    `shift` is the furthest move as a share of the side; `colour` scales the changes of brightness, saturation and
    contrast. Source: Zhao et al. 2020, section 3.3 (its policies "color" and "translation").
    """
    draw = torch.rand(5, len(x), generator=generator).to(x.device)
    return _translate(_recolour(x, draw[:3], colour), draw[3:], shift)


def _recolour(x: Tensor, draw: Tensor, colour: float) -> Tensor:
    bright, vivid, contrast = draw.view(3, -1, 1, 1, 1)
    x = x + colour * (bright - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + colour * (2 * vivid - 1))
    middle = x.mean((1, 2, 3), keepdim=True)
    return middle + (x - middle) * (1 + colour * (contrast - 0.5))


def _translate(x: Tensor, draw: Tensor, shift: float) -> Tensor:
    """Shift each picture by whole pixels, draw (2, B) in [0, 1); what comes in from outside repeats the border."""
    size = x.shape[-1]
    reach = round(size * shift)
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    top, left = (draw * (2 * reach + 1)).long()
    rows = top.view(-1, 1) + torch.arange(size, device=x.device)
    columns = left.view(-1, 1) + torch.arange(size, device=x.device)
    which = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[which, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


class PixelNorm(nn.Module):
    """Scale the vector at each place of x (B, C, ...) to mean square 1 (Karras et al. 2018, arXiv:1710.10196)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def grid_of(size: int) -> tuple[int, int]:
    """Return (side of the smallest grid, doublings from there to half the side): 28 -> (7, 1), 32 -> (4, 2)."""
    if size not in (28, 32, 64):
        raise ValueError(f"size must be 28, 32 or 64, got {size}")
    return {28: (7, 1), 32: (4, 2), 64: (4, 3)}[size]


class Generator(nn.Module):
    """Noise (and a class) to a picture: a grid of 4x4 or 7x7, then doubled and convolved until `size`.

    z: (B, z_dim), labels int64 (B,) when num_classes > 0 -> (B, channels, size, size) in [-1, 1].
    `norm`: 'pixel', or 'batch' as in DCGAN. `psi` under 1 draws nearer to the middle: truncation (Brock et al. 2019,
    arXiv:1809.11096).
    """

    def __init__(
        self, *, size: int = 32, channels: int = 3, z_dim: int = 64, width: int = 32, num_classes: int = 0,
        norm: str = "pixel",
    ) -> None:  # fmt: skip
        super().__init__()
        self.z_dim, self.num_classes = z_dim, num_classes
        self.start, ups = grid_of(size)
        widths = [width * 2**i for i in range(ups, -1, -1)]
        self.label = nn.Embedding(num_classes, z_dim) if num_classes else None
        self.noise_norm = PixelNorm()
        self.dense = nn.Linear(z_dim * (2 if num_classes else 1), widths[0] * self.start**2)
        self.blocks = nn.Sequential(
            *(_up(a, b, norm) for a, b in pairwise(widths)),
            nn.Conv2d(width, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor, labels: Tensor | None = None, psi: float = 1.0) -> Tensor:
        z = psi * self.noise_norm(z)
        if self.label is not None:
            if labels is None:
                raise ValueError("this generator was trained with classes: give labels")
            z = torch.cat([z, self.noise_norm(self.label(labels))], 1)
        x = self.dense(z).view(len(z), -1, self.start, self.start)
        return self.blocks(F.leaky_relu(x, 0.2))


def _up(width_in: int, width_out: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(width_in, width_out, 3, padding=1),
        PixelNorm() if norm == "pixel" else nn.BatchNorm2d(width_out), nn.LeakyReLU(0.2),
    )  # fmt: skip


class Discriminator(nn.Module):
    """A picture (B, channels, size, size) to a logit (B,); no normalisation, which would mix the pictures of a batch.

    With classes, the logit adds the inner product of features and class vector (Miyato & Koyama 2018, 1802.05637).
    `spectral` bounds the slope of every layer instead of penalising it (Miyato et al. 2018, 1802.05957).
    """

    def __init__(
        self,
        *,
        size: int = 32,
        channels: int = 3,
        width: int = 32,
        num_classes: int = 0,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        start, downs = grid_of(size)
        widths = [width * 2**i for i in range(downs + 1)]
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1)]
        for a, b in pairwise(widths):
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(a, b, 4, stride=2, padding=1)]
        layers += [nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(widths[-1] * start**2, 128), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)  # (B, 128), what the last layer sees
        self.out = nn.Linear(128, 1)
        self.label = nn.Embedding(num_classes, 128) if num_classes else None
        if spectral:
            for layer in [*self.features, self.out]:
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.features(x)
        logit = self.out(features).squeeze(1)
        if self.label is None:
            return logit
        if labels is None:
            raise ValueError("this discriminator was trained with classes: give labels")
        return logit + (features * self.label(labels)).sum(1) / features.shape[1] ** 0.5


@dataclass(frozen=True)
class Penalty:
    """Weights of R1 (slope at real pictures) and R2 (at fakes), taken each `every`-th step, `every` times as heavy."""

    r1: float = 0.1
    r2: float = 0.1
    every: int = 8


@dataclass
class TrainedGan:
    """What `train_gan` returns: generators with averaged and with last weights, the discriminator, noted losses.

    `classes` names the classes of the shipped GAN, by label.
    """

    generator: Generator
    last: Generator
    discriminator: Discriminator
    history: list[dict[str, float]] = field(default_factory=list)
    classes: tuple[str, ...] = ()

    def sample(self, n: int, labels: np.ndarray | None = None, seed: int = 0, psi: float = 1.0) -> np.ndarray:
        """Return n pictures uint8 (n, H, W, C); the same seed and labels give the same pictures."""
        return sample(self.generator, n, labels, seed, psi)


def sample(
    generator: Generator, n: int, labels: np.ndarray | None = None, seed: int = 0, psi: float = 1.0
) -> np.ndarray:
    """Return n pictures uint8 (n, H, W, C) of `generator`, from noise drawn with `seed`; the rest as in `draw`."""
    return draw(generator, noise(n, generator.z_dim, seed), labels, psi)


def noise(n: int, z_dim: int, seed: int = 0) -> Tensor:
    """Return normal noise (n, z_dim) on the CPU; row i depends on the seed alone, however many rows are drawn."""
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(z_dim, generator=rng) for _ in range(n)])


@torch.no_grad()
def draw(generator: Generator, z: Tensor, labels: np.ndarray | None = None, psi: float = 1.0) -> np.ndarray:
    """Return the pictures uint8 (n, H, W, C) that `generator` makes of noise z (n, z_dim).

    labels: int (n,); without them a conditional generator goes through its classes in turn. psi: see Generator.
    Raises ValueError on labels out of range, or given to a generator without classes.
    """
    classes = _classes(generator.num_classes, len(z), labels)
    where = next(generator.parameters()).device
    parts = []
    for i in range(0, len(z), 256):
        some = None if classes is None else classes[i : i + 256].to(where)
        parts.append(to_pictures(generator(z[i : i + 256].to(where), some, psi)))
    return np.concatenate(parts)


def _classes(num_classes: int, n: int, labels: np.ndarray | None) -> Tensor | None:
    if not num_classes:
        if labels is not None:
            raise ValueError("this generator was trained without classes: it takes no labels")
        return None
    classes = torch.arange(n) % num_classes if labels is None else torch.as_tensor(labels)
    if classes.shape != (n,) or classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(f"labels must be {n} whole numbers from 0 to {num_classes - 1}")
    return classes.long()


def train_gan(
    images: np.ndarray, *, labels: np.ndarray | None = None, steps: int | None = None, seconds: float | None = None,
    batch_size: int, seed: int, d_loss: Loss = relativistic_loss, g_loss: Loss = relativistic_g_loss,
    penalty: Penalty | None = Penalty(), augment: Callable[[Tensor], Tensor] | None = diff_augment,
    lr: float = 1e-3, betas: tuple[float, float] = (0.0, 0.99), average_decay: float = 0.998,
    width: int = 32, z_dim: int = 64, networks: tuple[Generator, Discriminator] | None = None,
    slope: Callable[[Tensor, Tensor], Tensor] = gradient_penalty,
    average: Callable[[nn.Module, nn.Module, float], None] = ema_update,
    checkpoint: Path | None = None, every: int = 100,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainedGan:  # fmt: skip
    """Train a GAN on uint8 pictures (N, H, W, C); labels int64 (N,) make it conditional on the class.

    Exactly one of `steps` and `seconds` says how long. `d_loss` and `g_loss` take (real_logits (B,), fake_logits (B,))
    and return a scalar; `slope` is the penalty on d logits / d pictures; `average` moves the averaged generator.
    None switches `penalty` or `augment` off. `networks` (used as they are) replace the two of `width`.
    Raises ValueError on settings that contradict each other.
    """
    check_pictures(images)
    if (steps is None) == (seconds is None):
        raise ValueError("give exactly one of steps and seconds")
    generator, where = seed_everything(seed), device()
    target = _targets(labels, len(images))
    classes = 0 if target is None else int(target.max()) + 1
    if networks is None:
        shape = {"size": images.shape[1], "channels": images.shape[3], "width": width, "num_classes": classes}
        networks = Generator(z_dim=z_dim, **shape), Discriminator(**shape)
    table = Table(networks, (d_loss, g_loss), penalty, augment, slope, average, average_decay, lr, betas)
    data, target = torch.from_numpy(images).to(where), None if target is None else target.to(where)

    def step(pick: Tensor, number: int) -> dict[str, Tensor]:
        pick = pick.to(where)
        return table.turn(to_float(data[pick]), None if target is None else target[pick], number)

    picks = batches(len(data), batch_size, 10**9 if steps is None else steps, generator)
    about = {
        "images": images, "labels": labels, "batch size": batch_size, "seed": seed, "d_loss": d_loss, "g_loss": g_loss,
        "penalty": penalty, "augment": augment, "lr": lr, "betas": betas, "average decay": average_decay,
        "slope": slope, "average": average, "generator": networks[0], "discriminator": networks[1],
    }  # fmt: skip
    history = run_steps(
        step, picks if seconds is None else until(picks, seconds),
        parts=table.parts(), about=about, checkpoint=checkpoint, every=every, progress=progress,
    )  # fmt: skip
    return TrainedGan(table.averaged.eval(), table.g.eval(), table.d.eval(), history)


def _targets(labels: np.ndarray | None, count: int) -> Tensor | None:
    if labels is None:
        return None
    target = torch.as_tensor(labels)
    if target.shape != (count,) or target.is_floating_point() or target.min() < 0:
        raise ValueError(f"labels must be {count} whole numbers from 0, one a picture")
    return target.long()


class Table:
    """The two players, their optimisers, and one turn each."""

    def __init__(
        self, networks: tuple[Generator, Discriminator], game: tuple[Loss, Loss], penalty: Penalty | None,
        augment: Callable[[Tensor], Tensor] | None, slope: Callable[[Tensor, Tensor], Tensor],
        average: Callable[[nn.Module, nn.Module, float], None], decay: float, lr: float,
        betas: tuple[float, float],
    ) -> None:  # fmt: skip
        self.g, self.d = (net.to(device(), memory_format=torch.channels_last).train() for net in networks)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.g).requires_grad_(False)
        self.game, self.penalty, self.slope, self.average, self.decay = game, penalty, slope, average, decay
        self.see = augment or (lambda x: x)
        self.g_opt = torch.optim.Adam(self.g.parameters(), lr, betas)
        self.d_opt = torch.optim.Adam(self.d.parameters(), lr, betas)

    def parts(self) -> dict[str, Stateful]:
        """Return everything that the next turn depends on."""
        return {"g": self.g, "d": self.d, "averaged": self.averaged, "g_opt": self.g_opt, "d_opt": self.d_opt}

    def turn(self, real: Tensor, labels: Tensor | None, number: int) -> dict[str, Tensor]:
        """Let the discriminator learn, then the generator, from one batch of real pictures in [-1, 1]."""
        with torch.autocast(real.device.type, torch.bfloat16, enabled=real.is_cuda):
            loss_d = self.discriminator_turn(real, labels, number)
            loss_g = self.generator_turn(real, labels)
        self.average(self.averaged, self.g, min(self.decay, number / (number + 10)))
        return {"d_loss": loss_d, "g_loss": loss_g}

    def discriminator_turn(self, real: Tensor, labels: Tensor | None, number: int) -> Tensor:
        lazy = self.penalty is not None and (number - 1) % self.penalty.every == 0
        with torch.no_grad():
            fake = self.draw(len(real), labels)
        real, fake = real.detach().requires_grad_(lazy), fake.requires_grad_(lazy)
        on_real, on_fake = self.judge(real, labels), self.judge(fake, labels)
        loss = total = self.game[0](on_real, on_fake)
        if self.penalty is not None and lazy:  # half, because the sources write gamma / 2
            slopes = self.penalty.r1 * self.slope(on_real, real) + self.penalty.r2 * self.slope(on_fake, fake)
            total = loss + self.penalty.every / 2 * slopes
        _descend(total, self.d_opt)
        return loss.detach()

    def generator_turn(self, real: Tensor, labels: Tensor | None) -> Tensor:
        with torch.no_grad():
            on_real = self.judge(real, labels)
        self.d.requires_grad_(False)  # its gradients would be thrown away
        try:
            loss = self.game[1](on_real, self.judge(self.draw(len(real), labels), labels))
            _descend(loss, self.g_opt)
        finally:
            self.d.requires_grad_(True)
        return loss.detach()

    def draw(self, count: int, labels: Tensor | None) -> Tensor:
        return self.g(torch.randn(count, self.g.z_dim).to(device()), labels)

    def judge(self, x: Tensor, labels: Tensor | None) -> Tensor:
        return self.d(self.see(x), labels).float()


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def until(picks: Iterator[Tensor], seconds: float) -> Iterator[Tensor]:
    """Yield from `picks` until the clock has run `seconds` further; such a run is not repeatable to the bit."""
    end = time.monotonic() + seconds
    for pick in picks:
        if time.monotonic() > end:
            return
        yield pick


def load_pretrained(name: str | None = None, device: torch.device | str = "cpu") -> TrainedGan:
    """Return the shipped GAN in eval mode: `sample(n, labels)` draws 32x32 pictures of the eight groups.

    Its `classes` names the groups by label. Raises DataError when the weights are missing or damaged.
    """
    config, state = load_weights(name or "gan")
    generator, discriminator = Generator(**config["generator"]), Discriminator(**config["discriminator"])
    both = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    both.load_state_dict(state)
    both.to(device).eval().requires_grad_(False)
    return TrainedGan(generator, generator, discriminator, classes=tuple(config["groups"]))
