"""The table of unit losses: computed once, resumed, and a front found by it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from search.accuracy import unit_losses as room
from search.accuracy.unit_losses import FILE, unit_losses
from search.data.datasets import load_data
from search.errors import UserError
from search.pipeline.search_stage import search_networks
from search.recipes.schema import ParentTraining, Search
from search.training.supernets import make_supernet
from spaces import named_space
from tests.search.runs import made_up_table

SPACE = replace(
    named_space("digits"), name="few", widths=(0.5, 1.0), ratios=(2, 3), cheap_kernels=(3,), num_classes=10, in_chs=1
)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(room, "IMAGES", 48)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=400)


@pytest.fixture(scope="module")
def supernet(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("losses") / "supernet"
    config = ParentTraining(epochs=4, batch_size=32, lr=0.1, images=128)
    make_supernet(SPACE, data, config, out, device=torch.device("cpu"))
    return out


class Killed(BaseException):
    """As a process that is killed, which catches nothing."""


def test_a_stopped_computation_goes_on_to_the_same_table(supernet, data, monkeypatch):
    monkeypatch.setattr(room, "SAVE_SECONDS", 0.0)
    measure, count = room.UnitLosses.__call__, 0

    def killed(self, name, unit):
        nonlocal count
        count += 1
        if count == 20:
            raise Killed
        return measure(self, name, unit)

    monkeypatch.setattr(room.UnitLosses, "__call__", killed)
    with pytest.raises(Killed):
        unit_losses(supernet, data)
    assert len(json.loads((supernet / FILE).read_text())["losses"]) == 19
    resumed = unit_losses(supernet, data)
    total, first = count, (supernet / FILE).read_bytes()
    (supernet / FILE).unlink()
    unbroken = unit_losses(supernet, data)
    assert (supernet / FILE).read_bytes() == first and count - total == total - 1
    assert all(np.array_equal(a, b) for a, b in zip(resumed.values, unbroken.values, strict=True))
    unit_losses(supernet, data)
    assert count == 2 * total - 1, "and is not computed again"


def test_a_search_begins_with_the_front_that_losses_predict(supernet, data, tmp_path):
    table = tmp_path / "made-up.lat.json"
    made_up_table(np.random.default_rng(0), SPACE).save(table)
    config = Search(flops_budget="600k", trials=12, sampler="exact", population=4)
    outcome = search_networks(supernet, [table], tmp_path / "trials.jsonl", lambda: data, config, seed=0)
    losses = unit_losses(supernet, data).total(np.array([trial.code for trial in outcome.trials]))
    assert len(outcome.trials) == 12 and all(trial["macs"] <= 600_000 for trial in outcome.trials)
    known = sum(trial.arch in {arch.id for arch in SPACE.family.values()} for trial in outcome.trials[:4])
    ends = [outcome.trials[k] for k in (known, known + 1)]
    assert ends[0]["latency_ms"] < ends[1]["latency_ms"] and losses[known] > losses[known + 1], "its two ends first"


def test_what_has_no_losses_is_refused(supernet, data, tmp_path):
    unit_losses(supernet, data)
    content = json.loads((supernet / FILE).read_text())
    (supernet / FILE).write_text(json.dumps(content | {"images": "many"}))
    with pytest.raises(UserError, match=r"unit-losses\.json.*images"):
        unit_losses(supernet, data)
    (supernet / FILE).unlink()
