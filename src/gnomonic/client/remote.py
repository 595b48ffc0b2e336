"""Inference on a server: one address and key, kept connections, several requests at once, retries."""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import httpx

from gnomonic import __version__
from gnomonic.client import wire
from gnomonic.client.call import Call
from gnomonic.client.retries import Attempts, Failure, Patience, Tries, retry_after_s, tries_of
from gnomonic.client.wire import Reply
from gnomonic.errors import ConfigError, GnomonicError, RemoteError, RemoteTimeoutError
from gnomonic.types import Embeddings, EmbedRequest

__all__ = ["RemoteClient", "remote_client"]

# More than one call makes at once, so that threads that call together do not queue here.
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30.0)

_Outcome = Reply | httpx.RequestError | TimeoutError


class RemoteClient:
    """A server that embeds. Safe to use from several threads, event loops and forked children.

    Args:
        base_url: such as "https://embed.example.org"; the route is added to it.
        api_key: sent as bearer token; None for a server that asks for none.
        patience: how long calls wait and try.
        sleep: pauses a thread; None for a pause that ends early when the call is given up.
        async_sleep: the same for a task.
        jitter: returns a number from 0 to 1 for the length of a pause.
        clock: seconds that never go back.

    Attributes:
        url: the server's address.

    Raises:
        ConfigError: the address or the key is not usable.

    Warns:
        UserWarning: the key would travel unencrypted to another machine.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        patience: Patience | None = None,
        sleep: Callable[[float], None] | None = None,
        async_sleep: Callable[[float], Awaitable[None]] | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = wire.check_url(base_url)
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"the server's address in GNOMONIC_API_URL is not usable: {error}") from None
        self._key = wire.check_key(api_key)
        self._patience = patience or Patience()
        self._sleep, self._async_sleep = sleep, async_sleep
        self._jitter, self._clock = jitter, clock
        self._is_ours = False
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._loops: dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, AsyncGenerator[None]]] = {}
        self._left_by_parent: list[object] = []
        _clients.add(self)
        if self._key and self.url.startswith("http://") and not wire.is_loopback(self.url):
            warnings.warn(f"the API key is sent unencrypted to {self.url}; use https", UserWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"RemoteClient({self.url!r})"

    def embed(self, request: EmbedRequest, *, patience: Patience | None = None) -> Embeddings:
        """Embed a request's texts, in order.

        Args:
            request: its `options` are not sent.
            patience: for this call; None for the client's.

        Returns:
            vectors [len(texts), dim] float32 with unit rows. No texts cost no request.

        Raises:
            InputError: the server refuses a text or an option.
            UnknownModelError: the server does not have the model.
            TooLargeError: a text is larger than the server takes.
            AuthenticationError: it refuses the key.
            RateLimitError: it asks for fewer requests, after all retries.
            RemoteTimeoutError: it did not answer in time.
            PartialFailureError: some texts have vectors, others not.
            RemoteError: it cannot be reached, or its answer is wrong.
        """
        call = Call(request, patience or self._patience, self._clock)
        if call.workers < 2:
            self._work(call)
            return call.result()
        pool = ThreadPoolExecutor(call.workers, thread_name_prefix="gnomonic-remote")
        try:
            for worker in [pool.submit(self._work, call) for _ in range(call.workers)]:
                worker.result()
        finally:  # Ctrl-C does not wait for the requests under way
            call.stopped.set()
            pool.shutdown(wait=False)
        return call.result()

    async def aembed(self, request: EmbedRequest, *, patience: Patience | None = None) -> Embeddings:
        """Do what `embed` does in an asyncio event loop; cancelling it drops the requests under way.

        Args:
            request: its `options` are not sent.
            patience: for this call; None for the client's.

        Returns:
            vectors [len(texts), dim] float32 with unit rows.

        Raises:
            GnomonicError: as `embed`.
        """
        call = Call(request, patience or self._patience, self._clock)
        wake = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(call.workers):
                group.create_task(self._work_async(call, wake))
        return call.result()

    def request(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        error_of: Callable[[Reply], GnomonicError],
        again: bool = True,
    ) -> Reply:
        """Send something else than texts to embed, and return the answer.

        Args:
            method: of HTTP.
            path: below the server's address.
            content: the body.
            headers: beside the key; default those of JSON.
            error_of: returns the error that an answer of another status than 2xx stands for.
            again: whether doing it twice is doing it once. If not, only what the server surely has not done is tried
                again.

        Raises:
            GnomonicError: what `error_of` returned, after all retries.
            RemoteError: the server cannot be reached.
        """
        patience, began = self._patience, self._clock()
        attempts = Attempts(patience, self._jitter)
        while True:
            left_s = patience.deadline_s - (self._clock() - began)
            outcome = self._send(method, path, content, dict(headers or {}), left_s)
            if isinstance(outcome, Reply) and outcome.status < 300:
                return outcome
            left_s = patience.deadline_s - (self._clock() - began)
            if isinstance(outcome, Reply):
                asked_s = retry_after_s(outcome.headers.get("retry-after"), now=time.time())
                failure = Failure(error=error_of(outcome), tries=tries_of(outcome.status), retry_after_s=asked_s)
                is_undone = outcome.status in (429, 503)
            else:
                failure = self._lost(patience, left_s, outcome)
                is_undone = failure.tries is Tries.CONNECT
            pause_s = attempts.pause_s(failure, left_s) if again or is_undone else None
            if pause_s is None:
                raise failure.error
            (self._sleep or time.sleep)(pause_s)

    def _send(self, method: str, path: str, content: bytes, headers: dict[str, str], left_s: float) -> _Outcome:
        timeout = self._timeout(self._patience, max(left_s, 1e-3))
        try:
            response = self._open().request(method, path, content=content, headers=headers, timeout=timeout)
        except httpx.RequestError as error:
            return error
        return Reply(status=response.status_code, headers=response.headers, body=response.content)

    def close(self) -> None:
        """Close the kept connections of threads; those of an event loop end with it. A later call opens new ones."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    async def aclose(self) -> None:
        """Close the kept connections of the running event loop. A later call opens new ones."""
        kept = self._loops.get(asyncio.get_running_loop())
        if kept is not None:
            await kept[1].aclose()

    def _leave_to_parent(self) -> None:
        """Open own connections in a forked child: two processes on one would read each other's answers.

        The parent's stay referenced, because closing them could say good-bye in its name.
        """
        self._left_by_parent += [self._http, self._loops]
        self._lock, self._http, self._loops = threading.Lock(), None, {}

    # -- one part after the other, in a thread --------------------------------------------------------------------

    def _work(self, call: Call) -> None:
        while (part := call.next_part()) is not None:
            attempts = Attempts(call.patience, self._jitter)
            while (pause_s := self._take(call, part, attempts, self._post(call, part))) is not None:
                (self._sleep or call.stopped.wait)(pause_s)
                if call.stopped.is_set():
                    return

    def _post(self, call: Call, part: range) -> _Outcome:
        body, limit = bytearray(), wire.size_limit(len(part))
        try:
            with self._open().stream("POST", wire.PATH, **self._message(call, part)) as response:
                for block in response.iter_bytes():
                    body += block
                    if call.left_s() <= 0:
                        return TimeoutError()
                    if len(body) > limit:
                        break
                return Reply(status=response.status_code, headers=response.headers, body=bytes(body))
        except httpx.RequestError as error:
            return error

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._http is None:
                self._http = httpx.Client(base_url=self.url, headers=self._headers(), limits=_LIMITS)
            return self._http

    # -- the same in an event loop ------------------------------------------------------------------------------

    async def _work_async(self, call: Call, wake: asyncio.Event) -> None:
        while (part := call.next_part()) is not None:
            attempts = Attempts(call.patience, self._jitter)
            while (pause_s := self._take(call, part, attempts, await self._post_async(call, part))) is not None:
                if self._async_sleep is not None:
                    await self._async_sleep(pause_s)
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(wake.wait(), pause_s)
                if call.stopped.is_set():
                    return
            if call.stopped.is_set():
                wake.set()

    async def _post_async(self, call: Call, part: range) -> _Outcome:
        body, limit = bytearray(), wire.size_limit(len(part))
        try:
            http = await self._open_async()
            async with (
                asyncio.timeout(max(call.left_s(), 0.0)),
                http.stream("POST", wire.PATH, **self._message(call, part)) as response,
            ):
                async for block in response.aiter_bytes():
                    body += block
                    if len(body) > limit:
                        break
                return Reply(status=response.status_code, headers=response.headers, body=bytes(body))
        except (httpx.RequestError, TimeoutError) as error:
            return error

    async def _open_async(self) -> httpx.AsyncClient:
        """Return the running loop's client: a connection belongs to the loop it was opened in."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for ended in [other for other in self._loops if other.is_closed()]:
                del self._loops[ended]
            if loop in self._loops:
                return self._loops[loop][0]
            http = httpx.AsyncClient(base_url=self.url, headers=self._headers(), limits=_LIMITS)
            keeper = self._closing_with(loop, http)
            self._loops[loop] = http, keeper
        await anext(keeper)
        return http

    async def _closing_with(self, loop: asyncio.AbstractEventLoop, http: httpx.AsyncClient) -> AsyncGenerator[None]:
        """Close a client with its loop: loops end their asynchronous generators before they close."""
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await http.aclose()

    # -- what both share ------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        key = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return {"user-agent": f"gnomonic/{__version__}", "content-type": "application/json", **key}

    def _message(self, call: Call, part: range) -> dict[str, Any]:
        """Return the arguments of httpx's `stream` for one part."""
        return {
            "content": wire.request_body(call.request, part),
            "headers": {"accept": wire.F32 if self._is_ours else "application/json"},
            "timeout": self._timeout(call.patience, max(call.left_s(), 1e-3)),
        }

    @staticmethod
    def _timeout(patience: Patience, left_s: float) -> httpx.Timeout:
        read_s = min(patience.read_s, left_s)
        return httpx.Timeout(connect=min(patience.connect_s, left_s), read=read_s, write=read_s, pool=left_s)

    def _take(self, call: Call, part: range, attempts: Attempts, outcome: _Outcome) -> float | None:
        """Give what came of a request to the call; return the pause before another try, None when there is none."""
        if isinstance(outcome, Reply):
            self._is_ours = wire.is_ours(outcome)
            if outcome.status == 200:
                try:
                    call.finish(part, wire.read_answer(outcome, call.request, part))
                except RemoteError as error:
                    call.fail(error)
                return None
            failure = Failure(
                error=wire.error_of(outcome, call.request, part, self._key),
                tries=tries_of(outcome.status),
                retry_after_s=retry_after_s(outcome.headers.get("retry-after"), now=time.time()),
            )
        else:
            failure = self._lost(call.patience, call.left_s(), outcome)
        pause_s = attempts.pause_s(failure, call.left_s())
        if pause_s is None:
            call.fail(failure.error)
        return pause_s

    def _lost(self, patience: Patience, left_s: float, error: httpx.RequestError | TimeoutError) -> Failure:
        """Say why no answer came. The original exception is not kept: it holds the request with its texts."""
        hint = "check GNOMONIC_API_URL and that the server runs, or use inference_mode 'local'"
        if left_s <= 0:
            message = f"the call took longer than its deadline of {patience.deadline_s:g} s"
            return Failure(error=RemoteTimeoutError(message), tries=Tries.NEVER)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            reason = str(error) or f"no connection within {patience.connect_s:g} s"
            kind = RemoteTimeoutError if isinstance(error, httpx.ConnectTimeout) else RemoteError
            return Failure(error=kind(f"{self.url} cannot be reached: {reason}", hint=hint), tries=Tries.CONNECT)
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            message = f"{self.url} was silent for {patience.read_s:g} s"
            return Failure(error=RemoteTimeoutError(message, hint=hint), tries=Tries.NEVER)
        if isinstance(error, httpx.TransportError):
            message = f"the connection to {self.url} broke off: {str(error) or type(error).__name__}"
            return Failure(error=RemoteError(message, hint=hint), tries=Tries.OFTEN)
        message = f"{self.url} answered with something unreadable ({type(error).__name__})"
        return Failure(error=RemoteError(message, hint=hint), tries=Tries.NEVER)


_clients: WeakSet[RemoteClient] = WeakSet()
_kept: dict[tuple[str, str | None], RemoteClient] = {}
_kept_lock = threading.Lock()


def remote_client(base_url: str, api_key: str | None) -> RemoteClient:
    """Return the client of an address and key, the same for every call.

    Raises:
        ConfigError: the address or the key is not usable.
    """
    with _kept_lock:
        client = _kept.get((base_url, api_key))
        if client is None:
            client = _kept[base_url, api_key] = RemoteClient(base_url, api_key)
        return client


def _after_fork() -> None:
    global _kept_lock
    _kept_lock = threading.Lock()
    for client in list(_clients):
        client._leave_to_parent()


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
