"""`gnomonic train` from parquet files to a model that embeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

import gnomonic
from gnomonic.cli.train import app
from gnomonic.errors import CheckpointError, ConfigError
from tests.training.conftest import write_recipe


def _run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_pairs_become_a_model_that_embeds(corpus: Path) -> None:
    _run("vocabulary", corpus / "pairs.parquet", "-o", corpus / "tokenizer", "--size", "200", "--max-tokens", "64")
    recipe = write_recipe(corpus, steps=60)
    said = _run("contrastive", recipe, "-o", corpus / "out", "--name", "tiny", "--dtype", "fp32", "--threads", "1")
    assert "step 60/60" in said
    lines = [json.loads(line) for line in (corpus / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(2, 61, 2))
    with gnomonic.load(corpus / "out" / "tiny") as encoder:
        assert (encoder.spec.dims, encoder.spec.max_tokens, encoder.spec.layer_norm) == ((16, 8), 64, True)
        documents = [f"the {name} number 3 is here" for name in ("cat", "goat", "fish")]
        found = encoder.encode(documents, task_type="search_document").vectors
        asked = encoder.encode(["where is the goat 3"], task_type="search_query").vectors[0]
    assert int(np.argmax(found @ asked)) == 1


@pytest.mark.parametrize(
    ("setting", "error", "said"),
    [
        ('init = "none"', CheckpointError, "cannot be read"),
        ('init = ""\nhidden = 3', ConfigError, r"model\.hidden: unknown setting; did you mean 'hidden_size'"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_written(
    corpus: Path, setting: str, error: type[Exception], said: str
) -> None:
    recipe = write_recipe(corpus, steps=2)
    recipe.write_text(recipe.read_text().replace("num_layers = 1", f"num_layers = 1\n{setting}"), encoding="utf-8")
    with pytest.raises(error, match=said):
        _run("contrastive", recipe, "-o", corpus / "out")
    assert not (corpus / "out").exists()
