"""Models of the accuracy that a network will have on the last rung of a ladder, judged on the benchmark: which
features, which model, from how few networks that went to the end.

A model is fitted to some networks whose last rung is known, and predicts the others': the mean error, Kendall's tau,
and how many of the others are inside its 95 % interval. That is Student's quantile times the error on the networks that
a fit leaves out, one by one: what a fit to few says of itself is too narrow. Only a Gaussian process has its own.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, t
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from search.accuracy.ghostbench import BenchmarkNetwork, BenchmarkRun, GhostBench, format_evaluator

Floats = NDArray[np.float64]
TOP = "tuned:3"
RUNGS = ("tuned:0", "tuned:1", TOP)
COUNTS, SPLITS = (6, 12, 24), 40  # networks that a model is fitted to, and how often they are drawn
NORMAL_95 = 1.96
CONFIDENCE = 0.95


def run_of(network: BenchmarkNetwork, evaluator: str) -> BenchmarkRun:
    """A network's training of that name, by the first seed."""
    return next(run for run in network.runs if run.seed == 0 and format_evaluator(run) == evaluator)


def complete(networks: Sequence[BenchmarkNetwork], needed: Sequence[str] = RUNGS) -> list[BenchmarkNetwork]:
    """The networks that have all these trainings, by the first seed."""
    return [n for n in networks if {*needed} <= {format_evaluator(run) for run in n.runs if run.seed == 0}]


def costs(bench: GhostBench, network: BenchmarkNetwork) -> list[float]:
    """Logarithms of multiply-adds, parameters and latency."""
    return np.log([network.macs, network.params, network.latency_ms or network.macs]).tolist()


def shape(bench: GhostBench, network: BenchmarkNetwork) -> list[float]:
    """Mean logarithm of the widths, and mean of 1 / s."""
    arch = bench.arch(network.arch)
    widths = [arch.stem_chs, *(block.out_chs for block in arch.blocks)]
    return [float(np.log(widths).mean()), float(np.mean([1 / block.ratio for block in arch.blocks]))]


def accuracy_of(evaluator: str) -> Callable[[GhostBench, BenchmarkNetwork], list[float]]:
    """Accuracy on the search split by an evaluation."""
    return lambda bench, network: [run_of(network, evaluator).search[-1]]


@dataclass(frozen=True)
class Model:
    """Features that are put side by side, and what is fitted to them."""

    name: str
    features: Sequence[Callable[[GhostBench, BenchmarkNetwork], list[float]]]
    make: "Callable[[int], LeftOut | Process]"

    def table(self, bench: GhostBench, networks: Sequence[BenchmarkNetwork]) -> Floats:
        """[networks, features]"""
        return np.array([[value for each in self.features for value in each(bench, n)] for n in networks])


class Gain:
    """The accuracy before, and the mean of what the known networks gained."""

    def fit(self, x: Floats, y: Floats) -> "Gain":
        self.gain = float((y - x[:, 0]).mean())
        return self

    def predict(self, x: Floats) -> Floats:
        return x[:, 0] + self.gain


class LeftOut:
    """A model with an interval by its errors on what it leaves out.

    Args:
        make: a model that is not fitted.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def fit(self, x: Floats, y: Floats) -> "LeftOut":
        self.model = self.make().fit(x, y)
        kept = ~np.eye(len(y), dtype=bool)
        errors = [y[k] - self.make().fit(x[others], y[others]).predict(x[[k]])[0] for k, others in enumerate(kept)]
        self.width = float(t.ppf((1 + CONFIDENCE) / 2, len(y) - 1) * np.sqrt(np.mean(np.square(errors))))
        return self

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        return self.model.predict(x), np.full(len(x), self.width)


class Process:
    """A Gaussian process around a linear trend, and the interval that it has itself."""

    def __init__(self, count: int) -> None:
        kernel = DotProduct() + ConstantKernel() * RBF(np.ones(count)) + WhiteKernel()
        self.model = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0))

    def fit(self, x: Floats, y: Floats) -> "Process":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length that goes to a bound is a feature of no use
            self.model.fit(x, y)
        return self

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        mean, spread = self.model.predict(x, return_std=True)
        return mean, NORMAL_95 * spread


def ridge(_: int) -> LeftOut:
    return LeftOut(lambda: make_pipeline(StandardScaler(), BayesianRidge()))


def gain(_: int) -> LeftOut:
    return LeftOut(Gain)


AS_IS, ONE = accuracy_of("tuned:0"), accuracy_of("tuned:1")
MODELS = (
    Model("costs, ridge", (costs,), ridge),
    Model("as it is, mean gain", (AS_IS,), gain),
    Model("as it is, ridge", (AS_IS,), ridge),
    Model("as it is and costs, ridge", (AS_IS, costs), ridge),
    Model("as it is, costs and shape, ridge", (AS_IS, costs, shape), ridge),
    Model("as it is, costs and shape, Gaussian process", (AS_IS, costs, shape), Process),
    Model("tuned 1 epoch, mean gain", (ONE,), gain),
    Model("tuned 1 epoch, ridge", (ONE,), ridge),
    Model("tuned 1 epoch and costs, ridge", (ONE, costs), ridge),
    Model("tuned 1 epoch, as it is, costs and shape, ridge", (ONE, AS_IS, costs, shape), ridge),
    Model("tuned 1 epoch, as it is, costs and shape, Gaussian process", (ONE, AS_IS, costs, shape), Process),
)


@dataclass(frozen=True)
class Judged:
    """Of a model by so many networks, on average over draws: the mean error in points, Kendall's tau, and the share of
    unseen networks inside the 95 % interval."""

    error: float
    tau: float
    covered: float


def judge(bench: GhostBench, networks: Sequence[BenchmarkNetwork], model: Model, count: int) -> Judged:
    """A model fitted to `count` networks of those, `SPLITS` times, each time judged on the others."""
    x, y = model.table(bench, networks), np.array([run_of(n, TOP).search[-1] for n in networks])
    results = []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(networks))
        known, unseen = order[:count], order[count:]
        mean, width = model.make(x.shape[1]).fit(x[known], y[known]).predict(x[unseen])
        error = np.abs(mean - y[unseen])
        results.append([100 * error.mean(), kendalltau(mean, y[unseen]).statistic, (error <= width).mean()])
    return Judged(*np.mean(results, 0).tolist())
