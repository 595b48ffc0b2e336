"""What test_distributed.py has torchrun start: the same run on however many processes, and each operation by itself.

`python -m tests.training.two_ranks FOLDER` does it alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gnomonic.errors import GnomonicError
from gnomonic.models.config import NomicBertConfig
from gnomonic.models.nomic_bert import NomicBert
from gnomonic.models.pooling import mean_pool
from gnomonic.training import distributed, grad_cache, loop
from gnomonic.training.distributed import World, gather, sum_gradients
from gnomonic.training.losses import matryoshka_info_nce
from tests.training.tiny_stage import Bad, TinyStage, ignore, loop_config

PAIRS, NEGATIVES = 6, 2


class PairStage:
    """Random pairs with hard negatives; each rank takes its slice, in chunks, and gathers the others' documents."""

    def __init__(self, world: World) -> None:
        self.world = world
        torch.manual_seed(0)
        shape = NomicBertConfig(
            vocab_size=128, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48, max_positions=64,
            max_trained_positions=64,
        )  # fmt: skip
        self.model = NomicBert(shape)
        if world.rank:  # the run must begin with rank 0's weights
            nn.init.normal_(self.model.emb_ln.weight)

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self.model.named_parameters()

    def batch(self, step: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(step)
        texts = torch.randint(0, 100, (PAIRS, 2 + NEGATIVES, 5), generator=generator)
        mine = texts.chunk(self.world.size)[self.world.rank]
        return [*mine[:, 0], *mine[:, 1:].reshape(-1, 5)]

    def backward(self, batch: list[Tensor]) -> float:
        queries = len(batch) // (2 + NEGATIVES)
        first = self.world.rank * queries

        def encode(chunk: list[Tensor]) -> Tensor:
            lengths = [len(text) for text in chunk]
            return mean_pool(self.model(torch.cat(chunk), lengths), lengths)

        def loss(pooled: Tensor) -> Tensor:
            documents = gather(pooled[queries:], self.world)
            own = torch.arange(first, first + queries) * (1 + NEGATIVES)
            value = matryoshka_info_nce(pooled[:queries], documents, temperature=0.1, dims=(32, 8), target=own)
            return value * queries / PAIRS

        return grad_cache.backward(encode, [batch[i : i + 5] for i in range(0, len(batch), 5)], loss)

    def tokens(self, batch: list[Tensor]) -> int:
        return sum(len(text) for text in batch)

    def describe(self, batch: list[Tensor]) -> str:
        return f"rank {self.world.rank}"


class HalfStage(TinyStage):
    """TinyStage, whose losses on rank 1 are spoilt."""

    def __init__(self, world: World, bad: Bad) -> None:
        super().__init__(bad=bad if world.rank == 1 else None)
        self.world = world

    def describe(self, batch: tuple[int, Tensor, Tensor]) -> str:
        return f"the batch of rank {self.world.rank}"


def _operations(world: World) -> dict[str, Any]:
    rows = torch.full((2 + world.rank, 2), float(world.rank), requires_grad=True)
    gathered = gather(rows, world)
    # Each rank weighs the rows in its own way.
    (gathered[:, 0] * torch.arange(len(gathered)) * (10.0**world.rank)).sum().backward()
    here, everywhere, nowhere = (nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
    everywhere.grad = torch.full((2, 2), 1.0 + world.rank)
    if world.rank == 1:
        here.grad = torch.ones(2, 2)
    sum_gradients([here, everywhere, nowhere], world)
    return {
        "gathered": gathered[:, 0].tolist(),
        "rows_grad": rows.grad[:, 0].tolist() if rows.grad is not None else None,
        "numbers": gather(torch.tensor([world.rank, 7]), world).tolist(),
        "flags": gather(torch.tensor([world.rank == 1]), world).tolist(),
        "objects": distributed.gather_objects({"rank": world.rank}, world),
        "sums": distributed.sum_numbers([world.rank, 0.5], world, torch.device("cpu")),
        "here": here.grad.flatten().tolist() if here.grad is not None else None,
        "everywhere": everywhere.grad.flatten().tolist(),
        "nowhere": nowhere.grad,
    }


def _refused(call: Any) -> str:
    try:
        call()
    except GnomonicError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    """Run everything and write `rank-R.json`."""
    world = distributed.start()
    distributed._BUCKET_ELEMENTS = 5000  # several buckets for this small a model
    try:
        lines: list[int] = []
        config = loop_config(max_steps=4, learning_rate=1e-3)
        pairs = PairStage(world)
        loop.run(pairs, config, folder / "run", world=world, on_log=lambda metrics: lines.append(metrics.step))
        report = {"world": [world.rank, world.size], "lines": lines, **_operations(world)}
        if world.size > 1:
            bad = HalfStage(world, {2: float("nan")})
            report["diverged"] = _refused(
                lambda: loop.run(bad, loop_config(), folder / "bad", world=world, on_log=ignore)
            )
            apart = folder / ("run" if world.rank == 0 else "elsewhere")
            report["apart"] = _refused(lambda: loop.run(pairs, config, apart, world=world, on_log=ignore))
    finally:
        distributed.stop()
    report["threads"] = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    (folder / f"rank-{world.rank}.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
