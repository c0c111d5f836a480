"""The trainings of the study: which there are, and how one is done. Several go on side by side on one device, which a
small network can't fill."""

import multiprocessing
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import searches
import torch
from designs import HERE, WIDTHS, Design
from outcomes import Kind, Result, Study
from torch import Tensor

from ghostnet import Arch, cost
from ghostnet.count import count
from ghostnet.files import ARCH_FILE, WEIGHTS_FILE
from ghostnet.parent import load_parent
from ghostnet.weights import to_bytes
from search.data.datasets import Data, load_data
from search.files import write_bytes, write_json, write_text
from search.recipes.schema import ParentTraining, Training
from search.records import read_record, write_record
from search.training.distributed import best_device
from search.training.evaluate import accuracy
from search.training.inherited import inherited_accuracy
from search.training.retrain import retrain, train_network
from search.training.supernets import make_supernet, widest
from search.training.teacher import load_teacher

FITTING_IMAGES = 4096
DATA_CACHE = "data.pickle"
RESULT_FILE, NET = "result.json", "net.pickle"


@dataclass(frozen=True)
class Job:
    """A training of one network by one seed; of a `pruned` parent, of all sizes."""

    seed: int
    kind: Kind | Literal["search"]
    name: str
    arch: Arch | None = None

    def covers(self, result: Result) -> bool:
        """Whether the result is one of this training."""
        return (self.kind, self.seed) == (result.kind, result.seed) and (
            self.kind == "pruned" or self.name == result.name
        )

    def folder(self, work: Path) -> Path:
        return work / f"seed{self.seed}" / self.kind / self.name


def decode(work: Path, name: str, resolution: int, train_images: int | None = None) -> None:
    """Decodes the data set for all processes, unless it is there.

    Args:
        name: as `--data` has it.
    """
    if not (work / DATA_CACHE).exists():
        write_bytes(work / DATA_CACHE, pickle.dumps(load_data(name, resolution, train_images)))


@cache
def data(work: Path) -> Data:
    """The data set, as it was decoded."""
    return pickle.loads((work / DATA_CACHE).read_bytes())


class Trainer:
    """Does trainings, one after the other, on this process's device."""

    def __init__(self, design: Design, work: Path) -> None:
        self.design, self.work, self.device = design, work, best_device()
        self.name = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"

    @property
    def data(self) -> Data:
        return data(self.work)

    def __call__(self, job: Job) -> list[Result]:
        """What a job comes to; what is there already, if it is done."""
        if job.kind == "search":
            return self._search(job.seed)
        published = [r for r in known_results(self.design) if job.covers(r)]
        done = list(finished(job.folder(self.work))) or published  # here, or on another machine
        if len(done) == (len(WIDTHS) if job.kind == "pruned" else 1):
            return done
        kinds: dict[str, Callable[[Job], Iterator[tuple[Path, Result]]]]
        kinds = {"parent": self._parent, "fresh": self._fresh, "pruned": self._pruned}
        results = []
        for folder, result in kinds.get(job.kind, self._tuned)(job):
            write_record(folder / RESULT_FILE, result)  # last: a folder with this file is a finished training
            results.append(result)
        return results

    def _search(self, seed: int) -> list[Result]:
        """The seed's parent is trained, and the networks fitted to it are searched."""
        results = self(Job(seed, "parent", "parent", widest(self.design.space)))
        supernet = transplanted_supernet(self.design, self.work, seed)
        log = self.work / f"seed{seed}" / "trials.jsonl"
        found = searches.choose(self.design, self.data, supernet, log, seed)
        write_json(searched_file(self.work, seed), found)
        return results

    def _parent(self, job: Job) -> Iterator[tuple[Path, Result]]:
        """The space's widest GhostNet. Its weights are kept with half precision's digits, so that they travel in half
        the bytes; the network of those is the parent."""
        folder, result = self._retrained(job, self.design.parent)
        net = load_parent(folder)
        net.load_state_dict({name: rounded(value) for name, value in net.state_dict().items()})
        tested = accuracy(net.to(self.device), self.data, self.data.test)
        to = self.design.parent_folder(job.seed)
        write_text(to / ARCH_FILE, net.arch.to_json())
        write_bytes(to / WEIGHTS_FILE, to_bytes(net))
        yield folder, result.model_copy(update={"accuracy": tested})

    def _fresh(self, job: Job) -> Iterator[tuple[Path, Result]]:
        yield self._retrained(job, self.design.fresh)

    def _tuned(self, job: Job) -> Iterator[tuple[Path, Result]]:
        """A transplant of the seed's parent, taught by it."""
        assert job.arch
        supernet = transplanted_supernet(self.design, self.work, job.seed)
        start = inherited_accuracy(supernet, self.data)(job.arch)
        yield self._retrained(
            job,
            self.design.tuned,
            start,
            init=supernet,
            teacher=f"network:{self.design.parent_folder(job.seed)}",
        )

    def _retrained(
        self,
        job: Job,
        config: Training,
        start: float | None = None,
        init: Path | None = None,
        teacher: str | None = None,
    ) -> tuple[Path, Result]:
        assert job.arch and job.kind != "search"
        folder = job.folder(self.work)
        trained = retrain(
            job.arch, self.data, config, folder, seed=job.seed, device=self.device, init=init, teacher=teacher
        )
        assert trained
        return folder, Result(
            kind=job.kind,
            name=job.name,
            seed=job.seed,
            arch=job.arch.id,
            code=self.design.space.encode(job.arch).tolist(),
            macs=trained.macs,
            params=trained.params,
            epochs=trained.training.epochs,
            start=start,
            accuracy=trained.test_accuracy,
            seconds=trained.training.seconds,
            device=self.name,
        )

    def _pruned(self, job: Job) -> Iterator[tuple[Path, Result]]:
        """Torch-Pruning takes the parent to the multiply-adds of GhostNet's widths; tuned as transplants are."""
        sys.path.append(str(HERE.parent / "weights"))  # whose pruner this study shares
        from pruning import Pruner

        assert job.kind == "pruned"
        parent = self.design.parent_folder(job.seed)
        pruner = Pruner(load_parent(parent).to(self.device), self.data, self.design.parent, 1)
        sizes = {
            f"{width}x": cost(self.design.space.uniform(width), self.data.num_classes, self.data.in_chs).macs
            for width in WIDTHS
        }
        largest_first = sorted(sizes, key=lambda name: -sizes[name])
        nets, _ = pruner.best([sizes[name] for name in largest_first])
        teacher = load_teacher(f"network:{parent}", self.data, self.device)
        for name, net in zip(largest_first, nets, strict=True):
            start = pruner.start(net)
            costs = count(net, net.input_shape)
            trained = train_network(
                net,
                self.data,
                self.design.tuned,
                teacher,
                checkpoint=None,
                identity={},
                seed=job.seed,
                device=self.device,
                title=f"pruned to {name}",
            )
            tested = accuracy(net, self.data, self.data.test)
            folder = job.folder(self.work) / name
            write_bytes(folder / NET, pickle.dumps(net.cpu().eval()))
            yield (
                folder,
                Result(
                    kind=job.kind,
                    name=name,
                    seed=job.seed,
                    macs=costs.macs,
                    params=costs.params,
                    epochs=trained.epochs,
                    start=start,
                    accuracy=tested,
                    seconds=trained.seconds,
                    device=self.name,
                ),
            )


def rounded(values: Tensor) -> Tensor:
    """Floats with half precision's digits; other values as they are."""
    return values.half().to(values.dtype) if values.is_floating_point() else values


def known_results(design: Design) -> list[Result]:
    """What is published of a design."""
    return read_record(design.result, Study).results if design.result.exists() else []


def finished(folder: Path) -> Iterator[Result]:
    """The results of a job's folder, if it is done."""
    yield from (read_record(file, Result) for file in sorted(folder.glob(f"**/{RESULT_FILE}")))


def searched_file(work: Path, seed: int) -> Path:
    """The networks that a seed's search found."""
    return work / f"seed{seed}" / "networks.json"


def transplanted_supernet(design: Design, work: Path, seed: int) -> Path:
    """The folder of a seed's transplanted supernet; it only takes the parent in."""
    folder = work / f"seed{seed}" / "transplanted"
    parent = str(design.parent_folder(seed))
    config = ParentTraining(**design.tuned.model_dump(), parent=parent, images=FITTING_IMAGES)
    make_supernet(design.space, data(work), config, folder, device=best_device())
    return folder


def train(jobs: Sequence[Job], design: Design, work: Path, *, workers: int, until: float) -> None:
    """Does jobs side by side, in their order; each process does one at a time. Prints what is done.

    Args:
        until: `time.time()` after which none begins.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (design, work, until)) as pool:
        for future in as_completed([pool.submit(_train, job) for job in jobs]):
            for r in future.result():
                start = "" if r.start is None else f" from {r.start:.4f}"
                print(f"seed {r.seed} {r.kind} {r.name}: {r.accuracy:.4f}{start}, {r.seconds:.0f} s", flush=True)


def _begin(design: Design, work: Path, until: float) -> None:
    global _trainer, _until
    torch.set_num_threads(1)
    _trainer, _until = Trainer(design, work), until


def _train(job: Job) -> list[Result]:
    return _trainer(job) if time.time() < _until else []


_trainer: Trainer
_until: float
