"""The files in deploy/ fit together and fit the command line; that they run is for those who have what they need."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from gnomonic import __version__
from tests.house.sources import ROOT

DEPLOY = ROOT / "deploy"
GUIDE = ROOT / "docs" / "how-to" / "serve.md"
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def _read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


# -- the command line -------------------------------------------------------------------------------------------


def _options(*names: str) -> dict[str, Any]:
    """Options of a command, by flag."""
    from gnomonic.cli.main import app

    command: Any = typer.main.get_command(app)
    for name in names:
        command = command.get_command(None, name)
    found = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    return {"--help": None, **found}


def _served() -> list[list[str]]:
    """The words of every `gnomonic serve` in deploy/ and its guide."""
    compose = yaml.safe_load(_read("compose.yaml"))["services"]["gnomonic"]["command"]
    texts = [_read(path.name) for path in DEPLOY.iterdir()] + [GUIDE.read_text(encoding="utf-8")]
    joined = "\n".join(texts).replace("\\\n", " ")
    lines = re.findall(r"gnomonic (serve(?: +[^\s`|;&]+)*)", joined)
    (command,) = re.findall(r"^CMD (.*)$", _read("Dockerfile"), flags=re.MULTILINE)
    return [compose, yaml.safe_load(command), *map(shlex.split, lines)]


def test_every_call_of_serve_is_one_it_understands() -> None:
    options = _options("serve")
    calls = _served()
    assert len(calls) > 5
    for words in calls:
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - set(options)
        assert unknown == set(), words


def test_every_flag_the_guide_names_exists() -> None:
    ours = {flag for command in (("serve",), ("keys", "create"), ("models", "pull")) for flag in _options(*command)}
    text = re.sub(
        r"^(?:sudo |docker |systemd-run |curl ).*$", "", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert set(_FLAG.findall(text)) - ours == set()
    nginx = re.findall(r"\b(?:as|than) (--[a-z-]+)", _read("nginx.conf"))
    assert nginx
    assert set(nginx) <= ours


# -- the container ----------------------------------------------------------------------------------------------


def _instructions() -> list[tuple[str, str]]:
    lines = re.sub(r"^#.*\n", "", _read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines) if word]


def _last(instruction: str) -> str:
    return next(rest for word, rest in reversed(_instructions()) if word == instruction)


def test_the_image_starts_from_named_versions() -> None:
    bases = [rest.split()[0] for word, rest in _instructions() if word == "FROM"]
    assert bases
    assert [base for base in bases if not re.fullmatch(r"python:3\.\d+-slim-\w+", base)] == []
    assert "latest" not in _read("Dockerfile") + _read("compose.yaml")


def test_the_image_runs_as_nobody_special_and_says_how_it_is() -> None:
    assert _last("USER").isdigit()
    assert int(_last("USER")) > 1000
    assert "/health" in _last("HEALTHCHECK")
    assert _last("EXPOSE") == "8000"
    assert yaml.safe_load(_last("ENTRYPOINT")) == ["gnomonic"]
    assert "GNOMONIC_OFFLINE=1" in _last("ENV")


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    copied = [rest.split()[:-1] for word, rest in _instructions() if word == "COPY" and "--from" not in rest]
    kept = {line[1:] for line in _read("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    sources = {source for words in copied for source in words}
    assert sources == kept
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_everything_the_build_needs_is_copied() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    kept = _read("Dockerfile.dockerignore")
    for name in (project["readme"], *project["license-files"]):
        assert f"!{name}\n" in kept


def _compose() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load(_read("compose.yaml"))["services"]["gnomonic"]
    return service


def test_compose_builds_this_image_and_locks_it_in() -> None:
    service = _compose()
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    volumes = yaml.safe_load(_read("compose.yaml"))["volumes"]
    assert {volume.partition(":")[0] for volume in service["volumes"]} == set(volumes)


def test_tags_are_the_version() -> None:
    tags = re.findall(r"gnomonic:([\w.]+)", _read("Dockerfile") + _read("compose.yaml"))
    assert tags
    assert set(tags) == {__version__}


# -- systemd and nginx ------------------------------------------------------------------------------------------


def _unit() -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in _read("gnomonic.service").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DynamicUser", "yes"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"), ("PrivateDevices", "yes"), ("CapabilityBoundingSet", ""), ("RestrictSUIDSGID", "yes"),
        ("SystemCallArchitectures", "native"), ("KillMode", "mixed"), ("WantedBy", "multi-user.target"),
    ],
)  # fmt: skip
def test_the_service_is_confined(name: str, value: str) -> None:
    assert _unit()[name] == [value]


def test_the_service_writes_only_where_it_may() -> None:
    unit = _unit()
    (command,) = unit["ExecStart"]
    assert unit["StateDirectory"] == unit["CacheDirectory"] == unit["User"] == ["gnomonic"]
    assert "--api-keys /var/lib/gnomonic/" in command
    assert "GNOMONIC_CACHE=/var/cache/gnomonic" in unit["Environment"]


def _seconds(text: str) -> float:
    return float(re.sub(r"s$", "", text))


def test_nobody_is_killed_before_the_requests_have_ended() -> None:
    unit, service = _unit(), _compose()
    drains = [float(value) for value in re.findall(r"--drain-seconds[ =](\d+)", f"{unit} {service['command']}")]
    assert len(drains) == 2
    assert _seconds(unit["TimeoutStopSec"][0]) >= max(drains) + 10
    assert _seconds(service["stop_grace_period"]) >= max(drains) + 10


def _directive(name: str) -> str:
    (value,) = re.findall(rf"^\s*{name} ([^;]+);", _read("nginx.conf"), flags=re.MULTILINE)
    return str(value)


def test_the_proxy_allows_what_the_server_allows() -> None:
    options = _options("serve")
    assert _directive("client_max_body_size") == f"{options['--max-body-mb'].default}m"
    assert _seconds(_directive("proxy_read_timeout")) > options["--deadline"].default
    assert _directive("proxy_http_version") == "1.1"
    assert re.search(r"least_conn;.*keepalive \d+;", _read("nginx.conf"), flags=re.DOTALL)
    assert _read("nginx.conf").count("{") == _read("nginx.conf").count("}")


def test_the_proxy_closes_idle_connections_before_the_server_does() -> None:
    source = Path(ROOT / "src" / "gnomonic" / "server" / "run.py").read_text(encoding="utf-8")
    (server_s,) = re.findall(r"timeout_keep_alive=(\d+)", source)
    assert _seconds(_directive("keepalive_timeout")) < float(server_s)
