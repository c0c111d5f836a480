"""How much memory a network takes while it runs: its activations at their peak, and its weights. In closed form.

An operation needs what it reads, what it writes, and whatever is read later. Norms are folded into convolutions, an
activation is done in place, a flattened tensor is a view; a concatenation, a sum and a product write tensors of their
own, and of the ghosts' convolutions there is one a replica. That is the graph that is exported to ONNX. A runtime may
still need more, such as LiteRT for the padding before a strided convolution and for primaries that stand in a row.
"""

from dataclasses import dataclass

from ghostnet.arch import MAX_BATCH, Arch, ArchError, check_whole
from ghostnet.cost import unit_layers
from ghostnet.units import Bottleneck, Stem, Tail, Unit, intrinsic_chs, output_values, se_chs, strided, units

BYTES = {"float32": 4, "float16": 2, "int8": 1}  # of an activation and of a weight, by data type


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a network's activations at their peak, and of its weights."""

    activations: int
    weights: int


def memory(arch: Arch, num_classes: int = 1000, in_chs: int = 3, batch: int = 1, dtype: str = "float32") -> Memory:
    """What `GhostNet(arch, num_classes, in_chs)` takes at `arch.resolution`.

    Args:
        batch: images at a time.
        dtype: `float32`, `float16` or `int8`, of activations and weights.

    Raises:
        ArchError: classes, channels or a batch out of range, or another data type.
    """
    each = value_bytes(batch, dtype)
    chain = units(arch, num_classes, in_chs)
    return Memory(each * max(map(unit_peak, chain)), sum(unit_weight_bytes(unit, dtype) for unit in chain))


def value_bytes(batch: int, dtype: str) -> int:
    """Bytes of one value of an image's activations, for a whole batch.

    Raises:
        ArchError: a batch that is none, or another data type than `float32`, `float16` or `int8`.
    """
    if dtype not in BYTES:
        raise ArchError(f"a data type is one of {', '.join(BYTES)}, not {dtype!r:.80}")
    check_whole("batch", batch, 1, MAX_BATCH)
    return batch * BYTES[dtype]


def unit_weight_bytes(unit: Unit, dtype: str = "float32") -> int:
    """Bytes of the weights of one unit, norms folded: filters and a bias for each of their outputs. With int8 a bias
    has 32 bits, and scales are not counted."""
    weight, bias = BYTES[dtype], 4 if dtype == "int8" else BYTES[dtype]
    return sum(weight * layer.weights + bias * layer.out_chs for layer in unit_layers(unit))


def unit_peak(unit: Unit) -> int:
    """The most values of one image that are alive at a time while one unit runs, its input and its output among
    them."""
    match unit:
        case Stem(in_chs, _, _, size):
            return in_chs * size**2 + output_values(unit)
        case Tail(in_chs, tail_chs, head_chs, num_classes, size):
            convolved = tail_chs * size**2
            return max(in_chs * size**2 + convolved, convolved + tail_chs, tail_chs + head_chs, head_chs + num_classes)
        case Bottleneck():
            return _bottleneck_peak(unit)


def _bottleneck_peak(unit: Bottleneck) -> int:
    """The input stays for the shortcut, so it is alive until that has read it."""
    block, area, out_area = unit.block, unit.size**2, strided(unit.size, unit.block.stride) ** 2
    mid, out = block.mid_chs, block.out_chs
    held = unit.in_chs * area
    _, ghosts, _ = _ghost_module(unit, mid)
    peaks = [held + area * (2 * mid if ghosts else mid)]  # pieces and their concatenation
    if block.stride > 1:
        peaks.append(held + area * mid + out_area * mid)
    if hidden := se_chs(block):
        peaks.append(held + out_area * mid + max(mid + hidden, mid + out_area * mid))  # gates, and what they scale
    primary, ghosts, leading = _ghost_module(unit, out)
    peaks.append(held + out_area * (mid + primary))
    peaks.append(held + out_area * (out + leading))  # all pieces, and the primaries that the last replica reads
    if unit.has_shortcut:
        spatial = unit.in_chs * out_area
        peaks += [held + out_area * out + spatial, spatial + 2 * out_area * out]
    peaks.append(3 * out_area * out)  # both branches and their sum
    return max(peaks)


def _ghost_module(unit: Bottleneck, out_chs: int) -> tuple[int, int, int]:
    """Channels of the primaries, of the ghosts, and of those leading primaries that are cut out for a last replica of
    fewer ghosts; 0 where none are."""
    primary = intrinsic_chs(out_chs, unit.block.ratio, unit.align)
    ghosts = out_chs - primary
    return primary, ghosts, ghosts % primary
