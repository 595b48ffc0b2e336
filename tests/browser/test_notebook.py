"""The widget in a page that stands in for a notebook: anywidget's model here, messages to the real widget there."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.driver import MOUNTED, Watch, until
from tests.browser.pixels import count_of, picture

pytest.importorskip("anywidget")

from gnomonic.client.datasets import LocalDataset

_NOTEBOOK = """<!doctype html><html><head><title>Notebook</title><link rel="icon" href="data:,"></head>
<body data-jp-theme-light="true"><h1>Notebook</h1><div id="cell"></div><script type="module">
import widget from "/widget.js";
const listeners = new Map(), state = { height: 500, _selected: "" };
const tell = (name, ...told) => (listeners.get(name) ?? new Set()).forEach((run) => run(...told));
window.model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; },
  save_changes: () => fetch("/state", { method: "POST", body: state._selected }),
  on: (name, run) => listeners.set(name, (listeners.get(name) ?? new Set()).add(run)),
  off: (name, run) => listeners.get(name)?.delete(run),
  send: async (content) => {
    const answer = await fetch("/message", { method: "POST", body: JSON.stringify(content) });
    const told = JSON.parse(answer.headers.get("x-told"));
    tell("msg:custom", told, [new DataView(await answer.arrayBuffer())]);
  },
  put: (name, value) => { state[name] = value; tell("change:" + name); },
};
window.takeDown = widget.render({ model: window.model, el: document.getElementById("cell") });
</script></body></html>"""


@contextmanager
def _serving(widget: Any) -> Iterator[str]:
    """Serve a page with the widget in it; what its page asks goes to the widget as a message would."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: bytes, kind: str, **more: str) -> None:
            self.send_response(200)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/widget.js":
                self.answer(str(widget._esm).encode(), "text/javascript")
            else:
                self.answer(_NOTEBOOK.encode(), "text/html")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/state":
                widget._selected = body.decode()
                self.answer(b"", "text/plain")
                return
            asked = json.loads(body)
            made = (widget._files if asked.get("kind") == "files" else widget._request)(asked)
            told = {"id": asked["id"], "status": made.status, "headers": dict(made.headers)}
            self.answer(made.body, "application/octet-stream", **{"x-told": json.dumps(told)})

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=host.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_port}/"
    finally:
        host.shutdown()
        host.server_close()
        thread.join(10)


def test_the_widget_shows_the_map_and_shares_its_selection(chromium: Any, data: Path, watch: Watch) -> None:
    found = LocalDataset("stdlib", root=data, create=False).get_map()
    widget = found.widget(height=500)
    with _serving(widget) as address:
        page = chromium.new_context(viewport={"width": 1200, "height": 700}).new_page()
        page.set_default_timeout(30_000)
        page.add_init_script(MOUNTED)
        watch.follow(page, address)
        page.goto(address)
        page.wait_for_selector('.gnomonic[data-ready="all"]')
        until(lambda: page.evaluate("() => window.mountedMap.renderer.stats().settled"), "the map to be drawn")
        color = page.evaluate("() => window.mountedMap.renderer.legend()[0].color")
        assert count_of(picture(page.locator("main.stage").screenshot()), color) > 50

        # Chosen in the page, known in Python.
        page.get_by_role("treeitem").first.click()
        until(lambda: len(widget.selection) > 0, "the selection to reach Python")
        assert set(widget.selection) <= set(found.ids.to_pylist())
        assert widget.selected_table().num_rows == len(widget.selection)

        # Chosen in Python, shown in the page.
        widget.selection = found.ids.to_pylist()[:3]
        page.evaluate("(bits) => window.model.put('_selected', bits)", widget._selected)
        page.get_by_text("3 selected").wait_for()

        page.evaluate("() => window.takeDown()")
        page.context.close()
    widget.close()
