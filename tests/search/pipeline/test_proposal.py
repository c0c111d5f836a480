"""Proposed recipes: they load, their budget is inside their space, and what no space has is refused in a line."""

from dataclasses import replace
from pathlib import Path

import pytest

from ghostnet.cost import cost
from ghostnet.network import GhostNet
from ghostnet.published import published
from ghostnet.weights import to_bytes
from search.api.proposing import propose_recipe
from search.data.survey import Survey
from search.export.timm_config import timm_config
from search.files import write_bytes, write_json, write_text
from search.pipeline.proposal import LADDER, Proposal, fitting_space, propose, proposed_side
from search.pipeline.run import check
from search.recipes.schema import ParentTraining, parse_recipe
from search.training.supernets import check_parent, given_parent
from spaces.errors import SpaceError
from spaces.presets import PRESETS
from spaces.quantities import Window, format_count
from spaces.tables import macs_table
from tests.search.data.test_datasets import image_folder


def seen(name: str, classes: int = 4, images: int = 50, **changes: object) -> Survey:
    values: dict = {
        "name": name,
        "classes": tuple(f"class {k}" for k in range(classes)),
        "train": (images,) * classes,
        "test": (images // 4,) * classes,
        "heights": (50, 60, 70),
        "widths": (90, 55, 80),
        "grey": 1,
        "unreadable": {},
    }
    return Survey(**(values | changes))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'a "quoted" name'
    for part in ("train", "test"):
        for label in range(4):
            (folder / part / f"class {label}").mkdir(parents=True)
    return f"imagefolder:{folder}"


@pytest.mark.parametrize(
    ("side", "budget"), [(224, "141M"), (96, "30M"), (96, "20M..30M"), (48, "5M"), (32, None), (16, "400k"), (10, None)]
)
def test_a_proposed_recipe_is_one_that_a_run_takes(side, budget, pictures):
    recipe = parse_recipe(propose(seen(pictures), side, budget), "mine")
    check(recipe)
    space, window = recipe.search_space, Window.parse(recipe.search.flops_budget)
    table = macs_table(space)
    low, high = (table.total(table.extreme(largest))[0] for largest in (False, True))
    assert low <= window.high < high and space.resolution == side and space.num_classes == 4
    for width in recipe.retrain.baseline_widths:
        assert window.holds(cost(space.uniform(width), 4, 3).macs) or window.low
    assert isinstance(recipe.supernet, ParentTraining) and recipe.data == pictures


def test_trainings_go_by_the_images_that_are_left_to_train_on():
    """Of 14,000 no more than 2500 are held out to search by, and 1400 for norms: 10,100 are left, not seven tenths."""
    assert seen("imagefolder:x", 4, 3500).left_to_train == 10_100
    epochs = {
        images: parse_recipe(propose(seen("imagefolder:x", 4, images), 48, "8M"), "mine").supernet.epochs
        for images in (3000, 3500, 4000)
    }
    assert epochs[3000] > epochs[3500] == epochs[4000]


def test_below_every_ghostnet_the_narrowest_is_compared_with():
    recipe = parse_recipe(propose(seen("imagefolder:x"), 48, "2M"), "mine")
    narrow, *_ = recipe.search_space.widths
    assert list(recipe.retrain.baseline_widths) == [narrow] == [0.25]
    macs = cost(recipe.search_space.uniform(narrow), 4, 3).macs
    assert macs > 2e6
    (warning,) = Proposal(Path("mine.toml"), recipe, seen("imagefolder:x"), 48).warnings
    assert warning.startswith(f"the narrowest GhostNet of 48 pixels has {format_count(macs)} multiply-adds, above the ")
    roomy = parse_recipe(propose(seen("imagefolder:x"), 48, "4M"), "mine")
    assert Proposal(Path("mine.toml"), roomy, seen("imagefolder:x"), 48).warnings == []


def test_the_widest_ghostnet_inside_the_budget_has_neighbours_on_both_sides():
    fit = fitting_space(96, 10, Window.parse("30M"))
    assert fit.within[-1] in fit.space.widths[1:-1]
    above = fit.space.widths[fit.space.widths.index(fit.within[-1]) + 1]
    assert cost(fit.space.uniform(fit.within[-1]), 10, 3).macs <= 30e6 < cost(fit.space.uniform(above), 10, 3).macs


@pytest.mark.parametrize(
    ("budget", "words"), [("100k", "the nearest feasible one"), ("90G", "leaves no network .* out")]
)
def test_a_budget_out_of_reach_names_the_nearest(budget, words):
    with pytest.raises(SpaceError, match=words) as error:
        propose(seen("imagefolder:x"), 96, budget)
    assert "\n" not in str(error.value)


def test_few_images_are_trained_as_long_as_they_need():
    few, many = (parse_recipe(propose(seen("imagefolder:x", images=n), 96, "30M"), "mine") for n in (40, 20_000))
    assert few.retrain.steps(per_epoch=7) == few.retrain.min_steps >= 500
    assert many.retrain.steps(per_epoch=875) == many.retrain.epochs * 875
    assert few.supernet.batch_size < many.supernet.batch_size
    assert few.retrain.cutmix and not many.retrain.cutmix
    assert not few.supernet.cutmix  # a teacher answers for what is mixed


@pytest.mark.parametrize("width", [0.35, 0.75, 1.3])
def test_a_space_lies_around_its_parents_width_and_the_budget_is_the_parents(width):
    """One of half the width was once asked for networks of ten times its multiply-adds."""
    parent = replace(PRESETS["cifar"], widths=LADDER).uniform(width)
    text = propose(seen("x"), 32, None, "parent", parent)
    recipe = parse_recipe(text, "mine")
    widths = recipe.search_space.widths
    assert width in widths and max(widths) <= 1.5 * width and min(widths) < width
    macs = cost(replace(parent, resolution=32), len(seen("x").classes), 3).macs
    (window,) = recipe.windows["macs"].values()
    assert macs <= window.high <= 1.03 * macs and f"# the parent has {format_count(macs)}" in text
    assert max(recipe.retrain.baseline_widths) == width
    asked, plain = (propose(seen("x"), 32, "12M", *own) for own in (("parent", parent), ()))
    assert parse_recipe(asked, "mine").search_space.widths == parse_recipe(plain, "mine").search_space.widths


@pytest.mark.parametrize("width", [0.1, 3.0])
def test_a_parent_beyond_what_is_proposed_wants_a_budget(width):
    parent = replace(PRESETS["imagenet"], widths=(width,)).uniform(width)
    with pytest.raises(SpaceError, match=r"^the parent has .* at 64 pixels, .* as with --flops-budget$"):
        propose(seen("x"), 64, None, "parent", parent)
    assert parse_recipe(propose(seen("x"), 64, "12M", "parent", parent), "mine").search.flops_budget == "12M"


def test_a_given_parent_is_trained_for_less_long_and_its_stem_decides_the_rows():
    text = propose(seen("imagefolder:x"), 64, None, "ghostnet_1x.pth", published("ghostnet-1.0"))
    recipe = parse_recipe(text, "mine")
    fresh = parse_recipe(propose(seen("imagefolder:x"), 64, None), "mine")
    assert recipe.supernet.parent == "ghostnet_1x.pth" and recipe.supernet.tune
    assert recipe.supernet.min_steps < fresh.supernet.min_steps and fresh.supernet.parent is None
    assert (recipe.search_space.stem_stride, fresh.search_space.stem_stride) == (2, 1)


@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet", "digits-plus"])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_a_proposed_space_is_one_that_its_parent_fits(name, stem_stride):
    """Also a GhostNet of fewer rows than the pictures would get, or of another stem."""
    parent = replace(PRESETS[name], stem_stride=stem_stride, head_chs=stem_stride * 100).uniform(1.0)
    space = parse_recipe(propose(seen("x"), 64, None, "parent", parent), "mine").search_space
    check_parent(replace(parent, resolution=64), space, "parent")
    assert space.resolution == 64 and space.num_classes == 4


@pytest.mark.parametrize("name", ["mine/hub", "timm:local-dir:mine/hub"])
def test_a_folder_for_the_hub_may_be_the_parent_and_is_named_by_its_whole_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arch, hub = PRESETS["cifar"].uniform(0.5), Path("mine/hub")
    net = GhostNet(arch, 2, 3)
    write_bytes(hub / "model.safetensors", to_bytes(net))
    write_json(hub / "config.json", timm_config(net))
    write_text(hub / "arch.json", arch.to_json())
    recipe = propose_recipe(str(image_folder(tmp_path / "pictures", train=30, test=4)), size=32, parent=name).recipe
    assert isinstance(recipe.supernet, ParentTraining)
    assert recipe.supernet.parent == name.replace("mine", str(tmp_path / "mine"))
    assert given_parent(recipe.search_space, recipe.supernet).arch == arch


def test_a_parent_whose_stages_no_preset_has_is_refused():
    parent = PRESETS["digits"].uniform(1.0)
    with pytest.raises(SpaceError, match=r"strides \[1, 2\], as no preset has"):
        propose(seen("x"), 64, None, "parent", replace(parent, stages=parent.stages[:2]))


def test_the_proposed_side_is_no_larger_than_most_pictures():
    assert [proposed_side(side) for side in (9, 32, 95, 96, 500)] == [16, 32, 64, 96, 224]
    result = seen("x")
    assert result.shorter_sides == (50, 55, 70) and result.channels == "grey and colour"
    assert (replace(result, grey=0).channels, replace(result, grey=3).channels) == ("colour", "grey")
