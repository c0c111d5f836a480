"""What it is worth that intrinsic widths are multiples of 4 or 8. From the repository's root, on a quiet machine:

    python results/latency/widths.py

Random networks of the imagenet space at 224, each as the paper's rule has it (align 1) and with its intrinsic widths
rounded up to multiples of 4 and 8. Rounding up costs multiply-adds; so beside the same architecture (time and
multiply-adds, and time a multiply-add) stands an aligned neighbour of equal multiply-adds: the closest of many mutants.
All forms of a network are timed side by side in the same rounds. `--quick` only tries that it works.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ghostnet import GhostNet
from search.errors import UserError
from search.files import write_json, write_text
from search.latency.paired import Interval, median_interval, time_interleaved
from search.latency.runtimes import Runtime, runtime
from search.latency.timing.device import now, this_device
from spaces import Space, named_space
from spaces.population import mutate, sample
from spaces.space import Codes
from spaces.tables import macs_table

HERE = Path(__file__).parent
ALIGNS = (4, 8)
MUTANTS = 2000
CLOSE = 0.002  # multiply-adds of the neighbour are equal to within that share


def nearest(space: Space, code: Codes, macs: float, rng: np.random.Generator) -> Codes:
    """A mutant of `code` whose multiply-adds are as near as may be: [genes]."""
    mutants = mutate(space, rng, np.repeat(code[None], MUTANTS, 0), 1.5 / len(code))
    return mutants[np.abs(macs_table(space).total(mutants) - macs).argmin()]


def variants(space: Space, code: Codes, rng: np.random.Generator) -> Iterator[tuple[str, Space, Codes, float]]:
    """Name, space, code and multiply-adds of each form of one network."""
    macs = float(macs_table(space).total(code)[0])
    yield "1", space, code, macs
    for align in ALIGNS:
        aligned = replace(space, name=f"{space.name}-{align}", align=align)
        yield f"{align}", aligned, code, float(macs_table(aligned).total(code)[0])
        other = nearest(aligned, code, macs, rng)
        yield f"{align}, equal", aligned, other, float(macs_table(aligned).total(other)[0])


def study(run: Runtime, space: Space, networks: int, rounds: int) -> dict:
    """Every network of the study on one runtime."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, space.in_chs, space.resolution, space.resolution), dtype=np.float32)
    rows = []
    for number, code in enumerate(sample(space, rng, networks)):
        forms = list(variants(space, code, rng))
        timers = {}
        for name, form_space, its, _ in forms:
            net = GhostNet(form_space.decode(its), form_space.num_classes).eval()
            timers[name] = run.load(run.compile(net, images.shape[1:])).timer(images)
        times = time_interleaved(timers, rounds, rng)
        rows.append({name: {"macs": macs, "ms": float(np.median(times[name]))} for name, _, _, macs in forms})
        for name in timers:  # the ratio of each round, then its median: what slows both cancels
            rows[-1][name]["time_ratio"] = float(np.median(times[name] / times["1"]))
        print(run.name, number, {name: round(form["time_ratio"], 3) for name, form in rows[-1].items()}, flush=True)
    return {"runtime": run.name, "version": run.version(), "dtype": run.dtype, "threads": run.threads, "rows": rows}


def findings(rows: list[dict], rng: np.random.Generator) -> dict[str, dict]:
    """Median ratios to align 1 over networks, with intervals."""
    ratios = {}
    for align in map(str, ALIGNS):
        time = np.array([row[align]["time_ratio"] for row in rows])
        macs = np.array([row[align]["macs"] / row["1"]["macs"] for row in rows])
        close = [row for row in rows if abs(row[f"{align}, equal"]["macs"] / row["1"]["macs"] - 1) <= CLOSE]
        ratios[align] = {
            "time": asdict(median_interval(time, rng)),
            "macs": asdict(median_interval(macs, rng)),
            "time_per_mac": asdict(median_interval(time / macs, rng)),
            "time_at_equal_macs": asdict(
                median_interval(np.array([r[f"{align}, equal"]["time_ratio"] for r in close]), rng)
            ),
            "networks_at_equal_macs": len(close),
        }
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and few, to try that it works")
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--targets", default="onnxruntime,openvino", help="runtimes; NAME:int8 for int8")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    space, networks, rounds = named_space("imagenet"), arguments.networks, arguments.rounds
    if arguments.quick:
        space, networks, rounds = replace(space, name="small", resolution=64), 4, 3
    studies, absent = [], {}
    for target in arguments.targets.split(","):
        name, _, dtype = target.partition(":")
        try:
            run = runtime(name, arguments.threads, dtype or "float32")
        except UserError as error:
            absent[target] = str(error)
            continue
        result = study(run, space, networks, rounds)
        studies.append(result | {"of_align_1": findings(result["rows"], np.random.default_rng(1))})
    report = {"device": this_device(), "made": now(), "space": space.name, "resolution": space.resolution}
    report |= {"networks": networks, "rounds": rounds, "quick": arguments.quick, "absent": absent, "studies": studies}
    write_json(arguments.out / "widths.json", report)
    write_text(arguments.out / "widths.md", page(report))


def page(report: dict) -> str:
    """The study as a page."""
    rows = []
    for study in report["studies"]:
        target = f"{study['runtime']} {study['version'].split('-')[0]}, {study['dtype']}, {study['threads']} thread"
        for align, ratios in study["of_align_1"].items():
            kinds = ("time", "macs", "time_per_mac", "time_at_equal_macs")
            cells = " | ".join(_percent(Interval(**ratios[kind])) for kind in kinds)
            rows.append(f"| {target} | {align} | {cells} | {ratios['networks_at_equal_macs']} |")
    absent = "".join(f"\nNot measured: {name} ({why}).\n" for name, why in report["absent"].items())
    values = {**report["device"], **report, "table": "\n".join(rows), "close": f"{CLOSE:.1%}", "missing": absent}
    return PAGE.format(**values)


def _percent(ratio: Interval) -> str:
    low, high = (f"{100 * (end - 1):+.1f}" for end in (ratio.low, ratio.high))
    return f"{100 * (ratio.median - 1):+.1f} % ({low} to {high})"


PAGE = """# Intrinsic widths in multiples of 4 and 8

{networks} random networks of the {space} space at {resolution} x {resolution}, batch 1, each with its intrinsic widths
as the paper has them (align 1) and rounded up to multiples of 4 and 8, timed side by side in {rounds} rounds. Median
over networks of the change against align 1, and its 95 % bootstrap interval. *At equal multiply-adds*: an aligned
mutant of the network whose multiply-adds are within {close} of it (as many networks as have one).

| target | align | time | multiply-adds | time a multiply-add | time at equal multiply-adds | networks |
|---|---|---|---|---|---|---|
{table}
{missing}
Every runtime is faster on aligned widths, ONNX Runtime by much: its convolutions work on blocks of channels, and s = 3
and 4 make widths such as 14 or 27. `imagenet` itself stays at align 1 all the same: aligned, GhostNet 0.5x and 1.3x
would be other networks than the published ones, which must be its members. So the aligned form is a preset beside it:
`--space imagenet-aligned` (and `cifar-aligned`, `digits-aligned`); a space of your own says `align = 8`.

Measured on {cpu} ({cores} cores), {made}, by `widths.py` beside this page; figures in `widths.json`.
"""


if __name__ == "__main__":
    main()
