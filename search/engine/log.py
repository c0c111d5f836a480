"""The trial log, `trials.jsonl`: every network that a search proposed, in order. A search resumes from it alone, under
any backend.

A row has `number`, `state` (complete, repeated, infeasible, failed), `arch`, `code`, the objectives (`accuracy`,
`latency_ms` with its interval), `macs`, `params`, `excess`, `seconds`, and `backend`: what the backend needs to go on.
The first row is a header that says which search this is; another search is refused.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from search.engine.problem import COMPLETE, FAILED, Trial
from search.errors import UserError
from search.files import JsonLines
from search.folders import locked
from search.identity import check_same


class TrialLog:
    """Trials on disk and in memory; one process at a time, for as long as it lives or until `close`.

    Args:
        header: what makes trials comparable: space, supernet, latency table, budget, sampler, seed.

    Raises:
        UserError: the file holds another search's trials, or another process is at work in its folder.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self._lines, self._open = JsonLines(path), ExitStack()
        with ExitStack() as opened:
            opened.enter_context(locked(path.parent))
            rows = list(self._lines)
            if not rows:
                self._lines.append(header)
            else:
                check_same(rows[0], header, f"{path} holds trials of another search")
            self._open = opened.pop_all()
        self.trials: list[Trial] = []
        self.seen: dict[str, Trial] = {}  # evaluated and failed, by architecture
        self.evaluated: list[Trial] = []  # complete: each a different network
        for trial in rows[1:]:
            self._remember(trial)

    def __enter__(self) -> "TrialLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets another search in."""
        self._open.close()

    def append(self, trial: Trial) -> None:
        """Adds a trial; it is on the disk on return."""
        self._lines.append(trial)
        self._remember(trial)

    def _remember(self, trial: Trial) -> None:
        self.trials.append(trial)
        if trial["state"] == COMPLETE:
            self.evaluated.append(trial)
        if trial["state"] in (COMPLETE, FAILED):
            self.seen[trial["arch"]] = trial

    @property
    def spent(self) -> int:
        """Networks paid for, failed ones included."""
        return len(self.seen)


def read_trials(path: Path) -> list[Trial]:
    """All trials of a log.

    Raises:
        UserError: there is no such log.
    """
    rows = list(JsonLines(path))
    if not rows:
        raise UserError(f"no trials in {path}")
    return rows[1:]
