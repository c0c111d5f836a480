"""Writes self-contained HTML pages."""

import html
import json
from collections.abc import Iterable
from importlib.resources import files

from search.figures.style import CaptionedFigure, inline
from search.terminal import printable

SCROLL = '<div class="scroll">'
Row = tuple[str, list[str]]  # a class, or nothing, and the cells


def escape(text: str) -> str:
    """Text as HTML that shows it, control characters written out."""
    return html.escape(printable(text))


def page(title: str, parts: Iterable[str], tips: dict[str, list[str]]) -> str:
    """A whole page of parts of HTML."""
    here = files("search.report")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    data = json.dumps({gid: [printable(text) for text in texts] for gid, texts in tips.items()}).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head><body>\n'
        + "\n".join(parts)
        + f'\n<div id="tip" hidden></div><script>const TIPS = {data};\n{script}</script></body></html>\n'
    )


def figures(pictures: dict[str, CaptionedFigure], svgs: dict[str, str], side: str = "") -> str:
    """Pictures side by side where there is room, and other HTML beside them."""
    shown = []
    for name, each in pictures.items():
        kind = ' class="wide"' if each.wide else ""
        picture = inline(name, svgs[name]).replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)
        shown.append(f'<figure id="{name}"{kind}>{picture}<figcaption>{escape(each.caption)}</figcaption></figure>')
    return f'<div class="pair">{"".join(shown)}{side}</div>'


def tips(pictures: dict[str, CaptionedFigure]) -> dict[str, list[str]]:
    """The tooltips of marks, by the ids that `figures` gives their groups."""
    return {f"{name}-{gid}": texts for name, each in pictures.items() for gid, texts in each.tips.items()}


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def table(head: list[str], rows: list[Row]) -> str:
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        f"<tr{f' class={kind}' if kind else ''}>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>"
        for kind, row in rows
    )
    return f"{SCROLL}<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def details(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"
