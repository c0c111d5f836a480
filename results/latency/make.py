"""How good a latency table is: calibrated in ten minutes, then judged by 300 networks that it never saw.

From the repository's root, on a machine that does nothing else; each goes on where it was stopped:

    python results/latency/make.py calibrate --runtime onnxruntime --threads 1
    python results/latency/make.py calibrate --runtime onnxruntime --threads 2
    python results/latency/make.py calibrate --runtime openvino --threads 1
    python results/latency/make.py page

With a GPU: `--runtime torch-cuda --batch 1` and `--batch 64`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from search.files import JsonLines, read_json, write_json, write_text
from search.latency.bench import Bench, plan, reference
from search.latency.calibrate import calibrate, visits_log
from search.latency.fitting import fitted
from search.latency.predictor import Predictor
from search.latency.ruler.gate import best
from search.latency.ruler.rounds import Rounds
from search.latency.runtimes import runtime
from search.latency.table import LatencyTable, Validation, describe
from search.progress import bar
from spaces.population import sample, spread
from spaces.presets import named_space
from spaces.space import Codes, Space

HERE = Path(__file__).parent
SEED = 1  # another than the calibration's
ROUNDS = 2
PLAN: dict[str, Any] = {"rounds": 3, "fit_networks": 48, "held_out": 32, "seed": 0}
Visits = dict[str, list[dict[str, Any]]]


def name(arguments: argparse.Namespace) -> str:
    return f"{arguments.space}-{arguments.runtime}-{arguments.threads}t-b{arguments.batch}"


def calibrate_and_judge(arguments: argparse.Namespace) -> None:
    space = named_space(arguments.space)
    path = arguments.work / f"{name(arguments)}.lat.json"
    if path.exists():
        table = LatencyTable.load(path)
    else:
        table = calibrate(
            space,
            path,
            runtime_name=arguments.runtime,
            threads=arguments.threads,
            batch=arguments.batch,
            **PLAN,
            deadline=time.monotonic() + 60 * arguments.minutes,
        )
    run, shape = runtime(arguments.runtime, arguments.threads), [arguments.batch, space.in_chs, *[space.resolution] * 2]
    rng = np.random.default_rng(SEED)
    half = arguments.networks // 2
    codes = np.concatenate([sample(space, rng, half), spread(space, rng, arguments.networks - half)])
    planned = {
        "networks": codes.tolist(),
        "rounds": ROUNDS,
        "seed": SEED,
        "threads": arguments.threads,
        "batch": arguments.batch,
    }
    planned["items"] = [{"name": f"network {k}", "kind": "network", "shape": shape} for k in range(len(codes))]
    bench, log = Bench(space, planned), JsonLines(arguments.work / f"{name(arguments)}.judges.jsonl")
    with bar("judge", 1) as progress:

        def tell(done: int, total: int) -> None:
            progress.total(total)
            progress.at(done)

        Rounds(planned, lambda item: bench.session(run, item), reference(run), list(log), log.extend, None, tell).run()
    found = judged(space, table, rows_before(path), codes, list(log), arguments)
    write_json(arguments.out / f"{name(arguments)}.json", found)
    table.save(arguments.out / path.name)


def judged(
    space: Space,
    table: LatencyTable,
    before: Visits,
    codes: Codes,
    judges: list[dict[str, Any]],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The same fit, of the same units and networks, held against the judges; and the share of them that the table's own
    interval holds."""
    made = plan(space, **PLAN, threads=arguments.threads, batch=arguments.batch)
    fitted_on = np.array(made["networks"][: made["fit_networks"]])
    unseen = {f"network {k}" for k in range(len(fitted_on), len(made["networks"]))}
    visits = {item: rows for item, rows in before.items() if item not in unseen}
    for row in (row for row in judges if "item" in row):
        number = len(fitted_on) + int(row["item"].split()[1])
        visits.setdefault(f"network {number}", []).append(row)
    found = fitted(space, np.concatenate([fitted_on, codes]), len(fitted_on), visits)
    held = found.validation.held_out
    said = Predictor(table, space)(np.array([network.code for network in held]))
    measured = np.array([network.measured_ms for network in held])
    factor = float(np.median(measured / said.ms))
    inside = (said.low_ms <= measured) & (measured <= said.high_ms)
    return {
        "calibration": describe(table),
        "minutes": round(table.protocol.seconds / 60, 1),
        "disturbed_in_all": found.disturbed,
        "reference_ms": [table.protocol.reference_ms, best([row["reference_ms"] for row in judges if "item" in row])],
        "common_factor": factor,
        "mape_after_it": float(np.abs(factor * said.ms / measured - 1).mean()),
        "inside_the_tables_interval": float(inside.mean()),
        "validation": found.validation.model_dump(mode="json"),
    }


def rows_before(path: Path) -> Visits:
    """A calibration's visits by item."""
    found: Visits = {}
    for row in JsonLines(visits_log(path)):
        if "item" in row:
            found.setdefault(row["item"], []).append(row)
    return found


def page(arguments: argparse.Namespace) -> None:
    """All runtimes side by side."""
    rows = []
    for file in sorted(arguments.out.glob("*-b*.json")):
        if file.name.endswith(".lat.json"):
            continue
        made = read_json(file)
        c, v = made["calibration"], Validation.model_validate(made["validation"], strict=False)
        assert v.ruler is not None
        rows.append(
            f"| [{c['runtime']}]({file.stem}.lat.json) | {made['minutes']} min, {c['disturbed_percent']} % "
            f"| {v.networks} | **{v.mape:.2%}** ({v.mape_95[0]:.2%} to {v.mape_95[1]:.2%}) | {v.max:.1%} "
            f"| {v.within_5:.1%} | {v.within_10:.1%} "
            f"| **{v.kendall_tau:.3f}** ({v.kendall_tau_95[0]:.3f} to {v.kendall_tau_95[1]:.3f}) "
            f"| {v.ruler.mape:.2%}, {v.ruler.kendall_tau:.3f} | {made['inside_the_tables_interval']:.0%} |"
        )
        then, now = made["reference_ms"]
        rows.append(
            f"| &nbsp;&nbsp;after the common factor of {made['common_factor']:.3f} "
            f"(the gate's network: {now / then:.3f}) | | | {made['mape_after_it']:.2%} | | | | | | |"
        )
        for simple, a in v.simpler.items():
            rows.append(f"| &nbsp;&nbsp;{simple} | | | {a.mape:.2%} | | | | {a.kendall_tau:.3f} | | |")
    write_text(arguments.out / "README.md", PAGE.format(rows="\n".join(rows)))


PAGE = """# How good is a latency table?

The `imagenet` space at 224 x 224, float32, calibrated on two shared cores by `ghostnas calibrate`'s code within the
minutes shown; then judged by networks that it never saw, half of them uniform in the space, half spread evenly over
multiply-adds. Errors are relative to the measured latency, with 95 % bootstrap intervals over networks. *Ruler*: one
half of the judges' own visits against the other half; nothing can agree better than measuring agrees with itself.
The judges were timed after the table was made: where the whole machine ran slower by then, all errors have a common
part, which `ghostnas calibrate check --rescale` takes out. Indented: that, and simpler
predictors, fitted on the networks that the table was corrected by.

| runtime | made in, disturbed | judges | mean error | largest | in 5 % | in 10 % | Kendall tau | ruler | in interval |
|---|---|---|---|---|---|---|---|---|---|
{rows}

Made by `make.py` beside this page; more runtimes and threads, `lowering.py` and `widths.py` wait for a quiet machine.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("calibrate", "page"))
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--work", type=Path, default=Path("results/work-latency"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    {"calibrate": calibrate_and_judge, "page": page}[arguments.part](arguments)


if __name__ == "__main__":
    main()
