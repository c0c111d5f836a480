"""The command line in processes of its own: forks of one that has loaded PyTorch and the rest before, so that a command
takes what it does and not the seconds of loading."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

LOADED = (
    *("search.cli", "search.pipeline.run", "search.pipeline.stages", "search.pipeline.search_stage"),
    *("search.export.export", "search.export.verify", "search.report.report", "search.report.comparison"),
    *("matplotlib.pyplot", "onnxruntime", "optuna", "sklearn.linear_model"),
)
TIMEOUT_S = 600
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(list(LOADED))


def start(*arguments: str, cwd: Path, stdout: str = os.devnull, stderr: str = os.devnull) -> BaseProcess:
    """`ghostnas ARGUMENTS` in a process and a process group of its own.

    Args:
        stdout, stderr: files to write to.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()  # PyTorch reads the variable when it is loaded
        process = _processes.Process(target=_command, args=(arguments, str(cwd), stdout, stderr, dict(os.environ)))
        process.start()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
    return process


def ghostnas(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        process = start(*arguments, cwd=cwd, stdout=streams[0], stderr=streams[1])
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            kill(process)
            raise TimeoutError(f"{' '.join(arguments)}: {Path(streams[1]).read_text()}")
        texts = [Path(stream).read_text() for stream in streams]
        return subprocess.CompletedProcess(list(arguments), process.exitcode, *texts)


def kill(process: BaseProcess) -> None:
    """Kills a command and all that it began."""
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _command(arguments: tuple[str, ...], cwd: str, stdout: str, stderr: str, environment: dict[str, str]) -> None:
    os.setsid()
    for descriptor, file in ((1, stdout), (2, stderr)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = ["ghostnas", *arguments]
    multiprocessing.set_start_method(None, force=True)  # what a command begins is forked or spawned as ever
    from search.__main__ import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
