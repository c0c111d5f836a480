"""Whether `ghostnet`, `spaces` and `search` are GhostNAS's own: other distributions have packages of these names.

Looked at by files alone, before anything is imported from them: `pip install spaces` writes over `spaces/__init__.py`,
and removing it again takes the file away.
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# A line that only our own `__init__.py` has.
OWN = {
    "ghostnet": "from ghostnet.arch import",
    "spaces": "from spaces.space import Space",
    "search": "PackageNotFoundError:  # a bare checkout",
}
REINSTALL = "pip install --force-reinstall --no-deps ghostnas"


def fault() -> str | None:
    """What is wrong with the three packages, in one line with the command that mends it; None where nothing is."""
    home = Path(__file__).resolve().parent.parent
    for name, line in OWN.items():
        own, spec = home / name / "__init__.py", find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        others = " ".join(_others(name)) if origin != own or line not in own.read_text(encoding="utf-8") else ""
        if origin is not None and origin != own:
            mend = f"pip uninstall -y {others}" if others else f"move or rename {origin}"
            return f"another package called `{name}` stands before GhostNAS's, {origin}: {mend}"
        if others:
            return f"`{name}` is overwritten by another distribution: pip uninstall -y {others} && {REINSTALL}"
        if origin is None or line not in own.read_text(encoding="utf-8"):
            return f"GhostNAS's {own} is gone or another's, as after a distribution `{name}`: {REINSTALL}"
    return None


def is_command() -> bool:
    """Whether this process is the command line, which says a fault in one line of its own."""
    return sys.argv[0] == "-m" or Path(sys.argv[0]).stem == "ghostnas"


def _others(name: str) -> Iterator[str]:
    """Other distributions that have a package of this name."""
    from importlib.metadata import packages_distributions  # slow, and seldom needed

    return (each for each in dict.fromkeys(packages_distributions().get(name, ())) if each.lower() != "ghostnas")
