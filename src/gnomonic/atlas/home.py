"""Where datasets are: one folder each, under an organisation's, under the data folder."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gnomonic.atlas.map_folder import now
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError

__all__ = ["LOCAL", "DatasetHome", "DatasetRecord", "find_dataset", "list_datasets", "open_home", "slug_of"]

LOCAL = "local"
"""The organisation of datasets that were made without a server."""

_RECORD = "dataset.json"
_MAX_SLUG = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRecord:
    """What a dataset is: `dataset.json` of its folder."""

    id: str
    organization: str
    slug: str
    name: str
    description: str
    unique_id_field: str | None
    """The user's id column; None where ids are made."""
    created: str
    is_public: bool = False


@dataclass(frozen=True, slots=True)
class DatasetHome:
    """A dataset's folder."""

    folder: Path
    record: DatasetRecord

    @property
    def maps(self) -> Path:
        """The folder of its published maps."""
        return self.folder / "maps"

    @property
    def is_there(self) -> bool:
        """Whether it was not deleted meanwhile."""
        return (self.folder / _RECORD).is_file()

    @property
    def created(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.record.created)

    def remove(self) -> None:
        """Delete everything; the folder gets another name first, so that nothing half-deleted is found."""
        doomed = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}.doomed")
        self.folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def changed(self, **changes: Any) -> DatasetHome:
        """Write the record with some values changed; return the home with it."""
        record = replace(self.record, **changes)
        _write(self.folder, record)
        return DatasetHome(self.folder, record)


def slug_of(name: str) -> str:
    """Return a name as it stands in folders and addresses, by the official client's rule.

    Raises:
        InputError: nothing is left of it.
    """
    plain = unicodedata.normalize("NFD", name).lower().replace(" ", "-").replace("_", "-")
    slug = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "", plain)).strip("-")[:_MAX_SLUG]
    if not slug:
        raise InputError(f"dataset name {name!r} has no letter a to z and no digit; choose one that has")
    return slug


def open_home(
    root: Path,
    identifier: str,
    *,
    create: Mapping[str, Any] | None = None,
) -> DatasetHome:
    """Return a dataset's folder.

    Args:
        root: the data folder.
        identifier: "name" or "organisation/name".
        create: values of the record of a new dataset; None to refuse one that does not exist.

    Raises:
        DatasetNotFoundError: it does not exist and is not to be made.
        DatasetError: its record cannot be read or written.
        InputError: the name is not usable.
    """
    organization, _, name = identifier.rpartition("/")
    organization = slug_of(organization) if organization else LOCAL
    slug = slug_of(name)
    folder = root / "datasets" / organization / slug
    if not (folder / _RECORD).is_file():
        if create is None:
            raise DatasetNotFoundError(
                f"there is no dataset {organization}/{slug}", hint="gnomonic datasets list shows those there are"
            )
        values = {"description": "", "unique_id_field": None, **create}
        record = DatasetRecord(
            id=str(uuid.uuid4()), organization=organization, slug=slug, name=name, created=now(), **values
        )
        _create(folder, record)
    return DatasetHome(folder, _read(folder))


def find_dataset(root: Path, dataset_id: str) -> DatasetHome:
    """Return the dataset with this id.

    Raises:
        DatasetNotFoundError: there is none.
    """
    for home in list_datasets(root):
        if home.record.id == dataset_id:
            return home
    raise DatasetNotFoundError(f"there is no dataset with the id {dataset_id}")


def list_datasets(root: Path) -> list[DatasetHome]:
    """Return all datasets, by organisation and name; folders that are none are left out."""
    found = []
    for path in sorted((root / "datasets").glob(f"*/*/{_RECORD}")):
        if path.parent.name.startswith("."):
            continue
        try:
            found.append(DatasetHome(path.parent, _read(path.parent)))
        except DatasetError:
            continue
    return found


def _create(folder: Path, record: DatasetRecord) -> None:
    """Make the folder with its record in one step; whoever comes second takes the first one's."""
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
    try:
        fresh.mkdir(parents=True)
        _write(fresh, record)
        fresh.rename(folder)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if not (folder / _RECORD).is_file():
            in_the_way = "; a folder without a record is in the way: move it away" if folder.exists() else ""
            raise DatasetError(f"{folder} cannot be made: {error.strerror}{in_the_way}") from error


def _write(folder: Path, record: DatasetRecord) -> None:
    fresh = folder / f".{_RECORD}.{secrets.token_hex(4)}"
    with fresh.open("w", encoding="utf-8") as stream:
        json.dump(asdict(record), stream, indent=1, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(folder / _RECORD)


def _read(folder: Path) -> DatasetRecord:
    try:
        told = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        known = {field.name for field in fields(DatasetRecord)}
        return DatasetRecord(**{name: value for name, value in told.items() if name in known})
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f"{folder / _RECORD} cannot be read: {error}") from error
