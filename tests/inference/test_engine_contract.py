"""What every engine must do, run over each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gnomonic.checkpoints.tensors import expected_tensors, read_tensors
from gnomonic.errors import EngineError
from gnomonic.inference.batching import pad
from gnomonic.inference.engines.base import Engine
from gnomonic.inference.engines.onnx import OnnxEngine
from gnomonic.models.config import NomicBertConfig
from tests.reference import centred_cosine, pool

LENGTHS = [24, 60, 17, 100, 1, 80, 45, 2, 128, 64, 28, 90]
CONFIG = NomicBertConfig(
    vocab_size=997, hidden_size=192, num_layers=4, num_heads=3, intermediate_size=384,
    max_trained_positions=96, rotary_scaling_factor=2.0,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One engine at one precision, and how far it may be from the exact answer."""

    engine: str
    precision: str
    centred: float
    """Least centred cosine to the float64 reference."""
    batched: float
    """Most that a text's cosine may lose in a batch: reduced precision rounds by neighbours' timing, fp32 not."""


KINDS = [
    Kind(engine="onnx", precision="fp32", centred=1 - 1e-7, batched=1e-6),
    Kind(engine="onnx", precision="int8", centred=0.99, batched=1e-4),
    Kind(engine="torch", precision="fp32", centred=1 - 1e-7, batched=1e-6),
    Kind(engine="torch", precision="bf16", centred=0.998, batched=1e-4),
]


def _open(kind: Kind, folder: Path, config: NomicBertConfig, cache_dir: Path) -> Engine:
    if kind.engine == "onnx":
        return OnnxEngine.open(folder, config, precision=kind.precision, threads=1, cache_dir=cache_dir)
    pytest.importorskip("torch")
    from gnomonic.inference.engines.torch import TorchEngine

    return TorchEngine.open(folder, config, device="cpu", precision=kind.precision, threads=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with the spread that training starts from; larger ones amplify rounding from layer to layer."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in expected_tensors(CONFIG).items():
        centre = 1.0 if name.endswith("weight") and len(shape) == 1 else 0.0
        tensors[name] = (centre + 0.02 * rng.standard_normal(shape)).astype(np.float32)
    folder = tmp_path_factory.mktemp("contract")
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def texts() -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, CONFIG.vocab_size, length) for length in LENGTHS]


@pytest.fixture(scope="module")
def exact(checkpoint: Path, texts: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    tensors = read_tensors(checkpoint, CONFIG)
    return np.stack([pool(tensors, CONFIG, text) for text in texts])


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind.engine}-{kind.precision}")
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="module")
def engine(kind: Kind, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = _open(kind, checkpoint, CONFIG, tmp_path_factory.mktemp("cache"))
    yield opened
    opened.close()


@pytest.fixture
def cosine_loss() -> Callable[[NDArray[Any], NDArray[Any]], float]:
    def loss(a: NDArray[Any], b: NDArray[Any]) -> float:
        a, b = a.astype(np.float64), b.astype(np.float64)
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        return float(1 - cosine.min())

    return loss


def test_it_says_what_it_is(engine: Engine, kind: Kind) -> None:
    assert (engine.name, engine.precision, engine.hidden_size) == (kind.engine, kind.precision, 192)
    assert engine.budget.max_tokens >= 1
    assert engine.budget.max_cells >= 1


def test_a_padded_batch_agrees_with_the_formulas(
    engine: Engine, kind: Kind, texts: list[NDArray[np.int64]], exact: NDArray[np.float64]
) -> None:
    pooled = engine.run(pad(texts))
    assert (pooled.shape, pooled.dtype) == (exact.shape, np.float32)
    assert centred_cosine(pooled, exact).min() >= kind.centred
    if kind.precision == "fp32":
        np.testing.assert_allclose(pooled, exact, atol=1e-5, rtol=0)


def test_a_text_alone_gives_what_it_gives_in_a_batch(
    engine: Engine, kind: Kind, texts: list[NDArray[np.int64]], cosine_loss: Callable[..., float]
) -> None:
    alone = np.concatenate([engine.run(pad([text])) for text in texts])
    assert cosine_loss(engine.run(pad(texts)), alone) <= kind.batched
    order = np.random.default_rng(2).permutation(len(texts))
    assert cosine_loss(engine.run(pad([texts[i] for i in order])), alone[order]) <= kind.batched


def test_what_pads_a_row_and_how_far_does_not_matter(
    engine: Engine, kind: Kind, texts: list[NDArray[np.int64]], cosine_loss: Callable[..., float]
) -> None:
    narrow = pad(texts)
    ids = np.pad(narrow["input_ids"], ((0, 0), (0, 37)))
    mask = np.pad(narrow["attention_mask"], ((0, 0), (0, 37)))
    ids[mask == 0] = np.random.default_rng(3).integers(0, CONFIG.vocab_size, int((mask == 0).sum()))
    wide = engine.run({"input_ids": ids, "attention_mask": mask})
    assert cosine_loss(wide, engine.run(narrow)) <= kind.batched


def test_a_longer_text_leaves_no_trace(engine: Engine, texts: list[NDArray[np.int64]]) -> None:
    before = engine.run(pad(texts))
    # Far beyond the trained length of 96, where rotary tables are others.
    engine.run(pad([np.arange(2500) % CONFIG.vocab_size]))
    np.testing.assert_array_equal(engine.run(pad(texts)), before)


def test_other_integer_types_are_taken(engine: Engine, texts: list[NDArray[np.int64]]) -> None:
    feeds = pad(texts)
    narrow = {"input_ids": feeds["input_ids"].astype(np.int32), "attention_mask": feeds["attention_mask"] == 1}
    np.testing.assert_array_equal(engine.run(narrow), engine.run(feeds))


def test_an_empty_batch_gives_no_rows(engine: Engine) -> None:
    empty = np.empty((0, 4), dtype=np.int64)
    assert engine.run({"input_ids": empty, "attention_mask": empty}).shape == (0, 192)


@pytest.mark.parametrize("wrong", [[[5, CONFIG.vocab_size]], [[5, -1]]])
def test_an_unknown_token_is_refused_and_the_engine_lives_on(
    engine: Engine, texts: list[NDArray[np.int64]], wrong: list[list[int]]
) -> None:
    before = engine.run(pad(texts))
    with pytest.raises(EngineError, match="the model knows 0 to 996"):
        engine.run(pad(wrong))
    np.testing.assert_array_equal(engine.run(pad(texts)), before)


def test_a_row_without_tokens_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="row 1 of the batch has no tokens"):
        engine.run({"input_ids": np.ones((2, 3), np.int64), "attention_mask": np.array([[1, 1, 0], [0, 0, 0]])})


def test_a_closed_engine_says_so(kind: Kind, checkpoint: Path, tmp_path: Path) -> None:
    opened = _open(kind, checkpoint, CONFIG, tmp_path)
    opened.close()
    opened.close()
    with pytest.raises(EngineError, match="closed"):
        opened.run(pad([[1, 2]]))
