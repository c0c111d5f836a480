"""Single networks: full training, and export with proof."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from search.commands.shared import (
    DataName,
    Json,
    Minutes,
    Out,
    RecipeName,
    Resume,
    Seed,
    answer,
    find_arch,
    fresh,
    recipe_for,
)
from search.errors import UserError


def retrain(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    data: DataName = "digits",
    out: Out = Path("results/retrained"),
    recipe: RecipeName = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train one architecture fully, from scratch: the recipe's [retrain] part. Evaluated once on the test split."""
    from search import sources
    from search.recipe import load

    network, plan = find_arch(arch), load(recipe or recipe_for(data))
    config = plan.retrain
    sources.check(data)
    fresh(out, resume, "trained.json")
    from search.data import load as load_data
    from search.pipeline import best_device
    from search.training.retrain import retrain as train_fully

    loaded = load_data(data, network.resolution, plan.train_images)
    seconds = None if minutes is None else 60 * minutes
    card = train_fully(network, loaded, config, out, seed=seed, device=best_device(), seconds=seconds)
    answer(card, f"{card['test_accuracy']:.2%} on {card['test_images']} test images: {out}", as_json)


def export(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    weights: Annotated[Path, typer.Option("--weights", help="A .safetensors or .pth file.")],
    to: Annotated[str, typer.Option("--to", help="onnx, safetensors, pt2; several with commas.")] = "onnx,safetensors",
    out: Out = Path("results/exported"),
    as_json: Json = False,
) -> None:
    """Export a trained network, each file proven to give the network's outputs."""
    network = find_arch(arch)
    if not weights.exists():
        raise UserError(f"no file {weights}")
    fresh(out, False, "manifest.json")
    import torch

    from ghostnet.weights import network as load_network
    from search.delivery.export import check_formats
    from search.delivery.export import export as write_network

    formats = [name.strip() for name in to.split(",")]
    check_formats(formats)
    net = load_network(network, weights)
    in_chs = net.in_chs
    card = weights.with_name("trained.json")
    facts: dict[str, Any] = {}
    if card.exists():
        trained = json.loads(card.read_text(encoding="utf-8"))
        keys = ("data", "classes", "mean", "std", "seed", "training")
        facts = {"accuracy": {"test": trained["test_accuracy"]}, **{key: trained[key] for key in keys}}
    none = torch.empty(0, in_chs, network.resolution, network.resolution)
    manifest = write_network(net, out, formats, none, facts)
    answer(manifest, f"{', '.join(manifest['files'])}: {out}", as_json)
