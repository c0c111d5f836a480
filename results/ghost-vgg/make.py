"""The paper's study of s and d (Tables 3 and 4): VGG-16 and seven Ghost-VGG-16 on CIFAR-10, trained from scratch.

All thirteen convolutions are Ghost modules. The authors' recipe with its 400 epochs cut short and a cosine in place of
its steps. For a GPU: 24 trainings, of which one seed's eight fit in a call of ten minutes. From the repository's root,
once a seed; finished trainings stay:

    python results/ghost-vgg/make.py --data parquet:../shared/data/cifar10 --seed 0

It needs torch, torchvision and timm, no Optuna and no Ray. `--limit 1000 --epochs 0.2 --out try` tries it on a CPU.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.classic import vgg16
from ghostnet.conversion import ghostify
from ghostnet.count import count
from search.data.datasets import Data, load_data
from search.files import JsonLines, write_json, write_text
from search.recipes.schema import Training
from search.training.distributed import best_device
from search.training.evaluate import accuracy
from search.training.loop import fit
from search.training.metadata import training_identity

HERE = Path(__file__).parent
# (s, d): the paper's accuracy, %; s = 1 is the plain network
PAPER = {(1, 0): 93.6, (2, 1): 93.5, (2, 3): 93.7, (2, 5): 93.4, (2, 7): 93.1, (3, 3): 93.4, (4, 3): 93.0, (5, 3): 92.9}


def network(ratio: int, cheap_kernel: int, seed: int) -> nn.Module:
    """VGG-16, its convolutions replaced unless s = 1; weights by the seed."""
    torch.manual_seed(seed)
    net = vgg16()
    if ratio > 1:
        ghostify(net, ratio, cheap_kernel, generator=torch.Generator().manual_seed(seed))
    return net


def train(net: nn.Module, data: Data, config: Training, of: str, seed: int, checkpoint: Path) -> float:
    """Test accuracy after a training, in [0, 1]."""
    device = best_device()
    net = net.to(device).to(memory_format=torch.channels_last).train()

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        return F.cross_entropy(net(images), labels)

    title, identity = f"{of} seed {seed}", training_identity({"network": of}, data, config, seed)
    fit(net, data, config, step, checkpoint=checkpoint, identity=identity, seed=seed, device=device, title=title)
    return accuracy(net, data, data.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--limit", type=int, help="training images")
    parser.add_argument("--work", type=Path, default=Path("results/work-ghost-vgg"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    data = load_data(arguments.data, 32, arguments.limit)
    config = Training(
        epochs=arguments.epochs,
        batch_size=128,
        lr=0.1,
        weight_decay=1e-4,
        warmup_epochs=min(1.0, arguments.epochs / 10),
        label_smoothing=0.0,
        clip_norm=0.0,
    )
    log = JsonLines(arguments.out / "trainings.jsonl")
    about = {"data": data.name, "training_images": len(data.train), "config": config.model_dump(mode="json")}
    done = {(row["ratio"], row["cheap_kernel"], row["seed"]) for row in log if row["about"] == about}
    for ratio, kernel in PAPER:
        if (ratio, kernel, arguments.seed) in done:
            continue
        started, variant = time.monotonic(), f"s{ratio}-d{kernel}"
        net = network(ratio, kernel, arguments.seed)
        cost = count(net, (3, 32, 32))
        checkpoint = arguments.work / f"{variant}-{arguments.seed}" / "checkpoint.pt"
        result = train(net, data, config, variant, arguments.seed, checkpoint)
        row = {"ratio": ratio, "cheap_kernel": kernel, "seed": arguments.seed, "macs": cost.macs, "params": cost.params}
        log.append({**row, "test_accuracy": result, "seconds": time.monotonic() - started, "about": about})
        checkpoint.unlink(missing_ok=True)
    rows = [row for row in log if row["about"] == about]
    write_json(arguments.out / "ghost-vgg.json", {**about, "test_images": len(data.test), "rows": rows})
    write_text(arguments.out / "README.md", page(rows, about))


def page(rows: list[dict], about: dict) -> str:
    """The paper's tables with accuracies of ours beside."""
    lines = [
        "# Ghost-VGG-16 on CIFAR-10: s and d",
        "",
        f"VGG-16 and its Ghost versions (all 13 convolutions), 32 x 32, {about['training_images']:,} training images,",
        f"{about['config']['epochs']:g} epochs in place of the paper's 400, a cosine in place of its steps; test",
        "accuracy once at the end, mean ± standard deviation over seeds. Accuracies of so many epochs and of 400 don't",
        "compare, their order may. Where the images were JPEG, as in a parquet copy, that costs some accuracy, too.",
        "",
        "| s | d | multiply-adds | parameters | test accuracy, % | seeds | paper, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for (ratio, kernel), paper in PAPER.items():
        mine = [row for row in rows if (row["ratio"], row["cheap_kernel"]) == (ratio, kernel)]
        if not mine:
            continue
        values = [100 * row["test_accuracy"] for row in mine]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        name = f"{ratio} | {kernel}" if ratio > 1 else "plain | "
        costs = f"{mine[0]['macs'] / 1e6:.1f}M | {mine[0]['params'] / 1e6:.2f}M"
        lines.append(f"| {name} | {costs} | {statistics.mean(values):.2f}{spread} | {len(values)} | {paper} |")
    minutes = sum(row["seconds"] for row in rows) / 60
    return "\n".join([*lines, "", f"{minutes:.0f} minutes of training. Made by `make.py` beside this page.", ""])


if __name__ == "__main__":
    main()
