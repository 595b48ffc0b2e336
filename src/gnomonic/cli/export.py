"""`gnomonic export`: write a model in the format of another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    model: Annotated[str, typer.Argument(help="A name of `gnomonic models list`, or a folder.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder; made if it does not exist.")],
    format: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, or int8: a quarter of the size.")] = "fp32",
) -> None:
    """Write a model for other runtimes: encoder and mean pooling in one ONNX graph, tokenizer beside it."""
    from gnomonic.checkpoints.hub import find_model
    from gnomonic.checkpoints.huggingface import read_config
    from gnomonic.checkpoints.onnx import export_onnx
    from gnomonic.errors import InputError
    from gnomonic.settings import read_settings

    if format != "onnx":
        raise InputError(f"format {format!r} is unknown; choose onnx")
    if precision not in ("fp32", "int8"):
        raise InputError(f"precision {precision!r} cannot be exported to ONNX; choose fp32 or int8")
    spec, folder = find_model(model, read_settings())
    written = export_onnx(folder, read_config(folder), output, precision=precision)
    files = [written, *written.parent.glob(f"{written.name}.data")]
    size = sum(file.stat().st_size for file in files) / 1e6
    typer.echo(f"wrote {written} ({size:.1f} MB)")
    steps = ["layer norm"] if spec.layer_norm else []
    steps += [f"the first of {spec.hidden_size} values you want", "unit length"]
    typer.echo(f"its output sentence_embedding still needs: {', '.join(steps)}")
