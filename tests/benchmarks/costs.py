"""Costs of populations from the tables, against torch's counter over the real networks."""

import argparse
import json

import numpy as np
import torch

from ghostnet import GhostNet
from ghostnet.count import count
from spaces import named_space
from spaces.population import sample
from spaces.tables import macs_table, params_table
from tests.benchmarks.timing import medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--population", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    space = named_space(arguments.space)
    codes = sample(space, np.random.default_rng(0), arguments.population)
    macs, params = macs_table(space), params_table(space)

    def count_one() -> None:
        with torch.device("meta"):
            net = GhostNet(space.decode(codes[0]), space.num_classes, space.in_chs)
            count(net, (space.in_chs, space.resolution, space.resolution))

    seconds = medians(
        {"tables": lambda: (macs.total(codes), params.total(codes)), "counter": count_one}, arguments.rounds
    )
    per_second = {"tables": len(codes) / seconds["tables"], "counter": 1 / seconds["counter"]}
    output = {
        "space": space.name,
        "networks": len(codes),
        "seconds": seconds["tables"],
        "architectures_per_second": per_second,
        "tables_over_counter": per_second["tables"] / per_second["counter"],
    }
    print(json.dumps(output, indent=2))


if __name__ == "__main__":
    main()
