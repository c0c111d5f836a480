"""The stages of a run: each reads what the ones before it left in the run's folder, and leaves its own product."""

import time
from itertools import islice, product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from ghostnet.arch import Arch
from ghostnet.weights import network as load_network
from search.accuracy.ranking_study import fidelity as measure_fidelity
from search.data.datasets import resized
from search.engine.choose import choose_by_budget
from search.errors import UserError
from search.export.export import MANIFEST
from search.export.export import export as write_network
from search.export.manifest import read_manifest
from search.files import write_json
from search.identity import check_same, file_digest
from search.latency.calibrate import calibrate as make_table
from search.latency.measure import measure
from search.latency.predictor import Predictor
from search.latency.runtimes import runtime
from search.latency.table import LatencyTable
from search.parallel.workers import SideBySide
from search.pipeline.job import Run
from search.pipeline.retrain_stage import over_seeds, train_all, words
from search.pipeline.search_stage import SearchOutcome, search_networks
from search.progress import best_effort, warn
from search.recipes.schema import Recipe
from search.report.fidelity import write_page
from search.report.report import write_report
from search.run_folder.result import SCHEMA, read_figures, read_result
from search.run_folder.run import (
    EXPORTS,
    FIDELITY,
    FIRST_TRIALS,
    INHERITED,
    NETWORKS,
    PRODUCTS,
    RESULT,
    SUPERNET,
    TABLE,
    TIMES,
    TRIALS,
)
from search.terminal import say
from search.training.doubts import warn_of
from search.training.inherited import inherited_accuracy
from search.training.metadata import PARENT, supernet_id
from search.training.records import read_trained
from search.training.retrain import ARCH, CARD, WEIGHTS, Job
from search.training.supernets import make_supernet
from spaces.population import Window, sample

LIKE = 0.02  # multiply-adds of a random network are a chosen one's to within that share


def train(job: Run) -> None:

    config, seed = job.recipe.supernet, job.recipe.seed
    card = make_supernet(
        job.space,
        job.data,
        config,
        job.out / SUPERNET,
        seed=seed,
        device=job.device,
        seconds=job.seconds("train"),
    )
    say(f"  {card['training']['epochs']:g} of {config.epochs:g} epochs, loss {card['training']['loss']:.3f}")
    warn_of("supernet", card.get("warnings", []))


def calibrate(job: Run) -> None:

    config, limit = job.recipe.latency, job.seconds("calibrate")
    seconds = min(60 * config.minutes, limit or float("inf"))
    table = make_table(
        job.space,
        job.out / TABLE,
        runtime_name=config.runtime,
        threads=config.threads,
        batch=config.batch,
        dtype=config.dtype,
        rounds=config.rounds,
        fit_networks=config.fit_networks,
        held_out=config.held_out,
        seed=job.recipe.seed,
        deadline=time.monotonic() + seconds,
    )
    v = table.validation
    say(
        f"  error on {v.networks} networks it never saw: {v.mape:.1%} on average, {v.max:.1%} at most, Kendall tau "
        f"{v.kendall_tau:.2f}; {table.protocol.disturbed:.0%} of the visits were disturbed"
    )


def fidelity(job: Run) -> None:
    """Full trainings of networks spread over the space, and of some that the supernet alone would choose."""

    config, training, supernet = job.recipe.fidelity, job.recipe.retrain, job.out / SUPERNET
    front: list[Arch] = []
    if config.front:
        inside = _search(job, FIRST_TRIALS, trials=config.trials).inside.values()
        front = [job.space.decode(trial["code"]) for trial in choose_by_budget(list(inside), config.front)]
    beside = None
    if training.workers > 1:
        beside = SideBySide(job.data, training.workers, None)
    out = (job.out / FIDELITY).parent
    found = measure_fidelity(
        lambda: inherited_accuracy(supernet, job.data),
        job.space,
        job.data,
        training,
        out,
        count=config.spread,
        bins=min(4, config.networks // 4),
        seed=job.recipe.seed,
        device=job.device,
        beside=beside,
        front=front,
        supernet_id=supernet_id(supernet),
    )
    with best_effort("the study's page"):
        write_page(found, out)
    corrected = found["corrected"]
    say(
        f"  {config.networks} networks trained: the supernet ranks them to a Kendall tau of "
        f"{found['kendall_tau']:.2f}, corrected by the others to {corrected['kendall_tau']:.2f} (error "
        f"{100 * corrected['error']:.1f} points)"
    )


def search(job: Run) -> None:

    config = job.recipe.search
    found = _search(job, TRIALS, job.out / FIDELITY if job.done("fidelity") else None)
    trials = found.trials
    if not trials:
        raise UserError(f"the search evaluated no network: all failed, see {job.out / TRIALS}")
    best, count = found.front, job.recipe.retrain.chosen
    chosen = choose_by_budget(list(found.inside.values()), count, fastest=len(found.inside) == 1)
    result = {
        "schema": SCHEMA,
        "evaluated": len(trials),
        "planned": config.trials,
        "front": [t["arch"] for t in best],
        "fronts": {budget: [t["arch"] for t in each] for budget, each in found.fronts.items()},
        "chosen": dict(zip(labels(len(chosen)), chosen, strict=True)),
        "random": like_them(job, chosen),
        "warnings": found.warnings,
    }
    say(f"  {len(trials)} of {config.trials} networks evaluated, {len(best)} on the front")
    for each in found.warnings:
        warn(each)
    write_json(job.out / RESULT, result)


def labels(count: int) -> list[str]:
    """Names of the chosen networks: A to Z, AA, AB and so on."""
    lengths = range(1, count + 1)
    names = (letters for length in lengths for letters in product(ascii_uppercase, repeat=length))
    return ["".join(letters) for letters in islice(names, count)]


def _search(job: Run, log: str, correction: Path | None = None, trials: int | None = None) -> SearchOutcome:

    config, limit = job.recipe.search, job.seconds("search")
    return search_networks(
        job.out / SUPERNET,
        [job.out / TABLE],
        job.out / log,
        lambda: job.data,
        config.model_copy(update={"trials": trials}) if trials else config,
        seed=job.recipe.seed,
        deadline=None if limit is None else time.monotonic() + limit,
        at_least=3 * job.recipe.retrain.chosen,
        fidelity=correction,
    )


def networks(job: Run) -> dict[str, Arch]:
    """The chosen networks, the family's at some widths, and random ones, by the name of their folder."""
    result = read_result(job.out / RESULT)
    archs = {label: job.space.decode(trial["code"]) for label, trial in result.chosen.items()}
    archs |= {f"ghostnet-{width:g}x": job.space.uniform(width) for width in job.recipe.retrain.baseline_widths}
    return archs | {name: job.space.decode(np.array(code)) for name, code in result.random.items()}


def like_them(job: Run, chosen: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Random networks of the chosen ones' multiply-adds, one after the other: what luck would have found."""

    rng, found = np.random.default_rng([job.recipe.seed, 7]), {}
    for k in range(job.recipe.retrain.random):
        macs = chosen[k % len(chosen)]["macs"]
        window = Window(round((1 - LIKE) * macs), round((1 + LIKE) * macs))
        found[f"random-{k + 1}"] = sample(job.space, rng, 1, window)[0].tolist()
    return found


def retrain(job: Run) -> None:

    archs, config, first = networks(job), job.recipe.retrain, job.recipe.seed
    jobs = [
        Job(name=name, arch=arch, seed=first + k, out=job.out / NETWORKS / name / (f"seed-{first + k}" if k else ""))
        for k in range(1 if job.minutes else config.seeds)  # a time box trains every network once, as well as it can
        for name, arch in archs.items()
    ]
    begin = beginning(job.recipe, job.out / SUPERNET)
    cards = train_all(jobs, job.data, config, seconds=job.seconds("retrain"), workers=config.workers, **begin)
    say(words(over_seeds(jobs, cards)))
    with best_effort("what the supernet says of the trained networks"):
        write_json(job.out / INHERITED, inherited(job, archs))
    timed, folders = {}, {name: job.out / NETWORKS / name for name in archs}
    if (parent := job.out / SUPERNET / PARENT).exists():
        folders["parent"], archs = parent, archs | {"parent": Arch.load(parent / ARCH)}
    for name, arch in archs.items():
        net = load_network(arch, folders[name] / WEIGHTS)
        timed[name] = (net, (job.data.in_chs, arch.resolution, arch.resolution))
    setting = job.recipe.latency  # the table's, by which they were chosen
    run = runtime(setting.runtime, setting.threads, setting.dtype)
    times = measure(run, timed, job.recipe.seed, setting.batch)
    write_json(job.out / TIMES, times)


def beginning(recipe: Recipe, supernet: Path) -> dict[str, Any]:
    """With which weights full trainings begin and who teaches them, as options of `train_all`: where networks are
    transplants, these and their parent, unless the recipe says otherwise."""
    transplanted, config = recipe.supernet.kind == "transplant", recipe.retrain
    inherits = config.init == "supernet" or (config.init == "auto" and transplanted)
    taught = config.teacher == "supernet" or (config.teacher == "auto" and transplanted and inherits)
    return {"init": supernet if inherits else None, "teacher": f"supernet:{supernet}" if taught else None}


def inherited(job: Run, archs: dict[str, Arch]) -> dict[str, float]:
    """What the supernet says of the networks that are trained fully, whether the search met them or not."""

    evaluate = inherited_accuracy(job.out / SUPERNET, job.data)
    evaluate.settle_in()
    return {name: evaluate(arch) for name, arch in archs.items()}


def export(job: Run) -> None:
    """Exports the chosen networks. One that can't be is left out with its reason; the others and the report go on."""

    table = LatencyTable.load(job.out / TABLE)
    predict, times = Predictor(table, job.space), read_figures(job.out / TIMES)
    chosen, archs = read_result(job.out / RESULT).chosen, networks(job)
    images = job.data.normalise(job.data.search.images[:64])
    left_out: dict[str, str] = {}
    for label, trial in chosen.items():
        folder = job.out / NETWORKS / label
        out = job.out / EXPORTS / label
        identity = {"arch": archs[label].id, "weights": file_digest(folder / WEIGHTS)}
        if (out / MANIFEST).exists():
            check_same(read_manifest(out).get("identity"), identity, f"{out} is the export of another network")
            continue
        card = read_trained(folder / CARD)
        latency = predict(job.space.encode(archs[label]))
        facts = {
            "accuracy": {
                "test": card.test_accuracy,
                "test_images": card.test_images,
                "inherited_on_search_split": trial.get("inherited", trial["accuracy"]),
            },
            "latency": {
                "runtime": table.setting.runtime,
                "runtime_version": table.setting.runtime_version,
                "threads": table.setting.threads,
                "device": table.device.cpu,
                "predicted_ms": float(latency.latency_ms[0]),
                "predicted_low_ms": float(latency.low_ms[0]),
                "predicted_high_ms": float(latency.high_ms[0]),
                "measured_ms": times[label],
            },
            **card.about(),
            "space": job.space.name,
            "space_id": job.space.id,
            "identity": identity,
        }
        net = load_network(archs[label], folder / WEIGHTS)
        try:
            write_network(net, out, ["onnx", "safetensors"], resized(images, net.arch.resolution), facts)
        except OSError:  # the disk's fault, not the network's: a resumed run tries again
            raise
        except Exception as error:
            left_out[label] = " ".join(f"{type(error).__name__}: {error}".removeprefix("UserError: ").split())
            warn(f"{label} is not exported: {left_out[label]}")
    exported = [label for label in chosen if label not in left_out]
    write_json(job.out / PRODUCTS["export"], {"exported": exported, "left_out": left_out})


def report(job: Run) -> None:

    write_report(job.out)
