"""How figures look, and how they leave: as PNG, as SVG, or inlined in a page that may be dark."""

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from search.terminal import printable

# A page swaps these for variables of its own, so that one picture serves light and dark.
INK, SOFT, GRID, PAPER = "#1f2937", "#6b7280", "#e5e7eb", "#fffffe"
CHOSEN, BASELINE, CLOUD, FRONT = "#c2410c", "#1d4ed8", "#b8bec9", "#374151"
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--line",
    PAPER: "--card",
    CHOSEN: "--chosen",
    BASELINE: "--baseline",
    CLOUD: "--cloud",
    FRONT: "--front",
}
RATIO_COLOURS = {1: "#94a3b8", 2: "#0f9f8f", 3: "#d97706", 4: "#be3455"}
SERIES = ("#c2410c", "#1d4ed8", "#0f9f8f", "#9333ea", "#a16207", "#be3455", "#0369a1", "#4d7c0f")
WIDTH = 5.6  # inches of a figure that fills a phone
LEGEND_SHARE = 0.85  # of a figure's width that a legend may take: the rest is the vertical axis's
LEGEND_LETTERS = 64  # of a line in a legend
STYLE: Any = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a name with dollars is a name
    "svg.hashsalt": "ghostnas",
    "svg.fonttype": "none",
}


@dataclass(frozen=True, slots=True)
class CaptionedFigure:
    """A finished picture.

    Args:
        tips: what pointing at a mark says: for a group of marks (its `gid`), a text for each mark in order.
        wide: whether it takes a page's whole width.
    """

    caption: str
    figure: Figure
    tips: dict[str, list[str]] = field(default_factory=dict)
    wide: bool = False


@contextmanager
def canvas(height: float = 4.0, width: float = WIDTH, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes, in inches."""
    with plt.rc_context(STYLE):
        yield plt.subplots(figsize=(width, height), layout="constrained", **options)


def legend_label(name: str) -> str:
    """A name as a label: control characters written out, which XML lacks; a leading `_`, which Matplotlib would leave
    out of a legend, after a space."""
    return printable(f" {name}" if name.startswith("_") else name)


def legend_above(axes: Any, ncols: int = 3, **options: Any) -> None:
    """A legend above the axes, where it covers no mark and no curve, in as many columns as the figure has room for.

    A legend that is wider takes its width from the axes: a layout shrinks them to what it leaves.
    """
    handles, names = axes.get_legend_handles_labels()
    names = [textwrap.fill(name, LEGEND_LETTERS) for name in names]
    place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "columnspacing": 1.2}
    for columns in range(ncols, 0, -1):
        legend = axes.legend(handles, names, ncols=columns, **place | options)
        if legend.get_window_extent().width < LEGEND_SHARE * axes.figure.bbox.width:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class AxesFrame:
    """Where axes lie in a figure's SVG.

    Args:
        box: left, top, right and bottom in the SVG's units.
        x, y: the values at its ends.
        names: the values of the marks that annotations with the gids `name-0`, `name-1`, ... stand beside.
    """

    box: list[float]
    x: list[float]
    y: list[float]
    names: list[list[float]]


def axes_frame(figure: Figure) -> AxesFrame:
    """The frame of the first axes, as the figure was last drawn."""
    axes = figure.axes[0]
    (width, height), box = 72 * figure.get_size_inches(), axes.get_position()
    texts: list[Any] = [text for text in axes.texts if str(text.get_gid()).startswith("name-")]
    return AxesFrame(
        box=[float(v) for v in (box.x0 * width, (1 - box.y1) * height, box.x1 * width, (1 - box.y0) * height)],
        x=[float(v) for v in axes.get_xlim()],
        y=[float(v) for v in axes.get_ylim()],
        names=[[float(v) for v in text.xy] for text in texts],
    )


def svg(figure: Figure) -> str:
    """The figure as an SVG element, without the XML prologue."""
    content = io.StringIO()
    with plt.rc_context(STYLE):  # labels of ticks are made when they are drawn
        figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]


def inline(name: str, text: str) -> str:
    """An SVG element for a page: its ids are its own, its inks the page's variables."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def png(figure: Figure) -> bytes:
    """The figure as a PNG at 160 dots an inch, on white."""
    content = io.BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(content, format="png", dpi=160, facecolor="white")
    return content.getvalue()
