"""What is finished is taken for itself alone: other trainings are refused by what differs, ids are of content."""

import shutil
from dataclasses import replace

import pytest
import torch

from search.data.datasets import load_data
from search.data.splits import Split
from search.errors import UserError
from search.recipes.schema import SupernetTraining, Training
from search.training.elastic import train_supernet
from search.training.metadata import space_for, supernet_id, weights_id
from search.training.retrain import retrain
from tests.search.test_folders import held

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
SUPERNET = SupernetTraining(epochs=1, batch_size=32, random=0)
ALONE = Training(epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=100)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    retrain(SPACE.smallest, data, ALONE, folder / "net", device=CPU)
    train_supernet(SPACE, data, SUPERNET, folder / "supernet", device=CPU)
    return folder


def fewer(data):
    return replace(data, train=Split(data.train.images[:97], data.train.labels[:97]))


OTHERS = {
    "another seed": (1, {}, lambda data: data, "seed is 0, not 1$"),
    "other data": (0, {}, lambda data: replace(data, fingerprint="mars"), "data is digits, not mars$"),
    "fewer images": (0, {}, fewer, "training_images is 100, not 97$"),
    "another recipe": (
        0,
        {"lr": 0.3, "epochs": 2.0},
        lambda data: data,
        r"recipe\.epochs is 1\.0, not 2\.0; recipe\.lr",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_finished_is_not_taken_for_another_training(case, data, finished):
    seed, recipe, other, message = OTHERS[case]
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"net holds another training: {message}"):
        config = ALONE.model_copy(update=recipe)
        retrain(SPACE.smallest, other(data), config, finished / "net", seed=seed, device=CPU)
    with pytest.raises(UserError, match=f"supernet holds another training: {message}"):
        config = SUPERNET.model_copy(update=recipe)
        train_supernet(SPACE, other(data), config, finished / "supernet", seed=seed, device=CPU)
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_another_architecture_space_teacher_or_beginning_is_another_training(data, finished):
    net = finished / "net"
    with pytest.raises(UserError, match=f"arch is {SPACE.smallest.id}, not {SPACE.largest.id}$"):
        retrain(SPACE.largest, data, ALONE, net, device=CPU)
    with pytest.raises(UserError, match=r"init is unknown, not [0-9a-f]{10}$"):
        retrain(SPACE.smallest, data, ALONE, net, device=CPU, init=finished / "supernet")
    with pytest.raises(UserError, match=r"teacher is unknown, not network:[0-9a-f]{10}$"):
        retrain(SPACE.smallest, data, ALONE, net, device=CPU, teacher=f"network:{net}")
    plus = space_for("digits-plus", 10, 1)
    with pytest.raises(UserError, match=f"space is {SPACE.id}, not {plus.id}$"):
        train_supernet(plus, data, SUPERNET, finished / "supernet", device=CPU)


def test_what_leaves_the_weights_as_they_are_may_change(data, finished):
    for changes in ({}, {"checkpoint_seconds": 3.0}, {"probes": 1}):
        metadata = retrain(SPACE.smallest, data, ALONE.model_copy(update=changes), finished / "net", device=CPU)
        assert metadata.config == ALONE.model_dump(mode="json")


def test_ids_are_of_what_they_stand_for(data, finished, tmp_path):
    """Equal trainings have equal ids, whatever time they took; the same card beside other weights has another."""
    first, again = finished / "supernet", tmp_path / "again"
    train_supernet(SPACE, data, SUPERNET, again, device=CPU)
    assert (first / "supernet.json").read_bytes() != (again / "supernet.json").read_bytes()
    assert supernet_id(first) == supernet_id(again) and weights_id(first) == weights_id(again)
    train_supernet(SPACE, data, SUPERNET, tmp_path / "other", seed=1, device=CPU)
    shutil.copy(tmp_path / "other/supernet.safetensors", again)
    assert supernet_id(first) != supernet_id(again) and weights_id(first) != weights_id(again)


def test_two_trainings_of_one_folder_are_not_at_work_at_once(data, tmp_path):
    with held(tmp_path / "net") as pid:
        with pytest.raises(UserError, match=f"net is in use by process {pid}"):
            retrain(SPACE.smallest, data, ALONE, tmp_path / "net", device=CPU)
        with pytest.raises(UserError, match=f"net is in use by process {pid}"):
            train_supernet(SPACE, data, SUPERNET, tmp_path / "net", device=CPU)
