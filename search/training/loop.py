"""The loop that every training runs: shuffled batches, timm's optimizer and cosine schedule, clipping, checkpoints.

All randomness of a step comes from (seed, step, part of the batch), so a run that was killed and resumed is the run
that was not, and two processes do what one does in two parts. A time limit moves the schedule on by the clock where the
clock is ahead of the steps, so that a time-boxed training also ends with its learning rate at zero.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from search.data import Data
from search.errors import UserError
from search.progress import bar
from search.recipe import Training
from search.training.checkpoint import Checkpoint
from search.training.scalars import Scalars
from search.training.world import World

SKIPS = 20  # steps in a row without a finite loss before a training gives up

Step = Callable[[Tensor, Tensor, np.random.Generator], float]  # images, labels, rng -> loss; adds to the gradients
Probe = Callable[[nn.Module], dict[str, float]]  # what is worth watching of the weights, by name


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to."""

    epochs: float
    planned_epochs: float
    steps: int
    skipped_steps: int
    seconds: float
    loss: float


def fit(
    model: nn.Module,
    data: Data,
    config: Training,
    step: Step,
    *,
    checkpoint: Path,
    of: str,
    seed: int,
    device: torch.device,
    title: str,
    seconds: float | None = None,
    probe: Probe | None = None,
) -> Trained:
    """Trains `model` in place, on from `checkpoint` where there is one; removes nothing. Where the recipe averages
    weights, the model ends with the averaged ones.

    Args:
        step: computes the loss of a part of a batch and calls `backward` on it. Its generator is the same for all parts
            of a step, in every process.
        of: what is trained, on what and how; a checkpoint of anything else is refused.
        seconds: time limit, spent time before a kill included; None trains all epochs.
        probe: looked at `config.probes` times, for TensorBoard, beside the checkpoint; never in a time limit.

    Raises:
        UserError: the checkpoint is of another training; the batch can't be dealt to the processes; or the loss was not
            finite for many steps in a row, and the checkpoint is the last good one.
    """
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3

    world = World.current()
    parts = world.parts(config.batch_size, config.accumulate)
    train = data.train.to(device)
    per_epoch = max(1, len(train) // config.batch_size)
    total = max(1, math.ceil(config.epochs * per_epoch))
    optimizer = create_optimizer_v2(
        model, config.optimizer, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum
    )
    warmup = min(math.ceil(config.warmup_epochs * per_epoch), total // 5)
    schedule = CosineLRScheduler(
        optimizer, t_initial=total, warmup_t=warmup, warmup_lr_init=config.lr / 100, t_in_epochs=False
    )
    average = ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None
    state = _State(model, optimizer, average, checkpoint, f"{of} {data.name} seed {seed} {config!r}")
    scalars = Scalars(checkpoint.with_name("tensorboard") if world.leads else None, state.step)
    looks = config.probes if probe and not seconds else 0  # a time box is for training
    probes = {math.ceil(total * (k + 1) / config.probes) for k in range(looks)}
    started = time.monotonic() - state.seconds
    saved = time.monotonic()
    skipped_in_row = 0
    first = at = state.step  # `at`: how far the schedule is, in steps

    def batches() -> Iterator[tuple[Tensor, int]]:
        """From the step at which the training stands: this process's parts in turn, as indices and a seed."""
        for k in range(first, total):
            epoch, place = divmod(k, per_epoch)
            if place == 0 or k == first:
                order = np.random.default_rng([seed, epoch, 1]).permutation(len(train))
            batch = torch.from_numpy(order[place * config.batch_size :][: config.batch_size])
            for part, where in parts:
                yield batch[where], int(np.random.SeedSequence([seed, k, part]).generate_state(1)[0])

    stream = train.stream(batches())
    with bar(title, total) as progress:
        progress.at(at)
        while at < total:
            schedule.step_update(at)
            optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for _ in parts:
                images, labels, drawn = next(stream)
                torch.manual_seed(drawn)  # dropout and drop-path, which take no generator
                images = data.augment(images, np.random.default_rng(drawn))
                images = data.normalise(images).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss += step(images, labels, np.random.default_rng([seed, state.step]))
            by_clock = total * (time.monotonic() - started) / seconds if seconds else 0.0
            shared = world.average(
                model.parameters(),
                config.accumulate,
                torch.tensor([loss / config.accumulate, by_clock * world.leads], device=device),
            )
            loss, by_clock = float(shared[0]) / world.size, float(shared[1])
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            state.step += 1
            if math.isfinite(loss) and bool(torch.isfinite(norm)):
                optimizer.step()
                if average:
                    average.update(model, state.step)
                skipped_in_row = 0
                state.loss = loss if state.step == 1 else 0.98 * state.loss + 0.02 * loss
            else:
                skipped_in_row += 1
                state.skipped += 1
                if skipped_in_row == SKIPS:
                    raise UserError(f"{title}: no finite loss in {SKIPS} steps; a lower `lr` than {config.lr} may help")
            at = max(state.step, math.floor(by_clock))
            if probe and not probes.isdisjoint(range(state.step, at + 1)) and world.leads:
                probes -= set(range(at + 1))
                scalars.add(state.step, probe(average.module if average else model))
            if state.step % max(1, per_epoch // 10) == 0:
                scalars.add(state.step, {"loss": state.loss, "lr": optimizer.param_groups[0]["lr"]})
            if time.monotonic() - saved > config.checkpoint_seconds and not skipped_in_row and world.leads:
                saved = time.monotonic()
                state.seconds = saved - started
                state.save()
            progress.at(at, f"loss {state.loss:.3f}")
    scalars.close()
    if average:
        model.load_state_dict(average.module.state_dict())
    world.wait()
    return Trained(
        epochs=round(state.step / per_epoch, 3),
        planned_epochs=config.epochs,
        steps=state.step,
        skipped_steps=state.skipped,
        seconds=round(time.monotonic() - started, 3),
        loss=state.loss,
    )


class _State:
    """Everything that a training goes on from."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, path: Path, of: str
    ) -> None:
        self.parts = {"model": model, "optimizer": optimizer} | ({"average": average} if average else {})
        self.checkpoint = Checkpoint(path, of)
        self.step, self.skipped, self.seconds, self.loss = 0, 0, 0.0, 0.0
        if saved := self.checkpoint.load():
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])  # type: ignore[attr-defined]
            self.step, self.skipped = saved["step"], saved["skipped"]
            self.seconds, self.loss = saved["seconds"], saved["loss"]

    def save(self) -> None:
        values = {"step": self.step, "skipped": self.skipped, "seconds": self.seconds, "loss": self.loss}
        self.checkpoint.save(values | {name: part.state_dict() for name, part in self.parts.items()})  # type: ignore[attr-defined]
