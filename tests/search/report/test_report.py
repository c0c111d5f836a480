"""Reports: as far as a run goes, in a real browser without an error, and nothing from a network."""

import html
import json
import math
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from ghostnet.arch import Arch
from ghostnet.memory import memory
from ghostnet.network import GhostNet
from ghostnet.units import chain
from ghostnet.weights import save_weights
from search.api.costs import network_costs
from search.commands.report import print_run
from search.engine.front import front
from search.engine.trial import Trial
from search.errors import UserError
from search.figures.architectures import arch_figure
from search.figures.style import CaptionedFigure, canvas, legend_above, png, svg
from search.latency.table import LatencyTable, PeakMemory
from search.recipes.schema import load_recipe, parse_recipe
from search.records import write_record
from search.report import comparison, page, repeat
from search.report.comparison import SETTINGS, write_comparison
from search.report.figures import curves, fronts
from search.report.figures.chance import mark_chance
from search.report.figures.choices import agreement
from search.report.formatting import format_trial
from search.report.report import _networks_table, write_report
from search.report.rows import comparison_text, rows
from search.report.sensitivity import effects
from search.report.summary import summarise
from search.run_folder.estimate import Estimate, StageEstimate, write_estimate
from search.run_folder.result import EnergyFigures, NetworkEnergy
from search.run_folder.run import ENERGY, TABLE
from spaces import named_space
from spaces.population import sample
from tests.search.command_line import ghostnas
from tests.search.runs import SPACE, made_up_run
from tests.search.searches import complete_trial

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FIGURES = {
    "front",
    "front-macs",
    "trained",
    "architectures",
    "agreement",
    "sensitivity",
    "progress",
    "predictor",
    "time",
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    return write_report(made_up_run(tmp_path_factory.mktemp("run")))


def test_a_whole_run_has_every_figure_and_nothing_from_a_network(reported):
    text = reported.read_text()
    assert set(re.findall(r'<figure id="([\w-]+)"', text)) == FIGURES
    for name in FIGURES:
        assert (reported.parent / f"{name}.png").stat().st_size > 3000
        assert (reported.parent / f"{name}.svg").read_text().startswith("<svg")
    for message in ("budgets 400k, 500k, 650k", "budget 0.15ms"):
        assert message in text
    links = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "names of formats, never loaded"
    ids = re.findall(r'\bid="([^"]+)"', text)
    doubled = {each for each in ids if ids.count(each) > 1 and not re.search(r"-(m|p)?[0-9a-f]{10}$", each)}
    assert not doubled, "only markers with equal content share an id"


def test_names_of_neighbours_cover_neither_each_other_nor_a_mark():
    """The parent and GhostNet 0.75x may have one latency and one accuracy, to within a pixel."""
    places = (("parent", 0.08, 99.7), ("0.75x", 0.0802, 99.72), ("A", 0.02, 98), ("B", 0.022, 98))
    marks = [fronts.Named(*place, "k") for place in places]
    with canvas() as (figure, axes):
        axes.scatter([x for _, x, _, _ in marks], [y for _, _, y, _ in marks])
        axes.margins(0.14)
        fronts._names(axes, marks)
        assert [text.get_text() for text in axes.texts] == [name for name, *_ in marks]
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        points = axes.transData.transform([(x, y) for _, x, y, _ in marks])
    for k, box in enumerate(boxes):
        assert box.count_overlaps(boxes[k + 1 :]) == 0
        assert not any(box.contains(*point) for point in points)


STAGES = {None: 1, "train": 3, "calibrate": 9, "search": 9, "retrain": 10}


@pytest.mark.parametrize("upto", STAGES)
def test_a_run_is_reported_as_far_as_it_goes_and_says_what_is_missing(upto, tmp_path):
    text = write_report(made_up_run(tmp_path, upto, trials=32)).read_text()
    stages = list(STAGES)
    for after, message in (
        ("train", "The supernet is not finished."),
        ("calibrate", "The latency table is not finished."),
        ("search", "The search is not finished: "),
        ("retrain", "No network is fully trained."),
    ):
        assert (message in text) == (stages.index(upto) < stages.index(after))
    assert "Reproducing the run" in text
    assert ('id="front"' in text) == (stages.index(upto) >= stages.index("calibrate"))


def test_what_a_run_was_expected_to_take_stands_beside_what_it_took(tmp_path):
    made_up_run(tmp_path)
    assert "minutes expected" not in write_report(tmp_path).read_text()
    stages = (StageEstimate(stage="calibrate", minutes=4.25), StageEstimate(stage="retrain", minutes=77.5))
    write_estimate(tmp_path, Estimate(stages=stages))
    summary = summarise(tmp_path)
    assert summary.expected_seconds == {"calibration": 255, "full training": 4650}
    page = write_report(tmp_path).read_text()
    for stage, expected in (("calibration", "4.2"), ("full training", "77.5")):
        taken = f"{summary.seconds[stage] / 60:.1f}"
        assert f"<td>{stage}</td><td>{expected}</td><td>{taken}</td>" in page


def test_memory_and_energy_are_columns_only_where_they_were_measured(tmp_path):
    folder = made_up_run(tmp_path)
    text = write_report(folder).read_text()
    assert not any(word in text for word in ("peak memory", "joules", "Energy was"))
    assert all(row.peak_memory is None and row.joules is None for row in rows(summarise(folder)))
    table = LatencyTable.load(folder / TABLE)
    fit = {"constant_bytes": 1e6, "per_activation_byte": 2.0, "per_weight_byte": 3.0, "networks": 9}
    fit |= {"error": 0.043, "quantile": 0.087, "coverage": 0.9}
    table.model_copy(update={"peak_memory": PeakMemory(**fit)}).save(folder / TABLE)
    write_record(folder / ENERGY, EnergyFigures(counter=None, why_not="there is <none>"))
    text = write_report(folder).read_text()
    assert "<th" in text and "peak memory, MB" in text and "4.3%" in text
    assert "Energy was not measured: there is &lt;none&gt;." in text and "joules a run" not in text
    for row, network in zip(rows(summarise(folder)), summarise(folder).networks, strict=True):
        closed = memory(network.arch, 10, 1)
        assert row.peak_memory == pytest.approx(1e6 + 2 * closed.activations + 3 * closed.weights, abs=1)
        assert f"<td>{row.peak_memory / 1e6:.2f}</td>" in text
    name = summarise(folder).networks[0].name
    figures = {name: NetworkEnergy(joules=0.01234, error=0.0004)}
    write_record(folder / ENERGY, EnergyFigures(counter="RAPL (package-0)", networks=figures))
    text = write_report(folder).read_text()
    assert "joules a run" in text and "0.0123 ± 0.0004" in text and "RAPL (package-0)" in text
    assert [row.joules for row in rows(summarise(folder))].count(None) == len(summarise(folder).networks) - 1


def test_units_that_a_table_estimates_are_called_so(tmp_path):
    """A table has entries for them, too, without a visit."""
    run = made_up_run(tmp_path)
    table = LatencyTable.load(run / TABLE)
    guessed = {*[*table.entries][::3]}
    entries = {
        key: each.model_copy(update={"visits": 0 if key in guessed else 2}) for key, each in table.entries.items()
    }
    table.model_copy(update={"entries": entries}).save(run / TABLE)
    text = write_report(run).read_text()
    assert f"{len(entries) - len(guessed)} units of networks were timed, {len(guessed)} estimated" in text
    assert "*: not timed, estimated from units that were" in text
    arch = SPACE.uniform(0.5)
    named = chain(arch, SPACE.num_classes, SPACE.in_chs).named
    wanted = {name: unit.key not in guessed for name, unit in named.items()}
    costs = network_costs(arch, latency=run / TABLE)
    assert {block.name: block.timed for block in costs.blocks[:-1]} == wanted and len({*wanted.values()}) == 2
    (tmp_path / "arch.json").write_text(arch.to_json())
    shown = ghostnas(
        "cost", str(tmp_path / "arch.json"), "--latency", str(run / TABLE), "--layers", cwd=tmp_path
    ).stdout
    assert {line.split()[0] for line in shown.splitlines() if line.endswith("  estimated")} == {
        name for name, timed in wanted.items() if not timed
    }


def test_chosen_networks_stand_beside_the_ghostnets_trained_alike(reported):
    """At equal latency and at equal accuracy, on the line through GhostNets and the parent; with nothing to compare
    with, nothing is said."""
    summary = summarise(reported.parents[1])
    chosen, *_ = (n for n in summary.networks if n.chosen)
    baseline = next(n for n in summary.networks if n.kind == "family")

    def compared(ms, accuracy):
        at = {"family": (1.0, 0.5), "parent": (4.0, 0.7)}
        others = [replace(baseline, name=k, kind=k, measured_ms=v[0], accuracies=v[1:]) for k, v in at.items()]
        mine = replace(chosen, name="A", measured_ms=ms, accuracies=(accuracy,))
        return replace(summary, networks=[mine, *others])

    for ms, accuracy, points, saved, text in (
        (2.0, 0.65, 5.0, 1 - 2 / 2**1.5, "+5.0 points at equal latency, 29% less time at equal accuracy"),
        (2.0, 0.55, -5.0, 1 - 2 / 2**0.5, "-5.0 points at equal latency, 41% more time at equal accuracy"),
        (0.5, 0.6, None, 0.75, "faster than all of them, 75% less time at equal accuracy"),
        (8.0, 0.72, 2.0, None, "+2.0 points beside the best of them, and slower than all"),
        (0.9, 0.4, None, None, "faster than all of them, less accurate than the fastest of them"),
        (2.0, 0.4, -20.0, None, "-20.0 points at equal latency, less accurate than the fastest of them"),
    ):
        summary_with = compared(ms, accuracy)
        row, *others = rows(summary_with)
        assert (row.points_at_equal_latency, row.latency_saved_at_equal_accuracy) == (
            points if points is None else pytest.approx(points),
            saved if saved is None else pytest.approx(saved),
        )
        assert all(other.points_at_equal_latency is None for other in others)
        assert f"A {text}." in comparison_text(summary_with)
        assert "Beside the parent and GhostNets in width" in comparison_text(summary_with)
        assert "parent" not in comparison_text(replace(summary_with, networks=summary_with.networks[:2]))
        assert "GhostNets in width that are trained alike, by" in comparison_text(summary_with)
    shorter = [replace(n, epochs=0.9 * n.epochs) if n.kind == "family" else n for n in summary_with.networks]
    told = comparison_text(replace(summary_with, networks=shorter))
    assert "trained alike" not in told
    assert f"trained for {0.9 * chosen.epochs:.3g} to {chosen.epochs:.3g} epochs: a part" in told
    of_no_time = replace(summary, networks=[replace(n, measured_ms=0.0) for n in summary_with.networks])
    assert comparison_text(of_no_time) == "" and rows(of_no_time)[0].points_at_equal_latency is None
    alone = replace(summary, networks=[chosen])
    assert comparison_text(alone) == "" and rows(alone)[0].latency_saved_at_equal_accuracy is None


def test_a_folder_that_is_no_run_or_a_broken_one_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no run: neither run\.json"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text('{"recipe": {"name": 3}}')
    with pytest.raises(UserError, match=r"run\.json has schema None"):
        write_report(tmp_path)
    made_up_run(tmp_path / "run")
    (tmp_path / "run/latency/table.lat.json").write_text("{")
    with pytest.raises(UserError, match=r"table\.lat\.json is not JSON"):
        write_report(tmp_path / "run")
    assert not (tmp_path / "run/report").exists()


def browser(page, *options: str) -> subprocess.CompletedProcess:
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    command = [CHROMIUM, *flags, "--enable-logging=stderr", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


FRAME = """<iframe id="f" src="{page}" style="width:{width}px;height:900px;border:0"></iframe><p id="said"></p><script>
f.onload = () => {{ const d = f.contentDocument.documentElement;
const box = f.contentDocument.querySelector("#front-latency-front use");
const cut = [...f.contentDocument.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth).length;
said.textContent = `${{d.scrollWidth}} of ${{d.clientWidth}}, ${{cut}} tables cut off, ${{d.dataset.tips}} tips`;
const at = box.getBoundingClientRect(), figure = box.closest("figure");
figure.dispatchEvent(new f.contentWindow.PointerEvent("pointermove", {{clientX: at.x + at.width / 2,
  clientY: at.y + at.height / 2}})); said.textContent += `; ${{f.contentDocument.getElementById("tip").textContent}}`;
}}</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1300, 400])
def test_in_a_browser_charts_are_there_nothing_sticks_out_and_pointing_says_the_network(reported, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=reported.as_uri(), width=width))
    done = browser(frame, "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    message = re.search(r'<p id="said">(.*?)</p>', done.stdout, re.DOTALL)[1]
    summary = summarise(reported.parent.parent)
    held, trained = len(summary.table.validation.held_out), len(summary.networks)
    marks = 2 * (60 + len(summary.front) + 3) + trained + held + trained
    assert message.startswith(f"{width} of {width}, 0 tables cut off, {marks} tips; ")
    assert re.search(r"inherited \d+\.\d+%.*predicted 0\.\d+ ms.*multiply-adds.*stem \d+, tail \d+", message, re.DOTALL)


USED = """<iframe id="f" src="{page}" style="width:1300px;height:6000px;border:0"></iframe><p id="said"></p><script>
f.onload = () => {{ const w = f.contentWindow, doc = f.contentDocument, svg = doc.querySelector("#front svg");
const box = doc.getElementById("front-patch_2").getBoundingClientRect();
const send = (type, on, x, y) => on.dispatchEvent(new w.PointerEvent(type, {{bubbles: true,
  clientX: box.left + x * box.width, clientY: box.top + y * box.height}}));
const middle = (e) => {{ const at = e.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; }};
const shown = (e) => e.style.display !== "none";
const ticks = (letter) => [...doc.querySelectorAll(`[id="front-matplotlib.axis_${{letter === "x" ? 1 : 2}}"] > g`)]
  .filter((g) => g.querySelector("use") && shown(g)).map((g) => [g.querySelector("text").textContent,
    middle(g.querySelector("use"))[letter === "x" ? 0 : 1]]);
const look = () => ({{x: ticks("x"), y: ticks("y"), marks: [...doc.querySelectorAll("#front-latency-evaluated use")]
  .map(middle), box: [box.left, box.top, box.right, box.bottom]}});
const draw = (x0, y0, x1, y1) => {{ send("pointerdown", svg, x0, y0); send("pointermove", doc, x1, y1);
  send("pointerup", doc, x1, y1); }};
const said = {{}}; said.before = look(); draw(0.2, 0.3, 0.7, 0.8); said.once = look(); draw(0.9, 0.9, 0.4, 0.1);
said.twice = look(); svg.dispatchEvent(new w.MouseEvent("dblclick", {{bubbles: true}})); said.after = look();
const table = doc.querySelector("table"), names = () => [...table.tBodies].map((b) => b.rows[0].cells[0].textContent);
said.sorted = [3, 3, 3, 5, 0].map((k) => {{ table.querySelectorAll("th button")[k].click(); return names(); }});
document.getElementById("said").textContent = JSON.stringify(said); }}</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser_a_rectangle_zooms_in_and_heads_sort(tmp_path):
    """The marks lie where the ticks say, before and while a part is shown."""
    page = write_report(made_up_run(tmp_path / "run"))
    frame = tmp_path / "frame.html"
    frame.write_text(USED.format(page=page.as_uri()))
    done = browser(frame, "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    said = json.loads(html.unescape(re.search(r'<p id="said">(.*?)</p>', done.stdout, re.DOTALL)[1]))
    summary = summarise(tmp_path / "run")
    values = np.array([(t["latency_ms"], 100 * t["accuracy"]) for t in summary.complete])
    seen = {}
    for when in ("before", "once", "twice"):
        marks, (left, top, right, bottom) = np.array(said[when]["marks"]), said[when]["box"]
        for k, letter in enumerate("xy"):
            texts, at = zip(*said[when][letter], strict=True)
            assert len(texts) >= 2
            line = np.polyfit(at, [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts], 1)
            span = abs(line[0]) * ((right - left) if k == 0 else (bottom - top))
            np.testing.assert_allclose(np.polyval(line, marks[:, k]), values[:, k], atol=0.01 * span)
        inside = (left <= marks[:, 0]) & (marks[:, 0] <= right) & (top <= marks[:, 1]) & (marks[:, 1] <= bottom)
        seen[when] = set(np.flatnonzero(inside))
    assert seen["before"] == set(range(60)) > seen["once"] > seen["twice"]
    assert said["after"] == said["before"]
    by_ms = [n.name for n in sorted(summary.networks, key=lambda n: n.predicted_ms or 0)]
    by_macs = [n.name for n in sorted(summary.networks, key=lambda n: n.macs)]
    as_it_was = [n.name for n in summary.networks]
    assert said["sorted"] == [by_ms, by_ms[::-1], as_it_was, by_macs, sorted(as_it_was)]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_screenshots_are_light_and_dark(reported, tmp_path):
    from PIL import Image

    paper = []
    for k, options in enumerate(([], ["--blink-settings=preferredColorScheme=0"])):
        shot = tmp_path / f"{k}.png"
        browser(reported, *options, "--window-size=800,900", f"--screenshot={shot}")
        image = np.asarray(Image.open(shot).convert("L"))
        paper.append(np.median(image))
        assert image.std() > 8  # something is drawn
    assert paper[0] > 200 and paper[1] < 60


def test_an_accuracy_is_called_what_it_is(tmp_path):
    """Expected from unit losses with its interval, after a training, by a function, or inherited as before."""
    log = made_up_run(tmp_path / "run") / "search/trials.jsonl"
    first, *rows = map(json.loads, log.read_text().splitlines())
    ends = {"accuracy_low": 0.2, "accuracy_high": 0.95}
    for about, more, meaning, tip in (
        ({}, {}, "with the supernet's weights,", r": inherited \d+\.\d+%\npredicted"),
        (
            {"evaluate": "units"},
            ends,
            "expected from what the parent loses by each unit",
            r": expected .*% \(20.00% to ",
        ),
        ({"evaluate": "tuned:1"}, {}, "epochs from the supernet's weights", r": accuracy \d+\.\d+%\npredicted"),
        ({"evaluator": "mine"}, {}, "as the user's own function gives it", r": accuracy \d+\.\d+%\npredicted"),
    ):
        log.write_text("".join(json.dumps(row) + "\n" for row in [first | about, *(row | more for row in rows)]))
        text = html.unescape(write_report(tmp_path / "run").read_text())
        summary = summarise(tmp_path / "run")
        assert meaning in text and re.search(tip, format_trial(summary.complete[0], summary.header.evaluation))
    steps = ("inherited", 0.25), ("tuned:1", 0.5)
    rungs = [{"evaluate": way, "accuracy": value, "seconds": 1} for way, value in steps]
    row = Trial.model_validate(rows[0] | {"accuracy": 0.5, "rungs": rungs})
    assert ": inherited 25.00%, accuracy 50.00%\n" in format_trial(row, "inherited,tuned:1")


def test_planted_effects_are_found_and_others_are_not():
    rng = np.random.default_rng(0)
    codes = sample(SPACE, rng, 400)
    x, names = SPACE.features(codes), [feature.name for feature in SPACE.feature_columns]
    scaled = (x - x.min(0)) / np.ptp(x, axis=0)
    width, ratio = names.index("stages.1.width"), names.index("blocks.1.0.ratio")
    accuracy = 0.5 + 0.04 * scaled[:, width] + rng.normal(0, 0.01, 400)
    latency = np.exp(-0.3 * scaled[:, ratio] + rng.normal(0, 0.01, 400))
    trials = [
        complete_trial(k, code, accuracy=a, latency_ms=ms)
        for k, (code, a, ms) in enumerate(zip(codes.tolist(), accuracy, latency, strict=True))
    ]
    result = {(e.part, e.knob): e for e in effects(SPACE, trials)}
    assert len(result) == len(names)
    assert result["stages.1", "width"].accuracy[0] == pytest.approx(4, abs=0.5)
    assert result["blocks.1.0", "s"].latency[0] == pytest.approx(100 * (np.exp(-0.3) - 1), abs=1)
    accuracy_moved = {key for key, e in result.items() if not e.accuracy[1] <= 0 <= e.accuracy[2]}
    # of 19 others at 90 % each is thought moved once in ten: more than 7 of them once in 2,000 draws
    assert ("stages.1", "width") in accuracy_moved and len(accuracy_moved) <= 8
    for e in result.values():
        assert e.accuracy[1] <= e.accuracy[0] <= e.accuracy[2] and e.latency[1] <= e.latency[0] <= e.latency[2]
    columns = len(result) + len([gene for gene in SPACE.genes if gene.kind == "ghost"])  # s has two
    fewest = math.ceil(1.5 * columns)
    assert effects(SPACE, trials[: fewest - 1]) == [] != effects(SPACE, trials[:fewest])


def test_effects_of_s_and_d_are_those_of_a_table_in_which_blocks_without_ghosts_stand_apart():
    """d is asked among ghosts alone, and the step from no ghosts to some belongs to s."""

    def ms(arch):
        return sum(
            0.0 if b.ratio == 1 else 0.25 - 0.02 * (b.ratio - 2) + 0.03 * (b.cheap_kernel - 3) for b in arch.blocks
        )

    result = _planted(SPACE, lambda arch: np.exp(ms(arch)))
    for (_, knob), effect in result.items():
        if knob == "d":
            assert effect.latency[0] == pytest.approx(100 * np.expm1(0.06), abs=1)
        elif knob == "s":  # to s = 4, at the mean of d
            assert effect.latency[0] == pytest.approx(100 * np.expm1(0.25 - 0.04 + 0.03), abs=2)
        else:
            assert effect.latency[0] == pytest.approx(0, abs=1)


def test_what_a_block_costs_that_is_left_out_is_the_effect_of_depth_alone():
    space = named_space("digits-plus")
    result = _planted(space, lambda arch: np.exp(0.3 * len(arch.blocks)))
    moved = {key for key, effect in result.items() if abs(effect.latency[0]) > 3}
    assert moved == {(f.part, "depth") for f in space.feature_columns if f.kind == "depth"}


def _planted(space, latency):
    """The effects that are told of networks with a planted latency, by part and knob."""
    codes = sample(space, np.random.default_rng(0), 600)
    archs = [space.decode(code) for code in codes]
    trials = [
        complete_trial(k, code, accuracy=0.5, latency_ms=latency(arch))
        for k, (code, arch) in enumerate(zip(codes.tolist(), archs, strict=True))
    ]
    return {(effect.part, effect.knob): effect for effect in effects(space, trials)}


def test_a_recipe_written_as_toml_is_the_recipe():
    for name in ("digits", "cifar10"):
        recipe = load_recipe(name)
        assert parse_recipe(repeat.recipe_toml(recipe), name) == recipe
    own = load_recipe("digits").model_copy(
        update={"space": {"base": "cifar", "widths": [0.5, 1.0], "align": 4}, "threads": 2}
    )
    assert parse_recipe(repeat.recipe_toml(own), "digits") == own


def test_a_recipe_beside_a_page_names_a_parent_as_it_is_seen_from_there(tmp_path, monkeypatch):
    (tmp_path / "mine/net").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    digits = load_recipe("digits")
    for parent, seen in (
        ("net", "../../mine/net"),
        ("gone", "gone"),
        (str(tmp_path), str(tmp_path)),
        ("timm:a", "timm:a"),
    ):
        recipe = digits.model_copy(update={"supernet": digits.supernet.model_copy(update={"parent": parent})})
        again = parse_recipe(repeat.recipe_toml(recipe, tmp_path / "run/report"), "digits")
        assert again.supernet.parent == seen


def test_runs_are_compared_by_hypervolumes_with_one_corner(tmp_path):
    a = made_up_run(tmp_path / "a", trials=30)
    b = made_up_run(tmp_path / "b", "calibrate", trials=40, seed=1)
    page, rows, notes = write_comparison([a, b], tmp_path / "out")
    trials = {name: summarise(tmp_path / name).complete for name in "ab"}
    worst = max(t["latency_ms"] for each in trials.values() for t in each)
    for row in rows:
        steps = sorted((t["latency_ms"], t["accuracy"]) for t in trials[row.run])
        edges, best, area = [ms for ms, _ in steps] + [worst], 0.0, 0.0
        for k, (_, accuracy) in enumerate(steps):
            best = max(best, accuracy)
            area += best * (edges[k + 1] - edges[k])
        assert row.hypervolume == pytest.approx(area)
    text = page.read_text()
    assert "b: The search is not finished" in text and text.count("<figure") == 1
    of_their_own = "latencies are predicted by a table of its own, with mean errors of a"
    assert of_their_own in text and any(of_their_own in note for note in notes)
    log = b / "search/trials.jsonl"
    header, _, rest = log.read_text().partition("\n")
    log.write_text(json.dumps(json.loads(header) | {"evaluate": "soft"}) + "\n" + rest)
    *_, notes = write_comparison([a, b], tmp_path / "out")
    assert any(note.startswith("These runs are of different accuracies: a with the ") for note in notes), notes
    assert not any(of_their_own in note for note in comparison.notes({"a": summarise(a), "again": summarise(a)}))
    with pytest.raises(UserError, match="named twice"):
        write_comparison([a, tmp_path / "b/../a"], tmp_path / "out")


def test_data_in_two_places_are_the_same_by_their_content(tmp_path):
    folders = [made_up_run(tmp_path / name, trials=10) for name in "ab"]
    found = []
    for of_b, of_b_at in (("1f", "/there"), ("2e", "/there"), ("2e", "/here"), (None, "/there"), (None, "/here")):
        for folder, place, content in zip(folders, ("/here", of_b_at), ("1f", of_b), strict=True):
            record = json.loads((folder / "run.json").read_text())
            record["recipe"]["data"] = f"imagefolder:{place}"
            (folder / "run.json").write_text(json.dumps(record))
            log = folder / "search/trials.jsonl"
            header, _, rest = log.read_text().partition("\n")
            log.write_text(json.dumps(json.loads(header) | {"data": content}) + "\n" + rest)
        *_, notes = write_comparison(folders, tmp_path / "out")
        found.append(any(note.startswith("These runs are of different data: a imagefolder:/here") for note in notes))
    assert found == [False, True, True, True, False]


def test_a_front_is_of_what_the_search_went_by(tmp_path):
    folder = made_up_run(tmp_path, trials=40)
    log, result = folder / "search/trials.jsonl", folder / "search/result.json"
    header, _, rest = log.read_text().partition("\n")
    log.write_text(json.dumps(json.loads(header) | {"objectives": ["accuracy", "macs"]}) + "\n" + rest)
    trials = summarise(tmp_path).complete
    best = {t.arch for t in trials if not any(o["accuracy"] > t["accuracy"] and o["macs"] <= t["macs"] for o in trials)}
    result.write_text(json.dumps(json.loads(result.read_text()) | {"front": sorted(best)}))
    summary = summarise(tmp_path)
    assert {t.arch for t in summary.front} == best != {t.arch for t in front(trials)}
    page = write_report(tmp_path).read_text()
    assert "no other network beats in accuracy and multiply-adds, the search" in page
    assert f"Pareto front ({len(best)})" in page and "of its hypervolume" not in page


def test_a_front_that_a_search_alone_left_is_shown(tmp_path):
    folder = made_up_run(tmp_path, trials=40)
    log, result = folder / "search/trials.jsonl", folder / "search/result.json"
    header, _, rest = log.read_text().partition("\n")
    log.write_text(json.dumps(json.loads(header) | {"objectives": ["accuracy", "own"]}) + "\n" + rest)
    result.unlink()
    (folder / "run.json").unlink()
    usual = {t.arch for t in front(summarise(folder).complete)}
    assert {t.arch for t in summarise(folder).front} == usual  # of a search that was broken off
    mine = {t.arch for t in summarise(folder).complete[:3]}
    (folder / "search/front").mkdir()
    for arch in mine:
        (folder / f"search/front/{arch}.json").write_text("{}")
    assert {t.arch for t in summarise(folder).front} == mine != usual
    page = write_report(folder).read_text()
    assert "no other network beats in accuracy and own, the search" in page and "Pareto front (3)" in page


@pytest.mark.parametrize("field", SETTINGS)
def test_runs_whose_latencies_are_of_different_settings_are_told(field, tmp_path):
    folders = [made_up_run(tmp_path / name, trials=8) for name in "ab"]
    *_, before = write_comparison(folders, tmp_path / "out")
    table = LatencyTable.load(folders[1] / TABLE)
    other = {"runtime": "torch-cpu", "dtype": "int8", "lowering": "repeated"}.get(field, 4)
    assert getattr(table.setting, field) != other
    table.model_copy(update={"setting": table.setting.model_copy(update={field: other})}).save(folders[1] / TABLE)
    log = folders[1] / "search/trials.jsonl"
    header, _, rest = log.read_text().partition("\n")
    log.write_text(json.dumps(json.loads(header) | {"supernet": "another"}) + "\n" + rest)
    *_, notes = write_comparison(folders, tmp_path / "out")
    (told,) = [note for note in notes if note.startswith(f"These runs are of different {SETTINGS[field]}: a ")]
    assert told.endswith(f", b {other}.")
    own = "Each run's networks were evaluated by a supernet of its own"
    assert [any(note.startswith(own) for note in each) for each in (before, notes)] == [False, True]


def test_report_is_a_command_for_one_run_and_for_several(tmp_path):
    for name in ("a", "b"):
        made_up_run(tmp_path / name, trials=12)
    answer = json.loads(ghostnas("report", "a", "--json", cwd=tmp_path).stdout)
    assert answer["report"] == "a/report/report.html" and len(answer["networks"]) == 6
    answer = json.loads(ghostnas("report", "a", "b", "--out", "both", "--json", cwd=tmp_path).stdout)
    assert [row["run"] for row in answer["runs"]] == ["a", "b"] and (tmp_path / answer["report"]).exists()
    done = ghostnas("report", "a", ".", cwd=tmp_path)
    assert done.returncode == 2 and "holds no run" in done.stderr


@pytest.mark.filterwarnings("error")
def test_a_front_of_plain_convolutions_is_drawn_without_kernels():
    """Where s = 1 throughout there is no d to show, and no warning to a user."""
    plain = np.array([min(range(len(g.choices)), key=lambda k, g=g: g.choices[k]) for g in SPACE.genes])
    arch = SPACE.decode(plain)
    assert {block.ratio for block in arch.blocks} == {1}
    picture = agreement([arch, arch], SPACE.largest)
    texts = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
    assert texts == ["s = 1 throughout"]


def test_a_figure_that_cannot_be_drawn_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    """One that fails when it is drawn, one when it is rendered, one section's words: the rest is there."""
    broken = CaptionedFigure("A caption", SimpleNamespace(savefig=lambda *_, **__: 1 / 0))
    monkeypatch.setattr("search.report.report.curves.progress", lambda summary: 1 / 0)
    monkeypatch.setattr("search.report.report.curves.predictor", lambda summary: broken)
    monkeypatch.setattr("search.report.report.blocks.tables", lambda summary: 1 / 0)
    monkeypatch.setattr("matplotlib.pyplot.close", lambda *_: None)
    page = write_report(made_up_run(tmp_path))
    left = {"progress", "predictor", "architectures"}
    assert set(re.findall(r'<figure id="([\w-]+)"', page.read_text())) == FIGURES - left
    message = capsys.readouterr().err
    for what in ("the figure progress", "the figure predictor", "the report's section 'Block by block'"):
        assert f"left out: {what}" in message


def test_names_are_shown_on_the_page_and_not_obeyed(tmp_path):
    """A name of data with a tag, a script's opening comment, a formula and control characters."""
    folder = made_up_run(tmp_path / "run")
    name = "<!--<script>$x_1$ \x1b[2J\u202e"
    recorded = json.loads((folder / "run.json").read_text())
    recorded["recipe"]["data"] = name
    (folder / "run.json").write_text(json.dumps(recorded))
    text = write_report(folder).read_text()
    assert "&lt;!--&lt;script&gt;$x_1$ \\x1b[2J\\u202e" in text and "<!--" not in text and "\x1b" not in text
    with canvas() as (figure, _):
        hostile = page.page("x", [], {"f": CaptionedFigure("", figure, {"gid": ["</script><!--<script>\x1b\n&"]})})
    data = hostile.partition("const TIPS = ")[2].partition(";\n")[0]
    assert "<" not in data and json.loads(data) == {"f-gid": ["</script><!--<script>\\x1b\n&"]}


def test_commands_beside_a_network_retrain_and_export_it(tmp_path):
    folder = made_up_run(tmp_path / "a run")
    recorded = json.loads((folder / "run.json").read_text())
    recorded["recipe"]["retrain"] |= {"init": "fresh", "epochs": 0.01, "warmup_epochs": 0.0}
    (folder / "run.json").write_text(json.dumps(recorded))
    a = folder / "networks/A"
    ghostnet = GhostNet(Arch.load(a / "arch.json"), 10, 1)
    save_weights(ghostnet, a / "weights.safetensors")
    page = write_report(folder)
    lines = [line for pre in re.findall(r"<pre>(.*?)</pre>", page.read_text(), re.DOTALL) for line in pre.split("\n")]
    commands = [shlex.split(html.unescape(line)) for line in lines if line.startswith("ghostnas ")]
    names = ["A", "B", "C", "ghostnet-0.25x", "ghostnet-0.5x", "ghostnet-0.75x"]
    assert [words[-1] for words in commands] == [
        *(f"results/{name}-{done}" for name in names for done in ("again", "exported")),
        "results/digits",
    ]
    for words, product in zip(commands, ("trained.json", "manifest.json"), strict=False):
        done = ghostnas(*words[1:], cwd=page.parent)
        assert done.returncode == 0, done.stderr
        assert json.loads((page.parent / words[-1] / product).read_text())["arch"] == ghostnet.arch.id


def test_commands_say_what_a_network_began_with_and_where_its_images_lie_from_the_page(tmp_path, monkeypatch):
    (tmp_path / "my pictures").mkdir()
    folder = made_up_run(tmp_path / "runs/a")
    recorded = json.loads((folder / "run.json").read_text())
    assert recorded["recipe"]["supernet"]["kind"] == "transplant"
    recorded["recipe"]["data"] = "imagefolder:my pictures?test=0.2"
    (folder / "run.json").write_text(json.dumps(recorded))
    other = json.loads((folder / "networks/A/trained.json").read_text())
    (folder / "networks/A/seed-1").mkdir()
    (folder / "networks/A/seed-1/trained.json").write_text(json.dumps(other | {"seed": 1}))
    hostile = "`touch x`; $(touch y) '"
    (folder / "networks/B").rename(folder / f"networks/{hostile}")
    monkeypatch.chdir(tmp_path)
    summary = summarise(Path("runs/a"))
    by_name = {n.name: [shlex.split(line) for line in repeat.commands(summary, n)] for n in summary.networks}
    retrain, export = by_name["A"]
    begin = ["--init", "../supernet", "--teacher", "supernet:../supernet", "--out", "results/A-again"]
    data = ["--data", "imagefolder:../../../my pictures?test=0.2", "--recipe", "recipe.toml", "--seeds", "0,1"]
    assert retrain == ["ghostnas", "retrain", "../networks/A", *data, *begin]
    assert export[:5] == ["ghostnas", "export", "../networks/A", "--weights", "../networks/A/weights.safetensors"]
    assert by_name[hostile][0][2] == f"../networks/{hostile}"
    (shown,) = [n for n in summary.networks if n.name == "A"]
    for change in ({"stretched": True}, {"ended": "time box"}):
        again = shlex.split(repeat.commands(summary, replace(shown, repeated_epochs=4.5, **change))[0])
        assert again == [*retrain[:-2], "--epochs", "4.5", *retrain[-2:]]


def test_a_doubt_of_one_of_several_seeds_names_it(tmp_path):
    folder = made_up_run(tmp_path)
    first = folder / "networks/A/trained.json"
    recorded = json.loads(first.read_text())
    first.write_text(json.dumps(recorded | {"warnings": ["odd"]}))
    assert "Network A: odd." in summarise(folder).notes
    (folder / "networks/A/seed-1").mkdir()
    (folder / "networks/A/seed-1/trained.json").write_text(json.dumps(recorded | {"seed": 1}))
    assert f"Network A (seed {recorded['seed']}): odd." in summarise(folder).notes


def test_a_guess_names_the_most_frequent_class(tmp_path):
    folder = made_up_run(tmp_path)
    assert summarise(folder).chance == 0.1  # of an earlier version's supernet, which doesn't say: digits have ten
    file = folder / "supernet/supernet.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chance": 0.4}))
    summary = summarise(folder)
    with canvas() as (_, axes):
        axes.plot([0, 1], [30, 60])
        mark_chance(axes, summary.chance)
        assert axes.lines[1].get_ydata()[0] == 40 and axes.lines[1].get_label() == "chance (40 %)"


@pytest.mark.parametrize(("low", "high", "drawn"), [(30, 90, True), (12, 18, True), (8, 20, True), (86, 98, False)])
def test_the_chance_level_is_drawn_where_it_does_not_squeeze_the_data(low, high, drawn):
    with canvas() as (_, axes):
        axes.plot([0, 1], [low, high])
        before = axes.get_ylim()
        mark_chance(axes, 0.1)
        assert [line.get_ydata()[0] for line in axes.lines[1:]] == ([10.0] if drawn else [])
        assert [text.get_text() for text in axes.texts] == ([] if drawn else ["\N{DOWNWARDS ARROW} chance (10 %)"])
        assert axes.get_ylim()[0] <= 10 if drawn else axes.get_ylim() == before


def test_axes_of_curves_start_and_end_with_the_data(tmp_path):
    summary = summarise(made_up_run(tmp_path))
    (axes,) = curves.progress(summary).figure.axes
    assert axes.get_xlim() == (1, len(summary.complete))
    figure = curves.training({"A": {"loss": [(5, 2.5), (10, 2.0)]}}, 0.1).figure
    (axes,) = figure.axes
    assert axes.get_xlim() == (0.5, 1) and 1.9 < axes.get_ylim()[0] < 2.0


def test_where_networks_differ_in_resolution_tables_say_it(tmp_path, capsys):
    folder = made_up_run(tmp_path / "run")
    summary = summarise(folder)
    for file in (None, folder / "networks" / summary.networks[0].name / "arch.json"):
        if file:
            smaller = replace(Arch.load(file), resolution=12)
            file.write_text(smaller.to_json())
            trained = file.with_name("trained.json")
            trained.write_text(json.dumps(json.loads(trained.read_text()) | {"arch": smaller.id}))
        summary = summarise(folder)
        table = _networks_table(summary)
        print_run(summary, as_json=False)
        printed = capsys.readouterr().out
        assert [row.resolution for row in rows(summary)] == [n.arch.resolution for n in summary.networks]
        assert (">side<" in table) is ("┃ side " in printed) is (file is not None)
        if file:
            assert re.findall(r">(\d\d)<", table) == [str(n.arch.resolution) for n in summary.networks]


def test_a_legend_takes_no_width_from_its_axes(tmp_path):
    """However long its names are and however many: many budgets, runs with names of a sentence."""
    summary = summarise(made_up_run(tmp_path / "run"))
    runs = dict.fromkeys(("a run of a long name " * 5 + str(k) for k in range(4)), summary)
    figure = fronts.overlaid(runs).figure
    with canvas() as (budgets, axes):
        axes.plot([0, 1], [0, 1], label="budgets " + ", ".join(f"{k / 1000:.3f}ms" for k in range(20)))
        for k in range(3):
            axes.scatter([0, 1], [0, 1], label=f"networks of kind {k}")
        legend_above(axes)
    for each in (figure, budgets):
        svg(each)
        (axes,) = each.axes
        legend = axes.get_legend().get_window_extent()
        assert axes.get_position().width > 0.75
        assert legend.x1 < each.bbox.x1 and legend.y0 >= axes.bbox.y1 - 1


def test_names_are_labels_as_they_are(tmp_path):
    """No formulas, no character that XML lacks, and a leading `_` doesn't hide one from a legend."""
    summary = summarise(made_up_run(tmp_path / "run"))
    runs = dict.fromkeys(("_a$b$", "c \x1b$\\frac{$"), summary)
    text = svg(fronts.overlaid(runs).figure)
    ElementTree.fromstring(text)
    shown = html.unescape(text)
    assert " _a$b$ (" in shown and "c \\x1b$\\frac{$ (" in shown
    figure = arch_figure({"_$x$": SPACE.largest})
    assert "_$x$" in svg(figure) and len(png(figure)) > 3000
