"""The pages of maps, as a browser gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gnomonic.errors import InputError
from gnomonic.server.auth import create_key
from gnomonic.server.routes.pages import is_page
from gnomonic.viewer import files as viewer
from tests.server.live import LiveServer, running

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "font-src": "'none'",
    "worker-src": "'self'",
    "frame-ancestors": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Ask keys, and know one origin of others."""
    place = tmp_path_factory.mktemp("pages")
    create_key(place / "keys.json", "one")
    options = ("--api-keys", place / "keys.json", "--data-dir", place / "data", "--threads", "1")
    with running(*options, "--allow-origin", "https://app.example.com") as live:
        yield live


@pytest.fixture
def client(server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client


def _policy(answer: httpx.Response) -> dict[str, str]:
    parts = answer.headers["content-security-policy"].split(";")
    return {name: rest for name, _, rest in (part.strip().partition(" ") for part in parts)}


@pytest.mark.parametrize("end", ["", "/current", "/1e03f71c-dd38-4916-a4a5-fa1b5dc755c5", "/"])
def test_a_map_has_a_page_that_needs_no_key_and_says_where_its_data_is(client: httpx.Client, end: str) -> None:
    answer = client.get(f"/map/local/my-docs{end}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    map_id = end.strip("/") or "current"
    assert f'content="/v1/datasets/local/my-docs/maps/{map_id}"' in answer.text
    assert "<title>my-docs · Gnomonic</title>" in answer.text
    assert client.get("/v1/datasets").status_code == 401


@pytest.mark.parametrize("path", ["/map/local/docs", "/viewer/dom.js"])
def test_a_page_may_load_and_ask_its_own_server_alone(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert _policy(answer) == _POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers


def test_pages_have_no_script_or_style_in_them() -> None:
    for name in viewer.PAGES:
        text = viewer.read(name).decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?://", text), name


@pytest.mark.parametrize(
    "path",
    [
        "/map/local/My-Docs", "/map/local/%3Cscript%3E", "/map/local/docs/newest", "/map/local/docs/maps/x",
        "/viewer/index.html", "/viewer/nothing.js", "/viewer/files.py", "/viewer/..%2Ffiles.py",
        "/viewer/%2Fetc%2Fpasswd", "/viewer/@0123/files.py", "/viewer",
    ],
)  # fmt: skip
def test_other_addresses_are_none(server: LiveServer, path: str) -> None:
    with httpx.Client(trust_env=False, timeout=60) as client:
        answer = client.get(server.url + path)
    assert answer.status_code in (401, 404)
    assert "<script" not in answer.text


def test_all_that_a_page_names_is_there_and_is_kept_for_ever(client: httpx.Client) -> None:
    text = client.get("/map/local/docs").text
    addresses = re.findall(r'(?:src|href)="(/[^"]+)"', text)
    assert len(addresses) > 3
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, address
        kind = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
        assert answer.headers["content-type"] == kind[address.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == viewer.read(address.split("/", 3)[3])


def test_what_may_change_is_asked_for_again(client: httpx.Client) -> None:
    for path in ("/map/local/docs", "/viewer/dom.js", "/viewer/@0000000000000000/dom.js"):
        first = client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = client.get(path, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]


def test_the_root_is_a_list_for_browsers_and_a_sentence_for_others(client: httpx.Client) -> None:
    browser = client.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert "<title>Gnomonic maps</title>" in browser.text
    assert _policy(browser) == _POLICY
    assert client.get("/").text == "Ollama is running"
    assert {browser.headers["vary"], client.get("/").headers["vary"]} == {"accept"}
    assert client.post("/", json={"inputs": "a"}).status_code == 401


def test_head_gives_the_head(client: httpx.Client) -> None:
    for path in ("/map/local/docs", "/viewer/dom.js", "/"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_foreign_host_gets_no_page(client: httpx.Client) -> None:
    assert client.get("/map/local/docs", headers={"host": "evil.example.com"}).status_code == 421


def test_pages_are_counted(client: httpx.Client) -> None:
    client.get("/map/local/docs")
    client.get("/map/local/D")
    shown = client.get("/metrics").text
    assert 'gnomonic_request_seconds_count{dialect="none",status="200"}' in shown
    assert 'gnomonic_rejected_total{reason="unknown"}' in shown


@pytest.mark.parametrize(
    ("method", "path", "open_"),
    [
        ("GET", "/map/local/docs", True), ("HEAD", "/viewer/a.js", True), ("GET", "/", True), ("POST", "/", False),
        ("POST", "/map/local/docs", False), ("GET", "/v1/datasets", False), ("GET", "/mapped", False),
    ],
)  # fmt: skip
def test_pages_alone_are_open(method: str, path: str, open_: bool) -> None:
    assert is_page({"method": method, "path": path}) is open_


def test_what_is_put_into_a_page_is_text() -> None:
    made = viewer.page('/v1/"><script>alert(1)</script>', "</title><script>&", root='/viewer/"x/').decode()
    assert "<script>" not in made
    assert 'content="/v1/&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"' in made
    assert "&lt;/title&gt;&lt;script&gt;&amp;" in made
    assert '"/viewer/&quot;x/' in made


@pytest.mark.parametrize(("source", "readers"), [("/v1/x", []), ("static:data", ["data/static_source.js"])])
def test_what_asks_for_the_map_comes_before_what_draws_it(source: str, readers: list[str]) -> None:
    links = re.findall(r'<link rel="modulepreload" href="viewer/([^"]+)"([^>]*)>', viewer.page(source).decode())
    first = {path for path, more in links if not more}
    later = {path for path, more in links if more == ' fetchpriority="low"'}
    assert first | {"main.js"} == {one.path for one in viewer.modules("main.js", *readers, lazy=False)}
    assert later == {one.path for one in viewer.modules("app.js", lazy=False)} - first
    assert {"app.js", "render/points.js"} <= later
    assert not {"interface.js", "panels/key.js"} & (first | later)


def test_modules_come_after_what_they_import() -> None:
    found = viewer.modules("app.js", "data/server_source.js", "bits.js")
    seen: set[str] = set()
    for one in found:
        assert set(one.imports.values()) <= seen, one.path
        assert all(f'"{name}"' in one.text for name in one.imports)
        seen.add(one.path)
    assert {"app.js", "dom.js", "bits.js", "data/transport.js"} <= seen
    with pytest.raises(InputError, match=r"no file 'nothing\.js'"):
        viewer.modules("nothing.js")


def test_a_circle_of_modules_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"a.js": 'import { b } from "./x/b.js";', "x/b.js": '/* import("./c.js") */ export * from "../a.js";'}
    monkeypatch.setattr(viewer, "read", lambda path: texts[path].encode())
    with pytest.raises(InputError, match=r"a\.js → x/b\.js → a\.js"):
        viewer.modules("a.js")


def test_another_file_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.js").write_text("1", encoding="utf-8")
    (tmp_path / "a.py").write_text("1", encoding="utf-8")
    monkeypatch.setattr(viewer, "_ROOT", tmp_path)
    # The look of a second is not the next one's, here or in the tests after this one.
    monkeypatch.setattr(viewer, "_looked_up", viewer._looked_up.__wrapped__)
    assert list(viewer.files()) == ["a.js"]
    before = viewer.version()
    (tmp_path / "b.js").write_text("", encoding="utf-8")
    assert viewer.version() != before
