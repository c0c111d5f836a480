"""The CIFAR-10 study's page, from its figures."""

from pathlib import Path
from typing import Any

import numpy as np

from search.files import read_json
from search.report.markdown import paragraph
from spaces.quantities import format_count

HERE = Path(__file__).parent
PAGE = (HERE / "page.md").read_text(encoding="utf-8")
BEFORE = HERE / "before.json"  # the same study of an earlier supernet, before anything was corrected


def format_interval(figure: dict[str, float] | None, digits: int = 1, scale: float = 1.0) -> str:
    if figure is None:
        return "-"
    value, low, high = (scale * figure[key] for key in ("value", "low", "high"))
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def volume(figure: dict[str, float]) -> str:
    """A hypervolume with its interval."""
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def beside_family(figures: dict[str, Any]) -> str:
    """Two cells of a table: points at equal latency, per cent of latency saved at equal accuracy."""
    saved = format_interval(figures["latency_saved_at_equal_accuracy"], 0, 100)
    return f"{format_interval(figures['points_at_equal_latency'])} | {saved}"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def page(study: dict[str, Any]) -> str:
    rows = []
    for n in study["networks"]:
        values = 100 * np.array(n["test_accuracy"])
        spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
        inherited = "" if n["inherited"] is None else f"{n['inherited']:.1%}"
        expected = "" if n["expected"] is None else f"{n['expected']:.1%}"
        predicted = "" if n["predicted_ms"] is None else f"{n['predicted_ms']:.3f}"
        rows.append(
            f"| {n['name']} | {format_count(n['macs'])} | {format_count(n['params'])} | {predicted} "
            f"| {n['measured_ms']:.3f} | {inherited} | {expected} | **{values.mean():.2f}**{spread} |"
        )
    a = study["answer"]
    comparisons = [
        f"| {f['network']} | {f['budget']} | {beside_family(f)} | {beside_family(f['within_budget'])} |"
        for f in a["found"]
    ]
    others = [
        f"| {f['network']} | {format_interval(f['points_at_equal_macs'])} "
        f"| {format_interval(f['points_over_a_random_network'])} | {share(f['its_latency_of_the_random_one'])} |"
        for f in a["found"]
    ]
    f, latency = study["fidelity"], study["latency"]
    volumes = ", ".join(f"{kind} {volume(v)}" for kind, v in a["hypervolume"].items() if kind != "corner")
    stages = ", ".join(f"{stage} {seconds / 60:.0f} min" for stage, seconds in study["seconds"].items())
    again = f["one_seed_against_another_tau"]
    before, gap = read_json(BEFORE), study["judged"]["trained_less_inherited"]
    return PAGE.format(
        answer=answer(a),
        networks="\n".join(rows),
        found="\n".join(comparisons),
        others="\n".join(others),
        at_macs=format_interval(a["mean_points_at_equal_macs"]),
        over_random=format_interval(a["mean_points_over_random"]),
        volumes=volumes,
        corner=a["hypervolume"]["corner"]["latency_ms"],
        seed_spread=100 * a["seed_spread"],
        count=f["networks"],
        tau=f["kendall_tau"],
        tau_low=f["kendall_tau_95"][0],
        tau_high=f["kendall_tau_95"][1],
        spearman=f["spearman"],
        macs_tau=f["macs_tau"],
        again="" if again is None else f" One seed ranks as another to {again:.2f}.",
        stages=stages,
        seeds=study["recipe"]["retrain"]["seeds"],
        epochs=study["recipe"]["retrain"]["epochs"],
        supernet=study["supernet"],
        evaluated=study["evaluated"],
        budgets=study["recipe"]["search"]["flops_budget"],
        size=int(study["space_size"]),
        latency=latency,
        archs="\n".join(f"| {name} | {text} |" for name, text in study["looks"].items()),
        supernet_alone=alone(study["judged"]["first_front"]),
        judged=study["judged"],
        effects="\n".join(f"| {name} | {value:+.2f} |" for name, value in study["judged"]["effects"].items()),
        over_first=", ".join(
            f"{name} {value:+.1f}"
            for name, value in study["judged"]["points_over_the_supernet_alone"].items()
            if value is not None
        ),
        total=study["evaluated"] + study["recipe"]["fidelity"]["trials"],
        spread_count=study["judged"]["spread"],
        overrated=100 * (gap["spread"] - gap["front"]),
        said_error=100 * study["judged"]["later"]["corrected_error"],
        said_bias=100 * study["judged"]["later"]["corrected_bias"],
        left_out={key: 100 * value for key, value in study["judged"]["left_out_error"].items()},
        loo_error=100 * study["judged"]["corrected_by_the_others"]["error"],
        recipe=study["recipe"],
        then={
            "best": 100 * max(np.mean(n["test_accuracy"]) for n in before["networks"] if n["kind"] == "chosen"),
            "tau": before["fidelity"]["kendall_tau"],
            "volume": {kind: v["value"] for kind, v in before["answer"]["hypervolume"].items() if kind != "corner"},
            "epochs": before["supernet"]["epochs"],
            "at_macs": format_interval(before["answer"]["mean_points_at_equal_macs"]),
        },
        now={
            "best": 100 * max(np.mean(n["test_accuracy"]) for n in study["networks"] if n["kind"] == "chosen"),
            "volume": {kind: v["value"] for kind, v in a["hypervolume"].items() if kind != "corner"},
        },
        law=without_supernet(study["without_supernet"]),
        notes="".join(f"\n- {note}" for note in study["notes"]),
    )


def answer(figures: dict[str, Any]) -> str:
    """The page in three sentences."""
    saved = [f["latency_saved_at_equal_accuracy"] for f in figures["found"]]
    gained = [f["points_at_equal_latency"] for f in figures["found"]]
    met = [f["network"] for f, each in zip(figures["found"], saved, strict=True) if each and each["value"] >= 0.25]
    shares = [100 * each["value"] for each in saved if each and each["value"] >= 0.25]
    points = [each["value"] for each in gained if each]
    text = (
        f"In part: {len(met)} of {len(figures['found'])} found networks ({', '.join(met)}) need {min(shares):.0f} to "
        f"{max(shares):.0f} % less latency than GhostNet scaled in width at equal accuracy, one or more under every "
        f"budget. The others are {-max(points):.1f} to {-min(points):.1f} points less accurate than the family at "
        "equal latency: above GhostNet 1.0x nothing better was found. All of this is of an elastic supernet; what "
        "networks fitted to one trained GhostNet do on this space stands in [`../weights/`](../weights/README.md)."
    )
    return paragraph(text)


def alone(first: list[dict[str, Any]]) -> str:
    """Rows for the networks that the supernet alone would have chosen."""
    rows = sorted(first, key=lambda row: row["predicted_ms"])
    return "\n".join(
        f"| {row['arch']} | {format_count(row['macs'])} | {format_count(row['params'])} | {row['predicted_ms']:.3f} "
        f"| {100 * row['inherited']:.1f} | {100 * row['trained']:.2f} |"
        for row in rows
    )


def without_supernet(law: dict[str, Any]) -> dict[str, Any]:
    """What the page says of the search without a supernet."""
    rows = [
        f"| {n['name']} | {format_count(n['macs'])} | {format_count(n['params'])} | {n['predicted_ms']:.3f} "
        f"| {n['measured_ms']:.3f} | {n['expected']:.1%} | **{100 * n['mean']:.2f}**"
        + (f" ± {100 * n['spread']:.2f} |" if n["spread"] is not None else " |")
        for n in law["networks"]
    ]
    volumes = law["hypervolume"]
    return law | {
        "seeds": len(law["networks"][0]["seeds"]),
        "rows": "\n".join(rows),
        "volume_found": volume(volumes["found"]),
        "volume_by_law": volume(volumes["by_the_law"]),
        "corner_ms": volumes["corner_ms"],
        "share": 100 * volumes["by_the_law"]["value"] / volumes["found"]["value"],
        "difference": format_interval(law["hypervolume_by_the_law_less_found"], 4),
    }
