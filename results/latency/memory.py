"""Whether the closed form tells how much memory a network takes on a runtime. From the repository's root, on Linux:

    python results/latency/memory.py --minutes 25

50 networks of a space, spread evenly over multiply-adds, on each target: the measured peak of a process that opens one
and runs it, beside `ghostnet.memory`. Ten of them, evenly, are for fits; 40 are judged. First, on some runtimes, three
ways to measure are compared by how well five measurements of a network agree. A target that was measured is kept, and
no new one begins after the time box.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ghostnet.network import GhostNet
from search.errors import UserError
from search.files import write_json, write_text
from search.latency.bench import constant, reference_module
from search.latency.energy import find_counter
from search.latency.memory_meter import MemoryMeter
from search.latency.peak_memory import fit_peak_memory
from search.latency.relative_errors import relative_least_squares
from search.latency.runtimes import Dtype, Runtime, runtime
from search.latency.timing.device import now, this_device
from search.latency.timing.peak_memory import peak_growth
from search.rank_correlation import kendall_tau
from search.report.markdown import paragraph
from spaces import Space, named_space
from spaces.population import sample_evenly
from spaces.space import Codes
from spaces.tables import Floats, macs_table, memory_table, weights_table

HERE = Path(__file__).parent
NETWORKS, FITTED = 50, 10
WAY_NETWORKS, REPEATS = 20, 5
MB = 1e6
CHILD, FRESH, SAME = (
    "a child of a process that has only loaded the runtime",
    "a fresh process for each network",
    "one process for all, one after another",
)


@dataclass(frozen=True)
class Target:
    """A setting that networks are measured on."""

    runtime: str
    dtype: Dtype = "float32"
    batch: int = 1

    @property
    def name(self) -> str:
        return f"{self.runtime}, {self.dtype}, batch {self.batch}"


TARGETS = (
    Target("onnxruntime"),
    Target("ncnn"),
    Target("litert"),
    Target("openvino"),
    Target("torch-cpu"),
    Target("onnxruntime", batch=8),
    Target("litert", batch=8),
    Target("onnxruntime", "int8"),
)
WAYS_ON = ("onnxruntime", "ncnn", "litert", "openvino")


class Networks:
    """Networks of a space in a target's own form, and what the closed form says of them."""

    def __init__(self, space: Space, target: Target) -> None:
        self.space, self.target, self.run = space, target, runtime(target.runtime, 1, target.dtype)
        self.codes: Codes = sample_evenly(space, np.random.default_rng([0, 7]), NETWORKS)
        self.codes = self.codes[np.argsort(macs_table(space).total(self.codes), kind="stable")]
        self.activations: Floats = memory_table(space, target.batch * (1 if target.dtype == "int8" else 4)).total(
            self.codes
        )
        self.weights: Floats = weights_table(space, target.dtype).total(self.codes)
        self._files: dict[int, bytes] = {}

    def file(self, k: int) -> bytes:
        if k not in self._files:
            net = constant(GhostNet(self.space.decode(self.codes[k]), self.space.num_classes, self.space.in_chs))
            self._files[k] = self.run.compile(net.eval(), tuple(self.shape(k)[1:]), self.target.batch)  # type: ignore[arg-type]
        return self._files[k]

    def shape(self, k: int) -> list[int]:
        side = self.space.decode(self.codes[k]).resolution
        return [self.target.batch, self.space.in_chs, side, side]


def measured_in_children(nets: Networks, chosen: list[int]) -> list[float]:
    """As a calibration measures."""
    with MemoryMeter(nets.run) as meter:
        return [_known(meter(nets.file(k), nets.shape(k))) for k in chosen]


def measured_fresh(nets: Networks, chosen: list[int]) -> list[float]:
    """A server for each network."""
    return [measured_in_children(nets, [k])[0] for k in chosen]


def measured_in_one_process(nets: Networks, chosen: list[int]) -> list[float]:
    """In a process of their own, one after another."""
    with TemporaryDirectory() as folder:
        files = []
        net, shape = reference_module()
        for k, content in [(None, nets.run.compile(net, shape)), *((k, nets.file(k)) for k in chosen)]:
            file = Path(folder) / f"{k}"
            file.write_bytes(content)
            files.append([str(file), [1, *shape] if k is None else nets.shape(k)])
        setting = json.dumps([_target(nets.run), files])
        command = [sys.executable, __file__, "--in-one-process", setting]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout.splitlines()[-1])


def in_one_process(setting: str) -> None:
    """The other end of `measured_in_one_process`: what it wrote is opened here."""
    target, files = json.loads(setting)
    run = runtime(*target)
    rng, taken = np.random.default_rng(0), []
    for path, shape in files:
        content, images = Path(path).read_bytes(), rng.standard_normal(shape, dtype=np.float32)
        taken.append(peak_growth(lambda: run.load(content)(images)))  # noqa: B023
    print("\n" + json.dumps(taken[1:]))


def _target(run: Runtime) -> list[Any]:
    return [run.name, run.threads, run.dtype, run.lowering]


def _known(taken: int | None) -> float:
    if taken is None:
        raise UserError("the runtime failed in the process that measures it")
    return float(taken)


def compare_ways(nets: Networks) -> dict[str, Any]:
    """How well measurements of a network agree, by each way."""
    chosen = np.linspace(0, NETWORKS - 1, WAY_NETWORKS).round().astype(int).tolist()
    ways = {CHILD: measured_in_children, FRESH: measured_fresh, SAME: measured_in_one_process}
    closed = (nets.activations + nets.weights)[chosen]
    compared = {}
    for name, way in ways.items():
        start = time.monotonic()
        taken = np.array([way(nets, chosen) for _ in range(REPEATS)])  # [repeats, networks]
        mean, spread = taken.mean(0), taken.std(0, ddof=1)
        compared[name] = {
            "mean_mb": float(mean.mean() / MB),
            "spread": float((spread / np.maximum(mean, 1)).mean()),
            "largest_spread": float((spread / np.maximum(mean, 1)).max()),
            "tau": kendall_tau(closed, mean),
            "seconds_each": (time.monotonic() - start) / taken.size,
        }
    return compared


def study(nets: Networks) -> dict[str, Any]:
    """The closed form beside what was measured, on the networks that nothing was fitted on."""
    measured = np.array(measured_in_children(nets, list(range(NETWORKS))))
    fitted = np.zeros(NETWORKS, bool)
    fitted[np.linspace(0, NETWORKS - 1, FITTED).round().astype(int)] = True
    total, ones = nets.activations + nets.weights, np.ones(NETWORKS)
    columns = {
        "mean": ones[:, None],
        "sum": np.stack([ones, total], 1),
        "both": np.stack([ones, nets.activations, nets.weights], 1),
    }
    judged = ~fitted
    fits = {name: relative_least_squares(each[fitted], measured[fitted]) for name, each in columns.items()}
    errors = {"closed": total / measured - 1}
    errors |= {name: columns[name] @ fits[name] / measured - 1 for name in columns}
    table = fit_peak_memory(nets.activations[fitted], nets.weights[fitted], measured[fitted])
    width = np.abs(np.log1p(errors["both"]))
    return {
        "runtime_version": nets.run.version(),
        "lowering": nets.run.lowering,
        "measured_mb": _megabytes(measured[judged]),
        "activations_mb": _megabytes(nets.activations[judged]),
        "weights_mb": _megabytes(nets.weights[judged]),
        "correlation": float(np.corrcoef(total[judged], measured[judged])[0, 1]),
        "tau": kendall_tau(total[judged], measured[judged]),
        "tau_fitted": kendall_tau((columns["both"] @ fits["both"])[judged], measured[judged]),
        "errors": {name: float(np.abs(error[judged]).mean()) for name, error in errors.items()},
        "factors": fits["both"].tolist(),
        "left_out_error": table.error,
        "covered": float((width[judged] <= np.log1p(table.quantile)).mean()),
    }


def _megabytes(values: Floats) -> list[float]:
    return [round(each / MB, 3) for each in values.tolist()]


def page(result: dict[str, Any]) -> str:
    """`memory.md`."""
    targets = result["targets"]
    best, worst = (pick(targets, key=lambda name: targets[name]["errors"]["both"]) for pick in (min, max))
    taus = [each["tau"] for each in targets.values()]
    as_it_is = [each["errors"]["closed"] for each in targets.values()]
    fitted = [each["errors"]["both"] for each in targets.values()]
    alone = [each["errors"]["mean"] for each in targets.values()]
    rows = [
        f"| {name} | {np.mean(r['measured_mb']):.1f} ({min(r['measured_mb']):.1f} to {max(r['measured_mb']):.1f}) | "
        f"{np.mean(r['activations_mb']):.1f} + {np.mean(r['weights_mb']):.1f} | {r['correlation']:.2f} | "
        f"{r['tau']:.2f}, {r['tau_fitted']:.2f} | {r['errors']['closed']:.0%} | {r['errors']['mean']:.1%} | "
        f"{r['errors']['sum']:.1%} | **{r['errors']['both']:.1%}** | {r['factors'][0] / MB:.1f}, "
        f"{r['factors'][1]:.2f}, {r['factors'][2]:.2f} | {r['left_out_error']:.1%}, {r['covered']:.0%} |"
        for name, r in targets.items()
    ]
    ways = [
        f"| {name} | {way} | {w['mean_mb']:.1f} | {w['spread']:.2%}, {w['largest_spread']:.1%} | {w['tau']:.2f} | "
        f"{w['seconds_each']:.2f} |"
        for name, each in result["ways"].items()
        for way, w in each.items()
    ]
    each_way = list(result["ways"].values())
    shares = [each[CHILD]["seconds_each"] / each[FRESH]["seconds_each"] for each in each_way]
    low, high = min(shares), max(shares)
    off = max(abs(each[SAME]["mean_mb"] / each[FRESH]["mean_mb"] - 1) for each in each_way)
    lines = [
        "# How much memory does a network take on a runtime?",
        "",
        "As it is, the closed form (activations at their peak, and weights) doesn't tell: a process takes more, "
        f"and the form is off by {min(as_it_is):.0%} to {max(as_it_is):.0%} on average. It ranks networks well on "
        f"one runtime and poorly on another, with a Kendall tau of {min(taus):.2f} to {max(taus):.2f}. With a "
        f"constant and two factors fitted on ten measured networks it predicts others to {min(fitted):.1%} "
        f"({best}) to {max(fitted):.1%} ({worst}), where those ten's mean is off by {min(alone):.1%} to "
        f"{max(alone):.1%}.",
        "",
        "So a latency table has these three numbers and their error, fitted on some of the networks that it holds "
        "out. At batch 1 ONNX Runtime and OpenVINO take two bytes or nearly so for each byte of float32 weights, the "
        "file's own content not counted; ncnn, LiteRT and PyTorch take about one.",
        "",
        f"Space `{result['space']}`, {NETWORKS - FITTED} networks spread evenly over multiply-adds, and {FITTED} "
        "others that fits are made on. Measured: by how much a process's peak resident memory grows from opening a "
        "network to the end of its first run, beyond what the runtime itself and the file's content take. "
        "Megabytes are a million bytes. *Correlation* (Pearson) and *tau* are of the closed form's sum; the second "
        "tau is of the fit with two factors. Errors are means of relative sizes: of the closed form as it is, "
        "of the ten's mean, of a constant and a slope on the sum, and of a constant and a factor each for "
        "activations and weights, which is what a latency table has. *Left out*: the error that such a table says "
        "of itself, from the ten alone, and how many of the 40 are in its 90 % interval.",
        "",
        "| target | measured MB | closed form, MB | correlation | tau, fitted | as it is | mean alone | one slope "
        "| two factors | constant MB, activations, weights | left out, in interval |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "## Ways to measure",
        "",
        f"{WAY_NETWORKS} networks, {REPEATS} times each. *Spread*: the standard deviation of a network's "
        f"measurements, in per cent of their mean, on average and at most; a repeat begins with a new process.",
        "",
        "| runtime | way | mean MB | spread | tau with the closed form | seconds each |",
        "|---|---|---|---|---|---|",
        *ways,
        "",
        "Children and fresh processes agree equally well, and with each other: what is left is by where the system "
        "puts a process's memory, which is the same for all children of one process (tried by hand: under `setarch "
        "-R`, which has it in one place, four measurements of ten networks on ONNX Runtime were equal). Children take "
        f"{low:.0%} to {high:.0%} of the time, and calibrations measure so. One process for all is no measure of a "
        f"network: its means are up to {off:.0%} off those of fresh processes, since what earlier networks left is "
        "used again, or lies in between.",
        "",
        "## Energy",
        "",
        result["energy"],
        "",
        "Not tried: Arm, Windows, macOS, GPUs (whose memory isn't the process's own), more than one thread, and "
        "models opened from a path, which a runtime may map rather than read.",
        "",
        f"Measured on {result['device']}, {result['finished']}, by `memory.py` beside this page; every network's "
        "figures are in `memory.json`.",
        "",
    ]
    return "\n".join(line if line.startswith("|") else paragraph(line) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--in-one-process", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_one_process:
        in_one_process(arguments.in_one_process)
        return
    file, ends = arguments.out / "memory.json", time.monotonic() + 60 * arguments.minutes
    result = json.loads(file.read_text()) if file.exists() else {"space": arguments.space, "targets": {}, "ways": {}}
    space = named_space(arguments.space)
    for target in TARGETS:
        if target.name in result["targets"] or time.monotonic() > ends:
            continue
        try:
            nets = Networks(space, target)
        except UserError as error:
            print(f"left out: {target.name} ({error})", flush=True)
            continue
        result["targets"][target.name] = study(nets)
        if target.runtime in WAYS_ON and target == Target(target.runtime):
            result["ways"][target.runtime] = compare_ways(nets)
        counter, why = find_counter()
        result["energy"] = f"Counters of energy: {counter.name if counter else why}."
        result |= {"device": this_device()["cpu"] + f" ({os.cpu_count()} cores)", "finished": now()}
        write_json(file, result)
        print(f"measured: {target.name}", flush=True)
    write_text(arguments.out / "memory.md", page(result))
    print(page(result))


if __name__ == "__main__":
    main()
