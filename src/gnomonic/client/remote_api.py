"""A Gnomonic server's own routes about datasets: JSON and Arrow there and back, its errors as the exceptions they were."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow as pa

from gnomonic import errors
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
    OverloadedError,
    RateLimitError,
    RemoteError,
    RemoteTimeoutError,
    SchemaError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)

__all__ = ["MAX_IDS", "RemoteApi", "error_named", "id_chunks", "plain_ids", "tell_from"]

ARROW = "application/vnd.apache.arrow.stream"
MAX_IDS = 10_000
"""Ids in one request."""

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
        self, method: str, path: Sequence[str], body: Mapping[str, Any] | None = None, *, again: bool | None = None
    ) -> dict[str, Any]:
        """Send JSON and return the JSON object that comes back.

        Args:
            method: of HTTP.
            path: the parts after /v1/datasets.
            body: what is sent.
            again: see `RemoteClient.request`; default for GET alone.

        Raises:
            GnomonicError: what the server raised.
            RemoteError: it cannot be reached, or has no datasets.
        """
        content = b"" if body is None else _json(body)
        reply = self._request(method, _address(path), content, {}, again=method == "GET" if again is None else again)
        return _object(reply)

    def read(self, path: Sequence[str], body: Mapping[str, Any]) -> pa.Table:
        """Ask for a table, which changes nothing there.

        Raises:
            GnomonicError: see `ask`.
        """
        return _table(self.read_bytes(path, body))

    def read_bytes(self, path: Sequence[str], body: Mapping[str, Any]) -> Reply:
        """Ask for a table, as the Arrow stream that it is.

        Raises:
            GnomonicError: see `ask`.
        """
        return self._request("POST", _address(path), _json(body), {"accept": ARROW}, again=True)

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
        reply = self._request(method, address, sink.getvalue().to_pybytes(), {"content-type": ARROW}, again=again)
        return _object(reply)

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
            return self._client.request(
                method, address, content, headers=headers, error_of=self._error_of, again=again
            )
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
        about = {"status": status, "request_id": reply.request_id}
        is_missing = status in (404, 405) and kind in ("", "InputError")
        if is_missing or (300 <= status < 400) or (not wire.is_ours(reply) and status not in (401, 403, 429)):
            what = "an older Gnomonic server" if wire.is_ours(reply) else "no Gnomonic server, or something before it"
            raise RemoteError(f"{self.url} keeps no datasets: it is {what} (status {status}: {told})", **about, hint=_HERE)
        if status in (401, 403):
            hint = "GNOMONIC_API_KEY is not valid there" if self._key else "set GNOMONIC_API_KEY to a key of this server"
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
