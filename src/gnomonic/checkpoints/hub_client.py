"""The model hub over HTTP: what a revision holds, and one file of it, resumed and checked.

Two routes are used: `GET /api/models/REPO/revision/REV?blobs=true` names the commit with each file's size and
digest (sha256 for large files, the git blob sha1 for the others), and `GET /REPO/resolve/COMMIT/FILE` serves its
bytes, with `Range`. Why httpx and not huggingface_hub: docs/decisions/0003-model-downloads.md.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from gnomonic.errors import CheckpointError

if TYPE_CHECKING:
    import httpx

__all__ = ["HubClient", "OnProgress", "RemoteFile", "Snapshot", "sha256_of", "writing"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

OnProgress = Callable[[str, int, int], None]
"""Called with (file, done_bytes, total_bytes)."""

TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Tries without a single new byte before giving up."""
BACKOFF_S = 0.5
"""First pause between tries; doubles each time."""
MAX_PAUSE_S = 30.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses worth another try."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file of a repository as the hub describes it."""

    name: str
    size_bytes: int
    sha256: str = ""
    """In hex; empty for files that are not in large-file storage."""
    git_sha1: str = ""
    """Hex digest of the git blob; empty when the hub does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """One commit of a repository."""

    repo: str
    commit: str
    files: Mapping[str, RemoteFile]


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into the cache into one error with a way out.

    Raises:
        CheckpointError: no space is left, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"no space left on the disk of {path}",
                hint="free some space or set GNOMONIC_CACHE to a larger disk; what has arrived is kept",
            ) from error
        raise CheckpointError(
            f"the model cache cannot be written at {path}: {error.strerror or error}",
            hint="set GNOMONIC_CACHE to a folder you can write to, or pass a folder with the model's files",
        ) from error


class _PassingError(Exception):
    """A failure worth another try."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HubClient:
    """A connection to a hub; use it as a context manager."""

    def __init__(self, url: str, token: str | None = None) -> None:
        import httpx

        if not url.startswith(("https://", "http://")):
            raise CheckpointError(f"the hub's address HF_ENDPOINT={url!r} must start with https:// or http://")
        # identity: a length and a Range must count the file's own bytes, not compressed ones.
        headers = {"User-Agent": "gnomonic", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def snapshot(self, repo: str, revision: str) -> Snapshot:
        """Ask what a revision holds.

        Args:
            repo: such as "nomic-ai/nomic-embed-text-v1.5".
            revision: a commit, branch or tag.

        Raises:
            CheckpointError: there is no such repository or revision, or the hub does not answer.
        """
        what = f"{repo} at revision {revision}"
        url = f"{self.url}/api/models/{repo}/revision/{quote(revision, safe='')}"

        def ask() -> Any:
            response = self._http.get(url, params={"blobs": "true"})
            self._check(response, what=what)
            return response.json()

        try:
            body = self._persist(ask, what=what)
            files = [_remote_file(entry) for entry in body["siblings"]]
            commit = str(body["sha"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"the hub {self.url} answered for {what} with something unreadable",
                hint="HF_ENDPOINT must be a model hub or a mirror with its API",
            ) from error
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise CheckpointError(f"the hub {self.url} calls {commit!r} the commit of {what}: not 40 hex digits")
        return Snapshot(repo=repo, commit=commit, files={file.name: file for file in files})

    def download(self, snapshot: Snapshot, file: RemoteFile, target: Path, on_progress: OnProgress) -> None:
        """Write one file to `target`, going on where an earlier try stopped, and check its digest.

        Args:
            snapshot: the commit to read from.
            file: one of its files.
            target: may hold the first bytes already.
            on_progress: called with (file, done_bytes, total_bytes).

        Raises:
            CheckpointError: the hub fails, the bytes differ from the digest, or they cannot be written.
        """
        url = f"{self.url}/{snapshot.repo}/resolve/{snapshot.commit}/{quote(file.name)}"
        resumed = target.exists() and target.stat().st_size > 0
        self._persist(
            lambda: self._append(url, file, target, on_progress),
            what=file.name,
            done=lambda: _size_of(target),
        )
        problem = _digest_problem(target, file)
        if problem and resumed:
            logger.warning("%s: the part kept from an earlier download does not fit; starting over", file.name)
            target.unlink()
            self.download(snapshot, file, target, on_progress)
        elif problem:
            target.unlink()
            raise CheckpointError(
                f"{file.name} of {snapshot.repo} arrived damaged: {problem}; it was discarded",
                hint="try again; if it stays, something between here and the hub changes the files",
            )

    def _append(self, url: str, file: RemoteFile, target: Path, on_progress: OnProgress) -> None:
        """Fetch the bytes that `target` lacks."""
        start = _size_of(target)
        if start > file.size_bytes:
            start = 0
        if start == file.size_bytes and target.exists():
            on_progress(file.name, start, file.size_bytes)
            return
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._http.stream("GET", url, headers=headers) as response:
            self._check(response, what=f"{file.name} ({url})")
            if start and response.status_code != 206:  # the server does not resume
                start = 0
            with writing(target), target.open("r+b" if start else "wb") as stream:
                stream.seek(start)
                done = start
                on_progress(file.name, done, file.size_bytes)
                for block in response.iter_bytes():
                    done += len(block)
                    if done > file.size_bytes:
                        break
                    stream.write(block)
                    on_progress(file.name, done, file.size_bytes)
                stream.flush()
                os.fsync(stream.fileno())
        if done != file.size_bytes:
            raise _PassingError(f"{done} of {file.size_bytes} bytes arrived")

    def _persist(self, attempt: Callable[[], T], *, what: str, done: Callable[[], int] = lambda: 0) -> T:
        """Try until it works, or until ATTEMPTS tries in a row brought nothing new."""
        import httpx

        failures, seen = 0, done()
        while True:
            try:
                return attempt()
            except (_PassingError, httpx.TransportError) as error:
                failures, seen = (1 if done() > seen else failures + 1), done()
                reason = str(error) or type(error).__name__
                if failures >= ATTEMPTS:
                    raise CheckpointError(
                        f"{what} cannot be fetched from {self.url}: {reason}",
                        hint="check the network and HF_ENDPOINT, then try again: what has arrived is kept",
                    ) from error
                pause_s = max(BACKOFF_S * 2 ** (failures - 1), getattr(error, "retry_after_s", 0.0))
                logger.warning("%s: %s; trying again", what, reason)
                time.sleep(min(pause_s, MAX_PAUSE_S))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise CheckpointError(f"{what} cannot be fetched from {self.url}: {error}") from error

    def _check(self, response: httpx.Response, *, what: str) -> None:
        """Raise unless the answer is a success."""
        status = response.status_code
        if status in PASSING:
            after = response.headers.get("Retry-After", "")
            raise _PassingError(f"the hub answered {status}", retry_after_s=float(after) if after.isdigit() else 0.0)
        if status in (401, 403):
            raise CheckpointError(
                f"the hub {self.url} refuses {what} ({status})",
                hint="set HF_TOKEN to a token that may read it; a name that does not exist is refused too",
            )
        if status == 404:
            raise CheckpointError(f"the hub {self.url} does not have {what} (404)")
        if status >= 400:
            raise CheckpointError(f"the hub {self.url} answered {status} for {what}")


def _remote_file(entry: Mapping[str, Any]) -> RemoteFile:
    large = entry.get("lfs") or {}
    return RemoteFile(
        name=str(entry["rfilename"]),
        size_bytes=int(large["size"] if large else entry["size"]),
        sha256=str(large.get("sha256", "")),
        git_sha1="" if large else str(entry.get("blobId") or ""),
    )


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest_problem(path: Path, file: RemoteFile) -> str:
    """Say how a file differs from what the hub said of it; empty when it does not."""
    if file.sha256 and (found := sha256_of(path)) != file.sha256:
        return f"its sha256 is {found}, the hub says {file.sha256}"
    if file.git_sha1:
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if found != file.git_sha1:
            return f"its git digest is {found}, the hub says {file.git_sha1}"
    return ""
