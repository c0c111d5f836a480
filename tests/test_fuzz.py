"""Files from strangers: a thousand mutants of each kind are read or refused in one line, and nothing else happens."""

import json
import random

import pytest

from tests.fuzz import fuzz, of_json
from tests.fuzz_kinds import KINDS


@pytest.mark.parametrize("seed", range(3))
def test_a_mutant_depends_on_its_number_alone(seed):
    content = json.dumps({"a": [1, {"b": [[]]}], "c": {"d": None}}).encode()
    alone = [of_json(content, random.Random(f"{seed} {k}")) for k in range(2000)]
    assert alone == [of_json(content, random.Random(f"{seed} {k}")) for k in reversed(range(2000))][::-1]


@pytest.mark.parametrize("name", KINDS)
def test_a_reader_gives_a_valid_result_or_one_clear_error(name, tmp_path):
    outcome = fuzz(KINDS[name], tmp_path, range(1000))
    assert not outcome.failures, f"python -m tests.fuzz {name} --only {outcome.failures[0][0]} shows the first"
    assert outcome.read  # else the mutants are no test
    assert outcome.refused or name == "checkpoint.pt"  # whose damage is answered with the one before it
