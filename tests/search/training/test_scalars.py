"""Event files of trainings that were killed read in order, and a folder that can't be written ends no training."""

import logging
import time
from functools import partial

import pytest

from search.report.scalars import read_scalars
from search.training.scalars import Scalars


def test_a_training_that_was_killed_twice_has_each_step_once_and_in_order(tmp_path, caplog, monkeypatch):
    """Event files are read in the order of their names, which begin with the second that they were begun in."""
    began = time.time()
    for hour, (first, checkpoint, killed) in enumerate(((0, None, 5), (0, 4, 7), (4, None, 10))):  # from, at, until
        monkeypatch.setattr(time, "time", partial(float, began + 3600 * hour))
        scalars = Scalars(tmp_path, first)
        for step in range(first + 1, killed + 1):
            scalars.add(step, {"loss": float(step)})
            if step == checkpoint:
                scalars.flush()
        if killed == 10:
            scalars.close()
    with caplog.at_level(logging.WARNING):
        curve = read_scalars(tmp_path)["loss"]
    assert curve == [(step, float(step)) for step in range(1, 11)] and not caplog.records


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("moment", ["open", "write", "thread"])
def test_event_files_that_fail_are_left_out(moment, tmp_path, monkeypatch, capsys):
    from torch.utils.tensorboard import SummaryWriter

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if moment == "thread":
        monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    else:
        monkeypatch.setattr(SummaryWriter, "__init__" if moment == "open" else "add_scalar", full)
    scalars = Scalars(tmp_path / "events", 0)
    for step in (1, 2):
        scalars.add(step, {"loss": 1.0})
        scalars.flush()
    scalars.close()
    assert capsys.readouterr().err.count("left out: TensorBoard's event files") == 1
