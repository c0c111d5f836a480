"""Splits are disjoint and in proportion; augmentation against a plain loop; every source, and what is refused."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from search.commands.shared import check_has_recipe
from search.data import layouts
from search.data.datasets import IN_MEMORY, Data, held_out, load_data, split_sizes, split_up, statistics
from search.data.encoded import EncodedSplit
from search.data.layouts.base import ImageFiles
from search.data.names import check_data_name, data_source, image_files, teacher_source
from search.data.splits import Split
from search.data.survey import survey
from search.data.transforms import Augment
from search.errors import UserError
from search.recipes.schema import Training


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", 16)


def test_splits_are_disjoint_cover_all_and_keep_classes_in_proportion(digits):
    splits = (digits.train, digits.calibration, digits.search, digits.test)
    assert sum(map(len, splits)) == 1797
    for split in splits:
        share = split.labels.bincount(minlength=10) / len(split)
        assert (share - 0.1).abs().max() < 0.025
    rows = torch.cat([split.images.flatten(1) for split in splits])
    original = len(load_data("digits", 8).train.images.flatten(1).unique(dim=0))
    assert len(rows.unique(dim=0)) > 1790 and original > 1000  # scikit-learn's set holds a few twins


@pytest.mark.parametrize(
    ("images", "to_search", "to_norms"),
    [(47, 9, 4), (12_500, 2500, 1250), (12_505, 2500, 1250), (25_000, 2500, 2500), (60_000, 2500, 2500)],
)
def test_a_fifth_and_a_tenth_are_held_out_but_no_more_than_2500_images(images, to_search, to_norms):
    whole = Split(torch.arange(images)[:, None, None, None].to(torch.uint8), torch.arange(images) % 3)
    data = split_up("x", whole, whole.take(torch.arange(9)), ("a", "b", "c"), 1, flip=False, identity="x")
    assert held_out(images) == (len(data.search), len(data.calibration)) == (to_search, to_norms)
    assert len(data.train) == images - to_search - to_norms


def test_loading_again_gives_the_same_splits(digits):
    again = load_data("digits", 16)
    assert torch.equal(again.search.images, digits.search.images) and torch.equal(again.test.labels, digits.test.labels)


def test_normalised_training_images_have_zero_mean_and_unit_variance(digits):
    pixels = digits.normalise(digits.train.images)
    assert abs(pixels.mean()) < 1e-3 and abs(pixels.std() - 1) < 1e-3


def _png(rng) -> bytes:
    content = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def parquet_folder(folder, train=120, test=40, size=8):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("test", test)):
        rows = []
        for k in range(count):
            content = io.BytesIO()
            pixels = rng.integers(0, 100, (size, size, 3)) + 50 * (k % 3)
            Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
            rows.append({"image": {"bytes": content.getvalue(), "path": None}, "label": k % 3})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet")
    return folder


def test_parquet_in_the_hugging_face_layout(tmp_path):
    data = load_data(f"parquet:{parquet_folder(tmp_path)}", 16)
    assert (data.num_classes, data.in_chs, len(data.test)) == (3, 3, 40)
    assert len(data.train) + len(data.search) + len(data.calibration) == 120
    assert data.train.images.shape[-1] == 16


def image_folder(folder, **counts):
    rng = np.random.default_rng(0)
    for part, count in counts.items():
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for k in range(count):
                (folder / part / label / f"{k}.png").write_bytes(_png(rng))
    return folder


def test_image_folders(tmp_path):
    image_folder(tmp_path, train=20, val=6)
    data = load_data(f"imagefolder:{tmp_path}", 16)
    assert data.classes == ("cat", "dog") and len(data.test) == 12


@pytest.mark.parametrize("name", ["val", "valid", "validation", "testing"])
def test_the_part_beside_train_is_tested_on_if_there_is_no_test_part(name, tmp_path):
    image_folder(tmp_path, **{"train": 20, name: 6})
    data = load_data(f"imagefolder:{tmp_path}", 8)
    assert len(data.train) + len(data.search) + len(data.calibration) == 40 and len(data.test) == 12
    assert survey(str(tmp_path)).test == (6, 6)
    (tmp_path / name / "cat" / "0.png").write_bytes((tmp_path / name / "dog" / "0.png").read_bytes()[:-4])
    assert data_source(f"imagefolder:{tmp_path}").fingerprint() != data.fingerprint
    image_folder(tmp_path, test=3)
    assert len(load_data(f"imagefolder:{tmp_path}", 8).test) == 6


def test_parts_that_are_not_tested_on_leave_a_data_set_what_it_was(tmp_path):
    image_folder(tmp_path, train=20, test=3)
    alone = data_source(f"imagefolder:{tmp_path}").fingerprint()
    image_folder(tmp_path, valid=3)
    assert data_source(f"imagefolder:{tmp_path}").fingerprint() == alone


@pytest.mark.parametrize("name", ["Val", "TEST", "training"])
@pytest.mark.parametrize("option", ["", "?test=0.2"])
def test_a_part_beside_train_of_another_name_is_refused(option, name, tmp_path):
    image_folder(tmp_path, **{"train": 30, name: 6})
    with pytest.raises(UserError, match=rf"beside {tmp_path / 'train'} is called test \(or val, valid\), not {name}$"):
        load_data(f"imagefolder:{tmp_path}{option}", 8)


@pytest.mark.parametrize("inside", ["", "train"])
def test_images_without_a_test_part_are_divided_by_class(inside, tmp_path):
    image_folder(tmp_path, **{inside or ".": 30})
    one = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    (tmp_path / inside / "owl").mkdir()
    one.save(tmp_path / inside / "owl" / "only.png")
    name = f"imagefolder:{tmp_path}?test=0.2"
    data, again = load_data(name, 8), load_data(name, 8)
    assert data.test.labels.bincount(minlength=3).tolist() == [6, 6, 0]  # an only image is to train with
    assert len(data.train) + len(data.search) + len(data.calibration) == 49
    seen = torch.cat([split.images for split in (data.train, data.search, data.calibration, data.test)])
    assert len(seen.flatten(1).unique(dim=0)) == 61 and torch.equal(data.test.images, again.test.images)
    other = load_data(f"imagefolder:{tmp_path}?test=0.3", 8)
    assert len(other.test) == 18 and other.fingerprint != data.fingerprint
    with pytest.raises(UserError, match=r"\?test=0.2 after the path holds out a fifth"):
        load_data(f"imagefolder:{tmp_path}", 8)


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "validation")])
def test_parts_of_other_names_are_taken_for_no_classes(names, tmp_path):
    """Networks would be searched that tell training pictures from test pictures."""
    image_folder(tmp_path, **dict.fromkeys(names, 30))
    with pytest.raises(UserError, match=f"holds {' and '.join(sorted(names))}, which are no classes: parts are called"):
        check_data_name(f"imagefolder:{tmp_path}?test=0.2")


def test_what_systems_leave_among_pictures_is_passed_over(tmp_path):
    image_folder(tmp_path, **{".": 30})
    for left in ("__MACOSX", "cat/@eaDir"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "1.png").write_bytes((tmp_path / "dog" / "1.png").read_bytes())
    data = load_data(f"imagefolder:{tmp_path}?test=0.2", 8)
    assert data.classes == ("cat", "dog") and len(data.test) == 12


def test_parquet_files_may_be_named_in_capital_letters(tmp_path):
    named = load_data(f"parquet:{parquet_folder(tmp_path / 'small')}", 8)
    folder = parquet_folder(tmp_path / "capital")
    (folder / "train.parquet").rename(folder / "Train-0.parquet")
    (folder / "test.parquet").rename(folder / "VAL.parquet")
    data = load_data(f"parquet:{folder}", 8)
    assert torch.equal(data.test.images, named.test.images) and torch.equal(data.train.images, named.train.images)


def test_parquet_without_a_test_part_is_divided_and_one_with_a_test_part_is_not(tmp_path):
    parquet_folder(tmp_path)
    with pytest.raises(UserError, match="has a test part of its own"):
        load_data(f"parquet:{tmp_path}?test=0.25", 8)
    (tmp_path / "test.parquet").unlink()
    data = load_data(f"parquet:{tmp_path}?test=0.25", 8)
    assert data.test.labels.bincount().tolist() == [10, 10, 10] and len(data.train) == 63


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("options", ["?unreadable=skip", "?test=0.2,unreadable=skip"])
def test_images_that_cannot_be_read_are_left_out_where_the_name_says_so(
    options, in_memory, tmp_path, monkeypatch, capsys
):
    """The data set is what it would be without these files, whichever part they are in."""
    parts: dict[str, int] = {"train": 30, "test": 10} if options == "?unreadable=skip" else {".": 30}
    whole, damaged = image_folder(tmp_path / "whole", **parts), image_folder(tmp_path / "damaged", **parts)
    for part in parts:
        content = (damaged / part / "cat" / "0.png").read_bytes()
        (damaged / part / "cat" / "0a.png").write_bytes(content[:-60])  # its beginning is in order
        (damaged / part / "dog" / "empty.png").write_bytes(b"")
    if not in_memory:
        monkeypatch.setattr("search.data.datasets.IN_MEMORY", 100)
    with pytest.raises(UserError, match="can't be read as an image"):
        load_data(f"imagefolder:{damaged}{options.replace('unreadable=skip', '').rstrip('?,')}", 8)
    capsys.readouterr()
    name = f"imagefolder:{damaged}{options}"
    data, oracle = load_data(name, 8), load_data(f"imagefolder:{whole}{options}", 8)
    for part in ("train", "calibration", "search", "test"):
        mine, theirs = getattr(data, part), getattr(oracle, part)
        assert torch.equal(mine.labels, theirs.labels)
        for (images, _), (others, _) in zip(data.batches(mine), oracle.batches(theirs), strict=True):
            assert torch.equal(images, others)
    sizes = split_sizes(name)
    assert (sizes.train, sizes.test) == (len(data.train), len(data.test))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("left out") == 1 and f"{2 * len(parts)} images are left out" in said and "empty.png" in said
    assert image_files(name).moved(whole).name == f"imagefolder:{whole}{options}"


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", ["digits", "imagefolder"])
def test_training_with_what_was_held_out_sees_every_image_once_and_no_test_image(
    kind, in_memory, tmp_path, monkeypatch
):
    name = kind if kind == "digits" else f"imagefolder:{image_folder(tmp_path, train=30, test=10)}"
    if not in_memory:
        monkeypatch.setattr("search.data.datasets.IN_MEMORY", 100)
    data = load_data(name, 8)
    whole = data.with_held_out()

    def seen(config: Training, *shown: tuple[Data, Split | EncodedSplit]) -> list[bytes]:
        """Images with their labels, as a training of that recipe reads them."""
        found = []
        for of, split in shown:
            for images, labels, _ in (
                Augment(replace(of, train=split), config).split().stream([(torch.arange(len(split)), 0)])
            ):
                found += [image.numpy().tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True)]
        return sorted(found)

    plain = Training(epochs=1, crop="none", flip=False)
    held_out = [(data, data.train), (data, data.calibration), (data, data.search)]
    assert seen(plain, (whole, whole.train)) == seen(plain, *held_out)
    assert torch.equal(whole.search.images, data.search.images) and whole.test is data.test
    cropped = seen(Training(epochs=1, crop="resized", crop_scale=0.5), (whole, whole.train))  # of the encoded images
    assert len(cropped) == len(whole.train) == len(data.train) + len(data.calibration) + len(data.search)
    assert split_sizes(name).train == len(data.train)


def test_tables_leave_rows_out_that_cannot_be_read(tmp_path):
    parquet_folder(tmp_path)
    rows = pq.read_table(tmp_path / "test.parquet").to_pylist()
    rows[3]["image"]["bytes"] = rows[3]["image"]["bytes"][:20]
    rows[4]["image"]["bytes"] = rows[5]["image"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"row 3 can't be read .*row 4 can't be read .*: it is empty; \S*, row 5 can't"):
        load_data(f"parquet:{tmp_path}", 8)
    data = load_data(f"parquet:{tmp_path}?unreadable=skip", 8)
    assert data.test.labels.tolist() == [row["label"] for k, row in enumerate(rows) if k not in (3, 4, 5)]


def test_a_folder_may_be_named_from_home(tmp_path, monkeypatch):
    """No shell expands `~` after a colon."""
    image_folder(tmp_path / "birds", a=10, b=10)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (image_files("imagefolder:~/birds"), image_files("imagefolder:~/birds?test=0.2")):
        assert source and source.folder == tmp_path / "birds"
    assert teacher_source("network:~/birds").folder == tmp_path / "birds"
    assert teacher_source("timm:local-dir:~/birds").model == f"local-dir:{tmp_path}/birds"
    assert teacher_source("timm:ghostnet_100").folder is None
    with pytest.raises(UserError, match="no recipe for imagefolder:~/birds"):  # not searched by the digits' recipe
        check_has_recipe("imagefolder:~/birds", None)


def test_what_is_refused(tmp_path):
    for name, message in (
        ("mars", "data is one of"),
        ("parquet:/no/such/folder", "no folder"),
        (f"parquet:{tmp_path}", "no train"),
        (f"imagefolder:{tmp_path}", "imagefolder needs"),
    ):
        with pytest.raises(UserError, match=message):
            check_data_name(name)
    (tmp_path / "train.parquet").write_bytes(b"not parquet")
    (tmp_path / "test.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="Hugging Face image layout"):
        load_data(f"parquet:{tmp_path}", 8)


@pytest.fixture
def folder(tmp_path):
    return image_folder(tmp_path, train=40, test=10)


def pixels(data, images):
    """What was normalised, as whole numbers again."""
    std, mean = (torch.tensor(v)[:, None, None] for v in (data.std, data.mean))
    return ((images * std + mean) * 255).round()


def test_a_folder_too_large_for_memory_streams_the_same_images(folder, monkeypatch):
    whole = load_data(f"imagefolder:{folder}", 16)
    monkeypatch.setattr("search.data.datasets.IN_MEMORY", 0)
    data = load_data(f"imagefolder:{folder}", 16)
    assert isinstance(data.train, EncodedSplit) and isinstance(data.test, EncodedSplit)
    assert torch.equal(data.search.images, whole.search.images) and torch.equal(data.train.labels, whole.train.labels)
    streamed = list(data.batches(data.test, 8))
    in_memory = list(whole.batches(whole.test, 8))
    for (a, la), (b, lb) in zip(streamed, in_memory, strict=True):
        assert torch.equal(la, lb) and torch.equal(pixels(data, a), pixels(whole, b))


def test_training_images_of_a_stream_depend_on_their_seed_alone(folder, monkeypatch):
    monkeypatch.setattr("search.data.datasets.IN_MEMORY", 0)
    data = load_data(f"imagefolder:{folder}", 16)
    train = Augment(data, Training(epochs=1, crop="resized")).split()
    first = list(train.stream([(torch.tensor([3, 1, 4]), 7), (torch.tensor([1, 5]), 8)]))
    again = list(train.stream([(torch.tensor([1, 5]), 8), (torch.tensor([4]), 7), (torch.tensor([4]), 9)]))
    assert torch.equal(first[1][0], again[0][0]) and torch.equal(first[0][0][2:], again[1][0])
    assert not torch.equal(again[1][0], again[2][0])
    assert first[0][1].tolist() == data.train.labels[[3, 1, 4]].tolist() and first[0][2] == 7


@pytest.mark.parametrize("limit", [0, IN_MEMORY])
def test_norms_are_for_crops_as_training_has_them(limit, tmp_path, monkeypatch):
    """Crops of images three times as large, of noise: crops of images that were scaled before have weaker edges."""
    monkeypatch.setattr("search.data.datasets.IN_MEMORY", limit)
    rng = np.random.default_rng(0)
    for part, count in (("train", 200), ("test", 4)):
        for k in range(count):
            path = tmp_path / part / str(k % 2) / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(path)
    data = load_data(f"imagefolder:{tmp_path}", 16)
    for config in (Training(epochs=1, crop="resized"), Training(epochs=1, crop="shift")):
        augment = Augment(data, config)
        train = augment.split()
        shown = torch.cat([augment(images, 1) for images, _, _ in train.stream([(torch.arange(len(train)), 7)])])
        calibration = torch.cat(list(augment.batches(augment.fixed(data.calibration, 0), 0)))
        edges = [float((images[..., 1:] - images[..., :-1]).abs().mean()) for images in (calibration, shown)]
        assert edges[0] == pytest.approx(edges[1], rel=0.15) and len(calibration) == len(data.calibration) == 20
        assert float(calibration.std()) == pytest.approx(float(shown.std()), rel=0.15)


def test_pixel_statistics_are_the_means_and_deviations_of_the_pixels():
    images = torch.randint(0, 200, (2300, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 2] = 9
    mean, std = statistics(images)
    pixels = images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std[:2] == pytest.approx(pixels.std((0, 2, 3))[:2].tolist(), abs=1e-5) and std[2] == 1e-3


def test_every_layout_is_a_file_and_a_line():
    """A file of `layouts/` that is not registered would be a data set that nobody can name; two of one name, one that
    nobody reaches."""
    files = {path.stem for path in Path(layouts.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert {layout.__module__.rpartition(".")[2] for layout in layouts.LAYOUTS} == files
    names = [name for layout in layouts.LAYOUTS for name in layout.known_as]
    assert len(set(names)) == len(names)
    for name in names:
        assert [bool(layout.parse(name)) for layout in layouts.LAYOUTS].count(True) == 1
    assert set(layouts.FILE_LAYOUTS) == {each for each in layouts.LAYOUTS if issubclass(each, ImageFiles)}
