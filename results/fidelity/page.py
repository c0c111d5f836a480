"""The fidelity study's page: all supernets side by side, and what the experiments beside them found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search.accuracy.ranking_study import RankedNetwork, agreement
from search.accuracy.study import Agreement
from search.bootstrap import interval
from search.files import read_json
from search.rank_correlation import KendallTau
from spaces.space import Space

HERE = Path(__file__).parent
SEED = 0


def page(study: dict[str, Any], about: dict[str, str], space: Space) -> str:
    """All supernets side by side, each with what it is about."""
    rows = []
    for name, r in study.items():
        cost = f"{r['supernet']['epochs']:g} epochs of {r['training_images']:,}"
        ends = f"{r['supernet']['smallest']:.1%}, {r['supernet']['largest']:.1%}"
        values = np.array([net["inherited"] for net in r["networks"]])
        error = (values * (1 - values) / r["search_images"]).mean() ** 0.5
        spread = f"{100 * values.std():.2f}, {100 * error:.2f}"
        rows.append(
            f"| [{name}]({name}/fidelity.md) | {about[name]} | {cost} | {ends} | {spread} | {ranged(r, 'kendall_tau')} "
            f"| {'' if name == 'short' else over(r, study['short'])} | {ranged(r, 'tau_within_bins')} "
            f"| {100 * r['mean_regret']:.2f} |"
        )
    first = next(iter(study.values()))
    best = max(study, key=lambda name: study[name]["kendall_tau"])
    fits = read_json(HERE / "corrected.json").values()
    return PAGE.format(
        supernets=len(study),
        best=best,
        best_tau=study[best]["kendall_tau"],
        least_corrected=min(fit["corrected"]["8"] for fit in fits),
        judged=judged(study),
        tuned=tuned(first),
        corrected=corrected(),
        count=len(first["networks"]),
        space=space.name,
        side=space.resolution,
        epochs=first["training"]["epochs"],
        images=first["training_images"],
        seeds=first["seeds"],
        seeds_say=between_seeds(first),
        ceiling=of_seeds(first["ceiling_tau"]),
        ceiling_within=of_seeds(first["ceiling_within_bins"]),
        macs=first["macs_tau"],
        macs_within=first["macs_within_bins"],
        random=100 * first["mean_regret_of_a_random_pick"],
        rows="\n".join(rows),
        conflict=conflict(),
        norms_alone=norms_alone(),
        norms_in_supernets=norms_in_supernets(first),
    )


def over(study: dict[str, Any], other: dict[str, Any]) -> str:
    """The gain in tau over another supernet, with its 95 % interval by drawing the same networks for both."""
    theirs = {net["arch"]: net["inherited"] for net in other["networks"]}
    x, rival, y = np.array([(net["inherited"], theirs[net["arch"]], net["trained"]) for net in study["networks"]]).T

    own, others = KendallTau(x, y), KendallTau(rival, y)

    def gain(picks: Any) -> Any:
        return own(picks) - others(picks)

    low, high = interval(gain, len(y), np.random.default_rng(SEED), vectorized=True)
    return f"{gain(None):+.2f} ({low:+.2f} to {high:+.2f})"


def conflict() -> str:
    """Rows of what `conflict.py` found."""
    losses = read_json(HERE / "conflict.json")["loss"]
    return "\n".join(f"| {name} | {each['largest']:.3f} | {each['smallest']:.3f} |" for name, each in losses.items())


def norms_alone() -> str:
    """Rows of what `norms.py alone` found: means over seeds."""
    rows: dict[float, list[dict[str, float]]] = {}
    for row in read_json(HERE / "norms.json")["alone"]:
        rows.setdefault(row["width"], []).append(row)
    means = {
        width: [100 * np.mean([row[way] for row in group]) for way in ("running", "clean", "augmented")]
        for width, group in sorted(rows.items())
    }
    return "\n".join(
        f"| {width:g}x | {len(rows[width])} | " + " | ".join(f"{each:.1f}%" for each in values) + " |"
        for width, values in means.items()
    )


def norms_in_supernets(found: dict[str, Any]) -> str:
    """Rows of what `norms.py supernets` found, against the full trainings of a study."""
    rows = []
    for row in read_json(HERE / "norms.json")["supernets"]:
        for way in ("clean", "augmented"):
            nets = ranked(found["networks"], row[way])
            r = agreement(nets, 4, SEED)
            mean = 100 * np.mean([net.inherited for net in nets])
            rows.append(
                f"| {row['seed']} | {way} | {mean:.1f}% | {ranged(r, 'kendall_tau')} | {ranged(r, 'tau_within_bins')} "
                f"| {100 * r.mean_regret:.2f} |"
            )
    return "\n".join(rows)


def between_seeds(study: dict[str, Any]) -> str:
    """How far full training agrees with itself."""
    if study["seeds"] == 1:
        return ""
    deviation = 100 * np.mean([np.var(net["trained_by_seed"], ddof=1) for net in study["networks"]]) ** 0.5
    return (
        f"From seed to seed a network's accuracy differs by {deviation:.1f} points (standard deviation), so one seed "
        f"ranks the networks\nas another does to tau {study['seed_tau']:.2f} only.\n"
    )


def of_seeds(tau: float | None) -> str:
    """A figure that several seeds tell."""
    return "(not known by one seed)" if tau is None else f"{tau:.2f}"


def tuned(study: dict[str, Any]) -> str:
    """Rows of what `tuned.py` found, against the full trainings of a study."""
    content = read_json(HERE / "tuned.json")
    names = {"fresh": "fresh weights"} | {
        name: f"`{name}`'s weights" for name in content["accuracy"] if name != "fresh"
    }
    rows = []
    for name, accuracies in content["accuracy"].items():
        nets = ranked(study["networks"], accuracies)
        r = agreement(nets, 4, SEED)
        values = 100 * np.array([net.inherited for net in nets])
        rows.append(
            f"| {names[name]} | {values.min():.1f}% to {values.max():.1f}% | {ranged(r, 'kendall_tau')} "
            f"| {ranged(r, 'tau_within_bins')} | {100 * r.mean_regret:.2f} |"
        )
    return "\n".join(rows)


def corrected() -> str:
    """Rows of what `corrected.py` found, and a last one of a fit without any supernet."""
    content = read_json(HERE / "corrected.json")
    sizes = list(next(iter(content.values()))["corrected"])
    rows = [
        f"| `{name}` | {taus['inherited']:.2f} | " + " | ".join(f"{taus['corrected'][n]:.2f}" for n in sizes) + " |"
        for name, taus in content.items()
    ]
    costs, macs = (next(iter(content.values()))[key] for key in ("costs alone", "macs"))
    rows.append("| none: a fit on all else | | " + " | ".join(f"{costs[n]:.2f}" for n in sizes) + " |")
    rows.append(f"| none: multiply-adds | {macs:.2f} | | | |")
    return "\n".join(rows)


def judged(study: dict[str, Any]) -> str:
    """Rows of what `judged.py` found, beside the accuracies of the same networks."""
    rows = []
    for name, losses in read_json(HERE / "judged.json")["loss"].items():
        nets = ranked(study[name]["networks"], {arch: -loss for arch, loss in losses.items()})
        r, by_accuracy = agreement(nets, 4, SEED), study[name]
        rows.append(
            f"| `{name}` | {by_accuracy['kendall_tau']:.2f} | {ranged(r, 'kendall_tau')} "
            f"| {by_accuracy['tau_within_bins']:.2f} | {ranged(r, 'tau_within_bins')} "
            f"| {100 * by_accuracy['mean_regret']:.2f} | {100 * r.mean_regret:.2f} |"
        )
    return "\n".join(rows)


def ranked(networks: list[dict[str, Any]], scores: Mapping[str, float]) -> list[RankedNetwork]:
    """Published networks, with other scores by their ids than what a supernet said of them."""
    return [
        RankedNetwork(
            macs=net["macs"],
            inherited=scores[net["arch"]],
            trained=net["trained"],
            trained_by_seed=net.get("trained_by_seed", ()),
        )
        for net in networks
    ]


def ranged(result: Agreement | dict[str, Any], key: str) -> str:
    """A figure with its interval."""
    values = result if isinstance(result, dict) else result.model_dump()
    low, high = values[f"{key}_95"]
    return f"{values[key]:.2f} ({low:.2f} to {high:.2f})"


PAGE = """# Does the supernet rank networks as full training does?

Not after trainings that two cores allow: the best of {supernets} elastic supernets, `{best}`, ranks {count}
fully trained networks with a Kendall tau of {best_tau:.2f}, where multiply-adds alone reach {macs:.2f}. Corrected by 8
networks that are trained fully, each of them reaches {least_corrected:.2f} or more. Networks fitted to one trained
GhostNet rank better without any correction ([`../weights/`](../weights/transplants.md)), and `ghostnas run` uses them.

CIFAR-10 at {side} x {side}, space `{space}`; {count} networks spread over multiply-adds, each trained fully on
{images:,} images for {epochs:g} epochs by {seeds} seed(s), each tested once on 10,000. The same networks for every
supernet; 95 % intervals by bootstrap over networks. *Within bins*: pairs of networks of like MACs alone (four bins).
*Regret*: points of accuracy lost by taking a bin's best by inherited accuracy; a random pick loses {random:.2f}.

| supernet | | training | smallest, largest | spread, error | Kendall tau | over `short` | tau within bins | regret |
|---|---|---|---|---|---|---|---|---|
{rows}

*Smallest, largest*: inherited accuracy of the space's ends. *Spread, error*: standard deviation of the networks'
inherited accuracies, and the standard error of one, in points: where the first is no larger than the second, the
ranking is noise. The unscaled supernets were judged by 2,500 images, the others by 10,000 that none was trained on.
*Over `short`*: the gain in tau over the plainest of the short trainings, the same networks drawn for both.

{seeds_say}To know each network's expected accuracy would reach tau {ceiling}, and {ceiling_within} within bins;
MACs alone reach {macs:.2f}, and {macs_within:.2f} within bins.

## Ranking by loss instead of accuracy

The same supernets and networks, ranked by the mean cross-entropy on the same images instead:

| supernet | tau by accuracy | by loss | within bins by accuracy | by loss | regret by accuracy | by loss |
|---|---|---|---|---|---|---|
{judged}

## Ranking after one epoch of training

Each network trained for one epoch (156 steps) before it is judged, from a supernet's weights or from fresh ones:

| from | accuracies | Kendall tau | tau within bins | regret |
|---|---|---|---|---|
{tuned}

## Correction fitted on trained networks

`search.accuracy.predictor`, the Bayesian ridge that `search --fidelity` goes by, fitted on some of the 24 and tested on
the others: Kendall taus there, means over 200 random splits.

| supernet | as it is | corrected by 8 | by 12 | by 16 |
|---|---|---|---|---|
{corrected}

Twelve full trainings bring the worst supernet to within chance of the best. But they do it through costs, widths and
the share of ghosts: a fit without any supernet ranks these networks, which were drawn at random, as well. What a
supernet knows beyond that is not seen with two cores' training. Networks that a search chose are another matter,
because it chooses them where the supernet errs: see `../cifar10/`.

## Which images norms are recalibrated on

A network's own running statistics are of augmented images (shifted and mirrored). Recalibrated on clean images or on
augmented ones of the same split; GhostNets trained alone for three epochs on all training images, test accuracy:

| network | seeds | running statistics | clean | augmented |
|---|---|---|---|---|
{norms_alone}

Supernets of three epochs on 10,000 images, the networks above ranked by 5,000 unseen images:

| seed | recalibrated on | mean accuracy | Kendall tau | tau within bins | regret |
|---|---|---|---|---|---|
{norms_in_supernets}

Augmented images give a network that was trained alone the accuracy that its own statistics have; clean ones take some
of it away, most at the accurate end. In these supernets it is the other way round, by half a point, and the ranking
differs by no more than chance, in either direction. So norms are recalibrated on images augmented as in training.

## Which choices interfere in training

The loss of the largest and the smallest network after 400 steps of a sandwich in which the two random networks are free
in some choices only, and the largest in all others:

| free | loss of the largest | of the smallest |
|---|---|---|
{conflict}

Varying the positions of SE costs the other choices nothing. One number, the width of the tail, used to cost more than
all stages' widths together: behind the head's convolution stands no norm, so that a sum over a quarter of the channels
is a quarter as large, and each width asked the same weights for another size. Since such slices are scaled by their
share of the channels, it costs a quarter of that. What is left comes from the stages' widths, and from what a channel
means under another ratio. One seed each.

## Conclusions

- The goal, a tau of .8, is little below the {ceiling} that a perfect estimator would reach here: {seeds} seeds of ten
  epochs say no more exactly which network is better. No supernet comes near, and none ranks as well as multiply-adds
  do. Two cores don't train a supernet far enough; whether a longer training does is for a GPU to say (the command
  stands at the top of `make.py`).
- Which networks a step draws matters most. Drawn evenly over multiply-adds (`even`) instead of uniformly, the same
  number of steps ranks better by an interval that leaves zero out, and as well as the longest trainings do, at no cost
  to the ends. It is the default. It is also the best of twelve, each trained once, so expect less of it than shown.
- Everything else at that number of steps is within chance of the plain training: sharing by slot, norms for each ratio,
  labels in place of the largest network's predictions, another divergence. So weights are shared by position, and norms
  by all; sharing by slot and norms for each ratio point the right way, and deserve a longer training.
- What eases training need not help ranking. Scaling where no norm follows mends the losses above and the accuracy of
  the ends; the unscaled supernets rank better all the same, by .2 at both lengths, which is within chance each time.
- The loss on the same images ranks about as accuracy does, a little better inside bins.
- An epoch of a network's own, from inherited weights or from fresh ones, says more than inherited weights alone do, and
  costs a tenth of its full training.

Made by `make.py`, `judged.py`, `tuned.py`, `corrected.py`, `norms.py` and `conflict.py` beside this page, in the order
that the first says.
"""
