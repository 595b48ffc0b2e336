"""`gnomonic view`: the map of a dataset in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["view"]


def view(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 0,
    once: Annotated[bool, typer.Option("--once", help="See that the page and the map answer, and end.")] = False,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser, where there is one.")] = True,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder; else GNOMONIC_DATA.")] = None,
) -> None:
    """Serve the page of a map that is there, until Ctrl-C."""
    from gnomonic.cli.viewing import show

    show(name, data_dir=data_dir, host=host, port=port, once=once, browser=open_)
