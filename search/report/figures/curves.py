"""How the run went: the search's progress, training, the predictor, and the time it took."""

from typing import Any

from search.engine.front import hypervolume
from search.figures.style import (
    BASELINE,
    CHOSEN,
    CLOUD,
    FRONT,
    SERIES,
    SOFT,
    CaptionedFigure,
    canvas,
    legend_above,
    legend_label,
)
from search.report.figures.chance import mark_chance
from search.report.summary import Summary


def progress(summary: Summary) -> CaptionedFigure:
    """Hypervolume over evaluations, as a share of the final one."""
    trials = summary.complete
    worst = max(t["latency_ms"] for t in trials)
    volumes = [hypervolume(trials[: k + 1], worst) for k in range(len(trials))]
    with canvas(3.4) as (figure, axes):
        axes.step(range(1, len(volumes) + 1), volumes, where="post", color=FRONT)
        axes.set(xlabel="networks evaluated", ylabel="hypervolume (accuracy x ms)")
        axes.margins(x=0)
    caption = (
        "How the front grew: its hypervolume, which is the area between the front and the corner of accuracy 0 and "
        f"{worst:.3g} ms (the slowest network seen). {volumes[-1]:.4g} at the end."
    )
    return CaptionedFigure(caption, figure)


def predictor(summary: Summary) -> CaptionedFigure:
    """Predicted against measured latency, of networks that the table's fit never saw, and of the trained ones."""
    assert summary.table
    held = summary.table.validation.held_out
    trained = [n for n in summary.networks if n.measured_ms is not None and n.predicted_ms is not None]
    with canvas(3.9) as (figure, axes):
        x, y = [n.measured_ms for n in held], [n.predicted_ms for n in held]
        axes.scatter(x, y, s=18, color=CLOUD, linewidths=0, label=f"held out ({len(held)})", gid="held-out")
        if trained:
            axes.scatter(
                *([n.measured_ms for n in trained], [n.predicted_ms for n in trained]),
                s=50,
                color=CHOSEN,
                label="trained fully",
                gid="held-chosen",
            )
        every = x + y + [ms for n in trained for ms in (n.measured_ms or 0.0, n.predicted_ms or 0.0)]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=SOFT, linewidth=1, linestyle="--", label="perfect")
        axes.set(xlabel="measured (ms)", ylabel="predicted (ms)")
        legend_above(axes)
    tips = {"held-out": [_off("held out", n.measured_ms, n.predicted_ms) for n in held]}
    if trained:
        tips["held-chosen"] = [_off(n.name, n.measured_ms or 0.0, n.predicted_ms or 0.0) for n in trained]
    return CaptionedFigure("Predicted latency of networks that the predictor was not fitted to.", figure, tips)


def _off(name: str, measured: float, predicted: float) -> str:
    return f"{name}\nmeasured {measured:.4f} ms\npredicted {predicted:.4f} ms ({predicted / measured - 1:+.1%})"


def training(scalars: dict[str, dict[str, list[tuple[int, float]]]], chance: float) -> CaptionedFigure:
    """Losses of the supernet and of full training; the supernet's accuracies on the way, where it was probed."""
    accuracies = {k: v for k, v in scalars.get("supernet", {}).items() if k.startswith("accuracy/")}
    losses = {name: tags["loss"] for name, tags in scalars.items() if "loss" in tags}
    with canvas(4.8 if accuracies else 3.4, nrows=2 if accuracies else 1, squeeze=False) as (figure, rows):
        for k, (name, curve) in enumerate(losses.items()):
            steps = [step / max(1, curve[-1][0]) for step, _ in curve]
            rows[0, 0].plot(
                steps, [v for _, v in curve], color=SERIES[k % len(SERIES)], linewidth=1.2, label=legend_label(name)
            )
        rows[0, 0].set(xlabel="share of its training", ylabel="training loss (smoothed)")
        legend_above(rows[0, 0], ncols=4, fontsize=8)
        if accuracies:
            for k, (name, curve) in enumerate(accuracies.items()):
                x, y = [step for step, _ in curve], [100 * v for _, v in curve]
                rows[1, 0].plot(
                    x, y, color=SERIES[k % len(SERIES)], marker=".", label=legend_label(name.partition("/")[2])
                )
            rows[1, 0].set(xlabel="supernet step", ylabel="inherited accuracy (%)")
            mark_chance(rows[1, 0], chance)
            legend_above(rows[1, 0], ncols=4, fontsize=8)
        for axes in rows[:, 0]:
            axes.margins(x=0)
    return CaptionedFigure("Training curves, as TensorBoard shows them.", figure)


def stage_times(seconds: dict[str, float]) -> CaptionedFigure:
    """Minutes by stage."""
    with canvas(0.4 * len(seconds) + 1.0) as (figure, axes):
        minutes = [value / 60 for value in seconds.values()]
        bars: Any = axes.barh(range(len(seconds)), minutes, color=BASELINE)
        axes.bar_label(bars, [f"{value:.1f}" for value in minutes], padding=3, fontsize=9)
        axes.set_yticks(range(len(seconds)), list(seconds))
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("minutes")
    return CaptionedFigure("Time that each stage was at work, without waiting and loading.", figure)
