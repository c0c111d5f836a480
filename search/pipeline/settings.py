"""What a run is told besides its recipe."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run is done, not what it is: a run may be gone on with by others.

    Args:
        resume: go on with what is in the folder.
        minutes: time box for all that is still to do; None runs every stage in full.
        workers: processes side by side, through Ray; None: what the recipe says of each stage.
        address: of the Ray cluster that they are on; None: this machine.
    """

    resume: bool = False
    minutes: float | None = None
    workers: int | None = None
    address: str | None = None

    @property
    def is_spread(self) -> bool:
        """Whether every stage but calibration and export is spread over workers."""
        return (self.workers or 1) > 1 or self.address is not None
