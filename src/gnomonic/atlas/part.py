"""What all views of a map share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gnomonic.atlas.arguments import free_name
from gnomonic.atlas.living import Living
from gnomonic.errors import MissingExtraError

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap

__all__ = ["Part"]


class Part(ABC):
    """A view of a map as a table."""

    def __init__(self, atlas_map: AtlasMap) -> None:
        self._map = atlas_map

    @property
    @abstractmethod
    def tb(self) -> pa.Table:
        """The table."""

    @property
    def df(self) -> Any:
        """The table as a pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise MissingExtraError("atlas", needed_for="a DataFrame") from None
        return self.tb.to_pandas()

    def _table(self, columns: dict[str, Any], living: Living) -> pa.Table:
        """Return a table of the ids and some columns, each [alive rows]."""
        id_field = self._map.id_field
        return pa.table({id_field: living.ids, **{free_name(name, (id_field,)): columns[name] for name in columns}})
