"""The terminal: names are shown and not obeyed, and what the system refuses is one line."""

import errno
import os
import re
import subprocess
import sys

import pytest

from ghostnet import GhostNet
from search import terminal
from search.errors import UserError
from search.files import JsonLines, check_writable, write_bytes
from search.progress import bar
from search.terminal import encodable, markdown, one_line, os_error, printable, say, show, show_table
from tests.search.command_line import ghostnas

NASTY = "[bold]v2[/a] :smile: \x1b[31m\x07\r\u202e\x9b2J\udcff"
PLAIN = "[bold]v2[/a] :smile: \\x1b[31m\\x07\\r\\u202e\\x9b2J\\udcff"


def test_text_is_shown_as_it_is_and_control_characters_are_written_out(capsys):
    assert printable(NASTY) == PLAIN and printable("a\nb é 日本 ä") == "a\nb é 日本 ä"
    say(NASTY, "bold")
    show(NASTY)
    show_table([NASTY, "x"], [[NASTY, "1\n2"]], title=NASTY, bold=[0])
    out, err = capsys.readouterr()
    assert err == f"{PLAIN}\n" and out.startswith(f"{PLAIN}\n")
    assert "1\\n2" in out and "[/a]" in out and not any(c in out + err for c in "\x1b\x07\r\u202e\x9b\udcff")


@pytest.mark.parametrize("width", [1, 20, 50, 200])
def test_a_table_loses_nothing_however_narrow_the_terminal(width, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "stdout", terminal._Results(width=width, highlight=False, markup=False, emoji=False))
    rows = [[f"network-{k}", f"{k}5.25", f"{k}56k", f"0.0{k}1"] for k in range(3)]
    show_table(["", "test accuracy (%)", "multiply-adds", "latency (ms)"], rows, title="All", bold=[0])
    out = capsys.readouterr().out
    assert "All" in out and all(cell in out for row in rows for cell in row) and "accuracy" in out


def test_a_bar_takes_any_title_and_word(capsys, monkeypatch):
    from rich.console import Console

    there = Console(
        file=terminal.ErrorStream(), force_terminal=True, color_system=None, markup=False, emoji=False, width=200
    )
    monkeypatch.setattr("search.progress.console", there)
    with bar(NASTY, 2) as progress:
        progress.advance("[/a] loss")
    err = capsys.readouterr().err
    assert PLAIN in err and "[/a] loss" in err


def test_what_an_encoding_lacks_is_said_in_ascii():
    assert encodable("█▌ ± é", "ascii") == "# +- \\xe9" and encodable("█▌ ± é", "utf-8") == "█▌ ± é"
    assert encodable("é", "latin-1") == "é"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "search", "space", "digits"], capture_output=True, env=env)
    assert done.returncode == 0 and done.stdout.isascii() and b"###" in done.stdout


def test_news_that_nobody_takes_never_ends_the_work(monkeypatch):
    class Full:
        encoding = "utf-8"

        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        flush = isatty = lambda self: self.write("")

    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(type(terminal.console), "is_terminal", False)
    say("lost")


def test_no_columns_are_an_unknown_width():
    env = {**os.environ, "COLUMNS": "0", "LINES": "0"}
    done = subprocess.run([sys.executable, "-m", "search", "space", "digits"], capture_output=True, env=env, text=True)
    assert done.returncode == 0 and "digits" in done.stdout


def test_a_current_folder_that_is_gone_is_said_in_a_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    remove = "import os, sys; os.rmdir(os.getcwd()); from search.cli import main; sys.argv[0] = 'ghostnas'; main()"
    for command in (["run", "--out", "new"], ["run", "digits", "--out", "new", "--resume"]):
        gone.mkdir(exist_ok=True)
        done = subprocess.run([sys.executable, "-c", remove, *command], capture_output=True, cwd=gone, text=True)
        assert (done.returncode, done.stderr) == (2, "ghostnas: the current folder is gone\n"), done.stderr


@pytest.mark.parametrize("command", [("cost", "ghostnet-1.0", "--layers"), ("cost", "ghostnet-1.0", "--json")])
def test_an_output_that_takes_nothing_is_one_line(command):
    """A full disk, and a pipe that nobody reads."""
    run = [sys.executable, "-m", "search", *command]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "w") as full, os.fdopen(writing, "w") as broken:
        for stream, why in ((full, "No space left on device"), (broken, "Broken pipe")):
            done = subprocess.run(run, stdout=stream, stderr=subprocess.PIPE, text=True)
            assert (done.returncode, done.stderr) == (2, f"ghostnas: the output can't be written: {why}\n")


def test_an_output_that_is_no_place_is_one_line_before_any_work(tmp_path):
    (tmp_path / "file").write_text("kept")
    no_folder = "is no folder that can be written to"
    for command, out, why in (
        ("train", "file", no_folder),
        ("train", "file/below", no_folder),
        ("train", "x" * 300, "File name too long"),
        ("retrain digits:0.5x", "file", no_folder),
        ("fidelity --supernet s", "file", no_folder),
        ("run", "file", no_folder),
        ("calibrate kit", "file/below", no_folder),
    ):
        done = ghostnas(*command.split(), "--out", out, cwd=tmp_path)
        assert done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_can_be_written_to_or_made_is_one(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    for name in ("there", "there/new", "there/new/deep"):
        check_writable(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match="can be written to"):
        check_writable(tmp_path / "there/new")


@pytest.mark.parametrize("write", [lambda p: write_bytes(p, b"new"), lambda p: JsonLines(p).append({"new": 1})])
def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path, monkeypatch, write):
    path = tmp_path / "log"
    path.write_bytes(b'{"old": 1}\n')

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError) as caught:
            write(path)
    assert os_error(caught.value) == f"{path}: No space left on device"
    assert path.read_bytes().startswith(b'{"old": 1}\n') and [p.name for p in tmp_path.iterdir()] == ["log"]


def test_text_in_markdown_is_shown_and_is_no_markdown():
    nasty = "a|b\n# c [d](http://e) <img src=x> `f` *g* $h$ &lt; \x1b[2J"
    escaped = markdown(nasty)
    assert "\n" not in escaped and "\x1b" not in escaped
    assert re.sub(r"\\([^\w\s])", r"\1", escaped) == one_line(nasty)  # what a reader makes of it
    assert not re.search(r"(?<!\\)[|#\[\]()<>`*$&]", escaped)
    assert markdown("parquet cifar-10.1") == "parquet cifar-10.1"


def test_names_are_escaped_in_the_pages_that_are_markdown():
    from search.accuracy.study import Study
    from search.export.formats.hub_folder import model_card
    from search.export.manifest import Manifest
    from search.records import parse_record
    from search.report.fidelity import page
    from tests.fuzz_kinds import made_up_study
    from tests.helpers import small_arch

    name = "x|[y](http://z)<script>"
    net = GhostNet(small_arch(), 5)
    latency = {"measured_ms": 1.0, "runtime": name, "runtime_version": name}
    study = parse_record(Study, made_up_study("x") | {"space": name}, "made up")
    facts = {"macs": 1, "params": 1, "data": f"imagefolder:{name}", "space_id": name, "latency": latency}
    known = {"schema": "ghostnas.manifest/1", "arch": net.arch.id, "num_classes": 5, "in_chs": 3, "files": {}}
    for text in (model_card(net, parse_record(Manifest, known | facts, "made up")), page(study)):
        assert markdown("y](") in text and not re.search(r"(?<!\\)(<script|\[y\])", text)
