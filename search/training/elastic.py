"""Supernet training: the sandwich rule with in-place distillation (Yu and Huang, ICCV 2019; BigNAS, ECCV 2020).

In every step the largest network learns from the labels, and some random ones and the smallest from the largest's
detached predictions. Gradients of all accumulate into one update. Regularisation is on the largest only.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.resize import resized
from ghostnet.supernet import Supernet
from ghostnet.weights import read_weights, to_bytes
from search.data.datasets import Data
from search.errors import UserError, first_line
from search.files import write_bytes
from search.identity import Identity
from search.progress import best_effort
from search.recipes.schema import SupernetTraining
from search.records import write_record
from search.training.checkpoint import CHECKPOINT, Checkpoint
from search.training.distillation import DIVERGENCES
from search.training.distributed import World
from search.training.evaluate import InheritedAccuracy
from search.training.loop import fit
from search.training.metadata import (
    SUPERNET_WEIGHTS,
    read_finished,
    read_metadata,
    supernet_config,
    supernet_metadata,
    training_identity,
)
from search.training.records import SUPERNET_FILE, SupernetMetadata
from search.training.result_warnings import chance_warnings, schedule_warnings
from search.training.time_box import TimeBox
from spaces.population import sample
from spaces.space import Space
from spaces.tables import macs_table

__all__ = ["load_inherited", "load_supernet", "new_supernet", "train_supernet"]
WATCHED = 3  # random networks whose accuracy is followed
EVEN_FROM = 64  # networks from which one is drawn evenly over multiply-adds


def train_supernet(
    space: Space,
    data: Data,
    config: SupernetTraining,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device,
    box: TimeBox | None = None,
    kind: type[Supernet] = Supernet,
) -> SupernetMetadata | None:
    """Trains a supernet of `space` on the training split and writes the folder `out`; resumes what is there, returns
    what is finished.

    Returns the metadata that are also written: space, data and the result of the training; None in those of torchrun's
    processes that write nothing.

    Raises:
        UserError: the folder holds another training, another process is at work in it, or what the training loop
            refuses.
    """
    identity = training_identity({"space": space.id, "kind": kind.__name__}, data, config, seed)
    with World.current().locked(out):
        return read_finished(out / SUPERNET_FILE, SupernetMetadata, identity) or _train(
            space, data, config, out, identity, seed=seed, device=device, box=box, kind=kind
        )


def _train(
    space: Space,
    data: Data,
    config: SupernetTraining,
    out: Path,
    identity: Identity,
    *,
    seed: int,
    device: torch.device,
    box: TimeBox | None,
    kind: type[Supernet],
) -> SupernetMetadata | None:
    supernet = new_supernet(space, seed, kind).to(device).to(memory_format=torch.channels_last)
    supernet.drop_rate, supernet.drop_path = config.drop_rate, config.drop_path
    divergence = DIVERGENCES.get(config.divergence)  # none: they learn from the labels, too
    draw = partial(DRAWS[config.draws], space, config.random)

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> float:
        logits = supernet(resized(images, space.largest.resolution), space.largest, regularise=True)
        loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        loss.backward()
        teacher = logits.detach()
        for arch in [*draw(rng), space.smallest]:
            student = supernet(resized(images, arch.resolution), arch)
            (divergence(student, teacher) if divergence else F.cross_entropy(student, labels)).backward()
        return loss.item()

    watched = {"largest": space.largest, "smallest": space.smallest}
    rng = np.random.default_rng([seed, WATCHED])
    watched |= {f"random {k + 1}": space.sample(rng) for k in range(WATCHED)}

    def probe(net: nn.Module) -> dict[str, float]:
        assert isinstance(net, Supernet)
        evaluate = InheritedAccuracy(net, data, config)
        return {f"accuracy/{name}": evaluate(arch) for name, arch in watched.items()}

    trained = fit(
        supernet,
        data,
        config,
        step,
        checkpoint=out / CHECKPOINT,
        identity=identity,
        seed=seed,
        device=device,
        title="supernet",
        box=box,
        probe=probe,
    )
    if not World.current().is_main_process:
        return None
    doubts = schedule_warnings(trained)
    with best_effort("the largest network's accuracy"):
        largest = InheritedAccuracy(supernet, data, config)(space.largest)
        doubts += chance_warnings(largest, data.search.labels, "the largest network's accuracy")
    metadata = supernet_metadata(
        space,
        data,
        seed,
        identity,
        kind="elastic",
        config=config.model_dump(mode="json"),
        training=trained,
        warnings=doubts,
    )
    write_bytes(out / SUPERNET_WEIGHTS, to_bytes(supernet))
    write_record(out / SUPERNET_FILE, metadata)  # last: a folder with this file is a finished supernet
    Checkpoint(out / CHECKPOINT, identity).remove()
    return metadata


def uniform(space: Space, count: int, rng: np.random.Generator) -> list[Arch]:
    """Networks drawn uniformly."""
    return [space.sample(rng) for _ in range(count)]


def even(space: Space, count: int, rng: np.random.Generator) -> list[Arch]:
    """Networks drawn evenly over multiply-adds: each, of some uniform ones, the nearest to a uniform target."""
    sampled = []
    for _ in range(count):
        codes = sample(space, rng, EVEN_FROM)
        macs = macs_table(space).total(codes)
        sampled.append(space.decode(codes[np.abs(macs - rng.uniform(macs.min(), macs.max())).argmin()]))
    return sampled


def fair(space: Space, count: int, rng: np.random.Generator) -> list[Arch]:
    """Networks that differ in every gene as far as it has choices: each choice stands in as many of them as any other,
    or one more (strict fairness, Chu et al., FairNAS, ICCV 2021)."""
    columns = [rng.permuted(np.resize(rng.permutation(choices), count)) for choices in space.choices]
    return [space.decode(code) for code in np.stack(columns, 1)] if count else []


DRAWS = {"uniform": uniform, "even": even, "fair": fair}


def new_supernet(space: Space, seed: int = 0, kind: type[Supernet] = Supernet) -> Supernet:
    """A supernet that covers a space, with weights drawn from `seed`; `kind` says how they are shared."""
    generator = torch.Generator().manual_seed(seed)
    return kind(space.bounds, space.num_classes, space.in_chs, generator=generator)


def load_supernet(folder: Path, kind: type[Supernet] = Supernet) -> Supernet:
    """A finished supernet, in evaluation mode, on the CPU.

    Raises:
        UserError: the folder holds none.
    """
    _, space = read_metadata(folder)
    supernet = new_supernet(space, kind=kind)
    try:
        supernet.load_state_dict(read_weights(folder / SUPERNET_WEIGHTS)[0])
    except RuntimeError as error:
        raise UserError(f"{folder / SUPERNET_WEIGHTS}: {first_line(error)}") from None
    return supernet.eval()


def load_inherited(folder: Path, data: Data, kind: type[Supernet] = Supernet) -> InheritedAccuracy:
    """Inherited accuracy of the networks of a finished supernet, on the CPU.

    Raises:
        UserError: the folder holds none.
    """
    return InheritedAccuracy(
        load_supernet(folder, kind), data, supernet_config(read_metadata(folder)[0], SupernetTraining)
    )
