"""What a recipe, or an option of a command, may be one of. Quick to load: the command line's help lists them."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, get_args

Backend = Literal["optuna", "ray", "nni"]
Sampler = Literal["guided", "exact", "nsga2", "nsga3", "tpe", "gp", "random", "evolution"]
PROMOTING: tuple[Sampler, ...] = ("guided", "exact")  # which send networks up a ladder themselves
GENETIC: tuple[Sampler, ...] = ("nsga2", "nsga3", "evolution")
BACKENDS: tuple[Backend, ...] = get_args(Backend)
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
# Of NNI's tuners, the one that each sampler is like; it has no others.
NNI_TUNERS: dict[str, str] = {"tpe": "TPE", "random": "Random", "evolution": "Evolution", "nsga2": "Evolution"}
THROUGHPUT = "images_per_second"  # an objective, with a limit for a batch after `@`
OBJECTIVES = ("accuracy", "latency_ms", "macs", "params", "memory", "weights", THROUGHPUT)
NO_SUMS = ("memory", THROUGHPUT)  # over the units of a network


def usual_population(sampler: Sampler) -> int:
    """Of a genetic sampler's generations; of the networks that another one begins with, which learns from each."""
    return 40 if sampler in GENETIC else 10


def whole_recipes() -> dict[str, Traversable]:
    """The recipes of whole runs that ship, by name."""
    return _recipes("recipes")


def retrain_recipes() -> dict[str, Traversable]:
    """The recipes that ship and say how networks are trained fully, by name."""
    return whole_recipes() | _recipes("recipes/retrain")


def _recipes(folder: str) -> dict[str, Traversable]:
    shipped = {file.name.removesuffix(".toml"): file for file in files("search").joinpath(folder).iterdir()}
    return {name: shipped[name] for name in sorted(shipped) if shipped[name].name.endswith(".toml")}
