"""`AtlasDataset` where GNOMONIC_API_URL names a Gnomonic server: the rows, the builds and the maps are there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gnomonic.atlas.encoders import NoEncoders
from gnomonic.atlas.home import LOCAL, DatasetHome, DatasetRecord, slug_of
from gnomonic.atlas.map_folder import MapRecord
from gnomonic.atlas.options import DuplicateOptions, EmbedOptions, NeighborOptions, ProjectionOptions, TopicOptions
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.client.datasets import AtlasDataset
from gnomonic.client.remote_api import RemoteApi, error_named
from gnomonic.client.remote_maps import RemoteMap
from gnomonic.client.remote_store import RemoteStore
from gnomonic.client.viewing import RemoteShowing
from gnomonic.errors import ConfigError, DatasetError, DatasetNotFoundError, GnomonicError, InputError, RemoteError
from gnomonic.settings import read_settings

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap

__all__ = ["RemoteDataset", "remote_homes"]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_LOST_S = 300.0
"""How long a server may be away while a build is waited for."""
_READERS: dict[str, Any] = {
    "projection": ProjectionOptions,
    "topics": TopicOptions,
    "duplicates": DuplicateOptions,
    "neighbors": NeighborOptions,
}


class RemoteDataset(AtlasDataset):
    """A dataset on a server; what it does is described in `Dataset`.

    Differences: builds run on the server, and go on there if this process ends; rows in more than one request are not
    added in one step (see `RemoteStore.append`); `is_public` is not sent.
    """

    showing = RemoteShowing()

    def __init__(
        self,
        identifier: str | None = None,
        description: str = "",
        unique_id_field: str | None = None,
        is_public: bool = False,  # noqa: ARG002 - for the sake of the class it stands for
        dataset_id: str | None = None,
        *,
        root: str | Path | None = None,
        create: bool = True,
    ) -> None:
        """Open a dataset on the server, or make it; the arguments are those of `Dataset`."""
        if root is not None:
            raise InputError("root= names a folder of this machine; AtlasDataset(…, root=…) opens datasets there")
        self.api = _server()
        self._encoders = NoEncoders()
        self._store = None
        self._annotations = None
        if dataset_id is not None:
            self._home = self._with_id(dataset_id)
        elif identifier:
            self._home = self._named(identifier, description, unique_id_field, create=create)
        else:
            raise InputError("a dataset needs a name", hint="AtlasDataset('my-dataset')")
        known = self.unique_id_field
        if unique_id_field is not None and known != unique_id_field:
            raise DatasetError(
                f"dataset {self.identifier} has the id column {known!r}, not {unique_id_field!r}",
                hint="leave unique_id_field out, or choose another name",
            )

    def _with_id(self, dataset_id: str) -> DatasetHome:
        for home in remote_homes(self.api):
            if home.record.id == dataset_id:
                return home
        raise DatasetNotFoundError(f"there is no dataset with the id {dataset_id} on {self.api.url}")

    def _named(self, identifier: str, description: str, id_field: str | None, *, create: bool) -> DatasetHome:
        organization, _, name = identifier.rpartition("/")
        slug = slug_of(name)
        own = self.api.own_organization()
        asked = slug_of(organization) if organization else own
        # A name that was made without a server begins with LOCAL.
        if asked not in (own, LOCAL):
            raise DatasetNotFoundError(f"there is no dataset {asked}/{slug}: the API key opens those of {own}")
        try:
            return _home_of(self.api.ask("GET", (own, slug)))
        except DatasetNotFoundError:
            if not create:
                raise
        told = {"name": name, "description": description, "unique_id_field": id_field}
        return _home_of(self.api.ask("POST", (), told, again=True))

    @property
    def place(self) -> tuple[str, str]:
        """Its organisation and slug, by which the server knows it."""
        return self._home.record.organization, self.slug

    @property
    def home(self) -> DatasetHome:
        """Nothing here: it has no folder on this machine.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"dataset {self.identifier} is on {self.api.url}; it has no folder here")

    @property
    def store(self) -> RemoteStore:  # type: ignore[override]  # a part of what a store on this machine can
        """Its rows."""
        return RemoteStore(self.api, self.place)

    @property
    def annotations(self) -> NoReturn:
        """Nothing here: tags are those of a map, `map.tags`.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"the tags of {self.identifier} are on {self.api.url}; use .tags of a map")

    @property
    def modality(self) -> str | None:
        """One of "embedding", "image" and "text"; None without rows."""
        found: str | None = self.store.about()["modality"]
        return found

    @property
    def maps(self) -> list[AtlasMap]:
        """Its maps, oldest first."""
        return [made for made, _ in self._maps()]

    projections = maps

    def _maps(self) -> list[tuple[RemoteMap, bool]]:
        """Return its maps, and which of them is the current one."""
        told = self.api.ask("GET", (*self.place, "maps"))["maps"]
        known = {item.name for item in fields(MapRecord)}
        return [
            (
                RemoteMap(self, MapRecord(**{k: v for k, v in one["record"].items() if k in known})),
                bool(one["current"]),
            )
            for one in told
        ]

    def get_map(self, name: str | None = None, *, projection_id: str | None = None) -> AtlasMap:
        """Return the current map, or the newest one with a name, or the one with an id.

        Raises:
            DatasetError: there is none.
        """
        if name is not None or projection_id is not None:
            return super().get_map(name, projection_id=projection_id)
        for made, is_current in self._maps():
            if is_current:
                return made
        raise DatasetError(f"dataset {self.identifier} has no map yet", hint="make one with create_index()")

    def roll_back(self, map_id: str) -> AtlasMap:
        """Have readers see an earlier map.

        Raises:
            DatasetError: there is no such map.
        """
        chosen = self.get_map(projection_id=map_id)
        self.api.ask("POST", (*self.place, "maps", chosen.id, "current"), again=True)
        return self.get_map()

    def delete_map(self, map_id: str) -> None:
        """Delete one map; the rows stay.

        Raises:
            DatasetError: there is no such map.
        """
        self.api.ask("DELETE", (*self.place, "maps", self.get_map(projection_id=map_id).id))

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
        """Have a map built on the server, wait for it and return it; the arguments are those of `Dataset.create_index`.

        An exception from `on_progress`, or Ctrl-C, cancels the build. A lost connection does not.

        Raises:
            InputError: an argument does not fit the rows, or map_id or index_id is given: the server chooses those.
            DatasetError: the build failed or was cancelled.
            RemoteError: the server cannot be reached any more; the build goes on, and `maps` has the map in time.
        """
        self._builder.check_ids(map_id=map_id or index_id, reuse=reuse_embeddings_from_index)
        told = {
            "name": name,
            "indexed_field": indexed_field,
            "modality": modality,
            "projection": _settings("projection", projection),
            "topics": _settings("topics", topic_model),
            "duplicates": _settings("duplicates", duplicate_detection),
            "neighbors": _settings("neighbors", neighbors),
            "model": _model(embedding_model),
            "seed": seed,
        }
        body = {key: value for key, value in told.items() if value is not None}
        job = self.api.ask("POST", (*self.place, "maps"), body)
        if job.get("warning"):
            warnings.warn(str(job["warning"]), UserWarning, stacklevel=2)
        return self.get_map(projection_id=self._builder.finished(job, on_progress)["map_id"])

    def delete(self) -> None:
        """Delete the dataset with all its maps."""
        self.api.ask("DELETE", self.place)

    def close(self) -> None:
        """Do nothing: the connections are those of the process."""

    @property
    def _builder(self) -> _RemoteBuilder:  # type: ignore[override]  # a part of what the one on this machine can
        return _RemoteBuilder(self)

    def current(self) -> MapRecord | None:
        """Return the record of the map that readers see; None where there is none."""
        return next((made.record for made, is_current in self._maps() if is_current), None)


class _RemoteBuilder:
    """What `MapBuilder` is for a dataset on this machine: asks the server for builds and waits for them."""

    def __init__(self, dataset: RemoteDataset) -> None:
        self._dataset = dataset

    def check_ids(self, *, map_id: str | None, reuse: str | None) -> None:
        """Check that an index to reuse embeddings from is there."""
        if map_id is not None:
            raise InputError("map_id and index_id are chosen by the server; leave them out")
        maps = self._dataset.maps if reuse is not None else []
        if reuse is not None and all(reuse not in (one.name, one.index_id) for one in maps):
            names = ", ".join(sorted({one.name for one in maps})) or "none"
            raise InputError(f"there is no index {reuse!r} to reuse embeddings from; there is: {names}")

    def check_update(self, *, with_vectors: bool) -> None:
        """Check that rows about to come could be placed on the current map, before they are stored."""
        previous = None if with_vectors else self._dataset.current()
        if previous is not None and previous.modality == "embedding":
            raise InputError(
                "the current map is of given vectors, so its rows need some",
                hint="give embeddings= too, or update_maps=False to keep the rows off the map",
            )

    def update(self, *, rebuild: bool, wait: bool, on_progress: OnProgress) -> None:  # noqa: ARG002 - the server waits
        """Have the current map brought up to date, and wait until it is."""
        found = self._dataset.current()
        if found is None:
            return
        if found.version == self._dataset.store.version and not (rebuild and found.grown_from):
            return
        body = {"update": True, "rebuild": rebuild}
        self.finished(self._api.ask("POST", (*self._place, "maps"), body), on_progress)

    @property
    def _api(self) -> RemoteApi:
        return self._dataset.api

    @property
    def _place(self) -> tuple[str, str]:
        return self._dataset.place

    def finished(self, job: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
        """Wait for the end of a job and return it; an exception from `on_progress`, or Ctrl-C, cancels it.

        Raises:
            DatasetError: it failed or was cancelled; another class where the server said which it was.
        """
        path = (*self._place, "jobs", job["id"])
        pause_s, seen, heard = _FIRST_PAUSE_S, None, time.monotonic()
        while job["state"] in ("waiting", "running"):
            try:
                now = (job["stage"], job["done"], job["total"])
                if job["stage"] is not None and now != seen:
                    seen = now
                    on_progress(Progress(stage=now[0], done=now[1], total=now[2], unit=job["unit"]))
                time.sleep(pause_s)
            except BaseException:
                self._cancel(path)
                raise
            pause_s = min(_LONGEST_PAUSE_S, 1.3 * pause_s)
            try:
                job, heard = self._api.ask("GET", path), time.monotonic()
            except KeyboardInterrupt:
                self._cancel(path)
                raise
            except RemoteError as error:
                # A server that is started again goes on with its jobs.
                if error.status is not None or time.monotonic() - heard > _LOST_S:
                    raise
        if job["state"] == "cancelled":
            raise DatasetError(f"the build of a map of {self._dataset.identifier} was cancelled on the server")
        if job["state"] != "completed":
            raise error_named(job.get("error_kind"), str(job["error"]))
        return job

    def _cancel(self, path: tuple[str, ...]) -> None:
        try:
            self._api.ask("DELETE", path)
        except GnomonicError as error:
            warnings.warn(f"the build on the server could not be cancelled: {error}", UserWarning, stacklevel=2)


def remote_homes(api: RemoteApi | None = None) -> list[DatasetHome]:
    """Return the records of the datasets on the server; their folders are empty paths.

    Args:
        api: the server; default that of the settings.

    Raises:
        GnomonicError: it cannot be asked.
    """
    return [_home_of(about) for about in (api or _server()).ask("GET", ())["datasets"]]


def _server() -> RemoteApi:
    settings = read_settings()
    if settings.api_url is None:
        raise ConfigError("GNOMONIC_API_URL is not set", hint="set it to the address of a Gnomonic server")
    return RemoteApi(settings.api_url, settings.api_key)


def _home_of(about: Mapping[str, Any]) -> DatasetHome:
    known = {item.name for item in fields(DatasetRecord)}
    return DatasetHome(Path(), DatasetRecord(**{name: value for name, value in about.items() if name in known}))


def _settings(name: str, given: Any) -> dict[str, Any] | bool | None:
    """Return a stage's options as the server takes them; those that are not usable are refused here already.

    Raises:
        InputError: a name is unknown or a value is outside its range.
    """
    if given is None or given is True:
        return None
    if given is False and name in ("topics", "duplicates"):
        return False
    return _told(_READERS[name].read(given), given)


def _model(given: Any) -> dict[str, Any] | str | None:
    return given if given is None or isinstance(given, str) else _told(EmbedOptions.read(given), given)


def _told(options: Any, given: Any) -> dict[str, Any]:
    """Return what was given: a mapping's own names, or all of an options object."""
    names = given if isinstance(given, Mapping) else [item.name for item in fields(options)]
    assert is_dataclass(options)
    values = asdict(options)  # type: ignore[arg-type]
    return {str(name): values[name] for name in names if values[name] is not None}
