"""A map as a folder of plain files: what is in it, and that the viewer answers from it as Python does of the map."""

from __future__ import annotations

import base64
import csv
import datetime
import gzip
import io
import json
import os
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.atlas.build import load_graph
from gnomonic.atlas.columns import read_columns_index
from gnomonic.atlas.conditions import Conditions, DuplicateCondition, FieldCondition, passing
from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.explain import field_shares, topic_shares
from gnomonic.atlas.sketch import plan_sketch
from gnomonic.atlas.static_export_files import unpack
from gnomonic.atlas.static_export_graph import write_edges
from gnomonic.atlas.word_index import words_of
from gnomonic.errors import DatasetError, InputError
from tests.house.sources import ROOT

WORDS = [
    "alpha", "beta", "gamma", "delta", "map", "tiles", "python", "index", "search", "vector", "river", "mountain",
    "ocean", "Straße", "naïve",
]  # fmt: skip
GONE = ["k5", "k55", "k123"]
LONG = 150_000
ROWS = 400


def _table(count):
    rng = np.random.default_rng(1)
    bodies = [" ".join(rng.choice(WORDS, 8)) for _ in range(count)]
    if count > 40:
        bodies[40] = "long " + "x" * LONG
        bodies[41] = "middling " + "y" * 900
        bodies[42] = '<script>alert("1")</script>, "quoted"\nnext line'
    return pa.table(
        {
            "key": [f"k{i}" for i in range(count)],
            "title": [f"={i} {WORDS[i % 15]}" for i in range(count)],
            "body": bodies,
            "kind": [("book", "film", "", None)[i % 4] for i in range(count)],
            "price (€)/../x": pa.array([None if i % 9 == 0 else i / 7 for i in range(count)], pa.float64()),
            "when": [datetime.datetime(2020, 1, 1) + datetime.timedelta(days=i % 50) for i in range(count)],
            "ok": [i % 3 == 0 for i in range(count)],
            "list": [[1, 2, i] for i in range(count)],
            "raw": [bytes([i % 256]) * 3 for i in range(count)],
            "__proto__": list(range(count)),
        }
    )


def _vectors(count):
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(9, 80))
    made = (centers[np.arange(count) % 9] + 0.4 * rng.normal(size=(count, 80))).astype(np.float32)
    for first, size in ((50, 8), (100, 20)):
        if count > first + size:
            made[first : first + size] = made[first]
    if count > 220:
        made[200:215] = made[200] + 0.2 * rng.normal(size=(15, 80))
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map that lost rows, its export, and the folder of both."""
    folder = tmp_path_factory.mktemp("export")
    dataset = Dataset("small", unique_id_field="key", root=folder / "data")
    dataset.add_data(_table(ROWS), embeddings=_vectors(ROWS))
    dataset.create_index()
    dataset.get_map().tags.add(["k1", "k2", "k5"], ["good"])
    dataset.delete_data(GONE)
    found = dataset.get_map()
    out = found.export(folder / "site")
    yield found, out
    dataset.close()


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A map of a few rows."""
    dataset = Dataset("few", unique_id_field="key", root=tmp_path_factory.mktemp("few"))
    dataset.add_data(_table(14), embeddings=_vectors(14))
    dataset.create_index()
    yield dataset.get_map()
    dataset.close()


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


# -- what is in the folder --------------------------------------------------------------------------------------------


def test_the_folder_has_the_viewer_and_its_page_says_where_the_map_is(made):
    _, out = made
    page = (out / "index.html").read_text(encoding="utf-8")
    assert 'content="static:data/"' in page
    assert "Content-Security-Policy" in page
    assert 'src="/' not in page
    assert 'href="/' not in page
    assert (out / "viewer" / "main.js").is_file()
    assert (out / "viewer" / "data" / "static_source.js").is_file()
    assert sorted(path.name for path in out.iterdir()) == ["data", "index.html", "viewer"]
    told = _json(out / "data" / "export.json")
    assert (told["count"], told["gone"], told["images"]) == (ROWS, len(GONE), 0)


def test_the_view_offers_what_a_folder_can_do(made):
    found, out = made
    view = _json(out / "data" / "view.json")
    can = {"semantic": False, "words": True, "image": False, "edit": True, "images": False}
    assert view["can"] == {**can, "duplicates_up_to": 0.3}
    assert (view["map"]["id"], view["map"]["rows"], view["map"]["rows_now"]) == (found.id, ROWS, ROWS - len(GONE))
    assert view["title_field"] == "title"


def test_nothing_of_a_row_that_was_deleted_is_written(made):
    found, out = made
    for path in out.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
            for gone in GONE:
                assert f'"{gone}"'.encode() not in raw, path
    infos = read_columns_index(out / "data" / "tiles")
    assert infos["ok"].nulls == len(GONE)
    _, arrays = unpack((out / "data" / "sketch" / "0.bin").read_bytes())
    rows = arrays["rows"].reshape(ROWS, -1)
    assert np.count_nonzero(~rows.any(axis=1)) == len(GONE)
    assert found.record.rows == ROWS


def test_only_the_columns_that_were_asked_for_are_written(made, tmp_path):
    found, _ = made
    out = found.export(tmp_path / "site", columns=["kind"])
    view = _json(out / "data" / "view.json")
    assert [field["name"] for field in view["fields"]] == ["key", "kind"]
    columns = {one["name"] for one in _json(out / "data" / "tiles" / "columns.json")["columns"]}
    assert "kind" in columns
    assert not columns & {"price (€)/../x", "title", "body", "ok"}
    text = b"".join(path.read_bytes() for path in (out / "data").rglob("*.json"))
    assert b"price" not in text


def test_an_unknown_column_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="no column 'kinds'"):
        made[0].export(tmp_path / "site", columns=["kinds"])
    assert not (tmp_path / "site").exists()


def test_a_map_of_one_row_and_then_none_is_written_whole(tmp_path):
    dataset = Dataset("few", unique_id_field="key", root=tmp_path / "data")
    dataset.add_data(_table(1), embeddings=_vectors(1))
    dataset.create_index()
    for there in (1, 0):
        if not there:
            dataset.delete_data(["k0"])
        out = dataset.get_map().export(tmp_path / "site")
        told = _json(out / "data" / "export.json")
        assert (told["count"], told["gone"]) == (1, 1 - there)
        assert (out / "data" / "rows" / "0.bin").is_file()
    dataset.close()


# -- the folder itself ------------------------------------------------------------------------------------------------


def test_an_earlier_export_is_replaced_and_other_folders_are_refused(few, tmp_path, monkeypatch):
    found = few
    out = found.export(tmp_path / "site")
    (out / "data" / "left.bin").write_bytes(b"old")
    assert found.export(out) == out
    assert not (out / "data" / "left.bin").exists()
    (out / "CNAME").write_text("maps.example")
    with pytest.raises(InputError, match="CNAME"):
        found.export(out)
    assert (out / "index.html").is_file()
    for name in ("notes", "file"):
        other = tmp_path / name
        if name == "notes":
            other.mkdir()
            (other / "index.html").write_text("mine")
        else:
            other.write_text("mine")
        with pytest.raises(InputError, match=name):
            found.export(other)
    assert (tmp_path / "notes" / "index.html").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert (found.export(tmp_path / "empty") / "index.html").is_file()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match="in which this process works"):
        found.export(".")
    with pytest.raises(InputError, match="holds 'empty'"):
        found.export("..")


def test_an_export_that_fails_leaves_the_earlier_one(few, tmp_path, monkeypatch):
    found = few
    out = found.export(tmp_path / "site")
    before = (out / "data" / "export.json").stat().st_mtime_ns

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.export(out, on_progress=stop)
    monkeypatch.setattr("gnomonic.atlas.static_export.write_neighbors", _full_disk)
    with pytest.raises(DatasetError, match="No space left"):
        found.export(out)
    assert (out / "data" / "export.json").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def _full_disk(*_):
    raise OSError(28, "No space left on device")


def _once(act):
    """Return what does something the first time that it is told of progress."""
    done = []

    def told(_):
        if not done:
            done.append(act())

    return told


def test_images_and_sheets_are_written(tmp_path):
    image = pytest.importorskip("PIL.Image")
    blobs = []
    for shade in range(6):
        stream = io.BytesIO()
        image.new("RGB", (90, 60), (40 * shade, 0, 0)).save(stream, "PNG")
        blobs.append(stream.getvalue())
    dataset = Dataset("pictures", unique_id_field="key", root=tmp_path / "data")
    table = pa.table({"key": list(range(6))})
    vectors = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    dataset.store.append(table, vectors=vectors, blobs=[*blobs[:5], b"<svg onload=alert(1)>"])
    dataset.create_index(modality="embedding")
    found = dataset.get_map()
    out = found.export(tmp_path / "site")
    assert len(list((out / "data" / "images").rglob("*.png"))) == 5
    assert len(list((out / "data" / "images").rglob("*.*"))) == 5
    with image.open(out / "data" / "thumbs" / "0" / "0" / "0.webp") as sheet:
        assert sheet.size == (6 * 64, 64)
    assert _json(out / "data" / "view.json")["can"]["images"]
    # Rows that go while it is written are in it: it is of one version.
    during = found.export(tmp_path / "during", on_progress=_once(lambda: dataset.delete_data([0])))
    assert len(list((during / "data" / "images").rglob("*.png"))) == 5
    bare = found.export(tmp_path / "bare", images=False)
    assert not (bare / "data" / "images").exists()
    assert not _json(bare / "data" / "view.json")["can"]["images"]
    dataset.close()


# -- vectors and edges in little room ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_sketch_with_all_directions_only_rounds(metric):
    vectors = _vectors(300)[:, :20]
    sketch = plan_sketch(vectors, metric)
    rows = sketch.encode(vectors).astype(np.float32) * sketch.steps
    assert rows.shape == (300, 20)
    assert sketch.kept == pytest.approx(1)
    if metric == "cosine":
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert np.abs(rows @ rows.T - unit @ unit.T).max() < 0.05
    else:
        true = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        assert np.abs(np.linalg.norm(rows[:, None] - rows[None], axis=2) - true).max() < 0.05 * true.max()


def test_a_sketch_keeps_most_of_the_nearest_rows_with_fewer_directions():
    vectors = _vectors(400)
    sketch = plan_sketch(vectors, "cosine", dim=20)
    rows = sketch.encode(vectors).astype(np.float32) * sketch.steps
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    true, told = (np.argsort(-one, axis=1)[:, :11] for one in (unit @ unit.T, rows @ rows.T))
    assert np.mean([len(set(a) & set(b)) for a, b in zip(true, told, strict=True)]) > 4


def test_a_sketch_of_nothing_or_zeros_is_zeros():
    assert plan_sketch(np.zeros((0, 5), np.float16), "cosine").encode(np.zeros((0, 5), np.float16)).shape == (0, 5)
    zeros = np.zeros((3, 5), np.float32)
    assert not plan_sketch(zeros, "euclidean").encode(zeros).any()
    assert not plan_sketch(zeros, "cosine").encode(zeros).any()


def test_the_bound_of_duplicates_falls_with_their_number_but_not_below_the_maps_own(made, tmp_path, monkeypatch):
    found, _ = made
    graph, order, numbers = load_graph(found.folder), found.folder.order, found.folder.rows
    whole, _ = write_edges(tmp_path / "whole.bin", graph, order, numbers, 0.1)
    monkeypatch.setattr("gnomonic.atlas.static_export_graph._EDGES", whole["edges"] // 2)
    half, nodes = write_edges(tmp_path / "half.bin", graph, order, numbers, 0.1)
    assert 0.1 < half["bound"] < whole["bound"] == 0.3
    assert half["edges"] <= whole["edges"] // 2 + 2
    head, arrays = unpack((tmp_path / "half.bin").read_bytes())
    assert (head["metric"], len(arrays["positions"]), len(arrays["ends"])) == ("cosine", len(nodes), half["edges"])
    own, _ = write_edges(tmp_path / "own.bin", graph, order, numbers, 0.29)
    assert own["bound"] == 0.29


def test_a_map_of_positions_is_told_by_distances(tmp_path):
    dataset = Dataset("plane", root=tmp_path / "data")
    dataset.add_data(embeddings=np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32))
    dataset.create_index(topic_model=False, duplicate_detection=False)
    told = _json(dataset.get_map().export(tmp_path / "site") / "data" / "export.json")
    assert told["sketch"]["metric"] == told["neighbors"]["metric"] == told["duplicates"]["metric"] == "euclidean"
    assert (told["rows"]["words"], told["duplicates"]["grouped"]) == (None, False)
    assert _json(tmp_path / "site" / "data" / "labels.json") == {"labels": []}
    dataset.close()


# -- the viewer's answers from it -------------------------------------------------------------------------------------


def _asked(found):
    """Return conditions as the viewer has them, and as Python does."""
    names = found.arrays.columns.names("kind")
    topic = found.arrays.topics.topics[-1]
    price = "price (€)/../x"
    xy = np.asarray(found.folder.xy)
    low, high = np.quantile(xy, 0.2, axis=0), np.quantile(xy, 0.7, axis=0)
    # Between points, so that the rounding of tiles puts none on the other side.
    box = [float(v) + 1e-4 for v in (*low, *high)]
    corners = [[box[0], box[1]], [box[2], box[1] + 0.3], [box[2] - 0.2, box[3]]]
    bits = np.packbits(np.arange(ROWS) % 3 == 0, bitorder="little")
    field = FieldCondition
    duplicates = {"cutoff": 0.1, "keep": "first", "by": None}
    return [
        ({}, Conditions()),
        ({"invert": True}, Conditions(invert=True)),
        ({"topics": [topic.id]}, Conditions(topics=[topic.id])),
        ({"topics": [topic.name, 0]}, Conditions(topics=[topic.name, 0])),
        ({"topics": []}, Conditions(topics=[])),
        ({"tags": ["good"]}, Conditions(tags=["good"])),
        ({"ids": ["k9", "k10"]}, Conditions(ids=["k9", "k10"])),
        ({"bits": base64.b64encode(bits).decode()}, Conditions(positions=np.arange(ROWS) % 3 == 0)),
        (
            {"fields": [{"column": "kind", "codes": [names.index("film")]}], "invert": True},
            Conditions(fields=(field(column="kind", codes=(names.index("film"),)),), invert=True),
        ),
        (
            {"fields": [{"column": "kind", "codes": [], "nulls": True}, {"column": "ok", "codes": [1]}]},
            Conditions(fields=(field(column="kind", codes=(), nulls=True), field(column="ok", codes=(1,)))),
        ),
        (
            {"fields": [{"column": price, "min": 11 / 7, "max": 30, "nulls": False}]},
            Conditions(fields=(field(column=price, low=11 / 7, high=30),)),
        ),
        ({"fields": [{"column": price, "nulls": True, "max": 3}]},
         Conditions(fields=(field(column=price, nulls=True, high=3),))),
        ({"fields": [{"column": price}]}, Conditions(fields=(field(column=price),))),
        ({"fields": [{"column": "when", "min": 1.58e12}]}, Conditions(fields=(field(column="when", low=1.58e12),))),
        ({"box": box}, Conditions(box=np.array(box))),
        ({"polygon": corners}, Conditions(polygon=np.array(corners))),
        ({"duplicates": duplicates}, Conditions(duplicates=DuplicateCondition(**duplicates))),
    ]  # fmt: skip


def _expected(found):
    """Return what Python says of the map."""
    arrays = found.arrays
    asked = _asked(found)
    some = [asked[0], asked[8], asked[14]]
    columns = ["kind", "ok", "price (€)/../x", "when", "_trust", "_topic_depth_1"]
    texts = found.dataset.store.take(found.alive_rows, ["key", "title", "body", "kind"]).to_pylist()
    # The export counts over the columns as they are now, without the rows that are gone.
    return {
        "filters": [{"conditions": a, "positions": np.flatnonzero(passing(found, b)).tolist()} for a, b in asked],
        "refused": [
            {"where": "ok"}, {"topics": ["none"]}, {"tags": ["none"]}, {"ids": ["k5"]}, {"ids": ["none"]},
            {"fields": [{"column": "none"}]}, {"fields": [{"column": "body", "min": 1}]},
            {"fields": [{"column": "kind", "min": 1}]}, {"heat": {"query": "x", "at_least": 0.5}},
        ],
        "counts": [
            {
                "conditions": a, "columns": columns, "total": int(passing(found, b).sum()),
                "counts": {name: arrays.columns.counts(name, passing(found, b)) for name in columns},
            }
            for a, b in some
        ],
        "duplicates": [_groups(found, cutoff, *rule) for cutoff in (0, 0.03, 0.1, 0.15, 0.3) for rule in (
            ("first", None), ("longest", "body"), ("longest", None), ("newest", "when"), ("newest", None),
            ("central", None),
        )],
        "rows": [_row(found, position) for position in (0, 1, 255, 256, ROWS - 1, _place(found, "k5"))],
        "long": {"position": _place(found, "k40"), "field": "body", "length": LONG + 5, "kept": 100_000},
        "neighbors": [_neighbors(found, position) for position in (0, 7, 399)],
        "find": {
            "id": {"id": "k77", "position": _place(found, "k77")},
            "words": [_words(found, texts, query) for query in ("alpha", "Straße OCEAN", "film nothinglikeit")],
            "like": _like(found, _place(found, "k300")),
        },
        "explain": _explained(found),
        "tags": [{"name": "good", "rows": 2}],
        "files": _files(found),
    }  # fmt: skip


def _place(found, key):
    number = int(found.folder.rows[int(key[1:])])
    return int(found.arrays.places[found.folder.positions_of(np.array([number]))[0]])


def _groups(found, cutoff, keep, by):
    groups = found.arrays.groups(cutoff, keep, by)
    pages = [found.arrays.places[groups.group(number)[:100]].tolist() for number in range(groups.count)]
    answer = {
        "cutoff": cutoff, "groups": groups.count, "rows": len(groups.rows), "deletable": len(groups.deletable),
        "page": [{"positions": positions, "keep": positions[0]} for positions in pages],
    }  # fmt: skip
    return {"asked": {"cutoff": cutoff, "keep": keep, "by": by}, "answer": answer}


def _row(found, position):
    at = int(found.folder.order[position])
    if at not in found.alive:
        return {"position": position, "row": None}
    values = found.dataset.store.take(found.folder.rows[[at]], None).to_pylist()[0]
    x, y = (float(value) for value in found.folder.xy[at])
    trust = float(found.trust_of(np.array([at]))[0])
    shown = {**values, "when": values["when"].isoformat(), "raw": "<3 bytes>"}
    return {"position": position, "row": {"id": values["key"], "x": x, "y": y, "trust": trust, "values": shown}}


def _neighbors(found, position):
    graph = load_graph(found.folder)
    at = int(found.folder.order[position])
    alive = set(found.alive.tolist())
    near = [
        {"position": int(found.arrays.places[row]), "id": found.all_ids[int(row)].as_py(), "distance": float(apart)}
        for row, apart in zip(graph.indices[at].tolist(), graph.distances[at], strict=True)
        if row in alive
    ]
    return {"position": position, "neighbors": near}


def _words(found, texts, query):
    asked = set(words_of(query))
    held = [set(words_of("\n".join(str(value) for value in row.values() if value))) for row in texts]
    places = found.arrays.places[found.alive]
    every = sorted(int(places[i]) for i, words in enumerate(held) if asked <= words)
    some = sorted(int(places[i]) for i, words in enumerate(held) if asked & words)
    return {"query": query, "every": every, "some": some}


def _like(found, position):
    nearest = [one["position"] for one in _neighbors(found, position)["neighbors"]]
    ids = [f"k{i}" for i in range(60, 75)]
    return {
        "position": position, "nearest": nearest, "ids": ids, "among": sorted(_place(found, one) for one in ids),
    }  # fmt: skip


def _explained(found):
    arrays = found.arrays
    texts = found.data.columns(["body"]).column(0).to_pylist()
    chosen = [key for key, body in zip(found.ids.to_pylist(), texts, strict=True) if "ocean" in body]
    conditions = {"ids": chosen, "fields": [{"column": "ok", "codes": [1]}]}
    inside = passing(found, Conditions(ids=chosen, fields=(FieldCondition(column="ok", codes=(1,)),)))
    outside = arrays.living() & ~inside
    skip = ["key", *(name for name in arrays.columns.infos if name.startswith("_topic_depth_"))]
    fields = field_shares(arrays.columns, inside, outside, skip=skip)
    topics = topic_shares(arrays.topics, arrays.by_row(inside), arrays.by_row(outside))
    return {
        "conditions": conditions, "count": int(inside.sum()), "word": "ocean",
        "fields": [[one.column, one.value, one.code, one.count] for one in fields],
        "topics": [[one.id, one.count] for one in topics],
    }  # fmt: skip


def _files(found):
    ids = ["k42", "k41", "k7"]
    positions = sorted(_place(found, one) for one in ids)
    rows = [_row(found, position)["row"]["values"] for position in positions]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(rows[0])
    for row in rows:
        cells = {**row, "list": json.dumps(row["list"], separators=(",", ":")), "ok": str(row["ok"]).lower()}
        writer.writerow([_cell(value) for value in cells.values()])
    written = "".join(f"{row['key']}\n" for row in rows)
    return {"conditions": {"ids": ids}, "csv": stream.getvalue(), "jsonl": rows, "ids": written}


def _cell(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return f"'{value}" if str(value).startswith("=") else value


def _run_node(*tests, **environment):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; it runs the viewer's modules without a browser")
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", *tests],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_viewer_answers_from_the_folder_as_python_does_of_the_map_and_its_parts_do_what_they_say(made):
    found, out = made
    (out.parent / "expected.json").write_text(json.dumps(_expected(found)), encoding="utf-8")
    parts = sorted((ROOT / "tests" / "browser" / "unit").glob("*.test.mjs"))
    assert "static_source.test.mjs" in [path.name for path in parts]
    _run_node(*map(str, parts), GNOMONIC_TEST_EXPORT=str(out))
