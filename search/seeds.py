"""The rule for seeds: what every generator takes, and every file that is written can hold."""

from operator import index

from search.errors import UserError

LARGEST_SEED = (1 << 63) - 1


def check_seed(seed: int) -> int:
    """A seed, also one of NumPy's integers, as an `int`.

    Raises:
        UserError: it is none from 0 to `LARGEST_SEED`.
    """
    try:
        number = index(seed)
    except TypeError:
        number = -1
    if isinstance(seed, bool) or not 0 <= number <= LARGEST_SEED:
        raise UserError(f"a seed must be a whole number from 0 to {LARGEST_SEED}, but got {repr(seed)[:80]}")
    return number
