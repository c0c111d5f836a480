"""How good transplants are as they come out, over the 26 networks of `results/cifar10` that were trained fully.

From the repository's root; it goes on where it was stopped. Parents are folders with `arch.json` and
`weights.safetensors`: GhostNets of 16 x 16 pixels, trained on the same images; by default the two that are committed.

    python results/weights/transplants.py --data parquet:../shared/data/cifar10

`--fitter NAME=FILE` measures another implementation beside ours: a Python file with a class `Transplant(parent,
images)`, which is called with an architecture.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from ghostnet import Arch, GhostNet, Transplants
from ghostnet.parent import load_parent
from search.data.datasets import load_data
from search.files import read_json, write_json, write_text
from search.recipes.schema import Training, load_recipe
from search.report.markdown import paragraph
from search.training.evaluate import accuracy
from search.training.inherited import fitting_images

HERE = Path(__file__).parent
PARENTS = [HERE / "parent", HERE.parent / "ghostbench" / "parent"]
RESULT = "transplants.json"
OURS = "ghostnas"


def trained_networks() -> dict[str, dict[str, Any]]:
    """The published networks' rows by id: code, multiply-adds, mean accuracy after full training."""
    rows = [row for name in ("study", "law") for row in read_json(HERE.parent / f"cifar10/{name}.json")["networks"]]
    return {row["arch"]: row for row in rows if "code" in row}


def fitter(path: Path, parent: GhostNet, images: torch.Tensor) -> Callable[[Arch], GhostNet]:
    """Another implementation's, from a Python file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[[Arch], GhostNet] = module.Transplant(parent, images)
    return made


def without_macs(values: NDArray[np.float64], macs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a quadratic in log multiply-adds leaves of values."""
    size = np.log(macs)
    left: NDArray[np.float64] = values - np.polyval(np.polyfit(size, values, 2), size)
    return left


def agreement(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean accuracy as fitted, and how it ranks the networks as full training does."""
    fitted, trained, macs = (np.array([row[key] for row in rows], float) for key in ("fitted", "trained", "macs"))
    left = [without_macs(values, macs) for values in (fitted, trained)]
    return {
        "networks": len(rows),
        "mean": float(fitted.mean()),
        "kendall_tau": float(kendalltau(fitted, trained).statistic),
        "residual_tau": float(kendalltau(*left).statistic),
        "cpu_seconds_a_network": float(np.median([row["cpu_seconds"] for row in rows])),
    }


def answer(found: dict[str, Any]) -> str:
    """The page in a few sentences."""
    fits = {
        (parent, each["by"], each["images"]): each["summary"]
        for parent, known in found["parents"].items()
        for each in known["fits"]
        if "summary" in each
    }
    most = max(images for *_, images in fits)
    least = min(images for _, by, images in fits if by == OURS)
    ours = {parent: s for (parent, by, images), s in fits.items() if by == OURS and images == most}
    few = {parent: s for (parent, by, images), s in fits.items() if by == OURS and images == least}

    def span(values: Iterable[float], form: str = ".2f") -> str:
        return " and ".join(f"{value:{form}}" for value in values)

    def all_of(fits: dict[str, dict[str, float]], key: str, form: str = ".2f") -> str:
        return span((summary[key] for summary in fits.values()), form)

    lost = span((100 * (ours[parent]["mean"] - summary["mean"]) for parent, summary in few.items()), ".1f")
    text = (
        f"Without any training, networks that are fitted to a parent have {all_of(ours, 'mean', '.1%')} of the test "
        f"images right on average, by parent, and rank as their full trainings do with a Kendall tau of "
        f"{all_of(ours, 'kendall_tau')}. On {most:,} images one takes {all_of(ours, 'cpu_seconds_a_network')} s of a "
        f"core; on {least:,} {all_of(few, 'cpu_seconds_a_network')} s, for {lost} points less and a tau of "
        f"{all_of(few, 'kendall_tau')}."
    )
    if theirs := [(parent, by) for parent, by, images in fits if by != OURS and images == most]:
        ahead = span((100 * (ours[parent]["mean"] - fits[parent, by, most]["mean"]) for parent, by in theirs), "+.1f")
        text += f" Beside the prototype, on as many images: {ahead} points (the goal of 3)."
    return paragraph(text)


def page(found: dict[str, Any]) -> str:
    lines = [
        "# Transplants as they come out",
        "",
        answer(found),
        "",
        "Top-1 accuracy on CIFAR-10's 10,000 test images at 16 x 16 of the 26 networks of `results/cifar10` (space",
        "`cifar16`), fitted to a trained GhostNet 1.3x and not trained; how they rank against full training (Kendall's",
        "tau), also after a quadratic in log multiply-adds is taken from both.",
        "Seconds are of one core's CPU time, the median, on a machine that did other work meanwhile. *prototype*: the",
        "first implementation of the idea, one file, which is not part of this repository.",
        "",
        "| parent, % | fitted by | on images | mean, % | tau | residual tau | CPU seconds a network |",
        "|---|---|---|---|---|---|---|",
    ]
    for parent, known in found["parents"].items():
        for each in known["fits"]:
            if s := each.get("summary"):  # all networks are there
                lines.append(
                    f"| `{parent}`, {100 * known['accuracy']:.1f} | {each['by']} | {each['images']:,} | "
                    f"{100 * s['mean']:.1f} | {s['kendall_tau']:.2f} | {s['residual_tau']:.2f} | "
                    f"{s['cpu_seconds_a_network']:.2f} |"
                )
    lines += ["", "The command and every network's figures: `transplants.py`, `transplants.json`.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--parent", type=Path, nargs="+", default=PARENTS)
    parser.add_argument("--train-images", type=int, default=10_000, help="as the parent was trained on")
    parser.add_argument("--images", type=int, nargs="+", default=[4096, 1024, 512], help="that networks are fitted on")
    parser.add_argument("--fitter", action="append", default=[], help="NAME=FILE")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = load_recipe("cifar10-small").search_space
    data = load_data(arguments.data, space.resolution, arguments.train_images)
    path = arguments.out / RESULT
    found: dict[str, Any] = {"parents": {}} | (read_json(path) if path.exists() else {})
    files = {OURS: None} | {name: Path(file) for name, file in (each.split("=", 1) for each in arguments.fitter)}
    networks = trained_networks()
    for folder, count, (name, file) in product(arguments.parent, arguments.images, files.items()):
        parent, key = load_parent(folder), f"{folder.resolve().parent.name}/{folder.name}"
        if key not in found["parents"]:
            found["parents"][key] = {"accuracy": accuracy(parent, data, data.test), "fits": []}
        fits = found["parents"][key]["fits"]
        fit = next((each for each in fits if (each["by"], each["images"]) == (name, count)), None)
        if fit is None:
            fits.append(fit := {"by": name, "images": count, "networks": {}})
        rows = fit["networks"]
        if missing := [arch for arch in networks if arch not in rows]:
            images = fitting_images(data, count, Training(epochs=1))
            extract = Transplants(parent, images).extract if file is None else fitter(file, parent, images)
            for each in missing:
                begun = time.process_time()
                net = extract(space.decode(np.array(networks[each]["code"]))).to(memory_format=torch.channels_last)
                seconds = time.process_time() - begun
                rows[each] = {
                    "macs": networks[each]["macs"],
                    "trained": float(np.mean(networks[each]["test_accuracy"])),
                    "fitted": accuracy(net, data, data.test),
                    "cpu_seconds": round(seconds, 3),
                }
                write_json(path, found)
        fit["summary"] = agreement(list(rows.values()))
        write_json(path, found)
        write_text(arguments.out / "transplants.md", page(found))
        print(key, name, count, fit["summary"], flush=True)


if __name__ == "__main__":
    main()
