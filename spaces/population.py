"""Populations of encoded networks inside a budget, drawn and varied with whole-array operations.

Every function ends in bounded time: a window that no network can meet is an error at once, and where random networks
rarely meet one, random walks lead towards it.
All codes that come out are canonical.
"""

from collections.abc import Callable

import numpy as np

from spaces.errors import SpaceError
from spaces.quantities import SpaceWindows, Window, Windows, format_count
from spaces.space import Codes, Space
from spaces.tables import macs_table

__all__ = ["Window", "crossover", "format_count", "mutate", "sample", "sample_evenly"]

DRAW = 4096  # networks drawn at a time
ROUNDS = 16  # draws before a narrow window is walked instead
POPULATION = 20_000  # uniform networks from which `sample_evenly` takes
WALKS = 16  # from the ends of a space, of which some get stuck outside a narrow window
TRIES = 8  # at a child inside the budget, before the parent is kept


def sample(space: Space, rng: np.random.Generator, count: int, window: Windows = None) -> Codes:
    """`count` networks, uniform over those inside the window (all windows, where there are several) where enough of the
    space is: [count, genes].

    Raises:
        SpaceError: the window is out of the space's reach, or so narrow that nothing was found in it.
    """
    budget = SpaceWindows.from_windows(space, window)
    if not budget.windows:
        return space.sample_codes(rng, count)
    budget.check()
    inside = np.empty((0, len(space.choices)), dtype=np.int64)
    for _ in range(ROUNDS):
        sampled = space.sample_codes(rng, DRAW)
        inside = np.concatenate([inside, sampled[budget.excess(sampled) == 0]])
        if len(inside) >= count:
            return inside[:count]
    return np.concatenate([inside, _random_walk(space, rng, count - len(inside), budget)])


def sample_evenly(space: Space, rng: np.random.Generator, count: int, window: Windows = None) -> Codes:
    """`count` networks spread evenly over multiply-adds, cheapest first: of many uniform ones (inside the window, where
    there is one), those nearest to a random target in each of as many equal stretches between their 0.5th and 99.5th
    percentile: [count, genes]. All are different if the space has that many, as far as a window's are found; else each
    network is there about equally often.

    Raises:
        SpaceError: as `sample`.
    """
    many = max(POPULATION, 2 * count)
    codes = np.unique(sample(space, rng, many, window), axis=0)
    for _ in range(ROUNDS):  # after which a space's networks have all come, but for one chance in millions
        before = len(codes)
        if before >= min(count, space.size):
            break
        codes = np.unique(np.concatenate([codes, sample(space, rng, many, window)]), axis=0)
        if window is not None and len(codes) == before:  # it may have no more
            break
    macs = macs_table(space).total(codes)
    order = np.argsort(macs, kind="stable")
    if count > len(order):
        return codes[order[np.arange(count) * len(order) // count]]
    low, high = np.quantile(macs, (0.005, 0.995))
    targets = low + (high - low) * (np.arange(count) + rng.random(count)) / count
    indices = np.searchsorted(macs[order], targets).clip(max=len(order) - 1)
    steps = np.arange(count)  # step aside for one that is taken, upwards and then back from the end
    indices = np.maximum.accumulate(indices - steps) + steps
    return codes[order[np.minimum(indices, len(order) - count + steps)]]


def _random_walk(space: Space, rng: np.random.Generator, count: int, budget: SpaceWindows) -> Codes:
    """Random walks that first go towards the budget and then stay inside it."""
    ends = [w.table(space).extreme(largest) for w in budget.windows for largest in (False, True)]
    codes = np.stack([ends[k % len(ends)] for k in range(max(count, WALKS))])
    excess = budget.excess(codes)
    for _ in range(40 * len(space.choices)):
        moved = mutate(space, rng, codes, rate=1.5 / len(space.choices))
        new = budget.excess(moved)
        better = new <= excess
        codes[better], excess[better] = moved[better], new[better]
    inside = codes[excess == 0]
    if not len(inside):
        raise SpaceError(f"no network of {budget} found in space {space.name}; the nearest has {budget.nearest(codes)}")
    return inside[rng.choice(len(inside), count, replace=len(inside) < count)]


def mutate(space: Space, rng: np.random.Generator, codes: Codes, rate: float, window: Windows = None) -> Codes:
    """Each gene drawn anew with probability `rate`: [n, genes] -> [n, genes]. A gene that comes to life, as those of a
    block that a new depth keeps, is drawn anew, too.

    Args:
        window: what children must be inside of; where none is after some tries, the parent stays.
    """

    def child(parents: Codes) -> Codes:
        fresh = rng.integers(space.choices, size=parents.shape)
        moved = np.where(rng.random(parents.shape) < rate, fresh, parents)
        if not space.injective:
            moved = np.where(space.active(moved) & ~space.active(parents), fresh, moved)
        return space.canonical(moved)

    return _inside(SpaceWindows.from_windows(space, window), child, codes)


def crossover(space: Space, rng: np.random.Generator, codes_a: Codes, codes_b: Codes, window: Windows = None) -> Codes:
    """Each gene from one parent or the other; where it is dead in one, from the other: two times [n, genes] ->
    [n, genes].

    Args:
        window: what children must be inside of; where none is after some tries, the first parent stays.
    """

    def child(parents: Codes) -> Codes:
        a, b = np.split(parents, 2, axis=1)
        alive_a, alive_b = space.active(a), space.active(b)
        from_b = np.where(alive_a == alive_b, rng.random(a.shape) < 0.5, alive_b)
        return space.canonical(np.where(from_b, b, a))

    return _inside(SpaceWindows.from_windows(space, window), child, np.concatenate([codes_a, codes_b], axis=1))


def _inside(budget: SpaceWindows, child: Callable[[Codes], Codes], parents: Codes) -> Codes:
    """A child for each row of parents, inside the budget, or else the first parent."""
    if not budget.windows:
        return child(parents)
    children = parents[:, : len(budget.space.choices)].copy()
    left = np.arange(len(parents))
    for _ in range(TRIES):
        if not len(left):
            break
        candidates = child(parents[left])
        good = budget.excess(candidates) == 0
        children[left[good]] = candidates[good]
        left = left[~good]
    return children
