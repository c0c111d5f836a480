"""The processes of one training: their parts of a batch, and the average of their gradients.

A batch is cut into equal parts, `world size` x `accumulate` of them; each part draws its own augmentation and has its
own batch statistics, whichever process it falls to. So two processes do what one does that accumulates twice.
Parameters are shared by a supernet's views rather than by module hooks, so gradients are averaged here, in one
all-reduce a step.
"""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from search.errors import UserError
from search.folders import locked


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class World:
    """This process's place among those of one training."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "World":
        """The process group that is up (Ray Train's), or that `torchrun` asks for; alone otherwise."""
        if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and prints for all."""
        return self.rank == 0

    def parts(self, batch_size: int, accumulate: int, images: int) -> list[tuple[int, slice]]:
        """This process's parts of a batch: each one's number and place. All are of one size, also where there are fewer
        images than a batch takes, so that their mean is the mean over images.

        Raises:
            UserError: the batch doesn't divide, or a part would have fewer than two images for its statistics.
        """
        count = self.size * accumulate
        if batch_size % count or batch_size // count < 2:
            raise UserError(f"`batch_size` must be a multiple of {count} parts of two or more, but got {batch_size}")
        each = min(batch_size, images) // count
        if each < 2:
            raise UserError(f"{images} training images are too few for {count} parts of a batch, of two or more each")
        mine = range(self.rank * accumulate, (self.rank + 1) * accumulate)
        return [(part, slice(part * each, (part + 1) * each)) for part in mine]

    def average(self, parameters: Iterable[Tensor], accumulate: int, extra: Tensor) -> Tensor:
        """Turns gradients summed over this process's parts into the mean over all parts, in place.

        Returns `extra` summed over processes.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size > 1:
            flat = torch.cat([*(g.flatten() for g in gradients), extra.to(gradients[0].dtype)])
            dist.all_reduce(flat)
            shared = flat[: -len(extra)].split([g.numel() for g in gradients])
            for gradient, part in zip(gradients, shared, strict=True):
                gradient.copy_(part.view_as(gradient))
            extra = flat[-len(extra) :]
        if (count := self.size * accumulate) > 1:
            torch._foreach_div_(gradients, count)
        return extra

    def locked(self, folder: Path) -> AbstractContextManager[None]:
        """The lock of a folder that this training writes, which the process that writes for all has."""
        return locked(folder) if self.is_main_process else nullcontext()

    def wait(self) -> None:
        """Waits until all processes have arrived."""
        if self.size > 1:
            dist.barrier()
