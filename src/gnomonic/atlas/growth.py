"""A map that follows its dataset: new rows are placed by their neighbours, and no old point moves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.build import EmbedTexts, MapPlan, build_map, load_graph, publish_map, tile_stage, vectors_stage
from gnomonic.atlas.duplicates import find_duplicates
from gnomonic.atlas.embedding import embed_rows, is_same_model
from gnomonic.atlas.map_folder import MapFolder, remove_grown
from gnomonic.atlas.neighbors import NeighborGraph, query_neighbors
from gnomonic.atlas.placement import place
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.stages import Stage, StageCache
from gnomonic.atlas.store import Store
from gnomonic.atlas.topics import Topics

__all__ = ["grow_map"]


def grow_map(
    folder: Path,
    store: Store,
    plan: MapPlan,
    *,
    dataset_id: str,
    previous: MapFolder,
    embed: EmbedTexts | None = None,
    on_progress: OnProgress = no_progress,
) -> MapFolder:
    """Publish a map with the rows that came since, without those that went, and with every other point where it was.

    A row whose vector changed, because its text did, counts as new. Topics keep their names and regions; a new row
    takes those of its neighbours. Quality is that of the last full build. Once most rows came after that, neither the
    lists of neighbours nor the topics fit them any more: the map is built again, laid onto the old one.

    Args:
        folder: the dataset's.
        store: the rows.
        plan: that of the last full build.
        dataset_id: goes into the digests.
        previous: the published map.
        embed: embeds the words of topics, should the map be built again.
        on_progress: told of every stage.

    Raises:
        DatasetError: rows have no vectors, or a file cannot be written.
    """
    cache = StageCache(folder / "build")
    version = store.version
    embeddings = embed_rows(
        cache, store, plan.source, dataset_id=dataset_id, version=version, reuse=previous, on_progress=on_progress
    )
    grown = _Growth(previous, embeddings, on_progress)
    grown_rows = previous.record.grown_rows + len(grown.new)
    if 2 * grown_rows > len(grown.rows):
        return build_map(
            folder, store, plan, dataset_id=dataset_id, previous=previous, embed=embed, on_progress=on_progress
        )
    stages = [embeddings, *grown.stages(cache, plan, f"{previous.record.id} {version}")]
    stages.append(tile_stage(cache, store, stages, version=version, on_progress=on_progress))
    record = previous.record
    published = publish_map(
        folder,
        plan,
        stages,
        version=version,
        grown_from=record.id,
        grown_rows=grown_rows,
        index_id=record.index_id,
    )
    cache.keep_only(stages)
    remove_grown(folder / "maps", published)
    return published


class _Growth:
    """The arrays of the old map, carried over to the rows of now."""

    def __init__(self, previous: MapFolder, embeddings: Stage, on_progress: OnProgress) -> None:
        self._previous = previous
        self._on_progress = on_progress
        self.rows = np.load(embeddings.folder / "rows.npy")
        self.vectors: NDArray[Any] = np.load(embeddings.folder / "vectors.npy", mmap_mode="r")
        at = previous.positions_of(self.rows)
        carried = np.flatnonzero(at >= 0)
        probe = embeddings.folder / "probe.npy"
        if not is_same_model(previous, np.load(probe) if probe.is_file() else None):
            # Vectors of two models are not to be compared, so nothing is carried over.
            carried = carried[:0]
        if (embeddings.folder / "hashes.npy").is_file():
            same = (
                np.load(embeddings.folder / "hashes.npy")[carried] == previous.array("embeddings/hashes")[at[carried]]
            )
        else:
            same = _equal_rows(self.vectors, carried, previous.vectors, at[carried])
        self.kept = carried[same]
        """Rows of now that the old map has, [c] int64."""
        self._old = at[self.kept]
        """Where the old map has them, [c] int64."""
        self.new = np.setdiff1d(np.arange(len(self.rows)), self.kept)
        self._to_new = np.full(previous.record.rows, -1, dtype=np.int32)
        self._to_new[self._old] = self.kept
        self.graph: NeighborGraph | None = None

    def stages(self, cache: StageCache, plan: MapPlan, key: str) -> list[Stage]:
        """Return the stages between the vectors and the tiles."""
        neighbors = vectors_stage(cache, "neighbors", key, self.write_neighbors)
        graph = self.graph = NeighborGraph.load(neighbors.folder)

        def write_duplicates(into: Path) -> None:
            if plan.duplicates.tag_duplicates:
                find_duplicates(graph, self.vectors, plan.duplicates).save(into)

        return [
            neighbors,
            vectors_stage(cache, "projection", key, self.write_projection),
            vectors_stage(cache, "topics", key, self.write_topics),
            vectors_stage(cache, "duplicates", key, write_duplicates),
            vectors_stage(cache, "quality", key, self.write_quality),
        ]

    def write_neighbors(self, into: Path) -> None:
        """Carry the lists over and ask for those of the new rows among all."""
        old = load_graph(self._previous)
        k = old.indices.shape[1]
        indices = np.full((len(self.rows), k), -1, dtype=np.int32)
        distances = np.full((len(self.rows), k), np.inf, dtype=np.float32)
        before = np.asarray(old.indices[self._old])
        renamed = np.where(before >= 0, self._to_new[np.maximum(before, 0)], -1)
        kept = np.where(renamed >= 0, np.asarray(old.distances[self._old]), np.inf)
        # Those that went leave gaps, which go to the end.
        by_distance = np.argsort(kept, axis=1, kind="stable")
        indices[self.kept] = np.take_along_axis(renamed, by_distance, axis=1)
        distances[self.kept] = np.take_along_axis(kept, by_distance, axis=1)
        if len(self.new):
            found, apart = query_neighbors(
                self.vectors,
                np.asarray(self.vectors[self.new]),
                k + 1,
                metric=old.metric,
                on_progress=self._on_progress,
            )
            found, apart = _without_self(found, apart, self.new, k)
            indices[self.new, : found.shape[1]] = found
            distances[self.new, : found.shape[1]] = apart
        replace(old, indices=indices, distances=distances).save(into)

    def write_projection(self, into: Path) -> None:
        """Place the new rows by their neighbours on the old map."""
        assert self.graph is not None
        xy = np.zeros((len(self.rows), 2), dtype=np.float32)
        xy[self.kept] = self._previous.xy[self._old]
        if len(self.new) and len(self.kept):
            k = self.graph.indices.shape[1]
            found, apart = query_neighbors(
                self.vectors, np.asarray(self.vectors[self.new]), k, metric=self.graph.metric, among=self.kept
            )
            xy[self.new] = place(found, apart, xy)
        self._on_progress(Progress(stage="projection", done=len(xy), total=len(xy)))
        np.save(into / "xy.npy", xy)

    def write_topics(self, into: Path) -> None:
        """Give the new rows the topics that most of their neighbours on the old map have."""
        assert self.graph is not None
        old = Topics.load(self._previous.folder / "topics")
        labels = np.full((len(old.labels), len(self.rows)), -1, dtype=np.int32)
        labels[:, self.kept] = np.asarray(old.labels)[:, self._old]
        self._vote(labels, {topic.id: topic.parent for topic in old.topics})
        counts = np.bincount(labels[labels >= 0], minlength=max((t.id for t in old.topics), default=0) + 1)
        place_of = np.concatenate([self._to_new, [-1]])
        topics = tuple(
            replace(
                topic,
                count=int(counts[topic.id]),
                exemplars=tuple(int(place_of[row]) for row in topic.exemplars if place_of[row] >= 0),
            )
            for topic in old.topics
        )
        Topics(topics=topics, labels=labels, centroids=np.asarray(old.centroids)).save(into)

    def _vote(self, labels: NDArray[np.int32], parents: dict[int, int | None]) -> None:
        """Fill in the new rows of labels [depths, n]: the finest topic that neighbours have, and its parents."""
        assert self.graph is not None
        for row, near in zip(self.new, self.graph.indices[self.new], strict=True):
            known = near[near >= 0]
            for depth in range(len(labels) - 1, -1, -1):
                given = labels[depth, known]
                given = given[given >= 0]
                if len(given):
                    topic: int | None = int(np.bincount(given).argmax())
                    for above in range(depth, -1, -1):
                        if topic is None:
                            break
                        labels[above, row] = topic
                        topic = parents[topic]
                    break

    def write_quality(self, into: Path) -> None:
        """Carry the numbers over; a new row's trust is what its place deserves: the mean of its neighbours'."""
        assert self.graph is not None
        old = np.asarray(self._previous.array("quality/trust"))
        trust = np.zeros(len(self.rows), dtype=np.uint8)
        trust[self.kept] = old[self._old]
        near = self.graph.indices[self.new]
        if len(self.new):
            known = near >= 0
            total = np.where(known, trust[np.maximum(near, 0)].astype(np.float32), 0).sum(axis=1)
            trust[self.new] = total / np.maximum(known.sum(axis=1), 1)
        np.save(into / "trust.npy", trust)
        (into / "quality.json").write_text(json.dumps(self._previous.record.quality, indent=1), encoding="utf-8")


def _equal_rows(
    new: NDArray[Any], at: NDArray[np.int64], old: NDArray[Any], where: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which of some rows have the same vector in both arrays."""
    same = np.zeros(len(at), dtype=bool)
    if new.shape[1] != old.shape[1]:
        return same
    for begin in range(0, len(at), 16_384):
        part = slice(begin, begin + 16_384)
        same[part] = (np.asarray(new[at[part]]) == np.asarray(old[where[part]])).all(axis=1)
    return same


def _without_self(
    found: NDArray[np.int32], apart: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Drop each row from its own list; one that is not in it, among equals, drops its last."""
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    others = ~own
    width = found.shape[1] - 1
    return found[others].reshape(-1, width)[:, :k], apart[others].reshape(-1, width)[:, :k]
