"""Times finished networks on the hardware, side by side."""

import time
from collections.abc import Mapping

import numpy as np
from torch import nn

from search.latency.bench import reference
from search.latency.energy import Counter, Energy, measure_energy
from search.latency.runtimes import Runtime, Session, Shape
from search.latency.timing.interference import InterferenceFilter
from search.latency.timing.measurement import take_measurement
from search.latency.timing.scores import quiet_minima, score
from search.progress import bar

MEASUREMENTS = 7  # quiet ones, of each network
MAX_MEASUREMENTS = 60  # quiet or not


def measure(
    run: Runtime, networks: Mapping[str, tuple[nn.Module, Shape]], seed: int = 0, batch: int = 1
) -> dict[str, float]:
    """Latency of a run of each network on `batch` images, in milliseconds; interleaved, so that a slow minute touches
    all alike."""
    sessions = {
        name: (run.load(run.compile(module, shape, batch)), shape) for name, (module, shape) in networks.items()
    }
    return measure_sessions(run, sessions, seed, batch=batch)


def measure_joules(
    run: Runtime, networks: Mapping[str, tuple[nn.Module, Shape]], counter: Counter, batch: int = 1
) -> dict[str, Energy]:
    """Energy of a run of each network on `batch` images; without those whose counter stood still."""
    measured = {}
    with bar("energy on this machine", len(networks)) as progress:
        for name, (module, shape) in networks.items():
            images = np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
            once = run.load(run.compile(module, shape, batch)).timer(images)
            if (energy := measure_energy(once, counter)) is not None:
                measured[name] = energy
            progress.advance()
    return measured


def measure_sessions(
    run: Runtime,
    sessions: Mapping[str, tuple[Session, Shape]],
    seed: int = 0,
    seconds: float = float("inf"),
    batch: int = 1,
) -> dict[str, float]:
    """As `measure`, of anything that runs such a batch; `run` is the runtime of the reference that tells quiet moments.
    After so many seconds no new round begins, but for the first."""
    interference = InterferenceFilter(*reference(run), run.threads)
    rng, start = np.random.default_rng(seed), time.monotonic()
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    with bar("time on this machine", MEASUREMENTS * len(sessions)) as progress:
        for turn in range(MAX_MEASUREMENTS):
            if turn and time.monotonic() - start > seconds:
                break
            waiting = [
                name
                for name in sessions
                if sum(interference.is_quiet(reference_ms) for _, reference_ms in timings[name]) < MEASUREMENTS
            ]
            for name in rng.permutation(waiting).tolist():
                session, shape = sessions[name]
                taken = take_measurement(interference, session, (batch, *shape))
                timings[name].append((taken["min_ms"], taken["reference_ms"]))
            progress.update(MEASUREMENTS * (len(sessions) - len(waiting)))
    interference.close()
    return {name: score(quiet_minima(each, interference.quiet_ms)) for name, each in timings.items()}
