"""A ladder of evaluations: each network gets the cheapest one, and those that are worth it the next, dearer one.

What two rungs say is not alike: training raises accuracy. `at_the_top` says what each network is expected to reach on
the last rung, by those that went there, and `Expected` how far its next evaluation may move that. By these and the
rungs' prices the guided sampler sends networks up, early ones too (`samplers/promotions.py`).

Other samplers know nothing of it. Under them it is successive halving as ASHA does it (Li et al., MLSys 2020), with
fronts in place of one score (Schmucker et al., 2021): when a network's evaluation on a rung is over, it climbs if fewer
than a third of the networks that came so far are ahead of it. Ahead is who stands on a front before its own, and on its
own front who adds more hypervolume to the others. So a network is judged at once, by those before it, and no worker
waits for another. Optuna's pruners and Ray's schedulers know a single score, which a front is not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch
from search.accuracy.predictor import fit_ridge
from search.engine.front import BEYOND_PROMOTED
from search.engine.objectives import ACCURACY, Evaluate, Metrics, Objective, prepare, values
from search.engine.trial import COMPLETE, Trial
from search.rank_correlation import KendallTau
from search.records import record_json

REDUCTION = 3  # of the networks of a rung one in so many climbs
LEAST = 5  # networks that a fit from one rung to the next takes; fewer give their mean gain
TRAINED = 6  # looks that showing an image in a training takes, about: GhostBench's seconds, one core
UNKNOWN, WEIGHT = 0.03, 3  # how far gains lie apart before any is known, which counts as so many networks
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ladder:
    """Evaluators by name, from the cheapest to the dearest. As an evaluator itself it is the last of them.

    Args:
        prices: of each rung, in any unit that doesn't depend on how busy a machine is, so that a search is the same
            again. With prices the sampler promotes: a network goes on when it is proposed again; otherwise at once, if
            it may.
    """

    rungs: Mapping[str, Evaluate]
    prices: tuple[float, ...] | None = None

    def prepare(self) -> None:
        """Gets all of them ready in this process."""
        for evaluate in self.rungs.values():
            prepare(evaluate)

    def __call__(self, arch: Arch) -> float | Mapping[str, float]:
        return [*self.rungs.values()][-1](arch)


def images_price(shown: float, trained: float) -> float:
    """What an evaluation takes, as images that a network is shown; of those that it is trained on each counts as
    `TRAINED`. By what it takes on a clock no search would be the same again."""
    return shown + TRAINED * trained


def climbs(metrics: Metrics, rivals: Sequence[Metrics], objectives: Sequence[Objective]) -> bool:
    """Whether a network that was evaluated on a rung goes on to the next.

    Args:
        metrics: its own, as that rung has them.
        rivals: those of the networks that came to that rung before it.
    """
    points = values([*rivals, metrics], objectives)
    ranks = moocore.pareto_rank(points, maximise=True)
    shares = contributions(points[ranks == ranks[-1]])
    ahead = (ranks < ranks[-1]).sum() + (shares > shares[-1]).sum()
    return int(ahead) < max(1, len(points) / REDUCTION)


def contributions(points: Floats) -> Floats:
    """[n, objectives] -> [n] the hypervolume that each of some points, none of which beats another, adds to that of the
    others, on axes from 0 to 1 that begin `BEYOND_PROMOTED` below the worst."""
    scaled = (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-12)
    return moocore.hv_contributions(scaled, ref=[-BEYOND_PROMOTED] * points.shape[1], maximise=True)


def on_rung(trial: Trial, rung: int) -> dict[str, float] | None:
    """A trial's metrics as a rung has them; None where it never came there."""
    if not trial.rungs or len(trial.rungs) <= rung:
        return None
    known = {name: value for name, value in trial.metrics.items() if value is not None}
    return known | {ACCURACY.name: trial.rungs[rung].accuracy}


def rung_that_lacks(heights: Sequence[int], num_rungs: int) -> int | None:
    """The lowest rung of which less than the usual share went on; None where none does.

    Args:
        heights: of each network, on how many rungs it was.
    """
    for rung in range(1, num_rungs):
        came, went = (sum(height >= least for height in heights) for least in (rung, rung + 1))
        if went < min(came, max(1, came // REDUCTION)):
            return rung
    return None


def at_the_top(trials: Sequence[Trial]) -> list[Trial]:
    """Evaluated networks with the accuracy that each is expected to have on the last rung that any of them reached;
    unchanged where there is one rung."""
    top = max((len(trial.rungs or ()) for trial in trials), default=0)
    if top < 2:
        return list(trials)
    heights = np.array([len(trial.rungs or ()) for trial in trials])
    expected = Expected.of(trials, top).accuracy
    return [
        Trial.model_validate(record_json(trial) | {"accuracy": float(value), "rungs": None}) if height < top else trial
        for trial, value, height in zip(trials, expected, heights, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Expected:
    """Of evaluated networks, each [n].

    Args:
        accuracy: that each is expected to have on the last rung.
        deviation: by how much its next evaluation may move that, as a standard deviation; 0 on the last rung.
    """

    accuracy: Floats
    deviation: Floats

    @classmethod
    def of(cls, trials: Sequence[Trial], num_rungs: int) -> "Expected":
        """On a ladder of so many rungs, by those that went from each to the next."""
        heights = np.array([len(trial.rungs or ()) for trial in trials])
        accuracy, deviation = np.array([trial["accuracy"] for trial in trials]), np.zeros(len(trials))
        for rung in range(num_rungs - 1):
            step = _Step.fit([trial for trial in trials if trial.rungs and len(trial.rungs) > rung + 1], rung)
            under = heights <= rung + 1
            accuracy[under] = step(accuracy[under])
            deviation[under] *= step.slope
            deviation[heights == rung + 1] = step.deviation
        return cls(accuracy, deviation)


@dataclass(frozen=True, slots=True, kw_only=True)
class RungTotal:
    """What a rung of a search took, and what it said.

    Args:
        networks: that were evaluated on it.
        seconds: of all of them.
        gain: mean accuracy less that on the rung before, of the same networks; None of the first rung.
        tau: Kendall's tau with the rung before, of the same networks; None of the first rung, of fewer than three, or
            where all are equal.
    """

    evaluate: str
    networks: int
    seconds: float
    gain: float | None = None
    tau: float | None = None


def rung_totals(trials: Sequence[Trial]) -> list[RungTotal]:
    """The rungs of a search, from the first to the last; none where there was no ladder."""
    complete = [trial.rungs for trial in trials if trial.state == COMPLETE and trial.rungs]
    totals = []
    for k in range(max(map(len, complete), default=0)):
        came = [rungs for rungs in complete if len(rungs) > k]
        gain = tau = None
        if k:
            before, now = (np.array([rungs[j].accuracy for rungs in came]) for j in (k - 1, k))
            gain = float((now - before).mean())
            known = float(KendallTau(before, now)())
            tau = known if len(came) > 2 and math.isfinite(known) else None
        total = RungTotal(
            evaluate=came[0][k].evaluate,
            networks=len(came),
            seconds=sum(rungs[k].seconds for rungs in came),
            gain=gain,
            tau=tau,
        )
        totals.append(total)
    return totals


@dataclass(frozen=True)
class _Step:
    """From accuracy on a rung to accuracy on the next, in a straight line: a ridge, or the mean gain, where few went or
    the better ones ended worse. On GhostBench no more features pay before a dozen networks went.

    Args:
        deviation: of accuracies around the line.
    """

    intercept: float
    slope: float
    deviation: float

    @classmethod
    def fit(cls, trials: Sequence[Trial], rung: int) -> "_Step":
        """From networks that were evaluated on both."""
        low, high = (np.array([t.rungs[k].accuracy for t in trials if t.rungs]) for k in (rung, rung + 1))
        gains = high - low
        if len(trials) >= LEAST:
            scaler, ridge = fit_ridge(low[:, None], high)
            if (slope := float(ridge.coef_[0] / scaler.scale_[0])) > 0:
                return cls(float(ridge.intercept_ - slope * scaler.mean_[0]), slope, float(ridge.alpha_) ** -0.5)
        gain = float(gains.mean()) if len(trials) else 0.0
        spread = ((gains - gain) ** 2).sum() + WEIGHT * UNKNOWN**2
        return cls(gain, 1.0, float(np.sqrt(spread / (len(trials) + WEIGHT))))

    def __call__(self, accuracy: Floats) -> Floats:
        """[n] -> [n], in [0, 1]"""
        return np.clip(self.intercept + self.slope * accuracy, 0, 1)
