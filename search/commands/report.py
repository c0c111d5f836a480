"""A run's report, or several runs compared."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import search as api
from search.commands.shared import (
    Json,
    print_json,
)
from search.errors import UserError
from search.terminal import show, show_table

if TYPE_CHECKING:
    from search.report.summary import Summary


def report(
    folders: Annotated[list[Path], typer.Argument(help="A run's folder, or several to compare.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where a comparison goes. Default: results/comparison.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The run as one HTML page, and its figures as PNG and SVG; of several runs, their fronts overlaid."""
    if len(folders) == 1:
        from search.report.summary import summarise

        if out is not None:
            raise UserError(f"--out is where a comparison of several runs goes; {folders[0]} keeps its own report")
        api.write_report(folders[0])
        print_run(summarise(folders[0]), as_json)
        return
    page, rows, notes = api.compare_runs(folders, out or Path("results/comparison"))
    if as_json:
        print_json({"report": str(page), "runs": [asdict(row) for row in rows], "notes": notes})
        return
    cells = [[row.run, str(row.evaluated), str(row.front), f"{row.hypervolume:.4g}"] for row in rows]
    show_table(["run", "evaluated", "on the front", "hypervolume"], cells)
    for note in notes:
        show(note, "yellow")
    show(f"Report: {page}")


def print_run(summary: "Summary", as_json: bool) -> None:
    """A run's fully trained networks, what a time box cut, and where the report is."""
    from search.report.rows import comparison_text, rows
    from search.run_folder.run import REPORT
    from spaces.quantities import format_count

    page = summary.folder / REPORT
    networks = rows(summary)
    if as_json:
        listed = [asdict(network) for network in networks]
        print_json({"folder": str(summary.folder), "report": str(page), "networks": listed, "notes": summary.notes})
        return
    sides = len({n.resolution for n in networks}) > 1
    cells = [
        [
            n.network,
            f"{n.test_accuracy:.2%}",
            *([str(n.resolution)] if sides else []),
            format_count(n.macs),
            format_count(n.params),
            "" if n.predicted_ms is None else f"{n.predicted_ms:.3f}",
            "" if n.measured_ms is None else f"{n.measured_ms:.3f}",
        ]
        for n in networks
    ]
    chosen = [number for number, n in enumerate(networks) if n.chosen]
    head = ["network", "test", *["side"] * sides, "MACs", "params", "predicted ms", "measured ms"]
    show_table(head, cells, bold=chosen)
    if compared := comparison_text(summary):
        show(compared)
    for note in summary.notes:
        show(note, "yellow")
    show(f"Report: {page}")
