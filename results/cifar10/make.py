"""The CIFAR-10 study's answer, from a finished run's folder: study.json, README.md, front.png and .svg.

From the repository's root (the run goes on where it was stopped with `--resume`; `--minutes` cuts it short):

    ghostnas run cifar10-small --data parquet:../shared/data/cifar10 --out results/cifar10-small
    python results/cifar10/make.py --run results/cifar10-small
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from comparison import compare
from page import page
from ranking import fidelity, full_training_study, without_supernet

from ghostnet.arch import Arch
from search.accuracy.study import read_study
from search.engine.front import front
from search.figures.style import png, svg
from search.files import write_bytes, write_json, write_text
from search.latency.table import describe
from search.records import record_json
from search.report.fidelity import scatter
from search.report.figures import fronts
from search.report.summary import Summary, summarise
from search.run_folder.run import FIDELITY

HERE = Path(__file__).parent


def study(summary: Summary) -> dict[str, Any]:
    """Everything that the page says."""
    space, training = summary.space, record_json(summary.supernet.training) if summary.supernet else {}
    best = front(summary.complete)
    codes = space.canonical(np.array([t.code for t in best]))
    shares = {}
    for kind in ("ghost", "se", "width"):
        genes = [k for k, gene in enumerate(space.genes) if gene.kind == kind]
        for k in genes:
            counts = np.bincount(codes[:, k], minlength=len(space.genes[k].choices)) / len(codes)
            shares[space.genes[k].name] = {
                str(choice): round(float(share), 3)
                for choice, share in zip(space.genes[k].choices, counts, strict=True)
            }
    return {
        "recipe": summary.recipe and summary.recipe.model_dump(mode="json"),
        "space_size": str(space.size),
        "supernet": training,
        "latency": record_json(describe(summary.table)) if summary.table else None,
        "seconds": summary.seconds,
        "evaluated": len(summary.complete),
        "front": len(best),
        "networks": [
            {
                "name": n.name,
                "kind": n.kind,
                "arch": n.arch.id,
                "macs": n.macs,
                "params": n.params,
                "measured_ms": n.measured_ms,
                "predicted_ms": n.predicted_ms,
                "inherited": n.inherited,
                "expected": n.expected,
                "code": summary.space.encode(n.arch).tolist(),
                "test_accuracy": list(n.accuracies),
            }
            for n in summary.networks
        ],
        "looks": {n.name: format_arch(n.arch) for n in summary.networks if n.chosen},
        "answer": compare(summary),
        "fidelity": fidelity(summary),
        "judged": full_training_study(summary),
        "without_supernet": without_supernet(summary),
        "choices_on_the_front": shares,
        "notes": summary.notes,
    }


def format_arch(arch: Arch) -> str:
    """An architecture in a line."""
    stages = []
    for stage in arch.stages:
        blocks = [
            f"{b.out_chs} s{b.ratio}" + (f" d{b.cheap_kernel}" if b.ratio > 1 else "") + (" SE" if b.se_ratio else "")
            for b in stage
        ]
        stages.append(", ".join(blocks))
    return f"{arch.stem_chs}; " + "; ".join(stages) + f"; tail {arch.tail_chs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("results/cifar10-small"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    summary = summarise(arguments.run)
    content = study(summary)
    write_json(arguments.out / "study.json", content)
    pictures = {"front": fronts.trained(summary), "search": fronts.searched(summary)}
    for name, each in pictures.items():
        write_bytes(arguments.out / f"{name}.png", png(each.figure))
        write_text(arguments.out / f"{name}.svg", svg(each.figure))
    write_bytes(arguments.out / "fidelity.png", png(scatter(read_study(summary.folder / FIDELITY))))
    write_text(arguments.out / "README.md", page(content))


if __name__ == "__main__":
    main()
