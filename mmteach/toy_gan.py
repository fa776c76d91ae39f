"""Three GANs small enough to see whole: one number shifts a bump, eight bumps on a ring, pictures of one colour.

Built in notebook 04. Follows Mescheder et al. 2018 (arXiv:1801.04406) for the one-parameter game and its field, and
Metz et al. 2017 (1611.02163) for the ring and its count of modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmteach.gan import diff_augment, sample, train_gan
from mmteach.solutions import gradient_penalty

Loss = Callable[[Tensor, Tensor], Tensor]  # (real_logits (B,), fake_logits (B,)) -> scalar

WIDTH = 0.3  # standard deviation of the one bump
MODES, RADIUS, SIGMA = 8, 2.0, 0.1  # the ring: how many bumps, how far out, how wide


def saturating_g_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return log(1 - D(G(z))), the generator's loss as the minimax game has it (Goodfellow 2014, equation 1)."""
    return -torch.nn.functional.softplus(fake).mean()


# One parameter


def bump(count: int = 64) -> Tensor:
    """Return float64 (count,): evenly spaced quantiles of a normal bump of WIDTH, which stand for a batch of it."""
    shares = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return WIDTH * torch.special.ndtri(shares)


def push(theta: float, psi: float, d_loss: Loss, g_loss: Loss, penalty: float = 0.0) -> tuple[float, float]:
    """Return which way each player moves, (-d g_loss / d theta, -d d_loss / d psi).

    The real bump sits at 0, the generator's at theta; the discriminator's logit is psi * x. `penalty` weighs half the
    squared slope of the logit, which is psi itself everywhere (R1 and R2 are the same here).
    """
    shift, tilt = (torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (theta, psi))
    real, fake = bump(), bump() + shift
    (down_g,) = torch.autograd.grad(g_loss(tilt * real, tilt * fake), shift)
    total = d_loss(tilt * real, tilt * fake.detach()) + penalty / 2 * tilt.square()
    (down_d,) = torch.autograd.grad(total, tilt)
    return -float(down_g), -float(down_d)


def play_bump(
    start: tuple[float, float],
    d_loss: Loss,
    g_loss: Loss,
    *,
    penalty: float = 0.0,
    steps: int = 300,
    lr: float = 0.1,
) -> np.ndarray:
    """Return the path (steps + 1, 2) of (theta, psi) when both players follow their push at the same time."""
    path = [start]
    for _ in range(steps):
        theta, psi = path[-1]
        to_theta, to_psi = push(theta, psi, d_loss, g_loss, penalty)
        path.append((theta + lr * to_theta, psi + lr * to_psi))
    return np.array(path)


def field(
    thetas: np.ndarray, psis: np.ndarray, d_loss: Loss, g_loss: Loss, penalty: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pushes on theta and on psi, (P, T) each, over a grid of thetas (T,) and psis (P,)."""
    pushes = [[push(theta, psi, d_loss, g_loss, penalty) for theta in thetas] for psi in psis]
    to_theta, to_psi = np.moveaxis(np.array(pushes), -1, 0)
    return to_theta, to_psi


def best_logit(x: Tensor, theta: float) -> Tensor:
    """Return log p(x) / q(x), the logit of the best discriminator, for bumps p at 0 and q at theta."""
    return ((x - theta).square() - x.square()) / (2 * WIDTH**2)


def jensen_shannon(theta: float) -> float:
    """Return the Jensen-Shannon divergence, in nats, of bumps at 0 and theta; it never exceeds log 2."""
    real, fake = bump(2000), bump(2000) + theta
    log2 = np.log(2)
    from_real = log2 - torch.nn.functional.softplus(-best_logit(real, theta)).mean()
    from_fake = log2 - torch.nn.functional.softplus(best_logit(fake, theta)).mean()
    return float(from_real + from_fake) / 2


def generator_slope(theta: float, g_loss: Loss) -> float:
    """Return d g_loss / d theta against the best discriminator for this theta, which stands still meanwhile."""
    shift = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    real, fake = bump(2000), bump(2000) + shift
    (slope,) = torch.autograd.grad(g_loss(best_logit(real, theta), best_logit(fake, theta)), shift)
    return float(slope)


# Eight bumps on a ring


def centres() -> Tensor:
    """Return the middles of the bumps, float32 (MODES, 2)."""
    angle = 2 * torch.pi * torch.arange(MODES) / MODES
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def ring(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Return `count` points of the mixture, float32 (count, 2), every bump equally likely."""
    which = torch.randint(MODES, (count,), generator=generator)
    return centres()[which] + SIGMA * torch.randn(count, 2, generator=generator)


def coverage(points: np.ndarray) -> tuple[int, float]:
    """Return (modes covered, share of good points) of points (N, 2).

    A point is good within three standard deviations of a bump; a mode is covered when it holds at least a quarter of
    the good points that are its due. Source: after Metz et al. 2017, section 3.
    """
    apart = np.linalg.norm(points[:, None] - centres().numpy(), axis=2)  # (N, MODES)
    good = apart.min(1) < 3 * SIGMA
    held = np.bincount(apart.argmin(1)[good], minlength=MODES)
    return int((held >= len(points) / MODES / 4).sum()), float(good.mean())


@dataclass(frozen=True)
class RingRun:
    """A run, look by look: `steps` (S,), what was drawn `points` (S, N, 2), the `logits` (S, G, G) over the plane."""

    steps: np.ndarray
    points: np.ndarray
    logits: np.ndarray


REACH, GRID = 3.2, 33  # the plane is looked at from -REACH to REACH, at GRID places each way


def _net(out: int, width: int) -> nn.Sequential:
    layers = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out)]
    return nn.Sequential(*layers)


def play_ring(
    d_loss: Loss, g_loss: Loss, *, r1: float = 0.0, r2: float = 0.0, steps: int = 1000, seed: int = 0,
    lr: float = 1e-3, betas: tuple[float, float] = (0.0, 0.99), batch_size: int = 64, width: int = 48,
    shots: int = 11, drawn: int = 500, slope: Callable[[Tensor, Tensor], Tensor] = gradient_penalty,
) -> RingRun:  # fmt: skip
    """Play both players on the ring, one turn each a step, and return `shots` looks at the game from start to end."""
    torch.manual_seed(seed)
    g, d = _net(2, width), _net(1, width)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr, betas, fused=True) for net in (g, d))
    at, looks = np.unique(np.linspace(0, steps, shots).round().astype(int)), []
    z = torch.randn(drawn, 2)
    for step in range(steps + 1):
        if step in at:
            looks.append(_look(g, d, z))
        real, fake = (
            ring(batch_size).requires_grad_(),
            g(torch.randn(batch_size, 2)).detach().requires_grad_(),
        )
        on_real, on_fake = d(real).squeeze(1), d(fake).squeeze(1)
        loss = d_loss(on_real, on_fake)
        if r1 or r2:
            loss = loss + (r1 * slope(on_real, real) + r2 * slope(on_fake, fake)) / 2
        _descend(loss, d_opt)
        on_fake = d(g(torch.randn(batch_size, 2))).squeeze(1)
        _descend(g_loss(d(ring(batch_size)).squeeze(1).detach(), on_fake), g_opt)
    points, logits = zip(*looks, strict=True)
    return RingRun(at, np.stack(points), np.stack(logits))


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.no_grad()
def _look(g: nn.Module, d: nn.Module, z: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return what the generator makes of z (N, 2), and the discriminator's logits (GRID, GRID) over the plane."""
    line = torch.linspace(-REACH, REACH, GRID)
    plane = torch.cartesian_prod(line, line).flip(1)  # row by row from below: (x, y)
    return g(z).numpy(), d(plane).view(GRID, GRID).numpy()


# Pictures of one colour


class OneColour(nn.Module):
    """A generator whose pictures (B, 3, 28, 28) are of one colour each, tanh of a linear function of noise (B, 4)."""

    num_classes, z_dim = 0, 4  # what `gan.sample` asks for

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(4, 3)

    def forward(self, z: Tensor, labels: Tensor | None = None, psi: float = 1.0) -> Tensor:
        return torch.tanh(self.colour(psi * z)).view(-1, 3, 1, 1).expand(-1, 3, 28, 28)


class ColourJudge(nn.Module):
    """A discriminator (B, 3, H, W) -> (B,) that looks at the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.net(x.mean((2, 3))).squeeze(1)


def learn_colour(
    pictures: np.ndarray, augment: Callable[[Tensor], Tensor] | None = diff_augment, *, steps: int = 150, seed: int = 0
) -> np.ndarray:  # fmt: skip
    """Train on uint8 pictures (N, 28, 28, 3) of one colour each; return the brightness of 100 drawings, 0 to 255."""
    torch.manual_seed(seed)
    networks: Any = (OneColour(), ColourJudge())
    run = train_gan(
        pictures, steps=steps, batch_size=32, seed=seed, networks=networks, augment=augment, lr=2e-2
    )
    return sample(run.generator, 100).mean((1, 2, 3))
