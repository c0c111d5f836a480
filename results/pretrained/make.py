"""Does a search that begins with a trained GhostNet pay, where pictures are few? Three ways to a front, and GhostNets.

From the repository's root, a part at a time or all of them; each goes on where it was stopped:

    python results/pretrained/make.py --data ../shared/data/tiny-imagenet-40
    python results/pretrained/make.py --data ../shared/data/tiny-imagenet-40 --part pretrained --seed 1
    python results/pretrained/page.py

Set OMP_NUM_THREADS=1 for seconds that are comparable. What was trained lies in `--out`; `study.json` beside this file
has the figures, and the calibrated latency table is committed, too: without it the latencies are another machine's.
"""

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pictures import write_view

import search as ghostnas
from ghostnet import Arch, GhostNet
from ghostnet.files import ARCH_FILE
from search.files import JsonLines, glob, write_json
from search.latency.runtimes import runtime
from search.latency.time_networks import measure
from search.pipeline import stages
from search.pipeline.run import open_run
from search.pipeline.settings import RunSettings
from search.recipes.schema import ParentTraining, SupernetTraining, Training, load_recipe
from search.run_folder.run import TABLE, final_supernet
from search.training.records import TRAINED_FILE
from search.training.retrain import retrain

HERE = Path(__file__).parent
CLASSES, FEW = 20, 50  # classes that are pretrained on, and as many others; training pictures of each of the latter
PARENT_WIDTH = 1.3
WIDTHS = (PARENT_WIDTH, 1.0, 0.75, 0.5, 0.35)  # all of the space
MEASURED = HERE / "measured.json"
TABLE_HERE = HERE / "onnxruntime-1t.lat.json"
Way = Literal["pretrained", "head", "scratch", "elastic"]
ONCE, EACH_SEED, LAST = (
    ("pretrain", "latency"),
    ("pretrained", "head", "tuned", "scratch", "elastic", "taught", "fresh"),
    "measure",
)
SEEDS = tuple(range(21, 30))
UNMIXED = {"cutmix": 0.0, "min_steps": 1200}  # of whom nobody teaches; more steps were worse
FROM_SCRATCH = {"lr": 0.05, "epochs": 40.0, "min_steps": 2000, "ema": 0.0, "weight_decay": 5e-4}  # as `init` has it
SANDWICHES = 700  # steps of an elastic supernet, which take as long as those of a parent from scratch
CPU = torch.device("cpu")


class Study:
    """The study in a folder.

    Args:
        source: the folder of all forty classes' pictures.
    """

    def __init__(self, source: Path, out: Path) -> None:
        self.source, self.out = source, out
        self.recipe = load_recipe(str(HERE / "pretrained.toml"))
        self.space = self.recipe.search_space

    def pictures(self, seed: int | None) -> str:
        """The first twenty classes (None), or a seed's pictures of the other twenty, by the name of the data set."""
        folder = self.out / "pictures" / ("first" if seed is None else f"few-{seed}")
        if not (folder / "test.parquet").exists():
            if seed is None:
                write_view(self.source, range(CLASSES), folder)
            else:
                write_view(self.source, range(CLASSES, 2 * CLASSES), folder, FEW, seed)
        return f"parquet:{folder}"

    def load(self, seed: int | None) -> ghostnas.Data:
        return ghostnas.load_data(self.pictures(seed), self.space.resolution)

    @contextmanager
    def timed(self, *what: object) -> Iterator[None]:
        """Notes the processor's seconds of a piece of work, also of one that is interrupted."""
        started = time.process_time()
        try:
            yield
        finally:
            JsonLines(self.out / "seconds.jsonl").append(
                {"what": list(what), "seconds": round(time.process_time() - started, 2)}
            )

    def pretrained(self, width: float) -> Path:
        return self.out / "pretrained" / f"ghostnet-{width:g}x"

    def pretrain(self) -> None:
        for width in WIDTHS:
            if not (self.pretrained(width) / TRAINED_FILE).exists():
                with self.timed("pretrain", width):
                    trained = ghostnas.retrain_network(
                        self.space.uniform(width),
                        self.load(None),
                        self.pretrained(width),
                        recipe=str(HERE / "pretrain.toml"),
                    )
                print(f"pretrained {width:g}x: {trained.test_accuracy:.1%}", flush=True)

    def calibrate(self) -> None:
        if TABLE_HERE.exists():
            return
        with self.timed("latency"):
            ghostnas.calibrate(self.space, TABLE_HERE, minutes=self.recipe.latency.minutes)

    def run(self, way: Way, seed: int) -> Path:
        return self.out / f"{way}-{seed}"

    def search(self, way: Way, seed: int) -> None:
        """A front: the stages of `ghostnas run`, with the study's latency table."""
        retraining = self.recipe.retrain.changed(init="supernet")
        if way == "elastic":  # nobody teaches, and there is no parent
            retraining = retraining.changed(**UNMIXED)
        recipe = self.recipe.model_copy(
            update={
                "data": self.pictures(seed),
                "seed": seed,
                "supernet": self.supernet(way),
                "retrain": retraining,
                "search": self.recipe.search.changed(evaluate="inherited" if way == "elastic" else "soft"),
            }
        )
        with open_run(recipe, self.run(way, seed), RunSettings(resume=True)) as run:
            if not run.done("calibrate"):
                (run.out / TABLE).parent.mkdir(exist_ok=True)
                shutil.copy(TABLE_HERE, run.out / TABLE)
            for stage in (stages.train, stages.search, stages.retrain):
                if not run.done(stage.__name__):
                    with self.timed(way, seed, stage.__name__):
                        stage(run)

    def train_part(self, part: str, seed: int) -> None:
        if part in get_args(Way):
            self.search(part, seed)  # type: ignore[arg-type]
        else:
            self.ghostnets(part, seed)
        print(f"{part}, seed {seed}: done", flush=True)

    def supernet(self, way: Way) -> ParentTraining | SupernetTraining:
        """What gives a way's networks their weights."""
        config = self.recipe.supernet
        assert isinstance(config, ParentTraining)
        if way in ("pretrained", "head"):  # fine-tuned, or as it is but for its classifier
            tune = "head" if way == "head" else config.tune
            return config.model_copy(update={"parent": str(self.pretrained(PARENT_WIDTH)), "tune": tune})
        fresh = config.model_copy(update=FROM_SCRATCH | {"tune": False})
        if way == "scratch":
            return fresh
        of_full_training = {"mixup", "cutmix", "distill", "temperature", "compile", "use_held_out"}
        return SupernetTraining(
            **fresh.alone().model_dump(exclude=of_full_training) | {"epochs": 10.0, "min_steps": SANDWICHES}
        )

    def tuning(self, **changes: Any) -> Training:
        """The training of the chosen networks, changed."""
        return self.recipe.retrain.alone().model_copy(update=changes)

    def ghostnets(self, family: str, seed: int) -> None:
        """GhostNets of all widths. From their own pretraining: `tuned` alone, on pictures that are not mixed, or
        `taught` by the parent, as the found networks are. And `fresh`, from fresh weights, for as long as the parent of
        the way from scratch."""
        teacher = f"supernet:{final_supernet(self.run('pretrained', seed))}" if family == "taught" else None
        changes = {"tuned": UNMIXED, "fresh": FROM_SCRATCH | {"cutmix": 0.0}}.get(family, {})
        for width in WIDTHS:
            init = None if family == "fresh" else self.pretrained(width)
            out, arch = self.ghostnet(family, width, seed), self.space.uniform(width)
            self.train(arch, out, seed, self.tuning(**changes), init=init, teacher=teacher)

    def ghostnet(self, name: str, width: float, seed: int) -> Path:
        return self.out / f"ghostnets-{seed}" / f"{name}-{width:g}x"

    def train(self, arch: Arch, out: Path, seed: int, config: Training, **origin: Any) -> None:
        """A network that is no run's."""
        if not (out / TRAINED_FILE).exists():
            with self.timed(out.parent.name.partition("-")[0], seed, out.name):
                retrain(arch, self.load(seed), config, out, seed=seed, device=CPU, **origin)

    def measure(self) -> None:
        """Times every network that was trained, side by side: their order by latency, whatever the table says."""
        patterns = (f"*-*/networks/*/{ARCH_FILE}", f"ghostnets-*/*/{ARCH_FILE}")
        archs = {arch.id: arch for pattern in patterns for arch in map(Arch.load, glob(self.out, pattern))}
        shape, setting = (self.space.in_chs, *(self.space.resolution,) * 2), self.recipe.latency
        nets = {name: (GhostNet(arch, self.space.num_classes).eval(), shape) for name, arch in archs.items()}
        times = measure(runtime(setting.runtime, setting.threads, setting.dtype), nets)
        write_json(MEASURED, {name: round(ms, 5) for name, ms in sorted(times.items())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of tiny-imagenet-40")
    parser.add_argument("--part", choices=(*ONCE, *EACH_SEED, LAST), help="default: all")
    parser.add_argument("--seed", type=int, help=f"default: {SEEDS[0]} to {SEEDS[-1]}, one after the other")
    parser.add_argument("--out", type=Path, default=HERE / "work")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(arguments.data, arguments.out)
    wanted = (arguments.part,) if arguments.part else (*ONCE, *EACH_SEED, LAST)
    if "pretrain" in wanted:
        study.pretrain()
    if "latency" in wanted:
        study.calibrate()
    for seed in SEEDS if arguments.seed is None else (arguments.seed,):
        for part in EACH_SEED:
            if part in wanted:
                study.train_part(part, seed)
    if LAST in wanted:
        study.measure()


if __name__ == "__main__":
    main()
