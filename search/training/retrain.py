"""Full training of one architecture, evaluated once on the test split at its end."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ghostnet.arch import Arch
from ghostnet.cost import cost
from ghostnet.files import ARCH_FILE, WEIGHTS_FILE
from ghostnet.network import GhostNet
from ghostnet.resize import resized
from ghostnet.weights import to_bytes
from search.data.datasets import Data
from search.files import write_bytes, write_text
from search.identity import Identity
from search.recipes.schema import Training
from search.records import write_record
from search.training import teacher as teachers
from search.training.checkpoint import CHECKPOINT, Checkpoint
from search.training.cuda_graph import passes
from search.training.distributed import World
from search.training.evaluate import accuracy, recalibrate
from search.training.initial_weights import inherit
from search.training.loop import UNTRAINED, fit
from search.training.losses import Loss
from search.training.metadata import read_finished, teacher_id, training_identity, weights_id
from search.training.mixing import Mixing
from search.training.origin import AS_NAMED, FRESH, Located, Origin
from search.training.records import TRAINED_FILE, TRAINED_SCHEMA, Outcome, TrainedMetadata
from search.training.result_warnings import chance_warnings, schedule_warnings
from search.training.time_box import TimeBox

# Steps after which norms have forgotten the statistics that they began with, at timm's momentum of 0.1.
NORM_WARM_UP = 50
Trainable = Literal["all", "head", "none"]


def retrain(
    arch: Arch,
    data: Data,
    config: Training,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device,
    box: TimeBox | None = None,
    title: str | None = None,
    init: Path | None = None,
    teacher: str | None = None,
    trainable: Trainable = "all",
    initial_seed: int | None = None,
    located: Located = AS_NAMED,
) -> TrainedMetadata | None:
    """Trains `arch` and writes the folder `out`; resumes what is there, returns what is finished.

    Args:
        init: a supernet's or a network's folder whose weights it begins with; fresh ones from `seed` where None.
        teacher: what it also learns from; see `search.training.teacher`.
        trainable: what is trained of the weights of `init`: all, the classifier alone (norms included, the rest stays
            as it is), or nothing, so that they are tested and written.
        initial_seed: of fresh weights, and of a classifier that `init` lacks, where it is not `seed`.
        located: where the files that `init` and `teacher` name lie on this machine, if elsewhere.

    Returns the metadata that are also written: costs, test accuracy and the result of the training; None in those of
    torchrun's processes that write nothing.

    Raises:
        UserError: weights or a teacher that don't fit, a folder that holds another training or in which another process
            is at work, or what the training loop refuses.
    """
    origin = Origin(init=init, teacher=teacher, located=located)
    identity = retraining_identity(arch, data, config, seed, origin, initial_seed)
    if trainable != "all":
        identity = {**identity, "trained": "head" if trainable == "head" else False}
    with World.current().locked(out):
        return read_finished(out / TRAINED_FILE, TrainedMetadata, identity) or _train(
            arch,
            data,
            config.alone(),
            out,
            identity,
            seed=seed,
            device=device,
            box=box,
            title=title,
            origin=origin,
            trainable=trainable,
            initial_seed=seed if initial_seed is None else initial_seed,
        )


def retraining_identity(
    arch: Arch, data: Data, config: Training, seed: int, origin: Origin = FRESH, initial_seed: int | None = None
) -> Identity:
    """What makes two full trainings the same.

    Args:
        initial_seed: as of `retrain`.
    """
    init, teacher = origin.init_here, origin.teacher_here
    what: dict[str, str | int | None] = {
        "arch": arch.id,
        "init": weights_id(init) if init else None,
        "teacher": teacher_id(teacher) if teacher else None,
    }
    if initial_seed not in (None, seed):
        what["initial_seed"] = initial_seed
    if (side := data.test.resolution) != arch.resolution:
        what["loaded_at"] = side  # of larger images other parts are shown
    return training_identity(what, data, config.alone(), seed)


def _train(
    arch: Arch,
    data: Data,
    config: Training,
    out: Path,
    identity: Identity,
    *,
    seed: int,
    device: torch.device,
    box: TimeBox | None,
    title: str | None,
    origin: Origin,
    trainable: Trainable,
    initial_seed: int,
) -> TrainedMetadata | None:
    net = fresh_network(arch, data, config, initial_seed)
    if origin.init_here:
        inherit(net, arch, origin.init_here, data)
    trained = UNTRAINED
    if trainable != "none":
        trained = train_network(
            net,
            data.with_held_out() if config.use_held_out else data,
            config,
            teachers.load_teacher(origin.teacher_here, data, device) if origin.teacher_here else None,
            checkpoint=out / CHECKPOINT,
            identity=identity,
            seed=seed,
            device=device,
            title=title or f"retrain {arch.id}",
            box=box,
            head_only=trainable == "head",
        )
    if not World.current().is_main_process:
        return None
    metadata = write_trained(net.to(device), data, config, out, identity, seed=seed, origin=origin, training=trained)
    Checkpoint(out / CHECKPOINT, identity).remove()
    return metadata


def write_trained(
    net: GhostNet,
    data: Data,
    config: Training,
    out: Path,
    identity: Identity,
    *,
    seed: int,
    origin: Origin,
    training: Outcome,
) -> TrainedMetadata:
    """Tests a network that is trained, on its own device, and writes the folder `out`."""
    arch = net.arch
    tested = accuracy(net, data, data.test, arch.resolution)
    costs = cost(arch, data.num_classes, data.in_chs)
    weights = to_bytes(net)
    metadata = TrainedMetadata(
        schema=TRAINED_SCHEMA,
        arch=arch.id,
        macs=costs.macs,
        params=costs.params,
        resolution=arch.resolution,
        loaded_at=data.test.resolution if data.test.resolution != arch.resolution else None,
        num_classes=data.num_classes,
        in_chs=data.in_chs,
        data=data.name,
        mean=list(data.mean),
        std=list(data.std),
        classes=list(data.classes),
        seed=seed,
        init=str(origin.init) if origin.init else None,
        teacher=origin.teacher,
        config=config.model_dump(mode="json"),
        identity=identity,
        test_accuracy=tested,
        test_images=len(data.test),
        weights_sha256=sha256(weights).hexdigest(),
        training=training,
        warnings=[
            *schedule_warnings(training),
            *chance_warnings(tested, data.test.labels, "test accuracy"),
        ],
    )
    write_text(out / ARCH_FILE, arch.to_json())
    write_bytes(out / WEIGHTS_FILE, weights)
    write_record(out / TRAINED_FILE, metadata)  # last: a folder with this file is a finished network
    return metadata


def fresh_network(arch: Arch, data: Data, config: Training, seed: int) -> GhostNet:
    """An untrained network for a data set, with the recipe's dropout."""
    generator = torch.Generator().manual_seed(seed)
    return GhostNet(arch, data.num_classes, data.in_chs, config.drop_rate, config.drop_path, generator)


def train_network(
    net: GhostNet,
    data: Data,
    config: Training,
    teacher: teachers.Teacher | None,
    *,
    checkpoint: Path | None,
    identity: Identity,
    seed: int,
    device: torch.device,
    title: str | None,
    box: TimeBox | None = None,
    head_only: bool = False,
) -> Outcome:
    """Trains a network in place, on labels and by a teacher; see `search.training.loop.fit`. After a training too short
    for them its norms are estimated once more.

    Args:
        head_only: all but the classifier stays as it is, norms included.
    """
    net = net.to(device).to(memory_format=torch.channels_last).train(not head_only)
    net.requires_grad_(not head_only).classifier.requires_grad_(True)
    run = torch.compile(net) if config.compile else net
    mix = Mixing(config, data.num_classes, World.current().size)
    loss = Loss(config, teacher)

    def loss_of(images: Tensor, targets: Tensor) -> Tensor:
        return loss(run(resized(images, net.arch.resolution)), targets, images)

    through = passes(net, loss_of, config, device)

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> float | Tensor:
        return through(*mix(images, labels, rng))

    trained = fit(
        net,
        data,
        config,
        step,
        checkpoint=checkpoint,
        identity=identity,
        seed=seed,
        device=device,
        title=title,
        box=box,
    )
    net.requires_grad_(True)
    short = trained.steps - trained.skipped_steps < NORM_WARM_UP
    if short and not head_only and World.current().is_main_process:
        recalibrate(net, data, config, net.arch.resolution)
    return trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One full training among several.

    Args:
        weight: of its share in a time box.
        initial_seed: as of `retrain`.
    """

    name: str
    arch: Arch
    seed: int
    out: Path
    weight: float = 1.0
    initial_seed: int | None = None

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.seed if self.initial_seed is None else self.initial_seed}"
