"""Full training of one architecture from scratch, evaluated once on the test split at its end."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor

from ghostnet.arch import Arch
from ghostnet.cost import cost
from ghostnet.network import GhostNet
from search.data import Data
from search.errors import UserError
from search.evaluate import accuracy
from search.files import read_json, write_bytes, write_json, write_text
from search.recipe import Training
from search.training.loop import fit

SCHEMA = "ghostnas.trained/1"
ARCH, WEIGHTS, CARD, CHECKPOINT = "arch.json", "weights.safetensors", "trained.json", "checkpoint.pt"


def retrain(
    arch: Arch,
    data: Data,
    config: Training,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device,
    seconds: float | None = None,
    title: str | None = None,
) -> dict[str, Any]:
    """Trains `arch` from fresh weights and writes the folder `out`; resumes what is there, returns what is finished.

    Returns the card that is also written: costs, test accuracy, what the training came to.
    """
    if (out / CARD).exists():
        return read_json(out / CARD)
    generator = torch.Generator().manual_seed(seed)
    net = GhostNet(arch, data.num_classes, data.in_chs, config.drop_rate, generator)
    net = net.to(device=device, memory_format=torch.channels_last).train()

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> float:
        loss = F.cross_entropy(net(images), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        return loss.item()

    trained = fit(
        net,
        data,
        config,
        step,
        checkpoint=out / CHECKPOINT,
        seed=seed,
        device=device,
        title=title or f"retrain {arch.id}",
        seconds=seconds,
    )
    card = {
        "schema": SCHEMA,
        "arch": arch.id,
        **asdict(cost(arch, data.num_classes, data.in_chs)),
        "resolution": arch.resolution,
        "num_classes": data.num_classes,
        "in_chs": data.in_chs,
        "data": data.name,
        "mean": data.mean,
        "std": data.std,
        "classes": data.classes,
        "seed": seed,
        "test_accuracy": accuracy(net, data, data.test),
        "test_images": len(data.test),
        "training": asdict(trained),
    }
    write_text(out / ARCH, arch.to_json())
    write_bytes(out / WEIGHTS, save({name: t.contiguous().cpu() for name, t in net.state_dict().items()}))
    write_json(out / CARD, card)  # last: a folder with a card is a finished network
    (out / CHECKPOINT).unlink(missing_ok=True)
    return card


def load_weights(arch: Arch, weights: Path, num_classes: int, in_chs: int) -> GhostNet:
    """The network of an architecture with the weights of a safetensors file, in evaluation mode.

    Raises:
        UserError: no such file, or weights of another architecture.
    """
    net = GhostNet(arch, num_classes, in_chs)
    try:
        state = load_file(weights)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{weights}: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}") from None
    except Exception as error:  # safetensors' own error has no public base
        raise UserError(f"{weights} is not a safetensors file: {error}") from None
    own = net.state_dict()
    differing = sorted(k for k in own.keys() | state.keys() if getattr(own.get(k), "shape", 0) != _shape(state.get(k)))
    if differing:
        raise UserError(f"{weights} has not the weights of architecture {arch.id}: {', '.join(differing[:3])} differ")
    net.load_state_dict(state)
    return net.eval()


def _shape(tensor: Tensor | None) -> object:
    return getattr(tensor, "shape", None)
