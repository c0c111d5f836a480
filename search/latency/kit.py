"""The kit: a folder that calibrates a device without PyTorch. `kit_result` is the way back.

`calibrate.py` in it is `search/latency/timing`, its files joined into one, so that a kit times as this machine does.
The networks are ONNX files whose weights are made when they are loaded, a few kilobytes each."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ghostnet.files import write_bytes
from search.errors import UserError
from search.files import check_writable, write_json, write_text
from search.folders import filled_folder, is_empty, locked
from search.graphs.lowering import Lowering
from search.graphs.onnx_graph import to_onnx
from search.latency.bench import Bench, MeasurementPlan, all_units, measurement_plan, reference_module
from search.latency.calibrate import check_plan
from search.latency.fallback import FEWEST
from search.latency.timing.standalone import PLAN
from search.progress import bar
from search.single_file import single_file
from spaces.custom import space_to_dict
from spaces.space import Space

SCRIPT = "calibrate.py"
PARTS = (
    "device",
    "interference",
    "scores",
    "measurement",
    "rounds",
    "onnx_session",
    "standalone",
)  # of `timing/`, each after those that it needs
MODELS, REFERENCE = "models", "models/reference.onnx"
LOWERING: Lowering = "mixed"  # as `model.onnx` has it
MOST_UNITS = 4000
LEAST_CONSTANT = 32  # values in a weight that is made when it is loaded


def write_kit(
    space: Space,
    out: Path,
    *,
    batch: int = 1,
    rounds: int = 3,
    fit_networks: int = 48,
    held_out: int = 32,
    most_units: int = MOST_UNITS,
    seed: int = 0,
) -> int:
    """Writes a kit for `space` to the folder `out`, whole or not at all; returns the number of its networks and units.

    Args:
        most_units: the most probable ones are in it, the rest of a larger space is estimated.

    Raises:
        UserError: `out` is there already, or there is too little to fit.
    """
    check_plan(rounds, fit_networks, held_out, batch)
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
        _fill(building, space, planned, batch)
    return len(planned.items)


def _fill(folder: Path, space: Space, planned: MeasurementPlan, batch: int) -> None:
    bench, items = Bench(space, planned), []
    with bar("write the kit", len(planned.items)) as progress:
        for k, item in enumerate(planned.items):
            file = f"{MODELS}/{k:05d}.onnx"
            model = to_onnx(bench.module(item.name), bench.shapes[item.name], batch, LOWERING)
            write_bytes(folder / file, strip_weights(model).SerializeToString())
            items.append({**asdict(item), "file": file})
            progress.advance()
    net, shape = reference_module()
    write_bytes(folder / REFERENCE, strip_weights(to_onnx(net, shape, 1, LOWERING)).SerializeToString())
    content = planned.to_json() | {
        "items": items,
        "space": space_to_dict(space),
        "num_classes": space.num_classes,
        "in_chs": space.in_chs,
        "dtype": "float32",
        "lowering": LOWERING,
        "reference": {"file": REFERENCE, "shape": [1, *shape]},
    }
    write_json(folder / PLAN, content)
    write_text(folder / SCRIPT, script())
    write_text(folder / "README.md", README.format(space=space.name, count=len(items)))


def script() -> str:
    """The ruler as one file for Python 3.8."""
    return single_file("search.latency.timing", PARTS, "ghostnas calibrate kit", "numpy and onnxruntime")


def strip_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with constant weights made by nodes, which every runtime folds when it loads: the same fused graph from
    a file of a few kilobytes."""
    constants, weights = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.size < LEAST_CONSTANT or np.ptp(values) > 0:
            weights.append(weight)
            continue
        shape = numpy_helper.from_array(np.array(values.shape, dtype=np.int64), f"{weight.name}_shape")
        value = helper.make_tensor("value", weight.data_type, [1], values.reshape(-1)[:1])
        weights.append(shape)
        constants.append(helper.make_node("ConstantOfShape", [shape.name], [weight.name], value=value))
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    nodes = [*constants, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


README = """# Latency kit for the space `{space}`

{count} networks and parts of networks, to be timed on this device. Needs Python 3.8 or later:

    pip install onnxruntime numpy
    python calibrate.py --minutes 10 --threads 1

Close what else is running; plug a laptop in. Killed or stopped, the same command goes on and measures nothing twice.
When it says it is finished, take `result.jsonl` home, to the machine with GhostNAS:

    ghostnas calibrate import result.jsonl --out device.lat.json
"""
