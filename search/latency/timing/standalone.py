"""The kit's own part: a folder of models timed by their runtime, one JSON line a measurement."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from shlex import quote

from search.latency.timing.device import now, this_device, usable_cores
from search.latency.timing.peak_memory import ForkedServer, measure_some, reserved_seconds, unavailable
from search.latency.timing.rounds import Rounds

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

SCHEMA = "ghostnas.kit-result/1"
PLAN = "plan.json"
MOST_MINUTES = 525600  # of a time box: a year


class Log:
    """JSON lines, of which the first is the header; what a kill left of the last line is cut off.

    Raises:
        Refused: the file begins otherwise. It stays as it is.
    """

    def __init__(self, path: Path, header) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        end = content.rfind(b"\n") + 1
        try:
            self.rows = [json.loads(line) for line in content[:end].splitlines()]
        except ValueError as error:
            raise Refused(f"{path} is damaged: {error}; --out names another file") from None
        if self.rows[:1] != [header] and not (end == 0 and _line(header).startswith(content)):
            raise Refused(f"{path} is of another kit, device or setting: --out names another file")
        if end < len(content):
            os.truncate(path, end)

    def append(self, rows) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(map(_line, rows)))
            file.flush()
            os.fsync(file.fileno())


def _line(row) -> bytes:
    return json.dumps(row).encode() + b"\n"


def locked(path):
    """The lock of a result, an open file that is held until this process ends, and None; or None and who has it."""
    file = path.with_name(f".{path.name}.lock").open("a+")
    try:
        if sys.platform == "win32":
            file.seek(1 << 20)  # beyond what is to be read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        who = "".join(c for c in file.read(200) if c.isprintable())
        file.close()
        return None, who or "another process"
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file, None


class Refused(Exception):
    """What a user is told in a line."""


def main(folder: Path, session_type) -> int:
    """The command of a kit.

    Args:
        session_type: of the kit's runtime, a `StandaloneSession`.
    """
    try:
        return time_models(folder, session_type)
    except (Refused, OSError) as error:
        print(f"calibrate.py: {error}", file=sys.stderr)
        return 2


def time_models(folder: Path, session_type) -> int:
    name = session_type.runtime
    parser = argparse.ArgumentParser(description=f"Times this device's {name} for GhostNAS; run again to go on.")
    parser.add_argument("--minutes", type=float, default=10.0, help="time box (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="that run a network (default: 1)")
    parser.add_argument("--out", type=Path, default=folder / "result.jsonl", help="where the visits go")
    arguments = parser.parse_args()
    if not 1 <= arguments.threads <= usable_cores() or not 0 < arguments.minutes <= MOST_MINUTES:
        raise Refused(
            f"--threads is from 1 to the {usable_cores()} cores that this process may use, --minutes above zero and at "
            f"most {MOST_MINUTES:,}"
        )
    try:
        version = session_type.version()
    except ImportError as error:
        raise Refused(f"this needs {session_type.package} and numpy: {error}; {session_type.install}") from None
    text = (folder / PLAN).read_bytes()
    plan = dict(json.loads(text), threads=arguments.threads)
    memory = memory_server(folder, plan, session_type)  # before this process opens a network itself
    header = {key: value for key, value in plan.items() if key not in ("items", "reference")}
    header.update(
        schema=SCHEMA,
        plan_sha256=hashlib.sha256(text).hexdigest(),
        runtime=name,
        runtime_version=version,
        device=this_device(),
    )
    lock, who = locked(arguments.out)
    if lock is None:
        raise Refused(f"{arguments.out} is in use by {who}")
    log = Log(arguments.out, header)
    if log.rows and "finished" in log.rows[-1]:
        minutes = log.rows[-1].get("minutes", 0.0)
        if arguments.minutes <= minutes:
            print(f"{arguments.out} is finished; --minutes above {minutes:g} goes on, --out names another file")
            return 0
    files = {item["name"]: item["file"] for item in plan["items"]}

    def opened(file):
        try:
            return session_type(gzip.decompress((folder / file).read_bytes()), arguments.threads)
        except Exception as error:  # a runtime too old for it, a copy cut short: each raises something else
            raise Refused(f"{name} {version} can't open {folder / file}: {str(error).strip()[:300]!r}") from None

    reference = opened(plan["reference"]["file"]), plan["reference"]["shape"]
    if not log.rows:
        log.append([header])  # now that the runtime is seen to work
    printed = [time.monotonic()]

    def tell(done, total) -> None:
        if time.monotonic() - printed[0] > 5:
            printed[0] = time.monotonic()
            left = max(deadline - printed[0], 0) / 60
            print(f"  {done} of {total} visits, at most {left:.1f} min left", flush=True)

    deadline = time.monotonic() + 60 * arguments.minutes
    reserved = reserved_seconds(60 * arguments.minutes)
    ends = deadline - reserved
    work = Rounds(plan, lambda item: opened(files[item]), reference, log.rows[1:], log.append, ends, tell)
    try:
        work.run()
        if memory is not None:
            measure_memory(memory, plan, log, work.measurements, 0 if time.monotonic() > deadline else reserved)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
        return 130
    log.append([{"finished": now(), "visits": len(work.done), "minutes": arguments.minutes}])
    out = arguments.out
    print(f"finished; take home {out}: ghostnas calibrate import {quote(out.name)} --out table.lat.json")
    return 0


def memory_server(folder, plan, session_type):
    """What measures how much memory a network takes; None where the system doesn't tell."""
    if unavailable() is not None:
        return None

    def read(file):
        return gzip.decompress((folder / file).read_bytes())

    def open_session(model):
        return session_type(model, plan["threads"])

    return ForkedServer(open_session, read, (plan["reference"]["file"], plan["reference"]["shape"]))


def measure_memory(memory, plan, log, timed, seconds) -> None:
    """Logs the peak memory of some networks that were timed and held out."""
    known = {name for row in log.rows for name in row.get("peak_bytes", ())}
    held = [item for item in plan["items"] if item["kind"] == "network"][plan["fit_networks"] :]
    items = {item["name"]: item for item in held if item["name"] in timed and item["name"] not in known}

    def measure(name):
        return memory(items[name]["file"], items[name]["shape"])

    with memory:
        why = measure_some(measure, list(items), len(known), plan["seed"], seconds, lambda row: log.append([row]))
    if why is not None:
        print(f"peak memory is left out: {why}")
