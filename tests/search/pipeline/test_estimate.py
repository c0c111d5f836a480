"""What a run will take: counts are those of the training loop and of the splits, and nothing is written."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.accuracy.transplant_accuracy import TRANSPLANTS
from search.commands.run import show_estimate
from search.data.datasets import SplitSizes, load_data, split_sizes
from search.errors import UserError
from search.pipeline.current_run import SHARES, SPARE, STRETCHED, Run, needed_minutes, share_minutes
from search.pipeline.estimate import FITTED, _Estimator, estimate
from search.pipeline.run import open_run
from search.pipeline.settings import RunSettings
from search.pipeline.step_times import StepTimes
from search.recipes.schema import Recipe, parse_recipe
from search.run_folder.estimate import Estimate, StageEstimate, read_estimate, write_estimate
from search.run_folder.run import PRODUCTS
from search.training.metadata import space_for
from search.training.time_box import LONGEST
from spaces import named_space
from tests.search.data.test_datasets import image_folder, parquet_folder

RECIPE = """
data = "digits"
threads = 1
train_images = 200
[space]
base = "digits"
widths = [0.25, 0.5]
[supernet]
kind = "{kind}"
epochs = 2
batch_size = 32
[latency]
minutes = 3
[search]
flops_budget = "250k"
trials = 20
[retrain]
epochs = 1
min_steps = 25
batch_size = 32
chosen = 2
baseline_widths = [0.25]
seeds = 2
"""


def recipe(kind: str = "transplant", more: str = "") -> Recipe:
    return parse_recipe(RECIPE.format(kind=kind) + more, "mine")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["transplant", "elastic"])
def test_every_stage_is_counted(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = estimate(recipe(kind, "[fidelity]\nspread = 8\n"))
    stages = {each.stage: each for each in expected.stages}
    assert list(stages) == ["train", "calibrate", "fidelity", "search", "retrain", "export", "report"]
    assert (stages["train"].steps, stages["train"].images) == (2 * (200 // 32), 2 * 6 * 32)
    assert (stages["retrain"].networks, stages["retrain"].steps) == ((2 + 1) * 2, 6 * 25)
    assert (stages["fidelity"].networks, stages["fidelity"].steps) == (8, 8 * 25)
    assert (stages["search"].networks, stages["search"].images) == (20, 20 * 287)
    assert stages["calibrate"].minutes == 3 and all(each.minutes > 0 for each in stages.values())
    total = expected.total
    assert total.steps == 12 + 200 + 150 and total.memory == max(each.memory for each in stages.values())
    assert not list(tmp_path.iterdir())
    write_estimate(tmp_path, expected)
    assert read_estimate(tmp_path) == expected and read_estimate(tmp_path / "other") is None


def test_a_parent_that_is_trained_again_is_counted(monkeypatch):
    monkeypatch.setattr(StepTimes, "step_seconds", lambda *_: 1.0)
    whole = "use_held_out = true\n"
    itself = "self_distill = true\n" + whole
    (plain, again, twice), (elastic, elastic_again) = (
        [
            {each.stage: each for each in estimate(recipe(kind, more)).stages}["retrain"]
            for more in ("", whole, *further)
        ]
        for kind, further in (("transplant", [itself]), ("elastic", []))
    )
    assert (again.networks, again.steps) == (plain.networks + 1, plain.steps + 25)
    assert (twice.networks, twice.steps) == (plain.networks + 2, plain.steps + 2 * 25)
    assert twice.disk > again.disk > plain.disk
    assert again.alone == pytest.approx(25 / 60) and twice.alone == pytest.approx(
        50 / 60
    )  # of one process, however many
    soups = estimate(recipe("transplant", "soup = 3\n" + itself), processes=2)
    soup = {each.stage: each for each in soups.stages}["retrain"]
    assert (soup.networks, soup.steps) == (plain.networks + 2, plain.steps + 4 * 25)
    assert soup.disk == twice.disk + 2 * (again.disk - plain.disk) / 3 and soup.processes == 2
    assert soup.minutes_at_work == pytest.approx(plain.minutes * plain.processes + 4 * 25 / 60)
    untaught = 'teacher = "none"\nsoup = 3\n'
    alone = {each.stage: each for each in estimate(recipe("transplant", untaught)).stages}["retrain"]
    assert alone.steps == 3 * plain.steps
    for each in (plain, again, twice):
        assert each.minutes_at_work == pytest.approx(each.alone + plain.minutes * plain.processes)
    assert (elastic_again.networks, elastic_again.steps) == (elastic.networks, elastic.steps)


def test_short_trainings_of_a_search_are_counted(monkeypatch):
    monkeypatch.setattr(StepTimes, "step_seconds", lambda *_: 1.0)
    monkeypatch.setattr(StepTimes, "seconds", lambda *_: 0.0)
    config = recipe("elastic")

    def planned(evaluate):
        search = config.search.model_copy(update={"evaluate": evaluate})
        stages = estimate(config.model_copy(update={"search": search})).stages
        return next(each for each in stages if each.stage == "search")

    steps = math.ceil(2.5 * (200 // 32))
    trained = planned("trained:2.5")
    assert trained.minutes == pytest.approx(20 * steps / 60)
    assert (trained.steps, trained.images) == (20 * steps, 20 * (287 + 32 * steps))
    ladder = planned("inherited,tuned:2.5")  # a third goes on
    assert (ladder.steps, ladder.images) == (round(20 / 3 * steps), round(20 * 287 + 20 / 3 * (287 + 32 * steps)))
    assert planned("units").images < 20 * 287


def test_a_search_is_estimated_by_all_the_views_that_networks_are_fitted_on(monkeypatch):
    """Also where there are fewer training images: each is then viewed several times."""
    shown = []
    monkeypatch.setattr(StepTimes, "look_seconds", lambda _, arch, images: shown.append(images) or 0.0)
    monkeypatch.setattr(_Estimator, "_fit_seconds", lambda *_: 0.0)
    config, sizes = recipe(), split_sizes("digits", 200)
    config = config.model_copy(update={"supernet": config.supernet.model_copy(update={"images": 1000})})
    space = space_for(config.search_space, sizes.num_classes, sizes.in_chs)
    _Estimator(config, space, sizes, torch.device("cpu")).search()
    assert shown == [sizes.search + 1000 - FITTED] and sizes.train < 1000


def test_of_networks_that_are_trained_in_turn_one_by_each_seed_waits_for_its_teacher(monkeypatch):
    """The others find its answers. Seconds of a step: 3 with the teacher's, 1 without."""
    monkeypatch.setattr(StepTimes, "step_seconds", lambda _, arch, config, teacher=None: 3.0 if teacher else 1.0)
    config, sizes = recipe(), split_sizes("digits", 200)
    space = space_for(config.search_space, sizes.num_classes, sizes.in_chs)

    def seconds_a_step(networks: int, workers: int, device: str = "cpu") -> float:
        stage = _Estimator(config, space, sizes, torch.device(device))._trainings("retrain", networks, workers)
        return 60 * stage.minutes * workers / (stage.steps / networks)

    assert config.retrain.seeds == 2
    assert seconds_a_step(1, 1) == pytest.approx(3)
    assert seconds_a_step(6, 1) == pytest.approx(3 + 3 + 4)
    assert seconds_a_step(6, 2) == pytest.approx(3 * 4 + 2)
    if torch.cuda.is_available():
        assert seconds_a_step(6, 1, "cuda") == pytest.approx(3 * 6)


def test_asking_a_teacher_takes_as_long_for_every_network(monkeypatch):
    """As showing it the batch without training does."""
    monkeypatch.setattr(StepTimes, "seconds", lambda *_: 0.5)
    config, sizes = recipe(), split_sizes("digits", 200)
    times, space = StepTimes(sizes, torch.device("cpu")), named_space("digits")
    teacher = space.uniform(1.0)
    asking = times.look_seconds(teacher, config.retrain.batch_size)
    for width in (0.25, 1.0):
        alone, taught = (times.step_seconds(space.uniform(width), config.retrain, each) for each in (None, teacher))
        assert taught - alone == pytest.approx(asking) and asking >= 0.5


def test_a_search_by_unit_losses_takes_what_they_and_some_transplants_take(monkeypatch):
    """However many networks it sums up; what is timed is all that a unit's loss takes."""
    monkeypatch.setattr(StepTimes, "seconds", lambda *_: 0.5)
    monkeypatch.setattr(_Estimator, "_fit_seconds", lambda *_: 2.0)
    minutes = {}
    for evaluate, sampler, trials in (("units", "guided", 20), ("units", "exact", 2000), ("inherited", "exact", 1)):
        config = recipe()
        changes = {"evaluate": evaluate, "sampler": sampler, "trials": trials}
        config = config.model_copy(update={"search": config.search.model_copy(update=changes)})
        monkeypatch.setattr(_Estimator, "_unit_loss_seconds", lambda *_: 60.0)
        minutes[evaluate, sampler] = next(each.minutes for each in estimate(config).stages if each.stage == "search")
    alone = minutes["inherited", "exact"] - 1
    assert minutes["units", "guided"] == minutes["units", "exact"] == pytest.approx(1 + TRANSPLANTS * alone)
    monkeypatch.undo()
    assert next(each.minutes for each in estimate(config).stages if each.stage == "search") > 0


def test_an_estimate_is_kept_where_the_folder_is_named_and_the_run_begins_there(tmp_path, capsys):
    show_estimate(recipe(), tmp_path / "run", as_json=True)
    shown = json.loads(capsys.readouterr().out)
    kept = read_estimate(tmp_path / "run")
    assert [each["minutes"] for each in shown["stages"]] == [each.minutes for each in kept.stages]
    with open_run(recipe(), tmp_path / "run", RunSettings()):
        pass
    assert (tmp_path / "run/run.json").exists()


def test_an_estimate_is_of_its_recipe(tmp_path, capsys):
    other = recipe().changed(seed=7)
    show_estimate(recipe(), tmp_path, as_json=True)
    assert Run(recipe(), tmp_path).estimate and read_estimate(tmp_path)
    assert Run(recipe().changed(data="elsewhere"), tmp_path).estimate
    assert Run(other, tmp_path).estimate is None
    with open_run(recipe(), tmp_path, RunSettings()):
        pass
    before = (tmp_path / "estimate.json").read_bytes()
    with pytest.raises(UserError, match="holds a run of another recipe"):
        show_estimate(other, tmp_path, as_json=True)
    assert (tmp_path / "estimate.json").read_bytes() == before
    old = json.loads(before)
    del old["recipe"]  # of an earlier version
    (tmp_path / "estimate.json").write_text(json.dumps(old))
    assert Run(other, tmp_path).estimate


def test_a_time_box_is_shared_among_the_stages_in_an_estimate(capsys):
    show_estimate(recipe(), None, as_json=True, minutes=4)
    given = json.loads(capsys.readouterr().out)["time_box"]
    assert sum(given.values()) == pytest.approx(4) and {*given} == {*PRODUCTS} - {"fidelity"}
    assert max(given, key=given.__getitem__) == "calibrate"  # what takes long, of a recipe that trains for seconds
    show_estimate(recipe(), None, as_json=False, minutes=4)
    text = " ".join(capsys.readouterr().out.split())
    assert "A time box of 4 minutes is shared as train " in text and "up to 4 times its steps" in text


def test_a_plan_of_a_short_box_says_what_the_run_will_do(tmp_path, capsys):
    """It makes no estimate of its own, and goes by one that was kept for it."""
    for out, stretched in ((None, False), (tmp_path / "kept", True)):
        show_estimate(recipe(), out, as_json=True, minutes=2)
        given = json.loads(capsys.readouterr().out)["time_box"]
        run = Run(recipe(), out or tmp_path / "none", RunSettings(minutes=2))
        assert given == pytest.approx(share_minutes(2, needed_minutes(given, run.estimate)))
        show_estimate(recipe(), out, as_json=False, minutes=2)
        text = " ".join(capsys.readouterr().out.split())
        assert ("up to 4 times its steps" in text) is stretched
        assert ("Below 3 minutes a run makes no estimate" in text) is not stretched


needs = st.dictionaries(st.sampled_from([*SHARES]), st.floats(0, 1e3) | st.just(math.inf), min_size=1)


@given(st.floats(0.1, 1e3), needs)
def test_a_time_box_is_shared_whole_and_none_has_too_much_while_another_lacks_some(minutes, needed):
    shared = share_minutes(minutes, needed)
    assert [*shared] == [*needed] and math.isclose(sum(shared.values()), minutes, rel_tol=1e-9)
    most = {stage: needed[stage] * (LONGEST if stage in STRETCHED else 1) for stage in needed}
    for limits, base in ((needed, dict.fromkeys(needed, 0.0)), (most, needed)):
        lacking = [stage for stage in needed if shared[stage] < limits[stage] * (1 - 1e-9)]
        if lacking:  # the others have all that they may, and those that lack some as much as each other, by share
            level = max((shared[other] - base[other]) / SHARES[other] for other in lacking)
            for stage in needed:
                assert shared[stage] <= limits[stage] * (1 + 1e-9) + 1e-9
                assert (shared[stage] - base[stage]) / SHARES[stage] <= level * (1 + 1e-9) + 1e-9
            break


def test_a_run_in_a_time_box_gives_its_stages_what_they_are_expected_to_need(tmp_path):
    run = Run(recipe(), tmp_path, RunSettings(minutes=60))
    alone = run.seconds("train")
    minutes = {stage: 1.0 for stage in PRODUCTS if stage not in ("train", "fidelity")}
    stages = [StageEstimate(stage=stage, minutes=each) for stage, each in ({"train": 100.0} | minutes).items()]
    write_estimate(tmp_path, Estimate(stages=tuple(stages)))
    known = Run(recipe(), tmp_path, RunSettings(minutes=60)).seconds("train")
    assert known == pytest.approx(60 * (60 - 5 * SPARE), abs=1) and known > alone == pytest.approx(
        60 * 60 * 0.42, abs=1
    )


@pytest.mark.parametrize(("minutes", "stretch"), [(3, 1.0), (7, 1.0), (30, LONGEST)])
def test_no_stage_is_stretched_in_a_box_that_is_too_short_for_all(tmp_path, minutes, stretch):
    """The first stage gets what it needs, to spare, which is no reason to train longer."""
    needed = {"train": 1.0, "calibrate": 0.5, "search": 3.3, "retrain": 2.2, "export": 0.1, "report": 0.1}
    stages = tuple(StageEstimate(stage=stage, minutes=each) for stage, each in needed.items())
    write_estimate(tmp_path, Estimate(stages=stages))
    run = Run(recipe(), tmp_path, RunSettings(minutes=minutes))
    assert run.box("train").stretch == run.stretch("search") == stretch
    assert Run(recipe(), tmp_path / "unknown", RunSettings(minutes=minutes)).stretch("train") == 1.0


def test_sizes_are_those_of_the_loaded_splits(tmp_path):
    image_folder(tmp_path / "pictures", **{".": 40})
    parquet_folder(tmp_path / "table")
    for name in ("digits", f"imagefolder:{tmp_path / 'pictures'}?test=0.2", f"parquet:{tmp_path / 'table'}"):
        data, sizes = load_data(name, 8), split_sizes(name)
        splits = [data.train, data.calibration, data.search, data.test]
        assert [sizes.train, sizes.calibration, sizes.search, sizes.test] == list(map(len, splits))
        assert (sizes.num_classes, sizes.in_chs) == (data.num_classes, data.in_chs)
    assert split_sizes("digits", 100).train == 100 and split_sizes("cifar10").train == 45_000


@pytest.mark.parametrize(("seconds", "wanted"), [([4.0, 2.0, 1.0, 1.0, 1.0, 1.0], 24 / 20), ([12.0, 2.0], 12.0)])
def test_a_search_is_estimated_by_what_later_networks_take(seconds, wanted, monkeypatch):
    """The first has to fit what the others find fitted; one that takes long is not followed by more."""
    clock, left = [0.0], iter(seconds)
    monkeypatch.setattr("search.pipeline.estimate.time.monotonic", lambda: clock[0])

    class Slow:
        def extract(self, _: object) -> None:
            clock[0] += next(left)

    sizes = SplitSizes(train=200, calibration=30, search=60, test=60, num_classes=10, in_chs=1)
    space = space_for(recipe().search_space, 10, 1)
    estimator = _Estimator(recipe(), space, sizes, torch.device("cpu"))
    assert estimator._fit_seconds(Slow()) == pytest.approx(wanted)
