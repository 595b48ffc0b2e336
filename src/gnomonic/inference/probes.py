"""Stored probes: texts with known vectors, to tell whether a model on this machine gives what it should.

A probe is a mapping of the catalog's `golden`. Without `task_type` its `values` are the first ones of the mean-pooled
vector of the bare text, as other programs publish them; with it they are those of the finished unit vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import EngineError
from gnomonic.inference.batching import pad
from gnomonic.inference.encoder import TextEncoder

__all__ = ["ProbeResult", "make_probe", "run_probes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """How far one probe's vector is from the stored one."""

    text: str
    task_type: str
    """Empty for the pooled vector of the bare text."""
    values: int
    """How many values were compared."""
    max_difference: float
    tolerance: float
    source: str

    @property
    def ok(self) -> bool:
        """Whether every value is within the tolerance; a value that is not a number is not."""
        return self.max_difference <= self.tolerance


def _vector(encoder: TextEncoder, text: str, task_type: str) -> NDArray[np.float32]:
    """Return what a probe of this kind compares.

    Returns:
        [hidden_size] float32.
    """
    if task_type:
        vectors = encoder.encode([text], task_type=task_type).vectors
        return vectors.reshape(-1)
    tokens = encoder.tokenizer.encode([text], max_tokens=encoder.spec.max_tokens)
    pooled = encoder.engine.run(pad(tokens.sequences))
    return pooled.reshape(-1)


def run_probes(encoder: TextEncoder, golden: Iterable[Mapping[str, Any]]) -> list[ProbeResult]:
    """Embed every probe and compare it with its stored values.

    Args:
        encoder: the model to check, in fp32: the tolerances are those of fp32.
        golden: probes of the catalog.

    Raises:
        EngineError: the backend failed.
    """
    results = []
    for probe in golden:
        task_type = str(probe.get("task_type", ""))
        stored = np.asarray(probe["values"], dtype=np.float64)
        found = _vector(encoder, str(probe["text"]), task_type)[: len(stored)].astype(np.float64)
        if len(found) < len(stored):
            raise EngineError(f"the model gives {len(found)} values where the probe has {len(stored)}")
        results.append(
            ProbeResult(
                text=str(probe["text"]),
                task_type=task_type,
                values=len(stored),
                max_difference=float(np.abs(found - stored).max()),
                tolerance=float(probe["tolerance"]),
                source=str(probe["source"]),
            )
        )
    return results


def make_probe(encoder: TextEncoder, text: str, *, task_type: str = "", values: int = 8) -> dict[str, Any]:
    """Return a probe that holds what the encoder gives now.

    Args:
        encoder: the model, in fp32.
        text: what to embed.
        task_type: empty for the pooled vector of the bare text.
        values: how many of the first values to keep.
    """
    vector = _vector(encoder, text, task_type)[:values]
    kept = [round(float(value), 6) for value in vector]
    probe: dict[str, Any] = {"text": text, "values": kept, "tolerance": 1e-4 if task_type else 1e-3}
    return probe | ({"task_type": task_type} if task_type else {}) | {"source": "gnomonic models golden"}
