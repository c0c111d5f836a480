"""A kit's table against networks that were timed directly. From the repository's root, on a quiet machine:

    python results/latency/kit.py prepare
    python results/latency/kit.py measure

`prepare` writes a kit and makes a virtual environment that holds its runtime, numpy and nothing of ours. `measure` runs
the kit in it, kills it once in the middle, goes on and imports what came out; then it times networks that the kit never
saw, with weights of their own, by the ruler of this process. Each goes on where it was stopped.
"""

import argparse
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from ghostnet import GhostNet
from search.bootstrap import interval
from search.errors import UserError
from search.files import JsonLines, read_json, write_bytes, write_json, write_text
from search.latency.bench import reference
from search.latency.drift import without_drift
from search.latency.fitting import FEWEST_NETWORKS
from search.latency.kit import SCRIPT, write_kit
from search.latency.kit_result import import_result
from search.latency.predictor import Predictor
from search.latency.runtimes import kit_session, runtime
from search.latency.table import LatencyTable
from search.latency.timing.device import now
from search.latency.timing.interference import QUIET_RATIO, quiet_time
from search.latency.timing.rounds import Rounds
from search.latency.timing.scores import score
from spaces import Space, named_space
from spaces.population import sample_evenly
from spaces.space import Codes

HERE = Path(__file__).parent
SEED = 1  # of the networks; the kit's is 0
BOOTSTRAPS = 2000


def prepare(arguments: argparse.Namespace) -> None:
    if not (arguments.work / "kit").exists():
        write_kit(named_space(arguments.space), arguments.work / "kit", runtime=arguments.runtime)
    if not (arguments.work / "packages.json").exists():
        venv.create(arguments.work / "venv", with_pip=True, clear=True)
        python = arguments.work / "venv/bin/python"
        session = kit_session(arguments.runtime, "float32")
        wanted = [f"{session.package}=={session.version()}", f"numpy=={np.__version__}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        listed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True)
        write_json(arguments.work / "packages.json", listed.stdout.decode().split())


def measure(arguments: argparse.Namespace) -> None:
    prepare(arguments)
    kit_seconds = run_kit(arguments.work, arguments.minutes)
    result = arguments.work / "kit/result.jsonl"
    table = import_result(result, arguments.work / "kit.lat.json")
    space = named_space(arguments.space)
    codes = fresh_networks(space, arguments.networks, next(iter(JsonLines(result)))["networks"])
    measurements = time_directly(space, codes, arguments)
    report = table_errors(table, space, codes, measurements)
    report |= {"made": now(), "packages": read_json(arguments.work / "packages.json"), "kit_seconds": kit_seconds}
    report |= {"visits_before_the_kill": read_json(arguments.work / "killed.json"), "visits": table.protocol.visits}
    write_json(arguments.out / "kit.json", report)
    page(arguments)


def run_kit(work: Path, minutes: float) -> float:
    """Runs the kit to its end, killed once halfway; returns the seconds that it measured."""
    result, killed = work / "kit/result.jsonl", work / "killed.json"
    command = [str(work / "venv/bin/python"), "-I", str(work / "kit" / SCRIPT)]
    if not killed.exists():
        running = subprocess.Popen([*command, "--minutes", str(minutes)])
        try:
            running.wait(timeout=30 * minutes)
            raise UserError(f"the kit ended before half of its {minutes} minutes, with {running.returncode}")
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        write_json(killed, len(visited(result)))
    left = minutes - max((row["at_s"] for row in visited(result)), default=0) / 60
    subprocess.run([*command, "--minutes", str(max(left, 0.1))], check=True)
    rows = visited(result)
    if len({(row["item"], row["visit"]) for row in rows}) < len(rows):
        raise UserError(f"{result} has a visit twice")
    return max(row["at_s"] for row in rows)


def visited(result: Path) -> list[dict[str, Any]]:
    return [row for row in JsonLines(result) if "item" in row]


def fresh_networks(space: Space, count: int, known: list[list[int]]) -> Codes:
    """Networks spread over multiply-adds of which the kit has none: [count, genes]."""
    has = set(map(tuple, known))
    sampled = sample_evenly(space, np.random.default_rng(SEED), 2 * count)
    rest = np.array([code for code in sampled.tolist() if tuple(code) not in has])
    return rest[np.linspace(0, len(rest) - 1, count).round().astype(int)]


def time_directly(space: Space, codes: Codes, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Visits to each network, in interleaved rounds until the time is up; files of networks with random weights."""
    run, folder = runtime(arguments.runtime, 1), arguments.work / "networks"
    shape = (space.in_chs, space.resolution, space.resolution)
    torch.manual_seed(SEED)
    for k, code in enumerate(codes):
        net = GhostNet(space.decode(code), space.num_classes, space.in_chs).eval()
        if not (file := folder / f"network {k}").exists():
            write_bytes(file, run.compile(net, shape))
    items = [{"name": f"network {k}", "kind": "network", "shape": [1, *shape]} for k in range(len(codes))]
    planned = {"items": items, "rounds": 3, "seed": SEED, "threads": 1}
    log, started = JsonLines(arguments.work / "direct.jsonl"), time.monotonic()
    rows = list(log)
    elapsed = max((row["at_s"] for row in rows if "item" in row), default=0)
    work = Rounds(
        planned,
        lambda name: run.load((folder / name).read_bytes()),
        reference(run),
        rows,
        log.extend,
        started + 60 * arguments.direct_minutes - elapsed,
    )
    work.run()
    return work.measurements


def table_errors(
    table: LatencyTable, space: Space, codes: Codes, measurements: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The table's errors on the networks that had calm visits, as they are and after one common factor."""
    quiet_ms = quiet_time([row["reference_ms"] for item_rows in measurements.values() for row in item_rows])
    quiet = {
        name: [(row["at_s"], row["min_ms"]) for row in item_rows if row["reference_ms"] <= QUIET_RATIO * quiet_ms]
        for name, item_rows in measurements.items()
    }
    minima = without_drift({name: item_rows for name, item_rows in quiet.items() if len(item_rows) > 1})
    if len(minima) < FEWEST_NETWORKS:
        raise UserError(f"only {len(minima)} networks had two calm visits: the machine is too busy")
    kept = codes[[int(name.removeprefix("network ")) for name in minima]]
    measured, first, second = (
        np.array([score(item_rows[part]) for item_rows in minima.values()])
        for part in (slice(None), slice(None, None, 2), slice(1, None, 2))
    )
    predicted = Predictor(table, space, threads=1, batch=1, dtype="float32")(kept)
    factor = float(np.median(measured / predicted.latency_ms))
    held = (predicted.low_ms <= measured) & (measured <= predicted.high_ms)
    return {
        "runtime": f"{table.setting.runtime} {table.setting.runtime_version}",
        "cpu": table.device.cpu,
        "cores": table.device.cores,
        "space": space.name,
        "resolution": space.resolution,
        "units": table.units_timed,
        "units_in_space": table.protocol.units_in_space,
        "disturbed": table.protocol.disturbed,
        "own_mape": table.validation.mape,
        "own_networks": table.validation.networks,
        "networks": len(measured),
        "visits_each": float(np.mean([len(item_rows) for item_rows in minima.values()])),
        "direct_disturbed": 1 - sum(map(len, quiet.values())) / sum(map(len, measurements.values())),
        "factor": factor,
        "in_interval": float(held.mean()),
        "as_it_is": errors(predicted.latency_ms, measured),
        "after_the_factor": errors(factor * predicted.latency_ms, measured),
        "ruler": errors(first, second),
        "held_out": [
            {"code": code, "measured_ms": float(ms), "predicted_ms": float(predicted_ms)}
            for code, ms, predicted_ms in zip(kept.tolist(), measured, predicted.latency_ms, strict=True)
        ],
    }


def errors(predicted: np.ndarray, measured: np.ndarray) -> dict[str, Any]:
    """How far n numbers are from n others, relative to these, with 95 % bootstrap intervals."""
    size = np.abs(predicted / measured - 1)

    def ends(statistic: Callable[[np.ndarray], float]) -> list[float]:
        return interval(statistic, len(size), np.random.default_rng(0), BOOTSTRAPS).tolist()

    return {
        "mape": float(size.mean()),
        "mape_95": ends(lambda pick: size[pick].mean()),
        "max": float(size.max()),
        "within_5": float((size <= 0.05).mean()),
        "within_10": float((size <= 0.10).mean()),
        "kendall_tau": float(kendalltau(predicted, measured).statistic),
        "kendall_tau_95": ends(lambda pick: kendalltau(predicted[pick], measured[pick]).statistic),
    }


def page(arguments: argparse.Namespace) -> None:
    """The study as a page."""
    report = read_json(arguments.out / "kit.json")
    named = {"the table as it is": "as_it_is", "after one common factor": "after_the_factor", "the ruler": "ruler"}
    table = "\n".join(f"| {name} | {line(report[key])} |" for name, key in named.items())
    holds = ", ".join(package.replace("==", " ") for package in report["packages"])
    write_text(arguments.out / "kit.md", PAGE.format(**{**report, "table": table, "holds": holds}))


def line(e: dict[str, Any]) -> str:
    (low, high), (below, above) = e["mape_95"], e["kendall_tau_95"]
    return (
        f"**{e['mape']:.2%}** ({low:.2%} to {high:.2%}) | {e['max']:.1%} | {e['within_5']:.1%} | {e['within_10']:.1%} "
        f"| **{e['kendall_tau']:.3f}** ({below:.3f} to {above:.3f})"
    )


PAGE = """# A kit's table against networks timed directly

A kit of the {space} space at {resolution} x {resolution} ran for {kit_seconds:.0f} s on one thread of {runtime}. It was
killed once (SIGKILL, after {visits_before_the_kill} of its {visits} visits), went on and measured nothing twice;
{disturbed:.1%} of its visits were disturbed. Its table has {units} of {units_in_space} units timed, and says of itself
an error of {own_mape:.2%} on the {own_networks} networks that it held out. Its virtual environment had no more than
{holds}.

Then {networks} networks that the kit never saw, spread over multiply-adds, with random weights rather than the kit's
constant ones, were timed by the ruler in this program: {visits_each:.0f} calm visits each, in interleaved rounds,
{direct_disturbed:.1%} disturbed. Errors are relative to those times, with 95 % bootstrap intervals over networks. A
machine's pace drifts between two sessions; the second line takes out one factor for all networks ({factor:.3f}). *The
ruler*: one half of the direct visits against the other half. In the table's 90 % interval were {in_interval:.0%}.

| | mean error | largest | in 5 % | in 10 % | Kendall tau |
|---|---|---|---|---|---|
{table}

Measured on {cpu} ({cores} cores), {made}, by `kit.py` beside this page; figures in `kit.json`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("prepare", "measure", "page"))
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--runtime", default="onnxruntime", help="with another: --work and --out of its own")
    parser.add_argument("--minutes", type=float, default=10, help="of the kit")
    parser.add_argument("--direct-minutes", type=float, default=5, help="of the networks timed directly")
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("results/work-kit"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    try:
        {"prepare": prepare, "measure": measure, "page": page}[arguments.part](arguments)
    except UserError as error:
        sys.exit(f"kit.py: {error}")


if __name__ == "__main__":
    main()
