"""The models a server offers: opened when first asked for, closed when memory is wanted for another."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gnomonic import __version__, catalog
from gnomonic.catalog import ModelSpec
from gnomonic.errors import ConfigError, GnomonicError, UnavailableError, UnknownModelError
from gnomonic.inference.load import ModelFiles, open_files
from gnomonic.inference.threads import usable_cpus
from gnomonic.server.jobs import Line
from gnomonic.server.workers import Worker
from gnomonic.settings import Settings

__all__ = ["Entry", "Shelf", "ShelfOptions", "fingerprint", "name_of"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._+-]{1,200}")


@dataclass(eq=False, kw_only=True, slots=True)
class Entry:
    """One model offered."""

    source: str
    """What the operator named: a catalog name or a folder."""
    name: str
    """What clients call it."""
    files: ModelFiles | None = None
    """Read when first asked for."""
    line: Line | None = None
    """There while the worker has its engine open."""
    digest: str = ""
    """Of weights, tokenizer and finishing."""
    fingerprint: str = ""
    """Of these and the engine's arithmetic; there once it was opened."""
    signature: tuple[object, ...] = ()
    """What tells whether its files changed since they were read."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """Requests that are using it now."""
    last_used: float = 0.0

    @property
    def bytes(self) -> int:
        """What its weight files take; 0 while it has not been read."""
        return sum(path.stat().st_size for path in self.files.folder.glob("*.safetensors")) if self.files else 0


class Shelf:
    """The models offered, by name; a client can ask for these and no others."""

    def __init__(self, sources: Sequence[str], worker: Worker, settings: Settings, *, options: ShelfOptions) -> None:
        """Name the models; nothing is opened.

        Args:
            sources: catalog names and folders; the first is the default.
            worker: where engines are opened.
            settings: cache folder, offline switch, hub.
            options: how engines are opened.

        Raises:
            ConfigError: none, or two of one name.
        """
        if not sources:
            raise ConfigError("no model is offered; name at least one")
        self._worker = worker
        self._settings = settings
        self._options = options
        self._opening = asyncio.Lock()
        self.opening = False
        """Whether an engine is being opened; the worker does nothing else meanwhile."""
        self.entries: dict[str, Entry] = {}
        for source in sources:
            name = name_of(source)
            if name in self.entries:
                raise ConfigError(f"two models are called {name!r}: {self.entries[name].source} and {source}")
            self.entries[name] = Entry(source=source, name=name)
        self.default = next(iter(self.entries))

    def find(self, name: str) -> Entry:
        """Return the model of that name; an empty name is the default.

        Raises:
            UnknownModelError: it is not offered.
        """
        entry = self.entries.get(name or self.default)
        if entry is None:
            raise UnknownModelError(f"model {name[:100]!r} is not served here; there are: {', '.join(self.entries)}")
        return entry

    async def read(self, entry: Entry) -> ModelFiles:
        """Return everything of a model but its weights.

        Raises:
            UnavailableError: its files are absent, damaged or do not fit.
        """
        if entry.files is not None:
            return entry.files
        async with entry.reading:  # once, however many ask
            if entry.files is None:
                try:
                    files = await asyncio.to_thread(open_files, _place(entry.source), self._settings)
                    entry.signature = _signature(files.folder)
                    entry.digest = await asyncio.to_thread(fingerprint, files)
                except (GnomonicError, OSError) as error:
                    raise _cannot(entry, error) from error
                entry.files = files
        return entry.files

    async def described(self) -> list[ModelSpec]:
        """Return what the models are; nothing is downloaded for it, and a folder that cannot be read is left out."""
        found = []
        for entry in self.entries.values():
            if entry.files is None and _in_catalog(entry.source):
                found.append(catalog.find(entry.source))
                continue
            with contextlib.suppress(UnavailableError):
                found.append((await self.read(entry)).spec)
        return found

    async def open(self, entry: Entry) -> Line:
        """Return the open engine of a model, opening it first where it is not.

        Raises:
            UnavailableError: it cannot be opened, or the worker is away.
        """
        entry.last_used = time.monotonic()
        if entry.line is not None:
            return entry.line
        # A caller that leaves must not leave an engine behind that nobody knows of.
        task = asyncio.ensure_future(self._open(entry))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _open(self, entry: Entry) -> Line:
        async with self._opening:
            if entry.line is None:
                self.opening = True
                try:
                    files = await self._unchanged(entry)
                    await self._make_room(entry)
                    entry.line = await self._start(entry, files)
                finally:
                    self.opening = False
            return entry.line

    async def _unchanged(self, entry: Entry) -> ModelFiles:
        """Return the model's files, read again where they are others than before."""
        files = await self.read(entry)
        if _signature(files.folder) != entry.signature:
            log.warning("the files of %s have changed; they are read again", entry.name)
            entry.files = None
            files = await self.read(entry)
        return files

    async def reopen(self) -> dict[str, GnomonicError]:
        """Open in a new worker what was open in the one before; return what could not be, by name, and why."""
        failed: dict[str, GnomonicError] = {}
        lost = [entry for entry in self.entries.values() if entry.line is not None and entry.files is not None]
        for entry in lost:
            entry.line = None
        for entry in lost:
            try:
                await self.open(entry)
            except GnomonicError as error:
                failed[entry.name] = error
        return failed

    async def _start(self, entry: Entry, files: ModelFiles) -> Line:
        began = time.monotonic()
        try:
            info = await self._worker.open(
                entry.name,
                folder=str(files.folder),
                device=self._options.device,
                precision=self._options.precision,
                threads=self._options.threads or self._settings.threads or usable_cpus(),
                cache_dir=str(self._settings.cache_dir),
            )
        except UnavailableError:
            raise
        except GnomonicError as error:
            raise _cannot(entry, error) from error
        arithmetic = f"{entry.digest} {info.precision} {self._options.device} {__version__}"
        entry.fingerprint = hashlib.sha256(arithmetic.encode()).hexdigest()[:16]
        log.info("opened %s (%s) in %.1f s", entry.name, info.precision, time.monotonic() - began)
        return Line(
            key=entry.name,
            model=entry.name,
            precision=info.precision,
            hidden_size=info.hidden_size,
            budget=info.budget,
        )

    async def _make_room(self, entry: Entry) -> None:
        """Close the models used longest ago, as long as all together take more than is allowed."""
        limit = self._options.max_model_bytes
        while limit is not None:
            open_ones = [other for other in self.entries.values() if other.line and other is not entry]
            idle = [other for other in open_ones if not other.users]
            if not idle or sum(other.bytes for other in open_ones) + entry.bytes <= limit:
                return
            oldest = min(idle, key=lambda other: other.last_used)
            oldest.line = None
            await self._worker.close_engine(oldest.name)
            log.info("closed %s to make room for %s", oldest.name, entry.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShelfOptions:
    """How engines are opened."""

    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    max_model_bytes: int | None = None
    """Weight files of all open models together; the least recently used idle ones are closed beyond it."""


def name_of(source: str) -> str:
    """Return what clients call a model.

    Args:
        source: a catalog name or a folder.

    Raises:
        ConfigError: the folder's name cannot be one.
    """
    name = source.removeprefix("nomic-ai/") if _in_catalog(source) else Path(source).expanduser().resolve().name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"model {source!r} would be called {name!r}; a name has 1 to 200 letters, digits and . _ + - of "
            "ASCII; rename the folder"
        )
    return name


def fingerprint(files: ModelFiles) -> str:
    """Return 16 hex digits that change when the weights, the tokenizer or the finishing of vectors do."""
    digest = hashlib.sha256()
    spec = files.spec
    digest.update(repr((spec.layer_norm, sorted(spec.prefixes.items()), spec.max_tokens)).encode())
    names = ("config.json", "tokenizer.json", "vocab.txt", "tokenizer_config.json")
    weights = sorted(path.name for path in files.folder.glob("*.safetensors"))
    for name in (*names, *weights):
        path = files.folder / name
        if path.is_file():
            with path.open("rb") as stream:
                digest.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _in_catalog(source: str) -> bool:
    return source.removeprefix("nomic-ai/") in catalog.known_models()


def _place(source: str) -> str | Path:
    return source if _in_catalog(source) else Path(source).expanduser()


def _signature(folder: Path) -> tuple[object, ...]:
    """Return name, size, time and number of every file in a folder; empty where it is gone."""
    try:
        found = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
        return tuple((name, about.st_size, about.st_mtime_ns, about.st_ino) for name, about in found)
    except OSError:
        return ()


def _cannot(entry: Entry, error: Exception) -> UnavailableError:
    """Log why a model is not there, and return what clients are told: not where the server keeps its files."""
    log.warning("%s cannot be opened: %s", entry.name, error)
    return UnavailableError(f"model {entry.name!r} cannot be opened; the server's log says why", retry_after_s=30)
