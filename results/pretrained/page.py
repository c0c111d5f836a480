"""The study's figures and page, from what `make.py` has trained so far: `study.json`, `front.png`, `README.md`.

python results/pretrained/page.py --work results/pretrained/work
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from ghostnet import Arch
from ghostnet.files import ARCH_FILE
from search.engine.baselines import BaselineCurve
from search.figures.style import SERIES, WIDTH, canvas, png
from search.files import JsonLines, glob, read_json, write_bytes, write_json, write_text
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable, describe
from search.recipes.schema import load_recipe
from search.report.markdown import paragraph, table
from search.run_folder.run import TIMES
from search.training.records import PARENT, TRAINED_FILE, read_trained
from spaces.quantities import format_count

HERE = Path(__file__).parent
WAYS = ("pretrained", "head", "scratch", "elastic")
STAGES = ("train", "search", "retrain")
FAMILY, TAUGHT, FRESH = "ghostnets", "ghostnets-taught", "ghostnets-fresh"
PAGE = (HERE / "page.md").read_text(encoding="utf-8")
MEASURED = HERE / "measured.json"
TABLE = HERE / "onnxruntime-1t.lat.json"
GOALS = {("pretrained", "scratch"): 5.0, ("pretrained", FAMILY): 0.0}  # points, on average over the seeds
PROOF = (27, 28, 29)  # seeds of which the measure was decided before they were begun
PAIRS = (
    *GOALS,
    ("pretrained", TAUGHT),
    ("pretrained", "head"),
    ("head", FAMILY),
    ("head", "scratch"),
    ("pretrained", "elastic"),
    ("pretrained", FRESH),
    ("scratch", "elastic"),
    (FAMILY, FRESH),
)
LABELS = {
    "pretrained": "found, from a pretrained GhostNet",
    "head": "found, from a pretrained GhostNet as it is",
    "scratch": "found, from scratch",
    "elastic": "found, elastic supernet",
    FAMILY: "GhostNets, pretrained",
    TAUGHT: "GhostNets, pretrained, taught by the parent",
    FRESH: "GhostNets, from scratch",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A network of a seed.

    Args:
        way: that it is of: one of `LABELS`.
        measured_ms: side by side with all the others; None: not yet.
        test_accuracy: in [0, 1], on the 1,000 test pictures.
    """

    seed: int
    way: str
    name: str
    arch: str
    macs: int
    predicted_ms: float
    measured_ms: float | None
    test_accuracy: float

    @property
    def latency_ms(self) -> float:
        return self.measured_ms or self.predicted_ms


class Collector:
    """Rows from the folders that make.py writes."""

    def __init__(self, work: Path) -> None:
        self.work, self.measured = work, read_json(MEASURED) if MEASURED.exists() else {}
        space = load_recipe(str(HERE / "pretrained.toml")).search_space
        self.space, self.predict = space, Predictor(LatencyTable.load(TABLE), space)

    def row(self, seed: int, way: str, name: str, folder: Path) -> Row:
        trained, arch = read_trained(folder / TRAINED_FILE), Arch.load(folder / ARCH_FILE)
        predicted = round(float(self.predict(self.space.encode(arch)).latency_ms[0]), 4)
        measured = self.measured.get(arch.id)
        return Row(seed, way, name, arch.id, trained.macs, predicted, measured, trained.test_accuracy)

    def rows(self) -> Iterable[Row]:
        for file in glob(self.work, f"*/networks/*/{TRAINED_FILE}"):
            if (file.parents[2] / TIMES).exists():  # else the front is not whole yet
                way, _, seed = file.parents[2].name.rpartition("-")
                name = file.parent.name
                parents = {"pretrained": FAMILY, "scratch": FRESH}  # of another way it is trained as that of the first
                if group := parents.get(way) if name == PARENT else way:
                    yield self.row(int(seed), group, name, file.parent)
        for file in glob(self.work, f"ghostnets-*/*/{TRAINED_FILE}"):
            seed, name = file.parents[1].name.rpartition("-")[2], file.parent.name
            families = {"tuned": FAMILY, "taught": TAUGHT, "fresh": FRESH}
            yield self.row(int(seed), families[name.partition("-")[0]], name, file.parent)


def curve(rows: Sequence[Row]) -> BaselineCurve:
    """The networks that no faster one of them beats."""
    return BaselineCurve((row.latency_ms, row.test_accuracy) for row in rows)


def points_above(rows: Sequence[Row], others: Sequence[Row]) -> float | None:
    """How many points networks lie above the line of others at their own latency, on average; those that are faster
    than all others count for nothing. Above the slowest, the line is level."""
    baselines = curve(others)
    above = np.array([baselines.gain(row.latency_ms, row.test_accuracy) for row in rows])
    return None if np.isnan(above).all() else 100 * float(np.nanmean(above))


def points_with_faster(rows: Sequence[Row], others: Sequence[Row]) -> float:
    """The same, but one that is faster than all others is compared with the fastest of them, though that takes longer:
    as if their line were level there, too, which favours them."""
    baselines = curve(others)
    fastest = float(baselines.costs[0])
    return 100 * statistics.mean(baselines.gain(max(row.latency_ms, fastest), row.test_accuracy) for row in rows)


def time_saved(rows: Sequence[Row], others: Sequence[Row]) -> list[float | None]:
    """For every network on the line of others by how much less time the fastest takes that is no less accurate, as a
    share; None where none is as accurate."""
    saved: list[float | None] = []
    baselines = curve(others)
    for ms, accuracy in zip(baselines.costs, baselines.accuracies, strict=True):
        fit = [row.latency_ms for row in rows if row.test_accuracy >= accuracy]
        saved.append(1 - min(fit) / float(ms) if fit else None)
    return saved


def compare(rows: Sequence[Row], way: str, other: str) -> dict[str, Any] | None:
    """`points_above`, seed by seed, and their mean; None where no seed has both."""
    by_seed: dict[int, float] = {}
    with_faster: dict[int, float] = {}
    saved: list[float | None] = []
    for seed in sorted({row.seed for row in rows}):
        mine, others = ([row for row in rows if row.seed == seed and row.way == each] for each in (way, other))
        if mine and others and (points := points_above(mine, others)) is not None:
            by_seed[seed] = round(points, 2)
            with_faster[seed] = round(points_with_faster(mine, others), 2)
            saved += time_saved(mine, others)
    if not by_seed:
        return None
    shares = [share for share in saved if share is not None]
    return {
        "way": way,
        "other": other,
        "seeds": by_seed,
        "mean": round(statistics.mean(by_seed.values()), 2),
        "with_faster": with_faster,
        "time_saved": round(statistics.mean(shares), 3) if shares else None,
        "reached": [len(shares), len(saved)],
    }


Place = tuple[str, dict[int, Row], dict[int, Row], dict[int, Row]]


def places(rows: Sequence[Row]) -> list[Place]:
    """GhostNet by GhostNet, fastest first: its width, and by seed it, the same taught by the parent, and the network
    that was found within its latency."""

    def column(way: str, name: str) -> dict[int, Row]:
        return {row.seed: row for row in rows if (row.way, row.name) == (way, name)}

    family = {row.name: row.predicted_ms for row in rows if row.way == FAMILY and row.name != PARENT}
    found = sorted({row.name for row in rows if row.way == "pretrained"})  # A, B, ...: by latency
    widths = [name.partition("-")[2] for name in sorted(family, key=family.__getitem__)]
    return [
        (width, column(FAMILY, f"tuned-{width}"), column(TAUGHT, f"taught-{width}"), column("pretrained", letter))
        for width, letter in zip(widths, found, strict=False)
    ]


def points_more(mine: dict[int, Row], others: dict[int, Row]) -> dict[int, float]:
    """By how many points networks are more accurate than others, by the seeds that have both."""
    return {s: 100 * (mine[s].test_accuracy - others[s].test_accuracy) for s in mine if s in others}


def in_their_places(rows: Sequence[Row], *, taught: bool = False) -> dict[int, float]:
    """By seed, by how many points found networks are more accurate than the GhostNets whose places they take, in the
    mean over these; of seeds that have them all."""
    above = [points_more(found, other if taught else alone) for _, alone, other, found in places(rows)]
    whole = set.intersection(*map(set, above)) if above else set()
    return {seed: statistics.mean(each[seed] for each in above) for seed in sorted(whole)}


def in_place(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each GhostNet: it, what was found in its place, and by how many points that is more accurate, on
    average over the seeds, with an interval over them; also than the taught one."""

    def above(mine: dict[int, Row], others: dict[int, Row]) -> str:
        return with_interval([*points_more(mine, others).values()])

    def means(each: dict[int, Row]) -> list[str]:
        ms = statistics.mean(row.latency_ms for row in each.values())
        return [f"{ms:.3f}", f"{100 * statistics.mean(row.test_accuracy for row in each.values()):.1f}"]

    lines = [
        [f"GhostNet {width}", *means(alone), *means(found), above(found, alone), above(found, taught)]
        for width, alone, taught, found in places(rows)
    ]
    mean = [in_their_places(rows, taught=taught) for taught in (False, True)]
    return [*lines, ["**all five**", "", "", "", "", *(with_interval([*each.values()]) for each in mean)]]


def headline(rows: Sequence[Row]) -> str:
    """The same as a table, with how often they are faster; it stands in the project's README, too."""
    heads = ("in place of", "ms", "accuracy, %", "found: ms", "accuracy, %", "points", "points, taught alike")
    return f"{table(heads, in_place(rows))}\n\n{how_many_are_faster(rows)}"


def how_many_are_faster(rows: Sequence[Row]) -> str:
    """Of those found, than the GhostNets whose places they take, as timed side by side."""
    pairs = [(alone[s], found[s]) for _, alone, _, found in places(rows) for s in alone.keys() & found.keys()]
    others = [found.latency_ms / alone.latency_ms - 1 for alone, found in pairs if found.arch != alone.arch]
    slower = [share for share in others if share >= 0]
    text = (
        f"Of these {len(pairs)} networks {len(others) - len(slower)} are faster than the GhostNet in whose place they "
    )
    text += f"stand, {len(pairs) - len(others)} are that very network"
    text += f", and {len(slower)} are slower, by {min(slower):.1%} to {max(slower):.1%}" if slower else ""
    return paragraph(f"{text}.")


def with_interval(above: Sequence[float]) -> str:
    """A mean over seeds, and Student's 95 % interval."""
    if not above:
        return "-"
    low, high = interval(above)
    return f"**{statistics.mean(above):+.1f}** ({low:+.1f} to {high:+.1f})"


def spent_minutes(work: Path) -> dict[str, dict[str, float]]:
    """Of the processor, by way and seed, stage by stage."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for entry in JsonLines(work / "seconds.jsonl"):
        what = [str(each) for each in entry["what"]]
        spent["-".join(what[:2])][what[2] if len(what) > 2 else what[0]] += entry["seconds"] / 60
    return {key: {stage: round(value, 2) for stage, value in stages.items()} for key, stages in spent.items()}


def study(work: Path) -> dict[str, Any]:
    """The figures, as they are committed."""
    rows = list(Collector(work).rows())
    if not all(row.measured_ms for row in rows):  # then all by the table
        rows = [replace(row, measured_ms=None) for row in rows]
    rows.sort(key=lambda row: (row.seed, row.way, row.latency_ms))
    pretrained = {file.parent.name: read_trained(file) for file in glob(work, f"pretrained/*/{TRAINED_FILE}")}
    return {
        "pretraining": {name: each.test_accuracy for name, each in pretrained.items()},
        "networks": [asdict(row) for row in rows],
        "comparisons": [found for pair in PAIRS if (found := compare(rows, *pair))],
        "minutes": spent_minutes(work),
    }


def draw(rows: Sequence[Row]) -> bytes:
    """Each seed's fronts and GhostNets, three seeds side by side."""
    seeds = sorted({row.seed for row in rows})
    shape = {"ncols": min(3, len(seeds)), "nrows": -(-len(seeds) // 3)}
    size = 3.4 * shape["nrows"] + 0.8, max(WIDTH, 3.4 * shape["ncols"] + 0.6)
    with canvas(*size, **shape, sharex=True, sharey=True, squeeze=False) as (figure, all_axes):
        for axes, seed in zip(all_axes.flat, seeds, strict=False):
            for way, colour in zip(LABELS, SERIES[: len(LABELS)], strict=True):
                mine = [row for row in rows if row.seed == seed and row.way == way]
                if not mine:
                    continue
                axes.plot(
                    [row.latency_ms for row in mine],
                    [100 * row.test_accuracy for row in mine],
                    "o",
                    color=colour,
                    ms=4,
                    label=LABELS[way],
                )
                best, style = curve(mine), "-" if way in WAYS else "--"
                axes.plot(best.costs, 100 * best.accuracies, color=colour, lw=1, ls=style)
            axes.set(xlabel="ms" if seed in seeds[-shape["ncols"] :] else "", title=f"seed {seed}")
        for axes in all_axes[:, 0]:
            axes.set_ylabel("test accuracy, %")
        labelled = (axes.get_legend_handles_labels() for axes in all_axes.flat)
        marks = {label: mark for marks, labels in labelled for mark, label in zip(marks, labels, strict=True)}
        shown = [label for label in LABELS.values() if label in marks]
        figure.legend([marks[label] for label in shown], shown, loc="outside upper center", ncols=2)
        return png(figure)


def page(figures: dict[str, Any], rows: Sequence[Row]) -> str:
    """The page's text, `page.md` with the figures in it."""
    networks = []
    for row in rows:
        cells = [str(row.seed), LABELS.get(row.way, row.way), row.name, format_count(row.macs)]
        measured = f"{row.measured_ms:.3f}" if row.measured_ms else "-"
        numbers = [f"{row.predicted_ms:.3f}", measured, f"{100 * row.test_accuracy:.1f}"]
        networks.append([*cells, *numbers])
    compared, points = [], defaultdict(lambda: "?")  # of what is still to be run
    for each in figures["comparisons"]:
        name = f"{each['way']}_{each['other']}".replace("-", "_")
        mean = points[name] = f"{each['mean']:+.1f}"
        seeds = points[f"{name}_seeds"] = ", ".join(f"{value:+.1f}" for value in each["seeds"].values())
        points[f"{name}_interval"] = interval_text([*each["seeds"].values()])
        faster_too = each["with_faster"].values()
        points[f"{name}_with_faster"] = f"{statistics.mean(faster_too):+.1f}"
        points[f"{name}_with_faster_seeds"] = ", ".join(f"{value:+.1f}" for value in faster_too)
        least = GOALS.get((each["way"], each["other"]))
        if least is not None:
            points[f"goal_{each['other']}".replace("-", "_")] = judged(list(each["seeds"].values()), least)
        reached, count = each["reached"]
        saved = each["time_saved"]
        share = "-" if saved is None else f"{100 * saved:.0f} %"
        less = "less" if saved is None or saved >= 0 else "more"
        points[f"{name}_saved"] = f"{share.lstrip('-')} {less} time ({reached} of {count} are reached)"
        compared.append(
            [LABELS[each["way"]], LABELS[each["other"]], f"**{mean}**", seeds, f"{share} ({reached}/{count})"]
        )
    spent = []
    for way in WAYS:
        mine = [stages for key, stages in figures["minutes"].items() if key.rpartition("-")[0] == way]
        mine = [stages for stages in mine if set(STAGES) <= stages.keys()]  # of whole ways
        if mine:
            means = [statistics.mean(each.get(stage, 0.0) for each in mine) for stage in STAGES]
            spent.append([LABELS[way], *(f"{value:.1f}" for value in [*means, sum(means)])])
    pretraining = [sum(stages.values()) for key, stages in figures["minutes"].items() if key.startswith("pretrain-")]
    return PAGE.format_map(
        points
        | {
            "seeds": f"{len({row.seed for row in rows})} seeds",
            "pretraining": ", ".join(f"{100 * value:.1f} % ({name})" for name, value in figures["pretraining"].items()),
            "proof": proof(rows),
            "in_place": headline(rows),
            "pretraining_minutes": f", after {sum(pretraining):.0f} minutes of one core in all" if pretraining else "",
            "networks": table(
                ("seed", "way", "network", "multiply-adds", "predicted ms", "measured ms", "test accuracy, %"), networks
            ),
            "compared": table(
                (
                    "networks",
                    "beside",
                    "points at equal latency",
                    "seed by seed",
                    "less time at equal accuracy (reached)",
                ),
                compared,
            ),
            "spent": table(("way", "weights", "search", "full trainings", "all"), spent),
            "latency_says": describe_latency(rows),
            "fast": "; ".join(faster(rows)),
            "missing": missing(rows),
        }
    )


def proof(rows: Sequence[Row]) -> str:
    """What the seeds say whose measure was decided before."""
    said = []
    for taught in (False, True):
        above = [v for seed, v in in_their_places(rows, taught=taught).items() if seed in PROOF]
        if len(above) < len(PROOF):
            return "not run yet"
        seeds = ", ".join(f"{value:+.1f}" for value in above)
        text = f"{statistics.mean(above):+.1f} points ({interval_text(above)}: {seeds})"
        said.append(f"{text}; the goal, above them: {judged(above, 0.0)}" if not taught else text)
    saved = [
        1 - found[seed].latency_ms / alone[seed].latency_ms for _, alone, _, found in places(rows) for seed in PROOF
    ]
    said[0] += f". Each takes {min(saved):.0%} to {max(saved):.0%} less time"
    return f"{said[0]}. Beside the same five, taught by the search's parent: {said[1]}"


def interval(by_seed: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean over seeds; endless where there is one seed."""
    if len(by_seed) < 2:
        return -np.inf, np.inf
    half = t.ppf(0.975, len(by_seed) - 1) * statistics.stdev(by_seed) / len(by_seed) ** 0.5
    mean = statistics.mean(by_seed)
    return mean - half, mean + half


def interval_text(by_seed: Sequence[float]) -> str:
    """The same in words."""
    low, high = interval(by_seed)
    return f"95 % interval over seeds {low:+.1f} to {high:+.1f}"


def judged(by_seed: Sequence[float], least: float) -> str:
    """Whether a goal is met, and whether that could be chance: where it lies inside the interval over seeds."""
    low, high = interval(by_seed)
    verdict = "met" if statistics.mean(by_seed) >= least else "missed"
    return f"{verdict}, but within chance" if low <= least <= high else verdict


def faster(rows: Sequence[Row]) -> Iterable[str]:
    """What is found faster than any of the pretrained GhostNets, which no comparison at equal latency counts."""
    for seed in sorted({row.seed for row in rows}):
        found, family = ([row for row in rows if row.seed == seed and row.way == way] for way in ("pretrained", FAMILY))
        fastest = min((row.latency_ms for row in family), default=0.0)
        if fast := [row for row in found if row.latency_ms < fastest]:
            best = max(fast, key=lambda row: row.test_accuracy)
            accuracy, ms = 100 * best.test_accuracy, best.latency_ms
            yield f"{accuracy:.1f} % at {ms:.3f} ms (the fastest GhostNet: {fastest:.3f} ms)"


def missing(rows: Sequence[Row]) -> str:
    """What has not been run yet."""
    seeds, lines = {row.seed for row in rows}, []
    for way, label in LABELS.items():
        if lacking := sorted(seeds - {row.seed for row in rows if row.way == way}):
            lines.append(f"{label} ({', '.join(map(str, lacking))})")
    return f" *Not run*, by seeds: {'; '.join(lines)}." if lines else ""


def describe_latency(rows: Sequence[Row]) -> str:
    """Where the latencies that networks are compared at come from."""
    measured_on, validation = describe(LatencyTable.load(TABLE)), LatencyTable.load(TABLE).validation
    table_text = (
        f"{measured_on.runtime}, {measured_on.device}; its error on {validation.networks} networks that it never saw "
        f"is {validation.mape:.1%}, its Kendall tau {validation.kendall_tau:.2f}"
    )
    if all(row.measured_ms for row in rows):
        return f"Searches went by a table ({table_text}); here latency is measured, of all networks side by side."
    return f"Latency is predicted, by a table ({table_text}); `make.py --part measure` times all networks side by side."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "work")
    figures = study(parser.parse_args().work)
    write_json(HERE / "study.json", figures)
    rows = [Row(**row) for row in figures["networks"]]
    write_bytes(HERE / "front.png", draw(rows))
    write_text(HERE / "README.md", page(figures, rows))


if __name__ == "__main__":
    main()
