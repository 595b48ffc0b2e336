"""The map as a notebook's widget: its questions come as messages, so it needs no address that a browser can reach."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnomonic.client.channels import ChannelAnswer
from gnomonic.errors import DatasetError, InputError, MissingExtraError
from gnomonic.viewer import files as viewer

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise MissingExtraError("notebook", needed_for="the widget of a map") from error

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.client.channels import Channel

__all__ = ["MapWidget"]

_THREADS = 4
_IDS_A_REQUEST = 10_000
_KEPT = ("content-type", "retry-after")


class MapWidget(anywidget.AnyWidget):
    """A map in a notebook.

    Attributes:
        selection: ids of the rows that are selected on the map; a list that is set here is selected there. Setting ids
            that are not on the map raises InputError. `observe` tells of changes.
        height: pixels.
        map: what it shows.
    """

    _esm = viewer.read("widget.js").decode()
    _selected = traitlets.Unicode("").tag(sync=True)
    """Base64 of a bit for each position of the map; empty for no selection."""
    height = traitlets.Int(600).tag(sync=True)
    selection: traitlets.List[Any] = traitlets.List()

    def __init__(self, found: AtlasMap, channel: Channel, *, height: int = 600) -> None:
        """Show a map.

        Args:
            found: the map.
            channel: answers what the page asks.
            height: in pixels.
        """
        self.map = found
        self._channel = channel
        self._told: tuple[str, list[Any]] = ("", [])
        """The selection as bits and as ids, as both sides last agreed on it."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gnomonic-widget")
        super().__init__(height=height)
        self.on_msg(self._receive)

    def selected_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the selected rows.

        Args:
            columns: default all.

        Raises:
            InputError: there is no such column.
            DatasetError: they cannot be read.
        """
        return self._table(self._selected, None if columns is None else list(columns))

    def close(self) -> None:
        """End it; what the page still asks is not answered."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()

    # -- the selection, which both sides may change -----------------------------------------------------------------

    @traitlets.observe("_selected")
    def _selected_there(self, _: Any) -> None:
        if self._selected != self._told[0]:
            field = self.map.id_field
            ids = self._table(self._selected, [field]).column(field).to_pylist()
            self._told = (self._selected, ids)
            self.selection = ids

    @traitlets.validate("selection")
    def _selected_here(self, proposal: Any) -> list[Any]:
        ids = list(proposal["value"])
        if ids != self._told[1]:
            self._told = (self._bits_of(ids), ids)
        return ids

    @traitlets.observe("selection")
    def _tell_selection(self, _: Any) -> None:
        self._selected = self._told[0]

    def _bits_of(self, ids: list[Any]) -> str:
        if not ids:
            return ""
        wanted = list(dict.fromkeys(ids))
        parts = [
            self._ask("/filter", {"ids": wanted[begin : begin + _IDS_A_REQUEST]})
            for begin in range(0, len(wanted), _IDS_A_REQUEST)
        ]
        count = sum(int(part.headers.get("x-gnomonic-count", "0")) for part in parts)
        if count != len(wanted):
            raise InputError(f"{len(wanted) - count:,} of the {len(wanted):,} ids are not on the map")
        bits = np.bitwise_or.reduce([np.frombuffer(part.body, dtype=np.uint8) for part in parts])
        return base64.b64encode(bits.tobytes()).decode()

    def _table(self, bits: str, columns: list[str] | None) -> pa.Table:
        which: dict[str, Any] = {"bits": bits} if bits else {"ids": []}
        return pq.read_table(io.BytesIO(self._ask("/export", {"format": "parquet", "columns": columns, **which}).body))

    def _ask(self, path: str, asked: dict[str, Any]) -> ChannelAnswer:
        # Ids out of an array are numpy's numbers.
        answer = self._channel.request("POST", path, json.dumps(asked, default=lambda one: one.item()).encode())
        if not 200 <= answer.status < 300:
            said = json.loads(answer.body or b"{}").get("detail", f"the answer is {answer.status}")
            raise (InputError if answer.status in (400, 422) else DatasetError)(said)
        return answer

    # -- what the page asks -----------------------------------------------------------------------------------------

    def _receive(self, _: Any, content: Any, __: Any) -> None:
        """Take a question; it is answered from a thread, since a cell may be running when the next one comes."""
        if not isinstance(content, dict) or not isinstance(content.get("id"), int):
            return
        answer = self._files if content.get("kind") == "files" else self._request
        with contextlib.suppress(RuntimeError):  # it was closed meanwhile
            self._threads.submit(self._reply, answer, content)

    def _reply(self, answer: Callable[[dict[str, Any]], ChannelAnswer], content: dict[str, Any]) -> None:
        try:
            made = answer(content)
        except Exception as error:  # noqa: BLE001 - whatever happens, the page must not wait for ever
            made = ChannelAnswer(status=500, body=json.dumps({"detail": f"{type(error).__name__}: {error}"}).encode())
        headers = {
            name: value for name, value in made.headers.items() if name.startswith("x-gnomonic") or name in _KEPT
        }
        self.send({"id": content["id"], "status": made.status, "headers": headers}, buffers=[made.body])

    def _files(self, content: dict[str, Any]) -> ChannelAnswer:
        modules = [asdict(one) for one in viewer.modules(*map(str, content.get("entries", ())))]
        return ChannelAnswer(status=200, body=json.dumps({"modules": modules, "styles": viewer.styles()}).encode())

    def _request(self, content: dict[str, Any]) -> ChannelAnswer:
        asked = content.get("json")
        body = b"" if asked is None else json.dumps(asked).encode()
        return self._channel.request(str(content.get("method")), str(content.get("path")), body)
