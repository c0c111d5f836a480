"""The loop that every training runs: shuffled batches, timm's optimizer and schedule, clipping, checkpoints.

All randomness of a step comes from (seed, step, part of the batch), so a run that was killed and resumed is the run
that was not, and two processes do what one does in two parts. A time box moves the schedule on by the clock where the
clock is ahead of the steps, so that a time-boxed training also ends with its learning rate at zero; and it may stretch
the schedule over more steps than the recipe's, where there is time for them.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from search.data.datasets import Data
from search.data.transforms import Augment
from search.errors import UserError
from search.identity import Identity
from search.progress import bar, best_effort
from search.recipes.schema import Training
from search.training.checkpoint import Checkpoint, State, check_form, check_optimizer
from search.training.distributed import World
from search.training.interruption import Interruption
from search.training.optimizer import create_optimizer, create_schedule
from search.training.records import Outcome, Progress
from search.training.scalars import Scalars
from search.training.time_box import LONGEST, TimeBox

SKIPS = 20  # steps in a row without a finite loss before a training gives up
SKIPPED_SHARE = 0.1  # of all steps, above which it is none
SCALE_STEPS = 10  # that half precision may skip besides, in search of its scale

# Images, labels, rng -> loss. A number: the step has added to the gradients itself; a tensor: the loop does, scaled
# where half precision asks for it.
Step = Callable[[Tensor, Tensor, np.random.Generator], float | Tensor]
Probe = Callable[[nn.Module], dict[str, float]]  # what is worth watching of the weights, by name


UNTRAINED = Outcome(
    epochs=0.0, planned_epochs=0.0, steps=0, planned_steps=0, skipped_steps=0, seconds=0.0, loss=0.0
)  # of weights that are taken as they are


def fit(
    model: nn.Module,
    data: Data,
    config: Training,
    step: Step,
    *,
    checkpoint: Path | None,
    identity: Identity,
    seed: int,
    device: torch.device,
    title: str | None,
    box: TimeBox | None = None,
    probe: Probe | None = None,
) -> Outcome:
    """Trains `model` in place, on from `checkpoint` where there is one; removes nothing. Where the recipe averages
    weights, the model ends with the averaged ones. Ctrl-C ends it after the step that it is at, with a checkpoint.

    Args:
        checkpoint: where the training stands, now and then; None: it begins anew after a kill.
        title: of the progress bar; None shows none.
        step: computes the loss of a part of a batch, and calls `backward` on it or returns it as a tensor. Its
            generator is the same for all parts of a step, in every process.
        identity: what is trained, on what and how; a checkpoint of anything else is refused.
        box: its time limit; None trains all epochs.
        probe: looked at `config.probes` times, for TensorBoard, beside the checkpoint; never in a time box.

    Raises:
        UserError: the checkpoint is of another training; the batch can't be dealt to the processes; or the loss was not
            finite for many steps in a row or for over a tenth of all, and the checkpoint is the last good one.
    """
    world, name = World.current(), title or "training"
    augment = Augment(data, config)
    train = augment.split().to(device)
    parts = world.parts(config.batch_size, config.accumulate, len(train))
    per_epoch = max(1, len(train) // config.batch_size)
    total = config.steps(per_epoch)
    updates = _Updates(model, config, step, device, total, per_epoch)
    state = _State(model, updates.optimizer, updates.scaler, updates.average, checkpoint, identity, total)
    curves = checkpoint.with_name("tensorboard") if checkpoint and world.is_main_process else None
    watch = _Watch(Scalars(curves, state.step), config, total, None if box else probe)
    started = time.monotonic() - state.seconds
    saved = time.monotonic()
    stretch = box.stretch if box else 1.0
    if not box:  # then one that had a time box has its recipe's steps, or what is left of them if it had more
        state.at = min(state.at, state.step)
    first, begun, left = state.step, time.monotonic(), total - state.at
    steps = range(first, first + math.ceil(stretch * left) + 1)
    stream = train.stream(_batches(parts, config.batch_size, len(train), steps, seed))
    with bar(title, total) as progress, Interruption() as interruption:
        progress.update(math.floor(state.at))
        while state.at < total:
            updates.begin(math.floor(state.at))
            loss = 0.0
            for _ in parts:
                images, labels, batch_seed = next(stream)
                torch.manual_seed(batch_seed)  # dropout and drop-path, which take no generator
                images = augment(images, batch_seed).contiguous(memory_format=torch.channels_last)
                loss += updates.backward(images, labels, np.random.default_rng([seed, state.step]))
            by_clock = left * (time.monotonic() - begun) / box.seconds if box else 0.0
            shared = world.average(
                model.parameters(),
                config.accumulate,
                torch.tensor(
                    [loss / config.accumulate, by_clock * world.is_main_process, interruption.came], device=device
                ),
            )
            loss, by_clock, interrupted = float(shared[0]) / world.size, float(shared[1]), bool(shared[2])
            state.count(loss, updates.apply(loss, state.step + 1))
            if state.skipped_in_row == SKIPS:
                raise UserError(f"{name}: no finite loss in {SKIPS} steps; a lower `lr` than {config.lr} may help")
            before = math.floor(state.at)
            state.at = total - left + max((state.step - first) / stretch, min(by_clock, left))
            at = math.floor(state.at)
            if world.is_main_process and watch.is_due(before, at):
                watch.probe(state.step, updates.average.module if updates.average else model)
                model.train()
            if state.step % max(1, per_epoch // 10) == 0:
                watch.scalars.add(state.step, {"loss": state.loss, "lr": updates.optimizer.param_groups[0]["lr"]})
            late = time.monotonic() - saved > config.checkpoint_seconds or interrupted
            if checkpoint and late and not state.skipped_in_row and world.is_main_process:
                saved = time.monotonic()
                state.seconds = saved - started
                state.save()
                watch.scalars.flush()
            if interrupted:  # in any of the processes: all end after the same step
                raise KeyboardInterrupt
            progress.update(at, f"loss {state.loss:.3f}")
    watch.scalars.close()
    if state.skipped > SKIPPED_SHARE * state.step + SCALE_STEPS * updates.scaler.is_enabled():
        raise UserError(
            f"{name}: the loss or its gradient was not finite in {state.skipped} of {state.step} steps, at most "
            f"{SKIPPED_SHARE:.0%} are passed over; a lower `lr` than {config.lr} may help"
        )
    if updates.average:
        model.load_state_dict(updates.average.module.state_dict())
    world.wait()
    return Outcome(
        epochs=round(state.step / per_epoch, 3),
        planned_epochs=max(config.epochs, round(config.min_steps / per_epoch, 3)),
        steps=state.step,
        planned_steps=total,
        skipped_steps=state.skipped,
        seconds=round(time.monotonic() - started, 3),
        loss=state.loss,
        ended="schedule" if state.step >= total else "time box",
    )


def _batches(
    parts: Sequence[tuple[int, slice]], batch_size: int, images: int, steps: range, seed: int
) -> Iterator[tuple[Tensor, int]]:
    """Of each step this process's parts in turn, as indices and a seed."""
    per_epoch = max(1, images // batch_size)
    for k in steps:
        epoch, batch_number = divmod(k, per_epoch)
        if batch_number == 0 or k == steps.start:
            order = np.random.default_rng([seed, epoch, 1]).permutation(images)
        batch = torch.from_numpy(order[batch_number * batch_size :][:batch_size])
        for part, where in parts:
            yield batch[where], int(np.random.SeedSequence([seed, k, part]).generate_state(1)[0])


class _Updates:
    """The updates of a model: backward passes, and the optimizer's step where all is finite."""

    def __init__(
        self, model: nn.Module, config: Training, step: Step, device: torch.device, total: int, per_epoch: int
    ) -> None:
        self.model, self.step, self.device = model, step, device
        self.clip_norm = config.clip_norm or math.inf
        self.optimizer = create_optimizer(model, config)
        self.schedule = create_schedule(self.optimizer, config, total, per_epoch)
        self.precision = autocast_dtype(config, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        self.average = ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None

    def begin(self, at: int) -> None:
        """Begins an update, at the learning rate of step `at` of the schedule."""
        self.schedule.step_update(at)
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> float:
        """The loss of a part of a batch, whose gradients are added."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            loss = self.step(images, labels, rng)
        if not isinstance(loss, Tensor):
            return float(loss)
        self.scaler.scale(loss).backward()
        return float(loss.detach())

    def apply(self, loss: float, number: int) -> bool:
        """Takes step `number` by the gradients; leaves it out where they or the loss are not finite. Whether it did."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        finite = math.isfinite(loss) and bool(torch.isfinite(norm))
        if finite:
            self.scaler.step(self.optimizer)
            if self.average:
                self.average.update(self.model, number)
        if self.scaler.is_enabled():
            self.scaler.update()
        return finite


class _Watch:
    """Curves for TensorBoard, and probes of the weights, evenly over the schedule; none where `probe` is None."""

    def __init__(self, scalars: Scalars, config: Training, total: int, probe: Probe | None) -> None:
        self.scalars, self._probe = scalars, probe
        count = config.probes if probe else 0
        self._places = {math.ceil(total * (k + 1) / count) for k in range(count)}

    def is_due(self, before: int, at: int) -> bool:
        """Whether a probe has its place between two steps of the schedule, the second one included."""
        return not self._places.isdisjoint(range(before + 1, at + 1))

    def probe(self, step: int, model: nn.Module) -> None:
        """Keeps what a probe says of the weights."""
        assert self._probe
        with best_effort("the probes of a training"):
            self.scalars.add(step, self._probe(model))


def autocast_dtype(config: Training, device: torch.device) -> torch.dtype | None:
    """What matrix products are computed in, if not in float32."""
    kind = ("bf16" if device.type == "cuda" else "none") if config.amp == "auto" else config.amp
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]


class Stateful(Protocol):
    """A model, an optimizer or a scaler."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State, /) -> object: ...


class _State:
    """The state from which a training resumes."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: nn.Module | None,
        path: Path | None,
        identity: Identity,
        steps: int,
    ) -> None:
        self.parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "scaler": scaler}
        self.parts |= {"average": average} if average else {}
        self.checkpoint = Checkpoint(path, identity) if path else None
        self.step, self.at, self.skipped, self.seconds, self.loss = 0, 0.0, 0, 0.0, 0.0
        self.skipped_in_row = 0
        if self.checkpoint and (saved := self.checkpoint.load(partial(self._check, steps))):
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            self.step, self.at, self.skipped = saved["step"], saved["at"], saved["skipped"]
            self.seconds, self.loss = saved["seconds"], saved["loss"]

    def _check(self, steps: int, saved: State) -> None:
        """Raises:
        ValueError: the values are no state of this training.
        """
        saved.setdefault("at", float(saved["step"]))  # of an earlier version
        if saved.keys() != {"of", *Progress.model_fields, *self.parts}:
            raise ValueError("other keys")
        progress = Progress.model_validate({name: saved[name] for name in Progress.model_fields})
        if not (progress.skipped <= progress.step <= LONGEST * progress.at + 1 and progress.at <= steps):
            raise ValueError(f"step {progress.step} at {progress.at} of {steps}, {progress.skipped} skipped")
        for name, part in self.parts.items():
            if isinstance(part, torch.optim.Optimizer):
                check_optimizer(saved[name], part)
            else:
                check_form(saved[name], part.state_dict(), name)

    def count(self, loss: float, updated: bool) -> None:
        """Counts a step, with its loss where it updated the weights."""
        self.step += 1
        if updated:
            self.skipped_in_row = 0
            self.loss = loss if self.step - self.skipped == 1 else 0.98 * self.loss + 0.02 * loss
        else:
            self.skipped += 1
            self.skipped_in_row += 1

    def save(self) -> None:
        assert self.checkpoint
        values = {"step": self.step, "at": self.at, "skipped": self.skipped, "seconds": self.seconds, "loss": self.loss}
        self.checkpoint.save(values | {name: part.state_dict() for name, part in self.parts.items()})
