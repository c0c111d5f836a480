"""Recipes: ours load, broken ones are refused by name and value."""

from pathlib import Path

import pytest

from search.errors import UserError
from search.pipeline.run import check
from search.recipes import schema as recipes
from search.recipes.schema import SupernetTraining, load_recipe, parse_recipe, supernet_part
from search.records import check_name
from spaces.custom import load_space, parse_space

GOOD = """
data = "digits"
space = "digits"
[supernet]
epochs = 1
[search]
flops_budget = "500k"
[retrain]
epochs = 1
"""


def test_lists_and_whole_numbers_stand_for_tuples_and_numbers():
    whole = parse_recipe(GOOD.replace("[search]", "[search]\nobjectives = ['accuracy', 'macs']") + "lr = 1\n", "mine")
    assert (whole.search.objectives, whole.retrain.lr, whole.retrain.epochs) == (("accuracy", "macs"), 1.0, 1.0)
    assert parse_recipe(GOOD + "baseline_widths = [1, 0.5]\n", "mine").retrain.baseline_widths == (1.0, 0.5)


def test_a_changed_recipe_keeps_its_secrets():
    address = "postgresql://me:secret@db/x"
    recipe = parse_recipe(GOOD.replace("[search]", f"[search]\nstorage = '{address}'"), "mine")
    changed = recipe.changed(seed=7, search=recipe.search.changed(flops_budget="400k"))
    assert (changed.seed, changed.search.flops_budget, changed.search.storage) == (7, "400k", address)
    assert recipe.changed(seed=7).search.storage == address and "secret" not in str(changed.model_dump())


def test_ours_load_and_have_what_a_run_needs():
    for name in ("digits", "cifar10"):
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.retrain.chosen >= 3 and recipe.search.trials >= 150


@pytest.mark.parametrize("name", ["folder", "imagenet"])
def test_recipes_for_pictures_need_only_the_pictures(name, tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="no folder"):
        check(load_recipe(name))
    check(load_recipe(name).model_copy(update={"data": f"imagefolder:{tmp_path}"}))
    assert parse_space(load_recipe(name).space).resolution == 224


def test_a_training_alone_knows_nothing_of_the_run():
    whole = load_recipe("digits").retrain
    other = whole.model_copy(update={"chosen": 9, "seeds": 5, "workers": 2})
    assert whole.alone() == other.alone() != other.model_copy(update={"lr": 0.5}).alone()


def test_recipes_of_before_there_was_a_least_number_of_steps_are_the_same():
    assert "min_steps" not in load_recipe("digits").model_dump()["retrain"]
    floor = parse_recipe(GOOD + "min_steps = 90\n", "mine").retrain
    assert floor.model_dump()["min_steps"] == 90 and floor.alone().min_steps == 90


def test_few_networks_for_a_correction_are_refused():
    assert parse_recipe(GOOD + "[fidelity]\nspread = 8\n", "mine").fidelity.networks == 8
    with pytest.raises(UserError, match="8 networks or more, spread and front together, or none; not 7"):
        parse_recipe(GOOD + "[fidelity]\nspread = 5\nfront = 2\n", "mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("epochs = 1", "epochs = 0"), "supernet.epochs"),
        (("epochs = 1", 'epochs = "many"'), "supernet.epochs"),
        (("epochs = 1", "epochs = 1e-310\nmin_steps = 9"), "supernet.epochs: .* 0.000001, but got 1e-310$"),
        (("epochs = 1", "epochs = true"), "supernet.epochs: .* number, but got True$"),
        (("epochs = 1", "epochs = '1'"), "supernet.epochs: .* number, but got '1'$"),
        (("epochs = 1", "epochs = 1\nbatch_size = '16'"), "supernet.batch_size: .* integer, but got '16'$"),
        (("epochs = 1", "epochs = 1\nbatch_size = 64\naccumulate = 3"), "multiple of `accumulate`.* got 64 and 3$"),
        (("epochs = 1", "epochs = 1\nbatch_size = 64\naccumulate = 64"), "two images or more, but got 64 and 64$"),
        (("[retrain]", "[retrain]\nbatch_size = 15\ncutmix = 1.0"), "mix pairs .* multiple of 2, but got 15$"),
        (("[retrain]", "[retrain]\nbatch_size = 6\naccumulate = 2\nmixup = 1.0"), "multiple of 4, but got 6$"),
        (("epochs = 1", "epochs = 1\nlr = 1e300"), "supernet.lr: .* 1000, but got 1e[+]300$"),
        (("[retrain]", "[retrain]\ntemperature = 1e-300"), "retrain.temperature: .* 0.01, but got 1e-300$"),
        (("epochs = 1", "epochs = 1\nflip = 'no'"), "supernet.flip: .* boolean, but got 'no'$"),
        (("epochs = 1", "epochs = 1\namp = 1979-05-27"), "supernet.amp: "),
        (("epochs = 1", "epochs = 1e308"), "supernet.epochs: .* 1000000, but got 1e[+]308$"),
        (("epochs = 1", "epochs = 1\nwarmup_epochs = 1e308"), "supernet.warmup_epochs: .* 1000000"),
        (("epochs = 1", "epochs = 1\ndecay_epochs = 1e308"), "supernet.decay_epochs: .* 1000000"),
        (("epochs = 1", "epochs = 1\nmin_steps = 1000000000000"), "supernet.min_steps: .* 1000000000"),
        (("epochs = 1", "epochs = 1\nprobes = 1000000000000"), "supernet.probes: .* 1000000"),
        (("epochs = 1", "epochs = 1\nrand_augment = 'rand-q9'"), "RandAugment is like .* but got 'rand-q9'$"),
        (("epochs = 1", "epochs = 1\nrand_augment = 'rand-m9.5'"), "RandAugment is like .* but got 'rand-m9.5'$"),
        (("[search]", "[search]\nsampler = 'luck'"), "search.sampler"),
        (("[search]", "[search]\nbackend = 'nni'"), "the backend nni has the samplers .* not 'guided'"),
        (("500k", "lots"), "a FLOPs budget is like .* not 'lots'"),
        (("[search]", "[search]\nmemory_budget = 'few'"), "a memory budget is like .* not 'few'"),
        (("[search]", "[search]\nlatency_budget = '8ms,soon'"), "a latency budget is like 8ms, .* not 'soon'"),
        (("[search]", "[search]\nlatency_budget = '\u0668ms'"), "a latency budget is like 8ms, .* not '\u0668ms'"),
        (("[search]", "[search]\nevaluate = 'tuned:\u0661'"), "networks are evaluated as units, .* not 'tuned:\u0661'"),
        (("epochs = 1", "epochs = 1\nrand_augment = 'rand-m\u0669'"), "RandAugment is like .* but got 'rand-m\u0669'$"),
        (("[retrain]", "[retrain]\nself_distill = true"), "`self_distill` is of a parent .*, with `use_held_out`$"),
        (("[retrain]", "[retrain]\nsoup = 2"), "`soup` = 2 is the mean of .* trained weights, not fresh ones"),
        (("[retrain]", "[retrain]\nsoup = 101"), "retrain.soup: .* 100, but got 101$"),
        (('data = "digits"', ""), "data"),
        (('data = "digits"', 'data = "digits"\nthreads = 100000'), "threads: .* 1024, but got 100000$"),
        (('data = "digits"', 'data = "digits"\nname = "../up"'), "^recipe broken: name: [^{]*$"),
        (("[search]", "[fidelity]\nspread = 8\n[search]\nevaluate = 'soft'"), "^recipe broken: [^{]*$"),
        (('space = "digits"', 'space = "digits"\ncolour = 3'), "colour"),
        (("[supernet]", "[supernet"), "not TOML"),
    ],
)
def test_broken_recipes_are_refused_in_a_line(change, words):
    with pytest.raises(UserError, match=words) as error:
        parse_recipe(GOOD.replace(*change), "broken")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("flops_budget", "flop_budget"),
            "search.flop_budget is no key of a recipe; the nearest is search.flops_budget",
        ),
        (('space = "digits"', 'spaces = "digits"'), "spaces is no key of a recipe; the nearest is space"),
        (("[retrain]", "[retrian]"), "retrian is no key of a recipe; the nearest is retrain"),
        (("[supernet]", "colour = 3\n[supernet]"), "colour is no key of a recipe"),
        (("[supernet]", "elastic = 1\n[supernet]"), "elastic is no key of a recipe"),
        (("[supernet]", "[transplant]\n[supernet]"), "transplant is no key of a recipe"),
        (("[supernet]", "[supernet]\nelastic = 1"), "supernet.elastic is no key of a recipe"),
        (
            ("[supernet]", "[supernet]\nkind = 'transplant'\nepoch = 1"),
            "supernet.epoch is no key of a recipe; the nearest is supernet.epochs",
        ),
    ],
)
def test_a_typo_is_named_before_what_it_leaves_missing(change, words):
    with pytest.raises(UserError) as error:
        parse_recipe(GOOD.replace(*change), "mine")
    assert str(error.value) == f"recipe mine: {words}"


def test_unknown_names_list_ours(tmp_path):
    with pytest.raises(UserError, match="cifar10, cifar10-small, digits"):
        load_recipe("mars")
    with pytest.raises(UserError, match="No such file"):
        load_recipe(str(tmp_path / "none.toml"))


def test_a_recipe_as_windows_saves_it_is_the_same(tmp_path):
    ours = Path(recipes.__file__).with_name("digits.toml").read_text()
    (tmp_path / "digits.toml").write_bytes(b"\xef\xbb\xbf" + ours.replace("\n", "\r\n").encode())
    assert load_recipe(str(tmp_path / "digits.toml")) == load_recipe("digits")
    assert load_space(tmp_path / "digits.toml") == load_space("digits")


def test_any_key_of_a_training_can_be_given_in_place_of_the_recipes_and_is_held_to_its_rule():
    recipe = parse_recipe(GOOD + "min_steps = 90\nlabel_smoothing = 0.1\n", "mine").retrain
    assert recipe.changed(epochs=None, lr=None) == recipe
    changed = recipe.changed(epochs=0.5, label_smoothing=0.0, ema=0.9)
    assert (changed.epochs, changed.min_steps, changed.label_smoothing, changed.ema) == (0.5, 0, 0.0, 0.9)
    assert changed.lr == recipe.lr and type(changed) is type(recipe)
    for given, key in (({"lr": -1.0}, "lr"), ({"label_smoothing": 1.5}, "label_smoothing"), ({"rate": 1.0}, "rate")):
        with pytest.raises(UserError, match=f"^{key}: ") as refused:
            recipe.changed(**given)
        assert "\n" not in str(refused.value)


def test_budgets_are_read_once_and_go_with_the_text_that_they_are_of():
    search = load_recipe("digits").search
    assert search.windows()["macs"] is search.windows()["macs"]
    other = search.model_copy(update={"flops_budget": "1M, 2M..3M", "latency_budget": "8ms,2.5"})
    assert [(window.low, window.high) for window in other.windows()["macs"].values()] == [(0, 1e6), (2e6, 3e6)]
    assert dict(other.milliseconds) == {"8ms": 8.0, "2.5": 2.5} and other.windows()["macs"] != search.windows()["macs"]
    with pytest.raises(TypeError):
        other.milliseconds["9ms"] = 9.0  # of everybody who has this text


@pytest.mark.parametrize("stem", ["mine", "Äpfel", "花", "été 2026", "e\u0301te\u0301", ".hidden", "-", "½", "x" * 200])
def test_a_recipe_may_have_any_file_name(stem):
    """What a run's folder is named after it is a name that a folder may have."""
    assert check_name(parse_recipe(GOOD, stem).name)


def test_a_supernet_of_another_kind_keeps_no_key_that_this_kind_lacks():
    config = parse_recipe(GOOD.replace("[supernet]", "[supernet]\nkind = 'transplant'\nlr = 0.03"), "mine").supernet
    assert supernet_part(config, "elastic", None) == SupernetTraining(epochs=1, lr=0.03)
    mixed = parse_recipe(GOOD.replace("[supernet]", "[supernet]\nkind = 'transplant'\nmixup = 0.2"), "mine").supernet
    with pytest.raises(
        UserError, match=r"^the recipe's .supernet. can't be of kind elastic: .*`mixup` is of full"
    ) as error:
        supernet_part(mixed, "elastic", None)
    assert "\n" not in str(error.value)
