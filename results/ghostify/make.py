"""Ghost modules in place of trained convolutions: how close are they before any training, and after a little?

A plain ResNet is trained on CIFAR-10; then its convolutions are replaced with fresh weights, with weights fitted to the
filters alone, and with weights fitted to what the convolutions put out for 512 calibration images. From the
repository's root:

    python results/ghostify/make.py --data parquet:../shared/data/cifar10

Stopped and started again, it goes on.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.classic import resnet
from ghostnet.conversion import GhostConv2d, Replacement, ghostify
from ghostnet.count import count
from ghostnet.weights import read_weights, save_weights
from search.data.datasets import Data, load_data
from search.files import write_json, write_text
from search.recipes.schema import Training
from search.training.evaluate import accuracy, recalibrate
from search.training.loop import fit

HERE = Path(__file__).parent
SEEN = 512


def train(net: nn.Module, data: Data, config: Training, out: Path) -> nn.Module:
    """Trains a network once, whatever stops it; its weights lie in `out` from then on."""
    if not out.exists():

        def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> float:
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            return loss.item()

        net.train()
        checkpoint = out.with_suffix(".checkpoint")
        fit(
            net,
            data,
            config,
            step,
            checkpoint=checkpoint,
            identity={"network": out.stem},
            seed=0,
            device=torch.device("cpu"),
            title=out.stem,
        )
        save_weights(net, out)
        checkpoint.unlink(missing_ok=True)
    net.load_state_dict(read_weights(out)[0])
    return net


def distance(values: Tensor, expected: Tensor) -> float:
    """|a found - expected| / |expected| at the best single scale a: 0 is equal, 1 is unrelated."""
    scale = (values * expected).sum() / values.square().sum()
    return float((scale * values - expected).norm() / expected.norm())


def layer_error(plain: nn.Module, replaced: list[Replacement], images: Tensor) -> float:
    """Mean over layers of the distance of ghost(x) from conv(x), both given what the plain network gives the layer."""
    errors: list[float] = []
    ghosts: dict[nn.Module, GhostConv2d] = {r.conv: r.ghost for r in replaced}

    def look(conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        errors.append(distance(ghosts[conv](inputs[0]), output))

    hooks = [conv.register_forward_hook(look) for conv in ghosts]
    plain(images)
    for hook in hooks:
        hook.remove()
    return float(np.mean(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--limit", type=int, default=20_000, help="training images")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--work", type=Path, default=Path("results/work-ghostify"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    data = load_data(arguments.data, 32, arguments.limit)
    config = Training(epochs=arguments.epochs, batch_size=64, lr=0.1, weight_decay=5e-4)
    brief = config.model_copy(update={"epochs": 1.0, "lr": 0.02})
    torch.manual_seed(0)
    plain = train(resnet(arguments.depth), data, config, arguments.work / "plain.safetensors").eval()
    held, _ = next(data.batches(data.search, 500))
    seen = data.normalise(data.calibration.images[:SEEN])
    rows = []
    with torch.no_grad():
        expected = plain(held)
    whole = count(plain, (3, 32, 32))
    for ratio in (2, 4):
        for how in ("fresh", "filters", "outputs"):
            net = copy.deepcopy(plain)
            generator = torch.Generator().manual_seed(1)
            ways: dict[str, dict[str, Any]] = {
                "fresh": {},
                "filters": {"init": "trained"},
                "outputs": {"init": "trained", "images": seen},
            }
            swapped = ghostify(
                net, ratio, 3, where=lambda _, conv: conv.in_channels > 3, generator=generator, **ways[how]
            )
            originals = dict(plain.named_modules())
            pairs = [Replacement(r.name, originals[r.name], r.ghost) for r in swapped]
            with torch.no_grad():
                layers = layer_error(plain, pairs, held)
                recalibrate(net, data, brief)
                outputs = distance(net.eval()(held), expected)
            row = {
                "ratio": ratio,
                "weights": how,
                "macs": count(net, (3, 32, 32)).macs,
                "params": count(net, (3, 32, 32)).params,
                "layer_error": layers,
                "logit_error": outputs,
                "accuracy_before": accuracy(net, data, data.search),
            }
            train(net, data, brief, arguments.work / f"s{ratio}-{how}.safetensors")
            row["accuracy_after_one_epoch"] = accuracy(net, data, data.search)
            rows.append(row)
            print(json.dumps(row), flush=True)
    report = {
        "network": f"ResNet-{arguments.depth}",
        "training_images": len(data.train),
        "epochs": arguments.epochs,
        "images": len(data.search),
        "macs": whole.macs,
        "params": whole.params,
        "accuracy": accuracy(plain, data, data.search),
        "rows": rows,
    }
    write_json(arguments.out / "ghostify.json", report)
    write_text(arguments.out / "README.md", page(report))


def page(report: dict) -> str:
    """The study as a page."""
    lines = []
    for r in report["rows"]:
        cost = f"{r['macs'] / 1e6:.1f}M | {r['params'] / 1e3:.0f}k"
        errors = f"{r['layer_error']:.2f} | {r['logit_error']:.2f}"
        accuracies = f"{r['accuracy_before']:.1%} | {r['accuracy_after_one_epoch']:.1%}"
        lines.append(f"| {r['ratio']} | {r['weights']} | {cost} | {errors} | {accuracies} |")
    at_once: dict[tuple[int, str], float] = {(r["ratio"], r["weights"]): r["accuracy_before"] for r in report["rows"]}
    after = {(r["ratio"], r["weights"]): r["accuracy_after_one_epoch"] for r in report["rows"]}
    return PAGE.format(
        **report,
        at_once={way: at_once[2, way] for way in ("fresh", "filters", "outputs")},
        after={way: after[2, way] for way in ("fresh", "outputs")},
        kilo=report["params"] / 1e3,
        mega=report["macs"] / 1e6,
        seen=SEEN,
        table="\n".join(lines),
    )


PAGE = """# Ghost modules in place of trained convolutions

A trained {network} whose features are half made by cheap operations (s = 2) has {at_once[outputs]:.1%} of {images}
images right at once, where it had {accuracy:.1%}, if its Ghost modules are fitted to what the convolutions put out.
Fitted to the convolutions' filters alone it has {at_once[filters]:.1%}, with fresh modules {at_once[fresh]:.1%}. After
one epoch of training the fitted ones have {after[outputs]:.1%} and the fresh one {after[fresh]:.1%}.

`ghostify(model, init=...)` on a trained network: all convolutions but the first become Ghost modules with d = 3.
*filters* fits them to the convolutions' filters alone, *outputs* to what the convolutions put out for {seen}
calibration images. Layer error: mean over layers of |a ghost(x) - conv(x)| / |conv(x)| at the best scale a (1 is
unrelated); logit error likewise for the whole network, after its batch norms were recalibrated. Errors are on 500 and
accuracies on {images} images that were neither trained nor calibrated on (one standard error: about one point).

The plain network: {network}, {mega:.1f}M MACs, {kilo:.0f}k parameters, {epochs:g} epochs on {training_images:,} images
of CIFAR-10, {accuracy:.1%}.

| s | weights | MACs | params | layer error | logit error | accuracy at once | after one epoch |
|---|---|---|---|---|---|---|---|
{table}

Made by `make.py` beside this page; the figures are in `ghostify.json`.
"""


if __name__ == "__main__":
    main()
