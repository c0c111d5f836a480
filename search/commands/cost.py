"""What architectures cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import search as api
from search.commands.shared import Json, print_result
from search.terminal import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ghostnet.cost import Layer
    from search.api.costs import UnitLatency


def cost(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    latency: Annotated[Path | None, typer.Option("--latency", help="A latency table, *.lat.json.")] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=0, help="Default: what it was trained for, its space's, or 1000.")
    ] = None,
    in_chs: Annotated[
        int | None, typer.Option("--in-chs", min=1, help="Default: what it was trained for, its space's, or 3.")
    ] = None,
    by_layer: Annotated[bool, typer.Option("--layers", help="Every layer's cost, too.")] = False,
    as_json: Json = False,
) -> None:
    """Multiply-adds, parameters and, with a latency table, predicted milliseconds."""
    costs = api.network_costs(arch, classes=classes, in_chs=in_chs, latency=latency)
    if by_layer and not as_json:
        _show_layers(costs.layers, costs.macs)
        _show_blocks(costs.blocks)
    print_result(costs.to_json(by_layer), costs.message, as_json)


def _show_blocks(blocks: "Sequence[UnitLatency]") -> None:
    if not blocks:
        return
    total = sum(block.latency_ms for block in blocks)
    lines = [f"{'unit':14}{'ms':>9}{'share':>8}{'MACs':>13}"]
    for b in blocks:
        estimated = "" if b.timed else "  estimated"
        lines.append(f"{b.name:14}{b.latency_ms:9.3f}{b.latency_ms / total:8.1%}{b.macs:13,}{estimated}")
    show("\n".join(lines) + "\n")


def _show_layers(parts: "Sequence[Layer]", macs: int) -> None:
    name_width = max(len(part.name) for part in parts)
    lines = [f"{'layer':{name_width}}  {'convolution':36} {'MACs':>12} {'share':>6} {'params':>10}"]
    for p in parts:
        groups = f" in {p.groups} groups" if p.groups > 1 else ""
        shape = f"{p.in_chs} to {p.out_chs}, {p.kernel}x{p.kernel}{groups}, {p.size}x{p.size}"
        share = p.cost.macs / macs
        lines.append(f"{p.name:{name_width}}  {shape:36} {p.cost.macs:>12,} {share:6.1%} {p.cost.params:>10,}")
    show("\n".join(lines) + "\n")
