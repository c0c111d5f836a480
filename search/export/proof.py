"""The test of an exported file: random and real images as inputs, and as expected outputs the network's own in
float64. PyTorch's own float32 outputs are the yardstick of how far an exact file may be from those.

They are kept beside the files in `proof.safetensors`, so that another machine can try them again without the data.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from search.errors import UserError
from search.files import write_bytes

if TYPE_CHECKING:
    from ghostnet.network import GhostNet

FILE = "proof.safetensors"
TOLERANCE = 1e-4  # largest difference, relative to the largest output
YARDSTICK = 4.0  # times PyTorch's own error in float32, where that is more: another order of sums errs as it does
ILL_CONDITIONED = 0.01  # of the largest output: a float32 error beyond which nothing can be said of a file
QUANTISED_AGREEMENT = 0.5  # share of real images whose answer a quantised network must keep
RANDOM_IMAGES, SEED = 16, 0
MOST_BYTES = 4_000_000  # of real images that are kept; all of them are tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a file's outputs are from the network's.

    Args:
        largest_difference: of all outputs.
        top1_agreement, on_random, on_real: share of all, random and real images with the same top-1 class; None where
            there are no real ones.
    """

    largest_difference: float
    top1_agreement: float
    on_random: float
    on_real: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """The images on which a file is run, and the outputs that it must have.

    Args:
        images: [N, C, H, W], the random ones first.
        expected: the network's outputs on them in float64 [N, classes]; float32 in exports of earlier versions.
        float32_error: how far PyTorch's float32 outputs are from those, at most.

    Raises:
        UserError: the outputs are not finite, or float32 is too coarse for this network.
    """

    images: np.ndarray
    expected: np.ndarray
    float32_error: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.expected).all():
            raise UserError("the network's own outputs are not finite")
        most = ILL_CONDITIONED * self._largest
        if not 0 <= self.float32_error <= most:
            raise UserError(
                f"the network's outputs in float32 are off by {self.float32_error:.3g} from those in float64; at most "
                f"{most:.3g} is allowed, or no file could be told from another network"
            )

    @classmethod
    def from_network(cls, net: "GhostNet", real: np.ndarray) -> "Proof":
        """Runs a network, which is on the CPU and in evaluation mode, on random images and some real ones
        [N, C, H, W]."""
        images = np.concatenate([cls.random_images(net.in_chs, net.arch.resolution), real])
        with torch.no_grad():
            inputs = torch.from_numpy(images)
            single, double = net(inputs).double(), copy.deepcopy(net).double()(inputs.double())
        return cls(images, double.numpy(), float((single - double).abs().max()))

    @property
    def allowed(self) -> float:
        """Largest difference from `expected` that an exact file may have."""
        return max(TOLERANCE * self._largest, YARDSTICK * self.float32_error)

    @property
    def _largest(self) -> float:
        return max(1.0, float(np.abs(self.expected).max()))

    @classmethod
    def random_images(cls, in_chs: int, side: int) -> np.ndarray:
        """The random images: the same on every machine."""
        shape = (RANDOM_IMAGES, in_chs, side, side)
        return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Writes the real images, as many as fit, and all outputs on what is kept."""
        real = self.images[RANDOM_IMAGES:]
        kept = real[: MOST_BYTES // max(1, real[:1].nbytes)]
        tensors = {
            "real": np.ascontiguousarray(kept),
            "expected": self.expected[: RANDOM_IMAGES + len(kept)],
            "float32_error": np.array([self.float32_error]),
        }
        write_bytes(folder / FILE, save(tensors))

    @classmethod
    def load(cls, folder: Path, in_chs: int, side: int) -> "Proof":
        """Reads what `save` wrote.

        Raises:
            UserError: it is damaged, or of other images.
        """
        try:
            tensors = load_file(folder / FILE)
            images = np.concatenate([cls.random_images(in_chs, side), tensors["real"]])
            error = tensors["float32_error"].item() if "float32_error" in tensors else 0.0
            proof = cls(images, tensors["expected"], float(error))
        except (SafetensorError, KeyError, ValueError, UserError) as error:
            raise UserError(f"{folder / FILE} holds no images and outputs: {error}") from None
        if len(proof.images) != len(proof.expected):
            raise UserError(f"{folder / FILE} has {len(proof.images)} images but {len(proof.expected)} outputs")
        return proof

    def try_on(self, file: str, got: np.ndarray, exact: bool) -> Agreement:
        """How far a file's outputs are from the network's.

        Raises:
            UserError: too far.
        """
        random, real = slice(0, RANDOM_IMAGES), slice(RANDOM_IMAGES, None)
        if got.shape != self.expected.shape or not np.isfinite(got).all():
            raise UserError(f"{file} gives outputs {got.shape} or not finite, not finite ones of {self.expected.shape}")
        difference = float(np.abs(self.expected - got).max())
        agreement = Agreement(
            largest_difference=difference,
            top1_agreement=self._agreement(got, slice(None)),
            on_random=self._agreement(got, random),
            on_real=self._agreement(got, real) if len(self.images) > RANDOM_IMAGES else None,
        )
        if exact and not difference <= self.allowed:
            raise UserError(
                f"{file} differs from the PyTorch network by {difference:.3g}; at most {self.allowed:.3g} is allowed"
            )
        if not exact and agreement.on_real is not None and agreement.on_real < QUANTISED_AGREEMENT:
            raise UserError(
                f"{file} keeps the PyTorch network's answer on {agreement.on_real:.0%} of the real images; at least "
                f"{QUANTISED_AGREEMENT:.0%} is asked of a quantised one"
            )
        return agreement

    def _agreement(self, got: np.ndarray, part: slice) -> float:
        """Share of images with the same top-1 class; a tie within the tolerance, or within what float32 is off on both
        sides, is the same."""
        expected, top = self.expected[part], got[part].argmax(1)
        best = expected.max(1)
        tie = np.maximum(TOLERANCE * np.abs(best), 2 * YARDSTICK * self.float32_error)
        return float((best - expected[np.arange(len(top)), top] <= tie).mean())
