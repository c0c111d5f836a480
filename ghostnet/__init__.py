"""GhostNet: the network, its elastic form, and its costs. See `ghostnet.arch` for where to begin.

Names that need torch are loaded when they are first asked for, so that costs and architectures come without the
seconds that importing torch takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ghostnet.arch import Arch, ArchError, Block
from ghostnet.cost import Cost, cost
from ghostnet.memory import Memory, memory
from ghostnet.published import published

if TYPE_CHECKING:
    from ghostnet.backbone import Backbone
    from ghostnet.conversion import ghostify
    from ghostnet.modules import GhostModule
    from ghostnet.network import GhostNet
    from ghostnet.parent import load_parent
    from ghostnet.source import WeightSource
    from ghostnet.supernet import Supernet
    from ghostnet.transplant import Transplants

_NEED_TORCH = {
    "Backbone": "ghostnet.backbone",
    "GhostModule": "ghostnet.modules",
    "GhostNet": "ghostnet.network",
    "Supernet": "ghostnet.supernet",
    "Transplants": "ghostnet.transplant",
    "WeightSource": "ghostnet.source",
    "ghostify": "ghostnet.conversion",
    "load_parent": "ghostnet.parent",
}

__all__ = [
    "Arch",
    "ArchError",
    "Backbone",
    "Block",
    "Cost",
    "GhostModule",
    "GhostNet",
    "Memory",
    "Supernet",
    "Transplants",
    "WeightSource",
    "cost",
    "ghostify",
    "load_parent",
    "memory",
    "published",
]


def __getattr__(name: str) -> object:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module 'ghostnet' has no attribute {name!r}")
    return getattr(import_module(_NEED_TORCH[name]), name)
