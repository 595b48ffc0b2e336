"""Pictures of rows: sheets, single ones, and search with one."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from gnomonic.errors import DatasetNotFoundError, InputError
from gnomonic.server.atlas import api_datasets, api_images, api_maps, api_search, api_viewer
from gnomonic.server.atlas.desk import Desk
from tests.server.atlas.desks import ask, desk_in, run_jobs, said

_ONE = {"organization": "local", "slug": "pictures"}
_MAP = {**_ONE, "map_id": "current"}
_SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
_COLOURS = ("red", "lime", "blue")


def _file(i: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40 + i, 40), _COLOURS[i % 3]).save(stream, kind)
    return stream.getvalue()


_FILES = [_file(i, ("PNG", "JPEG", "GIF", "WEBP")[i % 4]) for i in range(24)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With pictures of three colours; two rows have none, and one is gone."""
    desk = desk_in(tmp_path_factory.mktemp("data"), images="appearance")
    ask(desk, api_datasets.create, {"name": "pictures", "unique_id_field": "key"})
    table = pa.table({"key": list(range(26)), "_blob": pa.array([*_FILES, None, None], pa.binary())})
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    path = desk.options.root / "rows"
    path.write_bytes(stream.getvalue())
    kind = {"content-type": "application/vnd.apache.arrow.file"}
    assert ask(desk, api_datasets.append_rows, upload=path, params=_ONE, headers=kind).status_code == 201
    ask(desk, api_maps.build, {"modality": "image", "topics": False}, params=_ONE)
    (done,) = run_jobs(desk)
    assert done.error is None
    ask(desk, api_datasets.delete_rows, {"ids": [9]}, params=_ONE, query={"update_maps": "false"})
    return desk


def _places(desk: Desk) -> list[int]:
    """Return the position of each row."""
    found = desk.datasets.map_of(desk.datasets.open("local", "pictures"), "current")
    return found.arrays.places.tolist()


def test_a_picture_is_sent_as_it_was_given(desk: Desk) -> None:
    places = _places(desk)
    for row, kind in ((0, "png"), (1, "jpeg"), (2, "gif"), (3, "webp")):
        answer = ask(desk, api_images.image, params={**_MAP, "position": str(places[row])})
        assert bytes(answer.body) == _FILES[row]
        assert answer.headers["content-type"] == f"image/{kind}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    for bad in (str(places[24]), str(places[9]), "26", "-1", "x", "²", "1" * 30):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, api_images.image, params={**_MAP, "position": bad})


def test_what_can_run_is_never_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = desk.datasets.open("local", "pictures").store
    for bad in (_SVG, b"<html><script>alert(1)</script>", b"", b"%PDF-1.7", b"BM"):
        monkeypatch.setattr(store, "blobs", lambda rows, bad=bad, **_: [bad] * len(rows))
        with pytest.raises(InputError, match="no PNG, JPEG, WebP or GIF"):
            ask(desk, api_images.image, params={**_MAP, "position": "0"})


def test_a_sheet_of_a_tile(desk: Desk) -> None:
    tile = {**_MAP, "z": "0", "x": "0", "y": "0"}
    answer = ask(desk, api_images.thumbs, params=tile)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    drawn = np.asarray(Image.open(io.BytesIO(bytes(answer.body))).convert("RGBA")).astype(int)
    assert drawn.shape == (64, 26 * 64, 4)
    for row, place in enumerate(_places(desk)):
        middle = drawn[32, place * 64 + 32]
        if row in (9, 24, 25):
            assert middle[3] == 0
        else:
            assert middle[:3].argmax() == row % 3
            assert middle[3] == 255
    again = ask(desk, api_images.thumbs, params=tile, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, bytes(again.body)) == (304, b"")
    for bad in ({"z": "5"}, {"x": "1"}, {"y": "x"}, {"z": ".."}, {"z": "0" * 200}):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, api_images.thumbs, params={**tile, **bad})


def test_a_small_picture_of_one_row(desk: Desk) -> None:
    places = _places(desk)
    for row, there in ((0, True), (1, True), (25, False)):
        params = {**_MAP, "position": str(places[row])}
        answer = ask(desk, api_images.thumb, params=params)
        assert answer.headers["content-type"] == "image/webp"
        drawn = np.asarray(Image.open(io.BytesIO(bytes(answer.body))).convert("RGBA")).astype(int)
        assert drawn.shape == (64, 64, 4)
        assert (drawn[32, 32, 3] == 255) == there
        assert not there or drawn[32, 32, :3].argmax() == row % 3
        again = ask(desk, api_images.thumb, params=params, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, bytes(again.body)) == (304, b"")
    for bad in (str(places[9]), "26", "-1", "x", "1" * 30):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, api_images.thumb, params={**_MAP, "position": bad})


def test_search_with_a_picture(desk: Desk) -> None:
    can = said(ask(desk, api_viewer.view, params=_MAP))["can"]
    assert (can["semantic"], can["image"], can["images"]) == (False, True, True)
    places = _places(desk)
    image = base64.b64encode(_file(2)).decode()
    hits = said(ask(desk, api_search.find, {"mode": "image", "image": image, "k": 8}, params=_MAP))["hits"]
    assert {places.index(one["position"]) % 3 for one in hits} == {2}
    answer = ask(desk, api_search.heat, {"image": image, "dtype": "uint8"}, params=_MAP)
    heat = np.frombuffer(bytes(answer.body), np.uint8)
    assert heat[places[2]] == 255
    assert heat[places[0]] < 250
    body = {"heat": {"image": image, "at_least": float(answer.headers["x-gnomonic-high"]) - 0.01}}
    bits = np.unpackbits(
        np.frombuffer(bytes(ask(desk, api_search.filter_bits, body, params=_MAP).body), np.uint8), bitorder="little"
    )
    assert bits[places[2]] == 1
    assert bits[places[0]] == 0
    for bad in (base64.b64encode(_SVG).decode(), "!", "", base64.b64encode(_file(0)[:50]).decode()):
        with pytest.raises(InputError):
            ask(desk, api_search.find, {"mode": "image", "image": bad}, params=_MAP)
    with pytest.raises(InputError):
        ask(desk, api_search.find, {"query": "a text"}, params=_MAP)
    without = desk_in(desk.options.root)
    assert said(ask(without, api_viewer.view, params=_MAP))["can"]["image"] is False
    with pytest.raises(InputError, match="'appearance', which is not served here"):
        ask(without, api_search.find, {"mode": "image", "image": image}, params=_MAP)
    without.datasets.close()


def test_a_map_without_pictures(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    ask(desk, api_datasets.create, {"name": "pictures"})
    (tmp_path / "rows").write_bytes(b'{"rows": [{"a": 1}, {"a": 2}], "embeddings": [[1, 2], [2, 1]]}')
    ask(desk, api_datasets.append_rows, upload=tmp_path / "rows", params=_ONE, headers={})
    ask(desk, api_maps.build, {}, params=_ONE)
    run_jobs(desk)
    tile: dict[str, Any] = {**_MAP, "z": "0", "x": "0", "y": "0"}
    for function, params in ((api_images.thumbs, tile), (api_images.image, {**_MAP, "position": "0"})):
        with pytest.raises(DatasetNotFoundError):
            ask(desk, function, params=params)
    view = said(ask(desk, api_viewer.view, params=_MAP))
    assert (view["can"]["words"], view["can"]["images"], view["text_field"]) == (False, False, None)
    assert said(ask(desk, api_viewer.explain, {"where": "a = 1"}, params=_MAP))["words"] == []
    with pytest.raises(InputError, match="made from embeddings"):
        ask(desk, api_search.find, {"mode": "image", "image": "aGk="}, params=_MAP)
    with pytest.raises(InputError):
        ask(desk, api_search.find, {"query": "a"}, params=_MAP)
    with pytest.raises(InputError, match="no column of texts"):
        ask(desk, api_search.find, {"mode": "words", "query": "a"}, params=_MAP)
