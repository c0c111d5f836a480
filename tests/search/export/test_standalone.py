"""`verify.py`, which travels with an export: one file for an old Python, a verdict by exit code, nothing outside."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file

from ghostnet import GhostNet
from search.export import standalone
from search.export.export import HeldOut, export
from search.export.verify import verify
from tests.helpers import randomise, small_arch

LITERT = find_spec("ai_edge_litert") is not None
BARE = """import runpy, sys
sys.modules.update(dict.fromkeys({missing!r}))  # as if they were not installed
sys.argv = ["verify.py"]
runpy.run_path({script!r}, run_name="__main__")"""
NO_TORCH = ["torch", "search", "ghostnet", "spaces", "onnx", "safetensors", "pydantic", "typer"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    net = randomise(GhostNet(small_arch(), 5)).eval()
    images = torch.randn(40, 3, 15, 15, generator=torch.Generator().manual_seed(1))
    held_out = HeldOut(calibration=images, images=images, labels=torch.zeros(40).long(), name="a test's")
    formats = ["onnx", "onnx-int8", "safetensors", *(["litert"] if LITERT else [])]
    folder = tmp_path_factory.mktemp("export") / "all"
    export(net, folder, formats, images[:8], held_out=held_out)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def put(folder, name, content, **recorded):
    """A file that the manifest lists with its right fingerprint: what somebody can do who means harm."""
    (folder / name).write_bytes(content)
    manifest = manifest_of(folder)
    listed = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"][name] = manifest["files"].get(name, {}) | listed | recorded
    (folder / "manifest.json").write_text(json.dumps(manifest))


def run_alone(folder, missing):
    command = [sys.executable, "-I", "-c", BARE.format(missing=missing, script=str(folder / "verify.py"))]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_it_is_one_file_of_python_3_8(exported):
    tree = ast.parse((exported / "verify.py").read_text(), feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - {"numpy", "onnxruntime", "ai_edge_litert"} <= sys.stdlib_module_names


def test_without_pytorch_it_runs_what_it_has_a_runtime_for_and_says_what_it_did_not_run(exported):
    done = run_alone(exported, [*NO_TORCH, "ai_edge_litert"])
    assert done.returncode == 0, done.stderr
    lines = {line[8:].partition(":")[0]: line for line in done.stdout.splitlines()}
    for name in ("arch.json", "config.json", "verify.py", "model.onnx", "model.int8.onnx"):
        assert lines[name].startswith("ok ")
    assert "same top-1 class on 100.0% of 24 images" in lines["model.onnx"]
    assert lines["weights.safetensors"].startswith("-- ") and "ghostnas export verify" in lines["weights.safetensors"]
    if LITERT:
        assert lines["model.tflite"].startswith("-- ") and "pip install ai-edge-litert" in lines["model.tflite"]
    done = run_alone(exported, [*NO_TORCH, "ai_edge_litert", "onnxruntime"])
    assert done.returncode == 2 and "none was run: pip install onnxruntime" in done.stderr
    assert done.stdout.count("pip install onnxruntime") == 2


@pytest.mark.skipif(not LITERT, reason="no LiteRT here")
def test_it_runs_litert_files(folder, capsys):
    assert standalone.main(folder, []) == 0
    assert "ok      model.tflite: unchanged; same top-1 class on 100.0%" in capsys.readouterr().out
    verify(folder)


@pytest.mark.parametrize("name", ["model.onnx", "arch.json", "proof.safetensors", "verify.py"])
@pytest.mark.parametrize("damage", ["changed", "missing", "a link"])
def test_a_file_that_was_changed_is_missing_or_a_link_fails(folder, tmp_path, name, damage, capsys):
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage == "changed":
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        os.symlink(tmp_path / "elsewhere", folder / name)
    assert standalone.main(folder, []) == 1
    assert f"FAILED  {name}: " in (out := capsys.readouterr().out) and damage in out


def test_another_network_under_a_right_fingerprint_fails(folder, tmp_path, capsys):
    other = randomise(GhostNet(small_arch(), 5), seed=9).eval()
    export(other, tmp_path / "other", ["onnx"], torch.empty(0, 3, 15, 15))
    put(folder, "model.onnx", (tmp_path / "other/model.onnx").read_bytes())
    assert standalone.main(folder, []) == 1
    assert "FAILED  model.onnx: differs from the PyTorch network by" in capsys.readouterr().out


def test_a_quantised_network_that_answers_otherwise_fails(folder, capsys):
    model = onnx.load(folder / "model.int8.onnx")
    (last,) = [node for node in model.graph.node if node.output[0] == "output"]
    last.op_type = "Neg"
    put(folder, "model.int8.onnx", model.SerializeToString())
    assert standalone.main(folder, []) == 1
    assert "FAILED  model.int8.onnx: keeps the PyTorch network's answer on" in capsys.readouterr().out


def test_a_file_that_is_no_model_or_has_weights_elsewhere_fails_in_a_line(folder, tmp_path, capsys):
    put(folder, "model.onnx", b"\x00junk")
    model = onnx.load(folder / "model.int8.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    put(folder, "model.int8.onnx", (tmp_path / "m.onnx").read_bytes())
    assert standalone.main(folder, []) == 1
    out = capsys.readouterr().out
    assert "FAILED  model.onnx: can't be run: " in out
    assert "FAILED  model.int8.onnx: has weights in other files" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "x"}, "has not the schema"),
        ({"files": []}, "lists no files"),
        ({"files": {"../x": {"sha256": "0" * 64}}}, "outside this folder"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64}}}, "outside this folder"),
        ({"files": {"a\\..\\b": {"sha256": "0" * 64}}}, "outside this folder"),
        ({"files": {"x": {"sha256": "0"}}}, "no SHA-256 of x"),
        ({"in_chs": 1 << 15, "resolution": 1 << 15}, "too large ones"),
        ({"in_chs": True}, "no sizes of images"),
        ({"resolution": 14}, "has images"),
    ],
)
def test_a_manifest_that_is_none_or_asks_for_too_much_gets_no_verdict(folder, change, message, capsys):
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder) | change))
    assert standalone.main(folder, []) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"schema": 1}', None])
def test_a_folder_without_a_manifest_gets_no_verdict(folder, content, capsys):
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    assert standalone.main(folder, []) == 2
    assert capsys.readouterr().err.startswith("verify.py: ")


def test_a_proof_that_proves_nothing_gets_no_verdict(folder, tmp_path, capsys):
    whole = load_file(folder / "proof.safetensors")
    cases = [
        whole | {"float32_error": np.array([1e9])},
        whole | {"float32_error": np.array([np.nan])},
        whole | {"expected": whole["expected"] * np.inf},
        whole | {"expected": whole["expected"][:-1]},
        whole | {"expected": whole["expected"][:, :0]},
        {"real": whole["real"]},
    ]
    contents = [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]"]
    for tensors in cases:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, tmp_path / "p")
        contents.append((tmp_path / "p").read_bytes())
    for content in contents:
        put(folder, "proof.safetensors", content)
        assert standalone.main(folder, []) == 2, content[:80]
        err = capsys.readouterr().err
        assert "proof.safetensors" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a"]}, "manifest.json: `classes` must have `num_classes` values, 5, but has ['a']"),
        ({"std": 1.0}, "manifest.json: `std` must have `in_chs` values, 3, but has 1.0"),
        ({"arch": "0" * 10}, "model.onnx: says that its arch is "),
        ({"bytes": 1}, "bytes, but manifest.json says 1"),
    ],
)
def test_a_manifest_that_says_otherwise_than_the_files_fails(folder, change, message, capsys):
    manifest = manifest_of(folder)
    if "bytes" in change:
        manifest["files"]["model.onnx"] |= change
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    assert standalone.main(folder, []) == 1
    assert f"{message}" in (out := capsys.readouterr().out) and "FAILED" in out


def test_what_the_manifest_does_not_list_is_said(folder, capsys):
    (folder / "more\x1b.txt").write_text("theirs")
    (folder / "hub/deeper").mkdir(parents=True)
    (folder / "hub/deeper/x.bin").write_bytes(b"x")
    assert standalone.main(folder, []) == 0
    out = capsys.readouterr().out
    assert "--      more?.txt: not checked" in out and "--      hub: not checked" in out and "x.bin" not in out
    manifest = manifest_of(folder)
    (folder / "hub/README.md").write_bytes(b"x")
    manifest["files"]["hub/README.md"] = {"sha256": hashlib.sha256(b"x").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert standalone.main(folder, []) == 0
    out = capsys.readouterr().out
    assert "--      hub/deeper: not checked" in out and "--      hub:" not in out
