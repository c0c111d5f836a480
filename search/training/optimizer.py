"""A recipe's optimizer and learning-rate schedule, from timm."""

import math
from typing import Any, TypedDict

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import nn, optim

from search.recipes.schema import Training


class OptimizerOptions(TypedDict, total=False):
    """What an optimizer is given where it has that."""

    eps: float
    fused: bool
    nesterov: bool


def create_optimizer(model: nn.Module, config: Training) -> optim.Optimizer:
    """No weight decay on norms and biases."""
    options: OptimizerOptions = {} if config.eps is None else {"eps": config.eps}
    if config.optimizer in ("sgd", "adamw"):  # PyTorch's own; a small network's step is mostly calls
        options["fused"] = True
    if config.optimizer == "sgd":
        options["nesterov"] = config.momentum > 0  # PyTorch refuses it without momentum
    optimizer = create_optimizer_v2(
        model, config.optimizer, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum, **options
    )
    if config.optimizer == "sgd" and config.momentum:
        _start_momentum(optimizer)
        optimizer.register_load_state_dict_post_hook(_start_momentum)
    return optimizer


def _start_momentum(optimizer: optim.Optimizer) -> None:
    """Sets the momentum of parameters without one to zero: fused SGD fails on a parameter whose first gradient comes
    after the first step, as that of a layer does which no network of the first step has."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if "momentum_buffer" not in optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class WarmUp(TypedDict):
    """timm's linear warm-up, in steps."""

    warmup_t: int
    warmup_lr_init: float
    t_in_epochs: bool
    warmup_prefix: bool


def create_schedule(optimizer: optim.Optimizer, config: Training, total: int, per_epoch: int) -> Any:
    """A linear warm-up, then a cosine to zero or steps; `step_update(k)` sets the rate of step k of `total`."""
    epoch = max(float(per_epoch), config.min_steps / config.epochs)  # in steps, stretched to the least there are
    warmup: WarmUp = {
        "warmup_t": min(math.ceil(config.warmup_epochs * epoch), total // 5),
        "warmup_lr_init": config.lr / 100,
        "t_in_epochs": False,
        "warmup_prefix": False,  # the warm-up is part of the schedule, not before it
    }
    if config.schedule == "cosine":
        # Of a single step timm warns that its rate stays what it is; a second one that never comes changes nothing.
        return CosineLRScheduler(optimizer, t_initial=max(total, 2), **warmup)
    return StepLRScheduler(optimizer, config.decay_epochs * epoch, config.decay_rate, **warmup)
