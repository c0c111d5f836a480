"""Was the supernet right, its correction, and was it needed?"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from comparison import interval, resampled, tightest, volume, volume_interval

from search import bootstrap
from search.accuracy.predictor import (
    AccuracyCorrection,
    TrainingPoint,
    leave_one_out,
    leave_one_out_predictions,
    training_points,
)
from search.accuracy.study import StudyNetwork, read_study
from search.engine.front import hypervolume
from search.files import read_json
from search.report.summary import Summary, TrainedNetwork
from search.run_folder.run import FIDELITY, SUPERNET
from spaces.quantities import parse_windows
from spaces.space import Space

LAW = Path(__file__).parent / "law.json"


def fidelity(summary: Summary) -> dict[str, Any]:
    """Does the supernet rank the fully trained networks? Their mean accuracy over seeds, with networks drawn anew."""
    from scipy.stats import kendalltau, spearmanr

    nets = [n for n in summary.networks if n.inherited is not None]
    predicted, trained = (np.array([getattr(n, key) for n in nets]) for key in ("inherited", "accuracy"))
    macs = np.array([n.macs for n in nets])
    rng = np.random.default_rng(0)
    tau_95 = bootstrap.interval(lambda picks: kendalltau(predicted[picks], trained[picks]).statistic, len(nets), rng)
    halves = [
        kendalltau(*np.array([rng.permutation(n.accuracies)[:2] for n in nets]).T).statistic
        for _ in range(200)
        if min(len(n.accuracies) for n in nets) > 1
    ]
    return {
        "networks": len(nets),
        "kendall_tau": rank(predicted, trained),
        "kendall_tau_95": tau_95.tolist(),
        "spearman": float(spearmanr(predicted, trained).statistic),
        "macs_tau": rank(macs, trained),
        "one_seed_against_another_tau": float(np.mean(halves)) if halves else None,
    }


def full_training_study(summary: Summary) -> dict[str, Any] | None:
    """The full trainings before the search: how the supernet and its correction ranked them, and what the networks
    that the supernet alone would have chosen came to; None where the run has none."""
    file = summary.folder / FIDELITY
    if not file.exists() or summary.predict is None:
        return None
    study = read_study(file)
    rows = study.networks
    first = [row for row in rows if row.kind == "front"]
    latency: list[float] = summary.predict(np.array([row.code for row in first])).latency_ms.tolist() if first else []
    even = [row for row in rows if row.kind == "spread"]
    correct = AccuracyCorrection.load(file, summary.folder / SUPERNET)
    chosen = [n for n in summary.networks if n.chosen]
    corner = 1.05 * max([*(n.predicted_ms or 0.0 for n in chosen), *latency])
    alone = [{"accuracy": r.trained, "latency_ms": ms} for r, ms in zip(first, latency, strict=True)]
    now = [{"accuracy": n.accuracy, "latency_ms": n.predicted_ms or float("nan")} for n in chosen]
    tested = [n for n in summary.networks if n.inherited is not None and n.arch.id not in {row.arch for row in rows}]
    predicted = [correct(n.arch, n.inherited or 0.0) for n in tested]
    trained = [n.accuracy for n in tested]
    return {
        "networks": len(rows),
        "kendall_tau": study.kendall_tau,
        "tau_within_bins": study.tau_within_bins,
        "macs_tau": study.macs_tau,
        "spread": len(even),
        "kendall_tau_of_the_spread": rank([row.inherited for row in even], [row.trained for row in even]),
        "corrected_by_the_others": study.corrected and study.corrected.model_dump(),
        "left_out_error": errors(summary.space, rows),
        "effects": correct.effects,
        "trained_less_inherited": {
            kind: float(np.mean([row.trained - row.inherited for row in rows if row.kind == kind]))
            for kind in ("spread", "front")
        },
        "later": {
            "networks": len(tested),
            "inherited_tau": rank([n.inherited for n in tested], trained),
            "corrected_tau": rank(predicted, trained),
            "macs_tau": rank([n.macs for n in tested], trained),
            "corrected_error": float(np.abs(np.array(predicted) - trained).mean()),
            "corrected_bias": float((np.array(predicted) - trained).mean()),
        },
        "hypervolume_by_predicted_ms": {
            "the_supernet_alone": hypervolume(alone, corner),
            "corrected": hypervolume(now, corner),
            "corner_ms": corner,
        },
        "points_over_the_supernet_alone": {n.name: over_first(n, first, latency, summary) for n in chosen},
        "first_front": [
            {key: getattr(row, key) for key in ("arch", "macs", "params", "inherited", "trained")}
            | {"predicted_ms": float(ms)}
            for row, ms in zip(first, latency, strict=True)
        ],
    }


def over_first(
    n: TrainedNetwork, first: Sequence[StudyNetwork], latency: Iterable[float], summary: Summary
) -> float | None:
    """Points of a found network over the best that the supernet alone chose within its budget and its latency."""
    assert summary.recipe
    budgets = summary.recipe.search.flops_budget
    most = parse_windows(budgets)[tightest(n, budgets)].high
    within = [
        row.trained
        for row, ms in zip(first, latency, strict=True)
        if row.macs <= most and ms <= (n.predicted_ms or 0.0)
    ]
    return 100 * (n.accuracy - max(within)) if within else None


def errors(space: Space, rows: Sequence[StudyNetwork]) -> dict[str, float]:
    """The correction's mean error on networks that are left out in turn, as it is and with other terms."""
    points = [TrainingPoint.from_study(row) for row in rows]
    x, y = training_points(space, points)
    tested = np.array([row.trained for row in rows])
    archs = [space.decode(np.array(row.code)) for row in rows]
    share_of_se = [[float(np.mean([block.se_ratio > 0 for block in arch.blocks]))] for arch in archs]
    predicted = {
        "as_it_is": leave_one_out_predictions(x, y),
        "without_the_widths": leave_one_out(space, points, without="mean log width"),
        "without_inherited": leave_one_out(space, points, without="inherited accuracy"),
        "with_se": leave_one_out_predictions(np.hstack([x, share_of_se]), y),
    }
    return {name: float(np.abs(each - tested).mean()) for name, each in predicted.items()}


def without_supernet(summary: Summary) -> dict[str, Any] | None:
    """What `architecture_predictor.py` found beside what the study found, both by the latencies of one session; None if
    it did not run."""
    if not LAW.exists():
        return None
    law = read_json(LAW)
    times, chosen = law["measured_ms_of_the_study's"], [n for n in summary.networks if n.chosen]
    here = [replace(n, measured_ms=times[n.name]) for n in chosen]
    there = [
        replace(here[0], name=row["name"], accuracies=tuple(row["test_accuracy"]), measured_ms=row["measured_ms"])
        for row in law["networks"]
    ]
    draws = resampled([*here, *there], np.random.default_rng(0))
    corner = 1.05 * max(n.measured_ms or 0.0 for n in [*here, *there])
    return law | {
        "hypervolume": {
            "found": volume_interval(here, draws, corner),
            "by_the_law": volume_interval(there, draws, corner),
            "corner_ms": corner,
        },
        "hypervolume_by_the_law_less_found": interval(
            draws, lambda d: volume(there, d, corner) - volume(here, d, corner)
        ),
    }


def rank(x: Iterable[Any], y: Iterable[Any]) -> float:
    """Kendall's tau (b)."""
    from scipy.stats import kendalltau

    return float(kendalltau(list(x), list(y)).statistic)
