"""Exports that are proven, and refused where they are not; reports as far as a run goes."""

import hashlib
import json

import numpy as np
import pytest
import torch

from ghostnet import Arch, GhostNet
from search.delivery import export as exporting
from search.delivery.export import export
from search.delivery.report import write_report
from search.errors import UserError
from tests.helpers import randomise, small_arch


@pytest.fixture
def net():
    return randomise(GhostNet(small_arch(), 5)).eval()


def test_every_format_gives_the_networks_outputs_and_the_manifest_says_so(net, tmp_path):
    images = torch.randn(6, 3, 15, 15)
    manifest = export(net, tmp_path, list(exporting.FORMATS), images, {"accuracy": {"test": 0.5}})
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == facts["sha256"]
        if name != "arch.json":
            assert facts["largest_difference"] < 1e-3 and facts["top1_agreement"] == 1.0
    assert Arch.load(tmp_path / "arch.json") == net.arch
    assert manifest["tried_on"]["real_images"] == 6


def test_the_onnx_file_takes_any_batch(net, tmp_path):
    import onnxruntime

    export(net, tmp_path, ["onnx"], torch.empty(0, 3, 15, 15), {})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        images = np.random.default_rng(0).standard_normal((batch, 3, 15, 15), dtype=np.float32)
        assert session.run(None, {"input": images})[0].shape == (batch, 5)


def test_a_file_that_differs_is_an_error_and_nothing_is_left(net, tmp_path, monkeypatch):
    def wrong(network):
        name, content, proof = exporting._onnx(network)
        return name, content, lambda images: proof(images) + 1

    monkeypatch.setitem(exporting.FORMATS, "onnx", wrong)
    with pytest.raises(UserError, match=r"model\.onnx differs from the PyTorch network by"):
        export(net, tmp_path / "out", ["onnx"], torch.empty(0, 3, 15, 15), {})
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(net, tmp_path):
    with pytest.raises(UserError, match="onnx, safetensors, pt2, not 'coffee'"):
        export(net, tmp_path, ["coffee"], torch.empty(0, 3, 15, 15), {})


def test_a_run_that_has_just_begun_is_reported_as_far_as_it_goes(tmp_path):
    from search.recipe import load

    (tmp_path / "run.json").write_text(json.dumps({"recipe": load("digits").model_dump(mode="json")}))
    page = write_report(tmp_path).read_text()
    assert "The supernet is not finished." in page and "<svg" in page
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path / "nothing")
