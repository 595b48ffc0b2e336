"""The bundled model, which is trained, on real text: every way of running it gives the same vectors."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import gnomonic
from gnomonic.catalog import DEFAULT_TEXT_MODEL
from tests.reference import centred_cosine

FOLDER = Path(gnomonic.__file__).parent / "assets" / DEFAULT_TEXT_MODEL
TEXTS = [
    value.__doc__
    for module in (shutil, textwrap)
    for value in vars(module).values()
    if callable(value) and value.__doc__
]


def _vectors(**options: str) -> NDArray[np.float32]:
    with gnomonic.load(DEFAULT_TEXT_MODEL, threads=1, **options) as encoder:
        return encoder.encode(TEXTS, task_type="clustering").vectors


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNOMONIC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return _vectors()


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.99), ("bf16", 0.998)])
def test_narrow_precision_agrees_with_fp32(exact: NDArray[np.float32], precision: str, least: float) -> None:
    if precision == "bf16":
        pytest.importorskip("torch")
    assert centred_cosine(_vectors(precision=precision), exact).min() >= least


def test_torch_gives_the_vectors_of_the_cpu_engine(exact: NDArray[np.float32]) -> None:
    pytest.importorskip("torch")
    np.testing.assert_allclose(_vectors(device="torch-cpu"), exact, atol=1e-5)


def test_sentence_transformers_gives_our_vectors(exact: NDArray[np.float32]) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(FOLDER), device="cpu")
    theirs = model.encode(TEXTS, prompt_name="clustering", show_progress_bar=False)
    np.testing.assert_allclose(theirs, exact, atol=1e-5)
