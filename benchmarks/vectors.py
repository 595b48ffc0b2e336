"""Any number of vectors with the neighbourhoods of real text, for the benchmarks of maps and search.

A few thousand passages are embedded by the bundled model: paragraphs of encyclopaedia articles, or docstrings of the
standard library where the articles are absent. New vectors are drawn from their density as manifold Parzen windows
model it (Vincent and Bengio, 2003): a passage, plus a random combination of the ways from it to its nearest passages,
plus a little noise in all directions. So clusters stay, density grows as it does when more texts of a kind come, and
near a point the vectors spread in a few directions, not in all. A half of sines of random projections makes 768 of
384 dimensions, in which near stays near, and a rotation spreads both halves over all values, as in a wider model.

`python -m benchmarks.vectors` says how far that holds: intrinsic dimension (Levina and Bickel, 2004), nearest
similarities and the share of variance in 128 axes, of real vectors and of made ones.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import default_workdir

__all__ = ["ARTICLES", "DIM", "make_vectors", "real_vectors", "widen"]

ARTICLES = Path("../shared/data/text/wikipedia_articles.parquet")
MODEL = "gnomonic-embed-text-mini"
DIM = 768
_CHARACTERS = 256
_WAYS = 30
_REACH = 1.1
"""How far the ways to the neighbours are gone, in their own lengths."""
_NOISE = 0.15
"""Length of the noise in all directions, beside the unit length of a vector."""
_REAL = ((500_000, 16_384), (50_000, 12_500), (0, 2_500))
"""From how many vectors on so many passages are embedded for them."""
_BLOCK = 65_536
_VERSION = 2


def _paragraphs(articles: Path) -> list[str]:
    import pyarrow.parquet as pq

    texts = pq.read_table(articles, columns=["text"])["text"].to_pylist()
    return [part[:_CHARACTERS] for text in texts for part in text.split("\n") if len(part) >= 80]


def _docstrings() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= 40:
                    yield text[:_CHARACTERS]


def real_vectors(count: int, workdir: Path, *, articles: Path = ARTICLES) -> NDArray[np.float32]:
    """Return vectors of at most `count` passages, [*, 384] float32 of unit length; kept in `workdir`."""
    found = _paragraphs(articles) if articles.exists() else list(dict.fromkeys(_docstrings()))
    order = np.random.default_rng(0).permutation(len(found))[:count]
    texts = [found[i] for i in order]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
    path = workdir / f"real-{len(texts)}-{digest}.npy"
    if not path.exists():
        from gnomonic import load

        workdir.mkdir(parents=True, exist_ok=True)
        vectors = load(MODEL).encode(texts).vectors
        scratch = path.with_suffix(".tmp.npy")
        np.save(scratch, vectors)
        scratch.replace(path)
    kept: NDArray[np.float32] = np.load(path)
    return kept


def _neighbors(vectors: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    found = np.empty((len(vectors), k), dtype=np.intp)
    for begin in range(0, len(vectors), 2048):
        near = vectors[begin : begin + 2048] @ vectors.T
        near[np.arange(len(near)), np.arange(begin, begin + len(near))] = -np.inf
        found[begin : begin + len(near)] = np.argpartition(-near, k, axis=1)[:, :k]
    return found


def widen(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [n, 768] float32 of unit length from [n, 384]: half sines of projections, all turned; always the same."""
    narrow = vectors.shape[1]
    random = np.random.default_rng(1)
    projections = random.normal(size=(narrow, DIM - narrow)).astype(np.float32)
    turn = np.linalg.qr(random.normal(size=(DIM, DIM)))[0].astype(np.float32)
    bent = np.sin(vectors @ projections)
    bent /= np.linalg.norm(bent, axis=1, keepdims=True)
    wide: NDArray[np.float32] = np.concatenate([vectors, bent], axis=1) @ turn * np.float32(0.5**0.5)
    return wide


def _drawn(
    real: NDArray[np.float32], near: NDArray[np.intp], count: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw [count, dim] float32 vectors of unit length."""
    at = random.integers(len(real), size=count)
    strides = random.standard_normal((count, near.shape[1]), dtype=np.float32)
    strides *= np.float32(_REACH / near.shape[1] ** 0.5)
    drawn = random.standard_normal((count, real.shape[1]), dtype=np.float32)
    drawn *= np.float32(_NOISE / real.shape[1] ** 0.5)
    # Passage by passage, so that its ways are read once for all that is drawn around it.
    order = np.argsort(at, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(at[order])) + 1):
        passage = real[at[rows[0]]]
        drawn[rows] += passage + strides[rows] @ (real[near[at[rows[0]]]] - passage)
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def make_vectors(n: int, seed: int, workdir: Path, *, articles: Path = ARTICLES) -> NDArray[np.float16]:
    """Return n made vectors, memory-mapped [n, 768] float16 of unit length; made on the first call, in blocks.

    Args:
        n: how many.
        seed: another seed draws others from the same density, such as queries.
        workdir: keeps the file, 1.5 GB a million.
        articles: parquet file with a column `text`; docstrings are read where there is none.
    """
    real = real_vectors(next(count for above, count in _REAL if n >= above), workdir, articles=articles)
    digest = hashlib.sha256(real.tobytes()).hexdigest()[:8]
    path = workdir / f"vectors-{n}-{seed}-{digest}-v{_VERSION}.npy"
    if not path.exists():
        near = _neighbors(real, min(_WAYS, len(real) - 1))
        random = np.random.default_rng(seed)
        scratch = path.with_suffix(".tmp.npy")
        out = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.float16, shape=(n, DIM))
        for begin in range(0, n, _BLOCK):
            out[begin : begin + _BLOCK] = widen(_drawn(real, near, min(_BLOCK, n - begin), random))
        out.flush()
        scratch.replace(path)
    made: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return made


def _describe(vectors: NDArray[np.float32], k: int = 20) -> list[float]:
    """Return intrinsic dimension, similarity to the 1st and 10th neighbour, and variance in 128 axes."""
    probes = vectors[:: max(1, len(vectors) // 500)][:500]
    near = np.sort(probes @ vectors.T, axis=1)[:, ::-1][:, 1 : k + 1]
    apart = np.sqrt(np.maximum(2 - 2 * near, 1e-12))
    dimension = 1 / np.mean(np.log(apart[:, -1:] / apart[:, :-1]), axis=1)
    spread = np.linalg.eigvalsh(np.cov(vectors, rowvar=False))[::-1]
    values = (np.median(dimension), near[:, 0].mean(), near[:, 9].mean(), spread[:128].sum() / spread.sum())
    return [float(value) for value in values]


def main() -> None:
    from benchmarks.harness import print_table

    workdir = Path(sys.argv[1]) if len(sys.argv) > 1 else default_workdir()
    real = real_vectors(16_384, workdir)
    made = make_vectors(131_072, 0, workdir)
    shown = {
        "real": real,
        "real, widened": widen(real),
        f"made, {len(real)} of them": np.asarray(made[:: len(made) // len(real)][: len(real)], dtype=np.float32),
        "made, 131,072": np.asarray(made, dtype=np.float32),
    }
    columns = ["vectors", "intrinsic dimension", "1st neighbour", "10th neighbour", "variance in 128 axes"]
    print_table("neighbourhoods", columns, [[name, *_describe(vectors)] for name, vectors in shown.items()])


if __name__ == "__main__":
    main()
