"""The trainings of the benchmark: which there are, in which order, how one is done, and the log of those that are done.

Seconds are those of one core (CPU time), so that other work on the machine counts for little. What the parent says of
an image is asked once for all networks and counted for none.
"""

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ghostnet import Arch, GhostNet, Transplants
from ghostnet.parent import load_parent
from search.accuracy.ghostbench import BenchmarkFile, BenchmarkRun, Start
from search.data.datasets import Data
from search.files import JsonLines
from search.identity import Identity, check_same
from search.recipes.schema import ParentTraining, load_retraining
from search.records import ArchId, parse_record
from search.training.evaluate import accuracy
from search.training.inherited import fitting_images
from search.training.loop import fit
from search.training.losses import Loss
from search.training.metadata import WITHOUT_EFFECT, weights_id
from search.training.supernets import make_supernet
from search.training.teacher import Teacher, load_teacher
from spaces.space import Space

HERE = Path(__file__).parent
PARENT, LIST = HERE / "parent", HERE / "networks.json"
FRESH_EPOCHS = 5
TUNED_EPOCHS, LONG_EPOCHS = (0, 1, 3), 10
BLOCK, LONG_EVERY = 24, 6  # transplants that are tuned for one length after another; one in 6 for `LONG_EPOCHS`, too
SEVERAL = 100  # networks that are trained by several seeds
SEEDS = (0, 1, 2)
TRAINING_IMAGES, FITTING_IMAGES = 10_000, 2048
NO_CHECKPOINTS = 1e9  # seconds between them: a training that is killed is done again
FRESH, TUNED = (
    load_retraining(str(HERE / f"{name}.toml"))[0].alone().changed(epochs=1.0, checkpoint_seconds=NO_CHECKPOINTS)
    for name in ("fresh", "tuned")
)


class LoggedRun(BenchmarkRun):
    """A finished training: a line of a log."""

    arch: ArchId

    @property
    def planned_key(self) -> tuple[str, str, int, int]:
        """The `key` of what was planned."""
        return self.arch, *self.key


class RunLog:
    """The finished trainings with one start, in a file that begins with what they are of. A new one begins with those
    that are published.

    Raises:
        UserError: the file, or what is published, is of other trainings, or a line breaks a rule.
    """

    def __init__(self, folder: Path, start: Start, of: Identity, published: BenchmarkFile | None = None) -> None:
        self.lines = JsonLines(folder / f"{start}.jsonl")
        recorded, self.runs = read_log(folder, start)
        if recorded:
            check_same(recorded, of, f"{self.lines.path} is of other trainings")
        else:
            self.lines.append(dict(of))
            for run in published_runs(published, start, of) if published else ():
                self.append(run)
        self.keys = {run.planned_key for run in self.runs}

    def append(self, run: LoggedRun) -> None:
        """Adds a finished training; it is on the disk when this returns."""
        self.lines.append(run.model_dump(mode="json"))
        self.runs.append(run)


def published_runs(file: BenchmarkFile, start: Start, of: Identity) -> list[LoggedRun]:
    """The trainings with a start in a published benchmark.

    Raises:
        UserError: they are of other data, another recipe or another parent.
    """
    known, runs = published_log(file, start)
    if runs:
        shared = {key: value for key, value in of.items() if key in known}
        check_same({key: known[key] for key in shared}, shared, "the published benchmark is of other trainings")
    return runs


def published_log(file: BenchmarkFile, start: Start) -> tuple[dict[str, Any], list[LoggedRun]]:
    """What a published benchmark says of itself, with the recipe of a start, and its trainings; as `read_log`."""
    known = file.model_dump(mode="json")
    known["recipe"] = known["fresh" if start == "fresh" else "tuned"]
    runs = [(network.arch, run) for network in file.networks for run in network.runs if run.start == start]
    return known, [LoggedRun(arch=arch, **run.model_dump()) for arch, run in runs]


def read_log(folder: Path, start: Start) -> tuple[dict[str, Any], list[LoggedRun]]:
    """What the trainings of a log are of, and those that are finished; nothing where there is no log.

    Raises:
        UserError: a line breaks a rule.
    """
    log = JsonLines(folder / f"{start}.jsonl")
    of, *rows = [*log] or [{}]
    return of, [parse_record(LoggedRun, row, log.line_name(k)) for k, row in enumerate(rows, 2)]


def header(start: Start, space: Space, data: Data, parent: Path) -> dict[str, Any]:
    """What the trainings with a start are of."""
    config = FRESH if start == "fresh" else TUNED
    of: dict[str, Any] = {
        "start": start,
        "space_id": space.id,
        "fingerprint": data.fingerprint,
        "training_images": len(data.train),
        "search_images": len(data.search),
        "test_images": len(data.test),
        "recipe": config.model_dump(mode="json", exclude={"epochs", *WITHOUT_EFFECT}),
    }
    if start == "transplanted":
        net = load_parent(parent)
        known = {"arch": net.arch.id, "weights": weights_id(parent), "test_accuracy": accuracy(net, data, data.test)}
        of |= {"parent": known, "fitting_images": FITTING_IMAGES}
    return of


@dataclass(frozen=True, slots=True)
class Planned:
    """A training that is to be done."""

    arch: Arch
    start: Start
    epochs: int
    seed: int = 0

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells it from all others."""
        return self.arch.id, self.start, self.epochs, self.seed


def plan(start: Start, archs: Sequence[Arch]) -> Iterator[Planned]:
    """All trainings with that start, in the order in which they are done, so that what is there at any time is of use:
    networks in their order, transplants in blocks of which each has all its lengths; other seeds at the end."""
    several = archs[:SEVERAL]
    if start == "fresh":
        for seed in SEEDS:
            for arch in several if seed else archs:
                yield Planned(arch, start, FRESH_EPOCHS, seed)
        return
    *short, longer = TUNED_EPOCHS
    for begin in range(0, len(archs), BLOCK):
        block = archs[begin : begin + BLOCK]
        for arch in block:
            yield from (Planned(arch, start, epochs) for epochs in short)
        yield from (Planned(arch, start, longer) for arch in block)
        yield from (Planned(arch, start, LONG_EPOCHS) for arch in block[::LONG_EVERY])
    for seed in SEEDS[1:]:
        for epochs in filter(None, TUNED_EPOCHS):  # a transplant as it is has no seed
            yield from (Planned(arch, start, epochs, seed) for arch in several)


def make_transplants(space: Space, data: Data, parent: Path, folder: Path) -> Path:
    """The folder of a transplanted supernet of the parent, which is not trained further."""
    config = ParentTraining(**FRESH.model_dump(), parent=str(parent), images=FITTING_IMAGES)
    make_supernet(space, data, config, folder, device=torch.device("cpu"))
    return folder


class TimedTeacher:
    """A teacher, and one core's seconds that it took: it remembers what it answered, so they are no training's own."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.seconds = teacher, 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]"""
        begun = time.process_time()
        answer = self.teacher(images)
        self.seconds += time.process_time() - begun
        return answer


class Trainer:
    """Does planned trainings, each on one core, until the time is over.

    Args:
        parent: the folder of the parent; only what is transplanted needs it.
        until: `time.time()` after which no training begins.
    """

    def __init__(self, parent: Path, until: float, data: Data) -> None:
        torch.set_num_threads(1)
        self.parent, self.until, self.data = parent, until, data
        self.transplant = lru_cache(maxsize=1)(self._transplant)  # 0 epochs and 1 follow each other
        self._transplants: Transplants | None = None
        self._teacher: TimedTeacher | None = None

    def __call__(self, planned: Planned) -> LoggedRun | None:
        """The training's result; None where the time is over."""
        if time.time() > self.until:
            return None
        if planned.start == "fresh":
            generator = torch.Generator().manual_seed(planned.seed)
            net, seconds = GhostNet(planned.arch, self.data.num_classes, self.data.in_chs, generator=generator), 0.0
        else:
            net, seconds = self.transplant(planned.arch)
            net = copy.deepcopy(net)
        net = net.to(memory_format=torch.channels_last).train()
        looks = _Looks(self.data)
        if planned.epochs:
            seconds += self._train(net, planned, looks)
        else:
            looks(net)
        return LoggedRun(
            arch=planned.arch.id,
            start=planned.start,
            epochs=planned.epochs,
            seed=planned.seed,
            search=looks.search,
            test=looks.test,
            seconds=round(seconds, 2),
            look_seconds=round(looks.search_seconds / len(looks.search), 3),
        )

    def _train(self, net: GhostNet, planned: Planned, looks: "_Looks") -> float:
        """Trains the network and looks at it after every epoch; returns the seconds of the training alone."""
        config = (FRESH if planned.start == "fresh" else TUNED).model_copy(
            update={"epochs": float(planned.epochs), "probes": planned.epochs}
        )
        teacher = None if planned.start == "fresh" else self.teacher
        loss = Loss(config, teacher)
        begun = time.process_time()
        asked = teacher.seconds if teacher else 0.0
        with tempfile.TemporaryDirectory(prefix="ghostbench-") as folder:
            fit(
                net,
                self.data,
                config,
                lambda images, labels, rng: loss(net(images), labels, images),
                checkpoint=Path(folder) / "checkpoint.pt",
                identity={},
                seed=planned.seed,
                device=torch.device("cpu"),
                title=f"{planned.start} {planned.arch.id}, {planned.epochs} epochs",
                probe=looks,
            )
        others = looks.seconds + (teacher.seconds - asked if teacher else 0.0)
        return time.process_time() - begun - others

    def _transplant(self, arch: Arch) -> tuple[GhostNet, float]:
        """A fitted network, and the seconds that it took."""
        if self._transplants is None:
            images = fitting_images(self.data, FITTING_IMAGES, TUNED)
            self._transplants = Transplants(load_parent(self.parent), images)
        begun = time.process_time()
        net = self._transplants.extract(arch)
        return net, time.process_time() - begun

    @property
    def teacher(self) -> TimedTeacher:
        if self._teacher is None:
            self._teacher = TimedTeacher(load_teacher(f"network:{self.parent}", self.data, torch.device("cpu")))
        return self._teacher


class _Looks:
    """Accuracies on the search split and on the test split, each time a network is looked at."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.search: list[float] = []
        self.test: list[float] = []
        self.seconds = self.search_seconds = 0.0

    def __call__(self, net: nn.Module) -> dict[str, float]:
        begun = time.process_time()
        self.search.append(accuracy(net, self.data, self.data.search))
        self.search_seconds += time.process_time() - begun
        self.test.append(accuracy(net, self.data, self.data.test))
        self.seconds += time.process_time() - begun
        return {"accuracy/search": self.search[-1]}
