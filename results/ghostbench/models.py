"""Models of the accuracy that a network will have on the last rung of a ladder, judged on the benchmark: which
features, which model, from how few networks that went to the end.

A model is fitted to some networks whose last rung is known, and predicts the others': the mean error, Kendall's tau,
and how many of the others are inside its 95 % interval. That is Student's quantile times the error on the networks that
a fit leaves out, one by one: what a fit to few says of itself is too narrow. Only a Gaussian process has its own.

From the repository's root, with the extra `study` (BoTorch); it writes `models.json`:

    python results/ghostbench/models.py
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, t
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from search.accuracy.ghostbench import BenchmarkNetwork, BenchmarkRun, GhostBench, format_evaluator, load_ghostbench
from search.engine.samplers.surrogate import inputs
from search.files import write_json
from search.gaussian_process import GaussianProcess

Floats = NDArray[np.float64]
HERE = Path(__file__).parent
MODELS = HERE / "models.json"
TOP = "tuned:3"
RUNGS = ("tuned:0", "tuned:1", TOP)
COUNTS, DRAWS = (6, 12, 24), 40  # networks that a model is fitted to, and how often they are drawn
GENE_COUNTS, GENE_DRAWS = (15, 30, 60, 120), 20
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


def genes(bench: GhostBench, network: BenchmarkNetwork) -> list[float]:
    """The features of its code, as a search's sampler takes them."""
    row: list[float] = inputs(bench.space, np.array([network.code]))[0].tolist()
    return row


def accuracy_of(evaluator: str) -> Callable[[GhostBench, BenchmarkNetwork], list[float]]:
    """Accuracy on the search split by an evaluation."""
    return lambda bench, network: [run_of(network, evaluator).search[-1]]


class Fitted(Protocol):
    """What is fitted to features [n, k] and accuracies [n], and predicts means and half widths of intervals."""

    def fit(self, x: Floats, y: Floats) -> "Fitted": ...

    def predict(self, x: Floats) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True)
class Model:
    """Features that are put side by side, and what is fitted to them."""

    name: str
    features: Sequence[Callable[[GhostBench, BenchmarkNetwork], list[float]]]
    make: "Callable[[], Fitted]"

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
    """The Gaussian process that a search goes by, and the interval that it has itself."""

    def fit(self, x: Floats, y: Floats) -> "Process":
        self.model = GaussianProcess(x, y)
        return self

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        mean, deviation = self.model.predict(x)
        return mean, NORMAL_95 * np.sqrt(deviation**2 + self.model.noise)


class LikelyProcess:
    """A Gaussian process whose kernel is the likeliest, without a prior.

    Args:
        each: every feature has a length of its own; else all have one.
    """

    def __init__(self, each: bool) -> None:
        self.each = each

    def fit(self, x: Floats, y: Floats) -> "LikelyProcess":
        far = x.shape[1] ** 0.5  # how far apart two networks are, roughly
        length = np.full(x.shape[1], far) if self.each else far
        kernel = ConstantKernel() * Matern(length, (far / 10, far * 20), nu=2.5) + WhiteKernel(0.01, (1e-6, 1))
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        self.model = make_pipeline(StandardScaler(), process)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length that goes to a bound is a feature of no use
            self.model.fit(x, y)
        return self

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        mean, spread = self.model.predict(x, return_std=True)
        return mean, NORMAL_95 * spread


class BoTorchProcess:
    """BoTorch's default for one objective, with its own scaling."""

    def fit(self, x: Floats, y: Floats) -> "BoTorchProcess":
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Normalize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        self.varies = np.ptp(x, axis=0) > 0
        inputs, values = torch.from_numpy(x[:, self.varies]), torch.from_numpy(y[:, None])
        self.model = SingleTaskGP(inputs, values, input_transform=Normalize(inputs.shape[1]))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(self.model.likelihood, self.model))
        return self

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        with torch.no_grad():
            found = self.model.posterior(torch.from_numpy(x[:, self.varies]), observation_noise=True)
        return found.mean[:, 0].detach().numpy(), NORMAL_95 * found.variance[:, 0].sqrt().detach().numpy()


def ridge() -> LeftOut:
    return LeftOut(lambda: make_pipeline(StandardScaler(), BayesianRidge()))


def gain() -> LeftOut:
    return LeftOut(Gain)


AS_IS, ONE = accuracy_of("tuned:0"), accuracy_of("tuned:1")
ENDS = (  # of a ladder
    Model("costs, ridge", (costs,), ridge),
    Model("genes, Gaussian process", (genes,), Process),
    Model("as it is, mean gain", (AS_IS,), gain),
    Model("as it is, ridge", (AS_IS,), ridge),
    Model("as it is and costs, ridge", (AS_IS, costs), ridge),
    Model("as it is, costs and shape, ridge", (AS_IS, costs, shape), ridge),
    Model("as it is, costs and shape, Gaussian process", (AS_IS, costs, shape), Process),
    Model("as it is and genes, Gaussian process", (AS_IS, genes), Process),
    Model("tuned 1 epoch, mean gain", (ONE,), gain),
    Model("tuned 1 epoch, ridge", (ONE,), ridge),
    Model("tuned 1 epoch and costs, ridge", (ONE, costs), ridge),
    Model("tuned 1 epoch, as it is, costs and shape, ridge", (ONE, AS_IS, costs, shape), ridge),
    Model("tuned 1 epoch, as it is, costs and shape, Gaussian process", (ONE, AS_IS, costs, shape), Process),
)
BY_GENES = (  # a transplant's accuracy, as a search's sampler predicts it
    Model("a length for all genes, the likeliest", (genes,), lambda: LikelyProcess(each=False)),
    Model("a length for each gene, the likeliest", (genes,), lambda: LikelyProcess(each=True)),
    Model("a length for each gene, by a prior: GhostNAS", (genes,), Process),
    Model("the same, shape added", (genes, shape), Process),
    Model("BoTorch's default", (genes,), BoTorchProcess),
)


@dataclass(frozen=True)
class Judged:
    """Of a model by so many networks, on average over draws: the mean error in points, Kendall's tau, the share of
    unseen networks inside the 95 % interval, and one core's seconds for a fit and its predictions."""

    error: float
    tau: float
    covered: float
    seconds: float


def judge(
    bench: GhostBench, networks: Sequence[BenchmarkNetwork], model: Model, evaluator: str, count: int, draws: int
) -> Judged:
    """A model fitted to `count` networks of those, `draws` times, each time judged on the others."""
    x, y = model.table(bench, networks), np.array([run_of(n, evaluator).search[-1] for n in networks])
    results = []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(networks))
        known, unseen = order[:count], order[count:]
        begun = time.process_time()
        mean, width = model.make().fit(x[known], y[known]).predict(x[unseen])
        seconds = time.process_time() - begun
        error = np.abs(mean - y[unseen])
        tau = kendalltau(mean, y[unseen]).statistic
        results.append([100 * error.mean(), tau, (error <= width).mean(), seconds])
    return Judged(*np.mean(results, 0).tolist())


def judged_models(
    bench: GhostBench,
    networks: Sequence[BenchmarkNetwork],
    models: Sequence[Model],
    evaluator: str,
    counts: Sequence[int],
    draws: int,
) -> dict[str, Any]:
    """A table of models, for `models.json`."""
    counts = [count for count in counts if 4 * count <= 3 * len(networks)]
    rows = {m.name: [asdict(judge(bench, networks, m, evaluator, count, draws)) for count in counts] for m in models}
    return {"networks": len(networks), "counts": counts, "draws": draws, "models": rows}


def main() -> None:
    torch.set_num_threads(1)
    bench = load_ghostbench(HERE / "ghostbench.json")
    record = {
        "ends": judged_models(bench, complete(bench.record.networks), ENDS, TOP, COUNTS, DRAWS),
        "by genes": judged_models(
            bench, complete(bench.record.networks, RUNGS[:1]), BY_GENES, RUNGS[0], GENE_COUNTS, GENE_DRAWS
        ),
    }
    write_json(MODELS, record)


if __name__ == "__main__":
    main()
