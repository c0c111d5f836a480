"""Supernets, and full training of networks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Unpack

from ghostnet.arch import Arch
from search.api import Place
from search.data.datasets import Data
from search.errors import check_minutes
from search.files import write_json
from search.folders import locked
from search.parallel import workers as side_by_side
from search.parallel.cluster import Cluster, ClusterOptions, show_options
from search.pipeline.retrain_stage import SeedSummary, summarise_seeds, train_all
from search.recipes.schema import Retraining, load_recipe, load_retraining, recipe_name, supernet_part
from search.run_folder.run import SUMMARY_FILE, retrained_folders
from search.seeds import check_seed
from search.training.distributed import World, best_device
from search.training.evaluate import InheritedAccuracy
from search.training.inherited import inherited_accuracy
from search.training.metadata import read_metadata, space_for, usual_teacher
from search.training.origin import Origin
from search.training.records import SupernetMetadata, TrainedMetadata
from search.training.result_warnings import print_warnings
from search.training.retrain import Job
from search.training.supernets import make_supernet
from search.training.time_box import TimeBox
from spaces.find import find_arch
from spaces.space import Space

__all__ = [
    "InheritedAccuracy",
    "SeedSummary",
    "SupernetMetadata",
    "TrainedMetadata",
    "open_supernet",
    "retrain_network",
    "retrain_networks",
    "train_supernet",
]


@show_options
def train_supernet(
    space: Space,
    data: Data,
    out: Place,
    *,
    recipe: str | None = None,
    kind: Literal["transplant", "elastic"] | None = None,
    parent: Place | None = None,
    epochs: float | None = None,
    lr: float | None = None,
    seed: int = 0,
    minutes: float | None = None,
    **cluster: Unpack[ClusterOptions],
) -> SupernetMetadata:
    """Trains a supernet, which gives weights to every network of a space, into the folder `out`.

    Args:
        recipe: whose `[supernet]` part it is: a name of ours or a .toml file; None: by data.
        kind: another than the recipe's. A transplanted one is one trained GhostNet, the parent, that every network is
            fitted to; an elastic one shares its weights.
        parent: a transplanted one's: a checkpoint, a folder or timm:NAME; None trains the space's widest.
        epochs: others than the recipe's, and than its `min_steps`.
        lr: another rate than the recipe's.
        minutes: a time box for what is still to do.
        workers, address: processes of Ray's, and the cluster that they are on; None: this machine.

    Raises:
        UserError: a recipe or a parent that can't be had or doesn't fit, a folder that holds another training, or what
            the training refuses.
    """
    seed = check_seed(seed)
    given, out = None if parent is None else str(parent), Path(out)
    config = supernet_part(load_recipe(recipe_name(recipe, data.name)).supernet, kind, given)
    config = config.changed(epochs=epochs, lr=lr)
    fitted, box, where = space_for(space, data.num_classes, data.in_chs), _box(minutes), Cluster(**cluster)
    written: SupernetMetadata | None
    if where.is_spread:
        written = side_by_side.train_supernet(fitted, data, config, out, where, seed=seed, box=box)
    else:
        written = make_supernet(fitted, data, config, out, seed=seed, device=best_device(), box=box)
    World.current().wait()
    metadata = written or read_metadata(out)[0]  # of torchrun's processes, one has written it
    if World.current().is_main_process:
        print_warnings("supernet", metadata.warnings)
    return metadata


def open_supernet(folder: Place, data: Data) -> InheritedAccuracy:
    """A finished supernet: called with an architecture, it gives the accuracy on the search split with the supernet's
    weights, in [0, 1]; its `network(arch)` is that network.

    Raises:
        UserError: the folder holds none, or one of other classes or channels than the data's.
    """
    return inherited_accuracy(Path(folder), data)


@show_options
def retrain_network(
    arch: Arch | Place,
    data: Data,
    out: Place,
    *,
    recipe: str | None = None,
    epochs: float | None = None,
    lr: float | None = None,
    init: Place | None = None,
    teacher: str | None = None,
    seed: int = 0,
    minutes: float | None = None,
    **cluster: Unpack[ClusterOptions],
) -> TrainedMetadata:
    """Trains an architecture fully into the folder `out`, and evaluates it once on the test split.

    Args:
        arch: an architecture, its file or folder, or a name such as `ghostnet-1.0`.
        recipe: whose `[retrain]` part it is: a name of ours or a .toml file; None: by data.
        epochs: others than the recipe's, and than its `min_steps`.
        lr: another rate than the recipe's.
        init: a supernet's or a network's folder whose weights it begins with; None: fresh ones.
        teacher: who is learned from, too: `supernet:FOLDER`, `network:FOLDER`, `timm:NAME`, or `none`; None: the
            parent, where it begins as a transplant.
        minutes: a time box for what is still to do.
        workers, address: processes of Ray's that train it together, and their cluster; None: this machine.

    Raises:
        UserError: weights or a teacher that don't fit, a folder that holds another training, or what the training
            refuses.
    """
    arch, out = arch if isinstance(arch, Arch) else find_arch(arch), Path(out)
    config = _retraining(recipe, data, epochs, lr)
    (metadata,) = train_all(
        [Job(name=out.name, arch=arch, seed=check_seed(seed), out=out)],
        data,
        config,
        soup=config.soup,
        origin=_origin(init, teacher),
        box=_box(minutes),
        cluster=Cluster(**cluster),
    )
    return metadata


@show_options
def retrain_networks(
    archs: Mapping[str, Arch],
    data: Data,
    out: Place,
    *,
    recipe: str | None = None,
    epochs: float | None = None,
    lr: float | None = None,
    init: Place | None = None,
    teacher: str | None = None,
    seeds: Sequence[int] = (0,),
    minutes: float | None = None,
    **cluster: Unpack[ClusterOptions],
) -> dict[str, SeedSummary]:
    """Trains several architectures fully, each by every seed, into `out/NAME/seed-K`; where there is one of either,
    without its folder. Several workers train several networks side by side.

    Returns accuracies, their mean and spread by the networks' names; they also stand in `summary.json`.

    Args:
        archs: by the names of their folders. The others are those of `retrain_network`.

    Raises:
        UserError: no network, no seed, a name that is no folder's, or what `retrain_network` refuses.
    """
    out, config = Path(out), _retraining(recipe, data, epochs, lr)
    folders = retrained_folders(out, list(archs), [check_seed(seed) for seed in seeds])
    jobs = [Job(name=name, arch=archs[name], seed=seed, out=folder) for (name, seed), folder in folders.items()]
    records = train_all(
        jobs,
        data,
        config,
        soup=config.soup,
        origin=_origin(init, teacher),
        box=_box(minutes),
        cluster=Cluster(**cluster),
    )
    summary = summarise_seeds(jobs, records)
    if World.current().is_main_process:
        with locked(out):
            write_json(out / SUMMARY_FILE, {name: asdict(each) for name, each in summary.items()})
    return summary


def _retraining(recipe: str | None, data: Data, epochs: float | None, lr: float | None) -> Retraining:
    return load_retraining(recipe_name(recipe, data.name))[0].changed(epochs=epochs, lr=lr)


def _origin(init: Place | None, teacher: str | None) -> Origin:
    begin = None if init is None else Path(init)
    return Origin(init=begin, teacher=usual_teacher(teacher, begin))


def _box(minutes: float | None) -> TimeBox | None:
    check_minutes(minutes)
    return None if minutes is None else TimeBox(60 * minutes)
