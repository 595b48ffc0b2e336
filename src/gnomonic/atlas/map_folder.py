"""Published maps: immutable folders, each complete before it has its name."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.stages import Stage
from gnomonic.errors import DatasetError

__all__ = [
    "MapFolder",
    "MapRecord",
    "current_map",
    "list_maps",
    "now",
    "publish",
    "readable_map",
    "remove_grown",
    "remove_map",
    "set_current",
]

_CURRENT = "current.json"
_RECORD = "map.json"
_LEAST_STEPS, _MOST_STEPS = 3, 20
"""Of the maps that one map grew through, the newest that are kept, the current one included."""
_NUMBERS_A_ROW = 4
"""Up to so many numbers a row, positions are looked up in a table of all numbers."""
_STEP_S = 600.0
"""Seconds for which a step is kept in any case, up to the most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapRecord:
    """What a map is: `map.json` of its folder."""

    id: str
    index_id: str
    name: str
    created: str
    """ISO 8601 with microseconds and zone."""
    version: int
    """Version of the dataset it shows."""
    rows: int
    dim: int
    modality: str
    """"text", "image" or "embedding"."""
    indexed_field: str | None
    model: str | None
    """What embedded the field; None where the vectors were given."""
    options: dict[str, Any]
    """Settings of every stage."""
    seed: int
    stages: list[dict[str, Any]] = field(default_factory=list)
    """Name, seconds and peak memory of each stage, in order."""
    quality: dict[str, Any] = field(default_factory=dict)
    truncated: int = 0
    """How many texts were longer than the model reads."""
    grown_from: str | None = None
    """The map this one added rows to."""
    grown_rows: int = 0
    """Rows that were placed by their neighbours since the last full build."""


class MapFolder:
    """One published map, read lazily."""

    def __init__(self, folder: Path) -> None:
        """Open a folder.

        Raises:
            DatasetError: its record is absent or damaged.
        """
        self.folder = folder
        try:
            told = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            known = {item.name for item in fields(MapRecord)}
            self.record = MapRecord(**{name: value for name, value in told.items() if name in known})
        except (OSError, ValueError, TypeError) as error:
            raise DatasetError(
                f"the map in {folder} cannot be read: {error}", hint="delete that folder and build the map again"
            ) from error

    def array(self, name: str) -> NDArray[Any]:
        """Return one of the arrays of the folder, memory-mapped, such as "projection/xy".

        Raises:
            DatasetError: it is absent or damaged.
        """
        path = self.folder / f"{name}.npy"
        try:
            # An empty array cannot be mapped.
            found: NDArray[Any] = np.load(path, mmap_mode="r" if self.record.rows else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{path} cannot be read: {error}", hint="build the map again") from error
        return found

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """[n] int64: the store's numbers of the rows, in row order."""
        return np.asarray(self.array("embeddings/rows"))

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """[n] int64: order[p] is the row at position p of the map order."""
        return np.asarray(self.array("tiles/order"))

    @property
    def vectors(self) -> NDArray[Any]:
        """[n, dim] float16 or float32, memory-mapped, in row order."""
        return self.array("embeddings/vectors")

    @property
    def xy(self) -> NDArray[np.float32]:
        """[n, 2] float32, memory-mapped, in row order."""
        return self.array("projection/xy")

    def positions_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the store's rows are in row order, -1 for those that are not on the map."""
        if (places := self._places) is not None:
            known = (rows >= 0) & (rows < len(places))
            return np.where(known, places[np.where(known, rows, 0)], -1)
        by_number = self._by_number
        if not len(by_number):
            return np.full(len(rows), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.rows, rows, sorter=by_number), len(by_number) - 1)
        found = by_number[at]
        return np.where(self.rows[found] == rows, found, -1)

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        """[numbers] int64: positions by number; None where most numbers are not on the map, or there are none."""
        top = int(self.rows.max(initial=-1)) + 1
        if not 0 < top <= _NUMBERS_A_ROW * len(self.rows):
            return None
        places = np.full(top, -1, dtype=np.int64)
        places[self.rows] = np.arange(len(self.rows))
        return places

    @cached_property
    def _by_number(self) -> NDArray[np.int64]:
        return np.argsort(self.rows, kind="stable")


def publish(maps: Path, record: MapRecord, stages: Sequence[Stage]) -> MapFolder:
    """Make a map of finished stages visible, whole, and the current one; the caller holds the lock of builds.

    Raises:
        DatasetError: it cannot be written; the map before is as it was.
    """
    partial = maps / f".{record.id}.partial"
    try:
        maps.mkdir(exist_ok=True)
        # Nobody else publishes, so these were left by builds that were killed, and by deletions.
        for left in (*maps.glob(".*.partial"), *maps.glob(".*.doomed")):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        for stage in stages:
            shutil.copytree(stage.folder, partial / stage.name, copy_function=_link)
        _write_json(partial / _RECORD, asdict(record))
        partial.rename(maps / record.id)
        set_current(maps, record.id)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DatasetError(
            f"the map cannot be written to {maps}: {error.strerror or error}",
            hint="make room if the disk is full; the next build goes on from there",
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return MapFolder(maps / record.id)


def list_maps(maps: Path) -> list[MapFolder]:
    """Return the published maps, oldest first; damaged ones are left out."""
    found = []
    for folder in maps.iterdir() if maps.is_dir() else ():
        if folder.name.startswith(".") or not (folder / _RECORD).is_file():
            continue
        try:
            found.append(MapFolder(folder))
        except DatasetError:
            continue
    return sorted(found, key=lambda one: one.record.created)


def current_map(maps: Path) -> MapFolder | None:
    """Return the map that readers see, None before the first.

    Raises:
        DatasetError: it is damaged.
    """
    try:
        chosen = str(json.loads((maps / _CURRENT).read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        chosen = ""
    if not chosen or not (maps / chosen).is_dir():
        # A build or a deletion was killed between its last two steps: the newest map is whole, and it is the one.
        found = list_maps(maps)
        return found[-1] if found else None
    return MapFolder(maps / chosen)


def readable_map(maps: Path) -> MapFolder | None:
    """Return the map that readers see, None before the first or where it is damaged."""
    try:
        return current_map(maps)
    except DatasetError:
        return None


def set_current(maps: Path, map_id: str) -> None:
    """Have readers see this map from now on.

    Raises:
        DatasetError: there is no such map.
    """
    if Path(map_id).name != map_id or not (maps / map_id / _RECORD).is_file():
        raise DatasetError(f"there is no map {map_id!r}", hint="the maps are listed by AtlasDataset.maps")
    _write_json(maps / _CURRENT, {"id": map_id})


def remove_map(maps: Path, map_id: str) -> None:
    """Delete a map; the newest of the others becomes current if it was."""
    current = readable_map(maps)
    doomed = maps / f".{map_id}.{uuid.uuid4().hex}.doomed"
    (maps / map_id).rename(doomed)
    left = list_maps(maps)
    if current is not None and current.record.id == map_id:
        (maps / _CURRENT).unlink(missing_ok=True)
        if left:
            set_current(maps, left[-1].record.id)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_grown(maps: Path, newest: MapFolder) -> None:
    """Delete maps that were only steps of growing to the newest: each is as large as the last.

    Full builds stay. Of the steps since, so do the last few, and those that a reader may just have opened.
    """
    steps = [one for one in list_maps(maps) if one.record.grown_from and one.record.index_id == newest.record.index_id]
    steps = [one for one in steps if one.record.id != newest.record.id][::-1]
    instant = datetime.now(UTC)
    for place, step in enumerate(steps, start=2):
        age = (instant - datetime.fromisoformat(step.record.created)).total_seconds()
        if place > _MOST_STEPS or (place > _LEAST_STEPS and age > _STEP_S):
            with contextlib.suppress(OSError):
                remove_map(maps, step.record.id)


def now() -> str:
    """Return the time as records hold it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
