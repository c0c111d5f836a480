"""Architectures by what a user calls them."""

import pytest

from ghostnet import ArchError, published
from spaces import named_space
from spaces.find import find_arch
from tests.helpers import small_arch


def test_a_folder_without_an_architecture_hides_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ghostnet-1.0", "cifar:0.75x", "mine"):
        (tmp_path / name).mkdir()
    assert find_arch("ghostnet-1.0") == published("ghostnet-1.0")
    assert find_arch("cifar:0.75x") == named_space("cifar").uniform(0.75)
    with pytest.raises(ArchError, match=r"mine/arch\.json: No such file"):
        find_arch("mine")
    for name in ("ghostnet-1.0", "cifar:0.75x", "mine"):  # one that holds an architecture is meant
        (tmp_path / name / "arch.json").write_text(small_arch().to_json())
        assert find_arch(name) == small_arch()


def test_no_name_is_not_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arch.json").write_text(small_arch().to_json())
    assert find_arch(".") == small_arch()
    with pytest.raises(ArchError, match=r"or a name such as ghostnet-1\.0, not ''"):
        find_arch("")


def test_a_path_that_is_not_there_is_no_name(tmp_path):
    with pytest.raises(ArchError, match=r"^no file or folder .*networks/A, which an architecture is read from$"):
        find_arch(tmp_path / "networks/A")


@pytest.mark.parametrize("name", ["ghostnet-\u0661.\u0660", "cifar:\u0660.\u0665x"])
def test_digits_of_other_scripts_are_no_width(name):
    with pytest.raises(ArchError, match="a published network is called"):
        find_arch(name)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_weights_are_no_architecture(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK" * 3_000_000)
    with pytest.raises(ArchError, match=rf"is read from an arch\.json or named, such as ghostnet-1\.0, not .*{name}: "):
        find_arch(tmp_path / name)
