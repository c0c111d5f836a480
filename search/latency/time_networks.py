"""Times finished networks on the hardware, side by side."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from search.latency.bench import reference
from search.latency.energy import Counter, Energy, measure_energy
from search.latency.runtimes import Runtime, Session, Shape
from search.latency.timing.interference import QUIET_RATIO, InterferenceFilter
from search.latency.timing.measurement import take_measurement
from search.latency.timing.scores import quiet_minima, score
from search.progress import bar, warn

MEASUREMENTS = 7  # quiet ones, of each network
MAX_MEASUREMENTS = 60  # quiet or not


def measure(
    run: Runtime,
    networks: Mapping[str, tuple[nn.Module, Shape]],
    seed: int = 0,
    batch: int = 1,
    usual_ms: float = float("inf"),
) -> dict[str, float]:
    """Latency of a run of each network on `batch` images, in milliseconds; interleaved, so that a slow minute touches
    all alike.

    Args:
        usual_ms: of the reference network, as a latency table of this machine has it. Where the machine is slower now,
            latencies are divided by how much, and a warning says so.
    """
    sessions = {
        name: (run.load(run.compile(module, shape, batch)), shape) for name, (module, shape) in networks.items()
    }
    return measure_sessions(run, sessions, seed, batch=batch, usual_ms=usual_ms)


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
    usual_ms: float = float("inf"),
) -> dict[str, float]:
    """As `measure`, of anything that runs such a batch; `run` and `seconds` as `time_side_by_side` has them."""
    return time_side_by_side(
        run,
        lambda name: sessions[name][0],
        {name: (batch, *shape) for name, (_, shape) in sessions.items()},
        quiet=MEASUREMENTS,
        rounds=MAX_MEASUREMENTS,
        seed=seed,
        seconds=seconds,
        title="time on this machine",
        usual_ms=usual_ms,
    )


def time_side_by_side(
    run: Runtime,
    session: Callable[[str], Session],
    shapes: Mapping[str, Sequence[int]],
    *,
    quiet: int,
    rounds: int,
    seed: int,
    seconds: float,
    title: str,
    usual_ms: float = float("inf"),
) -> dict[str, float]:
    """Milliseconds of each of some sessions, timed in rounds, each in a new order.

    Args:
        run: the runtime of the reference network that tells quiet moments.
        session: opens one by its name, for each measurement anew.
        shapes: of their inputs, batch first, by name.
        quiet: quiet measurements, after which one is done with.
        rounds: the most that there are.
        seconds: after which no measurement begins, but for the first of each.
        title: of the progress bar.
        usual_ms: as `measure` has it.
    """
    start, rng = time.monotonic(), np.random.default_rng(seed)
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in shapes}
    filtering = InterferenceFilter(*reference(run), run.threads)
    with filtering as interference, bar(title, quiet * len(shapes)) as progress:

        def num_quiet(name: str) -> int:
            return min(sum(interference.is_quiet(reference_ms) for _, reference_ms in timings[name]), quiet)

        for turn in range(rounds):
            for name in rng.permutation([name for name in shapes if num_quiet(name) < quiet]).tolist():
                if turn and time.monotonic() - start > seconds:
                    break
                taken = take_measurement(interference, session(name), shapes[name])
                timings[name].append((taken["min_ms"], taken["reference_ms"]))
                progress.update(sum(map(num_quiet, shapes)))
        slower = interference.quiet_ms / usual_ms  # in the quietest moments that there are now
        if slower > QUIET_RATIO:
            warn(
                f"The machine is {slower - 1:.0%} slower now than when its latency table was made: latencies as timed "
                "now are divided by how much a small network slowed down."
            )
        divisor = slower if slower > QUIET_RATIO else 1.0  # one for all, so that they stay comparable
        return {name: score(quiet_minima(each, interference.quiet_ms)) / divisor for name, each in timings.items()}
