"""What a machine tells of itself."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

ISAS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "asimddp", "sve")  # that runtimes use


def this_device() -> dict:
    """The machine we run on, as far as it tells; units are in the names."""
    lines = [line.split(":", 1) for line in _read("/proc/cpuinfo").splitlines() if ":" in line]
    info = {key.strip().lower(): value.strip() for key, value in lines}
    flags = set((info.get("flags") or info.get("features") or "").split())
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return {
        "machine": platform.machine(),
        "cpu": info.get("model name") or info.get("hardware") or platform.processor() or "unknown",
        "isa": [isa for isa in ISAS if isa in flags],
        "cores": os.cpu_count() or 1,
        "memory_gb": round(int(memory[0]) / 2**20, 1) if memory else None,
        "system": platform.platform(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "unknown",
        "container": Path("/.dockerenv").exists() or "docker" in _read("/proc/1/cgroup"),
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """How many cores this process may use: fewer than the machine has under `taskset` or in a container's cpuset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_state() -> dict:
    """Clock, temperature and throttling now, where the system tells them: what may explain a shift."""
    state = {}
    for name, path, unit in (
        ("mhz", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e3),
        ("celsius", "/sys/class/thermal/thermal_zone0/temp", 1e3),
        ("throttled", "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", 1),
    ):
        text = _read(path).strip()
        if text.isdigit():
            state[name] = round(int(text) / unit, 1)
    if hasattr(os, "getloadavg"):
        state["load"] = round(os.getloadavg()[0], 2)
    return state


def now() -> str:
    """UTC time to the second, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
