"""Files from strangers: a thousand mutants of each kind are read or refused in one line, and nothing else happens."""

import pytest

from tests.fuzz import fuzz
from tests.fuzz_kinds import KINDS


@pytest.mark.parametrize("name", KINDS)
def test_a_reader_gives_a_valid_result_or_one_clear_error(name, tmp_path):
    outcome = fuzz(KINDS[name], tmp_path, range(1000))
    assert not outcome.failures, f"python -m tests.fuzz {name} --only {outcome.failures[0][0]} shows the first"
    assert outcome.read  # else the mutants are no test
    assert outcome.refused or name == "checkpoint.pt"  # whose damage is answered with the one before it
