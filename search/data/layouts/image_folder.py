"""Images in folders, one folder a class: `train/CLASS/...` beside `test/CLASS/...`, or `val` or `valid`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search.data.layouts.base import ImageFiles
from search.data.paths import (
    FOLDER_TEST_PARTS,
    SUFFIXES,
    files_below,
    has_classes,
    test_folder,
    training_folder,
)

if TYPE_CHECKING:
    from search.data.layouts.base import Labelled


class ImageFolder(ImageFiles):
    """`imagefolder:PATH`"""

    kind = "imagefolder"
    known_as = ("imagefolder:PATH",)

    @classmethod
    def may_be(cls, folder: Path) -> bool:
        return True

    def has_test_part(self) -> bool:
        train, *parts = (self.folder / part for part in ("train", *FOLDER_TEST_PARTS))
        return has_classes(train) and any(map(has_classes, parts))  # a class may be called train or test, too

    def find_parts(self) -> None:
        if self.test_share is None:
            test_folder(self.folder)
        else:
            training_folder(self.folder)

    def unused_parts(self) -> tuple[str, ...]:
        if self.test_share is not None:
            return ()
        tested = test_folder(self.folder).name
        return tuple(part for part in FOLDER_TEST_PARTS if part != tested and has_classes(self.folder / part))

    def files(self) -> list[Path]:
        if self.test_share is not None:
            parts = [training_folder(self.folder)]
        else:
            parts = [self.folder / "train", test_folder(self.folder)]
        return [file for part in parts for file in files_below(part, SUFFIXES)]

    def read(self) -> tuple[list[Labelled], tuple[str, ...]]:
        from search.data.image_folder import read_image_folder

        return read_image_folder(self.folder, one_part=self.test_share is not None)
