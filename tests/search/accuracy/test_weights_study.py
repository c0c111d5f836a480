"""The study of ways to a front (`results/weights/`): hypervolumes, latencies on one scale, who is beaten."""

import sys
from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).parents[3] / "results" / "weights"


@pytest.fixture(scope="module")
def summary():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDY))
        import ways_page
        import ways_summary

        yield ways_summary
        for name in (ways_page, ways_summary):
            del sys.modules[name.__name__]


def network(summary, name, accuracy, **known):
    return summary.Network(name=name, macs=1000, params=10, accuracy=accuracy, **known)


def study(summary, **ways):
    return summary.Ways(
        parent=summary.Parent(arch="0123456789", accuracy=0.7, macs=2000),
        table=summary.Table(setting="runtime", error=0.05, kendall_tau=0.9, scale=0.5),
        ways={way: {"0": summary.Way(cpu_seconds=60.0, networks=networks)} for way, networks in ways.items()},
    )


def test_hypervolume_is_the_area_that_points_dominate(summary):
    """Against an integral on a grid; points outside the corner, and dominated ones, add nothing."""
    points = [(0.03, 0.5), (0.06, 0.65), (0.06, 0.6), (0.1, 0.7), (0.13, 0.9), (0.01, 0.39)]
    edges = np.linspace(0, summary.WORST_MS, 20_001)
    middles = (edges[1:] + edges[:-1]) / 2
    best = np.max([np.where(middles >= ms, max(accuracy - 0.4, 0), 0) for ms, accuracy in points], axis=0)
    assert summary.scaled_hypervolume(points) == pytest.approx(best.mean(), rel=1e-3)
    assert summary.scaled_hypervolume(points[-2:]) == 0


def test_the_issues_own_rows_have_the_hypervolume_that_it_says(summary):
    alone = [(0.057, 0.566), (0.072, 0.643), (0.083, 0.682), (0.064, 0.710)]
    assert summary.scaled_hypervolume(alone) == pytest.approx(0.160, abs=0.002)
    searched = [(0.025, 0.551), (0.033, 0.635), (0.048, 0.693), (0.067, 0.706)]
    assert summary.scaled_hypervolume(searched) == pytest.approx(0.224, abs=0.002)


def test_a_pruned_network_is_compared_with_those_that_are_no_slower(summary):
    others = [(0.02, 0.5), (0.04, 0.6), (0.09, 0.8)]
    assert summary.margin((0.04, 0.55), others) == pytest.approx(0.05)
    assert summary.margin((0.08, 0.65), others) == pytest.approx(-0.05)
    assert summary.margin((0.01, 0.3), others) is None


def test_measured_latencies_are_scaled_by_the_family_beside_them_and_predicted_ones_by_the_table(summary):
    family = [network(summary, f"{w}x", 0.6, predicted_ms=1.0) for w in summary.FAMILY_MS]
    pruned = [network(summary, "pruned", 0.5, measured_ms=0.3)]
    known = study(summary, family=family, pruned=pruned)
    assert summary.points(known, "family", "0") == [(0.5, 0.6)] * 4
    assert summary.points(known, "pruned", "0") is None  # not beside the family yet
    scale = summary.family_scale({width: 3 * ms for width, ms in summary.FAMILY_MS.items()})
    known = known.model_copy(update={"scales": {"0": scale}})
    assert summary.points(known, "pruned", "0")[0] == pytest.approx((0.1, 0.5))
    assert summary.points(known, "family", "0") == [(0.5, 0.6)] * 4


def test_the_page_says_what_is_met_and_what_is_not(summary):
    import ways_page

    fast = [network(summary, "a", 0.75, predicted_ms=0.02)]  # 0.01 ms: 0.35 over all but a twelfth of the width
    slow = [network(summary, "b", 0.75, predicted_ms=0.2)]
    pruned = [network(summary, "pruned to 1.0x", 0.8, predicted_ms=0.1, start=0.3)]
    page = ways_page.page(study(summary, transplants=fast, pruned=pruned))
    assert "Hypervolume 0.25 at 13 core-minutes, seed 0: 0.322 at 1.0, met." in page
    assert "Every pruned network beaten at equal latency, seed 0: 0 of 1, **not met**." in page
    assert "| 0 | any | 1k | 30.0 | 0.050 | 80.0 | 0.010 | 75.0 | -5.0 |" in page
    assert "none is so fast" in ways_page.page(study(summary, transplants=slow, pruned=pruned))
