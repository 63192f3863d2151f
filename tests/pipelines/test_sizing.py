"""Work by the size of a log: what a recipe names stays, the rest is sized and said."""

from operator import attrgetter
from pathlib import Path

import pytest

from pipelines.recipe import load_recipe, recipe_names
from pipelines.sizing import QUICK, LogSize, estimated_seconds, in_words, log_size, measured_rate, sized

_SMALL, _LARGE = LogSize(events=350, items=30), LogSize(events=130_000, items=12_000)


def test_sized_when_the_log_is_small_then_alignment_takes_fewer_steps_and_it_is_said() -> None:
    # 340 steps from 50,000 events on: 340 * 5,000 / 50,000 = 34; 350 events would be 2, so the fewest, 10
    half = sized(load_recipe("default"), LogSize(events=5000, items=100))
    assert half.recipe.alignment.steps == 34
    assert half.changes == (
        "alignment.steps is 34 instead of 340, because the log has 5,000 events (all from 50,000 on)",
    )
    assert sized(load_recipe("default"), _SMALL).recipe.alignment.steps == 10


@pytest.mark.parametrize("name", recipe_names())
def test_sized_when_the_log_is_large_then_nothing_changes(name: str) -> None:
    recipe = load_recipe(name)
    assert sized(recipe, _LARGE) == sized(recipe, LogSize(events=50_000, items=10))
    assert sized(recipe, _LARGE).recipe == recipe


def test_sized_when_the_caller_names_a_setting_then_it_stays() -> None:
    recipe = load_recipe("default", ("alignment.steps=77", "fit.epochs=3"))
    assert sized(recipe, _SMALL).recipe.alignment.steps == 77
    quick = sized(recipe, _LARGE, quick=True)
    assert (quick.recipe.alignment.steps, quick.recipe.fit.epochs) == (77, 3)
    assert quick.recipe.data.max_events == QUICK["data.max_events"]


def test_sized_when_quick_then_every_setting_is_one_that_recipes_have() -> None:
    recipe = sized(load_recipe("default"), _LARGE, quick=True).recipe
    assert type(recipe).model_validate(recipe.model_dump(mode="json", exclude_none=True)) == recipe
    for key, value in QUICK.items():
        assert attrgetter(key)(recipe) == value


def test_sized_when_a_setting_lies_two_sections_deep_then_naming_it_keeps_it() -> None:
    named = sized(load_recipe("default", ("experts.fit.epochs=9",)), _LARGE, quick=True).recipe
    assert (named.experts.fit.epochs, named.tokens.distillation.epochs) == (9, QUICK["tokens.distillation.epochs"])


def test_estimate_when_experts_are_trained_then_they_and_their_students_are_counted() -> None:
    # one expert: 1,000 events, 12 epochs, 72 x 2 layers x 128 x 128 + 6 x 500 items x 128 operations, .3 of the rate
    alone = estimated_seconds(load_recipe("default"), LogSize(events=1000, items=500), rate=1e9)
    assert alone["experts"] == pytest.approx(1000 * 12 * (72 * 2 * 128**2 + 6 * 500 * 128) / 0.3e9)
    # its student: 7 epochs over each history twice, no softmax at most positions
    assert alone["students"] == pytest.approx(1000 * 7 * 2 * 72 * 2 * 128**2 / 0.3e9)
    without = estimated_seconds(
        load_recipe("default", ("experts.trained=[]",)), LogSize(events=1000, items=500), rate=1e9
    )
    assert without["experts"] == without["students"] == 0


def test_estimate_when_steps_are_limited_then_only_the_passes_within_them_are_counted() -> None:
    size = LogSize(events=20_480, items=500)
    whole, limited = (
        estimated_seconds(load_recipe("default", (f"experts.fit.max_steps={most}",)), size, rate=1e9)
        for most in (0, 35)
    )
    # ten batches of 2,048 positions an epoch: 35 steps hold 3 of 12 epochs
    assert limited["experts"] == pytest.approx(whole["experts"] * 3 / 12)
    assert limited["students"] == whole["students"]


def test_estimate_when_there_is_more_work_then_it_is_longer_and_a_faster_machine_is_shorter() -> None:
    recipe = load_recipe("default")
    small, large = (estimated_seconds(recipe, size, rate=5e10) for size in (_SMALL, _LARGE))
    assert all(small[name] <= large[name] for name in small)
    # 340 steps of 2.5 s at the reference rate
    assert small["aligned"] == pytest.approx(850)
    assert estimated_seconds(recipe, _SMALL, rate=1e11)["aligned"] == pytest.approx(425)
    quick = estimated_seconds(sized(recipe, _LARGE, quick=True).recipe, _LARGE, rate=5e10)
    assert sum(quick.values()) < sum(large.values()) / 10
    assert measured_rate(0.01) > 0


def test_in_words_when_told_then_names_the_longest_first() -> None:
    said = in_words({"member": 40.0, "aligned": 120.0, "model": 0.2})
    assert said == "about 3 min (aligned 2 min, member 40 s); a rough guess"


def test_log_size_when_read_from_files_then_counts_and_a_missing_one_is_none(world: Path, tmp_path: Path) -> None:
    size = log_size(world)
    assert size is not None
    assert size.items == 120
    assert log_size(tmp_path) is None
