"""The report's pictures, drawn with Matplotlib: the front, and where s, d, SE and width went."""

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ghostnet.arch import Arch
from search.delivery.summary import Summary
from search.engine.front import front

CHOSEN, BASELINE, CLOUD, FRONT = "#c2410c", "#1d4ed8", "#b8bec9", "#374151"
RATIO_COLOURS = {1: "#64748b", 2: "#0f766e", 3: "#b45309", 4: "#9f1239"}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "ghostnas",
    "svg.fonttype": "none",
}


def front_figure(summary: Summary) -> Figure:
    """Left what the search saw: accuracy with inherited weights against predicted latency. Right what came of it:
    accuracy after full training against measured latency, beside the family scaled down."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
        _searched(left, summary)
        _trained(right, summary)
    return figure


def _searched(axes: Any, summary: Summary) -> None:
    trials = [t for t in summary.trials if t["state"] == "complete"]
    best = front(trials)
    axes.scatter(*_xy(trials), s=14, color=CLOUD, linewidths=0, label=f"evaluated ({len(trials)})")
    axes.step(*_xy(best), where="post", color=FRONT, linewidth=1.2)
    axes.scatter(*_xy(best), s=20, color=FRONT, label=f"Pareto front ({len(best)})", zorder=3)
    chosen = summary.result["chosen"] if summary.result else {}
    axes.scatter(
        *_xy(list(chosen.values())),
        s=90,
        facecolors="none",
        edgecolors=CHOSEN,
        linewidths=1.8,
        label="chosen",
        zorder=4,
    )
    for label, trial in chosen.items():
        _name(axes, label, trial["latency_ms"], 100 * trial["accuracy"], CHOSEN)
    axes.set(
        title="What the search saw",
        xlabel="predicted latency (ms)",
        ylabel="accuracy with inherited weights, search split (%)",
    )
    axes.legend(frameon=False, loc="lower right", fontsize=9)


def _trained(axes: Any, summary: Summary) -> None:
    for chosen, colour, marker, word in (
        (True, CHOSEN, "o", "chosen"),
        (False, BASELINE, "s", "GhostNet, scaled width"),
    ):
        networks = [n for n in summary.networks if n.chosen is chosen and n.measured_ms is not None]
        x, y = [n.measured_ms for n in networks], [100 * n.accuracy for n in networks]
        error = [100 * (n.accuracy * (1 - n.accuracy) / n.test_images) ** 0.5 for n in networks]
        axes.errorbar(x, y, error, fmt=marker, color=colour, markersize=7, elinewidth=1, capsize=3, label=word)
        for n in networks:
            _name(axes, n.name.removeprefix("ghostnet-"), n.measured_ms, 100 * n.accuracy, colour)
    axes.margins(0.12)
    axes.set(
        title="After full training, same recipe for all",
        xlabel="measured latency (ms)",
        ylabel="accuracy, test split (%), one standard error",
    )
    if summary.networks:
        axes.legend(frameon=False, loc="lower right", fontsize=9)


def _xy(trials: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return [t["latency_ms"] for t in trials], [100 * t["accuracy"] for t in trials]


def _name(axes: Any, text: str, x: float | None, y: float, colour: str) -> None:
    axes.annotate(text, (x, y), xytext=(6, 7), textcoords="offset points", color=colour, fontsize=9, weight="bold")


def arch_figure(named: dict[str, Arch]) -> Figure:
    """One row a network, one column a block: the outline is the expansion width, the filled bar the output width, its
    colour the ghost ratio s, the figure above it the cheap kernel d, a dot below it squeeze-and-excitation."""
    blocks = max(len(arch.blocks) for arch in named.values())
    widest = max(block.mid_chs for arch in named.values() for block in arch.blocks)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        size = (max(7.0, 0.62 * blocks + 2.4), 1.35 * len(named) + 1.1)
        figure, rows = plt.subplots(len(named), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
        for axes, (name, arch) in zip(rows[:, 0], named.items(), strict=True):
            for k, block in enumerate(arch.blocks):
                colour = RATIO_COLOURS.get(block.ratio, "#000000")
                axes.add_patch(Rectangle((k - 0.4, 0), 0.8, block.mid_chs, fill=False, edgecolor=colour, linewidth=1))
                axes.add_patch(Rectangle((k - 0.4, 0), 0.8, block.out_chs, color=colour))
                if block.se_ratio:
                    axes.plot(k, -0.1 * widest, marker="o", markersize=5, color="black", clip_on=False)
                kernel = "" if block.ratio == 1 else f"{block.cheap_kernel}"
                axes.text(k, block.mid_chs + 0.03 * widest, kernel, ha="center", va="bottom", fontsize=9)
            for start in np.cumsum([len(stage) for stage in arch.stages])[:-1]:
                axes.axvline(start - 0.5, color="#d1d5db", linewidth=0.8, linestyle=":")
            axes.set(ylim=(-0.2 * widest, 1.3 * widest), xlim=(-0.7, blocks - 0.3), yticks=[0, widest])
            axes.set_ylabel(name, rotation=0, ha="right", va="center", weight="bold")
            axes.set_xticks(range(blocks), [str(k + 1) for k in range(blocks)])
        rows[-1, 0].set_xlabel("block")
        used = sorted({block.ratio for arch in named.values() for block in arch.blocks})
        handles: list[Any] = [Patch(color=RATIO_COLOURS.get(s, "#000000"), label=f"s = {s}") for s in used]
        handles.append(Patch(facecolor="none", edgecolor="#6b7280", label="outline: expansion, fill: output channels"))
        handles.append(Line2D([], [], color="black", linestyle="", marker="o", markersize=5, label="SE"))
        handles.append(Line2D([], [], linestyle="", marker="$3$", color="black", label="cheap kernel d"))
        figure.legend(
            handles=handles, loc="outside upper center", ncols=-(-len(handles) // 2), frameon=False, fontsize=8.5
        )
    return figure


def svg(figure: Figure) -> str:
    """The figure as an SVG element, without the XML prologue."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure) -> bytes:
    """The figure as a PNG at 160 dots an inch, on white."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160, facecolor="white")
    return content.getvalue()
