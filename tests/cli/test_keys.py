from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gnomonic.cli.main import app
from gnomonic.server.auth import KeyRing


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the keys lie unless a command is told another place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "gnomonic" / "api-keys.json"


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", *words])


def test_create_prints_the_key_alone_and_tells_how_to_use_it(path: Path) -> None:
    result = _run("create", "search service", "--requests-per-minute", "600")
    assert result.exit_code == 0
    secret = result.stdout.removesuffix("\n")
    entry = KeyRing(path).check({"authorization": f"Bearer {secret}"})
    assert (entry.name, entry.requests_per_minute) == ("search service", 600)
    for word in ("curl", "nomic login", "OPENAI_BASE_URL", f"--api-keys {path}", f"keys revoke {entry.id}"):
        assert word in result.stderr
    assert secret not in result.stderr
    assert "{" not in result.stderr.replace('{"model"', "")


def test_list_shows_names_and_limits_but_no_hash(path: Path) -> None:
    secrets = [_run("create", name).stdout.strip() for name in ("first", "[bold]second")]
    _run("create", "third", "--requests-per-minute", "1200")
    table = _run("list").stdout
    for word in ("first", "[bold]second", "no limit", "1,200"):
        assert word in table
    listed = json.loads(_run("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == ["first", "[bold]second", "third"]
    stored = json.loads(path.read_text())["keys"]
    for shown in (table, json.dumps(listed)):
        assert not any(secret in shown for secret in secrets)
        assert not any(entry["sha256"] in shown or entry["salt"] in shown for entry in stored)


def test_revoke_says_which_key_it_was(path: Path) -> None:
    _run("create", "search")
    (entry,) = json.loads(_run("list", "--json").stdout)
    result = _run("revoke", entry["id"])
    assert result.exit_code == 0
    assert f"{entry['id']} (search) is revoked since 20" in result.stdout
    assert json.loads(_run("list", "--json").stdout)[0]["revoked"] in _run("list").stdout


def test_file_names_another_place(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    assert _run("create", "a", "--file", str(other)).exit_code == 0
    assert "a" in _run("list", "--file", str(other)).stdout
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list",), "does not exist"),
        (("revoke", "abc"), "does not exist"),
        (("create", ""), "key name"),
        (("create", "a", "--requests-per-minute", "0"), "requests_per_minute 0"),
    ],
)
def test_mistakes_end_with_2_and_a_message(path: Path, words: tuple[str, ...], message: str) -> None:
    result = _run(*words)
    assert result.exit_code == 2
    assert message in result.stderr
