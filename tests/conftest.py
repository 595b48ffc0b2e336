"""Fixtures that several parts share: tiny checkpoints with random weights and a real tokenizer."""

from __future__ import annotations

import json
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from gnomonic.checkpoints.tensors import expected_tensors
from gnomonic.inference.encoder import TextEncoder
from gnomonic.inference.tokenizer import Tokenizer as OurTokenizer
from gnomonic.models.config import NomicBertConfig
from tests.fakes import FakeEngine

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = (
    "the quick brown fox jumps over lazy dog a an and of to in is it that was for on with as by at from this "
    "search query document classification clustering cat mouse house river mountain bread train music red green "
    "blue how what where why made water fire stone paper light night day long short old new"
)


def _vocabulary() -> list[str]:
    letters = string.ascii_lowercase + string.digits
    pieces = ["##" + letter for letter in letters] + ["##ing", "##ed", "##s", "##er", "##ly"]
    return list(dict.fromkeys([*_SPECIAL, *string.punctuation, *letters, *"éßñ中文字", *pieces, *_WORDS.split()]))


def _write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, vocab.txt and tokenizer_config.json of a lower-casing WordPiece tokenizer."""
    vocabulary = _vocabulary()
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    options = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 8192, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")


def _random_tensors(config: NomicBertConfig, seed: int) -> dict[str, np.ndarray]:
    """Draw weights large enough that texts get clearly different vectors."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_tensors(config).items():
        centre = 1.0 if name.endswith("weight") and len(shape) == 1 else 0.0
        tensors[name] = (centre + 0.15 * rng.standard_normal(shape)).astype(np.float32)
    return tensors


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the developer's cache and settings out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNOMONIC_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("GNOMONIC_THREADS", "GNOMONIC_API_URL", "GNOMONIC_API_KEY", "HF_TOKEN", "HF_ENDPOINT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def tiny_config() -> NomicBertConfig:
    """2 layers of width 32 that take 8192 tokens."""
    rows = -(-len(_vocabulary()) // 64) * 64
    return NomicBertConfig(vocab_size=rows, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_config: NomicBertConfig) -> Callable[..., Path]:
    """Return `make(config=tiny, *, seed=0, **spec) -> folder`, whose gnomonic.json says `spec`."""
    from safetensors.numpy import save_file

    def make(config: NomicBertConfig = tiny_config, *, seed: int = 0, **spec: Any) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint") / "tiny-text"
        folder.mkdir()
        save_file(_random_tensors(config, seed), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config.to_hf()), encoding="utf-8")
        said = {"name": "tiny-text", "layer_norm": True, "dims": [32, 16, 8], **spec}
        (folder / "gnomonic.json").write_text(json.dumps(said), encoding="utf-8")
        _write_tokenizer(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    """A v1.5-style checkpoint folder: layer norm, dims 32, 16 and 8, four prefixes, 8192 tokens. Do not change it."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def run_python() -> Callable[..., None]:
    """Return `run(code, *arguments)`: a new interpreter that finds the same packages; it must exit with 0."""

    def run(code: str, *arguments: object) -> None:
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
        subprocess.run([*command, *map(str, arguments)], check=True, timeout=100)

    return run


@pytest.fixture
def fake_engine() -> FakeEngine:
    """An engine by formula, of the tiny model's width."""
    return FakeEngine()


@pytest.fixture
def fake_encoder(tiny_checkpoint: Path, fake_engine: FakeEngine) -> TextEncoder:
    """The tiny model's tokenizer and description over the fake engine."""
    from gnomonic.checkpoints.huggingface import describe

    return TextEncoder(describe(tiny_checkpoint), OurTokenizer.open(tiny_checkpoint), fake_engine)
