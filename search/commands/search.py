"""The search."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

import search as api
from search.commands.shared import (
    Json,
    Minutes,
    Out,
    Resume,
    Seed,
    check_output,
    print_json,
    spread,
)
from search.errors import UserError
from search.files import JsonObject
from search.parallel.cluster import Cluster, ClusterOptions
from search.recipes.choices import BACKENDS, OBJECTIVES, SAMPLERS, THROUGHPUT
from search.terminal import show, show_table

if TYPE_CHECKING:
    from search.engine.trial import Trial
    from search.pipeline.search_stage import SearchOutcome


@spread
def search(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    latency: Annotated[list[Path], typer.Option("--latency", help="A latency table, *.lat.json; again for more.")],
    flops_budget: Annotated[str, typer.Option("--flops-budget", help="60M, 40M..60M, or several: 40M,60M,80M.")],
    latency_budget: Annotated[
        list[str] | None, typer.Option("--latency-budget", help="8ms, on the upper bound; again for a second table.")
    ] = None,
    params_budget: Annotated[str | None, typer.Option("--params-budget", help="5M, or 2M..5M.")] = None,
    memory_budget: Annotated[
        str | None, typer.Option("--memory-budget", help="512k: bytes of activations at their peak.")
    ] = None,
    objectives: Annotated[
        str, typer.Option("--objectives", help=f"accuracy, and of {', '.join(OBJECTIVES[1:])} (@20ms).")
    ] = "accuracy,latency_ms",
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="Your own, next to these, as MODULE:NAME: a Python function of an architecture and its metrics; "
            "your module is run. Again for more.",
        ),
    ] = None,
    evaluate: Annotated[
        str,
        typer.Option(
            "--evaluate",
            help="units: expected from what a parent loses by each unit; inherited; soft: the same by the parent's "
            "probabilities in place of labels; tuned:E or trained:E: after E "
            "epochs, from inherited or fresh weights; several with commas are a ladder, on which promising networks go "
            "on; ladder: inherited,tuned:1.",
        ),
    ] = "inherited",
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Whose [retrain] part says how networks are trained (by data).")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Networks to evaluate.")] = 200,
    backend: Annotated[str, typer.Option("--backend", help=f"{', '.join(BACKENDS)}.")] = "optuna",
    sampler: Annotated[str, typer.Option("--sampler", help=f"{', '.join(SAMPLERS)}.")] = "guided",
    population: Annotated[
        int | None,
        typer.Option("--population", min=2, help="Networks before the sampler's own (10; a genetic one's 40)."),
    ] = None,
    trial_seconds: Annotated[
        float | None, typer.Option("--trial-seconds", min=0.001, help="A longer evaluation has failed.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="A journal file or database (sqlite:///...) that shows the study.")
    ] = None,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="Of each of Ray's workers, such as 0.25.")] = 0.0,
    fidelity: Annotated[
        Path | None, typer.Option("--fidelity", help="fidelity.json: expected accuracy in place of inherited.")
    ] = None,
    choose: Annotated[
        str | None,
        typer.Option(
            "--choose",
            help="From the front: knee, hypervolume:3, even:3 (a front with fewer is filled up from those behind it), "
            "8ms, 60M, an id; commas.",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the supernet's data lies now.")] = None,
    out: Out = Path("results/search"),
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
    **cluster: Unpack[ClusterOptions],
) -> None:
    """Search: accuracy against predicted latency, under a budget of multiply-adds."""
    from functools import cache

    from search.data import names as sources
    from search.engine.choose import check_ways
    from search.engine.custom import load_objective
    from search.engine.ladder import rung_totals
    from search.pipeline.search_problem import check_backend, check_search
    from search.recipes.schema import Search, load_retraining, parse_milliseconds, recipe_name
    from search.training.metadata import read_metadata
    from search.training.records import SUPERNET_FILE

    _check_backend(backend, sampler, storage)
    trains = _check_evaluation(evaluate, recipe, fidelity)
    latency_budgets = [parse_milliseconds(text) for text in latency_budget or []]
    settings: Any = {
        "flops_budget": flops_budget,
        "params_budget": params_budget,
        "memory_budget": memory_budget,
        "evaluate": evaluate,
        "trials": trials,
        "sampler": sampler,
        "population": population,
        "trial_seconds": trial_seconds,
        "backend": backend,
        "storage": storage,
    }
    config = Search.of(objectives=tuple(part.strip() for part in objectives.split(",")), **settings)
    check_backend(config, Cluster(**cluster), gpus)
    if choose:
        check_ways(choose)
    own = [load_objective(path) for path in objective or []]
    for path in (supernet / SUPERNET_FILE, *latency, *([fidelity] if fidelity else [])):
        if not path.exists():
            raise UserError(f"no file {path}")
    metadata, space = read_metadata(supernet)
    name = data or metadata.data
    sources.check_data_name(name)
    training = load_retraining(recipe_name(recipe, name))[0] if trains else None
    # What is impossible is answered here, before anything is loaded or written.
    check_search(supernet, latency, config, latency_budgets, own, fidelity, choose)
    check_output(out, resume, "trials.jsonl")
    result = api.run_search(
        supernet,
        cache(lambda: api.load_data(name, space.resolution_choices[-1])),
        out,
        latency,
        latency_budget=latency_budget or [],
        objectives=[*config.objectives, *own],
        training=training,
        gpus=gpus,
        fidelity=fidelity,
        seed=seed,
        minutes=minutes,
        **settings,
        **cluster,
    )
    columns = [each.name for each in result.problem.objectives if each.name.startswith(THROUGHPUT)]
    columns += [each.name for each in own]
    fronts = {} if as_json else result.fronts
    for budget, trials_of in fronts.items():
        _print_front(trials_of, columns, f"within {budget}" if len(fronts) > 1 else None)
    # After the front, from which another choice can be made where no network answers this one.
    chosen = api.choose_networks(result, choose, latency[0], out) if choose else None
    if as_json:
        print_json(_output(result, chosen))
        return
    if chosen is not None:
        _print_front(chosen, columns, "chosen")
    for rung in rung_totals(result.trials):
        show(f"{rung.evaluate}: {rung.networks} networks, {rung.seconds / rung.networks:.2f} s each")
    why = "" if result.ended == "trials" else f" (then: {result.ended})"
    show(f"{len(result.trials)} networks evaluated{why}; the front's architectures: {out / 'front'}")


def _check_backend(backend: str, sampler: str, storage: str | None) -> None:
    """Whether backend and sampler are some, and no password stands on a command line that Ray shows."""
    from search.secrets import STORAGE, without_secrets

    for kind, name, names in (("the backend", backend, BACKENDS), ("a sampler", sampler, SAMPLERS)):
        if name not in names:
            raise UserError(f"{kind} is one of {', '.join(names)}, not {name!r}")
    if storage and backend == "ray" and without_secrets(storage) != storage:
        raise UserError(f"Ray shows the command line to its whole cluster: {STORAGE} is the place of {storage}")


def _check_evaluation(evaluate: str, recipe: str | None, fidelity: Path | None) -> bool:
    """Whether networks are trained when they are evaluated so, which the recipe and the correction must go with."""
    from search.recipes.schema import check_evaluation, evaluation_epochs, split_evaluation

    trains = any(map(evaluation_epochs, split_evaluation(check_evaluation(evaluate))))
    if recipe and not trains:
        raise UserError("--recipe says how networks are trained: it goes with --evaluate tuned:E or trained:E")
    if evaluate != "inherited" and fidelity:
        raise UserError(f"--fidelity corrects inherited accuracy: it doesn't go with --evaluate {evaluate}")
    return trains


def _output(result: "SearchOutcome", chosen: "Sequence[Trial] | None") -> JsonObject:
    """What `--json` prints."""
    output: JsonObject = {
        "evaluated": len(result.trials),
        "ended": result.ended,
        "front": _rows(result.front),
        "warnings": result.warnings,
    }
    if len(fronts := result.fronts) > 1:
        output["fronts"] = {budget: _rows(trials) for budget, trials in fronts.items()}
    return output if chosen is None else output | {"chosen": _rows(chosen)}


def _rows(trials: "Sequence[Trial]") -> list[JsonObject]:
    from search.records import record_json

    return [record_json(trial) for trial in trials]


def _print_front(trials: "Sequence[Trial]", own: list[str], title: str | None) -> None:
    from spaces.quantities import format_count

    measured = any(getattr(t, "measured_ms", None) for t in trials)
    interval = any(t.accuracy_low is not None for t in trials)
    accuracy = "expected accuracy" if interval or any(t.inherited is not None for t in trials) else "accuracy"
    columns = ["architecture", accuracy, *(["95 % interval"] if interval else []), "predicted ms"]
    columns += [*(["measured ms"] if measured else []), "MACs", "params"]
    columns += ["images/s" if name.startswith(THROUGHPUT) else name for name in own]
    rows = []
    for t in trials:
        times = [t.latency_ms, *([getattr(t, "measured_ms", None)] if measured else [])]
        cells = ["" if ms is None else f"{ms:.3f}" for ms in times]
        ends = [f"{t['accuracy_low']:.1%} to {t['accuracy_high']:.1%}"] if interval else []
        rows.append([t.arch, f"{t['accuracy']:.2%}", *ends, *cells, format_count(t.macs), format_count(t.params)])
        rows[-1] += [f"{t[name]:,.0f}" if abs(t[name]) >= 1000 else f"{t[name]:.4g}" for name in own]
    show_table(columns, rows, title)
