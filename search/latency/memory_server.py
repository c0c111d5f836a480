"""The process that `memory_meter` measures in: it loads a runtime, and no more than that; no PyTorch where the runtime
isn't PyTorch. What it is asked comes from the process that started it, and so do the files: nobody else's are opened.
"""

import json
import os
import sys
from pathlib import Path

from search.latency.runtimes import runtime
from search.latency.timing.peak_memory import serve


def main(setting: str) -> None:
    """Serves on the standard streams.

    Args:
        setting: JSON: the runtime's name, threads, data type and lowering, and the reference network's file and shape.
    """
    *target, reference = json.loads(setting)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # runtimes print, too
    run = runtime(*target)
    run.preload()
    serve(run.load, Path.read_bytes, reference, sys.stdin, replies)
