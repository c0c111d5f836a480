"""Parquet files in the Hugging Face image layout: a column of encoded images and a column of labels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import Tensor

from search.data.images import ImageSource
from search.data.labels import check_names, check_same, resolve
from search.data.paths import TEST_PARTS, parquet_files
from search.errors import UserError
from search.files import parse_json
from search.terminal import say

IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")  # names of the columns
REPEATS, LEAST_BYTES = 16, 1 << 22  # how often equal images may stand in a file, and where that begins to count
BATCH_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one part, of all its files; labels as they stand there."""

    sources: tuple[ImageSource, ...]
    labels: Any
    names: tuple[str, ...] | None

    @property
    def hidden(self) -> bool:
        """Whether the labels are hidden, as in the test parts of competitions."""
        return all(label in (-1, None) for label in self.labels.to_pylist())

    @property
    def numbered(self) -> bool:
        """Whether the labels are numbers of classes, not names."""
        kind = self.labels.type
        return pa.types.is_integer(kind.value_type if pa.types.is_dictionary(kind) else kind)

    def resolve(self, names: tuple[str, ...] | None) -> tuple[Tensor, tuple[str, ...]]:
        return resolve(self.labels, names, lambda row: self.sources[row].name)


Labelled = tuple[tuple[ImageSource, ...], Tensor]


def read_parquet(folder: Path, one_part: bool = False) -> tuple[list[Labelled], tuple[str, ...]]:
    """The images and labels of the training part and of the test part, and the names of the classes.

    Args:
        one_part: there is only a training part.

    Raises:
        UserError: files that are not of this layout or don't fit into memory, or labels that no class has.
    """
    train = _read(parquet_files(folder, ("train",)))
    if one_part:
        labels, classes = train.resolve(train.names)
        return [(train.sources, labels)], classes
    test = _test_part(folder)
    if train.names and test.names:
        check_same(train.names, test.names, (f"{folder}: train", "test"))
    if not train.names and not test.names and train.numbered != test.numbered:
        raise UserError(
            f"{folder}: where no file names the classes, both parts have numbers for labels or both have names, but "
            f"train has {train.labels.type} and the test part {test.labels.type}"
        )
    labels, classes = train.resolve(train.names or test.names)
    return [(train.sources, labels), (test.sources, test.resolve(classes)[0])], classes


def _test_part(folder: Path) -> _Part:
    """The test part, or the validation part where the labels of the test part are hidden."""
    parquet_files(folder, TEST_PARTS)  # there is one at least
    for name in TEST_PARTS:
        if files := parquet_files(folder, (name,), must=False):
            if not (part := _read(files)).hidden:
                return part
            say(f"{files[0]}: its labels are hidden (-1 or none)")
    raise UserError(f"{folder} has no test labels: all are hidden (-1 or none) in {', '.join(TEST_PARTS)}*.parquet")


def _read(files: list[Path]) -> _Part:
    _check_memory(files)
    sources: list[ImageSource] = []
    columns, names = [], None
    for file in files:
        images, labels, own = _table(file)
        if names and own:
            check_same(names, own, (str(files[0]), str(file)))
        names = names or own
        sources += [ImageSource(f"{file}, row {row}", content) for row, content in enumerate(images)]
        columns.append(labels)
    if not sources:
        raise UserError(f"{files[0]} has no rows")
    kinds = {column.type for column in columns}
    if len(kinds) > 1:
        raise UserError(f"{files[0]} and the other parts have labels of several types: {', '.join(map(str, kinds))}")
    return _Part(tuple(sources), pa.chunked_array([chunk for column in columns for chunk in column.chunks]), names)


def _table(file: Path) -> tuple[list[bytes], Any, tuple[str, ...] | None]:
    """Encoded images, labels, and the names of the classes, if the file has them."""
    with _reading(file):
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            schema = opened.schema_arrow
            picture, label = _column(schema.names, IMAGES), _column(schema.names, LABELS)
            table = _decoded(opened, [picture, label])
        table.validate(full=True)
        images = table[picture]
        if str(images.type).startswith("struct"):
            images = pc.struct_field(images, "bytes")
        encoded = images.to_pylist()
        names = _names(schema, label)
    some = any(content is not None for content in encoded)
    for row, content in enumerate(encoded):
        if not isinstance(content, bytes) and not (some and content is None):
            raise UserError(f"{file}, row {row}: `{picture}` holds no encoded image, but {type(content).__name__}")
    return [content or b"" for content in encoded], table[label], names  # a row without one can't be read


def _decoded(opened: Any, columns: list[str]) -> Any:
    """Columns of a file, a batch at a time: where a dictionary repeats its values, a few bytes may become any number.

    Raises:
        UserError: they become more than `REPEATS` times what the file's own figures say.
    """
    about, batches = opened.metadata, []
    for group in range(about.num_row_groups):
        stored = about.row_group(group).total_byte_size
        rows = max(1, min(1 << 16, BATCH_BYTES // max(1, stored)))  # each value may be as large as all
        size, most = 0, REPEATS * max(stored, LEAST_BYTES)
        for batch in opened.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
            batches.append(batch)
            size += batch.nbytes
            if size > most:
                raise UserError(
                    f"row group {group} must have at most {most:,} bytes, {REPEATS} times what is stored, but it has "
                    f"more: a dictionary repeats its values"
                )
    return pa.Table.from_batches(batches, schema=batches[0].schema) if batches else opened.read(columns=columns)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turns every error that pyarrow raises on damaged bytes into a `UserError`."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is not in the Hugging Face image layout: {reason}") from None


def _column(names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if (count := names.count(name)) > 1:
            raise UserError(f"columns have different names, but {count} are called {name}")
        if count:
            return name
    raise UserError(f"a column {' or '.join(wanted)} is needed, but it has {', '.join(names)}")


def _names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The names of the classes that `datasets` writes beside the schema."""
    value = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"), "its huggingface metadata")
    for key in ("info", "features", label, "names"):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError("the names of its classes are not a list of strings")
    return check_names(value)


def _check_memory(files: list[Path]) -> None:
    """Encoded images stay in memory; ones that can't, as the files themselves say, are better written as a folder."""
    size = 0
    for file in files:
        with _reading(file):
            about = pq.read_metadata(file)
            size += sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
    if hasattr(os, "sysconf") and size > (has := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UserError(
            f"{files[0].parent}: parquet files are held in memory, {has / 1e9:,.0f} GB here, but these have "
            f"{size / 1e9:,.0f} GB; images in folders (imagefolder:PATH) are read as they are needed"
        )
