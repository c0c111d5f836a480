"""Other distributions have packages called `ghostnet`, `spaces` and `search`: whatever the order of installing and
removing, one line says what is wrong and the command that mends it. In an environment with nothing in it."""

import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REINSTALL = "pip install --force-reinstall --no-deps ghostnas"


class Bare:
    """An environment without pip: wheels are unpacked, and removed by their RECORD, as pip does it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "env", symlinks=True)
        self.folder, self.python = folder, folder / "env" / "bin" / "python"
        values = {"base": str(folder / "env"), "platbase": str(folder / "env")}
        self.site = Path(sysconfig.get_path("purelib", "venv", values))

    def wheel(self, name: str, files: dict[str, str]) -> Path:
        info = f"{name}-1.0.dist-info"
        files = files | {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
        path = self.folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for file, text in files.items():
                archive.writestr(file, text)
            archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD")))
        return path

    def install(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.site)

    def uninstall(self, name: str) -> None:
        for line in (self.site / f"{name}-1.0.dist-info" / "RECORD").read_text().splitlines():
            (self.site / line.split(",")[0]).unlink()
        (self.site / f"{name}-1.0.dist-info").rmdir()

    def run(self, *arguments: str, path: str = "") -> subprocess.CompletedProcess:
        env = {"PYTHONPATH": path} if path else {}
        return subprocess.run([self.python, *arguments], cwd=self.folder, env=env, capture_output=True, text=True)

    def message(self, path: str = "") -> str:
        """What the command says, which must be one line; empty where the packages are ours."""
        done = self.run("-m", "search", "space", "digits", path=path)
        if "No module named 'typer'" in done.stderr:  # as far as an empty environment comes
            assert self.run("-c", "import search", path=path).returncode == 0
            return ""
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        return done.stderr.strip()


@pytest.fixture
def bare(tmp_path):
    return Bare(tmp_path)


def ours(bare: Bare) -> Path:
    files = [file for package in ("ghostnet", "spaces", "search") for file in (ROOT / package).rglob("*.py")]
    return bare.wheel("ghostnas", {file.relative_to(ROOT).as_posix(): file.read_text() for file in files})


@pytest.mark.parametrize("name", ["ghostnet", "spaces", "search"])
def test_whatever_the_order_one_line_says_the_command_that_mends_it(bare, name):
    own, other = ours(bare), bare.wheel(name, {f"{name}/__init__.py": "GPU = 1\n", f"{name}/zero.py": ""})
    bare.install(own)
    assert bare.message() == ""
    bare.install(other)  # over ours
    both = f"`{name}` is overwritten by another distribution: pip uninstall -y {name} && {REINSTALL}"
    assert bare.message() == f"ghostnas: {both}"
    bare.uninstall(name)
    assert bare.message().endswith(f"{name}`: {REINSTALL}")
    bare.install(own)
    assert bare.message() == ""
    bare.install(other)  # and now ours over it
    bare.install(own)
    assert bare.message() == ""
    bare.uninstall(name)
    assert bare.message().endswith(f"{name}`: {REINSTALL}")


def test_a_package_that_stands_before_ours_is_named(bare):
    bare.install(ours(bare))
    before = bare.folder / "before"
    before.mkdir()
    (before / "spaces.py").write_text("GPU = 1\n")
    message = bare.message(path=str(before))
    assert message.startswith("ghostnas: another package called `spaces` stands before GhostNAS's")
    assert message.endswith(f"move or rename {before.resolve() / 'spaces.py'}")
    library = bare.run("-c", "import search", path=str(before))
    assert library.stderr.splitlines()[-1] == f"ImportError: {message.removeprefix('ghostnas: ')}"
