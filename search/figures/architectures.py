"""Networks drawn block by block: where s, d, SE and width went."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch, Rectangle

from ghostnet.arch import Arch
from search.figures.style import INK, RATIO_COLOURS, SOFT, STYLE, legend_label


def arch_figure(named: dict[str, Arch]) -> Figure:
    """One row a network, one column a block: the outline is the expansion width, the filled bar the output width, its
    colour the ghost ratio s, the figure above it the cheap kernel d, a dot below it squeeze-and-excitation."""
    blocks = max(len(arch.blocks) for arch in named.values())
    widest = max(block.mid_chs for arch in named.values() for block in arch.blocks)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        size = (max(5.6, 0.5 * blocks + 1.8), 1.2 * len(named) + 1.1)
        figure, rows = plt.subplots(len(named), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
        for axes, (name, arch) in zip(rows[:, 0], named.items(), strict=True):
            for k, block in enumerate(arch.blocks):
                colour = RATIO_COLOURS.get(block.ratio, INK)
                axes.add_patch(Rectangle((k - 0.4, 0), 0.8, block.mid_chs, fill=False, edgecolor=colour, linewidth=1))
                axes.add_patch(Rectangle((k - 0.4, 0), 0.8, block.out_chs, color=colour))
                if block.se_ratio:
                    axes.plot(k, -0.1 * widest, marker="o", markersize=5, color=INK, clip_on=False)
                kernel = "" if block.ratio == 1 else f"{block.cheap_kernel}"
                axes.text(k, block.mid_chs + 0.03 * widest, kernel, ha="center", va="bottom", fontsize=9)
            for start in np.cumsum([len(stage) for stage in arch.stages])[:-1]:
                axes.axvline(start - 0.5, color=SOFT, linewidth=0.6, linestyle=":")
            axes.set(ylim=(-0.2 * widest, 1.3 * widest), xlim=(-0.7, blocks - 0.3), yticks=[0, widest])
            axes.set_ylabel(legend_label(name), rotation=0, ha="right", va="center", weight="bold")
            axes.set_xticks(range(blocks), [str(k + 1) for k in range(blocks)])
        rows[-1, 0].set_xlabel("block")
        used = sorted({block.ratio for arch in named.values() for block in arch.blocks})
        handles: list[Any] = [Patch(color=RATIO_COLOURS.get(s, INK), label=f"s = {s}") for s in used]
        handles.append(Line2D([], [], color=INK, linestyle="", marker="o", markersize=5, label="SE"))
        with plt.rc_context({"text.parse_math": True}):
            three: Any = MarkerStyle("$3$")
        handles.append(Line2D([], [], linestyle="", marker=three, color=INK, label="cheap kernel d"))
        handles.append(Patch(facecolor="none", edgecolor=SOFT, label="outline: expansion, fill: output channels"))
        figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8.5)
    return figure
