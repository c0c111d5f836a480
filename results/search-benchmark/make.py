"""Every sampler against the truth: hypervolume over evaluations, on spaces of which every network is known.

    python results/search-benchmark/make.py run       # digits.csv.gz, cifar.csv.gz -> runs/*.json; goes on, if killed
    python results/search-benchmark/make.py report    # runs -> README's table, benchmark.json, benchmark.png, .svg

`truth.py` made the two tables. An evaluation is a look into the table, a prediction likewise; seeds 0 to 9.
"""

import argparse
import csv
import gzip
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import moocore
import numpy as np

from search.engine.backends import backend
from search.engine.budgets import NONE
from search.engine.log import TrialLog
from search.engine.objectives import ACCURACY, LatencyObjective
from search.engine.problem import Problem
from search.engine.search_plan import SearchPlan
from search.engine.trial import Trial
from search.files import read_json, write_json, write_text
from search.latency.predictor import Prediction
from search.recipes.choices import Sampler, usual_population
from search.report.markdown import paragraph
from spaces.custom import parse_space

HERE = Path(__file__).parent
SPACES = {"digits": "digits-small.toml", "cifar": "cifar-small.toml"}
CLASSES = {"digits": (10, 1), "cifar": (10, 3)}
SHARE, GOAL = 0.15, 0.99
SEEDS = range(10)
MARGIN = 0.1  # the reference point is behind the true front's worst by this part of its extent
COLOURS = {
    "guided": "#d62728", "nsga2": "#1f77b4", "nsga3": "#17becf", "tpe": "#2ca02c", "gp": "#9467bd",
    "evolution": "#ff7f0e", "random": "#7f7f7f",
}  # fmt: skip


class Truth:
    """A table of every network of a space."""

    def __init__(self, name: str) -> None:
        from dataclasses import replace

        classes, in_chs = CLASSES[name]
        record = tomllib.loads((HERE / SPACES[name]).read_text())["space"]
        self.space = replace(parse_space(record), num_classes=classes, in_chs=in_chs)
        rows = list(csv.DictReader(gzip.decompress((HERE / f"{name}.csv.gz").read_bytes()).decode().splitlines()))
        assert len(rows) == self.space.size
        self.accuracy = {row["arch"]: float(row["accuracy"]) for row in rows}
        codes = np.array([list(map(int, row["code"])) for row in rows])
        self.place = np.empty(tuple(self.space.choices), dtype=np.int64)
        self.place[tuple(codes.T)] = np.arange(len(rows))
        self.ms = {k: np.array([float(row[f"latency{k}_ms"]) for row in rows]) for k in ("", "_low", "_high")}
        self.points = np.stack([[float(row["accuracy"]) for row in rows], -self.ms[""]], axis=1)
        self.front = self.points[moocore.is_nondominated(self.points, maximise=True)]
        near = self.front.min(0) - MARGIN * np.ptp(self.front, axis=0)
        self.references = {"nadir": near, "worst": self.points.min(0)}

    def predict(self, codes: np.ndarray) -> Prediction:
        k = self.place[tuple(self.space.canonical(np.atleast_2d(codes)).T)]
        return Prediction(self.ms[""][k], self.ms["_low"][k], self.ms["_high"][k], np.ones(len(k)))

    def problem(self) -> Problem:
        latency = LatencyObjective(predict=self.predict)
        return Problem(
            space=self.space,
            evaluate=lambda arch: self.accuracy[arch.id],
            objectives=(ACCURACY, latency),
            budgets=NONE,
        )

    def curve(self, trials: Sequence[Trial], reference: np.ndarray) -> list[float]:
        """Share of the true front's hypervolume after each evaluation."""
        whole = moocore.hypervolume(self.front, ref=reference, maximise=True)
        best, shares = np.empty((0, 2)), []
        for t in trials:
            best = np.concatenate([best, [[t["accuracy"], -t["latency_ms"]]]])
            best = best[moocore.is_nondominated(best, maximise=True)]
            shares.append(round(float(moocore.hypervolume(best, ref=reference, maximise=True) / whole), 6))
        return shares


def run(name: str, samplers: list[Sampler], most: int | None) -> None:
    truth = Truth(name)
    trials = most or round(SHARE * truth.space.size)
    for seed in SEEDS:
        for sampler in samplers:
            out = HERE / "runs" / f"{name}-{sampler}-{seed}.json"
            if out.exists():
                continue
            start = time.process_time()
            with tempfile.TemporaryDirectory() as folder, TrialLog(Path(folder) / "trials.jsonl", {}) as log:
                backend("optuna")(
                    truth.problem(),
                    log,
                    SearchPlan(trials=trials, sampler=sampler, population=usual_population(sampler), seed=seed),
                )
                curves = {which: truth.curve(log.evaluated, ref) for which, ref in truth.references.items()}
            write_json(out, {"curves": curves, "cpu_seconds": round(time.process_time() - start, 2)})


def report() -> None:
    report: dict[str, Any] = {}
    names = [name for name in SPACES if list((HERE / "runs").glob(f"{name}-*.json"))]
    figure, axes = plt.subplots(1, len(names), figsize=(6.2 * len(names), 4.6), layout="constrained", squeeze=False)
    for name, axis in zip(names, axes[0], strict=True):
        truth, runs = Truth(name), defaultdict(list)
        for seed in SEEDS:
            for sampler in get_args(Sampler):
                path = HERE / "runs" / f"{name}-{sampler}-{seed}.json"
                if path.exists():
                    runs[sampler].append(read_json(path))
        report[name] = {
            "networks": truth.space.size,
            "front": len(truth.front),
            "goal_evaluations": round(SHARE * truth.space.size),
            "samplers": {
                sampler: {which: _figures(runs[sampler], runs["random"], which) for which in truth.references}
                | {"cpu_ms_per_trial": _cpu(runs[sampler])}
                for sampler in sorted(runs, key=lambda s: -np.median([r["curves"]["nadir"][-1] for r in runs[s]]))
            },
        }
        for sampler in report[name]["samplers"]:
            length = min(len(r["curves"]["nadir"]) for r in runs[sampler])
            curves = np.array([r["curves"]["nadir"][:length] for r in runs[sampler]])
            x = np.arange(1, length + 1)
            low, middle, high = np.percentile(curves, [10, 50, 90], axis=0)
            axis.plot(x, middle, color=COLOURS[sampler], label=sampler, linewidth=1.8)
            axis.fill_between(x, low, high, color=COLOURS[sampler], alpha=0.13, linewidth=0)
        axis.axhline(GOAL, color="black", linewidth=0.8, linestyle=":")
        axis.set(
            title=f"{name}: {truth.space.size} networks",
            xlabel="evaluations",
            ylabel="share of the true front's hypervolume",
            ylim=(0, 1.01),
            xlim=(0, round(SHARE * truth.space.size)),
        )
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, loc="lower right", title="median; band: 10 to 90 %")  # where there is room
    for kind in ("png", "svg"):
        figure.savefig(HERE / f"benchmark.{kind}", dpi=130, metadata={"Date": None} if kind == "svg" else None)
    write_json(HERE / "benchmark.json", report)
    write_text(HERE / "README.md", page(report))


def page(report: dict[str, Any]) -> str:
    """The page with its answer and its tables anew."""
    tables = "\n\n".join(_table(name, each) for name, each in report.items())
    text = (HERE / "README.md").read_text()
    for mark, part in (("answer", answer(report)), ("table", tables)):
        head, _, rest = text.partition(f"<!-- {mark} -->\n")
        text = f"{head}<!-- {mark} -->\n{part}\n<!-- end -->\n{rest.partition('<!-- end -->' + chr(10))[2]}"
    return text


def answer(report: dict[str, Any]) -> str:
    """The page in three sentences."""
    spaces = report.values()
    guided, chance, gp = ([space["samplers"][name] for space in spaces] for name in ("guided", "random", "gp"))
    needed = [" and ".join(f"{s['nadir']['median_evaluations_to_99']:g}" for s in each) for each in (guided, gp)]
    reached, seeds = (sum(s["nadir"][key] for s in guided) for key in ("reached_99", "seeds"))
    times = [g["cpu_ms_per_trial"] / s["cpu_ms_per_trial"] for g, s in zip(gp, guided, strict=True)]
    by_chance = sum(s["nadir"]["reached_99"] for s in chance)
    text = (
        f"The default sampler, `guided`, reaches 99 % of the true front's hypervolume with {reached} of {seeds} seeds, "
        f"after {needed[0]} evaluations in the median of the two spaces, of {next(iter(spaces))['networks']:,} "
        f"networks each. Random search reaches it with {by_chance} seeds. Optuna's Gaussian "
        f"process needs fewer evaluations ({needed[1]}), and for each {min(times):.0f} to {max(times):.0f} times the "
        "time."
    )
    return paragraph(text)


def _figures(runs: list[dict[str, Any]], chance: list[dict[str, Any]], which: str) -> dict[str, Any]:
    curves = [r["curves"][which] for r in runs]
    reached = [next((k for k, share in enumerate(c, 1) if share >= GOAL), None) for c in curves]
    counts = sorted(np.inf if k is None else k for k in reached)
    middle = float(np.median(counts))
    ends = [c[-1] for c in curves]
    beats = sum(c[-1] > r["curves"][which][len(c) - 1] for c, r in zip(curves, chance, strict=False))
    return {
        "seeds": len(runs),
        "evaluations": len(curves[0]),
        "reached_99": sum(k is not None for k in reached),
        "median_evaluations_to_99": middle if np.isfinite(middle) else None,
        "most_evaluations_to_99": counts[-1] if np.isfinite(counts[-1]) else None,
        "share_at_end": {"least": min(ends), "median": round(float(np.median(ends)), 4), "most": max(ends)},
        "beats_random": beats,
    }


def _cpu(runs: list[dict[str, Any]]) -> float:
    return round(1e3 * float(np.median([r["cpu_seconds"] / len(r["curves"]["nadir"]) for r in runs])), 1)


def _table(name: str, report: dict[str, Any]) -> str:
    lines = [
        f"**{name}**: {report['networks']} networks, {report['front']} on the true front; 15 % are "
        f"{report['goal_evaluations']} evaluations.",
        "",
        "| sampler | 99 % reached, of seeds | evaluations to it, median (most) | share at the end, median (least) "
        "| beats random, seeds | with the reference at the worst: 99 % reached, evaluations | CPU ms a trial |",
        "|---|---|---|---|---|---|---|",
    ]
    for sampler, each in report["samplers"].items():
        near, far = each["nadir"], each["worst"]
        cut = "" if near["evaluations"] == report["goal_evaluations"] else f" (in {near['evaluations']})"
        lines.append(
            f"| {sampler} | {near['reached_99']} of {near['seeds']}{cut} | {_count(near)} | "
            f"{near['share_at_end']['median']:.2%} ({near['share_at_end']['least']:.2%}) | "
            f"{'' if sampler == 'random' else near['beats_random']} | {far['reached_99']}, {_count(far)} | "
            f"{each['cpu_ms_per_trial']} |"
        )
    return "\n".join(lines)


def _count(figures: dict[str, Any]) -> str:
    middle, most = figures["median_evaluations_to_99"], figures["most_evaluations_to_99"]
    return f"{'more' if middle is None else f'{middle:g}'} ({'more' if most is None else f'{most:g}'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--space", choices=SPACES, action="append")
    one.add_argument("--sampler", choices=get_args(Sampler), action="append")
    one.add_argument("--evaluations", type=int, help="default: 15 %% of the space")
    commands.add_parser("report")
    arguments = parser.parse_args()
    if arguments.command == "report":
        return report()
    for name in arguments.space or SPACES:
        run(name, arguments.sampler or list(get_args(Sampler)), arguments.evaluations)


if __name__ == "__main__":
    main()
