"""A space for people and for machines: its dimensions, exact size, ends, and how its networks' costs are spread."""

from typing import Any

import numpy as np

from spaces.population import sample
from spaces.space import Space
from spaces.tables import macs_table, params_table
from spaces.window import short

NETWORKS, BINS, WIDTH = 20_000, 16, 40
EIGHTHS = " ▏▎▍▌▋▊▉"
# The last part of a gene's name, and what people call the dimension.
DIMENSIONS = {
    "width": "width",
    "ghost": "ghost ratio s, cheap kernel d",
    "se": "squeeze-and-excitation",
    "expansion": "hidden expansion",
    "kernel": "block kernel",
    "depth": "blocks in a stage",
    "resolution": "resolution",
}


def facts(space: Space, networks: int = NETWORKS, seed: int = 0) -> dict[str, Any]:
    """What there is to say about a space, as plain JSON values.

    Args:
        networks: drawn uniformly, for the histogram of multiply-adds.
    """
    macs, params = macs_table(space), params_table(space)
    low, high = _ends(macs)
    drawn = macs.total(sample(space, np.random.default_rng(seed), networks))
    counts, edges = np.histogram(drawn, bins=BINS, range=(low, high if high > low else low + 1))
    return {
        "space": space.name,
        "id": space.id,
        "size": space.size,
        "macs": [low, high],
        "params": _ends(params),
        "resolution": space.resolution,
        "align": space.align,
        "genes": {gene.name: list(gene.choices) for gene in space.genes},
        "histogram": {"networks": networks, "macs": edges.tolist(), "counts": counts.tolist()},
    }


def words(facts: dict[str, Any]) -> str:
    """The same as text."""
    size, macs, params = facts["size"], facts["macs"], facts["params"]
    lines = [f"{facts['space']}: {size:,} networks ({size:.2g}), {len(facts['genes'])} genes", ""]
    lines += [f"  {title:31}{choices}" for title, choices in _dimensions(facts["genes"])]
    if facts["align"] > 1:
        lines.append(f"  {'intrinsic widths':31}multiples of {facts['align']}")
    for title, k in (("smallest", 0), ("largest", 1)):
        lines.append(f"  {title:31}{short(macs[k])} multiply-adds ({macs[k]:,}); {short(params[k])} parameters")
    histogram = facts["histogram"]
    lines += ["", f"  multiply-adds of {histogram['networks']:,} networks, drawn uniformly"]
    most = max(histogram["counts"])
    for start, count in zip(histogram["macs"], histogram["counts"], strict=False):
        lines.append(f"  {short(start):>7} {_bar(count / most):{WIDTH}} {count / histogram['networks']:6.1%}")
    return "\n".join(line.rstrip() for line in lines)


def _ends(table) -> list[int]:
    """The least and the most that a network of the space has; of multiply-adds and of parameters, rarely the same two."""
    return [int(table.total(table.extreme(largest))[0]) for largest in (False, True)]


def _dimensions(genes: dict[str, list[Any]]) -> list[tuple[str, str]]:
    """Title and choices of each dimension; genes with the same choices on one line."""
    found = []
    for kind, title in DIMENSIONS.items():
        same: dict[str, list[str]] = {}
        for name, choices in genes.items():
            if name.rpartition(".")[2] == kind:
                same.setdefault(_said(kind, choices), []).append(name.rpartition(".")[0])
        for choices_said, places in same.items():
            where = "" if kind == "resolution" else f"  ({_places(places)})"
            found.append((title, choices_said + where))
            title = ""
    return found


def _said(kind: str, choices: list[Any]) -> str:
    if kind == "ghost":
        return ", ".join("s1" if s == 1 else f"s{s}d{d}" for s, d in choices)
    return "no, yes" if kind == "se" else ", ".join(map(str, choices))


def _places(names: list[str]) -> str:
    """Stem, stages and tail by name where they are few; blocks and many by number."""
    if len(names) <= 3:
        return ", ".join(names)
    kinds = {"blocks." if name.startswith("blocks.") else "" for name in names}
    return f"{len(names)} blocks" if kinds == {"blocks."} else f"{len(names)}: {names[0]} to {names[-1]}"


def _bar(share: float) -> str:
    eighths = round(share * WIDTH * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
