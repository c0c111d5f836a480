"""A design of the study: a folder with its space, its two trainings, and what comes of them.

`whole-table` is for a GPU, `two-cores` for a CPU.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from search.recipes.schema import Training, load_retraining
from spaces.custom import load_space
from spaces.space import Space

HERE = Path(__file__).parent
DESIGNS = ("whole-table", "two-cores")
WIDTHS = (0.25, 0.5, 0.75, 1.0)  # of the family that is trained alone; the parent is the widest


@dataclass(frozen=True)
class Design:
    """What is trained, and for how long.

    Args:
        name: the folder's.
        share: of each training's epochs; less than 1 only to try the study out.
        trial: where a trial's parents, networks and results go; None: they are published in the design's folder.
    """

    name: str
    share: float = 1.0
    trial: Path | None = None

    @property
    def folder(self) -> Path:
        return HERE / self.name

    @property
    def out(self) -> Path:
        return self.trial or self.folder

    @cached_property
    def space(self) -> Space:
        return load_space(self.folder / "space.toml")

    def parent_folder(self, seed: int) -> Path:
        """A seed's parent, as all others are given it; published, too, so that the study goes on elsewhere."""
        return self.out / "parents" / str(seed)

    @property
    def table(self) -> Path:
        """The latency table by which networks are searched."""
        return self.folder / "space.lat.json"

    @property
    def networks(self) -> Path:
        """The networks that the searches found, and their random counterparts."""
        return self.out / "networks.json"

    @property
    def result(self) -> Path:
        """All that was trained and timed."""
        return self.out / "cifar32.json"

    @cached_property
    def parent(self) -> Training:
        """From fresh weights, for as long as a parent is trained."""
        return self._training("fresh", self._epochs("fresh"))

    @cached_property
    def tuned(self) -> Training:
        """From a transplant or a pruned parent, with the parent as teacher."""
        return self._training("tuned", self._epochs("tuned"))

    @cached_property
    def fresh(self) -> Training:
        """From fresh weights, for as long as a parent and a tuning together."""
        return self._training("fresh", self._epochs("fresh") + self._epochs("tuned"))

    def _epochs(self, name: str) -> float:
        return load_retraining(str(self.folder / f"{name}.toml"))[0].epochs

    def _training(self, name: str, epochs: float) -> Training:
        return load_retraining(str(self.folder / f"{name}.toml"))[0].shortened(self.share * epochs)
