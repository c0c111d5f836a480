"""Everything that runs: the command line, the pipeline, and a room for each of its stages."""

from importlib.metadata import PackageNotFoundError, version

from search.installation import fault, is_command

if not is_command() and (_fault := fault()):
    raise ImportError(_fault)

try:
    __version__ = version("ghostnas")
except PackageNotFoundError:  # a bare checkout
    __version__ = "0+checkout"
