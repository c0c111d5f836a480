"""The accuracy of guessing, in figures of accuracy."""

from typing import Any

from search.figures.style import INK, SOFT


def mark_chance(axes: Any, share: float) -> None:
    """Draws the accuracy of guessing, in per cent: a line where it lies less than half the data's span below them, else
    a note of it under the axis, which goes on starting where the data do.

    Args:
        share: of images that a guess gets right, in [0, 1]; at 1 there is nothing to guess, and nothing is drawn.
    """
    if share >= 1:
        return
    chance = 100 * share
    label = f"chance ({chance:.3g} %)"
    low, high = axes.get_ylim()
    if chance > low - (high - low) / 2:
        axes.axhline(chance, color=SOFT, linewidth=1, linestyle=":", label=label)
        return
    axes.annotate(
        f"\N{DOWNWARDS ARROW} {label}",
        (0, 0),
        xycoords="axes fraction",
        xytext=(-4, -30),
        textcoords="offset points",
        ha="left",
        color=INK,
        fontsize=8,
    )
