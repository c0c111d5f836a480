"""Agreement of two rankings against enumeration over pairs; the plan of networks; a study that goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import search as api
from search.accuracy.ranking_study import RankedNetwork, agreement, fidelity
from search.accuracy.study import read_inherited
from search.data.datasets import load_data
from search.errors import UserError
from search.recipes.schema import SupernetTraining, Training, load_retraining
from search.report.fidelity import write_page
from search.training.elastic import load_inherited, train_supernet
from search.training.metadata import space_for
from tests.search.command_line import ghostnas
from tests.search.runs import made_up_run

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)


def rows(x, y):
    return [
        RankedNetwork(macs=1000 * (k + 1), inherited=a, trained=b) for k, (a, b) in enumerate(zip(x, y, strict=True))
    ]


def test_a_perfect_and_a_reversed_ranking():
    y = np.linspace(0.2, 0.8, 16)
    perfect = agreement(rows(y, y), 4, 0)
    assert perfect.kendall_tau == perfect.spearman == perfect.tau_within_bins == 1
    assert perfect.mean_regret == 0 < perfect.mean_regret_of_a_random_pick
    reverse = agreement(rows(-y, y), 4, 0)
    assert reverse.kendall_tau == reverse.tau_within_bins == -1
    assert reverse.mean_regret == pytest.approx(3 * (y[1] - y[0]))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Normals of correlation r: tau is 2 asin(r) / pi. Of 60 intervals at 95 %, 47 or less hold it once in 1e5."""
    truth, covered = 2 * np.arcsin(0.8) / np.pi, 0
    for seed in range(60):
        a, b = np.random.default_rng(seed).standard_normal((2, 40))
        result = agreement(rows(a, np.clip(0.5 + 0.05 * (0.8 * a + 0.6 * b), 0, 1)), 2, seed)
        low, high = result.kendall_tau_95
        covered += low <= truth <= high
    assert covered >= 48


def test_intervals_within_bins_cover_the_truth_and_are_not_wider_than_they_need_be():
    """As above, in four bins of six: of 100 intervals at 95 %, 87 or less hold it once in 600. Drawn across bins they
    are .71 wide."""
    truth, covered, widths = 2 * np.arcsin(0.8) / np.pi, 0, []
    for seed in range(100):
        a, b = np.random.default_rng(seed).standard_normal((2, 24))
        result = agreement(rows(a, np.clip(0.5 + 0.05 * (0.8 * a + 0.6 * b), 0, 1)), 4, seed)
        low, high = result.tau_within_bins_95
        covered += low <= truth <= high
        widths.append(high - low)
    assert covered >= 88 and np.mean(widths) < 0.66


@pytest.mark.parametrize("noise", (0.002, 0.02, 0.04))
@pytest.mark.parametrize("shared", (0.0, 0.03))
def test_the_ceiling_is_what_knowing_the_expected_accuracies_would_reach(noise, shared):
    """Normals of known scatter, three seeds each, of which each moves all networks alike, too: the true accuracies' own
    tau with the measured means, in the mean."""
    result, reached = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth = 0.5 + 0.02 * rng.standard_normal(200)
        by_seed = truth[:, None] + noise * rng.standard_normal((200, 3)) + shared * rng.standard_normal(3)
        networks = [
            replace(row, trained_by_seed=accuracies)
            for row, accuracies in zip(rows(truth, by_seed.mean(1)), by_seed.tolist(), strict=True)
        ]
        predicted = agreement(networks, 2, seed)
        result.append(predicted.ceiling_tau)
        reached.append(predicted.kendall_tau)
    assert np.mean(result) == pytest.approx(np.mean(reached), abs=0.03)


def test_images_that_all_networks_are_tested_on_take_nothing_from_the_ceiling():
    """Each of 120 networks answers each of 300 images by a chance that both decide: the images are few and
    differ much, but they are the same for all."""
    result, reached = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        ability, ease = rng.normal(0, 0.3, 120), rng.normal(0, 4, 300)
        chances = 1 / (1 + np.exp(-(ability[:, None] + ease)))
        by_seed = (rng.random((3, 120, 300)) < chances).mean(2).T
        networks = [
            RankedNetwork(macs=k, inherited=chance, trained=mean, trained_by_seed=accuracies)
            for k, (chance, mean, accuracies) in enumerate(
                zip(chances.mean(1), by_seed.mean(1), by_seed.tolist(), strict=True), 1
            )
        ]
        predicted = agreement(networks, 1, seed)
        result.append(predicted.ceiling_tau)
        reached.append(predicted.kendall_tau)
    assert np.mean(result) == pytest.approx(np.mean(reached), abs=0.04)


def test_the_ceiling_of_one_seed_is_not_known():
    y = np.linspace(0.2, 0.8, 16)
    result = agreement(rows(y, y), 4, 0)
    assert result.ceiling_tau is None and result.ceiling_within_bins is None and result.seed_tau is None


def test_a_study_goes_on_and_refuses_networks_trained_otherwise(tmp_path):
    data = load_data("digits", 16, limit=100)
    train_supernet(SPACE, data, SupernetTraining(epochs=1, batch_size=32, random=1), tmp_path / "net", device=CPU)
    config, about = Training(epochs=1, batch_size=32), {"count": 8, "bins": 2, "seed": 0, "device": CPU}

    def study(out, config=config, **more):
        return fidelity(lambda: load_inherited(tmp_path / "net", data), SPACE, data, config, out, **about, **more)

    whole = study(tmp_path / "whole")
    log = tmp_path / "whole" / "inherited.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]) + lines[3][:5])  # killed while it wrote the fourth
    trained = sorted((tmp_path / "whole" / "networks").glob("*/trained.json"))
    assert len(trained) == 8
    trained[0].unlink()
    assert study(tmp_path / "whole") == whole
    with pytest.raises(UserError, match=r"holds another training: recipe\.lr is 0\.1, not 0\.2$"):
        study(tmp_path / "other", config.model_copy(update={"lr": 0.2}), trained=tmp_path / "whole" / "networks")
    with pytest.raises(UserError, match=r"holds another study: supernet is unknown, not mars$"):
        study(tmp_path / "whole", supernet_id="mars")
    about["count"] = 10
    with pytest.raises(UserError, match=r"holds another study: networks is 8, not 10$"):
        study(tmp_path / "whole")
    write_page(whole, tmp_path / "whole")
    assert "Kendall tau, all networks" in (tmp_path / "whole" / "fidelity.md").read_text()
    assert (tmp_path / "whole" / "fidelity.png").stat().st_size > 10_000


@pytest.mark.parametrize("line", [{"arch": "0" * 10}, {"arch": "0" * 10, "accuracy": 1.5}, {"accuracy": 0.5}])
def test_a_line_of_inherited_accuracies_is_one(tmp_path, line):
    file = tmp_path / "inherited.jsonl"
    file.write_text('{"arch": "0123456789", "accuracy": 0.5}\n')
    assert read_inherited(file) == {"0123456789": 0.5}
    with file.open("a") as log:
        log.write(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"inherited\.jsonl, line 2: (arch|accuracy): "):
        read_inherited(file)


def test_the_command_line_measures_and_goes_on(tmp_path):
    tiny = SupernetTraining(epochs=0.1, batch_size=64, random=0)
    train_supernet(SPACE, load_data("digits", 16), tiny, tmp_path / "net", device=CPU)
    command = f"fidelity --supernet net --count 8 --bins 2 --epochs 0.1 --out {tmp_path / 'out'} --json"

    def predicted():
        built = ghostnas(*command.split(), cwd=tmp_path)
        assert built.returncode == 0, built.stderr
        return json.loads(built.stdout)

    first = predicted()
    assert len(first["networks"]) == 8
    assert predicted() == first


def test_weights_of_each_ratio_leave_out_ghosts_where_there_are_none(monkeypatch):
    """The experiment's supernet: s = 1 has a primary convolution of its own, and no cheap operation."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "results" / "fidelity"))
    from per_ratio import PerRatioSupernet

    split = {}
    for name in PerRatioSupernet(SPACE.bounds, 10, 1).state_dict():
        whole, result, ratio = name.rpartition("_s")
        if result and ratio.isdigit():
            split.setdefault(whole, set()).add(int(ratio))
    assert {".cheap_operation." in name for name in split} == {True, False}
    for name, ratios in split.items():
        assert ratios == ({2, 3, 4} if ".cheap_operation." in name else {1, 2, 3, 4}), name


@pytest.mark.parametrize(("count", "bins", "message"), [(8, 5, "at least 10 in 5 bins, but got 8"), (8, 0, "not 0")])
def test_too_few_networks_for_the_bins_are_refused_before_any_is_evaluated_or_trained(tmp_path, count, bins, message):
    made_up_run(tmp_path, "train")
    with pytest.raises(UserError, match=message):
        api.measure_fidelity(
            tmp_path / "supernet", load_data("digits", 32, limit=50), tmp_path / "out", count=count, bins=bins
        )
    assert not [*(tmp_path / "out").glob("*")]


def test_a_recipe_of_full_training_alone_says_how_a_study_trains_and_options_change_it(tmp_path, monkeypatch):
    made_up_run(tmp_path, "train")
    trained = []
    monkeypatch.setattr("search.api.fidelity.study_ranking", lambda *given, **_: trained.append(given[3]))
    data = load_data("digits", 32, limit=50)
    api.measure_fidelity(tmp_path / "supernet", data, tmp_path / "out", recipe="cifar10-fast", epochs=2, lr=0.03)
    recipe = load_retraining("cifar10-fast")[0]
    assert trained == [recipe.changed(epochs=2, lr=0.03)] and recipe.lr != 0.03
