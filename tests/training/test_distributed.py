"""Two processes that torchrun starts do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from gnomonic.training import distributed  # noqa: E402
from gnomonic.training.distributed import ALONE, World, gather, gather_objects, sum_gradients, sum_numbers  # noqa: E402
from tests.training import two_ranks  # noqa: E402

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="torch without gloo"
)

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of a run on two processes, and what each reports."""
    folder = tmp_path_factory.mktemp("both")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_ROOT / "src"), str(_ROOT)]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*command, "tests.training.two_ranks", str(folder)],
        cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, [json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


Both = tuple[Path, list[dict[str, Any]]]


def test_two_processes_train_as_one(both: Both, tmp_path: Path) -> None:
    two_ranks.main(tmp_path)
    alone, together = (dict(load_file(folder / "run" / "state.safetensors")) for folder in (tmp_path, both[0]))
    assert alone.keys() == together.keys()
    fresh = dict(two_ranks.PairStage(ALONE).parameters())
    for name, weight in alone.items():
        kind, _, parameter = name.partition(".")
        if kind == "model":
            # Adam divides by the gradient's size, so rounding shows where a gradient is nearly 0.
            moved = (weight - fresh[parameter].detach()).norm()
            assert float((together[name] - weight).norm() / moved) < 1e-3, name
        else:
            assert float((together[name] - weight).norm()) <= 1e-5 * float(weight.norm()), name
    lines = [
        [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path, both[0])
    ]
    for one, two in zip(*lines, strict=True):
        assert (two["loss"], two["grad_norm"]) == pytest.approx((one["loss"], one["grad_norm"]), rel=1e-4)


def test_each_knows_its_place_and_rank_0_writes(both: Both) -> None:
    reports = both[1]
    assert [report["world"] for report in reports] == [[0, 2], [1, 2]]
    assert [report["lines"] for report in reports] == [[2, 4], []]


def test_no_thread_of_the_process_group_outlives_it(both: Both) -> None:
    # One that does aborts the process, now and then, while the interpreter ends.
    for report in both[1]:
        assert not [name for name in report["threads"] if "gloo" in name]


def test_rows_are_gathered_in_rank_order_whatever_their_number(both: Both) -> None:
    for report in both[1]:
        assert report["gathered"] == [0.0, 0.0, 1.0, 1.0, 1.0]
        assert report["numbers"] == [0, 7, 1, 7]
        assert report["flags"] == [False, True]
        assert report["objects"] == [{"rank": 0}, {"rank": 1}]
        assert report["sums"] == [1.0, 1.0]


def test_a_rows_gradient_is_the_sum_of_what_all_ranks_send_back(both: Both) -> None:
    assert [report["rows_grad"] for report in both[1]] == [[0.0, 11.0], [22.0, 33.0, 44.0]]


def test_gradients_are_summed_and_never_averaged(both: Both) -> None:
    for report in both[1]:
        assert report["everywhere"] == [3.0] * 4
        assert report["here"] == [1.0] * 4
        assert report["nowhere"] is None


def test_all_stop_when_one_rank_diverges_and_name_its_batch(both: Both) -> None:
    for report in both[1]:
        assert "step 3: the loss is nan; the batch is the batch of rank 1. Nothing" in report["diverged"]


def test_processes_that_see_different_checkpoints_refuse(both: Both) -> None:
    for report in both[1]:
        assert "different steps, [4, 0] by rank" in report["apart"]


def test_one_process_needs_no_process_group() -> None:
    assert distributed.start() == ALONE == World(0, 1)
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather(rows, ALONE) is rows
    assert gather_objects("x", ALONE) == ["x"]
    assert sum_numbers([1.5, 2], ALONE, torch.device("cpu")) == [1.5, 2]
    rows.grad = torch.ones(2, 3)
    sum_gradients([torch.nn.Parameter(torch.zeros(1))], ALONE)
    distributed.stop()


def test_a_bucket_holds_one_dtype_and_no_more_than_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_BUCKET_ELEMENTS", 10)
    sizes = [(4, torch.float32), (5, torch.float32), (3, torch.float32), (3, torch.float64), (40, torch.float64)]
    parameters = [torch.nn.Parameter(torch.zeros(size, dtype=dtype)) for size, dtype in sizes]
    assert [[p.numel() for p in bucket] for bucket in distributed._buckets(parameters)] == [[4, 5], [3], [3], [40]]
