"""How few measurements a table for another target takes. From the repository's root, on a quiet machine:

    python results/latency/transfer.py measure --space imagenet --minutes 16
    python results/latency/transfer.py compare --space imagenet

`measure` calibrates every target that can be had here, each beside 100 networks that it never saw, and goes on where it
was stopped: 16 minutes a target, ten targets, under three hours. `compare` times nothing: of each target's log it
takes what a transfer would have measured in its time box (some networks, and as many units as fit, each once) and fits
that with the table of every other target as the source, from scratch, and as one scale. All are held against the same
100 networks. One to two minutes an ordered pair, 90 of them; a pair that was compared is kept.
`--targets onnxruntime-1t-b1,openvino-1t-b1` names some of the targets. What is published beside this is of `--space
digits --minutes 4.5`, beside other work on both cores all the time; on a quieter machine more pairs keep to what is
asked.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import UserError
from search.files import JsonLines, write_json, write_text
from search.latency.bench import all_units, measurement_plan
from search.latency.calibrate import calibrate, measurements_log
from search.latency.fallback import fit as fit_fallback
from search.latency.fitting import fit_table
from search.latency.measurements import Measurement
from search.latency.predictor import Predictor, Units
from search.latency.runtimes import Dtype, runtime
from search.latency.table import Entry, LatencyTable
from search.latency.timing.device import now
from search.latency.timing.rounds import NETWORK_MEASUREMENTS, pilot_units
from search.latency.transfer import transfer_units
from search.rank_correlation import KendallTau
from search.report.markdown import paragraph
from spaces import Space, named_space
from spaces.tables import Floats

HERE = Path(__file__).parent
NETWORKS = (0, 5, 10, 20, 40)
HELD_OUT = 100
ROUNDS = 3
SECONDS = (20.0, 60.0)  # a transfer's time box, its networks included
ASKED_NETWORKS, MOST_RATIO, MOST_LOST = 20, 1.5, 0.03  # of a transfer, beside the target's whole table
JUDGES = 16  # networks a transfer holds out: timed in its box, too


@dataclass(frozen=True)
class Target:
    """A setting that a table is made for."""

    runtime: str
    threads: int = 1
    batch: int = 1
    dtype: Dtype = "float32"

    @property
    def name(self) -> str:
        dtype = "" if self.dtype == "float32" else f"-{self.dtype}"
        return f"{self.runtime}{dtype}-{self.threads}t-b{self.batch}"


TARGETS = (
    Target("onnxruntime"),
    Target("onnxruntime", threads=2),
    Target("onnxruntime", batch=8),
    Target("onnxruntime", dtype="int8"),
    Target("openvino"),
    Target("openvino", dtype="int8"),
    Target("litert"),
    Target("executorch"),
    Target("ncnn"),
    Target("torch-cpu"),
)


def measure(arguments: argparse.Namespace) -> None:
    """A whole calibration of each target, with its log."""
    for target in chosen(arguments):
        path = table_path(arguments, target)
        if path.exists():
            continue
        try:
            runtime(target.runtime, target.threads, target.dtype)
        except UserError as error:
            print(f"left out: {target.name} ({error})", flush=True)
            continue
        calibrate(
            named_space(arguments.space),
            path,
            runtime=target.runtime,
            threads=target.threads,
            batch=target.batch,
            dtype=target.dtype,
            rounds=ROUNDS,
            fit_networks=max(NETWORKS),
            held_out=HELD_OUT,
            minutes=arguments.minutes,
        )
        print(f"measured: {target.name}", flush=True)


class Measured:
    """What was measured on a target, and its networks."""

    def __init__(self, space: Space, path: Path) -> None:
        self.space, self.table = space, LatencyTable.load(path)
        setting = self.table.setting
        plan = measurement_plan(
            space,
            fit_networks=max(NETWORKS),
            held_out=HELD_OUT,
            rounds=ROUNDS,
            threads=setting.threads,
            batch=setting.batch,
            seed=0,
        )
        self.codes = np.array(plan.networks)
        units = [item.name for item in plan.items if item.kind == "unit"]
        self.order = list(dict.fromkeys([*pilot_units(units), *units]))
        self.rows: dict[str, list[Measurement]] = defaultdict(list)
        for row in JsonLines(measurements_log(path)):
            if "item" in row:
                self.rows[row["item"]].append(Measurement.model_validate(row))

    def share(self, networks: int, seconds: float) -> tuple[np.ndarray, dict[str, list[Measurement]], float]:
        """What a time box holds with so many networks: their codes and those held out, the measurements, the seconds.

        The networks held out keep all of their measurements, which they judge by; the box has room for a few of them.
        """
        spread = np.linspace(0, max(NETWORKS) - 1, networks).round().astype(int)
        first = {f"network {k}": self._first(f"network {number}") for k, number in enumerate(spread)}
        held = {f"network {networks + k}": self.rows[f"network {max(NETWORKS) + k}"] for k in range(HELD_OUT)}
        spent = sum(row.seconds for rows in first.values() for row in rows)
        judges = np.linspace(0, HELD_OUT - 1, JUDGES).round().astype(int)
        spent += sum(row.seconds for k in judges for row in self._first(f"network {max(NETWORKS) + k}"))
        units: dict[str, list[Measurement]] = {}
        for key in self.order:
            if not (rows := self.rows.get(key)):
                continue
            row = min(rows, key=lambda each: each.visit)
            if spent + row.seconds > seconds and len(units) >= len(pilot_units(self.order)):
                break
            units[key], spent = [row], spent + row.seconds
        codes = np.concatenate([self.codes[spread], self.codes[max(NETWORKS) :]])
        return codes, first | held | units, spent

    def _first(self, name: str) -> list[Measurement]:
        """The measurements of a network's first round."""
        return [row for row in self.rows[name] if row.visit < NETWORK_MEASUREMENTS]


def pair(source: Measured, target: Measured, networks: int, seconds: float) -> dict[str, Any]:
    """Errors and ranks on the held-out networks: transferred, from scratch, by one scale."""
    space = source.space
    codes, measurements, spent = target.share(networks, seconds)
    found: dict[str, Any] = {"networks": networks, "seconds_spent": spent}
    found["units"] = sum(not name.startswith("network ") for name in measurements)
    if networks:
        for name, prior in (("transfer", source.table), ("scratch", None)):
            v = fit_table(space, codes, networks, measurements, source=prior).validation
            found[name] = {"mape": v.mape, "kendall_tau": v.kendall_tau}
            if prior is not None:
                found["scale"] = v.simpler["source, one scale"].model_dump()
        return found
    known = all_units(space)
    entries = {
        name: Entry(ms=rows[0].min_ms, low_ms=None, high_ms=None, visits=1)
        for name, rows in measurements.items()
        if name in known
    }
    law = fit_fallback({known[key]: entry.ms for key, entry in entries.items()})
    held = [network.code for network in target.table.validation.held_out]
    truth = np.array([network.measured_ms for network in target.table.validation.held_out])
    found["transfer"] = against(
        Units(space, transfer_units(space, source.table, entries).entries, None).ms.total(np.array(held)), truth
    )
    found["scratch"] = against(Units(space, entries, law).ms.total(np.array(held)), truth)
    found["scale"] = against(Predictor(source.table, space)(np.array(held)).latency_ms, truth)
    return found


def against(ms: Floats, truth: Floats) -> dict[str, float]:
    return {"mape": float(np.abs(ms / truth - 1).mean()), "kendall_tau": float(KendallTau(ms, truth)())}


def compare(arguments: argparse.Namespace) -> None:
    """Every ordered pair; a pair that was compared before is not compared again."""
    space = named_space(arguments.space)
    targets = {
        target.name: Measured(space, table_path(arguments, target))
        for target in chosen(arguments)
        if table_path(arguments, target).exists()
    }
    if len(targets) < 2:
        raise SystemExit(f"two targets or more must be measured first, but {arguments.work} has {len(targets)}")
    done = JsonLines(arguments.work / f"{arguments.space}-pairs.jsonl")
    digests = {name: measured.table.content_sha256 for name, measured in targets.items()}
    known = {(row["source"], row["target"]): row for row in done if row["digests"] == _of(digests, row)}
    rows = []
    for source, target in permutations(targets, 2):
        row = known.get((source, target))
        if row is None:
            full = targets[target].table.validation
            row = {"source": source, "target": target, "digests": [digests[source], digests[target]]}
            row["full"] = {"mape": full.mape, "kendall_tau": full.kendall_tau}
            row["boxes"] = [
                {"seconds": seconds} | pair(targets[source], targets[target], networks, seconds)
                for seconds in SECONDS
                for networks in NETWORKS
            ]
            done.append(row)
            print(f"compared: {source} -> {target}", flush=True)
        rows.append(row)
    device = next(iter(targets.values())).table.device
    report = {"space": arguments.space, "made": now(), "held_out": HELD_OUT, "pairs": rows}
    report |= {"cpu": device.cpu, "cores": device.cores}
    report["disturbed"] = float(np.median([measured.table.protocol.disturbed for measured in targets.values()]))
    write_json(arguments.out / "transfer.json", report)
    write_text(arguments.out / "transfer.md", page(report))


def _of(digests: dict[str, str], row: dict[str, Any]) -> list[str | None]:
    return [digests.get(row["source"]), digests.get(row["target"])]


def page(report: dict[str, Any]) -> str:
    """The study as a page."""
    sections = []
    for number, seconds in enumerate(SECONDS):
        boxes = [row["boxes"][number * len(NETWORKS) :][: len(NETWORKS)] for row in report["pairs"]]
        lines = [
            f"| {row['source']} | {row['target']} | {_cell(row['full'])} | "
            + " | ".join(_cell(box["transfer"]) for box in mine)
            + f" | {_cell(mine[-2]['scratch'])} | {_cell(mine[-2]['scale'])} | {mine[-2]['units']} |"
            for row, mine in zip(report["pairs"], boxes, strict=True)
        ]
        head = "| source | target | whole table | " + " | ".join(f"{n} networks" for n in NETWORKS)
        head += " | from scratch, 20 | one scale, 20 | units, 20 |"
        rule = "|" + "---|" * (6 + len(NETWORKS))
        means = [_mean([mine[k] for mine in boxes], "transfer") for k in range(len(NETWORKS))]
        mean = f"| mean | | {_mean(report['pairs'], 'full')} | " + " | ".join(means)
        mean += f" | {_mean([m[-2] for m in boxes], 'scratch')} | {_mean([m[-2] for m in boxes], 'scale')} | |"
        sections.append(f"## {seconds:.0f} seconds\n\n" + "\n".join([head, rule, *lines, mean]) + "\n")
    return PAGE.format(answer=paragraph(_answer(report["pairs"])), tables="\n".join(sections), **report)


def _answer(pairs: list[dict[str, Any]]) -> str:
    """What each time box and `ASKED_NETWORKS` come to, held against the target's whole table."""
    kept = {
        seconds: _kept(pairs, len(NETWORKS) * number + NETWORKS.index(ASKED_NETWORKS))
        for number, seconds in enumerate(SECONDS)
    }
    found = "; ".join(f"in {seconds:.0f} seconds {text}" for seconds, text in kept.items())
    return (
        f"Of {len(pairs)} ordered pairs, from {ASKED_NETWORKS} networks and the units that fit beside them, so many "
        f"come to at most {MOST_RATIO} times the error of the target's whole table and within {MOST_LOST} of its tau: "
        f"{found}."
    )


def _kept(pairs: list[dict[str, Any]], place: int) -> str:
    """How many pairs keep to what is asked, and the median pair; beside the same measurements without a source."""
    counts = []
    for way in ("transfer", "scratch"):
        boxes = [(row["full"], row["boxes"][place][way]) for row in pairs]
        ratios = [box["mape"] / full["mape"] for full, box in boxes]
        lost = [full["kendall_tau"] - box["kendall_tau"] for full, box in boxes]
        counts.append(sum(r <= MOST_RATIO and t <= MOST_LOST for r, t in zip(ratios, lost, strict=True)))
        counts.append(float(np.median(ratios)))
    units = np.median([row["boxes"][place]["units"] for row in pairs])
    return (
        f"{counts[0]} (the median error is {counts[1]:.2f} times the whole table's; without a source {counts[2]}, "
        f"{counts[3]:.2f} times; {units:.0f} units are timed, in the median)"
    )


def _cell(agreement: dict[str, float]) -> str:
    return f"{100 * agreement['mape']:.2f}, {agreement['kendall_tau']:.3f}"


def _mean(rows: list[dict[str, Any]], name: str) -> str:
    return _cell({key: float(np.mean([row[name][key] for row in rows])) for key in ("mape", "kendall_tau")})


def chosen(arguments: argparse.Namespace) -> list[Target]:
    names = arguments.targets.split(",") if arguments.targets else [target.name for target in TARGETS]
    if unknown := set(names) - {target.name for target in TARGETS}:
        raise SystemExit(f"a target is one of {', '.join(target.name for target in TARGETS)}, not {min(unknown)}")
    return [target for target in TARGETS if target.name in names]


def table_path(arguments: argparse.Namespace, target: Target) -> Path:
    return arguments.work / f"{arguments.space}-{target.name}.lat.json"


PAGE = """# A table for another target from few measurements

{answer}

Space {space}, {held_out} networks that nothing was fitted on. Each cell is the mean error in per cent of the measured
latency, and Kendall's tau. *Whole table*: the target's own calibration. A transfer has the time that stands above its
table, for its networks (three measurements each), 16 more that would test it, and as many units as fit, once each; the
rest comes from the source's table. *0 networks* is the sum of units, which doesn't know what a network costs beyond
them. *From scratch*: the same measurements without a source. *One scale*: the source's predictions times a number.

{tables}
Of the median target's measurements {disturbed:.0%} were disturbed by other work on the machine, which makes all errors
larger and the time boxes hold less.

Measured on {cpu} ({cores} cores), {made}, by `transfer.py` beside this page; figures in `transfer.json`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("measure", "compare"))
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--targets", default="", help="with commas between them (default: all that can be had here)")
    parser.add_argument("--minutes", type=float, default=16, help="a target, its held-out networks included")
    parser.add_argument("--work", type=Path, default=Path("results/work-latency/transfer"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    {"measure": measure, "compare": compare}[arguments.part](arguments)


if __name__ == "__main__":
    main()
