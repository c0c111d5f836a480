"""The networks of the benchmark: drawn once, then kept in `networks.json`.

Most are spread evenly over multiply-adds. The others are where a search looks: the front that unit losses predict
against multiply-adds, and mutants of it.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.stats.qmc import Halton

from search.engine.pareto import Limit, pareto_front
from search.files import write_text
from search.identity import check_same
from search.records import Count, Record, read_record
from spaces.population import mutate, sample_evenly
from spaces.quantities import Window
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table

SCHEMA = "ghostnas.ghostbench-networks/1"
MOST_MACS = 1_200_000
EVEN, FRONT, MUTANTS = 400, 100, 160
SEED = 0
RATE = 1.5  # genes of a mutant that are drawn anew, the mean


class Listed(Record):
    """A network of the list."""

    code: list[Count]
    kind: Literal["even", "front", "mutant"]


class NetworkList(Record):
    """`networks.json`, in the order of training."""

    schema_: Literal["ghostnas.ghostbench-networks/1"] = Field(alias="schema")
    space_id: str
    networks: Annotated[list[Listed], Field(min_length=1)]


def draw_networks(
    space: Space, losses: UnitTable, even: int = EVEN, front: int = FRONT, mutants: int = MUTANTS
) -> NetworkList:
    """Different networks of at most `MOST_MACS`, each beginning of the list spread evenly over multiply-adds. Numbers
    are of draws: a mutant that is drawn twice, or is its parent, is there once.

    Args:
        losses: what the parent loses by each unit.
    """
    rng, table = np.random.default_rng(SEED), macs_table(space)
    window = Window(0, MOST_MACS)
    best = pareto_front([table, losses], [Limit(table, MOST_MACS)])[0]
    drawn: dict[str, Codes] = {
        "front": best[np.linspace(0, len(best) - 1, front).round().astype(int)],
        "mutant": mutate(space, rng, best[rng.integers(len(best), size=mutants)], RATE / len(space.choices), window),
        "even": sample_evenly(space, rng, even, window),
    }
    kinds: dict[tuple[int, ...], str] = {}
    for kind, codes in drawn.items():
        for code in map(tuple, codes.tolist()):
            kinds.setdefault(code, kind)
    codes = np.array(list(kinds))
    by_macs = codes[np.argsort(table.total(codes), kind="stable")]
    ranks = np.argsort(np.argsort(Halton(1, scramble=False).random(len(codes))[:, 0]))  # van der Corput's sequence
    rows = [{"code": code, "kind": kinds[tuple(code)]} for code in by_macs[ranks].tolist()]
    return NetworkList.model_validate({"schema": SCHEMA, "space_id": space.id, "networks": rows})


def write_networks(path: Path, networks: NetworkList) -> None:
    """Keeps a list, one network a line."""
    rows = ",\n".join(f"  {json.dumps(row.model_dump())}" for row in networks.networks)
    head = f'{{\n "schema": "{SCHEMA}",\n "space_id": "{networks.space_id}",\n "networks": [\n'
    write_text(path, f"{head}{rows}\n ]\n}}\n")


def read_networks(path: Path, space: Space) -> NetworkList:
    """The list that is kept.

    Raises:
        UserError: there is none, or it is of another space.
    """
    networks = read_record(path, NetworkList)
    check_same({"space": networks.space_id}, {"space": space.id}, f"{path} is of another space")
    return networks
