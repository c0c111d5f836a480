"""Model soups: the mean of trainings that begin alike."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from ghostnet import GhostNet
from ghostnet.weights import load_network, save_weights
from search.data.datasets import load_data
from search.errors import UserError
from search.pipeline.retrain_stage import train_all
from search.recipes.schema import Training
from search.seeds import LARGEST_SEED
from search.training.distributed import best_device
from search.training.evaluate import accuracy
from search.training.origin import Origin
from search.training.records import TRAINED_FILE, read_trained
from search.training.retrain import Job, retrain
from search.training.soup import another_seed
from spaces import named_space
from tests.helpers import randomise

SPACE = named_space("digits")
CONFIG = Training(epochs=0.5, batch_size=32)
WEIGHTS = "weights.safetensors"


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=160)


@pytest.fixture(scope="module")
def begin(data, tmp_path_factory):
    """A network that was trained before."""
    out = tmp_path_factory.mktemp("begin")
    retrain(SPACE.uniform(0.5), data, Training(epochs=1, batch_size=32), out, seed=3, device=best_device())
    return Origin(init=out)


def job(out, seed=0):
    return Job(name="A", arch=SPACE.uniform(0.5), seed=seed, out=out)


@pytest.fixture(scope="module")
def soup(data, begin, tmp_path_factory):
    out = tmp_path_factory.mktemp("soup") / "A"
    train_all([job(out)], data, CONFIG, soup=3, origin=begin)
    return out


def test_it_is_the_mean_of_its_trainings_by_weights_and_statistics(soup, data):
    mean, *each = (load_file(folder / WEIGHTS) for folder in (soup, *sorted((soup / "soup").iterdir())))
    assert len(each) == 3 and all(one.keys() == mean.keys() for one in each)
    for name, values in mean.items():
        one, two, three = (tensors[name].astype(np.float64) for tensors in each)
        np.testing.assert_allclose(values, (one + two + three) / 3, rtol=1e-5, atol=1e-7)
    assert any(np.abs(each[0][name] - each[1][name]).max() > 1e-3 for name in mean)


def test_its_accuracy_is_its_own_and_its_seconds_all_of_theirs(soup, data):
    trained = read_trained(soup / TRAINED_FILE)
    net = load_network(SPACE.uniform(0.5), soup / WEIGHTS)
    assert trained.test_accuracy == accuracy(net, data, data.test, net.arch.resolution)
    each = [read_trained(folder / TRAINED_FILE).training for folder in sorted((soup / "soup").iterdir())]
    assert trained.training.seconds == pytest.approx(sum(one.seconds for one in each))
    assert {trained.training.steps} == {one.steps for one in each}
    assert trained.identity["soup"] == 3


def test_its_first_training_is_the_one_without_a_soup(soup, data, begin, tmp_path):
    alone = retrain(SPACE.uniform(0.5), data, CONFIG, tmp_path, seed=0, device=best_device(), init=begin.init)
    first = read_trained(soup / "soup/1" / TRAINED_FILE)
    assert first.identity == alone.identity
    assert (tmp_path / WEIGHTS).read_bytes() == (soup / "soup/1" / WEIGHTS).read_bytes()


def test_it_goes_on_from_the_trainings_that_are_finished(soup, data, begin):
    before, first = (soup / WEIGHTS).read_bytes(), (soup / "soup/1" / TRAINED_FILE).stat().st_mtime_ns
    for file in (TRAINED_FILE, WEIGHTS, f"soup/2/{TRAINED_FILE}", f"soup/2/{WEIGHTS}"):
        (soup / file).unlink()
    train_all([job(soup)], data, CONFIG, soup=3, origin=begin)
    assert (soup / WEIGHTS).read_bytes() == before
    assert (soup / "soup/1" / TRAINED_FILE).stat().st_mtime_ns == first


def test_one_of_other_trainings_is_refused(soup, data, begin):
    for count in (1, 2):
        with pytest.raises(UserError, match=r"holds another training: soup is 3"):
            train_all([job(soup)], data, CONFIG, soup=count, origin=begin)
    assert train_all([job(soup)], data, CONFIG, soup=3, origin=begin) == [read_trained(soup / TRAINED_FILE)]


def test_fresh_weights_have_no_useful_mean(data, tmp_path):
    with pytest.raises(UserError, match=r"`soup` = 2 .* trained weights, not fresh"):
        train_all([job(tmp_path / "A")], data, CONFIG, soup=2)
    assert not (tmp_path / "A").exists()


def test_a_classifier_that_is_fresh_is_the_same_in_all_trainings(data, tmp_path):
    """At a rate that changes nothing: weights of other classes, whose classifier isn't taken."""
    arch, begin, still = SPACE.uniform(0.5), tmp_path / "begin", Training(epochs=0.5, batch_size=32, lr=1e-12)
    begin.mkdir()
    (begin / "arch.json").write_text(arch.to_json())
    save_weights(randomise(GhostNet(arch, 3, 1)), begin / WEIGHTS)
    train_all([job(tmp_path / "A")], data, still, soup=2, origin=Origin(init=begin))
    one, two = (load_file(tmp_path / "A/soup" / k / WEIGHTS)["classifier.weight"] for k in "12")
    np.testing.assert_allclose(one, two, atol=1e-6)
    train_all([job(tmp_path / "B", seed=1)], data, still, origin=Origin(init=begin))
    assert np.abs(one - load_file(tmp_path / "B" / WEIGHTS)["classifier.weight"]).max() > 1e-3


def test_processes_side_by_side_make_the_same_one(soup, data, begin, tmp_path):
    train_all([job(tmp_path / "A")], data, CONFIG, soup=3, origin=begin, processes=2)
    assert (tmp_path / "A" / WEIGHTS).read_bytes() == (soup / WEIGHTS).read_bytes()


def test_seeds_that_are_drawn_are_nobodys_neighbours():
    drawn = {another_seed(seed, k) for seed in range(100) for k in range(1, 10)}
    assert len(drawn) == 900 and all(1000 < seed <= LARGEST_SEED for seed in drawn)
    assert another_seed(5, 2) == another_seed(5, 2) and another_seed(LARGEST_SEED, 1) <= LARGEST_SEED
