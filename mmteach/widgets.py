"""Widgets of the notebooks: thin glue of ipywidgets over plain functions that draw and describe.

Each `draw_*` and `describe_*` is pure and can be called without a browser; the widget only sets the values of
`Image`, `HTML` and `Audio` when a control changes. Chinese text stands in HTML, where the browser brings the font.
"""

from __future__ import annotations

import html
import io
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter

from mmteach import features, plot, solutions
from mmteach.data import MultimodalDataset
from mmteach.features import PatchDictionary

GAP, PER_PAGE = 8, 60


def png(image: Image.Image) -> bytes:
    """Return a picture as PNG bytes, the form that the Image widget takes."""
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with Matplotlib."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _tile(picture: np.ndarray | None, side: int, ring: bool = False) -> Image.Image:
    """Return one picture scaled to `side`, a hatched tile for a missing one; `ring` frames the chosen one."""
    if picture is None:
        tile = Image.new("RGB", (side, side), "#F6F6F6")
        draw = ImageDraw.Draw(tile)
        for x in range(-side, side, 12):
            draw.line([(x, side), (x + side, 0)], fill="#CCCCCC")
    else:
        tile = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
    if ring:
        ImageDraw.Draw(tile).rectangle((0, 0, side - 1, side - 1), outline=plot.BLUE, width=4)
    return tile


def picture_or_none(dataset: MultimodalDataset, concept: str, style: str) -> np.ndarray | None:
    """Return the picture of a concept in a style, or None where the set has none."""
    try:
        return dataset.picture(concept, style)
    except KeyError:
        return None


# Notebook 00


def page_rows(dataset: MultimodalDataset, style: str, page: int) -> np.ndarray:
    """Return the rows of `dataset.items` on one page (from 0) of a style."""
    return dataset.rows(styles=style)[page * PER_PAGE : (page + 1) * PER_PAGE]


def pages(dataset: MultimodalDataset, style: str) -> int:
    """Return the number of pages of a style."""
    return -(-len(dataset.rows(styles=style)) // PER_PAGE)


def draw_gallery(dataset: MultimodalDataset, style: str, page: int, columns: int = 12) -> Image.Image:
    """Draw one page of a style as a sheet of pictures."""
    rows = page_rows(dataset, style, page)
    step = 64 + GAP
    sheet = Image.new("RGB", (columns * step, -(-len(rows) // columns) * step), "white")
    for place, row in enumerate(rows):
        sheet.paste(_tile(dataset.images[row], 64), (place % columns * step, place // columns * step))
    return sheet


def describe_gallery(dataset: MultimodalDataset, style: str, page: int) -> str:
    """Say in HTML what a page of the gallery shows."""
    names = dataset.concepts["name_en"].loc[dataset.items["concept"].iloc[page_rows(dataset, style, page)]]
    total = len(dataset.rows(styles=style))
    ends = f"from <i>{html.escape(names.iloc[0])}</i> to <i>{html.escape(names.iloc[-1])}</i>"
    return f"<b>{html.escape(style)}</b>: {total:,} pictures. Page {page + 1} of {pages(dataset, style)}, {ends}."


def gallery(dataset: MultimodalDataset) -> Any:
    """Return a widget that pages through the pictures of a chosen style."""
    import ipywidgets as w

    style = w.Dropdown(options=dataset.styles, description="style")
    page = w.IntSlider(min=1, max=pages(dataset, dataset.styles[0]), description="page")
    picture, text = w.Image(format="png"), w.HTML()
    picture.add_class("mmteach-gallery")

    def draw(_: object = None) -> None:
        text.value = describe_gallery(dataset, style.value, page.value - 1)
        picture.value = png(draw_gallery(dataset, style.value, page.value - 1))

    def turn(_: object) -> None:
        page.max = pages(dataset, style.value)  # a page beyond the end moves back by itself
        draw()

    style.observe(turn, "value")
    page.observe(draw, "value")
    draw()
    return w.VBox([w.HBox([style, page]), text, picture])


# Notebook 01


def find_concepts(dataset: MultimodalDataset, words: str) -> list[str]:
    """Return the concepts whose names or keywords, English or Chinese, hold every one of `words`."""
    table = dataset.concepts
    texts = table[["name_en", "keywords_en", "name_zh", "keywords_zh"]].agg(" ".join, axis=1).str.lower()
    keep = np.ones(len(table), dtype=bool)
    for word in words.lower().split():
        keep &= texts.str.contains(word, regex=False).to_numpy()
    return list(table.index[keep])


def draw_explorer(dataset: MultimodalDataset, concept: str, style: str) -> Image.Image:
    """Draw a concept large in one style and small in all of them; a style that lacks it is a hatched tile."""
    columns, side, line = -(-len(dataset.styles) // 2), 128, 24
    sheet = Image.new("RGB", (4 * 64 + GAP * 3 + columns * (side + GAP), 2 * (side + line + GAP)), "white")
    sheet.paste(_tile(picture_or_none(dataset, concept, style), 4 * 64), (0, 0))
    write = ImageDraw.Draw(sheet)
    write.text((128, 4 * 64 + line // 2), style, fill=plot.INK, font=_font(15), anchor="mm")
    for place, each in enumerate(dataset.styles):
        x, y = 4 * 64 + 3 * GAP + place % columns * (side + GAP), place // columns * (side + line + GAP)
        picture = picture_or_none(dataset, concept, each)
        sheet.paste(_tile(picture, side, ring=each == style), (x, y))
        name = each if picture is not None else f"{each}: none"
        write.text((x + side // 2, y + side + line // 2), name, fill=plot.INK, font=_font(13), anchor="mm")
    return sheet


def describe_concept(dataset: MultimodalDataset, concept: str) -> str:
    """Say in HTML what the text and the structured fields hold, and which styles drew the concept."""
    row = dataset.concepts.loc[concept]
    drawn = [style for style in dataset.styles if picture_or_none(dataset, concept, style) is not None]
    fields = {
        "name": f"{row['name_en']} · {row['name_zh']}",
        "keywords": f"{row['keywords_en']} · {row['keywords_zh']}",
        "group, subgroup": f"{row['group']}, {row['subgroup']}",
        "family, split": f"{row['family']}, {row['split']}",
        "emoji version": row["unicode_version"],
        "skin tones": "yes" if row["has_skin_tones"] else "no",
        "gender": row["gender"] or "none given",
        "drawn by": ", ".join(drawn),
    }
    cells = "".join(
        f"<tr><th style='text-align:left;padding-right:1em'>{name}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in fields.items()
    )
    return f"<table>{cells}</table>"


def spoken(dataset: MultimodalDataset, concept: str, voice: str) -> bytes:
    """Return the spoken name as a WAV file; empty where the voice lacks it."""
    try:
        return plot.wav(*dataset.speech(concept, voice))
    except (FileNotFoundError, KeyError):
        return b""


def explorer(dataset: MultimodalDataset, concept: str | None = None) -> Any:
    """Return a widget that shows one concept in all its modalities: search, step, choose a style, listen."""
    import ipywidgets as w

    shown = list(dataset.concepts.index)
    search = w.Text(description="search", placeholder="cat, 红, smiling face …")
    choice = w.Dropdown(options=shown, value=concept or shown[0], description="concept")
    step = w.IntSlider(min=1, max=len(shown), value=shown.index(choice.value) + 1, description="number")
    style = w.Dropdown(options=dataset.styles, description="style")
    voice = w.Dropdown(options=dataset.voices, description="voice")
    picture, text, note = w.Image(format="png"), w.HTML(), w.HTML()
    sound = w.Audio(format="wav", autoplay=False, loop=False)
    picture.add_class("mmteach-explorer")

    def draw(_: object = None) -> None:
        picture.value = png(draw_explorer(dataset, choice.value, style.value))

    def speak(_: object = None) -> None:
        sound.value = spoken(dataset, choice.value, voice.value) if dataset.voices else b""

    def show(_: object = None) -> None:
        step.value = choice.options.index(choice.value) + 1
        text.value = describe_concept(dataset, choice.value)
        draw()
        speak()

    def follow(_: object) -> None:
        choice.value = choice.options[step.value - 1]

    def narrow(_: object) -> None:
        found = find_concepts(dataset, search.value)
        note.value = f"{len(found):,} found" if found else "nothing found: the list stays as it was"
        if found:
            kept = choice.value if choice.value in found else found[0]
            choice.unobserve(show, "value")  # one redraw at the end, not one for each control
            step.unobserve(follow, "value")
            choice.options, step.max = found, len(found)
            choice.value = kept
            choice.observe(show, "value")
            step.observe(follow, "value")
            show()

    choice.observe(show, "value")
    step.observe(follow, "value")
    style.observe(draw, "value")
    voice.observe(speak, "value")
    search.observe(narrow, "value")
    show()
    rows = [
        w.HBox([search, note]),
        w.HBox([choice, step]),
        w.HBox([style, voice] if dataset.voices else [style]),
    ]
    return w.VBox([*rows, picture, w.HBox([sound] if dataset.voices else []), text])


# Notebook 02


def draw_patch(picture: np.ndarray, dictionary: PatchDictionary, place: int) -> Image.Image:
    """Draw a picture with patch number `place` framed; beside it the patch as cut, made even, and its five atoms."""
    small = features.shrink(picture, dictionary.size)
    patches = features.all_patches(small, dictionary.patch_size, dictionary.stride)
    row, column = divmod(place, patches.shape[1])
    code = dictionary.codes(picture)[row, column]
    sheet = Image.new("RGB", (680, 256), "white")
    sheet.paste(_tile((255 * small).round().astype(np.uint8), 256), (0, 0))
    scale, write = 256 / dictionary.size, ImageDraw.Draw(sheet)
    corner = np.array([column, row]) * dictionary.stride * scale
    write.rectangle((*corner, *(corner + dictionary.patch_size * scale)), outline=plot.BLUE, width=3)
    cut = (255 * patches[row, column]).reshape(dictionary.patch_size, -1, 3).round().astype(np.uint8)
    even = features.patch_picture(dictionary.whitened(picture)[row, column])
    best = np.argsort(-code, kind="stable")[:5]
    tiles = [("the patch", cut), ("whitened", even)]
    atoms = [(f"{code[k]:.2f}", features.patch_picture(dictionary.atoms_[k])) for k in best]
    for line, shown in enumerate((tiles, atoms)):
        for i, (text, tile) in enumerate(shown):
            x, y = 280 + 80 * i, 4 + 130 * line
            sheet.paste(_tile(tile, 72), (x, y))
            write.text((x + 36, y + 86), text, fill=plot.INK, font=_font(13), anchor="mm")
    write.text((280, 116), "atoms nearest to it, and their codes", fill=plot.INK, font=_font(13), anchor="lm")
    return sheet


def patch_slider(picture: np.ndarray, dictionary: PatchDictionary) -> Any:
    """Return a widget that moves a patch over a picture, row by row, and shows which atoms it is made of."""
    import ipywidgets as w

    across = (dictionary.size - dictionary.patch_size) // dictionary.stride
    row = w.IntSlider(min=0, max=across, value=across // 3, description="row")
    column = w.IntSlider(min=0, max=across, value=across // 3, description="column")
    image = w.Image(format="png")
    image.add_class("mmteach-patch")

    def draw(_: object = None) -> None:
        image.value = png(draw_patch(picture, dictionary, row.value * (across + 1) + column.value))

    row.observe(draw, "value")
    column.observe(draw, "value")
    draw()
    return w.VBox([w.HBox([row, column]), image])


def draw_spectrogram(clip: np.ndarray, rate: int, n_fft: int, title: str = "") -> Figure:
    """Draw the spectrogram of a clip (T,) in decibels, seen through windows of `n_fft` samples."""
    loud = features.decibels(features.stft_power(clip, n_fft, hop=max(1, n_fft // 8)))
    title = title or f"{1000 * n_fft / rate:.0f} ms windows, {rate / n_fft:.0f} Hz apart"
    shown = np.maximum(loud, loud.max() - 70)
    seconds = len(clip) / rate
    return plot.spectrogram(
        shown, seconds=seconds, title=title, ylabel="frequency (Hz)", unit="dB", top=rate / 2
    )


def spectrogram_slider(clip: np.ndarray, rate: int) -> Any:
    """Return a widget with the sound and its spectrogram, the length of the window under a slider."""
    import ipywidgets as w

    lengths = [64, 128, 256, 512, 1024, 2048, 4096]
    window = w.SelectionSlider(options=lengths, value=512, description="window")
    image, sound = (
        w.Image(format="png"),
        w.Audio(value=plot.wav(clip, rate), format="wav", autoplay=False, loop=False),
    )
    image.add_class("mmteach-spectrogram")

    def draw(_: object = None) -> None:
        image.value = plot.png(draw_spectrogram(clip, rate, window.value))

    window.observe(draw, "value")
    draw()
    return w.VBox([w.HBox([window, w.HTML("samples")]), image, sound])


@plot.styled
def draw_colours(
    pictures: list[np.ndarray], histograms: list[np.ndarray], title: str = "", most: int = 8
) -> Figure:
    """Draw pictures, and under each the boxes (bins**3,) that it fills most, each bar in the colour of its box."""
    bins = round(len(histograms[0]) ** (1 / 3))
    colours = (np.stack(np.unravel_index(np.arange(bins**3), (bins,) * 3), axis=1) + 0.5) / bins
    fig, axes = plot.canvas(7, 4.2, rows=2, columns=len(pictures), sharey="row", squeeze=False)
    for (above, below), picture, histogram in zip(axes.T, pictures, histograms, strict=True):
        largest = np.argsort(-histogram, kind="stable")[:most]
        above.imshow(picture)
        above.axis("off")
        below.bar(range(most), histogram[largest], color=colours[largest], edgecolor=plot.GREY)
        below.set(xticks=[], xlabel="box of colour")
        below.set_axisbelow(True)
    axes[1, 0].set_ylabel("share of pixels")
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@plot.styled
def draw_edges(grey: np.ndarray, histogram: np.ndarray) -> Figure:
    """Draw a picture (H, W) and, cell by cell, its edges (cells, cells, orientations) as strokes along them."""
    fig, (left, right) = plot.canvas(7, 3.6, columns=2)
    left.imshow(grey, cmap="gray")
    right.imshow(grey, cmap="gray", alpha=0.15)
    cell, turns = len(grey) / len(histogram), histogram.shape[2]
    for (y, x, turn), strength in np.ndenumerate(histogram / max(histogram.max(), 1e-9)):
        angle = np.pi * turn / turns + np.pi / 2  # an edge runs across its gradient
        reach = cell / 2 * np.array([-1, 1])
        across, down = (x + 0.5) * cell + reach * np.cos(angle), (y + 0.5) * cell + reach * np.sin(angle)
        right.plot(across - 0.5, down - 0.5, color=plot.BLUE, alpha=min(1.0, 1.5 * strength), linewidth=2)
    for ax, title in ((left, "brightness"), (right, "edges by cell and direction")):
        plot.label(ax, title)
        ax.axis("off")
    return fig


def unlike_atoms(codes: np.ndarray, most: int) -> list[int]:
    """Return `most` atoms that vary most over `codes` (n, n, K), no two bright in the same places.

    Maps are smoothed first, so that an edge and the same edge a pixel further count as alike.
    """
    spread = codes.std(axis=(0, 1))
    smooth = uniform_filter(codes, size=(5, 5, 1)).reshape(-1, codes.shape[2])
    chosen = list[int]()
    for atom in np.argsort(-spread, kind="stable"):
        if spread[atom] == 0 or len(chosen) == most:
            break
        if all(np.corrcoef(smooth[:, atom], smooth[:, other])[0, 1] < 0.3 for other in chosen):
            chosen.append(int(atom))
    return chosen


@plot.styled
def draw_atom_maps(
    picture: np.ndarray, dictionary: PatchDictionary, title: str = "", most: int = 3
) -> Figure:
    """Draw a picture and where in it unlike atoms stand that tell its places apart, each atom above its map."""
    codes, size = dictionary.codes(picture), dictionary.size
    low = (dictionary.patch_size - dictionary.stride) / 2  # a code stands where its patch has its middle
    high = low + len(codes) * dictionary.stride
    fig, axes = plot.canvas(7, 3.1, rows=2, columns=most + 1, gridspec_kw={"height_ratios": (1, 2.6)})
    axes[1, 0].imshow(features.shrink(picture, size), extent=(0, size, size, 0))
    for (above, below), atom in zip(axes.T[1:], unlike_atoms(codes, most), strict=False):
        above.imshow(features.patch_picture(dictionary.atoms_[atom]))
        above.set_title(f"atom {atom}", fontsize=11)
        below.imshow(codes[:, :, atom], cmap="cividis", extent=(low, high, high, low))
        below.set(xlim=(0, size), ylim=(size, 0))
    for ax in axes.flat:
        ax.axis("off")
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return fig


@plot.styled
def draw_bands(log_mel: np.ndarray, mfcc: np.ndarray, seconds: float) -> Figure:
    """Draw the log-mel bands (M, frames) of a clip in decibels; below them its MFCCs (C, frames), from number 1."""
    fig, axes = plot.canvas(7, 5.2, rows=2, sharex=True)
    panels = (
        ("log-mel", log_mel, -0.5, "band", "dB"),
        ("MFCC", mfcc, 0.5, "coefficient", "dB, weighted sum"),
    )
    for ax, (name, values, first, ylabel, unit) in zip(axes, panels, strict=True):
        extent = (0.0, seconds, first, first + len(values))
        image = ax.imshow(values, origin="lower", aspect="auto", cmap="magma", extent=extent)
        fig.colorbar(image, ax=ax, label=unit)
        ax.grid(visible=False)
        plot.label(ax, name, ylabel=ylabel)
    axes[-1].set_xlabel("time (s)")
    return fig


# Notebook 03


def fused_at(log_probs: np.ndarray, share: float, present: tuple[bool, bool]) -> np.ndarray:
    """Return the fused log-probabilities of two modalities (2, N, C): `share` of the weight on the second.

    present: which of the two may be used; the other is left out. With none left all classes are equally likely.
    """
    weights = np.array([1 - share, share]) * present
    return solutions.late_fusion(log_probs, weights if weights.any() else np.array(present, dtype=float))


def draw_fusion(
    log_probs: np.ndarray, target: np.ndarray, row: int, classes: list[str], names: tuple[str, str],
    share: float, present: tuple[bool, bool] = (True, True),
) -> Figure:  # fmt: skip
    """Draw what two modalities and their fusion say of one row, and the accuracy under every weight."""
    fig, (left, right) = plot.canvas(9.0, 3.6, 1, 2)
    fused, places = np.exp(fused_at(log_probs, share, present)[row]), np.arange(len(classes))
    for k, (name, colour) in enumerate(zip(names, (plot.BLUE, plot.ORANGE), strict=True)):
        shown = np.exp(log_probs[k, row]) if present[k] else np.zeros(len(classes))
        left.barh(
            places + (k - 0.5) * 0.3,
            shown,
            0.28,
            color=colour,
            label=name if present[k] else f"{name} (missing)",
        )
    left.plot(fused, places, "D", color=plot.INK, label="fused")
    left.set_yticks(places, classes)
    left.invert_yaxis()
    left.legend(loc="lower right", fontsize=8)
    said, truth = classes[int(fused.argmax())], classes[int(target[row])]
    verdict = "right" if said == truth else f"it is {truth}"
    plot.label(left, f"Fused answer: {said} ({verdict})", "probability")
    shares = np.linspace(0, 1, 21)
    scores = [float((fused_at(log_probs, s, present).argmax(1) == target).mean()) for s in shares]
    right.plot(shares, scores, color=plot.GREEN)
    now = float((fused_at(log_probs, share, present).argmax(1) == target).mean())
    right.plot([share], [now], "D", color=plot.INK)
    plot.label(right, f"{now:.1%} of all rows right at this weight", f"weight of {names[1]}", "accuracy")
    return fig


def fusion_explorer(
    log_probs: np.ndarray, target: np.ndarray, rows: list[int], labels: list[str], classes: list[str],
    names: tuple[str, str],
) -> Any:  # fmt: skip
    """Return a widget: a slider for the weight, a switch for each modality, and a choice of rows."""
    import ipywidgets as w

    row = w.Dropdown(options=list(zip(labels, rows, strict=True)), description="thing")
    share = w.FloatSlider(min=0, max=1, step=0.05, value=0.5, description=f"{names[1]} weight")
    switches = [w.Checkbox(value=True, description=f"has {name}") for name in names]
    picture = w.Image(format="png")
    picture.add_class("mmteach-fusion")

    def draw(_: object = None) -> None:
        present = (switches[0].value, switches[1].value)
        picture.value = plot.png(
            draw_fusion(log_probs, target, row.value, classes, names, share.value, present)
        )

    for control in (row, share, *switches):
        control.observe(draw, "value")
    draw()
    return w.VBox([w.HBox([row, share]), w.HBox(switches), picture])
