"""How fast a latency table answers: architectures a second on one core, beside a plain sum over the same units."""

import argparse
import json
import time

import numpy as np
import torch

from ghostnet.units import units
from search.latency.bench import all_units
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from spaces import named_space
from spaces.population import sample
from spaces.space import Space

POPULATION = 100_000
ONE_BY_ONE = 300


def made_up(space: Space) -> LatencyTable:
    """A table with an entry for every unit; what the numbers are doesn't matter here."""
    codes = sample(space, np.random.default_rng(1), 4)
    network = {"measured_ms": 1.0, "predicted_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0}
    agreement = {"mape": 0.0, "kendall_tau": 0.0}
    ranges = dict.fromkeys(("mape_95", "kendall_tau_95", "spearman_95"), (0.0, 0.0))
    scalars = ("mape", "p90", "max", "bias", "within_5", "within_10", "kendall_tau", "spearman")
    return LatencyTable.model_validate(
        {
            "schema": "ghostnas.latency/3",
            "device": {
                **dict.fromkeys(("machine", "cpu", "system", "governor", "python"), "none"),
                "isa": (),
                "cores": 1,
                "memory_gb": None,
                "container": False,
            },
            "setting": {
                **dict.fromkeys(("runtime", "runtime_version", "dtype", "lowering"), "none"),
                "threads": 1,
                "batch": 1,
                "space": space.name,
                "space_id": space.id,
                "resolution": space.resolution,
                "num_classes": space.num_classes,
                "in_chs": space.in_chs,
            },
            "protocol": {
                **dict.fromkeys(("visits", "rounds", "units_in_space", "seed"), 0),
                "disturbed": 0.0,
                "reference_ms": 1.0,
                "seconds": 0.0,
                "finished": "",
            },
            "correction": {
                "intercept_ms": 0.1,
                "slope": 1.1,
                "ms_per_mparam": 0.5,
                "ms_per_mvalue": (0.01,) * len(space.layout.positions),
                "spread": 0.01,
                "quantile": 2.0,
                "coverage": 0.9,
            },
            "fallback": None,
            "validation": {
                **dict.fromkeys(scalars, 0.0),
                **ranges,
                "networks": 4,
                "ruler": agreement,
                "simpler": {},
                "held_out": [{"code": tuple(code), **network} for code in codes.tolist()],
            },
            "entries": {
                key: {"ms": 0.01 + k * 1e-6, "low_ms": 0.01, "high_ms": 0.02, "visits": 3}
                for k, key in enumerate(sorted(all_units(space)))
            },
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="imagenet")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = named_space(arguments.space)
    table = made_up(space)
    begun = time.perf_counter()
    predict = Predictor(table, space)
    loading = time.perf_counter() - begun
    codes = sample(space, np.random.default_rng(0), POPULATION)
    archs = [space.decode(code) for code in codes[:ONE_BY_ONE]]
    vectorised, plain = [], []
    for _ in range(arguments.rounds):
        begun = time.perf_counter()
        predict(codes)
        vectorised.append(POPULATION / (time.perf_counter() - begun))
        begun = time.perf_counter()
        for arch in archs:
            sum(table.entries[unit.key].ms for unit in units(arch, space.num_classes, space.in_chs))
        plain.append(ONE_BY_ONE / (time.perf_counter() - begun))
    output = {
        "space": space.name,
        "load_s": loading,
        "architectures_per_second": float(np.median(vectorised)),
        "over_a_plain_sum": float(np.median(vectorised) / np.median(plain)),
    }
    print(json.dumps(output, indent=2))


if __name__ == "__main__":
    main()
