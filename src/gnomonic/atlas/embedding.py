"""The first stage of a build: every row's vector, in a file; embedded here, or taken from the rows.

A build that was killed goes on with the chunk it was at; a text that an earlier map has embedded is not embedded again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.map_folder import MapFolder
from gnomonic.atlas.options import EmbedOptions
from gnomonic.atlas.progress import OnProgress, Progress
from gnomonic.atlas.stages import Stage, StageCache
from gnomonic.atlas.store import Store
from gnomonic.errors import DatasetError

__all__ = ["PROBE", "Encode", "EncodedChunk", "Source", "embed_rows", "is_same_model"]

PROBE = "A gnomon casts the shadow that tells the hour."
"""Embedded before the rows are."""
_PROBE_STEPS = 500
_PROBE_DIFFERS = 2e-3
"""Threads and batches change a value of a unit vector by far less, training by far more."""
_CHUNK_ROWS = 1024
"""Rows between two saves of finished work."""
_STEP_ROWS = 256
"""Rows between two reports; enough for the encoder to find texts of like length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedChunk:
    """Vectors of some inputs."""

    vectors: NDArray[np.float32]
    """[n, dim] float32."""
    truncated: int = 0


class Encode(Protocol):
    """Turns values of the indexed field into vectors, in order."""

    def __call__(self, values: list[Any], /) -> EncodedChunk:
        """Return the vectors of texts, or of images as bytes."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a map's vectors come from."""

    modality: str
    """"embedding": given with the rows; "text": a column; "image": the blobs."""
    field: str | None = None
    model: str | None = None
    options: EmbedOptions = dataclasses.field(default_factory=EmbedOptions)
    encode: Encode | None = None
    """None for given vectors."""


def embed_rows(
    cache: StageCache,
    store: Store,
    source: Source,
    *,
    dataset_id: str,
    version: int,
    reuse: MapFolder | None,
    on_progress: OnProgress,
) -> Stage:
    """Return the stage with `rows.npy` [n] int64, `vectors.npy` [n, dim] and, for texts, `hashes.npy` [n] uint64.

    Raises:
        DatasetError: rows have no vectors, or a file cannot be written.
        GnomonicError: what the encoder raises.
    """
    settings = {
        "dataset": dataset_id,
        "modality": source.modality,
        "field": source.field,
        "model": source.model,
        "task_type": source.options.task_type,
        "dimensionality": source.options.dimensionality,
    }
    probe = _probe(source)
    if probe is not None:
        settings["probe"] = hashlib.blake2b(
            np.round(probe * _PROBE_STEPS).astype(np.int16).tobytes(), digest_size=8
        ).hexdigest()
    of_version = {**settings, "version": version}
    if source.encode is None:

        def copy(folder: Path) -> None:
            _copy_given(folder, store, version, on_progress)

        return cache.run("embeddings", settings=of_version, inputs=[], compute=copy)
    known = _known(reuse, source) if is_same_model(reuse, probe) else None
    # Rows that come between a build that was killed and the next are no reason to embed the others again.
    chunks = cache.workshop("embeddings", settings=settings)

    def embed(folder: Path) -> None:
        _Embedding((folder, chunks), store, source, version, known, on_progress).run()
        if probe is not None:
            np.save(folder / "probe.npy", probe)

    stage = cache.run("embeddings", settings=of_version, inputs=[], compute=embed)
    shutil.rmtree(chunks, ignore_errors=True)
    return stage


def _probe(source: Source) -> NDArray[np.float32] | None:
    """Return the vector of a fixed text: it tells models of one name apart, such as a folder that was trained again."""
    if source.encode is None or source.modality != "text":
        return None
    return np.asarray(source.encode([PROBE]).vectors[0], dtype=np.float32)


def is_same_model(made: MapFolder | None, probe: NDArray[np.float32] | None) -> bool:
    """Return whether a map's vectors are of the model that gives this probe; True where there is nothing to compare."""
    if made is None or probe is None or not (made.folder / "embeddings" / "probe.npy").is_file():
        return True
    before = np.asarray(made.array("embeddings/probe"))
    return before.shape == probe.shape and bool(np.allclose(before, probe, atol=_PROBE_DIFFERS))


def _copy_given(folder: Path, store: Store, version: int, on_progress: OnProgress) -> None:
    total = store.count(version)
    rows = np.empty(total, dtype=np.int64)
    vectors: NDArray[Any] | None = None
    done = 0
    for numbers, block in store.vectors(version):
        if vectors is None:
            vectors = _new_array(folder / "vectors.npy", (total, block.shape[1]), block.dtype)
        rows[done : done + len(block)] = numbers
        vectors[done : done + len(block)] = block
        done += len(block)
        on_progress(Progress(stage="embeddings", done=done, total=total))
    if done != total:
        raise DatasetError(
            f"{total - done} of {total} rows have no vector; every row of a map needs one",
            hint="add the rows with embeddings=, or index a text field",
        )
    if vectors is None:
        np.save(folder / "vectors.npy", np.empty((0, store.dim or 2), dtype=np.float32))
    elif isinstance(vectors, np.memmap):
        vectors.flush()
    np.save(folder / "rows.npy", rows)


def _new_array(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array on disk, its room taken now: a disk that fills up later ends a process that writes to a mapping."""
    created: NDArray[Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return created


def _known(reuse: MapFolder | None, source: Source) -> Callable[[NDArray[np.uint64]], NDArray[Any]] | None:
    """Return what finds vectors of an earlier map by the hashes of their texts; -1 rows are unknown."""
    if reuse is None or not (reuse.folder / "embeddings" / "hashes.npy").is_file():
        return None
    options = reuse.record.options.get("embed", {})
    same = (source.model, source.options.task_type, source.options.dimensionality)
    if (reuse.record.model, options.get("task_type"), options.get("dimensionality")) != same:
        return None
    hashes = np.asarray(reuse.array("embeddings/hashes"))
    order = np.argsort(hashes)
    ordered = hashes[order]
    vectors = reuse.vectors

    def find(wanted: NDArray[np.uint64]) -> NDArray[Any]:
        if not len(ordered):
            return np.full((len(wanted), 1), np.nan, dtype=np.float32)
        at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        found = np.asarray(vectors[order[at]], dtype=np.float32)
        found[ordered[at] != wanted] = np.nan
        return found

    return find


class _Embedding:
    """One run of the stage for a field that is embedded here."""

    def __init__(
        self,
        folders: tuple[Path, Path],
        store: Store,
        source: Source,
        version: int,
        known: Callable[[NDArray[np.uint64]], NDArray[Any]] | None,
        on_progress: OnProgress,
    ) -> None:
        self._folder, self._chunks = folders
        self._store = store
        self._source = source
        self._version = version
        self._known = known
        self._on_progress = on_progress
        self._total = store.count(version)
        self._truncated = 0

    def run(self) -> None:
        """Embed chunk after chunk, each a file; then make one file of them."""
        rows, hashes, files = [], [], []
        self._on_progress(Progress(stage="embeddings", done=0, total=self._total))
        for number, (numbers, values) in enumerate(self._batches()):
            hashed = np.fromiter(map(_hash, values), dtype=np.uint64, count=len(values))
            path = self._chunks / f"{_digest(numbers, hashed)}.npz"
            if not path.is_file():
                self._encode(path, values, hashed, number * _CHUNK_ROWS)
            rows.append(numbers)
            hashes.append(hashed)
            files.append(path)
            done = number * _CHUNK_ROWS + len(values)
            self._on_progress(Progress(stage="embeddings", done=done, total=self._total))
        self._join(files)
        np.save(self._folder / "rows.npy", np.concatenate(rows or [np.empty(0, dtype=np.int64)]))
        np.save(self._folder / "hashes.npy", np.concatenate(hashes or [np.empty(0, dtype=np.uint64)]))
        (self._folder / "embeddings.json").write_text(json.dumps({"truncated": self._truncated}), encoding="utf-8")

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], list[Any]]]:
        field = self._source.field
        if self._source.modality == "image":
            for batch in self._store.scan(["_row", "_blob"], version=self._version, batch_rows=_CHUNK_ROWS):
                yield batch.column(0).to_numpy(), batch.column(1).to_pylist()
            return
        assert field is not None
        for batch in self._store.scan(["_row", field], version=self._version, batch_rows=_CHUNK_ROWS):
            # A row without text is embedded as the empty text, so that every row has its place on the map.
            texts = ["" if value is None else str(value) for value in batch.column(1).to_pylist()]
            yield batch.column(0).to_numpy(), texts

    def _encode(self, path: Path, values: list[Any], hashed: NDArray[np.uint64], before: int) -> None:
        assert self._source.encode is not None
        vectors: NDArray[Any] | None = None
        wanted = np.arange(len(values))
        if self._known is not None:
            vectors = self._known(hashed)
            wanted = np.flatnonzero(np.isnan(vectors[:, 0]))
        truncated = 0
        for begin in range(0, len(wanted), _STEP_ROWS):
            step = wanted[begin : begin + _STEP_ROWS]
            made = self._source.encode([values[i] for i in step])
            truncated += made.truncated
            if vectors is None or vectors.shape[1] != made.vectors.shape[1]:
                vectors = np.empty((len(values), made.vectors.shape[1]), dtype=np.float32)
            vectors[step] = made.vectors
            self._on_progress(Progress(stage="embeddings", done=before + int(step[-1]) + 1, total=self._total))
        assert vectors is not None
        fresh = path.with_suffix(".tmp.npz")
        with fresh.open("wb") as stream:
            np.savez(stream, vectors=vectors.astype(np.float16), truncated=truncated)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)

    def _join(self, files: list[Path]) -> None:
        out: NDArray[Any] | None = None
        done = 0
        for path in files:
            with np.load(path) as chunk:
                vectors = chunk["vectors"]
                self._truncated += int(chunk["truncated"])
            if out is None:
                out = _new_array(self._folder / "vectors.npy", (self._total, vectors.shape[1]), vectors.dtype)
            out[done : done + len(vectors)] = vectors
            done += len(vectors)
        if out is None:
            np.save(self._folder / "vectors.npy", np.empty((0, 2), dtype=np.float16))
        elif isinstance(out, np.memmap):
            out.flush()


def _hash(value: str | bytes | None) -> int:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value or b""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _digest(numbers: NDArray[np.int64], hashed: NDArray[np.uint64]) -> str:
    return hashlib.blake2b(numbers.tobytes() + hashed.tobytes(), digest_size=8).hexdigest()
