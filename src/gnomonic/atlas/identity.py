"""What a dataset is called."""

from __future__ import annotations

from datetime import datetime

from gnomonic.atlas.home import DatasetHome

__all__ = ["Identity"]


class Identity:
    """The names of a dataset, from its record."""

    _home: DatasetHome

    @property
    def home(self) -> DatasetHome:
        """Its folder and record."""
        return self._home

    @property
    def id(self) -> str:
        """Its id, a UUID."""
        return self._home.record.id

    dataset_id = id

    @property
    def name(self) -> str:
        """The name as it was given."""
        return self._home.record.name

    @property
    def slug(self) -> str:
        """The name as it stands in addresses."""
        return self._home.record.slug

    @property
    def identifier(self) -> str:
        """organisation/slug."""
        return f"{self._home.record.organization}/{self.slug}"

    @property
    def description(self) -> str:
        """What its maker wrote about it."""
        return self._home.record.description

    @property
    def created_timestamp(self) -> datetime:
        """When it was made."""
        return self._home.created
