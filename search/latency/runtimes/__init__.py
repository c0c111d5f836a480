"""What runs a network: one small adapter a runtime."""

from search.latency.runtimes.base import CpuSession, Dtype, Runtime, Session, Shape, StandaloneSession
from search.latency.runtimes.choice import RUNTIMES, exported_as, installed, kit_session, runtime, table_runtime

__all__ = [
    "RUNTIMES",
    "CpuSession",
    "Dtype",
    "Runtime",
    "Session",
    "Shape",
    "StandaloneSession",
    "exported_as",
    "installed",
    "kit_session",
    "runtime",
    "table_runtime",
]
