"""`gnomonic serve`: the embedding server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.")] = 8000,
    model: Annotated[
        list[str] | None, typer.Option(help="Name or folder; repeat for more. The first is the default.")
    ] = None,
    api_keys: Annotated[
        Path | None, typer.Option(help="File of keys, as `gnomonic keys` makes it; else none are asked.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Server processes that share the port.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each engine; else the CPUs / workers.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, torch-cpu, cuda or mps; else cpu.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, int8, bf16 or fp16.")] = None,
    max_texts: Annotated[int, typer.Option(help="Most texts in a request.")] = 2048,
    max_request_tokens: Annotated[int, typer.Option(help="Most tokens in a request.")] = 1_000_000,
    max_queue_tokens: Annotated[int, typer.Option(help="Tokens that may wait; beyond, 429.")] = 500_000,
    max_body_mb: Annotated[float, typer.Option(help="Longest request body in MiB, unpacked.")] = 32,
    max_connections: Annotated[int, typer.Option(help="Connections at once; beyond, 503.")] = 1024,
    max_model_memory_gb: Annotated[float | None, typer.Option(help="Weights open at once, in GiB; else all.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds until a request is given up, 504.")] = 60,
    head_timeout: Annotated[float, typer.Option(help="Seconds a client may take to send a request's head.")] = 10,
    drain_seconds: Annotated[float, typer.Option(help="How long requests may take to end after SIGTERM.")] = 30,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Host header to accept too; repeat; * for any.")
    ] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="Web origin whose pages may call; repeat.")] = None,
    allow_token_ids: Annotated[
        bool, typer.Option("--allow-token-ids", help="Take token ids of the model's own.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of datasets and maps; else GNOMONIC_DATA.")] = None,
    atlas_model: Annotated[
        str | None, typer.Option(help="Embeds fields of datasets whatever model is asked for.")
    ] = None,
    atlas_images: Annotated[
        str | None, typer.Option(help="appearance: map images by colours and edges, whatever model is asked for.")
    ] = None,
    atlas_jobs: Annotated[int, typer.Option(min=1, help="Maps built at once.")] = 1,
    max_upload_mb: Annotated[float, typer.Option(help="Longest upload of rows in MiB.")] = 256,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network for a model.")] = False,
    access_log: Annotated[bool, typer.Option(help="One JSON line a request, on standard error; no texts.")] = True,
    tracing: Annotated[bool, typer.Option("--tracing", help="OpenTelemetry spans, where its API is set up.")] = False,
) -> None:
    """Serve embeddings over HTTP to the clients of Nomic, OpenAI, Ollama, TEI, Cohere and SageMaker."""
    from gnomonic.cli.serving import configure, run

    config = configure(
        offline=offline, max_body_mb=max_body_mb, max_upload_mb=max_upload_mb, data_dir=data_dir,
        atlas_model=atlas_model, atlas_images=atlas_images, atlas_jobs=atlas_jobs,
        max_model_memory_gb=max_model_memory_gb,
        host=host, port=port, models=model, api_keys=api_keys, workers=workers, threads=threads, device=device,
        precision=precision, max_texts=max_texts, max_request_tokens=max_request_tokens, deadline_s=deadline,
        max_queue_tokens=max_queue_tokens, max_connections=max_connections, drain_s=drain_seconds,
        head_timeout_s=head_timeout,
        allowed_hosts=allowed_host, allowed_origins=allow_origin, allow_token_ids=allow_token_ids,
        access_log=access_log, tracing=tracing,
    )  # fmt: skip
    raise typer.Exit(run(config))
