"""The exact front of two sums over a space's units, against as many seconds of random networks.

    python -m tests.benchmarks.exact_front --space cifar

Costs and losses are made up: a power of each unit's multiply-adds, times noise. Prints the networks of the front, the
seconds it takes, with no limit and with one on multiply-adds, and which share of the front's hypervolume networks that
were drawn and summed in the same time reach.
"""

import argparse
import time
from collections.abc import Sequence

import moocore
import numpy as np

from ghostnet.cost import unit_cost
from ghostnet.units import Unit
from search.engine.pareto import Limit, pareto_front
from spaces import named_space
from spaces.tables import UnitTable, macs_table

AT_ONCE = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="cifar")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    space, rng = named_space(arguments.space), np.random.default_rng(arguments.seed)

    def latency(unit: Unit) -> float:
        return ((unit_cost(unit).macs / 1e6) ** 0.7 + 0.01) * float(np.exp(0.3 * rng.standard_normal()))

    def loss(unit: Unit) -> float:
        return float(np.exp(0.3 * rng.standard_normal())) / (1 + (unit_cost(unit).macs / 1e5) ** 0.5)

    tables, macs = [UnitTable(space, latency), UnitTable(space, loss)], macs_table(space)
    ends = [macs.total(space.encode(arch))[0] for arch in (space.smallest, space.largest)]
    middle = Limit(macs, float(np.sqrt(ends[0] * ends[1])))
    print(f"{space.name}: {len(space.genes)} genes, {space.size:.3g} networks")
    for name, limits in (("no limit", []), (f"at most {middle.most:.0f} multiply-adds", [middle])):
        start = time.perf_counter()
        _, front = pareto_front(tables, limits)
        seconds = time.perf_counter() - start
        share = random_share(space, rng, tables, limits, front, seconds)
        print(f"{name}: {len(front)} networks in {seconds:.2f} s; as long at random: {share:.1%} of its hypervolume")


def random_share(
    space, rng: np.random.Generator, tables: Sequence[UnitTable], limits: Sequence[Limit], front, seconds: float
) -> float:
    """The share of a front's hypervolume that networks drawn for so many seconds reach."""
    best, end = np.empty((0, 2)), time.perf_counter() + seconds
    while time.perf_counter() < end or not len(best):
        codes = space.sample_codes(rng, AT_ONCE)
        for limit in limits:
            codes = codes[limit.table.total(codes) <= limit.most]
        points = np.concatenate([best, np.stack([table.total(codes) for table in tables], 1)])
        best = points[moocore.is_nondominated(points)]
    reference = 1.1 * front.max(0)
    return moocore.hypervolume(best, ref=reference) / moocore.hypervolume(front, ref=reference)


if __name__ == "__main__":
    main()
