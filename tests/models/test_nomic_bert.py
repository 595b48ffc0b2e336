"""The torch model against transformers and against plain numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gnomonic.models import layers
from gnomonic.models.nomic_bert import NomicBert
from gnomonic.models.pooling import mean_pool
from tests.models.conftest import Pair
from tests.reference import encode, pool

PARITY = 1e-4
SHAPES = {
    "one layer, one head": {"hidden_size": 16, "num_layers": 1, "num_heads": 1, "intermediate_size": 24},
    "narrow heads": {"hidden_size": 48, "num_layers": 2, "num_heads": 12, "intermediate_size": 40},
    "deep": {"hidden_size": 32, "num_layers": 6, "num_heads": 4, "intermediate_size": 64},
    "published heads": {"hidden_size": 128, "num_layers": 2, "num_heads": 2, "intermediate_size": 256},
    "other constants": {
        "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64,
        "layer_norm_eps": 1e-5, "rotary_base": 10000.0, "type_vocab_size": 1,
    },
}  # fmt: skip


def _pooled(model: NomicBert, texts: list[torch.Tensor]) -> NDArray[np.float32]:
    """Pool texts packed into one forward."""
    lengths = [len(text) for text in texts]
    with torch.inference_mode():
        return mean_pool(model(torch.cat(texts), lengths), lengths).numpy()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_packed_batch_is_the_padded_batch_of_transformers(shape: dict) -> None:
    pair = Pair.make(vocab_size=101, **shape)
    texts = pair.texts([1, 2, 3, 15, 16, 17, 31, 33, 64, 127, 1])
    np.testing.assert_allclose(_pooled(pair.ours, texts), pair.native_pooled(texts), atol=PARITY, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 255, 512, 1023, 2047, 2048])
def test_every_length_is_that_of_transformers(small_pair: Pair, length: int) -> None:
    texts = small_pair.texts([length])
    np.testing.assert_allclose(_pooled(small_pair.ours, texts), small_pair.native_pooled(texts), atol=PARITY, rtol=0)


def test_a_mixed_batch_up_to_2048_tokens_is_that_of_transformers(small_pair: Pair) -> None:
    texts = small_pair.texts([2048, 5, 300, 1, 1500])
    np.testing.assert_allclose(_pooled(small_pair.ours, texts), small_pair.native_pooled(texts), atol=PARITY, rtol=0)


def test_token_embeddings_are_those_of_the_formulas(small_pair: Pair) -> None:
    (ids,) = small_pair.texts([40])
    with torch.inference_mode():
        tokens = small_pair.ours(ids, [40]).numpy()
    expected = encode(small_pair.weights(), small_pair.config, ids.numpy())
    np.testing.assert_allclose(tokens, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [2049, 4096, 8192])
@pytest.mark.parametrize("factor", [None, 2.0])
def test_long_texts_are_those_of_the_formulas(small_pair: Pair, length: int, factor: float | None) -> None:
    config = replace(small_pair.config, rotary_scaling_factor=factor, num_layers=1)
    model = NomicBert(config).eval()
    model.load_state_dict(small_pair.ours.state_dict(), strict=False)
    texts = small_pair.texts([length])
    expected = pool(small_pair.weights(), config, texts[0].numpy())
    np.testing.assert_allclose(_pooled(model, texts)[0], expected, atol=PARITY, rtol=0)


def test_scaling_changes_long_texts_and_leaves_trained_lengths_alone(small_pair: Pair) -> None:
    scaled = NomicBert(replace(small_pair.config, rotary_scaling_factor=2.0)).eval()
    scaled.load_state_dict(small_pair.ours.state_dict())
    short, long = small_pair.texts([2048]), small_pair.texts([3000])
    np.testing.assert_array_equal(_pooled(scaled, short), _pooled(small_pair.ours, short))
    assert np.abs(_pooled(scaled, long) - _pooled(small_pair.ours, long)).max() > 1e-3


def test_dynamic_scaling_is_that_of_a_fresh_transformers_model() -> None:
    pair = Pair.make(
        vocab_size=97, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64,
        max_trained_positions=64, rotary_scaling_factor=2.0,
    )  # fmt: skip
    # The native model remembers the longest text it saw, so it gets this one first and alone.
    texts = pair.texts([200])
    np.testing.assert_allclose(_pooled(pair.ours, texts), pair.native_pooled(texts), atol=PARITY, rtol=0)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12), data=st.data())
def test_a_vector_depends_on_its_text_alone(small_pair: Pair, lengths: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(lengths))))
    texts = small_pair.texts(lengths)
    alone = np.concatenate([_pooled(small_pair.ours, [text]) for text in texts])
    together = _pooled(small_pair.ours, [texts[index] for index in order])
    np.testing.assert_allclose(together, alone[list(order)], atol=1e-5, rtol=0)


def test_a_scaled_model_remembers_nothing_of_a_long_text(small_pair: Pair) -> None:
    model = NomicBert(replace(small_pair.config, rotary_scaling_factor=2.0)).eval()
    model.load_state_dict(small_pair.ours.state_dict())
    texts = small_pair.texts([16, 3000])
    before = _pooled(model, texts)
    (long,) = small_pair.texts([8192], seed=2)
    _pooled(model, [long])
    np.testing.assert_array_equal(_pooled(model, texts), before)
    np.testing.assert_allclose(_pooled(model, [texts[0], long, texts[1]])[[0, 2]], before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_pools_in_float32(small_pair: Pair, dtype: torch.dtype) -> None:
    model = NomicBert(small_pair.config).eval()
    model.load_state_dict(small_pair.ours.state_dict())
    texts = small_pair.texts([5, 30])
    pooled = _pooled(model.to(dtype), texts)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, _pooled(small_pair.ours, texts), atol=0.1)


@pytest.mark.parametrize("positions", [None, [0, 3, 9, 21]])
def test_masked_lm_scores_are_those_of_transformers(masked_lm_pair: tuple, positions: list[int] | None) -> None:
    ours, native = masked_lm_pair
    ids = torch.randint(0, 90, (22,), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = ours(ids, [12, 10], None if positions is None else torch.tensor(positions))
        expected = torch.cat([native(input_ids=part[None]).logits[0] for part in ids.split([12, 10])])
    if positions is not None:
        expected = expected[positions]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=PARITY, rtol=0)


def test_the_masked_lm_decoder_is_the_word_table(masked_lm_pair: tuple) -> None:
    ours, _ = masked_lm_pair
    assert ours.cls.predictions.decoder.weight is ours.bert.embeddings.word_embeddings.weight


def test_gradients_reach_every_parameter() -> None:
    pair = Pair.make(vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24)
    texts = pair.texts([3, 7])
    lengths = [3, 7]
    mean_pool(pair.ours(torch.cat(texts), lengths), lengths).square().sum().backward()
    still = [name for name, p in pair.ours.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def _gradients(model: NomicBert, lengths: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return pooled vectors and the gradient of a fixed weighing of them."""
    torch.manual_seed(3)
    ids = torch.randint(5, model.config.vocab_size, (sum(lengths),))
    weights = torch.randn(len(lengths), model.config.hidden_size)
    model.zero_grad()
    model.train()
    pooled = mean_pool(model(ids, lengths), lengths)
    model.eval()
    (pooled * weights).sum().backward()
    return pooled.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", ["fused kernel", "padded groups"])
def test_every_way_through_attention_has_the_same_gradient(
    small_pair: Pair, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [7, 3, 7, 12, 1, 5, 12, 30]
    pooled, grads = _gradients(small_pair.ours, lengths)
    if way == "fused kernel":
        monkeypatch.setattr(layers, "_WRITTEN_OUT", 0)
    else:
        monkeypatch.setattr(layers, "_GROUP_STEP", {"cpu": 16, "": 16})
    other_pooled, other = _gradients(small_pair.ours, lengths)
    torch.testing.assert_close(other_pooled, pooled, rtol=0, atol=2e-6)
    assert other.keys() == grads.keys()
    for name, grad in grads.items():
        assert (other[name] - grad).norm() <= 2e-5 * max(float(grad.norm()), 1e-6), name


def test_the_gradient_is_that_of_transformers(small_pair: Pair) -> None:
    lengths = [6, 2, 9, 6]
    _, grads = _gradients(small_pair.ours, lengths)
    torch.manual_seed(3)
    ids = torch.randint(5, small_pair.ours.config.vocab_size, (sum(lengths),))
    weights = torch.randn(len(lengths), small_pair.ours.config.hidden_size)
    native = small_pair.native
    native.zero_grad()
    for text, weight in zip(ids.split(lengths), weights, strict=True):
        (native(input_ids=text[None]).last_hidden_state[0].mean(0) * weight).sum().backward()
    wanted = native.get_input_embeddings().weight.grad
    grad = grads["embeddings.word_embeddings.weight"]
    assert (grad - wanted).norm() <= 1e-4 * wanted.norm()


def test_mean_pool_sums_halves_in_float32() -> None:
    tokens = torch.full((3000, 4), 30.0, dtype=torch.float16)
    pooled = mean_pool(tokens, [2999, 1])
    assert pooled.dtype == torch.float32
    np.testing.assert_allclose(pooled.numpy(), 30.0)
