"""The cost columns of the paper's tables, printed beside computed.

From the repository's root:

    python results/paper-tables/make.py
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from ghostnet import cost, ghostify, published
from ghostnet.classic import resnet, vgg16
from ghostnet.conversion import ordinary
from ghostnet.cost import Cost
from ghostnet.count import count
from search.files import write_json, write_text

HERE = Path(__file__).parent
UNITS = {"M": 1e6, "B": 1e9}


@dataclass(frozen=True)
class Row:
    """One row of a table: what the paper prints (weights, FLOPs), what is computed, and a word where they differ."""

    table: str
    network: str
    printed_params: str
    printed_macs: str
    params: int
    macs: int
    remark: str


def agrees(printed: str, value: int) -> bool:
    """Whether a value rounds, or is cut off, to what is printed."""
    digits = len(printed[:-1].partition(".")[2])
    scaled = value / UNITS[printed[-1]]
    cut = int(scaled * 10**digits) / 10**digits
    return float(printed[:-1]) in (round(scaled, digits), cut)


def plain(build: Callable[[], nn.Module], size: int) -> Cost:
    return count(build(), (3, size, size))


def ghost(build: Callable[[], nn.Module], size: int, s: int, d: int, stem: bool = False) -> Cost:
    """A network whose convolutions (the first one among them or not) have become Ghost modules."""
    model = build()
    ghostify(model, s, d, where=lambda name, conv: ordinary(name, conv) and (stem or conv.in_channels > 3))
    return count(model, (3, size, size))


def rows() -> list[Row]:
    """Every row, with all of the paper's networks built and counted."""
    from torchvision.models import resnet50

    vgg = "VGG-16 on CIFAR-10, 32 x 32 (all 13 convolutions; classifier 512-512-10)"
    small = "ResNet-56 on CIFAR-10, 32 x 32 (all but the first convolution)"
    large = "ResNet-50 on ImageNet, 224 x 224 (all but the first convolution)"
    own = "GhostNet on ImageNet, 224 x 224"
    dead = "ghosts that the authors' module makes and cuts off are not counted: they are never computed here"
    weights = "the printed weights are reproduced by nobody we know of; the FLOPs agree"
    table_rows = [
        (vgg, "VGG-16", "15.0M", "313M", plain(vgg16, 32), ""),
        *((vgg, f"s=2, d={d}", p, f, ghost(vgg16, 32, 2, d, stem=True), "") for d, p, f in VGG_BY_D),
        *((vgg, f"s={s}, d=3", p, f, ghost(vgg16, 32, s, 3, stem=True), dead if r else "") for s, p, f, r in VGG_BY_S),
        (small, "ResNet-56", "0.85M", "125M", plain(resnet, 32), ""),
        (small, "s=2, d=1", "0.43M", "63M", ghost(resnet, 32, 2, 1), ""),
        (small, "s=2, d=3", "0.43M", "63M", ghost(resnet, 32, 2, 3), "the printed cost is d=1's"),
        (large, "ResNet-50", "25.6M", "4.1B", plain(resnet50, 224), ""),
        (large, "s=2, d=3", "13.0M", "2.2B", ghost(resnet50, 224, 2, 3), weights),
        (large, "s=4, d=3", "6.5M", "1.2B", ghost(resnet50, 224, 4, 3), weights),
        (own, "0.5x", "2.6M", "42M", cost(published("ghostnet-0.5")), ""),
        (own, "1.0x", "5.2M", "141M", cost(published("ghostnet-1.0")), ""),
        (own, "1.3x", "7.3M", "226M", cost(published("ghostnet-1.3")), "timm's network has the computed FLOPs, too"),
    ]
    return [Row(table, name, p, f, c.params, c.macs, remark) for table, name, p, f, c, remark in table_rows]


VGG_BY_D = ((1, "7.6M", "157M"), (3, "7.7M", "158M"), (5, "7.7M", "160M"), (7, "7.7M", "163M"))
# The last: whether n is no multiple of s somewhere, so that the authors' slice cuts.
VGG_BY_S = ((3, "5.2M", "107M", True), (4, "4.0M", "80M", False), (5, "3.3M", "65M", True))


def page(study: list[Row]) -> str:
    """The tables as Markdown."""
    agreeing = sum(_agrees(row) for row in study)
    lines = [
        "# The paper's cost columns, printed beside computed",
        "",
        f"{agreeing} of {len(study)} printed pairs of weights and FLOPs come out as printed.",
        "The others are named in their row, with what is known of the reason.",
        "So what this code counts is what the paper counts.",
        "",
        "FLOPs are multiply-adds. A value agrees if it rounds, or is cut off, to what is printed: the paper does both.",
        "Networks are built, ghostified and counted by torch's own flop counter; GhostNet by the closed form.",
    ]
    for table in dict.fromkeys(row.table for row in study):
        lines += ["", f"## {table}", "", "| | printed | computed | |", "|---|---|---|---|"]
        for row in (row for row in study if row.table == table):
            right = agrees(row.printed_params, row.params), agrees(row.printed_macs, row.macs)
            verdict = {(True, True): "agrees", (False, True): "weights differ", (True, False): "FLOPs differ"}
            text = verdict.get(right, "both differ") + (f"; {row.remark}" if row.remark else "")
            printed, computed = f"{row.printed_params} / {row.printed_macs}", f"{row.params:,} / {row.macs:,}"
            lines.append(f"| {row.network} | {printed} | {computed} | {text} |")
    return "\n".join([*lines, "", "Made by `python results/paper-tables/make.py`.", ""])


def _agrees(row: Row) -> bool:
    return agrees(row.printed_params, row.params) and agrees(row.printed_macs, row.macs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out
    table_rows = rows()
    write_json(out / "tables.json", [asdict(row) for row in table_rows])
    write_text(out / "README.md", page(table_rows))


if __name__ == "__main__":
    main()
