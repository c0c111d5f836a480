"""Damaged and hostile files: seeded mutants of valid ones, and what the readers make of them.

A reader of a file either gives a valid result or raises one of our errors, with a short message; anything else is a
failure. `tests/fuzz_kinds.py` says which files there are, `tests/test_fuzz.py` runs a thousand mutants of each, and

    python -m tests.fuzz KIND --mutants 10000

runs as many as one likes. A mutant is known by its number: `--only 4711` makes that one again, with its traceback.
"""

import argparse
import copy
import functools
import io
import json
import random
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ghostnet.arch import ArchError
from search.errors import UserError
from spaces.errors import SpaceError

CLEAN = (UserError, ArchError, SpaceError)
LONGEST = 2000  # characters of a message
Mutate = Callable[[bytes, random.Random], bytes]
Read = Callable[[], object]
DEEP, HUGE = "\0deep", "\0huge"  # stand for what Python can't write as JSON
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1000, 10**9, 2**31, 2**63, -(2**63) - 1, 10**400, HUGE),
    *(0.0, -0.0, 0.5, -0.5, 1.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "0", "1", "nan", "../../x", "/abs/x", "..", ".", "a/b", "C:\\x", "a\nb", "\x1b[31m", "\ud800"),
    *("x" * 10_000, "null", "[bold]", "\u202e", "ghostnas.other/1", "custom", "digits", "0" * 10),
    *([], {}, [[]], [None], [0], [1, 2, 3], {"": 0}, {"x": None}, {"schema": "x"}, DEEP),
)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        make: writes a valid file, and what it needs beside it, into an empty folder; the file and its reader.
        mutate: content, rng -> the mutant's content.
    """

    name: str
    make: Callable[[Path], tuple[Path, Read]]
    mutate: Mutate


@dataclass
class Outcome:
    """What became of some mutants: how many were read, how many were refused, and the number and error of the rest."""

    read: int = 0
    refused: int = 0
    failures: list[tuple[int, BaseException]] = field(default_factory=list)


def fuzz(kind: Kind, folder: Path, numbers: Iterable[int]) -> Outcome:
    """Reads the mutants of those numbers, one after the other, in `folder`."""
    file, read = kind.make(folder)
    valid, outcome = file.read_bytes(), Outcome()
    read()  # the valid file is one
    for number in numbers:
        file.write_bytes(kind.mutate(valid, random.Random(f"{kind.name} {number}")))
        try:
            with redirect_stderr(io.StringIO()):  # what is said of a damaged file
                read()
            outcome.read += 1
        except CLEAN as error:
            if len(str(error)) > LONGEST or not _printable(str(error)):
                outcome.failures.append((number, AssertionError(f"no message to print: {str(error)[:200]!a}")))
            else:
                outcome.refused += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # also a panic of Rust's, which is no Exception
            outcome.failures.append((number, error))
    return outcome


def _printable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a piece cut, doubled, moved, overwritten; or a file that ends early."""
    mutant = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        size = len(mutant)
        start = rng.randrange(size + 1)
        end = min(size, start + rng.choice((1, 4, 64, 1024)))
        match rng.randrange(7):
            case 0:
                for _ in range(rng.choice((1, 3))):
                    if size:
                        mutant[rng.randrange(size)] ^= 1 << rng.randrange(8)
            case 1:
                del mutant[start:]
            case 2:
                del mutant[start:end]
            case 3:
                mutant[start:start] = mutant[start:end]
            case 4:
                mutant[start:end] = rng.randbytes(end - start)
            case 5:
                mutant[start:start] = rng.choice(
                    (b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"]", b'"', b"\n", b"NaN,", b"1e9")
                )
            case 6:
                mutant[start:end] = bytes(end - start)
    return bytes(mutant)


def of_json(content: bytes, rng: random.Random) -> bytes:
    """Values removed, doubled, swapped, of another type or size; or any bytes."""
    if rng.random() < 0.25:
        return of_bytes(content, rng)
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = of_tree(tree, rng)
    deep = rng.choice((40, 500, 100_000))
    text = json.dumps(tree).replace(json.dumps(DEEP), "[" * deep + "]" * deep)
    return text.replace(json.dumps(HUGE), "9" * 5000).encode()


def of_lines(content: bytes, rng: random.Random) -> bytes:
    """JSON lines: one of them changed, or lines removed, doubled, swapped, torn."""
    lines = content.splitlines(keepends=True)
    k, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(10):
        case 0:
            del lines[k]
        case 1:
            lines.insert(other, lines[k])
        case 2:
            lines[k], lines[other] = lines[other], lines[k]
        case 3:
            lines[k] = b"\n"
        case 4:
            return of_bytes(content, rng)
        case _:
            lines[k] = of_json(lines[k], rng) + b"\n"
    return b"".join(lines)


def of_toml(content: bytes, rng: random.Random) -> bytes:
    """TOML: a value of another type or size, a line removed, doubled, moved; or any bytes."""
    if rng.random() < 0.2:
        return of_bytes(content, rng)
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        k = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[k]
            case 1:
                lines.insert(rng.randrange(len(lines)), lines[k])
            case 2:
                lines[k] = re.sub(r"^\w+", lambda result: result[0] + rng.choice("sx_"), lines[k])
            case 3:
                lines[k] = f"[{rng.choice(('space', 'x', 'supernet', 'a.b', '[search]'))}]"
            case _:
                assigned = [j for j, line in enumerate(lines) if "=" in line] or [k]
                k = rng.choice(assigned)
                lines[k] = f"{lines[k].partition('=')[0]}= {_toml_value(rng)}"
        if not lines:
            break
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _toml_value(rng: random.Random) -> str:
    if rng.random() < 0.3:
        deep = rng.choice((5, 40, 20_000))
        values = ("nan", "-inf", "1979-05-27", "07:32:00", "true", "0x7fffffffffffffffff", "{ a = 1 }", "1e400")
        return rng.choice((*values, "[" * deep + "]" * deep, "{a=" * deep + "1" + "}" * deep, "9" * 5000))
    value = rng.choice([v for v in HOSTILE if v not in (DEEP, HUGE) and v is not None and not isinstance(v, dict)])
    return json.dumps(value, ensure_ascii=False).replace("NaN", "nan").replace("Infinity", "inf").replace("null", "0")


def of_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header's JSON changed, its length or the tensors' bytes."""
    size = int.from_bytes(content[:8], "little")
    head, rest = content[8 : 8 + size], content[8 + size :]
    match rng.randrange(4):
        case 0:
            return of_bytes(content, rng)
        case 1:
            return rng.choice((0, size - 1, size + 1, 2**40, 2**64 - 1)).to_bytes(8, "little") + head + rest
        case _:
            head = of_json(head, rng)
            return len(head).to_bytes(8, "little") + head + rest


def of_torch(content: bytes, rng: random.Random) -> bytes:
    """What `torch.save` wrote with values removed, doubled, of another type, shape or size; or any bytes."""
    import torch

    if rng.random() < 0.2:
        return of_bytes(content, rng)
    tree = copy.deepcopy(_unpickled(content))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = of_tree(tree, rng)
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


@functools.lru_cache(1)  # all mutants are of one file, and unpickling is dear
def _unpickled(content: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


class _Twice(dict):
    """A JSON object with one key twice."""

    def items(self) -> Any:
        return [*super().items(), *list(super().items())[:1]]


def of_tree(tree: Any, rng: random.Random) -> Any:
    """The tree with one node changed; in place, but for its root."""
    nodes: list[tuple[Any, Any]] = []
    _collect(tree, nodes)
    if not nodes or rng.random() < 0.02:
        return _hostile(rng)
    inside, key = rng.choice(nodes)
    value = inside[key]
    match rng.randrange(12):
        case 0 | 1:
            del inside[key]
        case 2:
            other, place = rng.choice(nodes)
            if key in inside if isinstance(inside, dict) else key < len(inside):
                inside[key], other[place] = other[place], value
        case 3:
            if isinstance(inside, list):
                inside.insert(key, value)
            else:
                inside[rng.choice((f"{key}s", "../../x", "/abs/x", "", "\ud800", "x" * 3000))] = value
        case 4:
            if isinstance(inside, dict) and type(inside) is dict and all(isinstance(k, str) for k in inside):
                inside[key] = _Twice({key: value})
        case 5 | 6 | 7:
            inside[key] = _other(value, rng)
        case 8:
            inside[key] = [value] * rng.choice((1, 2, 100))
        case 9:
            inside[key] = {str(key): value}
        case _:
            inside[key] = _hostile(rng)
    return _without_rings(tree, 0)


def _collect(value: Any, nodes: list[tuple[Any, Any]]) -> None:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        nodes.append((value, key))
        _collect(value[key], nodes)


def _without_rings(value: Any, depth: int) -> Any:
    """Swaps may have put a node into itself."""
    if depth > 30:
        return None
    if isinstance(value, dict):
        return type(value)({key: _without_rings(each, depth + 1) for key, each in value.items()})
    return [_without_rings(each, depth + 1) for each in value] if isinstance(value, list) else value


def _other(value: Any, rng: random.Random) -> Any:
    """A value like it, but not it: of another type, a little or far beside."""
    if isinstance(value, bool) or value is None:
        return rng.choice((0, 1, "true", not value))
    if isinstance(value, int) and abs(value) > 10**300:  # no float
        return rng.choice((-value, value + 1, str(value), [value]))
    if isinstance(value, int | float):
        return rng.choice((-value, value + 1, value - 1, value * 10**6, value / 3, str(value), float(value), [value]))
    if isinstance(value, str):
        values = (
            value + "x",
            value[:-1],
            value.upper(),
            "../" + value,
            "/" + value,
            value + "\0",
            value * 100,
            [value],
        )
        return rng.choice((*values, value + "\n", value + "\x1b[2J", {value[:50]: value}, len(value)))
    if isinstance(value, list):
        return rng.choice(
            (value[:-1], value + value[:1], value[::-1], [value], dict(enumerate(map(str, value))), [*value, 0])
        )
    if isinstance(value, dict):
        return rng.choice(([*value.values()], [*map(str, value)], dict(list(value.items())[1:]), [value]))
    if hasattr(value, "flatten"):  # a tensor
        values = (
            value.flatten(),
            value[None],
            value.double(),
            value.long(),
            value * float("nan"),
            value.flatten()[:-1],
        )
        return rng.choice((*values, value.flatten()[:0], value.tolist(), 1.0))
    return _hostile(rng)


def _hostile(rng: random.Random) -> Any:
    """A copy: the next change is made in place, and a mutant must depend on its number alone."""
    return copy.deepcopy(rng.choice(HOSTILE))


def main() -> int:
    from tests.fuzz_kinds import KINDS

    parser = argparse.ArgumentParser(description="Reads mutants of a kind of file.")
    parser.add_argument("kind", choices=[*KINDS, "all"], help=f"{', '.join(KINDS)}; or all")
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="one mutant, by its number, with the traceback of its failure")
    arguments = parser.parse_args()
    failed = False
    for name in KINDS if arguments.kind == "all" else [arguments.kind]:
        numbers = range(arguments.mutants) if arguments.only is None else [arguments.only]
        with tempfile.TemporaryDirectory() as folder:
            outcome = fuzz(KINDS[name], Path(folder), numbers)
        print(f"{name}: {outcome.read} read, {outcome.refused} refused, {len(outcome.failures)} failures", flush=True)
        places = Counter(_place(error) for _, error in outcome.failures)
        first = {_place(error): number for number, error in reversed(outcome.failures)}
        for place, count in places.most_common(12):
            print(f"  {count} times, first by mutant {first[place]}: {place}")
        if arguments.only is not None and outcome.failures:
            traceback.print_exception(outcome.failures[0][1])
        failed |= bool(outcome.failures)
    return int(failed)


def _place(error: BaseException) -> str:
    """Its type, where it came from in our code, and the beginning of its message."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if re.search(r"/(ghostnet|spaces|search)/", f.filename)
    ]
    where = f"{'/'.join(frames[-1].filename.split('/')[-3:])}:{frames[-1].lineno}" if frames else "nowhere of ours"
    return f"{type(error).__name__} at {where}: {str(error).splitlines()[0][:90] if str(error) else ''!a}"


if __name__ == "__main__":
    sys.exit(main())
