"""Progress of long work: a bar, the time left and a short status. Without a terminal, plain lines.

What only informs (progress, probes, event files, figures) never ends the work: it stands in a `best_effort`.
"""

import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from search.terminal import console, printable, say

PLAIN_EVERY_S = 15.0
_reported: set[str] = set()  # what was said to be left out, by this process


def set_verbosity(quiet: bool = False, verbose: bool = False) -> None:
    """`quiet` shows no progress; `verbose` shows what libraries log and warn of, on the error stream."""
    console.quiet = quiet
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
    if not (verbose or sys.warnoptions):
        warnings.simplefilter("ignore")


def warn(message: str) -> None:
    """Prints a warning that a result may be unreliable."""
    say(f"warning: {message}", "yellow")


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Runs what only informs. If it fails it is left out, with one message per process, and the work goes on.

    Args:
        what: the thing that is then missing, for the message; such as "the training curves".
    """
    try:
        yield
    except Exception as error:
        if what not in _reported:
            _reported.add(what)
            reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            say(f"  left out: {what} ({reason})")


class Bar:
    """One task's progress. `advance` and `update` also show a short status, such as the current loss."""

    def __init__(self, progress: Progress | None, title: str, total: float, until: float | None = None) -> None:
        self._progress, self._title, self._total, self._until = progress, title, total, until
        self._task = progress.add_task(printable(title), total=total, word="") if progress else None
        self._done, self._start, self._printed = 0.0, time.monotonic(), time.monotonic()
        self._first: float | None = None

    def total(self, total: float) -> None:
        """Sets how much there is to do, where that is learned on the way."""
        self._total = total
        if self._progress and self._task is not None:
            self._progress.update(self._task, total=total)

    def advance(self, word: str = "") -> None:
        self.update(self._done + 1, word)

    def update(self, done: float, word: str = "") -> None:
        """Sets how much of the total is done; more than all of it, as after a step that outlasts a time box, is all."""
        done = min(done, self._total)
        if self._first is None:
            self._first = done  # what a resumed run begins with took none of this run's time
        self._done = done
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=done, word=word)
        elif time.monotonic() - self._printed > PLAIN_EVERY_S and self._first < done < self._total:
            self._printed = time.monotonic()
            left = _within((self._printed - self._start) * (self._total - done) / (done - self._first), self._until)
            say(f"  {self._title} {done / self._total:.0%}, {left:.0f} s left{f', {word}' if word else ''}")


def _within(left: float, until: float | None) -> float:
    """Seconds that are left, or those of a time box where they are fewer."""
    return left if until is None else min(left, max(0.0, until - time.monotonic()))


class _TimeLeft(ProgressColumn):
    """The time that is left, as far as it is known."""

    def __init__(self, until: float | None) -> None:
        super().__init__()
        self._until = until

    def render(self, task: Task) -> Text:
        left = _within(math.inf if task.time_remaining is None else task.time_remaining, self._until)
        text = "-:--:--" if left == math.inf else str(timedelta(seconds=int(left)))
        return Text(text, style="progress.remaining")


class _NoBar(Bar):
    """What shows nothing: for work that is a part of other work."""

    def update(self, done: float, word: str = "") -> None:
        self._done = done


@contextmanager
def bar(title: str | None, total: float, until: float | None = None) -> Iterator[Bar]:
    """A progress bar on the terminal's error stream, with the time that is left; none where there is no title.

    Args:
        until: by `time.monotonic()`, when a time box ends the work whatever is left of it.
    """
    if title is None:
        yield _NoBar(None, "", total)
        return
    if not console.is_terminal:
        yield Bar(None, title, total, until)
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        _TimeLeft(until),
        TextColumn("{task.fields[word]}", markup=False),
    )
    progress = Progress(*columns, console=console)
    with best_effort("the progress bar"):
        progress.start()
    try:
        yield Bar(progress, title, total)
    finally:
        with best_effort("the progress bar"):
            progress.stop()
