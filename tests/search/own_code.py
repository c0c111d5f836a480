"""What a user has in files of their own: a data set, an objective, an evaluator. mypy reads it as a user's script."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import torch
from torch.utils.data import Dataset

import search


class Stripes(Dataset[tuple[torch.Tensor, int]]):
    """Noise with three kinds of brightness."""

    def __init__(self, count: int, seed: int, side: int = 16) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 3
        noise = torch.rand(count, 3, side, side, generator=generator)
        self.images = 0.2 * noise + 0.35 * self.labels[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], int(self.labels[index])


def depth(arch: search.Arch, metrics: Mapping[str, float]) -> float:
    """Blocks of a network, to make small."""
    return len(arch.blocks)


class Efficiency:
    """Accuracy for a multiply-add, to make large."""

    name = "efficiency"
    maximise = True

    def __call__(self, arch: search.Arch, metrics: Mapping[str, float]) -> float:
        return metrics["accuracy"] / metrics["macs"]


efficiency = Efficiency()


def hashed(arch: search.Arch) -> dict[str, float]:
    """An accuracy that costs nothing."""
    return {"accuracy": int(arch.id, 16) % 1000 / 1000}


def one_argument(arch: search.Arch) -> float:
    return 0.0


class NeverAnObjective:
    pass


def whole_search(folder: str) -> None:
    """All of the API as a user writes it, for mypy alone: what it takes and gives has types."""
    data = search.from_datasets(Stripes(120, 0), Stripes(40, 1), name="stripes")
    assert_type(data, search.Data)
    space = assert_type(search.load_space("digits", data), search.Space)
    assert_type(search.train_supernet(space, data, f"{folder}/net", epochs=1), search.SupernetMetadata)
    search.train_supernet(space, data, f"{folder}/net", epochs="many")  # type: ignore[arg-type]
    assert_type(search.calibrate(space, f"{folder}/t.lat.json", dtype="int8"), search.LatencyTable)
    result = search.run_search(
        f"{folder}/net",
        data,
        f"{folder}/search",
        f"{folder}/t.lat.json",
        flops_budget="1M",
        objectives=["accuracy", "latency_ms", depth, efficiency],
        evaluate=hashed,
        backend="optuna",
    )
    assert_type(result, search.SearchOutcome)
    best = assert_type(result.arch(result.choose("knee")[0]), search.Arch)
    assert_type(search.retrain_network(best, data, f"{folder}/A", init=f"{folder}/net"), search.TrainedMetadata)
    assert_type(search.export_network(f"{folder}/A", f"{folder}/export", ["onnx"], data=data), search.Manifest)
    assert_type(search.open_supernet(f"{folder}/net", data)(best), float)
    assert_type(search.measure_fidelity(f"{folder}/net", data, f"{folder}/fidelity"), search.Study)
    assert_type(search.run_recipe("digits", minutes=5), search.Summary)
    assert_type(search.write_report(folder), Path)
    assert_type(search.__version__, str)
