"""Open JupyterLab on notebook 00: as any user, with or without a display, on a free port, from any folder.

Used by `python -m mmteach lab`, and by the tests that need a real server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmteach import __version__, doctor
from mmteach.doctor import ROOT

FIRST = "notebooks/00_start_here.ipynb"
READY_SECONDS = 90
# Nothing is fetched behind the reader's back: no news, no look for updates, no list of extensions, and no pop-up
# that asks whether to.
PAGE = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
QUIET = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--Application.log_level=ERROR",
)


class CannotOpen(Exception):
    """Why JupyterLab cannot open, in words for the person who asked for it."""


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address ending in '/', its token, and the folder of its kernels' files."""

    process: subprocess.Popen[bytes]
    url: str
    token: str
    runtime: Path

    def address(self, path: str = FIRST) -> str:
        """Return the address that opens the notebook at `path` in a browser."""
        return f"{self.url}lab/tree/{path}?token={self.token}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what the server's API answers; raises urllib.error.URLError when it does not."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=30) as answer:
            said = answer.read()
        return json.loads(said) if said else None


def command(port: int, root: Path, *extra: str) -> list[str]:
    """Return the command line that starts JupyterLab in folder `root` on notebook 00."""
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}"),
        *("--ServerApp.port_retries=50", f"--LabApp.default_url=/lab/tree/{FIRST}"),
        *(*QUIET, *as_root, *extra),
    ]


def settings(folder: Path) -> dict[str, str]:
    """Write the settings of the page into `folder`; return the environment that has JupyterLab read them too."""
    file = folder / "labconfig" / "page_config.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(PAGE), encoding="utf-8")
    earlier = os.environ.get("JUPYTER_CONFIG_PATH")
    return {"JUPYTER_CONFIG_PATH": os.pathsep.join([str(folder), *([earlier] if earlier else [])])}


def has_display() -> bool:
    """Return whether a browser window can open here."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def wait_until_ready(process: subprocess.Popen[bytes], runtime: Path) -> Server:
    """Return the server once it answers; raises CannotOpen when it ends, or is not ready in time."""
    record, until = runtime / f"jpserver-{process.pid}.json", time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise CannotOpen(
                f"JupyterLab ended at once, with status {process.returncode}: its words stand above"
            )
        try:
            known = json.loads(record.read_text(encoding="utf-8"))
            server = Server(process, known["url"], known["token"], runtime)
            server.call("GET", "api/status")
            return server
        except (OSError, ValueError, urllib.error.URLError):
            time.sleep(0.1)
    raise CannotOpen(f"JupyterLab did not answer within {READY_SECONDS} s")


def stop(process: subprocess.Popen[bytes], server: Server | None = None) -> None:
    """End JupyterLab and its kernels: ask it first, then insist."""
    if server is not None:
        try:
            server.call("POST", "api/shutdown")
        except OSError:
            process.terminate()
    elif process.poll() is None:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def private_server(
    *extra: str, port: int = 8888, root: Path = ROOT, env: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run JupyterLab with settings of its own, so that nothing of the user's is read or changed; stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="mmteach-lab-") as folder:
        places = {f"JUPYTER_{each}_DIR": f"{folder}/{each.lower()}" for each in ("CONFIG", "DATA", "RUNTIME")}
        places |= {
            f"JUPYTERLAB_{each}_DIR": f"{folder}/{each.lower()}" for each in ("SETTINGS", "WORKSPACES")
        }
        places["IPYTHONDIR"] = f"{folder}/ipython"
        chosen = {**os.environ, **places, **settings(Path(folder, "page")), **(env or {})}
        line = command(port, root, "--ServerApp.open_browser=False", *extra)
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(
                line, cwd=root, env=chosen, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        server = None
        try:
            server = wait_until_ready(process, Path(places["JUPYTER_RUNTIME_DIR"]))
            yield server
        except CannotOpen as error:
            said = Path(folder, "log").read_text(encoding="utf-8", errors="replace").strip()
            raise CannotOpen(f"{error}\n{said}") from None
        finally:
            stop(process, server)


def wait_for_kernel(client: Any) -> None:
    """Wait until the kernel of `client` answers; a kernel that is still starting looks dead, so ask again."""
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            return client.wait_for_ready(timeout=5)
        except RuntimeError:
            if time.monotonic() > until:
                raise


def run_in_kernel(server: Server, kernel: str, code: str) -> None:
    """Run `code` in a kernel of `server`; raises CannotOpen when it fails or does not end."""
    from jupyter_client.blocking.client import BlockingKernelClient

    client = BlockingKernelClient(connection_file=str(server.runtime / f"kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels()
    try:
        wait_for_kernel(client)
        said = client.execute_interactive(code, timeout=READY_SECONDS, output_hook=lambda message: None)[
            "content"
        ]
    except (RuntimeError, TimeoutError) as error:
        raise CannotOpen(f"the kernel of notebook 00 does not answer: {error}") from None
    finally:
        client.stop_channels()
    if said["status"] != "ok":
        raise CannotOpen(
            f"the kernel of notebook 00 failed at `{code}`: {said.get('ename')}: {said.get('evalue')}"
        )


def check(port: int) -> None:
    """Start JupyterLab, open notebook 00 and its kernel through the API, run a line in it, and stop everything."""
    with private_server(port=port) as server:
        print(f"JupyterLab answers at {server.url}", flush=True)
        cells = server.call("GET", f"api/contents/{FIRST}?content=1")["content"]["cells"]
        wish = {"path": FIRST, "name": FIRST, "type": "notebook", "kernel": {"name": "python3"}}
        session = server.call("POST", "api/sessions", wish)
        run_in_kernel(
            server, session["kernel"]["id"], f"import mmteach; assert mmteach.__version__ == '{__version__}'"
        )
        print(
            f"notebook 00 is open ({len(cells)} cells), and its kernel finds mmteach {__version__}",
            flush=True,
        )
        server.call("DELETE", f"api/sessions/{session['id']}")
    print("OK: everything started, answered and stopped.", flush=True)


def open_lab(port: int, extra: list[str]) -> int:
    """Run JupyterLab until it is ended; print the address of notebook 00; return its exit status."""
    from jupyter_core.paths import jupyter_runtime_dir

    shown = [] if has_display() else ["--ServerApp.open_browser=False"]
    with tempfile.TemporaryDirectory(prefix="mmteach-lab-") as folder:
        chosen = {**os.environ, **settings(Path(folder))}
        process = subprocess.Popen(command(port, ROOT, *shown, *extra), cwd=ROOT, env=chosen)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches JupyterLab too, which asks before it ends
        try:
            server = wait_until_ready(process, Path(jupyter_runtime_dir()))
            print(f"\nNotebook 00 is at {server.address()}\nEnd with Ctrl-C, twice.\n", flush=True)
        except CannotOpen as error:
            if process.poll() is None:
                print(f"mmteach lab: {error}", file=sys.stderr)
        return process.wait()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `python -m mmteach lab` takes."""
    parser.add_argument("--check", action="store_true", help="open notebook 00 without a browser, then stop")
    parser.add_argument(
        "--port", type=int, default=8888, help="first port to try (8888); the next one when taken"
    )
    parser.add_argument("jupyter", nargs="*", help="after --, options for JupyterLab: lab -- --ip=0.0.0.0")


def main(options: argparse.Namespace) -> int:
    """Run the doctor, then JupyterLab or the check of it; return the exit status."""
    if not (ROOT / FIRST).is_file():
        print(
            f"mmteach lab: no {FIRST} beside the package at {ROOT}.\n"
            "The notebooks come with the repository: clone it, and there run `python -m pip install -e .`",
            file=sys.stderr,
        )
        return 2
    well = doctor.show(short=True)
    if not options.check:
        return open_lab(options.port, options.jupyter)
    try:
        check(options.port)
    except (CannotOpen, OSError) as error:
        print(f"mmteach lab: {error}", file=sys.stderr)
        return 1
    return 0 if well else 1
