"""A recipe is a TOML file that says everything a run does. `search/recipes/` has ours; users write their own.

Unknown keys, wrong types and values out of range are refused by name. What a recipe leaves out has the default below.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.errors import UserError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Backend = Literal["optuna", "ray", "nni"]
Sampler = Literal["guided", "nsga2", "nsga3", "tpe", "gp", "random", "evolution"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Training(_Model):
    """How one network is trained: cosine from `lr` after a linear warm-up, no decay on norms and biases."""

    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Share = 0.1
    drop_rate: Share = 0.0
    drop_path: Share = Field(default=0.0, description="of the last block's branch; of earlier ones in proportion")
    clip_norm: Positive = 5.0
    ema: Share = Field(default=0.0, description="decay of the averaged weights, which are kept; 0 averages none")
    accumulate: Count = Field(default=1, description="equal parts of a batch, one after the other, each with its norms")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 20.0
    probes: Count = Field(
        default=10, description="looks at held-out accuracy on the way, for TensorBoard; none in a time box"
    )


class SupernetTraining(Training):
    """The sandwich: the largest network, `random` random ones and the smallest in every step."""

    random: Annotated[int, Field(ge=0)] = 2
    by_macs: bool = Field(default=False, description="draw random networks evenly over multiply-adds")
    divergence: Literal["kl", "alpha"] = "kl"


class Latency(_Model):
    """The calibration: each unit and each whole network once a round, for about `minutes`."""

    runtime: str = "onnxruntime"
    threads: Count = 1
    rounds: Annotated[int, Field(ge=2)] = 3
    fit_networks: Annotated[int, Field(ge=8)] = 48
    held_out: Annotated[int, Field(ge=8)] = 32
    minutes: Positive = 10.0


class Search(_Model):
    """Accuracy against predicted latency under `flops_budget`: `trials` different networks are evaluated."""

    flops_budget: str = Field(description="60M, a window 40M..60M, or several with commas: a front for each")
    latency_budget: str | None = Field(default=None, description="8ms, on the interval's upper end; or several")
    params_budget: str | None = None
    objectives: tuple[str, ...] = Field(default=("accuracy", "latency_ms"), description="columns of the log")
    trials: Count = 200
    sampler: Sampler = "guided"
    population: Annotated[int, Field(ge=2)] = 40
    trial_seconds: Positive | None = Field(default=None, description="an evaluation that takes longer has failed")
    backend: Backend = "optuna"
    workers: Count = 1
    storage: str | None = Field(default=None, description="where Optuna's study is shown; None: nowhere")


class Retraining(Training):
    """Full training of `chosen` networks along the front, and of the family at `baseline_widths`."""

    chosen: Annotated[int, Field(ge=1)] = 4
    baseline_widths: tuple[Positive, ...] = ()


class Recipe(_Model):
    """A whole run."""

    name: str
    data: str
    space: str | dict[str, Any] = Field(description="a preset's name, or a table: see `spaces.custom`")
    seed: int = 0
    threads: Count | None = Field(default=None, description="of training and evaluation; torch's choice where None")
    train_images: Annotated[int, Field(ge=10)] | None = None
    supernet: SupernetTraining
    latency: Latency = Latency()
    search: Search
    retrain: Retraining


def load(name: str) -> Recipe:
    """Our recipe of that name, or the one in that file.

    Raises:
        UserError: there is none, or it breaks a rule.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    else:
        ours = {file.name.removesuffix(".toml"): file for file in files("search").joinpath("recipes").iterdir()}
        if name not in ours:
            raise UserError(f"a recipe is one of {', '.join(sorted(ours))}, or a file ending in .toml; not {name!r}")
        text = ours[name].read_text(encoding="utf-8")
    return parse(text, path.stem)


def parse(text: str, name: str) -> Recipe:
    """A recipe from TOML text.

    Raises:
        UserError: it is not TOML, or breaks a rule.
    """
    try:
        return Recipe.model_validate({"name": name} | tomllib.loads(text), strict=False)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {name} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        got = "" if first["type"] == "missing" else f", but got {first['input']!r}"
        raise UserError(f"recipe {name}: {where}: {first['msg']}{got}") from None
