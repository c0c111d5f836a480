"""The report's pictures, drawn once with Matplotlib: inlined in the page as SVG, and beside it as PNG and SVG."""
