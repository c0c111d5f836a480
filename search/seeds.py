"""The rule for seeds: what every generator takes, and every file that is written can hold."""

from search.errors import check_whole

LARGEST_SEED = (1 << 63) - 1

# Streams of random numbers that a search draws with one seed: `default_rng([seed, stream, ...])`, with what else tells
# its draws apart, as a trial's number. NumPy takes [seed, stream] and [seed, stream, 0] for the same. No two of a
# search's samplers are alike; MACS_MATCHED and LAST_PROMOTIONS are, but the one draws networks of a run after its
# search, and the other directions of a hypervolume.
FIRST_NETWORKS = 2
GUIDED = 3
EVOLUTION = 5
LAST_PROMOTIONS = 7
MACS_MATCHED = 7


def check_seed(seed: int) -> int:
    """A seed, also one of NumPy's integers, as an `int`.

    Raises:
        UserError: it is none from 0 to `LARGEST_SEED`.
    """
    return check_whole("a seed", seed, 0, LARGEST_SEED)
