"""The search on Ray Tune: the conformance suite on one machine, and a cluster of two nodes that loses one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pytest

from search.engine.backends import backend
from search.engine.log import TrialLog, read_trials
from search.engine.search_plan import SearchPlan
from search.errors import UserError
from search.parallel.cluster import Cluster, connect
from search.progress import bar
from tests.search import command_line  # noqa: F401  what the server of forks has loaded
from tests.search.conformance import Conformance
from tests.search.searches import HEADER, accuracy_of, problem
from tests.search.test_faults import FullAt

ray = pytest.importorskip("ray")
from ray.tune.search import Searcher  # noqa: E402
from ray.tune.utils import flatten_dict  # noqa: E402

from search.engine.backends.ray_backend import RESULT, LoggedSearch  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _disconnected():
    yield
    ray.shutdown()


class TestRay(Conformance):
    name, kills, trials, start, exact, plan = "ray", 2, 20, "forkserver", False, {"cluster": Cluster(workers=2)}
    one_by_one = False


@pytest.mark.parametrize(
    ("kind", "breaks", "resource"),
    [
        ("sqlite:///file:{}/s.db?mode=rwc&token=hush&uri=true", "s.db", "the storage sqlite:"),
        ("{}/s.journal", "s.journal", "the storage "),
        (None, "log/trials.jsonl", "No space left"),
    ],
)
def test_a_storage_or_a_log_that_fails_in_mid_search_ends_it_in_one_line(kind, breaks, resource, tmp_path, monkeypatch):
    """What Ray Tune would do with the searcher, without Ray's processes: it swallows what a searcher raises."""
    place = kind and kind.format(tmp_path)
    with TrialLog(tmp_path / "log/trials.jsonl", HEADER) as log, bar("search", 12) as progress:
        task = problem()
        searcher = LoggedSearch(task, log, SearchPlan(trials=12, population=6, storage=place), progress)

        def evaluate(name: str) -> None:
            code = searcher.suggest(name)["code"]
            result = task.measure(task.space.decode(np.array(code)))
            searcher.on_trial_complete(name, flatten_dict({RESULT: asdict(result)}))

        for k in range(4):
            evaluate(str(k))
        assert searcher.error is None and log.num_evaluated == 4
        if kind:
            (tmp_path / breaks).unlink()
        else:
            monkeypatch.setattr(os, "fsync", FullAt(1))
        with suppress(TypeError):  # nothing more is suggested
            evaluate("4")
        assert resource in str(searcher.error) and "hush" not in str(searcher.error)
        assert searcher.suggest("5") == Searcher.FINISHED and log.num_evaluated == 4
    monkeypatch.undo()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name == "log"]
    assert left and all(b"hush" not in path.read_bytes() for path in left)


def test_a_worker_loads_nothing_of_images_and_nothing_that_only_the_search_needs():
    heavy = {"torchvision", "timm", "scipy", "optuna"}
    code = f"import search.engine.backends.ray_worker, sys; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def a_second(arch) -> float:
    time.sleep(0.3)
    return accuracy_of(arch)


def test_a_cluster_that_loses_a_node_loses_no_trial(tmp_path):
    from ray import cluster_utils

    ray.shutdown()
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    log, before = tmp_path / "trials.jsonl", []

    def lose() -> None:
        while not log.exists() or log.read_text().count('"complete"') < 8:  # which may be empty still
            time.sleep(0.1)
        before.extend(read_trials(log))
        cluster.remove_node(second, allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    try:
        with TrialLog(log, HEADER) as trials:
            plan = SearchPlan(trials=30, population=10, cluster=Cluster(workers=3, address=cluster.address))
            backend("ray")(problem(a_second), trials, plan)
        thread.join()
        for _ in range(300):  # the head notices a dead node after some heartbeats
            if sum(node["Alive"] for node in ray.nodes()) == 1:
                break
            time.sleep(0.1)
        assert len(ray.nodes()) == 2 and sum(node["Alive"] for node in ray.nodes()) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    rows = read_trials(log)
    assert before and rows[: len(before)] == before
    states = Counter(t.state for t in rows)
    assert states["complete"] == 30 and not states["failed"]
    assert len({t.arch for t in rows if t.state == "complete"}) == 30


def test_a_cluster_that_we_start_takes_nobody_without_its_token():
    ray.shutdown()
    connect(Cluster(workers=1))
    there = ray.get_runtime_context().gcs_address
    script = f"import ray; ray.init(address={there!r}, logging_level='ERROR'); print('in')"
    for token, let_in in ((os.environ["RAY_AUTH_TOKEN"], True), ("0" * 64, False)):
        env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it too looks for the cluster on the loopback
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=200)
        assert (done.stdout.strip().endswith("in")) == let_in, done.stderr
    ray.shutdown()


def test_a_call_for_more_processes_or_another_cluster_leaves_for_it(monkeypatch):
    def elsewhere(address, **_):
        raise ConnectionError(f"asked for {address}")

    ray.shutdown()
    connect(Cluster(workers=2))
    first = ray.get_runtime_context().gcs_address
    connect(Cluster(workers=1))
    assert ray.get_runtime_context().gcs_address == first
    connect(Cluster(workers=3))
    assert ray.cluster_resources()["CPU"] == 3
    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"asked for 10\.0\.0\.1:1"):
        patched.setattr(ray, "init", elsewhere)
        connect(Cluster(workers=2, address="10.0.0.1:1"))
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")  # the program's own
    connect(Cluster(workers=2))
    assert ray.cluster_resources()["CPU"] == 1
    ray.shutdown()


DRIVER = """
import ray, time
from search.parallel.cluster import Cluster, connect
from tests.search import command_line  # noqa: F401  what the server of forks has loaded

connect(Cluster(workers=2))
ray.get([ray.remote(lambda: 1).remote() for _ in range(4)])
print("at work", flush=True)
time.sleep(600)
"""


def test_a_cluster_that_we_start_listens_on_the_loopback_and_dies_with_its_driver():
    psutil = pytest.importorskip("psutil")
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout.readline() == "at work\n"
        here = psutil.Process(driver.pid)
        started = here.children(recursive=True)
        listening = [
            (each.name(), socket.laddr.ip.removeprefix("::ffff:"))
            for each in (here, *started)
            for socket in each.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        ]
        assert {"raylet", "gcs_server"} <= {name for name, _ in listening}
        assert {ip for _, ip in listening} <= {"127.0.0.1", "::1"}, listening
    finally:
        driver.kill()
        driver.wait()
    _, left = psutil.wait_procs(started, timeout=120)  # agents try for a minute to report what happened
    assert not left


def test_a_driver_that_is_terminated_says_so_by_its_exit_code():
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "at work\n"
        driver.terminate()
        assert driver.wait(120) == 128 + signal.SIGTERM


def test_ctrl_c_ends_more_than_the_search(tmp_path, monkeypatch):
    """Ray Tune alone would end its trials and return, and a run would go on with what it had."""
    append = TrialLog.append

    def interrupted(*trial):
        os.kill(os.getpid(), signal.SIGINT)
        return append(*trial)

    monkeypatch.setattr(TrialLog, "append", interrupted)
    plan = SearchPlan(trials=12, population=6, cluster=Cluster(workers=2))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a command in the background ignores
    try:
        with TrialLog(tmp_path / "trials.jsonl", HEADER) as log, pytest.raises(KeyboardInterrupt):
            backend("ray")(problem(), log, plan)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (None, RuntimeError("no space in /dev/shm\nmore"), r"^Ray can't start 2 processes here: no space in /dev/shm$"),
        (None, ValueError(), r"^Ray can't start 2 processes here: ValueError$"),
        (None, Exception("timed out during startup"), r"^Ray can't start 2 processes here: timed out during startup$"),
        ("10.0.0.1:1", ConnectionError("nobody answers"), r"^no Ray cluster at 10\.0\.0\.1:1: nobody answers$"),
        (
            "10.0.0.1:1",
            ConnectionError("from server:\n no.\nmore"),
            r"^no Ray cluster at 10\.0\.0\.1:1: from server: no\.$",
        ),
    ],
)
def test_what_failed_is_said_and_kept_where_ray_does_not_begin(address, error, message, monkeypatch):
    def fail(**_):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(UserError, match=message) as caught:
        connect(Cluster(workers=2, address=address))
    assert caught.value.__cause__ is error
