"""`gnomonic train` from plain files to a model that embeds."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

import gnomonic
from gnomonic.checkpoints.huggingface import load_text
from gnomonic.cli.main import app
from gnomonic.cli.train_show import TrainProgress
from gnomonic.training.metrics import Metrics

_ANIMALS = ["cat", "dog", "horse", "bird", "fish", "cow", "sheep", "goat"]
_QUICK = ("--precision", "fp32", "--threads", "1", "--dtype", "fp32")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A CSV of 64 pairs."""
    path = tmp_path / "my.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["query", "document"])
        rows.writerows([f"where is the {a} {i}", f"the {a} number {i} is here"] for i in range(8) for a in _ANIMALS)
    return path


def _try(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *(str(argument) for argument in arguments)])


def _run(*arguments: object) -> str:
    done = _try(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def _recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


_FRESH = """
data = ["my.csv"]
batch_size = 8
query_tokens = 40
document_tokens = 40
temperature = 0.05
dims = [16, 8]

[loop]
max_steps = 60
learning_rate = 0.003
log_every = 2

[model]
tokenizer = "tokenizer"
hidden_size = 16
num_layers = 1
num_heads = 2
intermediate_size = 24
max_positions = 64
"""


def test_pairs_become_a_model_that_embeds(pairs: Path) -> None:
    folder = pairs.parent
    _run("vocabulary", pairs, "-o", folder / "tokenizer", "--size", "200", "--max-tokens", "64")
    recipe = _recipe(folder, _FRESH)
    said = _run("pretrain", recipe, "-o", folder / "out", "--name", "tiny", *_QUICK)
    assert "step 60/60" in said
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(2, 61, 2))
    with gnomonic.load(folder / "out" / "tiny") as encoder:
        assert (encoder.spec.dims, encoder.spec.max_tokens, encoder.spec.layer_norm) == ((16, 8), 64, True)
        documents = [f"the {name} number 3 is here" for name in ("cat", "goat", "fish")]
        found = encoder.encode(documents, task_type="search_document").vectors
        asked = encoder.encode(["where is the goat 3"], task_type="search_query").vectors[0]
    assert int(np.argmax(found @ asked)) == 1


def test_a_csv_and_a_model_are_all_it_takes(
    pairs: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs.parent)
    _run("finetune", "--pairs", "my.csv", "--model", tiny_checkpoint, "-o", "out", *_QUICK)
    with gnomonic.load(Path("out/model")) as encoder:
        assert encoder.spec.dims == (32, 16, 8)
        assert encoder.encode(["where is the cat"]).vectors.shape == (1, 32)
    before, after = (load_text(folder).state_dict() for folder in (tiny_checkpoint, Path("out/model")))
    assert not np.array_equal(before["emb_ln.weight"], after["emb_ln.weight"])


def test_a_share_of_the_start_stays_in_the_finished_model(pairs: Path, tiny_checkpoint: Path) -> None:
    folder, weights = pairs.parent, []
    for share in (0.0, 0.25):
        lines = (
            f'data = ["{pairs.name}"]', "batch_size = 8", "[loop]", "max_steps = 4", "learning_rate = 0.01",
            "[model]", f'init = "{tiny_checkpoint}"', f"start_share = {share}",
        )  # fmt: skip
        recipe = _recipe(folder, "\n".join(lines))
        _run("finetune", recipe, "-o", folder / f"out{share}", "--dtype", "fp32", *_QUICK)
        weights.append(load_text(folder / f"out{share}" / "model").state_dict())
    start = load_text(tiny_checkpoint).state_dict()
    for name, trained in weights[0].items():
        np.testing.assert_allclose(weights[1][name], 0.75 * trained + 0.25 * start[name], atol=1e-6)
    _run("finetune", recipe, "-o", folder / "out0.0", "--dtype", "fp32", *_QUICK)  # it has ended; only the mean is new
    again = load_text(folder / "out0.0" / "model").state_dict()
    assert all(np.array_equal(again[name], weights[1][name]) for name in again)
    refused = _try("finetune", _recipe(folder, _FRESH + "start_share = 0.5\n"), "-o", folder / "none", *_QUICK)
    assert refused.exit_code == 2
    assert "model.init names no start" in refused.output


def test_the_same_command_goes_on_and_another_one_does_not(pairs: Path, tiny_checkpoint: Path) -> None:
    out = pairs.parent / "out"
    command = ("finetune", "--pairs", pairs, "--model", tiny_checkpoint, "-o", out, *_QUICK)
    _run(*command, "--batch-size", "16")
    weights = (out / "model" / "model.safetensors").read_bytes()
    _run(*command, "--batch-size", "16", "--chunk-tokens", "100")
    assert (out / "model" / "model.safetensors").read_bytes() == weights
    again = _try(*command, "--batch-size", "8")
    assert again.exit_code == 2
    assert "batch_size was 16, is 8" in again.output


def test_options_count_over_the_recipe(pairs: Path, tiny_checkpoint: Path) -> None:
    recipe = _recipe(pairs.parent, _FRESH.replace('tokenizer = "tokenizer"', f'tokenizer = "{tiny_checkpoint}"'))
    options = ("--epochs", "1", "--batch-size", "32", "--dims", "16", "--temperature", "0.1")
    _run("finetune", recipe, "-o", pairs.parent / "out", *options, *_QUICK)
    (line,) = (pairs.parent / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2
    with gnomonic.load(pairs.parent / "out" / "model") as encoder:
        assert encoder.spec.dims == (16,)


def test_a_dry_run_tells_everything_and_writes_nothing(pairs: Path, tiny_checkpoint: Path) -> None:
    before = sorted(pairs.parent.rglob("*"))
    said = _run(
        "finetune", "--pairs", pairs, "--model", tiny_checkpoint, "-o", pairs.parent / "out", "--dry-run",
        "--batch-size", "16", "--document-tokens", "12", *_QUICK,
    )  # fmt: skip
    assert "64 rows in 1 source; 16 rows a step" in said
    assert "100.0% are longer than 12 and are cut" in said
    assert "4 steps, about" in said
    assert "tokens/s" in said
    assert "GB a process" in said
    assert sorted(pairs.parent.rglob("*")) == before


def test_mlm_teaches_any_model_and_the_next_stage_takes_it_over(pairs: Path, tiny_checkpoint: Path) -> None:
    folder = pairs.parent
    options = ("--window-tokens", "32", "--batch-size", "8", "--mask-share", "0.2", "--steps", "3")
    said = _run("mlm", "--texts", pairs, "--model", tiny_checkpoint, "-o", folder / "mlm", *options, *_QUICK)
    assert "step 3/3" in said
    _run("finetune", "--pairs", pairs, "--model", folder / "mlm" / "model", "-o", folder / "out", *_QUICK)
    with gnomonic.load(folder / "out" / "model") as encoder:
        assert encoder.encode(["cat"]).vectors.shape == (1, 32)


def test_a_csv_and_a_teacher_are_all_it_takes_to_distill(pairs: Path, tiny_checkpoint: Path) -> None:
    out = pairs.parent / "out"
    said = ("distill", "--teacher", tiny_checkpoint, "--pairs", pairs, "--model", tiny_checkpoint, "-o", out)
    plan = _run(*said, "--steps", 2, "--batch-size", 4, *_QUICK, "--dry-run")
    assert "my" in plan
    assert "text" in plan
    text = _run(*said, "--steps", 2, "--batch-size", 4, *_QUICK)
    assert f"wrote {out / 'model'}" in text.replace("\n", "")
    assert (out / "teacher-vectors/vectors.f16").stat().st_size > 0
    assert gnomonic.load(out / "model").encode(["a cat"]).vectors.shape == (
        1,
        load_text(tiny_checkpoint).config.hidden_size,
    )


def test_texts_of_one_kind_get_one_prefix(pairs: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gnomonic.training.contrastive import ContrastiveStage

    seen: list[str] = []
    monkeypatch.setattr(ContrastiveStage, "survey", lambda self: seen.extend(self.schedule.batch(0).documents[:1]))
    command = ("finetune", "--pairs", pairs, "--model", tiny_checkpoint, "-o", pairs.parent / "out", "--dry-run")
    _try(*command, "--query-task", "clustering", "--document-task", "clustering", *_QUICK)
    assert seen[0].startswith("clustering: the ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("finetune", "--pairs", "none.csv"), "'/"),
        (("finetune",), "no data: give --pairs FILE"),
        (("mlm", "--model", "x"), "--texts FILE"),
        (("finetune", "--pairs", "{pairs}", "--dtype", "fp8"), "--dtype 'fp8' is unknown; choose fp32, fp16 or bf16"),
        (("finetune", "--pairs", "{pairs}", "--dims", "64;32"), "--dims '64;32' is not a list of whole numbers"),
        (("finetune", "--pairs", "{pairs}", "--dims", "999"), "dims: 999 is not between 1 and 384"),
        (("finetune", "--pairs", "{pairs}", "--model", "nomic-embed-txt"), "nomic-embed-txt"),
        (("finetune", "--pairs", "{pairs}", "--precision", "fp64"), "loop.autocast: 'fp64' is unknown"),
        (("finetune", "--pairs", "{pairs}", "--query-task", "search"), "search"),
        (("finetune", "--pairs", "{pairs}", "--steps", "2", "--epochs", "2"), "set one of them above 0, not both"),
        (("pretrain", "--pairs", "{pairs}"), "model.tokenizer: this setting must be given"),
        (("mlm", "--texts", "{pairs}"), "model.tokenizer: this setting must be given"),
        (("pretrain", "absent.toml"), "cannot be read"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_written(pairs: Path, arguments: tuple[str, ...], said: str) -> None:
    done = _try(*(argument.format(pairs=pairs) for argument in arguments), "-o", pairs.parent / "out")
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert not (pairs.parent / "out").exists()


def _metrics(step: int) -> Metrics:
    return Metrics(step=step, loss=1.25, grad_norm=1.0, learning_rate=0.1, tokens_per_s=1234.5, elapsed_s=30.0)


def test_progress_is_lines_in_a_file_and_a_bar_on_a_terminal() -> None:
    plain, terminal = io.StringIO(), io.StringIO()
    with TrainProgress(40, console=Console(file=plain)) as progress:
        progress.show(_metrics(10))
    assert plain.getvalue() == "step 10/40 · loss 1.2500 · 1,234 tokens/s · 1 min 30 s left\n"
    with TrainProgress(40, console=Console(file=terminal, force_terminal=True, width=120)) as progress:
        progress.show(_metrics(10))
        progress.show(_metrics(20))
    assert "step 20/40" in terminal.getvalue()
    assert "50 %" in terminal.getvalue()


def test_only_one_process_talks() -> None:
    silent = io.StringIO()
    with TrainProgress(40, console=Console(file=silent), quiet=True) as progress:
        progress.show(_metrics(10))
    assert silent.getvalue() == ""
