"""How the stages of a run share a time box, `--minutes`."""

from collections.abc import Collection

# Relative to the stages that are still to come. Fidelity is not part of a run with a time box.
SHARES = {"train": 0.42, "calibrate": 0.12, "search": 0.13, "retrain": 0.30, "export": 0.02, "report": 0.01}


def share_of_time(stage: str, to_come: Collection[str]) -> float:
    """What a stage gets of the time that is left for it and all others that are still to come."""
    return SHARES[stage] / sum(SHARES[each] for each in to_come)
