"""The rules that a space's values keep. Each error names the key, the rule and the value."""

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ghostnet.published import Row
from spaces.errors import SpaceError
from spaces.layout import SE_RATIO

if TYPE_CHECKING:
    from spaces.space import Space

RANGES = {
    "stem_chs": (1, 4096),
    "stem_stride": (1, 2),
    "tail_chs": (1, 16384),
    "head_chs": (1, 16384),
    "align": (1, 64),
    "num_classes": (0, 1 << 20),
    "in_chs": (1, 4096),
}
NAME = r"[A-Za-z0-9][\w.-]{0,63}"


def check(space: "Space") -> None:
    """Raises:
    SpaceError: the first value that breaks a rule.
    """
    if type(space.name) is not str or not re.fullmatch(NAME, space.name):
        raise SpaceError(f"`name` must be letters, digits, `.`, `_` and `-`, but got {space.name!r}")
    for key, (low, high) in RANGES.items():
        _must(key, getattr(space, key), f"a whole number from {low} to {high}", _whole(low, high))
    _check_rows(space.rows)
    _several("widths", space.widths, "numbers above 0, at most 8", _number)
    _several("ratios", space.ratios, "whole numbers from 1 to 64", _whole(1, 64))
    _several("cheap_kernels", space.cheap_kernels, "odd numbers from 1 to 31", _odd)
    _several("expansions", space.expansions, "numbers above 0, at most 8", _number)
    if space.dw_kernels is not None:
        _several("dw_kernels", space.dw_kernels, "odd numbers from 1 to 31", _odd)
    if space.depths is not None:
        _check_depths(space)
    if space.own_depths is not None and not _fit(space.own_depths, space.rows, _depth_of):
        raise SpaceError(
            f"`own_depths` must have for each of the {len(space.rows)} stages a number of its blocks, "
            f"but got {plain(space.own_depths)}"
        )
    stride = space.stem_stride * math.prod(row.stride for stage in space.stages for row in stage)
    rule, right = f"from {stride}, the strides' product, to 4096", _whole(stride, 4096)
    _must("resolution", space.resolution, f"a whole number {rule}", right)
    if space.resolutions:
        _several("resolutions", space.resolutions, f"whole numbers {rule}", right)
        if space.resolution not in space.resolutions:
            raise SpaceError(
                f"`resolution` must be one of `resolutions` {plain(space.resolutions)}, but got {space.resolution}"
            )


def plain(value: Any) -> str:
    """A value as TOML has it: lists for tuples."""
    return f"[{', '.join(map(plain, value))}]" if isinstance(value, tuple) else repr(value)


def _check_rows(rows: Any) -> None:
    if not (isinstance(rows, tuple) and rows and all(isinstance(stage, tuple) and stage for stage in rows)):
        raise SpaceError(f"`rows` must be a list of stages, each a list of rows, but got {plain(rows)}")
    for i, stage in enumerate(rows):
        for j, row in enumerate(stage):
            right = isinstance(row, Row) and (
                _odd(row.dw_kernel)
                and _whole(1, 16384)(row.mid_chs)
                and _whole(1, 16384)(row.out_chs)
                and type(row.se_ratio) in (int, float)
                and row.se_ratio in (0, SE_RATIO)
                and _whole(1, 2)(row.stride)
            )
            if not right:
                raise SpaceError(
                    f"`rows[{i}][{j}]` must be [odd kernel, hidden channels, output channels, SE 0 or {SE_RATIO}, "
                    f"stride 1 or 2], but got {row if isinstance(row, Row) else plain(row)}"
                )


def _check_depths(space: "Space") -> None:
    depths = space.depths
    if not isinstance(depths, tuple) or not _fit(depths, space.rows, lambda choices, _: isinstance(choices, tuple)):
        raise SpaceError(f"`depths` must hold a list for each of the {len(space.rows)} stages, but got {plain(depths)}")
    for i, (choices, stage) in enumerate(zip(depths, space.rows, strict=True)):
        _several(f"depths[{i}]", choices, f"whole numbers from 1 to {len(stage)}", _whole(1, len(stage)))
        for j in range(min(choices), max(choices)):
            if stage[j].stride > 1 or stage[j].out_chs != stage[j - 1].out_chs:
                raise SpaceError(
                    f"`depths[{i}]` may drop only blocks of stride 1 that keep the channels of the one before, but "
                    f"{plain(choices)} drops block {j}, {stage[j - 1].out_chs} > {stage[j].out_chs} "
                    f"at stride {stage[j].stride}"
                )


def _fit(values: Any, rows: tuple[tuple[Row, ...], ...], right: Callable[[Any, tuple[Row, ...]], bool]) -> bool:
    return isinstance(values, tuple) and len(values) == len(rows) and all(map(right, values, rows))


def _depth_of(depth: Any, stage: tuple[Row, ...]) -> bool:
    return _whole(1, len(stage))(depth)


def _several(key: str, values: Any, rule: str, right: Callable[[Any], bool]) -> None:
    held = isinstance(values, tuple) and bool(values) and all(map(right, values)) and len(set(values)) == len(values)
    _must(key, values, f"a list of different {rule}", lambda _: held)


def _must(key: str, value: Any, rule: str, right: Callable[[Any], bool]) -> None:
    if not right(value):
        raise SpaceError(f"`{key}` must be {rule}, but got {plain(value)}")


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _odd(value: Any) -> bool:
    return _whole(1, 31)(value) and value % 2 == 1


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 8
