"""The `gnomonic` command: finds the commands, and turns errors into messages and exit codes.

Exit codes: 0 done; 2 the call, the input or the set-up needs changing; 1 a failure on our side; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from gnomonic.errors import CheckpointError, ConfigError, GnomonicError, InputError, MissingExtraError

__all__ = ["app", "app_main"]

_COMMANDS = (
    "embed",
    "demo",
    "map",
    "view",
    "search",
    "datasets",
    "serve",
    "keys",
    "models",
    "export",
    "train",
    "curate",
    "evaluate",
)
"""Each is a module here that holds a function of the same name, or `app` with commands of its own."""

_CALLERS_MISTAKE = (InputError, ConfigError, CheckpointError, MissingExtraError)


class _Commands(typer.core.TyperGroup):
    """Imports a command's module when it is asked for, so that one command never pays for another."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return [name for name in _COMMANDS if find_spec(f"gnomonic.cli.{name}")]

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(_ctx):
            return None
        module = import_module(f"gnomonic.cli.{cmd_name}")
        if hasattr(module, "app"):
            command = typer.main.get_command(module.app)
        else:
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(getattr(module, cmd_name))
            command = typer.main.get_command(single)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GnomonicError as error:
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            typer.echo(f"error: {error}", err=True)
            if error.hint:
                typer.echo(f"hint: {error.hint}", err=True)
            raise typer.Exit(2 if isinstance(error, _CALLERS_MISTAKE) else 1) from None
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from gnomonic import __version__

        typer.echo(f"gnomonic {__version__}")
        raise typer.Exit


@app.callback()
def gnomonic(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from, and log what is done.")
    ] = False,
) -> None:
    """Put text into a vector space, on your own machine."""
    import logging

    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s" if debug else "warning: %(message)s",
    )
    if debug:
        sys.excepthook = sys.__excepthook__


def _explain(kind: type[BaseException], error: BaseException, _where: TracebackType | None) -> None:
    """Tell of a defect in one line; `gnomonic --debug …` shows the whole of it."""
    typer.echo(f"error: unexpected {kind.__name__}: {error}", err=True)
    typer.echo("hint: this is a defect; `gnomonic --debug …` shows where, please report it", err=True)


def app_main() -> None:
    """Run the command line; the entry point of the installed `gnomonic` script."""
    sys.excepthook = _explain
    typer.main.get_command(app)(prog_name="gnomonic")
