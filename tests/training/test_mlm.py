"""The masked-language-model stage learns, from scratch and from any model, with one gradient however divided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gnomonic.checkpoints.huggingface import load_text  # noqa: E402
from gnomonic.errors import CheckpointError, ConfigError  # noqa: E402
from gnomonic.training import loop  # noqa: E402
from gnomonic.training.config import LoopConfig, ModelConfig  # noqa: E402
from gnomonic.training.distributed import World  # noqa: E402
from gnomonic.training.encoders import save_model  # noqa: E402
from gnomonic.training.mlm import MlmConfig, MlmStage  # noqa: E402

_SENTENCE = "the quick brown fox jumps over lazy dog cat mouse house river mountain bread train music"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Folder with texts.jsonl: sentences in which each word follows from the one before."""
    words = _SENTENCE.split()
    rows = [" ".join(words[(i + j) % len(words)] for j in range(4 + i % 9)) for i in range(200)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def _config(tokenizer: Path, **changes: Any) -> MlmConfig:
    fresh = ModelConfig(
        tokenizer=str(tokenizer), hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24, max_positions=64
    )
    settings = LoopConfig(max_steps=40, learning_rate=1e-2, autocast="fp32", log_every=10, workers=0)
    config = MlmConfig(loop=settings, model=fresh, data=("texts.jsonl",), batch_size=6, window_tokens=16)
    return replace(config, **changes)


def _gradient(stage: MlmStage) -> tuple[float, dict[str, Any]]:
    loss = stage.backward(stage.batch(0))
    return loss, {name: parameter.grad.clone() for name, parameter in stage.parameters()}


def _assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in one:
        assert float((one[name] - other[name]).norm()) <= 1e-5 * float(one[name].norm())


def test_the_loss_falls_and_the_encoder_is_a_model(texts: Path, tiny_checkpoint: Path) -> None:
    stage = MlmStage(_config(tiny_checkpoint), texts)
    seen: list[loop.Metrics] = []
    loop.run(stage, stage.loop, texts / "out", on_log=seen.append)
    assert seen[-1].loss < 0.8 * seen[0].loss
    save_model(stage.encoder, texts / "out" / "model", dims=stage.dims, dtype="fp32")
    saved = load_text(texts / "out" / "model").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in stage.model.bert.state_dict().items())


@pytest.mark.parametrize("across", [True, False])
def test_parts_give_the_gradient_of_the_whole_step(texts: Path, tiny_checkpoint: Path, across: bool) -> None:
    config = _config(tiny_checkpoint, chunk_tokens=0, across_documents=across)
    whole, parted = MlmStage(config, texts), MlmStage(replace(config, chunk_tokens=40), texts)
    assert [len(stage.batch(0).chunks) for stage in (whole, parted)] == [1, 3]
    (one, grads), (other, parts) = _gradient(whole), _gradient(parted)
    assert one == pytest.approx(other, rel=1e-5)
    _assert_same(grads, parts)


def _share_of_rank(rank: int, folder: Path, config: MlmConfig) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(_gradient(MlmStage(config, folder, World(rank, 2))), folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_add_up_to_one(texts: Path, tiny_checkpoint: Path) -> None:
    config = _config(tiny_checkpoint)
    loss, grads = _gradient(MlmStage(config, texts))
    torch.multiprocessing.spawn(_share_of_rank, args=(texts, config), nprocs=2)
    parts = [torch.load(texts / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert sum(part[0] for part in parts) == pytest.approx(loss, rel=1e-5)
    _assert_same({name: parts[0][1][name] + parts[1][1][name] for name in grads}, grads)


def test_the_head_runs_at_the_hidden_tokens_alone(texts: Path, tiny_checkpoint: Path) -> None:
    stage = MlmStage(_config(tiny_checkpoint, chunk_tokens=0), texts)
    rows: list[int] = []
    stage.model.cls.predictions.decoder.register_forward_hook(lambda _m, args, _out: rows.append(len(args[0])))
    batch = stage.batch(0)
    stage.backward(batch)
    (chunk,) = batch.chunks
    assert rows == [len(chunk.truth)]
    assert 0.1 * stage.tokens(batch) < len(chunk.truth) < 0.5 * stage.tokens(batch)
    hidden = chunk.tokens.input_ids[chunk.positions]
    mask = stage.encoder.tokenizer.token_ids(["[MASK]"])[0][0]
    assert 0.5 < float((hidden == mask).double().mean()) < 1.0
    assert not (chunk.truth < 5).any()  # the special tokens are the first five


def test_any_model_goes_on(texts: Path, tiny_checkpoint: Path) -> None:
    stage = MlmStage(_config(tiny_checkpoint, model=ModelConfig(init=str(tiny_checkpoint))), texts)
    state = load_text(tiny_checkpoint).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in stage.model.bert.state_dict().items())
    assert np.isfinite(stage.backward(stage.batch(0)))


def test_windows_across_documents_or_within(texts: Path, tiny_checkpoint: Path) -> None:
    across = MlmStage(_config(tiny_checkpoint), texts).batch(0).chunks[0].tokens
    within = MlmStage(_config(tiny_checkpoint, across_documents=False), texts).batch(0).chunks[0].tokens
    assert across.lengths == [16] * 6
    assert torch.equal(across.input_ids, within.input_ids)
    starts = np.cumsum([0, *within.lengths])
    assert set(range(0, 97, 16)) <= set(starts.tolist())
    cls = int(MlmStage(_config(tiny_checkpoint), texts).encoder.tokenizer.encode(["a"], max_tokens=8).sequences[0][0])
    assert all(int(within.input_ids[start]) == cls or start % 16 == 0 for start in starts[:-1])


def test_epochs_decide_the_steps_and_a_short_last_one_is_whole(texts: Path, tiny_checkpoint: Path) -> None:
    loop_config = LoopConfig(learning_rate=1e-2, autocast="fp32")
    stage = MlmStage(_config(tiny_checkpoint, loop=loop_config, epochs=2, batch_size=50, warmup_share=0.5), texts)
    windows = 2 * int(stage.store.lengths.sum()) // 16
    assert stage.loop.max_steps == -(-windows // 50)
    assert stage.loop.warmup_steps == stage.loop.max_steps // 2
    last = stage.batch(stage.loop.max_steps - 1)
    assert stage.tokens(last) == (windows - 50 * (stage.loop.max_steps - 1)) * 16
    assert f"{stage.tokens(last) // 16} windows of 16 tokens from number" in stage.describe(last)


def test_the_survey_counts_texts(texts: Path, tiny_checkpoint: Path) -> None:
    survey = MlmStage(_config(tiny_checkpoint), texts).survey()
    assert [(source.name, source.rows) for source in survey.sources] == [("texts", 200)]
    assert survey.sources[0].seen > 1
    assert survey.lengths[0].median == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": ()}, "data: names no file"),
        ({"window_tokens": 1}, "window_tokens 4 or more"),
        ({"epochs": 1}, "not both"),
        ({"mask_share": 1.0}, "mask_share: 1.0"),
        ({"warmup_share": -0.1}, "warmup_share: -0.1"),
        ({"window_tokens": 65}, "window_tokens: 65 is more than the model's 64"),
    ],
)
def test_a_wrong_setting_is_named(texts: Path, tiny_checkpoint: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MlmStage(_config(tiny_checkpoint, **changes), texts)


def test_a_tokenizer_without_a_mask_is_refused(texts: Path, tiny_checkpoint: Path) -> None:
    (texts / "bare").mkdir()
    words = [
        word for word in (tiny_checkpoint / "vocab.txt").read_text(encoding="utf-8").split("\n") if word != "[MASK]"
    ]
    (texts / "bare" / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"no token \[MASK\]"):
        MlmStage(_config(texts / "bare"), texts)
