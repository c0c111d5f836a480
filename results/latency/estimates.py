"""How well units that were not timed are estimated from those that were, and what a table of estimates is worth.

From tables that have every unit of their space timed a part is taken, in the order in which a calibration times them,
and the others are estimated. Nothing is measured: the figures are the same on any machine. From the repository's root:

    python results/latency/estimates.py
"""

import argparse
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from ghostnet.units import Unit
from search.files import read_json, write_json, write_text
from search.latency import fallback
from search.latency.bench import all_units, measurement_plan
from search.latency.predictor import linear
from search.latency.table import Entry, LatencyTable, describe
from search.latency.transfer import transfer_units
from search.latency.unit_estimates import UnitEstimates, estimate_units
from search.report.markdown import paragraph, table
from spaces.custom import parse_space
from spaces.space import Space
from spaces.tables import Floats, UnitTable

HERE = Path(__file__).parent
TABLES = (
    *(HERE / f"{name}-1t-b1.lat.json" for name in ("digits-onnxruntime-int8", "digits-openvino-int8")),
    *(HERE / f"imagenet-{name}-b1.lat.json" for name in ("onnxruntime-1t", "onnxruntime-2t", "openvino-1t")),
    HERE.parent / "ghostbench/cifar16.lat.json",
    HERE.parent / "cifar32/two-cores/space.lat.json",
)
SHARES, SOURCE_SHARES, DRAWS = (0.1, 0.25, 0.5), (0.05, 0.1, 0.25), 3
WAYS = ("law", "process")


def study(timed: LatencyTable, share: float, seed: int) -> dict[str, dict[str, float]]:
    """Errors of what is estimated when a share of the units is timed, by the law of layers and by the process."""
    space, known, part = first_timed(timed, share, seed)
    kept = timed.validation.held_out
    law = fallback.fit({known[key]: entry.ms for key, entry in part.items()})
    assert law
    process = estimate_units(known, part, law)
    by_law = {key: fallback.estimate(law, known[key]) for key in process.entries}
    truth = {key: entry.ms for key, entry in timed.entries.items() if key in known}
    taken = {key: truth[key] for key in part}
    codes, measured = np.array([each.code for each in kept]), np.array([each.measured_ms for each in kept])
    means = {"law": by_law, "process": {key: entry.ms for key, entry in process.entries.items()}}
    return {
        way: {
            "units": root_mean_square([ms / truth[key] - 1 for key, ms in means[way].items() if key in truth]),
            "networks": network_error(space, taken | means[way], codes, measured),
        }
        for way in WAYS
    } | {
        "timed": {"networks": network_error(space, means["process"] | truth, codes, measured)},
        "interval": {"units": held(process, truth)},
    }


def first_timed(timed: LatencyTable, share: float, seed: int) -> tuple[Space, dict[str, Unit], dict[str, Entry]]:
    """A table's space, its units, and the entries that a calibration would have timed first, a share of all."""
    space = parse_space(timed.setting.space)
    plan = measurement_plan(space, fit_networks=8, held_out=8, rounds=1, threads=1, batch=1, seed=seed)
    order = [item.name for item in plan.items if item.name in timed.entries]
    return space, all_units(space), {key: timed.entries[key] for key in order[: round(share * len(order))]}


def transfer_study(source: LatencyTable, target: LatencyTable, share: float, seed: int) -> dict[str, float]:
    """Errors of what is estimated when a share of the target's units is timed, without a source and with one."""
    space, known, part = first_timed(target, share, seed)
    truth = {key: entry.ms for key, entry in target.entries.items() if key in known}
    found = {"source": transfer_units(space, source, part).entries}
    law = fallback.fit({known[key]: entry.ms for key, entry in part.items()})
    if law:
        found["process"] = estimate_units(known, part, law).entries
    return {
        way: root_mean_square([entries[key].ms / ms - 1 for key, ms in truth.items() if key not in part])
        for way, entries in found.items()
    }


def root_mean_square(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def held(process: UnitEstimates, truth: dict[str, float]) -> float:
    """The share of estimated units that are inside their 95 % interval."""
    inside = [
        (entry.low_ms or 0.0) <= truth[key] <= (entry.high_ms or np.inf)
        for key, entry in process.entries.items()
        if key in truth
    ]
    return float(np.mean(inside))


def network_error(space: Space, ms: dict[str, float], codes: Any, measured: Floats) -> float:
    """Mean relative error of networks by the sum of their units, with an intercept and a slope that are fitted to the
    others."""
    sums = UnitTable(space, lambda unit: ms[unit.key]).total(codes)
    errors = []
    for k in range(len(sums)):
        others = np.arange(len(sums)) != k
        slope, base = linear([sums[others]], measured[others])
        errors.append(abs((base + slope * sums[k]) / measured[k] - 1))
    return float(np.mean(errors))


def page(report: dict[str, Any]) -> str:
    """The study as a page."""
    rows = []
    for each in report["tables"]:
        name = f"{each['space']}, {each['runtime']}: {each['units']:,} units"
        for share, f in each["shares"].items():
            units, networks = ([f"{100 * f[way][what]:.1f}" for way in WAYS] for what in ("units", "networks"))
            inside = f"{f['interval']['units']:.0%}"
            rows.append((name, f"{float(share):.0%}", *units, inside, *networks, f"{100 * f['timed']['networks']:.1f}"))
            name = ""

    def span(share: float, way: str, what: str) -> str:
        values = [100 * each["shares"][str(share)][way][what] for each in report["tables"]]
        return f"{min(values):.1f} to {max(values):.1f} %"

    answer = (
        f"Where a quarter of a space's units is timed, the others are estimated to {span(0.25, 'process', 'units')}; "
        f"by a law of layers alone they were off by {span(0.25, 'law', 'units')}. A network is a sum of many: its "
        f"error is {span(0.25, 'process', 'networks')} then, by the law {span(0.25, 'law', 'networks')}, and "
        f"{span(0.25, 'timed', 'networks')} where every unit is timed. By a tenth of the units it is "
        f"{span(0.1, 'process', 'networks')}."
    )
    about = (
        "From published tables, all of whose units were timed, a part is taken as a calibration with less time would "
        "have timed it, and the others are estimated (`search/latency/unit_estimates.py`): a law of layers, and a "
        "Gaussian process of the logarithm of what it is off, by widths, kernels, and the largest power of two in each "
        "number of channels. *Units*: relative error of those that were left out, root mean square; *inside*: the part "
        "of them within its 95 % interval. *Networks*: mean relative error of the networks that the table held out, by "
        f"the sum of their units with an intercept and a slope fitted to the others. Means over {DRAWS} draws."
    )
    header = ("table", "timed", "units, by law, %", "by process, %", "inside", "networks, by law, %", "by process, %")
    transfers = [
        (
            each["source"],
            each["target"],
            *(
                f"{100 * f[way]:.1f}" if way in f else ""
                for f in each["shares"].values()
                for way in ("process", "source")
            ),
        )
        for each in report["transfers"]
    ]
    shares = [f"{float(share):.0%}, {way} source" for share in SOURCE_SHARES for way in ("without a", "with the")]
    same = [each["shares"][str(SOURCE_SHARES[0])] for each in report["transfers"] if each["same_runtime"]]
    others = [each["shares"][str(SOURCE_SHARES[0])] for each in report["transfers"] if not each["same_runtime"]]
    about_source = (
        "A table of another target of the same space helps where little was timed and the runtime is the same "
        f"(`calibrate transfer`). By {SOURCE_SHARES[0]:.0%} of the target's units the others are off by "
        f"{_span(same, 'source')} with a source of the same runtime and {_span(others, 'source')} with one of another; "
        f"without a source, by {_span([*same, *others], 'process')}, where there is a law at all "
        f"({fallback.FEWEST} units). Root mean square of relative errors, in per cent."
    )
    return "\n\n".join(
        [
            "# Units that were not timed",
            paragraph(answer),
            table((*header, "all timed, %"), rows),
            paragraph(about),
            "## With another target's table",
            paragraph(about_source),
            table(("source", "target", *shares), transfers),
            "The command: `estimates.py`; figures: `estimates.json`.\n",
        ]
    )


def _runtime(name: str) -> str:
    """Without the build in a version, which says nothing."""
    return re.sub("-[^,]*", "", name, count=1)


def _span(shares: list[dict[str, float]], way: str) -> str:
    values = [100 * share[way] for share in shares if way in share]
    return f"{min(values):.1f} to {max(values):.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    out, tables = parser.parse_args().out, []
    for file in TABLES:
        timed = LatencyTable.load(file)
        about, shares = describe(timed), {}
        for share in SHARES:
            draws = [study(timed, share, seed) for seed in range(DRAWS)]
            shares[str(share)] = {
                kind: {what: float(np.mean([draw[kind][what] for draw in draws])) for what in draws[0][kind]}
                for kind in draws[0]
            }
        row = {"space": about.space, "runtime": _runtime(about.runtime), "units": len(timed.entries), "shares": shares}
        tables.append(row)
        print(about.space, about.runtime, flush=True)
    transfers = []
    for source, target in permutations(map(LatencyTable.load, TABLES), 2):
        if source.setting.space_id != target.setting.space_id:
            continue
        there, here, errors = describe(source), describe(target), {}
        for share in SOURCE_SHARES:
            found = [transfer_study(source, target, share, seed) for seed in range(DRAWS)]
            errors[str(share)] = {way: float(np.mean([each[way] for each in found])) for way in found[0]}
        row = {
            "source": f"{there.space}, {_runtime(there.runtime)}",
            "target": _runtime(here.runtime),
            "same_runtime": source.setting.runtime == target.setting.runtime,
            "shares": errors,
        }
        transfers.append(row)
        print(row["source"], "->", row["target"], flush=True)
    write_json(out / "estimates.json", {"tables": tables, "transfers": transfers})
    write_text(out / "estimates.md", page(read_json(out / "estimates.json")))


if __name__ == "__main__":
    main()
