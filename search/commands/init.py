"""A recipe that fits a folder of pictures."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.commands.shared import Json, print_result
from search.errors import UserError
from search.files import check_writable

if TYPE_CHECKING:
    from ghostnet.arch import Arch

SHOWN = 5  # files or classes that are named
FEW = 20  # training images of a class, below which it is named


def init(
    data: Annotated[str, typer.Argument(help="A folder of pictures, imagefolder:PATH or parquet:PATH.")],
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, max=1024, help="Side of the networks' input (default: by the pictures)."),
    ] = None,
    flops_budget: Annotated[
        str | None, typer.Option("--flops-budget", help="30M or 20M..30M (default: GhostNet 1.0x's).")
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option("--parent", help="A trained GhostNet to begin with: a file, a folder, timm:NAME."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The recipe (default NAME.toml, by the folder).")] = None,
    as_json: Json = False,
) -> None:
    """Look at pictures and write a recipe that fits them, for `ghostnas run`."""
    from search.data import names as sources

    source = sources.image_files(data)
    folder = source.folder if source else Path(data)
    if not folder.is_dir():
        raise UserError(f"init looks at a folder of pictures; there is no folder {str(folder)!r}")
    path = out or Path(f"{folder.resolve().name}.toml")
    if path.suffix != ".toml":
        raise UserError(f"a recipe's file ends in .toml, not {str(path)!r}")
    if path.exists():
        raise UserError(f"{path} is there already: --out names another file")
    check_writable(path.parent)
    if flops_budget:
        from spaces.quantities import Window

        Window.parse(flops_budget)
    parent_arch = _parent_arch(parent) if parent else None
    from ghostnet.parent import is_path
    from search.data.survey import survey
    from search.files import write_text
    from search.pipeline import proposal
    from search.progress import warn
    from search.recipes.schema import parse_recipe

    if parent and is_path(parent):
        parent = str(Path(parent).resolve())  # so that the recipe runs from anywhere, as with the pictures
    pictures = survey(data)
    side = size or proposal.proposed_side(pictures.shorter_sides[1])
    text = proposal.propose(pictures, side, flops_budget, parent, parent_arch)
    parse_recipe(text, path.stem)
    write_text(path, text)
    for line in _warnings(pictures, side):
        warn(line)
    print_result(
        proposal.summary(pictures, path),
        f"{_message(pictures, side)}\n{path}: `ghostnas run {quote(str(path))}` does the rest",
        as_json,
    )


def _parent_arch(parent: str) -> "Arch":
    from ghostnet.parent import load_parent
    from ghostnet.weights import WeightsError

    try:
        return load_parent(parent).arch
    except WeightsError as error:
        raise UserError(str(error)) from None


def _message(survey: Any, side: int) -> str:
    least, middle, most = survey.shorter_sides
    message = [
        f"{sum(survey.train)} training and {sum(survey.test)} test pictures of {len(survey.classes)} classes, "
        f"{min(survey.train)} to {max(survey.train)} training pictures a class",
        f"{survey.channels}; shorter sides from {least} to {most} pixels, the middle one {middle}; networks see {side}",
    ]
    if survey.test_share:
        message.append(f"no test part: {survey.test_share:.0%} of every class are held out, always the same pictures")
    return "\n".join(message)


def _warnings(survey: Any, side: int) -> list[str]:
    """What may come in the way."""
    warnings = []
    if survey.unreadable:
        named = "; ".join(list(survey.unreadable.values())[:SHOWN])
        warnings.append(f"a run needs what can't be read mended or gone, {len(survey.unreadable)} in all: {named}")
    few = [f"{name} ({count})" for name, count in zip(survey.classes, survey.train, strict=True) if count < FEW]
    if few:
        more = f" and {len(few) - SHOWN} more classes" if len(few) > SHOWN else ""
        warnings.append(f"fewer than {FEW} training pictures: {', '.join(few[:SHOWN])}{more}")
    if survey.shorter_sides[1] < side:
        warnings.append(f"half of the pictures are smaller than {side} pixels and are enlarged")
    return warnings
