"""A trial of NNI's: a process that asks the search for its network's score. Imports nothing of ours, to start fast."""

import json
import os
import socket
import sys
from types import ModuleType

# Four fifths of what `import nni` takes are packages that a trial doesn't use: distributions of search spaces, frames.
stats = ModuleType("scipy.stats")
stats.__getattr__ = lambda name: None  # type: ignore[method-assign]
sys.modules |= {"scipy": ModuleType("scipy"), "scipy.stats": stats, "pandas": None}  # type: ignore[dict-item]

import nni  # noqa: E402


def main() -> None:
    host, port, key = os.environ["GHOSTNAS_NNI"].split(":")
    params = nni.get_next_parameter()
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rw") as stream:
        stream.write(json.dumps({"key": key, "params": params}) + "\n")
        stream.flush()
        reply = json.loads(stream.readline())
    if reply["score"] is None:
        sys.exit(reply["error"])
    nni.report_final_result(reply["score"])


if __name__ == "__main__":
    main()
