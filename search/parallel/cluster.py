"""Where work is done: in this process, or by several of Ray's, here or on a cluster."""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any, TypedDict, TypeVar

from search.errors import UserError, check_whole, first_line
from search.extras import missing_ray
from search.progress import warn

MOST_WORKERS = 100_000
Function = TypeVar("Function", bound=Callable[..., Any])


class ClusterOptions(TypedDict, total=False):
    """A `Cluster` as the Python API and the commands take it, in keywords of their own."""

    workers: int | None
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Processes of Ray's that share the work.

    Args:
        workers: how many; None: what a recipe says, or one.
        address: of the Ray cluster that they are on; None: this machine.

    Raises:
        UserError: no whole number of workers, fewer than one, or an address that is no text, an empty one, or Ray
            Client's.
    """

    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            object.__setattr__(self, "workers", check_whole("`workers`", self.workers, 1, MOST_WORKERS))
        if self.address is not None and (not isinstance(self.address, str) or not self.address.strip()):
            raise UserError(f"`address` must be a cluster's, such as 10.0.0.5:6379, but got {self.address!r:.80}")
        if self.address is not None and self.address.startswith("ray://"):  # over which Tune would copy a search's log
            raise UserError(
                "`address` must be a cluster's own, such as 10.0.0.5:6379, with the command on a machine of it, but "
                f"got Ray Client's {self.address:.80}"
            )

    @property
    def num_workers(self) -> int:
        """Processes at work side by side."""
        return 1 if self.workers is None else self.workers

    @property
    def is_spread(self) -> bool:
        """Whether others than this process are at work."""
        return self.num_workers > 1 or self.address is not None

    def with_default(self, workers: int) -> "Cluster":
        """With so many workers where it doesn't say how many."""
        return self if self.workers is not None else replace(self, workers=workers)


HERE = Cluster()  # this process alone
_begun: tuple[str, Cluster] | None = None  # what `connect` joined or started, by Ray's own address of it


def connect(cluster: Cluster) -> None:
    """Joins a cluster at its address, or starts Ray here with so many processes. Once is enough; a later call for
    another address, or for more processes here than were started, leaves for that one. A Ray that the program began
    itself is taken as it is.

    Raises:
        UserError: Ray is not installed, there is no cluster, or none can be started here.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise missing_ray("several workers need") from None
    global _begun
    workers, address = cluster.num_workers, cluster.address
    if ray.is_initialized() and _begun and _begun[0] == ray.get_runtime_context().gcs_address:
        known = _begun[1]
        if address != known.address or (address is None and workers > known.num_workers):
            ray.shutdown()
    if not ray.is_initialized():
        try:
            with nullcontext() if address else secured():
                ray.init(
                    address=address or "local",  # never a cluster that somebody else began here
                    num_cpus=None if address else workers,
                    include_dashboard=None if address else False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except Exception as error:  # a node that a busy machine doesn't bring up in time is no more than this to Ray
            what = f"no Ray cluster at {address}" if address else f"Ray can't start {workers} processes here"
            reason = first_line(error)
            raise UserError(f"{what}: {reason}") from error
        _begun = ray.get_runtime_context().gcs_address, cluster
        if threading.current_thread() is threading.main_thread():  # Ray's handler ends with exit code 15
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if address and (there := int(ray.cluster_resources().get("CPU", 0))) < workers:
        warn(
            f"the cluster at {address} has {there} processors for {workers} processes: a training that several share "
            "waits until nodes join"
        )


@contextmanager
def secured() -> Iterator[None]:
    """Clusters that are started inside listen on the loopback alone and ask everybody for a token: one of this process,
    unless the user has another."""
    from ray._private import ray_constants

    if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # `ray.init` turns tokens on, from 2.60
    # Ray takes the loopback's address for its own where it starts no clusters of several machines, which it reads from
    # `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER`, once, when it is imported.
    several, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several


def show_options(function: Function, annotations: Mapping[str, Any] = ClusterOptions.__annotations__) -> Function:
    """Puts a cluster's keywords by name into the signature of a function that takes them as `**cluster`, for `help` and
    for typer."""
    own = signature(function)
    *parameters, _ = own.parameters.values()
    shown = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=a) for name, a in annotations.items()]
    vars(function)["__signature__"] = own.replace(parameters=[*parameters, *shown])
    return function
