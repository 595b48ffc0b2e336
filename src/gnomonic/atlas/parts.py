"""What a map offers: data, embeddings, duplicates, tags; named and shaped as the official client's.

All go by the rows of the map in the order in which the dataset holds them; rows that were deleted since are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.arguments import listed
from gnomonic.atlas.duplicates import CLASS_NAMES, Duplicates, duplicate_groups
from gnomonic.atlas.neighbors import NeighborGraph
from gnomonic.errors import DatasetError, InputError

if TYPE_CHECKING:
    pass

from gnomonic.atlas.part import Part

__all__ = ["MapData", "MapDuplicates", "MapEmbeddings", "MapTags"]

_MAX_QUERIES = 256
_MAX_K = 128


class MapData(Part):
    """The columns of the rows."""

    @property
    def tb(self) -> pa.Table:
        """All columns, as they are in the dataset now."""
        return self._taken(None)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return some columns.

        Raises:
            InputError: there is no such column.
        """
        return self._taken(listed(names, "names"))

    def _taken(self, names: list[str] | None) -> pa.Table:
        living = self._map.living
        return self._map.dataset.store.take(living.rows, names, version=living.version)


class MapEmbeddings(Part):
    """Vectors and positions."""

    @property
    def tb(self) -> pa.Table:
        """Ids, x and y."""
        living = self._map.living
        xy = np.asarray(self._map.folder.xy[living.alive])
        return self._table({"x": xy[:, 0], "y": xy[:, 1]}, living)

    @property
    def projected(self) -> Any:
        """Ids, x and y as a DataFrame."""
        return self.df

    @property
    def latent(self) -> NDArray[Any]:
        """[n, dim] float16 or float32: the vectors, in the order of `tb`; memory-mapped where no row was deleted."""
        vectors = self._map.folder.vectors
        living = self._map.living
        return vectors if living.is_whole else vectors[living.alive]

    def vector_search(
        self, queries: NDArray[Any] | None = None, ids: Sequence[Any] | None = None, k: int = 5
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """Find the rows nearest to vectors or to rows.

        Args:
            queries: [m, dim] vectors.
            ids: ids of rows of the map, instead of vectors; a row is its own nearest.
            k: how many, 1 to 128.

        Returns:
            for each query the ids of the nearest and their distances: l2 between unit vectors, or between the vectors
            where the map's metric is euclidean.

        Raises:
            InputError: both or neither of queries and ids, too many, another width, or k out of range.
            DatasetError: an id is not on the map.
        """
        if (queries is None) == (ids is None):
            raise InputError("give either queries or ids")
        if not 1 <= k <= _MAX_K:
            raise InputError(f"k {k} is out of range; choose 1 to {_MAX_K}")
        search = self._map.search_engine
        if ids is not None:
            wanted: NDArray[Any] = search.vectors_of(listed(ids, "ids"))
        else:
            wanted = np.asarray(queries)
            if wanted.ndim != 2 or wanted.shape[1] != self._map.record.dim:
                raise InputError(f"queries have the shape {wanted.shape}; the map takes [m, {self._map.record.dim}]")
        if len(wanted) > _MAX_QUERIES:
            raise InputError(f"{len(wanted)} queries are too many; send at most {_MAX_QUERIES} at a time")
        found, distances = search.nearest(wanted.astype(np.float32), k)
        names = self._map.all_ids
        return [[names[row].as_py() for row in rows] for rows in found], [list(map(float, row)) for row in distances]


class MapDuplicates(Part):
    """Rows that say the same."""

    @cached_property
    def _found(self) -> Duplicates:
        folder = self._map.folder.folder / "duplicates"
        if not (folder / "classes.npy").is_file():
            raise DatasetError(
                "duplicates were not looked for on this map", hint="build it with duplicate_detection=True"
            )
        return Duplicates.load(folder)

    @property
    def tb(self) -> pa.Table:
        """Ids, duplicate_class ("singleton", "retention candidate" or "deletion candidate") and cluster_id."""
        return self._shaped(self._found)

    def at_cutoff(self, cutoff: float) -> pa.Table:
        """Return the table for another cut-off, without building again.

        Raises:
            InputError: the cut-off is out of range.
        """
        if not 0 <= cutoff <= 2:
            raise InputError(f"cutoff {cutoff} is out of range; choose 0 to 2")
        graph = NeighborGraph.load(self._map.folder.folder / "neighbors")
        return self._shaped(duplicate_groups(graph, cutoff))

    def deletion_candidates(self) -> list[Any]:
        """Return the ids of rows of which another one is kept."""
        table = self.tb
        # By place, since an id column may have the name of another.
        chosen = pc.equal(table.column(1), "deletion candidate")
        found: list[Any] = table.filter(chosen).column(0).to_pylist()
        return found

    def of(self, at: NDArray[np.int64]) -> tuple[pa.Array, NDArray[np.int32]]:
        """Return the duplicate_class and cluster_id of rows by their positions in row order."""
        return self._named(self._found, at)

    def _shaped(self, found: Duplicates) -> pa.Table:
        living = self._map.living
        names, clusters = self._named(found, living.alive)
        return self._table({"duplicate_class": names, "cluster_id": clusters}, living)

    @staticmethod
    def _named(found: Duplicates, at: NDArray[np.int64]) -> tuple[pa.Array, NDArray[np.int32]]:
        return pa.array(CLASS_NAMES).take(pa.array(np.asarray(found.classes)[at])), np.asarray(found.cluster)[at]


class MapTags(Part):
    """Names that people gave to rows; they belong to the dataset and outlive the map."""

    @property
    def tb(self) -> pa.Table:
        """Ids, and a bool column for each tag."""
        living = self._map.living
        annotations = self._map.dataset.annotations
        return self._table({tag: np.isin(living.rows, annotations.rows_of(tag)) for tag in annotations.tags()}, living)

    def get_tags(self) -> dict[str, list[Any]]:
        """Return every tag with the ids of its rows."""
        return {tag: self.get_datums_in_tag(tag) for tag in self._map.dataset.annotations.tags()}

    def get_datums_in_tag(self, tag_name: str) -> list[Any]:
        """Return the ids of a tag's rows.

        Raises:
            DatasetError: there is no such tag.
        """
        living = self._map.living
        tagged = np.isin(living.rows, self._map.dataset.annotations.rows_of(tag_name))
        found: list[Any] = living.ids.filter(pa.array(tagged)).to_pylist()
        return found

    get = get_datums_in_tag

    def add(self, ids: Sequence[Any], tags: Sequence[str]) -> None:
        """Give tags to rows, making those that are new.

        Raises:
            InputError: ids or tags is a string and no list.
            DatasetError: an id is unknown.
        """
        rows = self._map.dataset.store.rows_of(listed(ids, "ids"))
        for tag in listed(tags, "tags"):
            self._map.dataset.annotations.add(tag, rows)

    def remove(self, ids: Sequence[Any], tags: Sequence[str], delete_all: bool = False) -> bool:
        """Take tags from rows; with `delete_all`, from all rows, and the tags themselves.

        Returns:
            True.

        Raises:
            InputError: ids or tags is a string and no list.
            DatasetError: an id or a tag is unknown.
        """
        annotations = self._map.dataset.annotations
        rows = self._map.dataset.store.rows_of(listed(ids, "ids"))
        for tag in listed(tags, "tags"):
            if delete_all:
                annotations.delete(tag)
            else:
                annotations.remove(tag, rows)
        return True
