"""The search."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from search.commands.shared import (
    Address,
    Json,
    Minutes,
    Out,
    Resume,
    Seed,
    Workers,
    fresh,
    print_json,
)
from search.errors import UserError
from search.secrets import storage_address
from search.terminal import show, show_table
from spaces.population import short


def search(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    latency: Annotated[list[Path], typer.Option("--latency", help="A latency table, *.lat.json; again for more.")],
    flops_budget: Annotated[str, typer.Option("--flops-budget", help="60M, 40M..60M, or several: 40M,60M,80M.")],
    latency_budget: Annotated[
        list[str] | None, typer.Option("--latency-budget", help="8ms, on the upper bound; again for a second table.")
    ] = None,
    params_budget: Annotated[str | None, typer.Option("--params-budget", help="5M, or 2M..5M.")] = None,
    objectives: Annotated[
        str, typer.Option("--objectives", help="accuracy and of latency_ms, macs, params.")
    ] = "accuracy,latency_ms",
    trials: Annotated[int, typer.Option("--trials", min=1, help="Networks to evaluate.")] = 200,
    backend: Annotated[str, typer.Option("--backend", help="optuna, ray or nni.")] = "optuna",
    sampler: Annotated[
        str, typer.Option("--sampler", help="guided, nsga2, nsga3, tpe, gp, random or evolution.")
    ] = "guided",
    population: Annotated[int, typer.Option("--population", min=2)] = 40,
    trial_seconds: Annotated[
        float | None, typer.Option("--trial-seconds", min=0.001, help="A longer evaluation has failed.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="A journal file or database (sqlite:///...) that shows the study.")
    ] = None,
    workers: Workers = 1,
    address: Address = None,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="Of each of Ray's workers, such as 0.25.")] = 0.0,
    fidelity: Annotated[
        Path | None, typer.Option("--fidelity", help="fidelity.json: expected accuracy in place of inherited.")
    ] = None,
    choose: Annotated[
        str | None, typer.Option("--choose", help="Take from the front: knee, even:3, 8ms, 60M or an id; commas.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the supernet's data lies now.")] = None,
    out: Out = Path("results/search"),
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Search: accuracy against predicted latency, under a budget of multiply-adds."""
    import time

    from search.data import names as sources
    from search.engine.budgets import parse_milliseconds, parse_windows
    from search.engine.choose import check_ways
    from search.recipes.schema import Backend, Sampler, Search, check_sampler

    for kind, name, names in (("the backend", backend, get_args(Backend)), ("a sampler", sampler, get_args(Sampler))):
        if name not in names:
            raise UserError(f"{kind} is one of {', '.join(names)}, not {name!r}")
    check_sampler(backend, sampler)
    if (workers > 1 or address or gpus) and backend != "ray":
        raise UserError("--workers, --address and --gpus go with --backend ray")
    if storage and backend == "nni":
        raise UserError("--storage is Optuna's: it goes with --backend optuna or ray")
    for text in latency_budget or []:
        parse_milliseconds(text)
    parse_windows(flops_budget)
    parse_windows(params_budget, "params")
    if choose:
        check_ways(choose)
    for path in (supernet / "supernet.json", *latency, *([fidelity] if fidelity else [])):
        if not path.exists():
            raise UserError(f"no file {path}")
    from search.training.metadata import read_card

    name = data or read_card(supernet)[0]["data"]
    sources.check(name)
    config = Search(
        flops_budget=flops_budget,
        params_budget=params_budget,
        objectives=tuple(part.strip() for part in objectives.split(",")),
        trials=trials,
        sampler=sampler,  # type: ignore[arg-type]
        population=population,
        trial_seconds=trial_seconds,
        backend=backend,  # type: ignore[arg-type]
        workers=workers,
        storage=storage,
    )
    from search.accuracy.predictor import Correction
    from search.pipeline.search_stage import problem_of, search_networks

    space = problem_of(supernet, latency, config, latency_budget or []).space  # an impossible budget is answered here
    if fidelity:
        Correction.load(fidelity, supernet)  # so is one that doesn't fit
    fresh(out, resume, "trials.jsonl")
    if backend != "nni" and (address_of_storage := storage_address(storage)):
        from search.engine.study import open_storage

        open_storage(address_of_storage)  # one that is none is told before anything is written
    from functools import cache

    from search.data.datasets import load as load_data
    from search.files import write_text
    from search.folders import locked
    from search.progress import warn

    with locked(out):
        found = search_networks(
            supernet,
            latency,
            out / "trials.jsonl",
            cache(lambda: load_data(name, space.resolution_choices[-1])),
            config,
            seed=seed,
            latency_budgets=latency_budget or [],
            address=address,
            gpus=gpus,
            deadline=None if minutes is None else time.monotonic() + 60 * minutes,
            fidelity=fidelity,
        )
        for each in found.warnings:
            warn(each)
        best, fronts = found.front, found.fronts
        for trial in {t["arch"]: t for each in (best, *fronts.values()) for t in each}.values():
            write_text(out / "front" / f"{trial['arch']}.json", space.decode(trial["code"]).to_json())
        facts: dict[str, Any] = {"evaluated": len(found.trials), "front": best, "warnings": found.warnings}
        if len(fronts) > 1:
            facts["fronts"] = fronts
        if choose:
            facts["chosen"] = _chosen(found, choose, supernet, latency[0], out)
    if as_json:
        print_json(facts)
        return
    for budget, trials_of in fronts.items():
        _print_front(trials_of, f"within {budget}" if len(fronts) > 1 else None)
    if choose:
        _print_front(facts["chosen"], "chosen")
    show(f"{len(found.trials)} networks evaluated; the front's architectures: {out / 'front'}")


def _chosen(found: Any, ways: str, supernet: Path, table: Path, out: Path) -> list[dict[str, Any]]:
    """The chosen, each measured where this is the table's machine; also written as files."""
    from search.engine.choose import pick
    from search.files import write_json, write_text
    from search.pipeline.search_stage import measured

    chosen = pick(found.trials, ways, found.problem.objectives)
    times = measured(chosen, found.problem.space, table)
    rows = [{**trial, "measured_ms": times.get(trial["arch"])} for trial in chosen]
    for trial in rows:
        arch = found.problem.space.decode(trial["code"])
        write_text(out / "chosen" / f"{trial['arch']}.json", arch.to_json())
    write_json(out / "chosen.json", rows)
    return rows


def _print_front(trials: list[dict[str, Any]], title: str | None) -> None:
    measured = any(t.get("measured_ms") for t in trials)
    accuracy = "expected accuracy" if any("inherited" in t for t in trials) else "accuracy"
    columns = ["architecture", accuracy, "predicted ms", *(["measured ms"] if measured else []), "MACs", "parameters"]
    rows = []
    for t in trials:
        times = [t["latency_ms"], *([t["measured_ms"]] if measured else [])]
        cells = ["" if ms is None else f"{ms:.3f}" for ms in times]
        rows.append([t["arch"], f"{t['accuracy']:.2%}", *cells, short(t["macs"]), short(t["params"])])
    show_table(columns, rows, title)
