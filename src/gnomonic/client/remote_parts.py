"""The parts of a map on a server: data, embeddings, topics, duplicates, tags; what they do is described in `parts`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.arguments import listed
from gnomonic.atlas.map_topics import MapTopics
from gnomonic.atlas.parts import MapData, MapDuplicates, MapEmbeddings, MapTags
from gnomonic.atlas.topics import Topic, Topics
from gnomonic.client.remote_api import as_queries, id_chunks, plain_ids
from gnomonic.errors import DatasetError, InputError

if TYPE_CHECKING:
    from gnomonic.client.remote_maps import RemoteMap

__all__ = ["RemoteData", "RemoteDuplicates", "RemoteEmbeddings", "RemoteTags", "RemoteTopics"]


class RemoteData(MapData):
    """The columns of the rows."""

    _map: RemoteMap

    @property
    def tb(self) -> pa.Table:
        """All columns, as they are in the dataset now."""
        return self._map.part("data")[1]

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return some columns.

        Raises:
            InputError: there is no such column.
        """
        return self._map.part("data", columns=listed(names, "names"))[1]


class RemoteEmbeddings(MapEmbeddings):
    """Vectors and positions."""

    _map: RemoteMap

    @property
    def tb(self) -> pa.Table:
        """Ids, x and y."""
        return self._map.part("positions")[1]

    @cached_property
    def latent(self) -> NDArray[Any]:
        """[n, dim] float16 or float32: the vectors, in the order of `tb`."""
        return self._map.vectors()

    def vector_search(
        self, queries: NDArray[Any] | None = None, ids: Sequence[Any] | None = None, k: int = 5
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """Find the rows nearest to vectors or to rows; see `MapEmbeddings.vector_search`.

        Raises:
            InputError: both or neither of queries and ids, too many, another width, or k out of range.
            DatasetError: an id is not on the map.
        """
        if (queries is None) == (ids is None):
            raise InputError("give either queries or ids")
        asked = (
            {"ids": plain_ids(listed(ids, "ids"))} if ids is not None else {"queries": as_queries(queries, 2).tolist()}
        )
        told = self._map.ask("nearest", {**asked, "k": k})
        return told["neighbors"], told["distances"]


class RemoteTopics(MapTopics):
    """Regions of the map, coarse to fine."""

    _map: RemoteMap

    @cached_property
    def _topics(self) -> Topics:
        at, table = self._map.part("topics")
        labels = np.full((table.num_columns, self._map.record.rows), -1, dtype=np.int32)
        for depth, column in enumerate(table.columns):
            labels[depth, at] = column.to_numpy()
        told = self._map.listed("topics")
        lists = ("keywords", "exemplars")
        records = tuple(Topic(**{**one, **{name: tuple(one[name]) for name in lists}}) for one in told)
        return Topics(topics=records, labels=labels)

    def _column(self, name: str, living: Any) -> pa.ChunkedArray:
        return self._map.column("data", name, living.alive, columns=[name])

    def vector_search_topics(self, queries: NDArray[Any], k: int = 32, depth: int = 3) -> dict[str, Any]:
        """Return the topics of the rows nearest to vectors; see `MapTopics.vector_search_topics`.

        Raises:
            InputError: the queries, k or depth are not usable.
        """
        return self._map.ask("topic-shares", {"queries": as_queries(queries, 2).tolist(), "k": k, "depth": depth})


class RemoteDuplicates(MapDuplicates):
    """Rows that say the same."""

    _map: RemoteMap

    @property
    def tb(self) -> pa.Table:
        """Ids, duplicate_class and cluster_id."""
        return self._map.part("duplicates")[1]

    def at_cutoff(self, cutoff: float) -> pa.Table:
        """Return the table for another cut-off, without building again.

        Raises:
            InputError: the cut-off is out of range.
        """
        if not 0 <= cutoff <= 2:
            raise InputError(f"cutoff {cutoff} is out of range; choose 0 to 2")
        return self._map.part("duplicates", cutoff=float(cutoff))[1]


class RemoteTags(MapTags):
    """Names that people gave to rows."""

    _map: RemoteMap

    @property
    def tb(self) -> pa.Table:
        """Ids, and a bool column for each tag."""
        return self._map.part("tags")[1]

    def get_tags(self) -> dict[str, list[Any]]:
        """Return every tag with the ids of its rows."""
        table = self.tb
        ids = table.column(0)
        return {
            name: ids.filter(column).to_pylist()
            for name, column in zip(table.column_names[1:], table.columns[1:], strict=True)
        }

    def get_datums_in_tag(self, tag_name: str) -> list[Any]:
        """Return the ids of a tag's rows.

        Raises:
            DatasetError: there is no such tag.
        """
        found = self.get_tags()
        if tag_name not in found:
            raise DatasetError(f"there is no tag {tag_name!r}; the tags are: {', '.join(map(repr, found)) or 'none'}")
        return found[tag_name]

    get = get_datums_in_tag

    def add(self, ids: Sequence[Any], tags: Sequence[str]) -> None:
        """Give tags to rows, making those that are new; 10,000 rows at a time.

        Raises:
            DatasetError: an id is unknown.
        """
        for tag in listed(tags, "tags"):
            for chunk in id_chunks(listed(ids, "ids")):
                self._map.tag("POST", {"name": tag, "ids": chunk})

    def remove(self, ids: Sequence[Any], tags: Sequence[str], delete_all: bool = False) -> bool:
        """Take tags from rows; with `delete_all`, from all rows, and the tags themselves.

        Returns:
            True.

        Raises:
            DatasetError: an id or a tag is unknown.
        """
        for tag in listed(tags, "tags"):
            if delete_all:
                self._map.tag("DELETE", {"name": tag})
                continue
            for chunk in id_chunks(listed(ids, "ids")):
                self._map.tag("DELETE", {"name": tag, "ids": chunk})
        return True
