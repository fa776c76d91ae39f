"""One space for three modalities: pictures, text and speech as unit vectors, and the loss that brings pairs together.

Built in notebook 06, used in 07 and 08. After van den Oord et al. 2018 (InfoNCE, arXiv:1807.03748) and Radford et al.
2021 (CLIP, arXiv:2103.00020); how it is trained stands in embed_train, how the shipped weights were in embed_recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.captions import CaptionBag
from mmteach.encoders import PictureNet, as_ink
from mmteach.feature_net import at_32
from mmteach.features import log_mel
from mmteach.solutions import info_nce as info_nce
from mmteach.solutions import mel_filterbank
from mmteach.solutions import recall_at_k as recall_at_k
from mmteach.solutions import same_concept as same_concept
from mmteach.solutions import slerp as slerp
from mmteach.solutions import zero_shot as zero_shot
from mmteach.weights import load_weights

DIM = 128
RATE = 16_000
BANDS, HOP, FRAMES = 40, 320, 128  # 20 ms a frame; what is said after 2.56 s is not heard
TOP_SCALE = 100.0  # as in CLIP: beyond it the softmax is all but a maximum, and training breaks
FIRST_SCALE = 1 / 0.07


class PictureTower(nn.Module):
    """The convolutions of `PictureNet`, the largest value of each map in each quarter, and a line to the space."""

    def __init__(self, dim: int = DIM, *, width: int = 24, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = PictureNet(1, width=width).body
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(4 * 8 * width, dim, bias=False)

    def forward(self, ink: Tensor) -> Tensor:
        """Return (B, dim) of ink (B, 3, 32, 32), 0 for white and 1 for full ink."""
        return self.project(self.dropout(F.adaptive_max_pool2d(self.body(ink), 2).flatten(1)))


class TextTower(nn.Module):
    """The mean of a caption's hashed pieces (see `captions`), and two layers to the space."""

    def __init__(
        self, dim: int = DIM, *, width: int = 24, buckets: int = 16_384, dropout: float = 0.15
    ) -> None:
        super().__init__()
        self.bag = CaptionBag(width, buckets)
        nn.init.normal_(self.bag.table.weight, std=0.01)  # small, so that pieces never trained on say little
        self.project = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(dim, dim, bias=False),
        )  # fmt: skip

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Return (B, dim); every caption without a known letter is answered with the same vector."""
        return self.project(self.bag(captions))


class SpeechTower(nn.Module):
    """Three convolutions over time, and the largest value of each channel over the clip."""

    def __init__(self, dim: int = DIM, *, width: int = 96, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(BANDS, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(2 * width, dim, bias=False)

    def forward(self, sounds: Tensor) -> Tensor:
        """Return (B, dim) of `hear`d clips (B, 40, T)."""
        maps = self.body(sounds)
        halves = F.adaptive_max_pool1d(maps, 2).flatten(1)
        return self.project(self.dropout(halves))


class SharedEmbedding(nn.Module):
    """Three towers into one space of `dim` numbers, and the scale that the cosines are multiplied by in training."""

    def __init__(
        self, dim: int = DIM, *, picture_width: int = 24, text_width: int = 24, speech_width: int = 64
    ) -> None:
        super().__init__()
        self.picture_tower = PictureTower(dim, width=picture_width)
        self.text_tower = TextTower(dim, width=text_width)
        self.speech_tower = SpeechTower(dim, width=speech_width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    @property
    def logit_scale(self) -> Tensor:
        """The scale itself, learned as its logarithm and never above 100."""
        return self.log_scale.clamp(max=math.log(TOP_SCALE)).exp()

    @torch.no_grad()
    def text(self, captions: Sequence[str], batch_size: int = 1024) -> Tensor:
        """Return unit vectors (B, dim) of captions.

        A caption is read to its 400th character; one without a single letter or digit (empty, or punctuation) gets the
        one vector of 'nothing said', and a word in a script never trained on lands wherever its pieces hash to.
        Raises TypeError when given one string in place of several, or something else than strings.
        """
        if isinstance(captions, str) or not all(isinstance(each, str) for each in captions):
            raise TypeError(f"text needs a list of strings, one a caption; got {captions!r:.80}")
        parts = [captions[start : start + batch_size] for start in range(0, len(captions), batch_size)]
        return self._unit([self.text_tower(part) for part in parts])

    @torch.no_grad()
    def pictures(self, images: np.ndarray, batch_size: int = 256) -> Tensor:
        """Return unit vectors (N, dim) of pictures uint8 (N, S, S, C), S in 28, 32, 64, C in 1, 3; else ValueError.

        Each lies half-way between what the tower makes of the picture and of its mirror image, which is drawn as often
        in training.
        """
        pixels = torch.from_numpy(at_32(images)).permute(0, 3, 1, 2)
        where = self.log_scale.device
        return self._unit([self._both_ways(as_ink(part.to(where))) for part in pixels.split(batch_size)])

    def _both_ways(self, ink: Tensor) -> Tensor:
        one, mirrored = (F.normalize(self.picture_tower(each), dim=1) for each in (ink, ink.flip(3)))
        return one + mirrored

    @torch.no_grad()
    def speech(self, clips: Sequence[np.ndarray], rate: int = RATE, batch_size: int = 256) -> Tensor:
        """Return unit vectors (N, dim) of clips float (T,) in [-1, 1] at 16 kHz; see `hear` for what is refused."""
        sounds = torch.from_numpy(np.stack([hear(clip, rate) for clip in clips]) if len(clips) else _NO_SOUND)
        where = self.log_scale.device
        return self._unit([self.speech_tower(part.to(where).float()) for part in sounds.split(batch_size)])

    def _unit(self, parts: list[Tensor]) -> Tensor:
        if self.training:
            raise RuntimeError(
                "the model is in training mode, where its answers are random: call .eval() first"
            )
        return F.normalize(torch.cat(parts or [self.log_scale.new_zeros(0, DIM)]), dim=1)


_NO_SOUND = np.zeros((0, BANDS, FRAMES), np.float16)
_BANK = mel_filterbank(BANDS, 512, RATE)


def hear(clip: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Return a clip float (T,) as its log-mel spectrogram float16 (40, 128), about -3 (silence) to 3, 20 ms a frame.

    Shorter clips are followed by silence; of longer ones the first 2.56 s count. Raises ValueError unless the clip is
    mono, at 16 kHz, finite and not empty.
    """
    sound = np.asarray(clip)
    if sound.ndim != 1 or len(sound) == 0 or sound.dtype.kind != "f" or not np.isfinite(sound).all():
        raise ValueError(f"a clip is finite float (T,), mono, T at least 1; got {sound.dtype} {sound.shape}")
    if rate != RATE:
        raise ValueError(f"clips are heard at {RATE} Hz, and this one has {rate}: resample it first")
    length = (FRAMES - 1) * HOP
    heard = log_mel(np.pad(sound[:length], (0, max(0, length - len(sound)))), hop=HOP, filters=_BANK)
    return ((heard.clip(-70) + 20) / 16).astype(np.float16)


def load_pretrained(name: str | None = None, device: str = "cpu") -> SharedEmbedding:
    """Return the shipped space of pictures, text and speech in eval mode.

    name: of other weights beside it. Raises DataError when the file is missing or damaged.
    """
    config, state = load_weights(name or "embed")
    model = SharedEmbedding(**config["model"])
    model.load_state_dict(state)
    return model.eval().to(device)
