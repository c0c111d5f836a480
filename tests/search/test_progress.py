"""Progress reads true in log files, and what only informs never ends the work."""

import contextlib
import logging
import os
import re
import sys
import time

import pytest
import torch
from rich.console import Console

from search import progress
from search.progress import bar, best_effort
from search.recipes.schema import Training
from search.terminal import ErrorStream, say
from search.training.optimizer import create_optimizer, create_schedule


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", -1.0)


@pytest.mark.parametrize("first", [0, 4, 12])
def test_a_log_never_reads_more_than_all_of_it(first, capsys):
    with bar("training", 10) as shown:
        for done in (first, 5, 9, 13, 150):  # a step that outlasts its time box moves the schedule past its end
            shown.update(done)
    shares = [int(share) for share in re.findall(r"(\d+)%, \d+ s left", capsys.readouterr().err)]
    assert shares == [share for share in (50, 90) if 10 * first < share]


@pytest.mark.parametrize("terminal", [False, True])
def test_no_more_time_is_left_than_a_time_box_has(terminal, capsys, monkeypatch):
    """The first of 150 networks took a minute, and the time box has ten seconds."""
    now = time.monotonic()
    if terminal:
        monkeypatch.setattr(progress, "console", Console(file=sys.stderr, force_terminal=True, width=100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    for until, wanted in ((None, "left .*-:--:--" if terminal else "8940 s"), (now + 70, "10 s|0:00:10")):
        with bar("search", 150, until) as shown:
            shown.update(0)
            monkeypatch.setattr(progress.time, "monotonic", lambda: now + 60)
            shown.update(1, "front 1")
        text = capsys.readouterr().err
        monkeypatch.setattr(progress.time, "monotonic", lambda: now)
        assert re.search(wanted, text) and "front 1" in text
        assert terminal or text.endswith("s left, front 1\n")


def test_a_total_of_nothing_is_no_division(capsys):
    with bar("nothing", 0) as shown:
        shown.update(0)
        shown.advance()
    assert "nothing" not in capsys.readouterr().err


def test_what_only_informs_is_left_out_and_said_once(capsys):
    for _ in range(3):
        with best_effort("the [bold]probe"):
            raise ValueError("no [/such] thing\nmore")
    with best_effort("another"):
        raise ZeroDivisionError
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "  left out: the [bold]probe (ValueError: no [/such] thing)",
        "  left out: another (ZeroDivisionError)",
    ]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_end_that_was_asked_for_is_one(end):
    with pytest.raises(end), best_effort("nothing"):
        raise end


def test_a_terminal_that_is_gone_ends_no_work(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    gone = os.fdopen(write, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", gone)
    for terminal in (False, True):
        monkeypatch.setattr(progress, "console", Console(file=ErrorStream(), force_terminal=terminal))
        say("anybody there?")
        with bar("work", 2) as shown:
            shown.advance()
    with contextlib.suppress(OSError):
        gone.close()


def test_a_schedule_of_one_step_starts_at_its_rate_and_warns_of_nothing(caplog):
    config, model = Training(epochs=1, lr=0.3), torch.nn.Linear(2, 2)
    with caplog.at_level(logging.WARNING):
        optimizer = create_optimizer(model, config)
        create_schedule(optimizer, config, total=1, per_epoch=1).step_update(0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3) and not caplog.records
