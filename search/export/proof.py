"""What every exported file is tried on, and what it must answer: random images, real ones, and PyTorch's outputs.

They are kept beside the files in `proof.safetensors`, so that another machine can try them again without the data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import UserError
from search.files import write_bytes

FILE = "proof.safetensors"
TOLERANCE = 1e-4  # largest difference, relative to the largest output
QUANTISED_AGREEMENT = 0.5  # share of real images whose answer a quantised network must keep
RANDOM_IMAGES, SEED = 16, 0
MOST_BYTES = 4_000_000  # of real images that are kept; all of them are tried


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """Images [N, C, H, W], the random ones first, and the network's outputs [N, classes]."""

    images: np.ndarray
    expected: np.ndarray

    @classmethod
    def random_images(cls, in_chs: int, side: int) -> np.ndarray:
        """The random images: the same on every machine."""
        shape = (RANDOM_IMAGES, in_chs, side, side)
        return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Writes the real images, as many as fit, and all outputs on what is kept."""
        from safetensors.numpy import save

        real = self.images[RANDOM_IMAGES:]
        kept = real[: MOST_BYTES // max(1, real[:1].nbytes)]
        tensors = {"real": np.ascontiguousarray(kept), "expected": self.expected[: RANDOM_IMAGES + len(kept)]}
        write_bytes(folder / FILE, save(tensors))

    @classmethod
    def load(cls, folder: Path, in_chs: int, side: int) -> "Proof":
        """Reads what `save` wrote.

        Raises:
            UserError: it is damaged, or of other images.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(folder / FILE)
            images = np.concatenate([cls.random_images(in_chs, side), tensors["real"]])
            proof = cls(images, tensors["expected"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{folder / FILE} holds no images and outputs: {error}") from None
        if len(proof.images) != len(proof.expected):
            raise UserError(f"{folder / FILE} has {len(proof.images)} images but {len(proof.expected)} outputs")
        return proof

    def try_on(self, file: str, got: np.ndarray, exact: bool) -> dict[str, Any]:
        """How far a file's outputs are from the network's.

        Raises:
            UserError: too far.
        """
        random, real = slice(0, RANDOM_IMAGES), slice(RANDOM_IMAGES, None)
        if got.shape != self.expected.shape or not np.isfinite(got).all():
            raise UserError(f"{file} gives outputs {got.shape} or not finite, not finite ones of {self.expected.shape}")
        difference = float(np.abs(self.expected - got).max())
        facts = {
            "largest_difference": difference,
            "top1_agreement": self._agreement(got, slice(None)),
            "on_random": self._agreement(got, random),
            "on_real": self._agreement(got, real) if len(self.images) > RANDOM_IMAGES else None,
        }
        bound = TOLERANCE * max(1.0, float(np.abs(self.expected).max()))
        if exact and not difference <= bound:
            raise UserError(
                f"{file} differs from the PyTorch network by {difference:.3g}; at most {bound:.3g} is allowed"
            )
        if not exact and facts["on_real"] is not None and facts["on_real"] < QUANTISED_AGREEMENT:
            raise UserError(
                f"{file} keeps the PyTorch network's answer on {facts['on_real']:.0%} of the real images; at least "
                f"{QUANTISED_AGREEMENT:.0%} is asked of a quantised one"
            )
        return facts

    def _agreement(self, got: np.ndarray, part: slice) -> float:
        """Share of images with the same top-1 class; a tie within the tolerance is the same."""
        expected, top = self.expected[part], got[part].argmax(1)
        best = expected.max(1)
        return float((best - expected[np.arange(len(top)), top] <= TOLERANCE * np.abs(best)).mean())
