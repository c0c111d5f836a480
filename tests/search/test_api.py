"""The Python API: listed without loading anything, and whole in ten lines; mypy reads `own_code.py`."""

import ast
import inspect
import math
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ghostnet
import search
from search.accuracy.ghostbench import load_ghostbench
from search.errors import UserError
from search.files import JsonLines
from spaces import named_space
from tests.search.data.test_datasets import image_folder
from tests.search.own_code import Stripes, depth, efficiency, hashed

ROOT = Path(__file__).parent.parent.parent


def documented() -> str:
    """The lines of `help(search)`."""
    doc = search.__doc__ or ""
    return "\n".join(line[4:] for line in doc.splitlines() if line.startswith("    "))


def test_the_documented_lines_do_all_of_it(tmp_path, monkeypatch):
    """As they stand in `help(search)`, but smaller and with an objective and an evaluator of one's own."""
    lines = documented()
    assert len([line for line in lines.splitlines() if line and not line.startswith(" ")]) <= 10
    for message, here in {
        '"cifar"': '"digits"',
        '"mine/supernet")\nsearch.cal': '"mine/supernet", epochs=1)\nsearch.cal',
        '"mine/latency/table.lat.json")\nfound': (
            '"mine/latency/table.lat.json", minutes=0.01, fit_networks=8, held_out=8)\nfound'
        ),
        'flops_budget="40M"': (
            'flops_budget="2M", objectives=["accuracy", "latency_ms", depth, efficiency], evaluate=hashed, trials=8, '
            "population=6"
        ),
        'init="mine/supernet"': 'init="mine/supernet", epochs=1',
        "data=data)\nsearch.write": "data=data, timed=False)\nsearch.write",
    }.items():
        assert message in lines, message
        lines = lines.replace(message, here)
    monkeypatch.chdir(tmp_path)
    own = {"train": Stripes(120, 0), "test": Stripes(40, 1), "depth": depth, "efficiency": efficiency, "hashed": hashed}
    exec(lines, own)
    header, *rows = JsonLines(Path("mine/search/trials.jsonl"))
    assert header["objectives"] == ["accuracy", "latency_ms", "depth", "efficiency"] and header["evaluator"] == "hashed"
    result = own["found"]
    complete = [row for row in rows if row["state"] == "complete"]
    assert len(complete) == 8
    trials = {trial.number: trial for trial in result.trials}
    for row in complete:
        arch = result.arch(trials[row["number"]])
        assert arch == result.arch(row["arch"])
        assert row["accuracy"] == hashed(arch)["accuracy"] and row["depth"] == len(arch.blocks)
        assert row["efficiency"] == row["accuracy"] / row["macs"]
    for a in result.front:  # no other is as good in all and better in one
        for b in complete:
            better = [b["accuracy"] - a["accuracy"], a["latency_ms"] - b["latency_ms"], a["depth"] - b["depth"]]
            better.append(b["efficiency"] - a["efficiency"])
            assert min(better) < 0 or max(better) == 0
    page = Path("mine/report/report.html").read_text()
    assert (
        "stripes" not in page
        and "GhostNAS: mine" in page
        and "Fully trained" in page
        and "Reproducing the run" not in page
    )
    assert search.verify_export("mine/export/A").files.keys() == {"model.onnx", "weights.safetensors"}
    assert {file.stem for file in Path("mine/search/front").iterdir()} == {trial.arch for trial in result.front}


def test_it_is_listed_before_anything_is_loaded():
    code = "import search, sys; print(*dir(search)); print({'torch', 'numpy', 'pydantic'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names, loaded = done.stdout.splitlines()
    assert set(search.__all__) <= set(names.split()) and loaded == "set()"


def test_the_command_line_knows_its_options_without_numpy_or_pydantic():
    code = "import search.cli, sys; print({'torch', 'numpy', 'pydantic', 'importlib.metadata'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_name_is_there_and_says_what_it_does():
    homes = [name for names in search._HOMES.values() for name in names.split()]
    assert sorted([*homes, "__version__"]) == sorted(search.__all__)
    for name in homes:
        value = getattr(search, name)
        assert value.__doc__ and value.__doc__.strip(), name
    assert isinstance(search.__version__, str)
    with pytest.raises(AttributeError, match="has no attribute 'train_everything'"):
        _ = search.train_everything


def public_functions():
    """Those of the packages and the methods of their classes, by name; and what reads GhostBench."""
    for module in (search, ghostnet):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield name, value
            elif inspect.isclass(value) and value.__module__.startswith(("search", "ghostnet", "spaces")):
                members = ((each, getattr(value, each)) for each in vars(value) if not each.startswith("_"))
                yield from ((f"{name}.{each}", member) for each, member in members if callable(member))
    yield "load_ghostbench", load_ghostbench


def test_files_and_folders_are_given_as_text_or_as_paths():
    places, refused = 0, []
    for name, function in public_functions():
        for parameter in inspect.signature(function).parameters.values():
            kinds = [parameter.annotation, *typing.get_args(parameter.annotation)]
            places += Path in kinds
            refused += [f"{name}({parameter.name})"] * (Path in kinds and str not in kinds)
    assert places > 20 and not refused


COMMANDS = sorted(
    path for path in (ROOT / "search" / "commands").glob("*.py") if path.stem not in ("__init__", "shared")
)


@pytest.mark.parametrize("file", COMMANDS, ids=lambda path: path.stem)
def test_every_command_is_a_function_of_the_api(file):
    """What is typed and what is called from a notebook is the same."""
    tree = ast.parse(file.read_text())
    calls = [
        node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    called = {call.attr for call in calls if isinstance(call.value, ast.Name) and call.value.id == "api"}
    assert called - {"load_data", "load_space"} and called <= set(search.__all__), called


def pairs(images, labels):
    return list(zip(images, labels, strict=True))


def test_images_of_every_kind_are_the_same_data():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    labels = [k % 3 for k in range(60)]
    kinds = {
        "array": list(pixels),
        "Pillow": [Image.fromarray(each) for each in pixels],
        "uint8": [torch.from_numpy(each).permute(2, 0, 1) for each in pixels],
        "float": [torch.from_numpy(each).permute(2, 0, 1) / 255 for each in pixels],
    }
    read = {
        kind: search.from_datasets(pairs(x[:50], labels[:50]), pairs(x[50:], labels[50:])) for kind, x in kinds.items()
    }
    first = read["array"]
    assert first.in_chs == 3 and first.classes == ("0", "1", "2") and len(first.test) == 10
    test = torch.from_numpy(pixels[50:]).permute(0, 3, 1, 2)
    assert torch.equal(first.test.images, test) and first.test.labels.tolist() == labels[50:]
    held_out = len(first.train) + len(first.calibration) + len(first.search)
    assert held_out == 50
    for kind, data in read.items():
        assert data.fingerprint == first.fingerprint and torch.equal(data.test.images, test), kind
    changed = pixels.copy()
    changed[0, 0, 0, 0] ^= 1
    other = search.from_datasets(pairs(list(changed[:50]), labels[:50]), pairs(list(changed[50:]), labels[50:]))
    assert other.fingerprint != first.fingerprint


def test_images_of_several_sizes_have_one_at_a_resolution():
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (20 + k % 7, 31 - k % 5), dtype=np.uint8) for k in range(80)]
    labels = [k % 2 for k in range(80)]
    data = search.from_datasets(pairs(images[:60], labels[:60]), pairs(images[60:], labels[60:]), resolution=16)
    assert data.train.images.shape[1:] == (1, 16, 16) == data.test.images.shape[1:]


IMAGE = torch.zeros(3, 8, 8)
BAD = {
    "normalised": ([(IMAGE - 1, 0)], "values from 0 to 1"),
    "not a number": ([(IMAGE / 0, 0)], "values from 0 to 1"),
    "no image": ([("a.png", 0)], "must be a PIL image"),
    "no pair": ([IMAGE[0, 0, 0]], r"must give \(image, label\)"),
    "two channels": ([(IMAGE[:2], 0)], "1 or 3 channels"),
    "no pixels": ([(IMAGE[:, :0, :0], 0)], "must have pixels"),
    "integers": ([(IMAGE.long(), 0)], "must be uint8"),
    "no square": ([(IMAGE[:, :4], 0)], "`resolution` makes squares"),
    "two shapes": ([(IMAGE, 0), (torch.zeros(3, 9, 9), 0)], "of one shape.*`resolution` makes"),
    "a label below 0": ([(IMAGE, -1)], "whole number from 0"),
    "a label that is a name": ([(IMAGE, "cat")], "whole number from 0"),
    "a ragged label": ([(IMAGE, [1, [2]])], "whole number from 0"),
    "a sparse tensor": ([(IMAGE.to_sparse(), 0)], "must be a dense tensor"),
    "nothing": ([], "there are none"),
    "too few": ([(IMAGE, 0)], "images"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_data_set_is_told_in_a_line(what):
    part, message = BAD[what]
    with pytest.raises(UserError, match=message) as caught:
        search.from_datasets(part, part)
    assert "\n" not in str(caught.value)


def test_grey_and_colour_in_one_data_set_is_not_blamed_on_their_sides():
    part = [(IMAGE, 0), (IMAGE[:1], 1)]
    with pytest.raises(UserError, match=r"channels x height x width, not 3 x 8 x 8 and 1 x 8 x 8$"):
        search.from_datasets(part, part, resolution=8)


def test_labels_without_a_name_are_told():
    part = [(torch.rand(3, 8, 8), k % 3) for k in range(60)]
    with pytest.raises(UserError, match="labels of 2 classes go from 0 to 1, but one is 2"):
        search.from_datasets(part, part, classes=["a", "b"])


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16"])
def test_pillow_images_of_every_mode_are_shown_as_viewers_do(mode):
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (60, 1, 1, 3)) + np.arange(12)[:, None] * np.ones((12, 12))[..., None]
    pixels = np.clip(smooth, 0, 255).astype(np.uint8)
    pictures = [Image.fromarray(each) for each in pixels]
    if mode in ("1", "LA"):
        pictures = [each.convert("L").point(lambda value: 255 * (value > 127), "L") for each in pictures]
    if mode == "I;16":
        pictures = [each.convert("L") for each in pictures]
        given = [Image.fromarray(np.asarray(each, np.uint16) * 257) for each in pictures]
    else:
        given = [each.convert(mode) for each in pictures]
    assert all(each.mode == mode for each in given)
    labels = [k % 2 for k in range(60)]
    data = search.from_datasets(pairs(given[:50], labels[:50]), pairs(given[50:], labels[50:]))
    wanted = np.stack([np.asarray(each.convert("RGB")) for each in pictures[50:]]).astype(float)
    difference = data.test.images.permute(0, 2, 3, 1).numpy() - wanted
    assert np.abs(difference).mean() < (20 if mode == "P" else 4)  # a palette has few colours, and colours are rounded


class Named(list):
    """A data set that says its classes."""

    def __init__(self, items, classes):
        super().__init__(items)
        self.classes = classes


@pytest.mark.parametrize("tested", [["dog", "cat"], ["bird", "cat", "dog"]])
def test_parts_that_name_other_classes_are_told(tested):
    items = [(torch.rand(3, 8, 8), k % 2) for k in range(60)]
    train, test = Named(items, ["cat", "dog"]), Named(items, tested)
    with pytest.raises(UserError, match="the classes of pets's training part and pets's test part differ"):
        search.from_datasets(train, test, name="pets")
    assert search.from_datasets(train, test, classes=["a", "b"]).classes == ("a", "b")
    assert search.from_datasets(train, items).classes == search.from_datasets(train, train).classes == ("cat", "dog")


def test_a_number_of_classes_names_none():
    items = [(torch.rand(3, 8, 8), k % 2) for k in range(60)]
    assert search.from_datasets(Named(items, 2), Named(items, 2)).classes == ("0", "1")


def test_what_a_data_set_raises_itself_is_told_as_it_is():
    class Damaged(list):
        def __getitem__(self, k):
            raise ValueError("cannot decode 00017.jpg")

    with pytest.raises(ValueError, match=r"^cannot decode 00017\.jpg$"):
        search.from_datasets(Damaged([0]), Damaged([0]))


def test_a_data_set_may_use_its_memory_again():
    class Reused:
        memory = torch.empty(3, 8, 8, dtype=torch.uint8)

        def __len__(self):
            return 60

        def __getitem__(self, k):
            return self.memory.fill_(4 * k), k % 2

    data = search.from_datasets(Reused(), Reused())
    assert data.test.images[:, 0, 0, 0].tolist() == [4 * k for k in range(60)]
    with pytest.raises(UserError, match="`resolution` must be a whole number from 1 to 4096, but got 0"):
        search.from_datasets(Reused(), Reused(), resolution=0)


def test_labels_beyond_all_classes_are_told_before_any_is_named():
    part = [(torch.rand(3, 8, 8), (k % 2) * (2**31 - 1)) for k in range(60)]
    with pytest.raises(UserError, match="at most 100000 classes, but a label is 2147483647"):
        search.from_datasets(part, part)


DIGITS = search.load_space("digits")
TINY = search.load_data("digits", 8)
WRONG_NUMBERS = {
    "no pixels": (
        lambda: search.load_data("digits", 0),
        "`resolution` must be a whole number from 1 to 4096, but got 0",
    ),
    "fewer pixels": (lambda: search.load_data("digits", -1), "`resolution` must be .*, but got -1"),
    "text for pixels": (lambda: search.load_data("digits", "8"), "`resolution` must be .*, but got '8'"),
    "no images": (lambda: search.load_data("digits", 8, 0), "`limit` must be a whole number from 1 to .*, but got 0"),
    "fewer images": (lambda: search.load_data("digits", 8, -5), "`limit` must be .*, but got -5"),
    "no side": (lambda: search.propose_recipe(".", size=0), "`size` must be a whole number from 8 to 1024, but got 0"),
    "a small side": (lambda: search.propose_recipe(".", size=7), "`size` must be .*, but got 7"),
    "a large side": (lambda: search.propose_recipe(".", size=1025), "`size` must be .*, but got 1025"),
    "no channels": (lambda: search.network_costs("ghostnet-1.0", in_chs=0), "`in_chs` must be .*, but got 0"),
    "half a round": (
        lambda: search.calibrate(DIGITS, "t.lat.json", rounds=2.5),
        "`rounds` must be a whole number from 0 to .*, but got 2.5",
    ),
    "half a network": (
        lambda: search.write_kit(DIGITS, "kit", fit_networks=9.5),
        "`fit_networks` must be .*, but got 9.5",
    ),
    "half a unit": (
        lambda: search.write_kit(DIGITS, "kit", most_units=100.5),
        "`most_units` must be a whole number from 0 to .*, but got 100.5",
    ),
    **{
        f"the address {address!r}": (
            lambda address=address: search.retrain_network("ghostnet-1.0", TINY, "out", address=address),
            f"`address` must be a cluster's, such as 10.0.0.5:6379, but got {address!r}",
        )
        for address in ("", " ")
    },
    "Ray Client's address": (
        lambda: search.retrain_network("ghostnet-1.0", TINY, "out", address="ray://10.0.0.5:10001"),
        "`address` must be a cluster's own, such as 10.0.0.5:6379, with the command on a machine of it, but got Ray "
        "Client's ray://10.0.0.5:10001",
    ),
    "a number for an address": (
        lambda: search.retrain_network("ghostnet-1.0", TINY, "out", address=5),
        "`address` must be a cluster's, such as 10.0.0.5:6379, but got 5",
    ),
    "no seeds": (
        lambda: search.measure_fidelity("net", TINY, "out", seeds=0),
        "`seeds` must be .*, but got 0",
    ),
    **{
        f"threads {threads!r}": (
            lambda threads=threads: search.calibrate(DIGITS, "t.lat.json", threads=threads),
            f"threads must be a whole number from 1 to 1024, but got {threads!r}",
        )
        for threads in (0, 1.0, "1", True)
    },
    **{
        f"workers {workers!r}": (
            lambda workers=workers: search.retrain_network("ghostnet-1.0", TINY, "out", workers=workers),
            f"`workers` must be a whole number from 1 to 100000, but got {workers!r}",
        )
        for workers in (0, 1.5, "2", True)
    },
    **{
        f"{networks!r} networks of a space": (
            lambda networks=networks: search.describe_space(DIGITS, networks),
            f"`networks` must be a whole number from 1 to 10000000, but got {networks!r}",
        )
        for networks in (-1, 0, "5")
    },
    "a seed below nought": (lambda: search.describe_space(DIGITS, seed=-1), "a seed must be .*, but got -1"),
    "a truth": (lambda: search.network_costs("ghostnet-1.0", classes=True), "`classes` must be .*, but got True"),
}


def test_no_path_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for begin, name in (
        (lambda: search.calibrate(DIGITS, ""), "out"),
        (lambda: search.write_kit(DIGITS, out=""), "out"),
        (lambda: search.network_costs("ghostnet-1.0", latency=""), "latency"),
        (lambda: search.verify_export(""), "folder"),
    ):
        with pytest.raises(UserError, match=f"^`{name}` of [a-z_]+ must be a path, but got ''$"):
            begin()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", WRONG_NUMBERS)
def test_numbers_that_can_not_be_are_told_with_their_rule(case):
    begin, message = WRONG_NUMBERS[case]
    with pytest.raises(UserError, match=message):
        begin()


@pytest.mark.parametrize(
    "function", ["run_search", "train_supernet", "retrain_network", "run_recipe", "describe_space"]
)
def test_a_keyword_that_there_is_not_is_told_as_python_does(function):
    with pytest.raises(TypeError, match=rf"^{function}\(\) got an unexpected keyword argument 'foo'$"):
        getattr(search, function)(foo=1)


@pytest.mark.parametrize("out", [".", "/", "folder"])
def test_a_folder_for_a_file_is_told_before_anything_is_timed(out, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for begin in (lambda: search.calibrate(DIGITS, out), lambda: search.import_kit("result.jsonl", out)):
        with pytest.raises(UserError, match="must be a file, but it is a folder"):
            begin()
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]


ANY = Path("any")
WRONG_TYPES = {
    "no architecture among some": (
        lambda data: search.retrain_networks({"a": DIGITS.smallest, "b": "digits:0.5x"}, data, "out"),
        "`archs` of retrain_networks must be Mapping[str, Arch], but one of it is 'digits:0.5x'",
    ),
    "no name among some": (
        lambda data: search.retrain_networks({"a": DIGITS.smallest, 3: DIGITS.largest}, data, "out"),
        "`archs` of retrain_networks must be Mapping[str, Arch], but one of it is 3",
    ),
    "no format among some": (
        lambda data: search.export_network("net", "out", formats=["onnx", None, "safetensors"]),
        "`formats` of export_network must be Sequence[str], but one of it is None",
    ),
    "a number for several": (
        lambda data: search.retrain_networks({"A": search.find_arch("ghostnet-1.0")}, data, ANY, seeds=3),
        "`seeds` of retrain_networks must be Sequence[int], but got 3",
    ),
    "names of networks": (
        lambda data: search.retrain_networks(["A", "B"], data, ANY),
        "`archs` of retrain_networks must be Mapping[str, Arch], but got ['A', 'B']",
    ),
    "a space's name": (
        lambda data: search.describe_space("digits"),
        "`space` of describe_space must be Space, but got 'digits'",
    ),
    "a table's file": (
        lambda data: search.write_latency_page("t.lat.json", ANY),
        "`table` of write_latency_page must be LatencyTable, but got 't.lat.json'",
    ),
    "text for minutes": (
        lambda data: search.run_recipe("digits", ANY, minutes="1"),
        "`minutes` of run_recipe must be float | None, but got '1'",
    ),
    "a number for a budget": (
        lambda data: search.run_search(ANY, data, ANY, flops_budget="1M", latency_budget=8),
        "`latency_budget` of run_search must be str | Sequence[str], but got 8",
    ),
    "a way that isn't one": (
        lambda data: search.run_search(ANY, data, ANY, flops_budget="1M", sampler="best"),
        "`sampler` of run_search must be Literal['guided', ",
    ),
    "a list for a text": (
        lambda data: search.run_search(ANY, data, ANY, flops_budget=["1M"]),
        "`flops_budget` of run_search must be str, but got ['1M']",
    ),
    "no data": (
        lambda data: search.open_supernet(ANY, None),
        "`data` of open_supernet must be Data, but got None",
    ),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_an_argument_of_another_type_is_told_before_anything_is_done(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin, message = WRONG_TYPES[case]
    with pytest.raises(UserError) as caught:
        begin(search.load_data("digits", 8))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


A, B = DIGITS.smallest, DIGITS.largest
NO_FOLDERS = {
    "no networks": ({}, (0,), "there must be a network and a seed or more, but got 0 and 1"),
    "no seeds": ({"A": A}, (), "there must be a network and a seed or more, but got 1 and 0"),
    "a seed twice": ({"A": A}, (1, 1), "seeds must be different, but got 1, 1"),
} | {
    f"the name {name!r}": ({"A": A, name: B}, (0,), "a network's name must be that of a folder, such as A, but got ")
    for name in ("../x", "", ".", "..", "a/b", "/a", "a/", "a\0b", "summary.json")
}
NO_FOLDERS["a long name"] = (
    {"A": A, "ä" * 128: B},
    (0,),
    "a network's name, a folder's, has at most 255 bytes, but got ",
)


@pytest.mark.parametrize("case", NO_FOLDERS)
def test_networks_that_have_no_folders_of_their_own_leave_all_as_it_is(case, tmp_path):
    archs, seeds, message = NO_FOLDERS[case]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.json").write_text("of before")
    with pytest.raises(UserError, match=message):
        search.retrain_networks(archs, search.load_data("digits", 8), tmp_path / "out", seeds=seeds)
    assert [*tmp_path.rglob("*")] == [tmp_path / "out", tmp_path / "out/summary.json"]
    assert (tmp_path / "out/summary.json").read_text() == "of before"


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_what_is_no_place_for_a_folder_is_told(out, tmp_path):
    (tmp_path / "file").write_text("of before")
    for begin in (
        lambda: search.train_supernet(DIGITS, TINY, tmp_path / out, epochs=0.1),
        lambda: search.retrain_network("digits:0.5x", TINY, tmp_path / out, epochs=0.1),
    ):
        with pytest.raises(UserError, match="is no folder that can be written to: `out` must be another place"):
            begin()
    assert (tmp_path / "file").read_text() == "of before" and len([*tmp_path.iterdir()]) == 1


def test_whole_numbers_may_be_numpys_and_folders_may_be_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    costs = search.network_costs("ghostnet-1.0", classes=np.int64(3), in_chs=np.uint8(1))
    assert costs == search.network_costs("ghostnet-1.0", classes=3, in_chs=1)
    kits = [
        search.write_kit(DIGITS, tmp_path / kind.__name__, fit_networks=kind(8), held_out=kind(8), most_units=60)
        for kind in (np.int64, int)
    ]
    assert kits[0] == kits[1] and len(list((tmp_path / "int64").iterdir())) > 3
    folder = image_folder(tmp_path / "plain", train=30, test=4)
    proposed = search.propose_recipe(folder, size=np.int64(8))
    assert proposed.side == 8 and type(proposed.side) is int and proposed.survey.train == (30, 30)
    named, given = search.load_data(f"imagefolder:{folder}", 8), search.load_data(folder, np.int64(8), np.int64(20))
    assert (given.name, given.fingerprint) == (named.name, named.fingerprint)
    assert torch.equal(given.train.images, named.train.images[:20])
    assert search.load_data(Path(f"imagefolder:{folder}"), 8).name == named.name
    with pytest.raises(UserError, match="no folder 'digits'"):
        search.load_data(Path("digits"), 8)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("m", "lists the runs' folders, but got the one name 'm'"),
        (Path("m"), r"must be Sequence\[str \| Path\], but got PosixPath\('m'\)"),
        ([], "got no folder"),
    ],
)
def test_what_is_no_list_of_runs_is_told(folders, message, tmp_path):
    with pytest.raises(UserError, match=message):
        search.compare_runs(folders, tmp_path / "page")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes", [0, -1.0, math.nan, math.inf, True])
def test_a_time_box_without_time_is_refused_before_anything_is_written(minutes, tmp_path):
    data, space, out = search.load_data("digits", 16), named_space("digits"), tmp_path / "out"
    for begin in (
        lambda: search.train_supernet(space, data, out, minutes=minutes),
        lambda: search.retrain_network(space.smallest, data, out, minutes=minutes),
        lambda: search.run_recipe("digits", out, minutes=minutes),
        lambda: search.calibrate(space, out / "table.lat.json", minutes=minutes),
        lambda: search.run_search(tmp_path, data, out, flops_budget="500k", minutes=minutes),
    ):
        got = minutes if minutes is True else f"{minutes:g}"
        with pytest.raises(UserError, match=f"a time box has more than 0 and at most 525,600 minutes, not {got}"):
            begin()
    assert not list(tmp_path.iterdir())
