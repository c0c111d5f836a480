"""Publishes what there is of the benchmark: ghostbench.json, README.md and ghostbench.png, from the logs of `make.py`.

python results/ghostbench/page.py
"""

import argparse
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from methods import CHOSEN, DEFAULT, FINALS, FLOOR, MOST_NETWORKS, RECORD, SLOWEST, best_four, hypervolume
from models import MODELS
from networks import MOST_MACS, read_networks
from numpy.typing import NDArray
from real import RECORD as REAL
from scipy.stats import kendalltau
from trainings import HERE, LIST, plan, published_log, read_log

from search.accuracy.ghostbench import (
    BenchmarkFile,
    BenchmarkNetwork,
    BenchmarkRun,
    GhostBench,
    Start,
    format_evaluator,
    load_ghostbench,
    save_ghostbench,
)
from search.accuracy.ranking_study import seed_tau
from search.bootstrap import interval
from search.errors import UserError
from search.figures.style import SERIES, canvas, png
from search.files import read_json, write_bytes, write_text
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable, describe
from search.rank_correlation import KendallTau, kendall_tau
from search.recipes.schema import load_recipe
from search.records import read_record
from search.report.markdown import paragraph, table
from spaces.custom import space_to_dict
from spaces.quantities import format_count
from spaces.tables import macs_table, params_table

BINS = 5
DRAWS = 200  # of a bootstrap
LEAST = 20  # networks that a rank correlation is given for
Floats = NDArray[np.float64]


def assemble(work: Path, latency: Path | None, published: BenchmarkFile | None = None) -> BenchmarkFile:
    """The benchmark as far as the logs have come.

    Args:
        published: what is known of a start that has no log yet, because only the other one was asked for.

    Raises:
        UserError: there are no logs, or they are of different data.
    """
    space = load_recipe("cifar10-small").search_space
    logs = {start: read_log(work, start) for start in get_args(Start)}
    if published:
        logs |= {start: published_log(published, start) for start, (of, _) in logs.items() if not of}
    headers = {start: of for start, (of, _) in logs.items() if of}
    if not headers:
        raise UserError(f"{work} has no trainings: `make.py` does them")
    shared = ("fingerprint", "training_images", "search_images", "test_images")
    about, *others = [{key: of[key] for key in shared} for of in headers.values()]
    if any(other != about for other in others):
        raise UserError(f"the logs in {work} are of different data")
    table = LatencyTable.load(latency) if latency else None
    listed = read_networks(LIST, space).networks
    codes = np.array([row.code for row in listed])
    ms = Predictor(table, space)(codes).latency_ms.tolist() if table else [None] * len(codes)
    runs = [run for _, rows in logs.values() for run in rows]
    networks = []
    for row, milliseconds, macs, params in zip(
        listed, ms, macs_table(space).total(codes), params_table(space).total(codes), strict=True
    ):
        arch = space.decode(np.array(row.code)).id
        networks.append(
            BenchmarkNetwork(
                arch=arch,
                code=row.code,
                kind=row.kind,
                macs=int(macs),
                params=int(params),
                latency_ms=milliseconds and round(milliseconds, 6),
                runs=[BenchmarkRun(**run.model_dump(exclude={"arch"})) for run in runs if run.arch == arch],
            )
        )
    described = describe(table) if table else None
    return BenchmarkFile(
        space=space_to_dict(space),
        data="cifar10",
        **about,
        fresh=headers.get("fresh", {}).get("recipe", {}),
        tuned=headers.get("transplanted", {}).get("recipe", {}),
        parent=headers.get("transplanted", {}).get("parent"),
        latency=f"{described.runtime}, {described.device}" if described else None,
        networks=networks,
    )


class Ranking(NamedTuple):
    """How a figure ranks networks as a target does: Kendall's tau, its 95 % interval, and inside bins of like
    multiply-adds."""

    networks: int
    tau: float
    low: float
    high: float
    inside: float


def ranking(predictor: Floats, target: Floats, macs: Floats) -> Ranking | None:
    """Kendall's tau over all networks and over the pairs inside a bin; None where there are too few."""
    count = len(target)
    if count < LEAST:
        return None
    order = np.argsort(macs, kind="stable")
    x, y, group = predictor[order], target[order], np.arange(count) * BINS // count
    tau = KendallTau(x, y)
    low, high = interval(tau, count, np.random.default_rng(0), DRAWS, vectorized=True)
    return Ranking(count, float(tau()), float(low), float(high), kendall_tau(x, y, group))


Figure = Callable[[BenchmarkNetwork], float | None]


def of_run(evaluator: str, split: str, epoch: int | None = None) -> Figure:
    """A network's accuracy on a split after an epoch, the last one where None; by the first seed."""

    def figure(network: BenchmarkNetwork) -> float | None:
        for run in network.runs:
            if format_evaluator(run) == evaluator and run.seed == 0:
                return getattr(run, split)[-1 if epoch is None else epoch - 1]
        return None

    return figure


COSTS: dict[str, Figure] = {
    "multiply-adds": lambda network: network.macs,
    "parameters": lambda network: network.params,
    "latency": lambda network: network.latency_ms,
}
TRANSPLANTS = {
    "transplanted, as it is": of_run("tuned:0", "search"),
    "transplanted, tuned 1 epoch": of_run("tuned:1", "search"),
    "transplanted, tuned 3 epochs": of_run("tuned:3", "search"),
}
FRESH = {"from fresh weights, 5 epochs": of_run("trained:5", "search")}
EARLY = {f"the same training after epoch {e}": of_run("trained:5", "search", e) for e in (1, 2, 3, 4, 5)}
# What is to be ranked, by its evaluator; and by what.
TARGETS: dict[str, tuple[str, dict[str, Figure]]] = {
    "trained:5": ("from fresh weights, 5 epochs", COSTS | EARLY | TRANSPLANTS),
    "tuned:3": ("transplanted, tuned 3 epochs", COSTS | TRANSPLANTS | FRESH),
    "tuned:10": ("transplanted, tuned 10 epochs", COSTS | TRANSPLANTS | FRESH),
}
USE = """\
```python
from search.accuracy.ghostbench import load_ghostbench

bench = load_ghostbench("results/ghostbench/ghostbench.json")
for name in bench.having("trained:5"):
    run = bench.query(name, "trained:5")  # or tuned:0, tuned:1, ...; seed=1
    run.search, run.test, run.seconds  # top-1 after every epoch; one core's seconds
    bench.arch(name), bench.network(name).macs
```"""


def rankings(bench: GhostBench, target: Figure, predictors: dict[str, Figure]) -> list[tuple[str, Ranking]]:
    """How each figure ranks the networks of which both are known."""
    result = []
    for name, predictor in predictors.items():
        both = [(predictor(n), target(n), n.macs) for n in bench.record.networks]
        known = np.array([row for row in both if None not in row], float).reshape(-1, 3)
        if each := ranking(*known.T):
            result.append((name, each))
    return result


def noise(bench: GhostBench, evaluator: str) -> dict[str, float] | None:
    """How well trainings agree that differ in nothing but the seed, in test accuracy: Kendall's tau of one seed with
    another (`tau`, `inside` bins) and with the mean of the others (`by_others`), and a seed's standard deviation in
    points; None where there are too few."""
    by_seed = {n.arch: [r.test[-1] for r in n.runs if format_evaluator(r) == evaluator] for n in bench.record.networks}
    seeds = max(map(len, by_seed.values()))
    several = sorted((n for n in bench.record.networks if len(by_seed[n.arch]) == seeds), key=lambda n: n.macs)
    if seeds < 2 or len(several) < LEAST:
        return None
    values = np.array([by_seed[n.arch] for n in several])
    group = np.arange(len(several)) * BINS // len(several)
    others = [np.delete(values, k, 1).mean(1) for k in range(seeds)]
    return {
        "networks": len(several),
        "seeds": seeds,
        "tau": seed_tau(values) or 0.0,
        "inside": float(np.mean([kendall_tau(one, other, group) for one, other in combinations(values.T, 2)])),
        "by_others": float(np.mean([kendalltau(values[:, k], others[k]).statistic for k in range(seeds)])),
        "points": 100 * float(np.sqrt(values.var(1, ddof=1).mean())),
    }


def progress(bench: GhostBench) -> list[str]:
    """How much is done, and what it took: a table's rows."""
    archs = [bench.arch(name) for name in bench.names]
    planned = [each for start in get_args(Start) for each in plan(start, archs)]
    wanted = Counter((each.start, each.epochs, each.seed > 0) for each in planned)
    lines = []
    for (start, epochs, other_seeds), count in wanted.items():
        runs = [
            run
            for network in bench.record.networks
            for run in network.runs
            if (run.start, run.epochs, run.seed > 0) == (start, epochs, other_seeds)
        ]
        name = f"{'trained' if start == 'fresh' else 'tuned'}:{epochs}" + (", other seeds" if other_seeds else "")
        seconds = f"{np.median([run.seconds for run in runs]):.1f}" if runs else "-"
        best = f"{max(run.test[-1] for run in runs):.1%}" if runs else "-"
        middle = f"{np.median([run.test[-1] for run in runs]):.1%}" if runs else "-"
        lines.append(f"| `{name}` | {len(runs)} of {count} | {seconds} | {middle} | {best} |")
    return lines


def page(
    bench: GhostBench,
    methods: dict[str, Any] | None,
    models: dict[str, Any] | None,
    real: dict[str, Any] | None = None,
) -> str:
    """README.md, with what `methods.py`, `models.py` and `real.py` found, where they did."""
    record, kinds = bench.record, Counter(network.kind for network in bench.record.networks)
    started = sum(bool(network.runs) for network in record.networks)
    parts = [
        "# GhostBench",
        paragraph(
            f"{len(bench)} networks of `cifar16` ({bench.space.size:.1e} networks: GhostNet's first five rows, at "
            f"{bench.space.resolution} x {bench.space.resolution} pixels), each trained from fresh weights and "
            "transplanted from one parent: a truth on which search methods are tested in seconds. "
            f"**So far {started} of {len(bench)} networks have a training**; the table below says which."
            + answer(bench)
        ),
        USE,
        paragraph(
            f"Of the networks {kinds['even']} are spread evenly over multiply-adds, up to {format_count(MOST_MACS)}; "
            f"{kinds['front']} are of the front that unit losses predict against multiply-adds, and {kinds['mutant']} "
            "are mutants of such. They stand in an order of which each beginning is even over multiply-adds. They are "
            f"trained on {record.training_images:,} images of CIFAR-10. A method goes by the search split "
            f"({record.search_images:,} images) and is judged by the test split ({record.test_images:,}). `trained:E` "
            "is from fresh weights, `tuned:E` transplanted and then tuned with the parent as teacher, for E epochs, "
            "each with a schedule of its own."
        ),
        "\n".join(
            [
                "| run | done | seconds, median | test accuracy, median | best |",
                "|---|---|---|---|---|",
                *progress(bench),
            ]
        ),
        paragraph(
            "Seconds are one core's CPU time for fitting and training, without evaluations and without the teacher's, "
            "which is asked once for all networks. They were taken on a machine that did other work, too."
            + (f" Latencies are predicted: {record.latency}." if record.latency else " Latencies are not there yet.")
        ),
    ]
    if record.parent:
        parts.append(
            paragraph(
                f"The parent (`parent/`, {record.parent.arch}) has {record.parent.test_accuracy:.2%} of the test "
                "images right. It was trained by an earlier version of this code, and `--part parent` trains another."
            )
        )
    parts.append("## What ranks them")
    for evaluator, (target, predictors) in TARGETS.items():
        if rows := rankings(bench, of_run(evaluator, "test"), predictors):
            parts.append(f"### {target[0].upper()}{target[1:]}")
            if known := noise(bench, evaluator):
                parts.append(paragraph(noise_text(known)))
            parts.append(
                paragraph(
                    f"Kendall's tau with the test accuracy of `{evaluator}` (the first seed), by the search split or "
                    f"by costs, with 95 % intervals over networks; and inside {BINS} bins of like multiply-adds:"
                )
            )
            parts.append(table(("ranked by", "networks", "tau", "inside bins"), (cells(*row) for row in rows)))
    if parts[-1] == "## What ranks them":
        parts.append(f"Fewer than {LEAST} networks are there yet.")
    parts += method_table(methods) if methods else []
    parts += real_table(real, methods) if real else []
    parts += model_tables(models) if models else []
    parts += [
        "![accuracy over multiply-adds](ghostbench.png)",
        "The commands: `make.py`, `methods.py`, `real.py`, `models.py`; this page: `page.py`.\n",
    ]
    return "\n\n".join(parts)


def answer(bench: GhostBench) -> str:
    """What it says so far, in a sentence; nothing where there are too few networks."""
    _, predictors = TARGETS["tuned:3"]
    known = dict(rankings(bench, of_run("tuned:3", "test"), predictors))
    if not known:
        return ""
    as_is, one, macs = (known[name] for name in (*list(TRANSPLANTS)[:2], "multiply-adds"))
    return (
        f" Three epochs of tuning rank {as_is.networks} of them as their transplants do without any (Kendall's tau "
        f"{as_is.tau:.2f}), or after one ({one.tau:.2f}); multiply-adds come to {macs.tau:.2f}."
    )


def method_table(record: dict[str, Any]) -> list[str]:
    """What search methods reach at equal compute, of `methods.json`."""
    errors = "; ".join(
        f"`{column}` {each['points']:.1f} points, tau {each['tau']:.2f}" for column, each in record["errors"].items()
    )
    fits = " and ".join(f"{count} networks for {columns}" for columns, count in record["networks"].items())
    about = (
        "A search needs the accuracy of any network that it comes upon. The surrogate benchmark "
        "(`search.accuracy.surrogate_benchmark`) predicts it from those that were trained, and draws what it doesn't "
        f"know of a network from its errors on networks that it leaves out. It was fitted to {fits}; the errors: "
        f"{errors}."
    )
    rules = (
        f"With it the samplers of GhostNAS search the whole space of networks of at most {format_count(MOST_MACS)} "
        f"multiply-adds, {record['seeds']} seeds each, of the surrogate and of the sampler; by the code of commit "
        f"{record['commit']}. A method evaluates until "
        f"its time is over, {MOST_NETWORKS} networks at most, takes {CHOSEN} by hypervolume (or evenly along its "
        "front, as a run does), and trains these finally: transplants for 3 epochs, fresh weights for 5. "
        "On a ladder the sampler promotes: a network's next evaluation competes with new networks, by what the front "
        "is expected to gain for its price; *at once* is ASHA's rule instead, by which a network climbs when it is "
        "evaluated or never. "
        f"*Finalists* are taken by hypervolume and judged again as `{FINALS}` before the {CHOSEN} are taken. Regret is "
        f"the share of hypervolume (test accuracy over {FLOOR:.0%}, latency below {SLOWEST:g} times that of GhostNet's "
        f"slowest width in the budget) that the {CHOSEN} lack to the best {CHOSEN} of all that any method came upon "
        "with that seed. Time counts all but the parent's training: evaluations, unit losses of `exact` "
        f"({record['unit_loss_seconds']:.0f} s), final trainings. What is trained from fresh weights for 5 epochs is "
        "far from its end; with hours for each network it comes nearer (`../weights/`). The table has the median "
        "regret, and in brackets the upper quartile:"
    )
    header = ["method", *(f"{minutes:g} core-min" for minutes in record["minutes"])]
    rows = [
        [method["name"], *(f"{middle:.1%} ({high:.1%})" for _, middle, high in method["regrets"])]
        for method in record["methods"]
    ]
    return [
        "## Search methods at equal compute",
        paragraph(method_answer(record)),
        paragraph(about),
        paragraph(rules),
        table(header, rows),
    ]


def method_answer(record: dict[str, Any]) -> str:
    """The best methods at some budgets, with and without transplants, and how far the default is behind them."""
    minutes = record["minutes"]
    default = next(each["regrets"] for each in record["methods"] if each["name"] == DEFAULT)
    sentences = []
    for k in range(1, len(minutes), 2):
        best, fresh = (
            min((each for each in record["methods"] if each["fresh"] == kind), key=lambda each: each["regrets"][k][1])
            for kind in (False, True)
        )
        sentences.append(
            f"In {minutes[k]:g} core-minutes the best ({best['name']}) has a median regret of "
            f"{best['regrets'][k][1]:.1%}, the default {default[k][1]:.1%}, and the best without transplants "
            f"({fresh['name']}) {fresh['regrets'][k][1]:.1%}."
        )
    return " ".join(sentences)


def real_table(record: dict[str, Any], simulated: dict[str, Any] | None) -> list[str]:
    """What the same methods reach in earnest, of `real.json`, beside what the simulation says of them."""

    def points(row: dict[str, Any]) -> Floats:
        return np.array([(each["test"], -each["latency_ms"] / record["reference_ms"]) for each in row["chosen"]])

    k = simulated["minutes"].index(record["minutes"]) if simulated else 0
    promised = {each["name"]: each["regrets"][k][1] for each in simulated["methods"]} if simulated else {}
    methods: dict[str, list[dict[str, Any]]] = {}
    for row in record["methods"]:
        methods.setdefault(row["name"], []).append(row)
    seeds = sorted({row["seed"] for row in record["methods"]})
    best = {
        seed: hypervolume(best_four(np.concatenate([points(r) for r in record["methods"] if r["seed"] == seed])))
        for seed in seeds
    }
    lines = []
    for name, rows in methods.items():
        networks = "; ".join("+".join(map(str, row["networks"])) for row in rows)
        found = "; ".join(", ".join(f"{100 * each['test']:.1f}" for each in row["chosen"]) for row in rows)
        times = "; ".join(", ".join(f"{each['latency_ms']:.3f}" for each in row["chosen"]) for row in rows)
        lacks = "; ".join(f"{1 - hypervolume(points(row)) / best[row['seed']]:.1%}" for row in rows)
        says = f"{promised[name]:.1%}" if name in promised else "-"
        lines.append([name, networks, times, found, lacks, says])
    core = [
        (row["search_core_seconds"] + sum(each["seconds"] for each in row["chosen"])) / 60 for row in record["methods"]
    ]
    about = (
        f"The same methods in earnest, each within {record['minutes']:g} minutes ({min(core):.1f} to {max(core):.1f} "
        "of one core), by the product's own search, on the same images and with the same parent; "
        f"{'one run' if len(seeds) == 1 else f'{len(seeds)} runs'} of each. The regret is to the best {CHOSEN} of all "
        f"that were trained finally in these runs{', run by run' if len(seeds) > 1 else ''}; the last column is what "
        "the simulation says of as many minutes, in the median, of more networks to choose the best from. Networks "
        "on a ladder: how many came to each rung."
    )
    header = ("method", "networks", "ms", f"test accuracy of the {CHOSEN}, %", "regret", "simulated")
    return ["## The same in earnest", paragraph(about), table(header, lines)]


def model_tables(record: dict[str, Any]) -> list[str]:
    """What predicts accuracy, of `models.json`."""
    ends, by_genes = record["ends"], record["by genes"]
    judged = (
        "the mean error in points, Kendall's tau, and the share of the others inside the 95 % interval, by the number "
        "of networks that a model was fitted to"
    )
    about_ends = (
        f"Models of the accuracy after 3 epochs, fitted to some of the {ends['networks']} networks and judged on the "
        f"others, on average over {ends['draws']} draws: {judged}. The interval is Student's quantile times the error "
        "on networks that a fit leaves out; a Gaussian process's is its own. A search on a ladder goes by such a model "
        "wherever it compares networks of different rungs."
    )
    about_genes = (
        "A search's sampler predicts what a network will have before it is evaluated, by its genes. Gaussian processes "
        f"of accuracy as transplanted, fitted to some of {by_genes['networks']} networks and judged on the others, "
        f"{by_genes['draws']} draws: {judged}, and one core's seconds for it all. The first is what GhostNAS had "
        "before, but for the scales of the genes."
    )
    return [
        "## What predicts the end of a ladder",
        paragraph(about_ends),
        model_table(ends),
        "## What predicts a transplant from its genes",
        paragraph(about_genes),
        model_table(by_genes, seconds=True),
    ]


def model_table(record: dict[str, Any], seconds: bool = False) -> str:
    """Markdown."""
    header = ["model", *(f"{count} networks" for count in record["counts"])]
    rows = []
    for name, judged in record["models"].items():
        row = [
            f"{j['error']:.1f}, tau {j['tau']:.2f}, {j['covered']:.0%}" + (f", {j['seconds']:.2g} s" if seconds else "")
            for j in judged
        ]
        rows.append([name, *row])
    return table(header, rows)


def cells(name: str, r: Ranking) -> tuple[str, ...]:
    """A row of a table."""
    return name, str(r.networks), f"{r.tau:.2f} ({r.low:.2f} to {r.high:.2f})", f"{r.inside:.2f}"


def noise_text(known: dict[str, float]) -> str:
    """The ceiling that noise sets."""
    return (
        f"**The ceiling.** Two trainings that differ in the seed alone rank {known['networks']} networks with tau "
        f"{known['tau']:.2f}, inside bins {known['inside']:.2f}; the mean of the other {known['seeds'] - 1:.0f} seeds "
        f"ranks one with {known['by_others']:.2f}. A seed's standard deviation is {known['points']:.2f} points."
    )


def picture(bench: GhostBench) -> bytes:
    """Test accuracy over multiply-adds, of each kind of run."""
    with canvas(4.4, 7.0) as (figure, axis):
        for colour, evaluator in zip(SERIES, ("trained:5", "tuned:0", "tuned:1", "tuned:3", "tuned:10"), strict=False):
            value = of_run(evaluator, "test")
            points = [(n.macs / 1e6, 100 * v) for n in bench.record.networks if (v := value(n)) is not None]
            if points:
                axis.scatter(
                    *zip(*points, strict=True), s=9, alpha=0.7, color=colour, label=f"{evaluator} ({len(points)})"
                )
        if bench.record.parent:
            axis.axhline(100 * bench.record.parent.test_accuracy, linewidth=0.8, linestyle=":", color="black")
        axis.set(xlabel="million multiply-adds", ylabel="top-1, % of the test images")
        axis.legend(loc="lower right")
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "work", help="the folder that `make.py` writes")
    parser.add_argument("--latency", type=Path, default=HERE / "cifar16.lat.json", help="a latency table of cifar16")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    file = arguments.out / "ghostbench.json"
    if arguments.work.exists():  # without logs the page is of what is published
        published = read_record(file, BenchmarkFile) if file.exists() else None
        save_ghostbench(file, assemble(arguments.work, arguments.latency, published))
    bench = load_ghostbench(file)
    methods, models, real = (read_json(file) if file.exists() else None for file in (RECORD, MODELS, REAL))
    write_text(arguments.out / "README.md", page(bench, methods, models, real))
    write_bytes(arguments.out / "ghostbench.png", picture(bench))
    print(f"{file}: {file.stat().st_size:,} bytes, {sum(len(n.runs) for n in bench.record.networks)} trainings")


if __name__ == "__main__":
    main()
