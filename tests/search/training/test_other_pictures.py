"""Weights that were trained on other pictures: of other classes, or normalised otherwise."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ghostnet.arch import Arch
from ghostnet.files import weights_file
from ghostnet.weights import load_network
from search.api.costs import network_costs
from search.api.exporting import export_network, verify_export
from search.commands import export
from search.commands.retrain import _side
from search.data.datasets import load_data
from search.errors import UserError
from search.export.formats.embedded_metadata import embedded_in
from search.export.manifest import known_metadata
from search.recipes.schema import ParentTraining, Training
from search.training.inherited import inherited_accuracy
from search.training.known_images import known_images, other_classes
from search.training.records import TRAINED_FILE, read_trained
from search.training.retrain import retrain
from search.training.supernets import make_supernet
from search.training.teacher import load_teacher
from spaces import named_space

CPU = torch.device("cpu")
SPACE = replace(named_space("digits"), name="mine", widths=(0.25, 0.5), ratios=(1, 2))
ARCH = SPACE.uniform(0.5)
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FRUIT = ("apple", "pear", "plum", "fig", "lime", "date", "kiwi", "mango", "peach", "grape")
WEIGHTS = "weights.safetensors"
STILL = Training(epochs=0.1, batch_size=32, lr=1e-12, ema=0.0)


@pytest.fixture(scope="module")
def data():
    return replace(load_data("digits", 16, limit=160), classes=NAMES)


@pytest.fixture(scope="module")
def before(data, tmp_path_factory):
    """A network that was trained on `data`."""
    out = tmp_path_factory.mktemp("before")
    retrain(ARCH, data, Training(epochs=1, batch_size=32), out, device=CPU)
    return out


@pytest.fixture(scope="module")
def exported(before, tmp_path_factory):
    """What is kept of it: an export, and in it a folder for the Hub."""
    out = tmp_path_factory.mktemp("exported")
    export_network(before, out, ("safetensors", "hub"), timed=False)
    return out


@pytest.fixture(scope="module", params=("trained", "hub"))
def kept(request, before, exported):
    return {"trained": before, "hub": exported / "hub"}[request.param]


@pytest.fixture(scope="module")
def fruit(data):
    """As many classes, but others."""
    return replace(data, classes=FRUIT)


def head(folder):
    return load_file(weights_file(folder))["classifier.weight"]


def test_of_a_network_s_images_its_folder_its_export_and_its_hub_folder_say_the_same(before, exported):
    trained = read_trained(before / TRAINED_FILE)
    for folder in (before, exported, exported / "hub"):
        file = weights_file(folder)
        for known in (known_images(folder), known_images(file), known_metadata(folder, file)):
            assert (known.classes, known.mean, known.std) == (list(NAMES), trained.mean, trained.std)


def test_what_an_export_wrote_without_knowing_is_not_known(before, tmp_path):
    arch, weights = Arch.load(before / "arch.json"), tmp_path / "mine.safetensors"
    shutil.copy(before / WEIGHTS, weights)
    export_network(arch, tmp_path / "out", ("safetensors",), weights=weights, timed=False)
    known = known_images(tmp_path / "out")
    assert (known.classes, known.mean, known.std) == (None, None, None)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"mean": [0.1], "std": [0.0]}, "pretrained_cfg.std"),
        ({"mean": "0.1"}, "pretrained_cfg.mean"),
        ({"label_names": [1]}, "pretrained_cfg.label_names"),
    ],
)
def test_a_configuration_of_timm_s_that_breaks_a_rule_is_refused(exported, tmp_path, config, wrong):
    shutil.copytree(exported / "hub", tmp_path / "hub")
    (tmp_path / "hub/config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": config}))
    with pytest.raises(UserError, match=rf"config\.json: {wrong}"):
        known_images(tmp_path / "hub")


def test_another_program_s_configuration_says_nothing_of_a_network(exported, tmp_path):
    shutil.copytree(exported / "hub", tmp_path / "hub")
    (tmp_path / "hub/config.json").write_text('{"pretrained_cfg": 5}')
    assert known_images(tmp_path / "hub") is None


def test_a_normalisation_of_other_channels_is_refused(exported, data, tmp_path):
    shutil.copytree(exported / "hub", tmp_path / "hub")
    file = tmp_path / "hub/config.json"
    config = json.loads(file.read_text())
    config["pretrained_cfg"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"each of 1 channels, but the network was trained with \[0\.5, 0\.5, 0\.5\]"):
        load_teacher(f"network:{tmp_path / 'hub'}", data, CPU)


def test_an_export_has_the_classes_of_the_weights_it_was_trained_for(kept, data):
    costs = network_costs(kept)
    assert (costs.num_classes, costs.in_chs) == (data.num_classes, data.in_chs)


def test_classes_are_others_by_name_and_order_where_both_have_names(before, data):
    known = known_images(before)
    assert other_classes(known, data) is None and other_classes(None, data) is None
    assert other_classes(known, replace(data, classes=tuple(map(str, range(10))))) is None
    swapped = (*NAMES[:8], NAMES[9], NAMES[8])
    assert other_classes(known, replace(data, classes=swapped)) == (
        "has other classes than digits: from number 8 on eight, nine; not nine, eight"
    )


def test_of_weights_of_other_classes_the_classifier_is_not_taken(kept, before, data, fruit, tmp_path):
    for name, shown in (("same", data), ("others", fruit)):
        retrain(ARCH, shown, STILL, tmp_path / name, device=CPU, init=kept)
    stem = "conv_stem.weight"
    for name in ("same", "others"):
        np.testing.assert_allclose(
            load_file(tmp_path / name / WEIGHTS)[stem], load_file(before / WEIGHTS)[stem], atol=1e-6
        )
    np.testing.assert_allclose(head(tmp_path / "same"), head(before), atol=1e-6)
    assert np.abs(head(tmp_path / "others") - head(before)).max() > 0.01


def test_a_teacher_of_other_classes_is_refused(kept, fruit):
    with pytest.raises(
        UserError, match=r"^the teacher network:\S+ has other classes than digits: .* zero, .*not apple, "
    ):
        load_teacher(f"network:{kept}", fruit, CPU)


def test_a_teacher_of_timm_s_of_other_classes_is_refused(exported, data, fruit):
    name = f"timm:local-dir:{exported / 'hub'}"
    load_teacher(name, data, CPU)
    with pytest.raises(UserError, match=r"^the teacher timm:\S+ has other classes than digits: .* zero, .*not apple, "):
        load_teacher(name, fruit, CPU)


def test_a_parent_of_other_classes_gets_a_fresh_classifier_and_is_trained(kept, before, data, fruit, tmp_path):
    config = ParentTraining(**STILL.model_dump(), parent=str(kept), images=64)
    asis = make_supernet(SPACE, data, config, tmp_path / "same", device=CPU)
    assert asis.training.steps == 0 and np.array_equal(head(tmp_path / "same/parent"), head(before))
    with pytest.raises(UserError, match=r"^the supernet in \S+ has other classes than digits: .* zero, .*not apple, "):
        inherited_accuracy(tmp_path / "same", fruit)
    trained = make_supernet(SPACE, fruit, config, tmp_path / "others", device=CPU)
    assert trained.training.steps > 0 and np.abs(head(tmp_path / "others/parent") - head(before)).max() > 0.01


def test_a_teacher_is_shown_images_as_it_was_trained_on_them(kept, before, data):
    """The same pictures, whose normalisation is another data set's."""
    otherwise = replace(data, mean=(0.5,), std=(0.9,))
    net, pictures = load_network(ARCH, before / WEIGHTS).eval(), data.test.images[:20]
    with torch.no_grad():
        expected = net(data.normalise(pictures))
        assert (net(otherwise.normalise(pictures)) - expected).abs().max() > 0.01
    answers = load_teacher(f"network:{kept}", otherwise, CPU)(otherwise.normalise(pictures))
    torch.testing.assert_close(answers, expected, rtol=1e-3, atol=1e-3)


def test_a_parent_that_is_taken_as_it_is_though_images_are_normalised_otherwise_is_doubted(kept, data, tmp_path):
    config = ParentTraining(**STILL.model_dump(), parent=str(kept), images=64)
    for name, mean, std, doubted in (
        ("same", data.mean, data.std, False),
        ("nearly", (data.mean[0] + 0.01,), data.std, False),
        ("brighter", (data.mean[0] + 0.5 * data.std[0],), data.std, True),
        ("flatter", data.mean, (0.5 * data.std[0],), True),
    ):
        made = make_supernet(SPACE, replace(data, mean=mean, std=std), config, tmp_path / name, device=CPU)
        found = [each for each in made.warnings if "as the data has them: `tune = true` adapts it" in each]
        assert bool(found) == doubted, name


def test_images_are_loaded_as_for_the_supernet_that_a_network_begins_with(data, before, tmp_path):
    """A run loads them at its space's largest side; the command that its page gives did so at the network's own."""
    space = replace(SPACE, resolutions=(8, 16))
    config = ParentTraining(**STILL.model_dump(), parent=str(before), images=64)
    make_supernet(space, data, config, tmp_path, device=CPU)
    small = replace(ARCH, resolution=8)
    assert _side(["digits:0.5x"], [small], None, None) == 8
    assert _side(["digits:0.5x"], [small], tmp_path, None) == 16
    assert _side(["digits:0.5x"], [small], None, f"supernet:{tmp_path}") == 16
    assert _side([str(before)], [small], before, f"network:{before}") == _side([], [small], None, "timm:x") == 8


def test_what_part_of_an_image_a_network_was_shown_is_known_of_its_export(tmp_path):
    """Loaded at 96 pixels, as beside a network of that side: of each image the middle."""
    large = load_data("digits", 96, limit=60)
    trained = retrain(ARCH, large, Training(epochs=0.1, batch_size=16), tmp_path / "net", device=CPU)
    assert (trained.resolution, trained.loaded_at) == (16, 96)
    manifest = export_network(tmp_path / "net", tmp_path / "out", ("safetensors", "onnx", "hub"), timed=False)
    assert embedded_in(tmp_path / "out/model.onnx")["loaded_at"] == "96"
    assert "| images | loaded at 96 x 96" in (tmp_path / "out/hub/README.md").read_text()
    assert (manifest.loaded_at, manifest.crop_pct, manifest.interpolation) == (96, 0.875, "bilinear")
    for config in (tmp_path / "out/config.json", tmp_path / "out/hub/config.json"):
        assert json.loads(config.read_text())["pretrained_cfg"]["crop_pct"] == 0.875
    verify_export(tmp_path / "out")
    assert (
        _side([str(tmp_path / "net")], [ARCH], None, None)
        == _side([str(tmp_path / "net/arch.json")], [ARCH], None, None)
        == 96
    )
    short = Training(epochs=0.1, batch_size=16)
    for other in (load_data("digits", 16, limit=60), load_data("digits", 32, limit=60)):
        with pytest.raises(UserError, match=r"net holds another training: loaded_at is 96, not (unknown|32)"):
            retrain(ARCH, other, short, tmp_path / "net", device=CPU)
    file = tmp_path / "net" / TRAINED_FILE
    recorded = json.loads(file.read_text())
    assert recorded["identity"].pop("loaded_at") == 96  # as files of earlier versions are
    file.write_text(json.dumps(recorded))
    assert retrain(ARCH, large, short, tmp_path / "net", device=CPU) == trained
    there = str(tmp_path / "out")
    assert _side([there], [ARCH], None, None) == _side([], [ARCH], tmp_path / "out", None) == 96
    assert _side([], [ARCH], None, f"network:{there}") == _side([], [ARCH], tmp_path / "net" / WEIGHTS, None) == 96
    for place in ("net", "out"):
        shown = export._images(None, tmp_path / place / WEIGHTS, 16, must=True)
        assert shown.test.resolution == 96 and torch.equal(shown.test.images, load_data("digits", 96).test.images)
