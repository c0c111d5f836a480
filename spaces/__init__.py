"""What can be searched: spaces of GhostNets, their encoding and costs, and populations inside a budget."""

from spaces.custom import load_space, parse_space, space_from_dict, space_to_dict
from spaces.errors import SpaceError
from spaces.presets import named_space
from spaces.quantities import Window
from spaces.space import Space

__all__ = [
    "Space",
    "SpaceError",
    "Window",
    "load_space",
    "named_space",
    "parse_space",
    "space_from_dict",
    "space_to_dict",
]
