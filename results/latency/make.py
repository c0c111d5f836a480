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
from search.latency.bench import Bench, reference
from search.latency.calibrate import calibrate
from search.latency.fitting import judged
from search.latency.predictor import Predictor
from search.latency.ruler.rounds import Rounds
from search.latency.runtimes import runtime
from search.latency.table import LatencyTable, Validation, describe
from search.progress import bar
from spaces.population import sample, spread
from spaces.presets import named_space

HERE = Path(__file__).parent
SEED = 1  # another than the calibration's
ROUNDS = 2


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
            deadline=time.monotonic() + 60 * arguments.minutes,
        )
    run = runtime(arguments.runtime, arguments.threads)
    rng = np.random.default_rng(SEED)
    half = arguments.networks // 2
    codes = np.concatenate([sample(space, rng, half), spread(space, rng, arguments.networks - half)])
    planned = {
        "networks": codes.tolist(),
        "rounds": ROUNDS,
        "seed": SEED,
        "threads": arguments.threads,
        "batch": arguments.batch,
        "items": [
            {
                "name": f"network {k}",
                "kind": "network",
                "shape": [arguments.batch, space.in_chs, *[space.resolution] * 2],
            }
            for k in range(len(codes))
        ],
    }
    bench, log = Bench(space, planned), JsonLines(arguments.work / f"{name(arguments)}.judges.jsonl")
    with bar("judge", 1) as progress:

        def tell(done: int, total: int) -> None:
            progress.total(total)
            progress.at(done)

        Rounds(planned, lambda item: bench.session(run, item), reference(run), list(log), log.extend, None, tell).run()
    validation = judged(Predictor(table, space), codes, list(log))
    write_json(
        arguments.out / f"{name(arguments)}.json",
        {"calibration": describe(table), "minutes": round(table.protocol.seconds / 60, 1), **validation.model_dump()},
    )
    table.save(arguments.out / path.name)


def page(arguments: argparse.Namespace) -> None:
    """All runtimes side by side."""
    rows = []
    for file in sorted(arguments.out.glob("*-b*.json")):
        if file.name.endswith(".lat.json"):
            continue
        made: dict[str, Any] = read_json(file)
        c = made.pop("calibration")
        minutes = made.pop("minutes")
        v = Validation.model_validate(made)
        ruler = v.ruler
        rows.append(
            f"| [{c['runtime']}]({file.stem}.lat.json) | {minutes} min, {c['disturbed_percent']} % | {v.networks} "
            f"| **{v.mape:.2%}** ({v.mape_95[0]:.2%} to {v.mape_95[1]:.2%}) | {v.max:.1%} | {v.within_5:.1%} | {v.within_10:.1%} "
            f"| **{v.kendall_tau:.3f}** ({v.kendall_tau_95[0]:.3f} to {v.kendall_tau_95[1]:.3f}) "
            f"| {ruler.mape:.2%}, {ruler.kendall_tau:.3f} | {v.covered:.0%} |"
            if ruler
            else ""
        )
        for simple, a in v.simpler.items():
            rows.append(f"| &nbsp;&nbsp;{simple} | | | {a.mape:.2%} | | | | {a.kendall_tau:.3f} | | |")
    write_text(arguments.out / "README.md", PAGE.format(rows="\n".join(rows)))


PAGE = """# How good is a latency table?

The `imagenet` space at 224 x 224, float32, calibrated on two shared cores by `ghostnas calibrate`'s code within the
minutes shown; then judged by networks that it never saw, half of them uniform in the space, half spread evenly over
multiply-adds. Errors are relative to the measured latency, with 95 % bootstrap intervals over networks. *Ruler*: one
half of the judges' own visits against the other half; nothing can agree better than measuring agrees with itself.
Indented: simpler predictors, fitted on the networks that the table was corrected by.

| runtime | calibration, disturbed | networks | mean error | largest | within 5 % | within 10 % | Kendall tau | ruler | inside interval |
|---|---|---|---|---|---|---|---|---|---|
{rows}

Made by `make.py` beside this page. [Lowerings of the cheap op](lowering.md) and [aligned widths](widths.md) have pages
and scripts of their own.
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
