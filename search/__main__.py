"""`ghostnas`, and `python -m search` from a bare checkout: the command line, if the packages are our own."""

import sys

from search.installation import fault


def main() -> None:
    """The command's entry."""
    try:
        if message := fault():
            print(f"ghostnas: {message}", file=sys.stderr)
            sys.exit(2)
        from search.cli import main as run

        run()
    except KeyboardInterrupt:  # while the command line is loaded
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
