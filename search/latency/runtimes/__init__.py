"""What runs a network: one small adapter a runtime."""

from search.latency.runtimes.base import CpuSession, Dtype, Runtime, Session, Shape
from search.latency.runtimes.choice import RUNTIMES, installed, runtime

__all__ = ["RUNTIMES", "CpuSession", "Dtype", "Runtime", "Session", "Shape", "installed", "runtime"]
