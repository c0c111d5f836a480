"""Does the supernet rank networks as full training does? Measured: inherited accuracy before, full training after.

Networks are spread evenly over the multiply-adds of a space, one at random in each stretch; others may stand beside
them, such as those that a search chose. Each is evaluated with the supernet's weights (norms recalibrated, search
split) and trained fully from scratch, by one seed or several (test split, once). Agreement is Kendall's tau and
Spearman's rho with bootstrap intervals, over all networks and within bins of like cost, where a search under a budget
chooses; and the regret of choosing by inherited accuracy in a bin. Beside it, what any estimator could reach, for
full training agrees with itself only so far; and what `search.accuracy.predictor` reaches, which is fitted on their
accuracies on the search split.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ghostnet.arch import Arch
from ghostnet.files import WEIGHTS_FILE
from ghostnet.weights import load_network
from search.accuracy.predictor import LEAST, TrainingPoint, leave_one_out
from search.accuracy.study import (
    NORMS,
    SCHEMA,
    Agreement,
    Bin,
    Corrected,
    Epochs,
    Study,
    StudyNetwork,
    check_bins,
    read_inherited,
    read_plan,
)
from search.bootstrap import interval
from search.data.datasets import Data
from search.errors import UserError
from search.files import JsonLines, read_json, write_json
from search.folders import locked
from search.identity import Identity, check_same
from search.progress import bar
from search.rank_correlation import KendallTau, SpearmanRho, kendall_tau, spearman_rho
from search.recipes.schema import Training
from search.records import write_record
from search.training.evaluate import InheritedAccuracy, accuracy
from search.training.metadata import read_finished
from search.training.records import TRAINED_FILE, TrainedMetadata, read_trained
from search.training.retrain import Job, retrain, retraining_identity
from spaces.population import sample_evenly
from spaces.space import Space
from spaces.tables import costs

RECORD, PLAN, INHERITED, NETWORKS = "study.json", "plan.json", "inherited.jsonl", "networks"
RESULT = "fidelity.json"
REDRAWN = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedNetwork:
    """A network as it is ranked: `inherited` is any score, `trained` the accuracy that it is to rank."""

    macs: int
    inherited: float
    trained: float
    trained_by_seed: Sequence[float] = ()


class ParallelWorkers(Protocol):
    """Evaluates and trains many networks at a time, as `search.parallel.workers.RayWorkers` does."""

    def evaluate(
        self, inherited: InheritedAccuracy, waiting: list[tuple[str, Arch]]
    ) -> Iterator[tuple[str, float]]: ...
    def retrain(self, jobs: list[Job], config: Training) -> None: ...


def fidelity(
    inherited_accuracy: Callable[[], InheritedAccuracy],
    space: Space,
    data: Data,
    config: Training,
    out: Path,
    *,
    count: int,
    bins: int,
    seed: int,
    device: torch.device,
    seeds: int = 1,
    trained: Path | None = None,
    parallel: ParallelWorkers | None = None,
    front: Sequence[Arch] = (),
    supernet_id: str | None = None,
) -> Study:
    """Measures the fidelity of a supernet and writes the folder `out`; resumes what is there.

    Args:
        inherited_accuracy: loads the trained supernet, if it is still needed.
        seeds: full trainings of each network, from `seed` on; their mean is what is to be ranked.
        trained: where fully trained networks lie or go, to be shared by several supernets; `out/networks` if None.
        parallel: evaluates and trains many networks at a time; one after the other, here, if None.
        front: networks besides the `count` that are spread.
        supernet_id: which supernet this is (`metadata.supernet_id`), for a correction to go by; None measures
            nothing for one.

    Returns the result that is also written.

    Raises:
        UserError: too few networks for the bins, a network in `trained` was trained otherwise, or `out` holds another
            study, or another process is at work there.
    """
    config = config.changed(use_held_out=False)  # held-out images judge the networks
    identity = {
        "space": space.id,
        "norms": NORMS,
        "supernet": supernet_id,
        "data": data.fingerprint,
        "seed": seed,
        "networks": count,
        "front": [arch.id for arch in front],
    }
    with locked(out):
        log = JsonLines(out / INHERITED)
        inherited = read_inherited(log.path)
        if inherited or (out / RECORD).exists():
            check_same(_record(out), identity, f"{out} holds another study")
        archs = study_networks(space, count, seed, out / PLAN, front)
        check_bins(len(archs), bins)
        trained = trained or out / NETWORKS
        jobs = [job for name, arch in archs.items() for job in trainings(name, arch, trained / name, seed, seeds)]
        identities = {job: retraining_identity(job.arch, data, config, job.seed) for job in jobs}
        records = {job: read_finished(job.out / TRAINED_FILE, TrainedMetadata, identities[job]) for job in jobs}
        unknown = [(name, arch) for name, arch in archs.items() if name not in inherited]
        whole = inherited_accuracy() if unknown else None
        write_json(out / RECORD, identity)  # now that everything is there that it takes
        write_json(out / PLAN, {name: arch.to_dict() for name, arch in archs.items()})
        if whole:
            evaluate = parallel.evaluate if parallel else partial(_evaluate, device)
            with bar("inherited accuracy", len(unknown)) as progress:
                for name, network_accuracy in evaluate(whole, unknown):
                    log.append({"arch": name, "accuracy": network_accuracy})
                    inherited[name] = network_accuracy
                    progress.advance()
        waiting = [job for job in jobs if not records[job]]
        if parallel and waiting:
            parallel.retrain(waiting, config)
            records |= {job: read_trained(job.out / TRAINED_FILE) for job in waiting}
        else:
            for k, job in enumerate(waiting, 1):
                title = f"network {k} of {len(waiting)}"
                records[job] = retrain(job.arch, data, config, job.out, seed=job.seed, device=device, title=title)
        accuracies = {job: metadata.test_accuracy for job, metadata in records.items() if metadata}
        study = _result(space, data, config, archs, accuracies, inherited, identity, seeds, bins, device)
        write_record(out / RESULT, study)
    return study


def _record(out: Path) -> Any:
    """What a study is of; None where an earlier version began it."""
    return read_json(out / RECORD) if (out / RECORD).exists() else None


def _result(
    space: Space,
    data: Data,
    config: Training,
    archs: Mapping[str, Arch],
    tested: Mapping[Job, float],
    inherited: Mapping[str, float],
    identity: Identity,
    seeds: int,
    bins: int,
    device: torch.device,
) -> Study:
    """The study's figures; with a supernet that is known, also accuracies on the search split."""
    supernet_id, seed, chosen = identity["supernet"], identity["seed"], set(identity["front"])
    accuracies: dict[str, list[float]] = {name: [] for name in archs}
    on_search: dict[str, list[float]] = {name: [] for name in archs}
    for job, test_accuracy in tested.items():
        accuracies[job.name].append(test_accuracy)
        if supernet_id:
            net = load_network(job.arch, job.out / WEIGHTS_FILE).to(device)
            on_search[job.name].append(accuracy(net, data, data.search, job.arch.resolution))
    networks = []
    for name, arch in archs.items():
        code = space.encode(arch)
        known = costs(space, code)
        networks.append(
            StudyNetwork(
                arch=name,
                code=code.tolist(),
                kind="front" if name in chosen else "spread",
                macs=known.macs,
                params=known.params,
                inherited=inherited[name],
                trained=float(np.mean(accuracies[name])),
                trained_by_seed=accuracies[name],
                trained_on_search=float(np.mean(on_search[name])) if supernet_id else None,
            )
        )
    corrected = None
    if supernet_id and len(networks) >= LEAST:
        predicted = leave_one_out(space, [TrainingPoint.from_study(network) for network in networks])
        corrected = _corrected(networks, predicted, bins)
    ranking = agreement(networks, bins, seed)
    return Study(
        **{name: getattr(ranking, name) for name in Agreement.model_fields},
        schema=SCHEMA,
        norms=NORMS,
        space=space.name,
        space_id=space.id,
        supernet_id=supernet_id,
        data=data.name,
        training_images=len(data.train),
        test_images=len(data.test),
        search_images=len(data.search),
        training=Epochs(**config.alone().model_dump(mode="json")),
        seed=seed,
        seeds=seeds,
        corrected=corrected,
        networks=networks,
    )


def study_networks(space: Space, count: int, seed: int, path: Path, front: Sequence[Arch] = ()) -> dict[str, Arch]:
    """The networks of a study by id: those in its file, or `count` new ones and the `front`."""
    if not path.exists():
        sampled = [space.decode(code) for code in sample_evenly(space, np.random.default_rng([seed, count]), count)]
        return {arch.id: arch for arch in [*sampled, *front]}
    archs = read_plan(path, space)
    others = len(archs.keys() - {arch.id for arch in front})
    if not count - len(front) <= others <= count or not all(arch in space for arch in front):
        raise UserError(
            f"{path} is of another study than {count} networks of space {space.name}: --out names a new one"
        )
    return archs


def trainings(name: str, arch: Arch, folder: Path, seed: int, seeds: int) -> list[Job]:
    """The full trainings of one network: the first seed's in its folder, the others' below it."""
    later = [Job(name=name, arch=arch, seed=s, out=folder / f"seed-{s}") for s in range(seed + 1, seed + seeds)]
    return [Job(name=name, arch=arch, seed=seed, out=folder), *later]


def _evaluate(
    device: torch.device, evaluate: InheritedAccuracy, waiting: list[tuple[str, Arch]]
) -> Iterator[tuple[str, float]]:
    evaluate.prepare()
    for name, arch in waiting:
        yield name, evaluate(arch)


def agreement(networks: Sequence[RankedNetwork | StudyNetwork], bins: int, seed: int) -> Agreement:
    """How well `inherited` ranks `trained`, over all networks and within `bins` bins of like `macs`.

    `ceiling_tau` and `ceiling_within_bins` are what an estimator would reach that knew each network's accuracy on these
    test images, expected over seeds: the measured ones scatter about it by theirs. Of one seed that isn't known: None.
    `seed_tau` is the tau between two seeds' accuracies, all pairs' mean.
    """
    rows = sorted(networks, key=lambda row: row.macs)
    x, y, macs = (
        np.array([getattr(row, key) for row in rows], dtype=float) for key in ("inherited", "trained", "macs")
    )
    group = np.arange(len(rows)) * bins // len(rows)
    rng = np.random.default_rng(seed)

    def ends(correlation: KendallTau | SpearmanRho, groups: NDArray[np.int64] | None = None) -> list[float]:
        found: Floats = interval(
            lambda picks: np.nan_to_num(correlation(picks)), len(rows), rng, vectorized=True, group=groups
        )
        return found.tolist()

    by_seed = np.array([list(row.trained_by_seed) or [row.trained] for row in rows])
    ceilings = noise_ceilings(by_seed, group, rng)
    per_bin = []
    for k in range(bins):
        inside = group == k
        pick = y[inside][x[inside].argmax()]
        per_bin.append(
            Bin(
                macs=[rows[i].macs for i in (np.flatnonzero(inside)[0], np.flatnonzero(inside)[-1])],
                networks=int(inside.sum()),
                kendall_tau=kendall_tau(x[inside], y[inside]),
                spearman=spearman_rho(x[inside], y[inside]),
                regret=float(y[inside].max() - pick),
                regret_of_a_random_pick=float(y[inside].max() - y[inside].mean()),
            )
        )
    return Agreement(
        kendall_tau=kendall_tau(x, y),
        kendall_tau_95=ends(KendallTau(x, y)),
        spearman=spearman_rho(x, y),
        spearman_95=ends(SpearmanRho(x, y)),
        tau_within_bins=kendall_tau(x, y, group),
        tau_within_bins_95=ends(KendallTau(x, y, group), group),
        seed_tau=seed_tau(by_seed),
        ceiling_tau=ceilings and ceilings[0],
        ceiling_within_bins=ceilings and ceilings[1],
        macs_tau=kendall_tau(macs, y),
        macs_within_bins=kendall_tau(macs, y, group),
        mean_regret=float(np.mean([b.regret for b in per_bin])),
        mean_regret_of_a_random_pick=float(np.mean([b.regret_of_a_random_pick for b in per_bin])),
        bins=per_bin,
    )


def _corrected(networks: Sequence[StudyNetwork], predicted: Floats, bins: int) -> Corrected:
    """Ranking and error of the correction on each network, if it is fitted on the others."""
    order = np.argsort([network.macs for network in networks], kind="stable")
    x, y = predicted[order], np.array([networks[k].trained for k in order])
    group = np.arange(len(networks)) * bins // len(networks)
    return Corrected(
        kendall_tau=kendall_tau(x, y),
        tau_within_bins=kendall_tau(x, y, group),
        error=float(np.abs(x - y).mean()),
    )


def noise_ceilings(by_seed: Floats, group: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, float] | None:
    """Kendall's tau of expected accuracies with means over seeds that are measured again, over all pairs and within
    groups: accuracies [networks, seeds]. None for one seed.

    All networks are tested on the same images, and of what a seed does to all alike a ranking knows nothing: so the
    scatter that counts is what is left of the table without its means of networks and of seeds.
    """
    count, seeds = by_seed.shape
    if seeds == 1:
        return None
    mean = by_seed.mean(1)
    left = by_seed - mean[:, None] - by_seed.mean(0) + mean.mean()
    variance = float(np.square(left).sum()) / ((count - 1) * (seeds - 1)) / seeds
    share = max(0.0, 1 - variance / max(float(mean.var(ddof=1)), 1e-12))  # of their scatter that is the networks' own
    expected = mean.mean() + share**0.5 * (mean - mean.mean())  # with noise they vary as the measured ones
    again = rng.normal(expected, variance**0.5, size=(REDRAWN, count))
    overall, within = (float(np.mean([kendall_tau(expected, y, bins) for y in again])) for bins in (None, group))
    return overall, within


def seed_tau(by_seed: Floats) -> float | None:
    """Kendall's tau between two seeds' accuracies [networks, seeds], the mean over all pairs; None for one seed."""
    pairs = list(combinations(by_seed.T, 2))
    return float(np.mean([kendall_tau(a, b) for a, b in pairs])) if pairs else None
