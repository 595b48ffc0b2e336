"""The topics of a map, as a user reads them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.topics import Topic, Topics
from gnomonic.errors import DatasetError, InputError

if TYPE_CHECKING:
    from gnomonic.atlas.living import Living

from gnomonic.atlas.part import Part

__all__ = ["MapTopics"]


class MapTopics(Part):
    """Regions of the map, coarse to fine."""

    @cached_property
    def _topics(self) -> Topics:
        found = Topics.load(self._map.folder.folder / "topics")
        if not len(found.labels):
            raise DatasetError("topic modeling has not been run on this map", hint="build it with topic_model=True")
        return found

    @cached_property
    def _by_id(self) -> dict[int, Topic]:
        return {topic.id: topic for topic in self._topics.topics}

    @property
    def depth(self) -> int:
        """How many depths there are."""
        return len(self._topics.labels)

    @property
    def labels(self) -> NDArray[np.int32]:
        """[depth, n] int32: every row's topic at every depth, -1 for none."""
        return self._labels(self._map.alive)

    def _labels(self, at: NDArray[np.int64]) -> NDArray[np.int32]:
        labels: NDArray[np.int32] = np.asarray(self._topics.labels)[:, at]
        return labels

    @property
    def tb(self) -> pa.Table:
        """Ids, and the topic's name at every depth; null where a row has none."""
        living = self._map.living
        return self._table(self.names_of(living.alive), living)

    def names_of(self, at: NDArray[np.int64]) -> dict[str, pa.Array]:
        """Return the topics' names by depth, "topic_depth_1" and so on, of rows by their positions in row order."""
        return {f"topic_depth_{depth}": self._names(labels) for depth, labels in enumerate(self._labels(at), start=1)}

    def _names(self, labels: NDArray[np.int32]) -> pa.Array:
        names = pa.array([None, *(topic.name for topic in self._topics.topics)], type=pa.string())
        place = {topic.id: i for i, topic in enumerate(self._topics.topics, start=1)}
        values, codes = np.unique(labels, return_inverse=True)
        return names.take(pa.array(np.array([place.get(int(value), 0) for value in values], dtype=np.int64)[codes]))

    @property
    def records(self) -> list[Topic]:
        """All topics, coarse ones first; each counts the rows that the dataset still has."""
        topics, living = self._topics.topics, self._map.living
        if living.is_whole:
            return list(topics)
        labels = self._labels(living.alive)
        counts = np.bincount(labels[labels >= 0], minlength=len(topics))
        return [replace(topic, count=int(counts[topic.id])) for topic in topics]

    @property
    def metadata(self) -> Any:
        """A DataFrame of the topics: topic_id, depth, the names above and its own, descriptions, count."""
        import pandas

        rows = []
        for topic in self.records:
            path = {f"topic_depth_{one.depth}": one.name for one in self._path(topic)}
            rows.append(
                {
                    "topic_id": topic.id,
                    "depth": topic.depth,
                    **{f"topic_depth_{depth}": path.get(f"topic_depth_{depth}") for depth in range(1, self.depth + 1)},
                    "topic_short_description": topic.name,
                    "topic_description": topic.description,
                    "count": topic.count,
                }
            )
        return pandas.DataFrame(rows)

    def _path(self, topic: Topic) -> list[Topic]:
        path = [topic]
        while path[0].parent is not None:
            path.insert(0, self._by_id[path[0].parent])
        return path

    @property
    def hierarchy(self) -> dict[tuple[str, int], list[str]]:
        """(name, depth) → names of the topics below it."""
        found: dict[tuple[str, int], list[str]] = defaultdict(list)
        for topic in self._topics.topics:
            if topic.parent is not None:
                above = self._by_id[topic.parent]
                found[above.name, above.depth].append(topic.name)
        return dict(found)

    def group_by_topic(self, topic_depth: int = 1) -> list[dict[str, Any]]:
        """Return the topics of a depth, each with its subtopics and the ids of its rows.

        Raises:
            InputError: there is no such depth.
        """
        self._check_depth(topic_depth)
        living = self._map.living
        labels = self._labels(living.alive)[topic_depth - 1]
        ids = living.ids
        below = defaultdict(list)
        for topic in self._topics.topics:
            if topic.parent is not None:
                below[topic.parent].append(topic)
        return [
            {
                "subtopics": [one.name for one in below[topic.id]],
                "subtopic_ids": [one.id for one in below[topic.id]],
                "topic_id": topic.id,
                "topic_short_description": topic.name,
                "topic_long_description": topic.description,
                "datum_ids": set(ids.take(pa.array(np.flatnonzero(labels == topic.id))).to_pylist()),
            }
            for topic in self._topics.topics
            if topic.depth == topic_depth
        ]

    def get_topic_density(
        self, time_field: str, start: datetime | date, end: datetime | date, topic_depth: int = 1
    ) -> dict[str, int]:
        """Count the rows of every topic in a span of time.

        Args:
            time_field: a column of times or dates.
            start: the first moment that counts.
            end: the first that no longer does.
            topic_depth: of which depth.

        Raises:
            InputError: the column is not one of times, or there is no such depth.
        """
        self._check_depth(topic_depth)
        living = self._map.living
        times = self._column(time_field, living)
        if not pa.types.is_temporal(times.type):
            raise InputError(f"column {time_field!r} holds {times.type} and no times")
        try:
            low, high = (pa.scalar(moment).cast(times.type) for moment in (start, end))
            inside = pc.and_(pc.greater_equal(times, low), pc.less(times, high))
        except pa.ArrowInvalid as error:
            raise InputError(f"start and end do not fit column {time_field!r}, {times.type}: {error}") from error
        labels = self._labels(living.alive)[topic_depth - 1]
        chosen = labels[np.asarray(pc.fill_null(inside, False)) & (labels >= 0)]
        values, counts = np.unique(chosen, return_counts=True)
        return {self._by_id[int(v)].name: int(count) for v, count in zip(values, counts, strict=True)}

    def _column(self, name: str, living: Living) -> pa.ChunkedArray:
        return self._map.dataset.store.take(living.rows, [name], version=living.version).column(0)

    def vector_search_topics(self, queries: NDArray[Any], k: int = 32, depth: int = 3) -> dict[str, Any]:
        """Return the topics of the rows nearest to vectors.

        Args:
            queries: [m, dim] vectors.
            k: how many rows vote.
            depth: the depth of the topics.

        Returns:
            {"topics": for each query a mapping of topic id (as text) to its share of the k rows}.
        """
        self._check_depth(depth)
        found, _ = self._map.search_engine.nearest(np.asarray(queries, dtype=np.float32), k)
        labels = np.asarray(self._topics.labels)[depth - 1]
        answer = []
        for rows in found:
            values, counts = np.unique(labels[rows], return_counts=True)
            shares = {str(int(v)): float(c) / len(rows) for v, c in zip(values, counts, strict=True) if v >= 0}
            answer.append(dict(sorted(shares.items(), key=lambda item: -item[1])))
        return {"topics": answer}

    def tree(self) -> str:
        """Return the topics as an indented list with their sizes."""
        below = defaultdict(list)
        for topic in self.records:
            below[topic.parent].append(topic)
        lines: list[str] = []

        def add(parent: int | None, indent: int) -> None:
            for topic in sorted(below[parent], key=lambda one: -one.count):
                lines.append(f"{'  ' * indent}{topic.name} ({topic.count:,})")
                only = below[topic.id][0] if len(below[topic.id]) == 1 else None
                # A topic that is not divided further has itself below it.
                add(only.id if only and only.count == topic.count else topic.id, indent + 1)

        add(None, 0)
        return "\n".join(lines)

    def _check_depth(self, depth: int) -> None:
        if not 1 <= depth <= self.depth:
            raise InputError(f"topic depth {depth} is out of range; choose 1 to {self.depth}")
