"""`model.int8.tflite`: static quantisation by LiteRT's quantiser, fitted to calibration images; weights int8 by
channel, float32 at both ends, one image at a time as [1, H, W, C]; run by LiteRT's own interpreter."""

from pathlib import Path

from search.export.formats import Session, Source
from search.export.formats.litert_file import count, float32_model, open_session
from search.files import write_bytes
from search.graphs.quantise_litert import quantise_litert

FILES = ("model.int8.tflite",)
PACKAGES = ("ai-edge-litert", "ai-edge-quantizer")
EXACT = False


def write(source: Source, folder: Path) -> None:
    write_bytes(folder / FILES[0], quantise_litert(float32_model(source), source.calibration))


def load_session(folder: Path) -> Session:
    return open_session(folder / FILES[0])


def macs(folder: Path) -> int | None:
    return count(folder / FILES[0])
