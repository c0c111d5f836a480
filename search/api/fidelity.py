"""Whether a supernet ranks networks as full training does."""

from pathlib import Path
from typing import Unpack

import numpy as np

from ghostnet.arch import Arch
from search.accuracy.ranking_study import fidelity as study_ranking
from search.accuracy.study import Study
from search.api import Place
from search.data.datasets import Data
from search.engine.choose import choose as along_the_front
from search.engine.log import read_header, read_search_header, read_trials
from search.engine.objectives import ACCURACY, MACS, USUAL
from search.engine.trial import evaluated
from search.errors import UserError, check_whole
from search.folders import locked
from search.parallel.cluster import Cluster, ClusterOptions, show_options
from search.parallel.workers import RayWorkers
from search.progress import best_effort, warn
from search.recipes.schema import load_retraining, recipe_name
from search.report.fidelity import write_page
from search.seeds import check_seed
from search.training.distributed import best_device
from search.training.inherited import inherited_accuracy
from search.training.metadata import check_data, read_metadata, supernet_id
from spaces.space import Space

__all__ = ["Study", "measure_fidelity"]
MOST = 100_000  # of networks, and of trainings of each


@show_options
def measure_fidelity(
    supernet: Place,
    data: Data,
    out: Place,
    *,
    count: int = 24,
    epochs: float | None = None,
    lr: float | None = None,
    seeds: int = 1,
    bins: int = 4,
    recipe: str | None = None,
    networks: Place | None = None,
    trials: Place | None = None,
    front: int = 8,
    seed: int = 0,
    **cluster: Unpack[ClusterOptions],
) -> Study:
    """Measures whether a supernet ranks networks as full training does, into the folder `out`.

    Args:
        count: networks that are trained fully, spread over multiply-adds.
        epochs: others than the recipe's, and than its `min_steps`.
        lr: another rate than the recipe's.
        seeds: full trainings of each network.
        bins: stretches of like multiply-adds.
        recipe: how they are trained: its `[retrain]` part; None: by data.
        networks: a folder of trained networks to share; None: `out/networks`.
        trials: a search's `trials.jsonl`: `front` networks of its front are trained, too.
        workers, address: processes of Ray's that train them, and their cluster; None: this machine.

    Raises:
        UserError: a supernet or trials that don't fit, too few networks for the bins, or a folder that holds another
            study.
    """
    seed, seeds = check_seed(seed), check_whole("`seeds`", seeds, 1, MOST)
    count, bins, front = (
        check_whole(f"`{name}`", number, 0, MOST)
        for name, number in (("count", count), ("bins", bins), ("front", front))
    )
    supernet, out, where = Path(supernet), Path(out), Cluster(**cluster)
    space = read_metadata(supernet)[1]
    config = load_retraining(recipe_name(recipe, data.name))[0].changed(epochs=epochs, lr=lr)
    chosen = _front_networks(Path(trials), space, front, supernet_id(supernet)) if trials else []
    check_data(supernet, data)
    study = study_ranking(
        lambda: inherited_accuracy(supernet, data),
        space,
        data,
        config,
        out,
        count=count,
        bins=bins,
        seed=seed,
        device=best_device(),
        seeds=seeds,
        trained=None if networks is None else Path(networks),
        parallel=RayWorkers(data, where) if where.is_spread else None,
        front=chosen,
        supernet_id=supernet_id(supernet),
    )
    with locked(out), best_effort("the study's page"):
        write_page(study, out)
    return study


def _front_networks(log: Path, space: Space, count: int, supernet: str) -> list[Arch]:
    """Networks along a search's front of accuracy and latency, or multiply-adds where it went without latency.

    Args:
        supernet: whose networks they are taken for: a search with another would choose others.

    Raises:
        UserError: there is no such log, or it is of another space, of no search, or of one that evaluated nothing yet.
    """
    if not log.exists():
        raise UserError(f"no file {log}")
    if not space.has_id(space_id := read_header(log).space_id):
        raise UserError(f"{log} is of another space ({space_id}) than {space.name} ({space.id})")
    if not (complete := evaluated(read_trials(log, space))):
        raise UserError(f"{log} has no network that was evaluated, of whose front some are to be trained")
    header = read_search_header(log)
    if header and header.supernet != supernet:
        warn(f"{log} is of a search with another supernet: networks of its front are not those that this one overrates")
    timed = all(trial.latency_ms is not None for trial in complete)
    chosen = along_the_front(complete, count, USUAL if timed else (ACCURACY, MACS))
    return [space.decode(np.array(trial.code)) for trial in chosen]
