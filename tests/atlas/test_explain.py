"""What a selection is told to be: phrases, values, topics, typical rows, each where it is known what is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.atlas.byte_cache import ByteCache
from gnomonic.atlas.column_values import ColumnValues
from gnomonic.atlas.columns import write_column, write_columns_index
from gnomonic.atlas.explain import central_rows, draw_rows, field_shares, phrase_shares, topic_shares
from gnomonic.atlas.tiles import read_manifest, write_tiles
from gnomonic.atlas.topics import Topic, Topics

_INSIDE = [f"The machine learning of ship number {i} in the open sea." for i in range(40)]
_OUTSIDE = [f"An apple pie with sugar, cake {i} of the open house." for i in range(60)]


def test_phrases_that_are_only_inside_come_first() -> None:
    found = phrase_shares(_INSIDE, _OUTSIDE)
    phrases = [one.phrase.lower() for one in found]
    assert "machine learning" in " / ".join(phrases)
    assert not any("apple" in phrase or phrase == "open" for phrase in phrases)
    assert all(one.share == 1 and one.rest == 0 for one in found if one.phrase == "ship")
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found == phrase_shares(_INSIDE, _OUTSIDE)
    assert len(phrase_shares(_INSIDE, _OUTSIDE, count=1)) == 1


@pytest.mark.parametrize(
    ("inside", "outside"), [([], []), (["a b"], []), ([], ["a b"]), ([""], [""]), (["same words"] * 5,) * 2]
)
def test_nothing_to_say(inside: list[str], outside: list[str]) -> None:
    assert phrase_shares(inside, outside) == []


@pytest.fixture
def columns(tmp_path: Path) -> ColumnValues:
    """Of 100 rows: the first 20 are red and ok."""
    write_tiles(tmp_path, np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32))
    manifest = read_manifest(tmp_path)
    colour = ["red"] * 20 + ["blue"] * 60 + ["red"] * 5 + [None] * 15
    rare = ["rare"] * 2 + ["usual"] * 98
    ok = [True] * 20 + [False] * 80
    number = list(range(100))
    made = {"colour": colour, "rare": rare, "ok": ok, "number": number, "_topic_depth_1": colour}
    write_columns_index(tmp_path, [write_column(tmp_path, name, pa.array(v), manifest) for name, v in made.items()])
    return ColumnValues(tmp_path, ByteCache(1 << 20))


def test_values_of_fields(columns: ColumnValues) -> None:
    inside = np.arange(100) < 20
    found = field_shares(columns, inside, ~inside, skip=("_topic_depth_1",))
    told = {(one.column, one.value): one for one in found}
    assert set(told) == {("colour", "red"), ("ok", "true")}
    red, ok = told["colour", "red"], told["ok", "true"]
    assert (red.share, red.rest, red.lift, red.count) == (1.0, 5 / 80, 16.0, 20)
    assert columns.names("colour")[red.code] == "red"
    assert (ok.code, ok.rest, ok.lift) == (1, 0.0, 160.0)
    assert found[0] is ok
    assert {one.column for one in field_shares(columns, inside, ~inside)} == {"colour", "ok", "_topic_depth_1"}
    nobody = np.zeros(100, dtype=bool)
    assert field_shares(columns, nobody, ~nobody) == field_shares(columns, ~nobody, nobody) == []


def _topic(number: int, depth: int, count: int) -> Topic:
    return Topic(id=number, depth=depth, parent=None, name=f"t{number}", description="", keywords=(), count=count,
                 x=0.0, y=0.0, exemplars=())  # fmt: skip


def test_the_mix_of_topics() -> None:
    labels = np.array([[0, 0, 0, 1, 1, -1], [2, 2, -1, 3, -1, -1]], dtype=np.int32)
    topics = Topics(topics=(_topic(0, 1, 3), _topic(1, 1, 2), _topic(2, 2, 2), _topic(3, 2, 1)), labels=labels)
    inside = np.array([True, True, False, True, False, False])
    outside = np.array([False, False, True, False, True, False])  # the last row is gone
    found = [(one.id, one.count, one.share, one.rest) for one in topic_shares(topics, inside, outside)]
    third = pytest.approx(1 / 3)
    assert found == [
        (0, 2, 2 * third.expected, 0.5),
        (1, 1, third, 0.5),
        (2, 2, 2 * third.expected, 0.0),
        (3, 1, third, 0.0),
    ]
    assert topic_shares(topics, ~inside & inside, outside) == []
    assert topic_shares(Topics(topics=(), labels=np.empty((0, 6), np.int32)), inside, outside) == []


@pytest.mark.parametrize("cosine", [True, False])
def test_typical_rows_and_outliers(cosine: bool) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)) * 0.5 + np.array([5, 0, 0])
    vectors[7] = [-5, 0, 1]
    rows = np.arange(5, 45)
    near, far = central_rows(vectors.astype(np.float32), rows, cosine=cosine)
    found = vectors[rows] / np.linalg.norm(vectors[rows], axis=1, keepdims=True) if cosine else vectors[rows]
    away = -(found @ found.mean(axis=0)) if cosine else np.linalg.norm(found - found.mean(axis=0), axis=1)
    order = rows[np.argsort(away)].tolist()
    assert near.tolist() == order[:8]
    assert far.tolist() == order[:-9:-1]
    assert far[0] == 7


@pytest.mark.parametrize("count", [0, 1, 5, 8, 9])
def test_few_rows(count: int) -> None:
    near, far = central_rows(np.zeros((20, 2), np.float32), np.arange(count), cosine=True)
    assert len(near) == min(count, 8)
    assert sorted([*near, *far]) == list(range(count))


def test_a_draw_repeats_and_is_of_the_mask() -> None:
    mask = np.arange(1000) % 2 == 0
    drawn = draw_rows(mask, 100)
    assert len(np.unique(drawn)) == 100
    assert mask[drawn].all()
    np.testing.assert_array_equal(drawn, draw_rows(mask, 100))
    np.testing.assert_array_equal(drawn, np.sort(drawn))
    assert draw_rows(mask, 100, seed=1).tolist() != drawn.tolist()
    assert draw_rows(mask, 500).tolist() == np.flatnonzero(mask).tolist()
