"""A recipe is a TOML file that configures a whole run. `search/recipes/` has ours; users write their own.

Unknown keys, wrong types and values out of range are refused by name. What a recipe leaves out has the default below.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from importlib.resources.abc import Traversable
from operator import index
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from ghostnet.arch import MAX_BATCH
from ghostnet.files import parse_toml
from ghostnet.memory import value_bytes
from search.errors import MOST_MINUTES, MOST_THREADS, UserError
from search.files import JsonObject, read_bytes
from search.recipes.choices import (
    NNI_TUNERS,
    Backend,
    Sampler,
    retrain_recipes,
    usual_population,
    whole_recipes,
)
from search.records import Count, Name, PositiveCount, ShareBelowOne, brief, first_error
from search.secrets import without_secrets
from search.seeds import LARGEST_SEED
from spaces.custom import SpaceRecord, space_from_dict
from spaces.errors import SpaceError
from spaces.presets import named_space
from spaces.quantities import Quantity, Window, parse_windows
from spaces.space import Space

MOST_BYTES = 1 << 20  # of a recipe
MOST_EPOCHS = 1e6
MOST_LR = 1e3
MOST_FITTING_IMAGES = 1 << 20  # that the networks of a transplanted supernet are fitted on
MOST_OF_A_SOUP = 100
Threads = Annotated[int, Field(ge=1, le=MOST_THREADS)]

LADDER = "inherited,tuned:1"  # what `ladder` stands for: three epochs rank networks as one does (GhostBench)


def check_sampler(backend: str, sampler: str) -> None:
    """Raises:
    UserError: the backend has no such sampler.
    """
    if backend == "nni" and sampler not in NNI_TUNERS:
        raise UserError(f"the backend nni has the samplers {', '.join(NNI_TUNERS)}, not {sampler!r}")


def check_evaluation(text: str) -> str:
    """How networks of a search are evaluated, unchanged.

    Raises:
        UserError: it is none of the ways.
    """
    rungs = split_evaluation(text)
    for rung in rungs:
        known = re.fullmatch(r"inherited|soft|units|(tuned|trained):([0-9]{1,4}(\.[0-9]{1,4})?)", rung)
        if not known or (known[2] and float(known[2]) == 0):
            raise UserError(
                f"networks are evaluated as units, soft, inherited, tuned:E or trained:E, E epochs, or several of "
                f"these with commas, or as ladder, not {rung[:40]!r}"
            )
    if len(set(rungs)) < len(rungs):
        raise UserError(f"networks are evaluated in different ways one after the other, each once, not {text[:80]!r}")
    prices = [(rung != "units", evaluation_epochs(rung)) for rung in rungs]
    if prices != sorted(prices):  # the last accuracy of a network is the one that counts
        rule = "networks are evaluated from cheap to dear: by units first, then by epochs"
        raise UserError(f"{rule}, not {text[:80]!r}")
    return text


def split_evaluation(text: str) -> list[str]:
    """The evaluations that every network may get, one after the other."""
    return [rung.strip() for rung in (LADDER if text == "ladder" else text).split(",")]


def evaluation_epochs(way: str) -> float:
    """The epochs of an evaluation: 0 of one without a training."""
    return float(way.partition(":")[2] or 0)


@cache  # recipes are asked for their budgets again and again
def parse_milliseconds(text: str | None) -> Mapping[str, float]:
    """`8ms`, or several with commas between -> milliseconds by their text.

    Raises:
        UserError: one of them is none.
    """
    milliseconds = {}
    for part in text.split(",") if text is not None else ():
        try:
            value = float(part.strip().removesuffix("ms")) if part.isascii() else 0.0  # digits of other scripts, too
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise UserError(f"a latency budget is like 8ms, above zero, not {part.strip()!r}")
        milliseconds[part.strip()] = value
    return MappingProxyType(milliseconds)


def check_fitted(kind: str, space: Space) -> None:
    """Raises:
    UserError: networks of the space can't be fitted to a parent, as that kind of supernet does.
    """
    if kind != "transplant":
        return
    for i, stage in enumerate(space.largest.stages):
        for j, block in enumerate(stage[1:], 1):
            if block.stride > 1:
                raise UserError(
                    f"networks are fitted to a parent whose stages have a stride in their first block alone, but "
                    f"rows[{i}][{j}] of space {space.name} has stride {block.stride}: kind = 'elastic' takes it"
                )


def check_has_parent(search: "Search", kind: str, space: Space) -> None:
    """Raises:
    UserError: networks can't be fitted to a parent; or the search goes by what a parent says, or loses by each unit,
        which a supernet of that kind and space can't tell.
    """
    check_fitted(kind, space)
    evaluations = split_evaluation(search.evaluate)
    if "soft" in evaluations and kind != "transplant":
        raise UserError("the evaluation by soft labels wants a parent, which gives them: the supernet is elastic")
    ways = {"evaluation by units": "units" in evaluations}
    ways["sampler exact"] = search.sampler == "exact"
    for way in (way for way, asked in ways.items() if asked):
        if kind != "transplant":
            raise UserError(f"the {way} goes by unit losses, which want a parent: the supernet is elastic")
        if len(space.resolution_choices) > 1:
            raise UserError(
                f"the {way} goes by unit losses, which want a space of one resolution; {space.name} has several"
            )


def _evaluation(text: str) -> str:
    try:
        return check_evaluation(text)
    except UserError as error:
        raise ValueError(str(error)) from None  # which pydantic knows


def _rand_augment(text: str) -> str:
    if text and not re.fullmatch(r"rand(-((m|n|mmax|inc)\d{1,3}|(p|mstd)\d{1,3}(\.\d{0,6})?))+", text, re.ASCII):
        raise ValueError(
            "RandAugment is like rand-m9-mstd0.5: m, n, mmax and inc with a whole number, p and mstd with a number, "
            f"but got {text[:80]!r}"
        )
    return text


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """What these values make, NumPy's whole numbers among them.

        Raises:
            UserError: a value breaks its key's rule.
        """
        try:
            return cls(
                **{
                    key: index(each) if hasattr(each, "__index__") and not isinstance(each, bool) else each
                    for key, each in values.items()
                }
            )
        except ValidationError as error:
            raise UserError(first_error(error)) from None

    def changed(self, **given: object) -> Self:
        """The same with other values of some keys; those that are None stay.

        Raises:
            UserError: a value breaks its key's rule.
        """
        values = {key: value for key, value in given.items() if value is not None}
        known = {key: getattr(self, key) for key in type(self).model_fields}  # a dump would lack the storage's secrets
        try:
            return type(self)(**known | values) if values else self
        except ValidationError as error:
            raise UserError(first_error(error)) from None


ADDED_LATER = (
    "min_steps",
    "use_held_out",
    "self_distill",
    "soup",
)  # keys of a training that recipes of earlier versions lack
M = TypeVar("M", bound=_Model)


class Training(_Model):
    """How one network is trained: a cosine or steps from `lr` after a linear warm-up, no decay on norms and biases.
    With few images `min_steps` says how long: epochs, warm-up and steps of the rate are then stretched alike.

    `mixup`, `cutmix`, `distill`, `temperature`, `compile` and `use_held_out` are of full training alone.
    """

    epochs: Annotated[float, Field(ge=1e-6, le=MOST_EPOCHS)]
    min_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=0, description="though `epochs` have fewer"
    )
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["sgd", "adamw", "rmsproptf", "lamb"] = "sgd"  # timm's; sgd has Nesterov's momentum, if any
    lr: Annotated[float, Field(gt=0, le=MOST_LR)] = 0.1
    momentum: ShareBelowOne = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    eps: PositiveFloat | None = Field(default=None, description="of the optimizer; its own where None")
    schedule: Literal["cosine", "step"] = "cosine"
    decay_epochs: Annotated[float, Field(gt=0, le=MOST_EPOCHS)] = Field(
        default=2.4, description="of a step schedule: `lr` times `decay_rate` so often"
    )
    decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.97
    warmup_epochs: Annotated[float, Field(ge=0, le=MOST_EPOCHS)] = 1.0
    label_smoothing: ShareBelowOne = 0.1
    drop_rate: ShareBelowOne = 0.0
    drop_path: ShareBelowOne = Field(
        default=0.0, description="of the last block's branch; of earlier ones in proportion"
    )
    clip_norm: Annotated[float, Field(ge=0)] = Field(default=5.0, description="of the gradient; 0 clips nothing")
    flip: bool | None = Field(
        default=None, description="mirror images at random; None: for every data set but digits and mnist"
    )
    crop: Literal["auto", "shift", "resized", "none"] = Field(
        default="auto",
        description="shift: by a share of the side; resized: a random part, scaled; auto: resized from 96 pixels on",
    )
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(default=0.125, description="the largest, of the side")
    crop_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="the smallest share of an image's area that a resized crop takes"
    )
    rand_augment: Annotated[str, AfterValidator(_rand_augment)] = Field(
        default="", description="timm's name of it, such as rand-m9-mstd0.5; none where empty"
    )
    erasing: ShareBelowOne = Field(default=0.0, description="probability that an image loses a rectangle")
    mixup: Annotated[float, Field(ge=0)] = Field(default=0.0, description="alpha; 0 mixes nothing")
    cutmix: Annotated[float, Field(ge=0)] = Field(default=0.0, description="alpha; with mixup, one or the other")
    distill: ShareBelowOne = Field(
        default=0.5, description="weight of a teacher's predictions, where there is a teacher"
    )
    temperature: Annotated[float, Field(ge=0.01, le=1000)] = Field(
        default=1.0, description="of a teacher's and the student's predictions"
    )
    amp: Literal["auto", "none", "bf16", "fp16"] = Field(default="auto", description="auto: bf16 on a GPU alone")
    compile: bool = Field(default=False, description="torch.compile: minutes at first, faster steps later on a GPU")
    ema: ShareBelowOne = Field(
        default=0.0, description="decay of the averaged weights, which are kept; 0 averages none"
    )
    accumulate: PositiveCount = Field(
        default=1, description="equal parts of a batch, one after the other, each with its norms"
    )
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 20.0
    use_held_out: bool = Field(
        default=False, description="train on the images held out for norms and the search, too, which is over by then"
    )
    probes: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="looks at held-out accuracy on the way, for TensorBoard; none in a time box"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> JsonObject:
        """Keys that came later stand where they say something, so that what is finished stays what it is."""
        values, fields = serialise(self), type(self).model_fields
        return {key: value for key, value in values.items() if key not in ADDED_LATER or value != fields[key].default}

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            raise ValueError(
                f"`batch_size` must be a multiple of `accumulate`, in parts of two images or more, but got "
                f"{self.batch_size} and {self.accumulate}"
            )
        if (self.mixup or self.cutmix) and self.batch_size % (2 * self.accumulate):
            raise ValueError(
                f"`mixup` and `cutmix` mix pairs in each of `accumulate` parts: `batch_size` must be a multiple of "
                f"{2 * self.accumulate}, but got {self.batch_size}"
            )
        return self

    def steps(self, per_epoch: int) -> int:
        """How many steps a training takes whose epochs have `per_epoch` of them."""
        return max(1, math.ceil(self.epochs * per_epoch), self.min_steps)

    def alone(self) -> "Training":
        """The settings of one network's training, without those of a run, such as the number of networks."""
        return Training(**{key: getattr(self, key) for key in Training.model_fields})

    def shortened(self, epochs: float) -> "Training":
        """One network's training for so many epochs, however few steps these have, to be judged by held-out images."""
        return self.alone().changed(epochs=epochs, use_held_out=False)

    def changed(self, **given: object) -> Self:
        """As of every part of a recipe; other epochs hold however few steps they have."""
        return super().changed(**({} if given.get("epochs") is None else {"min_steps": 0}) | given)


class _WeightsOfMany(Training):
    """The training of what gives a space's networks their weights."""

    @model_validator(mode="after")
    def _holds_out(self) -> Self:
        if self.use_held_out:
            raise ValueError(
                "`use_held_out` is of full training, not of a supernet's, whose networks held-out images judge"
            )
        return self


class ParentTraining(_WeightsOfMany):
    """A transplanted supernet: the training of its parent, the GhostNet that every network of the space is fitted to.

    A parent that fits the data as it is (its classes and channels) is not trained further unless `tune` asks for it;
    one that doesn't gets a fresh classifier, and all of it is trained unless `tune` says that the rest stays.
    """

    kind: Literal["transplant"] = "transplant"
    parent: str | None = Field(
        default=None, description="a checkpoint, a network's folder, or timm:NAME; None trains the space's widest"
    )
    tune: bool | Literal["head"] = Field(
        default=False, description="train a given parent further, though it fits the data; head: its classifier alone"
    )
    images: Annotated[int, Field(ge=64, le=MOST_FITTING_IMAGES)] = Field(
        default=2048, description="views of training images that layers are fitted on"
    )


class SupernetTraining(_WeightsOfMany):
    """An elastic supernet, by the sandwich rule: the largest network, `random` random ones and the smallest in every
    step."""

    kind: Literal["elastic"] = "elastic"
    random: Count = 2
    draws: Literal["uniform", "even", "fair"] = Field(
        default="even",
        description="random networks: uniform, evenly over multiply-adds, or so that a step's differ in every gene",
    )
    divergence: Literal["kl", "alpha", "labels"] = Field(
        default="kl", description="what the smaller ones minimise: a divergence from the largest, or the labels' loss"
    )

    @model_validator(mode="after")
    def _only_its_own(self) -> "SupernetTraining":
        """In a sandwich the small networks learn from the largest, whose labels must be plain."""
        for key in ("mixup", "cutmix", "distill", "temperature", "compile"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"`{key}` is of full training, not of a supernet's")
        if self.amp == "fp16":
            raise ValueError("`amp` of a supernet's training is auto, none or bf16")
        return self


def _kind(part: Any) -> str:
    """The kind of a supernet; recipes written before there were two kinds mean the elastic one."""
    return part.get("kind", "elastic") if isinstance(part, dict) else getattr(part, "kind", "elastic")


KINDS: dict[str, type[Training]] = {"elastic": SupernetTraining, "transplant": ParentTraining}
SupernetPart = Annotated[
    Annotated[SupernetTraining, Tag("elastic")] | Annotated[ParentTraining, Tag("transplant")],
    Discriminator(
        _kind, custom_error_type="kind", custom_error_message=f"the kind of a supernet is {' or '.join(KINDS)}"
    ),
]


def supernet_part(config: SupernetPart, kind: str | None, init: str | None) -> SupernetPart:
    """A recipe's part of a supernet, of another kind or with another parent where that is asked for.

    Raises:
        UserError: no such kind, one that lacks a key of the recipe's, or a parent for an elastic one.
    """
    if kind not in (None, "transplant", "elastic"):
        raise UserError(f"a supernet's kind is transplant or elastic, not {kind!r}")
    if kind and kind != config.kind:
        other = ParentTraining if kind == "transplant" else SupernetTraining
        try:
            config = other(**config.alone().model_dump())
        except ValidationError as error:
            raise UserError(f"the recipe's [supernet] can't be of kind {kind}: {first_error(error)}") from None
    if init is None:
        return config
    if not isinstance(config, ParentTraining):
        raise UserError("--init names the parent of a transplanted supernet: it goes with --kind transplant")
    return config.model_copy(update={"parent": init})


class Calibration(_Model):
    """The calibration, for `minutes`: whole networks, and units by probability, in `rounds` or fewer."""

    runtime: str = "onnxruntime"
    threads: Threads = 1
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1
    dtype: Literal["float32", "int8"] = "float32"
    rounds: Annotated[int, Field(ge=2)] = 3
    fit_networks: Annotated[int, Field(ge=8)] = 48
    held_out: Annotated[int, Field(ge=8)] = 32
    minutes: Annotated[float, Field(gt=0, le=MOST_MINUTES)] = 10.0


class Fidelity(_Model):
    """Networks trained fully before the search, once each as `[retrain]` says: what the supernet says is held against
    them, and corrected by them. None: the search goes by inherited accuracy."""

    spread: Count = Field(default=0, description="evenly over the space's multiply-adds")
    front: Count = Field(default=0, description="along the front of a first search, which goes by inherited accuracy")
    trials: PositiveCount = Field(default=300, description="networks that the first search evaluates")

    @model_validator(mode="after")
    def _enough(self) -> "Fidelity":
        if 0 < self.networks < 8:
            raise ValueError(f"8 networks or more, spread and front together, or none; not {self.networks}")
        return self

    @property
    def networks(self) -> int:
        return self.spread + self.front


class Search(_Model):
    """Accuracy against predicted latency under `flops_budget`: `trials` different networks are evaluated."""

    flops_budget: str = Field(description="60M, a window 40M..60M, or several with commas: a front for each")
    latency_budget: str | None = Field(default=None, description="8ms, on the interval's upper end; or several")
    params_budget: str | None = None
    memory_budget: str | None = Field(default=None, description="512k bytes of activations at their peak")
    objectives: tuple[str, ...] = Field(default=("accuracy", "latency_ms"), description="columns of the log")
    evaluate: Annotated[str, AfterValidator(_evaluation)] = Field(
        default="inherited",
        description="accuracy on the search split: units, expected from what a parent loses by each unit; inherited, "
        "with the supernet's weights; soft, the same by the parent's probabilities in place of labels; tuned:E, after "
        "E epochs of [retrain] from these; trained:E, after E epochs from fresh weights; several with commas: of the "
        "networks of each the promising ones go on to the next; ladder: inherited,tuned:1",
    )
    trials: PositiveCount = 200
    sampler: Sampler = "guided"
    population: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="networks before the sampler's own; none: 10, and 40 of a genetic one, a generation"
    )
    trial_seconds: PositiveFloat | None = Field(default=None, description="an evaluation that takes longer has failed")
    backend: Backend = "optuna"
    workers: PositiveCount = 1
    storage: str | None = Field(default=None, description="where Optuna's study is shown; None: nowhere")

    def windows(self, value_bytes: int = 4) -> dict[Quantity, Mapping[str, Window]]:
        """The budgets on what can be counted, by quantity: windows by their text; none where there is no budget.

        Args:
            value_bytes: of an activation, for the whole batch.
        """
        return {
            "macs": parse_windows(self.flops_budget),
            "params": parse_windows(self.params_budget, "params"),
            "memory": parse_windows(self.memory_budget, "memory", value_bytes),
        }

    @property
    def first(self) -> int:
        """How many networks come before the sampler's own."""
        return self.population or usual_population(self.sampler)

    @property
    def milliseconds(self) -> Mapping[str, float]:
        """The budgets on latency, by their text."""
        return parse_milliseconds(self.latency_budget)

    @model_validator(mode="after")
    def _has_budgets(self) -> "Search":
        try:
            _ = self.windows(), self.milliseconds
        except SpaceError as error:
            raise UserError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _has_sampler(self) -> "Search":
        check_sampler(self.backend, self.sampler)
        return self

    @field_serializer("storage")
    def _without_secrets(self, storage: str | None) -> str | None:
        return storage and without_secrets(storage)  # whatever is written of a recipe


class Retraining(Training):
    """Full training of `chosen` networks along the front, of the family at `baseline_widths`, and of some drawn at
    `random` with the chosen ones' multiply-adds."""

    chosen: PositiveCount = 4
    init: Literal["auto", "supernet", "fresh"] = Field(
        default="auto", description="weights to begin with; auto: the supernet's where it is transplanted, else fresh"
    )
    teacher: Literal["auto", "supernet", "none"] = Field(
        default="auto", description="who is learned from, too; auto: the parent where networks begin with transplants"
    )
    self_distill: bool = Field(
        default=False,
        description="a parent that is trained again is then taught by itself as networks are, and then teaches them",
    )
    soup: Annotated[int, Field(ge=1, le=MOST_OF_A_SOUP)] = Field(
        default=1,
        description="trainings by different seeds from the same weights, whose mean is kept (a model soup), of what "
        "begins with trained weights and nobody teaches: of a parent that is trained again, say",
    )
    baseline_widths: tuple[PositiveFloat, ...] = ()
    random: Count = Field(default=0, description="random networks as a baseline, of equal MACs")
    seeds: PositiveCount = Field(default=1, description="trainings of each network; one in a time box")
    workers: PositiveCount = Field(default=1, description="networks at a time, each in a process of Ray's")

    @property
    def untaught(self) -> "Retraining":
        """The training of the parent that teaches the others: on no images that are mixed, of which labels say little,
        and then for a quarter as long, since few that are not mixed are soon known by heart."""
        if not (self.mixup or self.cutmix):
            return self
        short = {"epochs": self.epochs / 4, "min_steps": self.min_steps // 4}
        return self.model_copy(update={"mixup": 0.0, "cutmix": 0.0} | short)


class Recipe(_Model):
    """A whole run."""

    name: Name = Field(description="of the run's folder, where none is given")
    data: str
    space: SpaceRecord = Field(description="a preset's name, or a table: see `spaces.custom`")
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    threads: Threads | None = Field(
        default=None,
        description="of training and evaluation, of which as many run side by side as the cores allow; torch's choice, "
        "and one at a time, where None",
    )
    train_images: Annotated[int, Field(ge=10)] | None = None
    supernet: SupernetPart
    latency: Calibration = Calibration()
    fidelity: Fidelity = Fidelity()
    search: Search
    retrain: Retraining

    @property
    def search_space(self) -> Space:
        """The space that `space` stands for, with the preset's classes and channels.

        Raises:
            SpaceError: no such preset, or an impossible table.
        """
        return named_space(self.space) if isinstance(self.space, str) else space_from_dict(self.space)

    @property
    def windows(self) -> dict[Quantity, Mapping[str, Window]]:
        """The search's, of memory at the batch and in the data type of the latency table."""
        return self.search.windows(value_bytes(self.latency.batch, self.latency.dtype))

    @model_validator(mode="after")
    def _has_a_parent_to_teach(self) -> "Recipe":
        if self.retrain.self_distill and not (self.supernet.kind == "transplant" and self.retrain.use_held_out):
            raise ValueError(
                "[retrain] `self_distill` is of a parent that is trained again: of a transplanted supernet, with "
                "`use_held_out`"
            )
        return self

    @model_validator(mode="after")
    def _has_weights_for_a_soup(self) -> "Recipe":
        init = self.retrain.init
        if self.retrain.soup > 1 and (init == "fresh" or (init == "auto" and self.supernet.kind == "elastic")):
            raise ValueError(
                f"[retrain] `soup` = {self.retrain.soup} is the mean of trainings that begin with trained weights, "
                "not fresh ones: a transplanted supernet's, or `init` = 'supernet'"
            )
        return self

    @model_validator(mode="after")
    def _one_judgement(self) -> "Recipe":
        if self.fidelity.networks and self.search.evaluate != "inherited":
            raise ValueError(f"[fidelity] corrects inherited accuracy, not that of `evaluate` {self.search.evaluate!r}")
        return self


def recipe_name(asked: str | None, data: str) -> str:
    """The recipe that is asked for, also where it is '' and none; the one for data of that name where it is None."""
    if asked is not None:
        return asked
    return "digits" if data == "digits" else "cifar10"


def load_recipe(name: str) -> Recipe:
    """Our recipe of that name, or the one in that file.

    Raises:
        UserError: there is none, or it breaks a rule.
    """
    text, stem = _text(name, whole_recipes())
    return parse_recipe(text, stem)


def load_retraining(name: str) -> tuple[Retraining, int | None]:
    """The `[retrain]` part of a recipe, and its `train_images`. A recipe of full training alone, as those in
    `search/recipes/retrain/`, has no other part.

    Raises:
        UserError: there is none, or it breaks a rule.
    """
    text, stem = _text(name, retrain_recipes())
    with suppress(ValueError):  # which `parse_recipe` tells
        if parse_toml(text).keys() == {"retrain"}:
            return _validate(_Alone, text, stem).retrain, None
    recipe = parse_recipe(text, stem)
    return recipe.retrain, recipe.train_images


class _Alone(_Model):
    name: Name
    retrain: Retraining


def _text(name: str, ours: dict[str, Traversable]) -> tuple[str, str]:
    """A recipe's text and name."""
    path = Path(name)
    if path.suffix == ".toml":
        try:
            return read_bytes(path, MOST_BYTES).decode("utf-8-sig"), path.stem  # as editors on Windows save it
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if name not in ours:
        raise UserError(f"a recipe is one of {', '.join(sorted(ours))}, or a file ending in .toml; not {name!r}")
    return ours[name].read_text(encoding="utf-8"), name


def parse_recipe(text: str, name: str) -> Recipe:
    """A recipe from TOML text.

    Raises:
        UserError: it is not TOML, or breaks a rule.
    """
    return _validate(Recipe, text, name)


def _validate(kind: type[M], text: str, name: str) -> M:
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise UserError(f"recipe {name} is not TOML: {error}") from None
    safe_name = re.sub(r"[^\w.-]", "-", name).lstrip(".-")[:64] or "recipe"
    try:
        # As JSON, where strict types take a list for a tuple; a date is a value of no key.
        return kind.model_validate_json(json.dumps({"name": safe_name} | values, default=str), strict=True)
    except ValidationError as error:
        # A key that is unknown is the likely reason for one that is missing.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        where = _dotted(first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"recipe {name}: {where} is no key of a recipe{_nearest(kind, first['loc'])}") from None
        # Our own rules say what they got.
        got = "" if first["type"] in ("missing", "value_error") else f", but got {brief(first['input'])}"
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(": ".join(part for part in (f"recipe {name}", where, message + got) if part)) from None


def _nearest(kind: type[_Model], location: tuple[int | str, ...]) -> str:
    """The known key that an unknown one is most like: or nothing."""
    *tables, unknown = map(str, location)
    part: Any = kind
    for table in tables:
        part = (part is not kind and KINDS.get(table)) or part.model_fields[table].annotation
    if near := get_close_matches(unknown, part.model_fields, 1):
        return f"; the nearest is {_dotted([*tables, near[0]])}"
    return ""


def _dotted(location: Iterable[int | str]) -> str:
    """Where a key stands, as TOML writes it: the kind of a supernet is a key of its own, not a table."""
    names = [str(name) for name in location]
    if names[:1] == ["supernet"] and names[1:2] and names[1] in KINDS:
        del names[1]
    return ".".join(names)
