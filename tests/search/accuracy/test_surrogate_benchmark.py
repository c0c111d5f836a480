"""The surrogate benchmark: its mean, and the errors that it draws, on a benchmark whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import kendalltau
from sklearn.gaussian_process import GaussianProcessRegressor

from search.accuracy.ghostbench import BenchmarkFile, GhostBench
from search.accuracy.surrogate_benchmark import LEAST, SurrogateBenchmark, _Process
from search.errors import UserError
from search.recipes.schema import load_recipe
from spaces.custom import space_to_dict
from spaces.tables import macs_table, params_table

SPACE = load_recipe("cifar10-small").search_space
COUNT, UNKNOWN = 80, 0.1  # networks, and what a code's features don't say of a network, as a logit
SOME = SPACE.features(SPACE.sample_codes(np.random.default_rng(0), 500))
WEIGHTS = np.random.default_rng(7).standard_normal(SOME.shape[1]) / (1 + SOME.std(0)) / 6


def truth(codes):
    """A logit that is linear in the features: [n, genes] -> [n]"""
    return (SPACE.features(codes) - SOME.mean(0)) @ WEIGHTS


@pytest.fixture(scope="module")
def bench():
    """Networks whose trainings are the truth and what is unknown of a network: the same for 0 epochs and for 1, and for
    both splits."""
    rng = np.random.default_rng(3)
    codes = np.unique(SPACE.sample_codes(rng, COUNT), axis=0)
    unknown = UNKNOWN * rng.standard_normal(len(codes))
    before, after = expit(truth(codes) + unknown), expit(truth(codes) + 0.5 + unknown)
    macs, params = (table(SPACE).total(codes).astype(int).tolist() for table in (macs_table, params_table))
    rows = [
        {"arch": SPACE.decode(code).id, "code": code.tolist(), "kind": "even", "macs": macs[k], "params": params[k]}
        | {"runs": [_run(0, [before[k]], 1.0), _run(1, [after[k]], 1e-5 * macs[k])]}
        for k, code in enumerate(codes)
    ]
    sizes = {"training_images": 8, "search_images": 8, "test_images": 8, "fresh": {}, "tuned": {}}
    head = {"space": space_to_dict(SPACE), "data": "cifar10", "fingerprint": "f"} | sizes
    return GhostBench(BenchmarkFile.model_validate(head | {"networks": rows}), "made up")


def _run(epochs, accuracies, seconds):
    known = {"start": "transplanted", "epochs": epochs, "seed": 0, "search": accuracies, "test": accuracies}
    return known | {"seconds": seconds, "look_seconds": 0.25}


@pytest.fixture(scope="module")
def surrogate(bench):
    return SurrogateBenchmark(bench, ["tuned:0", "tuned:1"])


def test_its_mean_is_the_truth_on_networks_that_it_never_saw(surrogate):
    codes = SPACE.sample_codes(np.random.default_rng(11), 60)
    drawn = np.array([[surrogate.query(code, "tuned:1", seed).test for seed in range(40)] for code in codes])
    expected = logit(drawn).mean(1)
    assert kendalltau(expected, truth(codes)).statistic > 0.8
    error = expected - expected.mean() - (truth(codes) - truth(codes).mean())
    assert np.sqrt(np.mean(error**2)) < UNKNOWN


def test_what_it_does_not_know_of_a_network_is_drawn_as_it_errs_and_alike_for_all_trainings(surrogate):
    code = SPACE.sample_codes(np.random.default_rng(12), 1)[0]
    drawn = np.array(
        [
            [surrogate.query(code, column, seed).search for column in ("tuned:0", "tuned:1")]
            + [surrogate.query(code, "tuned:0", seed).test]
            for seed in range(300)
        ]
    )
    spread = logit(drawn).std(0)
    assert (spread > 0.8 * UNKNOWN).all() and (spread < 1.6 * UNKNOWN).all()
    assert np.corrcoef(logit(drawn).T).min() > 0.95  # here nothing is unknown of a training alone, nor of a split


def test_a_seed_is_a_world(surrogate):
    codes = SPACE.sample_codes(np.random.default_rng(13), 5)
    first = [surrogate.query(code, "tuned:1", 4) for code in codes]
    assert first == [surrogate.query(code, "tuned:1", 4) for code in codes]
    assert all(one != surrogate.query(code, "tuned:1", 5) for one, code in zip(first, codes, strict=True))


def test_its_seconds_are_those_of_like_networks_with_a_look(surrogate, bench):
    for name in bench.names[:10]:
        run = bench.query(name, "tuned:1")
        assert surrogate.query(bench.network(name).code, "tuned:1").seconds == pytest.approx(
            run.seconds + 0.25, rel=0.2
        )
        assert surrogate.query(bench.network(name).code, "tuned:0").seconds == pytest.approx(1.25, rel=0.01)


def test_it_predicts_each_network_from_all_others_as_one_refitted_without_it():
    rng = np.random.default_rng(5)
    codes = np.unique(SPACE.sample_codes(rng, 30), axis=0)
    values = truth(codes) + UNKNOWN * rng.standard_normal(len(codes))
    process = _Process(SPACE, codes, values)
    x, kernel = process._scaled(SPACE.features(codes)), process._process.kernel_
    scaled = (values - values.mean()) / values.std()
    for k in range(len(codes)):
        others = np.arange(len(codes)) != k
        refitted = GaussianProcessRegressor(kernel, optimizer=None).fit(x[others], scaled[others]).predict(x[[k]])[0]
        assert process.left_out[k] == pytest.approx(values.mean() + values.std() * refitted, abs=1e-6)


def test_it_refuses_what_it_was_not_made_for_and_too_few_networks(surrogate, bench):
    code = SPACE.sample_codes(np.random.default_rng(0), 1)[0]
    with pytest.raises(UserError, match="the surrogate has tuned:0, tuned:1, not tuned:3"):
        surrogate.query(code, "tuned:3")
    with pytest.raises(UserError, match=f"a surrogate wants {LEAST} networks with tuned:0, trained:5; there are 0"):
        SurrogateBenchmark(bench, ["tuned:0", "trained:5"])
    for column in ("tuned:1@0", "tuned:1@2", "tuned:1@x", "tuned:1@", "tuned:1@-1", "tuned:1@1@1", "tuned:0@1"):
        with pytest.raises(UserError, match=f"^a column is an evaluator, .* from 1 to 1 .*, not '{column}'$"):
            SurrogateBenchmark(bench, ["tuned:0", column])
    few = GhostBench(bench.record.model_copy(update={"networks": bench.record.networks[: LEAST - 1]}), "few")
    with pytest.raises(UserError, match=f"there are {LEAST - 1}"):
        SurrogateBenchmark(few, ["tuned:0"])
