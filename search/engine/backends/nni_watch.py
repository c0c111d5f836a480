"""Ends NNI's manager when the search that started it has ended, in whatever way. NNI itself leaves it running.

A process whose input is a pipe from the search; the pipe closes with the search. Imports nothing of ours.
"""

import contextlib
import sys

import psutil


def main() -> None:
    manager = psutil.Process(int(sys.argv[1]))
    sys.stdin.read()
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [manager, *manager.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


if __name__ == "__main__":
    main()
