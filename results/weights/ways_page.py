"""`ways.md`, from `ways.json` as far as that is filled, and the table of the project's README."""

import json
from pathlib import Path

import numpy as np
from ways_summary import EFFORTS, Point, Ways, ending, margin, points, scaled_hypervolume

from search.report.markdown import paragraph

TRANSPLANTS = Path(__file__).with_name("transplants.json")
GOAL_HYPERVOLUME, GOAL_MINUTES, GOAL_GROWN = 0.25, 13, 0.01
NAMES = {
    "transplants": "**transplants searched (guided, {notes}), best four, tuned with the parent as teacher**",
    "family": "**GhostNet .25 .5 .75 1.0x transplanted, tuned so**",
    "fresh": "GhostNet .25 .5 .75 1.0x, fresh weights, equal epochs, no teacher",
    "pruned": "GhostNet 1.3x by Torch-Pruning to four sizes ({notes}), tuned so",
    "pruned-aligned": "the same with channels in multiples of 4 ({notes}), tuned so",
    "exact": "transplants of the exact front of unit losses ({notes}), best four, tuned so",
    "ladder": "transplants searched on a ladder ({notes}), best four, tuned so",
    "exact-ladder": "transplants of the exact front of unit losses on a ladder ({notes}), best four, tuned so",
    "elastic": "elastic supernet, search ({notes}), best four from fresh weights",
    "tpe": "Optuna's TPE over trainings of 3 epochs ({notes}), best four from fresh weights",
    "nsga2": "Optuna's NSGA-II over trainings of 3 epochs ({notes}), best four from fresh weights",
    "gp": "Optuna's GP over trainings of 3 epochs ({notes}), best four from fresh weights",
    "random": "random networks, trained for 3 epochs ({notes}), best four from fresh weights",
    "halving": "random networks, successive halving of 1 and 3 epochs ({notes}), best four from fresh weights",
}
# Ways that prune, and which numbers of channels they make, after what tuning.
PRUNED = {"pruned": "any", "pruned-aligned": "multiples of 4"} | {
    f"pruned{end}": f"any, {times} times the epochs" for end, times in EFFORTS.items() if end
}
RIVALS = {
    "family": "GhostNet's widths transplanted and tuned so",
    "fresh": "GhostNet's widths from fresh weights, by as many epochs",
    "pruned": "Torch-Pruning to four sizes",
    "elastic": "an elastic supernet, searched",
    "tpe": "Optuna's TPE over short trainings",
    "nsga2": "Optuna's NSGA-II over these",
    "gp": "Optuna's GP over these",
    "random": "random networks",
    "halving": "random networks by successive halving",
}
HEADLINE = {
    "transplants": "**found among transplants of it, tuned with it as teacher**",
    "family": "GhostNet .25x to 1.0x, transplanted from it, tuned alike",
    "pruned": "it itself, pruned to four sizes by Torch-Pruning, tuned alike",
    "fresh": "GhostNet .25x to 1.0x from fresh weights, as many epochs",
}
SUPERNETS = {
    "fresh": "as the recipe has it, from fresh weights",
    "begun": "begun from the parent: own weights for each ratio, channels by importance, taught by the parent",
}
INTRODUCTION = """\
CIFAR-10 at 16 x 16, 10,000 images, space `cifar16`, networks of up to 1.2M multiply-adds. The parent is GhostNet 1.3x
({macs:.2f}M multiply-adds, {accuracy:.1%} of the test images right), trained for {epochs} epochs on the same images;
its training is counted in none of the rows. Every network in the first table is trained for 10 epochs and tested once
on 10,000 images; in the others everything is so many times as long: the trials of a search, the epochs of a supernet
and of each final training. Core-minutes are CPU time of one core for all that a way did: fitting, searching, pruning,
training, the teacher's answers, tests; not reading the images, nor the latency table, which all share. The machine
did other work meanwhile, by which CPU time grows, too. Compare core-minutes within a seed, not between seeds: the
same trainings of GhostNet's widths took {family} by seed.{notes}

The searches go by a latency table: {setting}. On networks that it never saw it had {tables}. The milliseconds below
are of the final networks of a seed, pruned ones too: timed side by side, as graphs of the same builder in the same
runtime, then brought to the scale of the goal's table by GhostNet's four widths, timed among them; timed again some
minutes later, most came within 6 %, pruned ones up to a third apart. (*predicted*: by the table, not timed yet.)
Hypervolume: accuracy over 40 % times latency below .124 ms, as a share of .124 ms.
"""


def page(content: Ways) -> str:
    """The whole page."""
    parent, table = content.parent, content.table
    about = _answer(content) + INTRODUCTION.format(
        macs=parent.macs / 1e6,
        epochs=parent.epochs,
        notes="".join(f" {note}" for note in content.notes),
        accuracy=parent.accuracy,
        setting=table.setting,
        tables=_tables(content),
        family=" ".join(f"{row.cpu_seconds / 60:.1f}" for _, row in sorted(content.ways.get("family", {}).items()))
        or "-",
    )
    about = "\n\n".join(paragraph(part) for part in about.strip().split("\n\n")) + "\n"
    sections = [
        _table(content),
        *(_table(content, end) for end in EFFORTS if end),
        _goals(content),
        _pruned(content),
        _pairs(content),
        _grown(content),
        _supernets(content),
    ]
    end = "The command: `ways.py`; all figures: `ways.json`.\n"
    return "\n".join(
        [
            "# From one trained GhostNet to all of them\n",
            about,
            "![Accuracy over latency](front.png)\n",
            *("\n".join([*lines, ""]) for lines in sections if lines),
            end,
        ]
    )


def headline(content: Ways) -> str:
    """The README's table: where the networks of some ways end, all seeds together."""
    rows = ["| networks | latency, ms | test accuracy, % | hypervolume | core-minutes |", "|---" * 5 + "|"]
    for way, name in HEADLINE.items():
        known = [points(content, way, seed) or [] for seed in content.ways[way]]
        ms, accuracies = zip(*(point for of_a_seed in known for point in of_a_seed), strict=True)
        minutes = [row.cpu_seconds / 60 for row in content.ways[way].values()]
        volume = np.mean([scaled_hypervolume(each) for each in known])
        rows.append(
            f"| {name} | {min(ms):.3f} to {max(ms):.3f} | {100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} "
            f"| {volume:.3f} | {min(minutes):.1f} to {max(minutes):.1f} |"
        )
    return "\n".join(rows)


def _answer(content: Ways) -> str:
    """The page in a few sentences; none before there is something to compare."""

    def mean(way: str) -> float | None:
        volumes = [
            scaled_hypervolume(known) for seed in content.ways.get(way, {}) if (known := points(content, way, seed))
        ]
        return float(np.mean(volumes)) if volumes else None

    searched, others = mean("transplants"), {name: mean(way) for way, name in RIVALS.items()}
    if searched is None or not (known := {name: value for name, value in others.items() if value is not None}):
        return ""
    margins = [m for seed in content.ways["transplants"] for m in _margins(content, "pruned", seed)]
    known_margins = [100 * m for m in margins if m is not None]
    beaten = sum(m > 0 for m in known_margins)

    def listed(volumes: dict[str, float]) -> str:
        falling = sorted(volumes.items(), key=lambda each: -each[1])
        return ", ".join(f"{name} ({value:.3f})" for name, value in falling) + "."

    lines = [
        "Four networks that a search chose among transplants of one trained GhostNet, tuned with it as teacher, have a",
        f"hypervolume of {searched:.3f}, on average over {len(content.ways['transplants'])} seeds. Beside them stand",
        listed(known),
        f"Of {len(margins)} networks that Torch-Pruning made of the same GhostNet, {beaten} are beaten at equal",
        f"latency, by {min(known_margins):.1f} to {max(known_margins):.1f} points." if known_margins else "latency.",
    ]
    end = next(end for end in reversed(EFFORTS) if f"transplants{end}" in content.ways)  # the longest
    longer = {name: value for way, name in RIVALS.items() if (value := mean(f"{way}{end}")) is not None}
    if end and longer:
        seeds = ", ".join(content.ways[f"transplants{end}"])
        lines += [
            f"With {EFFORTS[end]} times the epochs and trials (seed {seeds}) the searched ones have",
            f"{mean(f'transplants{end}'):.3f}, and beside them stand",
            listed(longer),
        ]
    return " ".join(lines) + "\n\n"


def _tables(content: Ways) -> str:
    """How far off the latency tables were, and which seeds' searches went by each."""
    seeds: dict[tuple[float, float], list[str]] = {}
    for seed, table in sorted((content.tables or {"0": content.table}).items()):
        seeds.setdefault((table.error, table.kendall_tau), []).append(seed)
    parts = [
        f"a mean error of {error:.1%} and a Kendall tau of {tau:.2f} (seed {', '.join(names)})"
        for (error, tau), names in seeds.items()
    ]
    return ", or ".join(parts)


def _table(content: Ways, kind: str = "") -> list[str]:
    """The ways' rows; of those whose names end with `kind`."""
    rows = [
        (f"{way}{kind}", name, seed, row)
        for way, name in NAMES.items()
        for seed, row in sorted(content.ways.get(f"{way}{kind}", {}).items())
    ]
    lines = [
        "| way | seed | core-minutes | ms | test accuracy, % | hypervolume |",
        "|---|---|---|---|---|---|",
    ]
    for way, name, seed, row in rows:
        accuracies = " ".join(f"{100 * n.accuracy:.1f}" for n in row.networks)
        cells = [name.format(notes=row.notes), seed, f"{row.cpu_seconds / 60:.1f}"]
        cells += [_milliseconds(content, way, seed), accuracies, _hypervolume(content, way, seed)]
        lines.append(f"| {' | '.join(cells)} |")
    if not kind:
        return lines
    return [f"## {EFFORTS[kind]} times the epochs and trials", "", *lines] if rows else []


def _milliseconds(content: Ways, way: str, seed: str) -> str:
    known = points(content, way, seed)
    if known is None:
        return "-"
    timed = all(n.measured_ms for n in content.ways[way][seed].networks)
    return " ".join(f"{ms:.3f}".lstrip("0") for ms, _ in known) + ("" if timed else " (predicted)")


def _hypervolume(content: Ways, way: str, seed: str) -> str:
    known = points(content, way, seed)
    return "-" if known is None else f"{scaled_hypervolume(known):.3f}"


def _goals(content: Ways) -> list[str]:
    lines = []
    for seed in sorted(content.ways.get("transplants", {})):
        known, minutes = _longest_inside(content, seed)
        if known:
            volume = scaled_hypervolume(known)
            met = _met(volume >= GOAL_HYPERVOLUME and minutes <= GOAL_MINUTES)
            goal = f"Hypervolume {GOAL_HYPERVOLUME} at {GOAL_MINUTES} core-minutes"
            lines.append(f"- {goal}, seed {seed}: {volume:.3f} at {minutes:.1f}, {met}.")
            ceiling = scaled_hypervolume([(min(ms for ms, _ in known), content.parent.accuracy)])
            lines.append(
                f"  One network as fast as the fastest and as accurate as the parent would have {ceiling:.3f}."
            )
        for way in PRUNED:
            if not (margins := _margins(content, way, seed)):
                continue
            beaten = [m is not None and m > 0 for m in margins]
            goal = "Every pruned network beaten at equal latency" + ("" if way == "pruned" else f", {PRUNED[way]}")
            least = 100 * min((m for m in margins if m is not None), default=0.0)
            by = f"by {least:.1f} points or more, " if all(beaten) else ""
            lines.append(f"- {goal}, seed {seed}: {sum(beaten)} of {len(beaten)}, {by}{_met(all(beaten))}.")
    if everyone := [pair for seed in content.pairs.values() for pair in seed]:
        above = [p.accuracy["transplanted, taught"] >= p.accuracy["fresh"] for p in everyone]
        goal = "From a transplant, taught, no network ends below fresh weights at equal steps"
        lines.append(f"- {goal}: {sum(above)} of {len(above)}, {_met(all(above))}.")
    for seed, row in sorted(content.ways.get("grown", {}).items()):
        own, *others = row.networks
        gain = max(n.accuracy for n in others) - own.accuracy
        goal = "Children at the parent's size and above beat it by 1 point at equal further steps"
        lines.append(f"- {goal}, seed {seed}: the best by {100 * gain:+.1f} points, {_met(gain >= GOAL_GROWN)}.")
    return ["## Goals", "", *lines] if lines else []


def _longest_inside(content: Ways, seed: str) -> tuple[list[Point], float]:
    """The searched transplants that took longest of those inside the goal's core-minutes, or else the shortest; and how
    many they took."""
    rows = {way: content.ways.get(way, {}).get(seed) for way in (f"transplants{end}" for end in EFFORTS)}
    minutes = {way: row.cpu_seconds / 60 for way, row in rows.items() if row}
    inside = {way: took for way, took in minutes.items() if took <= GOAL_MINUTES}
    way = max(inside, key=inside.__getitem__) if inside else min(minutes, key=minutes.__getitem__)
    return _points(content, way, seed), minutes[way]


def _met(whether: bool) -> str:
    return "met" if whether else "**not met**"


def _points(content: Ways, way: str, seed: str) -> list[Point]:
    return (points(content, way, seed) or []) if seed in content.ways.get(way, {}) else []


def _rivals(content: Ways, way: str, seed: str) -> list[Point]:
    """The searched transplants that had what a way had."""
    return _points(content, f"transplants{ending(way)}", seed)


def _margins(content: Ways, way: str, seed: str) -> list[float | None]:
    rivals = _rivals(content, way, seed)
    return [margin(each, rivals) for each in _points(content, way, seed)] if rivals else []


def _pruned(content: Ways) -> list[str]:
    lines = []
    for way in PRUNED:
        for seed, row in sorted(content.ways.get(way, {}).items()):
            rivals, channels = _rivals(content, way, seed), PRUNED[way]
            for network, (ms, tested) in zip(row.networks, _points(content, way, seed), strict=False):
                best = max((each for each in rivals if each[0] <= ms), key=lambda each: each[1], default=None)
                against = "none is so fast | - | -"
                if best:
                    against = f"{best[0]:.3f} | {100 * best[1]:.1f} | {100 * (best[1] - tested):+.1f}"
                size, start = f"{network.macs / 1e3:,.0f}k", f"{100 * (network.start or 0.0):.1f}"
                lines.append(f"| {seed} | {channels} | {size} | {start} | {ms:.3f} | {100 * tested:.1f} | {against} |")
    if not lines:
        return []
    return [
        "## Pruned networks, and the best searched transplant that is no slower",
        "",
        "*As pruned*: on the search split, norms estimated again, before any tuning.",
        "",
        "| seed | channels | multiply-adds | as pruned, % | ms | tuned, % | transplant, ms | tuned, % | points ahead |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
    ]


def _pairs(content: Ways) -> list[str]:
    everyone = [(seed, pair) for seed, rows in sorted(content.pairs.items()) for pair in rows]
    if not everyone:
        return []
    starts = list(everyone[0][1].accuracy)
    means = [float(np.mean([pair.accuracy[start] for _, pair in everyone])) for start in starts]
    lines = []
    for seed, pair in everyone:
        cells = " | ".join(f"{100 * pair.accuracy[start]:.1f}" for start in starts)
        lines.append(f"| {seed} | {pair.arch} | {pair.macs / 1e3:,.0f}k | {cells} |")
    return [
        "## Random networks from three starts, equal steps",
        "",
        "Random networks of up to 1.2M multiply-adds, 10 epochs each: tuned from the transplant with the parent as",
        "teacher; from fresh weights, without a teacher; from fresh weights, by the tuning's recipe and the same",
        "teacher.",
        "",
        f"| seed | network | multiply-adds | {' | '.join(f'{start}, %' for start in starts)} |",
        "|---|---|---|" + "---|" * len(starts),
        *lines,
        f"| | mean | | {' | '.join(f'{100 * mean:.1f}' for mean in means)} |",
    ]


def _grown(content: Ways) -> list[str]:
    lines = []
    for seed, row in sorted(content.ways.get("grown", {}).items()):
        for network in row.networks:
            size, start = f"{network.macs / 1e6:.2f}M", f"{100 * (network.start or 0.0):.1f}"
            lines.append(f"| {seed} | {network.name} | {size} | {start} | {100 * network.accuracy:.1f} |")
    if not lines:
        return []
    return [
        "## At the parent's size and above",
        "",
        f"Fitted to the parent ({content.parent.accuracy:.1%}), then 25 epochs with it as teacher.",
        "",
        "| seed | network | multiply-adds | as transplanted, % (search split) | tuned, % (test) |",
        "|---|---|---|---|---|",
        *lines,
    ]


def _supernets(content: Ways) -> list[str]:
    lines = []
    for seed, kinds in sorted(content.supernets.items()):
        for name, known in kinds.items():
            cells = [f"{100 * known.mean:.1f}", f"{known.kendall_tau:.2f}", f"{known.residual_tau:.2f}"]
            lines.append(f"| {SUPERNETS[name]} | {seed} | {known.cpu_seconds / 60:.1f} | {' | '.join(cells)} |")
    if not lines:
        return []
    parents = json.loads(TRANSPLANTS.read_text())["parents"].values()
    mine = next(each for each in parents if each["accuracy"] == content.parent.accuracy)
    most = max((each for each in mine["fits"] if each["by"] == "ghostnas"), key=lambda each: each["images"])
    transplants = most["summary"]
    cells = [f"{100 * transplants['mean']:.1f}", f"{transplants['kendall_tau']:.2f}"]
    cells.append(f"{transplants['residual_tau']:.2f}")
    lines.append(f"| transplants of the same parent, none trained (`transplants.md`) | - | - | {' | '.join(cells)} |")
    return [
        "## Elastic supernets",
        "",
        "The 26 networks of `transplants.md` as they come out, on the test images, after equal epochs of training.",
        "",
        "| supernet | seed | core-minutes of training | mean, % | tau | residual tau |",
        "|---|---|---|---|---|---|",
        *lines,
    ]
