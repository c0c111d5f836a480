"""Accuracy after a short training: dearer than inherited accuracy, and nearer to what full training gives."""

from functools import cached_property

import torch

from ghostnet.arch import Arch
from search.data.datasets import Data
from search.data.generators import kept_generators
from search.recipes.schema import Training
from search.training.distributed import best_device
from search.training.evaluate import InheritedAccuracy, accuracy
from search.training.retrain import fresh_network, train_network
from search.training.teacher import FrozenTeacher, load_teacher


class ShortTraining:
    """Accuracy on the search split of networks that are trained a little, all alike and by the same seed.

    Args:
        config: how, and for how long.
        begin: gives the weights to begin with; None: fresh ones.
        teacher: who is learned from, too, by its name; see `search.training.teacher`.
    """

    def __init__(
        self, data: Data, config: Training, begin: InheritedAccuracy | None, teacher: str | None, seed: int
    ) -> None:
        self.data, self.config, self.begin, self.teacher_name, self.seed = data, config, begin, teacher, seed

    def prepare(self) -> None:
        """Moves what gives the weights, and the teacher, to this process's GPU, if it has one."""
        if self.begin:
            self.begin.prepare()
        if self._teacher:
            self._teacher.to(best_device())

    @cached_property
    def _teacher(self) -> FrozenTeacher | None:
        return load_teacher(self.teacher_name, self.data, best_device()) if self.teacher_name else None

    def __getstate__(self) -> dict[str, object]:
        """With the teacher, on the CPU: other machines may have neither its folder nor a GPU."""
        if self._teacher:
            self._teacher.to(torch.device("cpu"))
        return self.__dict__

    def __call__(self, arch: Arch) -> float:
        device = best_device()
        with kept_generators(device), torch.enable_grad():  # a sampler's draws must not depend on what was trained
            net = fresh_network(arch, self.data, self.config, self.seed)
            if self.begin:
                net.load_state_dict(self.begin.network(arch).state_dict())
            train_network(
                net,
                self.data,
                self.config,
                self._teacher,
                checkpoint=None,
                identity={},
                seed=self.seed,
                device=device,
                title=None,
            )
        return accuracy(net, self.data, self.data.search, arch.resolution)
