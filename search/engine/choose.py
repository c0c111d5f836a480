"""Chooses networks: by hypervolume, evenly along the front, at its knee, by budget, or by id."""

import re
from collections.abc import Callable, Sequence
from itertools import chain

import moocore
import numpy as np
from numpy.typing import NDArray

from search.engine.front import BEYOND_CHOSEN, front, layers
from search.engine.objectives import ACCURACY, USUAL, Objective, values
from search.engine.trial import Trial
from search.errors import UserError
from spaces.quantities import Window, format_count

Floats = NDArray[np.float64]
COUNT = r"\d+(\.\d+)?[kMG]?"
WAY = re.compile(
    rf"knee|(even|hypervolume):[1-9]\d{{0,8}}|[0-9a-f]{{10}}|\d+(\.\d+)?ms|(?P<window>({COUNT}\.\.)?{COUNT})", re.ASCII
)
WAYS = "knee, even:3, hypervolume:3, 8ms, 60M (or 40M..60M), or an architecture's id"


def _cost(trial: Trial) -> float:
    """Latency; multiply-adds where a search went without."""
    return trial["macs"] if trial.latency_ms is None else trial.latency_ms


def choose(
    trials: Sequence[Trial], count: int, objectives: Sequence[Objective] = USUAL, *, fastest: bool = True
) -> list[Trial]:
    """`count` networks along the front, fastest first: evenly from its fastest to its most accurate, or without the
    `fastest` the last one of each of `count` equal parts; one alone is the most accurate. A front with fewer is filled
    up from the fronts behind it."""

    def evenly(layer: Sequence[Trial], wanted: int) -> list[Trial]:
        share = min(wanted, len(layer))
        lasts = np.arange(1, share + 1) * len(layer) / max(share, 1) - 1
        indices = np.linspace(0, len(layer) - 1, share) if fastest and share > 1 else lasts
        return [layer[round(index)] for index in indices]

    return _filled_up(layers(trials, objectives), count, evenly)


def _filled_up(
    fronts: Sequence[Sequence[Trial]], count: int, take: Callable[[Sequence[Trial], int], list[Trial]]
) -> list[Trial]:
    """What `take` gives of the front, of the front behind it, and so on until there are `count`; fastest first.

    Args:
        take: is given the networks of one front, and how many are wanted.
    """
    pool: list[Trial] = []
    for layer in fronts:
        pool += take(layer, count - len(pool))
        if len(pool) >= count:
            break
    return sorted(pool, key=_cost)


def hypervolume_subset(points: Floats, count: int, reference: Floats) -> list[int]:
    """Which `count` of some points [n, objectives], all to be made large, together have the most hypervolume: exactly
    for the front of two objectives. Of more, each adds the most to those before it, which comes to 63 % of the most
    that is possible, or more (Guerreiro, Fonseca and Paquete, 2016)."""
    order = np.lexsort((points[:, 1], -points[:, 0]))
    if points.shape[1] == 2 and count > 0 and (np.diff(points[order, 1]) >= 0).all():
        return [int(order[k]) for k in _most_hypervolume(points[order] - reference, count)]
    taken: list[int] = []
    while len(taken) < min(count, len(points)):
        left = [k for k in range(len(points)) if k not in taken]
        reached = [moocore.hypervolume(points[[*taken, k]], ref=reference, maximise=True) for k in left]
        taken.append(left[int(np.argmax(reached))])
    return taken


def _most_hypervolume(points: Floats, count: int) -> list[int]:
    """Of a front of two objectives, over the reference, from the largest of the first to the largest of the second:
    `count` points whose strips (to the first objective, between the second ones') are largest in all; by dynamic
    programming over the last one (Auger et al., 2009)."""
    n = len(points)
    strip = points[:, :1] * (points[:, 1:] - points[:, 1])  # of one point that comes after another: [after, before]
    best, before = points.prod(1), []
    for _ in range(min(count, n) - 1):
        reached = np.where(np.tri(n, k=-1, dtype=bool), best + strip, -np.inf)
        before.append(reached.argmax(1))
        best = reached.max(1)
    taken = [int(best.argmax())]
    for back in reversed(before):
        taken.append(int(back[taken[-1]]))
    return taken[::-1]


def choose_by_hypervolume(trials: Sequence[Trial], count: int, objectives: Sequence[Objective] = USUAL) -> list[Trial]:
    """Networks of the front that together have the most of its hypervolume, fastest first. A front with fewer is filled
    up from the fronts behind it."""

    def most_hypervolume(layer: Sequence[Trial], wanted: int) -> list[Trial]:
        points = values(layer, objectives)
        reference = points.min(0) - BEYOND_CHOSEN * np.maximum(np.ptp(points, axis=0), 1e-9)
        return [layer[k] for k in hypervolume_subset(points, wanted, reference)]

    return _filled_up(layers(trials, objectives), count, most_hypervolume)


def choose_by_budget(
    pools: Sequence[Sequence[Trial]], count: int, objectives: Sequence[Objective] = USUAL, *, fastest: bool = True
) -> list[Trial]:
    """`count` networks, a like number for each budget: evenly along that part of its front which no tighter budget
    admits, filled up from all of its front, then from the fronts behind it; fastest first.

    Args:
        pools: the trials inside each budget.
        fastest: whether the fastest of each part is among them, of which the next budget's is often a neighbour; the
            most accurate, which is what a budget is for, always is.
    """
    chosen: dict[str, Trial] = {}
    tighter: set[str] = set()
    for k, pool in enumerate(sorted(pools, key=len)):
        share = (count - len(chosen)) // (len(pools) - k)
        mine = [t for t in front(pool, objectives) if t.arch not in tighter]
        for some in chain([mine], layers(pool, objectives)):
            left = [t for t in some if t.arch not in chosen]
            picked = choose(left, share, objectives, fastest=fastest)
            chosen |= {t.arch: t for t in picked}
            share -= len(picked)
            if not share:
                break
        tighter |= {t.arch for t in pool}
    return sorted(chosen.values(), key=_cost)


def knee(trials: Sequence[Trial], objectives: Sequence[Objective] = USUAL) -> Trial:
    """Where the front bends most: the farthest, on axes from 0 to 1, above the plane of sums through the front's ends
    (Das, 1999)."""
    best = front(trials, objectives)
    points = values(best, objectives)
    spread = np.maximum(np.ptp(points, axis=0), 1e-12)
    return best[int(((points - points.min(0)) / spread).sum(1).argmax())]


def pick(trials: Sequence[Trial], ways: str, objectives: Sequence[Objective] = USUAL) -> list[Trial]:
    """The networks that `--choose` asks for: ways with commas between, each network once, in order.

    Args:
        trials: complete ones.

    Raises:
        UserError: a way that is none, or that no trial answers.
    """
    check_ways(ways)
    chosen: dict[str, Trial] = {}
    for way in ways.split(","):
        for trial in _pick(trials, way.strip(), objectives):
            chosen[trial.arch] = trial
    return list(chosen.values())


def check_ways(ways: str) -> None:
    """Raises:
    UserError, SpaceError: a way of choosing that is none.
    """
    if not isinstance(ways, str):
        raise UserError(f"networks are chosen by {WAYS}, not {ways!r:.80}")
    for way in ways.split(","):
        match = WAY.fullmatch(way.strip())
        if not match:
            raise UserError(f"networks are chosen by {WAYS}, not {way.strip()!r:.80}")
        if match["window"]:
            Window.parse(match["window"])


def _pick(trials: Sequence[Trial], way: str, objectives: Sequence[Objective]) -> list[Trial]:
    if way == "knee":
        return [knee(trials, objectives)]
    if way.startswith("even:"):
        return choose(trials, int(way.removeprefix("even:")), objectives)
    if way.startswith("hypervolume:"):
        return choose_by_hypervolume(trials, int(way.removeprefix("hypervolume:")), objectives)
    if named := [t for t in trials if t.arch == way]:
        return named
    if re.fullmatch(r"[0-9a-f]{10}", way):
        raise UserError(f"no network {way} among those that were evaluated")
    if way.endswith("ms"):
        most = float(way.removesuffix("ms"))
        ends = [t.metrics.get("latency_high_ms") or np.inf for t in trials]
        inside = [t for t, high in zip(trials, ends, strict=True) if high <= most]
        known = f"the fastest takes up to {min(ends):.3g} ms" if np.isfinite(min(ends)) else "no latency is known"
    else:
        window, macs = Window.parse(way), [t.macs for t in trials]
        inside = [t for t in trials if window.low <= t.macs <= window.high]
        known = f"they have {format_count(min(macs))} to {format_count(max(macs))} multiply-adds"
    if not inside:
        raise UserError(f"no network that was evaluated is within {way}: {known}")
    return [max(inside, key=lambda t: (t[ACCURACY.name], -_cost(t)))]
