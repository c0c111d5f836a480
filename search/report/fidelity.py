"""The fidelity study as a page and a picture."""

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from search.accuracy.study import Corrected, Study
from search.figures.style import CHOSEN, FRONT, PAPER, SOFT, canvas, legend_above, png, svg
from search.files import write_bytes, write_text
from search.standard_error import standard_error
from search.terminal import markdown
from spaces.quantities import format_count


def write_page(study: Study, out: Path) -> None:
    """Writes `fidelity.md`, `fidelity.png` and `fidelity.svg` into `out`."""
    figure = scatter(study)
    write_bytes(out / "fidelity.png", png(figure))
    write_text(out / "fidelity.svg", svg(figure))
    plt.close(figure)
    write_text(out / "fidelity.md", page(study))


def scatter(study: Study) -> Figure:
    """Accuracy with inherited weights against accuracy after full training, by multiply-adds."""
    nets = study.networks
    with canvas(4.6) as (figure, axes):
        x, y = [100 * net.inherited for net in nets], [100 * net.trained for net in nets]
        error = [100 * standard_error(net.trained_by_seed or [net.trained], study.test_images) for net in nets]
        axes.errorbar(x, y, yerr=error, fmt="none", ecolor=SOFT, elinewidth=1, zorder=2)
        colours = [net.macs / 1e6 for net in nets]
        dots = axes.scatter(x, y, c=colours, cmap="viridis", s=42, edgecolors=PAPER, linewidths=0.6, zorder=3)
        if searched := [net for net in nets if net.kind == "front"]:
            x, y = [100 * net.inherited for net in searched], [100 * net.trained for net in searched]
            axes.scatter(
                x,
                y,
                s=90,
                marker="D",
                facecolors="none",
                edgecolors=FRONT,
                linewidths=1.0,
                zorder=3,
                label="on a search's front",
            )
        for bin_ in study.bins:
            inside = [net for net in nets if bin_.macs[0] <= net.macs <= bin_.macs[1]]
            pick = max(inside, key=lambda net: net.inherited)
            axes.scatter(
                100 * pick.inherited,
                100 * pick.trained,
                s=120,
                facecolors="none",
                edgecolors=CHOSEN,
                linewidths=1.4,
                zorder=4,
                label="picked in its bin" if bin_ is study.bins[0] else None,
            )
        figure.colorbar(dots, label="million multiply-adds")
        axes.set_xlabel("accuracy with the supernet's weights (%)")
        axes.set_ylabel("accuracy after full training (%)")
        low, high = study.kendall_tau_95
        legend_above(axes, title=f"Kendall tau {study.kendall_tau:.2f} ({low:.2f} to {high:.2f})", alignment="left")
    return figure


def page(study: Study) -> str:
    """The result as Markdown."""
    rows = [
        f"| {format_count(b.macs[0])} to {format_count(b.macs[1])} | {b.networks} | {b.kendall_tau:.2f} "
        f"| {100 * b.regret:.2f} | {100 * b.regret_of_a_random_pick:.2f} |"
        for b in study.bins
    ]
    searched = sum(net.kind == "front" for net in study.networks)
    return PAGE.format(
        study=study,
        space=markdown(study.space),
        count=len(study.networks),
        beside=f" ({searched} of them along a search's front)" if searched else "",
        correction=correction(study.corrected),
        low=study.kendall_tau_95,
        rho=study.spearman_95,
        inside=study.tau_within_bins_95,
        regret=100 * study.mean_regret,
        random=100 * study.mean_regret_of_a_random_pick,
        **{name: _over_seeds(getattr(study, name)) for name in ("seed_tau", "ceiling_tau", "ceiling_within_bins")},
        rows="\n".join(rows),
    )


def _over_seeds(tau: float | None) -> str:
    return "not known: one seed" if tau is None else f"{tau:.2f}"


def correction(corrected: Corrected | None) -> str:
    """Lines of the table for what the correction reaches; none where it was not measured."""
    if corrected is None:
        return ""
    return (
        f"\n| tau of the supernet corrected by the other networks | {corrected.kendall_tau:.2f} | |"
        f"\n| and within bins | {corrected.tau_within_bins:.2f} | |"
        f"\n| its mean error, points of accuracy | {100 * corrected.error:.2f} | |"
    )


PAGE = """# Does the supernet rank networks as full training does?

{count} networks of space {space}, spread over multiply-adds{beside}; inherited accuracy on
{study.search_images} images of the search split, then {study.training.epochs:g} epochs of full training on
{study.training_images} images by {study.seeds} seed(s), each tested once on {study.test_images}.

| | | 95 % by bootstrap |
|---|---|---|
| Kendall tau, all networks | {study.kendall_tau:.2f} | {low[0]:.2f} to {low[1]:.2f} |
| Spearman rho, all networks | {study.spearman:.2f} | {rho[0]:.2f} to {rho[1]:.2f} |
| Kendall tau, pairs within a bin of like MACs | {study.tau_within_bins:.2f} | {inside[0]:.2f} to {inside[1]:.2f} |
| tau of one seed's full trainings with another's | {seed_tau} | |
| what knowing the expected accuracies would reach: tau | {ceiling_tau} | |
| and within bins | {ceiling_within_bins} | |
| tau of MACs alone with full training | {study.macs_tau:.2f} | |
| and within bins | {study.macs_within_bins:.2f} | |{correction}

Points of accuracy lost by taking a bin's best by inherited accuracy: {regret:.2f} on average; by a random one:
{random:.2f}. A perfect estimator would lose some, too: which is the best is told by few seeds.

| MACs | networks | tau | regret | of a random pick |
|---|---|---|---|---|
{rows}

![](fidelity.png)
"""
