"""Several runs on one page: their fronts overlaid, with hypervolumes against one common corner."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NamedTuple

from search.engine.front import hypervolume
from search.errors import UserError
from search.figures.style import CaptionedFigure
from search.files import write_text
from search.folders import locked
from search.report import page
from search.report.figures import fronts
from search.report.report import PAGE, render
from search.report.summary import Summary, summarise

# Of a latency table's setting, and what several that differ are called.
SETTINGS = {
    "runtime": "runtimes",
    "dtype": "data types",
    "lowering": "lowerings",
    "batch": "batches",
    "threads": "threads",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run beside others, for people and `--json`."""

    run: str
    evaluated: int
    front: int
    hypervolume: float
    best_accuracy: float | None
    fastest_ms: float | None
    budget: str
    seed: int | None
    data: str
    space_id: str
    device: str | None


class Comparison(NamedTuple):
    """The page of runs compared, a row for each, and in what they are not alike."""

    page: Path
    rows: list[RunRow]
    notes: list[str]


def write_comparison(folders: list[Path], out: Path) -> Comparison:
    """Writes a page and its figures into `out`.

    Raises:
        UserError: there is no folder, or one holds no run, or is named twice.
    """
    if not folders:
        raise UserError("one run or more are compared, but got no folder")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("runs that are compared must differ, but a folder is named twice")
    summaries = {str(folder): summarise(folder) for folder in folders}
    named = dict(zip(_names(folders), summaries.values(), strict=True))
    compared = Comparison(out / PAGE, rows(named), notes(named))
    pictures = {"fronts": fronts.overlaid(named)}
    with locked(out):
        _write(compared, pictures)
    return compared


def _write(compared: Comparison, pictures: dict[str, CaptionedFigure]) -> None:
    svgs = render(pictures, compared.page.parent)
    head = ["run", "evaluated", "on the front", "hypervolume", "best accuracy", "fastest ms", "budget", "seed"]
    head += ["data", "space", "device"]
    cells: list[page.Row] = [("", [_cell(value) for value in astuple(row)]) for row in compared.rows]
    parts = [
        "<h1>GhostNAS: runs compared</h1>",
        *(page.paragraph(note, "note") for note in compared.notes),
        page.figures(pictures, svgs),
        page.paragraph(page.HINT, "soft"),
        page.heading("Hypervolumes"),
        page.paragraph(
            "The area between a front and the corner of accuracy 0 and the greatest latency that any of the runs saw: "
            "one corner for all, so that larger is better.",
            "soft",
        ),
        page.table(head, cells),
    ]
    write_text(compared.page, page.page("GhostNAS: runs compared", parts, pictures))  # last


def rows(named: dict[str, Summary]) -> list[RunRow]:
    """A row a run; hypervolumes against one corner."""
    worst = max((t["latency_ms"] for summary in named.values() for t in summary.complete), default=0.0)
    table = []
    for name, summary in named.items():
        trials = summary.complete
        device = summary.table.device.cpu if summary.table else None
        table.append(
            RunRow(
                run=name,
                evaluated=len(trials),
                front=len(summary.front),
                hypervolume=hypervolume(trials, worst),
                best_accuracy=max((t["accuracy"] for t in trials), default=None),
                fastest_ms=min((t["latency_ms"] for t in trials), default=None),
                budget=summary.budget,
                seed=summary.seed,
                data=summary.data,
                space_id=summary.space.id,
                device=device,
            )
        )
    return table


def notes(named: dict[str, Summary]) -> list[str]:
    """What keeps runs from being alike, and what is missing of each."""
    lines = [f"{name}: {note}" for name, summary in named.items() for note in summary.notes]
    tables = {name: s.table for name, s in named.items() if s.table}
    for what, values in (
        ("data", _data(named)),
        ("accuracies", {name: s.accuracy_meaning for name, s in named.items()}),
        ("spaces", {name: s.space.id for name, s in named.items()}),
        ("devices", {name: table.device.cpu for name, table in tables.items()}),
        *((what, {name: getattr(t.setting, field) for name, t in tables.items()}) for field, what in SETTINGS.items()),
    ):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} {value}" for name, value in values.items())
            lines.append(f"These runs are of different {what}: {listed}.")
    if len({s.header.supernet for s in named.values() if s.header.evaluator is None}) > 1:
        lines.append(
            "Each run's networks were evaluated by a supernet of its own: accuracies before full training differ by "
            "these, too."
        )
    if len({table.digest for table in tables.values()}) > 1:
        listed = ", ".join(f"{name} {table.validation.mape:.1%}" for name, table in tables.items())
        lines.append(
            f"Each run's latencies are predicted by a table of its own, with mean errors of {listed}: fronts and "
            "hypervolumes differ by these, too. Runs by one table compare better."
        )
    return lines


def _data(named: dict[str, Summary]) -> dict[str, str]:
    """The data of runs by what they are, with the place where they lie, of which the same data may have several; by
    that alone where a log doesn't say what they are. Empty where all are the same."""
    contents = {summary.header.data for summary in named.values()}
    if None in contents:
        return {name: summary.data for name, summary in named.items()}
    if len(contents) == 1:
        return {}
    return {name: f"{summary.data} (content {summary.header.data})" for name, summary in named.items()}


def _names(folders: list[Path]) -> list[str]:
    """The folders' own names where they differ, else their paths."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
