"""A tiny corpus of pairs, its vocabulary and a recipe that trains in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from gnomonic.training.vocabulary import train_vocabulary  # noqa: E402

_ANIMALS = ["cat", "dog", "horse", "bird", "fish", "cow", "sheep", "goat"]
_FOODS = ["bread", "rice", "soup", "cake", "salad", "pasta", "cheese", "stew"]

RECIPE = """
data = ["pairs.parquet"]
batch_size = 8
query_tokens = 40
document_tokens = 40
dims = [16, 8]

[loop]
max_steps = {steps}
learning_rate = 0.003
warmup_steps = 2
autocast = "fp32"
log_every = 2
checkpoint_every = 3

[model]
tokenizer = "tokenizer"
hidden_size = 16
num_layers = 1
num_heads = 2
intermediate_size = 24
max_positions = 64

[[sources]]
match = ["food*"]
query_task = "clustering"
document_task = "clustering"
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Folder with pairs.parquet, tokenizer/ and nothing else."""
    rows = []
    for i in range(8):
        rows += [(f"where is the {a} {i}", f"the {a} number {i} is here", "animals") for a in _ANIMALS]
    for i in range(6):
        rows += [(f"how to make {f} in pot {i}", f"{f} is made at home in pot {i}", "foods") for f in _FOODS]
    queries, documents, sources = zip(*rows, strict=True)
    table = pa.table({"query": queries, "document": documents, "source": sources})
    pq.write_table(table, tmp_path / "pairs.parquet")
    train_vocabulary([*queries, *documents], tmp_path / "tokenizer", size=200, max_tokens=64)
    return tmp_path


def write_recipe(folder: Path, *, steps: int) -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(steps=steps), encoding="utf-8")
    return path


def tiny_bert(folder: Path) -> Path:
    """Write a sentence-transformers folder with a random BERT of width 16 and return it."""
    transformers = pytest.importorskip("transformers")
    from sentence_transformers import SentenceTransformer

    try:
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError:
        from sentence_transformers.models import Pooling, Transformer

    train_vocabulary(
        ["the cat is here", "the dog is there", "where is the cat"], folder / "words", size=60, max_tokens=32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "words")
    import torch

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=96,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    inner = Transformer(str(folder / "plain"))
    SentenceTransformer(modules=[inner, Pooling(16)], device="cpu").save(str(folder / "bert"))
    return folder / "bert"
