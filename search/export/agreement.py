"""When a file's outputs are a network's. Needs numpy alone: `verify.py`, which travels with an export, has it too."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-4  # largest difference, relative to the largest output
YARDSTICK = 4.0  # times PyTorch's own error in float32, where that is more: another order of sums errs as it does
ILL_CONDITIONED = 0.01  # of the largest output: a float32 error beyond which nothing can be said of a file
QUANTISED_AGREEMENT = 0.5  # share of real images whose answer a quantised network must keep
DRIFT = 0.05  # how far a quantised network's answers may be from what its manifest says, as a share of images
RANDOM_IMAGES, SEED = 16, 0


def random_images(in_chs: int, side: int) -> np.ndarray:
    """The random images: the same on every machine."""
    shape = (RANDOM_IMAGES, in_chs, side, side)
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)


def unusable(expected: np.ndarray, float32_error: float) -> str | None:
    """Why no file can be held to a network's outputs; None where one can."""
    if not np.isfinite(expected).all():
        return "the network's own outputs are not finite"
    most = ILL_CONDITIONED * _largest(expected)
    if not 0 <= float32_error <= most:
        return (
            f"the network's outputs in float32 are off by {float32_error:.3g} from those in float64; at most "
            f"{most:.3g} is allowed, or no file could be told from another network"
        )
    return None


def allowed_difference(expected: np.ndarray, float32_error: float) -> float:
    """Largest difference from the expected outputs that an exact file may have."""
    return max(TOLERANCE * _largest(expected), YARDSTICK * float32_error)


def top1_agreement(expected: np.ndarray, got: np.ndarray, float32_error: float) -> float:
    """Share of images with the same top-1 class; a tie within the tolerance, or within what float32 is off on both
    sides, is the same."""
    top, best = got.argmax(1), expected.max(1)
    tie = np.maximum(TOLERANCE * np.abs(best), 2 * YARDSTICK * float32_error)
    return float((best - expected[np.arange(len(top)), top] <= tie).mean())


def disagreement(expected: np.ndarray, got: np.ndarray, float32_error: float, exact: bool) -> str | None:
    """What a file does otherwise than the network; None where it is the network.

    Args:
        expected: the network's outputs in float64 [N, classes], those on the random images first.
        got: the file's.
        exact: whether the file is no quantised one.
    """
    if got.shape != expected.shape or not np.isfinite(got).all():
        return f"gives outputs {got.shape} or not finite, not finite ones of {expected.shape}"
    difference, allowed = float(np.abs(expected - got).max()), allowed_difference(expected, float32_error)
    if exact and not difference <= allowed:
        return f"differs from the PyTorch network by {difference:.3g}; at most {allowed:.3g} is allowed"
    if not exact and len(expected) > RANDOM_IMAGES:
        kept = top1_agreement(expected[RANDOM_IMAGES:], got[RANDOM_IMAGES:], float32_error)
        if kept < QUANTISED_AGREEMENT:
            return (
                f"keeps the PyTorch network's answer on {kept:.0%} of the real images; at least "
                f"{QUANTISED_AGREEMENT:.0%} is asked of a quantised one"
            )
    return None


def drift(now: float, then: float) -> str | None:
    """Whether a quantised file keeps fewer answers here than where it was exported."""
    if now >= then - DRIFT:
        return None
    return f"keeps the network's answer on {now:.1%} of the images here, but on {then:.1%} where it was exported"


def _largest(expected: np.ndarray) -> float:
    return max(1.0, float(np.abs(expected).max()))
