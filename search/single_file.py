"""Modules joined into one script, which travels to machines without this package."""

import re
from collections.abc import Sequence
from importlib.resources import files


def single_file(package: str, parts: Sequence[str], made_by: str, needs: str, argument: str = "") -> str:
    """Modules of a package as one script for Python 3.8, which runs the last one's `main` on the script's folder.

    Args:
        parts: each after those that it needs; of `search` they import nothing else, an import a line.
        made_by, needs: for its first line.
        argument: a name in one of the parts, which `main` is given too.
    """
    joined = []
    for name in parts:
        text = files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if not re.match(r"from (search\.|__future__)", line)]
        joined.append("\n".join(lines))
    head = f"# Made by `{made_by}`. Needs Python 3.8, {needs}.\nfrom __future__ import annotations\n"
    given = ", ".join(["Path(__file__).resolve().parent", *filter(None, [argument])])
    tail = f'if __name__ == "__main__":\n    sys.exit(main({given}))\n'
    return "\n\n".join([head, *joined, tail])
