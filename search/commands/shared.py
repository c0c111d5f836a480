"""What commands share: their options, and how they print results."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from search.data.layouts import NAMES
from search.errors import MOST_MINUTES, UserError
from search.files import check_writable
from search.parallel.cluster import show_options
from search.seeds import LARGEST_SEED
from search.terminal import NO_ROOM, os_error, output, say, show

ARCH = "An arch.json, a folder with one, ghostnet-1.0, or cifar:0.75x (a space's own GhostNet of that width)."
SPACE = "digits, cifar, imagenet, each also with -plus or -aligned; or a .toml file."

Out = Annotated[Path, typer.Option("--out", help="Where the results go.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DataName = Annotated[str, typer.Option("--data", help=f"{', '.join(NAMES)}.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.01, max=MOST_MINUTES, help="Time box for what is still to do.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Source of all randomness.")]
SpaceName = Annotated[str, typer.Option("--space", help=SPACE)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is in the folder.")]
Epochs = Annotated[
    float | None, typer.Option("--epochs", min=0.01, max=1e6, help="Others than the recipe's, however few steps.")
]
Rate = Annotated[float | None, typer.Option("--lr", min=1e-9, help="Another rate than the recipe's.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="A recipe of ours, or a .toml file (default: by data).")
]
CLUSTER = {  # what `search.parallel.cluster.ClusterOptions` has
    "workers": Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes side by side, through Ray (default: one, or a recipe's)."),
    ],
    "address": Annotated[str | None, typer.Option("--address", help="Of a Ray cluster; default: this machine.")],
}
Command = TypeVar("Command", bound=Callable[..., None])


def spread(command: Command) -> Command:
    """Gives a command the options of a cluster, which it takes as its keywords."""
    return show_options(command, CLUSTER)


class Interruptible(TyperGroup):
    """Commands that say how to resume: when Ctrl-C ends them, with exit code 130, or a full disk."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        try:
            return super().make_context(*args, **options)
        except KeyboardInterrupt:  # for which typer ends without a word
            raise typer.Abort from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = {"fidelity": "; the same command goes on from here"}.get(ctx.invoked_subcommand, "")
            say("stopped" + ("; the same command with --resume goes on from here" if self._resumes(ctx) else goes_on))
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            hint = "; --resume goes on once there is room" if self._resumes(ctx) else ""
            raise UserError(os_error(error) + hint) from error

    def _resumes(self, ctx: Any) -> bool:
        """Whether the command that was typed has the option."""
        command: Any = self.commands.get(ctx.invoked_subcommand, self)
        return any(parameter.name == "resume" for parameter in command.params)


class TwoWords(Interruptible):
    """Commands of two words beside one that takes an argument: `export verify DIR` beside `export ARCH`. A file that
    has the second word's name is called `./verify`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        both = " ".join(args[:2])
        return super().resolve_command(ctx, [both, *args[2:]] if both in self.commands else args)


def explicit_options(context: typer.Context) -> list[str]:
    """The options that stand on the command line, by their names."""
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in names if name}
    return [names[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"]


def check_has_recipe(data: str | None, *given: str | None) -> None:
    """Pictures of one's own are not searched by what is the default for digits.

    Raises:
        UserError: data that are a path, with nothing that says what to do with them.
    """
    from search.data.names import image_files

    source = image_files(data) if data else None
    if data and source and source.folder.exists() and not any(given):
        raise UserError(f"no recipe for {data}: `ghostnas init {quote(data)}` writes one that fits the pictures")


def check_output(folder: Path, resume: bool | None, product: str) -> None:
    """Checks, before any work is done, that a command may write `product` into `folder`.

    Args:
        resume: whether it goes on with what is there; None: it can't.

    Raises:
        UserError: it is there already, and nobody said to go on with it; or nothing can be written there.
        OSError: the path can't be one.
    """
    check_writable(folder)
    if (folder / product).exists() and not resume:
        hint = ", --resume goes on where it can" if resume is False else ""
        raise UserError(f"{folder / product} is there already: --out names another place{hint}")


def print_result(result: Mapping[str, Any], message: str, as_json: bool) -> None:
    """Prints what a command came to; of torchrun's processes one does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json(result)
    else:
        show(message)


def print_json(value: Any) -> None:
    with output():
        print(json.dumps(value, indent=2))
