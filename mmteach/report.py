"""All figures for a set of generated pictures at once, each with its network and with the real-vs-real floor.

Used by notebooks 04 and 07 and by the cards of the shipped weights. The distances are in mmteach.distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmteach.distances import frechet_distance, kernel_distance, precision_recall_density_coverage, two_sets
from mmteach.feature_net import NAME, picture_features
from mmteach.metrics import Interval, Memorisation, memorisation

SHRINKING = ("frechet", "kernel")  # of like sets these go with 1 / N + 1 / M


@dataclass(frozen=True)
class Report:
    """What `report` found: figures by name, their standard errors where known, and the floor of each."""

    network: str
    sizes: tuple[int, int]
    figures: Mapping[str, float]
    errors: Mapping[str, float]
    floor: Mapping[str, Interval]
    copies: Memorisation | None = None

    def __str__(self) -> str:
        """One line a figure; the network's name and the floor stand in each."""
        lines = [f"{self.sizes[0]} real and {self.sizes[1]} generated pictures"]
        for name, value in self.figures.items():
            error = f" ± {self.errors[name]:.4f}" if name in self.errors else ""
            low, mean, high = self.floor[name]
            floor = f"real against real {mean:.4f} [{low:.4f}, {high:.4f}]"
            lines.append(f"{name} ({self.network}): {value:.4f}{error}; {floor}")
        if self.copies is not None:
            lines.append(f"copies ({self.network}): {self.copies}")
        return "\n".join(lines)


def report(
    real: np.ndarray, fake: np.ndarray, *, network: str | None = None, train: np.ndarray | None = None,
    held_out: np.ndarray | None = None, k: int = 5, halvings: int = 20, seed: int = 0,
) -> Report:  # fmt: skip
    """Compare pictures uint8 (N, S, S, C) and (M, S, S, C), or features float (N, D) and (M, D) of a named `network`.

    The floor is what two random halves of the real set give each other, over `halvings` splits, as mean and 95 % range:
    no generator should be expected to do better. Fréchet and kernel distance of halves are scaled by
    (1 / N + 1 / M) / (4 / N) to the sizes in hand, for with like sets both go with the sum of the inverse sizes (the
    kernel distance in its spread; its mean is 0); where N / 2 is not well above D, that is an approximation. Shares and
    density have no such law and are those of the halves. With `train` and `held_out`, of the same kind, also the search
    for copies. Raises ValueError on features without a `network`, pictures with one, or sets that do not fit together.
    """
    given = {"real": real, "fake": fake, "train": train, "held_out": held_out}
    sets = {name: _features(each, network) for name, each in given.items() if each is not None}
    if (train is None) != (held_out is None):
        raise ValueError("the search for copies needs both train and held_out")
    a, b = two_sets(sets["real"], sets["fake"], 2 * (k + 1))
    figures, error = compare(a, b, k)
    copies = memorisation(b, sets["train"], sets["held_out"]) if "train" in sets else None
    floor = real_floor(a, len(b), k=k, halvings=halvings, seed=seed)
    return Report(network or NAME, (len(a), len(b)), figures, {"kernel": error}, floor, copies)


def compare(real: np.ndarray, fake: np.ndarray, k: int = 5) -> tuple[dict[str, float], float]:
    """Return all figures of features (N, D) and (M, D) by name, and the standard error of the kernel distance."""
    value, error = kernel_distance(real, fake)
    shares = precision_recall_density_coverage(real, fake, k)
    return {"frechet": frechet_distance(real, fake), "kernel": value, **shares}, error


def real_floor(
    real: np.ndarray, count: int, *, k: int = 5, halvings: int = 20, seed: int = 0
) -> dict[str, Interval]:
    """Return each figure for halves of real features (N, D) against each other, scaled as if against `count` fakes."""
    rng, half = np.random.default_rng(seed), len(real) // 2
    scale = (1 / len(real) + 1 / count) / (2 / half)
    rows = []
    for _ in range(halvings):
        order = rng.permutation(len(real))
        rows.append(compare(real[order[:half]], real[order[half : 2 * half]], k)[0])
    return {
        name: _range([row[name] for row in rows], scale if name in SHRINKING else 1.0) for name in rows[0]
    }


def _range(values: list[float], scale: float) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low * scale), float(np.mean(values) * scale), float(high * scale))


def _features(given: np.ndarray, network: str | None) -> np.ndarray:
    """Return features (N, D): those given, or those of the pictures given."""
    if (np.ndim(given) == 4) == (network is None):
        return picture_features(given) if network is None else np.asarray(given)
    what = (
        "name the network that features (N, D) come from"
        if network is None
        else "pictures are read by our own"
    )
    raise ValueError(f"got an array of shape {np.shape(given)} and network={network!r}: {what}")
