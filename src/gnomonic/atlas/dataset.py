"""A dataset on this machine: rows, vectors and images, and the maps made of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gnomonic.atlas.annotations import Annotations
from gnomonic.atlas.arguments import listed
from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.builder import MapBuilder
from gnomonic.atlas.encoders import Encoders, NoEncoders
from gnomonic.atlas.home import DatasetHome, find_dataset, list_datasets, open_home
from gnomonic.atlas.identity import Identity
from gnomonic.atlas.map_folder import current_map, list_maps, remove_map, set_current
from gnomonic.atlas.options import EmbedOptions
from gnomonic.atlas.planning import modality_of, plan_map
from gnomonic.atlas.progress import OnProgress, no_progress
from gnomonic.atlas.rows import as_matrix, read_rows, split_embeddings
from gnomonic.atlas.showing import NoShowing, Showing
from gnomonic.atlas.store import Store, open_store
from gnomonic.errors import DatasetError, DatasetNotFoundError, GnomonicError, InputError
from gnomonic.settings import read_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dataset", "random_name"]


class Dataset(Identity):
    """Rows with an id each, and maps of them; made when it is first named.

    Rows can be added, changed, deleted and searched while a map is built; readers see the old map until the new one is
    whole. Several processes may use a dataset at once.
    """

    showing: Showing = NoShowing()

    def __init__(
        self,
        identifier: str | None = None,
        description: str = "",
        unique_id_field: str | None = None,
        is_public: bool = False,
        dataset_id: str | None = None,
        *,
        root: str | Path | None = None,
        encoders: Encoders | None = None,
        create: bool = True,
    ) -> None:
        """Open a dataset, or make it.

        Args:
            identifier: "name" or "organisation/name"; spaces and capitals are taken out as the official client does.
            description: of a new dataset.
            unique_id_field: the column of ids of a new dataset; None to have ids made.
            is_public: kept for the official client's sake: whether a server shows it to everybody.
            dataset_id: opens the dataset with this id instead of a name.
            root: the data folder; default GNOMONIC_DATA, or gnomonic under the user's data folder.
            encoders: opens models for text and image fields.
            create: whether a dataset that does not exist is made.

        Raises:
            InputError: no name, or one that is not usable.
            DatasetNotFoundError: it does not exist and is not to be made.
            DatasetError: it exists with another id column.
        """
        self._root = Path(root) if root is not None else read_settings().data_dir
        self._encoders = encoders or NoEncoders()
        if dataset_id is not None:
            self._home = find_dataset(self._root, dataset_id)
        elif identifier:
            values = {"description": description, "unique_id_field": unique_id_field, "is_public": is_public}
            self._home = open_home(self._root, identifier, create=values if create else None)
        else:
            raise InputError("a dataset needs a name", hint="AtlasDataset('my-dataset')")
        known = self._home.record.unique_id_field
        if unique_id_field is not None and known != unique_id_field:
            raise DatasetError(
                f"dataset {self.identifier} has the id column {known!r}, not {unique_id_field!r}",
                hint="leave unique_id_field out, or choose another name",
            )
        self._store: Store | None = None
        self._annotations: Annotations | None = None

    @classmethod
    def all(cls, root: str | Path | None = None) -> list[DatasetHome]:
        """Return the datasets there are."""
        return list_datasets(Path(root) if root is not None else read_settings().data_dir)

    def __repr__(self) -> str:
        return f"AtlasDataset({self.identifier!r}, {self.total_datums:,} rows, {len(self.maps)} maps)"

    @property
    def store(self) -> Store:
        """Its rows.

        Raises:
            DatasetNotFoundError: it was deleted meanwhile.
        """
        if self._store is None:
            if not self._home.is_there:
                raise DatasetNotFoundError(f"dataset {self.identifier} was deleted")
            self._store = open_store(self._home.folder, unique_id_field=self._home.record.unique_id_field)
        return self._store

    @property
    def annotations(self) -> Annotations:
        """Its tags and saved selections."""
        if self._annotations is None:
            self._annotations = Annotations(self._home.folder / "annotations.sqlite")
        return self._annotations

    @property
    def unique_id_field(self) -> str:
        """The column of ids; "id_" where they are made."""
        return self.store.unique_id_field

    id_field = unique_id_field

    @property
    def total_datums(self) -> int:
        """How many rows it has."""
        return self.store.count()

    def __len__(self) -> int:
        return self.total_datums

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.store.schema

    @property
    def dataset_fields(self) -> list[str]:
        """Names of the columns."""
        return list(self.store.schema.names)

    @property
    def modality(self) -> str | None:
        """One of "embedding", "image" and "text"; None without rows."""
        return modality_of(self.store)

    @property
    def is_locked(self) -> bool:
        """False: a build locks nothing here."""
        return False

    @property
    def is_accepting_data(self) -> bool:
        """True: rows can be added at any time."""
        return True

    @property
    def maps(self) -> list[AtlasMap]:
        """Its maps, oldest first."""
        return [AtlasMap(self, found) for found in list_maps(self._home.maps)]

    projections = maps

    def get_map(self, name: str | None = None, *, projection_id: str | None = None) -> AtlasMap:
        """Return the current map, or the newest one with a name, or the one with an id.

        Raises:
            DatasetError: there is none.
        """
        if name is None and projection_id is None:
            found = current_map(self._home.maps)
            if found is None:
                raise DatasetError(f"dataset {self.identifier} has no map yet", hint="make one with create_index()")
            return AtlasMap(self, found)
        for one in reversed(self.maps):
            if (name is None or one.name == name) and (projection_id is None or one.id == projection_id):
                return one
        names = ", ".join(sorted({one.name for one in self.maps})) or "none"
        raise DatasetError(f"dataset {self.identifier} has no map {name or projection_id!r}; its maps: {names}")

    def roll_back(self, map_id: str) -> AtlasMap:
        """Have readers see an earlier map."""
        set_current(self._home.maps, map_id)
        return self.get_map()

    def delete_map(self, map_id: str) -> None:
        """Delete one map; the rows stay.

        Raises:
            DatasetError: there is no such map.
        """
        self.get_map(projection_id=map_id)
        remove_map(self._home.maps, map_id)

    def add_data(
        self,
        data: Any = None,
        embeddings: NDArray[Any] | None = None,
        blobs: Sequence[Any] | None = None,
        *,
        on_conflict: str = "error",
        update_maps: bool = True,
        on_progress: OnProgress = no_progress,
    ) -> list[Any]:
        """Add rows: all of them, or none.

        Args:
            data: a DataFrame, an Arrow table, a list of dicts or a dict of columns; may be None with embeddings.
            embeddings: [n, dim] vectors of the rows, float16, float32 or float64, finite.
            blobs: an image a row: paths, bytes or PIL images; None where a row has none.
            on_conflict: what becomes of a row whose id is there: "error" refuses all, "skip" leaves the old one,
                "replace" takes the new one.
            update_maps: whether the rows are placed on the current map at once. Where a map is being built
                meanwhile, the next update places them.
            on_progress: told of the placing.

        Returns:
            the ids of the rows, in order.

        Raises:
            InputError: the data, a vector or an id is not usable, or rows of a map of given vectors have none.
            SchemaError: a value does not fit its column; says which column and row.
            DatasetError: an id is there already; or the rows were added and the map could not be updated.
        """
        vectors = None if embeddings is None else as_matrix(embeddings)
        table, images = read_rows(data, vectors=vectors, blobs=blobs)
        if vectors is None:
            # The official client keeps vectors in a column of their own.
            table, vectors = split_embeddings(table)
        if update_maps:
            self._builder.check_update(with_vectors=vectors is not None)
        ids = self.store.append(table, vectors=vectors, blobs=images, on_conflict=on_conflict)
        if update_maps and ids:
            self._follow("added", on_progress)
        return ids

    def _follow(self, what: str, on_progress: OnProgress = no_progress) -> None:
        """Bring the current map up to date with rows that are stored already."""
        try:
            self._builder.update(rebuild=False, wait=False, on_progress=on_progress)
        except GnomonicError as error:
            raise DatasetError(
                f"the rows were {what}, but the map could not be brought up to date: {error}",
                hint="update_indices() tries again; do not give the rows again",
            ) from error

    def update_data(self, data: Any, *, update_maps: bool = True) -> int:
        """Change columns of rows, by id; other columns stay.

        Returns:
            how many rows were changed.

        Raises:
            DatasetError: an id is unknown; or the rows were changed and the map could not be updated.
            SchemaError: a value does not fit its column.
        """
        table, _ = read_rows(data, vectors=None, blobs=None)
        if update_maps:
            self._builder.check_update(with_vectors=True)
        changed = self.store.update(table)
        if update_maps:
            self._follow("changed")
        return changed

    def delete_data(self, ids: Sequence[Any]) -> int:
        """Delete rows, by id; unknown ids are passed over. Maps no longer show them.

        Returns:
            how many there were.
        """
        return self.store.delete(listed(ids, "ids"))

    def get_data(self, ids: Sequence[Any]) -> list[dict[str, Any]]:
        """Return rows as dictionaries, in the order of the ids.

        Raises:
            DatasetError: an id is unknown.
        """
        rows: list[dict[str, Any]] = self.store.get(listed(ids, "ids")).to_pylist()
        return rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.store.scan():
            yield from batch.to_pylist()

    def to_parquet(self, path: str | Path, *, columns: Sequence[str] | None = None) -> Path:
        """Write the rows to a parquet file, whole or not at all; returns its path."""
        self.store.export_parquet(Path(path), columns=None if columns is None else list(columns))
        return Path(path)

    def create_index(
        self,
        name: str | None = None,
        indexed_field: str | None = None,
        modality: str | None = None,
        *,
        projection: Any = None,
        topic_model: Any = True,
        duplicate_detection: Any = True,
        embedding_model: Any = None,
        reuse_embeddings_from_index: str | None = None,
        neighbors: Mapping[str, Any] | None = None,
        seed: int = 0,
        map_id: str | None = None,
        index_id: str | None = None,
        on_progress: OnProgress = no_progress,
    ) -> AtlasMap:
        """Build a map of all rows and return it when it is published.

        Args:
            name: the map's; default the dataset's.
            indexed_field: the text column to embed; None for rows with vectors or images.
            modality: "text", "image" or "embedding"; None to see it from the rows.
            projection: `ProjectionOptions`, or a mapping of some of them.
            topic_model: `TopicOptions` or a mapping; False for no topics.
            duplicate_detection: `DuplicateOptions` or a mapping; False for none.
            embedding_model: a model's name or folder, or `EmbedOptions`.
            reuse_embeddings_from_index: accepted; what an earlier map embedded with the same model is always reused.
            neighbors: `NeighborOptions` or a mapping.
            seed: of every random choice: the same rows and seed give the same map.
            map_id: the new map's id, a UUID that no map has; default a new one.
            index_id: its index's id; default a new one.
            on_progress: told of every stage; an exception from it cancels, and the next call goes on from there.

        Raises:
            InputError: an argument does not fit the rows.
            DatasetError: another build of this dataset is running.
        """
        self._builder.check_ids(map_id=map_id, reuse=reuse_embeddings_from_index)
        plan = plan_map(
            self.store,
            self._encoders,
            name=name or self.name,
            indexed_field=indexed_field,
            modality=modality,
            options={
                "projection": projection,
                "topic_model": topic_model,
                "duplicate_detection": duplicate_detection,
                "embedding_model": embedding_model,
                "neighbors": neighbors,
            },
            seed=seed,
        )
        plan = replace(plan, map_id=map_id, index_id=index_id)
        return AtlasMap(self, self._builder.build(plan, on_progress))

    def update_indices(self, rebuild_topic_models: bool = False, *, on_progress: OnProgress = no_progress) -> None:
        """Bring the current map up to date: new rows are placed by their neighbours, the others stay where they are.

        A map that lost, or gained since it was built, more rows than it kept is built again, laid onto the old one.

        Args:
            rebuild_topic_models: build the map again in any case.
            on_progress: told of every stage.

        Raises:
            DatasetError: a map of this dataset is being built already, or a file cannot be written.
        """
        self._builder.update(rebuild=rebuild_topic_models, wait=True, on_progress=on_progress)

    def embed_query(self, text: str, record_model: str | None, options: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the vector of a search text, [dim] float32, by a map's model."""
        embed = EmbedOptions.read({**options, "model": record_model, "task_type": "search_query"})
        vector: NDArray[np.float32] = self._encoders.open("text", embed)([text]).vectors[0]
        return vector

    def delete(self) -> None:
        """Delete the dataset with all its maps."""
        self.close()
        self._home.remove()

    def close(self) -> None:
        """Free what is open; the next use opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._annotations is not None:
            self._annotations.close()
            self._annotations = None

    @property
    def _builder(self) -> MapBuilder:
        return MapBuilder(self._home, self.store, self._encoders)


def random_name() -> str:
    """Return a name for a dataset that was given none."""
    return f"map-{uuid.uuid4().hex[:8]}"
