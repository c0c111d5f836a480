"""The report's pictures, drawn once with Matplotlib: inlined in the page as SVG, and beside it as PNG and SVG."""

from search.delivery.figures.architectures import arch_figure
from search.delivery.figures.style import CHOSEN, STYLE, Drawn, inline, png, svg

__all__ = ["CHOSEN", "STYLE", "Drawn", "arch_figure", "inline", "png", "svg"]
