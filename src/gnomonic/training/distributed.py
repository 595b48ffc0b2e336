"""Several processes as one: who is who, gathering with gradients, summing gradients.

Everything here is a sum over ranks. A stage's loss is its rank's share of the step's loss, so that shares, and their
gradients, add up to those of the whole step, and no factor of the number of ranks appears anywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["ALONE", "World", "broadcast", "gather", "gather_objects", "start", "stop", "sum_gradients", "sum_numbers"]

_BUCKET_ELEMENTS = 2**24
"""Gradients travel in buffers of this many numbers: 64 MiB of float32."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    """0 … size - 1; rank 0 writes files."""
    size: int = 1


ALONE = World()
"""One process, no communication."""


def start() -> World:
    """Join the processes that torchrun started; alone when it started none.

    Processes talk through nccl when each has its own CUDA device, which becomes the current one, else through gloo.
    A process group that the caller has made already is used as it is.

    Returns:
        This process's place.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched():
            return ALONE
        local = dist.get_node_local_rank(fallback_rank=0)
        cuda = local < torch.cuda.device_count()
        if cuda:
            torch.cuda.set_device(local)
        # Its functions have the default group as a default argument. Imported after this, as torch.optim does, it keeps
        # the group and gloo's threads past stop(), and a thread that outlives the interpreter aborts the process.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if cuda else "gloo")
    return World(dist.get_rank(), dist.get_world_size())


def stop() -> None:
    """Leave the process group, if this process is in one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _counts(x: Tensor, world: World) -> list[int]:
    mine = torch.tensor([len(x)], device=x.device)
    all_of_them = [torch.empty_like(mine) for _ in range(world.size)]
    dist.all_gather(all_of_them, mine)
    return [int(count) for count in all_of_them]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        counts = _counts(x, world)
        ctx.place = (sum(counts[: world.rank]), counts[world.rank])
        # Every rank sends as many rows as the longest has.
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in range(world.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # Every rank's loss depends on every row, so a row's gradient is the sum over ranks.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total.narrow(0, *ctx.place), None


def gather(x: Tensor, world: World) -> Tensor:
    """Return the rows of all ranks, in rank order, differentiable.

    The gradient of a row is the sum of what all ranks' losses send back to it. All ranks must call this, in the same
    order, and all must run the backward pass or none.

    Args:
        x: [n, ...]; n may differ between ranks, the rest may not. Integers and bool work too, without gradient.
        world: who takes part.

    Returns:
        [sum of n, ...]; `x` itself when alone.
    """
    if world.size == 1:
        return x
    if x.dtype == torch.bool:
        return gather(x.to(torch.uint8), world).bool()
    out: Tensor = _Gather.apply(x, world)  # type: ignore[no-untyped-call]
    return out


def gather_objects(value: Any, world: World) -> list[Any]:
    """Return every rank's small picklable value, in rank order."""
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    dist.all_gather_object(values, value)
    return values


def sum_numbers(numbers: Sequence[float], world: World, device: torch.device) -> list[float]:
    """Return each number summed over ranks, in float64."""
    if world.size == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(number) for number in total]


def broadcast(tensors: Iterable[Tensor], world: World) -> None:
    """Overwrite the tensors with rank 0's."""
    if world.size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    """Group parameters of one dtype, in order, up to the size of a bucket."""
    bucket: list[nn.Parameter] = []
    filled = 0
    for parameter in parameters:
        if bucket and (filled + parameter.numel() > _BUCKET_ELEMENTS or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, filled = [], 0
        bucket.append(parameter)
        filled += parameter.numel()
    if bucket:
        yield bucket


def sum_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Replace every gradient by its sum over ranks.

    A rank without a gradient counts as zero; a parameter without one on every rank keeps none, as in one process.

    Args:
        parameters: the same on every rank, in the same order.
        world: who takes part.
    """
    if world.size == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    present = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    present = present.to(trained[0].device)
    dist.all_reduce(present)
    for bucket in _buckets([p for p, count in zip(trained, present.tolist(), strict=True) if count]):
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        parts = torch.split(flat, [parameter.numel() for parameter in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)
