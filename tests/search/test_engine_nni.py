"""The search by NNI's tuners, where NNI is installed."""

import pytest

from tests.search.conformance import Conformance

pytest.importorskip("nni")


class TestNNI(Conformance):
    name, kills, start, exact, plan = "nni", 1, "spawn", False, {"workers": 3, "sampler": "tpe"}
