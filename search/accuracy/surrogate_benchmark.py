"""GhostBench for every network of its space: a surrogate benchmark, as NAS-Bench-301 is for cells (Zela et al., ICLR
2022).

    surrogate = SurrogateBenchmark(bench, ["tuned:0", "tuned:3", "trained:5@1"])  # @1: after its first epoch
    surrogate.query(code, "tuned:3", seed=1)                                     # search, test, seconds

A search needs the accuracy of any network that it comes upon, and a table has some hundreds. A Gaussian process with a
length for each feature of a code says what a training gives on average. What it doesn't know of a network is drawn,
from the errors that it makes on the benchmark's networks, each predicted from all others: of all trainings and both
splits together. So a network that is better than it should be after one epoch is so after three, as far as it is in
truth; and another seed is another world of the same kind.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.accuracy.ghostbench import BenchmarkRun, GhostBench
from search.accuracy.predictor import fit_ridge
from search.errors import UserError
from search.gaussian_process import fit_process, left_out
from search.rank_correlation import kendall_tau
from spaces.space import Codes, Space
from spaces.tables import macs_table, params_table

LEAST = 30  # networks that have all the trainings
TUNED = 300  # networks that the lengths are fitted to
CLIP = 1 / 12_500  # none or all right has no logit and counts as this far off: one of GhostBench's images in all
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training gives: accuracies on both splits, and one core's seconds, an evaluation on the search split
    included."""

    search: float
    test: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SurrogateError:
    """Of a column on the networks that a fit leaves out: points of accuracy, root of the mean square; and Kendall's
    tau."""

    points: float
    tau: float


class SurrogateBenchmark:
    """What trainings give, for any network of the benchmark's space.

    Args:
        columns: evaluators of the benchmark, such as `tuned:3`; `trained:5@2` is the same training after two epochs.

    Raises:
        UserError: fewer than `LEAST` networks have all of these, or a column is after an epoch that there is not.
    """

    def __init__(self, bench: GhostBench, columns: Sequence[str]) -> None:
        self.space, self.columns = bench.space, tuple(columns)
        every = [set(bench.having(column.partition("@")[0])) for column in columns]
        names = [name for name in bench.names if all(name in having for having in every)]
        if len(names) < LEAST:
            raise UserError(f"a surrogate wants {LEAST} networks with {', '.join(columns)}; there are {len(names)}")
        self.names = tuple(names)
        codes = np.array([bench.network(name).code for name in names])
        runs = {column: [_reading(bench, name, column) for name in names] for column in columns}
        splits = {c: logit(np.clip([[r.search, r.test] for r in rows], CLIP, 1 - CLIP)).T for c, rows in runs.items()}
        images = [bench.record.search_images, bench.record.test_images]
        self._means = {c: _Process(self.space, codes, np.average(splits[c], 0, images)) for c in columns}
        # [networks, columns * 2]: what each prediction from all other networks misses of each split
        missed = np.concatenate([splits[c] - self._means[c].left_out for c in columns]).T
        self._covariance = np.atleast_2d(missed.T @ missed / len(names))
        features = _cost_features(self.space, codes)
        self._seconds = {c: fit_ridge(features, np.log([r.seconds for r in rows])) for c, rows in runs.items()}
        tests = {c: np.array([r.test for r in rows]) for c, rows in runs.items()}
        self.errors = {c: _error(expit(self._means[c].left_out), tests[c]) for c in columns}
        self._draw = lru_cache(maxsize=100_000)(self._drawn)

    def query(self, code: Codes, column: str, seed: int = 0) -> Outcome:
        """One training of a network, given by its code [genes]; the same for the same seed.

        Raises:
            UserError: a column that it was not made for.
        """
        if column not in self.columns:
            raise UserError(f"the surrogate has {', '.join(self.columns)}, not {column}")
        key = tuple(self.space.canonical(np.atleast_2d(code))[0].tolist())
        return self._draw(key, seed)[column]

    def _drawn(self, key: tuple[int, ...], seed: int) -> dict[str, Outcome]:
        codes = np.array([key])
        rng = np.random.default_rng([seed, *key])
        missed = rng.multivariate_normal(np.zeros(len(self._covariance)), self._covariance).reshape(-1, 2)
        features = _cost_features(self.space, codes)
        outcomes = {}
        for column, residuals in zip(self.columns, missed, strict=True):
            search, test = expit(self._means[column].predict(codes)[0] + residuals)
            seconds = np.exp(self._seconds[column].predict(features)[0])
            outcomes[column] = Outcome(float(search), float(test), float(seconds))
        return outcomes


class _Process:
    """The mean of a column, as a logit, over the features of codes. Its kernel is the likeliest, without the prior of
    `search.gaussian_process`: there are examples enough.

    Attributes:
        left_out: for each network the prediction from all others.
    """

    def __init__(self, space: Space, codes: Codes, values: Floats) -> None:
        self.space, seen = space, space.features(codes)
        self._mean, spread = seen.mean(0), seen.std(0)
        self._varies = spread > 0
        self._spread = spread[self._varies]
        x = self._scaled(seen)
        far = np.full(x.shape[1], x.shape[1] ** 0.5)
        kernel = ConstantKernel() * Matern(far, (far[0] / 10, far[0] * 100), nu=2.5) + WhiteKernel(0.01, (1e-6, 1))
        self._process = fit_process(kernel, x, values, TUNED)
        self.left_out = values - left_out(self._process)

    def predict(self, codes: Codes) -> Floats:
        """[n, genes] -> [n]"""
        values: Floats = self._process.predict(self._scaled(self.space.features(codes)))
        return values

    def _scaled(self, features: Floats) -> Floats:
        return (features - self._mean)[:, self._varies] / self._spread


def _reading(bench: GhostBench, name: str, column: str) -> Outcome:
    """What a column of the benchmark has of a network, by the first seed.

    Raises:
        UserError: it is after an epoch that the training has not.
    """
    evaluator, at, epoch = column.partition("@")
    run: BenchmarkRun = bench.query(name, evaluator)
    last = len(run.search)
    if at:
        if not re.fullmatch("[1-9][0-9]{0,3}", epoch) or int(epoch) > last or not run.epochs:
            raise UserError(f"a column is an evaluator, or with an epoch from 1 to {last} EVALUATOR@1, not {column!r}")
        last = int(epoch)
    share = last / run.epochs if run.epochs else 1.0
    return Outcome(run.search[last - 1], run.test[last - 1], share * run.seconds + run.look_seconds)


def _cost_features(space: Space, codes: Codes) -> Floats:
    """[n, genes] -> logarithms of multiply-adds and parameters, and the features of the codes"""
    known = [np.log(table(space).total(codes)) for table in (macs_table, params_table)]
    return np.column_stack([*known, space.features(codes)])


def _error(predicted: Floats, actual: Floats) -> SurrogateError:
    points = 100 * float(np.sqrt(np.mean((predicted - actual) ** 2)))
    return SurrogateError(points, kendall_tau(predicted, actual))
