"""The contrastive stage learns, repeats itself, and gives one gradient however a step is divided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from gnomonic.errors import ConfigError  # noqa: E402
from gnomonic.training import loop  # noqa: E402
from gnomonic.training.config import read_recipe  # noqa: E402
from gnomonic.training.contrastive import (  # noqa: E402
    ContrastiveConfig,
    ContrastiveStage,
    false_negatives,
    lay_out,
    sample_negatives,
)
from gnomonic.training.distributed import World  # noqa: E402
from tests.training.conftest import write_recipe  # noqa: E402


def _config(folder: Path, *, steps: int = 4, **changes: Any) -> ContrastiveConfig:
    return replace(read_recipe(write_recipe(folder, steps=steps), ContrastiveConfig), **changes)


def _train(folder: Path, steps: int, out: str, *, stop_after: int | None = None) -> list[loop.Metrics]:
    stage = ContrastiveStage(_config(folder, steps=steps), folder)
    seen: list[loop.Metrics] = []

    def on_log(metrics: loop.Metrics) -> None:
        seen.append(metrics)
        if stop_after is not None and metrics.step >= stop_after:
            raise KeyboardInterrupt

    try:
        loop.run(stage, stage.loop, folder / out, on_log=on_log)
    except KeyboardInterrupt:
        assert stop_after is not None
    return seen


def _with_negatives(folder: Path) -> None:
    """Write pairs.jsonl: 10 rows with 0 to 3 negatives; some are the document of another row, or of their own."""
    rows = []
    for i in range(10):
        negatives = [f"the dog number {j} is here" for j in range(i % 4)]
        rows.append(
            {"query": f"where is the cat {i}", "document": f"the cat number {i} is here", "negatives": negatives}
        )
    rows[3]["negatives"][0] = rows[5]["document"]
    rows[7]["negatives"][1] = rows[7]["document"]
    rows[4]["query"] = rows[2]["query"]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _gradient(stage: ContrastiveStage, step: int = 0) -> tuple[float, dict[str, Any]]:
    loss = stage.backward(stage.batch(step))
    return loss, {name: parameter.grad.clone() for name, parameter in stage.parameters() if parameter.grad is not None}


def _assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert float((one[name] - other[name]).norm()) <= 1e-4 * float(one[name].norm())


def test_the_loss_falls(corpus: Path) -> None:
    metrics = _train(corpus, 60, "out")
    assert metrics[-1].loss < 0.6 * metrics[0].loss


def test_a_stopped_run_goes_on_bit_for_bit(corpus: Path) -> None:
    _train(corpus, 10, "whole")
    _train(corpus, 10, "broken", stop_after=8)
    assert int(load_file(corpus / "broken" / "state.safetensors")["step.emb_ln.weight"]) == 6
    _train(corpus, 10, "broken")
    whole, broken = (load_file(corpus / name / "state.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_batch_depends_on_its_step_alone_and_has_one_source(corpus: Path) -> None:
    first, second = (ContrastiveStage(_config(corpus, steps=20), corpus) for _ in range(2))
    for step in (7, 0, 19):
        ours, theirs = first.batch(step), second.batch(step)
        assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(ours.chunks, theirs.chunks, strict=True))
        assert torch.equal(ours.place, theirs.place)
    prefixes = {text.split(":")[0] for step in range(20) for text in first.schedule.batch(step).queries}
    assert prefixes == {"search_query", "clustering"}


def test_epochs_decide_the_steps_and_the_warm_up(corpus: Path) -> None:
    config = _config(corpus)
    loop_config = replace(config.loop, max_steps=0, warmup_steps=0)
    stage = ContrastiveStage(replace(config, loop=loop_config, epochs=3, warmup_share=0.25), corpus)
    assert stage.loop.max_steps == 3 * (64 + 48) // 8
    assert stage.loop.warmup_steps == stage.loop.max_steps // 4


@pytest.mark.parametrize("negatives", [0, 2])
def test_chunks_give_the_gradient_of_the_whole_step(corpus: Path, negatives: int) -> None:
    _with_negatives(corpus)
    config = _config(corpus, data=("pairs.jsonl",), batch_size=7, negatives_per_query=negatives, chunk_tokens=0)
    whole = ContrastiveStage(config, corpus)
    parted = ContrastiveStage(replace(config, chunk_tokens=40), corpus)
    assert len(whole.batch(0).chunks) == 1
    assert len(parted.batch(0).chunks) > 3
    (one, grads), (other, parts) = _gradient(whole), _gradient(parted)
    assert one == pytest.approx(other, rel=1e-5)
    _assert_same(grads, parts)


def test_the_texts_are_put_back_in_order(corpus: Path) -> None:
    stage = ContrastiveStage(_config(corpus, chunk_tokens=40), corpus)
    batch, pairs = stage.batch(0), stage.schedule.batch(0)
    laid = [ids for chunk in batch.chunks for ids in chunk.input_ids.split(chunk.lengths)]
    texts = [*pairs.queries, *pairs.documents]
    expected = stage.encoder.tokenizer.encode(texts, max_tokens=40).sequences
    for place, ids in zip(batch.place.tolist(), expected, strict=True):
        assert laid[place].tolist() == ids.tolist()


def test_negatives_are_drawn_anew_in_each_step_and_alike_in_each_run() -> None:
    rows = [[f"{i} {j}" for j in range(10)] for i in range(5)] + [["only"], []]
    first, again, later = (sample_negatives(rows, 3, np.random.default_rng([1, step])) for step in (0, 0, 1))
    assert first == again
    assert first != later
    assert [len(row) for row in first] == [3, 3, 3, 3, 3, 1, 0]
    assert all(set(drawn) <= set(row) and len(set(drawn)) == len(drawn) for drawn, row in zip(first, rows, strict=True))
    assert sample_negatives(rows, 0, np.random.default_rng(0)) == [[] for _ in rows]


def test_copies_of_the_right_answer_are_no_wrong_ones() -> None:
    queries, documents = ["a", "b", "a", "c"], ["x", "y", "z", "y"]
    negatives = [["y"], [], ["z", "w"], ["x"]]
    columns = lay_out(queries, documents, negatives, [slice(0, 4)])
    # Columns: x y z y | y z w x. Query a (0) and a (2) share their documents; b and c share y.
    mask = false_negatives(columns, torch.arange(4))
    assert mask.nonzero().tolist() == [[0, 2], [0, 7], [1, 3], [1, 4], [2, 0], [2, 5], [3, 1], [3, 4]]


def test_columns_of_two_processes_stand_in_their_order() -> None:
    columns = lay_out(["a", "b"], ["x", "y"], [["n"], ["x"]], [slice(0, 1), slice(1, 2)])
    # Columns: x n | y x.
    assert columns.queries.tolist() == [0, -1, 1, -1]
    assert false_negatives(columns, torch.tensor([0])).tolist() == [[False, False, False, True]]


def _share_of_rank(rank: int, folder: Path, config: ContrastiveConfig) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    loss, grads = _gradient(ContrastiveStage(config, folder, World(rank, 2)))
    torch.save((loss, grads), folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_add_up_to_one(corpus: Path) -> None:
    _with_negatives(corpus)
    config = _config(corpus, data=("pairs.jsonl",), batch_size=7, negatives_per_query=2, chunk_tokens=60)
    torch.multiprocessing.spawn(_share_of_rank, args=(corpus, config), nprocs=2)
    parts = [torch.load(corpus / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    loss, grads = _gradient(ContrastiveStage(config, corpus))
    assert sum(part[0] for part in parts) == pytest.approx(loss, rel=1e-5)
    _assert_same({name: parts[0][1][name] + parts[1][1][name] for name in grads}, grads)


def test_the_survey_counts_rows_and_cut_texts(corpus: Path) -> None:
    survey = ContrastiveStage(_config(corpus, steps=20, document_tokens=12), corpus).survey()
    assert {source.name: source.rows for source in survey.sources} == {"animals": 64, "foods": 48}
    assert sum(source.seen * source.rows for source in survey.sources) == pytest.approx(20 * 8)
    query, document = survey.lengths
    assert (query.name, query.truncated) == ("query", 0.0)
    assert document.truncated > 0.5
    assert document.p95 == document.limit == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": ()}, "data: names no file"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"epochs": 2}, "set one of them above 0, not both"),
        ({"warmup_share": 1.5}, "warmup_share: 1.5"),
        ({"temperature": 0.0}, "temperature: 0.0"),
        ({"negatives_per_query": -1}, "must not be negative"),
    ],
)
def test_a_wrong_setting_is_named(corpus: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _config(corpus, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dims": (16, 32)}, "dims: 32 is not between 1 and 16"),
        ({"query_tokens": 65}, "65 is more than the model's 64"),
    ],
)
def test_what_does_not_fit_the_model_is_named(corpus: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ContrastiveStage(_config(corpus, **changes), corpus)


def test_a_batch_describes_itself(corpus: Path) -> None:
    stage = ContrastiveStage(_config(corpus), corpus)
    said = stage.describe(stage.batch(0))
    assert "8 pairs, first query '" in said
    assert stage.tokens(stage.batch(0)) == sum(sum(chunk.lengths) for chunk in stage.batch(0).chunks)


def test_the_loss_is_the_one_written_out_by_hand(corpus: Path) -> None:
    _with_negatives(corpus)
    config = _config(corpus, data=("pairs.jsonl",), batch_size=10, negatives_per_query=9, chunk_tokens=50)
    stage = ContrastiveStage(config, corpus)
    batch = stage.schedule.batch(0)

    def embed(text: str, dim: int) -> Any:
        ids = torch.from_numpy(stage.encoder.tokenizer.encode([text], max_tokens=40).sequences[0].astype(np.int64))
        pooled = stage.model(ids, [len(ids)]).mean(0)
        return torch.nn.functional.normalize(torch.nn.functional.layer_norm(pooled, (16,))[:dim], dim=0)

    losses = []
    others = [(text, None) for row in batch.negatives for text in row]
    documents = [*zip(batch.documents, batch.queries, strict=True), *others]
    for dim in (16, 8):
        for query, own in zip(batch.queries, batch.documents, strict=True):
            wrong = [text for text, asked in documents if text != own and asked != query]
            scores = torch.stack([embed(query, dim) @ embed(text, dim) for text in [own, *wrong]]) / config.temperature
            losses.append(-torch.log_softmax(scores, 0)[0])
    assert stage.backward(stage.batch(0)) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_texts_are_as_long_as_the_settings_say_not_32_and_256(corpus: Path) -> None:
    rows = [{"query": "cat " * 300, "document": "dog " * 900} for _ in range(8)]
    (corpus / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = _config(corpus, data=("long.jsonl",), query_tokens=48, document_tokens=64, chunk_tokens=0)
    batch = ContrastiveStage(config, corpus).batch(0)
    assert sorted(batch.chunks[0].lengths) == [48] * 8 + [64] * 8
