"""Accuracy by soft labels: it is accuracy where the parent is sure and right; temperatures are found again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from search.accuracy.soft_labels import SoftAccuracy, best_temperature, soft_accuracy
from search.data.datasets import load_data
from search.errors import UserError
from search.pipeline.search_stage import search_networks
from search.recipes.schema import ParentTraining, Search, SupernetTraining
from search.training.inherited import inherited_accuracy, read_parent
from search.training.supernets import make_supernet
from spaces.presets import PRESETS

SPACE = PRESETS["digits"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=300)


@pytest.fixture(scope="module")
def supernet(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("soft") / "net"
    make_supernet(SPACE, data, ParentTraining(epochs=6, batch_size=32, images=128), folder, device=CPU)
    return folder


def test_by_labels_that_are_sure_it_is_accuracy(supernet, data):
    inherited = inherited_accuracy(supernet, data)
    sure = torch.nn.functional.one_hot(data.search.labels, 10).float()
    rng = np.random.default_rng(0)
    for arch in (SPACE.smallest, SPACE.sample(rng), SPACE.sample(rng)):
        assert SoftAccuracy(inherited, sure)(arch) == pytest.approx(inherited(arch), abs=1e-9)


def test_it_is_the_mean_probability_of_the_answers(supernet, data):
    soft = soft_accuracy(supernet, data)
    images = data.normalise(data.search.images)
    with torch.no_grad():
        logits = read_parent(supernet)(images)
        arch = SPACE.sample(np.random.default_rng(3))
        answers = soft.inherited.network(arch)(images).argmax(1)
    probabilities = (logits / best_temperature(logits, data.search.labels)).softmax(1)
    each = [probabilities[k, answer] for k, answer in enumerate(answers.tolist())]
    assert soft(arch) == pytest.approx(float(torch.stack(each).mean()), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_temperature_is_found_again(temperature):
    """Labels are drawn from the probabilities at that temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 7, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
    found = best_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert best_temperature(2 * logits, labels) == pytest.approx(2 * found, rel=1e-3)


def test_a_search_by_soft_labels_resumes_and_one_with_an_elastic_supernet_is_refused(supernet, data, tmp_path):
    config = Search(flops_budget="1M", trials=6, population=3, evaluate="soft")

    def search(log: Path, net: Path = supernet, **changes: object) -> list[tuple[str | None, float | None]]:
        found = search_networks(net, [], log, lambda: data, config.model_copy(update=changes), seed=1)
        return [(trial.arch, trial.accuracy) for trial in found.trials]

    whole = search(tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(lines[:4]))
    assert search(tmp_path / "part.jsonl") == whole and len({accuracy for _, accuracy in whole}) > 1
    with pytest.raises(UserError, match="another search"):
        search(tmp_path / "whole.jsonl", evaluate="inherited")
    make_supernet(SPACE, data, SupernetTraining(epochs=0.1, batch_size=32), tmp_path / "elastic", device=CPU)
    with pytest.raises(UserError, match="soft labels wants a parent, which gives them: the supernet is elastic"):
        search(tmp_path / "no.jsonl", tmp_path / "elastic")
    assert not (tmp_path / "no.jsonl").exists()
