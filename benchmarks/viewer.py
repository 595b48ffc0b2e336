"""How soon does a map of a million points show, how smoothly does it move, and what does a filter cost?

Chromium with WebGL2 in software opens the page of a map over loopback, cold each time: seconds from the navigation
until points are drawn (the GPU's queue is waited for), until everything is there, bytes before the first points, time
between frames while the mouse drags the map, memory, and filters as the page asks for them. Beside it, in turn
(A B A B), embedding-atlas 0.23, the last version that runs without WebGPU, with the same points and colours from a
server of plain files. Positions are given, so no vectors are laid out; maps and the peer's packages stay in --workdir.
Needs chromium and playwright; the peer needs npm. Run it as `python -m benchmarks.viewer`.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.harness import Bar, PeerError
from tests.browser.chromium import browser
from tests.server.live import running

__all__ = ["main"]

SIZES = (100_000, 1_000_000)
ROUNDS = 5
WINDOW = {"width": 1280, "height": 800}
PEER = "embedding-atlas"
PEER_FILES = Path(__file__).with_name("viewer_peer")
DRAGS = 24
LONGEST_PAN_S = 12
ZOOMS = 3
FILTERS = 15

# A draw of many points is noted; for the first one, how long the GPU takes to be done with it is waited for.
WATCH = """
(() => {
  const seen = window.__seen = { first: null, frames: [], panning: false };
  const channel = new MessageChannel();
  let drew = null, waiting = false;
  channel.port1.onmessage = () => {
    const bound = drew.getParameter(drew.FRAMEBUFFER_BINDING);
    drew.bindFramebuffer(drew.FRAMEBUFFER, null);
    drew.readPixels(0, 0, 1, 1, drew.RGBA, drew.UNSIGNED_BYTE, new Uint8Array(4));
    drew.bindFramebuffer(drew.FRAMEBUFFER, bound);
    seen.first = performance.now();
  };
  const note = (gl, points) => {
    if (points < 1000) return;
    drew = gl;
    if (seen.panning) seen.drawn = true;
    if (waiting) return;
    waiting = true;
    channel.port2.postMessage(0);
  };
  const gl2 = WebGL2RenderingContext.prototype;
  for (const [name, at] of [["drawArrays", 2], ["drawElements", 1]]) {
    const [plain, instanced] = [gl2[name], gl2[name + "Instanced"]];
    gl2[name] = function (...given) { note(this, given[at]); return plain.apply(this, given); };
    gl2[name + "Instanced"] = function (...given) {
      note(this, given[at] * given.at(-1));
      return instanced.apply(this, given);
    };
  }
  const tick = (now) => {
    if (seen.panning && seen.drawn) seen.frames.push(now);
    seen.drawn = false;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})();
"""
FILTER = """
async ({ address, conditions }) => {
  const began = performance.now();
  const body = JSON.stringify(conditions);
  const answer = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body });
  const bytes = (await answer.arrayBuffer()).byteLength;
  if (!answer.ok) throw new Error(`${answer.status}`);
  return { ms: performance.now() - began, bytes };
}
"""


@dataclass(kw_only=True)
class Measured:
    """One system at one size; every list has a value for each round."""

    rows: int
    system: str
    first_s: list[float] = field(default_factory=list)
    all_s: list[float] = field(default_factory=list)
    bytes_before: list[int] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)
    frame_p95_ms: list[float] = field(default_factory=list)
    zoomed_frame_ms: list[float] = field(default_factory=list)
    heap_mb: list[float] = field(default_factory=list)
    process_mb: list[float] = field(default_factory=list)
    filter_ms: list[float] = field(default_factory=list)
    filter_bytes: list[int] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        values = getattr(self, name)
        return float(statistics.median(values)) if values else None


# -- maps ---------------------------------------------------------------------------------------------------------


def _positions(rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return positions in clumps of clumps, [rows, 2], and the clump of each."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(12, 1, 2)) * 12 + random.normal(size=(12, 20, 2)) * 2.5
    clump = random.integers(240, size=rows)
    spread = random.gamma(2.0, 0.4, size=(rows, 1)) * random.normal(size=(rows, 2))
    return (centres.reshape(-1, 2)[clump] + spread).astype(np.float32), clump


def _make_map(rows: int, workdir: Path) -> Path:
    """Return a data folder with a map of so many rows, made on the first call."""
    import pyarrow as pa

    from gnomonic.atlas.dataset import Dataset

    data = workdir / f"viewer-{rows}"
    done = data / "done"
    if done.exists():
        return data
    shutil.rmtree(data, ignore_errors=True)
    xy, clump = _positions(rows)
    random = np.random.default_rng(1)
    table = pa.table(
        {
            "id": np.arange(rows),
            "kind": pa.array([f"kind {i // 20}" for i in range(240)]).take(pa.array(clump)),
            "price": random.gamma(2.0, 10.0, size=rows),
            "year": random.integers(1990, 2027, size=rows),
            "text": pa.array([f"area{i // 20} subject{i} words of it" for i in range(240)]).take(pa.array(clump)),
        }
    )
    dataset = Dataset("points", unique_id_field="id", root=data)
    dataset.add_data(table, xy)
    dataset.create_index(modality="embedding", topic_model={"topic_label_field": "text"})
    dataset.close()
    done.touch()
    return data


def _make_peer(rows: int, workdir: Path) -> Path:
    """Return a folder with the peer's page and the same points.

    Raises:
        PeerError: npm is not there, or cannot install or bundle it.
    """
    if shutil.which("npm") is None:
        raise PeerError("npm is not installed")
    packages = workdir / "viewer-peer"
    packages.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "main.js", "absent.cjs"):
        shutil.copy(PEER_FILES / name, packages)
    bundle = ["npx", "esbuild", "main.js", "--bundle", "--minify", "--format=esm", "--target=es2022"]
    # The view draws arrays alone; its siblings would bring a database of two megabytes.
    bundle += [f"--alias:@uwdata/mosaic-{name}=./absent.cjs" for name in ("core", "sql")]
    commands = [
        ["npm", "install", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error"],
        [*bundle, "--log-level=error", "--outfile=bundle.js"],
    ]
    for command in [] if (packages / "bundle.js").exists() else commands:
        ran = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise PeerError(f"{' '.join(command[:2])}: {(ran.stderr.strip().splitlines() or ['failed'])[-1]}")
    folder = workdir / f"viewer-peer-{rows}"
    folder.mkdir(exist_ok=True)
    shutil.copy(packages / "bundle.js", folder)
    shutil.copy(PEER_FILES / "index.html", folder)
    xy, clump = _positions(rows)
    xy[:, 0].tofile(folder / "x.f32")
    xy[:, 1].tofile(folder / "y.f32")
    (clump // 20).astype(np.uint8).tofile(folder / "category.u8")
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _files(folder: Path) -> Iterator[str]:
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=host.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_port}/index.html"
    finally:
        host.shutdown()
        host.server_close()
        thread.join()


# -- measuring ----------------------------------------------------------------------------------------------------


def _memory(chromium: Any) -> float:
    """Return the memory of all processes of a browser, shared pages counted once, in MB."""
    session = chromium.new_browser_cdp_session()
    total = 0
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        try:
            rollup = Path(f"/proc/{process['id']}/smaps_rollup").read_text(encoding="utf-8")
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    session.detach()
    return total / 1000


def _pan(page: Any) -> list[float]:
    """Drag the map around; return the milliseconds between its frames."""
    middle_x, middle_y = WINDOW["width"] * 0.62, WINDOW["height"] / 2
    mouse = page.mouse
    mouse.move(middle_x, middle_y)
    mouse.down()
    mouse.move(middle_x + 10, middle_y)
    page.evaluate("() => { __seen.frames = []; __seen.panning = true; }")
    end = time.monotonic() + LONGEST_PAN_S
    for step in range(DRAGS):
        if time.monotonic() > end:
            break
        angle = 2 * np.pi * step / DRAGS
        mouse.move(middle_x + 160 * np.sin(angle), middle_y + 120 * (1 - np.cos(angle)), steps=3)
    frames = page.evaluate("() => { __seen.panning = false; return __seen.frames; }")
    mouse.up()
    return [float(gap) for gap in np.diff(frames)]


class _Traffic:
    """Notes when bytes reach a page."""

    def __init__(self, page: Any) -> None:
        self._parts: list[tuple[float, int]] = []
        self._offset: float | None = None
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", self._asked)
        session.on("Network.dataReceived", self._came)
        session.send("Network.enable")

    def _asked(self, event: dict[str, Any]) -> None:
        self._offset = event["wallTime"] - event["timestamp"]

    def _came(self, event: dict[str, Any]) -> None:
        self._parts.append((event["timestamp"], event["encodedDataLength"] or event["dataLength"]))

    def until(self, wall_s: float) -> int:
        """Return the bytes of bodies that had come by a time of the wall clock."""
        assert self._offset is not None
        return sum(size for clock, size in self._parts if clock + self._offset <= wall_s)


def _visit(measured: Measured, address: str, filters: str | None) -> None:
    """Open a page in a new browser, and measure."""
    with browser("--enable-precise-memory-info") as chromium:
        page = chromium.new_context(viewport=WINDOW).new_page()
        page.add_init_script(WATCH)
        traffic = _Traffic(page)
        page.goto(address, wait_until="commit")
        page.wait_for_function("() => window.__seen?.first", timeout=120_000, polling=20)
        first = page.evaluate("() => __seen.first")
        page.wait_for_selector('#app[data-ready="all"]', timeout=60_000)
        measured.first_s.append(first / 1e3)
        measured.all_s.append(page.evaluate("() => performance.now()") / 1e3)
        measured.bytes_before.append(traffic.until((page.evaluate("() => performance.timeOrigin") + first) / 1e3))
        page.wait_for_timeout(1500)
        gaps = _pan(page)
        if gaps:
            measured.frame_ms.append(statistics.median(gaps))
            measured.frame_p95_ms.append(harness.percentile(gaps, 95))
        for _ in range(ZOOMS):
            page.mouse.move(WINDOW["width"] * 0.62, WINDOW["height"] / 2)
            page.mouse.wheel(0, -300)
            page.wait_for_timeout(700)
        if gaps := _pan(page):
            measured.zoomed_frame_ms.append(statistics.median(gaps))
        measured.heap_mb.append(page.evaluate("() => performance.memory.usedJSHeapSize") / 1e6)
        measured.process_mb.append(_memory(chromium))
        if filters is not None:
            for number in range(FILTERS):
                low = float(number)
                fields = [{"column": "price", "min": low, "max": low + 20}, {"column": "kind", "codes": [1, 2, 3]}]
                told = page.evaluate(FILTER, {"address": filters, "conditions": {"fields": fields[: 1 + number % 2]}})
                measured.filter_ms.append(told["ms"])
                measured.filter_bytes.append(told["bytes"])


def _measure(
    rows: int, rounds: int, peers: Sequence[str], workdir: Path, unavailable: dict[str, str]
) -> list[Measured]:
    data = _make_map(rows, workdir)
    systems: dict[str, tuple[Measured, Callable[[Measured], None]]] = {}
    with ExitStack() as stack:
        live = stack.enter_context(running("--no-access-log", "--offline", "--data-dir", data))
        filters = f"{live.url}/v1/datasets/local/points/maps/current/filter"
        ours = Measured(rows=rows, system="gnomonic")
        systems["gnomonic"] = ours, lambda into: _visit(into, f"{live.url}/map/local/points", filters)
        if PEER in peers:
            try:
                address = stack.enter_context(_files(_make_peer(rows, workdir)))
                systems[PEER] = Measured(rows=rows, system=PEER), lambda into: _visit(into, address, None)
            except PeerError as error:
                unavailable[PEER] = str(error)
        # The server reads a map on its first request; the peer's files are read from the page cache just so.
        _visit(Measured(rows=rows, system="warm-up"), f"{live.url}/map/local/points", filters)
        for _ in range(rounds):
            for name, (measured, visit) in list(systems.items()):
                try:
                    visit(measured)
                except Exception as error:
                    if name != PEER:
                        raise
                    unavailable[PEER] = f"at {rows:,} rows: {str(error).splitlines()[0]}"
                    del systems[PEER]
    return [measured for measured, _ in systems.values()]


def _bars(measured: Sequence[Measured]) -> list[Bar]:
    bars: list[Bar] = []
    for one in measured:
        if one.system != "gnomonic" or one.rows < max(SIZES):
            continue
        rows = f"{one.rows:,} points"
        limits = {
            "first_s": (f"first points on screen, {rows}", 1.0, "s"),
            "bytes_before": (f"bytes that came before them, {rows}", 1.5e6, "B"),
            "frame_ms": (f"time between frames while panning, {rows}", 120.0, "ms"),
            "zoomed_frame_ms": (f"the same, zoomed in, {rows}", 120.0, "ms"),
            "filter_ms": (f"one filter, there and back, {rows}", 300.0, "ms"),
            "filter_bytes": (f"bytes of its answer, {rows}", 200e3, "B"),
        }
        for name, (told, limit, unit) in limits.items():
            bars.append(Bar(name=told, value=one.median(name), limit=limit, at_least=False, unit=unit))
    return bars


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", help="rows (default 100,000 and 1,000,000; 20,000 when quick)")
    args = parser.parse_args()
    # The result tells the command, and not where things are on this machine.
    sys.argv = ["FOLDER" if word == str(args.workdir) else word for word in sys.argv]
    sizes = args.sizes or ((20_000,) if args.quick else SIZES)
    rounds = args.rounds or (1 if args.quick else ROUNDS)
    peers = [PEER] if args.peers is None else args.peers
    unavailable: dict[str, str] = {}
    measured: list[Measured] = []
    for rows in sizes:
        measured += _measure(rows, rounds, peers, args.workdir, unavailable)
    names = {
        "first_s": "first points s", "all_s": "everything s", "bytes_before": "bytes before", "frame_ms": "frame ms",
        "frame_p95_ms": "p95 ms", "zoomed_frame_ms": "zoomed ms", "heap_mb": "JS heap MB", "process_mb": "browser MB",
        "filter_ms": "filter ms", "filter_bytes": "filter bytes",
    }  # fmt: skip
    table = [[one.system, f"{one.rows:,}", *(one.median(name) for name in names)] for one in measured]
    harness.print_table("a map in the browser, medians", ["system", "rows", *names.values()], table)
    for name, reason in unavailable.items():
        print(f"not measured: {name}: {reason}")
    bars = _bars(measured)
    harness.print_bars(bars)
    result = {"window": WINDOW, "measured": [asdict(one) for one in measured], "unavailable": unavailable}
    harness.publish("viewer", result, bars, args.out or (None if args.quick else harness.RESULTS))


if __name__ == "__main__":
    main()
