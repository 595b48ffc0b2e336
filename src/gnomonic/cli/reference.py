"""Write the reference of the commands from the commands: `python -m gnomonic.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
import typer.main

from gnomonic.cli.main import app

__all__ = ["render"]

_HEAD = """# The command line

Written by `python -m gnomonic.cli.reference` from the commands themselves; a test fails when it is stale.
`gnomonic COMMAND --help` shows the same.

Exit codes: 0 done; 2 the call, the input or the set-up needs changing; 1 a failure on our side (a full disk, an engine
that stops); 130 Ctrl-C. An error is an `error:` line on stderr, often with a `hint:` line; `gnomonic --debug COMMAND`
adds where it comes from. Results go to stdout, progress and errors to stderr. The environment variables that every
command reads are in [settings](settings.md), file formats and resuming in
[embed a file](../how-to/embed-a-file.md).
"""


def render() -> str:
    """Return the page, in Markdown."""
    return "\n".join([_HEAD, *_command(typer.main.get_command(app), "gnomonic")])


def _command(command: Any, path: str) -> Iterator[str]:
    context = typer.Context(command, info_name=path)
    is_group = hasattr(command, "list_commands")
    arguments = [str(param.name).upper() for param in command.params if param.param_type_name == "argument"]
    usage = " ".join([path, "[OPTIONS]", *arguments, *(["COMMAND"] if is_group else [])])
    yield f"## {path}\n\n{(command.help or '').strip()}\n\n```\n{usage}\n```\n"
    rows = [_row(param) for param in command.params if not getattr(param, "hidden", False)]
    if rows:
        yield "\n".join(["| | what it does | default |", "|---|---|---|", *rows, ""])
    if is_group:
        for name in command.list_commands(context):
            yield from _command(command.get_command(context, name), f"{path} {name}")


def _row(param: Any) -> str:
    is_option = param.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in [*param.opts, *getattr(param, "secondary_opts", [])]) if is_option else ""
    names = names or f"`{str(param.name).upper()}`"
    default = param.default
    if param.required:
        shown = "required"
    elif default is None or default is False or callable(default) or default in ((), []):
        shown = ""
    else:
        shown = f"`{default}`"
    text = (getattr(param, "help", None) or "").replace("|", "\\|")
    return f"| {names} | {text} | {shown} |"


if __name__ == "__main__":
    typer.echo(render(), nl=False)
