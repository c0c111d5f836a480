"""Each chosen network block by block, with costs, beside the family's own network of like cost."""

from ghostnet.arch import Arch
from ghostnet.cost import cost, unit_cost
from ghostnet.units import Bottleneck, Stem, Unit, chain
from search.report import page
from search.report.summary import Summary
from spaces.quantities import format_count


def tables(summary: Summary) -> str:
    """A folded table a chosen network, its peer's beneath it."""
    parts = []
    for name, arch in summary.chosen_archs.items():
        title, inside = f"{name}, {arch.id}: every block with its cost", _table(summary, arch)
        for other, peer_arch in nearest_baseline(summary, arch).items():
            title += f", beside {other}"
            inside += f"<h3>Beside it: {page.escape(other)}</h3>" + _table(summary, peer_arch)
        parts.append(page.details(title, inside))
    return "".join(parts)


def nearest_baseline(summary: Summary, arch: Arch) -> dict[str, Arch]:
    """The family's own network (trained as a baseline, or else of any of the space's widths) nearest in MACs, by its
    name; none where the space has none."""
    trained = {n.name: n.arch for n in summary.networks if n.kind == "family"}
    space = summary.space
    family = trained or {f"ghostnet-{width:g}x": arch for width, arch in space.family.items()}
    macs = cost(arch, space.num_classes, space.in_chs).macs
    nearest = sorted(family, key=lambda name: abs(cost(family[name], space.num_classes, space.in_chs).macs - macs))
    return {name: family[name] for name in nearest[:1]}


def _table(summary: Summary, arch: Arch) -> str:
    """Units with their multiply-adds and their part of the predicted milliseconds; `*` marks what was never timed."""
    head = ["unit", "side", "in", "hidden", "out", "stride", "s", "d", "SE", "MACs", "ms"]
    ms = summary.predict.per_unit(arch) if summary.predict else {}
    timed = summary.predict.timed_units(arch) if summary.predict else set()
    rows: list[page.Row] = []
    for name, unit in chain(arch, summary.space.num_classes, summary.space.in_chs).named.items():
        star = "" if name in timed else "*"
        time = f"{ms[name]:.4f}{star}" if name in ms else ""
        cells = [name.removeprefix("blocks."), str(unit.size), *_unit_cells(unit)]
        rows.append(("", [*cells, format_count(unit_cost(unit).macs), time]))
    starred = [row for _, row in rows if row[-1].endswith("*")]
    if summary.table and summary.table.correction.intercept_ms > 0:
        rows.append(("", ["once a run", *[""] * 9, f"{summary.table.correction.intercept_ms:.4f}"]))
    note = "side: of the maps that the unit reads, in pixels"
    if summary.table:
        note += "; ms: the unit's part of the predicted latency"
    if starred:
        note += "; *: not timed, estimated from units that were"
    return page.table(head, rows) + page.paragraph(note, "soft")


def _unit_cells(unit: Unit) -> list[str]:
    """Channels in, hidden and out, stride, s, d, SE"""
    match unit:
        case Bottleneck(in_chs, b):
            d = "" if b.ratio == 1 else str(b.cheap_kernel)
            return [*map(str, (in_chs, b.mid_chs, b.out_chs, b.stride, b.ratio)), d, "yes" if b.se_ratio else ""]
        case Stem():
            return [str(unit.in_chs), "", str(unit.out_chs), str(unit.stride), "", "", ""]
    return [str(unit.in_chs), str(unit.tail_chs), str(unit.head_chs), "", "", "", ""]
