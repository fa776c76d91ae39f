"""Distances agree with torch-fidelity, which reads our own features through an extractor registered with it.

It comes with the extra `fidelity` and not with `test`, for its torchvision could bring another torch along.
"""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch
import without_vision_ops
from torch.utils.data import Dataset

from mmteach.distances import frechet_distance, kernel_distance, precision_recall_density_coverage
from mmteach.feature_net import NAME, picture_features

for needed in ("torch_fidelity", "torchvision"):
    if importlib.util.find_spec(needed) is None:
        if os.environ.get("MMTEACH_REQUIRE_PEERS"):
            raise ImportError(f"MMTEACH_REQUIRE_PEERS is set, and {needed} is not installed")
        pytest.skip(f"{needed} is not installed", allow_module_level=True)
without_vision_ops.declare()

import torch_fidelity  # noqa: E402
from torch_fidelity.feature_extractor_base import FeatureExtractorBase  # noqa: E402


class Ours(FeatureExtractorBase):
    """`picture_features` as torch-fidelity wants an extractor to be."""

    def __init__(self, name: str, features_list: list[str], **more: object) -> None:
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("64",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "64"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
        return (torch.from_numpy(picture_features(pictures)),)


class Pictures(Dataset):
    """uint8 (N, H, W, C) as a data set of uint8 (C, H, W)."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pictures[index]


def blobs(seed: int, count: int = 150) -> np.ndarray:
    """Pictures uint8 (count, 32, 32, 3) of one coloured disc each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    middle, reach = rng.uniform(8, 24, (2, count, 1, 1)), rng.uniform(3, 12, (count, 1, 1))
    inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < reach**2
    colour = rng.integers(0, 200 + 20 * seed, (count, 1, 1, 3))
    return np.where(inside[..., None], colour, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def theirs() -> dict[str, float]:
    """What torch-fidelity says; its first input is the generated one, and one subset of all rows is the kernel's."""
    torch_fidelity.register_feature_extractor(NAME, Ours)
    return torch_fidelity.calculate_metrics(
        input1=Pictures(blobs(2)), input2=Pictures(blobs(1)), feature_extractor=NAME,
        fid=True, kid=True, prc=True, kid_subsets=1, kid_subset_size=150, prc_neighborhood=5,
        cuda=False, cache=False, verbose=False, batch_size=50, save_cpu_ram=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def features() -> tuple[np.ndarray, np.ndarray]:
    return picture_features(blobs(1)), picture_features(blobs(2))


def test_the_frechet_distance_agrees_with_torch_fidelity(theirs, features):
    assert frechet_distance(*features) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)


def test_the_kernel_distance_agrees_with_torch_fidelity(theirs, features):
    assert kernel_distance(*features)[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)


def test_precision_and_recall_agree_with_torch_fidelity(theirs, features):
    ours = precision_recall_density_coverage(*features, k=5)
    assert {ours["precision"], ours["recall"]} != {1.0}
    # Both are shares of 150 pictures; its distances are in float32, so a point on a rim may fall on either side.
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1 / 150)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1 / 150)
