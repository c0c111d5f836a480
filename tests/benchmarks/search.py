"""What a trial costs beside its evaluation: with an evaluator that is free, in process and on Ray; and what a second
Ray worker gains where evaluations take their time.

    python -m tests.benchmarks.search                                        # in process, the default sampler
    python -m tests.benchmarks.search --sampler nsga2 --trials 2000
    python -m tests.benchmarks.search --backend ray --trials 200

Milliseconds are means over the last seventh of the trials, on the clock and of the processor; a busy machine
stretches the first alone. The time to put a line on the disk (fsync) is the disk's and given apart: all have it.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from search.engine.backends import backend
from search.engine.log import TrialLog
from search.engine.search_plan import SearchPlan
from search.engine.trial import Trial
from search.parallel.cluster import Cluster
from search.recipes.choices import Sampler
from tests.search.searches import HEADER, accuracy_of, problem

WINDOW = 7  # the last so-manieth part of the trials: a batch of the guided sampler, and the work it took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="optuna", choices=("optuna", "ray"))
    parser.add_argument("--sampler", default=SearchPlan(trials=1).sampler, choices=get_args(Sampler))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--evaluation", type=float, default=0.5, help="seconds, for the gain of a second worker")
    arguments = parser.parse_args()
    output = in_process(arguments) if arguments.backend == "optuna" else on_ray(arguments)
    print(json.dumps({"backend": arguments.backend, "sampler": arguments.sampler} | output, indent=2))


def in_process(arguments: argparse.Namespace) -> dict[str, Any]:
    marks = timed(SearchPlan(trials=arguments.trials, sampler=arguments.sampler), "optuna", accuracy_of)
    at = [count for count in (100, 1000, 2000, 5000, 10_000) if count <= len(marks)]
    windows = {str(count): np.diff(marks[count - count // WINDOW : count], axis=0) for count in at}
    return {
        "ms_per_trial": {count: round(1e3 * each[:, 0].mean(), 2) for count, each in windows.items()},
        "cpu_ms_per_trial": {count: round(1e3 * each[:, 1].mean(), 2) for count, each in windows.items()},
        "ms_per_fsync": fsync_ms(),
    }


def on_ray(arguments: argparse.Namespace) -> dict[str, Any]:
    def slow(arch: Any) -> float:
        time.sleep(arguments.evaluation)
        return accuracy_of(arch)

    marks = timed(
        SearchPlan(trials=arguments.trials, sampler=arguments.sampler, cluster=Cluster(workers=2)), "ray", accuracy_of
    )
    seconds = {}
    for workers in (1, 2):
        plan = SearchPlan(trials=30, sampler=arguments.sampler, cluster=Cluster(workers=workers))
        marks_of = timed(plan, "ray", slow)
        seconds[workers] = marks_of[-1, 0] - marks_of[4, 0]  # the workers have started by then
    return {
        "ms_per_trial": round(1e3 * float(np.median(np.diff(marks[10:, 0]))), 1),
        "two_workers_over_one": round(seconds[1] / seconds[2], 2),
    }


def timed(plan: SearchPlan, name: str, evaluate: Any) -> np.ndarray:
    """When each row was written: [rows, 2], wall clock and processor, in seconds."""
    marks = []
    with tempfile.TemporaryDirectory() as folder, TrialLog(Path(folder) / "trials.jsonl", HEADER) as log:
        append = log.append

        def marked(trial: Trial, state: Mapping[str, object] | None = None) -> Trial:
            written = append(trial, state)
            marks.append((time.perf_counter(), time.process_time()))
            return written

        log.append = marked  # type: ignore[method-assign]
        backend(name)(problem(evaluate, flops="1G"), log, plan)  # type: ignore[arg-type]
    return np.array(marks)


def fsync_ms() -> float:
    with tempfile.TemporaryFile() as file:
        start = time.perf_counter()
        for _ in range(50):
            file.write(b"x" * 300)
            file.flush()
            os.fsync(file.fileno())
        return round(1e3 * (time.perf_counter() - start) / 50, 2)


if __name__ == "__main__":
    main()
