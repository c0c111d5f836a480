"""Accuracy of transplants by soft labels: what their parent expects of their answers.

The share of right answers tells two networks of nearly equal accuracy apart by the few images on which one is right and
the other wrong, and labels make these all or nothing. The parent, asked once for each image, gives every class a
probability, and the mean probability of a network's answers is an estimate of its accuracy that the same images leave
less to chance (`results/weights/soft.md`). It is right on average where the parent's probabilities are, so their
temperature is fitted to the labels first (Guo et al., ICML 2017).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ghostnet.arch import Arch
from search.data.datasets import Data
from search.training.evaluate import InheritedAccuracy, logits, predictions
from search.training.inherited import inherited_accuracy, read_parent

LOG_TEMPERATURES = (-2.0, 2.0)  # between which the best one is looked for


class SoftAccuracy:
    """Accuracy on the search split that a parent expects of networks fitted to it, in [0, 1].

    Args:
        inherited: gives the networks.
        labels: the parent's probabilities of every image of the search split, [N, classes].
    """

    def __init__(self, inherited: InheritedAccuracy, labels: Tensor) -> None:
        self.inherited, self.labels = inherited, labels

    def prepare(self) -> None:
        """Moves to this process's GPU, if it has one."""
        self.inherited.prepare()

    def __call__(self, arch: Arch) -> float:
        inherited, data = self.inherited, self.inherited.data
        answers = predictions(inherited.network(arch), data, data.search, arch.resolution).cpu()
        return float(self.labels.gather(1, answers[:, None]).mean(dtype=torch.float64))


def soft_accuracy(supernet: Path, data: Data) -> SoftAccuracy:
    """That of the networks of a transplanted supernet.

    Raises:
        UserError: the folder holds none, or one of other classes or channels than the data's.
    """
    inherited, parent = inherited_accuracy(supernet, data), read_parent(supernet)
    outputs = logits(parent, data, data.search, parent.arch.resolution)
    return SoftAccuracy(inherited, soft_labels(outputs, data.search.labels))


def soft_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """A parent's probabilities [N, classes] of images by its logits, at the temperature that fits their labels best."""
    return (logits / best_temperature(logits, labels)).softmax(1)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature by which the probabilities of logits [N, classes] give labels [N] the largest likelihood."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits.double() / np.exp(log_temperature), labels))

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))
