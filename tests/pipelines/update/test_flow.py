"""An update: what was there stays, new events and items come behind it, and the run before is not touched."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from pipelines.batch.call import BatchCall
from pipelines.batch.job import recommend_batch
from pipelines.cli import app
from pipelines.flow import train
from pipelines.recipe import Recipe, load_recipe
from pipelines.record import read_records
from pipelines.releases import ReleaseFolder
from pipelines.stages.member import load_members
from pipelines.update.flow import Updated, dated, update_run, update_stages
from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import hash_folder
from recsys.core.errors import ArtifactError, CallError, DataError
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.data.table import BadRows, Dataset, read_dataset, write_dataset
from recsys.features.item_vectors import Features
from recsys.model.generator import Generator
from recsys.recommender.bundle import load_bundle
from recsys.recommender.manifest import read_manifest
from recsys.tokenizer.kinds import load_tokenizer
from tests.support.worse_run import worse_copy

NEW_ITEMS = 12
"""The last items of the world, which only the day has."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A run on the log but its last tenth, that tenth as two days, and the run after the first of them."""

    run: Path
    days: tuple[Path, Path]
    updated: Updated
    before: dict[str, str]
    """The hashes of the run's files before the update."""


def write(rows: pa.Table, items: pa.Table, folder: Path) -> None:
    write_dataset(Dataset(interactions=rows, items=items, bad_rows=BadRows()), folder)


@pytest.fixture(scope="module")
def day_world(world: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("days")
    whole = read_dataset(world)
    rows = whole.interactions.sort_by("timestamp")
    cut, middle = int(0.9 * len(rows)), int(0.95 * len(rows))
    old_items = whole.items.slice(0, len(whole.items) - NEW_ITEMS)
    old = rows.slice(0, cut)
    old = old.filter(pc.is_in(old["item_id"], value_set=old_items["item_id"].combine_chunks()))
    write(old, old_items, folder / "old")
    # the first day repeats the last ten old events, as a log that is cut by hand does
    again = pa.concat_tables([old.slice(len(old) - 10), rows.slice(cut, middle - cut)])
    write(again, whole.items, folder / "one")
    write(rows.slice(middle), whole.items, folder / "two")
    two_members = recipe.model_copy(update={"further_members": 1})
    train(folder / "old", folder / "run", two_members, use_ray=False)
    before = hash_folder(folder / "run")
    updated = update_run(folder / "run", folder / "one", use_ray=False)
    return World(run=folder / "run", days=(folder / "one", folder / "two"), updated=updated, before=before)


def test_update_when_done_then_the_run_before_is_as_it_was(day_world: World) -> None:
    assert hash_folder(day_world.run) == day_world.before
    assert day_world.updated.run == dated(day_world.run, day_world.days[0])
    assert day_world.updated.run.parent == day_world.run.parent


def test_update_when_done_then_users_items_codes_and_tokenizer_go_on(day_world: World) -> None:
    run, new = day_world.run, day_world.updated.run
    old_log, log = load_prepared(run / "data"), load_prepared(new / "data")
    assert log.user_ids[: len(old_log.user_ids)] == old_log.user_ids
    old_items = old_log.items["item_id"].to_pylist()
    assert log.items["item_id"].to_pylist()[: len(old_items)] == old_items
    assert log.log.num_items == len(old_items) + NEW_ITEMS
    assert hash_folder(new / "tokenizer") == hash_folder(run / "tokenizer")
    before, after = Catalogue.load(run / "catalog"), Catalogue.load(new / "catalog")
    assert after.codes_NM[: len(old_items)].tolist() == before.codes_NM.tolist()
    assert (after.facets, after.category_names) == (before.facets, before.category_names)
    vectors_IF = load_bundle(new / "bundle").features.features.vectors_NF[len(old_items) :]
    taken_NM = before.codes_NM
    wanted_IM = load_tokenizer(new / "tokenizer").encode(vectors_IF, taken_NM=taken_NM, resolve=True)
    assert after.codes_NM[len(old_items) :].tolist() == wanted_IM.tolist()


def test_update_when_done_then_every_ensemble_member_went_on_and_knows_the_new_items(day_world: World) -> None:
    run, new = day_world.run, day_world.updated.run
    before = load_members(run / "member", run / "further_members")
    after = load_members(new / "member", new / "further_members")
    assert len(before) == len(after) == 2
    for (old, _), (longer, _) in zip(before, after, strict=True):
        assert len(longer.items.weight) == len(old.items.weight) + NEW_ITEMS
    assert (
        len({float(network.items.weight.detach().sum()) for network, _ in before + after}) == 4
    )  # none is another one
    assert len(Generator.load(new / "calibrated").config.members) in (0, 2)  # 0 where validation gives them no share


def test_update_when_done_then_the_log_has_every_event_once(day_world: World) -> None:
    old, new = load_prepared(day_world.run / "data"), load_prepared(day_world.updated.run / "data")
    day = read_dataset(day_world.days[0]).interactions
    counts = new.report["day"]
    assert isinstance(counts, dict)
    assert counts["repeated"] == 10
    assert counts["events"] == len(day) - 10
    assert counts["new_items"] == NEW_ITEMS
    assert len(new.log.items_E) == len(old.log.items_E) + counts["events"]
    ids = new.items["item_id"].to_pylist()
    found = {
        (str(user), str(ids[item]), at)
        for row, user in enumerate(new.user_ids)
        for item, at in zip(new.log.history(row).items.tolist(), new.log.history(row).timestamps.tolist(), strict=True)
    }
    wanted = {(str(row["user_id"]), str(row["item_id"]), row["timestamp"]) for row in day.to_pylist()}
    assert wanted <= found
    of_day_E = np.load(day_world.updated.run / "data" / "of_day.npy")
    assert of_day_E.sum() == counts["events"]
    assert new.log.timestamps_E[of_day_E].min() >= day["timestamp"].to_numpy()[10:].min()


def test_update_when_done_then_the_new_run_recommends_new_items_and_serves_batches(
    day_world: World, tmp_path: Path
) -> None:
    new = day_world.updated.run
    bundle = load_bundle(new / "bundle", trace=False)
    assert bundle.probe() == 1.0
    assert bundle.generative.scorer.generator.config.num_items == len(bundle.catalogue.item_ids)
    report = recommend_batch(BatchCall(run=new, users=None, to=tmp_path / "out", n=5), use_ray=False)
    assert report.asked == report.answered == load_prepared(new / "data").log.num_users
    # an updated bundle grows like any other
    items = pq.read_table(new / "bundle" / "items.parquet").slice(0, 1)
    more = items.set_column(items.column_names.index("item_id"), "item_id", pa.array([987_654]))
    assert len(bundle.with_items(more).catalogue.item_ids) == len(bundle.catalogue.item_ids) + 1


def test_update_when_done_then_says_what_the_day_was_like(day_world: World) -> None:
    day = json.loads((day_world.updated.run / "reports" / "day.json").read_text())
    assert day == json.loads(json.dumps(day_world.updated.day.to_json()))
    prepared = load_prepared(day_world.updated.run / "data")
    asked, of_day_E = questions(prepared.log, "test"), np.load(day_world.updated.run / "data" / "of_day.npy")
    assert day["scores"]["questions"] == of_day_E[prepared.log.offsets_U1[asked.users_U + 1] - 1].sum()
    assert day["grown_items"] == pytest.approx(NEW_ITEMS / (prepared.log.num_items - NEW_ITEMS))
    assert day["updates"] == 1
    assert len(day["codes"]) == 4
    assert day["items"]["items"] == NEW_ITEMS
    recipe = load_recipe(str(day_world.updated.run / "recipe.toml"))
    assert recipe.update.previous == load_bundle(day_world.run / "bundle").model_version
    assert f"{day['day_events']:,} new events" in day_world.updated.sentence


def test_update_when_made_again_then_nothing_is_done_again(day_world: World) -> None:
    before = hash_folder(day_world.updated.run)
    update_run(day_world.run, day_world.days[0], use_ray=False)
    after = hash_folder(day_world.updated.run)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} <= {".lock", "manifest.json"}


def test_update_when_another_day_follows_then_goes_on_from_the_updated_run(day_world: World, tmp_path: Path) -> None:
    second = update_run(day_world.updated.run, day_world.days[1], tmp_path / "second", use_ray=False)
    assert second.day.updates == 2
    whole = load_prepared(second.run / "data").log
    assert len(whole.items_E) == len(load_prepared(day_world.updated.run / "data").log.items_E) + second.day.day_events
    assert second.day.grown_items == day_world.updated.day.grown_items


def test_update_when_the_day_brings_nothing_new_then_says_so_and_trains_nothing(
    day_world: World, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="must have events that the run wants and does not have"):
        update_run(day_world.updated.run, day_world.days[0], tmp_path / "again", use_ray=False)
    assert not (tmp_path / "again" / "model").exists()


def test_update_when_the_target_is_another_run_or_the_run_itself_then_refuses(
    day_world: World, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(CallError, match="got another run"):
        update_run(day_world.run, day_world.days[0], run, use_ray=False)
    for target in (day_world.run, day_world.run / "inside"):
        with pytest.raises(CallError, match="must not be the run before or inside it"):
            update_run(day_world.run, day_world.days[0], target, use_ray=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(ArtifactError, match="choose another folder"):
        update_run(day_world.run, day_world.days[0], tmp_path / "full", use_ray=False)


def test_update_when_the_run_before_was_changed_then_refuses(day_world: World, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json must exist"):
        update_run(tmp_path / "nothing", day_world.days[0], use_ray=False)
    changed = day_world.run / "tokenizer" / "config.json"
    content = changed.read_bytes()
    try:
        changed.write_bytes(content + b"\n")
        with pytest.raises(ArtifactError, match=r"tokenizer must be as `recsys train` left it"):
            update_run(day_world.run, day_world.days[0], tmp_path / "new", use_ray=False)
    finally:
        changed.write_bytes(content)
    assert not (tmp_path / "new").exists()


def test_update_when_it_publishes_too_then_the_gate_refuses_a_worse_run_by_slice_and_lets_a_better_one_serve(
    day_world: World, tmp_path: Path
) -> None:
    worse = worse_copy(day_world.updated.run, tmp_path / "worse")
    served = Path(shutil.copytree(day_world.run, tmp_path / "served"))

    def update(to: Path) -> Result:
        call = ["update", str(day_world.run), "--events", str(day_world.days[0]), "--to", str(to), "--no-ray"]
        return CliRunner().invoke(app, [*call, "--into", str(served)])

    def serving() -> str:
        current = ReleaseFolder(served).current()
        assert current is not None
        return current.version

    assert "is the first release and serves now" in update(worse).output
    better = read_manifest(day_world.updated.run / "bundle").model_version
    assert f"{better} replaces {serving()}: ndcg@10 on 'all'" in update(day_world.updated.run).output
    refused = update(worse)
    assert isinstance(refused.exception, ArtifactError)
    assert "ndcg@10 on 'all' (" in str(refused.exception)
    assert "a difference of -" in str(refused.exception)
    assert serving() == better


@pytest.mark.slow
def test_update_when_codebooks_are_refreshed_then_items_are_encoded_anew_and_most_keep_their_codes(
    day_world: World, tmp_path: Path
) -> None:
    updated = update_run(day_world.run, day_world.days[0], tmp_path / "new", use_ray=False, refresh_codebooks=True)
    shares = json.loads((updated.run / "tokenizer" / "refresh.json").read_text())
    assert np.mean(shares["codes_kept"]) > np.mean(shares["codes_kept_without_matching"])
    tokenizer, catalogue = load_tokenizer(updated.run / "tokenizer"), Catalogue.load(updated.run / "catalog")
    plain = Catalogue.load(day_world.updated.run / "catalog")
    assert catalogue.item_ids == plain.item_ids
    assert not (catalogue.codes_NM == plain.codes_NM).all()
    vectors = Features.load_vectors(updated.run / "features")
    assert (tokenizer.encode(vectors) == catalogue.codes_NM).all()
    assert Generator.load(updated.run / "model").codes_NM.tolist() == catalogue.codes_NM.tolist()
    # the next update goes on from it without being asked to refresh again
    following = update_run(updated.run, day_world.days[1], tmp_path / "next", use_ray=False)
    assert not load_recipe(str(following.run / "recipe.toml")).update.refresh_codebooks


@pytest.mark.ray
@pytest.mark.slow
def test_update_when_on_ray_then_makes_what_it_makes_in_process(day_world: World, tmp_path: Path) -> None:
    on_ray = update_run(day_world.run, day_world.days[0], tmp_path / "ray", use_ray=True)
    made, wanted = read_records(on_ray.run), read_records(day_world.updated.run)
    kept = {stage.name for stage in update_stages(day_world.run) if not stage.files} - {"bundle"}
    assert {name: made[name].files for name in kept} == {name: wanted[name].files for name in kept}
    assert on_ray.day.scores == day_world.updated.day.scores
