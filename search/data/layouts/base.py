"""What a layout gives of a data set: whether it is there, its identity, its sizes, and its training and test images.

Modules of layouts load PyTorch where they read images and no sooner: names are checked before.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from search.errors import UserError
from search.progress import warn

if TYPE_CHECKING:
    from torch import Tensor

    from search.data.encoded import EncodedSplit
    from search.data.images import ImageSource
    from search.data.splits import Split

    Parts = tuple[Split | EncodedSplit, Split | EncodedSplit, tuple[str, ...]]
    Labelled = tuple[tuple[ImageSource, ...], Tensor]

OPTIONS = re.compile(r"(.*)\?((?:test|unreadable)=[^?]*)", re.DOTALL)  # after a path
UNREADABLE: dict[tuple[ImageFiles, str], frozenset[str]] = {}  # by data set and fingerprint, in this process


class Sizes(NamedTuple):
    """Images to train with and to test with, classes, and channels of an image."""

    train: int
    test: int
    num_classes: int
    in_chs: int


@dataclass(frozen=True)
class DataSource(ABC):
    """A data set, which need not be there.

    Args:
        name: as recipes and `--data` have it.
    """

    known_as: ClassVar[tuple[str, ...]]  # its names, as messages list them
    name: str

    @classmethod
    @abstractmethod
    def parse(cls, name: str) -> Self | None:
        """The data set of a name; None where it is of another layout.

        Raises:
            UserError: it is of this layout, but for what follows.
        """

    @property
    def flip(self) -> bool:
        """Whether a mirror image keeps its class, as far as the name tells."""
        return True

    def check(self) -> None:  # noqa: B027  nothing can be wrong with what is downloaded
        """Raises:
        UserError: it is not there, or not of its layout.
        """

    def fingerprint(self) -> str:
        """Its identity, wherever it lies: its name, or digits of its content."""
        return self.name

    @abstractmethod
    def sizes(self) -> Sizes:
        """What `load` will give, without decoding or downloading an image.

        Raises:
            UserError: it is not what it should be.
        """

    def check_images(self, seconds: float) -> None:  # noqa: B027  what is downloaded is whole
        """Looks for images that can't be read, for so many seconds.

        Raises:
            UserError: there are some, and `load` would refuse them.
        """

    @abstractmethod
    def load(self, resolution: int) -> Parts:
        """The training part and the test part, and the names of the classes; encoded images are for `resolution`.

        Raises:
            UserError: it can't be had, or is not what it should be.
        """


@dataclass(frozen=True)
class ImageFiles(DataSource):
    """A data set of encoded images in files, by its path and what may follow it: `KIND:PATH?test=0.2,unreadable=skip`.

    Args:
        test_share: of each class, held out for testing; None: the data have a test part of their own.
        skips_unreadable: images that can't be read are left out; they are refused otherwise.
    """

    kind: ClassVar[str]  # before the colon
    folder: Path
    test_share: float | None = None
    skips_unreadable: bool = False

    @classmethod
    def at(cls, folder: Path, test_share: float | None = None, *, skips_unreadable: bool = False) -> Self:
        """The data set in a folder."""
        options = [] if test_share is None else [f"test={test_share:g}"]
        options += ["unreadable=skip"] if skips_unreadable else []
        query = f"?{','.join(options)}" if options else ""
        return cls(f"{cls.kind}:{folder}{query}", folder, test_share, skips_unreadable)

    def moved(self, folder: Path) -> Self:
        """The same data set in another place."""
        return self.at(folder, self.test_share, skips_unreadable=self.skips_unreadable)

    @classmethod
    def parse(cls, name: str) -> Self | None:
        kind, _, path = name.partition(":")
        if kind != cls.kind:
            return None
        found = OPTIONS.fullmatch(path)
        source = cls(name, Path(found[1] if found else path).expanduser())
        for option in found[2].split(",") if found else ():
            source = source._with(option)
        return source

    def _with(self, option: str) -> Self:
        """With what an option after the path says."""
        key, _, value = option.partition("=")
        if key == "test" and self.test_share is not None:
            raise UserError(f"after the path stands one ?test=SHARE, but {self.name!r} has another: {option!r}")
        if key == "test":
            return replace(self, test_share=_share(value, self.name))
        if option != "unreadable=skip":
            raise UserError(f"after the path may stand ?test=SHARE,unreadable=skip, not {option!r} as in {self.name!r}")
        return replace(self, skips_unreadable=True)

    def check(self) -> None:
        if not self.folder.is_dir():
            raise UserError(f"no folder {str(self.folder)!r} for data {self.name!r}")
        self.check_parts()

    def check_parts(self) -> None:
        """Raises:
        UserError: a training part is missing, or a test part is where it should not be, or the other way round.
        """
        if self.test_share is not None and self.has_test_part():
            raise UserError(f"{self.folder} has a test part of its own: ?test={self.test_share:g} is for data without")
        self.find_parts()

    def fingerprint(self) -> str:
        from search.data.fingerprint import files_digest

        return files_digest(self.folder, self.files(), self.test_share)

    def sizes(self) -> Sizes:
        from search.data.labels import check_sizes

        train, test, classes = self.load(1)
        check_sizes(self.name, classes, train.labels, test.labels)
        return Sizes(len(train), len(test), len(classes), train.in_chs)

    def check_images(self, seconds: float) -> None:
        from search.data.images import check_some

        if not self.skips_unreadable:
            check_some([image for images, _ in self.read()[0] for image in images], seconds)

    def load(self, resolution: int) -> Parts:
        from search.data.encoded import EncodedSplit
        from search.data.splits import stratified

        labelled, classes = self.read()
        if self.skips_unreadable:
            unreadable = self._unreadable([image for images, _ in labelled for image in images])
            labelled = [_without(part, unreadable) for part in labelled]
        train, *rest = (EncodedSplit(sources, labels, resolution) for sources, labels in labelled)
        if self.test_share is None:
            return train, rest[0], classes
        kept, held_out = stratified(train.labels, self.test_share)
        return train.take(kept), train.take(held_out), classes

    def _unreadable(self, images: Sequence[ImageSource]) -> frozenset[str]:
        """Names of those of its images that can't be read. All are decoded for it, once in a process, as long as the
        data set stays what it is; then it says how many are left out."""
        from search.data.images import listed, unreadable

        key = self, self.fingerprint()
        if key not in UNREADABLE:
            reasons = unreadable(images)
            UNREADABLE[key] = frozenset(reasons)
            if reasons:
                left_out = "1 image is" if len(reasons) == 1 else f"{len(reasons):,} images are"
                warn(f"{left_out} left out: {listed([*reasons.values()])}")
        return UNREADABLE[key]

    @classmethod
    @abstractmethod
    def may_be(cls, folder: Path) -> bool:
        """Whether a folder looks like one of this layout."""

    @abstractmethod
    def has_test_part(self) -> bool:
        """Whether the data have a part to test on, whatever else may be wrong with it."""

    @abstractmethod
    def find_parts(self) -> None:
        """Raises:
        UserError: a part that is needed is missing.
        """

    def unused_parts(self) -> tuple[str, ...]:
        """Folders with classes that are neither trained nor tested on."""
        return ()

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that a fingerprint is of."""

    @abstractmethod
    def read(self) -> tuple[list[Labelled], tuple[str, ...]]:
        """The encoded images and labels of the training part and, where `test_share` is None, of the test part; and the
        classes.

        Raises:
            UserError: they are not of their layout, or labels that no class has.
        """


def _share(text: str, name: str) -> float:
    """The share of images that is held out, from a name."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 0.9:
        raise UserError(f"the share of images held out for testing goes from 0.01 to 0.9, not {text!r} as in {name!r}")
    return share


def _without(part: Labelled, unreadable: frozenset[str]) -> Labelled:
    """Some images and their labels without those that can't be read."""
    import torch

    images, labels = part
    kept = [k for k, image in enumerate(images) if image.name not in unreadable]
    return tuple(images[k] for k in kept), labels[torch.tensor(kept, dtype=torch.int64)]
