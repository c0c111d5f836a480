"""The runtimes by name."""

from typing import TYPE_CHECKING

from search.errors import MOST_THREADS, UserError, check_whole
from search.latency.runtimes.base import Adapter, Dtype, Runtime, StandaloneSession
from search.latency.runtimes.eager import TorchCpu, TorchCuda
from search.latency.runtimes.litert_cpu import LiteRt
from search.latency.runtimes.ncnn_cpu import Ncnn
from search.latency.runtimes.openvino_cpu import OpenVino
from search.latency.runtimes.ort import OnnxRuntime, OnnxRuntimeCuda
from search.latency.runtimes.xnnpack import ExecuTorch
from search.latency.timing.device import usable_cores

if TYPE_CHECKING:
    from search.graphs.lowering import Lowering
    from search.latency.table import Setting

ADAPTERS: tuple[type[Adapter], ...] = (
    *(OnnxRuntime, OnnxRuntimeCuda, TorchCpu, TorchCuda),
    *(OpenVino, ExecuTorch, LiteRt, Ncnn),
)
RUNTIMES: dict[str, type[Adapter]] = {adapter.name: adapter for adapter in ADAPTERS}


def runtime(name: str, threads: int, dtype: Dtype = "float32", lowering: "Lowering | None" = None) -> Runtime:
    """The runtime of that name.

    Args:
        lowering: of the cheap op; None is what was measured to be fastest there.

    Raises:
        UserError: there is none of that name, not that many threads, no such data type there, or it is not installed.
    """
    if name not in RUNTIMES:
        raise UserError(f"a runtime is one of {', '.join(RUNTIMES)}, not {name!r}")
    cores, threads = usable_cores(), check_whole("threads", threads, 1, MOST_THREADS)
    if threads > cores:
        raise UserError(f"threads must be from 1 to the {cores} cores that this process may use, but got {threads}")
    RUNTIMES[name].check(dtype)
    return RUNTIMES[name](threads, dtype, lowering)  # type: ignore[return-value]


def table_runtime(setting: "Setting", threads: int | None = None) -> Runtime:
    """The runtime that a latency table is of.

    Args:
        threads: another number than the table's.

    Raises:
        UserError: as `runtime` does.
    """
    return runtime(setting.runtime, setting.threads if threads is None else threads, setting.dtype, setting.lowering)  # type: ignore[arg-type]


def kit_session(name: str, dtype: Dtype) -> type[StandaloneSession]:
    """What runs networks where only the runtime of that name is, not PyTorch.

    Raises:
        UserError: there is none for that runtime, or it has no such data type.
    """
    sessions = {name: adapter.standalone for name, adapter in RUNTIMES.items() if adapter.standalone}
    if name not in sessions:
        raise UserError(f"a kit's runtime is one of {', '.join(sessions)}, not {name[:80]!r}")
    RUNTIMES[name].check_dtype(dtype)
    return sessions[name]


def exported_as(name: str, dtype: str, lowering: str) -> str | None:
    """The format of `export` whose file is the graph that a runtime times in that data type and lowering, if one is."""
    adapter = RUNTIMES.get(name)
    if adapter is None or adapter.lowerings.get(dtype) != lowering:  # type: ignore[call-overload]
        return None
    return adapter.exports.get(dtype)  # type: ignore[call-overload]


def installed() -> list[str]:
    """Names of the runtimes that can run here."""
    return [name for name, adapter in RUNTIMES.items() if adapter.missing() is None]
