"""What a training begins with, and whom it learns from: names of files and folders, which may lie elsewhere on the
machine that trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from search.data.names import LOCAL, teacher_source

Located = Mapping[Path, Path]  # where files and folders lie on this machine, by the paths that name them
AS_NAMED: Located = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a full training begins with: a folder with weights, and who it also learns from.

    Args:
        located: where what they name lies on this machine, if elsewhere.
    """

    init: Path | None = None
    teacher: str | None = None
    located: Located = field(default_factory=dict)

    @property
    def sources(self) -> list[Path]:
        """The files and folders that are named."""
        folder = teacher_source(self.teacher).folder if self.teacher else None
        return [each for each in (self.init, folder) if each]

    @property
    def init_here(self) -> Path | None:
        """Where `init` lies on this machine."""
        return self.init and self.located.get(self.init, self.init)

    @property
    def teacher_here(self) -> str | None:
        """The teacher, by where its folder lies on this machine."""
        source = teacher_source(self.teacher) if self.teacher else None
        if source is None or source.folder is None or source.folder not in self.located:
            return self.teacher
        return f"{source.kind}:{LOCAL if source.kind == 'timm' else ''}{self.located[source.folder]}"


FRESH = Origin()  # weights drawn by the seed, and no teacher
