"""`ghostnas`: the command line."""

import sys
from typing import Annotated, Any

import typer

import search as api
from search.commands.calibrate import app as calibrate
from search.commands.cost import cost
from search.commands.export import export, verify
from search.commands.fidelity import fidelity
from search.commands.init import init
from search.commands.report import report
from search.commands.retrain import retrain
from search.commands.run import run
from search.commands.search import search
from search.commands.shared import TwoWords
from search.commands.space import space
from search.commands.train import train
from search.errors import UserError
from search.extras import missing_package
from search.progress import set_verbosity
from search.terminal import fail, flush_streams, open_streams, os_error, output, say

app = typer.Typer(
    cls=TwoWords,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search, calibrate, retrain and export GhostNets.",
)
for command in (init, run, train, fidelity, search, retrain, export, cost, space, report):
    app.command()(command)
app.add_typer(calibrate, name="calibrate")
app.command("export verify")(verify)
# Everything that typer refuses: of its own copy of click, or of click itself, whatever stands between.
UsageProblem: Any = [kind for kind in typer.BadParameter.mro() if hasattr(kind, "format_message")][-1]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ghostnas {api.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress: results and errors alone.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The libraries' own log messages, too.")] = False,
) -> None:
    set_verbosity(quiet, verbose)


def main() -> None:
    """The command's entry: what a user did wrong, or a system refused, is one line and exit code 2."""
    sys.exit(_run())


def _refusals() -> tuple[type[Exception], ...]:
    """What says that a user did something wrong; looked up once something is raised."""
    from ghostnet.arch import ArchError
    from spaces.errors import SpaceError

    return UserError, ArchError, SpaceError


def _with_value(problem: Any) -> str:
    """What typer refuses, with the value, which its message of a number leaves out."""
    if errors := getattr(problem.__cause__, "errors", None):  # pydantic's, by which typer reads numbers
        value = str(errors()[0]["input"])
        if value.lstrip("+-").lower() == "nan":  # which is on no side of any bound
            problem.message = "Input should be a number"
        if repr(value) not in problem.message:
            problem.message += f", but got {value!r:.80}"
    return problem.format_message()


def _run() -> int:
    open_streams()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
        with output():  # flushes what is still to be written
            return code
    except UsageProblem as error:
        fail(_with_value(error))
    except _refusals() as error:
        fail(str(error))
    except OSError as error:  # a full disk, a place that can't be written to
        fail(os_error(error))
    except ImportError as error:
        fail(missing_package(error))
    except (KeyboardInterrupt, typer.Abort):  # before a command has begun
        say("stopped")
        return 130
    finally:
        flush_streams()
    return 2


if __name__ == "__main__":
    main()
