"""`model.pt2`: PyTorch's own exported program, the batch dimension free.

`torch.export.load` unpickles, and loads shared libraries, where an archive asks it to; so an archive is never handed to
it here. It is compared as data with the one that this PyTorch writes of the same architecture: entry by entry, the
graph node by node, all but the tensors, which are then run in the program made here.
"""

import io
import json
import zipfile
from functools import lru_cache
from math import prod
from pathlib import Path

import torch

from ghostnet import count as counting
from ghostnet.arch import Arch
from ghostnet.archives import ArchiveError, open_archive
from ghostnet.network import GhostNet
from search.errors import UserError
from search.export.formats import Session, Source
from search.export.formats.safetensors_file import run
from search.files import JsonObject, parse_json, read_bytes, write_bytes

FILES = ("model.pt2",)
PACKAGES = ("torch",)
EXACT = True
WEIGHTS, CONFIG, GRAPH = "archive/data/weights/", "model_weights_config.json", "archive/models/model.json"
UNALIKE = "archive/.data/serialization_id"  # a digest of the tensors, which nothing reads

Entries = dict[str, bytes]


def write(source: Source, folder: Path) -> None:
    write_bytes(folder / FILES[0], _archive(_exported(source.net)))


def load_session(folder: Path) -> Session:
    return run(_program(folder).module())


def macs(folder: Path) -> int | None:
    program = _program(folder)
    assert program.example_inputs
    images = program.example_inputs[0][0]
    return counting.count(_Module(program.module()), tuple(images.shape[1:])).macs


class _Module(torch.nn.Module):
    """An exported program has no `eval()`: it is what it was exported as."""

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "_Module":
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.program(x)


def _exported(net: GhostNet) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *net.input_shape)
    return torch.export.export(net, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def _archive(program: torch.export.ExportedProgram) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _program(folder: Path) -> torch.export.ExportedProgram:
    """The program of `arch.json`, made here, with the tensors of an archive that is in all else the same.

    Raises:
        UserError: the archive is none, or of anything else.
    """
    path = folder / FILES[0]
    return _checked_program(read_bytes(path), Arch.load(folder / "arch.json"), path)


@lru_cache(maxsize=1)  # a file is run, then counted
def _checked_program(content: bytes, arch: Arch, path: Path) -> torch.export.ExportedProgram:
    entries = _entries(content, path)
    net = GhostNet(arch, *_classes_and_channels(arch, entries, path)).eval()
    program = _exported(net)
    ours = _entries(_archive(program), path)
    if differing := sorted(ours.keys() ^ entries.keys()):
        raise UserError(f"{path} {'lacks' if differing[0] in ours else 'has'} {differing[0]!r}: it is not loaded")
    config = parse_json(ours[WEIGHTS + CONFIG], f"{path}: {WEIGHTS + CONFIG}")["config"]
    tensors = {WEIGHTS + each["path_name"] for each in config.values()}
    for name in ours.keys() - tensors - {UNALIKE}:
        if _data(name, ours[name], path) != _data(name, entries[name], path):
            raise UserError(
                f"{path}: {name!r} is not what PyTorch {torch.__version__} writes of {arch.id}: it is not loaded "
                "(PyTorch's versions differ in it, too)"
            )
    state = net.state_dict()  # whose tensors are the program's own
    for name, each in config.items():
        tensor, content = state[name], entries[WEIGHTS + each["path_name"]]
        if len(content) != len(ours[WEIGHTS + each["path_name"]]):
            raise UserError(f"{path}: {name} has {len(content)} bytes, but it must be of {list(tensor.shape)}")
        tensor.copy_(torch.frombuffer(bytearray(content), dtype=tensor.dtype).view(tensor.shape))
    return program


def _entries(content: bytes, path: Path) -> Entries:
    """The entries of an archive by their names.

    Raises:
        UserError: it is none, is damaged, or is one that `ghostnet.archives` refuses.
    """
    try:
        archive = open_archive(content)
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except ArchiveError as error:
        raise UserError(f"{path} {error}: it is not loaded") from None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is no archive of a program: {error}") from None


def _classes_and_channels(arch: Arch, entries: Entries, path: Path) -> tuple[int, int]:
    """Classes (0: it has no classifier) and input channels of the network in an archive, from the sizes of its
    tensors."""
    config = parse_json(entries.get(WEIGHTS + CONFIG, b"{}"), f"{path}: {WEIGHTS + CONFIG}")
    sizes = []
    for name, dim in (("classifier.weight", 0), ("conv_stem.weight", 1)):
        try:
            if name == "classifier.weight" and name not in config["config"]:
                sizes.append(0)
                continue
            each = config["config"][name]
            shape = [size["as_int"] for size in each["tensor_meta"]["sizes"]]
            if any(type(size) is not int or size < 1 for size in shape):
                raise ValueError
            if 4 * prod(shape) != len(entries[WEIGHTS + each["path_name"]]):
                raise ValueError
            sizes.append(shape[dim])
        except (KeyError, TypeError, ValueError, IndexError):
            raise UserError(f"{path} has no tensor {name} of architecture {arch.id}: it is not loaded") from None
    return sizes[0], sizes[1]


def _data(name: str, content: bytes, path: Path) -> str | bytes:
    """An entry as it is compared: JSON by its values and their types, without where in the source a node came from."""
    if not name.endswith(".json"):
        return content
    value = parse_json(content, f"{path}: {name}")
    if name == GRAPH and isinstance(value, dict):
        value.pop("torch_version", None)
        for node in _nodes(value):
            node.pop("metadata", None)
    return json.dumps(value, sort_keys=True)


def _nodes(value: JsonObject) -> list[JsonObject]:
    try:
        return [node for node in value["graph_module"]["graph"]["nodes"] if isinstance(node, dict)]
    except (KeyError, TypeError):
        return []
