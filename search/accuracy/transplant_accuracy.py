"""Expected accuracy of transplants, from what their parent loses by each of their units: the cheapest evaluation, a sum
of table entries.

The sum of unit losses ranks networks without a label (`search.accuracy.unit_losses`). A few transplants that are
evaluated, spread over the whole range of sums, say what accuracy a sum stands for. The logit of accuracy is taken to be
linear in log (1 + loss), loss in nats, and in log multiply-adds; `results/weights/units.md` has other forms beside it,
on networks that none was fitted on.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ghostnet.arch import Arch
from search.accuracy.predictor import LEAST, fit_ridge, leave_one_out_predictions
from search.accuracy.unit_losses import measured_losses, unit_losses
from search.data.datasets import Data
from search.deadlines import has_passed
from search.errors import UserError
from search.folders import locked
from search.identity import digest
from search.progress import bar
from search.records import Code, Record, Share, check_codes, read_record, write_record
from search.training.inherited import inherited_accuracy
from search.training.metadata import read_metadata, supernet_id
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table

FILE = "transplant-accuracy.json"
SCHEMA: Literal["ghostnas.transplant-accuracy/1"] = "ghostnas.transplant-accuracy/1"
TRANSPLANTS = 16  # that are evaluated; 24 took .1 to .4 points off an error of 2 to 3 on `cifar16`
POOL, SEED = 20_000, 29  # networks that they are taken from, and the seed by which these are drawn
CONFIDENCE = 0.95
CLIP = 1e-3  # none or all right has no logit and counts as this far off: the standard error there of 1,000 images
Floats = NDArray[np.float64]


class TransplantFile(Record):
    """What is known of a supernet's networks as transplanted.

    Args:
        supernet: id of the supernet.
        data: fingerprint of the data set, on whose search split they are evaluated.
        codes: of the networks, in the order of evaluation.
        accuracies: of as many of them as are evaluated.
    """

    schema_: Literal["ghostnas.transplant-accuracy/1"] = Field(alias="schema")
    supernet: str
    data: str
    codes: Annotated[list[Code], Field(min_length=LEAST, max_length=1000)]
    accuracies: list[Share]

    @model_validator(mode="after")
    def _as_many(self) -> "TransplantFile":
        if len(self.accuracies) > len(self.codes):
            raise ValueError(f"{len(self.codes)} codes have at most as many accuracies, not {len(self.accuracies)}")
        return self


@dataclass(frozen=True)
class TransplantAccuracy:
    """Accuracy on the search split that networks are expected to have as transplanted, with the ends of its interval.

    Args:
        losses: what the parent loses by each unit, in nats.
        codes: networks that were evaluated, [n, genes].
        accuracies: theirs, [n].
    """

    space: Space
    losses: UnitTable
    codes: Codes
    accuracies: Floats

    def __call__(self, arch: Arch) -> dict[str, float]:
        """Columns of a search's log: `accuracy`, `accuracy_low`, `accuracy_high`."""
        expected, low, high = self.predict(self.space.encode(arch))[:, 0]
        return {"accuracy": float(expected), "accuracy_low": float(low), "accuracy_high": float(high)}

    def accuracy(self, arch: Arch) -> float:
        """Expected accuracy alone, in (0, 1)."""
        return self(arch)["accuracy"]

    def predict(self, codes: Codes) -> Floats:
        """[n, genes] -> expected accuracy and the ends of its 95 % interval, [3, n]"""
        expected = self._model.predict(self._features(codes))
        return _accuracy(expected + np.array([[0.0], [-self._margin], [self._margin]]))

    @cached_property
    def _model(self) -> Any:
        return fit_ridge(self._features(self.codes), _logit(self.accuracies))

    @cached_property
    def _margin(self) -> float:
        """Of an interval, as a logit: Student's quantile times the error on transplants that the fit left out."""
        from scipy.stats import t

        x, y = self._features(self.codes), _logit(self.accuracies)
        error = np.sqrt(np.mean((leave_one_out_predictions(x, y) - y) ** 2))
        return float(t.ppf((1 + CONFIDENCE) / 2, len(y) - 1 - x.shape[1]) * error)

    def _features(self, codes: Codes) -> Floats:
        return np.stack([log_loss(self.losses, codes), np.log(macs_table(self.space).total(codes))], 1)


def transplant_accuracy(
    supernet: Path, data: Data, deadline: float | None = None, counts: tuple[int, int] | None = None
) -> TransplantAccuracy:
    """Expected accuracy of a transplanted supernet's networks; evaluates the transplants, and computes the unit losses,
    that the folder doesn't have yet.

    Args:
        deadline: as `unit_losses` has it; after it no further transplants are evaluated, once there are `LEAST`.
        counts: of the unit losses and of the transplants that are gone by, the first of each, however long they take;
            None: all that there are, and that there is time for.

    Raises:
        UserError: a file in its folder is damaged, or the space has too few networks.
    """
    space = read_metadata(supernet)[1]
    losses = unit_losses(supernet, data, deadline, counts and counts[0])
    known = read_transplants(supernet / FILE, supernet_id(supernet), data.fingerprint, space)
    wanted = counts[1] if counts else len(known.codes) if known else 0
    if known is None or len(known.accuracies) < wanted:  # else the folder may be another user's
        with locked(supernet):
            known = _completed(supernet, data, space, losses, deadline, counts and counts[1])
    count = counts[1] if counts else len(known.accuracies)
    return TransplantAccuracy(space, losses, np.array(known.codes)[:count], np.array(known.accuracies)[:count])


def num_evaluated(supernet: Path, data: Data) -> int:
    """How many transplants' accuracies a supernet's folder has."""
    space = read_metadata(supernet)[1]
    known = read_transplants(supernet / FILE, supernet_id(supernet), data.fingerprint, space)
    return len(known.accuracies) if known else 0


def calibration_digest(supernet: Path, data: Data, counts: tuple[int, int]) -> str:
    """Of the unit losses and transplants that expected accuracy goes by, which a supernet's folder has."""
    space = read_metadata(supernet)[1]
    known = read_transplants(supernet / FILE, supernet_id(supernet), data.fingerprint, space)
    assert known
    return digest([measured_losses(supernet, counts[0]), known.codes[: counts[1]], known.accuracies[: counts[1]]])


def read_transplants(path: Path, supernet: str, data: str, space: Space) -> TransplantFile | None:
    """What a file has for the supernet and the data of these ids; None where it is of others, or there is none.

    Raises:
        UserError: it is no such file.
    """
    known = read_record(path, TransplantFile) if path.exists() else None
    if known is None or (known.supernet, known.data) != (supernet, data):
        return None
    check_codes(known.codes, space, str(path))
    return known


def log_loss(losses: UnitTable, codes: Codes) -> Floats:
    """[n, genes] -> log (1 + loss), [n]; a sum that rounding took below 0 counts as 0."""
    values: Floats = np.log1p(np.maximum(losses.total(codes), 0))
    return values


def spread_codes(space: Space, losses: UnitTable, rng: np.random.Generator, count: int) -> Codes:
    """`count` different networks, or all that are found, evenly over log (1 + loss) from the best to the worst of the
    space: [count, genes].

    Random networks of a large space have nearly the same loss. So each of the pool that they are taken from has some of
    its genes, many or few, from the best network or from the worst.
    """
    ends = [losses.extreme(), losses.extreme(largest=True)]
    random = space.sample_codes(rng, POOL)
    towards = np.where(rng.random((POOL, 1)) < 0.5, *ends)
    mixed = space.canonical(np.where(rng.random(random.shape) < rng.random((POOL, 1)), towards, random))
    pool = np.unique([*ends, *mixed], axis=0)
    values, taken = log_loss(losses, pool), []
    for target in np.linspace(values.min(), values.max(), min(count, len(pool))):
        taken.append(int(np.nanargmin(np.abs(values - target))))
        values[taken[-1]] = np.nan
    return pool[taken]


def _completed(
    supernet: Path, data: Data, space: Space, losses: UnitTable, deadline: float | None, count: int | None
) -> TransplantFile:
    path, of = supernet / FILE, supernet_id(supernet)
    known = read_transplants(path, of, data.fingerprint, space)
    if known is None:
        rng = np.random.default_rng(SEED)
        codes = rng.permutation(spread_codes(space, losses, rng, TRANSPLANTS))  # so that the first are spread, too
        if len(codes) < LEAST:
            raise UserError(
                f"expected accuracy wants a space of {LEAST} networks or more; {space.name} has {len(codes)}"
            )
        known = TransplantFile(schema=SCHEMA, supernet=of, data=data.fingerprint, codes=codes.tolist(), accuracies=[])
    missing = known.codes[len(known.accuracies) : count]
    if missing:
        evaluate = inherited_accuracy(supernet, data)
        with bar("transplants", len(known.codes), deadline) as progress:
            for code in missing:
                if count is None and has_passed(deadline) and len(known.accuracies) >= LEAST:
                    break
                progress.update(len(known.accuracies))
                known.accuracies.append(evaluate(space.decode(np.array(code))))
                write_record(path, known)
    return known


def _logit(accuracies: Floats) -> Floats:
    from scipy.special import logit

    values: Floats = logit(np.clip(accuracies, CLIP, 1 - CLIP))
    return values


def _accuracy(logits: Floats) -> Floats:
    from scipy.special import expit

    values: Floats = expit(logits)
    return values
