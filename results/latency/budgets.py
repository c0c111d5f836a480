"""How often a network that a search found under a latency budget breaks it on the device. From the repository's root,
on a quiet machine; a table that isn't there is calibrated:

    python results/latency/budgets.py --table cifar16.lat.json

A search moves towards networks whose latency the table underrates, so the interval of networks drawn at random needn't
hold for those that it finds. Here 200 and more are found: for each of 20 budgets along the front of accuracy against
predicted latency, exactly the best network inside it, by fifteen accuracies. An accuracy is a sum over units that grows
with their multiply-adds, each unit's worth drawn at random: no training, but what a search would choose. All are timed
side by side, and each is held against its budget; beside them the same by budgets on the prediction itself, the found
networks as if each one's own upper end were the budget, and random networks likewise.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from ghostnet import GhostNet
from search.engine.pareto import pareto_front
from search.files import write_json, write_text
from search.latency.calibrate import calibrate
from search.latency.predictor import Predictor
from search.latency.runtimes import table_runtime
from search.latency.table import LatencyTable, describe
from search.latency.time_networks import measure
from search.recipes.schema import load_recipe
from spaces.population import sample
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table

HERE = Path(__file__).parent
SPREAD = 0.5  # of a unit's worth: the standard deviation of its logarithm
RANDOM = 100  # networks
Floats = NDArray[np.float64]


def losses(space: Space, rng: np.random.Generator) -> UnitTable:
    """What each unit takes from accuracy, in any measure: the less, the more multiply-adds it has."""
    worth = [np.sqrt(values) * rng.lognormal(0, SPREAD, values.shape) for values in macs_table(space).values]
    return UnitTable.of(space, [-each for each in worth])


@dataclass(frozen=True)
class Found:
    """Networks [n, genes], and the budget [n] that each was found under."""

    codes: Codes
    budgets: Floats


def find(space: Space, predict: Predictor, accuracies: int, budgets: int, bound: str) -> Found:
    """The best network inside each budget by each accuracy; a network that was found before is found once.

    Args:
        bound: what a budget is held against, `latency_ms` or `high_ms` of a prediction.
    """
    found: dict[tuple[int, ...], float] = {}
    for seed in range(accuracies):
        codes, sums = pareto_front([predict.table, losses(space, np.random.default_rng(seed))])
        against = getattr(predict(codes), bound)
        for budget in np.linspace(against.min(), against.max(), budgets + 1)[1:]:
            inside = np.flatnonzero(against <= budget)
            best = inside[sums[inside, 1].argmin()]
            found.setdefault(tuple(codes[best].tolist()), float(budget))
    return Found(np.array([*found]), np.array([*found.values()]))


def share_of(broken: NDArray[np.bool_]) -> dict[str, float]:
    """A share with its 95 % interval (Wilson)."""
    interval = binomtest(int(broken.sum()), len(broken)).proportion_ci(method="wilson")
    return {"networks": len(broken), "share": float(broken.mean()), "low": interval.low, "high": interval.high}


def held(found: Found, measured: Floats) -> dict[str, float]:
    """How many networks are slower than their budget, and by how much those are."""
    over = measured / found.budgets - 1
    broken = over > 0
    worst = {"median_over": float(np.median(over[broken])), "most_over": float(over.max())} if broken.any() else {}
    return share_of(broken) | {"median_below": float(-np.median(over))} | worst


def page(result: dict) -> str:
    """`budgets.md`."""
    rows = []
    names = {
        "high_ms": "**found, budgets on the interval's upper end** (as a search has them)",
        "latency_ms": "found, budgets on the prediction itself",
        "own": "found, each against its own upper end, as if that were the budget",
        "random": "random networks, each against its own upper end",
    }
    for key, name in names.items():
        r = result[key]
        over = f"{r['median_over']:.1%}, {r['most_over']:.1%}" if "median_over" in r else "-"
        cells = [f"{r['networks']}", f"{r['share']:.1%} ({r['low']:.1%} to {r['high']:.1%})", over]
        rows.append(f"| {name} | {' | '.join(cells)} | {r['median_below']:.1%} |")
    first, allowed = result["high_ms"], (1 - result["interval"]) / 2
    verdict = "no more than" if first["share"] <= allowed else "more than"
    return "\n".join(
        [
            "# Does a found network keep its latency budget?",
            "",
            f"Of {first['networks']} networks found under a budget, {first['share']:.1%} are slower on the device than "
            f"the budget says: {verdict} the {allowed:.0%} that the table's {result['interval']:.0%} interval leaves "
            f"above its upper end. Had budgets been held against the prediction itself, "
            f"{result['latency_ms']['share']:.0%} would be.",
            "",
            f"Space `{result['space']}`, {result['setting']}; the table's error on networks that it never saw is "
            f"{result['error']:.1%}. Networks are found exactly, by dynamic programming, under accuracies that are "
            "made up (sums over units that grow with their multiply-adds, each unit's worth drawn at random), and "
            "timed side by side. Shares have 95 % intervals over networks; by how much is the median and the most of "
            "those that break their budget.",
            "",
            "| networks | number | slower than the budget | by how much | median distance below |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "The command: `python results/latency/budgets.py`.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=HERE / "work" / "cifar16.lat.json")
    parser.add_argument("--accuracies", type=int, default=15)
    parser.add_argument("--budgets", type=int, default=20, help="of each accuracy")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = load_recipe("cifar10-small").search_space
    if not arguments.table.exists():
        calibrate(
            space, arguments.table, runtime="onnxruntime", threads=1, rounds=4, fit_networks=64, held_out=48, seed=0,
            minutes=6,
        )  # fmt: skip
    table = LatencyTable.load(arguments.table)
    predict = Predictor(table, space)
    kinds = {
        bound: find(space, predict, arguments.accuracies, arguments.budgets, bound)
        for bound in ("high_ms", "latency_ms")
    }
    codes = kinds["high_ms"].codes
    kinds["own"] = Found(codes, predict(codes).high_ms)
    drawn = sample(space, np.random.default_rng(99), RANDOM)
    kinds["random"] = Found(drawn, predict(drawn).high_ms)
    archs = {arch.id: arch for found in kinds.values() for arch in map(space.decode, found.codes)}
    run = table_runtime(table.setting)
    shape = (space.in_chs, space.resolution, space.resolution)
    nets = {name: (GhostNet(arch, space.num_classes, space.in_chs).eval(), shape) for name, arch in archs.items()}
    times = measure(run, nets, batch=table.setting.batch)
    result = {
        "space": space.name,
        "setting": describe(table).runtime,
        "error": table.validation.mape,
        "interval": table.correction.coverage,
    }
    for name, found in kinds.items():
        result[name] = held(found, np.array([times[space.decode(code).id] for code in found.codes]))
    write_json(arguments.out / "budgets.json", result)
    write_text(arguments.out / "budgets.md", page(result))
    print(page(result))


if __name__ == "__main__":
    main()
