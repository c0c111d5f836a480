"""Imports go one way: `ghostnet` <- `spaces` <- `search`; the lower two need only torch and numpy."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "ghostnet": {"ghostnet", "torch", "numpy"},
    "spaces": {"ghostnet", "spaces", "torch", "numpy"},
}
WHERE_USED = {"ghostnet": {"safetensors", "scipy"}, "spaces": set()}  # inside the functions that need them
ASKED_FOR = {"timm_model.py": {"timm"}}  # modules that nothing else loads: their users have the package
ROOMS = ("training", "latency", "engine", "export", "report")
# What one room may know of another: how predictions and trained files are made and read.
BETWEEN_ROOMS = {
    ("engine", "search.latency.predictor"),
    ("report", "search.engine.budgets"),
    ("report", "search.engine.front"),
    ("report", "search.latency.predictor"),
    ("report", "search.latency.table"),
    ("export", "search.report"),
}


def imported(file: Path, on_loading: bool = False) -> set[str]:
    """Names of the modules that a file imports, anywhere or when it is loaded."""
    names = set()
    tree = ast.parse(file.read_text())
    for node in tree.body if on_loading else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_lower_packages_import_nothing_from_above(package):
    for file in (ROOT / package).rglob("*.py"):
        for on_loading, allowed in ((True, ALLOWED[package]), (False, ALLOWED[package] | WHERE_USED[package])):
            tops = {name.split(".")[0] for name in imported(file, on_loading)} - set(sys.stdlib_module_names)
            allowed = allowed | ASKED_FOR.get(file.name, set())
            assert tops <= allowed, f"{file} imports {tops - allowed}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_meet_only_where_it_is_said(room):
    for file in (ROOT / "search" / room).rglob("*.py"):
        for name in imported(file):
            other = name.split(".")[1] if name.startswith("search.") else ""
            if other in ROOMS and other != room:
                assert (room, name) in BETWEEN_ROOMS, f"{file} imports {name}"


def test_no_module_has_the_name_of_a_package_it_wraps():
    names = {path.stem for package in ("ghostnet", "spaces", "search") for path in (ROOT / package).rglob("*.py")}
    assert not names & {
        "optuna",
        "ray",
        "nni",
        "onnx",
        "torch",
        "random",
        "numpy",
        "onnxruntime",
        "openvino",
        "executorch",
        "ai_edge_litert",
        "timm",
    }


def test_another_distribution_called_spaces_is_told_in_one_clear_error(tmp_path):
    (tmp_path / "spaces.py").write_text("GPU = 1\n")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "search", "space", "digits"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "another distribution called `spaces` stands before GhostNAS's" in done.stderr.splitlines()[-1]
