"""The kit: a folder that calibrates a device without PyTorch. `kit_result` is the way back.

`calibrate.py` in it is `search/latency/timing`, its files joined into one, so that a kit times as this machine does.
The networks are files as they are exported for its runtime, packed by gzip: constant weights take a few kilobytes."""

import gzip
from dataclasses import asdict, replace
from pathlib import Path

from ghostnet.files import write_bytes
from search.errors import UserError, check_whole
from search.files import check_writable, write_json, write_text
from search.folders import filled_folder, is_empty, locked
from search.latency.bench import Bench, MeasurementPlan, all_units, measurement_plan, reference_module
from search.latency.calibrate import check_plan
from search.latency.fallback import FEWEST
from search.latency.runtimes import Dtype, Runtime, StandaloneSession, kit_session
from search.latency.runtimes import runtime as find_runtime
from search.latency.timing.standalone import PLAN
from search.progress import bar
from search.seeds import check_seed
from search.single_file import single_file
from spaces.custom import MOST_UNITS as LARGEST_SPACE
from spaces.custom import space_to_dict
from spaces.space import Space

SCRIPT = "calibrate.py"
PARTS = (
    "device",
    "interference",
    "scores",
    "measurement",
    "rounds",
    "peak_memory",
    "standalone",
)  # of `timing/`, each after those that it needs
MODELS = "models"
MOST_UNITS = 4000


def write_kit(
    space: Space,
    out: str | Path,
    *,
    runtime: str = "onnxruntime",
    dtype: Dtype = "float32",
    batch: int = 1,
    rounds: int = 3,
    fit_networks: int = 48,
    held_out: int = 32,
    most_units: int = MOST_UNITS,
    seed: int = 0,
) -> int:
    """A folder that calibrates a device without PyTorch, whole or not at all; its README says how. Returns how many
    networks and units it times.

    Args:
        runtime: onnxruntime, which also has the `dtype` int8, litert or ncnn.
        batch, rounds, fit_networks, held_out: as of `calibrate`.
        most_units: the most probable ones are in it, the rest of a larger space is estimated.

    Raises:
        UserError: `out` is there already, or there is too little to fit, or no kit for this runtime.
    """
    seed = check_seed(seed)
    out, session = Path(out), kit_session(runtime, dtype)
    run = find_runtime(runtime, 1, dtype)
    rounds, fit_networks, held_out, batch = check_plan(rounds, fit_networks, held_out, batch)
    most_units = check_whole("`most_units`", most_units, 0, LARGEST_SPACE)
    if most_units < (fewest := min(FEWEST, len(all_units(space)))):
        raise UserError(
            f"a kit has {fewest} units of this space or more, by which the rest is estimated, not {most_units}"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: --out names another place")
    check_writable(out)
    with locked(out), filled_folder(out, last=SCRIPT) as building:
        if not is_empty(out):
            raise UserError(f"{out} is there already: --out names another place")
        planned = measurement_plan(
            space, fit_networks=fit_networks, held_out=held_out, rounds=rounds, threads=1, batch=batch, seed=seed
        )
        planned = replace(planned, items=planned.items[: fit_networks + held_out + most_units])
        _fill(building, space, planned, run, session)
    return len(planned.items)


def _fill(folder: Path, space: Space, planned: MeasurementPlan, run: Runtime, session: type[StandaloneSession]) -> None:
    bench, items = Bench(space, planned.networks, planned.shapes), []
    with bar("write the kit", len(planned.items)) as progress:
        for k, item in enumerate(planned.items):
            file = f"{MODELS}/{k:05d}.{session.suffix}.gz"
            write_bytes(folder / file, _packed(bench.compile(run, item.name)))
            items.append({**asdict(item), "file": file})
            progress.advance()
    net, shape = reference_module()
    reference = f"{MODELS}/reference.{session.suffix}.gz"
    write_bytes(folder / reference, _packed(run.compile(net, shape)))
    content = planned.to_json() | {
        "items": items,
        "space": space_to_dict(space),
        "num_classes": space.num_classes,
        "in_chs": space.in_chs,
        "dtype": run.dtype,
        "lowering": run.lowering,
        "reference": {"file": reference, "shape": [1, *shape]},
    }
    write_json(folder / PLAN, content)
    write_text(folder / SCRIPT, script(session))
    about = {"space": space.name, "count": len(items), "runtime": run.name, "dtype": run.dtype}
    write_text(folder / "README.md", README.format(**about, install=session.install, suffix=session.suffix))


def script(session: type[StandaloneSession]) -> str:
    """The timing of a runtime as one file for Python 3.8."""
    parts = (session.__module__.rpartition(".")[2], *PARTS)
    needs = f"numpy and {session.package}"
    return single_file("search.latency.timing", parts, "ghostnas calibrate kit", needs, session.__name__)


def _packed(model: bytes) -> bytes:
    return gzip.compress(model, mtime=0)


README = """# Latency kit for the space `{space}`, runtime {runtime}, {dtype}

{count} networks and parts of networks, to be timed on this device. Needs Python 3.8 or later:

    {install}
    python calibrate.py --minutes 10 --threads 1

Close what else is running; plug a laptop in. Killed or stopped, the same command goes on and measures nothing twice; a
finished one goes on with more `--minutes`.
When it says it is finished, take `result.jsonl` home, to the machine with GhostNAS:

    ghostnas calibrate import result.jsonl --out device.lat.json

`models/` has the graphs that `ghostnas export` writes for this runtime, with constant weights; `gunzip` makes
`.{suffix}` files of them.
"""
