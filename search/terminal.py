"""Output for people on the terminal: a console for each stream, which prints text as it is.

Names come from files, folders and data sets, so from anybody: no markup is read in them, and control characters are
written out (`\\x1b`). What the terminal's encoding lacks is said in ASCII.
"""

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.errors import UserError
from search.secrets import without_secrets

ASCII = str.maketrans({"█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "", "▍": "", "▎": "", "▏": "", "±": "+-"})
ANY_WIDTH = 10_000  # columns, more than a table has
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class ErrorStream:
    """The current error stream. What can't be written to it is dropped, so that a message never ends the work."""

    @property
    def stream(self) -> Any:
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # a bar stands before it while it is shown

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # full, gone or closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Results(Console):
    """The output stream. One that is closed is an error like any other; rich would leave without a word."""

    def on_broken_pipe(self) -> None:
        raise


# rich takes 0 columns for a width, in which nothing is shown; to others it means that the width is not known.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES") or v.strip("0")}
console = Console(
    file=ErrorStream(),  # type: ignore[arg-type]
    highlight=False,
    markup=False,
    emoji=False,
    _environ=_ENVIRONMENT,
)
stdout = _Results(highlight=False, markup=False, emoji=False, _environ=_ENVIRONMENT)


def printable(text: str) -> str:
    """Text whose control characters, those that turn its direction included, are written out; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def one_line(text: str) -> str:
    """`printable`, line breaks and all other white space as one space each."""
    return printable(" ".join(text.split()))


def markdown(text: str) -> str:
    """Text as Markdown that shows it, in one line: nothing in it is a link, a tag, a formula or the end of a cell."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$:@^=])", r"\\\1", one_line(text))


def say(text: str, style: str = "") -> None:
    """Prints a message about long work on the error stream."""
    console.print(_text(text, console, style), soft_wrap=True)


def show(text: str, style: str = "") -> None:
    """Prints a result on the output stream.

    Raises:
        UserError: it can't be written.
    """
    with output():
        stdout.print(_text(text, stdout, style), soft_wrap=True)


def show_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, bold: Sequence[int] = ()
) -> None:
    """A table on the output stream; its first column is never wrapped. Where the stream is too narrow for its words,
    each row is a line.

    Args:
        bold: numbers of rows whose first cell stands out.

    Raises:
        UserError: it can't be written.
    """
    rows = list(rows)
    table = Table(title=title and _text(title, stdout, "italic"), title_justify="left")
    for number, column in enumerate(head):
        table.add_column(_text(column, stdout), no_wrap=number == 0)
    for number, row in enumerate(rows):
        first, *others = (cell.replace("\n", "\\n") for cell in row)
        table.add_row(_text(first, stdout, "bold" if number in bold else ""), *(_text(c, stdout) for c in others))
    if stdout.measure(table, options=stdout.options.update(width=ANY_WIDTH)).minimum <= stdout.width:
        with output():
            stdout.print(table)
        return
    if title:
        show(title, "italic")
    for first, *others in rows:
        show(f"{first}: " + ", ".join(f"{name} {cell}" for name, cell in zip(head[1:], others, strict=True)))


@contextmanager
def output() -> Iterator[None]:
    """Around whatever writes to the output stream, and flushes it.

    Raises:
        UserError: it can't be written.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        raise UserError(f"the output can't be written: {error.strerror}") from None


def open_streams() -> None:
    """Replaces closed standard streams by the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  for good


def fail(message: str) -> None:
    """Prints the one line on the error stream with which a failed command ends."""
    console.file.write(encodable(f"ghostnas: {one_line(without_secrets(message))}\n", console.encoding))


def flush_streams() -> None:
    """Flushes both streams and drops what can't be written, for which Python would end with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # full, or nobody reads
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def os_error(error: OSError) -> str:
    """The operating system's error in one line: the path and the reason."""
    relative = not error.filename or not os.path.isabs(error.filename)
    if isinstance(error, FileNotFoundError) and relative and _current_folder_is_gone():
        return "the current folder is gone"
    what = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{what}"


def _current_folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _text(text: str, to: Console, style: str = "") -> Text:
    return Text(encodable(printable(text), to.encoding), style)


def encodable(text: str, encoding: str) -> str:
    """Text as a stream of that encoding can show it."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
