"""The notebook's widget without a notebook: questions as its page asks them, answers as they go back."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("lancedb")
pytest.importorskip("anywidget")

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.checkpoints.huggingface import describe
from gnomonic.client import local, viewing
from gnomonic.client.channels import LocalChannel
from gnomonic.client.datasets import AtlasDataset, LocalDataset
from gnomonic.client.widget import MapWidget
from gnomonic.errors import DatasetError, InputError
from gnomonic.inference.encoder import TextEncoder
from gnomonic.inference.tokenizer import Tokenizer
from tests.client.atlas_server import AtlasServer, serving_atlas
from tests.fakes import FakeEngine

_N = 60
_KINDS = ("the cat and the mouse", "a train to the mountain", "bread made by fire")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[AtlasMap]:
    """A map of texts, made with a model of another name than the default."""
    encoder = TextEncoder(describe(tiny_checkpoint), Tokenizer.open(tiny_checkpoint), FakeEngine())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "text_encoder", lambda model: {"tiny-text": encoder}[model])
        yield _made(tmp_path_factory.mktemp("data"))


def _made(root: Path) -> AtlasMap:
    dataset = LocalDataset("notes", "", "key", root=root)
    dataset.add_data([{"key": f"k{i}", "text": f"{_KINDS[i % 3]} {i}", "n": i} for i in range(_N)])
    return dataset.create_index(indexed_field="text", embedding_model="tiny-text", projection={"n_epochs": 5})


class _Page:
    """The other end of a widget: what its page says and hears."""

    def __init__(self, found: AtlasMap) -> None:
        self.widget: MapWidget = found.widget(height=300)
        self.heard: Queue[tuple[dict[str, Any], bytes]] = Queue()
        self.widget.send = lambda content, buffers: self.heard.put((content, bytes(buffers[0])))

    def tell(self, content: Any) -> None:
        self.widget._handle_custom_msg(content, [])

    def ask(self, content: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        self.tell({"id": 7, **content})
        told, body = self.heard.get(timeout=60)
        assert told["id"] == 7
        return told["status"], told["headers"], body

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        return self.ask({"kind": "request", "method": method, "path": path, "json": body})

    def json(self, method: str, path: str, body: Any = None) -> Any:
        status, _, said = self.request(method, path, body)
        assert status == 200, said
        return json.loads(said)


@pytest.fixture
def page(found: AtlasMap) -> Iterator[_Page]:
    made = _Page(found)
    yield made
    made.widget.close()


def _bits(positions: list[int]) -> str:
    mask = np.zeros(_N, dtype=bool)
    mask[positions] = True
    return base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode()


def test_the_page_gets_the_viewer(page: _Page) -> None:
    status, _, body = page.ask({"kind": "files", "entries": ["app.js", "data/server_source.js", "bits.js"]})
    told = json.loads(body)
    assert status == 200
    assert {"app.js", "data/server_source.js", "bits.js"} <= {one["path"] for one in told["modules"]}
    assert any(".gnomonic" in style for style in told["styles"])
    assert page.widget.get_state()["height"] == 300
    assert "export default { render }" in page.widget.get_state()["_esm"]


def test_the_page_gets_the_map_as_from_a_server(page: _Page, found: AtlasMap) -> None:
    manifest = page.json("GET", "/files/manifest.json")
    assert manifest["count"] == _N
    status, headers, tile = page.request("GET", f"/../{found.id}/files/tiles/0/0/0.bin")
    assert (status, len(tile)) == (200, 4 * _N)
    assert headers["content-type"] == "application/octet-stream"
    assert page.request("GET", "/files/manifest.json")[1]["x-gnomonic-map"] == found.id
    assert page.json("GET", "/view")["can"]["semantic"] is True
    status, headers, bits = page.request("POST", "/filter", {"where": "n < 10"})
    assert (headers["x-gnomonic-count"], len(bits)) == ("10", (_N + 7) // 8)
    assert page.json("GET", "/neighbors/3?k=2")
    assert page.json("GET", "/../../tags") == {"tags": []}


def test_typed_texts_are_embedded_by_the_maps_model(page: _Page) -> None:
    hits = page.json("POST", "/find", {"mode": "semantic", "query": f"{_KINDS[1]} 4", "k": 3})["hits"]
    assert len(hits) == 3
    rows = page.json("POST", "/rows-at", {"positions": [hits[0]["position"]]})["rows"]
    assert rows[0]["values"]["n"] is not None


def test_what_is_streamed_and_what_is_a_file_comes_whole(page: _Page) -> None:
    status, _, ids = page.request("POST", "/export", {"format": "ids"})
    assert status == 200
    assert sorted(ids.decode().split()) == sorted(f"k{i}" for i in range(_N))
    assert page.request("POST", "/export", {"format": "parquet"})[2][:4] == b"PAR1"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/../../../other/maps/current/view", None, 400),
        ("GET", "/../../../../../../etc/passwd", None, 400),
        ("GET", "/nothing", None, 400),
        ("DELETE", "/view", None, 400),
        ("GET", "/files/quality.json", None, 404),
        ("POST", "/filter", {"where": "no such column = 1"}, 400),
        ("POST", "/filter", [1], 400),
    ],
)
def test_mistakes_are_told(page: _Page, method: str, path: str, body: Any, status: int) -> None:
    told, _, said = page.request(method, path, body)
    assert told == status
    assert json.loads(said)["detail"]


def test_a_failure_of_ours_is_told_too(page: _Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalChannel, "request", lambda *_: 1 / 0)
    status, _, said = page.request("GET", "/view")
    assert status == 500
    assert "ZeroDivisionError" in json.loads(said)["detail"]


@pytest.mark.parametrize("content", [None, "x", {}, {"id": "7"}, {"kind": "files"}])
def test_what_is_no_question_is_passed_over(page: _Page, content: Any) -> None:
    page.tell(content)
    assert page.request("GET", "/labels")[0] == 200


def test_a_selection_on_the_map_is_read_in_python(page: _Page, found: AtlasMap) -> None:
    seen: list[list[str]] = []
    page.widget.observe(lambda change: seen.append(change["new"]), "selection")
    positions = [2, 5, 59]
    page.widget.set_state({"_selected": _bits(positions)})
    rows = found.folder.order[positions]
    wanted = found.all_ids.take(rows).to_pylist()
    assert sorted(page.widget.selection) == sorted(wanted)
    assert seen == [page.widget.selection]
    assert sorted(page.widget.selected_table()["n"].to_pylist()) == sorted(int(one[1:]) for one in wanted)
    assert page.widget.selected_table(["n"]).num_columns >= 1
    page.widget.set_state({"_selected": ""})
    assert page.widget.selection == []
    assert page.widget.selected_table().num_rows == 0


def test_more_ids_than_a_request_takes_are_selected(page: _Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnomonic.client.widget._IDS_A_REQUEST", 7)
    ids = [f"k{i}" for i in range(40)]
    page.widget.selection = [*ids, "k3"]
    assert sorted(page.widget.selected_table().column("key").to_pylist()) == sorted(ids)
    with pytest.raises(InputError, match="nobody"):
        page.widget.selection = [*ids, "nobody"]


def test_a_selection_set_in_python_goes_to_the_map(page: _Page, found: AtlasMap) -> None:
    page.widget.selection = ["k7", "k3"]
    rows = [found.all_ids.to_pylist().index(one) for one in ("k7", "k3")]
    assert page.widget._selected == _bits([int(np.flatnonzero(found.folder.order == row)[0]) for row in rows])
    assert page.widget.selection == ["k7", "k3"]
    with pytest.raises(InputError, match="nobody"):
        page.widget.selection = ["k1", "nobody"]
    assert page.widget.selection == ["k7", "k3"]
    page.widget.selection = []
    assert page.widget._selected == ""


def test_a_cell_runs_in_an_event_loop(page: _Page) -> None:
    async def cell() -> int:
        page.widget.selection = ["k1", "k2"]
        return page.widget.selected_table().num_rows

    assert asyncio.run(cell()) == 2


def test_columns_that_are_not_there_are_told(page: _Page) -> None:
    page.widget.selection = ["k1"]
    with pytest.raises((InputError, DatasetError), match="nothing"):
        page.widget.selected_table(["nothing"])


def test_a_notebook_shows_the_widget_and_others_the_page(found: AtlasMap, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(viewing.webbrowser, "open", opened.append)
    monkeypatch.setattr(viewing.LocalShowing, "address", lambda *_: "http://here/map")
    assert found.show() == "http://here/map"
    assert opened == ["http://here/map"]
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    shown = found.show()
    assert isinstance(shown, MapWidget)
    shown.close()


def test_the_address_is_that_of_a_page_which_answers(found: AtlasMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(viewing.__file__).parents[2]))
    first = found.url
    assert first.endswith("/map/local/notes")
    assert b"/v1/datasets/local/notes/maps/current" in httpx.get(first, trust_env=False).content
    newer = found.dataset.create_index(indexed_field="text", embedding_model="tiny-text", seed=1)
    assert newer.url == first
    assert found.url == f"{first}/{found.id}"
    viewing._stop_all()
    viewing._servers.clear()


def test_a_map_on_a_server_is_asked_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_atlas(AtlasServer(tmp_path)) as server:
        monkeypatch.setenv("GNOMONIC_API_URL", server.url)
        dataset = AtlasDataset("far", unique_id_field="key")
        vectors = np.random.default_rng(0).normal(size=(_N, 4)).astype(np.float32)
        dataset.add_data([{"key": i} for i in range(_N)], vectors)
        found = dataset.create_index()
        assert found.url == f"{server.url}/map/local/far"
        page = _Page(found)
        assert page.json("GET", "/files/manifest.json")["count"] == _N
        assert page.request("GET", "/files/nothing.json")[0] == 404
        page.widget.selection = list(np.array([5, 6]))
        assert sorted(page.widget.selected_table()["key"].to_pylist()) == [5, 6]
        page.widget.close()
