"""`hub/`: a folder for the Hugging Face Hub, which timm reads: weights, `config.json`, a model card with a drawing.

`huggingface-cli upload NAME hub` puts it there; `timm.create_model("hf-hub:NAME", pretrained=True)` takes it back,
after `import ghostnet.timm_model`.
"""

import json
from pathlib import Path
from typing import Any

from ghostnet import count as counting
from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.weights import load_network, to_bytes
from search.errors import UserError
from search.export.formats import Session, Source
from search.export.formats.safetensors_file import run
from search.export.timm_config import timm_config
from search.figures.architectures import arch_figure
from search.figures.style import svg
from search.files import read_json, write_bytes, write_json, write_text
from search.terminal import markdown

_NAMES = ("model.safetensors", "config.json", "arch.json", "architecture.svg", "README.md")
FILES = tuple(f"hub/{name}" for name in _NAMES)
PACKAGES = ("safetensors", "timm")
EXACT = True


def write(source: Source, folder: Path) -> None:
    net, metadata = source.net, source.metadata
    there = folder / "hub"
    there.mkdir(parents=True, exist_ok=True)
    write_bytes(there / "model.safetensors", to_bytes(net))
    write_json(there / "config.json", timm_config(net, metadata))
    write_text(there / "arch.json", net.arch.to_json())
    write_text(there / "architecture.svg", svg(arch_figure({net.arch.id: net.arch})))
    write_text(there / "README.md", model_card(net, metadata))


def load_session(folder: Path) -> Session:
    return run(_model(folder))


def macs(folder: Path) -> int | None:
    net = _model(folder)
    return counting.count(net, (net.in_chs, net.arch.resolution, net.arch.resolution)).macs


def _model(folder: Path) -> GhostNet:
    """The exported network. It is built by us, not by timm, which an altered `config.json` could make load anything.

    Raises:
        UserError: `config.json` isn't what describes this network to timm.
    """
    there = folder / "hub"
    net = load_network(Arch.load(there / "arch.json"), there / "model.safetensors")
    config = read_json(there / "config.json")
    known = config.get("pretrained_cfg") if isinstance(config, dict) else None
    about = {key: known.get(key) for key in ("mean", "std")} if isinstance(known, dict) else {}
    if isinstance(known, dict):
        about["classes"] = known.get("label_names")
    try:
        expected = timm_config(net, about)
    except TypeError:
        expected = None
    if json.dumps(config, sort_keys=True) != json.dumps(expected, sort_keys=True):
        raise UserError(f"{there / 'config.json'} is not the timm configuration of {net.arch.id}")
    return net


def model_card(net: GhostNet, metadata: dict[str, Any]) -> str:
    """The model card: what is known of the network, and how it is used."""
    accuracy, latency = metadata.get("accuracy") or {}, metadata.get("latency") or {}
    rows = [
        ("architecture", f"`{net.arch.id}`"),
        ("multiply-adds", f"{metadata['macs']:,} at {net.arch.resolution} x {net.arch.resolution}"),
        ("parameters", f"{metadata['params']:,}"),
        ("data", markdown(_data(metadata.get("data")))),
        ("top-1 accuracy", f"{accuracy['test']:.2%} on the test split" if "test" in accuracy else "not measured"),
        ("latency", _latency(latency, metadata.get("files", {}))),
        ("training", _training(metadata)),
        ("search space", markdown(metadata["space_id"]) if metadata.get("space_id") else "none: not found by a search"),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"""---
license: apache-2.0
library_name: timm
pipeline_tag: image-classification
tags: [image-classification, timm, ghostnet, ghostnas]
---

# GhostNet {net.arch.id}

A GhostNet ([Han et al., CVPR 2020](https://arxiv.org/abs/1911.11907)) whose ratios s, cheap kernels d,
squeeze-and-excitations and widths GhostNAS chose.

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


def _data(name: str | None) -> str:
    """A data set's name; of a path only its last part."""
    kind, _, path = (name or "not known").partition(":")
    return f"{kind}: {Path(path).name}" if path else kind


def _latency(latency: dict[str, Any], files: dict[str, dict[str, Any]]) -> str:
    """Of the network where a run measured it, else of the files beside this folder where they were timed."""
    ms = latency.get("measured_ms")
    if ms is None:
        timed = [f"{file['latency_ms']:.3f} ms `{name}`" for name, file in files.items() if file.get("latency_ms")]
        return f"{', '.join(timed)}, 1 thread, batch 1" if timed else "not measured"
    threads = latency.get("threads", 1)
    runtime = markdown(f"{latency.get('runtime')} {latency.get('runtime_version')}")
    return f"{ms:.3f} ms, {runtime}, {threads} thread(s), batch 1"


def _training(metadata: dict[str, Any]) -> str:
    training = metadata.get("training")
    return f"{training['epochs']:g} epochs, seed {metadata.get('seed')}" if training else "not known"
