"""The recipe that `ghostnas init` writes, untouched, on pictures that nobody tuned GhostNAS on: forty classes of Tiny
ImageNet at 64 x 64. What the run finds, beside GhostNet in width given the same.

From the repository's root, on a quiet machine; it goes on where it was stopped:

    python results/tiny-imagenet/make.py --data parquet:../shared/data/tiny-imagenet-40 --work WORK --minutes 105

`--minutes` is the run's time box. GhostNets that it leaves out are trained afterwards as it trains its networks: from
transplants, taught by their parent, for as many steps. Then all networks are timed side by side.
"""

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import search
from ghostnet import Arch
from ghostnet.files import ARCH_FILE, WEIGHTS_FILE
from ghostnet.weights import load_network
from search.engine.baselines import BaselineCurve
from search.figures.style import SERIES, canvas, png
from search.files import glob, write_bytes, write_json, write_text
from search.latency.runtimes import table_runtime
from search.latency.time_networks import measure
from search.pipeline.retrain_stage import train_all
from search.pipeline.run import open_run
from search.pipeline.settings import RunSettings
from search.report.markdown import paragraph
from search.report.summary import Summary, summarise
from search.run_folder.run import NETWORKS, PRODUCTS, final_supernet, initial_weights, recorded_recipe
from search.training.records import PARENT, TRAINED_FILE, read_trained
from search.training.retrain import Job
from search.training.time_box import TimeBox

HERE = Path(__file__).parent
SIDE = 64
FOUND, FAMILY = "found", "GhostNet in width"
PARENT_WIDTH = "1.3x"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trained network.

    Args:
        names: a network may be found and a GhostNet in width at once.
        ms: timed side by side with all the others.
        accuracy: on the test pictures, in [0, 1].
        steps: of its training.
    """

    names: list[str]
    macs: int
    ms: float
    accuracy: float
    test_images: int
    steps: int

    @property
    def error(self) -> float:
        """One standard error of the accuracy."""
        return float((self.accuracy * (1 - self.accuracy) / self.test_images) ** 0.5)

    @property
    def kinds(self) -> list[str]:
        """What it is."""
        return sorted({FAMILY if name.endswith("x") else FOUND for name in self.names}, reverse=True)


def run_recipe(data: str, work: Path, minutes: float) -> None:
    """Writes the recipe and runs it, unless that is done."""
    recipe, out = work / "recipe.toml", work / "run"
    if not recipe.exists():
        search.propose_recipe(data, recipe, size=SIDE)
    if not (out / PRODUCTS["report"]).exists():
        search.run_recipe(str(recipe), out, minutes=minutes, resume=out.exists())


def train_family(work: Path) -> dict[Path, list[str]]:
    """Trains what GhostNets in width the run did not. The folders of all trained networks, and what each is called."""
    recipe, out = recorded_recipe(work / "run"), work / "run"
    folders: dict[str, Path] = {}
    names: dict[str, list[str]] = {}
    for file in glob(out / NETWORKS, f"*/{TRAINED_FILE}"):
        arch_id, name = Arch.load(file.parent / ARCH_FILE).id, file.parent.name
        folders.setdefault(arch_id, file.parent)
        names.setdefault(arch_id, []).extend([name] * (len(name) == 1))  # A, B, ...: the others are called by widths
    share = min(read_trained(each / TRAINED_FILE).training.share for each in folders.values() if each.name != PARENT)
    with open_run(recipe, out, RunSettings(resume=True)) as run:
        jobs = []
        for width, arch in run.space.family.items():
            names.setdefault(arch.id, []).append(f"{width:g}x")
            if arch.id not in folders:
                folders[arch.id] = work / "ghostnets" / f"{width:g}x"
                jobs.append(Job(name=f"{width:g}x", arch=arch, seed=recipe.seed, out=folders[arch.id]))
        origin = initial_weights(recipe, final_supernet(out))
        train_all(jobs, run.data, recipe.retrain, origin=origin, box=TimeBox(float("inf"), share))
    return {folder: names[arch] for arch, folder in folders.items()}


def timed_rows(folders: dict[Path, list[str]], summary: Summary) -> list[Row]:
    """The networks by rising latency."""
    assert summary.recipe and summary.table
    space, target = summary.space, table_runtime(summary.table.setting)
    nets = {str(folder): load_network(Arch.load(folder / ARCH_FILE), folder / WEIGHTS_FILE) for folder in folders}
    times = measure(target, {name: (net, (space.in_chs, SIDE, SIDE)) for name, net in nets.items()})
    rows = []
    for folder, names in folders.items():
        metadata = read_trained(folder / TRAINED_FILE)
        rows.append(
            Row(
                names=names,
                macs=metadata.macs,
                ms=round(times[str(folder)], 4),
                accuracy=metadata.test_accuracy,
                test_images=metadata.test_images,
                steps=metadata.training.steps,
            )
        )
    return sorted(rows, key=lambda row: row.ms)


def points_above(rows: Iterable[Row]) -> dict[str, float]:
    """How many points each found network lies above GhostNets in width of equal latency; those that are faster than
    all of these are left out."""
    rows = list(rows)
    family = BaselineCurve((row.ms, row.accuracy) for row in rows if FAMILY in row.kinds)
    gains = {row.names[0]: 100 * family.gain(row.ms, row.accuracy) for row in rows if FOUND in row.kinds}
    return {name: gain for name, gain in gains.items() if np.isfinite(gain)}


def beside_nearest(rows: Iterable[Row]) -> list[str]:
    """Each found network beside the GhostNet that is nearest in accuracy."""
    rows, texts = list(rows), []
    family = [row for row in rows if FAMILY in row.kinds]
    for row in (row for row in rows if FAMILY not in row.kinds):
        near = min(family, key=lambda other: abs(other.accuracy - row.accuracy))
        points, saved = 100 * (row.accuracy - near.accuracy), 100 * (1 - row.ms / near.ms)
        texts.append(f"{row.names[0]} has {points:+.1f} points and takes {saved:.0f} % less time than {near.names[-1]}")
    return texts


def draw(rows: list[Row]) -> bytes:
    """Accuracy over latency."""
    with canvas(3.6) as (figure, axes):
        for kind, colour, line in ((FAMILY, SERIES[1], "--"), (FOUND, SERIES[0], "-")):
            mine = [row for row in rows if kind in row.kinds]
            errors = [100 * row.error for row in mine]
            x, y = [row.ms for row in mine], [100 * row.accuracy for row in mine]
            axes.errorbar(x, y, errors, color=colour, marker="o", ms=4, lw=1, ls=line, capsize=2, label=kind)
        axes.set(xlabel="ms", ylabel="test accuracy, %")
        axes.legend()
        return png(figure)


def page(rows: list[Row], summary: Summary) -> str:
    """The page's text."""
    assert summary.recipe
    above = points_above(rows)
    lines = [
        f"| {', '.join(row.names)} | {row.macs / 1e6:.1f} | {row.ms:.2f} | "
        f"{100 * row.accuracy:.1f} +- {100 * row.error:.1f} | "
        f"{row.steps:,} |"
        for row in rows
    ]
    steps = sorted(row.steps for row in rows if row.names[-1] != PARENT_WIDTH)
    texts = {
        "above": ", ".join(f"{points:+.1f} ({name})" for name, points in above.items()) or "none is so slow",
        "nearest": "; ".join(beside_nearest(rows)),
        "least": f"{steps[0]:,}",
        "most": f"{steps[-1]:,}",
        "evaluated": str(len(summary.complete)),
        "trials": str(summary.recipe.search.trials),
        "minutes": ", ".join(f"{stage} {seconds / 60:.0f}" for stage, seconds in summary.seconds.items()),
    }
    paragraphs = [paragraph(part.format(**texts)) for part in PAGE]
    paragraphs.insert(3, "\n".join([*HEAD, *lines]))
    return "\n\n".join(paragraphs) + "\n"


HEAD = ("| network | M multiply-adds | ms | test accuracy, % | steps of full training |", "|---|---|---|---|---|")
PAGE = (
    "# The recipe of `ghostnas init`, untouched",
    "On forty classes of Tiny ImageNet at 64 x 64, on which nothing in GhostNAS was tuned, beside the GhostNet in "
    "width that is nearest in accuracy: {nearest}. Points above GhostNets of equal latency: "
    "{above}; those that are faster than all of these have none. One run, one seed, and two points are within "
    "chance.",
    "![Test accuracy over latency](front.png)",
    "A, B and C were found, C at times a GhostNet itself; the others are GhostNets in width, given the same: "
    "transplants of the same parent, the same teacher, {least} to {most} steps. 1.3x is the parent, which was "
    "trained alone, and again on the pictures that the search no longer needs. The error is one standard error of "
    "2,000 test pictures. Latency: ONNX Runtime, float32, one thread, all networks side by side.",
    "The run evaluated {evaluated} of {trials} networks in its time box. Minutes on one core: {minutes}. By the "
    "recipe's steps it would have taken many times as long, so these networks are far from trained to their end. "
    "It was made by the code as it was when a time box divided the trainings' time by a guess of what a teacher "
    "takes, which gave the first network more steps; all get equally many since.",
    "The command: `make.py`; the recipe as `init` wrote it: `recipe.toml`; figures: `networks.json`.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="parquet:../shared/data/tiny-imagenet-40")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--minutes", type=float, default=105.0)
    arguments = parser.parse_args()
    run_recipe(arguments.data, arguments.work, arguments.minutes)
    folders = train_family(arguments.work)
    summary = summarise(arguments.work / "run")
    rows = timed_rows(folders, summary)
    write_json(HERE / "networks.json", [asdict(row) for row in rows])
    write_text(HERE / "recipe.toml", (arguments.work / "recipe.toml").read_text())
    write_bytes(HERE / "front.png", draw(rows))
    write_text(HERE / "README.md", page(rows, summary))


if __name__ == "__main__":
    main()
