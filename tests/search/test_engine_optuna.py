"""The search in process, by every sampler; and what storages show of it."""

import numpy as np
import optuna
import pytest

from search.engine.drawn import STUCK
from search.engine.log import TrialLog
from search.engine.optuna_backend import search
from search.engine.plan import Plan
from search.errors import UserError
from tests.search.conformance import Conformance
from tests.search.searches import problem, run

SAMPLERS = ("guided", "nsga2", "nsga3", "tpe", "random", "evolution", "gp")


class TestOptuna(Conformance):
    name, kills = "optuna", 20


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_stopped_and_resumed_anywhere_equals_an_unbroken_one(tmp_path, sampler):
    count, stops = (45, (5, 20, 21, 37)) if sampler != "gp" else (24, (5, 21, 22))
    about = {"sampler": sampler, "population": 20 if sampler != "nsga3" else 8, "seed": 4}
    whole = run(problem(), tmp_path / "whole", trials=count, **about)
    for stop in (*stops, count):
        resumed = run(problem(), tmp_path / "resumed", trials=stop, **about)
    assert whole == resumed
    assert sum(t["state"] == "complete" for t in whole) == count


@pytest.mark.parametrize("sampler", SAMPLERS[:-1])
def test_samplers_learn(tmp_path, sampler):
    """On accuracy that grows with the multiply-adds: later networks are nearer to the front than the first, drawn
    uniformly. Random search isn't."""
    rows = run(problem(lambda arch: _macs(arch) / 1e6), tmp_path, trials=120, sampler=sampler, population=30)
    done = [t for t in rows if t["state"] == "complete"]
    lead = np.array([t["accuracy"] / t["latency_ms"] for t in done])
    early, late = lead[:30].mean(), lead[-40:].mean()
    assert late > 1.05 * early if sampler != "random" else late < 1.05 * early


class Stubborn(optuna.samplers.RandomSampler):
    """Proposes one network for ever."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[0]


def test_a_sampler_that_proposes_nothing_new_is_helped_on(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.samplers, "RandomSampler", Stubborn)
    rows = run(problem(), tmp_path, trials=14, sampler="random", population=4)
    paid = [k for k, row in enumerate(rows) if row["state"] == "complete"]
    assert len(paid) == 14 and max(np.diff(paid)) == STUCK + 1
    assert rows == run(problem(), tmp_path, trials=14, sampler="random", population=4)


def _macs(arch) -> int:
    from ghostnet import cost

    return cost(arch, 10, 1).macs


@pytest.mark.parametrize("kind", ("search.journal", "sqlite:///{}/search.db"))
def test_a_storage_shows_the_whole_study_and_the_log_says_the_same(tmp_path, kind):
    place = str(tmp_path / kind) if "://" not in kind else kind.format(tmp_path)
    run(problem(), tmp_path / "log", trials=12, population=6, storage=place)
    rows = run(problem(), tmp_path / "log", trials=16, population=6, storage=place)
    where = (
        optuna.storages.RDBStorage(place)
        if "://" in place
        else optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(place))
    )
    (name,) = optuna.get_all_study_names(where)
    study = optuna.load_study(study_name=name, storage=where)
    assert study.metric_names == ["accuracy", "latency_ms"]
    shown = [(t.user_attrs["arch"], t.state.name, t.values) for t in study.trials]
    told = [(t["arch"], "COMPLETE", [t["accuracy"] or 0.0, t["latency_ms"]]) for t in rows]
    assert shown == told
    assert rows == run(problem(), tmp_path / "bare", trials=16, population=6)


def test_a_storage_that_is_none_is_said(tmp_path):
    with TrialLog(tmp_path / "log", {}) as log, pytest.raises(UserError, match=r"can't be opened|needs another"):
        search(problem(), log, Plan(trials=1, storage="sqlite:////no/such/folder/x.db"))
