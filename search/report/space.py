"""Describes a space, as text and as JSON: dimensions, exact size, extremes, and the distribution of costs."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from search.report.formatting import format_size
from spaces.population import sample
from spaces.quantities import format_count
from spaces.space import Space
from spaces.tables import UnitTable, macs_table, params_table

LARGEST_WRITTEN_OUT = 10**100  # of a space's sizes
NETWORKS, BINS, WIDTH = 20_000, 16, 40
EIGHTHS = " ▏▎▍▌▋▊▉"
# What people call a dimension, where its kind doesn't say it; in the order in which they are told.
DIMENSIONS = {
    "width": "width",
    "ratio": "ghost ratio s",
    "cheap_kernel": "cheap kernel d",
    "se": "squeeze-and-excitation",
    "expansion": "hidden expansion",
    "kernel": "block kernel",
    "depth": "blocks in a stage",
    "resolution": "resolution",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """Choices, and the parts of the network `of` which they are; of the whole where there is one empty name."""

    choices: list[Any]
    of: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of networks by their multiply-adds, whose edges are `macs`."""

    networks: int
    macs: list[float]
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceDescription:
    """What a space has, for people and `--json`.

    Args:
        macs, params: the least and the most.
        dimensions: by the kinds of genes.
        genes: choices of each.
    """

    space: str
    id: str
    size: int
    macs: list[int]
    params: list[int]
    resolution: int
    align: int
    dimensions: dict[str, list[Dimension]]
    genes: dict[str, list[Any]]
    histogram: Histogram


def describe_space(space: Space, networks: int = NETWORKS, seed: int = 0) -> SpaceDescription:
    """The description of a space.

    Args:
        networks: drawn uniformly, for the histogram of multiply-adds.
    """
    macs, params = macs_table(space), params_table(space)
    sampled_macs = macs.total(sample(space, np.random.default_rng(seed), networks))
    counts, edges = np.histogram(sampled_macs, bins=BINS)
    return SpaceDescription(
        space=space.name,
        id=space.id,
        size=space.size,
        macs=_ends(macs),
        params=_ends(params),
        resolution=space.resolution,
        align=space.align,
        dimensions=_dimensions(space),
        genes={gene.name: list(gene.choices) for gene in space.genes},
        histogram=Histogram(networks=networks, macs=edges.tolist(), counts=counts.tolist()),
    )


def format_space(description: SpaceDescription) -> str:
    """The same as text."""
    d, histogram = description, description.histogram
    size = f"{d.size:,} networks ({d.size:.2g})" if d.size < LARGEST_WRITTEN_OUT else f"{format_size(d.size)} networks"
    lines = [f"{d.space}: {size}, {len(d.genes)} genes", ""]
    for kind, dimension in d.dimensions.items():
        title = DIMENSIONS.get(kind, kind.replace("_", " "))
        for each in dimension:
            choices = ", ".join(map(str, each.choices)) if kind != "se" else "no, yes"
            lines.append(f"  {title:24}{choices}" + (f"  ({_places(each.of)})" if each.of != [""] else ""))
            title = ""
    if d.align > 1:
        lines.append(f"  {'intrinsic widths':24}multiples of {d.align}")
    for title, macs, params in zip(("smallest", "largest"), d.macs, d.params, strict=True):
        lines.append(f"  {title:24}{format_count(macs)} multiply-adds ({macs:,}); {format_count(params)} parameters")
    lines += ["", f"  multiply-adds of {histogram.networks:,} networks, drawn uniformly"]
    most = max(histogram.counts)
    for start, count in zip(histogram.macs, histogram.counts, strict=False):
        lines.append(f"  {format_count(start):>7} {_bar(count / most):{WIDTH}} {count / histogram.networks:6.1%}")
    return "\n".join(line.rstrip() for line in lines)


def _ends(table: UnitTable) -> list[int]:
    """The least and the most in the space. Multiply-adds and parameters rarely have them at the same two networks."""
    return [int(table.total(table.extreme(largest))[0]) for largest in (False, True)]


def _dimensions(space: Space) -> dict[str, list[Dimension]]:
    """For each dimension that has a choice somewhere, its choices, and which parts of the network have them."""
    choices_by_kind: dict[str, dict[tuple[Any, ...], list[str]]] = {kind: {} for kind in DIMENSIONS}
    for gene in space.genes:
        for kind, choices in gene.dimensions.items():
            choices_by_kind.setdefault(kind, {}).setdefault(choices, []).append(gene.part)
    return {
        kind: [Dimension(choices=list(choices), of=places) for choices, places in same.items() if choices]
        for kind, same in choices_by_kind.items()
        if any(len(choices) > 1 for choices in same)
    }


def _places(names: list[str]) -> str:
    """Places by name where they are few, else by number."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{len(names)} blocks" if names[0].startswith("blocks.") else f"{len(names)}: {names[0]} to {names[-1]}"


def _bar(share: float) -> str:
    eighths = round(share * WIDTH * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
