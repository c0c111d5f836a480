"""Model soups: the mean of the weights of several trainings, which begin with the same weights and differ by seed.

It is one network, as fast as one of them, and may be about as accurate as all of them asked together (Wortsman et al.,
ICML 2022, "Model soups"), as long as they stay near what they begin with: a parent that was tuned on the same pictures,
say. With a fresh classifier the mean is no better than one of them (`results/pretrained/`), and from fresh weights each
ends in a place of its own, with nothing useful between them.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from torch.optim.swa_utils import AveragedModel

from ghostnet.files import WEIGHTS_FILE
from ghostnet.network import GhostNet
from ghostnet.weights import load_network
from search.data.datasets import Data
from search.identity import Identity
from search.recipes.schema import Training
from search.seeds import LARGEST_SEED
from search.training.distributed import best_device
from search.training.origin import Origin
from search.training.records import TRAINED_FILE, Outcome, TrainedMetadata, read_trained
from search.training.retrain import Job, retraining_identity, write_trained

SOUP = "soup"  # in a network's folder: the trainings that it is the mean of


def soup_trainings(job: Job, count: int) -> list[Job]:
    """The trainings that a network is to be the mean of, in folders inside its own; the first is by the job's seed."""
    return [
        replace(
            job,
            name=f"{job.name} ({k + 1} of {count})",
            seed=another_seed(job.seed, k) if k else job.seed,
            initial_seed=job.seed,
            out=job.out / SOUP / str(k + 1),
            weight=job.weight / count,
        )
        for k in range(count)
    ]


def soup_identity(job: Job, data: Data, config: Training, origin: Origin, count: int) -> Identity:
    """What makes two such networks the same."""
    return {**retraining_identity(job.arch, data, config, job.seed, origin), SOUP: count}


def make_soup(job: Job, data: Data, config: Training, origin: Origin, count: int) -> TrainedMetadata:
    """Writes a network's folder, once its trainings are finished, as if it had been trained itself. Its training has
    their steps and their seconds, all together."""
    folders = [each.out for each in soup_trainings(job, count)]
    net = mean_network([load_network(job.arch, folder / WEIGHTS_FILE) for folder in folders])
    trainings = [read_trained(folder / TRAINED_FILE).training for folder in folders]
    shortest = min(trainings, key=lambda each: (each.ended == "schedule", each.steps))
    return write_trained(
        net.to(best_device()),
        data,
        config.alone(),
        job.out,
        soup_identity(job, data, config, origin, count),
        seed=job.seed,
        origin=origin,
        training=Outcome.model_copy(
            shortest,
            update={
                "skipped_steps": max(each.skipped_steps for each in trainings),
                "seconds": sum(each.seconds for each in trainings),
                "loss": statistics.mean(each.loss for each in trainings),
            },
        ),
    )


def mean_network(networks: Sequence[GhostNet]) -> GhostNet:
    """A network with the mean of several networks' weights and norms' statistics."""
    soup = AveragedModel(networks[0], use_buffers=True)
    for net in networks:
        soup.update_parameters(net)
    return cast(GhostNet, soup.module)


def another_seed(seed: int, number: int) -> int:
    """A seed that is drawn from another one: none of its neighbours', whose work would then be done twice.

    Args:
        number: tells several of them apart.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] % (LARGEST_SEED + 1))
