"""Figures of the evaluated networks, the front, and the networks after full training."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.transforms import Bbox

from search.engine.trial import Trial
from search.figures.style import (
    BASELINE,
    CHOSEN,
    CLOUD,
    FRONT,
    INK,
    SERIES,
    SOFT,
    CaptionedFigure,
    canvas,
    legend_above,
    legend_label,
)
from search.report.figures.chance import mark_chance
from search.report.formatting import format_arch, format_trial
from search.report.summary import Summary, TrainedNetwork
from spaces.quantities import format_count


class Named(NamedTuple):
    """A name, where its mark is, and its colour."""

    name: str
    x: float
    y: float
    colour: str


MARK = 8.0  # pixels across
CORNERS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 3), (-1, 3))  # of a mark, the preferred first


def searched(summary: Summary) -> CaptionedFigure:
    """Inherited accuracy against predicted latency: every evaluated network, the front, the chosen."""
    with canvas() as (figure, axes):
        tips = _cloud(axes, summary, "latency_ms", 1.0)
        _budgets(axes, summary.recipe.search.milliseconds if summary.recipe else {})
        axes.set(xlabel="predicted latency (ms)", ylabel="accuracy on the search split (%)")
        mark_chance(axes, summary.chance)
        legend_above(axes)
        _names(axes, _chosen(summary, "latency_ms", 1.0))
    caption = (
        f"Every network that the search evaluated: its accuracy {summary.accuracy_meaning}, on images held out for the "
        "search, against its predicted latency."
    )
    return CaptionedFigure(caption, figure, {f"latency-{k}": v for k, v in tips.items()})


def by_macs(summary: Summary) -> CaptionedFigure:
    """The same networks against multiply-adds, with the budget."""
    with canvas() as (figure, axes):
        tips = _cloud(axes, summary, "macs", 1e-6, "macs")
        windows = summary.recipe.windows["macs"].values() if summary.recipe else []
        bounds = sorted({bound for window in windows for bound in (window.low, window.high)} - {0})
        _budgets(axes, {format_count(bound): bound / 1e6 for bound in bounds})
        axes.set(xlabel="multiply-adds (millions)", ylabel="accuracy on the search split (%)")
        mark_chance(axes, summary.chance)
        legend_above(axes)
        _names(axes, _chosen(summary, "macs", 1e-6))
    return CaptionedFigure(
        "The same networks, against their multiply-adds.", figure, {f"macs-{k}": v for k, v in tips.items()}
    )


def trained(summary: Summary) -> CaptionedFigure:
    """Test accuracy after full training against measured latency, beside the family scaled down."""
    tips, names = {}, []
    with canvas() as (figure, axes):
        for kind, colour, marker, label in (
            ("chosen", CHOSEN, "o", "chosen"),
            ("parent", INK, "D", "the parent"),
            ("family", BASELINE, "s", "GhostNet, scaled width"),
            ("random", SOFT, "x", "random, equal MACs"),
        ):
            nets = [n for n in summary.networks if n.kind == kind and n.measured_ms is not None]
            if not nets:
                continue
            x, y = [n.measured_ms for n in nets], [100 * n.accuracy for n in nets]
            error = [100 * n.error for n in nets]
            axes.errorbar(x, y, error, fmt="none", ecolor=colour, elinewidth=1, capsize=3)
            axes.scatter(x, y, s=50, marker=marker, color=colour, label=label, gid=f"trained-{label.split(',')[0]}")
            tips[f"trained-{label.split(',')[0]}"] = [_network_tip(n) for n in nets]
            for n in nets if kind != "random" else ():
                names.append(Named(n.name.removeprefix("ghostnet-"), n.measured_ms or 0.0, 100 * n.accuracy, colour))
        axes.margins(0.14)
        axes.set(xlabel="measured latency (ms)", ylabel="test accuracy (%)")
        mark_chance(axes, summary.chance)
        legend_above(axes)
        _names(axes, names)
    others = " but the parent" if any(n.kind == "parent" for n in summary.networks) else ""
    caption = (
        f"Accuracy on the test split after full training, against measured latency. All{others} were trained by one "
        "recipe; each was tested once. Bars are one standard error."
    )
    return CaptionedFigure(caption, figure, tips)


def overlaid(named: dict[str, Summary]) -> CaptionedFigure:
    """The fronts of several runs in one picture."""
    tips = {}
    with canvas(4.6) as (figure, axes):
        for k, (name, summary) in enumerate(named.items()):
            best, colour = summary.front, SERIES[k % len(SERIES)]
            axes.scatter(*_xy(summary.complete), s=7, color=colour, alpha=0.18, linewidths=0)
            if summary.usual_front:
                axes.step(*_xy(best), where="post", color=colour, linewidth=1.3)
            axes.scatter(
                *_xy(best),
                s=22,
                color=colour,
                label=legend_label(f"{name} ({len(best)} on its front)"),
                gid=f"front-{k}",
            )
            tips[f"front-{k}"] = [f"{name}\n{_trial_tip(summary, t)}" for t in best]
        axes.set(xlabel="predicted latency (ms)", ylabel="accuracy on the search split (%)")
        if len(chances := {summary.chance for summary in named.values()}) == 1:
            mark_chance(axes, *chances)
        legend_above(axes)
    meanings = " or ".join(sorted({summary.accuracy_meaning for summary in named.values()}))
    caption = f"The front of each run, over everything that it evaluated; accuracy {meanings}."
    return CaptionedFigure(caption, figure, tips, wide=True)


def _cloud(axes: Any, summary: Summary, key: str, scale: float, prefix: str = "latency") -> dict[str, list[str]]:
    trials = summary.complete
    best, chosen = summary.front, summary.chosen
    marks: list[tuple[str, Sequence[Trial], dict[str, Any]]] = [
        ("evaluated", trials, {"s": 15, "color": CLOUD, "linewidths": 0, "label": f"evaluated ({len(trials)})"}),
        ("front", best, {"s": 24, "color": FRONT, "label": f"Pareto front ({len(best)})"}),
        ("chosen", list(chosen.values()), {"s": 90, "facecolors": "none", "edgecolors": CHOSEN, "linewidths": 1.8}),
    ]
    if key == "latency_ms" and summary.usual_front:
        axes.step(*_xy(best), where="post", color=FRONT, linewidth=1.2)
    tips = {}
    for name, some, options in marks:
        if some:
            x, y = _xy(some, key)
            axes.scatter([v * scale for v in x], y, gid=f"{prefix}-{name}", **({"label": name} | options))
            tips[name] = [_trial_tip(summary, t) for t in some]
    if trained := {n.name: n for n in summary.networks if n.chosen}:
        tips["chosen"] = [
            _network_tip(trained[label]) if label in trained else tip
            for label, tip in zip(chosen, tips["chosen"], strict=True)
        ]
    return tips


def _chosen(summary: Summary, key: str, scale: float) -> list[Named]:
    chosen: dict[str, Trial] = summary.result.chosen if summary.result else {}
    return [Named(label, trial[key] * scale, 100 * trial["accuracy"], CHOSEN) for label, trial in chosen.items()]


def _trial_tip(summary: Summary, trial: Trial) -> str:
    return f"{format_trial(trial, summary.header.evaluation)}\n{format_arch(summary.arch(trial))}"


def _network_tip(n: TrainedNetwork) -> str:
    measured = "not yet" if n.measured_ms is None else f"{n.measured_ms:.3f} ms"
    predicted = "" if n.predicted_ms is None else f", predicted {n.predicted_ms:.3f} ms"
    inherited = "" if n.inherited is None else f", inherited {n.inherited:.2%}"
    inherited += "" if n.expected is None else f", expected {n.expected:.2%}"
    return (
        f"{n.name} ({n.arch.id})\ntest {n.accuracy:.2%}{inherited}\nmeasured {measured}{predicted}\n"
        f"{format_count(n.macs)} multiply-adds, {format_count(n.params)} parameters\n{format_arch(n.arch)}"
    )


def _xy(trials: Sequence[Trial], key: str = "latency_ms") -> tuple[list[float], list[float]]:
    return [t[key] for t in trials], [100 * t["accuracy"] for t in trials]


def _budgets(axes: Any, bounds: Mapping[str, float]) -> None:
    """Lines at the bounds of budgets, by their names."""
    label = f"{'budget' if len(bounds) == 1 else 'budgets'} {', '.join(bounds)}"
    for number, bound in enumerate(bounds.values()):
        axes.axvline(bound, color=SOFT, linewidth=1, linestyle="--", label="" if number else legend_label(label))


def _names(axes: Any, marks: Sequence[Named]) -> None:
    """Writes each name beside its mark, at the first corner where it covers no other name and no other mark. Comes
    last, when the axes have their scale and place."""
    axes.figure.draw_without_rendering()
    places = [axes.transData.transform((mark.x, mark.y)) for mark in marks]
    taken = [Bbox.from_bounds(x - MARK / 2, y - MARK / 2, MARK, MARK) for x, y in places]
    for k, mark in enumerate(marks):
        others = taken[:k] + taken[k + 1 :]
        for right, up in CORNERS:
            name = axes.annotate(
                legend_label(mark.name),
                (mark.x, mark.y),
                xytext=(6 * right, 7 * up),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="baseline" if up > 0 else "top",
                color=mark.colour,
                fontsize=10,
                weight="bold",
                gid=f"name-{k}",
            )
            box = name.get_window_extent()
            if box.count_overlaps(others) == 0 or (right, up) == CORNERS[-1]:
                break
            name.remove()
        taken.append(box)
