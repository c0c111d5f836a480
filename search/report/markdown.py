"""Markdown of a report's or a study's page."""

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120  # of a page's lines


def paragraph(text: str) -> str:
    """A text in lines; neither words nor numbers with signs are cut."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a row has a cell for each of the header."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([head, "|" + "---|" * len(header), *body])
