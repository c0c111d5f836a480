"""Zip archives that may come from anybody, as PyTorch's files are.

Those that two readers might read differently, or that unpack to more than they are, are refused before they are
unpacked.
"""

import argparse
import io
import zipfile
from typing import Any

import torch

BEGINNING = b"PK\3\4"  # by which torch tells an archive from its older format
END = b"PK\5\6"  # of the last 22 bytes, where no comment follows
OUT_OF_MEMORY = "can't allocate memory"  # in what torch says, whose error has no type of its own


class ArchiveError(ValueError):
    """The message says what is wrong with a file, whose name stands before it: `has two entries of one name`."""


def open_archive(content: bytes) -> zipfile.ZipFile:
    """The archive in a file's content. Its entries are stored as they are: PyTorch compresses none.

    Raises:
        ArchiveError: it is none, or one that two readers might read differently: two entries of a name, compressed
            ones, or bytes that belong to none.
        MemoryError: there is not enough memory.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except MemoryError:
        raise
    except Exception as error:  # zipfile fails in several ways on damaged bytes
        raise ArchiveError(f"is no archive: {error}") from None
    entries = archive.infolist()
    if any(entry.compress_type or entry.flag_bits & 1 or entry.is_dir() for entry in entries):
        raise ArchiveError("has entries that are compressed, encrypted or folders")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ArchiveError("has two entries of one name")
    first = min((entry.header_offset for entry in entries), default=0)
    if archive.comment or content[-22:-18] != END or first:
        raise ArchiveError("has more than one archive in it, or is cut short")
    if sum(entry.file_size for entry in entries) > len(content):
        raise ArchiveError("has entries that lie in each other")
    return archive


def load_tensors(content: bytes) -> Any:
    """What `torch.save` wrote to a file of this content: tensors on the CPU and plain values. Nothing is unpickled.

    Raises:
        ArchiveError: it is nothing of the kind, or an archive that `open_archive` refuses.
        MemoryError: there is not enough memory.
    """
    if content.startswith(BEGINNING):
        open_archive(content)
    try:
        # The class of parsed options stands in the files of timm's `CheckpointSaver`; it runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch's reader fail in any way
        if isinstance(error, MemoryError) or OUT_OF_MEMORY in str(error):
            raise MemoryError from None
        raise ArchiveError("is not a file of tensors alone, and nothing else is loaded") from None
