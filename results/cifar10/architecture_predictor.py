"""Is the supernet needed? The study's search again, by a law of what was trained alone: law.json.

The law is the study's correction without inherited accuracy, fitted on the same networks: multiply-adds, parameters,
widths, share of ghosts. The search is the same, its networks are chosen by the same rule and trained by the same recipe
and seeds. From the repository's root, after the study's run; it resumes:

    python results/cifar10/architecture_predictor.py --run results/cifar10-small
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from ghostnet.arch import Arch
from ghostnet.files import WEIGHTS_FILE
from ghostnet.weights import load_network
from search.accuracy.predictor import (
    FEATURES,
    AccuracyCorrection,
    TrainingPoint,
    features,
    fit_ridge,
    training_points,
)
from search.accuracy.study import read_study
from search.engine.backends import backend
from search.engine.choose import choose_by_budget
from search.engine.log import TrialLog
from search.engine.search_plan import SearchPlan
from search.files import write_json
from search.latency.runtimes import runtime
from search.latency.time_networks import measure
from search.parallel.cluster import Cluster
from search.pipeline.current_run import Run
from search.pipeline.retrain_stage import summarise_seeds, train_all
from search.pipeline.search_problem import build_problem, header
from search.pipeline.search_stage import SearchOutcome
from search.pipeline.stages import labels, networks
from search.run_folder.result import read_result
from search.run_folder.run import FIDELITY, NETWORKS, RESULT, SUPERNET, TABLE, recorded_recipe
from search.training.retrain import Job

HERE = Path(__file__).parent


class ArchitecturePredictor:
    """Accuracy expected after training, without a look at the network's weights."""

    def __init__(self, correction: AccuracyCorrection, networks: Sequence[TrainingPoint]) -> None:
        x, y = training_points(correction.space, networks)
        self.space, self.model = correction.space, fit_ridge(x[:, 1:], y)
        assert FEATURES[0] == "inherited accuracy"

    def __call__(self, arch: Arch) -> float:
        return float(self.model.predict([features(self.space, arch, 0.0)[1:]])[0])


def search(run: Run, folder: Path) -> SearchOutcome:
    """The study's search, each accuracy by the law."""
    config, seed = run.recipe.search, run.recipe.seed
    tables = [run.out / TABLE]
    correction = AccuracyCorrection.load(run.out / FIDELITY, run.out / SUPERNET)
    networks = read_study(run.out / FIDELITY).networks
    law = ArchitecturePredictor(correction, [TrainingPoint.from_study(network) for network in networks])
    problem = build_problem(run.out / SUPERNET, tables, config)
    about = header(run.out / SUPERNET, tables, run.data.name, config, problem, seed)
    plan = SearchPlan(trials=config.trials, sampler=config.sampler, population=config.first, seed=seed)
    with TrialLog(folder / "trials.jsonl", about.to_json() | {"by": "law"}) as log:
        backend("optuna")(replace(problem, evaluate=law), log, plan)
        return SearchOutcome(problem, log.evaluated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("results/cifar10-small"))
    parser.add_argument("--seeds", type=int, help="trainings of each network; the recipe's number")
    parser.add_argument("--out", type=Path, default=HERE / "law.json")
    arguments = parser.parse_args()
    run = Run(recorded_recipe(arguments.run), arguments.run)
    torch.set_num_threads(run.recipe.threads or torch.get_num_threads())
    folder, config = arguments.run / "law", run.recipe.retrain
    result = search(run, folder)
    best = choose_by_budget(list(result.inside.values()), config.chosen, fastest=False)
    chosen = dict(zip(map(str.lower, labels(len(best))), best, strict=True))
    archs = {name: run.space.decode(np.array(trial.code)) for name, trial in chosen.items()}
    jobs = [
        Job(name=name, arch=arch, seed=seed, out=folder / NETWORKS / arch.id / f"seed-{seed}")
        for seed in range(run.recipe.seed, run.recipe.seed + (arguments.seeds or config.seeds))
        for name, arch in archs.items()
    ]
    trained = summarise_seeds(jobs, train_all(jobs, run.data, config, cluster=Cluster(workers=config.workers)))

    files = {
        name: folder / NETWORKS / arch.id / f"seed-{run.recipe.seed}" / WEIGHTS_FILE for name, arch in archs.items()
    }
    chosen_archs = {name: arch for name, arch in networks(run).items() if name in read_result(run.out / RESULT).chosen}
    files |= {name: run.out / NETWORKS / name / WEIGHTS_FILE for name in chosen_archs}
    nets = {name: load_network(arch, files[name]) for name, arch in {**archs, **chosen_archs}.items()}
    shapes = {name: (net, net.input_shape) for name, net in nets.items()}
    setting = run.recipe.latency
    times = measure(runtime(setting.runtime, setting.threads, setting.dtype), shapes, run.recipe.seed, setting.batch)
    rows = [
        {
            **asdict(row),
            "name": name,
            "code": chosen[name].code,
            "expected": chosen[name]["accuracy"],
            "predicted_ms": chosen[name]["latency_ms"],
            "measured_ms": times[name],
        }
        for name, row in trained.items()
    ]
    both = {t.arch for t in result.front} & set(read_result(run.out / RESULT).front)
    write_json(
        arguments.out,
        {
            "evaluated": len(result.trials),
            "front": len(result.front),
            "on_both_fronts": len(both),
            "networks": rows,
            "measured_ms_of_the_study's": {name: times[name] for name in chosen_archs},
        },
    )
    print(json.dumps({row["name"]: [row["arch"], row["mean"], row["measured_ms"]] for row in rows}, indent=1))


if __name__ == "__main__":
    main()
