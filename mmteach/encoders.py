"""Small encoders, one a modality: a picture, a name or a clip of speech becomes a vector and class scores.

Used by notebooks 02 (learned features) and 03 (fusion); trained from scratch in seconds to minutes on a CPU.
After the plain recipe of airbench: data on the device as uint8, one-cycle schedule, label smoothing, shifts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmteach.features import log_mel
from mmteach.train import batches, device, one_cycle, seed_everything


class PictureNet(nn.Module):
    """Five convolutions from a picture to a vector, and one linear layer from there to class scores.

    ink: (B, 3, S, S) float, 0 for white and 1 for full ink, S a multiple of 8 -> logits (B, num_classes).
    """

    def __init__(self, num_classes: int, *, size: int = 32, width: int = 32) -> None:
        super().__init__()
        self.size = size
        self.dim = 8 * width
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            _conv(width, 2 * width), nn.MaxPool2d(2),
            _conv(2 * width, 4 * width), _conv(4 * width, 4 * width), nn.MaxPool2d(2),
            _conv(4 * width, 8 * width),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(self.dim, num_classes)

    def embed(self, ink: torch.Tensor) -> torch.Tensor:
        """Return one vector a picture, (B, 8 * width): the largest value of each last feature map."""
        return self.body(ink).amax(dim=(2, 3))

    def forward(self, ink: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.embed(ink)))


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class SpeechNet(nn.Module):
    """Three convolutions along time, the mel bands as channels: a clip to a vector, and from there to class
    scores.

    sound: (B, mels, frames) float -> logits (B, num_classes).
    """

    def __init__(self, num_classes: int, *, mels: int = 40, width: int = 64) -> None:
        super().__init__()
        self.dim = 3 * width
        self.body = nn.Sequential(
            _conv1d(mels, width, 2), _conv1d(width, 2 * width, 2), _conv1d(2 * width, 3 * width, 1)
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(self.dim, num_classes)

    def embed(self, sound: torch.Tensor) -> torch.Tensor:
        """Return one vector a clip, (B, 3 * width): the largest value of each last feature over time."""
        return self.body(sound).amax(dim=2)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.embed(sound)))


Net = TypeVar("Net", PictureNet, SpeechNet)


def _conv1d(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels_out, 5, stride=stride, padding=2, bias=False),
        nn.BatchNorm1d(channels_out), nn.ReLU(),
    )  # fmt: skip


def sound_picture(clip: np.ndarray, frames: int = 128) -> np.ndarray:
    """Return a clip (T,) at 16 kHz as float32 (40, frames): log-mel in steps of 20 ms, silence -1, cut or
    padded."""
    loudness = np.clip((log_mel(clip, hop=320) + 30) / 70, -1, 1)[:, :frames]
    return np.pad(loudness, ((0, 0), (0, frames - loudness.shape[1])), constant_values=-1).astype(np.float32)


def mask_sound(sound: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return sound (B, mels, frames) moved in time, some bands and some frames silenced (SpecAugment,
    1904.08779)."""
    count, mels, frames = sound.shape
    moved = torch.roll(sound, int(torch.randint(-6, 7, (1,), generator=generator)), dims=2)
    at = torch.rand(4, count, 1, 1, generator=generator).to(sound.device)
    band = torch.arange(mels, device=sound.device)[None, :, None] - at[0] * mels
    time = torch.arange(frames, device=sound.device)[None, None, :] - at[1] * frames
    hidden = ((band >= 0) & (band < 8 * at[2])) | ((time >= 0) & (time < 16 * at[3]))
    return moved.masked_fill(hidden, -1.0)


def shrink(images: np.ndarray, size: int = 32) -> torch.Tensor:
    """Return pictures uint8 (N, H, W, 3) averaged down to uint8 (N, 3, size, size), on the training device.

    Raises ValueError when the pictures are not uint8 (N, H, W, 3), or H is no multiple of `size`.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or images.shape[1] % size:
        raise ValueError(
            f"need uint8 pictures (N, H, W, 3) with H a multiple of {size}, got {images.dtype} {images.shape}"
        )
    parts = [
        F.avg_pool2d(torch.from_numpy(part).permute(0, 3, 1, 2).float(), images.shape[1] // size)
        .round()
        .byte()
        for part in np.array_split(images, max(1, len(images) // 1000))
    ]
    return torch.cat(parts).to(device())


def as_ink(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels as float ink, 0 for white: padding with zeros then continues the background."""
    return (1 - pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def augment_ink(ink: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return ink (B, 3, S, S) shifted, turned, scaled, flipped and tinted, each picture in its own way."""
    count, where = len(ink), ink.device
    draw = torch.rand(8, count, generator=generator).to(where) * 2 - 1  # each in [-1, 1]
    angle, zoom, flip = draw[0] * 0.25, torch.exp(draw[1] * 0.2), draw[2].sign()
    cos, sin, shift = zoom * angle.cos(), zoom * angle.sin(), draw[3:5] * 0.15
    turn = torch.stack([flip * cos, -sin, shift[0], flip * sin, cos, shift[1]], -1).view(-1, 2, 3)
    grid = F.affine_grid(turn, list(ink.shape), align_corners=False)
    tint = 1 + 0.3 * draw[5:8].T[:, :, None, None]
    return (F.grid_sample(ink, grid, align_corners=False) * tint).clamp(0, 1)


def train_picture_net(
    images: np.ndarray, labels: np.ndarray, *, steps: int, batch_size: int = 128, lr: float = 4e-3,
    size: int = 32, seed: int = 0, num_classes: int | None = None, width: int = 32,
) -> PictureNet:  # fmt: skip
    """Train a PictureNet on uint8 pictures (N, H, W, 3) with int64 labels (N,); return it in eval mode.

    The pictures live on the device as uint8; every batch is shifted, turned, flipped and tinted anew.
    Raises ValueError when labels and pictures differ in number.
    """
    seed_everything(seed)
    net = PictureNet(num_classes or int(np.max(labels)) + 1, size=size, width=width)
    net = net.to(device(), memory_format=torch.channels_last)
    return _train(net, shrink(images, size), labels, _seen_anew, steps, batch_size, lr, seed)


def train_speech_net(
    sound: np.ndarray, labels: np.ndarray, *, steps: int, batch_size: int = 128, lr: float = 4e-3,
    seed: int = 0, num_classes: int | None = None, width: int = 64,
) -> SpeechNet:  # fmt: skip
    """Train a SpeechNet on log-mel pictures float32 (N, mels, frames) with int64 labels (N,); return it in
    eval mode.

    Every batch is shifted and partly masked anew. Raises ValueError when labels and clips differ in number.
    """
    seed_everything(seed)
    net = SpeechNet(num_classes or int(np.max(labels)) + 1, mels=sound.shape[1], width=width).to(device())
    return _train(
        net, torch.as_tensor(sound, device=device()), labels, mask_sound, steps, batch_size, lr, seed
    )


def _seen_anew(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return augment_ink(as_ink(pixels), generator)


def _train(
    net: Net, inputs: torch.Tensor, labels: np.ndarray, augment: Callable[..., torch.Tensor],
    steps: int, batch_size: int, lr: float, seed: int,
) -> Net:  # fmt: skip
    """AdamW with a one-cycle schedule and label smoothing 0.1 on batches that `augment` changes."""
    if len(inputs) != len(labels):
        raise ValueError(f"{len(inputs)} inputs but {len(labels)} labels")
    generator = torch.Generator().manual_seed(seed)
    target = torch.as_tensor(labels, dtype=torch.int64, device=inputs.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)
    net.train()
    for rows in batches(len(inputs), batch_size, steps, generator):
        rows = rows.to(inputs.device)
        loss = F.cross_entropy(net(augment(inputs[rows], generator)), target[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def embed_pictures(net: PictureNet, images: np.ndarray) -> np.ndarray:
    """Return the vectors of uint8 pictures (N, H, W, 3) as float32 (N, net.dim)."""
    return torch.cat([net.embed(as_ink(part)) for part in shrink(images, net.size).split(512)]).cpu().numpy()


@torch.no_grad()
def picture_logits(net: PictureNet, images: np.ndarray) -> np.ndarray:
    """Return the class scores of uint8 pictures (N, H, W, 3) as float32 (N, num_classes)."""
    return torch.cat([net(as_ink(part)) for part in shrink(images, net.size).split(512)]).cpu().numpy()


@torch.no_grad()
def speech_logits(net: SpeechNet, sound: np.ndarray) -> np.ndarray:
    """Return the class scores of log-mel pictures (N, mels, frames) as float32 (N, num_classes)."""
    return torch.cat([net(part.to(device())) for part in torch.from_numpy(sound).split(512)]).cpu().numpy()


@torch.no_grad()
def embed_speech(net: SpeechNet, sound: np.ndarray) -> np.ndarray:
    """Return the vectors of log-mel pictures (N, mels, frames) as float32 (N, net.dim)."""
    return (
        torch.cat([net.embed(part.to(device())) for part in torch.from_numpy(sound).split(512)]).cpu().numpy()
    )
