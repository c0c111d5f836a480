"""Fitted beginnings of children, kept while memory allows: the networks of a search share theirs, and a unit's fit
depends on the units before it alone."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

T = TypeVar("T")
Key = tuple[Hashable, ...]  # what made each unit so far


@dataclass(frozen=True)
class Fitted(Generic[T]):
    """The weights of a unit that was fitted, by name, and what stands behind it."""

    weights: dict[str, Tensor]
    behind: T
    bytes: int


class Beginnings(Generic[T]):
    """The units that were fitted last, each under its own key and those of all units before it.

    Args:
        memory: bytes of what stands behind them, at most; the ones used longest ago go first.
    """

    def __init__(self, memory: int) -> None:
        self.memory, self.bytes = memory, 0
        self._kept: OrderedDict[Key, Fitted[T]] = OrderedDict()

    def restore(self, net: nn.Module, units: Sequence[Sequence[str]], keys: Key) -> tuple[T | None, int]:
        """Gives a network the longest beginning that is known.

        Args:
            units: names of the modules of every unit.

        Returns:
            What stands behind it, and its number of units; None and 0 where none is known.
        """
        begun = 0
        while begun < len(keys) and keys[: begun + 1] in self._kept:
            begun += 1
        behind = None
        for k in range(begun):
            fitted = self._kept[keys[: k + 1]]
            for name, tensor in tensors(net, units[k]).items():
                tensor.copy_(fitted.weights[name])
            behind = fitted.behind
        self._use(keys[:begun])
        return behind, begun

    def keep(self, net: nn.Module, unit: Sequence[str], key: Key, behind: T, size: int) -> None:
        """Keeps a network's unit that was just fitted, where the units before it are kept: without them it can't be
        restored."""
        if size > self.memory or (len(key) > 1 and key[:-1] not in self._kept):
            return
        weights = {name: tensor.detach().clone() for name, tensor in tensors(net, unit).items()}
        self._kept[key] = Fitted(weights, behind, size)
        self.bytes += size
        self._use(key)
        while self.bytes > self.memory:
            self.bytes -= self._kept.popitem(last=False)[1].bytes

    def _use(self, key: Key) -> None:
        """Marks a beginning as used, the shorter ones that it begins with after it: it can't be restored without."""
        for k in range(len(key), 0, -1):
            if key[:k] in self._kept:
                self._kept.move_to_end(key[:k])

    def __getstate__(self) -> dict[str, object]:  # other processes fit their own
        return {"memory": self.memory, "bytes": 0, "_kept": OrderedDict()}


def tensors(net: nn.Module, unit: Sequence[str]) -> dict[str, Tensor]:
    """Parameters and buffers of some modules of a network."""
    return {
        f"{name}.{leaf}": tensor
        for name in unit
        for leaf, tensor in net.get_submodule(name).state_dict(keep_vars=True).items()
    }
