"""This machine's latency."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.shared import (
    Json,
    Resume,
    Seed,
    answer,
    fresh,
)
from search.errors import UserError


def calibrate(
    space: Annotated[
        str, typer.Option("--space", help="A preset (digits, cifar, imagenet; -plus) or a .toml file.")
    ] = "digits",
    runtime: Annotated[str, typer.Option("--runtime", help="onnxruntime.")] = "onnxruntime",
    threads: Annotated[int, typer.Option("--threads")] = 1,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Time box.")] = 10.0,
    out: Annotated[Path, typer.Option("--out", help="The table's file.")] = Path("results/table.lat.json"),
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Time this machine: make a latency table for a space, and say how well it predicts."""
    import time

    from search.latency.runtimes import runtime as check_runtime
    from spaces.custom import load_space

    chosen = load_space(space)
    check_runtime(runtime, threads)
    fresh(out.parent, resume, out.name)
    visits = out.with_name(out.name + ".visits.jsonl")
    if visits.exists() and not resume:
        raise UserError(f"{visits} is of an unfinished calibration: --resume goes on with it")
    from search.latency.calibrate import calibrate as make_table
    from search.latency.table import describe

    deadline = time.monotonic() + 60 * minutes
    table = make_table(chosen, out, runtime_name=runtime, threads=threads, seed=seed, deadline=deadline)
    facts = describe(table)
    words = (
        f"{out}: {facts['entries']} units; on {facts['held_out_networks']} networks it never saw: error "
        f"{facts['mape_percent']} % on average, {facts['max_percent']} % at most, Kendall tau {facts['kendall_tau']}"
    )
    answer(facts, words, as_json)
