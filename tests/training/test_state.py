"""A checkpoint is there whole, or the one before it is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import safetensors.torch  # noqa: E402
from torch import nn  # noqa: E402

from gnomonic.errors import CheckpointError  # noqa: E402
from gnomonic.training.optim import build_optimizer  # noqa: E402
from gnomonic.training.state import STATE_FILE, Position, load_state, save_state  # noqa: E402
from tests.training.tiny_stage import loop_config  # noqa: E402

SETTINGS = {"loop": {"seed": 1, "log_every": 2}, "batch_size": 8, "dims": (4, 2)}


def _trained(steps: int, width: int = 3) -> tuple[list[tuple[str, nn.Parameter]], torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Linear(width, 2)
    named = list(model.named_parameters())
    optimizer = build_optimizer(named, loop_config())
    for _ in range(steps):
        model(torch.ones(1, width)).sum().backward()
        optimizer.step()
    return named, optimizer


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    named, optimizer = _trained(3)
    save_state(tmp_path, Position(step=3, elapsed_s=1.5), named, optimizer, SETTINGS)
    fresh, other = _trained(0)
    assert load_state(tmp_path, fresh, other, SETTINGS) == Position(step=3, elapsed_s=1.5)
    for (_, old), (_, new) in zip(named, fresh, strict=True):
        assert torch.equal(old, new)
        assert all(torch.equal(optimizer.state[old][key], other.state[new][key]) for key in optimizer.state[old])
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_without_a_checkpoint_a_run_starts_at_zero(tmp_path: Path) -> None:
    assert load_state(tmp_path, *_trained(0), SETTINGS) == Position()


@pytest.mark.parametrize("moment", ["write", "flush", "rename"])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    save_state(tmp_path, Position(step=3), *_trained(3), SETTINGS)
    before = (tmp_path / STATE_FILE).read_bytes()

    def fail(*arguments: object, **options: object) -> None:
        if moment == "write":
            Path(str(arguments[1])).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {
        "write": (safetensors.torch, "save_file"),
        "flush": (__import__("os"), "fsync"),
        "rename": (Path, "replace"),
    }
    monkeypatch.setattr(*target[moment], fail)
    with pytest.raises(CheckpointError, match=r"step 6 cannot be written: .*No space left.*before it is intact"):
        save_state(tmp_path, Position(step=6), *_trained(6), SETTINGS)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert load_state(tmp_path, *_trained(0), SETTINGS).step == 3


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / f"{STATE_FILE}.12345.partial").write_bytes(b"half")
    save_state(tmp_path, Position(step=3), *_trained(3), SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loop": {"seed": 2, "log_every": 2}}, r"other settings: loop\.seed was 1, is 2$"),
        ({"batch_size": 9, "dims": (4,)}, r"other settings: batch_size was 8, is 9; dims was \[4, 2\], is \[4\]$"),
    ],
)
def test_other_settings_are_named(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    save_state(tmp_path, Position(step=3), *_trained(3), SETTINGS)
    fresh, optimizer = _trained(0)
    before = fresh[0][1].detach().clone()
    with pytest.raises(CheckpointError, match=said):
        load_state(tmp_path, fresh, optimizer, {**SETTINGS, **changed})
    assert torch.equal(fresh[0][1], before)


def test_what_is_only_shown_may_change(tmp_path: Path) -> None:
    save_state(tmp_path, Position(step=3), *_trained(3), SETTINGS)
    changed = {**SETTINGS, "loop": {"seed": 1, "log_every": 50}, "new_setting": 1}
    assert load_state(tmp_path, *_trained(0), changed).step == 3


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, Position(step=3), *_trained(3), SETTINGS)
    with pytest.raises(CheckpointError, match=r"another model: 1 tensors differ, such as weight \(\(2, 3\) in the f"):
        load_state(tmp_path, *_trained(0, width=4), SETTINGS)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, Position(step=3), *_trained(3), SETTINGS)
    content = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"state\.safetensors cannot be read: .*delete it to start over"):
        load_state(tmp_path, *_trained(0), SETTINGS)
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / STATE_FILE)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        load_state(tmp_path, *_trained(0), SETTINGS)


def test_a_weight_that_no_loss_has_reached_has_nothing_to_keep(tmp_path: Path) -> None:
    named, optimizer = _trained(2)
    named.append(("spare", nn.Parameter(torch.ones(2))))
    save_state(tmp_path, Position(step=2), named, optimizer, SETTINGS)
    fresh, other = _trained(0)
    fresh.append(("spare", nn.Parameter(torch.zeros(2))))
    assert load_state(tmp_path, fresh, other, SETTINGS).step == 2
    assert fresh[-1][1].tolist() == [1.0, 1.0]
