"""`gnomonic models golden`: the digests and probe vectors of a model as TOML for the catalog."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["golden", "golden_toml", "write_golden"]

PROBES = (
    ("", "hello world"),
    ("", "What is Deep Learning?"),
    ("search_query", "how do I keep my data when a disk fails"),
    (
        "search_document",
        "RAID 1 keeps a copy of every block on a second disk; a backup protects against deletion too.",
    ),
    ("classification", "the delivery was late and the box was open"),
    ("clustering", "naïve Bayes, 深度学习 and Straße: accents, other scripts and ß"),
)
"""task type ("" for the bare text's pooled vector) and text."""


def golden_toml(model: str) -> str:
    """Embed the probes and hash the files of a model.

    Raises:
        GnomonicError: the model cannot be found or loaded.
    """
    from gnomonic.checkpoints.hub import locate
    from gnomonic.checkpoints.model_cache import check_files
    from gnomonic.inference.load import load
    from gnomonic.inference.probes import make_probe
    from gnomonic.settings import read_settings

    spec, folder = locate(model, read_settings())
    key = json.dumps(spec.name)
    lines = [f"[{key}.files]"]
    lines += [
        f"{json.dumps(check.name)} = {json.dumps(check.actual)}" for check in check_files(spec, folder) if check.actual
    ]
    with load(model, precision="fp32") as encoder:
        for task_type, text in PROBES:
            lines += ["", f"[[{key}.golden]]"]
            probe = make_probe(encoder, text, task_type=task_type)
            lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in probe.items()]
    return "\n".join(lines) + "\n"


def _markers(model: str) -> tuple[str, str]:
    return f"# begin: gnomonic models golden {model}", f"# end: gnomonic models golden {model}"


def write_golden(catalog: Path, model: str, text: str) -> None:
    """Put `text` into a catalog file, in place of what an earlier call put there, else at its end."""
    begin, end = _markers(model)
    old = catalog.read_text(encoding="utf-8")
    before, found, rest = old.partition(begin)
    after = rest.partition(end)[2] if found else ""
    fresh = catalog.with_name(f"{catalog.name}.{os.getpid()}.tmp")
    fresh.write_text(f"{before.rstrip()}\n\n{begin}\n{text}{end}\n{after.lstrip()}", encoding="utf-8")
    fresh.replace(catalog)


def golden(
    model: Annotated[str, typer.Argument(help="A name of the catalog.")],
    write: Annotated[Path | None, typer.Option(help="Catalog file to update; default: print.")] = None,
) -> None:
    """Store a model's digests and probe vectors as they are now; for whoever ships a new bundled model."""
    text = golden_toml(model)
    if write is None:
        typer.echo(text)
    else:
        write_golden(write, model, text)
        typer.echo(f"wrote digests and probes of {model} to {write}")
