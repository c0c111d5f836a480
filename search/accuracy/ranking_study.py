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
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ghostnet.arch import Arch
from ghostnet.weights import load_network
from search.accuracy.predictor import LEAST, leave_one_out
from search.accuracy.study import NORMS, SCHEMA, Study, read_inherited, read_plan
from search.bootstrap import interval
from search.data.datasets import Data
from search.errors import UserError
from search.files import JsonLines, read_json, write_json
from search.folders import locked
from search.identity import Identity, check_same
from search.progress import bar
from search.rank_correlation import KendallTau, SpearmanRho
from search.recipes.schema import Training
from search.records import parse_record
from search.training.evaluate import InheritedAccuracy, accuracy
from search.training.metadata import read_finished
from search.training.retrain import TRAINED_FILE, WEIGHTS, Job, retrain, retraining_identity
from spaces.population import sample_evenly
from spaces.space import Space
from spaces.tables import costs

RECORD, PLAN, INHERITED, NETWORKS = "study.json", "plan.json", "inherited.jsonl", "networks"
RESULT = "fidelity.json"
REDRAWN = 200
Floats = NDArray[np.float64]


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
        UserError: a network in `trained` was trained otherwise, or `out` holds another study, or another process is at
            work there.
    """
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
        trained = trained or out / NETWORKS
        jobs = [job for name, arch in archs.items() for job in trainings(name, arch, trained / name, seed, seeds)]
        records = {
            job: read_finished(job.out / TRAINED_FILE, retraining_identity(job.arch, data, config, job.seed))
            for job in jobs
        }
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
            records |= {job: read_json(job.out / TRAINED_FILE) for job in waiting}
        else:
            for k, job in enumerate(waiting, 1):
                title = f"network {k} of {len(waiting)}"
                records[job] = retrain(job.arch, data, config, job.out, seed=job.seed, device=device, title=title)
        result = _result(space, data, config, archs, records, inherited, identity, seeds, bins, device)
        write_json(out / RESULT, result)
    return parse_record(Study, result, str(out / RESULT))


def _record(out: Path) -> Any:
    """What a study is of; None where an earlier version began it."""
    return read_json(out / RECORD) if (out / RECORD).exists() else None


def _result(
    space: Space,
    data: Data,
    config: Training,
    archs: Mapping[str, Arch],
    records: Mapping[Job, Any],
    inherited: Mapping[str, float],
    identity: Identity,
    seeds: int,
    bins: int,
    device: torch.device,
) -> dict[str, Any]:
    """The study's figures; with a supernet that is known, also accuracies on the search split."""
    supernet_id, seed, chosen = identity["supernet"], identity["seed"], set(identity["front"])
    accuracies: dict[str, list[float]] = {name: [] for name in archs}
    on_search: dict[str, list[float]] = {name: [] for name in archs}
    for job, metadata in records.items():
        accuracies[job.name].append(metadata["test_accuracy"])
        if supernet_id:
            net = load_network(job.arch, job.out / WEIGHTS).to(device)
            on_search[job.name].append(accuracy(net, data, data.search, job.arch.resolution))
    rows = [
        {
            "arch": name,
            "code": space.encode(arch).tolist(),
            "kind": "front" if name in chosen else "spread",
            **asdict(costs(space, space.encode(arch))),
            "inherited": inherited[name],
            "trained": float(np.mean(accuracies[name])),
            "trained_by_seed": accuracies[name],
            "trained_on_search": float(np.mean(on_search[name])) if supernet_id else None,
        }
        for name, arch in archs.items()
    ]
    corrected = leave_one_out(space, rows) if supernet_id and len(rows) >= LEAST else None
    return {
        "schema": SCHEMA,
        "norms": NORMS,
        "space": space.name,
        "space_id": space.id,
        "supernet_id": supernet_id,
        "data": data.name,
        "training_images": len(data.train),
        "test_images": len(data.test),
        "search_images": len(data.search),
        "training": config.alone().model_dump(mode="json"),
        "seed": seed,
        "seeds": seeds,
        **agreement(rows, bins, len(data.test), seed),
        "corrected": None if corrected is None else _corrected(rows, corrected, bins),
        "networks": rows,
    }


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


def agreement(rows: list[dict[str, Any]], bins: int, test_images: int, seed: int) -> dict[str, Any]:
    """How well `inherited` ranks `trained`, over all rows and within `bins` bins of like `macs`.

    `ceiling_tau` and `ceiling_within_bins` are what an estimator would reach that knew each network's expected
    accuracy: the measured ones scatter about it by their seeds, where there are several, and by the test images.
    `seed_tau` is the tau between two seeds' accuracies, all pairs' mean.
    """
    rows = sorted(rows, key=lambda row: row["macs"])
    x, y, macs = (np.array([row[key] for row in rows], dtype=float) for key in ("inherited", "trained", "macs"))
    group = np.arange(len(rows)) * bins // len(rows)
    rng = np.random.default_rng(seed)

    correlations = KendallTau(x, y), SpearmanRho(x, y), KendallTau(x, y, group)

    def statistics(picks: NDArray[np.int64]) -> Floats:
        return np.stack([np.nan_to_num(each(picks)) for each in correlations], -1)

    tau_95, spearman_95, within_95 = interval(statistics, len(rows), rng, vectorized=True).T.tolist()
    expected, error = _expected_accuracies([row.get("trained_by_seed", [row["trained"]]) for row in rows], test_images)
    redrawn = rng.normal(expected, error, size=(REDRAWN, len(y)))
    per_bin = []
    for k in range(bins):
        inside = group == k
        pick = y[inside][x[inside].argmax()]
        per_bin.append(
            {
                "macs": [rows[i]["macs"] for i in (np.flatnonzero(inside)[0], np.flatnonzero(inside)[-1])],
                "networks": int(inside.sum()),
                **_rank(x[inside], y[inside]),
                "regret": float(y[inside].max() - pick),
                "regret_of_a_random_pick": float(y[inside].max() - y[inside].mean()),
            }
        )
    overall = _rank(x, y)
    return {
        "kendall_tau": overall["kendall_tau"],
        "kendall_tau_95": tau_95,
        "spearman": overall["spearman"],
        "spearman_95": spearman_95,
        "tau_within_bins": within_bins(x, y, group),
        "tau_within_bins_95": within_95,
        "seed_tau": seed_tau([row.get("trained_by_seed", [row["trained"]]) for row in rows]),
        "ceiling_tau": float(np.mean([_rank(expected, again)["kendall_tau"] for again in redrawn])),
        "ceiling_within_bins": float(np.mean([within_bins(expected, again, group) for again in redrawn])),
        "macs_tau": _rank(macs, y)["kendall_tau"],
        "macs_within_bins": within_bins(macs, y, group),
        "mean_regret": float(np.mean([b["regret"] for b in per_bin])),
        "mean_regret_of_a_random_pick": float(np.mean([b["regret_of_a_random_pick"] for b in per_bin])),
        "bins": per_bin,
    }


def _corrected(rows: list[dict[str, Any]], predicted: Floats, bins: int) -> dict[str, float]:
    """Ranking and error of the correction on each network, if it is fitted on the others."""
    order = np.argsort([row["macs"] for row in rows], kind="stable")
    x, y = predicted[order], np.array([rows[k]["trained"] for k in order])
    group = np.arange(len(rows)) * bins // len(rows)
    return {
        "kendall_tau": _rank(x, y)["kendall_tau"],
        "tau_within_bins": within_bins(x, y, group),
        "error": float(np.abs(x - y).mean()),
    }


def _expected_accuracies(by_seed: list[list[float]], test_images: int) -> tuple[Floats, float]:
    """Expected accuracies, shrunk so that with noise they vary as the measured ones [networks, seeds], and the
    noise."""
    measured = np.array(by_seed)
    count, mean = measured.shape[1], measured.mean(1)
    variance = float((mean * (1 - mean)).mean()) / test_images
    if count > 1:
        variance += float(measured.var(1, ddof=1).mean()) / count
    share = max(0.0, 1 - variance / max(float(mean.var()), 1e-12))  # of their scatter that is the networks' own
    return mean.mean() + share**0.5 * (mean - mean.mean()), variance**0.5


def within_bins(x: Floats, y: Floats, group: NDArray[np.int64]) -> float:
    """Kendall's tau (b) over the pairs whose two networks are in one bin; 0 where one value ranks nothing."""
    return float(np.nan_to_num(KendallTau(x, y, group)()))


def seed_tau(by_seed: list[list[float]]) -> float | None:
    """Kendall's tau between two seeds' accuracies [networks, seeds], the mean over all pairs; None for one seed."""
    pairs = list(combinations(np.array(by_seed).T, 2))
    return float(np.mean([_rank(a, b)["kendall_tau"] for a, b in pairs])) if pairs else None


def _rank(x: Floats, y: Floats) -> dict[str, float]:
    """Both correlations; 0 where one value ranks nothing."""
    tau, rho = (float(np.nan_to_num(of(x, y)())) for of in (KendallTau, SpearmanRho))
    return {"kendall_tau": tau, "spearman": rho}
