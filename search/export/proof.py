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
from search.export.agreement import (
    RANDOM_IMAGES,
    allowed_difference,
    disagreement,
    random_images,
    top1_agreement,
    unusable,
)
from search.export.formats import Format, Session
from search.files import write_bytes

if TYPE_CHECKING:
    from ghostnet.network import GhostNet

FILE = "proof.safetensors"
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


@dataclass(frozen=True, slots=True)
class Tried:
    """A format's file that was run.

    Args:
        macs: counted on it, for one image; None where its graph can't be read.
    """

    session: Session
    agreement: Agreement
    macs: int | None


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
        if reason := unusable(self.expected, self.float32_error):
            raise UserError(reason)

    @classmethod
    def from_network(cls, net: "GhostNet", real: np.ndarray) -> "Proof":
        """Runs a network, which is on the CPU and in evaluation mode, on random images and some real ones
        [N, C, H, W]."""
        images = np.concatenate([random_images(net.in_chs, net.arch.resolution), real])
        with torch.no_grad():
            inputs = torch.from_numpy(images)
            single, double = net(inputs).double(), copy.deepcopy(net).double()(inputs.double())
        return cls(images, double.numpy(), float((single - double).abs().max()))

    @property
    def allowed(self) -> float:
        """Largest difference from `expected` that an exact file may have."""
        return allowed_difference(self.expected, self.float32_error)

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
            images = np.concatenate([random_images(in_chs, side), tensors["real"]])
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
        if reason := disagreement(self.expected, got, self.float32_error, exact):
            raise UserError(f"{file} {reason}")
        return Agreement(
            largest_difference=float(np.abs(self.expected - got).max()),
            top1_agreement=self._agreement(got, slice(None)),
            on_random=self._agreement(got, slice(0, RANDOM_IMAGES)),
            on_real=self._agreement(got, slice(RANDOM_IMAGES, None)) if len(self.images) > RANDOM_IMAGES else None,
        )

    def try_format(self, kind: Format, folder: Path, macs: int) -> Tried:
        """Runs what a format wrote into a folder, and counts its multiply-adds.

        Args:
            macs: of the architecture.

        Raises:
            UserError: other outputs than the network's, or other multiply-adds.
        """
        name, session = kind.FILES[0], kind.load_session(folder)
        agreement, counted = self.try_on(name, session(self.images), kind.EXACT), kind.macs(folder)
        if counted is not None and counted != macs:
            raise UserError(f"{name} has {counted:,} multiply-adds, but its architecture {macs:,}")
        return Tried(session, agreement, counted)

    def _agreement(self, got: np.ndarray, part: slice) -> float:
        return top1_agreement(self.expected[part], got[part], self.float32_error)
