"""A supernet is what gives weights to every network of a space, by `extract(arch)`. Here both kinds are made;
`search.training.inherited` opens them again.

*Elastic* supernets share their weights (`search.training.elastic`). *Transplanted* ones have a parent, one trained
GhostNet, to which each network is fitted on demand by least squares (`ghostnet.transplant`); the parent is given, or
the widest GhostNet of the space is trained first.
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch

from ghostnet.arch import Arch
from ghostnet.files import ARCH_FILE, WEIGHTS_FILE
from ghostnet.network import GhostNet
from ghostnet.parent import is_path, load_parent
from ghostnet.weights import load_network, to_bytes
from search.data.datasets import Data
from search.errors import UserError
from search.files import write_bytes, write_text
from search.identity import digest, file_digest
from search.recipes.schema import ParentTraining, SupernetTraining, check_fitted
from search.records import write_record
from search.training import retrain as full
from search.training.checkpoint import CHECKPOINT
from search.training.distributed import World
from search.training.elastic import train_supernet
from search.training.evaluate import accuracy
from search.training.known_images import known_images, other_classes
from search.training.metadata import (
    read_finished,
    supernet_metadata,
    training_identity,
)
from search.training.origin import AS_NAMED, Located
from search.training.records import (
    PARENT,
    SUPERNET_FILE,
    Fitting,
    ParentMetadata,
    SupernetMetadata,
    TrainedMetadata,
)
from search.training.result_warnings import normalisation_warnings, tuning_warnings
from search.training.time_box import TimeBox
from spaces.space import Space

GIVEN = "given"  # in the parent's: the weights that it began with


def make_supernet(
    space: Space,
    data: Data,
    config: SupernetTraining | ParentTraining,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device,
    box: TimeBox | None = None,
    located: Located = AS_NAMED,
) -> SupernetMetadata | None:
    """Trains what a supernet of either kind needs and writes the folder `out`; resumes what is there.

    Args:
        located: where the given parent lies on this machine, by the path that names it, if elsewhere.

    Returns the metadata that is also written; None in those of torchrun's processes that write nothing.

    Raises:
        UserError: a parent that can't be had or doesn't fit the space, or what the training loop refuses.
    """
    if isinstance(config, ParentTraining):
        return train_parent(space, data, config, out, seed=seed, device=device, box=box, located=located)
    return train_supernet(space, data, config, out, seed=seed, device=device, box=box)


def train_parent(
    space: Space,
    data: Data,
    config: ParentTraining,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device,
    box: TimeBox | None = None,
    located: Located = AS_NAMED,
) -> SupernetMetadata | None:
    """A transplanted supernet in the folder `out`: the parent is trained there, or brought there as it is.

    Returns the metadata that is also written; None in those of torchrun's processes that write nothing.

    Raises:
        UserError: a parent that can't be had or doesn't fit the space, or what the training loop refuses.
    """
    check_fitted("transplant", space)
    parent = given_parent(space, config, located)
    arch = parent.arch if parent else widest(space)
    trainable: full.Trainable = "all"
    before, fits = None, False
    if parent and config.parent:
        source = located.get(Path(config.parent), config.parent)
        before = known_images(source) if is_path(source) else None
        others = other_classes(before, data) is not None
        fits = not others and (parent.num_classes, parent.in_chs) == (data.num_classes, data.in_chs)
        trainable = "head" if config.tune == "head" else "none" if fits and not config.tune else "all"
        if not fits:
            parent = load_parent(
                source,
                num_classes=data.num_classes,
                in_chs=data.in_chs,
                fresh_head=others,
                generator=torch.Generator().manual_seed(seed),
            )
            parent.arch = arch
    fitting = Fitting.from_keys(config)
    what = {"space": space.id, "kind": "transplant", **fitting.identity}
    what |= {"parent": None if parent is None else digest(sha256(to_bytes(parent)).hexdigest())}
    identity = training_identity(what, data, config.model_copy(update={"parent": None}), seed)
    with World.current().locked(out):
        if metadata := read_finished(out / SUPERNET_FILE, SupernetMetadata, identity):
            return metadata
        init = None
        if parent is not None:
            init = out / PARENT / GIVEN
            _write_given(parent, init, config.parent)
        trained = full.retrain(
            arch,
            data,
            config,
            out / PARENT,
            seed=seed,
            device=device,
            box=box,
            title="parent",
            init=init,
            trainable=trainable,
        )
        if not trained:  # another process of torchrun's writes
            return None
        doubts = list(trained.warnings)
        if parent and fits and trainable != "none":
            tuned = load_network(arch, out / PARENT / WEIGHTS_FILE)
            was, now = (accuracy(net.to(device), data, data.search, arch.resolution) for net in (parent, tuned))
            doubts += tuning_warnings(was, now, len(data.search))
        if before and trainable == "none":
            doubts += normalisation_warnings(before, data.mean, data.std)
        known = supernet_metadata(
            space,
            data,
            seed,
            identity,
            kind="transplant",
            config=trained.config,
            training=trained.training,
            warnings=doubts,
        )
        parent_metadata = ParentMetadata(
            arch=arch.id,
            origin=config.parent,
            test_accuracy=trained.test_accuracy,
            macs=trained.macs,
            params=trained.params,
        )
        if isinstance(before, TrainedMetadata) and before.saw_held_out(data.fingerprint):
            parent_metadata = parent_metadata.model_copy(update={"saw_search_images": True})
        metadata = known.model_copy(update={**fitting.identity, "parent": parent_metadata})
        write_record(out / SUPERNET_FILE, metadata)  # last: a folder with this file is a finished supernet
        return metadata


def _write_given(parent: GhostNet, init: Path, name: str | None) -> None:
    """What a given parent's training begins with, beside which that may have come some way already.

    Raises:
        UserError: it has begun with other weights.
    """
    weights, file = to_bytes(parent), init / WEIGHTS_FILE
    if (init.parent / CHECKPOINT).exists() and file.exists() and file_digest(file) != sha256(weights).hexdigest():
        raise UserError(
            f"{init.parent} holds a training that began with {init}, which {name} is not: give another folder"
        )
    write_text(init / ARCH_FILE, parent.arch.to_json())
    write_bytes(file, weights)


def given_parent(space: Space, config: ParentTraining, located: Located = AS_NAMED) -> GhostNet | None:
    """The parent that a recipe names, at the resolution at which it is trained in a space; None where it names none.

    Args:
        located: where its file lies on this machine, if elsewhere.

    Raises:
        UserError: the space's networks can't be fitted to it, or there is none to train the classifier of.
        WeightsError: it can't be had.
    """
    if not config.parent:
        if config.tune == "head":
            raise UserError("a parent whose classifier alone is trained is given: `tune` = 'head' goes with `parent`")
        return None
    parent = load_parent(located.get(Path(config.parent), config.parent))
    parent.arch = shown_at(parent.arch, space)
    check_parent(parent.arch, space, config.parent)
    return parent


def widest(space: Space) -> Arch:
    """The space's own GhostNet at its greatest width; where the space has none (without s = 2, say), its largest."""
    return space.family.get(max(space.widths), space.largest)


def shown_at(parent: Arch, space: Space) -> Arch:
    """A given parent as it is trained in a space: at the space's largest resolution, where its own is none of the
    space's. A checkpoint doesn't say any, and a published GhostNet was shown 224 pixels."""
    resolutions = space.resolution_choices
    return parent if parent.resolution in resolutions else replace(parent, resolution=resolutions[-1])


def check_parent(arch: Arch, space: Space, name: str) -> None:
    """Whether networks of a space can be fitted to a parent: its strides, block by block, and head must be theirs.

    Raises:
        UserError: they can't.
    """
    theirs = space.largest
    for what, parents, spaces in (
        ("stem stride", arch.stem_stride, theirs.stem_stride),
        ("strides of the stages", [s[0].stride for s in arch.stages], [s[0].stride for s in theirs.stages]),
        ("strides inside stages", sorted({1} | {b.stride for s in arch.stages for b in s[1:]}), [1]),
        ("head_chs", arch.head_chs, theirs.head_chs),
    ):
        if parents != spaces:
            raise UserError(f"{name} can't be the parent of space {space.name}: {what} {parents}, not {spaces}")
