"""The latency of units that were not timed, from those that were.

A law of layers (`fallback.py`) errs by a quarter: it knows amounts, not how a kernel takes them. What a unit takes over
what its law says is a smooth function of its widths and kernels, but for one thing: how far its channels fill a vector
register, or several. So a Gaussian process learns the logarithm of that ratio, with the largest power of two in each
number of channels among its features. A quarter of a space's units tells the others to 1 to 7 %, a tenth to 2 to 15
(`results/latency/estimates.md`), and a network is a sum of many.
"""

from collections.abc import Mapping
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
    entries, errors = {}, []
    for kind in (Stem, Bottleneck, Tail):
        own = {key: unit for key, unit in known.items() if isinstance(unit, kind)}
        if own.keys() <= timed.keys():
            continue
        layers = {key: fallback.terms(unit) for key, unit in own.items()}
        examples = [key for key in layers if key in timed]
        wanted = [key for key in layers if key not in timed and layers[key].keys() <= law.ms.keys()]
        if not wanted:
            continue
        by_law = {key: max(fallback.of_terms(law, layers[key]), LEAST_MS) for key in [*examples, *wanted]}
        ratio, deviation = np.zeros(len(wanted)), np.full(len(wanted), np.log1p(law.error))
        if len(examples) >= FEWEST:
            chosen = [examples[k] for k in np.random.default_rng(0).permutation(len(examples))[:MOST]]
            process = GaussianProcess(
                np.array([_features(own[key], layers[key]) for key in chosen]),
                np.log([timed[key].ms / by_law[key] for key in chosen]),
                QUICKLY_TUNED if quick else TUNED,
            )
            ratio, deviation = _predicted(process, np.array([_features(own[key], layers[key]) for key in wanted]))
            errors.append(np.expm1(process.left_out()))
        for key, log_ratio, sd in zip(wanted, ratio.tolist(), deviation.tolist(), strict=True):
            ms, factor = by_law[key] * np.exp(log_ratio), np.exp(NORMAL_95 * sd)
            entries[key] = Entry(ms=ms, low_ms=ms / factor, high_ms=ms * factor, visits=0)
    error = float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) if errors else law.error
    return UnitEstimates(entries, error)


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
