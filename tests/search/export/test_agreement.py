"""When a file's outputs are a network's."""

import numpy as np
import pytest

from search.export.agreement import disagreement


@pytest.mark.parametrize(("times", "is_the_network"), [(3, True), (10, False)])
def test_a_file_may_be_off_by_some_times_what_pytorch_itself_is(times, is_the_network):
    expected = np.random.default_rng(0).uniform(-1, 1, (20, 5))
    float32_error = 1e-3  # more than the tolerance
    got = expected.copy()
    got[3, 2] += times * float32_error
    said = disagreement(expected, got, float32_error, exact=True)
    assert (said is None) == is_the_network
    if said:
        assert "differs from the PyTorch network by 0.01" in said
