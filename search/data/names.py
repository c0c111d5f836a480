"""Names of data sets, and whether they are available: checked before anything is loaded, PyTorch included.

`digits` (scikit-learn's, nothing downloaded); `cifar10`, `cifar100`, `mnist`, `fashionmnist` (torchvision, downloaded);
`imagefolder:PATH` (`train/CLASS/...`, and `test/`, `val/` or `valid/`); `parquet:PATH` (Hugging Face image layout:
`train*.parquet`, and `test*.parquet` or `validation*.parquet`). Where images have no test part, `?test=0.2` at the end
holds out that share of every class, always the same images; the classes may then lie in PATH itself. `?unreadable=skip`
leaves images out that can't be read; both together: `?test=0.2,unreadable=skip`.
`search.data.layouts` has a file for each of these.
"""

from pathlib import Path
from typing import NamedTuple

from search.data.layouts import FILE_LAYOUTS, LAYOUTS, NAMES
from search.data.layouts.base import DataSource, ImageFiles
from search.errors import UserError

LOCAL = "local-dir:"  # before a folder in which timm finds a model


def data_source(name: str) -> DataSource:
    """The data set of a name, which need not be there.

    Raises:
        UserError: no layout has such a name.
    """
    for layout in LAYOUTS:
        if source := layout.parse(name):
            return source
    raise UserError(f"data is one of {', '.join(NAMES)}, not {name!r}")


def image_files(name: str) -> ImageFiles | None:
    """The data set of a name that is a path; None of any other.

    Raises:
        UserError: the share to be held out is none.
    """
    sources = (layout.parse(name) for layout in LAYOUTS if issubclass(layout, ImageFiles))
    return next((source for source in sources if source), None)


def folder_source(place: str) -> ImageFiles:
    """The data set of a name that is a path, or in a folder of images, in whichever layout they are.

    Raises:
        UserError: the share to be held out is none, or the folder holds several data sets.
    """
    if source := image_files(place):
        return source
    folder = Path(place).expanduser()
    return next(layout for layout in FILE_LAYOUTS if layout.may_be(folder)).at(folder)


def check_data_name(name: str) -> None:
    """Raises:
    UserError: an unknown name, or a path that is not there or not of that layout.
    """
    data_source(name).check()


class TeacherSource(NamedTuple):
    """What a teacher's name stands for: its kind, and the folder or, of one that timm downloads, the model."""

    kind: str
    folder: Path | None
    model: str


def teacher_source(name: str) -> TeacherSource:
    """The teacher of a name, which need not be there: `supernet:FOLDER`, `network:FOLDER` or `timm:NAME`.

    Raises:
        UserError: it is no such name.
    """
    kind, _, model = name.partition(":")
    if kind not in ("supernet", "network", "timm") or not model:
        raise UserError(f"a teacher is supernet:FOLDER, network:FOLDER or timm:NAME, not {name!r}")
    if kind == "timm" and not model.startswith(LOCAL):
        return TeacherSource(kind, None, model)
    folder = Path(model.removeprefix(LOCAL)).expanduser()
    return TeacherSource(kind, folder, f"{LOCAL}{folder}")


def check_teacher(name: str) -> None:
    """Raises:
    UserError: something is no teacher's name, or its folder is not there.
    """
    folder = teacher_source(name).folder
    if folder and not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r} for the teacher {name!r}")
