"""A space as a chain of slots: places for units, each with the few genes that its unit depends on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ghostnet.published import make_divisible
from ghostnet.units import Bottleneck, Stem, Tail, Unit, strided
from spaces.layout import Place, block_at

if TYPE_CHECKING:
    from spaces.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A unit's place in the chain.

    Args:
        before, width, resolution, depth: genes that it shares with other slots, None where it doesn't depend on one:
            the width before it, its own, and what else changes it.
        own: genes of this slot alone.
        unit: what the choices of `genes` make, as values; None where the depth drops it.
    """

    before: int | None = None
    width: int
    resolution: int | None
    depth: int | None = None
    own: tuple[int, ...] = ()
    unit: Callable[[dict[int, Any]], Unit | None]

    @property
    def shared(self) -> tuple[int, ...]:
        """Genes that other slots depend on, too."""
        return tuple(gene for gene in (self.before, self.width, self.resolution, self.depth) if gene is not None)

    @property
    def genes(self) -> tuple[int, ...]:
        """All genes that the unit depends on, shared ones first."""
        return (*self.shared, *self.own)


def slots(space: "Space") -> tuple[Slot, ...]:
    """The chain of a space, stem first: `ghostnet.units.units` of each network, and places of dropped blocks."""
    resolution, last = space.layout.resolution, len(space.rows)

    def side(values: dict[int, Any]) -> int:
        return space.resolution if resolution is None else values[resolution]

    def stem(values: dict[int, Any]) -> Stem:
        return Stem(space.in_chs, make_divisible(space.stem_chs * values[0]), space.stem_stride, side(values))

    def block(place: Place) -> Slot:
        def unit(values: dict[int, Any]) -> Bottleneck | None:
            made = block_at(space, place, values)
            if made is None:
                return None
            in_chs = make_divisible(place.in_chs * values[place.before])
            return Bottleneck(in_chs, made, space.align, strided(side(values), place.reduction))

        return Slot(
            before=place.before if place.before != place.width else None,
            width=place.width,
            resolution=resolution,
            depth=place.depth,
            own=place.own,
            unit=unit,
        )

    def tail(values: dict[int, Any]) -> Tail:
        place = space.layout.places[-1]
        return Tail(
            make_divisible(place.row.out_chs * values[last]),
            make_divisible(space.tail_chs * values[last + 1]),
            space.head_chs,
            space.num_classes,
            strided(side(values), place.reduction * place.row.stride),
        )

    return (
        Slot(width=0, resolution=resolution, unit=stem),
        *(block(place) for place in space.layout.places),
        Slot(before=last, width=last + 1, resolution=resolution, unit=tail),
    )
