"""The table of unit losses: computed once, resumed, and a front found by it."""

import json
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from ghostnet.units import units
from search.accuracy import unit_losses as room
from search.accuracy.unit_losses import FILE, unit_losses
from search.data.datasets import load_data
from search.errors import UserError
from search.pipeline.search_stage import search_networks
from search.recipes.schema import ParentTraining, Search
from search.training.supernets import make_supernet, widest
from spaces import named_space
from spaces.tables import space_units
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


def test_a_time_box_measures_some_of_each_position_and_more_time_the_rest(supernet, data, monkeypatch, capsys):
    (supernet / FILE).unlink(missing_ok=True)
    monkeypatch.setattr(room, "FEWEST", 2)
    parent, codes = widest(SPACE), SPACE.sample_codes(np.random.default_rng(0), 20)
    short = unit_losses(supernet, data, deadline=time.monotonic() - 1)
    measured = json.loads((supernet / FILE).read_text())["losses"]
    positions = SPACE.layout.positions
    assert len(measured) == 2 * len(positions) and {key.split()[0] for key in measured} == {at.name for at in positions}
    assert "left out in this time box" in capsys.readouterr().err
    assert all(np.isfinite(values).all() and values.min() > -1e-4 for values in short.values)
    assert short.total(SPACE.encode(parent)[None])[0] == pytest.approx(0, abs=1e-4), "its own units are among them"
    first = next(iter(measured)).split()[0]  # as an earlier version left it, which went by position
    content = json.loads((supernet / FILE).read_text())
    kept = {key: value for key, value in measured.items() if key.split()[0] == first}
    (supernet / FILE).write_text(json.dumps(content | {"losses": kept}))
    again = unit_losses(supernet, data, deadline=time.monotonic() - 1)
    assert np.array_equal(again.total(codes), short.total(codes)), "no position is left without"
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(room, "UnitLosses", None)  # nothing is prepared when there is no time
        assert (
            unit_losses(supernet, data, deadline=time.monotonic() - 1).total(codes).tolist()
            == short.total(codes).tolist()
        )
    assert capsys.readouterr().err == "", "and it is said once"
    unit_losses(supernet, data)
    resumed = json.loads((supernet / FILE).read_text())
    (supernet / FILE).unlink()
    unit_losses(supernet, data)
    assert json.loads((supernet / FILE).read_text()) == resumed and len(resumed["losses"]) > len(measured)


def test_a_share_of_the_units_is_measured_of_every_position():
    space, parent = named_space("cifar"), widest(named_space("cifar"))
    own = {unit.key for unit in units(parent, space.num_classes, space.in_chs)}
    planned, every = room.measured_units(space, parent), {}
    for position, each in zip(space.layout.positions, space_units(space), strict=True):
        every[position.name] = len({unit and unit.key for unit in each.flat})
    measured = Counter(name for name, _ in planned.values())
    assert measured == {name: min(n, max(room.LEAST, round(room.MEASURED * n))) for name, n in every.items()}
    assert [name for name, _ in planned.values()][: len(every)] == [at.name for at in space.layout.positions]
    assert own <= {unit.key for _, unit in planned.values() if unit}
    assert planned == room.measured_units(space, parent)


def test_what_is_not_measured_is_predicted_and_what_is_measured_stays():
    """A smooth loss over the choices of four genes, and a block that is left out in one of them."""
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*(np.linspace(0, 1, count) for count in (5, 5, 7, 2)), indexing="ij")
    losses = np.expm1(0.3 * (1 - grid[0]) + 0.5 * (1 - grid[1]) * grid[2] + 0.1 * grid[3])
    dropped = np.zeros(losses.shape, dtype=bool)
    dropped[0, 0, 0, 0] = True
    losses[dropped] = 50.0
    known = dropped | (rng.random(losses.shape) < 0.3)
    filled = room._filled(np.where(known, losses, np.nan), dropped)
    assert np.array_equal(filled[known], losses[known])
    error = filled[~known] - losses[~known]
    assert np.sqrt(np.mean(error**2)) < 0.05 * losses[~known].std()
    assert room._filled(losses, dropped) is losses


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
