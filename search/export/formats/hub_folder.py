"""`hub/`: a folder for the Hugging Face Hub, which timm reads: weights, `config.json`, a model card with a drawing.

`huggingface-cli upload NAME hub` puts it there; `timm.create_model("hf-hub:NAME", pretrained=True)` takes it back,
after `import ghostnet.timm_model`.
"""

import json
from pathlib import Path

from ghostnet import count as counting
from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.weights import load_network, to_bytes
from search.data.crop import CENTRE, LARGE
from search.errors import UserError
from search.export.formats import Session, Source
from search.export.formats.safetensors_file import run
from search.export.manifest import Manifest
from search.export.timm_config import config_of, timm_config
from search.figures.architectures import arch_figure
from search.figures.style import svg
from search.files import read_json, write_bytes, write_json, write_text
from search.run_folder.source_run import SourceRun, last_part
from search.terminal import markdown

_NAMES = ("model.safetensors", "config.json", "arch.json", "architecture.svg", "README.md")
FILES = tuple(f"hub/{name}" for name in _NAMES)
PACKAGES = ("safetensors", "timm")
EXACT = True


def write(source: Source, folder: Path) -> None:
    net, manifest = source.net, source.manifest
    there = folder / "hub"
    there.mkdir(parents=True, exist_ok=True)
    write_bytes(there / "model.safetensors", to_bytes(net))
    write_json(there / "config.json", config_of(net, manifest))
    write_text(there / "arch.json", net.arch.to_json())
    write_text(there / "architecture.svg", svg(arch_figure({net.arch.id: net.arch})))
    write_text(there / "README.md", model_card(net, manifest))


def load_session(folder: Path) -> Session:
    return run(_model(folder))


def macs(folder: Path) -> int | None:
    net = _model(folder)
    return counting.count(net, net.input_shape).macs


def _model(folder: Path) -> GhostNet:
    """The exported network. It is built by us, not by timm, which an altered `config.json` could make load anything.

    Raises:
        UserError: `config.json` isn't what describes this network to timm.
    """
    there = folder / "hub"
    net = load_network(Arch.load(there / "arch.json"), there / "model.safetensors")
    config = read_json(there / "config.json")
    found = config.get("pretrained_cfg") if isinstance(config, dict) else None
    known = found if isinstance(found, dict) else {}
    about = {key: known.get(name) for key, name in (("mean", "mean"), ("std", "std"), ("classes", "label_names"))}
    about["loaded_at"] = LARGE if known.get("crop_pct") == CENTRE else 1
    try:
        expected = timm_config(net, **about)
    except TypeError:
        expected = None
    if json.dumps(config, sort_keys=True) != json.dumps(expected, sort_keys=True):
        raise UserError(f"{there / 'config.json'} is not the timm configuration of {net.arch.id}")
    return net


def model_card(net: GhostNet, manifest: Manifest) -> str:
    """The model card: what is known of the network, and how it is used."""
    accuracy = manifest.accuracy.test if manifest.accuracy else None
    rows = [
        ("architecture", f"`{net.arch.id}`"),
        ("multiply-adds", f"{manifest.macs:,} at {net.arch.resolution} x {net.arch.resolution}"),
        ("parameters", f"{manifest.params:,}"),
        ("data", markdown(last_part(manifest.data)) if manifest.data else "not known"),
        *([("images", _images(net, side))] if (side := manifest.loaded_at) else []),
        ("top-1 accuracy", f"{accuracy:.2%} on the test split" if accuracy is not None else "not measured"),
        *_quantised(manifest),
        ("latency", _latency(manifest)),
        ("training", _training(manifest)),
        ("search space", _space(manifest)),
        *(_run_rows(manifest.run) if manifest.run else []),
    ]
    role = ROLES[manifest.run.role] if manifest.run else ""
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"""---
license: apache-2.0
library_name: timm
pipeline_tag: image-classification
tags: [image-classification, timm, ghostnet, ghostnas]
---

# GhostNet {net.arch.id}

A GhostNet ([Han et al., CVPR 2020](https://arxiv.org/abs/1911.11907)){role}. Exported by GhostNAS.

| | |
|---|---|
{table}

![The network, block by block](architecture.svg)

```python
import ghostnet.timm_model  # pip install ghostnas
import timm

model = timm.create_model("hf-hub:<this repository>", pretrained=True)
backbone = timm.create_model("hf-hub:<this repository>", pretrained=True, features_only=True)
```
"""


ROLES = {
    "chosen": ", whose ratios s, cheap kernels d, squeeze-and-excitations and widths a search chose",
    "parent": ", the parent whose weights the networks of a search were fitted to",
    "random": ", drawn at random as a baseline of a search",
    "family": " of one width throughout, a baseline of a search",
}


def _run_rows(run: SourceRun) -> list[tuple[str, str]]:
    """The run that the network came from."""
    rows = [("run", f"recipe `{run.recipe}`, seed {run.seed}, network `{run.network}`")]
    if run.role == "chosen":
        budgets = [f"{key.replace('_', ' ')} {value}" for key, value in run.budgets.items()]
        rows.append(("search", markdown(f"{run.evaluated:,} networks evaluated; {', '.join(budgets)}")))
    if run.parent:
        reached = "" if run.parent_accuracy is None else f", {run.parent_accuracy:.2%} on the test split"
        rows.append(("parent", markdown(f"{run.parent}{reached}")))
    return rows


def _space(manifest: Manifest) -> str:
    if not manifest.space_id:
        return "not known"
    return markdown(" ".join(filter(None, (manifest.space, manifest.space_id))))


def _images(net: GhostNet, loaded_at: int) -> str:
    """What timm's configuration has no word for."""
    side = net.arch.resolution
    return f"loaded at {loaded_at} x {loaded_at} in training and tests, and then scaled to {side} x {side}"


def _quantised(manifest: Manifest) -> list[tuple[str, str]]:
    """What quantised files lost, and on which images."""
    return [
        (f"`{name}`", markdown(f"{of.before:.2%} to {of.after:.2%} of {of.images} images ({of.split})"))
        for name, file in manifest.files.items()
        if (of := file.accuracy)
    ]


def _latency(manifest: Manifest) -> str:
    """Of the network where a run measured it, else of the files beside this folder where they were timed; and where
    that was."""
    latency = manifest.latency
    if latency is None or latency.measured_ms is None:
        timed = [f"{file.latency_ms:.3f} ms `{name}`" for name, file in manifest.files.items() if file.latency_ms]
        there = f", {markdown(manifest.machine.processor)}" if manifest.machine else ""
        return f"{', '.join(timed)}, 1 thread, batch 1{there}" if timed else "not measured"
    runtime = markdown(f"{latency.runtime} {latency.runtime_version}")
    there = f", {markdown(latency.device)}" if latency.device else ""
    return f"{latency.measured_ms:.3f} ms, {runtime}, {latency.threads} thread(s), batch 1{there}"


def _training(manifest: Manifest) -> str:
    training = manifest.training
    return f"{training.epochs:g} epochs, seed {manifest.seed}" if training else "not known"
