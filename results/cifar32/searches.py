"""The search of a seed: which networks are found, and their random counterparts."""

from pathlib import Path

import numpy as np
from designs import Design

from ghostnet import cost
from search.data.datasets import Data
from search.engine.choose import choose_by_budget
from search.latency.calibrate import calibrate
from search.pipeline.search_stage import search_networks
from search.recipes.schema import Search
from search.training.supernets import widest
from spaces.population import sample
from spaces.quantities import Window

TRIALS, CHOSEN = 150, 6
NEAR = 0.03  # of a found network's multiply-adds, within which its random counterpart's are
Codes = list[list[int]]


def choose(design: Design, data: Data, supernet: Path, log: Path, seed: int) -> dict[str, Codes]:
    """The codes of the `found` networks, by accuracy as transplanted and the table's latency, and of `random` ones with
    their multiply-adds. Without a table one is made."""
    space = design.space
    if not design.table.exists():
        calibrate(
            space,
            design.table,
            runtime="onnxruntime",
            threads=1,
            rounds=4,
            fit_networks=64,
            held_out=48,
            seed=0,
            minutes=14,
        )
    most = cost(widest(space), space.num_classes, space.in_chs).macs  # so all of the family, the parent included
    config = Search(flops_budget=str(most), trials=max(20, round(design.share * TRIALS)))
    outcome = search_networks(supernet, [design.table], log, lambda: data, config, seed=seed)
    found = [list(trial.code) for trial in choose_by_budget(list(outcome.inside.values()), CHOSEN)]
    rng = np.random.default_rng([seed, CHOSEN])
    macs = [cost(space.decode(np.array(code)), space.num_classes, space.in_chs).macs for code in found]
    windows = [Window(int((1 - NEAR) * m), int((1 + NEAR) * m)) for m in macs]
    return {"found": found, "random": [sample(space, rng, 1, window)[0].tolist() for window in windows]}
