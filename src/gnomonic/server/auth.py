"""API keys: a JSON file of hashes, the commands that change it, and the check of every request.

```
{"version": 1, "keys": [{"id": "3f9c…", "name": "search service", "salt": "…", "sha256": "…",
                         "created": "2026-11-20T09:30:00Z", "requests_per_minute": 600, "revoked": null,
                         "organization": "local"}]}
```

A key is `nk-` and 43 characters: 256 random bits. Nobody guesses those, however fast a guess can be tried, so a single
salted SHA-256 protects the file; slow hashes are for passwords people choose, and would cost every request. The id is a
second, truncated hash of the key, so that a key leads to its one entry without trying them all, and ids may stand in
logs: nothing of a key can be read from one. The hash is then compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gnomonic.errors import AuthenticationError, ConfigError, InputError

__all__ = ["KeyEntry", "KeyRing", "create_key", "list_keys", "revoke_key"]

logger = logging.getLogger(__name__)

_VERSION = 1
_SECRET = re.compile(r"nk-[A-Za-z0-9_-]{43}")
_ORGANIZATION = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_CHECK_EVERY_S = 1.0
_HOW_TO_SEND = "send it as 'Authorization: Bearer nk-…'; `gnomonic keys create NAME` makes one"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyEntry:
    """What the file knows of one key."""

    id: str
    """12 hex digits; public, stands in logs."""
    name: str
    salt: str
    """16 bytes in hex."""
    sha256: str
    """Of salt and key, in hex."""
    created: str
    """UTC, as 2026-11-20T09:30:00Z."""
    requests_per_minute: int | None = None
    """None for no limit."""
    revoked: str | None = None
    """When; None while the key is good."""
    organization: str = "local"
    """Whose datasets it opens; several keys may have the same."""


def create_key(
    path: Path, name: str, *, requests_per_minute: int | None = None, organization: str = "local"
) -> tuple[KeyEntry, str]:
    """Add a key to the file, which is made if it is not there.

    Args:
        path: the file of keys.
        name: what the key is for; any short text.
        requests_per_minute: how often it may be used; None for no limit.
        organization: whose datasets it opens, in small letters, digits and hyphens.

    Returns:
        The entry, and the key itself, which is stored nowhere.

    Raises:
        InputError: the name is empty or not printable, the limit is below 1, or the organisation is no slug.
        ConfigError: the file is unreadable or cannot be written.
    """
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise InputError(f"key name {name[:100]!r} is not usable; give 1 to 100 printable characters")
    if requests_per_minute is not None and requests_per_minute < 1:
        raise InputError(f"requests_per_minute {requests_per_minute} is below 1; leave it out for no limit")
    if not _ORGANIZATION.fullmatch(organization):
        raise InputError(f"organization {organization[:100]!r} is not usable; give 1 to 100 of a to z, digits and -")
    with _alone(path):
        entries = list_keys(path) if path.exists() else []
        taken = {entry.id for entry in entries}
        secret = _new_secret()
        while _id_of(secret) in taken:
            secret = _new_secret()
        salt = secrets.token_hex(16)
        entry = KeyEntry(
            id=_id_of(secret),
            name=name,
            salt=salt,
            sha256=_hash(salt, secret),
            created=_now(),
            requests_per_minute=requests_per_minute,
            organization=organization,
        )
        _write(path, [*entries, entry])
    return entry, secret


def list_keys(path: Path) -> list[KeyEntry]:
    """Read the file, revoked keys included, in the order they were made.

    Raises:
        ConfigError: the file is absent, unreadable or not a file of keys.
    """
    return _read(path)[0]


def revoke_key(path: Path, key_id: str) -> KeyEntry:
    """Mark a key as no longer good; running servers notice within a second or two.

    Args:
        path: the file of keys.
        key_id: as `list_keys` shows it.

    Returns:
        The entry as it is now; a key revoked before keeps its time.

    Raises:
        InputError: no key has this id.
        ConfigError: the file is unreadable or cannot be written.
    """
    with _alone(path):
        entries = list_keys(path)
        found = next((entry for entry in entries if entry.id == key_id), None)
        if found is None:
            raise InputError(f"no key in {path} has the id {key_id[:40]!r}; `gnomonic keys list` shows the ids")
        revoked = found if found.revoked else replace(found, revoked=_now())
        _write(path, [revoked if entry is found else entry for entry in entries])
    return revoked


class KeyRing:
    """The keys of a file, read again when the file changes.

    Args:
        path: the file of keys.
        clock: seconds of a steady clock; the file is looked at once a second at most.

    Raises:
        ConfigError: the file is absent, unreadable or not a file of keys. Once the ring is up, such a file is logged
            and the keys read last stay good: an editor's slip must not lock everybody out, or let anybody in.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._seen: _Signature | None
        entries, self._seen = _read(path)
        self._entries = {entry.id: entry for entry in entries}
        self._looked = clock()

    def __len__(self) -> int:
        return sum(entry.revoked is None for entry in self._entries.values())

    def check(self, headers: Mapping[str, str]) -> KeyEntry:
        """Return the entry of the key a request carries.

        Args:
            headers: lower-case names; `authorization` (Bearer) counts first, then `x-api-key`.

        Raises:
            AuthenticationError: there is no key, or it is unknown or revoked; the message never holds the key.
        """
        self._refresh()
        secret = _secret_of(headers)
        if not secret:
            raise AuthenticationError("this server needs an API key and the request has none", status=401,
                                      hint=_HOW_TO_SEND)  # fmt: skip
        # The form is settled before anything is computed from it: a header may hold 64 KB.
        entry = self._entries.get(_id_of(secret)) if _SECRET.fullmatch(secret) else None
        if entry is None or not hmac.compare_digest(_hash(entry.salt, secret), entry.sha256):
            raise AuthenticationError("the API key is not one of this server's", status=401, hint=_HOW_TO_SEND)
        if entry.revoked:
            raise AuthenticationError(f"the API key {entry.id} was revoked on {entry.revoked}", status=401)
        return entry

    def _refresh(self) -> None:
        now = self._clock()
        if 0 <= now - self._looked < _CHECK_EVERY_S:
            return
        self._looked = now
        seen = _signature(self.path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            entries, self._seen = _read(self.path)
        except ConfigError as error:
            logger.error("the API keys read before stay in force: %s", error)
            return
        self._entries = {entry.id: entry for entry in entries}
        logger.info("read %d API keys from %s", len(entries), self.path)


def _secret_of(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "").strip()


def _new_secret() -> str:
    return f"nk-{secrets.token_urlsafe(32)}"


def _id_of(secret: str) -> str:
    # The prefix keeps this hash apart from the stored one, which an id must not reveal a part of.
    return hashlib.sha256(f"gnomonic key id:{secret}".encode()).hexdigest()[:12]


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}:{secret}".encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_Signature = tuple[int, int, int]


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(path: Path) -> tuple[list[KeyEntry], _Signature]:
    """Read the file and what to recognise this state of it by."""
    try:
        with path.open("rb") as stream:
            # Of the open file: the name may stand for another one by now.
            status = os.fstat(stream.fileno())
            raw = stream.read()
    except FileNotFoundError:
        raise ConfigError(
            f"the file of API keys {path} does not exist", hint=f"gnomonic keys create NAME --file {path}"
        ) from None
    except OSError as error:
        raise ConfigError(f"the file of API keys {path} cannot be read: {error.strerror or error}") from error
    try:
        document = json.loads(raw)
    except ValueError as error:  # the text is left out: it holds hashes
        raise ConfigError(f"the file of API keys {path} is not JSON ({type(error).__name__})") from None
    return _parse(document, path), (status.st_mtime_ns, status.st_size, status.st_ino)


def _parse(document: Any, path: Path) -> list[KeyEntry]:
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ConfigError(f"{path}: there is no list 'keys'; `gnomonic keys create` writes this file")
    if document.get("version") != _VERSION:
        raise ConfigError(f"{path}: version is {document.get('version')!r}; this release reads version {_VERSION}")
    entries = [_entry(raw, f"{path}: keys[{index}]") for index, raw in enumerate(document["keys"])]
    if len({entry.id for entry in entries}) < len(entries):
        raise ConfigError(f"{path}: two keys have the same id; remove one of them")
    return entries


def _entry(raw: Any, place: str) -> KeyEntry:
    if not isinstance(raw, dict):
        raise ConfigError(f"{place} is not an object")
    names = {field.name for field in fields(KeyEntry)}
    required = names - {"requests_per_minute", "revoked", "organization"}
    if unknown := sorted(map(str, raw.keys() - names)):
        raise ConfigError(f"{place}.{unknown[0]} is unknown; the fields are {', '.join(sorted(names))}")
    if missing := sorted(required - raw.keys()):
        raise ConfigError(f"{place}.{missing[0]} is missing")
    for name in sorted(required | ({"revoked"} if raw.get("revoked") is not None else set())):
        if not isinstance(raw[name], str):
            raise ConfigError(f"{place}.{name} is not a string")
    limit = raw.get("requests_per_minute")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"{place}.requests_per_minute is not a whole number of at least 1, or null")
    if not re.fullmatch(r"[0-9a-f]{12}", raw["id"]) or not re.fullmatch(r"[0-9a-f]{64}", raw["sha256"]):
        raise ConfigError(f"{place}: id must be 12 hex digits and sha256 64; `gnomonic keys create` writes entries")
    if not isinstance(organization := raw.get("organization", "local"), str) or not _ORGANIZATION.fullmatch(
        organization
    ):
        raise ConfigError(f"{place}.organization is not 1 to 100 of a to z, digits and hyphens")
    return KeyEntry(**raw)


def _write(path: Path, entries: Sequence[KeyEntry]) -> None:
    """Replace the file as a whole, so that a reader or a crash never meets half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    content = json.dumps({"version": _VERSION, "keys": [asdict(entry) for entry in entries]}, indent=1) + "\n"
    try:
        with suppress(FileNotFoundError):  # left by a process that was killed
            fresh.unlink()
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            _keep_owner(stream.fileno(), path)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_writable(path, error) from error


def _keep_owner(descriptor: int, path: Path) -> None:
    """Leave the file to those it belonged to: root may change the keys of a service that runs as somebody else."""
    with suppress(OSError, AttributeError):
        before = path.stat()
        os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, before.st_mode & 0o640)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock against another process that changes the same file.

    The lock is a file of its own, because the file of keys is replaced by another one.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("ab")
    except OSError as error:
        raise _not_writable(path, error) from error
    with lock:
        with suppress(ImportError):  # Windows
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _not_writable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the file of API keys {path} cannot be written: {error.strerror or error}",
        hint="choose another place with --file, or run the command as the user who owns it",
    )
