"""What is said to an embedding server and how its answers are read: bytes to our types, without any network.

The request is the one of Nomic's embedding API. A server of ours may answer with the vectors' bytes instead of JSON.
Nothing an answer holds is trusted: number of rows, size, finite values and unit length are checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gnomonic.catalog import ModelSpec, known_models
from gnomonic.errors import (
    AuthenticationError,
    ConfigError,
    GnomonicError,
    InputError,
    RateLimitError,
    RemoteError,
    RemoteTimeoutError,
    TooLargeError,
    UnknownModelError,
)
from gnomonic.types import EmbedRequest

__all__ = [
    "F32",
    "MAX_DIM",
    "PATH",
    "Answer",
    "Reply",
    "catalog_model",
    "check_key",
    "check_url",
    "error_of",
    "is_loopback",
    "is_ours",
    "read_answer",
    "request_body",
    "size_limit",
    "split",
]

PATH = "/v1/embedding/text"
F32 = "application/x-gnomonic-f32"
"""The media type of vectors as little-endian float32, row after row."""
MAX_DIM = 8192
"""No answer with longer vectors is read."""

_PART_TEXTS = 64
_PART_CHARACTERS = 20_000
_UNIT_TOLERANCE = 1e-3
_JSON_BYTES_PER_VALUE = 32
_SPARE_BYTES = 1 << 16
_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Found whatever their case."""
    body: bytes

    @property
    def request_id(self) -> str | None:
        """The service's name for the request."""
        return self.headers.get("x-request-id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The vectors of one part of a call."""

    vectors: NDArray[np.float32]
    """[texts, dim] float32, rows of unit length."""
    model: str
    prompt_tokens: int
    total_tokens: int
    truncated: tuple[int, ...]
    """Indices within the part, ascending."""
    truncated_count: int
    """At least the number of those; more when the server shortened its list."""
    fingerprint: str
    """What the server says its weights and arithmetic are; empty when it does not."""


def check_url(url: str) -> str:
    """Return a server's address without a trailing slash or `/v1`.

    Raises:
        ConfigError: not an http or https address, or one with a password, a query or a fragment in it.
    """
    way = "set GNOMONIC_API_URL to one such as https://embed.example.org or http://127.0.0.1:8000"
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except (ValueError, AttributeError):
        raise ConfigError(f"the server's address is no URL; {way}") from None
    if parts.username or parts.password:
        raise ConfigError(f"the server's address holds a user or a password; put the key into GNOMONIC_API_KEY; {way}")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"the server's address {url[:80]!r} must start with http:// or https:// and a host; {way}")
    if parts.query or parts.fragment:
        raise ConfigError(f"the server's address holds a query or a fragment after {host}; {way}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def check_key(key: str | None) -> str | None:
    """Return a key without white space around it, None when nothing is left.

    Raises:
        ConfigError: it holds what no HTTP header can; the message does not show it.
    """
    bare = (key or "").strip()
    if any(not "!" <= character <= "~" for character in bare):
        raise ConfigError("the API key holds white space or a character beyond ASCII; set GNOMONIC_API_KEY again")
    return bare or None


def is_loopback(url: str) -> bool:
    """Tell whether an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def split(texts: Sequence[str]) -> list[range]:
    """Cut texts into requests of about 64 texts or 20,000 characters; a longer text is alone."""
    parts, begin, characters = [], 0, 0
    for index, text in enumerate(texts):
        if index > begin and (index - begin == _PART_TEXTS or characters + len(text) > _PART_CHARACTERS):
            parts.append(range(begin, index))
            begin, characters = index, 0
        characters += len(text)
    return [*parts, range(begin, len(texts))] if texts else []


def request_body(request: EmbedRequest, part: range) -> bytes:
    """Return the JSON body that asks for some of a request's texts."""
    fields = {
        "model": request.model,
        "texts": request.texts[part.start : part.stop],
        "task_type": request.task_type,
        "dimensionality": request.dim,
        "long_text_mode": request.long_text_mode,
        "max_tokens_per_text": request.max_tokens_per_text,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def size_limit(rows: int) -> int:
    """Return how many bytes an answer of so many rows may have."""
    return _SPARE_BYTES + rows * MAX_DIM * _JSON_BYTES_PER_VALUE


def is_ours(reply: Reply) -> bool:
    """Tell whether a Gnomonic server answered."""
    return "x-gnomonic-version" in reply.headers


def catalog_model(name: str) -> ModelSpec | None:
    """Return the catalog's entry of a model's name; None when it has none."""
    return known_models().get(name.removeprefix("nomic-ai/"))


def read_answer(reply: Reply, request: EmbedRequest, part: range) -> Answer:
    """Read and check the answer to the request for some of the texts.

    Raises:
        RemoteError: the answer is unreadable, or does not hold one finite unit vector for each text.
    """
    try:
        is_raw = reply.headers.get("content-type", "").partition(";")[0].strip().lower() == F32
        vectors, model, usage = _read_rows(reply) if is_raw else _read_json(reply)
        truncated, count = _read_truncated(reply.headers, len(part))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        # The reason alone: the body may hold anything.
        raise _wrong(reply, f"something unreadable ({type(error).__name__})") from error
    _check_vectors(reply, vectors, request, len(part))
    asked, answered = catalog_model(request.model), catalog_model(model)
    if asked and answered and asked is not answered:
        raise _wrong(reply, f"vectors of {answered.name} instead of {asked.name}")
    return Answer(
        vectors=vectors,
        model=model,
        prompt_tokens=usage[0],
        total_tokens=usage[1],
        truncated=truncated,
        truncated_count=count,
        fingerprint=reply.headers.get("x-gnomonic-fingerprint", ""),
    )


def _wrong(reply: Reply, what: str) -> RemoteError:
    return RemoteError(
        f"the server answered with {what}",
        status=reply.status,
        request_id=reply.request_id,
        hint="GNOMONIC_API_URL must be a Gnomonic server or Nomic's embedding API",
    )


def _read_rows(reply: Reply) -> tuple[NDArray[np.float32], str, tuple[int, int]]:
    """Read vectors [rows, dim] given as bytes, the model's name and the usage, which are headers."""
    headers = reply.headers
    rows, dim, tokens = (_count(headers[f"x-gnomonic-{name}"]) for name in ("rows", "dim", "prompt-tokens"))
    flat = np.frombuffer(reply.body, dtype="<f4").astype(np.float32)
    return flat.reshape(rows, dim), headers["x-gnomonic-model"], (tokens, tokens)


def _read_json(reply: Reply) -> tuple[NDArray[np.float32], str, tuple[int, int]]:
    body = json.loads(reply.body)
    with np.errstate(over="ignore"):  # an infinity is refused later
        vectors = np.array(body["embeddings"], dtype=np.float32)
    usage = body["usage"]
    tokens = tuple(usage[name] for name in ("prompt_tokens", "total_tokens"))
    # Ours says the model's own name there, and in the body the one that was asked for.
    model = reply.headers.get("x-gnomonic-model") or body["model"]
    if not isinstance(model, str) or any(type(count) is not int or count < 0 for count in tokens):
        raise ValueError("model or usage")
    return vectors, model, (tokens[0], tokens[1])


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise ValueError("not a count")
    return int(text)


def _read_truncated(headers: Mapping[str, str], rows: int) -> tuple[tuple[int, ...], int]:
    """Return the truncated texts that are named, and how many there are."""
    named = headers.get("x-gnomonic-truncated", "").replace(" ", "")
    indices = sorted({_count(index) for index in named.split(",")} if named else ())
    count = _count(headers.get("x-gnomonic-truncated-count", str(len(indices))))
    if any(index >= rows for index in indices) or count > rows:
        raise ValueError("truncated")
    return tuple(indices), max(count, len(indices))


def _check_vectors(reply: Reply, vectors: NDArray[np.float32], request: EmbedRequest, rows: int) -> None:
    if vectors.ndim != 2 or len(vectors) != rows:
        found = f"{len(vectors)} vectors" if vectors.ndim == 2 else "no list of vectors"
        raise _wrong(reply, f"{found} for {rows} texts")
    spec = catalog_model(request.model)
    dim = request.dim or (spec.hidden_size if spec else vectors.shape[1])
    if vectors.shape[1] != dim or not 1 <= dim <= MAX_DIM:
        raise _wrong(reply, f"vectors of {vectors.shape[1]} values instead of {dim}")
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = ~(np.abs(norms - 1) <= _UNIT_TOLERANCE)  # so written, NaN and infinity are bad as well
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        what = "whose length is not 1" if np.isfinite(vectors[index]).all() else "with values that are not finite"
        raise _wrong(reply, f"{int(bad.sum())} vectors {what}, the first for text {index} of {rows}")


def error_of(reply: Reply, request: EmbedRequest, part: range, key: str | None) -> GnomonicError:
    """Return the error that an answer stands for, whichever dialect it is written in.

    Args:
        reply: with a status other than 200.
        request: what was asked.
        part: the texts it was asked for; the indices in a message are made those of the whole call.
        key: taken out of the message, should the server repeat it.
    """
    status, request_id = reply.status, reply.request_id
    message, place = _message(reply.body)
    if key:
        message = message.replace(key, "…")
    message = re.sub(r"\btexts\[(\d{1,6})\]", lambda found: f"texts[{int(found[1]) + part.start}]", message)
    said = f"the server answered {status}" + (f": {message}" if message else "")
    if status in (401, 403):
        hint = "set GNOMONIC_API_KEY to a key of this server" if not key else "GNOMONIC_API_KEY is not valid there"
        return AuthenticationError(said, status=status, request_id=request_id, hint=hint)
    if status == 429:
        hint = "send fewer texts at a time, or try again later"
        return RateLimitError(said, status=status, request_id=request_id, hint=hint)
    if status in (408, 504):
        return RemoteTimeoutError(said, status=status, request_id=request_id)
    if status == 404 and message.lower().rstrip(".") in ("", "not found"):
        hint = f"there is no {PATH} at GNOMONIC_API_URL; give the address before that path"
        return RemoteError(said, status=status, request_id=request_id, hint=hint)
    if status == 404 or (status in (400, 422) and place == "model"):
        return UnknownModelError(f"the server does not have model {request.model!r}: {message}")
    if status == 413:
        return TooLargeError(said)
    if status in (400, 422):
        return InputError(said)
    hint = "set GNOMONIC_API_URL to the address it redirects to" if 300 <= status < 400 else ""
    return RemoteError(said, status=status, request_id=request_id, hint=hint)


def _message(body: bytes) -> tuple[str, str]:
    """Return what an error's body says, in one line, and the field it is about; empty where it says nothing known.

    The shapes: `{"detail": str}`, `{"detail": [{"loc", "msg"}]}`, `{"error": str}`, `{"error": {"message"}}`,
    `{"message": str}`.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(fields, dict):
        return "", ""
    said: Any = fields.get("detail") or fields.get("error") or fields.get("message")
    place = ""
    if isinstance(said, list) and said and isinstance(said[0], dict):
        loc = said[0].get("loc")
        place = _place(loc) if isinstance(loc, list) else ""
        said = said[0].get("msg")
        if place and isinstance(said, str) and not said.startswith(place):
            said = f"{place}: {said}"
    if isinstance(said, dict):
        place = said["param"] if isinstance(said.get("param"), str) else ""
        said = said.get("message")
    line = " ".join(said.split()) if isinstance(said, str) else ""
    return (line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 1] + "…"), place


def _place(loc: Sequence[object]) -> str:
    """Write `["body", "texts", 3]` as `texts[3]`."""
    names = [f"[{name}]" if isinstance(name, int) else f".{name}" for name in loc if name != "body"]
    return "".join(names).removeprefix(".")[:80]
