"""The search."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from ghostnet.arch import Arch
from search.api import Place
from search.data.datasets import Data
from search.deadlines import deadline_in
from search.engine.custom import Metrics, objective_of
from search.engine.objectives import Evaluate, Objective
from search.errors import UserError, check_minutes
from search.folders import locked
from search.parallel.cluster import Cluster, ClusterOptions, show_options
from search.pipeline.search_stage import ChosenTrial, SearchOutcome, search_networks, write_architectures, write_chosen
from search.progress import warn
from search.recipes.choices import Backend, Sampler
from search.recipes.schema import Search, Training, check_evaluation, parse_milliseconds
from search.seeds import check_seed

__all__ = ["ChosenTrial", "Objective", "SearchOutcome", "choose_networks", "run_search"]

OwnObjective = Objective | Callable[[Arch, Metrics], float]


@show_options
def run_search(
    supernet: Place,
    data: Data | Callable[[], Data],
    out: Place,
    latency: Place | Sequence[Place] = (),
    *,
    flops_budget: str,
    latency_budget: str | Sequence[str] = (),
    params_budget: str | None = None,
    memory_budget: str | None = None,
    objectives: Sequence[str | OwnObjective] = ("accuracy", "latency_ms"),
    evaluate: str | Evaluate = "inherited",
    training: Training | None = None,
    trials: int = 200,
    sampler: Sampler = "guided",
    population: int | None = None,
    trial_seconds: float | None = None,
    backend: Backend = "optuna",
    gpus: float = 0.0,
    storage: str | None = None,
    fidelity: Place | None = None,
    seed: int = 0,
    minutes: float | None = None,
    **cluster: Unpack[ClusterOptions],
) -> SearchOutcome:
    """Searches a supernet's space for the networks that no other one beats in every objective, under a budget.

    The trials go to `out/trials.jsonl`, the front's architectures to `out/front/`. The first ones are of a transplanted
    supernet's parent and of GhostNet at each width, as far as a budget admits them.

    Args:
        data: what the supernet was trained on, or a function that loads it.
        latency: a latency table's file, or several targets'; the first one's column is `latency_ms`. Without any, the
            usual objectives are accuracy and multiply-adds.
        flops_budget: `60M`, a window `40M..60M`, or several with commas: a front for each.
        latency_budget: `8ms`, on the interval's upper end; for several tables one each.
        params_budget: like `flops_budget`.
        memory_budget: like `flops_budget`, of bytes of activations at their peak, by the first table's batch and type.
        objectives: `accuracy` and of `latency_ms`, `macs`, `params`, `memory`, `weights`, `images_per_second` (at the
            best batch of those that the tables are of; `images_per_second@20ms`: a whole batch within that time). Next
            to them your own: a function (architecture, metrics known so far) -> number to make small, or large where it
            has the attribute `maximise = True`.
        evaluate: accuracy on the search split: `units`, expected from what a transplanted supernet's parent loses by
            each unit; `inherited`, with the supernet's weights; `soft`, the same by the probabilities of the parent in
            place of labels, which ranks better by few images; `tuned:E`, after E epochs from these; `trained:E`,
            after E epochs from fresh weights. Several with commas, such as
            `inherited,tuned:1,tuned:3` are a ladder: of the networks of a rung the promising ones go on to the next;
            `ladder` is `inherited,tuned:1`. Or your own: an architecture -> accuracy in [0, 1], or several columns by
            name, `accuracy` among them.
        training: how networks are tuned or trained; None: as the supernet's own weights were.
        trials: networks to evaluate.
        population: how many come before the sampler's own; None: 10, and 40 of a genetic sampler, which is a
            generation.
        gpus: of each of Ray's workers.
        fidelity: `fidelity.json`, by which inherited accuracy is corrected.
        minutes: a time box.
        workers, address: processes of Ray's or NNI's that evaluate side by side, and their Ray cluster; None: this
            machine.

    Raises:
        UserError, SpaceError: files or settings that don't fit together, a budget that no network meets, an objective
            that is none, another search's log, another process at work in the folder, or all networks failed.
    """
    seed = check_seed(seed)
    where, names = Cluster(**cluster), [each for each in objectives if isinstance(each, str)]
    own = [objective_of(each) for each in objectives if not isinstance(each, str)]
    config = Search.of(
        flops_budget=flops_budget,
        params_budget=params_budget,
        memory_budget=memory_budget,
        objectives=tuple(names),
        evaluate=check_evaluation(evaluate) if isinstance(evaluate, str) else "inherited",
        trials=trials,
        sampler=sampler,
        population=population,
        trial_seconds=trial_seconds,
        backend=backend,
        storage=storage,
    )
    check_minutes(minutes)
    bounds = [latency_budget] if isinstance(latency_budget, str) else latency_budget
    out, tables = Path(out), [Path(latency)] if isinstance(latency, str | Path) else [Path(each) for each in latency]
    with locked(out):
        result = search_networks(
            Path(supernet),
            tables,
            out / "trials.jsonl",
            partial(_load, data),
            config,
            seed=seed,
            latency_budgets=[parse_milliseconds(each or None) for each in bounds],
            cluster=where,
            gpus=gpus,
            deadline=deadline_in(None if minutes is None else 60 * minutes),
            fidelity=None if fidelity is None else Path(fidelity),
            own=own,
            evaluate=None if isinstance(evaluate, str) else evaluate,
            training=training,
        )
        for each in result.warnings:
            warn(each)
        on_fronts = (trial for front in (result.front, *result.fronts.values()) for trial in front)
        write_architectures(out / "front", result, on_fronts)
    return result


def _load(data: Data | Callable[[], Data]) -> Data:
    if isinstance(data, Data):
        return data
    loaded = data()
    if not isinstance(loaded, Data):
        raise UserError(f"`data` of run_search must be Data, or a function that gives it, but it gave {loaded!r:.80}")
    return loaded


def choose_networks(found: SearchOutcome, ways: str, latency: Place, out: Place) -> list[ChosenTrial]:
    """The networks that are chosen of a search, each timed where this is the table's machine; also written to `out`:
    `chosen.json`, and architectures in `chosen/`.

    Args:
        ways: such as `knee`, `even:3`, `8ms`, `60M` or an architecture's id; several with commas.

    Raises:
        UserError: a way that is none, or that no network answers.
    """
    return write_chosen(found, ways, Path(latency), Path(out))
