"""A whole run on a cluster of two machines with disks of their own, one of which is killed in every stage.

    python -m tests.cluster --times 3

Some minutes each; as root on Linux, where a process can be given a disk of its own. What of it needs no cluster is
tested in `tests/search/parallel/test_folders.py`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import search
from search.engine.trial import COMPLETE
from search.files import glob
from search.parallel import folders
from search.recipes.schema import parse_recipe
from search.run_folder.run import SUPERNET, TRIALS, final_supernet, trained_parent
from search.training.records import PARENT

STAGES = ["train", "search", "retrain"]
RECIPE = """
data = "digits"
train_images = 160
[space]
base = "digits"
widths = [0.25, 0.5]
[supernet]
kind = "transplant"
epochs = 12
batch_size = 32
images = 64
checkpoint_seconds = 0
[latency]
rounds = 2
fit_networks = 8
held_out = 8
minutes = 0.05
[search]
flops_budget = "500k"
trials = 12
population = 4
[retrain]
epochs = 40
batch_size = 32
checkpoint_seconds = 0
use_held_out = true
chosen = 2
"""


def can_hide() -> bool:
    """Whether this user may give a process a disk of its own."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


class Machine:
    """A node of a cluster that sees none of a folder."""

    def __init__(self, address: str, hidden: Path) -> None:
        start = f"{sys.executable} -m ray.scripts.scripts start --address={address} --num-cpus=2 --block"
        # A node has half a minute to join, which a busy machine can miss.
        script = f"mount -t tmpfs none '{hidden}' && cd '{hidden}' && until {start}; do sleep 1; done"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--fork", "--kill-child", "--pid", "--mount-proc", "sh", "-c", script],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def has_begun(stage: str, out: Path) -> bool:
    """Whether something of a stage has come back."""
    if stage == "train":
        return (out / "supernet/parent/checkpoint.pt").exists()
    if stage == "search":
        return (out / TRIALS).exists() and len((out / TRIALS).read_bytes().splitlines()) > 2
    return bool(glob(out, "networks/*/checkpoint.pt"))


def run_and_kill(home: Path) -> list[str]:
    """Runs everything in a folder that the machines don't see. Returns what isn't as it should be."""
    out, killed = home / "run", list[str]()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    machines = [Machine(cluster.address, home) for _ in range(2)]

    def kill_in_every_stage() -> None:
        for stage in STAGES:
            while not has_begun(stage, out):
                time.sleep(0.05)
            machines.pop(0).kill()
            killed.append(stage)
            machines.append(Machine(cluster.address, home))

    threading.Thread(target=kill_in_every_stage, daemon=True).start()
    try:
        summary = search.run_recipe(parse_recipe(RECIPE, "spread"), out, workers=2, address=cluster.address)
    finally:
        ray.shutdown()
        for machine in machines:
            machine.kill()
        cluster.shutdown()
    wrong = [] if killed == STAGES else [f"killed in {killed}"]
    evaluated = sum(trial.state == COMPLETE for trial in summary.trials)
    if evaluated != 12 or summary.left_out:
        wrong.append(f"{evaluated} networks evaluated, not exported: {summary.left_out}")
    for file in glob(out, "networks/*/trained.json"):
        trained = search.TrainedMetadata.model_validate_json(file.read_bytes())
        if not trained.training.steps == trained.training.planned_steps > 0:
            wrong.append(f"{file.parent.name} had {trained.training.steps} of {trained.training.planned_steps} steps")
        begin, teacher = final_supernet(out), f"supernet:{final_supernet(out)}"
        if file.parent == trained_parent(out):  # trained again before the others, by nobody
            begin, teacher = out / SUPERNET / PARENT, None
        if (trained.init, trained.teacher) != (str(begin), teacher):
            wrong.append(f"{file.parent.name} begins with {trained.init} and learns from {trained.teacher}")
    left = [path.name for path in out.rglob("*") if path.name.startswith(folders.MARK) or "checkpoint" in path.name]
    return [*wrong, *(f"{name} is left" for name in left)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=1)
    arguments = parser.parse_args()
    if not can_hide():
        print("this user can't give a process a disk of its own", file=sys.stderr)
        return 2
    failed = False
    for number in range(arguments.times):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as home:
            wrong = run_and_kill(Path(home))
        print(
            f"run {number + 1}: {'; '.join(wrong) or 'as it should be'}, {time.monotonic() - started:.0f} s", flush=True
        )
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
