"""Peak memory: a known number of bytes is measured, every runtime's networks are, a known law is fitted, and a table
says so or leaves it out."""

import json
import mmap
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import search.latency.calibrate as calibration
from ghostnet.memory import memory
from ghostnet.network import GhostNet
from search.api.costs import network_costs
from search.errors import UserError
from search.files import JsonLines
from search.latency.calibrate import calibrate, measurements_log
from search.latency.measurements import parse_measurements
from search.latency.memory_meter import MemoryMeter, why_not
from search.latency.peak_memory import fit_peak_memory, peak_memory_of, predict_peak_memory
from search.latency.runtimes import RUNTIMES, runtime
from search.latency.table import LatencyTable, describe
from search.latency.timing import interference
from search.latency.timing.peak_memory import FEWEST, NETWORKS, in_child, peak_growth, unavailable
from search.report.latency_page import format_table
from spaces import named_space
from spaces.population import sample_evenly
from spaces.tables import memory_table, weights_table
from tests.search.fake_runtime import FakeRuntime
from tests.search.runs import made_up_table
from tests.spaces.test_spaces import tiny_space

linux = pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
ROOT = Path(__file__).parents[3]
SPACE = tiny_space()
MB = 1 << 20
# Linux adds up each core's pages now and then, 32 to 64 of them at a time for each core; and Python has objects, too.
TOLERANCE = MB + 64 * 4096 * (os.cpu_count() or 1)


@linux
@pytest.mark.parametrize("size", [8 * MB, 64 * MB])
@pytest.mark.parametrize("freed", [False, True])
def test_a_known_number_of_bytes_is_measured(size, freed):
    def work():
        block = bytearray(b"x") * size  # touched
        if freed:
            del block  # the peak stays
            return None
        return block

    grown = in_child(lambda: peak_growth(work))
    assert abs(grown - size) < TOLERANCE


@linux
def test_an_earlier_peak_is_not_counted_and_what_is_used_again_is_counted_once():
    def reused():
        assert len(bytearray(b"x") * (64 * MB))  # and freed

        def work():
            for _ in range(4):  # one at a time
                assert len(bytearray(b"y") * (16 * MB))

        return peak_growth(work)

    assert abs(in_child(reused) - 16 * MB) < TOLERANCE


REUSED = """
from search.latency.timing.peak_memory import peak_growth

def small_ones():
    return [bytes(4000) for _ in range(8000)]

blocks = small_ones()
above = bytes(4000)  # so that the allocator can't shrink its heap by itself
del blocks
print(peak_growth(small_ones))
"""


@linux
def test_what_the_allocator_held_free_is_counted_where_it_is_used_again():
    """In a process of its own: the heap of one that did much has holes, in pages that stay resident."""
    done = subprocess.run([sys.executable, "-c", REUSED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert abs(int(done.stdout) - 8000 * 4000) < TOLERANCE


@linux
def test_no_page_counts_for_more_than_what_is_used_of_it():
    def huge():
        with mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
            area.madvise(mmap.MADV_HUGEPAGE)  # as NumPy does with its arrays

            def work():
                for at in range(0, 64 * MB, 2 * MB):
                    area[at] = 1

            return peak_growth(work)

    assert in_child(huge) < TOLERANCE


def children() -> set[int]:
    """Of this process, those that ended and weren't waited for, too."""
    return {child.pid for child in psutil.Process().children()}


@linux
def test_a_child_that_fails_gives_nothing_and_leaves_this_process_alone():
    before = children()
    assert in_child(lambda: 1 / 0) is None
    assert in_child(lambda: os._exit(3)) is None
    assert in_child(lambda: [1, "a"]) == [1, "a"]
    assert children() <= before  # those of other tests alone, which may have ended meanwhile


HOST = [name for name, adapter in RUNTIMES.items() if not adapter.on_gpu and name != "executorch"]


@linux
@pytest.mark.parametrize("name", HOST)
def test_networks_of_every_runtime_are_measured_and_more_weights_take_more(name):
    if (why := RUNTIMES[name].missing()) is not None:
        pytest.skip(why)
    run, shape = runtime(name, 1), (3, 32, 32)
    space = named_space("cifar")
    small, large = (space.uniform(width) for width in (0.5, 1.0))
    with MemoryMeter(run) as meter:
        measured = [meter(compiled(run, arch, shape), [1, *shape]) for arch in (small, large, large)]
        broken = meter(b"no network", [1, *shape])
        again = meter(compiled(run, large, shape), [1, *shape])
    least = memory(large, 10).weights - memory(small, 10).weights  # each keeps its weights in some form
    assert measured[1] - measured[0] > least - TOLERANCE
    for one, other in ((measured[1], measured[2]), (measured[1], again)):
        assert abs(one - other) < TOLERANCE
    assert broken is None


def compiled(run, arch, shape):
    return run.compile(GhostNet(arch, 10).eval(), shape)


def test_gpus_and_other_systems_are_left_out_with_a_reason(monkeypatch):
    assert "not in the host's memory" in why_not(RUNTIMES["torch-cuda"](1))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in why_not(RUNTIMES["onnxruntime"](1))


def closed_form(space, codes):
    return memory_table(space, 4).total(codes), weights_table(space).total(codes)


LAW = (3e6, 1.5, 2.25)


def law(activations, weights):
    return LAW[0] + LAW[1] * activations + LAW[2] * weights


def test_a_known_law_is_recovered_with_no_error():
    space = named_space("imagenet")
    codes = sample_evenly(space, np.random.default_rng(0), 30)
    activations, weights = closed_form(space, codes)
    fit = fit_peak_memory(activations, weights, law(activations, weights))
    np.testing.assert_allclose([fit.constant_bytes, fit.per_activation_byte, fit.per_weight_byte], LAW, rtol=1e-3)
    assert fit.error < 1e-6 and fit.quantile < 1e-6 and fit.networks == 30


def test_the_error_and_the_interval_are_those_of_networks_that_are_not_fitted():
    """With noise of one size: on 400 others the mean error is near the one that the fit says of itself, and the share
    in the interval is 90 %, to 4 standard deviations of what 32 networks can tell (5.3 % each)."""
    space, rng = named_space("imagenet"), np.random.default_rng(1)
    activations, weights = closed_form(space, sample_evenly(space, rng, 432))
    order = rng.permutation(432)
    measured = law(activations, weights) * np.exp(rng.normal(0, 0.05, 432))
    seen, others = order[:32], order[32:]
    fit = fit_peak_memory(activations[seen], weights[seen], measured[seen])
    factors = fit.constant_bytes, fit.per_activation_byte, fit.per_weight_byte
    predicted = factors[0] + factors[1] * activations[others] + factors[2] * weights[others]
    error = np.abs(predicted / measured[others] - 1).mean()
    assert 0.5 < error / fit.error < 2
    inside = np.maximum(predicted / measured[others], measured[others] / predicted) <= 1 + fit.quantile
    assert abs(inside.mean() - 0.9) < 4 * 0.053


def test_nothing_is_below_zero_so_that_more_never_takes_less():
    space, rng = named_space("imagenet"), np.random.default_rng(2)
    activations, weights = closed_form(space, sample_evenly(space, rng, 20))
    fit = fit_peak_memory(activations, weights, 1e8 - activations + weights)
    assert min(fit.constant_bytes, fit.per_activation_byte, fit.per_weight_byte) >= 0
    table = made_up_table(rng).model_copy(update={"peak_memory": fit})
    base = named_space("digits").uniform(1.0)
    larger = replace(base, tail_chs=2 * base.tail_chs)
    (peak, low, high), (more, *_) = predict_peak_memory(table, base), predict_peak_memory(table, larger)
    assert low <= peak <= high and more >= peak


def test_few_networks_are_not_fitted():
    codes = sample_evenly(SPACE, np.random.default_rng(0), 12)
    measured = {k: 1000 + k for k in range(12)}
    assert peak_memory_of(SPACE, codes, dict(list(measured.items())[: FEWEST - 1]), 1, "float32") is None
    assert peak_memory_of(SPACE, codes, measured, 1, "float32").networks == 12


class FakeMeter:
    """Measures by the law; `file` says which networks it was asked for."""

    asked: list[bytes] = []  # noqa: RUF012
    answers = True

    def __init__(self, run):
        self.run = run

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, content, shape):
        self.asked.append(content)
        return int(content) if self.answers else None


@pytest.fixture
def by_law(monkeypatch):
    monkeypatch.setattr(interference, "INITIAL_PROBES_S", 0.0)
    monkeypatch.setitem(RUNTIMES, "law", FakeRuntime)
    monkeypatch.setattr(calibration, "why_not", lambda run: None)
    monkeypatch.setattr(calibration, "MemoryMeter", FakeMeter)
    monkeypatch.setattr(FakeMeter, "asked", [])
    return {"runtime": "law", "rounds": 2, "fit_networks": 12, "held_out": 20, "minutes": None}


def test_a_calibration_measures_networks_that_it_holds_out_and_none_twice(by_law, tmp_path):
    path = tmp_path / "t.lat.json"
    table = calibrate(SPACE, path, **by_law)
    assert table.peak_memory.networks == NETWORKS == len(FakeMeter.asked)
    rows = [row["peak_bytes"] for row in JsonLines(measurements_log(path)) if "peak_bytes" in row]
    names = {name for row in rows for name in row}
    assert len(names) == len(rows) and all(int(name.split()[1]) >= 12 for name in names)
    assert LatencyTable.load(path).peak_memory.networks == table.peak_memory.networks
    calibrate(SPACE, path, **by_law)
    assert len(FakeMeter.asked) == NETWORKS
    assert "peak_memory_error_percent" in describe(table).model_dump(exclude_unset=True)
    assert "peak memory on the device: " in format_table(table)


def test_a_calibration_killed_amid_its_networks_goes_on_to_the_same(by_law, tmp_path):
    whole, broken = tmp_path / "whole.lat.json", tmp_path / "broken.lat.json"
    unbroken = calibrate(SPACE, whole, **by_law)
    lines = measurements_log(whole).read_bytes().splitlines(keepends=True)
    taken = [k for k, line in enumerate(lines) if b"peak_bytes" in line]
    measurements_log(broken).write_bytes(b"".join(lines[: taken[5]]) + lines[taken[5]][:10])
    resumed = calibrate(SPACE, broken, **by_law)
    assert resumed.peak_memory.networks == unbroken.peak_memory.networks
    first = {name for line in lines[taken[0] : taken[5]] for name in json.loads(line)["peak_bytes"]}
    names = [name for row in JsonLines(measurements_log(broken)) for name in row.get("peak_bytes", ())]
    assert len(names) == len(set(names)) and first <= set(names)


@pytest.mark.parametrize(
    ("changed", "why"), [({"minutes": 0.001}, "too short"), ({"answers": False}, "failed"), ({"off": True}, "nowhere")]
)
def test_without_it_a_table_is_as_before_and_one_line_says_why(by_law, tmp_path, monkeypatch, capsys, changed, why):
    monkeypatch.setattr(FakeMeter, "answers", changed.pop("answers", True))
    if changed.pop("off", False):
        monkeypatch.setattr(calibration, "why_not", lambda run: "nowhere")
    path = tmp_path / "t.lat.json"
    table = calibrate(SPACE, path, **by_law | changed)
    said = [line for line in capsys.readouterr().err.splitlines() if "Peak memory" in line]
    assert len(said) == 1 and why in said[0]
    assert table.peak_memory is None and "peak_memory" not in json.loads(path.read_text())
    assert "not measured" in format_table(table)
    assert "peak_memory_error_percent" not in describe(table).model_dump(exclude_unset=True)


def test_a_network_costs_what_the_closed_form_and_the_table_say(tmp_path):
    rng = np.random.default_rng(3)
    space, table = SPACE, made_up_table(rng, SPACE)
    arch = space.decode(sample_evenly(space, rng, 1)[0])
    without = network_costs(arch, latency=table)
    assert without.peak_memory is None and "peak_memory" not in without.to_json() and "MB" not in without.message
    own = {"classes": without.num_classes, "in_chs": without.in_chs}
    assert network_costs(arch, latency=table, **own) == without
    for name, value in own.items():
        with pytest.raises(UserError, match=f"networks with `{name}` {value}, but got {value + 1}"):
            network_costs(arch, latency=table, **{name: value + 1})
    activations, weights = closed_form(space, sample_evenly(space, rng, 20))
    fit = fit_peak_memory(activations, weights, law(activations, weights))
    costs = network_costs(arch, latency=table.model_copy(update={"peak_memory": fit}))
    assert costs.peak_memory == pytest.approx(law(costs.memory, costs.weights), rel=1e-3)
    assert costs.peak_memory_low <= costs.peak_memory <= costs.peak_memory_high
    assert f"{costs.peak_memory / 1e6:.1f} MB" in costs.message
    for correction in (table.correction, table.correction.model_copy(update={"intercept_ms": -1e3})):
        known = network_costs(arch, latency=table.model_copy(update={"correction": correction}))
        assert sum(block.latency_ms for block in known.blocks) == pytest.approx(known.latency_ms)
    assert costs.latency_target == "onnxruntime 1, float32, 1 thread(s), batch 1, on a test's"
    assert f") by {costs.latency_target}; " in costs.message and costs.to_json()["latency_target"]


@pytest.mark.parametrize(
    "row", [{"peak_bytes": {"network 99": 5}}, {"peak_bytes": {"network 1": 0}}, {"peak_bytes": {"network 1": "5"}}]
)
def test_lines_of_strangers_are_refused(row):
    with pytest.raises(UserError, match="line 7"):
        parse_measurements([("line 7", row)], {"network 1"})
