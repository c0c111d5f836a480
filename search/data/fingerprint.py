"""Fingerprints of files: of their content, wherever it is stored. Only a sample of the bytes is read."""

import hashlib
from pathlib import Path

import numpy as np

PIECES, PIECE = 256, 4096  # pieces that are read, spread over all files, and bytes in each
MOST_FILES = 50_000  # files of which each is looked into, where there are more than pieces; seconds on a cold disk


def files_digest(folder: Path, files: list[Path], test_share: float | None) -> str:
    """Twelve hex digits of a data set's content: its files by their paths below its folder (for an image folder, the
    classes are among these) and their sizes, a sample of their bytes, and the share that is held out."""
    sizes = np.array([file.stat().st_size for file in files], dtype=np.int64)
    digest = hashlib.sha256() if test_share is None else hashlib.sha256(f"test {test_share:g}\0".encode())
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode(errors="surrogateescape"))
    ends = np.cumsum(sizes)
    if len(files) and ends[-1]:
        for at in np.linspace(0, ends[-1] - 1, PIECES).astype(np.int64):
            k = int(np.searchsorted(ends, at, side="right"))
            digest.update(_piece(files[k], int(at - ends[k] + sizes[k])))
        for k in np.unique(np.linspace(0, len(files) - 1, PIECES).astype(int)):  # where Parquet has its classes
            digest.update(_piece(files[k], max(0, int(sizes[k]) - PIECE)))
        # The size tells most pictures apart, but not those that are stored without compression.
        for file, size in zip(files, sizes, strict=True) if PIECES < len(files) <= MOST_FILES else ():
            digest.update(_piece(file, int(max(0, size - PIECE) // 2)))
    return digest.hexdigest()[:12]


def _piece(file: Path, at: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(at)
        return opened.read(PIECE)
