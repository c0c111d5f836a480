"""Spaces: exact size, codes there and back, sums over populations, budgets."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ghostnet import cost, published
from ghostnet.published import Row
from ghostnet.units import intrinsic_chs
from spaces import Space, SpaceError, Window, named_space
from spaces.population import mutate, sample
from spaces.quantities import format_count
from spaces.tables import costs, macs_table, params_table

NAMES = ("digits", "cifar", "imagenet", "digits-plus", "cifar-plus", "imagenet-plus")


def tiny_space(**changes) -> Space:
    space = Space(
        name="tiny",
        rows=((Row(3, 8, 8, 0, 1),), (Row(3, 16, 12, 0.25, 1),)),
        stem_chs=8,
        stem_stride=1,
        tail_chs=16,
        head_chs=8,
        resolution=8,
        widths=(0.5, 1.0),
        ratios=(1, 2),
        cheap_kernels=(3, 5),
        num_classes=3,
    )
    return replace(space, **changes)


def everything(space: Space) -> np.ndarray:
    return np.array(list(itertools.product(*(range(n) for n in space.choices))))


def test_exhaustively_no_two_codes_mean_the_same_network_and_size_counts_them():
    space = tiny_space()
    codes = everything(space)
    archs = {space.decode(code) for code in codes}
    assert len(archs) == len(codes) == space.size
    for code in codes[:: len(codes) // 50]:
        assert (space.encode(space.decode(code)) == code).all()


def test_exhaustively_the_extremes_are_exact():
    space = tiny_space()
    for table in (macs_table(space), params_table(space)):
        totals = table.total(everything(space))
        assert table.total(table.extreme())[0] == totals.min()
        assert table.total(table.extreme(largest=True))[0] == totals.max()


def test_widths_that_make_the_same_channels_are_one_choice():
    space = tiny_space(widths=(0.5, 0.51, 1.0))
    assert space.size == tiny_space().size


@pytest.mark.parametrize("name", NAMES)
def test_codes_there_and_back_and_vectorised_costs(name):
    space = named_space(name)
    codes = sample(space, np.random.default_rng(1), 40)
    macs, params = macs_table(space).total(codes), params_table(space).total(codes)
    for code, m, p in zip(codes, macs, params, strict=True):
        arch = space.decode(code)
        total = cost(arch, space.num_classes, space.in_chs)
        assert (space.encode(arch) == code).all() and arch in space
        assert (total.macs, total.params) == (m, p) and costs(space, code) == total
    with pytest.raises(SpaceError, match=r"one network's code, \[genes\], not of shape \[40, "):
        costs(space, codes)


@pytest.mark.parametrize("name", ["imagenet", "imagenet-plus"])
def test_published_networks_are_members_of_imagenet_and_of_no_other(name):
    space = named_space(name)
    for width in ("0.5", "1.0", "1.3"):
        arch = published(f"ghostnet-{width}")
        assert arch in space and arch == space.uniform(float(width)) == space.decode(space.encode(arch))
        assert arch not in named_space(name.replace("imagenet", "cifar"))


def test_the_family_is_ghostnet_at_every_width_that_the_space_has():
    space = named_space("imagenet")
    assert space.family == {width: space.uniform(width) for width in space.widths}
    assert space.family[1.0] == published("ghostnet-1.0") and [*space.family] == sorted(space.family)[::-1]
    assert not replace(space, ratios=(1, 4)).family, "GhostNet has s = 2"


@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet"])
def test_a_preset_has_four_dimensions_and_its_plus_form_all_and_every_network_of_it_with_the_same_depth(name):
    space, plus = named_space(name), named_space(f"{name}-plus")
    kinds = [{gene.kind for gene in each.genes} for each in (space, plus)]
    assert kinds == [{"width", "ghost", "se"}, {"width", "ghost", "se", "expansion", "kernel", "depth", "resolution"}]
    rng = np.random.default_rng(0)
    assert all(space.sample(rng) in plus for _ in range(20))
    assert plus.largest.resolution == space.resolution and len(plus.largest.blocks) > len(space.largest.blocks)


@pytest.mark.parametrize("name", NAMES[:4])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_windows_from_edge_to_edge_are_met(name, share):
    space = named_space(name)
    table = macs_table(space)
    low, high = (int(table.total(table.extreme(largest))[0]) for largest in (False, True))
    middle = low + share * (high - low)
    window = Window(round(0.97 * middle), round(1.03 * middle))
    codes = sample(space, np.random.default_rng(0), 30, window)
    assert len(codes) == 30 and window.holds(table.total(codes)).all()


def test_infeasible_budgets_name_the_nearest_network():
    space = named_space("digits")
    table = macs_table(space)
    with pytest.raises(SpaceError, match=f"{space.decode(table.extreme()).id}, has 119k"):
        Window.parse("1k").check(space)
    with pytest.raises(SpaceError, match=space.decode(table.extreme(True)).id):
        Window.parse("1G..2G").check(space)


@pytest.mark.parametrize("width", [float("nan"), float("inf"), 0, -1.0, "1", None, True])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(SpaceError, match=f"`width` must be a number above 0, but got {width!r}"):
        named_space("digits").uniform(width)


def test_digits_of_other_scripts_are_no_budget():
    with pytest.raises(SpaceError, match="a FLOPs budget is like 60M"):
        Window.parse("\u0666\u0665\u0660k")


def test_budgets_as_people_write_them():
    assert Window.parse("60M") == Window(0, 60_000_000)
    assert Window.parse("1.5k..2G") == Window(1500, 2_000_000_000)
    assert format_count(42_328_152) == "42.3M"
    for bad in ("", "60", "0", "60MB", "-1M", "2M..1M", "1e9", "M", "..5M"):
        if bad == "60":
            assert Window.parse(bad) == Window(0, 60)
            continue
        with pytest.raises(SpaceError):
            Window.parse(bad)


def test_uniform_sampling_is_uniform():
    """Every gene's choices within 5 sigma of equal shares: a false failure has odds below 1 in 10,000."""
    space = named_space("imagenet")
    codes = sample(space, np.random.default_rng(0), 20_000)
    for gene, n in enumerate(space.choices):
        counts = np.bincount(codes[:, gene], minlength=n)
        sigma = np.sqrt(len(codes) / n * (1 - 1 / n))
        assert (abs(counts - len(codes) / n) < 5 * sigma).all()


def test_mutation_changes_the_given_share_of_genes_and_stays_inside():
    space = named_space("cifar")
    rng = np.random.default_rng(0)
    codes = sample(space, rng, 500)
    moved = mutate(space, rng, codes, 0.3)
    assert ((moved >= 0) & (moved < space.choices)).all()
    expected = 0.3 * (1 - (1 / space.choices).mean())
    assert abs((moved != codes).mean() - expected) < 0.02


def test_the_id_tells_spaces_apart():
    space = named_space("digits")
    assert replace(space, num_classes=11).id != space.id != replace(space, align=4).id
    assert named_space("digits").id == space.id
    with pytest.raises(SpaceError, match="digits, cifar, imagenet"):
        named_space("mars")


@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet"])
def test_aligned_presets_have_intrinsic_widths_in_multiples_of_8_or_all_channels(name):
    space, plain = named_space(f"{name}-aligned"), named_space(name)
    assert space == replace(plain, name=space.name, align=8) and plain.align == 1
    for arch in (space.sample(np.random.default_rng(seed)) for seed in range(20)):
        for stage in arch.stages:
            for block in stage:
                for width in (block.mid_chs, block.out_chs):
                    primary = intrinsic_chs(width, block.ratio, arch.align)
                    assert primary % 8 == 0 or primary == width
