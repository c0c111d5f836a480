"""The genotype as a value: content id, JSON there and back, refusals."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostnet import GhostNet, Supernet, Transplants, cost, memory
from ghostnet.arch import Arch, ArchError, Block
from ghostnet.cost import layers
from ghostnet.published import published
from tests.helpers import small_arch


def test_json_there_and_back_keeps_content_and_id():
    for arch in (small_arch(), published("ghostnet-1.0"), small_arch(align=4)):
        again = Arch.from_json(arch.to_json())
        assert again == arch and again.id == arch.id and hash(again) == hash(arch)


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
    path = tmp_path / "arch.json"
    path.write_text(small_arch().to_json(), encoding="utf-8-sig")
    assert Arch.load(path) == small_arch()


def test_any_change_changes_the_id_and_dead_kernels_do_not():
    arch = small_arch()
    assert replace(arch, tail_chs=25).id != arch.id
    assert Block(mid_chs=4, out_chs=4, ratio=1, cheap_kernel=5) == Block(mid_chs=4, out_chs=4, ratio=1, cheap_kernel=3)


@pytest.mark.parametrize("zero", [0, -0.0])
def test_equal_architectures_have_one_id(zero):
    arch = Arch(stages=((Block(mid_chs=4, out_chs=4),),))
    same = Arch(stages=((Block(mid_chs=4, out_chs=4, se_ratio=zero),),))
    assert same == arch and same.id == arch.id and Arch.from_json(same.to_json()).id == arch.id


@pytest.mark.parametrize(
    "bad",
    [
        {"mid_chs": 0},
        {"out_chs": -1},
        {"mid_chs": 8.0},
        {"mid_chs": True},
        {"dw_kernel": 4},
        {"cheap_kernel": 0},
        {"stride": 3},
        {"ratio": 0},
        {"se_ratio": 1.5},
        {"se_ratio": float("nan")},
        {"se_ratio": "a"},
    ],
)
def test_a_block_that_cant_be_built_is_refused_by_rule_and_value(bad):
    (name, value), *_ = bad.items()
    with pytest.raises(ArchError, match=f"`{name}` must .*{value!r}"):
        Block(**({"mid_chs": 8, "out_chs": 8} | bad))


@pytest.mark.parametrize(
    ("changes", "data", "words"),
    [
        ({"tail_chs": 2**20}, {}, "`tail_chs` must be a whole number from 1 to 65536, but got 1048576"),
        ({"resolution": 2**20}, {}, "`resolution` must be a whole number from 1 to 4096, but got 1048576"),
        ({}, {"in_chs": 2**20}, "`in_chs` must be a whole number from 1 to 4096, but got 1048576"),
        ({}, {"num_classes": 2**40}, "`num_classes` must be a whole number from 0 to 1048576, but got 1099511627776"),
        (
            {"tail_chs": 60_000, "head_chs": 60_000},
            {},
            r"at most 1,073,741,824 parameters, but this one has 3,6\d\d,\d{3},\d{3}",
        ),
    ],
)
def test_a_network_that_would_fill_memory_is_refused_by_rule_and_value(changes, data, words):
    with pytest.raises(ArchError, match=words):
        GhostNet(small_arch(**changes), **data)
    with pytest.raises(ArchError, match=words):
        Supernet((small_arch(**changes),), **data)


@pytest.mark.parametrize(
    "data",
    [{"num_classes": -1}, {"num_classes": 10.0}, {"in_chs": 0}, {"in_chs": -3}, {"in_chs": 1.5}, {"in_chs": True}],
)
def test_no_costs_of_a_network_that_cant_be_built(data):
    ((name, value),) = data.items()
    for count in (cost, layers, memory, GhostNet):
        with pytest.raises(ArchError, match=f"`{name}` must be a whole number from .*, but got {value!r}"):
            count(small_arch(), **data)


@pytest.mark.parametrize("bounds", [(), [], None, small_arch(), [None]])
def test_a_supernet_of_no_architectures_is_refused(bounds):
    with pytest.raises(ArchError, match="`bounds` must be one Arch or more"):
        Supernet(bounds)


def test_what_is_no_architecture_says_what_is_wrong():
    with pytest.raises(ArchError, match="`stages` must be a non-empty tuple of tuples of Blocks, but got"):
        Arch(stages=[[Block(mid_chs=4, out_chs=4)]])
    with pytest.raises(ArchError, match="an Arch has no key 'colour'"):
        Arch.from_dict(small_arch().to_dict() | {"colour": 1})
    with pytest.raises(ArchError, match=r"must be a torch.Tensor \[N, C, H, W\], but got ndarray"):
        Transplants(GhostNet(small_arch(), 3), np.zeros((2, 3, 15, 15)))
    with pytest.raises(ArchError, match=r"a published network is called .* not None"):
        published(None)


@pytest.mark.parametrize("name", ["drop_rate", "drop_path"])
@pytest.mark.parametrize("rate", [1.0, -0.1, 1.5, float("nan"), True, "0.1"])
def test_rates_that_leave_nothing_or_are_none_are_refused_by_rule_and_value(name, rate):
    words = f"`{name}` must be a number from 0 to less than 1, but got {rate!r}"
    with pytest.raises(ArchError, match=words):
        GhostNet(small_arch(), 3, **{name: rate})
    with pytest.raises(ArchError, match=words):
        Supernet((small_arch(),), 3, **{name: rate})


def test_unknown_keys_and_other_schemas_are_refused():
    data = small_arch().to_dict()
    with pytest.raises(ArchError, match="no key 'colour'"):
        Arch.from_dict(data | {"colour": 1})
    with pytest.raises(ArchError, match=r"ghostnas\.arch/1"):
        Arch.from_dict(data | {"schema": "ghostnas.arch/2"})
    with pytest.raises(ArchError, match="replica-major"):
        Arch.from_dict(data | {"ghost_order": "shuffled"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_mutated_json_gives_an_arch_or_an_arch_error(data):
    value = small_arch().to_dict()
    for _ in range(data.draw(st.integers(1, 3))):
        node = value
        while isinstance(node, dict | list) and node:
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if not isinstance(node[key], dict | list) or data.draw(st.booleans()):
                node[key] = data.draw(JSON)
                break
            node = node[key]
    text = json.dumps(value)
    cut = data.draw(st.integers(0, len(text)))
    for candidate in (text, text[:cut]):
        with contextlib.suppress(ArchError):
            assert isinstance(Arch.from_json(candidate), Arch)
