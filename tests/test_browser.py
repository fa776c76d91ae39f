"""Notebook 01 in a real JupyterLab in a real browser: it runs, its explorer moves, and nothing complains."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmteach import lab
from mmteach.course import NOTEBOOKS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("MMTEACH_REQUIRE_BROWSER") == "1"
NOTEBOOK = NOTEBOOKS / "01_meet_the_data.ipynb"
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]

# Waiting for the kernel's idle light is not enough; these promises are what JupyterLab itself waits for.
RUN_ALL = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    while (!app.shell.currentWidget?.context) await new Promise(done => setTimeout(done, 100));
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    await app.commands.execute('notebook:run-all-cells');
    return panel.content.model.cells.length;
}"""
# JupyterLab draws only the cells near the view.
SHOW_EXPLORER = """async () => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const shows = cell => cell.model.sharedModel.source.includes('widgets.explorer(');
    const index = notebook.widgets.findIndex(shows);
    notebook.activeCellIndex = index;
    await notebook.scrollToItem(index);
    return index;
}"""
ERRORS = """() => {
    const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
    const outputs = cells.flatMap(cell => cell.toJSON().outputs ?? []);
    return outputs.filter(each => each.output_type === 'error').map(each => each.evalue);
}"""
# The address of a widget's picture says little: its bytes tell whether it has changed.
PICTURE = """async () => {
    const shown = document.querySelector('.mmteach-explorer');
    const image = shown.tagName === 'IMG' ? shown : shown.querySelector('img');
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return bytes.length + ':' + [...digest].join(',');
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[lab.Server]:
    """A JupyterLab on a copy of the notebook, since JupyterLab saves what it runs."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOK, tmp_path / "notebooks")
    with lab.private_server("--LabApp.expose_app_in_browser=True", root=tmp_path) as server:
        yield server


@pytest.fixture
def page(server: lab.Server) -> Iterator[Any]:
    """A page of a browser; what it complains of, and where it turns to, is kept in `page.complaints`."""
    if CHROMIUM is None:
        assert not REQUIRED, "MMTEACH_REQUIRE_BROWSER=1, but there is no chromium"
        pytest.skip("no chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(90_000)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(f"page: {error}"))
        page.on(
            "console", lambda said: said.type == "error" and page.complaints.append(f"console: {said.text}")
        )
        page.on(
            "request",
            lambda request: (
                request.url.startswith((server.url, server.url.replace("http", "ws", 1), "data:", "blob:"))
                or page.complaints.append(f"outgoing: {request.url}")
            ),
        )
        yield page
        browser.close()


def changed(page: Any, before: str) -> str:
    """Return the digest of the explorer's picture once it differs from `before`."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        now = page.evaluate(PICTURE)
        if now != before:
            return now
        time.sleep(0.1)
    pytest.fail("the explorer's picture did not change")


def test_notebook_01_runs_and_its_explorer_moves(server: lab.Server, page: Any) -> None:
    page.goto(server.address(f"notebooks/{NOTEBOOK.name}"))
    assert page.evaluate(RUN_ALL) > 0
    assert page.evaluate(SHOW_EXPLORER) > 0
    page.locator(".mmteach-explorer").first.scroll_into_view_if_needed()
    first = page.evaluate(PICTURE)
    cell = page.locator(".jp-Cell", has=page.locator(".mmteach-explorer")).first
    cell.locator(".widget-slider .noUi-handle").first.press("ArrowRight")
    second = changed(page, first)
    cell.locator(".widget-dropdown select").first.select_option(index=5)
    changed(page, second)
    assert page.evaluate(ERRORS) == []
    assert page.locator(".Toastify__toast").count() == 0, "a pop-up asks for something"
    assert page.complaints == []
