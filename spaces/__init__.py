"""What can be searched: spaces of GhostNets, their encoding and costs, and populations inside a budget."""

from spaces.population import Window
from spaces.presets import named_space
from spaces.space import Space, SpaceError

__all__ = ["Space", "SpaceError", "Window", "named_space"]
