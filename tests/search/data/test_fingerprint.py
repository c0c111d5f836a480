"""A data set's identity is its content: it moves with its folder, and no change of the data goes unseen."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from search.data.datasets import load_data
from search.data.names import data_source
from search.errors import UserError
from tests.search.data.test_datasets import parquet_folder


def fingerprint(name: str) -> str:
    return data_source(name).fingerprint()


def pictures(folder: Path) -> Path:
    """Files that stand for pictures: a fingerprint decodes none."""
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            for k in range(4):
                path = folder / part / label / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(range(40 + k)) * (10 + k))
    return folder


def flip_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


CHANGES = {
    "another class": lambda f: (f / "train/cat/1.png").rename(f / "train/dog/9.png"),
    "a class renamed": lambda f: [(f / part / "cat").rename(f / part / "lion") for part in ("train", "test")],
    "one less": lambda f: (f / "test/dog/3.png").unlink(),
    "one more": lambda f: shutil.copy(f / "test/dog/3.png", f / "test/dog/4.png"),
    "a byte of a picture": lambda f: flip_a_byte(f / "train/dog/2.png", 100),
    "two swapped": lambda f: [
        (f / "train/cat/0.png").rename(f / "x"),
        (f / "train/cat/1.png").rename(f / "train/cat/0.png"),
        (f / "x").rename(f / "train/cat/1.png"),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_folder_is_what_is_in_it(change, tmp_path):
    before = fingerprint(f"imagefolder:{pictures(tmp_path / 'here')}")
    shutil.copytree(tmp_path / "here", tmp_path / "there/again")
    moved = tmp_path / "there/again"
    (moved / ".DS_Store").touch()
    (moved / "train/.cache").mkdir()
    (moved / "train/.cache/0.png").touch()
    (moved / "notes.txt").touch()
    assert fingerprint(f"imagefolder:{moved}") == before
    CHANGES[change](moved)
    assert fingerprint(f"imagefolder:{moved}") != before


def test_every_picture_of_one_size_is_looked_at(tmp_path):
    """More files than pieces are read, as of pictures that are stored without compression."""
    rng = np.random.default_rng(0)
    for k in range(600):
        file = tmp_path / f"{'train' if k < 500 else 'test'}/{'ab'[k % 2]}/{k}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.bytes(9000))
    before = fingerprint(f"imagefolder:{tmp_path}")
    for file in rng.choice(sorted(tmp_path.rglob("*.bmp")), 40, replace=False):
        old = file.read_bytes()
        file.write_bytes(rng.bytes(9000))
        assert fingerprint(f"imagefolder:{tmp_path}") != before
        file.write_bytes(old)
    assert fingerprint(f"imagefolder:{tmp_path}") == before


def test_a_part_that_is_not_read_is_no_part_of_it(tmp_path):
    folder = pictures(tmp_path / "data")
    shutil.copytree(folder / "test", folder / "val")
    before = fingerprint(f"imagefolder:{folder}")
    flip_a_byte(folder / "val/cat/2.png", 100)
    assert fingerprint(f"imagefolder:{folder}") == before
    shutil.rmtree(folder / "test")
    assert fingerprint(f"imagefolder:{folder}") != before


def test_classes_that_are_links_are_part_of_an_image_folder(tmp_path):
    alone, linked = pictures(tmp_path / "alone"), pictures(tmp_path / "linked")
    (linked / "train/cat").rename(tmp_path / "cat")
    (linked / "train/cat").symlink_to(tmp_path / "cat")
    assert fingerprint(f"imagefolder:{linked}") == fingerprint(f"imagefolder:{alone}")
    flip_a_byte(tmp_path / "cat/2.png", 100)
    assert fingerprint(f"imagefolder:{linked}") != fingerprint(f"imagefolder:{alone}")


def test_parquet_is_what_is_in_it(tmp_path):
    before = fingerprint(f"parquet:{parquet_folder(tmp_path / 'a')}")
    assert fingerprint(f"parquet:{parquet_folder(tmp_path / 'b')}") == before
    table = pq.read_table(tmp_path / "b/train.parquet")
    labels = table["label"].to_pylist()
    relabelled = table.set_column(table.column_names.index("label"), "label", [[*labels[1:], labels[0]]])
    pq.write_table(relabelled, tmp_path / "b/train.parquet")
    assert fingerprint(f"parquet:{tmp_path / 'b'}") != before


def test_data_that_a_name_says_all_of_is_its_name_and_loaded_data_knows_its_own(tmp_path):
    assert fingerprint("cifar10") == "cifar10" and load_data("digits", 8).fingerprint == "digits"
    name = f"parquet:{parquet_folder(tmp_path)}"
    assert load_data(name, 8).fingerprint == load_data(name, 16, limit=50).fingerprint == fingerprint(name)


@pytest.mark.parametrize("name", ["mars", "csv:somewhere", "digits:x"])
def test_names_of_no_layout_have_no_fingerprint(name):
    with pytest.raises(UserError, match=rf"data is one of digits, cifar10.* parquet:PATH, not '{name}'"):
        fingerprint(name)
