"""Archives that two readers might read differently, or that unpack to more than they are."""

import io
import warnings
import zipfile

import pytest
import torch

from ghostnet.archives import ArchiveError, load_tensors, open_archive

TENSORS = {"a": torch.arange(1000), "b": torch.zeros(3, 4)}


def saved() -> bytes:
    content = io.BytesIO()
    torch.save(TENSORS, content)
    return content.getvalue()


def entries() -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(saved())) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def zipped(pairs, compression=zipfile.ZIP_STORED, comment=b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two entries of one name
        for name, value in pairs:
            archive.writestr(name, value)
        archive.comment = comment
    return content.getvalue()


def nested() -> bytes:
    """Whose directory gives an entry more bytes than the file has."""
    content = bytearray(saved())
    size = content.rindex(b"PK\1\2") + 24
    content[size : size + 4] = (2**30).to_bytes(4, "little")
    return bytes(content)


REFUSED = {
    "compressed": (zipped(entries(), zipfile.ZIP_DEFLATED), "compressed"),
    "a folder": (zipped([*entries(), ("folder/", b"")]), "folders"),
    "twice": (zipped([entries()[0], *entries()]), "two entries of one name"),
    "a comment": (zipped(entries(), comment=b"more"), "more than one archive"),
    "a longer end": (saved() + b"x", "more than one archive|no archive"),
    "cut short": (saved()[:-30], "no archive"),
    "nested": (nested(), "lie in each other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_archive_is_refused_before_it_is_unpacked(name, monkeypatch):
    content, why = REFUSED[name]
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    for read in (open_archive, load_tensors):
        with pytest.raises(ArchiveError, match=why):
            read(content)


def test_one_that_does_not_begin_with_an_archive_has_none():
    with pytest.raises(ArchiveError, match="more than one archive"):
        open_archive(b"#!" + saved())
    with pytest.raises(ArchiveError, match="is not a file of tensors alone"):
        load_tensors(b"#!" + saved())


@pytest.mark.parametrize("is_archive", [True, False])
def test_what_pytorch_writes_is_read_in_both_of_its_formats(is_archive):
    content = io.BytesIO()
    torch.save(TENSORS, content, _use_new_zipfile_serialization=is_archive)
    again = load_tensors(content.getvalue())
    assert again.keys() == TENSORS.keys() and all(torch.equal(again[name], TENSORS[name]) for name in TENSORS)
    assert load_tensors(zipped(entries())).keys() == TENSORS.keys()
