"""Times finished networks on the hardware, side by side."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from search.latency.bench import reference
from search.latency.ruler.gate import Gate, score
from search.latency.runtimes import Runtime, Shape
from search.progress import bar

VISITS = 7  # calm ones, to each network
MOST_VISITS = 60  # calm or not


def measure(run: Runtime, networks: Mapping[str, tuple[nn.Module, Shape]], seed: int = 0) -> dict[str, float]:
    """Latency of each network at batch 1, in milliseconds; interleaved, so that a slow minute touches all alike."""
    gate = Gate(*reference(run), run.threads)
    sessions = {name: run.load(run.compile(module, shape)) for name, (module, shape) in networks.items()}
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict]] = {name: [] for name in networks}
    with bar("time on this machine", VISITS * len(networks)) as progress:
        for _ in range(MOST_VISITS):
            waiting = [name for name in networks if sum(gate.calm(v["reference_ms"]) for v in rows[name]) < VISITS]
            for name in rng.permutation(waiting).tolist():
                rows[name].append(gate.visit(sessions[name], (1, *networks[name][1])))
            progress.at(VISITS * (len(networks) - len(waiting)))
    gate.close()
    return {name: score(gate.counted(visits)) for name, visits in rows.items()}
