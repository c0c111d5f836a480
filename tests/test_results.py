"""The commands that the published studies were made by still start, and their pages say what their figures say."""

import argparse
import importlib.util
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from search.files import read_json
from search.records import read_record

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
SCRIPTS = sorted(RESULTS.glob("*/*.py"))
PACKAGES = ("torch_pruning", "torchvision")  # of the extra `study`, and of timm's


@contextmanager
def loaded(script):
    """A study's script as a module; it finds the other scripts of its folder, which the next study doesn't."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(script.parent))
        before = set(sys.modules)
        name = f"study_{script.parent.name}_{script.stem}".replace("-", "_")
        spec = importlib.util.spec_from_file_location(name, script)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, name, module)  # where dataclasses look their types up
        try:
            spec.loader.exec_module(module)
            yield module
        finally:
            siblings = {path.stem for path in script.parent.glob("*.py")}
            for name in set(sys.modules) - before:
                if name in siblings:  # other studies have files of the same name
                    del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_study_is_loaded(script):
    """Its imports are there, and its recipes keep the rules."""
    try:
        with loaded(script) as module:
            assert module.__doc__
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        pytest.skip(f"{error.name} is not here")


def cifar32(module, *_):
    design = module.Design("two-cores")
    return module.page(design, read_record(design.result, module.Study))


def fidelity(module, folder, _):
    with loaded(folder / "make.py") as study:
        files = {name: folder / name / study.RESULT for name in study.SUPERNETS}
        found = {name: read_json(file) for name, file in files.items() if file.exists()}
        about = {name: text for name, (text, *_) in study.SUPERNETS.items()}
        return module.page(found, about, study.space_for("digits", 10, 3))


def ghostbench(module, folder, _):
    bench = module.load_ghostbench(folder / "ghostbench.json")
    others = (folder / name for name in ("methods.json", "models.json", "real.json"))
    return module.page(bench, *(read_json(file) if file.exists() else None for file in others))


def pretrained(module, folder, _):
    figures = read_json(folder / "study.json")
    return module.page(figures, [module.Row(**row) for row in figures["networks"]])


def of_json(name):
    return lambda module, folder, _: module.page(read_json(folder / name))


def of_record(name, kind):
    return lambda module, folder, _: module.page(read_record(folder / name, getattr(module, kind)))


def written(name, *figures):
    """For a script that writes its page beside its figures."""

    def page(module, folder, out):
        for pattern in figures:
            for file in folder.glob(pattern):
                shutil.copy(file, out)
        module.page(argparse.Namespace(out=out))
        return (out / name).read_text()

    return page


PAGES = {
    "cifar10/README.md": ("page.py", of_json("study.json")),
    "cifar32/two-cores/README.md": ("../page.py", cifar32),
    "fidelity/README.md": ("page.py", fidelity),
    "ghostbench/README.md": ("page.py", ghostbench),
    "ghostify/README.md": ("make.py", of_json("ghostify.json")),
    "latency/README.md": ("make.py", written("README.md", "*-b*.json", "*.lat.json")),
    "latency/kit.md": ("kit.py", written("kit.md", "kit.json")),
    **{
        f"latency/{name}.md": (f"{name}.py", of_json(f"{name}.json"))
        for name in ("budgets", "estimates", "fronts", "lowering", "memory", "transfer", "widths")
    },
    "pretrained/README.md": ("page.py", pretrained),
    "search-benchmark/README.md": ("make.py", of_json("benchmark.json")),
    "weights/kinds.md": ("kinds.py", of_record("kinds.json", "Study")),
    **{f"weights/{name}.md": (f"{name}.py", of_json(f"{name}.json")) for name in ("soft", "transplants", "units")},
    "weights/ways.md": ("ways_page.py", of_record("ways.json", "Ways")),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_its_figures_say(name, tmp_path):
    """It is what its script makes of the figures that are published beside it, to the letter."""
    page, (script, make) = RESULTS / name, PAGES[name]
    with loaded((page.parent / script).resolve()) as module:
        assert make(module, page.parent, tmp_path) == page.read_text()


def test_the_readmes_tables_say_what_their_figures_say():
    readme = (RESULTS.parent / "README.md").read_text()
    with loaded(RESULTS / "weights/ways_page.py") as module:
        table = module.headline(read_record(RESULTS / "weights/ways.json", module.Ways))
    assert f"<!-- weights -->\n{table}\n<!-- end -->" in readme
    with loaded(RESULTS / "pretrained/page.py") as module:
        table = module.headline([module.Row(**row) for row in read_json(RESULTS / "pretrained/study.json")["networks"]])
    assert f"<!-- pretrained -->\n{table}\n<!-- end -->" in readme
