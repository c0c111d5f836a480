"""A latency table for people: in words, and as a page with pictures."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import LogFormatter

from search.errors import UserError
from search.figures.style import BASELINE, CHOSEN, INK, RATIO_COLOURS, SOFT, CaptionedFigure, canvas, legend_above, svg
from search.files import write_text
from search.latency.runtimes import exported_as
from search.latency.table import Agreement, LatencyTable, source_name
from search.report import page


def format_table(table: LatencyTable) -> str:
    """The errors of the table as text, next to the repeatability of the timing and the errors of simpler predictors."""
    width = float(np.median([network.high_ms / network.predicted_ms - 1 for network in table.validation.held_out]))
    v, p, s, d = table.validation, table.protocol, table.setting, table.device
    timed = table.units_timed
    origin = "transferred" if table.transfer else "estimated from their layers"
    file = exported_as(s.runtime, s.dtype, s.lowering)
    exported = f": the graph that `export --to {file}` writes" if file else ""
    lines = [
        f"{table.space_name} at {s.resolution} x {s.resolution}, batch {s.batch}, {s.dtype}: {s.runtime} "
        f"{s.runtime_version}, {s.threads} thread(s), cheap op lowered as {s.lowering}{exported}",
        f"{d.cpu}, {d.cores} cores, {d.system}, governor {d.governor}; {p.finished}, {p.seconds / 60:.1f} minutes",
        f"{p.visits} visits in {p.rounds} rounds, {p.disturbed:.1%} disturbed by other work; "
        f"{timed} units timed, {p.units_in_space - timed} {origin}",
        "",
        f"{v.networks} networks that were never fitted",
        f"  mean error        {_percent(v.mape)} ({_percent(v.mape_95[0])} to {_percent(v.mape_95[1])})",
        f"  90 % within       {_percent(v.p90)}, largest {_percent(v.max)}, bias {100 * v.bias:+.2f} %",
        f"  within 5 %, 10 %  {v.within_5:.1%}, {v.within_10:.1%}",
        f"  Kendall tau       {v.kendall_tau:.3f} ({v.kendall_tau_95[0]:.3f} to {v.kendall_tau_95[1]:.3f})",
        f"  Spearman          {v.spearman:.4f} ({v.spearman_95[0]:.4f} to {v.spearman_95[1]:.4f})",
        f"  interval          {_percent(width)} in the median, so wide that {table.correction.coverage:.0%} are inside",
        "",
        "beside it                    mean error   tau",
    ]
    lines += [f"  {name:26} {_percent(a.mape):>9}   {a.kendall_tau:.3f}" for name, a in _comparisons(table).items()]
    if table.fallback:
        lines += [
            "",
            f"a unit that was never timed is off by {_percent(table.fallback.error)} or more (root mean square)",
        ]
    if table.transfer:
        lines += [
            "",
            f"transferred from {source_name(table.transfer)} (table {table.transfer.content_sha256[:12]}),",
            f"  by {table.transfer.networks} networks and {table.transfer.units} units; a unit that is left out is off "
            f"by {_percent(table.transfer.unit_error)} or more (root mean square)",
        ]
    lines += ["", _memory_line(table)]
    if p.rescaled != 1:
        lines += [f"all latencies were rescaled by {p.rescaled:.3f} after a check"]
    return "\n".join(lines)


def _memory_line(table: LatencyTable) -> str:
    if (fit := table.peak_memory) is None:
        return "peak memory on the device was not measured"
    return (
        f"peak memory on the device: {fit.constant_bytes / 1e6:.2f} MB + {fit.per_activation_byte:.2f} x activations "
        f"+ {fit.per_weight_byte:.2f} x weights,\n  fitted on {fit.networks} networks; one that is left out is off by "
        f"{_percent(fit.error)}; intervals of {_percent(fit.quantile)} are made so that {fit.coverage:.0%} are inside"
    )


def write_page(table: LatencyTable, path: Path) -> None:
    """Writes one self-contained HTML page.

    Raises:
        UserError: the file is none, such as the table itself.
    """
    if path.suffix != ".html":
        raise UserError(f"a page's file ends in .html, not {str(path)!r}")
    title = f"Latency of {table.space_name} on {table.device.cpu}"
    parts = [f"<h1>{page.escape(title)}</h1>", f"<pre>{page.escape(format_table(table))}</pre>"]
    for heading, pictures in _figures(table).items():
        parts += [page.heading(heading), page.figures(pictures, {name: svg(p.figure) for name, p in pictures.items()})]
    plt.close("all")
    write_text(path, page.page(title, parts, {}))


def _comparisons(table: LatencyTable) -> dict[str, Agreement]:
    v = table.validation
    agreements = {"this table": Agreement(mape=v.mape, kendall_tau=v.kendall_tau)}
    if v.ruler:
        agreements["ruler: half against half"] = v.ruler
    return agreements | v.simpler


class _PlainLog(LogFormatter):
    """Labels the minor ticks that it would label anyway, as plain numbers: the usual ones are formulas."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _figures(table: LatencyTable) -> dict[str, dict[str, CaptionedFigure]]:
    """Pictures by name, under their headings."""
    held = table.validation.held_out
    measured = np.array([network.measured_ms for network in held])
    predicted, low, high = (
        np.array([getattr(network, name) for network in held]) for name in ("predicted_ms", "low_ms", "high_ms")
    )
    with canvas(4.6) as (first, axes):
        axes.axline((measured.min(),) * 2, slope=1, color=SOFT, linewidth=1)
        axes.errorbar(
            measured, predicted, yerr=[predicted - low, high - predicted], fmt="none", ecolor=SOFT, elinewidth=1
        )
        axes.scatter(measured, predicted, s=22, color=CHOSEN, edgecolors="white", linewidths=0.5, zorder=3)
        axes.set_xlabel("measured (ms)")
        axes.set_ylabel("predicted, with its interval (ms)")

    with canvas(3.2) as (second, axes):
        axes.axhline(0, color=SOFT, linewidth=1)
        axes.scatter(measured, 100 * (predicted / measured - 1), s=22, color=CHOSEN, edgecolors="white", linewidths=0.5)
        axes.set_xlabel("measured (ms)")
        axes.set_ylabel("error (%)")

    with canvas(4.6) as (third, axes):
        sides = sorted({_side(key) for key in table.entries}, reverse=True)
        kinds = {"stem": INK, "tail": BASELINE, **{f"s{ratio}": colour for ratio, colour in RATIO_COLOURS.items()}}
        for k, (kind, colour) in enumerate(kinds.items()):
            points = [(_side(key), e.ms) for key, e in table.entries.items() if kind in key.split("d")[0].split()]
            x = [len(sides) - 1 - sides.index(side) + (k - 2.5) * 0.13 for side, _ in points]
            axes.scatter(x, [ms for _, ms in points], s=9, alpha=0.5, color=colour, linewidths=0, label=kind)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(_PlainLog())
        axes.set_xticks(range(len(sides)), [str(side) for side in reversed(sides)])
        axes.set_xlabel("side of the unit's input (pixels)")
        axes.set_ylabel("a unit alone (ms)")
        legend_above(axes, ncols=6, markerscale=2.5)
    held_out = "Networks that were never fitted: predicted latency, with its interval, against measured."
    errors = "By how much the same predictions are off."
    units = "Units timed alone: the stem, the tail, and blocks by their ratio s, which stand side by side."
    return {
        "Predictions": {"predicted": CaptionedFigure(held_out, first), "residuals": CaptionedFigure(errors, second)},
        "What blocks cost": {"units": CaptionedFigure(units, third)},
    }


def _side(key: str) -> int:
    return int(key.rsplit("@", 1)[1])


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
