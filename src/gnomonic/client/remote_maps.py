"""`AtlasMap` of a dataset on a server: its parts are fetched when they are asked for, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.arguments import check_one_query, listed
from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.client.remote_api import as_queries, joined, pages, plain_ids
from gnomonic.client.remote_parts import RemoteData, RemoteDuplicates, RemoteEmbeddings, RemoteTags, RemoteTopics
from gnomonic.errors import DatasetError

if TYPE_CHECKING:
    from gnomonic.atlas.map_folder import MapRecord
    from gnomonic.atlas.map_topics import MapTopics
    from gnomonic.atlas.parts import MapData, MapDuplicates, MapEmbeddings, MapTags
    from gnomonic.client.remote_datasets import RemoteDataset

__all__ = ["RemoteMap"]

_PAGE_ROWS = 100_000
_FIRST_ROWS = 1000
_PAGE_NUMBERS = 1 << 21
"""Of vectors in a page."""


class _RemoteLiving:
    """What `Living` is for a map on this machine, except the server's own numbers of the rows."""

    def __init__(self, version: int, alive: NDArray[np.int64], ids: pa.Array, rows: int) -> None:
        self.version = version
        self.alive = alive
        self.ids = ids
        self._rows = rows

    @property
    def is_whole(self) -> bool:
        """Whether none of the map's rows is gone."""
        return len(self.alive) == self._rows

    @cached_property
    def all_ids(self) -> pa.Array:
        """The ids by position in row order, null for rows that are gone."""
        places = np.full(self._rows, -1, dtype=np.int64)
        places[self.alive] = np.arange(len(self.alive))
        return self.ids.take(pa.array(places, mask=places < 0))


class RemoteMap(AtlasMap):
    """A published map on a server; what it offers is described in `AtlasMap`.

    Its parts are read in pages. A row that is deleted meanwhile may still be on pages that were read before.
    """

    def __init__(self, dataset: RemoteDataset, record: MapRecord) -> None:
        """Wrap what the server told of a map."""
        self.dataset = dataset
        self._api = dataset.api
        self._record = record
        self._seen: _RemoteLiving | None = None

    @property
    def record(self) -> MapRecord:
        """How it was made."""
        return self._record

    @property
    def living(self) -> _RemoteLiving:  # type: ignore[override]  # a part of what the one on this machine can
        """What the dataset still has of its rows, at this moment."""
        version = self.dataset.store.version
        if self._seen is None or self._seen.version != version:
            at, table = self.part("ids")
            self._seen = _RemoteLiving(version, at, joined(table.column(0)), self.record.rows)
        return self._seen

    @property
    def alive_rows(self) -> NoReturn:
        """Nothing here: the numbers of the rows are the server's own.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("the rows of a map on a server are known by their ids alone")

    @property
    def arrays(self) -> NoReturn:
        """Nothing here: the server has them.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("the arrays of a map on a server are there; read them by its embeddings, topics and data")

    @property
    def search_engine(self) -> NoReturn:
        """Nothing here: the server searches.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("a map on a server is searched there; use search() or embeddings.vector_search()")

    @property
    def trust(self) -> NDArray[np.float32]:
        """[n] float32, 0 to 1: for every row, how well its place shows its true neighbours."""
        _, table = self.part("trust")
        return np.asarray(table.column("trust").to_numpy(), dtype=np.float32)

    def trust_of(self, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the trust of rows by their positions in row order."""
        trust: NDArray[np.float32] = self.column("trust", "trust", at).to_numpy()
        return trust

    @cached_property
    def data(self) -> MapData:
        """The columns."""
        return RemoteData(self)

    @cached_property
    def embeddings(self) -> MapEmbeddings:
        """Vectors and positions."""
        return RemoteEmbeddings(self)

    @cached_property
    def topics(self) -> MapTopics:
        """Regions and their names."""
        return RemoteTopics(self)

    @cached_property
    def duplicates(self) -> MapDuplicates:
        """Rows that say the same."""
        return RemoteDuplicates(self)

    @cached_property
    def tags(self) -> MapTags:
        """Names that people gave to rows."""
        return RemoteTags(self)

    def search(
        self,
        query: str | None = None,
        *,
        vector: NDArray[Any] | None = None,
        id: Any = None,
        k: int = 10,
        mode: str = "semantic",
        where: str | None = None,
        topics: Sequence[str | int] | None = None,
        tags: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Find rows; the arguments are those of `AtlasMap.search`, with k at most 1000.

        Raises:
            InputError: no query or several, an unknown mode, column, topic or condition.
        """
        check_one_query(query=query, vector=vector, id=id)
        told = {
            "query": query,
            "vector": None if vector is None else as_queries(vector, 1).tolist(),
            "id": None if id is None else plain_ids([id])[0],
            "k": k,
            "mode": mode,
            "where": where,
            "topics": None if topics is None else plain_ids(listed(topics, "topics")),
            "tags": None if tags is None else listed(tags, "tags"),
            "columns": None if columns is None else listed(columns, "columns"),
        }
        return self._api.read(self.path("search"), {key: value for key, value in told.items() if value is not None})

    def path(self, *rest: str) -> tuple[str, ...]:
        """Return where on the server something of the map is."""
        return (*self.dataset.identifier.split("/"), "maps", self.id, *rest)

    def ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the server for something of the map, which changes nothing there."""
        return self._api.ask("POST", self.path(what), body, again=True)

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Return a list that the server has of the map."""
        found: list[dict[str, Any]] = self._api.ask("GET", self.path(what))[what]
        return found

    def tag(self, method: str, body: dict[str, Any]) -> None:
        """Give or take a tag, which twice is the same as once unless the tag itself goes."""
        again = method == "POST" or "ids" in body
        self._api.ask(method, (*self.path()[:2], "tags"), body, again=again)

    def part(self, name: str, **more: Any) -> tuple[NDArray[np.int64], pa.Table]:
        """Fetch a part of the map: the rows' positions in row order, and the columns."""
        found = pa.concat_tables(self._pages(name, **more))
        return found.column(0).to_numpy(), found.remove_column(0)

    def column(self, part: str, name: str, at: NDArray[np.int64], **more: Any) -> pa.ChunkedArray:
        """Fetch a column of rows by their positions in row order.

        Raises:
            DatasetError: one was deleted meanwhile.
        """
        there, table = self.part(part, **more)
        column = table.column(name)
        if np.array_equal(there, at):
            return column
        places = np.minimum(np.searchsorted(there, at), max(0, len(there) - 1))
        if not len(there) or not np.array_equal(there[places], at):
            raise DatasetError(f"rows of {self.dataset.identifier} were deleted while its map was read; read it again")
        return column.take(pa.array(places))

    def vectors(self) -> NDArray[Any]:
        """Fetch the vectors, [n, dim] float16 or float32."""
        rows, dim = self.record.rows, self.record.dim
        found: NDArray[Any] = np.empty((0, dim), dtype=np.float32)
        seen = 0
        for table in self._pages("vectors", most=min(_PAGE_ROWS, max(1, _PAGE_NUMBERS // max(1, dim)))):
            flat = joined(table.column("vector")).flatten().to_numpy(zero_copy_only=False)
            if not seen:
                found = np.empty((rows, dim), dtype=flat.dtype)
            found[seen : seen + table.num_rows] = flat.reshape(-1, dim)
            seen += table.num_rows
        return found[:seen]

    def _exported(self) -> tuple[pa.Table, dict[str, Any]]:
        """Return the rows' columns, and what the map adds to them."""
        at, table = self.part("data")
        made: dict[str, Any] = {axis: self.column("positions", axis, at) for axis in ("x", "y")}
        made["trust"] = self.trust_of(at)
        if self.record.options.get("duplicates", {}).get("tag_duplicates"):
            made["duplicate_class"] = self.column("duplicates", "duplicate_class", at)
            made["duplicate_cluster"] = self.column("duplicates", "cluster_id", at)
        if self.record.options.get("topics", {}).get("build_topic_model"):
            made |= self.topics.names_of(at)
        return table, made

    def _pages(self, part: str, *, most: int = _PAGE_ROWS, **more: Any) -> Iterator[pa.Table]:
        """Yield the pages of a part, at least one; the first column is the rows' places."""

        def fetch(offset: int, limit: int) -> pa.Table:
            return self._api.read(self.path("read"), {"part": part, "offset": offset, "limit": limit, **more})

        first = _FIRST_ROWS if part == "data" else most
        return pages(fetch, max(1, self.record.rows), first=first, most=most)
