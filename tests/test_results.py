"""The commands that the published studies were made by still start."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "results").glob("*/*.py"))
PACKAGES = ("torch_pruning", "torchvision")  # of the extra `study`, and of timm's


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_study_is_loaded(script, monkeypatch):
    """Its imports are there, and its recipes keep the rules."""
    monkeypatch.syspath_prepend(str(script.parent))
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(f"study_{script.parent.name}_{script.stem}".replace("-", "_"), script)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look their types up
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        pytest.skip(f"{error.name} is not here")
    finally:
        siblings = {path.stem for path in script.parent.glob("*.py")}
        for name in set(sys.modules) - before:
            if name in siblings:  # other studies have files of the same name
                del sys.modules[name]
    assert module.__doc__
