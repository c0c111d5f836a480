"""`ghostnas`: the command line. Each command checks what it was given, then calls the pipeline or one of its rooms."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ghostnet.arch import Arch, ArchError
from ghostnet.cost import Cost, Layer
from ghostnet.cost import cost as network_cost
from ghostnet.cost import layers as network_layers
from ghostnet.published import published
from search.errors import UserError
from search.progress import say
from spaces.population import short
from spaces.space import SpaceError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search, calibrate, retrain and export GhostNets.",
)
stdout = Console(highlight=False)
ClickException: Any = typer.BadParameter.mro()[2]  # of typer's own copy of click, or of click itself

Out = Annotated[Path, typer.Option("--out", help="Where the results go.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DataName = Annotated[str, typer.Option("--data", help="digits, cifar10, imagefolder:PATH or parquet:PATH.")]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0.01, help="Time box for what is still to do.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Source of all randomness.")]
SpaceName = Annotated[str, typer.Option("--space", help="digits, cifar, imagenet, their -plus, or a .toml.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes side by side, through Ray.")]
Address = Annotated[str | None, typer.Option("--address", help="Of a Ray cluster; default: this machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is in the folder.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="A recipe of ours, or a .toml file (default: by data).")
]


@app.command()
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="digits (default), cifar10, or a recipe's .toml file.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder (default results/RECIPE).")] = None,
    resume: Resume = False,
    data: Annotated[str | None, typer.Option("--data", help="Another data set than the recipe's.")] = None,
    flops_budget: Annotated[str | None, typer.Option("--flops-budget", help="60M or 40M..60M.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed than the recipe's.")] = None,
    minutes: Minutes = None,
    as_json: Json = False,
) -> None:
    """Everything: train the supernet, calibrate latency, search, retrain, export, report."""
    from search import pipeline
    from search.recipe import load

    again = resume and recipe is None and out is not None and (out / pipeline.RUN).exists()
    plan = pipeline.recorded_recipe(out) if out and again else load(recipe or "digits")
    plan = plan.model_copy(
        update={k: v for k, v in (("data", data), ("seed", seed)) if v is not None}
        | ({"search": plan.search.model_copy(update={"flops_budget": flops_budget})} if flops_budget else {})
    )
    folder = out or Path("results") / plan.name
    pipeline.run(pipeline.start(plan, folder, resume, minutes))
    _print_run(folder, as_json)


@app.command()
def train(
    space: Annotated[
        str, typer.Option("--space", help="A preset (digits, cifar, imagenet; -plus) or a .toml file.")
    ] = "digits",
    data: DataName = "digits",
    out: Out = Path("results/supernet"),
    recipe: RecipeName = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    workers: Workers = 1,
    address: Address = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a supernet: its [supernet] part is the recipe's. Also under torchrun."""
    from search import sources
    from search.recipe import load
    from spaces.custom import load_space

    plan, chosen = load(recipe or _recipe_for(data)), load_space(space)
    config, resolution = plan.supernet, chosen.resolution_choices[-1]
    sources.check(data)
    _fresh(out, resume, "supernet.json")
    from search.data import load as load_data
    from search.pipeline import best_device
    from search.training.sandwich import space_for, train_supernet

    loaded = load_data(data, resolution, plan.train_images)
    fitted = space_for(chosen, loaded.num_classes, loaded.in_chs)
    seconds = None if minutes is None else 60 * minutes
    if workers > 1 or address:
        from search import workers as several

        card = several.train_supernet(
            fitted, loaded, config, out, seed=seed, seconds=seconds, workers=workers, address=address
        )
    else:
        card = train_supernet(fitted, loaded, config, out, seed=seed, device=best_device(), seconds=seconds)
    if not card:  # another process of torchrun's speaks
        return
    _say(card, f"{card['training']['epochs']:g} epochs in {card['training']['seconds']:.0f} s: {out}", as_json)


@app.command()
def fidelity(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    count: Annotated[int, typer.Option("--count", min=8, help="Networks to train fully.")] = 24,
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.01, help="Of full training.")] = None,
    bins: Annotated[int, typer.Option("--bins", min=1, help="Stretches of like MACs.")] = 4,
    recipe: RecipeName = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the supernet's data lies now.")] = None,
    trained: Annotated[Path | None, typer.Option("--networks", help="Trained networks to share.")] = None,
    out: Out = Path("results/fidelity-run"),
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Measure whether the supernet ranks networks as full training does. Goes on with what is in --out."""
    from search import sources
    from search.recipe import load

    if count < 2 * bins:
        raise UserError(f"a bin needs two networks: at least {2 * bins} in {bins} bins, but got --count {count}")
    if not (supernet / "supernet.json").exists():
        raise UserError(f"no file {supernet / 'supernet.json'}")
    known = json.loads((supernet / "supernet.json").read_text(encoding="utf-8"))
    name = data or known.get("data", "")
    sources.check(name)
    plan = load(recipe or _recipe_for(name))
    config = plan.retrain.model_copy(update={"epochs": epochs} if epochs else {})
    from search.data import load as load_data
    from search.delivery.fidelity import write_page
    from search.pipeline import best_device
    from search.training.fidelity import fidelity as measure
    from search.training.sandwich import load_supernet, read_card

    space = read_card(supernet)[1]
    loaded = load_data(name, space.resolution_choices[-1], plan.train_images)
    beside = None
    if workers > 1 or address:
        from search.workers import SideBySide

        beside = SideBySide(loaded, workers, address)
    found = measure(
        lambda: load_supernet(supernet),
        space,
        loaded,
        config,
        out,
        count=count,
        bins=bins,
        seed=seed,
        device=best_device(),
        trained=trained,
        beside=beside,
    )
    write_page(found, out)
    words = (
        f"{out}: Kendall tau {found['kendall_tau']:.2f} ({found['kendall_tau_95'][0]:.2f} to "
        f"{found['kendall_tau_95'][1]:.2f}), within {bins} bins of like MACs {found['tau_within_bins']:.2f}; "
        f"full training agrees with itself to {found['ceiling_tau']:.2f}, MACs alone to {found['macs_tau']:.2f}"
    )
    _say(found, words, as_json)


@app.command()
def calibrate(
    space: Annotated[
        str, typer.Option("--space", help="A preset (digits, cifar, imagenet; -plus) or a .toml file.")
    ] = "digits",
    runtime: Annotated[str, typer.Option("--runtime", help="onnxruntime.")] = "onnxruntime",
    threads: Annotated[int, typer.Option("--threads")] = 1,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Time box.")] = 10.0,
    out: Annotated[Path, typer.Option("--out", help="The table's file.")] = Path("results/table.lat.json"),
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Time this machine: make a latency table for a space, and say how well it predicts."""
    import time

    from search.latency.runtimes import runtime as check_runtime
    from spaces.custom import load_space

    chosen = load_space(space)
    check_runtime(runtime, threads)
    _fresh(out.parent, resume, out.name)
    visits = out.with_name(out.name + ".visits.jsonl")
    if visits.exists() and not resume:
        raise UserError(f"{visits} is of an unfinished calibration: --resume goes on with it")
    from search.latency.calibrate import calibrate as make_table
    from search.latency.table import describe

    deadline = time.monotonic() + 60 * minutes
    table = make_table(chosen, out, runtime_name=runtime, threads=threads, seed=seed, deadline=deadline)
    facts = describe(table)
    words = (
        f"{out}: {facts['entries']} units; on {facts['held_out_networks']} networks it never saw: error "
        f"{facts['mape_percent']} % on average, {facts['max_percent']} % at most, Kendall tau {facts['kendall_tau']}"
    )
    _say(facts, words, as_json)


@app.command()
def search(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    latency: Annotated[Path, typer.Option("--latency", help="A latency table, *.lat.json.")],
    flops_budget: Annotated[str, typer.Option("--flops-budget", help="60M or 40M..60M.")],
    latency_budget: Annotated[str | None, typer.Option("--latency-budget", help="8ms, on the upper bound.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Networks to evaluate.")] = 200,
    backend: Annotated[str, typer.Option("--backend", help="optuna.")] = "optuna",
    sampler: Annotated[str, typer.Option("--sampler", help="nsga2, nsga3, tpe, gp or random.")] = "nsga2",
    population: Annotated[int, typer.Option("--population", min=2)] = 40,
    data: Annotated[str | None, typer.Option("--data", help="Where the supernet's data lies now.")] = None,
    out: Out = Path("results/search"),
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Search: accuracy against predicted latency, under a budget of multiply-adds."""
    import time

    from search import sources
    from search.recipe import Search
    from spaces.population import Window

    if backend != "optuna":
        raise UserError(f"the backend is optuna, not {backend!r}")
    samplers = ("nsga2", "nsga3", "tpe", "gp", "random")
    if sampler not in samplers:
        raise UserError(f"a sampler is one of {', '.join(samplers)}, not {sampler!r}")
    bound = _milliseconds(latency_budget) if latency_budget else None
    Window.parse(flops_budget)
    for path in (supernet / "supernet.json", latency):
        if not path.exists():
            raise UserError(f"no file {path}")
    name = data or json.loads((supernet / "supernet.json").read_text(encoding="utf-8")).get("data", "")
    sources.check(name)
    _fresh(out, resume, "trials.jsonl")
    from search.data import load as load_data
    from search.engine.front import front
    from search.files import write_text
    from search.pipeline import search_networks
    from search.training.sandwich import read_card

    config = Search(flops_budget=flops_budget, trials=trials, sampler=sampler, population=population)  # type: ignore[arg-type]
    found = search_networks(
        supernet,
        latency,
        out / "trials.jsonl",
        load_data(name, read_card(supernet)[1].resolution_choices[-1]),
        config,
        seed=seed,
        latency_budget_ms=bound,
        deadline=None if minutes is None else time.monotonic() + 60 * minutes,
    )
    best = front(found)
    space = read_card(supernet)[1]
    for trial in best:
        write_text(out / "front" / f"{trial['arch']}.json", space.decode(trial["code"]).to_json())
    if as_json:
        _print_json({"evaluated": len(found), "front": best})
        return
    table = Table("architecture", "accuracy", "predicted ms", "MACs", "parameters")
    for t in best:
        macs, params = short(t["macs"]), short(t["params"])
        table.add_row(t["arch"], f"{t['accuracy']:.2%}", f"{t['latency_ms']:.3f}", macs, params)
    stdout.print(table)
    stdout.print(f"{len(found)} networks evaluated; the front's architectures: {out / 'front'}", soft_wrap=True)


@app.command()
def retrain(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    data: DataName = "digits",
    out: Out = Path("results/retrained"),
    recipe: RecipeName = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train one architecture fully, from scratch: the recipe's [retrain] part. Evaluated once on the test split."""
    from search import sources
    from search.recipe import load

    network, plan = _arch(arch), load(recipe or _recipe_for(data))
    config = plan.retrain
    sources.check(data)
    _fresh(out, resume, "trained.json")
    from search.data import load as load_data
    from search.pipeline import best_device
    from search.training.retrain import retrain as train_fully

    loaded = load_data(data, network.resolution, plan.train_images)
    seconds = None if minutes is None else 60 * minutes
    card = train_fully(network, loaded, config, out, seed=seed, device=best_device(), seconds=seconds)
    _say(card, f"{card['test_accuracy']:.2%} on {card['test_images']} test images: {out}", as_json)


@app.command()
def export(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    weights: Annotated[Path, typer.Option("--weights", help="A .safetensors or .pth file.")],
    to: Annotated[str, typer.Option("--to", help="onnx, safetensors, pt2; several with commas.")] = "onnx,safetensors",
    out: Out = Path("results/exported"),
    as_json: Json = False,
) -> None:
    """Export a trained network, each file proven to give the network's outputs."""
    network = _arch(arch)
    if not weights.exists():
        raise UserError(f"no file {weights}")
    _fresh(out, False, "manifest.json")
    import torch

    from ghostnet.weights import network as load_network
    from search.delivery.export import check_formats
    from search.delivery.export import export as write_network

    formats = [name.strip() for name in to.split(",")]
    check_formats(formats)
    net = load_network(network, weights)
    in_chs = net.in_chs
    card = weights.with_name("trained.json")
    facts: dict[str, Any] = {}
    if card.exists():
        trained = json.loads(card.read_text(encoding="utf-8"))
        keys = ("data", "classes", "mean", "std", "seed", "training")
        facts = {"accuracy": {"test": trained["test_accuracy"]}, **{key: trained[key] for key in keys}}
    none = torch.empty(0, in_chs, network.resolution, network.resolution)
    manifest = write_network(net, out, formats, none, facts)
    _say(manifest, f"{', '.join(manifest['files'])}: {out}", as_json)


@app.command()
def cost(
    arch: Annotated[str, typer.Argument(help="An arch.json, a folder with one, or ghostnet-1.0.")],
    latency: Annotated[Path | None, typer.Option("--latency", help="A latency table, *.lat.json.")] = None,
    classes: Annotated[int, typer.Option("--classes", min=0)] = 1000,
    in_chs: Annotated[int, typer.Option("--in-chs", min=1)] = 3,
    by_layer: Annotated[bool, typer.Option("--layers", help="Every layer's cost, too.")] = False,
    as_json: Json = False,
) -> None:
    """Multiply-adds, parameters and, with a latency table, predicted milliseconds."""
    network = _arch(arch)
    facts: dict[str, Any] = {"arch": network.id}
    if latency:
        from search.latency.predictor import Predictor
        from search.latency.table import LatencyTable
        from spaces.custom import space_of

        table = LatencyTable.load(latency)
        classes, in_chs = table.setting.num_classes, table.setting.in_chs
        space = replace(space_of(table.setting.space), num_classes=classes, in_chs=in_chs)
        predicted = Predictor(table, space)(space.encode(network))
        facts |= {
            "latency_ms": float(predicted.ms[0]),
            "latency_low_ms": float(predicted.low_ms[0]),
            "latency_high_ms": float(predicted.high_ms[0]),
        }
    total = network_cost(network, classes, in_chs)
    facts |= {"macs": total.macs, "params": total.params, "resolution": network.resolution}
    facts |= {"num_classes": classes, "in_chs": in_chs}
    parts = network_layers(network, classes, in_chs) if by_layer else ()
    if by_layer:
        facts["layers"] = [asdict(layer) | {"macs": layer.cost.macs, "params": layer.cost.params} for layer in parts]
    words = (
        f"{total.macs:,} multiply-adds at {network.resolution} x {network.resolution}, "
        f"{total.params:,} parameters, {classes} classes"
    )
    if latency:
        words += f", {facts['latency_ms']:.3f} ms ({facts['latency_low_ms']:.3f} to {facts['latency_high_ms']:.3f})"
    if by_layer and not as_json:
        _print_layers(parts, total)
    _say(facts, words, as_json)


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="digits, cifar or imagenet, each also with -plus, or a .toml file.")],
    as_json: Json = False,
) -> None:
    """A space: its dimensions, exact size, smallest and largest, and a histogram of multiply-adds."""
    from search.describe_space import facts, words
    from spaces.custom import load_space

    found = facts(load_space(name))
    _say(found, words(found), as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    as_json: Json = False,
) -> None:
    """The run as one HTML page, and its figures as PNG and SVG."""
    from search.delivery.report import write_report

    write_report(folder)
    _print_run(folder, as_json)


def main() -> None:
    """The command's entry: what a user did wrong is one line and exit code 2."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0)
    except ClickException as error:
        _fail(error.format_message())
    except (UserError, ArchError, SpaceError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        say("stopped; --resume goes on from here")
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"ghostnas: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _arch(name: str) -> Arch:
    """An architecture by file, folder or published name."""
    path = Path(name)
    if path.is_dir():
        return Arch.load(path / "arch.json")
    if path.suffix == ".json" or path.exists():
        return Arch.load(path)
    return published(name)


def _recipe_for(data: str) -> str:
    return "digits" if data == "digits" else "cifar10"


def _fresh(folder: Path, resume: bool, product: str) -> None:
    if (folder / product).exists() and not resume:
        raise UserError(
            f"{folder / product} is there already: --out names another place, --resume goes on where it can"
        )


def _milliseconds(text: str) -> float:
    try:
        value = float(text.removesuffix("ms"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"a latency budget is like 8ms, above zero, not {text!r}")
    return value


def _print_layers(parts: tuple[Layer, ...], total: Cost) -> None:
    name_width = max(len(part.name) for part in parts)
    print(f"{'layer':{name_width}}  {'convolution':36} {'MACs':>12} {'share':>6} {'params':>10}")
    for p in parts:
        groups = f" in {p.groups} groups" if p.groups > 1 else ""
        shape = f"{p.in_chs} > {p.out_chs}, {p.kernel}x{p.kernel}{groups}, {p.size}x{p.size}"
        share = p.cost.macs / total.macs
        print(f"{p.name:{name_width}}  {shape:36} {p.cost.macs:>12,} {share:6.1%} {p.cost.params:>10,}")
    print()


def _say(facts: dict[str, Any], words: str, as_json: bool) -> None:
    if as_json:
        _print_json(facts)
    else:
        stdout.print(words, soft_wrap=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_run(folder: Path, as_json: bool) -> None:
    """A run's fully trained networks, what a time box cut, and where the report is."""
    from search.delivery.summary import rows, summarise
    from search.pipeline import REPORT

    summary, page = summarise(folder), folder / REPORT
    if as_json:
        _print_json({"folder": str(folder), "report": str(page), "networks": rows(summary), "notes": summary.notes})
        return
    table = Table("network", "test", "MACs", "params", "predicted ms", "measured ms")
    table.columns[0].no_wrap = True
    for n in rows(summary):
        table.add_row(
            f"[bold]{n['network']}[/bold]" if n["chosen"] else n["network"],
            f"{n['test_accuracy']:.2%}",
            short(n["macs"]),
            short(n["params"]),
            "" if n["predicted_ms"] is None else f"{n['predicted_ms']:.3f}",
            "" if n["measured_ms"] is None else f"{n['measured_ms']:.3f}",
        )
    stdout.print(table)
    for note in summary.notes:
        stdout.print(note, style="yellow", soft_wrap=True)
    stdout.print(f"Report: {page}", soft_wrap=True)


if __name__ == "__main__":
    main()
