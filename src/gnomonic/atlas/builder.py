"""Builds and updates of one dataset's maps, one at a time whatever the number of threads and processes."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.build import EmbedTexts, MapPlan, build_map
from gnomonic.atlas.encoders import Encoders
from gnomonic.atlas.growth import grow_map
from gnomonic.atlas.home import DatasetHome
from gnomonic.atlas.lock import BUILD_LOCK, hold, try_hold
from gnomonic.atlas.map_folder import MapFolder, current_map, list_maps, readable_map
from gnomonic.atlas.planning import plan_again
from gnomonic.atlas.progress import OnProgress
from gnomonic.atlas.store import Store
from gnomonic.errors import InputError

__all__ = ["MapBuilder"]

_WAIT_S = 1.0


class MapBuilder:
    """Makes and updates the maps of a dataset."""

    def __init__(self, home: DatasetHome, store: Store, encoders: Encoders) -> None:
        self._home = home
        self._store = store
        self._encoders = encoders

    def check_ids(self, *, map_id: str | None, reuse: str | None) -> None:
        """Check a promised map id and the index to reuse embeddings from.

        Raises:
            InputError: the id is no UUID or another map's, or there is no such index.
        """
        if map_id is None and reuse is None:
            return
        maps = list_maps(self._home.maps)
        if map_id is not None:
            try:
                well_formed = str(uuid.UUID(map_id)) == map_id
            except (ValueError, TypeError, AttributeError):
                well_formed = False
            if not well_formed:
                raise InputError(f"map_id {map_id!r} is no UUID; leave it out to have one made")
            if any(one.record.id == map_id for one in maps):
                raise InputError(f"map_id {map_id} is another map's; leave it out to have one made")
        if reuse is not None and all(reuse not in (one.record.name, one.record.index_id) for one in maps):
            names = ", ".join(sorted({one.record.name for one in maps})) or "none"
            raise InputError(f"there is no index {reuse!r} to reuse embeddings from; there is: {names}")

    def build(self, plan: MapPlan, on_progress: OnProgress) -> MapFolder:
        """Build a map and publish it.

        Raises:
            DatasetError: another build of this dataset is running, or a file cannot be written.
            InputError: an option does not fit the data.
        """
        with hold(self._lock, wait_s=_WAIT_S, busy=f"a map of {self._name} is being built already"):
            if plan.source.modality == "text" and plan.source.field is not None:
                self._store.create_full_text([plan.source.field])
            return build_map(
                self._home.folder,
                self._store,
                plan,
                dataset_id=self._home.record.id,
                previous=readable_map(self._home.maps),
                embed=self._embed(plan),
                on_progress=on_progress,
            )

    def check_update(self, *, with_vectors: bool) -> None:
        """Check that rows about to come could be placed on the current map, before they are stored.

        Raises:
            InputError: the map is of given vectors and the rows have none, or nothing here embeds for it.
            DatasetError: the map is damaged.
        """
        previous = current_map(self._home.maps)
        if previous is None:
            return
        if previous.record.modality == "embedding" and not with_vectors:
            raise InputError(
                "the current map is of given vectors, so its rows need some",
                hint="give embeddings= too, or update_maps=False to keep the rows off the map",
            )
        plan_again(previous.record, self._encoders)

    def update(self, *, rebuild: bool, wait: bool, on_progress: OnProgress) -> None:
        """Bring the current map up to date.

        Args:
            rebuild: build it again from the start, laid onto the old one.
            wait: whether another build that runs is an error; else nothing is done, and the next update does it.
            on_progress: told of every stage.

        Raises:
            DatasetError: another build of this dataset is running, or a file cannot be written.
        """
        if self._to_update(rebuild=rebuild) is None:
            return
        busy = f"a map of {self._name} is being built already"
        lock: AbstractContextManager[bool] = (
            hold(self._lock, wait_s=_WAIT_S, busy=busy) if wait else try_hold(self._lock, wait_s=_WAIT_S)
        )
        with lock as held:
            # Whoever held the lock until now may have published another.
            previous = self._to_update(rebuild=rebuild) if held else None
            if previous is None:
                return
            plan = replace(plan_again(previous.record, self._encoders), index_id=previous.record.index_id)
            make = build_map if rebuild or not previous.record.rows else grow_map
            make(
                self._home.folder,
                self._store,
                plan,
                dataset_id=self._home.record.id,
                previous=previous,
                embed=self._embed(plan),
                on_progress=on_progress,
            )

    def _to_update(self, *, rebuild: bool) -> MapFolder | None:
        """Return the current map, None where there is nothing to do."""
        found = current_map(self._home.maps)
        if found is None:
            return None
        is_new = found.record.version == self._store.version
        return None if is_new and not (rebuild and found.record.grown_from) else found

    def _embed(self, plan: MapPlan) -> EmbedTexts | None:
        """Return what embeds the words of topics by the model of the rows."""
        if plan.source.modality != "text":
            return None

        def embed(texts: list[str]) -> NDArray[np.float32]:
            vectors: NDArray[np.float32] = self._encoders.open("text", plan.source.options)(texts).vectors
            return vectors

        return embed

    @property
    def _lock(self) -> Path:
        return self._home.folder / BUILD_LOCK

    @property
    def _name(self) -> str:
        return f"{self._home.record.organization}/{self._home.record.slug}"
