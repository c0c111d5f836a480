"""The CIFAR-10 study's answer, from a finished run's folder: study.json, README.md, front.png and .svg.

From the repository's root (the run goes on where it was stopped with `--resume`; `--minutes` cuts it short):

    ghostnas run cifar10-small --data parquet:../shared/data/cifar10 --out results/cifar10-small
    python results/cifar10/make.py --run results/cifar10-small
"""

import argparse
from collections.abc import Callable, Iterable
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import headline, page, put_between

from ghostnet.arch import Arch
from search.correction import Correction, left_out
from search.delivery.fidelity import scatter
from search.delivery.figures import fronts, png, svg
from search.delivery.sensitivity import effects
from search.delivery.summary import Network, Summary, summarise
from search.engine.budgets import parse_windows
from search.engine.front import front, hypervolume
from search.files import read_json, write_bytes, write_json, write_text
from search.latency.table import describe
from search.run_folder import FIDELITY, SUPERNET

HERE = Path(__file__).parent
RESAMPLES = 2000
Floats = NDArray[np.float64]
Drawn = dict[str, float]  # accuracy of each network, of one resampling of its seeds


def resampled(networks: list[Network], rng: np.random.Generator) -> list[Drawn]:
    """Mean accuracies of every network as they came, then with its seeds drawn anew."""
    draws = [{n.name: n.accuracy for n in networks}]
    for _ in range(RESAMPLES):
        draws.append({n.name: float(rng.choice(n.accuracies, len(n.accuracies)).mean()) for n in networks})
    return draws


def interval(draws: list[Drawn], statistic: Callable[[Drawn], float]) -> dict[str, float] | None:
    """A figure with its 95 % interval over seeds; None where there is none."""
    value, *others = (statistic(draw) for draw in draws)
    if not np.isfinite(value):
        return None
    low, high = np.nanpercentile(others, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def curve(family: list[Network], key: str, draw: Drawn, at: float) -> float:
    """The accuracy that the family has where its `key` (measured_ms or macs) is `at`: straight between those of its
    networks that no cheaper one beats, on a logarithmic axis; nan below the cheapest."""
    points: list[tuple[float, float]] = []
    for x, y in sorted((float(np.log(getattr(n, key))), draw[n.name]) for n in family):
        if not points or y > points[-1][1]:
            points.append((x, y))
    x, y = np.array(points).T
    return float(np.interp(np.log(at), x, y, left=np.nan))


def latency_of(family: list[Network], draw: Drawn, accuracy: float) -> float:
    """The least latency at which the family reaches an accuracy, on the same lines; nan where it never does."""
    points = sorted((np.log(n.measured_ms or np.nan), draw[n.name]) for n in family)
    if points[0][1] >= accuracy:
        return float(np.exp(points[0][0]))
    for (x, y), (next_x, next_y) in pairwise(points):
        if next_y >= accuracy:
            return float(np.exp(x + (next_x - x) * (accuracy - y) / (next_y - y)))
    return float("nan")


def volume(networks: list[Network], draw: Drawn, worst_ms: float) -> float:
    points = [{"accuracy": draw[n.name], "latency_ms": n.measured_ms} for n in networks]
    return hypervolume(points, worst_ms)


def against(n: Network, family: list[Network], luck: Network | None, draws: list[Drawn], budget: str) -> dict[str, Any]:
    """One found network beside the family, and beside a random one of its multiply-adds."""
    at = n.measured_ms or float("nan")
    return {
        "network": n.name,
        "budget": budget,
        "points_at_equal_latency": interval(draws, lambda d: gain(n, family, "measured_ms", d)),
        "points_at_equal_macs": interval(draws, lambda d: gain(n, family, "macs", d)),
        "latency_saved_at_equal_accuracy": interval(draws, lambda d: 1 - at / latency_of(family, d, d[n.name])),
        "points_over_a_random_network": luck and interval(draws, lambda d: 100 * (d[n.name] - d[luck.name])),
        "its_latency_of_the_random_one": luck and at / (luck.measured_ms or float("nan")),
    }


def gain(n: Network, family: list[Network], key: str, draw: Drawn) -> float:
    """Points of accuracy over the family at an equal `key`."""
    return 100 * (draw[n.name] - curve(family, key, draw, getattr(n, key)))


def answer(summary: Summary) -> dict[str, Any]:
    """Found against the family against luck."""
    kinds = {kind: [n for n in summary.networks if n.kind == kind] for kind in ("chosen", "family", "random")}
    chosen, family, drawn = kinds.values()
    draws = resampled(summary.networks, np.random.default_rng(0))
    worst = 1.05 * max(n.measured_ms or 0.0 for n in summary.networks)
    pairs = list(zip(chosen, drawn, strict=False))
    return {
        "found": [
            against(n, family, luck, draws, tightest(n, summary.recipe["search"]["flops_budget"]))
            for n, luck in zip_longest(chosen, drawn[: len(chosen)], fillvalue=None)
            if n
        ],
        "mean_points_at_equal_latency": interval(
            draws, lambda d: mean(gain(n, family, "measured_ms", d) for n in chosen)
        ),
        "mean_points_at_equal_macs": interval(draws, lambda d: mean(gain(n, family, "macs", d) for n in chosen)),
        "mean_points_over_random": interval(draws, lambda d: mean(100 * (d[n.name] - d[r.name]) for n, r in pairs)),
        "hypervolume": {kind: volume_of(of, draws, worst) for kind, of in kinds.items() if of}
        | {"corner": {"accuracy": 0.0, "latency_ms": worst}},
    }


def tightest(n: Network, budgets: str) -> str:
    """The first of the budgets, from the tightest on, that admits a network."""
    return next(
        words for words, w in sorted(parse_windows(budgets).items(), key=lambda b: b[1].high) if n.macs <= w.high
    )


def mean(values: Iterable[float]) -> float:
    """Of those that exist; not-a-number of none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def volume_of(networks: list[Network], draws: list[Drawn], worst_ms: float) -> dict[str, float] | None:
    return interval(draws, lambda d: volume(networks, d, worst_ms))


def fidelity(summary: Summary) -> dict[str, Any]:
    """Does the supernet rank the fully trained networks? Their mean accuracy over seeds, with networks drawn anew."""
    from scipy.stats import kendalltau, spearmanr

    nets = [n for n in summary.networks if n.inherited is not None]
    said, trained = (np.array([getattr(n, key) for n in nets]) for key in ("inherited", "accuracy"))
    macs = np.array([n.macs for n in nets])
    rng = np.random.default_rng(0)
    picks = rng.integers(len(nets), size=(RESAMPLES, len(nets)))
    taus = [kendalltau(said[pick], trained[pick]).statistic for pick in picks]
    halves = [
        kendalltau(*np.array([rng.permutation(n.accuracies)[:2] for n in nets]).T).statistic
        for _ in range(200)
        if min(len(n.accuracies) for n in nets) > 1
    ]
    return {
        "networks": len(nets),
        "kendall_tau": float(kendalltau(said, trained).statistic),
        "kendall_tau_95": [float(v) for v in np.nanpercentile(taus, [2.5, 97.5])],
        "spearman": float(spearmanr(said, trained).statistic),
        "macs_tau": float(kendalltau(macs, trained).statistic),
        "one_seed_against_another_tau": float(np.mean(halves)) if halves else None,
    }


def judged(summary: Summary) -> dict[str, Any] | None:
    """The full trainings before the search: how the supernet and its correction ranked them, and what the networks
    that the supernet alone would have chosen came to; None where the run has none."""
    file = summary.folder / FIDELITY
    if not file.exists() or summary.predict is None:
        return None
    found = read_json(file)
    rows = found["networks"]
    first = [row for row in rows if row["kind"] == "front"]
    latency = summary.predict(np.array([row["code"] for row in first])).latency_ms if first else []
    even = [row for row in rows if row["kind"] == "spread"]
    correct = Correction.load(file, summary.folder / SUPERNET)
    chosen = [n for n in summary.networks if n.chosen]
    corner = 1.05 * max([*(n.predicted_ms or 0.0 for n in chosen), *latency])
    alone = [{"accuracy": r["trained"], "latency_ms": ms} for r, ms in zip(first, latency, strict=True)]
    now = [{"accuracy": n.accuracy, "latency_ms": n.predicted_ms} for n in chosen]
    tested = [n for n in summary.networks if n.inherited is not None and n.arch.id not in {row["arch"] for row in rows}]
    bare = left_out(summary.space, rows, without="mean log width")
    said = [correct(n.arch, n.inherited or 0.0) for n in tested]
    trained = [n.accuracy for n in tested]
    return {
        "networks": len(rows),
        "kendall_tau": found["kendall_tau"],
        "tau_within_bins": found["tau_within_bins"],
        "macs_tau": found["macs_tau"],
        "spread": len(even),
        "kendall_tau_of_the_spread": rank([row["inherited"] for row in even], [row["trained"] for row in even]),
        "corrected_by_the_others": found["corrected"],
        "error_without_widths": float(np.abs(bare - [row["trained"] for row in rows]).mean()),
        "effects": correct.effects,
        "trained_less_inherited": {
            kind: float(np.mean([row["trained"] - row["inherited"] for row in rows if row["kind"] == kind]))
            for kind in ("spread", "front")
        },
        "later": {
            "networks": len(tested),
            "inherited_tau": rank([n.inherited for n in tested], trained),
            "corrected_tau": rank(said, trained),
            "macs_tau": rank([n.macs for n in tested], trained),
            "corrected_error": float(np.abs(np.array(said) - trained).mean()),
            "corrected_bias": float((np.array(said) - trained).mean()),
        },
        "hypervolume_by_predicted_ms": {
            "the_supernet_alone": hypervolume(alone, corner),
            "corrected": hypervolume(now, corner),
            "corner_ms": corner,
        },
        "first_front": [
            {key: row[key] for key in ("arch", "macs", "params", "inherited", "trained")} | {"predicted_ms": float(ms)}
            for row, ms in zip(first, latency, strict=True)
        ],
    }


def rank(x: Iterable[Any], y: Iterable[Any]) -> float:
    """Kendall's tau (b)."""
    from scipy.stats import kendalltau

    return float(kendalltau(list(x), list(y)).statistic)


def study(summary: Summary) -> dict[str, Any]:
    """Everything that the page says."""
    space, training = summary.space, summary.supernet["training"] if summary.supernet else {}
    best = front(summary.complete)
    codes = space.canonical(np.array([t["code"] for t in best]))
    shares = {}
    for kind in ("ghost", "se", "width"):
        genes = [k for k, gene in enumerate(space.genes) if gene.name.rpartition(".")[2] == kind]
        for k in genes:
            counts = np.bincount(codes[:, k], minlength=len(space.genes[k].choices)) / len(codes)
            shares[space.genes[k].name] = {
                str(choice): round(float(share), 3)
                for choice, share in zip(space.genes[k].choices, counts, strict=True)
            }
    return {
        "recipe": summary.recipe,
        "space_size": str(space.size),
        "supernet": training,
        "latency": describe(summary.table) if summary.table else None,
        "seconds": summary.seconds,
        "evaluated": len(summary.complete),
        "front": len(best),
        "networks": [
            {
                "name": n.name,
                "kind": n.kind,
                "arch": n.arch.id,
                "macs": n.macs,
                "params": n.params,
                "measured_ms": n.measured_ms,
                "predicted_ms": n.predicted_ms,
                "inherited": n.inherited,
                "expected": n.expected,
                "code": summary.space.encode(n.arch).tolist(),
                "test_accuracy": list(n.accuracies),
            }
            for n in summary.networks
        ],
        "looks": {n.name: looks(n.arch) for n in summary.networks if n.chosen},
        "answer": answer(summary),
        "fidelity": fidelity(summary),
        "judged": judged(summary),
        "choices_on_the_front": shares,
        "notes": summary.notes,
    }


def looks(arch: Arch) -> str:
    """An architecture in a line."""
    stages = []
    for stage in arch.stages:
        blocks = [
            f"{b.out_chs} s{b.ratio}" + (f" d{b.cheap_kernel}" if b.ratio > 1 else "") + (" SE" if b.se_ratio else "")
            for b in stage
        ]
        stages.append(", ".join(blocks))
    return f"{arch.stem_chs}; " + "; ".join(stages) + f"; tail {arch.tail_chs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("results/cifar10-small"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    summary = summarise(arguments.run)
    made = study(summary)
    write_json(arguments.out / "study.json", made)
    drawn = {"front": fronts.trained(summary), "search": fronts.searched(summary)}
    for name, each in drawn.items():
        write_bytes(arguments.out / f"{name}.png", png(each.figure))
        write_text(arguments.out / f"{name}.svg", svg(each.figure))
    known = effects(summary.space, summary.complete)
    if known:
        from search.delivery.figures import choices

        write_bytes(arguments.out / "sensitivity.png", png(choices.sensitivity(known).figure))
    write_bytes(arguments.out / "fidelity.png", png(scatter(read_json(summary.folder / FIDELITY))))
    write_text(arguments.out / "README.md", page(made))
    if arguments.out == HERE:
        readme = HERE.parent.parent / "README.md"
        write_text(readme, put_between(readme.read_text(encoding="utf-8"), "cifar10", headline(made)))


if __name__ == "__main__":
    main()
