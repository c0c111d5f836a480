"""Does accuracy by a parent's soft labels rank transplants better than accuracy does? From the repository's root:

    python results/weights/soft.py --data parquet:../shared/data/cifar10

The networks of GhostBench that were tuned for three epochs, as transplanted: their accuracy by few and by many images
of the search split, by labels and by the parent's calibrated probabilities, beside their accuracy as transplanted and
when tuned, both on 10,000 test images. Some three minutes of one core.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghostnet import Transplants
from ghostnet.parent import load_parent
from search.accuracy.ghostbench import load_ghostbench
from search.accuracy.soft_labels import soft_labels
from search.data.datasets import Data, load_data
from search.files import write_json, write_text
from search.progress import bar
from search.rank_correlation import KendallTau
from search.recipes.schema import load_retraining
from search.report.markdown import paragraph
from search.training.evaluate import accuracy, logits
from search.training.inherited import fitting_images

HERE = Path(__file__).parent
BENCH = HERE.parent / "ghostbench"
TUNED = "tuned:3"
FITTING_IMAGES, TRAINING_IMAGES = 2048, 10_000
COUNTS, DRAWS = (100, 200, 500, 1000, 2500), 20  # images of the search split, and draws of so many
WAYS = ("labels", "soft labels")
Floats = NDArray[np.float64]


def judge(
    ours: list[Tensor], parent: Tensor, labels: Tensor, own: Floats, tuned: Floats
) -> dict[str, dict[str, float]]:
    """How networks rank by some images, by each way: tau with their own accuracy and with that when tuned, and how far
    the estimate is off.

    Args:
        ours: each network's logits of these images, [n, classes].
        parent: the parent's.
    """
    soft = soft_labels(parent, labels)
    estimates = {
        "labels": [float((each.argmax(1) == labels).double().mean()) for each in ours],
        "soft labels": [float(soft.gather(1, each.argmax(1)[:, None]).double().mean()) for each in ours],
    }
    found = {}
    for way, values in estimates.items():
        estimate = np.array(values)
        found[way] = {
            "tau_own": KendallTau(estimate, own)(),
            "tau_tuned": KendallTau(estimate, tuned)(),
            "bias": float((estimate - own).mean()),
            "spread": float((estimate - own).std()),
        }
    return found


def study(data: Data) -> dict[str, object]:
    """The figures by the number of images; means over draws of so many."""
    bench, parent = load_ghostbench(BENCH / "ghostbench.json"), load_parent(BENCH / "parent").eval()
    recipe = load_retraining(str(BENCH / "tuned.toml"))[0]
    transplants = Transplants(parent, fitting_images(data, FITTING_IMAGES, recipe))
    names = bench.having(TUNED)
    ours, own = [], []
    with bar("transplants", len(names)) as progress:
        for name in names:
            net = transplants.extract(bench.arch(name))
            ours.append(logits(net, data, data.search))
            own.append(accuracy(net, data, data.test))
            progress.advance()
    tuned = np.array([bench.query(name, TUNED).test[-1] for name in names])
    whole, labels = logits(parent, data, data.search), data.search.labels
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for count in COUNTS:
        draws = []
        for draw in range(DRAWS if count < len(labels) else 1):
            chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw))[:count]
            mine = [each[chosen] for each in ours]
            draws.append(judge(mine, whole[chosen], labels[chosen], np.array(own), tuned))
        rows[str(count)] = {
            way: {key: float(np.mean([each[way][key] for each in draws])) for key in draws[0][way]} for way in WAYS
        }
    return {"networks": len(names), "rows": rows}


def page(found: dict[str, object]) -> str:
    """The study as a page that opens with its answer."""
    rows = found["rows"]
    assert isinstance(rows, dict)
    few, many = rows["200"], rows["2500"]

    def taus(by: dict[str, dict[str, float]], key: str) -> str:
        return f"{by['soft labels'][key]:.2f} where labels do to {by['labels'][key]:.2f}"

    answer = (
        f"By 200 images soft labels rank {found['networks']} transplants with their accuracy on the test images to a "
        f"tau of {taus(few, 'tau_own')}, by 2,500 to {taus(many, 'tau_own')}. With accuracy after three epochs of "
        f"tuning it is {taus(few, 'tau_tuned')} by 200, {taus(many, 'tau_tuned')} by 2,500. Soft labels are off by "
        f"{100 * many['soft labels']['bias']:+.1f} points on average, on which no order depends."
    )
    lines = [
        f"| {int(count):,} | {way} | {each['tau_own']:.3f} | {each['tau_tuned']:.3f} | {100 * each['bias']:+.1f} | "
        f"{100 * each['spread']:.1f} |"
        for count, ways in rows.items()
        for way, each in ways.items()
    ]
    return PAGE.format(answer=paragraph(answer), lines="\n".join(lines), draws=DRAWS)


PAGE = """# Accuracy by soft labels

{answer}

Networks of [GhostBench](../ghostbench/README.md), fitted to its parent on 2,048 images and not trained. *Labels*: the
share of right answers. *Soft labels*: the mean probability that the parent gives to the answers, its temperature fitted
to the labels of the same images (`search --evaluate soft`). Kendall's tau with the networks' accuracy on 10,000 test
images, as they are and tuned for three epochs. *Off by*, *spread*: mean and standard deviation of the estimate less the
accuracy on the test images, in points. Means over {draws} draws of so many images of the search split; of 2,500 there
is one.

| images | by | tau, as transplanted | tau, tuned | off by | spread |
|---|---|---|---|---|---|
{lines}

The command: `soft.py`; figures: `soft.json`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    torch.set_num_threads(1)
    space = load_ghostbench(BENCH / "ghostbench.json").space
    found = study(load_data(parser.parse_args().data, space.resolution, TRAINING_IMAGES))
    write_json(HERE / "soft.json", found)
    write_text(HERE / "soft.md", page(found))


if __name__ == "__main__":
    main()
