"""A run as one self-contained HTML page, and its figures as PNG and SVG beside it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import pyplot as plt

from ghostnet.arch import Arch
from search.accuracy.study import read_study
from search.engine.front import growth
from search.engine.ladder import rung_totals
from search.figures.architectures import arch_figure
from search.figures.style import CaptionedFigure, png, svg
from search.files import write_bytes, write_text
from search.folders import locked
from search.progress import best_effort
from search.recipes.choices import PROMOTING
from search.report import blocks, page, repeat
from search.report.fidelity import scatter
from search.report.figures import choices, curves, fronts
from search.report.formatting import format_size
from search.report.rows import comparison_text
from search.report.scalars import run_scalars
from search.report.sensitivity import effects
from search.report.summary import Summary, summarise
from search.run_folder.run import FIDELITY
from spaces.quantities import format_count

FOLDER, PAGE = "report", "report.html"
Section = tuple[dict[str, CaptionedFigure], str]  # figures, and more HTML


def write_report(folder: Path) -> Path:
    """Writes `report/` in a run's folder, as far as the run goes, and returns the page.

    Raises:
        UserError: the folder holds no run, or another process is writing its report.
    """
    summary = summarise(folder)
    with locked(folder / FOLDER):
        return _write(summary, folder / FOLDER)


def _write(summary: Summary, out: Path) -> Path:
    sections = _sections(summary)
    pictures = {name: each for _, figures, _ in sections for name, each in figures.items()}
    svgs = render(pictures, out)
    pictures = {name: pictures[name] for name in svgs}  # what could be rendered
    if summary.recipe:
        write_text(out / repeat.RECIPE, repeat.recipe_toml(summary.recipe, out))
    parts = _head(summary)
    for title, wanted, extra in sections:
        figures = {name: each for name, each in wanted.items() if name in svgs}
        parts += [page.heading(title), page.figures(figures, svgs) if figures else "", extra]
    write_text(out / PAGE, page.page(f"GhostNAS: {summary.name}", parts, pictures))  # last
    return out / PAGE


def render(pictures: dict[str, CaptionedFigure], out: Path) -> dict[str, str]:
    """Writes each picture as PNG and SVG, closes it, and returns the SVGs."""
    svgs = {}
    for name, each in pictures.items():
        with best_effort(f"the figure {name}"):
            pixels, vector = png(each.figure), svg(each.figure)  # last what `axes_frame` tells of
            write_bytes(out / f"{name}.png", pixels)
            write_text(out / f"{name}.svg", vector)
            svgs[name] = vector
        plt.close(each.figure)
    return svgs


def _head(summary: Summary) -> list[str]:
    text = [summary.data, f"space {summary.space.name} ({format_size(summary.space.size)} networks)"]
    if summary.budget:
        text.append(f"budget {summary.budget} multiply-adds")
    if summary.seed is not None:
        text.append(f"seed {summary.seed}")
    return [
        f"<h1>GhostNAS: {page.escape(summary.name)}</h1>",
        page.paragraph(", ".join(text), "soft"),
        *(page.paragraph(note, "note") for note in summary.notes),
    ]


def _sections(summary: Summary) -> list[tuple[str, dict[str, CaptionedFigure], str]]:
    """Title, figures, and more HTML of each section that the run has something for."""
    sections: dict[str, Callable[[Summary], Section | None]] = {
        "The front": _front,
        "Supernet ranking against full training": _fidelity,
        "Fully trained": _trained,
        "Block by block": _blocks,
        "Effect of each choice": _effects,
        "Progress and predictions": _process,
        "Reproducing the run": _repeat,
    }
    written = []
    for title, section in sections.items():
        with best_effort(f"the report's section {title!r}"):
            if shown := section(summary):
                written.append((title, *shown))
    return written


def _draw(figures: Mapping[str, Callable[[], CaptionedFigure]]) -> dict[str, CaptionedFigure]:
    """The figures that can be drawn."""
    pictures = {}
    for name, draw in figures.items():
        with best_effort(f"the figure {name}"):
            pictures[name] = draw()
    return pictures


def _repeat(summary: Summary) -> Section | None:
    return ({}, repeat.section(summary)) if summary.recipe else None


def _front(summary: Summary) -> Section | None:
    if not summary.complete:
        return None
    refused = sum(t.state == "infeasible" for t in summary.trials)
    text = (
        f"The search evaluated {len(summary.complete)} networks"
        + (f"; it refused {refused} others unevaluated, which were over the budget. " if refused else ". ")
        + f"The Pareto front has those that no other network beats in {_by(summary)}. "
        f"{page.HINT}"
    )
    figures = {"front": lambda: fronts.searched(summary), "front-macs": lambda: fronts.by_macs(summary)}
    return _draw(figures), page.paragraph(text, "soft") + _rungs(summary)


def _by(summary: Summary) -> str:
    """What the front is by, in words."""
    if summary.usual_front:
        return "both accuracy and latency"
    known = {"latency_ms": "latency", "macs": "multiply-adds"}
    *others, last = (known.get(name, name) for name in summary.header.objectives)
    return f"{', '.join(others)} and {last}, the search's objectives" if others else f"{last}, the search's objectives"


def _rungs(summary: Summary) -> str:
    """Where the time of a search went that evaluated some networks several times, and what that changed."""
    if not (totals := rung_totals(summary.complete)):
        return ""
    head = ["evaluation", "networks", "minutes", "seconds each", "points gained", "tau with the one before"]
    rows: list[page.Row] = []
    for each in totals:
        gain = "" if each.gain is None else f"{100 * each.gain:+.1f}"
        tau = "" if each.tau is None else f"{each.tau:.2f}"
        times = [f"{each.seconds / 60:.1f}", f"{each.seconds / each.networks:.2f}"]
        rows.append(("", [each.evaluate, str(each.networks), *times, gain, tau]))
    promoted = (
        "Those networks went on to the next evaluation for which it promised most in its time."
        if summary.header.sampler in PROMOTING
        else "A network went on to the next evaluation if it was in the best third of those that came so far."
    )
    note = (
        f"{promoted} Points gained and Kendall's tau are of the same networks by the evaluation before: below 1, the "
        "dearer one ranks them otherwise."
    )
    return page.table(head, rows) + page.paragraph(note, "soft")


def _fidelity(summary: Summary) -> Section | None:
    """How well the supernet ranks fully trained networks, and the correction that the search went by."""
    if not (summary.folder / FIDELITY).exists():
        return None
    study = read_study(summary.folder / FIDELITY)
    text = (
        f"{len(study.networks)} networks were trained fully before the search. Inherited weights rank them to a "
        f"Kendall tau of {study.kendall_tau:.2f}, within bins of like multiply-adds {study.tau_within_bins:.2f}; "
        f"multiply-adds alone rank them to {study.macs_tau:.2f}."
    )
    if corrected := study.corrected:
        text += (
            f" Corrected by a fit on the others, {corrected.kendall_tau:.2f} and "
            f"{corrected.tau_within_bins:.2f}, with a mean error of {100 * corrected.error:.1f} points. The "
            "search went by accuracy so corrected."
        )
    caption = "Accuracy inherited and after full training (test split), a mark for each network."
    return _draw({"fidelity": lambda: CaptionedFigure(caption, scatter(study))}), page.paragraph(text)


def _trained(summary: Summary) -> Section | None:
    if not summary.networks:
        return None
    measured = any(n.measured_ms is not None for n in summary.networks)
    figures = {"trained": lambda: fronts.trained(summary)} if measured else {}
    return _draw(figures), _networks_table(summary)


def _blocks(summary: Summary) -> Section | None:
    if not (named := _shown_networks(summary)):
        return None
    caption = (
        "The chosen networks, and the GhostNet whose multiply-adds are nearest to the last one's. A Ghost module "
        "computes 1/s of its channels by a convolution and the others from these by a cheap d x d one; SE is "
        "squeeze-and-excitation."
    )
    figures = {"architectures": lambda: CaptionedFigure(caption, arch_figure(named), wide=True)}
    return _draw(figures), blocks.tables(summary)


def _effects(summary: Summary) -> Section | None:
    """Which choices the best networks share, and which move accuracy and latency."""
    if not summary.complete:
        return None
    best = [summary.arch(t) for t in summary.front]
    figures = {"agreement": lambda: choices.agreement(best, summary.space.largest)}
    if known := effects(summary.space, summary.complete):
        figures["sensitivity"] = lambda: choices.sensitivity(known)
    return _draw(figures), ""


def _process(summary: Summary) -> Section | None:
    figures: dict[str, Callable[[], CaptionedFigure]] = {}
    if summary.complete:
        figures["progress"] = lambda: curves.progress(summary)
    if summary.table:
        figures["predictor"] = lambda: curves.predictor(summary)
    if scalars := {k: v for k, v in run_scalars(summary.folder).items() if v.get("loss")}:
        figures["training"] = lambda: curves.training(scalars, summary.chance)
    if summary.seconds:
        figures["time"] = lambda: curves.stage_times(summary.seconds)
    return (_draw(figures), _process_text(summary)) if figures else None


def _shown_networks(summary: Summary) -> dict[str, Arch]:
    """The chosen networks, trained or not yet, and the baseline of like cost."""
    named = summary.chosen_archs
    return named | (blocks.nearest_baseline(summary, list(named.values())[-1]) if named else {})


def _networks_table(summary: Summary) -> str:
    sides = len({n.arch.resolution for n in summary.networks}) > 1
    head = ["network", "test", "inherited", "predicted ms", "measured ms", *["side"] * sides, "MACs", "params"]
    memory = summary.table and summary.table.peak_memory
    counter = summary.energy and summary.energy.counter
    head += ["peak memory, MB"] * (memory is not None) + ["joules a run"] * (counter is not None)
    rows: list[page.Row] = [
        (
            "chosen" if n.chosen else "",
            [
                n.name,
                f"{n.accuracy:.2%}" + (f" ± {100 * n.error:.2f}" if len(n.accuracies) > 1 else ""),
                "" if n.inherited is None else f"{n.inherited:.2%}",
                "" if n.predicted_ms is None else f"{n.predicted_ms:.3f}",
                "" if n.measured_ms is None else f"{n.measured_ms:.3f}",
                *([str(n.arch.resolution)] if sides else []),
                format_count(n.macs),
                format_count(n.params),
                *(["" if n.peak_memory is None else f"{n.peak_memory / 1e6:.2f}"] if memory else []),
                *(["" if n.energy is None else f"{n.energy.joules:.3g} ± {n.energy.error:.1g}"] if counter else []),
            ],
        )
        for n in summary.networks
    ]
    folded = [page.details("commands", page.code(*repeat.commands(summary, n))) for n in summary.networks]
    compared = comparison_text(summary)
    note = (
        "test: accuracy on the test split, with one standard error where there are several seeds. inherited: accuracy "
        "on the search split with the supernet's weights, before full training. Commands are for a shell "
        "in this page's folder."
    )
    if sides:
        note += " side: of the images that a network works at, in pixels."
    if any(n.ended == "time box" for n in summary.networks):
        note += " A schedule that a time box cut short followed the clock: its command trains for as many steps."
    if memory:
        note += (
            " peak memory: what the network adds to the runtime's own on the table's device, predicted; on networks "
            f"that are left out of the fit, the mean error is {memory.error:.1%}."
        )
    if counter:
        note += f" joules a run: all that was taken while it ran, by {counter}, with a standard error."
    elif summary.energy and summary.energy.why_not:
        note += f" Energy was not measured: {summary.energy.why_not}."
    return (
        page.table(head, rows, folded) + (page.paragraph(compared) if compared else "") + page.paragraph(note, "soft")
    )


def _process_text(summary: Summary) -> str:
    parts = []
    if table := summary.table:
        setting, v, protocol = table.setting, table.validation, table.protocol
        estimated = protocol.units_in_space - table.units_timed
        parts.append(
            f"Latency is of {setting.runtime} {setting.runtime_version} on {table.device.cpu}: "
            f"{setting.threads} {'thread' if setting.threads == 1 else 'threads'}, batch {setting.batch}, "
            f"{setting.dtype}. {table.units_timed} units of networks were timed, {estimated} estimated. On "
            f"{v.networks} networks that the predictor was not fitted to, its mean error is {v.mape:.1%} "
            f"({v.mape_95[0]:.1%} to {v.mape_95[1]:.1%}), its largest {v.max:.1%}; {v.within_5:.0%} are within 5 %, "
            f"and Kendall's tau is {v.kendall_tau:.3f}. Other work disturbed {protocol.disturbed:.0%} of the timings."
        )
    if summary.supernet:
        training, skipped = summary.supernet.training, summary.supernet.training.skipped_steps
        parts.append(
            f"The {'parent' if summary.supernet.kind == 'transplant' else 'supernet'} was trained for "
            f"{training.epochs:g} epochs ({training.steps} steps) in {training.seconds:.0f} s"
            + (f"; {skipped} steps were skipped because the loss was not finite." if skipped else ".")
        )
    return "".join(page.paragraph(part) for part in parts) + _times_table(summary)


def _times_table(summary: Summary) -> str:
    """Minutes of each stage, of all its processes together, expected where they were, and taken; what they bought."""
    expected, bought = summary.expected_seconds, _bought(summary)
    rows: list[page.Row] = []
    for stage, seconds in summary.seconds.items():
        before = [f"{expected[stage] / 60:.1f}" if stage in expected else ""] if expected else []
        rows.append(("", [stage, *before, f"{seconds / 60:.1f}", bought.get(stage, "")]))
    head = ["stage", *(["minutes expected"] if expected else []), "minutes at work", "what they bought"]
    note = "minutes: those of all processes together; `run --plan` prints what the clock will show"
    return page.table(head, rows) + page.paragraph(note, "soft")


def _bought(summary: Summary) -> dict[str, str]:
    """What the time of each stage bought, by the names that `Summary.seconds` has."""
    bought = {}
    if summary.supernet and (parent := summary.supernet.parent):
        bought["parent"] = f"{parent.test_accuracy:.1%} of the test images right"
    if summary.table:
        v = summary.table.validation
        bought["calibration"] = f"a table with a mean error of {v.mape:.1%} and a Kendall tau of {v.kendall_tau:.2f}"
    if (trials := summary.complete) and summary.table:
        bought["search"] = f"{len(summary.front)} of {len(trials)} networks on the front"
        if summary.usual_front:
            added = growth(trials, share=1 / 2)
            bought["search"] += f"; the second half of them added {added:.1%} of its hypervolume"
    chosen = [(n.inherited, n.accuracy) for n in summary.networks if n.chosen and n.inherited is not None]
    if chosen:
        before, after = (sum(each) / len(chosen) for each in zip(*chosen, strict=True))
        bought["full training"] = f"chosen networks from {before:.1%} (inherited, search split) to {after:.1%} (test)"
    return bought
