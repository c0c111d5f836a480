"""What a run will take, before it is begun: steps, images, minutes from a few timed steps here, disk and memory.

Nothing is written and no image is decoded: steps are timed on noise. Minutes are for this machine as it is now; a GPU's
or a busy machine's differ.
"""

import resource
import statistics
import sys
import time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.transplant import Transplants
from ghostnet.transplant.unit_losses import UnitLosses
from search.accuracy.transplant_accuracy import TRANSPLANTS
from search.accuracy.unit_losses import IMAGES as UNIT_IMAGES
from search.accuracy.unit_losses import measured_units
from search.data.datasets import SplitSizes, split_sizes
from search.engine.ladder import REDUCTION
from search.parallel.processes import cores_for
from search.pipeline.step_times import StepTimes
from search.progress import bar
from search.recipes.schema import (
    ParentTraining,
    Recipe,
    SupernetTraining,
    Training,
    evaluation_epochs,
    split_evaluation,
)
from search.run_folder.estimate import Estimate, StageEstimate, recipe_digest
from search.run_folder.run import PRODUCTS, initial_weights, retrains_parent
from search.training.distributed import best_device
from search.training.metadata import space_for
from search.training.origin import AS_NAMED, Located
from search.training.supernets import given_parent, widest
from search.training.teacher import askers
from spaces.space import Space
from spaces.tables import macs_table

FITTED = 96  # images that the layers of a timed transplant are fitted on, at most
FITS, FITS_S = 6, 10.0  # transplants that are timed at the most, and seconds after which no more are
# Seen, not timed here: of a network that is exported and proven, and more for its images; of a report.
EXPORT_S, LARGE_EXPORT_S, REPORT_S = 0.5, 5.0, 10.0
LARGE = 224  # pixels


def estimate(recipe: Recipe, processes: int | None = None, located: Located = AS_NAMED) -> Estimate:
    """Stage by stage what a run of a recipe will take here, which `search.pipeline.run.check` has let pass.

    Args:
        processes: of this machine that work side by side; None: as many as its cores allow.
        located: where the given parent lies, by the path that names it, if elsewhere.

    Raises:
        UserError: what can't be loaded, or fitted to.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    sizes = split_sizes(recipe.data, recipe.train_images)
    space = space_for(recipe.search_space, sizes.num_classes, sizes.in_chs)
    estimator = _Estimator(recipe, space, sizes, best_device(), processes or cores_for(recipe.threads), located)
    stages: list[StageEstimate] = []
    with bar("time a few steps", len(PRODUCTS)) as progress:
        for name in PRODUCTS:
            if stage := getattr(estimator, name)():
                stages.append(stage)
            progress.advance(name)
    return Estimate(recipe=recipe_digest(recipe), stages=tuple(stages))


class _Estimator:
    def __init__(
        self,
        recipe: Recipe,
        space: Space,
        sizes: SplitSizes,
        device: torch.device,
        processes: int = 1,
        located: Located = AS_NAMED,
    ) -> None:
        self.recipe, self.space, self.sizes, self.device = recipe, space, sizes, device
        self.processes, self.located = processes, located
        self.times = StepTimes(sizes, device)

    @property
    def memory(self) -> int:
        """The images in memory, and the most that this process ever had."""
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        most *= 1 if sys.platform == "darwin" else 1024
        return self.sizes.bytes_in_memory(self.space.resolution_choices[-1]) + most

    @cached_property
    def parent(self) -> tuple[Arch, bool]:
        """The architecture of a transplanted supernet's parent, and whether it is trained."""
        config = self.recipe.supernet
        if not isinstance(config, ParentTraining) or (given := given_parent(self.space, config, self.located)) is None:
            return widest(self.space), True
        fits = (given.num_classes, given.in_chs) == (self.sizes.num_classes, self.sizes.in_chs)
        return given.arch, bool(config.tune) or not fits

    def train(self) -> StageEstimate:
        config = self.recipe.supernet
        if isinstance(config, SupernetTraining):
            largest = self.space.largest
            codes = self.space.sample_codes(np.random.default_rng(0), 1000)
            mean, most = float(macs_table(self.space).total(codes).mean()), self.times.macs(largest)
            share = (most + config.random * mean + self.times.macs(self.space.smallest)) / most
            steps, images = self.times.steps(config)
            seconds, size = steps * share * self.times.step_seconds(largest, config), self.times.bytes(largest)
        else:
            arch, trained = self.parent
            steps, images = self.times.steps(config) if trained else (0, 0)
            seconds, size = steps * self.times.step_seconds(arch, config) if steps else 0.0, self.times.bytes(arch)
            if config.tune == "head":  # a step without most of the backward pass
                seconds /= 3
        copies = 3 + bool(config.ema)  # weights; on the way also the network, its momentum and average
        return StageEstimate(
            stage="train", networks=1, minutes=seconds / 60, steps=steps, images=images, disk=copies * size,
            memory=self.memory,
        )  # fmt: skip

    def calibrate(self) -> StageEstimate:
        config = self.recipe.latency
        return StageEstimate(stage="calibrate", minutes=config.minutes, disk=2_000_000)

    def typical(self) -> Arch:
        """The family's widest network inside the largest budget, or the smallest of the space: what is trained fully
        costs about as much."""
        high = max(window.high for window in self.recipe.windows["macs"].values())
        inside = (arch for arch in self.space.family.values() if self.times.macs(arch) <= high)
        return next(inside, self.space.smallest)

    def fidelity(self) -> StageEstimate | None:
        count = self.recipe.fidelity.networks
        return self._trainings("fidelity", count, self.recipe.retrain.workers) if count else None

    def search(self) -> StageEstimate:
        config, supernet, arch = self.recipe.search, self.recipe.supernet, self.typical()
        shown, fit = self.sizes.search, 0.0
        if isinstance(supernet, ParentTraining):
            given, _ = self.parent
            parent = GhostNet(given, self.sizes.num_classes, self.sizes.in_chs).to(self.device).eval()
            fitted = min(supernet.images, FITTED)
            transplants = Transplants(parent, self.times.noise(fitted, given.resolution).contiguous())
            transplants.extract(arch)  # which also learns what depends on the parent alone
            shown += supernet.images - fitted  # regressions read as many positions of fewer images
            fit = self._fit_seconds(transplants)
        else:
            shown += self.sizes.calibration
        look = fit + self.times.look_seconds(arch, shown)
        ways = split_evaluation(config.evaluate)
        once = TRANSPLANTS * look if "units" in ways else 0.0
        once += self._unit_loss_seconds() if "units" in ways or config.sampler == "exact" else 0.0
        steps, images = 0.0, TRANSPLANTS * self.sizes.search if "units" in ways else 0.0
        each, came = 0.0, float(config.trials)  # networks that come as far as a rung
        for rung in ways:
            training = 0.0
            if epochs := evaluation_epochs(rung):
                short = self.recipe.retrain.shortened(epochs)
                of_training = self.times.steps(short)
                training = of_training[0] * self.times.step_seconds(arch, short)
                steps, images = steps + came * of_training[0], images + came * of_training[1]
            if rung != "units":
                images += came * self.sizes.search
            each += came / config.trials * (training + (0.0 if rung == "units" else look))
            came /= REDUCTION
        settled = config.sampler in ("guided", "exact") and len(ways) == 1  # a batch of networks at a time
        processes = {"ray": config.workers, "optuna": self.processes if settled else 1}.get(config.backend, 1)
        seconds = once + config.trials * each / processes
        return StageEstimate(
            stage="search", processes=processes, networks=config.trials, minutes=seconds / 60, alone=once / 60,
            steps=round(steps), images=round(images), disk=1000 * config.trials, memory=self.memory,
        )  # fmt: skip

    def _fit_seconds(self, transplants: Transplants) -> float:
        """Of one network of the search on average. Later ones take less than the first: what is fitted is kept."""
        rng, trials, times = np.random.default_rng(0), self.recipe.search.trials, list[float]()
        while len(times) < min(FITS, trials) and sum(times) < FITS_S:
            start = time.monotonic()
            transplants.extract(self.space.sample(rng))
            times.append(time.monotonic() - start)
        return (sum(times) + (trials - len(times)) * times[-1]) / trials

    def _unit_loss_seconds(self) -> float:
        """Of the units that are measured: some are timed, of a parent with any weights, on noise."""
        arch, _ = self.parent
        parent = GhostNet(arch, self.sizes.num_classes, self.sizes.in_chs).to(self.device).eval()
        losses = UnitLosses(parent, self.times.noise(UNIT_IMAGES, arch.resolution).contiguous())
        places = [*measured_units(self.space, arch).values()]
        times: list[float] = []
        for k in np.random.default_rng(0).permutation(len(places)):
            start = time.monotonic()
            losses(*places[k])
            times.append(time.monotonic() - start)
            if sum(times) > FITS_S:
                break
        return len(places) * statistics.mean(times)

    def retrain(self) -> StageEstimate:
        config, begin = self.recipe.retrain, initial_weights(self.recipe, Path())
        count = (config.chosen + len(config.baseline_widths) + config.random) * config.seeds
        count *= config.soup if begin.init and not begin.teacher else 1
        stage = self._trainings("retrain", count, config.workers if config.workers > 1 else min(self.processes, count))
        if not (retrains_parent(self.recipe) and self.parent[1]):
            return stage
        arch = self.parent[0]
        trainings: list[tuple[Training, Arch | None, int]] = [(config.untaught, None, config.soup)]
        if config.self_distill:
            trainings.append((config, arch, 1))
        for training, teacher, count in trainings:
            steps, images = self.times.steps(training)
            minutes = steps * self.times.step_seconds(arch, training, teacher) / 60
            side_by_side, rest = divmod(count, stage.processes) if count > 1 else (0, 1)
            alone = minutes if rest else 0.0
            stage = stage.model_copy(
                update={
                    "networks": stage.networks + 1,
                    "minutes": stage.minutes + side_by_side * minutes + alone,
                    "alone": stage.alone + alone,
                    "steps": stage.steps + count * steps,
                    "images": stage.images + count * images,
                    "disk": stage.disk + (2 + count) * self.times.bytes(arch),
                }
            )
        return stage

    def _trainings(self, stage: str, count: int, workers: int) -> StageEstimate:
        config, arch = self.recipe.retrain, self.typical()
        steps, images = self.times.steps(config)
        taught = self.recipe.supernet.kind == "transplant" and config.teacher == "auto"
        alone = self.times.step_seconds(arch, config)
        each = self.times.step_seconds(arch, config, self.parent[0]) if taught else alone
        asking = askers(count, workers * config.seeds, self.device)
        seconds = steps * (asking * each + (count - asking) * alone) / workers
        return StageEstimate(
            stage=stage, processes=workers, networks=count, minutes=seconds / 60, steps=count * steps,
            images=count * images, disk=(count + 3) * self.times.bytes(arch), memory=self.memory,
        )  # fmt: skip

    def export(self) -> StageEstimate:
        count = self.recipe.retrain.chosen
        disk = 2 * count * self.times.bytes(self.typical())
        each = EXPORT_S + LARGE_EXPORT_S * (self.typical().resolution / LARGE) ** 2
        return StageEstimate(stage="export", networks=count, minutes=count * each / 60, disk=disk)

    def report(self) -> StageEstimate:
        return StageEstimate(stage="report", minutes=REPORT_S / 60, disk=3_000_000)
