"""Test runs leave a core to nobody else: many small networks are fastest on one thread, one at a time."""

import os

import pytest
import torch

from search import progress

torch.set_num_threads(1)
os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # by which the product counts cores


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    """What a command run within the process sets for all of it (`--quiet`, what was said once) ends with the test."""
    monkeypatch.setattr(progress.console, "quiet", False)
    monkeypatch.setattr(progress, "_reported", set())
