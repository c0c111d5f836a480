"""Imports go one way: `ghostnet` <- `spaces` <- `search`; the lower two load only torch and numpy."""

import ast
import importlib
import importlib.util
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "ghostnet": {"ghostnet", "torch", "numpy"},
    "spaces": {"ghostnet", "spaces", "torch", "numpy"},
}
WHERE_USED = {"ghostnet": {"safetensors", "scipy", "timm"}, "spaces": set()}  # inside the functions that need them
ASKED_FOR = {"timm_model.py": {"timm"}}  # modules that nothing else loads at once: their users have the package
# The packages of `search`, from the top to the bottom: each imports from those that stand behind it. "" is its
# `__init__.py`; what is not named is a leaf that all may use.
ORDER = (
    *("__main__", "cli", "commands", "", "api", "pipeline", "report", "export", "run_folder", "engine", "accuracy"),
    *("parallel", "training", "latency", "graphs", "figures", "data", "recipes"),
)

# Where modules of ours are imported inside functions, besides the beginnings of commands: all to keep PyTorch out until
# a user's input is known to be right, or a runtime's package to be there.
LAZY_PLACES = {
    "search/__main__.py",
    "search/cli.py",
    "search/pipeline/run.py",
    *(f"search/data/layouts/{name}.py" for name in ("base", "digits", "image_folder", "parquet", "torchvision_sets")),
    *(f"search/latency/runtimes/{name}.py" for name in ("eager", "litert_cpu", "ncnn_cpu", "ort", "xnnpack")),
}
# Packages of others that take long to load or may be missing.
LATE_PACKAGES = {
    *("ai_edge_litert", "ai_edge_quantizer", "executorch", "flatbuffers", "ncnn", "nni", "onnxruntime", "openvino"),
    "ray",
    "tensorboard",
    "tflite_runtime",
    *("importlib", "scipy", "sklearn", "timm", "torch", "torchvision"),
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
        "ncnn",
        "timm",
    }


def module_graph(package: str) -> dict[str, set[str]]:
    """For each module of a package, those of the package that it imports, anywhere in the file: in functions and under
    TYPE_CHECKING, too."""
    files = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in (ROOT / package).rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        needed = graph[name] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                needed |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                needed |= {each if each in files else node.module for each in inside}
        needed &= files.keys() - {name}
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def arrows_up(graph: dict[str, set[str]], order: tuple[str, ...]) -> list[tuple[str, str]]:
    """Imports from a subpackage into one that stands before it in `order`: (importing module, imported one)."""
    at = {package: k for k, package in enumerate(order)}

    def rank(module: str) -> int:
        return at.get([*module.split("."), ""][1], len(order))

    return sorted((a, b) for a, needed in graph.items() for b in needed if rank(b) < rank(a))


@pytest.mark.parametrize("package", ["ghostnet", "spaces", "search"])
def test_no_modules_import_each_other_in_a_circle(package):
    graph = module_graph(package)
    assert len(graph) > 10 and any(graph.values())
    assert circle(graph) == []


def test_the_packages_of_search_import_one_way():
    graph = module_graph("search")
    assert {"cli", "pipeline", "engine", "recipes"} <= {name.split(".")[1] for name in graph if "." in name}
    assert arrows_up(graph, ORDER) == []


def lazy_imports(package: str) -> list[tuple[str, str]]:
    """Imports inside functions: (file, imported module)."""
    result = []
    for file in sorted((ROOT / package).rglob("*.py")):
        top = ast.parse(file.read_text())
        inside = {node for f in ast.walk(top) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
        place = file.relative_to(ROOT).as_posix()
        for node in inside:
            if isinstance(node, ast.Import):
                result += [(place, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                result.append((place, str(node.module)))
    return result


def test_modules_of_ours_are_imported_at_the_top_but_in_few_places():
    ours = {place for place, name in lazy_imports("search") if name.split(".")[0] in ("ghostnet", "spaces", "search")}
    assert {place for place in ours if not place.startswith("search/commands/")} <= LAZY_PLACES


def test_packages_of_others_are_imported_late_only_where_they_are_slow_or_optional():
    for place, name in lazy_imports("search"):
        top = name.split(".")[0]
        known = top in LATE_PACKAGES or top in ("ghostnet", "spaces", "search")
        assert known or place.startswith("search/commands/"), (place, name)


def test_every_package_of_search_has_its_place():
    packages = {folder.name for folder in (ROOT / "search").iterdir() if (folder / "__init__.py").exists()}
    assert packages <= set(ORDER)


def test_a_circle_is_seen_wherever_the_import_stands(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "made" / "__init__.py").write_text("")
    (tmp_path / "made" / "a.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import made.b\n")
    (tmp_path / "made" / "b.py").write_text("def f():\n    from made import c\n")
    (tmp_path / "made" / "c.py").write_text("")
    assert circle(module_graph("made")) == []
    assert arrows_up(module_graph("made"), ("c", "b", "a")) == [("made.a", "made.b"), ("made.b", "made.c")]
    (tmp_path / "made" / "c.py").write_text("from made.a import x\n")
    assert set(circle(module_graph("made"))) == {"made.a", "made.b", "made.c"}


READMES = [
    *(path for package in ("ghostnet", "spaces", "search") for path in sorted((ROOT / package).rglob("README.md"))),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_readme_links_to_are_there(readme):
    """But for pages of results, which their studies write."""
    links = re.findall(r"\]\(([^)#?\s]+)[^)]*\)", readme.read_text())
    ours = [link for link in links if not link.startswith("http") and "results/" not in link]
    assert ours and all((readme.parent / link).exists() for link in ours), ours


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_that_a_readme_says_are_in_a_file_are_there(readme):
    """`name`, `other` in [`file.py`](file.py)"""
    names = r"((?:`[A-Za-z_][\w.]*`(?:, | and )?)+)"
    for listed, link in re.findall(rf"{names} (?:in|of) \[`[^`]+`\]\(([^)#]+\.py)\)", readme.read_text()):
        content = (readme.parent / link).read_text()
        for name in re.findall(r"`([^`]+)`", listed):
            assert name.split(".")[-1] in content, f"{name} is not in {link}"


@pytest.mark.parametrize("readme", READMES[:-2], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_says_which_file_to_open(readme):
    assert "| I want to | I open |" in readme.read_text()


@pytest.mark.parametrize("readme", READMES[:-2], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_of_a_room_is_named_in_its_readme(readme):
    """So that who looks for where something is done finds it there."""
    named = set(re.findall(r"(?<![\w/.])\w+\.py\b", readme.read_text()))
    modules = {file.name for file in readme.parent.glob("*.py")} - {"__init__.py"}
    assert not modules - named


@pytest.mark.parametrize(
    "study", sorted((ROOT / "results").rglob("*.py")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_studies_import_names_that_exist(study):
    """No other test runs them, and a published figure is worth what its command is."""
    for node in ast.walk(ast.parse(study.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            continue
        names = [alias.name for alias in node.names]
        sibling = study.with_name(f"{node.module}.py")
        if sibling.exists():
            assert set(names) <= set(top_names(ast.parse(sibling.read_text()))), f"{study}: from {node.module}"
        elif node.module.split(".")[0] in ("ghostnet", "spaces", "search"):
            module = importlib.import_module(node.module)
            for name in names:
                assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), f"{study}: {name}"


def top_names(tree):
    """What a module defines or imports at its top."""
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from (target.id for t in node.targets for target in ast.walk(t) if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
