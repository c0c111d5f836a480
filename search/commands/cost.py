"""What architectures cost."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.shared import Json, print_result
from search.files import JsonObject
from search.terminal import show

if TYPE_CHECKING:
    from ghostnet.arch import Arch
    from ghostnet.cost import Cost, Layer
    from search.latency.table import LatencyTable


def cost(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    latency: Annotated[Path | None, typer.Option("--latency", help="A latency table, *.lat.json.")] = None,
    classes: Annotated[int, typer.Option("--classes", min=0)] = 1000,
    in_chs: Annotated[int, typer.Option("--in-chs", min=1)] = 3,
    by_layer: Annotated[bool, typer.Option("--layers", help="Every layer's cost, too.")] = False,
    as_json: Json = False,
) -> None:
    """Multiply-adds, parameters and, with a latency table, predicted milliseconds."""
    from ghostnet.cost import cost as network_cost
    from ghostnet.cost import layers as network_layers
    from ghostnet.memory import memory as network_memory
    from search.latency.predictor import Predictor, table_space
    from search.latency.table import LatencyTable
    from spaces.find import find_arch

    network = find_arch(arch)
    result: JsonObject = {"arch": network.id}
    blocks: list[UnitLatency] = []
    if latency:
        table = LatencyTable.load(latency)
        classes, in_chs = table.setting.num_classes, table.setting.in_chs
        space = table_space(table)
        predict, code = Predictor(table, space), space.encode(network)
        predicted = predict(code)
        result |= {
            "latency_ms": float(predicted.latency_ms[0]),
            "latency_low_ms": float(predicted.low_ms[0]),
            "latency_high_ms": float(predicted.high_ms[0]),
            "latency_source": predicted.source[0],
        }
        if by_layer:
            blocks = _blocks(network, classes, in_chs, predict.per_unit(network), table)
            result["blocks"] = [asdict(block) for block in blocks]
    total = network_cost(network, classes, in_chs)
    result |= {"macs": total.macs, "params": total.params, "resolution": network.resolution}
    result |= {"num_classes": classes, "in_chs": in_chs}
    batch, dtype = (table.setting.batch, table.setting.dtype) if latency else (1, "float32")
    bytes_of = network_memory(network, classes, in_chs, batch, dtype)
    result |= {"memory": bytes_of.activations, "weights": bytes_of.weights, "batch": batch, "dtype": dtype}
    parts = network_layers(network, classes, in_chs) if by_layer else ()
    if by_layer:
        result["layers"] = [asdict(layer) | {"macs": layer.cost.macs, "params": layer.cost.params} for layer in parts]
    message = (
        f"{total.macs:,} multiply-adds at {network.resolution} x {network.resolution}, "
        f"{total.params:,} parameters, {classes} classes; activations {bytes_of.activations:,} and weights "
        f"{bytes_of.weights:,} bytes ({dtype}, batch {batch})"
    )
    if latency:
        message += (
            f", {result['latency_ms']:.3f} ms ({result['latency_low_ms']:.3f} to {result['latency_high_ms']:.3f})"
        )
    if by_layer and not as_json:
        _show_layers(parts, total)
        _show_blocks(blocks)
    print_result(result, message, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLatency:
    """The predicted milliseconds of a unit, timed or estimated; or the rest that belongs to the network as a whole."""

    name: str
    latency_ms: float
    macs: int
    timed: bool


def _blocks(
    network: "Arch", classes: int, in_chs: int, milliseconds: dict[str, float], table: "LatencyTable"
) -> list[UnitLatency]:
    from ghostnet.cost import unit_cost
    from ghostnet.units import chain

    rows = [
        UnitLatency(
            name=name, latency_ms=milliseconds[name], macs=unit_cost(unit).macs, timed=unit.key in table.entries
        )
        for name, unit in chain(network, classes, in_chs).named.items()
    ]
    rest = table.correction.intercept_ms
    return [*rows, UnitLatency(name="between them", latency_ms=rest, macs=0, timed=True)]


def _show_blocks(blocks: list[UnitLatency]) -> None:
    if not blocks:
        return
    total = sum(block.latency_ms for block in blocks)
    lines = [f"{'unit':14}{'ms':>9}{'share':>8}{'MACs':>13}"]
    for b in blocks:
        estimated = "" if b.timed else "  estimated"
        lines.append(f"{b.name:14}{b.latency_ms:9.3f}{b.latency_ms / total:8.1%}{b.macs:13,}{estimated}")
    show("\n".join(lines) + "\n")


def _show_layers(parts: "tuple[Layer, ...]", total: "Cost") -> None:
    name_width = max(len(part.name) for part in parts)
    lines = [f"{'layer':{name_width}}  {'convolution':36} {'MACs':>12} {'share':>6} {'params':>10}"]
    for p in parts:
        groups = f" in {p.groups} groups" if p.groups > 1 else ""
        shape = f"{p.in_chs} > {p.out_chs}, {p.kernel}x{p.kernel}{groups}, {p.size}x{p.size}"
        share = p.cost.macs / total.macs
        lines.append(f"{p.name:{name_width}}  {shape:36} {p.cost.macs:>12,} {share:6.1%} {p.cost.params:>10,}")
    show("\n".join(lines) + "\n")
