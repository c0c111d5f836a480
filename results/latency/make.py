"""How good a latency table is: calibrated beside 300 networks that it never saw, which judge it.

From the repository's root, on a machine that does nothing else; each goes on where it was stopped:

    python results/latency/make.py calibrate --runtime onnxruntime --threads 1 --minutes 13
    python results/latency/make.py calibrate --runtime onnxruntime --threads 2 --minutes 18
    python results/latency/make.py calibrate --runtime openvino --networks 200 --minutes 26
    python results/latency/make.py calibrate --space digits --networks 100 --dtype int8 --minutes 4
    python results/latency/make.py calibrate --space digits --networks 100 --dtype int8 --runtime openvino --minutes 5
    python results/latency/make.py page

With a GPU: `--runtime torch-cuda --batch 1` and `--batch 64`. `compile` in place of `calibrate` compiles all networks
beforehand, on a machine that may be busy, so that the time box is spent on timing. `--beside "two trainings"` says what
else the machine did meanwhile: that table is published beside the quiet one.
"""

import argparse
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from search.files import JsonLines, read_json, write_json, write_text
from search.latency.bench import Bench, measurement_plan
from search.latency.calibrate import calibrate, measurements_log
from search.latency.runtimes import runtime
from search.latency.table import LatencyTable, describe
from search.latency.table_warnings import table_warnings
from search.progress import bar
from search.records import record_json
from search.report.markdown import paragraph
from spaces.presets import named_space

HERE = Path(__file__).parent
FIT_NETWORKS = 48
ROUNDS = 3
STORE = "compiled"


def compile_all(arguments: argparse.Namespace) -> None:
    """Fills the store of compiled networks, the networks first."""
    space = named_space(arguments.space)
    run = runtime(arguments.runtime, arguments.threads, arguments.dtype)
    planned = measurement_plan(
        space,
        fit_networks=FIT_NETWORKS,
        held_out=arguments.networks,
        rounds=ROUNDS,
        threads=arguments.threads,
        batch=arguments.batch,
        seed=0,
    )
    bench = Bench(space, planned.networks, planned.shapes, arguments.work / STORE)
    with bar("compile", len(planned.items)) as progress:
        for item in planned.items:
            bench.compiled(run, item.name)
            progress.advance()


def calibrate_and_validate(arguments: argparse.Namespace) -> None:
    dtype = "" if arguments.dtype == "float32" else f"-{arguments.dtype}"
    busy = "-busy" if arguments.beside else ""
    name = f"{arguments.space}-{arguments.runtime}{dtype}-{arguments.threads}t-b{arguments.batch}{busy}"
    path = arguments.work / f"{name}.lat.json"
    calibrate(
        named_space(arguments.space),
        path,
        runtime=arguments.runtime,
        threads=arguments.threads,
        batch=arguments.batch,
        dtype=arguments.dtype,
        rounds=ROUNDS,
        fit_networks=FIT_NETWORKS,
        held_out=arguments.networks,
        minutes=arguments.minutes,
        store=arguments.work / STORE,
    )
    publish(path, arguments.beside, arguments.out)


def publish(path: Path, beside: str, out: Path) -> None:
    """The table and its figures, for the page."""
    table = LatencyTable.load(path)
    judging, judges, networks = held_out_share(path)
    write_json(
        out / path.name.replace(".lat.json", ".json"),
        record_json(describe(table))
        | {"minutes": table.protocol.seconds / 60, "of_which_for_the_judges": judging, "visits_to_a_judge": judges}
        | {"visits_to_a_network": networks, "simpler": {k: a.model_dump() for k, a in table.validation.simpler.items()}}
        | table.validation.model_dump(mode="json", include={"mape_95", "kendall_tau_95"})
        | {"beside": beside, "warnings": table_warnings(table)},
    )
    table.save(out / path.name)


def held_out_share(path: Path) -> tuple[float, float, float]:
    """Share of a calibration's time that went to the judges; visits to one of them, and to a network that is fitted."""
    seconds, measurements = {"judge": 0.0, "network": 0.0, "unit": 0.0}, {"judge": 0, "network": 0, "unit": 0}
    items: dict[str, set[str]] = {kind: set() for kind in seconds}
    for row in JsonLines(measurements_log(path)):
        if "item" in row:
            word, _, number = row["item"].partition(" ")
            kind = "unit" if word != "network" else "network" if int(number) < FIT_NETWORKS else "judge"
            seconds[kind] += row["seconds"]
            measurements[kind] += 1
            items[kind].add(row["item"])
    per = {kind: measurements[kind] / max(len(items[kind]), 1) for kind in measurements}
    return seconds["judge"] / sum(seconds.values()), per["judge"], per["network"]


def page(arguments: argparse.Namespace) -> None:
    """All runtimes side by side."""
    rows = []
    paths = [path for path in sorted(arguments.out.glob("*-b*.json")) if not path.name.endswith(".lat.json")]
    files = {path: read_json(path) for path in paths}
    for file, f in files.items():
        beside = f", **beside {f['beside']}**" if f.get("beside") else ""
        earlier = "" if LatencyTable.load(file.with_name(f"{file.stem}.lat.json")).correction.spread_ms else " (1)"
        rows.append(
            f"| [{f['space']}, {f['runtime']}]({file.stem}.lat.json), {f['device']}{beside}{earlier} "
            f"| {f['minutes'] * (1 - f['of_which_for_the_judges']):.1f} min, {f['disturbed_percent']} % "
            f"| {f['held_out_networks']}, {f['visits_to_a_judge']:.0f} visits "
            f"| **{f['mape_percent']:.2f}** ({percent(f['mape_95'])}) | {f['max_percent']:.1f} "
            f"| {f['within_5_percent']} | {f['within_10_percent']} "
            f"| **{f['kendall_tau']:.3f}** ({f['kendall_tau_95'][0]:.3f} to {f['kendall_tau_95'][1]:.3f}) "
            f"| {f['ruler_mape_percent']:.2f}, {f['ruler_kendall_tau']:.3f} |"
        )
        for simple, a in f["simpler"].items():
            rows.append(f"| &nbsp;&nbsp;{simple} | | | {a['mape']:.2%} | | | | {a['kendall_tau']:.3f} | |")
    quiet, busy = ([f for f in files.values() if bool(f.get("beside")) is was] for was in (False, True))
    text = PAGE.format(
        rows="\n".join(rows), fit=FIT_NETWORKS, answer=answer(quiet), busy="".join(map(of_a_busy_machine, busy))
    )
    write_text(arguments.out / "README.md", text)


def answer(tables: Collection[Any]) -> str:
    """The page in three sentences."""

    def between(values: Iterable[float], form: str) -> str:
        ordered = sorted(values)
        return f"{ordered[0]:{form}} to {ordered[-1]:{form}}"

    simple = [table["simpler"]["macs alone, affine"] for table in tables]
    minutes = between((t["minutes"] * (1 - t["of_which_for_the_judges"]) for t in tables), ".1f")
    text = (
        f"Tables made in {minutes} minutes predict networks that they never saw to "
        f"{between((t['mape_percent'] for t in tables), '.1f')} % on average, and rank them with a Kendall tau of "
        f"{between((t['kendall_tau'] for t in tables), '.2f')}. Two halves of the same measurements differ by "
        f"{between((t['ruler_mape_percent'] for t in tables), '.1f')} %, so that a perfect table would show about half "
        f"of it: these show {between((2 * t['mape_percent'] / t['ruler_mape_percent'] for t in tables), '.1f')} times "
        "as much as that. "
        f"Multiply-adds, which are often taken instead, miss by {between((100 * s['mape'] for s in simple), '.0f')} %, "
        f"with a tau of {between((s['kendall_tau'] for s in simple), '.2f')}."
    )
    return paragraph(text)


def of_a_busy_machine(table: Mapping[str, Any]) -> str:
    """What a table that was made beside other work says of itself."""
    own = " ".join(table["warnings"]) or "nothing."
    text = f"The table that was made beside {table['beside']} says of itself, where it is made and in a report: {own}"
    return f"\n{paragraph(text)}\n"


def percent(ends: list[float]) -> str:
    return " to ".join(f"{100 * end:.2f}" for end in ends)


PAGE = """# How good is a latency table?

{answer}

Spaces at their own resolution (`imagenet`: 224 x 224), on two shared cores; {fit} networks and the units of all others
in the minutes shown, by `ghostnas calibrate`'s own code. In the same rounds, and on top of those minutes, the judges:
networks that are never fitted, from the middle of the space to its ends (1). Errors are per cent of the measured
latency, with 95 % bootstrap intervals over networks. *Ruler*: one half of the judges' own visits against the other
half, which are twice as far apart as both together are from the truth. Indented: simpler predictors, fitted on the same
{fit} networks.

| runtime | made in, disturbed | judges | mean error | largest | in 5 % | in 10 % | Kendall tau | ruler |
|---|---|---|---|---|---|---|---|---|
{rows}

Where the ruler's own error is as large as the table's, a quarter of what is shown (squared) is the judges' own scatter:
few visits, or neighbours on a shared machine. OpenVINO's networks were compiled before the minutes shown, which takes
most of a second each.

(1) Made by an earlier version, which timed whole networks of the middle of a space alone, to fit as to judge; those of
the others reach to its ends, where searches end and errors are larger. It has no terms for what blocks of ratio 1 and
blocks with SE take more or less in a network.
{busy}
Made by `make.py` beside this page. Beside it: [a kit's table against networks timed directly](kit.md),
[how the cheap op is run](lowering.md), [what aligned widths are worth](widths.md),
[whether found networks keep their latency budgets](budgets.md),
[how much memory networks take, beside the closed form](memory.md) and
[whether the front of one runtime is the front of another](fronts.md).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("compile", "calibrate", "page"))
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--minutes", type=float, default=16, help="the judges' included")
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--beside", default="", help="what else the machine did meanwhile")
    parser.add_argument("--work", type=Path, default=Path("results/work-latency"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    {"compile": compile_all, "calibrate": calibrate_and_validate, "page": page}[arguments.part](arguments)


if __name__ == "__main__":
    main()
