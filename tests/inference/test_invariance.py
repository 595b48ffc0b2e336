"""A vector depends on its text alone: real engines, small random models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.inference.encoder import TextEncoder
from gnomonic.inference.load import load
from gnomonic.models.config import NomicBertConfig

TEXTS = [
    "",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "how is bread made",
    "river stone " * 20,
    "music of the night train " * 9,
    "中文字 and naïve words",
    "light " * 120,
]
LONG = "mountain river fire stone " * 2_100


@pytest.fixture(scope="module", params=["cpu", "torch-cpu"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "torch-cpu" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: Path, device: str) -> Iterator[TextEncoder]:
    with load(tiny_checkpoint, device=device, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(encoder: TextEncoder) -> dict[str, np.ndarray]:
    return {text: encoder.encode([text]).vectors[0] for text in TEXTS}


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a.astype(np.float64) * b.astype(np.float64), axis=-1)


def test_the_texts_are_told_apart(alone: dict[str, np.ndarray]) -> None:
    vectors = np.stack(list(alone.values())).astype(np.float64)
    similarity = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert similarity.max() < 0.999


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12))
def test_any_batch_in_any_order_gives_the_same_vectors(
    encoder: TextEncoder, alone: dict[str, np.ndarray], chosen: list[str]
) -> None:
    found = encoder.encode(chosen).vectors
    assert _cosines(found, np.stack([alone[text] for text in chosen])).min() >= 1 - 1e-6


def test_a_call_of_8192_tokens_changes_nothing(
    make_checkpoint: Callable[..., Path], tiny_config: NomicBertConfig, device: str
) -> None:
    scaled = make_checkpoint(replace(tiny_config, rotary_scaling_factor=2.0))
    with load(scaled, device=device, threads=1) as opened:
        before = opened.encode(TEXTS).vectors
        long_alone = opened.encode([LONG])
        after = opened.encode(TEXTS).vectors
        mixed = opened.encode([*TEXTS[:4], LONG, *TEXTS[4:]]).vectors
    assert long_alone.truncated == (0,)
    assert _cosines(before, after).min() >= 1 - 1e-6
    assert _cosines(before, np.delete(mixed, 4, axis=0)).min() >= 1 - 1e-6
    assert _cosines(long_alone.vectors[0], mixed[4]) >= 1 - 1e-6


@pytest.mark.parametrize("other", ["cpu", "torch-cpu"])
def test_another_encoder_of_the_same_model_gives_the_same_vectors(
    tiny_checkpoint: Path, alone: dict[str, np.ndarray], other: str
) -> None:
    if other == "torch-cpu" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    with load(tiny_checkpoint, device=other, threads=1) as opened:
        found = opened.encode(TEXTS).vectors
    assert _cosines(found, np.stack([alone[text] for text in TEXTS])).min() >= 1 - 1e-6
