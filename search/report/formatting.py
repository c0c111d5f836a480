"""Architectures, trials and sizes of spaces as short texts."""

from decimal import Decimal

from ghostnet.arch import Arch
from search.engine.trial import Trial
from spaces.quantities import format_count


def format_arch(arch: Arch) -> str:
    """One line a stage: `24>16 s2 d3 SE` is a block of 24 hidden and 16 output channels; `/2` halves the map."""
    lines = [f"stem {arch.stem_chs}, tail {arch.tail_chs}, {arch.resolution} x {arch.resolution}"]
    for stage in arch.stages:
        blocks = []
        for b in stage:
            ghost = "s1" if b.ratio == 1 else f"s{b.ratio} d{b.cheap_kernel}"
            blocks.append(
                f"{b.mid_chs}>{b.out_chs}{'/2' if b.stride == 2 else ''} {ghost}{' SE' if b.se_ratio else ''}"
            )
        lines.append("  ".join(blocks))
    return "\n".join(lines)


def format_size(size: int) -> str:
    """How many networks a space has, for people."""
    return f"{size:,}" if size < 10**12 else f"{Decimal(size):.1e}".replace("e+", " x 10^")  # which no float may hold


def format_trial(trial: Trial, evaluate: str) -> str:
    """An evaluated network's figures, as the log has them of a search that evaluates so."""
    inherited, last = trial.inherited_accuracy(evaluate), trial.rungs[-1].evaluate if trial.rungs else evaluate
    accuracies = [] if inherited is None else [f"inherited {inherited:.2%}"]
    if trial.inherited is not None or last == "units":
        accuracies.append(f"expected {trial['accuracy']:.2%}")
    elif last != "inherited":
        accuracies.append(f"accuracy {trial['accuracy']:.2%}")
    if trial.accuracy_low is not None:
        accuracies[-1] += f" ({trial['accuracy_low']:.2%} to {trial['accuracy_high']:.2%})"
    return (
        f"{trial.arch}: {', '.join(accuracies)}\npredicted {trial['latency_ms']:.3f} ms "
        f"({trial['latency_low_ms']:.3f} to {trial['latency_high_ms']:.3f})\n"
        f"{format_count(trial.macs)} multiply-adds, {format_count(trial.params)} parameters"
    )
