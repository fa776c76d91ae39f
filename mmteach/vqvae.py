"""Pictures as sentences of discrete codes: the EMA codebook, FSQ, and the VQ-VAE around them.

Built in notebook 05. Follows van den Oord et al. 2017 (arXiv:1711.00937), Razavi et al. 2019 (1906.00446) for the
moving-average update, Mentzer et al. 2023 (2309.15505) for FSQ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


from mmteach.train import Stateful, batches, check_pictures, device, run_steps, seed_everything, to_float


class Quantized(NamedTuple):
    """What a quantizer returns: z_q (B, D, H, W), indices int64 (B, H, W), and two scalars."""

    z_q: Tensor
    indices: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class Reconstruction(NamedTuple):
    """What a VQ-VAE returns: x_hat (B, C, H, W) in [-1, 1] and what its quantizer returned."""

    x_hat: Tensor
    codes: Quantized


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Return exactly the value of `z_q`, with the gradient of `z_e` (Bengio et al. 2013, arXiv:1308.3432)."""
    return z_q.detach() + (z_e - z_e.detach())  # adds exact zeros; the usual z_e + (z_q - z_e) rounds


def nearest_code(rows: Tensor, codebook: Tensor) -> Tensor:
    """Return int64 (N,): for each row (N, D) the index of the closest code (K, D) in Euclidean distance."""
    # |r - c|^2 = |r|^2 - 2 r.c + |c|^2, and |r|^2 does not change the argmin.
    return (codebook.pow(2).sum(1) - 2 * rows @ codebook.T).argmin(1)


def perplexity(counts: Tensor) -> Tensor:
    """Return exp(entropy) of code `counts` (K,): the number of codes in use if all were used equally often."""
    p = counts / counts.sum().clamp_min(1)
    return torch.exp(-torch.xlogy(p, p).sum())


def k_means(rows: Tensor, start: Tensor, rounds: int = 10) -> Tensor:
    """Return (K, D) centres after `rounds` of Lloyd's algorithm from `start`; an empty centre stays where it is."""
    centres = start
    for _ in range(rounds):
        onehot = F.one_hot(nearest_code(rows, centres), len(centres)).to(rows.dtype)
        count = onehot.sum(0).unsqueeze(1)
        centres = torch.where(count > 0, onehot.T @ rows / count.clamp_min(1), centres)
    return centres


def _agree(tensor: Tensor, how: str) -> Tensor:
    """Sum `tensor` over processes, or take process 0's; leave it as it is when there is one process."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(tensor) if how == "sum" else dist.broadcast(tensor, 0)
    return tensor


class Codebook(nn.Module):
    """A codebook learned by exponential moving averages, with dead codes restarted.

    The codes start from the first batch (`init`: 'rows', random ones, or 'kmeans'), and counts and sums from the same
    assignment, so that no ratio of the two is ever off. A code whose average count falls under `restart` times the
    mean count takes a random row of the current batch. Nothing here waits for the device but the very first batch.
    Source: van den Oord et al. 2017, equations 3 and A.1; restarts as in Dhariwal et al. 2020 (arXiv:2005.00341).
    """

    codes: Tensor
    count: Tensor
    total: Tensor
    started: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        decay: float = 0.99,
        *,
        beta: float = 0.25,
        restart: float = 0.05,
        init: str = "rows",
    ) -> None:
        super().__init__()
        if init not in ("rows", "kmeans"):
            raise ValueError(f"init must be 'rows' or 'kmeans', not {init!r}")
        self.num_codes, self.dim, self.decay = num_codes, dim, decay
        self.beta, self.restart, self.init = beta, restart, init
        self.register_buffer("codes", torch.randn(num_codes, dim))
        self.register_buffer("count", torch.ones(num_codes))
        self.register_buffer("total", self.codes.clone())
        self.register_buffer("started", torch.tensor(False))
        self._known_started = (
            False  # what the buffer says, kept on the host so that no step has to ask the device
        )

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantise z_e, float (B, D, H, W); in training also move the codes. Raises ValueError on a wrong D."""
        if z_e.ndim != 4 or z_e.shape[1] != self.dim:
            raise ValueError(f"z_e must be (B, {self.dim}, H, W), got {tuple(z_e.shape)}")
        with torch.autocast(z_e.device.type, enabled=False):
            z_e = z_e.float()
            rows = z_e.detach().permute(0, 2, 3, 1).reshape(-1, self.dim)
            if self.training:
                self._start(rows)
            indices = nearest_code(rows, self.codes)
            used = self._used(indices)
            z_q = self.lookup(indices.view(z_e.shape[0], *z_e.shape[2:]))
            commitment = self.beta * F.mse_loss(z_e, z_q)  # taken before the straight-through step hides z_q
            if self.training:
                self._update(rows, indices, used)
        indices = indices.view(z_e.shape[0], *z_e.shape[2:])
        return Quantized(straight_through(z_e, z_q), indices, commitment, perplexity(used))

    def assign(self, z_e: Tensor) -> Tensor:
        """Return int64 (B, H, W): the nearest code at each place of z_e (B, D, H, W)."""
        rows = z_e.detach().float().permute(0, 2, 3, 1)
        return nearest_code(rows.reshape(-1, self.dim), self.codes).view(rows.shape[:3])

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, H, W) of `indices` int64 (B, H, W); no gradient flows into them."""
        return self.codes[indices].permute(0, 3, 1, 2)

    def _used(self, indices: Tensor) -> Tensor:
        """Return float (K,): how often each code stands in `indices` (N,), over all processes."""
        zeros = torch.zeros(self.num_codes, device=indices.device)
        return _agree(zeros.scatter_add_(0, indices, torch.ones_like(indices, dtype=zeros.dtype)), "sum")

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        """Take the first codes from the first batch, and counts and sums from the same assignment."""
        if self._known_started:
            return
        if not bool(self.started):  # the one question to the device in the life of a codebook
            codes = self._random_rows(rows)
            if self.init == "kmeans":
                codes = _agree(k_means(rows, codes), "first")
            self.codes.copy_(codes)
            self.count.fill_(len(rows) / self.num_codes)
            self.total.copy_(codes * self.count.unsqueeze(1))
            self.started.fill_(True)
        self._known_started = True

    @torch.no_grad()
    def _update(self, rows: Tensor, indices: Tensor, used: Tensor) -> None:
        """Move counts and sums towards this batch, restart dead codes, and divide."""
        sums = torch.zeros_like(self.total).index_add_(0, indices, rows)
        self.count.lerp_(used, 1 - self.decay)
        self.total.lerp_(_agree(sums, "sum"), 1 - self.decay)
        mean = self.count.mean()
        dead = (self.count < self.restart * mean).unsqueeze(1)
        self.total.copy_(torch.where(dead, self._random_rows(rows) * mean, self.total))
        self.count.copy_(torch.where(dead.squeeze(1), mean, self.count))
        self.codes.copy_(self.total / self.count.unsqueeze(1))

    def _random_rows(self, rows: Tensor) -> Tensor:
        """Return K rows of `rows` (N, D), each once while they last; the same ones in every process."""
        order = torch.randperm(len(rows), device=rows.device)
        pick = order.repeat(-(-self.num_codes // len(rows)))[: self.num_codes]
        return _agree(rows[pick].clone(), "first")

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_started = False


class FSQ(nn.Module):
    """Finite scalar quantization: each of D channels rounds to one of `levels[d]` values, and no codebook is learned.

    Source: Mentzer et al. 2023, section 3 and its appendix A.1.
    """

    base: Tensor
    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if min(levels) < 2:
            raise ValueError(f"every level must be at least 2, got {levels}")
        sizes = torch.tensor(levels)
        self.num_codes, self.dim = int(sizes.prod()), len(levels)
        self.register_buffer("levels", sizes)
        self.register_buffer(
            "base", torch.cumprod(torch.cat([torch.ones(1, dtype=torch.int64), sizes[:-1]]), 0)
        )

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantise z_e, float (B, D, H, W), to a grid in [-1, 1]; there is no commitment loss."""
        if z_e.ndim != 4 or z_e.shape[1] != self.dim:
            raise ValueError(f"z_e must be (B, {self.dim}, H, W), got {tuple(z_e.shape)}")
        bounded, indices = self._bound(z_e.float()), self.assign(z_e)
        z_q = straight_through(bounded, bounded.round()) / self._half()
        used = torch.zeros(self.num_codes, device=z_e.device)
        used.scatter_add_(0, indices.flatten(), torch.ones(indices.numel(), device=z_e.device))
        return Quantized(z_q, indices, z_q.new_zeros(()), perplexity(used))

    def assign(self, z_e: Tensor) -> Tensor:
        """Return int64 (B, H, W): the number of the grid point at each place of z_e (B, D, H, W)."""
        digits = self._bound(z_e.detach().float()).round() + self._half()
        return (digits.long() * self.base.view(1, -1, 1, 1)).sum(1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the grid points (B, D, H, W) of `indices` int64 (B, H, W)."""
        digits = indices.unsqueeze(1) // self.base.view(1, -1, 1, 1) % self.levels.view(1, -1, 1, 1)
        return (digits - self._half()) / self._half()

    def _half(self) -> Tensor:
        return (self.levels // 2).view(1, -1, 1, 1).float()

    def _bound(self, z: Tensor) -> Tensor:
        """Squash each channel so that rounding it gives exactly `levels` values; even ones need a half-step shift."""
        reach = (self.levels.view(1, -1, 1, 1) - 1) * (1 - 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0).view(1, -1, 1, 1)
        return torch.tanh(z + torch.atanh(offset / reach)) * reach - offset


class Residual(nn.Module):
    """x + conv(conv(x)), the block of both halves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def encoder_net(channels: int, width: int, dim: int, halvings: int) -> nn.Sequential:
    """Return a network from (B, C, H, W) to (B, D, H/2^halvings, W/2^halvings); the first halving is pixels to channels."""
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1)]
    for _ in range(halvings - 1):
        layers += [Residual(width), nn.Conv2d(width, width, 4, stride=2, padding=1)]
    return nn.Sequential(
        *layers, Residual(width), Residual(width), nn.GroupNorm(8, width), nn.Conv2d(width, dim, 1)
    )


def decoder_net(channels: int, width: int, dim: int, halvings: int) -> nn.Sequential:
    """Return the mirror of `encoder_net`, from (B, D, h, w) to (B, C, h*2^halvings, w*2^halvings)."""
    layers: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1), Residual(width), Residual(width)]
    for _ in range(halvings - 1):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), Residual(width)]
    return nn.Sequential(
        *layers, nn.SiLU(), nn.Conv2d(width, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.Tanh()
    )


class VQVAE(nn.Module):
    """Encoder, quantizer, decoder: a picture becomes (size / 2^halvings)^2 codes and comes back."""

    def __init__(
        self, quantizer: Codebook | FSQ, *, channels: int = 3, width: int = 64, halvings: int = 2
    ) -> None:
        super().__init__()
        self.encoder = encoder_net(channels, width, quantizer.dim, halvings)
        self.quantizer = quantizer
        self.decoder = decoder_net(channels, width, quantizer.dim, halvings)

    def forward(self, x: Tensor) -> Reconstruction:
        """Reconstruct x, float (B, C, H, W) in [-1, 1]."""
        codes = self.quantizer(self.encoder(x))
        return Reconstruction(self.decoder(codes.z_q), codes)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes int64 (B, h, w) of x, float (B, C, H, W) in [-1, 1]; nothing is learned from it."""
        return self.quantizer.assign(self.encoder(x))

    @torch.no_grad()
    def decode_tokens(self, indices: Tensor) -> Tensor:
        """Return pictures float32 (B, C, H, W) in [-1, 1] for codes int64 (B, h, w)."""
        return self.decoder(self.quantizer.lookup(indices)).float()


class Usage(NamedTuple):
    """How a corpus uses a codebook: histogram int64 (K,), its perplexity, and how many codes occur at all."""

    histogram: np.ndarray
    perplexity: float
    active_codes: int


@torch.no_grad()
def codebook_usage(model: VQVAE, images: np.ndarray, batch_size: int = 256) -> Usage:
    """Count the codes of a whole corpus, uint8 (N, H, W, C); a figure a batch would depend on the batch size."""
    where = next(model.parameters()).device
    counts = torch.zeros(model.quantizer.num_codes, dtype=torch.int64, device=where)
    for part in torch.from_numpy(images).split(batch_size):
        indices = model.encode(to_float(part.to(where))).flatten()
        counts += torch.bincount(indices, minlength=len(counts))
    return Usage(counts.cpu().numpy(), float(perplexity(counts.double())), int((counts > 0).sum()))


@torch.no_grad()
def psnr(model: VQVAE, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each picture of uint8 (N, H, W, C) after a round trip, dB (N,)."""
    where, model = next(model.parameters()).device, model.eval()
    errors = []
    for part in torch.from_numpy(images).split(batch_size):
        x = to_float(part.to(where))
        errors.append(((model(x).x_hat.clamp(-1, 1) - x) / 2).square().mean((1, 2, 3)))
    return (-10 * torch.log10(torch.cat(errors).clamp_min(1e-10))).cpu().numpy()


def train_vqvae(
    images: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    num_codes: int = 512,
    dim: int = 32,
    width: int = 64,
    halvings: int = 2,
    lr: float = 2e-3,
    quantizer: Codebook | FSQ | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> VQVAE:
    """Train a VQ-VAE on uint8 pictures (N, H, W, C), C in {1, 3}, H = W in {28, 32, 64}; return it in eval mode.

    Mean squared error plus the quantizer's commitment loss, both averages over every number, AdamW, one cycle.
    With `checkpoint` a killed run goes on where it was. Raises ValueError on pictures of another shape.
    """
    check_pictures(images)
    generator = seed_everything(seed)
    data = torch.from_numpy(images).to(device())
    model = VQVAE(
        quantizer or Codebook(num_codes, dim), channels=images.shape[3], width=width, halvings=halvings
    )
    model = model.to(device(), memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)

    def step(pick: Tensor, _: int) -> dict[str, Tensor]:
        x = to_float(data[pick.to(data.device)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(data.device.type, torch.bfloat16, enabled=data.is_cuda):
            out = model(x)
        error = F.mse_loss(out.x_hat.float(), x)
        loss = error + out.codes.commitment_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        return {
            "mse": error.detach(),
            "commitment": out.codes.commitment_loss.detach(),
            "perplexity": out.codes.perplexity,
        }

    picks = batches(len(data), batch_size, steps, generator)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    model.history = run_steps(step, picks, parts=parts, checkpoint=checkpoint, progress=progress)
    return model.eval()
