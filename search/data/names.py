"""How a data set is named, and whether it can be had: known before anything is loaded.

`digits` (scikit-learn's, nothing downloaded); `cifar10`, `cifar100`, `mnist`, `fashionmnist` (torchvision, downloaded);
`imagefolder:PATH` (`train/CLASS/...`, and `test/` or `val/` likewise); `parquet:PATH` (Hugging Face image layout:
`train*.parquet`, and `test*.parquet` or `validation*.parquet`).
"""

from pathlib import Path

from search.errors import UserError

TEST_PARTS = ("test", "validation", "val")  # the first that has labels is the test part
TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashionmnist": "FashionMNIST"}


def check(name: str) -> None:
    """Raises:
    UserError: an unknown name, or a path that is not there or not of that layout.
    """
    kind, _, path = name.partition(":")
    if kind in ("parquet", "imagefolder"):
        if not Path(path).is_dir():
            raise UserError(f"no folder {path!r} for data {name!r}")
        if kind == "parquet":
            for parts in (("train",), TEST_PARTS):
                parquet_files(Path(path), parts)
        else:
            test_folder(Path(path))
    elif name != "digits" and name not in TORCHVISION:
        kinds = ["digits", *TORCHVISION, "imagefolder:PATH", "parquet:PATH"]
        raise UserError(f"data is one of {', '.join(kinds)}, not {name!r}")


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


def test_folder(folder: Path) -> Path:
    """An image folder's test part: the first whose classes are the training part's; else the first with any.

    Raises:
        UserError: it has none, or no `train`.
    """
    train = folder / "train"
    rule = f"imagefolder needs {train} and {folder / 'test'} (or val), with a folder for each class"
    parts = [folder / name for name in TEST_PARTS if (folder / name).is_dir()]
    if not train.is_dir() or not parts:
        raise UserError(rule)
    if not (classes := class_folders(train)):
        raise UserError(f"{rule}; {train} holds no folder")
    labelled = {part: found for part in parts if (found := class_folders(part))}  # others may lie flat, without labels
    if not labelled:
        raise UserError(f"{rule}; {' and '.join(map(str, parts))} hold no folder")
    return next((part for part, found in labelled.items() if found == classes), next(iter(labelled)))


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
