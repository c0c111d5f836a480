"""A whole run, and its report."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.shared import (
    Json,
    Minutes,
    Resume,
    print_json,
)
from search.terminal import show, show_table
from spaces.population import short

NOT_EXPORTED = 1  # exit code of a run that is complete but for networks that could not be exported


def run(
    recipe: Annotated[
        str | None, typer.Argument(help="digits (default), cifar10, or a recipe's .toml file.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder (default results/RECIPE).")] = None,
    resume: Resume = False,
    data: Annotated[str | None, typer.Option("--data", help="Another data set than the recipe's.")] = None,
    flops_budget: Annotated[str | None, typer.Option("--flops-budget", help="60M or 40M..60M.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed than the recipe's.")] = None,
    minutes: Minutes = None,
    as_json: Json = False,
) -> None:
    """Everything: train the supernet, calibrate latency, search, retrain, export, report."""
    from search.pipeline import run as pipeline
    from search.pipeline.run_folder import RUN, recorded_recipe
    from search.recipes.schema import load

    again = resume and recipe is None and out is not None and (out / RUN).exists()
    plan = recorded_recipe(out) if out and again else load(recipe or "digits")
    plan = plan.model_copy(
        update={k: v for k, v in (("data", data), ("seed", seed)) if v is not None}
        | ({"search": plan.search.model_copy(update={"flops_budget": flops_budget})} if flops_budget else {})
    )
    folder = out or Path("results") / plan.name
    with pipeline.opened(plan, folder, resume, minutes) as job:
        pipeline.run(job)
    _print_run(folder, as_json)
    from search.report.summary import left_out

    if left_out(folder):  # said in the notes
        raise typer.Exit(NOT_EXPORTED)


def report(
    folders: Annotated[list[Path], typer.Argument(help="A run's folder, or several to compare.")],
    out: Annotated[Path, typer.Option("--out", help="Where a comparison goes.")] = Path("results/comparison"),
    as_json: Json = False,
) -> None:
    """The run as one HTML page, and its figures as PNG and SVG; of several runs, their fronts overlaid."""
    if len(folders) == 1:
        from search.report.report import write_report

        write_report(folders[0])
        _print_run(folders[0], as_json)
        return
    from search.report.comparison import write_comparison

    page, rows = write_comparison(folders, out)
    if as_json:
        print_json({"report": str(page), "runs": rows})
        return
    cells = [[row["run"], str(row["evaluated"]), str(row["front"]), f"{row['hypervolume']:.4g}"] for row in rows]
    show_table(["run", "evaluated", "on the front", "hypervolume"], cells)
    show(f"Report: {page}")


def _print_run(folder: Path, as_json: bool) -> None:
    """A run's fully trained networks, what a time box cut, and where the report is."""
    from search.pipeline.run_folder import REPORT
    from search.report.summary import rows, summarise

    summary, page = summarise(folder), folder / REPORT
    if as_json:
        print_json({"folder": str(folder), "report": str(page), "networks": rows(summary), "notes": summary.notes})
        return
    networks = rows(summary)
    cells = [
        [
            n["network"],
            f"{n['test_accuracy']:.2%}",
            short(n["macs"]),
            short(n["params"]),
            "" if n["predicted_ms"] is None else f"{n['predicted_ms']:.3f}",
            "" if n["measured_ms"] is None else f"{n['measured_ms']:.3f}",
        ]
        for n in networks
    ]
    chosen = [number for number, n in enumerate(networks) if n["chosen"]]
    show_table(["network", "test", "MACs", "params", "predicted ms", "measured ms"], cells, bold=chosen)
    for note in summary.notes:
        show(note, "yellow")
    show(f"Report: {page}")
