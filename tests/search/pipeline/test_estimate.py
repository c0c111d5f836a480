"""What a run will take: counts are those of the training loop and of the splits, and nothing is written."""

import pytest
import torch

from search.data.datasets import load_data, split_sizes
from search.pipeline.estimate import estimate, to_dict
from search.recipes.schema import Recipe, parse_recipe
from tests.search.data.test_datasets import image_folder, parquet_folder

RECIPE = """
data = "digits"
threads = 1
train_images = 200
[space]
base = "digits"
widths = [0.25, 0.5]
[supernet]
kind = "{kind}"
epochs = 2
batch_size = 32
[latency]
minutes = 3
[search]
flops_budget = "250k"
trials = 20
[retrain]
epochs = 1
min_steps = 25
batch_size = 32
chosen = 2
baseline_widths = [0.25]
seeds = 2
"""


def recipe(kind: str = "transplant", more: str = "") -> Recipe:
    return parse_recipe(RECIPE.format(kind=kind) + more, "mine")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["transplant", "elastic"])
def test_every_stage_is_counted(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {each.stage: each for each in estimate(recipe(kind, "[fidelity]\nspread = 8\n"))}
    assert list(stages) == ["train", "calibrate", "fidelity", "search", "retrain", "export", "report"]
    assert (stages["train"].steps, stages["train"].images) == (2 * (200 // 32), 2 * 6 * 32)
    assert (stages["retrain"].networks, stages["retrain"].steps) == ((2 + 1) * 2, 6 * 25)
    assert (stages["fidelity"].networks, stages["fidelity"].steps) == (8, 8 * 25)
    assert (stages["search"].networks, stages["search"].images) == (20, 20 * 287)
    assert stages["calibrate"].minutes == 3 and all(each.minutes > 0 for each in stages.values())
    total = to_dict(list(stages.values()))["total"]
    assert total["steps"] == 12 + 200 + 150 and total["memory"] == max(each.memory for each in stages.values())
    assert not list(tmp_path.iterdir())


def test_sizes_are_those_of_the_loaded_splits(tmp_path):
    image_folder(tmp_path / "pictures", **{".": 40})
    parquet_folder(tmp_path / "table")
    for name in ("digits", f"imagefolder:{tmp_path / 'pictures'}?test=0.2", f"parquet:{tmp_path / 'table'}"):
        data, sizes = load_data(name, 8), split_sizes(name)
        splits = [data.train, data.calibration, data.search, data.test]
        assert [sizes.train, sizes.calibration, sizes.search, sizes.test] == list(map(len, splits))
        assert (sizes.num_classes, sizes.in_chs) == (data.num_classes, data.in_chs)
    assert split_sizes("digits", 100).train == 100 and split_sizes("cifar10").train == 45_000
