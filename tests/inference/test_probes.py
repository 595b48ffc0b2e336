from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gnomonic.errors import EngineError
from gnomonic.inference.encoder import TextEncoder
from gnomonic.inference.probes import make_probe, run_probes
from tests.fakes import FakeEngine


@pytest.mark.parametrize("task_type", ["", "search_query", "clustering"])
def test_a_probe_of_the_same_model_is_right(fake_encoder: TextEncoder, task_type: str) -> None:
    probe = make_probe(fake_encoder, "the quick brown fox", task_type=task_type)
    (result,) = run_probes(fake_encoder, [probe])
    assert result.ok
    assert result.values == 8
    assert result.task_type == task_type
    assert result.max_difference < 1e-5


def test_a_probe_without_task_is_the_pooled_vector_of_the_bare_text(
    fake_encoder: TextEncoder, fake_engine: FakeEngine
) -> None:
    ids = fake_encoder.tokenizer.encode(["bread"], max_tokens=64).sequences[0].astype(np.int64)
    pooled = fake_engine.run({"input_ids": ids[None], "attention_mask": np.ones_like(ids)[None]})[0]
    assert make_probe(fake_encoder, "bread")["values"] == pytest.approx(pooled[:8], abs=1e-5)


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_vector_off_by_more_than_the_tolerance_is_wrong(fake_encoder: TextEncoder, wrong: float) -> None:
    probe = make_probe(fake_encoder, "red train")
    probe["values"][3] += wrong
    (result,) = run_probes(fake_encoder, [probe])
    assert not result.ok


def test_a_probe_wider_than_the_model_is_an_error(fake_encoder: TextEncoder) -> None:
    probe: dict[str, Any] = {
        "text": "stone",
        "values": [0.0] * 33,
        "tolerance": 1.0,
        "source": "a wider model",
    }
    with pytest.raises(EngineError, match="32 values where the probe has 33"):
        run_probes(fake_encoder, [probe])
