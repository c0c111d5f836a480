"""The part of `verify.py` that checks an export's folder without PyTorch: hashes, and ONNX and LiteRT files run."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import stat
import sys
from pathlib import Path

import numpy as np

from search.export.agreement import RANDOM_IMAGES, disagreement, drift, random_images, top1_agreement, unusable
from search.export.consistency import contradiction, embedded_difference

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on ONNX Runtime would tell its makers of every session

MANIFEST, SCHEMA, PROOF = "manifest.json", "ghostnas.manifest/1", "proof.safetensors"
RUNS = {  # format -> its file, what runs it, whether its outputs are the network's up to float32 rounding
    "onnx": ("model.onnx", "onnxruntime", True),
    "onnx-int8": ("model.int8.onnx", "onnxruntime", False),
    "litert": ("model.tflite", "ai-edge-litert", True),
    "litert-int8": ("model.int8.tflite", "ai-edge-litert", False),
}
NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}(/[A-Za-z0-9_][\w.-]{0,99}){0,4}", re.ASCII)
MOST_FILES, MOST_BYTES, MOST_JSON, MOST_VALUES = 1000, 1 << 31, 1 << 24, 1 << 22
EXTERNAL = b"\n\x08location"  # a key of an ONNX weight that lies in another file
BATCH = 16


class Failed(Exception):
    """A file is not what the manifest says."""


class NoVerdict(Exception):
    """Nothing can be said of this folder."""


def main(folder: Path, arguments=None) -> int:
    """0: all files are unchanged, and those that were run are the network. 1: one is not. 2: there is no verdict."""
    parser = argparse.ArgumentParser(
        prog="verify.py",
        description="Checks this folder: each file's SHA-256, and the outputs of the ONNX and LiteRT files.",
        epilog="Exit code 0: unchanged, and what was run is the network; 1: something is not; 2: no verdict.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=folder, help="another export (default: this one)")
    try:
        return check(parser.parse_args(arguments).folder)
    except NoVerdict as error:
        print("verify.py: " + printable(str(error)), file=sys.stderr)
        return 2


def check(folder: Path) -> int:
    manifest = read_manifest(folder)
    files = manifest["files"]
    wrong, runnable, ran = contradiction(manifest), {}, 0
    failed = report("FAILED", MANIFEST, wrong) if wrong else False
    for name, recorded in files.items():
        try:
            content = read_listed(folder, name, recorded)
        except Failed as error:
            failed = report("FAILED", name, str(error))
            continue
        if recorded.get("format") is None:
            report("ok", name, "unchanged")
        if name == PROOF or recorded.get("format") is not None:
            runnable[name] = content
    for name in unlisted(folder, files):
        report("--", name, f"not checked: {MANIFEST} doesn't list it")
    if not failed:
        proof = read_proof(manifest, runnable.pop(PROOF, b""))
        for name, content in runnable.items():
            try:
                text, has_run = run_listed(name, manifest, content, proof)
                report("ok" if has_run else "--", name, text)
                ran += has_run
            except Failed as error:
                failed = report("FAILED", name, str(error))
    if failed:
        print("This folder is not what its manifest says.")
        return 1
    if not ran:
        raise NoVerdict("all files are unchanged, but none was run: pip install onnxruntime, or ai-edge-litert")
    print(f"All files are unchanged; the outputs of those that were run ({ran}) are as {MANIFEST} says.")
    return 0


def report(verdict: str, name: str, text: str) -> bool:
    print(printable(f"{verdict:7} {name}: {text}"))
    return verdict == "FAILED"


def read_manifest(folder: Path) -> dict:
    try:
        content = json.loads(read_file(folder, MANIFEST, MOST_JSON))
    except (Failed, ValueError, RecursionError) as error:
        raise NoVerdict(f"{folder} holds no export: {MANIFEST}: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise NoVerdict(f"{MANIFEST} has not the schema {SCHEMA}")
    files = content.get("files")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise NoVerdict(f"{MANIFEST} lists no files, or more than {MOST_FILES}")
    for name, recorded in files.items():
        if not NAME.fullmatch(name):
            raise NoVerdict(f"{MANIFEST} lists a file outside this folder, or of an odd name: {name[:100]!r}")
        if not isinstance(recorded, dict) or not re.fullmatch("[0-9a-f]{64}", str(recorded.get("sha256"))):
            raise NoVerdict(f"{MANIFEST} has no SHA-256 of {name}")
    return content


def read_file(folder: Path, name: str, most: int) -> bytes:
    """A file inside the folder, no link on the way."""
    path = folder
    for part in name.split("/"):
        path = path / part
        try:
            mode = path.lstat()
        except OSError:
            raise Failed("is missing") from None
        if stat.S_ISLNK(mode.st_mode):
            raise Failed("is a link")
    if not stat.S_ISREG(mode.st_mode) or mode.st_size > most:
        raise Failed(f"is no file, or larger than {most:,} bytes")
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise Failed(f"can't be read: {error.strerror}") from None


def read_listed(folder: Path, name: str, recorded: dict) -> bytes:
    content = read_file(folder, name, MOST_BYTES)
    actual = hashlib.sha256(content).hexdigest()
    if actual != recorded["sha256"]:
        raise Failed(f"was changed: its SHA-256 is {actual}, not {recorded['sha256']}")
    if recorded.get("bytes") not in (None, len(content)):
        raise Failed(f"has {len(content):,} bytes, but {MANIFEST} says {str(recorded['bytes'])[:20]}")
    return content


def unlisted(folder: Path, files: dict) -> list:
    """Files that the manifest doesn't list, in folders where it lists some; of another folder its name alone."""
    listed = {*files, MANIFEST}
    folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(name.count("/") + 1)}
    found = []
    for part in sorted(folders):
        if not (folder / part).is_symlink():  # whose files have failed
            found += [f"{part}/{path.name}".lstrip("/") for path in (folder / part).iterdir()]
    return sorted(set(found) - listed - folders)[:MOST_FILES]


def read_proof(manifest: dict, content: bytes) -> tuple:
    """The images, the network's outputs on them, and PyTorch's float32 error."""
    sizes = [manifest.get(key, 0) for key in ("in_chs", "resolution")]
    if not all(type(size) is int and 0 < size < 1 << 16 for size in sizes) or sizes[0] * sizes[1] ** 2 > MOST_VALUES:
        raise NoVerdict(f"{MANIFEST} has no sizes of images, or too large ones: {str(sizes)[:100]}")
    tensors = read_tensors(content)
    real, expected = tensors.get("real"), tensors.get("expected")
    error = tensors.get("float32_error", np.zeros(1)).ravel()
    if real is None or expected is None or expected.ndim != 2 or not expected.size or len(error) != 1:
        raise NoVerdict(f"{PROOF} has no images and outputs")
    if real.shape != (len(expected) - RANDOM_IMAGES, sizes[0], sizes[1], sizes[1]):
        raise NoVerdict(f"{PROOF} has images {real.shape} with {len(expected)} outputs")
    reason = unusable(expected, float(error[0]))
    if reason:
        raise NoVerdict(f"{PROOF}: {reason}")
    images = np.concatenate([random_images(sizes[0], sizes[1]), real.astype(np.float32)])
    return images, expected.astype(np.float64), float(error[0])


def read_tensors(content: bytes) -> dict:
    """A safetensors file: the length of a JSON header, the header, the values."""
    tensors = {}
    try:
        start = 8 + int.from_bytes(content[:8], "little")
        if start > min(len(content), MOST_JSON):
            raise ValueError
        for name, entry in json.loads(content[8:start]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                if not 0 <= begin <= end <= len(content) - start:
                    raise ValueError
                kind = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
                values = np.frombuffer(content[start + begin : start + end], kind)
                tensors[name] = values.reshape([int(size) for size in entry["shape"]])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise NoVerdict(f"{PROOF} is damaged") from None
    return tensors


def run_listed(name: str, manifest: dict, content: bytes, proof: tuple) -> tuple:
    """What is said of a file that has a format, and whether it was run."""
    recorded = manifest["files"][name]
    kind = str(recorded["format"])
    if kind not in RUNS:
        return f"unchanged; not run here: `ghostnas export verify` runs {printable(kind)}", False
    wanted, package, exact = RUNS[kind]
    if name != wanted:
        raise Failed(f"is said to be {kind}, which is {wanted}")
    images, expected, error = proof
    try:
        got, embedded = {"onnxruntime": run_onnx, "ai-edge-litert": run_litert}[package](content, images)
    except ImportError:
        return f"unchanged; not run: pip install {package}", False
    except Failed:
        raise
    except Exception as problem:  # a runtime fails in its own way on a file that it can't read
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise Failed(f"can't be run: {lines[0][:300]}") from None
    got = np.asarray(got)
    reason = disagreement(expected, got, error, exact) or embedded_difference(embedded, manifest)
    kept = 0.0 if reason else top1_agreement(expected, got, error)
    then = recorded.get("top1_agreement")
    if not exact and not reason:
        reason = drift(kept, float(then) if isinstance(then, (int, float)) else 0.0)
    if reason:
        raise Failed(reason)
    largest = float(np.abs(expected - got).max())
    return f"unchanged; same top-1 class on {kept:.1%} of {len(images)} images, largest difference {largest:.2g}", True


def run_onnx(content: bytes, images: np.ndarray) -> tuple:
    """The outputs, and what the file says of its network."""
    import onnxruntime

    if EXTERNAL in content:
        raise Failed("has weights in other files, which are not read")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: images[k : k + BATCH]})[0] for k in range(0, len(images), BATCH)]
    return np.concatenate(outputs), session.get_modelmeta().custom_metadata_map


def run_litert(content: bytes, images: np.ndarray) -> tuple:
    """The outputs; what the file says of its network is not read."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    first, last = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for image in images:
        interpreter.set_tensor(first, np.ascontiguousarray(image[None].transpose(0, 2, 3, 1)))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(last).copy())
    return np.concatenate(outputs), {}


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
