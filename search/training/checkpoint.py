"""Checkpoints: the newest and the previous one, so that a damaged file costs minutes and not the whole training."""

import inspect
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ghostnet.files
from ghostnet.archives import load_tensors, open_archive
from search.errors import UserError
from search.files import read_bytes, write_bytes
from search.identity import Identity, check_same
from search.terminal import say

CHECKPOINT = "checkpoint.pt"  # in a training's folder
State = dict[str, Any]  # what PyTorch keeps of a model, an optimizer or a group of its parameters


class Checkpoint:
    """The checkpoint of a training at `path`, with the previous one beside it.

    Args:
        identity: what is trained, on what and how; a checkpoint of anything else is refused.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path, self.identity = path, identity
        self.previous = path.with_name(f"previous-{path.name}")
        self.damaged = False  # whether the newest is, which then never takes the place of the previous one

    def save(self, values: State) -> None:
        """Writes a new checkpoint; the newest so far becomes the previous one."""
        content = io.BytesIO()
        torch.save({"of": dict(self.identity), **values}, content)
        if self.path.exists() and not self.damaged:
            self.path.replace(self.previous)
        write_bytes(self.path, content.getvalue())
        self.damaged = False

    def load(self, check: Callable[[State], None]) -> State | None:
        """The newest undamaged checkpoint; None where there is none.

        Args:
            check: raises whatever it likes where values can't be gone on from; the one before is taken then.

        Raises:
            UserError: it is of another training, or there is not enough memory to read it.
            OSError: it can't be read. That doesn't make it damaged: a training that began again would overwrite it.
        """
        for path in (self.path, self.previous):
            try:
                content = read_bytes(path, sys.maxsize)
                values = self._values(content, check)
            except FileNotFoundError:
                continue
            except MemoryError:
                raise UserError(f"{path} can't be read: there is not enough memory") from None
            if values is None:
                self.damaged = self.damaged or path == self.path
                say(f"{path} is damaged: the checkpoint before it is taken, if there is one")
                continue
            check_same(values["of"], self.identity, f"{path} is of another training")
            return values
        return None

    def _values(self, content: bytes, check: Callable[[State], None]) -> State | None:
        """What a file of this content holds, checked unless it is of another training; None where it is damaged."""
        try:
            if open_archive(content).testzip():  # torch doesn't look at the checksums it writes
                return None
            values = load_tensors(content)
            values["of"] = ghostnet.files.parse_json(json.dumps(values["of"]).encode())
            if values["of"] == json.loads(json.dumps(dict(self.identity))):
                check(values)
            return values
        except MemoryError:
            raise
        except Exception:  # whatever is wrong with what damaged bytes say
            return None

    def remove(self) -> None:
        """Removes both checkpoints of a finished training."""
        for path in (self.path, self.previous):
            path.unlink(missing_ok=True)


def check_form(saved: Any, own: Any, location: str = "") -> None:
    """Raises:
    ValueError: `saved` isn't made as `own` is: the same keys, types, shapes and lengths all the way down.
    """
    if isinstance(own, Tensor):
        if not isinstance(saved, Tensor) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
            raise ValueError(f"{location} is not of shape {list(own.shape)} and {own.dtype}")
        return
    if type(saved) is not type(own) and not (isinstance(saved, dict) and isinstance(own, dict)):
        raise ValueError(f"{location} is not a {type(own).__name__}")
    if isinstance(own, dict):
        if saved.keys() != own.keys():
            raise ValueError(f"{location} has other keys")
        for key, value in own.items():
            check_form(saved[key], value, f"{location}.{key}")
    elif isinstance(own, list | tuple):
        if len(saved) != len(own):
            raise ValueError(f"{location} has another length")
        for k, value in enumerate(own):
            check_form(saved[k], value, f"{location}.{k}")
    elif isinstance(own, float) and not math.isfinite(saved):
        raise ValueError(f"{location} is not finite")


def check_optimizer(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raises:
    ValueError: `saved` is no state of this optimizer: it has other groups or options, or keeps of a parameter something
        else than this one does.
    """
    own = optimizer.state_dict()
    if not isinstance(saved, dict) or saved.keys() != own.keys() or not isinstance(saved["state"], dict):
        raise ValueError("no state of an optimizer")
    check_form([_options(group) for group in saved["param_groups"]], [_options(group) for group in own["param_groups"]])
    if list(map(_constants, saved["param_groups"])) != list(map(_constants, own["param_groups"])):
        raise ValueError("the groups have other parameters or options")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = _state_keys(optimizer)
    for number, values in saved["state"].items():
        shape = parameters[number].shape  # also finds out whether there is one
        full = {
            name: value.expand(shape) if isinstance(value, Tensor) and value.ndim else value
            for name, value in kept.items()
        }
        check_form(values, full, f"state.{number}")


def _options(group: State) -> State:
    """An optimizer's group without what timm's lamb counts in it."""
    return {name: value for name, value in group.items() if name != "step"}


def _constants(group: State) -> State:
    """An optimizer's group without what changes while it trains."""
    return {name: value for name, value in _options(group).items() if name != "lr"}


def _state_keys(optimizer: torch.optim.Optimizer) -> State:
    """What an optimizer keeps of a parameter of one value, after a step."""
    known = inspect.signature(type(optimizer)).parameters
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    fresh = type(optimizer)([parameter], **{name: v for name, v in optimizer.defaults.items() if name in known})
    fresh.step()
    return fresh.state_dict()["state"].get(0, {})
