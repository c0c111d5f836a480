"""The latency of units that were not timed, from those that were.

A law of layers (`fallback.py`) errs by a quarter: it knows amounts, not how a kernel takes them. What a unit takes over
what its law says is a smooth function of its widths and kernels, but for one thing: how far its channels fill a vector
register, or several. So a Gaussian process learns the logarithm of that ratio, with the largest power of two in each
number of channels among its features. A quarter of a space's units tells the others to 1 to 7 %, a tenth to 2 to 15
(`results/latency/estimates.md`), and a network is a sum of many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ghostnet.units import Bottleneck, Stem, Tail, Unit, intrinsic_chs, se_chs
from search.gaussian_process import GaussianProcess
from search.latency import fallback
from search.latency.predictor import NORMAL_95
from search.latency.table import Entry, Fallback
from spaces.tables import Floats

FEWEST = 8  # units of a kind that were timed; with fewer the law alone tells the others
TUNED, QUICKLY_TUNED = 200, 60  # units that the process's lengths are fitted to
MOST = 2000  # units of a kind that it goes by, which cost their cube
BATCH = 2000  # units that are estimated at once
LARGEST_POWER = 4  # of two, in channels: 16 floats fill the widest registers
LEAST_MS = 1e-6  # of a law with no negative terms, which may say nothing at all
Layers = Mapping[str, Mapping[str, float]]  # every unit's amounts of them, by key, as `fallback.terms` has them


@dataclass(frozen=True, slots=True)
class UnitEstimates:
    """What units take that were not timed.

    Args:
        entries: theirs, by key; `visits` is 0.
        error: relative, of a timed unit that is left out: root mean square.
    """

    entries: dict[str, Entry]
    error: float


def estimate_units(
    known: Mapping[str, Unit], timed: Mapping[str, Entry], law: Fallback, *, quick: bool = False
) -> UnitEstimates:
    """Estimates all units that were not timed and that the law says something of.

    Args:
        known: the units of a space, by key.
        timed: those that were timed, by key, as many as a law needs (`fallback.FEWEST`).
        quick: roughly, in a moment.
    """
    layers = {key: fallback.terms(unit) for key, unit in known.items()}
    told = {key: terms for key, terms in layers.items() if key in timed or terms.keys() <= law.ms.keys()}
    rough = by_law(law, told)
    wanted = [key for key in rough if key not in timed]
    tuned = QUICKLY_TUNED if quick else TUNED
    learned = learn(known, layers, timed, rough, wanted, float(np.log1p(law.error)), tuned=tuned)
    entries = dict(zip(wanted, estimated(learned), strict=True))
    return UnitEstimates(entries, learned.error if learned.left_out else law.error)


def by_law(law: Fallback, layers: Layers) -> dict[str, float]:
    """Milliseconds of units by a law of layers alone."""
    return {key: max(fallback.of_terms(law, terms), LEAST_MS) for key, terms in layers.items()}


@dataclass(frozen=True, slots=True)
class Learned:
    """What processes say of units.

    Args:
        ms: milliseconds, of those that are wanted [n].
        deviation: of their logarithms [n], a measurement's noise included.
        left_out: by how much the logarithms of timed units, by key, are off what all others tell of them.
    """

    ms: Floats
    deviation: Floats
    left_out: dict[str, float]

    @property
    def error(self) -> float:
        """Relative, of a timed unit that is left out: root mean square."""
        return float(np.sqrt(np.mean(np.expm1([*self.left_out.values()]) ** 2)))


def learn(
    known: Mapping[str, Unit],
    layers: Layers,
    timed: Mapping[str, Entry],
    rough: Mapping[str, float],
    wanted: Sequence[str],
    deviation: float,
    also: Mapping[str, Sequence[float]] | None = None,
    tuned: int = TUNED,
    judged: bool = False,
) -> Learned:
    """Learns by kind of unit how far the timed ones are off rough estimates, and says it of those that are wanted.

    Args:
        rough: milliseconds, of all that were timed and that are wanted.
        deviation: of the logarithm of rough estimates, which stand for kinds of which fewer than `FEWEST` were timed.
        also: more features of the units.
        tuned: units that the process's lengths are fitted to.
        judged: timed units are left out of kinds of which none is wanted, too.
    """
    index = {key: k for k, key in enumerate(wanted)}
    ms = np.array([rough[key] for key in wanted])
    deviations, left_out = np.full(len(ms), deviation), dict[str, float]()
    features = {key: [*_features(known[key], layers[key]), *(also[key] if also else ())] for key in rough}
    for kind in (Stem, Bottleneck, Tail):
        examples = [key for key in rough if key in timed and isinstance(known[key], kind)]
        asked = [key for key in wanted if isinstance(known[key], kind)]
        if len(examples) < FEWEST or not (asked or judged):
            continue
        chosen = [examples[k] for k in np.random.default_rng(0).permutation(len(examples))[:MOST]]
        process = GaussianProcess(
            np.array([features[key] for key in chosen]),
            np.log([timed[key].ms / rough[key] for key in chosen]),
            tuned,
        )
        left_out |= dict(zip(chosen, process.left_out().tolist(), strict=True))
        if not asked:
            continue
        places = np.array([index[key] for key in asked])
        log_ratio, deviations[places] = _predicted(process, np.array([features[key] for key in asked]))
        ms[places] *= np.exp(log_ratio)
    return Learned(ms, deviations, left_out)


def estimated(learned: Learned) -> list[Entry]:
    """Entries of units that were not timed, with their 95 % intervals."""
    factor = np.exp(NORMAL_95 * learned.deviation)
    return [
        Entry(ms=ms, low_ms=ms / f, high_ms=ms * f, visits=0)
        for ms, f in zip(learned.ms.tolist(), factor.tolist(), strict=True)
    ]


def _predicted(process: GaussianProcess, x: Floats) -> tuple[Floats, Floats]:
    """Means and standard deviations [n], a measurement's noise included."""
    parts = [process.predict(part) for part in np.split(x, range(BATCH, len(x), BATCH))]
    mean, deviation = (np.concatenate(each) for each in zip(*parts, strict=True))
    return mean, np.sqrt(deviation**2 + process.noise)


def _features(unit: Unit, layers: Mapping[str, float]) -> list[float]:
    """What its latency goes by: logarithms of sizes, kernels as they are, and how channels fill registers.

    Args:
        layers: its amounts of them, as `fallback.terms` has it.
    """
    match unit:
        case Stem():
            chs, sizes, others = [unit.out_chs], [unit.size], []
        case Bottleneck(block=block):
            primaries = [intrinsic_chs(n, block.ratio, unit.align) for n in (block.mid_chs, block.out_chs)]
            chs, sizes = [unit.in_chs, block.mid_chs, block.out_chs, *primaries], [unit.size, 1 + se_chs(block)]
            kernel = block.dw_kernel if unit.uses_dw_kernel else 0
            others = [block.ratio, block.cheap_kernel, kernel, block.stride, unit.has_shortcut, block.se_ratio > 0]
        case Tail():
            chs, sizes, others = [unit.in_chs, unit.tail_chs, unit.head_chs], [unit.size], []
    amounts = [1e-6 + sum(value for term, value in layers.items() if term.endswith(end)) for end in ("macs", "values")]
    powers = [min(n & -n, 2**LARGEST_POWER) for n in chs]
    return [*np.log2([*chs, *sizes, *amounts, *powers]), *map(float, others)]
