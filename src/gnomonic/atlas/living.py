"""Which rows of a map the dataset still has, at one version of it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.map_folder import MapFolder
from gnomonic.atlas.store import Store

__all__ = ["Living"]


class Living:
    """The rows of a map that a version of its dataset has; all that it returns is of that version."""

    def __init__(self, store: Store, folder: MapFolder, version: int) -> None:
        """Look at a version of the rows; nothing is read before it is asked for."""
        self._store = store
        self._folder = folder
        self.version = version

    @cached_property
    def alive(self) -> NDArray[np.int64]:
        """[n] int64: positions, in row order, of the rows that are there."""
        if self.version == self._folder.record.version:
            return np.arange(self._folder.record.rows)
        there = [batch.column(0).to_numpy() for batch in self._store.scan(["_row"], version=self.version)]
        return np.flatnonzero(np.isin(self._folder.rows, np.concatenate([np.empty(0, dtype=np.int64), *there])))

    @property
    def is_whole(self) -> bool:
        """Whether none of the map's rows is gone."""
        return len(self.alive) == self._folder.record.rows

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """[n] int64: the store's numbers of the rows that are there."""
        return self._folder.rows[self.alive]

    @cached_property
    def ids(self) -> pa.Array:
        """Their ids."""
        column = self._store.take(self.rows, [self._store.unique_id_field], version=self.version).column(0)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    @cached_property
    def all_ids(self) -> pa.Array:
        """The ids by position in row order, null for rows that are gone."""
        if self.is_whole:
            return self.ids
        places = np.full(self._folder.record.rows, -1, dtype=np.int64)
        places[self.alive] = np.arange(len(self.alive))
        return self.ids.take(pa.array(places, mask=places < 0))
