"""Spaces of users' own: what a table means, and what each mistake is answered with."""

import json
import re
import tracemalloc
from dataclasses import replace

import pytest

from spaces import SpaceError, load_space, named_space, parse_space, space_from_dict, space_to_dict
from spaces.presets import PRESETS
from tests.helpers import plus_space

FAMILY = {
    "name": "own",
    "rows": [[[3, 16, 16, 0, 1]], [[5, 48, 24, 0.25, 2], [3, 72, 24, 0, 1]]],
    "stem_chs": 16,
    "stem_stride": 1,
    "tail_chs": 64,
    "head_chs": 32,
    "resolution": 16,
    "widths": [0.5, 1.0],
}


def test_overrides_of_a_preset():
    space = space_from_dict({"base": "cifar", "widths": [0.5, 1.0], "align": 8, "name": "aligned"})
    assert space == replace(named_space("cifar"), widths=(0.5, 1.0), align=8, name="aligned")
    plus = space_from_dict({"base": "digits", "expansions": [1.0, 1.5], "resolutions": [8, 12], "dw_kernels": [3, 5]})
    assert plus.resolution == 12 and plus.largest.resolution == 12 and plus.name == "custom"
    fewer = space_from_dict({"base": "digits", "depths": [[1], [1, 2], [1]]})
    assert len(fewer.largest.blocks) == 4 and len(fewer.smallest.blocks) == 3
    assert space_from_dict({"base": "digits-plus", "rows": FAMILY["rows"]}).depths is None


def test_a_family_of_ones_own():
    space = space_from_dict(FAMILY | {"depths": [[1], [1, 2]], "resolutions": [12, 16]})
    assert space.uniform(1.0) in space and [len(stage) for stage in space.largest.stages] == [1, 2]
    side = space_from_dict({key: value for key, value in FAMILY.items() if key != "resolution"} | {"resolutions": [8]})
    assert side.resolution == 8


BAD = {
    "no table": (3, r"`\[space\]` must be a table, but got 3"),
    "an unknown key": (FAMILY | {"colour": 1}, "has no key `colour`; it has base, name, rows"),
    "an unknown base": ({"base": "mars"}, "`base` must be one of digits, .*, but got 'mars'"),
    "a base that is none": ({"base": ["cifar"]}, "`base` must be"),
    "no rows": ({"widths": [1.0]}, "must have rows, .*, but lacks `rows`"),
    "a preset's name": (FAMILY | {"name": "cifar"}, "`name` must be none of the presets', but got 'cifar'"),
    "a bad name": (FAMILY | {"name": "a b"}, "`name` must be letters.*'a b'"),
    "an empty list": (FAMILY | {"widths": []}, r"`widths` must be a list of different numbers above 0.*got \[\]"),
    "a width below": (FAMILY | {"widths": [0.5, -1]}, r"`widths` .*got \[0.5, -1\]"),
    "a width of nothing": (FAMILY | {"widths": [float("nan")]}, r"`widths` .*got \[nan\]"),
    "a width that is no list": (FAMILY | {"widths": 1.0}, "`widths` must be a list .* got 1.0"),
    "a width in words": (FAMILY | {"widths": ["1"]}, r"`widths` .*got \['1'\]"),
    "a width twice": (FAMILY | {"widths": [1, 1.0]}, r"`widths` .*different.*got \[1, 1.0\]"),
    "a table for a width": (FAMILY | {"widths": [{}]}, "`widths`"),
    "an even kernel": (FAMILY | {"dw_kernels": [3, 4]}, r"`dw_kernels` must be .* odd numbers from 1 to 31.*\[3, 4\]"),
    "an even cheap kernel": (FAMILY | {"cheap_kernels": [2]}, "`cheap_kernels` must be"),
    "a ratio of nought": (FAMILY | {"ratios": [0]}, "`ratios` must be"),
    "an expansion of nought": (FAMILY | {"expansions": [0.0]}, "`expansions` must be"),
    "too few depths": (FAMILY | {"depths": [[1]]}, r"`depths` must hold a list for each of the 2 stages.*\[\[1\]\]"),
    "a depth beyond": (FAMILY | {"depths": [[1], [1, 3]]}, r"`depths\[1\]` must be .* from 1 to 2, but got \[1, 3\]"),
    "no depth": (FAMILY | {"depths": [[1], [0, 1]]}, r"`depths\[1\]`"),
    "a strided block that drops": (
        {"base": "cifar", "rows": [[[3, 16, 16, 0, 1], [3, 48, 24, 0, 2]]], "depths": [[1, 2]]},
        r"`depths\[0\]` may drop only blocks of stride 1.*\[1, 2\] drops block 1, 16 > 24 at stride 2",
    ),
    "own depths": (FAMILY | {"own_depths": [1, 3]}, r"`own_depths`.* must have.*got \[1, 3\]"),
    "a small side": ({"base": "imagenet", "resolutions": [16, 224]}, r"`resolutions` .* from 32, .*\[16, 224\]"),
    **{
        f"sides that are {text}": ({"base": "digits", "resolutions": sides}, f"`resolutions` must be .* got {text}$")
        for sides, text in ((0, "0"), (24, "24"), ("24", "'24'"), (True, "true"))
    },
    "a side not chosen": (
        FAMILY | {"resolutions": [12]},
        r"`resolution` must be one of `resolutions` \[12\], but got 16",
    ),
    "an align": (FAMILY | {"align": 0}, "`align` must be a whole number from 1 to 64, but got 0"),
    "a flag for a number": (FAMILY | {"align": True}, "`align` must be"),
    "a stem": (FAMILY | {"stem_stride": 3}, "`stem_stride` must be a whole number from 1 to 2, but got 3"),
    "a row of four": (FAMILY | {"rows": [[[3, 16, 16, 0]]]}, r"`rows\[0\]\[0\]` must be .*got \[3, 16, 16, 0\]"),
    "a row that is even": (FAMILY | {"rows": [[[4, 16, 16, 0, 1]]]}, r"`rows\[0\]\[0\]` must be \[odd kernel"),
    "a kernel in words": (
        FAMILY | {"rows": [[["3", 16, 16, True, 1]]]},
        r"`rows\[0\]\[0\]` must be \[odd kernel.* got \['3', 16, 16, true, 1\]$",
    ),
    "a row in an empty stage's place": (
        FAMILY | {"rows": [[[3, 16, 16, 0, 1]], []]},
        r"got \[\[\[3, 16, 16, 0, 1\]\], \[\]\]$",
    ),
    "more blocks than sizes can be written of": (
        FAMILY | {"rows": [[[3, 16, 16, 0, 1]] * 600, [[3, 16, 16, 0, 1]] * 401]},
        "`rows` must have at most 1,000 blocks, but got 1,001",
    ),
    "another SE": (FAMILY | {"rows": [[[3, 16, 16, 0.5, 1]]]}, "SE 0 or 0.25"),
    "rows that are none": (FAMILY | {"rows": 3}, "`rows` must be a list of stages"),
    "an empty stage": (FAMILY | {"rows": [[]]}, "`rows` must be a list of stages"),
    "more than tables hold": (
        {"base": "imagenet-plus", "widths": [k / 32 for k in range(16, 49)], "cheap_kernels": [1, 3, 5, 7, 9, 11]},
        "a space must make at most 2,000,000 different blocks",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_answered_in_one_line_with_key_rule_and_value(case):
    data, message = BAD[case]
    with pytest.raises(SpaceError) as error:
        space_from_dict(data)
    assert re.search(message, str(error.value)), str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_space_of_far_too_many_widths_is_refused_without_holding_their_pairs():
    widths = [round(8 * k / 2000, 5) for k in range(1, 2001)]
    tracemalloc.start()
    with pytest.raises(SpaceError, match="at most 2,000,000 different blocks"):
        space_from_dict(FAMILY | {"rows": [[[3, 16384, 16384, 0, 1]]], "stem_chs": 4096, "widths": widths})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # the pairs alone are of 300 MB


def test_presets_and_files_by_name(tmp_path):
    assert load_space("imagenet-plus") is named_space("imagenet-plus")
    file = tmp_path / "mine.toml"
    file.write_text('data = "cifar10"\n[space]\nbase = "cifar"\nwidths = [0.5, 1.0]\n[search]\ntrials = 3\n')
    assert load_space(file) == replace(named_space("cifar"), name="mine", widths=(0.5, 1.0)) == load_space(str(file))
    file.write_text('space = "cifar"\n')
    assert load_space(file) is named_space("cifar")
    for text, message in (
        ("[space]\nbase = 3", "mine.toml: `base` must be"),
        ("trials = 3", "there is no `\\[space\\]` table"),
        ("space = 3", "must be a table"),
        ('space = "mars"', "a space is one of"),
        ("[space", "not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(SpaceError, match=message):
            load_space(file)
    with pytest.raises(SpaceError, match="No such file"):
        load_space(tmp_path / "none.toml")
    with pytest.raises(SpaceError, match="a space is one of digits"):
        load_space("mars")


@pytest.mark.parametrize("name", [*PRESETS, "own"])
def test_a_space_said_in_a_file_is_the_same_space_again(name):
    space = plus_space() if name == "own" else named_space(name)
    space = replace(space, num_classes=7, in_chs=2)
    message = json.loads(json.dumps(space_to_dict(space)))
    assert isinstance(message, dict) == (name == "own")
    again = replace(parse_space(message), num_classes=7, in_chs=2)
    assert again == space and again.id == space.id


INTEGERS = {"widths": [0.5, 1], "expansions": [1, 1.5], "rows": [[[3, 16, 16, 0.0, 1]], [[5, 48, 24, 0.25, 2]]]}


def test_equal_spaces_have_one_id_however_their_numbers_are_written():
    space = space_from_dict({**FAMILY, **INTEGERS})
    rows = [[[3, 16, 16, 0, 1]], [[5, 48, 24, 0.25, 2]]]
    floats = space_from_dict({**FAMILY, "widths": [0.5, 1.0], "expansions": [1.0, 1.5], "rows": rows})
    minus = space_from_dict({**FAMILY, **INTEGERS, "rows": [[[3, 16, 16, -0.0, 1]], rows[1]]})
    assert space == floats == minus and space.id == floats.id == minus.id
    assert space.id != space_from_dict({**FAMILY, **INTEGERS, "widths": [0.5, 2]}).id
    again = parse_space(json.loads(json.dumps(space_to_dict(space))))
    for each in (space, again, floats):
        assert each.has_id(floats.id) and not each.has_id(replace(space, align=4).id)
    before = "f553953c4c"  # of the space as it is written, by version 0.1
    assert space.has_id(before) and again.has_id(before) and before != space.id


def test_the_ids_of_presets_stay_as_files_have_them():
    assert {name: space.id for name, space in PRESETS.items()} == {
        "cifar": "a47eb10e39",
        "cifar-aligned": "b7ef48b41e",
        "cifar-plus": "a2e059433e",
        "digits": "c27c81b65e",
        "digits-aligned": "f94d73aa41",
        "digits-plus": "1019411bb8",
        "imagenet": "75c6fe113f",
        "imagenet-aligned": "efb2934f44",
        "imagenet-plus": "a0a228d857",
    }


def test_a_preset_that_was_changed_and_kept_its_name_is_recorded_and_read():
    """Tables of `calibrate --resolution` once were refused by everything that reads them."""
    for space in (replace(named_space("digits"), resolution=20), replace(named_space("cifar"), widths=(0.5,))):
        record = space_to_dict(space)
        assert parse_space(record) == space
        with pytest.raises(SpaceError, match=f"`name` must be none of the presets', but got '{space.name}'"):
            space_from_dict(record)
