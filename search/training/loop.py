"""The loop that every training runs: shuffled batches, timm's optimizer and schedule, clipping, checkpoints.

All randomness of a step comes from (seed, step, part of the batch), so a run that was killed and resumed is the run
that was not, and two processes do what one does in two parts. A time limit moves the schedule on by the clock where the
clock is ahead of the steps, so that a time-boxed training also ends with its learning rate at zero.
"""

import math
import time
from collections.abc import Callable, Iterator
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
from search.training.optimizer import create_optimizer, create_schedule
from search.training.records import Outcome, Progress
from search.training.scalars import Scalars

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
    seconds: float | None = None,
    probe: Probe | None = None,
) -> Outcome:
    """Trains `model` in place, on from `checkpoint` where there is one; removes nothing. Where the recipe averages
    weights, the model ends with the averaged ones.

    Args:
        checkpoint: where the training stands, now and then; None: it begins anew after a kill.
        title: of the progress bar; None shows none.
        step: computes the loss of a part of a batch, and calls `backward` on it or returns it as a tensor. Its
            generator is the same for all parts of a step, in every process.
        identity: what is trained, on what and how; a checkpoint of anything else is refused.
        seconds: time limit, spent time before a kill included; None trains all epochs.
        probe: looked at `config.probes` times, for TensorBoard, beside the checkpoint; never in a time limit.

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
    optimizer = create_optimizer(model, config)
    schedule = create_schedule(optimizer, config, total, per_epoch)
    precision = autocast_dtype(config, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    average = ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None
    state = _State(model, optimizer, scaler, average, checkpoint, identity, total)
    curves = checkpoint.with_name("tensorboard") if checkpoint and world.is_main_process else None
    scalars = Scalars(curves, state.step)
    num_probes = config.probes if probe and not seconds else 0  # a time box is for training
    probes = {math.ceil(total * (k + 1) / config.probes) for k in range(num_probes)}
    started = time.monotonic() - state.seconds
    saved = time.monotonic()
    skipped_in_row = 0
    first = at = state.step  # `at`: how far the schedule is, in steps

    def batches() -> Iterator[tuple[Tensor, int]]:
        """From the step at which the training stands: this process's parts in turn, as indices and a seed."""
        for k in range(first, total):
            epoch, batch_number = divmod(k, per_epoch)
            if batch_number == 0 or k == first:
                order = np.random.default_rng([seed, epoch, 1]).permutation(len(train))
            batch = torch.from_numpy(order[batch_number * config.batch_size :][: config.batch_size])
            for part, where in parts:
                yield batch[where], int(np.random.SeedSequence([seed, k, part]).generate_state(1)[0])

    stream = train.stream(batches())
    with bar(title, total) as progress:
        progress.update(at)
        while at < total:
            schedule.step_update(at)
            optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for _ in parts:
                images, labels, batch_seed = next(stream)
                torch.manual_seed(batch_seed)  # dropout and drop-path, which take no generator
                images = augment(images, batch_seed).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, precision, enabled=precision is not None):
                    part_loss = step(images, labels, np.random.default_rng([seed, state.step]))
                if isinstance(part_loss, Tensor):
                    scaler.scale(part_loss).backward()
                loss += float(part_loss.detach() if isinstance(part_loss, Tensor) else part_loss)
            by_clock = total * (time.monotonic() - started) / seconds if seconds else 0.0
            shared = world.average(
                model.parameters(),
                config.accumulate,
                torch.tensor([loss / config.accumulate, by_clock * world.is_main_process], device=device),
            )
            scaler.unscale_(optimizer)
            loss, by_clock = float(shared[0]) / world.size, float(shared[1])
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
            state.step += 1
            if math.isfinite(loss) and bool(torch.isfinite(norm)):
                scaler.step(optimizer)
                if average:
                    average.update(model, state.step)
                skipped_in_row = 0
                state.loss = loss if state.step - state.skipped == 1 else 0.98 * state.loss + 0.02 * loss
            else:
                skipped_in_row += 1
                state.skipped += 1
                if skipped_in_row == SKIPS:
                    raise UserError(f"{name}: no finite loss in {SKIPS} steps; a lower `lr` than {config.lr} may help")
            if scaler.is_enabled():
                scaler.update()
            at = max(state.step, math.floor(by_clock))
            if probe and not probes.isdisjoint(range(state.step, at + 1)) and world.is_main_process:
                probes -= set(range(at + 1))
                with best_effort("the probes of a training"):
                    scalars.add(state.step, probe(average.module if average else model))
                model.train()
            if state.step % max(1, per_epoch // 10) == 0:
                scalars.add(state.step, {"loss": state.loss, "lr": optimizer.param_groups[0]["lr"]})
            late = checkpoint is not None and time.monotonic() - saved > config.checkpoint_seconds
            if late and not skipped_in_row and world.is_main_process:
                saved = time.monotonic()
                state.seconds = saved - started
                state.save()
                scalars.flush()
            progress.update(at, f"loss {state.loss:.3f}")
    scalars.close()
    if state.skipped > SKIPPED_SHARE * state.step + SCALE_STEPS * scaler.is_enabled():
        raise UserError(
            f"{name}: the loss or its gradient was not finite in {state.skipped} of {state.step} steps, at most "
            f"{SKIPPED_SHARE:.0%} are passed over; a lower `lr` than {config.lr} may help"
        )
    if average:
        model.load_state_dict(average.module.state_dict())
    world.wait()
    return Outcome(
        epochs=round(state.step / per_epoch, 3),
        planned_epochs=max(config.epochs, round(config.min_steps / per_epoch, 3)),
        steps=state.step,
        planned_steps=total,
        skipped_steps=state.skipped,
        seconds=round(time.monotonic() - started, 3),
        loss=state.loss,
    )


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
        self.step, self.skipped, self.seconds, self.loss = 0, 0, 0.0, 0.0
        if self.checkpoint and (saved := self.checkpoint.load(partial(self._check, steps))):
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            self.step, self.skipped = saved["step"], saved["skipped"]
            self.seconds, self.loss = saved["seconds"], saved["loss"]

    def _check(self, steps: int, saved: State) -> None:
        """Raises:
        ValueError: the values are no state of this training.
        """
        if saved.keys() != {"of", *Progress.model_fields, *self.parts}:
            raise ValueError("other keys")
        progress = Progress.model_validate({name: saved[name] for name in Progress.model_fields})
        if not progress.skipped <= progress.step <= steps:
            raise ValueError(f"step {progress.step} of {steps}, {progress.skipped} skipped")
        for name, part in self.parts.items():
            if isinstance(part, torch.optim.Optimizer):
                check_optimizer(saved[name], part)
            else:
                check_form(saved[name], part.state_dict(), name)

    def save(self) -> None:
        assert self.checkpoint
        values = {"step": self.step, "skipped": self.skipped, "seconds": self.seconds, "loss": self.loss}
        self.checkpoint.save(values | {name: part.state_dict() for name, part in self.parts.items()})
