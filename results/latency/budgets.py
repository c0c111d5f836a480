"""How often a network that a search found under a latency budget breaks it on the device, and how far a prediction is
off where searches end. From the repository's root, on a quiet machine (half an hour; a table that is there is taken):

    python results/latency/budgets.py

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
        codes, sums = pareto_front([predict.tangent.table, losses(space, np.random.default_rng(seed))])
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


def held(predict: Predictor, found: Found, measured: Floats) -> dict[str, float]:
    """How many networks are slower than their budget, and by how much those are; how far the predictions are off, and
    those of the fastest quarter."""
    over = measured / found.budgets - 1
    broken = over > 0
    worst = {"median_over": float(np.median(over[broken])), "most_over": float(over.max())} if broken.any() else {}
    told = predict(found.codes)
    errors = told.latency_ms / measured - 1
    fastest = errors[np.argsort(measured)[: max(1, len(measured) // 4)]]
    errs = {
        "inside": float(np.mean((measured >= told.low_ms) & (measured <= told.high_ms))),
        "error": float(np.abs(errors).mean()),
        "fastest_error": float(np.abs(fastest).mean()),
        "fastest_bias": float(fastest.mean()),
        "least_ms": float(measured.min()),
        "most_ms": float(measured.max()),
    }
    return share_of(broken) | {"median_below": float(-np.median(over))} | worst | errs


NAMES = {
    "high_ms": "**found, budgets on the interval's upper end** (as a search has them)",
    "latency_ms": "found, budgets on the prediction itself",
    "own": "found, each against its own upper end, as if that were the budget",
    "random": "random networks, each against its own upper end",
}


def rows_of(result: dict) -> list[str]:
    """A space's rows of the page."""
    rows = []
    for key, name in NAMES.items():
        r = result[key]
        over = f"{r['median_over']:.1%}, {r['most_over']:.1%}" if "median_over" in r else "-"
        cells = [f"{r['networks']}", f"{r['least_ms']:.3f} to {r['most_ms']:.3f}"]
        cells += [f"{r['share']:.1%} ({r['low']:.1%} to {r['high']:.1%})", over, f"{r['inside']:.0%}"]
        cells += [f"{r['error']:.1%}", f"{r['fastest_error']:.1%} ({r['fastest_bias']:+.1%})"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def page(results: dict[str, dict]) -> str:
    """`budgets.md`."""
    total = sum(r["high_ms"]["networks"] for r in results.values())
    broken = sum(round(r["high_ms"]["share"] * r["high_ms"]["networks"]) for r in results.values())
    each = [f"{r['high_ms']['error']:.1%} (`{name}`)" for name, r in results.items()]
    ends = [f"{r['high_ms']['fastest_error']:.1%}" for r in results.values()]
    lines = [
        "# Does a found network keep its latency budget?",
        "",
        f"Of {total} networks found under a budget in {len(results)} spaces, {broken / total:.1%} are slower on "
        "the device than the budget says, where a budget binds the upper end of a network's interval. Predictions of "
        f"the found networks are off by {', '.join(each)} on average, those of the fastest "
        f"quarter by {', '.join(ends)}.",
        "",
        "Networks are found exactly, by dynamic programming, under accuracies that are made up (sums over units that "
        "grow with their multiply-adds, each unit's worth drawn at random), and timed side by side. Shares have "
        "95 % intervals over networks; by how much is the median and the most of those that break their budget. "
        "*Inside*: measured within the prediction's interval. *Error*: of the prediction, mean size; of the fastest "
        "quarter of the networks its mean with its sign, too.",
    ]
    for name, result in results.items():
        lines += [
            "",
            f"## Space `{name}`",
            "",
            f"{result['setting']}; the table's error on networks that it never saw is {result['error']:.1%}, "
            f"{result['timed']:.0%} of its units were timed, and its measurements were made in "
            f"{result['minutes']:.1f} minutes. Those networks took {result['factor']:.3f} times as long "
            "when the found ones were timed beside them; that is taken out.",
            "",
            "| networks | number | ms | slower than the budget | by how much | inside | error | of the fastest |",
            "|---|---|---|---|---|---|---|---|",
            *rows_of(result),
        ]
    return "\n".join([*lines, "", "The command: `python results/latency/budgets.py`.", ""])


def judge(space: Space, table: LatencyTable, accuracies: int, budgets: int) -> dict:
    """A space's part of the result."""
    predict = Predictor(table, space)
    kinds = {bound: find(space, predict, accuracies, budgets, bound) for bound in ("high_ms", "latency_ms")}
    codes = kinds["high_ms"].codes
    kinds["own"] = Found(codes, predict(codes).high_ms)
    drawn = sample(space, np.random.default_rng(99), RANDOM)
    kinds["random"] = Found(drawn, predict(drawn).high_ms)
    archs = {arch.id: arch for found in kinds.values() for arch in map(space.decode, found.codes)}
    for network in table.validation.held_out:  # that tell how fast the machine is now
        arch = space.decode(np.array(network.code))
        archs[arch.id] = arch
    nets = {
        name: (GhostNet(arch, space.num_classes, space.in_chs).eval(), (space.in_chs, arch.resolution, arch.resolution))
        for name, arch in archs.items()
    }
    times = measure(table_runtime(table.setting), nets, batch=table.setting.batch)
    now = [times[space.decode(np.array(each.code)).id] / each.measured_ms for each in table.validation.held_out]
    factor = float(np.median(now))
    result = {
        "factor": factor,
        "setting": describe(table).runtime,
        "error": table.validation.mape,
        "interval": table.correction.coverage,
        "timed": table.units_timed / table.protocol.units_in_space,
        "minutes": table.protocol.seconds / 60,
    }
    for name, found in kinds.items():
        measured = np.array([times[space.decode(code).id] for code in found.codes]) / factor
        result[name] = held(predict, found, measured)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["digits", "cifar10-small", "cifar10"], help="whose spaces")
    parser.add_argument(
        "--tables", type=Path, default=HERE / "work", help="a folder of tables; what is missing is made"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of a calibration")
    parser.add_argument("--accuracies", type=int, default=8)
    parser.add_argument("--budgets", type=int, default=12, help="of each accuracy")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for recipe in arguments.recipes:
        space, file = load_recipe(recipe).search_space, arguments.tables / f"{recipe}.lat.json"
        if not file.exists():
            calibrate(space, file, runtime="onnxruntime", threads=1, seed=0, minutes=arguments.minutes)
        results[space.name] = judge(space, LatencyTable.load(file), arguments.accuracies, arguments.budgets)
    write_json(arguments.out / "budgets.json", results)
    write_text(arguments.out / "budgets.md", page(results))
    print(page(results))


if __name__ == "__main__":
    main()
