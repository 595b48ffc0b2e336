"""The distillation stage: the student comes closer to its teacher, exactly the same way each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from gnomonic.errors import ConfigError  # noqa: E402
from gnomonic.training import loop  # noqa: E402
from gnomonic.training.config import LoopConfig, ModelConfig  # noqa: E402
from gnomonic.training.distill import DistillBatch, DistillConfig, DistillStage  # noqa: E402
from gnomonic.training.teacher import Words  # noqa: E402
from gnomonic.training.transfer import principal_axes, start_from_words  # noqa: E402
from tests.training.conftest import tiny_bert  # noqa: E402

pytest.importorskip("sentence_transformers")


@pytest.fixture
def place(corpus: Path) -> Path:
    """The corpus with a teacher, and long texts beside it."""
    tiny_bert(corpus)
    articles = [f"The cat number {i}.\nIt is here. " + "The dog is there at home. " * 30 for i in range(5)]
    pq.write_table(pa.table({"text": articles}), corpus / "articles.parquet")
    return corpus


def _config(*, steps: int = 12, **changes: Any) -> DistillConfig:
    settings: dict[str, Any] = {
        "loop": LoopConfig(max_steps=steps, learning_rate=0.01, autocast="fp32", log_every=3, checkpoint_every=3),
        "model": ModelConfig(tokenizer="tokenizer", hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24,
                             max_positions=96),
        "teacher": "bert", "data": ("pairs.parquet",), "batch_size": 8, "sources_per_batch": 2, "max_tokens": 24,
        "sentence_share": 0.5, "long_texts": ("articles.parquet",), "long_every": 4, "long_tokens": (32, 64),
        "chunk_tokens": 128, "dims": (16, 8),
    }  # fmt: skip
    return DistillConfig(**{**settings, **changes})


def _train(place: Path, config: DistillConfig, out: str, *, stop_after: int = 0) -> list[loop.Metrics]:
    stage = DistillStage(config, place)
    seen: list[loop.Metrics] = []

    def on_log(metrics: loop.Metrics) -> None:
        seen.append(metrics)
        if stop_after and metrics.step >= stop_after:
            raise KeyboardInterrupt

    try:
        loop.run(stage, stage.loop, place / out, on_log=on_log)
    except KeyboardInterrupt:
        assert stop_after
    return seen


def test_altered_copies_join_the_texts_of_pairs(place: Path) -> None:
    plain, more = (
        DistillStage(_config(altered_share=share, cache=f"c{share}"), place).batch(0) for share in (0.0, 1.0)
    )
    assert len(plain.targets) == 16
    assert len(more.targets) > 24
    assert not torch.equal(more.targets[:16], more.targets[16:32])


def test_the_student_learns_and_the_same_again(place: Path) -> None:
    seen = _train(place, _config(steps=30), "one")
    assert seen[-1].loss < 0.5 * seen[0].loss
    _train(place, _config(steps=30), "two")
    _same(place / "one", place / "two")


@pytest.mark.parametrize("token_weight", [0.0, 2.0])
def test_a_run_that_went_on_equals_one_that_never_stopped(place: Path, token_weight: float) -> None:
    _train(place, _config(cache="whole", token_weight=token_weight), "whole")
    _train(place, _config(cache="parts", token_weight=token_weight), "parts", stop_after=6)
    _train(place, _config(cache="parts", token_weight=token_weight), "parts")
    _same(place / "whole", place / "parts")


def _same(one: Path, other: Path) -> None:
    left, right = load_file(one / "state.safetensors"), load_file(other / "state.safetensors")
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def test_tokens_learn_the_states_of_the_teachers_tokens(place: Path) -> None:
    config = _config(steps=40, token_weight=2.0, long_every=0)
    fresh, batch = DistillStage(config, place), DistillStage(config, place).batch(0)
    _train(place, config, "out")
    trained = DistillStage(replace(config, model=replace(config.model, init="out")), place)
    assert _token_distance(trained, batch) < 0.5 * _token_distance(fresh, batch)


def test_the_target_of_a_token_is_the_teachers_state_of_the_same_word(place: Path) -> None:
    stage = DistillStage(_config(token_weight=2.0, chunk_tokens=0), place)
    batch = stage.batch(0)
    [chunk], [rows] = batch.chunks, batch.taught
    names = {index: token for token, index in stage.encoder.tokenizer.vocabulary.items()}
    words = [names[index] for index in chunk.input_ids[rows].tolist()]
    assert {"where", "the", "here"} & set(words)
    assert not {"[CLS]", "search_query", ":"} & set(words)
    text = "where is the cat 3"
    reading = stage.teacher.teacher.read([text])
    sequences = stage.encoder.tokenizer.encode([text], max_tokens=24).sequences
    [rows], found = stage._line_up(sequences, [""], [np.array([0])], reading)
    theirs = {index: token for token, index in stage.teacher.teacher.vocabulary().items()}
    spelt = [theirs[index] for index in reading.tokens[0].tolist()]
    mine = [names[sequences[0][row]] for row in rows.tolist()]
    assert {"[CLS]", "is", "the"} <= set(mine)
    for token, target in zip(mine, found, strict=True):
        torch.testing.assert_close(target, reading.states[spelt.index(token)] @ stage.axes)
    assert not len(stage.batch(3).token_targets), "windows have none"


def _token_distance(stage: DistillStage, batch: DistillBatch) -> float:
    with torch.no_grad():
        states = torch.cat([
            stage.model(chunk.input_ids, chunk.lengths)[rows]
            for chunk, rows in zip(batch.chunks, batch.taught, strict=True)
        ])  # fmt: skip
        return float(stage._token_loss(states, batch.token_targets))


@pytest.mark.parametrize("token_weight", [0.0, 2.0])
def test_chunks_do_not_change_the_gradient(place: Path, token_weight: float) -> None:
    grads = []
    for chunk_tokens in (0, 40):
        stage = DistillStage(_config(chunk_tokens=chunk_tokens, long_every=0, token_weight=token_weight), place)
        batch = stage.batch(0)
        assert (len(batch.chunks) > 1) == (chunk_tokens > 0)
        stage.backward(batch)
        grads.append(torch.cat([p.grad.flatten() for _, p in stage.parameters() if p.grad is not None]))
    assert (grads[0] - grads[1]).norm() <= 1e-5 * grads[0].norm()


def test_every_nth_step_reads_windows_of_long_texts(place: Path) -> None:
    stage = DistillStage(_config(), place)
    kinds = [stage.describe(stage.batch(step)) for step in range(8)]
    assert ["windows" in kind for kind in kinds] == [False, False, False, True] * 2
    assert all("sources animals" in kind or "foods" in kind for kind in kinds if "windows" not in kind)
    long, short = stage.batch(3), stage.batch(0)
    assert max(max(chunk.lengths) for chunk in long.chunks) > max(max(chunk.lengths) for chunk in short.chunks)
    np.testing.assert_allclose(long.targets.norm(dim=1).numpy(), 1.0, atol=2e-3)


def test_the_turned_teacher_keeps_its_cosines_and_puts_most_into_the_first_values() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12)) + 0.05 * rng.normal(size=(200, 12))).astype(
        np.float32
    )
    axes = principal_axes(vectors)
    turned = vectors @ axes
    np.testing.assert_allclose(axes.T @ axes, np.eye(12), atol=1e-5)
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-3)
    energy = (turned**2).sum(0)
    assert (np.diff(energy) <= 1e-3).all()
    assert energy[:3].sum() > 0.98 * energy.sum()


def test_words_both_know_are_copied_and_others_left(place: Path) -> None:
    stage = DistillStage(_config(start_words=False), place)
    table = stage.model.embeddings.word_embeddings.weight
    before = table.detach().clone()
    vocabulary = stage.encoder.tokenizer.vocabulary
    rows = np.full((2, 16), 7.0, np.float32)
    words = Words(rows=rows, vocabulary={"[CLS]": 1, "unheard": 0}, norm=(rows[0], rows[0]))
    start_from_words(stage.model, vocabulary, words)
    changed = (table.detach() != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [vocabulary["[CLS]"]]
    assert stage.model.emb_ln.weight.tolist() == [7.0] * 16
    with pytest.raises(ConfigError, match=r"start_words: the teacher has one of width 4; the model needs .* 16"):
        start_from_words(stage.model, vocabulary, replace(words, rows=rows[:, :4]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, r"sources_per_batch: 2 does not divide batch_size 7"),
        ({"sentence_share": 1.5}, r"sentence_share: 1.5 is not a share"),
        ({"altered_share": -0.5}, r"altered_share: -0.5 is not a share"),
        ({"temperature": 0.0}, r"temperature: 0.0 is not above 0"),
        ({"embedding_weight": 0.0, "similarity_weight": 0.0}, r"one of the first two must be above 0"),
        ({"long_texts": ()}, r"long_every: steps of long windows need long_texts"),
        ({"loop": LoopConfig(max_steps=1, learning_rate=0.1, workers=2)}, r"loop.workers: .* choose 0 or 1"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _config(**changes)


def test_a_teacher_too_narrow_for_the_vectors_still_teaches_similarities(place: Path) -> None:
    wide = ModelConfig(tokenizer="tokenizer", hidden_size=32, num_layers=1, num_heads=2, intermediate_size=24)
    with pytest.raises(ConfigError, match=r"the teacher's 16 values cannot fill the model's 32"):
        DistillStage(_config(model=wide), place)
    stage = DistillStage(_config(model=wide, embedding_weight=0.0), place)
    assert np.isfinite(stage.backward(stage.batch(0)))
