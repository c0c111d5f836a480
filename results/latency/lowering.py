"""What the cheap op's lowerings (search/graphs/lowering.py) and the usual Ghost module cost, on each target and in
training.

*usual* is timm's Ghost module: one grouped convolution of ceil(n/s) (s-1) ghosts, a concatenation, and a closing slice
whether it cuts or not. From the repository's root, on a quiet machine:

    python results/latency/lowering.py

Forms of one network are timed side by side in the same rounds; a ratio is the median over rounds. Targets that aren't
installed, and GPUs that aren't there, are left out and named. `--targets` measures some anew and keeps the others'
figures; `--quick` only tries that it works.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from forms import BASE, NETWORK, USUAL, inference, training

from search.errors import UserError
from search.files import read_json, write_json, write_text
from search.graphs.lowering import LOWERINGS
from search.latency.paired import Interval, median_interval, time_interleaved
from search.latency.runtimes import runtime
from search.latency.timing.device import now, this_device

HERE = Path(__file__).parent
TARGETS = (  # runtime or training, data type, batch
    ("onnxruntime", "float32", 1),
    ("onnxruntime", "int8", 1),
    ("openvino", "float32", 1),
    ("openvino", "int8", 1),
    ("litert", "float32", 1),
    ("ncnn", "float32", 1),
    ("executorch", "float32", 1),
    ("torch-cpu", "float32", 1),
    ("training-cpu", "float32", 64),
    ("onnxruntime-cuda", "float32", 1),
    ("torch-cuda", "float32", 1),
    ("torch-cuda", "float32", 64),
    ("training-cuda", "float32", 64),
)


def main() -> None:
    every = list(dict.fromkeys(name for name, *_ in TARGETS))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and few, to try that it works")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--targets", default=",".join(every), help="of " + ", ".join(every))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    file = arguments.out / "lowering.json"
    report = {"device": this_device(), "quick": arguments.quick, "absent": {}, "studies": []}
    if file.exists() and same(old := read_json(file), report):
        report = old
    for target in TARGETS:
        if target[0] in arguments.targets.split(","):
            study(report, target, arguments.threads, 3 if arguments.quick else arguments.rounds, arguments.quick)
            write_json(file, report)
            write_text(arguments.out / "lowering.md", page(report))


def same(old: dict, new: dict) -> bool:
    """Whether figures from before may stand beside new ones."""
    return old["quick"] == new["quick"] and all(old["device"][key] == new["device"][key] for key in ("cpu", "cores"))


def study(report: dict, target: tuple[str, str, int], threads: int, rounds: int, quick: bool) -> None:
    """Measures one target and adds it to `report`."""
    (name, dtype, batch), rng = target, np.random.default_rng(0)
    absent, studies = report["absent"], report["studies"]
    try:
        version = available(name, dtype, threads)
    except UserError as error:
        absent[name] = str(error)
        return
    absent.pop(name, None)
    batch = min(batch, 8) if quick else batch
    device = name.removeprefix("training-")
    timed = inference(name, dtype, batch, threads, quick) if device == name else training(device, batch, quick)  # type: ignore[arg-type]
    rows = []
    for what, ratio, timers in timed:
        times = time_interleaved(timers, rounds, rng)
        of_split = {
            form: asdict(median_interval(each / times[BASE], rng)) for form, each in times.items() if form != BASE
        }
        ms = {form: float(np.median(each)) for form, each in times.items()}
        rows.append({"what": what, "ratio": ratio, "ms": ms, "of_split": of_split})
        ratios = ", ".join(f"{form} {value['median']:.2f}" for form, value in of_split.items())
        print(f"{name} {dtype}, batch {batch}, {what}, s = {ratio}: {ratios}", flush=True)
    about = {"target": name, "version": version, "dtype": dtype, "batch": batch, "threads": threads}
    here = [*target[:2], batch, threads]
    studies[:] = [s for s in studies if [s[key] for key in ("target", "dtype", "batch", "threads")] != here]
    studies.append(about | {"rounds": rounds, "made": now(), "rows": rows})
    order = [each[:2] for each in TARGETS]
    studies.sort(key=lambda s: (order.index((s["target"], s["dtype"])), s["batch"], s["threads"]))


def available(name: str, dtype: str, threads: int) -> str:
    """The version of a target.

    Raises:
        UserError: it isn't here.
    """
    if not name.startswith("training-"):
        return runtime(name, threads, dtype).version()  # type: ignore[arg-type]
    if name == "training-cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA device here")
    return str(torch.__version__)


def page(report: dict) -> str:
    """The study as a page."""
    shown = (USUAL, *(form for form in LOWERINGS if form != BASE))
    parts = []
    for s in report["studies"]:
        threads = f"{s['threads']} thread{'s' if s['threads'] > 1 else ''}"
        title = f"{s['target']} {s['version'].split('-')[0]}, {s['dtype']}, batch {s['batch']}, {threads}"
        parts += [f"## {title}", "", f"| | s | {BASE}, ms | {' | '.join(shown)} |", "|---" * (3 + len(shown)) + "|"]
        for row in s["rows"]:
            ratios = (str(Interval(**row["of_split"][f])) if f in row["of_split"] else "-" for f in shown)
            parts.append(f"| {row['what']} | {row['ratio']} | {row['ms'][BASE]:.3g} | {' | '.join(ratios)} |")
        parts += ["", f"{s['rounds']} rounds, {s['made']}.", ""]
        if (s["target"], s["dtype"]) == ("openvino", "int8"):
            parts += [f"The usual {NETWORK} crashes OpenVINO's compiler at int8.", ""]
    if report["absent"]:
        parts += ["Not measured:", "", *(f"- {name}: {why}" for name, why in report["absent"].items()), ""]
    return PAGE.format(**report["device"], tables="\n".join(parts))


PAGE = """# How the cheap op is run

*usual* is timm's Ghost module (a grouped convolution, and a closing slice whether it cuts or not); *split*, *repeated*,
*grouped* and *mixed* are ours (`search/graphs/lowering.py`), with equal outputs. The table says how many times as long
each takes as *split*: the median over rounds in which all stood side by side, and its 95 % bootstrap interval. At s = 2
ours are one and the same graph. Each runtime uses the form that is fastest for whole networks (`lowerings` in
`search/latency/runtimes/`).

Measured on {cpu} ({cores} cores) by `lowering.py` beside this page; figures in `lowering.json`.

{tables}"""


if __name__ == "__main__":
    main()
