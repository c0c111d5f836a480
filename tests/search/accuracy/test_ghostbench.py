"""GhostBench: what its reader refuses, the list of its networks, and trainings that are killed and gone on with."""

import json
import sys
from dataclasses import replace
from importlib import import_module
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from ghostnet.cost import cost
from search.accuracy.ghostbench import BenchmarkFile, GhostBench, format_evaluator, load_ghostbench, save_ghostbench
from search.accuracy.surrogate_benchmark import SurrogateBenchmark
from search.data.datasets import load_data
from search.errors import UserError
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from search.recipes.schema import Training, load_recipe
from search.training.retrain import retrain
from search.training.supernets import widest
from spaces import named_space
from spaces.custom import space_to_dict
from spaces.tables import macs_table, params_table

STUDY = Path(__file__).parents[3] / "results" / "ghostbench"
SPACE = load_recipe("cifar10-small").search_space
CPU = torch.device("cpu")


def run(start="fresh", epochs=2, seed=0, accuracies=(0.25, 0.5), **changes):
    values = {"start": start, "epochs": epochs, "seed": seed, "search": [*accuracies], "test": [*accuracies]}
    return values | {"seconds": 3.5, "look_seconds": 0.5} | changes


@pytest.fixture
def content():
    """A benchmark of three networks, as JSON values."""
    rng = np.random.default_rng(5)
    rows = []
    for code in SPACE.sample_codes(rng, 3):
        arch = SPACE.decode(code)
        costs = cost(arch, SPACE.num_classes, SPACE.in_chs)
        runs = [run(), run(seed=1, accuracies=(0.375, 0.625)), run("transplanted", 0, 0, (0.75,))]
        row = {"arch": arch.id, "code": code.tolist(), "kind": "even", "macs": costs.macs, "params": costs.params}
        rows.append(row | {"runs": runs})
    head = {"schema": "ghostnas.ghostbench/1", "space": space_to_dict(SPACE), "data": "cifar10", "fingerprint": "f"}
    sizes = {"training_images": 8, "search_images": 8, "test_images": 8, "fresh": {}, "tuned": {}}
    return head | sizes | {"networks": rows}


def load(content, folder):
    file = folder / "bench.json"
    file.write_text(json.dumps(content))
    return load_ghostbench(file)


def test_what_is_written_is_read_again(content, tmp_path):
    bench = load(content, tmp_path)
    save_ghostbench(tmp_path / "again.json", bench.record)
    assert load_ghostbench(tmp_path / "again.json").record == bench.record
    assert bench.record.model_dump(exclude_none=True)["networks"] == content["networks"]


def test_a_query_gives_the_run_that_is_meant(content, tmp_path):
    bench = load(content, tmp_path)
    assert len(bench) == 3
    for name in bench.names:
        arch = bench.arch(name)
        assert arch.id == name and arch in bench and name in bench
        assert bench.query(arch, "trained:2").search == [0.25, 0.5]
        assert bench.query(arch, "trained:2", seed=1).test == [0.375, 0.625]
        assert bench.query(name, "tuned:0").search == [0.75]
        for each in bench.network(name).runs:
            assert bench.query(name, format_evaluator(each), each.seed) is each
    assert bench.having("trained:2", seed=1) == bench.names
    assert bench.having("tuned:1") == ()


@pytest.mark.parametrize(
    "evaluator", ["trained", "trained:", "trained:-1", "tuned:1.5", "fresh:2", "trained:2 ", "trained:\u0662"]
)
def test_no_evaluator_is_one_line(content, tmp_path, evaluator):
    with pytest.raises(UserError, match="an evaluator of the benchmark is trained:E or tuned:E"):
        load(content, tmp_path).query(content["networks"][0]["arch"], evaluator)


def test_what_was_not_measured_is_said_with_what_was(content, tmp_path):
    bench = load(content, tmp_path)
    name = bench.names[0]
    with pytest.raises(UserError, match=r"no run trained:2 by seed 2; it has trained:2 by seed 0, trained:2 by seed 1"):
        bench.query(name, "trained:2", seed=2)
    other = SPACE.largest
    assert other not in bench
    with pytest.raises(UserError, match=f"architecture {other.id} is none of the benchmark's 3"):
        bench.query(other, "trained:2")


def _set(**values):
    return lambda row: row.update(values)


def _set_run(**values):
    return lambda row: row["runs"][0].update(values)


BAD_ROWS = {
    "macs": (lambda row: row.update(macs=row["macs"] + 1), "macs, not"),
    "params": (lambda row: row.update(params=row["params"] - 1), "params, not"),
    "another code": (lambda row: row["code"].__setitem__(0, (row["code"][0] + 1) % 5), "is of architecture"),
    "a code too large": (lambda row: row["code"].__setitem__(0, 99), "is no code of space"),
    "a code too short": (lambda row: row["code"].pop(), "is no code of space"),
    "no id": (_set(arch="abc"), "arch"),
    "another kind": (_set(kind="odd"), "kind"),
    "no latency": (_set(latency_ms=-1.0), "latency_ms"),
    "one accuracy too few": (lambda row: row["runs"][0]["search"].pop(), "must have 2 accuracies on each split"),
    "an accuracy above 1": (lambda row: row["runs"][0]["test"].__setitem__(0, 1.5), "test.0"),
    "an accuracy as text": (lambda row: row["runs"][0]["test"].__setitem__(0, "0.5"), "test.0"),
    "seconds below 0": (_set_run(seconds=-0.1), "seconds"),
    "fresh and untrained": (_set_run(epochs=0, search=[0.1], test=[0.1]), "must be trained for 1 epoch or more"),
    "another start": (_set_run(start="inherited"), "start"),
    "a run twice": (lambda row: row["runs"].append(dict(row["runs"][0])), "two of its runs have the same"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_refused_with_its_rule(content, tmp_path, name):
    spoil, message = BAD_ROWS[name]
    load(content, tmp_path)
    spoil(content["networks"][1])
    with pytest.raises(UserError, match=message) as error:
        load(content, tmp_path)
    assert "\n" not in str(error.value) and "bench.json" in str(error.value)


def test_a_file_that_is_none_is_refused(content, tmp_path):
    for spoil, message in (
        (lambda c: c.update(schema="ghostnas.ghostbench/9"), "schema"),
        (lambda c: c.update(space="nowhere"), "nowhere"),
        (lambda c: c.update(networks=[]), "networks"),
        (lambda c: c["networks"].append(c["networks"][0]), "is there twice"),
    ):
        spoilt = json.loads(json.dumps(content))
        spoil(spoilt)
        with pytest.raises(UserError, match=message):
            load(spoilt, tmp_path)
    with pytest.raises(UserError, match="No such file"):
        load_ghostbench(tmp_path / "none.json")


def test_nothing_wrong_is_written(content, tmp_path):
    content["networks"][0]["macs"] += 1
    with pytest.raises(UserError, match="macs, not"):
        save_ghostbench(tmp_path / "bench.json", BenchmarkFile.model_validate(content))
    assert not (tmp_path / "bench.json").exists()


@pytest.fixture
def study(monkeypatch):
    """The study's modules."""
    monkeypatch.syspath_prepend(str(STUDY))
    names = ("methods", "models", "networks", "trainings", "make", "page")
    kept = {name: sys.modules.pop(name, None) for name in names}  # other studies have a `make`, too

    yield {name: import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name)
        if kept[name]:
            sys.modules[name] = kept[name]


def test_the_list_is_of_different_networks_of_the_space_and_even_from_its_beginning(study):
    module = study["networks"]
    drawn = module.draw_networks(SPACE, params_table(SPACE), even=60, front=20, mutants=20)
    assert drawn == module.draw_networks(SPACE, params_table(SPACE), even=60, front=20, mutants=20)
    for each in (drawn, module.read_networks(study["trainings"].LIST, SPACE)):
        archs = [SPACE.decode(np.array(row.code)) for row in each.networks]
        assert len({arch.id for arch in archs}) == len(archs)
        assert [SPACE.encode(arch).tolist() for arch in archs] == [row.code for row in each.networks]
        assert {row.kind for row in each.networks} == {"even", "front", "mutant"}
        macs = np.array([cost(arch, SPACE.num_classes, SPACE.in_chs).macs for arch in archs])
        assert macs.max() <= module.MOST_MACS
        for count in (20, 50):  # a random order's distance is about 0.87 / sqrt(count)
            assert kstest(macs[:count], macs).statistic < 3 / count
    assert len(archs) >= 600


def test_the_plan_has_each_training_once_and_blocks_of_all_lengths(study):
    module = study["trainings"]
    archs = [SPACE.decode(code) for code in SPACE.sample_codes(np.random.default_rng(0), 120)]
    for start in ("fresh", "transplanted"):
        planned = list(module.plan(start, archs))
        assert len({each.key for each in planned}) == len(planned)
    by_seed = [sum(each.seed == seed for each in module.plan("fresh", archs)) for seed in (0, 1, 2)]
    assert by_seed == [120, 100, 100]
    planned = [each for each in module.plan("transplanted", archs) if each.seed == 0]
    epochs = [each.epochs for each in planned]
    assert {e: epochs.count(e) for e in set(epochs)} == {0: 120, 1: 120, 3: 120, 10: 20}
    whole = len(planned) // 5  # a block, which has all lengths of its networks
    assert {each.arch.id for each in islice(planned, whole)} == {arch.id for arch in archs[:24]}
    assert epochs[:whole] == [0, 1] * 24 + [3] * 24 + [10] * 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small space, data for it, and a parent that was hardly trained."""
    space = replace(named_space("digits"), num_classes=10, in_chs=1)
    data = load_data("digits", 16, limit=96)
    parent = tmp_path_factory.mktemp("bench") / "parent"
    retrain(widest(space), data, Training(epochs=4, batch_size=32), parent, device=CPU)
    return space, data, parent


class Killed(BaseException):
    """As a process that is killed, which catches nothing."""


def measured(folder):
    """The logs without their seconds."""
    rows = {}
    for start in ("fresh", "transplanted"):
        lines = [json.loads(line) for line in (folder / f"{start}.jsonl").read_text().splitlines()]
        rows[start] = [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]
    return rows


def test_killed_trainings_go_on_to_what_they_would_have_been(study, tiny, tmp_path, monkeypatch):
    space, data, parent = tiny
    make, trainings = study["make"], study["trainings"]
    small = {"batch_size": 32}
    monkeypatch.setattr(trainings, "FRESH", trainings.FRESH.model_copy(update=small))
    monkeypatch.setattr(trainings, "TUNED", trainings.TUNED.model_copy(update=small))
    for name, value in {
        "FRESH_EPOCHS": 2,
        "TUNED_EPOCHS": (0, 1),
        "LONG_EPOCHS": 2,
        "LONG_EVERY": 2,
        "SEVERAL": 1,
    }.items():
        monkeypatch.setattr(trainings, name, value)
    monkeypatch.setattr(trainings, "SEEDS", (0, 1))
    archs = [space.decode(code) for code in space.sample_codes(np.random.default_rng(1), 2)]

    def train(folder, until=np.inf):
        return [
            make.train(start, archs, space, data, parent, folder, until=until, workers=1)
            for start in ("fresh", "transplanted")
        ]

    assert train(tmp_path / "late", until=0.0) == [3, 6]  # the time is over
    assert train(tmp_path / "whole") == [0, 0]
    fit, calls = trainings.fit, 0

    def killed(*args, **options):
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise Killed
        return fit(*args, **options)

    monkeypatch.setattr(trainings, "fit", killed)
    kills = 0
    while True:
        try:
            assert train(tmp_path / "killed") == [0, 0]
            break
        except Killed:
            kills += 1
    assert kills >= 4
    whole = measured(tmp_path / "whole")
    assert measured(tmp_path / "killed") == whole
    assert [len(rows) for rows in whole.values()] == [4, 7]  # a header each
    assert train(tmp_path / "whole") == [0, 0] and measured(tmp_path / "whole") == whole

    published = published_file(trainings, tmp_path / "whole", space, archs)  # by another machine, say
    runs = {
        start: trainings.RunLog(
            tmp_path / "anew", start, trainings.read_log(tmp_path / "whole", start)[0], published
        ).runs
        for start in ("fresh", "transplanted")
    }
    assert measured(tmp_path / "anew") == {
        start: whole[start][:1] + by_arch(whole[start][1:], archs) for start in whole
    }
    assert [len(each) for each in runs.values()] == [3, 6]
    of = trainings.read_log(tmp_path / "whole", "fresh")[0] | {"fingerprint": "another"}
    with pytest.raises(UserError, match="published benchmark is of other trainings: fingerprint is"):
        trainings.RunLog(tmp_path / "other", "fresh", of, published)

    fewer = load_data("digits", 16, limit=64)
    with pytest.raises(UserError, match="other trainings: training_images is 96, not 64"):
        make.train("fresh", archs, space, fewer, parent, tmp_path / "whole", until=0.0, workers=1)


def published_file(trainings, logs, space, archs):
    """What `page.py` publishes of a folder's logs."""
    (fresh, rows), (tuned, more) = (trainings.read_log(logs, start) for start in ("fresh", "transplanted"))
    networks = [
        {
            "arch": arch.id,
            "code": space.encode(arch).tolist(),
            "kind": "even",
            "macs": 1,
            "params": 1,
            "runs": [run.model_dump(exclude={"arch"}) for run in (*rows, *more) if run.arch == arch.id],
        }
        for arch in archs
    ]
    about = {key: fresh[key] for key in ("fingerprint", "training_images", "search_images", "test_images")}
    recipes = {"fresh": fresh["recipe"], "tuned": tuned["recipe"], "parent": tuned["parent"]}
    return BenchmarkFile(space=space_to_dict(space), data="digits", networks=networks, **about, **recipes)


def by_arch(rows, archs):
    return [row for arch in archs for row in rows if row["arch"] == arch.id]


def made_up_logs(study, folder, networks):
    """Logs in which more multiply-adds are more accuracy, the same by every seed."""
    trainings = study["trainings"]
    rows = study["networks"].read_networks(trainings.LIST, SPACE).networks
    archs = [SPACE.decode(np.array(row.code)) for row in rows]
    sizes = {"training_images": 8, "search_images": 8, "test_images": 8}
    folder.mkdir()
    for start in ("fresh", "transplanted"):
        lines = [{"start": start, "fingerprint": "f", "recipe": {}} | sizes]
        if start == "transplanted":
            lines[0]["parent"] = {"arch": archs[0].id, "weights": "w", "test_accuracy": 0.5}
        for each in trainings.plan(start, archs[:networks]):
            size = np.log10(cost(each.arch, SPACE.num_classes, SPACE.in_chs).macs) / 10
            accuracies = [size * (1 - 0.5 / (k + 1)) for k in range(max(1, each.epochs))]
            lines.append({"arch": each.arch.id, **run(start, each.epochs, each.seed, accuracies)})
        (folder / f"{start}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(rows)


@pytest.mark.parametrize("networks", [2, 25])
def test_the_page_is_of_what_is_there_and_says_so(study, tmp_path, monkeypatch, networks):
    page = study["page"]
    monkeypatch.setattr(page, "DRAWS", 5)
    monkeypatch.setattr(study["trainings"], "LONG_EVERY", 1)
    count = made_up_logs(study, tmp_path / "work", networks)
    file = tmp_path / "ghostbench.json"
    save_ghostbench(file, page.assemble(tmp_path / "work", None))
    bench = load_ghostbench(file)
    assert bench.having("tuned:1") == bench.names[:networks] and len(bench) == count
    text = page.page(bench, None, None)
    assert f"So far {networks} of {count}" in text and f"| `trained:5` | {networks} of {count} |" in text
    assert len(page.picture(bench)) > 1000
    for evaluator, (_, predictors) in page.TARGETS.items():
        rows = page.rankings(bench, page.of_run(evaluator, "test"), predictors)
        assert bool(rows) == (networks >= page.LEAST)
        for name, row in rows:  # all of it follows multiply-adds, but parameters
            assert row.networks == networks
            assert (row.tau > 0.999 and row.inside > 0.999) == (name != "parameters")
    known = page.noise(bench, "trained:5")
    assert (known is None) == (networks < page.LEAST)
    assert known is None or (known["tau"], known["inside"], known["points"]) == pytest.approx((1, 1, 0), abs=1e-6)


@pytest.fixture
def pool(study, tmp_path):
    """Forty networks with all trainings, of which more multiply-adds are more accuracy."""
    count = made_up_logs(study, tmp_path / "work", 40)
    file = tmp_path / "pool.json"
    save_ghostbench(file, study["page"].assemble(tmp_path / "work", None))
    networks = study["models"].complete(load_ghostbench(file).record.networks)
    assert len(networks) == 40 < count
    return networks


@pytest.fixture
def world(study, pool, tmp_path, monkeypatch):
    """The methods' world, by surrogates of those networks: each training takes 3.5 s and a look of 0.5 s."""
    module, bench = study["methods"], load_ghostbench(tmp_path / "pool.json")
    made = {columns: SurrogateBenchmark(bench, columns) for columns in (module.TUNED, module.FRESH)}
    surrogates = {column: surrogate for columns, surrogate in made.items() for column in columns}
    predict = Predictor(LatencyTable.load(STUDY / "cifar16.lat.json"), bench.space)
    monkeypatch.setattr(module, "_surrogates", lambda: (surrogates, predict))
    return module.World(0, module.Losses(macs_table(SPACE), 0.0))


def test_a_ladder_pays_for_every_rung_and_a_training_that_goes_on_only_for_its_last(study, world):
    methods = {method.name: method for method in study["methods"].METHODS}
    code = SPACE.encode(SPACE.smallest)
    for name, seconds in (
        ("guided, as transplanted", [4.0]),
        ("guided, ladder of 0, 1 and 3 epochs", [4.0, 8.0, 12.0]),
        ("random, successive halving: after 1, 2, 5 of 5 epochs", [3.5 / 5 + 0.5, 7 / 5 + 0.5, 4.0]),
    ):
        problem, rungs = world.problem(methods[name]), ()
        for expected in seconds:
            evaluation = problem.measure(SPACE.decode(code), rungs)
            rungs = evaluation.rungs
            assert evaluation.seconds == pytest.approx(expected, rel=1e-3)
        assert len(rungs) == (len(seconds) if len(seconds) > 1 else 0)


@pytest.mark.parametrize("sampler, rungs", [("random", 1), ("guided", 2), ("exact", 1)])
def test_a_method_spends_what_it_has_and_no_more(study, world, monkeypatch, sampler, rungs):
    """An evaluation takes 4 s, four final trainings 16 s."""
    module = study["methods"]
    monkeypatch.setattr(module, "MINUTES", (0.2, 0.5, 1.0, 2.0))
    method = module.Method("mine", sampler, module.TUNED[:rungs], "tuned:3")
    worlds = [module.World(0, module.Losses(macs_table(SPACE), 14.0 if sampler == "exact" else 0.0)) for _ in range(2)]
    result = module.simulate(method, worlds[0])
    counts = [budget["networks"] for budget in result["budgets"]]
    most = [0, 0, 7, 22] if sampler == "exact" else [0, 3, 11, 26]
    if rungs == 1:
        assert counts == most
    else:
        assert all(0 < few <= many for few, many in zip(counts[1:], most[1:], strict=True))
    points = [budget["points"] for budget in result["budgets"]]
    assert [len(each) for each in points] == [min(4, count) for count in counts]
    assert result == module.simulate(method, worlds[1])


def test_regret_is_what_the_four_lack_to_the_best_that_anybody_saw(study):
    module, rng = study["methods"], np.random.default_rng(0)
    seen = np.column_stack([0.4 + 0.3 * rng.random(40), -rng.random(40)])
    best = module.best_four(seen)
    most = max(module.hypervolume(seen[[*four]]) for four in combinations(range(40), 4))
    assert (1 - 1 / np.e) * most <= module.hypervolume(best) <= most
    length = len(module.MINUTES)
    budgets = {"best": best, "half": best[:2], "nobody": np.empty((0, 2))}
    results = {
        name: [{"front": seen[k::3].tolist(), "budgets": [{"points": points.tolist()}] * length}]
        for k, (name, points) in enumerate(budgets.items())
    }
    regrets = {name: values[0, 0] for name, values in module.regrets(results).items()}
    assert regrets["best"] == pytest.approx(0) and regrets["nobody"] == 1
    assert 1 - regrets["half"] == pytest.approx(module.hypervolume(best[:2]) / module.hypervolume(best))


def test_a_model_is_judged_on_networks_that_it_was_not_fitted_to(study, pool, tmp_path):
    """Here accuracy after 3 epochs is a multiple of that as it is: a ridge finds it, with an interval; its rival that
    adds a mean gain errs by what the slope is."""
    module, bench = study["models"], load_ghostbench(tmp_path / "pool.json")
    judged = {model.name: module.judge(bench, pool, model, module.TOP, 12, 4) for model in module.ENDS}
    assert judged["as it is, ridge"].error < 0.1 and judged["as it is, ridge"].tau > 0.99
    assert judged["as it is, mean gain"].error > 3 * judged["as it is, ridge"].error
    assert all(0 <= each.covered <= 1 for each in judged.values())
    ours = [model for model in module.BY_GENES if model.make is not module.BoTorchProcess]
    table = module.judged_models(bench, pool, ours, module.RUNGS[0], (15, 35), 2)
    assert (table["networks"], table["counts"], [*table["models"]]) == (40, [15], [model.name for model in ours])
    text = study["page"].page(bench, None, {"ends": table, "by genes": table})
    assert all(f"| {model.name} |" in text for model in ours)


def test_an_interval_by_what_is_left_out_holds_for_few_networks(study):
    """A fit to six points of a noisy line, many times; the ridge's own interval holds for too few."""
    module, rng = study["models"], np.random.default_rng(0)
    covered, own = [], []
    for _ in range(150):
        x = rng.normal(size=(6, 1))
        unseen = rng.normal(size=(50, 1))
        y, truth = (each[:, 0] + 0.5 * rng.normal(size=len(each)) for each in (x, unseen))
        fitted = module.ridge().fit(x, y)
        mean, width = fitted.predict(unseen)
        covered.append(float((np.abs(mean - truth) <= width).mean()))
        spread = fitted.model.predict(unseen, return_std=True)[1]
        own.append(float((np.abs(mean - truth) <= module.NORMAL_95 * spread).mean()))
    assert 0.88 < np.mean(covered) < 0.99 and np.mean(own) < np.mean(covered)


def test_the_published_benchmark_is_whole():
    file = STUDY / "ghostbench.json"
    if not file.exists():
        pytest.skip("nothing is published yet")
    bench = load_ghostbench(file)  # checks each network and its costs
    assert isinstance(bench, GhostBench) and bench.space.id == SPACE.id
    assert len(bench) >= 600 and file.stat().st_size < 1_000_000
