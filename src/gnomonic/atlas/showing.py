"""What a map asks of whoever shows it; the map's half knows no server and no notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from gnomonic.errors import DatasetError

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap

__all__ = ["NoShowing", "Showing"]


class Showing(Protocol):
    """Shows maps."""

    def address(self, found: AtlasMap) -> str:
        """Return the address of a map's page, which answers.

        Raises:
            GnomonicError: there can be none.
        """
        ...

    def show(self, found: AtlasMap) -> Any:
        """Show a map where this process runs: a widget in a notebook, else a browser; return widget or address.

        Raises:
            GnomonicError: it cannot be shown.
        """
        ...

    def widget(self, found: AtlasMap, height: int) -> Any:
        """Return a notebook's widget of a map, `height` pixels high.

        Raises:
            MissingExtraError: anywidget is not installed.
        """
        ...


class NoShowing:
    """For datasets of other front doors; implements `Showing`."""

    def address(self, found: AtlasMap) -> NoReturn:
        """Refuse.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"map {found.name!r} has no page here", hint="open its dataset with gnomonic.AtlasDataset")

    def show(self, found: AtlasMap) -> NoReturn:
        """Refuse, as `address` does."""
        self.address(found)

    def widget(self, found: AtlasMap, height: int) -> NoReturn:  # noqa: ARG002 - as the others that show
        """Refuse, as `address` does."""
        self.address(found)
