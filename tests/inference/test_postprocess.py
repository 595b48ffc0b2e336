from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnomonic.inference.postprocess import finish, unit_mean

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
POOLED = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(2, 16)), elements=FLOATS)


def _random(rows: int = 6, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 2.0, (rows, width)).astype(np.float32)


@given(pooled=POOLED, layer_norm=st.booleans(), data=st.data())
def test_rows_have_unit_length_or_are_zero(pooled: np.ndarray, layer_norm: bool, data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, pooled.shape[1]))
    norms = np.linalg.norm(finish(pooled, layer_norm=layer_norm, dim=dim), axis=1)
    assert all(norm == 0 or abs(norm - 1) < 1e-6 for norm in norms)


@pytest.mark.parametrize("dim", [1, 16, 47, 48])
def test_v1_is_truncation_and_unit_length(dim: int) -> None:
    pooled = _random()
    expected = pooled[:, :dim] / np.linalg.norm(pooled[:, :dim], axis=1, keepdims=True)
    np.testing.assert_allclose(finish(pooled, layer_norm=False, dim=dim), expected, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 16, 47, 48])
def test_v15_matches_torch(dim: int) -> None:
    torch = pytest.importorskip("torch")
    pooled = _random()
    normed = torch.nn.functional.layer_norm(torch.from_numpy(pooled), (48,))
    expected = torch.nn.functional.normalize(normed[:, :dim], dim=1).numpy()
    np.testing.assert_allclose(finish(pooled, layer_norm=True, dim=dim), expected, atol=1e-6)


def test_layer_norm_uses_the_full_width_before_truncation() -> None:
    pooled = _random()
    whole, cut = finish(pooled, layer_norm=True, dim=48), finish(pooled, layer_norm=True, dim=8)
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)
    assert np.abs(cut - finish(pooled[:, :8], layer_norm=True, dim=8)).max() > 1e-2


def test_the_epsilon_counts_for_rows_of_little_variance() -> None:
    pooled = np.array([[1.0, 1.0 + 1e-3, 1.0 - 1e-3, 1.0]])
    centred = pooled - pooled.mean()
    normed = centred / np.sqrt((centred**2).mean() + 1e-5)
    np.testing.assert_allclose(finish(pooled, layer_norm=True, dim=4), normed / np.linalg.norm(normed), atol=1e-6)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_zero_rows_stay_zero(layer_norm: bool) -> None:
    pooled = np.zeros((2, 8), dtype=np.float32)
    assert not finish(pooled, layer_norm=layer_norm, dim=4).any()


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e37])
def test_extreme_rows_keep_their_direction(scale: float) -> None:
    pooled = _random()
    found = finish((pooled.astype(np.float64) * scale).astype(np.float32), layer_norm=False, dim=48)
    np.testing.assert_allclose(found, finish(pooled, layer_norm=False, dim=48), atol=2e-6)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    pooled = _random(rows=64)
    together = finish(pooled, layer_norm=True, dim=16)
    alone = np.concatenate([finish(row[None], layer_norm=True, dim=16) for row in pooled])
    assert together.tobytes() == alone.tobytes()


def test_the_input_is_left_alone_and_the_result_is_float32() -> None:
    pooled = _random()
    before = pooled.copy()
    found = finish(pooled, layer_norm=True, dim=8)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(pooled, before)


def test_no_rows_give_no_rows() -> None:
    assert finish(np.zeros((0, 8), dtype=np.float32), layer_norm=True, dim=4).shape == (0, 4)


def test_unit_mean_is_the_direction_of_the_mean() -> None:
    vectors = finish(_random(), layer_norm=False, dim=48)
    mean = vectors.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(unit_mean(vectors), mean / np.linalg.norm(mean), atol=1e-6)
    assert unit_mean(vectors).dtype == np.float32


def test_unit_mean_of_opposites_is_zero() -> None:
    assert not unit_mean(np.array([[1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)).any()
