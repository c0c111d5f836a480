"""Everything that runs: the command line, the pipeline, and a room for each of its stages."""

from importlib.metadata import PackageNotFoundError, version

try:
    from spaces import named_space as _ours  # noqa: F401
except ImportError:
    import spaces

    raise ImportError(
        f"another distribution called `spaces` stands before GhostNAS's: {spaces.__file__}; "
        "uninstall it, or install GhostNAS in an environment of its own"
    ) from None

try:
    __version__ = version("ghostnas")
except PackageNotFoundError:  # a bare checkout
    __version__ = "0+checkout"
