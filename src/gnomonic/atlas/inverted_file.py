"""An inverted file (Sivic and Zisserman, 2003): which rows are probably near a vector, without looking at most of them.

Rows are centred and reduced to their leading principal components, k-means puts each into a cell, and each is stored
in its cell as int8 codes with a scale. A query walks the nearest cells and scores their codes; the best candidates are
for the caller to compare with the vectors themselves.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.cells import make_cells
from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import library, pointer, threads
from gnomonic.atlas.progress import OnProgress, Progress
from gnomonic.atlas.scoring import best_of, unit_rows
from gnomonic.errors import DatasetError

__all__ = ["InvertedFile", "write_inverted_file"]

_WIDTH = 128
"""Dimensions that are left. Of text vectors of 768 they hold about four fifths of the variance."""
_SPARE = 16
_ROUNDS = 4
_BLOCK_ROWS = 16_384
_SAMPLE = 16_384
_QUERY_CODES = 2047
"""Largest code of a query; sums of its products with codes of rows stay far within 32 bits."""
_ROW_CODES = 127
_MAPPED = ("codes", "scales", "bias", "order", "offsets")
_READ = ("centroids", "axes", "mean")


class _Layout(ctypes.Structure):
    """`struct Layout` of kernels/search.cpp."""

    _fields_ = [*((name, ctypes.c_void_p) for name in _MAPPED), ("width", ctypes.c_int64)]


class InvertedFile:
    """The inverted file of one map; immutable, its codes memory-mapped."""

    def __init__(self, folder: Path, *, cosine: bool) -> None:
        """Open what `write_inverted_file` wrote.

        Raises:
            DatasetError: a file is absent or damaged.
        """
        self._cosine = cosine
        try:
            held = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _MAPPED}
            read = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _READ}
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"the index in {folder} cannot be read: {error}", hint="build the map again") from error
        self._held = held
        self._axes: NDArray[np.float32] = read["axes"]
        self._mean: NDArray[np.float32] = read["mean"]
        self._centroids: NDArray[np.float32] = read["centroids"]
        self._centroid_squares = np.einsum("ij,ij->i", self._centroids, self._centroids)
        self._layout = _Layout(*(pointer(held[name]) for name in _MAPPED), held["codes"].shape[1])

    @property
    def cells(self) -> int:
        """How many cells it has."""
        return len(self._centroids)

    def candidates(
        self, query: NDArray[np.float32], *, quota: int, keep: int, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Return rows that are probably the nearest, [at most keep] int64, by their codes, best first.

        Args:
            query: [dim] float32.
            quota: cells are walked until so many rows that pass the mask were seen.
            keep: how many to return.
            mask: [n] which rows pass.
        """
        asked = unit_rows(query[None])[0] if self._cosine else query
        reduced = _multiply(self._axes, asked - self._mean)
        away = self._centroid_squares - 2 * _multiply(self._centroids, reduced)
        cells = np.argsort(away, kind="stable").astype(np.int32)
        # A cosine is the product with the centred row plus what is the same for all rows.
        wanted = _multiply(self._axes, asked) if self._cosine else reduced
        scale = np.float32(np.max(np.abs(wanted), initial=0.0) / _QUERY_CODES)
        codes = np.rint(wanted / (scale or np.float32(1))).astype(np.int16)
        kernels = library()
        if kernels is None:
            return self._candidates_slowly((codes, scale, cells), quota, keep, mask)
        found = np.empty(keep, dtype=np.int64)
        passing = None if mask is None else np.ascontiguousarray(mask).view(np.uint8)
        kernels.search_cells.restype = ctypes.c_int64
        count = int(
            kernels.search_cells(
                ctypes.byref(self._layout),
                pointer(codes),
                ctypes.c_float(float(scale)),
                pointer(cells),
                ctypes.c_int64(len(cells)),
                ctypes.c_int64(quota),
                None if passing is None else pointer(passing),
                ctypes.c_int64(keep),
                pointer(found),
                threads(),
            )
        )
        if count < 0:
            raise MemoryError("no memory for the candidates of a search")
        return found[:count]

    def _candidates_slowly(
        self,
        asked: tuple[NDArray[np.int16], np.float32, NDArray[np.int32]],
        quota: int,
        keep: int,
        mask: NDArray[np.bool_] | None,
    ) -> NDArray[np.int64]:
        """Give the kernel's answer."""
        codes, scale, cells = asked
        order, offsets = self._held["order"], self._held["offsets"]
        walked = [np.empty(0, dtype=np.int64)]
        seen = 0
        for cell in cells:
            if seen >= quota:
                break
            slots = np.arange(offsets[cell], offsets[cell + 1])
            walked.append(slots if mask is None else slots[mask[order[slots]]])
            seen += len(walked[-1])
        slots = np.concatenate(walked)
        sums = (self._held["codes"][slots].astype(np.float64) @ codes).astype(np.float32)
        scores = sums * (self._held["scales"][slots] * scale) - self._held["bias"][slots]
        return np.asarray(order[slots[best_of(scores, keep)]])


def write_inverted_file(
    folder: Path, vectors: NDArray[Any], *, cosine: bool, seed: int, on_progress: OnProgress
) -> None:
    """Write the inverted file of vectors, one file an array.

    Args:
        folder: exists.
        vectors: [n, dim] float16 or float32, n at least 1; read once, in blocks.
        cosine: whether rows count at unit length.
        seed: of the samples.
        on_progress: told of the rows.
    """
    rows = len(vectors)
    random = np.random.default_rng(seed)
    sample = vectors[np.sort(random.permutation(rows)[:_SAMPLE])]
    mean, axes = _principal_axes(unit_rows(sample) if cosine else np.asarray(sample, dtype=np.float32), random)
    reduced = np.empty((rows, len(axes)), dtype=np.float32)
    # Distances are between whole rows: what was lost counts as lying at right angles to everything.
    bias = np.zeros(rows, dtype=np.float32)
    for begin in range(0, rows, _BLOCK_ROWS):
        block = vectors[begin : begin + _BLOCK_ROWS]
        block = unit_rows(block) if cosine else block.astype(np.float32)
        block -= mean
        np.matmul(block, axes.T, out=reduced[begin : begin + len(block)])
        if not cosine:
            bias[begin : begin + len(block)] = np.einsum("ij,ij->i", block, block) / 2
        on_progress(Progress(stage="index", done=begin + len(block), total=rows))
    cells = make_cells(reduced, size=max(8, round(rows**0.5 / 4)), rng=random)
    scales = np.maximum(reduced.max(axis=1), -reduced.min(axis=1)) / np.float32(_ROW_CODES)
    codes = np.empty(reduced.shape, dtype=np.int8)
    for begin in range(0, rows, _BLOCK_ROWS):
        which = cells.order[begin : begin + _BLOCK_ROWS]
        codes[begin : begin + len(which)] = np.rint(reduced[which] / np.where(scales > 0, scales, 1)[which, None])
    arrays: dict[str, NDArray[Any]] = {
        "axes": axes,
        "bias": bias[cells.order],
        "centroids": cells.centres,
        "codes": codes,
        "mean": mean,
        "offsets": cells.starts,
        "order": cells.order,
        "scales": scales[cells.order],
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _principal_axes(
    sample: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean [dim] and at most 128 principal axes [*, dim] of a sample, the widest first.

    Subspace iteration on the covariance (Halko, Martinsson and Tropp, 2011, section 4.5).
    """
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = sample - mean
    spread = (centred.T @ centred).astype(np.float64)
    axes = np.eye(len(spread))
    if len(spread) > _WIDTH + _SPARE:
        axes = random.standard_normal((len(spread), _WIDTH + _SPARE))
        for _ in range(_ROUNDS):
            axes = np.linalg.qr(spread @ axes)[0]
    turn = np.linalg.eigh(axes.T @ spread @ axes)[1]
    widest = (axes @ turn[:, ::-1]).T[:_WIDTH]
    return mean, np.ascontiguousarray(widest, dtype=np.float32)


def _multiply(matrix: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty(len(matrix), dtype=np.float32)
    if not run_kernel("search_multiply", matrix, *matrix.shape, np.ascontiguousarray(vector), out):
        np.matmul(matrix, vector, out=out)
    return out
