"""What a map's page asks for again and again, in map order; kept in memory within a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.byte_cache import ByteCache
from gnomonic.atlas.column_values import ColumnValues
from gnomonic.atlas.duplicate_groups import KEEP_RULES, DuplicateGroups, group_rows
from gnomonic.atlas.duplicates import Duplicates, duplicate_groups
from gnomonic.atlas.label_places import LabelPlace, place_labels
from gnomonic.atlas.map_view import choose_fields
from gnomonic.atlas.neighbors import NeighborGraph
from gnomonic.atlas.row_types import is_text
from gnomonic.atlas.shapes import PlanePoints
from gnomonic.atlas.topics import Topics
from gnomonic.errors import InputError

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.atlas.living import Living

__all__ = ["MapArrays"]

_KEPT_BYTES = 128 << 20
_CUTOFF = 0.1

T = TypeVar("T")
_Mask = NDArray[np.bool_]
_Rows = NDArray[np.int64]


class MapArrays:
    """Arrays of one map by map position; safe to use from several threads."""

    def __init__(self, found: AtlasMap) -> None:
        """Look at a map; nothing is read before it is needed."""
        self._map = found
        self._cache = ByteCache(_KEPT_BYTES)
        self.columns = ColumnValues(found.folder.folder / "tiles", self._cache)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, kept for the next time while there is room.

        Args:
            key: says everything that the result depends on, but for the map.
            make: gives arrays or bytes.
        """
        return self._cache.get(key, make)

    @property
    def order(self) -> _Rows:
        """[n] int64: the row order position at each map position."""
        return self._map.folder.order

    @cached_property
    def places(self) -> _Rows:
        """[n] int64: the map position of each row in row order."""
        found = np.empty(len(self.order), dtype=np.int64)
        found[self.order] = np.arange(len(self.order))
        return found

    @cached_property
    def points(self) -> PlanePoints:
        """Where the points are, in map order."""
        xy = np.asarray(self._map.folder.xy)
        return PlanePoints(*(np.ascontiguousarray(xy[:, axis])[self.order] for axis in (0, 1)))

    @cached_property
    def topics(self) -> Topics:
        """The map's topics; none where none were looked for."""
        if not self._map.record.options.get("topics", {}).get("build_topic_model"):
            return Topics(topics=(), labels=np.empty((0, len(self.order)), dtype=np.int32))
        return Topics.load(self._map.folder.folder / "topics")

    @cached_property
    def labels(self) -> list[LabelPlace]:
        """The topics' names that find room, the most important first."""
        return place_labels(self.topics.topics, self.columns.manifest.extent, self._map.folder.xy)

    @property
    def text_field(self) -> str | None:
        """The mapped field, or the column with the longest texts; None without texts."""
        return self.title_and_text()[1]

    def title_and_text(self, names: Sequence[str] | None = None) -> tuple[str | None, str | None]:
        """Return the field of titles and the one of texts; None where there is none.

        Args:
            names: the fields to choose from; default all.
        """
        picked = tuple(self._map.dataset.schema.names if names is None else names)
        key = ("title and text", self._map.living.version, picked)
        return self.kept(key, lambda: choose_fields(self._map, picked))

    def living(self, at: Living | None = None) -> _Mask | None:
        """Return which rows the dataset still has, [n] bool in map order; None for all.

        Args:
            at: of another version than this moment's.
        """
        living = self._map.living if at is None else at
        if living.is_whole:
            return None

        def mark() -> _Mask:
            found = np.zeros(len(self.order), dtype=np.bool_)
            found[self.places[living.alive]] = True
            return found

        return self._cache.get(("living", living.version), mark)

    def by_row(self, mask: _Mask) -> _Mask:
        """Return a mask of map positions as one of rows in row order, [n] bool."""
        found = np.empty(len(mask), dtype=np.bool_)
        found[self.order] = mask
        return found

    def in_topics(self, ids: list[int]) -> _Mask:
        """Return which rows are in any of some topics, [n] bool in map order.

        Raises:
            InputError: there is no such topic.
        """
        count = len(self.topics.topics)
        wanted = np.zeros(count + 1, dtype=np.bool_)
        for one in ids:
            if not 0 <= one < count:
                raise InputError(f"there is no topic {one} on this map; it has {count} topics")
            wanted[one] = True
        depths = {self.topics.topics[one].depth for one in ids}
        found = np.zeros(len(self.order), dtype=np.bool_)
        for depth, labels in enumerate(self.topics.labels, start=1):
            if depth in depths:
                found |= wanted[labels]  # -1, no topic, is the last place
        return found[self.order]

    def scores(self, key: Hashable, **query: Any) -> NDArray[np.float32]:
        """Return how near every row is to a query, [n] float32 in map order; NaN for rows that are gone.

        Args:
            key: names the query, for the next time.
            **query: as `MapSearch.heat` takes it.

        Raises:
            InputError: the query cannot be used.
        """
        version = self._map.dataset.store.version
        return self._cache.get(("heat", version, key), lambda: self._map.search_engine.heat(**query))

    # -- duplicates ----------------------------------------------------------------------------------------------

    @property
    def own_cutoff(self) -> float:
        """The cut-off that the map was built with."""
        return float(self._map.record.options.get("duplicates", {}).get("duplicate_cutoff") or _CUTOFF)

    def duplicates(self, cutoff: float) -> Duplicates:
        """Return which rows say the same, for any cut-off.

        Raises:
            InputError: the cut-off is out of range.
        """
        folder = self._map.folder.folder
        graph = NeighborGraph.load(folder / "neighbors")
        most = 1.0 if graph.metric == "cosine" else math.inf
        if not 0 <= cutoff <= most or not math.isfinite(cutoff):
            reach = "0 to 1" if most == 1 else "0 or more"
            raise InputError(f"cutoff {cutoff} is out of range; choose {reach}, the map's own is {self.own_cutoff:g}")
        if cutoff == self.own_cutoff and (folder / "duplicates" / "classes.npy").is_file():
            return Duplicates.load(folder / "duplicates")
        return self._cache.get(("duplicates", cutoff), lambda: duplicate_groups(graph, cutoff))

    def groups(self, cutoff: float, keep: str = "first", by: str | None = None) -> DuplicateGroups:
        """Return the groups of rows that say the same, those that are gone left out.

        Args:
            cutoff: how near they are.
            keep: one of KEEP_RULES.
            by: for "longest" a column of texts, default the map's; for "newest" one of dates or numbers, default the
                first of dates.

        Raises:
            InputError: the cut-off, the rule or the column is not usable.
        """
        if keep not in KEEP_RULES:
            raise InputError(f"keep {keep[:40]!r} is unknown; choose one of {', '.join(KEEP_RULES)}")
        found = self.duplicates(cutoff)
        version = self._map.living.version

        def group() -> DuplicateGroups:
            living = self.living()
            alive = None if living is None else self.by_row(living)
            return group_rows(found, alive=alive, worth=self._worth(keep, by))

        return self._cache.get(("groups", version, cutoff, keep, by), group)

    def _worth(self, keep: str, by: str | None) -> NDArray[np.float64] | None:
        """Return what makes a row the one to keep, [n] float64 in row order."""
        if keep == "central":
            return None
        if keep == "first":
            return -self._map.folder.rows.astype(np.float64)
        if keep == "longest":
            return self._text_lengths(by)
        dates = [name for name, info in self.columns.infos.items() if info.kind == "date"]
        name = by or next(iter(dates), None)
        if name is None:
            raise InputError(
                "keep 'newest' needs a column of dates or numbers, and the map has no dates; name one in by"
            )
        info = self.columns.info(name)
        if info.kind not in ("date", "integer", "number"):
            raise InputError(f"by: column {name!r} is of kind {info.kind!r}; choose one of dates or numbers")
        return self.columns.values(name)[self.places].astype(np.float64)

    def _text_lengths(self, by: str | None) -> NDArray[np.float64]:
        """Return how long each row's text is, in characters, [n] float64 in row order; NaN where it has none."""
        name = by or self.text_field
        if name is None:
            raise InputError("keep 'longest' needs a column of texts, and the dataset has none")
        schema = self._map.dataset.schema
        if name not in schema.names or not is_text(schema.field(name).type):
            texts = ", ".join(repr(item.name) for item in schema if is_text(item.type))
            raise InputError(f"by: {name[:100]!r} is no column of texts; they are: {texts or 'none'}")
        version = self._map.living.version

        def measure() -> NDArray[np.float64]:
            found = np.full(len(self.order), np.nan)
            for batch in self._map.dataset.store.scan(["_row", name], version=version):
                at = self._map.folder.positions_of(batch.column(0).to_numpy())
                texts = batch.column(1)
                if pa.types.is_dictionary(texts.type):
                    texts = texts.cast(texts.type.value_type)
                length = pc.utf8_length(texts).cast(pa.float64()).to_numpy(zero_copy_only=False)
                found[at[at >= 0]] = length[at >= 0]
            return found

        return self._cache.get(("lengths", version, name), measure)
