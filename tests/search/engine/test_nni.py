"""The search by NNI's tuners, where NNI is installed."""

import json
import multiprocessing
import socket
import time
from unittest.mock import Mock

import pytest

from search.engine.backends import nni_backend
from search.engine.log import TrialLog
from search.engine.search_plan import SearchPlan
from search.parallel.cluster import Cluster
from search.progress import bar
from tests.search.conformance import Conformance, slowly
from tests.search.searches import HEADER, SPACE, accuracy_of, problem

pytest.importorskip("nni")


class TestNNI(Conformance):
    name, kills, trials, start, exact = "nni", 1, 24, "spawn", False
    plan = {"cluster": Cluster(workers=3), "sampler": "tpe"}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def one_target(self, request, monkeypatch):
        """An experiment takes seconds to start: there are three only where a search is killed in the midst of them."""
        if "killed" not in request.node.name:
            monkeypatch.setattr(nni_backend, "TARGETS", (1.0,))

    def test_a_killed_search_leaves_no_process_behind(self, tmp_path):
        import psutil

        log = tmp_path / "trials.jsonl"
        process = multiprocessing.get_context("spawn").Process(target=self.run, args=(tmp_path, self.trials, slowly))
        process.start()
        end = time.monotonic() + 120
        while not log.exists() or log.read_bytes().count(b"\n") < 2:
            assert process.is_alive() and time.monotonic() < end
            time.sleep(0.05)
        begun = psutil.Process(process.pid).children(recursive=True)
        assert any("nni" in " ".join(each.cmdline()) for each in begun)
        process.kill()
        assert not psutil.wait_procs(begun, timeout=30)[1]


def test_requests_of_strangers_are_ignored_but_a_log_that_fails_ends_the_search(tmp_path, monkeypatch):
    task = problem()
    with TrialLog(tmp_path / "trials.jsonl", HEADER) as log, bar("search", 9) as progress:
        server = nni_backend._TrialServer(
            task, log, SearchPlan(trials=9, sampler="tpe"), 1.0, "latency_ms", 9, progress
        )

        def ask(text: str) -> str:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall(f"{text}\n".encode())
                server.handle_request(ours)
                ours.close()
                return theirs.makefile().read()

        params = {gene.name: 0 for gene in SPACE.genes}
        for stranger in ("", "[]", "7", "{", '{"key": "another", "params": {}}', json.dumps({"params": params})):
            assert not ask(stranger) and not log.trials
        asked = json.dumps({"key": server.key, "params": params})
        assert json.loads(ask(asked)) == {"score": server.score(log.trials[0]), "error": None}
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(log, "append", Mock(side_effect=OSError(28, "No space left on device")))
            ask(asked)


def reported(model) -> None:
    import nni

    nni.report_final_result(accuracy_of(model.arch))


def test_nnis_own_strategies_explore_the_space_as_a_model_space(tmp_path):
    pytest.importorskip("pytorch_lightning")
    from nni.nas.evaluator import FunctionalEvaluator
    from nni.nas.experiment import NasExperiment
    from nni.nas.experiment.config import SequentialEngineConfig
    from nni.nas.strategy import RegularizedEvolution

    from search.engine.backends.nni_space import model_space

    strategy = RegularizedEvolution(population_size=6, sample_size=3)
    experiment = NasExperiment(model_space(SPACE), FunctionalEvaluator(reported), strategy)
    experiment.config.execution_engine = SequentialEngineConfig()
    experiment.config.max_trial_number = 10
    experiment.config.experiment_working_directory = str(tmp_path)
    experiment.run(port=18733)
    (best,) = experiment.export_top_models(formatter="dict", top_k=1)
    code = [best[gene.name] for gene in SPACE.genes]
    assert SPACE.decode(code) in SPACE
    experiment.stop()


def test_patience_is_lent_and_given_back():
    from nni.experiment import launcher

    from search.engine.backends.nni_backend import START_S, _longer_start_timeout

    before = launcher._check_rest_server
    with _longer_start_timeout():
        assert launcher._check_rest_server.keywords == {"retry": START_S}
        assert "retry" in before.__code__.co_varnames[: before.__code__.co_argcount]
    assert launcher._check_rest_server is before
