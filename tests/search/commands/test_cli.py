"""The command line's contract: bad input is one line, exit code 2, known before torch is loaded, and writes nothing."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ghostnet import GhostNet, weights
from search import cli
from tests.helpers import small_arch
from tests.search.command_line import ghostnas

SPY = """
import sys
from search.cli import main
sys.argv = ["ghostnas", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print("torch" in sys.modules)
    sys.exit(end.code)
"""


SEARCH = ["search", "--supernet", "x", "--latency", "y", "--flops-budget", "1M"]
BAD = {
    "an impossible budget": (["run", "--flops-budget", "1k"], "the nearest feasible one"),
    "a budget that is none": (["run", "--flops-budget", "lots"], "a FLOPs budget is like"),
    "nothing to resume": (["run", "--resume", "--out", "none"], "none holds no run to resume; name its recipe"),
    "an unknown data set": (["run", "--data", "mars"], "data is one of"),
    "a missing folder": (["run", "--data", "parquet:/no/such"], "no folder"),
    "pictures without a recipe": (["run", "--data", "imagefolder:pictures"], "`ghostnas init imagefolder:pictures`"),
    "pictures for a supernet without one": (
        ["train", "--data", "parquet:pictures"],
        "`ghostnas init parquet:pictures`",
    ),
    "what follows a path is no option": (
        ["run", "digits", "--data", "imagefolder:x?test=0.2,unreadable=no"],
        "?test=SHARE,unreadable=skip, not 'unreadable=no'",
    ),
    "two shares to test on": (["run", "digits", "--data", "imagefolder:x?test=.2,test=.3"], "has another: 'test=.3'"),
    "a share to test on that is none": (["run", "digits", "--data", "imagefolder:x?test=2"], "from 0.01 to 0.9, not"),
    "pictures in a folder with a space": (
        ["run", "--data", "imagefolder:my pictures"],
        "`ghostnas init 'imagefolder:my pictures'`",
    ),
    "no pictures to look at": (["init", "nowhere"], "there is no folder 'nowhere'"),
    "pictures in a folder whose name is no UTF-8": (["init", b"q\xff"], "names its pictures in UTF-8, in which no"),
    "a recipe's file of another name": (["init", ".", "--out", "mine.txt"], "ends in .toml, not 'mine.txt'"),
    "a recipe that is there": (["init", ".", "--out", "broken.toml"], "broken.toml is there already"),
    "a budget of a new recipe that is none": (["init", ".", "--flops-budget", "lots"], "a FLOPs budget is like"),
    "an unknown recipe": (["run", "mars"], "a recipe is one of"),
    "a missing recipe": (["run", "mars.toml"], "No such file"),
    "a broken recipe": (["run", "broken.toml"], "recipe broken: "),
    "a broken architecture": (["cost", "broken.json"], "not JSON"),
    "an unknown architecture": (["cost", "mobilenet"], "ghostnet-<width>"),
    "a missing architecture": (["retrain", "none.json"], "No such file"),
    "a report of one run elsewhere": (["report", "x", "--out", "y"], "a comparison of several runs goes; x keeps"),
    "too few networks to test a transfer": (
        ["calibrate", "transfer", "x.lat.json", "--networks", "8"],
        "greater than or equal to 9, but got '8'",
    ),
    "an unknown option": (["run", "--colour"], "No such option"),
    "a number that is none": (["run", "--seed", "many"], "valid int"),
    "an unknown command": (["fly"], "No such command"),
    "a missing option": (["search"], "Missing option '--supernet'"),
    "no supernet": (["search", "--supernet", "x", "--latency", "y", "--flops-budget", "1M"], "no file x"),
    "an unknown backend": (
        ["search", "--supernet", "x", "--latency", "y", "--flops-budget", "1M", "--backend", "luck"],
        "the backend is one of",
    ),
    "an objective of no module": (
        [*SEARCH, "--objective", "nowhere_at_all:depth"],
        "no module 'nowhere_at_all', neither here nor installed",
    ),
    "an objective that is none": ([*SEARCH, "--objective", "math:pi"], "must be a function of an architecture"),
    "workers without Ray": (
        [*SEARCH, "--workers", "2"],
        "workers, address and gpus go with the backend ray, not optuna",
    ),
    "a storage that is not NNI's": (
        [*SEARCH, "--backend", "nni", "--sampler", "tpe", "--storage", "a.journal"],
        "a storage is Optuna's",
    ),
    "a secret that Ray would show": (
        [*SEARCH, "--backend", "ray", "--storage", "postgresql://user:hush@host/db"],
        "GHOSTNAS_STORAGE is the place of postgresql://user:***@host/db",
    ),
    "a sampler that is not NNI's": ([*SEARCH, "--backend", "nni", "--sampler", "gp"], "not 'gp'"),
    "the default sampler, which is not NNI's": ([*SEARCH, "--backend", "nni"], "not 'guided'"),
    "options before a kit's": (
        ["calibrate", "--space", "cifar", "--threads", "2", "kit"],
        "--space, --threads would not reach `calibrate kit`",
    ),
    "an option before a check's": (["calibrate", "--json", "check", "x"], "--json would not reach `calibrate check`"),
    "a choice that is none": ([*SEARCH, "--choose", "knee,best"], "are chosen by knee"),
    "a choice from high to low": ([*SEARCH, "--choose", "60M..40M"], "go from low to high, but got '60M..40M'"),
    "a choice from no number": ([*SEARCH, "--choose", "abc..60M"], "are chosen by knee"),
    "a choice of nothing": ([*SEARCH, "--choose", "0M"], "must be above zero"),
    "a latency budget that is none": ([*SEARCH, "--latency-budget", "8ms,fast"], "a latency budget is like 8ms"),
    "a budget that no number holds": ([*SEARCH[:-1], "9" * 400], "must be above zero, below 1e+18 and"),
    "a trial without end": ([*SEARCH, "--trial-seconds", "inf"], "trial_seconds: Input should be a finite number"),
    "a budget among several that is none": ([*SEARCH[:-1], "60M,lots"], "a FLOPs budget is like"),
    "a budget of memory that is none": ([*SEARCH, "--memory-budget", "few"], "a memory budget is like"),
    "a budget of parameters that is none": ([*SEARCH, "--params-budget", "few"], "a parameter budget is like"),
    "fidelity of nothing": (["fidelity", "--supernet", "x"], "no file x"),
    "too few networks for bins": (["fidelity", "--supernet", "x", "--count", "8", "--bins", "5"], "at least 10 in 5"),
    "a broken space": (["train", "--space", "space.toml"], "space.toml: `ratios` must"),
    "a source that is no table": (["calibrate", "transfer", "broken.json"], "no latency table"),
    "an option before a transfer's": (
        ["calibrate", "--runtime", "openvino", "transfer", "x"],
        "--runtime would not reach `calibrate transfer`",
    ),
    "a prior that is no table": (["calibrate", "import", "x", "--prior", "broken.json"], "no latency table"),
    "a folder for a table": (["calibrate", "--space", "digits", "--out", "."], ". must be a file, but it is a folder"),
    "an unknown space": (["calibrate", "--space", "mars"], "a space is one of"),
    "a space that is none": (["space", "mars"], "a space is one of"),
    "a space of one's own that is none": (["space", "broken.toml"], "there is no `[space]` table"),
    "an unknown runtime": (["calibrate", "--runtime", "abacus"], "a runtime is one of"),
    "an endless calibration": (["calibrate", "--minutes", "inf"], "should be less than or equal to 525600"),
    "an endless run": (["run", "--minutes", "inf"], "should be less than or equal to 525600"),
    "a seed of more than 63 bits": ([*SEARCH, "--seed", str(1 << 63)], "less than or equal to 9223372036854775807"),
    "a run's seed of more than 63 bits": (["run", "--seed", str(1 << 64)], "less than or equal to 9223372036854775807"),
    "a calibration's seed of more than 63 bits": (
        ["calibrate", "--seed", str(1 << 64)],
        "less than or equal to 9223372036854775807",
    ),
    "seeds of more than 63 bits": (["retrain", "ghostnet-1.0", "--seeds", f"0,{1 << 63}"], "from 0 to 922337203685477"),
    "one seed and several": (
        ["retrain", "ghostnet-1.0", "--seed", "1", "--seeds", "0,1"],
        "either --seed or --seeds, not both: --seeds '0,1'",
    ),
    "one network twice": (["retrain", "ghostnet-1.0", "ghostnet-1.0"], "architecture ghostnet-1.0 is there twice"),
    "no recipe's name": (["run", ""], "or a file ending in .toml; not ''"),
    "no name of retraining": (["retrain", "ghostnet-1.0", "--recipe", ""], "or a file ending in .toml; not ''"),
    "too few trials": ([*SEARCH, "--trials", "0"], "greater than or equal to 1, but got '0'"),
    "trials that are no number": ([*SEARCH, "--trials", "abc"], "unable to parse string as an integer, but got 'abc'"),
    "minutes that are no number": (["run", "--minutes", "nan"], "--minutes': Input should be a number, but got 'nan'"),
    "a rate that is no number": (["train", "--lr", "-NaN"], "--lr': Input should be a number, but got '-NaN'"),
    "fewer classes than none": (["cost", "ghostnet-1.0", "--classes", "-1"], "or equal to 0, but got '-1'"),
    "too many channels": (["cost", "ghostnet-1.0", "--in-chs", "99999"], "`in_chs` must be a whole number from 1"),
    "a batch that fills memory": (["calibrate", "--batch", "99999999"], "or equal to 65536, but got '99999999'"),
    "a kit's batch that fills memory": (
        ["calibrate", "kit", "--batch", "99999999"],
        "or equal to 65536, but got '99999999'",
    ),
    "no seeds": (["retrain", "ghostnet-1.0", "--seeds", ""], "seeds are different whole numbers"),
    "too many threads": (["calibrate", "--threads", "4096"], "threads must be"),
    "a folder that is no run": (["report", "."], "holds no run"),
    "missing weights": (["export", "ghostnet-1.0", "--weights", "none.safetensors"], "no file none"),
    "a table that is none": (["cost", "ghostnet-1.0", "--latency", "broken.json"], "no latency table"),
}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["run"], "stopped; the same command with --resume goes on from here"),
        (["calibrate"], "stopped; the same command with --resume goes on from here"),
        (["fidelity", "--supernet", "there"], "stopped; the same command goes on from here"),
        (["calibrate", "kit"], "stopped"),
        (["space", "digits"], "stopped"),
    ],
)
def test_ctrl_c_says_how_to_go_on(command, words, tmp_path):
    """An interrupt while the command loads what it needs; typer alone would end without a word."""
    interrupted = "import sys, builtins\n" + SPY.replace(
        "try:",
        "import search.commands.shared as s, search.data.names as n, search.files as f, spaces.custom as c\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "n.check_data_name = c.load_space = f.check_writable = stop\ntry:",
        1,
    )
    done = subprocess.run([sys.executable, "-c", interrupted, *command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (130, words) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "resumes"),
    [
        (["run"], True),
        (["calibrate"], True),
        (["calibrate", "kit"], False),
        (["init", "pictures"], False),
        (["report", "here"], False),
        (["space", "digits"], False),
    ],
)
def test_a_full_disk_is_told_with_how_to_go_on_where_a_command_has_that(command, resumes, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "x.toml")

    for what in ("data.names.check_data_name", "pipeline.proposal.recipe_path"):
        monkeypatch.setattr(f"search.{what}", full)
    monkeypatch.setattr("spaces.custom.load_space", full)
    monkeypatch.setattr("search.write_report", full, raising=False)
    monkeypatch.setattr(sys, "argv", ["ghostnas", *command])
    assert cli._run() == 2
    hint = "; --resume goes on once there is room" if resumes else ""
    assert capsys.readouterr().err == f"ghostnas: x.toml: No space left on device{hint}\n"


@pytest.mark.parametrize(
    "during",
    ["sys.modules['search.cli'] = Stopping('cli')", "import typer.core; typer.core.TyperGroup.parse_args = stop"],
    ids=["loading", "reading the command line"],
)
def test_ctrl_c_before_a_command_has_begun(during):
    code = (
        "import sys, types\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "class Stopping(types.ModuleType): __getattr__ = stop\n"
        f"{during}\n"
        "from search.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code, "space", "digits"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (130, "stopped")


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("absent.part", "absent is not installed"),
        ("broken", "broken is installed, but can't be imported: no libtbb.so"),
    ],
)
def test_a_package_that_is_missing_or_broken_is_named_in_one_line(package, message, tmp_path):
    (tmp_path / "broken.py").write_text("raise ImportError('no libtbb.so', name='broken')\n")
    code = (
        "import search.cli as cli, sys\n"
        f"def app(*_, **__): import {package}\n"
        f"cli.app = app; sys.path.insert(0, {str(tmp_path)!r})\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"ghostnas: {message}")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, tmp_path):
    arguments, message = BAD[case]
    (tmp_path / "broken.toml").write_text("epochs = 3\n")
    (tmp_path / "space.toml").write_text('[space]\nbase = "cifar"\nratios = [0]\n')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "my pictures").mkdir()
    (tmp_path / os.fsdecode(b"q\xff")).mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([sys.executable, "-c", SPY, *arguments], cwd=tmp_path, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("ghostnas: "), done.stderr
    assert message in lines[0]
    assert done.stdout.strip() == "False", "torch was loaded to say so"
    assert sorted(tmp_path.rglob("*")) == before


def test_cost_for_machines(tmp_path):
    output = json.loads(ghostnas("cost", "ghostnet-1.0", "--json", cwd=tmp_path).stdout)
    assert (output["macs"], output["params"], output["resolution"]) == (141_150_512, 5_182_508, 224)
    (tmp_path / "arch.json").write_text(small_arch().to_json())
    by_file = json.loads(ghostnas("cost", "arch.json", "--json", cwd=tmp_path).stdout)
    by_folder = json.loads(ghostnas("cost", ".", "--json", cwd=tmp_path).stdout)
    assert by_file == by_folder and by_file["arch"] == small_arch().id


def test_space_for_machines(tmp_path):
    from spaces import named_space

    output = json.loads(ghostnas("space", "cifar", "--json", cwd=tmp_path).stdout)
    assert output["size"] == named_space("cifar").size
    assert set(output["dimensions"]) == {"width", "ratio", "cheap_kernel", "se"}
    (tmp_path / "mine.toml").write_text('[space]\nbase = "digits-plus"\nratios = [1, 2]\nalign = 4\n')
    output = json.loads(ghostnas("space", "mine.toml", "--json", cwd=tmp_path).stdout)
    assert output["space"] == "mine" and output["align"] == 4 and len(output["dimensions"]) == 8
    histogram = output["histogram"]
    assert sum(histogram["counts"]) == histogram["networks"] == 20_000
    assert output["macs"][0] <= histogram["macs"][0] < histogram["macs"][-1] <= output["macs"][1]


def test_a_space_that_no_float_counts_is_described():
    from search.report.formatting import format_size
    from search.report.space import describe_space, format_space
    from spaces import space_from_dict

    space = space_from_dict({"base": "digits", "rows": [[[3, 16, 16, 0, 1]] * 60] * 7})
    assert space.size > 10**310
    assert format_size(10**400) == "1.0 x 10^400" and format_size(6_400_000_000) == "6,400,000,000"
    digits = len(str(space.size))
    assert re.search(rf"^custom: [0-9]\.[0-9] x 10\^{digits - 1} networks, ", format_space(describe_space(space, 50)))


def test_space_for_people(tmp_path):
    from spaces import named_space

    text = ghostnas("space", "digits-plus", cwd=tmp_path).stdout
    assert f"digits-plus: {named_space('digits-plus').size:,} networks" in text
    for message in (
        "smallest  ",
        "largest  ",
        "multiply-adds",
        "parameters",
        "█",
        "hidden expansion",
        "1, 2, 3  (stages.1",
    ):
        assert message in text


def test_help_names_every_command_of_the_contract(tmp_path):
    text = ghostnas("--help", cwd=tmp_path).stdout
    for command in ("run", "train", "calibrate", "search", "retrain", "export", "cost", "report"):
        assert f"  {command} " in text


def test_costs_layer_by_layer_add_up(tmp_path):
    output = json.loads(ghostnas("cost", "ghostnet-1.3", "--layers", "--json", cwd=tmp_path).stdout)
    for key in ("macs", "params"):
        assert sum(layer[key] for layer in output["layers"]) == output[key]
    lines = ghostnas("cost", "ghostnet-1.3", "--layers", cwd=tmp_path).stdout.splitlines()
    assert len([line for line in lines if line.startswith("blocks.")]) == len(output["layers"]) - 3
    assert any(line.startswith("classifier ") and "1,280,000" in line for line in lines)


def test_weights_of_another_architecture_are_refused_by_the_names_that_differ(tmp_path):
    weights.save_weights(GhostNet(small_arch(), 4), tmp_path / "net.pth")
    (tmp_path / "arch.json").write_text(small_arch().to_json())
    (tmp_path / "other.json").write_text(small_arch(tail_chs=25).to_json())
    done = ghostnas("export", "other.json", "--weights", "net.pth", "--out", "there", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "net.pth: not weights of architecture" in done.stderr and "[24," in done.stderr
    assert not (tmp_path / "there").exists()
    done = ghostnas(
        "export", "arch.json", "--weights", "net.pth", "--to", "safetensors", "--out", "there", cwd=tmp_path
    )
    assert done.returncode == 0 and (tmp_path / "there" / "manifest.json").exists()


def test_networks_have_folders_of_their_own_whatever_their_files_are_called(tmp_path):
    from search.commands.retrain import _archs_by_name
    from search.run_folder.run import retrained_folders
    from spaces import named_space

    space = named_space("digits")
    files = {tmp_path / "..json": space.smallest, tmp_path / "...json": space.largest}
    for file, arch in files.items():
        file.write_text(arch.to_json())
    named = _archs_by_name(list(map(str, files)))
    assert named == {arch.id: arch for arch in files.values()}
    assert {folder.parent for folder in retrained_folders(tmp_path, list(named), [0]).values()} == {tmp_path}


def test_version_help_and_verbosity(tmp_path):
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    version = ghostnas("--version", cwd=tmp_path)
    assert version.returncode == 0 and version.stdout.split()[0] == project["name"]
    assert "export verify" in ghostnas("export", "-h", cwd=tmp_path).stdout
    command = ["train", "--minutes", "0.01", "--out"]
    loud, quiet = ghostnas(*command, "loud", cwd=tmp_path), ghostnas("--quiet", *command, "quiet", cwd=tmp_path)
    assert quiet.returncode == loud.returncode and not quiet.stderr, quiet.stderr
    assert ghostnas("-q", "run", "mars", cwd=tmp_path).stderr.startswith("ghostnas: "), "errors are always printed"
