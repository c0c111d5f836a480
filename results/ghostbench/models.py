"""Models of the accuracy that a network will have on the last rung of a ladder, judged on the benchmark: which
features, which model, from how few networks that went to the end.

A model is fitted to some networks whose last rung is known, and predicts the others': the mean error, Kendall's tau,
and how many of the others are inside its 95 % interval.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from evaluators import run_of
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from search.accuracy.ghostbench import BenchmarkNetwork, GhostBench

Floats = NDArray[np.float64]
TOP = "tuned:3"
RUNGS = ("tuned:0", "tuned:1", TOP)
COUNTS, SPLITS = (6, 12, 24), 40  # networks that a model is fitted to, and how often they are drawn
NORMAL_95 = 1.96


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
    make: Callable[[int], Any]

    def table(self, bench: GhostBench, networks: Sequence[BenchmarkNetwork]) -> Floats:
        """[networks, features]"""
        return np.array([[value for each in self.features for value in each(bench, n)] for n in networks])


class Gain:
    """The accuracy before, and the mean of what the known networks gained."""

    def fit(self, x: Floats, y: Floats) -> "Gain":
        gains = y - x[:, 0]
        self.gain, self.spread = float(gains.mean()), float(gains.std(ddof=1))
        return self

    def predict(self, x: Floats, return_std: bool) -> tuple[Floats, Floats]:
        return x[:, 0] + self.gain, np.full(len(x), self.spread)


def ridge(count: int) -> Any:
    return make_pipeline(StandardScaler(), BayesianRidge())


def process(count: int) -> Any:
    """A Gaussian process around a linear trend."""
    kernel = DotProduct() + ConstantKernel() * RBF(np.ones(count)) + WhiteKernel()
    return make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0))


AS_IS, ONE = accuracy_of("tuned:0"), accuracy_of("tuned:1")
MODELS = (
    Model("costs, ridge", (costs,), ridge),
    Model("as it is, mean gain", (AS_IS,), lambda _: Gain()),
    Model("as it is, ridge", (AS_IS,), ridge),
    Model("as it is and costs, ridge", (AS_IS, costs), ridge),
    Model("as it is, costs and shape, ridge", (AS_IS, costs, shape), ridge),
    Model("as it is, costs and shape, Gaussian process", (AS_IS, costs, shape), process),
    Model("tuned 1 epoch, mean gain", (ONE,), lambda _: Gain()),
    Model("tuned 1 epoch, ridge", (ONE,), ridge),
    Model("tuned 1 epoch and costs, ridge", (ONE, costs), ridge),
    Model("tuned 1 epoch, as it is, costs and shape, ridge", (ONE, AS_IS, costs, shape), ridge),
    Model("tuned 1 epoch, as it is, costs and shape, Gaussian process", (ONE, AS_IS, costs, shape), process),
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length that goes to a bound is a feature of no use
            mean, spread = model.make(x.shape[1]).fit(x[known], y[known]).predict(x[unseen], return_std=True)
        error = np.abs(mean - y[unseen])
        results.append(
            [100 * error.mean(), kendalltau(mean, y[unseen]).statistic, (error <= NORMAL_95 * spread).mean()]
        )
    return Judged(*np.mean(results, 0).tolist())
