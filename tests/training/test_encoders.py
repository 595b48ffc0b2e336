"""Where a run starts, what its texts become, and what it leaves behind."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

import gnomonic  # noqa: E402
from gnomonic.catalog import DEFAULT_TEXT_MODEL  # noqa: E402
from gnomonic.checkpoints.huggingface import load_text  # noqa: E402
from gnomonic.errors import CheckpointError, ConfigError, InputError, UnknownModelError  # noqa: E402
from gnomonic.inference.tokenizer import Tokenizer  # noqa: E402
from gnomonic.training.config import ModelConfig  # noqa: E402
from gnomonic.training.encoders import (  # noqa: E402
    build_masked_lm,
    build_model,
    compile_blocks,
    matryoshka_dims,
    pack,
    save_model,
    split_by_length,
    tokenise,
)

_TEXTS = ["the quick brown fox", "cat and mouse in a house by the river", "train"]


def _equal(model: Any, weights: dict[str, Any], names: list[str]) -> bool:
    state = model.state_dict()
    return all(torch.equal(state[name], weights[name]) for name in names)


# -- tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [6, 12])
def test_training_sees_the_tokens_of_inference(tiny_checkpoint: Path, limit: int) -> None:
    tokenizer = Tokenizer.open(tiny_checkpoint)
    texts = [*_TEXTS, "", " " * 500 + "the cat", "fox " * 300, "x" * 400, "mouse" + " " * 300 + "river " * 40]
    sequences, cut = tokenise(tokenizer, texts, limit)
    expected = tokenizer.encode(texts, max_tokens=limit)
    assert [ids.tolist() for ids in sequences] == [ids.tolist() for ids in expected.sequences]
    assert np.flatnonzero(cut).tolist() == expected.truncated
    assert 3 < len(expected.truncated) + 2 < len(texts) + 2


def test_a_limit_without_room_for_text_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="leaves no room"):
        tokenise(Tokenizer.open(tiny_checkpoint), ["a"], 2)


def test_packing_lays_sequences_end_to_end() -> None:
    packed = pack([np.array([1, 2, 3], np.int32), np.array([4], np.int32)])
    assert packed.input_ids.tolist() == [1, 2, 3, 4]
    assert packed.input_ids.dtype == torch.int64
    assert packed.lengths == [3, 1]


def test_chunks_hold_similar_lengths_within_the_limit() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 100).tolist()
    chunks = split_by_length(lengths, 64)
    order = np.concatenate(chunks)
    assert sorted(order.tolist()) == list(range(100))
    assert [lengths[i] for i in order] == sorted(lengths)
    assert all(sum(lengths[i] for i in chunk) <= 64 for chunk in chunks)
    # None could have taken the next text as well.
    pairs = pairwise(chunks)
    assert all(sum(lengths[i] for i in chunk) + lengths[after[0]] > 64 for chunk, after in pairs)


def test_a_text_longer_than_a_chunk_is_one_of_its_own() -> None:
    assert [chunk.tolist() for chunk in split_by_length([9, 2, 8, 1], 4)] == [[3, 1], [2], [0]]
    assert [chunk.tolist() for chunk in split_by_length([9, 2], 0)] == [[1, 0]]
    assert split_by_length([], 4) == split_by_length([], 0) == []


# -- starts -----------------------------------------------------------------------------------------------------


def test_a_fresh_model_has_the_shape_of_the_recipe(tiny_checkpoint: Path) -> None:
    config = ModelConfig(tokenizer=".", hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24)
    torch.manual_seed(3)
    first = build_model(config, tiny_checkpoint)
    torch.manual_seed(3)
    second = build_model(config, tiny_checkpoint)
    shape = first.model.config
    assert (shape.hidden_size, shape.num_layers, shape.max_positions) == (16, 1, 2048)
    assert shape.vocab_size % 64 == 0
    assert shape.vocab_size >= first.tokenizer.vocab_size
    state = second.model.state_dict()
    assert _equal(first.model, state, list(state))
    assert first.model.training


def test_a_model_folder_brings_weights_tokenizer_and_prefixes(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint(prefixes={"search_query": "ask: "}, max_tokens=512)
    encoder = build_model(ModelConfig(init=str(folder)), tmp_path)
    state = load_text(folder).state_dict()
    assert _equal(encoder.model, state, list(state))
    assert encoder.tokenizer_folder == folder
    assert (encoder.spec.prefixes, encoder.spec.max_tokens) == ({"search_query": "ask: "}, 512)
    assert matryoshka_dims((), encoder) == (32, 16, 8)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in encoder.model.parameters())


def test_the_bundled_model_starts_a_run_by_its_name(tmp_path: Path) -> None:
    encoder = build_model(ModelConfig(init=DEFAULT_TEXT_MODEL), tmp_path)
    assert encoder.model.config.hidden_size == 384
    assert matryoshka_dims((), encoder) == (384, 256, 128, 64)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_start_may_lose_or_gain_layers(tiny_checkpoint: Path, layers: int) -> None:
    encoder = build_model(ModelConfig(init=".", num_layers=layers), tiny_checkpoint)
    state = load_text(tiny_checkpoint).state_dict()
    kept = [name for name in encoder.model.state_dict() if name in state]
    assert len(encoder.model.encoder.layers) == layers
    assert _equal(encoder.model, state, kept)


def test_an_earlier_run_gives_its_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 24}
    start = build_model(ModelConfig(tokenizer=str(tiny_checkpoint), **shape), tmp_path).model.state_dict()
    save_file({f"model.{name}": value + 1 for name, value in start.items()}, tmp_path / "state.safetensors")
    shape["num_layers"] = 2
    model = build_model(ModelConfig(init=".", tokenizer=str(tiny_checkpoint), **shape), tmp_path).model
    assert _equal(model, {name: value + 1 for name, value in start.items()}, list(start))


def test_a_head_is_taken_over_from_a_run_and_left_out_of_an_encoder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 24}
    config = ModelConfig(tokenizer=str(tiny_checkpoint), **shape)
    trained = build_masked_lm(config, tmp_path).model
    weights = {f"model.{name}": parameter.detach() + 1 for name, parameter in trained.named_parameters()}
    save_file(weights, tmp_path / "state.safetensors")
    again = build_masked_lm(ModelConfig(init=".", tokenizer=str(tiny_checkpoint), **shape), tmp_path).model
    assert all(torch.equal(value, weights[f"model.{name}"]) for name, value in again.named_parameters())
    assert again.cls.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight
    encoder = build_model(ModelConfig(init=".", tokenizer=str(tiny_checkpoint), **shape), tmp_path).model
    assert all(torch.equal(value, weights[f"model.bert.{name}"]) for name, value in encoder.named_parameters())


def test_a_head_starts_fresh_over_an_encoder_without_one(tiny_checkpoint: Path) -> None:
    start = build_masked_lm(ModelConfig(init="."), tiny_checkpoint)
    state = load_text(tiny_checkpoint).state_dict()
    assert _equal(start.encoder.model, state, list(state))
    assert start.model.bert is start.encoder.model


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (ModelConfig(), ConfigError, "model.tokenizer: this setting must be given"),
        (ModelConfig(init="no-such-model"), UnknownModelError, "no-such-model"),
        (ModelConfig(init="empty"), CheckpointError, "train that stage first"),
        (ModelConfig(init=DEFAULT_TEXT_MODEL, hidden_size=16), ConfigError, "model.hidden_size: 16 is not the 384"),
        (ModelConfig(tokenizer="empty"), CheckpointError, "has no tokenizer"),
        (ModelConfig(init="run", tokenizer="tok", hidden_size=8, num_heads=2), CheckpointError, "of another shape"),
        (ModelConfig(init="broken", tokenizer="tok"), CheckpointError, "cannot be read"),
    ],
)
def test_a_wrong_start_is_named(
    tiny_checkpoint: Path, tmp_path: Path, config: ModelConfig, error: type[Exception], said: str
) -> None:
    (tmp_path / "tok").symlink_to(tiny_checkpoint)
    for name in ("empty", "run", "broken"):
        (tmp_path / name).mkdir()
    save_file({"model.emb_ln.weight": torch.ones(16)}, tmp_path / "run" / "state.safetensors")
    (tmp_path / "broken" / "state.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(error, match=said):
        build_model(config, tmp_path)


def test_the_usual_sizes_are_those_that_fit(tiny_checkpoint: Path) -> None:
    fresh = build_model(ModelConfig(tokenizer=".", hidden_size=160, num_layers=0, num_heads=2), tiny_checkpoint)
    assert matryoshka_dims((), fresh) == (160, 128, 64)
    assert matryoshka_dims((8, 160, 8), fresh) == (160, 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch about itself
def test_compiled_blocks_give_the_same_gradient(tiny_checkpoint: Path) -> None:
    plain, compiled = (build_model(ModelConfig(init="."), tiny_checkpoint).model for _ in range(2))
    compile_blocks(compiled, backend="aot_eager")
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for lengths in ([5, 7], [9], [3, 3, 3, 8]):
        ids = torch.arange(sum(lengths)) + 5
        for model in (plain, compiled):
            model.zero_grad()
            model(ids, lengths).square().sum().backward()
        grads = zip(plain.parameters(), compiled.parameters(), strict=True)
        assert all(torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5) for one, other in grads)


# -- the finished folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-3), ("bf16", 2e-2)])
def test_the_saved_folder_opens_everywhere_and_agrees(
    tiny_checkpoint: Path, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = build_model(ModelConfig(init=str(tiny_checkpoint), max_positions=64), tmp_path)
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.mul_(1.01)
    save_model(encoder, tmp_path / "out", dims=(32, 8), dtype=dtype)
    with gnomonic.load(tmp_path / "out", threads=1) as ours:
        assert (ours.spec.dims, ours.spec.max_tokens, ours.spec.layer_norm) == ((32, 8), 64, True)
        vectors = ours.encode(_TEXTS, task_type="search_query").vectors
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(peer.encode(_TEXTS, prompt_name="search_query"), vectors, atol=1e-5)
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    ids, _ = tokenise(encoder.tokenizer, ["search_query: " + text for text in _TEXTS], 64)
    with torch.no_grad():
        pooled = [model(torch.from_numpy(row.astype(np.int64))[None]).last_hidden_state[0].mean(0) for row in ids]
        trained = [encoder.model(*_packed(row)).mean(0) for row in ids]
    theirs, before = (torch.nn.functional.layer_norm(torch.stack(x), (32,)).numpy() for x in (pooled, trained))
    for raw, allowed in ((theirs, 1e-5), (before, tolerance)):
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, vectors, atol=allowed)


def _packed(row: Any) -> tuple[Any, list[int]]:
    packed = pack([row])
    return packed.input_ids, packed.lengths
