"""The loop that every training runs: shuffled batches, timm's optimizer and cosine schedule, clipping, checkpoints.

All randomness of a step comes from (seed, step), so a run that was killed and resumed is the run that was not. A time
limit moves the schedule on by the clock where the clock is ahead of the steps, so that a time-boxed training also ends
with its learning rate at zero.
"""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from search.data import Data
from search.errors import UserError
from search.files import write_bytes
from search.progress import bar
from search.recipe import Training

CHECKPOINT_EVERY_S = 20.0
SKIPS = 20  # steps in a row without a finite loss before a training gives up

Step = Callable[[Tensor, Tensor, np.random.Generator], float]  # images, labels, rng -> loss; leaves gradients behind


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
) -> Trained:
    """Trains `model` in place, on from `checkpoint` where there is one; removes nothing.

    Args:
        step: computes the loss of a batch and calls `backward` on it.
        of: what is trained, on what and how; a checkpoint of anything else is refused.
        seconds: time limit, spent time before a kill included; None trains all epochs.

    Raises:
        UserError: the checkpoint is of another training; or the loss was not finite for many steps in a row, and the
            checkpoint is the last good one.
    """
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

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
    state = _State(model, optimizer, checkpoint, f"{of} {data.name} seed {seed} {config!r}")
    started = time.monotonic() - state.seconds
    saved = time.monotonic()
    skipped_in_row = 0

    def at() -> int:
        """How far the schedule is, in steps."""
        by_clock = total * (time.monotonic() - started) / seconds if seconds else 0
        return max(state.step, math.floor(by_clock))

    with bar(title, total) as progress:
        progress.at(state.step)
        while at() < total:
            rng = np.random.default_rng([seed, state.step])
            torch.manual_seed(int(rng.integers(1 << 62)))  # dropout, which takes no generator
            epoch, place = divmod(state.step, per_epoch)
            order = np.random.default_rng([seed, epoch, 1]).permutation(len(train))
            index = torch.from_numpy(order[place * config.batch_size :][: config.batch_size]).to(device)
            images = data.normalise(data.augment(train.images[index], rng)).contiguous(
                memory_format=torch.channels_last
            )
            schedule.step_update(at())
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = step(images, train.labels[index], rng)
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            state.step += 1
            if math.isfinite(loss) and bool(torch.isfinite(norm)):
                optimizer.step()
                skipped_in_row = 0
                state.loss = loss if state.step == 1 else 0.98 * state.loss + 0.02 * loss
            else:
                skipped_in_row += 1
                state.skipped += 1
                if skipped_in_row == SKIPS:
                    raise UserError(f"{title}: no finite loss in {SKIPS} steps; a lower `lr` than {config.lr} may help")
            if time.monotonic() - saved > CHECKPOINT_EVERY_S and not skipped_in_row:
                saved = time.monotonic()
                state.seconds = saved - started
                state.save()
            progress.at(at(), f"loss {state.loss:.3f}")
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

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, of: str) -> None:
        self.model, self.optimizer, self.path, self.of = model, optimizer, path, of
        self.step, self.skipped, self.seconds, self.loss = 0, 0, 0.0, 0.0
        if path.exists():
            saved = torch.load(path, weights_only=True)
            if saved["of"] != of:
                raise UserError(f"{path} is of another training: {saved['of']}, not {of}")
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            self.step, self.skipped = saved["step"], saved["skipped"]
            self.seconds, self.loss = saved["seconds"], saved["loss"]

    def save(self) -> None:
        content = io.BytesIO()
        values = {"of": self.of, "step": self.step, "skipped": self.skipped, "seconds": self.seconds, "loss": self.loss}
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), **values}, content)
        write_bytes(self.path, content.getvalue())
