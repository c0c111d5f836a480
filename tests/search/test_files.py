"""JSON from strangers, records and names: what is refused, with the rule and the value."""

import os
import tracemalloc

import pytest

from search.errors import UserError
from search.files import JsonLines, read_json
from search.records import Count, Name, Record, check_member, check_name, parse_record, read_record


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"a": {"b": NaN}}', "a number must be finite, but got NaN"),
        (b"[-Infinity]", "must be finite, but got -Infinity"),
        (b"[1e999]", "must be finite, but got 1e999"),
        (b"[9223372036854775808]", "at most 64 bits, but got 9223372036854775808"),
        (b"[" + b"9" * 5000 + b"]", "at most 64 bits, but got 999"),
        (b"[" * 40 + b"]" * 40, "nested more than 32 deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nested more than 32 deep"),
        (b'"\\ud800"', "surrogates not allowed"),
        (b'{"\\udfff": 1}', "surrogates not allowed"),
        ("[]".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf\xef\xbb\xbf[]", "BOM"),  # one is left out, as editors on Windows write it
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
def test_json_is_read_strictly(content, words, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value) and len(str(caught.value)) < 400


def test_what_json_has_is_read(tmp_path):
    text = '{"a": [1, -9223372036854775808, 9223372036854775807, 1e-5, "\\ud83d\\ude00", null, true]}'
    (tmp_path / "x.json").write_text(text)
    assert read_json(tmp_path / "x.json") == {"a": [1, -(2**63), 2**63 - 1, 1e-5, "\N{GRINNING FACE}", None, True]}


def test_pipes_and_folders_are_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "a device or a pipe"), (".", "a folder")):
        with pytest.raises(UserError, match=f"must be a file, but it is {message}"):
            read_json(tmp_path / name)


def test_lines_are_objects_and_are_told_by_number(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n[1]\n{"torn')
    with pytest.raises(UserError, match=r"x\.jsonl, line 2 must be a JSON object"):
        list(JsonLines(tmp_path / "x.jsonl"))


@pytest.mark.parametrize(
    "name", ["A", "ghostnet-0.5x", "random-1", "_", "a" * 100, "größe", "Äpfel", "花", "0123456789"]
)
def test_names_that_may_name_files(name):
    assert check_name(name) == name and check_member(f"a/{name}") == f"a/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-option", "a/b", "a\\b", "/abs/x", "../../x", "a\n", "a\0", "a b", "a" * 101]
)
def test_names_that_would_be_paths_are_refused(name):
    with pytest.raises(ValueError, match="must be 1 to 100 letters"):
        check_name(name)
    with pytest.raises(ValueError, match="must be"):
        check_member(f"{name}/../b")


def test_a_record_says_the_place_the_rule_and_the_value(tmp_path):
    class Thing(Record):
        name: Name
        counts: dict[str, Count] = {}  # noqa: RUF012

    file = tmp_path / "thing.json"
    for text, message in (
        ('{"name": "../x"}', "name: must be 1 to 100 letters, digits .* but got '../x'"),
        ('{"name": "x", "counts": {"a": -1}}', "counts.a: Input should be greater than or equal to 0, but got -1"),
        ('{"name": "x", "counts": {"a": "1"}}', "counts.a: Input should be a valid integer, but got '1'"),
        ('{"name": "x", "counts": {"a": true}}', "counts.a: Input should be a valid integer, but got True"),
        ("{}", "name: Field required"),
        ("[]", r"must be a JSON object, but got \[\]"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            read_record(file, Thing)
    file.write_text('{"name": "x", "counts": {"a": 1}, "of a later version": 1}')
    assert read_record(file, Thing) == Thing(name="x", counts={"a": 1})
    with pytest.raises(UserError, match="No such file"):
        read_record(tmp_path / "none.json", Thing)


class Several(Record):
    first: Count
    second: Count
    third: Count


def test_what_a_stranger_adds_to_a_record_takes_no_memory():
    values = {"first": 1, "of no key": [0] * 200_000}
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="a file: second: Field required"):
            parse_record(Several, values, "a file")
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert parse_record(Several, values | {"second": 2, "third": 3}, "a file") == Several(first=1, second=2, third=3)


def test_a_json_value_has_an_end(tmp_path):
    (tmp_path / "a.json").write_text("[" + "0," * (1 << 23) + "0]")
    with pytest.raises(UserError, match=r"a\.json must have at most 16,777,216 bytes, but it has 16,777,219"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text("{}\n" + '{"x": [' + "0," * (1 << 23) + "0]}\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2 must have at most"):
        list(JsonLines(tmp_path / "a.jsonl"))


def test_a_message_shows_what_stands_at_the_place_in_a_file():
    class Within(Record):
        parts: list[Count | None]

    with pytest.raises(UserError, match=r"x: parts\.1: .*but got -7$"):
        parse_record(Within, {"parts": [0, -7]}, "x")
