"""Full training of one architecture from scratch, evaluated once on the test split at its end."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ghostnet.arch import Arch
from ghostnet.cost import cost
from ghostnet.network import GhostNet
from ghostnet.weights import to_bytes
from search.data import Data, resized
from search.evaluate import accuracy
from search.files import read_json, write_bytes, write_json, write_text
from search.recipe import Training
from search.training.checkpoint import Checkpoint
from search.training.loop import fit
from search.training.world import World

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
    net = GhostNet(arch, data.num_classes, data.in_chs, config.drop_rate, config.drop_path, generator)
    net = net.to(device).to(memory_format=torch.channels_last).train()

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> float:
        loss = F.cross_entropy(net(resized(images, arch.resolution)), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        return loss.item()

    trained = fit(
        net,
        data,
        config,
        step,
        checkpoint=out / CHECKPOINT,
        of=f"arch {arch.id}",
        seed=seed,
        device=device,
        title=title or f"retrain {arch.id}",
        seconds=seconds,
    )
    if not World.current().leads:
        return {}
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
        "config": config.model_dump(),
        "test_accuracy": accuracy(net, data, data.test, arch.resolution),
        "test_images": len(data.test),
        "training": asdict(trained),
    }
    write_text(out / ARCH, arch.to_json())
    write_bytes(out / WEIGHTS, to_bytes(net))
    write_json(out / CARD, card)  # last: a folder with a card is a finished network
    Checkpoint(out / CHECKPOINT, "").remove()
    return card
