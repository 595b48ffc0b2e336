"""Where the store's rows are on a map."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from gnomonic.atlas.map_folder import MapFolder, MapRecord, now


@pytest.mark.parametrize(
    "rows", [[], [0], [7], [0, 1, 2, 3], [3, 0, 2, 1], [5, 900_000, 17], [2**40, 1], [0, 2, 4, 6, 8, 10]]
)
def test_positions_of_rows(tmp_path: Path, rows: list[int]) -> None:
    (tmp_path / "embeddings").mkdir()
    np.save(tmp_path / "embeddings" / "rows.npy", np.array(rows, dtype=np.int64))
    record = MapRecord(
        id="a", index_id="b", name="c", created=now(), version=1, rows=len(rows), dim=2, modality="embedding",
        indexed_field=None, model=None, options={}, seed=0,
    )  # fmt: skip
    (tmp_path / "map.json").write_text(json.dumps(asdict(record)))
    asked = np.array([*rows[::-1], -1, 1, 6, 11, 2**41, 900_001], dtype=np.int64)
    wanted = [rows.index(row) if row in rows else -1 for row in asked.tolist()]
    assert MapFolder(tmp_path).positions_of(asked).tolist() == wanted
