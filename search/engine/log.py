"""The trial log, `trials.jsonl`: every network that a search proposed, in order. A search resumes from it alone.

A row has `number`, `state` (complete, repeated, infeasible, failed), `arch`, `code`, `accuracy`, `latency_ms` with its
interval, `macs`, `params`, `excess`, `seconds`, and `backend`: what the backend needs to go on. The first row is a
header that says which search this is; another search is refused.
"""

from pathlib import Path
from typing import Any

from search.engine.problem import COMPLETE, FAILED, Trial
from search.errors import UserError
from search.files import JsonLines


class TrialLog:
    """Trials on disk and in memory.

    Args:
        header: what makes trials comparable: space, supernet, latency table, budget, sampler, seed.

    Raises:
        UserError: the file holds another search's trials.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._lines = JsonLines(path)
        rows = list(self._lines)
        if not rows:
            self._lines.append(header)
        elif rows[0] != header:
            differing = sorted(k for k in header.keys() | rows[0].keys() if header.get(k) != rows[0].get(k))
            raise UserError(f"{path} holds trials of another search: it differs in {', '.join(differing)}")
        self.trials: list[Trial] = rows[1:]
        self.seen: dict[str, Trial] = {t["arch"]: t for t in self.trials if t["state"] == COMPLETE}

    def append(self, trial: Trial) -> None:
        """Adds a trial; it is on the disk on return."""
        self._lines.append(trial)
        self.trials.append(trial)
        if trial["state"] == COMPLETE:
            self.seen[trial["arch"]] = trial

    @property
    def evaluated(self) -> list[Trial]:
        """Complete trials: each a different network with an accuracy."""
        return list(self.seen.values())

    @property
    def spent(self) -> int:
        """Evaluations paid for, failed ones included."""
        return len(self.seen) + sum(t["state"] == FAILED for t in self.trials)


def read_trials(path: Path) -> list[Trial]:
    """All trials of a log.

    Raises:
        UserError: there is no such log.
    """
    rows = list(JsonLines(path))
    if not rows:
        raise UserError(f"no trials in {path}")
    return rows[1:]
