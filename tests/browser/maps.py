"""The maps that the browser tests look at: `python -m tests.browser.maps FOLDER` makes a data folder of them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from gnomonic.atlas.dataset import Dataset
from gnomonic.cli.docstrings import read_docstrings
from gnomonic.client.datasets import LocalDataset, LocalEncoders
from gnomonic.client.local import APPEARANCE

__all__ = ["COPIES", "LONG_TEXT", "MAGENTA", "MAPS", "ODD", "PAYLOADS", "SCRIPTS", "STDLIB_ROWS", "make"]

STDLIB_ROWS = 1500
COPIES = 40
"""Rows of the standard library's map that say what another row says, under another name."""
ODD = 'Größe "x" <b>&amp; €'
"""A column's name that is not one of a programmer."""
LONG_TEXT = 10_000_000
MAGENTA = (220, 0, 220)
_WHOLE = ("shutil", "json", "re", "random")
"""Modules of which all docstrings are taken; a sample of the others."""

PAYLOADS = (
    "<script>window.pwned=1</script>",
    '<img src=x onerror="window.pwned=1">',
    '"><svg/onload=window.pwned=1>',
    "<svg xmlns='http://www.w3.org/2000/svg'><script>window.pwned=1</script></svg>",
    "javascript:window.pwned=1",
    '<a href="javascript:window.pwned=1" id=evil>click</a>',
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<style>*{display:none!important}</style>",
    "' onmouseover='window.pwned=1' x='",
    "</script><script>window.pwned=1</script>",
    "<details open ontoggle=window.pwned=1>",
    "data:text/html,<script>window.pwned=1</script>",
)
SCRIPTS = (
    "مرحبا بالعالم",
    "שלום עולם",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 family \U0001f3f3\ufe0f\u200d\U0001f308",
    "日本語の題名",
    "Zalgo t\u0338\u0322e\u0337x\u0335t",
    "\u202eright to left override",
    "a" * 300,
    "ไม่มีช่องว่าง",
    "नमस्ते दुनिया",
    "\U0001f1ea\U0001f1fa",
)


def _stdlib(root: Path) -> None:
    """Docstrings of the standard library, with a column of every kind."""
    found = read_docstrings()
    wanted = [one for one in found if one.name.partition(".")[0] in _WHOLE]
    others = [one for one in found if one.name.partition(".")[0] not in _WHOLE]
    step = len(others) / (STDLIB_ROWS - COPIES - len(wanted))
    chosen = wanted + [others[int(i * step)] for i in range(STDLIB_ROWS - COPIES - len(wanted))]
    copied = [one for one in chosen if 60 <= len(one.text) <= 400][:COPIES]
    names = [one.name for one in chosen] + [f"{one.name} (copy)" for one in copied]
    texts = [one.text for one in chosen] + [one.text for one in copied]
    random = np.random.default_rng(0)
    start = datetime(2001, 6, 1, tzinfo=UTC)
    days = random.integers(0, 9000, size=len(names)).tolist()
    odd = random.normal(50, 12, size=len(names)).round(2).tolist()
    table = pa.table(
        {
            "name": names,
            "kind": [_kind(name.removesuffix(" (copy)")) for name in names],
            "module": [name.partition(".")[0] for name in names],
            "length": [len(text) for text in texts],
            "added": [start + timedelta(days=day) for day in days],
            "public": [i % 3 != 0 for i in range(len(names))],
            ODD: [None if i % 10 == 0 else value for i, value in enumerate(odd)],
            "text": texts,
        }
    )
    dataset = Dataset(
        "stdlib", "The docstrings of Python's standard library", "name", root=root, encoders=LocalEncoders()
    )
    dataset.add_data(table)
    dataset.create_index(indexed_field="text", embedding_model="gnomonic-embed-text-mini")


def _kind(name: str) -> str:
    parts = name.split(".")
    if parts[-1][:1].isupper():
        return "class"
    if len(parts) == 1:
        return "module"
    return "method" if any(part[:1].isupper() for part in parts) else "function"


def _pictures(root: Path) -> None:
    """Plain squares, coloured by where they lie."""
    random = np.random.default_rng(1)
    hues = np.arange(90) % 3
    vectors = (8 * np.eye(8)[hues] + random.normal(size=(90, 8))).astype(np.float32)
    blobs = []
    for hue in hues:
        color = [(230, 20, 20), (20, 200, 20), (20, 60, 230)][hue]
        buffer = io.BytesIO()
        Image.new("RGB", (96, 96), color).save(buffer, "PNG")
        blobs.append(buffer.getvalue())
    data = {"title": [f"picture {i}" for i in range(90)], "hue": [("red", "green", "blue")[hue] for hue in hues]}
    dataset = Dataset("pictures", "Squares", root=root)
    dataset.add_data(pa.table(data), vectors, blobs)
    dataset.create_index(modality="embedding")


def _many_pictures(root: Path) -> None:
    """A lattice of more pictures than fit on a sheet, all alike."""
    buffer = io.BytesIO()
    Image.new("RGB", (90, 60), MAGENTA).save(buffer, "PNG")
    xy = np.stack(np.meshgrid(np.arange(40), np.arange(40)), axis=-1).reshape(-1, 2).astype(np.float32)
    dataset = Dataset("many-pictures", "A lattice", root=root)
    dataset.add_data(pa.table({"name": [f"picture {i}" for i in range(len(xy))]}), xy, [buffer.getvalue()] * len(xy))
    dataset.create_index(modality="embedding", topic_model=False)


def _looks(root: Path) -> None:
    """Pictures that are mapped by their colours and edges."""
    random = np.random.default_rng(4)
    blobs = []
    for place in range(60):
        grain = random.integers(-20, 20, size=(48, 48, 3))
        color = np.array([(220, 30, 30), (30, 190, 30), (30, 60, 220)][place % 3])
        buffer = io.BytesIO()
        Image.fromarray(np.clip(color + grain, 0, 255).astype(np.uint8)).save(buffer, "PNG")
        blobs.append(buffer.getvalue())
    dataset = LocalDataset("looks", "Coloured squares", "name", root=root)
    hues = [("red", "green", "blue")[place % 3] for place in range(60)]
    dataset.add_data(pa.table({"name": [f"{hue} {place}" for place, hue in enumerate(hues)]}), blobs=blobs)
    dataset.create_index(modality="image", embedding_model=APPEARANCE)


def _hostile(root: Path) -> None:
    """Markup in every name and value."""
    count = 5 * len(PAYLOADS)
    values = [PAYLOADS[i % len(PAYLOADS)] for i in range(count)]
    data = {
        "id": [f"{value}{i}" for i, value in enumerate(values)],
        "text": [f"{value} row {i}" for i, value in enumerate(values)],
        "kind": values,
        PAYLOADS[0]: values,
        PAYLOADS[1]: list(range(count)),
        PAYLOADS[4]: values,
    }
    vectors = np.random.default_rng(2).normal(size=(count, 6)).astype(np.float32)
    vectors[:, 0] += 9 * (np.arange(count) % 2)
    dataset = Dataset(f"hostile {PAYLOADS[1]}", f"made from {PAYLOADS[0]}.parquet", "id", root=root)
    dataset.add_data(pa.table(data), vectors)
    made = dataset.create_index(PAYLOADS[1], modality="embedding", topic_model={"topic_label_field": "text"})
    dataset.annotations.add(PAYLOADS[1], made.folder.rows[:5])
    folder = made.folder.folder
    topics = folder / "topics" / "topics.json"
    told = json.loads(topics.read_text(encoding="utf-8"))
    renamed = {one["name"]: f"{PAYLOADS[i % len(PAYLOADS)]} {i}" for i, one in enumerate(told)}
    for one in told:
        one |= {"name": renamed[one["name"]], "description": PAYLOADS[0], "keywords": [PAYLOADS[1]]}
    _rewrite(topics, told)
    for dictionary in (folder / "tiles" / "columns").glob("*topic*/dictionary.json"):
        names = json.loads(dictionary.read_text(encoding="utf-8"))
        _rewrite(dictionary, {**names, "names": [renamed.get(name, name) for name in names["names"]]})


def _rewrite(path: Path, value: Any) -> None:
    path.unlink()  # the file may have a second name in the build's folder
    path.write_text(json.dumps(value), encoding="utf-8")


def _plain(root: Path, name: str, vectors: np.ndarray, texts: list[str]) -> None:
    dataset = Dataset(name, root=root)
    table = pa.table({"text": pa.array(texts, pa.string()), "kind": pa.array(["all"] * len(texts), pa.string())})
    dataset.add_data(table, vectors.astype(np.float32))
    dataset.create_index(modality="embedding", topic_model={"topic_label_field": "text"})


def _empty(root: Path) -> None:
    """A map whose rows were all deleted, one without rows from the start being refused."""
    _plain(root, "empty", np.random.default_rng(3).normal(size=(20, 4)), [f"row {i}" for i in range(20)])
    dataset = Dataset("empty", root=root, create=False)
    dataset.delete_data([row[dataset.unique_id_field] for row in dataset])


def _fewer(root: Path) -> None:
    """A map of which half of the rows were deleted since: all of one kind, and a third of the other."""
    kinds = ["a"] * 30 + ["b"] * 10
    ids = [f"row {i}" for i in range(40)]
    vectors = np.random.default_rng(3).normal(size=(40, 4)) + 9 * (np.arange(40)[:, None] % 2)
    dataset = Dataset("fewer", "Half of it is gone", "id", root=root)
    dataset.add_data(pa.table({"id": ids, "kind": kinds}), vectors.astype(np.float32))
    dataset.create_index(modality="embedding")
    dataset.delete_data(ids[20:])


def _odd_maps(root: Path) -> None:
    random = np.random.default_rng(4)
    _plain(root, "one", np.ones((1, 4)), ["the only row"])
    _plain(root, "equal", np.ones((50, 4)), [f"row {i}" for i in range(50)])
    _plain(root, "same-labels", random.normal(size=(20_000, 6)), ["the same words"] * 20_000)
    texts = [f"{SCRIPTS[i % len(SCRIPTS)]} {i}" for i in range(100)]
    vectors = random.normal(size=(100, 6)) + 20 * np.eye(6)[np.arange(100) % 5]
    _plain(root, "scripts", vectors, texts)
    _plain(root, "long", random.normal(size=(20, 4)), ["x" * LONG_TEXT, *["short"] * 19])


MAPS: dict[str, Callable[[Path], None]] = {
    "stdlib": _stdlib,
    "pictures": _pictures,
    "many-pictures": _many_pictures,
    "looks": _looks,
    "hostile": _hostile,
    "empty": _empty,
    "fewer": _fewer,
    "odd": _odd_maps,
}


def make(root: Path, names: list[str] | None = None) -> None:
    """Make the maps in a data folder."""
    for name in names or list(MAPS):
        MAPS[name](root)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2:])
