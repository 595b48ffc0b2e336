"""Groups of duplicates: which row of each is kept, by every rule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gnomonic.atlas.duplicate_groups import group_rows
from gnomonic.atlas.duplicates import Duplicates

# Groups: 0 has rows 0, 3; 1 row 1; 2 rows 2, 4, 6; 3 row 5.
_FOUND = Duplicates(
    cluster=np.array([0, 1, 2, 0, 2, 3, 2], dtype=np.int32), classes=np.array([2, 0, 2, 1, 1, 0, 2], dtype=np.uint8)
)


def _groups(**more: object) -> list[list[int]]:
    found = group_rows(_FOUND, **more)
    assert found.kept.tolist() == [found.group(i)[0] for i in range(found.count)]
    assert sorted([*found.kept.tolist(), *found.deletable.tolist()]) == sorted(found.rows.tolist())
    return [found.group(i).tolist() for i in range(found.count)]


def test_large_groups_come_first_and_the_kept_row_in_each() -> None:
    assert _groups() == [[4, 2, 6], [3, 0]]
    assert _groups(worth=-np.arange(7.0)) == [[2, 4, 6], [0, 3]]
    assert _groups(worth=np.arange(7.0)) == [[6, 2, 4], [3, 0]]


def test_equal_worth_and_none() -> None:
    assert _groups(worth=np.zeros(7)) == [[2, 4, 6], [0, 3]]
    worth = np.array([math.nan, 0, math.nan, -5, 1, 0, math.nan])
    assert _groups(worth=worth) == [[4, 2, 6], [3, 0]]
    assert _groups(worth=np.full(7, math.nan)) == [[2, 4, 6], [0, 3]]


def test_rows_that_are_gone_do_not_count() -> None:
    alive = np.ones(7, dtype=bool)
    alive[[3, 4]] = False
    assert _groups(alive=alive) == [[2, 6]]
    assert _groups(alive=np.zeros(7, dtype=bool)) == []


@pytest.mark.parametrize("n", [0, 1, 3])
def test_no_duplicates(n: int) -> None:
    found = group_rows(Duplicates(cluster=np.arange(n, dtype=np.int32), classes=np.zeros(n, dtype=np.uint8)))
    assert (found.count, len(found.rows), len(found.deletable)) == (0, 0, 0)


def test_against_the_plain_rule() -> None:
    random = np.random.default_rng(0)
    cluster = random.integers(0, 40, 200).astype(np.int32)
    worth = random.integers(0, 5, 200).astype(float)
    found = group_rows(Duplicates(cluster=cluster, classes=np.zeros(200, np.uint8)), worth=worth)
    groups = {}
    for row, group in enumerate(cluster.tolist()):
        groups.setdefault(group, []).append(row)
    wanted = sorted((rows for rows in groups.values() if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))
    assert [sorted(found.group(i).tolist()) for i in range(found.count)] == wanted
    assert found.kept.tolist() == [max(rows, key=lambda row: (worth[row], -row)) for rows in wanted]
