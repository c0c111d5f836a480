"""Names of data sets, and whether they are available: checked before anything is loaded.

`digits` (scikit-learn's, nothing downloaded); `cifar10`, `cifar100`, `mnist`, `fashionmnist` (torchvision, downloaded);
`imagefolder:PATH` (`train/CLASS/...`, and `test/` or `val/` likewise); `parquet:PATH` (Hugging Face image layout:
`train*.parquet`, and `test*.parquet` or `validation*.parquet`). Where images have no test part, `?test=0.2` at the end
holds out that share of every class, always the same images; the classes may then lie in PATH itself.
"""

from dataclasses import dataclass
from pathlib import Path

from search.errors import UserError

ENDINGS = "bmp gif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split())  # of images in folders
TEST_PARTS = ("test", "validation", "val")  # the first that has labels is the test part
TEST_SHARE = "?test="  # before the share that is held out, at the end of a path
TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashionmnist": "FashionMNIST"}


@dataclass(frozen=True, slots=True)
class ImagePath:
    """A data set's name that is a path, in its parts.

    Args:
        kind: `imagefolder` or `parquet`.
        test_share: of each class, held out for testing; None: the data have a test part of their own.
    """

    kind: str
    folder: Path
    test_share: float | None


def image_path(name: str) -> ImagePath | None:
    """The parts of a name that is a path; None of any other.

    Raises:
        UserError: the share to be held out is none.
    """
    kind, _, path = name.partition(":")
    if kind not in ("parquet", "imagefolder"):
        return None
    folder, query, text = path.rpartition(TEST_SHARE)
    if not query:
        return ImagePath(kind, Path(path), None)
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 0.9:
        raise UserError(f"the share of images held out for testing goes from 0.01 to 0.9, not {text!r} as in {name!r}")
    return ImagePath(kind, Path(folder), share)


def check_data_name(name: str) -> None:
    """Raises:
    UserError: an unknown name, or a path that is not there or not of that layout.
    """
    if source := image_path(name):
        if not source.folder.is_dir():
            raise UserError(f"no folder {str(source.folder)!r} for data {name!r}")
        check_parts(source)
    elif name != "digits" and name not in TORCHVISION:
        kinds = ["digits", *TORCHVISION, "imagefolder:PATH", "parquet:PATH"]
        raise UserError(f"data is one of {', '.join(kinds)}, not {name!r}")


def check_parts(source: ImagePath) -> None:
    """Raises:
    UserError: a training part is missing, or a test part is where it should not be, or the other way round.
    """
    folder, split = source.folder, source.test_share is not None
    if split and has_test_part(source):
        raise UserError(f"{folder} has a test part of its own: {TEST_SHARE}{source.test_share:g} is for data without")
    if source.kind == "parquet":
        parquet_files(folder, ("train",))
        if not split:
            parquet_files(folder, TEST_PARTS)
    elif split:
        training_folder(folder)
    else:
        test_folder(folder)


def has_test_part(source: ImagePath) -> bool:
    """Whether the data have a part to test on, whatever else may be wrong with it."""
    if source.kind == "parquet":
        return bool(parquet_files(source.folder, TEST_PARTS, must=False))
    train, *parts = (source.folder / part for part in ("train", *TEST_PARTS))
    return has_classes(train) and any(map(has_classes, parts))  # a class may be called train or test, too


def parquet_files(folder: Path, parts: tuple[str, ...], must: bool = True) -> list[Path]:
    """The files of the first of these parts that has any, in order.

    Raises:
        UserError: none has, and one must.
    """
    for part in parts:
        for pattern in (f"{part}*.parquet", f"*/{part}*.parquet", f"{part}/*.parquet", f"*/{part}/*.parquet"):
            if files := sorted(file for file in folder.glob(pattern) if not file.name.startswith(".")):
                return files
    if must:
        raise UserError(f"no {' or '.join(f'{part}*.parquet' for part in parts)} in {folder}")
    return []


def class_folders(part: Path) -> tuple[str, ...]:
    """The names of a part's classes: its folders in order, hidden ones left out."""
    return tuple(sorted(path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith(".")))


def has_classes(part: Path) -> bool:
    """Whether it is a folder with folders in it."""
    return part.is_dir() and bool(class_folders(part))


def training_folder(folder: Path) -> Path:
    """Where the classes lie of an image folder without a test part: in `train`, or in itself.

    Raises:
        UserError: there are none.
    """
    part = folder / "train" if has_classes(folder / "train") else folder
    if not has_classes(part):
        raise UserError(f"imagefolder needs a folder for each class, but {folder} holds no folder")
    return part


def test_folder(folder: Path) -> Path:
    """An image folder's test part: the first whose classes are the training part's; else the first with any.

    Raises:
        UserError: it has none, or no `train`.
    """
    train = folder / "train"
    rule = (
        f"imagefolder needs {train} and {folder / 'test'} (or val), with a folder for each class; "
        f"{TEST_SHARE}0.2 after the path holds out a fifth where there is no test part"
    )
    parts = [folder / name for name in TEST_PARTS if (folder / name).is_dir()]
    if not train.is_dir() or not parts:
        raise UserError(rule)
    if not (classes := class_folders(train)):
        raise UserError(f"{rule}; {train} holds no folder")
    labelled = {part: names for part in parts if (names := class_folders(part))}  # others may lie flat, without labels
    if not labelled:
        raise UserError(f"{rule}; {' and '.join(map(str, parts))} hold no folder")
    return next((part for part, names in labelled.items() if names == classes), next(iter(labelled)))


def check_teacher(name: str) -> None:
    """Whether something is a teacher's name: `supernet:FOLDER`, `network:FOLDER` or `timm:NAME`.

    Raises:
        UserError: it is none, or its folder is not there.
    """
    kind, _, what = name.partition(":")
    if kind not in ("supernet", "network", "timm") or not what:
        raise UserError(f"a teacher is supernet:FOLDER, network:FOLDER or timm:NAME, not {name!r}")
    local = kind != "timm" or what.startswith("local-dir:")
    if local and not Path(what.removeprefix("local-dir:")).is_dir():
        raise UserError(f"no folder {what.removeprefix('local-dir:')!r} for the teacher {name!r}")
