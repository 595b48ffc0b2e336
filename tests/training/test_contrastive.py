"""The contrastive stage learns, repeats itself and goes on exactly after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from gnomonic.errors import CheckpointError  # noqa: E402
from gnomonic.training import loop  # noqa: E402
from gnomonic.training.config import read_recipe  # noqa: E402
from gnomonic.training.contrastive import ContrastiveStage, false_negatives  # noqa: E402
from tests.training.conftest import write_recipe  # noqa: E402


def _train(folder: Path, steps: int, out: str, *, stop_after: int | None = None) -> list[loop.Metrics]:
    recipe = write_recipe(folder, steps=steps)
    config = read_recipe(recipe)
    stage = ContrastiveStage(config, folder)
    seen: list[loop.Metrics] = []

    def on_log(metrics: loop.Metrics) -> None:
        seen.append(metrics)
        if stop_after is not None and metrics.step >= stop_after:
            raise KeyboardInterrupt

    try:
        loop.run(stage, config.loop, folder / out, on_log=on_log)
    except KeyboardInterrupt:
        assert stop_after is not None
    return seen


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


def test_other_settings_do_not_go_on_from_a_checkpoint(corpus: Path) -> None:
    _train(corpus, 4, "out")
    with pytest.raises(CheckpointError, match="other loop settings"):
        _train(corpus, 6, "out")


def test_a_batch_depends_on_its_step_alone_and_has_one_source(corpus: Path) -> None:
    config = read_recipe(write_recipe(corpus, steps=20))
    first, second = (ContrastiveStage(config, corpus) for _ in range(2))
    for step in (7, 0, 19):
        assert torch.equal(first.batch(step).input_ids, second.batch(step).input_ids)
    prefixes = {text.split(":")[0] for step in range(20) for text in first.schedule.batch(step).queries}
    assert prefixes == {"search_query", "clustering"}


def test_an_epoch_shows_each_row_once(corpus: Path) -> None:
    config = read_recipe(write_recipe(corpus, steps=200))
    schedule = ContrastiveStage(config, corpus).schedule
    seen: dict[str, list[str]] = {}
    for step in range(200):
        batch = schedule.batch(step)
        seen.setdefault(batch.source, []).extend(batch.documents)
    for source, rows in (("animals", 64), ("foods", 48)):
        assert len(set(seen[source][:rows])) == rows


def test_equal_documents_and_equal_queries_are_no_negatives() -> None:
    mask = false_negatives(["a", "b", "a", "c"], ["x", "y", "z", "y"])
    assert mask.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]


def test_a_run_starts_from_the_weights_of_another(corpus: Path) -> None:
    _train(corpus, 4, "start")
    recipe = write_recipe(corpus, steps=4)
    recipe.write_text(recipe.read_text().replace("num_layers = 1", 'num_layers = 2\ninit = "start"'), encoding="utf-8")
    model = ContrastiveStage(read_recipe(recipe), corpus).model
    saved = load_file(corpus / "start" / "state.safetensors")
    assert torch.equal(model.emb_ln.weight, saved["model.emb_ln.weight"])
    assert len(model.encoder.layers) == 2
