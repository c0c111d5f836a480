"""Stages that go on: a network that can't be exported is left out, said, and told by the exit code; doubts are kept."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from ghostnet import GhostNet
from search.data.datasets import load_data
from search.engine.objectives import ACCURACY, LATENCY, PARAMS
from search.errors import UserError
from search.latency.table import LatencyTable
from search.pipeline import stages
from search.pipeline.current_run import Run
from search.pipeline.search_stage import SearchOutcome, accuracy_warnings, failure_warnings, rank_warnings
from search.pipeline.settings import RunSettings
from search.pipeline.step_times import StepTimes
from search.recipes.schema import load_recipe, parse_recipe
from search.report.report import write_report
from search.report.summary import summarise
from search.run_folder.result import read_figures, read_result
from search.run_folder.run import PRODUCTS, TIMES, recorded_recipe
from tests.search.command_line import ghostnas
from tests.search.runs import made_up_run
from tests.search.searches import SPACE, complete_trial, problem

LEFT_OUT = "model.onnx differs from the PyTorch network by 3; at most 1 is allowed"


def exporting(monkeypatch, folder: Path, fault: Exception) -> list[str]:
    """Runs the stage with trained networks that are none and an export that fails for the second; what it wrote."""
    written = []

    def write(net, out, formats, images, output):
        if out.name == "B":
            raise fault
        written.append(out.name)

    files = {"data": "digits", "classes": ["0"], "mean": [0.0], "std": [1.0], "seed": 0}
    for file in (folder / "networks").glob("*/trained.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | files))
        file.with_name("weights.safetensors").touch()
    monkeypatch.setattr(stages, "write_network", write)
    monkeypatch.setattr(stages, "load_network", lambda arch, path: GhostNet(arch, 10, 1))
    stages.export(Run(recorded_recipe(folder), folder))
    return written


def test_a_network_that_cannot_be_exported_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    folder = made_up_run(tmp_path / "run")
    assert exporting(monkeypatch, folder, UserError(LEFT_OUT)) == ["A", "C"]
    done = json.loads((folder / PRODUCTS["export"]).read_text())
    assert done == {"exported": ["A", "C"], "left_out": {"B": LEFT_OUT}}
    assert f"warning: B is not exported: {LEFT_OUT}" in " ".join(capsys.readouterr().err.split())
    page = write_report(folder)
    assert f"B is not exported: {LEFT_OUT}" in page.read_text()
    again = ghostnas("run", "--out", "run", "--resume", "--json", cwd=tmp_path)
    assert again.returncode == 1, again.stderr
    answer = json.loads(again.stdout)
    assert f"B is not exported: {LEFT_OUT}" in answer["notes"] and len(answer["networks"]) == 6


def test_weights_that_were_changed_are_not_exported(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    file = folder / "networks/B/trained.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"networks/B/weights\.safetensors was changed: trained\.json beside it is of"):
        exporting(monkeypatch, folder, UserError(LEFT_OUT))
    assert not (folder / PRODUCTS["export"]).exists()


def test_shares_above_one_are_refused(tmp_path):
    folder = made_up_run(tmp_path / "run")
    (folder / "networks/inherited.json").write_text('{"A": 7.0}')
    with pytest.raises(UserError, match=r"inherited\.json: .*A.* 1, but got 7"):
        write_report(folder)


def test_a_full_disk_is_no_fault_of_the_network(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    with pytest.raises(OSError, match="No space"):
        exporting(monkeypatch, folder, OSError(28, "No space left on device"))
    assert not (folder / PRODUCTS["export"]).exists()


def test_a_chosen_network_without_a_latency_is_said(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    file = folder / PRODUCTS["retrain"]
    file.write_text(json.dumps({name: ms for name, ms in json.loads(file.read_text()).items() if name != "B"}))
    with pytest.raises(UserError, match=r"latency\.json has no latency of B; without that file"):
        exporting(monkeypatch, folder, UserError(LEFT_OUT))
    assert not (folder / PRODUCTS["export"]).exists()


def test_networks_are_chosen_by_the_objectives_of_the_search(tmp_path, monkeypatch):
    """Of four two are on the front of latency, and all on that of parameters."""
    folder = made_up_run(tmp_path / "run")
    points = [(0.9, 1.0, 9), (0.8, 0.5, 8), (0.7, 3.0, 7), (0.6, 2.0, 6)]
    trials = [
        complete_trial(k, SPACE.encode(SPACE.smallest).tolist(), accuracy=a, latency_ms=ms, params=params)
        for k, (a, ms, params) in enumerate(points)
    ]
    for objectives in ((ACCURACY, LATENCY), (ACCURACY, PARAMS)):
        task = problem(flops="2M", objectives=objectives)
        monkeypatch.setattr(stages, "_search", lambda *_, task=task: SearchOutcome(task, trials))
        recipe = recorded_recipe(folder)
        few = recipe.retrain.model_copy(update={"chosen": 2, "random": 0})
        stages.search(Run(recipe.model_copy(update={"retrain": few}), folder))
        result = read_result(folder / "search/result.json")
        assert len(result.front) == (2 if objectives[1] is LATENCY else 4)
        ends = {trials[0].arch, trials[1].arch if objectives[1] is LATENCY else trials[3].arch}
        assert {trial.arch for trial in result.chosen.values()} == ends


def test_what_a_table_ranks_poorly_is_warned_of(tmp_path):
    file = made_up_run(tmp_path / "run") / "latency/table.lat.json"
    table = LatencyTable.load(file)
    assert rank_warnings([file]) == []
    poor = table.validation.model_copy(update={"kendall_tau": 0.69})
    table.model_copy(update={"validation": poor}).save(tmp_path / "poor.lat.json")
    (message,) = rank_warnings([file, tmp_path / "poor.lat.json"])
    assert message.startswith("poor.lat.json ranks networks that it never saw to a Kendall tau of 0.69, below 0.7")


def test_a_latency_budget_that_nothing_meets_is_told_with_how_to_use_what_is_there(tmp_path):
    folder = made_up_run(tmp_path / "a run", upto="calibrate")
    (folder / "search/trials.jsonl").unlink()
    recipe = recorded_recipe(folder)
    recipe = recipe.model_copy(
        update={"search": recipe.search.changed(latency_budget="0.00001ms", evaluate="inherited")}
    )
    with pytest.raises(UserError, match="is predicted at or below 1e-05 ms") as caught:
        stages.search(Run(recipe, folder))
    command = re.search("`(.*)`", str(caught.value))[1]
    assert shlex.split(command) == [
        *("ghostnas", "search", "--supernet", f"{folder}/supernet", "--latency", f"{folder}/latency/table.lat.json")
    ]
    assert not (folder / "search/trials.jsonl").exists()


def test_networks_that_could_not_be_evaluated_are_warned_of():
    done = [complete_trial(k, accuracy=0.5, latency_ms=1.0) for k in range(3)]
    failed = complete_trial(7, accuracy=0.5, latency_ms=1.0).model_copy(
        update={"state": "failed", "error": "ValueError: no\nmore"}
    )
    assert failure_warnings(done) == []
    (message,) = failure_warnings([failed, *done])
    assert message == "1 of 4 networks could not be evaluated, the first for 'ValueError: no'"


def test_a_search_among_networks_at_chance_is_warned_of():
    data = load_data("digits", 16)
    at_chance, able = ([complete_trial(k, accuracy=0.1 + k * step) for k in range(9)] for step in (0.0, 0.1))
    assert "median accuracy, 10.00% on" in accuracy_warnings(at_chance, data)[0]
    assert accuracy_warnings(able, data) == accuracy_warnings([], data) == []


def test_doubts_of_every_file_stand_in_the_notes(tmp_path):
    folder = made_up_run(tmp_path)
    for name in ("supernet/supernet.json", "search/result.json", "networks/A/trained.json", "networks/B/trained.json"):
        file = folder / name
        warnings = [f"doubt of {file.stem}", *["another"] * (file.parent.name == "B")]
        file.write_text(json.dumps(json.loads(file.read_text()) | {"warnings": warnings}))
    wanted = {"Supernet: doubt of supernet.", "Search: doubt of result.", "Networks A, B: doubt of trained."}
    assert wanted | {"Network B: another."} <= set(summarise(folder).notes)


def test_chosen_networks_that_nobody_had_to_find_are_named(tmp_path):
    folder = made_up_run(tmp_path)
    file = folder / "search/result.json"
    record = json.loads(file.read_text())
    assert not [note for note in summarise(folder).notes if "nothing new" in note]
    known = {"A": SPACE.uniform(0.5), "C": SPACE.uniform(1.0)}
    for label, arch in known.items():
        record["chosen"][label] |= {"arch": arch.id, "code": SPACE.encode(arch).tolist()}
    record["front"] = [known["A"].id, known["C"].id]
    file.write_text(json.dumps(record))
    (note,) = [note for note in summarise(folder).notes if "nothing new" in note]
    assert note.startswith("A is GhostNet 0.5x, C is GhostNet 1x: ")
    file.write_text(json.dumps(record | {"front": [known["C"].id]}))  # A fills it up
    (note,) = [note for note in summarise(folder).notes if "nothing new" in note]
    assert note.startswith("C is GhostNet 1x: ")


@pytest.mark.parametrize(
    ("ended", "note"),
    [
        ("time box", "Time-boxed: 3 of 9 networks were evaluated."),
        ("no new networks", "The sampler had no new networks: 3 of 9 networks were evaluated."),
        ("trials", "Some evaluations failed: 3 of 9 networks were evaluated."),
        (None, "Time-boxed: 3 of 9 networks were evaluated."),  # of an earlier version, which doesn't say
    ],
)
def test_a_search_of_fewer_networks_than_planned_says_what_ended_it(tmp_path, ended, note):
    folder = made_up_run(tmp_path)
    file = folder / "search/result.json"
    record = json.loads(file.read_text()) | {"evaluated": 3, "planned": 9, "ended": ended}
    file.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))
    assert [each for each in summarise(folder).notes if "3 of 9" in each] == [note]


def test_a_resumed_run_counts_its_stages_as_the_unbroken_one(tmp_path):
    recipe = parse_recipe(
        'data = "digits"\nspace = "digits"\n[supernet]\nepochs = 1\n[search]\nflops_budget = "1M"\n'
        "[retrain]\nepochs = 1\n[fidelity]\nspread = 8\n",
        "mine",
    )
    counts = []
    stages = ["train", "calibrate", "fidelity", "search", "retrain", "export", "report"]
    for k, stage in enumerate(stages):
        run = Run(recipe, tmp_path)
        counts.append(len(run.stages))
        assert run.stages == stages and run.to_come == stages[k:]
        (tmp_path / PRODUCTS[stage]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / PRODUCTS[stage]).touch()
    assert counts == [len(PRODUCTS)] * len(PRODUCTS)


def test_a_network_that_the_time_box_left_out_is_not_exported(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    for name in ("A", "ghostnet-0.25x"):
        (folder / "networks" / name / "trained.json").unlink()
    assert exporting(monkeypatch, folder, UserError(LEFT_OUT)) == ["C"]
    done = json.loads((folder / PRODUCTS["export"]).read_text())
    assert done == {"exported": ["C"], "left_out": {"B": LEFT_OUT}}
    assert "4 of 5 networks are fully trained." in write_report(folder).read_text()


STEP_S = 0.01  # of every network


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (1000.0, {"A", "B", "C", "ghostnet-0.25x", "random-1"}),
        (5.0, {"A", "B", "C", "ghostnet-0.25x", "random-1"}),
        (4.9, {"A", "B", "C", "ghostnet-0.25x"}),
        (3.1, {"A", "B", "C"}),
        (2.0, {"A", "C"}),
        (0.1, {"C"}),
    ],
)
def test_a_time_box_trains_as_many_networks_as_get_enough_steps(tmp_path, monkeypatch, capsys, seconds, wanted):
    """A hundred steps each, which take a second here; the most accurate network first, random ones last."""
    run = Run(load_recipe("digits"), made_up_run(tmp_path / "run", upto="search"), RunSettings(minutes=1))
    names, rng = ("A", "B", "C", "ghostnet-0.25x", "random-1"), np.random.default_rng(0)
    archs = {name: SPACE.sample(rng) for name in names}
    result = json.loads((run.out / "search/result.json").read_text())
    (run.out / "search/result.json").write_text(json.dumps(result | {"random": {"random-1": [0]}}))
    monkeypatch.setattr(StepTimes, "steps", lambda *_: (5000, 0))
    kept = stages.within_time_box(run, archs, seconds, dict.fromkeys(archs, STEP_S))
    assert {*kept} == wanted and [*kept] == [name for name in archs if name in wanted]
    said = capsys.readouterr().err
    assert ("networks are trained, so that each gets 100 steps" in said) == (1 < len(wanted) < 5)
    assert ("and even so the first won't get 100 steps" in said) == (len(wanted) == 1)


def test_a_network_that_stands_for_two_takes_the_time_of_one(tmp_path):
    run = Run(load_recipe("digits"), made_up_run(tmp_path / "run", upto="search"), RunSettings(minutes=1))
    archs = {"A": SPACE.smallest, "B": SPACE.uniform(0.25), "C": SPACE.largest, "ghostnet-0.25x": SPACE.uniform(0.25)}
    step = 1 / stages.least_steps(run)  # so that each takes a second
    assert {*stages.within_time_box(run, archs, 3.0, dict.fromkeys(archs, step))} == {*archs}
    assert {*stages.within_time_box(run, archs, 1.9, dict.fromkeys(archs, step))} == {"C"}


def test_a_network_under_two_names_is_timed_once(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    one, other = SPACE.uniform(0.75), SPACE.uniform(1.0)
    monkeypatch.setattr(stages, "networks", lambda run: {"A": other, "C": one, "ghostnet-0.75x": one})
    monkeypatch.setattr(stages, "train_all", lambda *_, **__: [])
    monkeypatch.setattr(stages, "summarise_seeds", lambda *_: {})
    monkeypatch.setattr(stages, "load_network", lambda arch, path: GhostNet(arch, 10, 1))
    monkeypatch.setattr(stages, "measure", lambda target, nets, *_: {name: 1.0 + k for k, name in enumerate(nets)})
    stages.retrain(Run(recorded_recipe(folder), folder))
    assert read_figures(folder / TIMES) == {"A": 1.0, "C": 2.0, "ghostnet-0.75x": 2.0}


def test_a_time_box_leaves_no_trained_network_out(tmp_path, monkeypatch):
    run = Run(load_recipe("digits"), made_up_run(tmp_path / "run"), RunSettings(minutes=1))
    archs = dict.fromkeys(("A", "B", "C", "ghostnet-0.25x"), SPACE.largest)
    (run.out / "networks/B/trained.json").unlink()
    assert {*stages.within_time_box(run, archs, 0.01, dict.fromkeys(archs, STEP_S))} == {*archs}


def test_which_networks_a_run_would_rather_train(tmp_path):
    folder = made_up_run(tmp_path / "run", upto="search")
    result = read_result(folder / "search/result.json")
    names = ["A", "B", "C", "ghostnet-0.5x", "ghostnet-0.75x"]
    assert stages.by_importance(names, result) == ["C", "A", "B", "ghostnet-0.5x", "ghostnet-0.75x"]
    assert stages.by_importance(["A", "ghostnet-0.5x"], result) == ["A", "ghostnet-0.5x"]
