"""Recipes: every shipped one loads, survives a round trip, and faults are reported together."""

from pathlib import Path

import pytest

from pipelines.recipe import Recipe, apply_overrides, load_recipe, recipe_names, save_recipe
from pipelines.renamed_keys import RENAMED
from pipelines.study import members
from recsys.core.errors import ConfigError


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_when_saved_resolved_then_loads_equal(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_when_it_has_ablations_then_each_changes_it(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    variants = {member.variant: member.recipe for member in members(tmp_path, recipe)}
    assert set(recipe.study.ablations) <= set(variants)
    plain = [repr(one.model_copy(update={"baselines": None, "seed": 0})) for one in variants.values()]
    assert len(set(plain)) == len(plain)


def test_recipe_when_promised_then_exists() -> None:
    assert {"smoke", "default", "benchmark"} <= set(recipe_names())


def test_default_recipe_when_loaded_then_equals_the_defaults_of_the_code_but_for_a_token_expert() -> None:
    default = load_recipe("default")
    assert default.experts.trained
    without = apply_overrides(default, ("experts.trained=[]",))
    assert without == apply_overrides(Recipe(), ("tokens.undistilled_margin=0.001",))


def test_overrides_when_given_then_change_nested_values() -> None:
    recipe = load_recipe("smoke", ("fit.epochs=9", "decoder.search.order=fixed"))
    assert (recipe.fit.epochs, recipe.decoder.search.order) == (9, "fixed")


def test_recipe_when_it_has_two_faults_then_both_are_named() -> None:
    with pytest.raises(ConfigError, match=r"2 faults.*fit\.epochz.*seed|2 faults.*seed.*fit\.epochz"):
        load_recipe("smoke", ("fit.epochz=9", "seed=soon"))


def test_recipe_when_it_extends_another_then_its_own_settings_come_first(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("seed = 3\n[fit]\nepochs = 5\nfinal_epochs = 1\n[study]\nseeds = [1, 2]\n")
    own = tmp_path / "own.toml"
    own.write_text(f"extends = '{tmp_path / 'base.toml'}'\n[fit]\nepochs = 6\n[study]\nseeds = [4]\n")
    recipe = load_recipe(str(own), ("fit.final_events=2",))
    assert (recipe.seed, recipe.fit.epochs, recipe.fit.final_epochs, recipe.fit.final_events) == (3, 6, 1, 2)
    assert recipe.study.seeds == (4,)  # a list is replaced as a whole


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("extends = 7", "extends of recipe .*own.toml must be the name of a recipe or a .toml file, got 7"),
        ("extends = 'benchmork'", "recipe must be one of .*, got 'benchmork'"),
        ("extends = 'OWN'", "recipes must not extend each other in a circle, got .*own.toml -> .*own.toml"),
    ],
)
def test_recipe_when_what_it_extends_is_no_recipe_then_the_error_says_so(
    text: str, wanted: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text.replace("OWN", str(own)))
    with pytest.raises(ConfigError, match=wanted):
        load_recipe(str(own))


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("member.validate_every=0", r"member\.validate_every: .*greater than 0"),
        ("member.epochs=-1", r"member\.epochs: .*greater than or equal to 0"),
        ("member.max_length=0", r"member\.max_length: .*greater than 0"),
        ("member.heads=3", "width must be a multiple of heads, got width [0-9]+ and 3 heads"),
        ("model.heads=3", "width must be a multiple of heads, got width [0-9]+ and 3 heads"),
        ("model.dropout=1", r"model\.dropout: .*less than 1"),
        ("fit.batch_positions=0", r"fit\.batch_positions: .*greater than 0"),
        ("fit.learning_rate=0", r"fit\.learning_rate: .*greater than 0"),
        ("experts.fit.validate_every=0", r"experts\.fit\.validate_every: .*greater than or equal to 1"),
    ],
)
def test_recipe_when_a_training_could_not_end_with_it_then_it_is_refused(setting: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        load_recipe("smoke", (setting,))


@pytest.mark.parametrize("old", RENAMED)
def test_recipe_when_a_key_is_of_an_old_version_then_the_error_names_the_new_one(old: str) -> None:
    with pytest.raises(ConfigError, match=f"{old} is now {RENAMED[old]}"):
        load_recipe("smoke", (f"{old}=1",))


@pytest.mark.parametrize("new", RENAMED.values())
def test_recipe_when_a_key_was_renamed_then_the_new_key_exists(new: str) -> None:
    values = load_recipe("smoke").model_dump()
    for part in new.split("."):
        values = values[part]
