"""`gnomonic view`, and `gnomonic map --open`: the page of a map, for as long as it is wanted."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from gnomonic.cli import viewing
from gnomonic.cli.main import app
from tests.house.sources import PACKAGE

pytest.importorskip("lancedb")
pytest.importorskip("fastapi")

from gnomonic.client.datasets import LocalDataset

_ADDRESS = re.compile(r"^Map: (http://127\.0\.0\.1:(\d+)/map/local/birds)$", re.MULTILINE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a map, and a dataset without one."""
    folder = tmp_path_factory.mktemp("data")
    dataset = LocalDataset("birds", root=folder)
    dataset.add_data([{"n": i} for i in range(30)], np.random.default_rng(0).normal(size=(30, 6)))
    dataset.create_index(projection={"n_epochs": 5})
    LocalDataset("plain", root=folder)
    return folder


@pytest.fixture(autouse=True)
def _found_by_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))


def _view(root: Path, *more: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["view", *more, "--data-dir", str(root)])
    return found.exit_code, found.output


def test_once_looks_whether_all_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    fetch = viewing._fetch
    monkeypatch.setattr(viewing, "_fetch", lambda address: (fetched.append(address), fetch(address))[1])
    code, said = _view(root, "birds", "--once")
    assert code == 0, said
    assert _ADDRESS.search(said)
    found = "/v1/datasets/local/birds/maps/current"
    ends = ["/map/local/birds", f"{found}/view", f"{found}/files/manifest.json", f"{found}/files/tiles/0/0/0.bin"]
    assert [address.split("/", 3)[3] for address in fetched] == [end[1:] for end in ends]


@pytest.mark.parametrize(
    ("name", "told"), [("nobody", "there is no dataset local/nobody"), ("plain", "local/plain has no map yet")]
)
def test_what_cannot_be_shown_is_told(root: Path, name: str, told: str) -> None:
    code, said = _view(root, name, "--once")
    assert code != 0
    assert told in said


def test_a_taken_port_is_told(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = _view(root, "birds", "--port", str(port))
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said


def test_what_the_server_needs_is_looked_for_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "find_spec", lambda name: None if name == "uvicorn" else object())
    code, said = _view(root, "birds")
    assert code == 2
    assert "pip install 'gnomonic[server]'" in said
    rows = root / "rows.csv"
    rows.write_text("n\n1\n", encoding="utf-8")
    found = CliRunner().invoke(app, ["map", str(rows), "--open", "--data-dir", str(root)])
    assert found.exit_code == 2
    assert not (root / "datasets" / "local" / "rows").exists()


def test_map_open_ends_in_the_page(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, object]] = []
    monkeypatch.setattr(viewing, "show", lambda name, **more: shown.append((name, more["data_dir"])))
    (tmp_path / "rows.csv").write_text("n\n1\n2\n3\n", encoding="utf-8")
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    call = ["map", str(tmp_path / "rows.csv"), "--vectors", str(tmp_path / "v.npy"), "--data-dir", str(tmp_path)]
    for more in ([], ["--no-open"], ["--open"]):
        found = CliRunner().invoke(app, [*call, *more])
        assert found.exit_code == 0, found.output
        assert ("gnomonic view rows" in found.output) is (more != ["--open"])
    assert shown == [("rows", tmp_path)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_is_up_until_it_is_told_to_end(root: Path, how: signal.Signals) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gnomonic.cli.main import app_main; app_main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "view", "birds", "--data-dir", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = _ADDRESS.search(process.stdout.readline())
        assert address is not None
        page = httpx.get(address[1], trust_env=False, timeout=60)
        assert "/v1/datasets/local/birds/maps/current" in page.text
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "stopped" in said
        with pytest.raises(httpx.ConnectError):
            httpx.get(address[1], trust_env=False)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("system", "environment", "there"),
    [
        ("linux", {}, False), ("linux", {"DISPLAY": ":0"}, True), ("linux", {"WAYLAND_DISPLAY": "w"}, True),
        ("linux", {"BROWSER": "firefox"}, True), ("darwin", {}, True), ("win32", {}, True),
    ],
)  # fmt: skip
def test_a_browser_is_opened_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, system: str, environment: dict[str, str], there: bool
) -> None:
    for name in viewing._BROWSER_SIGNS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(viewing.sys, "platform", system)
    has_browser: Callable[[], bool] = viewing._has_browser
    assert has_browser() is there
