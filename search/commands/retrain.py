"""Full training: one architecture or several, by one seed or several."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

import search as api
from ghostnet.files import ARCH_FILE
from search.commands.shared import (
    ARCH,
    DataName,
    Epochs,
    Json,
    Minutes,
    Out,
    Rate,
    Resume,
    Seed,
    check_output,
    explicit_options,
    print_result,
    spread,
)
from search.errors import UserError
from search.parallel.cluster import ClusterOptions
from search.recipes.choices import retrain_recipes
from search.seeds import LARGEST_SEED

if TYPE_CHECKING:
    from ghostnet.arch import Arch


@spread
def retrain(
    context: typer.Context,
    archs: Annotated[list[str], typer.Argument(metavar="ARCH...", help=ARCH)],
    data: DataName = "digits",
    out: Out = Path("results/retrained"),
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help=f"{', '.join(retrain_recipes())}, or a .toml file (default: by data)."),
    ] = None,
    epochs: Epochs = None,
    lr: Rate = None,
    seed: Seed = 0,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Several, such as 0,1,2: mean and spread.")] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Weights to begin with: of a supernet's or a network's folder, or a checkpoint."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            help="Who is learned from, too: supernet:FOLDER, network:FOLDER, timm:NAME, or none (default: a parent).",
        ),
    ] = None,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
    **cluster: Unpack[ClusterOptions],
) -> None:
    """Train architectures fully: the recipe's [retrain] part. Each is evaluated once on the test split.

    Several workers train several networks side by side, or one network together. Also under torchrun.
    """
    from dataclasses import asdict

    from search.data import names as sources
    from search.recipes.schema import load_retraining, recipe_name
    from search.records import record_json
    from search.run_folder.run import retrained_folders
    from search.training.metadata import usual_teacher

    if seeds is not None and "--seed" in explicit_options(context):
        raise UserError(f"either --seed or --seeds, not both: --seeds {seeds!r:.80} names every seed")
    named = _archs_by_name(archs)
    config, limit = load_retraining(recipe_name(recipe, data))
    config.changed(epochs=epochs, lr=lr)
    seed_list = [seed] if seeds is None else _seeds(seeds)
    sources.check_data_name(data)
    if init and not init.exists():
        raise UserError(f"no folder or file {init}")
    if taught := usual_teacher(teacher, init):
        sources.check_teacher(taught)
    for folder in retrained_folders(out, list(named), seed_list).values():
        check_output(folder, resume, "trained.json")
    loaded = api.load_data(data, _side(archs, named.values(), init, taught), limit)
    from search.pipeline.retrain_stage import format_accuracies  # torch is there by now

    settings: Any = {
        "recipe": recipe,
        "epochs": epochs,
        "lr": lr,
        "init": init,
        "teacher": teacher,
        "minutes": minutes,
    }
    if len(named) == len(seed_list) == 1:
        (arch,) = named.values()
        metadata = api.retrain_network(arch, loaded, out, seed=seed_list[0], **settings, **cluster)
        message = f"{metadata.test_accuracy:.2%} on {metadata.test_images} test images: {out}"
        print_result(record_json(metadata), message, as_json)
        return
    summary = api.retrain_networks(named, loaded, out, seeds=seed_list, **settings, **cluster)
    networks = {name: asdict(each) for name, each in summary.items()}
    print_result({"networks": networks}, f"{format_accuracies(summary)}\n{out}", as_json)


def _side(paths: Iterable[str], archs: "Iterable[Arch]", init: Path | None, teacher: str | None) -> int:
    """The side at which images are loaded, and so cropped, before each network scales them to its own: the largest of
    the networks', of the spaces of supernets that they begin with or learn from, and of what they, or networks that
    they begin with or learn from, were trained at before. So what a run trained is trained alike, alone or beside
    others."""
    from search.data.names import teacher_source
    from search.training.metadata import read_metadata
    from search.training.records import SUPERNET_FILE

    sides = [arch.resolution for arch in archs]
    taught_by = teacher_source(teacher).folder if teacher else None
    for origin in filter(None, {init, taught_by}):
        if (origin / SUPERNET_FILE).exists():
            sides.append(read_metadata(origin)[1].resolution_choices[-1])
        elif origin.exists():
            sides.append(_loaded_at(origin))
    files = (path for path in map(Path, paths) if path.exists())
    return max(*sides, *(_loaded_at(path if path.is_dir() else path.parent) for path in files), 0)


def _loaded_at(place: Path) -> int:
    """The side at which the images were loaded of the network in a folder, or in a file of weights; 0 where that isn't
    known, or its own."""
    from ghostnet.files import network_folder, weights_file
    from search.export.manifest import known_metadata

    weights = weights_file(network_folder(place)) if place.is_dir() else place
    return (weights.is_file() and known_metadata(weights.parent, weights).loaded_at) or 0


def _archs_by_name(archs: list[str]) -> "dict[str, Arch]":
    """Architectures by the names of their folders: the file's, its folder's, or the name that was given."""
    from spaces.find import find_arch

    named: dict[str, Arch] = {}
    for text in archs:
        path, arch = Path(text), find_arch(text)
        there = path.resolve()
        name = there.name if path.is_dir() else there.parent.name if path.name == ARCH_FILE else there.stem
        if not path.exists():  # a name such as cifar:0.5x
            name = text.replace(":", "-").replace("/", "-")
        if name in ("", ".", ".."):  # of a file such as `...json`
            name = arch.id
        if arch in named.values():
            raise UserError(f"architecture {text} is there twice")
        if name in named:
            name = f"{name}-{arch.id}"
        if name in named:
            raise UserError(f"architecture {text} is there twice")
        named[name] = arch
    return named


def _seeds(text: str) -> list[int]:
    """`0,1,2` -> its numbers"""
    try:
        seeds = [int(part) for part in text.split(",")] if text.isascii() else []
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) > LARGEST_SEED or len(set(seeds)) < len(seeds):
        raise UserError(
            f"seeds are different whole numbers from 0 to {LARGEST_SEED} with commas, such as 0,1,2, not {text!r:.80}"
        )
    return seeds
