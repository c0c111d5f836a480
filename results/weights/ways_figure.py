"""`front.png`, from `ways.json`: accuracy over latency of the networks that ways end with, all seeds in one picture.

python results/weights/ways_figure.py [FOLDER]
"""

import sys
from pathlib import Path

from ways_summary import Ways, points

from search.figures.style import BASELINE, CHOSEN, SERIES, SOFT, canvas, png
from search.files import write_bytes
from search.records import read_record

FIGURE = "front.png"
LOOKS = {  # label, colour, mark
    "transplants": ("found by GhostNAS", CHOSEN, "o"),
    "family": ("GhostNet in width, transplanted, tuned alike", BASELINE, "s"),
    "pruned": ("Torch-Pruning, tuned alike", SERIES[2], "^"),
    "fresh": ("GhostNet in width, fresh weights", SOFT, "s"),
}


def draw(content: Ways) -> bytes:
    """Each way's networks, all seeds, as a PNG; the parent as a line."""
    with canvas(4.4, 6.4) as (figure, axes):
        for way, (label, colour, mark) in LOOKS.items():
            known = [points(content, way, seed) or [] for seed in content.ways.get(way, {})]
            if networks := [point for of_a_seed in known for point in of_a_seed]:
                ms, accuracies = zip(*networks, strict=True)
                filled = colour if way == "transplants" else "none"
                axes.plot(ms, [100 * a for a in accuracies], mark, color=colour, mfc=filled, ms=6, label=label)
        parent = 100 * content.parent.accuracy
        axes.axhline(parent, color=SOFT, lw=0.8, ls=":")
        axes.annotate(
            "their parent, GhostNet 1.3x", (0, parent), (4, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", color=SOFT, fontsize=8,
        )  # fmt: skip
        axes.set(xlabel="latency, ms", ylabel="test accuracy, %", xlim=(0, None))
        figure.legend(loc="outside upper center", ncols=2)
        return png(figure)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    write_bytes(folder / FIGURE, draw(read_record(folder / "ways.json", Ways)))
