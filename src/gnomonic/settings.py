"""What the environment sets. Only this module and cli/ read environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gnomonic.errors import ConfigError

__all__ = ["Settings", "read_settings"]

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The environment, read once per call that needs it."""

    cache_dir: Path
    """GNOMONIC_CACHE: built graphs, downloaded models and converted training data; default is gnomonic under the user's
    cache folder."""
    config_dir: Path
    """gnomonic under XDG_CONFIG_HOME (default ~/.config): the file of API keys, unless a command is told another."""
    data_dir: Path
    """GNOMONIC_DATA: datasets and maps; default is gnomonic under XDG_DATA_HOME (~/.local/share)."""
    offline: bool
    """GNOMONIC_OFFLINE or HF_HUB_OFFLINE: fetch nothing; the only server that is asked is that of api_url."""
    hub_url: str
    """HF_ENDPOINT: the model hub."""
    hub_token: str | None
    """HF_TOKEN: sent to the hub; needed only for private models."""
    threads: int | None
    """GNOMONIC_THREADS: CPU threads of an engine; default is the CPU quota of this process."""
    api_url: str | None
    """GNOMONIC_API_URL: the server that remote inference uses, and that datasets without a root= are on."""
    api_key: str | None
    """GNOMONIC_API_KEY: the key sent to that server."""


def _flag(name: str) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ConfigError(f"{name}={value!r} is not a switch; set it to 1 or 0")


def _threads() -> int | None:
    value = os.environ.get("GNOMONIC_THREADS", "").strip()
    if not value:
        return None
    if not value.isdigit() or int(value) < 1:
        raise ConfigError(f"GNOMONIC_THREADS={value!r} is not a number of threads; set it to 1 or more")
    return int(value)


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigError: a variable holds a value that is not allowed.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = os.environ.get("GNOMONIC_CACHE") or str(Path(base) / "gnomonic")
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    data = os.environ.get("GNOMONIC_DATA") or str(
        Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "gnomonic"
    )
    return Settings(
        cache_dir=Path(cache).expanduser(),
        data_dir=Path(data).expanduser(),
        config_dir=Path(config).expanduser() / "gnomonic",
        offline=_flag("GNOMONIC_OFFLINE") or _flag("HF_HUB_OFFLINE"),
        hub_url=os.environ.get("HF_ENDPOINT") or "https://huggingface.co",
        hub_token=os.environ.get("HF_TOKEN") or None,
        threads=_threads(),
        api_url=os.environ.get("GNOMONIC_API_URL") or None,
        api_key=os.environ.get("GNOMONIC_API_KEY") or None,
    )
