"""Time boxes of trainings."""

from dataclasses import dataclass, replace

LONGEST = 4.0  # times a recipe's steps that a time box may be filled with


@dataclass(frozen=True, slots=True)
class TimeBox:
    """How long a training may take: its schedule then ends with the clock, if not before.

    Args:
        seconds: from now on, for what is still to do.
        stretch: how many times the recipe's steps it takes, if there is time for them: up to `LONGEST`; 1: never more
            than these.
    """

    seconds: float
    stretch: float = 1.0

    def after(self, seconds: float) -> "TimeBox":
        """What is left of it after so many seconds, a second at least."""
        return replace(self, seconds=max(1.0, self.seconds - seconds))

    def part(self, share: float) -> "TimeBox":
        """The box of a training that gets a share of the time."""
        return replace(self, seconds=share * self.seconds)

    def no_longer_than(self, stretch: float) -> "TimeBox":
        """The same time for so many times the recipe's steps at most."""
        return replace(self, stretch=min(self.stretch, stretch))
