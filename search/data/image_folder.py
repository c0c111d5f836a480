"""Image folders: `train/CLASS/...` beside `test/CLASS/...`, or `val` or `valid`."""

import os
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from search.data.images import ImageSource
from search.data.labels import check_names, check_same
from search.data.paths import SUFFIXES, class_folders, is_hidden, test_folder, training_folder, walk
from search.errors import UserError
from search.terminal import say

Labelled = tuple[tuple[ImageSource, ...], Tensor]


def read_image_folder(folder: Path, one_part: bool = False) -> tuple[list[Labelled], tuple[str, ...]]:
    """The images and labels of the training part and of the test part, and the classes: names of folders, in order.
    Hidden files and folders are ignored; the number of other files is reported.

    Args:
        one_part: there is only a training part.

    Raises:
        UserError: a part or a class without images, or parts of different classes.
    """
    if one_part:
        part = training_folder(folder)
        classes = check_names(class_folders(part))
        return [_read(part, classes)], classes
    parts = folder / "train", test_folder(folder)
    classes = check_names(class_folders(parts[0]))
    check_same(classes, class_folders(parts[1]), (str(parts[0]), str(parts[1])))
    return [_read(part, classes) for part in parts], classes


def _read(part: Path, classes: tuple[str, ...]) -> Labelled:
    sources: list[ImageSource] = []
    labels: list[int] = []
    skipped = Counter(_ending(path.name) for path in part.iterdir() if path.is_file() and not is_hidden(path.name))
    for label, name in enumerate(classes):
        images, others = _images(part / name)
        skipped += others
        if not images:
            endings = f" (skipped: {_counts(others)})" if others else ""
            raise UserError(f"{part / name} has no images{endings}: their names end in {', '.join(sorted(SUFFIXES))}")
        sources += map(ImageSource, images)
        labels += [label] * len(images)
    if skipped:
        what = "1 file skipped, no image by its name"
        if skipped.total() > 1:
            what = f"{skipped.total()} files skipped, which are no images by their names"
        say(f"{part}: {what}: {_counts(skipped)}")
    return tuple(sources), torch.tensor(labels)


def _images(folder: Path) -> tuple[list[str], Counter[str]]:
    """The images below a folder, in order, and how many other files there are by their endings."""
    images: list[tuple[str, str]] = []
    skipped: Counter[str] = Counter()
    for root, name in walk(folder):
        if _ending(name) in SUFFIXES:
            images.append((root, name))
        else:
            skipped[_ending(name)] += 1
    return [os.path.join(root, name) for root, name in sorted(images)], skipped


def _ending(name: str) -> str:
    return Path(name).suffix.lower() or "no extension"


def _counts(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
