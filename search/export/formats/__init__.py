"""The export formats: one module for each format, which writes it, runs what was written, and counts there.

A module is loaded when its format is asked for; unknown formats and missing packages are told before that.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from ghostnet.arch import ArchError
from search import extras
from search.errors import UserError, first_line

if TYPE_CHECKING:
    import numpy as np

    from ghostnet.network import GhostNet
    from search.export.manifest import Manifest

Session = Callable[["np.ndarray"], "np.ndarray"]  # images [B, C, H, W] -> outputs [B, classes], float32


@dataclass(frozen=True, kw_only=True)
class Source:
    """The network that is exported, and what a format may need for it.

    Args:
        net: on the CPU, in evaluation mode.
        calibration: normalised images [N, C, H, W] that a quantisation is fitted to; may be empty.
        manifest: what is known of the network, and the files that were written before.
    """

    net: "GhostNet"
    calibration: "np.ndarray"
    manifest: "Manifest"


class Format(Protocol):
    """A module of this package. `FILES` are what it writes, by path in the export's folder; the first is what runs. One
    whose runtime computes with less than float32 by its own defaults says in `RUN_WITH` what it was proven with."""

    FILES: tuple[str, ...]
    PACKAGES: tuple[str, ...]  # whose versions the manifest names
    EXACT: bool  # whether outputs are the network's, up to float32 rounding

    def write(self, source: Source, folder: Path) -> None:
        """Writes `FILES` into the folder."""

    def load_session(self, folder: Path) -> Session:
        """Runs what was written, on one thread; unpickles nothing."""

    def macs(self, folder: Path) -> int | None:
        """Multiply-adds for one image, counted on what was written; None where its graph can't be read."""


@dataclass(frozen=True, slots=True)
class _Entry:
    module: str
    package: str = "torch"
    extra: str = ""
    fitted: bool = False  # to calibration images


FORMATS = {
    "onnx": _Entry("onnx_file"),
    "safetensors": _Entry("safetensors_file"),
    "pt2": _Entry("pt2_file"),
    "openvino": _Entry("openvino_ir", "openvino", "openvino"),
    "litert": _Entry("litert_file", "ai_edge_litert", "litert"),
    "executorch": _Entry("executorch_pte", "executorch", "executorch"),
    "ncnn": _Entry("ncnn_files", "ncnn", "ncnn"),
    "onnx-int8": _Entry("onnx_int8", fitted=True),
    "litert-int8": _Entry("litert_int8", "ai_edge_quantizer", "litert-int8", fitted=True),
    "hub": _Entry("hub_folder"),
}


def check_formats(names: Sequence[str]) -> None:
    """Raises:
    UserError: there is none, one is unknown, or named twice, or its package is not installed.
    """
    if not names:
        raise UserError("`formats` names at least one")
    check_names(names)
    for name in names:
        check_installed(name)


def check_names(names: Sequence[str]) -> None:
    """Raises:
    UserError: one of them is unknown, or named twice.
    """
    for name in names:
        if name not in FORMATS:
            raise UserError(f"a format is one of {', '.join(FORMATS)}, not {name!r}")
        if names.count(name) > 1:
            raise UserError(f"a format is named once, but {name!r} is there {names.count(name)} times")


def check_installed(name: str) -> None:
    """Raises:
    UserError: the package of this format is not installed.
    """
    extras.check_extra(FORMATS[name].package, FORMATS[name].extra)


def needs_images(names: Sequence[str]) -> str | None:
    """The first of these formats that is fitted to calibration images."""
    return next((name for name in names if FORMATS[name].fitted), None)


def get(name: str) -> Format:
    """The format of that name, which `check_formats` has passed."""
    return cast(Format, import_module(f"{__name__}.{FORMATS[name].module}"))


@contextmanager
def in_one_line(what: str, *others: type[Exception]) -> Iterator[None]:
    """Around a format's tools, which fail in ways of their own.

    Args:
        what: failed, such as "model.onnx can't be run as onnx".
        others: errors that are no fault of the network's or the file's, which stay what they are.

    Raises:
        UserError: whatever else they raise, as one line.
    """
    kept: tuple[type[Exception], ...] = (UserError, ArchError, *others)
    try:
        yield
    except kept:
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"{what}: {reason}") from error
