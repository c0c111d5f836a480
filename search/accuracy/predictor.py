"""Predicts a network's accuracy after training: its inherited accuracy, corrected by a fit on trained networks.

A latency table is fitted on networks that were timed; this is fitted on networks that were trained. Where a supernet
errs it errs alike on like networks (it flatters those that every step trains, such as the smallest's neighbours), so
few full trainings take much of the error away, all the more if some are of networks that it would choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch
from search.accuracy.study import NORMS, StudyNetwork, read_study
from search.errors import UserError
from search.records import brief
from search.training.metadata import read_metadata, supernet_id
from spaces.errors import SpaceError
from spaces.space import Space
from spaces.tables import costs

if TYPE_CHECKING:  # torch is loaded by whoever evaluates
    from search.training.evaluate import InheritedAccuracy

LEAST = 8  # networks to fit on
FEATURES = ("inherited accuracy", "log multiply-adds", "log parameters", "mean log width", "share of no ghosts")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPoint:
    """What a correction is fitted on: a network's code, its accuracy with the supernet's weights, and after full
    training; both on the search split, as the test split is for the end."""

    code: Sequence[int]
    inherited: float
    trained_on_search: float

    @classmethod
    def from_study(cls, network: StudyNetwork) -> "TrainingPoint":
        """Raises:
        ValueError: the study did not test it on the search split.
        """
        if network.trained_on_search is None or network.code is None:
            raise ValueError(f"it has not tested network {network.arch} on the search split")
        return cls(code=network.code, inherited=network.inherited, trained_on_search=network.trained_on_search)


def features(space: Space, arch: Arch, inherited: float) -> list[float]:
    """What expected accuracy is taken to be linear in, as `FEATURES` names them: inherited accuracy, the logarithms of
    multiply-adds and of parameters, the mean logarithm of the widths, and the mean of 1 / s.

    The widths, because a network is held up by its narrowest part: costs can't tell an even one from one that spends
    them in a single stage.
    """
    known = costs(space, space.encode(arch))
    widths = [arch.stem_chs, *(b.out_chs for b in arch.blocks)]
    shares = [1 / b.ratio for b in arch.blocks]
    return [inherited, *np.log([known.macs, known.params]), float(np.log(widths).mean()), float(np.mean(shares))]


def _ridge() -> Any:
    """A Bayesian ridge (MacKay, 1992), which finds its penalty from the data."""
    from sklearn.linear_model import BayesianRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), BayesianRidge())


def fit_ridge(x: Floats, y: Floats) -> Any:
    """A ridge fitted to features [n, k] and accuracies [n]."""
    return _ridge().fit(x, y)


def leave_one_out(space: Space, networks: Sequence[TrainingPoint], without: str | None = None) -> Floats:
    """[n] the correction's prediction for each network if it is fitted on all others, for an unbiased error.

    Args:
        without: one of `FEATURES` that it shall lack.
    """
    x, y = training_points(space, networks)
    return leave_one_out_predictions(x[:, [name != without for name in FEATURES]], y)


def leave_one_out_predictions(x: Floats, y: Floats) -> Floats:
    """[n] the prediction for each row by a fit on all others: features [n, k], accuracies [n]"""
    from sklearn.model_selection import LeaveOneOut, cross_val_predict

    predictions: Floats = cross_val_predict(_ridge(), x, y, cv=LeaveOneOut())
    return predictions


def training_points(space: Space, networks: Sequence[TrainingPoint]) -> tuple[Floats, Floats]:
    """What a correction is fitted on: `features` [n, k], and accuracies on the search split after training [n]."""
    x = [features(space, space.decode(np.array(each.code)), each.inherited) for each in networks]
    return np.array(x), np.array([each.trained_on_search for each in networks])


@dataclass(frozen=True)
class AccuracyCorrection:
    """Inherited accuracy -> accuracy expected after full training, for networks of a space and one supernet."""

    space: Space
    model: Any

    @classmethod
    def fit(cls, space: Space, networks: Sequence[TrainingPoint]) -> "AccuracyCorrection":
        """From networks that were trained."""
        return cls(space, fit_ridge(*training_points(space, networks)))

    @classmethod
    def load(cls, file: Path, supernet: Path) -> "AccuracyCorrection":
        """From `fidelity.json`.

        Raises:
            UserError: it is none, is of another supernet, or has too few networks.
        """
        space = read_metadata(supernet)[1]
        study = read_study(file)
        networks, recorded_id = study.networks, study.supernet_id
        if study.norms != NORMS:
            raise UserError(
                f"{file}: its inherited accuracies are of norms shown images {brief(study.norms or 'as they are')}, as "
                f"an earlier version had them, not {NORMS!r}: `ghostnas fidelity` with another --out measures them anew"
            )
        if recorded_id != (asked := supernet_id(supernet)):
            raise UserError(f"{file} is of another supernet ({recorded_id}) than {supernet} ({asked})")
        if len(networks) < LEAST:
            raise UserError(f"a correction wants {LEAST} trained networks or more, {file} has {len(networks)}")
        try:
            trained = [TrainingPoint.from_study(network) for network in networks]
        except ValueError as error:
            raise UserError(
                f"{file} is no fidelity study that a correction can go by, for {error}: `ghostnas fidelity` makes one, "
                "and keeps the networks it trained"
            ) from None
        try:
            return cls.fit(space, trained)
        except SpaceError as error:
            raise UserError(f"{file} is of another space than {supernet}: {error}") from None

    @property
    def effects(self) -> dict[str, float]:
        """Of each of `FEATURES`, points of accuracy for one standard deviation among the networks of the fit."""
        return {name: 100 * float(value) for name, value in zip(FEATURES, self.model[-1].coef_, strict=True)}

    def __call__(self, arch: Arch, inherited: float) -> float:
        """Expected accuracy on the search split, in [0, 1]"""
        predicted = self.model.predict(np.array([features(self.space, arch, inherited)]))[0]
        return float(np.clip(predicted, 0.0, 1.0))


class ExpectedAccuracy:
    """Accuracy on the search split that sub-networks are expected to have once they are trained; with it, the one that
    they inherit."""

    def __init__(self, inherited: "InheritedAccuracy", correct: AccuracyCorrection) -> None:
        self.inherited, self.correct = inherited, correct

    def prepare(self) -> None:
        """Moves to this process's GPU, if it has one."""
        self.inherited.prepare()

    def __call__(self, arch: Arch) -> dict[str, float]:
        inherited = self.inherited(arch)
        return {"accuracy": self.correct(arch, inherited), "inherited": inherited}
