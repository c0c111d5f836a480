"""Full training of many networks by many seeds: one after the other, side by side on this machine's cores, or through
Ray."""

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from search.data.datasets import Data
from search.errors import UserError
from search.files import write_bytes
from search.parallel.cluster import HERE, Cluster
from search.parallel.processes import Processes
from search.parallel.workers import RayWorkers, train_network
from search.recipes.schema import Training
from search.training.distributed import World, best_device
from search.training.metadata import read_finished
from search.training.origin import FRESH, Origin
from search.training.records import TRAINED_FILE, TrainedMetadata, read_trained
from search.training.result_warnings import print_warnings
from search.training.retrain import Job, retrain, retraining_identity
from search.training.soup import make_soup, soup_identity, soup_trainings
from search.training.time_box import TimeBox

KEPT = 0.1  # of the first training's share of a time box, lest the others get fewer steps


def train_all(
    jobs: Sequence[Job],
    data: Data,
    config: Training,
    *,
    soup: int = 1,
    origin: Origin = FRESH,
    box: TimeBox | None = None,
    cluster: Cluster = HERE,
    processes: int = 1,
) -> list[TrainedMetadata]:
    """The metadata of all jobs, also of those finished before. What makes a result doubtful is said. A network that
    stands for two, a chosen one that is the family's, is trained once. Of torchrun's processes each returns when all
    jobs are finished.

    Args:
        soup: trainings of each, whose mean it is, where nobody teaches it; see `search.training.soup`.
        box: divided among the trainings that are still to do by their weights; beyond the recipe's steps none gets more
            than those that are finished.
        processes: of this machine, that train side by side; in a time box one.

    Raises:
        UserError: a job's folder holds another training, told before any is begun; soups of fresh weights; or what a
            training refuses.
    """
    soup = 1 if origin.teacher else soup
    if soup > 1 and not origin.init:
        raise UserError(f"`soup` = {soup} is the mean of trainings that begin with the same trained weights, not fresh")
    origin = replace(origin, init=origin.init and origin.init.absolute())
    unfinished = [job for job in jobs if not _is_finished(job, data, config, origin, soup)]
    if box and (before := [read_trained(job.out / TRAINED_FILE) for job in jobs if job not in unfinished]):
        box = box.no_longer_than(
            max(1.0, min(each.training.share for each in before))
        )  # they are compared with each other
    same = {(job.arch.id, job.seed): job for job in reversed(jobs)}
    different = [job for job in unfinished if same[job.arch.id, job.seed] is job]
    trainings = different
    if soup > 1:
        parts = [part for job in different for part in soup_trainings(job, soup)]
        trainings = [part for part in parts if not _is_finished(part, data, config, origin)]
    train = partial(_train, data=data, config=config, origin=origin, titled=len(jobs) > 1 or soup > 1)
    world = World.current()
    if len(trainings) > 1 and cluster.is_spread:
        RayWorkers(data, cluster).retrain(trainings, config, box=box, origin=origin)
    elif cluster.is_spread:
        for job in trainings:
            train_network(job, data, config, origin, cluster, box=box)
    elif processes > 1 and not box and world.size == 1:
        with Processes(train, min(processes, len(trainings))) as workers:
            workers.map(trainings)
    else:
        _train_in_turn(trainings, train, box)
    if world.is_main_process:
        for job in different if soup > 1 else ():
            with world.locked(job.out):
                make_soup(job, data, config, origin, soup)
        for job in unfinished:
            if (source := same[job.arch.id, job.seed]) is not job:
                shutil.copytree(source.out, job.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(TRAINED_FILE))
                write_bytes(job.out / TRAINED_FILE, (source.out / TRAINED_FILE).read_bytes())  # last: it is finished
    world.wait()
    records = [read_trained(job.out / TRAINED_FILE) for job in jobs]
    for job, metadata in zip(jobs, records, strict=True):
        if world.is_main_process:
            print_warnings(job.title, metadata.warnings)
    return records


def _train_in_turn(jobs: Sequence[Job], train: Callable[..., None], box: TimeBox | None) -> None:
    """Trains networks one after the other, in each of torchrun's processes.

    In a time box they are compared with each other, so none gets more steps than those of them that ended before it
    began: the first takes what steps its time allows, a little of which is kept for a machine that gets slower, and the
    others as many.
    """
    begun, shares = time.monotonic(), list[float]()
    for k, job in enumerate(jobs):
        left = box and box.after(time.monotonic() - begun).part(job.weight / sum(each.weight for each in jobs[k:]))
        if left and shares:
            left = left.no_longer_than(min(shares))
        elif left and jobs[k + 1 :]:
            left = left.part(1 - KEPT)
        train(job, box=left)
        if box:
            World.current().wait()
            shares.append(read_trained(job.out / TRAINED_FILE).training.share)


def _train(
    job: Job, data: Data, config: Training, origin: Origin, box: TimeBox | None = None, titled: bool = False
) -> None:
    """A training in this process; `titled` by the job's name."""
    retrain(
        job.arch,
        data,
        config,
        job.out,
        seed=job.seed,
        device=best_device(),
        box=box,
        title=job.title if titled else f"retrain {job.arch.id}",
        init=origin.init,
        teacher=origin.teacher,
        initial_seed=job.initial_seed,
    )


def _is_finished(job: Job, data: Data, config: Training, origin: Origin, soup: int = 1) -> bool:
    """Raises:
    UserError: the job's folder holds another training.
    """
    identity = retraining_identity(job.arch, data, config, job.seed, origin, job.initial_seed)
    if soup > 1:
        identity = soup_identity(job, data, config, origin, soup)
    return read_finished(job.out / TRAINED_FILE, TrainedMetadata, identity) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSummary:
    """A network's full trainings by several seeds: a row of `summary.json`.

    Args:
        test_accuracy: of each seed.
        spread: the sample's standard deviation, where there are two or more.
    """

    arch: str
    macs: int
    params: int
    seeds: list[int]
    test_accuracy: list[float]
    mean: float
    spread: float | None
    test_images: int


def summarise_seeds(jobs: Sequence[Job], records: Sequence[TrainedMetadata]) -> dict[str, SeedSummary]:
    """The trainings of each network, by its name."""
    summaries: dict[str, SeedSummary] = {}
    for name in dict.fromkeys(job.name for job in jobs):
        mine = [(job, metadata) for job, metadata in zip(jobs, records, strict=True) if job.name == name]
        first = mine[0][1]
        accuracies = [metadata.test_accuracy for _, metadata in mine]
        summaries[name] = SeedSummary(
            arch=mine[0][0].arch.id,
            macs=first.macs,
            params=first.params,
            seeds=[job.seed for job, _ in mine],
            test_accuracy=accuracies,
            mean=statistics.mean(accuracies),
            spread=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            test_images=first.test_images,
        )
    return summaries


def format_accuracies(summaries: dict[str, SeedSummary]) -> str:
    """The summaries as text, one line for each network."""
    lines = []
    for name, row in summaries.items():
        several = "" if row.spread is None else f" ({len(row.seeds)} seeds, deviation {100 * row.spread:.2f})"
        lines.append(f"{name}: {row.mean:.2%}{several}, {row.macs:,} multiply-adds")
    return "\n".join(lines)
