"""What a run of curation did, as JSON for programs and Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.training.curation.pairs import Pairs
from gnomonic.training.curation.workplace import writing

__all__ = ["Report", "count_by_source", "write_report"]

_SHOWN = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Counts, settings and examples of one run."""

    command: str
    """"filter", "mine" or "dedup"."""
    settings: Mapping[str, Any]
    rows_in: int
    rows_out: int
    sources: Sequence[Mapping[str, Any]]
    """One row of counts per source, all with the same names; the first is "source"."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Counts over all rows, by what they count."""
    examples: Sequence[Mapping[str, Any]] = ()
    """Rows that were dropped, with the reason, for a look at whether the settings are right."""


def count_by_source(pairs: Pairs, counts: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Return, for each source, its rows and how many of them each mask holds, largest source first.

    Args:
        pairs: the rows.
        counts: name → [rows] bool.
    """
    total = np.bincount(pairs.source, minlength=len(pairs.sources))
    found = {
        name: np.bincount(pairs.source[mask], minlength=len(pairs.sources)).tolist() for name, mask in counts.items()
    }
    order = np.argsort(-total, kind="stable").tolist()
    return [
        {"source": pairs.sources[i], "rows": int(total[i]), **{name: found[name][i] for name in found}} for i in order
    ]


def write_report(report: Report, path: Path) -> list[Path]:
    """Write `path` with .report.json and .report.md in the place of its ending, and return both.

    Raises:
        GnomonicError: a file cannot be written.
    """
    data = {name: getattr(report, name) for name in Report.__dataclass_fields__}
    texts = {".report.json": json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n"}
    texts[".report.md"] = "\n".join(_markdown(report)) + "\n"
    written = []
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            target = path.with_name(path.stem + ending)
            draft = target.with_name(f"{target.name}.tmp")
            draft.write_text(text, encoding="utf-8")
            draft.replace(target)
            written.append(target)
    return written


def _markdown(report: Report) -> list[str]:
    share = report.rows_out / max(report.rows_in, 1)
    lines = [f"# gnomonic curate {report.command}", ""]
    lines += [f"{report.rows_out:,} of {report.rows_in:,} rows are in the output ({share:.1%}).", ""]
    if report.details:
        lines += ["| | |", "|---|---:|", *(f"| {_cell(k)} | {_cell(v)} |" for k, v in report.details.items()), ""]
    lines += _table(report.sources)
    if report.examples:
        lines += ["", "## Examples", "", *_table(report.examples)]
    lines += ["", "## Settings", "", *(f"- {name}: {value}" for name, value in report.settings.items())]
    return lines


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0])
    ruler = "|".join("---:" if isinstance(rows[0][name], int | float) else "---" for name in names)
    body = ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", f"|{ruler}|", *body]


def _cell(value: object) -> str:
    if isinstance(value, bool | str):
        text = " ".join(str(value).split()).replace("|", "\\|")
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
