"""The search in process, by every sampler; and what storages show of it."""

import os
import sqlite3
import sys
import time
import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

from search.engine import optuna_study as studies
from search.engine.backends.optuna_backend import search
from search.engine.budgets import NONE, Within
from search.engine.limit import time_limit
from search.engine.log import TrialLog
from search.engine.objectives import ACCURACY, PARAMS
from search.engine.optuna_study import open_storage
from search.engine.samplers.genetic import KEY, Generations
from search.engine.samplers.initial import STUCK
from search.engine.search_plan import SearchPlan
from search.errors import UserError
from search.parallel import processes
from spaces.custom import parse_space
from spaces.quantities import Window
from spaces.tables import macs_table
from tests.search.conformance import Conformance
from tests.search.searches import SPACE, accuracy_of, problem, run

SAMPLERS = ("guided", "nsga2", "nsga3", "tpe", "random", "evolution", "gp")


class TestOptuna(Conformance):
    name, kills = "optuna", 20


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_stopped_and_resumed_anywhere_equals_an_unbroken_one(tmp_path, sampler):
    count, stops = (45, (5, 20, 21, 37)) if sampler != "gp" else (12, (5, 9, 10))
    about = {"sampler": sampler, "population": 8 if sampler in ("nsga3", "gp") else 20, "seed": 4}
    whole = run(problem(), tmp_path / "whole", trials=count, **about)
    for stop in (*stops, count):
        resumed = run(problem(), tmp_path / "resumed", trials=stop, **about)
    assert whole == resumed
    assert sum(t.state == "complete" for t in whole) == count


@pytest.mark.parametrize("sampler", ["guided", "random"])
def test_more_trials_than_the_first_networks_go_on_as_an_unbroken_search(tmp_path, sampler):
    """In a budget so narrow that what is drawn depends on how many are."""
    about = {"sampler": sampler, "population": 10, "seed": 1}
    run(problem(flops="119k,120k"), tmp_path / "few", trials=5, **about)
    more = run(problem(flops="119k,120k"), tmp_path / "few", trials=20, **about)
    assert more == run(problem(flops="119k,120k"), tmp_path / "whole", trials=20, **about)


class Noting:
    """Notes each evaluation in a folder, by process and network. Some fail."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, arch):
        time.sleep(0.1)
        (self.folder / f"{os.getpid()}-{arch.id}").touch(exist_ok=False)
        if int(arch.id, 16) % 7 == 0:
            raise RuntimeError("boom")
        return accuracy_of(arch)


def test_a_search_that_evaluates_ahead_in_several_processes_finds_the_same_and_evaluates_no_more(tmp_path, monkeypatch):
    """Also one that goes on in the midst of a batch."""
    monkeypatch.setattr(processes, "PATIENCE_S", 0.0)
    trials, evaluated = {}, {}
    for count in (1, 2):
        notes = tmp_path / f"notes{count}"
        notes.mkdir()
        for number in (100, 150):
            task = problem(Noting(notes), flops="200k..210k,500k", latency_budget_ms=1.0)
            trials[count] = run(task, tmp_path / str(count), trials=number, population=80, seed=2, processes=count)
        names = [file.name.split("-") for file in notes.iterdir()]
        evaluated[count] = sorted(network for _, network in names)
        assert len({pid for pid, _ in names}) >= count
    assert trials[1] == trials[2] and evaluated[1] == evaluated[2]


@pytest.mark.parametrize("sampler", SAMPLERS[:-1])
def test_samplers_learn(tmp_path, sampler):
    """On accuracy that grows with the multiply-adds: later networks are nearer to the front than the first, drawn
    uniformly. Random search isn't."""
    rows = run(problem(lambda arch: _macs(arch) / 1e6), tmp_path, trials=120, sampler=sampler, population=30)
    done = [t for t in rows if t.state == "complete"]
    lead = np.array([t["accuracy"] / t["latency_ms"] for t in done])
    early, late = lead[:30].mean(), lead[-40:].mean()
    assert late > 1.05 * early if sampler != "random" else late < 1.05 * early


class Stubborn(optuna.samplers.RandomSampler):
    """Proposes one network for ever."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[0]


def test_a_sampler_that_proposes_nothing_new_is_helped_on(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.samplers, "RandomSampler", Stubborn)
    rows = run(problem(), tmp_path / "whole", trials=14, sampler="random", population=4)
    paid = [k for k, row in enumerate(rows) if row.state == "complete"]
    assert len(paid) == 14 and max(np.diff(paid)) == STUCK + 1
    for trials in (9, 14):
        resumed = run(problem(), tmp_path / "resumed", trials=trials, sampler="random", population=4)
    assert resumed == rows


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_goes_on_where_the_first_networks_repeat_before_any_of_its_own(tmp_path, sampler):
    """As they may in a tight budget: a search of fewer networks than a population draws no more of them."""
    known = (SPACE.uniform(0.5),) * 2
    rows = run(problem(), tmp_path, trials=4, population=10, sampler=sampler, known=known)
    assert [row.state for row in rows[:2]] == ["complete", "repeated"]
    assert sum(row.state == "complete" for row in rows) == 4


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_stand_ins_are_of_the_generation_in_which_they_come(tmp_path, sampler):
    """In a window of few networks, most of which are asked for: a resumed search equals an unbroken one there, too."""
    small = {"rows": [[[3, 48, 24, 0, 2]], [[5, 72, 40, 0.25, 2]]], "widths": [0.5, 1.0], "cheap_kernels": [3]}
    space = parse_space({"base": "digits", "ratios": [2, 4], **small})
    macs = macs_table(space).total(np.array(list(product(*map(range, space.choices)))))
    window = Window(0, int(np.quantile(macs, 0.3)))
    task = replace(problem(), space=space, objectives=(ACCURACY, PARAMS), budgets={"w": (Within(window),)})
    about = {"trials": int(0.9 * (macs <= window.high).sum()), "population": 6, "sampler": sampler}
    rows = run(task, tmp_path / "whole", **about)
    states = [row.backend.model_dump(exclude_unset=True) for row in rows]
    alone = [number for number, state in enumerate(states) if not state and number >= about["population"]]
    assert alone and states[alone[0] - 1]["generation"] > 1
    lines = (tmp_path / "whole/trials.jsonl").read_bytes().splitlines(keepends=True)
    for count in np.linspace(alone[0], len(rows) - 1, 4).astype(int):
        (tmp_path / str(count)).mkdir()
        (tmp_path / str(count) / "trials.jsonl").write_bytes(b"".join(lines[: 1 + count]))
        assert run(task, tmp_path / str(count), **about) == rows


def test_generations_are_full_and_in_order_with_trials_that_have_none():
    study = optuna.create_study(directions=["maximize"])
    generations = Generations(3, lambda _: pytest.fail("no parents are needed"))
    choices = {"gene": optuna.distributions.CategoricalDistribution([0, 1])}
    for given in (None, None, None, 1, None, 1, None, 2):
        about = {} if given is None else {KEY: given}
        study.add_trial(create_trial(value=0.0, params={"gene": 0}, distributions=choices, system_attrs=about))
    generations.update(study)
    numbers = {generation: [t.number for t in trials] for generation, trials in generations.trials.items()}
    assert numbers == {0: [0, 1, 2], 1: [3, 4, 5], 2: [6, 7]} and generations.current == 2


def test_tpe_does_not_stall_in_a_small_space(tmp_path):
    """Drawing gene by gene, it proposes more networks that were seen than new ones."""
    rows = [[[3, 48, 24, 0, 2]], [[5, 72, 40, 0.25, 2]]]
    choices = {"widths": [0.25, 0.5, 1.0], "ratios": [1, 2, 4], "cheap_kernels": [3]}
    small = replace(
        problem(lambda arch: _macs(arch) / 1e6),
        space=parse_space({"base": "digits", "rows": rows} | choices),
        objectives=(ACCURACY, PARAMS),
        budgets=NONE,
    )
    assert len(run(small, tmp_path, trials=80, sampler="tpe", population=20)) < 120


def _macs(arch) -> int:
    from ghostnet import cost

    return cost(arch, 10, 1).macs


def test_a_folder_may_have_a_name_that_is_no_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"y\xff")
    run(problem(), folder, trials=2)
    assert len(run(problem(), folder, trials=4)) == 4


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
    expected = [(t.arch, "COMPLETE", [t.accuracy or 0.0, t["latency_ms"]]) for t in rows]
    assert shown == expected
    choices = study.trials[0].distributions["blocks.0.0.ghost"].choices  # type: ignore[attr-defined]
    assert {"s=1", "s=2 d=3"} <= set(choices), "a dashboard shows what a choice means, not its number"
    space = problem().space
    for trial, row in zip(study.trials, rows, strict=True):
        ghosts = [block for stage in space.decode(np.array(row.code)).stages for block in stage]
        message = [trial.params[gene.name] for gene in space.genes if gene.kind == "ghost"]
        assert [int(word[2]) for word in message] == [block.ratio for block in ghosts]
    assert rows == run(problem(), tmp_path / "bare", trials=16, population=6)


@pytest.mark.parametrize("link", ["sub/s.journal", "{}/sub/s.journal"])
def test_a_journal_that_a_dead_search_locked_is_taken_over(tmp_path, monkeypatch, link):
    """Optuna's lock is a link to the journal; one that a kill left behind, by a relative path or a whole one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "LOCK_SECONDS", 1)
    about = {"population": 6, "storage": "sub/s.journal"}
    run(problem(), tmp_path / "log", trials=7, **about)
    (tmp_path / "sub/s.journal.lock").symlink_to(link.format(tmp_path))
    with time_limit(60), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna finds a second short
        rows = run(problem(), tmp_path / "log", trials=9, **about)
    assert rows == run(problem(), tmp_path / "bare", trials=9, population=6)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["s.journal"]


def test_a_storage_that_is_none_is_said(tmp_path):
    with TrialLog(tmp_path / "log", {}) as log, pytest.raises(UserError, match=r"can't be opened|needs another"):
        search(problem(), log, SearchPlan(trials=1, storage="sqlite:////no/such/folder/x.db"))


@pytest.mark.parametrize(
    ("address", "package"),
    (
        ("mysql+pymysql://u@127.0.0.1/db", "pymysql"),
        ("mysql://u@127.0.0.1/db", "mysqlclient"),
        ("postgresql+psycopg2://u@127.0.0.1/db", "psycopg2-binary"),
    ),
)
def test_a_storage_without_its_driver_names_the_package(monkeypatch, address, package):
    for module in ("pymysql", "MySQLdb", "psycopg2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"needs another package: pip install {package}$"):
        open_storage(address)
    with pytest.raises(UserError, match=r"://u:\*\*\*@127") as refused:
        open_storage(address.replace("u@", "u:top/se@cret@"))
    assert "cret" not in str(refused.value)


def gone(path):
    path.unlink()


def locked(path):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    OTHERS.append(other)


def tables_gone(path):
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE trials")


OTHERS: list[sqlite3.Connection] = []


@pytest.mark.parametrize(
    ("kind", "breaks"),
    [
        ("sqlite:///{}/s.db?timeout=0.2", locked),
        ("sqlite:///{}/s.db", gone),
        ("sqlite:///{}/s.db", tables_gone),
        ("{}/s.journal", gone),
    ],
)
def test_a_storage_that_fails_in_mid_search_is_one_line_and_the_search_goes_on_without_it(tmp_path, kind, breaks):
    calls, place = [], kind.format(tmp_path)
    file = next(iter([tmp_path / name for name in ("s.db", "s.journal") if name in kind]))

    def evaluate(arch) -> float:
        calls.append(1)
        if len(calls) == 5:
            breaks(file)
        return accuracy_of(arch)

    try:
        with pytest.raises(UserError) as told:
            run(problem(evaluate), tmp_path / "log", trials=12, population=6, storage=place)
    finally:
        while OTHERS:
            OTHERS.pop().close()
    assert "s." in str(told.value) and "the evaluated networks are in the log" in str(told.value)
    assert str(told.value).startswith("the storage ") and "\n" not in str(told.value)
    rows = run(problem(), tmp_path / "log", trials=12, population=6)
    assert rows == run(problem(), tmp_path / "bare", trials=12, population=6)
