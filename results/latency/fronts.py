"""Is the front of one runtime the front of another? From the repository's root, on a quiet machine, some ten minutes:

    python results/latency/fronts.py measure
    python results/latency/fronts.py page

`measure` times the networks of GhostBench that were tuned for three epochs on every runtime that can be had here,
twice, and transfers GhostBench's table of ONNX Runtime to each other runtime in a minute; it goes on where it was
stopped.
`page` takes the fronts of accuracy and latency on each runtime, and says what those of one are worth on another.
"""

import argparse
from itertools import permutations
from pathlib import Path
from typing import Any

import moocore
import numpy as np

from ghostnet import GhostNet
from search.accuracy.ghostbench import GhostBench, load_ghostbench
from search.errors import UserError
from search.files import read_json, write_json, write_text
from search.latency.calibrate import calibrate
from search.latency.predictor import Predictor
from search.latency.runtimes import runtime
from search.latency.table import LatencyTable
from search.latency.time_networks import measure
from search.latency.timing.device import now, this_device
from search.rank_correlation import KendallTau
from spaces.tables import Floats

HERE = Path(__file__).parent
BENCH = HERE.parent / "ghostbench"
SOURCE, SOURCE_TABLE = "onnxruntime", BENCH / "cifar16.lat.json"
RUNTIMES = (SOURCE, "openvino", "litert", "ncnn", "torch-cpu")
EVALUATOR = "tuned:3"
TIMES = 2  # that every network is timed on a runtime: how well that can be told at all
MINUTES = 1.0  # of a transfer
MACS, PREDICTED = "multiply-adds", "a transferred table"


def time_all(bench: GhostBench, work: Path) -> None:
    """Times every network on every runtime, and transfers the source's table to it."""
    archs = {name: bench.arch(name) for name in bench.having(EVALUATOR)}
    space = bench.space
    shape = (space.in_chs, *(space.resolution,) * 2)
    for name in RUNTIMES:
        try:
            run = runtime(name, 1)
        except UserError as error:
            print(f"left out: {name} ({error})", flush=True)
            continue
        for number in range(TIMES):
            if not (file := work / f"{name}-{number}.json").exists():
                nets = {k: (GhostNet(arch, space.num_classes, space.in_chs).eval(), shape) for k, arch in archs.items()}
                write_json(file, measure(run, nets, seed=number))
                print(f"timed: {file.stem}", flush=True)
        if name != SOURCE and not (file := work / f"{name}.lat.json").exists():
            source = LatencyTable.load(SOURCE_TABLE)
            calibrate(
                space,
                file,
                runtime=name,
                threads=1,
                minutes=MINUTES,
                source=source,
                rounds=1,
                fit_networks=20,
                held_out=16,
            )
            print(f"transferred: {name}", flush=True)


class Worth:
    """What choices of networks are worth on a runtime: the hypervolume of their front there, as a share of the best.

    Args:
        ms: of every network, there.
        accuracy: of every network.
    """

    def __init__(self, ms: Floats, accuracy: Floats) -> None:
        self.points = np.stack([accuracy, -ms], 1)
        self.corner = self.points.min(0)
        self.best = self._volume(np.arange(len(ms)))

    def _volume(self, chosen: np.ndarray) -> float:
        return float(moocore.hypervolume(self.points[chosen], ref=self.corner, maximise=True))

    def __call__(self, chosen: np.ndarray) -> float:
        return self._volume(chosen) / self.best


def front(cost: Floats, accuracy: Floats) -> np.ndarray:
    """Numbers of the networks that none beats in both."""
    return np.flatnonzero(moocore.is_nondominated(np.stack([accuracy, -cost], 1), maximise=True))


def study(bench: GhostBench, work: Path) -> dict[str, Any]:
    """Every runtime's front, and what it is worth on the others."""
    names = bench.having(EVALUATOR)
    accuracy = np.array([bench.query(name, EVALUATOR).test[-1] for name in names])
    macs = np.array([float(bench.network(name).macs) for name in names])
    codes = np.array([bench.network(name).code for name in names])
    times: dict[str, list[Floats]] = {}
    for name in RUNTIMES:
        files = [work / f"{name}-{number}.json" for number in range(TIMES)]
        if all(file.exists() for file in files):
            times[name] = [np.array([read_json(file)[arch] for arch in names]) for file in files]
    ms = {name: np.mean(each, axis=0) for name, each in times.items()}
    worth = {name: Worth(each, accuracy) for name, each in ms.items()}
    fronts = {name: front(each, accuracy) for name, each in ms.items()}
    rows = []
    for one, other in permutations(ms, 2):
        rows.append({"by": one, "on": other, "worth": worth[other](fronts[one])} | _alike(ms[one], ms[other]))
        rows[-1]["shared"] = int(np.isin(fronts[other], fronts[one]).sum())
    for name in ms:
        rows.append({"by": MACS, "on": name, "worth": worth[name](front(macs, accuracy))} | _alike(macs, ms[name]))
        if (file := work / f"{name}.lat.json").exists():
            predicted = Predictor(LatencyTable.load(file), bench.space)(codes).latency_ms
            chosen = front(predicted, accuracy)
            error = float(np.abs(predicted / ms[name] - 1).mean())
            rows.append(
                {"by": PREDICTED, "on": name, "worth": worth[name](chosen), "error": error}
                | _alike(predicted, ms[name])
            )
    twice = {
        name: {
            "difference": float(np.abs(one / two - 1).mean()),
            "worth": worth[name](front(two, accuracy)),
            "front": len(fronts[name]),
            **_alike(one, two),
        }
        for name, (one, two) in times.items()
    }
    return {"networks": len(names), "made": now(), "cpu": this_device()["cpu"], "twice": twice, "rows": rows}


def _alike(one: Floats, other: Floats) -> dict[str, float]:
    return {"kendall_tau": float(KendallTau(one, other)())}


def page(found: dict[str, Any]) -> str:
    """The study as a page that opens with its answer."""
    across = [row for row in found["rows"] if row["by"] in found["twice"]]
    by_macs = [row for row in found["rows"] if row["by"] == MACS]
    predicted = [row for row in found["rows"] if row["by"] == PREDICTED]
    worst = min(across, key=lambda row: row["worth"])
    ruler = [each["worth"] for each in found["twice"].values()]
    answer = (
        f"The front of one runtime is worth {_range(across)} of the best front on another (hypervolume; the worst is "
        f"{worst['by']}'s on {worst['on']}). A front chosen by a minute's transfer of ONNX Runtime's table is worth "
        f"{_range(predicted)}, one chosen by multiply-adds {_range(by_macs)}. A second round of timings on the same "
        f"runtime gives {min(ruler):.1%} to {max(ruler):.1%}: so much is noise."
    )
    lines = [
        f"| {row['by']} | {row['on']} | {row['worth']:.1%} | {row['kendall_tau']:.3f} | {_cell(row, 'shared', '{}')} | "
        f"{_cell(row, 'error', '{:.1%}')} |"
        for row in sorted(found["rows"], key=lambda row: (row["on"], row["by"]))
    ]
    twice = [
        f"| {name} | {each['front']} | {each['difference']:.1%} | {each['kendall_tau']:.3f} | {each['worth']:.1%} |"
        for name, each in found["twice"].items()
    ]
    return PAGE.format(answer=answer, lines="\n".join(lines), rounds="\n".join(twice), **found)


def _range(rows: list[dict[str, Any]]) -> str:
    values = [row["worth"] for row in rows]
    return f"{min(values):.1%} to {max(values):.1%} (mean {np.mean(values):.1%})"


def _cell(row: dict[str, Any], key: str, how: str) -> str:
    return how.format(row[key]) if key in row else ""


PAGE = """# Is the front of one runtime the front of another?

{answer}

{networks} networks of space `cifar16` from [GhostBench](../ghostbench/README.md), whose accuracy is known (test images,
transplanted and tuned for three epochs), float32, one thread, one image. Each was timed twice on every runtime; its
latency is the mean. *Worth*: the hypervolume on that runtime of the networks on a front, as a share of the best front's
there; the corner is the least accurate and the slowest network. *Tau*: Kendall's, of the two latencies. *In both*:
networks of that runtime's own front that the other's has, too. A *transferred table* is what `ghostnas calibrate
transfer` makes of GhostBench's table of ONNX Runtime (made on another day, on a machine of another kind) in one minute.

| front by | worth on | worth | tau | in both | error of the prediction |
|---|---|---|---|---|---|
{lines}

## The same runtime, timed twice

| runtime | networks on the front | mean difference | tau | the second round's front is worth |
|---|---|---|---|---|
{rounds}

Measured on {cpu}, {made}. The command: `fronts.py`; figures: `fronts.json`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("measure", "page"))
    parser.add_argument("--work", type=Path, default=HERE / "work")
    arguments = parser.parse_args()
    bench = load_ghostbench(BENCH / "ghostbench.json")
    if arguments.part == "measure":
        time_all(bench, arguments.work)
        return
    found = study(bench, arguments.work)
    write_json(HERE / "fronts.json", found)
    write_text(HERE / "fronts.md", page(found))


if __name__ == "__main__":
    main()
