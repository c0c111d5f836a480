"""What a search is of, and the order in which it reads and writes."""

import itertools
import json
import pickle
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ghostnet import cost
from ghostnet.memory import memory
from ghostnet.weights import load_network
from search.api.fidelity import _front_networks
from search.data.datasets import load_data
from search.engine.ladder import images_price
from search.engine.log import read_trials
from search.errors import UserError
from search.files import JsonLines
from search.latency.table import Device, LatencyTable
from search.latency.timing.device import this_device
from search.pipeline import search_stage
from search.pipeline.search_problem import build_problem, check_search
from search.pipeline.search_stage import evaluation_price, known_networks, make_evaluator, search_networks
from search.recipes.choices import OBJECTIVES
from search.recipes.schema import Search, SupernetTraining, Training, check_evaluation, split_evaluation
from search.report.summary import summarise
from search.training.elastic import train_supernet
from search.training.evaluate import accuracy
from search.training.metadata import PARENT_ARCH, supernet_id
from search.training.retrain import retrain
from spaces import SpaceError
from tests.search.runs import SPACE, made_up_table
from tests.search.searches import bare
from tests.search.test_folders import held

DATA = load_data("digits", 16, limit=100)
ORIGIN = np.zeros((1, len(SPACE.choices)), dtype=np.int64)
CONFIG = Search(flops_budget="600k", trials=3, sampler="random", population=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A supernet and a latency table."""
    folder = tmp_path_factory.mktemp("files")
    config = SupernetTraining(epochs=0.1, batch_size=50, random=0)
    train_supernet(SPACE, DATA, config, folder / "net", device=torch.device("cpu"))
    made_up_table(np.random.default_rng(0)).save(folder / "t.lat.json")
    return folder


def search(files, out, config=CONFIG, seed=0, data=DATA):
    return search_networks(files / "net", [files / "t.lat.json"], out / "trials.jsonl", lambda: data, config, seed=seed)


def test_a_search_that_cannot_begin_writes_nothing_and_the_next_one_can(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    whole = (tmp_path / "files/net/supernet.safetensors").read_bytes()
    for damaged in (whole[:-100], whole[:100], b"", b"x" * 1000):
        (tmp_path / "files/net/supernet.safetensors").write_bytes(damaged)
        with pytest.raises(Exception):  # noqa: B017  which one is the reader's to say
            search(tmp_path / "files", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    (tmp_path / "files/net/supernet.safetensors").write_bytes(whole)
    assert len(search(tmp_path / "files", tmp_path / "out").trials) == 3


def test_a_search_begins_with_the_parent_and_with_ghostnet_at_each_width(files, tmp_path):
    family = tuple(SPACE.family.values())
    assert known_networks(files / "net", SPACE) == family and len(family) > 1
    macs = {arch.id: cost(arch, SPACE.num_classes, SPACE.in_chs).macs for arch in family}
    first = search(files, tmp_path / "out", CONFIG.model_copy(update={"trials": 5})).trials
    inside = [name for name, count in macs.items() if count <= 600_000]
    assert [trial.arch for trial in first][: len(inside)] == inside and 0 < len(inside) < len(macs)
    parents = {
        "member": SPACE.smallest,
        "wider": replace(SPACE, widths=(4.0,)).uniform(4.0),
        "of the family": family[1],
    }
    for name, arch in parents.items():
        (tmp_path / name / "parent").mkdir(parents=True)
        (tmp_path / name / PARENT_ARCH).write_text(arch.to_json())
    assert known_networks(tmp_path / "member", SPACE) == (SPACE.smallest, *family)
    assert known_networks(tmp_path / "wider", SPACE) == family
    assert set(known_networks(tmp_path / "of the family", SPACE)) == set(family)


def test_the_help_lists_the_objectives_that_there_are(files, tmp_path):
    with pytest.raises(UserError, match=f"^an objective is one of {', '.join(OBJECTIVES)}, not 'depth'$"):
        search(files, tmp_path, CONFIG.model_copy(update={"objectives": ("accuracy", "depth")}))


def test_a_search_goes_on_with_what_it_began_with_alone(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    files, out = tmp_path / "files", tmp_path / "out"
    search(files, out)
    rows = list(JsonLines(out / "trials.jsonl"))
    more = CONFIG.model_copy(update={"trials": 4})
    with pytest.raises(UserError, match=r"trials of another search: seed is 0, not 1$"):
        search(files, out, more, seed=1)
    metadata = json.loads((files / "net/supernet.json").read_text())
    metadata["training"]["seconds"] += 1  # says nothing of what the supernet is
    (files / "net/supernet.json").write_text(json.dumps(metadata))
    assert len(search(files, out, more).trials) == 4
    weights = load_file(files / "net/supernet.safetensors")
    name = min(weights)
    save_file(weights | {name: weights[name] + 1}, files / "net/supernet.safetensors")
    with pytest.raises(UserError, match=r"trials of another search: supernet is [0-9a-f]{10}, not [0-9a-f]{10}$"):
        search(files, out, more)
    made_up_table(np.random.default_rng(1)).save(files / "t.lat.json")
    with pytest.raises(UserError, match=r"supernet is .*; latency_tables is "):
        search(files, out, more)
    assert list(JsonLines(out / "trials.jsonl"))[: len(rows)] == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [({"code": [99] * len(SPACE.choices)}, "99"), ({"latency_high_ms": None}, "no number as `latency_high_ms`")],
)
def test_a_log_of_networks_that_the_space_has_not_is_refused(files, tmp_path, change, message):
    search(files, tmp_path)
    log = tmp_path / "trials.jsonl"
    *rows, last = log.read_text().splitlines(keepends=True)
    row = json.loads(last) | change
    log.write_text("".join(rows) + json.dumps({k: v for k, v in row.items() if v is not None}) + "\n")
    before = log.read_bytes()
    with pytest.raises(UserError, match=rf"trials\.jsonl, line \d+.*{message}"):
        search(files, tmp_path, CONFIG.model_copy(update={"trials": 5}))
    assert log.read_bytes() == before


@pytest.mark.parametrize("names", [("high",), ("low",), ("a", "a"), ("a-b", "a_b")])
def test_tables_whose_columns_would_be_the_same_are_refused(files, tmp_path, names):
    tables = [files / "t.lat.json"]
    for k, name in enumerate(names):
        (tmp_path / f"{k}").mkdir()
        tables.append(shutil.copy(files / "t.lat.json", tmp_path / f"{k}/{name}.lat.json"))
    with pytest.raises(UserError, match="latency tables of several targets must have different names"):
        build_problem(files / "net", tables, CONFIG)
    shutil.copy(tables[1], tmp_path / "highest.lat.json")
    problem = build_problem(files / "net", [tables[0], tmp_path / "highest.lat.json"], CONFIG)
    assert {"latency_high_ms", "latency_highest_ms", "latency_highest_high_ms"} <= {*problem.columns(ORIGIN)}


def test_a_search_is_on_the_data_that_the_supernet_was_trained_on(files, tmp_path):
    object.__setattr__(other := load_data("digits", 16, limit=100), "fingerprint", "mars")
    with pytest.raises(UserError, match=r"is not what the supernet in .* was trained on: data is mars, not digits$"):
        search(files, tmp_path / "out", data=other)
    assert not (tmp_path / "out").exists()


def test_two_searches_of_one_folder_are_not_at_work_at_once(files, tmp_path):
    with held(tmp_path / "out") as pid, pytest.raises(UserError, match=f"out is in use by process {pid}"):
        search(files, tmp_path / "out")


def test_a_memory_budget_is_settled_before_any_network_is_evaluated(files, tmp_path):
    """Every network that is evaluated is inside, every row has its bytes, and what can't be is answered at once."""
    bounded = {"memory_budget": "30k", "objectives": ("accuracy", "latency_ms", "weights"), "trials": 4}
    result = search(files, tmp_path, CONFIG.model_copy(update=bounded))
    for trial in result.trials:
        known = memory(SPACE.decode(trial.code), 10, 1)
        assert (trial["memory"], trial["weights"]) == (known.activations, known.weights) and trial["memory"] <= 30_000
    assert len(result.trials) == 4 and list(result.fronts) == ["600k 30k memory"]
    with pytest.raises(SpaceError, match="no network of space digits has at most 1k bytes of activations: the nearest"):
        search(files, tmp_path / "other", CONFIG.model_copy(update={"memory_budget": "1k"}))
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def batches(files):
    """Tables of two batches: eight images at a time take four times as long as one."""
    table = made_up_table(np.random.default_rng(0))
    table.save(files / "one.lat.json")
    setting = table.setting.model_copy(update={"batch": 8})
    entries = {key: entry.model_copy(update={"ms": 4 * entry.ms}) for key, entry in table.entries.items()}
    table.model_copy(update={"setting": setting, "entries": entries}).save(files / "eight.lat.json")
    return [files / "one.lat.json", files / "eight.lat.json"]


@pytest.mark.parametrize("limit", ["", "@0.3ms", "@0.0001ms"])
def test_images_per_second_are_of_the_best_batch_that_keeps_the_limit(files, batches, tmp_path, limit):
    config = CONFIG.model_copy(update={"objectives": ("accuracy", f"images_per_second{limit}"), "trials": 8})
    result = search_networks(files / "net", batches, tmp_path / "trials.jsonl", lambda: DATA, config, seed=0)
    assert len(result.trials) == 8
    name = f"images_per_second_in_{limit[1:]}" if limit else "images_per_second"
    best = []
    for trial in result.trials:
        ends = {1: trial["latency_high_ms"], 8: trial["latency_eight_high_ms"]}
        rates = {1: 1000 / trial["latency_ms"], 8: 8000 / trial["latency_eight_ms"]}
        allowed = {b: r for b, r in rates.items() if not limit or ends[b] <= float(limit[1:-2])}
        assert trial[name] == pytest.approx(max(allowed.values(), default=0))
        best.append(trial["best_batch"])
        assert not allowed or trial["best_batch"] == max(allowed, key=allowed.get)
    assert limit or set(best) == {8}
    for one in result.front:
        assert not any(t["accuracy"] > one["accuracy"] and t[name] > one[name] for t in result.trials)


@pytest.mark.parametrize(
    ("text", "which", "message"),
    [
        ("images_per_second", slice(0, 0), "wants latency tables of different batches, not of none"),
        ("images_per_minute", slice(2), "an objective is one of accuracy, .* not 'images_per_minute'"),
        (
            "images_per_second@",
            slice(2),
            "or with a limit for a batch .*, not 'images_per_second@'",
        ),
        ("images_per_seconds", slice(2), "or with a limit for a batch .*, not 'images_per_seconds'"),
        ("images_per_second@fast", slice(2), "a latency budget is like 8ms, above zero, not 'fast'"),
        ("images_per_second@1ms,2ms", slice(2), "one limit"),
    ],
)
def test_other_rates_are_refused(files, batches, tmp_path, text, which, message):
    config = CONFIG.model_copy(update={"objectives": ("accuracy", text)})
    with pytest.raises(UserError, match=message):
        search_networks(files / "net", batches[which], tmp_path / "out/trials.jsonl", lambda: DATA, config, seed=0)
    assert not (tmp_path / "out").exists()


def test_a_search_without_a_latency_table_is_by_multiply_adds(files, tmp_path, capsys):
    from search import run_search

    about = {"flops_budget": "600k", "sampler": "random", "trials": 5, "population": 3}
    about["evaluate"] = lambda arch: int(arch.id, 16) % 97 / 97
    result = run_search(files / "net", DATA, tmp_path / "out", **about)
    assert len(result.trials) == 5 and not any("latency" in column for trial in result.trials for column in trial)
    for one in result.front:  # no other is as good in both
        assert not any(t["accuracy"] > one["accuracy"] and t["macs"] <= one["macs"] for t in result.trials)
    for count, supernet, said in ((1, supernet_id(files / "net"), False), (3, "another", True)):
        chosen = _front_networks(tmp_path / "out/trials.jsonl", SPACE, count, supernet)
        assert len(chosen) == count and {arch.id for arch in chosen} <= {trial.arch for trial in result.trials}
        assert ("of a search with another supernet" in capsys.readouterr().err) == said
    assert result.choose("600k")[0]["accuracy"] == max(trial["accuracy"] for trial in result.trials)
    shutil.copytree(files / "net", tmp_path / "run/supernet")
    shutil.copytree(tmp_path / "out", tmp_path / "run/search")
    with pytest.raises(UserError, match=r"trials\.jsonl is of a search without a latency table, and a report is of"):
        summarise(tmp_path / "run")
    costs = [trial["macs"] for trial in result.choose("even:2")]
    assert costs == sorted(costs)
    with pytest.raises(UserError, match="no network that was evaluated is within 8ms"):
        result.choose("8ms")
    with pytest.raises(UserError, match=r"an objective is one of accuracy, macs, params, .*, not 'latency_ms'"):
        run_search(files / "net", DATA, tmp_path / "a", **about, objectives=["accuracy", "macs", "latency_ms"])
    with pytest.raises(UserError, match="1 latency budgets for 0 latency tables"):
        run_search(files / "net", DATA, tmp_path / "b", **about, latency_budget="8ms")


def test_a_search_without_its_backends_package_writes_nothing(files, tmp_path, monkeypatch):
    monkeypatch.setattr("search.extras.find_spec", lambda _: None)
    config = CONFIG.model_copy(update={"backend": "nni", "sampler": "tpe"})
    with pytest.raises(UserError, match=r"^nni is not installed: pip install 'ghostnas\[nni\]'$"):
        search(files, tmp_path / "out", config)
    with pytest.raises(UserError, match=r"^nni is not installed"):
        check_search(files / "net", [files / "t.lat.json"], config, [], [], None)
    assert not (tmp_path / "out").exists()


NNI = {"backend": "nni", "sampler": "tpe"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 0}, "trials: .* greater than or equal to 1, but got 0"),
        ({"trials": 2.5}, "trials: .*2.5"),
        ({"sampler": "foo"}, "`sampler` of run_search must be .*'foo'"),
        ({"flops_budget": 600_000}, "`flops_budget` of run_search must be .*str, but got 600000"),
        ({"flops_budget": "9" * 400}, "a FLOPs budget must be above zero, below 1e.18 .* but got '999"),
        ({"trial_seconds": float("inf")}, "trial_seconds: .*finite number, but got inf"),
        ({"population": 1}, "population: "),
        ({"workers": 2}, "workers, address and gpus go with the backend ray, not optuna"),
        ({"address": "auto"}, "workers, address and gpus go with the backend ray, not optuna"),
        ({"gpus": 0.5}, "workers, address and gpus go with the backend ray, not optuna"),
        ({"gpus": 1.0} | NNI, "address and gpus go with the backend ray, not nni"),
        ({"storage": "a.journal"} | NNI, "a storage is Optuna's: it goes with the backend optuna or ray, not nni"),
        *(
            ({"gpus": gpus, "backend": "ray"}, f"gpus .* from 0 to 1, .* but got {gpus:g}")
            for gpus in (-1.0, 1.5, float("nan"))
        ),
        ({"fidelity": "f.json", "evaluate": "tuned:1"}, "of inherited accuracy, not of networks evaluated as tuned:1"),
        ({"fidelity": "f.json", "evaluate": lambda arch: 0.5}, "of inherited accuracy, .* as the user's own function"),
        ({"seed": -1}, "a seed must be a whole number from 0 to 9223372036854775807, but got -1"),
        ({"seed": 1 << 64}, "a seed must be"),
        ({"seed": 0.5}, "a seed must be"),
    ],
)
def test_what_a_search_cannot_be_given_is_told_in_a_line(files, tmp_path, given, message):
    from search import run_search

    with pytest.raises((UserError, SpaceError), match=message) as caught:
        run_search(files / "net", DATA, tmp_path / "out", **{"flops_budget": "600k"} | given)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_data_that_are_none_and_ways_that_are_no_text_are_told_in_a_line(files, tmp_path):
    from search import measure_fidelity, run_search

    about = {"flops_budget": "600k", "sampler": "random", "evaluate": lambda arch: 0.5, "trials": 2, "population": 2}
    with pytest.raises(UserError, match=r"`data` of run_search must be Data, or a function .*, but it gave 'digits'"):
        run_search(files / "net", lambda: "digits", tmp_path / "out", **about)
    with pytest.raises(UserError, match=r"^no file .*nope\.jsonl$"):
        measure_fidelity(files / "net", DATA, tmp_path / "out", trials=tmp_path / "nope.jsonl")
    assert not (tmp_path / "out").exists()
    result = run_search(files / "net", lambda: DATA, tmp_path / "out", **about)
    with pytest.raises(UserError, match=r"networks are chosen by knee, .*, not 3$"):
        result.choose(3)


def test_a_search_takes_numpys_whole_numbers(files, tmp_path):
    from search import run_search

    about = {"flops_budget": "600k", "sampler": "random", "evaluate": lambda arch: 0.5}
    numbers = {"trials": 3, "seed": 4, "population": 2}
    plain = run_search(files / "net", DATA, tmp_path / "a", **about, **numbers).trials
    other = run_search(files / "net", DATA, tmp_path / "b", **about, **{k: np.int64(v) for k, v in numbers.items()})
    assert [trial.arch for trial in plain] == [trial.arch for trial in other.trials]
    assert (tmp_path / "a/trials.jsonl").read_text().split("\n")[0] == (
        (tmp_path / "b/trials.jsonl").read_text().split("\n")[0]
    )


@pytest.mark.parametrize("seed", [-1, 1 << 63, 1.0])
def test_other_trainings_refuse_a_seed_that_is_none_before_anything_is_written(files, tmp_path, seed):
    import search as api

    out = tmp_path / "out"
    for begin in (
        lambda: api.train_supernet(SPACE, DATA, out, seed=seed),
        lambda: api.retrain_network(SPACE.smallest, DATA, out, seed=seed),
        lambda: api.retrain_networks({"a": SPACE.smallest}, DATA, out, seeds=[0, seed]),
        lambda: api.measure_fidelity(files / "net", DATA, out, seed=seed),
        lambda: api.calibrate(SPACE, out / "t.lat.json", seed=seed),
        lambda: api.write_kit(SPACE, out, seed=seed),
    ):
        with pytest.raises(UserError, match="a seed must be a whole number from 0 to"):
            begin()
    assert not out.exists()


def test_what_an_earlier_search_left_of_its_front_goes(files, tmp_path):
    from search import choose_networks, run_search

    def rank(arch, metrics):
        return -metrics["accuracy"]

    def later_is_better(arch):
        return next(calls) / 100

    calls = itertools.count(1)

    def goes_on(trials):
        result = run_search(
            *(files / "net", DATA, tmp_path, files / "t.lat.json"),
            flops_budget="600k",
            sampler="random",
            trials=trials,
            evaluate=later_is_better,
            objectives=["accuracy", rank],
        )
        chosen = choose_networks(result, "knee,even:2", files / "t.lat.json", tmp_path)
        for folder, trials in (("front", result.front), ("chosen", chosen)):
            assert {file.stem for file in (tmp_path / folder).glob("*.json")} - {"mine"} == {t.arch for t in trials}
        return {trial.arch for trial in result.front}

    first = goes_on(2)
    (tmp_path / "front/mine.json").write_text("{}")
    assert len(first) == 1 and not first & goes_on(4) and (tmp_path / "front/mine.json").exists()


@pytest.mark.parametrize(
    ("ways", "rule"),
    [
        ("knee,0.00001ms", "no network of space digits was found that is predicted at or below 1e-05 ms"),
        ("1k", "has at most 1k MACs: the nearest feasible one"),
        ("900G..999G", "has 900G to 999G: the nearest feasible one"),
        ("knee,best", "are chosen by knee"),
    ],
)
def test_a_choice_that_no_network_can_answer_is_refused_before_the_search(files, ways, rule):
    with pytest.raises((UserError, SpaceError), match=rule):
        check_search(files / "net", [files / "t.lat.json"], CONFIG, [], (), None, ways)
    check_search(files / "net", [files / "t.lat.json"], CONFIG, [], (), None, "knee,even:2,30ms,600k,400k..600k")
    with pytest.raises(UserError, match="a choice within 8ms wants a latency table"):
        check_search(files / "net", [], CONFIG, [], (), None, "8ms")


def test_latencies_of_another_machine_are_told_and_what_breaks_a_budget_of_this_one_too(
    files, tmp_path, monkeypatch, capsys
):
    from search import choose_networks, run_search

    def chosen_by(table, out):
        settings = {"flops_budget": "600k", "latency_budget": "30ms", "sampler": "random", "trials": 3}
        result = run_search(files / "net", DATA, tmp_path / out, table, **settings)
        chosen = choose_networks(result, "even:2", table, tmp_path / out)
        return chosen, capsys.readouterr().err

    chosen, said = chosen_by(files / "t.lat.json", "there")
    table = LatencyTable.load(files / "t.lat.json")
    assert f", on {table.device.cpu}: not of this machine." in said
    assert "The chosen networks are not timed: the latency table is of another machine." in said
    assert {each.measured_ms for each in chosen} == {None}
    here = tmp_path / "here.lat.json"
    table.model_copy(update={"device": Device.model_validate(this_device())}).save(here)
    monkeypatch.setattr(search_stage, "measure", lambda run, nets, **_: dict.fromkeys(nets, 31.0))
    chosen, said = chosen_by(here, "here")
    assert {each.measured_ms for each in chosen} == {31.0} and "not of this machine" not in said
    assert f"Over the latency budget of 30 ms as timed here: {len(chosen)} of the {len(chosen)} networks" in said


def test_a_search_of_which_every_network_failed_says_why(files, tmp_path):
    from search import run_search

    def fails(arch):
        raise RuntimeError("boom\nand more")

    with pytest.raises(UserError, match=r"evaluated no network: all failed.*'RuntimeError: boom'; see .*trials.jsonl$"):
        run_search(files / "net", DATA, tmp_path, flops_budget="600k", trials=3, sampler="random", evaluate=fails)
    assert {row.state for row in read_trials(tmp_path / "trials.jsonl")} <= {"failed", "repeated", "infeasible"}
    assert not (tmp_path / "front").exists()


ODD = {
    "a name that is none": ({"accuracy": 0.5, 3: 7}, "a column's name must be a text, but got 3"),
    "an empty name": ({"accuracy": 0.5, "": 7}, "a column's name must be a text, but got ''"),
    "a text": ("0.5", "accuracy must be a number, but got '0.5'"),
    "a truth": (True, "accuracy must be a number, but got True"),
    "a tuple": ((0.5, 0.5), "TypeError"),
    "nothing": (None, "TypeError"),
    "a percentage": (55.0, "accuracy must be in [0, 1], but got 55"),
    "no number": (float("nan"), "accuracy is nan"),
    "what the space knows": ({"accuracy": 0.5, "macs": 7}, "macs is known of every network beforehand"),
    "what the table knows": ({"accuracy": 0.5, "latency_ms": 7.0}, "latency_ms is known of every network beforehand"),
    "what the log has": ({"accuracy": 0.5, "seconds": 7.0}, "seconds is a column that a log has anyway"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_evaluator_that_gives_something_else_than_numbers_has_failed(files, what, tmp_path):
    from search import run_search

    given, why = ODD[what]
    calls = iter([0.5, given, 0.5])
    result = run_search(
        *(files / "net", DATA, tmp_path, files / "t.lat.json"),
        flops_budget="600k",
        sampler="random",
        trials=3,
        evaluate=lambda arch: next(calls),
    )
    failed = [trial.error for trial in read_trials(tmp_path / "trials.jsonl") if trial.state == "failed"]
    assert len(failed) == 1 and why in failed[0], failed
    assert [trial["accuracy"] for trial in result.trials] == [0.5, 0.5]


def test_a_function_that_changed_since_its_search_began_is_told(files, tmp_path):
    from search import run_search

    def blocks(arch, metrics):
        return len(arch.blocks) if arch.stem_chs in {"a", "b", "c"} else 2.0

    def go_on(trials, evaluate, objective=blocks, folder=tmp_path / "one"):
        objectives = ["accuracy", objective]
        about = {"flops_budget": "600k", "sampler": "random", "objectives": objectives}
        found = run_search(files / "net", DATA, folder, trials=trials, evaluate=evaluate, **about)
        return [warning for warning in found.warnings if "the code of" in warning]

    def renamed(arch, metrics):
        return len(arch.blocks)

    renamed.__name__ = renamed.name = "blocks"
    assert go_on(2, lambda arch: 0.1) == []
    assert go_on(3, lambda arch: 0.1) == []  # another object, the same code
    assert [line.split(" is ")[0] for line in go_on(4, lambda arch: 0.9)] == ["the code of the evaluator"]
    assert [line.split(" is ")[0] for line in go_on(5, lambda arch: 0.1, renamed)] == ["the code of blocks"]
    assert go_on(6, lambda arch: 0.1) == []
    assert len(read_trials(tmp_path / "one/trials.jsonl")) >= 6
    assert go_on(2, partial(lambda rate, arch: rate, 0.5), folder=tmp_path / "two") == []
    assert go_on(3, partial(lambda rate, arch: rate, 0.2), folder=tmp_path / "two") == []  # not what it closes over
    assert len(go_on(4, partial(lambda rate, arch: 2 * rate, 0.2), folder=tmp_path / "two")) == 1


@pytest.mark.parametrize("way", ["tuned", "trained"])
def test_a_short_training_is_the_one_that_retrain_makes(files, way, tmp_path):
    """To the bit: the same network, read back from a finished training's folder, on the search split."""
    config = Training(epochs=5, batch_size=25, lr=0.05, warmup_epochs=0)
    short = config.model_copy(update={"epochs": 0.5})
    evaluator = make_evaluator(f"{way}:0.5", files / "net", DATA, config, seed=3)
    assert evaluator.config == short
    arch = SPACE.sample(np.random.default_rng(5))
    generator = torch.get_rng_state()
    found = evaluator(arch)
    assert torch.equal(generator, torch.get_rng_state())
    init = files / "net" if way == "tuned" else None
    retrain(arch, DATA, short, tmp_path / "net", seed=3, device=torch.device("cpu"), init=init)
    net = load_network(arch, tmp_path / "net/weights.safetensors")
    assert found == accuracy(net, DATA, DATA.search, arch.resolution)
    assert pickle.loads(pickle.dumps(evaluator))(arch) == found


def test_a_search_by_short_trainings_says_so_and_is_another_search(files, tmp_path):
    config = CONFIG.model_copy(update={"evaluate": "trained:0.5", "trials": 2})
    training = Training(epochs=1, batch_size=25, warmup_epochs=0)
    where = files / "net", [files / "t.lat.json"], tmp_path / "trials.jsonl", lambda: DATA

    def run(config, training):
        return search_networks(*where, config, seed=0, training=training)

    assert len(run(config, training).trials) == 2
    head = next(iter(JsonLines(tmp_path / "trials.jsonl")))
    assert head["evaluate"] == "trained:0.5" and head["training"]["epochs"] == 0.5
    for other, how in ((CONFIG, training), (config.model_copy(update={"evaluate": "tuned:0.5"}), training)):
        with pytest.raises(UserError, match="holds trials of another search: evaluate"):
            run(other, how)
    with pytest.raises(UserError, match="holds trials of another search: training"):
        run(config, training.model_copy(update={"lr": 0.03}))


def test_a_search_on_a_ladder_logs_every_rung(files, tmp_path):
    """Each rung has what its evaluator gives alone, and the better networks have more of them."""
    ways, training = ("inherited", "tuned:0.5", "tuned:1"), Training(epochs=9, batch_size=25, warmup_epochs=0)
    config = CONFIG.model_copy(update={"evaluate": ",".join(ways), "trials": 7, "population": 4})
    where = files / "net", [files / "t.lat.json"], tmp_path / "trials.jsonl", lambda: DATA
    result = search_networks(*where, config, seed=0, training=training)
    head = next(iter(JsonLines(tmp_path / "trials.jsonl")))
    assert head["evaluate"] == config.evaluate and head["training"]["epochs"] == 1
    evaluators = {way: make_evaluator(way, files / "net", DATA, training, 0) for way in ways}
    heights = [len(trial.rungs) for trial in result.trials]
    assert heights[0] == 3 and min(heights) < 3  # the first has no rival
    for trial in result.trials:
        arch = result.arch(trial)
        assert [r.evaluate for r in trial.rungs] == [*ways][: len(trial.rungs)]
        assert [r.accuracy for r in trial.rungs] == [evaluators[r.evaluate](arch) for r in trial.rungs]
    again = search_networks(*where, config.model_copy(update={"trials": 9}), seed=0, training=training)
    assert again.trials[:7] == result.trials and len(again.trials) == 9


@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_not_stretched_searches_a_ladder_as_the_command_does(files, tmp_path, seed):
    """It ended where the front of the first rung didn't grow."""
    config = CONFIG.model_copy(
        update={"evaluate": "inherited,tuned:0.1", "sampler": "guided", "trials": 6, "population": 4}
    )
    trials = [
        search_networks(
            files / "net",
            [files / "t.lat.json"],
            tmp_path / str(most) / "trials.jsonl",
            lambda: DATA,
            config,
            seed=seed,
            most=most,
            training=Training(epochs=1, batch_size=25, warmup_epochs=0),
        ).trials
        for most in (None, 6)
    ]
    assert bare(trials[0]) == bare(trials[1]) and sum(len(trial.rungs) > 1 for trial in trials[1]) >= 2


@pytest.mark.parametrize("images", [70, 900])
def test_an_evaluation_is_priced_by_the_images_that_its_networks_are_fitted_on(files, tmp_path, images):
    shutil.copytree(files / "net", tmp_path / "net")
    metadata = json.loads((tmp_path / "net/supernet.json").read_text())
    assert "images" not in metadata["config"], "of a supernet's training alone, as the pipeline writes it"
    transplant = metadata | {"kind": "transplant", "images": images}
    (tmp_path / "net/supernet.json").write_text(json.dumps(transplant))
    ways = ("inherited", "soft", "tuned:2", "trained:2")
    prices = {way: evaluation_price(way, tmp_path / "net", DATA) for way in ways}
    trained = images_price(0, 2 * len(DATA.train))
    assert prices["inherited"] == prices["soft"] == len(DATA.search) + images
    assert prices["tuned:2"] == prices["inherited"] + trained
    assert prices["trained:2"] == len(DATA.search) + trained
    assert evaluation_price("inherited", files / "net", DATA) == len(DATA.search) + len(DATA.calibration)


def test_what_ladder_stands_for():
    assert split_evaluation("ladder") == split_evaluation("inherited, tuned:1")
    assert split_evaluation("tuned:2") == ["tuned:2"]
    with pytest.raises(UserError, match="each once, not 'tuned:1,tuned:1'"):
        check_evaluation("tuned:1,tuned:1")
    for dear_first in ("tuned:1,inherited", "soft,units", "trained:3,tuned:1"):
        with pytest.raises(UserError, match=f"from cheap to dear: .*, not '{dear_first}'"):
            check_evaluation(dear_first)
    assert check_evaluation("units,soft,inherited,tuned:1,trained:1,tuned:2")


@pytest.mark.parametrize(
    "text",
    ["inherited,", "tuned", "tuned:", "tuned:0", "trained:0.0", "trained:-1", "units:1", "unit", "tuned:1e9", ""],
)
def test_other_ways_to_evaluate_are_refused(text):
    wrong = text.rpartition(",")[2]
    with pytest.raises(
        UserError, match=f"units, soft, inherited, tuned:E or trained:E.* or as ladder, not {re.escape(repr(wrong))}"
    ):
        check_evaluation(text)
