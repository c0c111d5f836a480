"""The Gaussian process of few examples: its posterior against the formula, its fit against other parameters."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from search.gaussian_process import LENGTHS, NOISE, OFFSET, GaussianProcess


def example(n=40, features=8, noise=0.05, seed=0):
    """Values that go by the first feature alone, smoothly."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 5, (n, features))
    return x, 0.6 + 0.1 * np.sin(x[:, 0]) + 0.1 * noise * rng.normal(size=n)


def parameters(process):
    kernel = process._process.kernel_
    return kernel.k1.k1.length_scale, kernel.k2.noise_level


def covariance(a, b, lengths):
    """Rasmussen and Williams (2006), equation 4.17."""
    r = 5**0.5 * cdist(a / lengths, b / lengths)
    return (1 + r + r**2 / 3) * np.exp(-r) + OFFSET


def log_density(x, y, lengths, noise):
    """Of the parameters, up to a constant: the likelihood, and log-normal priors."""
    z = (y - y.mean()) / y.std()
    whole = covariance(x, x, lengths) + noise * np.eye(len(y))
    likelihood = -0.5 * z @ np.linalg.solve(whole, z) - 0.5 * np.linalg.slogdet(whole)[1]
    prior = 0.0
    means = [LENGTHS[0] + np.log(x.shape[1]) / 2] * x.shape[1] + [NOISE[0]]
    spreads = [LENGTHS[1]] * x.shape[1] + [NOISE[1]]
    for value, mean, spread in zip([*lengths, noise], means, spreads, strict=True):
        prior += -np.log(value) - (np.log(value) - mean) ** 2 / (2 * spread**2)
    return likelihood + prior


def unit(x):
    return (x - x.min(0)) / np.ptp(x, axis=0)


def test_its_posterior_is_the_formula_s():
    x, y = example()
    process = GaussianProcess(x, y)
    lengths, noise = parameters(process)
    new = np.random.default_rng(1).uniform(-3, 5, (15, x.shape[1]))
    inside, there = unit(x), (new - x.min(0)) / np.ptp(x, axis=0)
    whole = covariance(inside, inside, lengths) + noise * np.eye(len(y))
    between = covariance(there, inside, lengths)
    mean = y.mean() + y.std() * between @ np.linalg.solve(whole, (y - y.mean()) / y.std())
    variance = 1 + OFFSET - np.einsum("ij,ji->i", between, np.linalg.solve(whole, between.T))
    predicted, deviation = process.predict(new)
    np.testing.assert_allclose(predicted, mean, rtol=1e-6)
    np.testing.assert_allclose(deviation, y.std() * np.sqrt(variance), rtol=1e-4)
    assert process.noise == pytest.approx(noise * y.var())


def test_its_parameters_are_more_probable_than_others():
    x, y = example()
    lengths, noise = parameters(GaussianProcess(x, y))
    best, rng = log_density(unit(x), y, lengths, noise), np.random.default_rng(2)
    for spread in (0.01, 0.1, 1.0):
        for _ in range(50):
            others = lengths * np.exp(spread * rng.normal(size=len(lengths)))
            assert log_density(unit(x), y, others, noise * np.exp(spread * rng.normal())) < best + 1e-6


def test_the_feature_that_counts_has_the_shortest_length_and_is_learnt():
    x, y = example()
    process = GaussianProcess(x, y)
    lengths, _ = parameters(process)
    assert np.argmin(lengths) == 0 and lengths[0] < 0.2 * np.median(lengths)
    new, truth = example(seed=3, noise=0.0)
    mean, deviation = process.predict(new)
    assert np.abs(mean - truth).mean() < 0.01
    assert np.mean(np.abs(mean - truth) < 1.96 * deviation) > 0.85


def test_noise_is_taken_for_noise():
    """Without a prior, eight lengths explain twelve values of noise."""
    rng = np.random.default_rng(4)
    x, y = rng.uniform(size=(12, 8)), rng.normal(size=12)
    mean, deviation = GaussianProcess(x, y).predict(rng.uniform(size=(50, 8)))
    assert np.abs(mean - y.mean()).max() < y.std() and deviation.max() < 1.2 * y.std()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_or_equal_examples_are_examples(n):
    x = np.arange(3.0 * n).reshape(n, 3)
    x[:, 1] = 7.0  # says nothing
    for values in (np.full(n, 0.5), np.linspace(0.4, 0.5, n)):
        mean, deviation = GaussianProcess(x, values).predict(x + np.array([0.0, 1.0, 0.0]))
        assert np.isfinite(mean).all() and np.isfinite(deviation).all() and np.abs(mean - values).max() < 0.05


def test_only_the_first_examples_fit_its_kernel_and_all_are_gone_by():
    x, y = example(60)
    shifted = np.concatenate([y[:30], y[30:] + 1])
    one, other = (GaussianProcess(x, values, tuned=30) for values in (y, shifted))
    np.testing.assert_array_equal(*(parameters(process)[0] for process in (one, other)))
    assert (other.predict(x[30:])[0] - one.predict(x[30:])[0]).min() > 0.2


def test_what_is_left_out_is_what_a_process_without_it_gets_wrong():
    x, y = example()
    process = GaussianProcess(x, y)
    lengths, noise = parameters(process)
    z, errors = (y - y.mean()) / y.std(), []
    for k in range(len(y)):
        others = np.arange(len(y)) != k
        seen, one = unit(x)[others], unit(x)[[k]]
        whole = covariance(seen, seen, lengths) + noise * np.eye(len(seen))
        errors.append(z[k] - (covariance(one, seen, lengths) @ np.linalg.solve(whole, z[others]))[0])
    np.testing.assert_allclose(process.left_out(), y.std() * np.array(errors), atol=1e-7)
