"""A batch in chunks gives the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from gnomonic.models.config import NomicBertConfig  # noqa: E402
from gnomonic.models.nomic_bert import NomicBert  # noqa: E402
from gnomonic.models.pooling import mean_pool  # noqa: E402
from gnomonic.training import grad_cache  # noqa: E402
from gnomonic.training.losses import matryoshka_info_nce  # noqa: E402

QUERIES, NEGATIVES = 6, 2
TEXTS = QUERIES * (2 + NEGATIVES)

Text = Tensor


def _encoder(seed: int = 0) -> NomicBert:
    torch.manual_seed(seed)
    shape = NomicBertConfig(
        vocab_size=128, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48, max_positions=64,
        max_trained_positions=64,
    )  # fmt: skip
    return NomicBert(shape)


def _texts() -> list[Text]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, 9, (TEXTS,), generator=generator).tolist()
    return [torch.randint(0, 100, (length,), generator=generator) for length in lengths]


def _chunks(size: int) -> list[list[Text]]:
    texts = _texts()
    return [texts[i : i + size] for i in range(0, TEXTS, size)]


def _loss(pooled: Tensor) -> Tensor:
    # Two dims, negatives after the documents, one of them masked.
    ignore = torch.zeros(QUERIES, TEXTS - QUERIES, dtype=torch.bool)
    ignore[2, QUERIES + 4] = True
    queries, documents = pooled[:QUERIES], pooled[QUERIES:]
    return matryoshka_info_nce(queries, documents, temperature=0.05, dims=(32, 8), ignore=ignore)


def _encode(model: NomicBert) -> Callable[[list[Text]], Tensor]:
    def encode(chunk: list[Text]) -> Tensor:
        lengths = [len(text) for text in chunk]
        return mean_pool(model(torch.cat(chunk), lengths), lengths)

    return encode


def _gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("size", [1, 5, 8, TEXTS])
def test_chunks_give_the_gradient_of_the_whole_batch(size: int) -> None:
    model = _encoder()
    whole = _loss(_encode(model)(_texts()))
    whole.backward()
    expected = _gradient(model)
    model.zero_grad()
    value = grad_cache.backward(_encode(model), _chunks(size), _loss)
    assert value == pytest.approx(float(whole.detach()), rel=1e-6)
    found = _gradient(model)
    assert float((found - expected).norm() / expected.norm()) <= 1e-6


def test_the_gradient_is_added_to_what_is_there() -> None:
    model = _encoder()
    grad_cache.backward(_encode(model), _chunks(5), _loss)
    once = _gradient(model).clone()
    grad_cache.backward(_encode(model), _chunks(5), _loss)
    torch.testing.assert_close(_gradient(model), 2 * once)


def test_under_autocast_every_weight_gets_its_gradient() -> None:
    model = _encoder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _loss(_encode(model)(_texts())).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grad_cache.backward(_encode(model), _chunks(5), _loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float((parameter.grad - expected[name]).norm() / expected[name].norm()) < 0.1, name


def test_a_chunk_sees_the_same_random_numbers_twice() -> None:
    seen: dict[int, list[Tensor]] = {}
    weight = torch.ones(3, requires_grad=True)

    def encode(chunk: int) -> Tensor:
        drawn = torch.rand(2, 3)
        seen.setdefault(chunk, []).append(drawn)
        return weight * drawn

    torch.manual_seed(5)
    grad_cache.backward(encode, [0, 1, 2], lambda x: x.square().sum())
    after = torch.rand(1)
    assert [len(seen[chunk]) for chunk in range(3)] == [2, 2, 1]
    assert all(torch.equal(draws[0], draws[-1]) for draws in seen.values())
    torch.manual_seed(5)
    torch.testing.assert_close(weight.grad, 2 * torch.rand(6, 3).square().sum(0))
    assert torch.equal(after, torch.rand(1)), "the random numbers go on as after one pass"


def test_the_loss_is_asked_once() -> None:
    model, calls = _encoder(), []

    def loss(pooled: Tensor) -> Tensor:
        calls.append(len(pooled))
        return _loss(pooled)

    grad_cache.backward(_encode(model), _chunks(4), loss)
    assert calls == [TEXTS]
