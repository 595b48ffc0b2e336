"""`gnomonic keys`: the API keys of a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from gnomonic.server.auth import KeyEntry

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make, list and revoke the API keys of a server.")

File = Annotated[Path | None, typer.Option("--file", help="File of keys; else api-keys.json in the settings folder.")]

_USE = """key {id} for {name!r}; shown this once, kept nowhere: {file} holds only its hash

serve with it   gnomonic serve --api-keys {file}
curl            curl http://127.0.0.1:8000/v1/embeddings -H "Authorization: Bearer $KEY" \\
                  -H "Content-Type: application/json" -d '{{"model": "{model}", "input": "a text"}}'
nomic           export ATLAS_API_PATH=http://127.0.0.1:8000; nomic login $KEY
openai          export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=$KEY
gnomonic        export GNOMONIC_API_URL=http://127.0.0.1:8000 GNOMONIC_API_KEY=$KEY
take it back    gnomonic keys revoke {id} --file {file}"""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", help="How often it may be used; else without limit.")
    ] = None,
    organization: Annotated[str, typer.Option(help="Whose datasets it opens; others do not see them.")] = "local",
    file: File = None,
) -> None:
    """Make a key: the key alone goes to stdout, how to use it to stderr. A running server knows it in two seconds."""
    from gnomonic.catalog import DEFAULT_TEXT_MODEL
    from gnomonic.server.auth import create_key

    path = _path(file)
    entry, secret = create_key(path, name, requests_per_minute=requests_per_minute, organization=organization)
    typer.echo(secret)
    typer.echo(_USE.format(id=entry.id, name=entry.name, file=path, model=DEFAULT_TEXT_MODEL), err=True)


@app.command("list")
def list_(
    file: File = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the keys, revoked ones included; the keys themselves are kept nowhere."""
    from gnomonic.cli.model_tables import show
    from gnomonic.server.auth import list_keys

    entries = list_keys(_path(file))
    if as_json:
        shown = ("id", "name", "created", "requests_per_minute", "revoked", "organization")
        typer.echo(json.dumps([{field: getattr(entry, field) for field in shown} for entry in entries], indent=1))
    else:
        show(_table(entries))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As the list shows it.")], file: File = None
) -> None:
    """Revoke a key for good. A running server refuses it within two seconds."""
    from gnomonic.server.auth import revoke_key

    entry = revoke_key(_path(file), key_id)
    typer.echo(f"{entry.id} ({entry.name}) is revoked since {entry.revoked}")


def _path(file: Path | None) -> Path:
    from gnomonic.settings import read_settings

    return file.expanduser() if file else read_settings().config_dir / "api-keys.json"


def _table(entries: list[KeyEntry]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    names = ("id", "name", "created", "requests a minute", "organization", "revoked")
    table = Table(*names, box=box.SIMPLE_HEAD, pad_edge=False)
    for entry in entries:
        limit = "no limit" if entry.requests_per_minute is None else f"{entry.requests_per_minute:,}"
        table.add_row(entry.id, escape(entry.name), entry.created, limit, entry.organization, entry.revoked or "")
    return table
