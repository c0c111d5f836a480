"""The paper's cost columns: every row computed, and held to what is printed or to what is said of the difference."""

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "results" / "paper-tables"
# Printed: weights, FLOPs.
PRINTED = {
    "VGG-16": ("15.0M", "313M"),
    "VGG-16 s=2, d=1": ("7.6M", "157M"),
    "VGG-16 s=2, d=3": ("7.7M", "158M"),
    "VGG-16 s=2, d=5": ("7.7M", "160M"),
    "VGG-16 s=2, d=7": ("7.7M", "163M"),
    "VGG-16 s=3, d=3": ("5.2M", "107M"),
    "VGG-16 s=4, d=3": ("4.0M", "80M"),
    "VGG-16 s=5, d=3": ("3.3M", "65M"),
    "ResNet-56": ("0.85M", "125M"),
    "ResNet-56 s=2, d=1": ("0.43M", "63M"),
    "ResNet-56 s=2, d=3": ("0.43M", "63M"),
    "ResNet-50": ("25.6M", "4.1B"),
    "ResNet-50 s=2, d=3": ("13.0M", "2.2B"),
    "ResNet-50 s=4, d=3": ("6.5M", "1.2B"),
    "GhostNet 0.5x": ("2.6M", "42M"),
    "GhostNet 1.0x": ("5.2M", "141M"),
    "GhostNet 1.3x": ("7.3M", "226M"),
}
PARAMS_DIFFER = {"ResNet-50 s=2, d=3", "ResNet-50 s=4, d=3"}
MACS_DIFFER = {"ResNet-56 s=2, d=3", "GhostNet 1.3x"}


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("paper_tables", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(make):
    network = lambda row: row.table.split(" on ")[0]  # noqa: E731
    return {row.network if row.network == network(row) else f"{network(row)} {row.network}": row for row in make.rows()}


def met(printed: str, value: int) -> bool:
    """Rounded or cut off at the printed digit, reckoned in whole numbers."""
    whole, _, part = printed[:-1].partition(".")
    unit = {"M": 10**6, "B": 10**9}[printed[-1]] // 10 ** len(part)
    return int(whole + part) in (value // unit, (2 * value + unit) // (2 * unit))


@pytest.mark.parametrize("name", PRINTED)
def test_each_row_is_the_papers(rows, name):
    params, macs = PRINTED[name]
    row = rows[name]
    assert met(params, row.params) == (name not in PARAMS_DIFFER)
    assert met(macs, row.macs) == (name not in MACS_DIFFER)


def test_the_published_page_is_what_the_command_makes(make, rows, tmp_path):
    assert set(rows) == set(PRINTED)
    published = json.loads((FOLDER / "tables.json").read_text())
    assert [(r["network"], r["params"], r["macs"]) for r in published] == [
        (r.network, r.params, r.macs) for r in rows.values()
    ]
    assert (FOLDER / "README.md").read_text() == make.page(list(rows.values()))
    for name, row in rows.items():
        assert bool(row.remark) or name not in PARAMS_DIFFER | MACS_DIFFER
