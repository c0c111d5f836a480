"""The stage that trains fully: what its networks begin with, and who teaches them."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from search.data.datasets import load_data
from search.parallel import processes
from search.pipeline import stages
from search.pipeline.retrain_stage import train_all
from search.pipeline.run import open_run
from search.pipeline.settings import RunSettings
from search.pipeline.step_times import StepTimes
from search.recipes.schema import Training, parse_recipe
from search.records import write_record
from search.report.repeat import commands
from search.report.report import write_report
from search.report.summary import summarise
from search.run_folder.run import PRODUCTS, TABLE, recorded_recipe
from search.training.distributed import best_device
from search.training.records import TRAINED_FILE, read_trained
from search.training.retrain import Job, retrain
from search.training.time_box import TimeBox
from spaces import named_space
from tests.search.runs import made_up_table

RECIPE = """
data = "digits"
threads = 1
train_images = 200
[space]
base = "digits"
widths = [0.25, 0.5]
ratios = {ratios}
[supernet]
kind = "transplant"
epochs = 1
batch_size = 32
images = 64
{parent}
[latency]
minutes = 3
[search]
flops_budget = "250k"
trials = 3
population = 2
[retrain]
epochs = 0.5
batch_size = 32
chosen = 1
baseline_widths = {baselines}
use_held_out = {use_held_out}
"""
SPACE = replace(named_space("digits"), widths=(0.25, 0.5), ratios=(1, 2))
USUAL = {"use_held_out": "true", "parent": "", "ratios": "[1, 2]", "baselines": "[0.25]"}


def trained(out: Path, **changes: str) -> Path:
    """A run up to its full trainings, with a made-up latency table."""
    recipe = parse_recipe(RECIPE.format_map(USUAL | changes), "mine")
    with open_run(recipe, out, RunSettings(resume=True)) as run:
        (out / TABLE).parent.mkdir(exist_ok=True)
        made_up_table(np.random.default_rng(0), run.space).save(out / TABLE)
        for stage in (stages.train, stages.search, stages.retrain):
            if not run.done(stage.__name__):
                stage(run)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("whole") / "run")


def test_a_time_box_is_shared_by_what_networks_wait_for_their_teacher(whole, monkeypatch):
    monkeypatch.setattr(StepTimes, "step_seconds", lambda _, arch, config, teacher=None: 3.0 if teacher else 1.0)
    with open_run(recorded_recipe(whole), whole, RunSettings(resume=True)) as run:
        archs = dict.fromkeys(("A", "B", "C"), SPACE.smallest)
        assert stages.step_seconds(run, archs, taught=True) == {"A": 3.0, "B": 1.0, "C": 1.0}
        assert stages.step_seconds(run, archs, taught=False) == {"A": 1.0, "B": 1.0, "C": 1.0}


def test_who_sees_held_out_images_is_taught_by_a_parent_that_has_seen_them(whole):
    parent = read_trained(whole / "networks/parent" / TRAINED_FILE)
    assert parent.config["use_held_out"] and parent.teacher is None
    assert parent.init == str(whole / "supernet/parent") and parent.arch == SPACE.uniform(0.5).id
    assert not read_trained(whole / "supernet/parent" / TRAINED_FILE).config.get("use_held_out")
    for name in ("A", "ghostnet-0.25x"):
        network = read_trained(whole / "networks" / name / TRAINED_FILE)
        assert network.init == str(whole / "final-supernet")
        assert network.teacher == f"supernet:{whole / 'final-supernet'}"
    folders = ("networks", "final-supernet", "supernet")
    trained, copied, before = ((whole / each / "parent/weights.safetensors").read_bytes() for each in folders)
    assert trained == copied != before


def test_a_parent_sees_no_images_that_are_mixed_for_its_pupils(tmp_path):
    """Whom it tells what they are."""
    out = trained(tmp_path / "run", use_held_out="true\ncutmix = 1.0\nmixup = 0.5")
    parent, network = (read_trained(out / "networks" / name / TRAINED_FILE) for name in ("parent", "A"))
    assert not parent.config.get("cutmix") and not parent.config.get("mixup") and parent.config["use_held_out"]
    assert (network.config["cutmix"], network.config["mixup"]) == (1.0, 0.5)
    assert parent.training.planned_epochs == network.training.planned_epochs / 4
    trained(out, use_held_out="true\ncutmix = 1.0\nmixup = 0.5")  # and is asked for no other


def test_a_parent_may_learn_from_itself_before_it_teaches(tmp_path):
    asked = "true\ncutmix = 1.0\nself_distill = true"
    out = trained(tmp_path / "run", use_held_out=asked)
    names = ("parent/teacher", "parent", "A")
    first, parent, network = (read_trained(out / "networks" / name / TRAINED_FILE) for name in names)
    assert first.init == str(out / "supernet/parent") and first.teacher is None and not first.config.get("cutmix")
    assert parent.init == str(out / "networks/parent/teacher") and parent.teacher == f"network:{parent.init}"
    assert parent.config == network.config and parent.training.planned_epochs == network.training.planned_epochs
    folders = ("networks/parent", "final-supernet/parent", "networks/parent/teacher")
    last, copied, before = ((out / each / "weights.safetensors").read_bytes() for each in folders)
    assert last == copied != before
    others = read_trained(out / "networks/ghostnet-0.25x" / TRAINED_FILE)
    seconds = sum(each.training.seconds for each in (first, parent, network, others))
    assert summarise(out).seconds["full training"] == pytest.approx(seconds)

    begun = (out / "networks/parent/teacher" / TRAINED_FILE).stat().st_mtime_ns
    for file in (out / PRODUCTS["retrain"], out / "networks/parent" / TRAINED_FILE):  # as if killed in its second one
        file.unlink()
    for name in ("final-supernet", "networks/A", "networks/ghostnet-0.25x"):
        shutil.rmtree(out / name)
    trained(out, use_held_out=asked)
    assert (out / "networks/parent/teacher" / TRAINED_FILE).stat().st_mtime_ns == begun
    assert (out / "networks/parent/weights.safetensors").read_bytes() == last
    assert read_trained(out / "networks/A" / TRAINED_FILE).identity == network.identity


def test_a_parent_that_nobody_teaches_may_be_the_mean_of_several(tmp_path):
    """And then learns from that itself; networks, which are taught, are trained once."""
    asked = "true\ncutmix = 1.0\nself_distill = true\nsoup = 3"
    out = trained(tmp_path / "run", use_held_out=asked)
    first, parent = out / "networks/parent/teacher", out / "networks/parent"
    mean, *each = (load_file(folder / "weights.safetensors") for folder in (first, *(first / "soup").iterdir()))
    name = "blocks.0.0.ghost1.primary_conv.0.weight"
    assert len(each) == 3 and not np.array_equal(each[0][name], each[1][name])
    np.testing.assert_allclose(mean[name], np.mean([one[name] for one in each], axis=0), rtol=1e-5, atol=1e-7)
    starts = {read_trained(file).init for file in first.rglob(TRAINED_FILE)}
    assert starts == {str(out / "supernet/parent")} and read_trained(parent / TRAINED_FILE).init == str(first)
    assert not (parent / "soup").exists() and not list((out / "networks/A").glob("soup"))

    alone = trained(tmp_path / "alone", use_held_out=asked.replace("3", "1"))
    one, two = (folder / "weights.safetensors" for folder in (alone / "networks/parent/teacher", first / "soup/1"))
    assert one.read_bytes() == two.read_bytes()
    (shown,) = (n for n in summarise(out).networks if n.kind == "parent")
    seconds = [read_trained(file).training.seconds for file in (*first.glob(f"soup/*/{TRAINED_FILE}"),)]
    assert shown.seconds == pytest.approx(sum(seconds) + read_trained(parent / TRAINED_FILE).training.seconds)

    last = (parent / "weights.safetensors").read_bytes()
    for file in (
        out / PRODUCTS["retrain"],
        parent / TRAINED_FILE,
        first / TRAINED_FILE,
        first / "soup/2" / TRAINED_FILE,
    ):
        file.unlink()
    for name in ("final-supernet", "networks/A", "networks/ghostnet-0.25x"):  # as if killed in its second training
        shutil.rmtree(out / name)
    trained(out, use_held_out=asked)
    assert (parent / "weights.safetensors").read_bytes() == last


def test_networks_that_nobody_teaches_may_be_means_too(tmp_path):
    out = trained(tmp_path / "run", use_held_out='false\nteacher = "none"\nsoup = 2')
    for name in ("A", "ghostnet-0.25x"):
        folders = sorted((out / "networks" / name / "soup").iterdir())
        assert [read_trained(folder / TRAINED_FILE).init for folder in folders] == [str(out / "supernet")] * 2


def test_the_report_shows_the_parent_as_it_was_trained_last(whole):
    summary = summarise(whole)
    (parent,) = [n for n in summary.networks if n.kind == "parent"]
    assert parent.folder == whole / "networks/parent"
    assert parent.measured_ms is not None
    assert {n.name for n in summary.networks} == {"A", "ghostnet-0.25x", "parent"}
    (chosen,) = [n for n in summary.networks if n.kind == "chosen"]
    assert "--init ../final-supernet" in commands(summary, chosen)[0]


def test_a_stage_that_was_killed_after_its_parent_trains_it_no_more(whole, tmp_path):
    before = (whole / "networks/parent" / TRAINED_FILE).stat().st_mtime_ns
    weights = (whole / "networks/A/weights.safetensors").read_bytes()
    for file in (whole / PRODUCTS["retrain"], whole / "networks/A" / TRAINED_FILE):
        file.unlink()
    trained(whole)
    assert (whole / "networks/parent" / TRAINED_FILE).stat().st_mtime_ns == before
    assert (whole / "networks/A/weights.safetensors").read_bytes() == weights


def test_a_stage_took_what_it_began_with_too(whole):
    """A parent that is trained again before the networks; what a search does before it evaluates any."""
    seconds = [read_trained(file).training.seconds for file in (whole / "networks").glob(f"*/{TRAINED_FILE}")]
    summary = summarise(whole)
    assert summary.seconds["full training"] == pytest.approx(sum(seconds)) and len(seconds) == len(summary.networks)
    assert summary.seconds["search"] >= sum(trial.seconds for trial in summary.trials)
    file = whole / "search/result.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"seconds": 500.0}))
    assert summarise(whole).seconds["search"] == 500
    file.write_text(json.dumps({key: value for key, value in record.items() if key != "seconds"}))
    assert summarise(whole).seconds["search"] == sum(trial.seconds for trial in summary.trials)
    file.write_text(json.dumps(record))


def test_a_parent_is_trained_again_for_nothing_else(whole, tmp_path):
    given = json.dumps(str(whole / "networks/parent"))
    for name, changes in {"unseen": {"use_held_out": "false"}, "given": {"parent": f"parent = {given}"}}.items():
        out = trained(tmp_path / name, **changes)
        assert not (out / "final-supernet").exists() and not (out / "networks/parent").exists()
        assert read_trained(out / "networks/A" / TRAINED_FILE).init == str(out / "supernet")
        (shown,) = [n for n in summarise(out).networks if n.kind == "parent"]
        assert shown.folder == out / "supernet/parent"


def test_a_time_box_that_is_too_short_leaves_the_parent_as_it_is(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(stages.Run, "seconds", lambda run, stage: 0.001)
    out = trained(tmp_path / "short")
    assert not (out / "final-supernet").exists()
    before = read_trained(out / "networks/A" / TRAINED_FILE)
    assert before.init == str(out / "supernet")
    monkeypatch.undo()
    (out / PRODUCTS["retrain"]).unlink()
    assert not (out / "networks/ghostnet-0.25x" / TRAINED_FILE).exists()
    trained(out)  # with time enough: the others begin as this one did
    assert read_trained(out / "networks/A" / TRAINED_FILE) == before
    assert read_trained(out / "networks/ghostnet-0.25x" / TRAINED_FILE).init == str(out / "supernet")


def test_a_long_time_box_lengthens_no_training_that_is_short_on_purpose(tmp_path, monkeypatch):
    monkeypatch.setattr(stages.Run, "box", lambda run, stage: TimeBox(60.0, stretch=4.0))
    out = trained(tmp_path / "long", use_held_out="true\ncutmix = 1.0\nself_distill = true")
    first, parent, network = (
        read_trained(out / "networks" / name / TRAINED_FILE).training for name in ("parent/teacher", "parent", "A")
    )
    assert first.steps == first.planned_steps
    assert parent.steps > parent.planned_steps and network.steps > network.planned_steps


def test_a_space_without_ghostnet_has_a_report_without_it(tmp_path):
    """GhostNet has s = 2, here are other ratios alone."""
    out = trained(tmp_path / "run", ratios="[1, 4]", baselines="[]", use_held_out="false")
    (chosen,) = [n for n in summarise(out).networks if n.kind == "chosen"]
    assert chosen.arch.id in write_report(out).read_text()


def test_a_network_that_stands_for_two_is_trained_once(tmp_path, monkeypatch):
    data, begun = load_data("digits", 16, limit=100), list[str]()

    def counting(arch, *arguments, **options):
        begun.append(options["title"])
        return retrain(arch, *arguments, **options)

    monkeypatch.setattr("search.pipeline.retrain_stage.retrain", counting)
    archs = {"A": SPACE.uniform(0.25), "B": SPACE.uniform(0.5), "ghostnet-0.25x": SPACE.uniform(0.25)}
    jobs = [
        Job(name=name, arch=arch, seed=seed, out=tmp_path / name / (f"seed-{seed}" if seed else ""))
        for seed in (0, 1)
        for name, arch in archs.items()
    ]
    config = Training(epochs=0.5, batch_size=32)
    records = train_all(jobs, data, config)
    assert begun == ["A seed 0", "B seed 0", "A seed 1", "B seed 1"]
    assert [each.arch for each in records] == [job.arch.id for job in jobs]
    for name in ("trained.json", "weights.safetensors", "seed-1/trained.json", "seed-1/weights.safetensors"):
        a, b, twin = ((tmp_path / folder / name).read_bytes() for folder in archs)
        assert a == twin != b
    assert train_all(jobs, data, config) == records and len(begun) == 4


def test_networks_that_are_trained_side_by_side_are_the_same(tmp_path, monkeypatch):
    def once_another_has_one(*arguments, **options):
        """In this process; in the other one nothing is patched."""
        while count > 1 and not [*tmp_path.glob(f"*{count}/{TRAINED_FILE}")]:
            time.sleep(0.1)
        return retrain(*arguments, **options)

    monkeypatch.setattr(processes, "PATIENCE_S", 0.0)
    monkeypatch.setattr("search.pipeline.retrain_stage.retrain", once_another_has_one)
    data, pids = load_data("digits", 16), list[set[int]]()
    archs = {"A": SPACE.uniform(0.25), "B": SPACE.uniform(0.5), "C": SPACE.smallest}
    config = Training(epochs=2, batch_size=32)
    for count in (1, 2):
        jobs = [Job(name=name, arch=arch, seed=3, out=tmp_path / f"{name}{count}") for name, arch in archs.items()]
        records = train_all(jobs, data, config, processes=count)
        assert [each.arch for each in records] == [arch.id for arch in archs.values()]
        folders = [job.out / "tensorboard" for job in jobs]
        pids.append({int(file.name.split(".")[-2]) for folder in folders for file in folder.iterdir()})
    for name in archs:
        one, two = ((tmp_path / f"{name}{count}" / "weights.safetensors").read_bytes() for count in (1, 2))
        assert one == two
    assert [len(each) for each in pids] == [1, 2]


@pytest.mark.parametrize(
    ("pace", "finished", "shares"),
    [
        ([1.0, 1.0, 1.0], {}, [0.9, 0.9, 0.9]),
        ([2.0, 2.0, 2.0], {}, [0.45, 0.45, 0.45]),  # steps take twice as long as when the weights were timed
        ([2.0, 1.0, 1.0], {}, [0.45, 0.45, 0.45]),  # or did at first: time is left, and none gets more steps
        ([1.0, 1.1, 1.1], {}, [0.9, 0.9, 0.9]),  # a little slower later on
        ([1.0, 2.0, 2.0], {}, [0.9, 71 / 70 / 2, 71 / 70 / 2]),  # much slower: as far as the time goes
        ([1.0, 0.5, 0.5], {0: 0.1}, [0.1, 1.0, 1.0]),  # one was trained in a shorter box, before
        ([1.0, 0.5, 0.5], {0: 1.2}, [1.2, 1.2, 1.2]),  # or in a longer one, and then the run was killed
    ],
)
def test_all_networks_get_as_many_steps_in_a_time_box(tmp_path, monkeypatch, pace, finished, shares):
    """A box of 80 s for trainings of 10, 30 and 40 s; the clock is made up, and what each training took."""
    weights, now, taken = {0.25: 10.0, 0.5: 30.0, 1.0: 40.0}, [100.0], {}
    monkeypatch.setattr("search.pipeline.retrain_stage.time.monotonic", lambda: now[0])
    space, data, config = named_space("digits"), load_data("digits", 16, limit=100), Training(epochs=0.5, batch_size=32)
    jobs = [
        Job(name=f"{width}", arch=space.uniform(width), seed=0, out=tmp_path / f"{width}", weight=weight)
        for width, weight in weights.items()
    ]

    def timed(arch, data, config, out, *, box=None, **options):
        k = [job.out for job in jobs].index(out)
        slowest = pace[k] * jobs[k].weight  # seconds for all of the recipe's steps
        share = finished.get(k) if box is None else min(box.stretch, box.seconds / slowest)
        now[0] += share * slowest
        trained = retrain(arch, data, config, out, **options)
        outcome = trained.training.model_copy(update={"planned_steps": 10000, "steps": round(10000 * share)})
        write_record(out / TRAINED_FILE, trained.model_copy(update={"training": outcome}))
        taken[k] = share

    for k in finished:
        timed(jobs[k].arch, data, config, jobs[k].out, seed=0, device=best_device())
    monkeypatch.setattr("search.pipeline.retrain_stage.retrain", timed)
    train_all(jobs, data, config, box=TimeBox(80.0, stretch=3.0))
    assert [taken[k] for k in range(3)] == pytest.approx(shares, abs=1e-3)
    assert now[0] <= 100 + 80 + 1e-6 or finished


def test_a_time_box_ends_a_second_from_now_at_least():
    assert TimeBox(1.0).after(2.0) == TimeBox(1.0)
