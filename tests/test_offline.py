"""The guard against outgoing connections bites, here and in kernels."""

from __future__ import annotations

import socket
from pathlib import Path

import nbformat
import offline_guard
import pytest

from mmteach import execute

# Reserved for documentation; connecting a datagram socket sends nothing, should the guard ever fail.
ELSEWHERE = ("192.0.2.1", 9)
CONNECT = f"import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect({ELSEWHERE})"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of its own, so that the attempts made here do not fail the whole run."""
    monkeypatch.setenv("MMTEACH_CONNECTIONS", str(tmp_path / "connections"))
    return tmp_path / "connections"


def test_a_test_cannot_connect_to_another_machine(record: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        pytest.raises(offline_guard.OutgoingConnection, match=r"192\.0\.2\.1"),
    ):
        one.connect(ELSEWHERE)
    assert "192.0.2.1" in record.read_text()


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", b"example.org", "fe80::1%eth0"])
def test_other_hosts_are_refused(host: str, record: Path) -> None:
    with pytest.raises(offline_guard.OutgoingConnection):
        offline_guard.guard("socket.getaddrinfo", (host, 80, 0, 0, 0))


@pytest.mark.parametrize("host", [None, "", "localhost", "127.0.0.1", "127.0.1.1", "::1", "0.0.0.0"])
def test_this_machine_may_be_talked_to(host: str | None) -> None:
    offline_guard.guard("socket.getaddrinfo", (host, 80, 0, 0, 0))


def test_a_kernel_cannot_connect_and_the_attempt_is_recorded(record: Path, tmp_path: Path) -> None:
    swallowed = (
        f"try:\n    {CONNECT.splitlines()[1]}\nexcept Exception as error:\n    print(type(error).__name__)"
    )
    cells = [nbformat.v4.new_code_cell(each) for each in ("import socket", swallowed, CONNECT)]
    path = tmp_path / "connects.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    notebook, outcome = execute.execute(path, "smoke")
    assert notebook.cells[1].outputs[0].text == "OutgoingConnection\n"
    assert outcome.failed.startswith("cell 3")
    assert "OutgoingConnection: socket.connect to '192.0.2.1'" in outcome.failed
    assert record.read_text().count("192.0.2.1") == 2
