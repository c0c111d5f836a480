"""Names that files say never become paths outside the run's folder."""

import json
from pathlib import Path

import pytest

from search.accuracy import ranking_study
from search.engine.log import read_trials
from search.errors import UserError
from search.pipeline.current_run import Run
from search.pipeline.stages import networks
from search.recipes.schema import load_recipe, parse_recipe
from search.run_folder.result import read_figures, read_result
from search.run_folder.run import recorded_recipe
from tests.search.runs import SPACE, made_up_run

PATHS = ("../../X", "/abs/X", "..", ".", "", "a/b", ".hidden", "a\\b", "x\0", "a\nb", "x" * 300)


@pytest.fixture
def made(tmp_path) -> Path:
    return made_up_run(tmp_path / "run", trials=12)


@pytest.mark.parametrize("name", PATHS)
def test_labels_of_a_result_are_names(made, name):
    file = made / "search/result.json"
    result = json.loads(file.read_text())
    code = result["chosen"]["A"]["code"]
    for changed in ({"chosen": {name: result["chosen"]["A"]}}, {"random": {name: code}}):
        file.write_text(json.dumps(result | changed))
        job = Run(recorded_recipe(made), made)
        job.space = SPACE  # type: ignore[misc]
        with pytest.raises(UserError, match=r"result\.json: (chosen|random)\..*must be 1 to 100 letters"):
            networks(job)
    (made / "networks/latency.json").write_text(json.dumps({name: 1.0}))
    with pytest.raises(UserError, match="must be 1 to 100 letters"):
        read_figures(made / "networks/latency.json")


def test_results_from_before_they_had_a_schema_are_read(made):
    result = read_result(made / "search/result.json")
    assert list(result.chosen) == ["A", "B", "C"] and result.random == {}


@pytest.mark.parametrize("name", PATHS)
def test_an_architecture_in_a_log_is_an_id(made, name):
    log = made / "search/trials.jsonl"
    header, first, *_ = log.read_text().splitlines()
    log.write_text(f"{header}\n{json.dumps(json.loads(first) | {'arch': name})}\n")
    with pytest.raises(UserError, match=r"trials\.jsonl, line 2: arch: "):
        read_trials(log, SPACE)


@pytest.mark.parametrize("name", [*PATHS, "0123456789"])
def test_keys_of_a_studys_plan_are_the_ids_of_its_architectures(tmp_path, name):
    file = tmp_path / "plan.json"
    archs = [SPACE.smallest, SPACE.largest]
    file.write_text(json.dumps({arch.id: arch.to_dict() for arch in archs}))
    assert list(ranking_study.study_networks(SPACE, 2, 0, file)) == [arch.id for arch in archs]
    file.write_text(json.dumps({archs[0].id: archs[0].to_dict(), name: archs[1].to_dict()}))
    with pytest.raises(UserError, match=f"is {archs[1].id}"):
        ranking_study.study_networks(SPACE, 2, 0, file)


@pytest.mark.parametrize("name", PATHS)
def test_a_recipes_name_is_one(tmp_path, name):
    text = json.dumps(name)
    with pytest.raises(UserError, match="must be 1 to 100 letters"):
        parse_recipe(f"name = {text}\ndata = 'digits'\nspace = 'digits'\n[supernet]\nepochs = 1\n"
              "[search]\nflops_budget = '1M'\n[retrain]\nepochs = 1\n", "x")  # fmt: skip


def test_a_recipe_without_a_name_has_its_files(tmp_path):
    ours = Path(ranking_study.__file__).parents[1] / "recipes/digits.toml"
    for stem, name in (("mine", "mine"), ("my birds (2)", "my-birds--2-"), ("größe", "größe"), ("...", "recipe")):
        (tmp_path / f"{stem}.toml").write_text(ours.read_text())
        assert load_recipe(str(tmp_path / f"{stem}.toml")).name == name
