"""Full training: one architecture or several, by one seed or several."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ghostnet.arch import Arch
from search.commands.shared import (
    ARCH,
    Address,
    DataName,
    Json,
    Minutes,
    Out,
    Resume,
    Seed,
    Workers,
    answer,
    find_arch,
    fresh,
    recipe_for,
)
from search.errors import UserError

if TYPE_CHECKING:
    from search.data import Data
    from search.recipe import Training
    from search.training.retrain import Job


def retrain(
    archs: Annotated[list[str], typer.Argument(metavar="ARCH...", help=ARCH)],
    data: DataName = "digits",
    out: Out = Path("results/retrained"),
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="digits, cifar10, cifar10-fast, imagenet, imagenet-timm, or a .toml (by data)."),
    ] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.01, help="Others than the recipe's.")] = None,
    seed: Seed = 0,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Several, such as 0,1,2: mean and spread.")] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="A supernet's or a network's folder whose weights to begin with.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="supernet:FOLDER, network:FOLDER or timm:NAME, to learn from, too.")
    ] = None,
    minutes: Minutes = None,
    workers: Workers = 1,
    address: Address = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train architectures fully: the recipe's [retrain] part. Each is evaluated once on the test split.

    Several workers train several networks side by side, or one network together. Also under torchrun.
    """
    from search import sources
    from search.recipe import load_retraining

    named = _named(archs)
    config, limit = load_retraining(recipe or recipe_for(data))
    config = config.model_copy(update={"epochs": epochs} if epochs else {})
    drawn = _seeds(seeds) if seeds else [seed]
    sources.check(data)
    if teacher:
        sources.check_teacher(teacher)
    if init and not init.is_dir():
        raise UserError(f"no folder {init}")
    places = {(name, k): _place(out, name, k, len(named), len(drawn)) for name in named for k in drawn}
    for place in places.values():
        fresh(place, resume, "trained.json")
    from search.data import load as load_data
    from search.training.retrain import Job

    loaded = load_data(data, max(arch.resolution for arch in named.values()), limit)
    jobs = [Job(name=name, arch=named[name], seed=k, out=place) for (name, k), place in places.items()]
    cards = _train(jobs, loaded, config, minutes, workers, address, {"init": init, "teacher": teacher})
    if not all(cards):  # another process of torchrun's speaks
        return
    if len(jobs) == 1:
        card = cards[0]
        answer(card, f"{card['test_accuracy']:.2%} on {card['test_images']} test images: {out}", as_json)
        return
    found = _summary(jobs, cards)
    from search.files import write_json

    write_json(out / "summary.json", found)
    answer({"networks": found}, f"{_words(found)}\n{out}", as_json)


def _train(
    jobs: "list[Job]",
    data: "Data",
    config: "Training",
    minutes: float | None,
    workers: int,
    address: str | None,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """The cards of all jobs, finished ones from before included; a time box is shared out among what is left."""
    from search.files import read_json
    from search.training.retrain import CARD, retrain

    waiting = [job for job in jobs if not (job.out / CARD).exists()]
    if len(waiting) > 1 and (workers > 1 or address):
        from search.workers import SideBySide

        seconds = None if minutes is None else 60 * minutes * min(workers, len(waiting)) / len(waiting)
        SideBySide(data, workers, address).retrain(waiting, config, seconds=seconds, **options)
        return [read_json(job.out / CARD) for job in jobs]
    from search.pipeline import best_device

    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    cards = {job: read_json(job.out / CARD) for job in jobs if job not in waiting}
    for k, job in enumerate(waiting):
        left = None if deadline is None else max(1.0, (deadline - time.monotonic()) / (len(waiting) - k))
        here = {"seed": job.seed, "seconds": left, **options}
        if workers > 1 or address:
            from search.workers import train_network

            cards[job] = train_network(job.arch, data, config, job.out, workers=workers, address=address, **here)
        else:
            title = f"{job.name} seed {job.seed}" if len(jobs) > 1 else f"retrain {job.arch.id}"
            cards[job] = retrain(job.arch, data, config, job.out, device=best_device(), title=title, **here)
    return [cards[job] for job in jobs]


def _named(archs: list[str]) -> dict[str, Arch]:
    """Architectures by the names of their folders: the file's, its folder's, or the name that was given."""
    found: dict[str, Arch] = {}
    for text in archs:
        path, arch = Path(text), find_arch(text)
        there = path.resolve()
        name = there.name if path.is_dir() else there.parent.name if path.name == "arch.json" else there.stem
        if not path.exists():  # a name such as cifar:0.5x
            name = text.replace(":", "-").replace("/", "-")
        if name in found:
            name = f"{name}-{arch.id}"
        if name in found:
            raise UserError(f"architecture {text} is there twice")
        found[name] = arch
    return found


def _seeds(text: str) -> list[int]:
    """`0,1,2` -> its numbers"""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds are different whole numbers from 0 with commas, such as 0,1,2, not {text!r}")
    return seeds


def _place(out: Path, name: str, seed: int, archs: int, seeds: int) -> Path:
    """Where a network goes: `out` itself if it is the only one, else a folder for each network and seed."""
    place = out / name if archs > 1 else out
    return place / f"seed-{seed}" if seeds > 1 else place


def _summary(jobs: "list[Job]", cards: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean test accuracy over seeds, and its spread: the sample's standard deviation, where there are two or more."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(job.name for job in jobs):
        mine = [(job, card) for job, card in zip(jobs, cards, strict=True) if job.name == name]
        accuracies = [card["test_accuracy"] for _, card in mine]
        found[name] = {
            "arch": mine[0][0].arch.id,
            "macs": mine[0][1]["macs"],
            "params": mine[0][1]["params"],
            "seeds": [job.seed for job, _ in mine],
            "test_accuracy": accuracies,
            "mean": statistics.mean(accuracies),
            "spread": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            "test_images": mine[0][1]["test_images"],
        }
    return found


def _words(found: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, row in found.items():
        spread = "" if row["spread"] is None else f" +- {100 * row['spread']:.2f} over {len(row['seeds'])} seeds"
        lines.append(f"{name}: {row['mean']:.2%}{spread}, {row['macs']:,} multiply-adds")
    return "\n".join(lines)
