from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gnomonic import catalog
from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints import hub_client, model_cache
from gnomonic.checkpoints.hub import fetch, find_model, locate
from gnomonic.errors import CheckpointError, InputError, UnknownModelError
from gnomonic.settings import Settings
from tests.checkpoints.fake_hub import COMMIT, FILES, REPO, FakeHub, serving
from tests.privileges import obeying_permissions

WEIGHTS = "model.safetensors"
WANTED = {"config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", WEIGHTS}
PINNED = ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision=COMMIT)
UNPINNED = ModelSpec(name="tiny", hidden_size=32, repo=REPO)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "BACKOFF_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub()) as running:
        yield running


def _settings(cache: Path, url: str = "http://127.0.0.1:9", **changes: Any) -> Settings:
    values = {
        "cache_dir": cache, "config_dir": cache, "data_dir": cache, "offline": False, "hub_url": url,
        "hub_token": None, "threads": None, "api_url": None, "api_key": None,
    }  # fmt: skip
    return Settings(**(values | changes))


@pytest.fixture
def settings(hub: FakeHub, tmp_path: Path) -> Settings:
    return _settings(tmp_path / "cache", hub.url)


def _offline(settings: Settings) -> Settings:
    return _settings(settings.cache_dir, settings.hub_url, offline=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _part(settings: Settings) -> Path:
    return settings.cache_dir / "models" / f"tiny-{COMMIT[:12]}.part"


# -- names ------------------------------------------------------------------------------------------------------


def test_the_bundled_model_needs_no_network_and_no_cache(tmp_path: Path) -> None:
    spec, folder = find_model(catalog.DEFAULT_TEXT_MODEL, _settings(tmp_path / "none", offline=True))
    assert spec.bundled
    assert (folder / "config.json").is_file()
    assert not (tmp_path / "none").exists()


def test_a_folder_that_does_not_exist_is_said_to_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="does not exist"):
        find_model(str(tmp_path / "absent"), _settings(tmp_path))
    with pytest.raises(UnknownModelError, match="does not exist"):
        find_model("./nomic-embed-text-v1.5", _settings(tmp_path))


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UnknownModelError, match="is a file") as caught:
        find_model(str(tmp_path / "model.safetensors"), _settings(tmp_path))
    assert str(tmp_path) in caught.value.hint


@pytest.mark.parametrize(
    "name", ["", "  ", "a\0b", "nomic-embed-text-v9", "x" * 10_000, "../../etc\0", "~nobody-here/x"]
)
def test_an_unknown_name_is_an_unknown_model(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        find_model(name, _settings(tmp_path))


def test_an_unknown_name_is_answered_with_a_close_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"did you mean 'nomic-embed-text-v1\.5'"):
        find_model("nomic-embed-text-1.5", _settings(tmp_path))


def test_a_vision_model_is_refused_before_anything_is_fetched(hub: FakeHub, settings: Settings) -> None:
    with pytest.raises(InputError, match="embeds images"):
        find_model("nomic-ai/nomic-embed-vision-v1.5", settings)
    assert hub.requests == []


def test_a_catalog_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nomic-embed-text-v1.5").mkdir()
    monkeypatch.chdir(tmp_path)
    spec, folder = locate("nomic-embed-text-v1.5", _settings(tmp_path / "cache"))
    assert spec.repo == "nomic-ai/nomic-embed-text-v1.5"
    assert folder == tmp_path / "cache" / "models" / "nomic-embed-text-v1.5"


def test_every_catalog_entry_is_whole() -> None:
    for name, spec in catalog.known_models().items():
        assert spec.name == name
        assert spec.bundled != bool(spec.repo)
        assert len(spec.revision) in (0, 40)
        assert all(len(digest) == 64 for digest in spec.files.values())
        assert all({"text", "values", "tolerance", "source"} <= set(probe) for probe in spec.golden)
        assert all(0 < dim <= spec.hidden_size for dim in spec.dims)
        assert not spec.dims or spec.dims[0] == spec.hidden_size


# -- downloads --------------------------------------------------------------------------------------------------


def test_only_what_a_loader_reads_is_fetched(hub: FakeHub, settings: Settings) -> None:
    folder = fetch(PINNED, settings)
    assert _files(folder) == {name: FILES[name] for name in WANTED}
    asked = {path.partition(f"resolve/{COMMIT}/")[2] for path, _ in hub.requests if "/resolve/" in path}
    assert asked == WANTED


def test_a_model_that_is_here_costs_no_request(hub: FakeHub, settings: Settings) -> None:
    folder = fetch(PINNED, settings)
    hub.requests.clear()
    assert fetch(PINNED, settings) == folder
    assert hub.requests == []


def test_the_lock_names_commit_and_digests(settings: Settings) -> None:
    fetch(PINNED, settings)
    lock = model_cache.read_lock(PINNED, settings)
    assert lock is not None
    assert lock.commit == COMMIT
    assert {name: entry.sha256 for name, entry in lock.files.items()} == {n: _sha256(FILES[n]) for n in WANTED}


def test_progress_grows_to_the_full_size(hub: FakeHub, settings: Settings) -> None:
    hub.faults[WEIGHTS].append("truncate")
    seen: list[tuple[str, int, int]] = []
    fetch(PINNED, settings, lambda *step: seen.append(step))
    done = [step[1] for step in seen if step[0] == WEIGHTS]
    assert done == sorted(done)
    assert {step[2] for step in seen if step[0] == WEIGHTS} == {len(FILES[WEIGHTS])}
    assert {step[0] for step in seen if step[1] == step[2]} == WANTED


def test_shards_are_fetched_where_there_is_no_single_file(hub: FakeHub, settings: Settings) -> None:
    del hub.files[WEIGHTS]
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 99 for i in (1, 2)}
    hub.files |= shards | {"model.safetensors.index.json": b"{}", "model-evil.safetensors": b""}
    names = set(_files(fetch(PINNED, settings)))
    assert names == (WANTED - {WEIGHTS}) | set(shards) | {"model.safetensors.index.json"}


@pytest.mark.parametrize("absent", ["config.json", "tokenizer.json", WEIGHTS])
def test_a_repository_without_a_needed_file_is_refused(hub: FakeHub, settings: Settings, absent: str) -> None:
    del hub.files[absent]
    with pytest.raises(CheckpointError, match=f"lacks {absent}"):
        fetch(PINNED, settings)


def test_an_unpinned_model_stays_at_the_commit_it_first_came_from(hub: FakeHub, settings: Settings) -> None:
    folder = fetch(UNPINNED, settings)
    shutil.rmtree(folder)
    hub.branches["main"] = "f" * 40
    fetch(UNPINNED, settings)
    asked = [path.rpartition("/")[2] for path, _ in hub.requests if path.startswith("/api/")]
    assert asked == ["main", COMMIT]


def test_a_newer_pin_in_the_catalog_fetches_again(hub: FakeHub, settings: Settings) -> None:
    fetch(PINNED, settings)
    hub.commit = "e" * 40
    hub.files["config.json"] = b'{"new": 1}'
    folder = fetch(ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision="e" * 40), settings)
    assert (folder / "config.json").read_bytes() == b'{"new": 1}'


def test_the_token_goes_to_the_hub(hub: FakeHub, settings: Settings) -> None:
    fetch(PINNED, _settings(settings.cache_dir, hub.url, hub_token="hf_secret"))
    assert {headers.get("authorization") for _, headers in hub.requests} == {"Bearer hf_secret"}


# -- faults of the network --------------------------------------------------------------------------------------


def test_a_cut_download_goes_on_where_it_stopped(hub: FakeHub, settings: Settings) -> None:
    hub.faults[WEIGHTS].append("truncate")
    folder = fetch(PINNED, settings)
    assert (folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert hub.asked(WEIGHTS) == ["", f"bytes={len(FILES[WEIGHTS]) // 2}-"]


def test_a_server_that_cannot_resume_is_read_from_the_start(hub: FakeHub, settings: Settings) -> None:
    hub.faults[WEIGHTS].extend(["truncate", "no_range"])
    assert (fetch(PINNED, settings) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


@pytest.mark.parametrize("status", ["500", "503", "429"])
def test_a_passing_error_is_tried_again(hub: FakeHub, settings: Settings, status: str) -> None:
    hub.faults["api"].append(status)
    hub.faults["config.json"].append(status)
    assert (fetch(PINNED, settings) / "config.json").read_bytes() == FILES["config.json"]


def test_after_too_many_errors_the_part_is_kept_for_the_next_call(hub: FakeHub, settings: Settings) -> None:
    hub.faults[WEIGHTS].extend(["truncate", *["500"] * (hub_client.ATTEMPTS - 1)])
    with pytest.raises(CheckpointError, match="the hub answered 500") as caught:
        fetch(PINNED, settings)
    assert "what has arrived is kept" in caught.value.hint
    assert (_part(settings) / WEIGHTS).stat().st_size == len(FILES[WEIGHTS]) // 2
    assert not (settings.cache_dir / "models" / "tiny").exists()
    hub.requests.clear()
    fetch(PINNED, settings)
    assert hub.asked("config.json") == []
    assert hub.asked(WEIGHTS) == [f"bytes={len(FILES[WEIGHTS]) // 2}-"]
    assert not _part(settings).exists()


def test_an_absent_revision_is_named(settings: Settings) -> None:
    with pytest.raises(CheckpointError, match=f"does not have {REPO} at revision {'a' * 40}"):
        fetch(ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision="a" * 40), settings)


def test_a_refused_model_asks_for_a_token(hub: FakeHub, settings: Settings) -> None:
    hub.faults["api"].append("401")
    with pytest.raises(CheckpointError, match="refuses") as caught:
        fetch(PINNED, settings)
    assert "HF_TOKEN" in caught.value.hint


def test_a_hub_that_is_not_one_is_an_error(hub: FakeHub, settings: Settings) -> None:
    hub.faults["api"].append("wrong")
    with pytest.raises(CheckpointError, match="unreadable"):
        fetch(PINNED, settings)


def test_no_hub_at_all_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be fetched") as caught:
        fetch(PINNED, _settings(tmp_path))
    assert "network" in caught.value.hint
    with pytest.raises(CheckpointError, match="HF_ENDPOINT='ftp://x'"):
        fetch(PINNED, _settings(tmp_path, "ftp://x"))


# -- digests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
def test_wrong_bytes_are_discarded(hub: FakeHub, settings: Settings, file: str) -> None:
    hub.faults[file].append("wrong")
    with pytest.raises(CheckpointError, match=f"{file} of {REPO} arrived damaged"):
        fetch(PINNED, settings)
    assert not (_part(settings) / file).exists()
    assert not (settings.cache_dir / "models" / "tiny").exists()


def test_a_damaged_part_is_started_over(hub: FakeHub, settings: Settings) -> None:
    _part(settings).mkdir(parents=True)
    (_part(settings) / WEIGHTS).write_bytes(b"\xff" * 5000)
    assert (fetch(PINNED, settings) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert hub.asked(WEIGHTS) == ["bytes=5000-", ""]


def test_files_other_than_the_catalog_pins_are_refused(settings: Settings) -> None:
    spec = ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision=COMMIT, files={WEIGHTS: "0" * 64})
    with pytest.raises(CheckpointError, match="pinned by catalog") as caught:
        fetch(spec, settings)
    assert _sha256(FILES[WEIGHTS]) in str(caught.value)
    assert not (settings.cache_dir / "models" / "tiny").exists()


def test_files_other_than_those_of_the_first_download_are_refused(hub: FakeHub, settings: Settings) -> None:
    shutil.rmtree(fetch(UNPINNED, settings))
    hub.files[WEIGHTS] = b"other weights"
    with pytest.raises(CheckpointError, match="pinned by first download") as caught:
        fetch(UNPINNED, settings)
    assert "tiny.lock.json" in caught.value.hint


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_file_in_the_cache_is_found_and_can_be_fetched_again(settings: Settings) -> None:
    folder = fetch(PINNED, settings)
    _flip(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is changed") as caught:
        fetch(PINNED, settings)
    assert "gnomonic models pull tiny --force" in caught.value.hint
    assert (fetch(PINNED, settings, force=True) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert fetch(PINNED, _offline(settings)) == folder


def test_a_missing_file_in_the_cache_is_named(settings: Settings) -> None:
    (fetch(PINNED, settings) / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        fetch(PINNED, _offline(settings))


def test_a_touched_file_is_read_and_accepted(hub: FakeHub, settings: Settings) -> None:
    folder = fetch(PINNED, settings)
    (folder / WEIGHTS).touch()
    hub.requests.clear()
    assert fetch(PINNED, settings) == folder
    assert hub.requests == []


def test_a_folder_copied_into_the_cache_is_taken(tmp_path: Path) -> None:
    offline = _settings(tmp_path, offline=True)
    spec = ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision=COMMIT, files={WEIGHTS: _sha256(FILES[WEIGHTS])})
    folder = tmp_path / "models" / "tiny"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in WANTED:
        (folder / name).write_bytes(FILES[name])
    assert fetch(spec, offline) == folder
    _flip(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="pinned by catalog"):
        fetch(spec, offline)


def test_a_digest_the_catalog_gains_later_is_checked_too(settings: Settings) -> None:
    fetch(PINNED, settings)
    later = ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision=COMMIT, files={WEIGHTS: "0" * 64})
    with pytest.raises(CheckpointError, match="pinned by catalog"):
        fetch(later, settings)


def test_an_unreadable_lock_file_is_named(settings: Settings) -> None:
    fetch(PINNED, settings)
    path = model_cache.lock_path(PINNED, settings)
    path.write_text('{"files": 7}')
    with pytest.raises(CheckpointError, match=r"tiny\.lock\.json is unreadable"):
        fetch(PINNED, settings)


# -- offline ----------------------------------------------------------------------------------------------------


def test_offline_makes_no_network_call(hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(PINNED, settings)
    hub.requests.clear()

    def refuse(*_args: Any, **_options: Any) -> None:
        raise AssertionError("a socket was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert fetch(PINNED, _offline(settings)) == folder
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="network is switched off") as caught:
        fetch(PINNED, _offline(settings))
    assert "gnomonic models pull tiny" in caught.value.hint
    assert hub.requests == []


# -- faults of the disk -----------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_has_a_way_out(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        fetch(PINNED, _settings(tmp_path / "cache", hub.url))
    assert "GNOMONIC_CACHE" in caught.value.hint


def test_a_read_only_cache_serves_what_it_has(settings: Settings) -> None:
    folder = fetch(PINNED, settings)
    (folder / WEIGHTS).touch()
    folder.parent.chmod(0o555)
    try:
        with obeying_permissions():
            assert fetch(PINNED, settings) == folder
            with pytest.raises(CheckpointError, match="cannot be written"):
                fetch(ModelSpec(name="other", hidden_size=32, repo=REPO, revision=COMMIT), settings)
    finally:
        folder.parent.chmod(0o755)


def test_too_small_a_disk_is_seen_before_the_download(
    hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(total=0, used=0, free=1000))
    with pytest.raises(CheckpointError, match="no space left"):
        fetch(PINNED, settings)
    assert hub.asked(WEIGHTS) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_is_said_to_be_full(settings: Settings) -> None:
    _part(settings).mkdir(parents=True)
    (_part(settings) / WEIGHTS).symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="no space left on the disk") as caught:
        fetch(PINNED, settings)
    assert "GNOMONIC_CACHE" in caught.value.hint
    assert not (settings.cache_dir / "models" / "tiny").exists()


# -- several processes ------------------------------------------------------------------------------------------

_FETCH = """
import sys
from pathlib import Path
from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints.hub import fetch
from gnomonic.settings import read_settings
print(fetch(ModelSpec(name="tiny", hidden_size=32, repo=sys.argv[1], revision=sys.argv[2]), read_settings()))
"""


def _start(settings: Settings) -> subprocess.Popen[str]:
    environment = os.environ | {
        "GNOMONIC_CACHE": str(settings.cache_dir), "HF_ENDPOINT": settings.hub_url, "NO_PROXY": "*",
        "GNOMONIC_OFFLINE": "0", "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
    command = [sys.executable, "-c", _FETCH, REPO, COMMIT]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_download_once(hub: FakeHub, settings: Settings) -> None:
    hub.faults[WEIGHTS].append("slow")
    workers = [_start(settings), _start(settings)]
    printed = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert printed == [str(settings.cache_dir / "models" / "tiny")] * 2
    assert hub.asked(WEIGHTS) == [""]


def test_a_killed_download_goes_on_in_the_next_process(hub: FakeHub, settings: Settings) -> None:
    hub.faults[WEIGHTS].append("slow")
    worker = _start(settings)
    part = _part(settings) / WEIGHTS
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 1 << 20) and time.monotonic() < deadline:
        time.sleep(0.005)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    kept = part.stat().st_size
    assert 0 < kept < len(FILES[WEIGHTS])
    folder = fetch(PINNED, settings)
    assert _files(folder) == {name: FILES[name] for name in WANTED}
    assert hub.asked(WEIGHTS) == ["", f"bytes={kept}-"]


def test_the_lock_file_is_plain_json(settings: Settings) -> None:
    fetch(PINNED, settings)
    raw = json.loads(model_cache.lock_path(PINNED, settings).read_text())
    assert raw["repo"] == REPO
    assert raw["files"][WEIGHTS]["size_bytes"] == len(FILES[WEIGHTS])
