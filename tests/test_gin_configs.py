"""The packaged gin files: every name in them exists, and the documented combinations are whole."""

import pytest

from prompt_tuning_jax import gin_checks, gin_files, train
from prompt_tuning_jax.errors import UserError

FOLDER = gin_files.packaged()
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.gin"))
PROMPT_MODELS = [name for name in FILES if name.startswith("models/") and "_prompt" in name]
RECIPES = [name for name in FILES if name.startswith("runs/prompt_finetune")]
STARTS = [name for name in FILES if name.startswith("prompts/")]
METHODS = [name for name in FILES if name.startswith("methods/")]
ROOT = {"train.train": train.train}


def read(*names):
    return gin_files.read(names, [], gin_files.search_places([], names))


def reach(source):
    gin_checks.check_macros(source.bindings)
    configuration = gin_checks.Configuration(source)
    reached = configuration.reach(ROOT)
    configuration.check_types(reached)
    return configuration, reached


@pytest.mark.parametrize("name", FILES)
def test_every_name_in_a_file_exists(name):
    gin_checks.Configuration(read(name))


@pytest.mark.parametrize("name", PROMPT_MODELS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_and_a_recipe_lack_only_what_a_user_must_say(name, recipe):
    configuration, reached = reach(read(name, recipe))
    with pytest.raises(UserError, match="missing") as error:
        configuration.check_values(reached, {})
    asked = {word for word in str(error.value).split() if word.startswith("--")}
    wanted = {"MODEL_DIR", "MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS"}
    if "demo" not in name:  # the built-in backbone is there
        wanted.add("INITIAL_CHECKPOINT_PATH")
    assert asked == {f"--gin.{macro}=…" for macro in wanted}


@pytest.mark.parametrize(
    "recipe, wanted",
    [("span_corruption", "VOCABULARY_FILE"), ("prefix_lm", "INITIAL_CHECKPOINT_PATH")],
)
def test_pretraining_lacks_only_where_it_starts_from(recipe, wanted):
    files = ("models/t5_1_1_small.gin", "methods/full.gin", f"runs/pretrain_{recipe}.gin")
    configuration, reached = reach(read(*files))
    with pytest.raises(UserError, match="missing") as error:
        configuration.check_values(reached, {})
    asked = {word for word in str(error.value).split() if word.startswith("--")}
    assert asked == {"--gin.MODEL_DIR=…", f"--gin.{wanted}=…"}


@pytest.mark.parametrize("start", STARTS)
def test_every_start_replaces_the_default_one(start):
    _, reached = reach(read("models/t5_1_1_base_prompt.gin", "runs/prompt_finetune.gin", start))
    (wanted,) = gin_files.references(gin_checks.macros(read(start).bindings)["PROMPT_START"].value)
    built = [name for name in reached.names.values() if name.startswith("prompt_init.")]
    assert built == [wanted.selector]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_with_a_plain_model(method):
    _, reached = reach(read("models/t5_1_1_base.gin", method, "runs/prompt_finetune.gin"))
    wanted = method.removeprefix("methods/").removesuffix(".gin")
    assert any(name.startswith(f"{wanted}.") for name in reached.names.values())


@pytest.mark.parametrize("name", FILES)
def test_two_include_levels_at_most(name):
    def depth(file):
        lines = (FOLDER / file).read_text().splitlines()
        included = [line.split('"')[1] for line in lines if line.startswith("include ")]
        return 1 + max(map(depth, included)) if included else 0

    assert depth(name) <= 2
