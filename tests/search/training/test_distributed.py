"""Several processes: two do what one does in two parts, a worker that dies is started again, and many networks are
evaluated and trained side by side to the values that one after the other gives."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from ghostnet import cost
from ghostnet.weights import WeightsError
from search.accuracy.ranking_study import fidelity
from search.data.datasets import load_data
from search.errors import UserError
from search.parallel.cluster import Cluster
from search.pipeline.retrain_stage import train_all
from search.recipes.schema import SupernetTraining, Training
from search.training.distributed import World
from search.training.elastic import load_inherited, load_supernet, new_supernet, train_supernet
from search.training.metadata import space_for
from search.training.retrain import Job
from search.training.time_box import TimeBox
from tests.search.training.test_elastic import SHORT

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
RECIPE = """
data = "digits"
space = "digits"
train_images = 160
[supernet]
epochs = 1
random = 1
batch_size = 40
accumulate = {accumulate}
[search]
flops_budget = "650k"
[retrain]
epochs = 1
"""


def command(*arguments: str, cwd: Path) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_supernet(folder).state_dict()


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory):
    """One process, each batch in two parts."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "recipe.toml").write_text(RECIPE.format(accumulate=2))
    command("search", "train", "--recipe", "recipe.toml", "--out", "net", cwd=folder)
    return weights(folder / "net")


def agree(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same training but for sums in another order: what differs is little beside how far the training went. Single
    values may differ by more, where a rounding moved a ReLU across its kink."""
    start = new_supernet(SPACE, 0).state_dict()
    moved, apart = (
        torch.cat([(a[name] - expected[name]).flatten() for name in expected]).norm() for a in (start, found)
    )
    assert apart < 0.01 * moved, f"{apart:.3g} apart after a way of {moved:.3g}"


def test_two_processes_under_torchrun_do_what_one_does_in_two_parts(two_parts, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.format(accumulate=1))
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    command(*torchrun, "search", "train", "--recipe", "recipe.toml", "--out", "net", cwd=tmp_path)
    agree(weights(tmp_path / "net"), two_parts)


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    from search.parallel.cluster import connect

    connect(Cluster(workers=3))
    yield ray
    ray.shutdown()


def kill_a_worker_after(checkpoint: Path, killed: list[int]) -> None:
    """SIGKILL to one of the training processes once there is a checkpoint."""
    import psutil

    for _ in range(3000):
        if checkpoint.exists():
            for process in psutil.process_iter(["cmdline"]):
                if any("RayTrainWorker" in part for part in process.info["cmdline"] or ()):
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    return
        time.sleep(0.1)


def test_a_killed_worker_is_started_again_and_the_training_ends_as_an_unbroken_one(cluster, tmp_path):
    from search.parallel import workers

    data = load_data("digits", 16, limit=320)
    config = SupernetTraining(epochs=3, batch_size=32, random=1, accumulate=1, checkpoint_seconds=0)
    killed: list[int] = []
    checkpoint = tmp_path / "net" / "checkpoint.pt"
    watcher = threading.Thread(target=kill_a_worker_after, args=(checkpoint, killed), daemon=True)
    watcher.start()
    metadata = workers.train_supernet(SPACE, data, config, tmp_path / "net", Cluster(workers=2), seed=0)
    watcher.join()
    assert killed and metadata.training.steps == 30
    alone = config.model_copy(update={"accumulate": 2})
    train_supernet(SPACE, data, alone, tmp_path / "alone", device=CPU)
    result, expected = weights(tmp_path / "net"), weights(tmp_path / "alone")
    flat = [torch.cat([t.float().flatten() for t in state.values()]) for state in (result, expected)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.99  # thirty steps of sums in another order


def test_what_a_worker_fails_of_is_told_as_it_was_and_not_tried_again(cluster, tmp_path):
    from search.parallel import workers

    tried = tmp_path / "tried"

    def fails(data, out, located, device):
        if World.current().is_main_process:
            with tried.open("a") as log:
                log.write("once\n")
        raise OSError(28, "No space left on device", str(out / "weights.safetensors"))

    with pytest.raises(OSError) as told:
        data = load_data("digits", 16, limit=160)
        workers._train_together(fails, tmp_path / "net", [], data, Cluster(workers=2))
    assert (told.value.errno, told.value.filename) == (28, str(tmp_path / "net" / "weights.safetensors"))
    assert tried.read_text() == "once\n"
    refused = workers._as_it_was(WeightsError("a.pth has other classes"))
    assert type(refused) is UserError and str(refused) == "a.pth has other classes"


def test_many_networks_side_by_side_have_the_values_of_one_after_the_other(cluster, tmp_path):
    from search.parallel.workers import RayWorkers

    data = load_data("digits", 16, limit=100)
    train_supernet(SPACE, data, SHORT, tmp_path / "net", device=CPU)
    config = Training(epochs=1, batch_size=32)
    about = {"count": 8, "bins": 2, "seed": 0, "device": CPU}
    lazily = lambda: load_inherited(tmp_path / "net", data)  # noqa: E731
    beside = fidelity(
        lazily, SPACE, data, config, tmp_path / "a", **about, parallel=RayWorkers(data, Cluster(workers=2))
    )
    alone = fidelity(lazily, SPACE, data, config, tmp_path / "b", **about)
    assert {n.arch: n for n in beside.networks} == {n.arch: n for n in alone.networks}
    evaluate = lazily()
    first = SPACE.smallest
    assert cost(first, 10, 1).macs <= min(n.macs for n in alone.networks)
    assert 0 <= evaluate(first) <= 1


def test_in_a_time_box_a_later_training_gets_no_more_steps_than_one_that_ended_before(cluster, tmp_path):
    """The third has four times the time of the first two, by its weight."""
    weights, config = {"a": 1.0, "b": 1.0, "c": 8.0}, Training(epochs=4000, batch_size=32)
    jobs = [
        Job(name=name, arch=SPACE.uniform(0.25), seed=k, out=tmp_path / name, weight=weight)
        for k, (name, weight) in enumerate(weights.items())
    ]
    data = load_data("digits", 16, limit=100)
    first, second, third = train_all(jobs, data, config, box=TimeBox(15.0), cluster=Cluster(workers=2))
    assert {each.training.ended for each in (first, second, third)} == {"time box"}
    assert 0 < third.training.steps <= max(first.training.steps, second.training.steps) + 1


def test_a_function_side_by_side_is_made_once_a_process_and_refuses_in_its_words(cluster):
    from search.parallel.workers import RayWorkers

    def squares(data):
        images = len(data.train)

        def square(item):
            if item == 7:
                raise UserError(f"{item} of {images} images is refused")
            return item, item**2

        return square

    workers = RayWorkers(load_data("digits", 16, limit=50), Cluster(workers=2))
    assert dict(workers.map(squares, range(7))) == {k: k**2 for k in range(7)}
    assert list(workers.map(squares, [])) == []
    with pytest.raises(UserError, match=r"^7 of 50 images is refused$"):
        list(workers.map(squares, range(8)))
