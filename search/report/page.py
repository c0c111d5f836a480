"""Writes self-contained HTML pages."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from search.figures.style import CaptionedFigure, axes_frame, inline
from search.terminal import printable

HINT = "Point at a mark to see its network; draw a rectangle to zoom in, and double-click to see all again."
LEAST, MOST = 58, 120  # pixels of a page for an inch of a figure: at most, its letters are as large as the page's
Row = tuple[str, list[str]]  # a class, or nothing, and the cells


def escape(text: str) -> str:
    """Text as HTML that shows it, control characters written out."""
    return html.escape(printable(text))


def page(title: str, parts: Iterable[str], pictures: Mapping[str, CaptionedFigure]) -> str:
    """A whole page of parts of HTML, in which the pictures' marks can be pointed at and zoomed in on."""
    here = files("search.report")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    tips = {f"{name}-{gid}": texts for name, each in pictures.items() for gid, texts in each.tips.items()}
    shown = {gid: [printable(text) for text in texts] for gid, texts in tips.items()}
    frames = {name: asdict(axes_frame(each.figure)) for name, each in pictures.items() if each.tips}
    data = f"const TIPS = {_script(shown)};\nconst FRAMES = {_script(frames)};"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head><body>\n'
        + "\n".join(parts)
        + f'\n<div id="tip" hidden></div><script>{data}\n{script}</script></body></html>\n'
    )


def _script(values: Any) -> str:
    """Plain values for a script in a page: nothing in them ends it."""
    return json.dumps(values).replace("<", "\\u003c")


def figures(pictures: dict[str, CaptionedFigure], svgs: dict[str, str]) -> str:
    """Pictures side by side where there is room, none larger than MOST. A wide one is scrolled where it would shrink to
    less than LEAST."""
    shown = []
    for name, each in pictures.items():
        inches = each.figure.get_figwidth()
        kind = ' class="wide"' if each.wide else ""
        size = f"max-width:{MOST * inches:.0f}px" + (f";min-width:{LEAST * inches:.0f}px" if each.wide else "")
        label = f'<svg role="img" aria-label="{escape(name)}" style="{size}"'
        picture = inline(name, svgs[name]).replace("<svg", label, 1)
        shown.append(f'<figure id="{name}"{kind}>{picture}<figcaption>{escape(each.caption)}</figcaption></figure>')
    return f'<div class="pair">{"".join(shown)}</div>'


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def table(head: list[str], rows: list[Row], below: Sequence[str] = ()) -> str:
    """A table, scrolled where it is wider than the page.

    Args:
        below: HTML under each row, over all columns.
    """
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    bodies = []
    for (kind, row), under in zip(rows, below or [""] * len(rows), strict=True):
        body = f"<tr{f' class={kind}' if kind else ''}>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>"
        bodies.append(body + (f'<tr class="under"><td colspan="{len(head)}">{under}</td></tr>' if under else ""))
    text = "".join(f"<tbody>{body}</tbody>" for body in bodies)  # a body a row: what is under it goes with it
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>{text}</table></div>'


def details(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def code(*lines: str) -> str:
    """Commands, a line each."""
    text = "\n".join(lines)
    return f"<pre>{escape(text)}</pre>"
