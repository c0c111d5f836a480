"""Fidelity of several supernets, against the same fully trained networks: CIFAR-10 at 16 x 16, the `digits` space.

From the repository's root, the first two side by side if there are two cores; each goes on where it was stopped. With a
GPU: `--device cuda --space cifar --images 45000 --epochs 60 --supernet-epochs 120` in all three.

    python results/fidelity/make.py networks --data parquet:../shared/data/cifar10
    python results/fidelity/make.py supernets --data parquet:../shared/data/cifar10
    python results/fidelity/make.py report --data parquet:../shared/data/cifar10
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from per_ratio import PerRatioNormSupernet
from scipy.stats import kendalltau
from slots import SlotSupernet
from unscaled import UnscaledPerRatioSupernet, UnscaledSupernet

from ghostnet.arch import Arch
from ghostnet.supernet import Supernet
from search.data import Data, Split, load
from search.evaluate import InheritedAccuracy
from search.files import read_json, write_bytes, write_json, write_text
from search.recipe import SupernetTraining, Training
from search.training.fidelity import PLAN, RESULT, agreement, fidelity, plan, trainings
from search.training.retrain import CARD as NETWORK_CARD
from search.training.retrain import retrain
from search.training.sandwich import CARD, load_supernet, space_for, train_supernet
from spaces.space import Space

HERE = Path(__file__).parent
SEED = 0
RESAMPLES = 2000
JUDGES = 10_000  # images by which inherited accuracies are measured, where so many are left
FULL: dict[str, Any] = {"batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, "warmup_epochs": 1}
BASE: dict[str, Any] = {"batch_size": 64, "lr": 0.1, "weight_decay": 5e-5, "warmup_epochs": 1, "random": 2}
BASE |= {"draws": "uniform"}
LONG, SHORT = {"epochs": 4.0, "images": 1.0}, {"epochs": 0.4, "images": 2.0}  # times the arguments' figures
# Name: what it is, how long, changes to the recipe, how weights are shared.
SUPERNETS: dict[str, tuple[str, dict[str, float], dict[str, Any], type[Supernet]]] = {
    "long": ("by position, sandwich of four, in-place KL", LONG, {}, Supernet),
    "long-unscaled": ("nothing scaled where no norm follows", LONG, {}, UnscaledSupernet),
    "short": ("as `long`, a fifth of the steps", SHORT, {}, Supernet),
    "slots": ("hidden channels and cheap filters shared by slot", SHORT, {}, SlotSupernet),
    "labels": ("the smaller networks learn from the labels", SHORT, {"divergence": "labels"}, Supernet),
    "fair": ("a step's random networks differ in every gene", SHORT, {"draws": "fair"}, Supernet),
    "even": ("random networks drawn evenly over multiply-adds", SHORT, {"draws": "even"}, Supernet),
    "norms": ("norms of their own for each ratio", SHORT, {}, PerRatioNormSupernet),
    "alpha": ("clipped alpha-divergence in place of KL", SHORT, {"divergence": "alpha"}, Supernet),
    "slots-labels": ("`slots` and `labels` together", SHORT, {"divergence": "labels"}, SlotSupernet),
    "short-unscaled": ("nothing scaled where no norm follows", SHORT, {}, UnscaledSupernet),
    "gentle": ("unscaled, a fifth of the learning rate", SHORT, {"lr": 0.02}, UnscaledSupernet),
    "ratios": ("unscaled, Ghost weights of their own for each ratio", SHORT, {}, UnscaledPerRatioSupernet),
}


def planned(space: Space, arguments: argparse.Namespace) -> dict[str, Arch]:
    """The published study's networks, or for another space new ones, written into the work folder."""
    path = arguments.work / PLAN
    if not path.exists() and (space.name, arguments.count) == ("digits", 24):
        write_bytes(path, (HERE / PLAN).read_bytes())
    return plan(space, arguments.count, SEED, path)


def train_networks(space: Space, data: Data, arguments: argparse.Namespace) -> None:
    config, archs = Training(epochs=arguments.epochs, **FULL), planned(space, arguments)
    trained_before(archs, arguments)
    for name, arch in archs.items():
        for job in trainings(name, arch, arguments.work / "networks" / name, SEED, arguments.seeds):
            retrain(arch, data, config, job.out, seed=job.seed, device=torch.device(arguments.device))


def train_supernets(space: Space, data: Data, arguments: argparse.Namespace) -> None:
    for name in arguments.only or SUPERNETS:
        _, long, changes, kind = SUPERNETS[name]
        config = SupernetTraining(**(BASE | {"epochs": long["epochs"] * arguments.supernet_epochs} | changes))
        out, device = arguments.work / name, torch.device(arguments.device)
        its_data = seen(data, space, long["images"], arguments)
        train_supernet(space, its_data, config, out, seed=SEED, device=device, kind=kind)


def seen(data: Data, space: Space, times: float, arguments: argparse.Namespace) -> Data:
    """The data with so many times the training images."""
    return data if times == 1 else load(arguments.data, space.resolution, round(times * arguments.images))


def judging(data: Data, space: Space, arguments: argparse.Namespace) -> Data:
    """The data with a larger search split, of training images that no supernet has seen: 2,500 rank like networks by
    luck."""
    rest = load(arguments.data, space.resolution).train
    assert isinstance(rest, Split)
    shown = round(max(long["images"] for _, long, _, _ in SUPERNETS.values()) * arguments.images)
    unseen = Split(rest.images[shown:][:JUDGES].clone(), rest.labels[shown:][:JUDGES])
    return replace(data, search=unseen) if len(unseen) > len(data.search) else data


def trained_before(archs: dict[str, Arch], arguments: argparse.Namespace) -> None:
    """Networks that were fully trained for the published study needn't be again: their accuracies stand there."""
    published = next((read_json(path) for path in sorted(HERE.glob(f"*/{RESULT}"))), None)
    if published is None or published["training"]["epochs"] != arguments.epochs:
        return
    config = Training(epochs=arguments.epochs, **FULL).model_dump(mode="json")
    for row in published["networks"]:
        if row["arch"] not in archs:
            continue
        jobs = trainings(row["arch"], archs[row["arch"]], arguments.work / "networks" / row["arch"], SEED, 99)
        for job, accuracy in zip(jobs, row.get("trained_by_seed", [row["trained"]]), strict=False):
            if not (job.out / NETWORK_CARD).exists():
                write_json(job.out / NETWORK_CARD, {"config": config, "seed": job.seed, "test_accuracy": accuracy})


def report(space: Space, data: Data, arguments: argparse.Namespace) -> None:
    from search.delivery.fidelity import write_page

    found, archs = {}, planned(space, arguments)
    trained_before(archs, arguments)
    data = judging(data, space, arguments)
    for name, (about, long, _, kind) in SUPERNETS.items():
        folder, published = arguments.work / name, arguments.out / name / RESULT
        if not (folder / CARD).exists():
            if published.exists():
                found[name] = ranked_anew(read_json(published), archs, arguments)
                write_json(published, found[name])
                write_page(found[name], arguments.out / name)
            continue
        its_data = replace(data, train=seen(data, space, long["images"], arguments).train)
        write_json(folder / "fidelity" / PLAN, {name: arch.to_dict() for name, arch in archs.items()})
        result = fidelity(
            lambda folder=folder, kind=kind: load_supernet(folder, kind),
            space,
            its_data,
            Training(epochs=arguments.epochs, **FULL),
            folder / "fidelity",
            count=arguments.count,
            bins=4,
            seed=SEED,
            seeds=arguments.seeds,
            device=torch.device(arguments.device),
            trained=arguments.work / "networks",
        )
        trained = read_json(folder / CARD)["training"]
        evaluate = InheritedAccuracy(load_supernet(folder, kind).to(arguments.device), its_data)
        ends = {"largest": evaluate(space.largest), "smallest": evaluate(space.smallest)}
        found[name] = {"about": about, "supernet": trained | ends, **result}
        write_json(arguments.out / name / RESULT, found[name])
        write_page(found[name], arguments.out / name)
    write_text(arguments.out / "README.md", page(found, space))


def ranked_anew(found: dict[str, Any], archs: dict[str, Arch], arguments: argparse.Namespace) -> dict[str, Any]:
    """A published study against the full trainings that there are by now."""
    rows = []
    for row in found["networks"]:
        jobs = trainings(
            row["arch"], archs[row["arch"]], arguments.work / "networks" / row["arch"], SEED, arguments.seeds
        )
        by_seed = [read_json(job.out / NETWORK_CARD)["test_accuracy"] for job in jobs]
        rows.append(row | {"trained": float(np.mean(by_seed)), "trained_by_seed": by_seed})
    return found | {"seeds": arguments.seeds, **agreement(rows, 4, found["test_images"], SEED), "networks": rows}


def page(found: dict[str, Any], space: Space) -> str:
    """All supernets side by side."""
    rows = []
    for name, r in found.items():
        cost = f"{r['supernet']['epochs']:g} epochs of {r['training_images']:,}"
        ends = f"{r['supernet']['smallest']:.1%}, {r['supernet']['largest']:.1%}"
        values = np.array([net["inherited"] for net in r["networks"]])
        error = (values * (1 - values) / r["search_images"]).mean() ** 0.5
        spread = f"{100 * values.std():.2f}, {100 * error:.2f}"
        about = SUPERNETS[name][0]
        rows.append(
            f"| [{name}]({name}/fidelity.md) | {about} | {cost} | {ends} | {spread} | {ranged(r, 'kendall_tau')} "
            f"| {'' if name == 'short' else over(r, found['short'])} | {ranged(r, 'tau_within_bins')} "
            f"| {100 * r['mean_regret']:.2f} |"
        )
    first = next(iter(found.values()))
    return PAGE.format(
        judged=judged(found),
        tuned=tuned(first),
        count=len(first["networks"]),
        space=space.name,
        side=space.resolution,
        epochs=first["training"]["epochs"],
        images=first["training_images"],
        seeds=first["seeds"],
        seeds_say=between_seeds(first),
        ceiling=first["ceiling_tau"],
        ceiling_within=first["ceiling_within_bins"],
        macs=first["macs_tau"],
        macs_within=first["macs_within_bins"],
        random=100 * first["mean_regret_of_a_random_pick"],
        rows="\n".join(rows),
        conflict=conflict(),
    )


def over(found: dict[str, Any], other: dict[str, Any]) -> str:
    """The gain in tau over another supernet, with its 95 % interval by drawing the same networks for both."""
    theirs = {net["arch"]: net["inherited"] for net in other["networks"]}
    x, rival, y = np.array([(net["inherited"], theirs[net["arch"]], net["trained"]) for net in found["networks"]]).T

    def gain(pick: Any) -> float:
        return kendalltau(x[pick], y[pick]).statistic - kendalltau(rival[pick], y[pick]).statistic

    picks = np.random.default_rng(SEED).integers(len(y), size=(RESAMPLES, len(y)))
    low, high = np.quantile([gain(pick) for pick in picks], (0.025, 0.975))
    return f"{gain(slice(None)):+.2f} ({low:+.2f} to {high:+.2f})"


def conflict() -> str:
    """Rows of what `conflict.py` found."""
    losses = read_json(HERE / "conflict.json")["loss"]
    return "\n".join(f"| {name} | {each['largest']:.3f} | {each['smallest']:.3f} |" for name, each in losses.items())


def between_seeds(found: dict[str, Any]) -> str:
    """How far full training agrees with itself."""
    if found["seeds"] == 1:
        return (
            "Trained by one seed, so that the test images' scatter is counted below and the seeds' is not: every "
            "ceiling is too high.\n"
        )
    deviation = 100 * np.mean([np.var(net["trained_by_seed"], ddof=1) for net in found["networks"]]) ** 0.5
    return (
        f"From seed to seed a network's accuracy differs by {deviation:.1f} points (standard deviation), so one seed "
        f"ranks the networks\nas another does to tau {found['seed_tau']:.2f} only.\n"
    )


def tuned(found: dict[str, Any]) -> str:
    """Rows of what `tuned.py` found, against the full trainings of a study."""
    said = read_json(HERE / "tuned.json")
    names = {"fresh": "fresh weights"} | {name: f"`{name}`'s weights" for name in said["accuracy"] if name != "fresh"}
    rows = []
    for name, accuracies in said["accuracy"].items():
        nets = [row | {"inherited": accuracies[row["arch"]]} for row in found["networks"]]
        r = agreement(nets, 4, found["test_images"], SEED)
        values = 100 * np.array([net["inherited"] for net in nets])
        rows.append(
            f"| {names[name]} | {values.min():.1f}% to {values.max():.1f}% | {ranged(r, 'kendall_tau')} "
            f"| {ranged(r, 'tau_within_bins')} | {100 * r['mean_regret']:.2f} |"
        )
    return "\n".join(rows)


def judged(found: dict[str, Any]) -> str:
    """Rows of what `judged.py` found, beside the accuracies of the same networks."""
    rows = []
    for name, losses in read_json(HERE / "judged.json")["loss"].items():
        nets = [row | {"inherited": -losses[row["arch"]]} for row in found[name]["networks"]]
        r, by_accuracy = agreement(nets, 4, found[name]["test_images"], SEED), found[name]
        rows.append(
            f"| `{name}` | {by_accuracy['kendall_tau']:.2f} | {ranged(r, 'kendall_tau')} "
            f"| {by_accuracy['tau_within_bins']:.2f} | {ranged(r, 'tau_within_bins')} "
            f"| {100 * by_accuracy['mean_regret']:.2f} | {100 * r['mean_regret']:.2f} |"
        )
    return "\n".join(rows)


def ranged(result: dict[str, Any], key: str) -> str:
    """A figure with its interval."""
    low, high = result[f"{key}_95"]
    return f"{result[key]:.2f} ({low:.2f} to {high:.2f})"


PAGE = """# Does the supernet rank networks as full training does?

CIFAR-10 at {side} x {side}, space `{space}`; {count} networks spread over multiply-adds, each trained fully on
{images:,} images for {epochs:g} epochs by {seeds} seed(s), each tested once on 10,000. The same networks for every
supernet; 95 % intervals by bootstrap over networks. *Within bins*: pairs of networks of like MACs alone (four bins).
*Regret*: points of accuracy lost by taking a bin's best by inherited accuracy; a random pick loses {random:.2f}.

| supernet | | training | smallest, largest | spread, error | Kendall tau | over `short` | tau within bins | regret |
|---|---|---|---|---|---|---|---|---|
{rows}

*Smallest, largest*: inherited accuracy of the space's ends. *Spread, error*: standard deviation of the networks'
inherited accuracies, and the standard error of one, in points: where the first is no larger than the second, the
ranking is noise. The unscaled supernets were judged by 2,500 images, the others by 10,000 that none was trained on.
*Over `short`*: the gain in tau over the plainest of the short trainings, the same networks drawn for both.

{seeds_say}To know each network's expected accuracy would reach tau {ceiling:.2f}, and {ceiling_within:.2f} within bins;
MACs alone reach {macs:.2f}, and {macs_within:.2f} within bins.

## Judged by the loss

The same supernets and networks, ranked by the mean cross-entropy on the same images instead:

| supernet | tau by accuracy | by loss | within bins by accuracy | by loss | regret by accuracy | by loss |
|---|---|---|---|---|---|---|
{judged}

## After an epoch of its own

Each network trained for one epoch (156 steps) before it is judged, from a supernet's weights or from fresh ones:

| from | accuracies | Kendall tau | tau within bins | regret |
|---|---|---|---|---|
{tuned}

## What gets in the way

The loss of the largest and the smallest network after 400 steps of a sandwich in which the two random networks are free
in some choices only, and the largest in all others:

| free | loss of the largest | of the smallest |
|---|---|---|
{conflict}

Where SE stands costs the others nothing. One number, the width of the tail, used to cost more than all stages' widths
together: behind the head's convolution stands no norm, so that a sum over a quarter of the channels is a quarter as
large, and each width asked the same weights for another size. Since such slices are scaled by their share of the
channels, it costs a quarter of that. What is left comes from the stages' widths, and from what a channel means under
another ratio. One seed each.

## What to take from it

- The goal, a tau of .8, is what a perfect estimator would reach here: {seeds} seeds of ten epochs say no more exactly
  which network is better. No supernet comes near, and none ranks as well as multiply-adds do. Two cores don't train a
  supernet far enough; whether a longer training does is for a GPU to say (the command stands at the top of `make.py`).
- Which networks a step draws matters most. Drawn evenly over multiply-adds (`even`) instead of uniformly, the same
  number of steps ranks better by an interval that leaves zero out, and as well as the longest trainings do, at no cost
  to the ends. It is the default. It is also the best of twelve, each trained once, so expect less of it than shown.
- Everything else at that number of steps is within chance of the plain training: sharing by slot, norms for each ratio,
  labels in place of the largest network's predictions, another divergence. So weights are shared by position, and norms
  by all; sharing by slot and norms for each ratio point the right way, and deserve a longer training.
- What eases training need not help ranking. Scaling where no norm follows mends the losses above and the accuracy of
  the ends; the unscaled supernets rank better all the same, by .2 at both lengths, which is within chance each time.
- The loss on the same images ranks about as accuracy does, a little better inside bins.
- An epoch of a network's own, from inherited weights or from fresh ones, says more than inherited weights alone do, and
  costs a tenth of its full training.

Made by `make.py`, `judged.py`, `tuned.py` and `conflict.py` beside this page, in the order that they say.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("networks", "supernets", "report"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=SUPERNETS, help="which supernets to train")
    parser.add_argument("--space", default="digits")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=1, help="full trainings of each network")
    parser.add_argument("--supernet-epochs", type=float, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("results/work-fidelity"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = space_for(arguments.space, 10, 3)
    data = load(arguments.data, space.resolution, arguments.images)
    {"networks": train_networks, "supernets": train_supernets, "report": report}[arguments.part](space, data, arguments)


if __name__ == "__main__":
    main()
