"""The VQ-VAE: pictures become maps of discrete codes and come back.

Built in notebook 05, on the quantizers of `codebook`. Follows van den Oord et al. 2017 (arXiv:1711.00937).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.codebook import FSQ as FSQ
from mmteach.codebook import Codebook, Quantized
from mmteach.engine import Scalars, Stateful, run_steps
from mmteach.solutions import perplexity
from mmteach.solutions import straight_through as straight_through
from mmteach.train import batches, check_pictures, device, seed_everything, to_float, to_pictures
from mmteach.weights import load_weights


class Reconstruction(NamedTuple):
    """What a VQ-VAE returns: x_hat (B, C, H, W) in [-1, 1] and what its quantizer returned."""

    x_hat: Tensor
    codes: Quantized


class Residual(nn.Module):
    """x + conv(conv(x)): look at the neighbours, then mix the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def encoder_net(channels: int, width: int, dim: int, patch: int, blocks: int) -> nn.Sequential:
    """Return a network from (B, C, H, W) to (B, D, H/patch, W/patch).

    Pixels become channels first, so that all arithmetic is done where the codes are, on few places.
    """
    first = nn.Conv2d(channels * patch**2, width, 3, padding=1)
    body = [Residual(width) for _ in range(blocks)]
    return nn.Sequential(nn.PixelUnshuffle(patch), first, *body, nn.SiLU(), nn.Conv2d(width, dim, 1))


def decoder_net(channels: int, width: int, dim: int, patch: int, blocks: int) -> nn.Sequential:
    """Return the mirror of `encoder_net`, from (B, D, h, w) to (B, C, h*patch, w*patch) in [-1, 1]."""
    body = [Residual(width) for _ in range(blocks)]
    last = nn.Conv2d(width, channels * patch**2, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(dim, width, 3, padding=1), *body, nn.SiLU(), last, nn.PixelShuffle(patch), nn.Tanh()
    )


class VQVAE(nn.Module):
    """Encoder, quantizer, decoder: a picture becomes (size / patch)^2 codes and comes back."""

    def __init__(
        self,
        quantizer: Codebook | FSQ,
        *,
        channels: int = 3,
        width: int = 128,
        patch: int = 4,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = encoder_net(channels, width, quantizer.dim, patch, blocks)
        self.quantizer = quantizer
        self.decoder = decoder_net(channels, width, quantizer.dim, patch, blocks)
        self.history: list[Scalars] = []

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


def decibels(images: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio (N,) in dB of `guesses` for `images`, both (N, H, W, C) from 0 to 255."""
    error = np.square(images.astype(np.float64) - guesses).mean((1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-6))


@torch.no_grad()
def reconstruct(model: VQVAE, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return uint8 pictures (N, H, W, C) after a round trip through their codes; the model is put in eval mode."""
    where, model = next(model.parameters()).device, model.eval()
    parts = torch.from_numpy(images).split(batch_size)
    return np.concatenate([to_pictures(model(to_float(part.to(where))).x_hat) for part in parts])


def psnr(model: VQVAE, images: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio (N,) in dB of uint8 pictures (N, H, W, C) after a round trip."""
    return decibels(images, reconstruct(model, images))


def train_vqvae(
    images: np.ndarray, *, steps: int, batch_size: int, seed: int, num_codes: int = 512, dim: int = 32,
    width: int = 128, blocks: int = 2, patch: int | None = None, lr: float = 2e-3, flips: bool = False,
    quantizer: Codebook | FSQ | None = None, checkpoint: Path | None = None, every: int = 100,
    progress: Callable[[int, Scalars], None] | None = None,
) -> VQVAE:  # fmt: skip
    """Train a VQ-VAE on uint8 pictures (N, H, W, C), C in {1, 3}, H = W in {28, 32, 64}; return it in eval mode.

    Mean squared error plus the quantizer's commitment loss, both averages over every number; AdamW, one cycle. patch:
    pixels a side of one code, by default 4, at 64 pixels 8; flips: mirror half of the pictures. With `checkpoint` a
    killed run goes on where it was. Raises ValueError on pictures of another shape.
    """
    check_pictures(images)
    generator = seed_everything(seed)
    data = torch.from_numpy(images).to(device())
    patch = patch or (8 if images.shape[1] == 64 else 4)
    codes = quantizer or Codebook(num_codes, dim)
    model = (
        VQVAE(codes, channels=images.shape[3], width=width, patch=patch, blocks=blocks).to(device()).train()
    )
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)

    def step(pick: Tensor, _: int) -> dict[str, Tensor]:
        x = to_float(data[pick.to(data.device)])
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x) if flips else x
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(data.device.type, torch.bfloat16, enabled=data.is_cuda):
            out = model(x)
        error = F.mse_loss(out.x_hat.float(), x)
        optimizer.zero_grad(set_to_none=True)
        (error + out.codes.commitment_loss).backward()
        optimizer.step()
        schedule.step()
        noted = {"mse": error, "commitment": out.codes.commitment_loss, "perplexity": out.codes.perplexity}
        return {name: value.detach() for name, value in noted.items()}

    picks = batches(len(data), batch_size, steps, generator)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    about = {
        "images": images,
        "steps": steps,
        "batch size": batch_size,
        "seed": seed,
        "lr": lr,
        "flips": flips,
        "model": str(model),
        "rules": getattr(codes, "rules", None),
    }
    model.history = run_steps(
        step, picks, parts=parts, about=about, checkpoint=checkpoint, every=every, progress=progress
    )
    return model.eval()


def load_pretrained(name: str | None = None, device: str = "cpu") -> VQVAE:
    """Return the shipped VQ-VAE of 32 x 32 emoji, 64 tokens of 512 codes, in eval mode.

    name: of other weights beside it. Raises DataError when the file is missing or damaged.
    """
    config, state = load_weights(name or "vqvae")
    model = VQVAE(Codebook(**config["codebook"]), **config["model"])
    model.load_state_dict(state)
    return model.eval().to(device)
