"""What all tests share: the smoke profile, settings of their own, and no connection to any other machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parent / "offline"
FIRST = "MMTEACH_CONNECTIONS" not in os.environ  # the process that starts the tests, not one of its workers


def prepare() -> None:
    """Set the environment that tests, their workers and their kernels live in."""
    os.environ["MMTEACH_PROFILE"] = "smoke"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share the cores
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # kernels start half again as slow with it
    if FIRST:
        folder = tempfile.mkdtemp(prefix="mmteach-tests-")
        os.environ["MMTEACH_CONNECTIONS"] = f"{folder}/connections"
        os.environ["IPYTHONDIR"] = f"{folder}/ipython"
        os.environ["JUPYTER_CONFIG_DIR"] = f"{folder}/jupyter"
        earlier = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(OFFLINE), *([earlier] if earlier else [])])
    if str(OFFLINE) not in sys.path:
        sys.path.insert(0, str(OFFLINE))
    import offline_guard  # noqa: F401


prepare()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when anything was stopped from connecting, even if what tried swallowed the error."""
    if not FIRST:
        return
    record = Path(os.environ["MMTEACH_CONNECTIONS"])
    if record.exists():
        print(f"\nOutgoing connections were tried:\n{record.read_text(encoding='utf-8')}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    shutil.rmtree(record.parent, ignore_errors=True)
