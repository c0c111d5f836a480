"""A look at pictures: counted by hand, whatever their form."""

import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from search.data.survey import survey
from search.errors import UserError


def picture(height: int, width: int, grey: bool, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 1 if grey else 3), dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(pixels, (height, width, 3)).copy())


@pytest.fixture
def folder(tmp_path):
    """Two classes in the folder itself: 40 and 21 pictures, of which a third are grey; a damaged one, a note."""
    for label, count in (("cat", 40), ("dog", 21)):
        (tmp_path / label).mkdir()
        for k in range(count):
            image = picture(20 + k, 60, grey=k % 3 == 0, seed=k)
            (image.convert("L") if k % 6 == 0 else image).save(tmp_path / label / f"{k:02}.png")
    (tmp_path / "cat" / "damaged.jpg").write_bytes((tmp_path / "cat" / "00.png").read_bytes()[:200])
    (tmp_path / "cat" / "note.txt").write_text("mine")
    return tmp_path


def test_a_folder_without_a_test_part(folder):
    result = survey(str(folder))
    assert result.classes == ("cat", "dog") and result.train == (32, 17) and result.test == (8, 4)
    assert result.name == f"imagefolder:{folder}?test=0.2,unreadable=skip" and result.test_share == 0.2
    assert list(result.unreadable) == [str(folder / "cat" / "damaged.jpg")]
    assert result.channels == "grey and colour" and result.grey == 14 + 7
    assert result.shorter_sides == (20, sorted([*range(20, 60), *range(20, 41)])[30], 59)


def test_a_folder_with_a_test_part_is_taken_as_it_is(folder):
    for label in ("cat", "dog"):
        for part, names in (("train", "1*.png"), ("test", "0*.png")):
            (folder / part / label).mkdir(parents=True)
            for file in sorted((folder / label).glob(names)):
                file.rename(folder / part / label / file.name)
        for k in range(10):
            picture(30, 30, False, k).save(folder / "train" / label / f"more-{k}.png")
    result = survey(f"imagefolder:{folder}")
    assert (result.train, result.test, result.test_share) == ((20, 20), (10, 10), None) and result.unused == ()
    shutil.copytree(folder / "test", folder / "valid")
    result = survey(f"imagefolder:{folder}")
    assert (result.train, result.test, result.unused) == ((20, 20), (10, 10), ("valid",))


def test_parquet_is_known_by_its_files(tmp_path):
    rows = []
    for k in range(60):
        content = io.BytesIO()
        picture(16, 16, False, k).save(content, "PNG")
        rows.append({"image": {"bytes": content.getvalue(), "path": None}, "label": k % 3})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    result = survey(str(tmp_path))
    assert (result.train, result.test, result.channels) == ((16,) * 3, (4,) * 3, "colour")


def test_what_is_no_set_of_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no folder"):
        survey(str(tmp_path))
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        picture(8, 8, False, 0).save(tmp_path / label / "one.png")
    with pytest.raises(UserError, match="2 images are too few to hold out"):
        survey(str(tmp_path))
