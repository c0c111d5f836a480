"""Exports that are proven, refused where they are not, and checked again; a found network as a timm model."""

import copy
import hashlib
import io
import json
import pickle
import re
import shutil
import subprocess
import warnings
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from ghostnet import Arch, Backbone, GhostNet, cost, weights
from search import terminal
from search.api.costs import network_costs
from search.api.exporting import export_network
from search.commands.export import show_files
from search.data.datasets import Data, Split, load_data
from search.errors import UserError
from search.export import formats as known
from search.export.agreement import TOLERANCE, YARDSTICK
from search.export.export import HeldOut, export
from search.export.formats import FORMATS, onnx_file, onnx_int8
from search.export.manifest import Accuracy, NetworkMetadata, read_manifest
from search.export.network import export_trained
from search.export.proof import Proof
from search.export.verify import verify
from search.graphs import lowering, onnx_graph
from search.latency.runtimes import RUNTIMES, runtime
from search.latency.timing.device import this_device
from search.recipes.schema import Training
from search.records import record_json
from search.run_folder.source_run import read_source_runs
from search.terminal import markdown
from search.training.evaluate import estimate_norms
from search.training.retrain import retrain
from spaces import named_space
from tests.helpers import randomise, small_arch
from tests.search.command_line import ghostnas
from tests.search.runs import SPACE, made_up_run
from tests.search.test_folders import held

HERE = [name for name, entry in FORMATS.items() if find_spec(entry.package)]
IMAGES = torch.randn(6, 3, 15, 15, generator=torch.Generator().manual_seed(1))
NONE = torch.empty(0, 3, 15, 15)


def held_out(images: torch.Tensor) -> HeldOut:
    return HeldOut(calibration=images, images=images, labels=torch.zeros(len(images)).long(), name="a test's")


TIMED = [(name, dtype) for name, adapter in RUNTIMES.items() for dtype in adapter.exports]


@pytest.fixture
def net():
    return randomise(GhostNet(small_arch(), 5)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every format whose package is installed."""
    net = randomise(GhostNet(small_arch(), 5)).eval()
    folder = tmp_path_factory.mktemp("export") / "all"
    timer = lambda sessions: dict.fromkeys(sessions, 1.5)  # noqa: E731
    metadata = NetworkMetadata(accuracy=Accuracy(test=0.5), mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 2.0], data="a test's")
    manifest = export(net, folder, HERE, IMAGES, metadata, held_out=held_out(torch.randn(40, 3, 15, 15)), timer=timer)
    return net, folder, manifest


def test_every_format_gives_the_networks_outputs_and_the_manifest_says_so(exported):
    net, folder, manifest = exported
    content = json.loads((folder / "manifest.json").read_text())
    assert manifest == read_manifest(folder) and content == record_json(manifest)
    assert Arch.load(folder / "arch.json") == net.arch
    assert manifest.tried_on.real_images == 6 and content["accuracy"] == {"test": 0.5}
    mains = {file.format: file for file in manifest.files.values() if file.format}
    assert list(mains) == HERE
    for name, file in mains.items():
        if known.get(name).EXACT:
            assert file.largest_difference < 1e-3 and file.top1_agreement == 1.0
        assert file.macs == (None if name == "executorch" else cost(net.arch, 5).macs)
        assert (file.run_with is not None) == (name in ("openvino", "ncnn"))  # the others compute in float32
        assert file.latency_ms == 1.5
    assert set(content["files"][onnx_int8.FILES[0]]["accuracy"]) == {"before", "after", "images", "split"}
    listed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert listed == {*manifest.files, "manifest.json"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """An export whose file says of which classes and pictures it is."""
    known = NetworkMetadata(classes=["cat", "dog", 'a "b"', "é", "owl"], mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 2.0])
    folder = tmp_path_factory.mktemp("labelled") / "export"
    export(randomise(GhostNet(small_arch(), 5)).eval(), folder, ["onnx"], IMAGES, known)
    return folder


def test_files_that_are_sent_alone_say_what_they_take_and_give(net, tmp_path):
    file = {"classes": ["cat", "dog", 'a "b"', "é", "owl"], "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 2.0]}
    formats = [name for name in ("onnx", "litert") if name in HERE]
    shown = {"interpolation": "bilinear", "crop_pct": 0.875}
    metadata = NetworkMetadata(**file, **shown, data="imagefolder:/home/me", space_id="0123456789")
    export(net, tmp_path / "out", formats, IMAGES, metadata)
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    result = session.get_modelmeta().custom_metadata_map
    wanted = {"labels": file["classes"], "mean": file["mean"], "std": file["std"], "input": [3, 15, 15]}
    wanted["crop_pct"] = 0.875
    assert {key: json.loads(result[key]) for key in wanted} == wanted
    assert (result["arch"], result["space"]) == (net.arch.id, "0123456789") and "/home" not in str(result)
    assert result["interpolation"] == "bilinear"
    if "litert" in formats:
        from ai_edge_litert.schema_py_generated import ModelT

        model = ModelT.InitFromPackedBuf((tmp_path / "out/model.tflite").read_bytes())
        (entry,) = [each for each in model.metadata if each.name == b"ghostnas"]
        carried = json.loads(bytes(model.buffers[entry.buffer].data))
        assert {key: carried[key] for key in wanted} == wanted and carried["arch"] == net.arch.id
        assert carried["interpolation"] == "bilinear"


@pytest.mark.skipif("litert-int8" not in HERE, reason="no ai_edge_quantizer here")
def test_a_quantised_litert_file_computes_in_int8_and_is_close_to_the_network(net, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    images = torch.randn(60, 3, 15, 15, generator=torch.Generator().manual_seed(2))
    estimate_norms(net, [images])
    metadata = NetworkMetadata(classes=[*"abcde"])
    formats = "litert", "litert-int8"
    export(net, tmp_path / "out", formats, images[:16], metadata, held_out=held_out(images))
    sessions = [known.get(name).load_session(tmp_path / "out") for name in formats]
    exact, rounded = (session(images.numpy()) for session in sessions)
    assert 0 < ((rounded - exact) ** 2).mean() < 0.1 * exact.var()
    models = {
        name: schema.ModelT.InitFromPackedBuf((tmp_path / "out" / f"model{name}.tflite").read_bytes())
        for name in ("", ".int8")
    }
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    for name, model in models.items():
        graph, kinds = model.subgraphs[0], [names[code.builtinCode] for code in model.operatorCodes]
        used = {x for operator in graph.operators for x in (*operator.inputs, *operator.outputs)}
        assert used == set(range(len(graph.tensors))), "no tensor that nothing has"
        (signature,) = model.signatureDefs
        assert (signature.inputs[0].name, signature.outputs[0].name) == (b"input", b"output")
        convs = [operator for operator in graph.operators if "CONV_2D" in kinds[operator.opcodeIndex]]
        types = {tuple(graph.tensors[x].type for x in operator.inputs) for operator in convs}
        kind = schema.TensorType
        assert types == ({(kind.INT8, kind.INT8, kind.INT32)} if name else {(kind.FLOAT32,) * 3})
        for operator in convs if name else ():  # a scale for each channel
            weight = graph.tensors[operator.inputs[1]]
            assert len(weight.quantization.scale) == graph.tensors[operator.outputs[0]].shape[-1]
        ends = (*graph.inputs, *graph.outputs)
        assert {graph.tensors[x].type for x in ends} == {kind.FLOAT32}
        (entry,) = [each for each in model.metadata if each.name == b"ghostnas"]
        assert json.loads(bytes(model.buffers[entry.buffer].data))["labels"] == [*"abcde"]


@pytest.mark.skipif("litert-int8" not in HERE, reason="no ai_edge_quantizer here")
def test_a_map_that_is_zero_everywhere_is_quantised_too(net, tmp_path):
    images = torch.randn(60, 3, 15, 15, generator=torch.Generator().manual_seed(2))
    estimate_norms(net, [images])
    net.get_submodule("blocks.1.0.ghost1.primary_conv.1").bias.data.fill_(-100.0)  # a ReLU follows
    export(net, tmp_path / "out", ["litert-int8"], images[:16], held_out=held_out(images))
    rounded = known.get("litert-int8").load_session(tmp_path / "out")(images.numpy())
    expected = net(images).detach().numpy()
    assert ((rounded - expected) ** 2).mean() < 0.1 * expected.var()


def test_a_folder_is_verified_again_from_its_files_alone(exported, tmp_path):
    _, folder, manifest = exported
    result = verify(shutil.copytree(folder, tmp_path / "copy")).files
    assert set(result) == {name for name, file in manifest.files.items() if file.format}


@pytest.mark.parametrize("file", ["model.onnx", "arch.json", "hub/README.md", "proof.safetensors"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_changed_or_missing_file_is_an_error(exported, tmp_path, file, damage):
    folder = shutil.copytree(exported[1], tmp_path / "copy")
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).unlink() if damage == "missing" else (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{file} (was changed|is missing)"):
        verify(folder)


def test_another_network_under_a_right_fingerprint_is_an_error(exported, tmp_path):
    """Somebody who changes the manifest, too: the outputs tell."""
    net, folder, _ = exported
    folder = shutil.copytree(folder, tmp_path / "copy")
    export(randomise(GhostNet(net.arch, 5), seed=9).eval(), tmp_path / "other", ["onnx"], NONE)
    shutil.copy(tmp_path / "other/model.onnx", folder / "model.onnx")
    manifest, other = (json.loads((place / "manifest.json").read_text()) for place in (folder, tmp_path / "other"))
    manifest["files"]["model.onnx"] |= {key: other["files"]["model.onnx"][key] for key in ("sha256", "bytes")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"model\.onnx differs from the PyTorch network by"):
        verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": 5}, "says 5 parameters, but"),
        ({"resolution": 32}, "says 32 pixels a side, but"),
        ({"classes": ["a"]}, "`classes` must have `num_classes` values, 5, but has "),
        ({"mean": [0.1]}, "`mean` must have `in_chs` values, 3, but has "),
        ({"mean": [0.1, 0.2, 0.4]}, r"model\.onnx says that its mean is .*0\.3], but the manifest has .*0\.4"),
        ({"classes": list("abcde")}, r"model\.onnx says that its labels is .*cat.*, but the manifest has .*'e'"),
        ({"files": {"model.onnx": {"macs": 1}}}, r"says 1 multiply-adds of model\.onnx, but"),
        ({"files": {"model.onnx": {"bytes": 1}}}, r"model\.onnx has .* bytes, but manifest\.json says 1"),
        ({"files": {"model.onnx": {"format": None}}}, "lists no file that runs"),
    ],
)
def test_a_manifest_that_says_otherwise_than_the_files_is_refused(labelled, tmp_path, change, message):
    folder = shutil.copytree(labelled, tmp_path / "copy")
    verify(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, values in change.pop("files", {}).items():
        manifest["files"][name] |= values
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(UserError, match=message):
        verify(folder)


@pytest.mark.parametrize("change", [{"schema": "x"}, {"files": {"../x": {"sha256": "0"}}}, {"macs": 1}, {"arch": "0"}])
def test_a_manifest_that_is_none_or_says_something_else_is_refused(exported, tmp_path, change):
    folder = shutil.copytree(exported[1], tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text()) | change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError):
        verify(folder)


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def pickled(path) -> bytes:
    content = io.BytesIO()
    torch.save(Canary(path), content)
    return content.getvalue()


def asks_for_a_pickle(entries, canary):
    """A constant, and `use_pickle` by a number that is no boolean."""
    meta = {"path_name": "constant_0", "is_param": False, "use_pickle": 1, "tensor_meta": None}
    entries["archive/data/constants/model_constants_config.json"] = json.dumps({"config": {"c": meta}}).encode()
    entries["archive/data/constants/constant_0"] = pickled(canary)


def says_that_a_weight_is_pickled(entries, canary):
    name = "archive/data/weights/model_weights_config.json"
    config = json.loads(entries[name])
    config["config"]["conv_stem.weight"]["use_pickle"] = 1
    entries[name] = json.dumps(config).encode()
    entries["archive/data/weights/weight_0"] = pickled(canary)


def has_an_opaque_object(entries, canary):
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
    entries["archive/data/constants/model_constants_config.json"] = json.dumps({"config": {"o": meta}}).encode()
    entries["archive/data/constants/opaque_obj_0"] = pickle.dumps(Canary(canary))


def brings_a_library(entries, canary):
    """Whose loading would run its constructors."""
    source = canary.with_suffix(".c")
    source.write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) void run(void) {{ fclose(fopen("{canary}", "w")); }}\n'
    )
    library = canary.with_suffix(".so")
    if shutil.which("cc"):
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    else:
        library.write_bytes(b"\x7fELF")
    entries["archive/data/aotinductor/model/model.so"] = library.read_bytes()


def brings_another_sample(entries, canary):
    entries["archive/data/sample_inputs/model.pt"] = pickled(canary)


def computes_something_else(entries, canary):
    name = "archive/models/model.json"
    entries[name] = entries[name].replace(b"torch.ops.aten.conv2d.default", b"torch.ops.aten.conv2d.padding")


def has_a_key_twice(entries, canary):
    name = "archive/data/constants/model_constants_config.json"
    entries[name] = b'{"config": {}, "config": {}}'


ATTACKS = (
    *(asks_for_a_pickle, says_that_a_weight_is_pickled, has_an_opaque_object, brings_a_library, brings_another_sample),
    *(computes_something_else, has_a_key_twice),
)


def resigned(folder, name: str, content: bytes) -> None:
    """A file of an export, and its fingerprint in the manifest, changed by whoever made the folder."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"][name] = manifest["files"].get(name, {}) | listed
    (folder / "manifest.json").write_text(json.dumps(manifest))


def zipped(entries, twice=None) -> bytes:
    """An archive, of which the first reader may see another entry of a name than the last."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in (*([twice] if twice else []), *entries.items()):
            archive.writestr(name, value)
    return content.getvalue()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """An export as `.pt2` alone, and the archive's entries."""
    folder = tmp_path_factory.mktemp("pt2") / "export"
    net = randomise(GhostNet(small_arch(), 5)).eval()
    export(net, folder, ["pt2"], IMAGES)
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        return net, folder, {name: archive.read(name) for name in archive.namelist()}


def test_a_program_of_ours_is_what_torch_loads_too(program):
    net, folder, entries = program
    assert set(verify(folder).files) == {"model.pt2"}
    theirs = torch.export.load(folder / "model.pt2").module()
    with torch.no_grad():
        assert torch.equal(theirs(IMAGES), net(IMAGES))
    assert zipped(entries) and "archive/models/model.json" in entries


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_program_that_asks_for_more_is_refused_in_a_line_and_nothing_runs(program, tmp_path, attack):
    _, folder, entries = program
    folder, canary, changed = shutil.copytree(folder, tmp_path / "copy"), tmp_path / "canary", dict(entries)
    attack(changed, canary)
    assert changed != entries
    resigned(folder, "model.pt2", zipped(changed))
    with pytest.raises(UserError, match=r"model\.pt2") as caught:
        verify(folder)
    assert not canary.exists() and "\n" not in str(caught.value)


def test_the_canary_sings_where_something_is_unpickled(tmp_path):
    torch.load(io.BytesIO(pickled(tmp_path / "canary")), weights_only=False).close()
    assert (tmp_path / "canary").exists()


def test_archives_that_two_readers_read_differently_are_refused(program, tmp_path):
    _, folder, entries = program
    folder, canary, name = shutil.copytree(folder, tmp_path / "copy"), tmp_path / "canary", "archive/models/model.json"
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, entries[name])
    sample = "archive/data/sample_inputs/model.pt"
    for content, why in (
        (zipped(entries, twice=(sample, pickled(canary))), "two entries of one name"),
        (compressed.getvalue(), "compressed"),
        (zipped(entries)[:-30], "cut short|no archive"),
        (b"#!" + zipped(entries), "more than one archive"),
        (zipped(entries) + b"x", "more than one archive|no archive"),
        (b"", "no archive"),
    ):
        resigned(folder, "model.pt2", content)
        with pytest.raises(UserError, match=why):
            verify(folder)
    assert not canary.exists()


def test_only_files_that_the_manifest_lists_are_reached(tmp_path):
    """An ONNX file whose tensors lie in another file: beside it, above it, anywhere."""
    import onnx

    folder = tmp_path / "export"
    export(randomise(GhostNet(small_arch(), 5)).eval(), folder, ["onnx"], NONE)
    model = onnx.load(folder / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    side = tensor.raw_data
    tensor.ClearField("raw_data")
    for where in ("side.bin", "../side.bin", str(tmp_path / "side.bin")):
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", where), ("offset", "0"), ("length", str(len(side)))):
            tensor.external_data.add(key=key, value=value)
        (folder / where).resolve().write_bytes(side)
        resigned(folder, "model.onnx", model.SerializeToString())
        with pytest.raises(UserError, match=r"model\.onnx can't be run as onnx: ") as caught:
            verify(folder)
        assert "\n" not in str(caught.value)


def test_what_needs_a_package_that_is_not_here_is_said_and_the_rest_is_verified(program, tmp_path, monkeypatch):
    net, folder, _ = program
    both = tmp_path / "both"
    export(net, both, ["safetensors", "pt2"], IMAGES)
    monkeypatch.setitem(FORMATS, "pt2", replace(FORMATS["pt2"], package="no_such_package", extra="tools"))
    found = verify(both)
    assert set(found.files) == {"weights.safetensors"}
    assert found.not_run == {"model.pt2": "no_such_package is not installed: pip install 'ghostnas[tools]'"}
    (both / "model.pt2").write_bytes(b"changed")
    with pytest.raises(UserError, match="was changed"):
        verify(both)
    with pytest.raises(UserError, match=r"nothing of .* can be run here: no_such_package is not installed"):
        verify(folder)


def test_a_runtime_that_says_a_file_is_none_is_one_line_with_its_name(net, tmp_path, monkeypatch):
    export(net, tmp_path / "export", ["onnx"], NONE)

    def fails(folder):
        raise OSError("not a model\nat reader.cc:3")

    monkeypatch.setattr(onnx_file, "load_session", fails)
    with pytest.raises(UserError, match=r"^model\.onnx can't be run as onnx: not a model$"):
        verify(tmp_path / "export")


@pytest.mark.parametrize(
    ("tool", "failed"),
    [("write", "the network can't be written as onnx"), ("load_session", "model.onnx can't be run as onnx")],
)
def test_a_tool_that_fails_in_its_own_way_is_one_line_and_nothing_is_written(net, tmp_path, monkeypatch, tool, failed):
    def fails(*_):
        raise RuntimeError("no kernel for Conv\nat session.cc:12")

    monkeypatch.setattr(onnx_file, tool, fails)
    with pytest.raises(UserError, match=f"^{re.escape(failed)}: no kernel for Conv$"):
        export(net, tmp_path / "export", ["onnx"], NONE)
    assert not any((tmp_path / "export").glob("*.json"))


@pytest.mark.parametrize("file", ["model.onnx", "weights.safetensors", "model.xml", "hub/config.json", "model.pte"])
def test_a_file_that_its_runtime_cannot_read_is_one_line(exported, tmp_path, file):
    if not (exported[1] / file).exists():
        pytest.skip("its runtime is not installed")
    folder = shutil.copytree(exported[1], tmp_path / "copy")
    resigned(folder, file, b"{}")
    with pytest.raises(UserError) as caught:
        verify(folder)
    assert "\n" not in str(caught.value)


def test_the_onnx_file_takes_any_batch(exported):
    session = onnx_file.load_session(exported[1])
    for batch in (1, 5):
        assert session(np.random.default_rng(0).standard_normal((batch, 3, 15, 15), dtype=np.float32)).shape == (
            batch,
            5,
        )


def test_multiply_adds_of_an_onnx_graph_that_has_more_are_an_error(net, tmp_path, monkeypatch):
    """The counter reads the graph: another graph, another count; an unknown op is no zero."""
    import onnx

    from search.export import onnx_macs

    export(net, tmp_path, ["onnx"], NONE)
    model = onnx.load(tmp_path / "model.onnx")
    last = model.graph.node[-1]
    assert last.op_type == "Identity"
    last.op_type = "Erf"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(NotImplementedError, match="Erf"):
        onnx_macs.count(tmp_path / "odd.onnx")
    monkeypatch.setattr(onnx_file, "to_onnx", lambda other, shape, **_: _wider(net.arch, shape))
    with pytest.raises(UserError, match=r"model\.onnx (differs|has [\d,]+ multiply-adds)"):
        export(net, tmp_path / "out", ["onnx"], NONE)


def _wider(arch, shape):
    from search.graphs.onnx_graph import to_onnx

    return to_onnx(randomise(GhostNet(small_arch(head_chs=40), 5)).eval(), shape)


def test_a_file_that_differs_is_an_error_and_nothing_is_left(net, tmp_path, monkeypatch):
    right = onnx_file.load_session
    monkeypatch.setattr(onnx_file, "load_session", lambda folder: lambda images: right(folder)(images) + 1)
    with pytest.raises(UserError, match=r"model\.onnx differs from the PyTorch network by"):
        export(net, tmp_path / "out", ["safetensors", "onnx"], NONE)
    assert not list(tmp_path.iterdir())


def test_an_export_takes_nothing_of_the_users_and_goes_into_the_folder_that_is_here(net, tmp_path, monkeypatch):
    (tmp_path / "model.tmp").mkdir()
    (tmp_path / "model.tmp/precious").write_text("theirs")
    with held(tmp_path / "model") as pid, pytest.raises(UserError, match=f"model is in use by process {pid}"):
        export(net, tmp_path / "model", ["safetensors"], NONE)
    export(net, tmp_path / "model", ["safetensors"], NONE)
    assert (tmp_path / "model.tmp/precious").read_text() == "theirs"
    (tmp_path / "here").mkdir()
    (tmp_path / "here/notes.txt").write_text("theirs")
    monkeypatch.chdir(tmp_path / "here")
    export(net, Path(), ["safetensors"], NONE)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {path.name for path in (tmp_path / "here").iterdir()} == names | {"notes.txt"}
    verify(tmp_path / "here")


def test_formats_that_are_unknown_or_not_installed_are_refused(net, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"a format is one of onnx, safetensors, pt2, .*, not 'coffee'"):
        export(net, tmp_path, ["coffee"], NONE)
    with pytest.raises(UserError, match="named once"):
        export(net, tmp_path, ["onnx", "onnx"], NONE)
    with pytest.raises(UserError, match="calibration images: --data"):
        export(net, tmp_path, ["onnx-int8"], NONE)
    if "litert-int8" in HERE:
        with pytest.raises(UserError, match="litert-int8 is fitted to calibration images: --data"):
            export(net, tmp_path, ["litert-int8"], NONE)
    monkeypatch.setattr("search.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"openvino is not installed: pip install 'ghostnas\[openvino\]'"):
        export(net, tmp_path, ["openvino"], NONE)
    assert not list(tmp_path.iterdir())


def test_a_quantised_network_that_answers_otherwise_is_refused(net, tmp_path, monkeypatch):
    right = onnx_int8.load_session
    monkeypatch.setattr(onnx_int8, "load_session", lambda folder: lambda images: -right(folder)(images))
    with pytest.raises(UserError, match="keeps the PyTorch network's answer on"):
        export(net, tmp_path / "out", ["onnx-int8"], IMAGES, held_out=held_out(IMAGES))
    assert not list(tmp_path.iterdir())


def test_the_model_card_is_one_and_says_what_is_known(exported):
    from huggingface_hub import ModelCard

    net, folder, manifest = exported
    model_card = ModelCard.load(folder / "hub/README.md")
    assert model_card.data.license == "apache-2.0" and model_card.data.library_name == "timm"
    for message in (net.arch.id, f"{manifest.macs:,}", f"{manifest.params:,}", "50.00% on the test split"):
        assert message in model_card.text
    assert "search space | not known" in model_card.text and "| run |" not in model_card.text
    said = re.search(r"\| latency \| (.*) \|", model_card.text)[1]
    assert "1.500 ms `model.onnx`" in said and said.endswith(f"1 thread, batch 1, {this_device()['cpu']}")
    files = {name: file for name, file in manifest.files.items() if file.accuracy}
    for name, file in files.items():
        of = file.accuracy
        lost = f"{of.before:.2%} to {of.after:.2%} of {of.images} images ({of.split})"
        assert f"| `{name}` | {markdown(lost)} |" in model_card.text
    assert (folder / "hub/architecture.svg").exists()


def test_the_model_card_knows_the_run_that_the_network_came_from(tmp_path):
    """By where the weights lie, or by the manifest of a run's export that was taken elsewhere."""
    folder = made_up_run(tmp_path / "run")
    recorded = json.loads((folder / "run.json").read_text())
    recorded["recipe"] |= {"data": "imagefolder:/home/me/birds", "seed": 3}
    recorded["recipe"]["supernet"]["parent"] = "/home/me/old.pth"
    (folder / "run.json").write_text(json.dumps(recorded))
    shutil.copytree(folder / "networks/ghostnet-0.5x", folder / "supernet/parent")
    said = {}
    for name in ("networks/A", "networks/ghostnet-0.25x", "supernet/parent"):
        trained = GhostNet(Arch.load(folder / name / "arch.json"), 10, 1)
        weights.save_weights(randomise(trained), folder / name / "weights.safetensors")
        done = tmp_path / f"out/{name}"
        manifest = export_network(folder / name, done, ["safetensors", "hub"], timed=False)
        assert manifest.run == read_source_runs(folder, [Path(name).name])[Path(name).name]
        said[name] = (done / "hub/README.md").read_text()
        assert "/home" not in manifest.run.model_dump_json() + said[name]
    for text in said.values():
        assert "recipe `digits`, seed 3, network `" in text and "| parent | old.pth, 90.00% on the test split" in text
        assert f"digits {SPACE.id}" in text and "| top-1 accuracy | 90.00% on the test split" in text
    assert "a search chose" in said["networks/A"] and "60 networks evaluated" in said["networks/A"]
    assert "flops budget 400k" in said["networks/A"] and "latency budget 0.15ms" in said["networks/A"]
    assert "a search chose" not in said["networks/ghostnet-0.25x"] + said["supernet/parent"]
    assert "of one width throughout" in said["networks/ghostnet-0.25x"]
    assert "the parent whose weights" in said["supernet/parent"]
    kept = (tmp_path / "out/networks/A/manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"out/networks/A holds the export of another network, "):
        export_network(folder / "networks/ghostnet-0.25x", tmp_path / "out/networks/A", ["hub"], timed=False)
    with pytest.raises(UserError, match="`formats` names at least one"):
        export_network(folder / "networks/A", tmp_path / "none", [], timed=False)
    assert (tmp_path / "out/networks/A/manifest.json").read_bytes() == kept and not (tmp_path / "none").exists()
    moved = shutil.copytree(tmp_path / "out/networks/A", tmp_path / "moved")
    again = export_network(moved, tmp_path / "again", ["hub"], weights=moved / "weights.safetensors", timed=False)
    assert again.run == read_source_runs(folder, ["A"])["A"]
    shutil.rmtree(folder / "search")
    alone = export_network(folder / "networks/A", tmp_path / "alone", ["hub"], timed=False)
    assert alone.run is None


def test_other_weights_in_a_trained_networks_folder_are_not_said_to_be_the_trained_ones(tmp_path):
    folder = made_up_run(tmp_path / "run") / "networks/A"
    trained = folder / "weights.safetensors"
    weights.save_weights(randomise(GhostNet(Arch.load(folder / "arch.json"), 10, 1)), trained)
    record = json.loads((folder / "trained.json").read_text())
    for k, (file, of, told) in enumerate(
        (
            (trained, None, True),  # as earlier versions wrote it
            (trained, hashlib.sha256(trained.read_bytes()).hexdigest(), True),
            (trained, "0" * 64, False),
            (shutil.copy(trained, folder / "other.safetensors"), None, False),
        )
    ):
        (folder / "trained.json").write_text(json.dumps(record | ({"weights_sha256": of} if of else {})))
        manifest = export_network(folder, tmp_path / str(k), ["safetensors", "hub"], weights=file, timed=False)
        assert (manifest.accuracy is not None) == (manifest.training is not None) == told
        card = (tmp_path / str(k) / "hub/README.md").read_text()
        assert ("90.00% on the test split" if told else "| top-1 accuracy | not measured |") in card


def test_a_network_without_a_classifier_is_exported_and_no_message_names_the_scratch_folder(tmp_path, monkeypatch):
    net = randomise(GhostNet(small_arch(), 0)).eval()
    export(net, tmp_path / "out", ["pt2", "safetensors"], IMAGES)
    assert set(verify(tmp_path / "out").files) == {"model.pt2", "weights.safetensors"}

    def refuse(folder):
        raise UserError(f"{folder / 'model.pt2'} is odd")

    monkeypatch.setattr("search.export.formats.pt2_file._program", refuse)
    with pytest.raises(UserError, match=r"^model\.pt2 is odd$"):
        export(net, tmp_path / "other", ["pt2"], IMAGES)
    assert not (tmp_path / "other").exists()


def test_timm_builds_the_exported_network_from_its_hub_folder(exported):
    timm = pytest.importorskip("timm")
    import ghostnet.timm_model  # noqa: F401

    net, folder, _ = exported
    model = timm.create_model(f"local-dir:{folder / 'hub'}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(model(IMAGES), net(IMAGES))
    assert list(timm.data.resolve_model_data_config(model)["std"]) == [1.0, 1.0, 2.0]
    finer = timm.create_model(f"local-dir:{folder / 'hub'}", pretrained=True, num_classes=3)
    assert finer(IMAGES).shape == (6, 3) and torch.equal(finer.conv_stem.weight, net.conv_stem.weight)
    file = {"file": str(folder / "weights.safetensors"), "num_classes": 5, "input_size": (3, 15, 15)}
    again = timm.create_model("ghostnas", arch=folder, pretrained=True, pretrained_cfg=file).eval()
    with torch.no_grad():
        assert torch.equal(again(IMAGES), net(IMAGES))


@pytest.mark.parametrize("indices", [None, (0,), (-1, 0)])
def test_as_a_backbone_timm_gives_the_trunks_feature_maps(indices, tmp_path):
    timm = pytest.importorskip("timm")
    import ghostnet.timm_model  # noqa: F401

    net = randomise(GhostNet(small_arch(), 5)).eval()
    weights.save_weights(net, tmp_path / "net.safetensors")
    options = {} if indices is None else {"out_indices": indices}
    file = {"file": str(tmp_path / "net.safetensors"), "num_classes": 5}
    model = timm.create_model(
        "ghostnas", arch=net.arch, features_only=True, pretrained=True, pretrained_cfg=file, **options
    ).eval()
    expected = Backbone(net, [(1, 2)[i] for i in (indices or (0, 1))])(IMAGES)
    result = model(IMAGES)
    assert model.feature_info.channels() == [maps.shape[1] for maps in result]
    assert len(result) == len(expected) and all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_a_timm_model_takes_timms_habits():
    timm = pytest.importorskip("timm")
    import ghostnet.timm_model  # noqa: F401

    model = timm.create_model("ghostnas", arch=small_arch().to_dict(), num_classes=4, drop_rate=0.1, drop_path_rate=0.1)
    x = torch.randn(2, 3, 15, 15)
    assert model.forward_features(x).shape[1] == model.num_features
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (2, model.head_hidden_size)
    model.reset_classifier(0)
    assert model(x).shape == (2, 20)
    model.double().reset_classifier(3)
    assert model(x.double()).shape == (2, 3)
    with pytest.raises(ValueError, match="a feature map is one of 0 to 1"):
        timm.create_model("ghostnas", arch=small_arch(), features_only=True, out_indices=(7,))


def test_what_became_of_each_file_is_shown(exported, capsys, monkeypatch):
    """Of a quantised file the largest difference tells nothing."""
    monkeypatch.setattr(terminal, "stdout", Console(width=200))  # so that no cell is wrapped
    *_, manifest = exported
    quantised, exact = (manifest.files[kind.FILES[0]] for kind in (onnx_int8, onnx_file))
    show_files({"model.int8.onnx": quantised, "model.onnx": exact, "arch.json": manifest.files["arch.json"]})
    text = " ".join(re.sub(r"[│┃]", " ", capsys.readouterr().out).split())
    assert "arch.json" not in text and f"differs by {exact.largest_difference:.2g}" in text and "1.500" in text
    assert f"same top-1 class on {quantised.top1_agreement:.1%}" in text
    assert f"{quantised.accuracy.before:.2%} to {quantised.accuracy.after:.2%}" in text


def test_costs_of_an_exported_network_are_its_own_unless_others_are_asked_for(exported, tmp_path):
    net, folder, manifest = exported
    assert network_costs(folder).macs == network_costs(folder / "arch.json").macs == manifest.macs
    assert network_costs(folder, classes=7).num_classes == 7
    assert network_costs(net.arch).num_classes == 1000
    assert "no file says" not in network_costs(folder).message
    (alone := tmp_path / "alone.json").write_text(net.arch.to_json())
    assert "1000 classes and 3 channels (no file says which)" in network_costs(alone).message
    assert "no file says" not in network_costs(alone, classes=7, in_chs=1).message


def test_costs_of_a_spaces_own_network_are_of_the_spaces_classes_and_channels(tmp_path):
    digits, text = named_space("digits"), '[space]\nbase = "cifar"\nwidths = [0.5, 1.0]\nnum_classes = 7\n'
    (tmp_path / "own.toml").write_text(text)
    costs = network_costs("digits:0.5x")
    assert (costs.num_classes, costs.in_chs) == (digits.num_classes, digits.in_chs) == (10, 1)
    total = cost(digits.uniform(0.5), 10, 1)
    assert (costs.macs, costs.params) == (total.macs, total.params)
    assert network_costs(f"{tmp_path / 'own.toml'}:0.7x").num_classes == 7
    assert network_costs("digits:0.5x", classes=4, in_chs=3).macs == cost(digits.uniform(0.5), 4, 3).macs
    assert network_costs("ghostnet-1.0").num_classes == 1000


@pytest.fixture
def saved(net, tmp_path):
    """A network's weights, and images of its shape."""
    weights.save_weights(net, tmp_path / "net.safetensors")
    split = Split(torch.randint(256, (12, 3, 15, 15), dtype=torch.uint8), torch.arange(12) % 5)
    statistics = {"mean": (0.3, 0.4, 0.5), "std": (0.2, 0.3, 0.4)}
    return tmp_path / "net.safetensors", Data("pictures", tuple("abcde"), *[split] * 4, **statistics, flip=False)


def test_a_network_is_tried_on_images_as_it_was_trained_on(net, saved, tmp_path):
    file, data = saved
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    formats = ["safetensors"]
    for name, known_of_it, expected in (
        ("known", NetworkMetadata(**own, classes=[*"abcde"]), replace(data, **own)),
        ("unknown", NetworkMetadata(), data),
    ):
        export_trained(net.arch, file, tmp_path / name, formats, known_of_it, data=data, timed=False)
        tried = load_file(tmp_path / name / "proof.safetensors")["real"]
        assert torch.equal(torch.from_numpy(tried), expected.normalise(data.search.images))


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ("abedc", "from number 2 on e, d, c; not c, d, e"),
        ("vwxyz", "from number 0 on v, w, x; not a, b, c"),
    ],
    ids=["another order", "other names"],
)
def test_data_of_other_classes_are_refused_with_both(classes, told, net, saved, tmp_path):
    file, data = saved
    formats, metadata = ["safetensors"], NetworkMetadata(classes=[*classes])
    with pytest.raises(UserError, match=f"^the network has other classes than pictures: {told}$"):
        export_trained(net.arch, file, tmp_path / "out", formats, metadata, data=data, timed=False)
    assert not (tmp_path / "out").exists()


def test_export_and_verify_are_commands(tmp_path):
    net = randomise(GhostNet(small_arch(), 5)).eval()
    weights.save_weights(net, tmp_path / "net.safetensors")
    (tmp_path / "arch.json").write_text(net.arch.to_json())
    done = ghostnas(
        *("export", "arch.json", "--weights", "net.safetensors", "--to", "onnx", "--out", "there", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"]["model.onnx"]["latency_ms"] > 0
    (tmp_path / "larger.json").write_text(small_arch(resolution=30).to_json())
    done = ghostnas("export", "larger.json", "--weights", "net.safetensors", "--out", "other", cwd=tmp_path)
    assert done.returncode == 2 and f"has the weights of architecture {net.arch.id}, not of" in done.stderr
    done = ghostnas("export", "verify", "there", cwd=tmp_path)
    assert done.returncode == 0 and "there is what its manifest says: model.onnx differs by " in done.stdout
    done = ghostnas("cost", "there", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["macs"] == cost(net.arch, 5).macs  # not of the 1000 classes of ImageNet
    (tmp_path / "there/arch.json").write_text(small_arch(tail_chs=25).to_json())
    done = ghostnas("export", "verify", "there", cwd=tmp_path)
    assert done.returncode == 2 and "arch.json was changed" in done.stderr
    done = ghostnas("export", "verify", ".", cwd=tmp_path)
    assert done.returncode == 2 and "holds no export" in done.stderr


def test_a_space_gives_its_own_ghostnet_of_any_width():
    from spaces.find import find_arch

    assert find_arch("cifar:0.75x") == named_space("cifar").uniform(0.75)
    assert find_arch("cifar:1.2x").stem_chs == 20


def ill_conditioned() -> GhostNet:
    """A network whose first norm adds what the next one takes away again: float32 loses most of what is between."""
    net = randomise(GhostNet(small_arch(), 5)).eval()
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        norms[0].bias += 3e3
    estimate_norms(net, [torch.randn(64, 3, 15, 15, generator=torch.Generator().manual_seed(3))])
    return net.eval()


def test_a_file_is_held_to_float64_by_the_measure_of_float32():
    net = ill_conditioned()
    proof = Proof.from_network(net, IMAGES.numpy())
    with torch.no_grad():
        exact = copy.deepcopy(net).double()(torch.from_numpy(proof.images).double()).numpy()
        single = net(torch.from_numpy(proof.images)).numpy()
    np.testing.assert_array_equal(proof.expected, exact)
    largest = max(1.0, np.abs(exact).max())
    assert proof.float32_error == np.abs(single - exact).max() > TOLERANCE * largest  # too much for the fixed tolerance
    assert proof.try_on("a", single, exact=True).top1_agreement == 1.0
    with pytest.raises(UserError, match="a differs from the PyTorch network by"):
        proof.try_on("a", exact + 5 * proof.float32_error, exact=True)


def test_an_ill_conditioned_network_is_exported_and_verified(tmp_path):
    net = ill_conditioned()
    manifest = export(net, tmp_path / "net", ["onnx", "safetensors"], IMAGES)
    tried = manifest.tried_on
    assert tried.allowed_difference == pytest.approx(YARDSTICK * tried.float32_error)
    assert set(verify(tmp_path / "net").files) == {"model.onnx", "weights.safetensors"}


@pytest.mark.parametrize(
    ("outputs", "error", "words"),
    [
        ([[1.0, np.inf]], 0.0, "not finite"),
        ([[1.0, 2.0]], 0.03, "at most 0.02"),
        ([[1.0, 2.0]], np.nan, "at most 0.02"),
    ],
)
def test_a_network_that_float32_cannot_hold_is_refused(outputs, error, words):
    with pytest.raises(UserError, match=words):
        Proof(np.zeros((1, 3, 2, 2), np.float32), np.array(outputs), error)


@pytest.mark.parametrize(("name", "dtype"), TIMED, ids=map("-".join, TIMED))
def test_a_format_lowers_the_cheap_op_as_the_calibration_that_it_stands_for(name, dtype, net, tmp_path, monkeypatch):
    format_name = RUNTIMES[name].exports[dtype]
    if (why := RUNTIMES[name].missing()) is not None:
        pytest.skip(why)
    lowerings = []
    for module in (onnx_graph, lowering):
        form = module.form
        monkeypatch.setattr(module, "form", lambda conv, how, form=form: lowerings.append(how) or form(conv, how))
    export(net, tmp_path / "export", [format_name], IMAGES, held_out=held_out(torch.randn(8, 3, 15, 15)))
    exported, run = set(lowerings), runtime(name, 1, dtype)
    lowerings.clear()
    run.compile(net, IMAGES.shape[1:])
    assert exported == set(lowerings) == {run.lowering}


def test_an_export_of_an_export_knows_all_that_it_knew(tmp_path):
    data, arch = load_data("digits", 16, 100), SPACE.uniform(0.5)
    config = Training(epochs=0.5, batch_size=32, use_held_out=True)
    retrain(arch, data, config, tmp_path / "net", device=torch.device("cpu"))
    first, second = (tmp_path / name for name in ("first", "second"))
    for source, out in ((tmp_path / "net", first), (first, second)):
        export_network(source, out, ["safetensors", "onnx-int8"], data=data, timed=False)
    known, again = (read_manifest(folder) for folder in (first, second))
    for key in NetworkMetadata.model_fields:
        assert getattr(known, key) == getattr(again, key), key
    assert known.accuracy.test_images == len(data.test) and known.training.steps and known.saw_search_images
    quantised = [manifest.files["model.int8.onnx"].accuracy for manifest in (known, again)]
    assert quantised[0] == quantised[1] and quantised[0].split == "search split of digits, which it was trained on, too"
