"""Sources and schedules: each row once a pass, whatever the ranks, the threads and the place the run goes on from."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from gnomonic.errors import ConfigError, InputError  # noqa: E402
from gnomonic.training.config import SourceConfig  # noqa: E402
from gnomonic.training.data.pairs import PairBatch, PairSource, Schedule, load_sources  # noqa: E402
from gnomonic.training.data.prefetch import Prefetch  # noqa: E402

_SIZES = {"big": 53, "mid": 21, "tiny": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with pairs.parquet, whose sources lie mixed, as large as `_SIZES` says."""
    rows = [(f"{name} {i} ä日", f"{name} {i} document", name) for name, size in _SIZES.items() for i in range(size)]
    order = np.random.default_rng(0).permutation(len(rows))
    query, document, source = zip(*(rows[i] for i in order), strict=True)
    table = pa.table({"query": query, "document": document, "source": source})
    pq.write_table(table, tmp_path / "pairs.parquet")
    return tmp_path


@pytest.fixture
def sources(folder: Path) -> list[PairSource]:
    """The sources of pairs.parquet, by name."""
    return load_sources(["pairs.parquet"], folder, [])


def _plain(batch: PairBatch) -> list[str]:
    return [text.removeprefix("search_query: ").removesuffix(" ä日") for text in batch.queries]


def _everything() -> list[str]:
    return sorted(f"{name} {i}" for name, size in _SIZES.items() for i in range(size))


def test_sources_are_told_apart_and_prefixed_by_their_rule(folder: Path) -> None:
    rules = [
        SourceConfig(match=("mid",), query_task="clustering", document_task=""),
        SourceConfig(match=("t*",), weight=0.0),
    ]
    loaded = load_sources(["pairs.parquet"], folder, rules)
    assert [(source.name, len(source)) for source in loaded] == [("big", 53), ("mid", 21)]
    batch = loaded[1].take(np.arange(21))
    assert {text.split()[0] for text in batch.queries} == {"clustering:"}
    assert sorted(batch.documents) == sorted(f"mid {i} document" for i in range(21))
    assert batch.negatives == [[]] * 21


def test_a_file_without_sources_is_one(tmp_path: Path) -> None:
    (tmp_path / "my pairs.csv").write_text('query,document,negatives\nq,d,"[""n"", ""m""]"\nr,e,\n')
    (source,) = load_sources(["my pairs.csv"], tmp_path, [])
    batch = source.take(np.array([1, 0]))
    assert batch.source == source.name == "my pairs"
    assert batch.documents == ["search_document: e", "search_document: d"]
    assert batch.negatives == [[], ["search_document: n", "search_document: m"]]


def test_a_source_may_lie_in_several_files(tmp_path: Path) -> None:
    for name, order in (("one", "ab"), ("two", "bca")):
        rows = "".join(f"{source} {name},document,{source}\n" for source in order)
        (tmp_path / f"{name}.csv").write_text(f"query,document,source\n{rows}")
    loaded = load_sources(["*.csv"], tmp_path, [])
    found = {source.name: source.take(np.arange(len(source))).queries for source in loaded}
    assert {name: [text.removeprefix("search_query: ") for text in texts] for name, texts in found.items()} == {
        "a": ["a one", "a two"],
        "b": ["b one", "b two"],
        "c": ["c two"],
    }


def test_rows_say_where_a_pair_stands_in_the_files(folder: Path, sources: list[PairSource]) -> None:
    queries = pq.read_table(folder / "pairs.parquet")["query"].to_pylist()
    batch = sources[1].take(np.array([4, 0, 20]))
    assert [f"search_query: {queries[row]}" for row in batch.rows] == batch.queries


def test_all_weights_zero_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match="every source has weight 0"):
        load_sources(["pairs.parquet"], folder, [SourceConfig(match=("*",), weight=0.0)])


def test_an_unknown_task_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="'query' is unknown"):
        load_sources(["pairs.parquet"], folder, [SourceConfig(match=("*",), query_task="query")])


@pytest.mark.parametrize("batch_size", [4, 7, 16])
def test_with_steps_each_row_of_a_source_comes_once_before_any_comes_again(
    sources: list[PairSource], batch_size: int
) -> None:
    schedule = Schedule(sources, batch_size=batch_size, steps=60, exponent=0.7, seed=3)
    assert len(schedule) == 60
    seen: dict[str, list[str]] = {}
    for step in range(60):
        batch = schedule.batch(step)
        assert len(batch.queries) == batch_size
        seen.setdefault(batch.source, []).extend(_plain(batch))
    assert set(seen) == {"big", "mid"}
    orders = set()
    for name, texts in seen.items():
        size = _SIZES[name]
        assert len(texts) > 2 * size
        for start in range(0, len(texts) - size + 1, size):
            one_pass = texts[start : start + size]
            assert len(set(one_pass)) == size
            orders.add(tuple(one_pass))
    assert len(orders) == sum(len(texts) // _SIZES[name] for name, texts in seen.items())


@pytest.mark.parametrize("batch_size", [1, 8, 25, 50, 1000])
def test_an_epoch_has_each_row_of_every_source_once(sources: list[PairSource], batch_size: int) -> None:
    schedule = Schedule(sources, batch_size=batch_size, epochs=3, seed=1)
    per_epoch = schedule.steps_per_epoch
    assert len(schedule) == 3 * per_epoch
    epochs = []
    for epoch in range(3):
        batches = [schedule.batch(step) for step in range(epoch * per_epoch, (epoch + 1) * per_epoch)]
        texts = [text for batch in batches for text in _plain(batch)]
        assert sorted(texts) == _everything()
        assert all(1 <= len(batch.queries) <= batch_size for batch in batches)
        assert all(text.startswith(batch.source) for batch in batches for text in _plain(batch))
        epochs.append(texts)
    assert epochs[0] != epochs[1] != epochs[2]


def test_rows_meet_others_in_the_next_epoch(sources: list[PairSource]) -> None:
    schedule = Schedule(sources, batch_size=8, epochs=2, seed=1)
    batches = [frozenset(_plain(schedule.batch(step))) for step in range(len(schedule))]
    common = set(batches[: len(batches) // 2]) & set(batches[len(batches) // 2 :])
    assert all(len(batch) == _SIZES["tiny"] for batch in common)


def test_batches_of_an_epoch_are_shuffled_over_sources(sources: list[PairSource]) -> None:
    schedule = Schedule(sources, batch_size=2, epochs=2, seed=1)
    names = [schedule.batch(step).source for step in range(schedule.steps_per_epoch)]
    assert sum(a != b for a, b in pairwise(names)) > 8


def test_a_small_rest_is_shared_with_the_batch_before(sources: list[PairSource]) -> None:
    schedule = Schedule(sources[:2], batch_size=20, epochs=1, seed=0)
    sizes = Counter((batch.source, len(batch.queries)) for batch in map(schedule.batch, range(len(schedule))))
    assert sizes == {("big", 20): 2, ("big", 13): 1, ("mid", 11): 1, ("mid", 10): 1}


@pytest.mark.parametrize("settings", [{"steps": 30}, {"epochs": 2}])
@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_share_each_batch(sources: list[PairSource], settings: dict[str, int], world: int) -> None:
    whole = Schedule(sources, batch_size=8, seed=5, **settings)
    parts = [Schedule(sources, batch_size=8, seed=5, rank=rank, world=world, **settings) for rank in range(world)]
    seen: Counter[str] = Counter()
    for step in range(len(parts[0])):
        batches = [part.batch(step) for part in parts]
        assert len({len(batch.queries) for batch in batches}) == len({batch.source for batch in batches}) == 1
        together = [text for batch in batches for text in _plain(batch)]
        seen.update(together)
        if "steps" in settings:
            assert together == _plain(whole.batch(step))
    if "epochs" in settings:
        left = sum(size % world for size in _SIZES.values() if size >= world) + 3 * (world > 3)
        assert sum(seen.values()) == 2 * (77 - left)
        assert max(seen.values()) == 2


@pytest.mark.parametrize("settings", [{"steps": 40}, {"epochs": 3}])
def test_a_step_does_not_depend_on_what_ran_before(sources: list[PairSource], settings: dict[str, int]) -> None:
    straight = Schedule(sources, batch_size=8, seed=5, **settings)
    batches = [straight.batch(step) for step in range(len(straight))]
    for workers in (0, 1, 4):
        start = 13
        resumed = Prefetch(Schedule(sources, batch_size=8, seed=5, **settings).batch, start, len(batches), workers)
        assert [batch.queries for batch in resumed] == [batch.queries for batch in batches[start:]]
    backwards = [straight.batch(step).queries for step in reversed(range(len(straight)))]
    assert backwards[::-1] == [batch.queries for batch in batches]


def test_another_seed_is_another_order(sources: list[PairSource]) -> None:
    first, second = (Schedule(sources, batch_size=8, epochs=1, seed=seed) for seed in (0, 1))
    assert any(first.batch(step).queries != second.batch(step).queries for step in range(len(first)))


def test_a_source_is_drawn_by_its_size_and_weight(folder: Path) -> None:
    rules = [SourceConfig(match=("mid",), weight=53 / 21 * 9)]
    loaded = load_sources(["pairs.parquet"], folder, rules)
    schedule = Schedule(loaded, batch_size=8, steps=400, exponent=0.5, seed=2)
    share = np.mean([schedule.batch(step).source == "mid" for step in range(400)])
    assert abs(share - 0.75) < 0.08
    assert schedule.skipped == ["tiny"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 64, "steps": 5}, "batch_size: no source has 64 rows; take a smaller batch"),
        ({"batch_size": 6, "steps": 5, "world": 4}, "batch_size: 6 cannot be shared equally by 4 processes"),
        ({"batch_size": 0, "steps": 5}, "batch_size: 0 cannot be shared"),
        ({"batch_size": 4}, "steps and epochs: 0 and 0 are given; give one"),
        ({"batch_size": 4, "steps": 5, "epochs": 1}, "steps and epochs: 5 and 1 are given; give one"),
        ({"batch_size": 4, "steps": -5, "epochs": 1}, "steps and epochs: -5 and 1"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(sources: list[PairSource], settings: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Schedule(sources, seed=0, **settings)


def test_there_are_no_steps_outside_the_run(sources: list[PairSource]) -> None:
    schedule = Schedule(sources, batch_size=8, steps=5, seed=0)
    for step in (-1, 5):
        with pytest.raises(IndexError):
            schedule.batch(step)
