"""`SpaceSpec`: what a space is, as plain values that keep its rules. Everything else is computed from one."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

from ghostnet.published import SE_RATIO, Row
from spaces.checks import above_zero, fits, is_odd, require, require_distinct, to_text, whole
from spaces.errors import SpaceError

NAME = r"[^\W_][\w.-]{0,63}"
RANGES = {
    "stem_chs": (1, 4096),
    "stem_stride": (1, 2),
    "tail_chs": (1, 16384),
    "head_chs": (1, 16384),
    "align": (1, 64),
    "num_classes": (0, 1 << 20),
    "in_chs": (1, 4096),
}
MOST_BLOCKS = 1000  # GhostNet has 16. With these the number of networks stays below the 4,300 digits that Python writes
# Where these are left alone, a space's id is what it was without them.
ADDED_AFTER_V1 = ("expansions", "dw_kernels", "depths", "baseline_depths", "resolutions")
# Fields that files (and so ids) know by another name.
FILE_KEYS = {"baseline_depths": "own_depths"}


@dataclass(frozen=True, kw_only=True)
class SpaceSpec:
    """Choices over a family of GhostNets.

    Args:
        rows: the family at width 1.0, stage by stage.
        resolution: side of the family's own input, in pixels.
        widths: multipliers that the stem, each stage and the tail choose from.
        ratios: ghost ratios s.
        cheap_kernels: cheap kernels d, used where s > 1.
        align: intrinsic widths are multiples of it (see `Arch`).
        num_classes, in_chs: of the data; they matter to costs and latencies only.
        expansions: multipliers of each block's hidden channels.
        dw_kernels: kernels of each block's strided convolution and shortcut; None leaves each row its own.
        depths: for each stage, how many of its leading blocks may stand; None keeps all.
        baseline_depths: for each stage, how many of its rows the family itself has; None: all. Files call it
            `own_depths`.
        resolutions: sides to choose from, `resolution` among them; none leaves only that.

    Raises:
        SpaceError: the first value that breaks a rule; the message has the key, the rule and the value.
    """

    name: str
    rows: tuple[tuple[Row, ...], ...]
    stem_chs: int
    stem_stride: int
    tail_chs: int
    head_chs: int
    resolution: int
    widths: tuple[float, ...]
    ratios: tuple[int, ...] = (1, 2, 3, 4)
    cheap_kernels: tuple[int, ...] = (1, 3, 5)
    align: int = 1
    num_classes: int = 1000
    in_chs: int = 3
    expansions: tuple[float, ...] = (1.0,)
    dw_kernels: tuple[int, ...] | None = None
    depths: tuple[tuple[int, ...], ...] | None = None
    baseline_depths: tuple[int, ...] | None = None
    resolutions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if type(self.name) is not str or not re.fullmatch(NAME, self.name):
            raise SpaceError(f"`name` must be letters, digits, `.`, `_` and `-`, but got {to_text(self.name)}")
        for key, (low, high) in RANGES.items():
            require(key, getattr(self, key), f"a whole number from {low} to {high}", whole(low, high))
        self._check_rows()
        require_distinct("widths", self.widths, "numbers above 0, at most 8", above_zero)
        require_distinct("ratios", self.ratios, "whole numbers from 1 to 64", whole(1, 64))
        require_distinct("cheap_kernels", self.cheap_kernels, "odd numbers from 1 to 31", is_odd)
        require_distinct("expansions", self.expansions, "numbers above 0, at most 8", above_zero)
        if self.dw_kernels is not None:
            require_distinct("dw_kernels", self.dw_kernels, "odd numbers from 1 to 31", is_odd)
        self._check_depths()
        self._check_resolutions()

    def _check_rows(self) -> None:
        rows = self.rows
        if not (isinstance(rows, tuple) and rows and all(isinstance(stage, tuple) and stage for stage in rows)):
            raise SpaceError(f"`rows` must be a list of stages, each a list of rows, but got {to_text(rows)}")
        if (blocks := sum(map(len, rows))) > MOST_BLOCKS:
            raise SpaceError(f"`rows` must have at most {MOST_BLOCKS:,} blocks, but got {blocks:,}")
        for i, stage in enumerate(rows):
            for j, row in enumerate(stage):
                right = isinstance(row, Row) and (
                    is_odd(row.dw_kernel)
                    and whole(1, 16384)(row.mid_chs)
                    and whole(1, 16384)(row.out_chs)
                    and type(row.se_ratio) in (int, float)
                    and row.se_ratio in (0, SE_RATIO)
                    and whole(1, 2)(row.stride)
                )
                if not right:
                    raise SpaceError(
                        f"`rows[{i}][{j}]` must be [odd kernel, hidden channels, output channels, SE 0 or {SE_RATIO}, "
                        f"stride 1 or 2], but got {to_text(row)}"
                    )

    def _check_depths(self) -> None:
        stages = len(self.rows)
        if self.depths is not None:
            if not fits(self.depths, self.rows, lambda choices, _: isinstance(choices, tuple)):
                got = to_text(self.depths)
                raise SpaceError(f"`depths` must hold a list for each of the {stages} stages, but got {got}")
            for i, (choices, stage) in enumerate(zip(self.depths, self.rows, strict=True)):
                rule = f"whole numbers from 1 to {len(stage)}"
                require_distinct(f"depths[{i}]", choices, rule, whole(1, len(stage)))
                for j in range(min(choices), max(choices)):
                    if stage[j].stride > 1 or stage[j].out_chs != stage[j - 1].out_chs:
                        raise SpaceError(
                            f"`depths[{i}]` may drop only blocks of stride 1 that keep the channels of the one before, "
                            f"but {to_text(choices)} drops block {j}, {stage[j - 1].out_chs} > {stage[j].out_chs} "
                            f"at stride {stage[j].stride}"
                        )
        baseline = self.baseline_depths
        if baseline is not None and not fits(baseline, self.rows, lambda depth, rows: whole(1, len(rows))(depth)):
            raise SpaceError(
                f"`baseline_depths` (in files `own_depths`) must have for each of the {stages} stages a number of its "
                f"blocks, but got {to_text(baseline)}"
            )

    def _check_resolutions(self) -> None:
        stride = self.stem_stride * math.prod(row.stride for stage in self.stages for row in stage)
        rule, right = f"from {stride}, the strides' product, to 4096", whole(stride, 4096)
        require("resolution", self.resolution, f"a whole number {rule}", right)
        if self.resolutions != ():
            require_distinct("resolutions", self.resolutions, f"whole numbers {rule}", right)
            if self.resolution not in self.resolutions:
                raise SpaceError(
                    f"`resolution` must be one of `resolutions` {to_text(self.resolutions)}, but got {self.resolution}"
                )

    @cached_property
    def depth_choices(self) -> tuple[tuple[int, ...], ...]:
        """How many leading blocks each stage may have, ascending."""
        whole_stages = tuple((len(stage),) for stage in self.rows)
        return whole_stages if self.depths is None else tuple(tuple(sorted(choices)) for choices in self.depths)

    @cached_property
    def stages(self) -> tuple[tuple[Row, ...], ...]:
        """The rows that some network has."""
        return tuple(stage[: choices[-1]] for stage, choices in zip(self.rows, self.depth_choices, strict=True))

    @cached_property
    def resolution_choices(self) -> tuple[int, ...]:
        """Sides of the input, ascending."""
        return tuple(sorted(self.resolutions)) or (self.resolution,)

    def kernel_choices(self, row: Row) -> tuple[int, ...]:
        """Kernels that a row's block may have where it uses one, ascending."""
        return (row.dw_kernel,) if self.dw_kernels is None else tuple(sorted(self.dw_kernels))

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits that change with anything that changes the space; equal spaces have the same."""
        rows = [[replace(row, se_ratio=SE_RATIO if row.se_ratio else 0) for row in stage] for stage in self.rows]
        widths, expansions = (tuple(map(float, values)) for values in (self.widths, self.expansions))
        return _digest(replace(self, rows=tuple(map(tuple, rows)), widths=widths, expansions=expansions))

    def has_id(self, given: str | None) -> bool:
        """Whether a file's id is this space's. Earlier versions told a width that was written `1` from `1.0`."""
        return given in (self.id, _digest(self))


def _digest(spec: SpaceSpec) -> str:
    """Ten hexadecimal digits of a space's values as they are written."""
    content = asdict(spec) | {"se_ratio": SE_RATIO}
    for field in fields(spec):
        value = content.pop(field.name)
        if field.name not in ADDED_AFTER_V1 or getattr(spec, field.name) != field.default:
            content[FILE_KEYS.get(field.name, field.name)] = value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
