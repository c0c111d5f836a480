"""The search by NNI's own tuners, in local experiments: they know one objective, so accuracy is scalarised under a
latency target, and there is an experiment for each of a few targets.

NNI starts a process a trial. It asks this process over the loopback for its score: so the supernet is loaded once, and
every row goes into the one log. Extra: `pip install 'ghostnas[nni]'`.
"""

import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.samplers.initial import expected_good
from search.engine.search_plan import SearchPlan
from search.engine.trial import Trial
from search.errors import UserError
from search.extras import check_extra
from search.progress import Bar, bar
from search.recipes.choices import NNI_TUNERS
from search.recipes.schema import check_sampler
from search.seeds import FIRST_NETWORKS
from spaces.space import Space

TARGETS = (0.25, 0.5, 1.0)  # quantiles of the costs of networks drawn inside the budgets
POLL_S = 1.0
STARTS = 5  # of an experiment that stopped
STOPPED = ("ERROR", "DONE", "STOPPED", "NO_MORE_TRIAL")
SILENT_S = 90  # without a trial: NNI calls an experiment running whose tuner has died
START_S = 120  # NNI itself gives its manager three seconds, which is little on a busy machine


def search(problem: Problem, log: TrialLog, plan: SearchPlan) -> None:
    """Evaluates different networks until the plan is over.

    Raises:
        UserError: NNI has no such sampler, is not installed, or its experiment stopped.
    """
    check_sampler("nni", plan.sampler)
    check_extra("nni", "nni")
    cost = problem.objectives[1].name
    rng = np.random.default_rng([plan.seed, FIRST_NETWORKS])
    sampled = problem.columns(problem.initial(rng, max(plan.population, 10)))
    if cost not in sampled:
        raise UserError(f"the backend nni needs a second objective that costs no evaluation, not {cost}")
    if problem.objectives[1].maximise:
        raise UserError(f"the backend nni needs a second objective to make small, not {cost}")
    with bar("search", plan.trials, plan.deadline) as progress, socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(POLL_S)
        progress.update(log.num_evaluated)
        for code in expected_good(problem, plan)[len(log.trials) :]:  # NNI's tuners take none from outside
            if plan.end_reason(log, problem.objectives) is None:
                log.append(problem.run(code, log.seen))
                progress.update(log.num_evaluated)
        for k, share in enumerate(TARGETS, 1):
            target, until = float(np.quantile(sampled[cost], share)), round(plan.trials * k / len(TARGETS))
            trial_server = _TrialServer(problem, log, plan, target, cost, until, progress)
            for start in range(STARTS):  # a tuner has ten seconds to start, which a busy machine can miss
                if trial_server.done():
                    break
                with _experiment(problem.space, plan, server.getsockname()[1], trial_server.key) as experiment:
                    why = trial_server.serve_trials(server, experiment)
                if why and start == STARTS - 1:
                    raise UserError(f"NNI's experiment stopped: {why}")


class _TrialServer:
    """Evaluates the networks of NNI's trials, one after the other, and writes the log."""

    def __init__(
        self, problem: Problem, log: TrialLog, plan: SearchPlan, target: float, cost: str, until: int, progress: Bar
    ) -> None:
        self.problem, self.log, self.target, self.cost, self.progress = problem, log, target, cost, progress
        self.plan, self.until = plan, until
        self.tuner = NNI_TUNERS[plan.sampler]
        self.key = secrets.token_hex(16)

    def done(self) -> bool:
        """Whether this target has had its trials, or the search is over."""
        ended = self.plan.end_reason(self.log, self.problem.objectives)
        return self.log.num_evaluated >= self.until or ended is not None

    def serve_trials(self, server: socket.socket, experiment: Any) -> str | None:
        """Serves trials until this target is done. If the experiment ends before that, returns the reason."""
        heard = time.monotonic()
        while not self.done():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                if (status := experiment.get_status()) in STOPPED:
                    return f"{status}{_last_log_line(experiment)}"
                if time.monotonic() - heard > SILENT_S:
                    return f"no trial for {SILENT_S} s{_last_log_line(experiment)}"
                continue
            with connection:
                connection.settimeout(10 * POLL_S)
                self.handle_request(connection)
            heard = time.monotonic()
        return None

    def handle_request(self, connection: socket.socket) -> None:
        """Handles one request; one without the key, or from a process that died, is ignored."""
        try:
            with connection.makefile("r") as stream:
                asked = json.loads(stream.readline())
            params = asked["params"] if asked["key"] == self.key else None
        except (OSError, ValueError, TypeError, KeyError):
            return
        if params is not None:
            reply = self.evaluate(params)  # what fails here ends the search
            with suppress(OSError):
                connection.sendall((json.dumps(reply) + "\n").encode())

    def evaluate(self, params: dict[str, int]) -> dict[str, float | str | None]:
        """Runs a trial and returns its score."""
        code = np.array([params[gene.name] for gene in self.problem.space.genes], dtype=np.int64)
        row = self.problem.run(code, self.log.seen)
        self.log.append(row, {"tuner": self.tuner, "target": self.target})
        self.progress.update(self.log.num_evaluated)
        return {"score": self.score(row), "error": row.error}

    def score(self, row: Trial) -> float | None:
        """The score to maximise: the first objective, less what the cost is over its target; below -1 outside
        budgets."""
        first = self.problem.objectives[0]
        if row.excess:
            return -1.0 - row.excess
        if row.metrics.get(first.name) is None:
            return None
        return float(first.sign * row[first.name] - max(row[self.cost] / self.target - 1, 0))


def _last_log_line(experiment: Any) -> str:
    """The last line in the log of NNI's tuner, such as an exception's."""
    folder = Path(experiment.config.experiment_working_directory) / experiment.id / "log"
    log = folder / "dispatcher.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f": {lines[-1].strip()}" if lines else ""


@contextmanager
def _longer_start_timeout() -> Iterator[None]:
    """Inside, NNI waits longer for its manager to start, as a busy machine may need; it has no setting for that."""
    from nni.experiment import launcher

    check = launcher._check_rest_server
    launcher._check_rest_server = partial(check, retry=START_S)  # tries, one a second
    try:
        yield
    finally:
        launcher._check_rest_server = check


@contextmanager
def _experiment(space: Space, plan: SearchPlan, port: int, key: str) -> Iterator[Any]:
    """A local experiment that is running."""
    import nni
    from nni.experiment import Experiment

    nni.silence_stdout()
    os.environ["GHOSTNAS_NNI"] = f"127.0.0.1:{port}:{key}"  # its trials inherit it
    with tempfile.TemporaryDirectory(prefix="ghostnas-nni-", ignore_cleanup_errors=True) as scratch:
        (Path(scratch) / "code").mkdir()
        experiment = Experiment("local")
        config = experiment.config
        script = Path(__file__).with_name("nni_trial.py")
        config.trial_command = f"{shlex.quote(sys.executable)} -P {shlex.quote(str(script))}"
        config.trial_code_directory = str(Path(scratch) / "code")
        config.experiment_working_directory = str(Path(scratch) / "experiments")
        config.search_space = {g.name: {"_type": "choice", "_value": list(range(len(g.choices)))} for g in space.genes}
        config.tuner.name = NNI_TUNERS[plan.sampler]
        config.tuner.class_args = {"optimize_mode": "maximize"} | (
            {"population_size": plan.population} if config.tuner.name == "Evolution" else {}
        )
        if config.tuner.name == "Random":
            config.tuner.class_args = {"seed": plan.seed}
        config.trial_concurrency = plan.cluster.num_workers
        with socket.create_server(("127.0.0.1", 0)) as free:
            manager_port = free.getsockname()[1]
        with _longer_start_timeout():
            experiment.start(manager_port)
        assert experiment._proc is not None
        watch = [sys.executable, "-P", str(Path(__file__).with_name("nni_watch.py")), str(experiment._proc.pid)]
        # In a session of its own: what ends our process group should not end this first.
        with subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True) as watcher:
            try:
                yield experiment
            finally:
                experiment.stop()
                watcher.kill()
