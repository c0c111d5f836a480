"""`weights.safetensors` with timm's parameter names, and `config.json` as timm reads it."""

from pathlib import Path

import numpy as np
import torch

from ghostnet import count as counting
from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.weights import load_network, to_bytes
from search.export.formats import Session, Source
from search.export.timm_config import config_of
from search.files import write_bytes, write_json
from search.latency.runtimes.eager import torch_threads

FILES = ("weights.safetensors", "config.json")
PACKAGES = ("safetensors",)
EXACT = True


def write(source: Source, folder: Path) -> None:
    write_bytes(folder / FILES[0], to_bytes(source.net))
    write_json(folder / FILES[1], config_of(source.net, source.manifest))


def load_session(folder: Path) -> Session:
    return run(_network(folder))


def macs(folder: Path) -> int | None:
    net = _network(folder)
    return counting.count(net, net.input_shape).macs


def _network(folder: Path) -> GhostNet:
    return load_network(Arch.load(folder / "arch.json"), folder / FILES[0])


def run(net: torch.nn.Module) -> Session:
    """A module that is in evaluation mode, or has none; on one thread, whatever PyTorch has otherwise."""

    @torch.no_grad()
    def session(images: np.ndarray) -> np.ndarray:
        with torch_threads(1):
            return net(torch.from_numpy(images)).numpy()

    return session
