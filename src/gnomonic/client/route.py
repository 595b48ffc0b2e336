"""Where one call goes, to this machine or to the server, and what is learnt from it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gnomonic.catalog import ModelSpec, known_models
from gnomonic.client import local
from gnomonic.client.choose import PRIOR_REMOTE, Speed, Work, choose, prior_local
from gnomonic.client.speeds import Speeds, local_key, remote_key, speeds_in
from gnomonic.errors import (
    AuthenticationError,
    ConfigError,
    GnomonicError,
    InputError,
    PartialFailureError,
    RemoteError,
    UnknownModelError,
)
from gnomonic.settings import Settings, read_settings
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode, TaskType

if TYPE_CHECKING:
    from gnomonic.client.remote import RemoteClient
    from gnomonic.client.retries import Patience

__all__ = ["Asked", "Route", "find_route"]

_MODES = ("dynamic", "local", "remote")
_UNREACHABLE_S = 60.0
_LACKS_MODEL_S = 600.0
_DEFAULT_LIMIT = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a caller asked for, nothing checked yet."""

    texts: Iterable[str]
    model: str | os.PathLike[str]
    device: str | None
    options: Mapping[str, Any]
    """The keyword arguments of `TextEncoder.encode`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measures:
    """What a call adds to: the speeds, and where its own are among them."""

    speeds: Speeds
    work: Work
    url: str
    remote_key: str
    local_key: str
    local_prior: Speed | None
    """None when the model cannot be run here, or is not to be."""
    is_here: bool
    """Nothing has to be downloaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A call on its way."""

    mode: Literal["local", "remote"]
    asked: Asked
    measures: _Measures | None = None
    """None where there is nothing to choose between."""
    may_fall_back: bool = False
    client: RemoteClient | None = None
    request: EmbedRequest | None = None

    def local(self) -> Embeddings:
        """Embed on this machine.

        Raises:
            GnomonicError: whatever `gnomonic.load` and `TextEncoder.encode` raise.
        """
        asked, measures = self.asked, self.measures
        opens = measures is not None and not local.is_open(asked.model, device=asked.device)
        began = time.perf_counter()
        encoder = local.text_encoder(asked.model, device=asked.device)
        opened = time.perf_counter()
        found = encoder.encode(asked.texts, **asked.options)
        if measures is not None and measures.local_prior is not None:
            seconds, open_s = time.perf_counter() - opened, opened - began if opens else None
            key, prior = measures.local_key, measures.local_prior
            measures.speeds.learn(key, prior, measures.work, seconds, open_s=open_s)
        return found

    def remote(self) -> Embeddings:
        """Embed on the server.

        Raises:
            GnomonicError: whatever `RemoteClient.embed` raises.
        """
        client, request = self._server()
        began = time.perf_counter()
        found = client.embed(request, patience=self._patience())
        self._learn_remote(time.perf_counter() - began)
        return found

    async def aremote(self) -> Embeddings:
        """Embed on the server, in an event loop.

        Raises:
            GnomonicError: whatever `RemoteClient.embed` raises.
        """
        client, request = self._server()
        began = time.perf_counter()
        found = await client.aembed(request, patience=self._patience())
        self._learn_remote(time.perf_counter() - began)
        return found

    def fall_back(self, error: GnomonicError) -> None:
        """Return when the call, failed on the server, goes on here; leave the server alone for a while.

        Raises:
            GnomonicError: the error itself, where it is not about reaching the server, or the caller chose the server.
        """
        if not self.may_fall_back or self.measures is None or isinstance(error, PartialFailureError):
            raise error
        status = getattr(error, "status", None)
        if isinstance(error, UnknownModelError):
            key, seconds = self.measures.remote_key, _LACKS_MODEL_S
        elif (
            isinstance(error, RemoteError)
            and not isinstance(error, AuthenticationError)
            and (status is None or status in (408, 429) or status >= 500)
        ):
            key, seconds = self.measures.url, _UNREACHABLE_S
        else:
            raise error
        self.measures.speeds.shun(key, seconds)
        # The third frame is the caller's: this one, that of `text` or `atext`, then theirs.
        warnings.warn(f"embedding on this machine for {seconds:g} s: {error}", UserWarning, stacklevel=3)

    def _server(self) -> tuple[RemoteClient, EmbedRequest]:
        assert self.client is not None
        assert self.request is not None
        return self.client, self.request

    def _patience(self) -> Patience | None:
        """Do not wait for a server that is away or busy where this machine can do the work."""
        from gnomonic.client.retries import Patience

        if not self.may_fall_back:
            return None
        return Patience(attempts=2, connect_attempts=1, connect_s=3.0, max_retry_after_s=1.0, read_s=60.0)

    def _learn_remote(self, seconds: float) -> None:
        if self.measures is not None:
            self.measures.speeds.learn(self.measures.remote_key, PRIOR_REMOTE, self.measures.work, seconds)


def find_route(asked: Asked, mode: str) -> Route:
    """Decide where a call goes.

    Args:
        asked: what the caller asked for.
        mode: "local", "remote" or "dynamic".

    Raises:
        InputError: the mode is unknown, or what was asked for cannot be done on a server.
        ConfigError: there is no server for mode "remote", or a setting is not usable.
    """
    if mode not in _MODES:
        raise InputError(f"inference_mode {mode!r} is unknown; choose one of {', '.join(_MODES)}")
    settings = read_settings()
    if mode == "remote":
        _check_remote(asked, settings)
    if settings.api_url is None or asked.device is not None or _is_local_only(asked.model):
        return Route(mode="local", asked=asked)
    texts = local.check_texts(asked.texts)
    asked = replace(asked, texts=texts)
    standing = None if mode == "remote" else local.standing(str(asked.model), settings)
    measures = _measures(asked, texts, settings, standing)
    where = mode if mode != "dynamic" else _choose(asked, measures)
    if where == "local":
        return Route(mode="local", asked=asked, measures=measures)
    from gnomonic.client.remote import remote_client

    return Route(
        mode="remote",
        asked=asked,
        measures=measures,
        may_fall_back=mode == "dynamic" and measures.local_prior is not None,
        client=remote_client(settings.api_url, settings.api_key),
        request=_request(asked),
    )


def _check_remote(asked: Asked, settings: Settings) -> None:
    if settings.api_url is None:
        raise ConfigError(
            "inference_mode 'remote' has no server to ask: GNOMONIC_API_URL is not set; "
            "set it, or use inference_mode 'local' or 'dynamic'"
        )
    if asked.device is not None:
        raise InputError(
            f"device {asked.device!r} cannot be used with inference_mode 'remote': the server chooses its own; "
            "leave it out, or use inference_mode 'local'"
        )
    if not isinstance(asked.model, str | os.PathLike):
        raise InputError(f"model is of type {type(asked.model).__name__}; pass the name of a model on the server")
    if isinstance(asked.model, os.PathLike) or _is_path(asked.model):
        raise InputError(
            f"model {os.fspath(asked.model)!r} is a folder of this machine, which a server cannot open; "
            "pass a name the server knows, or use inference_mode 'local'"
        )
    spec = known_models().get(asked.model.removeprefix("nomic-ai/"))
    if spec is not None and spec.kind != "text":
        raise InputError(f"{spec.name} embeds images; choose a text model")
    if not asked.model.strip() or not asked.model.isprintable():
        raise UnknownModelError(f"model {asked.model[:80]!r} is not a name; known models: {', '.join(known_models())}")


def _is_path(model: str) -> bool:
    name = model.removeprefix("nomic-ai/")
    return name.startswith((".", "~")) or "/" in name or "\\" in name


def _is_local_only(model: str | os.PathLike[str]) -> bool:
    """Tell whether a server is not to be asked: the model is a folder, or no text model at all."""
    if not isinstance(model, str) or not model.isprintable() or not model.strip() or _is_path(model):
        return True
    spec = known_models().get(model.removeprefix("nomic-ai/"))
    if spec is not None:
        return spec.kind != "text"
    try:
        return Path(model).is_dir()
    except OSError:  # too long for a path
        return False


def _measures(asked: Asked, texts: list[str], settings: Settings, standing: local.Standing | None) -> _Measures:
    name = str(asked.model).removeprefix("nomic-ai/")
    spec = known_models().get(name)
    limit = asked.options["max_tokens_per_text"]
    limit = limit if isinstance(limit, int) and limit > 0 else _DEFAULT_LIMIT  # checked where it is used
    prior, threads = None, 1
    if standing is not None:
        threads = standing.threads
        prior = prior_local(standing.parameters, threads, download=not standing.here)
    url = settings.api_url or ""
    return _Measures(
        speeds=speeds_in(settings.cache_dir),
        work=Work.of(texts, min(limit, spec.max_tokens) if spec else limit),
        url=url,
        remote_key=remote_key(url, name),
        local_key=local_key(name, asked.device, threads),
        local_prior=prior,
        is_here=standing is not None and standing.here,
    )


def _choose(asked: Asked, measures: _Measures) -> Literal["local", "remote"]:
    if measures.local_prior is None:
        return "remote"
    speeds = measures.speeds
    here = speeds.speed(measures.local_key, measures.local_prior)
    if local.is_open(asked.model, device=asked.device):
        here = replace(here, open_s=0.0)
    elif not measures.is_here:  # whatever opening took when it was
        here = replace(here, open_s=measures.local_prior.open_s)
    is_away = speeds.is_shunned(measures.url) or speeds.is_shunned(measures.remote_key)
    there = None if is_away else speeds.speed(measures.remote_key, PRIOR_REMOTE)
    return choose(measures.work, here, there).mode


def _request(asked: Asked) -> EmbedRequest:
    """Check the options as far as this side can, and put them into a request."""
    from gnomonic.client.wire import MAX_DIM

    name = str(asked.model).removeprefix("nomic-ai/")
    # What the catalog does not know is checked by the server.
    spec = known_models().get(name) or ModelSpec(name=str(asked.model), hidden_size=MAX_DIM, dims=(1,))
    local.check_options(spec, asked.options)
    dim = asked.options["dim"]
    return EmbedRequest(
        texts=tuple(asked.texts),
        model=spec.name,
        task_type=TaskType.parse(asked.options["task_type"]),
        dim=None if dim is None else int(dim),
        long_text_mode=LongTextMode.parse(asked.options["long_text_mode"]),
        max_tokens_per_text=int(asked.options["max_tokens_per_text"]),
    )
