"""The main job, stage by stage: train, calibrate, search, retrain, export, report.

A stage is done when its product lies in the run's folder, and only then; that is all the state there is. So a run that
was killed anywhere goes on from the first product that is missing, and each stage resumes from its own log or
checkpoint. Stages hand each other plain files.
"""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostnet.arch import Arch
from search import sources
from search.errors import UserError
from search.files import read_json, write_json
from search.progress import say
from search.recipe import Recipe
from spaces.custom import space_of
from spaces.space import Space

if TYPE_CHECKING:  # torch is loaded by the first stage that needs it
    import torch

    from search.data import Data

SCHEMA = "ghostnas.run/1"
# What each stage gets of a time box, relative to the stages that are still to come.
SHARES = {"train": 0.42, "calibrate": 0.12, "search": 0.13, "retrain": 0.30, "export": 0.02, "report": 0.01}
RUN, SUPERNET, TABLE, TRIALS = "run.json", "supernet", "latency/table.lat.json", "search/trials.jsonl"
RESULT, NETWORKS, EXPORTS = "search/result.json", "networks", "export"
INHERITED, TIMES = "networks/inherited.json", "networks/latency.json"
REPORT = "report/report.html"
PRODUCTS = {
    "train": f"{SUPERNET}/supernet.json",
    "calibrate": TABLE,
    "search": RESULT,
    "retrain": TIMES,
    "export": f"{EXPORTS}/done.json",
    "report": REPORT,
}
LIKE = 0.02  # multiply-adds of a random network are a chosen one's to within that share
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass
class Run:
    """One run in one folder.

    Args:
        minutes: time box for all that is still to do; None runs every stage in full.
    """

    recipe: Recipe
    out: Path
    minutes: float | None = None
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def data(self) -> "Data":
        from search.data import load

        return load(self.recipe.data, space_of(self.recipe.space).resolution_choices[-1], self.recipe.train_images)

    @cached_property
    def space(self) -> Space:
        from search.training.sandwich import space_for

        return space_for(space_of(self.recipe.space), self.data.num_classes, self.data.in_chs)

    @cached_property
    def device(self) -> "torch.device":
        from search.training.world import best_device

        return best_device()

    def done(self, stage: str) -> bool:
        return (self.out / PRODUCTS[stage]).exists()

    def seconds(self, stage: str) -> float | None:
        """What is left of the time box for a stage, the later ones' shares set aside."""
        if self.minutes is None:
            return None
        left = self.minutes * 60 - (time.monotonic() - self.started)
        to_come = [each for each in SHARES if not self.done(each)]
        return max(left, 1.0) * SHARES[stage] / sum(SHARES[each] for each in to_come)


def check(recipe: Recipe) -> None:
    """Everything that can be known to be wrong before anything is written or torch is loaded.

    Raises:
        UserError, SpaceError: what is wrong, in a line.
    """
    from search.engine.budgets import parse_milliseconds, parse_windows
    from search.latency.runtimes import runtime

    sources.check(recipe.data)
    space, config = space_of(recipe.space), recipe.search
    windows = parse_windows(config.flops_budget) | parse_windows(config.params_budget, "params")
    for window in windows.values():
        window.check(space)
    parse_milliseconds(config.latency_budget)
    runtime(recipe.latency.runtime, recipe.latency.threads, recipe.latency.dtype)
    for width in recipe.retrain.baseline_widths:
        space_of(recipe.space).uniform(width)


def start(recipe: Recipe, out: Path, resume: bool, minutes: float | None) -> Run:
    """Opens the run's folder.

    Raises:
        UserError: it holds another run, or one that `--resume` was not asked to go on with.
    """
    check(recipe)
    recorded = {"schema": SCHEMA, "recipe": recipe.model_dump(mode="json")}
    if (out / RUN).exists():
        if not resume:
            raise UserError(f"{out} holds a run already: --resume goes on with it, --out names another folder")
        if (found := read_json(out / RUN)) != recorded:
            raise UserError(f"{out} holds a run of another recipe: {_differing(found, recorded)} differs")
    elif out.exists() and (not out.is_dir() or any(path.suffix != ".tmp" for path in out.iterdir())):
        raise UserError(f"{out} is not empty and holds no run")
    run = Run(recipe, out, minutes)
    if recipe.threads:
        import torch

        torch.set_num_threads(recipe.threads)
    if not run.done("train"):
        _ = run.data  # what can't be loaded is said before anything is written
    write_json(out / RUN, recorded)
    return run


def recorded_recipe(out: Path) -> Recipe:
    """The recipe of the run in a folder.

    Raises:
        UserError: it holds no run that this version can read.
    """
    try:
        return Recipe.model_validate(read_json(out / RUN)["recipe"], strict=False)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{out / RUN} has no recipe: {str(error).splitlines()[0]}") from None


def _differing(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in wanted:
            if found.get(key) != wanted[key]:
                return f"{key}.{_differing(found.get(key), wanted[key])}".removesuffix(".")
    return ""


def run(job: Run) -> None:
    """Runs every stage whose product is missing, in order."""
    stages = {
        "train": train,
        "calibrate": calibrate,
        "search": search,
        "retrain": retrain,
        "export": export,
        "report": report,
    }
    for number, (name, stage) in enumerate(stages.items(), 1):
        if job.done(name):
            say(f"[dim]{number}/6 {name}: done before[/dim]")
            continue
        say(f"[bold]{number}/6 {name}[/bold]")
        begun = time.monotonic()
        stage(job)
        say(f"  done in {time.monotonic() - begun:.0f} s")


def train(job: Run) -> None:
    from search.training.sandwich import train_supernet

    config, seed = job.recipe.supernet, job.recipe.seed
    card = train_supernet(
        job.space,
        job.data,
        config,
        job.out / SUPERNET,
        seed=seed,
        device=job.device,
        seconds=job.seconds("train"),
    )
    say(f"  {card['training']['epochs']:g} of {config.epochs:g} epochs, loss {card['training']['loss']:.3f}")


def calibrate(job: Run) -> None:
    from search.latency.calibrate import calibrate as make_table

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


def search(job: Run) -> None:
    from search.engine.choose import choose_by_budget
    from search.searching import search_networks

    limit = job.seconds("search")
    config = job.recipe.search
    found = search_networks(
        job.out / SUPERNET,
        [job.out / TABLE],
        job.out / TRIALS,
        lambda: job.data,
        config,
        seed=job.recipe.seed,
        deadline=None if limit is None else time.monotonic() + limit,
        at_least=3 * job.recipe.retrain.chosen,
    )
    trials = found.trials
    if not trials:
        raise UserError(f"the search evaluated no network: all failed, see {job.out / TRIALS}")
    best, chosen = found.front, choose_by_budget(list(found.inside.values()), job.recipe.retrain.chosen)
    result = {
        "evaluated": len(trials),
        "planned": config.trials,
        "front": [t["arch"] for t in best],
        "fronts": {budget: [t["arch"] for t in each] for budget, each in found.fronts.items()},
        "chosen": dict(zip(LABELS, chosen, strict=False)),
        "random": like_them(job, chosen),
    }
    say(f"  {len(trials)} of {config.trials} networks evaluated, {len(best)} on the front")
    write_json(job.out / RESULT, result)


def networks(job: Run) -> dict[str, Arch]:
    """The chosen networks, the family's at some widths, and random ones, by the name of their folder."""
    result = read_json(job.out / RESULT)
    archs = {label: job.space.decode(trial["code"]) for label, trial in result["chosen"].items()}
    archs |= {f"ghostnet-{width:g}x": job.space.uniform(width) for width in job.recipe.retrain.baseline_widths}
    return archs | {name: job.space.decode(code) for name, code in result.get("random", {}).items()}


def like_them(job: Run, chosen: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Random networks of the chosen ones' multiply-adds, one after the other: what luck would have found."""
    import numpy as np

    from spaces.population import Window, sample

    rng, found = np.random.default_rng([job.recipe.seed, 7]), {}
    for k in range(job.recipe.retrain.random):
        macs = chosen[k % len(chosen)]["macs"]
        window = Window(round((1 - LIKE) * macs), round((1 + LIKE) * macs))
        found[f"random-{k + 1}"] = sample(job.space, rng, 1, window)[0].tolist()
    return found


def retrain(job: Run) -> None:
    from ghostnet.weights import network as load_network
    from search.latency.measure import measure
    from search.latency.runtimes import runtime
    from search.retraining import over_seeds, train_all, words
    from search.training.retrain import WEIGHTS, Job

    archs, config, first = networks(job), job.recipe.retrain, job.recipe.seed
    jobs = [
        Job(name=name, arch=arch, seed=first + k, out=job.out / NETWORKS / name / (f"seed-{first + k}" if k else ""))
        for k in range(1 if job.minutes else config.seeds)  # a time box trains every network once, as well as it can
        for name, arch in archs.items()
    ]
    cards = train_all(jobs, job.data, config, seconds=job.seconds("retrain"), workers=config.workers)
    say(words(over_seeds(jobs, cards)))
    write_json(job.out / INHERITED, inherited(job, archs))
    timed = {}
    for name, arch in archs.items():
        net = load_network(arch, job.out / NETWORKS / name / WEIGHTS)
        timed[name] = (net, (job.data.in_chs, arch.resolution, arch.resolution))
    times = measure(runtime(job.recipe.latency.runtime, job.recipe.latency.threads), timed, job.recipe.seed)
    write_json(job.out / TIMES, times)


def inherited(job: Run, archs: dict[str, Arch]) -> dict[str, float]:
    """What the supernet says of the networks that are trained fully, whether the search met them or not."""
    from search.evaluate import InheritedAccuracy
    from search.training.sandwich import load_supernet

    evaluate = InheritedAccuracy(load_supernet(job.out / SUPERNET).to(job.device), job.data)
    return {name: evaluate(arch) for name, arch in archs.items()}


def export(job: Run) -> None:
    from ghostnet.weights import network as load_network
    from search.data import resized
    from search.delivery.export import MANIFEST
    from search.delivery.export import export as write_network
    from search.latency.predictor import Predictor
    from search.latency.table import LatencyTable
    from search.training.retrain import CARD, WEIGHTS

    table = LatencyTable.load(job.out / TABLE)
    predict, times = Predictor(table, job.space), read_json(job.out / TIMES)
    chosen, archs = read_json(job.out / RESULT)["chosen"], networks(job)
    images = job.data.normalise(job.data.search.images[:64])
    for label, trial in chosen.items():
        folder = job.out / NETWORKS / label
        out = job.out / EXPORTS / label
        if (out / MANIFEST).exists():
            continue
        card = read_json(folder / CARD)
        latency = predict(job.space.encode(archs[label]))
        facts = {
            "accuracy": {
                "test": card["test_accuracy"],
                "test_images": card["test_images"],
                "inherited_on_search_split": trial["accuracy"],
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
            **{key: card[key] for key in ("data", "classes", "mean", "std", "seed", "training")},
            "space": job.space.name,
            "space_id": job.space.id,
        }
        net = load_network(archs[label], folder / WEIGHTS)
        write_network(net, out, ["onnx", "safetensors"], resized(images, net.arch.resolution), facts)
    write_json(job.out / PRODUCTS["export"], {"exported": list(chosen)})


def report(job: Run) -> None:
    from search.delivery.report import write_report

    write_report(job.out)
