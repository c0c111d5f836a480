"""Storage addresses with passwords are used, and neither written nor shown."""

import json

import pytest

from search.errors import UserError
from search.pipeline import run as pipeline
from search.pipeline.settings import RunSettings
from search.recipes.schema import load_recipe, parse_recipe
from search.report.report import write_report
from search.run_folder.run import recorded_recipe
from search.secrets import storage_address, without_secrets
from search.terminal import fail
from tests.search.runs import made_up_run

ADDRESSES = (
    "postgresql://user:hush@host/db",
    "mysql+pymysql://user:top/hu@sh:hush@host:3306/db?charset=utf8",
    "postgresql://host/db?password=hush&user=u",
    "postgresql://host/db?sslmode=require&PASSWORD=hush",
    "sqlite:///file.db?key=hu@hush",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_secret_of_an_address_is_shown(address, capsys):
    hidden = without_secrets(address)
    assert "hush" not in hidden and "***" in hidden and hidden.startswith(address.partition("://")[0])
    fail(f"the storage {address} is gone")
    assert "hush" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["sqlite:///a.db", "a/b.journal", "postgresql://user@host/db", "3 + 4: a@b, c?d=e"])
def test_what_has_no_secret_stays(text):
    assert without_secrets(text) == text


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_run_keeps_no_secret(tmp_path, address, monkeypatch):
    monkeypatch.setattr("search.pipeline.search_problem.open_storage", lambda _: None)  # there is none
    recipe = load_recipe("digits")
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"storage": address})})
    assert recipe.search.storage == address
    out = tmp_path / "run"
    for resume in (False, True):
        with pipeline.open_run(recipe, out, RunSettings(resume=resume)):
            pass
    kept = recorded_recipe(out).search.storage
    with pytest.raises(UserError, match="GHOSTNAS_STORAGE is its whole address"):
        storage_address(kept)
    monkeypatch.setenv("GHOSTNAS_STORAGE", address)
    assert storage_address(kept) == storage_address(None) == address
    for path in out.rglob("*"):
        assert path.is_dir() or b"hush" not in path.read_bytes(), path


def test_a_report_of_a_run_that_kept_one_has_none(tmp_path):
    address, old = ADDRESSES[1], made_up_run(tmp_path / "old")
    recorded = json.loads((old / "run.json").read_text())
    recorded["recipe"]["search"]["storage"] = address
    (old / "run.json").write_text(json.dumps(recorded))
    write_report(old)
    for path in (old / "report").iterdir():
        assert b"hush" not in path.read_bytes(), path
    assert parse_recipe((old / "report/recipe.toml").read_text(), "x").search.storage == without_secrets(address)
