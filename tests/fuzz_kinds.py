"""The files that are fuzzed: for each kind how a valid one is made, and how the product reads it."""

import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
import torch
from PIL import Image
from torch import nn

from ghostnet import GhostNet, cost
from ghostnet.arch import Arch
from ghostnet.published import Row
from ghostnet.weights import load_weights, save_weights, to_bytes
from search.accuracy import ranking_study
from search.accuracy.ghostbench import (
    BenchmarkFile,
    BenchmarkNetwork,
    BenchmarkRun,
    load_ghostbench,
    save_ghostbench,
)
from search.accuracy.predictor import AccuracyCorrection
from search.accuracy.study import NORMS, StudyNetwork, read_inherited, read_study
from search.accuracy.study import SCHEMA as STUDY
from search.accuracy.transplant_accuracy import SCHEMA as TRANSPLANTS
from search.accuracy.transplant_accuracy import TransplantFile, read_transplants
from search.accuracy.unit_losses import IMAGES, UnitLossFile, read_losses
from search.data.datasets import load_data
from search.data.images import ImageSource, decode_all
from search.data.parquet import read_parquet
from search.engine import optuna_study as studies
from search.engine.front import front
from search.engine.log import TrialLog, read_trials
from search.export.formats import hub_folder
from search.export.manifest import read_manifest
from search.export.timm_config import timm_config
from search.files import JsonLines
from search.latency import bench
from search.latency.calibrate import read_measurements
from search.latency.kit_result import read_result
from search.latency.measurements import Measurement
from search.latency.peak_memory import predict_peak_memory
from search.latency.predictor import Predictor, table_space
from search.latency.table import LatencyTable, PeakMemory, _sealed
from search.latency.timing.device import this_device
from search.pipeline.current_run import Run
from search.pipeline.stages import networks
from search.recipes import schema as recipes
from search.records import read_record, record_json, write_record
from search.report import fidelity as fidelity_page
from search.report.rows import rows
from search.report.summary import summarise
from search.run_folder.estimate import ESTIMATE, Estimate, StageEstimate, read_estimate, write_estimate
from search.run_folder.result import EnergyFigures, Exported
from search.run_folder.run import ENERGY, NETWORKS, recorded_recipe
from search.training.loop import _State
from search.training.metadata import check_data, read_metadata, supernet_id
from search.training.time_box import LONGEST
from spaces.custom import load_space, space_to_dict
from spaces.population import sample
from spaces.space import Space
from spaces.tables import costs
from tests import fuzz
from tests.fuzz import Kind, Mutate, Read
from tests.search.runs import SPACE, made_up_run, made_up_table
from tests.search.searches import HEADER, problem, run
from tests.spaces.test_spaces import tiny_space

KINDS: dict[str, Kind] = {}
Make = Callable[[Path], tuple[Path, Read]]
ARCH = SPACE.smallest
ONE_BLOCK = tiny_space(rows=((Row(3, 16, 8, 0, 1),),), ratios=(1,))  # as few tensors and units as there can be


def kind(name: str, mutate: Mutate) -> Callable[[Make], Make]:
    """Puts a function that makes a valid file and its reader among the kinds."""

    def put(make: Make) -> Make:
        KINDS[name] = Kind(name, make, mutate)
        return make

    return put


@kind("arch.json", fuzz.of_json)
def arch_json(folder: Path) -> tuple[Path, Read]:
    file = folder / "arch.json"
    file.write_text(ARCH.to_json())
    return file, lambda: cost(Arch.load(file), 10, 1)


@kind("trials.jsonl", fuzz.of_lines)
def trials(folder: Path) -> tuple[Path, Read]:
    task = problem()
    run(task, folder, trials=12, sampler="nsga2", population=4)
    file, search_space = folder / "trials.jsonl", studies.distributions(SPACE)

    def read() -> None:
        for trial in read_trials(file):
            assert _inside(folder, f"{trial.arch}.json")
        with TrialLog(file, HEADER, task) as log:
            studies.rebuild(task, log, search_space, None)
            for trial in front(log.evaluated):
                SPACE.decode(np.array(trial.code))

    return file, read


@kind("run.json", fuzz.of_json)
def run_json(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, "train")

    def read() -> None:
        _ = recorded_recipe(folder).search_space
        assert _inside(folder, recorded_recipe(folder).name)
        rows(summarise(folder))

    return folder / "run.json", read


@kind("result.json", fuzz.of_json)
def result(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, "search", trials=20)
    (folder / "latency/table.lat.json").unlink()
    job = Run(recorded_recipe(folder), folder)
    job.space = SPACE  # type: ignore[misc]  # without loading the data

    def read() -> None:
        summary = summarise(folder)
        for trial in summary.result.chosen.values():
            summary.arch(trial)
        assert all(_inside(folder / NETWORKS, name) for name in networks(job))

    return folder / "search/result.json", read


@kind("estimate.json", fuzz.of_json)
def estimate(folder: Path) -> tuple[Path, Read]:
    stages = tuple(StageEstimate(stage=stage, minutes=1.5, steps=20) for stage in ("train", "search"))
    write_estimate(folder, Estimate(stages=stages))
    return folder / ESTIMATE, lambda: read_estimate(folder).total


@kind("supernet.json", fuzz.of_json)
def supernet_card(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, "train")

    file = folder / "supernet/supernet.json"
    data = load_data("digits", 8, limit=20)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"identity": {"data": data.fingerprint}}))

    def read() -> None:
        read_metadata(folder / "supernet")
        check_data(folder / "supernet", data)
        summarise(folder)

    return file, read


@kind("trained.json", fuzz.of_json)
def trained_card(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, trials=12)
    (folder / "latency/table.lat.json").unlink()
    return folder / "networks/A/trained.json", lambda: rows(summarise(folder))


@kind("done.json", fuzz.of_json)
def exported(folder: Path) -> tuple[Path, Read]:
    file = folder / "done.json"
    file.write_text(json.dumps({"exported": ["A"], "left_out": {"B": "its outputs are not finite"}}))

    def read() -> None:
        known = read_record(file, Exported)
        assert all(_inside(folder, name) for name in (*known.exported, *known.left_out))

    return file, read


@kind("latency.json", fuzz.of_json)
def times(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, trials=12)
    (folder / "latency/table.lat.json").unlink()
    return folder / "networks/latency.json", lambda: rows(summarise(folder))


@kind("energy.json", fuzz.of_json)
def energy(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, trials=12)
    (folder / "latency/table.lat.json").unlink()
    file = folder / ENERGY
    figures = {name: {"joules": 0.5, "error": 0.01} for name in ("A", "B")}
    file.write_text(json.dumps({"counter": "RAPL (package-0)", "why_not": None, "networks": figures}))

    def read() -> None:
        known = read_record(file, EnergyFigures)
        assert all(each.joules >= 0 and _inside(folder, name) for name, each in known.networks.items())
        rows(summarise(folder))

    return file, read


@kind("plan.json", fuzz.of_json)
def study_plan(folder: Path) -> tuple[Path, Read]:
    file = folder / "plan.json"
    read = partial(ranking_study.study_networks, SPACE, 8, 0, file)
    file.write_text(json.dumps({name: arch.to_dict() for name, arch in read().items()}))
    return file, lambda: [_must(_inside(folder, name)) for name in read()]


@kind("fidelity.json", fuzz.of_json)
def study_result(folder: Path) -> tuple[Path, Read]:
    made_up_run(folder, "train")
    supernet, file = folder / "supernet", folder / "fidelity/fidelity.json"
    file.parent.mkdir()
    (supernet / "supernet.safetensors").write_bytes(b"")
    file.write_text(json.dumps(made_up_study(supernet_id(supernet))))

    def read() -> None:
        correction = AccuracyCorrection.load(file, supernet)
        assert 0 <= correction(ARCH, 0.5) <= 1
        fidelity_page.page(read_study(file))

    return file, read


@kind("inherited.jsonl", fuzz.of_lines)
def study_accuracies(folder: Path) -> tuple[Path, Read]:
    log = JsonLines(folder / "inherited.jsonl")
    log.extend([{"arch": arch.id, "accuracy": 0.5} for arch in (SPACE.smallest, SPACE.largest, SPACE.uniform(0.5))])

    def read() -> None:
        for name, accuracy in read_inherited(log.path).items():
            assert _inside(folder, name) and 0 <= accuracy <= 1

    return log.path, read


@kind("unit-losses.json", fuzz.of_json)
def losses(folder: Path) -> tuple[Path, Read]:
    file, names = folder / "unit-losses.json", [f"blocks.{k}.0 ghost 8>24>12 r2" for k in range(6)]
    content = UnitLossFile(supernet="0123456789", images=IMAGES, losses=dict.fromkeys([*names, "blocks.5.0"], 0.25))
    file.write_text(json.dumps(content.model_dump(by_alias=True)))

    def read() -> None:
        known = read_losses(file, "0123456789")
        assert known is None or (known.images == IMAGES and np.isfinite(sum(known.losses.values())))

    return file, read


@kind("transplant-accuracy.json", fuzz.of_json)
def transplants(folder: Path) -> tuple[Path, Read]:
    file, codes = folder / "transplant-accuracy.json", SPACE.sample_codes(np.random.default_rng(0), 9).tolist()
    content = {"schema": TRANSPLANTS, "supernet": "0123456789", "data": "digits", "codes": codes}
    write_record(file, TransplantFile.model_validate(content | {"accuracies": [0.5] * 8}))

    def read() -> None:
        if known := read_transplants(file, "0123456789", "digits", SPACE):
            assert len(known.accuracies) <= len(known.codes) and all(0 <= value <= 1 for value in known.accuracies)
            assert all(SPACE.decode(np.array(code)) in SPACE for code in known.codes)

    return file, read


@kind("ghostbench.json", fuzz.of_json)
def benchmark(folder: Path) -> tuple[Path, Read]:
    code = SPACE.encode(SPACE.smallest)
    known, file = costs(SPACE, code), folder / "ghostbench.json"
    runs = [BenchmarkRun(start="fresh", epochs=1, seed=0, search=[0.5], test=[0.5], seconds=1.0, look_seconds=0.1)]
    network = BenchmarkNetwork(
        arch=SPACE.smallest.id, code=code.tolist(), kind="even", macs=known.macs, params=known.params, runs=runs
    )
    sizes = {"training_images": 8, "search_images": 8, "test_images": 8}
    about: dict[str, Any] = {"space": space_to_dict(SPACE), "data": "digits", "fingerprint": "f", **sizes}
    save_ghostbench(file, BenchmarkFile(**about, fresh={}, tuned={}, networks=[network]))

    def read() -> None:
        bench = load_ghostbench(file)
        for name in bench.names:
            assert bench.arch(name).id == name

    return file, read


def made_up_study(supernet_id: str) -> dict:
    """A study of twelve networks with made-up accuracies."""
    rng = np.random.default_rng(0)
    nets = []
    for code in sample(SPACE, rng, 12):
        known, inherited, trained = costs(SPACE, code), *rng.uniform(0.3, 0.9, 2).tolist()
        row = {"arch": SPACE.decode(code).id, "code": code.tolist(), "kind": "spread", "macs": known.macs}
        row |= {"params": known.params, "inherited": inherited, "trained": trained, "trained_by_seed": [trained]}
        nets.append(row | {"trained_on_search": trained})
    agreement = record_json(ranking_study.agreement([StudyNetwork(**row) for row in nets], 3, 0))
    corrected = {"kendall_tau": 0.9, "tau_within_bins": 0.8, "error": 0.01}
    about = {"space": "digits", "space_id": SPACE.id, "supernet_id": supernet_id, "data": "digits", "seed": 0}
    about |= {"training_images": 1000, "test_images": 500, "search_images": 300, "training": {"epochs": 3.0}}
    about["norms"] = NORMS
    study = {"schema": STUDY, **about, "seeds": 1, **agreement}
    return study | {"corrected": corrected, "networks": nets}


def of_table(content: bytes, rng: random.Random) -> bytes:
    """A changed table, with the hash of what it holds now more often than not."""
    mutant = fuzz.of_json(content, rng)
    try:
        return json.dumps(_sealed(json.loads(mutant))).encode() if rng.random() < 0.7 else mutant
    except (ValueError, KeyError, AttributeError, RecursionError):
        return mutant


@kind("lat.json", of_table)
def table(folder: Path) -> tuple[Path, Read]:
    file, space = folder / "table.lat.json", ONE_BLOCK
    made = made_up_table(np.random.default_rng(0), space)
    fit = PeakMemory(
        constant_bytes=1e6, per_activation_byte=2, per_weight_byte=3, networks=9, error=0.04, quantile=0.1, coverage=0.9
    )
    made.model_copy(update={"peak_memory": fit}).save(file)
    code = space.encode(space.smallest)

    def read() -> None:
        loaded = LatencyTable.load(file)
        assert np.isfinite(Predictor(loaded, table_space(loaded))(code).latency_ms).all()
        if taken := predict_peak_memory(loaded, space.smallest):
            assert np.isfinite(taken).all()

    return file, read


def made_up_visits(space: Space) -> tuple[dict, list[dict]]:
    """The plan of a calibration, and two visits to each of its items."""
    planned = bench.measurement_plan(space, fit_networks=8, held_out=8, rounds=2, threads=1, batch=1, seed=0)
    rows: list[dict] = [{"turn": 0, "mhz": 2000.0}, {"settled": {"units": 9, "rounds": 2}}]
    for k, item in enumerate(planned.items[:40]):
        for visit in range(2):
            row = {"item": item.name, "visit": visit, "at_s": round(0.1 * len(rows), 1), "seconds": 0.01}
            row |= {"min_ms": 0.1 + 0.01 * k, "median_ms": 0.2, "p90_ms": 0.3, "runs": 9, "reference_ms": 0.1}
            rows.append(row)
    rows += [{"peak_bytes": {f"network {k}": 10**6 + 10**5 * k}} for k in range(8, 16)]
    return planned, rows


@kind("visits.jsonl", fuzz.of_lines)
def visits(folder: Path) -> tuple[Path, Read]:
    planned, rows_ = made_up_visits(tiny_space())
    log, header = JsonLines(folder / "t.lat.json.visits.jsonl"), {"space_id": planned.space_id, "seed": 0}
    log.extend([header, *rows_])
    items = {item.name for item in planned.items}

    def read() -> None:
        for row in read_measurements(log, header, items) or []:
            if isinstance(row, Measurement):
                assert row.item in items and row.visit >= 0 and 0 < row.min_ms < 1e9 and row.at_s >= 0

    return log.path, read


@kind("kit-result.jsonl", fuzz.of_lines)
def kit_result(folder: Path) -> tuple[Path, Read]:
    space = tiny_space()
    planned, rows_ = made_up_visits(space)
    header = {key: value for key, value in planned.to_json().items() if key != "items"}
    header |= {"schema": "ghostnas.kit-result/1", "space": space_to_dict(space), "num_classes": space.num_classes}
    header |= {"in_chs": space.in_chs, "dtype": "float32", "lowering": "mixed", "runtime": "onnxruntime"}
    header |= {"runtime_version": "1", "device": this_device(), "plan_sha256": "0" * 64}
    measured = sum("item" in row for row in rows_)
    log = JsonLines(folder / "result.jsonl")
    log.extend([header, *rows_, {"finished": "2026-01-01T00:00:00Z", "visits": measured}])
    return log.path, lambda: read_result(log.path)


@kind("checkpoint.pt", fuzz.of_torch)
def checkpoint(folder: Path) -> tuple[Path, Read]:
    net = nn.BatchNorm2d(4)  # parameters and buffers
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 4, 8, 8)).sum().backward()
    optimizer.step()
    scaler, file = torch.amp.GradScaler("cpu", enabled=False), folder / "checkpoint.pt"

    def state() -> _State:
        return _State(net, optimizer, scaler, None, file, {"what": "x"}, 100)

    training = state()
    training.step, training.at, training.loss = 7, 7.0, 0.5
    training.save()
    training.save()  # and the one before it

    def read() -> None:
        assert 0 <= state().step <= 100 * LONGEST + 1
        optimizer.step()

    return file, read


@kind("manifest.json", fuzz.of_json)
def manifest(folder: Path) -> tuple[Path, Read]:
    file, sha = folder / "manifest.json", "0" * 64
    files = {name: {"sha256": sha, "bytes": 9} for name in ("arch.json", "proof.safetensors", "hub/config.json")}
    about = {"largest_difference": 1e-7, "top1_agreement": 1.0, "on_random": 1.0, "on_real": None, "macs": 9}
    files["model.onnx"] = {"sha256": sha, "bytes": 9, "format": "onnx", **about, "latency_ms": None}
    content = {"schema": "ghostnas.manifest/1", "arch": ARCH.id, "macs": 9, "params": 9, "resolution": 16}
    content |= {"num_classes": 10, "in_chs": 1, "space_id": None, "files": files, "versions": {"torch": "2"}}
    file.write_text(json.dumps(content))

    def read() -> None:
        for name, about in read_manifest(folder).files.items():
            assert _inside(folder, name) and len(about.sha256) == 64

    return file, read


@kind("config.json", fuzz.of_json)
def hub_config(folder: Path) -> tuple[Path, Read]:
    net, there = GhostNet(ONE_BLOCK.smallest, 10, 1), folder / "hub"
    there.mkdir()
    (there / "arch.json").write_text(net.arch.to_json())
    save_weights(net, there / "model.safetensors")
    config = timm_config(net, mean=[0.5], std=[0.25], classes=[*"0123456789"])
    (there / "config.json").write_text(json.dumps(config))
    return there / "config.json", lambda: hub_folder.macs(folder)


@kind("recipe.toml", fuzz.of_toml)
def recipe(folder: Path) -> tuple[Path, Read]:
    file, ours = folder / "recipe.toml", Path(recipes.__file__).with_name("digits.toml")
    file.write_text('name = "mine"\n' + ours.read_text())

    def read() -> None:
        plan = recipes.load_recipe(str(file))
        _ = plan.search_space
        assert _inside(folder, plan.name)

    return file, read


@kind("retrain.toml", fuzz.of_toml)
def retraining(folder: Path) -> tuple[Path, Read]:
    file, ours = folder / "retrain.toml", Path(recipes.__file__).with_name("retrain") / "cifar10-fast.toml"
    file.write_text(ours.read_text())
    return file, lambda: recipes.load_retraining(str(file))


@kind("space.toml", fuzz.of_toml)
def own_space(folder: Path) -> tuple[Path, Read]:
    file = folder / "space.toml"
    file.write_text(tomli_w.dumps({"space": space_to_dict(ONE_BLOCK)}))

    def read() -> None:
        space = load_space(file)
        assert space.decode(space.encode(space.smallest)) == space.smallest

    return file, read


@kind("weights.safetensors", fuzz.of_safetensors)
def weights(folder: Path) -> tuple[Path, Read]:
    net, file = GhostNet(ARCH, 10, 1), folder / "weights.safetensors"
    file.write_bytes(to_bytes(net))
    return file, lambda: load_weights(net, file, "replica-major")


@kind("weights.pth", fuzz.of_torch)
def torch_weights(folder: Path) -> tuple[Path, Read]:
    net, file, content = GhostNet(ONE_BLOCK.smallest, 10, 1), folder / "weights.pth", io.BytesIO()
    torch.save({"epoch": 3, "state_dict": dict(net.state_dict())}, content)
    file.write_bytes(content.getvalue())
    return file, lambda: load_weights(net, file, "replica-major")


def picture(format: str, **options: object) -> bytes:
    """A small image with an alpha channel or EXIF data, where the format has them."""
    rng, content = np.random.default_rng(0), io.BytesIO()
    mode, depth = ("RGBA", 4) if format == "PNG" else ("RGB", 3)
    image = Image.fromarray(rng.integers(0, 256, (6, 9, depth), dtype=np.uint8), mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(content, format, exif=exif, **options)
    return content.getvalue()


def image_file(folder: Path, name: str, content: bytes) -> tuple[Path, Read]:
    file = folder / name
    file.write_bytes(content)

    def read() -> None:
        images = decode_all([ImageSource(str(file))], 8)
        assert images.shape == (1, 3, 8, 8)

    return file, read


@kind("image.png", fuzz.of_bytes)
def png_image(folder: Path) -> tuple[Path, Read]:
    return image_file(folder, "image.png", picture("PNG"))


@kind("image.jpg", fuzz.of_bytes)
def jpeg_image(folder: Path) -> tuple[Path, Read]:
    return image_file(folder, "image.jpg", picture("JPEG", quality=60))


@kind("image.webp", fuzz.of_bytes)
def webp_image(folder: Path) -> tuple[Path, Read]:
    return image_file(folder, "image.webp", picture("WEBP"))


@kind("image.gif", fuzz.of_bytes)
def gif_image(folder: Path) -> tuple[Path, Read]:
    return image_file(folder, "image.gif", picture("GIF"))


@kind("image.tiff", fuzz.of_bytes)
def tiff_image(folder: Path) -> tuple[Path, Read]:
    return image_file(folder, "image.tiff", picture("TIFF"))


@kind("train.parquet", fuzz.of_bytes)
def parquet(folder: Path) -> tuple[Path, Read]:
    for part in ("train", "test"):
        images = pa.array([{"bytes": picture("JPEG"), "path": None}] * 4)
        features = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
        rows = pa.table({"image": images, "label": [0, 1, 1, 0]})
        rows = rows.replace_schema_metadata({"huggingface": json.dumps(features)})
        pq.write_table(rows, folder / f"{part}.parquet")

    def read() -> None:
        ((sources, labels), _), classes = read_parquet(folder)
        assert len(sources) == len(labels) and 0 <= int(labels.min()) <= int(labels.max()) < len(classes)
        decode_all(sources, 8)

    return folder / "train.parquet", read


def _inside(folder: Path, name: str) -> bool:
    """Whether a name is of something inside a folder, and no deeper than it says."""
    there = (folder / name).resolve()
    return there != folder.resolve() and there.is_relative_to(folder.resolve()) and "\0" not in name


def _must(holds: bool) -> None:
    assert holds
