"""The seeded texts every benchmark embeds, and the random-weight checkpoints it embeds them with.

Texts are spelled in an invented vocabulary whose WordPiece reading is unambiguous: a word is three
syllables, a continuation piece is one syllable, and nothing else has those lengths. So a text's number of
tokens is known when it is written, and every system under test reads the same ids from it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SHAPES",
    "Shape",
    "Workload",
    "default_workdir",
    "make_checkpoint",
    "make_workload",
    "workload_names",
]

SEED = 20260101
# [CLS] and [SEP], and the four pieces of "search_query: " or "search_document: ".
OVERHEAD = 6
CONTINUATION_SHARE = 0.25
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
PREFIX_PIECES = ("search", "_", "query", "document", ":", "classification", "clustering")
SYLLABLES = tuple(c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model shape to measure."""

    name: str
    vocab_size: int = 30528
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072

    @property
    def gemm_parameters(self) -> int:
        """Weights every token is multiplied with."""
        return self.num_layers * self.hidden_size * (4 * self.hidden_size + 3 * self.intermediate_size)

    def flops(self, lengths: Sequence[int]) -> float:
        """Return the floating-point operations of encoding sequences of these lengths, without padding.

        Two per weight and token, and 4 · hidden · length per token and layer for the two products of attention.
        """
        tokens = np.asarray(lengths, dtype=np.float64)
        attention = 4.0 * self.hidden_size * self.num_layers * np.square(tokens).sum()
        return float(2.0 * self.gemm_parameters * tokens.sum() + attention)


SHAPES = {
    "v1.5": Shape(name="v1.5"),
    "tiny": Shape(name="tiny", vocab_size=1024, hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128),
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Texts with their exact number of tokens."""

    name: str
    task_type: str
    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    """Tokens per text, prefix and special tokens included."""

    @property
    def tokens(self) -> int:
        """Tokens of all texts together; no padding."""
        return sum(self.lengths)

    @property
    def digest(self) -> str:
        """sha256 over the texts, in hex."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()

    def first(self, count: int) -> Workload:
        """Return the first `count` texts as a workload."""
        return Workload(
            name=self.name, task_type=self.task_type, texts=self.texts[:count], lengths=self.lengths[:count]
        )


def default_workdir() -> Path:
    """Return where checkpoints, graphs and logs of the benchmarks go when no folder is named."""
    return Path(tempfile.gettempdir()) / "gnomonic-benchmarks"


def _vocabulary(size: int) -> list[str]:
    """Spell `size` pieces: BERT's special rows, the prefixes, every syllable as a continuation, then words."""
    rng = np.random.default_rng(SEED)
    pieces = [SPECIAL.get(row, f"[unused{row}]") for row in range(104)]
    pieces += [*PREFIX_PIECES, *(f"##{syllable}" for syllable in SYLLABLES)]
    words = rng.choice(len(SYLLABLES) ** 3, size=size - len(pieces), replace=False)
    base = len(SYLLABLES)
    pieces += [SYLLABLES[w // base**2] + SYLLABLES[w // base % base] + SYLLABLES[w % base] for w in words]
    return pieces


def _lengths(name: str, rng: np.random.Generator) -> tuple[str, NDArray[np.int64]]:
    """Draw a workload's task type and lengths in tokens."""
    if name == "queries":
        return "search_query", rng.integers(16, 33, size=2000)
    if name == "passages":
        # Median 175 and sigma 0.6, cut at 512: mean about 200.
        drawn = np.exp(rng.normal(np.log(175.0), 0.6, size=2000))
        return "search_document", np.clip(np.rint(drawn), 16, 512).astype(np.int64)
    return "search_document", np.full({"doc2048": 16, "doc8192": 4}[name], int(name.removeprefix("doc")))


def workload_names() -> tuple[str, ...]:
    """Return the workloads, shortest texts first."""
    return ("queries", "passages", "doc2048", "doc8192")


def make_workload(name: str, shape: Shape) -> Workload:
    """Write the texts of one workload; the same on every machine and in every run.

    Args:
        name: "queries" (2,000 of 16–32 tokens), "passages" (2,000 log-normal, mean about 200, at most 512),
            "doc2048" or "doc8192".
        shape: whose vocabulary the texts use.
    """
    rng = np.random.default_rng([SEED, workload_names().index(name)])
    task_type, lengths = _lengths(name, rng)
    vocabulary = _vocabulary(shape.vocab_size)
    first_word = 104 + len(PREFIX_PIECES) + len(SYLLABLES)
    texts = []
    for length in lengths:
        body = int(length) - OVERHEAD
        continues = rng.random(body) < CONTINUATION_SHARE
        continues[0] = False
        words = rng.integers(first_word, len(vocabulary), size=body)
        endings = rng.integers(0, len(SYLLABLES), size=body)
        parts = [
            SYLLABLES[ending] if joined else f" {vocabulary[word]}"
            for word, ending, joined in zip(words, endings, continues, strict=True)
        ]
        texts.append("".join(parts).lstrip())
    return Workload(name=name, task_type=task_type, texts=tuple(texts), lengths=tuple(map(int, lengths)))


def _write_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    """Write tokenizer.json, vocab.txt and tokenizer_config.json as bert-base-uncased has them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {piece: row for row, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 8192,
        **{f"{role}_token": f"[{role.upper()}]" for role in ("cls", "mask", "pad", "sep", "unk")},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def make_checkpoint(shape: Shape, workdir: Path) -> Path:
    """Return a folder with a random-weight checkpoint of that shape, written on the first call.

    It has the published v1.5 layout and post-processing, so every peer loads it like the real one.
    """
    out = workdir / f"checkpoint-{shape.name}-{SEED}"
    if (out / "config.json").exists():
        return out
    import torch

    from gnomonic.catalog import ModelSpec
    from gnomonic.checkpoints import huggingface
    from gnomonic.models.config import NomicBertConfig
    from gnomonic.models.nomic_bert import NomicBert

    sizes: dict[str, Any] = {key: value for key, value in vars(shape).items() if key != "name"}
    torch.manual_seed(SEED)
    model = NomicBert(NomicBertConfig(**sizes))
    tasks = ("search_query", "search_document", "classification", "clustering")
    spec = ModelSpec(
        name=f"random-{shape.name}",
        hidden_size=shape.hidden_size,
        layer_norm=True,
        prefixes={task: f"{task}: " for task in tasks},
    )
    workdir.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=workdir, prefix="making-"))
    try:
        _write_tokenizer(scratch, _vocabulary(shape.vocab_size))
        huggingface.save(model, spec, scratch, scratch / "model", dtype="fp32")
        # Another benchmark may have finished the same folder meanwhile; then its copy stays.
        if not out.exists():
            (scratch / "model").replace(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out
