"""Energy of a run by the system's own counters: a processor's (RAPL) or a battery's, on Linux.

What is counted is all that the processors, or the device, take while a network runs again and again; not the network's
share of it. So nothing else should be at work. Counters move in steps (RAPL's by the millisecond, a battery's by
seconds), and a repeat lasts from one step to another.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

SYS = Path("/sys")
REPEATS, SECONDS = 5, 0.5  # of a network; a repeat is at least so long
STILL_S = 60.0  # a counter that hasn't moved for so long is given up
BATCH_S = 0.01  # between two looks at a counter
JOULES_UJ, JOULES_UWH = 1e-6, 3.6e-3  # in a microjoule, in a microwatt-hour
ZONES = ("package", "dram")  # of RAPL: cores are inside a package, and the whole platform has both


class Counter(Protocol):
    """Counts joules."""

    name: str

    def joules(self) -> float:
        """Those taken since the counter was made.

        Raises:
            OSError, ValueError: it can't be read any more.
        """


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of a run, and their standard error over repeats."""

    joules: float
    error: float


class Rapl:
    """The processors' packages and their memory. A zone's counter begins again at zero after `max_energy_range_uj`.

    Args:
        zones: folders of `/sys/class/powercap`, each with its name.

    Raises:
        OSError, ValueError: one can't be read.
    """

    def __init__(self, zones: Sequence[Path]) -> None:
        self.name = f"RAPL ({', '.join((zone / 'name').read_text().strip() for zone in zones)})"
        self._files = [zone / "energy_uj" for zone in zones]
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = [_number(file) for file in self._files]
        self._total = 0

    def joules(self) -> float:
        now = [_number(file) for file in self._files]
        for before, after, span in zip(self._last, now, self._ranges, strict=True):
            self._total += after - before + (span if after < before else 0)
        self._last = now
        return JOULES_UJ * self._total


class Battery:
    """What a battery that is discharged gave.

    Raises:
        OSError, ValueError: it can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"the battery {folder.name}"
        self._file = folder / "energy_now"
        self._first = _number(self._file)

    def joules(self) -> float:
        return JOULES_UWH * (self._first - _number(self._file))


def find_counter(sys: Path = SYS) -> tuple[Counter | None, str]:
    """The counter of this system and an empty text; or None and why there is none.

    Args:
        sys: where the system shows its devices.
    """
    reasons = []
    zones = [zone for zone in _folders(sys / "class/powercap", "intel-rapl:*") if _is_counted(zone)]
    if zones:
        try:
            return Rapl(zones), ""
        except PermissionError as error:
            reasons.append(f"RAPL's counters may not be read here ({error.filename})")
        except (OSError, ValueError) as error:
            reasons.append(f"RAPL's counters can't be read here ({error})")
    for folder in _folders(sys / "class/power_supply", "*"):
        if _text(folder / "type") != "Battery" or not (folder / "energy_now").exists():
            continue
        if (status := _text(folder / "status")) != "Discharging":
            reasons.append(f"the battery {folder.name} is not discharged ({status or 'unknown'})")
            continue
        try:
            return Battery(folder), ""
        except (OSError, ValueError) as error:
            reasons.append(f"the battery {folder.name} can't be read here ({error})")
    return None, "; ".join(reasons) or "this system has no counter that can be read (RAPL, a battery)"


def measure_energy(
    once: Callable[[], object],
    counter: Counter,
    repeats: int = REPEATS,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Energy | None:
    """Joules of a run; None where the counter stands still or can't be read any more.

    Args:
        once: runs the network once.
        repeats: two or more.
        seconds: of each, at least; None: half a second.
    """
    try:
        least = SECONDS if seconds is None else seconds
        values = [_repeat(once, counter, least, clock) for _ in range(repeats)]
    except (OSError, ValueError, TimeoutError):
        return None
    return Energy(float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5))


def _repeat(once: Callable[[], object], counter: Counter, seconds: float, clock: Callable[[], float]) -> float:
    """Joules of a run, between two steps of the counter."""
    _, before = _run_to_next_step(once, counter, 0.0, clock)
    runs, after = _run_to_next_step(once, counter, seconds, clock)
    if after <= before:
        raise ValueError("a battery that is charged")
    return (after - before) / runs


def _run_to_next_step(
    once: Callable[[], object], counter: Counter, seconds: float, clock: Callable[[], float]
) -> tuple[int, float]:
    """Runs for so long, and on until the counter moves. Returns the number of runs, and the counter's joules then.

    Raises:
        TimeoutError: it stands still.
    """
    start, runs, last = clock(), 0, counter.joules()
    while True:
        looked = clock()
        while runs == 0 or clock() - looked < BATCH_S:
            once()
            runs += 1
        now = counter.joules()
        if now != last and clock() - start >= seconds:
            return runs, now
        if clock() - start > seconds + STILL_S:
            raise TimeoutError
        if clock() - start < seconds:
            last = now


def _is_counted(zone: Path) -> bool:
    return _text(zone / "name").startswith(ZONES)


def _folders(parent: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder for folder in parent.glob(pattern) if folder.is_dir())
    except OSError:
        return []


def _number(file: Path) -> int:
    return int(file.read_text())


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
