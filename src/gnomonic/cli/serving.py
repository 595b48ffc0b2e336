"""What `gnomonic serve` prints, and the logs it sets up.

`python -m gnomonic.cli.serving METRICS SOCKET READY PARENT CONFIG` is one of several server processes.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import GnomonicError

if TYPE_CHECKING:
    from gnomonic.server.config import ServeConfig

__all__ = ["configure", "main", "run"]

_TUPLES = ("models", "allowed_hosts", "allowed_origins")


def configure(
    *,
    offline: bool,
    max_body_mb: float,
    max_upload_mb: float,
    max_model_memory_gb: float | None,
    api_keys: Path | None,
    data_dir: Path | None,
    **given: Any,
) -> ServeConfig:
    """Return the settings that the command's options mean; `given` holds fields of ServeConfig, lists for tuples.

    Raises:
        MissingExtraError: the server's packages are not installed.
        ConfigError: an option is out of range.
    """
    from gnomonic.errors import MissingExtraError

    try:
        from gnomonic.server.config import ServeConfig
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gnomonic"):
            raise
        raise MissingExtraError("server", needed_for="gnomonic serve") from error
    if offline:
        os.environ["GNOMONIC_OFFLINE"] = "1"
    given["models"] = given["models"] or [DEFAULT_TEXT_MODEL]
    fields: dict[str, Any] = {name: tuple(value or ()) if name in _TUPLES else value for name, value in given.items()}
    return ServeConfig(
        api_keys=str(api_keys) if api_keys else None,
        data_dir=str(data_dir.expanduser()) if data_dir else None,
        max_body_bytes=int(max_body_mb * 2**20),
        max_upload_bytes=int(max_upload_mb * 2**20),
        max_model_bytes=None if max_model_memory_gb is None else int(max_model_memory_gb * 2**30),
        **fields,
    )


def run(config: ServeConfig) -> int:
    """Serve until told to end; return the exit code."""
    from gnomonic.server.run import serve

    _set_up_logs(config)
    share = (sys.executable, "-m", "gnomonic.cli.serving")
    code = serve(config, share=share, on_ready=lambda host, port: _tell(config, host, port))
    if code:
        typer.echo("error: the server could not start; the lines above say why", err=True)
    return code


def main() -> None:
    """Be one of several server processes."""
    metrics, number, ready, parent, text = sys.argv[1:]
    # prometheus_client looks for it when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    from gnomonic.server.config import ServeConfig
    from gnomonic.server.run import serve_share

    config = ServeConfig.load(text)
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    _set_up_logs(config)
    try:
        code = serve_share(int(number), int(ready), int(parent), config)
    except GnomonicError as error:
        typer.echo(f"error: {error}", err=True)
        code = 2
    raise SystemExit(code)


def _set_up_logs(config: ServeConfig) -> None:
    """Let the server tell of its models and workers, and write the access log a line a request."""
    plain = logging.StreamHandler()
    plain.setFormatter(logging.Formatter("%(message)s"))
    for name in ("gnomonic.access", "gnomonic.server"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [plain]
        logger.propagate = False
    logging.getLogger("gnomonic.access").disabled = not config.access_log


def _tell(config: ServeConfig, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0', '::1', '::') else shown}:{port}"
    key = "nk-… (gnomonic keys create NAME makes one)" if config.api_keys else "any"
    first = config.models[0].rstrip("/").rpartition("/")[2]
    for line in (
        f"serving {', '.join(config.models)} on http://{shown}:{port} - Ctrl-C ends it",
        f"  gnomonic  GNOMONIC_API_URL={url}",
        f"  nomic     ATLAS_API_PATH={url}",
        f"  openai    base_url={url}/v1",
        f"  ollama    OLLAMA_HOST={url}",
        f"  cohere    base_url={url}",
        f"  TEI       {url}/embed",
        f"  API key   {key}",
        f'try: curl -s {url}/v1/embeddings -d \'{{"input": "a map", "model": "{first}"}}\'',
    ):
        typer.echo(line)
    if host not in ("127.0.0.1", "::1") and not config.api_keys:
        typer.echo("warning: other machines can reach this port and no key is asked; see --api-keys", err=True)


if __name__ == "__main__":
    main()
