"""From one trained GhostNet to all of them: ways to a front of four networks, by CPU time, latency and accuracy.

From the repository's root. It goes on where it was stopped; what is there at any time stands in `ways.json` and
`ways.md`:

    python results/weights/ways.py --data parquet:../shared/data/cifar10 --table cifar16.lat.json --work WORK
    python results/weights/ways.py ... --part pruned --seed 1 --minutes 20

The table is a calibration of space `cifar16` (recipe `cifar10-small`), one thread; without the file it is made. The
parent, GhostNet 1.3x trained on the same images, is committed: `--part parent` trains it anew, in the folder that
`--parent` names. `--part pruned` needs the extra `study`.
"""

import argparse
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from elastic_start import begun, train_taught, with_ratio
from transplants import agreement, trained_networks
from ways_figure import FIGURE, draw
from ways_page import page
from ways_summary import (
    EFFORTS,
    FAMILY_MS,
    Network,
    Pair,
    Parent,
    Supernet,
    Table,
    Way,
    Ways,
    ending,
    family_scale,
)

from ghostnet import Arch, GhostNet, cost
from ghostnet.count import count
from ghostnet.files import WEIGHTS_FILE
from ghostnet.weights import read_weights, to_bytes
from search.data.datasets import Data, load_data
from search.data.splits import Split
from search.engine.choose import choose_by_budget
from search.engine.ladder import rung_totals
from search.files import read_json, write_bytes, write_json, write_text
from search.latency.calibrate import calibrate
from search.latency.predictor import Predictor
from search.latency.runtimes import table_runtime
from search.latency.table import LatencyTable, describe
from search.latency.time_networks import measure
from search.pipeline.search_stage import SearchOutcome, search_networks
from search.recipes.choices import Sampler
from search.recipes.schema import ParentTraining, Search, SupernetTraining, Training, load_recipe, load_retraining
from search.records import read_record
from search.training.evaluate import InheritedAccuracy, accuracy
from search.training.inherited import fitting_images, inherited_accuracy, read_parent
from search.training.retrain import retrain, train_network
from search.training.supernets import make_supernet, widest
from search.training.teacher import load_teacher
from spaces.population import sample
from spaces.quantities import Window
from spaces.space import Space

HERE = Path(__file__).resolve().parent
RESULT, PAGE = "ways.json", "ways.md"
CPU = torch.device("cpu")
BUDGET = "1.2M"  # multiply-adds
CHOSEN = 4
ALIGNED = 4  # channels
FIRST = 12  # trials of a short search before its sampler goes on; a generation of NSGA-II
PRUNED = "pruned to "  # and the width whose multiply-adds it has
EPOCHS, GROWN_EPOCHS = 10, 25
# Trials, as many as take about the same CPU time: a search's without training are a small part of it.
TRANSPLANTS, EXACT, LADDER, INHERITED, TRAINED, HALVED = 150, 20, 50, 600, 36, 60
PAIRS = 10  # random networks
# As GhostBench trains networks from fresh weights, and tunes transplants with the parent as teacher.
FRESH, TUNED = (
    load_retraining(str(HERE.parent / "ghostbench" / f"{name}.toml"))[0].shortened(EPOCHS)
    for name in ("fresh", "tuned")
)
PARENT_RECIPE = Training(epochs=150, batch_size=64, lr=0.1, weight_decay=5e-4, warmup_epochs=2)
EPOCHS_OF = {HERE / "parent": 150, HERE.parent / "ghostbench" / "parent": 60}  # the committed parents'
FITTING_IMAGES = 4096
ELASTIC = load_recipe("cifar10-small").supernet
BEGUN = SupernetTraining(
    **TUNED.model_dump(exclude={"epochs", "batch_size", "lr", "distill", "temperature"}),
    epochs=ELASTIC.epochs,
    batch_size=64,
    lr=0.002,
)


class TimeIsOver(Exception):
    """No further step begins."""


class CpuClock:
    """CPU seconds of this process by step, kept in a file: what a step took before it was killed counts, too; what is
    finished counts no more when it is read again.

    Args:
        until: `time.time()` after which no step begins.
    """

    def __init__(self, file: Path, until: float) -> None:
        self.file, self.until = file, until
        known = read_json(file) if file.exists() else {"seconds": {}, "finished": []}
        self.seconds: dict[str, float] = known["seconds"]
        self.finished: list[str] = known["finished"]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds what the block takes.

        Raises:
            TimeIsOver: it may not begin.
        """
        if name in self.finished:
            yield
            return
        if time.time() > self.until:
            raise TimeIsOver
        begun = time.process_time()
        try:
            yield
            self.finished.append(name)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begun
            write_json(self.file, {"seconds": self.seconds, "finished": self.finished})

    @property
    def total(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds.values())


@dataclass
class Study:
    """One part by one seed, in its folder."""

    space: Space
    data: Data
    table_file: Path
    parent: Path
    common: Path
    out: Path
    seed: int
    clock: CpuClock
    effort: int = 1  # times the trials, and the epochs of the supernet and of final trainings

    @property
    def fresh(self) -> Training:
        """A final training from fresh weights."""
        return FRESH.shortened(self.effort * EPOCHS)

    @property
    def tuned(self) -> Training:
        """A final training of what the parent has given weights, with it as teacher."""
        return TUNED.shortened(self.effort * EPOCHS)

    @cached_property
    def supernet(self) -> Path:
        """The folder of the transplanted supernet; it only takes the parent in, and costs nothing."""
        return self._taken_in(self.common / "transplanted")

    def supernet_for(self, sampler: Sampler) -> Path:
        """One that has no unit losses yet for the sampler that begins with them, so that each seed pays for its own."""
        return self._taken_in(self.out / "supernet") if sampler == "exact" else self.supernet

    def _taken_in(self, folder: Path) -> Path:
        config = ParentTraining(**TUNED.model_dump(), parent=str(self.parent), images=FITTING_IMAGES)
        make_supernet(self.space, self.data, config, folder, device=CPU)
        return folder

    @property
    def teacher(self) -> str:
        return f"supernet:{self.supernet}"

    def search(self, supernet: Path, training: Training = FRESH, **settings: object) -> SearchOutcome:
        """A search under the budget, by accuracy and the table's latency.

        Args:
            training: of networks that are evaluated after one.
        """
        config = Search.model_validate({"flops_budget": BUDGET, **settings})
        config = config.changed(trials=self.effort * config.trials)
        with self.clock.step("search"):
            return search_networks(
                supernet, [self.table_file], self.out / "trials.jsonl", lambda: self.data, config, seed=self.seed,
                training=training,
            )  # fmt: skip

    def chosen(self, outcome: SearchOutcome) -> list[Arch]:
        """As a run chooses under one budget: evenly along the front."""
        return [outcome.arch(trial) for trial in choose_by_budget(list(outcome.inside.values()), CHOSEN)]

    def train(
        self, name: str, arch: Arch, config: Training, *, transplant: bool = True, taught: bool = True
    ) -> Network:
        """A network's training and test; as a transplant it is looked at before, too."""
        start = None
        with self.clock.step(name):
            if transplant:
                start = inherited_accuracy(self.supernet, self.data)(arch)
            metadata = retrain(
                arch,
                self.data,
                config,
                self.out / name,
                seed=self.seed,
                device=CPU,
                init=self.supernet if transplant else None,
                teacher=self.teacher if taught else None,
            )
            assert metadata
        return self.network(name, arch, start, metadata.test_accuracy)

    def network(self, name: str, arch: Arch, start: float | None, tested: float) -> Network:
        code, costs = self.space.encode(arch), cost(arch, self.data.num_classes, self.data.in_chs)
        return Network(
            name=name,
            arch=arch.id,
            code=code.tolist(),
            macs=costs.macs,
            params=costs.params,
            start=start,
            accuracy=tested,
            predicted_ms=float(self.predict(code[None]).latency_ms[0]),
        )

    @cached_property
    def predict(self) -> Predictor:
        return Predictor(LatencyTable.load(self.table_file), self.space)

    @property
    def family(self) -> dict[str, Arch]:
        return {f"{width}x": self.space.uniform(width) for width in FAMILY_MS}


def transplants(study: Study, sampler: Sampler = "guided", trials: int = TRANSPLANTS) -> Way:
    """1. Transplants are searched, the chosen ones tuned with the parent as teacher."""
    outcome = study.search(study.supernet_for(sampler), trials=trials, sampler=sampler)
    networks = [study.train(arch.id, arch, study.tuned) for arch in study.chosen(outcome)]
    return Way(cpu_seconds=study.clock.total, networks=networks, notes=f"{len(outcome.trials)} trials")


def ladder(study: Study, sampler: Sampler = "guided", evaluate: str = "inherited,tuned:1,tuned:3") -> Way:
    """1., but the better ones of fewer transplants are tuned a few epochs before the four are chosen."""
    supernet = study.supernet_for(sampler)
    outcome = study.search(supernet, TUNED, trials=LADDER, population=FIRST, sampler=sampler, evaluate=evaluate)
    networks = [study.train(arch.id, arch, study.tuned) for arch in study.chosen(outcome)]
    rungs = ", ".join(f"{total.networks} {total.evaluate}" for total in rung_totals(outcome.trials))
    return Way(cpu_seconds=study.clock.total, networks=networks, notes=rungs)


def family(study: Study) -> Way:
    """2. GhostNet's widths are transplanted and tuned so."""
    networks = [study.train(name, arch, study.tuned) for name, arch in study.family.items()]
    return Way(cpu_seconds=study.clock.total, networks=networks)


def fresh(study: Study) -> Way:
    """3. GhostNet's widths from fresh weights, without a teacher."""
    networks = [
        study.train(name, arch, study.fresh, transplant=False, taught=False) for name, arch in study.family.items()
    ]
    return Way(cpu_seconds=study.clock.total, networks=networks)


def pruned(study: Study, multiple: int = 1) -> Way:
    """4. Torch-Pruning takes the parent to the multiply-adds of GhostNet's widths; tuned as transplants are."""
    from pruning import Pruner

    from ghostnet.parent import load_parent

    pruner = Pruner(load_parent(study.parent), study.data, FRESH, multiple)
    sizes = {name: cost(arch, study.data.num_classes, study.data.in_chs).macs for name, arch in study.family.items()}
    largest_first = sorted(sizes, key=lambda name: -sizes[name])
    with study.clock.step("prune"):
        most = [sizes[name] for name in largest_first]
        best, over_all = pruner.best(most)
    nets = dict(zip(largest_first, best, strict=True))
    networks = []
    for name in sizes:
        net = nets[name]
        with study.clock.step(name):
            start = pruner.start(net)
            file = study.out / name / WEIGHTS_FILE
            if file.exists():
                net.load_state_dict(read_weights(file)[0])
            else:
                train_network(
                    net,
                    study.data,
                    study.tuned,
                    load_teacher(study.teacher, study.data, CPU),
                    checkpoint=None,
                    identity={},
                    seed=study.seed,
                    device=CPU,
                    title=PRUNED + name,
                )
                write_bytes(file, to_bytes(net))
            tested = accuracy(net, study.data, study.data.test)
        write_bytes(study.out / name / "net.pickle", pickle.dumps(net.eval()))
        costs = count(net, shape(study, net))
        networks.append(Network(name=PRUNED + name, macs=costs.macs, params=costs.params, start=start, accuracy=tested))
    return Way(
        cpu_seconds=study.clock.total,
        networks=networks,
        notes="channels compete " + ("over all layers" if over_all else "in each layer"),
    )


def pruned_aligned(study: Study) -> Way:
    """4, with numbers of channels that runtimes like."""
    return pruned(study, ALIGNED)


def elastic(study: Study) -> Way:
    """5. An elastic supernet is trained and searched, the chosen networks trained from fresh weights."""
    with study.clock.step("supernet"):
        config = ELASTIC.changed(epochs=study.effort * ELASTIC.epochs)
        make_supernet(study.space, study.data, config, study.out / "supernet", seed=study.seed, device=CPU)
    outcome = study.search(study.out / "supernet", trials=INHERITED)
    networks = [study.train(a.id, a, study.fresh, transplant=False, taught=False) for a in study.chosen(outcome)]
    return Way(cpu_seconds=study.clock.total, networks=networks, notes=f"{len(outcome.trials)} trials")


def direct(study: Study, sampler: Sampler, evaluate: str = "trained:3", trials: int = TRAINED) -> Way:
    """6. A sampler over short trainings, or a ladder of such, the chosen networks trained from fresh weights."""
    outcome = study.search(study.supernet, trials=trials, population=FIRST, sampler=sampler, evaluate=evaluate)
    networks = [study.train(a.id, a, study.fresh, transplant=False, taught=False) for a in study.chosen(outcome)]
    return Way(cpu_seconds=study.clock.total, networks=networks, notes=f"{len(outcome.trials)} trials")


def grown(study: Study) -> Way:
    """Children at the parent's size and above, for more epochs, beside the parent's own architecture."""
    config = TUNED.model_copy(update={"epochs": float(GROWN_EPOCHS)})
    widest = study.space.uniform(max(study.space.widths))
    archs = {"the parent's own": widest, "1.0x": study.space.uniform(1.0), "1.3x, s = 1": with_ratio(widest, 1)}
    networks = [study.train(name, arch, config) for name, arch in archs.items()]
    return Way(cpu_seconds=study.clock.total, networks=networks, notes=f"{GROWN_EPOCHS} epochs")


def pairs(study: Study) -> list[Pair]:
    """Random networks tuned from transplants, and trained from fresh weights with and without the same teacher: as many
    as the time allows."""
    rng = np.random.default_rng([study.seed, PAIRS])
    archs = [study.space.decode(code) for code in sample(study.space, rng, PAIRS, Window.parse(BUDGET))]
    found: list[Pair] = []
    with suppress(TimeIsOver):
        for arch in archs:
            ends = {
                "transplanted, taught": study.train(f"{arch.id}-transplanted", arch, TUNED),
                "fresh": study.train(f"{arch.id}-fresh", arch, FRESH, transplant=False, taught=False),
                "fresh, taught": study.train(f"{arch.id}-taught", arch, TUNED, transplant=False),
            }
            known = ends["fresh"]
            accuracies = {start: network.accuracy for start, network in ends.items()}
            found.append(Pair(arch=arch.id, code=known.code or [], macs=known.macs, accuracy=accuracies))
    return found


def supernets(study: Study) -> dict[str, Supernet]:
    """Elastic supernets by equal epochs: as the recipe has them, and begun from the parent and taught by it."""
    fresh_folder = study.out / "fresh"
    with study.clock.step("fresh"):
        make_supernet(study.space, study.data, ELASTIC, fresh_folder, seed=study.seed, device=CPU)
    file = study.out / "begun.safetensors"
    images = fitting_images(study.data, FITTING_IMAGES, TUNED)
    net = begun(study.space, read_parent(study.supernet), images, torch.Generator().manual_seed(study.seed))
    with study.clock.step("begun"):
        if file.exists():
            net.load_state_dict(read_weights(file)[0])
        else:
            teacher = load_teacher(study.teacher, study.data, CPU)
            train_taught(net, study.space, study.data, BEGUN, TUNED, teacher, study.seed)
            write_bytes(file, to_bytes(net))
    assert isinstance(study.data.test, Split)
    judged = replace(study.data, search=study.data.test)
    kinds = {"fresh": inherited_accuracy(fresh_folder, judged), "begun": InheritedAccuracy(net.eval(), judged, BEGUN)}
    found = {}
    for name, inherited in kinds.items():
        rows = [
            {
                "macs": row["macs"],
                "trained": float(np.mean(row["test_accuracy"])),
                "fitted": inherited(study.space.decode(np.array(row["code"]))),
                "cpu_seconds": 0.0,
            }
            for row in trained_networks().values()
        ]
        known = agreement(rows)
        found[name] = Supernet(
            mean=known["mean"],
            kendall_tau=known["kendall_tau"],
            residual_tau=known["residual_tau"],
            cpu_seconds=study.clock.seconds[name],
        )
    return found


WAYS: dict[str, Callable[[Study], Way]] = {
    "transplants": transplants,
    "family": family,
    "fresh": fresh,
    "pruned": pruned,
    "pruned-aligned": pruned_aligned,
    "grown": grown,
    "elastic": elastic,
    "tpe": partial(direct, sampler="tpe"),
    "ladder": ladder,
    "exact-ladder": partial(ladder, sampler="exact", evaluate="inherited,tuned:1"),
    "exact": partial(transplants, sampler="exact", trials=EXACT),  # of unit losses and latency
    "nsga2": partial(direct, sampler="nsga2"),
    "gp": partial(direct, sampler="gp"),
    "random": partial(direct, sampler="random"),
    "halving": partial(direct, sampler="random", evaluate="trained:1,trained:3", trials=HALVED),
}
LENGTHENED = ("transplants", "family", "fresh", "pruned", "elastic", "tpe")
LONGER = [f"{name}{end}" for end in EFFORTS if end for name in LENGTHENED]
PARTS = [*list(WAYS)[:5], "measure", "pairs", "grown", "supernets", *list(WAYS)[6:], *LONGER]


def shape(study: Study, net: GhostNet) -> tuple[int, int, int]:
    side = net.arch.resolution
    return study.data.in_chs, side, side


def measured(study: Study, content: Ways, folder: Path) -> Ways:
    """With the latency of all final networks of a seed and of GhostNet's widths, timed side by side on the table's
    runtime.

    Args:
        folder: of the seed.
    """
    run, seed = table_runtime(LatencyTable.load(study.table_file).setting), str(study.seed)
    classes, channels = study.data.num_classes, study.data.in_chs
    nets: dict[str, GhostNet] = {arch.id: GhostNet(arch, classes, channels).eval() for arch in study.family.values()}
    mine = {way: rows[seed] for way, rows in content.ways.items() if seed in rows}
    for way, row in mine.items():
        for network in row.networks:
            if network.code:
                net = GhostNet(study.space.decode(np.array(network.code)), classes, channels).eval()
            else:
                net = pickle.loads((folder / way / network.name.removeprefix(PRUNED) / "net.pickle").read_bytes())
            nets[network.arch or f"{way} {network.name}"] = net
    times = measure(run, {name: (net, shape(study, net)) for name, net in nets.items()}, seed=study.seed)
    for way, row in mine.items():
        timed = [n.model_copy(update={"measured_ms": times[n.arch or f"{way} {n.name}"]}) for n in row.networks]
        content.ways[way][seed] = row.model_copy(update={"networks": timed})
    content.scales[seed] = family_scale({width: times[study.space.uniform(width).id] for width in FAMILY_MS})
    return content


def opened(arguments: argparse.Namespace, space: Space) -> tuple[Ways, Data]:
    """What is there, or the head of a new study; and the data, which are decoded once."""
    cache = arguments.work / "data.pickle"
    if cache.exists():
        data = pickle.loads(cache.read_bytes())
    else:
        data = load_data(arguments.data, space.resolution, arguments.train_images)
        write_bytes(cache, pickle.dumps(data))
    if not arguments.table.exists():
        calibrate(
            space, arguments.table, runtime="onnxruntime", threads=1, rounds=4, fit_networks=64, held_out=48,
            seed=0, minutes=6,
        )  # fmt: skip
    table = LatencyTable.load(arguments.table)
    codes = np.stack([space.encode(space.uniform(width)) for width in FAMILY_MS])
    ms = Predictor(table, space)(codes).latency_ms
    about = Table(
        setting=describe(table).runtime,
        error=table.validation.mape,
        kendall_tau=table.validation.kendall_tau,
        scale=family_scale(dict(zip(FAMILY_MS, map(float, ms), strict=True))),
    )
    path = arguments.out / RESULT
    if path.exists():
        content = read_record(path, Ways)
    else:
        from ghostnet.parent import load_parent

        net = load_parent(arguments.parent)
        macs = cost(net.arch, data.num_classes, data.in_chs).macs
        epochs = EPOCHS_OF.get(arguments.parent.resolve(), 0)
        parent = Parent(arch=net.arch.id, epochs=epochs, accuracy=accuracy(net, data, data.test), macs=macs)
        content = Ways(parent=parent, table=about)
    return content.model_copy(update={"table": about}), data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--train-images", type=int, default=10_000, help="as the parent was trained on")
    parser.add_argument("--parent", type=Path, default=HERE / "parent")
    parser.add_argument("--table", type=Path, default=HERE / "work" / "cifar16.lat.json")
    parser.add_argument("--work", type=Path, help="the folder of trainings and searches (OUT/work)")
    parser.add_argument("--part", choices=["parent", *PARTS], nargs="+", default=PARTS)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no step begins")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    arguments.work = arguments.work or arguments.out / "work"
    until = time.time() + 60 * arguments.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clock counts
    torch.set_num_threads(1)
    space = load_recipe("cifar10-small").search_space
    if arguments.part == ["parent"]:
        data = load_data(arguments.data, space.resolution, arguments.train_images)
        retrain(widest(space), data, PARENT_RECIPE, arguments.parent, device=CPU)
        return
    content, data = opened(arguments, space)
    for seed in arguments.seed:
        for part in arguments.part:
            folder = arguments.work / f"seed{seed}"
            clock = CpuClock(folder / part / "cpu.json", until)
            study = Study(
                space,
                data,
                arguments.table,
                arguments.parent,
                arguments.work,
                folder / part,
                seed,
                clock,
                EFFORTS[ending(part)],
            )
            try:
                content = done(part, study, content)
                content.tables.setdefault(str(seed), content.table)
            except TimeIsOver:
                print(f"the time is over before {part}, seed {seed}, was done; the same command goes on")
                return
            write_json(arguments.out / RESULT, content.model_dump(mode="json", by_alias=True))
            write_text(arguments.out / PAGE, page(content))
            write_bytes(arguments.out / FIGURE, draw(content))
            print(f"{part}, seed {seed}: done", flush=True)


def done(part: str, study: Study, content: Ways) -> Ways:
    """The study with one more part, unless it is there."""
    seed = str(study.seed)
    if part == "measure":
        return measured(study, content, study.out.parent)
    if part == "pairs":
        if len(content.pairs.get(seed, [])) < PAIRS:
            content.pairs[seed] = pairs(study)
    elif part == "supernets":
        if seed not in content.supernets:
            content.supernets[seed] = supernets(study)
    elif seed not in content.ways.setdefault(part, {}):
        content.ways[part][seed] = WAYS[part.removesuffix(ending(part))](study)
    return content


if __name__ == "__main__":
    main()
