"""Expected accuracy: a known law is found again, a supernet's bias is taken away, foreign files are refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import kendalltau

from search.accuracy.predictor import AccuracyCorrection, ExpectedAccuracy, TrainingPoint, leave_one_out
from search.accuracy.ranking_study import fidelity
from search.data.datasets import load_data
from search.errors import UserError
from search.recipes.schema import SupernetTraining, Training
from search.training.elastic import load_inherited, train_supernet
from search.training.metadata import read_metadata, space_for, supernet_id
from spaces.population import sample
from spaces.tables import costs
from tests.search.command_line import ghostnas

SPACE = space_for("digits", 10, 1)
CPU = torch.device("cpu")


def made_up(count: int, seed: int, bias: float, noise: float) -> list[TrainingPoint]:
    """Networks whose accuracy grows with multiply-adds and the share of primary features; a supernet that sees it but
    for a bias in favour of small ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for code in sample(SPACE, rng, count):
        known, arch = costs(SPACE, code), SPACE.decode(code)
        primary = np.mean([1 / b.ratio for b in arch.blocks])
        own = 0.02 * rng.standard_normal()  # which only training shows, and the supernet
        trained = 0.6 + 0.08 * np.log(known.macs / 5e5) + 0.1 * primary + own
        inherited = trained - bias * np.log(known.macs / 5e5) + noise * rng.standard_normal()
        rows.append(TrainingPoint(code=code.tolist(), inherited=inherited, trained_on_search=trained))
    return rows


def test_a_linear_law_is_found_again():
    rows = made_up(40, 0, bias=0.15, noise=0.0)
    correct = AccuracyCorrection.fit(SPACE, rows)
    for row in made_up(20, 1, bias=0.15, noise=0.0):
        predicted = correct(SPACE.decode(np.array(row.code)), row.inherited)
        assert predicted == pytest.approx(row.trained_on_search, abs=2e-3)


def test_a_bias_of_the_supernet_is_taken_away_for_networks_that_were_left_out():
    before, after = [], []
    for seed in range(8):
        rows = made_up(24, seed, bias=0.12, noise=0.005)
        truth = [row.trained_on_search for row in rows]
        before.append(kendalltau([row.inherited for row in rows], truth).statistic)
        after.append(kendalltau(leave_one_out(SPACE, rows), truth).statistic)
    assert np.mean(after) > np.mean(before) + 0.3
    assert np.mean(after) > 0.8


def test_a_supernet_that_says_nothing_is_not_believed():
    """Inherited accuracy as noise: what is said of a network that was left out still goes by its cost."""
    rows = made_up(24, 3, bias=0.0, noise=0.5)
    truth = [row.trained_on_search for row in rows]
    assert (
        kendalltau(leave_one_out(SPACE, rows), truth).statistic
        > kendalltau([r.inherited for r in rows], truth).statistic
    )


def test_a_network_that_is_left_out_has_no_say_in_what_is_said_of_it():
    rows = made_up(12, 4, bias=0.1, noise=0.01)
    predicted = leave_one_out(SPACE, rows)
    rows[5] = replace(rows[5], trained_on_search=0.1)
    again = leave_one_out(SPACE, rows)
    assert again[5] == predicted[5]
    assert (np.delete(again, 5) != np.delete(predicted, 5)).all()


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A supernet, and a fidelity study of it."""
    folder = tmp_path_factory.mktemp("judged")
    data, net = load_data("digits", 16, limit=100), folder / "net"
    train_supernet(SPACE, data, SupernetTraining(epochs=1, batch_size=50, random=1), net, device=CPU)
    front = [SPACE.smallest, SPACE.uniform(0.5)]
    about = {"count": 6, "bins": 2, "seed": 0, "device": CPU, "front": front, "supernet_id": supernet_id(net)}
    result = fidelity(
        lambda: load_inherited(net, data), SPACE, data, Training(epochs=0.2, batch_size=50), folder / "f", **about
    )
    return folder, data, result.model_dump(mode="json", by_alias=True)


def test_expected_accuracy_of_a_measured_study(judged):
    folder, data, result = judged
    assert [n["kind"] for n in result["networks"]] == ["spread"] * 6 + ["front"] * 2
    inherited = load_inherited(folder / "net", data)
    expected = ExpectedAccuracy(inherited, AccuracyCorrection.load(folder / "f/fidelity.json", folder / "net"))
    arch = SPACE.uniform(0.75)
    predicted = expected(arch)
    assert predicted["inherited"] == inherited(arch)
    least, most = (f(n["trained_on_search"] for n in result["networks"]) for f in (min, max))
    assert least - 0.3 < predicted["accuracy"] < most + 0.3


def test_a_file_that_does_not_fit_is_one_line(judged):
    folder, _, result = judged
    file = folder / "f/fidelity.json"
    other = folder / "other"
    shutil.copytree(folder / "net", other)
    weights = load_file(other / "supernet.safetensors")
    name = min(weights)
    save_file(weights | {name: weights[name] + 1}, other / "supernet.safetensors")
    with pytest.raises(UserError, match="is of another supernet"):
        AccuracyCorrection.load(file, other)
    clean = folder / "clean.json"  # as earlier versions wrote them, whose norms had seen clean images
    clean.write_text(json.dumps({key: value for key, value in result.items() if key != "norms"}))
    with pytest.raises(UserError, match=r"clean\.json: .* as an earlier version had them, not 'augmented"):
        AccuracyCorrection.load(clean, folder / "net")
    few = folder / "few.json"
    few.write_text(json.dumps(result | {"networks": result["networks"][:7]}))
    with pytest.raises(UserError, match="wants 8 trained networks or more"):
        AccuracyCorrection.load(few, folder / "net")
    old = folder / "old.json"
    unmeasured = [row | {"trained_on_search": None} for row in result["networks"]]
    old.write_text(json.dumps(result | {"networks": unmeasured}))
    with pytest.raises(UserError, match="is no fidelity study"):
        AccuracyCorrection.load(old, folder / "net")
    for text, message in (("{}", "has schema None"), ("[1]", "must be a JSON object"), ("[", "is not JSON")):
        old.write_text(text)
        with pytest.raises(UserError, match=message):
            AccuracyCorrection.load(old, folder / "net")


def test_the_command_takes_networks_of_a_search(judged):
    """`fidelity --trials` wants a log of the same space."""
    folder, _, _ = judged
    known = read_metadata(folder / "net")[1].id
    for space, message in (("mars", "is of another space (mars)"), (known, "has no network that was evaluated")):
        (folder / "trials.jsonl").write_text(json.dumps({"schema": "ghostnas.trials/3", "space_id": space}) + "\n")
        done = ghostnas("fidelity", "--supernet", "net", "--count", "8", "--trials", "trials.jsonl", cwd=folder)
        assert done.returncode == 2 and message in done.stderr
