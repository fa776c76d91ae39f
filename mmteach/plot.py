"""Figures of one look: picture grids, curves, bars with intervals, confusion, each shown with alt text.

Used by every notebook. Colours are the palette of Okabe and Ito, safe for colour-blind readers.
"""

from __future__ import annotations

import base64
import html
import io

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

INK, BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#222222", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
)
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, INK)


def png(fig: Figure, dpi: int = 110) -> bytes:
    """Return `fig` as PNG bytes and close it, so that a notebook holds one copy and no open figure."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    return buffer.getvalue()


def show(fig: Figure, *, alt: str, caption: str = "") -> None:
    """Display `fig` as HTML with alternative text `alt` for readers who cannot see it, and a caption.

    Raises ValueError when `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("show needs alt text: say what the figure shows to someone who cannot see it")
    data = base64.b64encode(png(fig)).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    body = f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}">{below}</figure>'
    display({"text/html": body, "text/plain": f"[figure: {alt}]"}, raw=True)
