"""Kits: one file for an old Python, killed and gone on with, and results that are refused by line."""

import ast
import gzip
import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from search.api.latency import import_kit
from search.errors import UserError
from search.files import JsonLines
from search.latency.bench import Bench, all_units, measurement_plan
from search.latency.calibrate import calibrate, table_setting
from search.latency.fallback import FEWEST
from search.latency.kit import script, write_kit
from search.latency.kit_result import import_result
from search.latency.memory_meter import MemoryMeter
from search.latency.predictor import Predictor
from search.latency.runtimes import RUNTIMES, kit_session, runtime
from search.latency.table import Device
from search.latency.timing import interference
from search.latency.timing.device import this_device
from search.latency.timing.peak_memory import unavailable
from search.report.latency_page import format_table
from spaces.population import sample
from spaces.presets import named_space
from tests.search.fake_runtime import FakeRuntime
from tests.search.test_folders import held
from tests.spaces.test_spaces import tiny_space

SPACE = tiny_space()
KITS = [name for name, adapter in RUNTIMES.items() if adapter.standalone]


@pytest.fixture(scope="module", params=KITS)
def name(request):
    """A runtime that there are kits for."""
    if (why := RUNTIMES[request.param].missing()) is not None:
        pytest.skip(why)
    return request.param


@pytest.fixture(scope="module")
def kit(name, tmp_path_factory):
    """A kit whose calibration was killed once and then ended."""
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_kit(SPACE, folder, runtime=name, fit_networks=12, held_out=12)
    command = [sys.executable, "-I", str(folder / "calibrate.py"), "--minutes", "0.15"]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    result = folder / "result.jsonl"
    while killed.poll() is None and len(list(JsonLines(result))) < 20:
        pass
    killed.kill()
    killed.wait()
    before = result.read_bytes() + b'{"torn'
    result.write_bytes(before)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, before


def test_a_kit_goes_on_after_a_kill_and_measures_nothing_twice(kit):
    folder, before = kit
    after = (folder / "result.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1]) and len(after) > len(before)
    measurements = [(row["item"], row["visit"]) for row in map(json.loads, after.splitlines()) if "item" in row]
    assert len(measurements) == len(set(measurements))


@pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
def test_a_kit_measures_memory_as_this_machine_does(kit, name):
    folder, _ = kit
    plan = json.loads((folder / "plan.json").read_text())
    large = next(item for item in plan["items"] if item["name"] == f"network {len(plan['networks']) - 1}")
    code = (
        f"import json, runpy; from pathlib import Path; folder = Path({str(folder)!r})\n"
        f"kit = runpy.run_path(str(folder / 'calibrate.py'), run_name='kit')\n"
        f"session, plan = kit[{kit_session(name, 'float32').__name__!r}], (folder / 'plan.json').read_text()\n"
        f"session.version()\n"
        f"with kit['memory_server'](folder, dict(json.loads(plan), threads=1), session) as memory:\n"
        f"    print(*[memory({large['file']!r}, {large['shape']}) for _ in range(2)])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    with MemoryMeter(runtime(name, 1)) as meter:
        here = meter(gzip.decompress((folder / large["file"]).read_bytes()), large["shape"])
    # A megabyte: of another process, whose heap begins otherwise.
    assert first > 0 and max(abs(first - second), abs(first - here)) < 1 << 20


def test_what_a_kit_measured_of_memory_comes_into_the_table(kit, tmp_path):
    folder, _ = kit
    lines = (folder / "result.jsonl").read_bytes().splitlines(keepends=True)
    rows = [{"peak_bytes": {f"network {k}": 10**7 + 10**5 * k}} for k in range(12, 22)]
    result = tmp_path / "result.jsonl"
    result.write_bytes(b"".join([*lines[:-1], *(json.dumps(row).encode() + b"\n" for row in rows), lines[-1]]))
    assert import_result(folder / "result.jsonl", tmp_path / "without.lat.json").peak_memory is None
    assert import_result(result, tmp_path / "with.lat.json").peak_memory.networks == 10


def test_a_table_says_when_its_kit_was_finished_however_late_that_comes_home(kit, tmp_path):
    *lines, last = (kit[0] / "result.jsonl").read_text().splitlines(keepends=True)
    long_ago = json.dumps(json.loads(last) | {"finished": "2026-01-02T03:04:05Z"}) + "\n"
    (tmp_path / "result.jsonl").write_text("".join([*lines, long_ago]))
    tables = [import_result(tmp_path / "result.jsonl", tmp_path / f"{k}.lat.json") for k in range(2)]
    assert tables[0] == tables[1] and tables[0].protocol.finished == "2026-01-02T03:04:05Z"


def test_a_kit_leaves_another_file_as_it_is_and_writes_a_result_no_second_time(kit, tmp_path):
    folder, _ = kit
    result = (folder / "result.jsonl").read_bytes()
    first, others = result.split(b"\n", 1)
    foreign = b'{"schema": "else"}\n' + others
    for content in (b"notes without a newline", b'{"a": 1}\n{"b": 2}', b"no\njson", b'{"a": ', foreign):
        (tmp_path / "r.jsonl").write_bytes(content)
        command = [sys.executable, "-I", str(folder / "calibrate.py"), "--out", "r.jsonl", "--minutes", "0.001"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (content[:20], done.stderr)
        assert done.stderr.startswith("calibrate.py: r.jsonl is ") and "--out names another file" in done.stderr
        assert (tmp_path / "r.jsonl").read_bytes() == content
    whole, torn = first + b"\n" + b"".join(others.splitlines(keepends=True)[:5]), b'{"torn'
    header_alone = first[: len(first) // 2]
    for begun, kept in ((whole + torn, whole), (header_alone, b""), (b"", b"")):
        (tmp_path / "r.jsonl").write_bytes(begun)
        inode = (tmp_path / "r.jsonl").stat().st_ino
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "r.jsonl").read_bytes().startswith(kept or first + b"\n")
        assert (tmp_path / "r.jsonl").stat().st_ino == inode


def test_a_finished_kit_goes_on_with_more_minutes_alone(kit, tmp_path):
    folder, _ = kit
    result = tmp_path / "r.jsonl"
    *lines, last = (folder / "result.jsonl").read_bytes().splitlines(keepends=True)
    assert json.loads(last)["minutes"] == 0.15
    before = b"".join(lines) + json.dumps(json.loads(last) | {"minutes": 0.001}).encode() + b"\n"
    result.write_bytes(before)
    command = [sys.executable, "-I", str(folder / "calibrate.py"), "--out", str(result), "--minutes"]
    same = subprocess.run([*command, "0.001"], capture_output=True, text=True)
    assert same.returncode == 0 and "--minutes above 0.001 goes on" in same.stdout and result.read_bytes() == before
    more = subprocess.run([*command, "0.01"], capture_output=True, text=True)
    assert more.returncode == 0, more.stderr
    after = result.read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    table = import_result(result, tmp_path / "t.lat.json")
    assert table.protocol.finished == json.loads(after.splitlines()[-1])["finished"]


def test_two_calibrations_of_one_result_are_not_at_work_at_once(kit, tmp_path):
    folder, _ = kit
    command = [sys.executable, "-I", str(folder / "calibrate.py"), "--out", str(tmp_path / "r.jsonl")]
    first = subprocess.Popen([*command, "--minutes", "5"], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "r.jsonl").exists():
            assert first.poll() is None
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 2 and second.stderr.count("\n") == 1
        assert f"r.jsonl is in use by process {first.pid} on {socket.gethostname()}" in second.stderr
    finally:
        first.kill()
        first.wait()
    third = subprocess.run([*command, "--minutes", "0.001"], capture_output=True, text=True)  # the dead one's is free
    assert third.returncode == 0, third.stderr


def test_its_table_predicts_and_is_for_what_a_calibration_here_is_for(name, kit, tmp_path):
    folder, _ = kit
    table = import_result(folder / "result.jsonl", tmp_path / "t.lat.json")
    assert set(table.entries) <= set(all_units(SPACE)) and len(table.entries) >= 40
    assert table.setting == table_setting(SPACE, runtime(name, 1), 1)
    assert table.device == Device.model_validate(this_device())
    format_name = {"onnxruntime": "onnx", "litert": "litert", "ncnn": "ncnn"}[name]
    assert f"the graph that `export --to {format_name}` writes" in format_table(table)
    predicted = Predictor(table, SPACE)(sample(SPACE, np.random.default_rng(0), 20))
    assert (predicted.latency_ms > 0).all()


def test_a_result_of_few_units_is_a_whole_table_with_a_prior(kit, tmp_path, monkeypatch):
    monkeypatch.setattr(interference, "INITIAL_PROBES_S", 0.0)
    monkeypatch.setitem(RUNTIMES, "law", FakeRuntime)
    few = {"rounds": 2, "fit_networks": 8, "held_out": 8, "minutes": None}
    prior = calibrate(SPACE, tmp_path / "prior.lat.json", runtime="law", **few)
    lines = (kit[0] / "result.jsonl").read_text().splitlines()
    units = sorted(set(all_units(SPACE)))[::3]
    rows = [
        row for row in map(json.loads, lines) if str(row.get("item")) not in all_units(SPACE) or row["item"] in units
    ]
    for row in rows:
        if "item" in row:
            row["reference_ms"] = 1.0  # as where nothing else is at work: networks without a quiet moment are left out
    rows[-1]["visits"] = sum("item" in row for row in rows)
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = import_result(tmp_path / "few.jsonl", tmp_path / "t.lat.json", prior)
    assert set(table.entries) == set(all_units(SPACE)) and table.units_timed == table.transfer.units == len(units)
    assert (table.transfer.setting, table.transfer.networks) == (prior.setting, 12)
    rows[0] |= {"fit_networks": 6}
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="a transfer needs 8 networks to fit"):
        import_result(tmp_path / "few.jsonl", tmp_path / "other.lat.json", prior)
    assert not (tmp_path / "other.lat.json").exists()


def test_networks_for_which_no_time_was_left_are_missing_from_the_table_and_nothing_else(kit, tmp_path):
    rows = [json.loads(line) for line in (kit[0] / "result.jsonl").read_text().splitlines()]
    fitted, networks = rows[0]["fit_networks"], len(rows[0]["networks"])
    assert fitted > 8 and networks - fitted > 8

    def without(*left_out):
        kept = [row for row in rows if row.get("item") not in {f"network {k}" for k in left_out}]
        kept[-1] = kept[-1] | {"visits": sum("item" in row for row in kept)}
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
        return import_result(tmp_path / "r.jsonl", tmp_path / "t.lat.json")

    table = without(0, fitted)
    assert table.validation.networks == networks - fitted - 1 and table.units_timed == without().units_timed
    for many, what in ((range(fitted - 7), "to fit on"), (range(fitted, networks - 7), "held out")):
        with pytest.raises(UserError, match=rf"visits to 7 of the networks {what}, and a table takes 8"):
            without(*many)


def test_results_that_are_damaged_cut_short_or_foreign_are_refused_by_line(kit, tmp_path):
    lines = (kit[0] / "result.jsonl").read_text().splitlines(keepends=True)
    visit = next(k for k, line in enumerate(lines) if '"item"' in line)
    row = json.loads(lines[visit])
    header = json.loads(lines[0])
    other = header | {"space_id": "0" * 10}

    def changed(k, line):
        return "".join([*lines[:k], line, *lines[k + 1 :]])

    n = visit + 1
    cases = [
        (changed(0, json.dumps(header | {"runtime": "abacus"}) + "\n"), "line 1: a kit's runtime is one of .*'abacus'"),
        (changed(0, json.dumps(header | {"runtime": "openvino"}) + "\n"), "line 1: a kit's runtime is one of"),
        (
            changed(0, json.dumps(header | {"runtime": "litert", "dtype": "int8"}) + "\n"),
            "line 1: the data type of litert",
        ),
        (changed(0, json.dumps(header | {"lowering": "x"}) + "\n"), "line 1: lowering: .* but got 'x'"),
        ("", "line 1, is no header"),
        ('{"schema": "else"}\n', "line 1, is no header"),
        (changed(0, json.dumps(other) + "\n"), "line 1: the kit is of another space"),
        (changed(visit, lines[visit][:20] + "\n"), f"line {n} is not JSON"),
        (changed(visit, "[]\n"), f"line {n}, is no JSON object"),
        (changed(visit, json.dumps(row | {"item": "ghost 1>2>3"}) + "\n"), f"line {n}: the space has no"),
        (
            changed(visit, json.dumps(row | {"min_ms": -1}) + "\n"),
            f"line {n}: min_ms: .* greater than .* but got -1",
        ),
        (changed(visit, json.dumps(row | {"min_ms": 0}) + "\n"), f"line {n}: min_ms: .* greater than"),
        (
            changed(visit, json.dumps(row | {"visit": None}) + "\n"),
            f"line {n}: visit: .* but got None",
        ),
        ("".join([*lines[: n + 1], lines[visit], *lines[n + 1 :]]), "stands there twice"),
        ("".join(lines)[:-9], f"line {len(lines)}, is cut short"),
        (
            changed(len(lines) - 1, json.dumps(json.loads(lines[-1]) | {"finished": "<b>"}) + "\n"),
            f"line {len(lines)}: `finished` must be a time such as 2026-01-31T12:00:00Z, but got '<b>'",
        ),
        ("".join(lines[:-1]), f"ends at line {len(lines) - 1}, before the calibration was finished"),
    ]
    for text, message in cases:
        (tmp_path / "r.jsonl").write_text(text)
        with pytest.raises(UserError, match=message):
            import_result(tmp_path / "r.jsonl", tmp_path / "t.lat.json")
    assert not (tmp_path / "t.lat.json").exists()
    with pytest.raises(UserError, match="No such file"):
        import_result(tmp_path / "none.jsonl", tmp_path / "t.lat.json")
    with held(tmp_path, "t.lat.json"), pytest.raises(UserError, match=r"t\.lat\.json is in use by process"):
        import_kit(tmp_path / "none.jsonl", tmp_path / "t.lat.json")


def made_up_result(path, ms):
    """A kit's result of every unit, each visit of item k of `ms(k)` milliseconds."""
    plan = measurement_plan(SPACE, fit_networks=8, held_out=8, rounds=2, threads=1, batch=1, seed=0)
    setting = table_setting(SPACE, runtime("onnxruntime", 1), 1).model_dump(mode="json", exclude={"resolution"})
    header = {"schema": "ghostnas.kit-result/1", "device": this_device(), "networks": plan.networks, **setting}
    visits = [
        {"item": item.name, "visit": k, "at_s": 0.1 * (k + 1), "seconds": 0.1, "min_ms": ms(n), "reference_ms": 1.0}
        for k in range(2)
        for n, item in enumerate(plan.items)
    ]
    rows = [header | {"fit_networks": 8, "seed": 0}, *visits]
    rows.append({"finished": "2026-01-01T00:00:00Z", "visits": len(visits)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_equal_latencies_have_no_ranks(tmp_path):
    result = made_up_result(tmp_path / "r.jsonl", lambda k: 2.0)
    v = import_result(result, tmp_path / "t.lat.json").validation
    assert (v.kendall_tau, v.kendall_tau_95, v.spearman, v.spearman_95) == (0, (0, 0), 0, (0, 0))


def test_latencies_that_are_too_far_apart_for_a_table_are_refused_in_a_line(tmp_path):
    rng = np.random.default_rng(0)
    result = made_up_result(tmp_path / "r.jsonl", lambda k: float(rng.choice([1e-6, 1e7])))
    with pytest.raises(UserError, match=r"^these measurements make no table: \w+'s [\w.]+: [^\n]+, but got [^\n]+$"):
        import_result(result, tmp_path / "t.lat.json")
    assert not (tmp_path / "t.lat.json").exists()


@pytest.mark.parametrize("name", KITS)
def test_the_script_is_one_file_of_python_3_8(name):
    own = {"onnxruntime": {"onnxruntime"}, "litert": {"ai_edge_litert", "tflite_runtime"}, "ncnn": {"ncnn"}}[name]
    tree = ast.parse(script(kit_session(name, "float32")), feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - {"numpy", *own} <= sys.stdlib_module_names


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_its_models_are_those_that_a_calibration_here_times(name, dtype, tmp_path):
    if dtype not in RUNTIMES[name].lowerings:
        with pytest.raises(UserError, match=f"data type of {name} is one of float32, not 'int8'"):
            write_kit(SPACE, tmp_path / "kit", runtime=name, dtype=dtype)
        return
    few = {"fit_networks": 2, "held_out": 2, "most_units": FEWEST}
    write_kit(SPACE, tmp_path / "kit", runtime=name, dtype=dtype, batch=2, **few)
    run, plan = runtime(name, 1, dtype), json.loads((tmp_path / "kit/plan.json").read_text())
    assert (plan["dtype"], plan["lowering"], plan["batch"]) == (dtype, run.lowering, 2)
    planned = measurement_plan(SPACE, fit_networks=2, held_out=2, rounds=3, threads=1, batch=2, seed=0)
    bench = Bench(SPACE, planned.networks, planned.shapes)
    assert [item["name"] for item in plan["items"]] == [item.name for item in planned.items[: 4 + FEWEST]]
    for item in plan["items"][:8]:
        images = np.random.default_rng(0).standard_normal(item["shape"], dtype=np.float32)
        session = kit_session(name, dtype)(gzip.decompress((tmp_path / "kit" / item["file"]).read_bytes()), 1)
        np.testing.assert_array_equal(session(images), bench.session(run, item["name"])(images))


def test_a_kit_cut_short_or_without_its_runtime_says_so_in_a_line(name, kit, tmp_path):
    folder = shutil.copytree(kit[0], tmp_path / "kit", ignore=shutil.ignore_patterns("*result*"))
    reference, package = next(folder.glob("models/reference.*.gz")), kit_session(name, "float32").package
    reference.write_bytes(reference.read_bytes()[:-20])
    command = [sys.executable, "-I", str(folder / "calibrate.py"), "--minutes", "0.01"]
    cut = subprocess.run(command, capture_output=True, text=True)
    assert cut.returncode == 2 and cut.stderr.startswith(f"calibrate.py: {name} ") and cut.stderr.count("\n") == 1
    assert str(reference) in cut.stderr and not (folder / "result.jsonl").exists()
    bare = f"import sys; sys.modules[{RUNTIMES[name].package!r}] = None; import runpy; sys.argv = sys.argv[1:]; "
    bare += "runpy.run_path(sys.argv[0], run_name='__main__')"
    missing = subprocess.run([sys.executable, "-I", "-c", bare, *command[2:]], capture_output=True, text=True)
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert f"this needs {package} and numpy: " in missing.stderr and f"pip install {package} numpy" in missing.stderr


def test_there_are_no_kits_for_other_runtimes(tmp_path):
    with pytest.raises(UserError, match="a kit's runtime is one of onnxruntime, litert, ncnn, not 'torch-cpu'"):
        write_kit(SPACE, tmp_path / "kit", runtime="torch-cpu")
    assert not list(tmp_path.iterdir())


def test_a_kit_of_too_few_units_to_estimate_the_rest_by_is_refused(tmp_path):
    space = named_space("digits")
    with pytest.raises(UserError, match=r"a kit has 40 units of this space or more.*, not 30"):
        write_kit(space, tmp_path / "kit", most_units=30)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes", ["inf", "1e300", "nan", "0"])
def test_a_kit_refuses_minutes_that_are_no_time_box(minutes, tmp_path):
    write_kit(named_space("digits"), tmp_path / "kit", fit_networks=8, held_out=8, most_units=FEWEST)
    script = [sys.executable, "-I", str(tmp_path / "kit/calibrate.py"), "--minutes", minutes]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--minutes above zero and at most 525,600" in done.stderr
    assert not (tmp_path / "kit/result.jsonl").exists()


def test_the_smallest_kit_makes_a_table_of_the_whole_space(name, tmp_path):
    space, folder = named_space("digits"), tmp_path / "kit"
    write_kit(space, folder, runtime=name, fit_networks=8, held_out=8, most_units=FEWEST)
    command = [sys.executable, "-I", str(folder / "calibrate.py"), "--minutes", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = import_result(folder / "result.jsonl", tmp_path / "t.lat.json")
    assert table.units_timed == FEWEST and table.entries.keys() == all_units(space).keys()
    predicted = Predictor(table, space)(sample(space, np.random.default_rng(0), 20))
    assert (predicted.latency_ms > 0).all()


def test_a_kit_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "there/precious").mkdir(parents=True)
    (tmp_path / "kit.building").mkdir()  # a user's, whatever it is called
    with pytest.raises(UserError, match="is there already"):
        write_kit(SPACE, tmp_path / "there")
    monkeypatch.setattr("search.latency.kit.script", lambda session: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_kit(SPACE, tmp_path / "kit", fit_networks=2, held_out=2)
    assert {path.name for path in tmp_path.iterdir()} == {"there", "kit.building"}
    with held(tmp_path / "kit"), pytest.raises(UserError, match="kit is in use by process"):
        write_kit(SPACE, tmp_path / "kit", fit_networks=2, held_out=2)
