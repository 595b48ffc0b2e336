"""A map as a folder that any file host can show: the viewer, and all that it asks for as plain files.

docs/reference/formats.md says what is in each file. Nothing of a row that was deleted is written, nor of a column that
was not asked for.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomonic import __version__
from gnomonic.atlas.arguments import listed
from gnomonic.atlas.build import load_graph
from gnomonic.atlas.columns import read_columns_index
from gnomonic.atlas.duplicates import Duplicates
from gnomonic.atlas.map_view import map_view, word_fields
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.sketch import plan_sketch
from gnomonic.atlas.static_export_columns import write_columns
from gnomonic.atlas.static_export_files import json_bytes, pack, write_file, write_json
from gnomonic.atlas.static_export_graph import NEIGHBOR_ROWS, write_edges, write_groups, write_neighbors
from gnomonic.atlas.static_export_images import IMAGES_A_FOLDER, ImageWriter
from gnomonic.atlas.static_export_rows import LONG_ROWS, ROWS, SHORT, RowWriter, write_lengths
from gnomonic.atlas.tiles import read_manifest
from gnomonic.atlas.word_index import WordIndex
from gnomonic.errors import DatasetError, InputError
from gnomonic.viewer import files as viewer

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap

__all__ = ["FORMAT", "export_map"]

FORMAT = "gnomonic-site-1"

_BLOCK = 16_384
"""Positions of a file of sketches, and of words by row."""
_MADE = ("index.html", "viewer", "data")
"""What is at the top of an export."""
_NOT_SHOWN = ("home.js", "widget.js")
"""The viewer's files that an export does not need, besides its pages."""


def export_map(
    found: AtlasMap,
    folder: str | Path,
    *,
    columns: Sequence[str] | None = None,
    images: bool = True,
    on_progress: OnProgress = no_progress,
) -> Path:
    """Write a map to a folder that works from any file host; see `AtlasMap.export`."""
    target = Path(folder)
    if target.name in ("", ".."):
        target = target.resolve()  # another folder is put beside it, by its name
    names = _chosen(found, columns)
    _check_target(target)
    fresh = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "data").mkdir(parents=True)
        _Export(found, fresh / "data", names, images, on_progress).write()
        _write_viewer(fresh, found.name)
        _replace(target, fresh)
    except OSError as error:
        raise DatasetError(
            f"the export cannot be written to {target}: {error.strerror or error}",
            hint="make room if the disk is full, or choose another folder",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


class _Export:
    """One export of one version of the rows."""

    def __init__(self, found: AtlasMap, data: Path, names: list[str], images: bool, on_progress: OnProgress) -> None:
        self._found = found
        self._data = data
        self._names = names
        self._living = found.living
        self._order = found.folder.order
        self._images = images and found.dataset.store.has_blobs
        self._on_progress = on_progress
        self._there = np.zeros(found.record.rows, dtype=np.bool_)
        self._there[self._living.alive] = True

    def write(self) -> None:
        """Write all of `data/`."""
        found, data = self._found, self._data
        tiles = found.folder.folder / "tiles"
        write_columns(found, self._living, data / "tiles", self._names, self._there)
        topics = [asdict(one) for one in found.topics.records] if self._has("topics", "build_topic_model") else []
        for one in topics:
            # They are rows of the build, which nobody can look up here.
            del one["exemplars"]
        write_json(data / "topics.json", {"topics": topics})
        write_json(data / "labels.json", {"labels": [asdict(one) for one in found.arrays.labels]})
        self._write_tags()
        gone = ~self._there[self._order]
        if gone.any():
            write_file(data / "gone.bin", pack({}, {"bits": np.packbits(gone, bitorder="little")}))
        graph = self._write_graph()
        view = map_view(found, columns=self._names, images=self._images)
        view["can"]["duplicates_up_to"] = graph["duplicates"]["bound"]
        kinds = read_columns_index(data / "tiles")
        for field in view["fields"]:
            # A column that was written anew may have become one of another kind.
            field["kind"] = kinds[field["name"]].kind if field["name"] in kinds else field["kind"]
        write_json(data / "view.json", view)
        told: dict[str, Any] = {
            "format": FORMAT,
            "made_by": f"gnomonic {__version__}",
            "map": found.id,
            "count": found.record.rows,
            "gone": int(gone.sum()),
            "block": _BLOCK,
            "images": IMAGES_A_FOLDER if self._images else 0,
            "rows": self._write_rows(read_manifest(tiles)),
            "sketch": self._write_sketch(),
            **graph,
        }
        # Last: where it is, all else is.
        write_json(data / "export.json", told)

    def _has(self, stage: str, option: str) -> bool:
        return bool(self._found.record.options.get(stage, {}).get(option))

    def _write_tags(self) -> None:
        annotations = self._found.dataset.annotations
        rows = self._found.folder.rows
        tags = {}
        for name in annotations.tags():
            tagged = (np.isin(rows, annotations.rows_of(name)) & self._there)[self._order]
            tags[name] = base64.b64encode(np.packbits(tagged, bitorder="little").tobytes()).decode("ascii")
        write_file(self._data / "tags.bin", json_bytes(tags))

    def _write_rows(self, manifest: Any) -> dict[str, Any]:
        """Write rows, ids, words and images, block by block."""
        count = len(self._order)
        words = word_fields(self._found, self._names)
        writer = RowWriter(self._found, self._living, self._data, self._names)
        index = WordIndex(self._data / "words", count, _BLOCK) if words else None
        pictures = ImageWriter(self._found, self._living, self._data, self._there) if self._images else None
        for number, begin in enumerate(range(0, count, _BLOCK)):
            self._on_progress(Progress(stage="export", done=begin, total=count))
            end = min(begin + _BLOCK, count)
            kinds = None if pictures is None else pictures.write(begin, end)
            texts = writer.write(begin, end, words, kinds)
            if index is not None:
                index.add(number, texts)
        writer.write_ids()
        if pictures is not None:
            pictures.write_sheets(manifest)
        self._on_progress(Progress(stage="export", done=count, total=count))
        told = {"block": ROWS, "long_block": LONG_ROWS, "short": SHORT, "id_shards": writer.shards, "cut": writer.cut}
        return {**told, "words": None if index is None else index.write()}

    def _write_sketch(self) -> dict[str, Any]:
        vectors = self._found.folder.vectors
        metric = load_graph(self._found.folder).metric
        sketch = plan_sketch(vectors, metric)
        for number, rows in sketch.blocks(vectors, self._order, _BLOCK):
            self._on_progress(Progress(stage="vectors", done=number * _BLOCK, total=len(self._order)))
            rows[~self._there[self._order[number * _BLOCK : number * _BLOCK + len(rows)]]] = 0
            write_file(self._data / "sketch" / f"{number}.bin", pack({}, {"rows": rows.reshape(-1)}), level=1)
        return {"metric": metric, "steps": [float(f"{step:.6g}") for step in sketch.steps], "kept": sketch.kept}

    def _write_graph(self) -> dict[str, Any]:
        found, data = self._found, self._data
        graph = load_graph(found.folder)
        k = write_neighbors(data / "neighbors", graph, self._order, self._there)
        cutoff = found.arrays.own_cutoff
        folder, numbers = data / "duplicates", found.folder.rows
        edges, nodes = write_edges(folder / "edges.bin", graph, self._order, numbers, cutoff)
        lengths = write_lengths(found, self._living, folder / "lengths.bin", self._names, nodes)
        own = found.folder.folder / "duplicates"
        grouped = (own / "classes.npy").is_file()
        if grouped:
            rows = write_groups(folder / "groups.bin", Duplicates.load(own), self._order, numbers)
            write_lengths(found, self._living, folder / "group_lengths.bin", self._names, rows)
        return {
            "neighbors": {"k": k, "block": NEIGHBOR_ROWS, "metric": graph.metric},
            "duplicates": {**edges, "lengths": lengths, "grouped": grouped},
        }


def _chosen(found: AtlasMap, columns: Sequence[str] | None) -> list[str]:
    schema = found.dataset.schema
    if columns is None:
        return list(schema.names)
    wanted = listed(columns, "columns")
    unknown = [name for name in wanted if name not in schema.names]
    if unknown:
        raise InputError(f"there is no column {unknown[0]!r}; the columns are: {', '.join(map(repr, schema.names))}")
    # Rows have an id whatever else they have.
    return [name for name in schema.names if name in wanted or name == found.id_field]


def _check_target(target: Path) -> None:
    """Raise where the folder holds anything but an earlier export."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise InputError(f"{target} is no folder; choose another one to export to")
    if target.samefile("."):
        raise InputError(
            f"{target} is the folder in which this process works, and an export puts another in its place",
            hint="choose a folder in it",
        )
    there = sorted(path.name for path in target.iterdir())
    if not there:
        return
    try:
        earlier = json.loads((target / "data" / "export.json").read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        earlier = False
    other = [name for name in there if name not in _MADE]
    if not earlier or other:
        what = f"holds {other[0]!r}" if other else "is not an earlier export"
        raise InputError(
            f"{target} {what}, and an export would replace all of it", hint="choose a folder that does not exist yet"
        )


def _replace(target: Path, fresh: Path) -> None:
    """Put the new folder in the place of the old one."""
    if not target.exists():
        fresh.rename(target)
        return
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_viewer(folder: Path, title: str) -> None:
    for name, path in viewer.files().items():
        if path.suffix == ".html" or name in _NOT_SHOWN:
            continue
        place = folder / "viewer" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    (folder / "index.html").write_bytes(viewer.page("static:data/", title))
