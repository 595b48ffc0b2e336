"""Downloaded models on disk: a folder and a lock file per model, published whole, checked before every use.

```
CACHE/models/NAME/              the files of one commit
CACHE/models/NAME.lock.json     commit, and each file's size and sha256; outlives the folder
CACHE/models/NAME-COMMIT.part/  a download under way, or one to be gone on with
CACHE/models/.NAME.busy         held while one process downloads
```
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints.hub_client import HubClient, OnProgress, RemoteFile, Snapshot, sha256_of, writing
from gnomonic.errors import CheckpointError
from gnomonic.settings import Settings

__all__ = [
    "FileCheck",
    "LockedFile",
    "ModelLock",
    "OnProgress",
    "check_files",
    "fetch",
    "folder_of",
    "lock_path",
    "read_lock",
]

logger = logging.getLogger(__name__)

SIDE_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "preprocessor_config.json",
    "gnomonic.json",
)
"""What is fetched besides the weights; code, pickles and converted copies are not."""
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
SPARE_BYTES = 16 << 20
"""Left free on the disk beyond the download."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """A file as it was when it was last checked in full."""

    size_bytes: int
    sha256: str
    modified_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLock:
    """What a model's files were when they first arrived."""

    repo: str
    commit: str
    """Empty for a folder that was put into the cache by hand."""
    files: Mapping[str, LockedFile] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCheck:
    """One file compared with its pinned digest."""

    name: str
    expected: str
    """sha256 in hex; empty when nothing pins the file."""
    actual: str
    """sha256 in hex; empty when the file is absent."""
    pinned_by: str
    """"catalog", "first download" or ""."""

    @property
    def ok(self) -> bool:
        """Whether the file is there and is the pinned one."""
        return bool(self.actual) and self.expected in ("", self.actual)


def folder_of(spec: ModelSpec, settings: Settings) -> Path:
    """Return where a downloaded model lies, or would."""
    return settings.cache_dir / "models" / spec.name


def lock_path(spec: ModelSpec, settings: Settings) -> Path:
    """Return where the lock file of a model lies."""
    return settings.cache_dir / "models" / f"{spec.name}.lock.json"


def read_lock(spec: ModelSpec, settings: Settings) -> ModelLock | None:
    """Read a model's lock file; None when there is none.

    Raises:
        CheckpointError: it is unreadable.
    """
    path = lock_path(spec, settings)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {name: LockedFile(**entry) for name, entry in raw["files"].items()}
        return ModelLock(repo=raw["repo"], commit=raw["commit"], files=files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is unreadable ({type(error).__name__}: {error})",
            hint="delete it to pin the model's present files instead",
        ) from error


def _write_lock(spec: ModelSpec, settings: Settings, lock: ModelLock) -> None:
    path = lock_path(spec, settings)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump(asdict(lock), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)


def check_files(spec: ModelSpec, folder: Path, lock: ModelLock | None = None) -> list[FileCheck]:
    """Read every file of a model in full and compare it with what pins it.

    Args:
        spec: its `files` come first.
        folder: where the files lie.
        lock: pins the files that the catalog does not.
    """
    locked = lock.files if lock else {}
    checks = []
    for name in sorted({*_names_in(folder), *spec.files, *locked}):
        expected, pinned_by = spec.files.get(name, ""), "catalog"
        if not expected:
            expected, pinned_by = (locked[name].sha256, "first download") if name in locked else ("", "")
        path = folder / name
        actual = sha256_of(path) if path.is_file() else ""
        checks.append(FileCheck(name=name, expected=expected, actual=actual, pinned_by=pinned_by))
    return checks


def _names_in(folder: Path) -> list[str]:
    """List the files of a model folder that belong to the model."""
    names = [name for name in (*SIDE_FILES, WEIGHTS, WEIGHTS_INDEX) if (folder / name).is_file()]
    return names + sorted(path.name for path in folder.glob("model-*.safetensors") if SHARD.fullmatch(path.name))


def fetch(spec: ModelSpec, settings: Settings, on_progress: OnProgress | None, *, force: bool = False) -> Path:
    """Return the folder of a catalog model, downloading it when it is not here.

    Args:
        spec: what to fetch; needs `repo`.
        settings: cache folder, offline switch, hub address and token.
        on_progress: called with (file, done_bytes, total_bytes).
        force: download again; the files must still match what was pinned.

    Raises:
        CheckpointError: offline and not here; the hub fails; a digest differs; the cache cannot be written.
    """
    folder = folder_of(spec, settings)
    if not force and _ready(spec, settings, folder):
        return folder
    if settings.offline:
        raise CheckpointError(
            f"{spec.name} is not in the cache ({folder}) and the network is switched off "
            "(GNOMONIC_OFFLINE or HF_HUB_OFFLINE)",
            hint=f"on a machine with a network run: gnomonic models pull {spec.name}; then copy that folder "
            "here, or pass a folder that has the files",
        )
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / f".{spec.name}.busy"):
        if force or not _ready(spec, settings, folder):  # another process may have brought it meanwhile
            _download(spec, settings, folder, on_progress or (lambda _file, _done, _total: None))
    return folder


def _ready(spec: ModelSpec, settings: Settings, folder: Path) -> bool:
    """Tell whether the folder holds the pinned files; others in their place are an error, not a reason to download."""
    if not folder.is_dir():
        return False
    lock = read_lock(spec, settings)
    if lock and spec.revision and lock.commit not in ("", spec.revision):
        return False  # a newer catalog pins another commit
    if lock and _is_untouched(spec, folder, lock):
        return True
    checks = check_files(spec, folder, lock)
    bad = [check for check in checks if not check.ok]
    if bad:
        raise CheckpointError(
            f"{folder} differs from what was pinned: "
            + "; ".join(f"{c.name} is {'changed' if c.actual else 'missing'} (pinned by {c.pinned_by})" for c in bad),
            hint=f"fetch it again: gnomonic models pull {spec.name} --force",
        )
    _require(spec, {check.name for check in checks}, where=str(folder))
    files = {check.name: _stamp(folder / check.name, check.actual) for check in checks}
    with suppress(CheckpointError):  # a read-only cache works; it is read in full each time
        _write_lock(spec, settings, ModelLock(repo=spec.repo, commit=lock.commit if lock else "", files=files))
    return True


def _is_untouched(spec: ModelSpec, folder: Path, lock: ModelLock) -> bool:
    """Tell whether every file has the size and time of its last full check: hashing 550 MB costs 0.3 s or more."""
    checked = {name: entry.sha256 for name, entry in lock.files.items()}
    if not checked or not spec.files.items() <= checked.items():
        return False  # the catalog pins more files than were checked, or others
    try:
        found = {name: (folder / name).stat() for name in lock.files}
    except OSError:
        return False
    return all(
        (found[name].st_size, found[name].st_mtime_ns) == (entry.size_bytes, entry.modified_ns)
        for name, entry in lock.files.items()
    )


def _stamp(path: Path, sha256: str) -> LockedFile:
    found = path.stat()
    return LockedFile(size_bytes=found.st_size, sha256=sha256, modified_ns=found.st_mtime_ns)


def _download(spec: ModelSpec, settings: Settings, folder: Path, on_progress: OnProgress) -> None:
    """Fetch every wanted file of one commit, check all, then put the folder in place in one step."""
    lock = read_lock(spec, settings)
    if lock and spec.revision and lock.commit not in ("", spec.revision):
        lock = None
    revision = spec.revision or (lock.commit if lock else "") or "main"
    started = time.monotonic()
    with HubClient(settings.hub_url, settings.hub_token) as client:
        snapshot = client.snapshot(spec.repo, revision)
        if re.fullmatch(r"[0-9a-f]{40}", revision) and snapshot.commit != revision:
            raise CheckpointError(f"the hub answered commit {snapshot.commit} of {spec.repo} instead of {revision}")
        wanted = _wanted(spec, snapshot)
        part = folder.with_name(f"{spec.name}-{snapshot.commit[:12]}.part")
        with writing(part):
            part.mkdir(exist_ok=True)
            _require_space(part, wanted)
        for file in wanted:
            with writing(part):
                (part / file.name).parent.mkdir(exist_ok=True)
            client.download(snapshot, file, part / file.name, on_progress)
    files = _compare(spec, part, lock)
    _publish(part, folder)
    _write_lock(spec, settings, ModelLock(repo=spec.repo, commit=snapshot.commit, files=files))
    logger.info("fetched %s at %s in %.1f s", spec.name, snapshot.commit, time.monotonic() - started)


def _wanted(spec: ModelSpec, snapshot: Snapshot) -> list[RemoteFile]:
    """Choose the files a loader reads, small ones first."""
    have = snapshot.files
    names = [name for name in SIDE_FILES if name in have]
    if WEIGHTS in have:
        names.append(WEIGHTS)
    elif WEIGHTS_INDEX in have:
        names += [WEIGHTS_INDEX, *sorted(name for name in have if SHARD.fullmatch(name))]
    _require(spec, set(names), where=f"{snapshot.repo} at {snapshot.commit}")
    return [have[name] for name in names]


def _require(spec: ModelSpec, names: set[str], *, where: str) -> None:
    """Raise unless the names make a loadable model."""
    missing = [name for name in ("config.json", *spec.files) if name not in names]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("model.safetensors")
    if spec.kind == "text" and not names & {"tokenizer.json", "vocab.txt"}:
        missing.append("tokenizer.json or vocab.txt")
    if missing:
        raise CheckpointError(f"{where} lacks {', '.join(dict.fromkeys(missing))}, which {spec.name} needs")


def _require_space(part: Path, wanted: list[RemoteFile]) -> None:
    """Raise before the download when the disk cannot hold it."""
    here = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    needed = sum(file.size_bytes for file in wanted) - here + SPARE_BYTES
    free = shutil.disk_usage(part).free
    if needed > free:
        raise CheckpointError(
            f"no space left on the disk of {part}: {needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} free",
            hint="free some space or set GNOMONIC_CACHE to a larger disk; what has arrived is kept",
        )


def _compare(spec: ModelSpec, part: Path, lock: ModelLock | None) -> dict[str, LockedFile]:
    """Compare a finished download with the catalog, else with the first download, and return what to lock."""
    checks = [check for check in check_files(spec, part, lock) if check.actual]
    bad = [check for check in checks if not check.ok]
    for check in bad:
        (part / check.name).unlink()
    if bad:
        found = (f"sha256 of {c.name} is {c.actual}, pinned by {c.pinned_by} as {c.expected}" for c in bad)
        raise CheckpointError(
            f"the hub's files of {spec.name} are not the pinned ones and were discarded: {'; '.join(found)}",
            hint="do not use these files before you know why they changed; "
            f"a pin by first download is forgotten by deleting {spec.name}.lock.json in the cache",
        )
    return {check.name: _stamp(part / check.name, check.actual) for check in checks}


def _publish(part: Path, folder: Path) -> None:
    """Rename the download into place; an older folder moves away whole, so that its readers keep their files."""
    with writing(folder):
        old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    stale = re.compile(re.escape(folder.name) + r"-[0-9a-f]{12}\.part")
    for path in folder.parent.iterdir():
        if stale.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a file lock that ends with the process, waiting while another process holds it."""
    with writing(path):
        stream = path.open("a+b")
    with stream:
        told = False
        while not _try_lock(stream.fileno(), path):
            if not told:
                logger.info("another process downloads this model (%s is held); waiting", path)
                told = True
            time.sleep(0.1)
        yield


def _try_lock(descriptor: int, path: Path) -> bool:
    """Take an exclusive lock without waiting; closing the file or ending the process frees it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    with writing(path):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
