"""What architectures cost."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.shared import Json, print_result
from search.files import JsonObject
from search.terminal import show

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    table = LatencyTable.load(latency) if latency else None
    batch, dtype, predicted, blocks = 1, "float32", None, None
    if table:
        setting, space = table.setting, table_space(table)
        classes, in_chs, batch, dtype = setting.num_classes, setting.in_chs, setting.batch, setting.dtype
        predict = Predictor(table, space)
        predicted = predict(space.encode(network))
        blocks = _blocks(network, classes, in_chs, predict.per_unit(network), table) if by_layer else None
    total = network_cost(network, classes, in_chs)
    bytes_of = network_memory(network, classes, in_chs, batch, dtype)
    layers = network_layers(network, classes, in_chs) if by_layer else None
    result = NetworkCosts(
        arch=network.id,
        macs=total.macs,
        params=total.params,
        resolution=network.resolution,
        num_classes=classes,
        in_chs=in_chs,
        memory=bytes_of.activations,
        weights=bytes_of.weights,
        batch=batch,
        dtype=dtype,
        latency_ms=None if predicted is None else float(predicted.latency_ms[0]),
        latency_low_ms=None if predicted is None else float(predicted.low_ms[0]),
        latency_high_ms=None if predicted is None else float(predicted.high_ms[0]),
        latency_source=None if predicted is None else predicted.source[0],
    )
    if not as_json:
        _show_layers(layers or (), total)
        _show_blocks(blocks or [])
    print_result(result.to_json(layers, blocks), result.message, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCosts:
    """What a network costs; its latency where there is a table.

    Args:
        memory: bytes of activations at their peak, for the whole batch.
        weights: bytes.
    """

    arch: str
    macs: int
    params: int
    resolution: int
    num_classes: int
    in_chs: int
    memory: int
    weights: int
    batch: int
    dtype: str
    latency_ms: float | None
    latency_low_ms: float | None
    latency_high_ms: float | None
    latency_source: str | None

    @property
    def message(self) -> str:
        """A line for people."""
        message = (
            f"{self.macs:,} multiply-adds at {self.resolution} x {self.resolution}, {self.params:,} parameters, "
            f"{self.num_classes} classes; activations {self.memory:,} and weights {self.weights:,} bytes "
            f"({self.dtype}, batch {self.batch})"
        )
        if self.latency_ms is None:
            return message
        return f"{message}, {self.latency_ms:.3f} ms ({self.latency_low_ms:.3f} to {self.latency_high_ms:.3f})"

    def to_json(self, layers: "Sequence[Layer] | None", blocks: "list[UnitLatency] | None") -> JsonObject:
        """What is known of them, with their layers and blocks."""
        values: JsonObject = {key: value for key, value in asdict(self).items() if value is not None}
        if blocks is not None:
            values["blocks"] = [asdict(block) for block in blocks]
        if layers is not None:
            values["layers"] = [asdict(layer) | asdict(layer.cost) for layer in layers]
        return values


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


def _show_layers(parts: "Sequence[Layer]", total: "Cost") -> None:
    if not parts:
        return
    name_width = max(len(part.name) for part in parts)
    lines = [f"{'layer':{name_width}}  {'convolution':36} {'MACs':>12} {'share':>6} {'params':>10}"]
    for p in parts:
        groups = f" in {p.groups} groups" if p.groups > 1 else ""
        shape = f"{p.in_chs} > {p.out_chs}, {p.kernel}x{p.kernel}{groups}, {p.size}x{p.size}"
        share = p.cost.macs / total.macs
        lines.append(f"{p.name:{name_width}}  {shape:36} {p.cost.macs:>12,} {share:6.1%} {p.cost.params:>10,}")
    show("\n".join(lines) + "\n")
