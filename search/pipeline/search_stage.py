"""The search stage: files become a problem, a backend searches it, the trials become fronts."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from search.accuracy.predictor import AccuracyCorrection, ExpectedAccuracy
from search.accuracy.short_training import ShortTraining
from search.accuracy.soft_labels import soft_accuracy
from search.accuracy.transplant_accuracy import FILE as TRANSPLANTS
from search.accuracy.transplant_accuracy import calibration_digest, num_evaluated, transplant_accuracy
from search.accuracy.unit_losses import measured_losses, unit_losses
from search.data.datasets import Data
from search.engine import budgets
from search.engine.backends import backend
from search.engine.choose import pick
from search.engine.custom import code_digests, with_objectives
from search.engine.front import front
from search.engine.ladder import Ladder, images_price
from search.engine.log import SearchHeader, TrialLog, read_search_header
from search.engine.objectives import LATENCY, Evaluate, Objective, prepare
from search.engine.problem import Problem
from search.engine.search_plan import SearchEnd, SearchPlan
from search.engine.trial import FAILED, Trial, latest
from search.errors import UserError
from search.files import JsonObject, glob, write_json, write_text
from search.identity import file_digest
from search.latency.runtimes import table_runtime
from search.latency.table import Device, LatencyTable, target_name
from search.latency.table_warnings import timed_warnings
from search.latency.time_networks import measure
from search.latency.timing.device import this_device
from search.latency.transfer import is_same_device
from search.parallel.cluster import HERE, Cluster, connect
from search.pipeline.search_problem import build_problem, check_backend, header
from search.progress import warn
from search.recipes.choices import PROMOTING
from search.recipes.schema import Search, Training, evaluation_epochs, split_evaluation
from search.records import record_json
from search.run_folder.result import SCHEMA, SearchResult
from search.secrets import storage_address
from search.terminal import say
from search.training.inherited import inherited_accuracy
from search.training.metadata import (
    PARENT_ARCH,
    check_data,
    read_fitting,
    read_metadata,
    supernet_config,
    usual_teacher,
)
from search.training.result_warnings import chance_warnings
from spaces.space import Space

LEAST_TAU = 0.7  # of a latency table on networks that it never saw


class ChosenTrial(Trial):
    """A row of `chosen.json`: a trial, and its latency where this is the table's machine."""

    measured_ms: float | None


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search: the evaluated trials, a front for each budget, warnings, and what ended it."""

    problem: Problem
    trials: list[Trial]
    warnings: list[str] = field(default_factory=list)
    ended: SearchEnd = "trials"

    @property
    def front(self) -> list[Trial]:
        """Over all budgets together."""
        return front(self.trials, self.problem.objectives)

    @property
    def inside(self) -> dict[str, list[Trial]]:
        """The trials that each budget admits."""
        return {
            name: [t for t in self.trials if not _excess(budget, t)] for name, budget in self.problem.budgets.items()
        }

    @property
    def fronts(self) -> dict[str, list[Trial]]:
        """Budget by budget, from the same evaluations."""
        return {name: front(trials, self.problem.objectives) for name, trials in self.inside.items()}

    def result(self, *, planned: int, chosen: Mapping[str, Trial], random: Mapping[str, Sequence[int]]) -> SearchResult:
        """What `result.json` says of it.

        Args:
            planned: networks that were to be evaluated.
            chosen, random: by their names, the networks to train, and the codes of random ones.
        """
        return SearchResult(
            schema=SCHEMA,
            evaluated=len(self.trials),
            planned=planned,
            ended=self.ended,
            front=[trial.arch for trial in self.front],
            fronts={budget: [trial.arch for trial in each] for budget, each in self.fronts.items()},
            chosen=dict(chosen),
            random={name: list(code) for name, code in random.items()},
            warnings=self.warnings,
        )

    def arch(self, trial: Trial | str) -> Arch:
        """The architecture of a trial, or of the evaluated network with that id.

        Raises:
            UserError: no network with that id was evaluated.
        """
        if isinstance(trial, str):
            if not (named := [known for known in self.trials if known.arch == trial]):
                raise UserError(f"no network {trial!r:.80} among those that were evaluated")
            (trial,) = named
        return self.problem.space.decode(np.array(trial.code))

    def choose(self, ways: str) -> list[Trial]:
        """Evaluated networks, such as `knee`, `even:3`, `8ms`, `60M` or an architecture's id; several with commas.

        Raises:
            UserError: a way that is none, or that no network answers.
        """
        return pick(self.trials, ways, self.problem.objectives)


def known_networks(supernet: Path, space: Space) -> tuple[Arch, ...]:
    """The networks of a space that are expected to be good before anything is evaluated: the parent of a transplanted
    supernet, and GhostNet at each width."""
    parent = supernet / PARENT_ARCH
    first = [Arch.load(parent)] if parent.exists() else []
    return tuple(dict.fromkeys(arch for arch in (*first, *space.family.values()) if arch in space))


def _excess(budget: budgets.Budget, trial: Trial) -> float:
    columns = {name: np.array([value]) for name, value in trial.metrics.items() if value is not None}
    return float(budgets.excess(budget, columns)[0])


def search_networks(
    supernet: Path,
    tables: Sequence[Path],
    log: Path,
    data: Callable[[], Data],
    config: Search,
    *,
    seed: int,
    latency_budgets: Sequence[Mapping[str, float]] | None = None,
    cluster: Cluster = HERE,
    processes: int = 1,
    gpus: float = 0.0,
    deadline: float | None = None,
    most: int | None = None,
    at_least: int = 1,
    fidelity: Path | None = None,
    own: Sequence[Objective] = (),
    evaluate: Evaluate | None = None,
    training: Training | None = None,
) -> SearchOutcome:
    """Searches with a finished supernet and latency tables; the trials go to `log`, on from what is there.

    Args:
        latency_budgets: as `build_problem` has them.
        most: networks to evaluate, where the deadline leaves time and the front still grows; None: as many as the
            configuration says.
        processes: of this machine that evaluate side by side under Optuna, without which it finds the same.
        fidelity: `fidelity.json`, by which inherited accuracy is corrected; None: it is taken as it is.
        own: objectives of the user's, next to the configuration's.
        evaluate: the user's own evaluator, in place of what the configuration says.
        training: how networks are trained that the configuration wants evaluated so.

    Raises:
        UserError, SpaceError: files that don't fit together, a budget that no network meets, another search's log, or
            another process at work in its folder; or all networks failed.
    """
    check_backend(config, cluster, gpus)
    problem = build_problem(supernet, tables, config, latency_budgets, own)
    for table in map(LatencyTable.load, tables):
        if not is_of_here(table):
            say(f"Latencies are of {target_name(table.setting, table.device)}: not of this machine.")
    if fidelity and (evaluate is not None or config.evaluate != "inherited"):
        how = config.evaluate if evaluate is None else "the user's own function does it"
        raise UserError(f"a correction is of inherited accuracy, not of networks evaluated as {how}")
    correction = AccuracyCorrection.load(fidelity, supernet) if fidelity else None
    plan = SearchPlan(
        trials=most or config.trials,
        enough=config.trials if most and most > config.trials else None,
        sampler=config.sampler,
        population=config.first,
        known=known_networks(supernet, problem.space),
        seed=seed,
        deadline=deadline,
        at_least=config.trials if config.evaluate == "units" else at_least,  # a millisecond each
        storage=storage_address(config.storage) if config.backend != "nni" else None,
        cluster=cluster.with_default(config.workers),
        processes=processes,
        gpus=gpus,
    )
    check_data(supernet, data())
    before = read_search_header(log)  # of a search that goes on by what was measured when it began
    counts = before.measured if before else None
    half = None if deadline is None else (time.monotonic() + deadline) / 2  # of the time, for unit losses
    evaluation: JsonObject = {"fidelity": file_digest(fidelity)} if fidelity else {}
    is_own, functions = evaluate is not None, code_digests(evaluate, own)
    evaluation["functions"] = begun_by = before.functions if before else functions
    if evaluate is not None:
        evaluation["evaluator"] = getattr(evaluate, "__qualname__", type(evaluate).__qualname__)
    elif config.evaluate == "inherited":
        inherited = inherited_accuracy(supernet, data())
        evaluate = ExpectedAccuracy(inherited, correction) if correction else inherited
    else:
        training = training or supernet_config(read_metadata(supernet)[0], Training)
        evaluate, known = _configured(supernet, data(), config, training, seed, half, before)
        evaluation |= known
    if config.sampler == "exact":
        problem = replace(problem, unit_losses=unit_losses(supernet, data(), half, counts and counts[0]))
        evaluation = {"measured": counts or (len(measured_losses(supernet)), 0)} | evaluation
    whole = replace(problem, evaluate=with_objectives(problem, evaluate, own))
    plan = replace(plan, num_rungs=whole.promoted_rungs)
    if config.backend == "ray":
        connect(plan.cluster)
    about = header(supernet, tables, data().fingerprint, config, problem, seed, **evaluation)
    with TrialLog(log, about.to_json(), problem) as trials:  # now that everything is read that it takes
        if config.backend != "ray":  # whose workers settle in where they are
            prepare(whole.evaluate)
        backend(config.backend)(whole, trials, plan)
        if not trials.evaluated:
            error = next((trial.error for trial in trials.trials if trial.error), None)
            why = "no time was left" if error is None else f"all failed, the first with {error.splitlines()[0][:200]!r}"
            raise UserError(f"the search evaluated no network: {why}; see {log}")
        return SearchOutcome(
            problem,
            trials.evaluated,
            [
                *function_warnings(begun_by, functions),
                *([] if is_own else parent_warnings(supernet)),
                *rank_warnings(tables),
                *failure_warnings(trials.trials),
                *([] if is_own else accuracy_warnings(trials.evaluated, data())),
            ],
            # Of Ray's proposals some never reach the log.
            ended=plan.end_reason(trials, problem.objectives) or "no new networks",
        )


def _configured(
    supernet: Path,
    data: Data,
    config: Search,
    training: Training,
    seed: int,
    deadline: float | None,
    before: SearchHeader | None,
) -> tuple[Evaluate, JsonObject]:
    """The evaluator that the configuration names, one or a ladder of several, and what a log's header says of it.

    Args:
        deadline: for what `units` goes by.
        before: the header of the search that goes on.
    """
    ways, counts = split_evaluation(config.evaluate), before.measured if before else None
    rungs = {
        way: make_evaluator(way, supernet, data, training, seed, deadline, counts, alone=len(ways) == 1) for way in ways
    }
    about: JsonObject = {"evaluate": ",".join(ways)}
    if longest := max(evaluation_epochs(way) for way in ways):
        about["training"] = training.shortened(longest).model_dump(mode="json")
    if "units" in ways:
        about |= _calibration(supernet, data, before)
    if len(ways) == 1:
        return rungs[ways[0]], about
    promotes = config.sampler in PROMOTING
    return Ladder(rungs, tuple(evaluation_price(way, supernet, data) for way in ways) if promotes else None), about


def _calibration(supernet: Path, data: Data, before: SearchHeader | None) -> JsonObject:
    """What a log's header says of that by which `units` evaluates.

    Args:
        before: the header of the search that goes on.
    """
    if before and before.transplants and not before.measured:  # of an earlier version
        return {"transplants": file_digest(supernet / TRANSPLANTS)}
    known = before.measured if before else None
    counts = known or (len(measured_losses(supernet)), num_evaluated(supernet, data))
    return {"measured": counts, "transplants": calibration_digest(supernet, data, counts)}


def make_evaluator(
    way: str,
    supernet: Path,
    data: Data,
    training: Training,
    seed: int,
    deadline: float | None = None,
    counts: tuple[int, int] | None = None,
    *,
    alone: bool = True,
) -> Evaluate:
    """The evaluator that `units`, `soft`, `inherited`, `tuned:E` or `trained:E` is: E epochs of that training.

    Args:
        deadline, counts: for what `units` goes by, as `transplant_accuracy` has them.
        alone: it may give more columns than accuracy; the rungs of a ladder all give the same.
    """
    if way == "units":
        expected = transplant_accuracy(supernet, data, deadline, counts)
        return expected if alone else expected.accuracy
    if way == "inherited":
        return inherited_accuracy(supernet, data)
    if way == "soft":
        return soft_accuracy(supernet, data)
    config = training.shortened(evaluation_epochs(way))
    if way.startswith("trained"):
        return ShortTraining(data, config, None, None, seed)
    return ShortTraining(data, config, inherited_accuracy(supernet, data), usual_teacher(None, supernet), seed)


def evaluation_price(way: str, supernet: Path, data: Data) -> float:
    """What an evaluation on a rung takes, as `images_price` has it."""
    if way == "units":
        return 1.0
    metadata = read_metadata(supernet)[0]
    given = read_fitting(supernet, metadata).images if metadata.kind == "transplant" else len(data.calibration)
    shown = len(data.search) + (0 if way.startswith("trained") else given)
    return images_price(shown, evaluation_epochs(way) * len(data.train))


def function_warnings(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A warning for each of the user's functions that was changed since the search began.

    Args:
        before, now: digests of their code by name.
    """
    return [
        f"the code of {name} is another than when this search began (or Python is): what it gave then may not compare "
        "with what it gives now"
        for name in before
        if now.get(name) != before[name]
    ]


def parent_warnings(supernet: Path) -> list[str]:
    """A warning where what networks are fitted to knows the images that they are judged by."""
    parent = read_metadata(supernet)[0].parent
    if parent is None or not parent.saw_search_images:
        return []
    return [
        "the parent was trained on the images that networks are judged by, too (`use_held_out`), so that they look "
        "better than they are: the parent in that run's supernet/ has not seen these"
    ]


def rank_warnings(tables: Sequence[Path]) -> list[str]:
    """A warning for each latency table that ranks networks poorly."""
    taus = {table: LatencyTable.load(table).validation.kendall_tau for table in tables}
    return [
        f"{table.name} ranks networks that it never saw to a Kendall tau of {tau:.2f}, below {LEAST_TAU}: other "
        "networks than these may be the best; a longer calibration on a quieter machine ranks better"
        for table, tau in taus.items()
        if tau < LEAST_TAU
    ]


def failure_warnings(trials: Sequence[Trial]) -> list[str]:
    """A warning where networks could not be evaluated."""
    ended = list(latest(trials).values())
    failed = [trial for trial in ended if trial.state == FAILED]
    if not failed:
        return []
    first = (failed[0].error or "").partition("\n")[0][:200]
    return [f"{len(failed)} of {len(ended)} networks could not be evaluated, the first for {first!r}"]


def accuracy_warnings(evaluated: Sequence[Trial], data: Data) -> list[str]:
    """A warning where the middle one of the evaluated networks is no better than chance."""
    known = sorted(trial.accuracy for trial in evaluated if trial.accuracy is not None)
    if not known:
        return []
    return chance_warnings(known[len(known) // 2], data.search.labels, "the evaluated networks' median accuracy")


def is_of_here(table: LatencyTable) -> bool:
    """Whether this is the machine that a table is of."""
    return is_same_device(table.device, Device.model_validate(this_device()))


def usual_reference_ms(table: LatencyTable) -> float:
    """The reference network's time in quiet moments, as a table of this machine has it; infinite where it is another
    machine's, or was rescaled to how fast this one was later."""
    return table.protocol.reference_ms if is_of_here(table) and table.protocol.rescaled == 1 else float("inf")


def measure_trials(trials: Sequence[Trial], space: Space, table: Path) -> dict[str, float]:
    """Milliseconds of networks by their id, timed side by side on the table's runtime; none where this is not the
    machine that the table is of."""
    if not is_of_here(latency_table := LatencyTable.load(table)):
        return {}
    run = table_runtime(latency_table.setting)
    archs = (space.decode(np.array(trial.code)) for trial in trials)
    # With any weights: they don't change the time.
    nets = [GhostNet(arch, space.num_classes, space.in_chs).eval() for arch in archs]
    shapes = {net.arch.id: (net, net.input_shape) for net in nets}
    return measure(run, shapes, batch=latency_table.setting.batch, usual_ms=usual_reference_ms(latency_table))


def write_architectures(folder: Path, outcome: SearchOutcome, trials: Iterable[Trial]) -> None:
    """Writes networks' architectures into a folder of theirs; those of an earlier, shorter search that are not among
    them go."""
    for trial in (written := {trial.arch: trial for trial in trials}).values():
        write_text(folder / f"{trial.arch}.json", outcome.arch(trial).to_json())
    for file in glob(folder, "*.json"):
        if re.fullmatch("[0-9a-f]{10}", file.stem) and file.stem not in written:
            file.unlink()


def write_chosen(outcome: SearchOutcome, ways: str, table: Path, out: Path) -> list[ChosenTrial]:
    """The networks that `--choose` asks for, each measured where this is the table's machine; also written as files.

    Raises:
        UserError: a way that is none, or that no network answers.
    """
    chosen = outcome.choose(ways)
    times = measure_trials(chosen, outcome.problem.space, table)
    write_architectures(out / "chosen", outcome, chosen)
    measured = [
        ChosenTrial.model_validate(record_json(trial) | {"measured_ms": times.get(trial.arch)}) for trial in chosen
    ]
    write_json(out / "chosen.json", [record_json(trial) for trial in measured])
    if not times:
        say("The chosen networks are not timed: the latency table is of another machine.")
    columns = {trial.arch: trial.metrics for trial in chosen}
    for each in timed_warnings(columns, times, _budgets_ms(outcome.problem)):
        warn(each)
    return measured


def _budgets_ms(problem: Problem) -> set[float]:
    """A search's latency budgets of its first table."""
    constraints = [constraint for budget in problem.budgets.values() for constraint in budget]
    bounds = [each for each in constraints if isinstance(each, budgets.LatencyBudget)]
    return {each.high_ms for each in bounds if each.latency.name == LATENCY.name}
