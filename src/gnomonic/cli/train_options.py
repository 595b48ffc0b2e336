"""Options that several `gnomonic train` commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BatchSize",
    "ChunkTokens",
    "Dims",
    "DocumentTask",
    "DocumentTokens",
    "Dtype",
    "Epochs",
    "LearningRate",
    "Model",
    "Name",
    "Negatives",
    "Output",
    "Pairs",
    "Plan",
    "Precision",
    "QueryTask",
    "QueryTokens",
    "Recipe",
    "Seed",
    "Steps",
    "Temperature",
    "Threads",
    "TokenizerFolder",
]

Recipe = Annotated[
    Path | None,
    typer.Argument(help="A .toml file with every setting; options go before it. Without one, options and defaults."),
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder for checkpoints, metrics.jsonl and the finished model; again: go on."),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--pairs",
        help="A .csv, .tsv, .jsonl or .parquet file with the columns query and document, and if you have them "
        "negatives and source. Give it several times, or a quoted 'pattern*'.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="What to start from: a name of `gnomonic models list`, a model folder, or the output "
                 "of an earlier run. Left out, finetune takes the bundled model, the others fresh weights."),
]  # fmt: skip
TokenizerFolder = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="Folder with tokenizer.json, for a model from scratch; --model brings its own."),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Texts or pairs per step. For pairs, more is better: the others of a step are the wrong answers."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="How often each row is seen; more than one seldom helps fine-tuning.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps, instead of epochs.")]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate", "--lr", help="The peak, after the warm-up; too much forgets, too little learns nothing."
    ),
]
Dims = Annotated[
    str | None,
    typer.Option(help="Sizes the vectors can be cut to, such as 768,256,64; left out: those of the model."),
]
Negatives = Annotated[
    int | None, typer.Option("--negatives", help="Hard negatives per query and step, drawn from each row's own.")
]
QueryTokens = Annotated[int | None, typer.Option(help="Longest query in tokens; the rest of it is cut off.")]
DocumentTokens = Annotated[
    int | None, typer.Option(help="Longest document in tokens; twice as long costs about twice the time.")
]
QueryTask = Annotated[
    str | None,
    typer.Option(help="Prefix put before the queries: search_query, search_document, classification or clustering."),
]
DocumentTask = Annotated[
    str | None,
    typer.Option(help="The same for the documents. Texts of one kind on both sides: clustering or classification."),
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Similarities are divided by it; smaller looks harder at the closest wrong answers."),
]
ChunkTokens = Annotated[
    int | None,
    typer.Option(help="Tokens in memory at once. Less needs less memory and a little more time, and learns the same."),
]
Precision = Annotated[
    str | None, typer.Option(help="bf16, or fp32: exact, and faster on a CPU without bf16 units. Weights are fp32.")
]
Seed = Annotated[int | None, typer.Option(help="Another seed, another order of the data and other fresh weights.")]
Name = Annotated[str, typer.Option(help="Name of the finished model, and of its folder inside OUTPUT.")]
Dtype = Annotated[str, typer.Option(help="What the finished weights are stored in: fp32, fp16 or bf16.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes torch's own choice.")]
Plan = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the data, what a step costs and how long all takes; write nothing to OUTPUT."),
]
