"""`gnomonic models`: which models there are, fetching them, and checking them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gnomonic.cli.golden import golden

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="List, fetch and check models.")

Model = Annotated[str, typer.Argument(help="A name of `gnomonic models list`, or a folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the known models and which of them are on this machine."""
    from gnomonic.catalog import known_models
    from gnomonic.cli.model_tables import describe, list_table, show

    models = [describe(spec) for spec in known_models().values()]
    if as_json:
        typer.echo(json.dumps(models, indent=1))
    else:
        show(list_table(models))


@app.command()
def info(model: Model, as_json: AsJson = False) -> None:
    """Show what is known of a model."""
    from gnomonic.checkpoints.hub import locate
    from gnomonic.cli.model_tables import describe, info_table, show
    from gnomonic.settings import read_settings

    spec, folder = locate(model, read_settings())
    details = describe(spec, folder)
    if as_json:
        typer.echo(json.dumps(details, indent=1))
    else:
        show(info_table(details))


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A name of `gnomonic models list`.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is here already.")] = False,
) -> None:
    """Download a model, or go on with a download that was cut off."""
    from gnomonic import catalog
    from gnomonic.checkpoints.hub import fetch
    from gnomonic.cli.model_tables import DownloadProgress
    from gnomonic.settings import read_settings

    spec = catalog.find(model)
    with DownloadProgress() as progress:
        folder = fetch(spec, read_settings(), progress.update, force=force)
    typer.echo(f"{spec.name} is in {folder}")


@app.command()
def verify(model: Model) -> None:
    """Check a model's files against their digests, and its vectors against stored ones."""
    from gnomonic.checkpoints.hub import locate
    from gnomonic.checkpoints.model_cache import check_files, read_lock
    from gnomonic.cli.model_tables import files_table, probes_table, show
    from gnomonic.errors import CheckpointError
    from gnomonic.settings import read_settings

    settings = read_settings()
    spec, folder = locate(model, settings)
    if not folder.is_dir():
        raise CheckpointError(f"{spec.name} is not on this machine", hint=f"gnomonic models pull {spec.name}")
    files = check_files(spec, folder, read_lock(spec, settings) if spec.repo else None)
    show(files_table(files))
    if not all(check.ok for check in files):
        typer.echo(f"{spec.name}: files differ from what was pinned", err=True)
        raise typer.Exit(1)
    if spec.kind != "text" or not spec.golden:
        typer.echo(f"{spec.name}: files are right; there are no stored vectors to compare with")
        return
    from gnomonic.inference.load import load
    from gnomonic.inference.probes import run_probes

    with load(model, precision="fp32") as encoder:
        results = run_probes(encoder, spec.golden)
    show(probes_table(results))
    if not all(result.ok for result in results):
        typer.echo(f"{spec.name}: vectors differ from the stored ones", err=True)
        raise typer.Exit(1)
    typer.echo(f"{spec.name}: {len(files)} files and {len(results)} vectors are right")


app.command(hidden=True)(golden)
