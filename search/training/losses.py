"""The loss of full training: cross entropy, and what a teacher adds to it."""

import torch.nn.functional as F
from torch import Tensor

from search.recipes.schema import Training
from search.training.teacher import Teacher


class Loss:
    """Cross entropy with smoothed or mixed labels, and the divergence from a teacher."""

    def __init__(self, config: Training, teacher: Teacher | None) -> None:
        self.config, self.teacher = config, teacher

    def __call__(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """[B, classes], labels [B] or shares [B, classes], the images that were shown -> the mean loss"""
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        if self.teacher is None:
            return loss
        t = self.config.temperature  # Hinton et al., 2015: gradients of softened predictions shrink with its square
        known = F.log_softmax(self.teacher(images) / t, 1)
        learnt = F.kl_div(F.log_softmax(logits.float() / t, 1), known, reduction="batchmean", log_target=True) * t**2
        return (1 - self.config.distill) * loss + self.config.distill * learnt
