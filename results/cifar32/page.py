"""The page of a design, from what is trained and timed so far: its `README.md` and `front.png`.

python results/cifar32/page.py --design two-cores
"""

import argparse
from collections.abc import Sequence
from statistics import mean

import numpy as np
from designs import DESIGNS, Design
from outcomes import Kind, Result, Study

from ghostnet import cost
from search.engine.baselines import BaselineCurve
from search.figures.style import SERIES, canvas, png
from search.files import write_bytes, write_text
from search.records import read_record
from search.report.markdown import paragraph, table
from spaces.quantities import format_count

LABELS: dict[Kind, str] = {
    "found": "found",
    "family": "GhostNet in width, transplanted and taught",
    "random": "random, multiply-adds of the found ones",
    "pruned": "parent pruned by Torch-Pruning, taught",
    "fresh": "GhostNet in width, fresh weights, as long in all",
}
BASELINES: tuple[Kind, ...] = ("family", "fresh", "pruned", "random")
TEST_IMAGES = 10_000
HEADER = ("network", "seed", "multiply-adds", "parameters", "ms", "as it began, %", "test, %")


def of_kind(results: Sequence[Result], kind: Kind, seed: int) -> list[Result]:
    """Those that are timed, fastest first."""
    mine = [r for r in results if r.kind == kind and r.seed == seed and r.measured_ms is not None]
    return sorted(mine, key=lambda r: r.measured_ms or 0.0)


def searched(results: Sequence[Result]) -> bool:
    """Whether a found network is trained."""
    return any(r.kind == "found" for r in results)


def curve(results: Sequence[Result]) -> BaselineCurve:
    """Accuracy over measured latency."""
    return BaselineCurve((r.measured_ms or 0.0, r.accuracy) for r in results)


def comparison(results: Sequence[Result], seed: int) -> str:
    """A table: every found network beside each kind of baseline, at equal latency and at equal accuracy."""
    curves = {kind: curve(mine) for kind in BASELINES if (mine := of_kind(results, kind, seed))}
    header = ["found", *(cell for kind in curves for cell in (f"{LABELS[kind]}: points", "time saved"))]
    rows = []
    for r in of_kind(results, "found", seed):
        cells = [r.name]
        for each in curves.values():
            gain, saving = each.gain(r.measured_ms or 0.0, r.accuracy), each.saving(r.measured_ms or 0.0, r.accuracy)
            cells += [
                f"{100 * gain:+.1f}" if np.isfinite(gain) else "faster than all",
                f"{saving:.0%}" if np.isfinite(saving) else beyond(each, r),
            ]
        rows.append(cells)
    return table(header, rows)


def beyond(curve: BaselineCurve, network: Result) -> str:
    """Of a network that has no baseline of equal accuracy."""
    return "more accurate than all" if network.accuracy > curve.accuracies[-1] else "less accurate than the fastest"


def answer(results: Sequence[Result]) -> str:
    """What the found networks gain over GhostNet in width, given the same, in a sentence for each seed."""
    sentences = []
    for seed in sorted({r.seed for r in results}):
        found, family = (of_kind(results, kind, seed) for kind in ("found", "family"))
        if not found or len(family) < 2:
            continue
        baselines = curve(family)
        gains = [100 * baselines.gain(r.measured_ms or 0.0, r.accuracy) for r in found]
        savings = [baselines.saving(r.measured_ms or 0.0, r.accuracy) for r in found]
        known = [gain for gain in gains if np.isfinite(gain)]
        reached = [saving for saving in savings if np.isfinite(saving)]
        met = sum(gain >= 1 or saving >= 0.25 for gain, saving in zip(gains, savings, strict=True))
        points = f"{mean(known):+.1f} points at equal latency" if known else "all are faster than it"
        if beyond_all := sum((r.measured_ms or 0.0) > baselines.costs[-1] for r in found):
            points += f" ({beyond_all} of them slower than the best of it, which then stands for equal latency)"
        share = mean(reached) if reached else 0.0
        less = f"{abs(share):.0%} {'less' if share >= 0 else 'more'} time at equal accuracy"
        saved = less if reached else "it has no network of equal accuracy"
        sentences.append(
            f"Seed {seed}: of the {len(found)} found networks that are trained {met} have a point more than GhostNet "
            f"in width at equal latency or need a quarter less time at equal accuracy (goal: all); on average "
            f"{points}, {saved}."
        )
    return " ".join(sentences) or "There is nothing to compare yet."


def draw(results: Sequence[Result]) -> bytes:
    """Accuracy over latency; lines join what nothing faster of its kind beats."""
    with canvas(4.2) as (figure, axes):
        for (kind, label), colour in zip(LABELS.items(), SERIES, strict=False):
            for k, seed in enumerate(sorted({r.seed for r in results})):
                if mine := of_kind(results, kind, seed):
                    x, y = [r.measured_ms for r in mine], [100 * r.accuracy for r in mine]
                    axes.plot(x, y, "o", color=colour, ms=4, label=label if k == 0 else None)
                    best = curve(mine)
                    axes.plot(
                        best.costs, 100 * best.accuracies, color=colour, lw=1, ls="-" if kind == "found" else "--"
                    )
        for r in (r for r in results if r.kind == "parent" and r.measured_ms):
            axes.plot(r.measured_ms, 100 * r.accuracy, "*", color="black", ms=9, label=f"parent, seed {r.seed}")
        axes.set(xlabel="ms", ylabel="test accuracy, %")
        axes.legend()
        return png(figure)


def page(design: Design, study: Study) -> str:
    """The page's text."""
    space, results = design.space, study.results
    largest = cost(space.uniform(max(space.widths)), space.num_classes, space.in_chs).macs
    seeds = sorted({r.seed for r in results})
    hours = sum(r.seconds for r in results) / 3600
    latency, error = study.latency, 100 * (0.85 * 0.15 / TEST_IMAGES) ** 0.5
    about = (
        f"CIFAR-10 at {space.resolution} x {space.resolution}, space `{space.name}` ({float(space.size):.0e} networks; "
        f"the parent, GhostNet {max(space.widths):g}x, has {format_count(largest)} multiply-adds). The parent is "
        f"trained for {design.parent.epochs:g} epochs on 45,000 images; all others are tuned for "
        f"{design.tuned.epochs:g} with it as teacher, GhostNet from fresh weights for {design.fresh.epochs:g}. "
        f"Accuracy: 10,000 test images, looked at once; one standard error is {error:.1f} points."
    )
    measured = (
        f"Latency: {latency.runtime} on {latency.device}, all networks side by side; the table by which networks are "
        f"searched errs by {latency.mape_percent} % on {latency.held_out_networks} networks that it never saw (tau "
        f"{latency.kendall_tau}). So far {len(results)} trainings took {hours:.1f} core-hours beside other work; "
        "searches and the table are not in it."
    )
    rows = []
    for kind in ("parent", *LABELS):
        for r in (r for seed in seeds for r in of_kind(results, kind, seed)):
            start = "" if r.start is None else f"{100 * r.start:.1f}"
            name = r.kind if r.kind == r.name else f"{r.kind} {r.name}"
            costs = format_count(r.macs), format_count(r.params), f"{r.measured_ms:.3f}"
            rows.append((name, str(r.seed), *costs, start, f"{100 * r.accuracy:.1f}"))
    parts = [f"# CIFAR-10 at 32 x 32: `{design.name}`", paragraph(answer(results))]
    parts += ["![Accuracy over latency](front.png)"] if searched(results) else []
    parts += [paragraph(about), paragraph(measured), table(HEADER, rows)]
    for seed in seeds:
        if of_kind(results, "found", seed):
            parts += [f"## Found networks beside the others, seed {seed}", comparison(results, seed)]
    parts.append("The commands: `../make.py`; this page: `../page.py`; figures: `cifar32.json`.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--design", choices=DESIGNS, default="two-cores")
    design = Design(parser.parse_args().design)
    study = read_record(design.result, Study)
    if searched(study.results):
        write_bytes(design.folder / "front.png", draw(study.results))
    write_text(design.folder / "README.md", page(design, study))


if __name__ == "__main__":
    main()
