"""Labels and classes, in parquet files and in folders: what is taken, and what is refused before training."""

import io
import json
import os
import resource
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from search.data import datasets
from search.data.datasets import load_data
from search.data.labels import MIN_TRAIN
from search.data.names import data_source
from search.data.parquet import read_parquet
from search.data.splits import Split
from search.errors import UserError
from tests.search.command_line import ghostnas
from tests.search.data.test_datasets import image_folder
from tests.search.data.test_images import png as png_of

RNG = np.random.default_rng(0)


def png(size: tuple[int, int] = (8, 8), fill: int | None = None) -> bytes:
    pixels = RNG.integers(0, 256, (*size, 3), dtype=np.uint8) if fill is None else np.full((*size, 3), fill, np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write(file, labels: list, kind: pa.DataType, names=None, column: str = "image", images=None) -> None:
    """A parquet file in the Hugging Face layout."""
    images = images or [png() for _ in labels]
    pictures = pa.array([{"bytes": content, "path": None} for content in images])
    table = pa.table({column: pictures, "label": pa.array(labels, kind)})
    if names is not None:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def folder_of(path, train: list, test: list, kind: pa.DataType, names=None) -> str:
    write(path / "train.parquet", train, kind, names)
    write(path / "test.parquet", test, kind, names)
    return f"parquet:{path}"


def all_labels(data) -> list[int]:
    assert isinstance(data.train, Split)
    return sorted(k for split in (data.train, data.calibration, data.search) for k in split.labels.tolist())


@pytest.mark.parametrize(
    ("kind", "labels", "names", "classes"),
    [
        (pa.string(), ["dog", "cat"], None, ("cat", "dog")),
        (pa.large_string(), ["dog", "cat"], ["dog", "cat", "owl"], ("dog", "cat", "owl")),
        (pa.dictionary(pa.int8(), pa.string()), ["dog", "cat"], None, ("cat", "dog")),
        (pa.bool_(), [True, False], None, ("False", "True")),
        (pa.uint64(), [1, 0], None, ("0", "1")),
        (pa.int16(), [1, 0], ["x", "y"], ("x", "y")),
    ],
    ids=str,
)
def test_labels_of_every_kind_are_places_among_the_classes(kind, labels, names, classes, tmp_path):
    data = load_data(folder_of(tmp_path, labels * 20 + labels[:1] * 3, labels * 3, kind, names), 8)
    assert data.classes == classes
    place = [classes.index(str(label)) if not names or kind != pa.int16() else label for label in labels]
    assert all_labels(data) == sorted(place * 20 + place[:1] * 3) and data.test.labels.tolist() == place * 3


BAD_LABELS = {
    "a huge label": (pa.int64(), [0, 1, 2**40], None, "row 2 has the label 1099511627776: at most 100000 classes"),
    "a label beyond 63 bits": (pa.uint64(), [0, 1, 2**63 + 1], None, "has the label 9223372036854775809: at most"),
    "a negative label": (pa.int64(), [0, 1, -1], None, "row 2 has the label -1: labels go from 0$"),
    "beyond the names": (pa.int64(), [0, 1, 2], ["a", "b"], "has the label 2: labels of 2 classes go from 0 to 1"),
    "none": (pa.int64(), [0, 1, None], None, "row 2 has no label"),
    "a missing string": (pa.string(), ["a", "b", None], None, "row 2 has no label"),
    "an unknown string": (pa.string(), ["a", "b", "c"], ["a", "b"], "has the label 'c'; the classes are a, b"),
    "numbers with a point": (pa.float64(), [0.0, 1.0, 1.5], None, "whole numbers or strings, but .* have double"),
    "lists": (pa.list_(pa.int64()), [[0], [1], [1]], None, "whole numbers or strings, but .* have list"),
    "names that are twice there": (pa.int64(), [0, 1, 1], ["a", "a"], "two are 'a'"),
    "names that are none": (pa.int64(), [0, 1, 1], [1, 2], "not a list of strings"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_no_class_has_are_refused_with_their_row(case, tmp_path):
    kind, labels, names, message = BAD_LABELS[case]
    source = folder_of(tmp_path, labels + labels[:2] * 20, labels[:2] * 3, kind, names)
    with pytest.raises(UserError, match=message) as caught:
        load_data(source, 8)
    assert str(tmp_path / "train.parquet") in str(caught.value)


@pytest.mark.parametrize("label", [2, -1], ids=["beyond the training part's", "hidden for one image"])
def test_test_labels_are_held_to_the_training_classes(label, tmp_path):
    with pytest.raises(UserError, match=rf"test\.parquet, row 1 has the label {label}"):
        load_data(folder_of(tmp_path, [0, 1] * 20, [0, label, 1, 1], pa.int64()), 8)


def test_hidden_test_labels_give_way_to_a_validation_part(tmp_path, capfd):
    """As Hugging Face writes it, in several files, with its other name for the images."""
    for k in range(2):
        write(tmp_path / f"data/train-0000{k}-of-00002.parquet", [k, 1] * 10, pa.int64(), ["a", "b"], "img")
    write(tmp_path / "data/test-00000-of-00001.parquet", [-1] * 6, pa.int64(), ["a", "b"], "img")
    with pytest.raises(UserError, match="no test labels: all are hidden"):
        load_data(f"parquet:{tmp_path}", 8)
    write(tmp_path / "data/validation-00000-of-00001.parquet", [0, 1, 1, 1, 1], pa.int64(), ["a", "b"], "img")
    data = load_data(f"parquet:{tmp_path}", 8)
    assert data.test.labels.tolist() == [0, 1, 1, 1, 1] and all_labels(data) == [0] * 10 + [1] * 30
    assert "test-00000-of-00001.parquet: its labels are hidden" in capfd.readouterr().err.replace("\n", "")


def test_the_parts_of_a_parquet_folder_have_the_same_classes(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 1] * 10, pa.int64(), ["a", "b"])
    write(tmp_path / "train-1.parquet", [0, 1] * 10, pa.int64(), ["b", "c"])
    write(tmp_path / "test.parquet", [0, 1] * 2, pa.int64(), ["b", "a"])
    with pytest.raises(UserError, match=r"train-0\.parquet has a; only .*train-1\.parquet has c"):
        load_data(f"parquet:{tmp_path}", 8)
    write(tmp_path / "train-1.parquet", [0, 1] * 10, pa.int64(), ["a", "b"])
    with pytest.raises(UserError, match="train and test differ: their order is not the same"):
        load_data(f"parquet:{tmp_path}", 8)


@pytest.mark.parametrize("kinds", [(pa.string(), pa.int64()), (pa.int64(), pa.string())], ids=str)
def test_parts_have_labels_of_one_kind_unless_a_file_names_the_classes(kinds, tmp_path):
    labels = {pa.string(): ["cat", "dog"], pa.int64(): [0, 1]}
    write(tmp_path / "train.parquet", labels[kinds[0]] * 20, kinds[0])
    write(tmp_path / "test.parquet", labels[kinds[1]] * 3, kinds[1])
    with pytest.raises(UserError, match=f"both have names, but train has {kinds[0]} and the test part {kinds[1]}$"):
        load_data(f"parquet:{tmp_path}", 8)
    write(tmp_path / "test.parquet", labels[kinds[1]] * 3, kinds[1], ["cat", "dog"])
    assert load_data(f"parquet:{tmp_path}", 8).test.labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize("twice", ["image", "label"])
def test_two_columns_of_one_name_are_refused(twice, tmp_path):
    write(tmp_path / "train.parquet", [0, 1] * 20, pa.int64())
    table = pq.read_table(tmp_path / "train.parquet")
    pq.write_table(table.append_column(twice, table[twice]), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=rf"train\.parquet is not in .* layout: .* but 2 are called {twice}$"):
        load_data(f"parquet:{tmp_path}?test=0.2", 8)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", ["{}/{}-0.parquet", "{}/{}/0000.parquet"])
def test_several_configurations_of_parquet_files_are_refused(name, part, tmp_path):
    """They are often the same images over again, in training and in held-out splits at once."""
    for each, count in (("train", 20), ("test", 3)):
        for folder in ("full", "small") if each == part else ("full",):
            write(tmp_path / name.format(folder, each), [0, 1] * count, pa.int64())
    with pytest.raises(UserError, match=rf"\*\.parquet in full, small: name one of them, such as {tmp_path / 'full'}$"):
        load_data(f"parquet:{tmp_path}", 8)
    if part == "test":
        assert len(load_data(f"parquet:{tmp_path / 'full'}", 8).test) == 6


@pytest.mark.parametrize("name", ["data/{}-0000{}-of-00002.parquet", "{}/{}.parquet", "default/{}/{}.parquet"])
def test_several_files_of_a_part_in_one_folder_are_all_of_it(name, tmp_path):
    for part in ("train", "test"):
        for k in range(2):
            write(tmp_path / name.format(part, k), [0, 1] * 20, pa.int64())
    write(tmp_path / ".cache" / "train-0.parquet", [0, 1], pa.int64())
    data = load_data(f"parquet:{tmp_path}", 8)
    assert (len(all_labels(data)), len(data.test)) == (80, 80)


def test_images_of_a_parquet_file_may_differ_in_size_and_are_named_by_their_row(tmp_path):
    images = [png((8 + k, 12)) for k in range(40)]
    write(tmp_path / "train.parquet", [0, 1] * 20, pa.int64(), images=images)
    write(tmp_path / "test.parquet", [0, 1] * 2, pa.int64())
    assert load_data(f"parquet:{tmp_path}", 8).train.resolution == 8
    images[7] = images[7][:60]
    write(tmp_path / "train.parquet", [0, 1] * 20, pa.int64(), images=images)
    with pytest.raises(UserError, match=r"train\.parquet, row 7 can't be read as an image: "):
        load_data(f"parquet:{tmp_path}", 8)
    pq.write_table(pa.table({"image": [None] * 40, "label": [0, 1] * 20}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"row 0: `image` holds no encoded image, but NoneType"):
        load_data(f"parquet:{tmp_path}", 8)
    pq.write_table(pa.table({"photo": [b""] * 40, "label": [0, 1] * 20}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match="a column image or img is needed, but it has photo, label"):
        load_data(f"parquet:{tmp_path}", 8)


def test_parquet_files_that_memory_cant_hold_are_refused_before_they_are_read(tmp_path, monkeypatch):
    """Here four megabytes of zeros in a file of some hundred bytes."""
    monkeypatch.setattr(os, "sysconf", lambda _: 1500)  # 2.25 MB of memory
    source = folder_of(tmp_path, [0, 1] * 20, [0, 1] * 2, pa.int64())
    assert load_data(source, 8).num_classes == 2
    write(tmp_path / "train.parquet", [0, 1] * 20, pa.int64(), images=[bytes(100_000)] * 40)
    pq.write_table(
        pq.read_table(tmp_path / "train.parquet"), tmp_path / "train.parquet", use_dictionary=False, compression="zstd"
    )
    assert (tmp_path / "train.parquet").stat().st_size < 200_000
    with pytest.raises(UserError, match="parquet files are held in memory, 0 GB here, but these have"):
        load_data(source, 8)


def test_folders_ignore_hidden_files_and_count_the_others(tmp_path, capfd):
    image_folder(tmp_path, train=20, val=6)
    for name in ("._0.png", ".DS_Store"):
        (tmp_path / "train/cat" / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "train/.cache").mkdir()
    (tmp_path / "train/cat/.thumbs").mkdir()
    (tmp_path / "train/cat/.thumbs/1.png").write_bytes(b"")
    for name in ("notes.txt", "a.HEIC", "b.heic", "README"):
        (tmp_path / "train/dog" / name).write_bytes(b"x")
    (tmp_path / "train/dog/deeper").mkdir()
    (tmp_path / "train/dog/deeper/one.PNG").write_bytes(png())
    (tmp_path / "test").mkdir()  # flat, without labels, beside val
    (tmp_path / "test/1.png").write_bytes(png())
    data = load_data(f"imagefolder:{tmp_path}", 8)
    assert data.classes == ("cat", "dog") and all_labels(data) == [0] * 20 + [1] * 21 and len(data.test) == 12
    message = capfd.readouterr().err.replace("\n", "")
    assert "4 files skipped, which are no images by their names: 2 .heic, 1 .txt, 1 no extension" in message


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file systems refuse such names")
def test_files_may_have_names_that_are_no_utf_8_but_classes_may_not(tmp_path):
    image_folder(tmp_path, train=20, val=6)
    before = load_data(f"imagefolder:{tmp_path}", 8)
    (tmp_path / "train/cat/0.png").rename(tmp_path / "train/cat/0\udcff.png")
    data = load_data(f"imagefolder:{tmp_path}", 8)
    assert all_labels(data) == all_labels(before) and data.fingerprint != before.fingerprint
    for part in ("train", "val"):
        (tmp_path / part / "dog").rename(tmp_path / part / "d\udcffg")
    with pytest.raises(UserError, match=r"^names of classes are Unicode text, .*, but got 'd\\udcffg'$"):
        load_data(f"imagefolder:{tmp_path}", 8)


def test_links_to_folders_above_bring_no_image_twice(tmp_path):
    image_folder(tmp_path, train=20, val=6)
    before = load_data(f"imagefolder:{tmp_path}", 8)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "train/dog").rename(elsewhere)
    (tmp_path / "train/dog").symlink_to(elsewhere)
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/back").symlink_to(elsewhere)
    links = {"train/cat/self": ".", "train/cat/up": "..", "elsewhere/up": tmp_path / "train", "train/all": "."}
    links |= {"elsewhere/round": tmp_path / "pool"}  # back by another link
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    after = load_data(f"imagefolder:{tmp_path}", 8)
    assert after.classes == ("cat", "dog") and all_labels(after) == all_labels(before)
    assert after.fingerprint == before.fingerprint


def test_folders_of_other_classes_say_which(tmp_path):
    image_folder(tmp_path, train=20, val=6)
    (tmp_path / "val/dog").rename(tmp_path / "val/wolf")
    with pytest.raises(UserError, match=r"only .*train has dog; only .*val has wolf"):
        load_data(f"imagefolder:{tmp_path}", 8)
    (tmp_path / "train/wolf").mkdir()
    (tmp_path / "train/wolf/a.heic").write_bytes(b"x")
    (tmp_path / "val/dog").mkdir()
    with pytest.raises(UserError, match=r"train/wolf has no images \(skipped: 1 \.heic\)"):
        load_data(f"imagefolder:{tmp_path}", 8)


def small(path, train: int, classes: int, fills=(None,)) -> str:
    for part, count in (("train", train), ("test", 6)):
        images = [png(fill=fills[k % len(fills)]) for k in range(count)]
        write(path / f"{part}.parquet", [k % classes for k in range(count)], pa.int64(), ["a", "b"], images=images)
    return f"parquet:{path}"


@pytest.mark.parametrize(
    ("train", "classes", "fills", "words"),
    [
        (3, 2, (None,), f"{MIN_TRAIN} training images or more are needed, but there are 3"),
        (9, 2, (None,), f"{MIN_TRAIN} training images or more are needed, but there are 9"),
        (60, 1, (None,), "images of 2 classes or more are needed, but all are of 1"),
        (60, 2, (77,), "the images show nothing: their standard deviation is 0.0010 of 1"),
        (60, 2, (254, 255), "the images show nothing"),
    ],
)
def test_too_little_to_learn_from_is_one_line(train, classes, fills, words, tmp_path):
    with pytest.raises(UserError, match=words):
        load_data(small(tmp_path, train, classes, fills), 8)


def test_the_smallest_data_set_has_images_in_every_part(tmp_path):
    data = load_data(small(tmp_path, MIN_TRAIN, 2), 8)
    assert (len(data.train), len(data.search), len(data.calibration)) == (28, 8, 4)
    assert set(data.search.labels.tolist()) == set(data.calibration.labels.tolist()) == {0, 1}


def test_images_that_are_all_alike_are_refused(tmp_path):
    image_folder(tmp_path, train=20, test=6)
    content = png()
    for file in tmp_path.glob("*/*/*.png"):
        file.write_bytes(content)
    with pytest.raises(UserError, match="the images are all the same"):
        load_data(f"imagefolder:{tmp_path}", 8)


def test_a_damaged_file_ends_the_command_in_one_line_before_anything_is_written(tmp_path):
    image_folder(tmp_path / "images", train=20, val=6)
    file = tmp_path / "images/train/dog/7.png"
    file.write_bytes(png_of(13_000, 13_000, 8, 0, b""))
    done = ghostnas("train", "--space", "digits", "--data", "imagefolder:images", "--out", "net", cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "net").exists()
    message = "images/train/dog/7.png can't be read as an image: at most 89,478,485 pixels, but it has 13,000 x 13,000"
    assert done.stderr.startswith(f"ghostnas: {message}") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("limit", [datasets.IN_MEMORY, 0], ids=["in memory", "streamed"])
def test_damage_is_seen_on_loading_and_in_a_stream_by_the_headers(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "IN_MEMORY", limit)
    image_folder(tmp_path, train=20, val=6)
    file = tmp_path / "train/dog/7.png"
    for content, message in ((b"", "it is empty"), (b"\0\5\x16\7" * 9, "it is none of"), (None, "it is not a file")):
        file.unlink()
        if content is None:
            os.mkfifo(file)
        else:
            file.write_bytes(content)
        with pytest.raises(UserError, match=rf"dog/7\.png can't be read as an image: {message}"):
            load_data(f"imagefolder:{tmp_path}", 8)


def test_a_dictionary_that_repeats_its_values_beyond_bounds_is_refused_before_memory(tmp_path):
    """A few kilobytes that would be 200 GB: one image of a megabyte, 200,000 times."""
    rows = 200_000
    images = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([bytes(1 << 20)]))
    table = pa.table({"image": images, "label": pa.array(np.arange(rows) % 2)})
    limit = {"dictionary_pagesize_limit": 1 << 22, "compression": "zstd"}
    for part in ("train", "test"):
        pq.write_table(table, tmp_path / f"{part}.parquet", row_group_size=rows, store_schema=False, **limit)
    assert (tmp_path / "train.parquet").stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"train\.parquet .* row group 0 must have at most [\d,]+ bytes, 16 times what"):
        read_parquet(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 << 20  # kilobytes


@pytest.mark.parametrize("limit", [datasets.IN_MEMORY, 0], ids=["in memory", "streamed"])
def test_all_images_that_cant_be_read_are_named_at_once_whichever_split_has_them(limit, tmp_path, monkeypatch):
    """One a part and a class: some are of the training split, some held out of it, some of the test part."""
    monkeypatch.setattr(datasets, "IN_MEMORY", limit)
    image_folder(tmp_path, train=20, val=6)
    damaged = [tmp_path / part / label / "3.png" for part in ("train", "val") for label in ("cat", "dog")]
    for file in damaged:
        file.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        load_data(f"imagefolder:{tmp_path}", 8)
    named = "; ".join(f"{file} can't be read as an image: it is empty" for file in damaged)
    assert str(caught.value) == f"{named} (`?unreadable=skip` after the data's path leaves such images out)"
    for k in range(3, 13):
        (tmp_path / "train/dog" / f"{k}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"^([^;]*; ){5}and 8 more images \(`\?unreadable=skip` after"):
        load_data(f"imagefolder:{tmp_path}", 8)


def test_a_plan_refuses_images_that_a_run_would(tmp_path):
    image_folder(tmp_path / "pictures", train=20, val=6)
    whole = (tmp_path / "pictures/train/dog/3.png").read_bytes()
    (tmp_path / "pictures/train/dog/3.png").write_bytes(whole[: len(whole) - 40])  # its header is as it should be
    name = f"imagefolder:{tmp_path / 'pictures'}"
    with pytest.raises(UserError, match=r"dog/3\.png .*unreadable=skip"):
        data_source(name).check_images(10)
    data_source(f"{name}?unreadable=skip").check_images(10)
    data_source("digits").check_images(10)
