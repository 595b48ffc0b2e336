"""Graphs built from checkpoints, kept on disk so that a new process starts without building them again.

`graphs/<digest>/` holds `model.onnx`, `weights.bin` and `manifest.json`. The digest covers what the graph is made
from: the identity of the weight files, the configuration, the precision and the version of the graph writer. A
folder appears complete, by one rename; two processes that build at once both succeed and one folder stays. What is
found is checked against the manifest's checksums before it is used, and rebuilt when it does not match.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gnomonic.checkpoints.onnx import GRAPH_VERSION, build_graph
from gnomonic.checkpoints.onnx_graph import FileStore
from gnomonic.checkpoints.tensors import read_tensors
from gnomonic.models.config import NomicBertConfig

__all__ = ["cached_graph", "multiplies_signed_exactly"]

logger = logging.getLogger(__name__)

_MODEL = "model.onnx"
_WEIGHTS = "weights.bin"
_MANIFEST = "manifest.json"
_UNFINISHED = ".building-"
_DISCARDED = ".discarded-"
# A process that was killed leaves its unfinished folder; no build takes this long.
_ABANDONED_AFTER_S = 24 * 3600
_READ_BYTES = 1 << 20
# Blocks read from a weight file for its identity, beside its size, time and header.
_SAMPLES = 64
_SAMPLE_BYTES = 4096
_PUBLISH_ATTEMPTS = 3


def cached_graph(folder: Path, config: NomicBertConfig, *, precision: str, cache_dir: Path) -> Path | None:
    """Return the model file of a checkpoint's graph, building it first when the cache does not hold it.

    Args:
        folder: the checkpoint.
        config: its configuration.
        precision: "fp32" or "int8".
        cache_dir: `graphs` is made inside it.

    Returns:
        The model file, or None, after a warning, when the cache cannot be written: a read-only or full disk.

    Raises:
        CheckpointError: the weights are absent, damaged or do not fit.
        ConfigError: the precision is not implemented.
    """
    graphs = cache_dir / "graphs"
    try:
        digest = _digest(folder, config, precision)
        target = graphs / digest
        if _is_whole(target):
            return target / _MODEL
        graphs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=graphs, prefix=_UNFINISHED, ignore_cleanup_errors=True) as scratch:
            unfinished = Path(scratch) / digest
            _build(unfinished, folder, config, precision)
            _publish(unfinished, target)
    except OSError as error:
        logger.warning(
            "built graphs cannot be kept in %s (%s); this model starts slower until they can",
            graphs,
            error.strerror or error,
        )
        return None
    _clean_up(graphs, target)
    return target / _MODEL


def multiplies_signed_exactly() -> bool:
    """Say whether this CPU adds products of unsigned and signed bytes in 32 bits.

    x86 without VNNI adds pairs of them in 16 bits and clips the sum; unsigned weights take another path there.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def _digest(folder: Path, config: NomicBertConfig, precision: str) -> str:
    described = {
        "graph": GRAPH_VERSION,
        "config": asdict(config),
        "precision": precision,
        "signed": multiplies_signed_exactly(),
        "files": [_identity(path) for path in sorted(folder.glob("*.safetensors*"))],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _identity(path: Path) -> list[str | int]:
    """Tell a weight file from others and from its own earlier states, without reading all of it."""
    status = path.stat()
    sample = hashlib.sha256()
    with path.open("rb") as file:
        sample.update(file.read(min(int.from_bytes(file.read(8), "little"), status.st_size)))
        for index in range(_SAMPLES):
            file.seek(index * status.st_size // _SAMPLES)
            sample.update(file.read(_SAMPLE_BYTES))
    return [path.name, status.st_size, status.st_mtime_ns, sample.hexdigest()]


def _build(unfinished: Path, folder: Path, config: NomicBertConfig, precision: str) -> None:
    tensors = read_tensors(folder, config)
    unfinished.mkdir()
    with FileStore(unfinished / _WEIGHTS) as store:
        model = build_graph(tensors, config, precision=precision, store=store, signed=multiplies_signed_exactly())
    _write_synced(unfinished / _MODEL, model)
    manifest = {
        "graph": GRAPH_VERSION,
        "precision": precision,
        "source": str(folder.resolve()),
        "files": {
            _WEIGHTS: {"bytes": store.size, "crc32": store.crc32},
            _MODEL: {"bytes": len(model), "crc32": zlib.crc32(model)},
        },
    }
    _write_synced(unfinished / _MANIFEST, json.dumps(manifest, indent=1).encode())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _manifest(folder: Path) -> dict[str, Any]:
    """Return a graph's manifest, empty when there is none that can be read."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _is_whole(folder: Path) -> bool:
    """Check the files of a graph against its manifest."""
    files = _manifest(folder).get("files")
    if not isinstance(files, dict) or not {_MODEL, _WEIGHTS} <= files.keys():
        return False
    for name in (_MODEL, _WEIGHTS):
        if files[name] != _checksum(folder / name):
            logger.warning("the built graph %s is damaged and will be built again", folder / name)
            return False
    return True


def _checksum(path: Path) -> dict[str, int]:
    size = crc32 = 0
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                crc32 = zlib.crc32(block, crc32)
                size += len(block)
    except OSError:
        return {}
    return {"bytes": size, "crc32": crc32}


def _publish(unfinished: Path, target: Path) -> None:
    """Give a finished folder its name; keep what another process put there first, unless it is damaged."""
    for attempt in range(_PUBLISH_ATTEMPTS):
        try:
            unfinished.rename(target)
        except OSError:
            if not target.exists() or attempt == _PUBLISH_ATTEMPTS - 1:
                raise
        else:
            return
        if _is_whole(target):
            return
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_DISCARDED, ignore_cleanup_errors=True) as discarded:
            # Another process may be doing the same; then the next attempt finds its result.
            if target.exists():
                target.rename(Path(discarded) / target.name)


def _clean_up(graphs: Path, newest: Path) -> None:
    """Remove what the newest graph replaces, and what killed processes left; failing to is no error.

    A process that still uses a replaced graph has it mapped, and keeps it until it ends.
    """
    kept = _manifest(newest)
    for folder in graphs.iterdir():
        if folder.name.startswith((_UNFINISHED, _DISCARDED)):
            stale = _age_s(folder) > _ABANDONED_AFTER_S
        else:
            manifest = _manifest(folder)
            stale = folder != newest and all(
                manifest.get(key) == kept.get(key) for key in ("graph", "precision", "source")
            )
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _age_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0
