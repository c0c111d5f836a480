"""A setting that can be given on the command line, in Python and in a recipe has the same default there; and what the
help lists by hand is whole."""

import dataclasses
import inspect
import re

import pytest

import search as api
from search.commands.calibrate import KIT_RUNTIME, RUNTIME, calibrate, kit
from search.commands.fidelity import fidelity
from search.commands.retrain import retrain
from search.commands.run import run
from search.commands.search import search
from search.commands.shared import CLUSTER, SPACE
from search.commands.train import train
from search.latency.runtimes import RUNTIMES
from search.parallel.cluster import Cluster, ClusterOptions
from search.recipes.schema import Calibration, Search
from spaces.presets import PRESETS

OTHER_NAMES = {"networks": "held_out", "units": "most_units", "trained": "networks"}  # of options, in Python
WRITTEN_OTHERWISE = {
    "out",
    "objectives",
    "latency_budget",
    "seeds",
    "workers",
}  # None: as many workers as a recipe says


def defaults(of):
    if inspect.isclass(of):
        return {name: field.default for name, field in of.model_fields.items() if not field.is_required()}
    parameters = inspect.signature(of).parameters.items()
    return {name: each.default for name, each in parameters if each.default is not inspect.Parameter.empty}


@pytest.mark.parametrize(
    ("one", "other", "fewest"),
    [
        (calibrate, api.calibrate, 8),
        (calibrate, api.write_kit, 6),
        (kit, api.write_kit, 7),
        (Calibration, api.calibrate, 8),
        (search, api.run_search, 12),
        (Search, api.run_search, 9),
        (train, api.train_supernet, 6),
        (fidelity, api.measure_fidelity, 9),
        (retrain, api.retrain_network, 6),
        (retrain, api.retrain_networks, 5),
    ],
)
def test_a_setting_has_one_default(one, other, fewest):
    names = OTHER_NAMES if one in (calibrate, kit, fidelity) else {}
    given = {names.get(name, name): value for name, value in defaults(one).items()}
    expected = defaults(other)
    shared = given.keys() & expected.keys() - WRITTEN_OTHERWISE
    assert len(shared) >= fewest
    assert {name: given[name] for name in shared} == {name: expected[name] for name in shared}


def test_a_cluster_has_the_same_settings_everywhere():
    fields = {field.name: field.default for field in dataclasses.fields(Cluster)}
    assert fields == dict.fromkeys(ClusterOptions.__annotations__) == dict.fromkeys(CLUSTER)
    functions = (api.train_supernet, api.measure_fidelity, api.run_search, api.retrain_network, api.run_recipe)
    for each in (train, fidelity, search, retrain, run, api.retrain_networks, *functions):
        assert fields.items() <= defaults(each).items()


def test_the_help_names_every_named_space():
    parts = {part for name in PRESETS for part in name.split("-")}  # digits, plus, ...
    assert [part for part in sorted(parts) if part not in SPACE] == []


def test_the_help_names_every_runtime_and_those_that_kits_have():
    with_kits = {name for name, adapter in RUNTIMES.items() if adapter.standalone}
    for text, names in ((RUNTIME, set(RUNTIMES)), (KIT_RUNTIME, with_kits)):
        assert RUNTIMES.keys() & set(re.findall("[a-z-]+", text)) == names
