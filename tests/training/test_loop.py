"""The loop: one clip and one step per batch however it is cut, exact continuation, and a stop that says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_pre_hook  # noqa: E402

from gnomonic.errors import CheckpointError, ConfigError, GnomonicError  # noqa: E402
from gnomonic.training import loop  # noqa: E402
from gnomonic.training.optim import learning_rate_at  # noqa: E402
from gnomonic.training.state import STATE_FILE  # noqa: E402
from tests.training.tiny_stage import TinyStage, ignore, loop_config  # noqa: E402

_ROOT = Path(__file__).parents[2]


def _state(out: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(out / STATE_FILE))


def _lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _same(one: Path, other: Path) -> bool:
    first, second = _state(one), _state(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def stepped() -> Iterator[list[torch.Tensor]]:
    """The gradients that each optimiser step is made with, flat."""
    seen: list[torch.Tensor] = []

    def look(optimizer: torch.optim.Optimizer, *rest: object) -> None:
        grads = [p.grad.reshape(-1) for group in optimizer.param_groups for p in group["params"]]
        seen.append(torch.cat(grads).clone())

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


# -- accumulation -----------------------------------------------------------------------------------------------


def test_micro_batches_are_one_batch(tmp_path: Path, stepped: list[torch.Tensor]) -> None:
    for count in (1, 4):
        loop.run(TinyStage(micro_batches=count), loop_config(), tmp_path / str(count), on_log=ignore)
    assert len(stepped) == 20, "one optimiser step per batch"
    for whole, cut in zip(stepped[:10], stepped[10:], strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)
    whole_lines, cut_lines = _lines(tmp_path / "1"), _lines(tmp_path / "4")
    for key in ("loss", "grad_norm", "learning_rate"):
        assert [line[key] for line in cut_lines] == pytest.approx([line[key] for line in whole_lines], rel=1e-3)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_gradients_are_clipped_once_when_all_are_there(
    tmp_path: Path, stepped: list[torch.Tensor], micro_batches: int
) -> None:
    free = loop_config(max_grad_norm=0.0, max_steps=1)
    bound = loop_config(max_grad_norm=0.5, max_steps=1)
    loop.run(TinyStage(micro_batches=micro_batches), free, tmp_path / "free", on_log=ignore)
    loop.run(TinyStage(micro_batches=micro_batches), bound, tmp_path / "bound", on_log=ignore)
    whole, clipped = stepped
    assert float(whole.norm()) > 2.0
    torch.testing.assert_close(clipped, whole * 0.5 / whole.norm(), rtol=1e-4, atol=1e-7)
    # What is shown is the norm before.
    assert _lines(tmp_path / "bound")[0]["grad_norm"] == pytest.approx(float(whole.norm()), rel=1e-3)


def test_the_schedule_counts_optimiser_steps(tmp_path: Path) -> None:
    config = loop_config(log_every=1, schedule="linear")
    loop.run(TinyStage(micro_batches=4), config, tmp_path, on_log=ignore)
    assert [line["learning_rate"] for line in _lines(tmp_path)] == [learning_rate_at(i, config) for i in range(10)]
    assert _lines(tmp_path)[-1]["learning_rate"] == pytest.approx(0.01 / 8)


def test_gradients_that_were_there_before_do_not_count(tmp_path: Path) -> None:
    stage = TinyStage()
    stage.backward(stage.batch(99))
    loop.run(stage, loop_config(), tmp_path / "touched", on_log=ignore)
    loop.run(TinyStage(), loop_config(), tmp_path / "fresh", on_log=ignore)
    assert _same(tmp_path / "touched", tmp_path / "fresh")


# -- going on ---------------------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from pathlib import Path
from gnomonic.training import loop
from tests.training.tiny_stage import TinyStage, loop_config

def on_log(metrics):
    if metrics.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

loop.run(TinyStage(dropout=0.5), loop_config(), Path(sys.argv[1]), on_log=on_log)
"""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(_ROOT / "src"), str(_ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "killed")],
        cwd=_ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert int(_state(tmp_path / "killed")["step.0.weight"]) == 6
    assert [line["step"] for line in _lines(tmp_path / "killed")] == [2, 4, 6, 8]
    # The half-written line of a process that was killed in the middle of it.
    with (tmp_path / "killed" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 1')
    seen: list[loop.Metrics] = []
    stage = TinyStage(dropout=0.5)
    loop.run(stage, loop_config(), tmp_path / "killed", on_log=seen.append)
    assert [metrics.step for metrics in seen] == [8, 10]
    loop.run(TinyStage(dropout=0.5), loop_config(), tmp_path / "whole", on_log=ignore)
    assert _same(tmp_path / "killed", tmp_path / "whole")
    lines = [_lines(tmp_path / name) for name in ("killed", "whole")]
    assert [[line["step"] for line in one] for one in lines] == [[2, 4, 6, 8, 10]] * 2
    for key in ("loss", "grad_norm", "learning_rate"):
        assert [line[key] for line in lines[0]] == [line[key] for line in lines[1]], key
    torch.testing.assert_close(
        dict(stage.parameters())["0.weight"].detach(), _state(tmp_path / "whole")["model.0.weight"]
    )


def test_dropout_differs_from_step_to_step_and_with_the_seed(tmp_path: Path, stepped: list[torch.Tensor]) -> None:
    class SameRows(TinyStage):
        def batch(self, step: int) -> tuple[int, torch.Tensor, torch.Tensor]:
            return super().batch(0)

    for seed in (0, 1):
        config = loop_config(learning_rate=1e-12, max_steps=2, warmup_steps=0, weight_decay=0.0, seed=seed)
        loop.run(SameRows(dropout=0.5), config, tmp_path / str(seed), on_log=ignore)
    assert len({tuple(grad.tolist()) for grad in stepped}) == 4


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    loop.run(TinyStage(), loop_config(), tmp_path, on_log=ignore)
    before = (tmp_path / STATE_FILE).read_bytes()
    loop.run(TinyStage(), loop_config(), tmp_path, on_log=lambda metrics: pytest.fail("nothing is left to do"))
    assert (tmp_path / STATE_FILE).read_bytes() == before


def test_other_settings_do_not_go_on(tmp_path: Path) -> None:
    loop.run(TinyStage(), loop_config(), tmp_path, on_log=ignore, settings={"batch_size": 8})
    loop.run(TinyStage(), loop_config(log_every=1, workers=0), tmp_path, on_log=ignore, settings={"batch_size": 8})
    with pytest.raises(CheckpointError, match=r"loop\.learning_rate was 0\.01, is 0\.02"):
        loop.run(TinyStage(), loop_config(learning_rate=0.02), tmp_path, on_log=ignore, settings={"batch_size": 8})
    with pytest.raises(CheckpointError, match=r"batch_size was 8, is 9"):
        loop.run(TinyStage(), loop_config(), tmp_path, on_log=ignore, settings={"batch_size": 9})


# -- stopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, bad: float) -> None:
    said = r"step 9: the loss is (nan|inf); the batch is rows of step index 8\. Nothing of this step was kept"
    with pytest.raises(GnomonicError, match=said):
        loop.run(TinyStage(bad={8: bad}), loop_config(), tmp_path / "out", on_log=ignore)
    state = _state(tmp_path / "out")
    assert int(state["step.0.weight"]) == 6
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    loop.run(TinyStage(), loop_config(), tmp_path / "out", on_log=ignore)
    loop.run(TinyStage(), loop_config(), tmp_path / "whole", on_log=ignore)
    assert _same(tmp_path / "out", tmp_path / "whole")


def test_a_gradient_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    class Steep(TinyStage):
        def backward(self, batch: tuple[int, torch.Tensor, torch.Tensor]) -> float:
            share = super().backward(batch)
            if batch[0] == 4:
                self.model[0].weight.grad[0, 0] = float("inf")
            return share

    with pytest.raises(GnomonicError, match=r"step 5: the gradient's norm is inf \(loss .*rows of step index 4"):
        loop.run(Steep(), loop_config(), tmp_path, on_log=ignore)
    assert int(_state(tmp_path)["step.0.weight"]) == 3


def test_an_error_of_a_batch_comes_out_of_the_run(tmp_path: Path) -> None:
    class Torn(TinyStage):
        def batch(self, step: int) -> tuple[int, torch.Tensor, torch.Tensor]:
            if step == 4:
                raise ConfigError("data: pairs.jsonl line 7 is torn")
            return super().batch(step)

    with pytest.raises(ConfigError, match="line 7"):
        loop.run(Torn(), loop_config(), tmp_path, on_log=ignore)
    assert int(_state(tmp_path)["step.0.weight"]) == 3


def test_a_run_needs_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loop\.max_steps: 0"):
        loop.run(TinyStage(), loop_config(max_steps=0), tmp_path / "out", on_log=ignore)
    assert not (tmp_path / "out").exists()


# -- the rest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("autocast", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_products_have_the_wanted_precision_and_weights_stay_float32(
    tmp_path: Path, autocast: str, dtype: torch.dtype
) -> None:
    stage = TinyStage()
    loop.run(stage, loop_config(autocast=autocast), tmp_path, on_log=ignore)
    assert set(stage.dtypes) == {dtype}
    assert {tensor.dtype for tensor in _state(tmp_path).values()} == {torch.float32}


def test_the_loss_falls(tmp_path: Path) -> None:
    loop.run(TinyStage(), loop_config(max_steps=150, learning_rate=0.05, log_every=50), tmp_path, on_log=ignore)
    assert _lines(tmp_path)[-1]["loss"] < 0.5 * _lines(tmp_path)[0]["loss"]


@pytest.mark.parametrize("workers", [0, 3])
def test_threads_change_nothing(tmp_path: Path, workers: int) -> None:
    loop.run(TinyStage(dropout=0.5), loop_config(), tmp_path / "one", on_log=ignore)
    loop.run(TinyStage(dropout=0.5), loop_config(workers=workers), tmp_path / "other", on_log=ignore)
    assert _same(tmp_path / "one", tmp_path / "other")


def test_frozen_weights_stay(tmp_path: Path) -> None:
    stage = TinyStage()
    stage.model[0].requires_grad_(False)
    before = stage.model[0].weight.clone()
    loop.run(stage, loop_config(), tmp_path, on_log=ignore)
    assert torch.equal(stage.model[0].weight, before)
    assert "model.0.weight" not in _state(tmp_path)


def test_tensorboard_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"loop\.tensorboard: .*pip install tensorboard"):
        loop.run(TinyStage(), loop_config(tensorboard=True), tmp_path, on_log=ignore)


def test_tensorboard_gets_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert (Path(folder).name, purge_step) == ("tensorboard", 1)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def close(self) -> None:
            written.append(("closed", 0))

    module = types.ModuleType("tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    loop.run(TinyStage(), loop_config(tensorboard=True), tmp_path, on_log=ignore)
    assert {("loss", 2), ("learning_rate", 10), ("closed", 0)} <= set(written)
    assert not any(name == "step" for name, _ in written)
