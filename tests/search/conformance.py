"""What every backend of the search must do. A backend's test inherits it and says its name."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ghostnet import cost
from search.engine.front import growth
from search.engine.log import read_trials
from search.engine.search_plan import GROWTH
from search.engine.trial import Evaluation, Trial
from tests.search.searches import LADDER, SPACE, accuracy_of, bare, constant, problem, run, slowly, some_fail


class Conformance:
    """
    Args:
        name: the backend's.
        kills: how often a search of so many `trials` is killed.
        start: how its process is started; `fork` shares what is loaded.
        exact: whether a resumed search has the trials of an unbroken one; with several workers it has their number.
        plan: what the backend needs.
        one_by_one: whether a network is evaluated when the one before it is logged.
    """

    name: str
    kills: int
    trials: int = 60
    start: str = "fork"
    exact: bool = True
    plan: dict[str, Any] = {}  # noqa: RUF012
    one_by_one: bool = True

    def run(self, folder: Path, trials: int, evaluate: Any = accuracy_of, **changes: Any) -> list[Trial]:
        return run(problem(evaluate, **changes), folder, self.name, trials=trials, **self.plan)

    def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_counted_twice(self, tmp_path):
        trials, rng = self.trials, random.Random(7)
        log = tmp_path / "killed" / "trials.jsonl"
        context, kept = multiprocessing.get_context(self.start), b""
        for _ in range(self.kills):
            before = len(kept.splitlines())
            process = context.Process(target=self.run, args=(log.parent, trials, slowly), daemon=False)
            process.start()
            end, moment = time.monotonic() + 120, rng.uniform(0, 0.06)
            while process.is_alive() and (
                not log.exists() or log.read_bytes().count(b"\n") < before + rng.randint(1, 3)
            ):
                assert time.monotonic() < end
                time.sleep(0.002)
            time.sleep(moment)
            assert process.pid
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            whole = log.read_bytes().rpartition(b"\n")[0]
            assert whole.startswith(kept), "a finished trial was lost"
            kept = whole
        killed = self.run(log.parent, trials, slowly)
        finished = [t.arch for t in killed if t.state == "complete"]
        assert len(finished) == len(set(finished)) == trials
        assert log.read_bytes().startswith(kept)
        assert killed == bare(read_trials(log))
        if self.exact:
            assert killed == self.run(tmp_path / "unbroken", trials)

    def test_what_raises_hangs_or_is_no_number_has_failed_and_the_search_goes_on(self, tmp_path):
        rows = self.run(tmp_path, 20, some_fail, trial_seconds=0.3)
        states = Counter(t.state for t in rows)
        assert states["failed"] + states["complete"] == 20 and states["failed"] and states["complete"]
        errors = {t.error for t in rows if t.state == "failed"}
        assert errors <= {"RuntimeError: boom", "TimeLimit: took over 0.3 s", "accuracy is nan"} and len(errors) > 1
        for t in rows:
            if t.state == "complete":
                assert t["accuracy"] == int(t.arch, 16) % 1000 / 1000

    def test_only_new_networks_inside_the_budget_are_evaluated(self, tmp_path):
        rows = self.run(tmp_path, 30, flops="300k..500k", latency_budget_ms=0.45)
        done = [t for t in rows if t.state == "complete"]
        assert len({t.arch for t in done}) == len(done) == 30
        for t in rows:
            inside = 300_000 <= t["macs"] <= 500_000 and t["latency_high_ms"] <= 0.45
            assert inside == (t.excess == 0) == (t.state != "infeasible")
            assert (t.accuracy is None) == (not inside)

    def test_networks_that_are_known_come_first_if_a_budget_admits_them(self, tmp_path):
        known = tuple(SPACE.family.values())
        rows = run(problem(), tmp_path, self.name, trials=12, **self.plan, known=known)  # up to 500k multiply-adds
        inside = [arch.id for arch in known if cost(arch, SPACE.num_classes, SPACE.in_chs).macs <= 500_000]
        assert 0 < len(inside) < len(known)
        assert sorted(t.arch for t in rows[: len(inside)]) == sorted(inside)
        assert sum(t.state == "complete" for t in rows) == 12

    def test_a_search_that_has_enough_ends_as_soon_as_its_front_grows_slowly(self, tmp_path):
        rows = run(problem(constant), tmp_path, self.name, trials=60, enough=15, **self.plan)
        done = [t for t in rows if t.state == "complete"]
        assert 15 <= len(done) < 60 and (growth(done) < GROWTH or not self.one_by_one)
        assert not self.one_by_one or all(growth(done[:k]) >= GROWTH for k in range(15, len(done)))

    def test_the_best_networks_of_a_rung_go_on_to_the_next(self, tmp_path):
        rows = [t for t in self.run(tmp_path, 30, LADDER) if t.state == "complete"]
        steps, task, seen = [*LADDER.rungs.items()], problem(LADDER), {}
        for t in rows:
            arch, rungs = SPACE.decode(np.array(t.code)), t.rungs or []
            assert [(r.evaluate, r.accuracy) for r in rungs] == [(n, f(arch)) for n, f in steps[: len(rungs)]]
            assert t["accuracy"] == rungs[-1].accuracy
            for k in range(1, len(rungs) + 1):  # as the rule has it, by those that were there
                evaluation = Evaluation(columns={"accuracy": rungs[k - 1].accuracy}, rungs=tuple(rungs[:k]))
                if self.one_by_one:
                    assert task.climbs(task.candidate(np.array(t.code)), evaluation, seen) == (k < len(rungs))
            seen[t.arch] = t
        heights = [len(t.rungs or ()) for t in rows]
        assert len(rows) == 30 > sum(height > 1 for height in heights) > sum(height > 2 for height in heights) > 0

    def test_a_search_begun_under_optuna_goes_on_and_back(self, tmp_path):
        begun = run(problem(), tmp_path, "optuna", trials=15)
        gone_on = self.run(tmp_path, 25)
        ended = run(problem(), tmp_path, "optuna", trials=32)
        assert gone_on[: len(begun)] == begun and ended[: len(gone_on)] == gone_on
        assert [t.number for t in ended] == list(range(len(ended)))
        assert sum(t.state == "complete" for t in ended) == 32
