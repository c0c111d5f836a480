"""Latency tables: of this machine, of a device without PyTorch, and whether one is still true."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import search as api
from ghostnet.arch import MAX_BATCH
from search.commands.shared import (
    Interruptible,
    Json,
    Out,
    Resume,
    Seed,
    SpaceName,
    check_output,
    explicit_options,
    print_json,
    print_result,
)
from search.errors import MOST_MINUTES, UserError
from search.files import check_file
from search.terminal import show

if TYPE_CHECKING:
    from search.latency.table import LatencyTable
    from spaces.space import Space

app = typer.Typer(cls=Interruptible, help="Latency tables for your own hardware.", invoke_without_command=True)

RUNTIME = (
    "What runs the networks: onnxruntime, onnxruntime-cuda, torch-cpu, torch-cuda, or with an extra openvino, "
    "executorch, litert, ncnn."
)
KIT_RUNTIME = "onnxruntime, litert or ncnn: what the device has."

RuntimeName = Annotated[str, typer.Option("--runtime", help=RUNTIME)]
Threads = Annotated[int, typer.Option("--threads")]
DtypeName = Annotated[str, typer.Option("--dtype", help="float32 or int8.")]
Batch = Annotated[int, typer.Option("--batch", min=1, max=MAX_BATCH, help="Images in a run; latencies are of a run.")]
Networks = Annotated[int, typer.Option("--networks", min=8, help="Held out: they only test the table.")]
HeldOut = Annotated[int, typer.Option("--networks", min=9, help="Held out: they only test the table.")]
Fit = Annotated[int, typer.Option("--fit-networks", min=8, help="Whole networks that correct the sum.")]
Rounds = Annotated[int, typer.Option("--rounds", min=2, help="Visits to each unit, if the time box allows.")]
Resolution = Annotated[int | None, typer.Option("--resolution", min=1, help="Another than the space's, in pixels.")]
Table = Annotated[Path, typer.Argument(help="A latency table, *.lat.json.")]
TableOut = Annotated[Path, typer.Option("--out", help="The table's file.")]


@app.callback()
def calibrate(
    context: typer.Context,
    space: SpaceName = "digits",
    runtime: RuntimeName = "onnxruntime",
    threads: Threads = 1,
    batch: Batch = 1,
    dtype: DtypeName = "float32",
    resolution: Resolution = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, max=MOST_MINUTES, help="Time box.")] = 10.0,
    rounds: Rounds = 3,
    fit_networks: Fit = 48,
    networks: Networks = 32,
    out: TableOut = Path("results/table.lat.json"),
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Time this machine: make a latency table for a space, and say how well it predicts."""
    if context.invoked_subcommand:
        if early := explicit_options(context):
            raise UserError(
                f"{', '.join(early)} would not reach `calibrate {context.invoked_subcommand}`: its options stand "
                f"behind its name"
            )
        return
    chosen = _space(space, resolution)
    _check_calibration(runtime, threads, dtype, out, resume)
    table = api.calibrate(
        chosen,
        out,
        runtime=runtime,
        threads=threads,
        batch=batch,
        dtype=dtype,  # type: ignore[arg-type]
        minutes=minutes,
        rounds=rounds,
        fit_networks=fit_networks,
        held_out=networks,
        seed=seed,
    )
    _print_table_summary(table, out, as_json)


@app.command()
def transfer(
    source: Annotated[Path, typer.Argument(help="A latency table of another target, *.lat.json.")],
    runtime: RuntimeName = "onnxruntime",
    threads: Threads = 1,
    batch: Batch = 1,
    dtype: DtypeName = "float32",
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, max=MOST_MINUTES, help="Time box.")] = 1.0,
    fit_networks: Fit = 20,
    networks: HeldOut = 16,
    out: TableOut = Path("results/table.lat.json"),
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Make a table for another target (device, runtime, threads, batch, data type) in a minute, from SOURCE and a few
    measurements here.

    Whole networks and the most probable units are timed; all other units are transferred from SOURCE. The table's space
    is SOURCE's, and it says how well it predicts networks that it was not fitted on.
    """
    from search.latency.predictor import table_space
    from search.latency.table import LatencyTable

    loaded = LatencyTable.load(source)
    _check_calibration(runtime, threads, dtype, out, resume)
    table = api.calibrate(
        table_space(loaded),
        out,
        runtime=runtime,
        threads=threads,
        batch=batch,
        dtype=dtype,  # type: ignore[arg-type]
        minutes=minutes,
        rounds=1,
        fit_networks=fit_networks,
        held_out=networks,
        seed=seed,
        source=loaded,
    )
    _print_table_summary(table, out, as_json)


@app.command()
def kit(
    space: SpaceName = "digits",
    out: Out = Path("results/kit"),
    runtime: Annotated[str, typer.Option("--runtime", help=KIT_RUNTIME)] = "onnxruntime",
    batch: Batch = 1,
    dtype: DtypeName = "float32",
    resolution: Resolution = None,
    rounds: Rounds = 3,
    fit_networks: Fit = 48,
    networks: Networks = 32,
    units: Annotated[int, typer.Option("--units", min=1, help="At most so many, the most probable.")] = 4000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write a folder that calibrates a device without PyTorch: a Raspberry Pi or a phone with Python, numpy and ONNX
    Runtime, LiteRT or ncnn."""
    count = api.write_kit(
        _space(space, resolution),
        out,
        runtime=runtime,
        dtype=dtype,  # type: ignore[arg-type]
        batch=batch,
        rounds=rounds,
        fit_networks=fit_networks,
        held_out=networks,
        most_units=units,
        seed=seed,
    )
    print_result(
        {"folder": str(out), "items": count}, f"{out}: {count} networks and units; its README says the rest", as_json
    )


@app.command(name="import")
def import_(
    result: Annotated[Path, typer.Argument(help="What the kit's calibrate.py wrote.")],
    prior: Annotated[
        Path | None, typer.Option("--prior", help="A table of another target: what wasn't measured comes from it.")
    ] = None,
    out: TableOut = Path("results/table.lat.json"),
    as_json: Json = False,
) -> None:
    """Make the table of what a kit measured."""
    check_file(out)
    check_output(out.parent, None, out.name)
    from search.latency.table import LatencyTable

    source = None if prior is None else LatencyTable.load(prior)
    _print_table_summary(api.import_kit(result, out, source), out, as_json)


@app.command()
def check(
    table: Table,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Time with another number.")] = None,
    rescale: Annotated[bool, typer.Option("--rescale", help="Put a common shift into the table.")] = False,
    as_json: Json = False,
) -> None:
    """Is a table still true of this machine? Exit code 0: valid, 3: shifted, 4: stale."""
    from search.latency.check import EXIT_CODES, SHIFTED

    verdict = api.check_table(table, threads=threads, rescale=rescale)
    message = (
        f"{verdict.state}: {verdict.items} items take {verdict.shift:.3f} of their time then, and differ from that by "
        f"{verdict.spread:.1%} (allowed: {verdict.allowed_spread:.1%})"
    )
    if verdict.state == SHIFTED:
        message += "; the table was rescaled" if rescale else "" if threads else "; --rescale puts that into the table"
    print_result(asdict(verdict), "\n".join([message, *verdict.notes]), as_json)
    raise typer.Exit(0 if rescale and verdict.state == SHIFTED else EXIT_CODES[verdict.state])


@app.command()
def report(
    table: Table,
    out: Annotated[Path | None, typer.Option("--out", help="The page (default: beside the table).")] = None,
    as_json: Json = False,
) -> None:
    """How good a table is, in words and as a page."""
    from search.latency.table import LatencyTable, describe
    from search.latency.table_warnings import print_table_warnings
    from search.records import record_json
    from search.report.latency_page import format_table

    loaded = LatencyTable.load(table)
    page = out or table.with_name(table.name.removesuffix(".json").removesuffix(".lat") + ".lat.html")
    api.write_latency_page(loaded, page)
    if as_json:
        print_json(record_json(describe(loaded)) | {"page": str(page)})
        return
    show(format_table(loaded))
    print_table_warnings(loaded)
    show(f"Page: {page}")


def _check_calibration(runtime: str, threads: int, dtype: str, out: Path, resume: bool) -> None:
    """Checks, before any work is done, that a calibration can run here and write `out`."""
    from search.latency.measurements import measurements_log
    from search.latency.runtimes import runtime as check_runtime

    check_runtime(runtime, threads, dtype)  # type: ignore[arg-type]
    check_file(out)
    check_output(out.parent, resume, out.name)
    log_file = measurements_log(out)
    if log_file.exists() and not resume:
        raise UserError(f"{log_file} is of an unfinished calibration: --resume goes on with it")


def _space(name: str, resolution: int | None) -> "Space":
    from spaces.custom import load_space

    space = load_space(name)
    if resolution in (None, space.resolution):
        return space
    if len(space.resolution_choices) > 1:
        raise UserError(f"space {space.name} chooses among resolutions itself: --resolution is for spaces with one")
    return replace(space, name=f"{space.name}-{resolution}", resolution=resolution)


def _print_table_summary(table: "LatencyTable", out: Path, as_json: bool) -> None:
    from search.latency.table import describe, format_error
    from search.latency.table_warnings import print_table_warnings
    from search.records import record_json

    summary = describe(table)
    memory = table.peak_memory
    transferred = ", the others transferred" if table.transfer else ""
    message = f"{out}: {summary.entries} of {summary.units_in_space} units{transferred}; {format_error(table)}" + (
        "" if memory is None else f"; peak memory: error {memory.error:.1%}"
    )
    print_result(record_json(summary), message, as_json)
    print_table_warnings(table)
