"""The report's pictures, drawn once with Matplotlib: inlined in the page as SVG, and beside it as PNG and SVG."""

from search.report.figures.architectures import arch_figure
from search.report.figures.style import BASELINE, CHOSEN, RATIO_COLOURS, STYLE, Drawn, inline, png, svg

__all__ = ["BASELINE", "CHOSEN", "RATIO_COLOURS", "STYLE", "Drawn", "arch_figure", "inline", "png", "svg"]
