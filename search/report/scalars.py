"""Training curves, read from what TensorBoard was written."""

from pathlib import Path

from search.files import glob
from search.progress import best_effort
from search.run_folder.run import NETWORKS, SUPERNET
from search.training.records import PARENT

Curve = list[tuple[int, float]]  # step, value


def read_scalars(folder: Path) -> dict[str, Curve]:
    """The curves in a folder of event files, by name; none where there is no folder, or no TensorBoard to read it."""
    if not folder.is_dir():
        return {}
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
    except ModuleNotFoundError:
        return {}
    with best_effort(f"the training curves in {folder}"):
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 1000}).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return {}


def run_scalars(folder: Path) -> dict[str, dict[str, Curve]]:
    """The curves of a run: of its supernet, and of every network that was trained fully."""
    folders = {"supernet": folder / SUPERNET, "parent": folder / SUPERNET / PARENT}
    folders |= {path.name: path for path in glob(folder / NETWORKS, "*") if path.is_dir()}
    scalars = {name: read_scalars(path / "tensorboard") for name, path in folders.items()}
    return {name: curves for name, curves in scalars.items() if curves}
