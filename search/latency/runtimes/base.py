"""What a runtime is to the rest of the program, and what the adapters share."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np

from search.errors import UserError

if TYPE_CHECKING:  # names of runtimes are checked before torch is loaded
    from torch import nn

    from search.graphs.lowering import Lowering

Shape = tuple[int, int, int]  # channels, height and width of one image
Dtype = Literal["float32", "int8"]


class Session(Protocol):
    """A network that is ready to run."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """images [B, C, H, W] -> outputs, float32"""

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        """Places the images where the runtime wants them; each call of the answer runs the network once and returns
        how many nanoseconds that took, by the host's clock or, on a GPU, between device events."""


class StandaloneSession(Session, Protocol):
    """A session that also works on a device without PyTorch: its file lies in `search/latency/timing`."""

    runtime: str  # its name among the runtimes
    package: str  # by its name for pip
    install: str  # the command that puts it and numpy there
    suffix: str  # of the files of its models

    def __init__(self, model: bytes, threads: int) -> None: ...

    @staticmethod
    def version() -> str:
        """The runtime's own version.

        Raises:
            ImportError: it is not installed.
        """


class Runtime(Protocol):
    """Builds networks for one runtime, on a fixed number of threads, in one data type."""

    name: str
    threads: int
    dtype: Dtype
    lowering: "Lowering"

    def version(self) -> str:
        """The runtime's own version."""

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        """The module for inputs of [batch, *shape], in the runtime's own form."""

    def preload(self) -> None:
        """Loads the runtime's packages, and no network."""

    def load(self, compiled: bytes) -> Session:
        """A session of what `compile` made."""


class Adapter:
    """What the adapters have in common: their settings, and what they need to run at all."""

    name: str
    package: ClassVar[str]  # the one that must be importable
    extra: ClassVar[str | None] = None  # the extra of ours that installs it
    standalone: ClassVar[type[StandaloneSession] | None] = None  # the session that a kit takes to a device, if one can
    # The data types that it has, and the lowering that was measured to be fastest in each: results/latency/lowering.md
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "split"}
    on_gpu: ClassVar[bool] = False  # whose memory and energy are not the process's own
    exports: ClassVar[dict[Dtype, str]] = {}  # the format of `export` whose file is the graph that is timed, if one is

    def __init__(self, threads: int, dtype: Dtype = "float32", lowering: "Lowering | None" = None) -> None:
        self.threads, self.dtype = threads, dtype
        self.lowering: Lowering = lowering or self.lowerings[dtype]

    def preload(self) -> None:
        """Loads the runtime's packages, and no network."""
        self.version()

    def version(self) -> str:
        """The runtime's own version."""
        raise NotImplementedError

    @classmethod
    def missing(cls) -> str | None:
        """Why this runtime can't run here, if it can't."""
        if find_spec(cls.package) is not None:
            return None
        if cls.extra is None:
            return f"the runtime {cls.name} needs the package {cls.package}, which is not installed"
        return f"the runtime {cls.name} needs an extra: pip install 'ghostnas[{cls.extra}]'"

    @classmethod
    def check_dtype(cls, dtype: Dtype) -> None:
        """Raises:
        UserError: it has no such data type.
        """
        if dtype not in cls.lowerings:
            raise UserError(f"the data type of {cls.name} is one of {', '.join(cls.lowerings)}, not {dtype!r}")

    @classmethod
    def check(cls, dtype: Dtype) -> None:
        """Raises:
        UserError: it can't run here, or has no such data type.
        """
        cls.check_dtype(dtype)
        if (why := cls.missing()) is not None:
            raise UserError(why)


def image_by_image(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Runs any number of images by what takes one at a time, and may give out its own memory."""
    return lambda images: np.concatenate([run(images[k : k + 1]).copy() for k in range(len(images))])


class CpuSession:
    """A session that computes on the host, timed by the host's clock."""

    def __init__(self, run: Callable[[np.ndarray], np.ndarray]) -> None:
        self._run = run

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._run(images)

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        run = self._run

        def once() -> int:
            start = time.perf_counter_ns()
            run(images)
            return time.perf_counter_ns() - start

        return once
