"""Work side by side through Ray: on this machine's processes, or on a cluster's."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ghostnet.arch import Arch
from ghostnet.source import WeightSource
from search.data.datasets import Data
from search.errors import UserError, first_line
from search.parallel.cluster import Cluster, connect
from search.parallel.folders import SharedFiles, shared
from search.progress import bar
from search.recipes.schema import SupernetPart, Training
from search.training.distributed import World, best_device
from search.training.evaluate import InheritedAccuracy
from search.training.metadata import read_metadata
from search.training.origin import Origin
from search.training.records import TRAINED_FILE, SupernetMetadata, TrainedMetadata, read_trained
from search.training.retrain import Job, retrain
from search.training.supernets import make_supernet
from search.training.time_box import TimeBox
from spaces.space import Space

T = TypeVar("T")
R = TypeVar("R")
PartOfTraining = Callable[..., object]  # of data, a folder, where files lie, and a device
TRIES = 3  # of a training whose worker died; it goes on from its checkpoint
REFUSALS = (UserError, ValueError, OSError)  # as our errors are, and a full disk's


class RayWorkers:
    """Many networks at a time, each in a process (and with a GPU's share, where there are GPUs).

    Raises:
        UserError: no Ray, or no cluster.
    """

    def __init__(self, data: Data, cluster: Cluster) -> None:
        connect(cluster)
        import ray

        self.ray, self.workers, self.data = ray, cluster.num_workers, ray.put(data)
        gpus = ray.cluster_resources().get("GPU", 0)
        self.gpus = math.floor(100 * gpus / max(self.workers, gpus)) / 100 if gpus else 0  # of each process

    def retrain(
        self, jobs: list[Job], config: Training, *, origin: Origin | None = None, box: TimeBox | None = None
    ) -> None:
        """Trains networks fully; one whose worker dies goes on from its checkpoint.

        Args:
            origin: what all of them begin with; fresh weights where None.
            box: of all together, shared by their weights; none gets more steps than those that ended before it began.

        Raises:
            UserError: what a training refuses; the others are stopped and resume.
        """
        task = self.ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=TRIES)(_train_alone)
        origin = origin or Origin()
        whole = sum(job.weight for job in jobs) / self.workers
        with (
            shared([job.out.absolute() for job in jobs], origin.sources) as files,
            bar("networks", len(jobs)) as progress,
        ):
            waiting, running, shares = list(reversed(jobs)), dict[Any, Job](), list[float]()
            while waiting or running:
                while waiting and len(running) < self.workers:
                    job = waiting.pop()
                    part = box and box.part(min(1.0, job.weight / whole)).no_longer_than(min(shares, default=math.inf))
                    training = _full_training(job, config, origin, part)
                    running[task.remote(training, job.out.absolute(), files, self.data)] = job
                (done, *_), _ = self.ray.wait([*running])
                job = running.pop(done)
                try:
                    with self._plain_errors(f"the training of {job.title}"):
                        self.ray.get(done)
                except Exception:
                    for other in running:
                        self.ray.cancel(other, force=True)
                    raise
                shares.append(read_trained(job.out / TRAINED_FILE).training.share)
                progress.advance()

    def evaluate(self, inherited: InheritedAccuracy, waiting: list[tuple[str, Arch]]) -> Iterator[tuple[str, float]]:
        """Inherited accuracies as they are measured; each process holds the supernet once."""
        yield from self.map(partial(_Evaluator, inherited.supernet, inherited.config), waiting)

    def map(self, function: Callable[[Data], Callable[[T], R]], items: Sequence[T]) -> Iterator[R]:
        """A function's results as they come.

        Args:
            function: makes the function from the data, once in each process; at a module's level, to be found there.

        Raises:
            UserError: what a call refuses; the others are stopped.
        """
        from ray.util import ActorPool

        shared = self.ray.put(function)
        kind = self.ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=TRIES, max_task_retries=TRIES)
        actors: list[Any] = [kind(_Caller).remote(shared, self.data) for _ in range(min(self.workers, len(items)))]
        pool: Any = ActorPool(actors)
        try:
            with self._plain_errors("work side by side"):
                yield from pool.map_unordered(lambda actor, item: actor.call.remote(item), items)
        finally:
            for actor in actors:
                self.ray.kill(actor)

    @contextmanager
    def _plain_errors(self, what: str) -> Iterator[None]:
        """What a worker refuses, as it says it; and what becomes of work whose processes are lost again and again."""
        try:
            yield
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, REFUSALS):
                raise _as_it_was(error.cause) from None
            raise
        except self.ray.exceptions.RayError as error:  # each way of losing a process has its own
            raise UserError(
                f"{what} was given up, since Ray lost its process {TRIES + 1} times ({first_line(error)}); what is "
                "done so far stays, and the same command goes on from it with --resume"
            ) from error


class _Caller:
    """A worker that has a function made once."""

    def __init__(self, function: Callable[[Data], Callable[[Any], Any]], data: Data) -> None:
        torch.set_num_threads(1)
        self.function = function(data)

    def call(self, item: Any) -> Any:
        return self.function(item)


class _Evaluator:
    """Evaluates sub-networks of one supernet."""

    def __init__(self, supernet: WeightSource, config: Training, data: Data) -> None:
        self.accuracy = InheritedAccuracy(supernet, data, config)
        self.accuracy.prepare()

    def __call__(self, item: tuple[str, Arch]) -> tuple[str, float]:
        name, arch = item
        return name, self.accuracy(arch)


def train_supernet(
    space: Space,
    data: Data,
    config: SupernetPart,
    out: Path,
    cluster: Cluster,
    *,
    seed: int = 0,
    box: TimeBox | None = None,
) -> SupernetMetadata:
    """`search.training.supernets.make_supernet` on several of Ray Train's workers.

    Raises:
        UserError: no Ray, no cluster, or what the training itself refuses.
    """
    train = partial(make_supernet, space, config=config, seed=seed, box=box)
    parent = getattr(config, "parent", None)
    _train_together(train, out, [Path(parent)] if parent else [], data, cluster)
    return read_metadata(out)[0]


def train_network(
    job: Job,
    data: Data,
    config: Training,
    origin: Origin,
    cluster: Cluster,
    *,
    box: TimeBox | None = None,
) -> TrainedMetadata:
    """`search.training.retrain.retrain` on several of Ray Train's workers.

    Raises:
        UserError: no Ray, no cluster, or what the training itself refuses.
    """
    train = _full_training(job, config, origin, box)
    _train_together(train, job.out, origin.sources, data, cluster)
    return read_trained(job.out / TRAINED_FILE)


def _full_training(job: Job, config: Training, origin: Origin, box: TimeBox | None) -> PartOfTraining:
    return partial(
        retrain,
        job.arch,
        config=config,
        seed=job.seed,
        box=box,
        init=origin.init,
        teacher=origin.teacher,
        initial_seed=job.initial_seed,
    )


def _train_together(train: PartOfTraining, out: Path, readable: list[Path], data: Data, cluster: Cluster) -> None:
    """Runs `train` in each of several workers, which have a share of every batch. Where a worker dies all are started
    again, and training goes on from the checkpoint in `out`; what a worker refuses is not tried again."""
    workers = cluster.num_workers
    connect(replace(cluster, workers=workers + 1))  # one more holds the others together
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = ray.cluster_resources().get("GPU", 0) > 0
    folder = out.absolute()
    refusal: Any = ray.remote(num_cpus=0)(_Refusal).remote()
    with tempfile.TemporaryDirectory(prefix="ghostnas-ray-") as scratch, shared([folder], readable) as files:
        parts = {"train": train, "out": folder, "files": files, "data": ray.put(data), "refusal": refusal}
        for tries_left in reversed(range(TRIES + 1)):
            trainer = TorchTrainer(
                _train_part,
                train_loop_config=parts,
                torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
                run_config=RunConfig(storage_path=scratch),
            )
            try:
                trainer.fit()
                return
            except Exception as error:  # Ray wraps what a worker raised, in ways that change from version to version
                if refused := ray.get(refusal.get.remote()):
                    raise refused from None
                if not tries_left:
                    raise UserError(f"training on {workers} workers failed: {_last_line(error)}") from error


class _Refusal:
    """What a worker refuses, kept where the driver finds it as it was."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def keep(self, error: Exception) -> None:
        self.error = self.error or error

    def get(self) -> Exception | None:
        return self.error


def _train_part(config: Mapping[str, Any]) -> None:
    """What Ray Train runs in a worker."""
    import ray
    from ray.train.torch import get_device

    torch.set_num_threads(1)
    files: SharedFiles = config["files"]
    writes = World.current().is_main_process
    try:
        with files.located() as located, files.writing(config["out"], writes) as out:
            config["train"](data=ray.get(config["data"]), out=out, located=located, device=get_device())
    except ConnectionError:  # to another worker, that is lost
        raise
    except REFUSALS as error:
        ray.get(config["refusal"].keep.remote(_as_it_was(error)))
        raise


def _as_it_was(error: Exception) -> Exception:
    """An error that any process can take in."""
    if isinstance(error, OSError) and error.errno:
        return OSError(error.errno, error.strerror, error.filename)
    return UserError(str(error))


def _last_line(error: BaseException) -> str:
    while error.__cause__:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _train_alone(train: PartOfTraining, folder: Path, files: SharedFiles, data: Data) -> None:
    torch.set_num_threads(1)
    with files.located() as located, files.writing(folder) as out:
        train(data=data, out=out, located=located, device=best_device())
