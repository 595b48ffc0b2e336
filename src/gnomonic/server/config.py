"""Everything `gnomonic serve` can be told, as one value that a process hands to another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import ConfigError
from gnomonic.server.models import ShelfOptions
from gnomonic.server.service import Limits, ServiceOptions

__all__ = ["ServeConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """How a server is set up."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free one."""
    models: tuple[str, ...] = (DEFAULT_TEXT_MODEL,)
    """Catalog names and folders; the first is the default."""
    api_keys: str | None = None
    """File of keys; None: everybody who reaches the port may ask."""
    workers: int = 1
    """Server processes that share the port, each with an engine of its own."""
    threads: int | None = None
    """CPU threads of each engine; None: the CPUs divided by `workers`."""
    device: str | None = None
    precision: str | None = None
    max_texts: int = 2048
    max_request_tokens: int = 1_000_000
    max_queue_tokens: int = 500_000
    max_body_bytes: int = 32 << 20
    """Longest request body, after decompression."""
    max_connections: int = 1024
    max_model_bytes: int | None = None
    deadline_s: float = 60.0
    head_timeout_s: float = 10.0
    """How long a client may take to send a request's head."""
    body_timeout_s: float = 30.0
    drain_s: float = 30.0
    """How long requests may take to end after SIGTERM."""
    batch_timeout_s: float = 120.0
    allowed_hosts: tuple[str, ...] = ()
    """Beyond the loopback names and `host`; "*": any."""
    allowed_origins: tuple[str, ...] = ()
    allow_token_ids: bool = False
    access_log: bool = True
    data_dir: str | None = None
    """Datasets and maps; None: that of the settings."""
    atlas_model: str | None = None
    """The model that embeds fields of datasets whatever a client asks for; None: only what is offered by its name."""
    atlas_images: str | None = None
    """"appearance" maps images by colours and edges, whatever model a client asks for; None: they are not mapped."""
    atlas_jobs: int = 1
    """Maps built at once."""
    max_upload_bytes: int = 256 << 20
    """Longest upload of rows."""
    tracing: bool = False
    """One OpenTelemetry span a request, where its API is installed and set up."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        for name in ("workers", "max_texts", "max_request_tokens", "max_queue_tokens", "max_body_bytes",
                     "max_upload_bytes", "atlas_jobs"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} is too small; choose 1 or more")
        for name in ("deadline_s", "head_timeout_s", "body_timeout_s", "drain_s", "batch_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: {getattr(self, name)} is not above 0 seconds")
        if self.atlas_images not in (None, "appearance"):
            raise ConfigError(f"atlas_images: {self.atlas_images!r} is unknown; choose appearance, or leave it out")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port: {self.port} is no port; choose 1 to 65535, or 0 for any free one")

    def service_options(self) -> ServiceOptions:
        """Return the part that the service is made from."""
        return ServiceOptions(
            models=tuple(dict.fromkeys((*self.models, *([self.atlas_model] if self.atlas_model else [])))),
            shelf=ShelfOptions(
                device=self.device,
                precision=self.precision,
                threads=self.threads,
                max_model_bytes=self.max_model_bytes,
            ),
            limits=Limits(
                max_texts=self.max_texts,
                max_request_tokens=self.max_request_tokens,
                max_queue_tokens=self.max_queue_tokens,
                deadline_s=self.deadline_s,
                allow_token_ids=self.allow_token_ids,
            ),
            batch_timeout_s=self.batch_timeout_s,
        )

    def dump(self) -> str:
        """Return it as JSON, for a process that is to be started."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> ServeConfig:
        """Read what `dump` wrote."""
        values: dict[str, Any] = json.loads(text)
        tuples = {field.name for field in fields(cls) if isinstance(getattr(cls(), field.name), tuple)}
        for name in tuples:
            values[name] = tuple(values[name])
        return cls(**values)
