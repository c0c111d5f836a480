"""The search on Ray Tune: the conformance suite on one machine, and a cluster of two nodes that loses one."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from search.engine.backends import backend
from search.engine.log import TrialLog, read_trials
from search.engine.search_plan import SearchPlan
from search.parallel.workers import connect
from tests.search import command_line  # noqa: F401  what the server of forks has loaded
from tests.search.conformance import Conformance
from tests.search.searches import HEADER, accuracy_of, problem

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def _disconnected():
    yield
    ray.shutdown()


class TestRay(Conformance):
    name, kills, trials, start, exact, plan = "ray", 2, 20, "forkserver", False, {"workers": 2}


def a_second(arch) -> float:
    time.sleep(0.3)
    return accuracy_of(arch)


def test_a_cluster_that_loses_a_node_loses_no_trial(tmp_path):
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    log, before = tmp_path / "trials.jsonl", []

    def lose() -> None:
        while not log.exists() or sum(t["state"] == "complete" for t in read_trials(log)) < 8:
            time.sleep(0.1)
        before.extend(read_trials(log))
        cluster.remove_node(second, allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    try:
        with TrialLog(log, HEADER) as trials:
            plan = SearchPlan(trials=30, population=10, workers=3, address=cluster.address)
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
    states = Counter(t["state"] for t in rows)
    assert states["complete"] == 30 and not states["failed"]
    assert len({t["arch"] for t in rows if t["state"] == "complete"}) == 30


def test_a_cluster_that_we_start_takes_nobody_without_its_token():
    ray.shutdown()
    connect(1, None)
    there = ray.get_runtime_context().gcs_address
    script = f"import ray; ray.init(address={there!r}, logging_level='ERROR'); print('in')"
    for token, let_in in ((os.environ["RAY_AUTH_TOKEN"], True), ("0" * 64, False)):
        env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it too looks for the cluster on the loopback
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=200)
        assert (done.stdout.strip().endswith("in")) == let_in, done.stderr
    ray.shutdown()


DRIVER = """
import ray, time
from search.parallel.workers import connect
from tests.search import command_line  # noqa: F401  what the server of forks has loaded

connect(2, None)
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
