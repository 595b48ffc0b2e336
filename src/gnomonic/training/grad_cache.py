"""Gradients of a batch larger than memory: GradCache (arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["backward"]

C = TypeVar("C")


def backward(encode: Callable[[C], Tensor], chunks: Sequence[C], loss: Callable[[Tensor], Tensor]) -> float:
    """Add the gradient of a loss over all embeddings to the encoder's parameters, one chunk in memory at a time.

    With one chunk this is a plain forward and backward. With several, all are encoded without a graph, the loss gives
    the gradient at the embeddings, and each chunk is encoded again to carry its part into the parameters
    (arXiv 2101.06983, §3). The last chunk keeps the graph of its first pass, so N chunks cost 2N - 1 forward passes.
    The result is the gradient of the whole batch: nothing is divided by the number of chunks.

    Args:
        encode: gives one chunk's embeddings, [n_chunk, dim], with a graph; it may be called twice with a chunk, and
            sees the same random numbers both times.
        chunks: what is encoded, in order.
        loss: this rank's share of the step's loss, a scalar, from all of this rank's embeddings, [n, dim] in the
            order of the chunks. It is called once, so it may gather over ranks.

    Returns:
        The share of the loss.
    """
    if len(chunks) == 1:
        value = loss(encode(chunks[0]))
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())
    states, parts = [], []
    with torch.no_grad():
        for chunk in chunks[:-1]:
            states.append(_RandomState())
            parts.append(encode(chunk))
    # Before torch 2.10 autocast also keeps casts of weights made without a graph, and those lead no gradient back.
    torch.clear_autocast_cache()
    last = encode(chunks[-1])
    embeddings = torch.cat([*parts, last.detach()]).requires_grad_()
    value = loss(embeddings)
    value.backward()  # type: ignore[no-untyped-call]
    assert embeddings.grad is not None
    *grads, last_grad = torch.split(embeddings.grad, [len(part) for part in (*parts, last)])
    last.backward(last_grad)  # type: ignore[no-untyped-call]
    after = _RandomState()
    for chunk, state, grad in zip(chunks, states, grads, strict=False):
        state.restore()
        encode(chunk).backward(grad)  # type: ignore[no-untyped-call]
    after.restore()
    return float(value.detach())


class _RandomState:
    """torch's global random numbers on the CPU and on the current CUDA device, as they stand now."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self.cuda = torch.cuda.get_rng_state() if started else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
