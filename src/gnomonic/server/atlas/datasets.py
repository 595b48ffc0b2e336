"""The datasets of a server: opened once, kept while they are used, seen by their own organisation only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.encoders import Encoders
from gnomonic.atlas.home import DatasetHome, list_datasets, open_home
from gnomonic.atlas.map_folder import current_map, list_maps
from gnomonic.errors import DatasetNotFoundError
from gnomonic.server.atlas.organisations import check_organization, check_slug, check_uuid

__all__ = ["CURRENT", "Datasets"]

_KEPT_DATASETS = 32
_KEPT_MAPS = 8

CURRENT = "current"


class Datasets:
    """Every dataset under a data folder; safe for threads."""

    def __init__(self, root: Path, encoders: Encoders) -> None:
        """Use the data folder `root`; `encoders` embeds search texts."""
        self.root = root
        self._encoders = encoders
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, Dataset] = OrderedDict()
        self._maps: OrderedDict[tuple[str, int], AtlasMap] = OrderedDict()

    def homes(self, organization: str) -> list[DatasetHome]:
        """Return an organisation's datasets, by name."""
        return [home for home in list_datasets(self.root) if home.record.organization == organization]

    def create(self, organization: str, name: str, values: dict[str, Any]) -> Dataset:
        """Return a dataset, making it where it does not exist.

        Raises:
            InputError: the name is not usable.
        """
        home = open_home(self.root, f"{organization}/{name}", create=values)
        return self.open(organization, home.record.slug)

    def open(self, own: str, slug: str, organization: str | None = None) -> Dataset:
        """Return a dataset by name.

        Args:
            own: the organisation that asks.
            slug: the dataset's.
            organization: the one it is asked for under; None for `own`.

        Raises:
            DatasetNotFoundError: it does not exist, or belongs to others.
        """
        check_organization(own, organization or own)
        home = open_home(self.root, f"{own}/{check_slug(slug)}")
        with self._lock:
            found = self._opened.get(home.record.id)
            if found is None or found.home.folder != home.folder:
                found = Dataset(f"{own}/{slug}", root=self.root, encoders=self._encoders, create=False)
                self._opened[home.record.id] = found
                while len(self._opened) > _KEPT_DATASETS:
                    self._opened.popitem(last=False)
            self._opened.move_to_end(home.record.id)
            return found

    def by_id(self, own: str, dataset_id: object) -> Dataset:
        """Return a dataset by id.

        Raises:
            InputError: it is no id.
            DatasetNotFoundError: the organisation has none of this id.
        """
        wanted = check_uuid(dataset_id, "dataset id")
        with self._lock:
            known = self._opened.get(wanted)
        if known is not None and known.home.record.organization == own and known.home.folder.is_dir():
            return self.open(own, known.slug)
        for home in self.homes(own):
            if home.record.id == wanted:
                return self.open(own, home.record.slug)
        raise DatasetNotFoundError(f"there is no dataset with the id {wanted}")

    def remove(self, dataset: Dataset) -> None:
        """Delete a dataset and everything in it."""
        with self._lock:
            self._opened.pop(dataset.id, None)
            for key in [key for key, one in self._maps.items() if one.dataset.id == dataset.id]:
                del self._maps[key]
        dataset.delete()

    def map_of(self, dataset: Dataset, map_id: str) -> AtlasMap:
        """Return a published map of a dataset; "current" is the one that readers see.

        Raises:
            DatasetNotFoundError: there is none.
        """
        if map_id == CURRENT:
            found = current_map(dataset.home.maps)
            if found is None:
                raise DatasetNotFoundError(f"dataset {dataset.identifier} has no map yet")
            map_id = found.record.id
        elif not (dataset.home.maps / check_uuid(map_id, "map id")).is_dir():
            raise DatasetNotFoundError(f"dataset {dataset.identifier} has no map {map_id}")
        key = (map_id, dataset.store.version)
        with self._lock:
            known = self._maps.get(key)
            if known is not None and known.dataset is dataset:
                self._maps.move_to_end(key)
                return known
        fresh = dataset.get_map(projection_id=map_id)
        with self._lock:
            # What an older version of the rows was seen with is of no use any more.
            for old in [old for old in self._maps if old[0] == map_id]:
                del self._maps[old]
            self._maps[key] = fresh
            while len(self._maps) > _KEPT_MAPS:
                self._maps.popitem(last=False)
        return fresh

    def map_by_id(self, own: str, map_id: object) -> AtlasMap:
        """Return a map by its id alone.

        Raises:
            DatasetNotFoundError: the organisation has none of this id.
        """
        wanted = check_uuid(map_id, "map id")
        for path in (self.root / "datasets" / check_slug(own)).glob(f"*/maps/{wanted}"):
            return self.map_of(self.open(own, path.parent.parent.name), wanted)
        raise DatasetNotFoundError(f"there is no map with the id {wanted}")

    def map_by_index(self, own: str, index_id: object) -> AtlasMap:
        """Return the newest map of an index.

        Raises:
            DatasetNotFoundError: the organisation has none.
        """
        wanted = check_uuid(index_id, "index id")
        for home in self.homes(own):
            for one in reversed(list_maps(home.maps)):
                if one.record.index_id == wanted:
                    return self.map_of(self.open(own, home.record.slug), one.record.id)
        raise DatasetNotFoundError(f"there is no index with the id {wanted} that has a map")

    def close(self) -> None:
        """Free what is open."""
        with self._lock:
            for dataset in self._opened.values():
                dataset.close()
            self._opened.clear()
            self._maps.clear()
