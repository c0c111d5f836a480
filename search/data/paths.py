"""Where the files of a data set lie: looked for before PyTorch is loaded."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from search.errors import UserError
from search.files import glob

ENDINGS = "bmp gif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split())  # of images in folders
TEST_PARTS = ("test", "validation", "val")  # the first that has labels is the test part
FOLDER_TEST_PARTS = (*TEST_PARTS, "testing", "valid")  # of an image folder; of parquet files, these begin like others
PARTS = {"train", "training", *FOLDER_TEST_PARTS}  # names that are no class's if all are
SHOWN = 5  # folders named in a message
OF_SYSTEMS = {"__MACOSX", "@eaDir"}  # what macOS packs into archives; thumbnails on a Synology server


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is passed over without a word."""
    return name.startswith(".") or name in OF_SYSTEMS


def parquet_files(folder: Path, parts: tuple[str, ...], must: bool = True) -> list[Path]:
    """The files of the first of these parts that has any, in order, whether their names are in small letters or not.

    Raises:
        UserError: none has, and one must; or several folders have some, which may be the same images over again.
    """
    for part in parts:
        for pattern in (f"{part}*.parquet", f"*/{part}*.parquet", f"{part}/*.parquet", f"*/{part}/*.parquet"):
            either = re.sub(
                "[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", pattern.removesuffix(".parquet")
            )
            found = glob(folder, f"{either}.parquet")
            files = [file for file in found if not any(map(is_hidden, file.relative_to(folder).parts))]
            if pattern.startswith("*/") and len(configs := {file.relative_to(folder).parts[0] for file in files}) > 1:
                names = sorted(configs)
                listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
                raise UserError(
                    f"a part's files lie in one folder, but {folder} has {pattern} in {listed}: name one of them, such "
                    f"as {folder / names[0]}"
                )
            if files:
                return files
    if must:
        raise UserError(f"no {' or '.join(f'{part}*.parquet' for part in parts)} in {folder}")
    return []


def class_folders(part: Path) -> tuple[str, ...]:
    """The names of a part's classes: its folders in order, hidden ones and links to folders above left out."""
    folders = (path for path in part.iterdir() if path.is_dir() and not is_hidden(path.name))
    return tuple(sorted(path.name for path in folders if not _leads_back(path)))


def has_classes(part: Path) -> bool:
    """Whether it is a folder with folders in it."""
    return part.is_dir() and bool(class_folders(part))


def training_folder(folder: Path) -> Path:
    """Where the classes lie of an image folder without a test part: in `train`, or in itself.

    Raises:
        UserError: there are none, or parts of other names than ours in their place or beside `train`.
    """
    if has_classes(folder / "train"):
        _check_beside_train(folder)
        return folder / "train"
    if not (classes := class_folders(folder)):
        raise UserError(f"imagefolder needs a folder for each class, but {folder} holds no folder")
    if all(name.lower() in PARTS for name in classes):
        raise UserError(
            f"imagefolder needs a folder for each class, but {folder} holds {' and '.join(classes)}, which are no "
            "classes: parts are called train and test (or val, valid), with a folder for each class in them"
        )
    return folder


def _check_beside_train(folder: Path) -> None:
    """Raises:
    UserError: beside `train` lies a part of another name than ours, whose images would be left out without a word.
    """
    for name in class_folders(folder):
        if name not in ("train", *FOLDER_TEST_PARTS) and name.lower() in PARTS and has_classes(folder / name):
            raise UserError(f"a part beside {folder / 'train'} is called test (or val, valid), not {name}")


def test_folder(folder: Path) -> Path:
    """An image folder's test part: the first whose classes are the training part's; else the first with any.

    Raises:
        UserError: it has none, or no `train`.
    """
    train = folder / "train"
    rule = (
        f"imagefolder needs {train} and {folder / 'test'} (or val, valid), with a folder for each class; "
        f"?test=0.2 after the path holds out a fifth where there is no test part"
    )
    parts = [folder / name for name in FOLDER_TEST_PARTS if (folder / name).is_dir()]
    if not train.is_dir() or not parts:
        if train.is_dir():
            _check_beside_train(folder)
        raise UserError(rule)
    if not (classes := class_folders(train)):
        raise UserError(f"{rule}; {train} holds no folder")
    labelled = {part: names for part in parts if (names := class_folders(part))}  # others may lie flat, without labels
    if not labelled:
        raise UserError(f"{rule}; {' and '.join(map(str, parts))} hold no folder")
    return next((part for part, names in labelled.items() if names == classes), next(iter(labelled)))


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files at any depth, in order, none of them hidden or in a hidden folder; none where there is no folder."""
    paths = (Path(root, name) for root, name in (walk(folder) if folder.is_dir() else ()))
    return sorted(path for path in paths if path.suffix.lower() in suffixes and path.is_file())


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    """The files at any depth, links to folders followed: each one's folder and its name. Hidden ones are left out, and
    links to folders above, whose files would come again and again.

    Raises:
        UserError: a folder can't be read.
    """
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = [name for name in folders if not is_hidden(name) and not _leads_back(Path(root, name))]
        yield from ((root, name) for name in names if not is_hidden(name))


def _leads_back(path: Path) -> bool:
    """Whether it is a link to a folder that it lies in, however deep and whatever links lead there."""
    if not path.is_symlink():
        return False
    target = os.path.realpath(path)
    parents = Path(os.path.abspath(path)).parents
    return any(Path(os.path.realpath(parent)).is_relative_to(target) for parent in parents)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}") from None
