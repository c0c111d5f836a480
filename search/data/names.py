"""How a data set is named, and whether it can be had: known before anything is loaded.

`digits` (scikit-learn's, nothing downloaded); `cifar10`, `cifar100`, `mnist`, `fashionmnist` (torchvision, downloaded);
`imagefolder:PATH` (with `train/` and `test/` or `val/`); `parquet:PATH` (Hugging Face image layout: `train*.parquet`
and `test*.parquet`).
"""

from pathlib import Path

from search.errors import UserError

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
            for part in ("train", "test"):
                parquet_files(Path(path), part)
        else:
            test_folder(Path(path))
    elif name != "digits" and name not in TORCHVISION:
        kinds = ["digits", *TORCHVISION, "imagefolder:PATH", "parquet:PATH"]
        raise UserError(f"data is one of {', '.join(kinds)}, not {name!r}")


def parquet_files(folder: Path, part: str) -> list[Path]:
    """The files of one part (`train` or `test`), in order.

    Raises:
        UserError: there are none.
    """
    files = sorted(folder.glob(f"{part}*.parquet")) or sorted(folder.glob(f"*/{part}*.parquet"))
    if not files:
        raise UserError(f"no {part}*.parquet in {folder}")
    return files


def test_folder(folder: Path) -> str:
    """The name of an image folder's test part: `test`, or else `val`.

    Raises:
        UserError: it has none, or no `train`.
    """
    tests = [name for name in ("test", "val") if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        raise UserError(f"imagefolder needs {folder}/train and {folder}/test (or val)")
    return tests[0]


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
