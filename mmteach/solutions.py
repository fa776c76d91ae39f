"""Reference solutions of the exercises, the one source that checks, notebooks and tests read.

A function here has the name of its exercise; `check.<name>` judges a reader's version against it and
`check.solution("<name>")` shows its text folded away. Each stands alone on numpy (`np`) and torch.
"""

from __future__ import annotations

import numpy as np
import torch


# Notebook 02


def tf_idf(counts, train_counts):
    """Weigh words by how often they stand here and how rare they are in training; every row gets length 1."""
    documents = len(train_counts)
    containing = (train_counts > 0).sum(axis=0)
    rarity = np.log((1 + documents) / (1 + containing)) + 1
    weights = counts * rarity
    length = np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights / np.where(length > 0, length, 1)


def colour_histogram(picture, bins=4):
    """Share of the pixels of uint8 (H, W, 3) in each of bins**3 boxes of (red, green, blue)."""
    level = picture.reshape(-1, 3).astype(int) * bins // 256
    box = (level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]
    return np.bincount(box, minlength=bins**3) / len(box)


def mel_filterbank(n_mels, n_fft, sample_rate):
    """Triangles of height 1, evenly spaced in mels from 0 to half the sample rate: (n_mels, n_fft // 2 + 1)."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (frequency - low) / (peak - low)
    falling = (high - frequency) / (high - peak)
    return np.maximum(0, np.minimum(rising, falling))


def patch_codes(patches, atoms):
    """Triangle code: how much nearer each of (P, D) patches is to each of (K, D) atoms than to the average atom."""
    squares = (patches**2).sum(axis=1)[:, None] - 2 * patches @ atoms.T + (atoms**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares, 0))
    return np.maximum(0, distance.mean(axis=1, keepdims=True) - distance)
