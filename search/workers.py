"""Work side by side through Ray: on this machine's processes, or on a cluster's."""

import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ghostnet.arch import Arch
from search.data import Data
from search.errors import UserError
from search.progress import bar
from search.recipe import SupernetTraining, Training
from search.training.sandwich import read_card
from spaces.space import Space

TRIES = 3  # of a training whose worker died; it goes on from its checkpoint


def connect(workers: int, address: str | None) -> None:
    """Joins the cluster at `address`, or starts Ray here with so many processes. Once is enough.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("several workers need Ray: pip install 'ray[tune]'") from None
    if not ray.is_initialized():
        options: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from None


def side_by_side(
    data: Data, config: Training, seed: int, workers: int, address: str | None = None
) -> Callable[[list[tuple[str, Arch]], Path], None]:
    """What trains many networks at a time, each in a process (and with a GPU's share, where there are GPUs)."""

    def train_all(waiting: list[tuple[str, Arch]], out: Path) -> None:
        if not waiting:
            return
        connect(workers, address)
        import ray

        gpus = ray.cluster_resources().get("GPU", 0)
        share = gpus / max(workers, gpus) if gpus else 0
        task = ray.remote(num_cpus=1, num_gpus=math.floor(share * 100) / 100, max_retries=TRIES)(_train)
        shared = ray.put(data)
        left = [task.remote(arch, shared, config, (out / name).absolute(), seed) for name, arch in waiting]
        with bar("networks", len(left)) as progress:
            while left:
                done, left = ray.wait(left)
                ray.get(done)
                progress.advance()

    return train_all


def train_supernet(
    space: Space,
    data: Data,
    config: SupernetTraining,
    out: Path,
    *,
    seed: int,
    seconds: float | None,
    workers: int,
    address: str | None = None,
) -> dict[str, Any]:
    """`search.training.sandwich.train_supernet` on several of Ray Train's workers, each with a share of every batch.

    A worker that dies is started again with the others, and training goes on from the checkpoint; so `out` must be a
    folder that all of them see.

    Raises:
        UserError: no Ray, no cluster, or what the training itself refuses.
    """
    connect(workers + 1, address)  # one more holds the others together
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = ray.cluster_resources().get("GPU", 0) > 0
    job = {"space": space, "data": ray.put(data), "config": config, "out": out.absolute(), "seed": seed}
    with tempfile.TemporaryDirectory(prefix="ghostnas-ray-") as scratch:
        trainer = TorchTrainer(
            _share,
            train_loop_config=job | {"seconds": seconds},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
            run_config=RunConfig(storage_path=scratch, failure_config=FailureConfig(max_failures=TRIES)),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray wraps what a worker raised, in ways that change from version to version
            raise UserError(f"training on {workers} workers failed: {_last_line(error)}") from error
    return read_card(out)[0]


def _share(job: dict[str, Any]) -> None:
    import ray
    import torch
    from ray.train.torch import get_device

    from search.training import sandwich

    torch.set_num_threads(1)
    job = dict(job)
    space, data, config, out = job.pop("space"), ray.get(job.pop("data")), job.pop("config"), job.pop("out")
    sandwich.train_supernet(space, data, config, out, device=get_device(), **job)


def _last_line(error: BaseException) -> str:
    while error.__cause__:
        error = error.__cause__
    return str(error).strip().splitlines()[-1]


def _train(arch: Arch, data: Data, config: Training, out: Path, seed: int) -> None:
    import torch

    from search.training.retrain import retrain

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    retrain(arch, data, config, out, seed=seed, device=device)
