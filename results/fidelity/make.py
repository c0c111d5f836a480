"""Fidelity of several supernets, against the same fully trained networks: CIFAR-10 at 16 x 16, the `digits` space.

From the repository's root, the first two side by side if there are two cores; each goes on where it was stopped. With a
GPU: `--device cuda --space cifar --images 45000 --epochs 60 --supernet-epochs 120` in `make.py`'s three.

    python results/fidelity/make.py networks --data parquet:../shared/data/cifar10
    python results/fidelity/make.py supernets --data parquet:../shared/data/cifar10
    python results/fidelity/judged.py --data parquet:../shared/data/cifar10
    python results/fidelity/tuned.py --data parquet:../shared/data/cifar10
    python results/fidelity/corrected.py
    python results/fidelity/norms.py alone --data parquet:../shared/data/cifar10
    python results/fidelity/norms.py supernets --data parquet:../shared/data/cifar10
    python results/fidelity/make.py report --data parquet:../shared/data/cifar10
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page import page
from per_ratio import PerRatioNormSupernet
from slots import SlotSupernet
from unscaled import UnscaledPerRatioSupernet, UnscaledSupernet

from ghostnet.arch import Arch
from ghostnet.supernet import Supernet
from search.accuracy.ranking_study import PLAN, RESULT, agreement, fidelity, study_networks, trainings
from search.accuracy.study import StudyNetwork
from search.data.datasets import Data, load_data
from search.data.splits import Split
from search.files import read_json, write_bytes, write_json, write_text
from search.recipes.schema import SupernetTraining, Training
from search.records import record_json
from search.training.elastic import load_inherited, train_supernet
from search.training.metadata import read_metadata, space_for
from search.training.records import SUPERNET_FILE, TRAINED_FILE
from search.training.retrain import retrain
from spaces.space import Space

HERE = Path(__file__).parent
SEED = 0
JUDGES = 10_000  # images by which inherited accuracies are measured, where so many are left
FULL: dict[str, Any] = {"batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, "warmup_epochs": 1}
BASE: dict[str, Any] = {"batch_size": 64, "lr": 0.1, "weight_decay": 5e-5, "warmup_epochs": 1, "random": 2}
BASE |= {"draws": "uniform"}
LONG, SHORT = {"epochs": 4.0, "images": 1.0}, {"epochs": 0.4, "images": 2.0}  # times the arguments' figures
# Name: what it is, how long, changes to the recipe, how weights are shared.
SUPERNETS: dict[str, tuple[str, dict[str, float], dict[str, Any], type[Supernet]]] = {
    "long": ("by position, sandwich of four, in-place KL", LONG, {}, Supernet),
    "long-unscaled": ("nothing scaled where no norm follows", LONG, {}, UnscaledSupernet),
    "short": ("as `long`, a fifth of the steps", SHORT, {}, Supernet),
    "slots": ("hidden channels and cheap filters shared by slot", SHORT, {}, SlotSupernet),
    "labels": ("the smaller networks learn from the labels", SHORT, {"divergence": "labels"}, Supernet),
    "fair": ("a step's random networks differ in every gene", SHORT, {"draws": "fair"}, Supernet),
    "even": ("random networks drawn evenly over multiply-adds", SHORT, {"draws": "even"}, Supernet),
    "norms": ("norms of their own for each ratio", SHORT, {}, PerRatioNormSupernet),
    "alpha": ("clipped alpha-divergence in place of KL", SHORT, {"divergence": "alpha"}, Supernet),
    "slots-labels": ("`slots` and `labels` together", SHORT, {"divergence": "labels"}, SlotSupernet),
    "short-unscaled": ("nothing scaled where no norm follows", SHORT, {}, UnscaledSupernet),
    "gentle": ("unscaled, a fifth of the learning rate", SHORT, {"lr": 0.02}, UnscaledSupernet),
    "ratios": ("unscaled, Ghost weights of their own for each ratio", SHORT, {}, UnscaledPerRatioSupernet),
}


def opened(about: str, out: Path) -> tuple[argparse.Namespace, Space, Data]:
    """What the experiments beside this one begin with: its networks' space, and the images that judge them."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--work", type=Path, default=Path("results/work-fidelity"))
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = space_for("digits", 10, 3)
    return arguments, space, judging(load_data(arguments.data, space.resolution, arguments.images), space, arguments)


def planned(space: Space, arguments: argparse.Namespace) -> dict[str, Arch]:
    """The published study's networks, or for another space new ones, written into the work folder."""
    path = arguments.work / PLAN
    if not path.exists() and (space.name, arguments.count) == ("digits", 24):
        write_bytes(path, (HERE / PLAN).read_bytes())
    return study_networks(space, arguments.count, SEED, path)


def train_networks(space: Space, data: Data, arguments: argparse.Namespace) -> None:
    config, archs = Training(epochs=arguments.epochs, **FULL), planned(space, arguments)
    trained_before(archs, arguments)
    for name, arch in archs.items():
        for job in trainings(name, arch, arguments.work / "networks" / name, SEED, arguments.seeds):
            retrain(arch, data, config, job.out, seed=job.seed, device=torch.device(arguments.device))


def train_supernets(space: Space, data: Data, arguments: argparse.Namespace) -> None:
    for name in arguments.only or SUPERNETS:
        _, long, changes, kind = SUPERNETS[name]
        config = SupernetTraining(**(BASE | {"epochs": long["epochs"] * arguments.supernet_epochs} | changes))
        out, device = arguments.work / name, torch.device(arguments.device)
        its_data = seen(data, space, long["images"], arguments)
        train_supernet(space, its_data, config, out, seed=SEED, device=device, kind=kind)


def seen(data: Data, space: Space, times: float, arguments: argparse.Namespace) -> Data:
    """The data with so many times the training images."""
    return data if times == 1 else load_data(arguments.data, space.resolution, round(times * arguments.images))


def judging(data: Data, space: Space, arguments: argparse.Namespace) -> Data:
    """The data with a larger search split, of training images that no supernet has seen: 2,500 rank like networks by
    luck."""
    rest = load_data(arguments.data, space.resolution).train
    assert isinstance(rest, Split)
    shown = round(max(long["images"] for _, long, _, _ in SUPERNETS.values()) * arguments.images)
    unseen = Split(rest.images[shown:][:JUDGES].clone(), rest.labels[shown:][:JUDGES])
    return replace(data, search=unseen) if len(unseen) > len(data.search) else data


def trained_before(archs: dict[str, Arch], arguments: argparse.Namespace) -> None:
    """Networks that were fully trained for the published study needn't be again: their accuracies stand there."""
    published = next((read_json(path) for path in sorted(HERE.glob(f"*/{RESULT}"))), None)
    if published is None or published["training"]["epochs"] != arguments.epochs:
        return
    config = Training(epochs=arguments.epochs, **FULL).model_dump(mode="json")
    for row in published["networks"]:
        if row["arch"] not in archs:
            continue
        jobs = trainings(row["arch"], archs[row["arch"]], arguments.work / "networks" / row["arch"], SEED, 99)
        for job, accuracy in zip(jobs, row.get("trained_by_seed", [row["trained"]]), strict=False):
            if not (job.out / TRAINED_FILE).exists():
                write_json(job.out / TRAINED_FILE, {"config": config, "seed": job.seed, "test_accuracy": accuracy})


def report(space: Space, data: Data, arguments: argparse.Namespace) -> None:
    from search.accuracy.study import read_study
    from search.report.fidelity import write_page

    studies, archs = {}, planned(space, arguments)
    trained_before(archs, arguments)
    data = judging(data, space, arguments)
    for name, (about, long, _, kind) in SUPERNETS.items():
        folder, published = arguments.work / name, arguments.out / name / RESULT
        if not (folder / SUPERNET_FILE).exists():
            if published.exists():
                studies[name] = ranked_anew(read_json(published), archs, arguments)
                write_json(published, studies[name])
                write_page(read_study(arguments.out / name / RESULT), arguments.out / name)
            continue
        its_data = replace(data, train=seen(data, space, long["images"], arguments).train)
        write_json(folder / "fidelity" / PLAN, {name: arch.to_dict() for name, arch in archs.items()})
        result = fidelity(
            partial(load_inherited, folder, its_data, kind),
            space,
            its_data,
            Training(epochs=arguments.epochs, **FULL),
            folder / "fidelity",
            count=arguments.count,
            bins=4,
            seed=SEED,
            seeds=arguments.seeds,
            device=torch.device(arguments.device),
            trained=arguments.work / "networks",
        )
        trained = record_json(read_metadata(folder)[0].training)
        evaluate = load_inherited(folder, its_data, kind)
        assert isinstance(evaluate.supernet, Supernet)
        evaluate.supernet.to(arguments.device)
        ends = {"largest": evaluate(space.largest), "smallest": evaluate(space.smallest)}
        studies[name] = {"about": about, "supernet": trained | ends, **record_json(result)}
        write_json(arguments.out / name / RESULT, studies[name])
        write_page(read_study(arguments.out / name / RESULT), arguments.out / name)
    write_text(arguments.out / "README.md", page(studies, {name: each[0] for name, each in SUPERNETS.items()}, space))


def ranked_anew(study: dict[str, Any], archs: dict[str, Arch], arguments: argparse.Namespace) -> dict[str, Any]:
    """A published study against the full trainings that there are by now."""
    rows = []
    for row in study["networks"]:
        jobs = trainings(
            row["arch"], archs[row["arch"]], arguments.work / "networks" / row["arch"], SEED, arguments.seeds
        )
        by_seed = [read_json(job.out / TRAINED_FILE)["test_accuracy"] for job in jobs]
        rows.append(row | {"trained": float(np.mean(by_seed)), "trained_by_seed": by_seed})
    ranking = agreement([StudyNetwork.model_validate(row) for row in rows], 4, SEED)
    return study | {"seeds": arguments.seeds, **record_json(ranking), "networks": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("networks", "supernets", "report"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=SUPERNETS, help="which supernets to train")
    parser.add_argument("--space", default="digits")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="full trainings of each network")
    parser.add_argument("--supernet-epochs", type=float, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("results/work-fidelity"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = space_for(arguments.space, 10, 3)
    data = load_data(arguments.data, space.resolution, arguments.images)
    {"networks": train_networks, "supernets": train_supernets, "report": report}[arguments.part](space, data, arguments)


if __name__ == "__main__":
    main()
