"""The search."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from search.commands.shared import (
    Json,
    Minutes,
    Out,
    Resume,
    Seed,
    fresh,
    print_json,
    stdout,
)
from search.errors import UserError
from spaces.population import short


def search(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    latency: Annotated[Path, typer.Option("--latency", help="A latency table, *.lat.json.")],
    flops_budget: Annotated[str, typer.Option("--flops-budget", help="60M or 40M..60M.")],
    latency_budget: Annotated[str | None, typer.Option("--latency-budget", help="8ms, on the upper bound.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Networks to evaluate.")] = 200,
    backend: Annotated[str, typer.Option("--backend", help="optuna.")] = "optuna",
    sampler: Annotated[str, typer.Option("--sampler", help="nsga2, nsga3, tpe, gp or random.")] = "nsga2",
    population: Annotated[int, typer.Option("--population", min=2)] = 40,
    data: Annotated[str | None, typer.Option("--data", help="Where the supernet's data lies now.")] = None,
    out: Out = Path("results/search"),
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Search: accuracy against predicted latency, under a budget of multiply-adds."""
    import time

    from search import sources
    from search.recipe import Search
    from spaces.population import Window

    if backend != "optuna":
        raise UserError(f"the backend is optuna, not {backend!r}")
    samplers = ("nsga2", "nsga3", "tpe", "gp", "random")
    if sampler not in samplers:
        raise UserError(f"a sampler is one of {', '.join(samplers)}, not {sampler!r}")
    bound = _milliseconds(latency_budget) if latency_budget else None
    Window.parse(flops_budget)
    for path in (supernet / "supernet.json", latency):
        if not path.exists():
            raise UserError(f"no file {path}")
    name = data or json.loads((supernet / "supernet.json").read_text(encoding="utf-8")).get("data", "")
    sources.check(name)
    fresh(out, resume, "trials.jsonl")
    from search.data import load as load_data
    from search.engine.front import front
    from search.files import write_text
    from search.pipeline import search_networks
    from search.training.sandwich import read_card

    config = Search(flops_budget=flops_budget, trials=trials, sampler=sampler, population=population)  # type: ignore[arg-type]
    found = search_networks(
        supernet,
        latency,
        out / "trials.jsonl",
        load_data(name, read_card(supernet)[1].resolution_choices[-1]),
        config,
        seed=seed,
        latency_budget_ms=bound,
        deadline=None if minutes is None else time.monotonic() + 60 * minutes,
    )
    best = front(found)
    space = read_card(supernet)[1]
    for trial in best:
        write_text(out / "front" / f"{trial['arch']}.json", space.decode(trial["code"]).to_json())
    if as_json:
        print_json({"evaluated": len(found), "front": best})
        return
    table = Table("architecture", "accuracy", "predicted ms", "MACs", "parameters")
    for t in best:
        macs, params = short(t["macs"]), short(t["params"])
        table.add_row(t["arch"], f"{t['accuracy']:.2%}", f"{t['latency_ms']:.3f}", macs, params)
    stdout.print(table)
    stdout.print(f"{len(found)} networks evaluated; the front's architectures: {out / 'front'}", soft_wrap=True)


def _milliseconds(text: str) -> float:
    try:
        value = float(text.removesuffix("ms"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"a latency budget is like 8ms, above zero, not {text!r}")
    return value
