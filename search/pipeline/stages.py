"""The stages of a run: each reads what the ones before it left in the run's folder, and leaves its own product."""

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from shlex import join
from string import ascii_uppercase
from typing import TypeVar

import numpy as np
from torch import nn

from ghostnet.arch import Arch
from ghostnet.files import ARCH_FILE, WEIGHTS_FILE
from ghostnet.resize import resized
from ghostnet.weights import load_network
from search.accuracy.ranking_study import fidelity as measure_fidelity
from search.deadlines import deadline_in
from search.engine.choose import choose_by_budget
from search.engine.predicted_front import coarse_to_fine
from search.engine.trial import Trial
from search.errors import UserError
from search.export.export import export as write_network
from search.export.manifest import MANIFEST, read_manifest, searched_metadata
from search.files import glob, write_json
from search.identity import check_same, file_digest
from search.latency.calibrate import calibrate as make_table
from search.latency.energy import SYS, find_counter
from search.latency.predictor import Predictor
from search.latency.runtimes import RUNTIMES, Runtime, Shape, runtime
from search.latency.table import LatencyTable, format_error
from search.latency.table_warnings import print_table_warnings
from search.latency.time_networks import measure, measure_joules
from search.parallel.workers import RayWorkers, train_supernet
from search.pipeline.current_run import Run
from search.pipeline.retrain_stage import format_accuracies, summarise_seeds, train_all
from search.pipeline.search_stage import SearchOutcome, search_networks, usual_reference_ms
from search.progress import best_effort, warn
from search.recipes.schema import Training
from search.records import write_record
from search.report.fidelity import write_page
from search.report.report import write_report
from search.run_folder.result import (
    EnergyFigures,
    Exported,
    NetworkEnergy,
    SearchResult,
    read_figures,
    read_result,
    read_shares,
)
from search.run_folder.run import (
    ENERGY,
    EXPORTS,
    FIDELITY,
    FINAL_SUPERNET,
    FIRST_TRIALS,
    INHERITED,
    NETWORKS,
    OWN_TEACHER,
    PRODUCTS,
    RESULT,
    SUPERNET,
    TABLE,
    TIMES,
    TRIALS,
    final_supernet,
    initial_weights,
    retrains_parent,
    trained_parent,
)
from search.run_folder.source_run import read_source_runs
from search.seeds import MACS_MATCHED
from search.terminal import say
from search.training.inherited import inherited_accuracy
from search.training.metadata import supernet_id
from search.training.origin import Origin
from search.training.records import PARENT, TRAINED_FILE, SupernetMetadata, check_unchanged, read_trained
from search.training.result_warnings import LEAST_STEPS, print_warnings
from search.training.retrain import Job
from search.training.supernets import make_supernet
from search.training.teacher import askers
from spaces.errors import SpaceError
from spaces.population import sample
from spaces.quantities import Window

T = TypeVar("T")
MACS_TOLERANCE = 0.02  # multiply-adds of a random network are a chosen one's to within that share


def train(run: Run) -> None:
    """Trains the run's supernet, in the stage's time box if there is one, and prints how far it came.

    Raises:
        UserError: a parent that can't be had or doesn't fit the space, or what the training loop refuses.
    """
    config, seed = run.recipe.supernet, run.recipe.seed
    folder, box, cluster = run.out / SUPERNET, run.box("train"), run.settings.cluster
    if cluster.is_spread:
        sharing = replace(cluster, workers=sharing_workers(cluster.num_workers, config))
        metadata: SupernetMetadata | None = train_supernet(
            run.space, run.data, config, folder, sharing, seed=seed, box=box
        )
    else:
        metadata = make_supernet(run.space, run.data, config, folder, seed=seed, device=run.device, box=box)
    assert metadata  # a run is one process
    training = metadata.training
    if training.planned_steps:
        say(f"  {training.epochs:g} of {training.planned_epochs:g} epochs, loss {training.loss:.3f}")
    else:
        say("  the parent is taken as it is given")
    print_warnings("supernet", metadata.warnings)


def sharing_workers(workers: int, config: Training) -> int:
    """How many of the workers can share a training: its batch divides into equal parts of two images or more."""
    parts = config.batch_size // config.accumulate
    return next(n for n in range(max(1, min(workers, parts // 2)), 0, -1) if parts % n == 0)


def calibrate(run: Run) -> None:
    """Makes the run's latency table on this machine, within the recipe's minutes or the stage's time box if that is
    shorter, and prints its error.

    Raises:
        UserError: the runtime can't run here, or another calibration's measurements or table lie in the folder.
    """
    config, limit = run.recipe.latency, run.seconds("calibrate")
    minutes = min(config.minutes, limit / 60 if limit else float("inf"))
    settings = config.model_dump() | {"minutes": minutes}
    table = make_table(run.space, run.out / TABLE, **settings, seed=run.recipe.seed)
    say(f"  {format_error(table)}")
    print_table_warnings(table)


def fidelity(run: Run) -> None:
    """Full trainings of networks spread over the space, and of some that the supernet alone would choose."""
    config, training, supernet = run.recipe.fidelity, run.recipe.retrain, run.out / SUPERNET
    front: list[Arch] = []
    if config.front:
        first = _search(run, FIRST_TRIALS, trials=config.trials)
        chosen = choose_by_budget(list(first.inside.values()), config.front, first.problem.objectives)
        front = [run.space.decode(np.array(trial.code)) for trial in chosen]
    out = (run.out / FIDELITY).parent
    study = measure_fidelity(
        lambda: inherited_accuracy(supernet, run.data),
        run.space,
        run.data,
        training,
        out,
        count=config.spread,
        bins=min(4, config.networks // 4),
        seed=run.recipe.seed,
        device=run.device,
        parallel=RayWorkers(run.data, run.training_cluster) if run.training_cluster.is_spread else None,
        front=front,
        supernet_id=supernet_id(supernet),
    )
    with best_effort("the study's page"):
        write_page(study, out)
    text = f"{config.networks} networks trained: the supernet ranks them to a Kendall tau of {study.kendall_tau:.2f}"
    if corrected := study.corrected:
        text += f", corrected by the others to {corrected.kendall_tau:.2f} (error {100 * corrected.error:.1f} points)"
    say(f"  {text}")


def search(run: Run) -> None:
    """Searches, chooses the networks that are trained fully, draws the random ones beside them, and writes it all to
    the run's `result.json`.

    Raises:
        UserError, SpaceError: as of `search_networks`.
    """
    config, begun = run.recipe.search, time.monotonic()
    if run.recipe.fidelity.networks and run.began_uncorrected and not run.settings.minutes:
        say("  begun in a time box, so without the fidelity study: it goes on without")
    searched = _search(run, TRIALS, run.out / FIDELITY if "fidelity" in run.stages else None)
    trials = searched.trials
    count = run.recipe.retrain.chosen
    pools, objectives = list(searched.inside.values()), searched.problem.objectives
    chosen = choose_by_budget(pools, count, objectives, fastest=len(pools) == 1)
    named = dict(zip(labels(len(chosen)), chosen, strict=True))
    result = searched.result(planned=config.trials, chosen=named, random=macs_matched_random(run, chosen))
    say(f"  {len(trials)} networks evaluated ({config.trials} planned), {len(result.front)} on the front")
    for each in searched.warnings:
        warn(each)
    seconds = round(time.monotonic() - begun, 3)
    write_record(run.out / RESULT, result.model_copy(update={"seconds": seconds}))


def labels(count: int) -> list[str]:
    """Names of the chosen networks: A to Z, AA, AB and so on."""
    lengths = range(1, count + 1)
    names = (letters for length in lengths for letters in product(ascii_uppercase, repeat=length))
    return ["".join(letters) for letters in islice(names, count)]


def _search(run: Run, log: str, correction: Path | None = None, trials: int | None = None) -> SearchOutcome:
    config, limit = run.recipe.search, run.seconds("search")
    stretched = trials is None and config.backend != "nni"  # which divides its trials beforehand
    if run.settings.cluster.is_spread:
        config = config.model_copy(update={"backend": "ray"})
    try:
        return search_networks(
            run.out / SUPERNET,
            [run.out / TABLE],
            run.out / log,
            lambda: run.data,
            config.model_copy(update={"trials": trials}) if trials else config,
            seed=run.recipe.seed,
            deadline=deadline_in(limit),
            most=round(run.stretch("search") * config.trials) if stretched else None,
            at_least=run.recipe.retrain.chosen,
            fidelity=correction,
            training=run.recipe.retrain,
            cluster=run.settings.cluster,
            processes=run.processes,
        )
    except SpaceError as error:  # a latency budget, which the table alone tells to be none
        again = join(["ghostnas", "search", "--supernet", str(run.out / SUPERNET), "--latency", str(run.out / TABLE)])
        raise UserError(f"{error}; `{again}` takes another budget and what is trained and timed here") from None


def networks(run: Run) -> dict[str, Arch]:
    """The chosen networks, the family's at some widths, and random ones, by the name of their folder."""
    result = read_result(run.out / RESULT)
    archs = {label: run.space.decode(np.array(trial.code)) for label, trial in result.chosen.items()}
    archs |= {f"ghostnet-{width:g}x": run.space.uniform(width) for width in run.recipe.retrain.baseline_widths}
    return archs | {name: run.space.decode(np.array(code)) for name, code in result.random.items()}


def macs_matched_random(run: Run, chosen: list[Trial]) -> dict[str, list[int]]:
    """Random networks with the multiply-adds of the chosen ones, in turn, as a baseline."""
    rng, codes = np.random.default_rng([run.recipe.seed, MACS_MATCHED]), {}
    for k in range(run.recipe.retrain.random):
        macs = chosen[k % len(chosen)].macs
        window = Window(round((1 - MACS_TOLERANCE) * macs), round((1 + MACS_TOLERANCE) * macs))
        codes[f"random-{k + 1}"] = sample(run.space, rng, 1, window)[0].tolist()
    return codes


def retrain(run: Run) -> None:
    archs, config, first = networks(run), run.recipe.retrain, run.recipe.seed
    if retrains_parent(run.recipe):
        retrain_parent(run, len(archs))
    begin = initial_weights(run.recipe, final_supernet(run.out))
    weights = dict.fromkeys(archs, 1.0)
    if box := run.box("retrain"):
        weights = step_seconds(run, archs, taught=begin.teacher is not None)  # so that all get as many steps
        archs = within_time_box(run, archs, box.seconds, weights)
    seeds = 1 if box else config.seeds  # a time box trains every network once, as well as it can
    jobs = [
        Job(
            name=name,
            arch=arch,
            seed=first + k,
            out=run.out / NETWORKS / name / (f"seed-{first + k}" if k else ""),
            weight=weights[name],
        )
        for k in range(seeds)
        for name, arch in archs.items()
    ]
    records = train_all(
        jobs,
        run.data,
        config,
        soup=config.soup,
        origin=begin,
        box=run.box("retrain"),
        cluster=run.training_cluster,
        processes=run.processes,
    )
    say(format_accuracies(summarise_seeds(jobs, records)))
    with best_effort("what the supernet says of the trained networks"):
        write_json(run.out / INHERITED, inherited(run, archs))
    timed, folders = {}, {name: run.out / NETWORKS / name for name in archs}
    if (parent := trained_parent(run.out)).exists():
        folders["parent"], archs = parent, archs | {"parent": Arch.load(parent / ARCH_FILE)}
    for name, arch in archs.items():  # each once, whatever its weights: two timings of one would differ
        net = load_network(arch, folders[name] / WEIGHTS_FILE)
        timed[arch.id] = (net, net.input_shape)
    setting = run.recipe.latency  # the table's, by which they were chosen
    target = runtime(setting.runtime, setting.threads, setting.dtype)
    usual_ms = usual_reference_ms(LatencyTable.load(run.out / TABLE))
    times = measure(target, timed, run.recipe.seed, setting.batch, usual_ms)
    with best_effort("the energy of the trained networks"):
        figures = energy_figures(target, timed, setting.batch)
        write_record(run.out / ENERGY, figures.model_copy(update={"networks": _named(archs, figures.networks)}))
    write_json(run.out / TIMES, _named(archs, times))


def _named(archs: Mapping[str, Arch], measured: Mapping[str, T]) -> dict[str, T]:
    """What was measured of architectures, by the names of the networks that have them."""
    return {name: measured[arch.id] for name, arch in archs.items() if arch.id in measured}


def retrain_parent(run: Run, networks: int) -> None:
    """Trains the parent again, as the networks are trained that then begin with its transplants: from what it has, on
    held-out images, too. Where the recipe says so it is then the mean of several such trainings, and is trained once
    more, taught by what it is by then (a born-again network: Furlanello et al., ICML 2018). One that was given, and not
    trained, stays what it is; so does one without which networks were begun, in a shorter time box or by an earlier
    version.

    Args:
        networks: that are to be trained then; a time box is divided among them and the parent's trainings.
    """
    before, out, config = run.out / SUPERNET / PARENT, run.out / NETWORKS / PARENT, run.recipe.retrain
    begun = [folder for folder in glob(run.out / NETWORKS, "*") if folder.is_dir() and folder != out]
    untrained = not read_trained(before / TRAINED_FILE).training.planned_steps
    if untrained or (begun and final_supernet(run.out) == run.out / SUPERNET):
        return
    first = out / OWN_TEACHER if config.self_distill else out
    trainings = [(first, config.untaught, Origin(init=before))]
    if config.self_distill:
        trainings.append((out, config, Origin(init=first, teacher=f"network:{first}")))
    arch, waiting = Arch.load(before / ARCH_FILE), networks + len(trainings)
    if box := run.box("retrain"):
        least = config.soup * least_steps(run) * step_seconds(run, {PARENT: arch}, taught=False)[PARENT]
        if box.seconds / waiting < least:
            return
    for folder, training, origin in trainings:
        if (box := run.box("retrain")) and training is not config:  # which is short on purpose
            box = box.no_longer_than(1)
        train_all(
            [Job(name=PARENT, arch=arch, seed=run.recipe.seed, out=folder)],
            run.data,
            training,
            soup=config.soup,
            origin=origin,
            box=box and box.part(1 / waiting),
            cluster=run.training_cluster,
            processes=run.processes,
        )
        waiting -= 1
    given = run.recipe.supernet.model_copy(update={"parent": str(out), "tune": False})
    make_supernet(run.space, run.data, given, run.out / FINAL_SUPERNET, seed=run.recipe.seed, device=run.device)


def energy_figures(
    target: Runtime, networks: Mapping[str, tuple[nn.Module, Shape]], batch: int, sys: Path = SYS
) -> EnergyFigures:
    """The energy of networks by the system's counter, where it has one that counts them."""
    counter, why = find_counter(sys)
    if RUNTIMES[target.name].on_gpu:
        counter, why = None, "no counter here counts a GPU"
    if counter is None:
        say(f"Energy is not measured: {why}.")
        return EnergyFigures(counter=None, why_not=why)
    measured = measure_joules(target, networks, counter, batch)
    figures = {name: NetworkEnergy(joules=each.joules, error=each.error) for name, each in measured.items()}
    return EnergyFigures(counter=counter.name, networks=figures)


def within_time_box(
    run: Run, archs: dict[str, Arch], seconds: float, step_seconds: Mapping[str, float]
) -> dict[str, Arch]:
    """The networks that are trained in a time box: all, or as many as get a tenth of their steps, or `LEAST_STEPS`.

    Random networks are left out first, then the family's, then chosen ones, so that those which stay are spread along
    the front, the most accurate among them. What was trained before stays.

    Args:
        step_seconds: by the networks' names.
    """
    least = least_steps(run)
    finished = [name for name in archs if (run.out / NETWORKS / name / TRAINED_FILE).exists()]
    waiting = by_importance([name for name in archs if name not in finished], read_result(run.out / RESULT))
    trained = {archs[name].id for name in finished}  # one that stands for two is trained once
    first = {archs[name].id: name for name in reversed(waiting) if archs[name].id not in trained}
    needed = np.cumsum([least * step_seconds[name] * (first.get(archs[name].id) == name) for name in waiting])
    kept = {*finished, *waiting[: max(1, int((needed <= seconds).sum()))]}
    if left := [name for name in archs if name not in kept]:
        each = "so that each gets" if needed[0] <= seconds else "and even so the first won't get"
        each += f" {least:.0f} steps or more"
        warn(f"in this time box {len(kept)} of {len(archs)} networks are trained, {each}; not {', '.join(left)}")
    return {name: arch for name, arch in archs.items() if name in kept}


def least_steps(run: Run) -> float:
    """The steps that a training in a time box is worth beginning for."""
    return min(run.step_times.steps(run.recipe.retrain)[0] / 10, LEAST_STEPS)


def step_seconds(run: Run, archs: Mapping[str, Arch], *, taught: bool) -> dict[str, float]:
    """Of a step of each network's full training, timed here, as its part of the workers' time.

    Args:
        taught: by the parent, where there is one.
    """
    file, workers = run.out / SUPERNET / PARENT / ARCH_FILE, run.training_cluster.num_workers
    teacher = Arch.load(file) if taught and file.exists() else None
    asking = askers(len(archs), workers, run.device)
    seconds = {
        name: run.step_times.step_seconds(arch, run.recipe.retrain, teacher if k < asking else None)
        for k, (name, arch) in enumerate(archs.items())
    }
    return {name: each / workers for name, each in seconds.items()}


def by_importance(names: list[str], result: SearchResult) -> list[str]:
    """Names of networks, those first that a run should rather train: the chosen ones, from the most accurate on and
    from coarse to fine along the front, then the family's, then random ones."""
    chosen = [name for name in result.chosen if name in names][::-1]
    order = [chosen[k] for k in coarse_to_fine(len(chosen))]
    order += [name for name in names if name not in result.chosen and name not in result.random]
    return order + [name for name in names if name in result.random]


def inherited(run: Run, archs: dict[str, Arch]) -> dict[str, float]:
    """The inherited accuracy of all networks that are trained fully, whether the search evaluated them or not."""
    evaluate = inherited_accuracy(run.out / SUPERNET, run.data)
    evaluate.prepare()
    return {name: evaluate(arch) for name, arch in archs.items()}


def export(run: Run) -> None:
    """Exports the chosen networks. One that can't be exported is left out, with the reason; the others are exported."""
    table = LatencyTable.load(run.out / TABLE)
    predict, times = Predictor(table, run.space), read_figures(run.out / TIMES)
    chosen, archs = read_result(run.out / RESULT).chosen, networks(run)
    figures = read_shares(run.out / INHERITED) if (run.out / INHERITED).exists() else {}
    images = run.data.normalise(run.data.search.images[:64])
    trained = [label for label in chosen if (run.out / NETWORKS / label / TRAINED_FILE).exists()]  # in the time box
    if missing := [label for label in trained if label not in times]:
        raise UserError(f"{run.out / TIMES} has no latency of {missing[0]}; without that file all are measured again")
    sources = read_source_runs(run.out, trained)
    left_out: dict[str, str] = {}
    for label in trained:
        trial, folder = chosen[label], run.out / NETWORKS / label
        out = run.out / EXPORTS / label
        check_unchanged(folder / WEIGHTS_FILE)
        identity = {"arch": archs[label].id, "weights": file_digest(folder / WEIGHTS_FILE)}
        if (out / MANIFEST).exists():
            check_same(read_manifest(out).identity, identity, f"{out} is the export of another network")
            continue
        metadata = searched_metadata(
            read_trained(folder / TRAINED_FILE),
            run.space,
            table,
            predict(run.space.encode(archs[label])),
            measured_ms=times[label],
            inherited=figures.get(label, trial.inherited_accuracy(run.recipe.search.evaluate)),
            identity=identity,
            run=sources.get(label),
        )
        net = load_network(archs[label], folder / WEIGHTS_FILE)
        try:
            write_network(net, out, ("onnx", "safetensors"), resized(images, net.arch.resolution), metadata)
        except OSError:  # the disk's fault, not the network's: a resumed run tries again
            raise
        except Exception as error:
            left_out[label] = " ".join(f"{type(error).__name__}: {error}".removeprefix("UserError: ").split())
            warn(f"{label} is not exported: {left_out[label]}")
    exported = [label for label in trained if label not in left_out]
    write_record(run.out / PRODUCTS["export"], Exported(exported=exported, left_out=left_out))


def report(run: Run) -> None:
    """Writes the run's page, anew if there is one.

    Raises:
        UserError: as of `write_report`.
    """
    write_report(run.out)
