"""A dry run measures a step and changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gnomonic.training.config import read_recipe  # noqa: E402
from gnomonic.training.contrastive import ContrastiveConfig, ContrastiveStage  # noqa: E402
from gnomonic.training.plan import Lengths, measure_step, plan  # noqa: E402
from tests.training.conftest import write_recipe  # noqa: E402


def test_a_plan_leaves_weights_and_gradients_as_they_are(corpus: Path) -> None:
    stage = ContrastiveStage(read_recipe(write_recipe(corpus, steps=30), ContrastiveConfig), corpus)
    before = {name: parameter.detach().clone() for name, parameter in stage.parameters()}
    found = plan(stage)
    assert all(torch.equal(parameter, before[name]) for name, parameter in stage.parameters())
    assert all(parameter.grad is None for _, parameter in stage.parameters())
    assert found.parameters == sum(value.numel() for value in before.values())
    assert (found.steps, found.layers, found.hidden_size, found.processes) == (30, 1, 16, 1)
    assert found.survey is not None
    assert found.survey.batch_size == 8
    assert found.cost.tokens == stage.tokens(stage.batch(1))
    assert found.seconds == pytest.approx(30 * found.cost.seconds)
    assert found.cost.peak_bytes > 8 * found.parameters


def test_a_run_of_one_step_can_be_measured(corpus: Path) -> None:
    stage = ContrastiveStage(read_recipe(write_recipe(corpus, steps=1), ContrastiveConfig), corpus)
    assert measure_step(stage, stage.loop).tokens == stage.tokens(stage.batch(0))


def test_lengths_are_percentiles_and_the_share_cut() -> None:
    sequences = [np.zeros(length, np.int32) for length in (2, 4, 6, 10)]
    found = Lengths.of("query", sequences, np.array([False, False, False, True]), 10)
    assert (found.median, found.p95, found.limit, found.truncated, found.texts) == (5, 9, 10, 0.25, 4)
