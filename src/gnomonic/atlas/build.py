"""A map, stage by stage: embeddings → neighbors → projection → topics → duplicates → quality → tiles.

Every stage is a function of arrays and its result is kept on disk under a digest of what it was made from, so a build
that was killed goes on where it was, and a build with another setting repeats only what depends on it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.clusters import cluster
from gnomonic.atlas.columns import write_column, write_columns_index
from gnomonic.atlas.duplicates import CLASS_NAMES, Duplicates, find_duplicates
from gnomonic.atlas.embedding import Source, embed_rows
from gnomonic.atlas.index import EXACT_BELOW, build_index
from gnomonic.atlas.map_folder import MapFolder, MapRecord, now, publish
from gnomonic.atlas.neighbors import NeighborGraph, build_neighbors
from gnomonic.atlas.options import DuplicateOptions, NeighborOptions, ProjectionOptions, TopicOptions
from gnomonic.atlas.placement import align
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.projection import project
from gnomonic.atlas.quality import measure_quality
from gnomonic.atlas.stages import Stage, StageCache, digest_array, digest_of
from gnomonic.atlas.store import Store
from gnomonic.atlas.tiles import read_manifest, write_tiles
from gnomonic.atlas.topics import Topics, build_topics

__all__ = ["EmbedTexts", "MapPlan", "build_map", "load_graph", "publish_map", "tile_stage", "vectors_stage"]

EmbedTexts = Callable[[list[str]], NDArray[np.float32]]

_SHARED_ROWS = 3
"""Rows that two maps must share for the new one to be laid onto the old."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapPlan:
    """What to build."""

    name: str
    source: Source
    neighbors: NeighborOptions = field(default_factory=NeighborOptions)
    projection: ProjectionOptions = field(default_factory=ProjectionOptions)
    topics: TopicOptions = field(default_factory=TopicOptions)
    duplicates: DuplicateOptions = field(default_factory=DuplicateOptions)
    seed: int = 0
    map_id: str | None = None
    """Ids that were promised before the map was built; None to have them made."""
    index_id: str | None = None

    def options(self) -> dict[str, Any]:
        """Return all settings as JSON can hold them; no key of an endpoint is among them."""
        return {
            "neighbors": asdict(self.neighbors),
            "projection": asdict(self.projection),
            "topics": asdict(self.topics),
            "duplicates": asdict(self.duplicates),
            "embed": asdict(self.source.options),
        }


def build_map(
    folder: Path,
    store: Store,
    plan: MapPlan,
    *,
    dataset_id: str,
    previous: MapFolder | None = None,
    embed: EmbedTexts | None = None,
    on_progress: OnProgress = no_progress,
) -> MapFolder:
    """Build a map of the store's newest version and publish it.

    Args:
        folder: the dataset's; finished stages go to its `build`, the map to its `maps`.
        store: the rows; they may be changed meanwhile, the map shows the version of now.
        plan: what to build.
        dataset_id: goes into the digests.
        previous: the map to which the new one is turned, so that readers find what they know where it was.
        embed: embeds topic labels that the user gave.
        on_progress: told of every stage.

    Raises:
        DatasetError: rows have no vectors.
        InputError: an option does not fit the data.
    """
    cache = StageCache(folder / "build")
    version = store.version
    embeddings = embed_rows(
        cache, store, plan.source, dataset_id=dataset_id, version=version, reuse=previous, on_progress=on_progress
    )
    vectors = _load(embeddings, "vectors")
    content = digest_array(vectors)
    neighbors = _neighbors(cache, plan, vectors, content, on_progress)
    graph = NeighborGraph.load(neighbors.folder)
    rows = _load(embeddings, "rows")
    projection = _projection(cache, plan, vectors, graph, (neighbors, previous, rows), on_progress)
    xy = _load(projection, "xy")
    texts = _texts(store, plan, rows, version)
    topics = _topics(cache, plan, xy, vectors, (projection, embeddings, texts, embed), on_progress)
    duplicates = _duplicates(cache, plan, graph, vectors, neighbors)
    found = Topics.load(topics.folder)
    quality = _quality(cache, plan, (vectors, xy, graph, found), (projection, topics), on_progress)
    stages = [embeddings, neighbors, projection, topics, duplicates, quality]
    if len(vectors) >= EXACT_BELOW:
        stages.append(_index(cache, plan, vectors, graph.metric, content, on_progress))
    stages.append(tile_stage(cache, store, stages, version=version, on_progress=on_progress))
    published = publish_map(folder, plan, stages, version=version)
    cache.keep_only(stages)
    return published


def publish_map(
    folder: Path,
    plan: MapPlan,
    stages: list[Stage],
    *,
    version: int,
    grown_from: str | None = None,
    grown_rows: int = 0,
    index_id: str | None = None,
) -> MapFolder:
    """Publish finished stages as a map."""
    by_name = {stage.name: stage for stage in stages}
    vectors = _load(by_name["embeddings"], "vectors")
    told = by_name["embeddings"].folder / "embeddings.json"
    quality = by_name["quality"].folder / "quality.json"
    record = MapRecord(
        id=plan.map_id or str(uuid.uuid4()),
        index_id=index_id or plan.index_id or str(uuid.uuid4()),
        name=plan.name,
        created=now(),
        version=version,
        rows=len(vectors),
        dim=vectors.shape[1],
        modality=plan.source.modality,
        indexed_field=plan.source.field,
        model=plan.source.model,
        options=plan.options(),
        seed=plan.seed,
        stages=[_told(stage) for stage in stages],
        quality=json.loads(quality.read_text(encoding="utf-8")) if quality.is_file() else {},
        truncated=json.loads(told.read_text(encoding="utf-8"))["truncated"] if told.is_file() else 0,
        grown_from=grown_from,
        grown_rows=grown_rows,
    )
    return publish(folder / "maps", record, stages)


def vectors_stage(cache: StageCache, name: str, key: str, write: Callable[[Path], None]) -> Stage:
    """Return a stage that is known by a key alone."""
    return cache.run(name, settings={"key": key}, inputs=[], compute=write)


def load_graph(found: MapFolder) -> NeighborGraph:
    """Return the neighbours of a published map."""
    return NeighborGraph.load(found.folder / "neighbors")


def _load(stage: Stage, name: str) -> NDArray[Any]:
    path = stage.folder / f"{name}.npy"
    try:
        loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        loaded = np.load(path, allow_pickle=False)
    return loaded


def _told(stage: Stage) -> dict[str, Any]:
    record = json.loads((stage.folder / "stage.json").read_text(encoding="utf-8"))
    return {
        "name": stage.name,
        "seconds": record["seconds"],
        "peak_rss_mb": record["peak_rss_mb"],
        "reused": stage.reused,
    }


def _neighbors(cache: StageCache, plan: MapPlan, vectors: NDArray[Any], content: str, on_progress: OnProgress) -> Stage:
    def compute(folder: Path) -> None:
        build_neighbors(vectors, plan.neighbors, seed=plan.seed, on_progress=on_progress).save(folder)

    settings = {**asdict(plan.neighbors), "seed": plan.seed}
    return cache.run("neighbors", settings=settings, inputs=[content], compute=compute)


def _projection(
    cache: StageCache,
    plan: MapPlan,
    vectors: NDArray[Any],
    graph: NeighborGraph,
    place: tuple[Stage, MapFolder | None, NDArray[np.int64]],
    on_progress: OnProgress,
) -> Stage:
    neighbors, previous, rows = place
    shared = np.empty(0, dtype=np.int64)
    at = shared
    if previous is not None:
        at = previous.positions_of(rows)
        shared = np.flatnonzero(at >= 0)
    onto = previous.xy[at[shared]] if previous is not None and len(shared) >= _SHARED_ROWS else None

    def compute(folder: Path) -> None:
        xy = project(graph, vectors, plan.projection, seed=plan.seed, on_progress=on_progress)
        if onto is not None:
            xy = align(xy, np.asarray(onto), shared)
        np.save(folder / "xy.npy", xy.astype(np.float32))

    frame = [] if onto is None else [digest_array(np.asarray(onto)), digest_array(shared)]
    settings = {**asdict(plan.projection), "seed": plan.seed}
    return cache.run("projection", settings=settings, inputs=[neighbors.digest, *frame], compute=compute)


TextSource = Callable[[NDArray[np.int64]], list[str]]


def _texts(store: Store, plan: MapPlan, rows: NDArray[np.int64], version: int) -> TextSource | None:
    """Return what reads the words that name topics, by row order."""
    label = plan.topics.topic_label_field or (plan.source.field if plan.source.modality == "text" else None)
    if label is None or label not in store.schema.names:
        return None

    def read(wanted: NDArray[np.int64]) -> list[str]:
        column = store.take(rows[wanted], [label], version=version).column(0)
        return ["" if value is None else str(value) for value in column.to_pylist()]

    return read


def _topics(
    cache: StageCache,
    plan: MapPlan,
    xy: NDArray[np.float32],
    vectors: NDArray[Any],
    more: tuple[Stage, Stage, TextSource | None, EmbedTexts | None],
    on_progress: OnProgress,
) -> Stage:
    projection, embeddings, texts, embed = more

    def compute(folder: Path) -> None:
        if not plan.topics.build_topic_model:
            nothing = np.full((0, len(xy)), -1, dtype=np.int32)
            Topics(topics=(), labels=nothing, centroids=np.zeros((0, vectors.shape[1]), np.float32)).save(folder)
            return
        on_progress(Progress(stage="topics", done=0, total=len(xy)))
        labels = cluster(np.asarray(xy), seed=plan.seed)
        build_topics(
            np.asarray(xy),
            labels=labels,
            texts=texts,
            vectors=vectors,
            options=plan.topics,
            embed=embed,
            seed=plan.seed,
            on_progress=on_progress,
        ).save(folder)

    settings = {**asdict(plan.topics), "seed": plan.seed}
    return cache.run("topics", settings=settings, inputs=[projection.digest, embeddings.digest], compute=compute)


def _duplicates(
    cache: StageCache, plan: MapPlan, graph: NeighborGraph, vectors: NDArray[Any], neighbors: Stage
) -> Stage:
    def compute(folder: Path) -> None:
        if plan.duplicates.tag_duplicates:
            find_duplicates(graph, vectors, plan.duplicates).save(folder)

    return cache.run("duplicates", settings=asdict(plan.duplicates), inputs=[neighbors.digest], compute=compute)


def _quality(
    cache: StageCache,
    plan: MapPlan,
    arrays: tuple[NDArray[Any], NDArray[np.float32], NeighborGraph, Topics],
    made: tuple[Stage, Stage],
    on_progress: OnProgress,
) -> Stage:
    vectors, xy, graph, topics = arrays

    def compute(folder: Path) -> None:
        labels = topics.labels if len(topics.labels) else None
        quality, trust = measure_quality(
            vectors, np.asarray(xy), graph, labels, seed=plan.seed, on_progress=on_progress
        )
        np.save(folder / "trust.npy", trust)
        (folder / "quality.json").write_text(json.dumps(asdict(quality), indent=1), encoding="utf-8")

    inputs = [stage.digest for stage in made]
    return cache.run("quality", settings={"seed": plan.seed}, inputs=inputs, compute=compute)


def _index(
    cache: StageCache, plan: MapPlan, vectors: NDArray[Any], metric: str, content: str, on_progress: OnProgress
) -> Stage:
    def compute(folder: Path) -> None:
        build_index(folder, vectors, metric=metric, seed=plan.seed, on_progress=on_progress)

    settings = {"metric": metric, "seed": plan.seed}
    return cache.run("index", settings=settings, inputs=[content], compute=compute)


def tile_stage(
    cache: StageCache,
    store: Store,
    stages: list[Stage],
    *,
    version: int,
    on_progress: OnProgress = no_progress,
) -> Stage:
    """Return the stage with tiles, the columns beside them, and `order.npy` [n] int64."""
    by_name = {stage.name: stage for stage in stages}
    rows = _load(by_name["embeddings"], "rows")

    def compute(folder: Path) -> None:
        order = write_tiles(folder, np.asarray(_load(by_name["projection"], "xy")), on_progress=on_progress)
        np.save(folder / "order.npy", order)
        manifest = read_manifest(folder)
        infos = []
        made = _made_columns(by_name)
        names = [name for name in store.schema_at(version).names if name not in made]
        for done, name in enumerate([*made, *names]):
            on_progress(Progress(stage="columns", done=done, total=len(made) + len(names), unit="columns"))
            values = made[name] if name in made else _column(store, name, rows, version)
            infos.append(write_column(folder, name, values.take(pa.array(order)), manifest))
        write_columns_index(folder, infos)

    inputs = [stage.digest for stage in stages]
    return cache.run("tiles", settings={"columns": digest_of(version)}, inputs=inputs, compute=compute)


def _column(store: Store, name: str, rows: NDArray[np.int64], version: int) -> pa.Array:
    """Return a column in row order."""
    pieces = [batch.column(0) for batch in store.scan([name], version=version)]
    kind = store.schema_at(version).field(name).type
    found = pa.chunked_array(pieces, type=kind) if pieces else pa.chunked_array([], type=kind)
    assert len(found) == len(rows)
    return found


def _made_columns(by_name: dict[str, Stage]) -> dict[str, pa.Array]:
    """Return what the build itself knows of every row, under names that no column of the user has."""
    made: dict[str, pa.Array] = {}
    topics = Topics.load(by_name["topics"].folder)
    names = {topic.id: topic.name for topic in topics.topics}
    for depth, labels in enumerate(topics.labels, start=1):
        values, codes = np.unique(labels, return_inverse=True)
        dictionary = pa.array([names.get(int(value)) for value in values], type=pa.string())
        made[f"_topic_depth_{depth}"] = pa.DictionaryArray.from_arrays(
            pa.array(codes.astype(np.int32), mask=labels < 0), dictionary
        )
    if (by_name["duplicates"].folder / "classes.npy").is_file():
        found = Duplicates.load(by_name["duplicates"].folder)
        made["_duplicate_class"] = pa.DictionaryArray.from_arrays(
            pa.array(found.classes.astype(np.int32)), pa.array(CLASS_NAMES)
        )
    made["_trust"] = pa.array(_load(by_name["quality"], "trust").astype(np.float32) / 255)
    return made
