"""Digits by either kind of supernet: what a whole run finds for as much CPU time, by seeds.

From the repository's root; it goes on where it was stopped, and writes `kinds.json` and `kinds.md`:

    python results/weights/kinds.py --work WORK

On the other data sets the kinds are compared by `ways.py` (CIFAR-10) and `../pretrained` (pictures of twenty classes).
"""

import argparse
import math
import shutil
import signal
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from ways import CpuClock
from ways_summary import scaled_hypervolume

import search as ghostnas
from search.files import write_text
from search.pipeline import stages
from search.pipeline.run import open_run
from search.pipeline.settings import RunSettings
from search.recipes.schema import Recipe, SupernetTraining, load_recipe
from search.records import Count, Milliseconds, Record, Seconds, Share, read_record, write_record
from search.report.summary import summarise
from search.run_folder.run import TABLE

HERE = Path(__file__).parent
RESULT, PAGE = HERE / "kinds.json", HERE / "kinds.md"
LEAST_ACCURACY, WORST_MS = 0.9, 0.15  # the corner of hypervolumes
STAGES = (stages.train, stages.search, stages.retrain)
Kind = Literal["transplant", "elastic"]
KINDS: tuple[Kind, ...] = ("transplant", "elastic")


class Network(Record):
    """A network that a run found, or a GhostNet of the family, as trained by that run."""

    name: str
    found: bool
    macs: Count
    predicted_ms: Milliseconds
    accuracy: Share


class Outcome(Record):
    """A run of one kind by one seed: CPU seconds by stage, and its networks."""

    kind: Kind
    seed: int
    cpu_seconds: dict[str, Seconds]
    networks: list[Network]


class Study(Record):
    """All runs; they share a latency table."""

    schema_: Literal["ghostnas.kinds/1"] = Field(default="ghostnas.kinds/1", alias="schema")
    outcomes: list[Outcome] = Field(default_factory=list)


def recipe_of(kind: Kind, seed: int) -> Recipe:
    """The recipe `digits`; with an elastic supernet as it was before transplants: 30 epochs of sandwiches, 200 trials
    by inherited accuracy, 20 epochs from fresh weights."""
    recipe = load_recipe("digits").changed(seed=seed)
    if kind == "transplant":
        return recipe
    supernet = SupernetTraining(epochs=30, random=1, batch_size=64, lr=0.1, warmup_epochs=2)
    fresh = recipe.retrain.changed(
        epochs=20, optimizer="sgd", lr=0.1, weight_decay=1e-4, warmup_epochs=2, label_smoothing=0.1, distill=0.5,
        temperature=1.0, init="fresh", teacher="none",
    )  # fmt: skip
    found = recipe.search.changed(evaluate="inherited", trials=200)
    return recipe.model_copy(update={"supernet": supernet, "search": found, "retrain": fresh})


def outcome_of(kind: Kind, seed: int, table: Path, out: Path) -> Outcome:
    """A whole run but its calibration, for which the table stands in."""
    clock = CpuClock(out.with_name(f"{out.name}.cpu.json"), math.inf)
    with open_run(recipe_of(kind, seed), out, RunSettings(resume=True)) as run:
        if not run.done("calibrate"):
            (run.out / TABLE).parent.mkdir(exist_ok=True)
            shutil.copy(table, run.out / TABLE)
        for stage in STAGES:
            if not run.done(stage.__name__):
                with clock.step(stage.__name__):
                    stage(run)
    seconds = {name: round(value, 1) for name, value in clock.seconds.items()}
    networks = []
    for n in summarise(out).networks:
        if n.kind != "parent":
            assert n.predicted_ms, "the run has a latency table"
            networks.append(
                Network(name=n.name, found=n.chosen, macs=n.macs, predicted_ms=n.predicted_ms, accuracy=n.accuracy)
            )
    return Outcome(kind=kind, seed=seed, cpu_seconds=seconds, networks=networks)


def page(study: Study) -> str:
    """The page, as far as the study went."""
    outcomes = sorted(study.outcomes, key=lambda o: (KINDS.index(o.kind), o.seed))
    figures: dict[str, float] = {"seeds": len({o.seed for o in outcomes}), "least": LEAST_ACCURACY, "worst": WORST_MS}
    for kind in KINDS:
        mine = [o for o in outcomes if o.kind == kind]
        figures[kind] = 100 * _mean(n.accuracy for o in mine for n in o.networks if n.found)
        figures[f"{kind}_volume"] = _mean(map(_volume, mine))
        figures[f"{kind}_seconds"] = _mean(sum(o.cpu_seconds.values()) for o in mine)
    return PAGE_TEXT.format(rows="\n".join(map(_row, outcomes)), **figures)


def _row(o: Outcome) -> str:
    found, family = (
        "; ".join(f"{100 * n.accuracy:.2f} ({n.predicted_ms:.3f})" for n in o.networks if n.found is which)
        for which in (True, False)
    )
    spent = " + ".join(f"{seconds:.0f}" for seconds in o.cpu_seconds.values())
    return f"| {o.kind} | {o.seed} | {spent} | {found} | {_volume(o):.3f} | {family} |"


def _volume(o: Outcome) -> float:
    points = [(n.predicted_ms, n.accuracy) for n in o.networks if n.found]
    return scaled_hypervolume(points, LEAST_ACCURACY, WORST_MS) / (1 - LEAST_ACCURACY)


def _mean(values: Iterable[float]) -> float:
    """Not-a-number of none: what is still to be run."""
    known = list(values)
    return statistics.mean(known) if known else math.nan


PAGE_TEXT = """\
# Digits by either kind of supernet

By {seeds} seeds, the networks that the recipe `digits` finds with transplants have {transplant:.2f} % of the test
images right on average, for {transplant_seconds:.0f} CPU seconds. With an elastic supernet and final trainings from
fresh weights they have {elastic:.2f} % for {elastic_seconds:.0f}. The hypervolume of the fronts is
{transplant_volume:.3f} beside {elastic_volume:.3f}.

Both go by one latency table, by the same budgets and test images. Hypervolume: accuracy over {least:.0%} times latency
below {worst} ms, as a share of the whole. Seconds are of training, search and full training, GhostNets' included.
Milliseconds (in brackets) are predicted.

| supernet | seed | CPU s | found: accuracy, % (ms) | hypervolume | GhostNet .5x, .75x: accuracy, % (ms) |
|---|---|---|---|---|---|
{rows}

The command: `kinds.py`; all figures: `kinds.json`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "work" / "kinds", help="the folder of runs")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clock counts
    torch.set_num_threads(1)
    table = arguments.work / "digits.lat.json"
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        recipe = load_recipe("digits")
        ghostnas.calibrate(recipe.search_space, table, minutes=recipe.latency.minutes, rounds=recipe.latency.rounds)
    study = read_record(RESULT, Study) if RESULT.exists() else Study()
    known = {(o.kind, o.seed) for o in study.outcomes}
    for seed in arguments.seed:
        for kind in KINDS:
            if (kind, seed) not in known:
                out = arguments.work / f"{kind}-{seed}"
                done = outcome_of(kind, seed, table, out)
                study = study.model_copy(update={"outcomes": [*study.outcomes, done]})
                write_record(RESULT, study)
                write_text(PAGE, page(study))
                print(f"{kind}, seed {seed}: done", flush=True)


if __name__ == "__main__":
    main()
