"""What a space holds and an architecture costs, with a latency table also its predicted milliseconds; without torch."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ghostnet.arch import MAX_CLASSES, MAX_IN_CHS, Arch
from ghostnet.cost import Layer, unit_cost
from ghostnet.cost import cost as network_cost
from ghostnet.cost import layers as network_layers
from ghostnet.memory import memory as network_memory
from ghostnet.published import PUBLISHED
from ghostnet.units import chain
from search.api import Place
from search.errors import UserError, check_whole
from search.export.manifest import MANIFEST, read_manifest
from search.files import JsonObject
from search.latency.peak_memory import predict_peak_memory
from search.latency.predictor import Predictor, table_space
from search.latency.table import LatencyTable, target_name
from search.report.space import NETWORKS, SpaceDescription
from search.report.space import describe_space as describe
from search.seeds import check_seed
from search.training.known_images import OURS, read_timm_config
from search.training.records import TRAINED_FILE, read_trained
from spaces.find import find_arch, find_space
from spaces.space import Space

__all__ = ["NetworkCosts", "UnitLatency", "describe_space", "network_costs"]

IMAGENET = 1000, 3  # classes and channels
MOST_DRAWN = 10_000_000  # networks of a histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLatency:
    """The predicted milliseconds of a unit, timed or estimated; or the rest that belongs to the network as a whole."""

    name: str
    latency_ms: float
    macs: int
    timed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCosts:
    """What a network costs; its latency where there is a table.

    Args:
        memory: bytes of activations at their peak, for the whole batch.
        weights: bytes.
        latency_target: what the milliseconds are of: runtime, data type, threads, batch and processor.
        peak_memory: bytes that it takes on the table's device at its peak, where the table tells, and the ends of their
            interval.
        layers: every convolution's and linear layer's cost.
        blocks: every unit's predicted latency.
        assumed: whether classes or channels are ImageNet's because neither the caller nor any file says which.
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
    layers: tuple[Layer, ...]
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    latency_source: str | None = None
    latency_target: str | None = None
    peak_memory: int | None = None
    peak_memory_low: int | None = None
    peak_memory_high: int | None = None
    blocks: tuple[UnitLatency, ...] = ()
    assumed: bool = False

    @property
    def message(self) -> str:
        """A line for people."""
        assumed = f" and {self.in_chs} channels (no file says which)" if self.assumed else ""
        message = (
            f"{self.macs:,} multiply-adds at {self.resolution} x {self.resolution}, {self.params:,} parameters, "
            f"{self.num_classes} classes{assumed}; activations {self.memory:,} and weights {self.weights:,} bytes "
            f"({self.dtype}, batch {self.batch})"
        )
        if self.latency_ms is None:
            return message
        message += f", {self.latency_ms:.3f} ms ({self.latency_low_ms:.3f} to {self.latency_high_ms:.3f})"
        message += f" by {self.latency_target}"
        if self.peak_memory is None or self.peak_memory_low is None or self.peak_memory_high is None:
            return message
        peak, low, high = (each / 1e6 for each in (self.peak_memory, self.peak_memory_low, self.peak_memory_high))
        return f"{message}; {peak:.1f} MB of memory there ({low:.1f} to {high:.1f})"

    def to_json(self, by_layer: bool = False) -> JsonObject:
        """What is known, with its layers and blocks if they are asked for."""
        own = [field.name for field in fields(self) if field.name not in ("layers", "blocks", "assumed")]
        values: JsonObject = {name: value for name in own if (value := getattr(self, name)) is not None}
        if by_layer:
            values["layers"] = [asdict(layer) | asdict(layer.cost) for layer in self.layers]
            if self.blocks:
                values["blocks"] = [asdict(block) for block in self.blocks]
        return values


def describe_space(space: Space, networks: int = NETWORKS, seed: int = 0) -> SpaceDescription:
    """What a space holds: its dimensions, exact size, extremes, and how multiply-adds are distributed.

    Args:
        networks: drawn uniformly, for the histogram of multiply-adds.

    Raises:
        UserError: numbers that are none.
    """
    return describe(space, check_whole("`networks`", networks, 1, MOST_DRAWN), check_seed(seed))


def network_costs(
    arch: Arch | Place,
    *,
    classes: int | None = None,
    in_chs: int | None = None,
    latency: LatencyTable | Place | None = None,
) -> NetworkCosts:
    """Multiply-adds, parameters, bytes, and with a latency table milliseconds.

    Args:
        arch: an architecture, its file or folder, or a name such as `ghostnet-1.0`.
        classes, in_chs: of the network; None: those that it was trained for, where its folder says it, those of its
            space, where its name is such as `cifar:0.75x`, or ImageNet's.
            A table has its own, and none but these go with it.
        latency: a table, or its file.

    Raises:
        UserError, ArchError: no such architecture or table, or a table of networks with other units, classes or
            channels.
    """
    if classes is not None:
        classes = check_whole("`classes`", classes, 0, MAX_CLASSES)
    if in_chs is not None:
        in_chs = check_whole("`in_chs`", in_chs, 1, MAX_IN_CHS)
    network = arch if isinstance(arch, Arch) else find_arch(arch)
    table = latency if isinstance(latency, LatencyTable | None) else LatencyTable.load(Path(latency))
    if table is None:
        known = None if isinstance(arch, Arch) else _trained_for(Path(arch), network) or _of_space(arch)
        named = isinstance(arch, Arch) or PUBLISHED.fullmatch(str(arch))
        assumed = not (known or named) and None in (classes, in_chs)
        classes, in_chs = (
            (known or IMAGENET)[k] if value is None else value for k, value in enumerate((classes, in_chs))
        )
        return replace(_costs(network, classes, in_chs, 1, "float32"), assumed=assumed)
    setting, predict = table.setting, Predictor(table, space := table_space(table))
    for name, asked, own in (("classes", classes, setting.num_classes), ("in_chs", in_chs, setting.in_chs)):
        if asked not in (None, own):
            raise UserError(f"the latency table is of networks with `{name}` {own}, but got {asked}")
    classes, in_chs = setting.num_classes, setting.in_chs
    predicted, taken = predict(space.encode(network)), predict_peak_memory(table, network)
    peak, low, high = (None, None, None) if taken is None else map(round, taken)
    return replace(
        _costs(network, classes, in_chs, setting.batch, setting.dtype),
        latency_ms=float(predicted.latency_ms[0]),
        latency_low_ms=float(predicted.low_ms[0]),
        latency_high_ms=float(predicted.high_ms[0]),
        latency_source=predicted.source[0],
        latency_target=target_name(setting, table.device),
        peak_memory=peak,
        peak_memory_low=low,
        peak_memory_high=high,
        blocks=_blocks(network, predict, float(predicted.latency_ms[0])),
    )


def _trained_for(place: Path, arch: Arch) -> tuple[int, int] | None:
    """The classes and channels of the network in a folder that a training or an export made; None of any other."""
    folder = place if place.is_dir() else place.parent
    for file, read in ((folder / TRAINED_FILE, read_trained), (folder / MANIFEST, lambda _: read_manifest(folder))):
        if place.exists() and file.exists() and (metadata := read(file)).arch == arch.id:
            return metadata.num_classes, metadata.in_chs
    config = read_timm_config(folder) if place.exists() else None
    if config and config.architecture == OURS and config.num_classes is not None and config.images.input_size:
        return config.num_classes, config.images.input_size[0]
    return None


def _of_space(name: Place) -> tuple[int, int] | None:
    """The classes and channels of the space that a name such as `cifar:0.75x` says; None of any other."""
    space = find_space(name)
    return (space.num_classes, space.in_chs) if space else None


def _costs(arch: Arch, classes: int, in_chs: int, batch: int, dtype: str) -> NetworkCosts:
    total, bytes_of = network_cost(arch, classes, in_chs), network_memory(arch, classes, in_chs, batch, dtype)
    return NetworkCosts(
        arch=arch.id,
        macs=total.macs,
        params=total.params,
        resolution=arch.resolution,
        num_classes=classes,
        in_chs=in_chs,
        memory=bytes_of.activations,
        weights=bytes_of.weights,
        batch=batch,
        dtype=dtype,
        layers=tuple(network_layers(arch, classes, in_chs)),
    )


def _blocks(arch: Arch, predict: Predictor, latency_ms: float) -> tuple[UnitLatency, ...]:
    milliseconds, timed = predict.per_unit(arch), predict.timed_units(arch)
    rows = [
        UnitLatency(name=name, latency_ms=milliseconds[name], macs=unit_cost(unit).macs, timed=name in timed)
        for name, unit in chain(arch, predict.space.num_classes, predict.space.in_chs).named.items()
    ]
    rest = latency_ms - sum(row.latency_ms for row in rows)
    return (*rows, UnitLatency(name="once a run", latency_ms=rest, macs=0, timed=True))
