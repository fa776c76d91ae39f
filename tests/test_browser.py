"""In a real JupyterLab in a real browser: notebook 01 runs, widgets move when their sliders do, nothing complains."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import nbformat
import pytest

from mmteach import lab
from mmteach.course import NOTEBOOKS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("MMTEACH_REQUIRE_BROWSER") == "1"
NOTEBOOK = NOTEBOOKS / "01_meet_the_data.ipynb"
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]

# Waiting for the kernel's idle light is not enough; these promises are what JupyterLab itself waits for.
RUN_ALL = """async () => {
    while (!window.jupyterapp) await new Promise(done => setTimeout(done, 100));
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
SHOW = """async words => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const shows = cell => cell.model.sharedModel.source.includes(words);
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
PICTURE = """async name => {
    const shown = document.querySelector('.' + name);
    const image = shown.tagName === 'IMG' ? shown : shown.querySelector('img');
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return bytes.length + ':' + [...digest].join(',');
}"""


# Cells that show widgets of later notebooks by the shipped weights, by the class of their picture.
WIDGETS = {
    "mmteach-walk": """
        from mmteach import gan, gan_widgets
        shipped = gan.load_pretrained()
        gan_widgets.walk_explorer(shipped.generator, shipped.classes)""",
    "mmteach-painter": """
        import numpy as np
        from mmteach import vqvae, vqvae_widgets
        model, picture = vqvae.load_pretrained(), np.full((32, 32, 3), 200, dtype=np.uint8)
        vqvae_widgets.painter(model, picture, vqvae_widgets.code_tiles(model), range(512))""",
    "mmteach-way": """
        from mmteach import embed, embed_widgets
        from mmteach.data import load_emoji
        emoji = load_emoji()
        some = emoji.rows(split="test", styles="noto")[:60]
        embed_widgets.way_search(embed_widgets.gallery(embed.load_pretrained(), emoji, some))""",
    "mmteach-prompt": """
        from mmteach import prior, prior_widgets
        prior_widgets.prompt_box(prior.load_pretrained(), emoji.images[some])""",
}
CLAIM = "from mmteach import check\ncheck.claim('a line is shown', True, {'at': 0.5})"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[lab.Server]:
    """A JupyterLab on copies, since JupyterLab saves what it runs: notebook 01, and one that only shows widgets."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOK, tmp_path / "notebooks")
    cells = [nbformat.v4.new_code_cell(dedent(each).strip()) for each in (CLAIM, *WIDGETS.values())]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / "widgets.ipynb"
    )
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


def changed(page: Any, name: str, before: str) -> str:
    """Return the digest of the picture of class `name` once it differs from `before`."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        now = page.evaluate(PICTURE, name)
        if now != before:
            return now
        time.sleep(0.1)
    pytest.fail(f"the picture of {name} did not change")


def nothing_complains(page: Any) -> None:
    """Fail with what is wrong where a cell failed, something popped up, or the page complained."""
    assert page.evaluate(ERRORS) == []
    assert page.locator(".Toastify__toast").count() == 0, "a pop-up asks for something"
    assert page.complaints == []


def test_notebook_01_runs_and_its_explorer_moves(server: lab.Server, page: Any) -> None:
    page.goto(server.address(f"notebooks/{NOTEBOOK.name}"))
    assert page.evaluate(RUN_ALL) > 0
    assert page.evaluate(SHOW, "widgets.explorer(") > 0
    page.locator(".mmteach-explorer").first.scroll_into_view_if_needed()
    first = page.evaluate(PICTURE, "mmteach-explorer")
    cell = page.locator(".jp-Cell", has=page.locator(".mmteach-explorer")).first
    cell.locator(".widget-slider .noUi-handle").first.press("ArrowRight")
    second = changed(page, "mmteach-explorer", first)
    cell.locator(".widget-dropdown select").first.select_option(index=5)
    changed(page, "mmteach-explorer", second)
    nothing_complains(page)


def test_widgets_of_later_notebooks_follow_their_sliders_and_a_claim_shows_its_line(
    server: lab.Server, page: Any
) -> None:
    page.goto(server.address("notebooks/widgets.ipynb"))
    assert page.evaluate(RUN_ALL) == 1 + len(WIDGETS)
    claim = page.locator(".jp-OutputArea-output", has_text="a line is shown")
    assert claim.inner_text().strip() == "· a line is shown  [at 0.5]  (smoke run: not judged)"
    for name, source in WIDGETS.items():
        page.evaluate(SHOW, source.strip().splitlines()[-1].strip())
        cell = page.locator(".jp-Cell", has=page.locator(f".{name}")).first
        cell.scroll_into_view_if_needed()
        before = page.evaluate(PICTURE, name)
        cell.locator(".widget-slider .noUi-handle").first.press("ArrowRight")
        changed(page, name, before)
    nothing_complains(page)
