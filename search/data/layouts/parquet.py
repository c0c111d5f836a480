"""Parquet files in the Hugging Face image layout: `train*.parquet`, and `test*.parquet` or `validation*.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search.data.layouts.base import ImageFiles
from search.data.paths import TEST_PARTS, files_below, parquet_files

if TYPE_CHECKING:
    from search.data.layouts.base import Labelled


class Parquet(ImageFiles):
    """`parquet:PATH`"""

    kind = "parquet"
    known_as = ("parquet:PATH",)

    @classmethod
    def may_be(cls, folder: Path) -> bool:
        return bool(parquet_files(folder, ("train",), must=False))

    def has_test_part(self) -> bool:
        return bool(parquet_files(self.folder, TEST_PARTS, must=False))

    def find_parts(self) -> None:
        parquet_files(self.folder, ("train",))
        if self.test_share is None:
            parquet_files(self.folder, TEST_PARTS)

    def files(self) -> list[Path]:
        return files_below(self.folder, {".parquet"})

    def read(self) -> tuple[list[Labelled], tuple[str, ...]]:
        from search.data.parquet import read_parquet

        return read_parquet(self.folder, one_part=self.test_share is not None)
