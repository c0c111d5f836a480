"""What a run came to, read from its folder; as far as it goes."""

import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ghostnet.arch import Arch
from ghostnet.files import ARCH_FILE
from search.engine.front import front
from search.engine.log import LogHeader, read_header, read_search_header, read_trials
from search.engine.objectives import USUAL
from search.engine.search_plan import SearchEnd
from search.engine.trial import Trial, evaluated
from search.errors import UserError
from search.files import glob
from search.latency.peak_memory import predict_peak_memory
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from search.latency.table_warnings import table_warnings, timed_warnings
from search.recipes.schema import Recipe, split_evaluation
from search.records import R, read_record
from search.run_folder.estimate import Estimate, read_estimate
from search.run_folder.result import EnergyFigures, Exported, NetworkEnergy, SearchResult, read_figures, read_shares
from search.run_folder.run import (
    ENERGY,
    FIDELITY,
    FIRST_TRIALS,
    FRONT,
    INHERITED,
    NETWORKS,
    OF_SEEDS,
    OWN_TEACHER,
    PRODUCTS,
    RESULT,
    RUN,
    TABLE,
    TIMES,
    TRIALS,
    recorded_recipe,
    trained_networks,
    trained_parent,
)
from search.standard_error import standard_error
from search.training.records import PARENT, TRAINED_FILE, SupernetMetadata, TrainingEnd, read_trained
from spaces.custom import parse_space
from spaces.space import Space

NetworkKind = Literal["chosen", "parent", "family", "random"]
KINDS: tuple[NetworkKind, ...] = ("chosen", "parent", "family", "random")
COLUMNS = ("accuracy", "latency_ms", "latency_low_ms", "latency_high_ms")  # of every run's log
EARLY_ENDS: dict[TrainingEnd, str] = {"time box": "Time-boxed"}
SEARCH_ENDS: dict[SearchEnd, str] = {
    "time box": "Time-boxed",
    "no new networks": "The sampler had no new networks",
    "no growth": "Some evaluations failed",
    "trials": "Some evaluations failed",
}


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network that was trained fully: a chosen one, the parent that networks were fitted to, one of the family at
    some width, or a random one.

    Args:
        folder: with its architecture and weights.
        accuracies: on the test split, a training each; one seed's, or several.
        seeds: of these trainings.
        peak_memory: bytes that it is predicted to take on the table's device, where the table tells.
        expected: of a chosen one, by a search that corrects what networks inherit.
        repeated_epochs: those that give its steps again.
    """

    name: str
    kind: NetworkKind
    folder: Path
    arch: Arch
    macs: int
    params: int
    accuracies: tuple[float, ...]
    seeds: tuple[int, ...]
    test_images: int
    epochs: float
    planned_epochs: float
    repeated_epochs: float
    ended: TrainingEnd
    stretched: bool
    seconds: float
    measured_ms: float | None
    predicted_ms: float | None
    peak_memory: int | None
    energy: NetworkEnergy | None
    inherited: float | None
    expected: float | None = None

    @property
    def chosen(self) -> bool:
        return self.kind == "chosen"

    @property
    def accuracy(self) -> float:
        """The mean over seeds."""
        return statistics.mean(self.accuracies)

    @property
    def error(self) -> float:
        """One standard error: of the test images, and of the mean over seeds where there are several."""
        return standard_error(self.accuracies, self.test_images)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that a report shows. `notes` says what a time box cut or what is missing.

    Args:
        recipe: of a run; None for a folder whose parts were made one by one.
        estimate: what the run was expected to take; None where nobody asked.
        header: the first line of the search's log.
        searched_front: ids of the networks on the front that the search itself left, once it ended.
        trials: every proposal, evaluated or not.
        chosen: rows of evaluated networks by the names of those that were chosen; without a run's result, of those that
            were trained.
    """

    folder: Path
    recipe: Recipe | None
    estimate: Estimate | None
    header: LogHeader
    supernet: SupernetMetadata | None
    table: LatencyTable | None
    space: Space
    predict: Predictor | None
    trials: list[Trial]
    result: SearchResult | None
    searched_front: frozenset[str]
    chosen: dict[str, Trial]
    networks: list[TrainedNetwork]
    energy: EnergyFigures | None
    notes: list[str]

    @property
    def chosen_archs(self) -> dict[str, Arch]:
        """The chosen networks by name, those that are trained; where none is yet, those that the search chose."""
        trained = {n.name: n.arch for n in self.networks if n.chosen}
        chosen = self.result.chosen if self.result else {}
        return trained or {label: self.arch(trial) for label, trial in chosen.items()}

    @property
    def name(self) -> str:
        return self.recipe.name if self.recipe else self.folder.resolve().name

    @property
    def data(self) -> str:
        """The data set's name."""
        return self.recipe.data if self.recipe else self.supernet.data if self.supernet else ""

    @property
    def seed(self) -> int | None:
        """The run's, or the search's."""
        return self.recipe.seed if self.recipe else self.header.seed

    @property
    def budget(self) -> str:
        """What networks may cost, in the user's words."""
        return self.recipe.search.flops_budget if self.recipe else ", ".join(self.header.budgets)

    @property
    def chance(self) -> float:
        """The share of images that a guess gets right: that of the most frequent class, as far as it is known."""
        known = self.supernet.chance if self.supernet else None
        return known or 1 / max(1, self.space.num_classes)

    @cached_property
    def complete(self) -> list[Trial]:
        """The networks that were evaluated."""
        return evaluated(self.trials)

    @property
    def usual_front(self) -> bool:
        """Whether `front` is by accuracy and latency; that of a search by anything else is its own, once it ended."""
        return not self.searched_front or {*self.header.objectives} == {objective.name for objective in USUAL}

    @cached_property
    def front(self) -> list[Trial]:
        """The networks that no other beats in what the search went by, fastest first."""
        if self.usual_front:
            return front(self.complete)
        best = (trial for trial in self.complete if trial.arch in self.searched_front)
        return sorted(best, key=lambda trial: trial.latency_ms or trial["macs"])

    @property
    def left_out(self) -> dict[str, str]:
        """The chosen networks that could not be exported, and why."""
        return _left_out(self.folder)

    @property
    def corrected(self) -> bool:
        """Whether the search went by accuracy expected after full training, not by what networks inherit."""
        return any(t.inherited is not None for t in self.complete[:1])

    @property
    def accuracy_meaning(self) -> str:
        """Which accuracy the search went by."""
        if self.corrected:
            return "expected after full training"
        if self.header.evaluator is not None:
            return "as the user's own function gives it"
        *cheaper, last = map(_evaluation_meaning, split_evaluation(self.header.evaluate))
        return f"{last}, of those that came so far, else {' or '.join(reversed(cheaper))}" if cheaper else last

    def arch(self, trial: Trial) -> Arch:
        """The architecture of a trial."""
        return self.space.decode(np.array(trial.code))

    @cached_property
    def fidelity_seconds(self) -> float:
        """Time at work before the search on networks to correct the supernet by: a first search, and trainings."""
        first = sum(t.seconds for t in _trials(self.folder / FIRST_TRIALS, self.space))
        trained = trained_networks((self.folder / FIDELITY).parent)
        return first + sum(read_trained(file).training.seconds for file in trained)

    @property
    def seconds(self) -> dict[str, float]:
        """Time at work by stage, of the stages that are finished: that of all processes together."""
        seconds = {}
        if self.supernet:
            seconds[self._first_stage] = self.supernet.training.seconds
        if self.table:
            seconds["calibration"] = self.table.protocol.seconds
        if fidelity := self.fidelity_seconds:
            seconds["fidelity"] = fidelity
        if self.trials:
            stage = self.result.seconds if self.result else 0.0
            seconds["search"] = max(stage, sum(t.seconds for t in self.trials))
        if self.networks:
            trained = [n for n in self.networks if n.folder.parent == self.folder / NETWORKS]  # again, the parent too
            different = {(n.kind == "parent", n.arch.id, n.seeds): n.seconds for n in trained}  # one may stand for two
            seconds["full training"] = sum(different.values())
        return seconds

    @property
    def _first_stage(self) -> str:
        return "parent" if self.supernet and self.supernet.kind == "transplant" else "supernet"

    @property
    def expected_seconds(self) -> dict[str, float]:
        """What `seconds` were expected to be, by the names that it has, where an estimate was asked for."""
        names = {"train": self._first_stage, "calibrate": "calibration", "retrain": "full training"}
        stages = self.estimate.stages if self.estimate else ()
        return {names.get(each.stage, each.stage): 60 * each.minutes_at_work for each in stages}


def summarise(folder: Path) -> Summary:
    """Reads a run's folder.

    Raises:
        UserError: it holds no run, or one that this version can't read.
    """
    supernet = _read(folder / PRODUCTS["train"], SupernetMetadata)
    if not (folder / RUN).exists() and not supernet:
        raise UserError(f"{folder} holds no run: neither {RUN} nor {PRODUCTS['train']}")
    recipe = recorded_recipe(folder) if (folder / RUN).exists() else None
    space = recipe.search_space if recipe else parse_space(supernet.space)  # type: ignore[union-attr]
    if supernet:
        space = replace(space, num_classes=supernet.num_classes, in_chs=supernet.in_chs)
    table_file = folder / TABLE
    table = LatencyTable.load(table_file) if table_file.exists() else None
    predict = Predictor(table, space) if table else None
    result = _read(folder / RESULT, SearchResult)
    files = ((folder / TIMES, read_figures), (folder / INHERITED, read_shares))
    times, inherited = (read(file) if file.exists() else {} for file, read in files)
    trials = _trials(folder / TRIALS, space)
    num_evaluated = len(evaluated(trials))
    chosen = result.chosen if result else {} if recipe else _of_trials(folder, trials)
    header = read_header(folder / TRIALS)
    energy = _read(folder / ENERGY, EnergyFigures)
    networks = _networks(
        folder, chosen, header, result.random if result else {}, times, inherited, predict, table, energy
    )
    return Summary(
        folder=folder,
        recipe=recipe,
        estimate=read_estimate(folder),
        header=header,
        supernet=supernet,
        table=table,
        space=space,
        predict=predict,
        trials=trials,
        result=result,
        searched_front=_searched_front(folder, result),
        chosen=chosen,
        networks=networks,
        energy=energy,
        notes=[
            *_notes(recipe, supernet, table, result, networks, num_evaluated),
            *_not_new(space, result, networks),
            *(_left_out_of_time(folder, recipe, networks) if recipe and result else []),
            *_warnings(folder, supernet, result),
            *timed_warnings(
                {name: trial.metrics for name, trial in chosen.items()},
                times,
                recipe.search.milliseconds.values() if recipe else (),
            ),
            *(f"{label} is not exported: {reason}" for label, reason in _left_out(folder).items()),
        ],
    )


def _searched_front(folder: Path, result: SearchResult | None) -> frozenset[str]:
    """Of a run its result has it; of a search alone the architectures beside its log."""
    return frozenset(result.front if result else (file.stem for file in (folder / FRONT).glob("*.json")))


def _not_new(space: Space, result: SearchResult | None, networks: list[TrainedNetwork]) -> list[str]:
    """Chosen networks that were known before the search, of those on a front: others fill up a short one, where
    something new may be better."""
    known = {arch.id: f"GhostNet {width:g}x" for width, arch in space.family.items()}
    known = {n.arch.id: "the parent's own architecture" for n in networks if n.kind == "parent"} | known
    chosen = result.chosen if result else {}
    on_fronts = {arch for front in (result.front, *result.fronts.values()) for arch in front} if result else set()
    best = {label: trial.arch for label, trial in chosen.items() if trial.arch in on_fronts}
    names = [f"{label} is {known[arch]}" for label, arch in best.items() if arch in known]
    return [f"{', '.join(names)}: among what was evaluated, nothing new was better there."] if names else []


def _evaluation_meaning(how: str) -> str:
    """What an evaluation of a search measures."""
    way, _, epochs = how.partition(":")
    return {
        "units": "with the supernet's weights, expected from what the parent loses by each unit",
        "soft": "with the supernet's weights, expected by the parent's probabilities",
        "tuned": f"after {epochs} epochs from the supernet's weights",
        "trained": f"after {epochs} epochs",
    }.get(way, "with the supernet's weights")


def _left_out(folder: Path) -> dict[str, str]:
    """The chosen networks of a run that could not be exported, and why."""
    exported = _read(folder / PRODUCTS["export"], Exported)
    return exported.left_out if exported else {}


def _warnings(folder: Path, supernet: SupernetMetadata | None, result: SearchResult | None) -> list[str]:
    """What its own files warn of."""
    records: dict[str, SupernetMetadata | SearchResult] = {}
    records |= {"Supernet": supernet} if supernet else {}
    records |= {"Search": result} if result else {}
    lines = [f"{name}: {doubt}." for name, record in records.items() for doubt in record.warnings]
    doubted: dict[str, list[str]] = {}  # networks by what is doubted of them
    for file in sorted(found for name in (TRAINED_FILE, OF_SEEDS) for found in glob(folder / NETWORKS, f"*/{name}")):
        trained, (name, *of_seed) = read_trained(file), file.parent.relative_to(folder / NETWORKS).parts
        several = bool(of_seed) or bool(glob(file.parent, OF_SEEDS))
        for doubt in trained.warnings:
            doubted.setdefault(doubt, []).append(f"{name} (seed {trained.seed})" if several else name)
    for doubt, names in doubted.items():
        lines.append(f"Network{'s' * (len(names) > 1)} {', '.join(names)}: {doubt}.")
    return lines


def _read(path: Path, kind: type[R]) -> R | None:
    return read_record(path, kind) if path.exists() else None


def _trials(log: Path, space: Space) -> list[Trial]:
    """A log's trials, with the columns that every run's has.

    Raises:
        UserError: it is no log, or a search's that went without a latency table.
    """
    if (header := read_search_header(log)) and not header.latency_tables:
        raise UserError(f"{log} is of a search without a latency table, and a report is of accuracy and latency")
    return read_trials(log, space, COLUMNS) if log.exists() else []


def _of_trials(folder: Path, trials: list[Trial]) -> dict[str, Trial]:
    """Trained networks that a search evaluated, by the names of their folders: their rows of its log."""
    known = {trial.arch: trial for trial in evaluated(trials)}
    trained = {file.parent.name: read_trained(file).arch for file in trained_networks(folder)}
    return {name: known[arch] for name, arch in trained.items() if arch in known}


def _networks(
    folder: Path,
    chosen: dict[str, Trial],
    header: LogHeader,
    random_networks: dict[str, list[int]],
    times: dict[str, float],
    inherited: dict[str, float],
    predict: Predictor | None,
    table: LatencyTable | None,
    energy: EnergyFigures | None,
) -> list[TrainedNetwork]:
    networks = []
    parent, trained = trained_parent(folder) / TRAINED_FILE, trained_networks(folder)
    kinds: dict[str, NetworkKind] = {
        **dict.fromkeys(chosen, "chosen"),
        **dict.fromkeys(random_networks, "random"),
        PARENT: "parent",
    }
    for metadata_file in [parent, *trained] if parent.exists() else trained:
        name, metadata = metadata_file.parent.name, read_trained(metadata_file)
        records = [metadata, *map(read_trained, glob(metadata_file.parent, OF_SEEDS))]
        before = map(read_trained, glob(metadata_file.parent, f"{OWN_TEACHER}/{TRAINED_FILE}"))
        shortest = min((each.training for each in records), key=lambda each: (each.ended == "schedule", each.epochs))
        trial, arch = chosen.get(name), Arch.load(metadata_file.parent / ARCH_FILE)
        known = trial.inherited_accuracy(header.evaluation) if trial else None
        expected = trial and (trial.inherited is not None or trial.accuracy_low is not None)
        networks.append(
            TrainedNetwork(
                name=name,
                kind=kinds.get(name, "family"),
                folder=metadata_file.parent,
                arch=arch,
                macs=metadata.macs,
                params=metadata.params,
                accuracies=tuple(each.test_accuracy for each in records),
                seeds=tuple(each.seed for each in records),
                test_images=metadata.test_images,
                epochs=shortest.epochs,
                planned_epochs=shortest.planned_epochs,
                repeated_epochs=shortest.repeated_epochs,
                ended=shortest.ended,
                stretched=shortest.stretched,
                seconds=sum(each.training.seconds for each in (*records, *before)),
                measured_ms=times.get(name),
                predicted_ms=_predicted(predict, arch),
                peak_memory=_peak_memory(predict, table, arch),
                energy=energy.networks.get(name) if energy else None,
                inherited=inherited.get(name) if known is None else known,
                expected=trial.accuracy if trial and expected else None,
            )
        )
    return sorted(networks, key=lambda n: (KINDS.index(n.kind), n.name))


def _predicted(predict: Predictor | None, arch: Arch) -> float | None:
    """None without a table, and for a given parent that is not of the space."""
    if predict is None or arch not in predict.space:
        return None
    return float(predict(predict.space.encode(arch)).latency_ms[0])


def _peak_memory(predict: Predictor | None, table: LatencyTable | None, arch: Arch) -> int | None:
    """As `_predicted`, and None of a table that doesn't tell."""
    if predict is None or table is None or arch not in predict.space:
        return None
    taken = predict_peak_memory(table, arch)
    return None if taken is None else round(taken[0])


def _notes(
    recipe: Recipe | None,
    supernet: SupernetMetadata | None,
    table: LatencyTable | None,
    result: SearchResult | None,
    networks: list[TrainedNetwork],
    evaluated: int,
) -> list[str]:
    notes = []
    networks = [n for n in networks if n.kind != "parent"]
    for name, product in (("supernet", supernet), ("latency table", table)):
        if product is None:
            notes.append(f"The {name} is not finished.")
    if result is None and recipe:
        notes.append(f"The search is not finished: {evaluated} of {recipe.search.trials} networks are evaluated.")
    elif result is None and not evaluated:
        notes.append("No network is evaluated.")
    if not networks:
        notes.append("No network is fully trained.")
    if supernet and (training := supernet.training).ended != "schedule":
        epochs = f"{training.epochs:.3g} of {training.planned_epochs:.3g} epochs"
        notes.append(f"{EARLY_ENDS[training.ended]}: the supernet had {epochs}.")
    if result and result.evaluated < result.planned:
        why = SEARCH_ENDS[result.ended]
        notes.append(f"{why}: {result.evaluated} of {result.planned} networks were evaluated.")
    for end, text in EARLY_ENDS.items():
        if short := [n for n in networks if n.ended == end]:
            most = max(n.epochs for n in short)
            names = "full training" if len(short) == len(networks) else ", ".join(n.name for n in short)
            notes.append(f"{text}: {names} had at most {most:.3g} of {short[0].planned_epochs:.3g} epochs.")
    if more := _beyond_the_recipe(supernet, result, networks):
        notes.append(f"Its time box held more than the recipe: {', '.join(more)}.")
    expected = len(recipe.retrain.baseline_widths) if recipe else 0
    expected += len(result.chosen) + len(result.random) if result else 0
    if result and 0 < len(networks) < expected:
        notes.append(f"{len(networks)} of {expected} networks are fully trained.")
    return notes + (table_warnings(table) if table else [])


def _left_out_of_time(folder: Path, recipe: Recipe, networks: list[TrainedNetwork]) -> list[str]:
    """What the recipe has, and a finished search or training without: a time box leaves it out."""
    notes, seeds = [], [len(n.seeds) for n in networks if n.kind != "parent"]
    if (count := recipe.fidelity.networks) and not (folder / PRODUCTS["fidelity"]).exists():
        notes.append(f"Time-boxed: the fidelity study of {count} networks was left out.")
    if (folder / PRODUCTS["retrain"]).exists() and seeds and max(seeds) < recipe.retrain.seeds:
        notes.append(f"Time-boxed: networks were trained by {max(seeds)} of {recipe.retrain.seeds} seeds.")
    return notes


def _beyond_the_recipe(
    supernet: SupernetMetadata | None, result: SearchResult | None, networks: list[TrainedNetwork]
) -> list[str]:
    """What a time box stretched."""
    more = []
    if supernet and (training := supernet.training).stretched:
        more.append(f"{training.epochs:g} epochs of the supernet, not {training.planned_epochs:g}")
    if result and result.evaluated > result.planned:
        more.append(f"{result.evaluated} networks evaluated, not {result.planned}")
    if stretched := [n for n in networks if n.stretched]:
        ends = dict.fromkeys(f"{f(n.epochs for n in networks):.3g}" for f in (min, max))
        more.append(f"{' to '.join(ends)} epochs of full training, not {stretched[0].planned_epochs:.3g}")
    return more
