"""Folders of runs, as far as is wanted, without running anything."""

import json
from pathlib import Path

import numpy as np

from ghostnet import cost
from search.data.names import data_source
from search.engine.choose import choose
from search.engine.front import front
from search.engine.trial import Trial
from search.latency.table import LatencyTable
from search.pipeline.stages import labels
from search.recipes.schema import load_recipe
from search.records import record_json
from search.training.metadata import space_for
from spaces.custom import space_to_dict
from spaces.population import sample
from spaces.space import Space
from spaces.tables import costs, space_units

STAGES = ("train", "calibrate", "search", "retrain")
SPACE = space_for("digits", 10, 1)


def made_up_run(folder: Path, upto: str | None = "retrain", trials: int = 60, seed: int = 0) -> Path:
    """A run of the digits recipe with made-up figures; `upto` is its last finished stage, None where none is."""
    done = STAGES[: STAGES.index(upto) + 1] if upto else ()
    rng = np.random.default_rng(seed)
    recipe = load_recipe("digits")
    budgets = {"flops_budget": "400k..500k, 650k", "latency_budget": "0.15ms"}
    recipe = recipe.model_copy(update={"seed": seed, "search": recipe.search.model_copy(update=budgets)})
    _write(
        folder / "run.json",
        {
            "schema": "ghostnas.run/1",
            "recipe": recipe.model_dump(mode="json"),
            "data": data_source(recipe.data).fingerprint(),
        },
    )
    training = {"epochs": 3.0, "planned_epochs": 3.0, "steps": 9, "skipped_steps": 0, "seconds": 5.0, "loss": 0.5}
    if "train" in done:
        metadata = {"schema": "ghostnas.supernet/2", "space": "digits", "space_id": SPACE.id, "data": "digits"}
        metadata |= {"num_classes": 10, "in_chs": 1, "seed": seed}
        _write(folder / "supernet/supernet.json", {**metadata, "training": training})
    if "calibrate" in done:
        made_up_table(rng).save(folder / "latency/table.lat.json")
    rows = []
    for k, code in enumerate(sample(SPACE, rng, trials)):
        known, ms = costs(SPACE, code), float(rng.uniform(0.05, 0.2))
        row = {"number": k, "state": "complete", "arch": SPACE.decode(code).id, "code": code.tolist(), "latency_ms": ms}
        row |= {"latency_low_ms": ms * 0.98, "latency_high_ms": ms * 1.02, "macs": known.macs, "params": known.params}
        rows.append(row | {"accuracy": float(rng.uniform(0.3, 0.9)), "seconds": 0.1, "excess": 0.0, "backend": {}})
    if "calibrate" in done:
        header = {"schema": "ghostnas.trials/1"}
        log = folder / "search/trials.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))
    evaluated = [Trial.model_validate(row) for row in rows]
    chosen = dict(zip(labels(3), choose(evaluated, 3), strict=True))
    if "search" in done:
        best = [t.arch for t in front(evaluated)]
        rows_of_chosen = {label: record_json(trial) for label, trial in chosen.items()}
        _write(
            folder / "search/result.json",
            {
                "evaluated": trials,
                "planned": 200,
                "front": best,
                "chosen": rows_of_chosen,
            },
        )
    if "retrain" in done:
        archs = {label: SPACE.decode(np.array(trial.code)) for label, trial in chosen.items()}
        archs |= {f"ghostnet-{width:g}x": SPACE.uniform(width) for width in (0.25, 0.5, 0.75)}
        for name, arch in archs.items():
            total = cost(arch, 10, 1)
            metadata = {"schema": "ghostnas.trained/1", "arch": arch.id, "resolution": arch.resolution, "seed": seed}
            metadata |= {"macs": total.macs, "params": total.params, "test_accuracy": 0.9, "test_images": 359}
            metadata |= {
                "num_classes": 10,
                "in_chs": 1,
                "data": "digits",
                "mean": [0.5],
                "std": [0.5],
                "classes": [*"0123456789"],
            }
            metadata |= {"init": None, "teacher": None, "config": recipe.retrain.alone().model_dump(mode="json")}
            _write(folder / f"networks/{name}/trained.json", {**metadata, "training": training})
            (folder / f"networks/{name}/arch.json").write_text(arch.to_json())
        _write(folder / "networks/latency.json", dict.fromkeys(archs, 0.1))
    return folder


def made_up_table(rng: np.random.Generator, space: Space = SPACE) -> LatencyTable:
    entries = {unit.key: unit for slot in space_units(space) for unit in slot.flat if unit}
    entry = {"ms": 0.01, "low_ms": 0.009, "high_ms": 0.011, "visits": 2}
    codes, measured = sample(space, rng, 8).tolist(), rng.uniform(0.1, 0.2, 8).tolist()
    held = [
        {"code": c, "measured_ms": ms, "predicted_ms": ms * 1.01, "low_ms": ms * 0.9, "high_ms": ms * 1.1}
        for c, ms in zip(codes, measured, strict=True)
    ]
    validation = dict.fromkeys(("mape", "p90", "max", "bias"), 0.01) | {"networks": 8, "mape_95": (0.009, 0.011)}
    validation |= dict.fromkeys(("within_5", "within_10", "kendall_tau", "spearman"), 1.0)
    validation |= {"kendall_tau_95": (0.9, 1.0), "spearman_95": (0.9, 1.0), "ruler": None, "simpler": {}}
    corrections = (0.0,) * len(space.layout.positions)
    return LatencyTable.model_validate(
        {
            "device": {
                "machine": "x",
                "cpu": "a test's",
                "isa": (),
                "cores": 2,
                "memory_gb": None,
                "system": "none",
                "governor": "unknown",
                "container": False,
                "python": "3",
            },
            "setting": {
                "runtime": "onnxruntime",
                "runtime_version": "1",
                "threads": 1,
                "batch": 1,
                "dtype": "float32",
                "lowering": "split",
                "space": space_to_dict(space),
                "space_id": space.id,
                "resolution": space.resolution,
                "num_classes": space.num_classes,
                "in_chs": space.in_chs,
            },
            "protocol": {
                "visits": 9,
                "disturbed": 0.2,
                "rounds": 2,
                "units_in_space": len(entries),
                "reference_ms": 0.1,
                "seconds": 3.0,
                "seed": 0,
                "finished": "2026-01-01T00:00:00Z",
            },
            "correction": {
                "intercept_ms": 0.01,
                "slope": 1.1,
                "ms_per_mparam": 0.5,
                "ms_per_mvalue": corrections,
                "spread": 0.01,
                "quantile": 2.0,
                "coverage": 0.9,
            },
            "fallback": None,
            "validation": {**validation, "held_out": held},
            "entries": dict.fromkeys(entries, entry),
        }
    )


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
