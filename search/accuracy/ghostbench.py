"""GhostBench: a table of trained Ghost networks, on which a search method is tested in seconds.

    bench = load_ghostbench("results/ghostbench/ghostbench.json")
    arch = bench.arch(bench.names[0])
    run = bench.query(arch, "trained:5")      # from fresh weights, 5 epochs; "tuned:1": transplanted, 1 epoch
    run.search[-1], run.seconds               # accuracy on the search split, seconds of one core

The networks are of one space. What was measured of each are trainings ("runs"): accuracy on the search split and on the
test split after every epoch. A method goes by the search split and is judged by the test split. `results/ghostbench/`
makes the file, and says what is in it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ghostnet.arch import Arch
from search.errors import UserError
from search.files import write_text
from search.records import ArchId, Code, Count, Milliseconds, Record, Seconds, Share, check_codes, read_record
from spaces.custom import SpaceRecord, parse_space
from spaces.errors import SpaceError
from spaces.space import Space
from spaces.tables import macs_table, params_table

SCHEMA: Literal["ghostnas.ghostbench/1"] = "ghostnas.ghostbench/1"
EVALUATORS = {"trained": "fresh", "tuned": "transplanted"}  # the word before the epochs: where a run starts
Start = Literal["fresh", "transplanted"]
Accuracies = Annotated[list[Share], Field(min_length=1, max_length=1000)]


class BenchmarkRun(Record):
    """One training of a network.

    Args:
        start: its first weights: random ones, or fitted to the parent. What is transplanted learns from the parent.
        epochs: of the whole schedule; 0 for a transplant as it is.
        search, test: top-1 accuracy on the two splits after every epoch; of 0 epochs, as it is.
        seconds: of one core's time, for fitting and training, without evaluations.
        look_seconds: of one core's time, for one evaluation on the search split.
    """

    start: Start
    epochs: Annotated[int, Field(ge=0, le=1000)]
    seed: Count
    search: Accuracies
    test: Accuracies
    seconds: Seconds
    look_seconds: Seconds

    @property
    def key(self) -> tuple[str, int, int]:
        """What no two runs of a network share: start, epochs and seed."""
        return self.start, self.epochs, self.seed

    @model_validator(mode="after")
    def _complete(self) -> "BenchmarkRun":
        if self.start == "fresh" and not self.epochs:
            raise ValueError("fresh weights must be trained for 1 epoch or more, but got 0")
        if not len(self.search) == len(self.test) == max(1, self.epochs):
            raise ValueError(
                f"a run of {self.epochs} epochs must have {max(1, self.epochs)} accuracies on each split, but got "
                f"{len(self.search)} and {len(self.test)}"
            )
        return self


class BenchmarkNetwork(Record):
    """A network of the benchmark, and what was measured of it so far.

    Args:
        kind: how it was drawn: evenly over multiply-adds, from a predicted front, or a mutant of one of the front.
        latency_ms: predicted by the benchmark's latency table; None where it has none.
    """

    arch: ArchId
    code: Annotated[Code, Field(max_length=1000)]
    kind: Literal["even", "front", "mutant"]
    macs: Annotated[int, Field(ge=1)]
    params: Annotated[int, Field(ge=1)]
    latency_ms: Milliseconds | None = None
    runs: list[BenchmarkRun] = Field(default_factory=list)


class BenchmarkParent(Record):
    """The trained network that transplants are fitted to, and that teaches them."""

    arch: ArchId
    weights: str
    test_accuracy: Share


class BenchmarkFile(Record):
    """`ghostbench.json`.

    Args:
        space: as recipes have it.
        fresh, tuned: the recipes of the two kinds of trainings, without their epochs.
        latency: the table's device, runtime and threads in a line; None where there is no table.
    """

    schema_: Literal["ghostnas.ghostbench/1"] = Field(default=SCHEMA, alias="schema")
    space: SpaceRecord
    data: str
    fingerprint: str
    training_images: Annotated[int, Field(ge=1)]
    search_images: Annotated[int, Field(ge=1)]
    test_images: Annotated[int, Field(ge=1)]
    fresh: Mapping[str, object]
    tuned: Mapping[str, object]
    parent: BenchmarkParent | None = None
    latency: str | None = None
    networks: Annotated[list[BenchmarkNetwork], Field(min_length=1)]


class GhostBench:
    """The benchmark, by architecture."""

    def __init__(self, record: BenchmarkFile, source: str) -> None:
        """Raises:
        UserError: the space is none, or a network isn't what its row says.
        """
        self.record = record
        try:
            self.space: Space = parse_space(record.space)
        except SpaceError as error:
            raise UserError(f"{source}: {error}") from None
        self._networks: dict[str, BenchmarkNetwork] = {}
        for network in record.networks:
            if network.arch in self._networks:
                raise UserError(f"{source}: architecture {network.arch} is there twice")
            self._networks[network.arch] = network
        self._check(source)

    def _check(self, source: str) -> None:
        """Every network is one of the space, its costs are those of its architecture, and its runs differ."""
        for network in self._networks.values():
            row = f"{source}: architecture {network.arch}"
            check_codes([network.code], self.space, row)
            if (actual := self.space.decode(np.array(network.code)).id) != network.arch:
                raise UserError(f"{row}: its code {network.code} is of architecture {actual}")
            if len({run.key for run in network.runs}) < len(network.runs):
                raise UserError(f"{row}: two of its runs have the same start, epochs and seed")
        codes = np.array([network.code for network in self._networks.values()])
        for name, table in (("macs", macs_table(self.space)), ("params", params_table(self.space))):
            for network, cost in zip(self._networks.values(), table.total(codes).tolist(), strict=True):
                if getattr(network, name) != cost:
                    raise UserError(
                        f"{source}: architecture {network.arch} has {cost:.0f} {name}, not {getattr(network, name)}"
                    )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The ids of its architectures, in the order in which they were trained: each beginning of it is spread evenly
        over multiply-adds."""
        return tuple(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def __contains__(self, arch: Arch | str) -> bool:
        return _id(arch) in self._networks

    def network(self, arch: Arch | str) -> BenchmarkNetwork:
        """An architecture's row, which also has its costs.

        Raises:
            UserError: it is not in the benchmark.
        """
        if arch not in self:
            raise UserError(f"architecture {_id(arch)} is none of the benchmark's {len(self)}")
        return self._networks[_id(arch)]

    def arch(self, name: str) -> Arch:
        """The architecture of that id.

        Raises:
            UserError: it is not in the benchmark.
        """
        return self.space.decode(np.array(self.network(name).code))

    def having(self, evaluator: str, seed: int = 0) -> tuple[str, ...]:
        """The ids of the architectures that have a run."""
        key = (*parse_evaluator(evaluator), seed)
        return tuple(name for name, network in self._networks.items() if any(run.key == key for run in network.runs))

    def query(self, arch: Arch | str, evaluator: str, seed: int = 0) -> BenchmarkRun:
        """One training of an architecture.

        Args:
            evaluator: `trained:E`, from fresh weights for E epochs, or `tuned:E`, transplanted and tuned for E epochs;
                `tuned:0` is the transplant as it is.

        Raises:
            UserError: no such evaluator, network or run.
        """
        network, key = self.network(arch), (*parse_evaluator(evaluator), seed)
        for run in network.runs:
            if run.key == key:
                return run
        known = ", ".join(f"{format_evaluator(run)} by seed {run.seed}" for run in network.runs) or "none"
        raise UserError(f"architecture {network.arch} has no run {evaluator} by seed {seed}; it has {known}")


def _id(arch: Arch | str) -> str:
    return arch if isinstance(arch, str) else arch.id


def parse_evaluator(evaluator: str) -> tuple[str, int]:
    """Where a run starts, and its epochs.

    Raises:
        UserError: it is no evaluator.
    """
    match = re.fullmatch(r"(trained|tuned):([0-9]{1,4})", evaluator)
    if not match:
        raise UserError(f"an evaluator of the benchmark is trained:E or tuned:E, not {evaluator[:40]!r}")
    return EVALUATORS[match[1]], int(match[2])


def format_evaluator(run: BenchmarkRun) -> str:
    """The evaluator of a run, the inverse of `parse_evaluator`."""
    return f"{'trained' if run.start == 'fresh' else 'tuned'}:{run.epochs}"


def load_ghostbench(path: str | Path) -> GhostBench:
    """The benchmark in a file.

    Raises:
        UserError: no such file, or a value that breaks a rule.
    """
    return GhostBench(read_record(Path(path), BenchmarkFile), str(path))


def save_ghostbench(path: Path, record: BenchmarkFile) -> None:
    """Writes a benchmark, one network a line.

    Raises:
        UserError: a network isn't what its row says.
    """
    GhostBench(record, str(path))
    head = record.model_dump(mode="json", by_alias=True, exclude={"networks"})
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines.append(' "networks": [\n' + ",\n".join(_lines(record.networks)) + "\n]")
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _lines(networks: Iterable[BenchmarkNetwork]) -> Iterable[str]:
    for network in networks:
        yield json.dumps(network.model_dump(mode="json"), separators=(",", ":"), allow_nan=False)
