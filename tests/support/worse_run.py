"""A run whose bundle names its items wrongly, recorded as its own stage would have recorded it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.record import read_records
from recsys.core.artifacts import Manifest, hash_folder
from recsys.data.prepare import load_prepared
from recsys.recommender.bundle import load_bundle
from recsys.recommender.manifest import FILE, read_manifest, write_manifest
from recsys.recommender.probes import make_probes, save_probes


def worse_copy(run: Path, to: Path) -> Path:
    """Copy a run and shuffle the item ids of its bundle: the model is as good as before, for other items."""
    shutil.copytree(run, to)
    bundle = to / "bundle"
    before = read_manifest(bundle)
    catalogues = [bundle / "catalog" / "codes.parquet", bundle / "tokens" / "catalog" / "codes.parquet"]
    for path in (bundle / "items.parquet", *(path for path in catalogues if path.exists())):
        table = pq.read_table(path)
        order = pa.array(np.random.default_rng(0).permutation(table.num_rows))
        place = table.column_names.index("item_id")
        shuffled = table.set_column(place, "item_id", table["item_id"].take(order))
        pq.write_table(shuffled.replace_schema_metadata(table.schema.metadata), path)
    loaded = load_bundle(bundle, trace=False, verify=False)
    log = load_prepared(to / "data").log
    save_probes(make_probes(loaded.ranker, loaded.vocabulary, [log.history(user) for user in range(20)]), bundle)
    (bundle / FILE).unlink()
    write_manifest(bundle, kept=before.kept, validation=before.validation)
    record = replace(read_records(to)["bundle"], files=hash_folder(bundle))
    Manifest(to).record("bundle", record.to_json())
    return to
