"""Figures of the choices that the front's networks share, and of the effect of each choice."""

import numpy as np

from ghostnet.arch import Arch
from search.figures.style import BASELINE, CHOSEN, INK, RATIO_COLOURS, SOFT, CaptionedFigure, canvas
from search.report.sensitivity import COVERAGE, Effect

KERNELS = {1: "#cbd5e1", 3: "#7dd3fc", 5: "#2563eb", 7: "#6d28d9"}


def agreement(archs: list[Arch], largest: Arch) -> CaptionedFigure:
    """Share of each choice per block along the front: s, d, SE, and the mean width as a share of the space's widest."""
    blocks_at = [name.removeprefix("blocks.") for name in largest.block_names]
    by_place = {
        name: [b for arch in archs for p, b in zip(arch.block_names, arch.blocks, strict=True) if p == f"blocks.{name}"]
        for name in blocks_at
    }
    widest = dict(zip(blocks_at, largest.blocks, strict=True))
    count, at = len(archs), np.arange(len(blocks_at))
    with canvas(5.6, nrows=4, sharex=True) as (figure, rows):
        for axes, knob, colours, value in (
            (rows[0], "ratio s", RATIO_COLOURS, lambda b: b.ratio),
            (rows[1], "kernel d", KERNELS, lambda b: b.cheap_kernel if b.ratio > 1 else 0),
        ):
            bottom = np.zeros(len(blocks_at))
            for choice in sorted({value(b) for blocks in by_place.values() for b in blocks} - {0}):
                share = np.array([sum(value(b) == choice for b in by_place[p]) / count for p in blocks_at])
                axes.bar(at, share, 0.8, bottom, color=colours.get(choice, SOFT), label=f"{knob[-1]} = {choice}")
                bottom += share
            axes.set_ylabel(knob)
            if bottom.any():
                axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
            else:
                axes.text(0.5, 0.5, "s = 1 throughout", transform=axes.transAxes, ha="center", va="center", color=INK)
        rows[2].bar(at, [sum(b.se_ratio > 0 for b in by_place[p]) / count for p in blocks_at], 0.8, color=INK)
        rows[2].set_ylabel("SE")
        width = [np.mean([b.mid_chs / widest[p].mid_chs for b in by_place[p]] or [0.0]) for p in blocks_at]
        rows[3].bar(at, width, 0.8, color=SOFT)
        rows[3].set_ylabel("width")
        for axes in rows:
            axes.set(ylim=(0, 1), yticks=[0, 0.5, 1])
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            axes.grid(visible=False, axis="x")
        rows[3].set_xticks(at, blocks_at, fontsize=8)
        rows[3].set_xlabel("stage.block")
        figure.align_ylabels(rows)
    caption = (
        f"What the {count} networks of the front have in common: the share of them that makes each choice in each "
        "block (where s = 1 there is no d), and their mean hidden width as a share of the widest."
    )
    return CaptionedFigure(caption, figure)


def sensitivity(effects: list[Effect]) -> CaptionedFigure:
    """Effects of the knobs on accuracy and latency, with intervals."""
    at = -np.arange(len(effects))
    with canvas(max(3.0, 0.19 * len(effects) + 1.0), ncols=2, sharey=True) as (figure, (left, right)):
        for axes, values, colour, label in (
            (left, [e.accuracy for e in effects], CHOSEN, "accuracy (points)"),
            (right, [e.latency for e in effects], BASELINE, "latency (%)"),
        ):
            middle, low, high = np.array(values).T
            axes.hlines(at, low, high, color=colour, linewidth=1)  # an interval need not hold its estimate
            axes.plot(middle, at, "o", color=colour, markersize=4)
            axes.axvline(0, color=SOFT, linewidth=0.8)
            axes.set_xlabel(label)
        left.set_yticks(at, [_place(e) for e in effects], fontsize=8)
        left.set_ylim(at[-1] - 0.6, 0.6)
    caption = (
        "How much accuracy (in points) and predicted latency (in per cent) change when one choice goes from its least "
        f"to its greatest value and the others stay, with {COVERAGE:.0%} intervals; d where s is more than 1. "
        "Estimated from the networks that the search evaluated, which are no even sample of the space."
    )
    return CaptionedFigure(caption, figure)


def _place(effect: Effect) -> str:
    kind, _, number = effect.part.partition(".")
    kind = {"blocks": "block", "stages": "stage"}.get(kind, kind)
    return f"{effect.knob}, {kind} {number}".rstrip()
