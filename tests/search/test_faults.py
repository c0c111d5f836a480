"""A disk that is full at the n-th write, whichever it is, and files and folders of another user: one line, what was
there stays, and the next try goes on."""

import ctypes
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ghostnet import GhostNet
from search import cli
from search.engine.backends import backend
from search.engine.log import TrialLog, read_trials
from search.engine.search_plan import SearchPlan
from search.export.export import export
from search.files import JsonLines
from search.latency.runtimes import RUNTIMES
from search.latency.timing import interference as gate
from search.report import report
from search.report.report import write_report
from search.terminal import os_error
from search.training.checkpoint import Checkpoint
from tests.helpers import randomise, small_arch
from tests.search.fake_runtime import FakeRuntime
from tests.search.runs import made_up_run
from tests.search.searches import HEADER, bare, problem


class FullAt:
    """Stands in for `os.fsync`, which every writer of ours calls before its file counts."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, _: int) -> None:
        self.left -= 1
        if self.left <= 0:  # and it stays full
            raise OSError(errno.ENOSPC, "No space left on device")


def until_there_is_room(monkeypatch, work, after_failing, step=1):
    """Does the work with a disk full at its first write, then its second (or `step` later), until it is done; how
    many writes came before the last that failed."""
    for number in range(1, 200, step):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", FullAt(number))
            try:
                work()
                return number - 1
            except OSError as error:
                assert "No space left" in os_error(error) and error.filename and "\n" not in os_error(error)
        after_failing()
    raise AssertionError("never done")


def test_an_export_is_whole_or_absent(tmp_path, monkeypatch):
    net = randomise(GhostNet(small_arch(), 5)).eval()
    images, out = torch.randn(3, 3, 15, 15), tmp_path / "out"
    failed = until_there_is_room(
        monkeypatch,
        lambda: export(net, out, ["safetensors", "onnx"], images),
        lambda: pytest.fail("something is left") if list(tmp_path.iterdir()) else None,
    )
    assert failed >= 5 and (out / "manifest.json").exists()


def test_a_report_of_before_stays_until_the_new_one_is_there(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    page = write_report(folder)
    before = page.read_bytes()

    def unchanged() -> None:
        assert page.read_bytes() == before

    failed = until_there_is_room(monkeypatch, lambda: write_report(folder), unchanged, step=16)
    assert failed >= 5 and page.read_bytes() == before
    assert not list(folder.rglob("*.tmp"))


def test_a_search_on_a_disk_that_fills_up_again_and_again_equals_an_unbroken_one(tmp_path, monkeypatch):
    def search(log) -> None:
        with TrialLog(log, HEADER) as trials:
            backend("optuna")(problem(), trials, SearchPlan(trials=12, population=6))

    search(tmp_path / "unbroken")
    broken = tmp_path / "broken"
    for _ in range(40):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", FullAt(4))
            try:
                search(broken)
                break
            except OSError as error:
                assert os_error(error).startswith(f"{broken}: No space left")
    once, again = (bare(read_trials(log)) for log in (tmp_path / "unbroken", broken))
    assert once == again


RECIPE = """
data = "digits"
threads = 1
train_images = 100
[space]
base = "digits"
widths = [0.25, 0.5]
ratios = [2]
cheap_kernels = [3]
[supernet]
epochs = 1
batch_size = 50
random = 1
probes = 1
checkpoint_seconds = 0
[latency]
runtime = "law"
rounds = 2
fit_networks = 8
held_out = 8
[search]
flops_budget = "500k"
trials = 8
population = 4
[retrain]
epochs = 1
batch_size = 50
chosen = 1
baseline_widths = []
checkpoint_seconds = 0
"""
TRAIN = "train --space small.toml --recipe recipe.toml --out net"
BEGUN = TRAIN.replace("--out net", "--out begun")
LATENCY = "calibrate --space small.toml --runtime law --rounds 2 --fit-networks 8 --networks 8 --out t.lat.json"
SEARCH = "search --supernet net --latency t.lat.json --flops-budget 500k --trials 8 --population 4 --out found"
RETRAIN = "retrain digits:0.25x --recipe recipe.toml --out trained"


class FullAtEachFile:
    """Stands in for `os.fsync`: the first write of every file fails when it is tried first; of a log, which then has a
    torn line, and of a checkpoint also the second one in the next try, the fourth in the one after, and so on. The disk
    stays full until there is `room`."""

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self.room()

    def room(self) -> None:
        self.full, self.written = False, Counter[str]()

    def __call__(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            return
        name = re.sub(r"[0-9a-f]{16}", "", os.readlink(f"/proc/self/fd/{descriptor}"))
        again = name.endswith((".jsonl", ".checkpoint.pt..tmp"))
        if not self.full and (self.written[name] < 2 ** self.failed[name] - 1 if again else self.failed[name]):
            self.written[name] += 1
            return
        self.failed[name] += not self.full
        self.full = True
        os.ftruncate(descriptor, max(0, about.st_size - 3))
        raise OSError(errno.ENOSPC, "No space left on device")


def ghostnas(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    """A command in this process: its exit code and what it says at its end."""
    monkeypatch.setattr(sys, "argv", ["ghostnas", "--quiet", *words])
    code = cli._run()
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return code, message


TIMES = ("seconds", "at_s", "finished", "content_sha256", "latency_tables")  # the last are digests of tables


def contents(folder: Path) -> dict[str, object]:
    """What a folder's files hold but for times: bytes, or JSON without seconds and dates."""

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in TIMES}
        return [*map(timeless, value)] if isinstance(value, list) else value

    result: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not re.search("tfevents|visits|html", p.name)):
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            result[name] = [timeless(row) for row in JsonLines(path)]
        else:
            result[name] = timeless(json.loads(path.read_bytes())) if path.suffix == ".json" else path.read_bytes()
    return result


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder for two runs, of networks whose times follow a law."""
    monkeypatch.setattr(gate, "INITIAL_PROBES_S", 0.0)
    monkeypatch.setitem(RUNTIMES, "law", FakeRuntime)
    monkeypatch.setattr(report, "render", lambda sampled, out: {})  # the figures' files have a test of their own
    for name in ("unbroken", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text(RECIPE)
        (tmp_path / name / "small.toml").write_text(RECIPE[RECIPE.index("[space]") : RECIPE.index("[supernet]")])
    return tmp_path


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="which file is written is told by Linux")
@pytest.mark.parametrize(
    ("commands", "least"),
    [([TRAIN, LATENCY, SEARCH, RETRAIN], 15), (["run recipe.toml --out out"], 25)],
    ids=["each command", "run"],
)
def test_a_disk_that_is_full_at_every_write_costs_a_line_and_nothing_else(commands, least, small, monkeypatch, capsys):
    monkeypatch.chdir(small / "unbroken")
    for command in commands:
        code, message = ghostnas(monkeypatch, capsys, *command.split())
        assert code == 0, message
    monkeypatch.chdir(small / "broken")
    disk = FullAtEachFile()
    monkeypatch.setattr(os, "fsync", disk)
    for command in commands:
        for _ in range(40):
            disk.room()
            code, message = ghostnas(monkeypatch, capsys, *command.split(), "--resume")
            if code == 0:
                break
            assert code == 2 and re.fullmatch(r"ghostnas: \S+: No space left on device; --resume .*\n", message), (
                message
            )
        assert code == 0
    assert disk.failed.total() >= least
    assert contents(small / "broken") == contents(small / "unbroken")


def test_a_disk_that_is_really_full_or_read_only(small, monkeypatch, capsys):
    """A disk of 20 MB in memory, where one can be mounted."""
    monkeypatch.chdir(small / "unbroken")
    assert ghostnas(monkeypatch, capsys, *TRAIN.split())[0] == 0
    disk = small / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        shutil.copytree(small / "broken", disk, dirs_exist_ok=True)
        monkeypatch.chdir(disk)
        with suppress(OSError), (disk / "filler").open("wb") as filler:
            while filler.write(bytes(4096)):
                filler.flush()
        code, message = ghostnas(monkeypatch, capsys, *TRAIN.split())
        assert code == 2 and re.fullmatch(r"ghostnas: \S+: No space left on device; --resume .*\n", message), message
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        code, message = ghostnas(monkeypatch, capsys, *TRAIN.split(), "--resume")
        assert code == 2 and re.fullmatch(r"ghostnas: .*(Read-only file system|can be written to.*)\n", message), (
            message
        )
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert ghostnas(monkeypatch, capsys, *TRAIN.split(), "--resume")[0] == 0
        assert contents(disk) == contents(small / "unbroken")
    finally:
        monkeypatch.chdir(small)
        subprocess.run(["umount", disk], check=True)


@contextmanager
def closed(path: Path, mode: int = 0) -> Iterator[None]:
    """A file or folder that gives this process no more than `mode`, as another user's; also where the process is root,
    to whom the system shows everything but for two capabilities."""
    before, system = path.stat().st_mode, ctypes.CDLL(None)
    header, known, less = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    path.chmod(mode)
    try:
        if os.geteuid() == 0:
            assert system.capget(header, known) == 0
            less[:] = known[:]
            less[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH are not effective
            assert system.capset(header, less) == 0
        yield
    finally:
        if os.geteuid() == 0:
            system.capset(header, known)
        path.chmod(before)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


IMAGES = "--space small.toml --recipe recipe.toml --data imagefolder:pictures --out new"
SHARDS = "--space small.toml --recipe recipe.toml --data parquet:shards --out new"
EXPORT = "export trained --weights trained/weights.safetensors --to onnx,safetensors --out"
ELSEWHERE = SEARCH.replace("--out found", "--out new")
NOT_READABLE = [
    ("recipe.toml", "run recipe.toml --out new"),
    ("small.toml", "space small.toml"),
    ("small.toml", f"{TRAIN}er"),
    ("pictures", f"train {IMAGES}"),
    ("pictures/train/b", f"train {IMAGES}"),
    ("pictures/train/b/deeper", f"train {IMAGES}"),
    ("pictures/test/a/3.png", f"train {IMAGES}"),
    ("shards", f"train {SHARDS}"),
    ("shards/more", f"train {SHARDS}"),
    ("net", f"{TRAIN} --resume"),
    ("net", ELSEWHERE),
    ("begun/checkpoint.pt", f"{BEGUN} --resume"),
    ("begun/previous-checkpoint.pt", f"{BEGUN} --resume"),
    ("net/supernet.json", ELSEWHERE),
    ("net/supernet.safetensors", ELSEWHERE),
    ("t.lat.json", ELSEWHERE),
    ("t.lat.json", "cost digits:0.25x --latency t.lat.json"),
    ("found", f"{SEARCH} --resume"),
    ("found/trials.jsonl", f"{SEARCH} --resume"),
    ("trained/trained.json", f"{RETRAIN} --resume"),
    ("trained/arch.json", "cost trained"),
    ("trained/weights.safetensors", f"{EXPORT} new"),
    ("exported/manifest.json", "export verify exported"),
    ("exported/model.onnx", "export verify exported"),
    ("run/run.json", "report run"),
    ("run/search", "report run"),
    ("run/networks/A", "report run"),
    ("run/report", "report run"),
]
NOT_WRITABLE = [
    (".", f"{TRAIN}er"),
    (".", f"{TRAIN}er/inside"),
    (".", ELSEWHERE),
    (".", LATENCY.replace("t.lat", "new.lat")),
    (".", f"{RETRAIN}er"),
    (".", f"{EXPORT} new"),
    (".", "run recipe.toml"),
    (".", "init pictures --size 32 --flops-budget 1M"),
    ("net", f"{TRAIN} --resume"),
    ("found", f"{SEARCH} --resume"),
    ("run", "run recipe.toml --out run --resume"),
    ("run/report", "report run"),
]


def killed_training(monkeypatch, capsys) -> None:
    """What a training that is killed at its end leaves: two checkpoints."""
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "remove", lambda _: None)
        code, message = ghostnas(monkeypatch, capsys, *BEGUN.split())
    assert code == 0, message
    Path("begun/supernet.json").unlink()
    assert Path("begun/previous-checkpoint.pt").exists()


def test_what_belongs_to_another_user_costs_a_line_and_nothing_else(small, monkeypatch, capsys):
    monkeypatch.chdir(small / "unbroken")
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b/deeper", "test/a", "test/b"):
        Path("pictures", name).mkdir(parents=True)
        for k in range(30):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path("pictures", name, f"{k}.png"))
    for name in ("all/train-0.parquet", "more/train-1.parquet", "all/test-0.parquet"):
        Path("shards", name).parent.mkdir(parents=True, exist_ok=True)
        Path("shards", name).touch()
    made_up_run(Path("run"))
    for command in (TRAIN, LATENCY, SEARCH, RETRAIN, f"{EXPORT} exported", "report run"):
        code, message = ghostnas(monkeypatch, capsys, *command.split())
        assert code == 0, message
    killed_training(monkeypatch, capsys)
    Path("begun/checkpoint.pt").write_bytes(b"damaged")
    before = everything(Path())
    for mode, cases in ((0, NOT_READABLE), (0o555, NOT_WRITABLE)):
        for name, command in cases:
            with closed(Path(name), mode):
                code, message = ghostnas(monkeypatch, capsys, *command.split())
            assert code == 2 and message.count("\n") == 1, (name, command, message)
            assert re.search("Permission denied|can be written to", message) and Path(name).name in message, message
            assert everything(Path()) == before, (name, command)


def test_a_run_whose_folders_belong_to_another_user_goes_on_once_they_are_given(small, monkeypatch, capsys):
    monkeypatch.chdir(small / "unbroken")
    assert ghostnas(monkeypatch, capsys, *["run", "recipe.toml", "--out", "out"])[0] == 0
    monkeypatch.chdir(small / "broken")
    stages = ("supernet", "latency", "search", "networks", "export", "report")
    for stage in stages:
        Path("out", stage).mkdir(parents=True)
    shutil.copy(small / "unbroken/out/run.json", "out")
    for stage in stages:
        with closed(Path("out", stage), 0o555):
            code, message = ghostnas(monkeypatch, capsys, *["run", "recipe.toml", "--out", "out", "--resume"])
        assert code == 2 and re.fullmatch(rf"ghostnas: \S*out/{stage}\S*: Permission denied\n", message), message
    assert ghostnas(monkeypatch, capsys, *["run", "recipe.toml", "--out", "out", "--resume"])[0] == 0
    assert contents(small / "broken") == contents(small / "unbroken")
