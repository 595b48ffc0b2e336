"""A Gnomonic server's own routes about datasets: JSON and Arrow there and back, its errors as the classes they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.client import wire
from gnomonic.client.remote import RemoteClient, remote_client
from gnomonic.client.wire import Reply
from gnomonic.errors import (
    AuthenticationError,
    DatasetError,
    DatasetNotFoundError,
    DeadlineError,
    GnomonicError,
    InputError,
    RateLimitError,
    RemoteError,
    RemoteTimeoutError,
    SchemaError,
    TooLargeError,
    UnknownModelError,
)

__all__ = ["RemoteApi", "as_queries", "error_named", "id_chunks", "joined", "pages", "plain_ids"]

_ARROW = "application/vnd.apache.arrow.stream"
_MAX_IDS = 10_000
"""Ids in one request."""

_PAGE_BYTES = 8 << 20
_MAX_DETAIL = 2000
_HERE = "give root= to work with datasets of this machine, or unset GNOMONIC_API_URL"
_KINDS: dict[str, type[GnomonicError]] = {
    kind.__name__: kind
    for kind in (
        DatasetError, DatasetNotFoundError, DeadlineError, InputError, SchemaError, TooLargeError, UnknownModelError
    )
}  # fmt: skip
_BY_STATUS: dict[int, type[GnomonicError]] = {
    400: InputError, 404: DatasetNotFoundError, 409: DatasetError, 413: TooLargeError, 422: SchemaError
}  # fmt: skip


class _AnsweredError(GnomonicError):
    """An answer that is handed on, and not judged here."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"the server answered {reply.status}")
        self.reply = reply


class RemoteApi:
    """Asks one server about datasets, over the connections that embedding keeps. Safe for threads."""

    def __init__(self, url: str, key: str | None, *, client: RemoteClient | None = None) -> None:
        """Name the server; nothing is sent.

        Args:
            url: its address.
            key: sent as bearer token; None for a server that asks for none.
            client: sends the requests; default the one that this process keeps for the address.

        Raises:
            ConfigError: the address or the key is not usable.
        """
        self._client = client or remote_client(url, key)
        self._key = key

    @property
    def url(self) -> str:
        """The server's address."""
        return self._client.url

    def ask(
        self,
        method: str,
        path: Sequence[str],
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        again: bool | None = None,
    ) -> dict[str, Any]:
        """Send JSON and return the JSON object that comes back.

        Args:
            method: of HTTP.
            path: the parts after /v1/datasets.
            body: what is sent.
            query: after the path.
            again: see `RemoteClient.request`; default for GET alone.

        Raises:
            GnomonicError: what the server raised.
            RemoteError: it cannot be reached, or has no datasets.
        """
        content = b"" if body is None else _json(body)
        address = _address(path) + (f"?{urlencode(query)}" if query else "")
        return _object(self._request(method, address, content, {}, again=method == "GET" if again is None else again))

    def read(self, path: Sequence[str], body: Mapping[str, Any]) -> pa.Table:
        """Ask for a table, which changes nothing there.

        Raises:
            GnomonicError: see `ask`.
        """
        return _table(self._request("POST", _address(path), _json(body), {"accept": _ARROW}, again=True))

    def send(
        self, method: str, path: Sequence[str], table: pa.Table, query: Mapping[str, str], *, again: bool
    ) -> dict[str, Any]:
        """Send a table and return the JSON object that comes back.

        Raises:
            GnomonicError: see `ask`.
        """
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd" if pa.Codec.is_available("zstd") else None)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        address = f"{_address(path)}?{urlencode(query)}"
        reply = self._request(method, address, sink.getvalue().to_pybytes(), {"content-type": _ARROW}, again=again)
        return _object(reply)

    def fetch(self, method: str, address: str, body: bytes = b"") -> Reply:
        """Send JSON to any address of the server and return the answer whatever its status, for who reads it elsewhere.

        Raises:
            RemoteError: no answer came.
        """
        try:
            return self._client.request(
                method, address, body, headers={"accept": "*/*"}, error_of=_AnsweredError, again=method == "GET"
            )
        except _AnsweredError as answered:
            return answered.reply

    def own_organization(self) -> str:
        """Return the organisation whose datasets the key opens.

        Raises:
            GnomonicError: see `ask`.
        """
        told = _object(self._request("GET", "/v1/user", b"", {}, again=True))
        found = told.get("organizations")
        if not isinstance(found, list) or not found or not isinstance(found[0], dict) or "slug" not in found[0]:
            raise RemoteError(f"{self.url} does not say whose datasets it has", hint=_HERE)
        return str(found[0]["slug"])

    def _request(self, method: str, address: str, content: bytes, headers: dict[str, str], *, again: bool) -> Reply:
        try:
            return self._client.request(method, address, content, headers=headers, error_of=self._error_of, again=again)
        except RemoteError as error:
            if error.status is None:  # no answer came; the client's own hint speaks of embedding
                more = "" if again else "; whether the server did what it was asked for is not known"
                error.args = (f"{error}{more}",)
                error.hint = f"check that the server runs, or {_HERE}"
            raise

    def _error_of(self, reply: Reply) -> GnomonicError:
        """Return the exception that an answer stands for."""
        status, kind = reply.status, reply.headers.get("x-gnomonic-error", "")
        said = _detail(reply.body)
        if self._key:
            said = said.replace(self._key, "…")
        told = said or f"the server answered {status}"
        about: dict[str, Any] = {"status": status, "request_id": reply.request_id}
        ours = wire.is_ours(reply)
        if (status in (404, 405) and kind in ("", "InputError")) or 300 <= status < 400:
            what = "an older Gnomonic server" if ours else "no Gnomonic server"
            return RemoteError(f"{self.url} keeps no datasets: it is {what} ({told})", **about, hint=_HERE)
        if status in (401, 403):
            hint = (
                "GNOMONIC_API_KEY is not valid there" if self._key else "set GNOMONIC_API_KEY to a key of this server"
            )
            hint += "" if ours else f"; if it is no Gnomonic server, {_HERE}"
            return AuthenticationError(told, **about, hint=hint)
        if status == 429:
            return RateLimitError(told, **about, hint="try again later")
        found = _KINDS.get(kind) or _BY_STATUS.get(status)
        if found is not None:
            return found(told)
        if status in (408, 504):
            return RemoteTimeoutError(told, **about)
        return RemoteError(told, **about)


def error_named(kind: str | None, message: str) -> GnomonicError:
    """Return an exception of one of our classes by its name; `DatasetError` where there is none."""
    return _KINDS.get(kind or "", DatasetError)(message)


def plain_ids(ids: Iterable[Any]) -> list[str | int]:
    """Return ids as JSON has them.

    Raises:
        InputError: one is neither a text nor a whole number.
    """
    found: list[str | int] = []
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, str | int | np.integer):
            raise InputError(f"id {str(one)[:60]!r} is neither a text nor a whole number")
        found.append(str(one) if isinstance(one, str) else int(one))
    return found


def id_chunks(ids: Sequence[Any], size: int = _MAX_IDS) -> Iterator[list[str | int]]:
    """Yield ids as JSON has them, as many as one request takes at a time.

    Raises:
        InputError: see `plain_ids`, before the first are yielded.
    """
    plain = plain_ids(ids)
    yield from (plain[begin : begin + size] for begin in range(0, len(plain), size))


def pages(fetch: Callable[[int, int], pa.Table], rows: int, *, first: int, most: int) -> Iterator[pa.Table]:
    """Yield the rows of something long, some at a time: few first, then as many as are about 8 MB.

    Args:
        fetch: returns the rows at the places from its first to before its first plus its second argument.
        rows: how many places there are.
        first: how many rows are asked for first.
        most: the largest page.
    """
    offset, limit = 0, min(first, most)
    while offset < rows:
        table = fetch(offset, limit)
        yield table
        offset += limit
        width = max(1.0, table.nbytes / max(1, table.num_rows))
        limit = int(min(max(1, _PAGE_BYTES / width), most, 4 * limit))


def joined(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    found = column.combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def as_queries(given: Any, axes: int) -> NDArray[np.float32]:
    """Return vectors as they can be sent.

    Raises:
        InputError: they have another shape, or values that are not finite.
    """
    try:
        found = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        found = np.empty(0, dtype=np.float32)
    if found.ndim != axes or not np.isfinite(found).all():
        raise InputError(f"{'a vector' if axes == 1 else 'queries [m, dim]'} of finite numbers is needed")
    return found


def _address(path: Sequence[str]) -> str:
    return "/".join(("/v1/datasets", *(quote(part, safe="") for part in path)))


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _object(reply: Reply) -> dict[str, Any]:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unreadable(reply)
    return found


def _table(reply: Reply) -> pa.Table:
    try:
        with pa.ipc.open_stream(reply.body) as reader:
            table = reader.read_all()
        table.validate()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(reply) from error
    return table


def _unreadable(reply: Reply) -> RemoteError:
    kind = reply.headers.get("content-type", "nothing")[:80]
    message = f"the server answered with something unreadable ({kind})"
    return RemoteError(message, status=reply.status, request_id=reply.request_id, hint=_HERE)


def _detail(body: bytes) -> str:
    """Return what an error says, in one line; empty where it says nothing known."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    said = told.get("detail") or told.get("message") if isinstance(told, dict) else None
    return " ".join(said.split())[:_MAX_DETAIL] if isinstance(said, str) else ""
