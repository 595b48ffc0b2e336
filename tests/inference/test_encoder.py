from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.checkpoints.huggingface import describe
from gnomonic.errors import EngineError, InputError
from gnomonic.inference import encoder as module
from gnomonic.inference.encoder import TextEncoder, check_dim, check_texts
from gnomonic.inference.engines.base import BatchBudget
from gnomonic.inference.tokenizer import Tokenizer
from gnomonic.types import TaskType
from tests.fakes import FakeEngine

FOX = "The quick brown fox jumps over the lazy dog."
NOMIC = "nomic-embed-text-v1.5"


@pytest.fixture
def make_encoder(tiny_checkpoint: Path) -> Callable[..., TextEncoder]:
    def make(engine: FakeEngine | None = None, **spec: Any) -> TextEncoder:
        described = replace(describe(tiny_checkpoint), **spec)
        return TextEncoder(described, Tokenizer.open(tiny_checkpoint), engine or FakeEngine())

    return make


@pytest.fixture(scope="module")
def shared(tiny_checkpoint: Path) -> TextEncoder:
    return TextEncoder(describe(tiny_checkpoint), Tokenizer.open(tiny_checkpoint), FakeEngine())


@pytest.fixture(scope="module")
def expected(shared: TextEncoder) -> dict[str, bytes]:
    return {text: shared.encode([text]).vectors[0].tobytes() for text in _texts(40)}


def _texts(n: int) -> list[str]:
    lengths = np.random.default_rng(n).integers(0, 60, n)
    return [f"{'fox river ' * length}{i}" for i, length in enumerate(lengths)]


def test_vectors_have_unit_length_and_usage_counts_the_body(fake_encoder: TextEncoder) -> None:
    found = fake_encoder.encode([FOX, "", "a dog"])
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert found.vectors.shape == (3, 32)
    assert found.vectors.dtype == np.float32
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (12, 12)
    assert (found.model, found.truncated) == ("tiny-text", ())


def test_no_texts_give_no_vectors_and_run_nothing(fake_encoder: TextEncoder, fake_engine: FakeEngine) -> None:
    found = fake_encoder.encode([], dim=16)
    assert found.vectors.shape == (0, 16)
    assert found.usage.total_tokens == 0
    assert fake_engine.batches == []


@settings(max_examples=25, deadline=None)
@given(data=st.data(), max_tokens=st.integers(16, 2000))
def test_any_order_and_any_batch_give_the_same_bits(
    shared: TextEncoder, expected: dict[str, bytes], data: st.DataObject, max_tokens: int
) -> None:
    order = data.draw(st.permutations(list(expected)))
    engine = FakeEngine(budget=BatchBudget(max_tokens=max_tokens))
    found = TextEncoder(shared.spec, shared.tokenizer, engine).encode(order)
    assert [row.tobytes() for row in found.vectors] == [expected[text] for text in order]


def test_blocks_do_not_change_the_result(
    make_encoder: Callable[..., TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*_texts(30), "dog " * 200, *_texts(7)]
    options: dict[str, Any] = {"long_text_mode": "mean", "max_tokens_per_text": 64}
    whole = make_encoder().encode(texts, **options)
    monkeypatch.setattr(module, "_BLOCK_TEXTS", 4)
    blocks = make_encoder().encode(texts, **options)
    assert blocks.vectors.tobytes() == whole.vectors.tobytes()
    assert blocks.usage == whole.usage


def test_truncated_texts_are_reported_across_blocks(
    make_encoder: Callable[..., TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_TEXTS", 2)
    texts = ["a", "fox " * 50, "b", "c", "dog " * 50]
    found = make_encoder().encode(texts, max_tokens_per_text=32)
    assert found.truncated == (1, 4)


def test_the_models_own_limit_applies(make_encoder: Callable[..., TextEncoder]) -> None:
    engine = FakeEngine()
    found = make_encoder(engine, max_tokens=64).encode(["fox " * 500, "a"], max_tokens_per_text=8192)
    assert found.truncated == (0,)
    assert max(width for _, width in engine.batches) == 64


@pytest.mark.parametrize("layer_norm", [False, True])
def test_mean_mode_is_the_unit_mean_of_the_finished_chunks(
    make_encoder: Callable[..., TextEncoder], layer_norm: bool
) -> None:
    encoder = make_encoder(layer_norm=layer_norm)
    words = [f"{word} " for word in np.random.default_rng(3).choice(["fox", "dog", "river", "stone"], 60)]
    room = 40 - 6  # "search", "_", "query", ":" and the special tokens
    starts = range(0, 60 - 8, room - 8)
    chunks = ["".join(words[start : start + room]) for start in starts]
    parts = encoder.encode(chunks, task_type="search_query", dim=16).vectors
    mean = parts.astype(np.float64).mean(axis=0)
    found = encoder.encode(
        ["a", "".join(words), "b"],
        task_type="search_query",
        dim=16,
        long_text_mode="mean",
        max_tokens_per_text=40,
    )
    np.testing.assert_allclose(found.vectors[1], mean / np.linalg.norm(mean), atol=1e-6)
    assert found.usage.prompt_tokens == 2 + 60 + 8 * (len(chunks) - 1)
    assert found.truncated == ()


def test_mean_mode_leaves_texts_that_fit_as_they_are(fake_encoder: TextEncoder) -> None:
    texts = [FOX, "fox " * 100]
    plain = fake_encoder.encode(texts).vectors[0]
    mean = fake_encoder.encode(texts, long_text_mode="mean", max_tokens_per_text=40).vectors[0]
    assert plain.tobytes() == mean.tobytes()


def test_error_mode_embeds_nothing(fake_encoder: TextEncoder, fake_engine: FakeEngine) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] has"):
        fake_encoder.encode(["a", "fox " * 100], long_text_mode="error", max_tokens_per_text=40)
    assert fake_engine.batches == []


def test_smaller_sizes_are_the_beginning_of_larger_ones(fake_encoder: TextEncoder) -> None:
    whole = fake_encoder.encode([FOX]).vectors[0]
    cut = fake_encoder.encode([FOX], dim=8).vectors[0]
    np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)


@pytest.mark.parametrize("task", list(TaskType))
def test_the_task_selects_the_prefix(make_encoder: Callable[..., TextEncoder], task: TaskType) -> None:
    bare = make_encoder(prefixes={})
    expected = bare.encode([f"{task}: {FOX}"]).vectors
    assert make_encoder().encode([FOX], task_type=task.value).vectors.tobytes() == expected.tobytes()


def test_a_task_without_prefix_is_refused(make_encoder: Callable[..., TextEncoder]) -> None:
    encoder = make_encoder(prefixes={"search_query": "q: ", "search_document": ""})
    assert len(encoder.encode(["a"], task_type="search_document")) == 1
    with pytest.raises(InputError, match="'clustering' has no prefix in tiny-text; choose one of search_query"):
        encoder.encode(["a"], task_type="clustering")


def test_progress_counts_finished_texts_up_to_all(make_encoder: Callable[..., TextEncoder]) -> None:
    seen: list[int] = []
    encoder = make_encoder(FakeEngine(budget=BatchBudget(max_tokens=64)))
    texts = [*_texts(20), "dog " * 200]
    encoder.encode(texts, long_text_mode="mean", max_tokens_per_text=50, on_progress=seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == 21
    assert len(seen) > 3


def test_timings_grow(fake_encoder: TextEncoder) -> None:
    fake_encoder.encode([FOX])
    timings = fake_encoder.timings
    assert timings.tokenize_s > 0
    assert timings.engine_s > 0
    assert timings.finish_s > 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"texts is one str; pass a list of strings"),
        (b"bytes", r"texts is one bytes; pass a list"),
        (None, r"texts is a NoneType"),
        (5, r"texts is a int"),
        ({"a": 1}, r"texts is a dict"),
        ({"a"}, r"texts is a set"),
        (np.array("a"), r"texts is a ndarray"),
        (np.array([["a"]]), r"texts is a ndarray"),
        (["a", None], r"texts\[1\] is None; every text must be a str"),
        (["a", "b", b"c"], r"texts\[2\] is of type bytes; decode it first"),
        ([["a"]], r"texts\[0\] is of type list"),
        ([1], r"texts\[0\] is of type int"),
        ([float("nan")], r"texts\[0\] is of type float"),
        (["a", "ab\ud800c"], r"texts\[1\] holds the lone surrogate U\+D800 at position 2"),
        (["\udfff"], r"texts\[0\] holds the lone surrogate U\+DFFF at position 0"),
    ],
)
def test_what_is_not_a_list_of_texts_is_refused(
    fake_encoder: TextEncoder, fake_engine: FakeEngine, texts: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fake_encoder.encode(texts)
    assert fake_engine.batches == []
    assert len(fake_encoder.encode(["still healthy"])) == 1


@pytest.mark.parametrize(
    "texts", [["a"], ("a",), np.array(["a"]), np.array(["a"], dtype=object), iter(["a"]), {"a": 0}.keys()]
)
def test_any_other_iterable_of_strings_is_taken(texts: Any) -> None:
    if isinstance(texts, type({}.keys())):
        texts = list(texts)
    assert check_texts(texts) == ["a"]


@pytest.mark.parametrize(
    "text", ["\0", "nul\0inside", " ", "\t\n", "\u200d", "\u0301", "a" * 1_000_000, "\ufffd", "\U0010ffff"]
)
def test_odd_texts_embed(fake_encoder: TextEncoder, text: str) -> None:
    found = fake_encoder.encode([text, FOX])
    assert np.isfinite(found.vectors).all()
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


def test_control_characters_are_dropped_as_bert_does(fake_encoder: TextEncoder) -> None:
    found = fake_encoder.encode(["fox\0", "fox"]).vectors
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize(
    ("dim", "message"),
    [
        (769, f"dimensionality 769 is larger than the model's 768; choose 1–768 ({NOMIC})"),
        (1024, f"dimensionality 1024 is larger than the model's 768; choose 1–768 ({NOMIC})"),
        (0, f"dimensionality 0 is smaller than 1; choose 1–768 ({NOMIC})"),
        (-1, f"dimensionality -1 is smaller than 1; choose 1–768 ({NOMIC})"),
        ("64", f"dimensionality '64' is not a whole number; choose 1–768 ({NOMIC})"),
        (np.array([64, 65]), f"dimensionality array([64, 65]) is not a whole number; choose 1–768 ({NOMIC})"),
        (64.0, f"dimensionality 64.0 is not a whole number; choose 1–768 ({NOMIC})"),
        (True, f"dimensionality True is not a whole number; choose 1–768 ({NOMIC})"),
        (np.True_, "is not a whole number; choose 1–768"),
        ([64], f"dimensionality [64] is not a whole number; choose 1–768 ({NOMIC})"),
    ],
)
def test_unusable_sizes_are_refused(make_encoder: Callable[..., TextEncoder], dim: Any, message: str) -> None:
    spec = make_encoder(name=NOMIC, hidden_size=768, dims=(768, 512, 256, 128, 64)).spec
    with pytest.raises(InputError) as caught:
        check_dim(dim, spec)
    assert message in str(caught.value)


def test_sizes_below_the_trained_ones_warn(make_encoder: Callable[..., TextEncoder]) -> None:
    spec = make_encoder(name=NOMIC, hidden_size=768, dims=(768, 512, 256, 128, 64)).spec
    with pytest.warns(UserWarning, match=r"dimensionality 63 is below 64, the smallest size nomic-embed-text-v1\.5"):
        assert check_dim(63, spec) == 63


def test_the_warning_points_at_the_caller(fake_encoder: TextEncoder) -> None:
    with pytest.warns(UserWarning, match="dimensionality 7 is below 8") as caught:
        fake_encoder.encode(["a"], dim=7)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("dim", [None, 8, 20, 32, np.int64(16), np.uint8(16)])
def test_sizes_in_range_do_not_warn(fake_encoder: TextEncoder, dim: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fake_encoder.encode(["a"], dim=dim).vectors.shape == (1, 32 if dim is None else int(dim))


@pytest.mark.parametrize("limit", [0, -1, True, "8192", 10.0, None])
def test_unusable_limits_are_refused(fake_encoder: TextEncoder, limit: Any) -> None:
    with pytest.raises(InputError, match=r"max_tokens_per_text .* it must be a whole number of tokens, 1 or more"):
        fake_encoder.encode(["a"], max_tokens_per_text=limit)


@pytest.mark.parametrize("value", ["", "query", "SEARCH_QUERY", None, 1, []])
def test_unknown_tasks_and_modes_are_refused(fake_encoder: TextEncoder, value: Any) -> None:
    with pytest.raises(InputError, match=r"task_type .* is unknown; choose one of search_query"):
        fake_encoder.encode(["a"], task_type=value)
    with pytest.raises(InputError, match=r"long_text_mode .* is unknown; choose one of truncate, mean, error"):
        fake_encoder.encode(["a"], long_text_mode=value)


def test_an_engine_failure_names_the_texts(make_encoder: Callable[..., TextEncoder]) -> None:
    bad = Tokenizer.token_ids(make_encoder().tokenizer, ["中"])[0][0]
    encoder = make_encoder(FakeEngine(fails_on_id=int(bad)))
    with pytest.raises(EngineError, match=r"tiny-text failed on 1 × \d+ tokens \(texts\[1\]\): the fake engine"):
        encoder.encode(["a", "中" * 300])
    assert len(encoder.encode(["a"])) == 1


def test_vectors_that_are_not_finite_are_an_error(make_encoder: Callable[..., TextEncoder]) -> None:
    engine = FakeEngine()
    encoder = make_encoder(engine)
    engine._table[encoder.tokenizer.token_ids(["fox"])[0]] = np.nan
    with pytest.raises(EngineError, match=r"not finite for texts\[1\], texts\[3\];"):
        encoder.encode(["a", "fox", "dog", "fox"])


def test_a_closed_encoder_says_so(make_encoder: Callable[..., TextEncoder]) -> None:
    engine = FakeEngine()
    with make_encoder(engine) as encoder:
        encoder.encode(["a"])
    assert engine.closed
    encoder.close()
    with pytest.raises(EngineError, match="is closed; load the model again"):
        encoder.encode(["a"])


def test_the_engine_is_called_by_one_thread_at_a_time(make_encoder: Callable[..., TextEncoder]) -> None:
    engine = FakeEngine(budget=BatchBudget(max_tokens=128))
    run, inside, overlaps = engine.run, threading.Semaphore(1), []

    def watched(feeds: Any) -> np.ndarray:
        if not inside.acquire(blocking=False):
            overlaps.append(1)
            return run(feeds)
        try:
            return run(feeds)
        finally:
            inside.release()

    engine.run = watched  # type: ignore[method-assign]
    encoder = make_encoder(engine)
    expected = encoder.encode(_texts(50)).vectors.tobytes()
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(encoder.encode(_texts(50)).vectors.tobytes())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 6
    assert overlaps == []
