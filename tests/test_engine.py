"""The training loop: a killed run ends like one that was not, and a bad step leaves the last good state."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from mmteach import checkpoint as checkpoints
from mmteach.checkpoint import CheckpointError, described, load_checkpoint, save_checkpoint
from mmteach.engine import Diverged, run_steps
from mmteach.train import batches, seed_everything

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 28, 28, 1), dtype=np.uint8)


class Little:
    """A line through 16 points, its noise drawn from all four sources of random numbers."""

    def __init__(self, lr: float = 0.05) -> None:
        self.generator = seed_everything(0)
        self.model = nn.Linear(1, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, lr, total_steps=40)
        self.sizes: list[int] = []

    def step(self, pick: Tensor, number: int) -> dict[str, Tensor]:
        self.sizes.append(len(pick))
        noise = torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        loss = (self.model(pick.float().unsqueeze(1) / 16) - noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss.detach()}

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def run(self, steps: int = 20, **settings: Any) -> list[dict[str, float]]:
        picks = batches(16, 4, steps, self.generator)
        return run_steps(self.step, picks, **{"parts": self.parts(), "every": 5, **settings})

    def weights(self) -> list[float]:
        return nn.utils.parameters_to_vector(self.model.parameters()).tolist()


def unbroken(steps: int = 20) -> tuple[list[float], list[dict[str, float]]]:
    """Return weights and history of a run that nothing stops."""
    little = Little()
    history = little.run(steps)
    return little.weights(), history


class Killed(BaseException):
    """Stands for what ends a run from outside."""


def stop_at(little: Little, step: int, error: BaseException) -> None:
    """Have `little` raise `error` in place of step number `step`."""
    plain = little.step

    def failing(pick: Tensor, number: int) -> dict[str, Tensor]:
        if number == step:
            raise error
        return plain(pick, number)

    little.step = failing  # type: ignore[method-assign]


# Going on


@pytest.mark.parametrize("at", [1, 5, 6, 14, 20])
def test_a_run_stopped_at_any_step_ends_with_the_weights_and_the_history_of_an_unbroken_one(
    at: int, tmp_path: Path
) -> None:
    path, first = tmp_path / "run.safetensors", Little()
    stop_at(first, at, Killed())
    with pytest.raises(Killed):
        first.run(checkpoint=path)
    second = Little()
    history = second.run(checkpoint=path)
    assert (second.weights(), history) == unbroken()


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    Little().run(checkpoint=tmp_path / "run", steps=18)
    again = Little()
    history = again.run(checkpoint=tmp_path / "run", steps=18)
    assert again.sizes == []
    assert (again.weights(), history) == unbroken(18)
    assert [each["step"] for each in history] == [5, 10, 15, 18], "the last step is noted too"


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    Little().run(checkpoint=tmp_path / "run", steps=10)
    longer = Little()
    longer.run(checkpoint=tmp_path / "run", steps=20)
    assert longer.weights() == unbroken(20)[0]


def test_a_shorter_run_than_the_one_kept_is_refused(tmp_path: Path) -> None:
    Little().run(checkpoint=tmp_path / "run", steps=10)
    with pytest.raises(CheckpointError, match=r"10 steps on, more than were asked for.*delete or rename"):
        Little().run(checkpoint=tmp_path / "run", steps=5)


# Trains each of three tiny things to its end, once unbroken and once killed four times and started again as often.
KILLED = """
import hashlib, os, random, signal, sys, time
from pathlib import Path
import numpy as np, torch
from test_engine import PICTURES, Little
from mmteach.gan import train_gan
from mmteach.vqvae import train_vqvae
torch.set_num_threads(1)
draw = random.Random(1)

def little(path):
    one = Little()
    one.run(steps=40, checkpoint=path, every=3)
    return one.model

def vqvae(path):
    small = {"num_codes": 16, "dim": 4, "width": 8}
    return train_vqvae(PICTURES, steps=12, batch_size=4, seed=0, checkpoint=path, every=3, **small)

def gan(path):
    made = train_gan(PICTURES, steps=12, batch_size=4, seed=0, width=8, z_dim=4, checkpoint=path, every=3)
    return torch.nn.ModuleList([made.generator, made.last, made.discriminator])

def train(build, path):
    digest = hashlib.sha256()
    for tensor in build(path).state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    Path(f"{path}.digest").write_text(digest.hexdigest())

def child(build, path):
    number = os.fork()
    if not number:
        train(build, path)
        os._exit(0)
    return number

def compare(build, folder):
    began, kills, path = time.monotonic(), 0, folder / "killed"
    assert os.waitpid(child(build, folder / "whole"), 0)[1] == 0
    taken = time.monotonic() - began
    while not Path(f"{path}.digest").exists():
        number = child(build, path)
        if kills < 4:
            time.sleep(draw.uniform(0, taken))
            os.kill(number, signal.SIGKILL)
        kills += os.waitpid(number, 0)[1] == signal.SIGKILL
    whole, resumed = (Path(f"{folder / each}.digest").read_text() for each in ("whole", "killed"))
    print(build.__name__, kills, whole == resumed)

for build in (little, vqvae, gan):
    compare(build, Path(sys.argv[1], build.__name__))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills and forks as POSIX does")
def test_a_process_killed_at_random_moments_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    line = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(line, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [row.split() for row in done.stdout.splitlines()]
    assert [(name, same) for name, _, same in rows] == [
        ("little", "True"),
        ("vqvae", "True"),
        ("gan", "True"),
    ]
    assert all(int(kills) >= 1 for _, kills, _ in rows)


# Another run's checkpoint, and damaged ones


def test_a_checkpoint_of_another_recipe_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    Little().run(checkpoint=path, about={"lr": 0.1, "images": PICTURES})
    with pytest.raises(
        CheckpointError, match=r"another run: lr was 0\.1 and is 0\.2\. To start afresh"
    ) as told:
        Little().run(checkpoint=path, about={"lr": 0.2, "images": PICTURES})
    assert str(path) in str(told.value)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    other = PICTURES.copy()
    other[3, 4, 5] ^= 1
    Little().run(checkpoint=tmp_path / "run", about={"images": PICTURES})
    with pytest.raises(CheckpointError, match=r"images was uint8 \(24, 28, 28, 1\)"):
        Little().run(checkpoint=tmp_path / "run", about={"images": other})


def test_of_two_runs_in_one_folder_neither_overwrites_the_other(tmp_path: Path) -> None:
    path, first = tmp_path / "run", Little()
    plain = first.step

    def meanwhile(pick: Tensor, number: int) -> dict[str, Tensor]:
        if number == 8:
            path.unlink()
            Little().run(checkpoint=path, about={"lr": 2})
        return plain(pick, number)

    first.step = meanwhile  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="lr was 2 and is 1"):
        first.run(checkpoint=path, about={"lr": 1})
    assert load_checkpoint(path)["about"] == {"lr": 2}


def test_two_runs_with_one_recipe_may_share_a_checkpoint(tmp_path: Path) -> None:
    path, first = tmp_path / "run", Little()
    plain = first.step

    def meanwhile(pick: Tensor, number: int) -> dict[str, Tensor]:
        if number == 8:
            state = checkpoints.torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
            Little().run(checkpoint=path)
            torch.set_rng_state(state[0])
            random.setstate(state[1])
            np.random.set_state(state[2])  # noqa: NPY002
        return plain(pick, number)

    first.step = meanwhile  # type: ignore[method-assign]
    first.run(checkpoint=path)
    assert first.weights() == unbroken()[0]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named_with_the_way_out(share: float, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    Little().run(checkpoint=path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"run\.safetensors is damaged.*delete or rename"):
        Little().run(checkpoint=path)


def test_a_file_of_another_kind_is_named_with_the_way_out(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "pickled")
    checkpoints.save_file({"weight": torch.ones(2)}, tmp_path / "tensors")
    for name in ("pickled", "tensors"):
        with pytest.raises(CheckpointError, match=rf"{name} .*no checkpoint.*delete or rename"):
            Little().run(checkpoint=tmp_path / name)


def test_no_module_of_the_course_unpickles() -> None:
    package = Path(checkpoints.__file__).parent
    for path in package.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path.name
        assert "import pickle" not in text, path.name
        assert "allow_pickle=True" not in text, path.name


# Writing


def test_a_write_that_is_cut_short_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "run"
    save_checkpoint(path, {"step": 1})

    def cut(tensors: Any, where: Path, **_: Any) -> None:
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", cut)
    with pytest.raises(CheckpointError, match=r"No space left.*earlier one is kept"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["run"], "nothing half written is left over"


def test_the_new_file_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch
) -> None:
    order: list[str] = []
    flush, replace = checkpoints._flush, checkpoints.os.replace
    monkeypatch.setattr(
        checkpoints,
        "_flush",
        lambda path: (order.append("file" if path.is_file() else "folder"), flush(path)),
    )
    monkeypatch.setattr(checkpoints.os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    save_checkpoint(tmp_path / "run", {"step": 1})
    assert order == ["file", "rename", "folder"]


def test_what_a_killed_run_left_half_written_is_cleared_in_time(tmp_path: Path) -> None:
    old, young = tmp_path / ".run.11", tmp_path / ".run.12"
    for each in (old, young):
        each.write_bytes(b"half")
    checkpoints.os.utime(old, (0, 0))
    Little().run(checkpoint=tmp_path / "run")
    assert not old.exists()
    assert young.exists(), "its run may be alive"


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    little = Little()
    with pytest.raises(CheckpointError, match="folder of your own"):
        little.run(checkpoint=tmp_path / "file" / "run")
    assert little.sizes == []


def test_a_read_only_folder_is_refused_before_the_first_step(tmp_path: Path, monkeypatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # root, whom tests may run as, may write anywhere
    little = Little()
    with pytest.raises(CheckpointError, match=r"Permission denied.*folder of your own"):
        little.run(checkpoint=tmp_path / "run")
    assert little.sizes == []


# Values that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    value: float, tmp_path: Path
) -> None:
    path, little = tmp_path / "run", Little()
    plain = little.step
    little.step = lambda pick, n: {"loss": torch.tensor(value)} if n == 15 else plain(pick, n)  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"loss not finite by step 15; the last good state is in .*run"):
        little.run(checkpoint=path)
    assert load_checkpoint(path)["run"]["step"] == 10


@pytest.mark.parametrize("where", ["weight", "moment"])
def test_a_nan_that_shows_in_no_loss_is_never_saved(where: str, tmp_path: Path) -> None:
    path, little = tmp_path / "run", Little()
    plain = little.step

    def poisoned(pick: Tensor, number: int) -> dict[str, Tensor]:
        if number == 7:
            weight = little.model.weight
            target = weight.data if where == "weight" else little.optimizer.state[weight]["exp_avg"]
            target.fill_(float("nan"))
        plain(pick, number)
        return {"loss": torch.tensor(0.5)}

    little.step = poisoned  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"model\.weight.* not finite by step 10"):
        little.run(checkpoint=path)
    assert load_checkpoint(path)["run"]["step"] == 5


def test_a_run_without_a_checkpoint_stops_too() -> None:
    little = Little()
    nn.init.constant_(little.model.weight, float("nan"))
    with pytest.raises(Diverged, match="smaller learning rate"):
        little.run(steps=3)


# Memory


def out_of_memory_at(little: Little, *steps: int) -> None:
    """Have `little` run out of memory in the middle of each of `steps`, once: gradients there, weights not moved."""
    plain, left = little.step, list(steps)

    def failing(pick: Tensor, number: int) -> dict[str, Tensor]:
        if number in left:
            left.remove(number)
            nn.init.constant_(little.model.weight, 3.0)
            little.model(torch.ones(1, 1)).sum().backward()
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert all(each.grad is None for each in little.model.parameters()) or number not in steps
        return plain(pick, number)

    little.step = failing  # type: ignore[method-assign]


def test_out_of_memory_halves_the_batch_for_the_rest_of_the_run_and_says_so(capsys) -> None:
    little = Little()
    out_of_memory_at(little, 3)
    little.run(steps=6)
    assert little.sizes == [4, 4, 2, 2, 2, 2]
    assert capsys.readouterr().out == "Out of GPU memory at step 3: the batch goes from 4 to 2.\n"


def test_out_of_memory_again_ends_the_run() -> None:
    little = Little()
    out_of_memory_at(little, 2, 4)
    with pytest.raises(torch.OutOfMemoryError):
        little.run(steps=6)


def test_a_batch_of_one_cannot_be_halved() -> None:
    little = Little()
    out_of_memory_at(little, 1)
    with pytest.raises(torch.OutOfMemoryError):
        run_steps(little.step, batches(4, 1, 2, little.generator), parts=little.parts())


def test_what_the_failed_step_held_is_let_go_before_the_smaller_one() -> None:
    held: list[int] = []

    class Large:
        def __init__(self) -> None:
            held.append(1)

        def __del__(self) -> None:
            held.pop()

    def step(pick: Tensor, number: int) -> dict[str, Tensor]:
        if len(pick) == 4:
            large = Large()
            raise torch.OutOfMemoryError(f"no room for {large}")
        assert held == []
        return {"loss": torch.zeros(())}

    run_steps(step, batches(8, 4, 1, torch.Generator()), parts={})


def test_a_resumed_run_keeps_its_halved_batch(tmp_path: Path) -> None:
    first = Little()
    out_of_memory_at(first, 2)
    first.run(steps=10, checkpoint=tmp_path / "run")
    second = Little()
    second.run(steps=20, checkpoint=tmp_path / "run")
    assert second.sizes == [2] * 10


# What a checkpoint holds

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.integers() | st.text()
TENSORS = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.bool_, np.uint8]), hnp.array_shapes(min_dims=0, min_side=0)
).map(torch.from_numpy)
STATES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner)
    ),
    max_leaves=12,
)  # fmt: skip


def alike(a: Any, b: Any) -> bool:
    """Tell whether two nested states have the same values, of the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(alike, a.values(), b.values()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b


@given(state=st.dictionaries(KEYS, STATES))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_nested_state_comes_back_as_it_was(state: dict[Any, Any], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints, "_flush", lambda path: None)  # what the disk does takes longest
    save_checkpoint(tmp_path / "run", state)
    assert alike(load_checkpoint(tmp_path / "run"), state)


def test_half_precision_and_the_layout_in_memory_come_back(tmp_path: Path) -> None:
    last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "run", {"last": last, "half": torch.ones(3, dtype=torch.bfloat16)})
    back = load_checkpoint(tmp_path / "run")
    assert torch.equal(back["last"], last)
    assert back["last"].stride() == last.stride()
    assert back["half"].dtype == torch.bfloat16


def test_what_a_checkpoint_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="plain values, not set"):
        save_checkpoint(tmp_path / "run", {"names": {"a"}})
    assert not list(tmp_path.iterdir())


def test_a_loaded_tensor_does_not_hang_on_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", {"x": torch.zeros(1000)})
    x = load_checkpoint(tmp_path / "run")["x"]
    (tmp_path / "run").write_bytes(b"")
    assert float(x.sum()) == 0


# What a run is about


def doubled(x: float) -> float:
    """Return twice x."""
    return 2 * x


def test_functions_are_told_apart_by_what_they_do_and_not_by_where_they_are() -> None:
    source = "def doubled(x, k={k}):\n    return {k} * x\n"
    places: list[dict[str, Any]] = [{}, {}, {}]
    for place, (before, k) in zip(places, [("", 2), ("\n\n", 2), ("", 3)], strict=True):
        exec(before + source.format(k=k), place)
    first, moved, changed = (described(place["doubled"]) for place in places)
    assert first == moved != changed


def test_what_a_function_closes_over_counts() -> None:
    def scaled(k: float) -> Any:
        return lambda x: k * x

    assert described(scaled(2)) == described(scaled(2)) != described(scaled(3))


def test_no_address_gets_into_a_description() -> None:
    for each in (partial(doubled, 2), object(), nn.Sequential(nn.Linear(1, 2)), doubled, {"loss": doubled}):
        assert " at 0x" not in json.dumps(described(each))
