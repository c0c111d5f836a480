"""Checks labels against the classes, for every kind of data, before anything is written."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pyarrow import compute, types
from torch import Tensor

from search.errors import UserError
from search.terminal import say

MAX_CLASSES = 100_000  # ImageNet-21k has 21,843
# Images that a data set needs at the least: a fifth of those for training ranks networks, a tenth is for norms.
MIN_TRAIN, MIN_TEST, MIN_CLASSES = 40, 4, 2
SHOWN = 5  # classes named in a message

Where = Callable[[int], str]  # number of a label -> what messages call its place


def resolve(column: Any, names: Sequence[str] | None, where: Where) -> tuple[Tensor, tuple[str, ...]]:
    """A column of labels as pyarrow reads it -> labels [N], int64, and the names of the classes.

    Whole numbers count classes from 0; strings and booleans are mapped to their places in `names`.

    Args:
        names: of the classes, where they are known; else the strings in order, or the numbers up to the largest.

    Raises:
        UserError: labels of another type, missing ones, or ones that no class has.
    """
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if column.null_count:
        raise UserError(f"{where(_first(column.is_null()))} has no label")
    if types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind):
        texts = [str(value) for value in column.to_pylist()]
        names = tuple(names or sorted(set(texts)))
        index_of = {name: i for i, name in enumerate(names)}
        for row, text in enumerate(texts):
            if text not in index_of:
                raise UserError(f"{where(row)} has the label {text!r}; the classes are {_some(names)}")
        return torch.tensor([index_of[text] for text in texts], dtype=torch.int64), check_names(names)
    if not types.is_integer(kind):
        raise UserError(f"labels are whole numbers or strings, but {where(0)} and the rest have {column.type}")
    column = column.cast(kind)
    low, high = compute.min_max(column).as_py().values()
    count = len(names) if names else MAX_CLASSES
    for wrong in (low, high):
        if not 0 <= wrong < count:
            rule = "labels go from 0" if wrong < 0 else f"at most {count} classes"
            rule = f"labels of {count} classes go from 0 to {count - 1}" if names else rule
            raise UserError(f"{where(column.to_pylist().index(wrong))} has the label {wrong}: {rule}")
    labels = torch.from_numpy(column.to_numpy().astype(np.int64))
    return labels, check_names(tuple(names or map(str, range(high + 1))))


def most_frequent_share(labels: Tensor) -> float:
    """The share of labels [N], int64, that the most frequent class has: how often a guess is right."""
    return float(torch.bincount(labels.cpu()).max()) / len(labels)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Raises:
    UserError: too many classes, two of one name, or a name that is no Unicode text.
    """
    if len(names) > MAX_CLASSES:
        raise UserError(f"at most {MAX_CLASSES} classes, but got {len(names)}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise UserError(f"classes have different names, but two are {twice!r}")
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes of a folder's name that are no UTF-8
            raise UserError(f"names of classes are Unicode text, in UTF-8 as folders, but got {name!r}")
    return tuple(names)


def check_same(first: Sequence[str], second: Sequence[str], sources: tuple[str, str]) -> None:
    """Raises:
    UserError: two places' lists of classes differ; it says in which.
    """
    if tuple(first) == tuple(second):
        return
    extras = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    differing = [f"only {source} has {_some(extra)}" for source, extra in zip(sources, extras, strict=True) if extra]
    raise UserError(
        f"the classes of {sources[0]} and {sources[1]} differ: {'; '.join(differing) or 'their order is not the same'}"
    )


def check_sizes(name: str, classes: Sequence[str], train: Tensor, test: Tensor) -> None:
    """Holds a data set's training and test labels to the least that a search needs. Classes without images are
    reported.

    Raises:
        UserError: too few images or classes.
    """
    counts = torch.bincount(train, minlength=len(classes))
    present = int((counts > 0).sum())
    if present < MIN_CLASSES:
        raise UserError(f"{name}: images of {MIN_CLASSES} classes or more are needed, but all are of {present}")
    for part, least, count in (("training", MIN_TRAIN, len(train)), ("test", MIN_TEST, len(test))):
        if count < least:
            raise UserError(f"{name}: {least} {part} images or more are needed, but there are {count}")
    if present < len(classes):
        without = [classes[i] for i in torch.nonzero(counts == 0).flatten().tolist()]
        say(f"{name}: {len(without)} of {len(classes)} classes have no training image: {_some(without)}")


def _first(mask: Any) -> int:
    """The number of the first true value."""
    return int(np.flatnonzero(np.asarray(mask))[0])


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + rest
