"""Is the supernet needed? The study's search again, by a law of what was trained alone: law.json.

The law is the study's correction without inherited accuracy, fitted on the same networks: multiply-adds, parameters,
widths, share of ghosts. The search is the same, its networks are chosen by the same rule and trained by the same recipe
and seeds. From the repository's root, after the study's run; it resumes:

    python results/cifar10/law.py --run results/cifar10-small
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ghostnet.arch import Arch
from ghostnet.weights import network
from search.accuracy.predictor import FEATURES, Correction, features, fitted, points
from search.engine.backends import backend
from search.engine.choose import choose_by_budget
from search.engine.log import TrialLog
from search.engine.plan import Plan
from search.files import read_json, write_json
from search.latency.measure import measure
from search.latency.runtimes import runtime
from search.pipeline.job import Run
from search.pipeline.retrain_stage import over_seeds, train_all
from search.pipeline.search_problem import header, problem_of
from search.pipeline.search_stage import SearchOutcome
from search.pipeline.stages import labels, networks
from search.run_folder.run import FIDELITY, NETWORKS, RESULT, SUPERNET, TABLE, recorded_recipe
from search.training.retrain import WEIGHTS, Job

HERE = Path(__file__).parent


class Law:
    """Accuracy expected after training, without a look at the network's weights."""

    def __init__(self, correction: Correction, rows: list[dict[str, Any]]) -> None:
        x, y = points(correction.space, rows)
        self.space, self.model = correction.space, fitted(x[:, 1:], y)
        assert FEATURES[0] == "inherited accuracy"

    def __call__(self, arch: Arch) -> float:
        return float(self.model.predict([features(self.space, arch, 0.0)[1:]])[0])


def search(job: Run, folder: Path) -> SearchOutcome:
    """The study's search, each accuracy by the law."""
    config, seed = job.recipe.search, job.recipe.seed
    tables = [job.out / TABLE]
    law = Law(Correction.load(job.out / FIDELITY, job.out / SUPERNET), read_json(job.out / FIDELITY)["networks"])
    problem = problem_of(job.out / SUPERNET, tables, config)
    about = header(job.out / SUPERNET, tables, job.data.name, config, problem, seed)
    plan = Plan(trials=config.trials, sampler=config.sampler, population=config.population, seed=seed)
    with TrialLog(folder / "trials.jsonl", about | {"by": "law"}) as log:
        backend("optuna")(replace(problem, evaluate=law), log, plan)
        return SearchOutcome(problem, log.evaluated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("results/cifar10-small"))
    parser.add_argument("--seeds", type=int, help="trainings of each network; the recipe's number")
    parser.add_argument("--out", type=Path, default=HERE / "law.json")
    arguments = parser.parse_args()
    job = Run(recorded_recipe(arguments.run), arguments.run, None)
    torch.set_num_threads(job.recipe.threads or torch.get_num_threads())
    folder, config = arguments.run / "law", job.recipe.retrain
    found = search(job, folder)
    best = choose_by_budget(list(found.inside.values()), config.chosen, fastest=False)
    chosen = dict(zip(map(str.lower, labels(len(best))), best, strict=True))
    archs = {name: job.space.decode(np.array(trial["code"])) for name, trial in chosen.items()}
    jobs = [
        Job(name=name, arch=arch, seed=seed, out=folder / NETWORKS / arch.id / f"seed-{seed}")
        for seed in range(job.recipe.seed, job.recipe.seed + (arguments.seeds or config.seeds))
        for name, arch in archs.items()
    ]
    trained = over_seeds(jobs, train_all(jobs, job.data, config, workers=config.workers))

    files = {name: folder / NETWORKS / arch.id / f"seed-{job.recipe.seed}" / WEIGHTS for name, arch in archs.items()}
    beside = {name: arch for name, arch in networks(job).items() if name in read_json(job.out / RESULT)["chosen"]}
    files |= {name: job.out / NETWORKS / name / WEIGHTS for name in beside}
    nets = {name: network(arch, files[name]) for name, arch in {**archs, **beside}.items()}
    shapes = {name: (net, (job.data.in_chs, net.arch.resolution, net.arch.resolution)) for name, net in nets.items()}
    setting = job.recipe.latency
    times = measure(runtime(setting.runtime, setting.threads, setting.dtype), shapes, job.recipe.seed, setting.batch)
    rows = [
        {
            **row,
            "name": name,
            "code": chosen[name]["code"],
            "expected": chosen[name]["accuracy"],
            "predicted_ms": chosen[name]["latency_ms"],
            "measured_ms": times[name],
        }
        for name, row in trained.items()
    ]
    both = {t["arch"] for t in found.front} & set(read_json(job.out / RESULT)["front"])
    write_json(
        arguments.out,
        {
            "evaluated": len(found.trials),
            "front": len(found.front),
            "on_both_fronts": len(both),
            "networks": rows,
            "measured_ms_of_the_study's": {name: times[name] for name in beside},
        },
    )
    print(json.dumps({row["name"]: [row["arch"], row["mean"], row["measured_ms"]] for row in rows}, indent=1))


if __name__ == "__main__":
    main()
