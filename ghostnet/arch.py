"""The genotype: everything that makes one GhostNet differ from another, as a plain value.

An `Arch` is frozen, compares and hashes by content, has a short stable `id`, and writes and reads JSON
(`"schema": "ghostnas.arch/1"`). Classes and input channels belong to the data, not to the architecture.

Paper: Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020, section 3 and table 1.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ghostnet.files import JsonObject, parse_json, read_bytes

T = TypeVar("T")
SCHEMA = "ghostnas.arch/1"
# Outputs of a Ghost module: primaries first, then the first ghost of every primary, then the second ghosts, ...
# Equal to the paper's order at s = 2; at s > 2 it needs no shuffle when the cheap op is split into depthwise ones.
GHOST_ORDER = "replica-major"
# Bounds on what memory is asked for; GhostNet 1.0x has 1280 channels, 224 pixels and 5 million parameters.
MAX_CHS, MAX_SIDE, MAX_IN_CHS, MAX_CLASSES, MAX_PARAMS = 1 << 16, 1 << 12, 1 << 12, 1 << 20, 1 << 30
MAX_BATCH = 1 << 16  # images at a time
MOST_BYTES = 1 << 22  # of a file: thousands of blocks


class ArchError(ValueError):
    """An architecture that can't be built or read; the message gives the rule and the value."""


def check_whole(name: str, value: object, low: int, high: int = MAX_CHS) -> None:
    """Raises:
    ArchError: the value is no whole number of that range.
    """
    if type(value) is not int or not low <= value <= high:
        raise ArchError(f"`{name}` must be a whole number from {low} to {high}, but got {value!r:.80}")


def check_odd(name: str, value: object) -> None:
    """Raises:
    ArchError: the value is no side of a filter: an odd number from 1 to 31.
    """
    check_whole(name, value, 1, 31)
    if value % 2 == 0:  # type: ignore[operator]
        raise ArchError(f"`{name}` must be odd, but got {value!r:.80}")


def check_ghost(ratio: int, cheap_kernel: int) -> None:
    """Raises:
    ArchError: no Ghost module has this ratio s or cheap kernel d.
    """
    check_whole("ratio", ratio, 1, 64)
    check_odd("cheap_kernel", cheap_kernel)


def check_rate(name: str, value: object) -> None:
    """Raises:
    ArchError: the value is no share of what is dropped; all of it can't be, as the rest is scaled up to make up for it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ArchError(f"`{name}` must be a number from 0 to less than 1, but got {value!r:.80}")


def block_name(stage: int, block: int) -> str:
    """The name of a block in a network, both counted from 0."""
    return f"blocks.{stage}.{block}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A Ghost bottleneck (section 3.2): two Ghost modules of one ratio s and cheap kernel d around an optional
    strided depthwise convolution and squeeze-and-excitation. Where s = 1 nothing uses d, which is then kept as 1.

    Raises:
        ArchError: a value is outside its range.
    """

    mid_chs: int
    out_chs: int
    dw_kernel: int = 3
    stride: int = 1
    se_ratio: float = 0.0
    ratio: int = 2
    cheap_kernel: int = 3

    def __post_init__(self) -> None:
        check_whole("mid_chs", self.mid_chs, 1)
        check_whole("out_chs", self.out_chs, 1)
        check_odd("dw_kernel", self.dw_kernel)
        check_whole("stride", self.stride, 1, 2)
        check_ghost(self.ratio, self.cheap_kernel)
        if type(self.se_ratio) not in (int, float) or not 0 <= self.se_ratio <= 1:
            raise ArchError(f"`se_ratio` must be a number from 0 (no SE) to 1, but got {self.se_ratio!r:.80}")
        object.__setattr__(self, "se_ratio", float(self.se_ratio) + 0.0)  # of -0.0 and 0 it makes 0.0, as ids have it
        if self.ratio == 1:
            object.__setattr__(self, "cheap_kernel", 1)


@dataclass(frozen=True, kw_only=True)
class Arch:
    """A whole GhostNet: stem, stages of `Block`s, a 1x1 convolution to `tail_chs`, pooling, a 1x1 to `head_chs`.

    Args:
        stages: the blocks, grouped as the parameter names `blocks.<stage>.<block>` group them.
        resolution: side of the square input that costs and latencies are stated for, in pixels.
        align: intrinsic (primary) widths of Ghost modules are rounded up to multiples of it; 1 is the paper's rule.

    Raises:
        ArchError: a value is outside its range.
    """

    stages: tuple[tuple[Block, ...], ...]
    stem_chs: int = 16
    stem_stride: int = 2
    tail_chs: int = 960
    head_chs: int = 1280
    resolution: int = 224
    align: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.stages, tuple) or not self.stages:
            raise ArchError(f"`stages` must be a non-empty tuple of tuples of Blocks, but got {self.stages!r:.80}")
        for i, stage in enumerate(self.stages):
            if not isinstance(stage, tuple) or not stage or not all(isinstance(b, Block) for b in stage):
                raise ArchError(f"`stages[{i}]` must be a non-empty tuple of Blocks, but got {stage!r:.80}")
        for name in ("stem_chs", "tail_chs", "head_chs"):
            check_whole(name, getattr(self, name), 1)
        check_whole("resolution", self.resolution, 1, MAX_SIDE)
        check_whole("stem_stride", self.stem_stride, 1, 2)
        check_whole("align", self.align, 1, 64)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order, stage boundaries dropped."""
        return tuple(block for stage in self.stages for block in stage)

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks in a network, in the order of `blocks`: `blocks.<stage>.<block>`."""
        return tuple(block_name(i, j) for i, stage in enumerate(self.stages) for j in range(len(stage)))

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits of the content's SHA-256: the same network always has the same id."""
        content = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    def to_dict(self) -> JsonObject:
        """The architecture as plain JSON values, schema first."""
        body = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "stages"}
        stages = [[asdict(block) for block in stage] for stage in self.stages]
        return {"schema": SCHEMA, "ghost_order": GHOST_ORDER, **body, "stages": stages}

    @classmethod
    def from_dict(cls, data: object) -> "Arch":
        """The inverse of `to_dict`. Unknown keys and other schemas are refused.

        Raises:
            ArchError: anything that is not exactly an architecture.
        """
        if not isinstance(data, Mapping):
            raise ArchError(f"an architecture must be a JSON object, but got {type(data).__name__}")
        newer = re.fullmatch(r"ghostnas\.arch/([0-9]{1,9})", str(data.get("schema")))
        if newer and int(newer[1]) > int(SCHEMA.rpartition("/")[2]):
            raise ArchError(f"`schema` is {newer[0]!r}, of a later GhostNAS: this one reads {SCHEMA!r}")
        if data.get("schema") != SCHEMA:
            raise ArchError(f"`schema` must be {SCHEMA!r}, but got {data.get('schema')!r:.80}")
        if data.get("ghost_order") != GHOST_ORDER:
            raise ArchError(f"`ghost_order` must be {GHOST_ORDER!r}, but got {data.get('ghost_order')!r:.80}")
        values = {k: v for k, v in data.items() if k not in ("schema", "ghost_order")}
        stages = values.get("stages")
        if not isinstance(stages, list) or not all(isinstance(s, list) for s in stages):
            raise ArchError("`stages` must be a list of lists of blocks")
        values["stages"] = tuple(tuple(_build(Block, block) for block in stage) for stage in stages)
        return _build(cls, values)

    def to_json(self) -> str:
        """`to_dict` as text that diffs well: one block a line."""
        data = self.to_dict()
        stages = data.pop("stages")
        head = json.dumps(data, indent=2).removesuffix("\n}")
        lines = ",\n".join("    [\n" + ",\n".join(f"      {json.dumps(b)}" for b in s) + "\n    ]" for s in stages)
        return f'{head},\n  "stages": [\n{lines}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Arch":
        """Reads `to_json`'s text.

        Raises:
            ArchError: not JSON, or not an architecture.
        """
        try:
            data = parse_json(text.encode())
        except ValueError as error:
            raise ArchError(f"not JSON: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def load(cls, path: str | Path) -> "Arch":
        """Reads an `arch.json`.

        Raises:
            ArchError: no such file, or it holds no architecture.
        """
        try:
            return cls.from_json(read_bytes(Path(path), MOST_BYTES).decode())
        except OSError as error:
            raise ArchError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ArchError(f"{path}: not UTF-8 text") from None
        except ValueError as error:
            raise ArchError(f"{path}: {error}") from None


def _build(cls: type[T], values: object) -> T:
    """`cls(**values)` with unknown and missing keys told by name."""
    kind = "an Arch" if cls is Arch else f"a {cls.__name__}"
    if not isinstance(values, Mapping):
        raise ArchError(f"{kind} must be a JSON object, but got {values!r:.80}")
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, set(values) - known)):
        raise ArchError(f"{kind} has no key {unknown[0]!r:.80}; it has {', '.join(sorted(known))}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ArchError(f"{kind} lacks a key: {error}") from None
