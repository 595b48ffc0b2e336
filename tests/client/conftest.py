from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gnomonic import embed
from gnomonic.client import remote
from gnomonic.client.remote import RemoteClient
from gnomonic.inference.encoder import TextEncoder
from tests.client.fake_server import FakeServer, serving


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, fake_encoder: TextEncoder) -> Iterator[list[Any]]:
    """Open the fake encoder whatever is asked for; record what was."""
    calls: list[Any] = []

    def fake_load(model: Any, *, device: str | None = None, precision: str | None = None) -> TextEncoder:
        calls.append((model, device, precision))
        return fake_encoder

    monkeypatch.setattr("gnomonic.inference.load.load", fake_load)
    embed.free()
    yield calls
    embed.free()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that answers well unless its script says otherwise."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(remote, "_kept", {})
    with serving(FakeServer()) as fake:
        yield fake
        for client in remote._kept.values():
            client.close()


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that the clients of `make_client` made."""
    return []


@pytest.fixture
def make_client(server: FakeServer, pauses: list[float]) -> Iterator[Callable[..., RemoteClient]]:
    """Return `make(api_key=None, **options)`: a client of the server that notes its pauses and makes none."""
    made: list[RemoteClient] = []

    async def asleep(seconds: float) -> None:
        pauses.append(seconds)

    def make(api_key: str | None = None, **options: Any) -> RemoteClient:
        defaults = {"sleep": pauses.append, "async_sleep": asleep, "jitter": lambda: 0.0}
        made.append(RemoteClient(server.url, api_key, **{**defaults, **options}))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(params=["embed", "aembed"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return `ask(client, request, **options)`, once by thread and once by event loop."""
    import asyncio

    def run(client: RemoteClient, *arguments: Any, **options: Any) -> Any:
        if request.param == "embed":
            return client.embed(*arguments, **options)
        return asyncio.run(client.aembed(*arguments, **options))

    return run
