"""What makes a GAN collapse on the faces, and what cures it: `python -m mmteach study 04_gan`.

Read by notebook 04, which runs one collapsing and one cured arm live with the same functions. Every arm has the same
networks, pictures, steps and seeds; losses share one grid of learning rates, and the cure is ablated term by term.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmteach.data import TRAIN_STYLES, MultimodalDataset, data_checksum, load_emoji
from mmteach.encoders import small
from mmteach.feature_net import NAME, picture_features
from mmteach.gan import GAMES, Discriminator, Generator, Penalty, TrainedGan, diff_augment, sample, train_gan
from mmteach.metrics import memorisation
from mmteach.report import compare
from mmteach.solutions import contact_sheet
from mmteach.study import RESULTS, command, destination, write_json

LEARNING_RATES = (2e-4, 1e-3, 3e-3)
SEEDS = (0, 1, 2)
STEPS = 800
BATCH = 32
DRAWN = 1000


@dataclass(frozen=True)
class Arm:
    """One way to train: the loss, the learning rate, and which terms of the cure are on.

    `dcgan` swaps in BatchNorm for the generator, spectral norm for the discriminator, and Adam with beta1 = 0.5.
    """

    loss: str = "relativistic"
    lr: float = 1e-3
    r1: float = 0.0
    r2: float = 0.0
    augment: bool = False
    dcgan: bool = False

    def train(self, images: np.ndarray, *, seed: int, steps: int, **more: Any) -> TrainedGan:
        """Train on uint8 pictures (N, 32, 32, 3) with this arm's settings; `more` goes to `train_gan`."""
        game = GAMES[self.loss]
        settings: dict[str, Any] = {
            "d_loss": game.d_loss, "g_loss": game.g_loss, "lr": self.lr, "batch_size": BATCH,
            "penalty": Penalty(self.r1, self.r2) if self.r1 or self.r2 else None,
            "augment": diff_augment if self.augment else None, "width": WIDTH,
        }  # fmt: skip
        if self.dcgan:
            torch.manual_seed(seed)
            networks = Generator(width=WIDTH, norm="batch"), Discriminator(width=WIDTH, spectral=True)
            settings |= {"networks": networks, "betas": (0.5, 0.999)}
        return train_gan(images, steps=steps, seed=seed, **(settings | more))


GAMMA = 0.1
WIDTH = 24  # small, so that seventy runs fit in an hour; the live runs of the notebook are wider
CURE = Arm("relativistic", 1e-3, GAMMA, GAMMA, augment=True)


def arms() -> dict[str, Arm]:
    """Return every arm under its name."""
    grid = [(loss, lr) for loss in GAMES for lr in LEARNING_RATES]
    found = {f"bare {loss} {lr:g}": Arm(loss, lr) for loss, lr in grid}
    found |= {f"cure {loss} {lr:g}": replace(CURE, loss=loss, lr=lr) for loss, lr in grid}
    found["dcgan hinge 0.0002"] = Arm("hinge", 2e-4, dcgan=True)
    less: dict[str, dict[str, Any]] = {
        "without R1": {"r1": 0.0}, "without R2": {"r2": 0.0}, "without R1 and R2": {"r1": 0.0, "r2": 0.0},
        "without augmentation": {"augment": False},
    }  # fmt: skip
    return found | {name: replace(CURE, **changes) for name, changes in less.items()}


def faces(dataset: MultimodalDataset, split: str) -> np.ndarray:
    """Return the faces of a split in the training styles, uint8 (N, 32, 32, 3); pairs held out are left out."""
    return small(dataset.images[face_rows(dataset, split)])


def face_rows(dataset: MultimodalDataset, split: str) -> np.ndarray:
    """Return the row numbers of the pictures of faces, of people, cats and monkeys, int (N,)."""
    rows = dataset.rows(split, TRAIN_STYLES, held_out=False)
    subgroup = dataset.concepts.loc[dataset.items["concept"].iloc[rows], "subgroup"].to_numpy()
    return rows[["face" in name for name in subgroup]]


def run_arm(name: str, seed: int, steps: int, folder: Path) -> Path:
    """Train one arm with one thread, keep what it draws (averaged and last weights) under `folder`, and return where.

    A file that is already there is not made again; it is written beside and renamed, so a killed study resumes.
    """
    path = folder / f"{name.replace(' ', '_')}-{seed}-{steps}-{_key(name)}.npz"
    if not path.exists():
        torch.set_num_threads(1)
        began = time.time()
        trained = arms()[name].train(faces(load_emoji(), "train"), seed=seed, steps=steps)
        drawn = {
            kind: sample(net, DRAWN, seed=seed)
            for kind, net in (("ema", trained.generator), ("last", trained.last))
        }
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp.npz")
        np.savez_compressed(beside, seconds=time.time() - began, **drawn)  # type: ignore[arg-type]
        beside.replace(path)
    return path


def _key(name: str) -> str:
    """Return the settings of an arm and the data as eight hexadecimal digits."""
    said = json.dumps([asdict(arms()[name]), BATCH, WIDTH, data_checksum()], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Faces:
    """The real faces that runs are judged against: pictures of the training families, and of families never shown."""

    train: np.ndarray
    held_out: np.ndarray
    families: np.ndarray

    @classmethod
    def of(cls, dataset: MultimodalDataset) -> Faces:
        """Return the faces of train, and those of val and test with their families."""
        rows = [face_rows(dataset, split) for split in ("train", "val", "test")]
        held = np.concatenate(rows[1:])
        families = dataset.concepts.loc[dataset.items["concept"].iloc[held], "family"].to_numpy()
        return cls(small(dataset.images[rows[0]]), small(dataset.images[held]), families)

    def judge(self, drawn: np.ndarray) -> dict[str, float]:
        """Return the figures of drawn pictures, uint8 (M, 32, 32, 3): distances, coverage, copies, spread.

        At most as many as there are training faces are looked at: recall falls when more are drawn, for balls shrink.
        """
        drawn = drawn[: len(self.train)]
        real, fake, fresh = (picture_features(each) for each in (self.train, drawn, self.held_out))
        copies = memorisation(fake, real, fresh, groups=self.families)
        return {
            **compare(real, fake)[0],
            "copy_ratio": copies.ratio,
            "spread": pairwise(drawn) / pairwise(self.train),
        }

    def floor(self, repeats: int = 10) -> dict[str, float]:
        """Return the figures of one half of the training faces against the other, a mean over `repeats` halvings."""
        rng, found = np.random.default_rng(0), []
        features = picture_features(self.train)
        for _ in range(repeats):
            a, b = np.array_split(rng.permutation(features), 2)
            found.append(compare(a, b)[0])
        return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def pairwise(pictures: np.ndarray, pairs: int = 2000) -> float:
    """Return the root mean square difference of two pictures drawn at random from uint8 (N, ...), in grey levels."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(pictures), size=(2, pairs))
    return float(np.sqrt(np.square(pictures[a].astype(np.float32) - pictures[b]).mean()))


def train_all(
    names: Sequence[str], seeds: Sequence[int], steps: int, folder: Path, processes: int
) -> list[Path]:
    """Train every arm with every seed, `processes` at a time; return where each kept its pictures."""
    jobs = [(name, seed, steps, folder) for seed in seeds for name in names]
    context = multiprocessing.get_context("spawn")  # forked copies of torch's thread pools can hang
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting = [pool.submit(run_arm, *job) for job in jobs]
        paths = []
        for number, (job, each) in enumerate(zip(jobs, waiting, strict=True), start=1):
            paths.append(each.result())
            print(f"{number}/{len(jobs)}  {job[0]}, seed {job[1]}", flush=True)
    return paths


def summary(names: Sequence[str], seeds: Sequence[int], steps: int, folder: Path) -> dict[str, Any]:
    """Return the figures of all runs kept under `folder`: arm -> averaged or last weights -> one entry a seed."""
    real, table = Faces.of(load_emoji()), arms()
    found: dict[str, Any] = {}
    for name in names:
        runs: dict[str, Any] = {"settings": asdict(table[name]), "ema": [], "last": [], "seconds": []}
        for seed in seeds:
            with np.load(run_arm(name, seed, steps, folder)) as kept:
                for kind in ("ema", "last"):
                    runs[kind].append(real.judge(kept[kind]))
                runs["seconds"].append(float(kept["seconds"]))
        found[name] = runs
    return {"arms": found, "floor": real.floor(), "other_families": real.judge(real.held_out)}


def best(figures: dict[str, Any], kind: str, loss: str, figure: str = "kernel", weights: str = "ema") -> str:
    """Return the name of the arm of `kind` ('bare' or 'cure') and `loss` with the learning rate that does best."""
    names = [name for name in figures["arms"] if name.startswith(f"{kind} {loss} ")]
    return min(names, key=lambda name: float(np.mean(values(figures, name, figure, weights))))


def values(figures: dict[str, Any], name: str, figure: str, weights: str = "ema") -> np.ndarray:
    """Return a figure of an arm, one value a seed (S,); weights: 'ema' (averaged) or 'last'."""
    return np.array([run[figure] for run in figures["arms"][name][weights]])


def sheet(names: Sequence[str], steps: int, folder: Path, columns: int = 12) -> np.ndarray:
    """Return one row of pictures an arm, the first it drew with seed 0 and averaged weights, uint8 (H, W, 3)."""
    rows = []
    for name in names:
        with np.load(run_arm(name, 0, steps, folder)) as kept:
            rows.append(kept["ema"][:columns])
    return contact_sheet(np.concatenate(rows), columns)


def shown(folder: Path = RESULTS) -> dict[str, np.ndarray]:
    """Return what the arms named in SHOWN drew with seed 0: name -> uint8 (n, 32, 32, 3), none picked."""
    whole = np.asarray(Image.open(folder / "04_gan.webp").convert("RGB"))
    rows = whole.reshape(len(SHOWN), 32, -1, 32, 3).swapaxes(1, 2)
    return dict(zip(SHOWN, rows, strict=True))


def read(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the figures of the study. Raises FileNotFoundError, with what to run, when they are not there."""
    path = folder / "04_gan.json"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: run `python -m mmteach study 04_gan` first")
    return json.loads(path.read_text("utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = command("04_gan", __doc__, len(SEEDS), "two arms and a few steps")
    parser.add_argument(
        "--processes", type=int, default=2, help="runs at a time, one thread each (default 2)"
    )
    chosen = parser.parse_args(argv)
    steps, folder, names = STEPS, chosen.parts / "04_gan", list(arms())
    out = destination(chosen)
    if chosen.smoke:
        steps, names = 3, names[:2]
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    began, seeds = time.time(), list(range(chosen.seeds))
    train_all(names, seeds, steps, folder, chosen.processes)
    figures = {
        "study": "04_gan", "seeds": seeds, "feature_network": NAME, "data": data_checksum(), "machine": machine(),
        "recipe": {"steps": steps, "batch": BATCH, "width": WIDTH, "drawn": DRAWN, "gamma": GAMMA, "threads": 1},
        **summary(names, seeds, steps, folder), "seconds_to_judge": time.time() - began,
    }  # fmt: skip
    write_json(out / "04_gan.json", figures)
    rows = [name for name in SHOWN if name in names] or names
    Image.fromarray(sheet(rows, steps, folder)).save(out / "04_gan.webp", quality=90)
    print(f"wrote {out / '04_gan.json'}")
    return 0


SHOWN = tuple(
    f"{kind} {loss} {rate}" for rate in (0.001, 0.003) for loss in GAMES for kind in ("bare", "cure")
)
