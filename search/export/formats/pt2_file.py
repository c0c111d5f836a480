"""`model.pt2`: PyTorch's own exported program, the batch dimension free."""

import io
import json
import zipfile
from pathlib import Path

import torch

from ghostnet import count as counting
from search.errors import UserError
from search.export.formats import Session, Source
from search.export.formats.safetensors_file import run
from search.files import write_bytes

FILES = ("model.pt2",)
PACKAGES = ("torch",)
EXACT = True


def write(source: Source, folder: Path) -> None:
    net = source.net
    example = torch.zeros(2, net.in_chs, net.arch.resolution, net.arch.resolution)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    content = io.BytesIO()
    torch.export.save(program, content)
    write_bytes(folder / FILES[0], content.getvalue())


def load(folder: Path) -> Session:
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


def _program(folder: Path) -> torch.export.ExportedProgram:
    path = folder / FILES[0]
    _refuse_pickles(path)
    return torch.export.load(path)


def _refuse_pickles(path: Path) -> None:
    """`torch.export.load` unpickles what an archive asks it to; ours ask for nothing but example tensors.

    Raises:
        UserError: the archive asks for more, or is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                if name.endswith("_config.json") and '"use_pickle": true' in json.dumps(json.loads(content)):
                    raise UserError(f"{path} holds pickled objects ({name}), which are not loaded")
                if name.endswith(".pt"):
                    torch.load(io.BytesIO(content), weights_only=True)
    except UserError:
        raise
    except Exception as error:  # damaged or hostile bytes fail in any way
        raise UserError(f"{path} is not an exported program of tensors alone: {str(error).splitlines()[0]}") from None
