"""Tags and selections: what is kept, what can be taken back, and many hands at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnomonic.atlas import tag_tables
from gnomonic.atlas.annotations import Annotations
from gnomonic.errors import DatasetError, InputError


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Annotations]:
    made = Annotations(tmp_path / "annotations.sqlite")
    yield made
    made.close()


def test_tags_keep_numbers_of_any_size(notes: Annotations) -> None:
    rows = np.array([70_000, 0, 65_535, 65_536, 2**40, 0])
    assert notes.add("good", rows) == 5
    assert notes.add("good", np.array([0, 1])) == 1
    np.testing.assert_array_equal(notes.rows_of("good"), [0, 1, 65_535, 65_536, 70_000, 2**40])
    assert notes.rows_of("good").dtype == np.int64
    assert notes.remove("good", np.array([1, 2, 2**40])) == 2
    notes.create("empty")
    assert notes.tags() == {"empty": 0, "good": 4}
    assert notes.tags_of(65_536) == ["good"]
    assert notes.tags_of(1) == []


def test_the_rows_that_a_change_changed(notes: Annotations) -> None:
    assert notes.give("good", np.array([70_000, 1, 1])).tolist() == [1, 70_000]
    assert notes.give("good", np.array([1, 2, 70_000])).tolist() == [2]
    assert notes.give("good", np.array([1])).tolist() == notes.take("good", np.array([5])).tolist() == []
    assert notes.take("good", np.array([70_000, 5, 2])).tolist() == [2, 70_000]
    assert notes.rows_of("good").tolist() == [1]


def test_tags_outlive_the_process(notes: Annotations, tmp_path: Path) -> None:
    notes.add("ünïcode '\"; drop", np.arange(3))
    notes.close()
    again = Annotations(tmp_path / "annotations.sqlite")
    assert again.tags() == {"ünïcode '\"; drop": 3}
    again.close()
    assert notes.tags() == {"ünïcode '\"; drop": 3}


def test_renaming_and_deleting(notes: Annotations) -> None:
    notes.add("a", np.arange(3))
    notes.add("b", np.arange(2))
    notes.rename("a", "c")
    notes.rename("c", "c")
    assert notes.tags() == {"b": 2, "c": 3}
    with pytest.raises(DatasetError, match="tag 'b' already"):
        notes.rename("c", "b")
    notes.delete("c")
    assert notes.tags() == {"b": 2}
    for call in (notes.rows_of, notes.delete, lambda tag: notes.rename(tag, "d")):
        with pytest.raises(DatasetError, match="no tag 'c'"):
            call("c")
    with pytest.raises(DatasetError, match="no tag 'c'"):
        notes.remove("c", np.arange(1))
    with pytest.raises(DatasetError, match="already"):
        notes.create("b")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, None, 3])
def test_names_that_cannot_be_read(notes: Annotations, name: str) -> None:
    with pytest.raises(InputError, match="tag name"):
        notes.add(name, np.arange(2))
    with pytest.raises(InputError, match="selection name"):
        notes.save_selection(name, kind="lasso", definition={})


def test_numbers_that_are_no_rows(notes: Annotations) -> None:
    with pytest.raises(InputError, match="-1 is negative"):
        notes.add("a", np.array([3, -1]))
    with pytest.raises(InputError, match="whole numbers"):
        notes.add("a", np.array([0.5]))
    assert notes.tags() == {}
    assert notes.add("a", np.array([])) == 0
    assert notes.tags() == {"a": 0}


def test_everything_can_be_taken_back(notes: Annotations) -> None:
    notes.create("first")
    notes.add("a", np.arange(5))
    notes.add("a", np.arange(3, 70_000))
    notes.add("a", np.arange(4))  # changes nothing and is no step
    notes.remove("a", np.arange(2))
    notes.rename("a", "b")
    notes.delete("b")
    assert notes.undo() == "delete 'b' (69998 rows)"
    assert notes.tags() == {"b": 69_998, "first": 0}
    assert notes.undo() == "rename 'a'"
    assert notes.undo() == "remove 'a' (2 rows)"
    np.testing.assert_array_equal(notes.rows_of("a"), np.arange(70_000))
    assert notes.undo() == "add 'a' (69995 rows)"
    np.testing.assert_array_equal(notes.rows_of("a"), np.arange(5))
    assert notes.undo() == "add 'a' (5 rows)"
    assert notes.undo() == "create 'first'"
    assert notes.undo() is None
    assert notes.tags() == {}
    assert [(entry.operation, entry.undone) for entry in notes.audit()][-2:] == [("add", True), ("create", True)]


def test_only_so_many_steps_are_kept(notes: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_tables, "_UNDO_STEPS", 3)
    for row in range(5):
        notes.add("a", np.array([row]))
    undone = [notes.undo() for _ in range(5)]
    assert undone == ["add 'a' (1 rows)"] * 3 + [None] * 2
    np.testing.assert_array_equal(notes.rows_of("a"), [0, 1])
    assert len(notes.audit()) == 5
    assert len(notes.audit(limit=2)) == 2


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "rename", "delete"]), st.sampled_from("abc"), st.sets(st.integers(0, 9))
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS)
def test_taking_back_visits_every_earlier_state(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, set[int]]]
) -> None:
    notes = Annotations(tmp_path_factory.mktemp("notes") / "annotations.sqlite")
    model: dict[str, set[int]] = {}
    states = [{}]
    for operation, tag, rows in steps:
        before = {name: set(found) for name, found in model.items()}
        if operation == "add":
            notes.add(tag, np.array(sorted(rows), dtype=np.int64))
            model.setdefault(tag, set()).update(rows)
        elif tag not in model:
            continue
        elif operation == "remove":
            notes.remove(tag, np.array(sorted(rows), dtype=np.int64))
            model[tag] -= rows
        elif operation == "delete":
            notes.delete(tag)
            del model[tag]
        elif "d" not in model:
            notes.rename(tag, "d")
            model["d"] = model.pop(tag)
        if model != before:
            states.append({name: set(found) for name, found in model.items()})
    while True:
        found = {tag: set(notes.rows_of(tag).tolist()) for tag in notes.tags()}
        assert found == states.pop()
        if notes.undo() is None:
            break
    notes.close()
    assert states == []


def test_selections(notes: Annotations) -> None:
    lasso = {"polygon": [[0.5, 1.0], [2.0, 3.0]], "map": "ü"}
    notes.save_selection("one", kind="lasso", definition=lasso, rows=np.array([5, 2**40, 1, 5]))
    notes.save_selection("two", kind="filter", definition={"where": "a > 3"})
    found = notes.selection("one")
    assert (found.kind, found.definition) == ("lasso", lasso)
    np.testing.assert_array_equal(found.rows, [1, 5, 2**40])
    assert notes.selection("two").rows is None
    notes.save_selection("one", kind="search", definition={})
    assert notes.selection("one").kind == "search"
    assert sorted(notes.selections()) == ["one", "two"]
    notes.delete_selection("one")
    for call in (notes.selection, notes.delete_selection):
        with pytest.raises(DatasetError, match="no selection 'one'"):
            call("one")
    with pytest.raises(InputError, match="not JSON"):
        notes.save_selection("bad", kind="x", definition={"a": float("nan")})


_TAGGING = """
import sys, pathlib, numpy
from gnomonic.atlas.annotations import Annotations
notes = Annotations(pathlib.Path(sys.argv[1]))
for row in range(30):
    notes.add("shared", numpy.array([2 * row + int(sys.argv[2])]))
notes.close()
"""


def test_processes_and_threads_tag_at_once(notes: Annotations, tmp_path: Path) -> None:
    path = str(tmp_path / "annotations.sqlite")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen([sys.executable, "-c", _TAGGING, path, "1"], env=environment)
    threads = [threading.Thread(target=notes.add, args=("shared", np.array([1000 + i]))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in range(0, 60, 2):
        notes.add("shared", np.array([row]))
    assert other.wait() == 0
    np.testing.assert_array_equal(notes.rows_of("shared"), [*range(60), *range(1000, 1008)])


def test_a_failed_change_changes_nothing(notes: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    notes.add("a", np.arange(3))
    monkeypatch.setattr("gnomonic.atlas.annotations.note", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        notes.add("a", np.arange(10))
    assert notes.tags() == {"a": 3}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "annotations.sqlite"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(DatasetError, match=r"annotations\.sqlite cannot be used"):
        Annotations(path)
