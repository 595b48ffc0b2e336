"""The torch engine where it differs from the others: packing, narrow types, devices, failures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gnomonic.checkpoints.huggingface import load_text, read_config
from gnomonic.errors import CheckpointError, EngineError, InputError, MissingExtraError
from gnomonic.inference.engines import torch as engine_module
from gnomonic.inference.engines.torch import TorchEngine
from gnomonic.models.config import NomicBertConfig
from gnomonic.models.nomic_bert import NomicBert
from tests.models.conftest import shake
from tests.reference import centred_cosine, pool

CONFIG = NomicBertConfig(vocab_size=97, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)


def _model(config: NomicBertConfig = CONFIG, *, like_training: bool = False) -> NomicBert:
    model = NomicBert(config)
    shake(model, seed=0)
    if like_training:
        # The spread that training starts from; larger matrices amplify rounding from layer to layer.
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.data *= 0.02 / 0.15
    return model


def _feeds(lengths: list[int], *, vocab_size: int = 97, padding: int = 0) -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    mask = np.arange(max(lengths, default=0) + padding) < np.array(lengths, dtype=np.int64)[:, None]
    ids = rng.integers(0, vocab_size, mask.shape)
    # Padding must not matter, so it is not zero.
    return {"input_ids": np.where(mask, ids, 5), "attention_mask": mask.astype(np.int64)}


def test_a_padded_batch_is_pooled_row_by_row() -> None:
    model = _model()
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    feeds = _feeds([3, 40, 1, 17], padding=9)
    pooled = TorchEngine(model).run(feeds)
    rows = zip(feeds["input_ids"], feeds["attention_mask"].sum(1), strict=True)
    expected = np.stack([pool(weights, CONFIG, ids[:length]) for ids, length in rows])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, expected, atol=1e-5, rtol=0)


def test_an_empty_batch_gives_no_rows() -> None:
    empty = np.empty((0, 4), dtype=np.int64)
    assert TorchEngine(_model()).run({"input_ids": empty, "attention_mask": empty}).shape == (0, 32)


def test_input_ids_of_int32_and_a_boolean_mask_work() -> None:
    engine, feeds = TorchEngine(_model()), _feeds([4, 9])
    narrow = {"input_ids": feeds["input_ids"].astype(np.int32), "attention_mask": feeds["attention_mask"] == 1}
    np.testing.assert_array_equal(engine.run(narrow), engine.run(feeds))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_precision_agrees_with_fp32(precision: str) -> None:
    config = NomicBertConfig(vocab_size=997, hidden_size=192, num_layers=6, num_heads=3, intermediate_size=384)
    feeds = _feeds([24, 60, 17, 100, 33, 80, 45, 20, 128, 64, 28, 90], vocab_size=997)
    exact = TorchEngine(_model(config, like_training=True)).run(feeds)
    engine = TorchEngine(_model(config, like_training=True), precision=precision)
    pooled = engine.run(feeds)
    assert (engine.precision, pooled.dtype) == (precision, np.float32)
    assert centred_cosine(pooled, exact).min() >= 0.998


def test_a_device_without_mixed_norms_computes_the_same() -> None:
    feeds = _feeds([5, 30])
    wide = _model()
    engine_module._narrow(wide, torch.bfloat16, widen_inputs=True)
    engine = TorchEngine(_model(), precision="bf16")
    expected = engine.run(feeds)
    engine._model = wide.eval()
    np.testing.assert_array_equal(engine.run(feeds), expected)


def test_auto_is_fp32_on_the_cpu() -> None:
    assert TorchEngine(_model(), precision="auto").precision == "fp32"


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision 'int8' is unknown to the torch engine; choose fp32, bf16, fp16"):
        TorchEngine(_model(), precision="int8")


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_an_engine_error(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EngineError, match=f"device '{device}' cannot be used"):
        TorchEngine(_model(), device=device)


@pytest.mark.parametrize("wrong", [-1, 97, 2**40])
def test_an_id_outside_the_vocabulary_is_refused_and_the_engine_lives(wrong: int) -> None:
    engine, feeds = TorchEngine(_model()), _feeds([4, 9])
    expected = engine.run(feeds)
    broken = {**feeds, "input_ids": feeds["input_ids"].copy()}
    broken["input_ids"][1, 2] = wrong
    with pytest.raises(EngineError, match="the model knows 0 to 96"):
        engine.run(broken)
    np.testing.assert_array_equal(engine.run(feeds), expected)


def test_a_row_without_tokens_is_refused() -> None:
    feeds = _feeds([4, 9])
    feeds["attention_mask"][0] = 0
    with pytest.raises(EngineError, match="row 0 of the batch has no tokens"):
        TorchEngine(_model()).run(feeds)


class _Failing(NomicBert):
    """Fails on its first batch, then works."""

    def __init__(self, error: Exception) -> None:
        super().__init__(CONFIG)
        self.error: Exception | None = error

    def forward(self, *args: Any) -> torch.Tensor:
        error, self.error = self.error, None
        if error:
            raise error
        return super().forward(*args)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB\ndetails"), "out of memory on 2 texts with 13 tokens"),
        (RuntimeError("kernel failed"), "torch failed on a batch of 2 texts: kernel failed"),
    ],
)
def test_after_a_failure_the_engine_stays_usable(error: Exception, message: str) -> None:
    engine, feeds = TorchEngine(_Failing(error)), _feeds([4, 9])
    with pytest.raises(EngineError, match=message):
        engine.run(feeds)
    assert np.isfinite(engine.run(feeds)).all()


def test_a_closed_engine_says_so() -> None:
    engine = TorchEngine(_model())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(_feeds([3]))


def test_open_reads_a_checkpoint(tiny_checkpoint: Path) -> None:
    config = read_config(tiny_checkpoint)
    engine = TorchEngine.open(tiny_checkpoint, config, threads=torch.get_num_threads())
    feeds = _feeds([6, 20], vocab_size=config.vocab_size)
    np.testing.assert_array_equal(engine.run(feeds), TorchEngine(load_text(tiny_checkpoint)).run(feeds))


def test_open_sets_the_threads(tiny_checkpoint: Path) -> None:
    before = torch.get_num_threads()
    try:
        TorchEngine.open(tiny_checkpoint, read_config(tiny_checkpoint), threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_open_of_an_empty_folder_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds neither"):
        TorchEngine.open(tmp_path, CONFIG)


def test_without_torch_the_message_names_the_extra(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(tiny_checkpoint)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gnomonic\[train\]'"):
        TorchEngine.open(tiny_checkpoint, config)
    with pytest.raises(MissingExtraError, match=r"pip install 'gnomonic\[train\]'"):
        load_text(tiny_checkpoint)
