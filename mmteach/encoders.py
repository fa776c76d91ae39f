"""Learned encoders of pictures (a small network) and of speech (a dictionary of sounds).

Used by notebooks 02 (learned features) and 03 (fusion); trained from scratch in seconds to minutes on a CPU.
The network follows the plain recipe of airbench: uint8 data on the device, one cycle, label smoothing,
shifts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmteach.features import is_missing, mfcc
from mmteach.solutions import mel_filterbank, patch_codes
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


def shrink(images: np.ndarray, size: int = 32) -> torch.Tensor:
    """Return pictures uint8 (N, H, W, 3) averaged down to uint8 (N, 3, size, size), on the training device.

    Raises ValueError when the pictures are not uint8 (N, H, W, 3), or H is no multiple of `size`.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or images.shape[1] % size:
        raise ValueError(
            f"need uint8 pictures (N, H, W, 3) with H a multiple of {size}, got {images.dtype} {images.shape}"
        )
    parts = [
        F.avg_pool2d(
            torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2).float(), images.shape[1] // size
        )
        .round()
        .byte()
        for part in np.array_split(images, max(1, len(images) // 1000))
    ]
    return torch.cat(parts).to(device())


def small(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Return pictures uint8 (N, H, W, 3) averaged down to uint8 (N, size, size, 3), on the host; see `shrink`."""
    return shrink(images, size).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def as_ink(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels as float ink, 0 for white: padding with zeros then continues the background."""
    return (1 - pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def augment_ink(
    ink: torch.Tensor, generator: torch.Generator, *, move: float = 1.0, tint: float = 1.0
) -> torch.Tensor:
    """Return ink (B, 3, S, S) shifted, turned, scaled, flipped and tinted, each picture in its own way.

    `move` scales how far pictures shift, turn and grow, `tint` how far their colours change.
    """
    count, where = len(ink), ink.device
    draw = torch.rand(8, count, generator=generator).to(where) * 2 - 1  # each in [-1, 1]
    angle, zoom, flip = draw[0] * 0.25 * move, torch.exp(draw[1] * 0.2 * move), draw[2].sign()
    cos, sin, shift = zoom * angle.cos(), zoom * angle.sin(), draw[3:5] * 0.15 * move
    turn = torch.stack([flip * cos, -sin, shift[0], flip * sin, cos, shift[1]], -1).view(-1, 2, 3)
    grid = F.affine_grid(turn, list(ink.shape), align_corners=False)
    mixing = torch.diag_embed(1 + 0.3 * tint * draw[5:8].T) + 0.15 * tint * torch.randn(
        count, 3, 3, generator=generator
    ).to(where)
    moved = F.grid_sample(ink, grid, align_corners=False)
    return (
        torch.einsum("bij,bjhw->bihw", mixing, moved)
        .clamp(0, 1)
        .contiguous(memory_format=torch.channels_last)
    )


def train_picture_net(
    images: np.ndarray, labels: np.ndarray, *, steps: int, batch_size: int = 128, lr: float = 4e-3,
    size: int = 32, seed: int = 0, num_classes: int | None = None, width: int = 32,
    coarse: np.ndarray | None = None,
) -> PictureNet:  # fmt: skip
    """Train a PictureNet on uint8 pictures (N, H, W, 3) with int64 labels (N,); return it in eval mode.

    AdamW, one cycle, label smoothing 0.1; the pictures live on the device as uint8 and every batch is
    augmented anew. coarse: int64 (num_classes,), the larger class of each class; their cross-entropy is then
    added. Raises ValueError when labels and pictures differ in number.
    """
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} pictures but {len(labels)} labels")
    generator, where = seed_everything(seed), device()
    pixels, target = shrink(images, size), torch.as_tensor(labels, dtype=torch.int64, device=where)
    net = PictureNet(num_classes or int(target.max()) + 1, size=size, width=width).to(where)
    net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    larger = None if coarse is None else torch.as_tensor(coarse, dtype=torch.int64, device=where)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)
    for rows in batches(len(pixels), batch_size, steps, generator):
        rows = rows.to(where)
        logits = net(augment_ink(as_ink(pixels[rows]), generator))
        loss = F.cross_entropy(logits, target[rows], label_smoothing=0.1)
        if larger is not None:
            loss = loss + F.nll_loss(coarse_log_probs(logits, larger), larger[target[rows]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def coarse_log_probs(logits: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities of the larger classes, (B, K), from scores (B, C) and each class's larger one
    (C,)."""
    members = F.one_hot(coarse).bool().T  # (K, C)
    log_probs = logits.log_softmax(dim=1)
    return torch.stack([log_probs[:, each].logsumexp(dim=1) for each in members], dim=1)


@torch.no_grad()
def embed_pictures(net: PictureNet, images: np.ndarray, *, augment: int | None = None) -> np.ndarray:
    """Return the vectors of uint8 pictures (N, H, W, 3) as float32 (N, net.dim).

    augment: a seed; the pictures are then shifted, turned and tinted first, as in training.
    """
    parts, generator = [], torch.Generator().manual_seed(augment or 0)
    for part in shrink(images, net.size).split(512):
        ink = as_ink(part) if augment is None else augment_ink(as_ink(part), generator)
        parts.append(net.embed(ink))
    return torch.cat(parts).cpu().numpy()


@torch.no_grad()
def picture_logits(net: PictureNet, images: np.ndarray) -> np.ndarray:
    """Return the class scores of uint8 pictures (N, H, W, 3) as float32 (N, num_classes)."""
    return torch.cat([net(as_ink(part)) for part in shrink(images, net.size).split(512)]).cpu().numpy()


@lru_cache(maxsize=1)
def _bank() -> np.ndarray:
    """Return the mel filters, made once: making them takes longer than using them."""
    return mel_filterbank(40, 512, 16_000)


class SoundDictionary(TransformerMixin, BaseEstimator):
    """Bag of sounds: how near a clip (T,) at 16 kHz comes to each of `words` typical stretches of `width`
    frames.

    The typical stretches are k-means centres of MFCC windows, 20 ms a frame; the same triangle code as the
    patch dictionary of pictures (Coates, Lee & Ng 2011) is pooled by its largest value over the clip. A
    missing clip (None, NaN) becomes a row of NaN.
    """

    def __init__(self, words: int = 600, width: int = 12, random_state: int = 0) -> None:
        self.words = words
        self.width = width
        self.random_state = random_state

    def fit(self, X: Iterable[np.ndarray | None], y: object = None) -> SoundDictionary:
        """Learn the dictionary from clips; `y` is ignored."""
        stretches = np.concatenate(
            [self._stretches(clip, 4) for clip in X if clip is not None and not is_missing(clip)]
        )
        self.mean_, self.spread_ = stretches.mean(axis=0), stretches.std(axis=0) + 1e-6
        kmeans = MiniBatchKMeans(self.words, random_state=self.random_state, n_init=1, max_iter=20)
        kmeans.set_params(batch_size=4096)
        self.centres_ = kmeans.fit((stretches - self.mean_) / self.spread_).cluster_centers_
        return self

    def transform(self, X: Iterable[np.ndarray | None]) -> np.ndarray:
        """Return float32 (clips, words)."""
        check_is_fitted(self)
        return np.stack([self._code(clip) for clip in X])

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return one name a word of the dictionary."""
        return np.array([f"sound{i}" for i in range(self.words)], dtype=object)

    def _code(self, clip: np.ndarray | None) -> np.ndarray:
        if clip is None or is_missing(clip):
            return np.full(self.words, np.nan, dtype=np.float32)
        stretches = (self._stretches(clip, 2) - self.mean_) / self.spread_
        return patch_codes(stretches, self.centres_).max(axis=0).astype(np.float32)

    def _stretches(self, clip: np.ndarray, step: int) -> np.ndarray:
        """Return windows (W, 13 * width) of the clip's MFCCs, one every `step` frames."""
        frames = mfcc(np.asarray(clip), hop=320, filters=_bank())
        frames = np.pad(frames, ((0, 0), (0, max(0, self.width - frames.shape[1]))), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(frames, self.width, axis=1)[:, ::step]
        return windows.transpose(1, 0, 2).reshape(-1, 13 * self.width).astype(np.float32)
