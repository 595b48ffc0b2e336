"""What an evaluation found: as data, as a Markdown page and as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomonic.evaluation.run import Outcome, Subject
from gnomonic.evaluation.tasks import KINDS

__all__ = ["Judged", "Line", "lines", "markdown", "to_json"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One subject at one size."""

    name: str
    precision: str
    dim: int
    """0 where there is none (BM25)."""
    scores: Mapping[str, float]
    """task → main score."""
    kinds: Mapping[str, float]
    """kind → mean over its tasks."""
    mean: float | None
    """Over all tasks of the report; None when it lacks some of them."""

    @property
    def title(self) -> str:
        """Name, precision and size."""
        size = f"{self.dim}d" if self.dim else ""
        return " ".join(filter(None, [self.name, self.precision, size]))


Judged = Sequence[tuple[Subject, Sequence[Outcome]]]
"""Subjects and what was found, in the order of the report."""


def lines(judged: Judged) -> list[Line]:
    """Return a line for every subject and size, in order."""
    everything = {outcome.task for _, outcomes in judged for outcome in outcomes}
    found = []
    for subject, outcomes in judged:
        for dim in subject.dims or (0,):
            scores = {o.task: o.scores[dim][KINDS[o.kind].metric] for o in outcomes}
            kinds = {
                kind: float(np.mean([scores[o.task] for o in outcomes if o.kind == kind]))
                for kind in sorted({o.kind for o in outcomes})
            }
            complete = bool(scores) and scores.keys() == everything
            mean = float(np.mean(list(scores.values()))) if complete else None
            found.append(
                Line(name=subject.name, precision=subject.precision, dim=dim, scores=scores, kinds=kinds, mean=mean)
            )
    return found


def to_json(judged: Judged, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report as data.

    Args:
        judged: subjects and outcomes.
        settings: how it was made; stands under "settings".
    """
    return {
        "settings": dict(settings),
        "lines": [
            {
                "model": line.name,
                "precision": line.precision,
                "dim": line.dim,
                "mean": _rounded(line.mean),
                "kinds": {kind: _rounded(value) for kind, value in line.kinds.items()},
                "tasks": {task: _rounded(value) for task, value in line.scores.items()},
            }
            for line in lines(judged)
        ],
        "outcomes": [
            {
                "model": subject.name,
                "precision": subject.precision,
                "fingerprint": subject.fingerprint,
                "task": outcome.task,
                "protocol": outcome.protocol,
                "scores": {
                    str(dim): {name: _rounded(value) for name, value in scores.items()}
                    for dim, scores in outcome.scores.items()
                },
                "texts": outcome.texts,
                "truncated": outcome.truncated,
                "seconds": outcome.seconds,
            }
            for subject, outcomes in judged
            for outcome in outcomes
        ],
    }


def markdown(judged: Judged, settings: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page."""
    found = lines(judged)
    kinds = [kind for kind in KINDS if any(kind in line.kinds for line in found)]
    tasks = {outcome.task: outcome for _, outcomes in judged for outcome in outcomes}
    full = _widest(found)
    summary = [
        [line.name, line.precision or "-", str(line.dim or "-"), _percent(line.mean)]
        + [_percent(line.kinds.get(kind)) for kind in kinds]
        for line in found
    ]
    each = [
        [name, KINDS[tasks[name].kind].metric, *(_percent(line.scores.get(name)) for line in full)]
        for name in sorted(tasks)
    ]
    # BM25 comes last: a task that vectors were judged on is told by their protocol.
    protocols = {outcome.task: outcome.protocol for _, outcomes in reversed(judged) for outcome in outcomes}
    judged_by: dict[str, list[str]] = {}
    for name in sorted(tasks):
        judged_by.setdefault(protocols[name], []).append(name)
    parts = [
        "# Evaluation",
        "Scores are × 100. The mean is over all tasks of this report, each counting once.",
        _table(["model", "precision", "dim", "mean", *(KINDS[kind].label for kind in kinds)], summary, left=1),
        "## Each task, at the largest size",
        _table(["task", "metric", *(line.title for line in full)], each, left=2),
        "## How it was judged",
        "\n".join(f"* {protocol}: {', '.join(names)}" for protocol, names in judged_by.items()),
        "\n".join(f"* {name}: {_said(value)}" for name, value in settings.items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _widest(found: Sequence[Line]) -> list[Line]:
    """Return the first line of each subject and precision."""
    return list({(line.name, line.precision): line for line in reversed(found)}.values())[::-1]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_said(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
