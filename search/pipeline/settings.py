"""What a run is told besides its recipe."""

import time
from dataclasses import dataclass, field

from search.parallel.cluster import HERE, Cluster


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run is done, not what it is: a run may be gone on with by others.

    Args:
        resume: go on with what is in the folder.
        minutes: time box for all that is still to do; None runs every stage in full.
        cluster: over which every stage but calibration and export is spread.
        begun: when the time box began, by `time.monotonic`.
    """

    resume: bool = False
    minutes: float | None = None
    cluster: Cluster = HERE
    begun: float = field(default_factory=time.monotonic, compare=False)
