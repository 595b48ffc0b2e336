"""A map of a dataset, as a user holds it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.arguments import check_one_query, free_name, listed
from gnomonic.atlas.living import Living
from gnomonic.atlas.map_arrays import MapArrays
from gnomonic.atlas.map_folder import MapFolder, MapRecord
from gnomonic.atlas.map_topics import MapTopics
from gnomonic.atlas.map_view import word_fields
from gnomonic.atlas.parts import MapData, MapDuplicates, MapEmbeddings, MapTags
from gnomonic.atlas.progress import OnProgress, no_progress
from gnomonic.atlas.search import MapSearch
from gnomonic.errors import DatasetError, InputError

if TYPE_CHECKING:
    from gnomonic.atlas.dataset import Dataset

__all__ = ["AtlasMap"]


class AtlasMap:
    """A published map: positions, neighbours, topics, duplicates and quality of a dataset's rows at one version.

    It never changes. Rows that the dataset loses are left out of everything it returns from then on.
    """

    def __init__(self, dataset: Dataset, folder: MapFolder) -> None:
        """Wrap a published folder."""
        self.dataset = dataset
        self.folder = folder
        self._living: Living | None = None

    def __repr__(self) -> str:
        return f"AtlasMap({self.name!r}, {self.record.rows:,} rows, dataset {self.dataset.identifier!r})"

    @property
    def record(self) -> MapRecord:
        """How it was made."""
        return self.folder.record

    @property
    def id(self) -> str:
        """Its id, a UUID; every build gives a new one."""
        return self.record.id

    projection_id = id

    @property
    def index_id(self) -> str:
        """The id of its index; maps that grew from one another share it."""
        return self.record.index_id

    atlas_index_id = index_id

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def id_field(self) -> str:
        """The column of ids."""
        return self.dataset.unique_id_field

    @property
    def quality(self) -> dict[str, Any]:
        """How far the plane can be trusted: the numbers of `quality.Quality`."""
        return dict(self.record.quality)

    @property
    def trust(self) -> NDArray[np.float32]:
        """[n] float32, 0 to 1: for every row, how well its place shows its true neighbours."""
        return self.trust_of(self.alive)

    def trust_of(self, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the trust of rows by their positions in row order."""
        return np.asarray(self.folder.array("quality/trust"))[at].astype(np.float32) / np.float32(255)

    @property
    def living(self) -> Living:
        """What the dataset still has of its rows, at this moment."""
        version = self.dataset.store.version
        found = self._living
        if found is None or found.version != version:
            self._living = found = Living(self.dataset.store, self.folder, version)
        return found

    @property
    def alive(self) -> NDArray[np.int64]:
        """[n] int64: positions, in row order, of the rows that the dataset still has."""
        return self.living.alive

    @property
    def is_whole(self) -> bool:
        """Whether no row of it was deleted."""
        return self.living.is_whole

    @property
    def alive_rows(self) -> NDArray[np.int64]:
        """[n] int64: the store's numbers of the rows."""
        return self.living.rows

    @property
    def ids(self) -> pa.Array:
        """The ids of the rows."""
        return self.living.ids

    @property
    def all_ids(self) -> pa.Array:
        """The ids by position in row order, null for rows that were deleted."""
        return self.living.all_ids

    @cached_property
    def data(self) -> MapData:
        """The columns."""
        return MapData(self)

    @cached_property
    def embeddings(self) -> MapEmbeddings:
        """Vectors and positions."""
        return MapEmbeddings(self)

    @cached_property
    def topics(self) -> MapTopics:
        """Regions and their names."""
        return MapTopics(self)

    @cached_property
    def duplicates(self) -> MapDuplicates:
        """Rows that say the same."""
        return MapDuplicates(self)

    @cached_property
    def tags(self) -> MapTags:
        """Names that people gave to rows."""
        return MapTags(self)

    @cached_property
    def arrays(self) -> MapArrays:
        """What its page asks for, in map order."""
        return MapArrays(self)

    @cached_property
    def search_engine(self) -> MapSearch:
        """What finds rows, in arrays."""
        record = self.record
        encode = None
        if record.modality == "text":

            def encode(text: str) -> NDArray[np.float32]:
                return self.dataset.embed_query(text, record.model, record.options.get("embed", {}))

        return MapSearch(self.folder, self.dataset.store, encode_query=encode)

    @property
    def url(self) -> str:
        """The address of its page; on this machine a server for it is started by the first call, and ends with Python.

        Raises:
            MissingExtraError: the server's packages are not installed.
        """
        return self.dataset.showing.address(self)

    def show(self) -> Any:
        """Show it: in a notebook as a widget, which is returned, else in the browser; returns the address then.

        Raises:
            MissingExtraError: packages for it are not installed.
        """
        return self.dataset.showing.show(self)

    def widget(self, height: int = 600) -> Any:
        """Return its page as a notebook's widget, which talks through the notebook's own connection.

        Args:
            height: in pixels.

        Raises:
            MissingExtraError: anywidget is not installed.
        """
        return self.dataset.showing.widget(self, height)

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
        """Find rows.

        Args:
            query: a text.
            vector: [dim] a vector instead.
            id: a row instead: finds what is like it.
            k: how many.
            mode: for a text: "semantic" by meaning, "words" by words (BM25), "hybrid" by both.
            where: an SQL-like condition over the columns, such as "year >= 2000 AND kind = 'book'".
            topics: names or ids of topics; a row in any of them passes.
            tags: names of tags; a row with any of them passes.
            columns: columns of the answer besides the id; default all.

        Returns:
            a table of the ids, the columns and `_score`, best first.

        Raises:
            InputError: no query or several, an unknown mode, column, topic or condition.
        """
        check_one_query(query=query, vector=vector, id=id)
        engine = self.search_engine
        columns = None if columns is None else listed(columns, "columns")
        topics = None if topics is None else listed(topics, "topics")
        tagged = None
        if tags is not None:
            rows = [self.dataset.annotations.rows_of(tag) for tag in listed(tags, "tags")]
            tagged = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *rows]))
        mask = engine.mask(where=where, topics=topics, tags=tagged)
        if vector is not None:
            hits = engine.by_vector(np.asarray(vector, dtype=np.float32), k, mask)
        elif id is not None:
            hits = engine.by_row(id, k, mask)
        elif mode == "semantic":
            hits = engine.by_text(str(query), k, mask)
        elif mode == "words":
            hits = engine.by_words(str(query), k, self.word_columns(), mask)
        elif mode == "hybrid":
            hits = engine.hybrid(str(query), k, mask, self.word_columns())
        else:
            raise InputError(f"mode {mode!r} is unknown; choose semantic, words or hybrid")
        return engine.table(hits, columns)

    def word_columns(self) -> list[str]:
        """Return the columns that are searched for words: the mapped one, or all of texts; indexed on first use.

        Raises:
            InputError: no column holds texts.
        """
        columns = word_fields(self)
        if not columns:
            raise InputError(f"dataset {self.dataset.identifier} has no column of texts to search for words")
        self.dataset.store.create_full_text(columns)
        return columns

    def to_parquet(self, path: str | Path) -> Path:
        """Write ids, columns, positions, topics and duplicates to one parquet file, whole or not; returns its path.

        What the map adds is named `_x`, `_y`, `_trust`, `_duplicate_class`, `_duplicate_cluster`, `_topic_depth_1`, …,
        with one more line before it where a column of the rows has that name.

        Raises:
            DatasetError: the file cannot be written.
        """
        import pyarrow.parquet as pq

        table, made = self._exported()
        for name, values in made.items():
            column = values if isinstance(values, pa.ChunkedArray) else pa.array(values)
            table = table.append_column(free_name(f"_{name}", table.column_names), column)
        target = Path(path)
        fresh = target.with_name(f".{target.name}.partial")
        try:
            pq.write_table(table, fresh, compression="zstd")
            fresh.replace(target)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{target} cannot be written: {error}", hint="choose another folder") from error
        finally:
            fresh.unlink(missing_ok=True)
        return target

    def export(
        self,
        folder: str | Path,
        *,
        columns: Sequence[str] | None = None,
        images: bool = True,
        on_progress: OnProgress = no_progress,
    ) -> Path:
        """Write the map as a folder that works from any file host, without a server; returns its path.

        It holds the viewer and, in plain files, all that it asks for; only a text or a picture cannot be searched by
        meaning there. Rows that were deleted since the build are left out. An earlier export is replaced, whole or not;
        any other folder that holds something is refused.

        Args:
            folder: where it goes, made if it does not exist.
            columns: the columns that are shown, searched and filtered by; default all. Ids, topics and the vectors in
                little room always are: who may read the folder may read them.
            images: whether rows' images are written.
            on_progress: told of the rows written.

        Raises:
            InputError: there is no such column, or the folder is not an earlier export.
            DatasetError: a file cannot be written.
        """
        from gnomonic.atlas.static_export import export_map

        return export_map(self, folder, columns=columns, images=images, on_progress=on_progress)

    def _exported(self) -> tuple[pa.Table, dict[str, Any]]:
        """Return the rows' columns, and what the map adds to them."""
        living = self.living
        table = self.dataset.store.take(living.rows, None, version=living.version)
        xy = np.asarray(self.folder.xy[living.alive])
        made: dict[str, Any] = {"x": xy[:, 0], "y": xy[:, 1], "trust": self.trust_of(living.alive)}
        if (self.folder.folder / "duplicates" / "classes.npy").is_file():
            kind, cluster = self.duplicates.of(living.alive)
            made |= {"duplicate_class": kind, "duplicate_cluster": cluster}
        if self.record.options.get("topics", {}).get("build_topic_model"):
            made |= self.topics.names_of(living.alive)
        return table, made

    def delete(self) -> None:
        """Delete this map; the rows stay."""
        self.dataset.delete_map(self.id)
