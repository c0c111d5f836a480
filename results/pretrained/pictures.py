"""The pictures of the study, as parquet files that the product reads: some classes of a data set, all of their training
pictures or a few of each."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.data.parquet import LABELS
from search.data.paths import parquet_files
from search.files import parse_json

HUB = b"huggingface"  # where the schema's metadata have the names of the classes


def write_view(source: Path, classes: range, out: Path, each: int | None = None, seed: int = 0) -> None:
    """Writes some classes of a data set in the Hugging Face image layout, numbered from 0: `train.parquet` and
    `test.parquet` in the folder `out`.

    Args:
        each: training pictures of a class, drawn by the seed; None: all. The test part is always whole.
    """
    out.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        table = pa.concat_tables([pq.read_table(file) for file in parquet_files(source, (part,))])
        column = next(name for name in LABELS if name in table.column_names)
        labels = table[column].to_numpy()
        rows = np.flatnonzero(np.isin(labels, classes))
        if each is not None and part == "train":
            rng = np.random.default_rng(seed)
            drawn = [rng.permutation(rows[labels[rows] == label])[:each] for label in classes]
            rows = rng.permutation(np.concatenate(drawn))
        chosen = table.take(rows)
        chosen = chosen.set_column(
            chosen.schema.get_field_index(column), column, pa.array(labels[rows] - classes.start)
        )
        pq.write_table(
            chosen.replace_schema_metadata(_renamed(table.schema.metadata, column, classes)), out / f"{part}.parquet"
        )


def _renamed(metadata: dict[bytes, bytes] | None, column: str, classes: range) -> dict[bytes, bytes]:
    """The schema's metadata with the names of these classes alone."""
    import json

    value = parse_json((metadata or {})[HUB], "the names of the classes")
    feature = value["info"]["features"][column]
    feature["names"] = [feature["names"][k] for k in classes]
    return {HUB: json.dumps(value).encode()}
