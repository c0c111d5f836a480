"""Transplanted supernets: the parent comes in or is trained, networks fitted to it are the same wherever they are asked
for, and full trainings begin with them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ghostnet import GhostNet, weights
from search.data.datasets import load_data
from search.errors import UserError
from search.pipeline.run import check
from search.pipeline.search_stage import parent_warnings
from search.recipes.schema import ParentTraining, SupernetTraining, Training, parse_recipe
from search.training.evaluate import accuracy
from search.training.inherited import fitting_images, inherited_accuracy, read_parent
from search.training.metadata import read_metadata, space_for
from search.training.retrain import retrain
from search.training.supernets import make_supernet, widest
from spaces import named_space
from tests.search.command_line import ghostnas

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
SHORT = ParentTraining(epochs=4, batch_size=32, lr=0.1, images=128)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=400)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("transplanted") / "supernet"
    make_supernet(SPACE, data, SHORT, out, device=CPU)
    return out


def test_the_parent_is_the_widest_ghostnet_of_the_space_and_comes_out_as_it_is(folder, data):
    metadata, space = read_metadata(folder)
    assert space == SPACE and metadata.kind == "transplant" and metadata.parent.arch == SPACE.uniform(1.0).id
    supernet, parent = inherited_accuracy(folder, data).supernet, read_parent(folder)
    again = supernet.extract(parent.arch)
    images = next(iter(data.batches(data.search)))[0]
    torch.testing.assert_close(again(images), parent(images), rtol=0, atol=5e-3)  # float32; 1e-10 in float64
    assert metadata.parent.test_accuracy == accuracy(parent, data, data.test, parent.arch.resolution)


def test_networks_are_fitted_alike_wherever_they_are_asked_for(folder, data):
    arch = SPACE.smallest
    first = inherited_accuracy(folder, data).supernet.extract(arch).state_dict()
    again = (
        inherited_accuracy(folder, replace(data)).supernet.extract(arch).state_dict()
    )  # another process has data of its own
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert inherited_accuracy(folder, data)(arch) > 0.2, "chance is 0.1"


def test_a_parent_whose_weights_were_changed_is_refused(folder, data, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "parent/weights.safetensors"
    save_file({name: value * 0 for name, value in load_file(file).items()}, file)
    with pytest.raises(UserError, match=r"parent/weights\.safetensors was changed: trained\.json beside it is of"):
        inherited_accuracy(copy, data).network(SPACE.smallest)


def test_a_given_parent_is_taken_as_it_is_or_tuned(folder, data, tmp_path):
    given = str(folder / "parent")
    metadata = make_supernet(SPACE, data, SHORT.model_copy(update={"parent": given}), tmp_path / "as-is", device=CPU)
    assert metadata.training.steps == 0 and metadata.parent.origin == given
    ours, theirs = read_parent(tmp_path / "as-is").state_dict(), read_parent(folder).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    tuned = SHORT.model_copy(update={"parent": given, "tune": True, "epochs": 0.1})
    assert make_supernet(SPACE, data, tuned, tmp_path / "tuned", device=CPU).training.steps > 0
    spoilt = make_supernet(SPACE, data, tuned.model_copy(update={"lr": 3.0}), tmp_path / "spoilt", device=CPU)
    assert any("took the given network from" in doubt for doubt in spoilt.warnings)


def test_a_parent_of_other_classes_gets_a_new_head_and_is_trained(data, tmp_path):
    other = GhostNet(widest(SPACE), num_classes=7, in_chs=3)
    weights.save_weights(other, tmp_path / "other.safetensors")
    (tmp_path / "net").mkdir()
    (tmp_path / "net/arch.json").write_text(other.arch.to_json())
    (tmp_path / "other.safetensors").rename(tmp_path / "net/weights.safetensors")
    config = SHORT.model_copy(update={"parent": str(tmp_path / "net"), "epochs": 0.1})
    metadata = make_supernet(SPACE, data, config, tmp_path / "out", device=CPU)
    assert metadata.training.steps > 0
    assert (read_parent(tmp_path / "out").num_classes, read_parent(tmp_path / "out").in_chs) == (10, 1)


def test_a_parent_that_knows_the_searchs_images_is_warned_of(folder, data, tmp_path):
    """One that a run trained after its search, on what that held out, too."""
    seen = tmp_path / "seen"
    retrain(widest(SPACE), data, Training(epochs=1, batch_size=32, use_held_out=True), seen, device=CPU, init=folder)
    for place, whose in ((seen, data), (seen, load_data("digits", 16, limit=300)), (folder / "parent", data)):
        config = SHORT.model_copy(update={"parent": str(place), "tune": False})
        make_supernet(SPACE, whose, config, tmp_path / "net", device=CPU)
        expected = place == seen  # the same data set, of which fewer are taken
        assert read_metadata(tmp_path / "net")[0].parent.saw_search_images == expected
        assert [
            each.startswith("the parent was trained on the images") for each in parent_warnings(tmp_path / "net")
        ] == ([True] if expected else [])
        shutil.rmtree(tmp_path / "net")


def test_a_resume_with_another_parent_leaves_what_was_begun(folder, data, tmp_path):
    other = tmp_path / "other"
    retrain(widest(SPACE), data, Training(epochs=0.2, batch_size=32), other, device=CPU)
    config = SHORT.model_copy(update={"parent": str(folder / "parent"), "tune": True})
    make_supernet(SPACE, data, config, tmp_path / "out", device=CPU)
    given = tmp_path / "out/parent/given/weights.safetensors"
    begun = given.read_bytes()
    (tmp_path / "out/supernet.json").unlink()
    (tmp_path / "out/parent/trained.json").unlink()
    (tmp_path / "out/parent/checkpoint.pt").touch()  # as where it was killed
    with pytest.raises(
        UserError, match=r"holds a training that began with .*given, which .*other is not: give another folder"
    ):
        make_supernet(SPACE, data, config.model_copy(update={"parent": str(other)}), tmp_path / "out", device=CPU)
    assert given.read_bytes() == begun


@pytest.mark.parametrize("what", ["head_chs", "strides inside stages"])
def test_a_parent_of_another_head_or_other_strides_is_refused_before_anything_is_written(what, data, tmp_path):
    arch = widest(SPACE)
    first, (block, *_), *rest = arch.stages
    twice = (replace(block, stride=2), replace(block, stride=2))
    other = replace(arch, head_chs=12) if what == "head_chs" else replace(arch, stages=(first, twice, *rest))
    (tmp_path / "net").mkdir()
    (tmp_path / "net/arch.json").write_text(other.to_json())
    weights.save_weights(GhostNet(other, 10, 1), tmp_path / "net/weights.safetensors")
    config = SHORT.model_copy(update={"parent": str(tmp_path / "net")})
    with pytest.raises(UserError, match=f"can't be the parent of space digits: {what}"):
        make_supernet(SPACE, data, config, tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


def test_a_space_that_no_parent_can_be_fitted_to_is_refused_before_anything_is_trained(data, tmp_path):
    rows = [[[3, 12, 10, 0, 1], [3, 20, 10, 0.25, 2]], [[3, 18, 14, 0, 2]]]
    told = r"rows\[0\]\[1\] of space .* has stride 2: kind = 'elastic' takes it"
    parts = ['data = "digits"', f'[space]\nbase = "digits"\nrows = {rows}', '[supernet]\nepochs = 1\nkind = "KIND"']
    text = "\n".join([*parts, '[search]\nflops_budget = "1G"', "[retrain]\nepochs = 1"])
    fitted, elastic = (parse_recipe(text.replace("KIND", kind), "mine") for kind in ("transplant", "elastic"))
    check(elastic)
    with pytest.raises(UserError, match=told):
        check(fitted)
    with pytest.raises(UserError, match=told):
        make_supernet(fitted.search_space, data, SHORT, tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


def test_of_a_parent_of_other_classes_the_classifier_alone_may_be_trained(data, folder, tmp_path):
    theirs = read_parent(folder)
    other = GhostNet(theirs.arch, num_classes=7, in_chs=1)
    other.load_state_dict({k: v for k, v in theirs.state_dict().items() if "classifier" not in k}, strict=False)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/arch.json").write_text(other.arch.to_json())
    weights.save_weights(other, tmp_path / "net/weights.safetensors")
    head = SHORT.model_copy(update={"tune": "head", "epochs": 2.0})
    with pytest.raises(UserError, match="goes with `parent`"):
        make_supernet(SPACE, data, head, tmp_path / "none", device=CPU)
    assert not (tmp_path / "none").exists()
    given = head.model_copy(update={"parent": str(tmp_path / "net")})
    metadata = make_supernet(SPACE, data, given, tmp_path / "out", device=CPU)
    ours = read_parent(tmp_path / "out").state_dict()
    changed = {key for key, value in theirs.state_dict().items() if not torch.equal(ours[key], value)}
    assert changed == {"classifier.weight", "classifier.bias"}, "norms included, whose statistics stay, too"
    assert metadata.parent.test_accuracy > 0.5, "chance is 0.1; features of the same digits"


def test_a_parent_that_saw_larger_images_is_shown_those_of_the_space(data, tmp_path):
    """As a published GhostNet, whose checkpoint doesn't say what it was shown."""
    parent = GhostNet(replace(SPACE.uniform(0.5), resolution=24), 10, 1)
    (tmp_path / "given").mkdir()
    (tmp_path / "given/arch.json").write_text(parent.arch.to_json())
    weights.save_weights(parent, tmp_path / "given/weights.safetensors")
    config = SHORT.model_copy(update={"parent": str(tmp_path / "given"), "tune": True, "epochs": 0.5})
    metadata = make_supernet(SPACE, data, config, tmp_path / "out", device=CPU)
    assert read_parent(tmp_path / "out").arch == SPACE.uniform(0.5)
    assert metadata.parent.arch == SPACE.uniform(0.5).id


def test_a_parent_of_another_shape_is_refused_before_anything_is_written(data, tmp_path):
    net = GhostNet(named_space("cifar").uniform(0.5), num_classes=10, in_chs=1)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/arch.json").write_text(net.arch.to_json())
    weights.save_weights(net, tmp_path / "net/weights.safetensors")
    with pytest.raises(UserError, match="can't be the parent of space digits"):
        make_supernet(
            SPACE, data, SHORT.model_copy(update={"parent": str(tmp_path / "net")}), tmp_path / "o", device=CPU
        )
    assert not (tmp_path / "o").exists()


def test_a_full_training_begins_as_its_transplant(folder, data, tmp_path):
    arch, config = SPACE.smallest, Training(epochs=0.0001, batch_size=32, lr=1e-9, warmup_epochs=0)
    retrain(arch, data, config, tmp_path / "net", device=CPU, init=folder, teacher=f"supernet:{folder}")
    trained = weights.load_network(arch, tmp_path / "net/weights.safetensors").state_dict()
    begun = inherited_accuracy(folder, data).supernet.extract(arch).state_dict()
    for key, value in begun.items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(trained[key], value, rtol=0, atol=1e-6)


def test_a_recipe_says_which_kind(tmp_path):
    text = 'data = "digits"\nspace = "digits"\nsearch = { flops_budget = "650k" }\n[retrain]\nepochs = 1\n[supernet]\n'
    assert isinstance(parse_recipe(text + "epochs = 1\nrandom = 1\n", "old").supernet, SupernetTraining)
    assert isinstance(parse_recipe(text + 'kind = "transplant"\nepochs = 1\n', "new").supernet, ParentTraining)
    with pytest.raises(UserError, match=r"supernet.*random"):
        parse_recipe(text + 'kind = "transplant"\nepochs = 1\nrandom = 1\n', "mixed")
    with pytest.raises(UserError, match="kind"):
        parse_recipe(text + 'kind = "shared"\nepochs = 1\n', "neither")


def test_train_and_retrain_on_the_command_line(folder, tmp_path):
    for arguments, message in (
        (["--kind", "shared"], "kind is transplant or elastic"),
        (["--kind", "elastic", "--init", "x"], "--kind transplant"),
        (["--kind", "transplant", "--init", "none.pth"], "none.pth"),
    ):
        done = ghostnas("train", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / "results").exists()
    done = ghostnas(
        "train", "--kind", "transplant", "--init", str(folder / "parent"), "--epochs", "3", "--lr", "0.01",
        "--out", "net", "--json", cwd=tmp_path,
    )  # fmt: skip
    metadata = json.loads(done.stdout)
    assert metadata["parent"]["from"] == str(folder / "parent"), done.stderr
    assert (metadata["config"]["epochs"], metadata["config"]["lr"]) == (3.0, 0.01)
    done = ghostnas(
        "retrain", "digits:0.25x", "--init", "net", "--epochs", "1", "--out", "tuned", "--json", cwd=tmp_path
    )
    metadata = json.loads(done.stdout)
    assert metadata["teacher"] == "supernet:net" and metadata["init"] == str(tmp_path / "net")


def test_layers_are_fitted_on_several_views_of_few_images(data):
    config = SHORT.changed(crop="resized", crop_scale=0.5)
    few = len(data.train)
    once, often = fitting_images(data, few, config), fitting_images(data, 3 * few, config)
    assert len(often) == 3 * few
    whole_batches = few - few % 250  # augmented together, by a seed of their own
    assert torch.equal(often[:whole_batches], once[:whole_batches]), "more views leave the first ones as they were"
    assert len(often.flatten(1).unique(dim=0)) > 2.9 * few, "each view is another"
    still = fitting_images(data, 3 * few, SHORT.changed(crop="none"))
    seen = still.flatten(1).unique(dim=0, return_counts=True)[1]
    assert (seen % 3 == 0).all() and len(seen) > 0.9 * few, "every image is seen equally often"


def test_each_view_of_few_pictures_in_files_is_another(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(100):
        path = tmp_path / ("train" if k < 80 else "test") / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(48, 48, 3), dtype=np.uint8)).save(path)
    views = fitting_images(load_data(f"imagefolder:{tmp_path}", 32), 500, SHORT.changed(crop="resized", flip=False))
    assert len(views.flatten(1).unique(dim=0)) == len(views) == 500


@pytest.mark.parametrize("images", [0, 4 * 10**18])
def test_a_strangers_number_of_images_is_bounded(images, folder, data, tmp_path):
    shutil.copytree(folder, tmp_path / "stranger")
    metadata = json.loads((folder / "supernet.json").read_text())
    (tmp_path / "stranger/supernet.json").write_text(json.dumps(metadata | {"images": images}))
    with pytest.raises(UserError, match=rf"supernet\.json: images: .* but got {images}$"):
        inherited_accuracy(tmp_path / "stranger", data)
    with pytest.raises(UserError, match="images"):
        SHORT.changed(images=images)
