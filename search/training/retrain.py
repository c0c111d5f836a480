"""Full training of one architecture, evaluated once on the test split at its end."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor

from ghostnet.arch import Arch
from ghostnet.cost import cost
from ghostnet.network import GhostNet
from ghostnet.weights import to_bytes
from search.data.datasets import Data, resized
from search.data.transforms import temporary_seed
from search.errors import UserError
from search.files import write_bytes, write_json, write_text
from search.identity import Identity
from search.recipes.schema import Training
from search.training import teacher as teachers
from search.training.checkpoint import CHECKPOINT, Checkpoint
from search.training.distributed import World
from search.training.evaluate import accuracy, recalibrate
from search.training.initial_weights import inherit
from search.training.loop import UNTRAINED, fit
from search.training.metadata import read_finished, teacher_id, training_identity, weights_id
from search.training.result_warnings import chance_warnings, schedule_warnings

SCHEMA = "ghostnas.trained/1"
# Steps after which norms have forgotten the statistics that they began with, at timm's momentum of 0.1.
NORM_WARM_UP = 50
ARCH, WEIGHTS, TRAINED_FILE = "arch.json", "weights.safetensors", "trained.json"


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
    init: Path | None = None,
    teacher: str | None = None,
    as_it_is: bool = False,
) -> dict[str, Any]:
    """Trains `arch` and writes the folder `out`; resumes what is there, returns what is finished.

    Args:
        init: a supernet's or a network's folder whose weights it begins with; fresh ones from `seed` where None.
        teacher: what it also learns from; see `search.training.teacher`.
        as_it_is: the weights of `init` are tested and written, not trained.

    Returns the metadata that are also written: costs, test accuracy and the result of the training.

    Raises:
        UserError: weights or a teacher that don't fit, a folder that holds another training or in which another process
            is at work, or what the training loop refuses.
    """
    identity = retraining_identity(arch, data, config, seed, init, teacher)
    identity = {**identity, "trained": False} if as_it_is else identity
    with World.current().locked(out):
        return read_finished(out / TRAINED_FILE, identity) or _train(
            arch,
            data,
            config.alone(),
            out,
            identity,
            seed=seed,
            device=device,
            seconds=seconds,
            title=title,
            init=init,
            teacher=teacher,
            as_it_is=as_it_is,
        )


def retraining_identity(
    arch: Arch, data: Data, config: Training, seed: int, init: Path | None = None, teacher: str | None = None
) -> Identity:
    """What makes two full trainings the same."""
    origin = {"init": weights_id(init) if init else None, "teacher": teacher_id(teacher) if teacher else None}
    return training_identity({"arch": arch.id, **origin}, data, config.alone(), seed)


def _train(
    arch: Arch,
    data: Data,
    config: Training,
    out: Path,
    identity: Identity,
    *,
    seed: int,
    device: torch.device,
    seconds: float | None,
    title: str | None,
    init: Path | None,
    teacher: str | None,
    as_it_is: bool,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    net = GhostNet(arch, data.num_classes, data.in_chs, config.drop_rate, config.drop_path, generator)
    if init:
        inherit(net, arch, init, data)
    net = net.to(device).to(memory_format=torch.channels_last).train()
    run = torch.compile(net) if config.compile else net
    loss_of = Loss(data, config, teachers.load_teacher(teacher, data, device) if teacher else None)

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        images, targets = loss_of.mixed(images, labels, rng)
        return loss_of(run(resized(images, arch.resolution)), targets, images)

    trained = UNTRAINED
    if not as_it_is:
        trained = fit(
            net,
            data,
            config,
            step,
            checkpoint=out / CHECKPOINT,
            identity=identity,
            seed=seed,
            device=device,
            title=title or f"retrain {arch.id}",
            seconds=seconds,
        )
    if not World.current().is_main_process:
        return {}
    if trained.steps - trained.skipped_steps < NORM_WARM_UP and not as_it_is:
        recalibrate(net, data, config, arch.resolution)
    tested = accuracy(net, data, data.test, arch.resolution)
    metadata = {
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
        "init": str(init) if init else None,
        "teacher": teacher,
        "config": config.model_dump(mode="json"),
        "identity": identity,
        "test_accuracy": tested,
        "test_images": len(data.test),
        "training": asdict(trained),
        "warnings": [
            *schedule_warnings(trained.steps, trained.planned_steps),
            *chance_warnings(tested, data.test.labels, "test accuracy"),
        ],
    }
    write_text(out / ARCH, arch.to_json())
    write_bytes(out / WEIGHTS, to_bytes(net))
    write_json(out / TRAINED_FILE, metadata)  # last: a folder with this file is a finished network
    Checkpoint(out / CHECKPOINT, identity).remove()
    return metadata


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One full training among several."""

    name: str
    arch: Arch
    seed: int
    out: Path


class Loss:
    """Cross entropy with smoothed or mixed labels, and the divergence from a teacher.

    Raises:
        UserError: batches that can't be mixed in pairs.
    """

    def __init__(self, data: Data, config: Training, teacher: teachers.Teacher | None) -> None:
        self.config, self.teacher = config, teacher
        self.mix: Any = None
        if config.mixup or config.cutmix:
            if config.batch_size % (2 * config.accumulate * World.current().size):
                raise UserError(f"mixup and cutmix mix pairs: `batch_size` {config.batch_size} leaves an image over")
            self.mix = Mixup(config.mixup, config.cutmix, label_smoothing=0.0, num_classes=data.num_classes)

    def mixed(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] and labels [B] -> mixed images, and labels [B] or their shares [B, classes]"""
        if self.mix is None:
            return images, labels
        even = len(images) // 2 * 2  # a data set smaller than a batch may have one over
        with temporary_seed(int(rng.integers(2**32))):
            return self.mix(images[:even], labels[:even])

    def __call__(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """[B, classes], labels or shares, the images that were shown -> the mean loss"""
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        if self.teacher is None:
            return loss
        t = self.config.temperature  # Hinton et al., 2015: gradients of softened predictions shrink with its square
        known = F.log_softmax(self.teacher(images) / t, 1)
        learnt = F.kl_div(F.log_softmax(logits.float() / t, 1), known, reduction="batchmean", log_target=True) * t**2
        return (1 - self.config.distill) * loss + self.config.distill * learnt
