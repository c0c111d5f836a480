"""Accuracy expected from unit losses: a sum, a fit that says how far it may be off, and searches that go by it."""

import json
import pickle
import shutil
import time
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from ghostnet.cost import unit_cost
from ghostnet.units import chain
from search.accuracy import transplant_accuracy as room
from search.accuracy import unit_losses as unit_losses_room
from search.accuracy.predictor import LEAST
from search.accuracy.transplant_accuracy import FILE, TransplantAccuracy, log_loss, spread_codes, transplant_accuracy
from search.accuracy.unit_losses import FILE as LOSSES
from search.data.datasets import load_data
from search.errors import UserError
from search.files import JsonLines
from search.identity import file_digest
from search.pipeline.search_problem import check_run_search
from search.pipeline.search_stage import search_networks
from search.recipes.choices import Sampler
from search.recipes.schema import ParentTraining, Search, SupernetTraining, parse_recipe
from search.training.elastic import train_supernet
from search.training.inherited import inherited_accuracy
from search.training.supernets import make_supernet
from spaces import named_space
from spaces.population import sample
from spaces.tables import UnitTable, macs_table
from tests.search.command_line import ghostnas
from tests.search.runs import made_up_table

SMALL = {"widths": (0.5, 1.0), "ratios": (2,), "cheap_kernels": (3,), "num_classes": 10, "in_chs": 1}
SPACE = replace(named_space("digits"), name="few", **SMALL)
CODES = np.array(list(product(*map(range, SPACE.choices))))  # all of its networks
CONFIG = Search(flops_budget="600k", trials=8, population=4, evaluate="units")
COLUMNS = ("accuracy", "accuracy_low", "accuracy_high")


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=400)


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """A transplanted supernet `net`, and a latency table."""
    folder = tmp_path_factory.mktemp("transplanted")
    config = ParentTraining(epochs=4, batch_size=32, lr=0.1, images=128)
    make_supernet(SPACE, data, config, folder / "net", device=torch.device("cpu"))
    made_up_table(np.random.default_rng(0), SPACE).save(folder / "t.lat.json")
    return folder


@pytest.fixture(scope="module")
def expected(files, data):
    return transplant_accuracy(files / "net", data)


def search(files, out, data, config=CONFIG, **changes):
    about = {"seed": 0} | changes
    return search_networks(files / "net", [files / "t.lat.json"], out / "trials.jsonl", lambda: data, config, **about)


def made_up_losses(space, rng, mean: float = 1.0) -> UnitTable:
    """The same for units of equal cost, as those are that differ in a choice without effect."""
    drawn = cache(lambda _: float(mean * rng.exponential()))
    return UnitTable(space, lambda unit: drawn(unit_cost(unit)))


def made_up(rng, count: int, noise: float) -> tuple[UnitTable, np.ndarray, np.ndarray]:
    """Losses by unit, networks of a large space spread over them, and accuracies by a law of the loss alone that the
    fit doesn't know: an exponential."""
    losses = made_up_losses(named_space("cifar"), rng, 0.1)
    codes = spread_codes(named_space("cifar"), losses, rng, count)
    return losses, codes, _law(losses, codes) + noise * rng.standard_normal(len(codes))


def _law(losses, codes):
    return 0.1 + 0.8 * np.exp(-losses.total(codes) / 4)


def test_what_the_parent_loses_by_a_network_is_the_sum_over_its_units(files, expected):
    assert len(CODES) == SPACE.size
    known = json.loads((files / "net" / LOSSES).read_text())["losses"]
    for code, value in zip(CODES, log_loss(expected.losses, CODES), strict=True):
        units = chain(SPACE.decode(code), SPACE.num_classes, SPACE.in_chs).named
        by_hand = sum(known[f"{name} {unit.key}"] for name, unit in units.items() if f"{name} {unit.key}" in known)
        assert value == pytest.approx(np.log1p(max(by_hand, 0)))


def test_transplants_are_spread_from_the_best_to_the_worst(expected):
    losses = expected.losses.total(CODES)
    mine = np.sort(expected.losses.total(expected.codes))
    assert len(np.unique(expected.codes, axis=0)) == room.TRANSPLANTS
    rounding = 1e-6  # nats, in float32, by which sums of units that lose nothing differ
    assert (mine[0], mine[-1]) == pytest.approx((losses.min(), losses.max()), abs=rounding)
    everything = log_loss(expected.losses, CODES)
    for target, value in zip(np.linspace(*np.log1p(np.maximum(mine[[0, -1]], 0)), len(mine)), mine, strict=True):
        nearer = np.abs(everything - target) < abs(np.log1p(max(value, 0)) - target) - 1e-12
        assert nearer.sum() <= room.TRANSPLANTS  # those that are taken already


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(8, 30))
def test_no_stretch_of_a_large_space_is_left_out(seed, count):
    """Random networks alone are nearly all alike there."""
    rng, space = np.random.default_rng(seed), named_space("cifar")
    losses = made_up_losses(space, rng)
    values = log_loss(losses, spread_codes(space, losses, rng, count))
    ends = log_loss(losses, np.stack([losses.extreme(), losses.extreme(largest=True)]))
    assert (values[0], values[-1]) == pytest.approx(tuple(ends))
    assert np.diff(values).max() < 3 * (ends[1] - ends[0]) / count
    random = log_loss(losses, sample(space, rng, 1000))
    assert random.max() - random.min() < ends[1] - ends[0]


def test_nineteen_of_twenty_networks_that_were_left_out_are_inside_their_intervals(monkeypatch):
    """Over twelve laws, of 200 networks each: a law's share strays by some 5 points, their mean by less than 2."""
    monkeypatch.setattr(room, "POOL", 2000)
    inside, taus = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        losses, codes, accuracies = made_up(rng, room.TRANSPLANTS, 0.02)
        fit = TransplantAccuracy(named_space("cifar"), losses, codes, accuracies)
        others = spread_codes(fit.space, losses, rng, 200)
        value, low, high = fit.predict(others)
        truth = _law(losses, others) + 0.02 * rng.standard_normal(len(others))
        inside.append(np.mean((low <= truth) & (truth <= high)))
        taus.append(kendalltau(value, truth).statistic)
        assert (low < value).all() and (value < high).all() and low.min() > 0 and high.max() < 1
    assert np.mean(inside) > 0.91 and np.mean(taus) > 0.8


def test_what_is_expected_falls_with_the_loss_and_grows_with_the_cost():
    rng = np.random.default_rng(0)
    losses, codes, accuracies = made_up(rng, room.TRANSPLANTS, 0.005)
    fit = TransplantAccuracy(named_space("cifar"), losses, codes, accuracies)
    new = sample(fit.space, rng, 300)
    size = np.log(macs_table(fit.space).total(new))
    logit = np.log(fit.predict(new)[0] / (1 - fit.predict(new)[0]))
    design = np.stack([np.ones(len(new)), log_loss(losses, new), size], 1)
    slopes, residuals, *_ = np.linalg.lstsq(design, logit, rcond=None)
    assert residuals[0] < 1e-12 and slopes[1] < 0, "linear in both, and less for a larger loss"


def test_no_more_is_said_of_some_than_of_all_right():
    """Accuracies of 0 and 1 have no logit."""
    losses, codes, _ = made_up(np.random.default_rng(2), 16, 0.0)
    accuracies = np.linspace(1, 0, 16)
    predicted = TransplantAccuracy(named_space("cifar"), losses, codes, accuracies).predict(codes)
    assert np.isfinite(predicted).all() and predicted.min() > 0 and predicted.max() < 1


def test_transplants_that_were_not_looked_at_are_expected_right(files, data, expected):
    """On the whole: 96 networks, of which each is inside its interval with a chance of .95."""
    evaluate = inherited_accuracy(files / "net", data)
    codes = CODES[np.random.default_rng(3).choice(len(CODES), 96, replace=False)]
    truth = np.array([evaluate(SPACE.decode(code)) for code in codes])
    value, low, high = expected.predict(codes)
    assert ((low <= truth) & (truth <= high)).sum() >= 80  # one fit's errors are alike: by chance alone 85
    assert kendalltau(value, truth).statistic > 0.25  # by chance .07 is usual, and so much one in thousands
    for code, accuracy in zip(expected.codes[:3], expected.accuracies, strict=False):
        assert evaluate(SPACE.decode(code)) == accuracy


class Killed(BaseException):
    """As a process that is killed, which catches nothing."""


def test_a_stopped_calibration_goes_on_to_the_same_numbers(files, data, expected, tmp_path, monkeypatch):
    shutil.copytree(files / "net", tmp_path / "net")
    (tmp_path / "net" / FILE).unlink()
    count, real = 0, inherited_accuracy(files / "net", data)

    def counted(arch, last):
        nonlocal count
        count += 1
        if count == last:
            raise Killed
        return real(arch)

    monkeypatch.setattr(room, "inherited_accuracy", lambda *_: partial(counted, last=6))
    with pytest.raises(Killed):
        transplant_accuracy(tmp_path / "net", data)
    assert len(json.loads((tmp_path / "net" / FILE).read_text())["accuracies"]) == 5
    monkeypatch.setattr(room, "inherited_accuracy", lambda *_: partial(counted, last=None))
    resumed = transplant_accuracy(tmp_path / "net", data)
    assert (tmp_path / "net" / FILE).read_bytes() == (files / "net" / FILE).read_bytes()
    assert np.array_equal(resumed.predict(CODES), expected.predict(CODES))
    assert count == room.TRANSPLANTS + 1
    transplant_accuracy(tmp_path / "net", data)
    assert count == room.TRANSPLANTS + 1, "and none is evaluated again"


def test_a_time_box_evaluates_fewer_and_more_time_the_rest(files, data, expected, tmp_path):
    shutil.copytree(files / "net", tmp_path / "net")
    (tmp_path / "net" / FILE).unlink()
    short = transplant_accuracy(tmp_path / "net", data, deadline=time.monotonic() - 1)
    assert np.array_equal(short.codes, expected.codes[:LEAST])
    assert np.array_equal(short.accuracies, expected.accuracies[:LEAST])
    value, low, high = short.predict(CODES)
    assert ((low < value) & (value < high)).all()
    whole = transplant_accuracy(tmp_path / "net", data)
    assert np.array_equal(whole.predict(CODES), expected.predict(CODES))


def test_what_is_kept_is_of_that_supernet_and_that_data_or_made_anew(files, data, expected, tmp_path):
    shutil.copytree(files / "net", tmp_path / "net")
    path, whole = tmp_path / "net" / FILE, json.loads((files / "net" / FILE).read_text())
    for other in ({"supernet": "0123456789"}, {"data": "mars"}):
        path.write_text(json.dumps(whole | other | {"accuracies": [0.5] * room.TRANSPLANTS}))
        assert np.array_equal(transplant_accuracy(tmp_path / "net", data).accuracies, expected.accuracies)
    for wrong, message in (
        ({"accuracies": [0.5] * 99}, "16 codes have at most as many accuracies, not 99"),
        ({"accuracies": ["much"]}, "accuracies.0"),
        ({"codes": [[9] * len(SPACE.choices)] * 16}, "is no code of space few"),
        ({"codes": whole["codes"][:3]}, "codes"),
        ({"schema": "mars"}, "has schema 'mars'"),
    ):
        path.write_text(json.dumps(whole | wrong))
        with pytest.raises(UserError, match=rf"transplant-accuracy\.json.*{message}"):
            transplant_accuracy(tmp_path / "net", data)


def test_a_whole_folder_is_only_read(files, data, expected, monkeypatch):
    """It may be another user's."""

    def locked(folder, only=""):
        raise AssertionError(f"{folder} is locked")

    for module in (room, unit_losses_room):
        monkeypatch.setattr(module, "locked", locked)
    again = transplant_accuracy(files / "net", data)
    assert again.accuracies.tolist() == expected.accuracies.tolist()


def test_a_space_of_too_few_networks_is_refused(data, tmp_path):
    row = replace(SPACE.rows[0][0], se_ratio=0.25)
    tiny = replace(SPACE, name="tiny", widths=(1.0,), rows=((row,),))
    make_supernet(tiny, data, ParentTraining(epochs=0.1, images=64), tmp_path / "net", device=torch.device("cpu"))
    with pytest.raises(UserError, match=rf"wants a space of 8 networks or more; tiny has {tiny.size}$"):
        transplant_accuracy(tmp_path / "net", data)
    assert not (tmp_path / "net" / FILE).exists()


def test_it_goes_to_other_processes(expected):
    again = pickle.loads(pickle.dumps(expected))
    for arch in map(SPACE.decode, CODES[:5]):
        assert again(arch) == expected(arch) and again.accuracy(arch) == expected(arch)["accuracy"]


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_every_sampler_can_go_by_it(sampler, files, data, expected, tmp_path):
    outcome = search(files, tmp_path, data, CONFIG.model_copy(update={"sampler": sampler}))
    assert len(outcome.trials) == 8
    for trial in outcome.trials:
        arch = outcome.arch(trial)
        assert {name: trial[name] for name in COLUMNS} == expected(arch) and trial.inherited is None


def test_a_time_box_that_is_over_cuts_no_evaluation_of_a_millisecond(files, data, tmp_path):
    outcome = search(files, tmp_path, data, CONFIG, deadline=time.monotonic() - 1)
    assert len(outcome.trials) == 8


@pytest.mark.parametrize("sampler", ["guided", "exact"])
def test_a_search_goes_on_by_what_was_measured_when_it_began(sampler, files, data, expected, tmp_path):
    """In a time box that was, whatever others measured since."""
    shutil.copytree(files / "net", tmp_path / "net")
    shutil.copy(files / "t.lat.json", tmp_path)
    for name in (FILE, LOSSES):
        (tmp_path / "net" / name).unlink()
    config = CONFIG.model_copy(update={"sampler": sampler})
    search(tmp_path, tmp_path / "out", data, config, deadline=time.monotonic() - 1)
    counts = next(iter(JsonLines(tmp_path / "out/trials.jsonl")))["measured"]
    boxed = transplant_accuracy(tmp_path / "net", data, counts=counts)
    assert counts[1] == LEAST
    grown = transplant_accuracy(tmp_path / "net", data)
    assert len(grown.codes) > LEAST and not np.array_equal(boxed.predict(CODES), grown.predict(CODES))
    more = search(tmp_path, tmp_path / "out", data, config.model_copy(update={"trials": 16})).trials
    assert len(more) == 16
    assert all({name: trial[name] for name in COLUMNS} == boxed(SPACE.decode(np.array(trial.code))) for trial in more)


@pytest.mark.parametrize("objective", ["memory", "images_per_second"])
def test_an_objective_that_is_no_sum_is_refused_before_any_loss_is_measured(files, data, tmp_path, objective):
    shutil.copytree(files / "net", tmp_path / "net")
    (tmp_path / "net" / LOSSES).unlink(missing_ok=True)
    shutil.copy(files / "t.lat.json", tmp_path)
    config = CONFIG.model_copy(update={"sampler": "exact", "objectives": ("accuracy", objective)})
    message = f"^the sampler exact wants objectives that are sums over units, .*, not {objective}$"
    with pytest.raises(UserError, match=message):
        check_run_search(config)
    with pytest.raises(UserError, match=message):
        search(tmp_path, tmp_path / "out", data, config)
    assert not (tmp_path / "net" / LOSSES).exists() and not (tmp_path / "out").exists()


def test_a_search_of_an_earlier_version_goes_on(files, data, expected, tmp_path):
    """Whose log has a digest of the transplants in place of their number."""
    search(files, tmp_path, data)
    log = tmp_path / "trials.jsonl"
    first, *rows = log.read_text().splitlines(keepends=True)
    header = {name: value for name, value in json.loads(first).items() if name != "measured"}
    for known in ({"transplants": file_digest(files / "net" / FILE)}, {"transplants": "0" * 64}):
        log.write_text("".join([json.dumps(header | known) + "\n", *rows]))
        if known["transplants"] == "0" * 64:
            with pytest.raises(UserError, match="holds trials of another search: transplants is"):
                search(files, tmp_path, data)
        else:
            assert len(search(files, tmp_path, data, CONFIG.model_copy(update={"trials": 12})).trials) == 12


@pytest.mark.parametrize("backend", ["ray", "nni"])
def test_other_backends_give_the_same_numbers(backend, files, data, expected, tmp_path):
    if backend == "nni":
        pytest.importorskip("nni")
    config = CONFIG.model_copy(update={"backend": backend, "sampler": "random", "workers": 1 + (backend == "ray")})
    outcome = search(files, tmp_path, data, config)
    assert len(outcome.trials) >= 8
    assert all({name: trial[name] for name in COLUMNS} == expected(outcome.arch(trial)) for trial in outcome.trials)


def test_it_is_the_lowest_rung_of_a_ladder(files, data, expected, tmp_path):
    evaluate = inherited_accuracy(files / "net", data)
    config = CONFIG.model_copy(update={"evaluate": "units,inherited"})
    trials = search(files, tmp_path, data, config).trials
    assert {len(trial.rungs) for trial in trials} == {1, 2}
    for trial in trials:
        arch = SPACE.decode(np.array(trial.code))
        known = {"units": expected.accuracy(arch), "inherited": evaluate(arch)}
        assert [(rung.evaluate, rung.accuracy) for rung in trial.rungs] == [*known.items()][: len(trial.rungs)]
        assert trial.inherited_accuracy("units,inherited") == (known["inherited"] if len(trial.rungs) > 1 else None)
    more = search(files, tmp_path, data, config.model_copy(update={"trials": 12})).trials
    assert [t.arch for t in more[:8]] == [t.arch for t in trials] and len(more) == 12
    assert all(a.rungs[: len(b.rungs)] == b.rungs for a, b in zip(more, trials, strict=False))  # some went on


def test_the_command_in_a_process_of_its_own_writes_the_same_log(files, data, expected, tmp_path):
    """And prints the intervals; a search that goes on with other transplants is refused."""
    shutil.copytree(files, tmp_path / "files")
    where = ("--supernet", "files/net", "--latency", "files/t.lat.json", "--flops-budget", "600k")
    asked = (*where, "--evaluate", "units", "--trials", "8", "--population", "4", "--sampler", "nsga2", "--out", "out")
    whole = search(files, tmp_path / "here", data, CONFIG.model_copy(update={"sampler": "nsga2"}))
    done = ghostnas("search", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"expected", "accuracy", "95", "interval"} <= set(done.stdout.split())
    head, *rows = JsonLines(tmp_path / "out/trials.jsonl")
    assert head["evaluate"] == "units" and len(head["transplants"]) >= 10 and "training" not in head
    rows = [row for row in rows if row["state"] == "complete"]
    assert [row["code"] for row in rows] == [trial.code for trial in whole.trials]
    for row in rows:
        assert {name: row[name] for name in COLUMNS} == expected(SPACE.decode(np.array(row["code"])))
    kept = json.loads((tmp_path / "files/net" / FILE).read_text())
    kept["accuracies"][3] /= 2
    (tmp_path / "files/net" / FILE).write_text(json.dumps(kept))
    again = ghostnas("search", *asked, "--resume", cwd=tmp_path)
    assert again.returncode == 2 and "holds trials of another search: transplants is" in again.stderr


def test_what_does_not_go_with_it_is_refused_in_one_line(files, data, tmp_path):
    elastic = tmp_path / "files"
    shutil.copytree(files, elastic, ignore=shutil.ignore_patterns("net"))
    config = SupernetTraining(epochs=0.1, batch_size=50, random=0)
    train_supernet(SPACE, data, config, elastic / "net", device=torch.device("cpu"))
    for changes, way in (({}, "evaluation by units"), ({"evaluate": "inherited", "sampler": "exact"}, "sampler exact")):
        with pytest.raises(
            UserError, match=f"^the {way} goes by unit losses, which want a parent: the supernet is ela"
        ):
            search(elastic, tmp_path / "out", data, CONFIG.model_copy(update=changes))
    assert not (tmp_path / "out").exists()
    where = ("search", "--latency", files / "t.lat.json", "--flops-budget", "600k", "--evaluate", "units")
    for options, message in (
        (("--supernet", elastic / "net"), "the evaluation by units goes by unit losses, which want a parent"),
        (("--supernet", files / "net", "--recipe", "digits"), "--recipe says how networks are trained"),
        (("--supernet", files / "net", "--fidelity", "f.json"), "doesn't go with --evaluate units"),
    ):
        done = ghostnas(*map(str, (*where, *options)), "--out", "out", cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


RECIPE = """
data = "digits"
space = "digits"
[supernet]
kind = "{kind}"
epochs = 1
[search]
flops_budget = "600k"
evaluate = "units"
[retrain]
epochs = 1
"""


def test_a_recipe_may_ask_for_it_where_there_is_a_parent():
    from search.pipeline.run import check

    recipe = parse_recipe(RECIPE.format(kind="transplant"), "mine")
    check(recipe)
    assert recipe.search.evaluate == "units"
    with pytest.raises(UserError, match="evaluation by units goes by unit losses, which want a parent"):
        check(parse_recipe(RECIPE.format(kind="elastic"), "mine"))
    sizes = recipe.model_copy(update={"space": {"base": "digits", "resolutions": [8, 16]}})
    with pytest.raises(UserError, match=r"a space of one resolution; .* has several"):
        check(sizes)
    with pytest.raises(UserError, match=r"\[fidelity\] corrects inherited accuracy, not that of `evaluate` 'units'"):
        parse_recipe(RECIPE.format(kind="transplant") + "[fidelity]\nspread = 8\n", "mine")
