"""A training step of GhostNet 1.0x: by layout of the feature maps and precision, with its calls one by one or as CUDA
graphs, and by several processes at a time on one device, which is what a small network needs to fill a GPU."""

import argparse
import json
import multiprocessing
import queue
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F

from ghostnet import GhostNet
from spaces.presets import CIFAR
from tests.benchmarks.timing import medians

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SPACE = replace(CIFAR, name="cifar32", widths=(0.25, 0.5, 0.75, 1.0, 1.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, nargs="+", default=[1.0], choices=SPACE.widths)
    parser.add_argument("--layout", nargs="+", default=list(LAYOUTS), choices=LAYOUTS)
    parser.add_argument("--calls", nargs="+", default=["eager"], choices=("eager", "graphs"))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--processes", type=int, nargs="*", default=[], help="that share the device")
    parser.add_argument("--seconds", type=float, default=4.0, help="for which processes are counted")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for width in arguments.width:
        steps = {}
        for layout, precision, calls in product(arguments.layout, ("float32", "bfloat16"), arguments.calls):
            name = f"{layout}, {precision}, {calls}"
            steps[name] = stepper(width, arguments.batch, layout, precision, calls, arguments.device)
        seconds = medians(steps, arguments.rounds)
        print(json.dumps({"width": width, "ms": {name: round(1000 * s, 2) for name, s in seconds.items()}}), flush=True)
        for layout, calls, count in product(arguments.layout, arguments.calls, arguments.processes):
            rate = side_by_side(count, width, arguments, layout, calls)
            said = {"layout": layout, "calls": calls, "processes": count, "steps_per_second": round(rate, 1)}
            print(json.dumps(said), flush=True)


def stepper(width: float, batch: int, layout: str, precision: str, calls: str, device: str) -> Callable[[], float]:
    """A function that takes a step of plain SGD and waits for its loss."""
    net = GhostNet(SPACE.uniform(width), SPACE.num_classes, SPACE.in_chs).to(device)
    net = net.to(memory_format=LAYOUTS[layout]).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, fused=True)
    side = SPACE.resolution
    images = torch.randn(batch, SPACE.in_chs, side, side, device=device).contiguous(memory_format=LAYOUTS[layout])
    labels = torch.randint(SPACE.num_classes, (batch,), device=device)
    kind = getattr(torch, precision)
    mixed = partial(torch.autocast, images.device.type, kind, enabled=kind is not torch.float32, cache_enabled=False)
    with mixed():
        run = torch.cuda.make_graphed_callables(net, (images,)) if calls == "graphs" else net

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with mixed():
            loss = F.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def side_by_side(count: int, width: float, arguments: argparse.Namespace, layout: str, calls: str) -> float:
    """Steps a second of all processes together, once each has warmed up.

    Raises:
        SystemExit: one of them died; the others, which wait for it, are ended.
    """
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(count)
    results = context.Queue()
    step = (width, arguments.batch, layout, "bfloat16", calls, arguments.device)
    processes = [context.Process(target=_count, args=(step, arguments.seconds, ready, results)) for _ in range(count)]
    rates: list[float] = []
    try:
        for process in processes:
            process.start()
        while len(rates) < count:
            with suppress(queue.Empty):
                rates.append(results.get(timeout=1))
            if codes := [process.exitcode for process in processes if process.exitcode]:
                sys.exit(f"training_step: a process of {count} died with exit code {codes[0]}")
    finally:
        for process in processes:
            if process.pid:
                process.terminate()
                process.join()
    return sum(rates)


def _count(of: tuple, seconds: float, ready, results) -> None:
    torch.set_num_threads(1)
    step = stepper(*of)
    for _ in range(5):
        step()
    ready.wait()
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        step()
        steps += 1
    results.put(steps / (time.monotonic() - started))


if __name__ == "__main__":
    main()
