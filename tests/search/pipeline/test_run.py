"""The main job on real digits, small: killed in every stage and resumed, time-boxed, and each command alone."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase
from types import SimpleNamespace

import pytest

from ghostnet import GhostNet
from ghostnet.weights import WeightsError, save_weights
from search.api.estimating import estimate_run
from search.engine.log import SearchHeader
from search.errors import UserError
from search.files import JsonLines
from search.parallel.cluster import HERE
from search.pipeline import run, stages
from search.pipeline.current_run import Run
from search.pipeline.estimate import estimate
from search.pipeline.settings import RunSettings
from search.pipeline.stages import MACS_TOLERANCE
from search.recipes.schema import ParentTraining, parse_recipe
from search.run_folder.run import FIDELITY, PRODUCTS, RESULT, RUN, TRIALS, recorded_recipe
from spaces import named_space
from spaces.errors import SpaceError
from tests.search.command_line import ghostnas, kill, start
from tests.search.data.test_datasets import parquet_folder
from tests.search.test_folders import held

RECIPE = """
data = "digits"
space = "digits"
threads = 1
train_images = 150
[supernet]
epochs = 2
batch_size = 50
random = 1
[latency]
rounds = 2
fit_networks = 10
held_out = 8
minutes = 0.15
[fidelity]
spread = 5
front = 3
trials = 30
[search]
flops_budget = "500k"
trials = 40
population = 15
[retrain]
epochs = 1
batch_size = 50
chosen = 3
baseline_widths = [0.25]
random = 1
seeds = 2
"""


@pytest.mark.parametrize("stopped", [TRIALS, RESULT])
def test_a_search_that_began_in_a_time_box_goes_on_without_a_study(tmp_path, stopped):
    """A resume without the box once made the study, and then refused the search's own log for ever."""
    recipe = parse_recipe(RECIPE, "r")
    boxed, plain = (Run(recipe, tmp_path, RunSettings(minutes=minutes)) for minutes in (5, None))
    assert "fidelity" in plain.stages and "fidelity" not in boxed.stages
    header = SearchHeader(
        schema="ghostnas.trials/3", supernet="", latency_tables=[], data="", norms="", objectives=[], sampler="nsga2",
        population=1,
    )  # fmt: skip
    log = JsonLines(tmp_path / TRIALS)
    log.append(header.to_json())
    (tmp_path / stopped).touch()
    assert "fidelity" not in plain.stages and "fidelity" not in boxed.stages
    (tmp_path / FIDELITY).parent.mkdir()
    (tmp_path / FIDELITY).touch()  # as an earlier version left it
    assert "fidelity" not in plain.stages
    log.path.unlink()
    log.append(header.model_copy(update={"fidelity": "0" * 64}).to_json())
    assert "fidelity" in plain.stages and "fidelity" in boxed.stages


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "train": lambda out: (out / "run.json").exists(),
    "calibrate": lambda out: lines(out / "latency/table.lat.json.visits.jsonl") > 12,
    "fidelity": lambda out: (out / "fidelity/networks").exists(),
    "search": lambda out: lines(out / "search/trials.jsonl") > 20,
    "retrain": lambda out: (out / "networks/A/trained.json").exists(),
    "export": lambda out: (out / "export/A").exists(),
    "report": lambda out: (out / "report").exists(),
}


def kill_when(moment: Callable[[Path], bool], command: list[str], cwd: Path, out: Path) -> None:
    errors = cwd / "stderr"
    process = start(*command, cwd=cwd, stderr=str(errors))
    end = time.monotonic() + 300
    while not moment(out):
        assert process.is_alive(), errors.read_text()
        assert time.monotonic() < end
        time.sleep(0.005)
    kill(process)


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory) -> Path:
    """A run that was killed once in every stage, then finished; and what each kill left."""
    cwd = tmp_path_factory.mktemp("run")
    (cwd / "small.toml").write_text(RECIPE)
    command, out = ["run", "small.toml", "--out", "out", "--resume"], cwd / "out"
    left: dict[str, dict[str, bytes]] = {}
    for stage, moment in MOMENTS.items():
        kill_when(moment, command, cwd, out)
        left[stage] = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    done = ghostnas(*command, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (cwd / "answer.json").write_text(done.stdout)
    for stage, files in left.items():
        finished = [product for product in PRODUCTS.values() if product in files]
        for name in finished:
            assert (out / name).read_bytes() == files[name], f"{name} was made again after the kill in {stage}"
        for log in ("search/trials.jsonl", "fidelity/trials.jsonl", "latency/table.lat.json.visits.jsonl"):
            whole = files.get(log, b"").rpartition(b"\n")[0]
            assert (out / log).read_bytes().startswith(whole), f"{log} lost lines after the kill in {stage}"
    return cwd


def test_a_run_killed_in_every_stage_ends_with_everything(killed_run):
    out = killed_run / "out"
    answer = json.loads((killed_run / "answer.json").read_text())
    assert [n["network"] for n in answer["networks"]] == ["A", "B", "C", "ghostnet-0.25x", "random-1"]
    for network in answer["networks"]:
        files = [out / "networks" / network["network"] / place / "trained.json" for place in ("", "seed-1")]
        accuracies = [json.loads(record_file.read_text())["test_accuracy"] for record_file in files]
        assert network["seeds"] == 2 and network["test_accuracy"] == pytest.approx(sum(accuracies) / 2)
    luck, first = (next(n for n in answer["networks"] if n["network"] == name) for name in ("random-1", "A"))
    assert abs(luck["macs"] / first["macs"] - 1) <= MACS_TOLERANCE
    judged = json.loads((out / "fidelity/fidelity.json").read_text())
    first = [t["arch"] for t in list(JsonLines(out / "fidelity/trials.jsonl"))[1:]]
    assert len(judged["networks"]) == 8 and len(first) >= 30
    assert {n["arch"] for n in judged["networks"] if n["kind"] == "front"} <= set(first)
    trials = list(JsonLines(out / "search/trials.jsonl"))[1:]
    assert all("inherited" in t for t in trials if t["state"] == "complete")
    complete = [t["arch"] for t in trials if t["state"] == "complete"]
    assert len(complete) == len(set(complete)) == 40
    assert all(t["macs"] <= 500_000 for t in trials if t["state"] == "complete")
    visits = [
        (v["item"], v["visit"]) for v in list(JsonLines(out / "latency/table.lat.json.visits.jsonl"))[1:] if "item" in v
    ]
    assert len(visits) == len(set(visits))
    for label in "ABC":
        manifest = json.loads((out / "export" / label / "manifest.json").read_text())
        assert manifest["files"]["model.onnx"]["top1_agreement"] == 1.0
        assert manifest["latency"]["measured_ms"] > 0 and 0 <= manifest["accuracy"]["test"] <= 1
        assert {"macs", "params"} <= set(manifest) and manifest["latency"]["predicted_ms"] > 0
    for file in ("report.html", "front.png", "front.svg", "architectures.png", "fidelity.png"):
        assert (out / "report" / file).stat().st_size > 3000
    assert not list(out.rglob("*.tmp")) and not list(out.rglob("checkpoint.pt"))


def test_a_run_is_told_from_others_by_what_it_is(tmp_path):
    """Data that moved is still the data; a run at work is nobody else's."""
    first = parquet_folder(tmp_path / "here", train=200, test=40, size=16)
    recipe = parse_recipe(RECIPE.replace('"digits"', '"parquet:DATA"', 1).replace("train_images = 150", ""), "small")

    def opened(data: Path, resume: bool = True, **changes):
        update = {"data": f"parquet:{data}"} | changes
        return run.open_run(recipe.model_copy(update=update), tmp_path / "out", RunSettings(resume=resume))

    (tmp_path / "out/.out.tmp").mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty and holds no run"), opened(first):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".out.tmp"]
    (tmp_path / "out/.out.tmp").rmdir()
    with opened(first, resume=False):
        pass
    with pytest.raises(UserError, match="holds a run already"), opened(first, resume=False):
        pass
    there = first.rename(tmp_path / "there")
    with opened(there) as job:
        assert job.data.name == f"parquet:{there}"
    assert recorded_recipe(tmp_path / "out").data == f"parquet:{there}"
    other = parquet_folder(tmp_path / "other", train=201, test=40, size=16)
    for data, changes, message in (
        (there, {"seed": 3}, "recipe.seed is 0, not 3$"),
        (other, {}, "data is [0-9a-f]{12}, not [0-9a-f]{12}$"),
        (other, {"train_images": 50}, "recipe.train_images is unknown, not 50; data is "),
    ):
        with pytest.raises(UserError, match=f"out holds another run: {message}"), opened(data, **changes):
            pass
    with held(tmp_path / "out") as pid, pytest.raises(UserError, match=f"out is in use by process {pid}"):
        opened(there).__enter__()


def test_a_time_box_is_shared_without_the_file_of_a_parent_that_is_taken_in(tmp_path, monkeypatch):
    asked = []

    def estimated(recipe, processes, located):
        asked.append(dict(located))
        raise UserError("steps can't be timed")  # which ends no run: the box is then shared as usual

    given = ParentTraining(epochs=1.0, parent="gone/net")
    recipe = parse_recipe(RECIPE, "small").model_copy(update={"supernet": given})
    monkeypatch.setattr("search.pipeline.estimate.estimate", estimated)
    for done in (True, False):
        monkeypatch.setattr(Run, "done", lambda self, stage, done=done: done or stage != "train")
        monkeypatch.setattr("search.pipeline.stages.train", lambda run: None)
        run.run(Run(recipe, tmp_path, RunSettings(minutes=5)))
    assert asked == [{Path("gone/net"): tmp_path / "supernet/parent"}, {}]


def test_a_parent_that_cant_be_one_is_refused_before_anything_is_written(tmp_path):
    net = GhostNet(named_space("cifar").uniform(0.25), num_classes=10, in_chs=1)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/arch.json").write_text(net.arch.to_json())
    save_weights(net, tmp_path / "net/weights.safetensors")
    recipe, out = parse_recipe(RECIPE, "small"), tmp_path / "out"
    for update, message in (
        ({"parent": str(tmp_path / "net")}, "net can't be the parent of space digits: strides"),
        ({"parent": str(tmp_path / "none.pth")}, "none.pth"),
        ({"tune": "head"}, "`tune` = 'head' goes with `parent`"),
    ):
        changed = recipe.model_copy(update={"supernet": ParentTraining(epochs=1.0, **update)})
        with pytest.raises((UserError, WeightsError), match=message), run.open_run(changed, out, RunSettings()):
            pass
        assert not out.exists() or not [path for path in out.iterdir() if not path.name.startswith(".")]
        with pytest.raises((UserError, WeightsError), match=message):
            estimate(changed)


def bare(path: Path) -> list[dict]:
    return [t | {"seconds": 0} for t in list(JsonLines(path))[1:]]


def test_the_killed_search_found_what_an_unbroken_one_finds(killed_run):
    """Same supernet, same table, same seed: same architectures, same accuracies; also where sets have another order."""
    arguments = ["--flops-budget", "500k", "--trials", "40", "--population", "15", "--out", "again"]
    files = ["--supernet", "out/supernet", "--latency", "out/latency/table.lat.json"]
    files += ["--fidelity", "out/fidelity/fidelity.json"]
    command = [sys.executable, "-m", "search", "search", *files, *arguments, "--json"]
    done = subprocess.run(
        command, cwd=killed_run, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again, run = bare(killed_run / "again/trials.jsonl"), bare(killed_run / "out/search/trials.jsonl")
    assert again == run
    front = json.loads(done.stdout)["front"]
    assert [t["arch"] for t in front] == json.loads((killed_run / "out/search/result.json").read_text())["front"]
    assert (killed_run / "again/front" / f"{front[0]['arch']}.json").exists()


def test_each_command_alone(killed_run):
    table = "out/latency/table.lat.json"
    output = json.loads(ghostnas("cost", "out/export/A", "--latency", table, "--json", cwd=killed_run).stdout)
    manifest = json.loads((killed_run / "out/export/A/manifest.json").read_text())
    assert output["macs"] == manifest["macs"]
    assert output["latency_ms"] == pytest.approx(manifest["latency"]["predicted_ms"])
    weights = "out/networks/A/weights.safetensors"
    done = ghostnas("export", "out/networks/A", "--weights", weights, "--to", "onnx", "--out", "exp", cwd=killed_run)
    assert done.returncode == 0 and (killed_run / "exp/model.onnx").exists(), done.stderr
    wrong = ghostnas("export", "ghostnet-0.5", "--weights", weights, "--out", "exp2", cwd=killed_run)
    assert wrong.returncode == 2 and "not weights of architecture" in wrong.stderr
    assert not (killed_run / "exp2").exists()
    report = ghostnas("report", "out", cwd=killed_run)
    assert report.returncode == 0 and "Report: out/report/report.html" in report.stdout
    by_folder = ghostnas("run", "--out", "out", "--resume", cwd=killed_run)
    assert by_folder.returncode == 0 and "report: done before" in by_folder.stderr
    again = ghostnas("run", "small.toml", "--out", "out", cwd=killed_run)
    assert again.returncode == 2 and "--resume" in again.stderr
    other = ghostnas("run", "small.toml", "--out", "out", "--resume", "--seed", "5", cwd=killed_run)
    assert other.returncode == 2 and "holds another run: recipe.seed is 0, not 5" in other.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[search]", '[search]\nobjectives = ["accuracy", "foo"]'), "an objective is one of .* not 'foo'"),
        (("[search]", '[search]\nobjectives = ["accuracy"]'), "accuracy and at least one more"),
        (
            ('flops_budget = "500k"', 'flops_budget = "300k"\nparams_budget = "60k..200k"'),
            "no network of at most 300k MACs and 60k to 200k parameters found in",
        ),
        (("[retrain]", "[retrain]\nbaseline_widths = [0.51]"), "GhostNet at 1, 0.75, 0.5, 0.25, not at 0.51"),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_before_anything_is_written(tmp_path, change, words):
    recipe = parse_recipe(re.sub(r"(?m)^(objectives|baseline_widths).*$", "", RECIPE).replace(*change), "mine")
    with pytest.raises((UserError, SpaceError), match=words):
        estimate_run(recipe, tmp_path)
    with pytest.raises((UserError, SpaceError), match=words), run.open_run(recipe, tmp_path / "run", RunSettings()):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("backend", "message"), [("nni", "nni is not installed"), ("ray", "the backend ray needs Ray: pip install")]
)
def test_a_run_without_its_backend_is_refused_at_once(backend, message, tmp_path, monkeypatch):
    monkeypatch.setattr("search.extras.find_spec", lambda _: None)
    recipe = parse_recipe(RECIPE.replace("[search]", f'[search]\nbackend = "{backend}"\nsampler = "tpe"'), "mine")
    with pytest.raises(UserError, match=message), run.open_run(recipe, tmp_path / "run", RunSettings()):
        pass


@pytest.mark.parametrize(
    ("storage", "words"),
    [("mysql+pymysql://u@127.0.0.1/db", "pip install pymysql$"), ("sqlite:////no/such/x.db", "can't be opened")],
)
def test_a_run_whose_storage_cant_be_opened_is_refused_at_once(tmp_path, monkeypatch, storage, words):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    recipe = parse_recipe(RECIPE.replace("[search]", f'[search]\nstorage = "{storage}"'), "mine")
    with pytest.raises(UserError, match=words), run.open_run(recipe, tmp_path / "run", RunSettings()):
        pass
    assert not (tmp_path / "run" / RUN).exists()


def test_a_time_box_ends_cleanly_and_says_what_it_cut(tmp_path):
    """On images in the Hugging Face layout, which also shows other classes and channels than the space's own."""
    parquet_folder(tmp_path / "images", train=200, test=40, size=16)
    endless = re.sub(r"(?m)^epochs = \d+$", "epochs = 5000", RECIPE)
    (tmp_path / "long.toml").write_text(endless.replace("train_images = 150", ""))
    arguments = ["--data", "parquet:images", "--out", "out", "--minutes", "0.3", "--json"]
    done = ghostnas("run", "long.toml", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert 1 <= len(answer["networks"]) <= 5
    assert any("supernet had" in note for note in answer["notes"])
    assert any("full training had" in note for note in answer["notes"])


def test_networks_are_timed_as_the_table_was(tmp_path, monkeypatch):
    """Of an int8 recipe as int8, at its batch, by its quiet moments: what is measured is what was predicted."""
    from search.recipes.schema import parse_recipe

    recipe = parse_recipe(RECIPE.replace("[latency]", '[latency]\ndtype = "int8"\nbatch = 8'), "int8")
    asked = {}
    monkeypatch.setattr(stages, "networks", lambda job: {})
    monkeypatch.setattr(stages, "inherited", lambda job, archs: {})
    monkeypatch.setattr(stages, "train_all", lambda *_, **__: {})
    monkeypatch.setattr(stages, "summarise_seeds", lambda *_: {})
    monkeypatch.setattr(stages, "format_accuracies", lambda _: "")
    monkeypatch.setattr(stages, "runtime", lambda name, threads, dtype: asked.update(dtype=dtype))
    monkeypatch.setattr(stages, "LatencyTable", SimpleNamespace(load=lambda path: path.name))
    monkeypatch.setattr(stages, "usual_reference_ms", lambda table: 0.1 if table == "table.lat.json" else 0.0)
    monkeypatch.setattr(
        stages,
        "measure",
        lambda run, networks, seed, batch, usual_ms: asked.update(batch=batch, usual_ms=usual_ms) or {},
    )
    run = {"recipe": recipe, "out": tmp_path, "settings": RunSettings(), "training_cluster": HERE, "data": None}
    run |= {"processes": 1}
    stages.retrain(SimpleNamespace(**run, box=lambda stage: None))
    assert asked == {"dtype": "int8", "batch": 8, "usual_ms": 0.1}


def test_every_chosen_network_has_a_name_of_its_own():
    names = stages.labels(26 + 26**2 + 1)
    assert names[:26] == list(ascii_uppercase) and names[26:28] == ["AA", "AB"] and names[-1] == "AAA"
    assert len(set(names)) == len(names)
