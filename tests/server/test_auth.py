from __future__ import annotations

import json
import logging
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gnomonic.errors import AuthenticationError, ConfigError, InputError
from gnomonic.server.auth import KeyRing, create_key, list_keys, revoke_key


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings" / "api-keys.json"


def _bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_key_is_accepted_in_either_header(path: Path) -> None:
    entry, secret = create_key(path, "search", requests_per_minute=600)
    ring = KeyRing(path)
    assert ring.check(_bearer(secret)) == entry
    assert ring.check({"authorization": f"bearer  {secret} "}) == entry
    assert ring.check({"x-api-key": secret}) == entry
    assert ring.check({"authorization": "Basic dXNlcjpwYXNz", "x-api-key": secret}) == entry
    assert (entry.name, entry.requests_per_minute, len(ring)) == ("search", 600, 1)


def test_a_key_has_256_random_bits_and_the_file_holds_none_of_them(path: Path) -> None:
    secrets = [create_key(path, f"key {number}")[1] for number in range(3)]
    assert len(set(secrets)) == 3
    content = path.read_text()
    for secret in secrets:
        assert secret.startswith("nk-")
        assert len(secret) == 46
        assert secret[3:11] not in content
    assert len({entry.salt for entry in list_keys(path)}) == 3


def _wrong(secret: str) -> list[dict[str, str]]:
    other = "A" if secret[-1] != "A" else "B"
    return [
        {},
        {"authorization": ""},
        {"authorization": secret},
        {"x-api-key": ""},
        _bearer(""),
        _bearer(secret[:-1] + other),
        _bearer(secret[:-1]),
        _bearer(secret + "A"),
        _bearer(secret.upper()),
        _bearer("nk-" + "é" * 43),
        _bearer("nk-\udcff"),
        _bearer("nk-" + "A" * 65536),
        # A wrong bearer token is not saved by a right key elsewhere: the caller shall know which one counts.
        {**_bearer("nk-" + "A" * 43), "x-api-key": secret},
    ]


@pytest.mark.parametrize("case", range(13))
def test_anything_else_is_refused_without_repeating_it(path: Path, case: int) -> None:
    _, secret = create_key(path, "search")
    headers = _wrong(secret)[case]
    with pytest.raises(AuthenticationError) as caught:
        KeyRing(path).check(headers)
    assert caught.value.status == 401
    assert "nk-A" not in str(caught.value)
    assert secret[:8] not in f"{caught.value}{caught.value.hint}"


def test_what_is_stored_opens_nothing(path: Path) -> None:
    entry, _ = create_key(path, "search")
    ring = KeyRing(path)
    for text in (entry.id, entry.sha256, entry.salt, f"nk-{entry.sha256}"):
        with pytest.raises(AuthenticationError):
            ring.check(_bearer(text))


def test_the_whole_hash_counts_not_the_id(path: Path) -> None:
    _, secret = create_key(path, "search")
    document = json.loads(path.read_text())
    document["keys"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    with pytest.raises(AuthenticationError):
        KeyRing(path).check(_bearer(secret))


def test_a_revoked_key_is_refused_once_the_file_is_looked_at_again(path: Path) -> None:
    clock = Clock()
    first, secret = create_key(path, "first")
    ring = KeyRing(path, clock=clock)
    second, other = create_key(path, "second")
    revoked = revoke_key(path, first.id)
    assert ring.check(_bearer(secret)) == first  # within the second
    clock.now += 1.5
    with pytest.raises(AuthenticationError, match=rf"{first.id} was revoked on {revoked.revoked}"):
        ring.check(_bearer(secret))
    assert ring.check(_bearer(other)) == second
    assert revoke_key(path, first.id) == revoked  # a second time changes nothing
    assert [entry.revoked is None for entry in list_keys(path)] == [False, True]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", None])
def test_a_file_broken_while_running_leaves_the_keys_in_force(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    _, secret = create_key(path, "search")
    good = path.read_bytes()
    ring = KeyRing(path, clock=clock)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now += 2
            assert ring.check(_bearer(secret)).name == "search"
    assert len(caplog.records) == 1  # once, not with every request
    assert str(path) in caplog.text
    path.write_bytes(good.replace(b"search", b"mended"))
    clock.now += 2
    assert ring.check(_bearer(secret)).name == "mended"


def _document(**changes: Any) -> dict[str, Any]:
    entry = {"id": "0" * 12, "name": "a", "salt": "00", "sha256": "0" * 64, "created": "2026-11-20T09:30:00Z"}
    return {"version": 1, "keys": [{**entry, **changes}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "no list 'keys'"),
        ({"version": 1}, "no list 'keys'"),
        ({**_document(), "version": 2}, "version is 2"),
        ({"version": 1, "keys": [1]}, r"keys\[0\] is not an object"),
        (_document(limit=3), r"keys\[0\]\.limit is unknown; the fields are created, id"),
        ({"version": 1, "keys": [{"id": "0" * 12}]}, r"keys\[0\]\.created is missing"),
        (_document(name=1), r"keys\[0\]\.name is not a string"),
        (_document(revoked=True), r"keys\[0\]\.revoked is not a string"),
        (_document(requests_per_minute=0), "requests_per_minute"),
        (_document(requests_per_minute=True), "requests_per_minute"),
        (_document(id="../x"), "12 hex digits"),
        ({"version": 1, "keys": _document()["keys"] * 2}, "same id"),
    ],
)
def test_a_broken_file_stops_the_start_and_says_where(path: Path, document: Any, message: str) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=message) as caught:
        KeyRing(path)
    assert str(path) in str(caught.value)


def test_an_absent_file_says_how_to_make_it(path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as caught:
        KeyRing(path)
    assert caught.value.hint == f"gnomonic keys create NAME --file {path}"


def test_a_file_that_is_a_folder_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyRing(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        create_key(tmp_path / "file" / "keys.json", "a")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_name_nobody_can_read_is_refused(path: Path, name: str) -> None:
    with pytest.raises(InputError, match="key name"):
        create_key(path, name)
    assert not path.exists()


def test_limits_below_one_and_unknown_ids_are_refused(path: Path) -> None:
    with pytest.raises(InputError, match="requests_per_minute 0"):
        create_key(path, "a", requests_per_minute=0)
    create_key(path, "a")
    with pytest.raises(InputError, match=r"no key in .* has the id 'nope'"):
        revoke_key(path, "nope")


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_the_file_is_the_owners_alone_and_stays_readable_by_a_group_it_was_opened_to(path: Path) -> None:
    create_key(path, "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o646)
    create_key(path, "b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key(path, "a")
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        create_key(path, "b")
    assert path.read_bytes() == before


def _create_some(path: Path, name: str) -> None:
    for number in range(5):
        create_key(path, f"{name} {number}")


def test_two_processes_lose_no_key(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_create_some, args=(path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list_keys(path)) == 10
    assert {child.name for child in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def test_a_key_opens_the_datasets_of_its_organisation(path: Path) -> None:
    ours, _ = create_key(path, "ours")
    theirs, _ = create_key(path, "theirs", organization="others-2")
    assert (
        [entry.organization for entry in list_keys(path)]
        == [ours.organization, "others-2"]
        == ["local", theirs.organization]
    )
    for bad in ("", "A", "a/b", "..", "-a", "x" * 101):
        with pytest.raises(InputError, match="organization"):
            create_key(path, "bad", organization=bad)
    document = json.loads(path.read_text())
    del document["keys"][0]["organization"]  # as older releases wrote it
    path.write_text(json.dumps(document))
    assert list_keys(path)[0].organization == "local"
    document["keys"][0]["organization"] = "../x"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="organization"):
        list_keys(path)
