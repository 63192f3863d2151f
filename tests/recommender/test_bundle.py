"""A bundle stands alone: copied elsewhere it recommends, encodes new items, and says whether it came across whole."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.codes.catalogue import Catalogue
from recsys.core.errors import ArtifactError
from recsys.features.assemble import FeatureBuilder
from recsys.features.categories import named_categories
from recsys.recommender.bundle import load_bundle
from recsys.recommender.probes import PROBES, SLATE, agreement, load_probes
from recsys.tokenizer.kinds import load_tokenizer


@pytest.fixture
def alone(run: Path, tmp_path: Path) -> Path:
    """Return a copy of a run's bundle, without the run."""
    shutil.copytree(run / "bundle", tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def test_bundle_when_alone_then_a_new_item_is_encoded_as_by_the_run(run: Path, alone: Path) -> None:
    items = pq.read_table(run / "bundle" / "items.parquet")
    first = items.slice(0, 3)
    ids = pa.array([f"{9_000_000 + row}" for row in range(3)])
    new = first.set_column(items.column_names.index("item_id"), "item_id", ids)
    got = load_bundle(alone).add_items(new)

    builder, catalogue = FeatureBuilder.load(run / "features"), Catalogue.load(run / "catalog")
    vectors_IF = builder.encode(new).vectors_NF
    wanted_IM = load_tokenizer(run / "tokenizer").encode(vectors_IF, taken_NM=catalogue.codes_NM, resolve=True)
    assert got.vectors_IF.tolist() == vectors_IF.tolist()
    assert got.catalogue.codes_NM[-3:].tolist() == wanted_IM.tolist()
    assert got.catalogue.codes_NM[:-3].tolist() == catalogue.codes_NM.tolist()
    assert [str(id_) for id_ in got.catalogue.item_ids[-3:]] == ids.to_pylist()


def test_bundle_when_an_item_names_a_category_then_gets_it(alone: Path) -> None:
    bundle = load_bundle(alone)
    names = bundle.catalogue.category_names
    items = pq.read_table(alone / "items.parquet")
    named_N = named_categories(items, names)
    assert len(names) == bundle.catalogue.num_categories
    placed_N = np.flatnonzero(named_N >= 0)
    assert len(placed_N)
    new = pa.table({"item_id": [9_000_001], "categories": items["categories"].take([int(placed_N[0])])})
    assert bundle.add_items(new).catalogue.category_N[-1] == named_N[placed_N[0]]


def test_bundle_when_probed_where_it_was_made_then_every_expected_item_is_recommended(alone: Path) -> None:
    bundle, probes = load_bundle(alone), load_probes(alone)
    assert len(probes) == PROBES
    assert all(len(set(probe.expected)) == len(probe.scores) == SLATE for probe in probes)
    assert not any({event.item_id for event in probe.history} & set(probe.expected) for probe in probes)
    assert bundle.probe() == 1.0
    # an empty catalogue of other ids finds nothing of what is expected
    reversed_ids = type(bundle.vocabulary)(list(reversed(bundle.vocabulary.ids)))
    assert agreement(bundle.ranker, reversed_ids, probes) < 1.0


def test_bundle_when_a_file_was_changed_then_is_refused_unless_told_not_to_look(alone: Path) -> None:
    version = load_bundle(alone).model_version
    with (alone / "popularity.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ArtifactError, match=r"popularity\.json changed"):
        load_bundle(alone)
    assert load_bundle(alone, verify=False).model_version == version


def test_load_probes_when_it_is_something_else_then_says_so(tmp_path: Path) -> None:
    (tmp_path / "probes.json").write_text('[{"history": [{"item": 1}]}]')
    with pytest.raises(ArtifactError, match="must be a list of probes"):
        load_probes(tmp_path)
